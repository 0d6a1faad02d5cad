#!/bin/bash
# Singleton=yes: at most one process in the cluster, by the times that the processes write, while fleetd stands still and while hosts
# are cut off, with clocks that differ. Other units are untouched. Takes 60 s. CHECK_ALL=yes: 500 random faults, on four clusters at the same
# time (1200 s); SINGLETON_FAULTS=N: so many on one; SINGLETON_SEED=N repeats their order. SINGLETON_DRIFT=600000, of each clock, has to fail.
#
# The clocks of fleetd and of the guards (tests/lab/clock.c) have other starting points, and differ by up to 2 percent between two hosts. The
# lease, its renewal, its end in the guard and the wait of the engine are measured by them. The timers of systemd, the watchdog of a guard and the
# timeout of a stop, are those of the kernel, which all hosts have in common: they do not drift here. In tests/sim/test-singleton.c, they do.
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
DRIFT=${SINGLETON_DRIFT:-9900} # millionths: those of two hosts differ by less than 2 percent
CLOCK="LD_PRELOAD=/usr/local/lib/lab-clock.so FLEETD_LAB_CLOCK=/usr/local/lib/lab-clock"

# Let fleetd and the guards of a host run by a clock that begins 1000 s, or more, ahead of the kernel's.
clock_install() {
        local lib=$LAB/$1/up/usr/local/lib u=$LAB/$1/up/etc/systemd/system unit
        host_make "$1" && mkdir -p "$lib" && cp "$LAB/clock.so" "$lib/lab-clock.so" || fail "no clock for $1"
        for unit in fleetd.service fleet-singleton@.service; do
                mkdir -p "$u/$unit.d"
                printf '[Service]\nEnvironment=%s\n' "$CLOCK" >"$u/$unit.d/lab-clock.conf"
        done
        head -c 16384 /dev/zero >"$lib/lab-clock"
        clock_write "$lib/lab-clock" 0 $((1000 * $(host_number "$1")))
}

# clock_write FILE MILLIONTHS [SECONDS]: the clock is faster by so much, from 0.1 s on. SECONDS: it begins so far ahead.
clock_write() {
        python3 - "$@" <<'END' || fail "cannot change the clock $1"
import os, struct, sys, time
fd = os.open(sys.argv[1], os.O_RDWR)
records = [r for r in struct.iter_unpack("qqq", os.pread(fd, 16384 // 24 * 24, 0)) if r[0]]
now = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 10**8
ahead = int(sys.argv[3]) * 10**9 if len(sys.argv) > 3 else records[-1][1] + (now - records[-1][0]) * records[-1][2] // 10**6
os.pwrite(fd, struct.pack("qqq", now, ahead, int(sys.argv[2])), 24 * len(records))
END
}

clock_drift() { clock_write "/proc/$(host_init "$1")/root/usr/local/lib/lab-clock" "$2"; }
clock_drift_somehow() { clock_drift "$1" $(((RANDOM % 201 - 100) * DRIFT / 100)); }

# The worst case: the host of the lease is slow, and the others, one of which is to be the next, are fast.
clocks_differ() {
        local h
        for h in $LAB_HOSTS; do
                if [ "$h" = "$1" ]; then clock_drift "$h" -$DRIFT; else clock_drift "$h" $DRIFT; fi
        done
}

# The time of a host in ms, by its clock; with a second argument, by the kernel's.
clock_ms() { host_exec "$1" env ${2-$CLOCK} python3 -c 'import time; print(time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 10**6)'; }

a_singleton_and_other_units() {
        local h
        gcc -O2 -shared -fPIC -Wall -Werror -o "$LAB/clock.so" "$here/clock.c" 2>"$LAB/out" || fail "clock.c: $(cat "$LAB/out")"
        for h in $LAB_HOSTS; do clock_install "$h"; done
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

# The end of the lease, which fleetd writes by its clock, and at which the guard ends by its own.
each_host_has_its_own_clock() {
        local h end here_ms kernel_ms
        h=$(hosts_running single.service)
        end=$(host_exec "$h" cat /run/fleet/units/.leases/single.service)
        here_ms=$(clock_ms "$h")
        kernel_ms=$(clock_ms "$h" "")
        [ "$here_ms" -gt $((kernel_ms + 999000)) ] || fail "the clock of $h is that of the kernel: $here_ms"
        [ "$end" -gt "$here_ms" ] && [ "$end" -le $((here_ms + LEASE * 1000)) ] || fail "the lease ends at '$end', and it is $here_ms"
        host_exec "$h" sh -c 'grep -q lab-clock.so /proc/$(systemctl show -P MainPID fleet-singleton@single.service.service)/maps' ||
                fail "the guard has the clock of the kernel"
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
        clocks_differ "$h"
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
        clocks_differ "$h"
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
random_faults() {
        local h i hosts kind kinds=(cut stopped killed leader paused guard drift)
        local -A counts=()
        read -r -a hosts <<<"$LAB_HOSTS"
        RANDOM=${SINGLETON_SEED:=$((RANDOM + 1))}
        for h in $LAB_HOSTS; do clock_drift_somehow "$h"; done
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
                drift) if ((RANDOM % 2)); then clocks_differ "$h"; else clock_drift_somehow "$h"; fi ;;
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

scenario a_singleton_and_other_units each_host_has_its_own_clock a_daemon_that_stands_still_keeps_no_singleton a_host_without_contact_keeps_no_singleton ${SINGLETON_FAULTS:+by_hand_it_starts_with_a_lease_only random_faults}
