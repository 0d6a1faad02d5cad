#!/bin/bash
# Invalid input from outside: each gets one clear message and the right status, and loses nothing.
# Takes 60 s.
LAB_HOSTS="alpha beta gamma delta"
. "$(dirname "$0")/scenario.sh"
TRIO="alpha beta gamma"

api() { host_exec "$1" curl -sS -m 10 --unix-socket /run/fleet.sock "${@:3}" "http://fleet/fleet/v1$2"; }
daemon_said() { host_exec "$1" journalctl -u fleetd --no-pager -o cat | grep -qiE "$2"; }
last_words() { host_exec "$1" journalctl -u fleetd --no-pager -o cat -n "${2:-3}" | tr '\n' ';'; }

# The three hosts are unchanged.
nothing_lost() {
        local h
        for h in $TRIO; do
                wait_for 30 writes $h || fail "$h takes no writes any more: $(key_put $h /lab/ping x)"
                [ "$(key_get $h /precious)" = kept ] || fail "$h lost a key"
        done
        WHAT=$1 untouched "$(cat "$LAB/before")" $TRIO
}

three_hosts_with_units_and_a_key() {
        local h
        [ -x "$LAB_BUILD/fleetd/fleetd" ] || fail "no fleetd in $LAB_BUILD"
        lab_install "$LAB_BUILD" || fail "make install failed"
        for h in $TRIO; do
                host_install $h || fail "fleetd cannot be put on $h"
        done
        hosts_up $TRIO
        for h in $TRIO; do
                wait_for 60 knows_machines $h 3 || fail "$h does not know all machines: $(machines $h)"
        done
        (cd "$top/dist/units" && host_fleetctl alpha start hello.service node.service web@{1,2,3}.service >"$LAB/out" 2>&1) || fail "samples do not start: $(cat "$LAB/out")"
        [ "$(key_put alpha /precious kept)" = ok ] || fail "put failed"
        for h in $TRIO; do
                wait_for 5 key_is $h /precious kept || fail "$h does not read it"
        done
        identities $TRIO >"$LAB/before"
}

a_malformed_unit_file_is_refused_with_its_line() {
        local out
        printf '[Service]\nExecStart=/bin/sleep 1\n[X-Fleet]\nMachineMetadata=gpu\n' | unit_file bad.service
        out=$(fleetctl alpha submit bad.service 2>&1)
        [ $? = 1 ] || fail "not exit 1: $out"
        grep -q 'bad.service: line 4' <<<"$out" || fail "no line: $out"
        printf '[Service]\nExecStart=/bin/sleep 1\nsomething\n' | unit_file worse.service
        out=$(fleetctl alpha start worse.service 2>&1)
        [ $? = 1 ] || fail "not exit 1: $out"
        grep -q 'worse.service: line 3' <<<"$out" || fail "no line: $out"
        head -c 3000 /dev/urandom | unit_file noise.service
        out=$(fleetctl alpha submit noise.service 2>&1)
        [ $? = 1 ] || fail "noise: not exit 1: $out"
        ! known beta bad.service && ! known beta worse.service && ! known beta noise.service || fail "a bad unit is in"
        nothing_lost "a malformed unit file"
}

names_with_slashes_and_control_bytes_are_refused() {
        local name status body='{"desiredState":"launched","options":[{"section":"Service","name":"ExecStart","value":"/bin/sleep 9"}]}'
        for name in a%2Fb.service ..%2F..%2Fetc%2Fpasswd a%01b.service a%0Ab.service %00.service noending -.mount fleetd.service \
                dbus.service a.scope a.slice "$(printf 'x%.0s' {1..300}).service"; do
                status=$(api alpha "/units/$name" -XPUT -H 'Content-Type: application/json' -d "$body" -o /dev/null -w '%{http_code}')
                [[ $status =~ ^4 ]] || fail "$name: status $status"
        done
        [ "$(api alpha /units | grep -oE '"name":"[^"]*"' | sort -u | wc -l)" = 3 ] || [ "$(fleetctl alpha list-unit-files --no-legend | wc -l)" -le 6 ] ||
                fail "a bad name is in: $(fleetctl alpha list-unit-files)"
        nothing_lost "a bad name"
}

bodies_that_are_not_json_get_a_message() {
        local answer
        for body in '' '{' '[]' '{"options":7}' '{"desiredState":"flying","options":[]}' "$(printf '[%.0s' {1..2000})"; do
                answer=$(api alpha /units/x.service -XPUT -H 'Content-Type: application/json' -d "$body" -w '\n%{http_code}')
                [[ $(tail -1 <<<"$answer") =~ ^4 ]] || fail "'${body:0:20}': $answer"
                json error message <<<"$(head -1 <<<"$answer")" | grep -q ... || fail "'${body:0:20}': no message: $answer"
        done
        nothing_lost "a bad body"
}

oversized_requests_are_refused() {
        local status
        host_exec alpha sh -c 'head -c 20000000 /dev/zero | tr "\0" a >/tmp/big'
        status=$(keys alpha /big -XPUT --data-urlencode value@/tmp/big -o /dev/null -w '%{http_code}' 2>/dev/null)
        [[ $status =~ ^(4|000) ]] || fail "a value of 20 MB: status $status"
        status=$(api alpha /units/big.service -XPUT -H 'Content-Type: application/json' -d @/tmp/big -o /dev/null -w '%{http_code}' 2>/dev/null)
        [[ $status =~ ^(4|000) ]] || fail "a unit of 20 MB: status $status"
        status=$(keys alpha /x -H "X-Long: $(head -c 100000 /dev/zero | tr '\0' a)" -o /dev/null -w '%{http_code}' 2>/dev/null)
        [[ $status =~ ^(4|000) ]] || fail "a header of 100 kB: status $status"
        status=$(keys alpha "/$(head -c 60000 /dev/zero | tr '\0' a)" -o /dev/null -w '%{http_code}' 2>/dev/null)
        [[ $status =~ ^(4|000) ]] || fail "a path of 60 kB: status $status"
        [ "$(keys alpha /big | json errorCode)" = 100 ] || fail "it was stored"
        nothing_lost "an oversized request"
}

incomplete_requests_delay_no_other_client() {
        host_exec alpha python3 - <<'END' || fail "others wait behind half requests"
import socket, sys, time
halves = []
for i in range(200):
    s = socket.create_connection(("127.0.0.1", 2379), 5)
    s.sendall([b"PU", b"PUT /v2/keys/half HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le",
               b"PUT /v2/keys/half HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\nvalue=x"][i % 3])
    halves.append(s)
begin = time.time()
s = socket.create_connection(("127.0.0.1", 2379), 5)
s.settimeout(5)
s.sendall(b"GET /v2/keys/precious HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
answer = b""
while b"kept" not in answer:
    more = s.recv(4096)
    if not more:
        sys.exit("no answer: %r" % answer)
    answer += more
sys.exit(0 if time.time() - begin < 2 else "an answer took %.1f s" % (time.time() - begin))
END
        [ "$(keys alpha /half | json errorCode)" = 100 ] || fail "half a request was taken for a whole one"
        nothing_lost "half a request"
}

bytes_that_are_no_http_get_an_answer_or_a_closed_connection() {
        host_exec alpha python3 - <<'END' || fail "a connection stays open without an answer"
import os, socket, sys
for noise in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + os.urandom(500), b"GET /v2/keys\x00/x HTTP/1.1\r\n\r\n", b"\r\n\r\n\r\nhello\r\n\r\n",
              b"GET / HTTP/9.9\r\n\r\n", b"PUT /v2/keys/n HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
              b"PUT /v2/keys/n HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", os.urandom(4000)):
    s = socket.create_connection(("127.0.0.1", 2379), 5)
    s.settimeout(10)
    s.sendall(noise)
    try:
        answer = s.recv(4096)
    except ConnectionError:
        answer = b""
    except socket.timeout:
        sys.exit("nothing came for %r" % noise[:30])
    if answer and not answer.split(b" ")[1].startswith(b"4") and not answer.split(b" ")[1] == b"505":
        sys.exit("%r was answered %r" % (noise[:30], answer[:80]))
END
        nothing_lost "noise at the client listener"
}

noise_at_the_peer_listener_is_rejected() {
        in_lab python3 - "$(host_address alpha)" <<'END' || fail "the peer listener keeps the connection"
import os, socket, sys
for noise in (os.urandom(2000), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x03\xff\xff" + os.urandom(5000), b""):
    s = socket.create_connection((sys.argv[1], 2380), 5)
    s.settimeout(15)
    s.sendall(noise)
    if not noise:
        s.shutdown(socket.SHUT_WR)
    try:
        while s.recv(4096):
            pass
    except ConnectionError:
        pass
    except socket.timeout:
        sys.exit("%r: still open after 15 s" % noise[:20])
END
        nothing_lost "noise at the peer listener"
}

a_host_with_another_key_is_rejected_with_a_message() {
        host_install delta || fail "fleetd cannot be put on delta"
        od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$LAB/delta/up/etc/fleet/peer.key"
        hosts_up delta
        wait_for 20 daemon_said delta 'key' || fail "delta does not say why: $(last_words delta)"
        wait_for 20 daemon_said alpha 'key|handshake|peer' || fail "alpha does not say it: $(last_words alpha)"
        [ "$(machines alpha | wc -l)" = 3 ] || fail "delta is a machine: $(machines alpha)"
        nothing_lost "a host with another key"
        host_kill delta
}

a_clone_of_a_host_is_refused_and_touches_nothing() {
        cp "$LAB/peer.key" "$LAB/delta/up/etc/fleet/peer.key"
        host_machine_id gamma >"$LAB/delta/up/etc/machine-id"
        rm -rf "$LAB/delta/up/var/lib/fleet"
        hosts_up delta
        wait_for 20 daemon_said delta 'machine.?id|clone' || wait_for 20 daemon_said alpha 'machine.?id|clone' ||
                fail "no journal reports a clone: delta: $(last_words delta) alpha: $(last_words alpha)"
        sleep 5         # longer than the time after which a host is lost
        [ "$(machines alpha | wc -l)" = 3 ] || fail "machines: $(machines alpha)"
        nothing_lost "a clone"
        host_kill delta
}

a_second_daemon_on_the_same_state_does_not_start() {
        local out
        out=$(host_exec alpha timeout 20 fleetd --state-directory=/var/lib/fleet --runtime-directory=/tmp/second --listen-socket=/tmp/second.sock \
                --listen-client=127.0.0.1:3379 --agent=no 2>&1)
        [ $? = 1 ] || fail "not exit 1: $out"
        [ "$(wc -l <<<"$out")" -le 3 ] && grep -qE '/var/lib/fleet' <<<"$out" || fail "it says: $out"
        nothing_lost "a second daemon"
}

wrong_configuration_names_file_line_and_remedy() {
        local out
        out=$(host_exec alpha timeout 10 fleetd --no-such-option=1 2>&1)
        [ $? = 2 ] || fail "an unknown option: not exit 2: $out"
        grep -q -- '--no-such-option' <<<"$out" || fail "an unknown option: $out"
        out=$(host_exec alpha timeout 10 fleetd --listen-client=nonsense --state-directory=/tmp/s 2>&1)
        [ $? = 2 ] || fail "a bad value: not exit 2: $out"
        grep -q nonsense <<<"$out" || fail "a bad value: $out"
        out=$(host_exec alpha timeout 10 fleetd --config=/proc/self/mem 2>&1) # unreadable: EIO
        [ $? = 1 ] || fail "an error of reading, which may pass: not exit 1: $out"
        host_exec alpha sh -c 'printf "[Fleetd]\nListenPeer=everywhere\n" >/etc/fleet/fleetd.conf.d/99-bad.conf'
        out=$(host_exec alpha timeout 10 fleetd --state-directory=/tmp/s 2>&1)
        [ $? -ne 0 ] || fail "a bad file: exit 0"
        grep -q '99-bad.conf' <<<"$out" && grep -qE 'line 2|:2' <<<"$out" || fail "a bad file: $out"
        host_exec alpha rm /etc/fleet/fleetd.conf.d/99-bad.conf
        nothing_lost "wrong configuration"
}

a_configuration_error_ends_the_daemon_once() {
        local out before
        host_exec alpha sh -c 'printf "[Fleetd]\nNoSuchOption=1\n" >/etc/fleet/fleetd.conf.d/99-bad.conf'
        before=$(host_exec alpha journalctl -u fleetd --no-pager -o cat | grep -c 'unknown setting')
        host_exec alpha systemctl restart --no-block fleetd
        wait_for 20 host_exec alpha systemctl is-failed -q fleetd || fail "it is not failed: $(host_exec alpha systemctl status --no-pager fleetd)"
        sleep 1         # five restarts
        [ "$(host_exec alpha systemctl show -P NRestarts fleetd)" = 0 ] || fail "restarts: $(host_exec alpha systemctl show -P NRestarts fleetd)"
        [ "$(host_exec alpha journalctl -u fleetd --no-pager -o cat | grep -c 'unknown setting')" = $((before + 1)) ] || fail "it says: $(last_words alpha 5)"
        host_exec alpha systemctl --failed --no-legend | grep -q fleetd.service || fail "systemctl --failed: $(host_exec alpha systemctl --failed)"
        out=$(host_exec alpha systemctl status --no-pager fleetd)
        grep -q '99-bad.conf: line 2: unknown setting NoSuchOption=; see fleetd.conf(5)' <<<"$out" || fail "systemctl status: $out"
        host_exec alpha rm /etc/fleet/fleetd.conf.d/99-bad.conf
        host_exec alpha systemctl restart fleetd || fail "alpha: $(last_words alpha)"
        nothing_lost "a configuration error"
}

a_corrupt_tree_is_rebuilt_from_the_log() {
        host_exec gamma systemctl stop fleetd
        host_exec gamma dd if=/dev/urandom of=/var/lib/fleet/tree/live/data.mdb bs=4096 count=8 conv=notrunc status=none
        host_exec gamma systemctl start fleetd || fail "gamma: $(last_words gamma)"
        wait_for 30 key_is gamma /precious kept || fail "gamma: $(last_words gamma)"
        nothing_lost "a corrupt tree"
}

a_file_of_another_size_is_reported_in_one_message_and_costs_no_unit() {
        host_exec gamma systemctl stop fleetd
        host_exec gamma sh -c 'cp /var/lib/fleet/tree/identity /var/tmp/identity; head -c 5000 /dev/urandom >/var/lib/fleet/tree/identity'
        host_exec gamma systemctl start --no-block fleetd
        wait_for 20 daemon_said gamma '/var/lib/fleet/tree/identity' || fail "gamma does not say it: $(last_words gamma)"
        WHAT="a broken identity" untouched "$(cat "$LAB/before")" $TRIO
        host_exec gamma cp /var/tmp/identity /var/lib/fleet/tree/identity
        wait_for 30 writes gamma || fail "gamma does not come back by itself: $(last_words gamma)"
        nothing_lost "a broken identity"
}

an_outdated_image_of_a_host_joins_again_and_touches_nothing() {
        host_exec gamma systemctl stop fleetd
        host_exec gamma sh -c 'rm -rf /var/tmp/image && cp -a /var/lib/fleet /var/tmp/image'
        host_exec gamma systemctl start fleetd
        nothing_lost "a restart"
        host_exec gamma systemctl stop fleetd
        host_exec gamma sh -c 'rm -rf /var/lib/fleet/* && cp -a /var/tmp/image/. /var/lib/fleet/'
        host_exec gamma systemctl start --no-block fleetd
        wait_for 20 daemon_said gamma 'old image' || wait_for 1 daemon_said alpha 'old image' || wait_for 1 daemon_said beta 'old image' ||
                fail "no journal reports an outdated image: gamma: $(last_words gamma) alpha: $(last_words alpha)"
        WHAT="an old image" untouched "$(cat "$LAB/before")" $TRIO
        for h in alpha beta gamma; do
                wait_for 20 writes $h || fail "$h takes no writes"
        done
        WHAT="an old image" untouched "$(cat "$LAB/before")" $TRIO
}

a_wiped_host_joins_again_and_adopts_running_units() {
        host_exec gamma systemctl stop fleetd
        host_exec gamma sh -c 'rm -rf /var/lib/fleet/*'
        host_exec gamma systemctl start fleetd || fail "gamma: $(last_words gamma)"
        wait_for 40 writes gamma || fail "gamma does not come back: $(last_words gamma)"
        nothing_lost "a wiped host"
}

a_corrupt_log_is_reported_in_one_message_and_costs_no_unit() {
        local h
        host_exec gamma systemctl stop fleetd
        host_exec gamma sh -c 'for f in $(find /var/lib/fleet/raft -type f -size +100c); do s=$(stat -c %s $f); dd if=/dev/urandom of=$f bs=1 count=200 seek=$((s / 3)) conv=notrunc status=none; done'
        host_exec gamma systemctl start --no-block fleetd
        wait_for 20 daemon_said gamma 'corrupt|damaged|checksum' || fail "gamma does not say it: $(last_words gamma)"
        for h in alpha beta; do
                wait_for 10 writes $h || fail "$h takes no writes"
                [ "$(key_get $h /precious)" = kept ] || fail "$h lost a key"
        done
        WHAT="a corrupt log" untouched "$(cat "$LAB/before")" $TRIO
}

a_disk_that_rejects_writes_is_reported_and_costs_no_unit() {
        local h
        host_exec beta systemctl stop fleetd
        host_exec beta sh -c 'mount --bind /var/lib/fleet /var/lib/fleet && mount -o remount,ro,bind /var/lib/fleet'
        host_exec beta systemctl start --no-block fleetd
        wait_for 20 daemon_said beta 'read-only|cannot (write|open|create)' || fail "beta does not say it: $(last_words beta)"
        [ "$(key_get alpha /precious)" = kept ] || fail "alpha lost a key"
        WHAT="a disk without writing" untouched "$(cat "$LAB/before")" $TRIO
        wait_for 10 host_exec beta umount /var/lib/fleet || fail "beta still uses the mount" # busy while the daemon starts
        wait_for 30 writes beta || fail "beta does not come back by itself: $(last_words beta)"
        WHAT="a disk without writing" untouched "$(cat "$LAB/before")" $TRIO
}

scenario three_hosts_with_units_and_a_key a_malformed_unit_file_is_refused_with_its_line names_with_slashes_and_control_bytes_are_refused \
        bodies_that_are_not_json_get_a_message oversized_requests_are_refused incomplete_requests_delay_no_other_client \
        bytes_that_are_no_http_get_an_answer_or_a_closed_connection noise_at_the_peer_listener_is_rejected \
        a_host_with_another_key_is_rejected_with_a_message a_clone_of_a_host_is_refused_and_touches_nothing \
        a_second_daemon_on_the_same_state_does_not_start wrong_configuration_names_file_line_and_remedy \
        a_configuration_error_ends_the_daemon_once \
        a_corrupt_tree_is_rebuilt_from_the_log a_file_of_another_size_is_reported_in_one_message_and_costs_no_unit a_disk_that_rejects_writes_is_reported_and_costs_no_unit \
        an_outdated_image_of_a_host_joins_again_and_touches_nothing a_wiped_host_joins_again_and_adopts_running_units \
        a_corrupt_log_is_reported_in_one_message_and_costs_no_unit
