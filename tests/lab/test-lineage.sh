#!/bin/bash
# A majority is lost permanently while its units run: one host is recovered, the others join it again, and no unit is touched.
# Takes 60 s.
. "$(dirname "$0")/scenario.sh"

a_cluster_with_units() {
        local n
        cluster_up
        for n in 1 2 3 4 5 6; do
                runs_forever plain-$n.service </dev/null
        done
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        fleetctl beta start plain-{1,2,3,4,5,6}.service everywhere.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service)"
        identities >"$LAB/before"
        [ "$(wc -l <"$LAB/before")" = 9 ] || fail "not nine units run: $(cat "$LAB/before")"
}

waits_for() { host_exec alpha curl -sf -m 2 --unix-socket /run/fleet.sock http://fleet/fleet/v1/cluster | python3 -c 'import json, sys; print(*sorted(json.load(sys.stdin).get("waitsFor", ["none"])))'; }
waits_are() { [ "$(waits_for)" = "$1" ]; }

the_recovered_host_alone_assigns_nothing() {
        local h
        for h in $LAB_HOSTS; do
                host_exec $h systemctl stop fleetd
        done
        host_exec alpha fleetd --recover --force >"$LAB/out" 2>&1 || fail "recover: $(cat "$LAB/out")"
        host_exec alpha systemctl start fleetd
        wait_for 20 writes alpha || fail "it takes no writes"
        wait_for 10 waits_are "beta gamma" || fail "it waits for $(waits_for)"
        fleetctl alpha why plain-1.service | grep -q 'not all hosts have reported their units' || fail "why: $(fleetctl alpha why plain-1.service)"
        sleep 35        # the tested time: hosts are lost after 3 s, and the brake ends after 30
        WHAT="the recovered host" untouched "$(cat "$LAB/before")"
}

hosts_that_join_again_report_their_units_which_keep_running() {
        local h
        for h in beta gamma; do
                host_exec $h sh -c 'rm -rf /var/lib/fleet/*'
                host_exec $h systemctl start fleetd
        done
        wait_for 30 waits_are none || fail "it waits for $(waits_for)"
        cluster_whole
        WHAT="joining again" untouched "$(cat "$LAB/before")"
        fleetctl gamma start plain-1.service everywhere.service >"$LAB/out" 2>&1 || fail "what runs is not known as running: $(cat "$LAB/out")"
        WHAT="a start of what runs" untouched "$(cat "$LAB/before")"
        fleetctl gamma stop plain-1.service >"$LAB/out" 2>&1 || fail "stop: $(cat "$LAB/out")"
        runs_nowhere plain-1.service || fail "stopped, it runs on $(hosts_running plain-1.service)"
        wait_for 30 three_vote alpha || fail "roles: $(roles alpha)"
}

scenario a_cluster_with_units the_recovered_host_alone_assigns_nothing hosts_that_join_again_report_their_units_which_keep_running
