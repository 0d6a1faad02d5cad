FLEETD_UNITY += fleetd/identity/unity.c
FLEETD_SOURCES += fleetd/identity/voters_limit.h fleetd/identity/voters_limit.c fleetd/identity/tokens.h fleetd/identity/tokens.c \
	fleetd/identity/cluster_key.h fleetd/identity/cluster_key.c fleetd/identity/key_distribution.c fleetd/identity/authority.h \
	fleetd/identity/authority_internal.h fleetd/identity/authority.c fleetd/identity/authority_op.c fleetd/identity/authority_ca.c fleetd/identity/authority_tokens.c fleetd/identity/authority_hosts.c fleetd/identity/renewal.h \
	fleetd/identity/renewal.c fleetd/identity/authority_rotation.c fleetd/identity/rotation.h fleetd/identity/rotation.c fleetd/identity/revocation.h \
	fleetd/identity/revocation.c fleetd/identity/securing.h fleetd/identity/securing.c \
	fleetd/identity/authority_rekey.c fleetd/identity/replica_pins.h fleetd/identity/replica_pins.c fleetd/identity/authority_users.c \
	fleetd/identity/authority_listener.c fleetd/identity/key_file.h fleetd/identity/key_file.c fleetd/identity/key_store.h fleetd/identity/key_store.c \
	fleetd/identity/identity.h fleetd/identity/identity.c fleetd/identity/cluster_file.h fleetd/identity/cluster_file.c fleetd/identity/enter_message.h \
	fleetd/identity/enter_message.c fleetd/identity/entering.h fleetd/identity/entering.c fleetd/identity/opening.h fleetd/identity/opening.c

if HAVE_CMOCKA
FLEETD_IDENTITY_TESTS = tests/unit/test-tokens tests/unit/test-cluster_key tests/unit/test-key_store tests/unit/test-authority \
	tests/unit/test-renewal tests/unit/test-revocation tests/unit/test-securing tests/unit/test-replica_pins tests/unit/test-identity \
	tests/unit/test-entering
check_PROGRAMS += $(FLEETD_IDENTITY_TESTS)
TESTS += $(FLEETD_IDENTITY_TESTS)
tests_unit_test_tokens_SOURCES = tests/unit/test-tokens.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_tokens_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_cluster_key_SOURCES = tests/unit/test-cluster_key.c tests/lib/scratch.c
tests_unit_test_cluster_key_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_key_store_SOURCES = tests/unit/test-key_store.c tests/lib/fake_sealer.h tests/lib/fake_sealer.c tests/lib/manual_loop.h \
	tests/lib/manual_loop.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_key_store_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
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
tests_unit_test_identity_SOURCES = tests/unit/test-identity.c tests/lib/power.h tests/lib/power_internal.h tests/lib/power.c tests/lib/power_calls.c \
	tests/lib/torn_write.h tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_identity_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_entering_SOURCES = tests/unit/test-entering.c $(FLEETD_CLUSTER_VIEW) tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_entering_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
