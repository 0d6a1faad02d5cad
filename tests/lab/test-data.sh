#!/bin/bash
# A service and a container with data on a host without a replica: through its loss, shutdown, planned reboot and a drain with a deadline, they run
# there or nowhere, and their data is on that host alone; only a move by force takes them elsewhere. The same without a quorum, after a boot.
# Takes 120 s.
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

# The hosts that are on and have the data, and how often the service has started with it.
data_on() { local h; for h in $LAB_HOSTS; do ! host_is_on "$h" || ! host_exec "$h" test -e /var/lib/db/starts || echo "$h"; done | xargs; }
starts() { host_exec "$1" cat /var/lib/db/starts | wc -l; }
both_run_on() { runs_on db.service "$1" && runs_on app.service "$1"; }
none_runs() { runs_nowhere db.service && runs_nowhere app.service; }
is_lost() { fleetctl alpha list-machines --all --no-legend --fields=hostname,presence | grep -q "^delta.*$1"; }

# They run on delta again, with as many starts as $1, and the data is nowhere else.
run_there_again() {
        wait_for 60 both_run_on delta || fail "db runs on $(hosts_running db.service | xargs), app on $(hosts_running app.service | xargs): $(fleetctl alpha why db.service 2>&1)"
        [ "$(data_on)" = delta ] || fail "the data is on $(data_on)"
        [ "$(starts delta)" = "$1" ] || fail "it has started $(starts delta) times"
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
        printf '[Service]\nStateDirectory=db\nExecStartPre=/bin/sh -c "echo start >>/var/lib/db/starts"\nExecStart=/bin/sleep infinity\n' | unit_file db.service
        printf '[Container]\nImage=registry.example/app:1\nVolume=appdata:/data\n' | unit_file app.container
        fleetctl alpha cordon alpha beta gamma >"$LAB/out" 2>&1 || fail "cordon: $(cat "$LAB/out")"
        fleetctl alpha start db.service app.container >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        run_there_again 1
        fleetctl alpha uncordon alpha beta gamma >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
        fleetctl beta why db.service app.container >"$LAB/out" 2>&1
        grep -q '^stays on delta: its data is there (StateDirectory=db)' "$LAB/out" || fail "why: $(cat "$LAB/out")"
        grep -q '^stays on delta: its data is there (Volume=appdata)' "$LAB/out" || fail "why: $(cat "$LAB/out")"
}

their_host_is_lost_and_returns() {
        host_kill delta
        wait_for 10 is_lost lost || fail "delta is not lost: $(fleetctl alpha list-machines)"
        sleep 5
        none_runs || fail "they run on $(hosts_running db.service) $(hosts_running app.service)"
        fleetctl alpha status 2>&1 | grep -q 'waits for delta, where its data is (StateDirectory=db): lost since' || fail "status: $(fleetctl alpha status 2>&1)"
        hosts_up delta
        run_there_again 2
}

their_host_shuts_down_and_returns() {
        host_off delta
        sleep 5
        none_runs || fail "they run on $(hosts_running db.service) $(hosts_running app.service)"
        hosts_up delta
        run_there_again 3
}

a_planned_reboot_takes_them_along() {
        fleetctl alpha reboot --yes --no-block delta >"$LAB/out" 2>&1 || fail "reboot: $(cat "$LAB/out")"
        wait_for 60 host_is_off delta || fail "the queue waits: $(fleetctl alpha reboot --status 2>&1)"
        host_clear delta
        none_runs || fail "they run on $(hosts_running db.service) $(hosts_running app.service)"
        hosts_up delta
        run_there_again 4
        wait_for 90 no_reboot || fail "the queue does not end: $(fleetctl alpha reboot --status 2>&1)"
}

no_reboot() { [ "$(fleetctl alpha reboot --status 2>/dev/null)" = "No reboot is planned." ]; }

a_deadline_stops_them_until_uncordon() {
        fleetctl alpha drain delta --deadline=5s >"$LAB/out" 2>&1 || fail "drain: $(cat "$LAB/out")"
        grep -q '^db.service stays: its data is there (StateDirectory=db); it stops with the host' "$LAB/out" || fail "drain: $(cat "$LAB/out")"
        wait_for 15 none_runs || fail "they run after the deadline"
        sleep 2
        none_runs || fail "they run on $(hosts_running db.service) $(hosts_running app.service)"
        fleetctl alpha uncordon delta >"$LAB/out" 2>&1 || fail "uncordon: $(cat "$LAB/out")"
        run_there_again 5
}

their_host_boots_without_a_quorum() {
        host_off delta
        host_off alpha
        hosts_up delta
        run_there_again 6
        hosts_up alpha
        wait_for 60 writes alpha || fail "alpha accepts no writes"
        run_there_again 6
}

a_move_by_force_leaves_the_data() {
        ! fleetctl alpha move db.service beta >"$LAB/out" 2>&1 || fail "it moves without --force"
        grep -q 'its data is on delta (StateDirectory=db), and is not copied; to move it without: repeat the command with --force' "$LAB/out" || fail "move: $(cat "$LAB/out")"
        host_kill delta
        wait_for 10 is_lost lost || fail "delta is not lost"
        fleetctl alpha move db.service beta --force >"$LAB/out" 2>&1 || fail "move: $(cat "$LAB/out")"
        fleetctl alpha move app.container beta --force >"$LAB/out" 2>&1 || fail "move: $(cat "$LAB/out")"
        both_run_on beta || fail "db runs on $(hosts_running db.service)"
        hosts_up delta
        wait_for 30 runs_on db.service beta || fail "db runs on $(hosts_running db.service | xargs)"
        wait_for 30 runs_on app.service beta || fail "app runs on $(hosts_running app.service | xargs)"
        [ "$(data_on)" = "beta delta" ] || fail "the data is on $(data_on)"
        fleetctl alpha destroy --yes db.service >"$LAB/out" 2>&1
        grep -q 'its data stays on beta; a unit of this name returns there' "$LAB/out" || fail "destroy: $(cat "$LAB/out")"
        fleetctl alpha start db.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        runs_on db.service beta || fail "db runs on $(hosts_running db.service | xargs)"
}

scenario units_with_data_run_on_an_attached_host their_host_is_lost_and_returns their_host_shuts_down_and_returns a_planned_reboot_takes_them_along \
        a_deadline_stops_them_until_uncordon their_host_boots_without_a_quorum a_move_by_force_leaves_the_data
