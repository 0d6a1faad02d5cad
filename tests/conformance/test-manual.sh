#!/bin/bash
# The examples of fleet-api(7) and fleet-discovery(7): each line that sends a request to fleetd is run, and must succeed.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "${CHECK_BUILD:-build}")
. "$here/daemon.sh"

daemon_start "$build/fleetd/fleetd" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
PATH=$build/client:$PATH
export FLEETCTL_ENDPOINT=http://$address
cd "$scratch" || exit 1

# Examples stand between lines of three backquotes; \\ in them is one backslash.
for page in fleet-api.7 fleet-discovery.7; do
        index=
        while IFS= read -r line; do
                ran=${line//127.0.0.1:2379/$address}
                ran=${ran//\/run\/fleet.sock/$scratch/alone.sock}
                if eval "$ran" >said 2>&1 </dev/null && { [[ $line != index=* ]] || [ -n "$index" ]; }; then
                        echo "ok $page: $line"
                else
                        echo "not ok $page: $line: $(tr '\n' '|' <said)"
                fi
        done < <(awk '/^```$/ { inside = !inside; next } inside' "$here/../../man/$page.scd" | sed 's/\\\\/\\/g')
done
daemon_ends alone "$daemon_pid"
