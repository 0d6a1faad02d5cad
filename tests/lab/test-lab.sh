#!/bin/bash
# The lab itself: hosts, network links and power. Takes 10 s.
. "$(dirname "$0")/scenario.sh"

three_hosts_boot_and_resolve_their_names() {
        local h
        hosts_up $LAB_HOSTS
        for h in $LAB_HOSTS; do
                [ "$(host_exec "$h" hostname)" = "$h" ] || fail "$h has another name"
                [ "$(host_exec "$h" cat /etc/machine-id)" = "$(host_machine_id "$h")" ] || fail "$h has another machine id"
        done
        host_exec alpha getent hosts gamma | grep -q "^$(host_address gamma) " || fail "alpha does not resolve gamma"
        listens gamma
        reaches alpha gamma || fail "alpha does not reach gamma"
}

# A server on port 8000 of the host.
listens() {
        host_exec "$1" systemctl is-active -q listener && return
        host_exec "$1" systemd-run -q --unit=listener python3 -m http.server 8000 --directory /etc
        wait_for 10 host_exec "$1" python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8000), 1)' ||
                fail "no server listens on $1"
}
reaches() { host_exec "$1" python3 -c 'import socket, sys; socket.create_connection((sys.argv[1], 8000), 1)' "$2" 2>/dev/null; }

a_cut_link_loses_frames_and_a_restored_link_works() {
        host_cut gamma || fail "cannot cut gamma"
        ! reaches alpha gamma || fail "alpha reaches gamma over a cut link"
        host_heal gamma
        wait_for 5 reaches alpha gamma || fail "gamma is not reached again"
}

two_hosts_can_be_separated_while_a_third_reaches_both() {
        lab_part alpha gamma || fail "cannot cut the path between alpha and gamma"
        ! reaches alpha gamma || fail "alpha still reaches gamma"
        reaches beta gamma || fail "beta does not reach gamma"
        lab_join alpha gamma
        wait_for 5 reaches alpha gamma || fail "gamma is not reached again"
}

answers() { host_exec "$1" python3 -c 'import sys, urllib.request as u; u.urlopen("http://%s:8000/hostname" % sys.argv[1], None, 1)' "$2" 2>/dev/null; }

a_frozen_machine_is_silent_and_continues_afterwards() {
        answers alpha gamma || fail "gamma does not answer before"
        host_pause gamma || fail "gamma does not freeze"
        reaches alpha gamma || fail "the kernel of a frozen machine does not answer"
        ! answers alpha gamma || fail "a frozen machine answered"
        host_resume gamma || fail "gamma does not thaw"
        answers alpha gamma || fail "gamma does not answer afterwards"
}

a_power_cut_keeps_the_disk_and_nothing_else() {
        host_exec beta sh -c 'echo kept >/var/lib/witness; echo lost >/run/witness; sync'
        host_kill beta || fail "cannot cut the power of beta"
        ! host_is_on beta || fail "beta is still on"
        hosts_up beta
        [ "$(host_exec beta cat /var/lib/witness)" = kept ] || fail "the disk of beta was lost"
        ! host_exec beta test -e /run/witness || fail "the memory of beta survived"
}

a_killed_supervisor_ends_the_lab() {
        kill -KILL "$(lab_supervisor)"
        wait_for 10 grep -q 'populated 0' "$LAB_CG/cgroup.events" || fail "processes of the lab are left"
        lab_up || fail "cannot create a new lab in place of the old one"
        hosts_up alpha
}

scenario three_hosts_boot_and_resolve_their_names a_cut_link_loses_frames_and_a_restored_link_works \
        two_hosts_can_be_separated_while_a_third_reaches_both a_frozen_machine_is_silent_and_continues_afterwards \
        a_power_cut_keeps_the_disk_and_nothing_else a_killed_supervisor_ends_the_lab
