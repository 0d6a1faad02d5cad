noinst_LIBRARIES += kvstore/libkvstore.a
kvstore_libkvstore_a_SOURCES = \
	kvstore/kvstore.h kvstore/store.c kvstore/store_sessions.c kvstore/serving.h kvstore/store_facts.c kvstore/apply/applied.h kvstore/apply/applied.c kvstore/kvstore_internal.h kvstore/expiry.c kvstore/status.c \
	kvstore/propose.h kvstore/propose.c kvstore/propose_internal.h kvstore/propose_queue.c kvstore/propose_frames.c kvstore/propose_results.c kvstore/propose_relay.c kvstore/result_frame.h kvstore/result_frame.c \
	kvstore/remote_frames.h kvstore/remote_frames.c kvstore/node_set.h kvstore/node_set.c kvstore/serve.h kvstore/serve_internal.h kvstore/serve_requests.c kvstore/serve_subscriptions.c kvstore/serve_slices.c kvstore/serve_reads.h kvstore/serve_reads.c kvstore/remote.h kvstore/remote_session.c kvstore/remote_internal.h kvstore/remote_reads.c kvstore/remote_watches.c kvstore/read_bound.h kvstore/read_bound.c kvstore/offline.h kvstore/offline.c kvstore/backup_tree.h kvstore/backup_tree.c kvstore/command/copy.h \
	kvstore/raft/replica.h kvstore/raft/replica_open.c kvstore/raft/replica_internal.h \
	kvstore/raft/replica_recovery.c kvstore/raft/replica_reopen.c kvstore/raft/replica_inputs.c kvstore/raft/replica_ops.c kvstore/raft/replica_status.c kvstore/raft/replica_state.c kvstore/raft/replica_step.c kvstore/raft/serving_tree.c kvstore/raft/leadership.c kvstore/raft/checkpoints.c kvstore/raft/replica_start.c \
	kvstore/raft/bootstrap.h kvstore/raft/bootstrap.c \
	kvstore/tree/data_dir.h kvstore/tree/data_dir_internal.h kvstore/tree/data_dir_live.c \
	kvstore/tree/data_dir_checkpoint.c kvstore/tree/data_dir_trust.c kvstore/tree/data_dir_files.c kvstore/raft/transfer.h kvstore/raft/transfer.c \
	kvstore/raft/read_index.h kvstore/raft/read_index.c kvstore/raft/consistency_check.h kvstore/raft/consistency_check.c \
	kvstore/hub.h kvstore/hub.c kvstore/hub_places.h kvstore/hub_places.c kvstore/hub_window.h kvstore/hub_window.c kvstore/watch.h kvstore/read.c \
	kvstore/command/replication_stats.h kvstore/command/replication_stats.c kvstore/command/sync.h kvstore/command/sync.c \
	kvstore/apply/apply.h kvstore/apply/apply_internal.h kvstore/apply/apply.c kvstore/apply/apply_step.c kvstore/apply/apply_key.c \
	kvstore/command/cost.h kvstore/command/cost.c kvstore/apply/long_keys.h kvstore/apply/long_keys.c kvstore/estimate.h kvstore/estimate.c kvstore/budget.h kvstore/budget.c \
	kvstore/apply/events.h kvstore/apply/events.c kvstore/apply/history.h kvstore/apply/history.c \
	kvstore/apply/dedup.h kvstore/apply/dedup.c \
	kvstore/command/arena.h kvstore/command/arena.c \
	kvstore/tree/tree.h kvstore/tree/environment.c kvstore/tree/lmdb.c kvstore/tree/sum.c kvstore/tree/reader.c kvstore/tree/nodes.c kvstore/tree/event_tables.c \
	kvstore/tree/format.h kvstore/tree/format.c \
	kvstore/tree/tree_internal.h kvstore/tree/snapshot.c kvstore/tree/dedup_tables.c kvstore/tree/history_tables.c \
	kvstore/command/command.h kvstore/command/command.c
kvstore_libkvstore_a_CFLAGS = $(AM_CFLAGS) $(LMDB_CFLAGS)

# What links the store as a whole.
KVSTORE_LIBS = kvstore/libkvstore.a peers/libpeers.a kvstore/raft/libraftcore.a io/libio.a base/libbase.a $(LMDB_LIBS) $(RAFT_LIBS) $(IO_LIBS) -lpthread

# What a test of this folder links, in this order.
KVSTORE_TEST_LIBS = kvstore/libkvstore.a peers/libpeers.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) $(CMOCKA_LIBS) -lpthread

if HAVE_CMOCKA
KVSTORE_TESTS = \
	tests/unit/test-command \
	tests/unit/test-tree \
	tests/unit/test-tree_calls \
	tests/unit/test-apply \
	tests/unit/test-cost \
	tests/unit/test-hub \
	tests/unit/test-events \
	tests/unit/test-history \
	tests/unit/test-read_bound \
	tests/unit/test-dedup \
	tests/unit/test-dedup_format \
	tests/unit/test-tree_format \
	tests/unit/test-budget \
	tests/unit/test-kvstore_memory
check_PROGRAMS += $(KVSTORE_TESTS)
TESTS += $(KVSTORE_TESTS)

tests_unit_test_command_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_tree_SOURCES = tests/unit/test-tree.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_tree_LDADD = $(KVSTORE_TEST_LIBS)

# What tests/lib/failing_database.c stands in for.
FAILING_DATABASE = -Wl,--wrap=mdb_env_create,--wrap=mdb_env_open,--wrap=mdb_env_copyfd2,--wrap=mdb_txn_begin,--wrap=mdb_txn_renew,--wrap=mdb_txn_commit \
	-Wl,--wrap=mdb_dbi_open,--wrap=mdb_stat,--wrap=mdb_get,--wrap=mdb_put,--wrap=mdb_del \
	-Wl,--wrap=mdb_cursor_open,--wrap=mdb_cursor_get,--wrap=mdb_cursor_put,--wrap=mdb_cursor_del
tests_unit_test_tree_calls_SOURCES = tests/unit/test-tree_calls.c tests/lib/failing_database.h tests/lib/failing_database.c \
	tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_tree_calls_CFLAGS = $(TEST_CFLAGS) $(LMDB_CFLAGS)
tests_unit_test_tree_calls_LDFLAGS = $(AM_LDFLAGS) $(FAILING_DATABASE)
tests_unit_test_tree_calls_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_apply_SOURCES = tests/unit/test-apply.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/model.h tests/lib/model.c
tests_unit_test_apply_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_cost_SOURCES = tests/unit/test-cost.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_cost_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_events_SOURCES = tests/unit/test-events.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/model.h tests/lib/model.c
tests_unit_test_events_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_history_SOURCES = tests/unit/test-history.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_history_CFLAGS = $(TEST_CFLAGS) $(LMDB_CFLAGS)
tests_unit_test_history_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_read_bound_SOURCES = tests/unit/test-read_bound.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_read_bound_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_kvstore_memory_SOURCES = tests/unit/test-kvstore_memory.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_kvstore_memory_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_kvstore_memory_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_dedup_SOURCES = tests/unit/test-dedup.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_dedup_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_tree_format_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_budget_SOURCES = tests/unit/test-budget.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_budget_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_dedup_format_SOURCES = tests/unit/test-dedup_format.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_dedup_format_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_dedup_format_LDADD = $(KVSTORE_TEST_LIBS)

tests_unit_test_hub_LDADD = $(KVSTORE_TEST_LIBS)

check_PROGRAMS += tests/unit/test-kvstore tests/unit/test-offline
TESTS += tests/unit/test-kvstore tests/unit/test-offline
tests_unit_test_offline_SOURCES = tests/unit/test-offline.c tests/lib/store_inside.h tests/lib/three_hosts.h tests/lib/three_hosts.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/failing_database.h tests/lib/failing_database.c
tests_unit_test_offline_CFLAGS = $(TEST_CFLAGS) $(LMDB_CFLAGS)
tests_unit_test_offline_LDFLAGS = $(AM_LDFLAGS) $(FAILING_DATABASE) \
	-Wl,--wrap=open_dir,--wrap=mkdirat,--wrap=mkdir,--wrap=renameat2,--wrap=fsync_dir,--wrap=fsync,--wrap=remove_tree_at,--wrap=pwrite_all \
	-Wl,--wrap=data_dir_open,--wrap=data_dir_closed,--wrap=data_dir_write_identity,--wrap=raft_log_open,--wrap=raft_log_take_entries,--wrap=random_seed_from_system \
	-Wl,--wrap=bootstrap_check,--wrap=bootstrap_own_hardware,--wrap=bootstrap_restored,--wrap=file_checksum_check
tests_unit_test_offline_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_kvstore_SOURCES = tests/unit/test-kvstore.c $(SIDE_BY_SIDE) tests/lib/scratch.h tests/lib/scratch.c tests/lib/tree_file.h tests/lib/tree_file.c
tests_unit_test_kvstore_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=apply_batch,--wrap=applied_commit,--wrap=raft_core_log_fits,--wrap=data_dir_copy,--wrap=raft_core_timeout_ms,--wrap=replica_send_message
tests_unit_test_kvstore_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-data_dir
TESTS += tests/unit/test-data_dir
tests_unit_test_data_dir_SOURCES = tests/unit/test-data_dir.c tests/lib/data_dir_fixture.h tests/lib/data_dir_fixture.c \
	tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/scratch.h tests/lib/scratch.c tests/lib/tree_file.h tests/lib/tree_file.c
tests_unit_test_data_dir_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=read_file_at
tests_unit_test_data_dir_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-data_dir_calls
TESTS += tests/unit/test-data_dir_calls
tests_unit_test_data_dir_calls_SOURCES = tests/unit/test-data_dir_calls.c tests/lib/data_dir_fixture.h tests/lib/data_dir_fixture.c \
	tests/lib/scratch.h tests/lib/scratch.c tests/lib/tree_file.h tests/lib/tree_file.c \
	tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h tests/lib/manual_loop.h tests/lib/manual_loop.c
tests_unit_test_data_dir_calls_CFLAGS = $(TEST_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_data_dir_calls_LDFLAGS = $(FAILING_ALLOCATIONS) -Wl,--wrap=read_file_at \
	-Wl,--wrap=fsync,--wrap=fstat,--wrap=fstatat,--wrap=ftruncate,--wrap=mkdirat,--wrap=unlinkat,--wrap=renameat \
	-Wl,--wrap=pread,--wrap=pwrite,--wrap=open,--wrap=openat
tests_unit_test_data_dir_calls_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

# Parts of the replica, which is played.
FAKE_REPLICA = -Wl,--wrap=replica_term,--wrap=replica_leader,--wrap=replica_is_leader,--wrap=replica_is_open,--wrap=replica_send,--wrap=replica_answer \
	-Wl,--wrap=replica_write_head,--wrap=replica_read_head,--wrap=raft_core_id,--wrap=raft_core_leads,--wrap=raft_core_commit_index \
	-Wl,--wrap=raft_core_applied_index,--wrap=raft_core_servers,--wrap=peer_number,--wrap=peers_register,--wrap=peers_unregister
check_PROGRAMS += tests/unit/test-read_index tests/unit/test-consistency_check tests/unit/test-propose
TESTS += tests/unit/test-read_index tests/unit/test-consistency_check tests/unit/test-propose
tests_unit_test_propose_SOURCES = tests/unit/test-propose.c tests/lib/fake_replica.h tests/lib/fake_replica.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_propose_LDFLAGS = $(AM_LDFLAGS) $(FAKE_REPLICA) \
	-Wl,--wrap=kv_clock_ms,--wrap=kv_cluster_ms,--wrap=kv_kept_bytes,--wrap=kv_level,--wrap=kv_read,--wrap=kv_acknowledge,--wrap=kv_check_room,--wrap=kv_problem \
	-Wl,--wrap=replica_known_leader,--wrap=replica_known_term,--wrap=replica_submit,--wrap=peer_reply,--wrap=peers_session,--wrap=peer_handshake,--wrap=peers_self
tests_unit_test_propose_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_read_index_SOURCES = tests/unit/test-read_index.c tests/lib/fake_replica.h tests/lib/fake_replica.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_read_index_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_REPLICA)
tests_unit_test_read_index_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_consistency_check_SOURCES = tests/unit/test-consistency_check.c tests/lib/fake_replica.h tests/lib/fake_replica.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_consistency_check_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_REPLICA) \
	-Wl,--wrap=replica_transfer,--wrap=replica_probe,--wrap=raft_log_first_index,--wrap=transfers_send \
	-Wl,--wrap=tree_begin_read,--wrap=tree_meta,--wrap=tree_kept_hash,--wrap=tree_abort
tests_unit_test_consistency_check_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-raft_transfer
TESTS += tests/unit/test-raft_transfer
tests_unit_test_raft_transfer_SOURCES = tests/unit/test-raft_transfer.c tests/lib/fake_replica.h tests/lib/fake_replica.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_raft_transfer_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_REPLICA) \
	-Wl,--wrap=replica_checkpoint,--wrap=replica_send_message,--wrap=replica_replace_tree,--wrap=replica_work_ended \
	-Wl,--wrap=raft_core_match_index,--wrap=consistency_may_send,--wrap=consistency_differs,--wrap=loop_work \
	-Wl,--wrap=data_dir_space,--wrap=data_dir_incoming_open,--wrap=data_dir_incoming_finish,--wrap=data_dir_incoming_discard
tests_unit_test_raft_transfer_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)

# The replica itself, whose parts are played.
FAKE_PARTS = \
	-Wl,--wrap=loop_work,--wrap=raft_core_leader,--wrap=raft_core_match_index,--wrap=raft_core_entry,--wrap=raft_core_new \
	-Wl,--wrap=raft_core_free,--wrap=raft_core_log_fits,--wrap=raft_core_start,--wrap=raft_core_receive,--wrap=raft_core_tick \
	-Wl,--wrap=raft_core_apply,--wrap=raft_core_submit,--wrap=raft_core_appended,--wrap=raft_core_installed \
	-Wl,--wrap=raft_core_checkpointed,--wrap=raft_core_change,--wrap=raft_core_transfer,--wrap=raft_log_open,--wrap=raft_log_close \
	-Wl,--wrap=raft_log_crash,--wrap=raft_log_meta,--wrap=raft_log_torn,--wrap=raft_log_last_index,--wrap=raft_log_oldest_write_ms \
	-Wl,--wrap=raft_log_take_entries,--wrap=raft_log_entries_free,--wrap=raft_log_entries,--wrap=raft_log_write_meta,--wrap=raft_log_append \
	-Wl,--wrap=raft_log_reset,--wrap=raft_log_cut,--wrap=bootstrap_found,--wrap=bootstrap_join,--wrap=bootstrap_set_aside \
	-Wl,--wrap=bootstrap_check,--wrap=bootstrap_own_hardware,--wrap=bootstrap_mark_tree,--wrap=data_dir_open,--wrap=data_dir_open_empty \
	-Wl,--wrap=data_dir_done,--wrap=data_dir_rebuild,--wrap=data_dir_rebuilt,--wrap=data_dir_space,--wrap=data_dir_closed,--wrap=data_dir_distrust \
	-Wl,--wrap=data_dir_read_identity,--wrap=data_dir_copy,--wrap=data_dir_probe,--wrap=data_dir_adopt,--wrap=data_dir_forget_checkpoint \
	-Wl,--wrap=data_dir_cancel,--wrap=data_dir_install,--wrap=data_dir_quarantine,--wrap=data_dir_is_quarantined,--wrap=data_dir_read_restored,--wrap=data_dir_remove_restored,--wrap=data_dir_set_aside,--wrap=data_dir_end_quarantine \
	-Wl,--wrap=tree_begin_read,--wrap=tree_begin_write,--wrap=tree_commit,--wrap=tree_abort,--wrap=tree_close,--wrap=tree_meta \
	-Wl,--wrap=tree_set_meta,--wrap=tree_configuration,--wrap=tree_set_configuration,--wrap=apply_other,--wrap=tree_set_work \
	-Wl,--wrap=tree_touched,--wrap=tree_file_size,--wrap=raft_configuration_decode_servers,--wrap=transfers_new,--wrap=transfers_free \
	-Wl,--wrap=transfers_drop,--wrap=transfers_busy,--wrap=transfers_send,--wrap=transfers_step,--wrap=transfers_on_snapshot \
	-Wl,--wrap=transfers_on_ack,--wrap=transfers_whole,--wrap=transfers_received,--wrap=consistency_new,--wrap=consistency_free \
	-Wl,--wrap=consistency_applied,--wrap=consistency_committed,--wrap=consistency_on_flush,--wrap=consistency_on_frame,--wrap=consistency_differs \
	-Wl,--wrap=consistency_undecided,--wrap=consistency_tree_replaced,--wrap=peers_self,--wrap=peers_set_self,--wrap=peer_handshake,--wrap=peer_authentication \
	-Wl,--wrap=peers_session,--wrap=peers_send_raft,--wrap=peer_reply,--wrap=raft_core_state,--wrap=raft_core_role \
	-Wl,--wrap=raft_core_term,--wrap=raft_core_first_index,--wrap=raft_core_last_index,--wrap=raft_core_stored_index \
	-Wl,--wrap=raft_core_entries_bytes,--wrap=raft_core_timeout_ms,--wrap=raft_core_installing,--wrap=raft_core_is_behind \
	-Wl,--wrap=raft_core_error,--wrap=raft_core_id,--wrap=raft_core_commit_index,--wrap=raft_core_applied_index \
	-Wl,--wrap=raft_core_servers,--wrap=peers_register,--wrap=peers_unregister,--wrap=apply_batch,--wrap=applied_commit,--wrap=applied_abort
check_PROGRAMS += tests/unit/test-replica tests/unit/test-replica_ops tests/unit/test-replica_recovery
TESTS += tests/unit/test-replica tests/unit/test-replica_ops tests/unit/test-replica_recovery
FAKE_PARTS_SOURCES = tests/lib/fake_parts.h tests/lib/fake_parts.c tests/lib/fake_replica.h tests/lib/fake_replica.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_replica_SOURCES = tests/unit/test-replica.c $(FAKE_PARTS_SOURCES)
tests_unit_test_replica_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_PARTS)
tests_unit_test_replica_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_replica_ops_SOURCES = tests/unit/test-replica_ops.c $(FAKE_PARTS_SOURCES)
tests_unit_test_replica_ops_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_PARTS)
tests_unit_test_replica_ops_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
tests_unit_test_replica_recovery_SOURCES = tests/unit/test-replica_recovery.c $(FAKE_PARTS_SOURCES)
tests_unit_test_replica_recovery_LDFLAGS = $(FAILING_ALLOCATIONS) $(FAKE_PARTS)
tests_unit_test_replica_recovery_LDADD = $(KVSTORE_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-command tests/fuzz/fuzz-apply tests/fuzz/fuzz-dedup
tests_fuzz_fuzz_dedup_SOURCES = tests/fuzz/dedup.c tests/fuzz/standalone.c tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_dedup_LDADD = kvstore/libkvstore.a peers/libpeers.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) -lpthread
tests_fuzz_fuzz_command_SOURCES = tests/fuzz/command.c tests/fuzz/standalone.c
tests_fuzz_fuzz_command_LDADD = kvstore/libkvstore.a peers/libpeers.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) -lpthread
tests_fuzz_fuzz_apply_SOURCES = tests/fuzz/apply.c tests/fuzz/standalone.c tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_apply_LDADD = kvstore/libkvstore.a peers/libpeers.a io/libio.a base/libbase.a $(LMDB_LIBS) $(UV_LIBS) -lpthread
EXTRA_DIST += tests/lib/apply_sink.h
