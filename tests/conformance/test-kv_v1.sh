#!/bin/bash
# fleet's own key API, /fleet/v1/kv: every behaviour and every error, against one daemon; test-cluster_v2.sh runs it on each of three.
# Takes 20 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
. "$here/daemon.sh"

daemon_start "${CHECK_BUILD:-build}/fleetd/fleetd" alone || { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
python3 "$here/kv_v1.py" "$address" "$scratch/alone.sock" 2>&1
daemon_ends alone "$daemon_pid"

# The limits of a host are the same here.
daemon_start "${CHECK_BUILD:-build}/fleetd/fleetd" small --limit-value-size=2K --limit-key-size=100 || { echo "not ok daemon_starts: $(daemon_word small)"; exit 1; }
refused() { [ "$(curl -s -o "$scratch/answer" -w '%{http_code}' "$@")" = 413 ] && grep -q 'is longer than' "$scratch/answer" && echo ok || echo "not ok"; }
echo "$(head -c 2049 /dev/zero | refused -T - "http://$address/fleet/v1/kv/value/a") a_value_beyond_the_hosts_limit"
echo "$(refused -T /etc/hostname "http://$address/fleet/v1/kv/value/$(printf %0100d 1)") a_key_beyond_the_hosts_limit"
echo "$(refused -H 'Content-Type: application/json' -d '{"writes": [{"action": "set", "key": "/'"$(printf %0100d 1)"'"}]}' "http://$address/fleet/v1/kv/txn") a_key_in_a_transaction_beyond_the_hosts_limit"
daemon_ends small "$daemon_pid"
