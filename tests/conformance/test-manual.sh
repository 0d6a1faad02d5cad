#!/bin/bash
# The examples of README, HACKING and the manual that need one daemon, and the list of all examples; tests/lab/test-manual.sh runs the others.
# Takes 30 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "${CHECK_BUILD:-build}")
. "$here/daemon.sh"

flock "$build/config.status" make -C "$build" tests/unit/test-name tests/unit/test-fault_points tests/fuzz/fuzz-http >"$scratch/make" 2>&1 ||
        { echo "not ok programs_of_examples_build: $(tail -1 "$scratch/make")"; exit 1; }
"$here/examples.py" check
daemon_start "$build/fleetd/fleetd" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
EXAMPLES_ADDRESS=$address "$here/examples.py" local "$build" "$scratch"
daemon_ends alone "$daemon_pid"
