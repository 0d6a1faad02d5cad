"""Each route and each verb of fleetctl on a host without a replica, compared with a voter; reads and events while its replica is killed.

attached.py routes VOTER REPLICA ATTACHED ROUTES.C FLEET-API.7     sockets of hosts, of them the replica in use; the table of routes; what differs
attached.py verbs VOTER ATTACHED FLEETCTL MAN          each verb, and each verb of a verb, that its help lists
    "lost" after these: the replica in use ends again and again meanwhile. An answer that differs is asked for again, on both hosts.
attached.py events VOTER ATTACHED FLEETCTL             the same events, in their text, JSON and order, of the past and as they happen
attached.py lists VOTER ATTACHED                       large directories, and many lists at once
attached.py moves WRITER ATTACHED WORD COMMAND...      the command makes the replica in use end or stand still while both work; a word in the results"""

import glob
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time

V1 = "/fleet/v1"
OPTIONS = '"options":[{"section":"Service","name":"ExecStart","value":"/bin/sleep 1000"}]'
UNIT = '{"desiredState":"inactive",%s}' % OPTIONS
SET = '{"desiredState":"inactive","text":"[Service]\\nExecStart=/bin/sleep 9\\n[X-Fleet]\\nReplicas=0\\n"}'
BATCH = '{"units":[{"name":"b%%s.service","desiredState":"inactive",%s}]}' % OPTIONS
PLAN = '{"units":[{"name":"p%%s.service","desiredState":"launched",%s}]}' % OPTIONS
PATCH = '[{"op":"add","path":"/00000000000000000000000000000001/metadata/x","value":"%s"}]'
STREAM = "stream"  # the first line is compared, not the rest

# By pattern and method: requests in order, each a path, a body, and STREAM. "%s" is a letter of the host that is asked.
REQUESTS = {
    "PUT /v2/keys/**": [("/v2/keys/a%s?value=1", None)],
    "GET /v2/keys/**": [("/v2/keys/a%s", None), ("/v2/keys/none", None), ("/v2/keys/a%s?quorum=true", None), ("/v2/keys/a%s?wait=true&waitIndex=1", None)],
    "HEAD /v2/keys/**": [("/v2/keys/a%s", None), ("/v2/keys/none", None), ("/v2/keys/a%s?quorum=true", None), ("/v2/keys/a%s?quorum=x", None)],
    "POST /v2/keys/**": [("/v2/keys/q%s?value=1", None), ("/v2/keys/a%s?value=1", None), ("/v2/keys/q%s?ttl=x", None), ("/v2/keys/_fleet/q%s?value=1", None)],
    "PUT /fleet/v1/kv/value/**": [(V1 + "/kv/value/k%s", "1")],
    "GET /fleet/v1/kv/value/**": [(V1 + "/kv/value/k%s", None), (V1 + "/kv/value/none", None)],
    "HEAD /fleet/v1/kv/value/**": [(V1 + "/kv/value/k%s", None), (V1 + "/kv/value/none", None), (V1 + "/kv/value/k%s?quorum=true", None)],
    "GET /fleet/v1/kv/list": [(V1 + "/kv/list?prefix=/k%s", None), (V1 + "/kv/list?prefix=/k%s&quorum=true", None), (V1 + "/kv/list?limit=x", None)],
    "HEAD /fleet/v1/kv/list": [(V1 + "/kv/list?prefix=/k%s", None), (V1 + "/kv/list?limit=x", None)],
    "POST /fleet/v1/kv/txn": [(V1 + "/kv/txn", '{"writes":[{"op":"put","key":"/t%s","value":"1"}]}'), (V1 + "/kv/txn", "{")],
    "GET /fleet/v1/kv/changes": [(V1 + "/kv/changes?prefix=/k%s&after=0", None, STREAM)],
    "DELETE /fleet/v1/kv/value/**": [(V1 + "/kv/value/k%s", None)],
    "GET /version": [("/version", None)],
    "GET /health": [("/health", None)],
    "GET /v2/machines": [("/v2/machines", None)],
    "HEAD /v2/machines": [("/v2/machines", None)],
    "GET /v2/members/**": [("/v2/members", None), ("/v2/members/none", None)],
    "POST /v2/members/**": [("/v2/members", '{"peerURLs":["http://127.0.0.1:1"]}'), ("/v2/members", "{")],
    "PUT /v2/members/**": [("/v2/members/none", '{"peerURLs":["http://127.0.0.1:1"]}'), ("/v2/members/1", "{"), ("/v2/members", None)],
    "DELETE /v2/members/**": [("/v2/members/none", None), ("/v2/members", None)],
    "GET /v2/stats/self": [("/v2/stats/self", None)],
    "GET /v2/stats/leader": [("/v2/stats/leader", None)],
    "GET /v2/stats/store": [("/v2/stats/store", None)],
    "GET /v2/auth/users": [("/v2/auth/users", None)],
    "HEAD /v2/auth/users": [("/v2/auth/users", None)],
    "GET /v2/auth/roles": [("/v2/auth/roles", None)],
    "HEAD /v2/auth/roles": [("/v2/auth/roles", None)],
    "GET /v2/auth/enable": [("/v2/auth/enable", None)],
    "PUT /v2/auth/enable": [("/v2/auth/enable", None), ("/v2/auth/enable", "{")],
    "DELETE /v2/auth/enable": [("/v2/auth/enable", None)],
    "GET /metrics": [("/metrics", None)],
    "PUT /fleet/v1/units/*": [(V1 + "/units/u%s.service", UNIT), (V1 + "/units/s%s@.service", SET), (V1 + "/units/u%s.service", "{}"), (V1 + "/units/bad", UNIT), (V1 + "/units/u%s.service", "[")],
    "GET /fleet/v1/units/*": [(V1 + "/units/u%s.service", None), (V1 + "/units/none.service", None)],
    "GET /fleet/v1/units": [(V1 + "/units", None), (V1 + "/units?nextPageToken=%%", None)],
    "GET /fleet/v1/revisions/*": [(V1 + "/revisions/u%s.service", None), (V1 + "/revisions/u%s.service?rev=1", None), (V1 + "/revisions/u%s.service?rev=9", None),
                                  (V1 + "/revisions/none.service", None)],
    "POST /fleet/v1/batch": [(V1 + "/batch", BATCH), (V1 + "/batch", "{")],
    "GET /fleet/v1/state": [(V1 + "/state", None)],
    "GET /fleet/v1/local": [(V1 + "/local", None), (V1 + "/local?none=1", None)],
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
    "GET /fleet/v1/units/*/replicas": [(V1 + "/units/s%s@.service/replicas", None), (V1 + "/units/u%s.service/replicas", None), (V1 + "/units/none.service/replicas", None)],
    "PUT /fleet/v1/units/*/replicas": [(V1 + "/units/s%s@.service/replicas", '{"count":0}'), (V1 + "/units/s%s@.service/replicas", '{"count":1001}'),
                                      (V1 + "/units/u%s.service/replicas", '{"count":1}'), (V1 + "/units/none.service/replicas", "{}")],
    "DELETE /fleet/v1/units/*/replicas": [(V1 + "/units/s%s@.service/replicas", None), (V1 + "/units/u%s.service/replicas", None), (V1 + "/units/none.service/replicas", None)],
    "DELETE /fleet/v1/units/*/move": [(V1 + "/units/u%s.service/move", None), (V1 + "/units/none.service/move", None)],
    "GET /fleet/v1/reboots": [(V1 + "/reboots", None)],
    "POST /fleet/v1/reboots": [(V1 + "/reboots", '{"machines":["none"]}'), (V1 + "/reboots", "{")],
    "DELETE /fleet/v1/reboots": [(V1 + "/reboots", '{"machines":["none"]}')],
    "POST /fleet/v1/reboots/resume": [(V1 + "/reboots/resume", None)],
    "GET /fleet/v1/data": [(V1 + "/data", None), (V1 + "/data?unit=none.service", None), (V1 + "/data?unit=s%s@.service", None)],
    "GET /fleet/v1/services": [(V1 + "/services", None)],
    "GET /fleet/v1/services/*": [(V1 + "/services/none", None)],
    "GET /fleet/v1/rollouts": [(V1 + "/rollouts", None)],
    "GET /fleet/v1/rebalance": [(V1 + "/rebalance", None), (V1 + "/rebalance?unit=none.service", None), (V1 + "/rebalance?moves=0", None)],
    "PUT /fleet/v1/secrets/*": [(V1 + "/secrets/s%s", '{"units":["u*"],"value":"YQ=="}'), (V1 + "/secrets/s%s", '{"value":""}'), (V1 + "/secrets/-", '{"value":"YQ=="}'), (V1 + "/secrets/s%s", "{")],
    "GET /fleet/v1/secrets": [(V1 + "/secrets", None)],
    "DELETE /fleet/v1/secrets/*": [(V1 + "/secrets/s%s", None), (V1 + "/secrets/none", None)],
    "GET /fleet/v1/rollouts/*": [(V1 + "/rollouts/u%s.service", None), (V1 + "/rollouts/none.service", None)],
    "PUT /fleet/v1/rollouts/*": [(V1 + "/rollouts/u%s.service", '{"request":"pause"}'), (V1 + "/rollouts/u%s.service", '{"request":"none"}')],
    "GET /fleet/v1/machines/*": [(V1 + "/machines/00000000000000000000000000000001", None), (V1 + "/machines/none", None)],
    "POST /fleet/v1/machines/*": [(V1 + "/machines/00000000000000000000000000000001", "{}")],
    "GET /fleet/v1/why/*": [(V1 + "/why/u%s.service", None), (V1 + "/why/none.service", None)],
    "POST /fleet/v1/plan": [(V1 + "/plan", PLAN), (V1 + "/plan", "{")],
    "POST /fleet/v1/plan/machines": [(V1 + "/plan/machines", PATCH)],
    "GET /fleet/v1/problems": [(V1 + "/problems?zone=3600", None), (V1 + "/problems?zone=x", None)],
    "GET /fleet/v1/directory": [(V1 + "/directory", None)],
    "POST /fleet/v1/directory": [(V1 + "/directory", '{"kind":"held","machineID":"00000000000000000000000000000001","names":["x.service"]}')],
    "GET /fleet/v1/discovery": [(V1 + "/discovery", None)],
    "POST /fleet/v1/discovery": [(V1 + "/discovery", "{}")],
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
    "POST /fleet/v1/cluster/host/rekey": [(V1 + "/cluster/host/rekey", "[")],  # these two read no body and no parameters
    "POST /fleet/v1/cluster/rekey": [(V1 + "/cluster/rekey", None)],
    "POST /fleet/v1/cluster/secure": [(V1 + "/cluster/secure", "[")],
    "POST /fleet/v1/cluster/init": [(V1 + "/cluster/init", "[")],
    "POST /fleet/v1/cluster/join": [(V1 + "/cluster/join", "[")],
    "GET /fleet/v1/cluster/leave": [(V1 + "/cluster/leave", None)],
    "POST /fleet/v1/cluster/leave": [(V1 + "/cluster/leave", "["), (V1 + "/cluster/leave", '{"deadlineMs":"x"}')],  # a good one takes the host out of its cluster
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

# Members of answers whose values belong to a moment: they have to be there on both hosts. Those that belong to the host that answers are listed in
# fleet-api(7), and nowhere else.
MOMENT = {"index", "createdIndex", "modifiedIndex", "raftIndex", "lastIndex", "lastTerm", "time", "since", "expires", "created", "first", "last", "token", "startTime", "uptime",
          "recvAppendRequestCnt", "sendAppendRequestCnt", "latency", "counts"}


def of_the_host(manual):
    """By route: members with values of the host that answers, of the rows "- _GET PATH_: _member_, _member_" of the manual; none for "all values"."""
    rows = re.findall(r"^- (_GET [^:\n]*): (_|all values)(.*)$", open(manual).read(), re.M)
    found = {route.replace("\\", ""): set(re.findall(r"_(\w+)_", first + rest)) for routes, first, rest in rows for route in re.findall("_(GET /[^_]*)_", routes)}
    assert found, "%s has no differences of hosts" % manual
    return found


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
NOT_AGAIN = {"DELETE /fleet/v1/machines/*", "PUT /fleet/v1/secrets/*", "DELETE /fleet/v1/secrets/*", "GET /fleet/v1/history", "GET /fleet/v1/kv/changes", "GET /fleet/v1/events"}


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


def plain(value, hidden, absent=set()):
    if isinstance(value, dict):
        return {k: "..." if k in hidden else plain(v, hidden, absent) for k, v in value.items() if k not in absent}
    return [plain(v, hidden, absent) for v in value] if isinstance(value, list) else value


def comparable(answer, route, of_host):
    status, kind, fields, body = answer
    try:
        value = plain(json.loads(body), MOMENT | ({"id"} if route == "POST /fleet/v1/cluster/tokens" else set()), of_host.get(route, set()))
        body = json.dumps(sorted(value) if of_host.get(route) == set() else value, sort_keys=True)
    except ValueError:
        body = re.sub(rb"[0-9]+", b"N", body).decode("latin-1")
    if kind and (kind.startswith("application/octet-stream") or "openmetrics" in kind or "version=0.0.4" in kind):
        body = "..." if body else ""
    body = re.sub(r'(clientURLs": \["http://127.0.0.1:)[0-9]+', r"\1N", body)
    body = re.sub("/q_/[0-9]{20}", "/q_/N", re.sub(r"\b([a-z]|fleet-)[vw]\b", r"\1_", body))  # names of both hosts; and of a key in order
    return status, kind, fields, body


def result(name, different):
    print("ok " + name if not different else "not ok %s: %s" % (name, "; ".join(different[:3])), flush=True)


def routes(voter, replica, attached, table, manual, lost=None):
    of_host = of_the_host(manual)
    if lost:
        return routes_while_replicas_are_lost(voter, attached, of_host)
    tables = "".join(open(file).read() for file in [table] + [f for g in ("*.c", "features/*/*.c") for f in glob.glob(os.path.dirname(table) + "/../" + g)])
    rows = re.findall(r'\{ ROUTE_\w+, +("[A-Z ]+"|NULL), +"([^"]+)",', tables)
    # The handler of a row without methods answers each method.
    wanted = {"%s %s" % (method, pattern) for methods, pattern in rows for method in (["GET", "POST"] if methods == "NULL" else methods.strip('"').split())}
    result("each_route_is_compared", ["no request for %s" % m for m in sorted(wanted - {r for r, requests in REQUESTS.items() if requests})] + ["no route %s" % r for r in sorted(REQUESTS.keys() - wanted)])
    different, n = [], 0
    fill = lambda s, letter: s.replace("%s", letter) if s else s
    for route, requests in REQUESTS.items():
        method, hosts = route.split()[0], ((replica if route == OF_THE_ROLE else voter, "v"), (attached, "w"))
        for target, body, *kind in requests:
            answers = []
            for path, letter in hosts:
                answer = ask(path, method, fill(target, letter), fill(body, letter), *kind)
                # Its replica has not applied the change of the other one, or that change goes on.
                while b"meanwhile; try again" in answer[3] or b"is under way: fleetctl ca" in answer[3]:
                    time.sleep(0.1)
                    answer = ask(path, method, fill(target, letter), fill(body, letter), *kind)
                answers.append(comparable(answer, route, of_host))
            for attempt in range(50):  # a host reads its own writes at once, those through another one later
                if method != "GET" or answers[0] == answers[1]:
                    break
                time.sleep(0.1)
                answers = [comparable(ask(path, method, fill(target, letter), None, *kind), route, of_host) for path, letter in hosts]
            n += 1
            if answers[0] != answers[1]:
                different.append("%s %s: %s, here %s" % (method, target, *(str(a)[:300] for a in answers)))
                print("# " + different[-1])
    print("# %d requests of %d routes" % (n, len(REQUESTS)))
    result("each_route_answers_as_on_a_voter", different)


def routes_while_replicas_are_lost(voter, attached, of_host):
    different, n, again = [], 0, 0
    for route, requests in REQUESTS.items():
        if route in NOT_AGAIN or route == OF_THE_ROLE:
            continue
        for target, body, *kind in requests:
            for attempt in range(ATTEMPTS):
                answers = [comparable(ask_again(path, route.split()[0], target.replace("%s", letter), body.replace("%s", letter) if body else None, *(kind or [None])), route, of_host)
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


# Commands in order. "%s" is a letter of the host that is asked: what ends with "-%s" is its own, and so is machine h%d; %i is the index before key /k-%s/a. A line is run by a shell in a
# folder of that host. Those that would change the host itself are rejected: what they say is compared. "once": not while replicas are lost, because
# its result depends on how often it was sent, or because another line has the verb.
COMMANDS = """
submit u-%s.service t-%s@.service s-%s@.service
once submit u-%s.service
once submit none.service
once submit bad-%s.service
cat u-%s.service
once cat --source --output=json u-%s.service
once cat --rev=1 u-%s.service
once cat --rev=9 u-%s.service
once cat none.service
diff u-%s.service
once submit --replace new/u-%s.service
once diff u-%s.service
once diff --from=1 --to=2 u-%s.service
once diff --from=9 u-%s.service
history u-%s.service
once history --output=json u-%s.service
once history none.service
revert --yes --no-block u-%s.service 1
once revert --yes u-%s.service 9
once revert --yes none.service
plan u-%s.service
once plan --output=json u-%s.service
once plan none.service
verify u-%s.service
once verify bad-%s.service
load --no-block u-%s.service
start --no-block u-%s.service t-%s@1.service
scale s-%s@.service 0
once scale s-%s@.service file
once scale --output=json s-%s@.service 0
once scale t-%s@.service 3
once scale none@.service 3
once scale file
once start --no-block s-%s@.service
once start --no-block none.service
once start --no-block bad@@.service
once start --timeout=none u-%s.service
list-units
once list-units --output=json
once list-units --state=failed
once list-units --fields=none
once list-units --machine=none
list-unit-files
once list-unit-files --output=json
once list-unit-files u-%s.service none.service
is-active u-%s.service
once is-active none.service
is-failed u-%s.service
once is-failed none.service
status u-%s.service
once status
once status --output=json
once status none.service
show u-%s.service
once show none.service
journal u-%s.service
once journal none.service
once journal --since=never u-%s.service
kill u-%s.service
once kill none.service
once kill --signal=NONE u-%s.service
reload u-%s.service
once reload none.service
reset-failed u-%s.service
once reset-failed none.service
list-dependencies u-%s.service
once list-dependencies none.service
ssh u-%s.service
once ssh none -- true
fd-forward none.sock
why u-%s.service
once why --output=json u-%s.service
once why none.service
once why 't-%s@*'
move --no-block u-%s.service
once move u-%s.service none
once move none.service
restart none.service
directory
once directory --output=json
directory confirm none.service
once directory confirm
directory take-over none.service
directory retry none.service
once directory retry
rollout
rollout pause u-%s.service
rollout resume u-%s.service
rollout promote u-%s.service
once rollout u-%s.service
once rollout --output=json
once rollout pause none.service
once rollout none.service
stop --no-block u-%s.service
once stop --no-block none.service
unload --no-block u-%s.service
once unload none.service
edit --yes u-%s.service
once edit none.service
export exported
once export --output=json exported-again
once export exported
import exported
once import --yes --replace exported
once import none
events -n3
once events --since=never
once events --machine=none
once events none.service
log --lines=1 --machine=none
once log --lines=none
machine show h1
once machine show --output=json h1
once machine show none
machine set --yes h1 zone=a
once machine set --yes none zone=a
once machine set --yes h1 zone
once machine set --yes h1 zone=
once machine rekey none
once machine rekey
cordon --reason=disk h%d
once cordon none
once list-machines --all --fields=machine,maintenance
drain --no-block h%d
once drain none
once drain --deadline=none h4
uncordon h%d
once uncordon none
reboot --status
once reboot --status --output=json
once reboot none
once reboot --cancel
once reboot --resume
once reboot --deadline=none h4
once remove --yes h3
once remove none
list-machines --all
once list-machines --all --full --fields=machine,ip,metadata,certificate,cpu,hostname,idle-session,kind,maintenance,memory,presence,problem,reboot,restricted,role,session,units,version
once list-machines --all --output=json
once list-machines --all --fields=none
list-members
once list-members --output=json
services
services --output=json
services none
cluster
once cluster --output=json
cluster level
once cluster level 1 --yes
once cluster level none
cluster stop-waiting --yes
cluster secure --yes
once cluster none
ca show
once ca --output=json
ca rotate
once ca rotate --compromised
once cluster rekey
cert create user-%s --rights=keys-read:/,units-see --out=certs
once cert user-%s --out=certs
once cert create another-%s --rights=none
once cert create bad/name-%s
cert ls
once cert ls --output=json
cert set user-%s --rights=units-see
once cert set none --rights=units-see
once cert ls
cert revoke user-%s
once cert revoke none
token create --uses=3
once token --ttl=none
once token --replace=none
once token --from=none
token ls
once token ls --output=json
token revoke 000000000000
secret set secret-%s --units=web* --file=secret
once secret set secret-%s --file=secret --output=json
once secret set secret-%s hunter2
once secret set none --file=none
secret ls
once secret --output=json
once secret rm none
once secret get secret-%s
secret rm secret-%s
backup --yes backup-%s
once backup --verify backup-%s
once backup backup-%s
once backup --yes none/backup
recover
restore none.backup
once restore backup-%s
init --name=none
once init --voters=4
once init --spread=
join fleet1-none
once join
leave --none
once leave --cancel
once leave none
kv set /k-%s/a 1
once kv set /k-%s/a 2 --swap-with-value=1
once kv set /k-%s/a 2 --swap-with-value=1
once kv set /k-%s/a 2 --swap-with-index=1
once kv set /k-%s/b 1 --ttl=600
once kv set /k-%s/b 1 --ttl=600 --refresh
once kv set /k-%s 1
once kv set /_fleet/k-%s 1
once kv set /k-%s/a --file=u-%s.service
kv get /k-%s/a
once kv get --quorum --output=json /k-%s/a
once kv get --file=value /k-%s/a
once kv get /none
once kv get /k-%s
kv mk /k-%s/c 1
once kv mk /k-%s/c 1
once kv mk --dir /k-%s/dir
once kv mk --in-order /k-%s/queue 1
kv ls --recursive /k-%s
once kv ls --limit=2 /k-%s
once kv ls --output=json --quorum /k-%s
once kv ls /none
once kv ls
kv watch --after-index=%i --recursive /k-%s
once kv watch --after-index=%i --output=json /k-%s/a
once kv watch --after-index=99999999999999999999 /k-%s/a
kv exec-watch --after-index=%i --recursive /k-%s -- sh -c 'echo $ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE; kill $PPID'
once kv exec-watch /k-%s
kv lock lock-%s -- echo locked
once kv lock lock-%s -- false
kv txn <txn-%s
once kv txn txn-%s
once kv txn bad-%s.service
kv export /k-%s
once kv export /k-%s exported-keys
once kv export /none
kv import /i-%s exported-keys
once kv import /i-%s <txn-%s
once kv import /i-%s none
kv rm --recursive /i-%s
once kv rm /k-%s/b --with-value=9
once kv rm /k-%s/b --with-index=1
once kv rm /k-%s
once kv rm --dir /k-%s
once kv rm /none
once kv rm --dir /k-%s/dir
once kv none
version
help why
once help kv get
once help kv none
once help none
none
once list-units --none
destroy --yes u-%s.service t-%s@.service t-%s@1.service s-%s@.service
once destroy none.service
once destroy
"""
IN_TIME = "drain --no-block h%d"  # says nothing of a machine that is drained when it has been asked for
FILES = {"u-%s.service": "[Service]\nExecStart=/bin/sleep 1000\n", "new/u-%s.service": "[Service]\nExecStart=/bin/sleep 2000\n",
         "t-%s@.service": "[Service]\nExecStart=/bin/sleep %%i\n", "bad-%s.service": "[Service\n",
         "s-%s@.service": "[Service]\nExecStart=/bin/sleep %%i\n[X-Fleet]\nReplicas=0\n",
         "secret": "hunter2", "txn-%s": '{"writes":[{"action":"set","key":"/k-%s/txn","value":"1"}]}'}
NUMBERS = {"v": "4", "w": "5"}
# What is of the host: words of fleetctl(1), and how it looks.
OF_THE_HOST = {"the line _this host_ of *cluster*": "^this host  h.*$", "(_root@beta_)": "(?<=root@)h[26]"}


def pages(path, target):
    """The bodies of all pages of a list."""
    bodies, token = [], ""
    while token is not None:
        status, _, _, body = ask(path, "GET", V1 + target + (token and "&nextPageToken=" + token))
        bodies.append((status, re.sub(rb'"index":[0-9]+', b'"index":N', body)))
        token = json.loads(body).get("nextPageToken") if status == 200 else None
    return bodies


def lists(voter, attached):
    """Directories that are larger than one answer may be, and more lists at once than a replica takes of one host."""
    value, number, at_once, different = "x" * 245000, 150, 100, []
    key = lambda i: "/large/%s/%03d" % ("ab"[i % 20 == 0], i)
    for i in range(number):
        assert ask(voter, "PUT", V1 + "/kv/value" + key(i), value)[0] == 201
    assert ask(voter, "PUT", V1 + "/kv/value/small/key", "1")[0] == 201
    assert ask(attached, "GET", V1 + "/kv/value/small/key?quorum=true")[0] == 200
    for target, n in ("/kv/list?prefix=/large&limit=3&values=false", 51), ("/kv/list?prefix=/large&limit=100", 30), ("/kv/list?prefix=/large&limit=100&values=false&quorum=true", 2):
        answers = [pages(path, target) for path in (voter, attached)]
        if answers[0] != answers[1] or len(answers[0]) != n:
            different.append("%s: %d pages, here %s" % (target, len(answers[0]), answers[1][-1][1][:300]))
    for target, status in ("?recursive=true", 400), ("/a", 400), ("/b", 200), ("/b?quorum=true&sorted=true", 200), ("", 200):
        answers = [ask(path, "GET", "/v2/keys/large" + target) for path in (voter, attached)]
        said = [(a[0], re.sub(rb'"index":[0-9]+', b'"index":N', a[3])) for a in answers]
        if said[0] != said[1] or said[0][0] != status:
            different.append("%s: %s, here %s" % (target, *(str(s)[:300] for s in said)))
    result("large_directories_are_listed_as_on_a_voter", different)

    for i in range(0, 1200, 100):  # a replica has two workers for directories of this size
        writes = ['{"action":"set","key":"/many/%d","value":"1"}' % j for j in range(i, i + 100)]
        assert ask(attached, "POST", V1 + "/kv/txn", '{"writes":[%s]}' % ",".join(writes))[0] == 200
    for target, n in ("/v2/keys/small", at_once), ("/v2/keys/many", 20), (V1 + "/kv/list?prefix=/many&limit=1200", 20):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(ask(attached, "GET", target))) for _ in range(n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        result("%d_lists_at_once_of_%s_are_answered" % (n, re.sub("[^a-z]+", "_", target)), [str(a)[:300] for a in answers if a[0] != 200])
    assert ask(voter, "DELETE", "/v2/keys/many?recursive=true")[0] == 200
    for i in range(number):  # together, they cost more than one command may
        assert ask(voter, "DELETE", V1 + "/kv/value" + key(i))[0] == 200
    assert ask(voter, "DELETE", "/v2/keys/large?recursive=true")[0] == 200


def without_host(value, members):
    if isinstance(value, dict):
        return {k: without_host(v, members) for k, v in value.items() if not ("clusterId" in value and k in members)}
    return [without_host(v, members) for v in value] if isinstance(value, list) else value


def verb_names(fleetctl):
    """Verbs, and the words of their arguments that stand for themselves, as the help has them: "cert create", "kv get"."""
    run = lambda *args: subprocess.run([fleetctl, "help", *args], capture_output=True, text=True, check=True).stdout
    names = run("--verbs").split("\n")[:-1]
    for verb in [n for n in names if " " not in n]:
        usage = re.search(r"^\tfleetctl %s(.*)$" % verb, run(verb), re.M).group(1)
        words = re.findall(r"(?<![\w-])[a-z][a-z-]*", usage)
        names += ["%s %s" % (verb, w) for w in words]
    return names


def run_command(fleetctl, path, letter, line, members):
    for name, text in FILES.items():
        name = os.path.join(letter, name.replace("%s", letter))
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "w") as f:
            f.write(text.replace("%s", letter))
    if "%i" in line:
        node = json.loads(ask_again(path, "GET", "/v2/keys/k-%s/a" % letter, None)[3])["node"]
        line = line.replace("%i", str(node["modifiedIndex"] - 1))
    command = "exec %s --endpoint=unix://%s %s" % (fleetctl, path, line.replace("%s", letter).replace("%d", NUMBERS[letter]))
    r = subprocess.run(["sh", "-c", command], cwd=letter, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=dict(os.environ, EDITOR="true", VISUAL="true"))
    if "under way: fleetctl ca" in r.stderr:  # of the other host, with the same command
        time.sleep(0.2)
        return run_command(fleetctl, path, letter, line, members)
    if "--output=json" in line and r.stdout.startswith("{"):
        r.stdout = json.dumps(without_host(json.loads(r.stdout), members), indent=0)
    out = re.sub(r"-[vw]\b", "-_", r.stdout + r.stderr).replace(path, "SOCKET")  # lists have the units of both
    if "%d" in line:
        out = re.sub(r"\bh%s\b" % NUMBERS[letter], "h_", out)
    out = re.sub("fleet1-[A-Za-z0-9_-]{20,}", "TOKEN", re.sub("|".join(OF_THE_HOST.values()), "", out, flags=re.M))
    return r.returncode, re.sub(r"(?<!\bh)(?!0{31}[0-9]\b)(?<![0-9])[0-9]+", "N", out)


def verbs(voter, attached, fleetctl, manuals, lost=None):
    with open(manuals + "/fleetctl.1.scd") as f:
        text = f.read()
    members = of_the_host(manuals + "/fleet-api.7.scd")["GET /fleet/v1/cluster"]
    lines = [line for line in COMMANDS.split("\n") if line and not (lost and line.startswith("once "))]
    lines = [line.replace("once ", "", 1) for line in lines]
    if not lost:
        result("each_verb_is_compared", ["no command with " + n for n in verb_names(fleetctl) if not any((line + " ").startswith(n + " ") for line in lines)])
        result("what_differs_is_in_the_manual", ["fleetctl(1) has no " + words for words in OF_THE_HOST if words not in text])
    different = []
    for line in lines:
        for attempt in range(ATTEMPTS if lost or line == IN_TIME else 1):
            said = [run_command(fleetctl, path, letter, line, members) for path, letter in ((voter, "v"), (attached, "w"))]
            if said[0] == said[1]:
                break
            time.sleep(0.3)
        if said[0] != said[1]:
            different.append("%s: %s, here %s" % (line, *(str(s)[:300] for s in said)))
            print("# " + "%s: %s, here %s" % (line, *said))
    print("# %d commands" % len(lines))
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


def moves(writer, attached, word, *command):
    """Units are submitted on a voter, while their list and the events are read on the attached host, and keys are written, read and watched
    there. The command makes its replica end, stand still, or lose its network."""
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
            subprocess.run(command, check=True)
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
    elif verb == "lists":
        lists(*args)
    else:
        moves(*args)
