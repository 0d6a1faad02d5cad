/* Handlers, by their routes (fleetd/api/routes.c): each answers the request, or leaves it parked. Within
 * fleetd/api only. */
#pragma once

#include "fleetd/api/request.h"

unsigned keys_v2_handle(Request *request, Error *err);
unsigned kv_list_handle(Request *request, Error *err);
unsigned kv_txn_handle(Request *request, Error *err);
unsigned kv_changes_handle(Request *request, Error *err);
unsigned kv_value_get_handle(Request *request, Error *err);
unsigned kv_value_put_handle(Request *request, Error *err);
unsigned kv_value_delete_handle(Request *request, Error *err);
unsigned v2_version_handle(Request *request, Error *err);
unsigned v2_health_handle(Request *request, Error *err);
unsigned v2_auth_list_handle(Request *request, Error *err); /* of users, or of roles */
unsigned v2_auth_enable_handle(Request *request, Error *err);
unsigned v2_machines_handle(Request *request, Error *err);
unsigned v2_members_handle(Request *request, Error *err);
unsigned v2_stats_self_handle(Request *request, Error *err);
unsigned v2_stats_leader_handle(Request *request, Error *err);
unsigned v2_stats_store_handle(Request *request, Error *err);
unsigned metrics_handle(Request *request, Error *err);
unsigned problems_handle(Request *request, Error *err);
unsigned directory_list_handle(Request *request, Error *err);
unsigned directory_post_handle(Request *request, Error *err);
unsigned machines_list_handle(Request *request, Error *err);
unsigned machines_patch_handle(Request *request, Error *err);
unsigned machine_handle(Request *request, Error *err);
unsigned machines_delete_handle(Request *request, Error *err);
unsigned why_handle(Request *request, Error *err);
unsigned plan_handle(Request *request, Error *err);
unsigned plan_machines_handle(Request *request, Error *err);
unsigned discovery_handle(Request *request, Error *err);
unsigned cluster_handle(Request *request, Error *err);
unsigned level_handle(Request *request, Error *err);
unsigned settings_handle(Request *request, Error *err);
unsigned adopting_handle(Request *request, Error *err);
unsigned backup_handle(Request *request, Error *err);
unsigned tokens_list_handle(Request *request, Error *err);
unsigned tokens_create_handle(Request *request, Error *err);
unsigned tokens_revoke_handle(Request *request, Error *err);
unsigned ca_handle(Request *request, Error *err);
unsigned ca_rotate_handle(Request *request, Error *err);
unsigned users_list_handle(Request *request, Error *err);
unsigned users_put_handle(Request *request, Error *err);
unsigned users_delete_handle(Request *request, Error *err);
unsigned rekey_handle(Request *request, Error *err);
unsigned rekey_host_handle(Request *request, Error *err);
unsigned secure_handle(Request *request, Error *err);
unsigned leave_get_handle(Request *request, Error *err);
unsigned leave_post_handle(Request *request, Error *err);
unsigned leave_delete_handle(Request *request, Error *err);
unsigned maintenance_get_handle(Request *request, Error *err);
unsigned maintenance_put_handle(Request *request, Error *err);
unsigned maintenance_delete_handle(Request *request, Error *err);
unsigned events_handle(Request *request, Error *err);
unsigned history_handle(Request *request, Error *err);
unsigned remote_command_handle(Request *request, Error *err);
unsigned remote_host_handle(Request *request, Error *err);
unsigned units_list_handle(Request *request, Error *err);
unsigned units_get_handle(Request *request, Error *err);
unsigned units_put_handle(Request *request, Error *err);
unsigned units_delete_handle(Request *request, Error *err);
unsigned revisions_handle(Request *request, Error *err);
unsigned move_get_handle(Request *request, Error *err);
unsigned move_put_handle(Request *request, Error *err);
unsigned move_delete_handle(Request *request, Error *err);
unsigned batch_handle(Request *request, Error *err);
unsigned states_list_handle(Request *request, Error *err);
unsigned states_local_handle(Request *request, Error *err);
unsigned states_get_handle(Request *request, Error *err);

/* What the server calls of them. */
void metrics_stop(Api *api); /* the scrape under way ends without an answer */
/* Return whether the command of the request runs on this host. */
bool remote_command_is_here(const Request *request);
int remote_commands_new(Api *api);
void remote_commands_free(Api *api);
