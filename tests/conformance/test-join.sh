#!/bin/bash
# Daemons without systemd: a cluster of one opens, two hosts join it by tokens, keys replicate, and all of them find each other again after
# a restart. Tokens, addresses and hosts that are rejected get a message with the next command. A wiped host founds no second cluster. The
# leader is killed at two steps of a join. Takes 45 s.
set -u
n_ports=24
. "$(dirname "$0")/hosts.sh"

start() { FAULT_POINT=${2:-} host_start "$1" --listen-client="127.0.0.1:${ports[$1]}"; } # HOST [FAULT POINT]
keys_url() { echo "http://127.0.0.1:${ports[$1]}/v2/keys$2"; }
put() { curl -sf -m 10 -X PUT "$(keys_url "$1" "$2")" -d value="$3"; }
holds() { [ "$(curl -sf -m 10 "$(keys_url "$1" "$2")" | grep -o '"value":"[^"]*"' | cut -d'"' -f4)" = "$3" ]; }
voters() { [ "$(api "$1" cluster | grep -o '"seat":"voter"' | wc -l)" = "$2" ]; }
token() { ctl 1 token "$@" | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1; }
listen() { echo "--listen=127.0.0.1:${ports[$1 + 6]}"; }
ends() { ! kill -0 "${pids[$1]}"; }
# Start a host, which is a cluster of one without content.
fresh() {
        start "$1"
        wait_for 60 put "$1" /ready yes
        curl -sf -X DELETE "$(keys_url "$1" /ready)" >/dev/null
}

# Listeners that are no fleetd: they answer HTTP, send a banner first, send nothing, close at once.
python3 - "${ports[@]:20:4}" <<'END' &
import socket, sys, threading
def serve(port, answer):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(64)
    kept = []
    while True:
        connection = listener.accept()[0]
        try:
            kept += [connection] if answer(connection) else []
        except OSError:
            pass
answers = [lambda c: c.recv(4096) and c.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
           lambda c: c.sendall(b"SSH-2.0-OpenSSH_9.2\r\n") or True, lambda c: True, lambda c: c.close()]
for port, answer in zip(sys.argv[1:], answers):
    threading.Thread(target=serve, args=(port, answer)).start()
END
pids[listeners]=$!

# id_of TOKEN: its ID, which token ls prints.
id_of() { python3 -c 'import base64, sys; t = sys.argv[1][7:]; print(base64.urlsafe_b64decode(t + "=" * (-len(t) % 4))[41:47].hex())' "$1"; }

# token_with TOKEN ADDR:PORT: the same token with another endpoint and a valid checksum.
token_with() {
        python3 - "$1" "$2" <<'END'
import base64, struct, sys
text, endpoint = sys.argv[1][7:], sys.argv[2].encode()
raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
raw = raw[:1 + 8 + 32 + 6 + 16] + bytes([1, len(endpoint)]) + endpoint
crc = 0xffffffff
for byte in raw:
    crc ^= byte
    for _ in range(8):
        crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
raw += struct.pack("<I", crc ^ 0xffffffff)
print("fleet1-" + base64.urlsafe_b64encode(raw).decode().rstrip("="))
END
}

start 1 join-recorded#2
for host in 2 3 4 5 6; do fresh $host; done
wait_for 60 put 1 /ready yes

# -- A cluster of one opens --
said=$(ctl 1 token --listen=nowhere 2>&1)
says an_address_by_name_is_refused "--listen=nowhere" "$said"
says an_address_of_another_host_is_refused "Failed to listen on 192.0.2.1:2380: this host does not have the address" "$(ctl 1 token --listen=192.0.2.1 2>&1)"
says an_address_that_is_in_use_is_refused "127.0.0.1:${ports[2]}: the address is in use" "$(ctl 1 init --listen="127.0.0.1:${ports[2]}" 2>&1)"
check a_refused_address_changes_nothing holds 1 /ready yes
said=$(ctl 1 token "$(listen 1)" 2>&1)
says a_token_opens_the_listener_of_a_host_that_is_alone "listens on 127.0.0.1:${ports[7]}" "$said"
says such_a_token_is_printed fleet1- "$said"
check the_founder_is_back_with_its_keys wait_for 20 holds 1 /ready yes
says init_again_changes_nothing "listens on 127.0.0.1:${ports[7]}" "$(ctl 1 init 2>&1)"
check no_key_is_readable_for_others [ "$(stat -c %a "$scratch/state1/identity/key")" = 600 ]

# -- Addresses that are no hosts of the cluster: in the background, each takes some seconds --
first=$(token)
says a_token_is_printed fleet1- "$first"
wrong() { # HOST ADDRESS...
        for address in "${@:2}"; do
                ctl "$1" join "$(token_with "$first" "$address")" "$(listen "$1")" >>"$scratch/wrong$1" 2>&1
        done
}
wrong 4 "127.0.0.1:${ports[19]}" "127.0.0.1:${ports[20]}" &
pids[wrong4]=$!
wrong 5 "127.0.0.1:${ports[21]}" "127.0.0.1:${ports[23]}" &
pids[wrong5]=$!
wrong 6 "127.0.0.1:${ports[22]}" &
pids[wrong6]=$!

wait_for 10 [ -e "$scratch/state6/identity.new/key" ]
says a_second_command_is_rejected "another fleetctl init or join is under way on this host" "$(ctl 6 join "$first" "$(listen 6)" 2>&1)"

# -- Two hosts join --
put 2 /folder/mine 1 >/dev/null
put 2 /mine 1 >/dev/null
printf '[Service]\nExecStart=/bin/sleep 1000\n' >"$scratch/own.service"
ctl 2 submit "$scratch/own.service" >/dev/null
says content_is_named "this host has 1 unit and 2 keys of its own: fleetctl export DIR, then fleetctl join --discard" \
        "$(ctl 2 join "$first" "$(listen 2)" 2>&1)"
ctl 2 export "$scratch/exported" >/dev/null
check its_content_is_exported cmp "$scratch/own.service" "$scratch/exported/units/own.service"
begin=$(date +%s%N)
said=$(ctl 2 join "$first" --discard "$(listen 2)" 2>&1)
says a_host_joins "Joined: this host is up, with h1" "$said"
echo "# join took $((($(date +%s%N) - begin) / 1000000)) ms"
check the_former_store_is_kept [ -d "$scratch/state2/old/1/raft" ]

# The leader dies when it has recorded the third host, before its answer; the join goes on when it is back.
third=$(token_with "$(token)" "127.0.0.1:${ports[7]}")
ctl 3 join - "$(listen 3)" <<<"$third" >"$scratch/joined3" 2>&1 &
pids[join]=$!
check the_leader_dies_during_a_join wait_for 20 ends 1
start 1
wait "${pids[join]}"
unset "pids[join]"
says a_join_survives_the_death_of_the_leader "Joined: this host is up, with h1, h2" "$(cat "$scratch/joined3")"
check three_hosts_vote wait_for 60 voters 3 3
put 1 /a 1 >/dev/null
check keys_reach_the_joined_hosts wait_for 20 holds 2 /a 1
put 3 /b 2 >/dev/null
check joined_hosts_write wait_for 20 holds 1 /b 2
says the_cluster_file_has_the_own_address "ListenPeer=127.0.0.1:${ports[8]}" "$(cat "$scratch/conf2")"
says the_cluster_file_has_the_other_hosts "127.0.0.1:${ports[7]}" "$(grep Join= "$scratch/conf2")"
says a_joined_host_says_where_it_is "joined already, to the cluster with h1" "$(ctl 2 join "$(token)" 2>&1)"

# -- Rejected --
good=$(token)
wait "${pids[wrong4]}" "${pids[wrong5]}" "${pids[wrong6]}"
unset "pids[wrong4]" "pids[wrong5]" "pids[wrong6]"
says an_address_without_a_listener_is_named "127.0.0.1:${ports[19]}: connection refused" "$(head -1 "$scratch/wrong4")"
says an_http_server_is_named "127.0.0.1:${ports[20]}: " "$(tail -1 "$scratch/wrong4")"
says an_ssh_server_is_named "127.0.0.1:${ports[21]}: " "$(head -1 "$scratch/wrong5")"
says a_server_that_closes_is_named "127.0.0.1:${ports[23]}: " "$(tail -1 "$scratch/wrong5")"
says a_silent_server_is_named "127.0.0.1:${ports[22]}: " "$(cat "$scratch/wrong6")"
for host in 4 5 6; do sed 's/^/# /' "$scratch/wrong$host"; done
says a_used_token_is_rejected "was used by h3" "$(ctl 4 join "$third" "$(listen 4)" 2>&1)"
says a_truncated_token_is_named truncated "$(ctl 4 join "${good:0:60}" "$(listen 4)" 2>&1)"
changed=${good:0:20}$([ "${good:20:1}" = A ] && echo B || echo A)${good:21}
says a_changed_token_is_named checksum "$(ctl 4 join "$changed" "$(listen 4)" 2>&1)"
rejected() { says "$1" "$2" "$(ctl 4 join "$(token_with "$3" "127.0.0.1:${ports[7]}")" "$(listen 4)" 2>&1)"; } # NAME REASON TOKEN
revoked=$(token)
ctl 1 token revoke "$(id_of "$revoked")" >/dev/null
rejected a_revoked_token_is_rejected "token $(id_of "$revoked") was revoked; create another one on a host of the cluster: fleetctl token" "$revoked"
rejected a_token_for_another_machine_is_rejected "is for machine 00000000" "$(token --replace=h3)"
rejected a_token_for_another_network_is_rejected "is for hosts of 10.1.0.0/16, and this host connects from 127.0.0.1" "$(token --from=10.1.0.0/16)"
many=$(token --uses=10000)
rejected a_token_of_many_uses_is_no_argument "has several uses, and other users of this host can see the arguments of a command; pass it on standard input" "$many"
says more_than_10000_uses_are_rejected "10001 uses: expected 1 to 10000" "$(ctl 1 token --uses=10001 2>&1)"
rejected a_token_of_another_cluster_is_rejected "the certificate is of cluster" "$(ctl 6 token "$(listen 6)" | grep -o 'fleet1-[A-Za-z0-9_-]*')"
check no_use_of_a_rejected_token_is_spent [ "$(ctl 1 token ls | awk -v id="$(id_of "$many")" '$1 == id { print $3 }')" = 10000/10000 ]

# -- Hosts that may not be removed, metadata and settings that are wrong --
says a_host_does_not_remove_itself "h1 is this host: fleetctl leave takes it out of the cluster" "$(ctl 1 remove h1 --yes 2>&1)"
says a_host_that_is_up_is_not_removed "h2 is up: run fleetctl leave on it" "$(ctl 1 remove h2 --yes 2>&1)"
says metadata_have_128_keys_at_most "would have more than 128 metadata keys" "$(ctl 1 machine set h1 $(seq -f 'k%g=v' 129) 2>&1)"
says a_newline_is_no_metadata "has a control character" "$(ctl 1 machine set h1 $'zone=a\nb' 2>&1)"
says a_nul_is_no_metadata '\u0000 is not allowed' "$(curl -s -m 10 --unix-socket "$scratch/sock1" -X PATCH http://fleet/fleet/v1/machines \
        -d '[{"op": "add", "path": "/00000000000000000000000000000001/metadata/zone", "value": "a\u0000b"}]')"
check wrong_metadata_change_nothing [ -z "$(ctl 1 list-machines --full --no-legend --fields=metadata | tr -d ' \n-')" ]
for host in 1 2 3; do ctl 1 machine set h$host zone=a >/dev/null; done
says one_value_spreads_nothing "all 3 hosts have zone=a: nothing can be spread" "$(ctl 1 init --spread=zone 2>&1)"

# -- A host that was removed returns --
end KILL 3
removal_of_h3_says() { ctl 1 remove h3 --yes 2>&1 | tr -s '\n ' ' ' | grep -qF -- "$1"; }
check a_voter_that_is_away_is_not_removed wait_for 20 removal_of_h3_says "h3 is a voter, and away: start its fleetd; a new host at its address \
(127.0.0.1:${ports[9]}) replaces it within seconds"
kill -STOP "${pids[2]}"
check without_a_leader_nothing_is_removed wait_for 20 removal_of_h3_says "this host follows no leader, and may not know the members; fleetctl status"
kill -CONT "${pids[2]}"
check a_lost_host_is_removed wait_for 60 ctl 1 remove --yes --force h3
start 3
removed="this host was removed from the cluster: run fleetctl token on another host, and fleetctl join on this one"
is_told() { ctl 3 status | tr -s '\n ' ' ' | grep -qF "$removed"; }
check a_removed_host_says_so wait_for 30 is_told
says fleetctl_cluster_says_so "$removed" "$(ctl 3 cluster | tr -s '\n ' ' ')"
says a_removed_host_does_not_leave "$removed" "$(ctl 3 leave --yes 2>&1)"
says a_removed_host_joins_with_a_token "Joined: this host is up, with h1, h2" "$(ctl 3 join "$(token)" "$(listen 3)" 2>&1)"
check the_state_before_is_kept [ -d "$scratch/state3/old/2/raft" ]
check three_hosts_vote_again wait_for 60 voters 3 3
put 1 /c 1 >/dev/null
check keys_reach_the_host_that_returned wait_for 20 holds 3 /c 1

# -- A root that was rotated away --
former=$(token)
root() { ctl 1 ca | awk 'NR == 2 { print $1 }'; }
before=$(root)
ctl 1 ca rotate --yes >/dev/null
rotated() { [ "$(ctl 1 ca | wc -l)" = 2 ] && [ "$(root)" != "$before" ]; }
begin=$(date +%s%N)
check the_root_is_rotated wait_for 60 rotated
echo "# the rotation took $((($(date +%s%N) - begin) / 1000000)) ms"
rejected a_token_of_a_root_that_was_rotated_away_is_rejected "older than the last 'fleetctl ca rotate'; create a new one with 'fleetctl token'" "$former"
check a_rejected_host_stays_what_it_was put 4 /still 1
for host in 4 5 6; do end TERM $host; done

# -- Restart of all --
for host in 1 2 3; do end TERM $host; done
start 1 join-requested
start 2
start 3
check they_find_each_other_again wait_for 60 voters 2 3
check keys_are_there wait_for 20 holds 3 /a 1
check writes_continue wait_for 20 put 2 /c 3

# -- A wiped host --
end KILL 3
rm -rf "$scratch/state3"
start 3
is_wiped() { ctl 3 list-machines 2>&1 | grep -q "wiped host of a cluster: run fleetctl token --replace=h3"; }
check a_wiped_host_names_the_command wait_for 20 is_wiped
check a_wiped_host_founds_no_cluster [ ! -e "$scratch/state3/raft/meta.a" ]
# Its request is lost with the only host that the token names.
ctl 3 join "$(token_with "$(token --replace=h3)" "127.0.0.1:${ports[7]}")" "$(listen 3)" >"$scratch/joined3" 2>&1 &
pids[join]=$!
check a_host_dies_with_a_request wait_for 20 ends 1
start 1
wait "${pids[join]}"
unset "pids[join]"
says a_wiped_host_joins_again "Joined: this host is up" "$(cat "$scratch/joined3")"
check its_keys_are_back wait_for 30 holds 3 /c 3

# -- All replicas are lost: a backup and the cluster keys on a fresh host --
offline() { # HOST OPTION...: of a daemon that does not run
        touch "$scratch/conf$1"
        "$program" --config="$scratch/conf$1" --state-directory="$scratch/state$1" --machine-id="0000000000000000000000000000000$1" --name="h$1" "${@:2}" 2>&1
}
ca() { ctl "$1" ca show --output=json | grep -o '"id":"[0-9a-f]*"' | head -1; }
root=$(ca 1)
ctl 1 backup "$scratch/backup" >/dev/null 2>&1
says the_keys_are_written_beside_the_daemon "keys has 1 key of cluster" "$(offline 1 --backup-cluster-key="$scratch/keys")"
for host in 1 2 3; do end KILL $host; done
rm -rf "$scratch/state6" "$scratch/conf6"
says a_backup_is_restored_with_its_keys "This host is a cluster of one now" "$(offline 6 --restore="$scratch/backup" --cluster-key="$scratch/keys")"
start 6
check the_restored_host_has_the_keys wait_for 60 holds 6 /c 3
says it_opens_its_listener "listens on 127.0.0.1:${ports[12]}" "$(ctl 6 init "$(listen 6)" 2>&1)"
check it_keeps_the_authority wait_for 30 [ -n "$root" -a "$(ca 6)" = "$root" ]
for host in 2 3; do
        offline $host --reset >/dev/null
        sed -i "s/^Join=.*/Join=127.0.0.1:${ports[12]}/" "$scratch/conf$host"
        start $host
done
check other_hosts_return_without_a_token wait_for 60 voters 6 3
check and_have_the_keys wait_for 30 holds 3 /c 3

if grep -qF -e "${first:7}" -e "${good:7}" "$scratch"/log*; then not_ok no_token_is_logged "$(grep -lF -e "${first:7}" -e "${good:7}" "$scratch"/log*)"; else ok no_token_is_logged; fi
