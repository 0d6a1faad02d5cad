#!/bin/bash
# Figures of a cluster of three booted hosts: from `fleetctl start` to running, for one unit and for a hundred, and from a
# power cut to the replacement; many units at once, and the longest turns of the loop then. Prints; asserts nothing but that it could measure. Needs root and tests/lab/deps.sh.
#
#   LAB_BUILD=build tests/bench/lab.sh
set -u
BENCH_ROUNDS=${BENCH_ROUNDS:-3}
LAB_NAME=${LAB_NAME:-bench}
. "$(dirname "$(realpath "$0")")/../lab/scenario.sh"

quit() { echo "bench: $*" >&2; exit 1; }
trap lab_down EXIT

# min, median and max of the numbers on stdin, one a line.
figures() { sort -n | awk '{ v[NR] = $1 } END { printf "%8d %8d %8d", v[1], v[int((NR + 1) / 2)], v[NR] }'; }
report() { printf '  %-58s %s ms (min median max of %d)\n' "$1" "$(figures <"$LAB/$2")" "$(wc -l <"$LAB/$2")"; }

# Runs a command and notes how long it took in the file $1.
timed() {
        local to=$LAB/$1 start
        shift
        start=$(now_ms)
        "$@" >"$LAB/out" 2>&1 || quit "$*: $(tail -1 "$LAB/out")"
        echo $(($(now_ms) - start)) >>"$to"
}

free_on_bench() { hosts_running one.service | head -1; }

only_templates() { ! fleetctl alpha list-unit-files --no-legend --fields=unit 2>/dev/null | grep -v '@[.]' | grep -q .; }

all_loaded() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,load 2>/dev/null | grep -c loaded)" = 1500 ]; }

# Sets the longest turns back to none.
restart() {
        local h
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl restart fleetd && wait_for 60 cluster_whole || quit "$h does not come back"
        done
}
all_groups_run() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,active 2>/dev/null | grep -c '^rule-.*active')" = "$1" ]; }

# The longest turn of each host's loop since its daemon started, in ms of the thread's processor time.
turns() {
        local h
        printf '  %-58s' "$1"
        for h in $LAB_HOSTS; do
                printf ' %s %s ms' "$h" "$(curl -sS --unix-socket "$(host_socket "$h")" http://fleet/metrics | awk '$1 == "fleet_loop_turn_cpu_max_seconds" { print $2 * 1000 }')"
        done
        echo
}

lab_up || quit "failed to create the lab"
(cluster_up) || quit "no cluster: $(cat "$LAB/why" 2>/dev/null)"
runs_forever one.service </dev/null
runs_forever many@.service </dev/null
hundred=$(seq -f 'many@%g.service' 100)

echo "Three booted hosts on $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg); hosts, clients and this script share the cores"
for _ in $(seq "$BENCH_ROUNDS"); do
        timed one fleetctl alpha start one.service
        timed one-gone fleetctl alpha destroy one.service
done
report "one unit, fleetctl start until it runs" one
report "one unit, fleetctl destroy" one-gone

fleetctl alpha submit many@.service >"$LAB/out" 2>&1 || quit "submit: $(tail -1 "$LAB/out")"
for _ in $(seq "$BENCH_ROUNDS"); do
        # shellcheck disable=SC2086
        timed many fleetctl alpha start $hundred
        # shellcheck disable=SC2086
        timed many-gone fleetctl alpha destroy $hundred
done
report "100 units, fleetctl start until all run" many
report "100 units, fleetctl destroy" many-gone

many=$(seq -f 'many@%g.service' 1500)
for _ in $(seq "$BENCH_ROUNDS"); do
        # shellcheck disable=SC2086
        timed crowd fleetctl alpha load --no-block $many
        # A destroy beside the loads measures how far they are.
        start=$(now_ms)
        wait_for 120 all_loaded || quit "1500 units are not loaded"
        echo $(($(now_ms) - start)) >>"$LAB/crowd-loaded"
        # shellcheck disable=SC2086
        timed crowd-gone fleetctl alpha destroy $many
        wait_for 60 only_templates || quit "units are left: $(fleetctl alpha list-unit-files --no-legend | head -3)"
done
report "1500 units, fleetctl load --no-block" crowd
report "... then until all are loaded" crowd-loaded
report "1500 loaded units, fleetctl destroy" crowd-gone
turns "... the longest turns, CPU of"

restart
host_exec alpha sh -c 'printf "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n" >/run/systemd/system/loaded@.service
        systemctl daemon-reload && systemctl start $(seq -f loaded@%g.service 2000)' >"$LAB/out" 2>&1 || quit "2000 units do not start: $(tail -1 "$LAB/out")"
for _ in $(seq "$BENCH_ROUNDS"); do
        timed reload host_exec alpha systemctl daemon-reload
done
report "daemon-reload on a host with 2000 loaded units" reload
sleep 5
turns "... the longest turns, CPU of"
host_exec alpha sh -c 'systemctl stop "loaded@*.service"' >"$LAB/out" 2>&1 || quit "2000 units do not stop: $(tail -1 "$LAB/out")"

fleetctl alpha start one.service >"$LAB/out" 2>&1 || quit "start: $(tail -1 "$LAB/out")"
for _ in $(seq "$BENCH_ROUNDS"); do
        victim=$(free_on_bench)
        [ -n "$victim" ] || quit "one.service runs nowhere"
        start=$(now_ms)
        host_kill "$victim" || quit "cannot cut the power of $victim"
        wait_for 60 runs_once one.service || quit "one.service does not come back"
        echo $(($(now_ms) - start)) >>"$LAB/replaced"
        (hosts_up "$victim"; cluster_whole) || quit "$victim does not come back: $(cat "$LAB/why" 2>/dev/null)"
        wait_for 60 three_vote "$victim" || quit "three hosts, but not three voters"
done
report "power cut until the unit runs elsewhere" replaced

restart
host_exec alpha sh -c 'for i in $(seq 10000); do
        printf "[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nConflicts=rule-%d-*.service\n" $((i % 100)) >/etc/fleet/units/rule-$((i % 100))-$i.service
done' || quit "10,000 files cannot be written"
start=$(now_ms)
wait_for 120 all_groups_run 300 || quit "of 100 groups of 100 units on 3 hosts run $(fleetctl alpha list-units --no-legend --fields=unit,active | grep -c active)"
echo $(($(now_ms) - start)) >>"$LAB/rules"
report "10000 units with Conflicts=, until 3 of each 100 run" rules
turns "... the longest turns, CPU of"
