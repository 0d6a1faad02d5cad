# Tests of many components at once under faults: crashes, failing calls, failing allocations. The others are listed in the local.mk of their folders.
if HAVE_CMOCKA
FAULT_TESTS = tests/unit/test-fault_points tests/unit/test-power_cut tests/unit/test-memory tests/unit/test-calls \
	tests/unit/test-properties tests/unit/test-disk_memory
check_PROGRAMS += $(FAULT_TESTS)
TESTS += $(FAULT_TESTS)

tests_unit_test_fault_points_SOURCES = tests/unit/test-fault_points.c tests/lib/tree_file.h tests/lib/tree_file.c tests/lib/three_hosts.h tests/lib/three_hosts.c \
	tests/lib/fake_bus.h tests/lib/fake_bus.c $(FLEETD_HOST)
tests_unit_test_fault_points_CFLAGS = $(TEST_CFLAGS) $(SYSTEMD_CFLAGS)
tests_unit_test_fault_points_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_power_cut_SOURCES = tests/unit/test-power_cut.c tests/lib/tree_file.h tests/lib/tree_file.c tests/lib/power.h tests/lib/power_internal.h tests/lib/power.c tests/lib/power_calls.c tests/lib/torn_write.h tests/lib/three_hosts.h tests/lib/three_hosts.c \
	tests/lib/scratch.h tests/lib/scratch.c
tests_unit_test_power_cut_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_memory_SOURCES = tests/unit/test-memory.c tests/unit/memory.h tests/unit/memory_daemon.c \
	tests/lib/alloc.h tests/lib/alloc.c tests/lib/alloc_spared.h tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/scan_folder.h tests/lib/scratch.h tests/lib/scratch.c $(FLEETD_CLUSTER_VIEW) \
	tests/sim/cluster.h tests/sim/cluster.c tests/sim/invariants.c tests/sim/slices.c tests/sim/drains.h tests/sim/reached.c tests/sim/drains.c tests/sim/rollouts.h tests/sim/rollouts.c tests/sim/replicas.h tests/sim/replicas.c tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c \
	tests/lib/memory_disk.h tests/lib/memory_disk.c tests/sim/systemd.h tests/sim/systemd_internal.h tests/sim/systemd.c tests/sim/dependencies.c tests/sim/logind.c tests/sim/prober.h tests/sim/prober.c tests/sim/service_files.h tests/sim/service_files.c tests/sim/services.h tests/sim/services.c tests/sim/contents.h tests/sim/contents.c tests/sim/input_files.h tests/sim/input_files.c tests/lib/fake_sealer.h tests/lib/fake_sealer.c
tests_unit_test_memory_CFLAGS = $(TEST_CFLAGS) -include tests/lib/alloc_spared.h
tests_unit_test_memory_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_memory_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_calls_SOURCES = tests/unit/test-calls.c tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/calls.h tests/lib/calls.c tests/lib/three_hosts.h tests/lib/three_hosts.c $(FLEETD_HOST)
tests_unit_test_calls_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_disk_memory_SOURCES = tests/unit/test-disk_memory.c tests/lib/alloc.h tests/lib/alloc.c $(FLEETD_HOST)
tests_unit_test_disk_memory_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_disk_memory_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)

tests_unit_test_properties_SOURCES = tests/unit/test-properties.c $(FLEETD_CLUSTER_VIEW)
tests_unit_test_properties_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
endif
