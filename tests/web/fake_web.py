"""The HTTP of fleet-web in Python: its three files, and documents that a test sets."""

import json
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../client/web/page")
FILES = {"": ("index.html", "text/html; charset=utf-8"), "page.css": ("page.css", "text/css; charset=utf-8"),
         "page.js": ("page.js", "text/javascript; charset=utf-8")}
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
          "form-action 'none'; frame-ancestors 'none'")
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
           "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin"}
WAIT = 10  # seconds
KEY = "bm90LWEtc2VjcmV0LWtleQ"


class FakeWeb:
    def __init__(self):
        self.changed = threading.Condition()
        self.n, self.documents, self.why, self.problems = 0, {}, {}, []
        self.key, self.prefix = KEY, "/"
        self.broken = None   # "hang", "cut", or a status and a body: the answer to each question
        self.asked = []      # (path and query, key) of each question
        self.turns = 0       # ends of waiting without a document
        self.connections = set()
        self.server = self.port = None
        self.start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}{self.prefix}"

    def start(self):
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                web.connections.add(self.connection)

            def log_message(self, *_):
                pass

            def answer(self, status, body=b"", kind="text/plain; charset=utf-8", cache="no-store", cut=None):
                self.send_response(status)
                for name, value in HEADERS.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", kind)
                self.send_header("Cache-Control", cache)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:cut])
                self.close_connection = cut is not None

            def do_GET(self):
                try:
                    web.get(self)
                except (BrokenPipeError, ConnectionResetError, TimeoutError):
                    self.close_connection = True

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", self.port or 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self):
        """As if the process had been killed."""
        self.server.shutdown()
        self.server.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.connections.clear()
        with self.changed:
            self.changed.notify_all()

    def break_off(self, broken):
        with self.changed:
            self.broken = broken
            self.changed.notify_all()

    def set(self, view=None, usage=None):
        """Set documents; their number is one that no document had."""
        with self.changed:
            for name, value in (("view", view), ("usage", usage)):
                if value is not None:
                    self.n += 1
                    self.documents[name] = dict(value, n=self.n)
            self.changed.notify_all()

    def no_news(self):
        """Answer all questions that wait as after 10 s."""
        with self.changed:
            self.turns += 1
            self.changed.notify_all()

    def questions(self, name):
        with self.changed:
            return sum(path.split("?")[0] == name for path, _ in self.asked)

    def until_asked(self, name, n):
        """Wait until there were 'n' questions for the document."""
        with self.changed:
            if not self.changed.wait_for(lambda: sum(path.split("?")[0] == name for path, _ in self.asked) >= n, 30):
                raise AssertionError(f"{name} is not asked for {n} times: {self.asked[-5:]}")

    def newer(self, name, after):
        """The document, None: there is none within the time."""
        turns, until, fresh = self.turns, time.monotonic() + WAIT, lambda: name in self.documents and self.documents[name]["n"] != after
        while not fresh() and not self.broken and turns == self.turns and time.monotonic() < until:
            self.changed.wait(until - time.monotonic())
        return self.documents[name] if fresh() else None

    def get(self, request):
        url = urlsplit(request.path)
        path = unquote(url.path)
        if not path.startswith(self.prefix):
            return request.answer(404)
        path = path[len(self.prefix):]
        if path in FILES:
            name, kind = FILES[path]
            with open(os.path.join(PAGE, name), "rb") as f:
                return request.answer(200, f.read(), kind, "no-cache")
        query = parse_qs(url.query)
        with self.changed:
            key = request.headers.get("X-Fleet-Key")
            self.asked.append((path + (f"?{url.query}" if url.query else ""), key))
            self.changed.notify_all()
            if self.key and key != self.key:
                return request.answer(403, b"the key is missing, or of another run")
            if path in ("view", "usage"):
                after = int(query.get("after", ["0"])[0])
                document = None if self.broken else self.newer(path, after)
            elif path == "why":
                document = self.why.get(next(iter(query.values()))[0])
                if document is None and not self.broken:
                    return request.answer(404, b"there is no such unit")
            else:
                return request.answer(404)
            while self.broken == "hang":
                self.changed.wait(1)
                if self.broken != "hang":
                    request.close_connection = True
                    return None
            if isinstance(self.broken, tuple):
                return request.answer(self.broken[0], self.broken[1].encode())
            cut = 100 if self.broken == "cut" else None
            document = document or (self.documents.get(path) if cut else None)
        if document is None:
            return request.answer(204)
        return request.answer(200, json.dumps(document).encode(), "application/json", cut=cut)


# -- Documents --

NOW = 1_795_000_000_000  # ms, of the clock of the server
MINUTE = 60_000
IDS = {name: letter * 32 for name, letter in zip(("alpha", "beta", "gamma", "delta", "epsilon"), "abcde")}


def machine(name, c="ok", role="voter", presence="up", since=NOW - 90 * MINUTE, badge="", meta="zone=a", id=None):
    return {"id": id or IDS[name], "name": name, "c": c, "role": role, "presence": presence, "since": since, "badge": badge, "meta": meta}


def unit(name, on="", c="ok", state="active (running)", since=NOW - 180 * MINUTE, health="none", id=None):
    return {"name": name, "c": c, "state": state, "machine": on, "on": id or IDS.get(on, ""), "since": since, "health": health}


def problem(c, of, name, what, command):
    return {"c": c, "of": of, "name": name, "what": what, "command": command}


def event(seconds, unit, machine, what, count=1):
    return {"at": NOW - 1000 * seconds, "unit": unit, "machine": machine, "what": what, "count": count}


def view(**members):
    return {"program": "fleet-web 0.9.0 1", "now": NOW, "notice": "", "cluster": "home", "host": "alpha", "leader": "alpha", "staleMs": 0,
            "canLose": 1, "problems": [], "work": [], "machines": [], "units": [], "events": []} | members


def home(**members):
    """The cluster of the pictures."""
    return view(**{
        "canLose": 0,
        "problems": [problem("bad", "unit", "db.service", "failed on beta 4 min ago: exit status 1; 3 restarts used up", "fleetctl journal db.service"),
                     problem("bad", "machine", "gamma", "voter unreachable since 18:20; 2 of 3 voters left, none may be lost", "fleetctl token --replace=gamma"),
                     problem("warn", "unit", "report.service", "not placed: needs metadata gpu=true, no machine has it", "fleetctl why report.service")],
        "work": [{"of": "unit", "name": "web@.container", "done": 4, "total": 6, "what": "revision 4: web@3 delta updating", "command": "fleetctl rollout web@.container"},
                 {"of": "machine", "name": "delta", "done": 0, "total": 0, "what": "draining: disk replaced at noon", "command": "fleetctl drain delta"}],
        "machines": [machine("alpha", role="leader"), machine("beta", meta="zone=b,ssd=true"),
                     machine("gamma", "bad", presence="lost", since=NOW - 4 * MINUTE, meta="zone=c"),
                     machine("delta", "info", "attached", badge="draining"), machine("epsilon", role="attached", meta="zone=b")],
        "units": [unit("web@4.container", "alpha"), unit("cache.service", "alpha"), unit("db.service", "beta", "bad", "failed", NOW - 4 * MINUTE),
                  unit("web@1.container", "beta"), unit("web@5.container", "beta"), unit("web@2.container", "delta", "info"),
                  unit("web@6.container", "delta", "info"), unit("web@3.container", "epsilon", "info", "activating (start)", NOW - 9000),
                  unit("node-exporter.service", "epsilon", since=NOW - 10 * 24 * 60 * MINUTE), unit("backup.service", "epsilon", "off", "inactive (dead)"),
                  unit("report.service", "", "warn", "waiting", NOW - MINUTE)],
        "events": [event(9, "web@3.container", "epsilon", "activating"), event(20, "web@3.container", "epsilon", "assigned: epsilon had the fewest units (2) of 2 machines that qualify; before: delta"),
                   event(31, "web@2.container", "delta", "active (running)"), event(240, "db.service", "beta", "active → failed: exit status 1", 4),
                   event(250, "", "gamma", "lost: no sign of life from daemon and kernel for 3 s"), event(70_000, "", "gamma", "up")],
    } | members)


def meters(cpu, memory, disk):
    return {k: {"part": v / 100, "text": f"{v} %"} for k, v in (("cpu", cpu), ("memory", memory), ("disk", disk))}


def home_usage():
    def of(name, cpu, memory):
        return {"name": name, "cpu": cpu, "memory": memory, "io": "1.2 M", "tasks": "12", "pressure": "cpu 8 %"}
    return {"program": "fleet-web 0.9.0 1", "machines": [
        {"id": IDS["alpha"], "note": "", **meters(12, 41, 71), "units": [of("web@4.container", "10 %", "44.1 M"), of("cache.service", "0 %", "1.0 M")]},
        {"id": IDS["beta"], "note": "", **meters(63, 72, 97), "units": [of("web@1.container", "3 %", "61.0 M"), of("web@5.container", "13 %", "62.0 M")]},
        {"id": IDS["delta"], "note": "no answer for 4 s", "units": []},
        {"id": IDS["epsilon"], "note": "", **meters(31, 55, 40), "units": [of("web@3.container", "8 %", "132.0 M"), of("node-exporter.service", "0 %", "20.1 M")]}]}


def large(units=2000, machines=50):
    """Each tenth unit is not well."""
    names = [f"host{i:02}" for i in range(machines)]
    ids = {n: f"{i:032x}" for i, n in enumerate(names, 1)}
    kinds = {0: ("bad", "failed"), 10: ("info", "activating (start)"), 20: ("off", "inactive (dead)"), 30: ("bad", "failed")}
    rows = []
    for i in range(units):
        c, state = kinds.get(i % 40, ("ok", "active (running)"))
        rows.append(unit(f"web@{i}.service", names[i % machines], c, state, id=ids[names[i % machines]]))
    problems = [problem("bad", "unit", u["name"], f"failed on {u['machine']} 3 h ago: exit status 1", f"fleetctl journal {u['name']}") for u in rows if u["c"] == "bad"]
    events = [event(i, f"web@{i}.service", names[i % machines], "active (running)") for i in range(100)]
    return view(machines=[machine(n, id=ids[n]) for n in names], units=rows, problems=problems[:100], events=events)


def large_usage(document):
    by = {}
    for u in document["units"]:
        by.setdefault(u["on"], []).append({"name": u["name"], "cpu": "3.0 %", "memory": "44.1 M", "io": "–", "tasks": "12", "pressure": "–"})
    return {"program": document["program"], "machines": [{"id": m["id"], "note": "", **meters(12, 41, 71), "units": by.get(m["id"], [])} for m in document["machines"]]}


def why(name):
    return {"lines": [["state", "failed since 12:00:11"], ["placement", "beta had the fewest units"], ["gamma", "no: lost"], ["delta", "no: it is being drained"]],
            "events": [event(240, name, "beta", "active → failed: exit status 1", 4)],
            "commands": [f"fleetctl why {name}", f"fleetctl journal {name}"]}
