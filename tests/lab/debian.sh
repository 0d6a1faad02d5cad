# Another Debian beside this machine's, and commands in it: sourced by ./check. Needs root, and the functions of deps.sh.
#
# The root file system is made by debootstrap, from the mirror that apt uses here, with all that building and testing need, and kept in
# DEBIAN_CACHE: it is made anew after DEBIAN_DAYS days, or when the list of packages has changed. Commands see it read-only, in a mount
# namespace whose root it is, with this machine's kernel, processes, network and /var/tmp: a bed of hosts that is made there (lab.sh)
# boots that Debian.

DEBIAN_CACHE=${DEBIAN_CACHE:-/var/cache/fleetd-check}
DEBIAN_DAYS=${DEBIAN_DAYS:-5}

# debian_make CODENAME LOG: makes the root, or does nothing if there is a recent one. If a new one cannot be made, an older one is used.
debian_make() (
        root=$DEBIAN_CACHE/$1 log=$2 packages=$(deps_list "$1"; echo podman)
        mkdir -p "$DEBIAN_CACHE" && exec 8>"$root.lock" && flock 8 || return 1
        if [ "$(cat "$root/packages" 2>/dev/null)" = "$packages" ]; then
                [ -n "$(find "$root/packages" -mtime "+$DEBIAN_DAYS")" ] || return 0
        else
                rm -rf --one-file-system "$root"
        fi
        rm -rf --one-file-system "$root.new"
        if mkdir "$root.new" && debian_install "$1" "$root.new/root" "$packages" >"$log" 2>&1 </dev/null; then
                rm -rf --one-file-system "$root"
                echo "$packages" >"$root.new/packages"
                mv "$root.new" "$root"
        else
                tail -5 "$log" >&2
                echo "a root of Debian $1 cannot be made; all that was said: $log" >&2
                [ -d "$root" ] && echo "the one of $(date -r "$root/packages" +%F) is used" >&2
        fi
)

debian_install() {
        local codename=$1 root=$2 packages=$3 mirror
        mirror=$(deps_mirror) && debootstrap --variant=minbase "$codename" "$root" "$mirror" || return 1
        # No documentation, and no sync for each file: what is not whole is made anew.
        printf '%s\n' force-unsafe-io 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/locale/*' >"$root/etc/dpkg/dpkg.cfg.d/check"
        # shellcheck disable=SC2086
        chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages &&
                chroot "$root" apt-get clean
}

# in_debian CODENAME COMMAND...: runs it there, in the folder of the tree.
in_debian() {
        local root=$DEBIAN_CACHE/$1/root
        shift
        # pivot_root, not chroot: the root of the namespace is what others get who enter it (nsenter).
        unshare --mount --propagation private sh -ec '
                root=$1 top=$2
                shift 2
                mount --bind "$root" "$root"
                cd "$root"
                for d in proc sys dev tmp var/tmp; do mount --rbind "/$d" "$d"; done
                mount -t tmpfs -o mode=755 tmpfs run
                mkdir -p run/lock ".$top"
                mount --bind "$top" ".$top"
                mount -o remount,bind,ro .
                pivot_root . mnt
                umount -l /mnt
                cd "$top"
                exec "$@"' - "$root" "$top" "$@"
}
