#!/bin/bash
# The size of the program, and the memory of a whole daemon: see memory.py. The optimised build: a sanitizer's allocator returns no memory.
# Takes 20 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=$(realpath "${LAB_BUILD:-build}")

flock "$build/config.status" make -s -C "$build" fleetd/fleetd >/dev/null || { echo "not ok builds: fleetd does not compile"; exit 1; }
folder=$(mktemp -d "${TMPDIR:-/tmp}/fleetd-test.XXXXXX")
trap 'rm -rf "$folder"' EXIT
strip -o "$folder/stripped" "$build/fleetd/fleetd"
python3 tests/conformance/size.py "$folder/stripped" "$build/fleetd/fleetd.map"
python3 tests/conformance/memory.py "$build/fleetd/fleetd" "$folder" $((10000 + $$ % 2200 * 10 + 9)) || cat "$folder/log"
