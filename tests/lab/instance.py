#!/usr/bin/python3
"""An instance that client.py asks: instance.py PORT REVISION [KIND].

It reports to systemd when it accepts connections, and answers each GET with its revision. It appends a line to /run/instances for each
event: MILLISECONDS EVENT PORT REVISION, with the events start, stop, reload, and 503 for a check (/ready) that failed. KIND: "exits",
it exits at once with status 1; "unready", its checks always
fail; "sick", they fail from the fifth second on. They also fail while /run/unready exists. At its end it first answers what the kernel has accepted for it."""
import os
import select
import signal
import socket
import sys
import time

port, revision, kind = int(sys.argv[1]), sys.argv[2], (sys.argv[3:] or ["good"])[0]
began = time.monotonic()


def record(event):
    with open("/run/instances", "a") as f:
        f.write("%d %s %d %s\n" % (time.time() * 1000, event, port, revision))


def is_ready():
    return not os.path.exists("/run/unready") and (kind == "good" or (kind == "sick" and time.monotonic() - began < 5))


def answer(connection):
    connection.settimeout(1)
    try:
        request = connection.recv(4096)
        status = "200 OK"
        if b" /ready " in request and not is_ready():
            status = "503 Not ready"
            record("503")
        if request:
            connection.sendall(("HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (status, len(revision), revision)).encode())
    except OSError:
        pass
    connection.close()


record("start")
if kind == "exits":
    sys.exit(1)
listener = socket.create_server(("", port), backlog=64)
listener.setblocking(False)
woken, wake = os.pipe2(os.O_NONBLOCK)
signal.set_wakeup_fd(wake)
ends = []
signal.signal(signal.SIGTERM, lambda *_: ends.append(True))
signal.signal(signal.SIGHUP, lambda *_: record("reload"))
if os.environ.get("NOTIFY_SOCKET"):
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
while True:
    if not ends:
        select.select([listener, woken], [], [])
    try:
        answer(listener.accept()[0])
    except BlockingIOError:
        if ends:
            break
        try:
            os.read(woken, 4096)
        except BlockingIOError:
            pass
listener.close()
record("stop")
