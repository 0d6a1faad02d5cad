#!/bin/bash
# Twelve faults in four states of the cluster: no unit is touched that should not be, no acknowledged write is lost, and the cluster is whole again.
# Three hosts and each fault once; with CHECK_ALL=yes, all 48 cells on 3, 5 and 12 hosts, at the same time. MATRIX_HOSTS=N and
# MATRIX_CELLS="kill/idle cut/electing" select others. Takes 70 s.
if [ -n "${CHECK_ALL:-}" ] && [ -z "${MATRIX_HOSTS:-}" ]; then
        out=$(mktemp -d)
        for n in 3 5 12; do
                LAB_NAME=${LAB_NAME:-test-matrix}-$n MATRIX_HOSTS=$n bash "$0" >"$out/$n" 2>&1 || touch "$out/failed" &
        done
        wait
        for n in 3 5 12; do
                sed "s/^\(not \)\?ok [a-z]*/&_on_${n}_hosts/" "$out/$n"
        done
        [ ! -e "$out/failed" ]
        failed=$?
        rm -r "$out"
        exit $failed
fi
n_hosts=${MATRIX_HOSTS:-3}
LAB_HOSTS="alpha $(seq -s ' ' -f 'n%g' $((n_hosts - 1)))" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"

faults="kill stop abort restart reexec bus cut part lose pause power all"
states="idle deploying electing lagging"

# Each fault ends itself, after at most 3 s. A host without power moves its units; with all others, no unit moves.
fault_kill() { signal_daemon KILL "$1"; }
fault_stop() { signal_daemon STOP "$1"; sleep 2; signal_daemon CONT "$1"; }
fault_abort() { signal_daemon ABRT "$1"; }
fault_restart() { host_exec "$1" systemctl restart fleetd; }
fault_reexec() { host_exec "$1" systemctl daemon-reexec; }
fault_bus() { host_exec "$1" systemctl restart dbus.service; }
fault_cut() { host_cut "$1"; sleep 2; host_heal "$1"; }
fault_part() { lab_part "$1" "$2"; sleep 3; lab_join "$1" "$2"; }
fault_lose() { lab_lose "$1"; sleep 3; lab_join "$1"; }
fault_pause() { host_pause "$1"; sleep 2; host_resume "$1"; }
fault_power() { host_kill "$1" && hosts_up "$1"; }
fault_all() {
        local h pids=()
        for h in $LAB_HOSTS; do
                signal_daemon KILL "$h" &
                pids+=($!)
        done
        wait "${pids[@]}"
}

a_cluster_runs_units() {
        local i
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        # shellcheck disable=SC2046
        join_at_once $(others alpha)
        runs_forever everywhere.service <<<$'[X-Fleet]\nGlobal=true'
        for i in 1 2 3 4 5 6; do
                runs_forever steady-$i.service </dev/null
                runs_forever churn-$i.service </dev/null
        done
        fleetctl alpha start everywhere.service steady-{1..6}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 runs_on_all everywhere.service || fail "the global unit runs on: $(hosts_running everywhere.service | tr '\n' ' ')"
}
steady() { identities "$@" | grep -v ' churn-'; }
all_run() {
        local i
        runs_on_all everywhere.service || return 1
        for i in 1 2 3 4 5 6; do runs_once steady-$i.service || return 1; done
}
# Units start and stop until the file of the cell is removed.
churn() {
        local i=0
        while [ -e "$LAB/churns" ]; do
                i=$((i % 6 + 1))
                FLEETCTL_LIMIT=10 fleetctl "$1" start --no-block churn-$i.service
                FLEETCTL_LIMIT=10 fleetctl "$1" stop --no-block churn-$((i % 6 + 1)).service
        done >/dev/null 2>&1
}
churn_is_over() { [ -z "$(find "$LAB_CG"/*/payload/system.slice -maxdepth 2 -type d -name 'churn-*' 2>/dev/null)" ]; }
clean() { ! journalctl --directory="$LAB/$1/up/var/log/journal" -o cat -u fleetd --since="@$2" --no-pager | grep -E 'Assertion|ERROR: AddressSanitizer|runtime error'; }

# cell FAULT STATE NUMBER: the victims are all hosts in turn, and of one fault other ones in each state; its peers are the leader, or another replica, and a host that writes.
cell() {
        local fault=$1 state=$2 hosts victim peer witness leader before since churner=
        since=$(date +%s)
        read -r -a hosts <<<"$LAB_HOSTS"
        victim=${hosts[($3 + ($3 - 1) / 12 * 5) % ${#hosts[@]}]}
        leader=$(leader) || fail "there is no leader"
        peer=$leader
        [ "$victim" != "$leader" ] || peer=$(replicas_of | grep -vx "$victim" | head -1)
        witness=$(others "$victim" | tail -1)
        steady >"$LAB/before"
        writer_start "$witness" 60 "cell-$3"
        case $state in
        deploying) touch "$LAB/churns"; churn "$witness" & churner=$! ;;
        electing) signal_daemon KILL "$leader" ;;
        lagging) signal_daemon STOP "$peer" ;;
        esac
        "fault_$fault" "$victim" "$peer" || fail "the fault cannot be made on $victim"
        [ "$state" != lagging ] || signal_daemon CONT "$peer"
        rm -f "$LAB/churns"
        [ -z "$churner" ] || wait "$churner"
        cluster_whole
        writer_stop "$witness" "cell-$3" "$WRITER"
        wait_for 20 all_run || fail "units run on: $(for u in everywhere steady-{1..6}; do echo "$u: $(hosts_running $u.service | tr '\n' ' ');"; done)"
        if [ "$fault" = power ]; then
                before=$(grep -v "^$victim " "$LAB/before")
                # shellcheck disable=SC2046
                diff <(echo "$before") <(steady $(others "$victim")) | grep '^<' >"$LAB/touched"
        else
                diff "$LAB/before" <(steady) >"$LAB/touched"
        fi
        [ ! -s "$LAB/touched" ] || fail "$fault on $victim touched units: $(grep '^[<>]' "$LAB/touched" | tr '\n' ' ')"
        acknowledged_writes_are_there "cell-$3" "$victim"
        host_exec "$witness" curl -sf -m 10 -XDELETE "http://127.0.0.1:2379/v2/keys/written?recursive=true" >"$LAB/out" || fail "the keys are not deleted: $(cat "$LAB/out")"
        if [ "$state" = deploying ]; then
                fleetctl "$witness" destroy churn-{1..6}.service >"$LAB/out" 2>&1
                wait_for 20 churn_is_over || fail "destroyed, and $(find "$LAB_CG"/*/payload/system.slice -maxdepth 2 -type d -name 'churn-*' | tr '\n' ' ') run"
        fi
        for victim in $LAB_HOSTS; do
                clean "$victim" "$since" >"$LAB/out" || fail "the journal of $victim: $(head -3 "$LAB/out")"
        done
}
replicas_of() { local h; for h in $LAB_HOSTS; do ! host_is_on "$h" || { roles_of "$h" | awk '$2 != "-" { print $1 }'; return; }; done; }

n=0 checks=a_cluster_runs_units
add() { # FAULT STATE
        local name=$1_while_$2
        n=$((n + 1))
        [[ " $checks " != *" $name "* ]] || name=${name}_$n # a cell that is repeated
        eval "$name() { cell $1 $2 $n; }"
        checks="$checks $name"
}
if [ -n "${MATRIX_CELLS:-}" ]; then
        for c in $MATRIX_CELLS; do add "${c%/*}" "${c#*/}"; done
elif [ -n "${CHECK_ALL:-}" ]; then
        for state in $states; do for fault in $faults; do add "$fault" "$state"; done; done
else
        each=($states)
        for fault in $faults; do add "$fault" "${each[(n + n / 4) % 4]}"; done
fi
scenario $checks
