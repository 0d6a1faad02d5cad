#!/usr/bin/env python3
"""What systemd does for fleet-dns: hold its sockets, start it with them, and start it again 100 ms after its end.

Usage: systemd.py ADDRESS PID-FILE PROGRAM [OPTION...]; PID-FILE has the process that runs. SIGTERM ends both."""
import os
import signal
import socket
import sys
import time

address, pid_file, *command = sys.argv[1:]
sockets = []
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET, kind)
    s.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND
    s.bind((address, 53))
    if kind == socket.SOCK_DGRAM:
        s.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
        s.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    else:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.listen(4096)
    sockets.append(s)
child = 0


def stop(*_):
    if child:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
while True:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        copies = [os.dup2(s.fileno(), 10 + i) for i, s in enumerate(sockets)]
        for i, fd in enumerate(copies):
            os.dup2(fd, 3 + i)
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(sockets)))
        os.execv(command[0], command)
    with open(pid_file + ".new", "w") as f:
        f.write(f"{child}\n")
    os.rename(pid_file + ".new", pid_file)
    os.waitpid(child, 0)
    child = 0
    time.sleep(0.1)
