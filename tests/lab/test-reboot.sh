#!/bin/bash
# Hosts reboot: their units run elsewhere before a host is down. The hosts run logind. Takes 180 s.
. "$(dirname "$0")/scenario.sh"

LAB_MASKS=${LAB_MASKS//systemd-logind.service/}

three_hosts_with_logind_form_a_cluster() {
        local h
        cluster_up
        for h in $LAB_HOSTS; do
                wait_for 20 inhibits "$h" || fail "fleetd on $h holds no inhibitor: $(host_exec "$h" systemd-inhibit --list --no-pager 2>&1 | tr '\n' ';')"
        done
}
inhibits() { host_exec "$1" systemd-inhibit --list --no-legend --no-pager | grep -q 'fleetd.*shutdown.*delay'; }

# start_on HOST UNIT...: start units whose files exist, on that host.
start_on() {
        local rest
        rest=$(others "$1")
        # shellcheck disable=SC2086
        fleetctl gamma cordon $rest >"$LAB/out" 2>&1 || fail "cordon: $(cat "$LAB/out")"
        fleetctl gamma start "${@:2}" >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        # shellcheck disable=SC2086
        fleetctl gamma uncordon $rest >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
}

# units_on HOST NAME...: units that start for 0.2 s, all on that host.
units_on() {
        local u host=$1
        shift
        for u in "$@"; do
                runs_forever "$u" <<<'ExecStartPre=/bin/sleep 0.2'
        done
        start_on "$host" "$@"
        for u in "$@"; do
                runs_on "$u" "$host" || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
}

units_of_a_host_that_reboots_run_elsewhere_before_it_is_down() {
        local u begin end units
        mapfile -t units < <(seq -f 'moves-%02g.service' 10)
        units_on beta "${units[@]}"
        runs_forever stays.service <<<$'StateDirectory=stays\n[X-Fleet]\nMove=no'
        start_on beta stays.service
        begin=$(now_ms)
        host_exec beta systemctl reboot || fail "systemctl reboot: exit $?"
        wait_for 60 is_released beta || fail "the shutdown of beta is not released: $(fleetctl alpha list-machines 2>&1)"
        end=$(now_ms)
        for u in "${units[@]}"; do
                runs_once "$u" && ! runs_on "$u" beta || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
        echo "# 10 units moved in $((end - begin)) ms before the reboot of their host" >>"$LAB/figures"
        [ $((end - begin)) -le 5000 ] || fail "the units moved in $((end - begin)) ms"
        wait_for 60 host_is_off beta || fail "beta does not end"
        host_clear beta
        wait_for 20 has_left beta || fail "beta is not shut down: $(fleetctl alpha list-machines 2>&1)"
        hosts_up beta
        cluster_whole
        wait_for 20 runs_on stays.service beta && runs_once stays.service || fail "stays.service runs on: $(hosts_running stays.service | tr '\n' ' ')"
        [ -z "$(ls -d "$LAB"/{alpha,gamma}/up/var/lib/stays 2>/dev/null)" ] || fail "stays.service was started elsewhere"
        wait_for 20 is_not_maintained beta || fail "beta stays in maintenance: $(fleetctl alpha list-machines 2>&1)"
        for u in "${units[@]}"; do
                runs_once "$u" || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
}
has_left() { fleetctl alpha list-machines --all --no-legend --fields=hostname,presence | grep -q "^$1[[:space:]]*left"; }
is_released() { ! host_is_on "$1" || journal_of "$1" | grep -q 'the shutdown of this host goes on'; }
journal_of() { journalctl --directory="$LAB/$1/up/var/log/journal" --no-pager -o cat -u fleetd 2>/dev/null; }
is_not_maintained() { ! fleetctl alpha list-machines --no-legend --fields=machine,maintenance | grep -qE 'drain|cordon'; }

# logind waits for 2 s at most.
short_delay() {
        host_exec "$1" sh -c 'mkdir -p /run/systemd/logind.conf.d && printf "[Login]\nInhibitDelayMaxSec=2s\n" >/run/systemd/logind.conf.d/99-short.conf &&
                systemctl restart systemd-logind' || fail "logind of $1 does not restart"
        wait_for 20 inhibits "$1" || fail "fleetd on $1 holds no inhibitor after a restart of logind"
}

# Its stop takes longer than logind waits, and than TimeoutStopSec= of fleetd.
a_unit_that_must_not_run_twice_runs_elsewhere_when_it_has_stopped() {
        short_delay beta
        runs_forever lone.service <<<$'ExecStop=/bin/sleep 17\nTimeoutStopSec=60\n[X-Fleet]\nMove=stop-first'
        start_on beta lone.service
        host_exec beta systemctl reboot || fail "systemctl reboot: exit $?"
        until ! host_is_on beta; do
                # The hosts are counted one after the other: it may stop on the first, and start on the second meanwhile.
                [ "$(hosts_running lone.service | wc -l)" -le 1 ] || [ "$(hosts_running lone.service | wc -l)" -le 1 ] ||
                        fail "lone.service runs elsewhere before it has stopped on beta"
                sleep 0.1
        done
        wait_for 20 runs_once lone.service || fail "lone.service runs on: $(hosts_running lone.service | tr '\n' ' ')"
        host_clear beta
        hosts_up beta
        cluster_whole
        fleetctl gamma destroy lone.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}

# fleetd does not wait for it: it moves when its host is silent.
a_unit_that_stops_after_fleetd_delays_no_shutdown() {
        local begin
        printf '[Unit]\nDefaultDependencies=no\nConflicts=shutdown.target\nBefore=shutdown.target fleetd.service\n[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nMove=stop-first\n' |
                unit_file last.service
        start_on beta last.service
        begin=$(now_ms)
        host_exec beta systemctl start reboot.target --job-mode=replace-irreversibly --no-block || fail "reboot: exit $?"
        wait_for 60 host_is_off beta || fail "beta does not end"
        [ $(($(now_ms) - begin)) -le 15000 ] || fail "the shutdown took $(($(now_ms) - begin)) ms"
        wait_for 30 runs_once last.service || fail "last.service runs on: $(hosts_running last.service | tr '\n' ' ')"
        host_clear beta
        hosts_up beta
        cluster_whole
        fleetctl gamma destroy last.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}

# logind waits for InhibitDelayMaxSec= at most. A unit whose start takes longer ends with its host, and runs elsewhere soon after.
units_that_logind_does_not_wait_for_run_elsewhere_afterwards() {
        local down
        short_delay beta
        runs_forever slow.service <<<'ExecStartPre=/bin/sleep 4'
        start_on beta slow.service
        identities alpha gamma >"$LAB/before"
        host_exec beta systemctl reboot || fail "systemctl reboot: exit $?"
        wait_for 60 host_is_off beta || fail "beta does not end"
        down=$(now_ms)
        journal_of beta | grep -q 'the shutdown of this host goes on: the time that logind waits is over' || fail "the shutdown waits: $(journal_of beta | tail -3)"
        wait_for 20 runs_once slow.service || fail "slow.service runs on: $(hosts_running slow.service | tr '\n' ' ')"
        echo "# a unit that starts for 4 s runs elsewhere $(($(now_ms) - down)) ms after its host was down" >>"$LAB/figures"
        diff "$LAB/before" <(identities alpha gamma) | grep '^<' >"$LAB/touched"
        [ ! -s "$LAB/touched" ] || fail "units of other hosts were touched: $(cat "$LAB/touched")"
        host_clear beta
        hosts_up beta
        cluster_whole
        wait_for 20 is_not_maintained beta || fail "beta stays in maintenance: $(fleetctl alpha list-machines 2>&1)"
        fleetctl gamma destroy slow.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}

# Boot each host that has powered itself off, as its firmware would, until $LAB/done exists. Each boot is a line in $LAB/boots, and each
# moment with two hosts down one in $LAB/two-down.
firmware() {
        local h down
        until [ -e "$LAB/done" ]; do
                down=
                for h in $LAB_HOSTS; do
                        host_is_on "$h" || down="$down $h"
                done
                [ "$(wc -w <<<"$down")" -le 1 ] || echo "$down" >>"$LAB/two-down"
                for h in $down; do
                        host_clear "$h"
                        echo "$h" >>"$LAB/boots"
                        host_up "$h"
                done
                sleep 0.1
        done
}

# Print each moment in which a unit of the names runs nowhere, until $LAB/done exists.
gaps() {
        local u
        until [ -e "$LAB/done" ]; do
                for u in "$@"; do
                        ! runs_nowhere "$u" || echo "$u"
                done
                sleep 0.02
        done
}

all_hosts_reboot_one_after_the_other_with_the_leader_last() {
        local first units firmware watcher begin u early
        [ -n "${CHECK_ALL:-}" ] || skip "only with CHECK_ALL=yes: it takes 130 s; the next scenario reboots a host by the queue"
        mapfile -t units < <(seq -f 'moves-%02g.service' 10)
        first=$(leader)
        rm -f "$LAB/done" "$LAB/boots" "$LAB/two-down"
        touch "$LAB/boots"
        trap 'touch "$LAB/done"' EXIT
        firmware >/dev/null 2>&1 &
        firmware=$!
        gaps "${units[@]}" >"$LAB/gaps" &
        watcher=$!
        # On the leader, until it reboots; then on the host that was the first one.
        writer_start "$first" 240 early
        begin=$(now_ms)
        fleetctl alpha reboot --all --deadline=5min --yes --no-block >"$LAB/out" 2>&1 || fail "reboot: exit $?, $(cat "$LAB/out")"
        wait_for 120 has_booted || fail "no host reboots: $(fleetctl alpha reboot --status 2>&1 | tr '\n' ';')"
        early=$(head -1 "$LAB/boots")
        host_wait "$early" && wait_for 60 writes "$early" || fail "$early does not return"
        writer_start "$early" 240 late
        wait_for 240 queue_is_empty || fail "the queue does not end: $(fleetctl alpha reboot --status 2>&1 | tr '\n' ';') boots: $(tr '\n' ' ' <"$LAB/boots")"
        echo "# reboots of three hosts took $((($(now_ms) - begin) / 1000)) s" >>"$LAB/figures"
        touch "$LAB/done"
        wait $firmware $watcher
        writer_stop "$early" late "$WRITER"
        echo "# no acknowledged write for at most $(writer_gap early) and $(writer_gap late) ms" >>"$LAB/figures"
        [ "$(writer_gap early)" -le 1000 ] && [ "$(writer_gap late)" -le 1000 ] || fail "no acknowledged write for $(writer_gap early) or $(writer_gap late) ms"
        [ "$(sort "$LAB/boots" | tr '\n' ' ')" = "alpha beta gamma " ] || fail "booted: $(tr '\n' ' ' <"$LAB/boots")"
        [ "$(tail -1 "$LAB/boots")" = "$first" ] || fail "$first led, and these booted: $(tr '\n' ' ' <"$LAB/boots")"
        [ ! -e "$LAB/two-down" ] || fail "down at once: $(sort -u "$LAB/two-down")"
        [ ! -s "$LAB/gaps" ] || fail "these ran nowhere for a moment: $(sort "$LAB/gaps" | uniq -c | tr '\n' ' ')"
        cluster_whole
        for u in "${units[@]}"; do
                runs_once "$u" || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
        ! fleetctl alpha list-machines --no-legend --fields=machine,maintenance | grep -qE 'drain|cordon' ||
                fail "in maintenance: $(fleetctl alpha list-machines 2>&1)"
}
has_booted() { [ -s "$LAB/boots" ]; }
# On each host: one that has just booted may have no view of the cluster yet.
queue_is_empty() { local h; for h in $LAB_HOSTS; do [ "$(fleetctl "$h" reboot --status 2>/dev/null)" = "No reboot is planned." ] || return 1; done; }

# A unit that fits no other host keeps its host from the reboot, until it gets a deadline; then it stops for the time of the reboot.
the_queue_stops_at_a_host_that_does_not_return() {
        local second third
        second=$(others "$(leader)" | head -1)
        third=$(others "$(leader)" | tail -1)
        runs_forever pinned.service <<<$'[X-Fleet]\nMachineID='"$(tr -d '\n' <"$LAB/$second/up/etc/machine-id")"
        fleetctl "$third" start pinned.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        fleetctl "$third" reboot "$second" "$third" --return=10s --yes --no-block >"$LAB/out" 2>&1 || fail "reboot: exit $?, $(cat "$LAB/out")"
        wait_for 30 waits_for_the_pinned_unit "$third" || fail "no reason: $(fleetctl "$third" reboot --status 2>&1)"
        host_is_on "$second" && runs_on pinned.service "$second" || fail "$second reboots with a unit that fits no other host"
        fleetctl "$third" reboot "$second" --deadline=1s --yes --no-block >"$LAB/out" 2>&1 || fail "deadline: exit $?, $(cat "$LAB/out")"
        wait_for 60 host_is_off "$second" || fail "$second does not reboot: $(fleetctl "$third" reboot --status 2>&1)"
        host_clear "$second"
        wait_for 30 queue_has_stopped "$third" || fail "the queue goes on: $(fleetctl "$third" reboot --status 2>&1)"
        fleetctl "$third" status >"$LAB/out" 2>&1
        grep -q "the queue of reboots has stopped" "$LAB/out" || fail "status: $(cat "$LAB/out")"
        fleetctl "$third" reboot --resume >"$LAB/out" 2>&1 && fail "a queue was resumed without its host"
        host_is_on "$third" || fail "$third has rebooted"
        hosts_up "$second"
        cluster_whole
        wait_for 20 runs_on pinned.service "$second" || fail "pinned.service does not start with the boot; it runs on: $(hosts_running pinned.service | tr '\n' ' ')"
        fleetctl "$third" reboot --cancel >"$LAB/out" 2>&1 || fail "cancel: $(cat "$LAB/out")"
        wait_for 10 queue_is_empty || fail "the queue remains: $(fleetctl "$third" reboot --status 2>&1)"
        is_not_maintained "$second" || fail "$second stays in maintenance"
        fleetctl "$third" destroy pinned.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}
waits_for_the_pinned_unit() { fleetctl "$1" reboot --status 2>/dev/null | grep -q 'to stop pinned.service: fleetctl reboot .* --deadline=5min'; }

a_queue_goes_on_when_its_missing_host_is_back() {
        local second third
        [ -n "${CHECK_ALL:-}" ] || skip "only with CHECK_ALL=yes: it takes 150 s"
        second=$(others "$(leader)" | head -1)
        third=$(others "$(leader)" | tail -1)
        fleetctl "$third" reboot "$second" "$third" --return=60s --yes --no-block >"$LAB/out" 2>&1 || fail "reboot: exit $?, $(cat "$LAB/out")"
        wait_for 60 host_is_off "$second" || fail "$second does not reboot: $(fleetctl "$third" reboot --status 2>&1)"
        host_clear "$second"
        wait_for 90 queue_has_stopped "$third" || fail "the queue goes on: $(fleetctl "$third" reboot --status 2>&1)"
        host_is_on "$third" || fail "$third has rebooted"
        hosts_up "$second"
        cluster_whole
        fleetctl "$second" reboot --resume --no-block >"$LAB/out" 2>&1 || fail "resume: exit $?, $(cat "$LAB/out")"
        wait_for 60 host_is_off "$third" || fail "$third does not reboot: $(fleetctl "$second" reboot --status 2>&1)"
        host_clear "$third"
        hosts_up "$third"
        wait_for 90 queue_is_empty || fail "the queue remains: $(fleetctl "$second" reboot --status 2>&1)"
        cluster_whole
        is_not_maintained || fail "in maintenance: $(fleetctl alpha list-machines 2>&1)"
}

queue_has_stopped() { fleetctl "$1" reboot --status 2>/dev/null | grep -q ': failed: it is not back in time'; }

# Userspace restarts under the same kernel. A unit that asks systemd for that survives it, and is taken over as it runs.
soft_reboots_keep_the_kernel_and_units_that_survive_them() {
        local h other boot before
        h=$(others "$(leader)" | head -1) other=$(leader)
        boot=$(host_exec "$h" cat /proc/sys/kernel/random/boot_id)
        units_on "$h" moves-soft.service
        fleetctl "$other" reboot "$h" --soft --yes --no-block >"$LAB/out" 2>&1 || fail "reboot --soft: exit $?, $(cat "$LAB/out")"
        wait_for 60 soft_rebooted "$h" 1 || fail "$h does not come back: $(fleetctl "$other" reboot --status 2>&1)"
        runs_once moves-soft.service && ! runs_on moves-soft.service "$h" || fail "moves-soft.service runs on: $(hosts_running moves-soft.service | tr '\n' ' ')"
        wait_for 60 queue_is_empty || fail "the queue does not end: $(fleetctl "$other" reboot --status 2>&1 | tr '\n' ';')"
        [ "$(host_exec "$h" cat /proc/sys/kernel/random/boot_id)" = "$boot" ] || fail "another boot"

        unit_file survives.service <<END
[Unit]
DefaultDependencies=no
IgnoreOnIsolate=yes
SurviveFinalKillSignal=yes
[Service]
ExecStart=/bin/sleep infinity
[X-Fleet]
MachineID=$(host_machine_id "$h")
END
        fleetctl "$other" start survives.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        before=$(host_exec "$h" systemctl show -p MainPID,InvocationID survives.service)
        host_exec "$h" systemctl soft-reboot --no-block || fail "systemctl soft-reboot: exit $?"
        wait_for 60 soft_rebooted "$h" 2 || fail "$h does not come back: $(host_exec "$h" systemctl list-jobs 2>&1)"
        wait_for 30 lists "$other" survives.service "active running" || fail "survives.service is listed as: $(fleetctl "$other" list-units 2>&1)"
        wait_for 30 is_not_maintained || fail "in maintenance: $(fleetctl "$other" list-machines 2>&1)"
        [ "$(host_exec "$h" systemctl show -p MainPID,InvocationID survives.service)" = "$before" ] || fail "survives.service: $before, and now $(host_exec "$h" systemctl show -p MainPID,InvocationID survives.service)"
}
# A soft reboot ends the command.
soft_rebooted() { [ "$(HOST_LIMIT=5 host_exec "$1" systemctl show -P SoftRebootsCount)" = "$2" ] && host_booted "$1"; }

# The hosts have the systemd of this machine: 254 and later support it.
soft_reboot=
[ "$(systemctl --version | awk 'NR == 1 { print $2 }')" -lt 254 ] || soft_reboot=soft_reboots_keep_the_kernel_and_units_that_survive_them

scenario three_hosts_with_logind_form_a_cluster units_of_a_host_that_reboots_run_elsewhere_before_it_is_down \
        units_that_logind_does_not_wait_for_run_elsewhere_afterwards a_unit_that_must_not_run_twice_runs_elsewhere_when_it_has_stopped \
        a_unit_that_stops_after_fleetd_delays_no_shutdown \
        all_hosts_reboot_one_after_the_other_with_the_leader_last the_queue_stops_at_a_host_that_does_not_return \
        a_queue_goes_on_when_its_missing_host_is_back $soft_reboot
