#!/bin/bash
# The RPM packages: dist/rpm/fleetd.spec builds from the archive, and the packages have the files of "make install". They are not installed.
# The programs are those of LAB_BUILD; with CHECK_ALL=yes, the spec file compiles them. Takes 15 s.
top=$(cd "$(dirname "$0")/../.." && pwd)
LAB_BUILD=${LAB_BUILD:-$top/build}
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
failed=0

result() { # NAME STATUS MESSAGE
        if [ "$2" = 0 ]; then
                echo "ok $1"
        else
                echo "not ok $1: $3"
                failed=1
        fi
}

command -v rpmbuild >/dev/null && command -v rpmlint >/dev/null || { echo "not ok the_spec_file_builds: apt-get install rpm rpmlint"; exit 1; }
umask 022
prebuilt=(--define 'configure :' --define 'make_build :' --define "make_install make -s -C $LAB_BUILD install DESTDIR=%{buildroot}")
[ -z "${CHECK_ALL:-}" ] || prebuilt=()
# test-package.sh makes the archive in the same folder.
XZ_OPT=-0 flock "$LAB_BUILD/config.status" sh -c 'make -s -C "$1" dist && cp "$1"/fleetd-*.tar.xz "$2/"' - "$LAB_BUILD" "$scratch" >"$scratch/log" 2>&1 </dev/null &&
        rpmbuild --nodeps -tb --define "_topdir $scratch/rpm" "${prebuilt[@]}" "$scratch"/fleetd-*.tar.xz >"$scratch/log" 2>&1 </dev/null
result the_spec_file_builds $? "$(tail -5 "$scratch/log" | tr '\n' ' ')"
[ $failed = 0 ] || exit 1

rpmlint --rpmlintrc "$top/dist/rpm/fleetd.rpmlintrc" "$top/dist/rpm/fleetd.spec" "$scratch"/rpm/RPMS/*/*.rpm >"$scratch/log" 2>&1 &&
        grep -q ' 0 errors, 0 warnings' "$scratch/log"
result rpmlint_has_no_message $? "$(grep -E ': [EW]: |Error' "$scratch/log" | tr '\n' ' ')"

# Files, and the folder that exists without one.
make -s -C "$LAB_BUILD" install DESTDIR="$scratch/image" prefix=/usr sysconfdir=/etc >"$scratch/log" 2>&1 </dev/null
result make_install_ends_well $? "$(tail -3 "$scratch/log" | tr '\n' ' ')"
(cd "$scratch/image" && find . ! -type d -o -empty) | sed 's/^\.//' | sort >"$scratch/installed"
rpm -qp --qf '[%{FILENAMES} %{FILEMODES:perms}\n]' "$scratch"/rpm/RPMS/*/*.rpm 2>/dev/null | awk '$2 !~ /^d/ || $1 == "/etc/fleet/units" { print $1 }' | grep -vE '^/usr/(share/licenses|lib/\.build-id)/' |
         sort >"$scratch/packaged"
diff "$scratch/installed" "$scratch/packaged" >"$scratch/log" && [ -s "$scratch/installed" ]
result the_packages_have_the_files_of_make_install $? "$(grep '^[<>]' "$scratch/log" | tr '\n' ' ')"

names=$(rpm -qp --qf '%{NAME}\n' "$scratch"/rpm/RPMS/*/*.rpm 2>/dev/null | sort | tr '\n' ' ')
[ "$names" = "fleet-dns fleet-doc fleetctl fleetd " ]
result there_are_four_packages $? "$names"
[ "$(rpm -qp --configfiles "$scratch"/rpm/RPMS/*/fleetd-[0-9]*.rpm 2>/dev/null)" = /etc/fleet/fleetd.conf ]
result the_configuration_is_kept $? "$(rpm -qp --configfiles "$scratch"/rpm/RPMS/*/fleetd-[0-9]*.rpm 2>&1)"
[ "$(rpm -qp --configfiles "$scratch"/rpm/RPMS/*/fleetctl-[0-9]*.rpm 2>/dev/null)" = /etc/fleet/fleetd.conf.d/40-web.conf ]
result the_right_of_the_page_is_kept $? "$(rpm -qp --configfiles "$scratch"/rpm/RPMS/*/fleetctl-[0-9]*.rpm 2>&1)"
# An upgrade restarts the page, and fleetd reads its right; the macros of systemd are missing on Debian.
scripts=$(rpm -qp --scripts "$scratch"/rpm/RPMS/*/fleetctl-[0-9]*.rpm 2>/dev/null)
grep -q 'postun_with_restart fleet-web.service' <<<"$scripts" && grep -q 'systemctl reload fleetd.service' <<<"$scripts"
result an_upgrade_replaces_the_page $? "$scripts"
exit $failed
