FLEETD_UNITY += fleetd/systemd/unity.c
FLEETD_SOURCES += fleetd/systemd/systemd.h fleetd/systemd/owner.c fleetd/systemd/reason.c fleetd/systemd/trace.h fleetd/systemd/trace.c \
	fleetd/systemd/runtime_dir.h fleetd/systemd/runtime_dir.c fleetd/systemd/guard.h fleetd/systemd/guard.c fleetd/systemd/drop_in.h fleetd/systemd/drop_in.c fleetd/systemd/bus.h fleetd/systemd/bus.c \
	fleetd/systemd/bus_internal.h fleetd/systemd/signals.c fleetd/systemd/job.c fleetd/systemd/transient.h fleetd/systemd/transient.c \
	fleetd/systemd/manager.c fleetd/systemd/bus_poll.h fleetd/systemd/bus_poll.c fleetd/systemd/logind.h fleetd/systemd/logind.c

if HAVE_CMOCKA
FLEETD_SYSTEMD_TESTS = tests/unit/test-systemd_bus tests/unit/test-runtime_dir tests/unit/test-guard
check_PROGRAMS += $(FLEETD_SYSTEMD_TESTS)
TESTS += $(FLEETD_SYSTEMD_TESTS)
tests_unit_test_systemd_bus_SOURCES = tests/unit/test-systemd_bus.c tests/lib/fake_bus.h tests/lib/fake_bus.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_systemd_bus_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_systemd_bus_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_runtime_dir_SOURCES = tests/unit/test-runtime_dir.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_runtime_dir_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=space_at
tests_unit_test_runtime_dir_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_guard_SOURCES = tests/unit/test-guard.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_guard_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
