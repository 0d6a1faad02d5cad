"""A fake fleetd: the HTTP API over a unix socket, with a simulated cluster of three machines without delays. The text of a
unit decides what it does: /bin/false fails, Type=oneshot ends, region=mars fits no machine."""

import base64
import fnmatch
import hashlib
import json
import os
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

MACHINES = [
    {"id": d * 32, "primaryIP": f"10.0.0.{d}", "metadata": {"host": f"h{d}", "n": d, "region": "eu"}, "hostname": h,
     "presence": "up", "role": "leader" if d == "1" else "voter"}
    for d, h in (("1", "alpha"), ("2", "beta"), ("3", "gamma"))
]
PAGE = 100

# An ssh that forwards a socket on this host. Its command line is in the file $SAID.
SSH = """#!/usr/bin/env python3
import os, socket, sys, threading, time
near, far = sys.argv[sys.argv.index('-L') + 1].split(':')
open(os.environ['SAID'], 'w').write(' '.join(sys.argv[1:]))
s = socket.socket(socket.AF_UNIX); s.bind(near); time.sleep(0.2); s.listen()
def copy(a, b):
    try:
        while d := a.recv(65536): b.sendall(d)
        b.shutdown(socket.SHUT_WR)
    except OSError:
        pass
while True:
    c, _ = s.accept(); f = socket.socket(socket.AF_UNIX); f.connect(far)
    for p in ((c, f), (f, c)): threading.Thread(target=copy, args=p, daemon=True).start()
"""


def parse(text):
    options, section = [], ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith(("#", ";")):
            name, value = line.split("=", 1)
            options.append({"section": section, "name": name.strip(), "value": value.strip()})
    return options


def canonical(options):
    sections = {}
    for o in options:
        sections.setdefault(o["section"], []).append(f"{o['name']}={o['value']}\n")
    return "\n".join(f"[{s}]\n" + "".join(lines) for s, lines in sections.items())


class Cluster:
    def __init__(self):
        self.lock = threading.Condition()
        self.units, self.states, self.keys = {}, {}, {}
        self.index = 10
        self.log = []          # of events
        self.history, self.hang_up = [], False  # rows
        self.requests = []     # (method, path)
        self.events = True     # whether the stream of events is served
        self.broken = None     # (status, body) of all answers
        self.spoil = lambda value: value  # replaces values in all answers
        self.delay = 0.0       # until a change takes effect; or an event
        self.reports = {}
        self.lag = 0.0         # until its machine reports it; None: it never does
        self.problem = None    # of the store
        self.leaderless = False  # every change is rejected
        self.level, self.waits_for = 1, []
        self.settings = {}
        self.left = []         # methods of the requests to leave
        self.csrs = []
        self.former, self.revisions = {}, None  # texts that units had; the answer about revisions
        self.silent = None     # the name of a voter
        self.leaving = [{"step": "none"}]  # members of the answers about a leave, in order; the last one stays
        self.maintenance = [{"mode": "none", "units": [], "unitsLeft": 0}]  # answers about a machine, in order; the last one stays
        self.maintained = []   # method and body of the changes
        self.destroys = True   # whether transactions support "destroy"
        self.on_fail = lambda: None
        self.fails = []        # target states: the next change to each is rejected, as without a leader
        self.problems, self.answered = [], []  # of unit directories, and the resolutions received
        self.services = {}  # rows of their endpoints, by name
        self.talks = False  # a journal with many lines
        self.says = ""         # appended to the answers of remote commands
        self.stuck = set()     # units whose states stay when they are destroyed
        self.machines = MACHINES
        self.slow = {}         # of a global unit: machines that have not started it yet
        self.outdated = 5      # the first index of the event window of keys
        self.watching = set()  # watches that wait for a change
        self.cuts, self.last = 0, None  # how often all watches have ended, and the document that ended them; None: they were cut
        self.before_request = lambda method, path: None
        self.before_answer = lambda method, key: None  # called after a key has changed, before the answer is sent

    def notify(self, **event):
        self.index += 1
        self.log.append({"index": self.index, **event})
        self.lock.notify_all()

    def end_watches(self, last=None, **state):
        """End all watches at once, and set these attributes."""
        with self.lock:
            self.cuts, self.last = self.cuts + 1, last
            for name, value in state.items():
                setattr(self, name, value)
            self.lock.notify_all()
            former = set(self.watching)
            while former & self.watching:
                self.lock.wait(0.01)

    def machine_for(self, unit):
        placed = sorted(MACHINES, key=lambda m: (sum(u["machineID"] == m["id"] for u in self.units.values()), m["id"]))
        return placed[0]["id"]

    def is_global(self, unit):
        return {"section": "X-Fleet", "name": "Global", "value": "true"} in unit["options"]

    def found(self):
        """The problems of hosts and units, as the daemon states them."""
        names = {m["id"]: m["hostname"] for m in MACHINES}
        rows = [("no-leader", "cluster", self.problem, "cluster")] if self.problem else []
        if self.waits_for:
            rows.append(("adoption", "cluster", "recovered or restored: no unit is started or moved until all hosts have reported their units; missing: " +
                         ", ".join(self.waits_for), "cluster"))
        if self.silent:
            rows.append(("voter", self.silent, "voter unreachable; 2 of 3 voters left, none may be lost: if that lasts, start it", "help replace"))
        rows += [("failed", name, f"failed on {names[machine]} just now", f"journal {name}")
                 for (name, machine), s in sorted(self.states.items()) if s["systemdActiveState"] == "failed"]
        rows += [("waiting", u["name"], f"not placed: {u['reason']}", f"why {u['name']}")
                 for _, u in sorted(self.units.items()) if u["desiredState"] != "inactive" and not u["machineID"] and not self.is_global(u)]
        return [{"command": f"fleetctl {command}", "description": description, "kind": kind, "name": name,
                 "severity": "critical" if kind == "no-leader" else "warning"} for kind, name, description, command in rows]

    def reach_target(self, name):
        """Apply the target states, like engine and agents."""
        unit = self.units.get(name)
        if not unit:
            if name not in self.stuck:
                for key in [k for k in self.states if k[0] == name]:
                    del self.states[key]
            self.notify(kind="state", name=name)
            return
        wanted, text = unit["desiredState"], unit["text"]
        if self.is_global(unit):
            for m in MACHINES:
                if m["id"] not in self.slow.get(name, ()):
                    self.put_state(name, m["id"], wanted, text)
        elif wanted == "inactive" and self.lag is None:
            pass  # the former assignment remains
        elif wanted == "inactive":
            self.states.pop((name, unit["machineID"]), None)
            self.reports[name, unit["machineID"]] = None
            unit.update(machineID="", currentState="inactive", reason="")
        elif "region=mars" in text:
            unit["reason"] = "needs metadata region=mars, no machine has it"
        else:
            unit["machineID"] = unit["machineID"] or self.machine_for(unit)
            unit["currentState"] = wanted
            report = (name, unit["machineID"], wanted, text)
            self.reports[report[:2]] = report  # in place of one that is on its way
            if self.lag != 0 and report[:2] in self.states:
                self.report_later(report)
            else:
                self.put_state(*report)
        self.notify(kind="unit", name=name)

    def report_later(self, report):
        def run(lag):
            time.sleep(lag)
            with self.lock:
                if self.reports[report[:2]] is not report:
                    return  # on a busy machine a newer one may have been faster
                self.put_state(*report)
                self.notify(kind="state", name=report[0])
        if self.lag is not None:
            threading.Thread(target=run, args=(self.lag,), daemon=True).start()

    def put_state(self, name, machine, wanted, text):
        active, sub, finished = "inactive", "dead", False
        if wanted == "inactive":
            self.states.pop((name, machine), None)
            return
        if wanted == "launched":
            active, sub = "active", "running"
            if "/bin/false" in text:
                active, sub = "failed", "failed"
            elif "Type=oneshot" in text:
                active, sub, finished = "inactive", "dead", True
            elif "slow" in text:
                active, sub = "activating", "start-pre"
        old = self.states.get((name, machine), {})
        # Ahead of the clock: "just now", however slow this machine is.
        since = old.get("since", 0) if old.get("systemdActiveState") == active else int(time.time() * 1000) + 60000
        self.states[name, machine] = {
            "since": since, "hash": self.units[name]["hash"], "machineID": machine, "name": name, "systemdLoadState": "loaded",
            "systemdActiveState": active, "systemdSubState": sub, **({"finished": True} if finished else {})}

    def later(self, name):
        if self.delay == 0:
            self.reach_target(name)
            return

        def run():
            if isinstance(self.delay, threading.Event):
                self.delay.wait()
            else:
                time.sleep(self.delay)
            with self.lock:
                self.reach_target(name)
        threading.Thread(target=run, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def address_string(self):
        return "socket"

    def answer(self, status, body=None, **headers):
        spoil = self.server.cluster.spoil
        data = b"" if body is None else body.encode() if isinstance(body, str) else (json.dumps(spoil(body)) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status >= 500 and b"no leader" in data:
            self.send_header("X-Fleet-Stale", "4")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(data)

    def refuse(self, status, message):
        self.answer(status, {"error": {"code": status, "message": message}})

    def begin_stream(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, value):
        data = (json.dumps(self.server.cluster.spoil(value)) + "\n").encode() if value is not None else b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end_stream(self):
        self.wfile.write(b"0\r\n\r\n")

    def page(self, name, items, query):
        start = 0
        if "nextPageToken" in query:
            start = int(base64.urlsafe_b64decode(query["nextPageToken"][0]))
        part, body = items[start:start + PAGE], {}
        if part:
            body[name] = part
        if start + PAGE <= len(items):
            body["nextPageToken"] = base64.urlsafe_b64encode(b"%04d" % (start + PAGE)).decode()
        self.answer(200, body)

    def handle_any(self):
        c = self.server.cluster
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        url = urlsplit(self.path)
        query, path = parse_qs(url.query, keep_blank_values=True), unquote(url.path)
        c.requests.append((self.command, self.path))
        c.before_request(self.command, self.path)
        if c.broken:
            return self.answer(*c.broken)
        if c.leaderless and self.command != "GET":
            return self.fail_key(c, 500, 300, "Raft Internal Error", c.problem) if path.startswith("/v2/keys") else self.refuse(503, c.problem)
        if path == "/fleet/v1/kv/list":
            return self.answer(200, {"nodes": self.below(self.node(c, query.get("prefix", ["/"])[0], query.get("recursive") != ["false"]))[query.get("prefix") is None:]})
        if path.startswith("/v2/keys"):
            return self.keys(c, path[len("/v2/keys"):].rstrip("/") or "/", query, body)
        if path == "/fleet/v1/events":
            return self.events(c)
        if path == "/fleet/v1/history":
            return self.serve_history(c, query)
        with c.lock:
            if path == "/fleet/v1/cluster/level":
                wanted = json.loads(body)["level"]
                if wanted > 2 or wanted < c.level:
                    return self.refuse(409, "feature level 3: beta supports 2 at most; upgrade it first" if wanted > 2 else "it does not go back")
                c.level = wanted
                return self.answer(204)
            if path == "/fleet/v1/cluster/settings":
                c.settings.update(json.loads(body))
                if c.settings.get("spread") == "rack":
                    return self.refuse(409, "spread: no host has metadata rack: set it on each host first")
                return self.answer(204)
            if path == "/fleet/v1/cluster/tokens":
                return self.answer(201, {"expires": 9999999999000, "id": "0123456789ab", "token": "fleet1-AAAA", "uses": 1})
            if path == "/fleet/v1/cluster/users":
                return self.answer(200, {"users": [{"expires": 1700000000000, "key": "1" * 64, "name": "ops", "rights": ["keys-read:/app", "units-see"]}]})
            if path.startswith("/fleet/v1/cluster/users/"):
                name = path.rsplit("/", 1)[1]
                if self.command == "DELETE" or "csr" not in json.loads(body):
                    return self.answer(204) if name == "ops" else self.refuse(404, f"there is no user {name}: fleetctl cert ls prints them")
                c.csrs.append(json.loads(body))
                return self.answer(201, {"certificate": "the certificate\n", "expires": 1700000000000, "name": name, "roots": "the roots\n"})
            if path == "/fleet/v1/cluster/ca":
                return self.answer(200, {"roots": [{"id": "1" * 64, "pem": "p", "state": "current"}]})
            if path == "/fleet/v1/cluster/leave" and self.command != "GET":
                c.left.append(self.command)
                return self.answer(204)
            if path == "/fleet/v1/cluster/leave":
                said = c.leaving.pop(0) if len(c.leaving) > 1 else c.leaving[0]
                return self.answer(200, {"clusterId": "abc", "machine": "1" * 32, "name": "alpha", **said})
            if path == "/fleet/v1/cluster/adopting":
                c.waits_for = []
                return self.answer(204)
            if path == "/fleet/v1/cluster":
                return self.answer(200, {
                    "clusterId": "abc", "role": "leader", "level": c.level, "levelKnown": 2, **({"waitsFor": c.waits_for} if c.waits_for else {}),
                    "index": c.index, "term": 3, "name": "alpha", "settings": c.settings, "units": len(c.units),
                    **({} if c.leaderless else {"leader": {"id": "1" * 32, "name": "alpha"}}),
                    "voters": [{"id": m["id"], "name": m["hostname"], "role": "voter", "reachable": m["hostname"] != self.server.cluster.silent}
                               for m in MACHINES],
                    **({"problem": c.problem} if c.problem else {})})
            if path == "/fleet/v1/machines" and self.command == "PATCH":
                c.patched = json.loads(body)
                return self.answer(204)
            if path.endswith("/maintenance") and self.command != "GET":
                c.maintained.append((self.command, json.loads(body) if body else None))
                return self.answer(204)
            if path.startswith("/fleet/v1/units/") and path.endswith("/move"):
                name = path.split("/")[4]
                if name not in c.units:
                    return self.answer(404, {"error": {"code": 404, "message": "unit does not exist"}})
                if self.command == "PUT":
                    message = "gamma does not qualify: Conflicts=web@*.service, and web@2.service is there"
                    return self.answer(409, {"error": {"code": 409, "message": message}}) if "3" * 32 in body.decode() else self.answer(204)
                return self.answer(200, {"id": "1" * 32, "machine": "alpha", "name": name, "state": "none"})
            if path.startswith("/fleet/v1/rollouts/") and path.rsplit("/", 1)[1] in c.units:
                name = path.rsplit("/", 1)[1]
                return self.answer(200, {"failed": 1, "hash": "22", "instances": [{"machine": "alpha", "name": name, "revision": 2, "state": "failed", "why": "exit status 1"}],
                                         "name": name, "of": 1, "revision": 2, "state": "paused", "wanted": "22", "why": f"{name} on alpha: exit status 1"})
            if path.endswith("/maintenance"):
                return self.answer(200, c.maintenance.pop(0) if len(c.maintenance) > 1 else c.maintenance[0])
            if path.startswith("/fleet/v1/machines/") and self.command == "DELETE":
                return self.answer(204)
            if path == "/fleet/v1/machines":
                return self.page("machines", self.server.cluster.machines, query)
            if path == "/fleet/v1/directory" and self.command == "POST":
                said = json.loads(body)
                c.answered.append(said)
                c.problems = [p for p in c.problems if p["machineID"] != said["machineID"] or p["name"] not in said["names"]]
                return self.answer(204)
            if path == "/fleet/v1/directory":
                return self.answer(200, {"problems": c.problems})
            if path == "/fleet/v1/problems":
                return self.answer(200, {"problems": c.found()})
            if path == "/fleet/v1/services":
                return self.page("services", [{"endpoints": len(rows), "name": name, "wanted": len(rows)} for name, rows in sorted(c.services.items())], query)
            if path.startswith("/fleet/v1/services/") and path.rsplit("/", 1)[1] in c.services:
                return self.page("endpoints", c.services[path.rsplit("/", 1)[1]], query)
            if path == "/fleet/v1/units":
                return self.page("units", [self.shown(c, u) for _, u in sorted(c.units.items())], query)
            if path == "/fleet/v1/state":
                name = query.get("unitName", [None])[0]
                return self.page("states", [s for k, s in sorted(c.states.items()) if name in (None, k[0])], query)
            if path.startswith("/fleet/v1/why/"):
                return self.why(c, path.rsplit("/", 1)[1])
            if path == "/fleet/v1/plan":
                return self.answer(200, {"units": [
                    {"action": "wait" if "mars" in u["text"] else "place", "name": u["name"], "reason": "because",
                     **({} if "mars" in u["text"] else {"hostname": "alpha", "machineID": "1" * 32})} for u in json.loads(body)["units"]]})
            if path == "/fleet/v1/batch":
                return self.batch(c, json.loads(body)["units"])
            if path.startswith("/fleet/v1/units/"):
                return self.unit(c, path.rsplit("/", 1)[1], body)
            if path.startswith("/fleet/v1/revisions/"):
                return self.revisions(c, path.rsplit("/", 1)[1], query)
            if path == "/fleet/v1/log":
                return self.daemon_log(c, query["machine"][0])
            if path == "/fleet/v1/usage":
                return self.usage(c, query["machine"][0])
            if path.split("/")[3] in ("status", "journal", "show", "kill", "reload", "reset-failed", "dependencies"):
                return self.remote(c, path.split("/")[3], path.split("/")[4], query)
        self.refuse(404, "")

    do_GET = do_PUT = do_DELETE = do_POST = do_PATCH = handle_any

    @staticmethod
    def shown(c, unit):
        shown = {k: v for k, v in unit.items() if v not in ("", None)}
        if c.is_global(unit):
            shown["global"] = True
            del shown["currentState"]
        return shown

    def revisions(self, c, name, query):
        unit, former = c.units.get(name), c.former.get(name, [])
        if not unit:
            return self.refuse(404, "unit does not exist")
        if "rev" not in query:
            wanted = {"by": "root@alpha", "hash": unit["hash"], "how": "submitted", "number": 1 + len(former), "since": 1500000000000, "wanted": True}
            return self.answer(200, c.revisions or {"name": name, "revisions": [wanted] + [
                {"by": "", "hash": f"{n:040d}", "how": "directory", "number": n, "since": 0, "wanted": False} for n in range(len(former), 0, -1)]})
        number = int(query["rev"][0])
        if number > len(former) + 1:
            return self.refuse(404, f"{name} has no revision {number}; fleetctl history {name} lists them")
        return self.answer(200, self.shown(c, unit) if number > len(former) else {"name": name, "hash": f"{number:040d}", "options": parse(former[number - 1]), "text": former[number - 1]})

    def unit(self, c, name, body):
        unit = c.units.get(name)
        if self.command == "GET":
            return self.answer(200, self.shown(c, unit)) if unit else self.refuse(404, "unit does not exist")
        if self.command == "DELETE":
            if not unit:
                return self.refuse(404, "unit does not exist")
            del c.units[name]
            c.later(name)
            return self.answer(204)

        asked = json.loads(body)
        if self.headers["Content-Type"] != "application/json":
            return self.refuse(415, "only acceptable Content-Type is application/json")
        if unit and any(asked.get(k, v) != v for k, v in (("expectedHash", unit["hash"]), ("expectedState", unit["desiredState"]))):
            return self.refuse(409, "the unit was changed meanwhile")
        if self.fails_once(c, asked):
            return self.refuse(503, "no leader")
        if "text" in asked:
            if "refused-by-daemon" in asked["text"]:
                return self.refuse(400, "line 2: fleetd knows better")
            if unit and asked.get("replace") is False:
                return self.refuse(409, "unit exists")
            options = parse(asked["text"])
            old = unit or {"machineID": "", "currentState": "inactive"}
            c.units[name] = {**old, "name": name, "text": asked["text"], "options": options, "desiredState": asked.get("desiredState", "inactive"),
                             "hash": hashlib.sha1(canonical(options).encode()).hexdigest(), "reason": ""}
            c.later(name)
            return self.answer(201)
        if not unit:
            return self.refuse(409, "unit does not exist and options field empty")
        if "@." in name:
            return self.refuse(400, f'cannot activate template "{name}"')
        if "desiredState" not in asked:
            return self.refuse(409, "must provide DesiredState to update existing unit")
        unit["desiredState"] = asked["desiredState"]
        c.later(name)
        return self.answer(204)

    @staticmethod
    def fails_once(c, asked):
        fails, c.fails = c.fails, [f for f in c.fails if f != asked.get("desiredState")]
        if len(fails) > len(c.fails):
            c.on_fail()
        return len(fails) > len(c.fails)

    def batch(self, c, items):
        """Apply each unit like a PUT, all or nothing."""
        before, answers = dict(c.units), []
        self.answer = lambda status, body=None: answers.append((status, body))
        for item in items:
            self.command = "DELETE" if item.get("destroy") and c.destroys else "PUT"
            self.unit(c, item["name"], json.dumps(item).encode())
            if answers[-1][0] >= 400:
                c.units = before
                answers[-1][1]["error"]["message"] = f"{item['name']}: {answers[-1][1]['error']['message']}"
                break
        del self.answer
        return self.answer(*(answers[-1] if answers[-1][0] >= 400 else (204,)))

    def why(self, c, name):
        unit = c.units.get(name)
        if not unit:
            return self.refuse(404, "unit does not exist")
        where = unit.get("machineID", "")
        return self.answer(200, {
            "name": name, "desiredState": unit["desiredState"], "reason": "alpha was the only machine that qualified",
            **({"machineID": where} if where else {}), **({"global": True} if c.is_global(unit) else {}),
            "machines": [{"id": m["id"], "hostname": m["hostname"], **({"fits": True} if m["id"] == where or c.is_global(unit) else
                          {"rule": "MachineMetadata", "reason": "MachineMetadata=zone=a, and it has no zone"}),
                          **({"order": "run", "chosen": True} if m["id"] == where else {}),
                          **{k: v for k, v in c.states.get((name, m["id"]), {}).items() if k.startswith("systemd") or k in ("since", "finished")}}
                         for m in MACHINES]})

    def remote(self, c, what, name, query):
        where = [m for n, m in c.states if n == name and query.get("machine", [m])[0] == m]
        if not where and what == "journal" and "machine" in query:
            self.begin_stream()  # journalctl prints nothing
            self.chunk({"exit": 0})
            return self.end_stream()
        if not where:
            return self.refuse(404, f"unit {name} is on no machine")
        self.begin_stream()
        self.chunk(None)
        if what == "journal":
            asked = " ".join(query[k][0] for k in ("lines", "follow", "output", "since") if k in query)
            machine = int(where[0][0])
            for n in range(min(int(query["lines"][0]), 4) if c.talks else 1):
                time_ = f"17000000{n:02}.{100000 * machine}"
                at = {"short-unix": f"{time_} host {machine}: ", "json": '{"__REALTIME_TIMESTAMP":"' + time_.replace(".", "") + '"} '}
                self.chunk({"machine": where[0], "data": at.get(query["output"][0], "") + f"journal of {name}: "})
                self.chunk({"machine": where[0], "data": asked + ("\n  goes on\n" if c.talks else "\n")})
        elif what in ("show", "kill", "reload", "reset-failed", "dependencies"):
            asked = " ".join(query[k][0] for k in ("properties", "signal", "whom") if k in query)
            self.chunk({"machine": where[0], "data": f"{self.command} {what} {name} on {where[0][:1]} {asked}".rstrip() + "\n" + c.says})
            self.chunk({"exit": 5 if "bad" in name else 0})
            return self.end_stream()
        else:
            self.chunk({"machine": where[0], "data": f"● {name} on {where[0][:1]}\n"})
        if c.says:
            self.chunk({"machine": where[0], "data": c.says + "\n"})
        active = c.states[name, where[0]]["systemdActiveState"]
        if "cut" not in name:
            self.chunk({"exit": 0 if active == "active" or what == "journal" else 3})
        self.end_stream()

    def daemon_log(self, c, machine):
        message = c.spoil({"message": "no contact with " + machine[:1]})["message"]
        entry = {"__REALTIME_TIMESTAMP": f"170000000{machine[:1]}000000", "PRIORITY": "4", "MESSAGE": message}
        self.begin_stream()
        self.chunk({"machine": machine, "data": json.dumps(entry) + "\n"})
        self.chunk({"exit": 0})
        self.end_stream()

    def usage(self, c, machine):
        """Two lines of a machine: its units use 5 % of a processor."""
        names = [c.spoil({"reason": name})["reason"] for name, unit in sorted(c.units.items()) if unit["machineID"] == machine]
        self.begin_stream()
        for at in (0, 1000000):
            line = {"at": at, "units": [{"name": name, "cpu": at // 20, "memory": 1048576, "tasks": 1, "read": at, "written": at,
                                            "pressure": {"cpu": 0, "memory": 0, "io": 0}} for name in names]}
            self.chunk({"machine": machine, "data": json.dumps(line) + "\n"})
        self.chunk({"exit": 0})
        self.end_stream()

    def events(self, c):
        if not c.events:
            return self.refuse(404, "")
        with c.lock:
            seen = len(c.log)
            index = c.index
        self.begin_stream()
        self.chunk({"index": index})
        try:
            while True:
                with c.lock:
                    while len(c.log) == seen:
                        c.lock.wait(5)
                    news, seen = c.log[seen:], len(c.log)
                for event in news:
                    self.chunk(event)
        except OSError:
            self.close_connection = True

    def serve_history(self, c, query):
        if c.history is None:
            return self.refuse(409, "the history begins at feature level 4")
        after, follow = int(query.get("after", ["0"])[0]), query["follow"][0] == "true" if "follow" in query else False
        since, until, last = (int(query.get(name, [default])[0]) for name, default in (("since", "0"), ("until", str(2 ** 63)), ("last", "0")))
        units = query.get("unit")

        def selected(rows):
            return [r for r in rows if r["index"] > after and r["last"] >= since and r["first"] <= until and
                    (not units or any(fnmatch.fnmatchcase(r.get("name", ""), u) for u in units))]
        self.begin_stream()
        try:
            with c.lock:
                seen, n = selected(c.history)[-last:], len(c.history)
            for row in seen:
                self.chunk(row)
            self.chunk({"index": max([after, *(r["index"] for r in seen)]), **({"oldest": c.history[0]["first"]} if c.history else {})})
            while follow and not c.hang_up:
                with c.lock:
                    while len(c.history) == n and not c.hang_up:
                        c.lock.wait(1)
                    seen, n = c.history[n:], len(c.history)
                for row in selected(seen):
                    self.chunk(row)
            self.end_stream()
            c.hang_up = False
        except OSError:
            self.close_connection = True

    # -- /v2/keys, as far as the tests need it --

    def fail_key(self, c, status, code, message, cause):
        self.answer(status, {"errorCode": code, "message": message, "cause": cause, "index": c.index})

    def node(self, c, key, recursive=True):
        if key in c.keys:
            value, index = c.keys[key]
            return {"key": key, "value": value, "modifiedIndex": index, "createdIndex": index}
        prefix = "" if key == "/" else key
        names = sorted({k[len(prefix) + 1:].split("/")[0] for k in c.keys if k.startswith(prefix + "/")})
        if not names and key != "/":
            return None
        node = {"key": key, "dir": True}
        if recursive is not None:
            node["nodes"] = [self.node(c, f"{prefix}/{n}", True if recursive else None) for n in names]
        return node

    def below(self, node):
        """A node and all below it, parents first."""
        if not node:
            return []
        return [{k: v for k, v in node.items() if k != "nodes"}] + [n for child in node.get("nodes", []) for n in self.below(child)]

    def keys(self, c, key, query, body):
        with c.lock:
            if query.get("wait") == ["true"]:
                return self.watch(c, key, query)
            if self.command == "GET":
                node = self.node(c, key, query.get("recursive") == ["true"])
                if not node:
                    return self.fail_key(c, 404, 100, "Key not found", key)
                return self.answer(200, {"action": "get", "node": node}, X_Etcd_Index=c.index)
            form = parse_qs(body.decode(), keep_blank_values=True)
            old = c.keys.get(key)
            wanted = form.get("prevValue", query.get("prevValue"))
            if wanted and old and old[0] != wanted[0]:
                return self.fail_key(c, 412, 101, "Compare failed", f"[{wanted[0]} != {old[0]}]")
            if self.command == "DELETE":
                gone = [k for k in c.keys if k == key or (query.get("recursive") and k.startswith(key + "/"))]
                if not gone:
                    return self.fail_key(c, 404, 100, "Key not found", key)
                for k in gone:
                    del c.keys[k]
                c.notify(action="delete", key=key, value=None)
                return self.answer(200, {"action": "delete", "node": {"key": key, "modifiedIndex": c.index}})
            if self.command == "POST":
                key = f"{key}/{c.index + 1:020}"
            c.notify(action="set", key=key, value=form["value"][0])
            c.keys[key] = (form["value"][0], c.index)
            c.form = form
            c.before_answer(self.command, key)
            return self.answer(201, {"action": "set", "node": self.node(c, key)})

    def watch(self, c, key, query):
        start = int(query.get("waitIndex", [c.index + 1])[0])
        if start < c.outdated:
            return self.fail_key(c, 400, 401, "The event in requested index is outdated and cleared", "")
        self.send_response(200)
        self.send_header("X-Etcd-Index", str(c.index))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        cuts = c.cuts
        while True:
            for e in c.log:
                inside = e.get("key") == key or ("recursive" in query and e.get("key", "").startswith(key + "/"))
                if e["index"] >= start and inside:
                    node = {"key": e["key"], "modifiedIndex": e["index"]}
                    if e["value"] is not None:
                        node["value"] = e["value"]
                    self.chunk({"action": e["action"], "node": node})
                    return self.end_stream()
            c.watching.add(self)
            c.lock.wait(5)
            c.watching.discard(self)
            if c.cuts != cuts and c.last:
                self.chunk(c.last)
                return self.end_stream()
            if c.cuts != cuts:
                self.close_connection = True
                return None


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass


def start(path):
    """Serve a new cluster at 'path' and return it."""
    if os.path.exists(path):
        os.unlink(path)
    server = Server(path, Handler)
    server.cluster = Cluster()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    server.cluster.server = server
    return server.cluster
