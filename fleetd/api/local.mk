FLEETD_UNITY += fleetd/api/unity.c
FLEETD_SOURCES += fleetd/api/sender.h fleetd/api/socket_access.h fleetd/api/socket_access.c fleetd/api/tls_front.h fleetd/api/tls_front.c \
	fleetd/api/denials.h fleetd/api/denials.c fleetd/api/routes.h fleetd/api/forward.h fleetd/api/forward.c fleetd/api/forward_frames.h \
	fleetd/api/forward_frames.c fleetd/api/forward_serve.h fleetd/api/forward_serve.c fleetd/api/parked.h fleetd/api/parked.c fleetd/api/handlers.h \
	fleetd/api/api.h fleetd/api/request.h fleetd/api/keys_v2_answer.h fleetd/api/keys_v2_internal.h fleetd/api/kv_v1.h fleetd/api/kv_v1.c \
	fleetd/api/kv_v1_list.c fleetd/api/kv_v1_txn.h fleetd/api/kv_v1_txn.c fleetd/api/kv_v1_changes.h fleetd/api/kv_v1_changes.c fleetd/api/cluster_v2.h \
	fleetd/api/cluster_v2.c fleetd/api/members_v2.c fleetd/api/stats_v2.c fleetd/api/fleet_v1.h fleetd/api/fleet_v1.c fleetd/api/fleet_v1_pages.c \
	fleetd/api/fleet_v1_changes.c fleetd/api/cluster_v1.c fleetd/api/machines_v1.c fleetd/api/level_v1.c fleetd/api/settings_v1.c \
	fleetd/api/adoption_v1.c fleetd/api/discovery_v1.c fleetd/api/plan_v1.h fleetd/api/plan_v1.c fleetd/api/plan_steps.c fleetd/api/why_v1.c fleetd/api/ways.h \
	fleetd/api/problems_v1.c fleetd/api/directory_v1.c fleetd/api/backup_v1.c fleetd/api/tokens_v1.c fleetd/api/leave_v1.c fleetd/api/maintenance_v1.c \
	fleetd/api/moves_v1.c fleetd/api/revisions_v1.c fleetd/api/users_v1.c fleetd/api/events_v1.c fleetd/api/history_v1.c \
	fleetd/api/remote_command.c fleetd/api/call_execute.h fleetd/api/call_execute.c fleetd/api/callers.h fleetd/api/callers.c \
	fleetd/api/call_ask.h fleetd/api/call_ask.c fleetd/api/call_reader.h fleetd/api/call_reader.c fleetd/api/remote_command_spec.h fleetd/api/remote_command_spec.c fleetd/api/metrics.c
FLEETD_ALONE_SOURCES += fleetd/api/routes.c fleetd/api/ways.c
FLEETD_FAST_SOURCES += fleetd/api/keys_v2.c fleetd/api/keys_v2_answer.c fleetd/api/keys_v2_query.c fleetd/api/keys_v2_text.c fleetd/api/request.c \
	fleetd/api/sender.c fleetd/api/server.c

if HAVE_CMOCKA
FLEETD_API_TESTS = tests/unit/test-api tests/unit/test-tokens_api tests/unit/test-tls_front tests/unit/test-history_api tests/unit/test-kv_v1 \
	tests/unit/test-remote_command_spec tests/unit/test-routes tests/unit/test-api_answers tests/unit/test-api_calls tests/unit/test-forward \
	tests/unit/test-attached tests/unit/test-serve tests/unit/test-call_relay tests/unit/test-hostile tests/unit/test-ways
check_PROGRAMS += $(FLEETD_API_TESTS)
TESTS += $(FLEETD_API_TESTS)
tests_unit_test_ways_SOURCES = tests/unit/test-ways.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_ways_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_api_SOURCES = tests/unit/test-api.c $(SIDE_BY_SIDE) $(FLEETD_HOST)
tests_unit_test_api_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pairs_get,--wrap=pairs_set,--wrap=kv_sync,--wrap=kv_propose
tests_unit_test_api_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_tokens_api_SOURCES = tests/unit/test-tokens_api.c $(FLEETD_HOST)
tests_unit_test_tokens_api_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_tls_front_SOURCES = tests/unit/test-tls_front.c tests/lib/attached.h tests/lib/attached.c $(FLEETD_HOST)
tests_unit_test_tls_front_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_history_api_SOURCES = tests/unit/test-history_api.c $(FLEETD_HOST)
tests_unit_test_history_api_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=loop_wall_ms,--wrap=kv_stale_ms
tests_unit_test_history_api_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_kv_v1_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_remote_command_spec_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_routes_SOURCES = tests/unit/test-routes.c $(FLEETD_POLICY_TABLE)
tests_unit_test_routes_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_api_answers_SOURCES = tests/unit/test-api_answers.c $(FLEETD_HOST)
tests_unit_test_api_answers_LDFLAGS = $(AM_LDFLAGS) \
	-Wl,--wrap=scheduler_view_new,--wrap=kv_counts,--wrap=kv_window_bytes,--wrap=engine_counts,--wrap=engine_brake,--wrap=registry_counts,--wrap=agent_each_unit
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
tests_unit_test_call_relay_SOURCES = tests/unit/test-call_relay.c $(QUIET_HOST)
tests_unit_test_call_relay_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_hostile_SOURCES = tests/unit/test-hostile.c $(QUIET_HOST)
tests_unit_test_hostile_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=api_units_read
tests_unit_test_hostile_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-keys_v2 tests/fuzz/fuzz-api tests/fuzz/fuzz-frames tests/fuzz/fuzz-accept tests/fuzz/fuzz-kv_txn
tests_fuzz_fuzz_keys_v2_SOURCES = tests/fuzz/keys_v2.c tests/fuzz/standalone.c $(QUIET_HOST)
tests_fuzz_fuzz_keys_v2_LDADD = $(FLEETD_LIBS)
# Through all of the API's routes; no tool is run.
WITHOUT_CHILDREN = $(AM_LDFLAGS) -Wl,--wrap=child_spawn
tests_fuzz_fuzz_api_SOURCES = tests/fuzz/api.c tests/fuzz/standalone.c $(QUIET_HOST)
tests_fuzz_fuzz_api_LDFLAGS = $(WITHOUT_CHILDREN)
tests_fuzz_fuzz_api_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_frames_SOURCES = tests/fuzz/frames.c tests/fuzz/standalone.c $(QUIET_HOST)
tests_fuzz_fuzz_frames_LDFLAGS = $(WITHOUT_CHILDREN)
tests_fuzz_fuzz_frames_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_accept_SOURCES = tests/fuzz/accept.c tests/fuzz/standalone.c
tests_fuzz_fuzz_accept_LDADD = $(FLEETD_LIBS)
tests_fuzz_fuzz_kv_txn_SOURCES = tests/fuzz/kv_txn.c tests/fuzz/standalone.c
tests_fuzz_fuzz_kv_txn_LDADD = $(FLEETD_LIBS)
