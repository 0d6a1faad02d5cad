# libraft and what makes it safe. Link libraftcore.a, then $(RAFT_LIBS); the log also needs io/libio.a.
noinst_LIBRARIES += kvstore/raft/libraftcore.a
kvstore_raft_libraftcore_a_SOURCES = \
	kvstore/raft/core.h kvstore/raft/core_inputs.c kvstore/raft/core_step.c kvstore/raft/core_internal.h kvstore/raft/core_start.c \
	kvstore/raft/core_receive.c kvstore/raft/membership_change.c \
	kvstore/raft/configuration.c kvstore/raft/entries.h kvstore/raft/entries.c \
	kvstore/raft/log.h kvstore/raft/log.c kvstore/raft/log_files.h kvstore/raft/log_files.c \
	kvstore/raft/message.h kvstore/raft/message.c

# The core under faults: see tests/sim/test-raft-core.c.
check_PROGRAMS += tests/sim/test-raft-core
TESTS += tests/sim/test-raft-core
tests_sim_test_raft_core_SOURCES = \
	tests/sim/test-raft-core.c tests/sim/raft_world.h tests/sim/raft_world.c tests/sim/raft_ops.c tests/sim/raft_faults.c tests/sim/raft_checks.c \
	tests/lib/raft_rules.h tests/lib/raft_rules.c
tests_sim_test_raft_core_LDADD = kvstore/raft/libraftcore.a $(RAFT_LIBS) base/libbase.a

if HAVE_CMOCKA
RAFT_TEST_LIBS = kvstore/raft/libraftcore.a $(RAFT_LIBS) io/libio.a base/libbase.a $(IO_LIBS) $(CMOCKA_LIBS)

check_PROGRAMS += tests/unit/test-raft_message
TESTS += tests/unit/test-raft_message
tests_unit_test_raft_message_SOURCES = tests/unit/test-raft_message.c tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_raft_message_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_raft_message_LDADD = $(RAFT_TEST_LIBS)

check_PROGRAMS += tests/unit/test-raft_core
TESTS += tests/unit/test-raft_core
tests_unit_test_raft_core_SOURCES = tests/unit/test-raft_core.c tests/lib/raft_rules.h tests/lib/raft_rules.c tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_raft_core_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_raft_core_LDADD = $(RAFT_TEST_LIBS)

check_PROGRAMS += tests/unit/test-raft_configuration
TESTS += tests/unit/test-raft_configuration
tests_unit_test_raft_configuration_SOURCES = tests/unit/test-raft_configuration.c tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_raft_configuration_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_raft_configuration_LDADD = $(RAFT_TEST_LIBS)

check_PROGRAMS += tests/unit/test-raft_log
TESTS += tests/unit/test-raft_log
tests_unit_test_raft_log_SOURCES = \
	tests/unit/test-raft_log.c tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/memory_disk.h tests/lib/memory_disk.c tests/lib/scratch.h tests/lib/scratch.c \
	tests/lib/alloc.h tests/lib/alloc.c
tests_unit_test_raft_log_LDFLAGS = $(FAILING_ALLOCATIONS)
tests_unit_test_raft_log_LDADD = $(RAFT_TEST_LIBS)

check_PROGRAMS += tests/unit/test-raft_log_format
TESTS += tests/unit/test-raft_log_format
tests_unit_test_raft_log_format_SOURCES = \
	tests/unit/test-raft_log_format.c tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/memory_disk.h tests/lib/memory_disk.c
tests_unit_test_raft_log_format_LDADD = $(RAFT_TEST_LIBS)
endif

FUZZERS += tests/fuzz/fuzz-raft_message tests/fuzz/fuzz-raft_log tests/fuzz/fuzz-raft_core
tests_fuzz_fuzz_raft_core_SOURCES = tests/fuzz/raft_core.c tests/fuzz/standalone.c
tests_fuzz_fuzz_raft_core_LDADD = kvstore/raft/libraftcore.a $(RAFT_LIBS) base/libbase.a
tests_fuzz_fuzz_raft_message_SOURCES = tests/fuzz/raft_message.c tests/fuzz/standalone.c
tests_fuzz_fuzz_raft_message_LDADD = kvstore/raft/libraftcore.a base/libbase.a
tests_fuzz_fuzz_raft_log_SOURCES = tests/fuzz/raft_log.c tests/fuzz/standalone.c tests/lib/manual_loop.h tests/lib/manual_loop.c tests/lib/memory_disk.h tests/lib/memory_disk.c
tests_fuzz_fuzz_raft_log_LDADD = kvstore/raft/libraftcore.a io/libio.a base/libbase.a
EXTRA_DIST += tests/sim/test-raft-core.sh tests/lib/commands.h tests/lib/raft_names.h tests/lib/replica_states.h
