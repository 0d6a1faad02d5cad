#!/bin/bash
# Terminal sessions recorded with fleet 1.0.0, replayed through a pipe on three booted hosts. The file states the reason of each
# intended difference.
# Takes 90 s.
. "$(dirname "$0")/scenario.sh"

# "ID HOST ADDRESS" of all hosts, in the order of their ids.
by_id() { for h in $LAB_HOSTS; do echo "$(host_machine_id "$h") $h $(host_address "$h")"; done | sort; }

the_hosts_are_those_of_the_recording() {
        local id h address n=0 digits=(1 3 2) patch= d
        cluster_up
        while read -r id h address; do
                d=${digits[n++]}
                patch+="{\"op\":\"remove\",\"path\":\"/$id/metadata/zone\"},{\"op\":\"add\",\"path\":\"/$id/metadata/host\",\"value\":\"h$d\"},"
                patch+="{\"op\":\"add\",\"path\":\"/$id/metadata/n\",\"value\":\"$d\"},{\"op\":\"add\",\"path\":\"/$id/metadata/region\",\"value\":\"eu\"},"
        done < <(by_id)
        curl -fsS --unix-socket "$(host_socket alpha)" -X PATCH http://fleet/fleet/v1/machines -d "[${patch%,}]" >"$LAB/out" 2>&1 ||
                fail "PATCH: $(cat "$LAB/out")"
        wait_for 5 has_metadata || fail "metadata: $(machines alpha)"
}
has_metadata() { [ "$(machines alpha | grep -c 'host=h[123],n=[123],region=eu$')" = 3 ]; }

# Each title of the file is a check.
sessions() {
        local first
        first=$(by_id | awk 'NR == 1 { print $2 }')
        mkdir -p "$LAB/sessions"
        # shellcheck disable=SC2046
        PATH=$(realpath "$LAB_BUILD")/client:$PATH FLEETCTL_ENDPOINT=unix://$(host_socket "$first") \
                python3 "$here/sessions.py" "$here/sessions/fleetctl.txt" "$LAB/sessions" $(by_id | awk '{ print $1 "=" $3 }') >"$LAB/said" 2>&1
        grep -E '^(ok|not ok) ' "$LAB/said" || fail "nothing was replayed: $(tail -3 "$LAB/said")"
        if grep -q '^not ok' "$LAB/said"; then
                cat "$LAB/said"
                fail "see above"
        fi
}

scenario the_hosts_are_those_of_the_recording sessions
