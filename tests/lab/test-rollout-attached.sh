#!/bin/bash
# The six instances of a template run on four hosts without a replica: a client loses no request while they are updated and drained. Five other hosts
# have the replicas, and are cordoned. Takes 90 s.
LAB_HOSTS="alpha $(seq -s ' ' -f 'n%g' 8)" LAB_TOKENS=yes
. "$(dirname "$0")/scenario.sh"
. "$here/attached.sh"
. "$here/rollouts.sh"
. "$here/rollout-clients.sh"

attached_hosts() { HOSTS=$(cat "$LAB/attached"); } # checks run in shells of their own

nine_hosts_form_a_cluster() {
        install_instances
        clusters_of_one $LAB_HOSTS
        host_exec alpha fleetctl init >"$LAB/out" 2>&1 || fail "init: $(cat "$LAB/out")"
        # shellcheck disable=SC2046
        join_at_once $(others alpha)
        attached | xargs >"$LAB/attached"
        [ "$(wc -w <"$LAB/attached")" = 4 ] || fail "attached hosts: $(cat "$LAB/attached")"
        # shellcheck disable=SC2046
        ctl cordon $(replicas)
}

surge_instances_on_attached_hosts_lose_no_request() { attached_hosts; surge_instances_lose_no_request; }
one_on_attached_hosts_is_stopped_at_a_time() { attached_hosts; one_is_stopped_at_a_time; }
a_text_that_exits_is_reverted_on_one_attached_host() { attached_hosts; a_text_is_reverted 4 exits; }
a_text_that_is_never_ready_is_reverted_on_one_attached_host() {
        [ -n "${CHECK_ALL:-}" ] || skip "only with CHECK_ALL=yes: test-rollout-clients.sh has it for hosts with a replica"
        attached_hosts
        a_text_is_reverted 5 unready 'HealthStartSec=2s\n'
}

two_attached_hosts_are_drained() {
        local h
        attached_hosts
        client_start
        # shellcheck disable=SC2046
        ctl drain $(echo "$HOSTS" | cut -d' ' -f1,2)
        client_stop "drains of two attached hosts" 6
        for h in $(echo "$HOSTS" | cut -d' ' -f1,2); do
                grep -q "^$h: drained" "$LAB/out" || fail "$(cat "$LAB/out")"
                ! identities "$h" | grep ' web@.* active ' || fail "instances run on $h"
        done
}

scenario nine_hosts_form_a_cluster surge_instances_on_attached_hosts_lose_no_request one_on_attached_hosts_is_stopped_at_a_time \
        a_text_that_exits_is_reverted_on_one_attached_host a_text_that_is_never_ready_is_reverted_on_one_attached_host two_attached_hosts_are_drained
