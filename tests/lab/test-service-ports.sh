#!/bin/bash
# The ports of units in records and answers: numbers that a host selects, fixed ones, and those that containers publish. For the numbers themselves see
# test-ports.sh. Takes 40 s.
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"
. "$here/services.sh"

# port_unit NAME LINES: each instance listens at its port http.
port_unit() {
        printf '[Service]\nType=notify\nExecStart=/usr/local/bin/instance ${FLEET_PORT_HTTP} 1\nRestart=always\nRestartSec=200ms\n[Unit]\nStartLimitIntervalSec=0\n[X-Fleet]\nWithdrawSec=0\n%b' "$2" | unit_file "$1"
}
number() { service_file "${2:-alpha}" "$1" | cut -d' ' -f3 | xargs; }  # SERVICE [HOST]: of each endpoint, by the file
srv() { dig_at "$1" "_http._tcp.$2.service.fleet" SRV | cut -d' ' -f3 | xargs; } # HOST SERVICE

three_hosts_answer() {
        cluster_with_instances
        dns_on $LAB_HOSTS
}

# is_number N: file and SRV record on each host have it, and its process listens there.
is_number() {
        local h
        for h in $LAB_HOSTS; do
                [ "$(number kept "$h")" = "$1" ] && [ "$(srv "$h" kept)" = "$1" ] || return 1
        done
        host_exec alpha curl -sf -o /dev/null "http://10.90.0.1:$1/"
}
number_is_there() { [ -n "$(number kept)" ] && is_number "$(number kept)"; }
the_number_of_a_record_is_that_of_the_unit_also_when_it_is_replaced() {
        local n new
        port_unit kept.service "Port=http:auto\nMachineID=$(host_machine_id alpha)\n"
        ctl start kept.service
        wait_for 10 number_is_there || fail "no number: $(service_file alpha kept)"
        n=$(number kept)
        ctl stop kept.service
        host_exec alpha systemd-run -q --unit=taker python3 -c "import socket, time; s = socket.create_server(('', $n)); time.sleep(1000)"
        wait_for 5 host_exec alpha sh -c "ss -tlnH 'sport = :$n' | grep -q ." || fail "the port is not taken"
        ctl start kept.service
        wait_for 10 number_is_there || fail "$(service_file alpha kept)"
        new=$(number kept)
        [ "$new" != "$n" ] || fail "the number is still $n"
        wait_for 5 event_says "port http is $new, because $n/tcp is in use" || fail "$(fleetctl beta events kept.service 2>&1 | tail -5)"
        host_exec alpha systemctl stop taker
        ctl restart kept.service
        wait_for 10 is_number "$new" || fail "after a restart, not $new: $(number kept)"
}
event_says() { fleetctl beta events kept.service 2>&1 | grep -qF "$1"; }

two_units_with_one_fixed_port_never_share_a_machine() {
        local n
        port_unit f@.service 'Service=f\nPort=http:8080\n'
        sed -i 's/\${FLEET_PORT_HTTP}/8080/' "$LAB/units/f@.service"
        ctl start --no-block f@{1..4}.service
        wait_for 10 three_run || fail "f runs on: $(number f); $(fleetctl alpha list-units 2>&1)"
        n=$(printf '%s\n' f@{1..4}.service | grep -vxF "$(service_file alpha f | cut -d' ' -f8)")
        fleetctl beta why "$n" >"$LAB/out" 2>&1
        grep -qE 'it has f@[1-4]\.service, which has port 8080/tcp' "$LAB/out" || fail "why $n: $(cat "$LAB/out")"
        ctl destroy --yes "$(service_file alpha f | cut -d' ' -f8 | head -1)"
        wait_for 10 eval "service_file alpha f | grep -q ' $n\$'" || fail "$n does not run: $(service_file alpha f)"
        three_run && [ "$(service_file alpha f | wc -l)" = 3 ] || fail "not three on three machines: $(service_file alpha f)"
        fleetctl alpha destroy --yes f@{1..4}.service >"$LAB/out" 2>&1
}
three_run() { [ "$(service_file alpha f | cut -d' ' -f2 | sort -u | wc -l)" = 3 ]; }

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
two_publish() { [ -n "$(published)" ] && [ "$(srv gamma shop | tr ' ' '\n' | sort -u | xargs)" = "$(published)" ]; }

scenario three_hosts_answer the_number_of_a_record_is_that_of_the_unit_also_when_it_is_replaced \
        two_units_with_one_fixed_port_never_share_a_machine a_container_publishes_the_number_of_its_srv_record_and_two_with_one_host_port_run_on_two_hosts
