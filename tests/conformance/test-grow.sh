#!/bin/bash
# Five daemons without systemd: a cluster grows from one voter to three, with two standbys, and shrinks to one, while a client writes to all hosts.
# The leader is killed on the way, with CHECK_ALL=yes after each step; then five vote, too, which takes five minutes more: a fourth voter has been up
# for so long. No acknowledged write is lost. Takes 60 s.
set -u
n_ports=11
. "$(dirname "$0")/hosts.sh"

start() { host_start "$1" --listen-client="127.0.0.1:${ports[$1]}"; } # HOST
answers() { curl -sf -m 5 "http://127.0.0.1:${ports[$1]}/health" | grep -q true; }
# Hosts with a replica, voters among them, all reached by the leader.
members() { [ "$(api 1 cluster | python3 -c '
import json, sys
v = json.load(sys.stdin)["voters"]
print(len(v), sum(m["seat"] == "voter" for m in v))')" = "$1 $2" ]; }
join() { ctl "$1" join "$(ctl 1 token | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1)" "--listen=127.0.0.1:${ports[$1 + 5]}"; }
leader() { local host; for host in "${!pids[@]}"; do api "$host" cluster | grep -q '"role":"leader"' && echo "$host" && return; done; }

# Kill the leader at once, and start it again when another one leads.
n_kills=0
kill_leader() {
        local host
        host=$(leader) || return
        kill -9 "${pids[$host]}"
        wait "${pids[$host]}" 2>/dev/null
        unset "pids[$host]"
        [ ${#pids[@]} -le 1 ] || wait_for 20 leader_is_not "$host"
        start "$host"
        wait_for 20 answers "$host"
        n_kills=$((n_kills + 1))
}
leader_is_not() { local now; now=$(leader); [ -n "$now" ] && [ "$now" != "$1" ]; }
step() { # NAME HOSTS VOTERS
        check "$1" wait_for 60 members "$2" "$3"
        [ "${CHECK_ALL:-no}" = yes ] && kill_leader
        return 0
}

start 1
wait_for 60 answers 1
ctl 1 init "--listen=127.0.0.1:${ports[6]}" >/dev/null
wait_for 60 answers 1

# Write one key after the other to all hosts, with at most one request at a time; print those that were acknowledged at the end.
cat >"$scratch/writer.py" <<'END'
import http.client, os, signal, sys
ports, stop, n, written = sys.argv[1:], False, 0, []
def end(*_):
    global stop
    stop = True
signal.signal(signal.SIGTERM, end)
while not stop:
    n += 1
    port = ports[n % len(ports)]
    if os.path.exists(f"{sys.path[0]}/out{n % len(ports) + 1}"):
        continue  # this host is not in the cluster
    try:
        c = http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)
        c.request("PUT", f"/v2/keys/load/{n}", "value=1", {"Content-Type": "application/x-www-form-urlencoded"})
        if c.getresponse().status == 201:
            written.append(n)
        c.close()
    except OSError:
        pass
    except http.client.HTTPException:
        pass
print("\n".join(map(str, written)))
END
for host in 2 3 4 5; do touch "$scratch/out$host"; done
python3 "$scratch/writer.py" "${ports[@]:1:5}" >"$scratch/written" &
writer=$!

# -- Growth --
for host in 2 3 4 5; do start $host; done
for host in 2 3; do
        wait_for 60 answers $host
        join $host >"$scratch/said$host" 2>&1 && rm "$scratch/out$host" || not_ok "h${host}_joins" "$(cat "$scratch/said$host")"
done
step three_vote 3 3
kill_leader
for host in 4 5; do
        wait_for 60 answers $host
        join $host >"$scratch/said$host" 2>&1 && rm "$scratch/out$host" || not_ok "h${host}_joins" "$(cat "$scratch/said$host")"
done
step five_hosts_have_three_voters 5 3
kill_leader
if [ "${CHECK_ALL:-no}" = yes ]; then
        ctl 1 init --voters=5 >/dev/null
        check five_vote wait_for 400 members 5 5
        kill_leader
        ctl 1 init --voters=3 >/dev/null
        check three_of_five_vote wait_for 60 members 5 3
fi

# -- Shrinkage --
leave() { # HOST
        touch "$scratch/out$1"
        ctl "$1" leave --yes >"$scratch/said$1" 2>&1 && ok "h$1_leaves" || not_ok "h$1_leaves" "$(cat "$scratch/said$1")"
        kill -9 "${pids[$1]}" && wait "${pids[$1]}" 2>/dev/null
        unset "pids[$1]"
}
leave 5
step three_of_four_vote 4 3
leave 4
step three_vote_again 3 3
leave 3
step one_of_two_votes 2 1
kill_leader
leave 2
step one_votes 1 1

kill -TERM $writer
wait $writer
n=$(wc -l <"$scratch/written")
echo "# $n acknowledged writes; the leader was killed $n_kills times"
lost=$(python3 - "${ports[1]}" "$scratch/written" <<'END'
import json, sys, urllib.request
there, token = set(), ""
while token is not None:
    with urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/fleet/v1/kv/list?prefix=/load&values=false&limit=10000{token}", timeout=60) as answer:
        page = json.load(answer)
    there.update(node["key"].rsplit("/", 1)[1] for node in page["nodes"])
    token = f"&nextPageToken={page['nextPageToken']}" if page.get("nextPageToken") else None
print(*[w for w in map(str.strip, open(sys.argv[2])) if w not in there])
END
) || lost="the keys cannot be read"
check writes_were_acknowledged [ "$n" -gt 100 ]
[ -z "$lost" ] && ok no_acknowledged_write_is_lost || not_ok no_acknowledged_write_is_lost "$lost"
