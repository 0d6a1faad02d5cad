#!/bin/bash
# A rolling upgrade from the build in LAB_BEFORE to the build in LAB_BUILD and back, host by host in both orders. By hand: two builds are
# needed. No unit is touched, all acknowledged writes are there, and each version opens the state of the other. Then the cluster gets certificates, and
# the version before is refused in each state of that change.
. "$(dirname "$0")/scenario.sh"
. "$here/upgrading.sh"
[ -x "${LAB_BEFORE:-}/fleetd/fleetd" ] || { echo "Usage: LAB_BEFORE=BUILD LAB_BUILD=BUILD $0" >&2; exit 2; }

a_cluster_of_the_version_before_runs_units() {
        before_cluster_up
        (cd "$top/dist/units" && host_fleetctl alpha start hello.service node.service store.service web@{1,2,3}.service >"$LAB/out" 2>&1) || fail "sample units do not start: $(cat "$LAB/out")"
        plain_units_run 9
}

hosts_are_upgraded_one_by_one() { roll "$LAB_BUILD" upgrade alpha beta gamma; }

an_upgraded_cluster_survives_a_power_cut_of_a_host() {
        host_kill beta
        hosts_up beta
        cluster_whole
        identities >"$LAB/before"
}

hosts_return_to_the_version_before_one_by_one() { roll "$LAB_BEFORE" downgrade gamma beta alpha; }

hosts_are_upgraded_in_the_other_order() { roll "$LAB_BUILD" again gamma alpha beta; }

all_daemons_of_one_version_open_the_state_of_the_other() {
        local h build
        for build in "$LAB_BEFORE" "$LAB_BUILD"; do
                for h in $LAB_HOSTS; do
                        host_exec "$h" systemctl stop fleetd || fail "stop on $h failed"
                done
                for h in $LAB_HOSTS; do
                        put_version "$h" "$build"
                        host_exec "$h" systemctl start --no-block fleetd || fail "start on $h failed"
                done
                cluster_whole
                WHAT="a restart of all daemons" untouched "$(cat "$LAB/before")"
                for h in $LAB_HOSTS; do
                        acknowledged_writes_are_there upgrade-alpha "$h"
                done
        done
}

# version_before_is_refused NAME: gamma gets the version before, takes no part and says why, in state NAME; then it returns.
logged_since() { host_exec "$1" journalctl -q -u fleetd --no-pager --since="@$2" | grep -qE -- "$3"; }
version_before_is_refused() {
        local since
        since=$(date +%s)
        put_version gamma "$LAB_BEFORE"
        host_exec gamma systemctl restart --no-block fleetd
        wait_for 20 logged_since gamma "$since" "$2" || fail "$1: the journal of gamma: $(host_exec gamma journalctl -q -u fleetd -n 8 --no-pager)"
        wait_for 10 writes alpha || fail "$1: alpha accepts no writes"
        writes gamma && fail "$1: gamma accepts writes"
        WHAT="$1: the version before" untouched "$(cat "$LAB/before")"
        host_exec gamma sh -c 'systemctl stop fleetd; systemctl reset-failed fleetd'
        run_version gamma "$LAB_BUILD"
        cluster_whole
        wait_for 30 three_vote alpha || fail "$1: roles: $(roles alpha)"
        WHAT="$1: the return" untouched "$(cat "$LAB/before")"
}

the_version_before_is_refused_above_its_level() {
        identities >"$LAB/before"
        fleetctl alpha cluster level 5 --yes >"$LAB/out" 2>&1 || fail "level: $(cat "$LAB/out")"
        version_before_is_refused "feature level 5" "feature level"
}

# From the level of attached hosts on, six hosts are possible.
further_hosts_join_and_one_is_attached() {
        local h former=$LAB_HOSTS
        fleetctl alpha cluster level 6 --yes >"$LAB/out" 2>&1 || fail "level: $(cat "$LAB/out")"
        find "$LAB/image" -type f -name fleetd -perm -100 -exec cp "$LAB_BUILD/fleetd/fleetd" {} \; # it was of the version before
        LAB_HOSTS="$LAB_HOSTS delta epsilon zeta"
        for h in delta epsilon zeta; do
                host_install $h && hosts_up $h || fail "no $h"
        done
        cluster_whole
        three_vote() { [ "$(roles "$1")" = "- leader standby standby voter voter" ]; }
        wait_for 60 three_vote alpha || fail "roles: $(roles alpha)"
        # shellcheck disable=SC2086
        WHAT="a host more" untouched "$(cat "$LAB/before")" $former
        for h in delta epsilon zeta; do
                host_off $h && wait_for 10 eval "host_fleetctl alpha remove --force --yes $h >$LAB/out 2>&1" || fail "remove $h: $(cat "$LAB/out")"
        done
        # The leader removes their replicas later, one at a time: until then no level is raised.
        wait_for 30 fleetctl alpha cluster level 7 --yes >"$LAB/out" 2>&1 || fail "level: $(cat "$LAB/out")"
}

# The assignments of the version before get revisions, and a new text is rolled out.
the_newest_level_touches_no_unit() {
        local before
        fleetctl alpha cluster level 12 --yes >"$LAB/out" 2>&1 || fail "level: $(cat "$LAB/out")"
        wait_for 20 has_revision || fail "no revision: $(fleetctl alpha history plain-1.service 2>&1)"
        WHAT="feature level 12" untouched "$(cat "$LAB/before")"
        before=$(identities | grep ' plain-1.service ')
        runs_forever plain-1.service <<<$'Environment=TEXT=2\n[X-Fleet]\nUpdateWatchSec=1s'
        fleetctl alpha start --replace plain-1.service >"$LAB/out" 2>&1 || fail "start --replace: $(cat "$LAB/out")"
        [ "$(identities | grep ' plain-1.service ')" != "$before" ] || fail "plain-1.service runs its former text"
        identities >"$LAB/after"
        [ "$(diff "$LAB/before" "$LAB/after" | grep -c '^>')" = 1 ] || fail "other units were touched: $(diff "$LAB/before" "$LAB/after")"
        mv "$LAB/after" "$LAB/before"
}
has_revision() { fleetctl alpha history plain-1.service 2>/dev/null | grep -qE '^[*+ ]*1\b'; }

the_version_before_is_refused_beside_certificates() {
        hosts_get_certificates
        version_before_is_refused "key file and certificates" "feature level"
}

the_version_before_is_refused_without_the_key_file() {
        fleetctl alpha cluster secure --yes >"$LAB/out" 2>&1 || fail "secure: $(cat "$LAB/out")"
        version_before_is_refused "certificates" "feature level|another key, or none"
}

scenario a_cluster_of_the_version_before_runs_units hosts_are_upgraded_one_by_one an_upgraded_cluster_survives_a_power_cut_of_a_host \
        hosts_return_to_the_version_before_one_by_one hosts_are_upgraded_in_the_other_order all_daemons_of_one_version_open_the_state_of_the_other \
        the_version_before_is_refused_above_its_level further_hosts_join_and_one_is_attached the_newest_level_touches_no_unit the_version_before_is_refused_beside_certificates the_version_before_is_refused_without_the_key_file
