#!/bin/bash
# Strangers at the peer port of a leader of three daemons: thousands that send a byte a second or nothing, and a thousand handshakes a second,
# each from an address of its own. Raft's heartbeats are not late, writes are hardly slower, and a host that restarts finds its leader.
# Takes 15 s; with CHECK_ALL=yes, 10,000 slow strangers, and 40 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${LAB_BUILD:-build}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

ulimit -Hn 40000 2>/dev/null
flock "$build/config.status" make -C "$build" tests/bench/crowd >"$log" 2>&1 || { echo "not ok crowd_builds: $(tail -1 "$log")"; exit 1; }
python3 "$here/strangers.py" "$build/tests/bench/crowd" "$build/fleetd/fleetd" "$build/client/fleetctl"
