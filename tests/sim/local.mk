# What the simulations share, compiled once. Each program takes of it what it uses.
check_LIBRARIES += tests/sim/libsim.a
tests_sim_libsim_a_SOURCES = \
	tests/sim/world.h tests/sim/world.c tests/sim/net.h tests/sim/net.c tests/sim/systemd.h tests/sim/systemd_internal.h tests/sim/systemd.c tests/sim/dependencies.c tests/sim/logind.h tests/sim/logind.c tests/sim/prober.h tests/sim/prober.c tests/sim/service_files.h tests/sim/service_files.c tests/sim/input_files.h tests/sim/input_files.c \
	tests/lib/memory_disk.h tests/lib/memory_disk.c tests/lib/torn_write.h \
	tests/sim/seeds.h tests/sim/seeds.c tests/sim/scenarios.h tests/sim/scenarios.c tests/sim/shrink.h tests/sim/shrink.c \
	tests/sim/asking.h tests/sim/asking.c tests/sim/history.h tests/sim/history.c tests/sim/watchers.h tests/sim/watchers.c \
	tests/sim/cluster.h tests/sim/cluster.c tests/sim/invariants.c tests/sim/slices.c tests/sim/services.h tests/sim/services.c tests/sim/reached.h tests/sim/reached.c tests/sim/drains.h tests/sim/drains.c tests/sim/rollouts.h tests/sim/rollouts.c tests/sim/replicas.h tests/sim/replicas.c tests/sim/contents.h tests/sim/contents.c tests/sim/load.h tests/sim/load.c \
	tests/sim/stores.h tests/sim/stores.c tests/sim/store_members.c tests/sim/store_faults.c tests/sim/store_corruption.c \
	tests/sim/wire.h tests/sim/wire.c tests/sim/play.h tests/sim/worlds.h tests/sim/until.h \
	tests/lib/size.h tests/lib/scratch.h tests/lib/scratch.c tests/lib/fake_sealer.h tests/lib/fake_sealer.c
SIM_DAEMONS = tests/sim/libsim.a $(FLEETD_LIBS)
SIM_STORES = tests/sim/libsim.a $(KVSTORE_LIBS)
# A host that the test plays, beside whole daemons.
SIM_GUEST = tests/sim/guest.h tests/sim/guest.c
# Replaces calls of libc in the whole program: not for programs that want no such faults.
SIM_FAULTS = tests/sim/data_dir_faults.h tests/sim/data_dir_faults.c

# make check runs a few seeds of each; ./check --full runs many of some (test-*.sh).
check_PROGRAMS += $(SIM_TESTS)
TESTS += $(SIM_TESTS)
SIM_TESTS = tests/sim/test-cluster tests/sim/test-singleton tests/sim/test-jobs tests/sim/test-health tests/sim/test-old_image tests/sim/test-lineage tests/sim/test-lost tests/sim/test-reboots tests/sim/test-budget tests/sim/test-restart tests/sim/test-sticky tests/sim/test-directory tests/sim/test-members tests/sim/test-migrate tests/sim/test-join tests/sim/test-attach tests/sim/test-sizes tests/sim/test-overload tests/sim/test-reporting tests/sim/test-kinds tests/sim/test-rotate tests/sim/test-rejoin tests/sim/test-verbs tests/sim/test-frames tests/sim/test-shares tests/sim/test-level \
	tests/sim/test-stores tests/sim/test-time tests/sim/test-outcome tests/sim/test-rebuild tests/sim/test-corruption tests/sim/test-transfer tests/sim/test-replica tests/sim/test-transitions

tests_sim_test_cluster_SOURCES = tests/sim/test-cluster.c tests/sim/cluster_faults.h tests/sim/cluster_faults.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_cluster_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=cluster_put
tests_sim_test_cluster_LDADD = $(SIM_DAEMONS)
tests_sim_test_old_image_LDADD = $(SIM_DAEMONS)
tests_sim_test_lineage_LDADD = $(SIM_DAEMONS)
tests_sim_test_lost_LDADD = $(SIM_DAEMONS)
tests_sim_test_jobs_LDADD = $(SIM_DAEMONS)
tests_sim_test_restart_LDADD = $(SIM_DAEMONS)
tests_sim_test_sticky_LDADD = $(SIM_DAEMONS)
tests_sim_test_directory_LDADD = $(SIM_DAEMONS)
tests_sim_test_budget_LDADD = $(SIM_DAEMONS)
tests_sim_test_reboots_LDADD = $(SIM_DAEMONS)
tests_sim_test_singleton_LDADD = $(SIM_DAEMONS)
tests_sim_test_level_LDADD = $(SIM_DAEMONS)
tests_sim_test_health_LDADD = $(SIM_DAEMONS)
tests_sim_test_members_LDADD = $(SIM_DAEMONS)
tests_sim_test_attach_SOURCES = tests/sim/test-attach.c tests/sim/attached.h tests/sim/attached.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_attach_LDADD = $(SIM_DAEMONS)
tests_sim_test_sizes_SOURCES = tests/sim/test-sizes.c tests/sim/attached.h tests/sim/attached.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_sizes_LDADD = $(SIM_DAEMONS)
tests_sim_test_overload_SOURCES = tests/sim/test-overload.c tests/sim/attached.h tests/sim/attached.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_overload_LDADD = $(SIM_DAEMONS)
tests_sim_test_kinds_SOURCES = tests/sim/test-kinds.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_kinds_LDADD = $(SIM_DAEMONS)
tests_sim_test_reporting_SOURCES = tests/sim/test-reporting.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_reporting_LDADD = $(SIM_DAEMONS)
tests_sim_test_join_SOURCES = tests/sim/test-join.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_join_LDADD = $(SIM_DAEMONS)
tests_sim_test_rotate_SOURCES = tests/sim/test-rotate.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_rotate_LDADD = $(SIM_DAEMONS)
tests_sim_test_frames_SOURCES = tests/sim/test-frames.c $(SIM_GUEST) tests/sim/attached.h tests/sim/attached.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_frames_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=peer_reply
tests_sim_test_frames_LDADD = $(SIM_DAEMONS)
tests_sim_test_shares_SOURCES = tests/sim/test-shares.c tests/search/work.h tests/search/work.c $(SIM_GUEST) tests/sim/attached.h tests/sim/attached.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_shares_CFLAGS = $(TEST_CFLAGS) $(LMDB_CFLAGS)
tests_sim_test_shares_LDFLAGS = $(AM_LDFLAGS) $(WORK_WRAP) -Wl,--wrap=peer_reply,--wrap=child_spawn,--wrap=child_stop,--wrap=child_kill,--wrap=child_pause
tests_sim_test_shares_LDADD = $(SIM_DAEMONS)
tests_sim_test_rejoin_SOURCES = tests/sim/test-rejoin.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_rejoin_LDADD = $(SIM_DAEMONS)
tests_sim_test_verbs_SOURCES = tests/sim/test-verbs.c tests/sim/tokens.h tests/sim/tokens.c
tests_sim_test_verbs_LDADD = $(SIM_DAEMONS)
tests_sim_test_migrate_LDADD = $(SIM_DAEMONS)

tests_sim_test_stores_SOURCES = tests/sim/test-stores.c tests/sim/store_clients.h tests/sim/store_clients.c $(SIM_FAULTS)
tests_sim_test_stores_LDADD = $(SIM_STORES)
tests_sim_test_time_SOURCES = tests/sim/test-time.c $(SIM_FAULTS)
tests_sim_test_time_LDADD = $(SIM_STORES)
tests_sim_test_outcome_SOURCES = tests/sim/test-outcome.c $(SIM_FAULTS)
tests_sim_test_outcome_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=raft_core_entry
tests_sim_test_outcome_LDADD = $(SIM_STORES)
tests_sim_test_rebuild_SOURCES = tests/sim/test-rebuild.c $(SIM_FAULTS)
tests_sim_test_rebuild_LDADD = $(SIM_STORES)
tests_sim_test_corruption_SOURCES = tests/sim/test-corruption.c $(SIM_FAULTS)
tests_sim_test_corruption_LDADD = $(SIM_STORES)

# Calls that tests/sim/wire.c observes and changes.
WIRE_WRAP = -Wl,--wrap=replica_send -Wl,--wrap=replica_answer -Wl,--wrap=replica_send_message -Wl,--wrap=data_dir_space -Wl,--wrap=replica_reopen
tests_sim_test_transfer_SOURCES = tests/sim/test-transfer.c $(SIM_FAULTS)
tests_sim_test_transfer_LDFLAGS = $(AM_LDFLAGS) $(WIRE_WRAP)
tests_sim_test_transfer_LDADD = $(SIM_STORES)
tests_sim_test_replica_SOURCES = tests/sim/test-replica.c $(SIM_FAULTS)
tests_sim_test_replica_LDFLAGS = $(AM_LDFLAGS) $(WIRE_WRAP)
tests_sim_test_replica_LDADD = $(SIM_STORES)

EXTRA_DIST += tests/sim/test-attached.sh tests/sim/test-singleton.sh tests/sim/test-stores.sh

# Each transition of a replica's state.
tests_sim_test_transitions_SOURCES = tests/sim/test-transitions.c $(SIM_FAULTS)
tests_sim_test_transitions_LDFLAGS = $(AM_LDFLAGS) $(WIRE_WRAP) -Wl,--wrap=replica_move -Wl,--wrap=raft_core_start
tests_sim_test_transitions_LDADD = $(SIM_STORES)
