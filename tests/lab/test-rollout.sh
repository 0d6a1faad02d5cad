#!/bin/bash
# Rollouts of a global unit on three booted hosts: steps, a host that is away, texts that fail, a leader that ends. Takes 110 s.
. "$(dirname "$0")/scenario.sh"

unit=agent.service

# Text $1 of the unit, with the command $2 and further options of [X-Fleet].
text() {
        printf '[Service]\nEnvironment=TEXT=%s\nExecStartPre=/bin/sh -c "echo %s >>/run/starts"\nExecStart=%s\n[X-Fleet]\nGlobal=yes\nUpdateWatchSec=2s\n%s\n' \
                "$1" "$1" "$2" "${3:-}" | unit_file $unit
}
good() { text "$1" '/bin/sleep infinity' "${2:-}"; }
submit() { fleetctl "${1:-alpha}" submit --replace --no-block $unit >"$LAB/out" 2>&1 || fail "submit --replace: $(cat "$LAB/out")"; }

# True when the rollout is in state $1, to revision $2, as reported by host $3.
rollout_is() { fleetctl "${3:-alpha}" rollout $unit 2>/dev/null | head -n 1 | grep -q "revision $2 .*  $1,"; }
starts() { local h; for h in $LAB_HOSTS; do echo "$h $(host_exec "$h" sh -c 'wc -l </run/starts')"; done; }
# The hosts on which the unit was started since $1, with the number of starts.
started_since() { diff <(echo "$1") <(starts) | sed -n 's/^> //p'; }
invocations() { local h; for h in $LAB_HOSTS; do echo "$h $(host_exec "$h" systemctl show --value -p InvocationID $unit)"; done; }
changed_since() { diff <(echo "$1") <(invocations) | sed -n 's/^> \([a-z]*\) .*/\1/p'; }
available() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,available 2>/dev/null | grep -c "^$unit.*true")" = "$1" ]; }

a_global_unit_is_updated_in_steps() {
        local begin before least=3 n
        cluster_up
        good 1
        fleetctl alpha start $unit >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 20 available 3 || fail "not available: $(fleetctl alpha list-units --fields=unit,machine,active,available)"
        before=$(starts)
        good 2
        begin=$(now_ms)
        submit
        until rollout_is done 2; do
                [ $(($(now_ms) - begin)) -lt 40000 ] || fail "$(fleetctl alpha rollout $unit)"
                n=$(hosts_running $unit | wc -l)
                [ "$n" -ge "$least" ] || least=$n
                sleep 0.05
        done
        echo "# three instances updated in $(($(now_ms) - begin)) ms, at least $least of them up" >>"$LAB/figures"
        [ "$least" -ge 2 ] || fail "$least of three instances were up"
        [ "$(started_since "$before" | wc -l)" = 3 ] || fail "started: $(started_since "$before" | tr '\n' ';')"
}

a_host_that_is_away_is_updated_after_its_return() {
        local away before begin
        away=$(others "$(leader)" | grep -v alpha | head -n 1)
        before=$(starts)
        host_cut "$away"
        wait_for 30 knows_machines alpha 2 || fail "$away is not away: $(machines alpha)"
        good 3
        submit
        wait_for 40 rollout_is done 3 || fail "$(fleetctl alpha rollout $unit)"
        fleetctl alpha rollout $unit | grep -q '1 behind' || fail "$(fleetctl alpha rollout $unit)"
        [ "$(started_since "$before" | wc -l)" = 2 ] || fail "started: $(started_since "$before" | tr '\n' ';')"
        host_heal "$away"
        begin=$(now_ms)
        wait_for 40 is_started_since "$before" 3 || fail "$away is not updated: $(fleetctl alpha rollout $unit)"
        echo "# an instance whose host was away had the text $(($(now_ms) - begin)) ms after its return; expected at most 7000 ms" >>"$LAB/figures"
        cluster_whole
        wait_for 20 available 3 || fail "not available: $(fleetctl alpha rollout $unit)"
}
is_started_since() { [ "$(started_since "$1" | wc -l)" = "$2" ]; }

a_text_that_fails_takes_one_instance() {
        local before
        before=$(invocations)
        text 4 /bin/false
        submit
        wait_for 20 rollout_is paused 4 || fail "$(fleetctl alpha rollout $unit)"
        [ "$(hosts_running $unit | wc -l)" = 2 ] || fail "it runs on: $(hosts_running $unit | tr '\n' ' ')"
        [ "$(changed_since "$before" | wc -l)" = 1 ] || fail "changed: $(changed_since "$before" | tr '\n' ' ')"
        fleetctl alpha rollout $unit | grep -q 'exit status 1' || fail "$(fleetctl alpha rollout $unit)"
        good 5
        submit
        wait_for 30 rollout_is done 5 || fail "$(fleetctl alpha rollout $unit)"
}

a_text_that_fails_is_reverted() {
        local begin ms before
        before=$(starts)
        text 6 /bin/false UpdateOnFailure=revert
        begin=$(now_ms)
        submit
        wait_for 20 rollout_is done 5 || fail "$(fleetctl alpha rollout $unit)"
        wait_for 20 available 3 || fail "not available: $(fleetctl alpha rollout $unit)"
        ms=$(($(now_ms) - begin))
        echo "# a text that fails was reverted in $ms ms, with a watch time of 2 s" >>"$LAB/figures"
        [ "$(started_since "$before" | wc -l)" = 1 ] || fail "started: $(started_since "$before" | tr '\n' ';')"
        [ $ms -le 6000 ] || fail "it took $ms ms"
}

# The start takes ten seconds: the host is cut meanwhile. Order: alpha, beta, gamma.
a_host_that_is_lost_during_its_step_pauses_the_rollout() {
        local before
        before=$(starts)
        text 8 '/bin/sleep infinity'
        sed -i 's/^ExecStart=/ExecStartPre=\/bin\/sh -c "[ $(hostname) != beta ] || sleep 10"\n&/' "$LAB/units/$unit"
        submit
        wait_for 30 started_on beta "$before" || fail "beta has no step: $(fleetctl alpha rollout $unit)"
        host_cut beta
        wait_for 30 rollout_is paused 8 || fail "$(fleetctl alpha rollout $unit)"
        fleetctl alpha rollout $unit | grep -q 'beta: its machine was lost during its update' || fail "$(fleetctl alpha rollout $unit)"
        [ "$(host_exec gamma tail -n 1 /run/starts)" = 7 ] || fail "gamma is updated, too"
        host_heal beta
        cluster_whole
        fleetctl alpha rollout resume $unit >"$LAB/out" 2>&1 || fail "resume: $(cat "$LAB/out")"
        wait_for 60 rollout_is done 8 || fail "$(fleetctl alpha rollout $unit)"
}
started_on() { started_since "$2" | grep -q "^$1 "; }

# Once: the host starts the same text again when it is back.
a_text_that_stops_its_host_takes_one_host() {
        local before lost at h
        before=$(starts)
        text 9 "/bin/sh -c 'sync; systemctl poweroff --force --force; exec sleep infinity'" # at each start
        submit gamma
        wait_for 30 one_is_off || fail "no host ends: $(fleetctl gamma rollout $unit)"
        lost=$(hosts_off)
        at=$(others "$lost" | head -n 1)
        wait_for 30 rollout_is paused 9 "$at" || fail "$(fleetctl "$at" rollout $unit)"
        fleetctl "$at" rollout $unit | grep -q "$lost: its machine was lost during its update" || fail "$(fleetctl "$at" rollout $unit)"
        sleep 5
        for h in $(others "$lost"); do
                host_is_on "$h" && [ "$(awk -v h="$h" '$1 == h { print $2 }' <<<"$before")" = "$(host_exec "$h" sh -c 'wc -l </run/starts')" ] || fail "$h was touched, too"
        done
        good 10
        submit "$at"
        wait_for 60 rollout_is done 10 "$at" || fail "$(fleetctl "$at" rollout $unit)"
        host_clear "$lost" # it has the good text when it is back
        hosts_up "$lost"
        cluster_whole
        wait_for 20 available 3 || fail "not available: $(fleetctl "$at" list-units --fields=unit,machine,active,available)"
}
hosts_off() { local h; for h in $LAB_HOSTS; do host_is_on "$h" || echo "$h"; done; }
one_is_off() { [ "$(hosts_off | wc -w)" = 1 ]; }

the_next_leader_continues() {
        local before first at
        first=$(leader)
        at=$(others "$first" | head -n 1)
        before=$(starts)
        good 7
        submit "$at"
        wait_for 10 is_started_since "$before" 1 || fail "$(fleetctl "$at" rollout $unit)"
        host_exec "$first" systemctl kill -s KILL fleetd
        wait_for 60 rollout_is done 7 "$at" || fail "$(fleetctl "$at" rollout $unit)"
        [ "$(started_since "$before")" = "$(awk '{ print $1, $2 + 1 }' <<<"$before")" ] || fail "not one start each: $(started_since "$before" | tr '\n' ';'), before $(tr '\n' ';' <<<"$before")"
}

scenario a_global_unit_is_updated_in_steps a_host_that_is_away_is_updated_after_its_return a_text_that_fails_takes_one_instance \
        a_text_that_fails_is_reverted the_next_leader_continues \
        a_host_that_is_lost_during_its_step_pauses_the_rollout a_text_that_stops_its_host_takes_one_host
