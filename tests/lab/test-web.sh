#!/bin/bash
# The page of a host in Chromium, on three booted hosts: after each event it has the problems of status, word by word, the leader, and the states of
# list-units. Figures are read once for all pages, and while one is seen. Takes 180 s.
. "$(dirname "$0")/scenario.sh"

# page COMMAND ARGUMENTS...: of pages.py.
page() {
        local IFS=$'\t' said
        said=$(timeout 150 sh -c 'printf "%s\n" "$1" >"$2/questions"; cat "$2/answers"' - "$*" "$LAB")
        [ "$said" = ok ] || fail "page $*: ${said:-no answer: $(tail -3 "$LAB/pages.log")}"
}
# Chromium is in the network of alpha, and in the cgroup of the lab, with which it ends.
browser_up() {
        mkfifo "$LAB/questions" "$LAB/answers" && mkdir "$LAB_CG/browser" || fail "no place for a browser"
        TMPDIR=$LAB FLEETCTL_ENDPOINT=unix://$(host_socket alpha) sh -c 'echo 0 >"$1/cgroup.procs"; shift; exec "$@"' - "$LAB_CG/browser" \
                nsenter -t "$(host_init alpha)" -n /usr/bin/python3 "$here/pages.py" "$LAB" "$LAB_BUILD/client/fleetctl" >"$LAB/pages.log" 2>&1 &
}

status_lists() { fleetctl alpha status 2>/dev/null | grep -E -- "$1"; }
# The problem that matches $1 is in status within $2 s, and then in the page.
problem_is_shown() {
        local start
        wait_for "$2" status_lists "$1" || fail "no problem $1: $(fleetctl alpha status 2>&1)"
        start=$(now_ms)
        page equal "${@:3}"
        echo "# $1: equal after $(($(now_ms) - start)) ms" >>"$LAB/figures"
}
no_problems() { fleetctl alpha status >"$LAB/out" 2>&1; }
well_again() {
        wait_for 60 no_problems || fail "problems: $(cat "$LAB/out")"
        page equal
}
every() { printf '[Service]\nExecStart=%s\n[X-Fleet]\nGlobal=true\nUpdateWatchSec=2s\n' "$1" | unit_file every.service; }
ctl() { fleetctl alpha "$@" >"$LAB/out" 2>&1 || fail "fleetctl $*: $(cat "$LAB/out")"; }

units_start_and_have_figures() {
        local h n
        host_make alpha && install -D -m 644 "$top/dist/40-web.conf" "$LAB/alpha/up/etc/fleet/fleetd.conf.d/40-web.conf" || fail "no disk for alpha"
        cluster_up
        host_exec alpha systemctl enable --now fleet-web.socket >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        browser_up
        page open "$(host_exec alpha fleetctl web --url)"
        for n in 1 2 3 4 5; do
                runs_forever plain-$n.service </dev/null
        done
        every '/bin/sh -c "while :; do sleep 0.1; done"'
        ctl start plain-{1,2,3,4,5}.service every.service
        well_again
        page meters
}

a_failed_unit_and_one_that_waits_are_shown() {
        unit_file broken.service <<<$'[Service]\nExecStart=/bin/false'
        unit_file missing.service <<<$'[Service]\nExecStart=/nonexistent'
        runs_forever waits.service <<<$'[X-Fleet]\nMachineMetadata=gpu=yes'
        ctl start --no-block broken.service missing.service waits.service
        wait_for 20 status_lists '^ *waits.service ' || fail "$(fleetctl alpha status 2>&1)"
        problem_is_shown '^ *broken.service +failed on .*exit status 1' 20
        ctl destroy broken.service missing.service waits.service
        well_again
}

a_rollout_that_pauses_is_shown() {
        every /bin/false
        ctl submit --replace --no-block every.service
        problem_is_shown '^ *every.service .*paused' 30
        every '/bin/sleep infinity'
        ctl submit --replace every.service
        well_again
}

a_drain_is_shown() {
        ctl drain beta
        page equal
        runs_forever pinned.service <<<$'[X-Fleet]\nMachineID='"$(host_machine_id beta)"
        ctl start --no-block pinned.service
        problem_is_shown '^ *pinned.service ' 20
        ctl uncordon beta
        well_again
}

a_host_without_power_is_shown() {
        local lost
        lost=$(others "$(leader)" | grep -v alpha | head -1)
        host_kill "$lost" || fail "cannot kill $lost"
        problem_is_shown "^ *$lost .*unreachable" 30
        hosts_up "$lost"
        cluster_whole
        well_again
}

the_end_of_the_leader_is_shown() {
        local before
        before=$(leader)
        host_exec "$before" systemctl kill -s KILL --kill-whom=main fleetd || fail "$before has no daemon"
        well_again
        cluster_whole
        well_again
}

the_loss_of_the_quorum_is_shown() {
        host_cut beta && host_cut gamma || fail "no link to cut"
        problem_is_shown '^ *cluster +no leader for ' 30 'No leader for .*: alpha shows its own copy, of \d\d:\d\d:\d\d\. Units are not affected\.'
        host_heal beta && host_heal gamma || fail "no link to heal"
        cluster_whole
        well_again
}

a_daemon_that_is_stopped_leaves_its_last_state() {
        page keep
        host_exec alpha systemctl stop fleetd || fail "fleetd does not stop"
        page stays 'fleetd on alpha does not answer since \d\d:\d\d:\d\d: systemctl status fleetd\. Units are not affected\.'
        host_exec alpha systemctl start fleetd || fail "fleetd does not start"
        cluster_whole
        well_again
}

children_are() { local h; for h in $LAB_HOSTS; do [ "$(host_exec "$h" sh -c 'pgrep -fc -- "[-]-usage --interval"')" = "$1" ] || return 1; done; }

figures_are_read_once_and_while_a_page_is_seen() {
        local url n
        url=$(host_exec alpha fleetctl web --url)
        page open "$url"
        page open "$url"
        page meters
        for n in 1 2 3 4 5 6; do
                children_are 1 || fail "$(for n in $LAB_HOSTS; do host_exec "$n" pgrep -fa -- '[-]-usage --interval'; done)"
                sleep 1
        done
        page hide 1
        page hide 2
        sleep 17 # the figures end 15 s after the last question
        children_are 1 || fail "one page is seen, and a host has another number of children"
        page hide 0
        wait_for 18 children_are 0 || fail "no page is seen, and a host has a child"
        page show 0
        wait_for 10 children_are 1 || fail "no figures after the page is seen again"
        page meters
        page equal
        page clean
}

missing=$(PYTHONPATH=$top/tests/web /usr/bin/python3 -c 'import browser; print(browser.missing() or "")')
[ -z "$missing" ] || { echo "ok skipped: apt-get install --no-install-recommends $missing"; exit 0; }
scenario units_start_and_have_figures a_failed_unit_and_one_that_waits_are_shown a_rollout_that_pauses_is_shown a_drain_is_shown \
        a_host_without_power_is_shown the_end_of_the_leader_is_shown the_loss_of_the_quorum_is_shown a_daemon_that_is_stopped_leaves_its_last_state \
        figures_are_read_once_and_while_a_page_is_seen
