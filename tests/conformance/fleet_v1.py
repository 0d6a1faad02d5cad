"""The answers of fleet's API v1, statement by statement, as those of fleet 1.0: fleet_v1.py SOCKET

Where fleetd differs on purpose, the row says "ours". Each row is a request on a connection of its own, in order."""

import json
import socket
import sys

V1 = "/fleet/v1"
OPTION = '{"section":"Service","name":"ExecStart","value":"/bin/sleep %d"}'
ONE, TWO = ['"options":[%s]' % OPTION % n for n in (1, 2)]
MACHINE = "0123456789abcdef0123456789abcdef"
KEY = "/%s/metadata/k" % MACHINE


def ask(method, target, body=None, types=("application/json",)):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(sys.argv[1])
    head = "%s %s HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n" % (method, target)
    if body is not None:
        body = body.encode()
        head += "Content-Length: %d\r\n" % len(body) + "".join("Content-Type: %s\r\n" % t for t in types)
    s.sendall(head.encode() + b"\r\n" + (body or b""))
    answer = b""
    while True:
        piece = s.recv(65536)
        if not piece:
            break
        answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    return int(lines[0].split()[1]), {k.lower(): v for k, v in (l.split(": ", 1) for l in lines[1:])}, body


n_checks = {}


def check(name, holds, why=""):
    """Results of one name are one line each, numbered."""
    n_checks[name] = n_checks.get(name, 0) + 1
    name = "%s_%d" % (name, n_checks[name])
    print("ok %s" % name if holds else "not ok %s: %s" % (name, why), flush=True)


def case(name, method, target, status, message=None, body=None, types=("application/json",)):
    """Send a request, and compare the status; 'message': the error's, None for an empty body, ... for any."""
    got, fields, answer = ask(method, target, body, types)
    why = "%s %s %s: %d %r" % (method, target[:80], (body or "")[:80], got, answer[:200])
    right = got == status and fields.get("server", "").startswith("fleetd/")
    if message is not ... and right:
        if message is None:
            right = answer == b"" and ("content-type" not in fields or method == "PATCH")
        elif isinstance(message, str):
            right = fields.get("content-type") == "application/json" and (
                method == "HEAD" or answer == json.dumps({"error": {"code": status, "message": message}}, separators=(",", ":"), ensure_ascii=False).encode())
        else:
            right = fields.get("content-type") == "application/json" and json.loads(answer) == message
    check(name, right, why)
    return answer


# -- Paths and methods (fleet's server has no others) --

for method in "GET", "PUT":
    for path, status in (("/", 405), (V1, 405), ("/v1-alpha", 405), ("/x", 404), ("/fleet", 404), ("/fleet/v2/units", 404), ("/fleet/v1units", 404), ("/FLEET/v1/units", 404),
                         (V1 + "/", 404), (V1 + "/units/", 404), (V1 + "/units/a/b", 404), (V1 + "/units/a%2fb", 404), (V1 + "/state/", 404), (V1 + "/state/a/b", 404),
                         (V1 + "/machines/", 404), (V1 + "/machines/x", 404), (V1 + "/discovery/", 404), (V1 + "/nothing", 404), (V1 + "/units/a%00b", 404)):
        case("path", method, path, status, "")
for path, words in ((V1 + "/units", "GET"), (V1 + "/state", "GET"), (V1 + "/state/a.service", "GET"), (V1 + "/units/a.service", "GET, PUT and DELETE"), (V1 + "/machines", "GET and PATCH")):
    for method in "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "BREW":
        if method not in words:
            case("method", method, path, 405, "only %s supported against this resource" % words)
for method in "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS":
    case("method", method, V1 + "/discovery", 400, "only HTTP GET supported against this resource")
for path, clean in (("/fleet//v1/units", V1 + "/units"), (V1 + "/./units?x=1&y=2", V1 + "/units?x=1&y=2"), (V1 + "/units/..", V1), ("//", "/")):
    for method in "GET", "PUT":
        status, fields, body = ask(method, path)
        page = '<a href="%s">Moved Permanently</a>.\n\n' % clean.replace("&", "&amp;") if method == "GET" else ""
        check("unclean_path", (status, fields.get("location"), body.decode()) == (301, clean, page), "%s: %d %r %r" % (path, status, fields, body))

# -- Lists, empty; parameters that generated clients add; tokens --

for base in V1, "/v1-alpha":
    for name in "units", "state":
        for query in "", "?", "?alt=json", "?alt=json&prettyPrint=false&fields=name&key=k&quotaUser=u&userIp=127.0.0.1&oauth_token=x", "?unknown", "?nextpagetoken=!":
            case("empty_list", "GET", base + "/" + name + query, 200, {})
for query in "?unitName=&machineID=", "?unitName=none.service", "?machineID=none", "?unitName=a&unitName=b":
    case("state_filter", "GET", V1 + "/state" + query, 200, {})
for token, problem in (("", "EOF"), ("ZA==", "unexpected EOF"), ("ZAAC", "unexpected EOF"), ("LQAJAA==", "token limit must be 100"), ("EwBMLg==", "token limit must be 100"),
                       ("_wMAAA==", "token limit must be 100"), ("ZAAAAA==", "token page must be greater than zero"), ("ZAACAA==&nextPageToken=ZAACAA==", "too many values for page token"),
                       ("!", 0), ("A", 0), ("AAA", 0), ("A=", 1), ("=", 0), ("AA=", 3), ("AA=A", 2), ("AA==A", 4), ("AAAAA", 4), ("AAA=A", 4), ("AA%3D%0aA", 3), ("ZAACAA+/", 6), ("ZAACAA", 4), ("ZAACAA==AAAA", 8)):
    for name in "units", "state", "machines":
        case("bad_token", "GET", "%s/%s?nextPageToken=%s" % (V1, name, token), 400, problem if isinstance(problem, str) else "illegal base64 data at input byte %d" % problem)
for token in "ZAACAA==", "ZAACAA%3D%3D", "ZAACAAAA", "ZAD__w==", "ZAAC%0d%0aAA==", "ZAACAA=%0a=":
    case("token_past_the_end", "GET", V1 + "/units?nextPageToken=" + token, 200, {})

# -- PUT of a unit: the type, the body, the name, in this order --

UNIT = V1 + "/units/t.service"
for types, words in ((("application/json",), None), (("application/json; charset=utf-8",), None), (("application/json ;x",), None), (("  application/json  ",), None),
                     ((), "expected 1 Content-Type, got 0"), (("application/json", "application/json"), "expected 1 Content-Type, got 2"),
                     (("",), ...), (("text/plain",), ...), (("Application/JSON",), ...), (("application/json x",), ...), (("application/json,text/plain",), ...)):
    case("content_type", "PUT", UNIT, 201 if words is None else 415, "only acceptable Content-Type is application/json" if words is ... else words, "{%s}" % ONE, types)
    ask("DELETE", UNIT)
case("content_type", "PUT", UNIT, 415, "expected 1 Content-Type, got 0")
for body in "", "x", "{", '{"name"', '{"name":', '{"name":"a', "[]", "1", '"x"', "true", '{"name":1}', '{"options":{}}', '{"options":[1]}', '{"options":[{"name":1}]}', '{"desiredState":1}', '{"a":1,}', "{'a':1}":
    check("bad_body", b'"unable to decode body: ' in case("bad_body", "PUT", UNIT, 400, ..., body), body)
for body in "{}", '{"options":[]}', '{"options":null,"desiredState":null,"name":null}', '{"name":""}', '{"desiredState":"launched"}', '{"unknown":{"a":[1]}}', '{"name":"t.service"}':
    case("nothing_to_make", "PUT", UNIT, 409, "unit does not exist and options field empty", body)
for key in "name", "NAME":
    case("other_name", "PUT", UNIT, 400, 'name in URL "t.service" differs from unit name in request body "u.service"', '{"%s":"u.service",%s}' % (key, ONE))
for name, problem in (("a", 'unit name must contain "."'), ("a.", 'unit name cannot end in "."'), ("a.x", 'invalid unit type: "x"'), ("a.SERVICE", 'invalid unit type: "SERVICE"'),
                      ("a.service%20", 'invalid unit type: "service "'), ("a@b.mount", 'invalid unit type for template: "mount"'), ("@.service", 'unit name cannot start in "@"'),
                      ("a%20b.service", "invalid character ' ' in unit name"), ("a+b.service", "invalid character '+' in unit name"), ("%C3%A9.service", "invalid character '\u00e9' in unit name"),
                      ("a;b.service", "invalid character ';' in unit name"), ("x" * 249 + ".service", "unit name exceeds maximum length (256)"), ("%2e", 'unit name cannot end in "."'),
                      # Ours: systemd would reject them, or they belong to the host.
                      (".service", 'unit name cannot start in "."'), ("x" * 248 + ".service", "unit name exceeds systemd's maximum length (255)"),
                      ("a.slice", "a.slice: units of that type belong to the host they are on"), ("dbus.service", "dbus.service: systemd itself depends on a unit of that name (systemd.special(7))")):
    case("bad_name", "PUT", V1 + "/units/" + name, 400, problem, "{%s}" % ONE)
    case("bad_name", "GET", V1 + "/units/" + name, 404, "unit does not exist")
    case("bad_name", "DELETE", V1 + "/units/" + name, 404, "unit does not exist")
for name in "a@b.service", "a%40b.service", "%61b.service", "a:b-c_d.e%5Cf.service", "a.target", "a.timer", "x" * 247 + ".service":
    case("good_name", "PUT", V1 + "/units/" + name + "?alt=json", 201, None, "{%s}" % ONE)
    case("good_name", "GET", V1 + "/units/" + name + "?alt=json", 200, ...)
    case("good_name", "DELETE", V1 + "/units/" + name + "?alt=json", 204, None)


def x_fleet(*options):
    return '{"options":[%s]}' % ",".join('{"section":"X-Fleet","name":"%s","value":"%s"}' % o for o in options)


for options, problem in (
        ((("MachineOf", "a.service"), ("Conflicts", "a*")), 'unresolvable requirements: peer "a.service" matches conflict "a*"'),
        ((("MachineOf", "a.service"), ("Replaces", "a*")), 'unresolvable requirements: peer "a.service" matches replace "a*"'),
        ((("MachineID", "x"), ("MachineOf", "a.service")), "MachineID cannot be used with Peers"), ((("MachineID", "x"), ("Conflicts", "y")), "MachineID cannot be used with Conflicts"),
        ((("MachineID", "x"), ("Global", "true")), "MachineID cannot be used with Global"), ((("MachineID", "x"), ("Replaces", "y")), "MachineID cannot be used with Replaces"),
        ((("Global", "true"), ("MachineOf", "x")), "Global cannot be used with Peers"), ((("Global", "true"), ("Replaces", "x")), "Global cannot be used with Replaces"),
        ((("Conflicts", "x"), ("Replaces", "y")), "Conflicts cannot be used with Replaces")):
    case("bad_options", "PUT", UNIT, 400, problem, x_fleet(*options))
for options in ((("Global", "true"), ("Conflicts", "y")), (("Global", "true"), ("MachineMetadata", "a=b")), (("Unknown", "x"),)):
    case("good_options", "PUT", UNIT, 201, None, x_fleet(*options))
    case("good_options", "DELETE", UNIT, 204, None)

# -- A unit's life --

GARBAGE = '{"desiredState":"junk"%s}'
case("life", "GET", UNIT, 404, "unit does not exist")
case("life", "PUT", UNIT, 400, ..., GARBAGE % "," + ONE)  # ours; fleet: 500
case("life", "PUT", UNIT, 201, None, '{"name":"t.service",%s,"machineID":"x","unknown":1}' % ONE)
case("life", "PUT", UNIT, 409, "must provide DesiredState to update existing unit", "{}")
case("life", "PUT", UNIT, 409, "must provide DesiredState to update existing unit", "{%s}" % ONE)
case("life", "PUT", UNIT, 204, None, '{"desiredState":"loaded","name":"t.service"}')
case("life", "PUT", UNIT, 204, None, '{"DesiredState":"launched"}')
case("life", "PUT", UNIT, 400, ..., GARBAGE % "")  # ours; fleet stored it, and the unit was gone
answer = case("life", "GET", UNIT, 200, ...)
check("item_has_its_keys_in_order", list(json.loads(answer)) == sorted(json.loads(answer)) and not answer.endswith(b"\n"), answer)
check("item", {k: v for k, v in json.loads(answer).items() if k in ("name", "options", "desiredState", "currentState", "machineID")}
      == {"name": "t.service", "desiredState": "launched", "currentState": "inactive", "options": [json.loads(OPTION % 1)]}, answer)
check("list_has_the_item", case("life", "GET", V1 + "/units", 200, ...) == b'{"units":[%s]}' % answer)
case("life", "PUT", UNIT, 201, None, "{%s}" % TWO)
check("replaced_is_inactive", b'"desiredState":"inactive"' in case("life", "GET", UNIT, 200, ...))
case("life", "PUT", UNIT, 201, None, '{%s,"desiredState":"launched"}' % ONE)
case("life", "GET", V1 + "/state/t.service", 404, "unit state does not exist")  # as in fleet's manual; its daemon closed the connection
case("life", "DELETE", UNIT, 204, None)
case("life", "DELETE", UNIT, 404, "unit does not exist")
TEMPLATE = V1 + "/units/t@.service"
case("template", "PUT", TEMPLATE, 400, 'cannot activate template "t@.service"', '{%s,"desiredState":"launched"}' % ONE)  # ours; fleet did not check
case("template", "PUT", TEMPLATE, 201, None, "{%s}" % ONE)
case("template", "PUT", TEMPLATE, 400, 'cannot activate template "t@.service"', '{"desiredState":"loaded"}')
case("template", "PUT", TEMPLATE, 204, None, '{"desiredState":"inactive"}')
case("template", "DELETE", TEMPLATE, 204, None)
EMPTY = '{"options":[{"section":"Service","name":"ExecStart","value":""},{"section":"Service","name":"ExecStart","value":"a \\\\\\n b"},{"section":"Unit","name":"B"},{"section":"Service","name":"C","value":"d"}]}'
case("options", "PUT", UNIT, 201, None, EMPTY)
check("options_are_grouped_by_section", json.loads(case("options", "GET", UNIT, 200, ...))["options"] == [
    {"section": "Service", "name": "ExecStart"}, {"section": "Service", "name": "ExecStart", "value": "a \\\n b"}, {"section": "Service", "name": "C", "value": "d"}, {"section": "Unit", "name": "B"}])
case("options", "PUT", UNIT, 201, None, x_fleet(("Global", "true")))
check("a_global_unit_has_no_current_state", "currentState" not in json.loads(case("options", "GET", UNIT, 200, ...)))
case("options", "DELETE", UNIT, 204, None)

# -- Machines --

for body, problem in (
        ('[{"op":"test","path":"%s","value":"x"}]' % KEY, "invalid op: expect add, remove, or replace"), ("[{}]", "invalid op: expect add, remove, or replace"),
        ('[{"op":"Add","path":"%s","value":"x"}]' % KEY, "invalid op: expect add, remove, or replace"), ("[null]", "invalid op: expect add, remove, or replace"),
        ('[{"op":"add","path":"/x","value":"x"}]', "machine metadata path invalid"), ('[{"op":"add","path":"%s/b","value":"x"}]' % KEY, "machine metadata path invalid"),
        ('[{"op":"remove","path":"/%s/metadata/"}]' % MACHINE, "machine metadata path invalid"), ('[{"op":"remove","path":"%s"}]' % KEY[1:], "machine metadata path invalid"),
        ('[{"op":"add","path":"%s"}]' % KEY, "invalid value: add and replace require a value"), ('[{"op":"replace","path":"%s","value":""}]' % KEY, "invalid value: add and replace require a value"),
        ('[{"op":"add","path":"%s","value":{}}]' % KEY, "invalid value: add and replace require a value"),
        ('[{"op":"add","path":"%s","value":"x"},{"op":"bad"}]' % KEY, "invalid op: expect add, remove, or replace"),
        ("", ...), ("x", ...), ("{}", ...), ("[", ...)):
    case("bad_patch", "PATCH", V1 + "/machines", 400, problem, body, ())
for body in ("[]", '[{"op":"add","path":"%s","value":"x"}]' % KEY, '[{"op":"replace","path":"%s","value":{"value":"y"}}]' % KEY, '[{"op":"add","path":"%s","value":{"VALUE":"z"}}]' % KEY,
             '[{"Op":"add","PATH":"%s","value":"x"}]' % KEY, '[{"op":"remove","path":"%s"}]' % KEY, '[{"op":"remove","path":"%s","value":"x"}]' % KEY, '[{"op":"add","path":"/none/metadata/a-b_c.d9","value":"x"}]'):
    for types in (), ("text/plain",):
        case("patch", "PATCH", V1 + "/machines?alt=json", 204, None, body, types)
check("patch_has_a_type", ask("PATCH", V1 + "/machines", "[]")[1].get("content-type") == "application/json")

# -- Pages, as a generated client requests them --

batch = json.dumps({"units": [{"name": "p%03d.service" % i, "options": [json.loads(OPTION % i)]} for i in range(250)]})
case("page", "POST", V1 + "/batch", 204, None, batch)
seen, token, sizes = [], None, []
while len(sizes) < 10:
    page = json.loads(case("page", "GET", V1 + "/units?alt=json" + ("&nextPageToken=" + token if token else ""), 200, ...))
    seen += [u["name"] for u in page["units"]]
    sizes.append((len(page["units"]), page.get("nextPageToken")))
    token = page.get("nextPageToken")
    if not token:
        break
check("pages_hold_all_in_order", seen == ["p%03d.service" % i for i in range(250)], seen)
check("pages_have_tokens", sizes == [(100, "ZAACAA=="), (100, "ZAADAA=="), (50, None)], sizes)

# -- Conditions, and removal in a batch: ours --

first = json.loads(case("expected", "GET", V1 + "/units/p200.service", 200, ...))
item = '{"name":"p200.service","desiredState":"%s",%s}'
case("expected", "PUT", V1 + "/units/p200.service", 409, "the unit was changed meanwhile: its hash is %s, not 0000000" % first["hash"][:7],
     item % ("loaded", '"expectedHash":"%s"' % ("0" * 40)))
case("expected", "PUT", V1 + "/units/p200.service", 409, "the unit was changed meanwhile: its target state is inactive, not launched",
     item % ("loaded", '"expectedState":"launched"'))
case("expected", "PUT", V1 + "/units/p200.service", 204, None, item % ("loaded", '"expectedState":"inactive","expectedHash":"%s"' % first["hash"]))
case("expected", "POST", V1 + "/batch", 409, "p200.service: the unit was changed meanwhile: its target state is loaded, not inactive",
     '{"units":[%s]}' % (item % ("launched", '"expectedState":"inactive"')))
case("expected", "PUT", V1 + "/units/q.service", 409, "unit does not exist any longer", '{"desiredState":"inactive","expectedState":"inactive",%s}' % ONE)
case("destroy", "PUT", V1 + "/units/p200.service", 400, "destroy is for a batch: use DELETE", '{"destroy":true}')
case("destroy", "POST", V1 + "/batch", 404, "none.service: unit does not exist", '{"units":[{"name":"p200.service","destroy":true},{"name":"none.service","destroy":true}]}')
case("destroy", "GET", V1 + "/units/p200.service", 200, ...)
case("destroy", "POST", V1 + "/batch", 204, None, json.dumps({"units": [{"name": "p%03d.service" % i, "destroy": True} for i in range(200, 250)]}))
case("destroy", "GET", V1 + "/units/p200.service", 404, "unit does not exist")

# -- The discovery document: all that it names exists, with the types that it gives --

document = json.loads(case("discovery", "GET", V1 + "/discovery?alt=json", 200, ...))
expected = {"kind": "discovery#restDescription", "discoveryVersion": "v1", "id": "fleet:v1", "name": "schema", "version": "v1", "title": "fleet API", "protocol": "rest",
            "basePath": "/fleet/v1/", "servicePath": "fleet/v1/", "batchPath": "batch"}
check("discovery_names_itself", {k: document.get(k) for k in expected} == expected and "$ENDPOINT" in document["baseUrl"] and "$ENDPOINT" in document["rootUrl"], document)
methods = {m["id"]: m for r in document["resources"].values() for m in r["methods"].values()}
check("discovery_has_its_methods", {i: (m["httpMethod"], m["path"]) for i, m in methods.items()} == {
    "fleet.Machine.List": ("GET", "machines"), "fleet.Unit.List": ("GET", "units"), "fleet.Unit.Get": ("GET", "units/{unitName}"), "fleet.Unit.Delete": ("DELETE", "units/{unitName}"),
    "fleet.Unit.Set": ("PUT", "units/{unitName}"), "fleet.UnitState.Get": ("GET", "state/{unitName}"), "fleet.UnitState.List": ("GET", "state")}, methods)


def fits(schema, value):
    """Return whether every named member has its type. Other members are ignored."""
    if "$ref" in schema:
        return fits(document["schemas"][schema["$ref"]], value)
    if schema["type"] == "array":
        return isinstance(value, list) and all(fits(schema["items"], v) for v in value)
    if schema["type"] == "object":
        return isinstance(value, dict) and all(fits(schema["properties"][k], v) for k, v in value.items() if k in schema.get("properties", {}))
    return isinstance(value, str) and value in schema.get("enum", [value])


for method in methods.values():
    if method["httpMethod"] == "GET":
        target = document["basePath"] + method["path"].replace("{unitName}", "p007.service")
        for name in [None] + [n for n, p in method.get("parameters", {}).items() if p["location"] == "query"]:
            status, _, body = ask("GET", target + ("?%s=%s" % (name, "ZAABAA==") if name else ""))
            check("generated_client", status == (404 if method["id"] == "fleet.UnitState.Get" else 200) and (status == 404 or fits(method["response"], json.loads(body))), (method, body[:200]))

# -- The metrics, in the text format of Prometheus: each sample follows the help and the type of its name --

status, fields, body = ask("GET", "/metrics")
check("metrics_are_text", status == 200 and fields.get("content-type", "").startswith("text/plain") and body.endswith(b"\n"), (status, fields))
types, samples, wrong = {}, {}, []
for line in body.decode().splitlines():
    if line.startswith("# TYPE "):
        types.__setitem__(*line.split()[2:4])
    elif not line.startswith("# HELP "):
        sample, value = line.rsplit(" ", 1)
        name = sample.partition("{")[0]
        named = [n for n in types if name == n or types[n] == "histogram" and name in (n + "_bucket", n + "_sum", n + "_count")]
        wrong += [line] if not named or sample in samples or float(value) < 0 else []
        wrong += [line] if types.get(name) == "counter" and not name.endswith("_total") else []
        samples[sample] = float(value)
check("metrics_have_a_type_and_a_value", not wrong and samples, wrong)
for name in (n for n in types if types[n] == "histogram"):
    buckets = [v for s, v in samples.items() if s.startswith(name + "_bucket{")]
    check("a_histogram_counts_up", buckets == sorted(buckets) and buckets[-1] == samples[name + "_count"], (name, buckets))
check("turns_of_the_loop_are_counted", samples["fleet_loop_turn_cpu_seconds_count"] > 0 and samples['fleet_loop_work_total{unit="nodes"}'] > 0, samples)
