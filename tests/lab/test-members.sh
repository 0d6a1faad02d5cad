#!/bin/bash
# Joining, lost state, and joining again: plain daemons on the loopback of this machine, without agents.
# Takes 60 s.
here=$(cd "$(dirname "$0")" && pwd)
LAB_BUILD=${LAB_BUILD:-$here/../../build}
scratch=$(mktemp -d)
declare -A pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null; rm -rf "$scratch"' EXIT
base=$((20000 + RANDOM % 10000))
(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key")

gone() { ! kill -0 "$1"; }

# Start daemon $1, which joins daemon $2 or founds a cluster.
start() {
        "$LAB_BUILD/fleetd/fleetd" --state-directory="$scratch/state$1" --runtime-directory="$scratch/run$1" --unit-directory= --cluster-file= \
                --listen-socket="$scratch/sock$1" --listen-client=off --agent=no --name="h$1" --machine-id="0000000000000000000000000000000$1" \
                --listen-peer="127.0.0.1:$((base + $1))" --peer-key="$scratch/key" ${2:+--join="127.0.0.1:$((base + $2))"} >>"$scratch/log$1" 2>&1 &
        pids[$1]=$!
        disown
}
stop() {
        kill "${2:--TERM}" "${pids[$1]}"
        wait_for 10 gone "${pids[$1]}"
        unset "pids[$1]"
}
wait_for() {
        local end=$((SECONDS + $1))
        shift
        until "$@" >/dev/null 2>&1; do
                [ $SECONDS -lt $end ] || return 1
                sleep 0.1
        done
}

# The member roles as daemon $1 reports them, "gone" for unreachable ones: "standby voter voter voter".
member_roles() {
        curl -sf -m 2 --unix-socket "$scratch/sock$1" http://fleet/fleet/v1/cluster |
                python3 -c 'import json, sys; print(*sorted(v["seat"] if v.get("reachable") else "gone" for v in json.load(sys.stdin)["voters"]))'
}
has_roles() { [ "$(member_roles "$1")" = "$2" ]; }
leader() { curl -sf -m 2 --unix-socket "$scratch/sock$1" http://fleet/fleet/v1/cluster | python3 -c 'import json, sys; print(json.load(sys.stdin)["leader"]["id"][-1])'; }
leads() { [ "$(leader "$1")" = "$2" ]; }
# The recorded start of daemon $2, as daemon $1 reports it.
record() { curl -sf -m 2 --unix-socket "$scratch/sock$1" "http://fleet/v2/keys/_fleet/cluster/member/0000000000000000000000000000000$2" | grep -o 'nonce[^,]*'; }
has_new_record() { [ -n "$(record "$1" "$2")" ] && [ "$(record "$1" "$2")" != "$3" ]; }
said() { grep -q "$2" "$scratch/log$1"; }

check() {
        if "$1"; then echo "ok $1"; else echo "not ok $1: $(for i in 1 2 3 4; do echo "h$i: $(member_roles $i 2>/dev/null)"; done | tr '\n' ';')"; failed=1; tail -n 20 "$scratch"/log*; fi
}

hosts_join_by_any_member_not_only_by_the_leader() {
        start 1
        start 2 1
        wait_for 15 has_roles 2 "standby voter" || return 1
        start 3 2
        wait_for 20 has_roles 3 "voter voter voter"
}

fleetctl() { "$LAB_BUILD/client/fleetctl" --endpoint="unix://$scratch/sock$1" "${@:2}"; }
voters_follow_the_setting_of_the_cluster() {
        fleetctl 2 init --voters=1 --name=lab >/dev/null && wait_for 20 has_roles 3 "standby standby voter" || return 1
        fleetctl 3 init --voters=5 >/dev/null && wait_for 20 has_roles 1 "voter voter voter" || return 1
        [ "$(fleetctl 1 init --voters=auto | tr -s ' \n' ' ')" = "name lab voters auto spread - sticky yes " ] || return 1
        ! fleetctl 1 init --spread=zone 2>/dev/null && [ "$(fleetctl 2 list-members | grep -cE 'leader|voter')" = 3 ]
}

a_lost_voter_is_removed_and_returns() {
        local h=3 other=1
        ! leads 1 3 || { h=1 other=3; }
        stop $h -KILL
        wait_for 60 fleetctl $other remove --force --yes h$h && wait_for 20 has_roles $other "standby voter" || return 1
        curl -sf -m 2 --unix-socket "$scratch/sock$other" "http://fleet/v2/keys/_fleet/cluster/removed/0000000000000000000000000000000$h" | grep -q reason || return 1
        start $h 2
        wait_for 30 has_roles $h "voter voter voter"
}

a_host_that_lost_its_state_becomes_a_member_again() {
        stop 3
        rm -rf "$scratch/state3"
        start 3 2
        wait_for 20 has_roles 3 "voter voter voter"
}

a_founder_that_lost_its_state_returns_as_a_member() {
        local first
        first=$(leader 1)
        stop "$first" -KILL
        rm -rf "$scratch/state$first"
        start "$first" $((first % 3 + 1))
        wait_for 30 has_roles "$first" "voter voter voter"
}

an_old_image_of_a_host_is_rejected_and_joins_again() {
        local h=3 other=1 before
        ! leads 3 3 || { h=1 other=3; }
        stop $h
        cp -a "$scratch/state$h" "$scratch/image"
        before=$(record $other $h)
        start $h 2
        wait_for 20 has_new_record $other $h "$before" || return 1
        stop $h
        rm -rf "$scratch/state$h"
        mv "$scratch/image" "$scratch/state$h"
        start $h 2
        wait_for 10 said $h "old image of its state" && wait_for 10 said $other "old image of its state" || return 1
        wait_for 20 has_roles $h "voter voter voter"
}

a_host_of_another_cluster_is_refused_with_both_ids() {
        start 4
        wait_for 10 leads 4 4 || return 1
        stop 4
        start 4 1
        wait_for 10 said 4 "belongs to cluster" && has_roles 1 "voter voter voter"
}

# The next Raft ID, as daemon $1 reports it.
next_id() { curl -sf -m 2 --unix-socket "$scratch/sock$1" http://fleet/v2/keys/_fleet/cluster/next-raft-id | grep -o '"value":"[^"]*"'; }
keeps() { curl -sf -m 2 --unix-socket "$scratch/sock$1" http://fleet/v2/keys/kept | grep -q "\"value\":\"$2\""; }
flip_a_byte() { python3 -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(600); b = f.read(1); f.seek(600); f.write(bytes([b[0] ^ 0x55]))' "$scratch/state$1/raft/$2"; }

a_voter_whose_log_is_corrupt_becomes_a_member_under_another_id() {
        local h=3 other=1 before
        ! leads 1 3 || { h=1 other=3; }
        curl -sf -m 2 --unix-socket "$scratch/sock$other" http://fleet/v2/keys/kept -XPUT -d value=$h >/dev/null || return 1
        before=$(next_id $other)
        stop $h
        flip_a_byte $h "$(cd "$scratch/state$h/raft" && ls log.* | head -n 1)"
        start $h 2
        wait_for 10 said $h "quarantined the replica of this host: log.* is corrupt" && wait_for 20 has_roles $h "voter voter voter" && wait_for 5 keeps $h $h || return 1
        [ "$(next_id $other)" != "$before" ] && ls "$scratch/state$h/raft"/old.meta.* "$scratch/state$h/tree/old/live/data.mdb" >/dev/null &&
                [ ! -e "$scratch/state$h/tree/lost" ]
}

a_tree_that_is_truncated_under_the_daemon_is_rebuilt_at_the_next_start() {
        local h=3 other=1 before
        ! leads 1 3 || { h=1 other=3; }
        curl -sf -m 2 --unix-socket "$scratch/sock$other" http://fleet/v2/keys/kept -XPUT -d value=cut >/dev/null && wait_for 5 keeps $h cut || return 1
        before=$(next_id $other)
        truncate -s 8192 "$scratch/state$h/tree/live/data.mdb"
        curl -s -m 2 --unix-socket "$scratch/sock$h" "http://fleet/v2/keys/?recursive=true" >/dev/null
        wait_for 10 gone "${pids[$h]}" && [ ! -e "$scratch/state$h/tree/trusted" ] || return 1
        start $h 2
        wait_for 20 has_roles $h "voter voter voter" && wait_for 5 keeps $h cut && [ "$(next_id $other)" = "$before" ]
}

without_the_logs_of_two_of_three_there_is_no_leader_and_all_report_the_remedy() {
        local h
        for h in 2 3; do
                stop $h
                flip_a_byte $h "$(cd "$scratch/state$h/raft" && ls log.* | head -n 1)"
        done
        start 2 1
        start 3 1
        wait_for 10 said 3 "fleetd --recover on a host with an intact log" || return 1
        sleep 5 # several elections
        ! leader 1 >/dev/null 2>&1 || return 1
        for h in 2 3; do
                [ -e "$scratch/state$h/tree/lost" ] && ls "$scratch/state$h/raft"/meta.* >/dev/null || return 1
        done
}

failed=0
for c in hosts_join_by_any_member_not_only_by_the_leader voters_follow_the_setting_of_the_cluster a_lost_voter_is_removed_and_returns a_host_that_lost_its_state_becomes_a_member_again \
        a_founder_that_lost_its_state_returns_as_a_member an_old_image_of_a_host_is_rejected_and_joins_again \
        a_voter_whose_log_is_corrupt_becomes_a_member_under_another_id \
        a_tree_that_is_truncated_under_the_daemon_is_rebuilt_at_the_next_start a_host_of_another_cluster_is_refused_with_both_ids \
        without_the_logs_of_two_of_three_there_is_no_leader_and_all_report_the_remedy; do
        check $c
done
exit $failed
