/* What etcd's clients look for beside the keys, each one fixed answer: version, health, rights. Members and statistics have
 * their own files. */
#include "fleetd/api/cluster_v2.h"

#include <stdio.h>

#include "units/json.h"

static void version(Request *request) {
        if (method_is(request, "GET"))
                request_answer_text(request, 200, "application/json", NULL, "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}");
        else
                request_not_allowed(request, &(HttpField) { "Allow", "GET" });
}

/* etcd's answer; why not is ours, and in addition. */
static void health(Request *request) {
        StaleField stale;
        HttpField fields[] = { request_stale_field(request, &stale), {} };
        _cleanup_text_ Text t = {};
        KvState state;

        kv_state(request->api->options.store, &state);
        if (!method_is(request, "GET"))
                request_not_allowed(request, &(HttpField) { "Allow", "GET" });
        else if (state.ready && !state.differs && !state.undecided)
                request_answer_text(request, 200, "text/plain; charset=utf-8", fields, "{\"health\":\"true\"}");
        else {
                json_open(&t, NULL, '{');
                json_add_string(&t, "health", "false");
                json_add_string(&t, "reason", state.problem);
                json_close(&t, '}');
                request_answer_text(request, 503, "text/plain; charset=utf-8", fields, t.error < 0 ? "{\"health\":\"false\"}" : t.chars);
        }
}

/* There are no users: rights go with the door. */
static void auth_enable(Request *request) {
        _cleanup_text_ Text t = {};
        KvState state;

        kv_state(request->api->options.store, &state);
        if (method_is(request, "GET")) {
                text_append(&t, "{\"enabled\":false}\n");
                answer_of_cluster(request, &state, 200, &t);
        } else if (method_is(request, "PUT"))
                answer_cluster_message(request, &state, 409, "auth: there are no users here: rights go with the door (fleet-api(7))");
        else if (method_is(request, "DELETE"))
                answer_cluster_message(request, &state, 409, "auth: already disabled");
        else
                request_not_allowed(request, &(HttpField) { "Allow", "GET,PUT,DELETE" });
}

void cluster_v2_handle(Request *request) {
        const char *path = request->path;

        if (method_is(request, "OPTIONS"))
                request_answer(request, 200, NULL, NULL, "", 0);
        else if (streq(path, "/version"))
                version(request);
        else if (streq(path, "/health"))
                health(request);
        else if (streq(path, "/v2/machines"))
                v2_machines_handle(request);
        else if (streq(path, "/v2/members"))
                v2_members_handle(request, "");
        else if (starts_with(path, "/v2/members/"))
                v2_members_handle(request, path + strlen("/v2/members/"));
        else if (starts_with(path, "/v2/stats/"))
                v2_stats_handle(request, path + strlen("/v2/stats/"));
        else if (streq(path, "/v2/auth/enable"))
                auth_enable(request);
        else
                request_not_found(request);
}
