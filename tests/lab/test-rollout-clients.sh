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

# a_text_is_reverted REVISION KIND [LINES]: the text touches one instance, and its former text runs within the watch time and three seconds of
# the failure: the first check that fails after $AFTER_MS (0), or the end of the process.
a_text_is_reverted() {
        local revision=$1 kind=$2 before begin bad failed again ms
        before=$(invocations)
        client_start
        begin=$(now_ms)
        web "$revision" "$kind" "UpdateOnFailure=revert\nHealthFailures=1\n${3:-}"
        submit
        wait_for 20 has_started "$revision" || fail "$kind does not start: $(rollout)"
        wait_rollout done 3 60
        wait_available 6
        client_stop "$kind" 5
        [ "$(ended_since "$before" | wc -l)" = 1 ] || fail "$kind touched: $(ended_since "$before" | tr '\n' ';')"
        bad=$(event_after "$begin" " start [0-9]* $revision ")
        [ "$(instance_events | grep -c " start [0-9]* $revision ")" = 1 ] || fail "$kind started: $(instance_events | grep " start [0-9]* $revision ")"
        failed=$bad
        [ "$kind" = exits ] || failed=$(event_after $((bad + ${AFTER_MS:-0})) " 503 [0-9]* $revision ")
        again=$(event_after "$bad" " start [0-9]* 3 ")
        [ -n "$failed" ] && [ -n "$again" ] || fail "$kind: $(instance_events | tail -n 12)"
        ms=$((again - failed))
        echo "# $kind: the former text runs $ms ms after the failure; expected at most $(((WATCH_S + 3) * 1000)) ms" >>"$LAB/figures"
        [ $ms -le $(((2 * WATCH_S + 6) * 1000)) ] || fail "$kind: the former text runs $ms ms after the failure"
}
has_started() { instance_events | grep -q " start [0-9]* $1 "; }

a_text_that_exits_is_reverted_on_one_instance() { a_text_is_reverted 4 exits; }
a_text_that_is_never_ready_is_reverted_on_one_instance() { AFTER_MS=2000 a_text_is_reverted 5 unready 'HealthStartSec=2s\n'; }
a_text_whose_check_fails_after_five_seconds_is_reverted_on_one_instance() { a_text_is_reverted 6 sick 'UpdateWatchSec=8s\n'; }

# The rollout is paused each time, and the next text begins with the instance that is unavailable.
three_texts_that_fail_leave_five_of_six() {
        local before revision
        before=$(invocations)
        client_start
        for revision in 7 8 9; do
                web "$revision" exits
                submit
                wait_rollout paused "$revision" 30
        done
        available 5 || fail "$(fleetctl alpha list-units)"
        client_stop "three texts that fail" 5
        [ "$(ended_since "$before" | wc -l)" = 1 ] || fail "touched: $(ended_since "$before" | tr '\n' ';')"
}

the_next_good_text_needs_no_manual_step() {
        client_start
        web 10 good
        submit
        wait_rollout done 10 90
        wait_available 6
        client_stop "the text after three that fail" 5
}

scenario surge_instances_lose_no_request one_is_stopped_at_a_time a_text_that_exits_is_reverted_on_one_instance \
        a_text_that_is_never_ready_is_reverted_on_one_instance a_text_whose_check_fails_after_five_seconds_is_reverted_on_one_instance \
        three_texts_that_fail_leave_five_of_six the_next_good_text_needs_no_manual_step
