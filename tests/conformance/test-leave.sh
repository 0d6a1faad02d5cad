#!/bin/bash
# Three daemons without systemd: hosts leave, one after the other and two at once, and come back by a token. What is refused gets a message.
# A host that is removed with --compromised joins again with another key. Takes 50 s.
set -u
n_ports=6
. "$(dirname "$0")/hosts.sh"

start() { mkdir -p "$scratch/units$1"; host_start "$1" --listen-client= "--unit-directory=$scratch/units$1"; } # HOST
members() { [ "$(api "$1" cluster | grep -o '"seat":"voter"' | wc -l)" = "$2" ] && [ "$(api "$1" cluster | grep -o '"seat"' | wc -l)" = "$3" ]; }
token() { ctl "$1" token | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1; }
join() { ctl "$1" join "$(token "$2")" --discard "--listen=127.0.0.1:${ports[$1 + 2]}"; }
not_there() { ! ctl "$1" cat "$2"; }
leads() { api "$1" cluster | grep -q '"role":"leader"'; }
leader() { for host in 1 2 3; do if leads $host; then echo $host; return; fi; done; }
put() { ctl "$1" kv set "$2" "$3"; }
holds() { [ "$(ctl "$1" kv get "$2")" = "$3" ]; }

for host in 1 2 3; do start $host; done
for host in 1 2 3; do wait_for 60 put $host /own$host yes; done
ctl 1 init "--listen=127.0.0.1:${ports[3]}" >/dev/null
says the_last_voter_may_not_leave "h1 is the last voter: no other host is up that stays in the cluster" "$(ctl 1 leave --yes 2>&1)"
says a_leave_that_is_not_under_way_is_not_cancelled "this host is not leaving its cluster" "$(ctl 1 leave --cancel 2>&1)"
says another_host_is_no_argument "fleetctl remove" "$(ctl 1 leave h2 2>&1)"
join 2 1 >/dev/null
join 3 1 >/dev/null
check three_hosts_vote wait_for 60 members 1 3 3
check no_session_to_the_founder_was_rejected [ "$(grep -c 'rejected a session' "$scratch/log1")" = 0 ]
put 1 /kept 1 >/dev/null

# -- Cordon and drain: the commands work from each host, and change nothing twice --
drains() { ctl 3 drain h2 --reason=disk >"$scratch/drain" 2>&1; }
is_in_service() { api 1 machines/"$id2"/maintenance | grep -q '"mode":"none"'; }
id2=$(api 2 cluster | grep -o '"machine":"[0-9a-f]*"' | head -1 | cut -d'"' -f4)
says a_machine_is_cordoned "h2: cordoned; its units stay, and it gets no others" "$(ctl 1 cordon h2 2>&1)"
is_cordoned_for_h3() { api 3 machines/"$id2"/maintenance | grep -q '"mode":"cordoned"'; }
wait_for 10 is_cordoned_for_h3
says it_is_cordoned_already "h2: is cordoned already" "$(ctl 3 cordon h2 2>&1)"
check a_machine_without_units_is_drained drains
says the_drain_says_so "h2: drained" "$(cat "$scratch/drain")"
says its_state_has_a_reason '"reason":"disk"' "$(api 1 machines/"$id2"/maintenance)"
says a_drained_machine_stays_drained "h2: is drained already" "$(ctl 1 cordon h2 2>&1)"
says it_is_in_the_events "draining: its units move away: disk" "$(ctl 1 events 2>&1)"
says a_leave_needs_no_uncordon "h2: uncordoned" "$(ctl 2 uncordon h2 2>&1)"
check it_is_in_service is_in_service
says uncordon_is_repeated "h2: is not cordoned; nothing was changed" "$(ctl 1 uncordon h2 2>&1)"

# -- The leader leaves --
first=$(leader)
second=$((first % 3 + 1)) third=$(((first + 1) % 3 + 1))
says nothing_happens_without_yes "--yes" "$(ctl "$first" leave 2>&1)"
printf '[Service]\nExecStart=/bin/true\n' >"$scratch/same.service"
cp "$scratch/same.service" "$scratch/units$second/"
check another_host_owns_a_unit wait_for 10 ctl "$first" cat same.service
cp "$scratch/same.service" "$scratch/units$first/"
says a_host_with_a_file_of_that_unit_does_not_leave "unit directory of this host contains 1 unit file (same.service)" \
        "$(timeout 5 "$fleetctl" --endpoint="unix://$scratch/sock$first" leave --yes 2>&1)"
rm "$scratch/units$first/same.service" "$scratch/units$second/same.service"
check the_unit_is_removed wait_for 10 not_there "$first" same.service
begin=$(date +%s%N)
said=$(ctl "$first" leave --yes 2>&1)
says the_leader_leaves "Left: h$first starts empty" "$said"
echo "# the leave of the leader took $((($(date +%s%N) - begin) / 1000000)) ms"
check the_others_are_a_voter_and_a_standby wait_for 30 members $second 1 2
check they_have_all_keys holds $third /kept 1
check they_write put $second /after 1
check the_host_that_left_has_no_keys [ -z "$(ctl "$first" kv get /kept 2>/dev/null)" ]
check it_has_no_identity [ ! -e "$scratch/state$first/identity" ]
check it_has_no_cluster_key [ ! -e "$scratch/state$first/secrets" ]
former=$(ls -d "$scratch/state$first"/old/* | tail -1)
check its_state_is_kept [ -d "$former/raft" -a -d "$former/tree" -a -f "$former/identity/key" ]
check it_writes_keys_of_its_own put "$first" /own 1
check it_is_not_listed [ "$(ctl "$second" list-machines --fields=hostname --no-legend | grep -c "h$first")" = 0 ]
says it_is_in_the_history "removed by" "$(ctl "$second" events --since=-10min --no-follow 2>&1 || ctl "$second" events 2>&1)"

# -- It returns with a token --
said=$(join "$first" "$second" 2>&1)
says it_returns_with_a_token "Joined: this host is up" "$said"
check three_hosts_vote_again wait_for 60 members "$second" 3 3
check it_has_the_keys_again wait_for 20 holds "$first" /after 1

# -- Two leave at once --
last=$(leader)
others=(); for host in 1 2 3; do [ $host = "$last" ] || others+=($host); done
ctl "${others[0]}" leave --yes >"$scratch/said0" 2>&1 &
one=$!
ctl "${others[1]}" leave --yes >"$scratch/said1" 2>&1
wait $one
says the_first_of_two_leaves "Left: " "$(cat "$scratch/said0")"
says the_second_of_two_leaves "Left: " "$(cat "$scratch/said1")"
check one_host_remains wait_for 30 members "$last" 1 1
check it_has_the_keys holds "$last" /after 1
check it_still_writes put "$last" /alone 1
says the_last_one_stays "is the last voter" "$(ctl "$last" leave --yes 2>&1)"

# -- A host is removed with --compromised: it joins with another key only, and the former one stays denied --
again=${others[0]}
key_of() { openssl pkey -in "$scratch/state$1/identity/key" -pubout; } # HOST
denied() { ctl "$again" status 2>&1 | grep -q "this host was removed"; }
listed() { api "$last" "machines?all=true" | grep -q "\"h$again\""; }
says a_host_joins_once_more "Joined: this host is up" "$(join "$again" "$last" 2>&1)"
check it_is_listed_again wait_for 60 listed
stolen=$(key_of "$again")
cp -p "$scratch/state$again/identity/key" "$scratch/stolen"
says the_command_names_the_folder_to_remove "remove the folder /var/lib/fleet/identity on it first" "$(ctl "$last" remove --compromised --yes "h$again" 2>&1)"
check the_host_is_removed wait_for 20 denied
says the_stolen_key_does_not_join "the key of this host is compromised: remove the folder" "$(join "$again" "$last" 2>&1)"
rm -r "$scratch/state$again/identity"
says it_joins_with_another_key "Joined: this host is up" "$(join "$again" "$last" 2>&1)"
check two_hosts_again wait_for 60 members "$last" 1 2
check it_has_another_key [ "$stolen" != "$(key_of "$again")" ]
ctl "$again" leave --yes >/dev/null 2>&1
check the_other_one_is_alone wait_for 30 members "$last" 1 1
end KILL "$again"
rm -r "$scratch/state$again"
(umask 077; mkdir -p "$scratch/state$again/identity.new")
cp -p "$scratch/stolen" "$scratch/state$again/identity.new/key" # of a join that was interrupted
: >"$scratch/conf$again"
start "$again"
wait_for 60 put "$again" /own yes
says the_stolen_key_does_not_join_after_the_removal "the key of this host is compromised" "$(join "$again" "$last" 2>&1)"
