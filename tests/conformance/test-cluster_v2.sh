#!/bin/bash
# The key API on the hosts of a cluster of three: every recorded sequence except for the intended deviations, on the leader and on one follower
# (CHECK_ALL=yes: on both), and the facts that must be equal on all hosts. Takes 110 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
declare -A endpoints=()
n_ports=6
. "$here/hosts.sh"
(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key")
check() { if "$@" >/dev/null 2>&1; then ok "$*"; else not_ok "$*" "it fails"; fi; } # COMMAND...: it is the name

start() {
        endpoints[$1]=127.0.0.1:${ports[$1 - 1]}
        : >"$scratch/conf$1"
        "$program" --config="$scratch/conf$1" --state-directory="$scratch/state$1" --runtime-directory="$scratch/run$1" --unit-directory= \
                --cluster-file= --listen-socket="$scratch/sock$1" --listen-client="${endpoints[$1]}" --agent=no --name="h$1" \
                --machine-id="0000000000000000000000000000000$1" --listen-peer="127.0.0.1:${ports[$1 + 2]}" --peer-key="$scratch/key" \
                ${2:+--join="127.0.0.1:${ports[$2 + 2]}"} >"$scratch/log$1" 2>&1 &
        pids[$1]=$!
}

get() { curl -sf -m 30 "http://${endpoints[$1]}$2"; }
voters() { [ "$(curl -sf -m 30 --unix-socket "$scratch/sock$1" http://fleet/fleet/v1/cluster | grep -o '"seat":"voter"' | wc -l)" = "$2" ]; }
leads() { get "$1" /v2/stats/self | grep -q '"state":"StateLeader"'; }
field() { python3 -c "import json, sys; print(json.load(sys.stdin)$1)"; }

start 1
wait_for 60 voters 1 1
start 2 1
start 3 1
wait_for 60 voters 1 3 && wait_for 60 voters 2 3 && wait_for 60 voters 3 3
check voters 1 3

# -- Every vector, on each host --

grep -vE "^\{\"name\": \"($(sed -nE 's/^([a-z0-9/-]+): .*/\1/p' "$here/deviations" | paste -sd'|'))\"" "$here/etcd-v2.jsonl" >"$scratch/vectors"
hosts=() # the leader first
for host in 1 2 3; do
        leads $host && hosts=($host "${hosts[@]}") || hosts+=($host)
done
[ "${CHECK_ALL:-}" = yes ] || hosts=("${hosts[@]:0:2}")
for host in "${hosts[@]}"; do
        role=follower
        others=(--skip-tag leader)
        leads $host && { role=leader; others=(); }
        python3 "$here/replay.py" "http://${endpoints[$host]}" "$scratch/vectors" --verbose --patience 3 --header-wait 10 "${others[@]}" >"$scratch/results" 2>&1
        sed "s/^/# h$host: /" "$scratch/results"
        grep -E '^BAD ' "$scratch/results" | while read -r _ name _; do
                echo "not ok $role ${name%:}: $(grep -m1 -F "FAIL ${name%:} #" "$scratch/results" | cut -c1-300)"
        done
        summary=$(tail -1 "$scratch/results")
        case $summary in
        [1-9]*" passed, 0 failed") echo "ok every_sequence_on_h${host}_a_$role" ;;
        *) echo "not ok every_sequence_on_h${host}_a_$role: $summary" ;;
        esac
done

for host in 1 2 3; do
        python3 "$here/kv_v1.py" "${endpoints[$host]}" "$scratch/sock$host" 2>&1 | sed -E "s/^((not )?ok) /\\1 h$host: /"
done

# -- Facts that are equal on all hosts --

same_everywhere() {
        local one
        one=$(get 1 "$1" | field "$2") && [ -n "$one" ] && [ "$one" = "$(get 2 "$1" | field "$2")" ] && [ "$one" = "$(get 3 "$1" | field "$2")" ]
}
writes_of_one_host_are_read_on_all() {
        local host
        for host in 1 2 3; do
                curl -sf -m 30 -X PUT "http://${endpoints[$host]}/v2/keys/agreed" -d "value=by$host" || return 1
                [ "$(get $((host % 3 + 1)) '/v2/keys/agreed?quorum=true' | field '["node"]["value"]')" = "by$host" ] || return 1
        done
}
cluster_id() { curl -sfi -m 30 "http://${endpoints[$1]}/v2/members" | tr -d '\r' | sed -n 's/^X-Etcd-Cluster-Id: //ip'; }
one_cluster_id() { [ -n "$(cluster_id 1)" ] && [ "$(cluster_id 1)" = "$(cluster_id 2)" ] && [ "$(cluster_id 1)" = "$(cluster_id 3)" ]; }
statistics_of_followers_are_the_leaders() {
        local host leader=0
        for host in 1 2 3; do
                if leads $host; then
                        leader=$host
                        [ "$(get $host /v2/stats/leader | field '["followers"].__len__()')" = 2 ] || return 1
                else
                        [ "$(curl -s -m 30 -o /dev/null -w '%{http_code}' "http://${endpoints[$host]}/v2/stats/leader")" = 403 ] || return 1
                fi
        done
        [ $leader -gt 0 ] && [ "$(get 1 /v2/stats/self | field '["leaderInfo"]["leader"]')" = "$(get $leader /v2/stats/self | field '["id"]')" ]
}
# Without an agent a host publishes no URL; it answers with the endpoint of the request.
each_host_names_its_own_endpoint() {
        local host
        for host in 1 2 3; do
                [ "$(get $host /v2/machines)" = "http://${endpoints[$host]}" ] || return 1
        done
}
a_member_is_read_by_its_id() {
        local id
        id=$(get 2 /v2/members/leader | field '["id"]') && [ "$(get 3 "/v2/members/$id" | field '["id"]')" = "$id" ]
}
places_units_since() { [ "$(curl -sf -m 30 --unix-socket "$scratch/sock$1" http://fleet/metrics | sed -n 's/^fleet_engine_leader_start_time //p')" -"$2" "$3" ]; }
another_leads() {
        local host
        for host in 1 2 3; do
                [ "$host" != "$1" ] && leads "$host" && return 0
        done
        return 1
}
a_former_leader_places_no_units() {
        local host leader
        for host in 1 2 3; do
                leads $host && leader=$host
        done
        wait_for 60 places_units_since "$leader" gt 1500000000 || return 1
        kill -STOP "${pids[$leader]}"
        wait_for 60 another_leads "$leader"
        kill -CONT "${pids[$leader]}"
        wait_for 60 another_leads "$leader" && wait_for 60 places_units_since "$leader" eq 0
}
check same_everywhere /v2/members '["members"].__len__()'
check same_everywhere /v2/members '["members"][0]["id"]'
check same_everywhere /v2/members/leader '["name"]'
check same_everywhere /v2/stats/self '["leaderInfo"]["leader"]'
check one_cluster_id
check writes_of_one_host_are_read_on_all
check statistics_of_followers_are_the_leaders
check each_host_names_its_own_endpoint
check a_member_is_read_by_its_id
check a_former_leader_places_no_units

for host in 1 2 3; do
        kill -0 "${pids[$host]}" 2>/dev/null && echo "ok h${host}_lives" || echo "not ok h${host}_lives: $(tail -1 "$scratch/log$host")"
done
kill -TERM "${pids[@]}"
for host in 1 2 3; do
        wait "${pids[$host]}" && echo "ok h${host}_ends_well" || { echo "not ok h${host}_ends_well: exit status $?"; cat "$scratch/log$host"; }
done
pids=()
