#!/bin/bash
# fleet's own key API, /fleet/v1/kv: every behaviour and every error, against one daemon; test-cluster_v2.sh plays it on each of three.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/daemon.sh"

daemon_start "${CHECK_BUILD:-build}/fleetd/fleetd" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
python3 "$here/kv_v1.py" "$address" "$scratch/alone.sock" 2>&1
daemon_ends alone "$daemon_pid"
