#!/bin/bash
# Stores under faults, every answer judged: 120 seeds that must hold (new ones with each commit, besides the first), each kind of
# fault among them, three seeds twice with one result, and planted bugs that must be found. See tests/sim/test-stores.c; for longer:
# tests/sim/test-stores --seed N --runs N --seconds N.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${LAB_BUILD:-build} planted=${CHECK_BUILD:-build-check}
program=tests/sim/test-stores
runs=${STORES_RUNS:-60}
export TMPDIR=/dev/shm ASAN_OPTIONS=detect_leaks=0
[ -w "$TMPDIR" ] || TMPDIR=/tmp

for dir in "$build" "$planted"; do
        make -s -C "$dir" $program >/dev/null || { echo "not ok builds: $program does not compile in $dir"; exit 1; }
done

# Two processes for two cores; seeds of this commit behind the fixed ones.
fresh=$((16#$(git rev-parse --short=7 HEAD 2>/dev/null || echo 1)))
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
"$build/$program" --seed 1 --runs "$runs" >"$logs/a" 2>&1 &
"$build/$program" --seed $fresh --runs "$runs" >"$logs/b" 2>&1
rc_b=$?
wait $!
rc_a=$?
cat "$logs/a" "$logs/b"
if [ $rc_a = 0 ] && [ $rc_b = 0 ]; then
        echo "ok every_answer_holds_in_$((2 * runs))_seeds"
        missing=$(cat "$logs/a" "$logs/b" | awk '$1 == "fault" { n[$2] += $3 } END { for (k in n) if (n[k] == 0) printf " %s", k }')
        judged=$(cat "$logs/a" "$logs/b" | sed -n 's/.* \([0-9]*\) operations judged.*/\1/p' | awk '{ n += $1 } END { print n + 0 }')
        undecided=$(cat "$logs/a" "$logs/b" | sed -n 's/.* \([0-9]*\) histories undecided/\1/p' | awk '{ n += $1 } END { print n + 0 }')
        if [ -z "$missing" ]; then echo "ok each_kind_of_fault_happens"; else echo "not ok each_kind_of_fault_happens: none of$missing"; fi
        if [ "$judged" -ge $((3000 * runs)) ]; then echo "ok judges_enough: $judged operations"; else echo "not ok judges_enough: $judged operations"; fi
        if [ "$undecided" -le $((runs / 6)) ]; then echo "ok histories_are_decided"; else echo "not ok histories_are_decided: $undecided are not"; fi
else
        echo "not ok every_answer_holds_in_$((2 * runs))_seeds: $(grep -h -m1 FAILED "$logs/a" "$logs/b")"
fi

if said=$("$build/$program" --seed 1 --runs 3 --twice 2>&1); then
        echo "ok a_seed_is_one_run"
else
        echo "not ok a_seed_is_one_run: $(tail -n 1 <<<"$said")"
fi

for bug in ack-before-commit apply-twice-after-restart serve-before-caught-up ask-again-blindly forget-index-on-restore \
           forget-events-on-restart expire-early serve-below-floor trust-memory-after-error; do
        name=planted_bug_${bug//-/_}_is_found
        said=$("$planted/$program" --bug $bug --seed 1 --runs 20 2>&1)
        echo "$said"
        if grep -q '^FAILED' <<<"$said"; then echo "ok $name"; else echo "not ok $name: 20 seeds found nothing"; fi
done
