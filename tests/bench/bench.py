#!/usr/bin/env python3
"""Figures of fleetd, side by side with a real etcd where one is installed.

Prints key writes and local reads per second at several numbers of connections, with one voter and with three; the memory of an
idle daemon; and the sizes of the programs. Rounds of both take turns, so that whatever else the machine does hits both.
Nothing is asserted.  Python 3.8 or newer, standard library only.
"""

import argparse
import http.client
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time


def free_port(host):
    with socket.socket() as s:
        s.bind((host, 0))
        return s.getsockname()[1]


class Server:
    """One cluster of one or three members on 127.0.0.1 to 127.0.0.3."""

    def __init__(self, scratch, members):
        self.hosts = ["127.0.0.%d" % (i + 1) for i in range(members)]
        self.folder = os.path.join(scratch, "%s-%d" % (self.name, members))
        os.mkdir(self.folder)
        self.addresses = ["%s:%d" % (h, free_port(h)) for h in self.hosts]
        self.peers = ["%s:%d" % (h, free_port(h)) for h in self.hosts]
        self.processes = []

    def spawn(self, args, i):
        log = open(os.path.join(self.folder, "log-%d" % i), "w")
        self.processes.append(subprocess.Popen(args, stdout=log, stderr=log))

    def request(self, address, method, path, body=None):
        conn = http.client.HTTPConnection(address, timeout=5)
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
            conn.request(method, path, body, headers)
            answer = conn.getresponse()
            answer.read()
            return answer.status
        except OSError:
            return 0
        finally:
            conn.close()

    def wait(self, what, test):
        for _ in range(300):
            if test():
                return
            for p in self.processes:
                if p.poll() is not None:
                    raise SystemExit("%s ended; its words are in %s" % (self.name, self.folder))
            time.sleep(0.1)
        raise SystemExit("%s: %s did not come true; its words are in %s" % (self.name, what, self.folder))

    def fill(self):
        """Every member takes a write, and every key that is read exists."""
        for a in self.addresses:
            self.wait("a write at " + a, lambda: self.request(a, "PUT", "/v2/keys/ready", "value=yes") in (200, 201))
        conn = http.client.HTTPConnection(self.addresses[0], timeout=20)
        for i in range(1000):
            conn.request("PUT", "/v2/keys/bench/k%d" % i, "value=" + 128 * "v", {"Content-Type": "application/x-www-form-urlencoded"})
            conn.getresponse().read()
        conn.close()
        for a in self.addresses:
            self.wait("the last key at " + a, lambda: self.request(a, "GET", "/v2/keys/bench/k999") == 200)

    def memory_kib(self):
        sizes = []
        for p in self.processes:
            with open("/proc/%d/status" % p.pid) as status:
                sizes += [int(line.split()[1]) for line in status if line.startswith("VmRSS:")]
        return sizes

    def stop(self):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            p.wait()


class Fleetd(Server):
    name = "fleetd"

    def __init__(self, scratch, members, program):
        super().__init__(scratch, members)
        key = os.path.join(self.folder, "key")
        with open(key, "w") as f:
            os.fchmod(f.fileno(), 0o600)
            f.write(secrets.token_hex(32) + "\n")
        empty = os.path.join(self.folder, "fleetd.conf")
        open(empty, "w").close()
        self.sockets = []
        for i in range(members):
            d = os.path.join(self.folder, str(i))
            self.sockets.append(d + ".sock")
            args = [program, "--config=" + empty, "--state-directory=" + d, "--runtime-directory=" + d + "-run", "--unit-directory=",
                    "--cluster-file=", "--listen-socket=" + self.sockets[i], "--listen-client=" + self.addresses[i], "--agent=no",
                    "--name=bench%d" % i, "--machine-id=" + ("%02x" % (i + 1)) * 16]
            if members > 1:
                args += ["--listen-peer=" + self.peers[i], "--peer-key=" + key]
            if i > 0:
                args += ["--join=" + self.peers[0]]
            self.spawn(args, i)
            if i == 0:
                self.wait("the first host", lambda: self.request(self.addresses[0], "PUT", "/v2/keys/ready", "value=yes") in (200, 201))
        self.wait("%d voters" % members, lambda: self.voters() == members)
        self.fill()

    def voters(self):
        conn = http.client.HTTPConnection("fleet")
        try:
            conn.sock = socket.socket(socket.AF_UNIX)
            conn.sock.connect(self.sockets[0])
            conn.request("GET", "/fleet/v1/cluster")
            found = json.loads(conn.getresponse().read())
            return sum(1 for v in found.get("voters", []) if v.get("seat") == "voter")
        except (OSError, ValueError):
            return 0
        finally:
            conn.close()


class Etcd(Server):
    name = "etcd"

    def __init__(self, scratch, members, program):
        super().__init__(scratch, members)
        cluster = ",".join("e%d=http://%s" % (i, p) for i, p in enumerate(self.peers))
        for i in range(members):
            self.spawn([program, "--enable-v2=true", "--name=e%d" % i, "--data-dir=" + os.path.join(self.folder, str(i)),
                        "--listen-client-urls=http://" + self.addresses[i], "--advertise-client-urls=http://" + self.addresses[i],
                        "--listen-peer-urls=http://" + self.peers[i], "--initial-advertise-peer-urls=http://" + self.peers[i],
                        "--initial-cluster=" + cluster, "--initial-cluster-state=new"], i)
        self.fill()


def figures(values):
    return "%8.0f %8.0f %8.0f" % (min(values), statistics.median(values), max(values))


def load(program, verb, connections, seconds, server):
    out = subprocess.run([program, verb, str(connections), str(seconds)] + server.addresses, check=True, stdout=subprocess.PIPE, universal_newlines=True).stdout
    rate, _, p99, errors = (float(x) for x in out.split())
    if errors:
        print("  (%s answered %d requests with an error)" % (server.name, errors))
    return rate, p99


def bench_keys(opts, servers):
    print("  %-28s %-8s %26s   %26s  ratio" % ("", "", "requests/s min median max", "99 % below, ms, median"))
    for verb, words in (("put", "writes"), ("get", "local reads")):
        for connections in opts.connections:
            rates = {s.name: [] for s in servers}
            tails = {s.name: [] for s in servers}
            for _ in range(opts.rounds):
                for s in servers:
                    rate, p99 = load(opts.load, verb, connections, opts.seconds, s)
                    rates[s.name].append(rate)
                    tails[s.name].append(p99 / 1000)
            for s in servers:
                ratio = ""
                if s.name == "fleetd" and len(servers) > 1:
                    ratio = "%6.2f" % (statistics.median(rates["fleetd"]) / statistics.median(rates["etcd"]))
                print("  %-28s %-8s %s   %26.1f %s" % ("%s, %d connections" % (words, connections), s.name, figures(rates[s.name]),
                                                      statistics.median(tails[s.name]), ratio), flush=True)


def size_kib(program, scratch):
    copy = os.path.join(scratch, "stripped")
    shutil.copyfile(program, copy)
    subprocess.run(["strip", copy], check=False, stderr=subprocess.DEVNULL)
    size = os.stat(copy).st_size
    os.unlink(copy)
    return size / 1024


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--fleetd", required=True)
    ap.add_argument("--fleetctl")
    ap.add_argument("--load", required=True)
    ap.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "3")))
    ap.add_argument("--seconds", type=int, default=int(os.environ.get("BENCH_SECONDS", "2")))
    ap.add_argument("--members", type=int, action="append", choices=(1, 3))
    ap.add_argument("--connections", type=int, action="append")
    opts = ap.parse_args()
    opts.connections = opts.connections or [1, 64, 256]
    etcd = shutil.which("etcd")

    scratch = tempfile.mkdtemp(prefix="fleetd-bench-", dir=os.environ.get("TMPDIR"))
    fs = subprocess.run(["stat", "-f", "-c", "%T", scratch], stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()
    print("%d cores, load %.1f before; state on %s in %s. Load generator and all servers share the cores; writes wait for fsync."
          % (os.cpu_count(), os.getloadavg()[0], fs, scratch))
    if etcd:
        print(subprocess.run([etcd, "--version"], stdout=subprocess.PIPE, universal_newlines=True).stdout.splitlines()[0])
    else:
        print("No etcd is installed (Debian: etcd-server): no comparison.")

    try:
        for members in opts.members or (1, 3):
            servers = []
            try:
                servers.append(Fleetd(scratch, members, opts.fleetd))
                if etcd:
                    servers.append(Etcd(scratch, members, etcd))
                time.sleep(2)
                print("\n%d voter%s, 1000 keys of 128 bytes, each connection asks again when answered" % (members, "s" if members > 1 else ""))
                for s in servers:
                    print("  memory, idle                 %-8s %s KiB resident" % (s.name, " ".join(str(k) for k in s.memory_kib())))
                bench_keys(opts, servers)
                for s in servers:
                    print("  memory, after the load       %-8s %s KiB resident" % (s.name, " ".join(str(k) for k in s.memory_kib())))
            finally:
                for s in servers:
                    s.stop()
        print("\nSizes, stripped")
        for program in (opts.fleetd, opts.fleetctl, etcd, shutil.which("etcdctl")):
            if program and os.path.exists(program):
                print("  %-28s %.0f KiB" % (os.path.basename(program), size_kib(program, scratch)))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
