#!/bin/bash
# Stores under faults, every answer judged, of fixed seeds; ./check --all goes on with new ones, which may find what is no
# change's fault. At least 100 cluster-hours (virtual time of a cluster with its heartbeats, one hour however many hosts it has),
# a million operations judged, each kind of fault above zero; some seeds twice with one result; planted bugs that must be
# found. See tests/sim/test-stores.c; for longer: tests/sim/test-stores --seed N --runs N --seconds N, or STORES_RUNS=N,
# STORES_FROM=N, STORES_ONLY=yes (no planted bugs) here.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${LAB_BUILD:-build} planted=${CHECK_BUILD:-build-check}
program=tests/sim/test-stores time=tests/sim/test-time
runs=${STORES_RUNS:-104} seconds=1800
export TMPDIR=/dev/shm
[ -w "$TMPDIR" ] || TMPDIR=/tmp

for dir in "$build" "$planted"; do
        make -s -C "$dir" $program $time >/dev/null || { echo "not ok builds: $program does not compile in $dir"; exit 1; }
done

# Two processes for two cores.
from=${STORES_FROM:-1}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
split=("$from" "$runs" $((from + runs)) "$runs")
"$build/$program" --seed "${split[0]}" --runs "${split[1]}" --seconds $seconds >"$logs/a" 2>&1 &
"$build/$program" --seed "${split[2]}" --runs "${split[3]}" --seconds $seconds >"$logs/b" 2>&1
rc_b=$?
wait $!
rc_a=$?
cat "$logs/a" "$logs/b"
sum() { sed -n "$1" "$logs/a" "$logs/b" | awk '{ n += $1 } END { printf "%.1f", n }'; }
if [ $rc_a = 0 ] && [ $rc_b = 0 ]; then
        echo "ok every_answer_holds_in_$((split[1] + split[3]))_seeds"
        hours=$(sum 's/.*passed: \([0-9.]*\) cluster-hours.*/\1/p')
        judged=$(sum 's/.* \([0-9]*\) operations judged.*/\1/p')
        undecided=$(sum 's/.* \([0-9]*\) histories undecided/\1/p')
        missing=$(awk '$1 == "fault" { n[$2] += $3 } END { for (k in n) if (n[k] == 0) printf " %s", k }' "$logs/a" "$logs/b")
        kinds=$(awk '$1 == "fault" { n[$2] += $3 } END { for (k in n) c += n[k] > 0; print c + 0 }' "$logs/a" "$logs/b")
        # What a whole run has to reach, in proportion to a shorter or longer one.
        least() { awk -v whole="$1" -v runs="$runs" 'BEGIN { printf "%d", whole * runs / 104 }'; }
        if [ -z "$missing" ]; then echo "ok each_kind_of_fault_happens: $kinds kinds"; else echo "not ok each_kind_of_fault_happens: none of$missing"; fi
        if [ "${hours%.*}" -ge "$(least 100)" ]; then echo "ok simulates_enough: $hours cluster-hours"; else echo "not ok simulates_enough: $hours cluster-hours"; fi
        if [ "${judged%.*}" -ge "$(least 1000000)" ]; then echo "ok judges_enough: ${judged%.*} operations"; else echo "not ok judges_enough: ${judged%.*} operations"; fi
        if [ "${undecided%.*}" -le $((runs / 6)) ]; then echo "ok histories_are_decided"; else echo "not ok histories_are_decided: $undecided are not"; fi
else
        echo "not ok every_answer_holds_in_$((split[1] + split[3]))_seeds: $(grep -h -m1 FAILED "$logs/a" "$logs/b" || echo "exit statuses $rc_a and $rc_b of the seeds from $from and $((from + runs))")"
        again=$(grep -h -m1 '^replay: ' "$logs/a" "$logs/b")
        again=${again#replay: }
        # The same, smaller.
        # shellcheck disable=SC2086
        [ -z "$again" ] || timeout 120 "$build"/${again%--trace} --shrink
fi
[ -z "${STORES_ONLY:-}" ] || exit

if said=$("$build/$program" --seed 1 --runs 3 --seconds 300 --twice 2>&1); then
        echo "ok a_seed_is_one_run"
else
        echo "not ok a_seed_is_one_run: $(tail -n 1 <<<"$said")"
fi

# In a seed that holds without the bug.
must_be_found() {
        local bug=$1 name=planted_bug_${1//-/_}_is_found said found seed
        shift
        said=$("$planted/$program" --bug "$bug" --seed 1 --runs 60 --seconds "${1:-30}" "${@:2}" 2>&1)
        echo "$said" | tail -n 3
        read -r found seed < <(sed -nE 's/^FAILED ([^ ]*) seed=([0-9]*) .*/\1 \2/p' <<<"$said")
        if [ -z "$seed" ]; then echo "not ok $name: 60 seeds found nothing"
        elif ! "$planted/$program" --seed "$seed" --runs 1 --seconds "${1:-30}" "${@:2}" >/dev/null 2>&1; then echo "not ok $name: seed $seed fails without it, too"
        else echo "ok $name: $found"; fi
}

# Each with its seconds and options, where the common ones leave it to luck.
while read -r bug options; do
        while [ "$(jobs -rp | wc -l)" -ge 2 ]; do wait -n; done
        # shellcheck disable=SC2086
        must_be_found "$bug" $options &
done <<END
ack-before-commit
ack-before-sync
apply-twice-after-restart
serve-before-caught-up
serve-below-floor
apply-twice
results-in-memory
forget-index-on-restore 120
forget-events-on-restart
expire-early
cut-log-without-checkpoint
trust-memory-after-error 30 --only sync-error --only power-cut-and-torn-write --only power-cut-of-all
rebuild-without-majority
END
wait

# What no order of answers can tell: its scenario does.
said=$("$planted/$time" --bug expire-before-input 2>&1)
if grep -q '^FAILED a-refresh-in-a-stall-is-in-time' <<<"$said"; then
        echo "ok planted_bug_expire_before_input_is_found"
else
        echo "not ok planted_bug_expire_before_input_is_found: $(tail -n 1 <<<"$said")"
fi
