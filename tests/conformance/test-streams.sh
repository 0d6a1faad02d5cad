#!/bin/bash
# Streams: every change after waitIndex arrives once, and the stream of a slow reader ends with an error. Takes 1 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/daemon.sh"

daemon_start "${CHECK_BUILD:-build}/fleetd/fleetd" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
python3 - "$address" <<'END'
import http.client
import json
import socket
import sys

host, port = sys.argv[1].split(":")


def ask(method, path, body=None):
    c = http.client.HTTPConnection(host, int(port), timeout=30)
    c.request(method, path, body, {"Content-Type": "application/x-www-form-urlencoded"})
    answer = c.getresponse()
    return int(answer.getheader("X-Etcd-Index") or 0), answer.read()


def watchers():
    return json.loads(ask("GET", "/v2/stats/store")[1])["watchers"]


def check(name, holds, why=""):
    print(f"ok {name}" if holds else f"not ok {name}: {why}")


first = ask("PUT", "/v2/keys/s/1", "value=1")[0]
ask("PUT", "/v2/keys/s/2", "value=2")
c = http.client.HTTPConnection(host, int(port), timeout=30)
c.request("GET", f"/v2/keys/s?wait=true&stream=true&recursive=true&waitIndex={first}")
stream = c.getresponse()
ask("PUT", "/v2/keys/s/3", "value=3")
ask("DELETE", "/v2/keys/s?recursive=true")
ask("PUT", "/v2/keys/s/4", "value=4")
seen = [json.loads(stream.readline()) for _ in range(5)]
check("a_stream_sends_each_change_after_its_index_once", [e["node"]["modifiedIndex"] for e in seen] == list(range(first, first + 5)), seen)
c.sock.close() if c.sock else stream.close()
stream.close()

slow = socket.socket()
slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
slow.connect((host, int(port)))
slow.sendall(f"GET /v2/keys/slow?wait=true&stream=true HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
slow.settimeout(30)
head = slow.recv(256)
before = watchers()
for n in range(200):
    ask("PUT", "/v2/keys/slow", "value=" + "x" * 100000)
    if watchers() < before:
        break
check("the_stream_of_a_slow_reader_is_ended", watchers() < before, f"{n} writes")
rest = head
try:
    while part := slow.recv(65536):
        rest += part
    ended = True
except ConnectionError:
    ended = True
except TimeoutError:
    ended = False
check("and_the_reader_sees_its_end_out_of_order", ended and not rest.endswith(b"0\r\n\r\n"), rest[-20:])
END
daemon_ends alone "$daemon_pid"
