#!/bin/bash
# Templates with Replicas= on five hosts with a replica and one without: a set has exactly its instances after its number was changed while leaders were
# killed, a client loses no request while a set is scaled and updated, and a scaled number lasts until a text of a unit directory has another one.
# Takes 60 s.
LAB_HOSTS="alpha $(seq -s ' ' -f 'n%g' 5)" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"
. "$here/rollouts.sh"

on_the_attached_host() { AT=$(cat "$LAB/attached"); } # checks run in shells of their own

# The instances of a template that the cluster has, and those that have processes, on all hosts.
known_slots() { fleetctl "$AT" list-unit-files --no-legend --fields=unit 2>/dev/null | grep "^$1@[0-9]" | sort -V | xargs; }
running() { local h; for h in $LAB_HOSTS; do find "$LAB_CG/$h/payload/system.slice" -type d -name "$1@*.service" -printf '%f\n' 2>/dev/null; done | sort -V | xargs; }
# exactly TEMPLATE NUMBER...: they exist, and each runs once.
exactly() { local all; all=$(printf "$1@%s.service " "${@:2}"); [ "$(known_slots "$1") " = "$all" ] && [ "$(running "$1") " = "$all" ]; }
wait_exactly() { wait_for 60 exactly "$@" || fail "not ${*:2}: known $(known_slots "$1"); running $(running "$1"): $(fleetctl "$AT" why "$1@.service" 2>&1)"; }
scaled() { ctl scale "$1@.service" "$2"; grep -qF "$1@.service: $3" "$LAB/out" || fail "scale $2: $(cat "$LAB/out")"; }

six_hosts_form_a_cluster() {
        install_instances
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        # shellcheck disable=SC2046
        join_at_once $(others alpha)
        attached >"$LAB/attached"
        [ "$(wc -w <"$LAB/attached")" = 1 ] || fail "attached hosts: $(cat "$LAB/attached")"
}

# The leader's daemon is killed as soon as the number is stored.
scale_and_kill() {
        local first
        first=$(leader)
        [ -n "$first" ] || fail "no leader"
        scaled app "$1" "$2"
        cp "$LAB/out" "$LAB/scaled"
        signal_daemon KILL "$first" || fail "no daemon on $first"
}

a_set_has_exactly_its_instances_after_leaders_were_killed() {
        local before
        on_the_attached_host
        printf '[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nReplicas=3\n' | unit_file app@.service
        ctl start app@.service
        wait_for 2 exactly app 1 2 3 || fail "after start: known $(known_slots app); running $(running app)"
        ctl start app@20.service
        before=$(invocations '^app@([123]|20)[.]')
        [ "$(wc -l <<<"$before")" = 4 ] || fail "$before"
        scale_and_kill 10 '10 replicas (file: 3): app@4, app@5, app@6, app@7, app@8, app@9 and app@10 are created'
        # shellcheck disable=SC2046
        wait_exactly app $(seq 10) 20
        [ "$(invocations '^app@([123]|20)[.]')" = "$before" ] || fail "up: $(invocations ^app@); before: $before"
        scale_and_kill 2 '2 replicas (file: 3): app@3, app@4, app@5, app@6, app@7, app@8, app@9 and app@10 are destroyed'
        grep -q '^fleetctl: app@20.service stays' "$LAB/scaled" || fail "$(cat "$LAB/scaled")"
        wait_exactly app 1 2 20
        [ "$(invocations ^app@)" = "$(grep -v 'app@3' <<<"$before")" ] || fail "down: $(invocations ^app@); before: $before"
        cluster_whole
        sleep 3
        exactly app 1 2 20 || fail "later: known $(known_slots app); running $(running app)"
}

# The instances answer on the ports 8011 to 8016.
web_of() {
        printf '[Service]\nType=notify\nExecStart=/usr/local/bin/instance 801%%i %s\nExecReload=/bin/kill -HUP $MAINPID\n[X-Fleet]\nReplicas=3\nMaxSurge=1\nHealthHttp=801%%i/ready\nHealthIntervalSec=1s\nUpdateWatchSec=%ss\n' \
                "$1" $WATCH_S | unit_file web@.service
}

no_request_fails_while_a_set_is_scaled_and_updated() {
        local ports
        on_the_attached_host
        web_of 1
        ctl start web@.service
        wait_available 3
        client_start 6
        wait_for 20 grep -q ' least 3$' "$LAB/client" || fail "the client: $(cat "$LAB/client")"
        scaled web 5 '5 replicas (file: 3): web@4 and web@5 are created'
        web_of 2
        submit
        wait_for 30 started 2 || fail "$(rollout)"
        scaled web 6 '6 replicas (file: 3): web@6 is created'
        wait_rollout done 2 120
        wait_available 6
        client_stop "MaxSurge=1 while scaling" 3
        # shellcheck disable=SC2046
        wait_exactly web $(seq 6)
        ports=$(instance_events | awk '$2 == "start" { last[$3] = $4 } END { for (p in last) print p, last[p] }' | sort | xargs)
        [ "$ports" = "8011 2 8012 2 8013 2 8014 2 8015 2 8016 2" ] || fail "texts: $ports"
}
started() { instance_events | grep -q " start [0-9]* $1 "; }

# of_directory REPLICAS SECONDS: write the template to the unit directory of the attached host, as editors do.
of_directory() {
        printf '[Service]\nExecStart=/bin/sleep %s\n[X-Fleet]\nReplicas=%s\nUpdateWatchSec=1s\n' "$2" "$1" |
                host_exec "$AT" sh -c 'mkdir -p /etc/fleet/units && cd /etc/fleet/units && cat >.new && chmod 644 .new && mv .new dir@.service'
}
sleeping() { local h; for h in $LAB_HOSTS; do host_exec "$h" sh -c 'cat /proc/[0-9]*/cmdline 2>/dev/null' | tr '\0' ' ' | grep -o "sleep $1 " || true; done | wc -l; }
sleep_times() { [ "$(sleeping "$1")" = "$2" ]; }

a_scaled_number_lasts_until_a_text_of_the_directory_has_another() {
        local first
        on_the_attached_host
        of_directory 2 1001
        wait_exactly dir 1 2
        scaled dir 4 '4 replicas (file: 2): dir@3 and dir@4 are created'
        wait_exactly dir 1 2 3 4
        of_directory 2 1002
        wait_for 60 sleep_times 1002 4 || fail "$(sleeping 1002) have the new text: $(fleetctl "$AT" rollout dir@.service 2>&1)"
        wait_exactly dir 1 2 3 4
        fleetctl alpha why dir@.service >"$LAB/out" 2>&1
        grep -q '^dir@.service has 4 of 4 replicas (file: 2; scaled by root@' "$LAB/out" || fail "$(cat "$LAB/out")"
        first=$(invocations '^dir@[123][.]')
        of_directory 3 1002
        wait_exactly dir 1 2 3
        fleetctl alpha why dir@.service >"$LAB/out" 2>&1
        grep -q '^dir@.service has 3 of 3 replicas; ' "$LAB/out" || fail "$(cat "$LAB/out")"
        scaled dir file '3 replicas'
        [ "$(invocations '^dir@[123][.]')" = "$first" ] || fail "touched: $(invocations '^dir@[123][.]'); before: $first"
}

scenario six_hosts_form_a_cluster a_set_has_exactly_its_instances_after_leaders_were_killed no_request_fails_while_a_set_is_scaled_and_updated \
        a_scaled_number_lasts_until_a_text_of_the_directory_has_another
