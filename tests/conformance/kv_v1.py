"""Test fleet's own key API, /fleet/v1/kv, of a daemon: kv_v1.py HOST:PORT SOCKET. Prints a result for each behaviour.

Each test works below a new directory, so that it can run again, and with each host of a cluster."""
import base64
import http.client
import json
import os
import socket
import sys
import threading

ADDRESS, SOCKET = sys.argv[1], sys.argv[2]
HOST, PORT = ADDRESS.split(":")
BASE = "/fleet/v1/kv"
P = "/kv1-" + os.urandom(6).hex()
JSON = {"Content-Type": "application/json"}


class UnixConnection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def connection(unix=False):
    return UnixConnection("fleet", timeout=30) if unix else http.client.HTTPConnection(HOST, int(PORT), timeout=30)


def ask(method, path, body=None, headers=None, unix=False):
    c = connection(unix)
    c.request(method, BASE + path, body, headers or {})
    a = c.getresponse()
    data = a.read()
    c.close()
    return a.status, a.headers, data


def said(method, path, body=None, headers=None, unix=False):
    status, _, data = ask(method, path, body, headers, unix)
    return status, json.loads(data)


def txn(checks=(), writes=()):
    return said("POST", "/txn", json.dumps({"checks": list(checks), "writes": list(writes)}), JSON)


def quote(key):
    return "".join(chr(b) if (b < 128 and chr(b).isalnum()) or chr(b) in "/-._" else f"%{b:02X}" for b in (key.encode() if isinstance(key, str) else key))


def put(key, value, query=""):
    return said("PUT", "/value" + quote(key) + query, value)


class Stream:
    def __init__(self, query):
        self.c = connection()
        self.c.request("GET", BASE + "/changes?" + query)
        self.a = self.c.getresponse()
        self.status = self.a.status

    def line(self):
        line = self.a.readline()
        return json.loads(line) if line else None

    def change(self):
        while True:
            line = self.line()
            if line is None or "action" in line or "error" in line:
                return line

    def close(self):
        self.a.close()
        self.c.close()


def v2(method, path, body=None):
    c = connection()
    c.request(method, "/v2/keys" + path, body, {"Content-Type": "application/x-www-form-urlencoded"})
    a = c.getresponse()
    data = a.read()
    c.close()
    return a.status, json.loads(data)


# -- Values --

def values_are_any_bytes_and_return_unchanged():
    for value in (b"", b"text", b"\0", b"a\0b\xff\xfe", bytes(range(256)), b"\xff" * (240 * 1024)):
        status, answer = put(P + "/v", value)
        assert status in (200, 201) and answer["node"]["key"] == P + "/v", answer
        status, head, data = ask("GET", "/value" + P + "/v")
        assert status == 200 and data == value and head["Content-Type"] == "application/octet-stream", status
        assert int(head["X-Fleet-Modified-Index"]) == answer["node"]["modifiedIndex"] == answer["index"]
        assert int(head["X-Fleet-Index"]) >= answer["index"] and int(head["X-Fleet-Created-Index"]) == answer["node"]["createdIndex"]
        assert ask("GET", "/value" + P + "/v?quorum=true")[2] == value
        status, head, data = ask("HEAD", "/value" + P + "/v")
        assert status == 200 and int(head["Content-Length"]) == len(value) and data == b""


def keys_are_any_bytes():
    for name in (b"plain", b"with blank", b"per%cent", b"\xff\xfe", b"nul\0nul", b"\1", b"umlaut-\xc3\xa4", b"x" * 600):
        key = (P + "/k/").encode() + name
        assert put(key, name)[0] == 201
        assert ask("GET", "/value" + quote(key))[2] == name
    listed = said("GET", "/list?prefix=" + P + "/k")[1]["nodes"]
    seen = [n["key"].encode() if "key" in n else base64.b64decode(n["key64"]) for n in listed]
    assert seen[0] == (P + "/k").encode() and len(seen) == 9 and seen[1:] == sorted(seen[1:]), seen
    assert [n for n in listed if "key64" in n and "value64" in n], listed
    assert [n for n in listed if n.get("value") == "umlaut-ä"], listed


def a_value_is_set_by_its_conditions():
    key = P + "/c"
    assert put(key, "1", "?prevExist=true")[0] == 404
    status, made = put(key, "1", "?prevExist=false")
    assert status == 201 and made["action"] == "create" and "prevNode" not in made
    assert put(key, "2", "?prevExist=false")[0] == 412
    index = made["index"]
    status, refused = put(key, "2", f"?prevIndex={index + 1}")
    assert status == 412 and f"[{index + 1} != {index}]" in refused["error"]["message"], refused
    status, swapped = put(key, "2", f"?prevIndex={index}&ttl=100")
    assert status == 200 and swapped["action"] == "compareAndSwap" and swapped["node"]["ttl"] == 100, swapped
    assert swapped["prevNode"]["modifiedIndex"] == index
    assert 98 <= int(ask("GET", "/value" + key)[1]["X-Fleet-TTL"]) <= 100
    assert said("DELETE", f"/value{key}?prevIndex={index}")[0] == 412
    assert said("DELETE", "/value" + key)[1]["action"] == "delete"
    assert said("DELETE", "/value" + key)[0] == 404


def directories_are_removed_only_on_request():
    put(P + "/dir/a", "1")
    assert said("GET", f"/value{P}/dir")[0] == 409
    assert said("DELETE", f"/value{P}/dir")[0] == 409
    assert said("DELETE", f"/value{P}/dir?dir=true")[0] == 409
    assert put(P + "/dir", "1")[0] == 409
    assert put(P + "/dir/a/b", "1")[0] == 409
    assert said("DELETE", f"/value{P}/dir?recursive=true")[1]["node"]["dir"] is True


def v2_and_v1_read_the_writes_of_each_other():
    put(P + "/both", b"a\xff")
    assert v2("GET", P + "/both")[1]["node"]["value"] == "a�"
    v2("PUT", P + "/both", "value=%00%FE")
    assert ask("GET", f"/value{P}/both")[2] == b"\0\xfe"


# -- Pages --

def pages_have_every_node_once_and_in_order():
    keys = [f"{P}/p/{a}/{b:02}" for a in ("a", "a-b", "a0") for b in range(10)] + [P + "/p/_hidden/x", P + "/p/" + "l" * 700 + "/z"]
    assert txn(writes=[{"action": "set", "key": k, "value": k} for k in keys])[0] == 200
    whole = said("GET", f"/list?prefix={P}/p")[1]
    assert "nextPageToken" not in whole
    assert {n["key"] for n in whole["nodes"] if "value" in n} == set(keys), whole
    for limit in (1, 2, 3, 7, 35, 36, 37, 1000):
        nodes, token, pages = [], None, 0
        while True:
            page = said("GET", f"/list?prefix={P}/p&limit={limit}" + (f"&nextPageToken={token}" if token else ""))[1]
            assert page["index"] > 0 and len(page["nodes"]) <= limit
            nodes += page["nodes"]
            pages += 1
            token = page.get("nextPageToken")
            if not token:
                break
        assert nodes == whole["nodes"], (limit, len(nodes), len(whole["nodes"]))
        assert pages == max(1, -(-len(nodes) // limit)), (limit, pages)


def pages_of_one_level_skip_what_is_below():
    names, token = [], ""
    while True:
        page = said("GET", f"/list?prefix={P}/p&recursive=false&values=false&limit=1{token}")[1]
        names += [n["key"][len(P) + 1:] for n in page["nodes"]]
        assert not any("value" in n for n in page["nodes"])
        if "nextPageToken" not in page:
            break
        token = "&nextPageToken=" + page["nextPageToken"]
    assert names == ["p", "p/_hidden", "p/a", "p/a-b", "p/a0", "p/" + "l" * 700], names


def a_page_of_large_values_ends_early():
    for i in range(8):
        put(f"{P}/large/{i}", b"v" * 200000)
    page = said("GET", f"/list?prefix={P}/large")[1]
    assert "nextPageToken" in page and 4 <= len(page["nodes"]) < 9, len(page["nodes"])
    assert len(said("GET", f"/list?prefix={P}/large&values=false&quorum=true")[1]["nodes"]) == 9


def an_absent_directory_is_an_empty_page_with_an_index():
    page = said("GET", f"/list?prefix={P}/nothing")[1]
    assert page["nodes"] == [] and page["index"] > 0


# -- Transactions --

def a_transaction_applies_all_writes_and_answers_each():
    put(P + "/t/old", "before")
    status, answer = txn(
        [{"key": P + "/t/old", "exists": True}, {"key": P + "/t/old", "value": "before"}, {"key": P + "/t/new", "exists": False}],
        [{"action": "set", "key": P + "/t/old", "value": "after", "ttl": 50}, {"action": "create", "key": P + "/t/new", "value64": "AP8="},
         {"action": "update", "key": P + "/t/new", "value": "again"}, {"action": "create", "key": P + "/t/dir", "dir": True},
         {"action": "delete", "key": P + "/t/dir", "dir": True}])
    assert status == 200, answer
    writes = answer["writes"]
    assert [w["action"] for w in writes] == ["set", "create", "update", "create", "delete"]
    assert [w["node"]["modifiedIndex"] for w in writes] == list(range(answer["index"] - 4, answer["index"] + 1))
    assert writes[0]["prevNode"]["value"] == "before" and writes[0]["node"]["ttl"] == 50
    assert writes[1]["node"]["value64"] == "AP8=" and "prevNode" not in writes[1]
    assert writes[2]["prevNode"]["value64"] == "AP8=" and "value" not in writes[4]["node"]
    assert ask("GET", f"/value{P}/t/new")[2] == b"again"


def a_refused_transaction_changes_nothing_and_names_the_item():
    put(P + "/r/a", "here")
    index = int(ask("GET", f"/value{P}/r/a")[1]["X-Fleet-Modified-Index"])
    cases = [
        ([{"key": P + "/r/a", "exists": False}], [], 412, "checks[0]"),
        ([{"key": P + "/r/a", "exists": True}, {"key": P + "/r/b", "exists": True}], [], 412, "checks[1]"),
        ([{"key": P + "/r/a", "modifiedIndex": index + 1}], [], 412, "checks[0]"),
        ([{"key": P + "/r/a", "value": "there"}], [], 412, "checks[0]"),
        ([{"key": P + "/r", "value": ""}], [], 412, "checks[0]"),
        ([], [{"action": "create", "key": P + "/r/a"}], 412, "writes[1]"),
        ([{"key": P + "/r/a", "modifiedIndex": index}], [{"action": "update", "key": P + "/r/none"}], 404, "writes[1]"),
        ([], [{"action": "delete", "key": P + "/r"}], 409, "writes[1]"),
        ([], [{"action": "set", "key": P + "/r"}], 409, "writes[1]"),
        ([], [{"action": "set", "key": P + "/r/a/below"}], 409, "writes[1]"),
        ([], [{"action": "delete", "key": "/", "recursive": True}], 403, "writes[1]"),
    ]
    for checks, writes, status, at in cases:
        got, answer = txn(checks, [{"action": "set", "key": P + "/r/side", "value": "effect"}] + writes)
        assert got == status and answer["error"]["at"] == at and answer["error"]["message"].startswith(at + ": "), answer
        assert ("found" in answer) == (at.startswith("checks") and "/r/b" not in str(checks)), answer
    assert ask("GET", f"/value{P}/r/side")[0] == 404


def a_transaction_of_checks_alone_reads():
    put(P + "/only", "x")
    assert txn([{"key": P + "/only", "value": "x"}])[1]["writes"] == []


def each_error_names_its_place():
    def post(body, headers=JSON):
        return said("POST", "/txn", body, headers)

    good = {"action": "set", "key": P + "/m", "value": "x"}
    cases = [
        ("{", 400, ""), ("[]", 400, ""), ("{}", 400, ""), ('{"check":[]}', 400, "check:"),
        (json.dumps({"writes": [good, dict(good, tll=5)]}), 400, "writes[1]: tll"),
        (json.dumps({"writes": [dict(good, key="m")]}), 400, "writes[0]: key"),
        (json.dumps({"writes": [dict(good, key="/_fleet/x")]}), 403, "writes[0]: key"),
        (json.dumps({"writes": [good] * 4097}), 413, "a transaction has at most 4096"),
        (json.dumps({"writes": [dict(good, value="v" * 245761)]}), 413, "writes[0]: value"),
        (json.dumps({"writes": [dict(good, value="v" * 200000)] * 2}), 413, "a transaction is at most 256000 bytes"),
    ]
    for body, status, message in cases:
        got, answer = post(body)
        assert got == status and message in answer["error"]["message"], (body[:80], got, answer)
    assert post("{}", {})[0] == 415
    assert ask("POST", "/txn", b" " * (2 * 1024 * 1024 + 1), JSON)[0] == 413
    assert put(P + "/m", b"v" * 245761)[0] == 413
    assert ask("PUT", f"/value{P}/m", "x", {"Content-Type": "application/x-www-form-urlencoded"})[0] == 415
    for path, message in (("/list?limt=1", "limt: this takes limit"), ("/list?limit=0", "limit: expected a number from 1 to 10000"),
                           ("/list?limit=10001", "limit: "), ("/list?limit=1&limit=1", "limit: given twice"), ("/list?prefix=x", "prefix: a key begins"),
                           ("/list?quorum=maybe", "quorum: expected true or false"), ("/list?nextPageToken=x", "nextPageToken: invalid"),
                           ("/changes?after=x", "after: expected a number"), ("/changes?progress=3601", "progress: expected"),
                           ("/changes?limit=1", "limit: this takes after prefix progress"), (f"/value{P}/m?recursive=true", "recursive: this takes quorum"),
                           (f"/value{P}//m", "no empty part"), ("/value", "a key begins"), (f"/value{P}/../m", "'..'")):
        status, answer = said("GET", path)
        assert status == 400 and message in answer["error"]["message"], (path, status, answer)
    assert put(P + "/m", "x", "?prevIndex=0")[0] == 400 and put(P + "/m", "x", "?prevExist=false&prevIndex=3")[0] == 400
    assert said("GET", "/nothing")[0] == 404
    status, head, _ = ask("PATCH", "/value/x")
    assert status == 405 and head["Allow"] == "GET,HEAD,PUT,DELETE"
    assert ask("GET", "/txn")[1]["Allow"] == "POST"


def foreign_origins_are_rejected_and_fleets_own_keys_are_absent():
    for path in ("/list", f"/value{P}/m", "/changes"):
        assert ask("GET", path, headers={"Host": "evil.example"})[0] == 403
        assert ask("GET", path, headers={"Origin": "http://evil.example"})[0] == 403
    assert said("GET", "/list?prefix=/_fleet")[1]["nodes"] == []
    assert said("GET", "/value/_fleet")[0] == 404
    assert said("PUT", "/value/_fleet/x", "1")[0] == 403 and said("PUT", "/value/_fleet/x", "1", unix=True)[0] == 403
    assert not [n for n in said("GET", "/list?limit=10000&values=false")[1]["nodes"] if n.get("key", "").startswith("/_fleet")]


# -- Changes --

def a_list_and_the_stream_from_its_index_miss_nothing():
    page = said("GET", f"/list?prefix={P}/s")[1]
    s = Stream(f"prefix={P}/s&after={page['index']}")
    assert s.status == 200 and s.line() == {"index": page["index"]}
    wanted = []
    for i in range(20):
        wanted.append((put(f"{P}/s/{i}", str(i))[1]["index"], "set", f"{P}/s/{i}"))
        put(f"{P}/elsewhere", str(i))
    answer = txn(writes=[{"action": "set", "key": P + "/s/bin", "value64": "AP8="}, {"action": "update", "key": P + "/s/1", "refresh": True, "ttl": 99},
                         {"action": "delete", "key": P + "/s", "recursive": True}])[1]
    wanted += [(w["node"]["modifiedIndex"], w["action"], w["node"]["key"]) for w in answer["writes"]]
    seen = [s.change() for _ in wanted]
    assert [(c["index"], c["action"], c["node"]["key"]) for c in seen] == wanted, seen
    assert seen[20]["node"]["value64"] == "AP8=" and seen[21]["refresh"] is True and seen[21]["node"]["ttl"] == 99
    s.close()
    # Wherever the stream broke, the rest arrives once.
    for place in (0, 7, len(wanted) - 1):
        s = Stream(f"prefix={P}/s&after={wanted[place][0]}")
        assert [s.change()["index"] for _ in wanted[place + 1:]] == [w[0] for w in wanted[place + 1:]]
        s.close()


def hidden_and_deleted_parent_directories_are_reported():
    put(P + "/up/down/x", "1")
    s = Stream(f"prefix={P}/up/down")
    put(P + "/up/down/_secret", "1")
    said("DELETE", f"/value{P}/up?recursive=true")
    assert s.change()["node"]["key"] == P + "/up/down/_secret"
    assert s.change()["node"]["key"] == P + "/up"
    s.close()


def a_quiet_stream_reports_its_index():
    s = Stream(f"prefix={P}/quiet&progress=1")
    first = s.line()["index"]
    index = put(P + "/loud", "1")[1]["index"]
    while True:
        line = s.line()
        assert list(line) == ["index"], line
        if line["index"] >= index:
            break
    assert index > first
    s.close()


def a_stream_from_before_the_event_window_names_the_index_to_continue():
    after = put(P + "/w/0", "1")[1]["index"]
    live = Stream(f"prefix={P}/w&after={after}")
    for n in range(2):
        txn(writes=[{"action": "set", "key": P + "/w/1", "value": str(i)} for i in range(700)])
    seen = [live.change()["node"]["value"] for _ in range(1400)]
    assert seen == [str(i) for i in range(700)] * 2
    live.close()
    status, answer = said("GET", f"/changes?prefix={P}/w&after={after}")
    assert status == 410 and answer["oldest"] > after and answer["index"] >= answer["oldest"] and "list again" in answer["error"]["message"], answer
    s = Stream(f"prefix={P}/w&after={answer['oldest'] - 1}")
    assert s.status == 200 and s.change()["index"] >= answer["oldest"]
    s.close()


def slow_stream(prefix):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect((HOST, int(PORT)))
    s.sendall(f"GET {BASE}/changes?prefix={prefix}&progress=0 HTTP/1.0\r\nHost: {ADDRESS}\r\n\r\n".encode())
    s.settimeout(30)
    head = b""
    while b"}\n" not in head:
        head += s.recv(4096)
    return s


def rest_of(s):
    data = b""
    while True:
        part = s.recv(1 << 20)
        data += part
        if not part or (b'"last"' in data and data.endswith(b"\n")):
            return [json.loads(line) for line in data.splitlines() if line]


def a_paused_reader_receives_everything_later():
    s = slow_stream(P + "/slow")
    indexes = [put(P + "/slow/x", b"y" * 50000 + str(i).encode())[1]["index"] for i in range(60)]
    indexes.append(put(P + "/slow/x", b"last")[1]["index"])
    lines = rest_of(s)
    assert [c["index"] for c in lines if "action" in c] == indexes, len(lines)
    s.close()


def a_reader_outside_the_event_window_gets_an_error_at_the_end():
    s = slow_stream(P + "/behind")
    for n in range(40):
        put(P + "/behind/x", b"y" * 50000)
    for n in range(3):
        txn(writes=[{"action": "set", "key": P + "/other", "value": str(i)} for i in range(700)])
    last = rest_of(s)[-1]
    assert last["error"]["code"] == 410 and last["index"] >= last["oldest"] > 0, last
    s.close()


def many_readers_see_the_same():
    streams = [Stream(f"prefix={P}/many") for _ in range(50)]
    seen = [[] for _ in streams]

    def read(i):
        for _ in range(20):
            c = streams[i].change()
            seen[i].append((c["index"], c["node"]["value64"]))

    threads = [threading.Thread(target=read, args=(i,)) for i in range(len(streams))]
    for t in threads:
        t.start()
    for i in range(20):
        put(P + "/many/x", b"\xff" + str(i).encode())
    for t in threads:
        t.join(30)
    assert all(s == seen[0] and len(s) == 20 for s in seen)
    for s in streams:
        s.close()


for check in [f for n, f in list(globals().items()) if "_" in n and callable(f) and f.__module__ == __name__ and f.__code__.co_argcount == 0]:
    try:
        check()
        print("ok " + check.__name__, flush=True)
    except Exception as e:
        print(f"not ok {check.__name__}: {type(e).__name__}: {e!a}"[:400], flush=True)
said("DELETE", f"/value{P}?recursive=true")
