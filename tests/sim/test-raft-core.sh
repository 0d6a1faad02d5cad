#!/bin/bash
# The consensus core: many runs that must pass; and runs without one rule, or with one defect of the simulated host (--bug), that must fail: a
# check that finds nothing proves nothing. The number of failed runs is printed. Each rule also has a directed scenario in
# tests/unit/test-raft_core.c, which must fail without it: some defects show once in a thousand runs.
#
# Optimised build; the scenarios run in the sanitized one, because one rule prevents a leak. CORE_RUNS=N: the number of runs that must pass,
# in two processes; CORE_FROM=N: the first seed. See tests/sim/test-raft-core.c. Takes 60 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${LAB_BUILD:-build} checked=${CHECK_BUILD:-build-check}
program=$build/tests/sim/test-raft-core
scenarios=$checked/tests/unit/test-raft_core
runs=${CORE_RUNS:-500} from=${CORE_FROM:-1}
# Only this script sets what it needs: a leak is a finding here.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=1

flock "$build/config.status" make -s -C "$build" tests/sim/test-raft-core >/dev/null || { echo "not ok builds: tests/sim/test-raft-core does not compile"; exit 1; }
flock "$checked/config.status" make -s -C "$checked" tests/unit/test-raft_core >/dev/null || { echo "not ok builds: tests/unit/test-raft_core does not compile"; exit 1; }

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
half=$((runs / 2))
"$program" --seed "$from" --runs $half --faults 1000 >"$logs/a" 2>&1 &
"$program" --seed $((from + half)) --runs $((runs - half)) --faults 1000 >"$logs/b" 2>&1
rc_b=$?
wait $!
rc_a=$?
cat "$logs/a" "$logs/b"
if [ $rc_a = 0 ] && [ $rc_b = 0 ]; then
        hours=$(sed -n 's/ cluster-hours simulated$//p' "$logs/a" "$logs/b" | awk '{ n += $1 } END { printf "%.1f", n }')
        echo "ok holds_in_${runs}_runs_of_1000_faults: $hours cluster-hours"
        missing=$(awk '$1 == "fault" { n[$2] += $3 } END { for (k in n) if (n[k] == 0) printf " %s", k }' "$logs/a" "$logs/b")
        if [ -z "$missing" ]; then echo "ok each_kind_of_fault_happens"; else echo "not ok each_kind_of_fault_happens: none of$missing"; fi
else
        echo "not ok holds_in_${runs}_runs_of_1000_faults: $(grep -h -m1 FAILED "$logs/a" "$logs/b")"
fi
[ -z "${CORE_ONLY:-}" ] || exit

# A defect that is found ends with a failed check. Without its rule the engine may also crash, which counts as found.
must_fail() { # NAME LEAST RUNS OPTIONS...
        local name=$1 least=$2 n=$3 said found
        shift 3
        said=$("$program" --count --runs "$n" --faults 1000 "$@" 2>&1)
        found=${said%% *}
        if [ "${found:-0}" -ge "$least" ] 2>/dev/null; then
                echo "ok $name: found in $found of $n runs"
        else
                echo "not ok $name: found in $found of $n runs, at least $least were expected"
        fi
}

# Which run mode, how many runs, in how many of them at least it must be found: a third of what it was when it was counted.
while read -r rule mode n least; do
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
        # shellcheck disable=SC2086
        must_fail "without_rule_${rule//-/_}_it_fails" "$least" "$n" --mode "$mode" $(for r in ${rule//+/ }; do echo "--rule-off $r"; done) &
done <<END
row1 fixed 100 5
row2 changes 50 8
row3 changes 30 27
row4 changes 100 6
promotion changes 100 2
self-removal changes 50 3
promotion+catch-up changes 50 2
all changes 30 27
END
wait

for rule in row1 row2 row3 row4 row5 row6 vote-result one-install promotion demotion catch-up self-removal shrink majority snapshot own-term start-term; do
        said=$(RULE_OFF=$rule "$scenarios" 2>&1)
        rc=$?
        failed=$(grep -E '^\[  FAILED  \] [a-z]' <<<"$said" | sort -u | sed 's/.*\] //' | tr '\n' ' ')
        [ -n "$failed" ] || ! grep -q LeakSanitizer <<<"$said" || failed=leaks
        if [ $rc != 0 ] && [ -n "$failed" ]; then
                echo "ok the_scenario_of_rule_${rule//-/_}_fails_without_it: ${failed% }"
        else
                echo "not ok the_scenario_of_rule_${rule//-/_}_fails_without_it: all hold"
        fi
done

for bug in ack-before-sync lose-vote keep-conflicts cut-too-early install-keeps-log; do
        must_fail "a_host_with_${bug//-/_}_fails" 1 50 --bug $bug
done
