"""Input by hand that no well-meaning client sends: bad_http.py ADDR:PORT [BAD-ADDRESS]

Each case is bytes on a connection of their own, the statuses that are allowed, and whether the connection must be closed then. None may
write the key /v2/keys/victim: what is refused is not acted on, and what hides behind it is not either. After each, the daemon answers.
"""

import concurrent.futures
import http.client
import json
import re
import socket
import sys

address = sys.argv[1]
host, port = address.split(":")
HOST = "Host: %s\r\n" % address
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
EVIL = "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Content-Length: 10\r\n\r\nvalue=evil"
cases = []


def case(name, data, statuses, closes=False):
    """closes: the connection must end after the answer; None as a status: it may end without one."""
    cases.append((name, data.encode("latin-1") if isinstance(data, str) else data, statuses if isinstance(statuses, tuple) else (statuses,), closes))


def table(prefix, make, rows):
    for row in rows:
        case("%s %s" % (prefix, " ".join(ascii(part)[:40] for part in row[:-1])), *make(*row))


# -- The request line --

table("line", lambda line, status: (line + HOST + "\r\n" + EVIL, status, True), [
    (line, 400) for line in (
        "\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r\r", "GET\r\n", "GET \r\n", "GET  /v2/keys/a HTTP/1.1\r\n", "GET /v2/keys/a  HTTP/1.1\r\n", "GET /v2/keys/a HTTP/1.1 \r\n", "GET /v2/keys/a\tHTTP/1.1\r\n",
        "GET\t/v2/keys/a HTTP/1.1\r\n", " GET /v2/keys/a HTTP/1.1\r\n", "GET /v2/keys/a b HTTP/1.1\r\n", 
        "GET /v2/keys/a http/1.1\r\n", "GET /v2/keys/a HTP/1.1\r\n", 
        "GET /v2/keys/\x00a HTTP/1.1\r\n", "GET /v2/keys/\x01a HTTP/1.1\r\n",
        "GET /v2/keys/\x7fa HTTP/1.1\r\n", "GET /v2/keys/\x0ba HTTP/1.1\r\n", "G\x00T /v2/keys/a HTTP/1.1\r\n", "G(T /v2/keys/a HTTP/1.1\r\n", "G\"T /v2/keys/a HTTP/1.1\r\n",
        "G\xe9T /v2/keys/a HTTP/1.1\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00\x00\x00\x00", "\xff\xfe\xfd", "{}\r\n", "<xml/>\r\n", "*1\r\n$4\r\nPING\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n", "GET v2/keys/a HTTP/1.1\r\n", "GET ?a HTTP/1.1\r\n", "GET :8080 HTTP/1.1\r\n", "GET http: HTTP/1.1\r\n", "GET http:// HTTP/1.1\r\n",
        "GET http:/v2/keys/a HTTP/1.1\r\n", "GET //\x80 \x80 HTTP/1.1\r\n", "A" * 32 + " / HTTP/1.1\r\n", "A" * 5000)])
table("version", lambda line, status: (line + HOST + "\r\n" + EVIL, status, True), [
    (line, (400, 505)) for line in ("GET /v2/keys/a HTTP/0.9\r\n", "GET /v2/keys/a HTTP/1.2\r\n", "GET /v2/keys/a HTTP/2.0\r\n", "GET /v2/keys/a HTTP/3.0\r\n", "GET /v2/keys/a HTTP/9.9\r\n",
                                    "PRI * HTTP/2.0\r\n", "GET /v2/keys/a\r\n", "GET /v2/keys/a HTTP/1.1 x\r\n", "GET /v2/keys/a HTTP/\r\n", "GET /v2/keys/a HTTP/1\r\n", "GET /v2/keys/a HTTP/a.b\r\n", "GET /v2/keys/a HTTP/11\r\n", "GET /v2/keys/a HTTP/1.10\r\n", "GET /v2/keys/a HTTP/-1.1\r\n")])
table("method", lambda m, status: ("%s /v2/keys/a HTTP/1.1\r\n%s\r\n" % (m, HOST), status), [
    (m, 405) for m in ("BREW", "TRACE", "CONNECT", "PATCH", "LINK", "PROPFIND", "get", "Put", "M-SEARCH", "PURGE", "QUERY", "X", "!", "SUBSCRIBE")])

# -- Fields --

table("field", lambda field, status: ("PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + field + "Content-Length: 10\r\n\r\nvalue=evil", status, True), [
    (field, 400) for field in (
        ": x\r\n", " x: y\r\n", "\tx: y\r\n", "x\r\n", "x y: z\r\n", "x : y\r\n", "x\t: y\r\n", "x\x00y: z\r\n", "x: a\x00b\r\n", "x: a\x01b\r\n", "x: a\x1fb\r\n", "x: a\x7fb\r\n",
        "x: a\r\n b\r\n", "x: a\r\n\tb\r\n", "x:\r\n y\r\n", "x: a\r\n \r\n", "x:\r\n\ty\r\n", "x: \r\n  \ty\r\n", "(x): y\r\n", "x,y: z\r\n", "x;y: z\r\n", "x/y: z\r\n", "x[y]: z\r\n", "x{y}: z\r\n", "x\"y: z\r\n", "x@y: z\r\n",
        "x\xe9: y\r\n", "\x80: y\r\n", "x: a\rb\r\n", "x\r: y\r\n", "Host: %s\r\n" % address, "host: other\r\n", "HOST: %s\r\n" % address)])
table("framing", lambda fields, body, status: ("PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + fields + "\r\n" + body + EVIL, status, True), [
    (fields, body, 400) for fields, body in (
        ("Content-Length: 10\r\nContent-Length: 11\r\n", "value=evil"), ("Content-Length: 10\r\nContent-Length: 10\r\n", "value=evil"), ("Content-Length: 10, 10\r\n", "value=evil"),
        ("Content-Length: -1\r\n", "value=evil"), ("Content-Length: +10\r\n", "value=evil"), ("Content-Length: 0x0a\r\n", "value=evil"), ("Content-Length: 1e1\r\n", "value=evil"),
        ("Content-Length: ten\r\n", "value=evil"), ("Content-Length: 10.0\r\n", "value=evil"), ("Content-Length: 1 0\r\n", "value=evil"), ("Content-Length: \r\n", "value=evil"),
        ("Content-Length: 99999999999999999999\r\n", "value=evil"), ("Content-Length: 18446744073709551616\r\n", "value=evil"), ("Content-Length: 10;\r\n", "value=evil"),
        ("Content-Length: \xb2\r\n", "value=evil"), ("Content-Length : 10\r\n", "value=evil"), ("Content-Length: 10\r\n Content-Length: 0\r\n", "value=evil"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 10\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"), ("Content-Length: 10\r\nTransfer-Encoding: chunked\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"), ("Transfer-Encoding: chunked, chunked\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"),
        ("Transfer-Encoding: gzip\r\n", "value=evil"), ("Transfer-Encoding: gzip, chunked\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"), ("Transfer-Encoding: identity\r\n", "value=evil"),
        ("Transfer-Encoding: chunked, identity\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"), ("Transfer-Encoding: xchunked\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunkedx\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"), ("Transfer-Encoding: \"chunked\"\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"),
        ("Transfer-Encoding:\r\n chunked\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"), ("Transfer-Encoding: \x0bchunked\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\x00\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"), ("Transfer-Encoding : chunked\r\n", "a\r\nvalue=evil\r\n0\r\n\r\n"))])
table("chunk", lambda body, status: ("PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Transfer-Encoding: chunked\r\n\r\n" + body, status, True), [
    (body, 400) for body in (
        "zz\r\nvalue=evil\r\n0\r\n\r\n", "-a\r\nvalue=evil\r\n0\r\n\r\n", "+a\r\nvalue=evil\r\n0\r\n\r\n", "0xa\r\nvalue=evil\r\n0\r\n\r\n", " a\r\nvalue=evil\r\n0\r\n\r\n",
        "\r\nvalue=evil\r\n0\r\n\r\n", "ffffffffffffffffff\r\nvalue=evil\r\n0\r\n\r\n", "10000000000000000\r\nvalue=evil\r\n0\r\n\r\n", "9\r\nvalue=evil\r\n0\r\n\r\n",
        "a\nvalue=evil\n0\n\n", "a\r\nvalue=evil0\r\n\r\n", "a\r\nvalue=evil\r\n0\r\nx y: z\r\n\r\n", "a\r\nvalue=evil\r\n0\r\n: x\r\n\r\n", "a;\x00\r\nvalue=evil\r\n0\r\n\r\n",
        "a\r\nvalue=evil\r\n0\r\nx\x00: y\r\n\r\n", "a\rvalue=evil\r\n0\r\n\r\n")])
case("chunk larger than may be", "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Transfer-Encoding: chunked\r\n\r\nfffffff\r\nvalue=evil", (408, 413), True)
case("length larger than may be", "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Content-Length: 18446744073709551615\r\n\r\nvalue=evil", (400, 413), True)

# -- Wrong lengths: the server waits for more, in vain --

for n in (11, 12, 100, 1000, 65536, 1000000):
    case("a body of %d that has 10" % n, "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Content-Length: %d\r\n\r\nvalue=evil" % n, 408, True)
for n, part in enumerate(("a", "a\r\n", "a\r\nvalue", "a\r\nvalue=evil", "a\r\nvalue=evil\r\n", "a\r\nvalue=evil\r\n0", "a\r\nvalue=evil\r\n0\r\n", "a\r\nvalue=evil\r\n0\r\nX: y\r\n")):
    case("chunks that end early %d" % n, "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Transfer-Encoding: chunked\r\n\r\n" + part, 408, True)
for n, part in enumerate(("P", "PUT", "PUT ", "PUT /v2", "PUT /v2/keys/victim HTTP", "PUT /v2/keys/victim HTTP/1.1\r\n", "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST, "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + "X")):
    case("a head that ends early %d" % n, part, 408, True)
case("a body that is longer than said", "PUT /v2/keys/other HTTP/1.1\r\n" + HOST + FORM + "Content-Length: 7\r\n\r\nvalue=1xxxxxx(", (200, 201))
case("bytes behind an answer", "GET /v2/keys/k HTTP/1.1\r\n" + HOST + "Connection: close\r\n\r\n" + EVIL, 200, True)

# -- Sizes --

case("a header of 1 MB", "GET /v2/keys/k HTTP/1.1\r\n" + HOST + "X: " + "x" * 1000000 + "\r\n\r\n", 431, True)
case("a header's name of 1 MB", "GET /v2/keys/k HTTP/1.1\r\n" + HOST + "x" * 1000000 + ": x\r\n\r\n", 431, True)
case("10,000 headers", "GET /v2/keys/k HTTP/1.1\r\n" + HOST + "".join("X%d: y\r\n" % i for i in range(10000)) + "\r\n", 431, True)
case("10,000 equal headers", "GET /v2/keys/k HTTP/1.1\r\n" + HOST + "X: y\r\n" * 10000 + "\r\n", 431, True)
case("10,000 trailers", "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Transfer-Encoding: chunked\r\n\r\na\r\nvalue=evil\r\n0\r\n" + "X: y\r\n" * 10000 + "\r\n", (400, 431), True)
case("a target of 1 MB", "GET /v2/keys/" + "x" * 1000000 + " HTTP/1.1\r\n" + HOST + "\r\n", 414, True)
case("a query of 1 MB", "GET /v2/keys/k?" + "x=1&" * 250000 + " HTTP/1.1\r\n" + HOST + "\r\n", 414, True)
case("a key of 64 KB", "PUT /v2/keys/" + "x" * 65536 + " HTTP/1.1\r\n" + HOST + FORM + "Content-Length: 7\r\n\r\nvalue=1", 414, True)
case("a method of 1 MB", "G" * 1000000 + " / HTTP/1.1\r\n" + HOST + "\r\n", 400, True)
case("blank lines for ever", "\r\n" * 100000, 400, True)
case("a body of 100 MB", "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Content-Length: 100000000\r\n\r\n", 413, True)
case("a body that is not read", "GET /v2/keys/k HTTP/1.1\r\n" + HOST + "Content-Length: 100000\r\n\r\n", 413, True)
case("2000 parameters", "PUT /v2/keys/victim?" + "a=1&" * 2000 + "value=evil HTTP/1.1\r\n" + HOST + "\r\n", 400)
case("40,000 parameters in a form", "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Content-Length: 160010\r\n\r\n" + "a=1&" * 40000 + "value=evil", 400)
for n in (1, 2, 100):
    case("a value of 240 KiB and %d" % n, "PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Content-Length: %d\r\n\r\nvalue=%s" % (6 + 245760 + n, "v" * (245760 + n)), 400)
for depth, status in ((512, (200, 201)), (513, 400), (1000, 400), (5000, 400)):
    case("depth %d" % depth, "PUT /v2/keys" + "/a" * depth + " HTTP/1.1\r\n" + HOST + FORM + "Content-Length: 7\r\n\r\nvalue=1", status)
for size, status in ((8191, (200, 201)), (8192, 400), (9000, 400), (15000, 400)):
    case("a key of %d" % size, "PUT /v2/keys/" + "x" * size + " HTTP/1.1\r\n" + HOST + FORM + "Content-Length: 7\r\n\r\nvalue=1", status)

# -- Targets --

table("target", lambda target, status: ("PUT %s HTTP/1.1\r\n" % target + HOST + FORM + "Content-Length: 10\r\n\r\nvalue=evil", status), [
    (target, 400) for target in ("/v2/keys/%", "/v2/keys/%2", "/v2/keys/%zz", "/v2/keys/%2g", "/v2/keys/%g2", "/v2/keys/%%41", "/v2/keys/%u0041", "/v2/keys/a%", "/v2/keys/%-1", "/v2/keys/% 1")
] + [
    (target, 401) for target in ("/v2/keys/_fleet", "/v2/keys/_fleet/unit/a.service", "/v2/keys/%5ffleet/x", "/v2/keys/%5Ffleet/x", "/v2/keys/_f%6ceet/x", "/v2/keys/_fleet%2funit%2fa", "/v2/keys/_fleet/")
] + [
    (target, (301, 400, 401, 404)) for target in (
        "/v2/keys/a/../victim", "/v2/keys/./victim", "/v2/keys//victim", "/v2/keys/a/..%2f_fleet/x", "/v2/keys/%2e%2e/_fleet/x", "/v2/keys/..", "/v2/keys/%2e%2e", "/v2/keys/..%2f", "/v2/keys/%2f..",
        "/v2/keys/%2f..%2f..%2fetc%2fpasswd", "/v2/keys/../../etc/passwd", "/v2/keys/a/%2e%2e/%2e%2e/_fleet", "//v2/keys/victim", "/v2//keys/victim", "/v2/./keys/victim", "/v2/keys/../keys/victim",
        "/./v2/keys/victim", "/v2/keysvictim", "/v2/keys../victim", "/v2/KEYS/victim", "/V2/keys/victim", "/v2/keys/a//_fleet", "/v2/keys//_fleet/x", "/v2/keys/%2f_fleet/x", "/v2/keys/_fleet/../victim",
        "/", "/etc/passwd", "/v3/kv/put", "/v2", "/v2/", "/metrics", "/debug/pprof", "/.git/config", "/fleet", "/index.html", "*", "/fleet/v1/units/%00")
] + [
    (target, 403) for target in ("/fleet/v1/units/evil.service", "/v1-alpha/units/evil.service", "/fleet/v1/cluster", "/fleet/v1")
])
table("key that is only odd", lambda key, status: ("PUT /v2/keys/odd/%s HTTP/1.1\r\n" % key + HOST + FORM + "Content-Length: 7\r\n\r\nvalue=1", status), [
    (key, (200, 201)) for key in ("%00", "a%00b", "%01", "%7f", "%ff%fe", "%c3%a9", "%e2%80%ae", "%f0%9f%92%a9", "%0d%0aX-Evil:%201", "%20", "+", "%2b", "%25", "%2500", "a%3fb", "a%23b", "'", "%22", "%5c", "~", "...", "-", "%1b%5b31m",
                                  "_Fleet", "_FLEET", "fleet", "%3cscript%3e")])

# -- Origin and authorization --

table("host", lambda h, status: ("PUT /v2/keys/victim HTTP/1.1\r\nHost: %s\r\n" % h + FORM + "Content-Length: 10\r\n\r\nvalue=evil", status), [
    (h, (400, 403)) for h in ("evil.example", "evil.example:2379", "127.0.0.1.evil.example", "localhost.evil.example", "evil.example#127.0.0.1", "user@127.0.0.1", "127.0.0.1@evil.example", "10.0.0.1", "0.0.0.0", "128.0.0.1",
                              "[::2]", "[::1", "[::1]x", "0177.0.0.1", "2130706433", "0x7f.1", "127.0.0.1,evil.example", "127.0.0.1 evil.example", "localhosts", "xlocalhost", "a" * 5000, "%6cocalhost", "127.0.0.1\x80",
                              "[::ffff:10.0.0.1]", "127.evil.example", "//localhost", "http://localhost", "localhost/evil", "localhost?x", "localhost\\x", "localhost:x", "localhost:2379x", "[]", "[")])
table("host in the target", lambda target, status: ("PUT %s/v2/keys/victim HTTP/1.1\r\n" % target + HOST + FORM + "Content-Length: 10\r\n\r\nvalue=evil", status), [
    (target, (400, 403)) for target in ("http://evil.example", "https://evil.example", "HTTP://evil.example", "ftp://evil.example", "http://evil.example:80", "http://user@127.0.0.1", "http://127.0.0.1.evil.example")])
table("origin", lambda o, status: ("PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + "Origin: %s\r\n" % o + FORM + "Content-Length: 10\r\n\r\nvalue=evil", status), [
    (o, 403) for o in ("http://evil.example", "https://evil.example", "null", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "file://", "http://evil.example/127.0.0.1", "http://user@evil.example", "evil",
                       "chrome-extension://abc", "http://10.0.0.1:2379", "http://localhost@evil.example", "data:", "://", "http://")])
table("form of a page", lambda kind, status: ("POST /v2/keys/victim HTTP/1.1\r\n" + HOST + "Origin: http://evil.example\r\nContent-Type: %s\r\nContent-Length: 10\r\n\r\nvalue=evil" % kind, status), [
    (kind, 403) for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "application/json")])
case("no host", "PUT /v2/keys/victim HTTP/1.1\r\n" + FORM + "Content-Length: 10\r\n\r\nvalue=evil", 400, True)

# -- Parameters --

table("parameter", lambda query, status: ("GET /v2/keys/k?%s HTTP/1.1\r\n" % query + HOST + "\r\n", status), [
    (query, 400) for query in ("recursive=maybe", "recursive=", "recursive=2", "sorted=yes", "quorum=x", "wait=x", "stream=x", "waitIndex=-1", "waitIndex=x", "waitIndex=1.5", "waitIndex=18446744073709551616", "waitIndex=0x10", "ttl=x",
                               "ttl=-1", "ttl=1.5", "ttl=99999999999999999999", "prevIndex=x", "prevIndex=-1", "prevValue=", "prevExist=x", "dir=x", "refresh=x", "refresh=true", "noValueOnSuccess=x", "%zz=1", "a=%", "a;b", "recursive=true;x=1",
                               "value=x&refresh=true", "recursive=%00", "wait=true%00", "waitIndex=1%00", "ttl=1%00", "quorum=true%00true")])
table("form", lambda body, status: ("PUT /v2/keys/victim HTTP/1.1\r\n" + HOST + FORM + "Content-Length: %d\r\n\r\n%s" % (len(body), body), status), [
    (body, 400) for body in ("value=%", "value=%zz", "value=evil;x", "ttl=x&value=evil", "prevExist=perhaps&value=evil", "prevIndex=x&value=evil", "value=evil&dir=x", "wait=true&value=evil", "refresh=true&ttl=5&value=evil",
                             "refresh=true", "prevValue=&value=evil", "value=%f", "%=evil&value=evil")
] + [(body, (404, 412)) for body in ("value=evil&prevIndex=1", "value=evil&prevValue=nothing", "value=evil&prevExist=false")])
table("type", lambda kind, status: ("PUT /v2/keys/typed HTTP/1.1\r\n" + HOST + "Content-Type:%s\r\nContent-Length: 10\r\n\r\nvalue=evil" % kind, status), [
    (kind, (200, 201, 400)) for kind in ("", " ", " ;", " /", " application/json", " APPLICATION/X-WWW-FORM-URLENCODED", " application/x-www-form-urlencoded; charset=utf-8", " multipart/form-data", " text/plain", " \x80")])


def play(data):
    """All bytes until the server closes or is silent for a while, and whether it closed."""
    with socket.create_connection((host, int(port)), timeout=20) as s:
        got = b""
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while True:
                part = s.recv(65536)
                if not part:
                    return got, True
                got += part
                head = re.match(rb"HTTP/1\.1 \d+ [^\r]*\r\n(?:[^\r]+\r\n)*?Content-Length: (\d+)\r\n(?:[^\r]+\r\n)*\r\n", got)
                if head and len(got) >= head.end() + int(head.group(1)) and b"Connection: close" not in head.group(0):
                    s.settimeout(0.05)
        except (ConnectionResetError, BrokenPipeError):
            return got, True
        except socket.timeout:
            return got, False


def judge(one):
    name, data, statuses, closes = one
    got, closed = play(data)
    answers = [int(s) for s in re.findall(rb"HTTP/1\.1 (\d\d\d) ", got)]
    if not answers:
        return name, "no answer", got
    if answers[0] not in statuses:
        return name, "status %d instead of %s" % (answers[0], "/".join(map(str, statuses))), got
    if closes and len(answers) > 1:
        return name, "%d answers to what should have ended the connection" % len(answers), got
    if closes and not closed:
        return name, "left open", got
    if answers[0] in (408, 413, 414, 431) and b"{\"errorCode\":" not in got:
        return name, "no error of the key API", got
    return name, None, got


def value(key):
    c = http.client.HTTPConnection(host, int(port), timeout=20)
    c.request("GET", "/v2/keys/" + key)
    return json.loads(c.getresponse().read()).get("node", {}).get("value")


for key in ("victim", "k"):
    c = http.client.HTTPConnection(host, int(port), timeout=20)
    c.request("PUT", "/v2/keys/" + key, "value=good", {"Content-Type": "application/x-www-form-urlencoded"})
    c.getresponse().read()
bad = 0
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    for name, why, got in pool.map(judge, cases):
        if why:
            bad += 1
            print("not ok %s: %s: %r" % (name.replace(":", ""), why, got[:200]))
print("# %d cases" % len(cases))
print("ok each_of_more_than_300_bad_requests_is_answered_as_it_should_be" if bad == 0 and len(cases) > 300 else "not ok each_of_more_than_300_bad_requests_is_answered_as_it_should_be: %d of %d are not" % (bad, len(cases)))
print("ok none_of_them_is_acted_on" if value("victim") == "good" else "not ok none_of_them_is_acted_on: the key is %s" % value("victim"))
