#!/bin/bash
# Secrets and configuration of services on three booted hosts: the examples of fleet-secrets(7); values that fail, reloads, inputs that are
# missing; 200 random variables and files byte for byte; stopped daemons, kills, a boot without quorum, restarts of fleetd during a
# rotation; one version for a reader. A planted value is in no place where it does not belong.
# Takes 200 s. With CHECK_ALL=yes: six instances, 20 kills, 100 restarts of fleetd, and a search for the value after each step.
n_shops=3 n_kills=3 n_restarts=10
[ -z "${CHECK_ALL:-}" ] || n_shops=6 n_kills=20 n_restarts=100
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"
export LAB_NAME LAB_HOSTS LAB_TOKENS

# Run the examples of a section of fleet-secrets(7) on alpha. Their results are those of this script.
follow() {
        "$top/tests/conformance/examples.py" hosts man/fleet-secrets.7.scd "$1" >"$LAB/examples" 2>&1
        grep -E '^(ok|not ok|#) ' "$LAB/examples" >&3
        ! grep -q '^not ok ' "$LAB/examples" || fail "see above"
        grep -q '^ok ' "$LAB/examples" || fail "no example of $1 was run: $(tail -3 "$LAB/examples")"
}
# Print a file of the manual; put it into the folder on alpha in which the examples run.
file_of_the_manual() {
        awk -v name="# $1" '$0 == name { inside = 1; next } /^```$/ { inside = 0 } inside' "$top/man/fleet-secrets.7.scd" | sed 's/\\\\/\\/g' | grep . || fail "the manual has no $1"
}
on_alpha() { host_exec alpha sh -c "mkdir -p /root/work; cat >/root/work/$1"; }
secret() { printf %s "$2" | fleetctl alpha secret set "$1" "${@:3}" >"$LAB/out" 2>&1 || fail "secret set $1: $(cat "$LAB/out")"; }
key() { fleetctl alpha kv set "$1" "$2" >"$LAB/out" 2>&1 || fail "kv set $1: $(cat "$LAB/out")"; }

# The number of the present content of the set; true when the rollout of a content above $2 is in state $1.
content() { fleetctl alpha --output=json why shop@1.service 2>/dev/null | json inputs number; }
content_is() {
        local line
        line=$(fleetctl alpha rollout shop@.service 2>/dev/null | head -n 1)
        grep -q "  $1," <<<"$line" && [ "$(sed -n 's/.* content \([0-9]*\) .*/\1/p' <<<"$line")" -gt "$2" ]
}
wait_content() { wait_for "$3" content_is "$1" "$2" || fail "not $1: $(fleetctl alpha rollout shop@.service 2>&1)"; }
# Nothing is under way from a check before.
is_steady() { wait_for 90 rollout_is_done || fail "not done: $(fleetctl alpha rollout shop@.service 2>&1)"; wait_shops $n_shops; }
rollout_is_done() { fleetctl alpha rollout shop@.service 2>/dev/null | head -n 1 | grep -q '  done,'; }
shops() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,available 2>/dev/null | grep -c '^shop@.*true')" = "$1" ]; }
wait_shops() { wait_for 30 shops "$1" || fail "not $1 are available: $(fleetctl alpha list-units --fields=unit,machine,active,sub,available,why 2>&1)"; }
# The answer of the instance at port 808$1: its variable COLOR.
answer() { local h; for h in $LAB_HOSTS; do in_lab curl -s -m 2 "http://$(host_address "$h"):808$1/" && return; done; }
answers() { local i; for i in $(seq "${2:-$n_shops}"); do [ "$(answer "$i")" = "$1" ] || return 1; done; }

# What a unit that runs inputs.py has written, on the only host that it is on.
RUN=/run/reader
reader_file() { cat "/proc/$(host_init alpha)/root${2:-$RUN}/$1" 2>/dev/null; }
restarted_since() { [ -n "$(reader_file started)" ] && [ "$(reader_file started)" != "$1" ]; }
has_all() {
        [ "$(host_exec alpha /usr/local/bin/inputs.py same 1 $RUN 2>&1)" = "" ] || fail "${1:-it}: $(host_exec alpha /usr/local/bin/inputs.py same 1 $RUN 2>&1)"
        [ "$(reader_file secrets)" = "planted $(sha256sum <"$LAB/value" | cut -d' ' -f1)" ] || fail "${1:-it}: the secret differs: $(reader_file secrets)"
}
reader_invocation() { host_exec alpha systemctl show --value -p InvocationID reader.service; }

# A value of 32 bytes for the secret of reader.service.
next_value() { head -c 32 /dev/urandom | tee -a "$LAB/values" >"$LAB/value"; }
# What host $1 shows to those who ask.
host_shows() {
        curl -s --unix-socket "$(host_socket "$1")" 'http://fleet/fleet/v1/kv/list?prefix=/_fleet&limit=10000' >"$LAB/shown/tree.$1"
        curl -s -m 1 --unix-socket "$(host_socket "$1")" 'http://fleet/fleet/v1/events?details=true&after=0' >"$LAB/shown/changes.$1"
        host_exec "$1" systemctl show --all '*' >"$LAB/shown/properties.$1" 2>&1
        host_exec "$1" journalctl -o export --no-pager >"$LAB/shown/journal.$1" 2>&1
}
# Fail if a file has one of the values, on the disks of all hosts and in their memory: /run, all command lines, environments of other
# processes, properties of units, answers, the backup, and what hosts have sent to each other.
value_is_nowhere() {
        local h found paths=() pids=()
        for h in $LAB_HOSTS; do
                paths+=("$LAB/$h/up")
                ! host_is_on "$h" || paths+=("/proc/$(host_init "$h")/root/run")
        done
        rm -rf "$LAB/shown"
        mkdir "$LAB/shown"
        fleetctl alpha --output=json secret ls >"$LAB/shown/secrets" 2>&1
        fleetctl alpha --output=json why reader.service >"$LAB/shown/why" 2>&1
        fleetctl alpha --output=json events --since=1970-01-01 >"$LAB/shown/events" 2>&1
        fleetctl alpha log --output=json >"$LAB/shown/log" 2>&1
        fleetctl alpha kv export / >"$LAB/shown/keys" 2>&1
        for h in $LAB_HOSTS; do
                ! host_is_on "$h" || { host_shows "$h" & pids+=($!); }
        done
        wait "${pids[@]}"
        [ -s "$LAB/traffic" ] && [ -s "$LAB/shown/tree.alpha" ] && [ -s "$LAB/shown/journal.alpha" ] && [ -s "$LAB/shown/properties.alpha" ] || fail "$1: nothing is searched"
        # The search finds what is there.
        host_exec alpha sh -c 'cat >/root/control' <"$LAB/value"
        found=$("$here/inputs.py" search "$LAB/values" "${paths[@]}" "$LAB/shown" "$LAB/traffic" /proc/[0-9]*/cmdline /proc/[0-9]*/environ)
        host_exec alpha rm /root/control
        grep -qx "$LAB/alpha/up/root/control" <<<"$found" || fail "$1: the control is not found"
        [ "$(sed -n 's/^searched //p' <<<"$found")" -gt 100 ] || fail "$1: $found"
        ! grep -v "^searched \|/root/control$" <<<"$found" >"$LAB/found" || fail "$1: the value is in $(head -n 5 "$LAB/found" | tr '\n' ' ')"
}
# What this would find stays on a disk, where the next search finds it, too.
already_nowhere() { [ -z "${CHECK_ALL:-}" ] || value_is_nowhere "$1"; }

hosts_have_the_programs() {
        local h
        for h in $LAB_HOSTS; do
                host_make "$h" || fail "no disk for $h"
                install -D -m 755 "$here/inputs.py" "$LAB/$h/up/usr/local/bin/inputs.py"
                install -m 755 "$here/shop" "$LAB/$h/up/usr/local/bin/shop"
                printf '#!/bin/sh\nexec sleep infinity\n' | install -m 755 /dev/stdin "$LAB/$h/up/usr/local/bin/report"
        done
        cluster_with_instances
        for h in $LAB_HOSTS; do
                printf '[Fleetd]\nBootWaitSec=3s\n' | host_exec "$h" sh -c 'cat >/etc/fleet/fleetd.conf.d/20-test.conf && systemctl reload fleetd' || fail "no configuration of $h"
        done
        next_value
        in_lab python3 "$here/inputs.py" capture "$LAB/traffic" >"$LAB/capture" 2>&1 &
}

the_manual_uses_a_secret_in_a_service() {
        file_of_the_manual shop@.service | on_alpha shop@.service
        printf '[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nSecret=later-token\n' | on_alpha later.service
        follow "USE A SECRET IN A SERVICE"
        answers green 3 || fail "they answer $(answer 1) $(answer 2) $(answer 3)"
        secret later-token x
        wait_for 10 lists alpha later.service "active running" || fail "it does not start: $(fleetctl alpha why later.service 2>&1)"
        fleetctl alpha destroy later.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}

the_manual_gives_a_new_value_one_by_one() {
        local before examples=pass
        # shellcheck disable=SC2046
        [ $n_shops = 3 ] || fleetctl alpha start $(seq -f 'shop@%g.service' 4 $n_shops) >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_shops $n_shops
        before=$(invocations '^shop@')
        client_start $n_shops 8081
        (follow "GIVE A NEW VALUE (restart, reload, none)") || examples=fail # the rollout goes on
        wait_content done 1 30
        client_stop "a rotation" $((n_shops - 1))
        all_are_new "$before" || fail "not all were restarted: $(ended_since "$before" '^shop@')"
        [ "$(instance_events | grep -c ' start ')" = $((2 * n_shops)) ] || fail "$(instance_events | grep -c ' start ') starts of $n_shops instances"
        [ $examples = pass ] || fail "see above"
}

a_bad_value_stops_at_one_and_the_next_one_continues() {
        local before number out
        is_steady
        number=$(content)
        before=$(invocations '^shop@')
        secret db-password bad-one
        wait_content paused "$number" 40
        [ "$(ended_since "$before" '^shop@' | wc -l)" = 1 ] || fail "touched: $(ended_since "$before" '^shop@')"
        shops $((n_shops - 1)) || fail "not the others are available: $(fleetctl alpha list-units --fields=unit,available 2>&1)"
        out=$(fleetctl alpha status 2>&1)
        grep -q 'shop@.*fleetctl \(journal\|rollout\) shop@' <<<"$out" || fail "status: $out"
        secret db-password good-one
        wait_content done "$((number + 1))" 60
        wait_shops $n_shops
        out=$(fleetctl alpha secret ls 2>&1)
        grep -q "db-password.*shop@.service: $n_shops of $n_shops run with it" <<<"$out" || fail "secret ls: $out"
}

a_secret_and_a_key_that_change_together_are_one_restart() {
        local number starts
        is_steady
        number=$(content)
        starts=$(instance_events | grep -c ' start ')
        host_exec alpha /usr/local/bin/inputs.py together db-password good-two /config/shop/color blue >"$LAB/out" 2>&1 || fail "together: $(cat "$LAB/out")"
        wait_content done "$number" 60
        wait_for 30 answers blue || fail "they answer $(answer 1) to $(answer $n_shops)"
        wait_shops $n_shops
        starts=$(($(instance_events | grep -c ' start ') - starts))
        [ "$starts" = $n_shops ] || fail "$starts starts of $n_shops instances"
}

# Each instance is restarted once for the text, and at most once more: the number of a content waits while the rollout of a text rolls.
a_text_and_a_content_that_change_together_reach_all() {
        local before starts
        is_steady
        before=$(invocations '^shop@')
        instance_events >"$LAB/events.before"
        file_of_the_manual shop@.service | sed 's/^Type=exec/&\nEnvironment=TEXT=2/' | unit_file shop@.service
        key /config/shop/color white
        fleetctl alpha submit --replace --no-block shop@.service >"$LAB/out" 2>&1 || fail "submit: $(cat "$LAB/out")"
        wait_for 90 all_are_new "$before" || fail "not all were restarted: $(fleetctl alpha rollout shop@.service 2>&1)"
        wait_for 60 answers white || fail "they answer $(answer 1) to $(answer $n_shops): $(fleetctl alpha rollout shop@.service 2>&1)"
        is_steady
        starts=$(instance_events | comm -13 "$LAB/events.before" - | grep -c ' start 808')
        [ "$starts" -le $((2 * n_shops)) ] || fail "$starts starts of $n_shops instances"
}
all_are_new() { [ "$(ended_since "$1" '^shop@' | wc -l)" = $n_shops ] && [ "$(invocations '^shop@' | wc -l)" = $n_shops ]; }

keys_of_which_no_content_can_be_made_leave_the_former_one_in_force() {
        local out number color
        is_steady
        number=$(content)
        color=$(answer 1)
        keys_together '{"action": "set", "key": "/config/shop/a_b", "value": "1"}, {"action": "set", "key": "/config/shop/a/b", "value": "2"}'
        wait_for 10 status_has alpha 'shop@.*/config/shop/a.*are both A_B; its former content is in force' || fail "status: $(fleetctl alpha status 2>&1)"
        out=$(fleetctl alpha why shop@1.service 2>&1)
        grep -q '/config/shop/a.* and /config/shop/a.* are both A_B; its former content is in force' <<<"$out" || fail "why: $out"
        keys_together '{"action": "delete", "key": "/config/shop/a_b"}, {"action": "delete", "key": "/config/shop/a/b"}'
        wait_for 10 has_no_problem || fail "status: $(fleetctl alpha status 2>&1)"
        [ "$(content)" = "$number" ] || fail "contents $number to $(content)"
        is_steady
        answers "$color" || fail "they answer $(answer 1) to $(answer $n_shops)"
}
keys_together() { fleetctl alpha kv txn >"$LAB/out" 2>&1 <<<"{\"writes\": [$1]}" || fail "kv txn: $(cat "$LAB/out")"; }
has_no_problem() { ! fleetctl alpha status 2>/dev/null | grep -q '/config/shop'; }

# SENDER'S REQUEST is refused with this status, and a message with the right.
refused() { # STATUS CURL-OPTION...
        local out status
        out=$(host_exec alpha curl -sS -m 10 -w '\n%{http_code}' "${@:2}" 2>&1)
        status=$(tail -n 1 <<<"$out")
        [ "$status" = "$1" ] && grep -q 'shop@.service reads /config/shop: write it by fleetctl as root or group fleet, or with keys-write:/config/shop' <<<"$out" || fail "${*:2}: $out"
}
others_do_not_write_where_a_unit_reads() {
        local before at=http://127.0.0.1:2379
        before=$(identities)
        refused 401 -X PUT $at/v2/keys/config/shop/color -d value=red
        refused 401 -X PUT $at/v2/keys/config/shop/other -d value=red
        refused 401 -X DELETE "$at/v2/keys/config?recursive=true"
        refused 401 -X POST $at/v2/keys/config/shop -d value=red
        refused 403 -X PUT $at/fleet/v1/kv/value/config/shop/color -H 'Content-Type: application/octet-stream' --data-binary red
        refused 403 -X DELETE "$at/fleet/v1/kv/value/config?recursive=true"
        refused 403 -X POST $at/fleet/v1/kv/txn -H 'Content-Type: application/json' -d '{"writes": [{"action": "set", "key": "/free", "value": "1"}, {"action": "set", "key": "/config/shop/color", "value": "red"}]}'
        [ "$(key_put alpha /config-other/color red)" = ok ] || fail "a key beside the path cannot be written"
        [ "$(key_get beta /config/shop/color)" = white ] || fail "the key is $(key_get beta /config/shop/color)"
        untouched "$before"
}

a_service_has_200_variables_and_files_byte_for_byte() {
        fleetctl alpha secret set planted --file="$LAB/value" --units='reader*' >"$LAB/out" 2>&1 || fail "secret set: $(cat "$LAB/out")"
        already_nowhere "after set"
        host_exec alpha /usr/local/bin/inputs.py plant 1 /reader >"$LAB/out" 2>&1 || fail "plant: $(cat "$LAB/out")"
        unit_file reader.service <<'END'
[Unit]
StartLimitIntervalSec=0
[Service]
User=nobody
RuntimeDirectory=reader
RuntimeDirectoryPreserve=yes
ExecStart=/usr/local/bin/inputs.py read %t/reader
Type=exec
Restart=always
[X-Fleet]
MachineMetadata=zone=a
UpdateWatchSec=1s
Secret=planted
EnvironmentKeys=/reader/env
ConfigKeys=/reader/files
END
        fleetctl alpha start reader.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 restarted_since none || fail "it writes nothing: $(fleetctl alpha journal reader.service 2>&1 | tail -3)"
        [ "$(reader_file started | cut -d' ' -f2)" = 65534 ] || fail "it runs as user $(reader_file started)"
        has_all
        already_nowhere "after start"
}

# OnChange=none: its files change, and it does not.
a_new_content_waits_for_the_next_start() {
        local before
        before=$(reader_file started)
        next_value
        fleetctl alpha secret set planted --file="$LAB/value" >"$LAB/out" 2>&1 || fail "secret set: $(cat "$LAB/out")"
        grep -q 'used at the next start: reader.service' "$LAB/out" || fail "secret set: $(cat "$LAB/out")"
        key /reader/files/new later
        wait_for 10 reads_new || fail "the file is not there"
        [ "$(reader_file started)" = "$before" ] || fail "it was started again"
        fleetctl alpha restart reader.service >"$LAB/out" 2>&1 || fail "restart: $(cat "$LAB/out")"
        wait_for 10 restarted_since "$before" || fail "it is not started again"
        [ "$(reader_file secrets)" = "planted $(sha256sum <"$LAB/value" | cut -d' ' -f1)" ] && [ "$(reader_file files/new)" = later ] || fail "it has $(reader_file secrets), and $(reader_file files/new)"
        before=$(reader_file started)
        fleetctl alpha kv rm /reader/files/new >"$LAB/out" 2>&1 || fail "kv rm: $(cat "$LAB/out")"
        wait_for 10 has_no_new || fail "the file is still there"
        fleetctl alpha restart reader.service >"$LAB/out" 2>&1 || fail "restart: $(cat "$LAB/out")"
        wait_for 10 restarted_since "$before" || fail "it is not started again"
        has_all
        value_is_nowhere "after a rotation"
}
reads_new() { [ "$(cat "/proc/$(host_init alpha)/root/run/fleet/config/"reader.service~*/current/new)" = later ]; }
has_no_new() { ! reads_new; }

# One reload of each instance for a content.
reloads() { instance_events | awk '$2 == "reload" && $3 ~ /^809/ { n[$3]++ } END { print n[8091] + 0, n[8092] + 0, n[8093] + 0 }'; }
reloads_are() { [ "$(reloads)" = "$1" ]; }
a_reload_touches_no_invocation() {
        local before h
        key /hup/conf 1
        printf '[Service]\nType=notify\nExecStart=/usr/local/bin/instance 809%%i 1 good\nExecReload=/bin/kill -HUP $MAINPID\n[X-Fleet]\nConfigKeys=/hup\nOnChange=reload\nUpdateWatchSec=1s\n' | unit_file hup@.service
        fleetctl alpha start hup@{1..3}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        before=$(invocations '^hup@')
        [ "$(wc -l <<<"$before")" = 3 ] || fail "they run: $before"
        key /hup/conf 2
        wait_for 10 reloads_are "1 1 1" || fail "reloads: $(reloads)"
        key /hup/conf 3
        wait_for 10 reloads_are "2 2 2" || fail "reloads: $(reloads)"
        for h in $LAB_HOSTS; do
                ! host_exec "$h" sh -c 'grep -h . /run/fleet/config/hup@?.service~*/current/conf' 2>/dev/null | grep -vx 3 || fail "a file of $h is a former one"
        done
        key /hup/conf 3
        [ "$(invocations '^hup@')" = "$before" ] && reloads_are "2 2 2" || fail "changed: $(invocations '^hup@'), reloads $(reloads)"
}

the_manual_makes_a_file_from_a_template() {
        local h out
        follow "MAKE A FILE FROM A TEMPLATE"
        file_of_the_manual report.service | unit_file report.service
        secret db-password good-three --units='shop*,report*'
        fleetctl alpha start report.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        h=$(hosts_running report.service)
        out=$(host_exec "$h" cat /run/report/report.conf)
        [ "$out" = "postgres://report:good-three@db.example/report" ] || fail "$out"
        fleetctl alpha destroy report.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 10 leaves_nothing "$h" report.service || fail "left on $h: $(host_exec "$h" ls -d /var/lib/fleet/credentials/report* /run/fleet/config/report* /run/systemd/system/report.service.d 2>&1)"
}
leaves_nothing() { ! host_exec "$1" sh -c "ls -d /var/lib/fleet/credentials/$2~* /run/fleet/config/$2~* /var/lib/fleet/agent/config/$2~* /run/systemd/system/$2.d" 2>/dev/null | grep -q .; }

# Two keys change together for ten seconds.
a_reader_never_sees_two_versions() {
        local index lines set
        host_exec alpha /usr/local/bin/inputs.py pairs /pair 0.1 >"$LAB/out" 2>&1 || fail "pairs: $(cat "$LAB/out")"
        printf '[Service]\nUser=nobody\nRuntimeDirectory=pair\nExecStart=/usr/local/bin/inputs.py read %%t/pair\n[X-Fleet]\nMachineMetadata=zone=a\nConfigKeys=/pair\n' | unit_file pair.service
        fleetctl alpha start pair.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 pair_reads || fail "it reads nothing: $(fleetctl alpha journal pair.service 2>&1 | tail -3)"
        index=$(curl -s -m 1 --unix-socket "$(host_socket alpha)" http://fleet/fleet/v1/events | head -n 1 | json index)
        set=$(host_exec alpha /usr/local/bin/inputs.py pairs /pair 10) || fail "pairs: $set"
        lines=$(curl -s -m 3 --unix-socket "$(host_socket alpha)" "http://fleet/fleet/v1/events?details=true&after=$index" | grep -c '"kind":"inputs".*"name":"pair.service"')
        echo "# $set pairs in 10 s: $lines contents, $(reader_file reads /run/pair | cut -d' ' -f1) reads of $(reader_file reads /run/pair | cut -d' ' -f2) versions" >>"$LAB/figures"
        [ "$set" -ge 100 ] && [ "$lines" -ge 3 ] && [ "$lines" -le 6 ] || fail "$set pairs, $lines contents"
        [ "$(reader_file reads /run/pair | cut -d' ' -f2)" -ge 3 ] || fail "it has read $(reader_file reads /run/pair)"
        [ -z "$(reader_file torn /run/pair)" ] || fail "two versions: $(reader_file torn /run/pair)"
        fleetctl alpha destroy pair.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}
pair_reads() { [ -n "$(reader_file reads /run/pair)" ]; }

with_all_daemons_stopped_kills_end_with_its_content() {
        local i before
        each_host systemctl stop fleetd
        for ((i = 1; i <= n_kills; i++)); do
                before=$(reader_file started)
                host_exec alpha systemctl kill -s KILL reader.service
                wait_for 10 restarted_since "$before" || fail "kill $i: it does not start again: $(host_exec alpha systemctl status reader.service)"
                has_all "kill $i"
        done
        before=$(identities)
        each_host systemctl start fleetd
        cluster_whole
        WHAT="the start of fleetd" untouched "$before"
}

a_host_that_boots_without_a_quorum_starts_it_with_its_content() {
        local h
        for h in $LAB_HOSTS; do
                host_kill "$h" || fail "$h is off"
        done
        hosts_up alpha
        wait_for 60 restarted_since none || fail "it does not start: $(host_exec alpha journalctl -u fleetd --no-pager | tail -5)"
        ! writes alpha 2>/dev/null || fail "there is a quorum"
        has_all
        hosts_up beta gamma
        cluster_whole
        wait_shops $n_shops
}

each_host() { local h pids=(); for h in $LAB_HOSTS; do host_exec "$h" "$@" & pids+=($!); done; for h in "${pids[@]}"; do wait "$h" || fail "$* fails"; done; }

# The leader among them.
restarts_of_fleetd_restart_nothing_else() {
        local i h number before reader starts
        is_steady
        number=$(content)
        before=$(invocations '^shop@')
        reader=$(reader_invocation)
        instance_events >"$LAB/events.before"
        secret db-password good-four
        for ((i = 1; i <= n_restarts; i++)); do
                h=$(cut -d' ' -f$((i % 3 + 1)) <<<"$LAB_HOSTS")
                host_exec "$h" systemctl restart fleetd || fail "restart $i, of $h"
        done
        cluster_whole
        wait_content done "$number" 90
        # A rollout ends without the instances of a host that is away at that moment; they follow when it is back.
        wait_for 60 all_are_new "$before" || fail "restarted: $(ended_since "$before" '^shop@')"
        is_steady
        starts=$(instance_events | comm -13 "$LAB/events.before" - | grep ' start 808')
        [ "$(wc -l <<<"$starts")" = $n_shops ] || fail "not $n_shops starts: $starts"
        [ "$(reader_invocation)" = "$reader" ] || fail "the unit that waits for a start was restarted"
}

the_value_is_in_no_core_file_backup_or_message() {
        local h
        for h in $LAB_HOSTS; do
                host_exec "$h" systemctl kill -s ABRT fleetd
        done
        cluster_whole
        already_nowhere "after a crash"
        host_exec alpha fleetctl backup /root/fleet.backup >"$LAB/out" 2>&1 || fail "backup: $(cat "$LAB/out")"
        already_nowhere "after a backup"
        # gamma gets the tree from the leader, with what the other hosts send to each other.
        host_exec gamma sh -c 'systemctl stop fleetd; fleetd --reset >/dev/null 2>&1; systemctl start fleetd' || fail "fleetd of gamma does not start"
        cluster_whole
        value_is_nowhere "after a transfer"
}

secrets_that_units_name_stay() {
        local out
        ! out=$(fleetctl alpha secret rm planted 2>&1) && grep -q 'reader.service names it: its instances would not start again; to remove it nevertheless: fleetctl secret rm --force planted' <<<"$out" || fail "rm: $out"
        fleetctl alpha destroy reader.service --yes >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 10 leaves_nothing alpha reader.service || fail "left: $(host_exec alpha ls -d /var/lib/fleet/credentials/reader* /run/fleet/config/reader* 2>&1)"
        fleetctl alpha secret rm planted >"$LAB/out" 2>&1 || fail "rm: $(cat "$LAB/out")"
        ! fleetctl alpha secret ls 2>&1 | grep -q planted || fail "it is listed"
}

exec 3>&1
scenario hosts_have_the_programs the_manual_uses_a_secret_in_a_service the_manual_gives_a_new_value_one_by_one a_bad_value_stops_at_one_and_the_next_one_continues \
        a_secret_and_a_key_that_change_together_are_one_restart a_text_and_a_content_that_change_together_reach_all keys_of_which_no_content_can_be_made_leave_the_former_one_in_force \
        others_do_not_write_where_a_unit_reads a_service_has_200_variables_and_files_byte_for_byte a_new_content_waits_for_the_next_start \
        a_reload_touches_no_invocation the_manual_makes_a_file_from_a_template a_reader_never_sees_two_versions \
        with_all_daemons_stopped_kills_end_with_its_content a_host_that_boots_without_a_quorum_starts_it_with_its_content \
        restarts_of_fleetd_restart_nothing_else the_value_is_in_no_core_file_backup_or_message secrets_that_units_name_stay
