#!/bin/bash
# Planted values: the secrets of tokens and of units, the keys of hosts and the cluster keys of two daemons appear in no log, command line, environment,
# message, answer, log of the store, tree, backup or core file. Takes 20 s.
set -u
n_ports=6
. "$(dirname "$(realpath "$0")")/hosts.sh"

# Run a command in a folder of its own, where a core file is not limited.
crashing() {
        cd "$(mktemp -d "$scratch/cores.XXXXXX")" && ulimit -c unlimited
        ASAN_OPTIONS=disable_coredump=0 exec "$@"
}
start() { # HOST
        touch "$scratch/conf$1"
        crashing "$program" --config="$scratch/conf$1" --cluster-file="$scratch/conf$1" --state-directory="$scratch/state$1" \
                --runtime-directory="$scratch/run$1" --unit-directory= --listen-socket="$scratch/sock$1" \
                --listen-client="127.0.0.1:${ports[$1]}" --agent=no --name="h$1" \
                --machine-id="0000000000000000000000000000000$1" >>"$scratch/log$1" 2>&1 &
        pids[$1]=$!
}
put() { curl -sf -m 10 -X PUT "http://127.0.0.1:${ports[$1]}/v2/keys$2" -d value="$3"; }
token() { ctl 1 token "$@" 2>>"$scratch/said" | grep -o 'fleet1-[A-Za-z0-9_-]*' | head -1; }
sealed_with() { # NUMBER: both secrets
        [ "$(curl -s --unix-socket "$scratch/sock1" 'http://fleet/v2/keys/_fleet/secret?recursive=true' | grep -o 'clusterKey[^,]*' | sort | uniq -c | tr -dc '0-9 ')" = "      2 $1" ]
}
cluster_key() { grep -q "\"clusterKey\":$1" < <(ctl 1 ca --output=json); }

for host in 1 2; do start $host; done
for host in 1 2; do wait_for 60 put $host /ready yes; done
curl -sf -X DELETE "http://127.0.0.1:${ports[2]}/v2/keys/ready" >/dev/null
check a_cluster_opens ctl 1 init --listen="127.0.0.1:${ports[4]}"
check a_cluster_answers wait_for 60 put 1 /ready yes

# -- Plant: each value is written once, where it belongs --
used=$(token) unused=$(token --uses=5) answer=$(ctl 1 token --output=json)
revoked=$(grep -o 'fleet1-[A-Za-z0-9_-]*' <<<"$answer")
printf '%s\n' "$used" "$unused" "$revoked" >"$scratch/planted"
ctl 1 token revoke "$(grep -o '"id":"[0-9a-f]*"' <<<"$answer" | cut -d'"' -f4)" >>"$scratch/said" 2>&1
ctl 2 join --listen="127.0.0.1:${ports[5]}" "$unused" >>"$scratch/said" 2>&1 # of several uses, as an argument: rejected
ctl 2 join --listen="127.0.0.1:${ports[5]}" "${used:0:60}" >>"$scratch/said" 2>&1
ctl 2 join --listen="127.0.0.1:${ports[5]}" "$revoked" >>"$scratch/said" 2>&1
"$fleetctl" --endpoint="unix://$scratch/sock2" join --listen="127.0.0.1:${ports[5]}" "$used" >>"$scratch/said" 2>&1 &
join=$!
# The argument is wiped before the request: the command line without it is seen while the join lasts.
wiped() { tr '\0' '\n' <"/proc/$join/cmdline" | grep -q join && ! grep -qF "${used:7:30}" "/proc/$join/cmdline"; }
check the_argument_of_a_join_is_wiped wait_for 10 wiped
wait $join
check a_host_joins [ $? -eq 0 ]
is_standby() { local said && said=$(api 2 cluster) && grep -q '"seat":"standby"' <<<"$said" && ! grep -q '"role":"attached"' <<<"$said"; }
check the_host_is_a_member wait_for 60 is_standby
cp "$scratch/state1/secrets/key.1" "$scratch/planted.key.1"
# Secrets of units: by the leader, by the other member, and by that one without its cluster key.
value() { head -c 96 /dev/urandom | tee -a "$scratch/planted.values" | "$fleetctl" --endpoint="unix://$scratch/sock$1" secret set "$2" --output=json 2>>"$scratch/said"; }
is_of() { grep -q "\"version\":$1" <<<"$2" && echo "$2" >>"$scratch/said"; } # VERSION ANSWER
check a_secret_is_set is_of 1 "$(value 1 db)"
check a_member_sets_a_secret is_of 2 "$(value 2 db)"
check the_leader_seals_for_a_member_without_the_key is_of 1 "$(mv "$scratch/state2/secrets" "$scratch/away" && value 2 key; mv "$scratch/away" "$scratch/state2/secrets")"
check the_cluster_key_changes ctl 1 cluster rekey
check the_cluster_key_has_changed wait_for 60 cluster_key 2
check secrets_are_sealed_again wait_for 30 sealed_with 2
check the_former_key_is_deleted wait_for 30 test ! -e "$scratch/state1/secrets/key.1"
check a_host_gets_another_key ctl 2 machine rekey
ctl 1 token --replace=unknown >>"$scratch/said" 2>&1
ctl 1 token ls --output=json >>"$scratch/said" 2>&1
ctl 1 ca --output=json >>"$scratch/said" 2>&1
ctl 1 secret ls --output=json >>"$scratch/said" 2>&1
curl -s --unix-socket "$scratch/sock1" 'http://fleet/v2/keys/_fleet?recursive=true' >>"$scratch/said"
ctl 1 events --since=1970-01-01 >>"$scratch/said" 2>&1
curl -s --unix-socket "$scratch/sock1" http://fleet/metrics >>"$scratch/said"
check a_backup_is_written ctl 1 backup "$scratch/backup"
for host in 1 2; do
        tr '\0' '\n' <"/proc/${pids[$host]}/cmdline" >"$scratch/cmdline$host"
        tr '\0' '\n' <"/proc/${pids[$host]}/environ" >"$scratch/environ$host"
done

# -- Memory of the daemons: texts of tokens, and former cluster keys as text, are wiped after use --
python3 - "$scratch" "${pids[1]}" "${pids[2]}" <<'END'
import base64, re, sys
values = [("token", text) for text in open(sys.argv[1] + "/planted").read().split()]
values.append(("cluster_key", open(sys.argv[1] + "/planted.key.1").read().strip()))
planted = open(sys.argv[1] + "/planted.values", "rb").read()
values = [(name, text.encode()) for name, text in values] + [("secret %d" % (i // 96), form) for i in range(0, len(planted), 96)
          for form in (planted[i:i + 64], base64.b64encode(planted[i:i + 96])[:64])]
control, found = 0, []
try:
    open("/proc/%s/mem" % sys.argv[2], "rb").close()
except PermissionError:
    print("ok no_daemon_keeps_a_token_or_a_former_key # SKIP: this user may not read the memory of the daemons")
    sys.exit()
for pid in sys.argv[2:]:
    with open("/proc/%s/mem" % pid, "rb", 0) as memory:
        for begin, end, mode in re.findall(r"^(\w+)-(\w+) (\S+)", open("/proc/%s/maps" % pid).read(), re.M):
            begin, end = int(begin, 16), int(end, 16)
            if not mode.startswith("rw") or end - begin > 1 << 28:
                continue
            memory.seek(begin)
            try:
                part = memory.read(end - begin)
            except OSError:
                continue
            control += part.count(b"h" + b"1\0")
            found += [name + " in " + pid for name, text in values if text in part]
if not control:
    print("not ok the_memory_of_the_daemons_is_read: their names are not in it")
else:
    print("not ok no_daemon_keeps_a_token_or_a_former_key: " + ", ".join(found) if found else "ok no_daemon_keeps_a_token_or_a_former_key")
END

# -- Crash: the daemons, and a fleetctl that has sent a token and waits for the answer --
python3 - "$scratch/silent" >"$scratch/received" <<'END' &
import socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
connection = listener.accept()[0]
received = b""
while b"fleet1-" not in received:
    received += connection.recv(4096)
print("a token", flush=True)
connection.recv(1)
END
pids[silent]=$!
wait_for 10 test -S "$scratch/silent"
crashing "$fleetctl" --endpoint="unix://$scratch/silent" join --listen="127.0.0.1:${ports[5]}" - <<<"$unused" >>"$scratch/said" 2>&1 &
pids[client]=$!
check fleetctl_sends_a_token wait_for 10 grep -q token "$scratch/received"
crashing sleep inf &
pids[control]=$!
wait_for 10 grep -qx sleep "/proc/${pids[control]}/comm"
for process in control client 1 2; do
        kill -ABRT "${pids[$process]}"
        wait "${pids[$process]}" 2>/dev/null
        check "${process}_crashes" [ $? -eq 134 ]
done
find "$scratch"/cores.* -type f >"$scratch/cores"
if [ -s "$scratch/cores" ]; then
        check only_the_control_writes_a_core_file [ "$(wc -l <"$scratch/cores")" -eq 1 ]
else
        echo "ok only_the_control_writes_a_core_file # SKIP: this machine has them elsewhere, see /proc/sys/kernel/core_pattern"
fi

# -- Search, in each form of a value --
python3 - "$scratch" <<'END'
import base64, glob, os, re, sys
scratch = sys.argv[1]
values = {}
for i, text in enumerate(open(scratch + "/planted").read().split()):
    raw = base64.urlsafe_b64decode(text[7:] + "=" * (-len(text[7:]) % 4))
    values["token %d" % i] = [text.encode(), text[7:].encode()]
    values["secret of token %d" % i] = [raw[47:63], raw[47:63].hex().encode()]
for path in glob.glob(scratch + "/state*/secrets/key.*") + [scratch + "/planted.key.1"]:
    digits = open(path).read().strip()
    values[path] = [digits.encode(), bytes.fromhex(digits), base64.b64encode(bytes.fromhex(digits))[:40]]
for path in glob.glob(scratch + "/state*/identity/key*"):
    lines = open(path).read().split("\n")[1:-2]
    values[path] = [line.encode() for line in lines] + [base64.b64decode("".join(lines))[36:60]]
planted = open(scratch + "/planted.values", "rb").read()
for i in range(0, len(planted), 96):
    value = planted[i:i + 96]
    values["secret %d of units" % (i // 96)] = [value[:48], value.hex().encode()[:96], base64.b64encode(value)[:96]]
values["a private key"] = [b"PRIVATE KEY"]
files = [p for name in ("log*", "said", "cmdline*", "environ*", "backup", "conf*", "state*/raft/*", "state*/tree/*", "state*/agent/*",
                        "state*/identity/[cr]*", "cores.*/*") for p in glob.glob(scratch + "/" + name) if os.path.isfile(p)]
print("%s %d_values_are_planted" % ("ok" if len(values) >= 14 else "not ok", len(values)))
print("%s %d_files_are_searched" % ("ok" if len(files) >= 14 else "not ok", len(files)))
for value in sorted(values):
    found = [os.path.basename(p) for p in files if any(len(form) > 8 and form in open(p, "rb").read() for form in values[value])]
    name = re.sub("[^a-z0-9]+", "_", value.replace(scratch + "/", "").lower())
    print("not ok %s is in: %s" % (name, " ".join(found)) if found else "ok %s_appears_nowhere" % name)
END
