/* What etcd's clients look for beside the keys: version, health, members. Members are those of this cluster; their client
 * address is the door that the request came by, since other hosts' doors are on their own loopbacks. Changes of membership
 * are not made here, and say so. */
#include <stdio.h>

#include "fleetd/api/request.h"
#include "units/json.h"

static void answer_allow(Request *request, const char *methods) {
        request_answer(request, 405, "text/plain; charset=utf-8",
                       (HttpField[]) { { "Allow", methods }, { "X-Content-Type-Options", "nosniff" }, {} }, "Method Not Allowed\n", 19);
}

static void answer_not_found(Request *request) {
        request_answer(request, 404, "text/plain; charset=utf-8", NULL, "404 page not found\n", 19);
}

/* With the cluster's id, as all answers about members and rights have it. */
static void answer_of_cluster(Request *request, const KvState *state, unsigned status, Text *body) {
        char cluster[24];

        if (body->error < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        snprintf(cluster, sizeof(cluster), "%llx", (unsigned long long) state->cluster_id);
        request_answer(request, status, "application/json", (HttpField[]) { { "X-Etcd-Cluster-Id", cluster }, {} }, body->chars, body->size);
}

static void answer_message(Request *request, const KvState *state, unsigned status, const char *message) {
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_add_string(&t, "message", message);
        json_close(&t, '}');
        answer_of_cluster(request, state, status, &t);
}

/* -- Members -- */

static const char *own_door(const Request *request) {
        return request->http->host[0] ? request->http->host : "127.0.0.1:2379";
}

static void member_write(Text *t, const Request *request, const KvMember *member) {
        char id[24], url[256];
        const Cluster *c = registry_cluster(request->api->options.registry);
        const char *name = request->api->name;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->raft_id == member->raft_id && m->facts && m->facts->name)
                        name = m->facts->name;
        snprintf(id, sizeof(id), "%llx", (unsigned long long) member->raft_id);
        json_open(t, NULL, '{');
        json_add_string(t, "id", id);
        json_add_string(t, "name", name);
        json_open(t, "peerURLs", '[');
        if (member->address[0]) {
                snprintf(url, sizeof(url), "http://%s", member->address);
                json_add_item(t, url);
        }
        json_close(t, ']');
        json_open(t, "clientURLs", '[');
        snprintf(url, sizeof(url), "http://%s", own_door(request));
        json_add_item(t, url);
        json_close(t, ']');
        json_close(t, '}');
}

static void members_list(Request *request, const KvState *state) {
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_open(&t, "members", '[');
        for (size_t i = 0; i < state->n_members; i++)
                member_write(&t, request, &state->members[i]);
        json_close(&t, ']');
        json_close(&t, '}');
        text_append_char(&t, '\n');
        answer_of_cluster(request, state, 200, &t);
}

static void members_leader(Request *request, const KvState *state) {
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].raft_id == state->leader_id && state->leader_id != 0) {
                        member_write(&t, request, &state->members[i]);
                        text_append_char(&t, '\n');
                        answer_of_cluster(request, state, 200, &t);
                        return;
                }
        answer_message(request, state, 503, "During election");
}

static bool member_is_known(const KvState *state, const char *id) {
        char own[24];

        for (size_t i = 0; i < state->n_members; i++) {
                snprintf(own, sizeof(own), "%llx", (unsigned long long) state->members[i].raft_id);
                if (streq(own, id))
                        return true;
        }
        return false;
}

/* etcd echoes an id as the number that it is, and what is none as it came. */
static const char *member_id(const char *text) {
        size_t n = strspn(text, "0123456789abcdefABCDEF");

        if (n == 0 || n > 16 || text[n])
                return text;
        while (text[0] == '0' && text[1])
                text++;
        return text;
}

/* 'id': behind "/v2/members/", or "" for all of them. */
static void members(Request *request, const char *id) {
        bool add = method_is(request, "POST"), change = method_is(request, "PUT") || method_is(request, "DELETE");
        char message[256];
        KvState state;

        kv_state(request->api->options.store, &state);
        id = member_id(id);
        if (method_is(request, "GET")) {
                if (id[0] == 0)
                        members_list(request, &state);
                else if (streq(id, "leader"))
                        members_leader(request, &state);
                else
                        answer_message(request, &state, 404, "Not found");
        } else if (change && id[0] && !member_is_known(&state, id)) {
                snprintf(message, sizeof(message), "No such member: %s", id);
                answer_message(request, &state, 404, message);
        } else if ((add && id[0] == 0) || (change && id[0]))
                answer_message(request, &state, 403, "members come by Join= in their own fleetd.conf; they are not changed here");
        else
                answer_allow(request, "GET,POST,DELETE,PUT");
}

/* -- The rest, each one fixed answer -- */

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

static void machines(Request *request) {
        char url[256];

        snprintf(url, sizeof(url), "http://%s", own_door(request));
        if (method_is(request, "GET") || method_is(request, "HEAD"))
                request_answer(request, 200, "text/plain; charset=utf-8", NULL, url, strlen(url));
        else
                answer_allow(request, "GET,HEAD");
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
                machines(request);
        else if (streq(path, "/v2/members"))
                members(request, "");
        else if (starts_with(path, "/v2/members/"))
                members(request, path + strlen("/v2/members/"));
        else if (streq(path, "/v2/auth/enable"))
                auth_enable(request);
        else
                answer_not_found(request);
}
