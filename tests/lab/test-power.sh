#!/bin/bash
# Power cuts and network cuts of single hosts: units move where they fit, wait where they do not, and never run twice.
# Takes 60 s.
. "$(dirname "$0")/scenario.sh"

units_are_spread_over_the_cluster() {
        local h
        cluster_up
        (cd "$top/dist/units" && host_fleetctl alpha start node.service >"$LAB/out" 2>&1) || fail "the global unit does not start: $(cat "$LAB/out")"
        for h in a b c; do
                printf '[X-Fleet]\nMachineMetadata=zone=%s\n' $h | runs_forever pinned-$h.service
        done
        for h in 1 2 3 4 5 6; do
                runs_forever free-$h.service </dev/null
        done
        fleetctl alpha start pinned-{a,b,c}.service free-{1,2,3,4,5,6}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        for h in $LAB_HOSTS; do
                [ -n "$(free_on $h)" ] || fail "no ordinary unit runs on $h"
        done
}

# The ordinary units that run on a host.
free_on() { identities "$1" | grep -o 'free-[0-9].service' | sort -u; }
run_elsewhere() { local u; for u in "$@"; do runs_once "$u" || return 1; done; }

# Cut the power of host $1 and check the result; all units run again after at most $2 seconds.
cut_and_check() {
        local victim=$1 limit=$2 zone moved others_before start took watcher
        zone=$(tr abg abc <<<"${victim:0:1}")
        watcher=$(others "$victim" | tail -1)
        moved=$(free_on "$victim")
        others_before=$(identities $(others "$victim"))
        [ -n "$moved" ] || fail "nothing ordinary runs on $victim"

        start=$(now_ms)
        host_kill "$victim" || fail "cannot cut the power"
        wait_for "$limit" run_elsewhere $moved || fail "after $limit s: $(for u in $moved; do echo "$u on: $(hosts_running "$u" | tr '\n' ' ');"; done)"
        took=$(($(now_ms) - start))
        echo "# $(wc -w <<<"$moved") units of $victim ran elsewhere $took ms after the cut" >>"$LAB/figures"

        runs_nowhere "pinned-$zone.service" || fail "pinned-$zone.service runs where its rule says no"
        wait_for 5 says_why "$watcher" "pinned-$zone.service" "zone=$zone" ||
                fail "no reason is given for pinned-$zone.service: $(fleetctl "$watcher" status "pinned-$zone.service" 2>&1)"
        [ "$(hosts_running node.service | wc -l)" = 2 ] || fail "the global unit runs on: $(hosts_running node.service | tr '\n' ' ')"
        [ "$others_before" = "$(identities $(others "$victim") | grep -vF "$(sed 's/^/ /; s/$/ /' <<<"$moved")")" ] ||
                fail "units of the other hosts were touched: $(diff <(echo "$others_before") <(identities $(others "$victim")) | tr '\n' ' ')"
}
says_why() { fleetctl "$1" status "$2" 2>&1 | grep -qF "$3"; }

# Boot host $1 again and check that nothing runs twice, then or later.
return_and_check() {
        local h=$1 u zone end
        zone=$(tr abg abc <<<"${h:0:1}")
        hosts_up "$h"
        # From the boot until the cluster is complete, no unit may run twice.
        end=$(($(now_ms) + 8000))
        until [ "$(now_ms)" -ge $end ]; do
                for u in free-{1,2,3,4,5,6}.service; do
                        [ "$(hosts_running $u | wc -l)" = 1 ] || fail "$u runs on: $(hosts_running $u | tr '\n' ' ') after $h came back"
                done
                sleep 0.1
        done
        cluster_whole
        wait_for 20 runs_on "pinned-$zone.service" "$h" || fail "pinned-$zone.service does not run on $h again"
        wait_for 20 runs_on_all node.service || fail "the global unit runs on: $(hosts_running node.service | tr '\n' ' ')"
}

a_follower_without_power_loses_its_units_to_the_others() {
        local leader
        leader=$(leader) || fail "there is no leader"
        others "$leader" | tail -1 >"$LAB/victim"
        cut_and_check "$(cat "$LAB/victim")" 5
}

a_follower_that_returns_runs_nothing_twice() { return_and_check "$(cat "$LAB/victim")"; }

a_leader_without_power_loses_no_acknowledged_write_and_no_unit() {
        local leader witness gap
        leader=$(leader) || fail "there is no leader"
        echo "$leader" >"$LAB/victim"
        # The check needs an ordinary unit there.
        fill "$leader"
        witness=$(others "$leader" | head -1)
        writer_start "$witness" 9 cut
        cut_and_check "$leader" 5
        wait "$WRITER"
        gap=$(writer_gap cut)
        echo "# no write was acknowledged for $gap ms after the leader's power was cut" >>"$LAB/figures"
        [ "$(tail -1 "$LAB/writer.cut" | cut -d' ' -f2)" = ack ] || fail "writes do not go on"
        [ "$gap" -le 3000 ] || fail "no write was acknowledged for $gap ms"
        acknowledged_writes_are_there cut "$witness"
}
# Create ordinary units until one runs on host $1.
fill() {
        local u
        for u in free-{1,2,3,4,5,6}.service; do
                [ -z "$(free_on "$1")" ] || return 0
                fleetctl alpha destroy $u >/dev/null 2>&1
                wait_for 5 unlisted $u || fail "$u is destroyed and still listed"        # otherwise it returns to its machine
                fleetctl alpha start $u >/dev/null 2>&1
        done
        [ -n "$(free_on "$1")" ] || fail "no ordinary unit can be had on $1"
}

unlisted() { runs_nowhere "$1" && ! fleetctl alpha list-units --no-legend --fields=unit | grep -qx "$1"; }

a_leader_that_returns_runs_nothing_twice() {
        return_and_check "$(cat "$LAB/victim")"
        acknowledged_writes_are_there cut "$(cat "$LAB/victim")"
}

a_host_without_link_keeps_its_units_running_and_stops_those_that_moved() {
        local leader victim before moved u end
        leader=$(leader) || fail "there is no leader"
        victim=$(others "$leader" | head -1)
        fill "$victim"
        moved=$(free_on "$victim")
        before=$(identities "$victim")
        host_cut "$victim"
        wait_for 5 twice $moved || fail "no replacement within 5 s: $(for u in $moved; do echo "$u on: $(hosts_running "$u" | tr '\n' ' ');"; done)"
        WHAT="a cut link" untouched "$before" "$victim"
        host_heal "$victim"
        # The old copies stop when their replacements run; each unit runs at all times.
        end=$(($(now_ms) + 20000))
        until run_elsewhere $moved; do
                for u in $moved; do
                        ! runs_nowhere $u || fail "$u ran nowhere after the link was restored"
                done
                [ "$(now_ms)" -lt $end ] || fail "still twice after 20 s: $(for u in $moved; do echo "$u on: $(hosts_running "$u" | tr '\n' ' ');"; done)"
                sleep 0.1
        done
        cluster_whole
}
twice() { local u; for u in "$@"; do [ "$(hosts_running "$u" | wc -l)" = 2 ] || return 1; done; }

scenario units_are_spread_over_the_cluster a_follower_without_power_loses_its_units_to_the_others \
        a_follower_that_returns_runs_nothing_twice a_leader_without_power_loses_no_acknowledged_write_and_no_unit \
        a_leader_that_returns_runs_nothing_twice a_host_without_link_keeps_its_units_running_and_stops_those_that_moved
