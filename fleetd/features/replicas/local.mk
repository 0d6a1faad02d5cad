FLEETD_UNITY += fleetd/features/replicas/unity.c
FLEETD_SOURCES += fleetd/features/replicas/replicas.h fleetd/features/replicas/replicas.c fleetd/features/replicas/replicas_v1.c

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-replicas
TESTS += tests/unit/test-replicas
tests_unit_test_replicas_SOURCES = tests/unit/test-replicas.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_replicas_LDADD = $(FLEETD_PURE_LIBS)
endif
