#!/bin/bash
# Five daemons with a key file become a cluster with certificates, while a client writes: no acknowledged write is lost. A host returns to
# the key file before the last step. Afterwards no host accepts the key file; one that was off gets a message with the command, and
# joins again. Takes 30 s.
set -u
n_ports=12
. "$(dirname "$0")/hosts.sh"
openssl rand -hex 32 >"$scratch/key" && chmod 600 "$scratch/key"

start() { # HOST
        local join=
        [ "$1" = 1 ] || join=127.0.0.1:${ports[6]}
        [ -e "$scratch/conf$1" ] || printf '[Fleetd]\nListenPeer=127.0.0.1:%s\nJoin=%s\n' "${ports[$1 + 5]}" "$join" >"$scratch/conf$1"
        host_start "$1" --peer-key="$scratch/key" --listen-client="127.0.0.1:${ports[$1]}"
}
cluster() { curl -sf -m 10 --unix-socket "$scratch/sock$1" http://fleet/fleet/v1/cluster; }
put() { curl -sf -m 10 -X PUT "http://127.0.0.1:${ports[$1]}/v2/keys$2" -d value="$3"; }
holds() { [ "$(curl -sf -m 10 "http://127.0.0.1:${ports[$1]}/v2/keys$2" | grep -o '"value":"[^"]*"' | cut -d'"' -f4)" = "$3" ]; }
has() { cluster "$1" | grep -qF -- "$2"; }
members() { [ "$(cluster 1 | grep -o '"reachable":true' | wc -l)" = "$1" ] && [ "$(cluster 1 | grep -o '"seat":"voter"' | wc -l)" = 3 ]; }
logged() { grep -qF -- "$2" "$scratch/log$1"; }
# The other hosts have replaced each session to and from this one.
redialed() { [ "$(grep -c 'ended: replaced by a newer session' "$scratch/log$1")" -ge "$2" ]; }

# One key after the other, at each host in turn; acknowledged ones are printed.
write_keys() {
        local n=0 i
        while :; do
                for i in 1 2 3 4; do
                        put "$i" "/load/$n" "$n" >/dev/null 2>&1 && echo "$n"
                        n=$((n + 1))
                done
        done >"$scratch/written"
}
lost_on() { # HOST
        curl -sf -m 20 "http://127.0.0.1:${ports[$1]}/v2/keys/load?recursive=true" | python3 -c '
import json, sys
have = {node["key"] for node in json.load(sys.stdin)["node"]["nodes"]}
written = ["/load/" + line.strip() for line in open(sys.argv[1])]
print(len(written), len([key for key in written if key not in have]))' "$scratch/written"
}

# -- Key file --
start 1
wait_for 60 put 1 /ready yes
for host in 2 3 4 5; do start $host; done
check five_hosts_with_a_key_file wait_for 60 members 5
wait_for 30 has 1 '"name":"h5"' # it has published its name
end TERM 5 # it will miss everything
write_keys & pids[writer]=$!
wait_for 20 test -s "$scratch/written"

# -- Certificates: the cluster gets them by the request, which is refused as long as a host has none --
says a_host_without_a_certificate_is_named "no certificate: h5: start fleetd there" "$(ctl 1 cluster secure --yes 2>&1)"
check the_other_hosts_have_certificates wait_for 30 has 1 '"withoutCertificate":["h5"]'
says the_cluster_shows_the_state "hosts      accept the key file; without a certificate: h5" "$(ctl 2 cluster)"
# Three others dial each of the four.
for host in 1 2 3 4; do check sessions_of_h${host}_are_replaced wait_for 30 redialed $host 3; done

# -- Back: a host without its identity uses the key file again --
end TERM 2
mv "$scratch/state2/identity" "$scratch/state2/identity.off"
start 2
check a_host_returns_to_the_key_file wait_for 30 put 2 /back yes
check it_serves_what_the_others_write wait_for 20 holds 1 /back yes
end TERM 2
rm -rf "$scratch/state2/identity.new"
mv "$scratch/state2/identity.off" "$scratch/state2/identity"
start 2
check it_returns_to_its_certificate wait_for 30 put 2 /forth yes

# -- The key file ends --
check the_file_is_not_ignored_before logged 2 "session to h1"
said=$(ctl 3 cluster secure --force --yes 2>&1)
says certificates_are_required "The cluster requires certificates" "$said"
says it_is_done_once "The cluster requires certificates" "$(ctl 4 cluster secure --yes 2>&1)"
for host in 1 2 3 4; do
        check h${host}_accepts_no_key_file wait_for 10 logged $host "PeerKey= has no effect any more"
        check h${host}_records_it wait_for 10 test -e "$scratch/state$host/identity/certificates"
done
says the_cluster_shows_the_end "hosts      require certificates of each other; without a certificate: h5" "$(ctl 2 cluster)"

# -- A host that was off, with the key file only --
start 5
command="run fleetctl token --replace=h5"
check its_journal_has_the_command wait_for 30 logged 5 "$command"
tells_status() { ctl 5 status 2>&1 | tr -s ' \n' ' ' | grep -qF "$command"; }
check its_status_has_the_command wait_for 30 tells_status
check it_writes_nothing eval '! put 5 /alone 1'
token=$(ctl 1 token --replace=h5 | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1)
says it_joins_again "Joined: this host is up" "$(ctl 5 join "$token" "--listen=127.0.0.1:${ports[10]}" 2>&1)"
check it_has_the_keys wait_for 30 holds 5 /forth yes
check five_hosts_with_certificates wait_for 60 members 5
check no_host_lacks_one has 1 '"withoutCertificate":[]'

# -- Restart of all: the key file is ignored, and may be absent --
end TERM writer
for host in 1 2 3 4 5; do end TERM $host; done
rm "$scratch/key"
for host in 1 2 3 4 5; do start $host; done
check they_find_each_other_by_certificates wait_for 60 members 5
check the_setting_is_ignored logged 1 "PeerKey=$scratch/key is ignored"
check writes_continue wait_for 20 put 3 /end yes
for host in 1 2 3 4 5; do
        wait_for 30 holds $host /end yes
        read -r written lost < <(lost_on $host)
        if [ "${written:-0}" -gt 20 ] && [ "${lost:-1}" = 0 ]; then ok h${host}_has_all_writes; else not_ok h${host}_has_all_writes "$lost of $written are lost"; fi
done
echo "# $written writes were acknowledged meanwhile"
