"""Memory of a whole daemon: for the log of a machine that lost power, and after 1600 units were created and removed.

Usage: memory.py PROGRAM FOLDER PORT"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time

program, folder, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
MIB = 1024 * 1024
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}


class Fleet(http.client.HTTPConnection):
    """The daemon's own socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(folder + "/sock")


def start():
    with open(folder + "/log", "a") as log:
        return subprocess.Popen(
            [program, "--state-directory=" + folder + "/state", "--runtime-directory=" + folder + "/run", "--unit-directory=", "--cluster-file=",
             "--agent=no", "--name=h1", "--machine-id=" + "1" * 32, "--listen-socket=" + folder + "/sock", "--listen-client=127.0.0.1:%d" % port],
            stderr=log)


def anon(daemon):
    """Of its own memory: without the files that are mapped."""
    try:
        with open("/proc/%d/status" % daemon.pid) as status:
            return next((int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:")), 0)
    except OSError:
        return 0


def ask(connection, method, path, body=None, headers={}):
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status >= 300:
        raise SystemExit("not ok memory: %s %s: %d %s" % (method, path, answer.status, text))
    return text


def wait_until_served():
    for _ in range(6000):
        try:
            return ask(Fleet("fleet"), "GET", "/fleet/v1/units") and ask(http.client.HTTPConnection("127.0.0.1", port), "GET", "/v2/keys/")
        except OSError:
            time.sleep(0.01)
    raise SystemExit("not ok memory: the daemon does not answer")


def judge(name, good, said):
    print(("ok %s: " if good else "not ok %s: ") % name + said)


def figure(name):
    lines = ask(Fleet("fleet"), "GET", "/metrics").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("fleet_store_%s " % name))


def own_memory(daemon):
    """Own memory without the part that the store retains by design: the end of the log, and the event window."""
    return anon(daemon) - figure("log_memory_bytes") - figure("event_window_bytes")


class Peak(threading.Thread):
    def __init__(self, daemon):
        super().__init__()
        self.daemon_process, self.peak, self.over = daemon, 0, False
        self.start()

    def run(self):
        while not self.over:
            self.peak = max(self.peak, anon(self.daemon_process))
            time.sleep(0.002)

    def end(self):
        self.over = True
        self.join()
        return self.peak


def units_come_and_go(daemon):
    fleet = Fleet("fleet")
    fresh = own_memory(daemon)
    for i in range(1600):
        unit = {"desiredState": "launched", "options": [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep %d" % i}]}
        ask(fleet, "PUT", "/fleet/v1/units/u%d.service" % i, json.dumps(unit), JSON)
    with_all = own_memory(daemon)
    for i in range(1600):
        ask(fleet, "DELETE", "/fleet/v1/units/u%d.service" % i)
    end = time.monotonic() + 60
    left = own_memory(daemon)
    most = fresh + (with_all - fresh) / 2  # the allocator keeps pages that are partly used
    while left > most and time.monotonic() < end:
        time.sleep(0.1)
        left = own_memory(daemon)
    log, window = figure("log_memory_bytes"), figure("event_window_bytes")
    judge("memory_is_returned_after_1600_units_are_removed", left <= most,
          "%.2f times a fresh daemon's: %d KiB of %d KiB; %d KiB with all units; log in memory %d KiB, event windows %d KiB"
          % (left / fresh, left / 1024, fresh / 1024, with_all / 1024, log / 1024, window / 1024))
    judge("what_the_store_retains_by_design_is_a_figure", 100000 < log < 9 * MIB and 100000 < window < MIB, "%d and %d bytes" % (log, window))


def refresh(n, size, key):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    ask(connection, "PUT", key, "value=" + "x" * size, FORM)
    for _ in range(n):
        ask(connection, "PUT", key, "refresh=true&ttl=1000&prevExist=true", FORM)


def power_is_cut(daemon):
    """An entry of 100 bytes moves 100 KB: a log of nothing moves hundreds of megabytes."""
    service = Peak(daemon)
    clients = [threading.Thread(target=refresh, args=(80, 100000, "/v2/keys/k%d" % i)) for i in range(32)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    peak = service.end()
    daemon.kill()
    daemon.wait()
    os.unlink(folder + "/state/tree/trusted") # as if the machine had been down
    daemon = start()
    replay = Peak(daemon)
    wait_until_served()
    again = replay.end()
    judge("a_log_that_is_applied_again_takes_little_more_than_service", 0 < again < peak + 64 * MIB,
          "%.0f MiB, in service %.0f" % (again / MIB, peak / MIB))
    return daemon


daemon = start()
wait_until_served()
try:
    units_come_and_go(daemon)
    daemon = power_is_cut(daemon)
finally:
    daemon.kill()
