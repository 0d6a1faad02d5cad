#!/bin/bash
# A client sends a request each 20 ms to thirty units while their host is drained, and while two hosts are drained at once. Takes 35 s.
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"

a_host_with_thirty_units_is_drained_without_a_failed_request() {
        local begin ms
        cluster_with_instances
        ctl cordon beta gamma
        web 1 good '' 'ExecStartPre=/bin/sleep 0.2\n'
        ctl submit web@.service
        # shellcheck disable=SC2046
        ctl start $(names 30)
        wait_available 30 60
        [ "$(units_of alpha)" = 30 ] || fail "alpha has $(units_of alpha) units"
        ctl uncordon beta gamma
        client_start 30
        begin=$(now_ms)
        ctl drain alpha
        ms=$(($(now_ms) - begin))
        client_stop "a drain of 30 units" 30
        echo "# a drain of 30 units took $ms ms; expected at most $(((10 + WATCH_S) * 1000)) ms on an idle machine" >>"$LAB/figures"
        [ $ms -le 60000 ] || fail "the drain took $ms ms"
        grep -q '^alpha: drained' "$LAB/out" || fail "$(cat "$LAB/out")"
        [ "$(units_of alpha)" = 0 ] || fail "alpha has $(units_of alpha) units"
        ctl uncordon alpha
}
units_of() { identities "$1" | grep -c ' web@.* active '; }

# Of one unit that is bound to its host, the drain prints the reason; the rest of both hosts moves.
two_drains_at_once_end() {
        local first second
        runs_forever pinned.service <<<"[X-Fleet]"$'\n'"MachineID=$(host_machine_id alpha)"
        ctl move web@11.service alpha
        ctl start pinned.service
        client_start 30
        fleetctl beta drain alpha >"$LAB/out.alpha" 2>&1 &
        first=$!
        fleetctl beta drain beta >"$LAB/out.beta" 2>&1 &
        second=$!
        wait $second || fail "drain beta: exit status $?: $(cat "$LAB/out.beta")"
        wait_for 60 drained_but_for_pinned || fail "$(tail -n 3 "$LAB/out.alpha")"
        kill $first # it waits for pinned.service, without end
        wait $first
        client_stop "two drains at once" 30
        grep -q '^beta: drained' "$LAB/out.beta" || fail "$(cat "$LAB/out.beta")"
        [ "$(units_of alpha) $(units_of beta) $(units_of gamma)" = "0 0 30" ] || fail "units of alpha, beta, gamma: $(units_of alpha) $(units_of beta) $(units_of gamma)"
        runs_on pinned.service alpha || fail "pinned.service runs on: $(hosts_running pinned.service | xargs)"
}

drained_but_for_pinned() { [ "$(units_of alpha) $(units_of beta)" = "0 0" ] && grep -q 'pinned.service waiting: ' "$LAB/out.alpha"; }

scenario a_host_with_thirty_units_is_drained_without_a_failed_request two_drains_at_once_end
