#!/bin/bash
# A service, a container, and a pod whose container has a volume, on a host without a replica: through its loss, shutdown, planned reboot, a drain
# with a deadline and restores, they run there or nowhere, and their data is on that host alone; only a move by force takes them elsewhere. The same
# without a quorum, after a boot. Takes 170 s.
LAB_HOSTS="alpha beta gamma delta" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"

LAB_MASKS=${LAB_MASKS//systemd-logind.service/}

# Give host $1 a generator of quadlets.
give_generator() {
        if [ -x /usr/lib/systemd/system-generators/podman-system-generator ]; then
                host_exec "$1" sh -c 'cat >/usr/bin/podman.new && chmod 755 /usr/bin/podman.new && mv /usr/bin/podman.new /usr/bin/podman' <"$here/podman"
        else
                host_exec "$1" sh -c 'mkdir -p /etc/systemd/system-generators && cd /etc/systemd/system-generators && cat >new && chmod 755 new && mv new podman-system-generator' \
                        <"$here/podman-system-generator"
        fi && host_exec "$1" systemctl reload fleetd
}

# The services of db.service, app.container, shop.pod and shopdb.container, which is in the pod.
SERVICES="db.service app.service shop-pod.service shopdb.service"

# with_data FILE FOLDER LINES: each start of the service adds a line to its data.
with_data() { printf '%b\n[Service]\nExecStartPre=/bin/sh -c "mkdir -p /var/lib/%s && echo start >>/var/lib/%s/starts"\n[X-Fleet]\nUpdateWatchSec=1s\n' "$3" "$2" "$2" | unit_file "$1"; }

# The data on the hosts that are on: "delta db 3", with the number of starts.
data() {
        local h
        for h in $LAB_HOSTS; do
                ! host_is_on "$h" || host_exec "$h" sh -c 'cd /var/lib && for d in app db shop; do [ ! -e $d/starts ] || echo "$0 $d $(wc -l <$d/starts)"; done' "$h"
        done
}
# What data() prints if each has started $2 times on host $1; further pairs for more hosts.
started() { local d; while [ $# -gt 0 ]; do for d in app db shop; do echo "$1 $d $2"; done; shift 2; done; }
data_is() { [ "$(data)" = "$1" ]; }
all_run_on() { local s; for s in $SERVICES; do runs_on "$s" "$1" || return 1; done; }
none_runs() { local s; for s in $SERVICES; do runs_nowhere "$s" || return 1; done; }
they_run_on() { local s; for s in $SERVICES; do echo "$s runs on $(hosts_running "$s" | xargs)"; done; }
is_lost() { fleetctl alpha list-machines --all --no-legend --fields=hostname,presence | grep -q "^delta.*$1"; }

# They run on host $1, with the starts of $1 $2 and further pairs, and no other host has data.
run_on_with_data() {
        wait_for 60 all_run_on "$1" || fail "$(they_run_on): $(fleetctl alpha why db.service shop.pod 2>&1)"
        wait_for 5 data_is "$(started "$@")" || fail "the data: $(data)" # a service has processes before its start is counted
}
none_starts() {
        sleep 5
        none_runs || fail "$(they_run_on)"
}

# The output of $1 has the line $2 of each of the three, with its data as DATA.
says_of_each() {
        local data
        for data in StateDirectory=db Volume=appdata "shopdb.container: Volume=shopdata"; do
                grep -qF "${2//DATA/$data}" "$LAB/out" || fail "$1: $(cat "$LAB/out")"
        done
}

units_with_data_run_on_an_attached_host() {
        local h
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init --voters=1 >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        grep -q '^sticky *yes' "$LAB/out" || fail "a new cluster: $(cat "$LAB/out")"
        for h in beta gamma delta; do
                host_join "$h" >"$LAB/out" 2>&1 || fail "join of $h: $(cat "$LAB/out")"
                [ "$h" != gamma ] || wait_for 60 has_replicas alpha 3 || fail "replicas: $(roles_of alpha | xargs)"
        done
        wait_for 30 knows_machines delta 4 || fail "delta lists $(machines delta)"
        [ "$(attached)" = delta ] || fail "attached: $(roles_of alpha | xargs)"
        for h in $LAB_HOSTS; do
                give_generator "$h" || fail "no generator on $h"
        done
        with_data db.service db '[Service]\nStateDirectory=db\nExecStart=/bin/sleep infinity'
        with_data app.container app '[Container]\nImage=registry.example/app:1\nVolume=appdata:/data'
        printf '[Pod]\n[X-Fleet]\nUpdateWatchSec=1s\n' | unit_file shop.pod
        with_data shopdb.container shop '[Container]\nImage=registry.example/db:1\nPod=shop.pod\nVolume=shopdata:/data\n[X-Fleet]\nMachineOf=shop.pod'
        fleetctl alpha cordon alpha beta gamma >"$LAB/out" 2>&1 || fail "cordon: $(cat "$LAB/out")"
        fleetctl alpha start db.service app.container shop.pod shopdb.container >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        run_on_with_data delta 1
        fleetctl alpha uncordon alpha beta gamma >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
        fleetctl beta why db.service app.container shop.pod >"$LAB/out" 2>&1
        says_of_each why "stays on delta: its data is there (DATA)"
}

their_host_is_lost_and_returns() {
        host_kill delta
        wait_for 10 is_lost lost || fail "delta is not lost: $(fleetctl alpha list-machines)"
        none_starts
        fleetctl alpha status >"$LAB/out" 2>&1
        says_of_each status "waits for delta, where its data is (DATA): lost since"
        hosts_up delta
        run_on_with_data delta 2
}

their_host_shuts_down_and_returns() {
        host_off delta
        none_starts
        hosts_up delta
        run_on_with_data delta 3
}

a_planned_reboot_takes_them_along() {
        fleetctl alpha reboot --yes --no-block delta >"$LAB/out" 2>&1 || fail "reboot: $(cat "$LAB/out")"
        wait_for 60 host_is_off delta || fail "the queue waits: $(fleetctl alpha reboot --status 2>&1)"
        host_clear delta
        none_runs || fail "$(they_run_on)"
        hosts_up delta
        run_on_with_data delta 4
        wait_for 90 no_reboot || fail "the queue does not end: $(fleetctl alpha reboot --status 2>&1)"
}

no_reboot() { [ "$(fleetctl alpha reboot --status 2>/dev/null)" = "No reboot is planned." ]; }

a_deadline_stops_them_until_uncordon() {
        fleetctl alpha drain delta --deadline=5s >"$LAB/out" 2>&1 || fail "drain: $(cat "$LAB/out")"
        says_of_each drain "stays: its data is there (DATA); it stops with the host"
        wait_for 15 none_runs || fail "after the deadline, $(they_run_on)"
        sleep 2
        none_runs || fail "$(they_run_on)"
        fleetctl alpha uncordon delta >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
        run_on_with_data delta 5
}

their_host_boots_without_a_quorum() {
        host_off delta
        host_off alpha
        hosts_up delta
        run_on_with_data delta 6
        hosts_up alpha
        wait_for 60 writes alpha || fail "alpha accepts no writes"
        run_on_with_data delta 6
}

# By force, to host $1.
move_them() {
        local u
        for u in db.service app.container shop.pod; do
                wait_for 40 fleetctl alpha move "$u" "$1" --force >"$LAB/out" 2>&1 || fail "move of $u: $(cat "$LAB/out")" # it may have been lost twice
        done
        wait_for 30 all_run_on "$1" || fail "$(they_run_on)"
}

a_move_by_force_leaves_the_data() {
        ! fleetctl alpha move db.service beta >"$LAB/out" 2>&1 || fail "it moves without --force"
        grep -q 'its data is on delta (StateDirectory=db), and is not copied; to move it without: repeat the command with --force' "$LAB/out" || fail "move: $(cat "$LAB/out")"
        host_off delta # a second loss would keep moves away from it for half a minute
        wait_for 10 is_lost left || fail "delta is not shut down"
        move_them beta
        hosts_up delta
        run_on_with_data beta 1 delta 6
        fleetctl alpha destroy --yes db.service >"$LAB/out" 2>&1
        grep -q 'its data stays on beta; a unit of this name returns there' "$LAB/out" || fail "destroy: $(cat "$LAB/out")"
        fleetctl alpha start db.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        runs_on db.service beta || fail "$(they_run_on)"
}

# As in fleet-recovery(7): the hosts that are on lose the state of the cluster, and alpha gets that of the backup.
restore() {
        local h on=
        for h in $LAB_HOSTS; do
                host_is_on "$h" && on+=" $h" || continue
                host_exec "$h" sh -c 'systemctl stop fleetd; fleetd --reset' >"$LAB/out" 2>&1 || fail "reset of $h: $(cat "$LAB/out")"
        done
        host_exec alpha fleetctl restore --yes=alpha /root/backup >"$LAB/out" 2>&1 || fail "restore: $(cat "$LAB/out")"
        grep -q '^shop.pod stays on beta, where its data is' "$LAB/out" || fail "restore: $(cat "$LAB/out")"
        for h in ${on# alpha}; do
                host_exec "$h" systemctl start fleetd || fail "$h does not start"
        done
}
waits_for() { cluster_of alpha | python3 -c 'import json, sys; print(*sorted(json.load(sys.stdin).get("waitsFor", ["none"])))'; }
waits_are() { [ "$(waits_for)" = "$1" ]; }

# In the backup, they are on beta.
a_restore_takes_them_where_they_run() {
        host_exec alpha fleetctl backup /root/backup >"$LAB/out" 2>&1 || fail "backup: $(cat "$LAB/out")"
        move_them delta
        data >"$LAB/data"
        identities delta >"$LAB/before"
        restore
        wait_for 60 waits_are none || fail "it waits for $(waits_for)"
        wait_for 30 stays_on_delta || fail "why: $(cat "$LAB/out")"
        all_run_on delta || fail "$(they_run_on)"
        WHAT="the restore" untouched "$(cat "$LAB/before")" delta
        data_is "$(cat "$LAB/data")" || fail "the data: $(data)"
}
stays_on_delta() { fleetctl alpha why db.service shop.pod >"$LAB/out" 2>&1; [ "$(grep -c ': stays on delta: its data is there' "$LAB/out")" = 2 ]; }

# The newer host is off, and boots later: a person decides.
a_restore_starts_nothing_on_an_older_copy() {
        host_off delta
        restore
        wait_for 60 waits_are delta || fail "it waits for $(waits_for)"
        host_exec alpha fleetctl cluster stop-waiting --yes >"$LAB/out" 2>&1 || fail "stop-waiting: $(cat "$LAB/out")"
        none_starts
        fleetctl alpha why db.service >"$LAB/out" 2>&1
        grep -q 'its data may be newer on delta, which did not report in time: bring it up, or fleetctl move db.service HOST --force' "$LAB/out" || fail "why: $(cat "$LAB/out")"
        hosts_up delta
        wait_for 60 is_lost up || fail "delta does not return: $(fleetctl alpha list-machines --all)"
        none_starts
        fleetctl alpha why db.service >"$LAB/out" 2>&1
        grep -q 'did not report in time: if so, fleetctl move db.service delta --force' "$LAB/out" || fail "why: $(cat "$LAB/out")"
        move_them delta
        wait_for 60 stays_on_delta || fail "why: $(cat "$LAB/out")"
        all_run_on delta || fail "$(they_run_on)"
        data_is "$(awk '$1 == "delta" { $3++ } 1' "$LAB/data")" || fail "the data: $(data)"
}

scenario units_with_data_run_on_an_attached_host their_host_is_lost_and_returns their_host_shuts_down_and_returns a_planned_reboot_takes_them_along \
        a_deadline_stops_them_until_uncordon their_host_boots_without_a_quorum a_move_by_force_leaves_the_data a_restore_takes_them_where_they_run \
        a_restore_starts_nothing_on_an_older_copy
