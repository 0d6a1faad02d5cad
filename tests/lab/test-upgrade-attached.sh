#!/bin/bash
# A rolling upgrade of seven hosts, of which two are attached, from the version before (tests/lab/before.sh, or the build in LAB_BEFORE) to the build in
# LAB_BUILD and back: with a rollout while two hosts are upgraded; attached hosts first, and replicas first, with an attached host switched off meanwhile. Then the feature level is raised, and the
# cluster gets certificates; a unit with data fails over as before, until init --sticky=yes. No unit is touched, and all acknowledged writes of a host with and of one without a replica are there. With CHECK_ALL=yes or
# LAB_BEFORE only. Takes 340 s, and the compilation.
[ -n "${CHECK_ALL:-}${LAB_BEFORE:-}" ] || { echo "ok attached_hosts_are_upgraded # SKIP: with CHECK_ALL=yes: the version before is compiled; test-attached.sh of tests/conformance ends and starts replicas"; exit 0; }
LAB_HOSTS="alpha beta gamma delta epsilon zeta eta"
. "$(dirname "$0")/scenario.sh"
. "$here/before.sh"
. "$here/upgrading.sh"
compiled=$LAB/before-build
[ -n "${LAB_BEFORE:-}" ] || before_is_known "$ATTACHED_COMMIT" || { echo "ok attached_hosts_are_upgraded # SKIP: this repository does not have the commit $ATTACHED_COMMIT (a shallow clone?)"; exit 0; }
LAB_BEFORE=${LAB_BEFORE:-$compiled/build}
three_vote() { case "$(roles "$1")" in *"- leader standby standby voter voter") ;; *) false ;; esac; }
with_role() { host_fleetctl alpha list-machines --no-legend --fields=hostname,role | awk -v role="$1" '($2 == "-") == (role == "-") { print $1 }'; }

the_version_before_is_there() {
        [ "$LAB_BEFORE" = "$compiled/build" ] || skip "it is in LAB_BEFORE"
        before_build "$compiled" "$ATTACHED_COMMIT" >"$LAB/compile.log" 2>&1 </dev/null || fail "the version before: $(tail -3 "$LAB/compile.log")"
}

seven_hosts_of_the_version_before_run_units() {
        before_cluster_up
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        fleetctl beta start everywhere.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service)"
        runs_forever db.service <<<$'StateDirectory=db'
        fleetctl beta start db.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        plain_units_run 11
        with_role - >"$LAB/attached"
        with_role replica >"$LAB/replicas"
        [ "$(wc -l <"$LAB/attached")" = 2 ] || fail "attached: $(cat "$LAB/attached")"
}

# The leader is of the version before; an attached host and a replica are of the new one.
a_text_is_rolled_out_by_hosts_of_both_versions() {
        local h set="set@1.service set@2.service set@3.service set@4.service set@5.service set@6.service set@7.service" newer
        newer="$(head -1 "$LAB/attached") $(host_fleetctl alpha list-machines --no-legend --fields=hostname,role | awk '$2 != "-" && $2 != "leader" { print $1; exit }')"
        for h in $newer; do
                run_version "$h" "$LAB_BUILD"
                cluster_whole
        done
        runs_forever set@.service <<<$'[X-Fleet]\nConflicts=set@*.service\nUpdateWatchSec=1s'
        # shellcheck disable=SC2086
        fleetctl beta submit set@.service >"$LAB/out" 2>&1 && fleetctl beta start $set >>"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        sed -i 's/here is/this is/' "$LAB/units/set@.service"
        fleetctl beta submit --replace set@.service >"$LAB/out" 2>&1 || fail "submit: $(cat "$LAB/out")"
        for h in $LAB_HOSTS; do
                host_exec "$h" sh -c 'journalctl -q -u "set@*" -o cat | grep -q "this is"' || fail "the text does not run on $h: $(fleetctl beta rollout set@.service 2>&1)"
        done
        # shellcheck disable=SC2086
        fleetctl beta destroy $set set@.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        for h in $newer; do
                run_version "$h" "$LAB_BEFORE"
                cluster_whole
        done
        wait_for 20 eval '[ "$(identities)" = "$(cat "$LAB/before")" ]' || WHAT="the rollout" untouched "$(cat "$LAB/before")"
}

# With a writer on an attached host beside that of roll().
roll_with_attached() {
        local h writer
        h=$(head -1 "$LAB/attached")
        writer_start "$h" 600 "$2-attached"
        writer=$WRITER
        roll "$@"
        writer_stop "$h" "$2-attached" "$writer"
        acknowledged_writes_are_there "$2-attached" alpha
        echo "# $2: longest time without an acknowledged write on $h: $(writer_gap "$2-attached") ms" >>"$LAB/figures"
}

attached_hosts_are_upgraded_first() { roll_with_attached "$LAB_BUILD" first $(cat "$LAB/attached" "$LAB/replicas"); }
replicas_return_to_the_version_before_first() { roll_with_attached "$LAB_BEFORE" back $(cat "$LAB/replicas" "$LAB/attached"); }

# All others are upgraded meanwhile. It returns with the version before, and is upgraded then.
replicas_are_upgraded_first_while_an_attached_host_is_off() {
        local off all=$LAB_HOSTS u
        off=$(tail -1 "$LAB/attached")
        host_off "$off" || fail "$off does not shut down"
        LAB_HOSTS=$(others "$off" | tr '\n' ' ')
        cluster_whole
        for u in plain-{1,2,3}.service; do
                wait_for 20 runs_once "$u" || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
        identities >"$LAB/before"
        # shellcheck disable=SC2046
        roll_with_attached "$LAB_BUILD" again $(cat "$LAB/replicas") "$(head -1 "$LAB/attached")"
        hosts_up "$off"
        LAB_HOSTS=$all
        cluster_whole
        wait_for 20 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service | tr '\n' ' ')"
        # shellcheck disable=SC2046
        WHAT="the return of $off" untouched "$(cat "$LAB/before")" $(others "$off")
        identities >"$LAB/before"
        roll_with_attached "$LAB_BUILD" last "$off"
}

the_newest_level_touches_no_unit() {
        local level
        level=$(sed -n 's/.*KV_LEVEL_MAX = \([0-9]*\).*/\1/p' "$top/kvstore/command/command.h")
        fleetctl alpha cluster level "$level" --yes >"$LAB/out" 2>&1 || fail "level: $(cat "$LAB/out")"
        cluster_whole
        WHAT="feature level $level" untouched "$(cat "$LAB/before")"
}

certificates_touch_no_unit() {
        local h
        hosts_get_certificates
        wait_for 30 fleetctl alpha cluster secure --yes >"$LAB/out" 2>&1 || fail "secure: $(cat "$LAB/out")"
        cluster_whole
        for h in $(cat "$LAB/attached" "$LAB/replicas"); do
                host_exec "$h" systemctl restart fleetd || fail "fleetd does not restart on $h"
        done
        cluster_whole
        acknowledged_writes_are_there again-attached "$(head -1 "$LAB/attached")"
        WHAT="certificates, and a restart of all daemons" untouched "$(cat "$LAB/before")"
}

runs_once_elsewhere() { runs_once "$1" && [ "$(hosts_running "$1")" != "$2" ]; }
with_data() { host_exec alpha curl -sf --unix-socket /run/fleet.sock http://fleet/fleet/v1/cluster | grep -o '"sticky":[a-z]*'; }

a_unit_with_data_fails_over_as_before_until_init_decides() {
        local h other
        [ -z "$(with_data)" ] || fail "the upgraded cluster has $(with_data)"
        wait_for 30 fleetctl alpha status >"$LAB/out" 2>&1 || fail "status has a problem: $(cat "$LAB/out")"
        ! grep -q 'its data' "$LAB/out" || fail "status: $(cat "$LAB/out")"
        fleetctl alpha why db.service 2>&1 | grep -q '^may move to a machine without its data (StateDirectory=db): write Sticky=yes or Sticky=no, or fleetctl init --sticky=yes' ||
                fail "why: $(fleetctl alpha why db.service 2>&1)"
        h=$(hosts_running db.service)
        host_kill "$h"
        wait_for 30 runs_once_elsewhere db.service "$h" || fail "it does not fail over: $(hosts_running db.service | xargs)"
        hosts_up "$h"
        cluster_whole
        wait_for 30 runs_once_elsewhere db.service "$h" || fail "it runs on $(hosts_running db.service | xargs) after the return of $h"
        host_exec alpha sh -ec 'to=$(command -v fleetctl); cat >"$to.new"; chmod 755 "$to.new"; mv "$to.new" "$to"' <"$LAB_BUILD/client/fleetctl" || fail "fleetctl cannot be replaced"
        host_exec alpha fleetctl init --sticky=yes >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        [ "$(with_data)" = '"sticky":true' ] || fail "init: $(cat "$LAB/out")"
        h=$(hosts_running db.service)
        other=$(others "$h" | head -1)
        wait_for 10 eval "fleetctl $other why db.service 2>&1 | grep -q '^stays on $h: its data is there (StateDirectory=db)'" || fail "why: $(fleetctl "$other" why db.service 2>&1)"
        host_kill "$h"
        sleep 20
        runs_nowhere db.service || fail "it runs without its data on $(hosts_running db.service | xargs)"
        hosts_up "$h"
        cluster_whole
        wait_for 30 runs_on db.service "$h" || fail "it runs on $(hosts_running db.service | xargs)"
}

scenario the_version_before_is_there seven_hosts_of_the_version_before_run_units \
        a_text_is_rolled_out_by_hosts_of_both_versions attached_hosts_are_upgraded_first replicas_return_to_the_version_before_first \
        replicas_are_upgraded_first_while_an_attached_host_is_off the_newest_level_touches_no_unit certificates_touch_no_unit \
        a_unit_with_data_fails_over_as_before_until_init_decides
