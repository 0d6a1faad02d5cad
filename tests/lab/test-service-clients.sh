#!/bin/bash
# Clients on two hosts resolve a service with two endpoints for each connection, while its units are restarted, moved and drained, and while daemons and
# fleet-dns are restarted and killed: no connection is refused, and no query stays without an answer. With CHECK_ALL=yes more often, and with the default
# UpdateWatchSec=. Takes 130 s.
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"
. "$here/services.sh"
RESTARTS=10 MOVES=5 DRAINS=2 WATCH=UpdateWatchSec=1s
[ -z "${CHECK_ALL:-}" ] || RESTARTS=50 MOVES=20 DRAINS=5 WATCH=

# Each host answers with two endpoints.
two_are_listed() { local h; for h in $LAB_HOSTS; do [ "$(wc -w <<<"$(filed "$h" shop)")" = 2 ] && [ "$(answered_srv "$h" shop)" = "$(filed "$h" shop)" ] || return 1; done; }
whole() { wait_for 30 two_are_listed || fail "$1: $(for h in $LAB_HOSTS; do echo "$h: $(filed "$h" shop);"; done)"; }

a_service_has_two_endpoints() {
        cluster_with_instances
        dns_on $LAB_HOSTS
        unit_file shop@.service <<END
[Service]
Type=notify
ExecStart=/usr/local/bin/instance 8080 1
ExecReload=/bin/kill -HUP \$MAINPID
[X-Fleet]
Port=http:8080
HealthHttp=http/ready
HealthIntervalSec=1s
$WATCH
END
        ctl start shop@{1..2}.service
        whole start
}

# changes N WHAT COMMAND...: each of them, with the number of an instance.
changes() {
        local i n=$1 what=$2
        shift 2
        finds_start shop connect alpha gamma
        for ((i = 0; i < n; i++)); do
                "$@" $((i % 2 + 1))
                whole "$what $i"
                wait_for 10 runs_once "shop@$((i % 2 + 1)).service" || fail "$what $i: it runs on $(hosts_running "shop@$((i % 2 + 1)).service" | xargs)"
        done
        finds_stop "$n ${what}s"
}
restart() { ctl restart "shop@$1.service"; }
move() { ctl move "shop@$1.service"; }
drain() {
        local h
        h=$(hosts_running "shop@$1.service")
        ctl drain "$h"
        ctl uncordon "$h"
}
no_connection_is_refused_in_restarts() { changes $RESTARTS restart restart; }
no_connection_is_refused_in_moves() { changes $MOVES move move; }
no_connection_is_refused_in_drains() { changes $DRAINS drain drain; }
no_connection_is_refused_while_a_new_text_is_rolled_out() {
        sed -i 's/instance 8080 1/instance 8080 2/' "$LAB/units/shop@.service"
        finds_start shop connect alpha gamma
        ctl start --replace shop@{1..2}.service
        whole "a new text"
        finds_stop "a new text"
        [ "$(instance_events | grep -c ' start 8080 2 ')" -ge 2 ] || fail "the new text does not run: $(instance_events | tail -4)"
}

# Daemons in a random order, each fleet-dns by itself.
no_query_is_unanswered_in_100_restarts_of_daemons_and_50_of_fleet_dns() {
        local i h hosts
        read -r -a hosts <<<"$LAB_HOSTS"
        finds_start shop connect alpha gamma
        for h in alpha gamma; do
                host_exec "$h" systemd-run -q --unit=restarts sh -c 'for i in $(seq 50); do systemctl restart fleet-dns.service; sleep 0.3; done; touch /run/restarted'
        done
        for ((i = 0; i < 100; i++)); do
                h=${hosts[RANDOM % 3]}
                case $((RANDOM % 3)) in
                0) host_exec "$h" systemctl kill -s KILL --kill-whom=main fleetd ;;
                1) host_exec "$h" systemctl kill -s ABRT --kill-whom=main fleetd ;;
                2) host_exec "$h" systemctl restart --no-block fleetd ;;
                esac
                sleep "0.$((RANDOM % 6))"
        done
        for h in alpha gamma; do
                wait_for 60 host_exec "$h" test -e /run/restarted || fail "no 50 restarts of fleet-dns on $h"
        done
        cluster_whole
        whole "100 restarts"
        finds_stop "100 restarts of fleetd, 50 of fleet-dns"
}

scenario a_service_has_two_endpoints no_connection_is_refused_in_restarts no_connection_is_refused_in_moves no_connection_is_refused_in_drains \
        no_connection_is_refused_while_a_new_text_is_rolled_out no_query_is_unanswered_in_100_restarts_of_daemons_and_50_of_fleet_dns
