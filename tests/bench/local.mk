# make bench: figures, side by side with etcd where it is installed, or with the earlier fleetd in BENCH_BEFORE; as root also those of
# booted hosts. BENCH_ROUNDS and BENCH_SECONDS change how long it takes; BENCH_LAB=no leaves the booted hosts out. BENCH_ROWS="keys leader" picks rows of bench.py.
EXTRA_PROGRAMS += tests/bench/load tests/bench/crowd tests/bench/cost tests/bench/step tests/bench/plan tests/bench/rebalance tests/bench/herd
tests_bench_load_LDADD = base/libbase.a
tests_bench_crowd_LDADD = base/libbase.a
tests_bench_cost_SOURCES = tests/bench/cost.c tests/bench/prices.h tests/bench/prices.c tests/lib/scratch.h tests/lib/scratch.c tests/lib/manual_loop.h tests/lib/manual_loop.c $(FLEETD_CLUSTER_VIEW)
tests_bench_cost_CFLAGS = $(TEST_CFLAGS)
tests_bench_cost_LDADD = $(FLEETD_LIBS) $(CMOCKA_LIBS)
tests_bench_step_SOURCES = tests/bench/step.c tests/lib/rollout_play.h tests/lib/plans.h $(FLEETD_CLUSTER_VIEW)
tests_bench_step_CFLAGS = $(TEST_CFLAGS)
tests_bench_step_LDADD = $(FLEETD_PURE_LIBS)
tests_bench_plan_SOURCES = tests/bench/plan.c $(FLEETD_CLUSTER_VIEW)
tests_bench_plan_CFLAGS = $(TEST_CFLAGS)
tests_bench_plan_LDADD = $(FLEETD_PURE_LIBS)
tests_bench_rebalance_SOURCES = tests/bench/rebalance.c $(FLEETD_CLUSTER_VIEW)
tests_bench_rebalance_CFLAGS = $(TEST_CFLAGS)
tests_bench_rebalance_LDADD = $(FLEETD_PURE_LIBS)
tests_bench_herd_CFLAGS = $(AM_CFLAGS) $(SYSTEMD_CFLAGS)
tests_bench_herd_LDADD = $(FLEETD_LIBS)
EXTRA_DIST += tests/bench/bench.py tests/bench/servers.py tests/bench/row_keys.py tests/bench/row_leader.py tests/bench/row_placements.py tests/bench/row_restart.py \
	tests/bench/row_sizes.py tests/bench/row_snapshot.py tests/bench/row_watchers.py tests/bench/row_turns.py tests/bench/row_idle.py tests/bench/lab.sh tests/bench/herd.py
CLEANFILES += tests/bench/load tests/bench/crowd tests/bench/cost tests/bench/step tests/bench/plan tests/bench/rebalance tests/bench/herd

bench: all tests/bench/load tests/bench/crowd tests/bench/cost tests/bench/step tests/bench/herd
	$(top_srcdir)/tests/bench/bench.py --fleetd=fleetd/fleetd --fleetctl=client/fleetctl --load=tests/bench/load --crowd=tests/bench/crowd --herd=tests/bench/herd
	@echo
	@echo 'Cost of entries, and processor time at the limit'
	@tests/bench/cost
	@echo
	@echo 'A step of a rollout'
	@tests/bench/step
	@echo
	@if [ "$$(id -u)" = 0 ] && [ "$${BENCH_LAB:-yes}" = yes ]; then LAB_BUILD=$(abs_top_builddir) $(top_srcdir)/tests/bench/lab.sh; \
	else echo "Booted hosts: left out (as root, and without BENCH_LAB=no)."; fi

# Attached hosts with real sessions: HERD_HOSTS of them (10000), and HERD_UNITS units (100000). As root in network namespaces. Takes six minutes.
bench-herd: all tests/bench/herd tests/unit/test-liveness_model
	$(top_srcdir)/tests/bench/herd.py --fleetd=fleetd/fleetd --fleetctl=client/fleetctl --herd=tests/bench/herd --model=tests/unit/test-liveness_model
.PHONY: bench bench-herd
