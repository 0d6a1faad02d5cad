noinst_LIBRARIES += fleetd/libfleetd.a
fleetd_libfleetd_a_CFLAGS = $(AM_CFLAGS) $(SIZE_CFLAGS) $(SYSTEMD_CFLAGS)
# Each folder is one unit of compilation (see Makefile.am), the largest first: make starts them in this order.
FLEETD_UNITY = fleetd/membership/unity.c fleetd/api/unity.c fleetd/registry/unity.c fleetd/engine/unity.c fleetd/unity-fast.c fleetd/agent/unity.c \
	fleetd/unity.c fleetd/systemd/unity.c fleetd/directory/unity.c fleetd/scheduler/unity.c fleetd/metrics/unity.c
FLEETD_SOURCES = \
	fleetd/registry/layout.h fleetd/registry/layout.c \
	fleetd/registry/patterns.h fleetd/registry/patterns.c \
	fleetd/registry/unit_order.h fleetd/registry/unit_order.c \
	fleetd/maintenance.h fleetd/maintenance.c \
	fleetd/guard_process.h fleetd/guard_process.c \
	fleetd/registry/cluster.h fleetd/registry/cluster.c \
	fleetd/registry/cluster_keys.h fleetd/registry/cluster_keys.c fleetd/registry/kinds.h fleetd/registry/kinds.c fleetd/registry/cluster_kinds.c \
	fleetd/registry/presence.h fleetd/registry/presence.c \
	fleetd/scheduler/scheduler.h fleetd/scheduler/scheduler.c fleetd/scheduler/explain.c fleetd/scheduler/view.h \
	fleetd/scheduler/filters.h fleetd/scheduler/filters.c fleetd/scheduler/scores.h fleetd/scheduler/scores.c \
	fleetd/registry/registry.h fleetd/registry/slice.h fleetd/registry/slice.c \
	fleetd/registry/transaction.h fleetd/registry/transaction.c \
	fleetd/registry/history.h fleetd/registry/history.c \
	fleetd/registry/units.c \
	fleetd/registry/revisions.c fleetd/registry/cluster_revisions.c fleetd/registry/rollouts.c fleetd/registry/moves.c \
	fleetd/registry/schedule.c \
	fleetd/registry/states.c \
	fleetd/registry/machines.c fleetd/registry/adoption.c \
	fleetd/registry/shutdown.h fleetd/registry/shutdown.c \
	fleetd/engine/plan.h fleetd/engine/plan_internal.h \
	fleetd/engine/drain.h fleetd/engine/drain.c fleetd/engine/reboot.h fleetd/engine/reboot.c fleetd/engine/reboot_write.c fleetd/engine/rollout.h fleetd/engine/rollout_internal.h fleetd/engine/rollout.c fleetd/engine/rollout_choose.c fleetd/engine/rollout_ask.c fleetd/engine/rollout_set.c fleetd/engine/rollout_write.c fleetd/engine/rollout_why.c \
	fleetd/engine/move.c fleetd/engine/move_end.c fleetd/engine/move_start.c fleetd/engine/reconnect.c \
	fleetd/engine/global.c fleetd/engine/singleton.c \
	fleetd/engine/affected.c \
	fleetd/engine/bound.c \
	fleetd/engine/reported.c \
	fleetd/engine/brake.c \
	fleetd/engine/waits.h fleetd/engine/waits.c \
	fleetd/engine/engine.h fleetd/engine/engine.c \
	fleetd/membership/liveness.h fleetd/membership/liveness.c \
	fleetd/membership/voters.h fleetd/membership/voters.c fleetd/membership/tokens.h fleetd/membership/tokens.c \
	fleetd/membership/cluster_key.h fleetd/membership/cluster_key.c \
	fleetd/registry/feature_level.c fleetd/registry/newer_options.c fleetd/registry/cluster_settings.c fleetd/registry/identities.c fleetd/membership/key_distribution.c fleetd/membership/frame_types.h fleetd/membership/authority.h fleetd/membership/authority_internal.h fleetd/membership/authority_tokens.c fleetd/membership/authority_hosts.c fleetd/membership/renewal.h fleetd/membership/renewal.c fleetd/membership/authority_rotation.c fleetd/membership/rotation.h fleetd/membership/rotation.c fleetd/membership/attaching.c fleetd/membership/choosing.h fleetd/membership/choosing.c fleetd/membership/reports.h fleetd/membership/reports.c fleetd/membership/report_hosts.h fleetd/membership/report_hosts.c fleetd/membership/reporter.c fleetd/membership/reporting.c fleetd/membership/leaving.h fleetd/membership/leaving.c fleetd/membership/revocation.h fleetd/membership/revocation.c fleetd/membership/securing.h fleetd/membership/securing.c fleetd/membership/authority_secure.c fleetd/membership/authority_rekey.c fleetd/membership/replica_pins.h fleetd/membership/replica_pins.c fleetd/membership/authority_users.c fleetd/membership/authority_listener.c fleetd/membership/roles.c fleetd/membership/key_file.h fleetd/membership/key_file.c fleetd/membership/key_store.h fleetd/membership/key_store.c fleetd/membership/sealer.h fleetd/membership/sealer.c fleetd/creds.h fleetd/creds.c fleetd/membership/conditions.c fleetd/membership/kernels.c fleetd/membership/sessions.c fleetd/membership/sets.c fleetd/registry/set_health.h fleetd/registry/set_health.c \
	fleetd/membership/membership.h fleetd/membership/membership_internal.h fleetd/membership/membership.c \
	fleetd/membership/joining.c fleetd/membership/heartbeats.c fleetd/membership/dialing.c \
	fleetd/membership/identity.h fleetd/membership/identity.c fleetd/membership/cluster_file.h fleetd/membership/cluster_file.c \
	fleetd/membership/enter_message.h fleetd/membership/enter_message.c \
	fleetd/membership/entering.h fleetd/membership/entering.c fleetd/membership/opening.h fleetd/membership/opening.c \
	fleetd/systemd/systemd.h fleetd/systemd/owner.c fleetd/systemd/reason.c fleetd/systemd/trace.h fleetd/systemd/trace.c \
	fleetd/systemd/runtime_dir.h fleetd/systemd/runtime_dir.c fleetd/systemd/guard.h fleetd/systemd/guard.c \
	fleetd/systemd/bus.h fleetd/systemd/bus.c fleetd/systemd/bus_internal.h fleetd/systemd/signals.c \
	fleetd/systemd/job.c fleetd/systemd/transient.h fleetd/systemd/transient.c fleetd/systemd/manager.c fleetd/systemd/bus_poll.h fleetd/systemd/bus_poll.c fleetd/systemd/logind.h fleetd/systemd/logind.c \
	fleetd/agent/agent.h fleetd/agent/agent.c fleetd/agent/agent_internal.h \
	fleetd/agent/states.c fleetd/agent/execute.c fleetd/agent/record_updates.c fleetd/agent/observed.c fleetd/agent/lease.c fleetd/agent/partition.c fleetd/agent/texts.c \
	fleetd/agent/health.h fleetd/agent/health.c fleetd/agent/unit_health.c \
	fleetd/agent/checks.h fleetd/agent/checks.c fleetd/agent/probe.h fleetd/agent/probe.c \
	fleetd/agent/plan.h fleetd/agent/plan.c \
	fleetd/agent/records.h fleetd/agent/records.c \
	fleetd/agent/publish.h fleetd/agent/publish.c \
	fleetd/agent/facts.h fleetd/agent/facts.c fleetd/agent/inhibitor.h fleetd/agent/inhibitor.c fleetd/agent/hand_over.h fleetd/agent/hand_over.c fleetd/agent/rebooting.h fleetd/agent/rebooting.c \
	fleetd/directory/directory.h fleetd/directory/directory.c \
	fleetd/directory/diff.h fleetd/directory/diff.c fleetd/directory/problems.h fleetd/directory/problems.c fleetd/directory/seen_files.h fleetd/directory/seen_files.c fleetd/directory/scan.h fleetd/directory/scan.c \
	fleetd/registry/policy.h fleetd/registry/principal.h fleetd/registry/principal.c \
	fleetd/registry/proposal_rights.h fleetd/registry/proposal_rights.c fleetd/registry/rights.h fleetd/registry/rights.c fleetd/registry/local_rights.h fleetd/registry/local_rights.c \
	fleetd/api/sender.h fleetd/api/socket_access.h fleetd/api/socket_access.c \
	fleetd/api/tls_front.h fleetd/api/tls_front.c fleetd/api/denials.h fleetd/api/denials.c fleetd/api/routes.h fleetd/api/forward.h fleetd/api/forward.c fleetd/api/forward_frames.h fleetd/api/forward_frames.c fleetd/api/forward_serve.c fleetd/api/parked.c fleetd/api/server.h \
	fleetd/api/api.h fleetd/api/limits.h fleetd/api/request.h \
	fleetd/api/keys_v2.h fleetd/api/keys_v2_internal.h \
	fleetd/api/kv_v1.h fleetd/api/kv_v1.c fleetd/api/kv_v1_list.c fleetd/api/kv_v1_txn.c fleetd/api/kv_v1_changes.c \
	fleetd/api/cluster_v2.h fleetd/api/cluster_v2.c fleetd/api/members_v2.c fleetd/api/stats_v2.c \
	fleetd/api/fleet_v1.h fleetd/api/fleet_v1.c fleetd/api/fleet_v1_pages.c fleetd/api/fleet_v1_changes.c fleetd/api/cluster_v1.c fleetd/api/machines_v1.c fleetd/api/level_v1.c fleetd/api/settings_v1.c fleetd/api/adoption_v1.c fleetd/api/discovery_v1.c fleetd/api/plan_v1.h fleetd/api/plan_v1.c fleetd/api/plan_steps.c fleetd/api/why_v1.c fleetd/api/directory_v1.c fleetd/api/backup_v1.c fleetd/api/tokens_v1.c fleetd/api/join_v1.c fleetd/api/leave_v1.c fleetd/api/maintenance_v1.c fleetd/api/moves_v1.c fleetd/api/revisions_v1.c fleetd/api/rollouts_v1.c fleetd/api/users_v1.c \
	fleetd/api/events_v1.c fleetd/api/history_v1.c fleetd/api/reboots_v1.c \
	fleetd/api/remote_command.c fleetd/api/call_execute.h fleetd/api/call_execute.c fleetd/api/callers.h fleetd/api/callers.c fleetd/api/call_relay.h fleetd/api/call_relay.c fleetd/api/remote_command_spec.h fleetd/api/remote_command_spec.c \
	fleetd/settings.h fleetd/settings.c fleetd/settings_check.c \
	fleetd/api/metrics.c \
	fleetd/metrics/writer.h fleetd/metrics/writer.c fleetd/metrics/process.h fleetd/metrics/process.c fleetd/metrics/scrape.h fleetd/metrics/scrape.c fleetd/metrics/units.h fleetd/metrics/units.c \
	fleetd/metrics_table.h fleetd/metrics_table.c fleetd/metrics_hosts.h fleetd/metrics_hosts.c fleetd/metrics_units.h fleetd/metrics_units.c \
	fleetd/host.h fleetd/host.c \
	fleetd/service.h fleetd/service.c \
	fleetd/trim.h fleetd/trim.c \
	fleetd/daemon.h fleetd/daemon_internal.h fleetd/daemon_open.c fleetd/daemon_join.c fleetd/daemon_listen.c

# Tests replace functions of these, which their folder calls, or include the file: each is a unit of its own.
FLEETD_ALONE_SOURCES = fleetd/api/routes.c fleetd/engine/plan.c fleetd/registry/registry.c fleetd/scheduler/view.c

# What answers requests for keys is optimised for speed, as the store is: 5 % fewer instructions for each.
FLEETD_FAST_SOURCES = fleetd/api/keys_v2.c fleetd/api/keys_v2_query.c fleetd/api/keys_v2_text.c fleetd/api/request.c \
	fleetd/api/sender.c fleetd/api/server.c fleetd/registry/policy.c
$(foreach file,$(FLEETD_FAST_SOURCES) fleetd/unity-fast.c fleetd/api/routes.c,$(dir $(file))libfleetd_a-$(notdir $(file:.c=.$(OBJEXT)))): SIZE_CFLAGS =

if UNITY_BUILD
fleetd_libfleetd_a_SOURCES = $(FLEETD_ALONE_SOURCES)
nodist_fleetd_libfleetd_a_SOURCES = $(FLEETD_UNITY)
else
fleetd_libfleetd_a_SOURCES = $(FLEETD_SOURCES) $(FLEETD_ALONE_SOURCES) $(FLEETD_FAST_SOURCES)
endif

sbin_PROGRAMS += fleetd/fleetd
fleetd_fleetd_SOURCES = fleetd/main.c
fleetd_fleetd_CFLAGS = $(AM_CFLAGS) $(SYSTEMD_CFLAGS)

# Libraries of a program that links the daemon.
FLEETD_LIBS = fleetd/libfleetd.a units/libunits.a $(KVSTORE_LIBS) $(GNUTLS_LIBS) $(JANSSON_LIBS) $(SYSTEMD_LIBS)
fleetd_fleetd_LDADD = $(FLEETD_LIBS)

# A host with a clock of its own, and its peers, which the test implements.
QUIET_HOST = tests/lib/quiet_peer.h tests/lib/quiet_peer.c tests/lib/memory_disk.h tests/lib/memory_disk.c tests/lib/scratch.h tests/lib/scratch.c

if HAVE_CMOCKA
FLEETD_CORE_TESTS = tests/unit/test-layout tests/unit/test-history_notes tests/unit/test-cluster tests/unit/test-scheduler tests/unit/test-engine tests/unit/test-engine_plan \
	tests/unit/test-engine_brake tests/unit/test-engine_singleton tests/unit/test-engine_places tests/unit/test-drain tests/unit/test-drain_moves tests/unit/test-move tests/unit/test-reboot tests/unit/test-rollout tests/unit/test-rollout_random tests/unit/test-rollout_surge tests/unit/test-rollout_ends tests/unit/test-rollout_large tests/unit/test-rollout_budget tests/unit/test-engine_memory \
	tests/unit/test-slice tests/unit/test-unit_order tests/unit/test-choosing tests/unit/test-reports tests/unit/test-liveness tests/unit/test-voters tests/unit/test-tokens tests/unit/test-cluster_key tests/unit/test-registry tests/unit/test-engine_waits tests/unit/test-key_store tests/unit/test-creds tests/unit/test-liveness_model
check_PROGRAMS += $(FLEETD_CORE_TESTS)
TESTS += $(FLEETD_CORE_TESTS)

# The pure rooms need no store, but for how keys are compared.
FLEETD_PURE_LIBS = fleetd/libfleetd.a kvstore/libkvstore.a peers/libpeers.a $(UNITS_LIBS) $(LMDB_LIBS) $(CMOCKA_LIBS)
FLEETD_CLUSTER_VIEW = tests/lib/cluster_view.h tests/lib/cluster_view.c
FLEETD_POLICY_TABLE = tests/lib/policy_table.h tests/lib/policy_table.c $(FLEETD_CLUSTER_VIEW)

tests_unit_test_registry_SOURCES = tests/unit/test-registry.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_registry_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=timer_start
tests_unit_test_registry_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_history_notes_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_layout_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_unit_order_SOURCES = tests/unit/test-unit_order.c
tests_unit_test_unit_order_LDADD = $(FLEETD_PURE_LIBS)

tests_unit_test_cluster_SOURCES = tests/unit/test-cluster.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_cluster_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_reports_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_choosing_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_slice_SOURCES = tests/unit/test-slice.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_slice_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_scheduler_SOURCES = tests/unit/test-scheduler.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_scheduler_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_plan_SOURCES = tests/unit/test-engine_plan.c tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_plan_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_singleton_SOURCES = tests/unit/test-engine_singleton.c tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_singleton_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_brake_SOURCES = tests/unit/test-engine_brake.c tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_brake_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_drain_SOURCES = tests/unit/test-drain.c tests/lib/drains.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_drain_moves_SOURCES = tests/unit/test-drain_moves.c tests/lib/drains.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_move_SOURCES = tests/unit/test-move.c tests/lib/drains.h tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_move_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_places_SOURCES = tests/unit/test-engine_places.c tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_reboot_SOURCES = tests/unit/test-reboot.c tests/lib/drains.h tests/lib/reboots.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_reboot_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_drain_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_SOURCES = tests/unit/test-rollout.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_random_SOURCES = tests/unit/test-rollout_random.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_random_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_large_SOURCES = tests/unit/test-rollout_large.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_large_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_ends_SOURCES = tests/unit/test-rollout_ends.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_ends_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_budget_SOURCES = tests/unit/test-rollout_budget.c tests/lib/rollout_play.h tests/lib/drains.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_budget_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rollout_surge_SOURCES = tests/unit/test-rollout_surge.c tests/lib/rollout_play.h tests/lib/drains.h tests/lib/reboots.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rollout_surge_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_drain_moves_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_places_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_engine_SOURCES = tests/unit/test-engine.c tests/lib/engine_fixture.h tests/lib/engine_fixture.c tests/lib/alloc.h tests/lib/alloc.c \
	tests/lib/manual_loop.h tests/lib/manual_loop.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_LDFLAGS = $(FAILING_ALLOCATIONS) -Wl,--wrap=timer_start,--wrap=timer_start_by,--wrap=timer_stop,--wrap=loop_defer,--wrap=deferred_cancel,--wrap=kv_state,--wrap=kv_leads,--wrap=kv_cluster_ms \
	-Wl,--wrap=registry_cluster,--wrap=registry_ready,--wrap=registry_is_current,--wrap=registry_store,--wrap=registry_observe,--wrap=registry_unobserve \
	-Wl,--wrap=registry_cancel,--wrap=registry_assign,--wrap=registry_refused_assignment,--wrap=registry_end_adoption,--wrap=registry_note,--wrap=engine_plan
tests_unit_test_engine_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_engine_waits_SOURCES = tests/unit/test-engine_waits.c tests/lib/engine_fixture.h tests/lib/engine_fixture.c tests/lib/alloc.h tests/lib/alloc.c \
	tests/lib/manual_loop.h tests/lib/manual_loop.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_waits_LDFLAGS = $(tests_unit_test_engine_LDFLAGS)
tests_unit_test_engine_waits_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_engine_memory_SOURCES = tests/unit/test-engine_memory.c tests/lib/alloc.h tests/lib/alloc.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_engine_memory_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_engine_memory_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_liveness_SOURCES = tests/unit/test-liveness.c tests/lib/alloc.h tests/lib/alloc.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_liveness_model_SOURCES = tests/unit/test-liveness_model.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_liveness_model_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_liveness_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_liveness_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_tokens_SOURCES = tests/unit/test-tokens.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_tokens_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_cluster_key_SOURCES = tests/unit/test-cluster_key.c tests/lib/scratch.c
tests_unit_test_cluster_key_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_creds_SOURCES = tests/unit/test-creds.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_creds_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_key_store_SOURCES = tests/unit/test-key_store.c tests/lib/fake_sealer.h tests/lib/fake_sealer.c tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_key_store_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_voters_SOURCES = tests/unit/test-voters.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_voters_LDADD = $(FLEETD_PURE_LIBS)
endif

if HAVE_CMOCKA
FLEETD_IO_TESTS = tests/unit/test-agent_plan tests/unit/test-health tests/unit/test-checks tests/unit/test-probe tests/unit/test-records tests/unit/test-directory_diff tests/unit/test-settings \
	tests/unit/test-api tests/unit/test-authority tests/unit/test-tokens_api tests/unit/test-tls_front tests/unit/test-renewal tests/unit/test-revocation tests/unit/test-history_api tests/unit/test-kv_v1 tests/unit/test-systemd_bus tests/unit/test-runtime_dir tests/unit/test-scan tests/unit/test-trim tests/unit/test-directory tests/unit/test-publish tests/unit/test-securing tests/unit/test-replica_pins \
	tests/unit/test-agent tests/unit/test-agent_cost tests/unit/test-agent_times tests/unit/test-agent_health tests/unit/test-agent_effects tests/unit/test-agent_calls tests/unit/test-agent_completed tests/unit/test-agent_texts tests/unit/test-agent_memory tests/unit/test-facts tests/unit/test-inhibitor \
	tests/unit/test-remote_command_spec tests/unit/test-policy tests/unit/test-routes tests/unit/test-service tests/unit/test-guard tests/unit/test-agent_lease tests/unit/test-api_answers tests/unit/test-api_calls tests/unit/test-forward tests/unit/test-attached tests/unit/test-serve tests/unit/test-call_relay tests/unit/test-proposals tests/unit/test-membership tests/unit/test-identity tests/unit/test-kept_formats tests/unit/test-metrics tests/unit/test-rights tests/unit/test-entering tests/unit/test-hostile
check_PROGRAMS += $(FLEETD_IO_TESTS)
TESTS += $(FLEETD_IO_TESTS)

tests_unit_test_proposals_SOURCES = tests/unit/test-proposals.c $(QUIET_HOST)
tests_unit_test_proposals_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_plan_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_checks_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_probe_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=getifaddrs
tests_unit_test_probe_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_health_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_records_SOURCES = tests/unit/test-records.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_records_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=mkdirat,--wrap=fsync_dir,--wrap=fdopendir,--wrap=linkat,--wrap=pthread_mutex_lock
tests_unit_test_records_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_directory_diff_SOURCES = tests/unit/test-directory_diff.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_directory_diff_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_runtime_dir_SOURCES = tests/unit/test-runtime_dir.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_runtime_dir_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=space_at
tests_unit_test_runtime_dir_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_scan_SOURCES = tests/unit/test-scan.c tests/lib/scan_folder.h tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_scan_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=fdopendir
tests_unit_test_scan_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_trim_SOURCES = tests/unit/test-trim.c
tests_unit_test_trim_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_settings_SOURCES = tests/unit/test-settings.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_settings_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
FLEETD_HOST = tests/lib/host.h tests/lib/host.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_kv_v1_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_api_SOURCES = tests/unit/test-api.c $(SIDE_BY_SIDE) $(FLEETD_HOST)
tests_unit_test_api_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pairs_get,--wrap=pairs_set,--wrap=kv_sync,--wrap=kv_propose
tests_unit_test_api_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_replica_pins_SOURCES = tests/unit/test-replica_pins.c tests/lib/scratch.h tests/lib/scratch.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_replica_pins_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_revocation_SOURCES = tests/unit/test-revocation.c $(FLEETD_HOST) $(FLEETD_CLUSTER_VIEW)
tests_unit_test_revocation_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_securing_SOURCES = tests/unit/test-securing.c $(FLEETD_HOST) $(FLEETD_CLUSTER_VIEW)
tests_unit_test_securing_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=loop_wall_ms,--wrap=peers_has_key,--wrap=peers_has_certificate,--wrap=peers_state
tests_unit_test_securing_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_renewal_SOURCES = tests/unit/test-renewal.c $(FLEETD_HOST) $(FLEETD_CLUSTER_VIEW)
tests_unit_test_renewal_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=loop_wall_ms
tests_unit_test_renewal_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_tls_front_SOURCES = tests/unit/test-tls_front.c tests/lib/attached.h tests/lib/attached.c $(FLEETD_HOST)
tests_unit_test_tls_front_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_tokens_api_SOURCES = tests/unit/test-tokens_api.c $(FLEETD_HOST)
tests_unit_test_tokens_api_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_authority_SOURCES = tests/unit/test-authority.c $(FLEETD_HOST)
tests_unit_test_authority_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_history_api_SOURCES = tests/unit/test-history_api.c $(FLEETD_HOST)
tests_unit_test_history_api_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=loop_wall_ms,--wrap=kv_stale_ms
tests_unit_test_history_api_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_guard_SOURCES = tests/unit/test-guard.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_guard_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_lease_SOURCES = tests/unit/test-agent_lease.c $(AGENT_FIXTURE)
tests_unit_test_agent_lease_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_lease_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_service_SOURCES = tests/unit/test-service.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_service_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=sd_journal_sendv_with_location
tests_unit_test_service_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_api_answers_SOURCES = tests/unit/test-api_answers.c $(FLEETD_HOST)
tests_unit_test_api_answers_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=scheduler_view_new,--wrap=kv_counts,--wrap=engine_counts,--wrap=engine_brake,--wrap=registry_counts
tests_unit_test_api_answers_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_api_calls_SOURCES = tests/unit/test-api_calls.c $(QUIET_HOST)
tests_unit_test_api_calls_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=child_spawn,--wrap=child_pause,--wrap=child_kill,--wrap=child_stop
tests_unit_test_api_calls_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_forward_SOURCES = tests/unit/test-forward.c $(QUIET_HOST)
tests_unit_test_forward_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=child_spawn
tests_unit_test_forward_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_attached_SOURCES = tests/unit/test-attached.c $(QUIET_HOST)
tests_unit_test_attached_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_serve_SOURCES = tests/unit/test-serve.c $(QUIET_HOST)
tests_unit_test_serve_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=peer_queued -Wl,--wrap=kv_sync
tests_unit_test_serve_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_hostile_SOURCES = tests/unit/test-hostile.c $(QUIET_HOST)
tests_unit_test_hostile_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=api_units_read
tests_unit_test_hostile_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_call_relay_SOURCES = tests/unit/test-call_relay.c $(QUIET_HOST)
tests_unit_test_call_relay_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_rights_SOURCES = tests/unit/test-rights.c tests/lib/attached.h tests/lib/attached.c $(FLEETD_HOST)
tests_unit_test_rights_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=stream_peer_uid,--wrap=stream_peer_groups
tests_unit_test_rights_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_policy_SOURCES = tests/unit/test-policy.c $(FLEETD_POLICY_TABLE)
tests_unit_test_policy_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_metrics_SOURCES = tests/unit/test-metrics.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_metrics_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_routes_SOURCES = tests/unit/test-routes.c $(FLEETD_POLICY_TABLE)
tests_unit_test_routes_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_remote_command_spec_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_directory_SOURCES = tests/unit/test-directory.c $(SIDE_BY_SIDE) $(FLEETD_HOST)
tests_unit_test_directory_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
LEADER = tests/lib/leader.h tests/lib/leader.c
LEADER_WRAPS = -Wl,--wrap=kv_sync,--wrap=kv_sync_cancel,--wrap=kv_state,--wrap=kv_transfer,--wrap=registry_index
tests_unit_test_agent_SOURCES = tests/unit/test-agent.c tests/lib/fake_bus.h tests/lib/fake_bus.c tests/lib/alloc.h tests/lib/alloc.c \
	$(SIDE_BY_SIDE) $(LEADER) $(FLEETD_HOST)
tests_unit_test_agent_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_agent_LDFLAGS = $(FAILING_ALLOCATIONS) $(LEADER_WRAPS)
tests_unit_test_agent_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_inhibitor_SOURCES = tests/unit/test-inhibitor.c tests/lib/fake_bus.h tests/lib/fake_bus.c $(LEADER) $(FLEETD_HOST)
tests_unit_test_inhibitor_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_inhibitor_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_inhibitor_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_facts_SOURCES = tests/unit/test-facts.c $(LEADER) $(FLEETD_HOST)
tests_unit_test_facts_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS) -Wl,--wrap=registry_publish_facts,--wrap=registry_observe,--wrap=loop_defer \
	-Wl,--wrap=getifaddrs,--wrap=freeifaddrs
tests_unit_test_facts_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
AGENT_FIXTURE = tests/lib/agent_fixture.h tests/lib/agent_fixture.c $(LEADER) $(FLEETD_HOST)
tests_unit_test_agent_cost_SOURCES = tests/unit/test-agent_cost.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_cost_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_cost_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_completed_SOURCES = tests/unit/test-agent_completed.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_completed_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_completed_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_effects_SOURCES = tests/unit/test-agent_effects.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_effects_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_effects_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_health_SOURCES = tests/unit/test-agent_health.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_health_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_health_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_agent_times_SOURCES = tests/unit/test-agent_times.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_times_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS) -Wl,--wrap=registry_report,--wrap=registry_publish
tests_unit_test_agent_times_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_memory_SOURCES = tests/unit/test-agent_memory.c tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h \
	tests/sim/systemd.h tests/sim/systemd_internal.h tests/sim/systemd.c tests/sim/dependencies.c tests/sim/prober.h tests/sim/prober.c tests/sim/world.h tests/sim/world.c tests/lib/memory_disk.h tests/lib/memory_disk.c tests/lib/torn_write.h $(AGENT_FIXTURE)
tests_unit_test_agent_memory_CFLAGS = $(TEST_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_agent_memory_LDFLAGS = $(FAILING_ALLOCATIONS) $(LEADER_WRAPS)
tests_unit_test_agent_memory_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_texts_SOURCES = tests/unit/test-agent_texts.c $(AGENT_FIXTURE)
tests_unit_test_agent_texts_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_texts_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_calls_SOURCES = tests/unit/test-agent_calls.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_calls_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_calls_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_entering_SOURCES = tests/unit/test-entering.c $(FLEETD_CLUSTER_VIEW) tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_entering_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_kept_formats_SOURCES = tests/unit/test-kept_formats.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_kept_formats_CFLAGS = $(TEST_CFLAGS) $(GNUTLS_CFLAGS)
tests_unit_test_kept_formats_LDADD = $(FLEETD_LIBS) $(GNUTLS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_identity_SOURCES = tests/unit/test-identity.c tests/lib/power.h tests/lib/power_internal.h tests/lib/power.c tests/lib/power_calls.c \
	tests/lib/torn_write.h tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_identity_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_membership_SOURCES = tests/unit/test-membership.c tests/unit/membership.h \
	tests/unit/membership_played.h tests/unit/membership_played.c tests/unit/membership_leads.c tests/unit/membership_joins.c \
	tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h tests/lib/quiet_peer.h tests/lib/quiet_peer.c tests/lib/memory_disk.h tests/lib/memory_disk.c \
	$(FLEETD_HOST)
tests_unit_test_membership_CFLAGS = $(TEST_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_membership_LDFLAGS = $(FAILING_ALLOCATIONS) \
	-Wl,--wrap=kv_state,--wrap=registry_admit,--wrap=registry_cancel,--wrap=registry_observe,--wrap=loop_defer \
	-Wl,--wrap=registry_presence,--wrap=registry_record_start,--wrap=registry_record_level,--wrap=registry_read_level \
	-Wl,--wrap=kv_member_promote,--wrap=kv_member_demote,--wrap=kv_member_remove,--wrap=kv_member_vacate,--wrap=kv_member_shrink \
	-Wl,--wrap=kv_propose,--wrap=kv_cancel,--wrap=kv_member_add,--wrap=cluster_members_sorted,--wrap=peer_handshake
tests_unit_test_membership_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_publish_SOURCES = tests/unit/test-publish.c $(SIDE_BY_SIDE) $(FLEETD_HOST)
tests_unit_test_publish_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=timer_start_by
tests_unit_test_publish_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_systemd_bus_SOURCES = tests/unit/test-systemd_bus.c tests/lib/fake_bus.h tests/lib/fake_bus.c \
	tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_systemd_bus_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_systemd_bus_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-keys_v2
tests_fuzz_fuzz_keys_v2_SOURCES = tests/fuzz/keys_v2.c tests/fuzz/standalone.c $(QUIET_HOST)
tests_fuzz_fuzz_keys_v2_LDADD = $(FLEETD_LIBS)
# Through all of the API's routes; no tool is run.
WITHOUT_CHILDREN = $(AM_LDFLAGS) -Wl,--wrap=child_spawn
FUZZERS += tests/fuzz/fuzz-api
tests_fuzz_fuzz_api_SOURCES = tests/fuzz/api.c tests/fuzz/standalone.c $(QUIET_HOST)
tests_fuzz_fuzz_api_LDFLAGS = $(WITHOUT_CHILDREN)
tests_fuzz_fuzz_api_LDADD = $(FLEETD_LIBS)
FUZZERS += tests/fuzz/fuzz-frames
tests_fuzz_fuzz_frames_SOURCES = tests/fuzz/frames.c tests/fuzz/standalone.c $(QUIET_HOST)
tests_fuzz_fuzz_frames_LDFLAGS = $(WITHOUT_CHILDREN)
tests_fuzz_fuzz_frames_LDADD = $(FLEETD_LIBS)
FUZZERS += tests/fuzz/fuzz-history
tests_fuzz_fuzz_history_SOURCES = tests/fuzz/history.c tests/fuzz/standalone.c
tests_fuzz_fuzz_history_LDADD = $(FLEETD_LIBS)
FUZZERS += tests/fuzz/fuzz-scan
tests_fuzz_fuzz_scan_SOURCES = tests/fuzz/scan.c tests/fuzz/standalone.c tests/lib/scan_folder.h tests/lib/scratch.h tests/lib/scratch.c
tests_fuzz_fuzz_scan_LDADD = $(FLEETD_LIBS)
FUZZERS += tests/fuzz/fuzz-accept
tests_fuzz_fuzz_accept_SOURCES = tests/fuzz/accept.c tests/fuzz/standalone.c
tests_fuzz_fuzz_accept_LDADD = $(FLEETD_LIBS)
FUZZERS += tests/fuzz/fuzz-kv_txn
tests_fuzz_fuzz_kv_txn_SOURCES = tests/fuzz/kv_txn.c tests/fuzz/standalone.c
tests_fuzz_fuzz_kv_txn_LDADD = $(FLEETD_LIBS)
