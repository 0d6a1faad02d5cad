#!/bin/bash
# The lab itself: hosts, network links and power.
. "$(dirname "$0")/scenario.sh"

three_hosts_boot_and_know_themselves_and_each_other() {
        local h
        hosts_up $LAB_HOSTS
        for h in $LAB_HOSTS; do
                [ "$(host_exec "$h" hostname)" = "$h" ] || fail "$h has another name"
                [ "$(host_exec "$h" cat /etc/machine-id)" = "$(host_machine_id "$h")" ] || fail "$h has another machine id"
        done
        host_exec alpha getent hosts gamma | grep -q "^$(host_address gamma) " || fail "alpha does not know gamma"
        listens gamma
        reaches alpha gamma || fail "alpha does not reach gamma"
}

# A server on port 8000 of the host.
listens() {
        host_exec "$1" systemctl is-active -q listener && return
        host_exec "$1" systemd-run -q --unit=listener python3 -m http.server 8000 --directory /etc
        wait_for 10 host_exec "$1" python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8000), 1)' ||
                fail "nothing listens on $1"
}
reaches() { host_exec "$1" python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], 8000), 1)' "$2" 2>/dev/null; }

a_cable_out_is_silence_and_a_cable_in_heals() {
        host_cut gamma || fail "cannot cut gamma"
        ! reaches alpha gamma || fail "alpha reaches gamma through a cable that is out"
        host_heal gamma
        wait_for 5 reaches alpha gamma || fail "gamma is not reached again"
}

two_hosts_can_be_parted_while_a_third_sees_both() {
        lab_part alpha gamma || fail "cannot part them"
        ! reaches alpha gamma || fail "alpha still reaches gamma"
        reaches beta gamma || fail "beta does not reach gamma"
        lab_join alpha gamma
        wait_for 5 reaches alpha gamma || fail "gamma is not reached again"
}

answers() { host_exec "$1" python3 -c 'import sys, urllib.request as u; u.urlopen("http://%s:8000/hostname" % sys.argv[1], None, 1)' "$2" 2>/dev/null; }

a_stopped_machine_is_silent_and_goes_on_where_it_was() {
        answers alpha gamma || fail "gamma does not answer before"
        host_pause gamma || fail "gamma does not freeze"
        reaches alpha gamma || fail "the kernel of a stopped machine does not answer"
        ! answers alpha gamma || fail "a stopped machine answered"
        host_resume gamma || fail "gamma does not thaw"
        answers alpha gamma || fail "gamma does not answer afterwards"
}

a_power_cut_keeps_the_disk_and_nothing_else() {
        host_exec beta sh -c 'echo kept >/var/lib/witness; echo lost >/run/witness; sync'
        host_kill beta || fail "beta does not die"
        ! host_is_on beta || fail "beta is still on"
        hosts_up beta
        [ "$(host_exec beta cat /var/lib/witness)" = kept ] || fail "the disk was lost"
        ! host_exec beta test -e /run/witness || fail "memory survived"
}

a_killed_supervisor_takes_the_bed_with_it() {
        kill -KILL "$(lab_supervisor)"
        wait_for 10 grep -q 'populated 0' "$LAB_CG/cgroup.events" || fail "processes are left"
        lab_up || fail "no new bed where the old one was"
        hosts_up alpha
}

scenario three_hosts_boot_and_know_themselves_and_each_other a_cable_out_is_silence_and_a_cable_in_heals \
        two_hosts_can_be_parted_while_a_third_sees_both a_stopped_machine_is_silent_and_goes_on_where_it_was \
        a_power_cut_keeps_the_disk_and_nothing_else a_killed_supervisor_takes_the_bed_with_it
