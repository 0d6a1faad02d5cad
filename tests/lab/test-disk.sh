#!/bin/bash
# A full disk under /var/lib/fleet, of a follower and of the leader: its replica stops with a message, its units run, the
# others continue to write, and it recovers by itself when there is space. Takes 60 s.
. "$(dirname "$0")/scenario.sh"

health() { host_exec "$1" curl -s -m 5 http://127.0.0.1:2379/health; }
is_well() { [ "$(health "$1")" = '{"health":"true"}' ]; }
is_stopped() { health "$1" | grep -q '"health":"false","reason":"this host.s replica has stopped'; }
said() { host_exec "$1" journalctl -u fleetd --no-pager -o cat | grep -q "$2"; }
status_says() { host_exec "$1" systemctl status fleetd --no-pager | grep -q "Status: .*$2"; }
restarts() { host_exec "$1" systemctl show --value -p NRestarts,MainPID fleetd | tr '\n' ' '; }

list_says() { host_fleetctl "$1" list-machines 2>&1 >/dev/null | grep -q "$2"; }
list_is_quiet() { [ -z "$(host_fleetctl "$1" list-machines 2>&1 >/dev/null)" ]; }

# Write a value that needs new pages of the tree.
put_large() { head -c 100000 /dev/zero | tr '\0' x | host_exec "$1" curl -s -m 5 "http://127.0.0.1:2379/v2/keys/large/$2" -XPUT --data-urlencode value@-; }

small_disk() {
        host_exec "$1" sh -c 'systemctl stop fleetd && cp -a /var/lib/fleet /run/fleet-state && mount -t tmpfs -o size=96M,mode=755 none /var/lib/fleet &&
                cp -a /run/fleet-state/. /var/lib/fleet && rm -r /run/fleet-state && systemctl start fleetd' || fail "$1 gets no small disk"
}
fill() { host_exec "$1" sh -c 'cat /dev/zero >/var/lib/fleet/ballast' 2>/dev/null; }
free_space() { host_exec "$1" rm /var/lib/fleet/ballast || fail "$1 had no ballast"; }

a_cluster_whose_disks_are_small() {
        local h n
        cluster_up
        for h in $LAB_HOSTS; do
                small_disk "$h"
                wait_for 30 is_well "$h" || fail "$h does not come back: $(health "$h")"
        done
        wait_for 30 three_vote alpha || fail "roles: $(roles alpha)"
        for n in 1 2 3; do
                runs_forever plain-$n.service </dev/null
        done
        fleetctl alpha start plain-{1,2,3}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        [ "$(key_put alpha /before kept)" = ok ] || fail "put failed"
}

# $1 is full, $2 is another host, which continues.
full_and_free() {
        local before daemon n start
        before=$(identities)
        daemon=$(restarts "$1")
        wait_for 5 key_is "$1" /before kept || fail "$1 does not know the key"
        fill "$1"
        start=$(date +%s%3N)
        for n in $(seq 40); do
                put_large "$2" $n >/dev/null
                is_stopped "$1" && break
        done
        wait_for 10 is_stopped "$1" || fail "$1 is full, and says: $(health "$1")"
        wait_for 5 writes "$2" || fail "$2 takes no writes while $1 is full: $(key_put "$2" /lab/ping x)"
        echo "# $1: full, known and $2 writes on after $(($(date +%s%3N) - start)) ms" >>"$LAB/figures"
        [ "$(key_get "$1" /before)" = kept ] || fail "$1 does not answer reads"
        [ "$(key_put "$1" /forwarded "$1")" = ok ] || fail "a write at $1 does not go to the leader: $(key_put "$1" /forwarded "$1")"
        key_is "$2" /forwarded "$1" || fail "$2 does not know what was written at $1"
        wait_for 5 said "$1" 'replica.*\(No space left\|is full\)' || fail "the journal of $1 does not say it"
        wait_for 30 said "$1" '^attached, term' || fail "$1 uses no other replica"
        wait_for 30 status_says "$1" 'replica has stopped' || fail "systemctl status does not say it"
        wait_for 10 list_says "$2" "$1: .*replica has stopped" || fail "list-machines says: $(host_fleetctl "$2" list-machines 2>&1)"
        sleep 4 # longer than the time after which a host is lost
        WHAT="a full disk" untouched "$before"
        free_space "$1"
        start=$(date +%s%3N)
        wait_for 20 is_well "$1" || fail "there is space, and $1 says: $(health "$1")"
        echo "# $1: back $(($(date +%s%3N) - start)) ms after there was space" >>"$LAB/figures"
        [ "$(restarts "$1")" = "$daemon" ] || fail "the daemon of $1 was started again: $(restarts "$1"), before $daemon"
        wait_for 10 list_is_quiet "$2" || fail "list-machines still says: $(host_fleetctl "$2" list-machines 2>&1)"
        wait_for 10 writes "$1" || fail "$1 takes no writes: $(key_put "$1" /lab/ping x)"
        [ "$(key_put "$2" /after "$1")" = ok ] || fail "$2 takes no writes"
        wait_for 10 key_is "$1" /after "$1" || fail "$1 does not follow"
        WHAT="a full disk's end" untouched "$before"
}

a_follower_whose_disk_is_full_stops_its_replica_and_recovers() {
        local l=$(leader alpha) h
        for h in $LAB_HOSTS; do
                [ "$h" != "$l" ] || continue
                full_and_free "$h" "$l"
                return
        done
}

a_leader_whose_disk_is_full_transfers_leadership_and_recovers() {
        local l=$(leader alpha) h
        for h in $LAB_HOSTS; do
                [ "$h" != "$l" ] || continue
                full_and_free "$l" "$h"
                return
        done
}

scenario a_cluster_whose_disks_are_small a_follower_whose_disk_is_full_stops_its_replica_and_recovers \
        a_leader_whose_disk_is_full_transfers_leadership_and_recovers
