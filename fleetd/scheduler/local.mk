FLEETD_UNITY += fleetd/scheduler/unity.c
FLEETD_SOURCES += fleetd/scheduler/scheduler.h fleetd/scheduler/scheduler.c fleetd/scheduler/explain.c fleetd/scheduler/view.h \
	fleetd/scheduler/filters.h fleetd/scheduler/filters.c fleetd/scheduler/scores.h fleetd/scheduler/scores.c \
	fleetd/scheduler/view_internal.h
FLEETD_ALONE_SOURCES += fleetd/scheduler/view.c fleetd/scheduler/siblings.c

if HAVE_CMOCKA
FLEETD_SCHEDULER_TESTS = tests/unit/test-scheduler tests/unit/test-sizes
check_PROGRAMS += $(FLEETD_SCHEDULER_TESTS)
TESTS += $(FLEETD_SCHEDULER_TESTS)
tests_unit_test_scheduler_SOURCES = tests/unit/test-scheduler.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_sizes_SOURCES = tests/unit/test-sizes.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_sizes_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_scheduler_LDADD = $(FLEETD_PURE_LIBS)
endif
