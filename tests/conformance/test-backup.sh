#!/bin/bash
# fleetctl backup against real daemons: under writes, verified, and restored on a fresh host; without a leader; files that are cut.
# Takes 25 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${CHECK_BUILD:-build}
. "$here/daemon.sh"
program=$(realpath "$build/fleetd/fleetd")
PATH=$(dirname "$program"):$PATH
(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key")
declare -A peers=() pids=() addresses=()
for host in one two three fresh keyed second third; do peers[$host]=127.0.0.1:$(free_port); done

start() { # HOST [BY]
        daemon_start "$program" "$1" --listen-peer="${peers[$1]}" --peer-key="$scratch/key" ${2:+--join="${peers[$2]}"} || return 1
        pids[$1]=$daemon_pid addresses[$1]=$address
}
end() { kill -"$1" "${pids[$2]}"; wait "${pids[$2]}" 2>/dev/null; }
fleetctl() { timeout 300 "$build/client/fleetctl" --endpoint="unix://$scratch/$1.sock" "${@:2}"; }
offline() { # HOST OPTION: of a daemon that does not run
        "$program" --config="$scratch/fleetd.conf" --state-directory="$scratch/$1" --machine-id="$(printf %s "$1" | md5sum | cut -c1-32)" --name="$1" "${@:2}"
}
voters() { [ "$(fleetctl "$1" cluster --output=json | grep -o '"seat":"voter"' | wc -l)" = "$2" ]; }
value_of() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2"; }

three_hosts_vote() {
        start one && start two one && start three one || return 1
        wait_for voters one 3 && wait_for voters three 3
}

# The first token creates the CA: its private key is in each backup, and what opens it is in none.
the_cluster_has_a_ca() {
        fleetctl one token | grep -q fleet1- && [ -s "$scratch/two/secrets/key.1" ] && wait_for test -s "$scratch/one/identity/certificate.pem"
}

# A client writes to the leader as fast as it can, many requests at a time; each acknowledged number is logged.
begin_load() {
        printf '[Service]\nExecStart=/bin/true\n' >"$scratch/kept.service"
        fleetctl one load --no-block "$scratch/kept.service" || return 1
        python3 - "${addresses[one]}" "$scratch/stop" "$scratch/acknowledged" <<'P' &
import http.client, os, sys, threading, time
host, stop, log = sys.argv[1:]
count = [0] * 16
def work(i):
    c = http.client.HTTPConnection(host)
    while not os.path.exists(stop):
        n = count[i] + 1
        c.request("PUT", "/v2/keys/load/%d/%d" % (i, n % 500), "value=%d" % n, {"Content-Type": "application/x-www-form-urlencoded"})
        r = c.getresponse(); r.read()
        if r.status not in (200, 201): raise SystemExit(r.status)
        count[i] = n
threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
began = time.time()
for t in threads: t.start()
while not os.path.exists(stop):
    with open(log + ".new", "w") as f: f.write("%d %s" % (sum(count), " ".join(map(str, count))))
    os.rename(log + ".new", log)
    time.sleep(0.01)
for t in threads: t.join()
print("%d writes/s" % (sum(count) / (time.time() - began)))
P
        load=$!
        wait_for test -s "$scratch/acknowledged" && sleep 1
}

a_backup_under_writes_is_verified() {
        local host
        printf planted | fleetctl one secret set backed >"$scratch/why" 2>&1 || { cat "$scratch/why"; return 1; }
        for host in one two three; do
                cp "$scratch/acknowledged" "$scratch/before.$host"
                fleetctl $host backup "$scratch/$host.backup" >"$scratch/why" 2>&1 || { cat "$scratch/why"; return 1; }
                says "index " && says ", of three, two, one" && ! grep -q "not confirmed" "$scratch/why" || return 1
                fleetctl nowhere backup --verify "$scratch/$host.backup" || return 1
        done
        [ "$(stat -c %a "$scratch/one.backup")" = 600 ] && [ "$(find "$scratch" -name '*.backup*' | wc -l)" = 3 ]
}

end_load() {
        : >"$scratch/stop"
        wait $load
}

the_description_is_printed_as_json() {
        "$build/client/fleetctl" backup --verify --output=json "$scratch/two.backup" >"$scratch/json" && python3 - "$scratch/json" <<'P'
import json, sys
d = json.load(open(sys.argv[1]))
assert d["hosts"] == ["three", "two", "one"] and d["confirmed"] and d["index"] > 100 and d["level"] >= 4 and d["time"] > 1.7e12 and len(d["lineage"]) == 16, d
P
}

an_offline_backup_has_the_same_form() {
        end TERM three
        offline three --backup="$scratch/offline.backup" && start three one && wait_for voters three 3 || return 1
        fleetctl nowhere backup --verify "$scratch/offline.backup" >"$scratch/why" 2>&1 && says ", of three, two, one" && says "not confirmed by a leader"
}

without_a_leader_a_backup_says_so() {
        end KILL two
        end KILL three
        wait_for eval '! fleetctl one kv set /unacknowledged 1' || return 1
        fleetctl one backup "$scratch/alone.backup" >"$scratch/why" 2>&1 && says "not confirmed by a leader: writes that this host did not have are missing"
}

# All that was acknowledged before the backup began is in it.
a_backup_is_restored_on_a_fresh_host() {
        local index
        offline fresh --restore="$scratch/two.backup" && start fresh || return 1
        index=$(value_of index "$scratch/json")
        fleetctl fresh kv export /load >"$scratch/restored.json" && python3 - "$scratch/restored.json" "$scratch/before.two" <<'P' || return 1
import json, sys
keys = json.load(open(sys.argv[1]))
total, *counts = map(int, open(sys.argv[2]).read().split())
for i, n in enumerate(counts):
    for k in range(max(1, n - 499), n + 1):
        assert int(keys["%d/%d" % (i, k % 500)]) >= k, (i, k, keys["%d/%d" % (i, k % 500)])
print(total, "writes before the backup")
P
        fleetctl fresh list-unit-files --no-legend --fields=unit,dstate | grep -q "kept.service.*loaded" && voters fresh 1 || return 1
        [ "$(fleetctl fresh cluster --output=json | grep -o '"index":[0-9]*' | head -1 | cut -d: -f2)" -gt $((index + (1 << 32))) ]
}

# A token of the backup may have been used or revoked since. The CA is the same, so only the restore ends them.
tokens_of_a_backup_are_void_with_its_cluster_key() {
        local before after
        before=$(fleetctl one ca --output=json | grep -o '"id":"[0-9a-f]*"')
        fleetctl one token ls --output=json | grep -q '"id"' && offline one --backup-cluster-key="$scratch/keys" || return 1
        offline keyed --restore="$scratch/two.backup" --cluster-key="$scratch/keys" && start keyed && wait_for voters keyed 1 || return 1
        wait_for eval 'fleetctl keyed token | grep -q fleet1-' && after=$(fleetctl keyed ca --output=json | grep -o '"id":"[0-9a-f]*"')
        fleetctl keyed secret ls --output=json | grep -q '{"by":"[^"]*","name":"backed"' || return 1 # it is not lost
        [ -n "$before" ] && [ "$after" = "$before" ] && [ "$(fleetctl keyed token ls --output=json | grep -o '"id"' | wc -l)" = 1 ] && end TERM keyed
}

# The host has its cluster file only, and no key file: it makes its identity, listens, and admits others. No restart and no fleetctl init is needed.
a_host_without_state_listens_after_a_restore() {
        end KILL one
        rm -rf "$scratch/one" && printf '[Fleetd]\nListenPeer=%s\n%s' "${peers[one]}" "$1" >"$scratch/one.conf" || return 1
        offline one --config="$scratch/one.conf" --restore="$scratch/two.backup" "${@:2}" || return 1
        daemon_start "$program" one --config="$scratch/one.conf" --cluster-file="$scratch/one.conf" && pids[one]=$daemon_pid || return 1
        fleetctl one token >"$scratch/token" 2>"$scratch/why" || { cat "$scratch/why"; return 1; } # it waits for the listener
}
a_host_that_knew_others_listens_after_a_restore() { a_host_without_state_listens_after_a_restore "Join=${peers[two]}" --cluster-key="$scratch/keys"; }
# It gets no certificate of the former CA, which no host can open: the new CA must not wait for its listener.
a_host_without_state_and_cluster_key_listens_after_a_restore() {
        a_host_without_state_listens_after_a_restore "" && [ ! -e "$scratch/one/secrets/key.1" ] && [ -s "$scratch/one/secrets/key.2" ] &&
                wait_for eval 'fleetctl one status | grep -q "1 secret cannot be opened: backed"'
}
another_host_joins_the_restored_one() {
        : >"$scratch/third.conf"
        daemon_start "$program" third --config="$scratch/third.conf" --cluster-file="$scratch/third.conf" && pids[third]=$daemon_pid || return 1
        fleetctl third join --discard --listen="${peers[third]}" "$(grep -o 'fleet1-[A-Za-z0-9_-]*' "$scratch/token")"
}

# The host has got its key after the backup was made: the restored tree has its former one, by which other hosts would reject it.
a_host_with_a_newer_key_than_the_backup_is_restored() {
        end TERM one
        end KILL third
        rm -rf "$scratch/third"
        offline one --config="$scratch/one.conf" --reset && offline one --config="$scratch/one.conf" --restore="$scratch/two.backup" || return 1
        daemon_start "$program" one --config="$scratch/one.conf" --cluster-file="$scratch/one.conf" && pids[one]=$daemon_pid || return 1
        fleetctl one token >"$scratch/token" 2>"$scratch/why" || { cat "$scratch/why"; return 1; }
        another_host_joins_the_restored_one || return 1
        wait_for fleetctl third kv set /through-third 1 && wait_for eval 'fleetctl one cluster --output=json | grep -q "\"seat\":\"standby\""'
}

# The restored host has no cluster key of the former cluster: a new CA replaces the former one.
another_host_joins_it_by_token() {
        local token
        [ ! -e "$scratch/fresh/secrets/key.1" ] && wait_for test -s "$scratch/fresh/secrets/key.2" || return 1
        token=$(fleetctl fresh token 2>"$scratch/why" | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1)
        [ -n "$token" ] || { cat "$scratch/why"; return 1; }
        : >"$scratch/second.conf"
        daemon_start "$program" second --config="$scratch/second.conf" --cluster-file="$scratch/second.conf" || return 1
        fleetctl second join --discard --listen="${peers[second]}" "$token" || return 1
        wait_for eval 'fleetctl fresh cluster --output=json | grep -q "\"seat\":\"standby\""' && wait_for test -s "$scratch/second/secrets/key.2" || return 1
        fleetctl fresh cluster rekey && wait_for test -s "$scratch/second/secrets/key.3" && wait_for test ! -e "$scratch/fresh/secrets/key.2" || return 1
        fleetctl fresh ca rotate --yes && wait_for eval '! fleetctl fresh ca --output=json | grep -q "\"rotation\""'
}

a_backup_of_the_previous_format_is_restored() {
        gzip -dc "$here/../formats/backup-1.gz" >"$scratch/old.backup" && rm -rf "$scratch/fresh" || return 1
        fleetctl nowhere backup --verify "$scratch/old.backup" >"$scratch/why" 2>&1 && says "a former version wrote it, without a description" || return 1
        offline fresh --restore="$scratch/old.backup" && start fresh || return 1
        [ "$(fleetctl fresh kv get /a)" = 5 ] && [ "$(fleetctl fresh kv get /d/e)" = $'x\ny' ] &&
                fleetctl fresh list-unit-files --no-legend --fields=unit,dstate | grep -q "kept.service.*loaded"
}

# rejects MESSAGE FILE: by the client, and by fleetd.
rejects() {
        fleetctl nowhere backup --verify "$scratch/$2" >"$scratch/why" 2>&1
        [ $? = 1 ] && says "$1" || return 1
        offline empty --restore="$scratch/$2" >"$scratch/why" 2>&1
        [ $? = 1 ] && says "$1" && [ ! -e "$scratch/empty/tree" ] || return 1
        "$program" --verify="$scratch/$2" >"$scratch/why" 2>&1
        [ $? = 1 ] && says "$1"
}
damaged_files_are_rejected() {
        local size n
        size=$(stat -c %s "$scratch/two.backup")
        for n in 0 1 4096 $((size / 2)) $((size - 4096)) $((size - 1)); do
                head -c "$n" "$scratch/two.backup" >"$scratch/cut"
                rejects "cut is not a backup, or truncated: it does not end with its checksum; use another copy" cut || return 1
        done
        cp "$scratch/two.backup" "$scratch/bad" && printf '\377' | dd of="$scratch/bad" bs=1 seek=$((size - 8100)) conv=notrunc status=none
        rejects "bad is corrupt: checksum mismatch; use another copy" bad || return 1
        # A description of version 2, with the checksum of all.
        python3 - "$scratch/two.backup" "$scratch/newer" <<'P' || return 1
import struct, sys
b = bytearray(open(sys.argv[1], "rb").read()[:-4096])
at = len(b) - 4096
assert b[at:at + 8] == b"fltdback", b[at:at + 8]
b[at + 8] = 2
table = []
for i in range(256):
    c = i
    for _ in range(8): c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    table.append(c)
crc = 0xffffffff
for x in b: crc = crc >> 8 ^ table[(crc ^ x) & 255]
page = b"fltdsum1" + struct.pack("<QI", len(b), crc ^ 0xffffffff)
open(sys.argv[2], "wb").write(b + page.ljust(4088, b"\0") + b"fltdsum1")
P
        rejects "newer was written by a newer fleetd; upgrade this host" newer
}

bad_file_names_are_refused() {
        fleetctl one backup "$scratch/two.backup" 2>"$scratch/why"
        [ $? = 1 ] && says "two.backup exists: a backup does not replace a file; choose another name" || return 1
        fleetctl one backup "$scratch/none/x" 2>"$scratch/why"
        [ $? = 1 ] && says "Failed to create $scratch/none/x: its folder does not exist" || return 1
        fleetctl one backup --verify "$scratch" 2>"$scratch/why"
        [ $? = 1 ] && says "is no file: expected a backup" || return 1
        timeout 60 "$build/client/fleetctl" --endpoint="http://${addresses[one]}" backup "$scratch/denied" 2>"$scratch/why"
        [ $? = 1 ] && says "units are managed on the local socket only" && ! compgen -G "$scratch/denied*"
}

check three_hosts_vote
check the_cluster_has_a_ca
check begin_load
check a_backup_under_writes_is_verified
check end_load
sed 's/^/# /' "$scratch/said"
check the_description_is_printed_as_json
check an_offline_backup_has_the_same_form
check bad_file_names_are_refused
check without_a_leader_a_backup_says_so
check a_backup_is_restored_on_a_fresh_host
sed 's/^/# /' "$scratch/said" | grep "writes before"
check tokens_of_a_backup_are_void_with_its_cluster_key
check another_host_joins_it_by_token
check a_host_without_state_and_cluster_key_listens_after_a_restore
check a_host_without_state_listens_after_a_restore "" --cluster-key="$scratch/keys"
check a_host_that_knew_others_listens_after_a_restore
check another_host_joins_the_restored_one
check a_host_with_a_newer_key_than_the_backup_is_restored
end TERM fresh
check a_backup_of_the_previous_format_is_restored
check damaged_files_are_rejected
