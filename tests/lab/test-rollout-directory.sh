#!/bin/bash
# Rollouts of texts from the unit directory: a text that fails is reverted and reported, the next good one is rolled out, and so are twenty at once.
# A corrected file is not reported as paused. Takes 40 s.
. "$(dirname "$0")/scenario.sh"

FOLDER=/etc/fleet/units

# file NAME COMMAND [LINES]: write a unit to the directory of beta as editors do.
file() {
        printf '[Service]\nExecStart=%s\n[X-Fleet]\nUpdateWatchSec=2s\n%b' "$2" "${3:-}" |
                host_exec beta sh -c 'cat >"$1/.new" && chmod 644 "$1/.new" && mv "$1/.new" "$1/$2"' - $FOLDER "$1"
}
rollout() { fleetctl alpha rollout "$1" 2>&1; }
runs() { local h; for h in $LAB_HOSTS; do host_exec "$h" sh -c 'cat /proc/[0-9]*/cmdline 2>/dev/null' | tr '\0' ' ' | grep -o "sleep $1 " || true; done | wc -l; }
runs_times() { [ "$(runs "$1")" = "$2" ]; }
available() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,available 2>/dev/null | grep -c "^$1.*true")" = "$2" ]; }
says() { local part=$1; shift; "$@" 2>&1 | grep -qF -- "$part"; }

a_text_that_fails_is_reverted_and_reported() {
        cluster_up
        file everywhere.service '/bin/sleep 1001' 'Global=yes\n'
        wait_for 20 available everywhere.service 3 || fail "not available: $(fleetctl alpha list-units)"
        file everywhere.service /bin/false 'Global=yes\nUpdateOnFailure=revert\n'
        wait_for 20 host_exec beta test -s $FOLDER/everywhere.service.error || fail "no error file: $(rollout everywhere.service)"
        host_exec beta grep -q 'revision 2 was reverted (everywhere.service on .*: exit status 1); correct the file, or: fleetctl directory retry everywhere.service' $FOLDER/everywhere.service.error ||
                fail "$(host_exec beta cat $FOLDER/everywhere.service.error)"
        wait_for 10 says 'revision 2 was reverted' fleetctl alpha directory || fail "directory: $(fleetctl alpha directory 2>&1)"
        wait_for 10 says 'everywhere.service' fleetctl alpha status || fail "status: $(fleetctl alpha status 2>&1)"
        wait_for 20 available everywhere.service 3 || fail "not available: $(fleetctl alpha list-units)"
        runs_times 1001 3 || fail "$(runs 1001) have the former text"
}

# Another file shows that the folder was read again.
a_reverted_text_is_not_submitted_again() {
        local before
        before=$(identities)
        file witness.service '/bin/sleep 1002'
        host_exec beta systemctl restart fleetd
        wait_for 20 available witness.service 1 || fail "not available: $(fleetctl alpha list-units)"
        host_exec beta touch $FOLDER/everywhere.service
        file witness.service '/bin/sleep 1003'
        wait_for 20 runs_times 1003 1 || fail "the new text does not run: $(rollout witness.service)"
        [ "$before" = "$(identities | grep -v witness)" ] || fail "touched: $(identities)"
}

the_next_good_text_is_rolled_out() {
        file everywhere.service '/bin/sleep 1004' 'Global=yes\nUpdateOnFailure=revert\n'
        wait_for 40 runs_times 1004 3 || fail "$(runs 1004) have the new text: $(rollout everywhere.service)"
        wait_for 20 available everywhere.service 3 || fail "not available: $(rollout everywhere.service)"
        wait_for 10 host_exec beta test ! -e $FOLDER/everywhere.service.error || fail "the error file stays"
        ! says 'was reverted' fleetctl alpha directory || fail "directory: $(fleetctl alpha directory 2>&1)"
}

# The record of the paused rollout remains until the engine begins the next one.
a_corrected_file_is_not_paused_again() {
        local before
        pauses() { fleetctl alpha events fixed.service --output=json | awk -F'[:,]' '/"kind":"problem".*is paused/ { n += $2 } END { print n + 0 }'; }
        file fixed.service '/bin/sleep 1007'
        wait_for 20 available fixed.service 1 || fail "not available: $(fleetctl alpha list-units)"
        file fixed.service /bin/false
        wait_for 20 host_exec beta test -s $FOLDER/fixed.service.error || fail "no error file: $(rollout fixed.service)"
        wait_for 10 says 'is paused' fleetctl alpha directory || fail "directory: $(fleetctl alpha directory 2>&1)"
        before=$(pauses)
        [ "$before" -gt 0 ] || fail "no event: $(fleetctl alpha events fixed.service 2>&1)"
        file fixed.service '/bin/sleep 1008'
        wait_for 20 runs_times 1008 1 || fail "the new text does not run: $(rollout fixed.service)"
        wait_for 20 available fixed.service 1 || fail "not available: $(rollout fixed.service)"
        [ "$(pauses)" = "$before" ] || fail "paused again: $(fleetctl alpha events fixed.service 2>&1)"
}

# The texts of twenty files are written in one moment; each unit is started once with its new text.
twenty_files_at_once_are_rolled_out() {
        local n begin
        for n in $(seq -w 20); do file "many-$n.service" '/bin/sleep 1005'; done
        wait_for 60 available many- 20 || fail "not available: $(fleetctl alpha list-units)"
        begin=$(now_ms)
        host_exec beta sh -c "sed -i s/1005/1006/ $FOLDER/many-*.service"
        wait_for 60 runs_times 1006 20 || fail "$(runs 1006) have the new text"
        wait_for 60 available many- 20 || fail "not available: $(fleetctl alpha list-units)"
        echo "# twenty files were rolled out in $(($(now_ms) - begin)) ms" >>"$LAB/figures"
        runs_times 1005 0 || fail "$(runs 1005) have the former text"
}

scenario a_text_that_fails_is_reverted_and_reported a_reverted_text_is_not_submitted_again the_next_good_text_is_rolled_out \
        a_corrected_file_is_not_paused_again twenty_files_at_once_are_rolled_out
