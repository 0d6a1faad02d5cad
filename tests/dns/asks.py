#!/usr/bin/python3
"""Ask 169.254.23.79 for the address of a name again and again, until a file exists. Print "all of them" if each query had its answer within 4.5 s.

Usage: asks.py NAME FILE [TRIES]"""
import os
import sys
import dns.message
import dns.query

name, done, tries = sys.argv[1], sys.argv[2], int((sys.argv + ["1"])[3])
n = 0
while not os.path.exists(done):
    q = dns.message.make_query(name, "A")
    for left in reversed(range(tries)):
        try:
            a = dns.query.udp(q, "169.254.23.79", timeout=4.5)
            break
        except dns.exception.Timeout:
            if left == 0:
                sys.exit(f"{name}: no answer after {n}")
    if a.rcode() != 0 or not a.answer:
        sys.exit(f"{name}: {a.rcode()} after {n}")
    n += 1
print("all of them" if n > 100 else n)
