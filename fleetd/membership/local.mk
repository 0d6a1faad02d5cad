FLEETD_UNITY += fleetd/membership/unity.c
FLEETD_SOURCES += fleetd/membership/liveness.h fleetd/membership/liveness.c fleetd/membership/voters.h fleetd/membership/voters.c \
	fleetd/membership/voters_limit.h fleetd/membership/voters_limit.c \
	fleetd/membership/tokens.h fleetd/membership/tokens.c fleetd/membership/cluster_key.h fleetd/membership/cluster_key.c \
	fleetd/membership/key_distribution.c fleetd/membership/authority.h fleetd/membership/authority_internal.h \
	fleetd/membership/authority_tokens.c fleetd/membership/authority_hosts.c fleetd/membership/renewal.h fleetd/membership/renewal.c \
	fleetd/membership/authority_rotation.c fleetd/membership/rotation.h fleetd/membership/rotation.c fleetd/membership/attaching.c \
	fleetd/membership/choosing.h fleetd/membership/choosing.c fleetd/membership/reports.h fleetd/membership/reports.c fleetd/membership/report_hosts.h \
	fleetd/membership/report_hosts.c fleetd/membership/reporter.c fleetd/membership/reporting.c fleetd/membership/leaving.h fleetd/membership/leaving.c \
	fleetd/membership/revocation.h fleetd/membership/revocation.c fleetd/membership/securing.h fleetd/membership/securing.c \
	fleetd/membership/authority_secure.c fleetd/membership/authority_rekey.c fleetd/membership/replica_pins.h fleetd/membership/replica_pins.c \
	fleetd/membership/authority_users.c fleetd/membership/authority_listener.c fleetd/membership/roles.c fleetd/membership/key_file.h \
	fleetd/membership/key_file.c fleetd/membership/key_store.h fleetd/membership/key_store.c \
	fleetd/membership/conditions.c fleetd/membership/kernels.c fleetd/membership/sessions.c fleetd/membership/sets.c fleetd/membership/membership.h \
	fleetd/membership/membership_internal.h fleetd/membership/membership.c fleetd/membership/joining.c fleetd/membership/heartbeats.c \
	fleetd/membership/dialing.c fleetd/membership/identity.h fleetd/membership/identity.c fleetd/membership/cluster_file.h \
	fleetd/membership/cluster_file.c fleetd/membership/enter_message.h fleetd/membership/enter_message.c fleetd/membership/entering.h \
	fleetd/membership/entering.c fleetd/membership/opening.h fleetd/membership/opening.c

if HAVE_CMOCKA
FLEETD_MEMBERSHIP_TESTS = tests/unit/test-choosing tests/unit/test-reports tests/unit/test-liveness tests/unit/test-voters tests/unit/test-tokens \
	tests/unit/test-cluster_key tests/unit/test-key_store tests/unit/test-liveness_model tests/unit/test-authority tests/unit/test-renewal \
	tests/unit/test-revocation tests/unit/test-securing tests/unit/test-replica_pins tests/unit/test-membership tests/unit/test-identity \
	tests/unit/test-entering
check_PROGRAMS += $(FLEETD_MEMBERSHIP_TESTS)
TESTS += $(FLEETD_MEMBERSHIP_TESTS)
tests_unit_test_choosing_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_reports_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_liveness_SOURCES = tests/unit/test-liveness.c tests/lib/alloc.h tests/lib/alloc.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_liveness_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_liveness_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_voters_SOURCES = tests/unit/test-voters.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_voters_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_tokens_SOURCES = tests/unit/test-tokens.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_tokens_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_cluster_key_SOURCES = tests/unit/test-cluster_key.c tests/lib/scratch.c
tests_unit_test_cluster_key_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_key_store_SOURCES = tests/unit/test-key_store.c tests/lib/fake_sealer.h tests/lib/fake_sealer.c tests/lib/manual_loop.h \
	tests/lib/manual_loop.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_key_store_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_liveness_model_SOURCES = tests/unit/test-liveness_model.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_liveness_model_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_authority_SOURCES = tests/unit/test-authority.c $(FLEETD_HOST)
tests_unit_test_authority_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_renewal_SOURCES = tests/unit/test-renewal.c $(FLEETD_HOST) $(FLEETD_CLUSTER_VIEW)
tests_unit_test_renewal_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=loop_wall_ms
tests_unit_test_renewal_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_revocation_SOURCES = tests/unit/test-revocation.c $(FLEETD_HOST) $(FLEETD_CLUSTER_VIEW)
tests_unit_test_revocation_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_securing_SOURCES = tests/unit/test-securing.c $(FLEETD_HOST) $(FLEETD_CLUSTER_VIEW)
tests_unit_test_securing_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=loop_wall_ms,--wrap=peers_has_key,--wrap=peers_has_certificate,--wrap=peers_state
tests_unit_test_securing_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_replica_pins_SOURCES = tests/unit/test-replica_pins.c tests/lib/scratch.h tests/lib/scratch.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_replica_pins_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
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
tests_unit_test_identity_SOURCES = tests/unit/test-identity.c tests/lib/power.h tests/lib/power_internal.h tests/lib/power.c tests/lib/power_calls.c \
	tests/lib/torn_write.h tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_identity_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_entering_SOURCES = tests/unit/test-entering.c $(FLEETD_CLUSTER_VIEW) tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_entering_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
