#!/bin/bash
# The etcd v2 API of every host by curl over loopback, and its refusals.
# Takes 20 s.
. "$(dirname "$0")/scenario.sh"

a_put_on_one_host_is_read_on_the_others() {
        local h n=0
        cluster_up
        for h in $LAB_HOSTS; do
                n=$((n + 1))
                [ "$(key_put "$h" "/shared/$h" "value $n")" = ok ] || fail "put on $h: $(key_put "$h" "/shared/$h" "value $n")"
                # The writer's host serves it at once, the others when they have applied it.
                [ "$(key_get "$h" "/shared/$h")" = "value $n" ] || fail "$h does not read its own write"
                for other in $LAB_HOSTS; do
                        wait_for 2 key_is "$other" "/shared/$h" "value $n" || fail "$other does not read what $h wrote"
                        [ "$(keys "$other" "/shared/$h?quorum=true" | json node value)" = "value $n" ] || fail "quorum read on $other"
                done
        done
}

a_waiting_client_gets_the_next_change_made_elsewhere() {
        local pid
        key_put alpha /watched before >/dev/null
        wait_for 2 key_is gamma /watched before
        # The header arrives at once: the wait has begun.
        host_exec gamma curl -sS -m 20 -N -D - 'http://127.0.0.1:2379/v2/keys/watched?wait=true' >"$LAB/watch" 2>&1 &
        pid=$!
        wait_for 5 grep -qi '^X-Etcd-Index' "$LAB/watch" || fail "no headers come: $(cat "$LAB/watch")"
        [ "$(key_put beta /watched after)" = ok ] || fail "put failed"
        wait_for 2 grep -q '"after"' "$LAB/watch" || fail "the change does not come: $(cat "$LAB/watch")"
        wait $pid || fail "the answer does not end"
        tail -1 "$LAB/watch" | json action | grep -qx set || fail "no set event: $(tail -1 "$LAB/watch")"
        [ "$(tail -1 "$LAB/watch" | json prevNode value)" = before ] || fail "no prevNode"
}

a_wait_for_an_index_of_the_past_answers_at_once() {
        local index
        index=$(keys beta /watched | json node modifiedIndex)
        [ "$(keys beta "/watched?wait=true&waitIndex=$index" | json node value)" = after ] || fail "it does not answer from history"
}

a_key_with_a_ttl_expires_on_all_hosts() {
        local h
        keys alpha /mortal -XPUT -d value=x -d ttl=4 | json node ttl | grep -qx 4 || fail "no ttl in the answer"
        wait_for 3 key_is gamma /mortal x || fail "gamma does not see it"
        for h in $LAB_HOSTS; do
                wait_for 8 key_gone "$h" /mortal || fail "it lives on on $h"
        done
        [ "$(keys beta "/mortal?wait=true&waitIndex=1" | json node key)" = /mortal ] || fail "its history is lost"
}
key_gone() { [ "$(keys "$1" "$2" | json errorCode)" = 100 ]; }

a_compare_that_fails_answers_as_etcd_does() {
        local answer
        key_put alpha /cas one >/dev/null
        answer=$(keys beta '/cas?prevValue=two' -XPUT -d value=three -w '\n%{http_code}')
        [ "$(tail -1 <<<"$answer")" = 412 ] || fail "status $(tail -1 <<<"$answer")"
        answer=$(head -1 <<<"$answer")
        [ "$(json errorCode <<<"$answer")" = 101 ] && [ "$(json message <<<"$answer")" = "Compare failed" ] &&
                [ "$(json cause <<<"$answer")" = "[two != one]" ] || fail "$answer"
        [ "$(keys gamma '/cas?prevExist=false' -XPUT -d value=x | json errorCode)" = 105 ] || fail "prevExist=false"
        [ "$(keys gamma '/cas?prevValue=one' -XPUT -d value=four | json action)" = compareAndSwap ] || fail "a compare that holds"
        [ "$(keys alpha /no/such/key | json errorCode)" = 100 ] || fail "a key that is not there"
}

directories_list_what_is_in_them() {
        keys alpha /dir/a -XPUT -d value=1 >/dev/null
        keys beta /dir/b/c -XPUT -d value=2 >/dev/null
        [ "$(keys beta '/dir?recursive=true&sorted=true' | json node nodes 1 nodes 0 value)" = 2 ] || fail "$(keys beta '/dir?recursive=true')"
        [ "$(keys beta /dir -XDELETE | json errorCode)" = 102 ] || fail "a directory was deleted like a key"
        [ "$(keys beta '/dir?recursive=true' -XDELETE | json action)" = delete ] || fail "recursive delete"
        wait_for 2 key_gone alpha /dir || fail "it is still there"
}

no_client_writes_below_the_hidden_directory() {
        local h answer path
        for h in $LAB_HOSTS; do
                for path in /_fleet /_fleet/unit/evil.service /_fleet/target/hello.service //_fleet/x /a/../_fleet/x /%5ffleet/x; do
                        answer=$(keys "$h" "$path" --path-as-is -XPUT -d value=x -w '\n%{http_code}')
                        case $path in
                        */..* | //*) [[ $(tail -1 <<<"$answer") =~ ^(301|40[0-9])$ ]] || fail "$h $path: $answer" ;;
                        *)
                                [ "$(tail -1 <<<"$answer")" = 401 ] && [ "$(head -1 <<<"$answer" | json errorCode)" = 110 ] ||
                                        fail "$h $path: $answer" ;;
                        esac
                done
                [ "$(keys "$h" '/_fleet?recursive=true' -XDELETE | json errorCode)" = 110 ] || fail "$h: delete"
        done
        fleetctl alpha list-unit-files --no-legend | grep -q evil && fail "a unit was smuggled in"
        true
}

the_hidden_directory_reads_as_absent_over_tcp() {
        [ "$(keys alpha /_fleet | json errorCode)" = 100 ] || fail "$(keys alpha /_fleet)"
        [ "$(keys alpha '/_fleet/machine?recursive=true' | json errorCode)" = 100 ] || fail "$(keys alpha /_fleet/machine)"
        ! keys alpha '/?recursive=true' | grep -q _fleet || fail "the root lists it"
}

no_unit_is_accepted_over_tcp() {
        local h status
        for h in $LAB_HOSTS; do
                status=$(host_exec "$h" curl -sS -m 5 -o /dev/null -w '%{http_code}' -XPUT -H 'Content-Type: application/json' \
                        -d '{"name":"evil.service","desiredState":"launched","options":[{"section":"Service","name":"ExecStart","value":"/bin/sleep 9"}]}' \
                        http://127.0.0.1:2379/fleet/v1/units/evil.service)
                [ "$status" -ge 400 ] && [ "$status" -lt 500 ] || fail "$h: status $status"
        done
        ! known alpha evil.service || fail "the unit is in"
        runs_nowhere evil.service || fail "the unit runs"
}

the_client_listener_is_on_loopback_only() {
        ! host_exec alpha curl -sS -m 2 "http://$(host_address beta):2379/v2/keys/" >/dev/null 2>&1 || fail "beta answers alpha on port 2379"
}

a_browser_of_another_site_is_refused() {
        local status
        status=$(keys alpha /x -XPUT -d value=1 -H 'Origin: http://evil.example' -o /dev/null -w '%{http_code}')
        [ "$status" -ge 400 ] && [ "$status" -lt 500 ] || fail "a foreign Origin: status $status"
        status=$(keys alpha /x -XPUT -d value=1 -H 'Host: evil.example' -o /dev/null -w '%{http_code}')
        [ "$status" -ge 400 ] && [ "$status" -lt 500 ] || fail "a foreign Host: status $status"
        [ "$(keys alpha /x | json errorCode)" = 100 ] || fail "it wrote"
}

fleet_sock_is_for_root_and_the_group_fleet() {
        host_exec alpha curl -sS -m 5 --unix-socket /run/fleet.sock http://fleet/fleet/v1/machines | json machines 2 id | grep -qE '^[0-9a-f]{32}$' ||
                fail "fleet v1 on the socket: $(host_exec alpha curl -sS -m 5 --unix-socket /run/fleet.sock http://fleet/fleet/v1/machines)"
        ! host_exec alpha setpriv --reuid 65534 --regid 65534 --clear-groups curl -sS -m 5 --unix-socket /run/fleet.sock \
                http://fleet/fleet/v1/machines >/dev/null 2>&1 || fail "it refuses root"
        host_exec alpha setpriv --reuid 65534 --regid fleet --clear-groups curl -sS -m 5 --unix-socket /run/fleet.sock \
                http://fleet/fleet/v1/machines | grep -q machines || fail "the group fleet may not use it"
}

scenario a_put_on_one_host_is_read_on_the_others a_waiting_client_gets_the_next_change_made_elsewhere \
        a_wait_for_an_index_of_the_past_answers_at_once a_key_with_a_ttl_expires_on_all_hosts \
        a_compare_that_fails_answers_as_etcd_does directories_list_what_is_in_them no_client_writes_below_the_hidden_directory \
        the_hidden_directory_reads_as_absent_over_tcp no_unit_is_accepted_over_tcp the_client_listener_is_on_loopback_only \
        a_browser_of_another_site_is_refused fleet_sock_is_for_root_and_the_group_fleet
