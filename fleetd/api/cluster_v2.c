/* What etcd's clients look for beside the keys: version, health, members. Members are those of this cluster that are reached
 * by the door that the request came by; changes of membership are not made here. */
#include <stdio.h>

#include "fleetd/api/request.h"
#include "units/json.h"

static void answer_allow(Request *request, const char *methods) {
        request_answer(request, 405, "text/plain; charset=utf-8",
                       (HttpField[]) { { "Allow", methods }, { "X-Content-Type-Options", "nosniff" }, {} }, "Method Not Allowed\n", 19);
}

static void member_write(Text *t, const Request *request, const KvMember *member) {
        char id[24], url[256];
        const char *host = request->http->host;
        const Cluster *c = registry_cluster(request->api->options.registry);
        const char *name = request->api->name;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->raft_id == member->raft_id && m->facts && m->facts->name)
                        name = m->facts->name;
        snprintf(id, sizeof(id), "%llx", (unsigned long long) member->raft_id);
        snprintf(url, sizeof(url), "http://%s", host[0] ? host : "127.0.0.1:2379");
        json_open(t, NULL, '{');
        json_add_string(t, "id", id);
        json_add_string(t, "name", name);
        json_open(t, "peerURLs", '[');
        json_close(t, ']');
        json_open(t, "clientURLs", '[');
        json_add_item(t, url);
        json_close(t, ']');
        json_close(t, '}');
}

static void members(Request *request, bool leader) {
        char cluster[24];
        HttpField fields[] = { { "X-Etcd-Cluster-Id", cluster }, {} };
        _cleanup_text_ Text t = {};
        KvState state;

        kv_state(request->api->options.store, &state);
        snprintf(cluster, sizeof(cluster), "%llx", (unsigned long long) state.cluster_id);
        if (leader && state.leader_id == 0) {
                request_answer(request, 503, "application/json", fields, "{\"message\":\"During election\"}", 30);
                return;
        }
        if (!leader)
                text_append(&t, "{\"members\":[");
        for (size_t i = 0, n = 0; i < state.n_members; i++) {
                if (leader && state.members[i].raft_id != state.leader_id)
                        continue;
                if (n++ > 0)
                        text_append_char(&t, ',');
                member_write(&t, request, &state.members[i]);
        }
        text_append(&t, leader ? "\n" : "]}\n");
        request_answer(request, 200, "application/json", fields, t.chars ?: "", t.size);
}

void cluster_v2_handle(Request *request) {
        const char *path = request->path;
        bool get = method_is(request, "GET");
        char text[256];
        KvState state;

        if (method_is(request, "OPTIONS")) {
                request_answer(request, 200, NULL, NULL, "", 0);
        } else if (streq(path, "/version")) {
                if (get)
                        request_answer(request, 200, "application/json", NULL, "{\"etcdserver\":\"3.4.23\",\"etcdcluster\":\"3.4.0\"}", 46);
                else
                        answer_allow(request, "GET");
        } else if (streq(path, "/health")) {
                kv_state(request->api->options.store, &state);
                if (!get)
                        answer_allow(request, "GET");
                else if (state.ready)
                        request_answer(request, 200, "text/plain; charset=utf-8", NULL, "{\"health\":\"true\"}", 17);
                else
                        request_answer(request, 503, "text/plain; charset=utf-8", NULL, "{\"health\":\"false\"}", 18);
        } else if (streq(path, "/v2/machines")) {
                snprintf(text, sizeof(text), "http://%s", request->http->host[0] ? request->http->host : "127.0.0.1:2379");
                if (get || method_is(request, "HEAD"))
                        request_answer(request, 200, "text/plain; charset=utf-8", NULL, text, strlen(text));
                else
                        answer_allow(request, "GET,HEAD");
        } else if (streq(path, "/v2/members") || streq(path, "/v2/members/") || streq(path, "/v2/members/leader")) {
                if (get)
                        members(request, ends_with(path, "leader"));
                else
                        answer_allow(request, "GET");
        } else
                request_answer(request, 404, "text/plain; charset=utf-8", NULL, "404 page not found\n", 19);
}
