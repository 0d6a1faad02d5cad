"""Sends expensive and ordinary requests to the three hosts of a cluster.

Usage: soak.py --scenes FILE --seconds N --seed N --memory BYTES [--p99-ms N] PID,ADDRESS,SOCKET ...

One process is the ordinary clients: they write, read and watch small keys over persistent connections, and measure the time until each
answer is complete. The other process sends the requests of tests/search/scenes, as they are and with changes, watches of deep paths, units
with large texts, and requests whose answers it does not read. The seed determines which requests are sent; their order of arrival depends on
the machine.

At the end each host is alive and serves, each acknowledged write is present, and memory stayed below its limit. The times of the answers
and the terms are printed; with --p99-ms they are checked, too, on a machine without other work: no leader is lost."""

import argparse
import collections
import http.client
import json
import multiprocessing
import os
import random
import re
import select
import socket
import sys
import threading
import time
import traceback

MIB = 1024 * 1024
ANSWER_S = 30          # an answer that takes longer has not come
MEMORY_MARGIN = 16 * MIB
STATE_MAX = 12 * MIB   # of the keys of one scene
SCENE_PLAYERS = 2      # scenes at a time
REQUEST_MAX = 250 * 1024
UNIT_MAX = 120 * 1024  # about UNIT_SIZE_MAX
ORDINARY = 12          # connections that write and read
INTERVAL_S = 0.02      # of the requests of one of them
KEYS = 50              # of each
DEEP_WATCHES = 100     # at a time
SLOW_READERS = 60      # at a time
SLOW_VALUES = 8        # of 200 kB, below what they read
LATE = ("timed out", "without an answer") # a busy machine alone can cause these: checked with --p99-ms
FORM = "application/x-www-form-urlencoded"
FLAT, DEEP, LONG, LONG_SHARED = range(4)
SET_SAME, SET_EACH, REFRESH_SAME, REFRESH_EACH, UPDATE_EACH, DELETE_EACH, CREATE, REMOVE_ALL, CHECK_VALUE = range(9)
GENES = { # those of tests/search/expensive.c, which draws the corpus
         "nodes": 20000, "shape": LONG_SHARED, "value": 240000, "ttl": 1, "watchers": 64, "clients": 64, "items": 4096, "action": CHECK_VALUE,
         "size": 240000, "units": 200, "rules": 4000, "form": 6}
UNIT_KINDS = ("unit", "units", "batch", "plan", "destroy")
SECTION, PATTERNS, NAMES, ALIASES, UNKNOWN, EMPTY = range(1, 7) # what the text of a unit has many of

# Beside the corpus, so that each kind of request is sent: see tests/search/expensive.c.
MORE_SCENES = """
refresh nodes=1 value=239000 clients=64
txn nodes=2000 shape=2 items=4000 action=5 clients=4
txn nodes=20000 items=4000 action=7 clients=4
delete-all nodes=50 value=239000 ttl=1 clients=64
get-dir nodes=20000 value=100 clients=64
get-all nodes=20000 shape=1 value=10 clients=64
list nodes=20000 value=200 items=1000 clients=64
unit size=90000 clients=64 units=20
batch items=100 size=90000 rules=50 units=20 clients=8
""".splitlines()


class Host:
    def __init__(self, words):
        self.pid, self.address, self.socket = words.split(",")
        ip, port = self.address.rsplit(":", 1)
        self.endpoint = (ip, int(port))

    def connect(self, local=False, buffer=0):
        s = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
        s.settimeout(ANSWER_S)
        if buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        s.connect(self.socket if local else self.endpoint)
        if not local:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s


def request_bytes(method, target, body=b"", kind=FORM, close=False):
    head = "%s %s HTTP/1.1\r\nHost: localhost\r\n" % (method, target)
    if close:
        head += "Connection: close\r\n"
    if body:
        head += "Content-Type: %s\r\nContent-Length: %d\r\n" % (kind, len(body))
    return head.encode() + b"\r\n" + body


def ask(host, method, target, body=b"", kind=FORM, local=False):
    """One request on a connection of its own: status, X-Etcd-Index or 0, body."""
    with host.connect(local) as s:
        s.sendall(request_bytes(method, target, body, kind, True))
        answer = http.client.HTTPResponse(s, method=method)
        answer.begin()
        return answer.status, int(answer.getheader("X-Etcd-Index") or 0), answer.read()


def check(name, holds, why=""):
    print("ok %s" % name if holds else "not ok %s: %s" % (name, why), flush=True)


# -- The ordinary clients: a process of its own --


class Answer:
    """An answer while it is received."""

    def __init__(self):
        self.bytes, self.status, self.index, self.at, self.size, self.chunked, self.body = bytearray(), 0, 0, 0, 0, False, b""

    def feed(self, part):
        self.bytes += part
        if not self.status:
            end = self.bytes.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self.bytes[:end]).decode("latin-1").lower()
            self.at, self.status = end + 4, int(head[9:12])
            self.chunked = "transfer-encoding: chunked" in head
            size, index = (re.search(name + r": (\d+)", head) for name in ("content-length", "x-etcd-index"))
            self.size, self.index = int(size.group(1)) if size else 0, int(index.group(1)) if index else 0
        if self.chunked:
            return self.feed_chunks()
        self.body = bytes(self.bytes[self.at:])
        return len(self.body) >= self.size

    def feed_chunks(self):
        while (end := self.bytes.find(b"\r\n", self.at)) >= 0:
            size = int(self.bytes[self.at:end], 16)
            if len(self.bytes) < end + 2 + size + 2:
                return False
            self.body += bytes(self.bytes[end + 2:end + 2 + size])
            self.at = end + 2 + size + 2
            if size == 0:
                return True
        return False


class Key:
    """A key of one client, and the values it may have: the acknowledged one, and later ones without an answer."""

    def __init__(self, name):
        self.name, self.acknowledged, self.unknown = name, None, []

    def may_be(self, value):
        return value == self.acknowledged or value in self.unknown


class Client:
    """One connection with one request at a time."""

    def __init__(self, ordinary, number, host):
        self.ordinary, self.host, self.number = ordinary, host, number
        self.random = random.Random("%d ordinary %d" % (ordinary.seed, number))
        self.keys = [Key("/ordinary/c%d/k%d" % (number, i)) for i in range(KEYS)]
        self.n, self.next_s, self.kind = 0, time.monotonic() + self.random.random() * INTERVAL_S, None
        self.socket = host.connect()
        ordinary.by_fd[self.socket.fileno()] = self

    def send(self, kind, method, target, body=b"", key=None, value=None):
        self.kind, self.key, self.value, self.answer = kind, key, value, Answer()
        self.sent_s = time.monotonic()
        self.socket.sendall(request_bytes(method, target, body))

    def is_due(self, now_s):
        return self.next_s <= now_s

    def begin(self):
        key, draw = self.random.choice(self.keys), self.random.random()
        if key.acknowledged is None or draw < 0.5:
            self.n += 1
            value = "%d-%d" % (self.number, self.n)
            self.send("put", "PUT", "/v2/keys" + key.name, b"value=" + value.encode(), key, value)
        elif draw < 0.8:
            self.send("get", "GET", "/v2/keys" + key.name, key=key)
        else:
            self.send("get of a majority", "GET", "/v2/keys%s?quorum=true" % key.name, key=key)

    def done(self):
        """The answer is complete."""
        a, kind = self.answer, self.kind
        self.kind = None
        self.next_s = max(time.monotonic(), self.sent_s + INTERVAL_S)
        if kind == "put":
            if a.status in (200, 201):
                self.key.acknowledged, self.key.unknown = self.value, []
            else:
                self.key.unknown.append(self.value)
        elif a.status == 200 and kind == "get of a majority" and not self.key.may_be(json.loads(a.body)["node"]["value"]):
            self.ordinary.wrong.append("%s is %s and not %s" % (self.key.name, a.body, self.key.acknowledged))
        if a.status in (200, 201):
            self.ordinary.took[kind].append((time.monotonic() - self.sent_s) * 1000)
        else:
            self.ordinary.refused["%s %d: %s" % (kind, a.status, a.body.decode("utf-8", "replace")[:200])] += 1

    def feed(self):
        try:
            part = self.socket.recv(65536)
        except OSError:
            part = b""
        if not part:
            self.lost("closed")
        elif self.answer.feed(part):
            self.done()

    def lost(self, why):
        if self.kind == "put":
            self.key.unknown.append(self.value)
        self.ordinary.refused["%s of h%d: connection %s" % (self.kind, self.ordinary.hosts.index(self.host) + 1, why)] += 1
        self.kind = None
        del self.ordinary.by_fd[self.socket.fileno()]
        self.ordinary.poll.unregister(self.socket)
        self.socket.close()
        self.next_s = time.monotonic() + 1
        self.socket = self.host.connect()
        self.ordinary.by_fd[self.socket.fileno()] = self
        self.ordinary.poll.register(self.socket, select.POLLIN)


class Watcher(Client):
    """Watches a key that its writer sets through another host; measures from the write until the event is received."""

    def __init__(self, ordinary, number, host, writer_host):
        super().__init__(ordinary, number, host)
        self.writer = Writer(ordinary, number, writer_host, self)
        self.name, self.waits = "/ordinary/w%d" % number, False

    def begin(self):
        self.waits = False
        self.send("watch", "GET", "/v2/keys%s?wait=true" % self.name)

    def feed(self):
        super().feed()
        if self.kind == "watch" and not self.waits and self.answer.status == 200: # the head has come
            self.waits = self.writer.is_wanted = True


class Writer(Client):
    def __init__(self, ordinary, number, host, watcher):
        super().__init__(ordinary, number + 100, host)
        self.watcher, self.is_wanted, self.next_s = watcher, False, float("inf")

    def is_due(self, now_s):
        return self.is_wanted

    def begin(self):
        self.n += 1
        self.is_wanted = False
        self.send("put", "PUT", "/v2/keys" + self.watcher.name, b"value=%d" % self.n, Key(self.watcher.name), str(self.n))
        self.watcher.sent_s = self.sent_s

    def done(self):
        self.is_wanted = self.is_wanted or self.answer.status >= 300
        super().done()
        self.next_s = float("inf")


class Ordinary:
    def __init__(self, hosts, seed):
        self.hosts, self.seed, self.by_fd = hosts, seed, {}
        self.took, self.refused, self.wrong = collections.defaultdict(list), collections.Counter(), []
        self.clients = [Client(self, i, hosts[i % len(hosts)]) for i in range(ORDINARY)]
        for i, host in enumerate(hosts):
            watcher = Watcher(self, ORDINARY + i, host, hosts[(i + 1) % len(hosts)])
            self.clients += [watcher, watcher.writer]
        self.poll = select.poll()
        for client in self.clients:
            self.poll.register(client.socket, select.POLLIN)

    def run(self, over):
        while True:
            now_s = time.monotonic()
            if over.is_set() and not any(c.kind for c in self.clients if not isinstance(c, Watcher)):
                break
            next_s = now_s + 0.1
            for c in self.clients:
                if c.kind is None and c.is_due(now_s) and not over.is_set():
                    c.begin()
                elif c.kind is None:
                    next_s = min(next_s, c.next_s)
                elif now_s > c.sent_s + ANSWER_S:
                    c.lost("without an answer for %d s" % ANSWER_S)
            for fd, _ in self.poll.poll(max(0, int((next_s - now_s) * 1000))):
                if fd in self.by_fd:
                    self.by_fd[fd].feed()

    def result(self):
        keys = {k.name: (k.acknowledged, k.unknown) for c in self.clients for k in c.keys if k.acknowledged is not None}
        return {"took": dict(self.took), "refused": dict(self.refused), "wrong": self.wrong, "keys": keys}


def run_ordinary(hosts, seed, over, pipe):
    try:
        os.nice(-5) # what waits for a core here would be counted as the hosts' time
    except PermissionError:
        pass
    ordinary = Ordinary(hosts, seed)
    ordinary.run(over)
    pipe.send(ordinary.result())


# -- Expensive requests --


class Scene:
    """As in tests/search/expensive.c."""

    def __init__(self, line):
        self.kind, *words = line.split()
        self.genes = dict.fromkeys(GENES, 0)
        self.genes.update((name, min(int(n), GENES[name])) for name, n in (word.split("=") for word in words))

    def change(self, rng):
        for _ in range(rng.randrange(3)):
            name = rng.choice(list(GENES))
            self.genes[name] = rng.choice((self.genes[name] // 2, min(2 * self.genes[name] + 1, GENES[name]), GENES[name]))
        return self

    def place(self, name):
        g = self.genes
        self.name = name
        self.base = "/search/" + name + ("/" + "d" * 485 if g["shape"] == LONG_SHARED else "")
        self.n = max(1, min(g["nodes"], STATE_MAX // (len(self.key(0)) + g["value"] + 300)))
        return self

    def key(self, i):
        if self.genes["shape"] == DEEP:
            return self.base + "/0" * 119 + "/%d" % i
        return self.base + "/%06d" % i + ("k" * 500 if self.genes["shape"] == LONG else "")

    def state(self):
        """The requests that write the keys of the scene, or the units to be destroyed, each as request() gives it."""
        if self.kind == "destroy":
            yield request_bytes("POST", "/fleet/v1/batch", json.dumps({"units": self.units()}).encode(), "application/json", True), True
        if self.kind in UNIT_KINDS:
            return
        g, writes, size = self.genes, [], 0
        value = "x" * g["value"]
        for i in range(self.n):
            write = {"action": "set", "key": self.key(i), "value": value}
            if g["ttl"]:
                write["ttl"] = 3600
            writes.append(write)
            size += len(write["key"]) + len(value) + 64
            if len(writes) == 200 or i + 1 == self.n or size + 8192 + len(value) > REQUEST_MAX:
                yield request_bytes("POST", "/fleet/v1/kv/txn", json.dumps({"writes": writes}).encode(), "application/json", True), False
                writes, size = [], 0

    def line(self, number, i):
        """Line 'i' of the many ones of unit 'number'."""
        x = "x" * min(self.genes["size"], 1900)
        lines = {SECTION: "=", PATTERNS: "Conflicts=*%d-%d" % (number, i), UNKNOWN: "Machinemetadata%s=%d" % (x, i),
                 NAMES: "MachineOf=%s%d\nConflicts=*%sx%d" % (x[:len(x) // 10], i, x[:len(x) // 20], i),
                 ALIASES: "Alias=a b c d e f g h i j k l m n o p", EMPTY: 'MachineOf=""%s""' % (" " * len(x))}
        return lines.get(self.genes["form"], "Conflicts=a%d*b*c*" % i) + "\n"

    def unit(self, name, number, most):
        """At most about 'most' bytes of text."""
        g = self.genes
        most = min(most, UNIT_MAX)
        text = "[Service]\nExecStart=/bin/one\n"
        if g["form"] == 0:
            size = min(g["size"], most // 2)
            text += "#%s\n" % ("x" * min(size, 1000)) * (1 + size // 1000)
        text += {SECTION: "[X-%s]\n" % ("x" * min(g["size"], 1900)), ALIASES: "[Install]\n"}.get(g["form"], "[X-Fleet]\n")
        for i in range(g["rules"]):
            if len(text) >= most:
                break
            text += self.line(number, i)
        return {"name": name, "desiredState": "launched", "text": text}

    def unit_names(self):
        """Of the units that it may submit."""
        n = 16 if self.kind == "unit" else min(self.genes["items"], 200) + 1
        return ["%s-n%d.service" % (self.name, i) for i in range(n)] if self.kind in ("unit", "batch", "destroy") else []

    def units(self):
        n = min(self.genes["items"], 200) + 1
        return self.many(n, lambda i: self.unit("%s-n%d.service" % (self.name, i), i, REQUEST_MAX // 2 // n))

    def write(self, i):
        g, action = self.genes, self.genes["action"]
        same = action in (SET_SAME, REFRESH_SAME, CHECK_VALUE)
        if action == REMOVE_ALL:
            return {"action": "delete", "key": self.base, "recursive": True}
        key = self.key(500000 + i if action == CREATE else 0 if same else i % self.n)
        if action == DELETE_EACH:
            return {"action": "delete", "key": key}
        if action in (REFRESH_SAME, REFRESH_EACH):
            return {"action": "set", "key": key, "refresh": True, "ttl": 1000}
        word = {UPDATE_EACH: "update", CREATE: "create"}.get(action, "set")
        return {"action": word, "key": key, "value": "x" * min(g["size"], REQUEST_MAX // (g["items"] + 1))}

    def many(self, most, make):
        """As many items as fit into one request."""
        items, size = [], 0
        for i in range(most):
            item = make(i)
            size += len(json.dumps(item)) + 2
            if size > REQUEST_MAX - 10000 and items:
                break
            items.append(item)
        return items

    def request(self, client):
        """Its bytes, and whether the unix socket has to take it."""
        g, kind = self.genes, self.kind
        key = self.key(client % self.n)
        value = b"value=" + b"x" * min(g["size"], 240000)
        form = {"put": ("PUT", key, value), "refresh": ("PUT", key, b"refresh=true&prevExist=true&ttl=1000"), "compare": ("PUT", key, b"value=b&prevValue=a"),
                "post": ("POST", self.base + "/q", value), "delete-dir": ("DELETE", self.base + "?dir=true", b""),
                "delete-all": ("DELETE", self.base + "?recursive=true", b""), "get-dir": ("GET", self.base + "?sorted=true", b""),
                "get-all": ("GET", self.base + "?sorted=true&recursive=true", b""), "wait": ("GET", key + "?wait=true&recursive=true", b"")}
        if kind in form:
            method, target, body = form[kind]
            return request_bytes(method, "/v2/keys" + target, body, close=True), False
        if kind == "list":
            target = "/fleet/v1/kv/list?prefix=%s&limit=%d%s" % (self.base, min(g["items"] + 1, 1000), "&recursive=false" if g["action"] % 2 else "")
            return request_bytes("GET", target, close=True), False
        if kind == "units":
            return request_bytes("GET", "/fleet/v1/units" if g["action"] % 2 else "/fleet/v1/machines", close=True), True
        if kind == "txn" and g["action"] == CHECK_VALUE:
            checks = self.many(g["items"] + 1, lambda i: {"key": self.key(i % self.n), "exists": True})
            target, body = "/fleet/v1/kv/txn", {"checks": checks, "writes": [self.write(0)]}
        elif kind == "txn":
            target, body = "/fleet/v1/kv/txn", {"writes": self.many(min(g["items"] + 1, 4096), self.write)}
        elif kind == "unit":
            body = self.unit(self.unit_names()[client % 16], client % 16, REQUEST_MAX // 2)
            return request_bytes("PUT", "/fleet/v1/units/" + body["name"], json.dumps(body).encode(), "application/json", True), True
        elif kind == "destroy":
            target, body = "/fleet/v1/batch", {"units": [{"name": name, "destroy": True} for name in self.unit_names()]}
        else:
            target, body = "/fleet/v1/" + kind, {"units": self.units()} # batch, plan
        return request_bytes("POST", target, json.dumps(body).encode(), "application/json", True), not target.startswith("/fleet/v1/kv")


class Load:
    """The expensive clients: threads, which mostly wait."""

    def __init__(self, hosts, seed, scenes):
        self.hosts, self.seed, self.scenes = hosts, seed, scenes
        self.over, self.lock = threading.Event(), threading.Lock()
        self.sent, self.answers, self.memory, self.hasty = (collections.Counter() for _ in range(4))
        self.failures, self.errors = collections.Counter(), []
        self.threads = [threading.Thread(target=self.run, args=(self.play_scene, "scene %d" % i)) for i in range(SCENE_PLAYERS)]
        self.threads += [threading.Thread(target=self.run, args=(run, name)) for run, name in (
            (self.watch_deep_paths, "deep watches"), (self.read_slowly, "slow readers"), (self.write_units, "unit texts"))]

    def start(self):
        for t in self.threads:
            t.start()

    def end(self):
        self.over_s = time.monotonic()
        self.over.set()
        for t in self.threads:
            t.join()

    def run(self, play, name):
        rng, n = random.Random("%d %s" % (self.seed, name)), 0
        while not self.over.is_set():
            n += 1
            try:
                play(rng, "%s-%d" % (name.replace(" ", ""), n))
            except (OSError, http.client.HTTPException) as e: # a connection that was closed, or refused
                self.failures["%s: %s" % (name, e)] += 1
                self.over.wait(1)
            except Exception:
                self.errors.append(traceback.format_exc())
                return

    def count(self, kind, n, answers):
        with self.lock:
            self.sent[kind] += n
            for a in answers:
                self.answers["%s %s" % (kind, a)] += 1

    def burst(self, kind, requests, host, reads_s=ANSWER_S):
        """Send them at once, each on its connection, and read the answers, for 'reads_s' at most."""
        connections, poll, answers = {}, select.poll(), []
        for request, local in requests:
            s = host.connect(local)
            s.setblocking(False)
            connections[s.fileno()] = [s, memoryview(request), b""]
            poll.register(s, select.POLLIN | select.POLLOUT)
        end_s = time.monotonic() + reads_s
        while connections and time.monotonic() < (end_s if not self.over.is_set() else min(end_s, self.over_s + 2)):
            for fd, event in poll.poll(100):
                c, ended = connections[fd], False
                try:
                    if event & select.POLLOUT and c[1]:
                        c[1] = c[1][c[0].send(c[1]):]
                    if not c[1]:
                        poll.modify(fd, select.POLLIN)
                    if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                        part = c[0].recv(1 << 20)
                        c[2] = (c[2] + part)[:400]
                        ended = not part
                except BlockingIOError:
                    pass
                except OSError:
                    ended = True
                if ended:
                    poll.unregister(fd)
                    c[0].close()
                    del connections[fd]
                    answers.append(self.answer_word(c[2]))
        for s, _, _ in connections.values():
            s.close()
        answers += ["unanswered"] * len(connections)
        self.count(kind, len(requests), answers)
        return answers

    def answer_word(self, bytes):
        """The status of an answer. Refusals that name memory, and 503 without Retry-After, are counted."""
        if b"out of memory" in bytes or b"Cannot allocate" in bytes:
            with self.lock:
                self.memory[bytes.decode("latin-1")[-120:]] += 1
        if bytes[9:12] == b"503" and b"\r\nRetry-After: " not in bytes:
            with self.lock:
                self.hasty[bytes.decode("latin-1")] += 1
        return bytes[9:12].decode("latin-1") or "closed"

    def until_taken(self, host, request, local=False):
        """Sends it again while the answer is 503."""
        for _ in range(50):
            answer = self.burst("preparation", [(request, local)], host)[0]
            if answer not in ("503", "closed", "unanswered") or self.over.wait(0.1):
                return

    def remove(self, host, base):
        """Until nothing is left: keys that stay fill the quota, and the hosts refuse the rest of the load."""
        while not self.over.is_set():
            answer = self.burst("delete-all", [(request_bytes("DELETE", "/v2/keys%s?recursive=true&dir=true" % base, close=True), False)], host)[0]
            if answer in ("200", "404"):
                return
            if answer == "413":
                self.remove_parts(host, base)
            else:
                self.over.wait(0.2)

    def remove_parts(self, host, base):
        """Remove keys below, where the removal of all costs too much, until less than a page of them is left."""
        is_last = False
        while not is_last and not self.over.is_set():
            status, _, body = ask(host, "GET", "/fleet/v1/kv/list?prefix=%s&limit=1000" % base)
            if status != 200:
                self.over.wait(0.2)
                continue
            page, writes, cost = json.loads(body), [], 0
            is_last = "nextPageToken" not in page
            for node in page["nodes"]:
                if node.get("dir"):
                    continue
                writes.append({"action": "delete", "key": node["key"]})
                cost += 8192 + 8 * len(node.get("value", ""))
                if cost > 8 * MIB:
                    break
            if not writes:
                return
            self.until_taken(host, request_bytes("POST", "/fleet/v1/kv/txn", json.dumps({"writes": writes}).encode(), "application/json", True))

    def play_scene(self, rng, name):
        number = int(name.rsplit("-", 1)[1])
        scene = Scene(self.scenes[(SCENE_PLAYERS * number + int(name[5])) % len(self.scenes)])
        if number * SCENE_PLAYERS > len(self.scenes): # each as it is, and then changed
            scene.change(rng)
        scene.place(name)
        n, n_watchers = max(1, min(scene.genes["clients"], 64)), min(scene.genes["watchers"], 64)
        host, others = rng.choice(self.hosts), [rng.choice(self.hosts) for _ in range(n_watchers)]
        for request, local in scene.state():
            if self.over.is_set():
                return
            self.until_taken(host, request, local)
        watchers = []
        for i, h in enumerate(others):
            watchers.append(h.connect())
            watchers[-1].sendall(request_bytes("GET", "/v2/keys%s?wait=true&recursive=true" % scene.key(i % scene.n)))
        self.burst(scene.kind, [scene.request(i) for i in range(n)], host, 1 if scene.kind == "wait" else ANSWER_S)
        for s in watchers:
            s.close()
        self.remove(host, "/search/" + scene.name)
        for unit in scene.unit_names():
            ask(host, "DELETE", "/fleet/v1/units/" + unit, local=True)

    def watch_deep_paths(self, rng, name):
        paths = ["/deep/%s" % name + "/%d" % i + "/p" * 500 for i in range(4)]
        watchers = []
        for i in range(DEEP_WATCHES):
            s = rng.choice(self.hosts).connect()
            s.sendall(request_bytes("GET", "/v2/keys%s?wait=true&recursive=true" % paths[i % len(paths)]))
            watchers.append(s)
        host = rng.choice(self.hosts)
        for path in paths:
            self.burst("write of a deep path", [(request_bytes("PUT", "/v2/keys" + path, b"value=x", close=True), False)], host)
            self.burst("write above a deep path", [(request_bytes("PUT", "/v2/keys/deep/%s/%d/p/q%d" % (name, 0, i), b"value=x", close=True), False) for i in range(20)], host)
        self.count("deep watch", len(watchers), [])
        for s in watchers:
            s.close()
        self.remove(host, "/deep/" + name)

    def read_slowly(self, rng, name):
        """Streams and listings whose clients read nothing while much is written, and then close."""
        base, slow, host = "/slow/" + name, [], rng.choice(self.hosts)
        for i in range(SLOW_VALUES):
            self.until_taken(host, request_bytes("PUT", "/v2/keys%s/%d" % (base, i), b"value=" + b"x" * 200000, close=True))
        for i in range(SLOW_READERS):
            s = rng.choice(self.hosts).connect(buffer=4096)
            s.sendall(request_bytes("GET", "/v2/keys%s?recursive=true%s" % (base, "&wait=true&stream=true" if i % 2 else "")))
            slow.append(s)
        for i in range(20):
            self.until_taken(host, request_bytes("PUT", "/v2/keys%s/%d" % (base, i % SLOW_VALUES), b"value=" + b"y" * 200000, close=True))
        self.count("unread stream or listing", len(slow), [])
        for s in slow:
            s.close()
        self.remove(host, base)

    def write_units(self, rng, name):
        host = rng.choice(self.hosts)
        for i in range(10):
            text = "[Service]\nExecStart=/bin/one\n" + "#%s\n" % ("%d" % i * 1000) * rng.choice((1, 100))
            body = json.dumps({"name": "large%d.service" % (i % 3), "desiredState": "inactive", "text": text}).encode()
            self.burst("text of a unit", [(request_bytes("PUT", "/fleet/v1/units/large%d.service" % (i % 3), body, "application/json", True), True)], host)
        self.over.wait(0.2)


# -- Memory and metrics --


class Memory(threading.Thread):
    """Samples VmData, which RLIMIT_DATA limits, and RssAnon."""

    def __init__(self, hosts):
        super().__init__(daemon=True)
        self.hosts, self.over, self.data, self.anon = hosts, threading.Event(), [0] * len(hosts), [0] * len(hosts)
        self.start()

    def run(self):
        while not self.over.wait(0.05):
            for i, host in enumerate(self.hosts):
                try:
                    with open("/proc/%s/status" % host.pid) as f:
                        fields = dict(line.split(":", 1) for line in f)
                except OSError:
                    continue
                self.data[i] = max(self.data[i], int(fields.get("VmData", "0 kB").split()[0]) * 1024)
                self.anon[i] = max(self.anon[i], int(fields.get("RssAnon", "0 kB").split()[0]) * 1024)


def metrics(host):
    text = ask(host, "GET", "/metrics", local=True)[2].decode()
    return {name: float(n) for name, n in (line.rsplit(" ", 1) for line in text.splitlines() if line and line[0] != "#")}


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * q))] if values else 0.0


def print_times(took):
    everything = [ms for kind in took.values() for ms in kind]
    for kind, values in sorted(took.items()) + [("all ordinary requests", everything)]:
        print("# %s: %d, p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, max %.1f ms"
              % (kind, len(values), quantile(values, 0.5), quantile(values, 0.99), quantile(values, 0.999), max(values, default=0)))
    return quantile(everything, 0.99)


def print_metrics(i, m):
    buckets = [(name.split('"')[1], n) for name, n in m.items() if name.startswith("fleet_loop_turn_cpu_seconds_bucket")]
    below = dict(buckets).get("0.02", 0)
    print("# h%d: %d turns, %d of more than 20 ms of CPU time; longest %.1f ms (%.1f ms of wall time); most work of a turn %d bytes, %d nodes; costliest entry %d KiB, %d deferred"
          % (i + 1, m["fleet_loop_turn_cpu_seconds_count"], m["fleet_loop_turn_cpu_seconds_count"] - below, m["fleet_loop_turn_cpu_max_seconds"] * 1000,
             m["fleet_loop_turn_wall_max_seconds"] * 1000, m['fleet_loop_turn_work_max{unit="bytes"}'], m['fleet_loop_turn_work_max{unit="nodes"}'],
             m["fleet_store_apply_cost_max"] / 1024, m["fleet_store_deferred_total"]))


def serves(host):
    """Whether a write is acknowledged and a linearizable read returns it."""
    value = "end of %s" % host.pid
    try:
        for _ in range(100):
            if ask(host, "PUT", "/v2/keys/ordinary/end", b"value=" + value.replace(" ", "+").encode())[0] in (200, 201):
                return json.loads(ask(host, "GET", "/v2/keys/ordinary/end?quorum=true")[2])["node"]["value"] == value
            time.sleep(0.1)
    except (OSError, http.client.HTTPException, KeyError):
        pass
    return False


def missing(host, keys):
    """The first of them that has another value than the acknowledged one, or one whose answer was lost."""
    connection = http.client.HTTPConnection(*host.endpoint, timeout=ANSWER_S)
    for name, (acknowledged, unknown) in sorted(keys.items()):
        connection.request("GET", "/v2/keys%s?quorum=true" % name)
        answer = json.loads(connection.getresponse().read())
        value = answer.get("node", {}).get("value")
        if value != acknowledged and value not in unknown:
            return "%s is %s, acknowledged was %s" % (name, answer, acknowledged)
    return None


def left(host):
    """Bytes of keys and values below each of the folders that the load uses."""
    sizes, token = collections.Counter(), ""
    while True:
        status, _, body = ask(host, "GET", "/fleet/v1/kv/list?prefix=/" + token)
        page = json.loads(body)
        if status != 200:
            return {"unknown": page}
        for node in page["nodes"]:
            sizes["/".join(node["key"].split("/")[:3])] += len(node["key"]) + len(node.get("value", ""))
        if "nextPageToken" not in page:
            return {name: size for name, size in sizes.items() if name.startswith(("/search/", "/deep/", "/slow/"))}
        token = "&nextPageToken=" + page["nextPageToken"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--scenes", required=True)
    p.add_argument("--seconds", type=int, required=True)
    p.add_argument("--seed", type=int, required=True)
    p.add_argument("--memory", type=int, required=True)
    p.add_argument("--p99-ms", type=float)
    p.add_argument("hosts", nargs=3)
    o = p.parse_args()
    hosts = [Host(words) for words in o.hosts]
    with open(o.scenes) as f:
        scenes = [line for line in list(f) + MORE_SCENES if line.strip() and line[0] != "#"]

    terms = [int(metrics(h)["fleet_store_term"]) for h in hosts]
    fork = multiprocessing.get_context("fork")
    over, (here, there) = fork.Event(), fork.Pipe()
    ordinary = fork.Process(target=run_ordinary, args=(hosts, o.seed, over, there))
    ordinary.start()
    there.close()
    os.nice(10)  # who sends expensive requests has processors of its own; ours are those of the hosts
    memory, load = Memory(hosts), Load(hosts, o.seed, scenes)
    print("# seed %d, %d s, term %s" % (o.seed, o.seconds, terms), flush=True)
    load.start()
    for minute in range(o.seconds // 60 + 1):
        load.over.wait(min(60, o.seconds - 60 * minute))
        print("# after %d s: VmData %s MiB, RssAnon %s MiB" % (min(60 * minute + 60, o.seconds), [n // MIB for n in memory.data], [n // MIB for n in memory.anon]), flush=True)
    load.end()
    over.set()
    try:
        result = here.recv()
    except EOFError:
        check("ordinary_clients_end", False, "their process has failed")
        return
    ordinary.join()
    memory.over.set()

    for kind, n in sorted(load.sent.items()):
        answers = ", ".join("%s: %d" % (a.rsplit(" ", 1)[1], m) for a, m in sorted(load.answers.items()) if a.rsplit(" ", 1)[0] == kind)
        print("# %s: %d sent; %s" % (kind, n, answers or "not read"))
    for words, n in load.failures.items():
        print("# %d times %s" % (n, words))
    for words, n in load.memory.items():
        print("# %d times %r" % (n, words))
    for words, n in result["refused"].items():
        print("# ordinary, %d times %s" % (n, words))
    p99 = print_times(result["took"])

    check("each_host_serves", all([serves(h) for h in hosts]), "a write was not acknowledged or not read")
    try:
        after = [metrics(h) for h in hosts]
    except OSError as e:
        check("metrics_are_there", False, e)
        return
    for i, m in enumerate(after):
        print_metrics(i, m)
        print("# h%d: at most %.0f MiB of VmData, %.0f MiB of RssAnon" % (i + 1, memory.data[i] / MIB, memory.anon[i] / MIB))
    now = [int(m["fleet_store_term"]) for m in after]
    print("# terms %s, and before %s" % (now, terms), flush=True)
    if o.p99_ms: # processes that wait for a core lose a leader, too
        check("no_leader_is_lost", now == terms, "terms %s, and before %s" % (now, terms))
    print("# left:", left(hosts[0]))
    lacks = [words for words in (missing(h, result["keys"]) for h in hosts) if words]
    check("what_was_acknowledged_is_there", not lacks and len(result["keys"]) > 0, lacks)
    check("a_majority_reads_what_was_acknowledged", not result["wrong"], result["wrong"][:3])
    refused = {words: n for words, n in result["refused"].items() if o.p99_ms or not any(late in words for late in LATE)}
    check("ordinary_requests_are_not_refused", not refused, refused)
    check("memory_stays_below_its_limit", max(memory.data) <= o.memory - MEMORY_MARGIN, "%s of %d bytes" % (memory.data, o.memory))
    check("nothing_is_refused_for_want_of_memory", not load.memory, dict(load.memory))
    check("each_503_has_a_retry_after", not load.hasty, dict(load.hasty))
    check("the_load_runs_to_its_end", not load.errors, load.errors)
    check("each_kind_of_request_is_sent", o.seconds < 600 or all(load.sent[Scene(line).kind] for line in scenes), dict(load.sent))
    if o.p99_ms:
        check("ordinary_requests_are_answered_in_time", p99 < o.p99_ms, "p99 %.1f ms" % p99)


main()
