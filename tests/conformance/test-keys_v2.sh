#!/bin/bash
# The key API against what a real etcd answered: one daemon, every recorded sequence, but for the deviations that are meant.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${CHECK_BUILD:-build}/fleetd/fleetd
. "$here/daemon.sh"

daemon_start "$program" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
player "$address"
daemon_ends alone "$daemon_pid"
