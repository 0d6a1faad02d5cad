FLEETD_UNITY += fleetd/features/rebalance/unity.c
FLEETD_SOURCES += fleetd/features/rebalance/rebalance.h fleetd/features/rebalance/rebalance.c fleetd/features/rebalance/rebalance_v1.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-rebalance
TESTS += tests/unit/test-rebalance
tests_unit_test_rebalance_SOURCES = tests/unit/test-rebalance.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_rebalance_LDADD = $(FLEETD_PURE_LIBS)
endif
