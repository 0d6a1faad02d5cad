#!/bin/bash
# A service with an endpoint on each of seven hosts: three voters, two standbys, one attached host, one restricted host. Its files and the answers of fleet-dns
# on each of them, while checks fail, units die, and hosts, daemons, the leader and the quorum are lost. Takes 250 s.
LAB_HOSTS="alpha beta gamma delta epsilon zeta eta" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"
. "$here/rollouts.sh"
. "$here/services.sh"
ORDINARY="alpha beta delta epsilon gamma zeta" ALL="alpha beta delta epsilon eta gamma zeta"
RESTRICTED=eta

without() { local h; for h in $ALL; do [[ " $* " == *" $h "* ]] || echo "$h"; done | xargs; }
# A host of a kind, which stays that one while this test runs: LEADER, VOTER, STANDBY, ATTACHED.
place() { sed -n "s/^$1 //p" "$LAB/places"; }
watched() { echo "$(place VOTER) $(place STANDBY) $(place ATTACHED)"; }
places_are_chosen() {
        roles_of alpha | grep -v "^$RESTRICTED " >"$LAB/roles"
        awk '$2 == "leader" { print "LEADER", $1 } $2 == "voter" { print "VOTER", $1; print "VOTERS", ++n } $2 == "standby" { print "STANDBY", $1 }
             $2 == "-" { print "ATTACHED", $1 }' "$LAB/roles" | sort -r -u -k1,1 >"$LAB/places"
        [ "$(wc -l <"$LAB/places")" = 5 ]
}

seven_hosts_form_a_cluster() {
        local h
        install_instances
        clusters_of_one $LAB_HOSTS
        for h in $LAB_HOSTS; do
                printf '[Fleetd]\nBootWaitSec=3s\n' | host_exec "$h" sh -c 'cat >/etc/fleet/fleetd.conf.d/20-test.conf && systemctl reload fleetd'
        done
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        join_at_once beta gamma delta epsilon zeta
        host_join $RESTRICTED --restricted >"$LAB/out" 2>&1 || fail "join of $RESTRICTED: $(cat "$LAB/out")"
        host_exec $RESTRICTED head -c 8 /etc/machine-id >"$LAB/restricted"
        wait_for 60 places_are_chosen || fail "roles: $(xargs <"$LAB/roles")"
        dns_on $LAB_HOSTS
}

# The files are there for each host before the first service: a name is absent, not unknown.
status_of() { host_exec "$1" dig +time=5 +tries=1 @$ADDRESS "$2" | sed -n 's/.*status: \([A-Z]*\),.*/\1/p'; }
is_complete() { [ "$(service_file "$1" .host | cut -d' ' -f5)" = complete ] && [ "$(status_of "$1" shop.service.fleet)" = NXDOMAIN ]; }
a_service_that_does_not_exist_is_absent() {
        local h
        for h in $LAB_HOSTS; do
                wait_for 10 is_complete "$h" || fail "$h: $(status_of "$h" shop.service.fleet), '$(service_file "$h" .host)'"
        done
}

unready() { local h; for h in $2; do host_exec "$h" "$1" /run/unready || fail "$1 on $h"; done; } # touch|rm HOSTS
has_ended_starts() { [ "$(hosts_running shop.service | wc -l)" = 7 ]; }
a_unit_is_registered_when_its_check_passes_on_each_kind_of_host() {
        local h
        unit_file shop.service <<'END'
[Service]
Type=notify
ExecStart=/usr/local/bin/instance 8080 1
Restart=always
RestartSec=3
[X-Fleet]
Global=true
Port=http:8080
HealthHttp=http/ready
HealthIntervalSec=1s
HealthFailures=1
UpdateWatchSec=1s
WithdrawSec=0
END
        unready touch "$ALL"
        fleetctl alpha start --no-block shop.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 20 has_ended_starts || fail "it runs on $(hosts_running shop.service | xargs)"
        sleep 2 # two checks
        for h in $ALL; do
                [ -z "$(filed "$h" shop)" ] && [ "$(status_of "$h" shop.service.fleet)" = NXDOMAIN ] || fail "$h lists it before its check has passed: $(filed "$h" shop)"
        done
        unready rm "$ALL"
        WITHIN=20 listed shop "$ALL" "$ORDINARY"
        listed shop $RESTRICTED $RESTRICTED
        for h in $ORDINARY; do
                service_file "$h" shop | cmp -s - <(service_file alpha shop) || fail "the files of $h and alpha differ: $(service_file "$h" shop)"
        done
}

a_check_that_fails_withdraws_it_and_one_that_passes_registers_it() {
        local h
        for h in $(watched); do
                unready touch "$h"
                listed shop "$(without "$h")" "$ORDINARY"
                unready rm "$h"
                WITHIN=10 listed shop "$ALL" "$ORDINARY"
        done
}

# die HOST: its process is killed; systemd starts it again after 3 s.
die() { host_exec "$1" systemctl kill -s KILL shop.service || fail "kill on $1"; }
dies_here() { # HOST LISTED: then it is absent at once from this host's answers
        local ms=$(now_ms)
        die "$1"
        wait_for 2 is_listed "$1" shop "$2" || fail "$1 lists '$(filed "$1" shop)'"
        echo "# a unit that died was absent from the answers of $1 after $(($(now_ms) - ms)) ms" >>"$LAB/figures"
}
a_unit_that_dies_is_absent_on_its_host_at_once() {
        local h
        for h in $(watched); do
                dies_here "$h" "$(without "$h")"
                WITHIN=15 listed shop "$ALL" "$ORDINARY"
        done
}

idle_counts() { host_exec "$1" sh -c "curl -sf --unix-socket /run/fleet.sock http://fleet/metrics | grep '^fleet_store_raft_index '; cd /run/fleet/services; stat -c '%n %i %z' . .host *"; }
an_idle_cluster_writes_no_entry_and_no_file() {
        local h hosts
        hosts="alpha $(place STANDBY) $(place ATTACHED)"
        sleep 2 # the last states
        for h in $hosts; do idle_counts "$h" >"$LAB/idle.$h"; done
        sleep 15
        for h in $hosts; do
                idle_counts "$h" | diff "$LAB/idle.$h" - >"$LAB/out" || fail "$h: $(cat "$LAB/out")"
        done
}

# The bytes that its sessions have received, with those of TLS.
received() { host_exec "$(place ATTACHED)" ss -tinH state established '( dport = :2380 )' | grep -o 'bytes_received:[0-9]*' | awk -F: '{ n += $2 } END { print n }'; }
one_change_costs_an_attached_host_at_most_512_bytes() {
        local h before idle n
        h=$(place STANDBY)
        before=$(received)
        sleep 4
        idle=$(($(received) - before))
        before=$(received)
        unready touch "$h"
        sleep 4
        n=$(($(received) - before - idle))
        echo "# a withdrawal cost an attached host $n bytes; in the same time without one: $idle" >>"$LAB/figures"
        [ $n -ge 50 ] && [ $n -le 512 ] || fail "a change: $n bytes"
        unready rm "$h"
        WITHIN=10 listed shop "$ALL" "$ORDINARY"
}

# daemons VERB HOSTS: stop, start, kill -STOP or -CONT, replace the program.
daemons() {
        local h
        for h in $2; do
                case $1 in
                stop | start) host_exec "$h" systemctl --no-block "$1" fleetd ;;
                upgrade) host_exec "$h" sh -c 'to=$(systemctl show --value -p ExecStart fleetd | sed "s/.*path=\([^ ]*\).*/\1/"); cp "$to" "$to.new" && mv "$to.new" "$to" && systemctl restart --no-block fleetd' ;;
                *) host_exec "$h" systemctl kill -s "$1" --kill-whom=main fleetd ;;
                esac || fail "$1 on $h"
        done
}
# fault NAME SECONDS COMMAND... -- COMMAND...: no answer changes during a fault, and after its end.
fault() {
        local what=$1 seconds=$2 begin=()
        shift 2
        while [ "$1" != -- ]; do begin+=("$1"); shift; done
        shift
        # shellcheck disable=SC2046
        finds_start shop same $(watched)
        "${begin[@]}"
        sleep "$seconds"
        WHAT=$what listed shop "$ALL" "$(watched)"
        "$@"
        cluster_whole $ORDINARY
        finds_stop "$what"
        WHAT="after $what" listed shop "$ALL" "$ORDINARY"
}
names_keep_their_answers_while_the_leader_is_killed() { fault "the leader is killed" 3 daemons KILL "$(leader)" -- true; }
names_keep_their_answers_while_a_host_is_away() { fault "a daemon is stopped" 8 daemons stop "$(place STANDBY)" -- daemons start "$(place STANDBY)"; }
names_keep_their_answers_while_all_daemons_are_stopped() { fault "all daemons are stopped" 5 daemons stop "$ALL" -- daemons start "$ALL"; }
names_keep_their_answers_while_all_daemons_hang() { fault "all daemons hang" 8 daemons STOP "$ALL" -- daemons CONT "$ALL"; }
names_keep_their_answers_while_all_daemons_are_upgraded() { fault "all daemons are upgraded" 3 daemons upgrade "$ALL" -- true; }

# A unit that dies while its daemon is stopped is absent when the daemon has seen it.
a_unit_that_dies_meanwhile_is_absent_when_its_daemon_is_back() {
        local h
        h=$(place ATTACHED)
        daemons stop "$h"
        wait_for 10 host_exec "$h" sh -c '! systemctl -q is-active fleetd' || fail "fleetd runs"
        host_exec "$h" sh -c 'mkdir -p /run/systemd/system/shop.service.d; printf "[Service]\nRestart=no\n" >/run/systemd/system/shop.service.d/test.conf; systemctl daemon-reload'
        die "$h"
        sleep 2
        is_listed "$h" shop "$ALL" || fail "without a daemon, the file is '$(filed "$h" shop)'"
        daemons start "$h"
        wait_for 10 is_listed "$h" shop "$(without "$h")" || fail "$h lists '$(filed "$h" shop)'"
        listed shop "$(without "$h")" "$ORDINARY"
        host_exec "$h" sh -c 'rm -r /run/systemd/system/shop.service.d; systemctl daemon-reload; systemctl reset-failed shop; systemctl start shop'
        WITHIN=15 listed shop "$ALL" "$ORDINARY"
}

# Fifty more endpoints are on that host; two hosts are lost at once, so that the brake holds all moves.
the_endpoints_of_lost_hosts_are_removed_with_the_entry_that_writes_lost() {
        local a s h
        s=$(place STANDBY) a=$(place ATTACHED)
        printf '[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nService=fifty\nMachineID=%s\n' "$(host_machine_id "$a")" | unit_file fifty@.service
        fleetctl alpha start fifty@{1..50}.service >"$LAB/out" 2>&1 || fail "start: $(tail -3 "$LAB/out")"
        wait_for 30 has_lines alpha fifty 50 || fail "fifty has $(service_file alpha fifty | wc -l) endpoints"
        wait_for 5 has_lines "$a" fifty 50 || fail "on $a, fifty has $(service_file "$a" fifty | wc -l) endpoints"
        [ "$(host_exec alpha dig +tcp +short @$ADDRESS fifty.service.fleet)" = "$(host_address "$a")" ] || fail "fifty is at $(dig_at alpha fifty.service.fleet)"
        # shellcheck disable=SC2046
        finds_start shop any $(place VOTER)
        host_kill "$a" && host_kill "$s" || fail "no power cut"
        for h in $(without "$a" "$s" $RESTRICTED); do
                wait_for 15 is_listed "$h" shop "$(without "$a" "$s")" || fail "$h lists '$(filed "$h" shop)'"
                wait_for 2 has_lines "$h" fifty 0 || fail "$h lists fifty"
        done
        finds_stop "two hosts are lost"
        hosts_up "$a" "$s"
        cluster_whole $ORDINARY
        WITHIN=60 listed shop "$ALL" "$ORDINARY"
        wait_for 30 has_lines alpha fifty 50 || fail "after the return, fifty has $(service_file alpha fifty | wc -l) endpoints"
        fleetctl alpha destroy --yes fifty@{1..50}.service >"$LAB/out" 2>&1 || fail "destroy: $(tail -3 "$LAB/out")"
        wait_for 10 has_lines "$a" fifty 0 || fail "fifty is left: $(service_file "$a" fifty | wc -l)"
}
has_lines() { [ "$(service_file "$1" "$2" | wc -l)" = "$3" ]; }

# Two of three voters: no host is lost, because that cannot be written.
no_quorum() { key_put "$1" /unknown x | grep -qE 'no leader|no replica'; }
without_a_quorum_names_keep_their_answers_and_own_units_are_decided_here() {
        local h lost left
        wait_for 60 places_are_chosen || fail "roles: $(xargs <"$LAB/roles")"
        lost="$(place LEADER) $(place VOTER)"
        # shellcheck disable=SC2086
        left=$(without $lost $RESTRICTED)
        # shellcheck disable=SC2046
        finds_start shop same $(place STANDBY) $(place ATTACHED)
        for h in $lost; do host_kill "$h" || fail "no power cut"; done
        for h in $left; do wait_for 20 no_quorum "$h" || fail "$h: $(key_put "$h" /unknown x)"; done
        sleep 15 # longer than the time after which a host is lost
        listed shop "$ALL" "$left"
        finds_stop "the quorum is lost"
        for h in $(place STANDBY) $(place ATTACHED); do
                dies_here "$h" "$(without "$h")"
                WITHIN=15 listed shop "$ALL" "$h"
        done
        h=$(place ATTACHED)
        host_kill "$h" || fail "no power cut"
        hosts_up "$h"
        wait_for 60 is_listed "$h" shop "$h" || fail "after a boot without a quorum, $h lists '$(filed "$h" shop)': $(service_file "$h" .host)"
        [ "$(status_of "$h" other.service.fleet)" = SERVFAIL ] || fail "another name: $(status_of "$h" other.service.fleet)"
        # shellcheck disable=SC2086
        hosts_up $lost
        cluster_whole $ORDINARY
        WITHIN=60 listed shop "$ALL" "$ORDINARY"
}

a_host_that_is_shut_down_is_withdrawn_before() {
        local h
        h=$(place ATTACHED)
        host_off "$h" || fail "$h does not shut down"
        listed shop "$(without "$h")" "$(without "$h" $RESTRICTED)"
        hosts_up "$h"
        WITHIN=60 listed shop "$ALL" "$ORDINARY"
}

a_service_that_is_destroyed_leaves_no_file() {
        local h
        fleetctl alpha destroy --yes shop.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        for h in $ALL; do
                wait_for 10 has_lines "$h" shop 0 || fail "$h: $(service_file "$h" shop)"
                [ "$(status_of "$h" shop.service.fleet)" = NXDOMAIN ] || fail "$h: $(status_of "$h" shop.service.fleet)"
        done
}

scenario seven_hosts_form_a_cluster a_service_that_does_not_exist_is_absent a_unit_is_registered_when_its_check_passes_on_each_kind_of_host \
        a_check_that_fails_withdraws_it_and_one_that_passes_registers_it a_unit_that_dies_is_absent_on_its_host_at_once \
        an_idle_cluster_writes_no_entry_and_no_file one_change_costs_an_attached_host_at_most_512_bytes \
        names_keep_their_answers_while_the_leader_is_killed names_keep_their_answers_while_a_host_is_away names_keep_their_answers_while_all_daemons_are_stopped \
        names_keep_their_answers_while_all_daemons_hang names_keep_their_answers_while_all_daemons_are_upgraded \
        a_unit_that_dies_meanwhile_is_absent_when_its_daemon_is_back the_endpoints_of_lost_hosts_are_removed_with_the_entry_that_writes_lost \
        without_a_quorum_names_keep_their_answers_and_own_units_are_decided_here a_host_that_is_shut_down_is_withdrawn_before a_service_that_is_destroyed_leaves_no_file
