#!/bin/bash
# The effect of new texts on running units (units/effect.c): a live option acts without a restart, a trigger reloads.
# Takes 4 s.
LAB_HOSTS=alpha
. "$(dirname "$0")/scenario.sh"

FOLDER=/etc/fleet/units

# A live option, its section, two values, the property that systemd shows for it, what that contains for the second value and, of
# resource control, the attribute of the cgroup, which is compared if the machine has the controller. tests/tidy.sh requires a row for
# each live option of units/effect.c.
LIVE='OnFailure|Unit|one.service|two.service|OnFailure|two.service|
StartLimitIntervalSec|Unit|100|200|StartLimitIntervalUSec|3min 20s|
StartLimitBurst|Unit|50|60|StartLimitBurst|60|
StartLimitAction|Unit|none|reboot|StartLimitAction|reboot|
CPUWeight|Service|50|60|CPUWeight|60|cpu.weight
CPUQuota|Service|50%|60%|CPUQuotaPerSecUSec|600ms|cpu.max
CPUQuotaPeriodSec|Service|50ms|60ms|CPUQuotaPeriodUSec|60ms|
MemoryMin|Service|1M|2M|MemoryMin|2097152|memory.min
MemoryLow|Service|1M|2M|MemoryLow|2097152|memory.low
MemoryHigh|Service|100M|200M|MemoryHigh|209715200|memory.high
MemoryMax|Service|100M|200M|MemoryMax|209715200|memory.max
MemorySwapMax|Service|100M|200M|MemorySwapMax|209715200|memory.swap.max
IOWeight|Service|50|60|IOWeight|60|io.weight
TasksMax|Service|50|60|TasksMax|60|pids.max
Restart|Service|no|always|Restart|always|
RestartSec|Service|1|2|RestartUSec|2s|
RestartPreventExitStatus|Service|1|2|RestartPreventExitStatus|2|
RestartForceExitStatus|Service|1|2|RestartForceExitStatus|2|
TimeoutSec|Service|100|200|TimeoutStopUSec|3min 20s|
TimeoutStartSec|Service|100|200|TimeoutStartUSec|3min 20s|
TimeoutStopSec|Service|100|200|TimeoutStopUSec|3min 20s|
TimeoutAbortSec|Service|100|200|TimeoutAbortUSec|3min 20s|
ExecReload|Service|/bin/true|/bin/false|ExecReload|path=/bin/false|
ExecStop|Service|/bin/true|/bin/false|ExecStop|path=/bin/false|
KillMode|Service|mixed|process|KillMode|process|
KillSignal|Service|SIGTERM|SIGINT|KillSignal|2|'

# Run a function for each row; stop at the first failure.
each_live() {
        local option section former value property shown attribute
        while IFS='|' read -r option section former value property shown attribute; do "$@" </dev/null || return 1; done <<<"$LIVE"
}
unit_of() { echo "live-${option,,}.service"; }
names() { each_live unit_of | tr '\n' ' '; }

# Write the unit of a row to the directory of alpha, with the value in the variable $1.
live_unit() {
        printf '[Service]\nExecStart=/bin/sleep infinity\n[%s]\n%s=%s\n' "$section" "$option" "${!1}" >"$LAB/units/$(unit_of)"
}
submit() {
        host_exec alpha sh -c "mkdir -p $FOLDER && tar -x -C $FOLDER" < <(tar -c -C "$LAB/units" .)
}
invocations() { host_exec alpha systemctl show -p Id,InvocationID,MainPID -- "$@"; }
hash_of() { fleetctl alpha list-units --no-legend --full --fields=unit,hash | awk -v unit="$1" '$1 == unit { print $2 }'; }
attribute() { host_exec alpha cat "/sys/fs/cgroup/system.slice/$(unit_of)/$attribute" 2>/dev/null; }
keep_attribute() { [ -z "$attribute" ] || attribute >"$LAB/$option.attribute"; }
all_run() { [ "$(host_exec alpha systemctl is-active -- $(names) | grep -cx active)" = "$(wc -l <<<"$LIVE")" ]; }
shows() { host_exec alpha systemctl show -p "$property" --value "$(unit_of)" | grep -qF -- "$shown"; }
acts() {
        wait_for 10 shows || { echo "$option=$value: $(host_exec alpha systemctl show -p "$property" "$(unit_of)")" >"$LAB/first"; return 1; }
        [ -s "$LAB/$option.attribute" ] || return 0
        [ "$(attribute)" != "$(cat "$LAB/$option.attribute")" ] || { echo "$option=$value: $attribute stays $(attribute)" >"$LAB/first"; return 1; }
}

live_options_act_without_a_restart() {
        local before
        lab_install "$LAB_BUILD" && host_install alpha || fail "fleetd cannot be put on alpha"
        hosts_up alpha
        cluster_whole
        mkdir -p "$LAB/units"
        each_live live_unit former
        submit
        wait_for 10 all_run || fail "not all units run: $(fleetctl alpha list-units)"
        # shellcheck disable=SC2046
        before=$(invocations $(names))
        each_live keep_attribute
        each_live live_unit value
        submit
        each_live acts || fail "$(cat "$LAB/first")"
        # shellcheck disable=SC2046
        [ "$before" = "$(invocations $(names))" ] || fail "restarted: $(diff <(echo "$before") <(invocations $(names)) | tr '\n' ' ')"
}

# Each reload appends a line.
reloads() { host_exec alpha sh -c 'cat /run/reloads 2>/dev/null' | wc -l; }
reloaded() { [ "$(reloads)" = "$1" ]; }
reload_unit() {
        printf '[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c "echo $MAINPID >>/run/reloads"\n%s[X-Fleet]\nReloadTrigger=%s\n' \
                "$2" "$1" >"$LAB/units/reload@1.service"
        submit
}

a_trigger_reloads_an_instance_without_a_restart() {
        local before hash
        reload_unit 1 ''
        wait_for 10 runs_once reload@1.service || fail "it does not run: $(fleetctl alpha list-units)"
        before=$(invocations reload@1.service)
        hash=$(hash_of reload@1.service)
        reload_unit 2 $'MemoryMax=1G\n'
        wait_for 10 reloaded 1 || fail "$(reloads) reloads"
        [ "$before" = "$(invocations reload@1.service)" ] || fail "it was restarted"
        [ "$(host_exec alpha systemctl show -p MemoryMax --value reload@1.service)" = 1073741824 ] || fail "the former limit stays"
        wait_for 5 published_other "$hash" || fail "the published hash is still $hash"
        reload_unit 2 $'MemoryMax=1G\nRestart=always\n'
        wait_for 10 property_is Restart always || fail "Restart= stays"
        reloaded 1 || fail "$(reloads) reloads for a change of Restart="
        reload_unit 2 $'MemoryMax=1G\nRestart=always\nNice=1\n'
        wait_for 10 property_is Nice 1 || fail "Nice= stays"
        [ "$before" != "$(invocations reload@1.service)" ] || fail "a new Nice= does not restart it"
        reloaded 1 || fail "$(reloads) reloads for a restart"
}
published_other() { [ -n "$(hash_of reload@1.service)" ] && [ "$(hash_of reload@1.service)" != "$1" ]; }
property_is() { [ "$(host_exec alpha systemctl show -p "$1" --value reload@1.service)" = "$2" ]; }

scenario live_options_act_without_a_restart a_trigger_reloads_an_instance_without_a_restart
