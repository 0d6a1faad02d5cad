#!/usr/bin/env python3
"""An upstream server over UDP and TCP: each name has the address 198.51.100.7, or does what its first label says. Each query is a line of LOG.

Usage: upstream.py ADDRESS LOG

silent: no answer; servfail, refused: that; wrong: an answer to another question, then nothing; big: 64 KiB over TCP, and TC over UDP;
back: the query is sent to 169.254.23.79, as a forwarder in a loop does."""
import socket
import struct
import sys
import threading

address, log = sys.argv[1], open(sys.argv[2], "a", buffering=1)


def answer(query, tcp):
    end = query.index(0, 12) + 5
    first = query[13:13 + query[12]].decode("latin-1").lower()
    log.write(f"{first} {'tcp' if tcp else 'udp'} {query.hex()}\n")
    head = lambda rcode, n, tc=0: query[:2] + bytes([0x80 | query[2] & 1 | tc, 0x80 | rcode]) + struct.pack(">4H", 1, n, 0, 0) + query[12:end]
    record = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc6\x33\x64\x07"
    if first == "silent":
        return None
    if first in ("servfail", "refused"):
        return head(2 if first == "servfail" else 5, 0)
    if first == "wrong":
        return head(0, 0).replace(b"wrong", b"right")
    if first == "back":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"\xab\xcd" + query[2:], ("169.254.23.79", 53))
        return None
    if first == "big":
        n = (65535 - end) // 16
        return head(0, n) + record * n if tcp else head(0, 0, 2)
    if query[end - 3:end - 2] == b"\x1c":  # AAAA
        return head(0, 0)
    return head(0, 1) + record


def serve_tcp():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((address, 53))
    s.listen(100)

    def one(c):
        with c:
            size = struct.unpack(">H", c.recv(2, socket.MSG_WAITALL))[0]
            out = answer(c.recv(size, socket.MSG_WAITALL), True)
            if out:
                c.sendall(struct.pack(">H", len(out)) + out)
            c.recv(1)
    while True:
        threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()


threading.Thread(target=serve_tcp, daemon=True).start()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.bind((address, 53))
while True:
    query, peer = u.recvfrom(65535)
    out = answer(query, False)
    if out:
        u.sendto(out, peer)
