#!/usr/bin/env python3
"""Options of fleet-dns: each message names the option, the reason and the next step. FLEET_DNS is the program."""
import os
import re
import socket
import subprocess
import sys

program = os.environ.get("FLEET_DNS", "dns/fleet-dns")
taken = socket.socket()
taken.bind(("127.0.0.1", 0))
taken.listen(1)
port = taken.getsockname()[1]
ROWS = [
    # options, exit status, standard output or error as a whole
    ("--version", 0, r"fleet-dns [0-9.]+"),
    ("--help", 0, r"Usage: fleet-dns .*--allow=NETWORK.*--listen=ADDR:PORT.*"),
    ("", 2, "no sockets from systemd; to start it: systemctl start fleet-dns.socket; for a trial: fleet-dns --listen=127.0.0.1:5300"),
    ("--allow=0.0.0.0/0", 2, "--allow=0.0.0.0/0: that is an open resolver; name your networks"),
    ("--allow=10.0.0.0/8 --allow=::/0", 2, "--allow=::/0: that is an open resolver; name your networks"),
    ("--allow=lan", 2, "--allow=lan: expected a network of IPv4, for example 192.168.1.0/24"),
    ("--allow=10.0.0.0/40", 2, "--allow=10.0.0.0/40: expected a prefix of 1 to 32"),
    ("--forward=maybe", 2, "--forward=maybe: expected yes or no"),
    ("--listen=5300", 2, "--listen=5300: expected ADDR:PORT, for example 127.0.0.1:5300"),
    ("--listen=localhost:53", 2, "--listen=localhost:53: expected ADDR:PORT, for example 127.0.0.1:5300"),
    ("--listen=127.0.0.1:0", 2, "--listen=127.0.0.1:0: expected ADDR:PORT, for example 127.0.0.1:5300"),
    (f"--listen=127.0.0.1:{port}", 1, f"Failed to listen at 127.0.0.1:{port}: Address already in use"),
    ("more", 2, "more: no such option; fleet-dns --help lists them"),
    ("--allow", 2, '--allow: expected a value after "="'),
    ("--al", 2, "--al: no such option; fleet-dns --help lists them"),
    ("--wrong=1", 2, "--wrong=1: no such option; fleet-dns --help lists them"),
]
for options, status, text in ROWS:
    done = subprocess.run([program] + options.split(), capture_output=True, text=True, timeout=10, env={"LC_ALL": "C"})
    said = (done.stdout if status == 0 else done.stderr).rstrip("\n")
    pattern = text if status == 0 else re.escape(text)
    if done.returncode != status or not re.fullmatch(pattern, said, re.S):
        print(f"not ok options_are_checked: {options}: {done.returncode}: {said}")
        sys.exit(1)
other = socket.socket(socket.AF_UNIX)
os.dup2(other.fileno(), 3)
done = subprocess.run(["sh", "-c", 'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0"', program], capture_output=True, text=True, timeout=10, pass_fds=[3])
if "a socket of fleet-dns.socket is not of IPv4: remove its ListenStream=" not in done.stderr:
    print(f"not ok options_are_checked: a socket of another family: {done.returncode}: {done.stderr}")
    sys.exit(1)
print(f"ok options_are_checked: {len(ROWS)} command lines")
