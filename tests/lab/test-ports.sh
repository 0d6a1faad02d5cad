#!/bin/bash
# Ports that a host selects for its units (Port=NAME:auto): the program listens at its number, which survives restarts of unit, daemon and
# host, is replaced if another program has it at a start, and is free although other programs take ports of the range all the time.
# Takes 200 s.
. "$(dirname "$0")/scenario.sh"

# A unit of beta that listens at its port.
listener() {
        cat <<END
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/perl -MIO::Socket::INET -e 'my \$s = IO::Socket::INET->new(Listen => 5, ReuseAddr => 1, LocalPort => \$ENV{FLEET_PORT_WEB_UI}) or die \$!; sleep'
Restart=on-failure
RestartSec=200ms
[X-Fleet]
MachineMetadata=zone=b
Port=web-ui:auto
END
}
# The number in the record of unit $1, in its drop-in, and at which its process listens.
recorded() { host_exec beta cat /var/lib/fleet/agent/assignment | python3 -c 'import json, sys; print(*[u["ports"]["web-ui"] for u in json.load(sys.stdin)["units"] if u["name"] == sys.argv[1] and "ports" in u])' "$1"; }
delivered() { host_exec beta sed -n 's/^Environment=.*FLEET_PORT_WEB_UI=//p' "/run/systemd/system/$1.d/fleet-ports.conf"; }
listens() { host_exec beta sh -c 'n=$(tr "\0" "\n" <"/proc/$(systemctl show -P MainPID "$1")/environ" | sed -n s/FLEET_PORT_WEB_UI=//p); ss -Hltn "sport = :$n" | grep -q . && echo "$n"' - "$1" 2>/dev/null; }
has_number() { [ "$(listens "$1") $(recorded "$1") $(delivered "$1")" = "$2 $2 $2" ]; }

a_unit_listens_at_the_number_that_was_selected() {
        cluster_up
        local number
        listener | unit_file web.service
        fleetctl alpha start web.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        number=$(recorded web.service)
        [ "${number:-0}" -ge 20000 ] && [ "$number" -le 31999 ] || fail "the record has '$number'"
        wait_for 10 has_number web.service "$number" || fail "recorded $number, delivered $(delivered web.service), listens at $(listens web.service)"
        host_exec beta grep -q "FLEET_ADDRESS=$(host_address beta) " /run/systemd/system/web.service.d/fleet-ports.conf || fail "no address"
        echo "$number" >"$LAB/number"
}

it_survives_restarts_of_unit_daemon_and_host() {
        local number
        number=$(cat "$LAB/number")
        host_exec beta systemctl restart web.service fleetd
        wait_for 10 has_number web.service "$number" || fail "after restarts: $(recorded web.service) $(listens web.service), not $number"
        { listener; echo 'ReloadTrigger=none'; } | unit_file web.service
        fleetctl alpha start --replace web.service >"$LAB/out" 2>&1
        wait_for 10 has_number web.service "$number" || fail "with another text: $(recorded web.service) $(listens web.service), not $number"
        host_kill beta && host_up beta && host_wait beta || fail "beta does not come back"
        wait_for 60 has_number web.service "$number" || fail "after a boot: $(recorded web.service) $(listens web.service), not $number"
}

# A program of the host has taken the port before fleetd starts the unit.
a_number_that_another_program_has_is_replaced_and_the_history_says_so() {
        local number new
        number=$(cat "$LAB/number")
        host_exec beta sh -c "cat >/etc/systemd/system/thief.service && systemctl enable -q thief.service" <<END
[Unit]
Before=fleetd.service
[Service]
ExecStart=/usr/bin/python3 -m http.server $number
ExecStartPost=/bin/sh -c 'until ss -Hltn "sport = :$number" | grep -q .; do sleep 0.05; done'
[Install]
WantedBy=multi-user.target
END
        host_kill beta && host_up beta && host_wait beta || fail "beta does not come back"
        wait_for 60 differs_from "$number" || fail "it has the number of the other program"
        new=$(recorded web.service)
        wait_for 10 has_number web.service "$new" || fail "recorded $new, delivered $(delivered web.service), listens at $(listens web.service)"
        wait_for 10 history_says "port web-ui is $new, because $number/tcp is in use" || fail "events: $(fleetctl alpha events 2>&1 | tail -5)"
        host_exec beta systemctl disable -q --now thief.service
}
differs_from() { local n; n=$(recorded web.service) && [ -n "$n" ] && [ "$n" != "$1" ]; }
history_says() { fleetctl alpha events 2>/dev/null | grep -qF "$1"; }

# 20 units are started ten times, while others take and release ports of the range.
starts_beside_programs_that_take_ports_all_succeed() {
        local round
        listener | unit_file many@.service
        host_exec beta systemd-run -q --unit=takers perl -MIO::Socket::INET -e \
                'while (1) { push @s, IO::Socket::INET->new(Listen => 1, LocalPort => 20000 + int rand 12000); splice @s, int rand @s, 1 if @s > 3000; select undef, undef, undef, 0.0005 }'
        for round in $(seq "${LAB_ROUNDS:-10}"); do
                fleetctl alpha start --no-block many@{1..20}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
                wait_for 60 many_listen || fail "round $round: $(for i in $(seq 20); do echo "many@$i: $(recorded "many@$i.service") $(delivered "many@$i.service") $(listens "many@$i.service");"; done)"
                fleetctl alpha destroy many@{1..20}.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        done
        host_exec beta sh -c 'systemctl stop takers; [ -z "$(ls -d /run/systemd/system/many@*.d 2>/dev/null)" ]' || fail "drop-ins are left"
}
many_listen() {
        local i
        [ "$(fleetctl alpha list-units --no-legend --fields=unit,sub 2>/dev/null | grep -c 'many@.*running')" = 20 ] || return 1
        [ "$(for i in $(seq 20); do recorded "many@$i.service"; done | sort -u | wc -l)" = 20 ] || return 1
        for i in 1 10 20; do has_number "many@$i.service" "$(recorded "many@$i.service")" || return 1; done
}

scenario a_unit_listens_at_the_number_that_was_selected it_survives_restarts_of_unit_daemon_and_host \
        a_number_that_another_program_has_is_replaced_and_the_history_says_so starts_beside_programs_that_take_ports_all_succeed
