#!/bin/bash
# What units use, on six booted hosts, one of them attached: the figures of top are those of the kernel, a host that does not answer is one line, and
# without a reader there is no child and no look at a cgroup. Takes 80 s.
LAB_HOSTS="alpha n1 n2 n3 n4 n5" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"

everywhere_runs() { [ "$(fleetctl alpha list-units --no-legend --fields=active everywhere.service | grep -c '^active')" = 6 ]; }
# The file $2 of the cgroup of everywhere.service on host $1.
of_the_kernel() { host_exec "$1" sh -c 'cat $(find /sys/fs/cgroup -path "*/everywhere.service/'"$2"'" | head -1) 2>/dev/null'; }
cpu_of() { of_the_kernel "$1" cpu.stat | awk '$1 == "usage_usec" { print $2 }'; }

a_unit_runs_on_each_host() {
        local h
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        # shellcheck disable=SC2046
        join_at_once $(others alpha)
        [ "$(attached | wc -l)" = 1 ] || fail "attached: $(attached)"
        unit_file everywhere.service <<'END'
[Service]
ExecStart=/bin/sh -c 'while :; do sleep 0.05; done'
[X-Fleet]
Global=true
END
        fleetctl alpha start everywhere.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 20 everywhere_runs || fail "$(fleetctl alpha list-units)"
        for h in $LAB_HOSTS; do
                echo "# $h $(roles_of alpha | awk -v h="$h" '$1 == h { print $2 }')" >>"$LAB/figures"
        done
}

# check_counters LINES: each line "HOST BEFORE AFTER"; stdin is the output of top.
check_counters() { python3 -c '
import json, sys
lines = {m["hostname"]: m for m in map(json.loads, sys.stdin)}
for line in open(sys.argv[1]):
    host, before, after = line.split()
    units = {u["name"]: u for u in lines[host]["units"]}
    cpu = units["everywhere.service"]["cpu"]
    assert int(before) <= cpu <= int(after), (host, before, cpu, after)
    assert lines[host]["host"]["busy"] > 0 and lines[host]["host"]["disk"]["free"] > 0, lines[host]
' "$1"; }

counters_are_between_two_reads_of_the_kernels_files() {
        local h from
        for from in alpha $(attached); do
                : >"$LAB/counters"
                for h in $LAB_HOSTS; do
                        echo "$h $(cpu_of "$h")" >>"$LAB/counters"
                done
                host_exec "$from" fleetctl top --once --output=json >"$LAB/top" 2>"$LAB/out" || fail "top on $from: $(cat "$LAB/out" "$LAB/top")"
                for h in $LAB_HOSTS; do
                        sed -i "s/^$h .*/& $(cpu_of "$h")/" "$LAB/counters"
                done
                check_counters "$LAB/counters" <"$LAB/top" 2>"$LAB/out" || fail "top on $from: $(tail -1 "$LAB/out")"
        done
        host_exec alpha fleetctl top --once 'every*' >"$LAB/top" 2>&1 || fail "$(cat "$LAB/top")"
        [ "$(grep -c '^everywhere.service.* %' "$LAB/top")" = 6 ] || fail "rates: $(cat "$LAB/top")"
        host_exec alpha fleetctl top --once --machines >"$LAB/top" 2>&1 || fail "$(cat "$LAB/top")"
        [ "$(grep -c ' %' "$LAB/top")" = 6 ] || fail "machines: $(cat "$LAB/top")"
}

children_on() { host_exec "$1" sh -c 'pgrep -fc -- "[-]-usage --interval"'; }
no_child_anywhere() { local h; for h in $LAB_HOSTS; do [ "$(children_on "$h")" = 0 ] || return 1; done; }
one_child_everywhere() { local h; for h in $LAB_HOSTS; do [ "$(children_on "$h")" = 1 ] || return 1; done; }
children() { local h; for h in $LAB_HOSTS; do echo "$h $(children_on "$h")"; done | tr '\n' ' '; }

# The daemons, and what they start, open nothing below /sys/fs/cgroup for 6 s.
nothing_is_read() {
        local h
        for h in $LAB_HOSTS; do
                host_exec "$h" sh -c 'timeout 6 strace -f -qq -e trace=open,openat -o /run/opened -p $(systemctl show -P MainPID fleetd)' &
        done
        wait
        for h in $LAB_HOSTS; do
                host_exec "$h" test -e /run/opened || fail "strace on $h"
                [ "$(host_exec "$h" grep -c /sys/fs/cgroup /run/opened)" = 0 ] || fail "$h, $1: $(host_exec "$h" grep /sys/fs/cgroup /run/opened | head -3)"
        done
}

without_a_reader_nothing_is_read() {
        wait_for 5 no_child_anywhere || fail "children: $(children)"
        nothing_is_read "before"
        host_exec alpha sh -c 'exec fleetctl top --output=json --interval=1s >/run/top 2>&1' &
        wait_for 10 one_child_everywhere || fail "children: $(children)"
        # Another reader of the same user is refused, and so is named.
        ! host_exec alpha fleetctl top --once --machine=n1 >"$LAB/out" 2>&1 || fail "a second reader: $(cat "$LAB/out")"
        grep -q "this user" "$LAB/out" || fail "a second reader: $(cat "$LAB/out")"
        host_exec alpha pkill -KILL -f 'fleetctl top' || fail "no client to kill"
        wait
        wait_for 5 no_child_anywhere || fail "children after the client: $(children)"
        nothing_is_read "after"
}

is_refused() { host_exec alpha fleetctl top --once >"$LAB/top" 2>"$LAB/out"; grep -q "^– $1: " "$LAB/out"; }
a_host_that_is_stopped_is_one_line() {
        signal_daemon STOP n2 || fail "n2 is not stopped"
        wait_for 5 is_refused n2 || fail "$(cat "$LAB/top" "$LAB/out")"
        [ "$(grep -c ^ "$LAB/out")" = 1 ] || fail "lines: $(cat "$LAB/out")"
        [ "$(grep -c '^everywhere.service' "$LAB/top")" = 5 ] || fail "the others: $(cat "$LAB/top")"
        signal_daemon CONT n2
        wait_for 30 host_exec alpha fleetctl top --once --machine=n2 || fail "n2 continues"
        wait_for 10 no_child_anywhere || fail "children: $(children)"
}

scenario a_unit_runs_on_each_host counters_are_between_two_reads_of_the_kernels_files without_a_reader_nothing_is_read \
        a_host_that_is_stopped_is_one_line
