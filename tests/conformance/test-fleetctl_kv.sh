#!/bin/bash
# fleetctl kv against a real fleetd: commands that need more than one request, or more than one client. Takes 110 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${CHECK_BUILD:-build}
. "$here/daemon.sh"

daemon_start "$build/fleetd/fleetd" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
kv() { timeout 300 "$build/client/fleetctl" --endpoint="http://$address" kv "$@"; }
# In the background: $! is fleetctl itself, so that a signal ends it.
kv_start() { "$build/client/fleetctl" --endpoint="http://$address" kv "$@" & }
watchers() { [ "$(curl -sf "http://$address/v2/stats/store" | grep -o '"watchers":[0-9]*')" = "\"watchers\":$1" ]; }

mk_creates_only_absent_keys() {
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
        kv_start exec-watch -r /e -- sh -c 'echo "$ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"; exit 3' >"$scratch/ran" 2>"$scratch/said"
        pid=$!
        wait_for watchers 1 || return 1
        kv set /e/a 1 && kv set /e/b 2 && kv rm /e/a
        wait_for grep -q delete "$scratch/ran"
        kill $pid
        wait $pid 2>/dev/null
        [ "$(cat "$scratch/ran")" = $'set /e/a 1\nset /e/b 2\ndelete /e/a ' ] && grep -q "failed with exit status 3" "$scratch/said"
}

exec_watch_that_is_interrupted_ends_with_its_command() {
        local pid
        kv_start exec-watch -r /ended -- sh -c 'echo $$; exec sleep 1000' >"$scratch/ran"
        pid=$!
        wait_for watchers 1 || return 1
        kv set /ended/a 1 && kv set /ended/b 2
        wait_for test -s "$scratch/ran" || return 1
        kill -TERM $pid
        wait_for eval "! kill -0 $pid" || { kill -9 $pid; kill -9 "$(tail -1 "$scratch/ran")"; return 1; }
        wait $pid
        [ $? = 143 ] && [ "$(wc -l <"$scratch/ran")" = 1 ] && ! kill -0 "$(cat "$scratch/ran")" 2>/dev/null
}

# The same options, also the same address: the state of the daemon stays.
daemon_again() {
        local words
        mapfile -d '' -t words <"/proc/$daemon_pid/cmdline"
        kill "-$1" "$daemon_pid"
        wait "$daemon_pid" 2>/dev/null
        "${words[@]}" >>"$scratch/alone.log" 2>&1 &
        daemon_pid=$!
        daemon_pids="$daemon_pids $daemon_pid"
        wait_for takes_writes "$address"
}

# A change before the restart, and one right after it, before the watches have connected again; each is reported once.
watches_outlive_a_restart_of_the_daemon() {
        local pids signal n=0
        wait_for watchers 0 || return 1
        kv_start exec-watch -r /restart -- sh -c 'echo "$ETCD_WATCH_KEY $ETCD_WATCH_VALUE"' >"$scratch/ran" 2>"$scratch/ran-said"
        pids=$!
        kv_start watch -r --forever /restart >"$scratch/watched" 2>"$scratch/watched-said"
        pids="$pids $!"
        wait_for watchers 2 || return 1
        for signal in TERM KILL; do
                kv set /restart/a $((n += 1)) && wait_for grep -q "a $n" "$scratch/ran" && wait_for grep -q "a $n" "$scratch/watched" && wait_for watchers 2 || return 1
                daemon_again $signal && kv set /restart/a $((n += 1)) || return 1
                wait_for watchers 2 || return 1
        done
        kv set /restart/a 5
        wait_for grep -q "a 5" "$scratch/ran" && wait_for grep -q "a 5" "$scratch/watched"
        # shellcheck disable=SC2086
        kill $pids && wait $pids 2>/dev/null
        cat "$scratch/ran" "$scratch/ran-said" "$scratch/watched" "$scratch/watched-said"
        [ "$(cat "$scratch/ran")" = "$(printf '/restart/a %s\n' 1 2 3 4 5)" ] && [ "$(cat "$scratch/watched")" = "$(printf 'set /restart/a %s\n' 1 2 3 4 5)" ] &&
                ! grep -qv -e "the watch is interrupted" -e "answers again" "$scratch/ran-said" "$scratch/watched-said"
}

# Each holder records its start and its end; no two may overlap. The first one holds the lock until all are in the queue.
a_lock_has_one_holder_at_a_time_in_order() {
        local i pids=
        for i in 1 2 3 4 5; do
                kv_start lock job -- sh -c "[ ! -e $scratch/held ] || echo twice >>$scratch/turns; : >$scratch/held; while [ ! -e $scratch/all-wait ]; do sleep 0.05; done
                        echo $i >>$scratch/turns; rm $scratch/held"
                pids="$pids $!"
                wait_for eval "[ \"\$(kv ls /_lock/job | wc -l)\" = $i ]" || return 1
        done
        touch "$scratch/all-wait"
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

a_killed_holder_loses_the_lock_when_its_ttl_ends() {
        local pid
        kv_start lock --ttl 3 dead -- sleep 20
        pid=$!
        wait_for eval '[ -n "$(kv ls /_lock/dead)" ]' || return 1
        kill -9 $pid
        wait $pid 2>/dev/null
        [ "$(kv lock dead -- echo mine)" = mine ]
}

# The daemon hangs, and the command ignores SIGTERM: it has still ended when the cluster may grant the lock to the next client.
# After 6 s, and 2 s for a busy machine.
a_lock_that_cannot_be_refreshed_ends_its_command_in_time() {
        local pid before hung after
        kv_start lock --ttl 6 hung -- sh -c \
                "trap 'echo term >>$scratch/signals' TERM; echo \$\$ >$scratch/command; while :; do sleep 0.05; done" 2>"$scratch/words"
        pid=$!
        wait_for test -s "$scratch/command" || return 1
        before=$(kv ls /_lock/hung | wc -l)
        kill -STOP "$daemon_pid"
        hung=$(date +%s%3N)
        wait_for eval "! kill -0 $(cat "$scratch/command")"
        after=$(date +%s%3N)
        kill -CONT "$daemon_pid"
        wait $pid
        [ $? = 1 ] && [ "$before" = 1 ] && [ $((after - hung)) -lt 8000 ] && [ "$(cat "$scratch/signals")" = term ] && grep -q "lock lost" "$scratch/words"
}

a_lock_outlives_its_ttl_while_its_holder_lives() {
        [ "$(kv lock --ttl 3 long -- sh -c "sleep 5; $build/client/fleetctl --endpoint=http://$address kv ls /_lock/long" | wc -l)" = 1 ]
}

a_waiting_lock_can_be_interrupted_and_leaves_the_queue() {
        local holder waiter
        wait_for watchers 0 || return 1
        kv_start lock busy -- sleep 20
        holder=$!
        wait_for eval '[ "$(kv ls /_lock/busy | wc -l)" = 1 ]' || return 1
        kv_start lock busy -- echo never >"$scratch/never"
        waiter=$!
        wait_for watchers 1 || return 1
        kill -TERM $waiter
        wait $waiter
        [ $? != 0 ] && [ ! -s "$scratch/never" ] && [ "$(kv ls /_lock/busy | wc -l)" = 1 ] || return 1
        kill -TERM $holder
        wait $holder
        [ -z "$(kv ls /_lock/busy)" ]
}

all_below_a_key_is_exported_as_json_and_imported() {
        kv set /x/a 'one "two"' && kv set /x/d/e $'ü\nline' && kv set /x/d/f "" && kv mk --dir /x/none || return 1
        kv export /x >"$scratch/x.json" && kv import /y "$scratch/x.json" && kv import /z <"$scratch/x.json" || return 1
        [ "$(kv export /y)" = "$(cat "$scratch/x.json")" ] && [ "$(kv export /z)" = "$(cat "$scratch/x.json")" ] &&
                [ "$(kv get /y/d/e)" = $'ü\nline' ] && kv ls -r /z | grep -qx /z/none/
}

all_below_a_key_is_exported_to_files_and_imported() {
        kv export /x "$scratch/files" && [ "$(cat "$scratch/files/d/e")" = $'ü\nline' ] && [ -d "$scratch/files/none" ] &&
                kv import /again "$scratch/files" && [ "$(kv export /again)" = "$(kv export /x)" ]
}

an_invalid_import_is_rejected_with_object_and_place() {
        echo '{"a": 1}' | kv import /bad 2>"$scratch/why"
        [ $? = 1 ] && grep -q 'a: expected a string' "$scratch/why" || return 1
        ln -s /etc/passwd "$scratch/files/link"
        kv import /bad "$scratch/files" 2>"$scratch/why"
        [ $? = 1 ] && grep -q 'Failed to read link: symbolic links are not followed' "$scratch/why"
}

values_of_any_bytes_go_in_and_out() {
        head -c 100000 /dev/urandom >"$scratch/bytes" && printf 'a\0\377b' >>"$scratch/bytes"
        kv set /b/file --file="$scratch/bytes" && kv set /b/pipe <"$scratch/bytes" && kv set /b/dash --file=- <"$scratch/bytes" || return 1
        for key in /b/file /b/pipe b/dash/; do
                kv get $key --file="$scratch/back" && cmp "$scratch/bytes" "$scratch/back" || return 1
                kv get $key --quorum --file=- | cmp "$scratch/bytes" - || return 1
        done
        kv get /b/file | cmp <(cat "$scratch/bytes"; echo) - && [ "$(kv set /b/t text)" = text ] && [ "$(kv get /b/t)" = text ] || return 1
        kv set /b/t x --file=/etc/passwd
        [ $? = 2 ] || return 1
        kv get /b/none --file="$scratch/none" 2>"$scratch/why"
        [ $? = 4 ] && grep -q '100: Key not found' "$scratch/why" && [ ! -e "$scratch/none" ]
}

keys_and_values_of_any_bytes_are_exported_and_imported() {
        printf '{"writes": [%s, %s, %s, %s]}' '{"action": "set", "key": "/any/bin", "value64": "AP8B"}' '{"action": "set", "key64": "L2FueS//AGs=", "value": "odd"}' \
                '{"action": "set", "key": "/any/base64:x", "value": "y"}' '{"action": "create", "key64": "L2FueS9k/w==", "dir": true}' | kv txn || return 1
        kv export /any >"$scratch/any.json" && kv import /any2 "$scratch/any.json" && [ "$(kv export /any2)" = "$(cat "$scratch/any.json")" ] || return 1
        grep -q '"bin": {"value64": "AP8B"}' "$scratch/any.json" && kv get /any2/bin --file=- | cmp - <(printf '\0\377\1') || return 1
        kv export /b "$scratch/bfiles" && kv import /b2 "$scratch/bfiles" && cmp "$scratch/bfiles/file" "$scratch/bytes" && [ "$(kv export /b2)" = "$(kv export /b)" ]
        kv export /any "$scratch/anyfiles" 2>"$scratch/why"
        [ $? = 1 ] && grep -q 'export it as JSON' "$scratch/why"
}

an_export_has_more_than_a_page() {
        python3 -c 'import json; print(json.dumps({"d%d/%04d" % (i % 3, i): str(i) for i in range(2500)}))' | kv import /many || return 1
        [ "$(kv export /many | grep -c :)" = 2500 ] && [ "$(kv ls -r /many | wc -l)" = 2503 ] && [ "$(kv ls /many | wc -l)" = 3 ] &&
                [ "$(kv ls -r --limit=1200 /many | wc -l)" = 1200 ] && [ "$(kv ls --limit=1 /many)" = /many/d0/ ]
}

a_transaction_prints_its_writes_or_the_failed_check() {
        echo '{"checks": [{"key": "/t/a", "exists": false}], "writes": [{"action": "set", "key": "/t/a", "value": "1"}, {"action": "create", "key": "/t/d", "dir": true}]}' >"$scratch/txn"
        [ "$(kv txn "$scratch/txn")" = $'set /t/a 1\ncreate /t/d/' ] || return 1
        kv txn <"$scratch/txn" 2>"$scratch/why"
        [ $? = 4 ] && [ "$(cat "$scratch/why")" = "Error:  412: checks[0]: the key exists" ] || return 1
        echo '{"writes": [{"action": "delete", "key": "/t", "recursive": true}]}' | kv txn --output=json | grep -q '"action":"delete"'
}

a_watch_of_all_continues_from_any_index() {
        local pid index
        kv_start watch --all /w >"$scratch/all" 2>"$scratch/said"
        pid=$!
        wait_for watchers 1 || return 1
        kv set /w/a 1 && kv set /w/_hidden 2 && kv set /elsewhere 3 && kv rm /w/a
        wait_for grep -q delete "$scratch/all"
        kill $pid
        wait $pid 2>/dev/null
        [ "$(cut -d' ' -f2- "$scratch/all")" = $'set /w/a 1\nset /w/_hidden 2\ndelete /w/a' ] || return 1
        index=$(head -1 "$scratch/all" | cut -d' ' -f1)
        timeout 60 "$build/client/fleetctl" --endpoint="http://$address" kv watch --all --after=$index /w | head -2 >"$scratch/rest"
        [ "$(cat "$scratch/rest")" = "$(tail -2 "$scratch/all")" ] || return 1
        for _ in 1 2; do
                python3 -c 'import json; print(json.dumps({"writes": [{"action": "set", "key": "/w/x", "value": str(i)} for i in range(700)]}))' | kv txn >/dev/null
        done
        kv watch --all --after=$index /w 2>"$scratch/why"
        [ $? = 4 ] && grep -q '410: changes between' "$scratch/why"
}

# Each API rejects a removal that costs too much at once; fleetctl removes the directory in parts.
a_large_directory_is_refused_at_once_and_removed_in_parts() {
        local i said
        for i in $(seq 0 79); do
                python3 -c 'import json,sys; print(json.dumps({"writes": [{"action": "set", "key": "/big/%s/%03d" % (sys.argv[1], i), "value": "v"} for i in range(600)]}))' "$i" >"$scratch/txn"
                kv txn "$scratch/txn" >/dev/null || return 1
        done
        said=$(curl -s -o "$scratch/answer" -w '%{http_code}' -XDELETE "http://$address/v2/keys/big?recursive=true")
        [ "$said" = 413 ] && grep -q '"errorCode":210' "$scratch/answer" && grep -q '16384 KiB' "$scratch/answer" || return 1
        [ "$(kv get /big/79/599)" = v ] || return 1
        kv rm --recursive /big || return 1
        kv get /big/79/599
        [ $? = 4 ] && [ -z "$(kv ls /big 2>/dev/null)" ]
}

# In few parts: at the last one, the server's estimate still includes the removed nodes.
a_directory_of_large_values_is_removed_in_parts_within_a_second() {
        python3 - "http://$address/fleet/v1/kv/txn" <<'END' || return 1
import json, sys, urllib.request
for i in range(0, 1700, 20):
    writes = [{"action": "set", "key": "/wide/%04d" % k, "value": "v" * 10000} for k in range(i, i + 20)]
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], json.dumps({"writes": writes}).encode(), {"Content-Type": "application/json"}))
END
        kv rm --recursive /wide || return 1
        kv get /wide
        [ $? = 4 ]
}

a_transaction_that_costs_too_much_is_rejected_and_many_at_once_get_a_retry_time() {
        local n said
        head -c 239000 /dev/zero | tr '\0' x >"$scratch/large"
        kv set --file "$scratch/large" /cost/k || return 1
        refreshes() { python3 -c 'import json,sys; print(json.dumps({"writes": [{"action": "set", "key": "/cost/k", "refresh": True, "ttl": 1000}] * int(sys.argv[1])}))' "$1"; }
        refreshes 500 >"$scratch/txn"
        said=$(curl -s -o "$scratch/answer" -w '%{http_code}' "http://$address/fleet/v1/kv/txn" -H 'Content-Type: application/json' --data-binary "@$scratch/txn")
        [ "$said" = 413 ] && grep -q '16384 KiB' "$scratch/answer" || return 1
        for n in $(seq 300); do
                echo "url = \"http://$address/v2/keys/cost/k?prevValue=no\""
                echo 'request = "PUT"'
                echo 'data = "value=1"'
                echo 'output = "/dev/null"'
                echo 'dump-header = "-"'
        done >"$scratch/many"
        curl -s --parallel --parallel-immediate --parallel-max 300 -K "$scratch/many" >"$scratch/heads"
        grep -q '^HTTP/1.1 412' "$scratch/heads" && grep -q '^HTTP/1.1 503' "$scratch/heads" && grep -q '^Retry-After: 1' "$scratch/heads" || return 1
        kv set /cost/small 1 # passes them
}

for c in a_large_directory_is_refused_at_once_and_removed_in_parts a_directory_of_large_values_is_removed_in_parts_within_a_second a_transaction_that_costs_too_much_is_rejected_and_many_at_once_get_a_retry_time \
        mk_creates_only_absent_keys mk_in_order_prints_keys_in_order exec_watch_runs_a_command_for_each_change \
        exec_watch_that_is_interrupted_ends_with_its_command watches_outlive_a_restart_of_the_daemon \
        a_lock_has_one_holder_at_a_time_in_order a_lock_gives_the_commands_exit_status a_killed_holder_loses_the_lock_when_its_ttl_ends \
        a_lock_that_cannot_be_refreshed_ends_its_command_in_time a_lock_outlives_its_ttl_while_its_holder_lives a_waiting_lock_can_be_interrupted_and_leaves_the_queue \
        all_below_a_key_is_exported_as_json_and_imported all_below_a_key_is_exported_to_files_and_imported \
        an_invalid_import_is_rejected_with_object_and_place values_of_any_bytes_go_in_and_out keys_and_values_of_any_bytes_are_exported_and_imported \
        an_export_has_more_than_a_page a_transaction_prints_its_writes_or_the_failed_check a_watch_of_all_continues_from_any_index; do
        check $c
done
daemon_ends alone "$daemon_pid"
