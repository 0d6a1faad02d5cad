#!/bin/bash
# Rollouts by fleetctl: the instances of a template get a new text one after the other, and so do units without a common template; a text
# that fails stops at the first one. Then the examples of fleet-change(7). Takes 190 s.
. "$(dirname "$0")/scenario.sh"
export LAB_NAME LAB_HOSTS LAB_TOKENS

# Write the template with a command, and options of [X-Fleet].
template() {
        mkdir -p "$LAB/units"
        printf '[Service]\nExecStart=%s\n[X-Fleet]\nUpdateWatchSec=2s\n%b' "$1" "$2" >"$LAB/units/web@.service"
}
# Run fleetctl on alpha in the folder of the units: its output and its exit status.
ctl() { fleetctl alpha "$@" >"$LAB/out" 2>&1; }
status_is() { local wanted=$1 status=0; shift; ctl "$@" || status=$?; [ "$status" = "$wanted" ] || fail "$*: $status: $(cat "$LAB/out")"; }
names() { echo web@{1..6}.service; }
all_active() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,active | grep -c 'web@.*[[:space:]]active')" = 6 ]; }
runs() { local h; for h in $LAB_HOSTS; do host_exec "$h" sh -c 'cat /proc/[0-9]*/cmdline 2>/dev/null' | tr '\0' ' ' | grep -o "sleep $1 " || true; done | wc -l; }

instances_are_updated_one_after_the_other() {
        cluster_up
        template '/bin/sleep 1001' ''
        status_is 0 submit web@.service
        # shellcheck disable=SC2046
        status_is 0 start $(names)
        wait_for 10 all_active || fail "$(fleetctl alpha list-units)"
        template '/bin/sleep 1002' ''
        status_is 0 submit --replace web@.service
        [ "$(grep -c ' updating$' "$LAB/out")" = 6 ] && [ "$(grep -c ' available$' "$LAB/out")" = 7 ] || fail "$(cat "$LAB/out")"
        [ "$(runs 1002)" = 6 ] || fail "$(runs 1002) have the new text"
}

a_text_that_fails_stops_at_the_first_instance() {
        template '/bin/false' ''
        status_is 1 submit --replace web@.service
        grep -q 'the rollout is paused' "$LAB/out" || fail "$(cat "$LAB/out")"
        [ "$(runs 1002)" = 5 ] || fail "$(runs 1002) have the former text"
        status_is 1 rollout web@.service
        status_is 0 revert web@.service 2 --yes
        [ "$(runs 1002)" = 6 ] || fail "$(runs 1002) have the former text"
        status_is 0 rollout web@.service
}

a_canary_is_held_until_it_is_promoted() {
        template '/bin/sleep 1003' 'Canary=1\n'
        status_is 5 submit --replace web@.service
        [ "$(runs 1003)" = 1 ] || fail "$(runs 1003) have the new text"
        status_is 0 rollout promote web@.service
        status_is 0 rollout web@.service --wait
        [ "$(runs 1003)" = 6 ] || fail "$(runs 1003) have the new text"
}

a_failure_is_reverted() {
        template '/bin/false' 'UpdateOnFailure=revert\n'
        status_is 1 submit --replace web@.service
        grep -q 'was reverted: ' "$LAB/out" || fail "$(cat "$LAB/out")"
        [ "$(runs 1003)" = 6 ] || fail "$(runs 1003) have the former text"
}

# The file of the template, which the cluster does not have.
own() { printf '[Service]\nExecStart=%s\n[X-Fleet]\nUpdateWatchSec=2s\n' "$1" >"$LAB/units/own@.service"; }
own_active() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,active | grep -c 'own@.*[[:space:]]active')" = 3 ]; }

units_without_a_common_template_are_replaced_one_after_the_other() {
        own '/bin/sleep 2001'
        status_is 0 start own@{1..3}.service
        wait_for 10 own_active || fail "$(fleetctl alpha list-units)"
        own '/bin/sleep 2002'
        status_is 0 start --replace own@{1..3}.service
        [ "$(runs 2002)" = 3 ] || fail "$(runs 2002) have the new text"
        [ "$(sed -n 's/^own@\(.\).service: .* \(updating\)$/\1 \2/p; s/^own@\(.\).service: revision 2: \(done\),.*/\1 \2/p' "$LAB/out" | tr '\n' ' ')" = \
                "1 updating 1 done 2 updating 2 done 3 updating 3 done " ] || fail "$(cat "$LAB/out")"

        own /bin/false
        status_is 1 start --replace own@{1..3}.service
        grep -q 'not replaced: own@2.service, own@3.service; to continue: fleetctl start --replace own@2.service own@3.service$' "$LAB/out" ||
                fail "$(cat "$LAB/out")"
        [ "$(runs 2002)" = 2 ] || fail "$(runs 2002) have the former text"
        own '/bin/sleep 2003'
        status_is 0 start --replace own@{1..3}.service
        [ "$(runs 2003)" = 3 ] || fail "$(runs 2003) have the new text"
}

a_failed_unit_starts_with_a_text_that_differs_by_a_timeout() {
        host_exec alpha rm -f /run/may-start
        fix() { printf '[Service]\nExecStart=/bin/sh -c "test -e /run/may-start && exec sleep 3001"\nTimeoutStartSec=%s\n[X-Fleet]\nMachineID=%s\nUpdateWatchSec=2s\n' "$1" "$(host_machine_id alpha)" >"$LAB/units/fix.service"; }
        fix 90
        status_is 1 start fix.service
        host_exec alpha touch /run/may-start
        fix 80
        status_is 0 start --replace fix.service
        [ "$(runs 3001)" = 1 ] || fail "$(fleetctl alpha list-units)"
}

# Run the examples of a section of fleet-change(7) on alpha. Their results are those of this script.
follow() {
        "$top/tests/conformance/examples.py" hosts man/fleet-change.7.scd "$1" >"$LAB/examples" 2>&1
        grep -E '^(ok|not ok|#) ' "$LAB/examples" >&3
        ! grep -q '^not ok ' "$LAB/examples" || fail "see above"
        grep -q '^ok ' "$LAB/examples" || fail "no example of $1 was run: $(tail -3 "$LAB/examples")"
}
# Write a file of the folder in which the examples run.
on_alpha() { host_exec alpha sh -c "mkdir -p /root/work; cat >/root/work/$1"; }
start_on() {
        local h others=""
        for h in $LAB_HOSTS; do
                [ "$h" = "$1" ] || others="$others $h"
        done
        # shellcheck disable=SC2086
        status_is 0 cordon $others
        status_is 0 start "$2"
        # shellcheck disable=SC2086
        status_is 0 uncordon $others
}

the_manual_updates_the_instances_of_a_template() {
        template '/bin/sleep 1004' 'Canary=1\n'
        on_alpha web@.service <"$LAB/units/web@.service"
        follow rollout
        [ "$(runs 1004)" = 6 ] || fail "$(runs 1004) have the new text"
}

# The names of all drop-ins of the template sort before those of the instance.
an_instance_keeps_its_drop_ins() {
        local before
        mkdir -p "$LAB/units/web@2.service.d"
        printf '[Service]\nEnvironment=OWN=1\n' >"$LAB/units/web@2.service.d/20.conf"
        template '/bin/sleep 1004' 'Canary=1\n'
        before=$(runs 1004)
        status_is 0 start --replace web@2.service
        [ "$(runs 1004)" = "$before" ] && [ "$(environments OWN=1)" = 1 ] || fail "$(runs 1004) of $before run, $(environments OWN=1) with the drop-in"
        template '/bin/sleep 1005' 'MaxUnavailable=6\n'
        status_is 0 submit --replace web@.service
        [ "$(runs 1005)" = 6 ] || fail "$(runs 1005) have the new text: $(cat "$LAB/out")"
        ctl cat web@2.service
        grep -q 'OWN=1' "$LAB/out" && grep -q 'sleep 1005' "$LAB/out" || fail "$(cat "$LAB/out")"
        [ "$(environments OWN=1)" = 1 ] || fail "$(environments OWN=1) have the drop-in"
        rm -r "$LAB/units/web@2.service.d"
        status_is 0 start --replace web@2.service
        [ "$(environments OWN=1)" = 0 ] || fail "$(environments OWN=1) have the drop-in"
}
environments() { local h; for h in $LAB_HOSTS; do host_exec "$h" sh -c "grep -lz '^$1\$' /proc/[0-9]*/environ 2>/dev/null" || true; done | wc -l; }

the_manual_returns_to_a_former_text() {
        local n
        for n in 1 2 3; do
                printf '[Service]\nExecStart=/bin/sleep 200%s\n[X-Fleet]\nUpdateWatchSec=1s\n' "$n" >"$LAB/units/db.service"
                if [ "$n" = 1 ]; then
                        start_on beta db.service
                else
                        status_is 0 start --replace db.service
                fi
        done
        follow revert
        [ "$(runs 2002)" = 1 ] || fail "$(runs 2002) have the former text"
}

# web@1 to web@3 conflict with each other: one moves to the machine of another one as MOVE A UNIT of fleet(7) states, there and back.
two_units_in_conflict_change_places() {
        status_is 0 destroy --yes 'web@*' 'own@*' fix.service # nothing else is on beta
        template '/bin/sleep 1005' 'Conflicts=web@*.service\n'
        # The hosts of the page.
        status_is 0 start web@1.service
        status_is 0 move web@1.service alpha
        status_is 0 start web@2.service
        status_is 0 move web@2.service beta
        status_is 0 start web@3.service
        change_places gamma
        change_places beta
}
change_places() {
        status_is 1 move web@2.service "$1"
        grep -q 'fleetctl unload web@3.service' "$LAB/out" || fail "the way is not named: $(cat "$LAB/out")"
        status_is 0 unload web@3.service
        wait_for 10 ctl move web@2.service "$1" || fail "move: $(cat "$LAB/out")"
        status_is 0 start web@3.service
        wait_for 20 three_web || fail "$(fleetctl alpha list-units)"
}

# web@2 has no other host than beta; db.service is on beta, too.
the_manual_drains_a_host() {
        status_is 0 move db.service beta
        follow drain
        wait_for 20 three_web || fail "$(fleetctl alpha list-units)"
}
three_web() { [ "$(runs 1005)" = 3 ]; }

exec 3>&1
scenario instances_are_updated_one_after_the_other a_text_that_fails_stops_at_the_first_instance a_canary_is_held_until_it_is_promoted \
        a_failure_is_reverted units_without_a_common_template_are_replaced_one_after_the_other \
        a_failed_unit_starts_with_a_text_that_differs_by_a_timeout \
        the_manual_updates_the_instances_of_a_template an_instance_keeps_its_drop_ins the_manual_returns_to_a_former_text \
        two_units_in_conflict_change_places the_manual_drains_a_host
