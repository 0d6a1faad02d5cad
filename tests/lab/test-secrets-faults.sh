#!/bin/bash
# Secrets on six booted hosts that joined by tokens, of which one is attached: its disk has no other secret and no cluster key; daemons that are killed
# at each step of a new content, and hosts whose power is cut there; a /run that is full, and systemd-creds that fails, hangs or is missing; names of
# units that are no paths; secrets that are set while the cluster key changes; a restore without and with that key.
# Takes 220 s. With CHECK_ALL=yes, the power is cut at each step, too.
LAB_HOSTS="alpha $(seq -s ' ' -f 'n%g' 5)" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"

# "secret HOST NAME VALUE OPTION...": through the daemon of that host.
secret() { printf %s "$3" | fleetctl "$1" secret set "$2" "${@:4}" >"$LAB/out" 2>&1 || fail "secret set $2 on $1: $(cat "$LAB/out")"; }
start() { fleetctl alpha start "$@" >"$LAB/out" 2>&1 || fail "start $*: $(cat "$LAB/out")"; }
only_on() { printf 'MachineID=%s\n' "$(host_machine_id "$1")"; }
# A unit that writes the sums of its secrets, in one line for each start, where it is left after a power cut. Lines of [X-Fleet] follow.
writes_sums() { # NAME HOST
        {
                printf '[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nRestart=always\nRestartSec=100ms\n'
                printf 'ExecStart=/bin/sh -c '\''echo $$(cat %%d/* | sha256sum | cut -c1-64) >>/var/log/starts.%s; exec sleep infinity'\''\n[X-Fleet]\n' "$1"
                only_on "$2"
                cat
        } | unit_file "$1"
}
sum() { printf %s "$1" | sha256sum | cut -c1-64; }
starts() { cat "$LAB/$2/up/var/log/starts.$1" 2>/dev/null; } # NAME HOST
last_start_is() { [ "$(starts "$1" "$2" | tail -n 1)" = "$(sum "$3")" ]; }

# The host of the faults: neither the first one nor the leader, and no attached one.
victim() { cat "$LAB/victim"; }

hosts_join_and_use_secrets() {
        local h u leader
        gcc -O2 -shared -fPIC -Wall -Werror -o "$LAB/stop.so" "$here/stop.c" 2>"$LAB/out" || fail "stop.c: $(cat "$LAB/out")"
        for h in $LAB_HOSTS; do
                host_make "$h" || fail "no disk for $h"
                u=$LAB/$h/up
                install -D -m 755 "$here/inputs.py" "$u/usr/local/bin/inputs.py"
                install -D -m 755 "$LAB/stop.so" "$u/usr/local/lib/lab-stop.so"
                mkdir -p "$u/etc/systemd/system/fleetd.service.d"
                printf '[Service]\nEnvironment=LD_PRELOAD=/usr/local/lib/lab-stop.so FLEETD_LAB_STOP=/run/lab-stop\n' >"$u/etc/systemd/system/fleetd.service.d/lab-stop.conf"
                # Before the one of systemd in PATH: it does what /run/lab-creds says.
                printf '#!/bin/sh\n[ ! -e /run/lab-creds ] || [ "$1" != encrypt ] || . /run/lab-creds\nexec /usr/bin/systemd-creds "$@"\n' |
                        install -m 755 /dev/stdin "$u/usr/local/bin/systemd-creds"
        done
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        # shellcheck disable=SC2046
        join_at_once $(others alpha)
        [ "$(attached | wc -l)" = 1 ] || fail "attached: $(attached)"
        leader=$(leader) || fail "there is no leader"
        replicas | grep -vx "alpha\|$leader" | head -n 1 >"$LAB/victim"
        [ -s "$LAB/victim" ] || fail "no host for faults"
}

# The values, and the files of the disks of a host that have one, as it is, in hex or base64; its memory file systems are searched, too.
found_on() { "$here/inputs.py" search "$LAB/$2" "$LAB/$1/up" "/proc/$(host_init "$1")/root/run"; } # HOST VALUE
an_attached_host_has_the_secrets_of_its_own_units_only() {
        local h voter found v
        h=$(attached)
        voter=$(victim)
        for v in own other; do head -c 32 /dev/urandom >"$LAB/$v"; done
        fleetctl alpha secret set own --file="$LAB/own" --units='own*' >"$LAB/out" 2>&1 || fail "secret set: $(cat "$LAB/out")"
        fleetctl "$h" secret set other --file="$LAB/other" >"$LAB/out" 2>&1 || fail "secret set on an attached host: $(cat "$LAB/out")"
        writes_sums own.service "$h" <<<Secret=own
        writes_sums other.service "$voter" <<<Secret=other
        start own.service other.service
        [ "$(starts own.service "$h")" = "$(sha256sum <"$LAB/own" | cut -c1-64)" ] || fail "own.service has $(starts own.service "$h")"
        [ "$(starts other.service "$voter")" = "$(sha256sum <"$LAB/other" | cut -c1-64)" ] || fail "other.service has $(starts other.service "$voter")"
        # The cluster key of the members, which the search finds there.
        python3 - "$LAB/$voter/up/var/lib/fleet/secrets" "$LAB/key" <<'P' || fail "$voter has no cluster key"
import glob, sys
open(sys.argv[2], "wb").write(bytes.fromhex(open(glob.glob(sys.argv[1] + "/key.*")[0]).read().strip()))
P
        found=$(found_on "$voter" key)
        grep -q '/secrets/key\.' <<<"$found" || fail "the key is not found where it is"
        # A restart of its daemon, and another content, change nothing of it.
        host_exec "$h" systemctl restart fleetd || fail "fleetd of $h does not start"
        head -c 32 /dev/urandom >"$LAB/own"
        fleetctl "$h" secret set own --file="$LAB/own" >"$LAB/out" 2>&1 || fail "secret set: $(cat "$LAB/out")"
        wait_for 20 fleetctl "$h" restart own.service || fail "restart: $(fleetctl "$h" restart own.service 2>&1)" # it may be away for a moment
        wait_for 20 eval '[ "$(starts own.service "$h" | tail -n 1)" = "$(sha256sum <"$LAB/own" | cut -c1-64)" ]' || fail "own.service has $(starts own.service "$h")"
        for v in own other key; do
                found=$(found_on "$h" "$v")
                [ "$(sed -n 's/^searched //p' <<<"$found")" -gt 50 ] || fail "$v: $found"
                ! grep -v '^searched ' <<<"$found" >"$LAB/found" || fail "$h has $v in $(head -n 3 "$LAB/found" | tr '\n' ' ')"
        done
        [ -z "$(find "$LAB/$h/up/var/lib/fleet" -path '*/secrets/*')" ] || fail "$h has $(find "$LAB/$h/up/var/lib/fleet/secrets")"
        ! found=$(fleetctl "$h" --output=json secret ls | grep -F sealed) || fail "it lists $found"
        host_exec "$h" sh -c 'cat >/root/control' <"$LAB/other"
        found=$(found_on "$h" other)
        grep -q /root/control <<<"$found" || fail "the control is not found"
        host_exec "$h" rm /root/control
}

# Stop the daemon of the victim at the step that its file names; "reached" is true when it is there.
stop_at() { host_exec "$(victim)" sh -c 'rm -f /run/lab-stop.reached; cat >/run/lab-stop.new && mv /run/lab-stop.new /run/lab-stop' <<<"$1"; }
reached() { host_exec "$(victim)" test -e /run/lab-stop.reached; }
# A fault at a step of a new value, with another text if $3 is given. Afterwards the unit runs with the new value. It was started once for it: by
# the agent, and after a power cut by the boot, which may have the former one, and then once more.
fault_at() { # KIND STEP... [--text]
        local kind=$1 h steps=() text=no step before new
        h=$(victim)
        shift
        for step; do
                if [ "$step" = --text ]; then text=yes; else steps+=("$step"); fi
        done
        before=$(starts fault.service "$h" | wc -l)
        new="fault $RANDOM$RANDOM"
        stop_at "${steps[0]}"
        secret alpha fault "$new"
        if [ $text = yes ]; then
                sed -i "s/^Type=exec/&\nEnvironment=TEXT=$RANDOM/" "$LAB/units/fault.service"
                fleetctl alpha submit --replace --no-block fault.service >"$LAB/out" 2>&1 || fail "submit: $(cat "$LAB/out")"
        fi
        wait_for 20 reached || fail "$kind: it does not reach ${steps[0]}: $(fleetctl alpha why fault.service 2>&1)"
        for step in "${steps[@]:1}"; do
                stop_at "$step"
                host_exec "$h" systemctl kill -s CONT --kill-whom=main fleetd || fail "it does not go on"
                wait_for 20 reached || fail "$kind: it does not reach $step"
        done
        case $kind in
        kill) host_exec "$h" systemctl kill -s KILL --kill-whom=main fleetd || fail "no kill" ;;
        power)
                host_kill "$h" || fail "no power cut"
                hosts_up "$h" ;;
        esac
        wait_for 60 last_start_is fault.service "$h" "$new" || fail "$kind at $*: it has not the new value: $(fleetctl alpha why fault.service 2>&1)"
        wait_for 60 fault_is_steady || fail "$kind at $*: $(fleetctl alpha rollout fault.service 2>&1)"
        starts fault.service "$h" | tail -n +$((before + 1)) >"$LAB/since"
        [ "$(grep -cx "$(sum "$new")" "$LAB/since")" = 1 ] || fail "$kind at $*: started $(grep -cx "$(sum "$new")" "$LAB/since") times with the new value"
        [ "$(wc -l <"$LAB/since")" -le $([ $kind = kill ] && echo 1 || echo 2) ] || fail "$kind at $*: $(wc -l <"$LAB/since") starts"
        [ "$(wc -l <"$LAB/since")" = 1 ] || [ "$(head -n 1 "$LAB/since")" = "$(cat "$LAB/former")" ] || fail "$kind at $*: a start with another value"
        sum "$new" >"$LAB/former"
}
fault_is_steady() { fleetctl alpha list-units --no-legend --fields=unit,available 2>/dev/null | grep -q '^fault.service.*true' && fleetctl alpha rollout fault.service 2>/dev/null | head -n 1 | grep -q '  done,'; }
# After the seal; a credential in force, without the copy; the copy, without the files; all files; the text, without its record; the record, before
# the start.
SEALED='unlink /var/lib/fleet/credentials/fault.service*/.*.tmp'
CREDENTIAL='rename /var/lib/fleet/credentials/fault.service*/fault'
COPY='rename /var/lib/fleet/agent/config/fault.service*'
FILES='rename /run/fleet/config/fault.service*/current'
TEXT='rename /run/fleet/units/fault.service'
RECORD='rename /var/lib/fleet/agent/assignment'

a_daemon_that_is_killed_at_a_step_of_a_content_restarts_the_unit_once() {
        writes_sums fault.service "$(victim)" <<<$'Secret=fault\nConfigKeys=/fault\nOnChange=restart\nUpdateWatchSec=1s'
        fleetctl alpha kv set /fault/file 1 >"$LAB/out" 2>&1 || fail "kv set: $(cat "$LAB/out")"
        secret alpha fault first
        sum first >"$LAB/former"
        start fault.service
        last_start_is fault.service "$(victim)" first || fail "it has $(starts fault.service "$(victim)")"
        wait_for 20 fault_is_available || fail "it is not available"
        fault_at kill "$SEALED"
        fault_at kill "$CREDENTIAL"
        fault_at kill "$COPY"
        fault_at kill "$FILES"
        fault_at kill "$TEXT" --text
        fault_at kill "$FILES" "$RECORD"
}
fault_is_available() { fleetctl alpha list-units --no-legend --fields=unit,available 2>/dev/null | grep -q '^fault.service.*true'; }
a_host_without_power_at_a_step_of_a_content_restarts_the_unit_once() {
        fault_at power "$SEALED"
        if [ -n "${CHECK_ALL:-}" ]; then
                fault_at power "$CREDENTIAL"
                fault_at power "$COPY"
                fault_at power "$FILES"
        fi
        fault_at power "$TEXT" --text
        fault_at power "$FILES" "$RECORD"
}

# The former content is in force while the host cannot have the new one: also for a start by systemd.
keeps_the_former_one() { # WHAT MESSAGE
        local h n
        h=$(victim)
        n=$(starts fault.service "$h" | wc -l)
        secret alpha fault "$1"
        wait_for 40 says status "fault.service.*runs with its former content on $h: $2" || fail "$1: $(fleetctl alpha status 2>&1)"
        wait_for 10 says "why fault.service" "runs with its former content on $h.*: $2" || fail "$1: $(fleetctl alpha why fault.service 2>&1)"
        wait_for 10 says "rollout fault.service" "it runs with its former content: $2" || fail "$1: $(fleetctl alpha rollout fault.service 2>&1)"
        [ "$(starts fault.service "$h" | wc -l)" = "$n" ] || fail "$1: it was restarted"
        host_exec "$h" systemctl kill -s KILL fault.service
        wait_for 10 starts_are "$h" $((n + 1)) || fail "$1: it is not started again: $(host_exec "$h" systemctl status --no-pager fault.service)"
        [ "$(starts fault.service "$h" | tail -n 1)" = "$(cat "$LAB/former")" ] || fail "$1: it has another content"
}
# shellcheck disable=SC2086
says() { fleetctl alpha $1 2>&1 | grep -q "$2"; }
starts_are() { [ "$(starts fault.service "$1" | wc -l)" = "$2" ]; }
then_has_the_new_one() {
        wait_for 60 last_start_is fault.service "$(victim)" "$1" || fail "after $1: $(fleetctl alpha why fault.service 2>&1)"
        wait_for 20 fault_is_steady || fail "after $1: $(fleetctl alpha rollout fault.service 2>&1)"
        sum "$1" >"$LAB/former"
}
systemd_creds_that_fails_hangs_or_is_missing_leaves_the_former_content() {
        local h
        h=$(victim)
        trap 'host_exec "$(victim)" rm -f /run/lab-creds' EXIT
        host_exec "$h" sh -c 'echo "echo no key of the lab >&2; exit 1" >/run/lab-creds'
        keeps_the_former_one fails 'cannot seal fault: systemd-creds: no key of the lab'
        host_exec "$h" rm /run/lab-creds
        then_has_the_new_one fails
        host_exec "$h" sh -c 'echo "exec sleep infinity" >/run/lab-creds'
        keeps_the_former_one hangs 'cannot seal fault: systemd-creds did not end within 20 s'
        host_exec "$h" rm /run/lab-creds
        then_has_the_new_one hangs
        host_exec "$h" sh -c 'mv /usr/local/bin/systemd-creds /root/; mv /usr/bin/systemd-creds /root/real'
        keeps_the_former_one missing 'cannot seal fault: Failed to run systemd-creds: No such file or directory'
        host_exec "$h" sh -c 'mv /root/real /usr/bin/systemd-creds; mv /root/systemd-creds /usr/local/bin/'
        then_has_the_new_one missing
}
a_full_run_leaves_the_former_content() {
        local h
        h=$(victim)
        trap 'host_exec "$(victim)" rm -f /run/full' EXIT
        host_exec "$h" sh -c 'mount -o remount,size=64M /run && fallocate -l $(($(stat -f -c "%a * %S" /run))) /run/full' || fail "/run is not full"
        keeps_the_former_one full 'its secrets and configuration cannot be written: .*/run/fleet/config/fault.service.*: No space left on device'
        host_exec "$h" sh -c 'rm /run/full; mount -o remount,size=20% /run'
        then_has_the_new_one full
}

units_with_names_that_are_no_paths_have_their_inputs() {
        local h name='a:b\x2dc.service' out
        h=$(victim)
        secret alpha odd odd-value
        fleetctl alpha kv set /odd/file odd-file >"$LAB/out" 2>&1 || fail "kv set: $(cat "$LAB/out")"
        fleetctl alpha kv set /odd/word 'a "b" $c' >"$LAB/out" 2>&1 || fail "kv set: $(cat "$LAB/out")"
        printf '[Service]\nType=exec\nExecStart=/bin/sh -c '\''cat "$$CREDENTIALS_DIRECTORY/odd" "$$FLEET_CONFIG/file" >/var/log/odd; printenv WORD >>/var/log/odd; exec sleep infinity'\''\n[X-Fleet]\n%s\nSecret=odd\nEnvironmentKeys=/odd\nConfigKeys=/odd\n' "$(only_on "$h")" |
                unit_file "$name"
        start "$name"
        wait_for 10 eval '[ "$(cat "$LAB/$h/up/var/log/odd" 2>/dev/null)" = "odd-valueodd-filea \"b\" \$c" ]' || fail "it has $(cat "$LAB/$h/up/var/log/odd"); $(fleetctl alpha journal "$name" 2>&1 | tail -3)"
        out=$(fleetctl alpha secret ls 2>&1)
        grep -qF 'a:b\x2dc.service: 1 of 1 run with it' <<<"$out" || fail "secret ls: $out"
        fleetctl alpha destroy --yes "$name" >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 10 nothing_of_odd "$h" || fail "left: $(ls -d "$LAB/$h"/up/var/lib/fleet/credentials/a* "$LAB/$h"/up/var/lib/fleet/agent/config/a* 2>&1)"
}
nothing_of_odd() { ! ls -d "$LAB/$1"/up/var/lib/fleet/credentials/a* "$LAB/$1"/up/var/lib/fleet/agent/config/a* 2>/dev/null | grep -q .; }

# Ten names, each set twice, by all hosts in turn.
rekey_name() { echo "rekey-$(($1 % 10))"; }
secrets_that_are_set_during_a_change_of_the_cluster_key_open_afterwards() {
        local i h rekey values="" n former
        h=$(attached)
        former=$(ls "$LAB/$(victim)/up/var/lib/fleet/secrets")
        n=$(wc -w <<<"$LAB_HOSTS")
        for i in {0..19}; do
                [ $i != 4 ] || { fleetctl alpha cluster rekey >"$LAB/rekey" 2>&1 & rekey=$!; }
                secret "$(cut -d' ' -f$((i % n + 1)) <<<"$LAB_HOSTS")" "$(rekey_name "$i")" "value-$i "
        done
        wait $rekey || fail "rekey: $(cat "$LAB/rekey")"
        for h in $(replicas); do
                wait_for 60 has_key_only "$h" "$former" || fail "$h has $(ls "$LAB/$h/up/var/lib/fleet/secrets"), after $former"
        done
        [ -z "$(find "$LAB/$(attached)/up/var/lib/fleet" -path '*/secrets/*')" ] || fail "the attached host has a cluster key"
        for i in {10..19}; do values+="value-$i "; done
        for h in $(attached) $(victim); do
                writes_sums "rekeyed-$h.service" "$h" < <(for i in {0..9}; do echo "Secret=rekey-$i"; done)
                start "rekeyed-$h.service"
                last_start_is "rekeyed-$h.service" "$h" "$values" || fail "on $h: other values: $(fleetctl alpha why "rekeyed-$h.service" 2>&1)"
        done
        ! fleetctl alpha secret ls | grep 'cannot be opened' >"$LAB/out" || fail "$(cat "$LAB/out")"
}
has_key_only() { local now; now=$(ls "$LAB/$1/up/var/lib/fleet/secrets"); [ "$(wc -w <<<"$now")" = 1 ] && [ "$now" != "$2" ]; }

restored() { # OPTION...: the victim, as a cluster of one, without the cluster key that a reset would keep
        local h
        h=$(victim)
        host_exec "$h" sh -c "systemctl stop fleetd; fleetd --reset; rm /var/lib/fleet/secrets/key.*; fleetctl restore $* --yes=$h /root/backup" >"$LAB/out" 2>&1 || fail "restore $*: $(cat "$LAB/out")"
        wait_for 60 writes "$h" || fail "it accepts no writes: $(host_exec "$h" systemctl status --no-pager fleetd)"
        wait_for 20 host_exec "$h" fleetctl cluster stop-waiting --yes >"$LAB/out" 2>&1
}
a_restore_without_the_key_names_the_secrets_and_with_it_they_open() {
        local h before value
        h=$(victim)
        value=$(starts fault.service "$h" | tail -n 1)
        host_exec "$h" sh -c 'fleetctl backup /root/backup && fleetctl backup --cluster-key=/root/keys --yes' >"$LAB/out" 2>&1 || fail "backup: $(cat "$LAB/out")"
        for before in $(others "$h"); do
                host_exec "$before" systemctl stop fleetd || fail "fleetd of $before does not stop"
        done
        before=$(identities "$h" | grep fault.service)
        restored
        wait_for 20 status_has "$h" '1[0-9] secrets cannot be opened: .*; restore again with --cluster-key=FILE, or set them again' || fail "status: $(fleetctl "$h" status 2>&1)"
        fleetctl "$h" secret ls | grep -q '^fault[[:space:]].*cannot be opened' || fail "secret ls: $(fleetctl "$h" secret ls 2>&1)"
        [ "$before" = "$(identities "$h" | grep fault.service)" ] || fail "the restore touched a unit that runs"
        restored --cluster-key=/root/keys
        ! fleetctl "$h" secret ls | grep 'cannot be opened' >"$LAB/out" || fail "$(cat "$LAB/out")"
        [ "$before" = "$(identities "$h" | grep fault.service)" ] || fail "the restore touched a unit that runs"
        writes_sums restored.service "$h" <<<Secret=fault
        fleetctl "$h" start restored.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        [ "$(starts restored.service "$h")" = "$value" ] || fail "it has $(starts restored.service "$h")"
}

scenario hosts_join_and_use_secrets an_attached_host_has_the_secrets_of_its_own_units_only a_daemon_that_is_killed_at_a_step_of_a_content_restarts_the_unit_once \
        a_host_without_power_at_a_step_of_a_content_restarts_the_unit_once systemd_creds_that_fails_hangs_or_is_missing_leaves_the_former_content \
        a_full_run_leaves_the_former_content units_with_names_that_are_no_paths_have_their_inputs \
        secrets_that_are_set_during_a_change_of_the_cluster_key_open_afterwards a_restore_without_the_key_names_the_secrets_and_with_it_they_open
