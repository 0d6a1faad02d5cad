"""Resolves a service for each connection, as a client without a cache does, each 20 ms until the file STOP exists:

    finds.py STOP NAME MODE

It asks 169.254.23.79 for the SRV records of NAME, once. MODE "connect": it sends an HTTP request to one of them, by chance. MODE "same": it compares
the records with the first answer. MODE "any": neither. Prints what goes wrong as it occurs and, at the end:

    rounds=N unanswered=N absent=N changed=N refused=N failed=N endpoints=N slowest_ms=N

unanswered: queries without an answer within 4.5 s; absent: answers without records; changed: answers with others than the first one; refused:
connections that were refused; failed: connections with another error, or without the status 200; endpoints: all that were used; slowest_ms: the longest time
until an answer."""
import os
import random
import socket
import sys
import time

import dns.exception
import dns.message
import dns.query
import dns.rdatatype

stop, name, mode = sys.argv[1:]
counts = dict.fromkeys(("rounds", "unanswered", "absent", "changed", "refused", "failed"), 0)
first, used, slowest = None, set(), 0


def count(what, why=""):
    counts[what] += 1
    print("%d %s %s" % (time.time() * 1000, what, why), flush=True)


def resolve():
    """The endpoints (address, port) of the answer, or None without an answer."""
    try:
        answer = dns.query.udp(dns.message.make_query(name, "SRV", use_edns=0), "169.254.23.79", timeout=4.5)
    except (dns.exception.Timeout, OSError) as e:
        return count("unanswered", e)
    addresses = {s.name: s[0].address for s in answer.additional if s.rdtype == dns.rdatatype.A}
    found = [(addresses[r.target], r.port) for s in answer.answer for r in s]
    return found or count("absent", dns.rcode.to_text(answer.rcode()))


def connect(endpoint):
    try:
        with socket.create_connection(endpoint, timeout=5) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
            status = s.recv(4096)
        if not status.startswith(b"HTTP/1.1 200 "):
            count("failed", "%s: %r" % (endpoint, status))
    except ConnectionRefusedError:
        count("refused", endpoint)
    except OSError as e:
        count("failed", "%s: %s" % (endpoint, e))


while not os.path.exists(stop):
    time.sleep(0.02)
    counts["rounds"] += 1
    began = time.monotonic()
    found = resolve()
    slowest = max(slowest, time.monotonic() - began)
    if not found:
        continue
    used.update(found)
    first = first or sorted(found)
    if mode == "connect":
        connect(random.choice(found))
    elif mode == "same" and sorted(found) != first:
        count("changed", sorted(found))
print(*["%s=%d" % c for c in counts.items()], "endpoints=%d slowest_ms=%d" % (len(used), slowest * 1000))
