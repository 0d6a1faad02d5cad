# Updates and drains beside a client: the checks of test-rollout-clients.sh and test-rollout-attached.sh, sourced after rollouts.sh. The instances run on
# $HOSTS, four hosts, of which the last one is drained meanwhile.

# Each instance takes its start, which ends within the second until its first check, the watch time, and a second. Other tests have the processors, too.
timed() {
        local ms=$(($(now_ms) - $2)) limit=$((6 * (1000 + WATCH_S * 1000 + 1000)))
        echo "# $1: six instances in $ms ms; expected at most $limit ms on an idle machine" >>"$LAB/figures"
        [ $ms -le $((2 * limit)) ] || fail "$1 took $ms ms"
}

surge_instances_lose_no_request() {
        local begin
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
        ctl drain "${HOSTS##* }"
        wait_available 6
        client_start
        begin=$(now_ms)
        web 3 good 'MaxUnavailable=1\n'
        submit
        wait_rollout done 3 90
        timed MaxUnavailable=1 "$begin"
        client_stop "MaxUnavailable=1 on three hosts" 5
        ctl uncordon "${HOSTS##* }"
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

# ReloadTrigger= of three instances: no process ends, and each reload follows the one before.
a_trigger_reloads_one_instance_after_the_other() {
        local begin before reloads
        # shellcheck disable=SC2046
        ctl destroy --yes $(names | tail -n 3)
        before=$(invocations)
        client_start 3
        begin=$(now_ms)
        web 10 good 'ReloadTrigger=another\n'
        submit
        wait_for 40 all_reloaded "$begin" || fail "$(rollout)"
        wait_for 20 rollout_is done 11 || fail "$(rollout)"
        client_stop ReloadTrigger= 3
        reloads=$(reloads_since "$begin")
        [ "$before" = "$(invocations)" ] || fail "these were restarted: $(ended_since "$before")"
        [ "$(awk '{ print $3 }' <<<"$reloads" | sort -u | wc -l)" = 3 ] && [ "$(wc -l <<<"$reloads")" = 3 ] || fail "reloads: $reloads"
        echo "# reloads, in ms after the submission: $(awk -v begin="$begin" '{ print $1 - begin }' <<<"$reloads" | xargs)" >>"$LAB/figures"
}
reloads_since() { instance_events | awk -v begin="$1" '$1 > begin && $2 == "reload"'; }
all_reloaded() { [ "$(reloads_since "$1" | wc -l)" -ge 3 ]; }
