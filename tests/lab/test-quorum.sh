#!/bin/bash
# Two of three hosts are cut off, and all three: running units are untouched, and the cluster continues by itself afterwards.
# status lists their problems. Takes 100 s.
. "$(dirname "$0")/scenario.sh"

a_cluster_with_units_and_keys() {
        local n
        cluster_up
        (cd "$top/dist/units" && host_fleetctl alpha start node.service web@{1,2,3}.service >"$LAB/out" 2>&1) || fail "samples do not start: $(cat "$LAB/out")"
        for n in 1 2 3 4; do
                runs_forever plain-$n.service </dev/null
        done
        fleetctl beta start plain-{1,2,3,4}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        [ "$(key_put gamma /before kept)" = ok ] || fail "put failed"
        wait_for 5 key_is alpha /before kept || fail "alpha does not read it"
}

# Print the line of fleetctl status on host $1 about $2, and check its exit status: 1 with problems, 0 without.
status_line() { fleetctl "$1" status 2>/dev/null | grep "^    $2 "; }
has_status() { status_line "$1" "$2" | grep -qE "$3"; }
status_is_empty() { fleetctl "$1" status >"$LAB/out" 2>&1; }

problems_of_files_and_texts_are_in_the_status() {
        wait_for 10 status_is_empty beta || fail "problems without a reason: $(cat "$LAB/out")"
        printf '[Service]\nExecStart=/bin/sleep 1d\n[X-Fleet]\nMachineMetadata=zone\n' | host_exec gamma tee /etc/fleet/units/disk.service >/dev/null
        unit_file empty.service <<<$'[Unit]\nDescription=systemd does not load it'
        unit_file nobin.service <<<$'[Service]\nExecStart=/nonexistent'
        unit_file loop.service <<<$'[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=1'
        fleetctl alpha start --no-block empty.service nobin.service loop.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 has_status beta disk.service 'file refused on gamma: line 4: .*fleetctl directory$' || fail "refused file: $(fleetctl beta status 2>&1)"
        wait_for 10 has_status beta empty.service 'systemd cannot load it on [a-z]* \(bad-setting\).*fleetctl journal empty.service$' || fail "bad-setting: $(fleetctl beta status 2>&1)"
        wait_for 10 has_status beta nobin.service 'failed on [a-z]* .*fleetctl journal nobin.service$' || fail "failed unit: $(fleetctl beta status 2>&1)"
        wait_for 20 has_status beta loop.service '(restarts in a loop on [a-z]*: at least [0-9]+ times since|failed on .*, and is restarted).*fleetctl journal loop.service$' ||
                fail "loop: $(fleetctl beta status 2>&1)"
        ! fleetctl beta status >"$LAB/out" 2>&1 || fail "exit status 0 with problems: $(cat "$LAB/out")"
        host_exec gamma rm /etc/fleet/units/disk.service
        fleetctl alpha destroy empty.service nobin.service loop.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 10 status_is_empty beta || fail "problems without a reason: $(cat "$LAB/out")"
}

# A write to a leader that has not detected the partition yet may take effect later: it has a key of its own.
says_its_age() { fleetctl alpha "$1" 2>&1 >/dev/null | grep -qE '^fleetctl: no leader for [0-9]+ s: this may be old'; }
no_quorum() { key_put "$1" /unknown x | grep -qE 'no leader'; }

two_hosts_without_power_leave_the_third_one_working_alone() {
        local before out
        before=$(identities alpha)
        host_kill beta || fail "cannot kill beta"
        host_kill gamma || fail "cannot kill gamma"
        wait_for 10 no_quorum alpha || fail "a write says: $(key_put alpha /unknown x)"
        [ "$(key_get alpha /before)" = kept ] || fail "a local read does not answer"
        key_put alpha /refused x | grep -qE '[0-9] of 3' || fail "the answer does not count voters: $(key_put alpha /refused x)"
        runs_forever refused.service </dev/null
        out=$(LAB_NAME=$LAB_NAME LAB_BUILD=$LAB_BUILD timeout 20 "$BASH" -c '. "$0"; cd "$LAB/units"; host_fleetctl alpha start refused.service' "$here/lab.sh" 2>&1) &&
                fail "fleetctl start exits 0 without quorum"
        grep -qE 'no leader|quorum|voters' <<<"$out" || fail "fleetctl says: $out"
        fleetctl alpha list-units 2>/dev/null | grep -q plain-1.service || fail "lists do not answer"
        wait_for 5 says_its_age list-units || fail "list-units: $(fleetctl alpha list-units 2>&1)"
        says_its_age list-machines && says_its_age list-unit-files && says_its_age status || fail "age: $(fleetctl alpha list-machines 2>&1)"
        has_status alpha cluster 'no leader for [0-9]+ s: 1 of 3 voters reachable' && has_status alpha beta 'voter unreachable.*1 of 3 voters left, no majority: (if that lasts, )?start it, or give a new host its address 10\.' ||
                fail "status: $(fleetctl alpha status 2>&1)"
        sleep 15        # longer than the time after which a host is lost
        WHAT="loss of quorum" untouched "$before" alpha
        identities alpha >"$LAB/alone"
}

when_they_return_the_cluster_continues_by_itself() {
        local n
        host_up beta && host_up gamma || fail "cannot boot"
        host_wait beta && host_wait gamma || fail "they do not boot"
        cluster_whole
        WHAT="the return of the quorum" untouched "$(cat "$LAB/alone")" alpha
        for n in 1 2 3 4; do
                wait_for 40 runs_once plain-$n.service || fail "plain-$n.service runs on: $(hosts_running plain-$n.service | tr '\n' ' ')"
        done
        wait_for 40 runs_on_all node.service || fail "the global unit runs on: $(hosts_running node.service | tr '\n' ' ')"
        [ "$(keys alpha /refused | json errorCode)" = 100 ] || fail "a write that was refused has happened"
        ! known alpha refused.service || fail "a submission that was refused has happened"
        WHAT="the return of the quorum" untouched "$(cat "$LAB/alone")" alpha
}

all_links_cut_and_restored_touch_nothing() {
        local before h
        before=$(identities)
        for h in $LAB_HOSTS; do
                host_cut $h
        done
        for h in $LAB_HOSTS; do
                wait_for 10 no_quorum $h || fail "$h still takes writes: $(key_put $h /unknown x)"
                [ "$(key_get $h /before)" = kept ] || fail "a local read on $h does not answer"
        done
        sleep 10        # longer than the time after which a host is lost
        WHAT="all links cut" untouched "$before"
        for h in $LAB_HOSTS; do
                host_heal $h
        done
        cluster_whole
        sleep 5         # longer than the new leader's first period
        WHAT="all links restored" untouched "$before"
}

all_machines_frozen_for_a_while_touch_nothing() {
        local before h
        before=$(identities)
        for h in $LAB_HOSTS; do
                host_pause $h || fail "$h does not stop"
        done
        sleep 10
        for h in $LAB_HOSTS; do
                host_resume $h || fail "$h does not go on"
        done
        cluster_whole
        sleep 5
        WHAT="a pause of all machines" untouched "$before"
}

scenario a_cluster_with_units_and_keys problems_of_files_and_texts_are_in_the_status two_hosts_without_power_leave_the_third_one_working_alone \
        when_they_return_the_cluster_continues_by_itself all_links_cut_and_restored_touch_nothing \
        all_machines_frozen_for_a_while_touch_nothing
