#!/bin/bash
# fleet-dns on booted hosts: alpha has a plain resolv.conf, and containers as network namespaces; beta has systemd-resolved. Its units under a real systemd,
# the programs that ask, and what is left when it is switched off or fails. fleetd does not run: the files of services are those of this test.
# Takes 50 s.
LAB_HOSTS="alpha beta"
. "$(dirname "$0")/scenario.sh"
ADDRESS=169.254.23.79 CONF=/etc/containers/containers.conf.d/50-fleet.conf MANUAL=$top/man/fleet-dns.8.scd

# --- places -------------------------------------------------------------------------------------------------------

# at PLACE COMMAND...: on a host, in the LAN, or in a container of alpha. LAN and containers have a resolv.conf of their own.
at() {
        local place=$1
        shift
        case $place in
        alpha | beta) host_exec "$place" "$@" ;;
        lan) in_lab unshare -m sh -c 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"' - "$LAB/resolv.lan" "$@" ;;
        *) in_lab ip netns exec "$place" unshare -m sh -c 'mount --bind "$1" /etc/resolv.conf; shift; exec "$@"' - "$LAB/resolv.$place" "$@" ;;
        esac
}

# container NUMBER DNS: a namespace cNUMBER behind the bridge podmanNUMBER of alpha, at 10.88.NUMBER.2, that asks this server.
container() {
        in_lab sh -ec "ip netns add c$1
                ip -n alpha link add podman$1 type bridge; ip -n alpha addr add 10.88.$1.1/24 dev podman$1; ip -n alpha link set podman$1 up
                ip -n alpha link add v$1 type veth peer name eth0 netns c$1; ip -n alpha link set v$1 master podman$1 up
                ip -n c$1 link set lo up; ip -n c$1 addr add 10.88.$1.2/24 dev eth0; ip -n c$1 link set eth0 up; ip -n c$1 route add default via 10.88.$1.1" || return 1
        echo "nameserver $2" >"$LAB/resolv.c$1"
}

# resolv.conf of a container that podman creates now: dns_servers, otherwise the servers of the host.
created_again() { host_exec alpha sh -c "sed -n 's/^dns_servers = ..\(.*\)..$/nameserver \1/p' $CONF 2>/dev/null | grep . || cat /etc/resolv.conf" >"$LAB/resolv.c9"; }

journal() { host_exec "$1" journalctl -q --no-pager -o cat -u 'fleet-dns*' | grep -qF -- "$2" || fail "the journal of $1 does not have: $2"; }

# --- rows: a check each -------------------------------------------------------------------------------------------

rows=()
# row NAME PLACE EXPECTED COMMAND: the words that a shell command prints there, sorted.
row() {
        eval "$1() { prints ${*@Q}; }"
        rows+=("$1")
}
prints() {
        local got
        got=$(at "$2" timeout 15 sh -c "$4" 2>&1 </dev/null | tr -s ' \t' '\n' | sort | xargs)
        [ "$got" = "$3" ] || fail "$2 prints '$got', not '$3'"
}

# Programs that ask for a service, and for another name. In the command, NAME is each of them; Go prints the address to which it cannot connect.
clients=()
client() { # PROGRAM PLACES COMMAND [COMMAND FOR ANOTHER NAME]
        local place other=${4:-$3}
        for place in $2; do
                row "$1_${place}_gets_a_service" "$place" 10.90.0.1 "${3//NAME/shop.service.fleet}"
                clients+=("$1_${place}_gets_a_service")
                [ "$other" = - ] || { row "$1_${place}_gets_another_name" "$place" 198.51.100.7 "${other//NAME/www.example.org}"; clients+=("$1_${place}_gets_another_name"); }
        done
}
client getent_on "alpha beta c9 c8" "getent ahostsv4 NAME | awk '/STREAM/ { print \$1 }'"
client curl_on "alpha beta c9 c8" "curl -sS http://NAME:20017/address" -
client resolvectl_on beta "resolvectl --legend=no query NAME | awk '{ print \$2 }'"
client musl_on "c9 c8" "$LAB/lookup NAME"
client go_on "alpha c9 c8" "GODEBUG=netdns=go ETCDCTL_API=2 timeout 5 etcdctl --total-timeout 4s --endpoints http://NAME:20018 ls 2>&1 | grep -oE '(10|198)\.[0-9.]+:20018' | sort -u | cut -d: -f1" -
programs=("${rows[@]}")

rows=()
row the_address_is_on_lo alpha "169.254.23.79/32 host" "ip -o addr show to $ADDRESS | awk '{ print \$4, \$6 }'"
row podman_gives_containers_the_address alpha '= [169.254.23.79] dns_servers' "grep dns_servers $CONF"
row the_service_has_no_capability alpha 0000000000000000 "awk '/^CapEff/ { print \$2 }' /proc/\$(systemctl show --value -p MainPID fleet-dns)/status"
row the_service_is_not_root alpha "" "find /proc/\$(systemctl show --value -p MainPID fleet-dns) -maxdepth 0 -user root"
row the_service_writes_no_file alpha 1 'nsenter -t $(systemctl show --value -p MainPID fleet-dns) -m -- sh -c "touch /etc/x /run/x" 2>&1 | grep -c "etc/x.*Read-only"'
row a_link_of_its_own_is_for_resolved beta "169.254.23.79/32 fleet0 global" "ip -o addr show to $ADDRESS | awk '{ print \$2, \$4, \$6 }'"
row resolved_asks_by_that_link beta "$ADDRESS DefaultRoute- no/unsupported ~fleet" 'resolvectl status fleet0 | sed -nE "s/.*(DNS Servers|DNS Domain): //p; s/.*(-)(DefaultRoute).*DNSSEC=(.*)/\2\1 \3/p"'
row resolvectl_gets_the_ports beta "10 100 20017 alpha-5c01d2e9.shop.service.fleet" 'resolvectl --legend=no --type=SRV query _http._tcp.shop.service.fleet | grep -o "10 100.*fleet "'
row resolved_knows_that_a_name_is_absent beta "1" 'resolvectl query nope.service.fleet 2>&1 | grep -c "not found"'
wired=("${rows[@]}")

# --- checks -------------------------------------------------------------------------------------------------------

hosts_boot() {
        local h u id
        unpacked lab-dns systemd-resolved libnss-resolve aardvark-dns dnsmasq-base libnetfilter-conntrack3 libnfnetlink0 || fail "no packages"
        musl-gcc -static -O2 -o "$LAB/lookup" "$top/tests/dns/lookup.c" || fail "musl-gcc"
        lab_install "$LAB_BUILD" || fail "make install failed"
        for h in $LAB_HOSTS; do
                [ $h = alpha ] || LAB_MASKS=${LAB_MASKS/systemd-resolved.service/}
                host_install $h || fail "$h cannot be installed"
                rm "$LAB/$h/up/etc/systemd/system/multi-user.target.wants/fleetd.service"
        done
        mkdir -p "$LAB/alpha/up/etc/containers" "$LAB/alpha/up/usr/local/bin"
        printf '#!/bin/sh\n[ "$1" != ps ] || printf "web\\ndb\\n"\n' >"$LAB/alpha/up/usr/local/bin/podman"
        chmod +x "$LAB/alpha/up/usr/local/bin/podman"
        echo "nameserver 10.90.0.254" >"$LAB/alpha/up/etc/resolv.conf"
        u=$LAB/beta/up
        host_add beta "$LAB_BUILD/lab-dns" || fail "systemd-resolved cannot be copied"
        { cat /etc/passwd; echo systemd-resolve:x:893:893::/:/usr/sbin/nologin; } >"$u/etc/passwd"
        echo systemd-resolve:x:893: >>"$u/etc/group"
        sed 's/^hosts:.*/hosts: resolve [!UNAVAIL=return] files dns/' /etc/nsswitch.conf >"$u/etc/nsswitch.conf"
        ln -sf ../run/systemd/resolve/stub-resolv.conf "$u/etc/resolv.conf"
        ln -s /lib/systemd/system/systemd-resolved.service "$u/etc/systemd/system/multi-user.target.wants/"
        hosts_up $LAB_HOSTS
        host_exec beta sh -c 'resolvectl dns host0 10.90.0.254 && resolvectl default-route host0 yes' || fail "systemd-resolved does not run"
        in_lab "$top/tests/dns/upstream.py" 10.90.0.254 "$LAB/upstream.log" >"$LAB/upstream.err" 2>&1 &
        for h in $LAB_HOSTS; do
                id=$(host_machine_id alpha)
                host_exec $h sh -c "mkdir -p /run/fleet/services; cd /run/fleet/services; echo '7 $id alpha a complete' >.host
                        echo 'alpha-5c01d2e9 10.90.0.1 20017 tcp http $id a shop@1.container' >shop"
        done
        host_exec alpha sh -c 'echo 10.90.0.1 >/srv/address; systemd-run -q python3 -m http.server 20017 --bind 10.90.0.1 --directory /srv'
        in_lab ip netns exec alpha sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
        in_lab ip route add 10.88.0.0/16 via 10.90.0.1 # in place of the NAT of podman
        # Clients of aardvark-dns on another network of podman; it asks the servers of its container.
        container 9 $ADDRESS && container 8 10.88.8.1 || fail "no containers"
        host_exec alpha mkdir -p /run/aardvark
        cp "$LAB_BUILD/lab-dns/usr/lib/podman/aardvark-dns" "/proc/$(host_init alpha)/root/usr/local/bin/"
        host_exec alpha sh -c "printf '10.88.8.1\n%s 10.88.8.2  web $ADDRESS\n' $(printf '%064d' 1) >/run/aardvark/net8; systemd-run -q -p Type=forking aardvark-dns --config /run/aardvark -p 53 run"
}

one_command_enables_it() {
        local h
        for h in $LAB_HOSTS; do
                host_exec $h systemctl enable --now fleet-dns.socket >"$LAB/out" 2>&1 || fail "$h: $(cat "$LAB/out")"
                wait_for 10 host_exec $h systemctl -q is-active fleet-dns-link.service || fail "$h: $(host_exec $h systemctl status fleet-dns-link 2>&1 | tail -5)"
                host_exec $h systemctl -q is-active fleet-dns.service || fail "the query of the link did not start the service"
        done
        created_again
}

# Without systemd-resolved, an administrator adds the line, which it prints.
it_prints_the_line_of_resolv_conf() {
        journal alpha "the first line of /etc/resolv.conf: nameserver $ADDRESS"
        host_exec alpha sed -i "1i nameserver $ADDRESS" /etc/resolv.conf
}

it_says_where_podman_is_not_set_up() { journal beta "There is no /etc/containers"; }

# Each program asks five times while fleet-dns restarts again and again; meanwhile others send each query once.
in_50_restarts_each_program_and_query_gets_its_answer() {
        local h check i n asks=()
        for h in alpha c9; do
                for n in shop.service.fleet www.example.org; do
                        at $h /usr/bin/python3 - $n /run/done <"$top/tests/dns/asks.py" >"$LAB/asked-$h-$n" 2>&1 &
                        asks+=($!)
                done
        done
        for h in $LAB_HOSTS; do
                host_exec $h systemd-run -q --unit=restarts sh -c 'while :; do systemctl restart fleet-dns.service; echo >>/run/restarts; sleep 0.05; done'
        done
        for i in 1 2 3 4 5; do
                for check in "${clients[@]}"; do
                        ("$check") || fail "$check, in turn $i: $(cat "$LAB/why")"
                done
        done
        for h in $LAB_HOSTS; do
                wait_for 30 host_exec $h sh -c '[ $(wc -l </run/restarts) -ge 50 ]' || fail "no 50 restarts of $h"
                host_exec $h systemctl stop restarts.service
        done
        in_lab touch /run/done
        host_exec alpha touch /run/done
        wait "${asks[@]}"
        [ "$(cat "$LAB"/asked-* | sort -u)" = "all of them" ] || fail "$(cat "$LAB"/asked-*)"
        prints - alpha "" "journalctl -q -t fleet-dns -p 4 -o cat --no-pager"
}

# In its sandbox.
a_change_of_a_file_is_answered() {
        host_exec alpha sh -c 'cd /run/fleet/services; cp shop .former; sed "s/10.90.0.1/10.90.0.9/" shop >.new; mv .new shop'
        wait_for 1 host_exec alpha sh -c "[ \"\$(dig +short @$ADDRESS shop.service.fleet)\" = 10.90.0.9 ]" || fail "the former address is answered"
        host_exec alpha mv /run/fleet/services/.former /run/fleet/services/shop
}

# More often than the limits of systemd.
after_30_crashes_it_answers() {
        local i
        for i in $(seq 30); do
                host_exec alpha systemctl kill -s KILL fleet-dns.service
                sleep 0.15
        done
        getent_on_alpha_gets_a_service
}

the_watchdog_replaces_a_program_that_hangs() {
        local pid
        pid=$(host_exec alpha systemctl show --value -p MainPID fleet-dns)
        host_exec alpha kill -STOP "$pid"
        wait_for 20 is_another "$pid" || fail "after 20 s, the process is the same"
        getent_on_alpha_gets_a_service
}
is_another() { [ "$(host_exec alpha systemctl show --value -p MainPID fleet-dns)" != "$1" ]; }

# The examples of the manual, whose addresses are those of the lab here. Each begins with the name of its file.
example() { # FILE
        sed -n "/^# ${1//\//\\/}\$/,/^\(\`\`\`\)\?\$/p" "$MANUAL" | grep -v '^```' | sed 's/192\.168\.1\.10/10.90.0.1/; s/192\.168\.1\.0/10.90.0.0/'
}
the_lan_gets_services_by_the_example_of_the_manual() {
        local f
        echo "nameserver 10.90.0.1" >"$LAB/resolv.lan"
        for f in fleet-dns.socket.d/lan.conf fleet-dns.service.d/lan.conf; do
                example "/etc/systemd/system/$f" | host_exec alpha sh -c 'mkdir -p "$(dirname "/etc/systemd/system/$1")"; cat >"/etc/systemd/system/$1"' - $f
        done
        host_exec alpha sh -c 'systemctl daemon-reload; systemctl restart fleet-dns.socket' || fail "the sockets do not start: $(host_exec alpha journalctl -u fleet-dns.socket -n 3 -o cat)"
        prints - lan 10.90.0.1 "dig +time=2 +tries=1 +short @10.90.0.1 shop.service.fleet"
        prints - lan REFUSED "dig +time=2 +tries=1 @10.90.0.1 www.example.org | sed -n 's/.*status: \([A-Z]*\),.*/\1/p'"
}

# The router of the LAN, and a laptop that asks the router.
a_router_forwards_the_zone_by_the_example_of_the_manual() {
        example /etc/dnsmasq.d/fleet.conf >"$LAB/dnsmasq.conf"
        LD_LIBRARY_PATH=$(dirname "$(find "$LAB_BUILD/lab-dns" -name 'libnetfilter_conntrack.so.3')") \
                in_lab "$LAB_BUILD/lab-dns/usr/sbin/dnsmasq" -C "$LAB/dnsmasq.conf" --no-resolv --server=10.90.0.254 --stop-dns-rebind --listen-address=127.0.0.5 --bind-interfaces --user=root --pid-file >"$LAB/out" 2>&1 ||
                fail "dnsmasq: $(cat "$LAB/out")"
        echo "nameserver 127.0.0.5" >"$LAB/resolv.lan"
        prints - lan 10.90.0.1 "getent ahostsv4 shop.service.fleet | awk '/STREAM/ { print \$1 }'"
        host_exec alpha sh -c 'rm -r /etc/systemd/system/fleet-dns.*.d; systemctl daemon-reload; systemctl restart fleet-dns.socket'
}

# Programs that follow endpoints, as the manual sets them up: what they have is the set of addresses.
endpoints() { # ADDRESS...
        local a
        for a; do
                echo "h${a##*.}-00000001 $a 20017 tcp http $(host_machine_id alpha) a shop@${a##*.}.container"
        done | host_exec alpha sh -c 'cd /run/fleet/services; cat >.new; if [ -s .new ]; then mv .new shop; else rm -f shop; fi'
}
consumer_has() { # CONSUMER ADDRESSES
        local command='for i in 1 2 3 4 5 6 7 8; do curl -sf -m 2 http://127.0.0.1:PORT/address; done'
        case $1 in
        nginx) command=${command/PORT/8081} ;;
        haproxy) command=${command/PORT/8082} ;;
        caddy) command=${command/PORT/8083} ;;
        prometheus) command="curl -s '127.0.0.1:9090/api/v1/targets?state=active' | grep -o 'h[12]-00000001' | sed 's/h\(.\).*/10.90.0.\1/'" ;;
        files) command="grep -o '10.90.0.[12]' /etc/nginx/conf.d/shop-upstream.conf" ;;
        esac
        [ "$(host_exec alpha sh -c "$command" | sort -u | xargs)" = "$2" ]
}
consumers_follow_endpoints_by_the_examples_of_the_manual() {
        local addresses consumer root MANUAL=$top/man/fleet-discovery.7.scd
        [ -n "${CHECK_ALL:-}" ] || skip "only with CHECK_ALL=yes: it fetches four programs"
        unpacked lab-consumers nginx haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 caddy prometheus || fail "no packages"
        root=/proc/$(host_init alpha)/root
        for consumer in sbin bin lib; do
                cp -a "$LAB_BUILD/lab-consumers/usr/$consumer/." "$root/usr/$consumer/"
        done
        mkdir -p "$root/etc/nginx/conf.d" "$root/root/prometheus" "$root/var/log/nginx" "$root/var/lib/nginx"
        { echo 'events {} http {'; example /etc/nginx/conf.d/shop.conf | sed 's/listen 80;/listen 8081;/; s/:8080;/:20017;/'; echo '}'; } >"$root/root/nginx.conf"
        example /etc/haproxy/haproxy.cfg | sed 's/bind :80$/bind 127.0.0.1:8082/' >"$root/root/haproxy.cfg"
        example /etc/caddy/Caddyfile | sed 's/^:80$/:8083/' >"$root/root/Caddyfile"
        example /etc/prometheus/prometheus.yml >"$root/root/prometheus/prometheus.yml"
        example /etc/systemd/system/upstream.path >"$root/run/systemd/system/upstream.path"
        example /etc/systemd/system/upstream.service >"$root/run/systemd/system/upstream.service"
        example /usr/local/bin/upstream | sed 1d >"$root/usr/local/bin/upstream"
        chmod +x "$root/usr/local/bin/upstream"
        host_exec beta sh -c 'echo 10.90.0.2 >/srv/address; systemd-run -q python3 -m http.server 20017 --bind 10.90.0.2 --directory /srv'
        host_exec alpha sh -c 'systemctl daemon-reload; systemctl start upstream.path
                systemd-run -q --unit=nginx -p ExecReload=/bin/true nginx -c /root/nginx.conf -g "daemon off; user root;"
                systemd-run -q --unit=lab-haproxy haproxy -W -f /root/haproxy.cfg; systemd-run -q --unit=lab-caddy caddy run --config /root/Caddyfile --adapter caddyfile
                systemd-run -q --unit=lab-prometheus prometheus --config.file=/root/prometheus/prometheus.yml --storage.tsdb.path=/root/prometheus --web.listen-address=127.0.0.1:9090'
        for addresses in "10.90.0.1 10.90.0.2" 10.90.0.2 "" "10.90.0.1 10.90.0.2" 10.90.0.1; do
                # shellcheck disable=SC2086
                endpoints $addresses
                for consumer in nginx haproxy caddy prometheus files; do
                        [ "$consumer$addresses" = files ] || wait_for 20 consumer_has $consumer "$addresses" ||
                                fail "$consumer does not have '$addresses': $(host_exec alpha journalctl -q --no-pager -o cat -n 3 -u "*$consumer" | paste -sd';')"
                done
        done
}

# The host has its DNS without fleet-dns: a container that is created now, the file of podman, the address.
is_switched_off() {
        wait_for 10 host_exec alpha sh -c "! test -e $CONF" || fail "$CONF is left"
        [ -z "$(host_exec alpha ip -o addr show to $ADDRESS)" ] || fail "the address is left"
        created_again
        getent_on_c9_gets_another_name
        getent_on_alpha_gets_another_name
}
is_wired() {
        host_exec alpha sh -c 'systemctl reset-failed fleet-dns.socket fleet-dns-link.service; systemctl enable --now fleet-dns.socket' >"$LAB/out" 2>&1
        wait_for 10 host_exec alpha test -e $CONF || fail "it is not wired: $(cat "$LAB/out")"
        created_again
        getent_on_c9_gets_a_service
}

a_disabled_socket_leaves_nothing() {
        host_exec alpha systemctl disable --now fleet-dns.socket >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        is_switched_off
        ! host_exec alpha systemctl -q is-active fleet-dns.service || fail "the service still runs"
        journal alpha "These containers use $ADDRESS until they are created again: web db"
        is_wired
}

a_changed_file_of_podman_stays() {
        host_exec alpha sh -c "echo '# mine' >>$CONF; systemctl restart fleet-dns.socket"
        wait_for 5 host_exec alpha systemctl -q is-active fleet-dns-link.service || fail "the link does not start"
        journal alpha "$CONF stays as it is"
        host_exec alpha grep -q '# mine' $CONF || fail "it was replaced"
        host_exec alpha sh -c "systemctl stop fleet-dns.socket && grep -q mine $CONF && rm $CONF" || fail "it was removed"
        is_wired
}

a_program_that_does_not_answer_leaves_nothing() {
        host_exec alpha sh -c 'mkdir -p /run/systemd/system/fleet-dns.service.d
                printf "[Service]\nType=simple\nWatchdogSec=0\nExecStart=\nExecStart=/bin/sleep infinity\n" >/run/systemd/system/fleet-dns.service.d/silent.conf
                systemctl daemon-reload; systemctl restart fleet-dns.socket'
        wait_for 15 host_exec alpha sh -c 'systemctl show -p SubState fleet-dns-link | grep -q auto-restart' || fail "the link: $(host_exec alpha systemctl show -p SubState fleet-dns-link)"
        is_switched_off
        journal alpha "No answer from $ADDRESS; containers do not use it. For the reason: journalctl -u fleet-dns"
        host_exec alpha sh -c 'rm -r /run/systemd/system/fleet-dns.service.d; systemctl daemon-reload; systemctl stop fleet-dns.socket fleet-dns-link.service'
        is_wired
}

# Another program has port 53, when the host boots after a power cut, which leaves the file of podman.
a_taken_port_leaves_nothing_of_the_time_before_a_power_cut() {
        local u=$LAB/alpha/up
        host_kill alpha
        [ -e "$u$CONF" ] || fail "the power cut does not leave the file of podman"
        printf '[Unit]\nDefaultDependencies=no\nBefore=fleet-dns.socket\n[Service]\nType=notify\nExecStart=/usr/bin/python3 /root/taken.py\n' >"$u/etc/systemd/system/taken.service"
        mkdir -p "$u/etc/systemd/system/fleet-dns.socket.d"
        printf '[Unit]\nWants=taken.service\n' >"$u/etc/systemd/system/fleet-dns.socket.d/taken.conf"
        cat >"$u/root/taken.py" <<'PY'
import os, socket, time
sockets = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
for s in sockets:
    s.bind(("0.0.0.0", 53))
sockets[0].listen(1)
os.system("systemd-notify --ready")
time.sleep(1000)
PY
        sed -i 's/^Type=notify/&\nNotifyAccess=all/' "$u/etc/systemd/system/taken.service"
        hosts_up alpha
        host_exec alpha systemctl -q is-failed fleet-dns.socket || fail "the sockets: $(host_exec alpha systemctl show -p ActiveState fleet-dns.socket)"
        journal alpha "Port 53 is taken by python3; for its setting, see PORT 53 in fleet-dns(8)"
        ! host_exec alpha test -e $CONF || fail "$CONF is left"
}

without_a_link_device_it_names_the_next_step() {
        host_exec beta sh -c 'systemctl stop fleet-dns.socket
                printf "#!/bin/sh\n[ \"\$1 \$2\" = \"link add\" ] || exec /usr/sbin/ip \"\$@\"\nexit 2\n" >/usr/local/sbin/ip; chmod +x /usr/local/sbin/ip; systemctl start fleet-dns.socket'
        wait_for 5 host_exec beta sh -c 'systemctl show -p SubState fleet-dns-link | grep -q auto-restart' || fail "the link starts"
        journal beta "The kernel makes no link fleet0, dummy or veth: modprobe dummy, then systemctl restart fleet-dns.socket"
        host_exec beta sh -c 'rm /usr/local/sbin/ip; systemctl restart fleet-dns.socket'
        wait_for 10 host_exec beta getent hosts shop.service.fleet || fail "it does not start again"
}

scenario hosts_boot one_command_enables_it it_prints_the_line_of_resolv_conf it_says_where_podman_is_not_set_up "${wired[@]}" "${programs[@]}" \
        in_50_restarts_each_program_and_query_gets_its_answer a_change_of_a_file_is_answered after_30_crashes_it_answers the_watchdog_replaces_a_program_that_hangs \
        the_lan_gets_services_by_the_example_of_the_manual a_router_forwards_the_zone_by_the_example_of_the_manual \
        consumers_follow_endpoints_by_the_examples_of_the_manual a_disabled_socket_leaves_nothing a_changed_file_of_podman_stays \
        a_program_that_does_not_answer_leaves_nothing without_a_link_device_it_names_the_next_step \
        a_taken_port_leaves_nothing_of_the_time_before_a_power_cut
