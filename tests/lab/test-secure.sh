#!/bin/bash
# Eight hosts with a key file, three of them attached, become a cluster with certificates, under load and with units: no unit is touched, and no
# acknowledged write is lost. A host returns to the key file before the last step. Hosts that were off get the command that they need. Takes 110 s.
LAB_HOSTS="alpha beta gamma delta epsilon zeta eta theta"
[ -n "${CHECK_ALL:-}" ] || { echo "ok eight_hosts_get_certificates # SKIP: with CHECK_ALL=yes; tests/conformance/test-secure.sh has the same steps"; exit 0; }
. "$(dirname "$0")/scenario.sh"
three_vote() { [ "$(roles "$1")" = "- - - leader standby standby voter voter" ]; }
cluster() { host_exec "$1" curl -sf -m 5 --unix-socket /run/fleet.sock http://fleet/fleet/v1/cluster; }
logged() { host_exec "$1" journalctl -q -u fleetd --no-pager | grep -qF -- "$2"; }
without_only_those_off() { [ "$(cluster alpha | json withoutCertificate | grep -o '[a-z]*' | sort)" = "$(off | sort)" ]; }
members_reachable() { [ "$(cluster alpha | grep -o '"reachable":true' | wc -l)" = 5 ]; }
# One with a replica, and an attached one.
off() { cat "$LAB/off"; }
on() { grep -vxF "$(off)" <<<"$(tr ' ' '\n' <<<"$LAB_HOSTS")"; }
members_on() { cluster alpha | python3 -c 'import json, sys; print(*[v["name"] for v in json.load(sys.stdin)["voters"] if v.get("reachable")], sep="\n")'; }
# A certificate was used in each session to this host.
redialed() { [ "$(host_exec "$1" journalctl -q -u fleetd --no-pager | grep -c 'ended: replaced by a newer session')" -ge 3 ]; }

eight_hosts_with_a_key_file_run_units() {
        local n
        cluster_up
        for n in 1 2 3 4 5; do
                runs_forever plain-$n.service </dev/null
        done
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        fleetctl beta start plain-{1,2,3,4,5}.service everywhere.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service)"
        cluster alpha | python3 -c 'import json, sys; print([v["name"] for v in json.load(sys.stdin)["voters"] if v["seat"] == "standby" and v["name"] != "alpha"][0])' >"$LAB/off"
        host_fleetctl alpha --output=json list-machines | python3 -c '
import json, sys
print([m["hostname"] for m in json.load(sys.stdin)["machines"] if not m.get("role")][0])' >>"$LAB/off"
        for n in $(off); do
                host_exec "$n" systemctl stop fleetd || fail "fleetd does not stop on $n"
        done
        identities >"$LAB/before"
        [ "$(wc -l <"$LAB/before")" = 13 ] || fail "not 13 units run: $(cat "$LAB/before")"
}

hosts_get_certificates_under_load() {
        local h
        writer_start alpha 20 certificates
        fleetctl alpha cluster secure --yes >"$LAB/out" 2>&1 && fail "it does not wait for $(off)"
        grep -qE "no certificate: .*: start fleetd there" "$LAB/out" || fail "secure: $(cat "$LAB/out")"
        wait_for 30 without_only_those_off || fail "certificates: $(cluster alpha | json withoutCertificate)"
        for h in $(members_on); do
                wait_for 30 redialed "$h" || fail "sessions to $h are not replaced"
        done
        wait $WRITER
        echo "# certificates for all: longest time without an acknowledged write: $(writer_gap certificates) ms" >>"$LAB/figures"
        for h in $(on); do
                acknowledged_writes_are_there certificates "$h"
        done
        WHAT="the certificates" untouched "$(cat "$LAB/before")"
}

a_host_returns_to_the_key_file_and_back() {
        local h
        h=$(members_on | grep -v alpha | head -1)
        host_exec "$h" sh -c 'systemctl stop fleetd; cd /var/lib/fleet; mv identity /root/; systemctl start fleetd'
        wait_for 30 writes "$h" || fail "$h accepts no writes with the key file"
        host_exec "$h" sh -c 'systemctl stop fleetd; cd /var/lib/fleet; rm -rf identity.new; mv /root/identity .; systemctl start fleetd'
        wait_for 30 writes "$h" || fail "$h accepts no writes with its certificate"
        WHAT="the key file" untouched "$(cat "$LAB/before")"
}

the_key_file_ends() {
        local h
        writer_start alpha 8 end
        fleetctl alpha cluster secure --yes --force >"$LAB/out" 2>&1 || fail "secure: $(cat "$LAB/out")"
        for h in $(on); do
                wait_for 10 logged "$h" "PeerKey= has no effect any more" || fail "$h does not log the end of the key file"
        done
        wait $WRITER
        echo "# the end of the key file: longest time without an acknowledged write: $(writer_gap end) ms" >>"$LAB/figures"
        for h in $(on); do
                acknowledged_writes_are_there end "$h"
        done
        WHAT="the end of the key file" untouched "$(cat "$LAB/before")"
}

hosts_that_were_off_get_the_command_and_join_again() {
        local h token command
        tells_status() { fleetctl "$h" status 2>&1 | tr -s ' \n' ' ' | grep -qF "$command"; }
        for h in $(off); do
                command="run fleetctl token --replace=$h"
                host_exec "$h" systemctl start fleetd || fail "fleetd does not start on $h"
                wait_for 20 logged "$h" "$command" || fail "the journal of $h: $(host_exec "$h" journalctl -q -u fleetd -n 5 --no-pager)"
                wait_for 20 tells_status || fail "status on $h: $(fleetctl "$h" status 2>&1)"
                WHAT="the rejection" untouched "$(cat "$LAB/before")"
                token=$(fleetctl alpha token --replace="$h" | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1)
                fleetctl "$h" join "$token" >"$LAB/out" 2>&1 || fail "join: $(cat "$LAB/out")"
        done
        cluster_whole
        for h in $(off); do
                acknowledged_writes_are_there certificates "$h"
        done
        wait_for 30 members_reachable || fail "members: $(cluster alpha)"
        WHAT="the join" untouched "$(cat "$LAB/before")"
}

all_hosts_start_without_the_key_file() {
        local h
        for h in $LAB_HOSTS; do
                host_exec "$h" sh -c 'rm /etc/fleet/peer.key; systemctl restart fleetd' || fail "fleetd does not start on $h"
        done
        cluster_whole
        logged alpha "PeerKey=/etc/fleet/peer.key is ignored" || fail "PeerKey= is not named"
        WHAT="the restart" untouched "$(cat "$LAB/before")"
        [ "$(wc -l <"$LAB/before")" = 13 ] && echo "# units: 13 of 13 with their InvocationIDs of the begin" >>"$LAB/figures"
}

scenario eight_hosts_with_a_key_file_run_units hosts_get_certificates_under_load a_host_returns_to_the_key_file_and_back the_key_file_ends \
        hosts_that_were_off_get_the_command_and_join_again all_hosts_start_without_the_key_file
