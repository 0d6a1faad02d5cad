#!/bin/bash
# Secrets and configuration of containers on three booted hosts of Debian 13, with podman and its own generator: the container of
# fleet-secrets(7) with a root directory in place of its image, as user 1000; 200 random variables and files byte for byte; rotation, a value
# that fails, kills, a boot without a quorum, one version for a reader; the login for a private registry.
# Takes 220 s. With CHECK_ALL=yes, 20 kills in place of 3.
#
# In a container of systemd-nspawn, podman needs these permissions and this configuration; images are no part of it. On a machine whose
# cgroups of version 1 are in use, it cannot make cgroups of its own.
export LAB_NSPAWN_OPTIONS="--capability=all --system-call-filter=bpf --system-call-filter=@keyring"
n_kills=3
[ -z "${CHECK_ALL:-}" ] || n_kills=20
. "$(dirname "$0")/scenario.sh"
export LAB_NAME LAB_HOSTS LAB_TOKENS

has_podman() { [ -x /usr/lib/systemd/system-generators/podman-system-generator ]; }
needs_podman() { has_podman || skip "no podman with a generator on this machine"; }

file_of_the_manual() {
        awk -v name="# $1" '$0 == name { inside = 1; next } /^```$/ { inside = 0 } inside' "$top/man/fleet-secrets.7.scd" | sed 's/\\\\/\\/g' | grep . || fail "the manual has no $1"
}
secret() { printf %s "$2" | fleetctl alpha secret set "$1" "${@:3}" >"$LAB/out" 2>&1 || fail "secret set $1: $(cat "$LAB/out")"; }
key() { fleetctl alpha kv set "$1" "$2" >"$LAB/out" 2>&1 || fail "kv set $1: $(cat "$LAB/out")"; }

# What a container needs here beside the file of the manual: a root directory that has the /usr of its host, a folder to write to, and a program.
# podman leaves the places of its mounts in a root directory: each unit has its own.
# Network=none: the hosts have no firewall for podman.
CGROUPS=
[ -z "$LAB_CG1" ] || [ ! -d "${LAB_CG1%/*}" ] || CGROUPS="PodmanArgs=--cgroups=disabled --pids-limit=0"
in_lab_container() { # FOLDER [PROGRAM]: on standard input the file
        sed "s|^Image=.*|Rootfs=/srv/$1|; s|^\[Container\]|&\nUser=1000\nNetwork=none\n$CGROUPS\nVolume=/usr:/usr:ro\nVolume=/srv/seen/$1:/seen\nExec=${2:-/usr/bin/python3 /usr/local/bin/inputs.py read /seen}|"
}
# What a container has written on a host; the hosts on which it has.
seen() { cat "/proc/$(host_init "$1")/root/srv/seen/$2/$3" 2>/dev/null; }
restarted_since() { [ -n "$(seen "$1" "$2" started)" ] && [ "$(seen "$1" "$2" started)" != "$3" ]; }
sum() { printf %s "$1" | sha256sum | cut -d' ' -f1; }
has_variable() { seen "$1" "$2" env | tr '\0' '\n' | grep -qx "$3"; }

content() { fleetctl alpha rollout shop@.container 2>/dev/null | sed -n '1s/.* content \([0-9]*\) .*/\1/p'; }
content_is() { fleetctl alpha rollout shop@.container 2>/dev/null | head -n 1 | grep -q "  $1," && [ "$(content)" -gt "$2" ]; }
wait_content() { wait_for "$3" content_is "$1" "$2" || fail "not $1: $(fleetctl alpha rollout shop@.container 2>&1)"; }
shops() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,available 2>/dev/null | grep -c '^shop@.*true')" = "$1" ]; }
wait_shops() { wait_for 60 shops "$1" || fail "not $1 are available: $(fleetctl alpha list-units --fields=unit,machine,active,sub,available,why 2>&1)"; }
# "INSTANCE INVOCATION" of each instance that runs.
invocations() {
        local h i
        for h in $LAB_HOSTS; do
                for i in 1 2 3; do
                        host_exec "$h" systemctl show -p ActiveState,InvocationID --value "shop@$i.service" | xargs | sed -n "s/^active /$i /p"
                done
        done | sort
}
# All instances have a secret with this value, and COLOR.
all_have() {
        local h n=0
        for h in $LAB_HOSTS; do
                [ -n "$(hosts_running 'shop@*.service' | grep -x "$h")" ] || continue
                n=$((n + 1))
                [ "$(seen "$h" shop secrets)" = "db-password $(sum "$1")" ] && has_variable "$h" shop "COLOR=$2" || return 1
        done
        [ $n -ge 1 ]
}

hosts_have_podman() {
        local h u root
        needs_podman
        for h in $LAB_HOSTS; do
                host_make "$h" || fail "no disk for $h"
                u=$LAB/$h/up
                install -D -m 755 "$here/inputs.py" "$u/usr/local/bin/inputs.py"
                mkdir -p "$u"/srv/{shop,reader,pair,odd}/{usr,proc,sys,dev,run,tmp,etc} "$u"/srv/seen/{shop,reader,pair,odd,private} "$u/etc/containers/containers.conf.d"
                for root in shop reader pair odd; do
                        ln -s usr/bin usr/sbin usr/lib usr/lib64 "$u/srv/$root/"
                done
                chmod 1777 "$u"/srv/seen/* "$u"/srv/*/tmp
                printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n' >"$u/etc/containers/storage.conf"
                printf '[containers]\ndefault_sysctls = []\n[engine]\ncgroup_manager = "cgroupfs"\n' >"$u/etc/containers/containers.conf.d/lab.conf"
        done
        cluster_up
        for h in $LAB_HOSTS; do
                printf '[Fleetd]\nBootWaitSec=3s\n' | host_exec "$h" sh -c 'cat >/etc/fleet/fleetd.conf.d/20-test.conf && systemctl reload fleetd' || fail "no configuration of $h"
        done
}

the_container_of_the_manual_gets_secret_and_variable() {
        local h
        needs_podman
        secret db-password first --units='shop*'
        key /config/shop/color green
        { file_of_the_manual shop@.container | in_lab_container shop; printf 'Conflicts=shop@*.container\nUpdateWatchSec=2s\n[Service]\nRestart=always\nTimeoutStopSec=5s\n'; } | unit_file shop@.container
        fleetctl alpha submit shop@.container >"$LAB/out" 2>&1 || fail "submit: $(cat "$LAB/out")"
        fleetctl alpha start shop@{1..3}.container >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out"); $(fleetctl alpha journal shop@1.container 2>&1 | tail -5)"
        wait_shops 3
        wait_for 20 all_have first green || fail "they have $(seen alpha shop secrets) $(seen alpha shop env | tr '\0' ' ')"
        for h in $LAB_HOSTS; do
                [ "$(seen "$h" shop started | cut -d' ' -f2)" = 1000 ] || fail "on $h, it runs as user $(seen "$h" shop started)"
                has_variable "$h" shop DB_PASSWORD_FILE=/run/secrets/db-password && has_variable "$h" shop CREDENTIALS_DIRECTORY=/run/secrets || fail "$h: $(seen "$h" shop env | tr '\0' ' ')"
                [ "$(host_exec "$h" sh -c 'stat -c %a /run/fleet/secrets/*/ /run/fleet/secrets/*/db-password' | sort -u | xargs)" = "444 700" ] || fail "modes on $h: $(host_exec "$h" ls -lR /run/fleet/secrets)"
        done
        fleetctl alpha secret ls | grep -q 'shop@.container: 3 of 3 run with it' || fail "secret ls: $(fleetctl alpha secret ls)"
}

a_new_value_restarts_one_by_one() {
        local before number least=3 n end
        needs_podman
        number=$(content)
        before=$(invocations)
        secret db-password second
        end=$((SECONDS + 90))
        until content_is done "${number:-1}"; do
                [ $SECONDS -lt $end ] || fail "$(fleetctl alpha rollout shop@.container 2>&1)"
                n=$(fleetctl alpha list-units --no-legend --fields=unit,available 2>/dev/null | grep -c '^shop@.*true')
                [ "$n" -ge "$least" ] || least=$n
                sleep 0.1
        done
        [ "$least" -ge 2 ] || fail "$least of 3 were available"
        wait_shops 3
        wait_for 10 all_have second green || fail "they have $(seen alpha shop secrets)"
        [ -z "$(comm -12 <(echo "$before") <(invocations))" ] || fail "not all were restarted: $before, $(invocations)"
}

a_value_that_fails_stops_at_one() {
        local before number
        needs_podman
        # The program ends if its variable is "bad".
        sed -i 's|^Exec=.*|Exec=/bin/sh -c "[ $$COLOR != bad ] \&\& exec /usr/bin/python3 /usr/local/bin/inputs.py read /seen"|' "$LAB/units/shop@.container"
        fleetctl alpha submit --replace shop@.container >"$LAB/out" 2>&1 || fail "submit --replace: $(cat "$LAB/out")"
        wait_shops 3
        number=$(content)
        before=$(invocations)
        key /config/shop/color bad
        wait_for 60 content_is paused "${number:-1}" || fail "$(fleetctl alpha rollout shop@.container 2>&1)"
        [ "$(comm -12 <(echo "$before") <(invocations) | wc -l)" = 2 ] || fail "not two were left: $before, $(invocations)"
        key /config/shop/color blue
        wait_content done "$(($(content) - 1))" 90
        wait_for 60 all_have second blue || fail "they have $(seen alpha shop env | tr '\0' ' ')"
        wait_shops 3
}

has_all() {
        local out
        out=$(host_exec alpha /usr/local/bin/inputs.py same 1 /srv/seen/reader 2>&1) || fail "$1: $out"
        [ "$(seen alpha reader secrets)" = "planted $(sha256sum <"$LAB/value" | cut -d' ' -f1)" ] || fail "$1: the secret differs: $(seen alpha reader secrets)"
}
a_container_has_200_variables_and_files_byte_for_byte() {
        needs_podman
        head -c 32 /dev/urandom >"$LAB/value"
        fleetctl alpha secret set planted --file="$LAB/value" --units='reader*' >"$LAB/out" 2>&1 || fail "secret set: $(cat "$LAB/out")"
        host_exec alpha /usr/local/bin/inputs.py plant 1 /reader >"$LAB/out" 2>&1 || fail "plant: $(cat "$LAB/out")"
        {
                printf '[Unit]\nStartLimitIntervalSec=0\n[Container]\nImage=-\n' | in_lab_container reader
                printf '[Service]\nRestart=always\nTimeoutStopSec=5s\n[X-Fleet]\nMachineMetadata=zone=a\nSecret=planted\nEnvironmentKeys=/reader/env\nConfigKeys=/reader/files\n'
        } | unit_file reader.container
        fleetctl alpha start reader.container >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out"); $(fleetctl alpha journal reader.container 2>&1 | tail -5)"
        wait_for 20 restarted_since alpha reader none || fail "it writes nothing: $(fleetctl alpha journal reader.container 2>&1 | tail -5)"
        has_all "after the start"
}

# Environment= of its file overrides a key; in a service it is the reverse (test-secrets.sh has no such key).
its_own_environment_counts_before_a_key() {
        local before
        needs_podman
        before=$(seen alpha reader started)
        sed -i 's|^\[Container\]|&\nEnvironment=OWN=file|' "$LAB/units/reader.container"
        key /reader/env/own key
        key /reader/env/other key
        fleetctl alpha start --replace reader.container >"$LAB/out" 2>&1 || fail "start --replace: $(cat "$LAB/out")"
        wait_for 20 restarted_since alpha reader "$before" || fail "it is not started again"
        has_variable alpha reader OWN=file && has_variable alpha reader OTHER=key || fail "$(seen alpha reader env | tr '\0' '\n' | grep -aE '^(OWN|OTHER)=')"
}

with_all_daemons_stopped_kills_end_with_its_content() {
        local h i before
        needs_podman
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl stop fleetd || fail "fleetd of $h does not stop"
        done
        for ((i = 1; i <= n_kills; i++)); do
                before=$(seen alpha reader started)
                host_exec alpha systemctl kill -s KILL reader.service
                wait_for 30 restarted_since alpha reader "$before" || fail "kill $i: it does not start again: $(host_exec alpha systemctl status reader.service)"
                has_all "kill $i"
        done
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl start fleetd || fail "fleetd of $h does not start"
        done
        cluster_whole
}

a_host_that_boots_without_a_quorum_starts_it_with_its_content() {
        local h before
        needs_podman
        before=$(seen alpha reader started)
        for h in $LAB_HOSTS; do
                host_kill "$h" || fail "$h is off"
        done
        hosts_up alpha
        wait_for 60 restarted_since alpha reader "$before" || fail "it does not start: $(host_exec alpha journalctl -u fleetd --no-pager | tail -5)"
        ! writes alpha 2>/dev/null || fail "there is a quorum"
        has_all "after the boot"
        hosts_up beta gamma
        cluster_whole
        wait_shops 3
}

a_reader_never_sees_two_versions() {
        local set
        needs_podman
        host_exec alpha /usr/local/bin/inputs.py pairs /pair 0.1 >"$LAB/out" 2>&1 || fail "pairs: $(cat "$LAB/out")"
        { printf '[Container]\nImage=-\n' | in_lab_container pair; printf '[Service]\nTimeoutStopSec=5s\n[X-Fleet]\nMachineMetadata=zone=a\nConfigKeys=/pair\n'; } | unit_file pair.container
        fleetctl alpha start pair.container >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 20 pair_reads || fail "it reads nothing: $(fleetctl alpha journal pair.container 2>&1 | tail -3)"
        set=$(host_exec alpha /usr/local/bin/inputs.py pairs /pair 10) || fail "pairs: $set"
        echo "# $set pairs in 10 s, $(seen alpha pair reads | cut -d' ' -f1) reads of $(seen alpha pair reads | cut -d' ' -f2) versions in a container" >>"$LAB/figures"
        [ "$(seen alpha pair reads | cut -d' ' -f2)" -ge 3 ] || fail "it has read $(seen alpha pair reads)"
        [ -z "$(seen alpha pair torn)" ] || fail "two versions: $(seen alpha pair torn)"
}
pair_reads() { [ -n "$(seen alpha pair reads)" ]; }

# A colon would end a path in Volume=.
ODD='p:q\x2dr.container'
a_container_whose_name_is_no_path_has_its_inputs() {
        needs_podman
        secret odd odd-value
        key /odd/file odd-file
        { printf '[Container]\nImage=-\nContainerName=odd\n' | in_lab_container odd; printf '[Service]\nTimeoutStopSec=5s\n[X-Fleet]\nMachineMetadata=zone=a\nSecret=odd\nConfigKeys=/odd\n'; } | unit_file "$ODD"
        fleetctl alpha start "$ODD" >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out"); $(fleetctl alpha journal "$ODD" 2>&1 | tail -5)"
        wait_for 20 restarted_since alpha odd none || fail "it writes nothing: $(fleetctl alpha journal "$ODD" 2>&1 | tail -5)"
        [ "$(seen alpha odd secrets)" = "odd $(sum odd-value)" ] && [ "$(seen alpha odd files/file)" = odd-file ] || fail "it has $(seen alpha odd secrets), $(seen alpha odd files/file)"
}

# The example of the manual, with a registry on the host.
a_login_for_a_private_registry_is_there_before_the_pull() {
        needs_podman
        host_exec alpha systemd-run -q --unit=registry /usr/local/bin/inputs.py registry 127.0.0.1:5000 lab login-of-the-lab || fail "no registry"
        printf '{"auths":{"127.0.0.1:5000":{"auth":"%s"}}}' "$(printf lab:login-of-the-lab | base64)" | host_exec alpha sh -c 'mkdir -p /root/work && cat >/root/work/auth.json'
        "$top/tests/conformance/examples.py" hosts man/fleet-secrets.7.scd "PULL FROM A PRIVATE REGISTRY" >"$LAB/examples" 2>&1
        grep -E '^(ok|not ok|#) ' "$LAB/examples" >&3
        grep -q '^ok ' "$LAB/examples" && ! grep -q '^not ok ' "$LAB/examples" || fail "see above: $(tail -3 "$LAB/examples")"
        {
                file_of_the_manual private.container | sed 's|^Image=.*|Image=127.0.0.1:5000/private:1|; s|^PodmanArgs=|&--tls-verify=false |' |
                        sed "s|^\[Container\]|&\nNetwork=none\n$CGROUPS\nVolume=/usr:/usr:ro\nVolume=/srv/seen/private:/seen\nExec=/usr/bin/python3 /usr/local/bin/inputs.py read /seen|"
                printf 'MachineMetadata=zone=a\n[Service]\nTimeoutStopSec=5s\n'
        } | unit_file private.container
        fleetctl alpha start private.container >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out"); $(fleetctl alpha journal private.container 2>&1 | tail -5)"
        wait_for 30 restarted_since alpha private none || fail "it does not run: $(fleetctl alpha journal private.container 2>&1 | tail -5)"
        # Without a login, the registry refuses.
        ! host_exec alpha podman pull -q --tls-verify=false 127.0.0.1:5000/private:1 >"$LAB/out" 2>&1 || fail "the registry asks for no login"
}

removed_units_leave_nothing() {
        needs_podman
        fleetctl alpha destroy --yes reader.container pair.container private.container "$ODD" shop@{1..3}.container shop@.container >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 20 nothing_is_left || fail "left: $(host_exec alpha sh -c 'find /var/lib/fleet/credentials /var/lib/fleet/agent/config /run/fleet/config /run/fleet/secrets /run/containers/systemd -mindepth 1' 2>&1 | head -5)"
}
nothing_is_left() {
        local h
        for h in $LAB_HOSTS; do
                [ -z "$(host_exec "$h" sh -c 'find /var/lib/fleet/credentials /var/lib/fleet/agent/config /run/fleet/config /run/fleet/secrets /run/containers/systemd -mindepth 1 2>/dev/null')" ] || return 1
        done
}

exec 3>&1
scenario hosts_have_podman the_container_of_the_manual_gets_secret_and_variable a_new_value_restarts_one_by_one a_value_that_fails_stops_at_one \
        a_container_has_200_variables_and_files_byte_for_byte its_own_environment_counts_before_a_key \
        with_all_daemons_stopped_kills_end_with_its_content a_host_that_boots_without_a_quorum_starts_it_with_its_content \
        a_reader_never_sees_two_versions a_container_whose_name_is_no_path_has_its_inputs a_login_for_a_private_registry_is_there_before_the_pull removed_units_leave_nothing
