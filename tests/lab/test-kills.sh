#!/bin/bash
# Daemons of hosts with and without a replica are killed, stopped, aborted, restarted and upgraded, 1,000 times in a random order, under load: no
# unit is touched, no acknowledged write is lost. With CHECK_ALL=yes only. KILLS=N and KILLS_SEED=N select others. Takes 1300 s.
[ -n "${CHECK_ALL:-}${KILLS:-}" ] || { echo "ok daemons_are_killed # SKIP: with CHECK_ALL=yes; test-trouble.sh and test-attached.sh have some"; exit 0; }
LAB_HOSTS="alpha n1 n2 n3 n4 n5 n6 n7" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"

eight_hosts_run_units() {
        local i
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        # shellcheck disable=SC2046
        join_at_once $(others alpha)
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        for i in $(seq 16); do
                runs_forever steady-$i.service </dev/null
        done
        fleetctl alpha start everywhere.service steady-{1..16}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service | tr '\n' ' ')"
        identities >"$LAB/before"
}

daemons_are_killed() { kill_at_random "${KILLS:-1000}" "${KILLS_SEED:-$RANDOM}"; }

scenario eight_hosts_run_units daemons_are_killed
