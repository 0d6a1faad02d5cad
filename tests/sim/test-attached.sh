#!/bin/bash
# The scenarios of hosts that enter by tokens, most of them attached, of other seeds than that of make check, for ./check --all. ATTACHED_RUNS=N:
# so many of each program; ATTACHED_FROM=N: the first seed. A seed of test-rotate computes for 7 s, of the others for 0.5 to 4 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${LAB_BUILD:-build}
from=${ATTACHED_FROM:-2} runs=${ATTACHED_RUNS:-10}
export TMPDIR=${CHECK_TMP:-/dev/shm}
[ -w "$TMPDIR" ] || TMPDIR=/tmp

programs="rotate kinds attach rejoin reporting join overload frames"

# shellcheck disable=SC2046
flock "$build/config.status" make -s -C "$build" -j"$(nproc)" $(printf 'tests/sim/test-%s ' $programs) >/dev/null || { echo "not ok builds: the programs do not compile in $build"; exit 1; }

# A seed that fails does not keep the others from being tried.
run() {
        local name=$1 seed said failed=
        for ((seed = from; seed < from + runs; seed++)); do
                said=$(timeout 600 "$build/tests/sim/test-$name" --seed "$seed" --runs 1 2>&1) ||
                        failed="$failed; seed $seed: exit status $?, $(grep -m1 FAILED <<<"$said" || tail -1 <<<"$said")"
        done
        [ -z "$failed" ] && echo "ok ${name}_holds_in_${runs}_more_seeds" || echo "not ok ${name}_holds_in_${runs}_more_seeds: ${failed#; }"
}

# Two processes for two cores.
for name in $programs; do
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
        run "$name" &
done
wait
