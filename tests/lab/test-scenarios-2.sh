#!/bin/bash
# The scenarios of fleet's functional suite, by their numbers and names: on three hosts, then on four. See fleet.sh.
# Takes 80 s.
LAB_HOSTS="alpha beta gamma"
. "$(dirname "$0")/scenario.sh"
. "$here/fleet.sh"

three_hosts() { cluster_up; }

s06_tunnel_batch() {
        local out
        sshd_on alpha
        sshd_on beta
        unit hello.service
        unit hello@.service
        host_exec beta sh -c 'mkdir -p /root/units; cat >/root/units/hello.service; cp /root/units/hello.service /root/units/hello@.service' <"$LAB/units/hello.service"
        out=$(host_exec beta sh -c "cd /root/units; echo yes | fleetctl --ssh-username=root --known-hosts-file=/root/hosts --tunnel=$(host_address alpha) start hello.service" 2>&1) ||
                fail "start of one: $out"
        out=$(host_exec beta sh -c "cd /root/units; fleetctl --ssh-username=root --known-hosts-file=/root/hosts --tunnel=$(host_address alpha) start $(instances hello@.service 1 10 | tr '\n' ' ')" 2>&1) ||
                fail "start of ten: $out"
        ! grep -q Error <<<"$out" || fail "$out"
        wait_active 11
        clean
}

s21_machine_of_moves_together_when_its_host_goes() {
        local n host
        for n in 0 1 2; do
                unit ping.$n.service
                unit pong.$n.service MachineOf=ping.$n.service
        done
        ctl start --no-block {ping,pong}.{0,1,2}.service
        count_is list-unit-files 6 || fail "$(fleetctl alpha list-unit-files)"
        wait_active 6
        for n in 0 1 2; do
                [ "$(machines_of ping.$n.service pong.$n.service)" = 1 ] || fail "pair $n: $(active)"
        done
        # Differs: the host of pair 1 is powered off, because stopping the daemon moves nothing.
        host=$(hosts_running ping.1.service)
        FIRST=$(others "$host" | head -1)
        host_kill "$host"
        wait_for 15 knows_machines "$FIRST" 2 || fail "machines: $(machines "$FIRST")"
        wait_active 6
        [ "$(machines_of ping.1.service pong.1.service)" = 1 ] || fail "pair 1 was parted: $(active)"
        [ "$(machine_of ping.1.service)" != "$(host_machine_id "$host")" ] || fail "pair 1 did not move: $(active)"
        hosts_up "$host"
        cluster_whole
        clean
}

s22_conflicts() {
        local names
        names=$(instances conflict.service 0 4 | sed 's/conflict/conflict./')
        for n in $names; do
                unit "$n" 'Conflicts=conflict.*.service'
        done
        # shellcheck disable=SC2086
        ctl start --no-block $names
        wait_active 3
        count_is list-unit-files 5 || fail "$(fleetctl alpha list-unit-files)"
        # shellcheck disable=SC2086
        [ "$(active | cut -d' ' -f2 | sort -u | wc -l)" = 3 ] || fail "two share a machine: $(active)"
        # A unit that was submitted later is also decided later: there is no fourth.
        unit later.service
        ctl start later.service
        [ "$(active | grep -c ^conflict)" = 3 ] || fail "a fourth one runs: $(active)"
        clean
}

s24_multiple_conflicts() {
        local form n
        for form in line lines; do
                for n in a b c; do
                        if [ $form = line ]; then
                                unit $n.service 'Conflicts="a.service" "b.service" "c.service"'
                        else
                                unit $n.service Conflicts=a.service Conflicts=b.service Conflicts=c.service
                        fi
                done
                ctl start a.service b.service c.service
                wait_active 3
                [ "$(machines_of a.service b.service c.service)" = 3 ] || fail "$form: $(active)"
                clean
        done
}

s27_machine_id() {
        local h
        for h in $LAB_HOSTS; do
                unit "on-$h.service" "MachineID=$(host_machine_id "$h")"
        done
        ctl start on-{alpha,beta,gamma}.service
        for h in $LAB_HOSTS; do
                wait_for 5 runs_on "on-$h.service" "$h" || fail "on-$h runs on $(hosts_running "on-$h.service")"
        done
        clean
}

s28_global() {
        unit one.service
        unit two.service
        unit everywhere.service Global=true
        ctl start one.service two.service
        ctl start --no-block everywhere.service
        wait_active 5
        [ "$(active | grep -c '^everywhere')" = 3 ] && [ "$(active | grep ^everywhere | cut -d' ' -f2 | sort -u | wc -l)" = 3 ] || fail "$(active)"
        # fleet accepted status --no-block because its usage errors exit with 0; fleetctl ignores the flag.
        ctl status --no-block everywhere.service
        [ "$(grep -c 'Active: active' "$LAB/out")" = 3 ] || fail "status lists $(grep -c 'Active: active' "$LAB/out") machines"
        ctl destroy one.service two.service
        wait_active 3
        invocations >"$LAB/before"
        ctl restart everywhere.service
        wait_active 3
        [ "$(active | grep -c '^everywhere')" = 3 ] || fail "after the restart: $(active)"
        all_are_new "$LAB/before" 3
        clean
}

s29_global_conflicts() {
        unit global.0.service Global=true Conflicts=global.1.service
        unit global.1.service Global=true Conflicts=global.0.service
        ctl start --no-block global.0.service
        wait_active 3
        ctl start --no-block global.1.service
        unit later.service
        ctl start later.service
        # fleet decided by name; fleetd keeps the running unit.
        wait_active 4
        [ "$(active | grep -c '^global.0')" = 3 ] || fail "$(active)"
        clean
}

s30_template_specifier_metadata() {
        local h id patch= out
        for h in $LAB_HOSTS; do
                patch+="{\"op\":\"add\",\"path\":\"/$(host_machine_id "$h")/metadata/hostname\",\"value\":\"$h\"},"
        done
        out=$(asks machines -X PATCH -H 'Content-Type: application/json' -d "[${patch%,}]")
        [[ $out == 204* ]] || fail "$out: $(cat "$LAB/body")"
        unit metadata@.service MachineMetadata=hostname=%i
        ctl submit metadata@.service
        ctl start metadata@{gamma,beta,alpha}.service
        for h in $LAB_HOSTS; do
                runs_on "metadata@$h.service" "$h" || fail "metadata@$h runs on $(hosts_running "metadata@$h.service")"
        done
        ! fleetctl alpha start --block-attempts=$([ -n "${CHECK_ALL:-}" ] && echo 20 || echo 2) metadata@invalid.service >"$LAB/out" 2>&1 || fail "it starts where nothing fits: $(cat "$LAB/out")"
        clean
}

# One row for each state of a unit.
states() { fleetctl alpha list-unit-files --no-legend --fields=unit,dstate,state,tmachine 2>&1; fleetctl alpha list-units --no-legend --full --fields=unit,load,active,sub,machine; }
states_are() { [ "$(states)" = "$1" ]; }
# The units of the scenario that systemd of a host has loaded.
linked() { host_exec "$1" systemctl list-unit-files --no-legend 'c35-*' | awk '{ print $1, $2 }'; host_exec "$1" systemctl list-units --no-legend --plain 'c35-*' | awk '$3 == "active" { print $1, $4 }'; }

s35_connectivity_loss() {
        local before h t since
        for t in inactive loaded launched; do
                unit c35-$t.service
                unit c35-global-$t.service Global=true
        done
        since=$(date '+%F %T')
        ctl submit c35-{,global-}inactive.service
        ctl load c35-{,global-}loaded.service
        ctl start c35-{,global-}launched.service
        wait_active 4
        wait_for 10 three_loaded || fail "$(fleetctl alpha list-units)"
        before=$(states)
        for h in $LAB_HOSTS; do
                linked "$h" >"$LAB/linked.$h"
                ! grep -q inactive "$LAB/linked.$h" || fail "an inactive unit is known to systemd on $h: $(cat "$LAB/linked.$h")"
                ! grep -v 'linked-runtime$\|running$' "$LAB/linked.$h" || fail "$h: $(cat "$LAB/linked.$h")"
        done
        identities >"$LAB/before"
        for h in $LAB_HOSTS; do
                host_cut "$h"
        done
        sleep 10        # fleet's TTL of 3 s, and 7
        for h in $LAB_HOSTS; do
                linked "$h" | diff "$LAB/linked.$h" - >"$LAB/diff" || fail "$h: $(cat "$LAB/diff")"
        done
        for h in $LAB_HOSTS; do
                host_heal "$h"
        done
        cluster_whole
        wait_for 15 states_are "$before" || fail "afterwards: $(diff <(echo "$before") <(states) | tr '\n' ';')"
        WHAT="the loss" untouched "$(cat "$LAB/before")"
        for h in $LAB_HOSTS; do
                ! host_exec "$h" journalctl --no-pager -o cat --since "$since" -t systemd | grep 'Stopping.*c35\|Stopped.*c35' >"$LAB/out" || fail "$h: $(cat "$LAB/out")"
        done
        clean
}
three_loaded() { [ "$(fleetctl alpha list-units --no-legend --fields=unit,load,active | grep -c 'loaded.inactive')" = 4 ]; }

s36_37_shutdown_with_and_without_the_others() {
        host_cut gamma
        wait_for 15 gamma_is_alone || fail "gamma still knows a leader"
        host_exec gamma systemctl stop fleetd
        service_is gamma "inactive success" || fail "$(host_exec gamma systemctl status fleetd | head -5)"
        host_heal gamma
        host_exec gamma systemctl start fleetd
        cluster_whole
        host_exec gamma systemctl stop fleetd
        service_is gamma "inactive success" || fail "$(host_exec gamma systemctl status fleetd | head -5)"
        host_exec gamma systemctl start fleetd
        cluster_whole
}
gamma_is_alone() { host_exec gamma journalctl -u fleetd --no-pager -o cat -n 5 | grep -q 'leader unknown'; }

# Beyond fleet's scenarios, while gamma is one of three.
of_a_host_that_was_cut_off_the_instance_stays_on_request() {
        local h before
        unit kept.service OnReconnect=keep-old
        ctl start kept.service
        wait_active 1
        h=$(hosts_running kept.service)
        FIRST=$(others "$h" | head -1)
        before=$(identities "$h")
        host_cut "$h"
        wait_for 15 runs_twice kept.service || fail "kept.service runs on $(hosts_running kept.service)"
        host_heal "$h"
        wait_for 15 runs_on kept.service "$h" || fail "kept.service runs on $(hosts_running kept.service)"
        cluster_whole
        WHAT="the return of its host" untouched "$before" "$h"
        runs_on kept.service "$h" || fail "later, kept.service runs on $(hosts_running kept.service)"
        clean
}
runs_twice() { [ "$(hosts_running "$1" | wc -l)" = 2 ]; }

# --- a fourth host --------------------------------------------------------------------------------------------------

s31_migration() {
        local n victim before free
        LAB_HOSTS="alpha beta gamma delta"
        host_install delta && hosts_up delta || fail "no delta"
        cluster_whole
        for n in 0 1 2; do
                unit conflict.$n.service 'Conflicts=conflict.*.service'
        done
        ctl start conflict.{0,1,2}.service
        victim=$(hosts_running conflict.1.service)
        before=$(active | grep -v conflict.1)
        for free in $LAB_HOSTS; do
                [ -n "$(hosts_running 'conflict.*.service' | grep -x "$free")" ] || break
        done
        FIRST=$(others "$victim" | head -1)
        # Differs: the host of unit 1 is powered off, because stopping the daemon moves nothing.
        host_kill "$victim"
        wait_for 15 knows_machines "$FIRST" 3 || fail "machines: $(machines "$FIRST")"
        wait_active 3
        [ "$(active | grep -v conflict.1)" = "$before" ] || fail "others moved: $before; $(active)"
        runs_where conflict.1.service "$free" "$victim" || fail "unit 1 runs on $(hosts_running conflict.1.service), not on $free"
        hosts_up "$victim"
        cluster_whole
        clean
}
runs_where() { [ "$(hosts_running "$1" | grep -vx "$3")" = "$2" ]; }

# A host on a new disk: same name and address, another machine id, other ssh keys.
host_remake() {
        local h=$1
        host_is_off "$h" || host_kill "$h"
        rm -rf "${LAB:?}/$h"
        host_install "$h" || fail "fleetd cannot be put on $h"
        printf 'again.%s' "$(host_machine_id "$h")" | md5sum | cut -c1-32 >"$LAB/$h/up/etc/machine-id"
        hosts_up "$h"
}

s32_reboot() {
        local n victim before
        for n in 0 1 2; do
                unit conflict.$n.service 'Conflicts=conflict.*.service'
        done
        ctl start conflict.{0,1,2}.service
        before=$(active)
        victim=gamma
        host_off $victim || fail "it does not shut down"
        wait_for 15 knows_machines alpha 2 || fail "machines: $(machines alpha)"
        host_remake $victim
        wait_for 60 knows_machines alpha 3 || fail "machines: $(machines alpha); $(host_exec $victim journalctl -u fleetd -n 5 -o cat --no-pager)"
        wait_active 3
        [ "$(diff <(echo "$before") <(active) | grep -c '^<')" = 1 ] || fail "not one has another machine: $before; $(active)"
        wait_for 30 three_vote alpha || fail "the new machine has not replaced the old one: $(roles alpha)"
        active | grep -q "$(host_exec $victim cat /etc/machine-id)" || fail "nothing runs on the new machine: $(active)"
        for n in $LAB_HOSTS; do
                wait_for 20 writes "$n" || fail "$n takes no writes"
        done
        clean
}

# fleetctl ssh on alpha, with its own file of known hosts.
ssh_to() { host_exec alpha sh -c "${3:+echo $3 | }fleetctl --ssh-username=root --known-hosts-file=/root/known ssh $1 $2 2>&1"; }
new_id() { host_exec "$1" cat /etc/machine-id; }

s05_known_hosts_of_a_host() {
        local out
        sshd_on alpha
        sshd_on gamma
        out=$(ssh_to "$(new_id gamma)" uptime yes) || fail "an unknown host and yes: $out"
        out=$(ssh_to "$(new_id gamma)" uptime </dev/null) || fail "a known host: $out"
}

s05_known_hosts_of_the_reinstalled_host() {
        local id out
        sshd_on gamma
        id=$(new_id gamma)
        wait_for 10 knows_id "$id" || fail "the new host is not there: $(machines alpha)"
        out=$(ssh_to "$id" uptime yes) && fail "another key at a known address: $out"
        host_exec alpha sh -c ': >/root/known'
        out=$(ssh_to "$id" uptime yes) || fail "an empty file and yes: $out"
}
knows_id() { fleetctl alpha list-machines --no-legend --full --fields=machine | grep -q "$1"; }

scenario three_hosts s06_tunnel_batch s21_machine_of_moves_together_when_its_host_goes s22_conflicts s24_multiple_conflicts s27_machine_id s28_global \
        s29_global_conflicts s30_template_specifier_metadata s35_connectivity_loss s36_37_shutdown_with_and_without_the_others of_a_host_that_was_cut_off_the_instance_stays_on_request s05_known_hosts_of_a_host \
        s32_reboot s05_known_hosts_of_the_reinstalled_host s31_migration
