#!/bin/bash
# The key API against the recorded answers of etcd: one daemon, every recorded sequence, except for the intended deviations.
# Takes 75 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${CHECK_BUILD:-build}/fleetd/fleetd
. "$here/daemon.sh"

(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key")
daemon_start "$program" alone --listen-peer="127.0.0.1:$(free_port)" --peer-key="$scratch/key" || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
player "$address"
daemon_ends alone "$daemon_pid"
