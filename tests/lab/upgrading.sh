# Rolling upgrades between the build in LAB_BEFORE and that in LAB_BUILD: sourced by *upgrade*.sh after scenario.sh.

before_cluster_up() { LAB_BUILD=$LAB_BEFORE cluster_up; } # with its feature level

# plain_units_run N: start three units; N run at least then, with those that were started before. Their identities are kept.
plain_units_run() {
        local n
        for n in 1 2 3; do
                runs_forever plain-$n.service </dev/null
        done
        fleetctl beta start plain-{1,2,3}.service >"$LAB/out" 2>&1 || fail "start: $(cat "$LAB/out")"
        identities >"$LAB/before"
        [ "$(wc -l <"$LAB/before")" -ge "$1" ] || fail "too few units run: $(cat "$LAB/before")"
}

# put_version HOST BUILD: the next start of fleetd on the host is of that build.
put_version() {
        host_exec "$1" sh -ec 'to=$(systemctl show --value -p ExecStart fleetd | sed "s/.*path=\([^ ]*\).*/\1/"); cat >"$to.new"; chmod 755 "$to.new"; mv "$to.new" "$to"' \
                <"$2/fleetd/fleetd" || fail "fleetd cannot be replaced on $1"
}
# run_version HOST BUILD: the daemon of that build runs on the host.
run_version() {
        put_version "$1" "$2"
        host_exec "$1" systemctl restart fleetd || fail "fleetd does not restart on $1"
        [ "$(host_exec "$1" sh -c 'sha256sum </proc/$(systemctl show --value -p MainPID fleetd)/exe')" = "$(sha256sum <"$2/fleetd/fleetd")" ] || fail "$1 runs another fleetd"
}

# roll BUILD PREFIX HOST...: upgrades or downgrades these hosts one after the other, with writes meanwhile.
roll() {
        local build=$1 prefix=$2 h other
        shift 2
        for h; do
                other=$(others "$h" | head -1)
                writer_start "$other" 10 "$prefix-$h"
                run_version "$h" "$build"
                wait $WRITER
                cluster_whole
                acknowledged_writes_are_there "$prefix-$h" "$h"
                WHAT="$prefix of $h" untouched "$(cat "$LAB/before")"
        done
        wait_for 30 three_vote alpha || fail "roles: $(roles alpha)"
}

# The first token gives each host a certificate.
hosts_get_certificates() {
        local h
        fleetctl alpha token >"$LAB/out" 2>&1 || fail "token: $(cat "$LAB/out")"
        for h in $LAB_HOSTS; do
                wait_for 20 host_exec "$h" test -e /var/lib/fleet/identity/certificate.pem || fail "$h has no certificate"
        done
}
