# Shared parts of the scenarios of fleet's functional tests (test-scenarios-*.sh). Numbers and names are those of that suite. Their
# places:
#
#   1-3                                  tests/client/test-fleetctl.py: the client alone
#   4, 7-19, 23, 36, 38-40, 43           test-scenarios-1.sh, one host
#   20, 25, 26, 33, 34, 41, 42           test-scenarios-1.sh, two hosts
#   5, 6, 21, 22, 24, 27-30, 32, 35-37   test-scenarios-2.sh, three hosts
#   31                                   test-scenarios-2.sh, four hosts
#
# 21, 31 and 33 differ on purpose: the host is powered off instead of the daemon, because stopping fleetd moves nothing. 34: fleetd does not
# start on the disk of another machine ID. 35: there is no TTL; the network is cut for as long as fleet's suite waits.
#
# Fast tests: page tokens test-api page_tokens_are_those_of_fleet; hashes test-unit_file canonical_text_and_hash_are_fleets; values
# in quotes test-options lists_are_repeated_options_or_quoted_items; names test-name names_are_checked_by_fleets_rules_with_fleets_messages;
# specifiers test-name specifiers_become_parts_of_the_name; metadata test-placement keys_are_anded_and_values_of_one_key_ored; the
# least loaded, by id, test-scheduler the_least_loaded_then_the_smallest_is_picked and test-engine_plan; order of tasks
# test-agent_plan. The engine version gate and the lease of fleet have no counterpart: assignments carry the leader's
# term (test-apply), and the feature level (test-api) excludes features that some hosts lack.

FIRST=${LAB_HOSTS%% *}

# Run fleetctl on the first host; it must succeed.
ctl() { FLEETCTL_LIMIT=120 fleetctl "$FIRST" "$@" >"$LAB/out" 2>&1 || fail "fleetctl $*: exit $?, $(tail -5 "$LAB/out")"; }

# The active units, one line for each machine that runs it: "hello.service ID".
active() { fleetctl "$FIRST" list-units --no-legend --full --fields=unit,active,machine 2>/dev/null | awk '$2 == "active" { sub("/.*", "", $3); print $1, $3 }' | sort; }
active_are() { [ "$(active | wc -l)" = "$1" ]; }
wait_active() { wait_for "${2:-15}" active_are "$1" || fail "after ${2:-15} s not $1 active: $(active | tr '\n' ';') $(fleetctl "$FIRST" list-units --no-legend 2>&1 | tr '\n' ';')"; }
is_active() { active | grep -q "^$1 "; }
machine_of() { active | awk -v u="$1" '$1 == u { print $2 }'; }
machines_of() { local u; for u in "$@"; do machine_of "$u"; done | sort -u | wc -l; }
count() { fleetctl "$FIRST" "$1" --no-legend --fields=unit 2>/dev/null | grep -c .; }
count_is() { [ "$(count "$1")" = "$2" ]; }
wait_count() { wait_for 10 count_is "$1" "$2" || fail "$1 has $(count "$1"), not $2: $(fleetctl "$FIRST" "$1" --no-legend | tr '\n' ';')"; }
instances() { local i; for i in $(seq "$2" "$3"); do echo "${1%.service}$i.service"; done; }

# The invocation of each running unit on all hosts, one per line: "alpha hello@1.service 0123...".
invocations() {
        local h u
        for h in $LAB_HOSTS; do
                host_is_on "$h" || continue
                for u in $(host_exec "$h" ls /run/fleet/units); do
                        echo "$h $u $(host_exec "$h" systemctl show --value -p InvocationID "$u")"
                done
        done
}
# All $2 units in file $1 were started again since then.
all_are_new() {
        invocations >"$LAB/after"
        [ "$(wc -l <"$1")" = "$2" ] && [ "$(wc -l <"$LAB/after")" = "$2" ] && [ -z "$(comm -12 <(sort "$1") <(sort "$LAB/after"))" ] ||
                fail "not all $2 were started again: $(tr '\n' ';' <"$1") $(tr '\n' ';' <"$LAB/after")"
}

# Remove everything that a scenario left.
clean() {
        local units
        units=$(fleetctl "$FIRST" list-unit-files --no-legend --fields=unit)
        # shellcheck disable=SC2086
        [ -z "$units" ] || ctl destroy $units
        rm -rf "$LAB/units"
        wait_for 10 count_is list-units 0 || fail "units are left: $(fleetctl "$FIRST" list-units --no-legend | tr '\n' ';')"
}

# Write a unit file with a line of [X-Fleet] for each further argument.
unit() {
        local name=$1
        shift
        { [ $# = 0 ] || printf '[X-Fleet]\n'; [ $# = 0 ] || printf '%s\n' "$@"; } | runs_forever "$name"
}

# The state of the daemon: "inactive success".
service_is() { [ "$(host_exec "$1" systemctl show -p ActiveState,Result fleetd | sort | sed 's/.*=//' | tr '\n' ' ')" = "$2 " ]; }

# The answer to a request over the socket of the first host: "204 application/json", its body in $LAB/body.
asks() { curl -sS --unix-socket "$(host_socket "$FIRST")" -o "$LAB/body" -w '%{http_code} %{content_type}' "http://fleet/fleet/v1/$1" "${@:2}"; }

# --- ssh ----------------------------------------------------------------------------------------------------------

# The server of OpenSSH, unpacked if this machine has none: installing it would start a listener here.
sshd_files() { [ -x /usr/sbin/sshd ] || unpacked lab-sshd openssh-server libwrap0; }

# Permit logins as root from all hosts on a running host: a server key of its own, the client key of the lab.
sshd_on() {
        local h=$1 u=$LAB/$1/up d
        ! host_exec "$h" systemctl is-active -q lab-sshd || return 0
        sshd_files || fail "no sshd"
        for d in "$LAB_BUILD"/lab-sshd/usr/sbin "$LAB_BUILD"/lab-sshd/usr/lib "$LAB_BUILD"/lab-sshd/lib; do
                [ ! -d "$d" ] || tar -C "$d" -c . | host_exec "$h" tar -C "/${d#"$LAB_BUILD"/lab-sshd/}" -x --no-overwrite-dir
        done
        [ -f "$LAB/id" ] || ssh-keygen -q -t ed25519 -N '' -f "$LAB/id"
        host_exec "$h" sh -ec 'grep -q ^sshd: /etc/passwd || echo sshd:x:891:65534::/run/sshd:/usr/sbin/nologin >>/etc/passwd
                mkdir -p /run/sshd; mkdir -p -m 700 /root/.ssh; rm -f /root/.ssh/*; cat >/root/.ssh/id_ed25519; chmod 600 /root/.ssh/id_ed25519
                ssh-keygen -y -f /root/.ssh/id_ed25519 >/root/.ssh/authorized_keys
                ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/host
                systemd-run -q --unit=lab-sshd /usr/sbin/sshd -D -e -f /dev/null -h /root/.ssh/host -o UsePAM=no -o PidFile=none' \
                <"$LAB/id" >"$LAB/out" 2>&1 || fail "no sshd on $h: $(cat "$LAB/out")"
        wait_for 10 host_exec "$h" python3 -c 'import socket; socket.create_connection(("127.0.0.1", 22), 1)' ||
                fail "sshd on $h does not listen: $(host_exec "$h" journalctl -u lab-sshd -n 5 --no-pager)"
}
