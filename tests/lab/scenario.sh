# The base of every scenario: a lab of its own, named checks, and functions for them.
#
#   . "$(dirname "$0")/scenario.sh"
#   a_thing_behaves_so() { ...; some_command || fail "what is wrong"; }
#   scenario a_thing_behaves_so another_one
#
# Each check prints one line, "ok NAME" or "not ok NAME: why"; the exit status is 1 if any failed. LAB_BUILD is the build
# folder under test. The checks of a scenario run in order on one lab.

export LC_ALL=C.UTF-8 # the output of fleetctl depends on it
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
LAB_NAME=${LAB_NAME:-$(basename "$0" .sh)}${LAB_CLONE:+-$LAB_CLONE} # set by ./check: other clones have labs of the same scenarios
LAB_BUILD=${LAB_BUILD:-$top/build}
LAB_TESTIMONY=${LAB_TESTIMONY:-$LAB_BUILD/lab-logs}
. "$here/lab.sh"

fail() {
        echo "$*" >"$LAB/why"
        exit 1
}

# End a check that cannot run here: it counts as passed, with the reason.
skip() {
        echo "SKIP: $*" >"$LAB/skipped"
        exit 0
}

# unpacked NAME PACKAGE...: unpack packages that this machine does not have into a folder of LAB_BUILD, once. Other labs may do the same at the same time.
unpacked() {
        local to=$LAB_BUILD/$1 new p
        shift
        [ ! -d "$to" ] || return 0
        new=$(mktemp -d "$to.XXXXXX") || return 1
        (cd "$new" && { apt-get download -qq "$@" || { apt-get update -qq && apt-get download -qq "$@"; }; }) >"$LAB/out" 2>&1 ||
                { rm -rf "$new"; lab_error "cannot fetch $*: $(tail -2 "$LAB/out")"; return 1; }
        for p in "$new"/*.deb; do
                dpkg -x "$p" "$new" || return 1
        done
        mv -T "$new" "$to" 2>/dev/null || rm -rf "$new"
        [ -d "$to" ]
}

# Run the named checks. When one fails, the journals of all hosts are stored in LAB_TESTIMONY. Figures that checks appended to
# $LAB/figures are printed at the end.
scenario() {
        local check why failed=0 start

        trap 'lab_down' EXIT
        lab_up || { for check in "$@"; do echo "not ok $check: the lab could not be created"; done; exit 1; }
        for check in "$@"; do
                rm -f "$LAB/why" "$LAB/skipped"
                start=$(date +%s%3N)
                if ("$check"); then
                        printf 'ok %s # %s\n' "$check" "$(cat "$LAB/skipped" 2>/dev/null || echo "$(($(date +%s%3N) - start)) ms")"
                else
                        why=$(cat "$LAB/why" 2>/dev/null)
                        printf 'not ok %s: %s # %d ms\n' "$check" "${why:-ended without a reason}" $(($(date +%s%3N) - start))
                        failed=1
                        mkdir -p "$LAB_TESTIMONY"
                        lab_testimony >"$LAB_TESTIMONY/$LAB_NAME.$check.log" 2>&1
                fi
        done
        cat "$LAB/figures" 2>/dev/null
        exit $failed
}

# The end of every host's journal, from its disk.
lab_testimony() {
        local h
        for h in $LAB_HOSTS; do
                [ -d "$LAB/$h/up" ] || continue
                echo "===== $h: $(host_is_on "$h" && echo on || echo off)"
                journalctl --directory="$LAB/$h/up/var/log/journal" --no-pager -o short-precise -n 400 2>&1
                tail -20 "$LAB/$h/console"
        done
}

hosts_up() {
        local h
        for h in "$@"; do
                host_up "$h" || fail "cannot boot $h"
        done
        for h in "$@"; do
                host_wait "$h" || fail "$h has not booted"
        done
}

# --- a cluster ----------------------------------------------------------------------------------------------------

# Install fleetd on all hosts of the lab, boot them, and wait until each lists all machines.
cluster_up() {
        local h
        [ -x "$LAB_BUILD/fleetd/fleetd" ] && [ -x "$LAB_BUILD/client/fleetctl" ] || fail "no fleetd and fleetctl in $LAB_BUILD"
        lab_install "$LAB_BUILD" || fail "make install failed"
        for h in $LAB_HOSTS; do
                host_install "$h" || fail "fleetd cannot be put on $h"
        done
        hosts_up $LAB_HOSTS
        cluster_whole
        wait_for 30 three_vote "${LAB_HOSTS%% *}" || fail "three hosts, and these roles: $(roles "${LAB_HOSTS%% *}")"
}

# Wait until the given hosts list all of LAB_HOSTS and accept writes.
cluster_whole() {
        local h
        for h in ${*:-$LAB_HOSTS}; do
                wait_for 60 knows_machines "$h" "$(wc -w <<<"$LAB_HOSTS")" || fail "$h does not list all machines: $(machines "$h" | tr '\n' ';')"
                wait_for 30 writes "$h" || fail "$h accepts no writes"
        done
}
machines() { host_fleetctl "$1" list-machines --no-legend 2>&1; }
knows_machines() { [ "$(machines "$1" | wc -l)" = "$2" ]; }

# The roles of all machines as listed by host $1: "leader voter voter", with standbys of more hosts between them.
roles() { host_fleetctl "$1" list-machines --no-legend --fields=role 2>/dev/null | LC_ALL=C sort | xargs; }
three_vote() { case "$(roles "$1")" in "leader "*"voter voter") ;; *) false ;; esac; }
writes() { keys "$1" /lab/ping -f -o /dev/null -XPUT -d "value=$RANDOM"; }

# Write the unit file $1 in the folder of the scenario, with the text on stdin.
unit_file() {
        mkdir -p "$LAB/units"
        cat >"$LAB/units/$1"
}

# Run fleetctl with the daemon of host $1, in the folder of the scenario's unit files.
fleetctl() {
        mkdir -p "$LAB/units"
        (cd "$LAB/units" && host_fleetctl "$@")
}

# Write a unit that runs without end; further lines on stdin.
runs_forever() {
        {
                printf '[Unit]\nDescription=%s\n[Service]\nExecStart=/bin/sh -c "echo here is %%n; exec sleep infinity"\nRestart=always\n' "$1"
                cat
        } | unit_file "$1"
}

# The hosts on which a unit has processes, according to the kernel, one per line.
hosts_running() {
        local h
        for h in $LAB_HOSTS; do
                [ -z "$(find "$LAB_CG/$h/payload/system.slice" -type d -name "$1" 2>/dev/null)" ] || echo "$h"
        done
}
runs_on() { [ "$(hosts_running "$1" | tr '\n' ' ')" = "$2 " ]; }
runs_once() { [ "$(hosts_running "$1" | wc -l)" = 1 ]; }
runs_nowhere() { [ -z "$(hosts_running "$1")" ]; }
runs_on_all() { [ "$(hosts_running "$1" | wc -l)" = "$(wc -w <<<"$LAB_HOSTS")" ]; }

# True when fleetctl on host $1 lists unit $2 with the words $3, for example "active running".
lists() { fleetctl "$1" list-units --no-legend --fields=unit,active,sub 2>/dev/null | tr -s '\t ' ' ' | grep -qxF "$2 $3"; }
# status_has HOST PATTERN: another host's view may be some milliseconds behind.
status_has() { fleetctl "$1" status 2>/dev/null | grep -q "$2"; }
known() { fleetctl "$1" list-unit-files --no-legend --fields=unit 2>/dev/null | grep -qxF "$2"; }

# Every unit of the cluster on every running host (or those named): state, process, invocation. Two equal results mean that nothing was
# started, stopped, restarted or moved in between.
identities() {
        local h units
        for h in ${*:-$LAB_HOSTS}; do
                host_is_on "$h" || continue
                units=$(ls "/proc/$(host_init "$h")/root/run/fleet/units" 2>/dev/null | grep -v '@\.' | sort | tr '\n' ' ')
                # Of all units at once, in paragraphs. A call for each would take most of the time of some scenarios.
                # shellcheck disable=SC2086
                [ -z "$units" ] || host_exec "$h" systemctl show -p ActiveState,MainPID,InvocationID,NRestarts -- $units |
                        UNITS=$units awk -v RS= -F '\n' -v host="$h" 'BEGIN { split(ENVIRON["UNITS"], name, " ") }
                                { printf "%s %s ", host, name[NR]; for (i = 1; i <= NF; i++) { sub(/^[^=]*=/, "", $i); printf "%s ", $i }; print "" }'
        done
}

# Fail if identities() differs from an earlier result.
untouched() {
        local before=$1 now
        shift
        now=$(identities "$@")
        [ "$before" = "$now" ] || fail "${WHAT:-it} touched units: $(diff <(echo "$before") <(echo "$now") | grep '^[<>]' | tr '\n' ' ')"
}

# --- keys ---------------------------------------------------------------------------------------------------------

# Send a request to the etcd v2 API of host $1 over its loopback: path, then options of curl.
keys() {
        local h=$1 path=$2
        shift 2
        host_exec "$h" curl -sS -m 10 "$@" "http://127.0.0.1:2379/v2/keys$path"
}

# Print one member of a JSON object on stdin, given by member names in order; nothing if there is none.
json() {
        python3 -c '
import json, sys
try:
    v = json.load(sys.stdin)
    for k in sys.argv[1:]:
        v = v[int(k)] if isinstance(v, list) else v[k]
    print(json.dumps(v) if isinstance(v, (dict, list, bool)) else v)
except (KeyError, IndexError, TypeError, ValueError):
    pass' "$@"
}

key_get() { keys "$1" "$2" 2>/dev/null | json node value; }
key_is() { [ "$(key_get "$1" "$2")" = "$3" ]; }

# Print "ok", or the cause of the answer.
key_put() {
        local answer
        answer=$(keys "$1" "$2" -XPUT -d "value=$3" 2>&1)
        [ "$(json node value <<<"$answer")" = "$3" ] && echo ok && return
        json cause <<<"$answer" | grep . || echo "$answer"
}

# The host of the leader.
leader() {
        local h r
        for h in ${*:-$LAB_HOSTS}; do
                host_is_on "$h" || continue
                r=$(host_fleetctl "$h" --output=json list-machines 2>/dev/null | python3 -c '
import json, sys
m = json.load(sys.stdin)
m = m.get("machines", m) if isinstance(m, dict) else m
print(next((x.get("hostname") or x.get("name", "") for x in m if x.get("role") == "leader"), ""))' 2>/dev/null)
                [ -z "$r" ] || { echo "$r"; return 0; }
        done
        return 1
}

others() { local h; for h in $LAB_HOSTS; do [ "$h" = "$1" ] || echo "$h"; done; }
now_ms() { date +%s%3N; }

# --- writing through a fault --------------------------------------------------------------------------------------

# Start to write keys on host $1 for $2 seconds, with prefix $3; the results are in $LAB/writer.$3.
writer_start() {
        host_exec "$1" python3 - "$3" "$2" <"$here/writer.py" >"$LAB/writer.$3" 2>&1 &
        WRITER=$!
        wait_for 10 grep -q ack "$LAB/writer.$3" || fail "writes do not begin on $1: $(tail -3 "$LAB/writer.$3")"
}

# End the writer of prefix $2 on host $1, with process $3.
writer_stop() {
        host_exec "$1" touch "/run/writer-$2"
        wait "$3"
}

# Longest time without an acknowledged write in the record of prefix $1, in ms.
writer_gap() { awk '$2 == "ack" { if (last && $1 - last > gap) gap = $1 - last; last = $1 } END { print gap + 0 }' "$LAB/writer.$1"; }

# Fail unless every acknowledged write with prefix $1 is read on host $2.
acknowledged_writes_are_there() {
        keys "$2" '/written?quorum=true&recursive=true' >"$LAB/written" || fail "$2 cannot list what was written"
        python3 - "$1" "$LAB/writer.$1" "$LAB/written" <<'END' || fail "acknowledged writes of $1 are missing on $2: $(cat "$LAB/lost")"
import json, sys
prefix, record, listing = sys.argv[1:]
there = {n["key"].rsplit("/", 1)[1] for n in json.load(open(listing))["node"].get("nodes", [])}
acks = ["%s-%s" % (prefix, l.split()[2]) for l in open(record) if " ack " in l]
lost = [a for a in acks if a not in there]
open(listing[:-len("written")] + "lost", "w").write("%d of %d: %s" % (len(lost), len(acks), lost[:5]))
sys.exit(1 if lost or not acks else 0)
END
}
