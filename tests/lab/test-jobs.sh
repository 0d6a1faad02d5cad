#!/bin/bash
# Jobs, and what triggers or requires them: boots, a power cut and drains of their hosts; edits, stops and updates of such units. Takes 60 s.
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"

SLEEPS='ExecStart=/bin/sleep infinity'
JOB=$'[Service]\nType=oneshot\nExecStart=/bin/true'

state_on() { host_exec "$1" systemctl is-active "$2" 2>/dev/null; }
active_on() { [ "$(state_on "$1" "$2")" = active ]; }
hosts_with() {
        local h
        for h in $LAB_HOSTS; do
                ! host_is_on "$h" || ! active_on "$h" "$1" || echo "$h"
        done
}
active_once() { [ "$(hosts_with "$1" | wc -l)" = 1 ]; }
active_on_all() { [ "$(hosts_with "$1" | wc -l)" = 3 ]; }
has_file() { host_exec "$1" test -e "/run/fleet/units/$2"; }
host_of() { fleetctl "$(hosts_on | head -1)" list-units --no-legend --fields=hostname,unit 2>/dev/null | awk -v u="$1" '$2 == u { print $1 }'; }
hosts_on() { local h; for h in $LAB_HOSTS; do ! host_is_on "$h" || echo "$h"; done; }
has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }
boots() {
        host_exec "$1" systemctl reboot >"$LAB/out" 2>&1
        wait_for 30 host_is_off "$1" || fail "$1 does not reboot"
        hosts_up "$1"
        cluster_whole "$1"
}

a_cluster_with_jobs() {
        cluster_up
        unit_file prep.service <<<"$JOB"$'\n[X-Fleet]\nGlobal=true'
        unit_file serve.service <<<$'[Unit]\nRequires=prep.service\nAfter=prep.service\n[Service]\n'"$SLEEPS"$'\n[X-Fleet]\nGlobal=true'
        unit_file jb.service <<<"$JOB"
        unit_file jb.timer <<<$'[Timer]\nOnActiveSec=3\nOnUnitInactiveSec=8\n[X-Fleet]\nMachineOf=jb.service'
        unit_file t2.timer <<<$'[Timer]\nOnActiveSec=2\nOnUnitActiveSec=3'
        unit_file t2.service <<<"$JOB"$'\n[X-Fleet]\nMachineOf=t2.timer'
        unit_file site.service <<<$'[Unit]\nRequires=init.service\nAfter=init.service\n[Service]\n'"$SLEEPS"
        unit_file init.service <<<"$JOB"$'\n[X-Fleet]\nMachineOf=site.service'
        unit_file srv-d.mount <<<$'[Mount]\nWhat=tmpfs\nWhere=/srv/d\nType=tmpfs'
        unit_file sk.service <<<$'[Service]\nExecStart=/usr/lib/systemd/systemd-socket-proxyd 127.0.0.1:2379'
        unit_file sk.socket <<<$'[Socket]\nListenStream=7778\n[X-Fleet]\nMachineOf=sk.service'
        unit_file ld.service <<<$'[Service]\n'"$SLEEPS"
        unit_file rl.service <<<$'[Service]\nExecReload=/bin/true\n'"$SLEEPS"$'\n[X-Fleet]\nReloadTrigger=1\nUpdateWatchSec=2s'
        ctl start serve.service prep.service jb.service jb.timer t2.service t2.timer init.service site.service srv-d.mount rl.service
        ctl load sk.service ld.service
        ctl start sk.socket
        wait_for 20 active_on_all serve.service || fail "serve.service is active on: $(hosts_with serve.service | xargs)"
        wait_for 20 active_once jb.timer && wait_for 20 active_once t2.timer && wait_for 20 active_once site.service || fail "$(fleetctl alpha list-units 2>&1)"
}

what_requires_a_job_is_active_after_a_boot() {
        boots gamma
        wait_for 30 active_on_all serve.service || fail "serve.service is active on: $(hosts_with serve.service | xargs)"
        # Perhaps twice: a later start of serve.service requires what has ended.
        host_exec gamma journalctl -b -o cat -u prep.service | grep -q Finished || fail "prep.service did not run in this boot of gamma"
        wait_for 30 active_once jb.timer && wait_for 30 active_once t2.timer || fail "a timer is active nowhere: $(fleetctl alpha list-units 2>&1)"
}

# One host has all of these: the power is cut there.
timers_and_a_mount_are_elsewhere_after_a_power_cut() {
        local from
        fleetctl alpha cordon beta gamma >/dev/null 2>&1
        for u in jb.service t2.timer site.service srv-d.mount; do
                [ "$(host_of $u)" = alpha ] || fleetctl alpha move $u alpha >"$LAB/out" 2>&1 || true
        done
        fleetctl alpha uncordon beta gamma >/dev/null 2>&1
        host_exec "$(host_of srv-d.mount)" umount /srv/d
        wait_for 15 status_has alpha 'srv-d.mount' || fail "no problem: $(fleetctl alpha status 2>&1)"
        from=$(host_of jb.timer)
        host_kill "$from" || fail "cannot cut the power"
        for u in jb.timer t2.timer site.service; do
                wait_for 30 active_once $u || fail "$u is active on: $(hosts_with $u | xargs)"
        done
        [ "$from" != "$(host_of srv-d.mount)" ] || wait_for 30 active_once srv-d.mount || fail "not mounted"
        hosts_up "$from"
        cluster_whole "$from"
        wait_for 30 active_on_all serve.service || fail "serve.service is active on: $(hosts_with serve.service | xargs)"
}

nothing_is_left_of_a_socket_on_a_drained_host() {
        local from client
        from=$(host_of sk.socket)
        (while [ -e "$LAB/supervisor" ]; do host_exec "$from" timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/7778'; echo >>"$LAB/connects"; sleep 0.4; done) >/dev/null 2>&1 &
        client=$!
        wait_for 10 active_on "$from" sk.service || fail "no client starts sk.service: $(host_exec "$from" systemctl status sk.socket 2>&1 | head -5)"
        FLEETCTL_LIMIT=90 fleetctl "$(hosts_on | head -1)" drain "$from" >"$LAB/out" 2>&1 || fail "the drain does not end: $(cat "$LAB/out")"
        : >"$LAB/connects"
        wait_for 30 has_lines "$LAB/connects" 4 || fail "no client goes on"
        kill $client
        ! active_on "$from" sk.service && ! active_on "$from" sk.socket && ! has_file "$from" sk.service || fail "left on $from: $(host_exec "$from" systemctl is-active sk.service sk.socket | xargs)"
        for u in jb.timer t2.timer site.service sk.socket; do
                wait_for 30 active_once $u || fail "$u is active on: $(hosts_with $u | xargs)"
        done
        ctl uncordon "$from"
}

a_timer_without_its_service_is_refused_until_that_is_loaded() {
        unit_file lone.timer <<<$'[Timer]\nOnActiveSec=3'
        unit_file lone.service <<<"$JOB"
        mv "$LAB/units/lone.service" "$LAB/lone.service"
        ! fleetctl alpha start lone.timer >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        grep -q 'lone.service to trigger not loaded' "$LAB/out" || fail "start: $(cat "$LAB/out")"
        mv "$LAB/lone.service" "$LAB/units/lone.service"
        ctl load lone.service
        wait_for 60 active_once lone.timer || fail "lone.timer: $(fleetctl alpha why lone.timer 2>&1)"
}

# What a person, or a timer, has started of a loaded unit: a text and a replacement do not end it, a stop does.
a_run_of_a_loaded_unit_ends_by_a_stop_alone() {
        local h run
        h=$(host_of ld.service)
        host_exec "$h" systemctl start ld.service
        run=$(host_exec "$h" systemctl show -P InvocationID ld.service)
        unit_file ld.service <<<$'[Service]\nEnvironment=A=2\n'"$SLEEPS"
        ctl submit --replace ld.service
        wait_for 10 host_exec "$h" grep -q A=2 /run/fleet/units/ld.service || fail "$h has the former text"
        [ "$run" = "$(host_exec "$h" systemctl show -P InvocationID ld.service)" ] || fail "a new text has ended the run"
        fleetctl alpha list-unit-files --no-legend --fields=unit,dstate 2>/dev/null | grep -qE '^ld.service[[:space:]]+loaded' || fail "it is not loaded: $(fleetctl alpha list-unit-files 2>&1)"
        ctl stop ld.service
        ! active_on "$h" ld.service || fail "stop leaves it running"
}

# A reload is no failure of the instance, and a revert touches only the instances that got the bad text.
updates_touch_what_they_have_to() {
        local before
        wait_for 30 fleetctl alpha is-active rl.service
        unit_file rl.service <<<$'[Service]\nExecReload=/bin/true\n'"$SLEEPS"$'\n[X-Fleet]\nReloadTrigger=2\nUpdateWatchSec=2s'
        ctl start --replace rl.service
        wait_for 30 rolled rl.service || fail "a reload is no success: $(fleetctl alpha rollout rl.service 2>&1)"
        unit_file sur@.service <<<$'[Service]\n'"$SLEEPS"$'\n[X-Fleet]\nMaxSurge=1\nMaxUnavailable=0\nUpdateWatchSec=2s'
        ctl submit sur@.service
        ctl start sur@1.service sur@2.service
        wait_for 30 both_available || fail "not available: $(fleetctl alpha rollout sur@.service 2>&1)"
        before=$(identities | awk '$2 ~ /^sur@/ { print $2, $5 }' | sort)
        unit_file sur@.service <<<$'[Service]\nExecStart=/bin/sh -c "sleep 1; exit 1"\n[X-Fleet]\nMaxSurge=1\nMaxUnavailable=0\nUpdateWatchSec=2s'
        fleetctl alpha submit --replace --on-failure=revert sur@.service >"$LAB/out" 2>&1
        wait_for 60 both_available || fail "no revert: $(fleetctl alpha rollout sur@.service 2>&1)"
        [ "$before" = "$(identities | awk '$2 ~ /^sur@/ { print $2, $5 }' | sort)" ] || fail "instances were replaced: $before, and $(identities | grep sur@ | xargs)"
}
rolled() { fleetctl alpha rollout "$1" 2>&1 | head -1 | grep -q 'done'; }
both_available() { fleetctl alpha rollout sur@.service 2>&1 | head -1 | grep -q 'revision 1 .*2 of 2 available'; }

scenario a_cluster_with_jobs what_requires_a_job_is_active_after_a_boot timers_and_a_mount_are_elsewhere_after_a_power_cut \
        nothing_is_left_of_a_socket_on_a_drained_host a_timer_without_its_service_is_refused_until_that_is_loaded \
        a_run_of_a_loaded_unit_ends_by_a_stop_alone updates_touch_what_they_have_to
