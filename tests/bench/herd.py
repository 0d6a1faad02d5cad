#!/usr/bin/env python3
"""10,000 attached hosts with real sessions (HERD_HOSTS), 100,000 units (HERD_UNITS) and three replicas on
this machine; then as many hosts at one replica alone, and the model of 10,000 hosts for a day.

As root, the hosts are in ten network namespaces, so that a link that is set down is a power cut with a silent kernel; otherwise on
loopback, without that part. Sessions are authenticated by a key file, with --certificates by a certificate of each host, as in a cluster
that is formed by tokens. Fails if a figure is above its limit: for times the limit of the contract, for processor time and memory twice
the value that was derived. Other processes on the machine raise wall-clock figures. So do the hosts themselves: the elliptic-curve work
of a host in a handshake takes as long as that of its replica. With certificates, the time for all hosts after a blackout is therefore
printed without a limit; the processor time of a replica, which has a core of its own in a cluster, has one."""

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
import threading
import time

import servers

PLACES = 10
UNITS_ATTEMPTS = 10
RESERVED = 600  # descriptors of a process beyond two sessions of each host
NETWORK = "10.98.0"
HEARTBEAT_US = 10  # of a message on a session, in the daemon: receive, decrypt, count, answer
SESSION_BYTES = 24 * 1024
UNIT_BYTES = 385e6 / 100000  # in the view of a replica, with its part of a machine of ten units
MESSAGES = 2.5  # of a host in a second, on both sessions
WIRE_BYTES = 530  # of a host in a second, on both sessions
KEY_ROUNDS = 3
KEY_ATTEMPTS = 9
REST = 0.02  # without work of the replicas in this time, they have sent what they had
SCRAPES = 20
LATE_TURN = "0.1"  # seconds, a bound of the histogram of turns

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
            # Each host has an address of its own (see place_init() in herd.c).
            ip("-n", "herd%d" % i, "link", "set", "lo", "up")
            ip("-n", "herd%d" % i, "route", "add", "local", "10.%d.0.0/16" % (100 + i), "dev", "lo")
            ip("route", "add", "10.%d.0.0/16" % (100 + i), "via", "10.98.%d.2" % (i + 1))
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

    def __init__(self, *args):
        self.read = {}  # bytes of each log
        super().__init__(*args)

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

    def late_turns(self, i):
        """Turns of the event loop above LATE_TURN."""
        buckets = self.figures(i, "fleet_loop_turn_cpu_seconds_bucket")
        return buckets['le="+Inf"'] - buckets['le="%s"' % LATE_TURN]

    def losses(self):
        """The host names of machines that any leader has declared lost since the last call, also if they returned."""
        found = []
        for i in range(len(self.processes)):
            with open(os.path.join(self.folder, "log-%d" % i)) as log:
                log.seek(self.read.get(i, 0))
                found += re.findall(r"machine (\S+) is lost", log.read())
                self.read[i] = log.tell()
        return found

    def rest(self, seconds=1.0):
        """Wait until the replicas have nothing to do, but not longer."""
        until, used = time.monotonic() + seconds, None
        while time.monotonic() < until:
            now = sum(ran for _, ran in self.effort())
            if used is not None and now - used < REST * 1e9 / 20:
                return
            used = now
            time.sleep(REST)

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
        """The same command to all: sums, or the time of the last."""
        if words[0] in ("wait", "certify", "seen"):
            words = words[:-2] + (min(words[-2], self.part), words[-1])
        for one in self.all:
            one.send(*words)
        answers = list(zip(*(one.answer(*words) for one in self.all)))
        if words[0] in ("seen", "arrived"):
            return [min(answers[0]), max(answers[1]), max(answers[2]), sum(answers[3])]
        if words[0] == "answers":
            return max(answers[0])
        return [max(a) if words[0] in ("wait", "certify") and i == 0 else sum(a) for i, a in enumerate(answers)]

    def place(self, name, places):
        """The namespace of the host of that name."""
        return int(name[len("herd"):]) % self.part % places.n

    def start(self, places):
        for i, one in enumerate(self.all):
            one("start", self.part, places, i * self.part)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for one in self.all:
            one.__exit__()


def units(cluster, n, per_batch=500):
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
            scrape(cluster, herd)
            row("hosts that were declared lost", len(cluster.losses()), 0)
        cluster.stop()
    finally:
        cluster.kill()


def restart(cluster, herd, hosts):
    """All replicas, in order and at once: what they keep of earlier sessions does not count."""
    cluster.stop()
    for i in range(len(cluster.processes)):
        cluster.respawn(i)
    cluster.until("a leader", lambda: cluster.leader() is not None, 60)
    herd("mark")
    _, use, _ = herd("wait", "use", hosts, 120)
    _, _, both = herd("wait", "both", hosts, 120)
    if use < hosts or both < hosts:
        raise SystemExit("herd: of %d hosts, %d are back, %d with both sessions" % (hosts, use, both))


def certify(cluster, herd, hosts, fleetctl):
    """From the key file to certificates, as in a running cluster: for the replicas, the hosts, and then for nothing else."""
    ctl = [fleetctl, "--endpoint=unix://" + cluster.sockets[0]]
    subprocess.run(ctl + ["token", "create"], check=True, stdout=subprocess.DEVNULL)
    herd("mark")
    ms, _, _ = herd("certify", hosts, 60 + hosts // 50)
    row("all sessions have certificates", ms / 1000, None, " s")
    cluster.until("the end of the key file", lambda: subprocess.run(ctl + ["cluster", "secure", "--yes"], stderr=subprocess.DEVNULL,
                                                                    stdout=subprocess.DEVNULL).returncode == 0, 60, 1)
    restart(cluster, herd, hosts)


def memory(cluster, hosts, rss_before):
    for i, rss in enumerate(cluster.memory_kib()):
        sessions = cluster.figures(i, "fleet_sessions")['kind="attached"']
        row("replica %d: memory of each of %d sessions with its machine in the view" % (i, sessions), (rss - rss_before[i]) / sessions,
            SESSION_BYTES / 1024, " KiB")


def wire_bytes(places):
    total = 0
    for i in range(places.n):
        for name in ("rx_bytes", "tx_bytes"):
            with open("/sys/class/net/herd-v%d/statistics/%s" % (i, name)) as f:
                total += int(f.read())
    return total


def steady(cluster, places, hosts, idle, seconds):
    before, wire, begun = cluster.effort(), wire_bytes(places), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - begun
    used = [(a[1] - b[1]) / 1e9 / passed for a, b in zip(cluster.effort(), before)]
    wire = (wire_bytes(places) - wire) / passed
    for i in range(len(cluster.processes)):
        sessions = cluster.figures(i, "fleet_sessions")['kind="attached"']
        messages = hosts * MESSAGES / len(cluster.processes)
        print("  replica %d: %d sessions, %d messages/s" % (i, sessions, messages))
        row("processor time, thousandths of a core, above %.1f without hosts" % (idle[i] * 1000), (used[i] - idle[i]) * 1000,
            2 * messages * HEARTBEAT_US / 1000)
    if places.n:
        row("bytes of a host on the wire in a second, both sessions", wire / hosts, 2 * WIRE_BYTES)


def change_key(cluster, name):
    begun = time.monotonic()
    status, text = cluster.ask(0, "/fleet/v1/cluster/settings", "PUT", json.dumps({"name": name}))
    if status >= 300:
        raise SystemExit("herd: settings: %d %s" % (status, text))
    return begun


def key_change(cluster, herd, hosts):
    """Until the page is in the receive buffer of the socket of each host. In a real cluster each host has processors of its own. Here they
    share two with the replicas, so they stand still until the replicas have sent all pages. Nothing else arrives meanwhile: the replicas
    only answer."""
    times, used, worked = [], [], []
    for i in range(KEY_ATTEMPTS):
        herd("watch", "/_fleet/cluster/settings")
        herd("stand")
        cluster.rest()
        before = cluster.effort()
        begun = change_key(cluster, "stand%d" % i)
        cluster.rest()
        busy = max((b[1] - a[1]) / 1e6 for a, b in zip(before, cluster.effort()))
        first, half, last, arrived = herd("arrived", int(begun * 1e6) - 5000)  # the kernel counts jiffies of 4 ms
        seen = herd("seen", hosts, 20)[3]
        if seen < hosts:
            raise SystemExit("herd: %d of %d hosts have the changed key" % (seen, hosts))
        if arrived < hosts:
            print("  %d hosts had no session in use while they stood still: once more" % (hosts - arrived))
            continue
        times.append((first / 1e6 - begun, half / 1e6 - begun, last / 1e6 - begun))
        used.append(busy)
        if len(times) == KEY_ROUNDS:
            break
    else:
        raise SystemExit("herd: in %d attempts some hosts had no session in use" % KEY_ATTEMPTS)
    first, half, last = (1000 * statistics.median(t) for t in zip(*times))
    row("changed cluster key: request until it is at the first host", first, None, " ms")
    row("changed cluster key: request until it is at half of the hosts", half, None, " ms")
    row("changed cluster key: request until it is at the last host", last, 100, " ms")
    row("changed cluster key: processor time of the busiest replica", statistics.median(used), None, " ms")
    times = []
    for i in range(KEY_ROUNDS):
        herd("watch", "/_fleet/cluster/settings")
        before = herd("count")[6]
        begun = change_key(cluster, "all%d" % i)
        times.append(herd("seen", hosts, 20)[2] / 1e6 - begun)
        worked.append((herd("count")[6] - before) / hosts)
    row("changed cluster key: all hosts at work on this machine: until the last has it", 1000 * statistics.median(times), None, " ms")
    row("changed cluster key: processor time of a host meanwhile", statistics.median(worked), None, " us")


def scrape(cluster, herd):
    """Heartbeats are late in a tick that is: a replica reports no host as silent for it, and counts it not."""
    for i in range(len(cluster.processes)):
        times, used = [], []
        herd("answers")
        time.sleep(0.2 * SCRAPES)
        without, late, moves = herd("answers"), cluster.late_turns(i), herd("count")[4]
        for _ in range(SCRAPES):
            before, begun = cluster.effort()[i][1], time.monotonic()
            cluster.ask(i, "/metrics")
            times.append(time.monotonic() - begun)
            used.append((cluster.effort()[i][1] - before) / 1e9)
            time.sleep(0.2)
        beside = herd("answers")
        row("scrape of /metrics on replica %d, median of %d" % (i, SCRAPES), 1000 * statistics.median(times), 20, " ms")
        row("its processor time", 1000 * statistics.median(used), None, " ms")
        row("heartbeat to answer, the longest beside the scrapes; %.0f ms without" % (without / 1000), beside / 1000, 250, " ms")
        row("turns of the event loop above %s s beside the scrapes" % LATE_TURN, cluster.late_turns(i) - late, 0)
        row("hosts that moved to another replica beside the scrapes", herd("count")[4] - moves, 0)


def lost_elsewhere(cluster, herd, places):
    row("lost hosts that were not cut", sum(herd.place(name, places) != 0 for name in cluster.losses()), 0)


def cut(cluster, herd, places, hosts):
    part = hosts // places.n
    cluster.losses()
    places.link(0, False)
    taken = cluster.until("the hosts of the cut network are lost", lambda: cluster.machines("lost") >= part, 30)
    row("%d hosts in a cut network: until the last is lost" % part, taken, 4, " s")
    places.link(0, True)
    taken = cluster.until("the hosts are back", lambda: cluster.machines("up") >= hosts, 60)
    lost_elsewhere(cluster, herd, places)
    row("after the link is up: until all are up again", taken, None, " s")


def cut_with_leader(cluster, herd, places, hosts):
    """The hosts of the leader have a grace of 3 s, longer by 1 s for 500 hosts without a session and each replica that reports."""
    part, leader = hosts // places.n, cluster.leader()
    other = (leader + 1) % len(cluster.processes)
    cluster.losses()
    herd("mark")
    cluster.processes[leader].kill()
    places.link(0, False)
    taken = cluster.until("the hosts of the cut network are lost", lambda: cluster.machines("lost", other) >= part, 60)
    row("%d hosts in a cut network, and the leader is killed: until all are lost" % part, taken,
        2 + 3 + part / (500 * (len(cluster.processes) - 1)), " s")
    places.link(0, True)
    cluster.processes[leader].wait()
    cluster.respawn(leader)
    cluster.until("the hosts are back", lambda: cluster.machines("up", other) >= hosts, 60)
    herd("mark")
    ms, _, both = herd("wait", "both", hosts, 120)
    lost_elsewhere(cluster, herd, places)
    row("then until each host has had both sessions", ms / 1000, None, " s")


def views(cluster, units, begun, ret):
    """When the view of each replica has all units."""
    while len(ret) < len(cluster.processes) and time.monotonic() - begun < 120:
        for i in range(len(cluster.processes)):
            if i not in ret and cluster.figures(i, "fleet_units").get("", -1) >= units:
                ret[i] = time.monotonic() - begun
        time.sleep(0.2)


def busiest(cluster):
    """The processor time of a replica since its start, in seconds."""
    return max(ran for _, ran in cluster.effort()) / 1e9


def blackout(cluster, herd, hosts, units, certificates):
    """All replicas restart. Here they share two processors with all hosts."""
    for p in cluster.processes:
        p.kill()
    for p in cluster.processes:
        p.wait()
    cluster.losses()
    time.sleep(3)
    begun, loaded = time.monotonic(), {}
    for i in range(len(cluster.processes)):
        cluster.respawn(i)
    polling = threading.Thread(target=views, args=(cluster, units, begun, loaded))
    polling.start()
    taken = cluster.until("a leader", lambda: cluster.leader() is not None, 60)
    row("blackout: start of the replicas until one leads", taken, None, " s")
    herd("mark")
    row("blackout: from then until each process of hosts has a slice", herd("wait", "use", 1, 60)[0] / 1000, None, " s")
    ms, use, _ = herd("wait", "use", hosts, 120)
    row("blackout: all sessions in use are back, after the leader is", ms / 1000, None if certificates else 10, " s")
    row("blackout: processor time of the busiest replica until then", busiest(cluster), 10, " s")
    if use < hosts:
        raise SystemExit("herd: only %d of %d hosts are back" % (use, hosts))
    ms, _, both = herd("wait", "both", hosts, 120)
    polling.join()
    for i, seconds in sorted(loaded.items()):
        row("blackout: start of replica %d until its view has all units" % i, seconds, None, " s")
    row("blackout: each host has had both sessions", ms / 1000, None if certificates else 45, " s")
    row("blackout: processor time of the busiest replica until then", busiest(cluster), 45, " s")
    row("blackout: hosts that never had both", hosts - both, 0)
    row("blackout: hosts that were declared lost", len(cluster.losses()), 0)


def model(program):
    """10,000 modelled hosts for 24 h, in which the program asserts that none is lost."""
    answer = subprocess.run([program], env=dict(os.environ, CHECK_ALL="yes"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    figures = re.search(r"(\d+) hosts, (\d+) h, .* none lost, ([0-9.]+) s of CPU", answer.stdout)
    if answer.returncode or not figures:
        raise SystemExit("herd: %s: %s" % (program, answer.stdout[-500:]))
    row("%s modelled hosts, %s h, 1 %% of messages lost: none lost; processor time" % figures.group(1, 2), float(figures.group(3)), 60, " s")


def lists(cluster, fleetctl):
    """Of all units, by the replica that leads."""
    socket = cluster.sockets[cluster.leader()]
    for verb in "list-units", "list-unit-files", "status":
        begun = time.monotonic()
        subprocess.run([fleetctl, "--endpoint=unix://" + socket, verb], stdout=subprocess.DEVNULL)
        row("fleetctl " + verb, time.monotonic() - begun, None, " s")


def with_units(cluster, herd, n):
    before, worked, begun = cluster.memory_kib(), cluster.effort(), time.monotonic()
    units(cluster, n)
    row("units submitted", time.monotonic() - begun, None, " s")
    cluster.until("all units run", lambda: cluster.figures(0, "fleet_units_by_state").get('state="active"', 0) >= n, 600, 1)
    row("units submitted, placed and reported", time.monotonic() - begun, None, " s")
    for i, (b, a, busy) in enumerate(zip(before, cluster.memory_kib(), cluster.effort())):
        row("replica %d: memory of the units" % i, (a - b) / 1024, None, " MiB")
        row("replica %d: memory of a unit" % i, (a - b) / n, 2 * UNIT_BYTES / 1024, " KiB")
        row("replica %d: processor time of a unit" % i, (busy[1] - worked[i][1]) / 1e3 / n, None, " us")
        row("replica %d: longest turn of the event loop" % i, cluster.longest_turn(i), None, " ms")
    time.sleep(5)


def three(opts, scratch, places, hosts):
    cluster = Replicas(scratch, 3, opts.fleetd)
    try:
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
            row("first start: each host has had both sessions", ms / 1000, None, " s")
            taken = cluster.until("all machines are up", lambda: cluster.machines("up") >= hosts, 120)
            row("then until all machines are up", taken, None, " s")
            if opts.certificates:
                certify(cluster, herd, hosts, opts.fleetctl)
            memory(cluster, hosts, rss)
            if opts.units:
                with_units(cluster, herd, opts.units)
                lists(cluster, opts.fleetctl)
            steady(cluster, places, hosts, idle, opts.seconds)
            if opts.keep:
                print("pids:", *(p.pid for p in cluster.processes), flush=True)
                input()
            key_change(cluster, herd, hosts)
            scrape(cluster, herd)
            row("hosts that were declared lost so far", len(cluster.losses()), 0)
            if places.n:
                cut(cluster, herd, places, hosts)
                cut_with_leader(cluster, herd, places, hosts)
            blackout(cluster, herd, hosts, opts.units, opts.certificates)
            print("  herd: fresh, both, sessions, events, moves, bytes, us:", herd("count"))
        cluster.stop()
    finally:
        cluster.kill()


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--fleetd", required=True)
    ap.add_argument("--fleetctl", required=True)
    ap.add_argument("--herd", required=True)
    ap.add_argument("--model", help="tests/unit/test-liveness_model, of an optimised build")
    ap.add_argument("--hosts", type=int, default=int(os.environ.get("HERD_HOSTS", "10000")))
    ap.add_argument("--units", type=int, default=int(os.environ.get("HERD_UNITS", "100000")))
    ap.add_argument("--certificates", action="store_true", help="instead of the key file")
    ap.add_argument("--seconds", type=int, default=10)
    ap.add_argument("--alone", action="store_true", help="with one replica only")
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
    print("%d hosts, 3 voters, %d units; %d cores, load %.1f before" % (hosts, opts.units, os.cpu_count(), os.getloadavg()[0]))
    try:
        if not opts.alone:
            three(opts, scratch, places, hosts)
        alone(opts, scratch, places, hosts)
        if opts.model and not opts.alone:
            model(opts.model)
    finally:
        places.n = 0
        places.remove()
        shutil.rmtree(scratch, ignore_errors=True)
    if failed:
        print("above the limit: " + "; ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
