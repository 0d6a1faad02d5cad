"""Each route and each verb of fleetctl on a host without a replica, compared with a voter; reads and events while its replica is killed.

attached.py routes VOTER REPLICA ATTACHED ROUTES.C     sockets of hosts, of them the replica in use, and the table of routes
attached.py verbs VOTER ATTACHED FLEETCTL FLEETCTL.C
    "lost" after these: the replica in use ends again and again meanwhile. An answer that differs is asked for again, on both hosts.
attached.py events VOTER ATTACHED FLEETCTL             the same events, in their text, JSON and order, of the past and as they happen
attached.py moves WRITER ATTACHED PID SIGNAL NAME     the process of the replica in use gets the signal while both work; a word in the results"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

V1 = "/fleet/v1"
OPTIONS = '"options":[{"section":"Service","name":"ExecStart","value":"/bin/sleep 1000"}]'
UNIT = '{"desiredState":"inactive",%s}' % OPTIONS
BATCH = '{"units":[{"name":"b%%s.service","desiredState":"inactive",%s}]}' % OPTIONS
PLAN = '{"units":[{"name":"p%%s.service","desiredState":"launched",%s}]}' % OPTIONS
PATCH = '[{"op":"add","path":"/00000000000000000000000000000001/metadata/x","value":"%s"}]'
STREAM = "stream"  # the first line is compared, not the rest

# By pattern and method: requests in order, each a path, a body, and STREAM. "%s" is a letter of the host that is asked.
REQUESTS = {
    "PUT /v2/keys/**": [("/v2/keys/a%s?value=1", None)],
    "GET /v2/keys/**": [("/v2/keys/a%s", None), ("/v2/keys/none", None), ("/v2/keys/a%s?quorum=true", None)],
    "PUT /fleet/v1/kv/value/**": [(V1 + "/kv/value/k%s", "1")],
    "GET /fleet/v1/kv/value/**": [(V1 + "/kv/value/k%s", None), (V1 + "/kv/value/none", None)],
    "GET /fleet/v1/kv/list": [(V1 + "/kv/list?prefix=/k%s", None)],
    "POST /fleet/v1/kv/txn": [(V1 + "/kv/txn", '{"writes":[{"op":"put","key":"/t%s","value":"1"}]}'), (V1 + "/kv/txn", "{")],
    "GET /fleet/v1/kv/changes": [(V1 + "/kv/changes?prefix=/k%s&after=0", None, STREAM)],
    "DELETE /fleet/v1/kv/value/**": [(V1 + "/kv/value/k%s", None)],
    "GET /version": [("/version", None)],
    "GET /health": [("/health", None)],
    "GET /v2/machines": [("/v2/machines", None)],
    "GET /v2/members/**": [("/v2/members/none", None)],
    "POST /v2/members/**": [("/v2/members", '{"peerURLs":["http://127.0.0.1:1"]}')],
    "GET /v2/stats/self": [("/v2/stats/self", None)],
    "GET /v2/stats/leader": [("/v2/stats/leader", None)],
    "GET /v2/stats/store": [("/v2/stats/store", None)],
    "GET /v2/auth/users": [("/v2/auth/users", None)],
    "GET /v2/auth/roles": [("/v2/auth/roles", None)],
    "GET /v2/auth/enable": [("/v2/auth/enable", None)],
    "GET /metrics": [("/metrics", None)],
    "PUT /fleet/v1/units/*": [(V1 + "/units/u%s.service", UNIT), (V1 + "/units/u%s.service", "{}"), (V1 + "/units/bad", UNIT), (V1 + "/units/u%s.service", "[")],
    "GET /fleet/v1/units/*": [(V1 + "/units/u%s.service", None), (V1 + "/units/none.service", None)],
    "GET /fleet/v1/units": [(V1 + "/units", None), (V1 + "/units?nextPageToken=%%", None)],
    "GET /fleet/v1/revisions/*": [(V1 + "/revisions/u%s.service", None), (V1 + "/revisions/u%s.service?rev=1", None), (V1 + "/revisions/u%s.service?rev=9", None),
                                  (V1 + "/revisions/none.service", None)],
    "POST /fleet/v1/batch": [(V1 + "/batch", BATCH), (V1 + "/batch", "{")],
    "GET /fleet/v1/state": [(V1 + "/state", None)],
    "GET /fleet/v1/local": [],  # of the host itself: test-attached.sh asks for it
    "GET /fleet/v1/state/*": [(V1 + "/state/none.service", None)],
    "GET /fleet/v1/machines": [(V1 + "/machines", None), (V1 + "/machines?all=true", None)],
    "PATCH /fleet/v1/machines": [(V1 + "/machines", PATCH), (V1 + "/machines", "{}")],
    "DELETE /fleet/v1/machines/*": [(V1 + "/machines/00000000000000000000000000000003", None), (V1 + "/machines/none", None)],
    "GET /fleet/v1/machines/*/maintenance": [(V1 + "/machines/00000000000000000000000000000001/maintenance", None), (V1 + "/machines/none/maintenance", None)],
    "PUT /fleet/v1/machines/*/maintenance": [(V1 + "/machines/00000000000000000000000000000002/maintenance", '{"mode":"cordoned","reason":"disk"}'),
                                             (V1 + "/machines/00000000000000000000000000000002/maintenance", '{"mode":"gone"}')],
    "DELETE /fleet/v1/machines/*/maintenance": [(V1 + "/machines/00000000000000000000000000000002/maintenance", None)],
    "GET /fleet/v1/units/*/move": [(V1 + "/units/u%s.service/move", None), (V1 + "/units/none.service/move", None)],
    "PUT /fleet/v1/units/*/move": [(V1 + "/units/u%s.service/move", '{"machine":"none"}'), (V1 + "/units/u%s.service/move", "{"), (V1 + "/units/none.service/move", "{}")],
    "DELETE /fleet/v1/units/*/move": [(V1 + "/units/u%s.service/move", None), (V1 + "/units/none.service/move", None)],
    "GET /fleet/v1/reboots": [(V1 + "/reboots", None)],
    "POST /fleet/v1/reboots": [(V1 + "/reboots", '{"machines":["none"]}'), (V1 + "/reboots", "{")],
    "DELETE /fleet/v1/reboots": [(V1 + "/reboots", '{"machines":["none"]}')],
    "POST /fleet/v1/reboots/resume": [(V1 + "/reboots/resume", None)],
    "GET /fleet/v1/rollouts": [(V1 + "/rollouts", None)],
    "GET /fleet/v1/rollouts/*": [(V1 + "/rollouts/u%s.service", None), (V1 + "/rollouts/none.service", None)],
    "PUT /fleet/v1/rollouts/*": [(V1 + "/rollouts/u%s.service", '{"request":"pause"}'), (V1 + "/rollouts/u%s.service", '{"request":"none"}')],
    "GET /fleet/v1/machines/*": [(V1 + "/machines/00000000000000000000000000000001", None)],
    "GET /fleet/v1/why/*": [(V1 + "/why/u%s.service", None), (V1 + "/why/none.service", None)],
    "POST /fleet/v1/plan": [(V1 + "/plan", PLAN), (V1 + "/plan", "{")],
    "POST /fleet/v1/plan/machines": [(V1 + "/plan/machines", PATCH)],
    "GET /fleet/v1/directory": [(V1 + "/directory", None)],
    "POST /fleet/v1/directory": [(V1 + "/directory", '{"kind":"held","machineID":"00000000000000000000000000000001","names":["x.service"]}')],
    "GET /fleet/v1/discovery": [(V1 + "/discovery", None)],
    "GET /fleet/v1/events": [(V1 + "/events?details=true&after=0", None, STREAM), (V1 + "/events?details=maybe", None)],
    "GET /fleet/v1/history": [(V1 + "/history?unit=u%s.service", None), (V1 + "/history?last=x", None)],
    "GET /fleet/v1/cluster": [(V1 + "/cluster", None)],
    "GET /fleet/v1/cluster/backup": [(V1 + "/cluster/backup", None)],
    "PUT /fleet/v1/cluster/level": [(V1 + "/cluster/level", "1"), (V1 + "/cluster/level", "{")],
    "PUT /fleet/v1/cluster/settings": [(V1 + "/cluster/settings", '{"name":"fleet-%s"}'), (V1 + "/cluster/settings", '{"voters":4}')],
    "DELETE /fleet/v1/cluster/adopting": [(V1 + "/cluster/adopting", None)],
    "POST /fleet/v1/cluster/tokens": [(V1 + "/cluster/tokens", '{"uses":3}'), (V1 + "/cluster/tokens", '{"uses":100000}')],
    "GET /fleet/v1/cluster/tokens": [(V1 + "/cluster/tokens", None)],
    "DELETE /fleet/v1/cluster/tokens/*": [(V1 + "/cluster/tokens/000000000000", None)],
    "GET /fleet/v1/cluster/ca": [(V1 + "/cluster/ca", None)],
    "POST /fleet/v1/cluster/ca/rotate": [(V1 + "/cluster/ca/rotate", "[")],
    "PUT /fleet/v1/cluster/users/*": [(V1 + "/cluster/users/u%s", "{}")],
    "GET /fleet/v1/cluster/users": [(V1 + "/cluster/users", None)],
    "DELETE /fleet/v1/cluster/users/*": [(V1 + "/cluster/users/none", None)],
    "POST /fleet/v1/cluster/host/rekey": [],  # of the host itself: a change of its key is no matter of this test
    "POST /fleet/v1/cluster/rekey": [],       # a new cluster key for each request
    "POST /fleet/v1/cluster/secure": [(V1 + "/cluster/secure", "[")],
    "POST /fleet/v1/cluster/init": [(V1 + "/cluster/init", "[")],
    "POST /fleet/v1/cluster/join": [(V1 + "/cluster/join", "[")],
    "GET /fleet/v1/cluster/leave": [(V1 + "/cluster/leave", None)],
    "POST /fleet/v1/cluster/leave": [],
    "DELETE /fleet/v1/cluster/leave": [(V1 + "/cluster/leave", None)],
    "GET /fleet/v1/journal/*": [(V1 + "/journal/u%s.service", None), (V1 + "/journal/none.service", None)],
    "GET /fleet/v1/status/*": [(V1 + "/status/u%s.service", None)],
    "GET /fleet/v1/show/*": [(V1 + "/show/u%s.service", None)],
    "GET /fleet/v1/dependencies/*": [(V1 + "/dependencies/u%s.service", None)],
    "POST /fleet/v1/reload/*": [(V1 + "/reload/u%s.service", None)],
    "POST /fleet/v1/kill/*": [(V1 + "/kill/u%s.service", None)],
    "POST /fleet/v1/reset-failed/*": [(V1 + "/reset-failed/u%s.service", None)],
    "GET /fleet/v1/log": [(V1 + "/log?machine=00000000000000000000000000000001&lines=x", None), (V1 + "/log?machine=none", None)],
    "DELETE /fleet/v1/units/*": [(V1 + "/units/u%s.service", None), (V1 + "/units/none.service", None)],
    "DELETE /v2/keys/**": [("/v2/keys/a%s", None)],
}

OF_THE_ROLE = "GET /v2/stats/leader"  # 403 on a replica that does not lead

# Members of answers that belong to a moment or to the host that answers. fleet-api(7) names them.
VOLATILE = {"by", "index", "raftIndex", "lastIndex", "lastTerm", "time", "since", "first", "last", "created", "createdIndex", "modifiedIndex", "expires", "hash",
            "machine", "name", "role", "replica", "seat", "token", "id", "startTime", "leaderInfo", "state", "recvAppendRequestCnt", "sendAppendRequestCnt",
            "latency", "counts"}


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("fleet", timeout=20)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(path, method, target, body=None, kind=None):
    """Return status, content type, names of fields, body."""
    c = Connection(path)
    c.request(method, target, body, {"Content-Type": "application/json"} if body is not None else {})
    r = c.getresponse()
    answer = r.readline() if kind == STREAM and r.status == 200 else r.read()
    fields = sorted(k for k in map(str.lower, r.headers.keys()) if k not in ("date", "x-fleet-stale", "content-length", "transfer-encoding"))
    c.close()
    return r.status, r.headers.get("Content-Type"), fields, answer


ATTEMPTS = 12  # of requests and commands while the replica in use ends again and again
# A host that has ended could be removed; the others depend on how often a request was sent, and on how many changes there were since the start.
NOT_AGAIN = {"DELETE /fleet/v1/machines/*", "remove", "GET /fleet/v1/history", "history", "GET /fleet/v1/kv/changes", "GET /fleet/v1/events"}


def ask_again(path, *request):
    """The answer; while there is none, or it is 503 or the end of a stream, the request is sent again: another replica is used then."""
    for attempt in range(50):
        try:
            answer = ask(path, *request)
            if answer[0] not in (503, 504) and not (request[-1] == STREAM and answer[3] == b""):
                break
        except (OSError, http.client.HTTPException):
            answer = 0, None, [], b"no answer"
        time.sleep(0.2)
    return answer


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in VOLATILE}
    return [plain(v) for v in value] if isinstance(value, list) else value


def comparable(answer, letter):
    status, kind, fields, body = answer
    try:
        value = plain(json.loads(body))
        body = json.dumps(sorted(value) if isinstance(value, dict) and "getsSuccess" in value else value, sort_keys=True)  # counts of one host
    except ValueError:
        body = re.sub(rb"[0-9]+", b"N", body).decode("latin-1")
    if kind and (kind.startswith("application/octet-stream") or "openmetrics" in kind or "version=0.0.4" in kind):
        body = "..." if body else ""
    return status, kind, fields, re.sub(r"\b([a-z]|fleet-)%s\b" % letter, r"\1_", body)


def result(name, different):
    print("ok " + name if not different else "not ok %s: %s" % (name, "; ".join(different[:3])), flush=True)


def routes(voter, replica, attached, table, lost=None):
    if lost:
        return routes_while_replicas_are_lost(voter, attached)
    rows = re.findall(r'\{ ROUTE_\w+, +("[A-Z ]+"|NULL), +"([^"]+)",', open(table).read())
    wanted = {"%s %s" % (method, pattern) for methods, pattern in rows for method in (methods.strip('"').split()[:1] if methods != "NULL" else [])}
    known = {k.replace("HEAD ", "") for k in REQUESTS}
    missing = sorted(w for w in wanted if w.replace("HEAD", "GET") not in known)
    result("each_route_is_compared", ["no request for %s" % m for m in missing])
    different, n = [], 0
    fill = lambda s, letter: s.replace("%s", letter) if s else s
    for route, requests in REQUESTS.items():
        method, hosts = route.split()[0], ((replica if route == OF_THE_ROLE else voter, "v"), (attached, "w"))
        for target, body, *kind in requests:
            answers = []
            for path, letter in hosts:
                answer = ask(path, method, fill(target, letter), fill(body, letter), *kind)
                while b"meanwhile; try again" in answer[3]:  # its replica has not applied the change of the other one
                    answer = ask(path, method, fill(target, letter), fill(body, letter), *kind)
                answers.append(comparable(answer, letter))
            for attempt in range(50):  # a host reads its own writes at once, those through another one later
                if method != "GET" or answers[0] == answers[1]:
                    break
                time.sleep(0.1)
                answers = [comparable(ask(path, method, fill(target, letter), None, *kind), letter) for path, letter in hosts]
            n += 1
            if answers[0] != answers[1]:
                different.append("%s %s: %s, here %s" % (method, target, *(str(a)[:300] for a in answers)))
                print("# " + different[-1])
    print("# %d requests of %d routes" % (n, len(REQUESTS)))
    result("each_route_answers_as_on_a_voter", different)


def routes_while_replicas_are_lost(voter, attached):
    different, n, again = [], 0, 0
    for route, requests in REQUESTS.items():
        if route in NOT_AGAIN or route == OF_THE_ROLE:
            continue
        for target, body, *kind in requests:
            for attempt in range(ATTEMPTS):
                answers = [comparable(ask_again(path, route.split()[0], target.replace("%s", letter), body.replace("%s", letter) if body else None, *(kind or [None])), letter)
                           for path, letter in ((voter, "v"), (attached, "w"))]
                n += 1
                if answers[0] == answers[1]:
                    break
                again += 1
                time.sleep(0.3)
            else:
                different.append("%s %s: %s, here %s" % (route.split()[0], target, *(str(a)[:300] for a in answers)))
                print("# " + different[-1])
    print("# %d requests, of which %d had another answer at first" % (n, again))
    result("each_route_answers_as_on_a_voter_while_replicas_are_lost", different)


# Arguments of each verb. Those that would change the host itself are rejected: what they say is compared.
VERBS = {
    "backup": ["backup", "--yes", "backup.gz"], "ca": ["ca", "show"], "cat": ["cat", "u.service"], "cert": ["cert", "ls"], "cluster": ["cluster"],
    "cordon": ["cordon", "none"], "drain": ["drain", "none"], "uncordon": ["uncordon", "h1"],
    "destroy": ["destroy", "u.service"], "diff": ["diff", "u.service"], "directory": ["directory"], "edit": ["edit", "--yes", "u.service"],
    "events": ["events", "-n3"], "export": ["export", "exported"], "fd-forward": ["fd-forward", "none.sock"], "help": ["help", "why"], "history": ["history", "u.service"],
    "import": ["import", "exported"], "init": ["init", "--name=none"], "is-active": ["is-active", "u.service"], "is-failed": ["is-failed", "u.service"],
    "join": ["join", "fleet1-none"], "journal": ["journal", "u.service"], "kill": ["kill", "u.service"], "kv": ["kv", "ls", "/"],
    "leave": ["leave", "--none"], "list-dependencies": ["list-dependencies", "u.service"], "list-machines": ["list-machines"],
    "list-members": ["list-members"], "list-unit-files": ["list-unit-files"], "list-units": ["list-units"],
    "load": ["load", "--no-block", "u.service"], "log": ["log", "--lines=1", "--machine=none"], "machine": ["machine", "show", "h1"], "move": ["move", "none.service"], "plan": ["plan", "u.service"],
    "reboot": ["reboot", "--status"], "rollout": ["rollout", "u.service"],
    "recover": ["recover"], "reload": ["reload", "u.service"], "remove": ["remove", "--yes", "h3"], "reset-failed": ["reset-failed", "u.service"],
    "restart": ["restart", "none.service"], "restore": ["restore", "none.gz"], "revert": ["revert", "--yes", "u.service"], "show": ["show", "u.service"], "ssh": ["ssh", "u.service"],
    "start": ["start", "--no-block", "u.service"], "status": ["status", "u.service"], "stop": ["stop", "--no-block", "u.service"],
    "submit": ["submit", "u.service"], "token": ["token", "revoke", "000000000000"], "unload": ["unload", "--no-block", "u.service"],
    "verify": ["verify", "u.service"], "version": ["version"], "why": ["why", "u.service"],
}
ORDER = ["submit", "cat", "load", "start", "stop", "unload", "export", "import"]  # then all others, and destroy at the end
# The view of one host: fleetctl(1) names these lines. "fleetctl cluster" begins with them.
OF_THE_HOST = re.compile("^(this host|replica in use|replica|role|.*; this host).*$", re.M | re.I)


def verbs(voter, attached, fleetctl, source, lost=None):
    names = re.findall(r'^        \{ "([a-z-]+)", ', open(source).read(), re.M)
    if not lost:
        result("each_verb_is_compared", ["no arguments for " + n for n in names if n not in VERBS])
    different = []
    order = ORDER + [v for v in VERBS if v not in ORDER + ["destroy"]] + ["destroy"]
    for verb in order:
        if lost and verb in NOT_AGAIN:
            continue
        for attempt in range(ATTEMPTS if lost else 1):
            said = []
            for path, letter in ((voter, "v"), (attached, "w")):
                os.makedirs(letter, exist_ok=True)
                with open("%s/u%s.service" % (letter, letter), "w") as f:
                    f.write("[Service]\nExecStart=/bin/sleep 1000\n")
                args = [a.replace("u.service", "u%s.service" % letter) for a in VERBS[verb]]
                r = subprocess.run([fleetctl, "--endpoint=unix://" + path] + args, cwd=letter, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                                   env=dict(os.environ, EDITOR="true", VISUAL="true"))
                out = re.sub(r"\bu[vw]\b", "u_", r.stdout + r.stderr).replace(path, "SOCKET")  # lists have the units of both
                said.append((r.returncode, re.sub(r"[0-9]+", "N", OF_THE_HOST.sub("", out))))
            if said[0] == said[1]:
                break
            time.sleep(0.3)
        if said[0] != said[1]:
            different.append("%s: %s, here %s" % (verb, *(str(s)[:300] for s in said)))
            print("# " + "%s: %s, here %s" % (verb, *said))
    print("# %d verbs" % len(order))
    result("each_verb_says_what_it_says_on_a_voter" + ("_while_replicas_are_lost" if lost else ""), different)


# Selections of the past; "TIME" is the wall clock before the events.
PAST = [["--since=TIME"], ["--since=TIME", "--output=json"], ["--since=-1h", "--lines=3"], ["--since=TIME", "--until=now"], ["--until=TIME"], ["--machine=h1", "--since=TIME"]]
UNITS = ["past.service", "new1.service", "new2.service"]


def change(voter, names):
    """Changes that have rows in the history: two texts, a target and the end of each unit."""
    for name in names:
        for method, body in (("PUT", UNIT), ("PUT", UNIT.replace("1000", "2000")), ("PUT", '{"desiredState":"loaded"}'), ("DELETE", None)):
            status, _, _, answer = ask(voter, method, V1 + "/units/" + name, body)
            assert status in (201, 204), (method, name, status, answer)


def events(voter, attached, fleetctl):
    begin, different = time.strftime("%Y-%m-%d %H:%M:%S"), []
    run = lambda path, args: subprocess.run([fleetctl, "--endpoint=unix://" + path, "events"] + [a.replace("TIME", begin) for a in args] + UNITS,
                                            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    change(voter, UNITS[:1])
    index = json.loads(ask(voter, "GET", V1 + "/cluster")[3])["index"]
    for attempt in range(100):
        if json.loads(ask(attached, "GET", V1 + "/cluster")[3])["index"] >= index:
            break
        time.sleep(0.1)
    for args in PAST:
        said = [(r.returncode, r.stdout, r.stderr) for r in (run(path, args) for path in (voter, attached))]
        if said[0] != said[1]:
            different.append("%s: %s, here %s" % (args, *said))
    rows = run(attached, PAST[0]).stdout
    if "past.service" not in rows:
        different.append("%s has no row: %s" % (PAST[0], rows))
    result("past_events_are_those_of_a_voter", different)
    follow(voter, attached, fleetctl)
    stream(voter, attached, index)


def follow(voter, attached, fleetctl):
    """A follower prints the past first: when it has begun, changes follow."""
    different = []
    for unit, output in (UNITS[1], []), (UNITS[2], ["--output=json"]):
        followers = [subprocess.Popen([fleetctl, "--endpoint=unix://" + path, "events", "--follow"] + output + UNITS, stdout=subprocess.PIPE, text=True)
                     for path in (voter, attached)]
        said = [[f.stdout.readline()] for f in followers]
        change(voter, [unit])
        for lines, f in zip(said, followers):
            while not (unit in lines[-1] and "destroyed" in lines[-1]):
                lines.append(f.stdout.readline())
                assert lines[-1], "fleetctl has ended: %s" % lines
        for f in followers:
            f.kill()
            f.communicate()
        if said[0] != said[1]:
            different.append("%s: %s, here %s" % (output, *said))
    result("events_that_happen_are_those_of_a_voter", different)


def stream(voter, attached, index):
    """The events of the window after an index, to the end of the unit."""
    said = []
    for path in (voter, attached):
        c = Connection(path)
        c.request("GET", V1 + "/events?details=true&after=%d" % index)
        lines, r = [], c.getresponse()
        while not (lines and lines[-1].get("name") == UNITS[-1] and lines[-1].get("kind") == "unit" and lines[-1].get("removed")):
            lines.append(json.loads(r.readline()))
        said.append([line for line in lines if "kind" in line])
        c.close()
    result("events_with_details_are_those_of_a_voter", [] if said[0] == said[1] else ["%s, here %s" % tuple(said)])


class History:
    """Writes and reads of one key through several hosts, with the order in which they began and ended. Linearizable is: the store's index orders
    all of them, and no operation that began after the end of another one has a lower index."""

    def __init__(self):
        self.lock, self.done, self.values, self.problems = threading.Lock(), 0, {}, []

    def begin(self):
        with self.lock:
            return self.done

    def end(self, what, floor, index, value, wrote):
        with self.lock:
            if index < floor or (wrote and index == floor):
                self.problems.append("%s has index %d, after an operation with index %d" % (what, index, floor))
            if self.values.setdefault(index, value) != value:
                self.problems.append("index %d has the values %s and %s" % (index, self.values[index], value))
            self.done = max(self.done, index)


def keys_request(path, method, key, query=""):
    """Return the status, or 0 without an answer, and the JSON."""
    try:
        status, _, _, body = ask(path, method, "/v2/keys" + key + query)
        return status, json.loads(body)
    except (OSError, ValueError, http.client.HTTPException):
        return 0, {}


class KeyClients:
    """Clients of the attached host, with one on a voter: a register, and a log in which each write is once."""

    def __init__(self, writer, attached, word):
        self.writer, self.attached, self.word = writer, attached, word
        self.register, self.log = History(), "/log-" + word
        self.key = "/register-" + word
        self.outcomes, self.slowest, self.reads = [], 0.0, 0
        self.polled, self.changed = [], []
        self.over = threading.Event()
        status, node = keys_request(writer, "PUT", self.key, "?value=0")
        self.since = node["node"]["modifiedIndex"]
        self.register.end("the first write", 0, self.since, "0", True)
        status, node = keys_request(writer, "PUT", self.log, "?dir=true")
        self.since = node["node"]["modifiedIndex"]
        self.threads = [threading.Thread(target=t, daemon=True) for t in (self.write, self.append, self.read_here, self.read_there, self.poll, self.follow)]
        for t in self.threads:
            t.start()

    def write(self):
        n = 0
        while not self.over.is_set():
            n += 1
            floor = self.register.begin()
            status, j = keys_request(self.attached, "PUT", self.key, "?value=%d" % n)
            if status in (200, 201):
                self.register.end("write %d" % n, floor, j["node"]["modifiedIndex"], str(n), True)
            time.sleep(0.01)

    def append(self):
        while not self.over.is_set():
            begin = time.monotonic()
            status, j = keys_request(self.attached, "POST", self.log, "?value=%d" % len(self.outcomes))
            self.slowest = max(self.slowest, time.monotonic() - begin)
            self.outcomes.append((status, j.get("cause", "")))
            time.sleep(0.01)

    def read(self, path, query):
        floor = self.register.begin()
        status, j = keys_request(path, "GET", self.key, query)
        if status == 200:
            self.reads += 1
            self.register.end("a read", floor, j["node"]["modifiedIndex"], j["node"]["value"], False)
        time.sleep(0.01)

    def read_here(self):
        while not self.over.is_set():
            self.read(self.attached, "?quorum=true")

    def read_there(self):
        while not self.over.is_set():
            self.read(self.writer, "?quorum=true")

    def poll(self):
        """A discovery client: one event for each request."""
        after = self.since
        while not (self.over.is_set() and self.polled[-1:] == ["end"]):
            status, j = keys_request(self.attached, "GET", self.log, "?wait=true&recursive=true&waitIndex=%d" % (after + 1))
            if status == 200 and "node" in j:
                after = j["node"]["modifiedIndex"]
                self.polled.append(j["node"]["value"])
            elif status == 400:
                self.polled.append("%s" % j)
                return
            else:
                time.sleep(0.05)

    def follow(self):
        """A stream, which is resumed by index."""
        after = self.since
        while not (self.over.is_set() and self.changed[-1:] == ["end"]):
            try:
                c = Connection(self.attached)
                c.request("GET", V1 + "/kv/changes?prefix=%s&after=%d" % (self.log, after))
                for line in iter(c.getresponse().readline, b""):
                    e = json.loads(line)
                    after = e["index"]
                    if "node" in e:
                        self.changed.append(e["node"]["value"])
                        if self.changed[-1] == "end":
                            break
            except (OSError, ValueError, http.client.HTTPException):
                pass
            time.sleep(0.05)

    def finish(self):
        """All end: a last write is the last event."""
        self.over.set()
        for t in self.threads[:4]:
            t.join()
        for attempt in range(100):
            if keys_request(self.writer, "POST", self.log, "?value=end")[0] == 201:
                break
            time.sleep(0.1)
        for t in self.threads[4:]:
            t.join(20)
        status, j = keys_request(self.writer, "GET", self.log, "?quorum=true&sorted=true")
        log = [n["value"] for n in j["node"]["nodes"]]
        kinds = sorted({o for o in self.outcomes if o[0] != 201})
        print("# %d writes, of which %d without success, the slowest took %.1f s; %d reads of the register; %s" %
              (len(self.outcomes), sum(o[0] != 201 for o in self.outcomes), self.slowest, self.reads, kinds))
        wrong = []
        for i, (status, cause) in enumerate(self.outcomes):
            n = log.count(str(i))
            if n > 1 or (status == 201 and n != 1) or (status == 503 and n > 0 and "unknown" not in cause and "was lost" not in cause):
                wrong.append("write %d, answered %d (%s), is there %d times" % (i, status, cause, n))
        result("no_write_is_lost_or_doubled_while_it_is_%s" % self.word, wrong)
        result("reads_and_writes_are_linearizable_while_it_is_%s" % self.word, self.register.problems)
        result("no_long_poll_misses_or_repeats_an_event_while_it_is_%s" % self.word, [] if self.polled == log else ["%d of %d: %s" % (len(self.polled), len(log), self.polled[-5:])])
        result("no_change_is_missed_or_repeated_while_it_is_%s" % self.word, [] if self.changed == log else ["%d of %d: %s" % (len(self.changed), len(log), self.changed[-5:])])


def moves(writer, attached, pid, number, word):
    """Units are submitted on a voter, while their list and the events are read on the attached host, and keys are written, read and watched
    there. Its replica ends or stands still."""
    total, problems, seen, sizes, slow = 60, [], [], [], [0.0]
    unit = re.compile("%s[0-9]+[.]service" % word)
    index = json.loads(ask(writer, "GET", V1 + "/cluster")[3])["index"]
    done = threading.Event()

    def read():
        while not done.is_set():
            begin = time.monotonic()
            status, _, _, body = ask(attached, "GET", V1 + "/units")
            slow[0] = max(slow[0], time.monotonic() - begin)
            if status != 200:
                problems.append("GET units: %d %s" % (status, body[:200]))
            else:
                sizes.append(sum(bool(unit.fullmatch(u["name"])) for u in json.loads(body).get("units", [])))
            time.sleep(0.02)

    def follow():
        after, streams = index, 0
        while len(seen) < total and not done.is_set():
            try:
                streams += 1
                c = Connection(attached)
                c.request("GET", V1 + "/events?details=true&after=%d" % after)
                r = c.getresponse()
                if r.status != 200:
                    raise OSError("status %d: %s" % (r.status, r.read()))
                for line in iter(r.readline, b""):
                    e = json.loads(line)
                    after = e.get("index", after)
                    if e.get("kind") == "unit" and unit.fullmatch(e["name"]):
                        seen.append(e["name"])
                        if len(seen) == total:
                            break
            except (OSError, ValueError, http.client.HTTPException):
                time.sleep(0.1)
        print("# the events came in %d streams" % streams)

    clients = KeyClients(writer, attached, word)
    threads = [threading.Thread(target=t) for t in (read, follow)]
    for t in threads:
        t.start()
    for i in range(total):
        if i == total // 3:
            os.kill(pid, number)
        for attempt in range(100):
            status = ask(writer, "PUT", V1 + "/units/%s%d.service" % (word, i), UNIT)[0]
            if status in (201, 409):
                break
            time.sleep(0.1)
        time.sleep(0.03)
    threads[1].join(20)
    done.set()
    for t in threads:
        t.join()
    clients.finish()
    print("# %d reads, the slowest took %.1f s" % (len(sizes), slow[0]))
    result("reads_are_answered_while_the_replica_is_%s" % word, problems)
    result("no_read_goes_back_while_it_is_%s" % word, [] if sizes == sorted(sizes) else ["%s" % sizes])
    names = ["%s%d.service" % (word, i) for i in range(total)]
    result("no_event_is_missed_or_repeated_while_it_is_%s" % word, [] if sorted(seen) == sorted(names) else ["%d of %d: %s" % (len(seen), total, seen)])


if __name__ == "__main__":
    verb, *args = sys.argv[1:]
    if verb == "routes":
        routes(*args)
    elif verb == "verbs":
        verbs(*args)
    elif verb == "events":
        events(*args)
    else:
        moves(args[0], args[1], int(args[2]), getattr(signal, args[3]), args[4])
