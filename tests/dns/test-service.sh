#!/bin/bash
# fleet-dns.socket and fleet-dns.service under a real systemd, on one booted host without fleetd: start by the first query, sandbox, restarts, crashes,
# a program that hangs. Needs root and what tests/lab needs. Takes 60 s.
LAB_NAME=${LAB_NAME:-dns} LAB_HOSTS=alpha
top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=$(realpath "${LAB_BUILD:-$top/build}")
. "$top/tests/lab/lab.sh"
cd "$top" || exit 1
dir=$(mktemp -d) || exit 1
trap 'kill $upstream 2>/dev/null; lab_down; rm -rf "$dir"' EXIT
upstream=
check() { # NAME EXPECTED GOT
        if [ "$2" = "$3" ]; then echo "ok $1"; else echo "not ok $1: expected '$2', got '$3'"; fi
}
on() { host_exec alpha "$@"; }
show() { on systemctl show --value -p "$1" "fleet-dns.$2"; }
query() { on dig +time=4 +tries=1 +short @169.254.23.79 "$@"; }

lab_up && host_make alpha || { echo "not ok boots"; exit 1; }
disk=$LAB/alpha/up
mkdir -p "$disk/usr/sbin"
cp "$build/dns/fleet-dns" "$disk/usr/sbin/fleet-dns"
sed 's|@sbindir@|/usr/sbin|' dist/systemd/fleet-dns.service.in >"$disk/etc/systemd/system/fleet-dns.service"
cp dist/systemd/fleet-dns.socket "$disk/etc/systemd/system/"
printf 'nameserver 169.254.23.79\nnameserver 10.90.0.254\n' >"$disk/etc/resolv.conf"
host_up alpha && host_wait alpha || { echo "not ok boots"; exit 1; }
on ip addr add 169.254.23.79/32 dev lo
sup=$(lab_supervisor)
nsenter -t "$sup" -n tests/dns/upstream.py 10.90.0.254 "$dir/upstream.log" 2>"$dir/upstream.err" &
upstream=$!
id=$(host_machine_id alpha)
on sh -c "mkdir -p /run/fleet/services; cd /run/fleet/services; echo '7 $id alpha a complete' >.host; echo 'alpha-5c01d2e9 10.90.0.1 20017 tcp http $id a shop@1.container' >shop"

on systemctl enable --now fleet-dns.socket >/dev/null 2>&1
check the_sockets_listen active "$(show ActiveState socket)"
check the_service_waits_for_a_query inactive "$(show ActiveState service)"
check the_first_query_starts_it 10.90.0.1 "$(query shop.service.fleet)"
check it_is_ready active "$(show ActiveState service)"
check other_names_are_forwarded 198.51.100.7 "$(query www.example.org)"
check getent_gets_a_service 10.90.0.1 "$(on getent ahostsv4 shop.service.fleet | awk '/STREAM/ { print $1 }')"
pid=$(show MainPID service)
check it_has_no_capability 0000000000000000 "$(on awk '/^CapEff/ { print $2 }' "/proc/$pid/status")"
check it_is_not_root no "$([ "$(on awk '/^Uid/ { print $2 }' "/proc/$pid/status")" = 0 ] && echo yes || echo no)"
check its_files_are_read_only 1 "$(on nsenter -t "$pid" -m -- sh -c 'touch /etc/x /run/x' 2>&1 | grep -c 'etc/x.*Read-only')"

# A change of files reaches it in its sandbox, and a folder that is created later.
on sh -c "cd /run/fleet/services; echo 'alpha-5c01d2e9 10.90.0.9 20017 tcp http $id a shop@1.container' >.new; mv .new shop"
check a_change_reaches_it 10.90.0.9 "$(sleep 0.2; query shop.service.fleet)"

# Crashes, faster than the limits of systemd.
for _ in $(seq 30); do
        on systemctl kill -s KILL fleet-dns.service
        sleep 0.15
done
check after_30_crashes_a_query_is_answered 10.90.0.9 "$(query shop.service.fleet)"
check after_30_crashes_the_sockets_listen "running" "$(show SubState socket)"

# 50 restarts; the client asks once for each query, for up to 5 s.
cat >"$disk/root/asks.py" <<'PY'
import os, socket, struct
def ask(n):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(5)
    s.sendto(struct.pack(">H", n & 0xffff) + b"\1\0\0\1\0\0\0\0\0\0\4shop\7service\5fleet\0\0\1\0\1", ("169.254.23.79", 53))
    return len(s.recv(512)) > 50
n = 0
try:
    while not os.path.exists("/root/done"):
        assert ask(n)
        n += 1
    print("all of them" if n > 100 else n)
except Exception as e:
    print(repr(e), "after", n)
PY
on python3 /root/asks.py >"$dir/asked" 2>&1 &
client=$!
for _ in $(seq 50); do
        on systemctl restart fleet-dns.service
done
on touch /root/done
wait $client
check in_50_restarts_each_query_is_answered "all of them" "$(cat "$dir/asked")"

# A program that hangs is replaced.
pid=$(show MainPID service)
on kill -STOP "$pid"
check the_watchdog_replaces_a_program_that_hangs 10.90.0.9 "$(for _ in $(seq 6); do a=$(query shop.service.fleet) && [ "$a" = 10.90.0.9 ] && break; done; echo "$a")"
check it_is_another_process no "$([ "$(show MainPID service)" = "$pid" ] && echo yes || echo no)"

check it_logs_no_warning "" "$(on journalctl -t fleet-dns -p 4 -o cat --no-pager | head -3)"
on systemctl disable --now fleet-dns.socket >/dev/null 2>&1
check a_stop_of_the_socket_stops_the_service inactive "$(show ActiveState service)"
