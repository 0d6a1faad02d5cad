#!/bin/bash
# The page as a service on a booted host: no process without a visitor, and what the process may do. And "fleetctl web" of a user.
# Takes 20 s.
LAB_HOSTS=alpha
. "$(dirname "$0")/scenario.sh"

web_state() { host_exec alpha systemctl is-active fleet-web.service; }
web_pid() { host_exec alpha systemctl show --value -p MainPID fleet-web.service; }
web_url() { host_exec alpha fleetctl web --url; }
# page PATH [CURL ARGUMENTS]: of the service, with its key.
page() { host_exec alpha curl -sS -m 15 -H "X-Fleet-Key: $(web_url | sed 's/.*#key=//')" "http://127.0.0.1:2381/$1" "${@:2}"; }
as_web() { host_exec alpha setpriv --reuid fleet-web --regid fleet-web --clear-groups "$@"; }

user_page_is_gone() { ! host_exec alpha test -e "/proc/$(cat "$LAB/pid")"; }

there_is_no_process_without_a_visitor() {
        lab_install "$LAB_BUILD" && host_install alpha && install -m 644 "$top/dist/40-web.conf" "$LAB/alpha/up/etc/fleet/fleetd.conf.d/" || fail "fleetd cannot be put on alpha"
        hosts_up alpha
        cluster_whole
        [ "$(host_exec alpha systemctl is-enabled fleet-web.socket)" = disabled ] || fail "it is $(host_exec alpha systemctl is-enabled fleet-web.socket)"
        ! web_url >"$LAB/out" 2>&1 || fail "there is an address before the socket: $(cat "$LAB/out")"
        grep -qF 'systemctl enable --now fleet-web.socket' "$LAB/out" || fail "$(cat "$LAB/out")"
        # The page of another user, which would learn the key.
        host_exec alpha sh -c 'fleetctl web >/run/page 2>&1 & echo $!' >"$LAB/pid"
        wait_for 5 host_exec alpha grep -q '^http://127.0.0.1:2381/' /run/page || fail "$(host_exec alpha cat /run/page)"
        ! web_url >"$LAB/out" 2>&1 && grep -qF 'systemctl enable --now fleet-web.socket' "$LAB/out" || fail "the address of another page: $(cat "$LAB/out")"
        host_exec alpha kill "$(cat "$LAB/pid")"
        wait_for 5 user_page_is_gone || fail "it does not end"
        host_exec alpha systemctl enable --now fleet-web.socket >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        [ "$(web_state)" = inactive ] || fail "it is $(web_state)"
}

root_gets_the_address() {
        web_url >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        grep -qE '^http://127\.0\.0\.1:2381/#key=[A-Za-z0-9_-]{22}$' "$LAB/out" || fail "$(cat "$LAB/out")"
        [ "$(web_state)" = active ] || fail "it is $(web_state)"
        ! host_exec alpha setpriv --reuid 65534 --regid 65534 --clear-groups fleetctl web --url >"$LAB/out" 2>&1 || fail "another user gets the key: $(cat "$LAB/out")"
        grep -q 'for root' "$LAB/out" || fail "$(cat "$LAB/out")"
        [ "$(host_exec alpha stat -c '%U %a' /var/lib/fleet-web/key)" = "fleet-web 600" ] || fail "$(host_exec alpha stat -c '%U %a' /var/lib/fleet-web/key)"
}

the_page_shows_the_cluster_to_who_has_the_key() {
        wait_for 15 view_has alpha || fail "$(page view)"
        [ "$(host_exec alpha curl -sS -m 5 -o /dev/null -w '%{http_code}' http://127.0.0.1:2381/view)" = 403 ] || fail "without the key"
        [ "$(page view -o /dev/null -w '%{http_code}' -X POST)" = 405 ] || fail "POST"
        [ "$(page fleet/v1/units -o /dev/null -w '%{http_code}')" = 404 ] || fail "a path of the daemon"
}
view_has() { page view | json machines 0 name | grep -qx "$1"; }

# The host has a socket at the port; the process has that one, and no network of its own.
the_process_has_the_passed_socket_only() {
        local pid
        pid=$(web_pid)
        [ "$(host_exec alpha stat -c %U "/proc/$pid")" = fleet-web ] || fail "it runs as $(host_exec alpha stat -c %U "/proc/$pid")"
        [ "$(host_exec alpha awk 'NR > 2 { print $1 }' "/proc/$pid/net/dev" | xargs)" = lo: ] || fail "it has a network: $(host_exec alpha cat "/proc/$pid/net/dev")"
        [ "$(host_exec alpha cat "/proc/$pid/net/tcp" "/proc/$pid/net/udp" | grep -vc sl)" = 0 ] || fail "it has sockets: $(host_exec alpha cat "/proc/$pid/net/tcp")"
        [ "$(host_exec alpha awk '/^CapEff/ { print $2 }' "/proc/$pid/status")" = 0000000000000000 ] || fail "it has capabilities"
}

its_user_may_see_units_and_nothing_else() {
        as_web fleetctl list-machines >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        ! as_web fleetctl start hello.service >"$LAB/out" 2>&1 || fail "it starts units"
        as_web curl -sS -m 5 --unix-socket /run/fleet.sock -X PUT -H 'Content-Type: application/json' -d '{"desiredState":"launched"}' -o /dev/null \
                -w '%{http_code}' http://fleet/fleet/v1/units/hello.service >"$LAB/out"
        grep -qx 403 "$LAB/out" || fail "a start is $(cat "$LAB/out")"
        [ "$(key_put alpha /secret x)" = ok ] || fail "no key"
        ! as_web fleetctl get /secret >"$LAB/out" 2>&1 || fail "it reads keys: $(cat "$LAB/out")"
}

a_restart_keeps_the_key() {
        local url program
        url=$(web_url)
        program=$(page view | json program)
        host_exec alpha systemctl restart fleet-web.service || fail "no restart"
        [ "$(web_url)" = "$url" ] || fail "another key"
        [ "$(page view | json program)" != "$program" ] || fail "a page cannot see that the program is another one"
}

# host_fails STATUS MESSAGE ARGUMENTS...
web_fails() {
        local status=0
        host_exec alpha timeout 10 fleetctl web "${@:3}" >"$LAB/out" 2>&1 || status=$?
        [ "$status" = "$1" ] && grep -qF -- "$2" "$LAB/out" || fail "fleetctl web ${*:3}: $status, $(cat "$LAB/out")"
}
addresses_of_others_and_taken_ports_are_refused() {
        web_fails 1 '127.0.0.1:2381 is the page of this host: fleetctl web --url as root, or --listen=127.0.0.1:0'
        web_fails 2 '0.0.0.0: the page is not encrypted; use ssh -L, or a proxy with TLS on this host' --listen=0.0.0.0:2381
        web_fails 2 'expected an address of this host and a port' --listen=localhost:2381
        web_fails 1 '127.0.0.1:2379 is in use; a free port: --listen=127.0.0.1:0' --listen=127.0.0.1:2379
}

a_user_has_a_page_of_its_own() {
        host_exec alpha sh -c 'fleetctl web --listen=127.0.0.1:0 >/run/page 2>&1 & echo $!' >"$LAB/pid"
        wait_for 5 host_exec alpha grep -q '^http://127.0.0.1:' /run/page || fail "$(host_exec alpha cat /run/page)"
        host_exec alpha sh -c 'IFS="#" read -r base key </run/page; curl -sS -m 10 -H "X-Fleet-Key: ${key#key=}" "${base}view"' | json host | grep -qx alpha || fail "no state"
        host_exec alpha kill "$(cat "$LAB/pid")"
        wait_for 5 user_page_is_gone || fail "it does not end"
}

# laptop_sees [VARIABLE=VALUE...] FLAGS...: fleetctl web with these connection options has the state of alpha. It runs in a folder of files for a user.
laptop_sees() {
        host_exec alpha sh -c 'cd /root && env "$@" web --listen=127.0.0.1:0 >/run/page 2>&1 & echo $!' - "$@" >"$LAB/pid"
        wait_for 15 host_exec alpha grep -q '^http://127.0.0.1:' /run/page || fail "$*: $(host_exec alpha cat /run/page)"
        wait_for 15 eval 'laptop_view | json machines 0 name | grep -qx alpha' || fail "$*: $(laptop_view)"
}
laptop_view() { host_exec alpha sh -c 'IFS="#" read -r base key </run/page; curl -sS -m 15 -H "X-Fleet-Key: ${key#key=}" "${base}view"' 2>&1; }
laptop_goes() {
        host_exec alpha kill "$(cat "$LAB/pid")"
        wait_for 5 user_page_is_gone || fail "it does not end"
}

# With the options of fleetctl, which fleet-web gets.
a_laptop_has_the_page_by_a_certificate_or_by_ssh() {
        printf '[Fleetd]\nListenTLS=127.0.0.1:2443\n' >"$LAB/alpha/up/etc/fleet/fleetd.conf.d/60-tls.conf"
        host_exec alpha systemctl restart fleetd || fail "fleetd does not start"
        wait_for 20 writes alpha || fail "alpha accepts no writes"
        host_exec alpha fleetctl cert ops --rights=units-see --out=/root/users >"$LAB/out" 2>&1 || fail "cert: $(cat "$LAB/out")"
        laptop_sees fleetctl --endpoint=https://127.0.0.1:2443 --ca-file=users/ca.pem --cert-file=users/ops.pem --key-file=users/ops.key
        host_exec alpha fleetctl cert revoke ops >"$LAB/out" 2>&1 || fail "revoke: $(cat "$LAB/out")"
        wait_for 30 eval 'laptop_view | json notice | grep -q "no user ops of this cluster has this key"' || fail "a user who was revoked sees: $(laptop_view)"
        laptop_goes

        host_exec alpha mkdir -p /root/bin
        (cd "$top/tests/client" && python3 -c 'import fake_fleetd; print(fake_fleetd.SSH)') | host_exec alpha sh -c 'cat >/root/bin/ssh; chmod 755 /root/bin/ssh'
        laptop_sees PATH=/root/bin:/usr/bin:/bin SAID=/run/said fleetctl --tunnel=beta:2222 --ssh-username=ops
        host_exec alpha grep -q -- '-l ops .*-- beta$' /run/said || fail "$(host_exec alpha cat /run/said)"
        laptop_goes
}

scenario there_is_no_process_without_a_visitor root_gets_the_address the_page_shows_the_cluster_to_who_has_the_key the_process_has_the_passed_socket_only \
        its_user_may_see_units_and_nothing_else a_restart_keeps_the_key addresses_of_others_and_taken_ports_are_refused a_user_has_a_page_of_its_own \
        a_laptop_has_the_page_by_a_certificate_or_by_ssh
