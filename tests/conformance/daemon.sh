# One daemon of its own in a scratch folder: sourced by tests and benches. It needs no rights, starts no unit, and
# listens on a free port of loopback: $address. It is gone when the script is.

scratch=$(mktemp -d)
daemon_pid=

daemon_cleanup() {
        [ -z "$daemon_pid" ] || { kill "$daemon_pid" 2>/dev/null && wait "$daemon_pid" 2>/dev/null; }
        rm -rf "$scratch"
}
trap daemon_cleanup EXIT

free_port() {
        python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# daemon_start PROGRAM: returns when it takes writes.
daemon_start() {
        local i
        address=127.0.0.1:$(free_port)
        : >"$scratch/fleetd.conf"
        "$1" --config="$scratch/fleetd.conf" --state-directory="$scratch/state" --runtime-directory="$scratch/run" \
                --unit-directory= --cluster-file= --listen-socket="$scratch/socket" --listen-client="$address" --listen-peer= \
                --agent=no --machine-id=0123456789abcdef0123456789abcdef >"$scratch/log" 2>&1 &
        daemon_pid=$!
        for i in $(seq 300); do
                curl -sf -o /dev/null -X PUT "http://$address/v2/keys/ready" -d value=yes && return 0
                kill -0 "$daemon_pid" 2>/dev/null || break
                sleep 0.1
        done
        echo "# fleetd did not come up:"
        sed 's/^/# /' "$scratch/log"
        return 1
}
