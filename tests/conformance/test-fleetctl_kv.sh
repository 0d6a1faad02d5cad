#!/bin/bash
# fleetctl kv against a real fleetd: what needs more than one request, or more than one client.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${CHECK_BUILD:-build}
. "$here/daemon.sh"

daemon_start "$build/fleetd/fleetd" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
kv() { timeout 30 "$build/client/fleetctl" --endpoint="http://$address" kv "$@"; }
watchers() { [ "$(curl -sf "http://$address/v2/stats/store" | grep -o '"watchers":[0-9]*')" = "\"watchers\":$1" ]; }
wait_for() {
        local i
        for i in $(seq 200); do
                "$@" >/dev/null 2>&1 && return 0
                sleep 0.05
        done
        return 1
}
check() { if "$@" >"$scratch/said" 2>&1; then echo "ok $1"; else echo "not ok $1: $(tail -3 "$scratch/said" | tr '\n' '|')"; fi; }

mk_makes_only_what_is_not_there() {
        [ "$(kv mk /mk/a one)" = one ] || return 1
        kv mk /mk/a two
        [ $? = 4 ] && [ "$(kv get /mk/a)" = one ] && kv mk --dir /mk/d && [ "$(kv ls /mk)" = $'/mk/a\n/mk/d/' ]
}

mk_in_order_prints_keys_in_order() {
        local first second
        first=$(kv mk --in-order /q a) && second=$(kv mk --in-order /q b) || return 1
        [[ $first == /q/0* && $first < $second ]] && [ "$(kv ls /q)" = "$first"$'\n'"$second" ]
}

exec_watch_runs_a_command_for_each_change() {
        local pid
        kv exec-watch -r /e -- sh -c 'echo "$ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"; exit 3' >"$scratch/ran" 2>"$scratch/said" &
        pid=$!
        wait_for watchers 1 || return 1
        kv set /e/a 1 && kv set /e/b 2 && kv rm /e/a
        wait_for grep -q delete "$scratch/ran"
        kill $pid
        wait $pid 2>/dev/null
        [ "$(cat "$scratch/ran")" = $'set /e/a 1\nset /e/b 2\ndelete /e/a ' ] && grep -q "ended with exit status 3" "$scratch/said"
}

# Each holder notes that it is alone; nobody else may come in between.
a_lock_has_one_holder_at_a_time_in_order() {
        local i pids=
        for i in 1 2 3 4 5; do
                kv lock job -- sh -c "[ ! -e $scratch/held ] || echo twice >>$scratch/turns; : >$scratch/held; sleep 0.2; echo $i >>$scratch/turns; rm $scratch/held" &
                pids="$pids $!"
                wait_for eval "[ \"\$(kv ls /_lock/job | wc -l)\" = $i ]" || wait_for test -s "$scratch/turns"
        done
        # shellcheck disable=SC2086
        wait $pids
        cat "$scratch/turns"
        [ "$(tr '\n' ' ' <"$scratch/turns")" = "1 2 3 4 5 " ] && [ -z "$(kv ls /_lock/job)" ]
}

a_lock_gives_the_commands_exit_status() {
        local missing
        kv lock job -- sh -c 'exit 42'
        [ $? = 42 ] || return 1
        kv lock job -- sh -c 'kill -9 $$'
        [ $? = 137 ] || return 1
        kv lock job -- "$scratch/not-there"
        missing=$?
        [ $missing = 127 ] && [ -z "$(kv ls /_lock/job)" ]
}

who_is_killed_loses_the_lock_when_its_time_is_over() {
        local pid
        "$build/client/fleetctl" --endpoint="http://$address" kv lock --ttl 3 dead -- sleep 20 &
        pid=$!
        wait_for eval '[ -n "$(kv ls /_lock/dead)" ]' || return 1
        kill -9 $pid
        wait $pid 2>/dev/null
        [ "$(kv lock dead -- echo mine)" = mine ]
}

a_lock_outlives_its_ttl_while_its_holder_lives() {
        [ "$(kv lock --ttl 3 long -- sh -c "sleep 5; $build/client/fleetctl --endpoint=http://$address kv ls /_lock/long" | wc -l)" = 1 ]
}

what_waits_for_a_lock_can_be_interrupted_and_leaves_the_queue() {
        local holder waiter
        "$build/client/fleetctl" --endpoint="http://$address" kv lock busy -- sleep 20 &
        holder=$!
        wait_for eval '[ "$(kv ls /_lock/busy | wc -l)" = 1 ]' || return 1
        "$build/client/fleetctl" --endpoint="http://$address" kv lock busy -- echo never >"$scratch/never" &
        waiter=$!
        wait_for watchers 1 || return 1
        kill -TERM $waiter
        wait $waiter
        [ $? != 0 ] && [ ! -s "$scratch/never" ] && [ "$(kv ls /_lock/busy | wc -l)" = 1 ] || return 1
        kill -TERM $holder
        wait $holder
        [ -z "$(kv ls /_lock/busy)" ]
}

all_below_a_key_goes_out_as_json_and_comes_back() {
        kv set /x/a 'one "two"' && kv set /x/d/e $'ü\nline' && kv set /x/d/f "" && kv mk --dir /x/none || return 1
        kv export /x >"$scratch/x.json" && kv import /y "$scratch/x.json" && kv import /z <"$scratch/x.json" || return 1
        [ "$(kv export /y)" = "$(cat "$scratch/x.json")" ] && [ "$(kv export /z)" = "$(cat "$scratch/x.json")" ] &&
                [ "$(kv get /y/d/e)" = $'ü\nline' ] && kv ls -r /z | grep -qx /z/none/
}

all_below_a_key_goes_out_as_files_and_comes_back() {
        kv export /x "$scratch/files" && [ "$(cat "$scratch/files/d/e")" = $'ü\nline' ] && [ -d "$scratch/files/none" ] &&
                kv import /again "$scratch/files" && [ "$(kv export /again)" = "$(kv export /x)" ]
}

an_import_that_cannot_be_says_what_is_wrong_and_where() {
        echo '{"a": 1}' | kv import /bad 2>"$scratch/why"
        [ $? = 1 ] && grep -q 'a: expected a string' "$scratch/why" || return 1
        ln -s /etc/passwd "$scratch/files/link"
        kv import /bad "$scratch/files" 2>"$scratch/why"
        [ $? = 1 ] && grep -q 'cannot read link: it is a link' "$scratch/why"
}

for c in mk_makes_only_what_is_not_there mk_in_order_prints_keys_in_order exec_watch_runs_a_command_for_each_change \
        a_lock_has_one_holder_at_a_time_in_order a_lock_gives_the_commands_exit_status who_is_killed_loses_the_lock_when_its_time_is_over \
        a_lock_outlives_its_ttl_while_its_holder_lives what_waits_for_a_lock_can_be_interrupted_and_leaves_the_queue \
        all_below_a_key_goes_out_as_json_and_comes_back all_below_a_key_goes_out_as_files_and_comes_back \
        an_import_that_cannot_be_says_what_is_wrong_and_where; do
        check $c
done
daemon_ends alone "$daemon_pid"
