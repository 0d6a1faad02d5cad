#!/bin/bash
# The Debian packages on a booted host: installation, upgrade under running units, removal, purge. No step touches a unit.
#
# The programs are those of LAB_BUILD, and the version before is a copy of the new packages with another version. With CHECK_ALL=yes,
# the rules of the packages compile the programs, and those of the release before.
# Takes 90 s.
LAB_HOSTS=alpha
. "$(dirname "$0")/scenario.sh"
. "$here/before.sh"

[ ! -d /usr/lib/ccache ] || PATH=/usr/lib/ccache:$PATH
debs=$LAB_BUILD/deb
units=$(seq -f 'plain-%g.service' 20)

# repack FILE FOLDER VERSION [CHANGE]: write a copy of a package with another version into FOLDER, changed by a command in its tree.
repack() {
        local tree=$LAB/repack
        rm -rf "$tree"
        dpkg-deb -R "$1" "$tree" &&
                sed -i "s/^Version: .*/Version: $3/; s/^\(Depends: .*fleetctl (= \)[^)]*/\1$3/" "$tree/DEBIAN/control" &&
                (cd "$tree" && eval "${4:-:}") &&
                dpkg-deb --root-owner-group -Znone -b "$tree" "$2" >/dev/null
}

packages_are_built() {
        # test-rpm.sh makes the archive in the same folder.
        local p quick=(XZ_OPT=-0 PREBUILT="$LAB_BUILD")
        rm -rf "$debs"
        [ -z "${CHECK_ALL:-}" ] || quick=()
        (umask 022; env "${quick[@]}" flock "$LAB_BUILD/config.status" make -C "$LAB_BUILD" deb >"$LAB/deb.log" 2>&1 </dev/null) || fail "make deb fails: $(tail -3 "$LAB/deb.log")"
        mkdir -p "$LAB/new" "$LAB/before" "$LAB/broken" "$LAB/dns" "$LAB/web"
        cp "$debs"/fleet-dns_*.deb "$LAB/dns/" || fail "there is no package fleet-dns"
        for p in fleetd fleetctl; do
                cp "$debs/$p"_*.deb "$LAB/new/" || fail "there is no package $p"
                repack "$debs/$p"_*.deb "$LAB/before" '0.1.0~before'
                repack "$debs/$p"_*.deb "$LAB/broken" '0.1.0~broken' '[ ! -e usr/sbin/fleetd ] || echo >usr/sbin/fleetd'
        done
        cp "$LAB/new"/fleetctl_*.deb "$LAB/web/"
}

# They take the place of the copies.
packages_of_the_release_before_are_built() {
        [ -n "${CHECK_ALL:-}" ] || skip "only with CHECK_ALL=yes; a copy of the new packages is the version before"
        before_is_known || skip "this repository does not have the commit $BEFORE_COMMIT (a shallow clone?); a copy of the new packages is the version before"
        before_packages "$LAB/compiled" >"$LAB/deb.log" 2>&1 </dev/null || fail "the release before: $(tail -3 "$LAB/deb.log")"
        cp "$LAB/compiled"/fleet{d,ctl}_*.deb "$LAB/before/" || fail "no packages of the release before"
        rm -rf "$LAB/compiled"
}

packages_have_no_fault() {
        local out
        command -v lintian >/dev/null || skip "lintian is missing; ./check installs it on Debian 12"
        out=$(lintian --pedantic --fail-on error,warning --tag-display-limit 0 "$debs"/*.changes 2>&1) || fail "lintian: $(grep -E '^[EW]:' <<<"$out" | tr '\n' ' ')"
}

# The sources are in another folder, in another order and of another user, and have other times; time zone, locale, umask and date differ, too.
equal_sources_give_equal_packages() {
        local d f archive
        [ -n "${CHECK_ALL:-}" ] || skip "only with CHECK_ALL=yes: it compiles everything again"
        command -v faketime >/dev/null || skip "faketime is missing; ./check installs it on Debian 12"
        archive=$(ls "$LAB_BUILD"/fleetd-*.tar.xz)
        # A file system in memory lists a folder in the order of creation.
        d=$(mktemp -d "${CHECK_TMP:-/dev/shm}/fleetd-again.XXXXXX") && trap 'rm -rf "$d"' EXIT
        mkdir "$d/sorted" "$d/source"
        tar -xf "$archive" -C "$d/sorted" --strip-components=1
        (cd "$d/sorted" && find . ! -type d | sort -r | tar -c --no-recursion -T -) | tar -x -C "$d/source"
        [ "$(ls -U "$d/sorted/dist/debian")" != "$(ls -U "$d/source/dist/debian")" ] && [ "$(ls -U "$top/dist/debian")" != "$(ls -U "$d/source/dist/debian")" ] ||
                fail "the order of the files is equal"
        rm -rf "$d/sorted"
        find "$d" -exec touch -h -d '2020-02-29 01:02:03' {} +
        chown -R 65534 "$d" && chmod 755 "$d"
        (cd "$d/source" && umask 077 && setpriv --reuid=65534 --regid=65534 --clear-groups env -i PATH="$PATH" CCACHE_DISABLE=1 HOME=/nonexistent LOGNAME=another \
                TZ=Asia/Kolkata LC_ALL=C.UTF-8 faketime '2031-02-03 04:05:06' sh -c './configure -q && make -s deb') >"$LAB/again.log" 2>&1 </dev/null ||
                fail "the archive does not build: $(tail -3 "$LAB/again.log")"
        cmp "$d"/source/fleetd-*.tar.xz "$archive" >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        for f in "$debs"/*.deb; do
                cmp "$f" "$d/source/deb/$(basename "$f")" >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        done
}

# The host has the packages of this machine, and no fleetd.
a_host_boots_without_fleetd() {
        host_make alpha
        cp -a /var/lib/dpkg "$LAB/alpha/up/var/lib/"
        hosts_up alpha
        # In some containers, the first one forbids to start services; the other one, of debian.sh, leaves out documentation.
        host_exec alpha rm -f /usr/sbin/policy-rc.d /etc/dpkg/dpkg.cfg.d/check
        host_exec alpha dpkg --no-triggers --force-unsafe-io -P fleet-dns fleetd fleetctl >"$LAB/out" 2>&1
        ! host_exec alpha sh -c 'command -v fleetd' >/dev/null || fail "fleetd is installed on this machine"
}

# Triggers: only the index of the manual pages.
run_dpkg() { host_exec alpha env DEBIAN_FRONTEND=noninteractive dpkg --no-triggers --force-unsafe-io "$@" >"$LAB/out" 2>&1 </dev/null; }
unpack_and_configure() {
        rm -rf "/proc/$(host_init alpha)/root/root/debs"
        cp -r "$1" "/proc/$(host_init alpha)/root/root/debs"
        run_dpkg -i $(cd "$1" && printf '/root/debs/%s ' *.deb)
}
install_packages() { unpack_and_configure "$1" || fail "dpkg -i of $(basename "$1"): $(tail -5 "$LAB/out")"; }
version_of() { dpkg-deb -f "$(ls "$1"/fleetd_*.deb)" Version; }
has_version() { [ "$(host_exec alpha dpkg-query -W -f '${db:Status-Status} ${Version}' fleetd)" = "installed $(version_of "$1")" ]; }
pid_of_daemon() { host_exec alpha systemctl show --value -p MainPID fleetd; }
# The message of systemd that the daemon was started.
starts_of_daemon() { host_exec alpha journalctl -q --no-pager -o cat -u fleetd MESSAGE_ID=39f53479d3a045ac8e11786248231fbf | grep -c .; }
on_host() { host_exec alpha fleetctl "$@" 2>&1; }
one_machine() { [ "$(on_host list-machines --no-legend | wc -l)" = 1 ]; }
answers() { one_machine && writes alpha; }
units_untouched() { WHAT=$1 untouched "$(cat "$LAB/before.units")"; }

an_installed_package_is_a_cluster_of_one() {
        local start path
        start=$(now_ms)
        install_packages "$LAB/before"
        has_version "$LAB/before" || fail "$(host_exec alpha dpkg -l fleetd)"
        wait_for 10 answers || fail "no cluster of one: $(on_host list-machines) $(host_exec alpha systemctl status fleetd 2>&1 | tail -5)"
        echo "# installed and writable after $(($(now_ms) - start)) ms" >>"$LAB/figures"
        host_exec alpha systemctl -q is-enabled fleetd || fail "fleetd.service is not enabled"
        host_exec alpha getent group fleet >/dev/null || fail "there is no group fleet"
        [ "$(host_exec alpha stat -c '%U:%G %a' /run/fleet.sock)" = "root:fleet 660" ] || fail "/run/fleet.sock: $(host_exec alpha stat -c '%U:%G %a' /run/fleet.sock)"
        for path in /etc/fleet/units /etc/fleet/fleetd.conf.d /run/fleet; do
                [ "$(host_exec alpha stat -c '%U:%G %a' $path)" = "root:root 755" ] || fail "$path: $(host_exec alpha stat -c '%U:%G %a' $path)"
        done
        [ "$(host_exec alpha ss -Hltn | grep -cvE '127\.0\.0\.1:')" = 0 ] || fail "it listens beyond loopback: $(host_exec alpha ss -Hltn)"
        ! host_exec alpha dpkg --verify fleetd fleetctl | grep . >"$LAB/out" || fail "dpkg --verify: $(cat "$LAB/out")"
}

twenty_units_run() {
        local u
        for u in $units; do
                runs_forever "$u" </dev/null
        done
        # shellcheck disable=SC2086
        fleetctl alpha start $units >"$LAB/out" 2>&1 || fail "start: $(tail -3 "$LAB/out")"
        identities alpha >"$LAB/before.units"
        [ "$(grep -c ' active ' "$LAB/before.units")" = 20 ] || fail "not 20 units: $(cat "$LAB/before.units")"
}

# usage: metrics_are_valid FORM FILE: the strict parsers of python3-prometheus-client, and promtool for the text format. Debian 12 has them in the checks (tests/lab/deps.sh).
metrics_are_valid() {
        local parser=prometheus_client.parser
        if ! command -v promtool >/dev/null; then
                echo "# no strict parser of metrics on this machine" >>"$LAB/figures"
                return
        fi
        case $1 in
        application/*) parser=prometheus_client.openmetrics.parser ;;
        *) promtool check metrics <"$2" >"$LAB/out" 2>&1 || fail "promtool: $(head -3 "$LAB/out")" ;;
        esac
        /usr/bin/python3 -c "import sys; from $parser import text_string_to_metric_families as read
families = {f.name: len(f.samples) for f in read(open(sys.argv[1]).read())}
sys.exit(families['fleet_unit_active'] != 20 or families['fleet_unit_cpu_seconds'] != 20)" "$2" 2>"$LAB/out" || fail "$parser: $(tail -1 "$LAB/out")"
}

# In both forms, while clients write; the textfile collector of a node exporter gets them in this way.
metrics_have_the_units_of_the_host() {
        local form u
        writer_start alpha 2 metrics
        for form in text/plain 'application/openmetrics-text; version=1.0.0'; do
                host_exec alpha curl -sS -m 10 --unix-socket /run/fleet.sock -H "Accept: $form" http://fleet/metrics >"$LAB/metrics" 2>&1 || fail "$(tail -1 "$LAB/metrics")"
                for u in $units; do
                        grep -qx "fleet_unit_active{unit=\"$u\"} 1" "$LAB/metrics" || fail "$u is not active: $(grep "$u" "$LAB/metrics")"
                        grep -q "^fleet_unit_cpu_seconds_total{unit=\"$u\"} [0-9]*\.[0-9]*[1-9]" "$LAB/metrics" || fail "$u has no processor time: $(grep "$u" "$LAB/metrics")"
                        grep -q "^fleet_unit_start_time_seconds{unit=\"$u\"} 1[0-9]\{9\}" "$LAB/metrics" || fail "$u has no start: $(grep "$u" "$LAB/metrics")"
                        grep -qx "fleet_unit_restarts_total{unit=\"$u\"} 0" "$LAB/metrics" || fail "$u has restarts: $(grep "$u" "$LAB/metrics")"
                done
                grep -qx 'fleet_metrics_units_omitted 0' "$LAB/metrics" || fail "$(grep omitted "$LAB/metrics")"
                metrics_are_valid "$form" "$LAB/metrics"
        done
        wait $WRITER
}

an_upgrade_restarts_the_daemon_once_and_touches_no_unit() {
        local pid n gap
        host_exec alpha sh -c 'echo "# my line" >>/etc/fleet/fleetd.conf'
        pid=$(pid_of_daemon) n=$(starts_of_daemon)
        writer_start alpha 6 upgrade
        install_packages "$LAB/new"
        wait $WRITER
        has_version "$LAB/new" || fail "$(host_exec alpha dpkg -l fleetd)"
        [ "$(pid_of_daemon)" != "$pid" ] || fail "the daemon before still runs"
        [ "$(starts_of_daemon)" = $((n + 1)) ] || fail "$(($(starts_of_daemon) - n)) starts"
        units_untouched "the upgrade"
        gap=$(writer_gap upgrade)
        echo "# upgrade: $gap ms without an acknowledged write" >>"$LAB/figures"
        [ "$gap" -le 1000 ] || fail "no write was acknowledged for $gap ms"
        acknowledged_writes_are_there upgrade alpha
        host_exec alpha grep -q '^# my line' /etc/fleet/fleetd.conf || fail "the upgrade replaced /etc/fleet/fleetd.conf"
}

a_stopped_process_does_not_block_an_upgrade() {
        host_exec alpha kill -STOP "$(pid_of_daemon)"
        install_packages "$LAB/new"
        wait_for 10 answers || fail "it does not answer"
        units_untouched "an upgrade of a stopped process"
}

# The program, the state of the daemon and the database of dpkg are on one small file system.
small_disk() {
        host_exec alpha sh -ec 'systemctl stop fleetd
                mkdir /run/small && mount -t tmpfs -o size=96M,mode=755 none /run/small
                for d in usr/sbin var/lib/fleet var/lib/dpkg; do
                        mkdir -p "/run/small/$d" && cp -a "/$d/." "/run/small/$d" && mount --bind "/run/small/$d" "/$d"
                done
                systemctl start fleetd' >"$LAB/out" 2>&1 || fail "no small disk: $(tail -3 "$LAB/out")"
}
# Fill it up to so many KiB.
fill_disk() { host_exec alpha sh -c 'cat /dev/zero >/run/small/ballast; truncate -s "-$1K" /run/small/ballast' - "$1" 2>/dev/null; }

# With space for the database of dpkg but not for the program, and with no space.
a_full_disk_ends_an_upgrade_and_touches_no_unit() {
        local free
        small_disk
        wait_for 10 answers || fail "it does not answer on a small disk"
        for free in 1024 ${CHECK_ALL:+0}; do
                install_packages "$LAB/before"
                wait_for 10 answers || fail "it does not answer before the disk is full"
                fill_disk $free
                ! unpack_and_configure "$LAB/new" || fail "$free KiB are free, and the upgrade ends well"
                echo "# $free KiB free: $(grep -i "No space left" "$LAB/out" | head -1)" >>"$LAB/figures"
                grep -q "No space left on device" "$LAB/out" || fail "dpkg does not give the reason: $(tail -5 "$LAB/out")"
                units_untouched "an upgrade with $free KiB of free space"
                wait_for 20 one_machine || fail "with $free KiB of free space, the daemon does not answer"
                host_exec alpha rm /run/small/ballast
                install_packages "$LAB/new"
                has_version "$LAB/new" || fail "$(host_exec alpha dpkg -l fleetd)"
                wait_for 10 answers || fail "it does not answer with free space"
                units_untouched "the upgrade after it"
        done
        host_exec alpha sh -ec 'systemctl stop fleetd
                for d in usr/sbin var/lib/fleet var/lib/dpkg; do umount "/$d" && cp -a "/run/small/$d/." "/$d"; done
                umount /run/small && systemctl start fleetd' >"$LAB/out" 2>&1 || fail "no large disk: $(tail -3 "$LAB/out")"
        wait_for 10 answers || fail "it does not answer on a large disk"
}

a_package_whose_daemon_does_not_start_touches_no_unit() {
        install_packages "$LAB/broken"
        ! host_exec alpha systemctl -q is-active fleetd || fail "a program that is none runs"
        grep -q '^fleetd: fleetd.service does not run.* journalctl -u fleetd -n 20' "$LAB/out" || fail "dpkg does not name the next step: $(tail -5 "$LAB/out")"
        units_untouched "a package that does not start"
        install_packages "$LAB/new"
        wait_for 10 answers || fail "it does not answer with the right package"
        units_untouched "the right package"
}

# The page, which is in the package of fleetctl: its units in the order of the socket and the service.
web_runs() { host_exec alpha systemctl show --value -p InvocationID fleet-web.socket fleet-web.service | xargs; }
web_states() { host_exec alpha systemctl is-active fleet-web.socket fleet-web.service | xargs; }
page_answers() { host_exec alpha sh -c 'url=$(fleetctl web --url) && curl -sS -f -m 15 -H "X-Fleet-Key: ${url#*#key=}" http://127.0.0.1:2381/view' >"$LAB/view" 2>&1 && grep -q '"host":"alpha"' "$LAB/view"; }
user_of_the_page_sees() { host_exec alpha setpriv --reuid fleet-web --regid fleet-web --clear-groups fleetctl list-machines >"$LAB/out" 2>&1; }

an_installed_page_waits_for_an_administrator() {
        [ "$(host_exec alpha systemctl is-enabled fleet-web.socket)" = disabled ] || fail "it is $(host_exec alpha systemctl is-enabled fleet-web.socket)"
        [ "$(web_states)" = "inactive inactive" ] || fail "it is $(web_states)"
        user_of_the_page_sees || fail "its user has no right: $(cat "$LAB/out")"
        host_exec alpha systemctl enable --now fleet-web.socket >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        wait_for 15 page_answers || fail "$(cat "$LAB/view")"
}

# An open page loads itself once. fleetd, which has not read the right of the page yet, does so without a restart.
an_upgrade_of_fleetctl_replaces_the_page() {
        local before after daemon url said=once right=/etc/fleet/fleetd.conf.d/40-web.conf
        url=$(on_host web --url) before=$(web_runs)
        if command -v chromium >/dev/null; then
                coproc PAGE { nsenter -t "$(host_init alpha)" -n /usr/bin/python3 "$here/open_page.py" "$url" 2>"$LAB/browser"; }
                read -r -t 60 said <&"${PAGE[0]}" && [ "$said" = open ] || fail "no page: $(tail -3 "$LAB/browser")"
        fi
        host_exec alpha sh -ec "echo '# my line' >>$right; mv $right /root; systemctl reload fleetd"
        ! user_of_the_page_sees || fail "the right does not come from $right"
        host_exec alpha mv /root/40-web.conf "$right"
        daemon=$(pid_of_daemon)
        install_packages "$LAB/web"
        user_of_the_page_sees || fail "fleetd does not know the right of the page: $(cat "$LAB/out")"
        [ "$(pid_of_daemon)" = "$daemon" ] || fail "fleetd was restarted"
        [ "$(on_host web --url)" = "$url" ] || fail "the page has another address: $(on_host web --url)"
        after=$(web_runs)
        [ "${before% *}" = "${after% *}" ] && [ "${before#* }" != "${after#* }" ] || fail "not the service alone was started: $before, $after"
        host_exec alpha grep -q '^# my line' "$right" || fail "the upgrade replaced $right"
        if [ "$said" = open ]; then
                echo >&"${PAGE[1]}"
                read -r -t 120 said <&"${PAGE[0]}" || fail "the open page does not load itself: $(tail -3 "$LAB/browser")"
        else
                echo "# no browser: no page was open during the upgrade" >>"$LAB/figures"
        fi
        [ "$said" = once ] || fail "the open page loads itself $said"
        units_untouched "the page"
}

# fleet-dns: its units in the order of the socket, the service and the address.
dns_states() { host_exec alpha systemctl is-active fleet-dns.socket fleet-dns.service fleet-dns-link.service | xargs; }
dns_is_on() { [ "$(dns_states)" = "active active active" ] && host_exec alpha test -e /etc/containers/containers.conf.d/50-fleet.conf; }

an_installed_fleet_dns_waits_for_an_administrator() {
        host_exec alpha mkdir -p /etc/containers
        install_packages "$LAB/dns"
        [ "$(host_exec alpha systemctl is-enabled fleet-dns.socket)" = disabled ] || fail "it is $(host_exec alpha systemctl is-enabled fleet-dns.socket)"
        [ "$(dns_states)" = "inactive inactive inactive" ] || fail "it is $(dns_states)"
        host_exec alpha systemctl enable --now fleet-dns.socket >"$LAB/out" 2>&1 || fail "$(cat "$LAB/out")"
        wait_for 10 dns_is_on || fail "it is $(dns_states)"
}

an_upgrade_of_fleet_dns_answers_each_query() {
        local before after asks
        before=$(host_exec alpha systemctl show --value -p InvocationID fleet-dns.socket fleet-dns.service | xargs)
        host_exec alpha /usr/bin/python3 - ns.fleet /run/asked <"$top/tests/dns/asks.py" >"$LAB/asked" 2>&1 &
        asks=$!
        install_packages "$LAB/dns"
        host_exec alpha sh -c 'sleep 1; touch /run/asked'
        wait $asks
        [ "$(cat "$LAB/asked")" = "all of them" ] || fail "$(cat "$LAB/asked")"
        after=$(host_exec alpha systemctl show --value -p InvocationID fleet-dns.socket fleet-dns.service | xargs)
        [ "${before% *}" = "${after% *}" ] && [ "${before#* }" != "${after#* }" ] || fail "not the service alone was started: $before, $after"
}

removal_of_fleet_dns_leaves_nothing() {
        run_dpkg -r fleet-dns || fail "dpkg -r: $(tail -5 "$LAB/out")"
        [ "$(dns_states)" = "inactive inactive inactive" ] || fail "it is $(dns_states)"
        [ -z "$(host_exec alpha find /etc/containers -type f)" ] || fail "the file of podman is left"
        [ -z "$(host_exec alpha ip -o addr show to 169.254.23.79)" ] || fail "the address is left"
        units_untouched "fleet-dns"
}

removal_stops_the_daemon_and_no_unit() {
        run_dpkg -r fleetd || fail "dpkg -r: $(tail -5 "$LAB/out")"
        ! host_exec alpha pgrep -x fleetd >/dev/null || fail "fleetd still runs"
        units_untouched "removal"
        host_exec alpha test -e /var/lib/fleet/tree || fail "removal deleted the state"
        host_exec alpha kill -KILL "$(host_exec alpha systemctl show --value -p MainPID plain-1.service)"
        wait_for 5 host_exec alpha sh -c 'systemctl -q is-active plain-1 && [ "$(systemctl show --value -p NRestarts plain-1)" = 1 ]' ||
                fail "systemd does not restart a unit without fleetd"
        identities alpha >"$LAB/before.units"
}

a_removed_package_comes_back_to_its_state() {
        install_packages "$LAB/new"
        wait_for 10 answers || fail "it does not answer"
        key_is alpha /written/upgrade-1 1 || fail "the keys are lost"
        units_untouched "installation after removal"
        [ "$(on_host list-units --no-legend --fields=active,sub | sort | uniq -c | tr -s ' \t' ' ')" = " 20 active running" ] || fail "$(on_host list-units)"
}

purge_deletes_the_state_and_touches_no_unit() {
        local path
        host_exec alpha touch /etc/fleet/fleetd.conf.d/50-cluster.conf
        host_exec alpha sh -c 'echo >/etc/fleet/units/mine.txt'
        run_dpkg -P fleetd || fail "dpkg -P: $(tail -5 "$LAB/out")"
        units_untouched "purge"
        for path in /var/lib/fleet /etc/fleet/fleetd.conf /etc/fleet/fleetd.conf.d/50-cluster.conf; do
                ! host_exec alpha test -e $path || fail "purge leaves $path"
        done
        host_exec alpha test -e /etc/fleet/fleetd.conf.d/40-web.conf || fail "purge deleted a file of fleetctl"
        host_exec alpha test -e /etc/fleet/units/mine.txt || fail "purge deleted a file of the administrator"
        host_exec alpha getent group fleet >/dev/null || fail "purge deleted the group"
        host_exec alpha rm /etc/fleet/units/mine.txt
}

after_a_purge_it_is_installed_again() {
        install_packages "$LAB/new"
        wait_for 10 answers || fail "no cluster of one: $(on_host list-machines)"
        [ -z "$(key_get alpha /written/upgrade-1)" ] || fail "a key survived the purge"
        units_untouched "installation after a purge"
        wait_for 15 page_answers || fail "no page: $(cat "$LAB/view")"
}

purge_of_fleetctl_leaves_no_page() {
        local path
        host_exec alpha rm -f /etc/fleet/fleetd.conf.d/50-cluster.conf
        run_dpkg -P fleetd fleetctl || fail "dpkg -P: $(tail -5 "$LAB/out")"
        [ "$(web_states)" = "inactive inactive" ] || fail "it is $(web_states)"
        for path in /var/lib/fleet-web /etc/fleet/fleetd.conf.d; do
                ! host_exec alpha test -e $path || fail "purge leaves $path"
        done
        [ -z "$(host_exec alpha find /etc/systemd/system -name 'fleet-web*')" ] || fail "the socket is still enabled"
        units_untouched "purge of fleetctl"
}

scenario packages_are_built packages_have_no_fault packages_of_the_release_before_are_built equal_sources_give_equal_packages \
        a_host_boots_without_fleetd an_installed_package_is_a_cluster_of_one twenty_units_run an_installed_page_waits_for_an_administrator \
        an_upgrade_restarts_the_daemon_once_and_touches_no_unit an_upgrade_of_fleetctl_replaces_the_page metrics_have_the_units_of_the_host a_stopped_process_does_not_block_an_upgrade a_full_disk_ends_an_upgrade_and_touches_no_unit \
        a_package_whose_daemon_does_not_start_touches_no_unit an_installed_fleet_dns_waits_for_an_administrator \
        an_upgrade_of_fleet_dns_answers_each_query removal_of_fleet_dns_leaves_nothing removal_stops_the_daemon_and_no_unit a_removed_package_comes_back_to_its_state \
        purge_deletes_the_state_and_touches_no_unit after_a_purge_it_is_installed_again purge_of_fleetctl_leaves_no_page
