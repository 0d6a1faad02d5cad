"""Ten thousand clients that wait for one key: how long until all have its change, what each costs, and whether it comes back."""

import statistics
import time

import servers

WATCHERS = 10000
PATH = "/v2/keys/bench/watched"


def one_round(bench, s):
    before = s.memory_kib()[0]
    with servers.Crowd(bench.opts.crowd) as crowd:
        there = crowd("watch", WATCHERS, s.addresses[0], PATH + "?wait=true")[0]
        if there != WATCHERS:
            print("  (%s let %d of them wait)" % (s.name, there))
        parked = s.memory_kib()[0]
        _, half, last, woken = crowd("wake", s.addresses[0], PATH)
        if woken != there:
            print("  (%s notified %d of %d)" % (s.name, woken, there))
        crowd("leave")
        time.sleep(1)
        return half, last, (parked - before) * 1024 / WATCHERS, s.memory_kib()[0] - before


def run(bench):
    with bench.clusters(1, ("--listen-socket=", "--limit-connections=%d" % (WATCHERS + 100))) as both:
        print("\n%d clients that wait for one key, one put; 1 voter. One process plays all clients, on the same cores" % WATCHERS)
        rows = {s.name: [] for s in both}
        for _ in range(bench.opts.rounds):
            for s in both:
                rows[s.name].append(one_round(bench, s))
        for i, words in enumerate(("half of them have it, ms", "all have it, ms", "memory of each, bytes", "kept 1 s after they left, KiB")):
            series = {name: [r[i] for r in found] for name, found in rows.items()}
            for s in both:
                print("  %-32s %-8s %s %s" % (words, s.name, servers.figures(series[s.name]), servers.ratio(series) if s.name == "fleetd" else ""), flush=True)
