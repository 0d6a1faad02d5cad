#!/bin/bash
# The search for expensive requests: known scenes stay within their bound, a short search finds none above it, and with the
# limits taken out it finds what they are there for. SEARCH_SEED=N and SEARCH_SCENES=N look further; CHECK_ALL=yes does, too.
# Takes 200 s.
here=$(cd "$(dirname "$(realpath "$0")")" && pwd)
top=$(cd "$here/../.." && pwd)
build=${LAB_BUILD:-$top/build-lab}
[ ! -w "${CHECK_TMP:-/dev/shm}" ] || export TMPDIR=${CHECK_TMP:-/dev/shm}
[ "${CHECK_ALL:-}" = yes ] && scenes=20000 seed=$(($(date +%s) % 1000000)) || scenes=40 seed=1
scenes=${SEARCH_SCENES:-$scenes} seed=${SEARCH_SEED:-$seed}
scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/fleetd-search-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
. "$top/tests/mutants/scratch.sh"

# result NAME COMMAND...: "ok NAME", or the line that says what is too expensive.
result() {
        local name=$1
        shift
        if "$@" >"$scratch/said" 2>&1; then
                cat "$scratch/said"
                echo "ok $name"
        else
                cat "$scratch/said"
                echo "not ok $name: $(grep -m1 -E 'too expensive|error|rror:' "$scratch/said" || tail -1 "$scratch/said")"
        fi
}

# Most programs include the header of the limits: only the files that use them are compiled again.
without_limits() {
        scratch_copy && scratch_patch costs-without-limits long-keys-in-order && (
                cd "$scratch/tree" && touch -r "$top/kvstore/command/cost.h" kvstore/command/cost.h &&
                        grep -rlE 'COST_[A-Z]|kvstore/(budget|propose_internal)\.h' --include='*.c' kvstore tests/search | xargs touch
        ) && scratch_make "" tests/search/expensive
}

found() { ! "$scratch/tree/build/tests/search/expensive" --seed 1 --scenes 300 --only "$1" --rows 0 >"$scratch/found" && tail -2 "$scratch/found" && grep -q "^found" "$scratch/found"; }

result the_search_is_built flock "$build/config.status" make -s -C "$build" tests/search/expensive
result each_known_scene_is_within_its_bound "$build/tests/search/expensive" --play "$here/scenes"
result "a_search_of_${scenes}_scenes_from_seed_${seed}_finds_none_without_a_bound" "$build/tests/search/expensive" --seed "$seed" --scenes "$scenes"
result the_search_is_built_without_limits without_limits
result a_transaction_without_a_limit_is_found found txn
result a_directory_of_long_keys_in_order_is_found found delete-dir
