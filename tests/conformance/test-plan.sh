#!/bin/bash
# What a placement costs, beside that of the release before: see plan.py. PLAN_BEFORE is the program of that release, if it is compiled already.
# Takes 60 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
top=$PWD
build=$(realpath "${LAB_BUILD:-build}")
. tests/lab/build.sh
. tests/lab/before.sh
command -v valgrind >/dev/null || { echo "ok a_placement_costs_as_much_as_in_the_release_before # SKIP: valgrind is not installed"; exit 0; }

flock "$build/config.status" make -s -C "$build" tests/bench/plan tests/bench/rebalance >/dev/null || { echo "not ok builds: tests/bench/plan or rebalance does not compile"; exit 1; }
folder=$(mktemp -d "${TMPDIR:-/tmp}/fleetd-test.XXXXXX")
trap 'rm -rf "$folder"' EXIT

# The release before compiles the program of today in place of one of its own with the same libraries, with the options of the build.
program_before() (
        mkdir "$folder/source" && git -c safe.directory='*' archive "$BEFORE_COMMIT" | tar -x -C "$folder/source" || exit 1
        { echo '#include <stdio.h>'; cat tests/bench/plan.c; } >"$folder/source/tests/bench/step.c"
        top=$folder/source
        eval "set -- $("$build/config.status" --config)"
        BUILD_TARGET=tests/bench/step build_tree "$folder/build" "$folder/log" "$@"
)
before=${PLAN_BEFORE:-}
if [ -z "$before" ] && before_is_known; then
        program_before || { echo "not ok builds: the release before does not compile: $(tail -1 "$folder/log")"; exit 1; }
        before=$folder/build/tests/bench/step
fi
[ -n "$before" ] || echo "ok a_placement_costs_as_much_as_in_the_release_before # SKIP: this repository does not have the commit $BEFORE_COMMIT (a shallow clone?)"
python3 tests/conformance/plan.py "$build/tests/bench/plan" "$before" "$build/tests/bench/rebalance"
