/* What etcd's clients look for beside the keys, each one fixed answer: version, health, rights. Members and statistics have
 * their own files. */
#include "fleetd/api/cluster_v2.h"

#include <stdio.h>

void answer_allow(Request *request, const char *methods) {
        request_answer(request, 405, "text/plain; charset=utf-8",
                       (HttpField[]) { { "Allow", methods }, { "X-Content-Type-Options", "nosniff" }, {} }, "Method Not Allowed\n", 19);
}

void answer_not_found(Request *request) {
        request_answer(request, 404, "text/plain; charset=utf-8", (HttpField[]) { { "X-Content-Type-Options", "nosniff" }, {} },
                       "404 page not found\n", 19);
}

static void version(Request *request) {
        if (method_is(request, "GET"))
                request_answer(request, 200, "application/json", NULL, "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}", 46);
        else
                answer_allow(request, "GET");
}

static void health(Request *request) {
        KvState state;

        kv_state(request->api->options.store, &state);
        if (!method_is(request, "GET"))
                answer_allow(request, "GET");
        else if (state.ready)
                request_answer(request, 200, "text/plain; charset=utf-8", NULL, "{\"health\":\"true\"}", 17);
        else
                request_answer(request, 503, "text/plain; charset=utf-8", NULL, "{\"health\":\"false\"}", 18);
}

/* There are no users: rights go with the door. */
static void auth_enable(Request *request) {
        _cleanup_text_ Text t = {};
        KvState state;

        if (!method_is(request, "GET")) {
                answer_allow(request, "GET,PUT,DELETE");
                return;
        }
        kv_state(request->api->options.store, &state);
        text_append(&t, "{\"enabled\":false}\n");
        answer_of_cluster(request, &state, 200, &t);
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
                answer_not_found(request);
}
