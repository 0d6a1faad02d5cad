# What every scenario begins with: a bed of its own, named checks, and the words in which they are written.
#
#   . "$(dirname "$0")/scenario.sh"
#   a_thing_behaves_so() { ...; some_command || fail "what is wrong"; }
#   scenario a_thing_behaves_so another_one
#
# Each check prints one line, "ok NAME" or "not ok NAME: why"; the exit status is 1 if any failed. LAB_BUILD is the build
# folder under test. The checks of a scenario run in order on one bed.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
LAB_NAME=${LAB_NAME:-$(basename "$0" .sh)}
LAB_BUILD=${LAB_BUILD:-$top/build}
. "$here/lab.sh"

fail() {
        echo "$*" >"$LAB/why"
        exit 1
}

# Runs the checks named; everything the hosts said is kept when one fails.
scenario() {
        local check why failed=0 start

        trap 'lab_down' EXIT
        lab_up || { for check in "$@"; do echo "not ok $check: the bed could not be made"; done; exit 1; }
        for check in "$@"; do
                rm -f "$LAB/why"
                start=$(date +%s%3N)
                if ("$check"); then
                        printf 'ok %s # %d ms\n' "$check" $(($(date +%s%3N) - start))
                else
                        why=$(cat "$LAB/why" 2>/dev/null)
                        printf 'not ok %s: %s # %d ms\n' "$check" "${why:-ended without a reason}" $(($(date +%s%3N) - start))
                        failed=1
                        lab_testimony >"${LAB_TESTIMONY:-/var/tmp}/$LAB_NAME.$check.log" 2>&1
                fi
        done
        exit $failed
}

# The last words of every host, from its disk.
lab_testimony() {
        local h
        for h in $LAB_HOSTS; do
                [ -d "$LAB/$h/up" ] || continue
                echo "===== $h: $(host_is_on "$h" && echo on || echo off)"
                journalctl --directory="$LAB/$h/up/var/log/journal" --no-pager -o short-precise -n 400 2>&1
                tail -20 "$LAB/$h/console"
        done
}

hosts_up() {
        local h
        for h in "$@"; do
                host_up "$h" || fail "cannot boot $h"
        done
        for h in "$@"; do
                host_wait "$h" || fail "$h has not booted"
        done
}
