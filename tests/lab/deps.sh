# Packages for building and testing, installed with apt on Debian 12 or 13: sourced by ./quickstart and ./check.

DEPS_LAB="git systemd systemd-sysv systemd-container dbus iproute2 util-linux python3 procps curl openssl etcd-client debootstrap nftables
        bind9-dnsutils ldnsutils python3-dnspython musl-tools"
DEPS_FORMAT=   # set by ./check: checks of layout, metrics and packages, on Debian 12 only
DEPS_APT=      # set by ./check: options of apt-get
DEPS_BUILD="build-essential autoconf automake autoconf-archive pkg-config libuv1-dev liblmdb-dev uthash-dev libgnutls28-dev
        libsystemd-dev libjansson-dev libsmartcols-dev libldns-dev libxxhash-dev scdoc libcmocka-dev debhelper"

deps_list() {
        local codename=$1
        echo $DEPS_BUILD $DEPS_LAB
        case $codename in
        bookworm) echo $DEPS_FORMAT node-llhttp libraft-dev/bookworm-backports libraft0/bookworm-backports ;;
        *) echo libllhttp-dev libraft-dev systemd-dev ;;
        esac
        # The two variants of libcurl exclude each other: use the installed one.
        deps_has libcurl4-openssl-dev || echo libcurl4-gnutls-dev
}

deps_has() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

deps_missing() {
        local p
        for p in $(deps_list "$1"); do
                case $p in
                # The engine of libraft exists from 0.22 on; bookworm itself has an older version of the package.
                libraft*) dpkg --compare-versions "$(dpkg-query -W -f '${Version}' "${p%/*}" 2>/dev/null || echo 0)" ge 0.22 || echo "$p" ;;
                *) deps_has "${p%/*}" || echo "$p" ;;
                esac
        done
}

# The mirror of this machine's Debian release, from the configuration of apt.
deps_mirror() {
        local codename uri
        codename=$(. /etc/os-release 2>/dev/null; echo "${VERSION_CODENAME:-}")
        uri=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk -v codename="$codename" '$2 == codename { print $1; exit }')
        [ -n "$uri" ] || { echo "apt knows no source of $codename from which to derive the mirror" >&2; return 1; }
        echo "$uri"
}

# Installs missing packages and prints their number; the output of apt goes to the file LOG.
deps_install() {
        local log=$1 codename missing uri n

        [ "$(id -u)" = 0 ] || { echo "installing packages needs root" >&2; return 1; }
        codename=$(. /etc/os-release 2>/dev/null; echo "${VERSION_CODENAME:-}")
        command -v apt-get >/dev/null && [ -n "$codename" ] || { echo "this is no Debian; install by hand: $(deps_list trixie)" >&2; return 1; }
        missing=$(deps_missing "$codename")
        [ -n "$missing" ] || { echo 0; return 0; }

        export DEBIAN_FRONTEND=noninteractive
        # A failing package source matters only if a needed package cannot be installed.
        apt-get update -qq >"$log" 2>&1 </dev/null
        case $missing in
        *bookworm-backports*)
                if ! apt-get indextargets --format '$(RELEASE)' 'Created-By: Packages' | grep -qx bookworm-backports; then
                        uri=$(deps_mirror) || return 1
                        printf 'Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' \
                                "$uri" >/etc/apt/sources.list.d/bookworm-backports.sources
                        apt-get update -qq >>"$log" 2>&1 </dev/null
                fi ;;
        esac
        n=$(dpkg-query -W 2>/dev/null | wc -l)
        apt-get install $DEPS_APT -y -qq --no-install-recommends $missing >>"$log" 2>&1 </dev/null || {
                tail -20 "$log" >&2
                echo "apt-get could not install: $missing" >&2
                return 1
        }
        echo $(($(dpkg-query -W | wc -l) - n))
}
