# Clusters with attached hosts, by token: sourced by scenarios after scenario.sh, with LAB_TOKENS=yes.

# The hosts of the cluster as host $1 lists them: "NAME ROLE"; the role of an attached one is "-".
roles_of() { host_fleetctl "$1" --output=json list-machines | python3 -c '
import json, sys
for m in json.load(sys.stdin)["machines"]:
    print(m["hostname"], m.get("role") or "-")'; }
attached() { roles_of alpha | awk '$2 == "-" { print $1 }'; }
replicas() { roles_of alpha | awk '$2 != "-" { print $1 }'; }
has_replicas() { [ "$(roles_of "$1" | awk '$2 != "-"' | wc -l)" = "$2" ]; }
cluster_of() { host_exec "$1" curl -sf -m 10 --unix-socket /run/fleet.sock http://fleet/fleet/v1/cluster; }
# The replica that attached host $1 uses.
replica_of() { cluster_of "$1" | json replica; }
uses_another() { local r; r=$(replica_of "$1"); [ -n "$r" ] && [ "$r" != "$2" ]; }
# An attached host that uses replica $1.
host_of() { local h; for h in $(attached); do [ "$(replica_of "$h")" != "$1" ] || { echo "$h"; return 0; }; done; return 1; }

# Boot hosts with fleetd, each a cluster of one without keys of users.
clusters_of_one() {
        local h
        lab_install "$LAB_BUILD" || fail "make install failed"
        for h in "$@"; do
                host_install "$h" || fail "fleetd cannot be put on $h"
        done
        hosts_up "$@"
        for h in "$@"; do
                wait_for 60 writes "$h" || fail "$h accepts no writes"
                host_exec "$h" curl -sf -XDELETE http://127.0.0.1:2379/v2/keys/lab?recursive=true >"$LAB/out" || fail "$h: $(cat "$LAB/out")"
        done
}

# Let hosts join alpha, all at once, with one token. Figures: until each command has ended, and until each host lists all.
join_at_once() {
        local h start pids=() token all=$(($(machines alpha | wc -l) + $#))
        token=$(host_exec alpha fleetctl token --uses=$# | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1)
        [ -n "$token" ] || fail "no token"
        start=$(now_ms)
        for h in "$@"; do
                host_exec "$h" fleetctl join - <<<"$token" >"$LAB/join.$h" 2>&1 &
                pids+=($!)
        done
        for h in "$@"; do
                wait "${pids[0]}" || fail "join of $h: $(cat "$LAB/join.$h")"
                pids=("${pids[@]:1}")
        done
        echo "# $# hosts joined in $(($(now_ms) - start)) ms; load of the machine $(cut -d' ' -f1 /proc/loadavg)" >>"$LAB/figures"
        for h in alpha "$@"; do
                wait_for 30 knows_machines "$h" "$all" || fail "$h lists $(machines "$h" | wc -l) machines"
                wait_for 10 writes "$h" || fail "$h accepts no writes"
        done
        start=$(($(now_ms) - start))
        echo "# each of them listed $all machines, and accepted a write, after $start ms" >>"$LAB/figures"
        [ $# -lt 20 ] || [ $start -le 20000 ] || fail "$# hosts joined within $start ms"
        [ "$all" -ge 5 ] && all=5
        wait_for 60 has_replicas alpha "$all" || fail "replicas: $(roles_of alpha | tr '\n' ' ')"
}

# SIGNAL HOST. A daemon that was killed before is started after 0.2 s.
signal_daemon() { wait_for 5 host_exec "$2" systemctl kill -s "$1" --kill-whom=main fleetd; }

# kill_at_random N SEED: end or stop daemons N times. Each 50 times the units are compared with $LAB/before, and the writes of a host with and of one
# without a replica with what is stored.
kill_at_random() {
        local i h kind hosts writers
        local -A counts=() pids=()
        read -r -a hosts <<<"$LAB_HOSTS"
        RANDOM=$2
        echo "# seed $2" >>"$LAB/figures"
        for ((i = 1; i <= $1; i++)); do
                if ((i % 50 == 1)); then
                        writers=("$(replicas | head -1)" "$(attached | tail -1)")
                        pids=()
                        for h in "${writers[@]}"; do
                                writer_start "$h" 600 "kills-$i-$h"
                                pids[$h]=$WRITER
                        done
                fi
                h=${hosts[RANDOM % ${#hosts[@]}]}
                kind=$((RANDOM % 5))
                case $kind in
                0) signal_daemon KILL "$h" ;;
                1) signal_daemon ABRT "$h" ;;
                2) host_exec "$h" systemctl restart --no-block fleetd ;;
                3) signal_daemon STOP "$h" && sleep "$((RANDOM % 3)).$((RANDOM % 10))" && signal_daemon CONT "$h" ;;
                4) host_exec "$h" sh -c 'to=$(systemctl show --value -p ExecStart fleetd | sed "s/.*path=\([^ ]*\).*/\1/")
                        cp "$to" "$to.new" && mv "$to.new" "$to" && systemctl restart --no-block fleetd' ;;
                esac || fail "kill $i, kind $kind, cannot be made on $h"
                counts[$kind]=$((${counts[$kind]:-0} + 1))
                sleep "0.$((RANDOM % 9))" # a daemon is also killed during its start
                ((i % 50 == 0 || i == $1)) || continue
                cluster_whole
                for h in "${!pids[@]}"; do
                        writer_stop "$h" "kills-$((i - (i - 1) % 50))-$h" "${pids[$h]}"
                done
                WHAT="one of the kills up to $i" untouched "$(cat "$LAB/before")"
                for h in "${writers[@]}"; do
                        acknowledged_writes_are_there "kills-$((i - (i - 1) % 50))-$h" "$h"
                done
                keys "${writers[0]}" '/written?recursive=true' -XDELETE >"$LAB/out"
        done
        echo "# killed ${counts[0]:-0}, aborted ${counts[1]:-0}, restarted ${counts[2]:-0}, stopped ${counts[3]:-0}, upgraded ${counts[4]:-0} daemons; 0 units touched" >>"$LAB/figures"
}
