# Tests of many rooms at once under faults: crashes, failing calls, failing allocations. All others stand with their rooms.
if HAVE_CMOCKA
FAULT_TESTS = tests/unit/test-crash_points
check_PROGRAMS += $(FAULT_TESTS)
TESTS += $(FAULT_TESTS)

tests_unit_test_crash_points_SOURCES = tests/unit/test-crash_points.c tests/lib/trio.h tests/lib/trio.c \
	tests/lib/fake_bus.h tests/lib/fake_bus.c $(FLEETD_HOST)
tests_unit_test_crash_points_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_crash_points_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
