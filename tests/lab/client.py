"""Sends one HTTP request each 20 ms to the instances of a set in turn, until the file STOP exists, as a client with a list of instances does:

    client.py STOP ADDRESS[,ADDRESS...] PORT[,PORT...]

Each instance has a port of its own, on any of the addresses. When none accepts the connection, or ends it before it has answered, as the kernel does for
connections that a process at its end has not accepted, the request goes to the next instance. It has failed if no instance answers, or
one not in time or with another status than 200. A round is one request to each instance. Prints failures as they occur and, at the end:

    requests=N failed=N ended=N gap_ms=N least=N late_ms=N

ended: connections that ended without an answer; gap_ms: the longest time between two answers; least: the least number of instances that answered in a
round (rounds in which this program had no processor, of more than twice their time, do not count); late_ms: the longest delay of a request by this
program itself."""
import os
import socket
import sys
import time

PERIOD = 0.02
stop, addresses, ports = sys.argv[1], sys.argv[2].split(","), [int(p) for p in sys.argv[3].split(",")]
known = {port: addresses[0] for port in ports}
counts = {"requests": 0, "failed": 0, "ended": 0}


def fail(port, why):
    print("%d failed %d %s" % (time.time() * 1000, port, why), flush=True)
    return False


def ask_address(port, address):
    """True: answered; False: failed; None: not accepted."""
    text = b""
    try:
        with socket.create_connection((address, port), timeout=5) as s:
            s.sendall(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n")
            while True:
                part = s.recv(4096)
                if not part:
                    break
                text += part
    except ConnectionRefusedError:
        return None
    except OSError as e:
        if not (isinstance(e, (ConnectionResetError, BrokenPipeError)) and not text):
            return fail(port, "%s: %s" % (address, e))
    if not text:
        counts["ended"] += 1
        return None
    return True if text.startswith(b"HTTP/1.1 200 ") else fail(port, "%s: %r" % (address, text))


def ask_instance(port):
    for address in sorted(addresses, key=lambda a: a != known[port]):
        answer = ask_address(port, address)
        if answer is not None:
            known[port] = address
            return answer
    return None


least, late, gap = len(ports), 0, 0
answered = next_at = time.monotonic()
while not os.path.exists(stop):
    began, n = time.monotonic(), 0
    for i in range(len(ports)):
        time.sleep(max(0, next_at - time.monotonic()))
        late = max(late, time.monotonic() - next_at)
        next_at = max(next_at + PERIOD, time.monotonic())
        counts["requests"] += 1
        answer, others = ask_instance(ports[i]), ports[i + 1:] + ports[:i]
        n += answer is True
        while answer is None and others:
            answer = ask_instance(others.pop(0))
        if answer is None:
            fail(ports[i], "no instance accepts a connection")
        if answer is True:
            gap, answered = max(gap, time.monotonic() - answered), time.monotonic()
        counts["failed"] += answer is not True
    if time.monotonic() - began <= 2 * PERIOD * len(ports):
        if n < least:
            print("%d least %d" % (time.time() * 1000, n), flush=True)
        least = min(least, n)
print(*["%s=%d" % c for c in counts.items()], "gap_ms=%d least=%d late_ms=%d" % (gap * 1000, least, late * 1000))
