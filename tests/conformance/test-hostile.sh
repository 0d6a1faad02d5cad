#!/bin/bash
# Clients that mean no good, or do not care: ten thousand that rest, a thousand that send and a thousand that read a byte at a time,
# half a million requests on one connection, watches that come and go. Others must hardly notice, memory stays below the formula of
# fleetd(8), and comes back. Speed is compared within one run, on whatever else the machine does at the time.
# Takes 40 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/daemon.sh"
build=${LAB_BUILD:-build}

make -C "$build" tests/bench/crowd >"$scratch/make.log" 2>&1 || { echo "not ok crowd_builds: $(tail -1 "$scratch/make.log")"; exit 1; }
daemon_start "$build/fleetd/fleetd" alone --listen-socket= --limit-connections=13000 || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
python3 "$here/hostile.py" "$build/tests/bench/crowd" "$address" "$daemon_pid"
daemon_ends alone "$daemon_pid"
