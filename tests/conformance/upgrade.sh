#!/bin/bash
# Three daemons with a key file change between the version before certificates and this one, in both directions, in each state of the change
# from the key file to certificates. By hand: two builds are needed.
#
#       BEFORE=OLD/build CHECK_BUILD=$PWD/build tests/conformance/upgrade.sh
set -u
new=$(realpath "${CHECK_BUILD:-build}") old=$(realpath "${BEFORE:-}")
[ -x "$old/fleetd/fleetd" ] || { echo "Usage: BEFORE=BUILD CHECK_BUILD=BUILD tests/conformance/upgrade.sh" >&2; exit 2; }
scratch=$(mktemp -d)
declare -A pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$scratch"' EXIT
read -r -a ports < <(python3 -c '
import socket
all = [socket.socket() for _ in range(8)]
for s in all: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in all])')
openssl rand -hex 32 >"$scratch/key" && chmod 600 "$scratch/key"

not_ok() { echo "not ok $1: $2"; tail -qn 4 "$scratch"/log* | sed 's/^/# /'; }
check() { local name=$1; shift; if "$@" >/dev/null 2>&1; then echo "ok $name"; else not_ok "$name" "$*"; fi; }
wait_for() {
        local end=$((SECONDS + $1))
        shift
        until "$@" >/dev/null 2>&1; do
                [ $SECONDS -lt $end ] || return 1
                sleep 0.1
        done
}
start() { # HOST BUILD
        local join=
        [ "$1" = 1 ] || join=127.0.0.1:${ports[4]}
        touch "$scratch/conf$1"
        "$2/fleetd/fleetd" --config="$scratch/conf$1" --cluster-file= --state-directory="$scratch/state$1" \
                --runtime-directory="$scratch/run$1" --unit-directory= --listen-socket="$scratch/sock$1" --peer-key="$scratch/key" \
                --listen-client="127.0.0.1:${ports[$1]}" --listen-peer="127.0.0.1:${ports[$1 + 3]}" --join="$join" --agent=no --name="h$1" \
                --machine-id="0000000000000000000000000000000$1" >>"$scratch/log$1" 2>&1 &
        pids[$1]=$!
}
end() { kill -TERM "${pids[$1]}" 2>/dev/null; wait "${pids[$1]}" 2>/dev/null; unset "pids[$1]"; }
ctl() { "$new/client/fleetctl" --endpoint="unix://$scratch/sock$1" "${@:2}"; }
cluster() { curl -sf -m 10 --unix-socket "$scratch/sock$1" http://fleet/fleet/v1/cluster; }
put() { curl -sf -m 10 -X PUT "http://127.0.0.1:${ports[$1]}/v2/keys$2" -d value="$3"; }
holds() { [ "$(curl -sf -m 10 "http://127.0.0.1:${ports[$1]}/v2/keys$2?quorum=true" | grep -o '"value":"[^"]*"' | cut -d'"' -f4)" = "$3" ]; }
voters() { [ "$(cluster "$1" | grep -o '"reachable":true,"seat":"voter"' | wc -l)" = "$2" ]; }
logged() { tail -n "+$(($3 + 1))" "$scratch/log$1" | grep -qE -- "$2"; }
lines() { wc -l <"$scratch/log$1"; }

n=0
# roll NAME BUILD HOST...: exchange the program of the hosts one after the other; a write of each host reaches all.
roll() {
        local name=$1 build=$2 h other
        shift 2
        for h; do
                end "$h"
                n=$((n + 1))
                check "${name}_others_write_without_h$h" wait_for 20 put $((h % 3 + 1)) /n$n yes
                start "$h" "$build"
                check "${name}_h${h}_is_back" wait_for 30 voters "$h" 3
                check "${name}_h${h}_writes" wait_for 20 put "$h" /own$n yes
                for other in 1 2 3; do check "${name}_h${h}_is_read_on_h$other" wait_for 20 holds $other /own$n yes; done
        done
}
# An old program on host 3 cannot take part; it says why, the others are not disturbed, and the new program returns.
old_program_is_refused() { # NAME MESSAGE
        local before
        end 3
        before=$(lines 3)
        start 3 "$old"
        check "$1_the_old_program_says_why" wait_for 20 logged 3 "$2" "$before"
        n=$((n + 1))
        check "$1_the_others_write" wait_for 20 put 1 /n$n yes
        check "$1_the_old_program_has_no_part" eval "! holds 3 /n$n yes"
        end 3
        start 3 "$new"
        check "$1_the_new_program_returns" wait_for 30 voters 3 3
        check "$1_and_has_all" wait_for 20 holds 3 /n$n yes
}

for h in 1 2 3; do start $h "$old"; done
check a_cluster_of_the_version_before wait_for 60 voters 1 3
roll upgrade "$new" 1 2 3
roll downgrade "$old" 3 2 1
roll again "$new" 2 3 1
check tokens_wait_for_the_level eval 'ctl 1 cluster secure --yes 2>&1 | grep -q "begin at feature level 5"'

check the_level_rises ctl 1 cluster level 5 --yes
old_program_is_refused level "feature level"
ctl 1 token >/dev/null # creates the CA; the hosts get certificates
for h in 1 2 3; do check h${h}_has_a_certificate wait_for 20 test -e "$scratch/state$h/identity/certificate.pem"; done
old_program_is_refused both "feature level"
check certificates wait_for 30 ctl 1 cluster secure --yes
for h in 1 2 3; do check h${h}_requires_certificates wait_for 10 test -e "$scratch/state$h/identity/certificates"; done
old_program_is_refused certificates "another key, or none|feature level"
