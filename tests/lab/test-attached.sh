#!/bin/bash
# Six booted hosts, with one token: five have a replica, one is attached. Units run there, fleetctl works there, and no unit is touched while its
# replica is killed, stopped and cut. With CHECK_ALL=yes 20 hosts join, and twelve attached ones go through the loss of each replica and of the
# quorum, a rotation of the CA and a recovery. Takes 70 s.
n_joining=5
[ -z "${CHECK_ALL:-}" ] || n_joining=20
LAB_HOSTS="alpha $(seq -s ' ' -f 'n%g' $n_joining)" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"

hosts_join_by_one_token() {
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        # shellcheck disable=SC2046
        join_at_once $(others alpha)
}

# The daemon of host $1: KiB resident, and how often its threads have woken up.
daemon_file() { host_exec "$1" sh -c 'cat /proc/$(systemctl show -P MainPID fleetd)/'"$2"; }
resident_kib() { daemon_file "$1" status | awk '/^VmRSS/ { print $2 }'; }
wake_ups() { daemon_file "$1" 'task/*/status' | awk '/^voluntary_ctxt/ { n += $2 } END { print n }'; }
is_small() { [ "$(resident_kib "$1")" -le 7812 ]; }
wakes_rarely() {
        local before
        before=$(wake_ups "$1")
        sleep 5 # the period of a rate
        before=$((($(wake_ups "$1") - before) * 2))
        echo "$before" >"$LAB/wakes"
        [ "$before" -le 40 ]
}
an_idle_attached_host_has_8_megabytes_and_4_wake_ups_a_second() {
        local h
        h=$(attached | head -1)
        wait_for 20 wakes_rarely "$h" || fail "the daemon of $h wakes up $(cat "$LAB/wakes") times in 10 s"
        wait_for 60 is_small "$h" || fail "the daemon of $h has $(resident_kib "$h") KiB resident"
        echo "# an idle attached host: $(cat "$LAB/wakes") wake-ups in 10 s, $(resident_kib "$h") KiB resident" >>"$LAB/figures"
}

# One host after the other, because each waits for its units.
attached_hosts_leave_until_twelve_are_left() {
        local h
        [ "$(attached | wc -l)" -gt 12 ] || skip "only with CHECK_ALL=yes"
        for h in $(attached | tail -n +13); do
                host_exec "$h" fleetctl leave --yes >"$LAB/out" 2>&1 || fail "leave of $h: $(cat "$LAB/out")"
                grep -q "^Left: $h starts empty" "$LAB/out" || fail "leave of $h: $(cat "$LAB/out")"
                host_off "$h" || fail "$h does not shut down"
                LAB_HOSTS=$(others "$h" | tr '\n' ' ')
                echo "$LAB_HOSTS" >"$LAB/hosts"
        done
        wait_for 10 knows_machines alpha 17 || fail "alpha lists $(machines alpha | wc -l) machines"
}
hosts() { [ ! -e "$LAB/hosts" ] || LAB_HOSTS=$(cat "$LAB/hosts"); } # checks run in shells of their own

# The figures of the verbs are those of test-attached.sh of tests/conformance, which compares all of them with a voter.
own_is_gone() { ! known alpha own.service && ! host_exec "$1" systemctl -q is-active own.service; }
units_run_on_attached_hosts_and_fleetctl_works_there() {
        local h elsewhere
        hosts
        h=$(attached | tail -1)
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        runs_forever here.service <<<"[X-Fleet]"$'\n'"MachineID=$(host_machine_id "$h")"
        for elsewhere in $(seq "$(wc -w <<<"$LAB_HOSTS")"); do
                runs_forever free-"$elsewhere".service </dev/null
        done
        (cd "$LAB/units" && host_fleetctl "$h" start ./*.service) >"$LAB/out" 2>&1 || fail "start on $h: $(cat "$LAB/out")"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service | tr '\n' ' ')"
        runs_on here.service "$h" || fail "here.service runs on $(hosts_running here.service)"
        elsewhere=$(hosts_running free-1.service)
        for unit in free-1.service here.service; do
                fleetctl "$h" status "$unit" 2>&1 | grep -q 'Active: active (running)' || fail "status of $unit: $(fleetctl "$h" status "$unit" 2>&1)"
                fleetctl "$h" journal "$unit" 2>&1 | grep -q "here is $unit" || fail "journal of $unit, from $elsewhere: $(fleetctl "$h" journal "$unit" 2>&1)"
        done
        fleetctl "$h" why free-1.service >"$LAB/out" 2>&1 && grep -q "^free-1.service is active (running) on $elsewhere" "$LAB/out" || fail "why: $(cat "$LAB/out")"
        fleetctl "$h" cluster | grep -q "^this host  $h, attached to " || fail "cluster: $(fleetctl "$h" cluster 2>&1)"
        host_exec "$h" systemctl status --no-pager fleetd | grep -q 'Status: "attached, term ' || fail "$(host_exec "$h" systemctl status --no-pager fleetd)"
        printf '[Service]\nExecStart=/bin/sleep infinity\n' | host_exec "$h" tee /etc/fleet/units/own.service >"$LAB/out"
        wait_for 10 known alpha own.service || fail "the unit directory of $h is not read"
        host_exec "$h" rm /etc/fleet/units/own.service
        wait_for 10 own_is_gone "$h" || fail "the unit of the file that was removed runs on"
        identities >"$LAB/before"
        [ "$(wc -l <"$LAB/before")" -gt "$(wc -w <<<"$LAB_HOSTS")" ] || fail "too few units run: $(cat "$LAB/before")"
}

# Units with equal texts on a host with and on one without a replica: each verb prints the same about them, on both hosts.
verbs_about_a_unit_are_equal_for_each_host_that_runs_it_and_each_that_asks() {
        local h voter on at
        hosts
        h=$(attached | tail -1)
        voter=$(replicas | grep -vx "$(leader)" | head -1)
        for on in voter attached; do
                at=$([ $on = voter ] && echo "$voter" || echo "$h")
                unit_file on-$on.service <<END
[Service]
ExecStart=/bin/bash -c 'trap "echo got USR1" USR1; echo has started; while :; do sleep infinity & wait; kill \$\$!; done'
ExecReload=/bin/echo has reloaded
[X-Fleet]
MachineID=$(host_machine_id "$at")
END
                unit_file fails-on-$on.service <<END
[Service]
ExecStart=/bin/sh -c 'echo will fail; exit 1'
[X-Fleet]
MachineID=$(host_machine_id "$at")
END
        done
        fleetctl "$h" start on-voter.service on-attached.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        fleetctl "$h" start fails-on-voter.service fails-on-attached.service >"$LAB/out" 2>&1
        python3 "$here/unit_verbs.py" "$LAB_BUILD/client/fleetctl" "$(host_socket "$voter")" "$voter" "$(host_machine_id "$voter")" \
                "$(host_socket "$h")" "$h" "$(host_machine_id "$h")" >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        echo "# $(cat "$LAB/out")" >>"$LAB/figures"
        fleetctl "$h" destroy --yes on-voter.service on-attached.service fails-on-voter.service fails-on-attached.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        identities >"$LAB/before"
}

# replica_is_gone KIND REPLICA MS: host_of REPLICA writes meanwhile, and has no gap above MS.
replica_is_gone() {
        local kind=$1 replica=$2 limit=$3 h gap
        h=$(host_of "$replica") || fail "no attached host uses $replica"
        writer_start "$h" 4 "$kind-$replica"
        case $kind in
        killed) host_exec "$replica" systemctl kill -s KILL --kill-whom=main fleetd ;;
        stopped) host_exec "$replica" systemctl kill -s STOP --kill-whom=main fleetd ;;
        cut) host_cut "$replica" ;;
        esac
        wait_for 5 uses_another "$h" "$replica" || fail "$replica is $kind: $h uses $(replica_of "$h")"
        [ $kind != cut ] || host_heal "$replica" # before its units move
        wait "$WRITER"
        [ $kind != stopped ] || host_exec "$replica" systemctl kill -s CONT --kill-whom=main fleetd
        gap=$(writer_gap "$kind-$replica")
        echo "# $replica was $kind: $h had no acknowledged write for $gap ms" >>"$LAB/figures"
        [ "$gap" -le "$limit" ] || fail "$replica was $kind: $h had no acknowledged write for $gap ms"
        wait_for 20 writes "$replica" || fail "$replica was $kind, and accepts no writes"
        acknowledged_writes_are_there "$kind-$replica" "$h"
        acknowledged_writes_are_there "$kind-$replica" "$replica"
        WHAT="a replica that was $kind" untouched "$(cat "$LAB/before")"
}
# A host that has joined uses its first choice after 1 to 10 minutes, and until then often the replica that has admitted it.
several_are_used() { [ "$(for h in $(attached); do replica_of "$h"; done | sort -u | wc -l)" -ge 3 ]; }
replicas_that_are_killed_stopped_and_cut_touch_no_unit() {
        local kind r limit tested leader n
        hosts
        [ -z "${CHECK_ALL:-}" ] || wait_for 600 several_are_used || fail "attached hosts use less than 3 replicas"
        leader=$(leader)
        for kind in killed stopped cut; do
                tested=$(replica_of "$(attached | tail -1)")
                [ -z "${CHECK_ALL:-}" ] || tested=$(replicas)
                n=0
                for r in $tested; do
                        # By hash, twelve hosts may leave one of five without any; hardly three.
                        [ -z "${CHECK_ALL:-}" ] || host_of "$r" >"$LAB/out" || continue
                        n=$((n + 1))
                        limit=2000
                        # An election comes first if the leader is lost.
                        [ $kind != killed ] || [ "$r" = "$leader" ] || limit=$([ -n "${CHECK_ALL:-}" ] && echo 200 || echo 1000)
                        replica_is_gone $kind "$r" "$limit"
                        leader=$(leader)
                done
                [ $((2 * n)) -gt "$(wc -w <<<"$tested")" ] || fail "attached hosts use $n of $(wc -w <<<"$tested") replicas"
        done
}

# The clients of tests/conformance/attached.py: units are submitted on a voter; keys, units and events are read, written and watched on the attached host.
reads_writes_and_watches_are_correct_while_its_replica_is_cut() {
        local h replica voter
        hosts
        h=$(attached | tail -1)
        replica=$(replica_of "$h")
        voter=$(replicas | grep -vx "$replica" | head -1)
        rm -f "$LAB/now"
        python3 "$top/tests/conformance/attached.py" moves "$(host_socket "$voter")" "$(host_socket "$h")" cut touch "$LAB/now" >"$LAB/moves" 2>&1 &
        wait_for 20 test -e "$LAB/now" || fail "the clients do not begin: $(cat "$LAB/moves")"
        host_cut "$replica"
        wait_for 5 uses_another "$h" "$replica" || fail "$replica is cut: $h uses $(replica_of "$h")"
        host_heal "$replica" # before its units move
        wait $! || fail "the clients fail: $(cat "$LAB/moves")"
        ! grep '^not ok' "$LAB/moves" >"$LAB/out" || fail "$(cat "$LAB/out")"
        [ "$(grep -c '^ok ' "$LAB/moves")" = 7 ] || fail "the clients do not end: $(cat "$LAB/moves")"
        grep '^#' "$LAB/moves" >>"$LAB/figures"
        wait_for 20 writes "$replica" || fail "$replica was cut, and accepts no writes"
        WHAT="a replica that was cut" untouched "$(cat "$LAB/before")"
}

# The daemons of all replicas stand still: nothing is lost meanwhile, because no leader counts.
signal_replicas() { local r; for r in $(cat "$LAB/replicas"); do host_exec "$r" systemctl kill -s "$1" --kill-whom=main fleetd; done; }
reaches_no_replica() { fleetctl "$1" why here.service 2>&1 | grep -q 'no replica reachable'; }
without_a_replica_a_host_shows_its_own_units() {
        local h verb
        hosts
        h=$(hosts_running here.service)
        replicas >"$LAB/replicas"
        signal_replicas STOP
        wait_for 20 reaches_no_replica "$h" || { signal_replicas CONT; fail "why: $(fleetctl "$h" why here.service 2>&1)"; }
        for verb in status journal show; do
                host_exec "$h" curl -s -m 10 -o /dev/null -w "$verb %{http_code}\n" --unix-socket /run/fleet.sock "http://fleet/fleet/v1/$verb/here.service"
        done >"$LAB/here"
        # Without the cluster, its daemon lists what runs here.
        fleetctl "$h" list-units --local --no-legend --fields=unit,active 2>"$LAB/out" | tr -s '\t ' ' ' | LC_ALL=C sort >"$LAB/local"
        for verb in list-units why\ free-1.service plan\ here.service "token --uses=1" directory; do
                # shellcheck disable=SC2086
                fleetctl "$h" $verb >"$LAB/out" 2>&1 && echo "$verb succeeds: $(cat "$LAB/out")" >>"$LAB/here"
        done
        signal_replicas CONT
        identities "$h" | awk '{ print $2, $5 }' | LC_ALL=C sort | diff - "$LAB/local" >"$LAB/different" || fail "without a replica, list-units --local: $(cat "$LAB/different" "$LAB/out")"
        diff - "$LAB/here" <<<$'status 200\njournal 200\nshow 200' >"$LAB/out" || fail "without a replica: $(cat "$LAB/out")"
        wait_for 30 writes "$h" || fail "$h accepts no writes"
        # shellcheck disable=SC2086
        cluster_whole $LAB_HOSTS
        WHAT="the silence of all replicas" untouched "$(cat "$LAB/before")"
}

an_attached_host_without_power_loses_its_units_to_others() {
        local h moved start others_before
        hosts
        h=$(attached | head -1)
        moved=$(identities "$h" | grep -o 'free-[0-9]*.service')
        [ -n "$moved" ] || fail "no ordinary unit runs on $h"
        others_before=$(identities $(others "$h"))
        start=$(now_ms)
        host_kill "$h" || fail "cannot cut the power"
        wait_for 6 run_elsewhere $moved || fail "units of $h: $(for u in $moved; do echo "$u on: $(hosts_running "$u" | tr '\n' ' ');"; done)"
        start=$(($(now_ms) - start))
        echo "# $(wc -w <<<"$moved") units of $h, which is attached, ran elsewhere $start ms after the cut of its power" >>"$LAB/figures"
        [ $start -le 4000 ] || fail "units of $h ran elsewhere after $start ms"
        [ "$others_before" = "$(identities $(others "$h") | grep -vF "$(sed 's/^/ /; s/$/ /' <<<"$moved")")" ] || fail "units of other hosts were touched"
        hosts_up "$h"
        wait_for 30 knows_machines "$h" "$(wc -w <<<"$LAB_HOSTS")" || fail "$h lists $(machines "$h" | wc -l) machines"
        wait_for 20 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service | tr '\n' ' ')"
        identities >"$LAB/before"
}
run_elsewhere() { local u; for u in "$@"; do runs_once "$u" || return 1; done; }

# The last attached host starts its units from its records after BootWaitSec=, 30 s. The quorum is gone for ten minutes.
no_quorum() { key_put "$1" /unknown x | grep -qE 'no leader|no replica'; }
all_run_on() { local u; for u in $(cat "$LAB/units-of-it"); do hosts_running "$u" | grep -qx "$1" || return 1; done; }
without_a_quorum_a_host_that_boots_starts_its_units_and_no_unit_stops() {
        local h voters killed witness start before started gone
        hosts
        [ -n "${CHECK_ALL:-}" ] || skip "only with CHECK_ALL=yes: test-quorum.sh has it for hosts with a replica"
        h=$(attached | tail -1)
        voters=$(roles_of alpha | awk '$2 == "voter" || $2 == "leader" { print $1 }')
        killed=$(head -2 <<<"$voters" | tr '\n' ' ')
        witness=$(tail -1 <<<"$voters")
        identities "$h" | cut -d' ' -f2 >"$LAB/units-of-it"
        # shellcheck disable=SC2086,SC2046
        before=$(identities $(others "$h" | grep -vxF "$(tr ' ' '\n' <<<"$killed" | grep .)"))
        for start in $killed; do
                host_kill "$start" || fail "cannot cut the power of $start"
        done
        wait_for 10 no_quorum "$witness" || fail "a write says: $(key_put "$witness" /unknown x)"
        wait_for 10 no_quorum "$h" || fail "a write on $h says: $(key_put "$h" /unknown x)"
        gone=$(now_ms)
        host_kill "$h" || fail "cannot cut the power of $h"
        start=$(now_ms)
        hosts_up "$h"
        wait_for 60 all_run_on "$h" || fail "units of $h: $(for u in $(cat "$LAB/units-of-it"); do echo "$u on: $(hosts_running "$u" | tr '\n' ' ');"; done)"
        echo "# without a quorum, $h started its $(wc -l <"$LAB/units-of-it") units $(($(now_ms) - start)) ms after its power returned" >>"$LAB/figures"
        started=$(identities "$h")
        sleep $(((600000 - ($(now_ms) - gone)) / 1000)) # the tested time
        no_quorum "$witness" || fail "a write says: $(key_put "$witness" /unknown x)"
        # shellcheck disable=SC2086,SC2046
        WHAT="ten minutes without a quorum" untouched "$before" $(others "$h" | grep -vxF "$(tr ' ' '\n' <<<"$killed" | grep .)")
        WHAT="ten minutes without a quorum" untouched "$started" "$h"
        before=$started
        # shellcheck disable=SC2086
        hosts_up $killed
        cluster_whole $LAB_HOSTS
        wait_for 30 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service | tr '\n' ' ')"
        WHAT="the return of the quorum" untouched "$before" "$h"
        identities >"$LAB/before"
}

root_of() { fleetctl alpha ca | awk 'NR == 2 { print $1 }'; }
one_root() { [ "$(fleetctl alpha ca 2>/dev/null | grep -c current)" = 1 ] && [ "$(fleetctl alpha ca | wc -l)" = 2 ] && [ "$(root_of)" != "$1" ]; }
the_ca_is_rotated_while_two_attached_hosts_are_off() {
        local off h root
        hosts
        [ -n "${CHECK_ALL:-}" ] || skip "only with CHECK_ALL=yes: attached hosts renew as others do"
        off=$(attached | head -2)
        root=$(root_of)
        for h in $off; do
                host_exec "$h" systemctl stop fleetd || fail "fleetd does not stop on $h"
        done
        host_exec alpha fleetctl ca rotate --yes >"$LAB/out" 2>&1 || fail "rotate: $(cat "$LAB/out")"
        wait_for 120 one_root "$root" || fail "roots: $(fleetctl alpha ca 2>&1)"
        for h in $off; do
                host_exec "$h" systemctl start fleetd || fail "fleetd does not start on $h"
                wait_for 30 writes "$h" || fail "$h does not return: $(host_exec "$h" journalctl -u fleetd -n 5 -o cat --no-pager)"
        done
        cluster_whole $LAB_HOSTS
        WHAT="the rotation" untouched "$(cat "$LAB/before")"
}

# The hosts without a replica follow a host that was recovered, without a command.
attached_have_reported() { fleetctl "$1" cluster | grep '^waits for ' | grep -v "$(sed 's/.*/\\b&\\b/' "$LAB/attached" | paste -sd'|' | sed 's/|/\\|/g')"; }
recovers() { host_exec "$1" fleetctl recover --yes="$1" >"$LAB/out" 2>&1; }
attached_hosts_follow_a_replica_that_was_recovered() {
        local r lost h start end
        hosts
        attached >"$LAB/attached"
        r=$(replicas | tail -1)
        lost=$(replicas | grep -vx "$r")
        # shellcheck disable=SC2046
        identities "$r" $(cat "$LAB/attached") >"$LAB/before"
        for h in $lost; do
                host_kill "$h" || fail "cannot cut the power of $h"
        done
        wait_for 10 no_quorum "$r" || fail "a write says: $(key_put "$r" /unknown x)"
        wait_for 30 recovers "$r" || fail "recover: $(cat "$LAB/out")" # it is refused while sessions to the others seem to be open
        start=$(now_ms)
        # All hosts that are up report what they run; the lost ones do not, and the operator ends the wait for them.
        wait_for 60 attached_have_reported "$r" || fail "the adoption: $(fleetctl "$r" cluster 2>&1)"
        echo "# all attached hosts had reported their units $(($(now_ms) - start)) ms after the recovery" >>"$LAB/figures"
        host_exec "$r" fleetctl cluster stop-waiting --yes >"$LAB/out" 2>&1 || fail "stop-waiting: $(cat "$LAB/out")"
        end=$(now_ms)
        for h in $(cat "$LAB/attached"); do
                wait_for 30 writes "$h" || fail "$h does not follow: $(host_exec "$h" journalctl -u fleetd -n 5 -o cat --no-pager)"
        done
        end=$(($(now_ms) - end))
        echo "# $(wc -l <"$LAB/attached") attached hosts followed $end ms after the adoption" >>"$LAB/figures"
        [ $end -le 30000 ] || fail "$(wc -l <"$LAB/attached") attached hosts followed $end ms after the adoption"
        # Units of the lost hosts start elsewhere: what ran before is compared.
        # shellcheck disable=SC2046
        diff "$LAB/before" <(identities "$r" $(cat "$LAB/attached")) | grep '^<' >"$LAB/touched"
        [ ! -s "$LAB/touched" ] || fail "the recovery touched units: $(cat "$LAB/touched")"
}

scenario hosts_join_by_one_token an_idle_attached_host_has_8_megabytes_and_4_wake_ups_a_second attached_hosts_leave_until_twelve_are_left units_run_on_attached_hosts_and_fleetctl_works_there \
        verbs_about_a_unit_are_equal_for_each_host_that_runs_it_and_each_that_asks \
        replicas_that_are_killed_stopped_and_cut_touch_no_unit reads_writes_and_watches_are_correct_while_its_replica_is_cut without_a_replica_a_host_shows_its_own_units an_attached_host_without_power_loses_its_units_to_others \
        without_a_quorum_a_host_that_boots_starts_its_units_and_no_unit_stops the_ca_is_rotated_while_two_attached_hosts_are_off \
        attached_hosts_follow_a_replica_that_was_recovered
