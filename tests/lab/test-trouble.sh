#!/bin/bash
# Faults of operators, systemd and the kernel for a daemon with fifty units: no unit is touched, and states are correct again within
# seconds.
# Takes 200 s.
. "$(dirname "$0")/scenario.sh"

STEADY=50

steady() { identities | grep " steady-" | sort; }
steady_untouched() {
        local now
        now=$(steady)
        [ "$(cat "$LAB/before")" = "$now" ] || fail "$1 touched units: $(diff "$LAB/before" <(echo "$now") | grep '^[<>]' | head -6 | tr '\n' ' ')"
}
# The cluster reports the states of systemd for all units: "unit active sub" of all hosts, sorted.
reported() { fleetctl "$1" list-units --no-legend --fields=unit,active,sub 2>/dev/null | tr -s '\t ' ' ' | sort; }
seen() {
        local h u
        for h in $LAB_HOSTS; do
                for u in $(ls "/proc/$(host_init "$h")/root/run/fleet/units" 2>/dev/null); do
                        host_exec "$h" systemctl show --value -p ActiveState,SubState "$u" | tr '\n' ' ' | sed "s/^/$u /; s/ \$/\n/"
                done
        done | sort
}
reports_the_truth() { [ "$(reported "${1:-alpha}")" = "$(seen)" ]; }
truth_within() { wait_for "$1" reports_the_truth || fail "after $1 s: $(diff <(reported alpha) <(seen) | grep '^[<>]' | head -6 | tr '\n' ' ')"; }
processes() { find "$LAB_CG"/*/payload/system.slice -maxdepth 2 -type d -name "$1" 2>/dev/null | wc -l; }
processes_are() { [ "$(processes "$1")" = "$2" ]; }
daemon_pid() { host_exec "$1" systemctl show --value -p MainPID fleetd; }
kill_daemon() { host_exec "$1" systemctl kill -s "${2:-KILL}" --kill-whom=main fleetd; }

fifty_units_run() {
        local i
        cluster_up
        for i in $(seq $STEADY); do
                runs_forever steady-$i.service </dev/null
        done
        for i in $(seq 100); do
                runs_forever many-$i.service </dev/null
        done
        fleetctl beta start $(seq -f 'steady-%g.service' $STEADY) >"$LAB/out" 2>&1 || fail "start: $(tail -3 "$LAB/out")"
        wait_for 5 processes_are 'steady-*.service' $STEADY || fail "$(processes 'steady-*.service') of $STEADY run"
        truth_within 5
        steady >"$LAB/before"
}

killed_repeatedly_while_units_change_a_daemon_touches_no_other() {
        local i h
        (
                for i in $(seq 40); do
                        for h in $(shuf -e $LAB_HOSTS); do
                                fleetctl "$h" start --no-block many-$((i % 10 + 1)).service && break
                        done
                        sleep 0.3
                        for h in $(shuf -e $LAB_HOSTS); do
                                fleetctl "$h" stop --no-block many-$(((i + 5) % 10 + 1)).service && break
                        done
                done >/dev/null 2>&1
        ) &
        for i in $(seq 24); do
                kill_daemon "$(shuf -n1 -e $LAB_HOSTS)"
                sleep 0.7
        done
        wait $!
        cluster_whole
        steady_untouched "killing daemons"
        fleetctl alpha destroy $(seq -f 'many-%g.service' 10) >"$LAB/out" 2>&1
        wait_for 10 processes_are 'many-*.service' 0 || fail "destroyed, and $(processes 'many-*.service') run"
        truth_within 5
}

a_leader_that_is_killed_amid_a_hundred_starts_leaves_each_started_once() {
        local h n
        h=$(leader) || fail "there is no leader"
        fleetctl "$(others "$h" | head -1)" start $(seq -f 'many-%g.service' 100) >"$LAB/out" 2>&1 &
        sleep 0.25
        kill_daemon "$h"
        wait $! || fail "start: $(tail -3 "$LAB/out")"
        wait_for 10 processes_are 'many-*.service' 100 || fail "$(processes 'many-*.service') of 100 run"
        cluster_whole
        truth_within 5
        steady_untouched "a hundred starts"
        n=$(for h in $LAB_HOSTS; do host_exec "$h" journalctl -b -o cat --since -60s _COMM=sh | grep 'here is many-'; done | sort | uniq -c | awk '$1 > 1 && $4 !~ /-([1-9]|10)\.service/' | wc -l)
        [ "$n" = 0 ] || fail "$n units were started twice"
        fleetctl alpha destroy $(seq -f 'many-%g.service' 100) >"$LAB/out" 2>&1 || fail "destroy: $(tail -3 "$LAB/out")"
        wait_for 5 processes_are 'many-*.service' 0 || fail "destroyed, and $(processes 'many-*.service') run"
}

all_daemons_restarted_at_once_touch_nothing() {
        local h
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl restart --no-block fleetd
        done
        cluster_whole
        steady_untouched "a restart of all daemons"
        truth_within 5
}

a_unit_stopped_by_hand_is_reported_and_stays_stopped() {
        local h
        h=$(hosts_running steady-1.service)
        host_exec "$h" systemctl stop steady-1.service
        wait_for 3 lists alpha steady-1.service "inactive dead" || fail "it is listed as: $(reported alpha | grep steady-1.service)"
        kill_daemon "$h"
        cluster_whole
        sleep 3
        runs_nowhere steady-1.service || fail "it was started again"
        fleetctl alpha stop steady-1.service >"$LAB/out" 2>&1 && fleetctl alpha start steady-1.service >"$LAB/out" 2>&1 || fail "stop and start: $(cat "$LAB/out")"
        runs_once steady-1.service || fail "started again, it runs on: $(hosts_running steady-1.service)"
        sed -i '/ steady-1.service /d' "$LAB/before"
        steady | grep ' steady-1.service ' >>"$LAB/before"
        sort -o "$LAB/before" "$LAB/before"
        steady_untouched "a stop by hand"
}

# The slice of the instance gets a job with its first start.
an_instance_stopped_by_hand_right_after_its_first_start_stays_stopped() {
        local h
        runs_forever soon@.service </dev/null
        fleetctl alpha start --no-block soon@1.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_once soon@1.service || fail "it does not start"
        h=$(hosts_running soon@1.service)
        host_exec "$h" systemctl stop soon@1.service
        wait_for 5 lists alpha soon@1.service "inactive dead" || fail "it is listed as: $(reported alpha | grep soon@1.service)"
        sleep 3
        runs_nowhere soon@1.service || fail "it was started again: $(host_exec "$h" journalctl -u fleetd -n 5 --no-pager -o cat)"
        fleetctl alpha restart soon@1.service >"$LAB/out" 2>&1 || fail "restart: $(cat "$LAB/out")"
        runs_once soon@1.service || fail "restarted, it runs on: $(hosts_running soon@1.service)"
        fleetctl alpha destroy soon@1.service soon@.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}

# The usual pair of fleet. systemd stops the sidekick when the process of its unit ends, and restarts only the unit.
a_sidekick_that_systemd_stopped_is_started_again_and_is_not_finished() {
        runs_forever app.service </dev/null
        runs_forever side.service <<<$'[Unit]\nBindsTo=app.service\nAfter=app.service\n[X-Fleet]\nMachineOf=app.service'
        fleetctl alpha start app.service side.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        local h before
        h=$(hosts_running app.service)
        before=$(host_exec "$h" systemctl show --value -p InvocationID side.service)
        host_exec "$h" systemctl kill -s KILL app.service
        wait_for 10 side_runs_again "$h" "$before" || fail "the sidekick: $(reported alpha | grep side.service), $(host_exec "$h" journalctl -u fleetd -n 5 --no-pager -o cat)"
        # A stop within half a second of a change of app.service is attributed to app.service. When a later start is reported, the daemon has
        # received these changes.
        runs_forever marker.service <<<$'[X-Fleet]\nMachineOf=side.service'
        fleetctl alpha start marker.service >"$LAB/out" 2>&1 || fail "start of the marker: $(cat "$LAB/out")"
        sleep 1
        host_exec "$h" systemctl stop side.service
        sleep 3
        runs_nowhere side.service || fail "stopped by hand, it was started again"
        fleetctl alpha destroy marker.service side.service app.service >"$LAB/out" 2>&1
        wait_for 5 runs_nowhere app.service || fail "destroyed, and it runs"
}
# While systemd stops it, its cgroup may still exist, and it has no InvocationID any more.
side_runs_again() {
        local said
        said=$(host_exec "$1" systemctl show -p ActiveState -p InvocationID side.service)
        grep -qx ActiveState=active <<<"$said" && grep -q '^InvocationID=.' <<<"$said" && ! grep -qx "InvocationID=$2" <<<"$said"
}

after_another_target_was_isolated_all_units_run_again() {
        local h=gamma
        host_exec $h systemctl isolate rescue.target
        host_exec $h systemctl isolate multi-user.target
        cluster_whole
        wait_for 20 processes_are "steady-*.service" $STEADY || fail "$(processes 'steady-*.service') of $STEADY run"
        truth_within 5
        steady >"$LAB/before"
}

# Each service misbehaves; all are started, reported correctly, and destroyed.
units_that_misbehave_are_reported_and_destroyed() {
        local u
        printf '[Service]\nExecStart=/bin/false\n' | unit_file fails.service
        printf '[Service]\nExecStart=/nowhere/at/all\n' | unit_file absent.service
        printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/sh -c "sleep 0.2; exit 3"\nRestart=always\nRestartSec=100ms\n' | unit_file flaps.service
        printf '[Service]\nType=notify\nExecStart=/bin/sleep infinity\nTimeoutStartSec=infinity\n' | unit_file hangs.service
        printf '[Service]\nExecStart=/bin/sh -c "trap \\"\\" TERM; while :; do sleep 1; done"\nTimeoutStopSec=3\n' | unit_file deaf.service
        printf '[Service]\nType=oneshot\nExecStart=/bin/true\n' | unit_file once.service
        fleetctl alpha start --no-block fails.service absent.service flaps.service hangs.service deaf.service once.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 5 lists beta fails.service "failed failed" || fail "fails.service: $(reported beta | grep fails)"
        wait_for 5 lists beta absent.service "failed failed" || fail "absent.service: $(reported beta | grep absent)"
        wait_for 5 lists beta hangs.service "activating start" || fail "hangs.service: $(reported beta | grep hangs)"
        wait_for 5 lists beta deaf.service "active running" || fail "deaf.service: $(reported beta | grep deaf)"
        wait_for 5 lists beta once.service "inactive dead" || fail "once.service: $(reported beta | grep once)"
        reported beta | grep -qE '^flaps.service (active|activating|deactivating)' || fail "flaps.service: $(reported beta | grep flaps)"
        for u in $LAB_HOSTS; do
                kill_daemon "$u"
        done
        cluster_whole
        steady_untouched "misbehaving units"
        fleetctl alpha destroy fails.service absent.service flaps.service hangs.service deaf.service once.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        for u in fails absent flaps hangs deaf once; do
                wait_for 10 runs_nowhere $u.service || fail "$u.service is destroyed, and runs"
                ! known alpha $u.service || fail "$u.service is destroyed, and known"
        done
        truth_within 5
        steady_untouched "their end"
}

# Neither has ended by itself, although both report success: one is stopped for a unit of the host before it has started, one has a false condition.
a_unit_stopped_while_it_started_starts_again_and_one_that_declines_is_not_finished() {
        local h
        printf '[Service]\nType=notify\nExecStart=/bin/sh -c "trap \\"exit 0\\" TERM; sleep infinity & wait"\nTimeoutStartSec=infinity\n' | unit_file begins.service
        printf '[Service]\nType=oneshot\nExecCondition=/bin/false\nExecStart=/bin/true\n' | unit_file declines.service
        fleetctl alpha start --no-block begins.service declines.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 5 lists beta begins.service "activating start" || fail "begins.service: $(reported beta | grep begins)"
        wait_for 5 lists beta declines.service "inactive dead" || fail "declines.service: $(reported beta | grep declines)"
        h=$(hosts_running begins.service)
        host_exec "$h" sh -c 'printf "[Unit]\nConflicts=begins.service\n[Service]\nExecStart=/bin/sleep infinity\n" >/run/systemd/system/rival.service
                systemctl daemon-reload; systemctl start rival.service'
        wait_for 5 lists beta begins.service "inactive dead" || fail "beside its rival: $(reported beta | grep begins)"
        sleep 2 # longer than its normal delay
        runs_nowhere begins.service || fail "it is started beside its rival"
        host_exec "$h" systemctl stop rival.service
        wait_for 10 lists beta begins.service "activating start" || fail "without its rival: $(reported beta | grep begins) $(fleetctl beta why begins.service)"
        ! fleetctl beta why declines.service | grep -q 'finished there' || fail "what declines: $(fleetctl beta why declines.service)"
        fleetctl alpha destroy begins.service declines.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 10 runs_nowhere begins.service || fail "begins.service is destroyed, and runs"
        truth_within 5
        steady_untouched "stops and conditions"
}

files_removed_by_hand_come_back_and_nothing_else_happens() {
        local h
        h=$(hosts_running steady-2.service)
        host_exec "$h" sh -c 'rm /run/fleet/units/steady-2.service /run/systemd/system/steady-2.service; systemctl daemon-reload'
        wait_for 15 host_exec "$h" test -e /run/fleet/units/steady-2.service || fail "the file is not put back"
        wait_for 15 host_exec "$h" test -L /run/systemd/system/steady-2.service || fail "the link is not put back"
        link_removed "$h"
        wait_for 15 reads_loaded "$h" steady-2.service || fail "systemd says: $(host_exec "$h" systemctl show -p LoadState steady-2.service)"
        steady_untouched "removing a file"
        folder_removed "$h"
}
# Remove all files and the folder; then a process ends, which systemd restarts only if the file is loaded.
folder_removed() {
        host_exec "$1" sh -c 'rm -rf /run/fleet/units; systemctl daemon-reload'
        wait_for 15 reads_loaded "$1" steady-2.service || fail "without the folder systemd says: $(host_exec "$1" systemctl show -p LoadState steady-2.service)"
        steady_untouched "removing the folder"
}
reads_loaded() { [ "$(host_exec "$1" systemctl show --value -p LoadState "$2")" = loaded ]; }
link_removed() {
        host_exec "$1" sh -c 'rm /run/systemd/system/steady-2.service; systemctl daemon-reload'
        wait_for 15 host_exec "$1" test -L /run/systemd/system/steady-2.service || fail "the link alone is not put back"
}

reloads_of_systemd_while_units_start_lose_none() {
        local h i
        (for i in $(seq 20); do for h in $LAB_HOSTS; do host_exec "$h" systemctl daemon-reload; done; done) >/dev/null 2>&1 &
        fleetctl alpha start $(seq -f 'many-%g.service' 30) >"$LAB/out" 2>&1 || fail "start: $(tail -3 "$LAB/out")"
        wait $!
        wait_for 5 processes_are 'many-*.service' 30 || fail "$(processes 'many-*.service') of 30 run"
        truth_within 5
        steady_untouched "daemon-reload"
        fleetctl alpha destroy $(seq -f 'many-%g.service' 30) >"$LAB/out" 2>&1 || fail "destroy: $(tail -3 "$LAB/out")"
        wait_for 5 processes_are 'many-*.service' 0 || fail "$(processes 'many-*.service') are left"
}

a_full_run_delays_new_units_and_touches_no_other() {
        local h=beta id
        id=$(host_machine_id $h)
        host_exec $h sh -c 'cat /dev/zero >/run/filler' 2>/dev/null
        runs_forever late.service <<<$'[X-Fleet]\nMachineID='"$id"
        fleetctl alpha start --no-block late.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 says $h "write the file of late.service: No space left" || fail "$h does not say why: $(host_exec $h journalctl -u fleetd -n 5 --no-pager -o cat)"
        runs_nowhere late.service || fail "it runs without a file"
        kill_daemon $h
        sleep 2
        steady_untouched "a full /run"
        host_exec $h rm /run/filler
        wait_for 20 runs_on late.service $h || fail "there is space, and late.service does not run"
        cluster_whole
        fleetctl alpha destroy late.service >/dev/null 2>&1
        wait_for 5 runs_nowhere late.service || fail "destroyed, and it runs"
        truth_within 5
        steady_untouched "space in /run"
}
says() { host_exec "$1" journalctl -u fleetd -b --no-pager -o cat | grep -qF "$2"; }

a_daemon_that_is_stopped_for_a_while_is_away_and_nothing_moves() {
        local h
        h=$(leader) || fail "there is no leader"
        kill_daemon "$h" STOP
        wait_for 10 writes "$(others "$h" | head -1)" || fail "the others take no writes"
        sleep 60 # the tested time: the watchdog ends the daemon after 30 s, and it starts again
        steady_untouched "a stopped daemon"
        kill_daemon "$h" CONT
        cluster_whole
        truth_within 5
        steady_untouched "its going on"
}

scenario fifty_units_run killed_repeatedly_while_units_change_a_daemon_touches_no_other \
        a_leader_that_is_killed_amid_a_hundred_starts_leaves_each_started_once all_daemons_restarted_at_once_touch_nothing \
        a_unit_stopped_by_hand_is_reported_and_stays_stopped an_instance_stopped_by_hand_right_after_its_first_start_stays_stopped a_sidekick_that_systemd_stopped_is_started_again_and_is_not_finished \
        after_another_target_was_isolated_all_units_run_again units_that_misbehave_are_reported_and_destroyed \
        a_unit_stopped_while_it_started_starts_again_and_one_that_declines_is_not_finished \
        files_removed_by_hand_come_back_and_nothing_else_happens reloads_of_systemd_while_units_start_lose_none \
        a_full_run_delays_new_units_and_touches_no_other a_daemon_that_is_stopped_for_a_while_is_away_and_nothing_moves
