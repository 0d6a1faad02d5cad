#!/bin/bash
# Three hosts have nine replicas of a unit, and a fourth one joins, restricted, so without a replica of the store. The moves that are made are the printed ones, no other unit
# is touched, no fewer than nine instances run, and the next plan is empty. The same with the leader killed midway.
# Takes 45 s.
LAB_HOSTS="alpha beta gamma delta" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"

plan() { fleetctl alpha rebalance --plan >"$LAB/$1" 2>&1 || fail "rebalance --plan: $(cat "$LAB/$1")"; }
# The lines "UNIT FROM TO" of a plan or of a command.
moves() { awk '/^app@/ && / has .* of its instances, / { print $1, $2, $3 }' "$LAB/$1"; }
is_balanced() { fleetctl alpha rebalance --plan 2>&1 | grep -qx 'balanced: no move would improve it'; }
nine_run() { [ "$(active | wc -l)" = 9 ]; }
active() { fleetctl alpha list-units --no-legend --fields=unit,active 'app@*' 2>/dev/null | awk '$2 == "active" { print $1 }' | sort -u; }
each_is_available() { fleetctl alpha rollout app@.service 2>&1 | grep -q '9 of 9'; }
# Count the active instances until the file is gone.
count_active() { while [ -e "$LAB/counting" ]; do active | wc -l; sleep 0.3; done >"$LAB/counts"; }

# made PLAN BEFORE: the units of the plan are on their new hosts, all others are as before.
made() {
        local unit from to
        while read -r unit from to; do
                runs_on "$unit" "$to" || fail "$unit runs on $(hosts_running "$unit" | xargs), not on $to"
        done < <(moves "$1")
        identities | grep -vFf <(moves "$1" | cut -d' ' -f1) >"$LAB/now"
        grep -vFf <(moves "$1" | cut -d' ' -f1) "$2" | diff - "$LAB/now" >"$LAB/diff" || fail "others were touched: $(tr '\n' ' ' <"$LAB/diff")"
        wait_for 30 is_balanced || fail "the next plan: $(fleetctl alpha rebalance --plan 2>&1)"
}

replicas_run_on_three_hosts() {
        local h
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init --voters=3 >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        join_at_once beta gamma
        runs_forever app </dev/null
        mv "$LAB/units/app" "$LAB/units/app@.service" && printf '[X-Fleet]\nReplicas=9\nUpdateWatchSec=2\nMinAvailable=9\n' >>"$LAB/units/app@.service"
        fleetctl alpha start app@.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 60 nine_run || fail "$(fleetctl alpha list-units)"
        wait_for 60 is_balanced || fail "balanced: $(fleetctl alpha rebalance --plan 2>&1)"
}

a_host_that_joins_gets_what_was_printed() {
        local counting
        host_exec alpha fleetctl token --restricted >"$LAB/token" 2>&1 || fail "token: $(cat "$LAB/token")"
        host_exec delta fleetctl join - < <(grep -o 'fleet1-[A-Za-z0-9_-]*' "$LAB/token" | head -1) >"$LAB/out" 2>&1 || fail "join of delta: $(cat "$LAB/out")"
        wait_for 30 knows_machines delta 4 || fail "delta lists $(machines delta)"
        [ "$(attached)" = delta ] || fail "attached: $(roles_of alpha | xargs)"
        sleep 3
        nine_run && [ -z "$(for i in {1..9}; do hosts_running "app@$i.service"; done | grep delta)" ] || fail "a unit has moved by itself"
        plan printed
        [ "$(moves printed | wc -l)" = 2 ] && [ "$(moves printed | awk '$3 == "delta"' | wc -l)" = 2 ] || fail "the plan: $(cat "$LAB/printed")"
        grep -q 'has 3 of its instances, delta none$' "$LAB/printed" || fail "the reason: $(cat "$LAB/printed")"
        identities >"$LAB/before"
        touch "$LAB/counting"
        count_active & counting=$!
        fleetctl beta rebalance --yes >"$LAB/out" 2>&1 || fail "rebalance: exit $?, $(cat "$LAB/out")"
        rm "$LAB/counting"; wait "$counting"
        [ "$(moves out)" = "$(moves printed)" ] || fail "printed: $(moves printed | xargs), made: $(moves out | xargs)"
        made printed "$LAB/before"
        [ "$(sort -n "$LAB/counts" | head -1)" = 9 ] || fail "so many have run: $(sort -n "$LAB/counts" | uniq -c | xargs)"
}

the_moves_go_on_after_the_leader_is_killed() {
        local first pid
        fleetctl alpha drain delta >"$LAB/out" 2>&1 || fail "drain: $(cat "$LAB/out")"
        fleetctl alpha uncordon delta >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
        wait_for 60 nine_run || fail "$(fleetctl alpha list-units)"
        has_moves() { plan printed; [ "$(moves printed | wc -l)" = 2 ]; }
        wait_for 60 has_moves || fail "the plan: $(cat "$LAB/printed")"
        identities >"$LAB/before"
        fleetctl beta rebalance --yes >"$LAB/out" 2>&1 & pid=$!
        first=$(moves printed | head -1 | cut -d' ' -f1)
        wait_for 30 grep -q "^$first → delta" "$LAB/out" || fail "no move: $(cat "$LAB/out")"
        signal_daemon KILL "$(leader alpha beta gamma)"
        wait "$pid" || fail "rebalance: $(cat "$LAB/out")"
        [ "$(moves out)" = "$(moves printed)" ] || fail "printed: $(moves printed | xargs), made: $(moves out | xargs)"
        made printed "$LAB/before"
}

scenario replicas_run_on_three_hosts a_host_that_joins_gets_what_was_printed the_moves_go_on_after_the_leader_is_killed
