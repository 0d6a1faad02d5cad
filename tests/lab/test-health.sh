#!/bin/bash
# Health checks on a booted host: HTTP, TCP and commands, their time-outs and limits, and HealthAction=restart.
# Takes 360 s.
LAB_HOSTS=${LAB_HOSTS:-alpha}
. "$(dirname "$0")/scenario.sh"

shown() { fleetctl alpha list-units --no-legend --fields="$2" "$1" 2>/dev/null; }
health_is() { [ "$(shown "$1" health)" = "$2" ]; }
is_available() { [ "$(shown "$1" available)" = true ]; }
invocation() { host_exec alpha systemctl show --value -p InvocationID "$1"; }

# A server on port $1 of host alpha: it answers 200 while /run/ready exists, else 503; with $2 = endless, it sends for ever.
server() {
        host_exec alpha tee /usr/local/bin/server >/dev/null <<'END'
#!/usr/bin/python3
import os, socket, sys, threading
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
def serve(c):
    try:
        c.recv(4096)
        if sys.argv[2] == "endless":
            c.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True: c.sendall(b"ffff\r\n" * 1000)
        if sys.argv[2] == "silent": c.recv(4096)
        c.sendall(b"HTTP/1.1 200 OK\r\n\r\n" if os.path.exists("/run/ready") else b"HTTP/1.1 503 No\r\n\r\n")
    except OSError: pass
    finally: c.close()
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
END
        host_exec alpha chmod +x /usr/local/bin/server
}

a_unit_is_available_when_its_check_has_passed_for_the_watch_time() {
        lab_install "$LAB_BUILD" || fail "make install failed"
        host_install alpha || fail "fleetd cannot be put on alpha"
        hosts_up alpha
        wait_for 15 writes alpha && wait_for 15 knows_machines alpha 1 || fail "alpha lists: $(machines alpha)"
        server
        unit_file web.service <<'END'
[Service]
ExecStart=/usr/local/bin/server 8080 ready
[X-Fleet]
HealthHttp=8080/ready
HealthTcp=127.0.0.1:8080
HealthIntervalSec=1s
HealthTimeoutSec=1s
HealthStartSec=1min
UpdateWatchSec=2s
END
        fleetctl alpha start web.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 5 health_is web.service starting || fail "health: $(shown web.service health,why)"
        sleep 3
        health_is web.service starting || fail "failures count in the start period: $(shown web.service health,why)"
        host_exec alpha touch /run/ready
        wait_for 5 health_is web.service passing || fail "health: $(shown web.service health,why)"
        ! is_available web.service || fail "it is available at once"
        wait_for 5 is_available web.service || fail "it is not available"
}

a_check_that_fails_has_a_reason_and_restarts_nothing() {
        local before
        before=$(invocation web.service)
        host_exec alpha rm /run/ready
        wait_for 10 health_is web.service failing || fail "health: $(shown web.service health,why)"
        [ "$(shown web.service why)" = "HTTP 503 from 127.0.0.1:8080/ready, 3 times" ] || fail "why: $(shown web.service why)"
        fleetctl alpha why web.service | grep -q 'is active (running) on alpha, and unhealthy: HTTP 503' || fail "$(fleetctl alpha why web.service)"
        fleetctl alpha status | grep -q 'web.service.*unhealthy' || fail "$(fleetctl alpha status)"
        [ "$(invocation web.service)" = "$before" ] || fail "it was restarted"
        host_exec alpha touch /run/ready
        wait_for 5 health_is web.service passing || fail "health: $(shown web.service health,why)"
        wait_for 5 is_available web.service || fail "it is not available"
}

availability_survives_a_restart_of_the_daemon() {
        host_exec alpha systemctl restart fleetd
        wait_for 10 is_available web.service || fail "$(fleetctl alpha list-units)"
        [ "$(host_exec alpha journalctl -u fleetd --no-pager | grep -c 'web.service: health starting')" -le 1 ] || fail "its health began again"
        host_exec alpha systemctl restart web.service # another process
        wait_for 3 sh -c '! "$@"' - is_available web.service || wait_for 5 is_available web.service || fail "it is not available"
}

# Ten answers of /health: their times in seconds, one per line.
ten_answers() {
        # shellcheck disable=SC2016
        host_exec alpha sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -o /dev/null -w "%{time_total}\n" http://127.0.0.1:2379/health; done'
}
# The 99th percentile of $LAB/times in ms is at most 20, on a machine that does nothing else. The others of ./check share its processors.
answers_are_fast() {
        p99=$(sort -n "$LAB/times" | awk '{ t[NR] = $1 } END { print t[int(NR * 0.99)] * 1000 }')
        awk -v ms="$p99" -v most="${CHECK_ALL:+20}" 'BEGIN { exit ms > (most == "" ? 500 : most) }' || fail "$1: p99 of answers: $p99 ms"
        echo "# $1: p99 of $(wc -l <"$LAB/times") answers of /health $p99 ms" >>"$LAB/figures"
}

endless_and_missing_answers_end() {
        local before after i
        unit_file endless.service <<<$'[Service]\nExecStart=/usr/local/bin/server 8081 endless\n[X-Fleet]\nHealthHttp=8081/\nHealthIntervalSec=1s\nHealthTimeoutSec=1s\nUpdateWatchSec=1s'
        unit_file silent.service <<<$'[Service]\nExecStart=/usr/local/bin/server 8082 silent\n[X-Fleet]\nHealthHttp=8082/\nHealthIntervalSec=1s\nHealthTimeoutSec=500ms'
        resident() { host_exec alpha sh -c 'awk "/VmRSS/ { print \$2 }" /proc/$(systemctl show --value -p MainPID fleetd)/status'; }
        before=$(resident)
        fleetctl alpha start endless.service silent.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 is_available endless.service || fail "endless: $(shown endless.service health,why)"
        wait_for 10 health_is silent.service failing || fail "silent: $(shown silent.service health,why)"
        [[ $(shown silent.service why) =~ ^"no answer within 500ms from 127.0.0.1:8082/, 3 times; the check has not passed in the "[0-9]+" s since the start (HealthStartSec=)"$ ]] || fail "why: $(shown silent.service why)"
        for i in {1..30}; do ten_answers; done >"$LAB/times"
        answers_are_fast "an endless and a missing answer"
        after=$(resident)
        [ $((after - before)) -lt 8192 ] || fail "memory of fleetd: from $before to $after KiB"
        fleetctl alpha destroy endless.service silent.service >/dev/null 2>&1
}

a_command_runs_as_the_user_of_the_unit_within_its_slice() {
        local out
        host_exec alpha tee /usr/local/bin/check >/dev/null <<'END'
#!/bin/sh
[ "$(id -un) $1 $#" = "daemon a b 1" ] && grep -q fleet-checks.slice/fleet-check- /proc/self/cgroup && [ -e /run/fine ]
END
        host_exec alpha sh -c 'chmod +x /usr/local/bin/check; touch /run/fine'
        unit_file exec.service <<<$'[Service]\nExecStart=/bin/sleep 1d\nUser=daemon\n[X-Fleet]\nHealthExec=/usr/local/bin/check "a b"\nHealthIntervalSec=5s\nUpdateWatchSec=1s'
        fleetctl alpha start exec.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 10 is_available exec.service || fail "$(shown exec.service health,why) $(host_exec alpha journalctl -n 20 --no-pager)"
        out=$(host_exec alpha systemctl show -p MemoryMax,TasksMax,CPUWeight fleet-checks.slice | sort | xargs)
        [ "$out" = "CPUWeight=idle MemoryMax=134217728 TasksMax=64" ] || [ "$out" = "CPUWeight=0 MemoryMax=134217728 TasksMax=64" ] || fail "limits: $out"
        host_exec alpha rm /run/fine
        wait_for 25 health_is exec.service failing || fail "$(shown exec.service health,why)"
        [ "$(shown exec.service why)" = 'failure from /usr/local/bin/check "a b", 3 times' ] || fail "why: $(shown exec.service why)"
        [ -z "$(host_exec alpha systemctl list-units --all --plain --no-legend --state=failed 'fleet-check-*')" ] || fail "failed checks stay loaded"
        ! host_exec alpha journalctl --no-pager | grep -q 'Finished.*usr/local/bin/check' || fail "each check is logged"
}

# Its program is missing, and has run before; /run is full, so that systemd rejects the command; or systemd stands still.
a_host_that_cannot_run_a_check_restarts_nothing() {
        local before why
        runs_again() { ! cannot_run ""; }
        cannot_run() { [[ $(fleetctl alpha status) == *"health checks of 1 unit cannot run, such as of exec.service: $1"* ]]; }
        host_exec alpha touch /run/fine
        unit_file exec.service <<<$'[Service]\nExecStart=/bin/sleep 1d\nUser=daemon\n[X-Fleet]\nHealthExec=/usr/local/bin/check "a b"\nHealthIntervalSec=5s\nUpdateWatchSec=1s\nHealthFailures=2\nHealthAction=restart'
        fleetctl alpha start --replace exec.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 20 is_available exec.service || fail "$(shown exec.service health,why)"
        before=$(invocation exec.service)
        for why in "systemd could not execute it: exit status 203" "systemd rejected StartTransientUnit" "systemd has not begun it"; do
                case $why in
                *203) host_exec alpha mv /usr/local/bin/check /usr/local/bin/away ;;
                *rejected*) host_exec alpha sh -c 'cat /dev/zero >/run/full 2>/dev/null' ;;
                *) kill -STOP "$(host_init alpha)" ;;
                esac
                wait_for 60 cannot_run "$why" || fail "$why: $(fleetctl alpha status) $(shown exec.service health,why)"
                [ "$(shown exec.service health,available)" = $'passing\ttrue' ] || fail "$why: $(shown exec.service health,available,why)"
                kill -CONT "$(host_init alpha)"
                host_exec alpha sh -c 'rm -f /run/full; mv /usr/local/bin/away /usr/local/bin/check 2>/dev/null; true'
                wait_for 60 runs_again || fail "$why: $(fleetctl alpha status)"
                [ "$(invocation exec.service)" = "$before" ] || fail "$why: it was restarted"
        done
        fleetctl alpha destroy exec.service >/dev/null 2>&1
}

# The command ignores SIGTERM and has children.
forty_hanging_commands_end_at_their_time_out() {
        local i most=0 n memory memory_most=0
        host_exec alpha tee /usr/local/bin/hang >/dev/null <<'END'
#!/bin/sh
trap '' TERM
setsid sh -c 'trap "" TERM; sleep 1d' & sleep 1d
END
        host_exec alpha chmod +x /usr/local/bin/hang
        unit_file hang@.service <<<$'[Service]\nExecStart=/bin/sleep 1d\n[X-Fleet]\nHealthExec=/usr/local/bin/hang\nHealthIntervalSec=5s\nHealthTimeoutSec=1s'
        fleetctl alpha start hang@{1..40}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        for i in {1..40}; do
                n=$(host_exec alpha systemctl list-units --plain --no-legend 'fleet-check-*' | wc -l)
                [ "$n" -le "$most" ] || most=$n
                memory=$(host_exec alpha systemctl show --value -p MemoryCurrent fleet-checks.slice)
                [ "${memory//[!0-9]/}" ] || memory=0 # between two commands
                [ "$memory" -le "$memory_most" ] || memory_most=$memory
                [ "$memory" -lt $((128 << 20)) ] || fail "memory of the slice: $memory"
                ten_answers
        done >"$LAB/times"
        [ "$most" -le 6 ] || fail "$most commands at once"
        answers_are_fast "40 hanging commands"
        for i in {1..40}; do
                case $(shown "hang@$i.service" health) in failing | starting) ;; *) fail "hang@$i.service: $(shown "hang@$i.service" health,why)" ;; esac
        done
        fleetctl alpha destroy hang@.service hang@{1..40}.service >/dev/null 2>&1
        wait_for 8 sh -c '! "$@" | grep -q .' - host_exec alpha systemctl list-units --plain --no-legend 'fleet-check-*' || true
        sleep 3
        n=$(host_exec alpha sh -c 'cat /sys/fs/cgroup/fleet-checks.slice/fleet-check-*/cgroup.procs 2>/dev/null' | wc -l)
        [ "$n" -le 2 ] || fail "$n processes of checks are left"
        echo "# 40 hanging commands: at most $most at once, memory of the slice $((memory_most >> 20)) MiB" >>"$LAB/figures"
}

# The CPU time of fleetd in ticks of 10 ms, and its wake-ups.
cost() {
        host_exec alpha sh -c 'pid=$(systemctl show --value -p MainPID fleetd)
                awk "{ printf \"%d \", \$14 + \$15 }" /proc/$pid/stat; awk "/^voluntary/ { print \$2 }" /proc/$pid/status'
}
index() { fleetctl alpha --output=json cluster 2>/dev/null | json index; }
all_available() { [ "$(fleetctl alpha list-units --no-legend --fields=available 'many@*' 2>/dev/null | sort | uniq -c | xargs)" = "$1 true" ]; }

passing_checks_write_nothing_and_cost_little() {
        local i before after idle_cpu idle_wakes index
        sleep 5
        before=$(cost); sleep 10; after=$(cost)
        idle_cpu=$((${after% *} - ${before% *})) idle_wakes=$((${after#* } - ${before#* }))
        { printf '[Service]\nExecStart=/bin/sleep 1d\n[X-Fleet]\n'; for ((i = 0; i < 10; i++)); do echo "HealthHttp=8080/$i"; done; } | unit_file many@.service
        fleetctl alpha start many@{1..50}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 40 all_available 50 || fail "$(fleetctl alpha list-units)"
        for i in {1..30}; do ten_answers; done >"$LAB/times"
        answers_are_fast "500 checks"
        index=$(index); before=$(cost); sleep 10; after=$(cost)
        [ "$(index)" = "$index" ] || fail "500 passing checks: the index changes from $index to $(index)"
        echo "# 500 passing checks: $(((${after% *} - ${before% *} - idle_cpu) * 10)) hundredths of a percent of CPU, $(((${after#* } - ${before#* } - idle_wakes) / 10)) wake-ups a second more" >>"$LAB/figures"
        fleetctl alpha destroy many@.service many@{1..50}.service >/dev/null 2>&1
}

# 100 checks of 10 s, of an address that is not loopback: 0.3 % of a core at most, in 30 s more than fleetd takes anyway.
a_hundred_passing_checks_cost_little() {
        local i before after idle ticks index
        host_exec alpha ip address add 192.0.2.9/32 dev lo || fail "ip address add"
        host_exec alpha sed -i 's/"127.0.0.1"/"0.0.0.0"/' /usr/local/bin/server
        host_exec alpha systemctl restart web.service
        sleep 5
        before=$(cost); sleep 30; after=$(cost)
        idle=$((${after% *} - ${before% *}))
        { printf '[Service]\nExecStart=/bin/sleep 1d\n[X-Fleet]\n'; for ((i = 0; i < 10; i++)); do echo "HealthHttp=192.0.2.9:8080/$i"; done; } | unit_file many@.service
        fleetctl alpha start many@{1..10}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 40 all_available 10 || fail "$(fleetctl alpha list-units)"
        sleep 2
        index=$(index); before=$(cost); sleep 30; after=$(cost)
        [ "$(index)" = "$index" ] || fail "the index changes from $index to $(index)"
        ticks=$((${after% *} - ${before% *} - idle))
        echo "# 100 passing checks: $ticks ticks of 10 ms in 30 s" >>"$LAB/figures"
        [ "$ticks" -le 9 ] || fail "$ticks ticks of 10 ms in 30 s: more than 0.3 %"
        fleetctl alpha destroy many@.service many@{1..10}.service >/dev/null 2>&1
}

# The checks were due all the time: their late results count for nothing.
a_daemon_that_stands_still_restarts_nothing_and_changes_no_health() {
        local before index pid i
        { printf '[Service]\nExecStart=/bin/sleep 1d\n[X-Fleet]\nHealthHttp=8080/\nHealthTcp=8080\n'
                printf 'HealthIntervalSec=1s\nHealthTimeoutSec=1s\nHealthFailures=1\nUpdateWatchSec=1s\nHealthAction=restart\n'; } | unit_file many@.service
        fleetctl alpha start many@{1..10}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        wait_for 40 all_available 10 || fail "$(fleetctl alpha list-units)"
        invocations() { for i in {1..10}; do invocation "many@$i.service"; done; }
        states() { fleetctl alpha list-units --no-legend --fields=unit,health,available 'many@*' 2>/dev/null; }
        before="$(invocations) $(states)"
        pid=$(host_exec alpha systemctl show --value -p MainPID fleetd)
        host_exec alpha kill -STOP "$pid"
        sleep 20
        host_exec alpha kill -CONT "$pid"
        wait_for 10 writes alpha || fail "alpha does not write again"
        for i in {1..10}; do
                [ "$(invocations) $(states)" = "$before" ] || fail "before: $before; now: $(invocations) $(states)"
                sleep 0.5
        done
        [ "$(host_exec alpha systemctl show --value -p MainPID fleetd)" = "$pid" ] || fail "fleetd was restarted"
        fleetctl alpha destroy many@.service many@{1..10}.service >/dev/null 2>&1
}

a_failing_unit_with_health_action_restart_is_restarted() {
        local before
        unit_file acting.service <<<$'[Service]\nExecStart=/bin/sleep 1d\n[X-Fleet]\nHealthTcp=8083\nHealthIntervalSec=1s\nHealthTimeoutSec=1s\nHealthAction=restart'
        fleetctl alpha start acting.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        before=$(invocation acting.service)
        restarted() { [ "$(invocation acting.service)" != "$before" ] && [ "$(host_exec alpha systemctl is-active acting.service)" = active ]; }
        wait_for 15 restarted || fail "it was not restarted: $(shown acting.service health,why)"
        host_exec alpha journalctl -u fleetd --no-pager | grep -q 'acting.service: restart (HealthAction=restart): Connection refused from 127.0.0.1:8083, 3 times' ||
                fail "$(host_exec alpha journalctl -u fleetd --no-pager | grep acting | tail -3)"
        before=$(invocation acting.service)
        sleep 8
        [ "$(invocation acting.service)" = "$before" ] || fail "it was restarted again at once"
}

scenario a_unit_is_available_when_its_check_has_passed_for_the_watch_time a_check_that_fails_has_a_reason_and_restarts_nothing \
        availability_survives_a_restart_of_the_daemon endless_and_missing_answers_end a_command_runs_as_the_user_of_the_unit_within_its_slice \
        a_host_that_cannot_run_a_check_restarts_nothing forty_hanging_commands_end_at_their_time_out passing_checks_write_nothing_and_cost_little \
        a_hundred_passing_checks_cost_little a_daemon_that_stands_still_restarts_nothing_and_changes_no_health a_failing_unit_with_health_action_restart_is_restarted
