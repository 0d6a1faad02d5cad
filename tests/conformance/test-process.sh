#!/bin/bash
# The daemon as a process: its exit statuses, its messages to the service manager, and its reaction to signals. Takes 5 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python3 "$here/process.py" "${CHECK_BUILD:-build}/fleetd/fleetd" "$scratch"
[ $? -eq 0 ] && echo "ok ends" || echo "not ok ends"
