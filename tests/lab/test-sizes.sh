#!/bin/bash
# Room of hosts: with 1 GiB of each, a request that fits nowhere waits and says what is free, a unit without a request does not wait, and the unit that
# the answer names, unloaded, makes room. A host that gets smaller stops nothing. Wrong Reserve= is named, and costs nothing. Sizes that are unchanged
# take no entry of the log.
# Takes 40 s.
. "$(dirname "$0")/scenario.sh"

# reserve HOST VALUE: set Reserve= there, and let the daemon read it.
reserve() { printf '[Fleetd]\nReserve=%s\n' "$2" | host_exec "$1" sh -c 'cat >/etc/fleet/fleetd.conf.d/20-sizes.conf && systemctl reload fleetd'; }
# The MiB of memory that the host has, without those of large pages.
physical() { host_exec "$1" awk '/^MemTotal:/ { n = $2 } /^HugePages_Total:/ { huge = $2 } /^Hugepagesize:/ { n -= huge * $2 } END { print int(n / 1024) }' /proc/meminfo; }
# unit NAME OPTION [SETTING]: start a unit with an option of fleet, and a setting of systemd.
unit() {
        printf '[Service]\nExecStart=/bin/sleep infinity\n%s\n[X-Fleet]\n%s\n' "${3:-}" "$2" | unit_file "$1"
        fleetctl alpha start --no-block "$1" >"$LAB/out" 2>&1 || fail "start of $1: $(cat "$LAB/out")"
}
why() { fleetctl alpha why "$1" 2>&1; }
why_has() { why "$1" | grep -qF -- "$2"; }
each_runs_a_big_one() { [ "$(for i in 1 2 3; do hosts_running "big$i.service"; done | sort -u | wc -l)" = 3 ]; }
said_since() { host_exec "$1" journalctl -q -u fleetd --no-pager -o cat --since="@$2" | grep -qF -- "$3"; }

a_request_that_fits_nowhere_waits_and_says_what_is_free() {
        local h i
        cluster_up
        for h in $LAB_HOSTS; do
                reserve "$h" "memory:$(($(physical "$h") - 1024))M" || fail "no reload of $h"
        done
        unit huge.service MemoryRequest=2G
        wait_for 10 why_has huge.service 'alpha, beta and gamma have 1.0G of 1.0G of memory free, less than 2.0G' || fail "a GiB each: $(why huge.service)"
        for i in 1 2 3; do
                unit "big$i.service" MemoryRequest=900M
        done
        wait_for 10 each_runs_a_big_one || fail "$(fleetctl alpha list-units)"
        unit next.service MemoryRequest=200M
        for h in $LAB_HOSTS; do
                wait_for 10 why_has next.service "$(printf '%-5s  no: memory: requests 200M, 124M of 1.0G is free (1 unit requests 900M)' "$h")" || fail "$h: $(why next.service)"
        done
        fleetctl alpha status 2>&1 | grep -q 'next.service.*124M of 1.0G of memory free, less than 200M' || fail "status: $(fleetctl alpha status 2>&1)"
        runs_nowhere next.service || fail "it runs on $(hosts_running next.service)"
}

a_unit_without_a_request_does_not_wait() {
        unit large.service '' MemoryMax=8G
        wait_for 10 runs_once large.service || fail "$(why large.service)"
}

an_unloaded_unit_makes_room() {
        local named=big2.service host
        host=$(hosts_running "$named")
        fleetctl alpha unload "$named" >"$LAB/out" 2>&1 || fail "unload: $(cat "$LAB/out")"
        wait_for 10 runs_on next.service "$host" || fail "$named has left $host: $(why next.service)"
        why_has next.service "$host was the only machine that qualified" || fail "$(why next.service)"
}

a_host_that_gets_smaller_stops_nothing() {
        local host
        host=$(hosts_running big1.service)
        identities >"$LAB/before"
        reserve "$host" "memory:$(($(physical "$host") - 512))M" || fail "no reload"
        wait_for 10 why_has huge.service "$host has 0M of 512M of memory free, less than 2.0G" || fail "$(why huge.service)"
        sleep 2
        WHAT="a smaller host" untouched "$(cat "$LAB/before")"
}

wrong_values_are_named_and_change_nothing() {
        local since out value
        identities >"$LAB/before"
        since=$(date +%s)
        for value in memory:lots disk:5G cpu:2 memory:1G\ memory:2G memory:101%; do
                reserve alpha "$value" || fail "$value: the reload fails"
                wait_for 5 said_since alpha "$since" "keeping the previous one: /etc/fleet/fleetd.conf.d/20-sizes.conf: line 2: Reserve=: expected memory:SIZE or memory:PERCENT, and cpu:PERCENT of one core, for example memory:2G cpu:50%, not '${value##* }'" ||
                        fail "$value: $(host_exec alpha journalctl -q -u fleetd --no-pager -n 5)"
                out=$(host_exec alpha timeout 10 fleetd --state-directory=/tmp/s 2>&1)
                [ $? = 2 ] && grep -qF "20-sizes.conf: line 2: Reserve=: expected memory:SIZE" <<<"$out" || fail "$value at a start: $out"
        done
        sleep 1
        why_has huge.service 'of 1.0G of memory free' || fail "the capacity of alpha: $(why huge.service)"
        WHAT="a wrong value" untouched "$(cat "$LAB/before")"
}

# As of a host of a former version: neither empty nor full.
a_host_of_which_nothing_is_left_refuses_nothing() {
        local since
        identities >"$LAB/before"
        since=$(date +%s)
        reserve alpha memory:1024G || fail "no reload"
        wait_for 5 said_since alpha "$since" "reduce Reserve= in fleetd.conf, then systemctl reload fleetd" || fail "$(host_exec alpha journalctl -q -u fleetd --no-pager -n 5)"
        said_since alpha "$since" "Reserve= leaves nothing of $(physical alpha) MiB" || fail "$(host_exec alpha journalctl -q -u fleetd --no-pager -n 5)"
        wait_for 10 runs_on huge.service alpha || fail "$(why huge.service)"
        [ "$(identities | grep -vF huge.service)" = "$(cat "$LAB/before")" ] || fail "units were touched: $(identities | diff "$LAB/before" -)"
}

entries() { keys alpha /lab/ping -i | tr -d '\r' | sed -n 's/^X-Raft-Index: //p'; }
# A unit becomes available ten seconds after its start, which is an entry.
idle_for_12s() { [ "$(entries)" = "$(sleep 12; entries)" ]; }
a_reload_of_an_idle_cluster_with_the_same_sizes_writes_nothing() {
        local h before
        wait_for 60 idle_for_12s || fail "the log grows"
        before=$(entries)
        [[ $before =~ ^[0-9]+$ ]] || fail "no index: $(keys alpha /lab/ping -i)"
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl reload fleetd || fail "no reload of $h"
        done
        sleep 5
        [ "$(entries)" = "$before" ] || fail "the log has grown from $before to $(entries)"
}

scenario a_request_that_fits_nowhere_waits_and_says_what_is_free a_unit_without_a_request_does_not_wait an_unloaded_unit_makes_room \
        a_host_that_gets_smaller_stops_nothing wrong_values_are_named_and_change_nothing a_host_of_which_nothing_is_left_refuses_nothing \
        a_reload_of_an_idle_cluster_with_the_same_sizes_writes_nothing
