#!/bin/bash
# systemctl stop fleetd for a minute (CHECK_ALL=yes: two), on one host and on all, as in a slow upgrade. No unit is touched.
# Takes 140 s.
. "$(dirname "$0")/scenario.sh"
stopped_s=${CHECK_ALL:+120} stopped_s=${stopped_s:-60} # the tested time

a_cluster_with_units() {
        local n
        cluster_up
        (cd "$top/dist/units" && host_fleetctl alpha start hello.service node.service store.service store-watch.service web@{1,2,3}.service \
                >/dev/null 2>&1) || fail "samples do not start"
        for n in 1 2 3; do
                runs_forever plain-$n.service </dev/null
        done
        fleetctl beta start plain-{1,2,3}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        identities >"$LAB/before"
        [ "$(wc -l <"$LAB/before")" -ge 12 ] || fail "too few units run: $(cat "$LAB/before")"
}

a_time_without_daemon_on_one_host_touch_nothing() {
        local h
        h=$(leader) || fail "there is no leader"
        host_exec "$h" systemctl stop fleetd || fail "stop failed"
        host_exec "$h" journalctl -q --no-pager -u fleetd >"$LAB/out" 2>&1
        grep -q 'units continue to run here; after 10 min without fleetd, other hosts start them, too' "$LAB/out" || fail "no message about the stop: $(tail -3 "$LAB/out")"
        WHAT="stop of one daemon" untouched "$(cat "$LAB/before")"
        wait_for 10 writes "$(others "$h" | head -1)" || fail "the others take no writes"
        sleep $stopped_s
        WHAT="$stopped_s s without one daemon" untouched "$(cat "$LAB/before")"
        host_exec "$h" systemctl start fleetd || fail "start failed"
        cluster_whole
        WHAT="the daemon's return" untouched "$(cat "$LAB/before")"
}

a_time_without_any_daemon_touch_nothing() {
        local h
        for h in $LAB_HOSTS; do
                host_exec $h systemctl stop fleetd || fail "stop on $h failed"
        done
        WHAT="stop of all daemons" untouched "$(cat "$LAB/before")"
        sleep $stopped_s
        WHAT="$stopped_s s without any daemon" untouched "$(cat "$LAB/before")"
        # A reload of systemd meanwhile finds the files of the units.
        host_exec alpha systemctl daemon-reload
        for h in $LAB_HOSTS; do
                host_exec $h systemctl start --no-block fleetd || fail "start on $h failed"
        done
        cluster_whole
        WHAT="the daemons' return" untouched "$(cat "$LAB/before")"
}

scenario a_cluster_with_units a_time_without_daemon_on_one_host_touch_nothing a_time_without_any_daemon_touch_nothing
