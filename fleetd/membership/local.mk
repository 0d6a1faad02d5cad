FLEETD_UNITY += fleetd/membership/unity.c
FLEETD_SOURCES += fleetd/membership/liveness.h fleetd/membership/liveness.c fleetd/membership/voters.h fleetd/membership/voters.c \
	fleetd/membership/attaching.c fleetd/membership/choosing.h fleetd/membership/choosing.c fleetd/membership/reports.h fleetd/membership/reports.c \
	fleetd/membership/report_hosts.h fleetd/membership/report_hosts.c fleetd/membership/reporter.c fleetd/membership/reporting.c \
	fleetd/membership/leaving.h fleetd/membership/leaving.c fleetd/membership/roles.c fleetd/membership/conditions.c fleetd/membership/kernels.c \
	fleetd/membership/sessions.c fleetd/membership/sets.c fleetd/membership/membership.h fleetd/membership/membership_internal.h \
	fleetd/membership/membership.c fleetd/membership/joining.c fleetd/membership/heartbeats.c fleetd/membership/dialing.c

if HAVE_CMOCKA
FLEETD_MEMBERSHIP_TESTS = tests/unit/test-choosing tests/unit/test-reports tests/unit/test-liveness tests/unit/test-voters \
	tests/unit/test-liveness_model tests/unit/test-membership
check_PROGRAMS += $(FLEETD_MEMBERSHIP_TESTS)
TESTS += $(FLEETD_MEMBERSHIP_TESTS)
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
