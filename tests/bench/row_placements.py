"""Placements a second: units that are submitted to three voters, until each of them is assigned to a host."""

import os
import tempfile
import time

import herd
import servers

HOSTS = 50
UNITS = 1000


def placements(cluster, hosts):
    """The rate, from the first request until the last assignment is committed."""
    hosts("mark")
    hosts.start(0)
    cluster.until("all machines are up", lambda: cluster.machines("up") >= HOSTS, 120)
    time.sleep(2)
    leader = cluster.leader()
    begun = time.monotonic()
    herd.units(cluster, UNITS)
    submitted = time.monotonic()
    cluster.until("all units are assigned", lambda: cluster.figures(leader, "fleet_engine_task_count_total").get('type="attemptscheduleunit"', 0) >= UNITS, 60, 0.01)
    return UNITS / (time.monotonic() - begun), UNITS / (submitted - begun)


def run(bench):
    print("\nPlacements: %d units on %d hosts, submitted until assigned, committed by 3 voters (min median max of %d)" % (UNITS, HOSTS, bench.opts.rounds))
    rates = []
    for _ in range(bench.opts.rounds):
        with tempfile.TemporaryDirectory(dir=bench.scratch) as folder:
            cluster = herd.Replicas(folder, 3, bench.opts.fleetd)
            try:
                with herd.Herds(bench.opts.herd, os.path.join(cluster.folder, "key"), HOSTS, False) as hosts:
                    for i, peer in enumerate(cluster.peers):
                        hosts("replica", ("%02x" % (i + 1)) * 16, peer)
                    rates.append(placements(cluster, hosts))
                cluster.stop()
            finally:
                cluster.kill()
    for words, row in (("units placed a second", 0), ("units submitted a second", 1)):
        print("  %-58s %s" % (words, servers.figures([r[row] for r in rates])))
    print("  kube-scheduler's own floors, which include its API and its store: 680 pods/s at 10,000 pods and 810 at 50,000, 5,000 nodes;\n"
          "  with spread over zones 460 (hard) and 340 (soft)")
