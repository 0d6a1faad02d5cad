/* Handlers, by their routes (fleetd/api/routes.c): each answers the request, or leaves it parked. Within
 * fleetd/api only. */
#pragma once

#include "fleetd/api/request.h"

void keys_v2_handle(Request *request);
void kv_list_handle(Request *request);
void kv_txn_handle(Request *request);
void kv_changes_handle(Request *request);
void kv_value_get_handle(Request *request);
void kv_value_put_handle(Request *request);
void kv_value_delete_handle(Request *request);
void v2_version_handle(Request *request);
void v2_health_handle(Request *request);
void v2_auth_list_handle(Request *request); /* of users, or of roles */
void v2_auth_enable_handle(Request *request);
void v2_machines_handle(Request *request);
void v2_members_handle(Request *request);
void v2_stats_self_handle(Request *request);
void v2_stats_leader_handle(Request *request);
void v2_stats_store_handle(Request *request);
void metrics_handle(Request *request);
void directory_list_handle(Request *request);
void directory_post_handle(Request *request);
void machines_list_handle(Request *request);
void machines_patch_handle(Request *request);
void machine_handle(Request *request);
void machines_delete_handle(Request *request);
void why_handle(Request *request);
void plan_handle(Request *request);
void plan_machines_handle(Request *request);
void discovery_handle(Request *request);
void cluster_handle(Request *request);
void level_handle(Request *request);
void settings_handle(Request *request);
void adopting_handle(Request *request);
void backup_handle(Request *request);
void tokens_list_handle(Request *request);
void tokens_create_handle(Request *request);
void tokens_revoke_handle(Request *request);
void ca_handle(Request *request);
void ca_rotate_handle(Request *request);
void users_list_handle(Request *request);
void users_put_handle(Request *request);
void users_delete_handle(Request *request);
void rekey_handle(Request *request);
void rekey_host_handle(Request *request);
void secure_handle(Request *request);
void join_handle(Request *request);
void init_handle(Request *request);
void leave_get_handle(Request *request);
void leave_post_handle(Request *request);
void leave_delete_handle(Request *request);
void maintenance_get_handle(Request *request);
void maintenance_put_handle(Request *request);
void maintenance_delete_handle(Request *request);
void events_handle(Request *request);
void history_handle(Request *request);
void remote_command_handle(Request *request);
void remote_log_handle(Request *request);
void units_list_handle(Request *request);
void units_get_handle(Request *request);
void units_put_handle(Request *request);
void units_delete_handle(Request *request);
void revisions_handle(Request *request);
void move_get_handle(Request *request);
void move_put_handle(Request *request);
void move_delete_handle(Request *request);
void rollouts_list_handle(Request *request);
void rollouts_get_handle(Request *request);
void rollouts_put_handle(Request *request);
void batch_handle(Request *request);
void states_list_handle(Request *request);
void states_local_handle(Request *request);
void states_get_handle(Request *request);

/* What the server calls of them. */
void metrics_stop(Api *api); /* the scrape under way ends without an answer */
/* Return whether the command of the request runs on this host. */
bool remote_command_is_here(const Request *request);
int remote_commands_new(Api *api);
void remote_commands_free(Api *api);
