FLEETD_UNITY += fleetd/features/health/unity.c
FLEETD_SOURCES += fleetd/features/health/health.h fleetd/features/health/health.c fleetd/features/health/checks.h fleetd/features/health/checks.c fleetd/features/health/probe.h fleetd/features/health/probe.c

if HAVE_CMOCKA
FLEETD_HEALTH_TESTS = tests/unit/test-health tests/unit/test-checks tests/unit/test-probe
check_PROGRAMS += $(FLEETD_HEALTH_TESTS)
TESTS += $(FLEETD_HEALTH_TESTS)
tests_unit_test_health_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_checks_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_probe_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=getifaddrs
tests_unit_test_probe_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
