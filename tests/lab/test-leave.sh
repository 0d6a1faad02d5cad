#!/bin/bash
# A host with units leaves the cluster: each unit runs elsewhere before it stops there, and the units of the other hosts are not touched.
# Takes 40 s.
. "$(dirname "$0")/scenario.sh"

PLAIN=(plain-{1,2,3,4,5,6}.service)

a_cluster_with_units() {
        local u
        cluster_up
        for u in "${PLAIN[@]}"; do
                runs_forever "$u" </dev/null
        done
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        fleetctl beta start "${PLAIN[@]}" everywhere.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service)"
}

# Cordoned hosts get no units, so that 30 units run on alpha. Each one starts for 0.2 s.
a_host_with_thirty_units_is_drained() {
        local u begin units=() watcher
        fleetctl gamma cordon beta gamma --reason=test >"$LAB/out" 2>&1 || fail "cordon: $(cat "$LAB/out")"
        for u in $(seq -f 'drained-%02g.service' 30); do
                runs_forever "$u" <<<'ExecStartPre=/bin/sleep 0.2'
                units+=("$u")
        done
        fleetctl beta start "${units[@]}" >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        for u in "${units[@]}"; do
                runs_on "$u" alpha || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
        fleetctl alpha uncordon beta gamma >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
        identities beta gamma >"$LAB/before"
        rm -f "$LAB/done"
        watch_for_gaps "${units[@]}" >"$LAB/gaps" &
        watcher=$!
        begin=$(date +%s%3N)
        fleetctl beta drain alpha >"$LAB/out" 2>&1 || fail "drain: $(cat "$LAB/out")"
        echo "# a drain of 30 units took $(($(date +%s%3N) - begin)) ms" >>"$LAB/figures"
        # Ten seconds, and those of UpdateWatchSec=.
        [ $(($(date +%s%3N) - begin)) -le 20000 ] || fail "the drain took $(($(date +%s%3N) - begin)) ms: $(cat "$LAB/out")"
        touch "$LAB/done"
        wait $watcher
        rm "$LAB/done"
        echo "# looked $(cat "$LAB/looks") times at the 30 units" >>"$LAB/figures"
        [ ! -s "$LAB/gaps" ] || fail "these ran nowhere for a moment: $(sort "$LAB/gaps" | uniq -c | tr '\n' ' ')"
        [ "$(tail -1 "$LAB/out")" = "alpha: drained" ] || fail "drain: $(cat "$LAB/out")"
        for u in "${units[@]}"; do
                runs_once "$u" && ! runs_on "$u" alpha || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
        hosts_running everywhere.service | grep -q alpha || fail "the global unit does not run on alpha"
        identities beta gamma >"$LAB/after"
        ! grep -vxFf "$LAB/after" "$LAB/before" >"$LAB/out" || fail "touched: $(cat "$LAB/out")"
        fleetctl beta destroy "${units[@]}" >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        fleetctl gamma uncordon alpha >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
        fleetctl gamma drain beta >"$LAB/out" 2>&1 || fail "drain: $(cat "$LAB/out")" # so that units are on alpha again
        fleetctl gamma uncordon beta >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
}

# To a named host: it runs there before it stops here, and each of the three is unavailable at no time. One that fails there stays.
a_unit_moves_to_a_named_host() {
        local from to watcher
        from=$(hosts_running plain-1.service)
        to=$(printf '%s\n' alpha beta gamma | grep -vx "$from" | head -1)
        rm -f "$LAB/done"
        watch_for_gaps "${PLAIN[@]}" >"$LAB/gaps" &
        watcher=$!
        fleetctl alpha move plain-1.service "$to" >"$LAB/out" 2>&1 || fail "move: $(cat "$LAB/out")"
        touch "$LAB/done"
        wait $watcher
        rm "$LAB/done"
        [ ! -s "$LAB/gaps" ] || fail "these ran nowhere for a moment: $(sort "$LAB/gaps" | uniq -c | tr '\n' ' ')"
        grep -q "plain-1.service → $to available" "$LAB/out" || fail "move: $(cat "$LAB/out")"
        runs_once plain-1.service && runs_on plain-1.service "$to" || fail "plain-1.service runs on: $(hosts_running plain-1.service | tr '\n' ' ')"
        fleetctl beta move plain-1.service "$to" >"$LAB/out" 2>&1 && grep -q "plain-1.service is on $to" "$LAB/out" || fail "move again: $(cat "$LAB/out")"
        runs_forever picky.service <<<"ExecStartPre=/bin/sh -c '[ ! -e /run/picky ]'"
        fleetctl beta start picky.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        from=$(hosts_running picky.service)
        to=$(printf '%s\n' alpha beta gamma | grep -vx "$from" | head -1)
        host_exec "$to" touch /run/picky
        ! fleetctl alpha move picky.service "$to" >"$LAB/out" 2>&1 || fail "a unit that fails moves: $(cat "$LAB/out")"
        grep -q "move of picky.service to $to failed: " "$LAB/out" || fail "move: $(cat "$LAB/out")"
        runs_once picky.service && runs_on picky.service "$from" || fail "picky.service runs on: $(hosts_running picky.service | tr '\n' ' ')"
        fleetctl alpha destroy picky.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}

# Print each moment in which one of the units runs nowhere, until the file $LAB/done exists.
watch_for_gaps() {
        local h n=0
        printf '%s\n' "$@" | sort >"$LAB/watched"
        until [ -e "$LAB/done" ]; do
                for h in $LAB_HOSTS; do
                        find "$LAB_CG/$h/payload/system.slice" -type d -name '*.service' -printf '%f\n' 2>/dev/null
                done | sort -u | comm -23 "$LAB/watched" -
                n=$((n + 1))
        done
        echo "$n" >"$LAB/looks"
}

each_unit_runs_elsewhere_before_it_stops_here() {
        local u moved=0 begin watcher
        identities beta gamma >"$LAB/before"
        for u in "${PLAIN[@]}"; do
                [ "$(hosts_running "$u")" != alpha ] || moved=$((moved + 1))
        done
        [ "$moved" -gt 0 ] || fail "no unit runs on alpha"
        watch_for_gaps "${PLAIN[@]}" >"$LAB/gaps" &
        watcher=$!
        begin=$(date +%s%3N)
        fleetctl alpha leave --yes >"$LAB/out" 2>&1 || fail "leave: $(cat "$LAB/out")"
        echo "# $moved units moved; the leave took $(($(date +%s%3N) - begin)) ms" >>"$LAB/figures"
        touch "$LAB/done"
        wait $watcher
        [ ! -s "$LAB/gaps" ] || fail "these ran nowhere for a moment: $(sort "$LAB/gaps" | uniq -c | tr '\n' ' ')"
        echo "# looked $(cat "$LAB/looks") times, and each unit ran" >>"$LAB/figures"
        grep -qF 'Left: alpha starts empty' "$LAB/out" || fail "leave: $(cat "$LAB/out")"
        for u in "${PLAIN[@]}" everywhere.service; do
                hosts_running "$u" | grep -q alpha && fail "$u still runs on alpha"
        done
        for u in "${PLAIN[@]}"; do
                runs_once "$u" || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
}

units_of_other_hosts_are_not_touched() {
        identities beta gamma >"$LAB/after"
        ! grep -vxFf "$LAB/after" "$LAB/before" >"$LAB/out" || fail "touched: $(cat "$LAB/out")"
        echo "# $(wc -l <"$LAB/before") units of other hosts have the same InvocationID" >>"$LAB/figures"
}

two_hosts_remain_and_the_third_is_empty() {
        wait_for 30 knows_machines beta 2 || fail "beta lists: $(machines beta)"
        [ "$(roles beta)" = "leader standby" ] || wait_for 30 [ "$(roles beta)" = "leader standby" ] || fail "roles: $(roles beta)"
        writes gamma || fail "gamma accepts no writes"
        wait_for 30 writes alpha || fail "alpha accepts no writes of its own"
        [ -z "$(fleetctl alpha list-unit-files --no-legend)" ] || fail "alpha has units: $(fleetctl alpha list-unit-files)"
        host_exec alpha test -d /var/lib/fleet/old/1/raft || fail "the former state is not kept"
        host_exec alpha systemctl restart fleetd
        wait_for 30 writes alpha || fail "alpha does not start again"
        fleetctl alpha leave --yes >"$LAB/out" 2>&1 && fail "the last voter left"
        grep -qF 'alpha is the last voter' "$LAB/out" || fail "leave: $(cat "$LAB/out")"
}

a_unit_file_that_is_added_during_a_leave_cancels_it() {
        local client
        runs_forever pinned.service <<<$'[X-Fleet]\nMachineID='"$(host_exec beta cat /etc/machine-id)"
        fleetctl beta start pinned.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        (FLEETCTL_LIMIT=100 fleetctl beta leave --yes) >"$LAB/out" 2>&1 &
        client=$!
        wait_for 30 grep -qF 'unit to move: pinned.service' "$LAB/out" || fail "leave: $(cat "$LAB/out")"
        host_exec beta mkdir -p /etc/fleet/units
        host_exec beta sh -c 'printf "[Service]\nExecStart=/bin/sleep infinity\n" >/etc/fleet/units/late.service'
        wait $client && fail "the host left: $(cat "$LAB/out")"
        grep -qE 'the leave of beta was cancelled: the unit directory of this host (contains 1 unit file|owns 1 unit) \(late.service\)' "$LAB/out" || fail "leave: $(cat "$LAB/out")"
        wait_for 30 runs_once late.service || fail "late.service runs on: $(hosts_running late.service | tr '\n' ' ')"
        host_exec beta rm /etc/fleet/units/late.service
        wait_for 30 runs_nowhere late.service || fail "late.service is not removed"
        fleetctl gamma destroy pinned.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 30 runs_nowhere pinned.service || fail "pinned.service still runs"
}

# Join= in its fleetd.conf makes it ask for admission again: the cluster names the token.
a_host_with_a_key_file_and_join_stays_out() {
        local other=beta
        host_exec beta true || fail "beta is off"
        (FLEETCTL_LIMIT=100 fleetctl beta leave --yes) >"$LAB/out" 2>&1
        grep -qF 'Left: beta' "$LAB/out" || fail "leave: $(cat "$LAB/out")"
        wait_for 30 knows_machines gamma 1 || fail "gamma lists: $(machines gamma)"
        for u in "${PLAIN[@]}"; do
                runs_on "$u" gamma || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
}

scenario a_cluster_with_units a_unit_moves_to_a_named_host a_host_with_thirty_units_is_drained each_unit_runs_elsewhere_before_it_stops_here units_of_other_hosts_are_not_touched two_hosts_remain_and_the_third_is_empty \
        a_unit_file_that_is_added_during_a_leave_cancels_it \
        a_host_with_a_key_file_and_join_stays_out
