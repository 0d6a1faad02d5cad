FLEETD_UNITY += fleetd/features/usage/unity.c
FLEETD_SOURCES += fleetd/features/usage/usage.h fleetd/features/usage/usage.c

if HAVE_CMOCKA
FLEETD_USAGE_TESTS = tests/unit/test-usage_lines
check_PROGRAMS += $(FLEETD_USAGE_TESTS)
TESTS += $(FLEETD_USAGE_TESTS)
tests_unit_test_usage_lines_SOURCES = tests/unit/test-usage_lines.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_usage_lines_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
