#!/bin/bash
# The examples of README and the manual that need booted hosts (tests/conformance/examples), and a quickstart.
# Takes 125 s.
LAB_HOSTS="alpha beta gamma delta" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
examples=$top/tests/conformance/examples.py
export LAB_NAME LAB_HOSTS LAB_TOKENS

# Run the examples of a page, or of one of its sections, on a host. Their results are those of this script.
run_examples() {
        "$examples" hosts "$@" >"$LAB/examples" 2>&1
        grep -E '^(ok|not ok|#) ' "$LAB/examples" >&3
        ! grep -q '^not ok ' "$LAB/examples" || fail "see above"
        grep -q '^ok ' "$LAB/examples" || fail "no example was run: $(tail -3 "$LAB/examples")"
}
task() { run_examples man/fleet.7.scd "$@"; }

# Put a file of fleet(7), or of the page $2, on alpha: a unit file into the folder of the examples.
file_of_the_manual() {
        awk -v name="# $1" '$0 == name { inside = 1; next } /^```$/ { inside = 0 } inside' "$top/man/${2:-fleet.7}.scd" | sed 's/\\\\/\\/g' >"$LAB/file"
        [ -s "$LAB/file" ] || fail "the manual has no $1"
        host_exec alpha sh -c "cd /root/work && cat >$1" <"$LAB/file"
}

sample_units() {
        local h
        for h in $LAB_HOSTS; do
                ! host_is_on "$h" || tar -c -C "$top/dist/units" . | host_exec "$h" sh -c 'mkdir -p /root/work && tar -x -C /root/work'
        done
}
everything_runs() { [ "$(fleetctl alpha list-units --no-legend --fields=active | grep -c '^active')" -ge "$1" ]; }

a_cluster_is_formed() {
        local h
        [ -x "$LAB_BUILD/fleetd/fleetd" ] || fail "no fleetd in $LAB_BUILD"
        lab_install "$LAB_BUILD" || fail "make install failed"
        for h in alpha beta gamma; do
                host_install $h || fail "fleetd cannot be put on $h"
        done
        hosts_up alpha beta gamma
        sample_units
        task cluster
        wait_for 30 three_vote alpha || fail "three hosts, and these roles: $(roles alpha)"
}

units_are_started() {
        run_examples man/fleetctl.1.scd
        fleetctl alpha start "$top"/dist/units/{node,store,store-watch}.service >"$LAB/out" 2>&1 || fail "samples do not start: $(cat "$LAB/out")"
        wait_for 30 everything_runs 9 || fail "they do not run: $(fleetctl alpha list-units)"
        run_examples man/fleet.unit.5.scd
        run_examples README.md
}

is_gone() { ! fleetctl alpha list-machines --no-legend --fields=hostname,presence | grep -q "^$1[[:space:]]*up"; }

# Another machine, with the name and the address of gamma.
a_new_gamma() {
        rm -rf "$LAB/gamma"
        host_make gamma && md5sum <<<"$1" | cut -c1-32 >"$LAB/gamma/up/etc/machine-id"
        host_install gamma || fail "fleetd cannot be put on gamma"
}

# Its former machine is removed at once. It was shut down: two losses within a minute would hold back all that moves.
a_voter_is_replaced_at_its_address() {
        local former
        former=$(host_machine_id gamma)
        host_off gamma && wait_for 20 is_gone gamma || fail "gamma does not shut down"
        a_new_gamma second
        rm "$LAB/gamma/up/etc/systemd/system/multi-user.target.wants/fleetd.service"
        hosts_up gamma
        task replace
        wait_for 20 fleetctl alpha remove --yes "$former" || fail "remove: $(fleetctl alpha remove --yes "$former" 2>&1)"
}

a_voter_is_replaced_at_another_address() {
        host_install delta || fail "fleetd cannot be put on delta"
        hosts_up delta
        host_kill gamma && wait_for 20 is_gone gamma || fail "gamma is not lost"
        task replace:elsewhere
        wait_for 20 three_vote alpha || fail "delta does not vote in place of gamma: $(roles alpha)"
}

a_host_leaves() {
        a_new_gamma third
        hosts_up gamma
        host_join gamma --metadata=host=gamma,zone=c >"$LAB/out" 2>&1 || fail "gamma does not join: $(cat "$LAB/out")"
        sample_units
        task leave
        wait_for 20 three_vote alpha || fail "gamma does not vote in place of delta: $(roles alpha)"
}

a_host_is_added() { task add delta; }

# From outside, gamma accepts nothing but answers, as a host with a firewall; the example opens its port for the hosts.
a_firewall_is_opened_for_the_hosts() {
        host_exec gamma nft -f - <<'END' || fail "gamma has no firewall"
table inet filter {
        chain input {
                type filter hook input priority filter; policy drop;
                iif lo accept
                ct state established,related accept
        }
}
END
        ! reaches_gamma || fail "the firewall of gamma drops nothing"
        task firewall gamma
        wait_for 5 reaches_gamma || fail "alpha does not reach gamma: $(host_exec gamma nft list ruleset)"
        host_exec gamma nft flush ruleset
}
reaches_gamma() { host_exec alpha timeout 2 bash -c '</dev/tcp/10.90.0.3/2380' 2>"$LAB/out"; }

a_host_is_maintained() {
        task maintain beta
        host_is_on beta || fail "beta is off"
}

units_are_updated_moved_and_explained() {
        fleetctl alpha start "$top"/dist/units/hello.service >/dev/null 2>&1
        fleetctl alpha destroy --yes 'web@*' >"$LAB/out" 2>&1 || fail "web@ cannot be removed: $(cat "$LAB/out")"
        task run
        host_exec alpha sed -i s/Restart=always/Restart=on-failure/ /root/work/hello.service "/root/work/web@.service"
        task update
        task scale
        fleetctl alpha destroy --yes app@.service >"$LAB/out" 2>&1 || fail "app@ cannot be removed: $(cat "$LAB/out")"
        task directory
        task move
        task data
        task why
}

a_service_is_found() {
        local h
        for h in alpha beta gamma; do
                host_exec "$h" sh -c 'mkdir -p /etc/systemd/system-generators && cd /etc/systemd/system-generators && cat >new && chmod 755 new && mv new podman-system-generator && systemctl reload fleetd' \
                        <"$here/podman-system-generator" || fail "$h has no generator"
        done
        host_exec alpha sh -c '[ -s /etc/resolv.conf ] || echo options timeout:1 >/etc/resolv.conf'
        file_of_the_manual shop@.container
        task discovery
}

says_last() { [ "$(host_exec "$1" fleetctl services shop 2>&1 | tail -1)" = "this host $2" ]; }
a_host_that_does_not_resolve_the_name_says_the_next_step() {
        says_last beta "does not resolve shop.service.fleet: systemctl enable --now fleet-dns.socket" || fail "beta: $(host_exec beta fleetctl services shop 2>&1)"
        host_exec beta systemctl enable --now fleet-dns.socket || fail "no socket on beta"
        says_last beta "does not resolve shop.service.fleet: the first line of /etc/resolv.conf has to be: nameserver 169.254.23.79" || fail "beta: $(host_exec beta fleetctl services shop 2>&1)"
        host_exec gamma systemd-run -q --unit=taken python3 -c 'import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 53)); time.sleep(1000)' || fail "gamma has no such program"
        wait_for 5 says_last gamma "does not resolve shop.service.fleet: python3 has port 53 (PORT 53 in fleet-dns(8))" || fail "gamma: $(host_exec gamma fleetctl services shop 2>&1)"
        host_exec gamma systemctl stop taken
        fleetctl beta services none >"$LAB/out" 2>&1
        [ $? = 4 ] || fail "services none: $(cat "$LAB/out")"
}

targets_are() { host_exec alpha curl -s 127.0.0.1:9090/api/v1/targets | grep -oE '"__address__":"(alpha|beta|gamma)-[0-9a-f]{8}[.]shop[.]service[.]fleet[.]?:2[0-9]{4}"' | sort -u | wc -l | grep -qx "$1"; }
prometheus_finds_the_endpoints_of_a_service() {
        [ -x /usr/bin/prometheus ] || skip "no prometheus"
        host_exec alpha mkdir -p /etc/prometheus
        file_of_the_manual /etc/prometheus/prometheus.yml fleet-discovery.7
        host_exec alpha systemd-run -q --unit=monitor prometheus --config.file=/etc/prometheus/prometheus.yml --storage.tsdb.path=/run/monitor --web.listen-address=127.0.0.1:9090 || fail "it does not start"
        wait_for 20 targets_are 2 || fail "$(host_exec alpha curl -s 127.0.0.1:9090/api/v1/targets; host_exec alpha journalctl -u monitor -n 5 --no-pager -o cat)"
        host_exec alpha systemctl stop monitor
}

conf_has() { host_exec alpha grep -c '^server 10[.]90[.]0[.][0-9]*:2[0-9]*;$' /etc/nginx/conf.d/shop-upstream.conf | grep -qx "$1"; }
makes() { # CONTENTS LINE...: beside the files of fleetd
        local made
        made=$(printf '%s ID a shop.service\n' "${@:2}" | host_exec alpha unshare -m sh -c 'mount -t tmpfs none /run/fleet/services && cat >/run/fleet/services/shop && /usr/local/bin/upstream && paste -sd" " /etc/nginx/conf.d/shop-upstream.conf')
        [ "$made" = "$1" ] || fail "it makes $made"
}
a_proxy_follows_the_file_of_a_service() {
        local name i
        host_exec alpha sh -c 'mkdir -p /etc/nginx/conf.d && cat >/etc/systemd/system/nginx.service' <<<$'[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c "echo >>/run/reloads; ! [ -e /run/slow ] || sleep 2"'
        for name in /usr/local/bin/upstream /etc/systemd/system/upstream.path /etc/systemd/system/upstream.service; do
                file_of_the_manual $name fleet-discovery.7
        done
        host_exec alpha sh -c 'systemctl daemon-reload && systemctl start nginx' || fail "it does not start"
        run_examples man/fleet-discovery.7.scd
        wait_for 5 conf_has 2 || fail "$(host_exec alpha cat /etc/nginx/conf.d/shop-upstream.conf)"
        for i in {1..6}; do
                fleetctl alpha restart shop@2.container >"$LAB/out" 2>&1 || fail "restart $i: $(cat "$LAB/out")"
        done
        wait_for 5 conf_has 2 || fail "after restarts: $(host_exec alpha cat /etc/nginx/conf.d/shop-upstream.conf)"
        host_exec alpha touch /run/slow
        fleetctl alpha restart shop@2.container >"$LAB/out" 2>&1 || fail "restart: $(cat "$LAB/out")"
        wait_for 5 conf_has 2 || fail "after a change during a reload: $(host_exec alpha cat /etc/nginx/conf.d/shop-upstream.conf)"
        wait_for 5 host_exec alpha sh -c 'systemctl show -p ActiveState upstream.service | grep -q =inactive' || fail "it runs on"
        host_exec alpha sh -c 'rm /run/slow; : >/run/reloads'
        fleetctl alpha stop shop@2.container >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        wait_for 5 conf_has 1 || fail "after a stop: $(host_exec alpha cat /etc/nginx/conf.d/shop-upstream.conf)"
        fleetctl alpha start shop@2.container >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        wait_for 5 conf_has 2 || fail "after a start: $(host_exec alpha cat /etc/nginx/conf.d/shop-upstream.conf)"
        [ "$(host_exec alpha cat /run/reloads | wc -l)" = 2 ] || fail "$(host_exec alpha cat /run/reloads | wc -l) reloads"
        host_exec alpha systemctl stop upstream.path
        makes 'upstream shop { server 10.90.0.1:80; server [fd00::2]:8080; }' 'a 10.90.0.1 80 tcp http' 'a 10.90.0.1 81 tcp admin' 'b fd00::2 8080 tcp http' 'b fd00::2 9090 tcp admin' 'c 10.90.0.3 0 tcp -'
        makes 'upstream shop { server 10.90.0.1:80; server [fd00::2]:8080; }' 'c 10.90.0.3 0 tcp -'
}

the_past_is_read() {
        task past
        run_examples HACKING.md
        task upgrade
}

four_are_up() { [ "$(fleetctl alpha list-machines --no-legend --fields=presence,role | grep -cE '^up.*(leader|voter|standby)')" = 4 ]; }
a_backup_is_made_and_restored() {
        local h
        task backup
        for h in delta; do
                host_exec $h sh -c 'systemctl stop fleetd; fleetd --reset; systemctl start fleetd' || fail "fleetd of $h does not start again"
        done
        wait_for 60 four_are_up || fail "they do not join again: $(machines alpha)"
        known alpha hello.service && known alpha web@3.service || fail "units are missing: $(fleetctl alpha list-unit-files)"
        run_examples man/fleetd.8.scd
        host_exec alpha sh -c 'rm -f /root/fleet.backup /root/fleet.keys-*'
        run_examples man/fleet-recovery.7.scd
}

# From an empty machine to three hosts with units, by tokens, with a finished build: 60 s at most.
the_quickstart_of_the_readme_works() {
        local name=readme-$LAB_NAME took
        mkdir -p "$LAB_TESTIMONY"
        trap "LAB_NAME=$name $top/quickstart down" EXIT
        lab_down
        LAB_NAME=$name "$examples" quickstart README.md >"$LAB_TESTIMONY/examples" 2>&1
        grep -E '^(ok|not ok|#) ' "$LAB_TESTIMONY/examples" >&3
        mkdir -p "$LAB"
        ! grep -q '^not ok ' "$LAB_TESTIMONY/examples" || fail "see above"
        took=$(sed -n 's,^ok README.md:[0-9]*: ./quickstart *# \([0-9]*\).*,\1,p' "$LAB_TESTIMONY/examples")
        [ "${took:-61}" -le 60 ] || fail "three hosts with units after ${took:-?} s"
}

exec 3>&1
scenario a_cluster_is_formed units_are_started a_voter_is_replaced_at_its_address a_voter_is_replaced_at_another_address \
        a_host_leaves a_firewall_is_opened_for_the_hosts a_host_is_added a_host_is_maintained \
        units_are_updated_moved_and_explained a_service_is_found a_host_that_does_not_resolve_the_name_says_the_next_step prometheus_finds_the_endpoints_of_a_service a_proxy_follows_the_file_of_a_service the_past_is_read a_backup_is_made_and_restored the_quickstart_of_the_readme_works
