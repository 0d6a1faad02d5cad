#!/bin/bash
# Every fuzz target over its corpus and over mutated copies of it, in the build with sanitizers. Each run is the same: the
# seed is fixed here. ./check makes fewer copies, ./check --all more, with other seeds. For other inputs set FUZZ_SEED=N and FUZZ_MUTATE=N, or run
# the program with other --seed= and --mutate=. Takes 40 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${CHECK_BUILD:-build-check}
[ ! -w "${CHECK_TMP:-/dev/shm}" ] || export TMPDIR=${CHECK_TMP:-/dev/shm} # some write files, and sync them

mutate=${FUZZ_MUTATE:-${CHECK_QUICK:+200}}
results=$(mktemp -d) || exit 1
trap 'rm -rf "$results"' EXIT

meets_any_bytes() { # CORPUS NAME
        local program=$build/tests/fuzz/fuzz-$2 said
        if [ ! -x "$program" ]; then
                echo "not ok $2_meets_any_bytes: $program is not built"
        elif said=$("$program" --mutate="${mutate:-500}" ${FUZZ_SEED:+--seed="$FUZZ_SEED"} "$1" 2>&1); then
                echo "$said"
                echo "ok $2_meets_any_bytes"
        else
                echo "$said"
                echo "not ok $2_meets_any_bytes: $(grep -m1 -E 'ERROR|Assertion|error:' <<<"$said")"
        fi
}

# Two processes for two cores.
for corpus in tests/fuzz/corpus/*/; do
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
        name=$(basename "$corpus")
        meets_any_bytes "$corpus" "$name" >"$results/$name" &
done
wait
cat "$results"/*
