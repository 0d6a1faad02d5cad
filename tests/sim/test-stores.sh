#!/bin/bash
# Stores under faults, every answer judged, of fixed seeds; ./check --all continues with new ones (104 in each turn), which may find what is no
# change's fault. At least 79 cluster-hours (virtual time of a cluster with its heartbeats, one hour however many hosts it has),
# a million operations judged, each kind of fault above zero; some seeds twice with one result; a disk that does not
# sync must be found. See tests/sim/test-stores.c; for longer: tests/sim/test-stores --seed N --runs N --seconds N, or STORES_RUNS=N,
# STORES_FROM=N, STORES_ONLY=yes (the fixed seeds alone) here. tests/mutants/test-patches shows that planted bugs are found. Takes 200 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=${LAB_BUILD:-build}
program=tests/sim/test-stores
runs=${STORES_RUNS:-38} seconds=3600
export TMPDIR=${CHECK_TMP:-/dev/shm}
[ -w "$TMPDIR" ] || TMPDIR=/tmp

flock "$build/config.status" make -s -C "$build" $program >/dev/null || { echo "not ok builds: $program does not compile in $build"; exit 1; }

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
        least() { awk -v whole="$1" -v runs="$runs" 'BEGIN { printf "%d", whole * runs / 40 }'; }
        if [ -z "$missing" ]; then echo "ok each_kind_of_fault_happens: $kinds kinds"; else echo "not ok each_kind_of_fault_happens: none of$missing"; fi
        if [ "${hours%.*}" -ge "$(least 79)" ]; then echo "ok simulates_enough: $hours cluster-hours"; else echo "not ok simulates_enough: $hours cluster-hours"; fi
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

# A disk that acknowledges each sync and does none loses acknowledged writes, in a seed that holds with a sound disk.
said=$("$build/$program" --unsynced --seed 1 --runs 60 --seconds 30 2>&1)
read -r found seed < <(sed -nE 's/^FAILED ([^ ]*) seed=([0-9]*) .*/\1 \2/p' <<<"$said")
if [ -z "$seed" ]; then echo "not ok an_unsynced_disk_is_found: 60 seeds found nothing"
elif ! "$build/$program" --seed "$seed" --runs 1 --seconds 30 >/dev/null 2>&1; then echo "not ok an_unsynced_disk_is_found: seed $seed fails with a sound disk, too"
else echo "ok an_unsynced_disk_is_found: $found"; fi
