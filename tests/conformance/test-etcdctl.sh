#!/bin/bash
# etcd's own command line client, in its v2 mode (Debian's etcd-client), against one daemon: every verb that is about keys,
# members and health. It reads its endpoints from /v2/members before each command, and uses the advertised ones. Takes 10 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${CHECK_BUILD:-build}/fleetd/fleetd
. "$here/daemon.sh"

command -v etcdctl >/dev/null || { echo "not ok etcdctl_is_there: Debian's etcd-client has it"; exit 1; }
(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key")
peer=127.0.0.1:$(free_port)
daemon_start "$program" alone --listen-peer="$peer" --peer-key="$scratch/key" || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }

ctl() { ETCDCTL_API=2 timeout 120 etcdctl --endpoints "http://$address" "$@"; }

# says NAME STATUS OUTPUT COMMAND...: the command's exit status, and its stdout and stderr as a shell pattern.
says() {
        local name=$1 status=$2 wanted=$3 out rc
        shift 3
        out=$(ctl "$@" 2>&1)
        rc=$?
        # shellcheck disable=SC2254
        case $rc:$out in
        $status:$wanted) echo "ok $name" ;;
        *) echo "not ok $name: exit status $rc: $(tr '\n' '|' <<<"$out")" ;;
        esac
}

says mk 0 one mk /a/b one
says mk_of_what_is_there 4 '*105: Key already exists (/a/b)*' mk /a/b two
says mk_in_order 0 x mk --in-order /queue x
says mkdir 0 '' mkdir /dir
says set 0 two set /a/b two
says set_with_ttl 0 v set --ttl 100 /ttl v
says set_swap_with_value 0 three set --swap-with-value two /a/b three
says set_swap_refused 4 '*101: Compare failed (\[two != three\])*' set --swap-with-value two /a/b four
says get 0 three get /a/b
says get_quorum 0 three get --quorum /a/b
says get_missing 4 '*100: Key not found (/none)*' get /none
says get_json 0 '{"action":"get","node":{"key":"/a/b","value":"three",*' --output json get /a/b
says get_extended 0 '*Created-Index: *Modified-Index: *three' --output extended get /a/b
says ls 0 '*/dir*' ls /
says ls_recursive 0 '*/a/b*' ls --recursive -p /
says ls_sorted 0 '/queue/000000000*' ls --sort /queue
says update 0 four update /a/b four
says update_missing 4 '*100: Key not found*' update /none x
says updatedir 0 '' updatedir --ttl 100 /dir
says setdir 0 '' setdir --ttl 100 /newdir
says rmdir 0 '' rmdir /dir
says rm_with_value_refused 4 '*101: Compare failed*' rm --with-value x /a/b
says rm 0 'PrevNode.Value: four' rm /a/b
says rmdir_of_a_full_one 4 '*108: Directory not empty*' rmdir /queue
says rm_recursive 0 '' rm --recursive /queue
says member_list 0 '*: name=alone peerURLs=http://* clientURLs=http://'"$address"' isLeader=true' member list
says member_add_is_refused_with_the_reason '[1-9]' '*fleetctl token*' member add other http://127.0.0.1:1
says cluster_health 0 '*is healthy: got healthy result from http://'"$address"'*cluster is healthy' cluster-health
says user_list 0 '' user list
says role_list 0 '' role list
says ls_of_other_data 0 '' ls /newdir

ctl watch /w >"$scratch/watched" 2>&1 &
watcher=$!
ctl exec-watch --recursive /e -- sh -c 'echo "$ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"' >"$scratch/executed" 2>&1 &
executer=$!
waits() { [ "$(curl -sf "http://$address/v2/stats/store" | grep -o '"watchers":[0-9]*')" = "\"watchers\":$1" ]; }
for _ in $(seq 600); do waits 2 && break; sleep 0.1; done
ctl set /w seen >/dev/null
ctl set /e/f run >/dev/null
wait $watcher && [ "$(cat "$scratch/watched")" = seen ] && echo "ok watch" || echo "not ok watch: $(cat "$scratch/watched")"
for _ in $(seq 600); do grep -q . "$scratch/executed" && break; sleep 0.1; done
grep -q 'set .*/e/f.* .*run' "$scratch/executed" && echo "ok exec_watch" || echo "not ok exec_watch: $(cat "$scratch/executed")"
kill $executer
wait $executer 2>/dev/null
says watch_from_the_past 0 '*/e/f*run' watch --after-index 1 --recursive /e

# Two more hosts, with default settings: each of the three reports all as healthy.
first=$daemon_pid
for name in second third; do
        daemon_start "$program" $name --listen-peer="127.0.0.1:$(free_port)" --peer-key="$scratch/key" --join="$peer" || echo "not ok $name starts: $(daemon_word $name)"
done
for _ in $(seq 600); do [ "$(ctl cluster-health 2>&1 | grep -c 'is healthy')" = 4 ] && break; sleep 0.1; done
says cluster_health_of_three 0 '*cluster is healthy' cluster-health
[ "$(ctl cluster-health 2>&1 | grep -c 'is healthy: got healthy result from http://'"$address")" = 3 ] && echo "ok three_members_are_healthy" ||
        echo "not ok three_members_are_healthy: $(ctl cluster-health 2>&1 | tr '\n' '|')"

daemon_ends alone "$first"
