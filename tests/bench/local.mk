# make bench: figures, side by side with etcd where it is installed. BENCH_ROUNDS and BENCH_SECONDS change how long it takes.
EXTRA_PROGRAMS += tests/bench/load
tests_bench_load_LDADD = base/libbase.a
EXTRA_DIST += tests/bench/bench.py
CLEANFILES += tests/bench/load

bench: fleetd/fleetd client/fleetctl tests/bench/load
	$(top_srcdir)/tests/bench/bench.py --fleetd=fleetd/fleetd --fleetctl=client/fleetctl --load=tests/bench/load
.PHONY: bench
