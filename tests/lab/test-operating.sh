#!/bin/bash
# The procedures of docs/OPERATING.md, step by step, on three booted hosts with a unit that no step may restart, except where the page says so.
# Takes 40 s.
LAB_HOSTS="alpha beta gamma" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
export LAB_NAME LAB_HOSTS LAB_TOKENS

# Follow a section of the page on alpha. The results of its steps are those of this script.
follow() {
        "$top/tests/conformance/examples.py" hosts docs/OPERATING.md "$1" >"$LAB/examples" 2>&1
        grep -E '^(ok|not ok|#) ' "$LAB/examples" >&3
        ! grep -q '^not ok ' "$LAB/examples" || fail "see above"
        grep -q '^ok ' "$LAB/examples" || fail "no step of $1 was run: $(tail -3 "$LAB/examples")"
}
invocation() { host_exec alpha systemctl show --value -p InvocationID hello.service; }
untouched() { [ "$(invocation)" = "$(cat "$LAB/invocation")" ] || fail "hello.service was restarted"; }

three_hosts_with_a_unit() {
        local h
        lab_install "$LAB_BUILD" || fail "make install failed"
        for h in $LAB_HOSTS; do
                host_install $h || fail "fleetd cannot be put on $h"
        done
        hosts_up $LAB_HOSTS
        for h in beta gamma; do
                host_join $h >"$LAB/out" 2>&1 || fail "$h does not join: $(cat "$LAB/out")"
        done
        wait_for 30 three_vote alpha || fail "three hosts, and these roles: $(roles alpha)"
        fleetctl alpha machine set alpha host=alpha >"$LAB/out" 2>&1 || fail "machine set: $(cat "$LAB/out")"
        runs_forever hello.service <<<$'[X-Fleet]\nMachineMetadata=host=alpha'
        fleetctl alpha start hello.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        invocation >"$LAB/invocation"
}

the_first_sections_touch_no_unit() {
        local section
        for section in Sizes "Every week" Backup Upgrade "Reboots after updates of the system"; do
                follow "$section"
        done
        untouched
}

one_root() { [ "$(fleetctl alpha ca 2>/dev/null | grep -c "$1")" = 1 ] && [ "$(fleetctl alpha ca | wc -l)" = 2 ]; }
root_of() { fleetctl alpha ca | awk 'NR == 2 { print $1 }'; }
the_root_is_rotated() {
        local before
        before=$(root_of)
        follow "Rotation of keys"
        wait_for 60 one_root current || fail "no single root: $(fleetctl alpha ca 2>&1)"
        [ "$(root_of)" != "$before" ] || fail "the root is the former one"
        three_vote alpha || fail "roles: $(roles alpha)"
        untouched
}

none_answers() { [ "$(fleetctl alpha list-members --output=json | grep -o '"reachable":true' | wc -l)" = 1 ]; }
a_lost_quorum_is_recovered() {
        local h
        for h in beta gamma; do
                host_kill $h || fail "cannot cut the power of $h"
        done
        wait_for 20 none_answers || fail "members: $(fleetctl alpha list-members)"
        follow "Lost quorum"
        host_up gamma && host_wait gamma || fail "gamma does not boot"
        host_exec gamma sh -c 'systemctl stop fleetd; fleetd --reset; systemctl start fleetd' >"$LAB/out" 2>&1 || fail "gamma: $(cat "$LAB/out")"
        wait_for 60 three_vote alpha || fail "roles: $(roles alpha)"
        untouched
}

is_lost() { ! fleetctl alpha list-machines --no-legend --fields=hostname,presence | grep -q "^$1[[:space:]]*up"; }
a_host_is_stolen() {
        local before
        before=$(root_of)
        host_kill gamma || fail "cannot cut the power of gamma"
        wait_for 20 is_lost gamma || fail "gamma is not lost"
        follow "A stolen disk"
        wait_for 60 one_root current || fail "no single root: $(fleetctl alpha ca 2>&1)"
        [ "$(root_of)" != "$before" ] || fail "the root is the former one"
        untouched
}

exec 3>&1
scenario three_hosts_with_a_unit the_first_sections_touch_no_unit the_root_is_rotated a_lost_quorum_is_recovered a_host_is_stolen
