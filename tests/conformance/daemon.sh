# Daemons in a scratch folder: sourced by tests. They need no privileges, start no units, and listen on free loopback ports. They end with
# the script.

scratch=$(mktemp -d)
daemon_pids=

daemon_cleanup() {
        local pid
        for pid in $daemon_pids; do
                kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
        done
        rm -rf "$scratch"
}
trap daemon_cleanup EXIT

# Below the ephemeral ports, so that no connection takes it first.
free_port() {
        python3 -c '
import random, socket
while True:
    s, port = socket.socket(), random.randint(10000, 32000)
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        continue
    print(port)
    break'
}

# Checks of a test, by functions that are named after them.
wait_for() { # COMMAND...: for a minute
        local i
        for i in $(seq 1200); do
                "$@" >/dev/null 2>&1 && return 0
                sleep 0.05
        done
        return 1
}
check() { # COMMAND...: its name is that of the result
        if "$@" >"$scratch/said" 2>&1; then echo "ok $1"; else echo "not ok $1: $(tail -"${SAID:-3}" "$scratch/said" | tr '\n' '|')"; fi
}
says() { grep -qF -- "$1" "$scratch/why" || { cat "$scratch/why"; return 1; }; } # WORDS: of the output in $scratch/why

takes_writes() { curl -sf -o /dev/null -X PUT "http://$1/v2/keys/ready" -d value=yes; }

# daemon_start PROGRAM NAME [OPTION...]: returns when the daemon accepts writes. Sets address, and daemon_pid to its process.
daemon_start() {
        local program=$1 name=$2 i
        shift 2
        address=127.0.0.1:$(free_port)
        : >"$scratch/fleetd.conf"
        "$program" --config="$scratch/fleetd.conf" --state-directory="$scratch/$name" --runtime-directory="$scratch/$name-run" \
                --unit-directory= --cluster-file= --listen-socket="$scratch/$name.sock" --listen-client="$address" --agent=no \
                --name="$name" --machine-id="$(printf %s "$name" | md5sum | cut -c1-32)" "$@" >"$scratch/$name.log" 2>&1 &
        daemon_pid=$!
        daemon_pids="$daemon_pids $daemon_pid"
        for i in $(seq 300); do
                takes_writes "$address" && return 0
                kill -0 "$daemon_pid" 2>/dev/null || break
                sleep 0.1
        done
        sed 's/^/# /' "$scratch/$name.log"
        return 1
}

# The last line of a daemon's log, for a result.
daemon_word() { tail -1 "$scratch/$1.log"; }

# Sequences of etcd-v2.jsonl that fleetd answers differently, one a line.
deviations() { sed -E '/^#/d; s/: .*//' "$here/deviations"; }

# player ADDRESS [OPTION...]: replays the recorded sequences, and prints a result for each.
player() {
        local address=$1 verdict name run deviating=() others=()
        shift
        while read -r name; do
                deviating+=(--only "$name")
                others+=(--skip "$name")
        done < <(deviations)
        # Sanitizers and busy machines are slow: wait longer for expected events, but not for those that must be absent, nor for those that a
        # deviating sequence does not get.
        python3 "$here/replay.py" "http://$address" "$here/etcd-v2.jsonl" --verbose --patience 3 --header-wait 10 "${others[@]}" "$@" >"$scratch/results" 2>&1
        python3 "$here/replay.py" "http://$address" "$here/etcd-v2.jsonl" --verbose --patience 0.2 --header-wait 10 "${deviating[@]}" >"$scratch/results-deviating" 2>&1
        for run in results results-deviating; do
                sed 's/^/# /' "$scratch/$run"
                grep -qE '^[0-9]+ passed, [0-9]+ failed$' "$scratch/$run" || echo "not ok player_ends: $(tail -1 "$scratch/$run")"
        done
        cat "$scratch/results-deviating" >>"$scratch/results"
        grep -E '^(ok  |BAD ) ' "$scratch/results" | while read -r verdict name _; do
                name=${name%:}
                case $verdict in
                ok) meant "$name" && echo "not ok $name: agrees with etcd, but is among the deviations" || echo "ok $name" ;;
                BAD) meant "$name" && echo "ok $name (otherwise, as meant)" || echo "not ok $name: $(grep -m1 -F "FAIL $name #" "$scratch/results" | cut -c1-300)" ;;
                esac
        done
}
meant() { deviations | grep -qxF "$1"; }

# daemon_ends NAME PID: the daemon still runs, and exits with status 0 after SIGTERM.
daemon_ends() {
        kill -0 "$2" 2>/dev/null && echo "ok ${1}_lives" || echo "not ok ${1}_lives: $(daemon_word "$1")"
        kill -TERM "$2"
        wait "$2" && echo "ok ${1}_ends_well" || echo "not ok ${1}_ends_well: exit status $?: $(daemon_word "$1")"
}
