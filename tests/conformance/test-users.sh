#!/bin/bash
# Users with certificates at ListenTLS=, with one daemon: the examples of fleet-security(7), fleetctl and curl over https, and input that is
# wrong. A revoked user has lost its watch when fleetctl returns. Takes 5 s.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$(realpath "${CHECK_BUILD:-build}")
fleetctl=$build/client/fleetctl
. "$here/daemon.sh"

ok() { echo "ok $1"; }
not_ok() { echo "not ok $1: $2"; tail -n 3 "$scratch/alone.log" | sed 's/^/# /'; }
says() { if grep -qF -- "$2" <<<"$3"; then ok "$1"; else not_ok "$1" "'$2' is not in: $3"; fi; }
ctl() { "$fleetctl" --endpoint="unix://$scratch/alone.sock" "$@"; }
fails() { # WORDS OPTION...: the daemon does not start with these options
        local words=$1
        shift
        says "with_${*//[^a-zA-Z0-9]/_}_it_does_not_start" "$words" "$(timeout 20 "$build/fleetd/fleetd" --config="$scratch/empty" --state-directory="$scratch/no" \
                --runtime-directory="$scratch/no-run" --unit-directory= --cluster-file= --listen-socket= --listen-client= --agent=no --name=no "$@" 2>&1)"
}

touch "$scratch/empty" "$scratch/alone.log"
port=$(free_port)
tls=localhost:$port
fails "192.0.2.1:$port" --listen-tls="192.0.2.1:$port"
fails "requires ServerNames=" --listen-tls="0.0.0.0:$port"
fails "expected ADDR:PORT" --listen-tls=localhost
fails "expected a DNS name without wildcard" --listen-tls="127.0.0.1:$port" --server-names='*.example'
fails "requires ListenTLS=" --server-names=alpha

daemon_start "$build/fleetd/fleetd" alone --listen-tls="127.0.0.1:$port" --server-names=localhost ||
        { echo "not ok daemon_starts: $(daemon_word alone)"; exit 1; }
says the_log_states_why_nothing_listens "does not listen yet: the cluster has no CA" "$(cat "$scratch/alone.log")"
cd "$scratch" || exit 1
ctl cluster level 6 --yes >/dev/null 2>&1

# The examples of the manual, with this daemon as alpha.example.
says the_first_user_gets_a_certificate "Certificate in users/ops.pem" "$(ctl cert ops --rights=units-see,keys-write:/app --out=users 2>&1)"
for i in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
        sleep 0.1
done
examples() { sed -n '/^# USERS AND RIGHTS/,/^# [A-Z][A-Z]/p' "$here/../../man/fleet-security.7.scd" | grep -E '^[#$] (fleetctl|curl) '; }
n=0
while read -r prompt command; do
        command=${command//alpha.example:2443/$tls}
        [ "$prompt" = '#' ] && command=${command/#fleetctl/fleetctl --endpoint=unix:\/\/$scratch\/alone.sock}
        if output=$(PATH="$build/client:$PATH" bash -c "$command" </dev/null 2>&1); then n=$((n + 1)); else not_ok the_manual "$command: $output"; fi
done < <(examples)
[ $n = 6 ] && ok "${n}_examples_of_the_manual_run" || not_ok examples_of_the_manual "$n of 6"

rm -r users
ctl cert ops --rights=units-see,keys-write:/app --out=users >/dev/null
over() { "$fleetctl" --endpoint="https://$tls" --cacert=users/ca.pem --cert=users/ops.pem --key=users/ops.key "$@" 2>&1; }
web() { curl -sS -m 10 --cacert users/ca.pem --cert users/ops.pem --key users/ops.key "$@" 2>&1; }
says fleetctl_reads_over_https MACHINE "$(over list-machines)"
says the_environment_names_the_files MACHINE "$(FLEETCTL_ENDPOINT=https://$tls FLEETCTL_CA_FILE=users/ca.pem FLEETCTL_CERT_FILE=users/ops.pem FLEETCTL_KEY_FILE=users/ops.key \
        "$fleetctl" list-machines 2>&1)"
says a_key_is_written red "$(over kv set /app/color red)"
says another_key_is_not 110 "$(over kv set /other red)"
printf "[Service]\nExecStart=/bin/true\n" >a.service
says units_are_not_changed "user:ops has no right units-change" "$(over submit a.service)"
says users_are_not_listed "has no right administer" "$(over cert ls)"
says metrics_need_units_see fleet_ "$(web "https://$tls/metrics")"
says a_client_without_certificate_is_told "requires the certificate of a user" "$("$fleetctl" --endpoint="https://$tls" --ca-file=users/ca.pem list-machines 2>&1)"
says a_server_without_roots_is_not_trusted "cannot be verified" "$("$fleetctl" --endpoint="https://$tls" list-machines 2>&1)"
# With --ca-file, the CAs of the system do not count: here, the root of the cluster is one of them, and the file has another one.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=other -keyout /dev/null -out other.pem 2>/dev/null
if unshare -m true 2>/dev/null; then
        says only_the_ca_of_the_file_counts "cannot be verified" "$(unshare -m bash -c 'mount -t tmpfs none /etc/ssl/certs && cp users/ca.pem /etc/ssl/certs/ &&
                "$0" --endpoint="https://$1" --ca-file=other.pem --cert=users/ops.pem --key=users/ops.key list-machines' "$fleetctl" "$tls" 2>&1)"
else
        echo "ok only_the_ca_of_the_file_counts # SKIP: unshare(1) may not create a mount namespace here"
fi
says plain_http_is_told "this listener accepts https only" "$("$fleetctl" --endpoint="http://$tls" list-machines 2>&1)"
says tls_1_2_is_rejected alert "$(web --tls-max 1.2 "https://$tls/version")"
says another_host_header_is_rejected "does not match this listener" "$(web -H 'Host: evil' "https://$tls/version")"
says reserved_keys_are_never_granted "no right extends to keys below /_fleet" "$(ctl cert bad --rights=keys-write:/_fleet --out=users 2>&1)"
says a_user_needs_rights "user bad has no rights" "$(ctl cert bad --out=users 2>&1)"
says a_life_is_a_year_at_most "expected 1 minute to 365 days" "$(ctl cert bad --rights=units-see --ttl=3650d --out=users 2>&1)"
ctl cert other --rights=units-see --out=users >/dev/null
cp users/other.key users/ops.key
says the_key_of_another_user_is_no_renewal "user ops has another key" "$(ctl cert ops --out=users 2>&1)"
says the_files_have_to_fit "no TLS with fleetd" "$(over list-machines)"

# A watch of a revoked user.
ctl cert ops --replace --out=users >/dev/null
web "https://$tls/v2/keys/app?wait=true&recursive=true" >watch &
watch=$!
for i in $(seq 100); do
        curl -s --unix-socket "$scratch/alone.sock" http://fleet/metrics | grep -qE '^fleet_http_watches [1-9]' && break
        sleep 0.1
done
before=$(date +%s%N)
ctl cert revoke ops >/dev/null
wait $watch
ok "a_revoked_user_loses_its_watch_in_$((($(date +%s%N) - before) / 1000000))_ms"
says a_revoked_user_is_told "no user ops of this cluster has this key: unknown, revoked" "$(over list-machines)"
key=$(grep -v -- ----- users/other.key | head -1)
if grep -qF "$key" "$scratch/alone.log"; then not_ok no_key_in_the_log "found"; else ok no_key_in_the_log; fi
daemon_ends alone "$daemon_pid"
