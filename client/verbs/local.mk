CLIENT_UNITY += client/verbs/unity.c
CLIENT_SOURCES += client/verbs/backup.c client/verbs/backup_check.h client/verbs/backup_check.c client/verbs/cert.c client/verbs/cluster.c \
	client/verbs/destroy.c client/verbs/directory.c client/verbs/edit.c client/verbs/events.h client/verbs/events.c \
	client/verbs/events_row.c client/verbs/export.h client/verbs/export.c client/verbs/found.h client/verbs/found.c client/verbs/help.h \
	client/verbs/help.c client/verbs/import.h client/verbs/import.c client/verbs/import_folder.c client/verbs/import_units.c client/verbs/init.h \
	client/verbs/init.c client/verbs/join.c client/verbs/journal.c client/verbs/kv.h client/verbs/kv.c client/verbs/kv_files.c \
	client/verbs/kv_lock.c client/verbs/kv_request.c client/verbs/kv_rm.c client/verbs/kv_v1.c client/verbs/leave.c client/verbs/list.c \
	client/verbs/list_columns.h client/verbs/list_columns.c client/verbs/log.c client/verbs/log_source.h client/verbs/log_source.c \
	client/verbs/machine_stream.h client/verbs/machine_stream.c client/verbs/maintenance.c client/verbs/members.c client/verbs/move.c client/verbs/moving.h client/verbs/overview.h client/verbs/overview.c client/verbs/plan.c \
	client/verbs/reboot.c client/verbs/rebalance.c client/verbs/recover.h client/verbs/recover.c client/verbs/remove.c client/verbs/replace.h client/verbs/replace.c \
	client/verbs/scale.c client/verbs/secret.h client/verbs/secret.c client/verbs/restart.c client/verbs/revisions.h client/verbs/revisions.c client/verbs/services.c client/verbs/rollout.h client/verbs/rollout.c \
	client/verbs/rollout_text.h client/verbs/rollout_text.c client/verbs/snapshot.h client/verbs/snapshot.c client/verbs/ssh.h client/verbs/ssh.c \
	client/verbs/start.c client/verbs/stop.c client/verbs/submit.h client/verbs/submit.c client/verbs/submit_check.c \
	client/verbs/submit_internal.h client/verbs/token.c client/verbs/top.c client/verbs/unit_status.h client/verbs/unit_status.c \
	client/verbs/web.c client/verbs/why.c
