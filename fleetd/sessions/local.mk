FLEETD_UNITY += fleetd/sessions/unity.c
FLEETD_SOURCES += fleetd/sessions/liveness.h fleetd/sessions/liveness.c fleetd/sessions/voters.h fleetd/sessions/voters.c \
	fleetd/sessions/attaching.c fleetd/sessions/choosing.h fleetd/sessions/choosing.c fleetd/sessions/reports.h fleetd/sessions/reports.c \
	fleetd/sessions/report_hosts.h fleetd/sessions/report_hosts.c fleetd/sessions/reporter.c fleetd/sessions/reporting.c \
	fleetd/sessions/leaving.h fleetd/sessions/leaving.c fleetd/sessions/roles.c fleetd/sessions/conditions.c fleetd/sessions/kernels.c \
	fleetd/sessions/sessions.c fleetd/sessions/sets.c fleetd/sessions/membership.h fleetd/sessions/membership_internal.h \
	fleetd/sessions/membership.c fleetd/sessions/joining.c fleetd/sessions/heartbeats.c fleetd/sessions/dialing.c \
	fleetd/sessions/in_use.c fleetd/sessions/presences.c fleetd/sessions/retiring.c fleetd/sessions/senders.c

if HAVE_CMOCKA
FLEETD_SESSIONS_TESTS = tests/unit/test-choosing tests/unit/test-reports tests/unit/test-liveness tests/unit/test-voters \
	tests/unit/test-liveness_model tests/unit/test-membership
check_PROGRAMS += $(FLEETD_SESSIONS_TESTS)
TESTS += $(FLEETD_SESSIONS_TESTS)
tests_unit_test_choosing_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_reports_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_liveness_SOURCES = tests/unit/test-liveness.c tests/lib/alloc.h tests/lib/alloc.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_liveness_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_liveness_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_voters_SOURCES = tests/unit/test-voters.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_voters_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_liveness_model_SOURCES = tests/unit/test-liveness_model.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_liveness_model_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_membership_SOURCES = tests/unit/test-membership.c tests/unit/membership.h tests/unit/membership_played.h \
	tests/unit/membership_played.c tests/unit/membership_leads.c tests/unit/membership_joins.c tests/lib/alloc.h tests/lib/alloc.c \
	tests/lib/alloc_spared.h tests/lib/quiet_peer.h tests/lib/quiet_peer.c tests/lib/memory_disk.h tests/lib/memory_disk.c $(FLEETD_HOST)
tests_unit_test_membership_CFLAGS = $(TEST_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_membership_LDFLAGS = $(FAILING_ALLOCATIONS) \
	-Wl,--wrap=kv_state,--wrap=registry_admit,--wrap=registry_cancel,--wrap=registry_observe,--wrap=loop_defer \
	-Wl,--wrap=registry_presence,--wrap=registry_record_start,--wrap=registry_record_level,--wrap=registry_read_level \
	-Wl,--wrap=kv_member_promote,--wrap=kv_member_demote,--wrap=kv_member_remove,--wrap=kv_member_vacate,--wrap=kv_member_shrink \
	-Wl,--wrap=kv_propose,--wrap=kv_cancel,--wrap=kv_member_add,--wrap=cluster_members_sorted,--wrap=peer_handshake \
	-Wl,--wrap=directory_list_units
tests_unit_test_membership_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
