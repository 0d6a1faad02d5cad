FLEETD_UNITY += fleetd/agent/unity.c
FLEETD_SOURCES += fleetd/agent/agent.h fleetd/agent/agent.c fleetd/agent/agent_internal.h fleetd/agent/states.c fleetd/agent/calls.c fleetd/agent/refresh.c fleetd/agent/execute.c \
	fleetd/agent/record_updates.c fleetd/agent/observed.c fleetd/agent/next_step.c fleetd/agent/duties.c fleetd/agent/lease.c fleetd/agent/partition.c fleetd/agent/texts.c \
	fleetd/agent/unit_health.c \
	fleetd/agent/plan.h fleetd/agent/plan.c fleetd/agent/records.h fleetd/agent/records.c fleetd/agent/publish.h fleetd/agent/publish.c \
	fleetd/agent/facts.h fleetd/agent/facts.c fleetd/agent/inhibitor.c fleetd/agent/hand_over.h fleetd/agent/hand_over.c

if HAVE_CMOCKA
FLEETD_AGENT_TESTS = tests/unit/test-agent_plan tests/unit/test-records \
	tests/unit/test-publish tests/unit/test-agent tests/unit/test-agent_cost tests/unit/test-agent_times tests/unit/test-agent_health \
	tests/unit/test-agent_effects tests/unit/test-agent_calls tests/unit/test-agent_completed tests/unit/test-agent_texts tests/unit/test-agent_memory \
	tests/unit/test-facts tests/unit/test-inhibitor tests/unit/test-agent_lease
check_PROGRAMS += $(FLEETD_AGENT_TESTS)
TESTS += $(FLEETD_AGENT_TESTS)
tests_unit_test_agent_plan_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_records_SOURCES = tests/unit/test-records.c tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_records_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=mkdirat,--wrap=fsync_dir,--wrap=fdopendir,--wrap=linkat,--wrap=pthread_mutex_lock
tests_unit_test_records_LDADD = $(FLEETD_PURE_LIBS)
tests_unit_test_publish_SOURCES = tests/unit/test-publish.c $(SIDE_BY_SIDE) $(FLEETD_HOST)
tests_unit_test_publish_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=timer_start_by,--wrap=registry_publish,--wrap=registry_endpoint_wait_ms
tests_unit_test_publish_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_SOURCES = tests/unit/test-agent.c tests/lib/fake_bus.h tests/lib/fake_bus.c tests/lib/alloc.h tests/lib/alloc.c $(SIDE_BY_SIDE) \
	$(LEADER) $(FLEETD_HOST)
tests_unit_test_agent_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_agent_LDFLAGS = $(FAILING_ALLOCATIONS) $(LEADER_WRAPS)
tests_unit_test_agent_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_cost_SOURCES = tests/unit/test-agent_cost.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_cost_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_cost_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_times_SOURCES = tests/unit/test-agent_times.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_times_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS) -Wl,--wrap=registry_report,--wrap=registry_publish
tests_unit_test_agent_times_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_health_SOURCES = tests/unit/test-agent_health.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_health_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_health_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_effects_SOURCES = tests/unit/test-agent_effects.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_effects_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_effects_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_calls_SOURCES = tests/unit/test-agent_calls.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_calls_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_calls_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_completed_SOURCES = tests/unit/test-agent_completed.c $(SIDE_BY_SIDE) $(AGENT_FIXTURE)
tests_unit_test_agent_completed_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_completed_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_texts_SOURCES = tests/unit/test-agent_texts.c $(AGENT_FIXTURE)
tests_unit_test_agent_texts_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_texts_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_memory_SOURCES = tests/unit/test-agent_memory.c tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h tests/sim/systemd.h \
	tests/sim/systemd_internal.h tests/sim/systemd.c tests/sim/dependencies.c tests/sim/prober.h tests/sim/prober.c tests/sim/world.h tests/sim/world.c \
	tests/lib/memory_disk.h tests/lib/memory_disk.c tests/lib/torn_write.h $(AGENT_FIXTURE)
tests_unit_test_agent_memory_CFLAGS = $(TEST_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_agent_memory_LDFLAGS = $(FAILING_ALLOCATIONS) $(LEADER_WRAPS)
tests_unit_test_agent_memory_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_facts_SOURCES = tests/unit/test-facts.c $(LEADER) $(FLEETD_HOST)
tests_unit_test_facts_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS) -Wl,--wrap=registry_publish_facts,--wrap=registry_observe,--wrap=loop_defer \
	-Wl,--wrap=getifaddrs,--wrap=freeifaddrs
tests_unit_test_facts_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_inhibitor_SOURCES = tests/unit/test-inhibitor.c tests/lib/fake_bus.h tests/lib/fake_bus.c $(LEADER) $(FLEETD_HOST)
tests_unit_test_inhibitor_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_inhibitor_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS) -Wl,--wrap=registry_withdraw
tests_unit_test_inhibitor_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_unit_test_agent_lease_SOURCES = tests/unit/test-agent_lease.c $(AGENT_FIXTURE)
tests_unit_test_agent_lease_LDFLAGS = $(AM_LDFLAGS) $(LEADER_WRAPS)
tests_unit_test_agent_lease_LDADD = tests/sim/libsim.a $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
