# libraft and what makes it safe. Link libraftcore.a, then $(RAFT_LIBS); the log needs io/libio.a besides.
noinst_LIBRARIES += kvstore/raft/libraftcore.a
kvstore_raft_libraftcore_a_SOURCES = \
	kvstore/raft/core.h kvstore/raft/core.c kvstore/raft/core_internal.h kvstore/raft/rules.c kvstore/raft/change.c \
	kvstore/raft/configuration.c kvstore/raft/entries.h kvstore/raft/entries.c \
	kvstore/raft/log.h kvstore/raft/log.c kvstore/raft/log_files.h kvstore/raft/log_files.c \
	kvstore/raft/message.h kvstore/raft/message.c

# The core under faults: see tests/sim/test-raft-core.c.
check_PROGRAMS += tests/sim/test-raft-core
TESTS += tests/sim/test-raft-core
tests_sim_test_raft_core_SOURCES = \
	tests/sim/test-raft-core.c tests/sim/raft_world.h tests/sim/raft_world.c tests/sim/raft_faults.c tests/sim/raft_checks.c
tests_sim_test_raft_core_LDADD = kvstore/raft/libraftcore.a $(RAFT_LIBS) base/libbase.a
