# Another Debian release beside that of this machine, and commands in it: sourced by ./check. Needs root, and the functions of deps.sh.
#
# debootstrap creates the root file system from the mirror of apt, with all packages for building and testing, and stores it in
# DEBIAN_CACHE. It is created again after DEBIAN_DAYS days, or when the list of packages has changed. Commands see it read-only, in a mount
# namespace whose root it is, with the kernel, processes, network and /var/tmp of this machine. Hosts of a lab in it (lab.sh)
# boot that release.

DEBIAN_CACHE=${DEBIAN_CACHE:-/var/cache/fleetd-check}
DEBIAN_DAYS=${DEBIAN_DAYS:-5}

# debian_make CODENAME LOG: creates the root, unless there is a recent one. If a new one cannot be created, an older one is used.
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
        # No documentation, and no sync for each file: an incomplete root is created again.
        printf '%s\n' force-unsafe-io 'path-exclude=/usr/share/doc/*' 'path-exclude=/usr/share/locale/*' >"$root/etc/dpkg/dpkg.cfg.d/check"
        # shellcheck disable=SC2086
        chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages &&
                chroot "$root" apt-get clean
}

# in_debian CODENAME COMMAND...: runs it in that root, in the source folder.
in_debian() {
        local root=$DEBIAN_CACHE/$1/root
        shift
        # pivot_root, not chroot: nsenter uses the root of the namespace.
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
