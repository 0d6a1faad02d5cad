"""The two that are compared, as clusters of one or three members on this machine."""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import tempfile
import time


def free_port(host):
    with socket.socket() as s:
        s.bind((host, 0))
        return s.getsockname()[1]


class Server:
    """One cluster of one or three members on 127.0.0.1 to 127.0.0.3; 'network' is where members find each other."""

    network = "127.0.0"

    def __init__(self, scratch, members):
        self.hosts = ["127.0.0.%d" % (i + 1) for i in range(members)]
        self.folder = os.path.join(scratch, "%s-%d" % (self.name, members))
        os.mkdir(self.folder)
        self.addresses = ["%s:%d" % (h, free_port(h)) for h in self.hosts]
        self.peers = ["%s:%d" % (h, free_port(h)) for h in ("%s.%d" % (self.network, i + 1) for i in range(members))]
        self.processes = []
        self.commands = []

    def spawn(self, args, i):
        with open(os.path.join(self.folder, "log-%d" % i), "w") as log:
            self.processes.append(subprocess.Popen(args, stdout=log, stderr=log))
        self.commands.append(args)

    def respawn(self, i):
        """The member, which has ended, once more."""
        with open(os.path.join(self.folder, "log-%d" % i), "a") as log:
            self.processes[i] = subprocess.Popen(self.commands[i], stdout=log, stderr=log)

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
                    raise SystemExit("%s ended: %s" % (self.name, self.last_words()))
            time.sleep(0.1)
        raise SystemExit("%s: %s did not come true: %s" % (self.name, what, self.last_words()))

    def last_words(self):
        words = []
        for i in range(len(self.processes)):
            with open(os.path.join(self.folder, "log-%d" % i)) as log:
                words += log.readlines()[-3:]
        return "".join(words)

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

    def disk_kib(self):
        """What each member has on disk: blocks, not lengths."""
        return [int(subprocess.run(["du", "-sk", os.path.join(self.folder, str(i))], check=True, stdout=subprocess.PIPE).stdout.split()[0])
                for i in range(len(self.processes))]

    def effort(self):
        """Of each member, how often its threads have woken, and how many ns they have run."""
        found = []
        for p in self.processes:
            woken = ran = 0
            for task in os.listdir("/proc/%d/task" % p.pid):
                try:
                    with open("/proc/%d/task/%s/status" % (p.pid, task)) as status:
                        woken += sum(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches:"))
                    with open("/proc/%d/task/%s/schedstat" % (p.pid, task)) as schedstat:
                        ran += int(schedstat.read().split()[0])
                except FileNotFoundError:
                    pass  # a thread that ended
            found.append((woken, ran))
        return found

    def stop(self):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            p.wait()

    def kill(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
                p.wait()


class Fleetd(Server):
    name = "fleetd"
    attaches = False  # hosts attach also to a cluster of one

    def __init__(self, scratch, members, program, options=()):
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
            if members > 1 or self.attaches:
                args += ["--listen-peer=" + self.peers[i], "--peer-key=" + key]
            if i > 0:
                args += ["--join=" + self.peers[0]]
            self.spawn(args + list(options), i)
            if i == 0:
                self.wait("the first host", lambda: self.request(self.addresses[0], "PUT", "/v2/keys/ready", "value=yes") in (200, 201))
        if members > 1:
            self.wait("%d voters" % members, lambda: self.voters() == members)
        self.fill()

    def ask(self, i, path, method="GET", body=None):
        """The answer of a member at its socket: status and text."""
        conn = http.client.HTTPConnection("fleet")
        try:
            conn.sock = socket.socket(socket.AF_UNIX)
            conn.sock.connect(self.sockets[i])
            conn.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answer = conn.getresponse()
            return answer.status, answer.read()
        finally:
            conn.close()

    def voters(self):
        try:
            found = json.loads(self.ask(0, "/fleet/v1/cluster")[1])
            return sum(1 for v in found.get("voters", []) if v.get("seat") == "voter")
        except (OSError, ValueError):
            return 0


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


class Before(Fleetd):
    """An earlier fleetd, in the place of etcd."""

    name = "before"


class Crowd:
    """tests/bench/crowd: many clients in one process, controlled by commands."""

    def __init__(self, program):
        self.process = subprocess.Popen(program if isinstance(program, list) else [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True)

    def __call__(self, *words):
        self.send(*words)
        return self.answer(*words)

    def send(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def answer(self, *words):
        """The answer to a command that was sent."""
        answer = self.process.stdout.readline().split()
        if not answer:
            raise SystemExit("crowd ended, asked to: %s" % " ".join(str(w) for w in words))
        return [float(w) for w in answer if w != "ok"]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.stdin.close()
        self.process.wait()


class Bench:
    """What a row is given: options, a scratch folder, and clusters of both."""

    def __init__(self, opts, scratch):
        self.opts = opts
        self.scratch = scratch
        self.etcd = shutil.which("etcd")

    @contextlib.contextmanager
    def fleetd(self, members, options=()):
        """A cluster of fleetd alone."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            server = Fleetd(folder, members, self.opts.fleetd, options)
            try:
                yield server
                server.stop()
            finally:
                server.kill()

    @contextlib.contextmanager
    def clusters(self, members, options=()):
        """One cluster of each, side by side: fleetd's first, with more options; then the earlier fleetd, or etcd where it is installed."""
        made = []
        try:
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                made.append(Fleetd(folder, members, self.opts.fleetd, options))
                if self.opts.before:
                    made.append(Before(folder, members, self.opts.before, options))
                elif self.etcd:
                    made.append(Etcd(folder, members, self.etcd))
                yield made
                for s in made:
                    s.stop()
        finally:
            for s in made:
                s.kill()


def figures(values, form="%8.0f"):
    """Minimum, median and maximum."""
    return " ".join(form % v for v in (min(values), statistics.median(values), max(values)))


def ratio(values, above="fleetd"):
    """Of the medians of two series, with the least and the largest of their rounds' own; empty when one is missing."""
    below = next((name for name in values if name != above), None)
    if not values.get(above) or not values.get(below) or not min(values[below]):
        return ""
    rounds = [a / b for a, b in zip(values[above], values[below])]
    return "%6.2f (%.2f to %.2f)" % (statistics.median(values[above]) / statistics.median(values[below]), min(rounds), max(rounds))
