#!/bin/bash
# More than 300 invalid requests to a daemon built with sanitizers. Each is answered with its status; where the rest of the stream cannot be
# trusted, the connection is closed. None takes effect, and none crashes the daemon. Time-outs are short. Takes 5 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/daemon.sh"

daemon_start "${CHECK_BUILD:-build}/fleetd/fleetd" alone --limit-head-sec=2s --limit-body-sec=2s ||
        { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
python3 "$here/bad_http.py" "$address"
! grep -E 'ERROR: AddressSanitizer|runtime error:' "$scratch/alone.log" && echo "ok no_sanitizer_says_a_word" || echo "not ok no_sanitizer_says_a_word: $(grep -m1 -E 'ERROR: AddressSanitizer|runtime error:' "$scratch/alone.log")"
daemon_ends alone "$daemon_pid"
