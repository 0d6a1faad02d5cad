FLEETD_UNITY += fleetd/registry/unity.c fleetd/registry/objects/unity.c
FLEETD_SOURCES += fleetd/registry/objects/assignment.c fleetd/registry/objects/cluster.c fleetd/registry/objects/endpoint.c fleetd/registry/objects/identity.c fleetd/registry/objects/inputs.c \
	fleetd/registry/objects/machine.c fleetd/registry/objects/maintenance.c fleetd/registry/objects/reboot.c fleetd/registry/objects/report.c \
	fleetd/registry/revision_view.h fleetd/registry/objects/revision.c fleetd/registry/objects/rollout.c fleetd/registry/objects/unit.c
FLEETD_SOURCES += fleetd/registry/layout.h fleetd/registry/layout.c fleetd/registry/data.h fleetd/registry/data.c fleetd/registry/patterns.h fleetd/registry/patterns.c fleetd/registry/unit_order.h \
	fleetd/registry/unit_order.c fleetd/registry/cluster.h fleetd/registry/cluster.c fleetd/registry/cluster_keys.h fleetd/registry/cluster_keys.c \
	fleetd/registry/kind_list.h fleetd/registry/kinds.h fleetd/registry/kinds.c fleetd/registry/cluster_parts.h fleetd/registry/cluster_lists.c fleetd/registry/presence.h fleetd/registry/presence.c \
	fleetd/registry/registry.h fleetd/registry/view.h fleetd/registry/slice.h fleetd/registry/slice.c fleetd/registry/transaction.h fleetd/registry/transaction_parts.h fleetd/registry/transaction.c \
	fleetd/registry/history.h fleetd/registry/history.c fleetd/registry/units.c fleetd/registry/revisions.c \
	fleetd/registry/rollouts.c fleetd/registry/moves.c fleetd/registry/replicas.c fleetd/registry/inputs.c fleetd/registry/schedule.c fleetd/registry/states.c fleetd/registry/machines.c \
	fleetd/registry/adoption.c fleetd/registry/shutdown.h fleetd/registry/shutdown.c fleetd/registry/feature_level.c fleetd/registry/newer_options.h fleetd/registry/newer_options.c \
	fleetd/registry/cluster_settings.c fleetd/registry/identities.c fleetd/registry/set_health.h fleetd/registry/set_health.c fleetd/registry/policy.h \
	fleetd/registry/principal.h fleetd/registry/principal.c fleetd/registry/proposal_rights.h fleetd/registry/proposal_rights.c fleetd/registry/rights.h \
	fleetd/registry/rights.c fleetd/registry/endpoints.h fleetd/registry/endpoints.c fleetd/registry/local_rights.h fleetd/registry/local_rights.c fleetd/registry/protect.h fleetd/registry/protect.c
FLEETD_ALONE_SOURCES += fleetd/registry/view.c
FLEETD_FAST_SOURCES += fleetd/registry/policy.c

if HAVE_CMOCKA
FLEETD_REGISTRY_TESTS = tests/unit/test-layout tests/unit/test-history_notes tests/unit/test-cluster tests/unit/test-slice tests/unit/test-unit_order \
	tests/unit/test-registry tests/unit/test-policy tests/unit/test-rights tests/unit/test-kept_formats tests/unit/test-proposals tests/unit/test-endpoints
check_PROGRAMS += $(FLEETD_REGISTRY_TESTS)
TESTS += $(FLEETD_REGISTRY_TESTS)
tests_unit_test_layout_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_history_notes_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_cluster_SOURCES = tests/unit/test-cluster.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_cluster_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_slice_SOURCES = tests/unit/test-slice.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_slice_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_endpoints_SOURCES = tests/unit/test-endpoints.c $(FLEETD_HOST) $(FLEETD_CLUSTER_VIEW)
tests_unit_test_endpoints_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_unit_order_SOURCES = tests/unit/test-unit_order.c
tests_unit_test_unit_order_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_registry_SOURCES = tests/unit/test-registry.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_registry_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=timer_start
tests_unit_test_registry_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_policy_SOURCES = tests/unit/test-policy.c $(FLEETD_POLICY_TABLE)
tests_unit_test_policy_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_rights_SOURCES = tests/unit/test-rights.c tests/lib/attached.h tests/lib/attached.c $(FLEETD_HOST)
tests_unit_test_rights_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=stream_peer_uid,--wrap=stream_peer_groups,--wrap=registry_ready
tests_unit_test_rights_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_kept_formats_SOURCES = tests/unit/test-kept_formats.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_kept_formats_CFLAGS = $(TEST_CFLAGS) $(GNUTLS_CFLAGS)
tests_unit_test_kept_formats_LDADD = $(FLEETD_LIBS) $(GNUTLS_LIBS) $(CMOCKA_LIBS)
tests_unit_test_proposals_SOURCES = tests/unit/test-proposals.c $(QUIET_HOST)
tests_unit_test_proposals_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-history
tests_fuzz_fuzz_history_SOURCES = tests/fuzz/history.c tests/fuzz/standalone.c
tests_fuzz_fuzz_history_LDADD = $(FLEETD_LIBS)
