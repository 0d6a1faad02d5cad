FLEETD_UNITY += fleetd/metrics/unity.c
FLEETD_SOURCES += fleetd/metrics/writer.h fleetd/metrics/writer.c fleetd/metrics/process.h fleetd/metrics/process.c fleetd/metrics/scrape.h \
	fleetd/metrics/scrape.c fleetd/metrics/units.h fleetd/metrics/units.c

if HAVE_CMOCKA
FLEETD_METRICS_TESTS = tests/unit/test-metrics
check_PROGRAMS += $(FLEETD_METRICS_TESTS)
TESTS += $(FLEETD_METRICS_TESTS)
tests_unit_test_metrics_SOURCES = tests/unit/test-metrics.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_metrics_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
