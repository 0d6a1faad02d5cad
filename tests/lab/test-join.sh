#!/bin/bash
# A host joins another one by a token, on booted hosts without a configuration: fleetd starts itself again with its new identity, and
# systemd restarts no service. Units of the host run on. A user of one host reaches the other one with a certificate. A host that was removed, and has no
# /etc/fleet, joins again. The cluster
# key is sealed in the sandbox of fleetd.service. A host that left, was wiped, is a member or was restored is restored, recovered and reset. Takes 60 s.
LAB_HOSTS="alpha beta"
. "$(dirname "$0")/scenario.sh"

# What systemd knows of fleetd.service: its process and its invocation stay when the daemon starts itself again.
service() { host_exec "$1" systemctl show -p MainPID,InvocationID,NRestarts,ActiveState fleetd.service local.service; }

token() { host_exec alpha fleetctl token | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1; }

each_host_is_a_cluster_of_one() {
        local h
        lab_install "$LAB_BUILD" || fail "make install failed"
        for h in $LAB_HOSTS; do
                host_install "$h" || fail "fleetd cannot be put on $h"
                rm "$LAB/$h/up/etc/fleet/fleetd.conf.d/10-lab.conf" "$LAB/$h/up/etc/fleet/peer.key"
        done
        hosts_up $LAB_HOSTS
        for h in $LAB_HOSTS; do
                wait_for 30 writes "$h" || fail "$h accepts no writes"
                host_exec "$h" systemd-run -q --unit=local sleep infinity || fail "$h starts no unit"
        done
        runs_forever own.service </dev/null
        fleetctl beta start own.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        runs_on own.service beta || fail "it runs on $(hosts_running own.service)"
        identities >"$LAB/before"
        for h in $LAB_HOSTS; do service "$h"; done >"$LAB/services"
}

the_first_host_opens_its_cluster() {
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        grep -q "listens on $(host_address alpha):2380" "$LAB/out" || fail "$(cat "$LAB/out")"
}

the_second_host_joins_by_one_command() {
        local token
        token=$(token)
        [ -n "$token" ] || fail "no token"
        host_exec beta fleetctl join --discard "$token" >"$LAB/out" 2>&1 || fail "join: $(cat "$LAB/out")"
        grep -q "Joined: this host is up, with alpha" "$LAB/out" || fail "$(cat "$LAB/out")"
        wait_for 10 knows_machines alpha 2 && wait_for 10 knows_machines beta 2 || fail "$(machines beta)"
        [ "$(key_put beta /joined yes)" = ok ] && wait_for 5 key_is alpha /joined yes || fail "no key of beta reaches alpha"
}

no_service_was_restarted() {
        local h now
        now=$(for h in $LAB_HOSTS; do service "$h"; done)
        [ "$now" = "$(cat "$LAB/services")" ] || fail "$(diff <(echo "$now") "$LAB/services" | grep '^[<>]' | tr '\n' ' ')"
        WHAT="the join" untouched "$(cat "$LAB/before")"
}

# systemd-creds runs in the sandbox of fleetd.service: it reads the key of the host, and cannot create it; ExecStartPre= does.
the_cluster_key_is_sealed_in_the_sandbox() {
        local key=$LAB/beta/up/var/lib/fleet/secrets/key.1 drop_in=/run/systemd/system/fleetd.service.d
        wait_for 10 test -s "$key" || fail "beta has no cluster key"
        printf '[Fleetd]\nSealWith=host\n' >"$LAB/beta/up/etc/fleet/fleetd.conf.d/seal.conf"
        host_exec beta sh -c "mkdir -p $drop_in && printf '[Service]\nExecStartPre=\n' >$drop_in/no-key.conf && rm /var/lib/systemd/credential.secret"
        host_exec beta systemctl daemon-reload && host_exec beta systemctl restart fleetd
        wait_for 10 eval "fleetctl alpha status | grep -q 'cluster key not sealed: secrets/key.1 is on disk as it is'" || fail "$(fleetctl alpha status)"
        host_exec beta rm -r "$drop_in"
        host_exec beta systemctl daemon-reload && host_exec beta systemctl restart fleetd
        wait_for 10 grep -q "fleet sealed cluster key 1 host" "$key" || fail "$(host_exec beta journalctl -u fleetd --no-pager -n 3)"
        wait_for 10 eval "host_exec beta fleetctl token | grep -q fleet1-" || fail "beta does not sign"
        rm "$LAB/beta/up/etc/fleet/fleetd.conf.d/seal.conf"
        host_exec beta systemctl restart fleetd
        wait_for 10 grep -qE '^[0-9a-f]{64}$' "$key" || fail "the file is sealed without SealWith="
}

systemctl_status_shows_the_new_state() {
        host_exec beta systemctl status --no-pager fleetd >"$LAB/out"
        grep -q 'Status: "follower, term ' "$LAB/out" || fail "$(cat "$LAB/out")"
        host_exec alpha systemctl status --no-pager fleetd >"$LAB/out"
        grep -q 'Status: "leader, term .*, 1 of 1 voters reachable"' "$LAB/out" || fail "$(cat "$LAB/out")"
        fleetctl beta status >"$LAB/out" 2>&1
        grep -q 'own.service .*runs on beta, and is no unit of the cluster' "$LAB/out" || fail "own.service is not reported: $(cat "$LAB/out")"
}

# The service may write in /etc/fleet, although the folder did not exist at its start.
a_removed_host_without_configuration_joins_again() {
        local token
        host_exec beta systemctl stop fleetd || fail "fleetd does not stop"
        host_exec beta rm -rf /etc/fleet
        wait_for 20 fleetctl alpha remove --force --yes beta >"$LAB/out" 2>&1 || fail "remove: $(cat "$LAB/out")"
        host_exec beta systemctl start fleetd || fail "fleetd does not start"
        is_told() { host_exec beta systemctl status --no-pager fleetd | grep -q 'Status: "this host was removed from the cluster: '; }
        wait_for 30 is_told || fail "$(host_exec beta systemctl status --no-pager fleetd)"
        token=$(token)
        host_exec beta fleetctl join "$token" >"$LAB/out" 2>&1 || fail "join: $(cat "$LAB/out")"
        wait_for 10 knows_machines alpha 2 && wait_for 10 knows_machines beta 2 || fail "$(machines beta)"
        wait_for 20 key_is beta /joined yes || fail "no key of alpha reaches beta"
        host_exec beta grep -q '^Join=' /etc/fleet/fleetd.conf.d/50-cluster.conf || fail "beta has no cluster file"
        WHAT="the removal" untouched "$(cat "$LAB/before")"
}

# The files of the user go to beta, which needs no other access to alpha.
user() { host_exec beta fleetctl --endpoint="https://$(host_address alpha):2443" --cacert=/root/users/ca.pem --cert=/root/users/ops.pem --key=/root/users/ops.key "$@" >"$LAB/out" 2>&1; }
a_user_reaches_the_cluster_over_https_until_it_is_revoked() {
        host_exec alpha sh -c "printf '[Fleetd]\\nListenTLS=$(host_address alpha):2443\\n' >/etc/fleet/fleetd.conf.d/60-tls.conf; systemctl restart fleetd" ||
                fail "fleetd does not start"
        wait_for 20 writes alpha || fail "alpha accepts no writes"
        host_exec alpha fleetctl cert ops --rights=units-see,keys-write:/app --out=/root/users >"$LAB/out" 2>&1 || fail "cert: $(cat "$LAB/out")"
        host_exec alpha tar -C /root -c users | host_exec beta tar -C /root -x || fail "the files are not copied"
        wait_for 10 user list-machines --no-legend || fail "list-machines: $(cat "$LAB/out")"
        [ "$(wc -l <"$LAB/out")" = 2 ] || fail "list-machines: $(cat "$LAB/out")"
        user kv set /app/by ops && wait_for 5 key_is beta /app/by ops || fail "kv set: $(cat "$LAB/out")"
        user kv set /other no && fail "a key without a right was written"
        user cert ls && fail "users are listed without a right"
        host_exec alpha fleetctl cert revoke ops >"$LAB/out" 2>&1 || fail "revoke: $(cat "$LAB/out")"
        user list-machines && fail "a revoked user is served"
        grep -q "no user ops of this cluster has this key" "$LAB/out" || fail "$(cat "$LAB/out")"
        WHAT="ListenTLS=" untouched "$(cat "$LAB/before")"
}

on_beta() { host_exec beta sh -c "$1" >"$LAB/out" 2>&1 || fail "$1: $(cat "$LAB/out")"; }
beta_is_a_member() { wait_for 20 eval 'writes alpha && knows_machines alpha 2' && wait_for 20 key_is beta /joined yes || fail "$(machines alpha)"; }
# Its assignments are executed again, also those of a unit that is new.
beta_runs() { # UNIT
        wait_for 20 host_exec beta fleetctl cluster stop-waiting --yes >"$LAB/out" 2>&1
        runs_forever "$1" <<<$'[X-Fleet]\nMachineID='"$(host_exec beta cat /etc/machine-id)"
        wait_for 20 fleetctl beta start "$1" >"$LAB/out" 2>&1 && runs_on "$1" beta || fail "$1 does not run: $(cat "$LAB/out") $(fleetctl beta why "$1" 2>&1)"
}

# Those that change beta while alpha is stopped end with beta as a cluster of one.
each_verb_of_recovery_goes_on_from_a_former_state() {
        local reset='systemctl stop fleetd; fleetd --reset; systemctl start fleetd'
        host_exec alpha sh -c 'fleetctl backup --cluster-key=/root/keys --yes' >"$LAB/out" 2>&1 || fail "keys: $(cat "$LAB/out")"
        on_beta "$reset"
        beta_is_a_member
        on_beta 'fleetctl leave --yes'
        wait_for 20 knows_machines alpha 1 || fail "beta is a member after its leave: $(machines alpha)"
        host_exec alpha fleetctl backup /root/backup >"$LAB/out" 2>&1 || fail "backup: $(cat "$LAB/out")"
        host_exec alpha tar -C /root -c backup keys | host_exec beta tar -C /root -x || fail "the backup is not copied"
        host_exec alpha systemctl stop fleetd

        on_beta 'systemctl stop fleetd; fleetd --reset; fleetctl restore --cluster-key=/root/keys --yes=beta /root/backup'
        beta_runs left.service
        host_exec beta fleetctl leave --yes >"$LAB/out" 2>&1 && fail "the last voter leaves"
        grep -qF "or give up its units and keys: $reset" "$LAB/out" || fail "leave of a restored host: $(cat "$LAB/out")"
        on_beta 'systemctl stop fleetd; rm -rf /var/lib/fleet/*; fleetctl restore --cluster-key=/root/keys --yes=beta /root/backup'
        beta_runs wiped.service

        host_exec alpha systemctl start fleetd
        on_beta "$reset"
        on_beta "fleetctl join --discard $(wait_for 20 writes alpha && token)"
        beta_is_a_member
        host_exec alpha systemctl stop fleetd
        on_beta 'fleetctl recover --yes=beta'
        beta_runs recovered.service
        identities >"$LAB/after"
        ! grep -vxFf "$LAB/after" "$LAB/before" >"$LAB/out" || fail "touched: $(cat "$LAB/out")"
}

scenario each_host_is_a_cluster_of_one the_first_host_opens_its_cluster the_second_host_joins_by_one_command no_service_was_restarted \
        systemctl_status_shows_the_new_state a_removed_host_without_configuration_joins_again \
        a_user_reaches_the_cluster_over_https_until_it_is_revoked the_cluster_key_is_sealed_in_the_sandbox \
        each_verb_of_recovery_goes_on_from_a_former_state
