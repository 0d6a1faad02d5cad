#!/bin/bash
# Whole daemons under faults: 120 seeds that must hold (./check --all continues with 300 new ones in each turn), more than half of them with up to
# twelve attached hosts, some of these with certificates that rotate; ten twice with one result, a quarter with drains, another one with rollouts;
# then the simulations of an old image and of a new lineage. CHECK_FROM=N begins with another seed, CLUSTER_RUNS=N takes that many,
# CLUSTER_HOSTS=N has worlds of that many hosts only, CLUSTER_ONLY=yes leaves out what follows them. See tests/sim/test-cluster.c;
# tests/mutants/test-patches shows that planted bugs are found. Takes 150 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${LAB_BUILD:-build}
program=tests/sim/test-cluster
export TMPDIR=${CHECK_TMP:-/dev/shm}
[ -w "$TMPDIR" ] || TMPDIR=/tmp

builds() { flock "$build/config.status" make -s -C "$build" "$1" >/dev/null || { echo "not ok builds: $1 does not compile in $build"; exit 1; }; }
builds $program

# Two processes for two cores.
from=${CHECK_FROM:-1} runs=${CLUSTER_RUNS:-120}
half=$((runs / 2)) size=${CLUSTER_HOSTS:-} several=${CLUSTER_RUNS:-120}_seeds${CLUSTER_HOSTS:+_of_${CLUSTER_HOSTS}_hosts}
"$build/$program" --seed "$from" --runs $half ${size:+--hosts "$size"} >"$TMPDIR/fleetd-sim-a.$$" 2>&1 &
"$build/$program" --seed $((from + half)) --runs $((runs - half)) ${size:+--hosts "$size"} >"$TMPDIR/fleetd-sim-b.$$" 2>&1
rc_b=$?
wait $!
rc_a=$?
cat "$TMPDIR"/fleetd-sim-[ab].$$
if [ $rc_a = 0 ] && [ $rc_b = 0 ]; then
        hours=$(sed -n 's/.* \([0-9.]*\) cluster-hours.*/\1/p' "$TMPDIR"/fleetd-sim-[ab].$$ | awk '{ n += $1 } END { printf "%.1f", n }')
        attached=$(sed -n 's/.* with attached hosts (\([0-9.]*\) hours.*/\1/p' "$TMPDIR"/fleetd-sim-[ab].$$ | awk '{ n += $1 } END { printf "%.1f", n }')
        echo "ok holds_with_$several: attached hosts in $attached of $hours cluster-hours"
else
        echo "not ok holds_with_$several: $(grep -h -m1 FAILED "$TMPDIR"/fleetd-sim-[ab].$$)"
fi
# One world in four has rollouts, another one drains. A state that no world reaches, or none without a leader or a quorum, is not tested.
if [ "$runs" -ge 120 ]; then
        missing=$(sed -n 's/^ reached //p' "$TMPDIR"/fleetd-sim-[ab].$$ | awk -F': ' '
                { split($3, n, /[^0-9]+/); key = $1 ": " $2; seen[key] += n[1]; leader[key] += n[2]; quorum[key] += n[3] }
                END { for (key in seen) if (!seen[key] || !leader[key] || !quorum[key])
                        printf "%s: %d times, without its leader %d, without a quorum %d; ", key, seen[key], leader[key], quorum[key]
                      if (length(seen) < 11) printf "%d states of 11", length(seen) }')
        absent=$(sed -n 's/^ happened //p' "$TMPDIR"/fleetd-sim-[ab].$$ | awk -F': ' '{ n[$1] += $2 } END { for (k in n) if (!n[k]) printf "no %s; ", k; if (length(n) < 24) printf "%d kinds of 24", length(n) }')
        echo "${absent:+not }ok each_fault_join_move_and_rotation_happens${absent:+: $absent}"
        echo "${missing:+not }ok each_state_of_rollouts_and_drains_is_reached_and_loses_its_leader_and_its_quorum${missing:+: $missing}"
fi
rm -f "$TMPDIR"/fleetd-sim-[ab].$$
[ -z "${CLUSTER_ONLY:-}" ] || exit

if said=$("$build/$program" --seed 1 --runs 10 --seconds 30 --twice 2>&1); then
        echo "ok a_seed_is_one_run"
else
        echo "not ok a_seed_is_one_run: $(tail -n 1 <<<"$said")"
fi

# holds NAME PROGRAM RUNS
holds() {
        local said
        builds "$2"
        if said=$("$build/$2" --seed "$from" --runs "$3" 2>&1); then echo "ok $1: ${said%%$'\n'*}"; else echo "not ok $1: $(grep -m1 FAILED <<<"$said")"; fi
}
# Of planned reboots of all hosts, each state loses its leader and its quorum.
holds planned_reboots_end_or_stop_with_one_host_down_at_a_time tests/sim/test-reboots 24
holds rollouts_drains_moves_and_reboots_share_one_budget tests/sim/test-budget 24
# A host set back to an earlier day; a recovered cluster whose units run where its tree does not know.
holds an_old_image_never_votes tests/sim/test-old_image 50
holds a_recovered_cluster_touches_nothing_that_runs tests/sim/test-lineage 60
