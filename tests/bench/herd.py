#!/usr/bin/env python3
"""10,000 attached hosts with real sessions (HERD_HOSTS; 1000 by default), and three replicas on this machine.

As root, the hosts are in ten network namespaces, so that a link that is set down is a power cut with a silent kernel; otherwise on
loopback, without that part. Sessions are authenticated by a key file. Fails if a figure is above its limit: for times the limit of the
contract, for processor time and memory twice the value that was derived. Other processes on the machine raise wall-clock figures."""

import argparse
import json
import os
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import servers

PLACES = 10
UNITS_ATTEMPTS = 10
RESERVED = 600  # descriptors of a process beyond two sessions of each host
NETWORK = "10.98.0"
HEARTBEAT_US = 10  # of a message on a session, in the daemon: receive, decrypt, count, answer
SESSION_BYTES = 24 * 1024
MESSAGES = 2.5  # of a host in a second, on both sessions

failed = []


def row(text, value, limit=None, unit="", form="%.1f"):
    line = "  %-62s " % text + form % value + unit
    if limit is not None:
        line += "   (limit " + form % limit + unit + ")"
        if value > limit:
            line += "   ABOVE"
            failed.append(text)
    print(line, flush=True)


def ip(*words):
    subprocess.run(("ip",) + words, check=True)


class Places:
    """Network namespaces herd0, herd1, ..., each with a link to the replicas: the work of a bridge and of its
    filters would count as processor time of the replica that sends. The bridge only has their addresses."""

    def __init__(self, n):
        self.n = n
        self.remove()
        if not n:
            return
        ip("link", "add", "herd-br", "type", "bridge")
        for i in range(1, 4):
            ip("address", "add", "%s.%d/32" % (NETWORK, i), "dev", "herd-br")
        ip("link", "set", "herd-br", "up")
        for i in range(n):
            ip("netns", "add", "herd%d" % i)
            ip("link", "add", "herd-v%d" % i, "type", "veth", "peer", "name", "eth0", "netns", "herd%d" % i)
            ip("address", "add", "10.98.%d.1/24" % (i + 1), "dev", "herd-v%d" % i)
            ip("link", "set", "herd-v%d" % i, "up")
            ip("-n", "herd%d" % i, "address", "add", "10.98.%d.2/24" % (i + 1), "dev", "eth0")
            self.link(i, True)

    def link(self, i, up):
        """Without its end in the namespace, the link has no carrier, and the addresses of the replicas stay as they are."""
        ip("-n", "herd%d" % i, "link", "set", "eth0", "up" if up else "down")
        if up:
            ip("-n", "herd%d" % i, "route", "add", NETWORK + ".0/24", "via", "10.98.%d.1" % (i + 1))

    def remove(self):
        for i in range(PLACES if os.geteuid() == 0 else 0):
            subprocess.run(["ip", "link", "del", "herd-v%d" % i], stderr=subprocess.DEVNULL)
            subprocess.run(["ip", "netns", "del", "herd%d" % i], stderr=subprocess.DEVNULL)
        if os.geteuid() == 0:
            subprocess.run(["ip", "link", "del", "herd-br"], stderr=subprocess.DEVNULL)


class Replicas(servers.Fleetd):
    attaches = True

    def figures(self, i, name):
        """The values of a family of /metrics, by their labels."""
        try:
            text = self.ask(i, "/metrics")[1].decode()
        except OSError:
            return {}  # it starts
        return {m.group(1) or "": float(m.group(2)) for m in re.finditer(r"^%s(?:\{(.*)\})? (\S+)" % name, text, re.M)}

    def longest_turn(self, i):
        """Of the event loop, in ms of processor time; 0: none was long enough for a message."""
        with open(os.path.join(self.folder, "log-%d" % i)) as log:
            return max((int(n) for n in re.findall(r"turn of the event loop took (\d+) ms", log.read())), default=0)

    def machines(self, presence, i=0):
        return int(self.figures(i, "fleet_machines").get('presence="%s"' % presence, -1))

    def leader(self):
        """The replica that leads, or None."""
        leads = [self.figures(i, "fleet_store_is_leader").get("", 0) for i in range(len(self.processes))]
        return leads.index(1) if sum(leads) == 1 else None

    def until(self, what, test, seconds, pause=0.05):
        begun = time.monotonic()
        while not test():
            if time.monotonic() - begun > seconds:
                raise SystemExit("herd: %s did not come true in %d s: %s" % (what, seconds, self.last_words()))
            time.sleep(pause)
        return time.monotonic() - begun


class Herds:
    """Some processes of herd, with equal parts of the hosts: a descriptor for each session, and two cores."""

    def __init__(self, program, key, hosts, states):
        self.n = max(2, -(-2 * hosts // (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED)))
        self.part = hosts // self.n
        self.all = [servers.Crowd([program, key, str(self.part)] + (["--states"] if states else [])) for _ in range(self.n)]

    def __call__(self, *words):
        """The same command to all: sums, or for 'wait' and 'seen' the time of the last."""
        if words[0] in ("wait", "seen"):
            words = words[:-2] + (self.part, words[-1])
        for one in self.all:
            one.send(*words)
        answers = list(zip(*(one.answer(*words) for one in self.all)))
        if words[0] == "seen":
            return [min(answers[0]), max(answers[1]), max(answers[2]), sum(answers[3])]
        return [max(a) if words[0] == "wait" and i == 0 else sum(a) for i, a in enumerate(answers)]

    def start(self, places):
        for i, one in enumerate(self.all):
            one("start", self.part, places, i * self.part)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for one in self.all:
            one.__exit__()


def units(cluster, n, per_batch=1000):
    """Submit and start units, which the engine places."""
    for first in range(0, n, per_batch):
        body = {"units": [{"name": "herd-%d.service" % i, "desiredState": "launched",
                           "options": [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep %d" % i}]}
                          for i in range(first, min(n, first + per_batch))]}
        for _ in range(UNITS_ATTEMPTS):
            status, text = cluster.ask(0, "/fleet/v1/batch", "POST", json.dumps(body))
            if status < 300:
                break
            print("  units from %d on: %d %s" % (first, status, text[:200]))
            time.sleep(1)
        else:
            raise SystemExit("herd: units were refused")


def alone(opts, scratch, places, hosts):
    """All hosts at one replica: two heartbeats of each in a second."""
    cluster = Replicas(scratch, 1, opts.fleetd)
    try:
        with Herds(opts.herd, os.path.join(cluster.folder, "key"), hosts, False) as herd:
            herd("replica", ("%02x" % 1) * 16, cluster.peers[0])
            herd("mark")
            herd.start(places.n)
            ms, use, _ = herd("wait", "use", hosts, 120)
            if use < hosts:
                raise SystemExit("herd: only %d of %d hosts have a slice: %s" % (use, hosts, cluster.last_words()))
            cluster.until("all machines are up", lambda: cluster.machines("up") >= hosts, 120)
            time.sleep(5)
            before, begun = cluster.effort(), time.monotonic()
            time.sleep(opts.seconds)
            used = (cluster.effort()[0][1] - before[0][1]) / 1e9 / (time.monotonic() - begun)
            row("one replica alone, %d sessions: processor time, thousandths of a core" % hosts, 1000 * used,
                200 * max(hosts, 1000) / 10000)
        cluster.stop()
    finally:
        cluster.kill()


def steady(cluster, hosts, units, idle, rss_before, seconds):
    before, begun = cluster.effort(), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begun
    used = [(a[1] - b[1]) / 1e9 / passed for a, b in zip(cluster.effort(), before)]
    rss = cluster.memory_kib()
    for i, p in enumerate(cluster.processes):
        sessions = cluster.figures(i, "fleet_sessions")['kind="attached"']
        messages = hosts * MESSAGES / len(cluster.processes)
        print("  replica %d: %d sessions, %d messages/s" % (i, sessions, messages))
        row("processor time, thousandths of a core, above %.1f without hosts" % (idle[i] * 1000), (used[i] - idle[i]) * 1000,
            2 * messages * HEARTBEAT_US / 1000)
        if not units:
            row("memory of a session with its machine in the view", (rss[i] - rss_before[i]) * 1024 / sessions / 1024,
                SESSION_BYTES / 1024, " KiB")


def key_change(cluster, herd, hosts):
    times, used = [], []
    for i in range(3):
        herd("watch", "/_fleet/cluster/settings")
        before, begun = cluster.effort(), time.monotonic()
        status, text = cluster.ask(0, "/fleet/v1/cluster/settings", "PUT", json.dumps({"name": "herd%d" % i}))
        if status >= 300:
            raise SystemExit("herd: settings: %d %s" % (status, text))
        first, half, last, seen = herd("seen", hosts, 20)
        times.append((first / 1e6 - begun, half / 1e6 - begun, last / 1e6 - begun))
        used.append(max((b[1] - a[1]) / 1e6 for a, b in zip(before, cluster.effort())))
        if seen < hosts:
            raise SystemExit("herd: %d of %d hosts have the changed key" % (seen, hosts))
    first, half, last = (1000 * statistics.median(t) for t in zip(*times))
    row("changed cluster key: request to the first host", first, None, " ms")
    row("changed cluster key: request to half of the hosts", half, None, " ms")
    row("changed cluster key: request to the last host", last, 100, " ms")
    row("changed cluster key: processor time of the busiest replica", statistics.median(used), None, " ms")


def scrape(cluster):
    for i in range(len(cluster.processes)):
        times, used = [], []
        for _ in range(10):
            before, begun = cluster.effort()[i][1], time.monotonic()
            cluster.ask(i, "/metrics")
            times.append(time.monotonic() - begun)
            used.append((cluster.effort()[i][1] - before) / 1e9)
            time.sleep(0.2)
        row("scrape of /metrics on replica %d, median of 10" % i, 1000 * statistics.median(times), 20, " ms")
        row("its processor time", 1000 * statistics.median(used), None, " ms")


def cut(cluster, herd, places, hosts):
    part = hosts // places.n
    herd("mark")
    places.link(0, False)
    taken = cluster.until("the hosts of the cut network are lost", lambda: cluster.machines("lost") >= part, 30)
    row("%d hosts in a cut network: until the last is lost" % part, taken, 4, " s")
    row("lost hosts that were not cut", cluster.machines("lost") - part, 0)
    places.link(0, True)
    taken = cluster.until("the hosts are back", lambda: cluster.machines("up") >= hosts, 60)
    row("after the link is up: until all are up again", taken, None, " s")


def cut_with_leader(cluster, herd, places, hosts):
    """The hosts of the leader have a grace of 3 s, longer by 1 s for 500 hosts without a session and each replica that reports."""
    part, leader = hosts // places.n, cluster.leader()
    other = (leader + 1) % len(cluster.processes)
    cluster.processes[leader].kill()
    places.link(0, False)
    taken = cluster.until("the hosts of the cut network are lost", lambda: cluster.machines("lost", other) >= part, 60)
    row("%d hosts in a cut network, and the leader is killed: until all are lost" % part, taken,
        2 + 3 + part / (500 * (len(cluster.processes) - 1)), " s")
    row("lost hosts that were not cut", cluster.machines("lost", other) - part, 0)
    places.link(0, True)
    cluster.processes[leader].wait()
    cluster.respawn(leader)
    cluster.until("the hosts are back", lambda: cluster.machines("up", other) >= hosts, 60)
    herd("mark")
    herd("wait", "both", hosts, 120)


def blackout(cluster, herd, hosts):
    for p in cluster.processes:
        p.kill()
    for p in cluster.processes:
        p.wait()
    time.sleep(3)
    for i in range(len(cluster.processes)):
        cluster.respawn(i)
    cluster.until("a leader", lambda: cluster.leader() is not None, 20)
    herd("mark")
    ms, use, _ = herd("wait", "use", hosts, 60)
    row("blackout: all sessions in use are back, after the leader is", ms / 1000, 10, " s")
    if use < hosts:
        raise SystemExit("herd: only %d of %d hosts are back" % (use, hosts))
    ms, _, both = herd("wait", "both", hosts, 120)
    row("blackout: idle sessions are back", ms / 1000, 45, " s")
    row("blackout: hosts without an idle session", hosts - both, 0)
    row("blackout: hosts that were declared lost", cluster.machines("lost"), 0)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--fleetd", required=True)
    ap.add_argument("--herd", required=True)
    ap.add_argument("--hosts", type=int, default=int(os.environ.get("HERD_HOSTS", "1000")))
    ap.add_argument("--units", type=int, default=int(os.environ.get("HERD_UNITS", "0")))
    ap.add_argument("--seconds", type=int, default=10)
    ap.add_argument("--alone", action="store_true", help="with one replica, its processor time only")
    ap.add_argument("--keep", action="store_true", help="stop after the steady state, until return is typed")
    opts = ap.parse_args()
    hosts = opts.hosts - opts.hosts % (2 * PLACES)
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(1))
    scratch = tempfile.mkdtemp(prefix="fleetd-herd-", dir=os.environ.get("TMPDIR"))
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    places = Places(PLACES if os.geteuid() == 0 else 0)
    if places.n:
        Replicas.network = NETWORK
    cluster = None
    try:
        if opts.alone:
            alone(opts, scratch, places, hosts)
            return 1 if failed else 0
        print("%d hosts, 3 voters, %d units; %d cores, load %.1f before" % (hosts, opts.units, os.cpu_count(), os.getloadavg()[0]))
        cluster = Replicas(scratch, 3, opts.fleetd)
        with Herds(opts.herd, os.path.join(cluster.folder, "key"), hosts, opts.units) as herd:
            for i, peer in enumerate(cluster.peers):
                herd("replica", ("%02x" % (i + 1)) * 16, peer)
            rss = cluster.memory_kib()
            idle, begun = cluster.effort(), time.monotonic()
            time.sleep(5)
            idle = [(b[1] - a[1]) / 1e9 / (time.monotonic() - begun) for a, b in zip(idle, cluster.effort())]
            herd("mark")
            herd.start(places.n)
            ms, use, _ = herd("wait", "use", hosts, 120)
            if use < hosts:
                raise SystemExit("herd: only %d of %d hosts have a slice: %s" % (use, hosts, cluster.last_words()))
            row("first start: all sessions in use", ms / 1000, None, " s")
            ms, _, both = herd("wait", "both", hosts, 120)
            row("first start: all idle sessions", ms / 1000, None, " s")
            taken = cluster.until("all machines are up", lambda: cluster.machines("up") >= hosts, 120)
            row("then until all machines are up", taken, None, " s")
            if opts.units:
                before, worked, begun = cluster.memory_kib(), cluster.effort(), time.monotonic()
                units(cluster, opts.units)
                row("units submitted", time.monotonic() - begun, None, " s")
                cluster.until("all units run", lambda: cluster.figures(0, "fleet_units_by_state").get('state="active"', 0) >= opts.units, 600, 1)
                row("units submitted, placed and reported", time.monotonic() - begun, None, " s")
                for i, (b, a, busy) in enumerate(zip(before, cluster.memory_kib(), cluster.effort())):
                    row("replica %d: memory of the units" % i, (a - b) / 1024, None, " MiB")
                    row("replica %d: memory of a unit" % i, (a - b) / opts.units, None, " KiB")
                    row("replica %d: processor time of a unit" % i, (busy[1] - worked[i][1]) / 1e3 / opts.units, None, " us")
                    row("replica %d: longest turn of the event loop" % i, cluster.longest_turn(i), None, " ms")
                time.sleep(5)
            steady(cluster, hosts, opts.units, idle, rss, opts.seconds)
            if opts.keep:
                print("pids:", *(p.pid for p in cluster.processes), flush=True)
                input()
            key_change(cluster, herd, hosts)
            scrape(cluster)
            if places.n:
                cut(cluster, herd, places, hosts)
                cut_with_leader(cluster, herd, places, hosts)
            blackout(cluster, herd, hosts)
            print("  herd: fresh, both, sessions, events, moves, bytes:", herd("count"))
        cluster.stop()
    finally:
        if cluster:
            cluster.kill()
        places.n = 0
        places.remove()
        shutil.rmtree(scratch, ignore_errors=True)
    if failed:
        print("above the limit: " + "; ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
