#!/bin/bash
# All hosts lose power at once and boot again: keys, units and placements are as before. Before that, a host begins and cancels 10,000
# calls in one burst. Takes 18 s.
. "$(dirname "$0")/scenario.sh"

a_cluster_with_units_and_keys() {
        local n
        cluster_up
        (cd "$top/dist/units" && host_fleetctl alpha start hello.service node.service store.service store-watch.service web@{1,2,3}.service \
                >/dev/null 2>&1) || fail "samples do not start"
        runs_forever loaded.service </dev/null
        runs_forever known.service </dev/null
        fleetctl beta submit known.service >"$LAB/out" 2>&1 || fail "submit failed: $(cat "$LAB/out")"
        fleetctl beta load loaded.service >"$LAB/out" 2>&1 || fail "load failed: $(cat "$LAB/out")"
        for n in 1 2 3 4 5 6 7 8 9; do
                [ "$(key_put beta /kept/$n "value $n")" = ok ] || fail "put failed"
        done
        wait_for 10 all_as_requested || fail "units are not as asked: $(fleetctl alpha list-units)"
}
all_as_requested() { lists alpha loaded.service "inactive dead" && lists alpha hello.service "active running"; }

term() { host_exec "$1" curl -sf -m 10 --unix-socket /run/fleet.sock http://fleet/fleet/v1/cluster | json term; }

ten_thousand_calls_that_end_at_once_cause_no_election() {
        local to before
        to=$(leader) && before=$(term "$to") && [ -n "$before" ] || fail "no term"
        host_exec "$(others "$to" | head -1)" python3 - "$(host_address "$to"):2380" /etc/fleet/peer.key fleetd.service 10000 \
                <"$here/calls.py" >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        [ "$(term "$to")" = "$before" ] || fail "the term was $before, and is $(term "$to")"
}

state_of() {
        keys alpha '/kept?recursive=true&sorted=true&quorum=true'
        fleetctl alpha list-unit-files --no-legend --full --fields=unit,hash,dstate,state,target
        fleetctl alpha list-units --no-legend --full --fields=unit,machine,active,sub
}
same_as_before() { [ "$(state_of 2>/dev/null)" = "$(cat "$LAB/before")" ]; }

after_a_blackout_everything_is_as_before() {
        local h
        state_of >"$LAB/before"
        writer_start beta 3 dark
        for h in $LAB_HOSTS; do
                in_lab ip link set "v$h" down
        done
        for h in $LAB_HOSTS; do
                host_kill $h || fail "cannot kill $h"
        done
        kill "$WRITER" 2>/dev/null
        hosts_up $LAB_HOSTS
        cluster_whole
        wait_for 45 same_as_before || fail "differs: $(diff "$LAB/before" <(state_of 2>&1) | grep '^[<>]' | head -6 | tr '\n' ' ')"
        acknowledged_writes_are_there dark gamma
}

and_after_a_second_one_booted_in_another_order() {
        local h
        for h in $LAB_HOSTS; do
                host_kill $h || fail "cannot kill $h"
        done
        # One after the other, each within the period that a new leader grants to all hosts: later its units would move.
        hosts_up gamma beta alpha
        cluster_whole
        wait_for 45 same_as_before || fail "differs: $(diff "$LAB/before" <(state_of 2>&1) | grep '^[<>]' | head -6 | tr '\n' ' ')"
}

scenario a_cluster_with_units_and_keys ten_thousand_calls_that_end_at_once_cause_no_election after_a_blackout_everything_is_as_before and_after_a_second_one_booted_in_another_order
