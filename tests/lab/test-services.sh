#!/bin/bash
# Names of services on three hosts of a cluster, through faults: alpha, beta and gamma resolve what runs, by fleet-dns.
# Takes 100 s.
. "$(dirname "$0")/scenario.sh"

# What a host resolves, by all three kinds of readers: addresses of the name, ports of SRV records with their hosts, lines of the file.
addresses() { host_exec "$1" getent ahostsv4 shop.service.fleet | awk '/STREAM/ { print $1 }' | sort | xargs; }
ports() { host_exec "$1" dig +short +time=2 SRV _http._tcp.shop.service.fleet | awk '{ split($4, a, "-"); print a[1] ":" $3 }' | sort | xargs; }
lines() { host_exec "$1" sh -c 'cat /run/fleet/services/shop 2>/dev/null' | awk '{ split($1, a, "-"); print a[1] ":" $3 }' | sort | xargs; }
has() { [ "$(addresses "$1")" = "$2" ]; } # HOST "ADDRESS..."
all_have() { # "ADDRESS...", on the hosts that are on
        local h
        for h in $LAB_HOSTS; do
                ! host_is_on "$h" || has "$h" "$1" || return 1
        done
}
wait_all() { wait_for "$1" all_have "$2" || fail "not '$2': $(for h in $LAB_HOSTS; do ! host_is_on "$h" || echo "$h: $(addresses "$h");"; done | xargs)"; }
stays() { # SECONDS "ADDRESS..." HOST...: each answer is the same
        local end=$((SECONDS + $1)) h
        while [ $SECONDS -lt $end ]; do
                for h in "${@:3}"; do
                        has "$h" "$2" || fail "$h has '$(addresses "$h")', not '$2'"
                done
        done
}
both="10.90.0.1 10.90.0.2"

hosts_resolve_names() {
        local h
        cluster_up
        for h in $LAB_HOSTS; do
                host_exec "$h" sh -c 'systemctl -q enable --now fleet-dns.socket && echo nameserver 169.254.23.79 >/etc/resolv.conf' || fail "no fleet-dns on $h"
        done
        wait_for 10 host_exec gamma dig +short ns.fleet || fail "fleet-dns does not answer"
}

started_units_have_names_on_each_host() {
        local h n
        unit_file shop@.service <<'END'
[Service]
ExecStart=/usr/bin/python3 -m http.server ${FLEET_PORT_HTTP}
Restart=no
[X-Fleet]
Port=http:auto
Conflicts=shop@*.service
MachineMetadata=zone=a
MachineMetadata=zone=b
UpdateWatchSec=1s
END
        fleetctl alpha start shop@1.service shop@2.service >"$LAB/out" 2>&1 || fail "start: $(tail -2 "$LAB/out")"
        wait_all 15 "$both"
        for h in $LAB_HOSTS; do
                [ "$(ports "$h")" = "$(lines "$h")" ] && [ -n "$(lines "$h")" ] || fail "$h: SRV has '$(ports "$h")', the file '$(lines "$h")'"
        done
        n=$(host_exec gamma dig +short SRV near.shop.service.fleet | head -1 | awk '{ print $4, $3 }')
        host_exec gamma curl -sS -m 2 -o /dev/null "http://${n% *}:${n#* }/" || fail "gamma does not reach ${n% *}:${n#* }"
}

names_stay_without_fleetd() {
        local h
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl kill -s STOP fleetd
        done
        stays 4 "$both" $LAB_HOSTS
        for h in $LAB_HOSTS; do
                host_exec "$h" sh -c 'systemctl kill -s CONT fleetd; systemctl restart fleetd'
        done
        stays 4 "$both" $LAB_HOSTS
        cluster_whole
}

names_stay_when_the_leader_is_killed() {
        host_exec "$(leader)" systemctl kill -s KILL fleetd
        stays 4 "$both" $LAB_HOSTS
        cluster_whole
}

a_unit_that_dies_has_left_the_names() {
        local u
        u=$(host_exec alpha awk '$2 == "10.90.0.1" { print $8 }' /run/fleet/services/shop)
        host_exec alpha systemctl kill -s KILL "$u"
        wait_for 2 has alpha 10.90.0.2 || fail "alpha has $(addresses alpha)"
        wait_all 5 10.90.0.2
        fleetctl alpha restart "$u" >"$LAB/out" 2>&1
        wait_all 20 "$both"
}

an_assigned_stop_withdraws_first() {
        local u
        u=$(host_exec beta awk '$2 == "10.90.0.2" { print $8 }' /run/fleet/services/shop)
        fleetctl alpha stop "$u" >"$LAB/out" 2>&1 &
        wait_for 5 has gamma 10.90.0.1 || fail "gamma has $(addresses gamma)"
        host_exec beta systemctl -q is-active "$u" || fail "the unit had stopped when its name was withdrawn"
        wait $!
        fleetctl alpha start "$u" >"$LAB/out" 2>&1
        wait_all 20 "$both"
}

# Two endpoints with a fixed port, of which one at a time is restarted, moved or drained.
a_client_that_resolves_for_each_connection_is_never_refused() {
        local client i h
        unit_file web@.service <<'END'
[Service]
ExecStart=/usr/bin/python3 -m http.server 8090
[X-Fleet]
Port=http:8090
HealthTcp=http
HealthIntervalSec=1s
UpdateWatchSec=1s
END
        fleetctl alpha start web@1.service web@2.service >"$LAB/out" 2>&1 || fail "start: $(tail -2 "$LAB/out")"
        wait_for 15 has_two || fail "web has $(web)"
        host_exec gamma python3 - >"$LAB/client" 2>&1 <<'END' &
import os, socket
n = 0
while not os.path.exists("/run/done"):
    to = socket.getaddrinfo("web.service.fleet", 8090, socket.AF_INET, socket.SOCK_STREAM)[0][4]
    with socket.create_connection(to, 3) as s:
        s.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP"), to
    n += 1
print("all", "of many" if n > 1000 else n)
END
        client=$!
        for i in 1 2 1 2 1 2 1 2 1 2; do
                one_at_a_time restart "web@$i.service"
        done
        for i in 1 2 1 2 1; do
                one_at_a_time move "web@$i.service"
        done
        for h in beta alpha; do
                FLEETCTL_LIMIT=6 fleetctl gamma drain $h >"$LAB/out" 2>&1 # shop stays: it fits no other machine
                wait_for 20 has_two || fail "after the drain of $h, web has $(web)"
                fleetctl gamma uncordon $h >"$LAB/out" 2>&1 || fail "uncordon $h: $(tail -2 "$LAB/out")"
        done
        host_exec gamma touch /run/done
        wait $client
        [ "$(cat "$LAB/client")" = "all of many" ] || fail "$(tail -1 "$LAB/client")"
        fleetctl alpha destroy --yes 'web@*' >"$LAB/out" 2>&1
}
web() { host_exec gamma dig +short web.service.fleet | sort | xargs; }
has_two() { [ "$(web | wc -w)" = 2 ]; }
one_at_a_time() { # VERB ARGUMENT; a machine that a unit leaves has its port until it has stopped there
        wait_for 10 fleetctl gamma "$@" || fail "$*: $(fleetctl gamma "$@" 2>&1 | tail -2)"
        wait_for 20 has_two || fail "after $*, web has $(web)"
}

a_host_without_power_leaves_the_names() {
        host_kill beta
        wait_all 10 10.90.0.1
}

# gamma has no majority alone: what it knew remains.
names_stay_without_a_majority() {
        host_kill alpha
        stays 8 10.90.0.1 gamma
        hosts_up alpha beta
        wait_all 60 "$both"
}

scenario hosts_resolve_names started_units_have_names_on_each_host names_stay_without_fleetd names_stay_when_the_leader_is_killed \
        a_unit_that_dies_has_left_the_names an_assigned_stop_withdraws_first \
        a_client_that_resolves_for_each_connection_is_never_refused a_host_without_power_leaves_the_names names_stay_without_a_majority
