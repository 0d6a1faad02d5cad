FLEETD_UNITY += fleetd/features/data/unity.c
FLEETD_SOURCES += fleetd/features/data/data.h fleetd/features/data/data.c

if HAVE_CMOCKA
FLEETD_DATA_TESTS = tests/unit/test-sticky
check_PROGRAMS += $(FLEETD_DATA_TESTS)
TESTS += $(FLEETD_DATA_TESTS)
tests_unit_test_sticky_SOURCES = tests/unit/test-sticky.c tests/lib/drains.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_unit_test_sticky_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
