#!/bin/bash
# Three daemons, two of them lost permanently: the third is recovered, serves its keys, and no index occurs twice. The lost hosts are
# rejected until they join again. Then the same by backup and restore. Takes 15 s.
set -u
n_ports=8
. "$(dirname "$(realpath "$0")")/hosts.sh"
(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key")

same() { if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "'$2', not '$3'"; fi; }

# The options of a daemon that is a direct child of this script.
options_of() {
        : >"$scratch/conf$1"
        options=(--config="$scratch/conf$1" --state-directory="$scratch/state$1" --runtime-directory="$scratch/run$1" --unit-directory= --cluster-file=
                 --listen-socket="$scratch/sock$1" --listen-client="127.0.0.1:${ports[$1 - 1]}" --agent=no --name="h$1"
                 --machine-id="0000000000000000000000000000000$1" --listen-peer="127.0.0.1:${ports[$1 + 3]}" --peer-key="$scratch/key")
}
fleetd() { # HOST OPTION...: for what ends by itself
        options_of "$1"
        "$program" "${options[@]}" "${@:2}"
}
start() { # HOST [BY]
        options_of "$1"
        "$program" "${options[@]}" ${2:+--join="127.0.0.1:${ports[$2 + 3]}"} >>"$scratch/log$1" 2>&1 &
        pids[$1]=$!
}
keys_url() { echo "http://127.0.0.1:${ports[$1 - 1]}/v2/keys$2"; }
put() { curl -sf -m 10 -X PUT "$(keys_url "$1" "$2")" -d value="$3"; }
value() { curl -sf -m 30 "$(keys_url "$1" "$2")" | grep -o '"value":"[^"]*"' | cut -d'"' -f4; }
holds() { [ "$(value "$1" "$2")" = "$3" ]; }
index() { curl -sf -m 30 -o /dev/null -D - "$(keys_url "$1" /)" | tr -d '\r' | sed -n 's/^X-Etcd-Index: //p'; }
cluster_of() { curl -sf -m 30 -o /dev/null -D - "$(keys_url "$1" /)" | tr -d '\r' | sed -n 's/^X-Etcd-Cluster-Id: //p'; }
voters() { [ "$(curl -sf -m 30 --unix-socket "$scratch/sock$1" http://fleet/fleet/v1/cluster | grep -o '"seat":"voter"' | wc -l)" = "$2" ]; }
submit() { # HOST UNIT
        curl -sf -m 10 --unix-socket "$scratch/sock$1" -X PUT "http://fleet/fleet/v1/units/$2" -H 'Content-Type: application/json' \
                -d '{"desiredState":"inactive","options":[{"section":"Service","name":"ExecStart","value":"/bin/true"}]}'
}
# The rows of the history: kind, unit and user, in this order.
history() { curl -sf -m 30 --unix-socket "$scratch/sock$1" "http://fleet/fleet/v1/history?unit=*.service" | sed -n 's/.*"kind":"\([a-z]*\)".*"name":"\([^"]*\)".*"user":"\([^"]*\)".*/\1 \2 \3/p' | tr '\n' ';'; }
has_history() { [ "$(history "$1")" = "$2" ]; }
lineage() { sed -n 's/^lineage //p' "$scratch/state$1/tree/identity"; }

start 1
wait_for 60 voters 1 1
start 2 1
start 3 1
wait_for 60 voters 1 3 && wait_for 60 voters 3 3
check three_hosts_vote voters 3 3
for i in 1 2 3 4 5; do put 1 /a "$i" >/dev/null; done
wait_for 60 holds 3 /a 5
user=$(id -un)
submit 1 before.service
check a_row_of_the_history_names_the_user wait_for 60 has_history 3 "submitted before.service $user@h1;"
cluster=$(cluster_of 3) before=$(index 3) old=$(lineage 3)

said=$(fleetd 3 --recover --force 2>&1)
says a_running_daemon_is_not_recovered "another fleetd is running" "$said"
said=$(fleetd 3 --backup="$scratch/no" 2>&1)
says a_running_daemon_is_not_backed_up_from_outside "another fleetd is running" "$said"

for host in 1 2 3; do end KILL $host; done
said=$(fleetd 3 --recover 2>&1)
says a_dry_run_describes_the_result "The cluster has 3 members. With --force" "$said"
says a_dry_run_changes_nothing "Nothing was changed." "$said"
same a_dry_run_keeps_the_lineage "$(lineage 3)" "$old"
start 3
wait_for 60 curl -sf -o /dev/null --unix-socket "$scratch/sock3" http://fleet/fleet/v1/cluster
check without_a_majority_nothing_is_written test -z "$(put 3 /a lost)"
end KILL 3

said=$(fleetd 3 --backup="$scratch/backup" 2>&1)
says a_backup_describes_its_contents "Written and verified: cluster $(printf %16s "$cluster" | tr " " 0), lineage $old" "$said"
said=$(fleetd 3 --backup="$scratch/backup" 2>&1)
says a_backup_is_not_overwritten "backup exists: a backup does not replace a file" "$said"
said=$(fleetd 3 --backup="$scratch/none/backup" 2>&1)
says a_backup_needs_a_folder_that_exists "the folder $scratch/none: No such file or directory; create it first" "$said"
check and_creates_none test ! -e "$scratch/none"
same a_backup_is_its_owners "$(stat -c %a "$scratch/backup")" 600

said=$(fleetd 3 --recover --force 2>&1)
says recovery_describes_the_result "This host is a cluster of one now, of lineage $(lineage 3)" "$said"
check the_lineage_is_new test "$(lineage 3)" != "$old"
check no_files_are_left test ! -e "$scratch/state3/tree.new"
start 3
wait_for 60 put 3 /b 1
check the_recovered_host_is_a_cluster_of_one voters 3 1
same it_has_the_same_keys "$(value 3 /a)" 5
submit 3 after.service
same it_has_the_same_history "$(history 3)" "submitted before.service $user@h1;submitted after.service $user@h3;"
same clients_find_the_same_cluster_id "$(cluster_of 3)" "$cluster"
now=$(index 3)
check indexes_are_raised_by_2_to_32 test "$now" -gt $((before + (1 << 32))) -a "$now" -lt $((before + (1 << 32) + 1000))
same an_old_index_is_gone "$(curl -s -m 30 "$(keys_url 3 "/a?wait=true&waitIndex=$((before - 1))")" | grep -o '"errorCode":401')" '"errorCode":401'
same an_index_that_only_lost_hosts_reached_is_gone "$(curl -s -m 30 "$(keys_url 3 "/a?wait=true&waitIndex=$((before + 50))")" | grep -o '"errorCode":401')" \
        '"errorCode":401'

start 1
wait_for 60 grep -q "another lineage" "$scratch/log3"
check a_lost_host_is_rejected grep -q "another lineage of this cluster" "$scratch/log3"
check and_the_rejection_is_reported grep -q "join again" "$scratch/log1"
has_rejection() { curl -sf -m 10 --unix-socket "$scratch/sock$1" http://fleet/fleet/v1/cluster | grep -q '"rejection":"[^"]*another lineage[^"]*fleetd --reset'; }
check and_is_a_problem_of_its_status wait_for 30 has_rejection 1
check it_is_still_a_cluster_of_one voters 3 1
end KILL 1
rm -rf "$scratch/state1"
start 1 3
check wiped_it_joins_again wait_for 60 holds 1 /b 1
end TERM 3
start 3
wait_for 60 put 3 /b 2
check a_restart_continues_after_it test "$(index 3)" -gt "$now"
wait_for 60 holds 1 /b 2
end TERM 1
end TERM 3

said=$(fleetd 3 --restore="$scratch/backup" 2>&1)
says nothing_is_restored_over_a_replica "which a backup does not replace" "$said"
head -c 100000 /dev/urandom >"$scratch/rubbish"
said=$(fleetd 4 --restore="$scratch/rubbish" 2>&1)
status=$?
check garbage_is_rejected test $status = 1
says garbage_is_named "rubbish is not a backup, or truncated" "$said"
head -c -1 "$scratch/backup" >"$scratch/cut"
said=$(fleetd 4 --restore="$scratch/cut" 2>&1)
says a_truncated_backup_is_rejected "cut is not a backup, or truncated: it does not end with its checksum; use another copy" "$said"
said=$(fleetd 4 --restore="$scratch/none" 2>&1)
says an_absent_backup_is_rejected "Failed to open $scratch/none: No such file or directory" "$said"
check and_leaves_nothing test ! -e "$scratch/state4/tree" -a ! -e "$scratch/state4/tree.new"
said=$(fleetd 4 --restore="$scratch/backup" 2>&1)
says a_backup_is_restored "This host is a cluster of one now" "$said"
says and_the_next_step_is_named "Start fleetd on it: systemctl start fleetd." "$said"
start 4
wait_for 60 put 4 /b 1
same the_restored_host_has_the_saved_keys "$(value 4 /a)" 5
same the_restored_host_has_the_saved_history "$(history 4)" "submitted before.service $user@h1;"
same it_is_the_same_cluster_to_clients "$(cluster_of 4)" "$cluster"
check with_a_lineage_of_its_own test "$(lineage 4)" != "$old" -a "$(lineage 4)" != "$(lineage 3)"
check with_indexes_of_its_own test "$(index 4)" -gt $((before + (1 << 32)))
same with_an_old_index_gone "$(curl -s -m 30 "$(keys_url 4 "/a?wait=true&waitIndex=$((before - 1))")" | grep -o '"errorCode":401')" '"errorCode":401'
end TERM 4
start 4
check a_restored_host_starts_again wait_for 60 holds 4 /a 5

said=$(fleetd 2 --restore=x --recover 2>&1)
same recover_and_backup_exclude_each_other $? 2
said=$(fleetd 2 --force 2>&1)
same force_alone_means_nothing $? 2
rm -rf "$scratch/state2"
said=$(fleetd 2 --recover 2>&1)
says a_host_without_a_replica_cannot_be_recovered "this host has no replica" "$said"
