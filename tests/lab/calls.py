"""Begin and cancel calls in one session between hosts: calls.py ADDRESS KEY UNIT PAIRS

In one burst, as a host that has the key of the cluster. Meanwhile a write on this host must be answered; then the session must still answer a call."""
import os
import struct
import subprocess
import sys
import threading
import urllib.request

HANDSHAKE, PING, PONG, CALL, END, CANCEL = 1, 3, 4, 17, 19, 20
MAGIC, PROTOCOL, CALL_VERSION, CALL_STATUS = 0x64746C66, 1, 2, 1
PATIENCE_S = 30

address, key, unit, pairs = sys.argv[1:]
pairs = int(pairs)
tls = subprocess.Popen(["openssl", "s_client", "-quiet", "-connect", address, "-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", "-groups", "X25519",
                        "-psk_identity", "fleet", "-psk", open(key).read().strip()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def end(why=""):
    print(why, flush=True)
    tls.kill()
    os._exit(1 if why else 0)


threading.Timer(PATIENCE_S, end, ["no answer within %d s" % PATIENCE_S]).start()


def string(s):
    return bytes([len(s)]) + s.encode()


def frame(kind, payload=b""):
    return struct.pack("<IB", len(payload), kind) + payload


def call(number):
    spec = bytes([CALL_VERSION, CALL_STATUS]) + string(unit) + string("short") + 3 * string("") + string("SIGTERM") + string("all")
    return frame(CALL, struct.pack("<Q", number) + spec + struct.pack("<IB", 10, 0))


def send(data):
    tls.stdin.write(data)
    tls.stdin.flush()


def next_frame():
    head = tls.stdout.read(5)
    if len(head) < 5:
        end("the session has ended")
    size, kind = struct.unpack("<IB", head)
    return kind, tls.stdout.read(size)


def wait_for(wanted, number=None):
    """The payload of such a frame; of calls, the one about that number."""
    while True:
        kind, payload = next_frame()
        if kind == PING:
            send(frame(PONG))
        elif kind == wanted and (number is None or payload[:8] == struct.pack("<Q", number)):
            return payload


def executed(number):
    status = struct.unpack("<QI", wait_for(END, number))[1]
    if status != 0:
        end("the call has status %d" % status)


send(frame(HANDSHAKE, struct.pack("<IHHQQ", MAGIC, PROTOCOL, PROTOCOL, 0, 0) + 2 * string(os.urandom(16).hex()) +
           struct.pack("<QQQ", 1, int.from_bytes(os.urandom(8), "little"), 0) + string("") + string("caller")))
wait_for(HANDSHAKE)
send(call(0))
executed(0)
burst = b"".join(call(n) + frame(CANCEL, struct.pack("<Q", n)) for n in range(1, pairs + 1)) + call(pairs + 1)
threading.Thread(target=send, args=(burst,)).start()
urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:2379/v2/keys/meanwhile", b"value=1", method="PUT"), timeout=PATIENCE_S).read()
executed(pairs + 1)
end()
