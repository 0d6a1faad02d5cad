#!/bin/bash
# A host without a replica, h6, beside five hosts with one: each route and each verb of fleetctl gives there what it gives on a voter, also
# while the replica in use is killed. Takes 30 s; with CHECK_ALL, the recorded answers of etcd are compared on it, too.
set -u
n_ports=12
. "$(dirname "$0")/hosts.sh"

start() { host_start "$1" --listen-client="127.0.0.1:${ports[$1 - 1]}"; }
keys() { curl -s -m 10 "http://127.0.0.1:${ports[$1 - 1]}/v2/keys$2" "${@:3}"; } # HOST KEY OPTION...
token() { ctl 1 token "$@" | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1; }
listen() { echo "--listen=127.0.0.1:${ports[$1 + 5]}"; }
role() { api "$1" cluster | grep -q "\"role\":\"$2\""; }
members() { [ "$(api 1 cluster | grep -o '"seat":' | wc -l)" = "$1" ]; }

for host in 1 2 3 4 5 6; do start $host; done
wait_for 20 keys 1 /a -f -X PUT -d value=1
said=$(ctl 1 token --uses=5 "$(listen 1)" 2>&1 | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1)
for host in 2 3 4 5 6; do [ $host = 6 ] && break
        wait_for 20 ctl $host status
        ctl $host join - "$(listen $host)" <<<"$said" 2>&1 | sed "s/^/# h$host: /"
        date +%s.%N
done
(ctl 6 join - "$(listen 6)" <<<"$said" 2>&1 &); sleep 4; wait_for 60 members 5
check a_sixth_host_is_attached wait_for 30 role 6 attached
ctl 6 cluster
ctl 6 list-machines
ctl 6 status
sleep 3
api 6 cluster; echo
api 6 machines; echo
api 1 machines; echo
tail -n 30 $scratch/log6 | cut -c1-300
tail -n 8 $scratch/log1| cut -c1-300
