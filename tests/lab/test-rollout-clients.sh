#!/bin/bash
# A client sends a request each 20 ms while the six instances of a template are updated on four hosts: by surge instances, by stopping one
# first, with texts that fail. Takes 180 s.
LAB_HOSTS=${LAB_HOSTS:-alpha beta gamma delta}
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"

# Each instance takes its start, which ends within the second until its first check, the watch time, and a second. Other tests have the processors, too.
timed() {
        local ms=$(($(now_ms) - $2)) limit=$((6 * (1000 + WATCH_S * 1000 + 1000)))
        echo "# $1: six instances in $ms ms; expected at most $limit ms on an idle machine" >>"$LAB/figures"
        [ $ms -le $((2 * limit)) ] || fail "$1 took $ms ms"
}

surge_instances_lose_no_request() {
        local begin
        cluster_with_instances
        web 1 good 'MaxSurge=1\n'
        ctl submit web@.service
        # shellcheck disable=SC2046
        ctl start $(names)
        wait_available 6
        client_start
        begin=$(now_ms)
        web 2 good 'MaxSurge=1\n'
        submit
        wait_rollout done 2 90
        timed MaxSurge=1 "$begin"
        client_stop "MaxSurge=1 on four hosts" 6
}

one_is_stopped_at_a_time() {
        local begin
        ctl drain delta
        wait_available 6
        client_start
        begin=$(now_ms)
        web 3 good 'MaxUnavailable=1\n'
        submit
        wait_rollout done 3 90
        timed MaxUnavailable=1 "$begin"
        client_stop "MaxUnavailable=1 on three hosts" 5
        ctl uncordon delta
}

scenario surge_instances_lose_no_request one_is_stopped_at_a_time
