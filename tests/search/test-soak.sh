#!/bin/bash
# Three voters with 256 MiB of memory and a quota of 64 MiB each serve expensive and ordinary requests: see soak.py. 30 s;
# CHECK_ALL=yes: an hour. SOAK_SECONDS=N and SOAK_SEED=N select others. SOAK_P99_MS=50 also checks the 99th percentile of ordinary requests,
# which needs a machine without other work. Takes 50 s.
set -u
here=$(cd "$(dirname "$(realpath "$0")")" && pwd)
top=$(cd "$here/../.." && pwd)
. "$top/tests/conformance/daemon.sh"
program=$(realpath "${LAB_BUILD:-$top/build-lab}/fleetd/fleetd")
memory=$((256 * 1024 * 1024))
[ "${CHECK_ALL:-}" = yes ] && seconds=3600 seed=$(($(date +%s) % 1000000)) || seconds=30 seed=1

(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/key")
printf '#!/bin/bash\nexec prlimit --data=%s "%s" "$@"\n' $memory "$program" >"$scratch/limited"
chmod +x "$scratch/limited"

voters() { [ "$(curl -sf -m 2 --unix-socket "$scratch/h1.sock" http://fleet/fleet/v1/cluster | grep -o '"seat":"voter"' | wc -l)" = "$1" ]; }

hosts=() peers=()
for i in 1 2 3; do
        peers[i]=127.0.0.1:$(free_port)
        daemon_start "$scratch/limited" h$i --quota=64M --listen-peer="${peers[i]}" --peer-key="$scratch/key" ${peers[i - 1]:+--join="${peers[1]}"} ||
                { echo "not ok h${i}_starts: $(daemon_word h$i)"; exit 1; }
        hosts[i]=$daemon_pid,$address,$scratch/h$i.sock
done
for i in $(seq 600); do
        voters 3 && break
        sleep 0.1
done
voters 3 && echo "ok three_voters" || echo "not ok three_voters: $(daemon_word h1)"

python3 "$here/soak.py" --scenes "$here/scenes" --seconds "${SOAK_SECONDS:-$seconds}" --seed "${SOAK_SEED:-$seed}" --memory $memory \
        ${SOAK_P99_MS:+--p99-ms="$SOAK_P99_MS"} "${hosts[@]}" || echo "not ok soak_ends_well: exit status $?"

stopped=$(grep -hE 'has stopped|cannot apply|is lost:|differs? from' "$scratch"/h?.log | head -1)
[ -z "$stopped" ] && echo "ok no_replica_stops" || echo "not ok no_replica_stops: $stopped"
memory_failed=$(grep -hiE 'no memory|out of memory|Cannot allocate' "$scratch"/h?.log | head -1)
[ -z "$memory_failed" ] && echo "ok no_allocation_fails" || echo "not ok no_allocation_fails: $memory_failed"
for i in 1 2 3; do
        sed "s/^/# h$i: /" "$scratch/h$i.log"
        daemon_ends h$i "${hosts[i]%%,*}"
done
