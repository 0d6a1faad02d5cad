#!/bin/bash
# Singleton=yes: at most one process in the cluster, by the times that the processes write, while fleetd stands still and while hosts
# are cut off. Other units are untouched. Takes 105 s. CHECK_ALL=yes: 500 random faults, on four clusters at the same time (1200 s);
# SINGLETON_FAULTS=N: so many on one; SINGLETON_SEED=N repeats their order.
if [ -n "${CHECK_ALL:-}" ] && [ -z "${SINGLETON_FAULTS:-}" ]; then
        out=$(mktemp -d)
        for n in 1 2 3 4; do
                LAB_NAME=${LAB_NAME:-test-singleton}-$n SINGLETON_FAULTS=125 bash "$0" >"$out/$n" 2>&1 || touch "$out/failed" &
        done
        wait
        for n in 1 2 3 4; do
                sed "s/^\(not \)\?ok [a-z]*/&_on_cluster_$n/" "$out/$n"
        done
        [ ! -e "$out/failed" ]
        failed=$?
        rm -r "$out"
        exit $failed
fi
. "$(dirname "$0")/scenario.sh"

LEASE=10 WATCHDOG=5 STOP=2 # s
HOLD=$(((LEASE + WATCHDOG + STOP) * 102 / 100 + 2))

a_singleton_and_other_units() {
        local h
        cluster_up
        for h in $LAB_HOSTS; do
                # One line each 20 ms: time, process, token.
                host_exec $h tee /usr/local/bin/single >/dev/null <<'END'
#!/bin/sh
while :; do echo "$(date +%s%3N) $$ $FLEET_TOKEN" >>/var/tmp/single; sleep 0.02; done
END
                host_exec $h chmod +x /usr/local/bin/single
        done
        unit_file single.service <<END
[Service]
ExecStart=/usr/local/bin/single
TimeoutStopSec=$STOP
Restart=always
[X-Fleet]
Singleton=yes
END
        runs_forever plain.service </dev/null
        unit_file everywhere.service <<<$'[Service]\nExecStart=/bin/sleep 1d\n[X-Fleet]\nGlobal=yes'
        fleetctl alpha start single.service plain.service everywhere.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_once single.service || fail "it runs on: $(hosts_running single.service)"
        identities | grep -v single.service >"$LAB/before"
}

# The intervals of all processes: from their first to their last line. No two overlap, and a later one has no lower token.
never_two() {
        local h n
        for h in $LAB_HOSTS; do
                host_exec "$h" cat /var/tmp/single 2>/dev/null | awk -v h="$h" 'NF == 3 { k = $2 " " $3; if (!(k in first)) first[k] = $1; last[k] = $1 }
                        END { for (k in first) print first[k], last[k], h, k }'
        done | sort -n >"$LAB/intervals"
        n=$(wc -l <"$LAB/intervals")
        [ "$n" -ge "${1:-1}" ] || fail "only $n processes: $(cat "$LAB/intervals")"
        awk 'NR > 1 && ($1 <= end || $5 + 0 < token) { print "two at once, or an older token: " line " | " $0; bad = 1 } { end = $2; token = $5; line = $0 } END { exit bad }' \
                "$LAB/intervals" >"$LAB/out" || fail "$(cat "$LAB/out")"
}

# only_the_singleton_changed WHAT [UNIT]: a host that is cut off for long is lost, and its units move; UNIT does not.
only_the_singleton_changed() {
        diff <(grep -F " ${2:-}" "$LAB/before") <(identities | grep -v single.service | grep -F " ${2:-}") >"$LAB/now" ||
                fail "$1 touched units: $(grep '^[<>]' "$LAB/now" | tr '\n' ' ')"
}

a_daemon_that_stands_still_keeps_no_singleton() {
        local h began
        h=$(hosts_running single.service)
        began=$(now_ms)
        host_exec "$h" systemctl kill -s STOP fleetd || fail "no STOP"
        wait_for $((LEASE + WATCHDOG + STOP)) runs_nowhere single.service || fail "it still runs on $(hosts_running single.service)"
        echo "stopped by systemd after $(($(now_ms) - began)) ms"
        only_the_singleton_changed "STOP of fleetd"
        wait_for 60 runs_once single.service || fail "it runs on: $(hosts_running single.service)"
        echo "runs again on $(hosts_running single.service) after $(($(now_ms) - began)) ms"
        host_exec "$h" systemctl kill -s CONT fleetd 2>/dev/null
        cluster_whole
        never_two 2
        only_the_singleton_changed "return of fleetd"
}

a_host_without_contact_keeps_no_singleton() {
        local h began
        wait_for 30 runs_once single.service || fail "it runs on: $(hosts_running single.service)"
        h=$(hosts_running single.service)
        began=$(now_ms)
        host_cut "$h"
        wait_for $((LEASE + WATCHDOG + STOP)) runs_nowhere single.service || fail "it still runs on $(hosts_running single.service)"
        echo "stopped on the cut host after $(($(now_ms) - began)) ms"
        wait_for $((HOLD + 10)) runs_once single.service || fail "it runs on: $(hosts_running single.service)"
        [ "$(hosts_running single.service)" != "$h" ] || fail "it runs on the cut host"
        echo "runs on $(hosts_running single.service) after $(($(now_ms) - began)) ms"
        host_heal "$h"
        cluster_whole
        never_two 3
}

by_hand_it_starts_with_a_lease_only() {
        local h
        wait_for 30 runs_once single.service || fail "it runs on: $(hosts_running single.service)"
        h=$(hosts_running single.service)
        host_cut "$h"
        wait_for $((LEASE + WATCHDOG + STOP)) runs_nowhere single.service || fail "it still runs on $(hosts_running single.service)"
        ! host_exec "$h" systemctl start single.service 2>/dev/null || fail "systemctl starts it without a lease"
        runs_nowhere single.service || runs_once single.service || fail "it runs on: $(hosts_running single.service)"
        host_heal "$h"
        cluster_whole
        never_two 3
}

# A pause is shorter than the lease and the watchdog: after a longer one, two processes may run until systemd has stopped the older one (fleet.unit(5)).
# The hosts have one clock; clocks that differ are in tests/sim/test-singleton.c.
random_faults() {
        local h i hosts kind kinds=(cut stopped killed leader paused guard)
        local -A counts=()
        read -r -a hosts <<<"$LAB_HOSTS"
        RANDOM=${SINGLETON_SEED:=$((RANDOM + 1))}
        for ((i = 0; i < SINGLETON_FAULTS; i++)); do
                h=$(hosts_running single.service | head -1)
                [ -n "$h" ] && ((RANDOM % 3)) || h=${hosts[RANDOM % ${#hosts[@]}]}
                kind=${kinds[RANDOM % ${#kinds[@]}]}
                case $kind in
                cut) host_cut "$h"; sleep $((RANDOM % 40)); host_heal "$h" ;;
                stopped) host_exec "$h" systemctl kill -s STOP fleetd; sleep $((RANDOM % 25)); host_exec "$h" systemctl kill -s CONT fleetd ;;
                killed) host_exec "$h" systemctl kill -s KILL fleetd; sleep $((RANDOM % 5)) ;;
                leader) wait_for 10 leader && host_exec "$(leader)" systemctl restart fleetd ;;
                paused) host_pause "$h"; sleep $((RANDOM % (LEASE + WATCHDOG - 2))); host_resume "$h" ;;
                guard) host_exec "$h" systemctl kill -s KILL "fleet-singleton@single.service.service" 2>/dev/null; sleep 1 ;;
                esac
                counts[$kind]=$((${counts[$kind]:-0} + 1))
                ((i % 20)) || never_two
        done
        for h in $LAB_HOSTS; do host_heal "$h"; host_exec "$h" systemctl start fleetd; done
        cluster_whole
        wait_for 60 runs_once single.service || fail "it runs on: $(hosts_running single.service)"
        never_two
        only_the_singleton_changed "random faults" everywhere.service
        echo "# seed $SINGLETON_SEED: $(for kind in "${kinds[@]}"; do echo -n "${counts[$kind]:-0} $kind, "; done)$(wc -l <"$LAB/intervals") processes, never two" >>"$LAB/figures"
}

scenario a_singleton_and_other_units a_daemon_that_stands_still_keeps_no_singleton a_host_without_contact_keeps_no_singleton ${SINGLETON_FAULTS:+by_hand_it_starts_with_a_lease_only random_faults}
