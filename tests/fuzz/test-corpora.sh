#!/bin/bash
# Every fuzz target over its corpus and over mutated copies of it, in the build with sanitizers. Each run is the same: the
# seed is fixed here. For other inputs set FUZZ_SEED=N and FUZZ_MUTATE=N, or run the program with other --seed= and --mutate=. Takes 180 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${CHECK_BUILD:-build-check}
[ -n "${TMPDIR:-}" ] || [ ! -w /dev/shm ] || export TMPDIR=/dev/shm # some write files, and sync them

for corpus in tests/fuzz/corpus/*/; do
        name=$(basename "$corpus")
        program=$build/tests/fuzz/fuzz-$name
        if [ ! -x "$program" ]; then
                echo "not ok ${name}_meets_any_bytes: $program is not built"
        elif said=$("$program" --mutate="${FUZZ_MUTATE:-2000}" ${FUZZ_SEED:+--seed="$FUZZ_SEED"} "$corpus" 2>&1); then
                echo "$said"
                echo "ok ${name}_meets_any_bytes"
        else
                echo "$said"
                echo "not ok ${name}_meets_any_bytes: $(grep -m1 -E 'ERROR|Assertion|error:' <<<"$said")"
        fi
done
