#!/bin/bash
# A rolling upgrade of seven hosts, of which two are attached, from the build in LAB_BEFORE (feature level 6 or later) to the build in LAB_BUILD
# and back: attached hosts first, and replicas first. By hand: two builds are needed. Then the feature level is raised, and the cluster gets
# certificates. No unit is touched, and all acknowledged writes of a host with and of one without a replica are there.
LAB_HOSTS="alpha beta gamma delta epsilon zeta eta"
. "$(dirname "$0")/scenario.sh"
. "$here/upgrading.sh"
three_vote() { [ "$(roles "$1")" = "- - leader standby standby voter voter" ]; }
with_role() { host_fleetctl alpha list-machines --no-legend --fields=hostname,role | awk -v role="$1" '($2 == "-") == (role == "-") { print $1 }'; }

seven_hosts_of_the_version_before_run_units() {
        before_cluster_up
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        fleetctl beta start everywhere.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service)"
        plain_units_run 10
        with_role - >"$LAB/attached"
        with_role replica >"$LAB/replicas"
        [ "$(wc -l <"$LAB/attached")" = 2 ] || fail "attached: $(cat "$LAB/attached")"
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
replicas_are_upgraded_first() { roll_with_attached "$LAB_BUILD" again $(cat "$LAB/replicas" "$LAB/attached"); }

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

scenario seven_hosts_of_the_version_before_run_units attached_hosts_are_upgraded_first replicas_return_to_the_version_before_first \
        replicas_are_upgraded_first the_newest_level_touches_no_unit certificates_touch_no_unit
