#!/bin/bash
# Hostile and careless clients: ten thousand idle ones, a thousand that send and a thousand that read one byte at a time, half a million
# requests on one connection, short watches. Other clients must hardly be delayed. Memory stays below the formula of fleetd(8), and is returned.
# Latency and processor time of a request are compared within one run: other work on the machine changes only the former.
# Takes 40 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/daemon.sh"
build=${LAB_BUILD:-build}

ulimit -Hn 20000 2>/dev/null # where less is allowed, root may; who may not, has fewer clients
flock "$build/config.status" make -C "$build" tests/bench/crowd >"$scratch/make.log" 2>&1 || { echo "not ok crowd_builds: $(tail -1 "$scratch/make.log")"; exit 1; }
daemon_start "$build/fleetd/fleetd" alone --listen-socket= --limit-connections=13000 || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
python3 "$here/hostile.py" "$build/tests/bench/crowd" "$address" "$daemon_pid"
daemon_ends alone "$daemon_pid"

# A host that allows few descriptors accepts fewer connections, and logs it; a client that takes them all leaves the socket to operators.
printf '#!/bin/bash\nulimit -n 600\nexec "%s" "$@"\n' "$(realpath "$build/fleetd/fleetd")" >"$scratch/few-program"
chmod +x "$scratch/few-program"
daemon_start "$scratch/few-program" few || { echo "not ok daemon_with_few_descriptors_starts: $(daemon_word few)"; exit 1; }
grep -q 'LimitConnections= is 44 instead of 10000: the host allows 600 descriptors' "$scratch/few.log" && echo "ok fewer_descriptors_mean_fewer_connections_with_a_word" ||
        echo "not ok fewer_descriptors_mean_fewer_connections_with_a_word: $(head -1 "$scratch/few.log")"
python3 - "$address" "$scratch/few.sock" <<'END'
import socket
import sys

host, port = sys.argv[1].split(":")


def ask(s):
    s.sendall(b"GET /v2/keys/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return s.recv(4096)


def check(name, holds, why=""):
    print("ok %s" % name if holds else "not ok %s: %s" % (name, why))


crowd = [socket.create_connection((host, int(port)), timeout=20) for _ in range(44)]
answers = [ask(s)[9:12] for s in crowd]
check("connections_up_to_the_limit_are_served", answers == 44 * [b"200"], answers)
one_more = socket.create_connection((host, int(port)), timeout=20)
refused = one_more.recv(4096)
check("one_more_is_rejected_with_the_reason", b" 503 " in refused and b"Retry-After: 1" in refused and b"too many connections" in refused, refused)
operator = socket.socket(socket.AF_UNIX)
operator.settimeout(20)
operator.connect(sys.argv[2])
check("the_socket_stays_free_for_operators", b" 200 " in ask(operator))
END
daemon_ends few "$daemon_pid"
