# A lab of real hosts on one machine: a bash library, sourced by ./quickstart and by the scenarios.
#
# Each host is a real systemd with its own D-Bus, journal, network address and disk, in an overlay over this machine's
# root file system, booted by systemd-nspawn. Everything of a lab (bridge, links, mounts, hosts) is in the namespaces of one
# process, the supervisor, and below one cgroup. When either is killed, the kernel removes the rest, so lab_down can clean up after any
# crash.
#
#   LAB_NAME    the name of the lab; several labs can run at a time, with the same addresses
#   LAB_HOSTS   names of its hosts, in the order of their addresses (10.90.0.1, .2, ...)
#   LAB_NSPAWN_OPTIONS  further options of systemd-nspawn for hosts that are booted while it is set
#   LAB_REBOOTS "yes": a host that reboots boots again by itself; otherwise it powers off
#   LAB_TOKENS  "yes": hosts have no key file and no configuration, and join by host_join
#   LAB_CGROUP  the cgroup, a path below the mount of cgroup v2, in which the lab has its own; ./check sets it
#   LAB_KEEP    "yes": the lab outlives the shell that created it (quickstart); otherwise it ends with it (tests)
#
# Functions return 0, or 1 after a message on stderr. Needs root, and the packages of tests/lab/deps.sh.

LAB_NAME=${LAB_NAME:-test}
LAB_HOSTS=${LAB_HOSTS:-alpha beta gamma}
LAB_KEEP=${LAB_KEEP:-no}
LAB=/var/tmp/fleetd-lab-$LAB_NAME
LAB_CG2=$(awk '{ for (i = 1; i <= NF; i++) if ($i == "-" && $(i + 1) == "cgroup2") { print $5; exit } }' /proc/self/mountinfo)
LAB_CG=$LAB_CG2${LAB_CGROUP:-}/fleetd-lab-$LAB_NAME
LAB_CG1=/sys/fs/cgroup/systemd${LAB_CGROUP:-}/fleetd-lab-$LAB_NAME

# Units that hosts of a lab do not run: hardware, logins, timers that disturb measurements.
LAB_MASKS="systemd-udevd.service systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket
        systemd-logind.service systemd-user-sessions.service getty.target console-getty.service container-getty@.service
        systemd-networkd.service systemd-networkd.socket systemd-resolved.service systemd-timesyncd.service
        systemd-random-seed.service systemd-sysusers.service systemd-hwdb-update.service systemd-firstboot.service
        systemd-machine-id-commit.service systemd-update-utmp.service systemd-update-done.service ldconfig.service
        systemd-journal-catalog-update.service systemd-tmpfiles-clean.timer systemd-oomd.service systemd-binfmt.service
        kmod-static-nodes.service systemd-modules-load.service systemd-sysctl.service systemd-pcrphase.service
        proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount
        dev-hugepages.mount dev-mqueue.mount remote-fs.target cryptsetup.target nfs-client.target rpcbind.socket
        apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer man-db.timer
        systemd-networkd-wait-online.service networking.service ssh.service cron.service rsyslog.service etcd.service"

lab_error() { echo "lab: $*" >&2; return 1; }

# Run a command until it succeeds, for at most SECONDS (may have a fraction); false if it never did. A try takes some processes: after
# the first ones, the pauses are longer than the tries.
wait_for() {
        local end n=0
        LC_ALL=C printf -v end %.0f "${1}e6"
        end=$((${EPOCHREALTIME//[!0-9]/} + end))
        shift
        until "$@" >/dev/null 2>&1; do
                [ "${EPOCHREALTIME//[!0-9]/}" -lt $end ] || return 1
                if [ $((n++)) -lt 10 ]; then sleep 0.05; else sleep 0.2; fi
        done
}

# --- the lab ------------------------------------------------------------------------------------------------------

# The PID of the supervisor, if it still is the process that lab_up recorded: PIDs are reused.
lab_supervisor() {
        local pid start
        read -r pid start 2>/dev/null <"$LAB/supervisor" || return 1
        [ "$(awk '{ print $22 }' "/proc/$pid/stat" 2>/dev/null)" = "$start" ] || return 1
        echo "$pid"
}

lab_is_up() { lab_supervisor >/dev/null; }

# Run a command in the namespaces of the lab, with its bridge, links and mounts.
in_lab() {
        local sup
        sup=$(lab_supervisor) || { lab_error "lab $LAB_NAME is not up"; return 1; }
        nsenter -t "$sup" -m -n -p -i -u -- "$@"
}

lab_check_machine() {
        [ "$(id -u)" = 0 ] || { lab_error "this needs root"; return 1; }
        [ -n "$LAB_CG2" ] || { lab_error "no cgroup v2 is mounted on this machine"; return 1; }
        command -v systemd-nspawn >/dev/null || { lab_error "systemd-nspawn is missing: ./quickstart deps"; return 1; }
        [ "$(stat -f -c %T /var/tmp)" != overlayfs ] || {
                lab_error "/var/tmp is on an overlay, where no host's disk can be; mount a tmpfs there"; return 1; }
}

# Create an empty lab: supervisor, namespaces, bridge. Remains of an earlier lab of this name are removed first.
lab_up() {
        local sup= p i tie="setpriv --pdeathsig KILL"

        lab_check_machine || return 1
        lab_down || return 1
        mkdir -p "$LAB" "$LAB_CG/sup" || return 1
        [ "$LAB_KEEP" = no ] || tie=
        sh -c 'echo 0 >"$1"/cgroup.procs; shift
               exec setsid "$@" unshare --mount --net --pid --ipc --uts --fork --kill-child=SIGKILL --mount-proc \
                       --propagation private sh -c "trap \"\" CHLD; exec sleep infinity"' - "$LAB_CG/sup" $tie \
                </dev/null >/dev/null 2>&1 9>&- &
        disown                                  # no message about its end
        for ((i = 0; i < 500; i++)); do         # ready when the child has become "sleep": then all namespaces exist
                for p in $(cat "$LAB_CG/sup/cgroup.procs"); do
                        [ "$(cat "/proc/$p/comm" 2>/dev/null)" != sleep ] || sup=$p
                done
                [ -z "$sup" ] || break
                sleep 0.02
        done
        [ -n "$sup" ] || { lab_error "the supervisor of lab $LAB_NAME did not start"; return 1; }
        echo "$sup $(awk '{ print $22 }' "/proc/$sup/stat")" >"$LAB/supervisor"
        in_lab sh -ec 'mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/netns; ip link set lo up
                for i in all default; do echo 1 >/proc/sys/net/ipv6/conf/$i/disable_ipv6; done 2>/dev/null || true
                ip link add br0 type bridge stp_state 0 forward_delay 0; ip link set br0 up
                ip addr add 10.90.0.254/24 dev br0'
}

# End and remove everything of this lab, in any state.
lab_down() {
        local c i

        if [ -d "$LAB_CG" ]; then
                for c in "$LAB_CG"/*/cgroup.freeze; do
                        [ ! -e "$c" ] || echo 0 >"$c"           # frozen processes do not end on all kernels
                done
                echo 1 >"$LAB_CG/cgroup.kill"
                wait_for 20 grep -q 'populated 0' "$LAB_CG/cgroup.events" || {
                        lab_error "processes of lab $LAB_NAME do not end"; return 1; }
        fi
        for c in "$LAB_CG" "$LAB_CG1"; do
                cgroup_remove "$c" || return 1
        done
        [ -d "$LAB" ] || return 0
        if grep -q " $LAB/" /proc/self/mounts; then
                lab_error "a mount is left below $LAB"          # removing files through it could remove files of this machine
                return 1
        fi
        rm -rf "$LAB"
}

# A cgroup is busy for some milliseconds after the end of its last process.
cgroup_remove() {
        local i
        for ((i = 0; i < 200; i++)); do
                [ -d "$1" ] || return 0
                find "$1" -depth -type d -exec rmdir {} + 2>/dev/null && return 0
                sleep 0.02
        done
        lab_error "cannot remove the cgroup $1"
}

# --- hosts --------------------------------------------------------------------------------------------------------

host_known() { case " $LAB_HOSTS " in *" $1 "*) true ;; *) false ;; esac; }

# Its number stays when LAB_HOSTS is changed later.
host_number() {
        local n=1 h
        ! cat "$LAB/$1/number" 2>/dev/null || return 0
        for h in $LAB_HOSTS; do
                [ "$h" != "$1" ] || { echo $n; return 0; }
                n=$((n + 1))
        done
        return 1
}

host_address() { echo "10.90.0.$(host_number "$1")"; }

host_machine_id() { printf '%s.%s' "$LAB_NAME" "$1" | md5sum | cut -c1-32; }

# The PID, in this namespace, of process 1 of a host; its root is /proc/PID/root.
host_init_once() {
        local p key rest
        while read -r p; do
                while read -r key rest && [ "$key" != NSpid: ]; do :; done 2>/dev/null <"/proc/$p/status"
                if [ "$key" = NSpid: ] && [ "${rest##*[[:space:]]}" = 1 ]; then
                        echo "$p"
                        return 0
                fi
        done 2>/dev/null <"$LAB_CG/$1/payload/init.scope/cgroup.procs"
        return 1
}

# The same, again if it was not found although the host is on: the list may change while it is read.
host_init() { host_init_once "$1" || { host_is_on "$1" && wait_for 0.5 host_init_once "$1" && host_init_once "$1"; }; }

host_is_on() { grep -qs 'populated 1' "$LAB_CG/$1/cgroup.events"; }

# The initial contents of a host's disk: an upper layer that hides files of this machine.
host_make() {
        local h=$1 u=$LAB/$1/up d hidden="var tmp root home srv mnt media opt boot run etc/systemd/system etc/init.d etc/cron.d etc/fleet"

        [ ! -d "$u" ] || return 0
        mkdir -p "$u" "$LAB/$h/work" "$LAB/$h/root"
        d=$(host_number "$h") && echo "$d" >"$LAB/$h/number"
        for d in $hidden; do
                mkdir -p "$u/$d"
        done
        (cd "$u" && python3 -c 'import os, sys
for d in sys.argv[1:]:
    os.setxattr(d, "trusted.overlay.opaque", b"y")' $hidden) || return 1
        mkdir -p "$u"/var/{log,lib,cache,tmp} "$u"/etc/systemd/journald.conf.d "$u"/etc/systemd/system/multi-user.target.wants
        find "$u" -type d -exec chmod 755 {} +          # independent of the umask of this shell
        chmod 1777 "$u/tmp" "$u/var/tmp"
        chmod 700 "$u/root"
        ln -s ../run "$u/var/run"
        host_machine_id "$h" >"$u/etc/machine-id"
        echo "$h" >"$u/etc/hostname"
        : >"$u/etc/resolv.conf"
        : >"$u/etc/fstab"
        {
                echo 127.0.0.1 localhost
                for d in $LAB_HOSTS; do
                        echo "$(host_address "$d") $d"
                done
        } >"$u/etc/hosts"
        printf '[Journal]\nStorage=persistent\nRateLimitBurst=0\nAudit=no\n' >"$u/etc/systemd/journald.conf.d/lab.conf"
        mkdir -p "$u/var/log/journal"
        for d in $LAB_MASKS; do
                ln -s /dev/null "$u/etc/systemd/system/$d"
        done
        ln -s /lib/systemd/system/multi-user.target "$u/etc/systemd/system/default.target"
        chmod 644 "$u"/etc/{machine-id,hostname,resolv.conf,fstab,hosts} "$u/etc/systemd/journald.conf.d/lab.conf"
}

# Boot a host with the disk that it had before; return at once.
host_up() {
        local h=$1 n d=$LAB/$1

        n=$(host_number "$h") || { lab_error "no host $h in this lab (hosts: $LAB_HOSTS)"; return 1; }
        ! host_is_on "$h" || { lab_error "$h is on"; return 1; }
        host_make "$h" || return 1
        mkdir -p "$LAB_CG/$h/exec"
        # Mount the overlay again each time: a mounted one caches "no such file" for files that were created later.
        in_lab sh -ec "! mountpoint -q $d/root || umount $d/root
                mount -t overlay overlay -o lowerdir=/,upperdir=$d/up,workdir=$d/work $d/root
                ip netns del $h 2>/dev/null || true
                ip netns add $h
                ip link add v$h type veth peer name host0 netns $h address 02:00:00:00:00:$(printf %02x $n)
                ip link set v$h master br0 up
                ip -n $h link set lo up; ip -n $h addr add 10.90.0.$n/24 dev host0; ip -n $h link set host0 up
                echo 0 >$LAB_CG/$h/cgroup.procs
                exec </dev/null >>$d/console 2>&1 9>&-
                # A host that has powered itself off answers no packets: its network ends with it.
                # systemd-nspawn ends with 133 if the host is to boot again.
                setsid sh -c '\"\$@\"
                        while [ \$? = 133 ] && [ ${LAB_REBOOTS:-no} = yes ]; do
                                umount /run/systemd/nspawn/unix-export/$h; rmdir /run/systemd/nspawn/unix-export/$h
                                \"\$@\"
                        done
                        ip link set v$h down' - env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_LOCK=0 \
                        systemd-nspawn --quiet --register=no --keep-unit --settings=no --machine=$h --hostname=$h \
                        --directory=$d/root --network-namespace-path=/run/netns/$h --capability=CAP_NET_ADMIN \
                        --link-journal=no --resolv-conf=off --timezone=off ${LAB_NSPAWN_OPTIONS:-} --boot systemd.show_status=0 &" || {
                lab_error "cannot boot $h"; return 1; }
}

# Wait until a host has booted; failed services are ignored.
host_wait() {
        wait_for "${2:-60}" host_booted "$1" "${2:-60}" && return 0
        lab_error "$1 has not booted within ${2:-60} s; its console is in $LAB/$1/console"
}

host_booted() { HOST_LIMIT=${2:-60} host_exec "$1" systemctl is-system-running --wait | grep -qE '^(running|degraded)'; }

# Run a command inside a host as root, with a clean environment. Its parent is a shell outside: a host that shuts down stops all processes for
# a moment, with which nsenter as the parent would stop itself, and not take the end of the command, for which the host waits. That shell is
# in the host but for its process ID: env, because a builtin command, as kill, would see the processes of this machine.
host_exec() {
        local h=$1 p
        shift
        p=$(host_init "$h") || { lab_error "$h is off"; return 1; }
        sh -c 'echo 0 >"$1"; shift; exec "$@"' - "$LAB_CG/$h/exec/cgroup.procs" \
                ${HOST_LIMIT:+timeout "$HOST_LIMIT"} nsenter -t "$p" -a --no-fork -- env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" \
                sh -c 'env -- "$@"; exit $?' - "$@"
}

# Power cut. The link is cut first, so that the peers receive neither FIN nor RST.
host_kill() {
        local h=$1
        host_is_on "$h" || { lab_error "$h is off already"; return 1; }
        in_lab ip link set "v$h" down 2>/dev/null
        host_end "$h"
}

# End the processes only: the kernel closes the connections to the peers.
host_end() {
        local h=$1
        echo 0 >"$LAB_CG/$h/cgroup.freeze"
        echo 1 >"$LAB_CG/$h/cgroup.kill"
        wait_for 20 grep -q 'populated 0' "$LAB_CG/$h/cgroup.events" || { lab_error "processes of $h do not end"; return 1; }
        host_clear "$h"
}

# Remove the remains of a host that is off; its disk stays.
host_clear() {
        local h=$1
        cgroup_remove "$LAB_CG/$h" || return 1
        ! [ -d "$LAB_CG1/$h" ] || cgroup_remove "$LAB_CG1/$h"
        # Later versions of nspawn leave a mount, and refuse to boot a host of that name again.
        in_lab sh -c "ip link del v$h; ip netns del $h; umount $LAB/$h/root
                      cd /run/systemd/nspawn/unix-export && umount $h; rmdir $h" 2>/dev/null
        return 0
}

# Orderly shutdown.
host_off() {
        local p
        p=$(host_init "$1") || { lab_error "$1 is off already"; return 1; }
        kill -s RTMIN+4 "$p"
        wait_for 100 host_is_off "$1" || { lab_error "$1 does not shut down"; return 1; }
        host_clear "$1"
}

host_is_off() { ! host_is_on "$1"; }

# Cut and restore the network link.
host_cut() { in_lab ip link set "v$1" down; }
host_heal() { in_lab ip link set "v$1" up; }
host_is_cut() { in_lab ip -o link show "v$1" | grep -q 'state DOWN'; }

# Freeze a machine: no process of it runs, its kernel still answers.
host_pause() {
        echo 1 >"$LAB_CG/$1/cgroup.freeze"
        wait_for 10 grep -q 'frozen 1' "$LAB_CG/$1/cgroup.events"
}
host_resume() {
        echo 0 >"$LAB_CG/$1/cgroup.freeze"
        wait_for 10 grep -q 'frozen 0' "$LAB_CG/$1/cgroup.events"
}

# Cut the path between two hosts only, in both directions; lab_join restores all paths of these hosts. The classic BPF programs
# compare the last byte of the frame's source address, which is the number of the host.
lab_part() {
        local a b
        a=$(host_number "$1") && b=$(host_number "$2") || return 1
        in_lab sh -ec "
                tc qdisc add dev v$1 clsact 2>/dev/null || true; tc qdisc add dev v$2 clsact 2>/dev/null || true
                tc filter add dev v$2 egress bpf da bytecode '4,48 0 0 11,21 0 1 $a,6 0 0 2,6 0 0 4294967295'
                tc filter add dev v$1 egress bpf da bytecode '4,48 0 0 11,21 0 1 $b,6 0 0 2,6 0 0 4294967295'"
}
# A host loses a fifth of the frames that it is sent, except ARP, until lab_join.
lab_lose() {
        in_lab sh -ec "
                tc qdisc add dev v$1 clsact 2>/dev/null || true
                tc filter add dev v$1 egress bpf da bytecode '6,40 0 0 12,21 3 0 2054,32 0 0 4294963256,53 1 0 858993459,6 0 0 2,6 0 0 4294967295'"
}
lab_join() {
        local h
        for h in "$@"; do
                in_lab tc qdisc del dev "v$h" clsact 2>/dev/null
        done
        return 0
}

# --- fleetd on the hosts ------------------------------------------------------------------------------------------

# Install a build into an image, from which host_install fills the disks of hosts.
lab_install() {
        local build=$1
        rm -rf "$LAB/image"
        mkdir -p "$LAB"
        (umask 022; flock "$build/config.status" make -C "$build" -s install DESTDIR="$LAB/image" >"$LAB/install.log" 2>&1) || {
                cat "$LAB/install.log" >&2
                lab_error "make install failed"
                return 1
        }
        (umask 077; od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$LAB/peer.key"; echo >>"$LAB/peer.key")
}

# Copy the folders in a folder to the disk of a host. If this machine has a link (/lib -> usr/lib), a folder in the upper layer would hide its target.
host_add() {
        local d to
        for d in "$2"/*/; do
                to=$LAB/$1/up$(readlink -f "/$(basename "$d")")
                mkdir -p "$to" && cp -a "$d/." "$to/" || return 1
        done
}

# Install fleetd on the disk of a host; further arguments are lines of [Fleetd]. By default its configuration names the key file and the first
# host, which founds the cluster. With LAB_TOKENS=yes each host is a cluster of one until host_join.
host_install() {
        local h=$1 u=$LAB/$1/up first=${LAB_HOSTS%% *} zones=(a b c d e f g h i) n
        shift
        host_make "$h" || return 1
        n=$(host_number "$h")
        host_add "$h" "$LAB/image"
        if ! grep -qs '^fleet:' "$u/etc/group"; then
                { grep -vE '^fleet(-web)?:' /etc/group; echo fleet:x:890:; echo fleet-web:x:894:; } >"$u/etc/group"
                { grep -v '^fleet-web:' /etc/passwd; echo fleet-web:x:894:894::/:/usr/sbin/nologin; } >"$u/etc/passwd"
        fi
        mkdir -p "$u/etc/fleet/fleetd.conf.d" "$u/etc/fleet/units"
        if [ "${LAB_TOKENS:-no}" = no ]; then
                install -m 600 "$LAB/peer.key" "$u/etc/fleet/peer.key"
                set -- "Name=$h" "ListenPeer=$(host_address "$h"):2380" PeerKey=/etc/fleet/peer.key "Metadata=zone=${zones[(n - 1) % 9]}" "$@"
                [ "$h" = "$first" ] || set -- "$@" "Join=$(host_address "$first"):2380"
        fi
        [ $# = 0 ] || printf '%s\n' '[Fleetd]' "$@" >"$u/etc/fleet/fleetd.conf.d/10-lab.conf"
        find "$u/etc/fleet" -type d -exec chmod 755 {} +
        find "$u/etc/fleet/fleetd.conf.d" "$u/etc/group" -type f -exec chmod 644 {} +
        ln -sf /lib/systemd/system/fleetd.service "$u/etc/systemd/system/multi-user.target.wants/fleetd.service"
}

# Let a host join the cluster of the first host by a token; further arguments are options of "fleetctl token".
host_join() {
        local h=$1 token
        shift
        token=$(host_exec "${LAB_HOSTS%% *}" fleetctl token "$@") || return 1
        host_exec "$h" fleetctl join - <<<"$token"
}

# The path of a host's fleet.sock in this namespace.
host_socket() {
        local p
        p=$(host_init "$1") && echo "/proc/$p/root/run/fleet.sock"
}

# Run the fleetctl of LAB_BUILD here, connected to the daemon of host $1.
host_fleetctl() {
        local s h=$1
        shift
        s=$(host_socket "$h") || { lab_error "$h is off"; return 1; }
        FLEETCTL_ENDPOINT=unix://$s ${FLEETCTL_LIMIT:+timeout "$FLEETCTL_LIMIT"} "$LAB_BUILD/client/fleetctl" "$@"
}
