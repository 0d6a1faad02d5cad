"""Three idle voters: wake-ups, processor, memory and disk of each."""

import time

import servers

QUIET_SEC = 5


def run(bench):
    seconds = max(10, 5 * bench.opts.seconds)
    with bench.clusters(3) as both:
        time.sleep(QUIET_SEC)
        print("\n3 voters, idle for %d s after 1000 keys: min median max of the three" % seconds)
        before = {s.name: s.effort() for s in both}
        time.sleep(seconds)
        rows = {s.name: [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before[s.name], s.effort())] for s in both}
        for words, series in (
                ("wake-ups/s", {n: [w / seconds for w, _ in found] for n, found in rows.items()}),
                ("processor, 1/1000 of a core", {n: [ns / seconds / 1e6 for _, ns in found] for n, found in rows.items()}),
                ("memory, KiB resident", {s.name: s.memory_kib() for s in both}),
                ("disk, KiB", {s.name: s.disk_kib() for s in both})):
            for s in both:
                print("  %-32s %-8s %s %s" % (words, s.name, servers.figures(series[s.name], "%8.1f"), servers.ratio(series) if s.name == "fleetd" else ""), flush=True)
