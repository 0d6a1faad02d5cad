#!/bin/bash
# Singletons: many runs of faults, never two processes (tests/sim/test-singleton.c). SINGLETON_RUNS=N: so many; SINGLETON_FROM=N: the first seed.
# Takes 30 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${LAB_BUILD:-build}
program=tests/sim/test-singleton
runs=${SINGLETON_RUNS:-80} from=${SINGLETON_FROM:-1}

flock "$build/config.status" make -s -C "$build" $program >/dev/null || { echo "not ok builds: $program does not compile"; exit 1; }
if said=$("$build/$program" --seed "$from" --runs "$runs" 2>&1); then
        echo "ok never_two_in_${runs}_runs: $said"
else
        echo "not ok never_two_in_${runs}_runs: $(grep -m1 FAILED <<<"$said")"
fi
