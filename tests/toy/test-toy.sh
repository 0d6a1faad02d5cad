#!/bin/bash
# A feature is one folder: the toy of this folder, with a kind of key, routes, a code, a problem, a verb, a controller and a duty, is added to a scratch copy of this
# tree, which is built and run. It adds its files and one line to each of the tables below, and changes nothing else. The recipes of HACKING.md are
# these tables. Takes 90 s.
here=$(cd "$(dirname "$(realpath "$0")")" && pwd)
top=$(cd "$here/../.." && pwd)
build=${LAB_BUILD:-$top/build-lab}
SAID=10
. "$top/tests/mutants/scratch.sh"
. "$top/tests/conformance/daemon.sh" # $scratch, and its removal

# FILE|the line after which|the line.
tables() {
        cat <<'END'
fleetd/daemon_internal.h|        X(reboot)  |        X(toy) \
fleetd/registry/kind_list.h|        X(LAYOUT_CA_ROTATION, |        X(LAYOUT_TOY, toy, ToyRecord) \
units/words.h|        X(VERDICT_SESSION_SINGLE, |        X(VERDICT_TOY_BUSY, "toy-busy", "no host starts a unit") \
fleetd/local.mk|include fleetd/features/reboot/local.mk|include fleetd/features/toy/local.mk
client/verbs.c|        VERB(token)  |        VERB(toy) \
client/verbs/local.mk|CLIENT_UNITY += client/verbs/unity.c|CLIENT_SOURCES += client/verbs/toy.c
END
}

add_line() { # FILE PATTERN LINE
        awk -v after="$2" -v line="${3//\\/\\\\}" '{ print } !done && index($0, after) == 1 { print line; done = 1 } END { exit !done }' "$1" >"$1.new" && mv "$1.new" "$1"
}
each_table_has_one_line() {
        local file after line
        while IFS='|' read -r file after line; do
                add_line "$scratch/tree/$file" "$after" "$line" || { echo "$file has no line that begins with $after"; return 1; }
        done < <(tables)
}
the_toy_is_built() {
        cp -r "$here"/{fleetd,client,tests} "$scratch/tree/" &&
                make -s -C "$scratch/tree/build" -j"$(nproc)" WARN_CFLAGS=-w CFLAGS="-g0 -O0" fleetd/fleetd client/fleetctl tests/unit/test-toy
}
its_duty_and_its_key_work() { (cd "$scratch/tree/build" && srcdir=.. top_srcdir=.. tests/unit/test-toy); }

fleetctl() { "$scratch/tree/build/client/fleetctl" --endpoint="unix://$scratch/alone.sock" "$@"; }
api() { curl -s --unix-socket "$scratch/alone.sock" "${@:2}" "http://fleetd/fleet/v1/$1"; }
a_daemon_with_the_toy_starts() { daemon_start "$scratch/tree/build/fleetd/fleetd" alone; }
the_verb_sets_and_prints_it() { fleetctl toy bear && [ "$(fleetctl toy)" = bear ]; }
events_name_its_kind() {
        api 'events?details=true&after=1' --max-time 2 >"$scratch/why"
        says '"kind":"toy"' && says '"text":"bear"'
}
a_toy_without_a_text_is_rejected() { api toy -X PUT -d '{}' >"$scratch/why" && says '"code":400'; }
a_busy_toy_is_a_problem_until_the_leader_takes_it_away() {
        fleetctl toy busy && api problems >"$scratch/why" && says '"description":"no host starts a unit, for 2 s","kind":"toy"' || return 1
        [ "$(fleetctl toy)" = "busy: no host starts a unit" ] && wait_for eval '[ -z "$(fleetctl toy)" ]'
}

scratch_copy || { echo "not ok the_tree_is_copied"; exit 1; }
check each_table_has_one_line
check the_toy_is_built
check its_duty_and_its_key_work
check a_daemon_with_the_toy_starts
check the_verb_sets_and_prints_it
check events_name_its_kind
check a_toy_without_a_text_is_rejected
check a_busy_toy_is_a_problem_until_the_leader_takes_it_away
daemon_ends alone "$daemon_pid"
