# Several daemons without systemd, h1, h2 and so on: sourced by tests that set n_ports, the number of free ports that they use. They need no
# privileges, start no units, and end with the script.

build=${CHECK_BUILD:-build}
program=$build/fleetd/fleetd fleetctl=$build/client/fleetctl
scratch=$(mktemp -d)
declare -A pids=() # by the number of a host; of other processes, by any name
trap 'kill -9 "${pids[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$scratch"' EXIT
read -r -a ports < <(python3 -c '
import socket, sys
all = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in all: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in all])' "$n_ports")

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; tail -qn 3 "$scratch"/log* | sed 's/^/# /'; }
check() { local name=$1; shift; if "$@" >/dev/null 2>&1; then ok "$name"; else not_ok "$name" "$*"; fi; } # NAME COMMAND...
says() { if grep -qF -- "$2" <<<"$3"; then ok "$1"; else not_ok "$1" "'$2' is not in: $3"; fi; }       # NAME WORDS OUTPUT
wait_for() { # SECONDS COMMAND...
        local end=$((SECONDS + $1))
        shift
        until "$@" >/dev/null 2>&1; do
                [ $SECONDS -lt $end ] || return 1
                sleep 0.1
        done
}

# The cluster file is the configuration, so that a start reads what the daemon has written.
host_start() { # HOST OPTION...
        touch "$scratch/conf$1"
        "$program" --config="$scratch/conf$1" --cluster-file="$scratch/conf$1" --state-directory="$scratch/state$1" \
                --runtime-directory="$scratch/run$1" --unit-directory= --listen-socket="$scratch/sock$1" --agent=no --name="h$1" \
                --machine-id="0000000000000000000000000000000$1" "${@:2}" >>"$scratch/log$1" 2>&1 &
        pids[$1]=$!
}
end() { kill -"$1" "${pids[$2]}"; wait "${pids[$2]}" 2>/dev/null; unset "pids[$2]"; } # SIGNAL HOST
ctl() { timeout 120 "$fleetctl" --endpoint="unix://$scratch/sock$1" "${@:2}"; }       # HOST ARGUMENT...
api() { curl -sf -m 10 --unix-socket "$scratch/sock$1" "http://fleet/fleet/v1/$2"; }  # HOST PATH
