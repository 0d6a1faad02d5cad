#!/bin/bash
# All hosts are wiped and restored from a backup, and a majority is lost permanently and one host recovered, while units run: all
# keys and units are there, and no unit is touched. Takes 70 s.
. "$(dirname "$0")/scenario.sh"

# A job that has ended does not run again on a host that lost its records.
job_ran_once() {
        local h
        for h in $LAB_HOSTS; do
                [ "$(host_exec "$h" cat /root/ran)" = ran ] || return 1
        done
}

a_cluster_with_units() {
        local n
        cluster_up
        for n in 1 2 3 4 5 6; do
                runs_forever plain-$n.service </dev/null
        done
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        unit_file job.service <<<$'[Service]\nType=oneshot\nExecStart=/bin/sh -c "echo ran >>/root/ran"\n[X-Fleet]\nGlobal=true'
        fleetctl beta start plain-{1,2,3,4,5,6}.service everywhere.service job.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 job_ran_once || fail "the job did not run once on each host"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service)"
        identities >"$LAB/before"
        [ "$(wc -l <"$LAB/before")" = 12 ] || fail "not nine units and three jobs: $(cat "$LAB/before")"
}

waits_for() { host_exec alpha curl -sf -m 2 --unix-socket /run/fleet.sock http://fleet/fleet/v1/cluster | python3 -c 'import json, sys; print(*sorted(json.load(sys.stdin).get("waitsFor", ["none"])))'; }
waits_are() { [ "$(waits_for)" = "$1" ]; }

# Every key of users with its value and indexes, except those that the scenario writes while it waits.
keys_of() {
        keys "$1" '/?recursive=true&quorum=true' | python3 -c '
import json, sys
def flatten(node):
    if not node.get("key", "").startswith("/lab"):
        print(json.dumps([node.get(k) for k in ("key", "dir", "value", "createdIndex", "modifiedIndex")]), "ttl" in node)
    for n in node.get("nodes", []):
        flatten(n)
flatten(json.load(sys.stdin)["node"])' | sort
}
# Every unit file: its states, and its text.
units_of() {
        local u
        fleetctl "$1" list-unit-files --no-legend --fields=unit,hash,dstate,target,global
        for u in $(fleetctl "$1" list-unit-files --no-legend --fields=unit); do
                fleetctl "$1" cat --source "$u"
        done
}
write_keys() {
        local n
        for n in 1 2 3; do
                [ "$(key_put alpha "/$1/$n/value" "$n")" = ok ] || fail "put failed"
        done
        head -c 20000 /dev/zero | tr '\0' x | keys alpha "/$1/large" -sf -XPUT --data-urlencode value@- >"$LAB/out" || fail "put: $(cat "$LAB/out")"
        keys alpha "/$1/empty" -sf -XPUT -d dir=true >"$LAB/out" || fail "mkdir: $(cat "$LAB/out")"
        keys alpha "/$1/expires" -sf -XPUT -d value=x -d ttl=3600 >"$LAB/out" || fail "put with TTL: $(cat "$LAB/out")"
        keys alpha "/$1/1/value" -sf -XDELETE >"$LAB/out" || fail "delete: $(cat "$LAB/out")"
}
stop_all() { local h; for h in $LAB_HOSTS; do host_exec "$h" systemctl stop fleetd; done; }
has_checkpoint() { host_exec "$1" test -e /var/lib/fleet/tree/checkpoint/data.mdb; }
refuses() { # HOST "MESSAGE" OPTION
        host_exec "$1" fleetd "$3" >"$LAB/out" 2>&1 && fail "$3 is not refused"
        grep -qF -- "$2" "$LAB/out" || fail "$3: $(cat "$LAB/out")"
}

# Wipe all hosts, restore /root/$1 of alpha, and compare keys and units with $LAB/keys and $LAB/unit-files.
wipe_and_restore() {
        local h
        for h in $LAB_HOSTS; do
                host_exec "$h" sh -c 'rm -rf /var/lib/fleet/*'
        done
        host_exec alpha fleetd --restore="/root/$1" >"$LAB/out" 2>&1 || fail "restore: $(cat "$LAB/out")"
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl start fleetd || fail "$h does not start"
        done
        wait_for 30 waits_are none || fail "it waits for $(waits_for)"
        cluster_whole
        keys_of gamma >"$LAB/keys.after"
        [ -s "$LAB/keys" ] || fail "there were no keys to compare"
        cmp -s "$LAB/keys" "$LAB/keys.after" || fail "keys differ: $(diff "$LAB/keys" "$LAB/keys.after" | cut -c1-200 | tr '\n' ' ')"
        units_of beta >"$LAB/unit-files.after" 2>&1
        cmp -s "$LAB/unit-files" "$LAB/unit-files.after" || fail "unit files differ: $(diff "$LAB/unit-files" "$LAB/unit-files.after" | tr '\n' ' ')"
        wait_for 30 three_vote alpha || fail "roles: $(roles alpha)"
}

# A unit that the backup lacks: it runs on, and the restored cluster does not have it.
start_a_later_unit() {
        local h
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl start fleetd || fail "$h does not start"
        done
        cluster_whole
        runs_forever later.service </dev/null
        fleetctl beta start later.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        identities >"$LAB/before"
}

# The service sees another boot ID than a command in the host: the live tree is not trusted.
a_backup_from_before_the_first_checkpoint_restores_wiped_hosts() {
        local host verb command
        write_keys first
        keys_of alpha >"$LAB/keys"
        units_of alpha >"$LAB/unit-files"
        refuses alpha "another fleetd is running" --backup=/root/first
        stop_all
        has_checkpoint alpha && fail "there is a checkpoint already"
        refuses alpha "the folder /root/none: No such file or directory; create it first" --backup=/root/none/first
        host_exec alpha sh -c 'mkdir /root/small && mount -t tmpfs -o size=64k none /root/small' || fail "no small disk"
        refuses alpha "Failed to write /root/small/first: no space left in its folder" --backup=/root/small/first
        [ -z "$(host_exec alpha ls -A /root/small)" ] || fail "the full disk has $(host_exec alpha ls -A /root/small)"
        host_exec alpha fleetd --backup=/root/first >"$LAB/out" 2>&1 || fail "backup: $(cat "$LAB/out")"
        grep -q '^Written and verified: cluster' "$LAB/out" || fail "backup: $(cat "$LAB/out")"
        refuses alpha "/root/first exists" --backup=/root/first
        refuses alpha "this host has the state of a cluster in /var/lib/fleet/tree, which a backup does not replace" --restore=/root/first
        start_a_later_unit
        stop_all
        wipe_and_restore first
        WHAT="the restore" untouched "$(cat "$LAB/before")"
        known alpha later.service && fail "a unit that the backup lacks is in the cluster"
        host=$(hosts_running later.service)
        for verb in why cat status show journal; do
                fleetctl alpha $verb later.service >"$LAB/out" 2>&1 && fail "$verb of a unit that the backup lacks: $(cat "$LAB/out")"
                command=$(sed -n "s/.* runs on $host, .*to keep it, without a restart, run there: \(fleetctl start [^;]*\);.*/\1/p" "$LAB/out")
                [ -n "$command" ] || fail "$verb names no way to keep it: $(cat "$LAB/out")"
        done
        host_exec "$host" $command >"$LAB/out" 2>&1 || fail "$command: $(cat "$LAB/out")"
        grep -q "^Unit later.service runs: taken into the cluster, and not restarted" "$LAB/out" || fail "$command: $(cat "$LAB/out")"
        WHAT="$command" untouched "$(cat "$LAB/before")"
        fleetctl beta destroy later.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 10 runs_nowhere later.service || fail "destroyed, it runs on $(hosts_running later.service)"
        job_ran_once || fail "a finished job ran again"
        identities >"$LAB/before"
}

a_backup_after_a_checkpoint_and_a_reboot_restores_wiped_hosts() {
        local u others
        write_keys second
        keys_of alpha >"$LAB/keys"
        wait_for 10 key_is gamma /second/3/value 3 || fail "gamma does not have the keys"
        units_of alpha >"$LAB/unit-files"
        others=$(identities alpha beta)
        stop_all
        has_checkpoint alpha || fail "a restored host has no checkpoint"
        host_exec gamma rm /etc/systemd/system/multi-user.target.wants/fleetd.service
        host_kill gamma || fail "cannot cut the power"
        hosts_up gamma
        [ "$(host_exec gamma systemctl is-active fleetd)" = inactive ] || fail "fleetd runs after the boot"
        host_exec gamma fleetd --backup=/root/second >"$LAB/out" 2>&1 || fail "backup: $(cat "$LAB/out")"
        host_exec gamma cat /root/second | host_exec alpha sh -c 'cat >/root/second'
        wipe_and_restore second
        WHAT="the restore" untouched "$others" alpha beta
        for u in plain-{1,2,3,4,5,6}.service; do
                wait_for 20 runs_once "$u" || fail "$u runs on: $(hosts_running "$u" | tr '\n' ' ')"
        done
        wait_for 20 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service | tr '\n' ' ')"
        job_ran_once || fail "a finished job ran again"
        identities >"$LAB/before"
}

the_recovered_host_alone_assigns_nothing() {
        local h
        for h in $LAB_HOSTS; do
                host_exec $h systemctl stop fleetd
        done
        host_exec alpha fleetd --recover --force >"$LAB/out" 2>&1 || fail "recover: $(cat "$LAB/out")"
        host_exec alpha systemctl start fleetd
        wait_for 20 writes alpha || fail "it takes no writes"
        wait_for 10 waits_are "beta gamma" || fail "it waits for $(waits_for)"
        fleetctl alpha why plain-1.service | grep -q 'not all hosts have reported their units' || fail "why: $(fleetctl alpha why plain-1.service)"
        sleep 35        # the tested time: hosts are lost after 3 s, and the brake ends after 30
        WHAT="the recovered host" untouched "$(cat "$LAB/before")"
}

hosts_that_join_again_report_their_units_which_keep_running() {
        local h
        for h in beta gamma; do
                host_exec $h sh -c 'rm -rf /var/lib/fleet/*'
                host_exec $h systemctl start fleetd
        done
        wait_for 30 waits_are none || fail "it waits for $(waits_for)"
        cluster_whole
        WHAT="joining again" untouched "$(cat "$LAB/before")"
        fleetctl gamma start plain-1.service everywhere.service >"$LAB/out" 2>&1 || fail "what runs is not known as running: $(cat "$LAB/out")"
        WHAT="a start of what runs" untouched "$(cat "$LAB/before")"
        fleetctl gamma stop plain-1.service >"$LAB/out" 2>&1 || fail "stop: $(cat "$LAB/out")"
        runs_nowhere plain-1.service || fail "stopped, it runs on $(hosts_running plain-1.service)"
        job_ran_once || fail "a finished job ran again"
        wait_for 30 three_vote alpha || fail "roles: $(roles alpha)"
}

scenario a_cluster_with_units a_backup_from_before_the_first_checkpoint_restores_wiped_hosts \
        a_backup_after_a_checkpoint_and_a_reboot_restores_wiped_hosts the_recovered_host_alone_assigns_nothing \
        hosts_that_join_again_report_their_units_which_keep_running
