#!/usr/bin/env python3
# Takes 40 s.
"""A million hostile packets and 200 slow connections of TCP: fleet-dns grows by at most 1 MiB, and others are answered. Needs root.

FLOOD_PACKETS=N for another number."""
import glob
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time

top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
build = os.path.realpath(os.environ.get("LAB_BUILD", os.path.join(top, "build")))
packets = int(os.environ.get("FLOOD_PACKETS", 1000000))
if "FLOOD_INSIDE" not in os.environ:
    sys.exit(subprocess.call(["unshare", "-n", sys.executable, __file__], env=os.environ | {"FLOOD_INSIDE": "yes"}))

# Packets to the upstream servers are lost.
for command in ("link set lo up", "link add d0 type veth peer name d1", "link set d0 up", "link set d1 up", "addr add 192.0.2.1/24 dev d0", "addr add 169.254.23.79/32 dev lo"):
    subprocess.run(["ip"] + command.split(), check=True)
subprocess.run(["ip", "neigh", "add", "192.0.2.2", "lladdr", "02:00:00:00:00:01", "dev", "d0"], check=True)
folder = tempfile.TemporaryDirectory()
services = folder.name + "/services"
os.mkdir(services)
machine = "0123456789abcdef0123456789abcdef"
with open(services + "/.host", "w") as f:
    f.write(f"7 {machine} alpha a complete\n")
with open(services + "/shop", "w") as f:
    f.writelines(f"h{i:03}-00000001 10.0.{i // 250}.{i % 250} 80 tcp http {machine} a shop@{i}.service\n" for i in range(500))
with open(folder.name + "/resolv.conf", "w") as f:
    f.write("nameserver 192.0.2.2\n")
holder = subprocess.Popen([os.path.join(top, "tests/dns/systemd.py"), "169.254.23.79", folder.name + "/pid", build + "/dns/fleet-dns",
                           "--directory=" + services, "--resolv-conf=" + folder.name + "/resolv.conf"])


def query(name, qtype=1, edns=b""):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return b"\x12\x34\1\0\0\1\0\0\0\0\0" + (b"\1" if edns else b"\0") + labels + b"\0" + qtype.to_bytes(2, "big") + b"\0\1" + edns


OPT = b"\0\0\x29\x20\0\0\0\0\0\0\0"


def ask(tries=3, name="shop.service.fleet"):
    """The seconds until the answer; None: there was none."""
    begin = time.monotonic()
    for _ in range(tries):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            s.connect(("169.254.23.79", 53))
            try:
                s.send(query(name))
                if len(s.recv(9000)) > 100:
                    return time.monotonic() - begin
            except OSError:
                time.sleep(0.1)
    return None


def memory():
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("RssAnon:"))


def result(name, good, text):
    print(f"ok {name}: {text}" if good else f"not ok {name}: {text}", flush=True)


ask(20)
pid = int(open(folder.name + "/pid").read())
for _ in range(100):
    ask()
before = memory()
most, unanswered, longest, done = before, 0, 0.0, False


def others():
    """Another client, while the flood lasts."""
    global most, unanswered, longest
    while not done:
        seconds = ask()
        if seconds is None:
            unanswered += 1
        else:
            longest = max(longest, seconds)
        most = max(most, memory())
        time.sleep(0.05)


def slow():
    """Connections that send one byte each second, or ask for much and read nothing."""
    connections = []
    for i in range(200):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("169.254.23.79", 53))
        s.setblocking(False)
        connections.append(s)
    message = query("_http._tcp.shop.service.fleet", 33)
    message = len(message).to_bytes(2, "big") + message
    at = 0
    while not done:
        for i, s in enumerate(connections):
            try:
                s.send(message * 20 if i % 2 else message[at % len(message):at % len(message) + 1])
            except OSError:
                s.close()
                connections[i] = s = socket.socket()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                s.settimeout(1)
                try:
                    s.connect(("169.254.23.79", 53))
                except OSError:
                    pass
                s.setblocking(False)
        at += 1
        time.sleep(1)


threads = [threading.Thread(target=others), threading.Thread(target=slow)]
for t in threads:
    t.start()
r = random.Random(1)
seeds = [open(name, "rb").read() for name in sorted(glob.glob(os.path.join(top, "tests/fuzz/corpus/dns_message/*")))]
seeds += [query("shop.service.fleet", 33, OPT), query("www.example.com", 1, OPT), query("www.example.com", 1) + bytes(3000)]
variants = []
for _ in range(20000):
    b = bytearray(r.choice(seeds))
    for _ in range(r.randint(0, 3)):
        if b:
            b[r.randrange(len(b))] = r.choice([0, 1, 63, 64, 0xC0, 0xFF, r.randrange(256)])
    variants.append(bytes(b[:r.randint(0, len(b))] if r.random() < 0.1 else b))
for _ in range(4000):  # different names, which are forwarded
    variants.append(query(f"n{r.randrange(10 ** 9)}.example.com", 1, OPT))
sockets = []
for _ in range(16):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("169.254.23.79", 53))
    s.setblocking(False)
    sockets.append(s)
for i in range(packets):
    try:
        sockets[i & 15].send(variants[r.randrange(len(variants))])
    except OSError:
        pass
    if i % 200 == 0:
        time.sleep(0.003)
done = True
for t in threads:
    t.join()
time.sleep(6)
after = memory()
same = int(open(folder.name + "/pid").read()) == pid
result("a_flood_does_not_end_the_process", same, f"process {pid}")
result("a_flood_grows_the_process_by_at_most_1_mib", same and most - before <= 1024 and after - before <= 1024, f"{before} KiB, at most {most}, then {after}")
result("others_are_answered_during_a_flood", unanswered == 0, f"{unanswered} without an answer, the longest took {longest:.3f} s")
result("the_next_query_for_a_service_is_answered", ask() is not None, "after the flood")
holder.terminate()
holder.wait()
