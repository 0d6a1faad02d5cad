/* What etcd's clients look for beside the keys, each one fixed answer: version, health, rights. Members and
 * statistics have their own files. */
#include "fleetd/api/cluster_v2.h"

#include <stdio.h>

#include "units/json.h"

static void version(Request *request) {
        if (method_is(request, "GET"))
                request_answer_text(request, 200, "application/json", NULL,
                                    "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}");
        else
                request_not_allowed(request, &(HttpField) { "Allow", "GET" });
}

/* -- Health: confirmed by one Reads check, since a leader that was just lost is still the known one -- */

typedef struct Health {
        Request *request;
        KvSync sync;
} Health;

/* etcd's answer; why not is ours, and in addition. */
static void health_answer(Request *request, bool confirmed) {
        StaleField stale;
        HttpField fields[] = { request_stale_field(request, &stale), {} };
        _cleanup_text_ Text t = {};
        KvState state;

        kv_state(request->api->options.store, &state);
        if (confirmed && state.ready && !state.differs && !state.undecided) {
                request_answer_text(request, 200, "text/plain; charset=utf-8", fields,
                                    "{\"health\":\"true\"}");
                return;
        }
        json_open(&t, NULL, '{');
        json_add_string(&t, "health", "false");
        json_add_string(&t, "reason", state.problem[0] ? state.problem : "no majority of the voters answers");
        json_close(&t, '}');
        request_answer_text(request, 503, "text/plain; charset=utf-8", fields,
                            t.error < 0 ? "{\"health\":\"false\"}" : t.chars);
}

static void health_on_synced(void *userdata, KvStatus status) {
        _cleanup_free_ Health *health = userdata;
        Request *request = health->request;

        request->state = NULL;
        request->forget = NULL;
        health_answer(request, status == KV_OK);
}

static void health_forget(Request *request) {
        Health *health = request->state;

        kv_sync_cancel(request->api->options.store, &health->sync);
        free(health);
}

static void health(Request *request) {
        KvStore *store = request->api->options.store;
        Health *health;
        KvState state;

        kv_state(store, &state);
        if (!method_is(request, "GET")) {
                request_not_allowed(request, &(HttpField) { "Allow", "GET" });
                return;
        }
        health = state.ready ? NEW0(Health, 1) : NULL;
        if (!health) { /* without a leader there is nothing to wait for */
                health_answer(request, false);
                return;
        }
        *health = (Health) { .request = request, .sync = { .done = health_on_synced, .userdata = health } };
        request->state = health;
        request->forget = health_forget;
        kv_sync(store, &health->sync);
}

/* There are no users: rights go with the door. */
/* There are none. */
static void auth_list(Request *request, const char *what) {
        _cleanup_text_ Text t = {};
        KvState state;

        if (!method_is(request, "GET") && !method_is(request, "HEAD")) {
                request_not_allowed(request, &(HttpField) { "Allow", "GET,HEAD" });
                return;
        }
        kv_state(request->api->options.store, &state);
        text_printf(&t, "{\"%s\":null}\n", what);
        answer_of_cluster(request, &state, 200, &t);
}

static void auth_enable(Request *request) {
        _cleanup_text_ Text t = {};
        KvState state;

        kv_state(request->api->options.store, &state);
        if (method_is(request, "GET")) {
                text_append(&t, "{\"enabled\":false}\n");
                answer_of_cluster(request, &state, 200, &t);
        } else if (method_is(request, "PUT"))
                answer_cluster_message(
                        request, &state, 409,
                        "auth: there are no users here: rights go with the door (fleet-api(7))");
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
        else if (streq(path, "/v2/auth/users") || streq(path, "/v2/auth/roles"))
                auth_list(request, path + strlen("/v2/auth/"));
        else if (streq(path, "/v2/auth/enable"))
                auth_enable(request);
        else
                request_not_found(request);
}
