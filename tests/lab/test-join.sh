#!/bin/bash
# A host joins another one by a token, on booted hosts without a configuration: fleetd starts itself again with its new identity, and
# systemd restarts no service. Units of the host run on. Takes 10 s.
LAB_HOSTS="alpha beta"
. "$(dirname "$0")/scenario.sh"

# What systemd knows of fleetd.service: its process and its invocation stay when the daemon starts itself again.
service() { host_exec "$1" systemctl show -p MainPID,InvocationID,NRestarts,ActiveState fleetd.service local.service; }

each_host_is_a_cluster_of_one() {
        local h
        lab_install "$LAB_BUILD" || fail "make install failed"
        for h in $LAB_HOSTS; do
                host_install "$h" || fail "fleetd cannot be put on $h"
                rm "$LAB/$h/up/etc/fleet/fleetd.conf.d/10-lab.conf" "$LAB/$h/up/etc/fleet/peer.key"
        done
        hosts_up $LAB_HOSTS
        for h in $LAB_HOSTS; do
                wait_for 30 writes "$h" || fail "$h accepts no writes"
                host_exec "$h" systemd-run -q --unit=local sleep infinity || fail "$h starts no unit"
        done
        runs_forever own.service </dev/null
        fleetctl beta start own.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        runs_on own.service beta || fail "it runs on $(hosts_running own.service)"
        identities >"$LAB/before"
        for h in $LAB_HOSTS; do service "$h"; done >"$LAB/services"
}

the_first_host_opens_its_cluster() {
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        grep -q "listens on $(host_address alpha):2380" "$LAB/out" || fail "$(cat "$LAB/out")"
}

the_second_host_joins_by_one_command() {
        local token
        token=$(host_exec alpha fleetctl token | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1)
        [ -n "$token" ] || fail "no token"
        host_exec beta fleetctl join --discard "$token" >"$LAB/out" 2>&1 || fail "join: $(cat "$LAB/out")"
        grep -q "Joined: this host is up, with alpha" "$LAB/out" || fail "$(cat "$LAB/out")"
        wait_for 10 knows_machines alpha 2 && wait_for 10 knows_machines beta 2 || fail "$(machines beta)"
        [ "$(key_put beta /joined yes)" = ok ] && wait_for 5 key_is alpha /joined yes || fail "no key of beta reaches alpha"
}

no_service_was_restarted() {
        local h now
        now=$(for h in $LAB_HOSTS; do service "$h"; done)
        [ "$now" = "$(cat "$LAB/services")" ] || fail "$(diff <(echo "$now") "$LAB/services" | grep '^[<>]' | tr '\n' ' ')"
        WHAT="the join" untouched "$(cat "$LAB/before")"
}

systemctl_status_shows_the_new_state() {
        host_exec beta systemctl status --no-pager fleetd >"$LAB/out"
        grep -q 'Status: "follower, term ' "$LAB/out" || fail "$(cat "$LAB/out")"
        host_exec alpha systemctl status --no-pager fleetd >"$LAB/out"
        grep -q 'Status: "leader, term .*, 1 of 1 voters reachable"' "$LAB/out" || fail "$(cat "$LAB/out")"
        fleetctl beta status >"$LAB/out" 2>&1
        grep -q 'own.service .*runs on beta, and is no unit of the cluster' "$LAB/out" || fail "own.service is not reported: $(cat "$LAB/out")"
}

scenario each_host_is_a_cluster_of_one the_first_host_opens_its_cluster the_second_host_joins_by_one_command no_service_was_restarted \
        systemctl_status_shows_the_new_state
