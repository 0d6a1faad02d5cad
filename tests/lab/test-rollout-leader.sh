#!/bin/bash
# The host of the leader is cut in each state of a rollout, and the quorum is lost between the end and the start of an instance. The leader's host
# is drained, so that no instance ends with it. Takes 75 s.
LAB_HOSTS="alpha beta gamma delta"
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"

three_instances_run_on_four_hosts() {
        cluster_with_instances
        web 1 good
        ctl submit web@.service
        # shellcheck disable=SC2046
        ctl start $(names 3)
        wait_available 3
}

# Drain the host of the leader, and let the others have units. Sets FIRST, the leader, AT, another host, and BEGIN.
leader_without_units() {
        FIRST=$(leader)
        AT=$(others "$FIRST" | head -n 1)
        # shellcheck disable=SC2046
        ctl uncordon $(others "$FIRST")
        ctl drain "$FIRST"
        wait_available 3
        BEGIN=$(now_ms)
}
cut_leader() {
        [ "$(leader)" = "$FIRST" ] || echo "# another host than $FIRST led already: the machine is slow" >>"$LAB/figures"
        host_cut "$FIRST"
        wait_for 20 has_other_leader || fail "no other leader: $(fleetctl "$AT" list-machines 2>&1)"
}
has_other_leader() { local l; l=$(leader "$AT"); [ -n "$l" ] && [ "$l" != "$FIRST" ]; }
has_started() { instance_events | awk -v begin="$BEGIN" '$1 > begin' | grep -q " start [0-9]* $1 "; }
# starts WHAT N...: revision N of the pairs "N TIMES" was started so often since BEGIN, on all hosts.
starts() {
        local all what=$1 expected=$2
        host_heal "$FIRST"
        # shellcheck disable=SC2086
        cluster_whole $LAB_HOSTS
        all=$(instance_events | awk -v begin="$BEGIN" '$1 > begin && $2 == "start" { print $4 }' | sort -n | uniq -c | awk '{ printf "%s×%s ", $1, $2 }')
        [ "$all" = "$expected" ] || fail "$what: starts $all, expected $expected: $(instance_events | tail -n 12)"
}

a_rollout_that_is_rolling_ends_with_the_next_leader() {
        leader_without_units
        web 2 good
        submit
        wait_for 20 has_started 2 || fail "$(rollout)"
        cut_leader
        wait_rollout done 2 60
        wait_available 3
        starts rolling "3×2 "
}

a_rollout_that_reverts_ends_with_the_next_leader() {
        leader_without_units
        web 3 exits 'UpdateOnFailure=revert\n'
        submit
        wait_for 20 has_started 3 || fail "$(rollout)"
        wait_for 20 has_started 2 || fail "$(rollout)"
        cut_leader
        wait_rollout done 2 60
        wait_available 3
        starts reverting "1×2 1×3 "
}

a_rollout_that_is_held_stays_so_with_the_next_leader() {
        leader_without_units
        web 4 good 'Canary=1\n'
        submit
        wait_rollout held 4 30
        cut_leader
        wait_rollout held 4 10
        ctl rollout promote web@.service
        wait_rollout done 4 60
        wait_available 3
        starts held "3×4 "
}

a_rollout_that_is_paused_stays_so_with_the_next_leader() {
        leader_without_units
        web 5 exits
        submit
        wait_rollout paused 5 30
        cut_leader
        wait_rollout paused 5 10
        ctl revert web@.service 4 --yes
        wait_rollout done 4 60
        wait_available 3
        starts paused "1×4 1×5 "
}

# Each host is alone from the end of the first instance on. The new text starts when ExecStopPost= has ended, after a second.
without_a_quorum_the_replacement_of_an_instance_that_has_ended_starts() {
        local h at stopped started
        AT=alpha
        ctl uncordon $LAB_HOSTS
        web 6 good '' 'ExecStopPost=/bin/sleep 1\n'
        ctl submit --replace web@.service
        BEGIN=$(now_ms)
        web 7 good '' 'ExecStopPost=/bin/sleep 1\n'
        submit
        wait_for 20 has_stopped || fail "no instance has stopped: $(rollout)"
        for h in $LAB_HOSTS; do
                host_cut "$h"
        done
        wait_for 20 has_started 7 || fail "no replacement has started: $(instance_events | tail -n 12)"
        read -r stopped at < <(instance_events | awk -v begin="$BEGIN" '$1 > begin && $2 == "stop" { print $1, $5; exit }')
        started=$(event_after "$BEGIN" " start [0-9]* 7 $at")
        for h in $LAB_HOSTS; do
                host_heal "$h"
        done
        echo "# without a quorum the replacement started $((started - stopped - 1000)) ms after the end of the former instance; expected at most 2000 ms" >>"$LAB/figures"
        [ $((started - stopped)) -le 5000 ] || fail "the replacement started after $((started - stopped)) ms"
        # shellcheck disable=SC2086
        cluster_whole $LAB_HOSTS
        wait_rollout done 7 60
}
has_stopped() { instance_events | awk -v begin="$BEGIN" '$1 > begin && $2 == "stop"' | grep -q .; }

scenario three_instances_run_on_four_hosts a_rollout_that_is_rolling_ends_with_the_next_leader a_rollout_that_reverts_ends_with_the_next_leader \
        a_rollout_that_is_held_stays_so_with_the_next_leader a_rollout_that_is_paused_stays_so_with_the_next_leader \
        without_a_quorum_the_replacement_of_an_instance_that_has_ended_starts
