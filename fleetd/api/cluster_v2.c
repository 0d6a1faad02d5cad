/* Requests of etcd's clients other than keys: version, health, rights. Members and statistics have their own
 * files. */
#include "fleetd/api/cluster_v2.h"

unsigned v2_version_handle(Request *request, Error *err) {
        return request_answer_text(request, 200, "application/json", NULL,
                                   "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}");
}

/* -- Health: confirmed by a ReadIndex check, because a leader that was just lost is still the known one -- */

/* Answer as etcd; the reason is an addition. */
static void health_answer(Request *request, bool confirmed) {
        _cleanup_text_ Text t = {};
        KvState state;

        kv_state(request->api->host->store, &state);
        if (confirmed && state.ready && !state.differs && !state.undecided) {
                request_answer_text(request, 200, "text/plain; charset=utf-8", NULL, "{\"health\":\"true\"}");
                return;
        }
        json_open(&t, NULL, '{');
        json_add_string(&t, "health", "false");
        json_add_string(&t, "reason", state.problem[0] ? state.problem : "no majority of the voters answers");
        json_close(&t, '}');
        request_answer_text(request, 503, "text/plain; charset=utf-8", NULL,
                            t.error < 0 ? "{\"health\":\"false\"}" : t.chars);
}

static void health_on_synced(Request *request, KvStatus status) {
        health_answer(request, status == KV_OK);
}

unsigned v2_health_handle(Request *request, Error *err) {
        KvState state;

        kv_state(request->api->host->store, &state);
        if (state.ready)
                request_sync(request, health_on_synced);
        else /* without a leader no check succeeds */
                health_answer(request, false);
        return 0;
}

/* -- Rights: there are no users, the listener determines the rights of its clients -- */

unsigned v2_auth_list_handle(Request *request, Error *err) {
        _cleanup_text_ Text t = {};

        text_printf(&t, "{\"%s\":null}\n", strrchr(request->path, '/') + 1);
        return answer_of_cluster(request, 200, &t);
}

unsigned v2_auth_enable_handle(Request *request, Error *err) {
        _cleanup_text_ Text t = {};

        if (method_is(request, "GET")) {
                text_append(&t, "{\"enabled\":false}\n");
                return answer_of_cluster(request, 200, &t);
        } else if (method_is(request, "PUT"))
                return answer_cluster_message(
                        request, 409,
                        "auth: there are no users; rights depend on the listener (fleet-api(7))");
        return answer_cluster_message(request, 409, "auth: already disabled");
}
