#!/bin/bash
# fleet-dns for a host, a container behind a bridge, and a neighbour in the LAN, as network namespaces, with the resolvers of other programs: dig, drill, glibc,
# musl, Go. Needs root, and the packages bind9-dnsutils, ldnsutils, python3-dnspython and musl-tools. Takes 40 s.
cd "$(dirname "$(realpath "$0")")/../.." || exit 1
build=$(realpath "${LAB_BUILD:-build}")
n=dns$$ dir=$(mktemp -d) || exit 1
trap 'kill $(jobs -p) 2>/dev/null; for h in host ctr lan; do ip netns del $n-$h 2>/dev/null; rm -rf /etc/netns/$n-$h; done; rm -rf "$dir"' EXIT
[ "$(id -u)" = 0 ] || { echo "not ok runs: needs root"; exit 1; }

in_ns() { local ns=$1; shift; ip netns exec "$n-$ns" "$@"; }
run_in() { local ns=$1; shift; exec ip netns exec "$n-$ns" "$@"; } # in the background: to be killed
check() { # NAME EXPECTED GOT
        if [ "$2" = "$3" ]; then echo "ok $1"; else echo "not ok $1: expected '$2', got '$3'"; fi
}
# Repeat a command until it prints that, for 5 s at most, and print what it has printed last.
becomes() { # EXPECTED COMMAND...
        local out
        for _ in $(seq 50); do
                out=$("${@:2}")
                [ "$out" != "$1" ] || break
                sleep 0.1
        done
        echo "$out"
}

# The host has a LAN (192.168.77.0/24), a bridge with a container (10.88.9.0/24), and 169.254.23.79.
for h in host ctr lan; do
        ip netns add $n-$h
        in_ns $h ip link set lo up
        mkdir -p /etc/netns/$n-$h
done
in_ns host ip link add podman9 type bridge
in_ns host ip addr add 10.88.9.1/24 dev podman9
in_ns host ip link set podman9 up
in_ns host ip link add veth9 type veth peer name eth0 netns $n-ctr
in_ns host ip link set veth9 master podman9 up
in_ns ctr ip addr add 10.88.9.2/24 dev eth0
in_ns ctr ip link set eth0 up
in_ns ctr ip route add default via 10.88.9.1
in_ns host ip link add eth0 type veth peer name eth0 netns $n-lan
in_ns host ip addr add 192.168.77.1/24 dev eth0
in_ns host ip link set eth0 up
in_ns lan ip addr add 192.168.77.2/24 dev eth0
in_ns lan ip link set eth0 up
in_ns lan ip route add default via 192.168.77.1
in_ns host ip addr add 169.254.23.79/32 dev lo
in_ns host sysctl -qw net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.eth0.rp_filter=2 net.ipv4.ip_forward=1
echo "nameserver 192.168.77.2" >/etc/netns/$n-lan/resolv.conf
echo "nameserver 169.254.23.79" >/etc/netns/$n-ctr/resolv.conf
printf 'nameserver 169.254.23.79\nnameserver 192.168.77.2\n' >/etc/netns/$n-host/resolv.conf

id=0123456789abcdef0123456789abcdef other=1123456789abcdef0123456789abcdef
mkdir "$dir/services"
echo "7 $id alpha a complete" >"$dir/services/.host"
printf '%s\n' "alpha-5c01d2e9 10.90.0.1 20017 tcp http $id a shop@1.container" "beta-3f9a02c1 10.90.0.2 20018 tcp http $other b shop@2.container" >"$dir/services/shop"
for i in $(seq 300); do echo "h$i-00000001 10.91.$((i / 250)).$((i % 250)) 80 tcp http $other b big@$i.service"; done >"$dir/services/big"

run_in lan tests/dns/upstream.py 192.168.77.2 "$dir/upstream.log" 2>"$dir/upstream.err" &
start() { # OPTION...
        run_in host tests/dns/systemd.py 169.254.23.79 "$dir/pid" "$build/dns/fleet-dns" --directory="$dir/services" "$@" 2>"$dir/log" &
        server=$!
        for _ in $(seq 100); do in_ns host dig +time=1 +tries=1 +short @169.254.23.79 ns.fleet | grep -qx 169.254.23.79 && return
                sleep 0.1; done
        echo "not ok fleet_dns_starts: $(cat "$dir/log")"
}
stop() { kill -TERM $server; wait $server 2>/dev/null; }
dig_in() { local ns=$1; shift; in_ns "$ns" dig +time=1 +tries=1 @169.254.23.79 "$@"; }
status() { sed -n 's/.*status: \([A-Z]*\),.*/\1/p'; }
queries() { wc -l <"$dir/upstream.log"; }
start

both="10.90.0.1 10.90.0.2"
for ns in host ctr; do
        check "dig_in_${ns}_gets_the_addresses" "$both" "$(dig_in $ns +short shop.service.fleet | sort | xargs)"
        check "dig_in_${ns}_gets_them_over_tcp_without_edns" "$both" "$(dig_in $ns +tcp +noedns +short shop.service.fleet | sort | xargs)"
        check "dig_in_${ns}_gets_the_ports" "10 100 20017 alpha-5c01d2e9.shop.service.fleet. 10 100 20018 beta-3f9a02c1.shop.service.fleet." \
                "$(dig_in $ns +short SRV _http._tcp.shop.service.fleet | sort | xargs)"
        check "dig_in_${ns}_gets_near" 10.90.0.1 "$(dig_in $ns +short near.shop.service.fleet)"
        check "dig_in_${ns}_repeats_over_tcp_after_tc" 300 "$(dig_in $ns +noedns +short SRV big.service.fleet | wc -l)"
        check "dig_in_${ns}_gets_nodata_for_https" "NOERROR fleet." "$(dig_in $ns TYPE65 shop.service.fleet | awk '/status:/ { sub(",", "", $6); s = $6 } $4 == "SOA" { print s, $1 }')"
        check "dig_in_${ns}_gets_nxdomain" NXDOMAIN "$(dig_in $ns nope.service.fleet | status)"
        check "drill_in_${ns}_gets_the_addresses" "$both" "$(in_ns $ns drill @169.254.23.79 shop.service.fleet | awk '$4 == "A" { print $5 }' | sort | xargs)"
        check "drill_in_${ns}_gets_the_ports_over_tcp" 2 "$(in_ns $ns drill -t @169.254.23.79 _http._tcp.shop.service.fleet SRV | grep -c '^_http.*SRV.10')"
        check "getent_in_${ns}_gets_the_addresses" "$both" "$(in_ns $ns getent ahostsv4 shop.service.fleet | awk '/STREAM/ { print $1 }' | sort | xargs)"
        check "getent_in_${ns}_gets_another_name" 198.51.100.7 "$(in_ns $ns getent ahostsv4 www.example.org | awk '/STREAM/ { print $1 }')"
        check "another_name_over_tcp_in_$ns" 198.51.100.7 "$(dig_in $ns +tcp +short www.example.org)"
        check "an_answer_of_64_kib_over_tcp_in_$ns" 4094 "$(dig_in $ns +short big.example | wc -l)"
        check "dnspython_in_${ns}_reads_every_type" "ok" "$(in_ns $ns /usr/bin/python3 - <<'PY'
import dns.message, dns.query, dns.rdatatype
for name in ("shop.service.fleet", "_http._tcp.shop.service.fleet", "fleet", "ns.fleet", "nope.fleet", "big.service.fleet"):
    for qtype in list(range(1, 110)) + [255, 257, 65535]:
        if qtype in (41, 249, 250):
            continue
        for edns in (-1, 0):
            q = dns.message.make_query(name, qtype, use_edns=edns, payload=4096)
            a = dns.query.udp(q, "169.254.23.79", timeout=2, ignore_trailing=False)
            assert a.question == q.question and (a.edns == edns), a
print("ok")
PY
)"
done

if musl-gcc -static -O2 -o "$dir/lookup" tests/dns/lookup.c 2>"$dir/musl.err"; then
        # It asks all servers at once, and takes the first answer: on the host that of another server, perhaps.
        check musl_in_a_container_gets_the_addresses "$both" "$(in_ns ctr "$dir/lookup" shop.service.fleet | sort | xargs)"
        check "musl_in_a_container_gets_another_name" 198.51.100.7 "$(in_ns ctr "$dir/lookup" www.example.org | xargs)"
else
        echo "not ok musl_in_a_container_gets_the_addresses: $(head -1 "$dir/musl.err")"
fi
for ns in host ctr; do
        check "go_in_${ns}_gets_the_address" "10.90.0.1:20017" "$(in_ns $ns env GODEBUG=netdns=go ETCDCTL_API=2 timeout 5 etcdctl --total-timeout 2s --endpoints http://near.shop.service.fleet:20017 ls 2>&1 |
                grep -oE '10\.90\.0\.[0-9]+:[0-9]+' | sort -u | head -1)"
done

# Upstream servers.
check servfail_is_passed_on SERVFAIL "$(dig_in host servfail.example | status)"
check refused_is_passed_on REFUSED "$(dig_in host refused.example | status)"
before=$(queries)
check a_server_that_forwards_back_ends_in_servfail SERVFAIL "$(in_ns host dig +time=6 +tries=1 @169.254.23.79 back.example | status)"
check a_loop_costs_the_attempts_of_one_query 3 $(($(queries) - before))
check an_answer_to_another_question_does_not_count SERVFAIL "$(in_ns host dig +time=6 +tries=1 @169.254.23.79 wrong.example | status)"
before=$(queries)
dig_in host +noedns +noadflag +noall +question A www.Example.org >/dev/null
check the_bytes_after_the_id_stay "01000001000000000000037777770745$(printf xample | xxd -p)$(printf '\003org' | xxd -p)0000010001" "$(tail -1 "$dir/upstream.log" | cut -d' ' -f3 | cut -c5-)"
check axfr_is_not_forwarded "$(queries)" "$(dig_in host AXFR example.org >/dev/null; queries)"
check names_of_the_zone_are_not_forwarded "$(queries)" "$(for t in A TYPE65 TXT ANY; do dig_in host $t nope.fleet >/dev/null; done; queries)"

# A neighbour: 0 bytes, 0 queries to the upstream server, also with forged sources.
before=$(queries)
check a_neighbour_gets_nothing_over_udp "" "$(dig_in lan shop.service.fleet 2>&1 | status)"
check a_neighbour_gets_nothing_over_tcp "0" "$(in_ns lan timeout 3 python3 -c 'import socket
s = socket.create_connection(("169.254.23.79", 53))
try:
    s.sendall(bytes.fromhex("001d000001000001000000000000036e7306666c65657400000100010000"))
    print(len(s.recv(100)))
except OSError:
    print(0)')"
in_ns host ip addr add 192.168.77.50/32 dev eth0
is_host() { dig_in host -b 192.168.77.50 +tcp +short shop.service.fleet | grep -q 10.90.0.2; }
for _ in $(seq 30); do is_host && break; sleep 0.1; done # the interfaces are read at most once a second
in_ns host ip addr del 192.168.77.50/32 dev eth0
in_ns lan ip addr add 192.168.77.50/24 dev eth0
check a_former_own_address_gets_nothing_over_tcp "" "$(dig_in lan -b 192.168.77.50 +tcp shop.service.fleet 2>&1 | status)"
in_ns lan ip addr del 192.168.77.50/24 dev eth0
run_in ctr timeout 15 python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.88.9.2", 5353))
s.settimeout(3)
try:
    s.recv(1000)
    print("answered")
except OSError:
    print("nothing")' >"$dir/forged" &
listener=$!
listeners() { in_ns ctr ss -Hlun 'sport = :5353' | wc -l; }
becomes 1 listeners >/dev/null
in_ns lan python3 - <<'PY'
import socket, struct
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def query(name):
    return b"\x12\x34\1\0\0\1\0\0\0\0\0\0" + b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0\0\1\0\1"
for source in ("10.88.9.2", "10.88.9.1", "127.0.0.1", "192.168.77.1", "169.254.23.79"):
    for name in ("shop.service.fleet", "forged.example"):
        data = struct.pack(">4H", 5353, 53, 8 + len(query(name)), 0) + query(name)
        raw.sendto(struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 1, 0, 64, 17, 0, socket.inet_aton(source), socket.inet_aton("169.254.23.79")) + data, ("169.254.23.79", 0))
PY
wait $listener
check a_forged_source_gets_nothing nothing "$(cat "$dir/forged")"
check foreign_queries_cause_no_upstream_query "$before" "$(queries)"

# 50 restarts while two clients ask. What was read is answered before an ordinary end; a crash loses what was read, and a client asks again.
asks() { run_in ctr tests/dns/asks.py "$1" "$dir/done" "$2"; } # NAME TRIES
for signal in TERM KILL; do
        rm -f "$dir/done"
        asks shop.service.fleet $([ $signal = TERM ] && echo 1 || echo 2) >"$dir/asked-1" 2>&1 &
        clients=$!
        if [ $signal = TERM ]; then
                asks www.example.org 1 >"$dir/asked-2" 2>&1 &
                clients="$clients $!"
        fi
        for _ in $(seq 25); do
                kill -$signal "$(cat "$dir/pid")" 2>/dev/null
                sleep 0.2
        done
        touch "$dir/done"
        wait $clients
        check "in_25_restarts_by_${signal}_each_query_for_a_service_is_answered" "all of them" "$(tail -1 "$dir/asked-1")"
done
check in_25_restarts_by_TERM_each_query_for_another_name_is_answered "all of them" "$(tail -1 "$dir/asked-2")"

# Files: a change, and a folder that is removed.
echo "beta-3f9a02c1 10.90.0.2 20018 tcp http $other b shop@2.container" >"$dir/services/.new"
mv "$dir/services/.new" "$dir/services/shop"
check a_change_is_answered 10.90.0.2 "$(becomes 10.90.0.2 dig_in host +short shop.service.fleet)"
rm -r "$dir/services"
check the_removal_is_logged_once 1 "$(becomes 1 grep -c 'Failed to read' "$dir/log")"
check names_stay_when_the_folder_is_removed 10.90.0.2 "$(dig_in host +short shop.service.fleet)"

# The LAN.
stop
mkdir "$dir/services"
echo "7 $id alpha a partial" >"$dir/services/.host"
echo "beta-3f9a02c1 10.90.0.2 20018 tcp http $other b shop@2.container" >"$dir/services/shop"
start --allow=192.168.77.0/24
check an_allowed_neighbour_gets_services 10.90.0.2 "$(dig_in lan +short shop.service.fleet)"
check an_allowed_neighbour_gets_services_over_tcp 10.90.0.2 "$(dig_in lan +tcp +short shop.service.fleet)"
check an_allowed_neighbour_gets_no_other_names REFUSED "$(dig_in lan www.example.org | status)"
check without_a_complete_view_other_services_are_servfail SERVFAIL "$(dig_in host other.service.fleet | status)"
stop
start --forward=no
check forward_no_refuses_other_names REFUSED "$(dig_in host www.example.org | status)"
check forward_no_sets_no_ra "qr aa rd" "$(dig_in host shop.service.fleet | sed -n 's/.*flags: \([a-z ]*\);.*/\1/p')"
stop
for conf in 'no file' '' '# empty' 'nameserver 169.254.23.79'; do
        echo "$conf" >"$dir/resolv"
        [ "$conf" != 'no file' ] || rm "$dir/resolv"
        start --resolv-conf="$dir/resolv"
        check "resolv_conf_with_${conf// /_}_refuses_other_names" "REFUSED 10.90.0.2" "$(dig_in host www.example.org | status) $(dig_in host +short shop.service.fleet)"
        check "resolv_conf_with_${conf// /_}_has_one_message" 1 "$(grep -c 'names no other server' "$dir/log")"
        stop
done
echo "# none" >"$dir/resolv"
start --resolv-conf="$dir/resolv"
dig_in host www.example.org >/dev/null
echo "nameserver 192.168.77.2" >"$dir/resolv"
check a_changed_resolv_conf_is_read_again 198.51.100.7 "$(becomes 198.51.100.7 dig_in host +short www.example.org)"
stop
