#!/bin/bash
# A client sends a request each 20 ms while the six instances of a template are updated on four hosts: by surge instances, by stopping one
# first, with texts that fail, and by a reload. Takes 110 s.
LAB_HOSTS="alpha beta gamma delta"
. "$(dirname "$0")/scenario.sh"
. "$here/rollouts.sh"
. "$here/rollout-clients.sh"
HOSTS=$LAB_HOSTS

four_hosts_form_a_cluster() { cluster_with_instances; }

scenario four_hosts_form_a_cluster surge_instances_lose_no_request one_is_stopped_at_a_time a_text_that_exits_is_reverted_on_one_instance \
        a_text_that_is_never_ready_is_reverted_on_one_instance a_text_whose_check_fails_after_five_seconds_is_reverted_on_one_instance \
        three_texts_that_fail_leave_five_of_six the_next_good_text_needs_no_manual_step a_trigger_reloads_one_instance_after_the_other
