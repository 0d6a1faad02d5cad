#!/bin/bash
# A host without a replica, h6, beside five hosts with one: each route and each verb of fleetctl gives there what it gives on a voter, and the
# recorded answers of etcd are compared; differences are those of the manual. Reads, writes and watches are correct while its replica is killed, stands still or is upgraded;
# routes and verbs also while it is cut off.
# Takes 180 s, most of it waiting.
set -u
n_ports=12
here=$(cd "$(dirname "$0")" && pwd)
. "$here/daemon.sh" # the player
rm -rf "$scratch"
. "$here/hosts.sh"

start() { host_start "$1" --listen-client="127.0.0.1:${ports[$1 - 1]}"; }
put() { curl -sf -m 10 -X PUT "http://127.0.0.1:${ports[$1 - 1]}/v2/keys$2" -d value="$3"; }
listen() { echo "--listen=127.0.0.1:${ports[$1 + 5]}"; }
members() { [ "$(api 1 cluster | grep -o '"seat":' | wc -l)" = "$1" ]; }
replica() { api 6 cluster | grep -o '"replica":"h[1-6]"' | grep -o 'h[1-6]'; }
has_replica() { [ -n "$(replica)" ] && api 6 cluster | grep -q '"role":"attached"'; }
says_unreachable() { api_body 6 units | grep -qE 'attached host: no replica reachable for [0-9]+ s \(.*h[1-5].*\)'; }
api_body() { curl -s -m 10 --unix-socket "$scratch/sock$1" "http://fleet/fleet/v1/$2"; }
keys() { curl -s -m 10 "http://127.0.0.1:${ports[5]}/v2/keys$1" "${@:2}"; } # KEY OPTION...
status() { curl -s -m 10 -o /dev/null -w '%{http_code}' --unix-socket "$scratch/sock$1" "http://fleet$2" "${@:3}"; }

for host in 1 2 3 4 5 6; do start $host; done
wait_for 20 put 1 /ready yes
token=$(ctl 1 token --uses=5 "$(listen 1)" 2>&1 | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1)
for host in 2 3 4 5; do
        wait_for 20 put $host /ready yes
        curl -sf -X DELETE "http://127.0.0.1:${ports[$host - 1]}/v2/keys/ready" >/dev/null
        ctl $host join - "$(listen $host)" <<<"$token" >/dev/null 2>&1
done
check five_hosts_have_a_replica wait_for 30 members 5
wait_for 20 put 6 /ready yes
curl -sf -X DELETE "http://127.0.0.1:${ports[5]}/v2/keys/ready" >/dev/null
said=$(ctl 6 join - "$(listen 6)" <<<"$token" 2>&1)
says its_join_ends "Joined: this host is up, with h" "$said"
check a_sixth_host_is_attached wait_for 30 has_replica
echo "# after $SECONDS s"

# Which replica serves it: the answer of the leader, through each host.
sessions() { api_body "$1" 'machines?all=true&sessions=true' | grep -oE '"(session|idleSession)":"0*[1-5]"' | tr -d '"0'; }
has_sessions() { [ "$(sessions "$1" | grep -c '^idleSession:[1-5]$')" = 1 ] && sessions "$1" | grep -qx "session:$(replica | tr -d h)"; }
for host in 1 2 3 4 5 6; do check "its_sessions_are_listed_by_h$host" wait_for 60 has_sessions $host; done
is_listed() { ctl 6 list-machines --all --no-legend --full --fields=kind,session,idle-session | grep -qE '^attached[[:space:]]+0{31}[1-5][[:space:]]+0{31}[1-5]$'; }
check its_session_is_a_column is_listed

says it_ends_the_key_file "The cluster requires certificates" "$(ctl 6 cluster secure --yes 2>&1)"
manuals=$here/../../man
n_certificates() { grep -c '^received a certificate for this host' "$scratch/log$1"; }
of_h2=$(n_certificates 2) of_h6=$(n_certificates 6)
python3 "$here/attached.py" routes "$scratch/sock2" "$scratch/sock$(replica | tr -d h)" "$scratch/sock6" "$here/../../fleetd/api/routes.c" "$manuals/fleet-api.7.scd"
# h2 and h6 got a new key by one of these requests, and a certificate for it; the former key ends with the next certificate. Sessions by it end then,
# and with them the commands that run over them.
former_keys_ended() { [ "$(n_certificates 2)" -ge $((of_h2 + 2)) ] && [ "$(n_certificates 6)" -ge $((of_h6 + 2)) ]; }
check their_former_keys_end wait_for 60 former_keys_ended
check it_uses_a_replica_by_the_new_ones wait_for 20 has_replica
[ ! -x "${LAB_BUILD:-}/client/fleetctl" ] || fleetctl=$LAB_BUILD/client/fleetctl # without sanitizers it starts in a quarter of the time
fleetctl=$(realpath "$fleetctl")
(cd "$scratch" && python3 "$here/attached.py" verbs "$scratch/sock2" "$scratch/sock6" "$fleetctl" "$manuals")
python3 "$here/attached.py" events "$scratch/sock2" "$scratch/sock6" "$fleetctl"
python3 "$here/attached.py" lists "$scratch/sock2" "$scratch/sock6"
echo "# after $SECONDS s"

# The statistics are those of the replica, which need not be the leader.
# Six hosts write about themselves meanwhile: the order of indexes is compared. test-keys_v2.sh compares their numbers, on one host.
player "127.0.0.1:${ports[5]}" --index=order | grep -v '^not ok stats/leader: .*not current leader'
echo "# after $SECONDS s"

# -- The replica in use is killed, stands still, and is upgraded: it ends, and a new one starts --
moves() { # SIGNAL WORD
        used=$(replica)
        local writer
        writer=$([ "$used" = h2 ] && echo 3 || echo 2)
        python3 "$here/attached.py" moves "$scratch/sock$writer" "$scratch/sock6" "$2" kill -s "$1" "${pids[${used#h}]}"
        echo "# after $SECONDS s"
}
uses_another() { [ -n "$(replica)" ] && [ "$(replica)" != "$used" ]; }

moves KILL killed
check it_uses_another_replica uses_another
start "${used#h}"
wait_for 30 api "${used#h}" units
moves STOP paused
check it_leaves_a_replica_that_stands_still uses_another
kill -CONT "${pids[${used#h}]}"
moves TERM upgraded
check it_leaves_a_replica_that_ends uses_another
start "${used#h}"
wait_for 30 api "${used#h}" units

# -- Each route and each verb, while a replica in use ends, stands still or is cut off each 3 s --
n_lost=0
kinds=(KILL STOP TERM)
if [ "$(id -u)" = 0 ] && nft list tables >/dev/null 2>&1; then kinds+=(CUT); else echo "# not as root, or without nft: no replica is cut off"; fi
cut() { # HOST: nothing arrives on a connection that it has with another host, and nothing is answered
        local connections
        connections=$(ss -Htanp | grep "pid=${pids[$1]}," | awk '{ print $4 }' | grep -o '[0-9]*$' | grep -vx "${ports[$1 - 1]}" | sort -u | paste -sd,)
        nft -f - <<<"table inet fleet_$$ { chain cut { type filter hook input priority 0; tcp dport { $connections } drop; tcp sport { $connections } drop; }; }"
}
heal() { nft delete table inet "fleet_$$"; }
trap 'heal 2>/dev/null; kill -9 "${pids[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$scratch"' EXIT
while_replicas_are_lost() { # COMMAND...
        local kind job
        "$@" &
        job=$!
        while kill -0 "$job" 2>/dev/null; do
                used=$(replica)
                used=${used#h}
                if [ -n "$used" ]; then
                        kind=${kinds[n_lost % ${#kinds[@]}]}
                        n_lost=$((n_lost + 1))
                        if [ "$kind" = CUT ]; then
                                check "$1_and_the_replica_is_cut_off" cut "$used"
                                sleep 2.5
                                heal || not_ok "$1_and_the_replica_is_not_cut_off_any_more" "nft"
                        elif [ "$kind" = STOP ]; then
                                kill -STOP "${pids[$used]}"
                                sleep 2.5 # longer than a host waits for an answer
                                kill -CONT "${pids[$used]}"
                        else
                                end "$kind" "$used"
                                start "$used"
                        fi
                fi
                sleep 3
        done
        wait "$job"
        echo "# $n_lost replicas were lost; after $SECONDS s"
}
routes_lost() { exec python3 "$here/attached.py" routes "$scratch/sock2" - "$scratch/sock6" - "$manuals/fleet-api.7.scd" lost; }
verbs_lost() { cd "$scratch" && exec python3 "$here/attached.py" verbs "$scratch/sock2" "$scratch/sock6" "$fleetctl" "$manuals" lost; }
for what in verbs_lost routes_lost; do
        n_lost=0
        for _ in 1 2 3 4 5; do
                while_replicas_are_lost $what
                [ $n_lost -lt 4 ] || break
        done
        check "replicas_were_lost_in_each_way_with_$what" [ "$n_lost" -ge ${#kinds[@]} ]
done
for host in 1 2 3 4 5; do wait_for 30 api "$host" units; done

# -- Without a quorum, a replica answers, and the host with it --
head_of() { curl -s -m 10 -D - -o /dev/null "http://127.0.0.1:${ports[5]}$1"; }
is_stale() { head_of /v2/keys/known | tr '\r\n' '  ' | grep -qiE '^HTTP/1.1 200 .* x-fleet-stale: [0-9]'; } # errors have that field, too
put 6 /known yes >/dev/null
# Each replica has it, or one to which the host moves just now would lack what the host has seen, and not be read.
has_known() { curl -s -m 10 "http://127.0.0.1:${ports[$1 - 1]}/v2/keys/known" | grep -q '"value":"yes"'; }
for host in 1 2 3 4 5 6; do check "host_${host}_has_the_key" wait_for 20 has_known "$host"; done
used=$(replica)
voters() { api 6 cluster | grep -o '{[^{}]*"seat":"voter"[^{}]*}' | grep -o '"name":"h[1-5]"' | grep -o '[1-5]'; }
read -r -d '' -a stopped < <(voters | grep -v "${used#h}" | head -2)
check two_voters_of_three_can_be_stopped [ "$(voters | wc -l)" = 3 ]
for host in "${stopped[@]}"; do kill -STOP "${pids[$host]}"; done
check without_a_quorum_answers_are_marked_as_stale wait_for 20 is_stale
says without_a_quorum_reads_are_answered '"value":"yes"' "$(keys /known)"
says without_a_quorum_a_quorum_read_is_code_300 '"errorCode":300' "$(keys "/known?quorum=true")"
begin=$(date +%s%N)
says without_a_quorum_a_write_is_code_300 '"errorCode":300' "$(keys /lost -X PUT -d value=1)"
took=$((($(date +%s%N) - begin) / 1000000))
check without_a_quorum_a_write_is_answered_in_time [ $took -lt 2500 ]
echo "# such a write took $took ms"
check without_a_quorum_machines_are_listed wait_for 5 bash -c "curl -s -m 5 --unix-socket '$scratch/sock6' 'http://fleet/fleet/v1/machines?all=true&sessions=true' | grep -q '\"kind\":\"attached\"'"
check without_a_quorum_health_is_503 [ "$(status 6 /health)" = 503 ]

# -- No replica can be reached --
curl -s -m 40 --unix-socket "$scratch/sock6" "http://fleet/fleet/v1/events" -o /dev/null -D "$scratch/events" &
pids[events]=$!
events_begin() { grep -q '^HTTP/1.1 200' "$scratch/events"; }
check without_a_quorum_events_begin wait_for 10 events_begin
for host in 1 2 3 4 5; do kill -STOP "${pids[$host]}" 2>/dev/null; done
check without_a_replica_the_answer_names_the_replicas wait_for 20 says_unreachable
[ "$(id -u)" != 0 ] || says without_a_replica_recover_names_the_replicas "has no copy of the tree. Run fleetctl recover on a host that has one: h" "$(ctl 6 recover 2>&1)"
for path in /fleet/v1/cluster /fleet/v1/local /version /metrics /v2/machines /v2/members; do
        check "without_a_replica_${path//\//_}_is_answered" [ "$(status 6 $path)" = 200 ]
done
for path in /health /fleet/v1/units /v2/keys/known /fleet/v1/kv/value/known /fleet/v1/kv/list /fleet/v1/state /fleet/v1/machines /fleet/v1/directory /fleet/v1/why/none.service \
        /fleet/v1/cluster/tokens /fleet/v1/cluster/backup /fleet/v1/events; do
        check "without_a_replica_${path//\//_}_is_503" [ "$(status 6 $path)" = 503 ]
done
for path in plan batch directory cluster/tokens; do
        check "without_a_replica_post_${path//\//_}_is_503" [ "$(status 6 /fleet/v1/$path -X POST -H 'Content-Type: application/json' -d '{}')" = 503 ]
done
events_are_cut() { ! kill -0 "${pids[events]}"; }
check without_a_replica_events_are_cut wait_for 15 events_are_cut
says the_statistics_are_code_300 '"errorCode":300' "$(curl -s -m 10 "http://127.0.0.1:${ports[5]}/v2/stats/self")"
says a_key_is_code_300_with_the_cause '"errorCode":300' "$(keys /known)"
says a_key_names_the_replicas 'no replica reachable for' "$(keys /known)"
says a_write_is_code_300 '"errorCode":300' "$(keys /lost -X PUT -d value=1)"

# Before its first slice, a host has no state: a key that exists is not reported as missing.
# Nor does it need a listener for other hosts: another program has its port.
end 9 6
python3 -c 'import signal, socket, sys; s = socket.create_server(("127.0.0.1", int(sys.argv[1]))); signal.pause()' "${ports[11]}" &
pids[port]=$!
check its_port_is_taken wait_for 10 bash -c "exec 3<>/dev/tcp/127.0.0.1/${ports[11]}"
start 6
check a_new_daemon_answers wait_for 20 curl -s -m 5 -o /dev/null --unix-socket "$scratch/sock6" http://fleet/version
says a_key_is_not_missing_before_the_first_slice '"errorCode":300' "$(keys /known)"
check a_value_is_503_before_the_first_slice [ "$(status 6 /fleet/v1/kv/value/known)" = 503 ]
for host in 1 2 3 4 5; do kill -CONT "${pids[$host]}" 2>/dev/null; done
check it_returns_to_a_replica wait_for 30 has_replica
key_is_back() { [[ $(keys /known) == *'"value":"yes"'* ]]; }
check the_key_is_answered_again wait_for 20 key_is_back
says its_log_has_the_reason "Failed to listen on 127.0.0.1:${ports[11]}: the address is in use; this host runs its units without a replica" "$(cat "$scratch/log6")"
no_listener() { ctl 1 status 2>&1 | grep -qF "its replica: none: it cannot listen on 127.0.0.1:${ports[11]}; correct ListenPeer="; }
check status_shows_that_it_cannot_listen wait_for 20 no_listener
echo "# after $SECONDS s"
