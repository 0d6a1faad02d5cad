#!/bin/bash
# The common verbs on a cluster of three booted hosts, each from a host other than that of the unit.
# Takes 80 s.
. "$(dirname "$0")/scenario.sh"

three_hosts_form_a_cluster() {
        cluster_up
        local h
        for h in $LAB_HOSTS; do
                machines "$h" | grep -q "$(host_address gamma)" || fail "$h does not name gamma's address: $(machines "$h")"
        done
}

start_on_any_host_returns_when_the_unit_runs() {
        local h
        for h in $LAB_HOSTS; do
                runs_forever "from-$h.service" </dev/null
                fleetctl "$h" start "from-$h.service" >"$LAB/out" 2>&1 || fail "start on $h: exit $?, $(cat "$LAB/out")"
                runs_once "from-$h.service" || fail "start on $h returned, the unit runs on: $(hosts_running "from-$h.service")"
        done
        for h in $LAB_HOSTS; do
                wait_for 5 lists "$h" from-beta.service "active running" || fail "$h does not list it as active: $(fleetctl "$h" list-units)"
        done
}

starting_what_runs_changes_nothing() {
        local before
        before=$(identities)
        fleetctl beta start from-alpha.service >"$LAB/out" 2>&1 || fail "exit $?"
        untouched "$before"
}

cat_status_and_journal_answer_from_any_host() {
        local h out
        for h in $LAB_HOSTS; do
                fleetctl "$h" cat from-beta.service | grep -qx 'Description=from-beta.service' || fail "cat on $h: $(fleetctl "$h" cat from-beta.service 2>&1)"
                out=$(fleetctl "$h" status from-beta.service 2>&1)
                grep -q 'active (running)' <<<"$out" || fail "status on $h: $out"
                out=$(fleetctl "$h" journal from-beta.service 2>&1)
                grep -q 'here is from-beta.service' <<<"$out" || fail "journal on $h: $out"
                out=$(fleetctl "$h" journal --since=-1h --until=now 'from-*' 2>&1)
                grep -q 'here is from-alpha.service' <<<"$out" && grep -q 'here is from-beta.service' <<<"$out" || fail "journal of several on $h: $out"
                out=$(fleetctl "$h" journal --until=yesterday from-beta.service 2>&1)
                [[ $out == "fleetctl: from-beta.service: no journal entries of this time on "*alpha* ]] || fail "journal of yesterday on $h: $out"
                # It continues without end; written lines arrive at once.
                FLEETCTL_ENDPOINT=unix://$(host_socket "$h") timeout 2 "$LAB_BUILD/client/fleetctl" journal -f from-beta.service >"$LAB/out" 2>&1
                out=$(cat "$LAB/out")
                grep -q 'here is from-beta.service' <<<"$out" || fail "journal -f on $h: $out"
        done
}

# Print the names of the machines whose entries are in $LAB/out.
logged() { sed -E 's/^[^ ]+ [^ ]+ ([a-z]+) .*/\1/' "$LAB/out" | sort -u | tr '\n' ' '; }

the_logs_of_all_daemons_are_merged() {
        local pid status
        fleetctl gamma log --since=-1h >"$LAB/out" 2>&1 || fail "log: exit $?, $(tail -3 "$LAB/out")"
        [ "$(logged)" = "alpha beta gamma " ] || fail "entries of: $(logged)"
        cut -c1-19 "$LAB/out" | LC_ALL=C sort -c 2>"$LAB/order" || fail "not sorted by time: $(cat "$LAB/order")"
        fleetctl alpha log UNIT=from-beta >"$LAB/out" 2>&1 || fail "log of a unit: exit $?, $(tail -3 "$LAB/out")"
        grep -q 'from-beta.service' "$LAB/out" || fail "the log of a unit: $(head -3 "$LAB/out")"
        grep -q 'from-alpha.service' "$LAB/out" && fail "the log of a unit has another one"
        fleetctl alpha log -m gamma,beta -p info -n 5 -g 'from-|machine' >"$LAB/out" 2>&1 || fail "log with filters: exit $?, $(tail -3 "$LAB/out")"
        case "$(logged)" in *alpha*) fail "entries of: $(logged)" ;; esac
        fleetctl alpha log -g '(' >"$LAB/out" 2>&1 && fail "a bad pattern succeeds"
        grep -q '^fleetctl: no log of beta: Bad pattern' "$LAB/out" || fail "a bad pattern: $(cat "$LAB/out")"

        FLEETCTL_ENDPOINT=unix://$(host_socket gamma) "$LAB_BUILD/client/fleetctl" log -f >"$LAB/followed" 2>&1 &
        pid=$!
        wait_for 5 grep -q ' beta ' "$LAB/followed" || fail "log -f: $(cat "$LAB/followed")"
        host_exec beta systemctl stop fleetd
        wait_for 5 grep -q '^fleetctl: no log of beta: ' "$LAB/followed" || fail "log -f: $(tail -5 "$LAB/followed")"
        fleetctl alpha log --since=-1h >"$LAB/out" 2>"$LAB/why-not"
        status=$?
        [ $status = 1 ] || fail "without beta: exit $status"
        [ "$(logged)" = "alpha gamma " ] || fail "without beta, entries of: $(logged)"
        grep -q '^fleetctl: \(no log of beta: \|beta is .* its log is on that host\)' "$LAB/why-not" || fail "without beta: $(cat "$LAB/why-not")"
        host_exec beta systemctl start fleetd
        # It continues after the last entry before the loss.
        wait_for 10 grep -q ' beta   stopping' "$LAB/followed" || fail "log -f does not continue: $(tail -5 "$LAB/followed")"
        kill $pid
        cluster_whole
}

events_report_the_decision_and_its_result() {
        local h pid
        [ "$(fleetctl beta cluster 2>&1 | grep -cE '^(alpha|beta|gamma).*voter.*yes$')" = 3 ] || fail "cluster: $(fleetctl beta cluster 2>&1)"
        for h in $LAB_HOSTS; do
                fleetctl "$h" events from-beta.service >"$LAB/out" 2>&1 || fail "$h: exit $?, $(cat "$LAB/out")"
                # A busy host also reports the state between the loading and the start.
                [ "$(sed '/\tinactive (dead)/d' "$LAB/out" | cut -f 2,4 | sed 's/assigned: .*/assigned/' | tr '\t\n' ' ;')" = \
                        "from-beta.service submitted, launched by root@beta;from-beta.service assigned;from-beta.service active (running);" ] ||
                        fail "$h: $(cat "$LAB/out")"
        done
        rm -f "$LAB/followed"
        FLEETCTL_ENDPOINT=unix://$(host_socket gamma) timeout 30 "$LAB_BUILD/client/fleetctl" events --follow >"$LAB/followed" 2>&1 &
        pid=$!
        wait_for 5 grep -q . "$LAB/followed" || fail "--follow shows nothing of the past"
        fleetctl alpha stop from-beta.service >"$LAB/out" 2>&1 || fail "stop: exit $?, $(cat "$LAB/out")"
        wait_for 5 grep -qP 'from-beta.service\t[^\t]*\t(inactive \(dead\)|stopped)' "$LAB/followed" || fail "the stop is not reported: $(cat "$LAB/followed")"
        fleetctl beta start from-beta.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        kill $pid
        wait $pid 2>/dev/null || true
}

stop_and_start_again_work_from_any_host() {
        fleetctl gamma stop from-alpha.service >"$LAB/out" 2>&1 || fail "stop: exit $?, $(cat "$LAB/out")"
        wait_for 2 runs_nowhere from-alpha.service || fail "stop returned and it still runs"
        known alpha from-alpha.service || fail "a stopped unit is gone"
        fleetctl beta start from-alpha.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        runs_once from-alpha.service || fail "start returned, and it does not run"
}

unload_and_destroy_work_from_any_host() {
        fleetctl beta unload from-gamma.service >"$LAB/out" 2>&1 || fail "unload: exit $?, $(cat "$LAB/out")"
        wait_for 5 runs_nowhere from-gamma.service || fail "unloaded, and it still runs"
        known beta from-gamma.service || fail "an unloaded unit is gone: $(fleetctl beta list-unit-files 2>&1)"
        fleetctl alpha destroy from-gamma.service from-alpha.service >"$LAB/out" 2>&1 || fail "destroy: exit $?, $(cat "$LAB/out")"
        wait_for 5 runs_nowhere from-alpha.service || fail "destroyed, and it still runs"
        wait_for 5 forgotten gamma from-gamma.service || fail "gamma still knows a destroyed unit: $(fleetctl gamma list-unit-files 2>&1)"
        wait_for 5 leaves_no_file from-alpha.service || fail "its file is left in /run/fleet/units"
}
forgotten() { fleetctl "$1" list-unit-files --no-legend --fields=unit >"$LAB/units.$1" 2>/dev/null && ! grep -qxF "$2" "$LAB/units.$1"; }
leaves_no_file() {
        local h
        for h in $LAB_HOSTS; do
                ! host_exec "$h" test -e "/run/fleet/units/$1" || return 1
                ! host_exec "$h" test -L "/run/systemd/system/$1" || return 1
        done
}

waiting_to_the_end_reports_how_a_unit_ended() {
        local pid
        unit_file well.service <<<$'[Service]\nExecStart=/bin/sleep 2'
        unit_file badly.service <<<$'[Service]\nExecStart=/bin/sh -c "sleep 1; exit 3"'
        unit_file everywhere.service <<<$'[Service]\nExecStart=/bin/sleep 3\n[X-Fleet]\nGlobal=true'
        fleetctl gamma start --wait well.service >"$LAB/out" 2>&1 || fail "it ended well: exit $?, $(cat "$LAB/out")"
        runs_nowhere well.service || fail "start --wait returned, and it runs"
        ! fleetctl alpha start --wait badly.service >"$LAB/out" 2>&1 || fail "it failed, and the exit status is 0"
        grep -q badly.service "$LAB/out" || fail "it failed: $(cat "$LAB/out")"
        fleetctl beta start --wait everywhere.service >"$LAB/out" 2>&1 || fail "a global unit: exit $?, $(cat "$LAB/out")"
        grep -q 'on 3 of 3 machines' "$LAB/out" && runs_nowhere everywhere.service || fail "a global unit: $(cat "$LAB/out")"
        fleetctl beta destroy everywhere.service >"$LAB/out" 2>&1 || fail "destroy: exit $?, $(cat "$LAB/out")" # it would run in each boot of a host

        # A stop ends the wait, which is no failure.
        runs_forever stopped.service </dev/null
        fleetctl alpha start stopped.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        # A file of its own: the other one has "launched" already, until the shell in the background has emptied it.
        rm -f "$LAB/waited"
        fleetctl alpha start --wait stopped.service >"$LAB/waited" 2>&1 &
        pid=$!
        wait_for 10 grep -q launched "$LAB/waited" || fail "start --wait of a unit that runs: $(cat "$LAB/waited")"
        fleetctl gamma stop stopped.service >"$LAB/out" 2>&1 || fail "stop: exit $?, $(cat "$LAB/out")"
        wait $pid || fail "it was stopped: exit $?, $(cat "$LAB/waited")"
}

# Each start returns: without the reason it waited for ever, or printed the unit as running.
a_unit_that_does_not_run_is_reported_with_the_reason() {
        local h
        unit_file dep.service <<<$'[Unit]\nRequires=ghost2.service\nAfter=ghost2.service\n[Service]\nExecStart=/bin/sleep infinity'
        unit_file nobin.service <<<$'[Service]\nExecStart=/nonexistent/bin'
        unit_file loop.service <<<$'[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=notify\nExecStart=/bin/sh -c "exit 7"\nRestart=always\nRestartSec=1'
        unit_file odd.service <<<$'[Service]\nType=simple\nExecStop=/bin/true'
        unit_file once.service <<<$'[Service]\nType=oneshot\nExecStart=/bin/true'
        runs_forever hand.service </dev/null

        start_fails dep.service 'Unit ghost2.service not found'
        host_says dep.service status 'systemd refused to start dep.service on .*: Unit ghost2.service not found'
        host_says dep.service why '^systemd refused to start dep.service on .*: Unit ghost2.service not found; fleetd tries again at least once a minute; .*fleetctl restart dep.service'
        for h in $LAB_HOSTS; do
                host_exec "$h" sh -c 'printf "[Service]\nExecStart=/bin/sleep infinity\n" >/run/systemd/system/ghost2.service; systemctl daemon-reload'
        done
        fleetctl beta restart dep.service >"$LAB/out" 2>&1 || fail "restart with what it requires: $(cat "$LAB/out")"
        ! fleetctl beta why dep.service | grep -q refused || fail "it runs, and why says: $(fleetctl beta why dep.service)"

        start_fails nobin.service 'exit status 203/EXEC'
        [ "$(fleetctl alpha is-active nobin.service)" = failed ] || fail "just after the failure: $(fleetctl alpha is-active nobin.service)"
        start_fails nobin.service '^fleetctl: nobin.service failed on .*: exit status 203/EXEC (the program of ExecStart= .*); to start it again: fleetctl restart nobin.service$'
        host_says nobin.service why '^nobin.service failed on .*: exit status 203/EXEC (the program of ExecStart= .*)   fleetctl journal nobin.service$'
        start_fails loop.service 'fails and is restarted, .* (auto-restart) .*: exit status 7; fleetctl journal loop.service$'
        host_says loop.service why '^loop.service .*: exit status 7 '
        # It stays down, and is to run: a cleared failure is no success.
        fleetctl alpha reset-failed nobin.service >"$LAB/out" 2>&1 || fail "reset-failed: exit $?, $(cat "$LAB/out")"
        wait_for 5 status_has gamma 'nobin.service  *is inactive on .*: it failed, and its failed state was reset' || fail "status: $(fleetctl gamma status)"
        start_fails nobin.service 'it failed, and its failed state was reset; to start it again: fleetctl restart nobin.service'
        start_fails odd.service 'bad-setting\|bad unit file setting'
        host_says odd.service why '^systemd cannot load odd.service on .* (bad-setting): Unit odd.service has a bad unit file setting'

        fleetctl beta start once.service >"$LAB/out" 2>&1 || fail "once.service: exit $?, $(cat "$LAB/out")"
        fleetctl alpha start once.service >"$LAB/out" 2>&1 || fail "once.service again: exit $?, $(cat "$LAB/out")"
        grep -q 'once.service ended successfully on .*; to start it again: fleetctl restart once.service' "$LAB/out" || fail "once.service again: $(cat "$LAB/out")"

        fleetctl beta start hand.service >"$LAB/out" 2>&1 || fail "hand.service: exit $?, $(cat "$LAB/out")"
        host_exec "$(hosts_running hand.service)" systemctl stop hand.service
        wait_for 5 lists beta hand.service "inactive dead" || fail "stopped by hand: $(fleetctl beta list-units | grep hand)"
        start_fails hand.service 'stopped by hand; to start it again: fleetctl restart hand.service'
        fleetctl gamma restart hand.service >"$LAB/out" 2>&1 || fail "restart: exit $?, $(cat "$LAB/out")"
        runs_once hand.service || fail "it runs on: $(hosts_running hand.service)"
        host_exec "$(hosts_running hand.service)" sh -c 'systemctl stop fleetd && systemctl stop hand.service && systemctl start fleetd'
        wait_for 10 lists beta hand.service "inactive dead" || fail "stopped without fleetd: $(fleetctl beta list-units | grep hand)"
        start_fails hand.service 'stopped, or ended by itself, unobserved by fleetd; to start it again: fleetctl restart hand.service'
        wait_for 5 status_has gamma 'hand.service  *is inactive on .*: stopped, or ended by itself' || fail "status: $(fleetctl gamma status)"
        fleetctl gamma destroy dep.service nobin.service loop.service odd.service once.service hand.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}

# systemd stops a unit together with the one that it requires, which is no longer on that host then.
a_unit_whose_requirement_moves_away_names_it() {
        local from to
        runs_forever base.service </dev/null
        runs_forever needy.service <<<$'[Unit]\nRequires=base.service\nAfter=base.service\n[X-Fleet]\nMachineOf=base.service'
        fleetctl alpha start base.service needy.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        ! grep -q warning "$LAB/out" || fail "a warning with MachineOf=: $(cat "$LAB/out")"
        runs_forever needy.service <<<$'[Unit]\nRequires=base.service\nAfter=base.service'
        fleetctl alpha start --replace needy.service >"$LAB/out" 2>&1 || fail "start --replace: exit $?, $(cat "$LAB/out")"
        grep -q 'warning: Requires=base.service is a unit of the cluster, and may run on another machine' "$LAB/out" || fail "no warning: $(cat "$LAB/out")"
        from=$(hosts_running needy.service)
        for to in $LAB_HOSTS; do [ "$to" = "$from" ] || break; done
        fleetctl beta move base.service "$to" >"$LAB/out" 2>&1 || fail "move to $to: exit $?, $(cat "$LAB/out")"
        wait_for 10 says_cause || fail "why: $(fleetctl gamma why needy.service 2>&1)"
        host_says needy.service why "^base.service is a unit of the cluster, on $to; to run needy.service on its machine: MachineOf=base.service"
        fleetctl gamma status >"$LAB/out" 2>&1
        grep -q 'needy.service .*stopped because of base.service' "$LAB/out" || fail "status: $(cat "$LAB/out")"
        fleetctl beta move base.service "$from" >"$LAB/out" 2>&1 || fail "move back: exit $?, $(cat "$LAB/out")"
        wait_for 10 runs_once needy.service || fail "base.service is back, and needy.service runs on: $(hosts_running needy.service)"
        fleetctl gamma destroy base.service needy.service >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
}
says_cause() { fleetctl gamma why needy.service 2>&1 | grep -q '^needy.service is inactive (dead) on .*: stopped because of base.service'; }
start_fails() {
        FLEETCTL_ENDPOINT=unix://$(host_socket beta) timeout 40 "$LAB_BUILD/client/fleetctl" start "$LAB/units/$1" >"$LAB/out" 2>&1
        [ $? = 1 ] && grep -q "$2" "$LAB/out" || fail "start $1: $(cat "$LAB/out")"
}
host_says() { fleetctl gamma "$2" "$1" >"$LAB/out" 2>&1; grep -q "$3" "$LAB/out" || fail "$2 $1: $(cat "$LAB/out")"; }

submit_and_load_place_without_running() {
        runs_forever quiet.service </dev/null
        fleetctl alpha submit quiet.service >"$LAB/out" 2>&1 || fail "submit: exit $?, $(cat "$LAB/out")"
        # A list shows the copy of its own host, which follows within moments.
        wait_for 5 known gamma quiet.service || fail "gamma does not know what was submitted on alpha: $(fleetctl gamma list-unit-files 2>&1)"
        fleetctl gamma load quiet.service >"$LAB/out" 2>&1 || fail "load: exit $?, $(cat "$LAB/out")"
        wait_for 5 lists beta quiet.service "inactive dead" || fail "it is not loaded: $(fleetctl beta list-units)"
        runs_nowhere quiet.service || fail "load started it"
}

sample_units_run_where_their_rules_say() {
        local u
        (cd "$top/dist/units" && host_fleetctl beta start hello.service web@{1,2,3}.service store.service store-watch.service node.service) \
                >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        for u in hello.service web@{1,2,3}.service store.service store-watch.service; do
                wait_for 5 runs_once $u || fail "$u runs on: $(hosts_running $u | tr '\n' ' ')"
        done
        wait_for 5 runs_on_all node.service || fail "the global unit runs on: $(hosts_running node.service | tr '\n' ' ')"
        [ "$(for u in 1 2 3; do hosts_running web@$u.service; done | sort -u | wc -l)" = 3 ] || fail "units in conflict share a machine"
        [ "$(hosts_running store.service)" = "$(hosts_running store-watch.service)" ] || fail "the pair is on two machines"
}

a_unit_that_fits_nowhere_waits_and_starts_when_it_fits() {
        cp "$top/dist/units/web@.service" "$LAB/units/"
        fleetctl alpha start --no-block web@4.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        # The engine has decided when a unit that was submitted later has a machine.
        runs_forever later.service </dev/null
        fleetctl alpha start later.service >"$LAB/out" 2>&1 || fail "a later unit does not start: $(cat "$LAB/out")"
        runs_nowhere web@4.service || fail "a fourth one runs beside one it conflicts with"
        fleetctl beta destroy web@2.service >/dev/null 2>&1
        wait_for 5 runs_once web@4.service || fail "it does not start when a machine is free"
}

a_name_that_a_host_has_from_elsewhere_runs_on_another() {
        local h before
        for h in alpha beta; do
                host_exec $h sh -c 'printf "[Service]\nExecStart=/bin/sleep infinity\n" >/etc/systemd/system/taken.service; systemctl start taken.service'
        done
        before=$(for h in alpha beta; do host_exec $h systemctl show --value -p InvocationID,FragmentPath taken.service; done)
        runs_forever taken.service </dev/null
        fleetctl alpha start taken.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        lists alpha taken.service "active running" || fail "it is listed as: $(fleetctl alpha list-units | grep taken)"
        host_exec gamma systemctl is-active -q taken.service || fail "it does not run where its name is free"
        [ "$(for h in alpha beta; do host_exec $h systemctl show --value -p InvocationID,FragmentPath taken.service; done)" = "$before" ] || fail "the hosts' own were touched"

        # Without a suitable machine it waits with a reason; it runs where the name becomes free.
        fleetctl alpha destroy taken.service >/dev/null 2>&1
        wait_for 5 leaves_no_file taken.service || fail "destroyed, its file is left"
        sed 's/taken/pinned-name/' "$LAB/units/taken.service" >"$LAB/units/pinned-name.service"
        printf '[X-Fleet]\nMachineID=%s\n' "$(host_machine_id beta)" >>"$LAB/units/pinned-name.service"
        host_exec beta sh -c 'cp /etc/systemd/system/taken.service /etc/systemd/system/pinned-name.service; systemctl daemon-reload'
        fleetctl alpha start --no-block pinned-name.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        wait_for 5 says_why_not || fail "why: $(fleetctl gamma why pinned-name.service 2>&1)"
        host_exec beta sh -c 'rm /etc/systemd/system/pinned-name.service; systemctl daemon-reload'
        wait_for 15 lists alpha pinned-name.service "active running" || fail "the name is free, and it does not run: $(fleetctl alpha list-units | grep pinned)"
        fleetctl alpha destroy pinned-name.service >/dev/null 2>&1
        host_exec alpha systemctl stop taken.service
        host_exec beta systemctl stop taken.service
}
says_why_not() { fleetctl gamma why pinned-name.service 2>&1 | grep -q 'has a unit of that name from another source'; }

aliases_and_masks_of_a_host_occupy_their_names() {
        host_exec alpha sh -c 'printf "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nAlias=shop.service\n" >/etc/systemd/system/realshop.service
                systemctl enable -q --now realshop.service; ln -s /dev/null /etc/systemd/system/masked.service; systemctl daemon-reload' || fail "alias and mask"
        host_exec beta systemctl mask -q --runtime masked.service || fail "mask --runtime"
        runs_forever shop.service </dev/null
        runs_forever masked.service </dev/null
        fleetctl alpha start shop.service masked.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        wait_for 5 runs_on masked.service gamma || fail "masked on alpha and beta, it runs on: $(hosts_running masked.service | tr '\n' ' ')"
        wait_for 5 runs_once shop.service && ! runs_on shop.service alpha || fail "an alias on alpha runs on: $(hosts_running shop.service | tr '\n' ' ')"
        host_exec alpha systemctl is-active -q realshop.service || fail "the host's own does not run any more"
        [ "$(host_exec beta readlink /run/systemd/system/masked.service)" = /dev/null ] || fail "the mask is gone"
        fleetctl alpha destroy shop.service masked.service >/dev/null 2>&1
        [ "$(host_exec beta readlink /run/systemd/system/masked.service)" = /dev/null ] || fail "the mask went with the unit"
        host_exec alpha sh -c 'systemctl disable -q --now realshop.service; rm /etc/systemd/system/realshop.service /etc/systemd/system/masked.service; systemctl daemon-reload'
        host_exec beta systemctl unmask -q --runtime masked.service
}

# A stop by hand ends with the next boot, and a mask does not.
a_global_unit_that_is_masked_on_a_host_stays_off_across_a_boot() {
        printf '[Service]\nExecStart=/bin/sleep infinity\n[X-Fleet]\nGlobal=yes\n' | unit_file node.service
        fleetctl alpha start node.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        wait_for 10 runs_on_all node.service || fail "it runs on: $(hosts_running node.service | tr '\n' ' ')"
        host_exec gamma systemctl mask -q --now node.service || fail "mask --now"
        runs_on_two node.service || fail "it runs on: $(hosts_running node.service | tr '\n' ' ')"
        host_off gamma && host_up gamma && host_wait gamma || fail "gamma does not come back"
        wait_for 30 says_masked || fail "why: $(fleetctl gamma why node.service 2>&1)"
        runs_on_two node.service || fail "after the boot, it runs on: $(hosts_running node.service | tr '\n' ' ')"
        host_exec gamma systemctl unmask -q node.service
        wait_for 30 runs_on_all node.service || fail "after the unmask, it runs on: $(hosts_running node.service | tr '\n' ' ')"
        fleetctl alpha destroy node.service >/dev/null 2>&1
}
runs_on_two() { [ "$(hosts_running "$1" | tr '\n' ' ')" = "alpha beta " ]; }
says_masked() { fleetctl gamma why node.service 2>&1 | grep -q 'node.service is not started on gamma: .*another source'; }

what_the_administrator_took_over_runs_on_and_the_unit_goes_elsewhere() {
        local h before
        runs_forever takeover.service </dev/null
        fleetctl alpha start takeover.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        h=$(hosts_running takeover.service)
        host_exec "$h" sh -c 'printf "[Service]\nExecStart=/bin/sleep infinity\n" >/etc/systemd/system/takeover.service
                systemctl daemon-reload; systemctl restart takeover.service'
        before=$(host_exec "$h" systemctl show --value -p InvocationID takeover.service)
        wait_for 10 runs_twice takeover.service || fail "it does not run elsewhere: $(fleetctl alpha why takeover.service 2>&1)"
        wait_for 10 leaves_no_file_on "$h" takeover.service || fail "our file is left on $h"
        fleetctl alpha destroy takeover.service >"$LAB/out" 2>&1 || fail "destroy: exit $?, $(cat "$LAB/out")"
        wait_for 10 runs_on takeover.service "$h" || fail "destroyed, it runs on: $(hosts_running takeover.service | tr '\n' ' ')"
        [ "$(host_exec "$h" systemctl show --value -p InvocationID takeover.service)" = "$before" ] || fail "the administrator's process was touched"
        host_exec "$h" sh -c 'systemctl stop takeover.service; rm /etc/systemd/system/takeover.service; systemctl daemon-reload'
}

# It could not be started here again, and would run twice if it were started elsewhere at once.
a_unit_that_is_masked_while_it_runs_moves_once_it_has_stopped() {
        local h before
        runs_forever later.service </dev/null
        fleetctl alpha start later.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        h=$(hosts_running later.service)
        before=$(identities)
        host_exec "$h" systemctl mask -q later.service || fail "mask"
        wait_for 10 is_listed_as later.service masked || fail "it is listed as $(fleetctl alpha list-units --fields=unit,load,active | grep later)"
        host_exec "$h" systemctl restart fleetd
        cluster_whole
        fleetctl alpha start later.service >"$LAB/out" 2>&1 || fail "it is known as running no more: $(cat "$LAB/out")"
        [ "$(identities)" = "$before" ] || fail "after the mask: $(diff <(echo "$before") <(identities))"
        host_exec "$h" systemctl stop later.service
        wait_for 10 runs_elsewhere "$h" later.service || fail "it runs on: $(hosts_running later.service | tr '\n' ' ')"
        host_exec "$h" systemctl unmask -q later.service
        fleetctl alpha destroy later.service >"$LAB/out" 2>&1 || fail "destroy: exit $?, $(cat "$LAB/out")"
}
is_listed_as() { fleetctl alpha list-units --no-legend --fields=unit,load 2>/dev/null | tr -s '\t ' ' ' | grep -qxF "$1 $2"; }
runs_elsewhere() { runs_once "$2" && ! runs_on "$2" "$1"; }

# systemd would not read its files again, and the new text could not be written either.
with_a_full_run_an_edited_unit_runs_on_until_there_is_space() {
        local h before
        runs_forever edited.service </dev/null
        fleetctl alpha start edited.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        h=$(hosts_running edited.service)
        before=$(host_exec "$h" systemctl show --value -p InvocationID edited.service)
        host_exec "$h" sh -c 'mount -o remount,size=64M /run && fallocate -l $(($(stat -f -c "%a * %S" /run) - 8 * 1024 * 1024)) /run/full' || fail "/run is not full"
        EDITOR="sed -i 's/^Restart=.*/&\\nEnvironment=A=B/'" fleetctl alpha edit --no-block edited.service >"$LAB/out" 2>&1 || fail "edit: exit $?, $(cat "$LAB/out")"
        wait_for 20 has_no_space "$h" || fail "the agent of $h logs nothing about edited.service"
        [ "$(host_exec "$h" systemctl show --value -p InvocationID edited.service)" = "$before" ] || fail "it was stopped"
        host_exec "$h" sh -c 'rm /run/full; mount -o remount,size=20% /run'
        wait_for 70 replaced "$h" || fail "the new text is not in force: $(host_exec "$h" systemctl cat edited.service)"
        fleetctl alpha destroy edited.service >"$LAB/out" 2>&1 || fail "destroy: exit $?, $(cat "$LAB/out")"
}
has_no_space() { host_exec "$1" journalctl -u fleetd -o cat --no-pager | grep -q 'Failed to write the file of edited.service: No space left'; }
replaced() { host_exec "$1" systemctl show --value -p Environment edited.service | grep -qx A=B && runs_on edited.service "$1"; }
runs_twice() { [ "$(hosts_running "$1" | wc -l)" = 2 ]; }
leaves_no_file_on() { ! host_exec "$1" test -e "/run/fleet/units/$2" && ! host_exec "$1" test -L "/run/systemd/system/$2"; }

unknown_units_and_verbs_get_a_message_and_a_status() {
        local out
        out=$(fleetctl alpha start nowhere-to-be-found.service 2>&1) && fail "start of an unknown unit: exit 0"
        grep -q nowhere-to-be-found.service <<<"$out" || fail "start: $out"
        out=$(fleetctl alpha cat nowhere-to-be-found.service 2>&1) && fail "cat of an unknown unit: exit 0"
        grep -q nowhere-to-be-found.service <<<"$out" || fail "cat: $out"
        out=$(fleetctl alpha no-such-verb 2>&1)
        [ $? = 2 ] || fail "an unknown verb: not exit 2: $out"
        out=$("$LAB_BUILD/client/fleetctl" --endpoint unix:///nowhere/fleet.sock list-units 2>&1) && fail "no daemon: exit 0"
        grep -q /nowhere/fleet.sock <<<"$out" || fail "no daemon: $out"
}

# Userspace restarts under the same kernel and boot ID: all units have ended, as in any reboot.
after_a_soft_reboot_units_run_again_and_none_runs_twice() {
        local h u watch tenths=0
        runs_forever moves.service </dev/null
        runs_forever everyone.service <<<$'[X-Fleet]\nGlobal=true'
        fleetctl alpha start moves.service everyone.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        h=$(hosts_running moves.service)
        runs_forever stays.service <<<$'[X-Fleet]\nMachineID='"$(host_machine_id "$h")"
        fleetctl alpha start stays.service >"$LAB/out" 2>&1 || fail "start: exit $?, $(cat "$LAB/out")"
        wait_for 5 runs_on_all everyone.service || fail "everyone.service runs on: $(hosts_running everyone.service | tr '\n' ' ')"

        rm -f "$LAB/twice"
        touch "$LAB/watched"
        while [ -e "$LAB/watched" ] && [ $((tenths++)) -lt 1800 ] && sleep 0.1; do
                for u in moves.service stays.service; do
                        [ "$(hosts_running $u | wc -l)" -le 1 ] || echo "$u: $(hosts_running $u | tr '\n' ' ')" >>"$LAB/twice"
                done
        done >/dev/null 2>&1 &
        watch=$!
        host_exec "$h" systemctl start soft-reboot.target --job-mode=replace-irreversibly --no-block || fail "no soft reboot"
        wait_for 60 soft_rebooted "$h" || fail "$h does not come back: $(host_exec "$h" systemctl list-jobs 2>&1)"
        wait_for 60 runs_on stays.service "$h" || fail "stays.service runs on: $(hosts_running stays.service | tr '\n' ' ')"
        wait_for 60 runs_on_all everyone.service || fail "everyone.service runs on: $(hosts_running everyone.service | tr '\n' ' ')"
        wait_for 60 runs_once moves.service || fail "moves.service runs on: $(hosts_running moves.service | tr '\n' ' ')"
        for u in stays moves everyone; do
                wait_for 10 lists beta $u.service "active running" || fail "$u.service is listed as: $(fleetctl beta list-units | grep $u)"
        done
        rm "$LAB/watched"
        wait "$watch"
        [ ! -e "$LAB/twice" ] || fail "on two hosts at once: $(sort -u "$LAB/twice")"
}
# A soft reboot stops the command, and nsenter with it, which nothing continues.
soft_rebooted() { [ "$(HOST_LIMIT=5 host_exec "$1" systemctl show -P SoftRebootsCount)" = 1 ] && host_booted "$1"; }

# The hosts have the systemd of this machine: 254 and later support it.
soft_reboot=
[ "$(systemctl --version | awk 'NR == 1 { print $2 }')" -lt 254 ] || soft_reboot=after_a_soft_reboot_units_run_again_and_none_runs_twice

scenario three_hosts_form_a_cluster start_on_any_host_returns_when_the_unit_runs starting_what_runs_changes_nothing \
        cat_status_and_journal_answer_from_any_host the_logs_of_all_daemons_are_merged events_report_the_decision_and_its_result stop_and_start_again_work_from_any_host \
        unload_and_destroy_work_from_any_host waiting_to_the_end_reports_how_a_unit_ended \
        a_unit_that_does_not_run_is_reported_with_the_reason a_unit_whose_requirement_moves_away_names_it submit_and_load_place_without_running sample_units_run_where_their_rules_say \
        a_unit_that_fits_nowhere_waits_and_starts_when_it_fits $soft_reboot a_name_that_a_host_has_from_elsewhere_runs_on_another \
        aliases_and_masks_of_a_host_occupy_their_names a_global_unit_that_is_masked_on_a_host_stays_off_across_a_boot what_the_administrator_took_over_runs_on_and_the_unit_goes_elsewhere \
        a_unit_that_is_masked_while_it_runs_moves_once_it_has_stopped with_a_full_run_an_edited_unit_runs_on_until_there_is_space unknown_units_and_verbs_get_a_message_and_a_status
