#!/bin/bash
# The key API against what a real etcd answered: one daemon, every recorded sequence, but for the deviations that are meant.
set -u
here=$(cd "$(dirname "$0")" && pwd)
program=${CHECK_BUILD:-build}/fleetd/fleetd
. "$here/daemon.sh"

daemon_start "$program" || { echo "not ok daemon_starts: $(tail -1 "$scratch/log")"; exit 1; }

# Sanitizers and busy machines are slow: more patience for what has to come, none for what must not.
python3 "$here/replay.py" "http://$address" "$here/etcd-v2.jsonl" --verbose --patience 3 --header-wait 10 >"$scratch/results" 2>&1
sed "s/^/# /" "$scratch/results"
grep -qE '^[0-9]+ passed, [0-9]+ failed$' "$scratch/results" || echo "not ok player_ends: $(tail -1 "$scratch/results")"

meant() { grep -qF "$1: " <(grep -v '^#' "$here/deviations"); }

grep -E '^(ok  |BAD ) ' "$scratch/results" | while read -r verdict name _; do
        name=${name%:}
        case $verdict in
        ok) meant "$name" && echo "not ok $name: agrees with etcd, but is among the deviations" || echo "ok $name" ;;
        BAD) meant "$name" && echo "ok $name (otherwise, as meant)" || echo "not ok $name: $(grep -m1 -F "FAIL $name #" "$scratch/results" | cut -c1-300)" ;;
        esac
done

kill -0 "$daemon_pid" 2>/dev/null && echo "ok daemon_lives" || echo "not ok daemon_lives: $(tail -1 "$scratch/log")"
kill -TERM "$daemon_pid"
wait "$daemon_pid" && echo "ok daemon_ends_well" || { echo "not ok daemon_ends_well: exit status $?"; cat "$scratch/log"; }
daemon_pid=
