#!/bin/bash
# fleetctl recover and restore, and fleetd --reset: what is refused, a crash after each step, and the cluster afterwards. systemctl is a script
# that starts and stops the daemons of this test. Takes 50 s, as root.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${CHECK_BUILD:-build}
. "$here/daemon.sh"
[ "$(id -u)" = 0 ] || { echo "ok skipped_without_root"; exit 0; }
program=$(realpath "$build/fleetd/fleetd")
client=$(realpath "$build/client/fleetctl")
(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key")
declare -A peers=([none]=127.0.0.1:1) clients=()
for host in one two three fresh; do peers[$host]=127.0.0.1:$(free_port) clients[$host]=127.0.0.1:$(free_port); done
: >"$scratch/fleetd.conf"
daemon_cleanup() { for host in one two three fresh; do stop $host; done; rm -rf "$scratch"; }

# Each host has a folder with its own fleetd and systemctl.
for host in one two three fresh; do
        mkdir -p "$scratch/bin.$host" "$scratch/$host"
        options="--config=$scratch/fleetd.conf --state-directory=$scratch/$host --runtime-directory=$scratch/$host-run --unit-directory= --cluster-file= --agent=no
                --listen-socket=$scratch/$host.sock --listen-client=${clients[$host]} --name=$host --machine-id=$(printf %s "$host" | md5sum | cut -c1-32)
                --listen-peer=${peers[$host]} --peer-key=$scratch/key"
        cat >"$scratch/bin.$host/fleetd" <<F
#!/bin/bash
case "\$*" in
--verify=*) exec $program "\$@" ;;
*--dry-run*) ;;
--restore=*) [ ! -e "$scratch/restore.fails" ] || exit 1
        [ -z "\$RESTORE_FAULT" ] || export FAULT_POINT=\$RESTORE_FAULT
        [ -z "\$RESTORE_STATUS" ] || { $program ${options//$'\n'/ } "\$@"; exit "\$RESTORE_STATUS"; } ;;
esac
exec $program ${options//$'\n'/ } "\$@"
F
        cat >"$scratch/bin.$host/systemctl" <<F
#!/bin/bash
echo "\$*" >>"$scratch/systemctl.log"
[ ! -e "$scratch/systemctl.fails" ] || exit 1
case "\$*" in
"stop fleetd.service") [ ! -e "$scratch/$host.pid" ] || { kill \$(cat "$scratch/$host.pid") 2>/dev/null
        while kill -0 \$(cat "$scratch/$host.pid") 2>/dev/null; do sleep 0.05; done; rm "$scratch/$host.pid"; } ;;
"is-active fleetd.service") if [ -e "$scratch/$host.pid" ] && kill -0 \$(cat "$scratch/$host.pid") 2>/dev/null; then echo active; else echo inactive; exit 3; fi ;;
"start fleetd.service") setsid "$scratch/bin.$host/fleetd" \$(cat "$scratch/$host.join" 2>/dev/null) >>"$scratch/$host.log" 2>&1 </dev/null & echo \$! >"$scratch/$host.pid" ;;
esac
F
        chmod +x "$scratch/bin.$host/"*
done
start() { echo "${2:+--join=${peers[$2]}}" >"$scratch/$1.join"; "$scratch/bin.$1/systemctl" start fleetd.service; }
stop() { "$scratch/bin.$1/systemctl" stop fleetd.service; }
fleetctl() { PATH=$scratch/bin.$1:$PATH timeout 120 "$client" --endpoint="unix://$scratch/$1.sock" "${@:2}" </dev/null; }
fleetd() { "$scratch/bin.$1/fleetd" "${@:2}"; }
voters() { [ "$(fleetctl "$1" cluster --output=json | grep -o '"seat":"voter"' | wc -l)" = "$2" ]; }
reaches() { [ "$(fleetctl "$1" cluster --output=json | grep -o '"reachable":true' | wc -l)" = "$2" ]; } # with itself
names() { fleetctl "$1" cluster --output=json | grep -q "\"name\":\"$2\""; }
lineage() { sed -n 's/^lineage //p' "$scratch/$1/tree/identity"; }
# refused STATUS MESSAGE HOST ARGUMENT...
refused() {
        local status=$1 message=$2
        shift 2
        fleetctl "$@" >"$scratch/why" 2>&1
        set -- $?
        [ "$1" = "$status" ] && says "$message" || { echo "exit status $1: $(cat "$scratch/why")"; return 1; }
}

# fleetd runs, and a second reset would move away what a host has received since the first.
the_rest_is_printed() {
        ! grep -F "Start fleetd" "$scratch/why" && says "fleetd runs." &&
                says "each other host that has not been reset: systemctl stop fleetd; fleetd --reset; systemctl start fleetd" &&
                says "one that has been reset, and is stopped: systemctl start fleetd"
}

three_hosts_have_keys() {
        start one && wait_for voters one 1 && start two one && start three one && wait_for voters one 3 && wait_for voters three 3 || return 1
        fleetctl one kv set /a 1 && fleetctl one backup "$scratch/backup" && fleetctl one kv set /later 2 && wait_for fleetctl three kv get /later
}

while_a_majority_answers_nothing_is_recovered() {
        : >"$scratch/systemctl.log"
        refused 1 "a majority of the voters answers: nothing is lost" three recover --yes=three || return 1
        kill -9 "$(cat "$scratch/one.pid")" && rm "$scratch/one.pid" && refused 1 "a majority of the voters answers" three recover --yes=three &&
                [ ! -s "$scratch/systemctl.log" ]
}

after_the_loss_it_says_what_is_lost_and_asks() {
        local old
        kill -9 "$(cat "$scratch/two.pid")" && rm "$scratch/two.pid" && wait_for reaches three 1 || return 1
        old=$(lineage three)
        refused 1 "nothing was changed; confirm with --yes=three" three recover || return 1
        says "This host, three, has index" && says "one  voter, lost" && says "two  voter, lost" && says "waiting until each other host has had the time to answer" && says "Changes that only the lost hosts have are lost" &&
                says "No unit is touched" || return 1
        refused 1 "'two' is not the name of this machine, which is three; nothing was changed" three recover --yes=two || return 1
        [ "$(lineage three)" = "$old" ] && [ ! -s "$scratch/systemctl.log" ]
}

a_service_that_does_not_stop_ends_it() {
        : >"$scratch/systemctl.fails"
        refused 1 "fleetd.service was not stopped; nothing was changed" three recover --yes=three || return 1
        rm "$scratch/systemctl.fails" && voters three 3
}

a_crash_before_the_rename_changes_nothing() {
        local old
        old=$(lineage three)
        stop three
        for point in copy-folder-made copy-written copy-synced; do
                FAULT_POINT=$point fleetd three --recover --force && return 1
                [ "$(lineage three)" = "$old" ] && [ -e "$scratch/three/tree.new" ] || return 1
        done
        start three && wait_for fleetctl three cluster && voters three 3 && [ ! -e "$scratch/three/tree.new" ]
}

a_confirmed_recovery_makes_a_cluster_of_one() {
        local old
        old=$(lineage three)
        fleetctl three recover --yes=three >"$scratch/why" 2>&1 || { cat "$scratch/why"; return 1; }
        says "This host is a cluster of one now" && the_rest_is_printed && wait_for fleetctl three kv set /new 1 && voters three 1 || return 1
        [ "$(lineage three)" != "$old" ] && [ "$(fleetctl three kv get /later)" = 2 ] && [ "$(tail -2 "$scratch/systemctl.log" | tr '\n' ' ')" = "stop fleetd.service start fleetd.service " ]
}

a_reset_host_joins_again() {
        start one three && wait_for grep -q "join again" "$scratch/one.log" && stop one || return 1
        fleetd one --reset >"$scratch/why" && says "Log, tree and read bound are in $scratch/one/old/1. No unit was touched." || return 1
        [ -d "$scratch/one/old/1/tree" ] && [ -d "$scratch/one/old/1/raft" ] && [ ! -e "$scratch/one/tree" ] && [ ! -e "$scratch/one/old.new" ] || return 1
        start one three && wait_for fleetctl one kv get /new
}

a_reset_after_a_crash_is_repeated() {
        fleetd one --reset 2>"$scratch/why" && return 1
        says "another fleetd is running" && stop one || return 1
        # After the log was moved: the host does not start with the tree alone, and the next reset completes it. What an earlier one or a join
        # has kept stays.
        (cd "$scratch/one/old/1" && find . -type f -exec md5sum {} +) >"$scratch/kept" && mkdir -p "$scratch/one/old/3/tree" || return 1
        mkdir "$scratch/one/old.new" && mv "$scratch/one/raft" "$scratch/one/old.new/" && fleetd one --reset >"$scratch/why" && says "$scratch/one/old/2." || return 1
        [ -d "$scratch/one/old/2/tree" ] && [ -e "$scratch/one/old/2/raft/meta.a" ] && [ ! -e "$scratch/one/old.new" ] || return 1
        [ -s "$scratch/kept" ] && (cd "$scratch/one/old/1" && md5sum --quiet -c "$scratch/kept") && [ -d "$scratch/one/old/3/tree" ] || return 1
        fleetd two --reset --recover 2>"$scratch/why"
        [ $? = 2 ] && says "--recover, --reset, --backup, --backup-cluster-key and --restore exclude each other" || return 1
        fleetd fresh --reset 2>"$scratch/why"
        [ $? = 1 ] && says "this host has no replica" || return 1
        # A host with a key file that was attached has only the ID of its cluster.
        echo 00000000000000c1 >"$scratch/fresh/cluster" && fleetd fresh --reset >"$scratch/why" || return 1
        [ "$(cat "$scratch/fresh/old/1/cluster")" = 00000000000000c1 ] && [ ! -e "$scratch/fresh/cluster" ] && rm -r "$scratch/fresh/old"
}

a_host_with_state_is_not_restored() {
        start fresh && wait_for voters fresh 1 || return 1
        refused 1 "this host has state: cluster" fresh restore "$scratch/backup" --yes=fresh && says "systemctl stop fleetd; fleetd --reset; then repeat this command" || return 1
        # A daemon that runs and does not answer is not stopped; with one that is stopped, the state is found before the question.
        before=$(wc -l <"$scratch/systemctl.log")
        rm "$scratch/fresh.sock" && refused 1 "another fleetd is running" fresh restore "$scratch/backup" --yes="$(hostname)" && says "nothing was changed" &&
                [ "$(wc -l <"$scratch/systemctl.log")" = "$before" ] && stop fresh &&
                refused 1 "this host has the state of a cluster in $scratch/fresh/tree, which a backup does not replace" fresh restore "$scratch/backup" &&
                says "to move it to old/: systemctl stop fleetd; fleetd --reset" && says "nothing was changed" && ! says "confirm with --yes" && [ ! -e "$scratch/fresh.pid" ] &&
                fleetd fresh --reset >/dev/null || return 1
        start fresh && wait_for voters fresh 1
}

# Such as a wiped host after its boot: it has a tree, and no cluster.
a_host_that_waits_for_admission_is_restored() {
        stop fresh && fleetd fresh --reset >/dev/null && start fresh none && wait_for waits fresh && [ -e "$scratch/fresh/tree" ] || return 1
        echo >"$scratch/fresh.join"
        fleetctl fresh restore "$scratch/backup" --yes="$(hostname)" >"$scratch/why" 2>&1 || { cat "$scratch/why"; return 1; }
        wait_for fleetctl fresh kv get /a && voters fresh 1 && [ ! -e "$scratch/fresh/tree.new" ] && stop fresh && fleetd fresh --reset >/dev/null || return 1
        # The same with a stopped daemon, but not of an attached host.
        start fresh none && wait_for waits fresh && stop fresh && echo >"$scratch/fresh.join" || return 1
        echo 00000000000000c1 >"$scratch/fresh/cluster"
        refused 1 "this host has the state of a cluster in $scratch/fresh/tree" fresh restore "$scratch/backup" --yes="$(hostname)" || return 1
        rm "$scratch/fresh/cluster"
        fleetctl fresh restore "$scratch/backup" --yes="$(hostname)" >"$scratch/why" 2>&1 || { cat "$scratch/why"; return 1; }
        wait_for fleetctl fresh kv get /a && voters fresh 1
}
waits() { fleetctl "$1" list-units 2>&1 | grep -q 'no state of a cluster yet'; }

bad_files_are_not_restored() {
        head -c -1 "$scratch/backup" >"$scratch/cut" && stop fresh && fleetd fresh --reset || return 1
        refused 1 "cut is not a backup, or truncated" fresh restore "$scratch/cut" --yes="$(hostname)" || return 1
        refused 1 "Failed to open $scratch/none: No such file or directory" fresh restore "$scratch/none" || return 1
        refused 2 "restore: expected one file" fresh restore || return 1
        refused 1 "is not the name of this machine" fresh restore "$scratch/backup" --yes=other
}

# Before the rename it is repeated; after it, before the log is made, the next start completes it.
a_crash_of_a_restore_is_repeated_or_completed() {
        for point in copy-folder-made copy-written copy-synced; do
                FAULT_POINT=$point fleetd fresh --restore="$scratch/backup" && return 1
                [ ! -e "$scratch/fresh/tree" ] && [ -e "$scratch/fresh/tree.new" ] || return 1
        done
        RESTORE_FAULT=identity-written refused 1 "fleetd ended during the restore: if fleetctl cluster prints a new lineage, it is in force" fresh restore "$scratch/backup" --yes="$(hostname)" || return 1
        wait_for fleetctl fresh kv get /a && stop fresh && fleetd fresh --reset || return 1
        FAULT_POINT=identity-written fleetd fresh --restore="$scratch/backup" && return 1
        [ -e "$scratch/fresh/tree/restored" ] && [ ! -e "$scratch/fresh/raft/meta.a" ] || return 1
        start fresh && wait_for fleetctl fresh kv set /b 1 && [ "$(fleetctl fresh kv get /a)" = 1 ] && voters fresh 1 || return 1
        [ ! -e "$scratch/fresh/tree/restored" ] && stop fresh && fleetd fresh --reset
}

# fleetd exits with status 3 after a failure behind the rename.
a_restore_that_is_in_force_is_no_failure_without_a_change() {
        RESTORE_STATUS=3 refused 1 "the restore is in force, and is completed by this start of fleetd; check fleetctl status" fresh restore "$scratch/backup" \
                --yes="$(hostname)" && ! says "was not changed" && the_rest_is_printed || return 1
        wait_for fleetctl fresh kv get /a && stop fresh && fleetd fresh --reset
}

a_backup_is_restored_with_guidance() {
        fleetctl fresh restore "$scratch/backup" --yes="$(hostname)" >"$scratch/why" 2>&1 || { cat "$scratch/why"; return 1; }
        says "of three, two, one" && says "All later changes are lost" && says "This host is a cluster of one now" && the_rest_is_printed || return 1
        says "a unit that runs and is not in the backup runs on" || return 1
        wait_for fleetctl fresh kv set /b 1 && [ "$(fleetctl fresh kv get /a)" = 1 ] && ! fleetctl fresh kv get /later && voters fresh 1 || return 1
        fleetctl fresh cluster stop-waiting --yes
        wait_for restore_has_user
}
restore_has_user() { fleetctl fresh events | grep -q "the cluster was restored at index .* by $(id -un)"; }

# A fleetd without state would make a new one, which is not replaced by a backup.
stays_stopped() { [ ! -e "$scratch/$1.pid" ] && [ ! -e "$scratch/$1/tree" ]; }

keys_are_saved_and_given_back() {
        mkdir -m 700 "$scratch/fresh/secrets" && printf '%064d\n' 7 >"$scratch/fresh/secrets/key.3" && chmod 600 "$scratch/fresh/secrets/key.3" || return 1
        refused 1 "Keep it apart from the backups" fresh backup --cluster-key="$scratch/keys" && says "nothing was changed; confirm with --yes" && [ ! -e "$scratch/keys" ] || return 1
        fleetctl fresh backup --cluster-key="$scratch/keys" --yes >"$scratch/why" 2>&1 && says "keys has 1 key of cluster" && [ "$(stat -c %a "$scratch/keys")" = 600 ] || return 1
        refused 1 "keys exists: cluster keys do not replace a file" fresh backup --cluster-key="$scratch/keys" --yes || return 1
        refused 1 "Failed to create $scratch/none/keys: No such file or directory" fresh backup --cluster-key="$scratch/none/keys" --yes || return 1
        refused 2 "expected no other file" fresh backup --cluster-key="$scratch/keys2" --yes "$scratch/backup2" || return 1
        refused 1 "this host has no cluster key: run the command on a voter or standby" three backup --cluster-key="$scratch/keys2" --yes || return 1

        fleetctl fresh backup "$scratch/backup2" && stop fresh && fleetd fresh --reset && rm -r "$scratch/fresh/secrets" || return 1
        head -c -1 "$scratch/keys" >"$scratch/keys.cut" && sed 's/^cluster 0/cluster 1/; t; s/^cluster ./cluster 0/' "$scratch/keys" >"$scratch/keys.other" || return 1
        refused 1 "keys.cut is no file of fleetctl backup --cluster-key, or truncated; use another copy" fresh restore --cluster-key="$scratch/keys.cut" --yes="$(hostname)" "$scratch/backup2" || return 1
        says "nothing was changed" && stays_stopped fresh || return 1
        refused 1 "the backup is of cluster" fresh restore --cluster-key="$scratch/keys.other" --yes="$(hostname)" "$scratch/backup2" && [ ! -e "$scratch/fresh/secrets/key.3" ] && stays_stopped fresh || return 1
        refused 1 "Failed to open $scratch/none: No such file or directory" fresh restore --cluster-key="$scratch/none" "$scratch/backup2" || return 1
        touch "$scratch/restore.fails" # for another reason, behind the check of the arguments
        refused 1 "the state of this host was not changed; fleetd stays stopped" fresh restore --cluster-key="$scratch/keys" --yes="$(hostname)" "$scratch/backup2" &&
                stays_stopped fresh || return 1
        rm "$scratch/restore.fails"
        fleetctl fresh restore --cluster-key="$scratch/keys" --yes="$(hostname)" "$scratch/backup2" >"$scratch/why" 2>&1 || { cat "$scratch/why"; return 1; }
        [ "$(cat "$scratch/fresh/secrets/key.3")" = "$(printf '%064d' 7)" ] && [ "$(stat -c %a "$scratch/fresh/secrets/key.3")" = 600 ] && wait_for fleetctl fresh kv get /b
}

# fresh, one and two vote; three is a standby, and has what two lacks.
a_replica_that_has_less_is_not_recovered() {
        stop three && stop one && rm -rf "$scratch/one" "$scratch/two" "$scratch/three" && mkdir "$scratch/one" "$scratch/two" "$scratch/three" || return 1
        start one fresh && start two fresh && wait_for voters fresh 3 && start three fresh && wait_for fleetctl three kv get /b || return 1
        wait_for names two three && stop two && fleetctl fresh kv set /more 3 && wait_for fleetctl three kv get /more || return 1
        kill -9 "$(cat "$scratch/fresh.pid")" "$(cat "$scratch/one.pid")" && rm "$scratch/fresh.pid" "$scratch/one.pid" && start two && wait_for fleetctl two cluster || return 1
        refused 1 "three has more entries than this host, and can be reached: run fleetctl recover on three" two recover --yes=two || return 1
        says "three  standby, reachable, last entry" && says "one  voter, lost" || return 1
        refused 1 "nothing was changed; confirm with --yes=three" three recover && says "two  voter, reachable, last entry"
}

# The answer of a host that reaches another voter, which has a leader or is of an older version: it sends no end of its log.
a_voter_that_does_not_send_its_last_entry_is_not_left_behind() {
        python3 - "$scratch/silent.sock" <<'P' &
import http.server, json, socketserver, sys
answer = {"machine": "a", "name": "silent", "index": 9, "lastIndex": 5, "lastTerm": 2, "staleSec": 9, "attemptMs": 0, "voters": [
    {"id": "a", "name": "silent", "seat": "voter", "reachable": True, "lastIndex": 5, "lastTerm": 2}, {"id": "b", "name": "led", "seat": "voter", "reachable": True},
    {"id": "c", "name": "gone", "seat": "voter", "reachable": False}, {"id": "d", "name": "lost", "seat": "voter", "reachable": False}]}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self): return ""
    def log_message(self, *args): pass
socketserver.UnixStreamServer(sys.argv[1], Handler).serve_forever()
P
        local server=$! r
        mkdir -p "$scratch/bin.silent"
        wait_for [ -S "$scratch/silent.sock" ]
        refused 1 "led can be reached, and does not send its last entry: it has a leader, or runs an older version. Run fleetctl status on led" silent recover --yes=silent &&
                says "led  voter, reachable, last entry unknown" && says "gone  voter, lost"
        r=$?
        kill $server
        return $r
}

while_a_recovered_host_answers_no_second_one_is_recovered() {
        fleetctl three recover --yes=three >"$scratch/why" 2>&1 || { cat "$scratch/why"; return 1; }
        wait_for fleetctl three kv set /only 4 || { echo "no leader"; fleetctl three status; tail -3 "$scratch/three.log"; return 1; }
        refused 1 "a host of another lineage of this cluster answers at ${peers[three]}" two recover --yes=two || return 1
        says "let this one join it: systemctl stop fleetd; fleetd --reset" && ! says "was changed" || return 1
        stop three && wait_for refused 1 "nothing was changed; confirm with --yes=two" two recover
}

check three_hosts_have_keys
check while_a_majority_answers_nothing_is_recovered
check after_the_loss_it_says_what_is_lost_and_asks
check a_service_that_does_not_stop_ends_it
check a_crash_before_the_rename_changes_nothing
check a_confirmed_recovery_makes_a_cluster_of_one
check a_reset_host_joins_again
check a_reset_after_a_crash_is_repeated
check a_host_with_state_is_not_restored
check a_host_that_waits_for_admission_is_restored
check bad_files_are_not_restored
check a_crash_of_a_restore_is_repeated_or_completed
check a_restore_that_is_in_force_is_no_failure_without_a_change
check a_backup_is_restored_with_guidance
check keys_are_saved_and_given_back
check a_replica_that_has_less_is_not_recovered
check a_voter_that_does_not_send_its_last_entry_is_not_left_behind
check while_a_recovered_host_answers_no_second_one_is_recovered
