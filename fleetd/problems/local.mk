FLEETD_UNITY += fleetd/problems/unity.c
FLEETD_SOURCES += fleetd/problems/problems.h fleetd/problems/problems_internal.h fleetd/problems/problems.c fleetd/problems/daemon.h fleetd/problems/daemon.c fleetd/problems/hosts.c fleetd/problems/units.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-problems
TESTS += tests/unit/test-problems
tests_unit_test_problems_SOURCES = tests/unit/test-problems.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_problems_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
EXTRA_DIST += tests/unit/problems
