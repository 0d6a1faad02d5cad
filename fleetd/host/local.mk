FLEETD_UNITY += fleetd/host/unity.c
FLEETD_SOURCES += fleetd/host/settings.h fleetd/host/settings.c fleetd/host/settings_check.c fleetd/host/limits.h fleetd/host/limits.c \
	fleetd/host/capacity.h fleetd/host/capacity.c fleetd/host/sealer.h fleetd/host/sealer.c fleetd/host/host.h fleetd/host/host.c fleetd/host/component.h

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test-settings tests/unit/test-capacity
TESTS += tests/unit/test-settings tests/unit/test-capacity
tests_unit_test_capacity_SOURCES = tests/unit/test-capacity.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_capacity_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_settings_SOURCES = tests/unit/test-settings.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_settings_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
