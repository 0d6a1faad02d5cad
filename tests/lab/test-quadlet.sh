#!/bin/bash
# Quadlet files on booted hosts with a generator: they run as its services, under their own names. On Debian 13 that is the generator of
# podman, with a podman that only records its arguments. The podman of Debian 12 has none, so the hosts get one that follows its contract
# (podman-system-generator in this folder); the unit is a process.
# Takes 40 s.
. "$(dirname "$0")/scenario.sh"

# The hosts use /usr of this machine.
podman_generates() { [ -x /usr/lib/systemd/system-generators/podman-system-generator ]; }

# Install the generator on host $1, and reload its daemon.
give_generator() {
        if podman_generates; then
                host_exec "$1" sh -c 'cat >/usr/bin/podman.new && chmod 755 /usr/bin/podman.new && mv /usr/bin/podman.new /usr/bin/podman' <"$here/podman" &&
                        host_exec "$1" sh -c 'rm /etc/systemd/system-generators/podman-system-generator && systemctl reload fleetd'
        else
                host_exec "$1" sh -c 'mkdir -p /etc/systemd/system-generators && cd /etc/systemd/system-generators && cat >new && chmod 755 new && mv new podman-system-generator' \
                        <"$here/podman-system-generator" && host_exec "$1" systemctl reload fleetd
        fi
}
container() { printf '[Unit]\nDescription=%s\n[Container]\nImage=%s\n' "$1" "$2"; }
service_of() { host_exec "$1" systemctl show --value -p "$3" "$2"; }

without_a_generator_on_any_host_the_message_names_the_missing_one() {
        cluster_up
        local h out
        for h in $LAB_HOSTS; do # hide the podman of this machine
                host_exec "$h" sh -c 'mkdir -p /etc/systemd/system-generators && ln -s /dev/null /etc/systemd/system-generators/podman-system-generator && systemctl reload fleetd'
        done
        container web registry.example/web:1 | unit_file web.container
        ! out=$(fleetctl alpha start --block-attempts=3 web.container 2>&1) || fail "it was started: $out"
        grep -q 'podman-system-generator' <<<"$out" || fail "start does not say why: $out"
        [ "$(fleetctl beta --output=json why web.container | json machines 1 rule)" = Quadlet ] || fail "the rule: $(fleetctl beta --output=json why web.container)"
        out=$(fleetctl beta why web.container 2>&1)
        grep -q 'no podman 5.3 or later (podman-system-generator), which .container files need' <<<"$out" ||
                fail "why: $out"
        runs_nowhere web.service || fail "it runs on $(hosts_running web.service)"
}

shows_service() { fleetctl "$1" status web.container 2>&1 | grep -q 'web.service.*'; } # a host may lag behind alpha
it_runs_where_a_generator_appears_and_is_listed_under_its_own_name() {
        local h out
        give_generator beta || fail "beta cannot be given one"
        wait_for 10 lists alpha web.container "active running" || fail "it is not listed: $(fleetctl alpha list-units; host_exec beta journalctl --no-pager -u fleetd | tail -5)"
        runs_on web.service beta || fail "its service runs on $(hosts_running web.service)"
        out=$(fleetctl gamma list-unit-files --full --no-legend --fields=unit,hash,state | tr -s '\t ' ' ')
        [ "$out" = "web.container $(fleetctl gamma cat web.container | sha1sum | cut -c1-40) launched" ] || fail "files: $out"
        [ "$(service_of beta web.service SourcePath)" = /run/containers/systemd/web.container ] || fail "it is made of $(service_of beta web.service SourcePath)"
        for h in $LAB_HOSTS; do
                wait_for 5 shows_service "$h" || fail "status on $h: $(fleetctl "$h" status web.container 2>&1)"
                fleetctl "$h" journal web.container 2>&1 | grep -q 'image registry.example/web:1' || fail "journal on $h: $(fleetctl "$h" journal web.container 2>&1)"
        done
        fleetctl alpha is-active web.container >/dev/null || fail "is-active says no"
        ! podman_generates || host_exec beta systemctl cat web.service | grep -q '^ExecStart=.*podman run .*registry.example/web:1' ||
                fail "not podman's generator: $(host_exec beta systemctl cat web.service)"
}

pid() { service_of beta "$1" MainPID; }
neither_the_daemon_nor_an_edit_of_x_fleet_touches_it() {
        local before
        before=$(pid web.service)
        host_exec beta systemctl restart fleetd
        cluster_whole
        wait_for 10 lists gamma web.container "active running" || fail "it is not listed after a restart of fleetd"
        [ "$(pid web.service)" = "$before" ] || fail "a restart of fleetd touched it"
        container kept registry.example/kept:1 | host_exec alpha sh -c 'cat >/etc/fleet/units/kept.container'
        wait_for 10 lists gamma kept.container "active running" || fail "the second one is not listed"
        before=$(pid kept.service)
        { container kept registry.example/kept:1; printf '[X-Fleet]\nMachineMetadata=zone=b\n'; } | host_exec alpha sh -c 'cat >/etc/fleet/units/kept.container'
        wait_for 10 in_file beta kept.container MachineMetadata || fail "the new file is not in force"
        [ "$(pid kept.service)" = "$before" ] || fail "it was restarted"
}
in_file() { host_exec "$1" grep -q "$3" "/run/containers/systemd/$2"; }

a_new_text_is_generated_again() {
        container web registry.example/web:2 | unit_file web.container
        fleetctl alpha stop web.container >/dev/null 2>&1
        fleetctl alpha start --replace web.container >"$LAB/out" 2>&1 || fail "replace: $(cat "$LAB/out")"
        wait_for 10 says_image web.container registry.example/web:2 || fail "the old one runs: $(fleetctl alpha journal web.container 2>&1 | tail -3)"
        wait_for 10 lists beta web.container "active running" || fail "it is not listed"
}
says_image() { fleetctl alpha journal "$1" 2>&1 | grep -q "image $2"; }

instances_volumes_and_drop_ins_are_quadlets_too() {
        container 'w %i' 'registry.example/%p:%i' | unit_file 'w@.container'
        fleetctl gamma start 'w@7.container' >"$LAB/out" 2>&1 || fail "instance: $(cat "$LAB/out")"
        runs_on 'w@7.service' beta || fail "w@7 runs on $(hosts_running 'w@7.service')"
        says_image 'w@7.container' registry.example/w:7 || fail "w@7: $(fleetctl alpha journal 'w@7.container' 2>&1)"
        printf '[Volume]\n' | host_exec alpha sh -c 'cat >/etc/fleet/units/data.volume'
        wait_for 10 lists gamma data.volume "active exited" || fail "the volume: $(fleetctl gamma list-units; host_exec alpha ls /etc/fleet/units)"
        [ "$(service_of beta data-volume.service SourcePath)" = /run/containers/systemd/data.volume ] || fail "the volume's service is not on beta"
        host_exec alpha sh -c 'mkdir /etc/fleet/units/data.volume.d && printf "[Volume]\nVolumeName=other\n" >/etc/fleet/units/data.volume.d/10.conf'
        wait_for 10 in_file beta data.volume VolumeName=other || fail "the drop-in is not in force"
        wait_for 10 says_volume other || fail "the volume is another: $(fleetctl alpha journal data.volume 2>&1)"
}
says_volume() { fleetctl alpha journal data.volume 2>&1 | grep -q "volume $1"; }

published() { host_exec beta sed -n 's,^PublishPort=\([0-9]*\):80/tcp$,\1,p' /run/containers/systemd/shop.container.d/fleet-ports.conf; }
serves_shop() {
        if podman_generates; then
                host_exec beta systemctl cat shop.service | grep -q -- "--publish $1:80/tcp"
        else
                host_exec beta curl -sf -o /dev/null "http://$(host_address beta):$1/"
        fi
}
a_selected_port_of_a_container_is_published_and_stays() {
        local number
        { container shop registry.example/shop:1; printf '[X-Fleet]\nPort=web:auto:80\n'; } | unit_file shop.container
        fleetctl alpha start shop.container >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        number=$(published)
        [ "${number:-0}" -ge 20000 ] && [ "$number" -le 31999 ] || fail "it publishes '$number'"
        wait_for 10 serves_shop "$number" || fail "not at $number: $(host_exec beta systemctl cat shop.service)"
        host_exec beta grep -q "\"ports\":{\"web\":$number}" /var/lib/fleet/agent/assignment || fail "the record lacks $number"
        host_exec beta sh -c 'rm -r /run/containers/systemd/shop.container.d && systemctl restart fleetd shop.service'
        cluster_whole
        wait_for 20 port_is "$number" || fail "after a restart, and without its drop-in, it publishes '$(published)', not $number"
        wait_for 10 serves_shop "$number" || fail "not at $number after a restart"
        echo "$number" >"$LAB/number"
}
port_is() { [ "$(published 2>/dev/null)" = "$1" ]; }

a_file_that_podman_would_refuse_is_rejected_with_a_message() {
        local name message text out
        while IFS='|' read -r name text message; do
                printf "$text" | unit_file "$name"
                ! out=$(fleetctl beta verify "$name" 2>&1) && grep -qF "$message" <<<"$out" || fail "verify $name: $out"
                ! out=$(fleetctl beta submit "$name" 2>&1) && grep -qF "$message" <<<"$out" || fail "submit $name: $out"
        done <<'END'
a.container|[Service]\nNice=1\n|a .container file has a section [Container]; here is none
b.container|[Container]\nExec=x\n|[Container] needs Image= or Rootfs=
c.volume|[Volume]\n[Container]\nImage=x\n|line 3: [Container] belongs into a .container file
d.container|[Container]\nImage=x\nServiceName=e\n|line 3: ServiceName= is not taken: its service is d.service
dbus.container|[Container]\nImage=x\n|systemd itself depends on a unit of that name
END
}

a_source_of_the_hosts_own_is_left_alone() {
        container theirs registry.example/theirs:1 | host_exec beta sh -c 'mkdir -p /etc/containers/systemd && cat >/etc/containers/systemd/theirs.container && systemctl daemon-reload && systemctl start theirs'
        local before
        before=$(pid theirs.service)
        container ours registry.example/ours:1 | unit_file theirs.container
        fleetctl alpha start --no-block theirs.container >"$LAB/out" 2>&1 || fail "it cannot be submitted: $(cat "$LAB/out")"
        wait_for 10 journal_says beta 'this host has a unit of that name from another source' || fail "beta does not refuse it: $(host_exec beta journalctl -u fleetd --no-pager | tail -3)"
        host_exec beta test ! -e /run/containers/systemd/theirs.container || fail "its source was put before the host's"
        [ "$(pid theirs.service)" = "$before" ] || fail "the host's own was touched"
        give_generator gamma || fail "gamma cannot be given a generator"
        wait_for 15 lists alpha theirs.container "active running" || fail "it does not run on gamma: $(fleetctl alpha why theirs.container 2>&1)"
        runs_on theirs.service 'beta gamma' || fail "theirs and ours run on $(hosts_running theirs.service)"
        fleetctl alpha destroy theirs.container >"$LAB/out" 2>&1 || fail "it cannot be destroyed: $(cat "$LAB/out")"
        wait_for 10 runs_on theirs.service beta || fail "ours runs still"
        host_exec gamma sh -c 'ln -sf /dev/null /etc/systemd/system-generators/podman-system-generator && systemctl reload fleetd'
        [ "$(pid theirs.service)" = "$before" ] || fail "the host's own was stopped"
}
journal_says() { host_exec "$1" journalctl -u fleetd --no-pager | grep -q "$2"; }

after_a_power_cut_it_runs_again() {
        host_kill beta && host_up beta && host_wait beta || fail "beta does not come back"
        wait_for 60 runs_on web.service beta || fail "it runs on $(hosts_running web.service)"
        wait_for 30 lists gamma web.container "active running" || fail "it is not listed: $(fleetctl gamma list-units)"
        wait_for 30 serves_shop "$(cat "$LAB/number")" || fail "the port changed from $(cat "$LAB/number") to $(published)"
}

destroyed_it_leaves_nothing_on_the_host() {
        fleetctl alpha destroy web.container shop.container 'w@7.container' >"$LAB/out" 2>&1 || fail "destroy: $(cat "$LAB/out")"
        wait_for 10 runs_nowhere web.service || fail "it still runs"
        host_exec alpha sh -c 'rm -r /etc/fleet/units/data.volume* /etc/fleet/units/kept.container'
        wait_for 10 none_left || fail "left on beta: $(host_exec beta sh -c 'ls /run/containers/systemd /run/fleet/units; systemctl list-units --all --plain | grep -E "web|data"')"
}
none_left() {
        host_exec beta sh -c '[ -z "$(ls /run/containers/systemd /run/fleet/units | grep -v : | grep .)" ]' &&
                [ "$(service_of beta web.service LoadState)$(service_of beta data-volume.service LoadState)" = not-foundnot-found ]
}

scenario without_a_generator_on_any_host_the_message_names_the_missing_one it_runs_where_a_generator_appears_and_is_listed_under_its_own_name \
        neither_the_daemon_nor_an_edit_of_x_fleet_touches_it a_new_text_is_generated_again instances_volumes_and_drop_ins_are_quadlets_too \
        a_selected_port_of_a_container_is_published_and_stays a_file_that_podman_would_refuse_is_rejected_with_a_message \
        a_source_of_the_hosts_own_is_left_alone after_a_power_cut_it_runs_again destroyed_it_leaves_nothing_on_the_host
