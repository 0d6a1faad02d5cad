#!/bin/bash
# No fault of the daemon, on one host or on all, touches or moves a unit.
# Takes 120 s.
. "$(dirname "$0")/scenario.sh"

a_cluster_with_units() {
        local n
        cluster_up
        (cd "$top/dist/units" && host_fleetctl alpha start hello.service node.service store.service store-watch.service web@{1,2,3}.service \
                >/dev/null 2>&1) || fail "samples do not start"
        for n in 1 2 3; do
                runs_forever plain-$n.service </dev/null
        done
        printf '[Service]\nType=oneshot\nRemainAfterExit=no\nExecStart=/bin/sh -c "echo ran >>/var/lib/once"\n' | unit_file once.service
        fleetctl beta start plain-{1,2,3}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        fleetctl beta start --no-block once.service >"$LAB/out" 2>&1 || fail "start of a oneshot: $(cat "$LAB/out")"
        wait_for 10 ran_once || fail "the oneshot ran $(times_run) times"
        identities >"$LAB/before"
        [ "$(wc -l <"$LAB/before")" -ge 12 ] || fail "too few units run: $(cat "$LAB/before")"
}
times_run() { for h in $LAB_HOSTS; do host_exec $h cat /var/lib/once 2>/dev/null; done | wc -l; }
ran_once() { [ "$(times_run)" = 1 ]; }

# After the fault, all hosts work as a cluster, every unit is unchanged, and finished units are not started again.
nothing_happened() {
        cluster_whole
        WHAT=$1 untouched "$(cat "$LAB/before")"
        ran_once || fail "$1: the oneshot ran $(times_run) times"
}

pid_of_daemon() { host_exec "$1" systemctl show --value -p MainPID fleetd; }
answers_as() { [ "$(pid_of_daemon "$1")" != "$2" ] && writes "$1"; }

a_restart_on_one_host_touches_nothing() {
        local pid
        pid=$(pid_of_daemon gamma)
        host_exec gamma systemctl restart fleetd || fail "restart: $(host_exec gamma journalctl -u fleetd -n 3 --no-pager)"
        wait_for 20 answers_as gamma "$pid" || fail "it does not come back"
        nothing_happened "a restart on gamma"
}

a_restart_on_all_hosts_touches_nothing() {
        local h jobs=
        for h in $LAB_HOSTS; do
                host_exec $h systemctl restart fleetd &
                jobs="$jobs $!"
        done
        wait $jobs
        nothing_happened "a restart on all hosts"
}

kill_9_on_one_host_touches_nothing() {
        local pid
        pid=$(pid_of_daemon alpha)
        host_exec alpha kill -KILL "$pid"
        wait_for 20 answers_as alpha "$pid" || fail "it does not come back"
        nothing_happened "kill -9 on alpha"
}

kill_9_on_the_leader_touches_nothing() {
        local h pid
        h=$(leader) || fail "there is no leader"
        pid=$(pid_of_daemon "$h")
        host_exec "$h" kill -KILL "$pid"
        wait_for 20 answers_as "$h" "$pid" || fail "it does not come back"
        nothing_happened "kill -9 on the leader"
}

kill_9_on_all_hosts_touches_nothing() {
        local h
        for h in $LAB_HOSTS; do
                host_exec $h kill -KILL "$(pid_of_daemon $h)"
        done
        nothing_happened "kill -9 on all hosts"
}

a_daemon_stopped_for_20_s_on_one_host_touches_nothing() {
        local h pid
        h=$(leader) || fail "there is no leader"
        pid=$(pid_of_daemon "$h")
        host_exec "$h" kill -STOP "$pid"
        sleep 20        # the tested time: below the watchdog's 30 s, above the 3 s of a lost host
        WHAT="SIGSTOP of the leader" untouched "$(cat "$LAB/before")"
        [ "$(key_put "$(others "$h" | head -1)" /meanwhile yes)" = ok ] || fail "the others take no writes"
        host_exec "$h" kill -CONT "$pid"
        nothing_happened "SIGSTOP of the leader for 20 s"
}

a_daemon_stopped_for_20_s_on_all_hosts_touches_nothing() {
        local h
        for h in $LAB_HOSTS; do
                host_exec $h kill -STOP "$(pid_of_daemon $h)"
        done
        sleep 20
        for h in $LAB_HOSTS; do
                host_exec $h kill -CONT "$(pid_of_daemon $h)"
        done
        nothing_happened "SIGSTOP on all hosts for 20 s"
}

acknowledged_writes_survive_kill_9_of_every_daemon_in_turn() {
        local h pid
        writer_start alpha 12 turns
        for h in beta gamma; do
                pid=$(pid_of_daemon $h)
                host_exec $h kill -KILL "$pid"
                wait_for 20 answers_as $h "$pid" || fail "$h does not come back"
        done
        wait "$WRITER"
        [ "$(tail -1 "$LAB/writer.turns" | cut -d' ' -f2)" = ack ] || fail "writes do not go on"
        acknowledged_writes_are_there turns gamma
        nothing_happened "kill -9 in turn"
}

# The settings of the service for failures, and the end of its child processes.
the_service_is_spared_and_its_helpers_end_with_it() {
        local said expected pid helper
        said=$(host_exec gamma systemctl show -p KillMode,LimitCORE,ManagedOOMPreference,OOMScoreAdjust,Restart,RuntimeDirectoryPreserve,StartLimitIntervalUSec fleetd | sort)
        expected=$(printf '%s\n' KillMode=mixed LimitCORE=0 ManagedOOMPreference=omit OOMScoreAdjust=-900 Restart=always RuntimeDirectoryPreserve=yes StartLimitIntervalUSec=0)
        [ "$said" = "$expected" ] || fail "$(diff <(echo "$expected") <(echo "$said") | grep '^[<>]' | tr '\n' ' ')"
        pid=$(pid_of_daemon gamma)
        FLEETCTL_ENDPOINT=unix://$(host_socket gamma) timeout 60 "$LAB_BUILD/client/fleetctl" journal -f node.service >/dev/null 2>&1 &
        wait_for 5 has_helper gamma "$pid" || fail "no journal is followed"
        helper=$(host_exec gamma pgrep -P "$pid" | head -1)
        [ "$(host_exec gamma cat "/proc/$helper/oom_score_adj")" = 0 ] || fail "its helper is spared as it is"
        said=$(host_exec gamma chrt -p "$helper"; host_exec gamma ionice -p "$helper")
        [ "$(grep -cE 'SCHED_IDLE|^idle' <<<"$said")" = 2 ] || fail "its helper competes with it: $said"
        host_exec gamma kill -KILL "$pid"
        wait_for 5 is_gone gamma "$helper" || fail "its helper outlives it"
        wait_for 20 answers_as gamma "$pid" || fail "it does not come back"
        nothing_happened "the end of a helper"
}
has_helper() { host_exec "$1" pgrep -x -P "$2" journalctl >/dev/null; }
is_gone() { ! host_exec "$1" test -d "/proc/$2"; }

scenario a_cluster_with_units the_service_is_spared_and_its_helpers_end_with_it a_restart_on_one_host_touches_nothing a_restart_on_all_hosts_touches_nothing \
        kill_9_on_one_host_touches_nothing kill_9_on_the_leader_touches_nothing kill_9_on_all_hosts_touches_nothing \
        a_daemon_stopped_for_20_s_on_one_host_touches_nothing a_daemon_stopped_for_20_s_on_all_hosts_touches_nothing \
        acknowledged_writes_survive_kill_9_of_every_daemon_in_turn
