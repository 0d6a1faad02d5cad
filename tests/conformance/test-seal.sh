#!/bin/bash
# SealWith= with the real systemd-creds, and a daemon that founds a cluster. Takes 10 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=${CHECK_BUILD:-build}
. "$here/daemon.sh"
program=$(realpath "$build/fleetd/fleetd")
check() { if "$@" >"$scratch/said" 2>&1; then echo "ok $1"; else echo "not ok $1: $(tail -3 "$scratch/said" | tr '\n' '|') $(tail -1 "$scratch/one.log")"; fi; }
if [ "$(id -u)" != 0 ] || ! echo x | systemd-creds encrypt --with-key=host --name=x - - >/dev/null 2>&1; then
        echo "ok sealed_cluster_keys # SKIP: systemd-creds has no key of this host, or this user may not read it"
        exit 0
fi
# A PATH with the programs of this script, and without systemd-creds.
mkdir "$scratch/bin" && for name in bash sh env; do ln -s "$(command -v $name)" "$scratch/bin/"; done
peer=127.0.0.1:$(free_port)
(umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$scratch/psk")
start() { daemon_start "$program" one --listen-peer="$peer" --peer-key="$scratch/psk" "$@"; }
end() { kill -TERM "$daemon_pid" && wait "$daemon_pid"; }
fleetctl() { timeout 60 "$build/client/fleetctl" --endpoint="unix://$scratch/one.sock" "$@"; }
key() { echo "$scratch/one/secrets/key.$1"; }
sealed() { head -c 31 "$(key "$1")" | grep -qx "fleet sealed cluster key 1 host" && [ "$(stat -c %a "$(key "$1")")" = 600 ]; }
plain() { grep -qE '^[0-9a-f]{64}$' "$(key "$1")"; }
opened() { tail -n +2 "$(key "$1")" | systemd-creds decrypt --name="fleet-cluster-key.$1" - - 2>/dev/null; }
signs() { fleetctl token | grep -q fleet1-; }
status_says() { fleetctl status | grep -qF "$1"; }

a_new_key_is_sealed() {
        start --seal-with=host && signs && sealed 1 || return 1
        opened 1 >>"$scratch/planted" && grep -qE '^[0-9a-f]{64}$' "$scratch/planted"
}
a_start_opens_it() { end && start --seal-with=host && signs && sealed 1; }
the_next_key_is_sealed() {
        fleetctl cluster rekey && wait_for test ! -e "$(key 1)" && sealed 2 && signs && opened 2 >>"$scratch/planted"
}
the_keys_are_in_no_file() {
        python3 - "$scratch" <<'P'
import base64, os, sys
scratch = sys.argv[1]
digits = open(scratch + "/planted").read().split()
forms = [f for d in digits for f in (d.encode(), bytes.fromhex(d), base64.b64encode(bytes.fromhex(d))[:40])]
files = [os.path.join(at, name) for top in ("one", "one-run") for at, _, names in os.walk(os.path.join(scratch, top)) for name in names]
files += [scratch + "/one.log"]
found = [path for path in files if os.path.isfile(path) and any(form in open(path, "rb").read() for form in forms)]
assert len(digits) == 2 and len(files) > 5, (digits, files)
assert not found, found
P
}
a_backup_of_the_key_has_it_as_it_is() {
        "$program" --config="$scratch/fleetd.conf" --state-directory="$scratch/one" --machine-id="$(printf one | md5sum | cut -c1-32)" --backup-cluster-key="$scratch/keys" &&
                grep -qF "key 2 $(opened 2)" "$scratch/keys"
}
# The daemon starts, signs nothing, keeps the file and the CA, and names the problem.
without_systemd_creds_nothing_is_lost() {
        local before root
        before=$(cat "$(key 2)") root=$(fleetctl ca | grep -o '^[0-9a-f]\{8\}' | head -1)
        end
        PATH=$scratch/bin:$PATH # for this shell; the daemon gets the short one
        env PATH="$scratch/bin" "$program" --config="$scratch/fleetd.conf" --state-directory="$scratch/one" --runtime-directory="$scratch/one-run" --unit-directory= --cluster-file= \
                --listen-socket="$scratch/one.sock" --listen-client="$address" --agent=no --name=one --machine-id="$(printf one | md5sum | cut -c1-32)" \
                --listen-peer="$peer" --peer-key="$scratch/psk" --seal-with=host >"$scratch/one.log" 2>&1 &
        daemon_pid=$! daemon_pids="$daemon_pids $!"
        wait_for takes_writes "$address" || return 1
        wait_for status_says "cluster key sealed: this host cannot open or seal secrets/key.2; see its journal" || return 1
        fleetctl token 2>&1 | grep -q "this host cannot sign: cluster key sealed: " || return 1
        grep -q "Failed to open the sealed .*/secrets/key.2: Failed to run systemd-creds: No such file or directory; the next step is in fleet-security(7)" "$scratch/one.log" || return 1
        [ "$(cat "$(key 2)")" = "$before" ] && [ "$(fleetctl ca | grep -o '^[0-9a-f]\{8\}' | head -1)" = "$root" ] && [ ! -e "$(key 3)" ] || return 1
        end
        start --seal-with=host && signs && sealed 2
}
another_setting_writes_it_again() {
        end && start && wait_for plain 2 && signs && [ "$(cat "$(key 2)")" = "$(tail -1 "$scratch/planted")" ] || return 1
        end && start --seal-with=host && wait_for sealed 2 && signs && [ "$(opened 2)" = "$(tail -1 "$scratch/planted")" ]
}
a_key_of_another_number_does_not_open() {
        end && sed 1q "$(key 2)" >"$scratch/other" &&
                printf '%064d\n' 7 | systemd-creds encrypt --with-key=host --name=fleet-cluster-key.1 - - >>"$scratch/other" 2>/dev/null && cp "$(key 2)" "$scratch/kept" || return 1
        cat "$scratch/other" >"$(key 2)" && start --seal-with=host && wait_for status_says "cluster key sealed: " || return 1
        grep -q "does not match" "$scratch/one.log" && cmp "$scratch/other" "$(key 2)" && cat "$scratch/kept" >"$(key 2)" && signs
}
a_wrong_value_is_rejected() {
        "$program" --config="$scratch/fleetd.conf" --seal-with=tpm 2>&1 | grep -qF -- "--seal-with: expected no, host, tpm2 or host+tpm2, not 'tpm'"
}

check a_new_key_is_sealed
check a_start_opens_it
check the_next_key_is_sealed
check the_keys_are_in_no_file
check a_backup_of_the_key_has_it_as_it_is
check without_systemd_creds_nothing_is_lost
check another_setting_writes_it_again
check a_key_of_another_number_does_not_open
check a_wrong_value_is_rejected
daemon_ends one "$daemon_pid"
