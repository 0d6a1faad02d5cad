"""The longest turn of fleetd's event loop under what is many: watches of a deep path, watches of many deep paths, a directory of unit files."""

import os
import shutil
import socket
import time

import servers

WATCHES = 9000  # a daemon with 20,000 descriptors has room for these, at either of two listeners
FILES = 10000
DEEP = "/v2/keys" + 490 * "/d"
UNIT = "[Unit]\nConflicts=web-%d-*.service\n[Service]\nExecStart=/bin/sleep infinity\n"


def metric(text, name):
    return float(next(line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name + " ") or line.startswith(name + "{")))


def metrics(server):
    """All of /metrics, by the socket of the first member."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(server.sockets[0])
        s.sendall(b"GET /metrics HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n\r\n")
        found = b""
        while True:
            piece = s.recv(65536)
            if not piece:
                return found.decode()
            found += piece


def report(words, server):
    text = metrics(server)
    over = int(metric(text, 'fleet_loop_turn_cpu_seconds_count')) - int(metric(text, 'fleet_loop_turn_cpu_seconds_bucket{le="0.02"}'))
    print("  %-58s %8.1f %8.1f %6d %9d" % (words, 1000 * metric(text, "fleet_loop_turn_cpu_max_seconds"), 1000 * metric(text, "fleet_loop_turn_wall_max_seconds"),
                                           over, metric(text, 'fleet_loop_turn_work_max{unit="bytes"}') / 1024), flush=True)


def deep_watches(bench, paths):
    with bench.fleetd(1, ("--limit-connections=%d" % (WATCHES + 100),)) as server, servers.Crowd(bench.opts.crowd) as crowd:
        for i in range(paths):
            crowd("watch", WATCHES // paths, server.addresses[0], "%s/p%d?wait=true" % (DEEP, i))
        report("%d watches of %d deep path%s" % (WATCHES, paths, "s"[paths == 1:]), server)
        for i in range(paths):
            server.request(server.addresses[0], "PUT", "%s/p%d" % (DEEP, i), "value=x")
        time.sleep(1)
        report("... and what they watch changes", server)


def names(server):
    """How many unit files the cluster has: the directory's manifest is counted by the gauge of units."""
    return int(metric(metrics(server), "fleet_units"))


def directory(bench):
    folder = os.path.join(bench.scratch, "units")
    os.mkdir(folder)
    for i in range(FILES):
        with open(os.path.join(folder, "web-%d-%d.service" % (i % 100, i)), "w") as f:
            f.write(UNIT % (i % 100))
    try:
        with bench.fleetd(1, ("--unit-directory=" + folder,)) as server:
            server.wait("%d units" % FILES, lambda: names(server) == FILES)
            report("%d files of a directory, with Conflicts=, taken in" % FILES, server)
            for i in range(0, FILES, 10):
                os.unlink(os.path.join(folder, "web-%d-%d.service" % (i % 100, i)))
            server.wait("a tenth of them gone", lambda: names(server) == FILES - FILES // 10)
            report("... a tenth of them removed", server)
            for i in range(1000):
                server.request(server.addresses[0], "PUT", "/v2/keys/elsewhere", "value=%d" % i)
            time.sleep(2)
            report("... 1000 changes elsewhere", server)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(bench):
    print("\nThe longest turn of the loop of one voter since its start (CPU and wall, ms), how many took more than 20 ms of CPU,\n"
          "and the most work of one turn (KiB)")
    deep_watches(bench, 1)
    deep_watches(bench, 1000)
    directory(bench)
