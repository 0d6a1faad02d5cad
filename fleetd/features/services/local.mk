FLEETD_UNITY += fleetd/features/services/unity.c
FLEETD_SOURCES += fleetd/features/services/services_internal.h fleetd/features/services/services.c fleetd/features/services/endpoints.h fleetd/features/services/endpoints.c \
	fleetd/features/services/files.h fleetd/features/services/files.c fleetd/features/services/folder.c fleetd/features/services/stage.c fleetd/features/services/ports.h fleetd/features/services/ports.c \
	fleetd/features/services/port_prober.h fleetd/features/services/port_prober.c fleetd/features/services/services_v1.c

if HAVE_CMOCKA
FLEETD_SERVICES_TESTS = tests/unit/test-services tests/unit/test-ports tests/unit/test-agent_ports
check_PROGRAMS += $(FLEETD_SERVICES_TESTS)
TESTS += $(FLEETD_SERVICES_TESTS)
tests_unit_test_services_SOURCES = tests/unit/test-services.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_services_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_services_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_ports_SOURCES = tests/unit/test-ports.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_ports_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_ports_SOURCES = tests/unit/test-agent_ports.c $(AGENT_FIXTURE)
tests_unit_test_agent_ports_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS) -Wl,--wrap=names_have
tests_unit_test_agent_ports_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
