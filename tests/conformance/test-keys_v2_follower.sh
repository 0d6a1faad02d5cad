#!/bin/bash
# The same of a host that does not lead: it leads each write to the leader, and reads and watches its own copy.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${CHECK_BUILD:-build}/fleetd/fleetd
. "$here/daemon.sh"

(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key"; echo >>"$scratch/key")
first=127.0.0.1:$(free_port)
daemon_start "$program" leader --listen-peer="$first" --peer-key="$scratch/key" || { echo "not ok leader_starts: $(daemon_word leader)"; exit 1; }
leader=$daemon_pid
daemon_start "$program" follower --listen-peer="127.0.0.2:$(free_port)" --peer-key="$scratch/key" --join="$first" ||
        { echo "not ok follower_starts: $(daemon_word follower)"; exit 1; }

# Fleet's own keys change meanwhile, so that indices are compared by their order. A cluster of two is a real one for
# members, too, and whatever is asked of the HTTP side alone is asked of the leader's test.
player "$address" --index order $(printf -- '--only %s ' set get create update cas cad delete inorder watch refresh hidden story value)
daemon_ends follower "$daemon_pid"
daemon_ends leader "$leader"
