#!/bin/bash
# /metrics in both forms under load, against the parsers of Prometheus and against the manual; alert rules and dashboard. Takes 10 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${CHECK_BUILD:-build}/fleetd/fleetd
. "$here/daemon.sh"

daemon_start "$program" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
# The modules of Debian's python3, whichever python3 is first in the path.
/usr/bin/python3 "$here/metrics.py" "$scratch/alone.sock" "$address" "$here/../../man/fleetd.8.scd" "$here/../../dist/dashboards"
[ $? -eq 0 ] && echo "ok client_ends" || echo "not ok client_ends"
daemon_ends alone "$daemon_pid"
