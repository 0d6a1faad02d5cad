#!/bin/bash
# fleet's API v1 over the socket, statement by statement: the answers are those of fleet 1.0. Takes 1 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${CHECK_BUILD:-build}/fleetd/fleetd
. "$here/daemon.sh"

daemon_start "$program" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
python3 "$here/fleet_v1.py" "$scratch/alone.sock"
[ $? -eq 0 ] && echo "ok client_ends" || echo "not ok client_ends"
daemon_ends alone "$daemon_pid"
