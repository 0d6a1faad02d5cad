# Whole daemons in virtual time: see tests/sim/test-cluster.c.
check_PROGRAMS += tests/sim/test-cluster
tests_sim_test_cluster_SOURCES = \
	tests/sim/test-cluster.c tests/sim/cluster.h tests/sim/cluster.c tests/sim/invariants.c \
	tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/sim/systemd.h tests/sim/systemd.c tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_cluster_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=cluster_put
tests_sim_test_cluster_LDADD = $(FLEETD_LIBS)

# One host set back to an earlier day: see tests/sim/test-old_image.c.
check_PROGRAMS += tests/sim/test-old_image
TESTS += tests/sim/test-old_image
tests_sim_test_old_image_SOURCES = \
	tests/sim/test-old_image.c tests/sim/seeds.h tests/sim/seeds.c tests/sim/cluster.h tests/sim/cluster.c tests/sim/invariants.c \
	tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/sim/systemd.h tests/sim/systemd.c tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_old_image_LDADD = $(FLEETD_LIBS)

# A recovered cluster and what runs in it: see tests/sim/test-lineage.c.
check_PROGRAMS += tests/sim/test-lineage
TESTS += tests/sim/test-lineage
tests_sim_test_lineage_SOURCES = \
	tests/sim/test-lineage.c tests/sim/seeds.h tests/sim/seeds.c tests/sim/cluster.h tests/sim/cluster.c tests/sim/invariants.c \
	tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/sim/systemd.h tests/sim/systemd.c tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_lineage_LDADD = $(FLEETD_LIBS)

# Which hosts are lost, and when: see tests/sim/test-lost.c.
check_PROGRAMS += tests/sim/test-lost
TESTS += tests/sim/test-lost
tests_sim_test_lost_SOURCES = \
	tests/sim/test-lost.c tests/sim/seeds.h tests/sim/seeds.c tests/sim/cluster.h tests/sim/cluster.c tests/sim/invariants.c \
	tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/sim/systemd.h tests/sim/systemd.c tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_lost_LDADD = $(FLEETD_LIBS)

# The feature level waits for all hosts: see tests/sim/test-level.c.
check_PROGRAMS += tests/sim/test-level
TESTS += tests/sim/test-level
tests_sim_test_level_SOURCES = \
	tests/sim/test-level.c tests/sim/seeds.h tests/sim/seeds.c tests/sim/cluster.h tests/sim/cluster.c tests/sim/invariants.c \
	tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/sim/systemd.h tests/sim/systemd.c tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_level_LDADD = $(FLEETD_LIBS)

# Stores alone, in the same world: see tests/sim/test-stores.c.
check_PROGRAMS += tests/sim/test-stores
TESTS += tests/sim/test-stores
tests_sim_test_stores_SOURCES = \
	tests/sim/test-stores.c tests/sim/stores.h tests/sim/stores.c tests/sim/store_members.c tests/sim/store_faults.c tests/sim/store_corruption.c \
	tests/sim/data_dir_faults.h tests/sim/data_dir_faults.c tests/sim/shrink.h tests/sim/shrink.c tests/sim/history.h tests/sim/history.c \
	tests/sim/watchers.h tests/sim/watchers.c tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_stores_LDADD = $(KVSTORE_LIBS)

# What expires, and when: see tests/sim/test-time.c.
check_PROGRAMS += tests/sim/test-time
TESTS += tests/sim/test-time
tests_sim_test_time_SOURCES = \
	tests/sim/test-time.c tests/sim/scenarios.h tests/sim/scenarios.c tests/sim/seeds.h tests/sim/seeds.c tests/sim/stores.h tests/sim/stores.c tests/sim/store_members.c tests/sim/store_faults.c tests/sim/store_corruption.c \
	tests/sim/data_dir_faults.h tests/sim/data_dir_faults.c \
	tests/sim/watchers.h tests/sim/watchers.c tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_time_LDADD = $(KVSTORE_LIBS)

# Writes whose leader is lost: see tests/sim/test-outcome.c.
check_PROGRAMS += tests/sim/test-outcome
TESTS += tests/sim/test-outcome
tests_sim_test_outcome_SOURCES = \
	tests/sim/test-outcome.c tests/sim/scenarios.h tests/sim/scenarios.c tests/sim/seeds.h tests/sim/seeds.c tests/sim/stores.h tests/sim/stores.c tests/sim/store_members.c tests/sim/store_faults.c tests/sim/store_corruption.c \
	tests/sim/data_dir_faults.h tests/sim/data_dir_faults.c \
	tests/sim/watchers.h tests/sim/watchers.c tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_outcome_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=raft_core_entry
tests_sim_test_outcome_LDADD = $(KVSTORE_LIBS)

# Trees that are wrong, and where they must not get to: see tests/sim/test-corruption.c.
check_PROGRAMS += tests/sim/test-corruption
TESTS += tests/sim/test-corruption
tests_sim_test_corruption_SOURCES = \
	tests/sim/test-corruption.c tests/sim/scenarios.h tests/sim/scenarios.c tests/sim/seeds.h tests/sim/seeds.c tests/sim/stores.h tests/sim/stores.c tests/sim/store_members.c tests/sim/store_faults.c tests/sim/store_corruption.c \
	tests/sim/data_dir_faults.h tests/sim/data_dir_faults.c \
	tests/sim/watchers.h tests/sim/watchers.c tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/lib/scratch.h tests/lib/scratch.c
tests_sim_test_corruption_LDADD = $(KVSTORE_LIBS)
WIRE_FILES = \
	tests/sim/wire.h tests/sim/wire.c tests/sim/scenarios.h tests/sim/scenarios.c tests/sim/seeds.h tests/sim/seeds.c tests/sim/stores.h tests/sim/stores.c tests/sim/store_members.c tests/sim/store_faults.c tests/sim/store_corruption.c \
	tests/sim/data_dir_faults.h tests/sim/data_dir_faults.c \
	tests/sim/watchers.h tests/sim/watchers.c tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/disk.h tests/sim/disk.c \
	tests/lib/scratch.h tests/lib/scratch.c
WIRE_WRAP = -Wl,--wrap=replica_send -Wl,--wrap=replica_answer -Wl,--wrap=replica_send_message -Wl,--wrap=data_dir_room -Wl,--wrap=replica_reopen

# Trees on their way, and what is sent again: see tests/sim/test-transfer.c.
check_PROGRAMS += tests/sim/test-transfer
TESTS += tests/sim/test-transfer
tests_sim_test_transfer_SOURCES = tests/sim/test-transfer.c $(WIRE_FILES)
tests_sim_test_transfer_LDFLAGS = $(AM_LDFLAGS) $(WIRE_WRAP)
tests_sim_test_transfer_LDADD = $(KVSTORE_LIBS)

# When a replica asks and tries again: see tests/sim/test-replica.c.
check_PROGRAMS += tests/sim/test-replica
TESTS += tests/sim/test-replica
tests_sim_test_replica_SOURCES = tests/sim/test-replica.c $(WIRE_FILES)
tests_sim_test_replica_LDFLAGS = $(AM_LDFLAGS) $(WIRE_WRAP)
tests_sim_test_replica_LDADD = $(KVSTORE_LIBS)

EXTRA_DIST += tests/sim/test-stores.sh
