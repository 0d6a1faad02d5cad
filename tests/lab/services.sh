# Services on booted hosts: sourced after scenario.sh.

ADDRESS=169.254.23.79

# Switch fleet-dns on, on these hosts.
dns_on() {
        local h
        for h; do
                host_exec "$h" systemctl enable --now fleet-dns.socket >"$LAB/out" 2>&1 || fail "fleet-dns of $h: $(cat "$LAB/out")"
        done
        for h; do
                wait_for 10 host_exec "$h" systemctl -q is-active fleet-dns-link.service || fail "$h: $(host_exec "$h" systemctl status fleet-dns-link 2>&1 | tail -5)"
        done
}

# The file of a service on a host: service_file HOST SERVICE; .host is its description of itself.
service_file() { cat "/proc/$(host_init "$1")/root/run/fleet/services/$2" 2>/dev/null; }
# The hosts of its endpoints by that file, by the A records that fleet-dns of that host answers, and by its SRV records.
filed() { service_file "$1" "$2" | sed 's/-[0-9a-f]\{8\} .*//' | named | sort | xargs; }
# A restricted host has its short ID there.
named() { sed "s/^$(cat "$LAB/restricted" 2>/dev/null || echo none)$/${RESTRICTED:-}/"; }
dig_at() { host_exec "$1" dig +time=5 +tries=1 +short @$ADDRESS "${@:2}"; } # HOST NAME [TYPE]
answered() { local a; for a in $(dig_at "$1" "$2.service.fleet"); do host_of_address "$a"; done | sort | xargs; }
answered_srv() { dig_at "$1" "_http._tcp.$2.service.fleet" SRV | sed 's/.* \(.*\)-[0-9a-f]\{8\}\..*/\1/' | named | sort | xargs; }
host_of_address() { local h; for h in $LAB_HOSTS; do [ "$(host_address "$h")" != "$1" ] || echo "$h"; done; }

# is_listed HOST SERVICE HOSTS: file and answers of a host have these endpoints.
is_listed() { [ "$(filed "$1" "$2")" = "$3" ] && [ "$(answered "$1" "$2")" = "$3" ] && [ "$(answered_srv "$1" "$2")" = "$3" ]; }
# listed SERVICE HOSTS AT: so it is on the hosts AT, within five seconds.
listed() {
        local h
        for h in $3; do
                wait_for "${WITHIN:-5}" is_listed "$h" "$1" "$2" || fail "${WHAT:+$WHAT: }$1 on $h, not of '$2': file '$(filed "$h" "$1")', A '$(answered "$h" "$1")', SRV '$(answered_srv "$h" "$1")'"
        done
}

# A client on each of these hosts that resolves a service for each connection: finds_start SERVICE MODE HOST...
finds_start() {
        local h
        FINDS=()
        for h in "${@:3}"; do
                host_exec "$h" rm -f /run/finds-stop
                host_exec "$h" /usr/bin/python3 - /run/finds-stop "_http._tcp.$1.service.fleet" "$2" <"$here/finds.py" >"$LAB/finds.$h" 2>&1 &
                FINDS+=("$h:$!")
        done
        sleep 1 # it has begun
}
# finds_stop WHAT: each of them had what it expects.
finds_stop() {
        local f h line
        for f in "${FINDS[@]}"; do
                host_exec "${f%:*}" touch /run/finds-stop
        done
        for f in "${FINDS[@]}"; do
                h=${f%:*}
                wait "${f#*:}"
                line=$(tail -n 1 "$LAB/finds.$h")
                echo "# $1, a client on $h: $line" >>"$LAB/figures"
                case $line in "rounds="*" unanswered=0 absent=0 changed=0 refused=0 failed=0 "*) ;; *) fail "$1, a client on $h: $(tail -n 8 "$LAB/finds.$h")" ;; esac
        done
}
