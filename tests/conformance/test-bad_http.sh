#!/bin/bash
# More than 300 requests by hand that nobody should send, to a daemon built with sanitizers: each gets its status and, where what
# follows cannot be trusted, its end; none is acted on, and none crashes. The times are short, so that who is waited for in vain is
# told soon.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/daemon.sh"

daemon_start "${CHECK_BUILD:-build}/fleetd/fleetd" alone --limit-head-sec=2s --limit-body-sec=2s ||
        { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
python3 "$here/bad_http.py" "$address"
! grep -E 'ERROR: AddressSanitizer|runtime error:' "$scratch/alone.log" && echo "ok no_sanitizer_says_a_word" || echo "not ok no_sanitizer_says_a_word: $(grep -m1 -E 'ERROR: AddressSanitizer|runtime error:' "$scratch/alone.log")"
daemon_ends alone "$daemon_pid"
