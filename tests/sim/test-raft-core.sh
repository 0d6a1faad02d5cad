#!/bin/bash
# The consensus core: many runs that must hold, and runs with one rule switched off, or one bug planted, that must fail: a check
# that finds nothing proves nothing. Optimised build; see tests/sim/test-raft-core.c. In the table: from which seed on to look
# (rare failures would otherwise take long to find).
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${LAB_BUILD:-build}
program=$build/tests/sim/test-raft-core

make -s -C "$build" tests/sim/test-raft-core >/dev/null || { echo "not ok builds: tests/sim/test-raft-core does not compile"; exit 1; }

if said=$("$program" --runs 500 --faults 1000 2>&1); then
        echo "ok holds_in_500_runs_of_1000_faults"
else
        echo "not ok holds_in_500_runs_of_1000_faults: $(grep -m1 FAILED <<<"$said")"
        echo "$said"
fi

# One that is caught ends with a failed check; without its rule the engine may also crash, which is as good.
must_fail() { # NAME SEED OPTIONS...
        local name=$1 seed=$2 said rc
        shift 2
        said=$("$program" --first --runs 400 --faults 1000 --seed "$seed" "$@" 2>&1)
        rc=$?
        echo "$said"
        if grep -q '^FAILED' <<<"$said" || [ $rc -ge 128 ]; then
                echo "ok $name"
        else
                echo "not ok $name: 400 runs from seed $seed on found nothing (status $rc)"
        fi
}

while read -r rule seed; do
        must_fail "without_rule_${rule//-/_}_it_fails" "$seed" --rule-off "$rule"
done <<END
row1 1
row2 1
row3 1
row4 1
row5 340
row6 1370
promotion 1
demotion 150
catch-up 200
self-removal 1
majority 1540
start-term 1300
END

for bug in ack-before-sync lose-vote keep-conflicts cut-too-early install-keeps-log; do
        must_fail "planted_bug_${bug//-/_}_is_found" 1 --bug "$bug"
done
