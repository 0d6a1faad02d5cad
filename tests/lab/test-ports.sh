#!/bin/bash
# The ports of units on booted hosts. Numbers that a host selects (Port=NAME:auto): the program listens at that of its record and of its SRV record, which
# survives restarts of unit, daemon and host, is replaced if another program has it at a start, and is free although other programs take ports of the range
# all the time. Fixed ones are never shared, and containers publish theirs. Takes 110 s.
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"
. "$here/services.sh"

# listener NAME PORT LINES: each instance listens at this port, an expression of Perl.
listener() {
        unit_file "$1" <<END
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/perl -MIO::Socket::INET -e 'my \$s = IO::Socket::INET->new(Listen => 5, ReuseAddr => 1, LocalPort => $2) or die \$!; sleep'
Restart=on-failure
RestartSec=200ms
[X-Fleet]
WithdrawSec=0
$3
END
}
SELECTED='$ENV{FLEET_PORT_HTTP}' ON_BETA=$'Port=http:auto\nMachineMetadata=zone=b'
# The number of a unit of beta in its record, in its drop-in, and at which its process listens; of the endpoints of a service by file and SRV records.
recorded() { host_exec beta cat /var/lib/fleet/agent/assignment | python3 -c 'import json, sys; print(*[u["ports"]["http"] for u in json.load(sys.stdin)["units"] if u["name"] == sys.argv[1] and "ports" in u])' "$1"; }
delivered() { host_exec beta sed -n 's/^Environment=FLEET_ADDRESS=10[0-9.]* FLEET_PORT_HTTP=//p' "/run/systemd/system/$1.d/fleet-ports.conf"; }
listens() { host_exec beta sh -c 'n=$(tr "\0" "\n" <"/proc/$(systemctl show -P MainPID "$1")/environ" | sed -n s/FLEET_PORT_HTTP=//p); ss -Hltn "sport = :$n" | grep -q . && echo "$n"' - "$1" 2>/dev/null; }
srv() { dig_at "$1" "_http._tcp.$2.service.fleet" SRV | cut -d' ' -f3 | sort -u | xargs; } # HOST SERVICE
numbers() { echo "$(recorded "$1") $(delivered "$1") $(listens "$1")"; }
has_number() { [ "$(numbers "$1")" = "$2 $2 $2" ]; }
is_number() { # N: of kept.service, everywhere
        local h
        has_number kept.service "$1" || return 1
        for h in $LAB_HOSTS; do [ "$(service_file "$h" kept | cut -d' ' -f3) $(srv "$h" kept)" = "$1 $1" ] || return 1; done
}
is_kept() { wait_for "${2:-10}" is_number "$(cat "$LAB/number")" || fail "$1, not $(cat "$LAB/number"): $(numbers kept.service), file '$(service_file gamma kept)'"; }

a_unit_listens_at_the_number_of_its_record_and_its_srv_record() {
        cluster_up
        dns_on $LAB_HOSTS
        listener kept.service "$SELECTED" "$ON_BETA"
        ctl start kept.service
        recorded kept.service >"$LAB/number"
        [ "$(cat "$LAB/number")" -ge 20000 ] && [ "$(cat "$LAB/number")" -le 31999 ] || fail "the record has '$(cat "$LAB/number")'"
        is_kept "after the start"
}

it_survives_restarts_of_unit_daemon_and_host() {
        host_exec beta systemctl restart kept.service fleetd
        is_kept "after restarts" 20
        listener kept.service "$SELECTED" "$ON_BETA"$'\nReloadTrigger=none'
        ctl start --replace kept.service
        is_kept "with another text"
        host_kill beta && host_up beta && host_wait beta || fail "beta does not come back"
        is_kept "after a boot" 60
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
        new=$(recorded kept.service)
        echo "$new" >"$LAB/number"
        is_kept "with another program" 30
        wait_for 10 history_says "port http is $new, because $number/tcp is in use" || fail "events: $(fleetctl alpha events 2>&1 | tail -5)"
        host_exec beta systemctl disable -q --now thief.service
        ctl restart kept.service
        is_kept "without the other program"
}
differs_from() { local n; n=$(recorded kept.service) && [ -n "$n" ] && [ "$n" != "$1" ]; }
history_says() { fleetctl alpha events 2>/dev/null | grep -qF "$1"; }

two_units_with_one_fixed_port_never_share_a_machine() {
        local n
        listener f@.service 8080 $'Service=f\nPort=http:8080'
        ctl start --no-block f@{1..4}.service
        wait_for 10 three_run || fail "f: $(service_file alpha f); $(fleetctl alpha list-units 2>&1)"
        n=$(printf '%s\n' f@{1..4}.service | grep -vxF "$(service_file alpha f | cut -d' ' -f8)")
        fleetctl beta why "$n" >"$LAB/out" 2>&1
        grep -qE 'it has f@[1-4]\.service, which has port 8080/tcp' "$LAB/out" || fail "why $n: $(cat "$LAB/out")"
        ctl destroy --yes "$(service_file alpha f | cut -d' ' -f8 | head -1)"
        wait_for 10 eval "service_file alpha f | grep -q ' $n\$'" || fail "$n does not run: $(service_file alpha f)"
        wait_for 5 three_run || fail "not three on three machines: $(service_file alpha f)"
        fleetctl alpha destroy --yes f@{1..4}.service >"$LAB/out" 2>&1
}
three_run() { [ "$(service_file alpha f | wc -l)" = 3 ] && [ "$(service_file alpha f | cut -d' ' -f2 | sort -u | wc -l)" = 3 ]; }

give_generator() {
        host_exec "$1" sh -c 'mkdir -p /etc/systemd/system-generators && cd /etc/systemd/system-generators && cat >new && chmod 755 new && mv new podman-system-generator; systemctl reload fleetd' <"$here/podman-system-generator"
}
a_container_publishes_the_number_of_its_srv_record_and_two_with_one_host_port_run_on_two_hosts() {
        local h n
        [ ! -x /usr/lib/systemd/system-generators/podman-system-generator ] || skip "test-quadlet.sh has podman's own generator"
        for h in $LAB_HOSTS; do give_generator "$h"; done
        printf '[Container]\nImage=localhost/shop:1\n[X-Fleet]\nPort=http:auto:80\n' | unit_file shop@.container
        for n in a b; do printf '[Container]\nImage=localhost/%s:1\nPublishPort=8080:80\n' $n | unit_file $n.container; done
        ctl start shop@{1..2}.container a.container b.container
        wait_for 10 two_publish || fail "records: $(srv gamma shop); published: $(published)"
        [ -n "$(hosts_running a.service)" ] && [ "$(hosts_running a.service)" != "$(hosts_running b.service)" ] || fail "a on $(hosts_running a.service), b on $(hosts_running b.service)"
}
published() { for h in $LAB_HOSTS; do host_exec "$h" sh -c "systemctl cat 'shop@*.service' 2>/dev/null" | sed -n 's,^PublishPort=\([0-9]*\):80/tcp$,\1,p'; done | sort -u | xargs; }
two_publish() { [ -n "$(published)" ] && [ "$(srv gamma shop)" = "$(published)" ]; }

# 20 units are started ten times, while others take and release ports of the range.
starts_beside_programs_that_take_ports_all_succeed() {
        local round
        listener many@.service "$SELECTED" "$ON_BETA"
        host_exec beta systemd-run -q --unit=takers perl -MIO::Socket::INET -e \
                'while (1) { push @s, IO::Socket::INET->new(Listen => 1, LocalPort => 20000 + int rand 12000); splice @s, int rand @s, 1 if @s > 3000; select undef, undef, undef, 0.0005 }'
        for round in $(seq "${LAB_ROUNDS:-10}"); do
                ctl start --no-block many@{1..20}.service
                wait_for 60 many_listen || fail "round $round: $(for i in $(seq 20); do echo "many@$i: $(numbers "many@$i.service");"; done)"
                ctl destroy --yes many@{1..20}.service
        done
        host_exec beta sh -c 'systemctl stop takers; [ -z "$(ls -d /run/systemd/system/many@*.d 2>/dev/null)" ]' || fail "drop-ins are left"
}
many_listen() {
        local i
        [ "$(fleetctl alpha list-units --no-legend --fields=unit,sub 2>/dev/null | grep -c 'many@.*running')" = 20 ] || return 1
        [ "$(for i in $(seq 20); do recorded "many@$i.service"; done | sort -u | wc -l)" = 20 ] || return 1
        for i in 1 10 20; do has_number "many@$i.service" "$(recorded "many@$i.service")" || return 1; done
}

scenario a_unit_listens_at_the_number_of_its_record_and_its_srv_record it_survives_restarts_of_unit_daemon_and_host \
        a_number_that_another_program_has_is_replaced_and_the_history_says_so two_units_with_one_fixed_port_never_share_a_machine \
        a_container_publishes_the_number_of_its_srv_record_and_two_with_one_host_port_run_on_two_hosts starts_beside_programs_that_take_ports_all_succeed
