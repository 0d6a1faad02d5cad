/* /v2/members and /v2/machines: the members of the cluster, and the URLs of their client listeners.
 *
 * The URL of this host is the address that the client dialed; that of another host is its AdvertiseClient=,
 * or without one, while the host is up, the address of this listener, where a client gets the same data. A
 * host without a replica does not receive which other hosts are up, and lists that address for each of them.
 * Changes of membership are checked as etcd checks them. A lost member can be removed; a host joins by a
 * token, and changes its address itself. */
#include <strings.h>

#include "fleetd/api/cluster_v2.h"
#include "fleetd/api/fleet_v1.h"
#include "units/json.h"

/* The finalizer of splitmix64: a bijection, so members of one cluster never collide. */
static uint64_t mix(uint64_t x) {
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
        return x ^ (x >> 31);
}

void v2_member_id(const KvState *state, uint64_t raft_id, char ret[static MEMBER_ID_SIZE]) {
        snprintf(ret, MEMBER_ID_SIZE, "%llx",
                 raft_id == 0 ? 0ull : (unsigned long long) mix(state->cluster_id + raft_id));
}

static HttpField cluster_field(const Request *request, char ret[static MEMBER_ID_SIZE]) {
        KvPosition now;

        kv_position(request->api->host->store, &now);
        snprintf(ret, MEMBER_ID_SIZE, "%llx", (unsigned long long) now.cluster_id);
        return (HttpField) { "X-Etcd-Cluster-Id", ret };
}

unsigned answer_of_cluster(Request *request, unsigned status, Text *body) {
        char cluster[MEMBER_ID_SIZE];

        return request_answer_built(request, status, "application/json",
                                    (HttpField[]) { cluster_field(request, cluster), {} }, body);
}

unsigned answer_cluster_message(Request *request, unsigned status, const char *format, ...) {
        _cleanup_text_ Text t = {}, message = {};
        va_list ap;

        va_start(ap, format);
        text_vprintf(&message, format, ap);
        va_end(ap);
        json_open(&t, NULL, '{');
        json_add_string(&t, "message", message.chars);
        json_close(&t, '}');
        t.error = t.error ?: message.error;
        return answer_of_cluster(request, status, &t);
}

/* -- Members and their URLs -- */

/* Write the address that the client dialed; for a client of the local socket, that of the TCP listener. */
static void own_url(const Request *request, Text *t) {
        const char *address = request->http->host;
        const ApiListenerState *listener;

        if (request->listener->dialect != DIALECT_ETCD) {
                address = "";
                TAILQ_FOREACH(listener, &request->api->listeners, listeners)
                        if (listener->dialect == DIALECT_ETCD)
                                address = listener->address;
        }
        text_printf(t, "http://%s", address[0] ? address : "127.0.0.1:2379");
}

static const ClusterMachine *machine_of(const Request *request, uint64_t raft_id) {
        const Cluster *c = request_cluster(request);

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->member.raft_id == raft_id || (m->facts && m->facts->raft_id == raft_id))
                        return m;
        return NULL;
}

typedef struct Naming {
        uint64_t raft_id;
        char name[PEER_NAME_SIZE];
} Naming;

static void match_peer(void *userdata, const PeerState *peer) {
        Naming *n = userdata;

        if (peer->handshake.raft_id == n->raft_id)
                snprintf(n->name, sizeof(n->name), "%s", peer->handshake.name);
}

/* Set the name of a member. A host without an agent and of an older version is named by its handshake only.
 */
static void member_name(const Request *request, const KvState *state, uint64_t raft_id, Naming *ret) {
        const ClusterMachine *m = machine_of(request, raft_id);
        const char *hostname = m ? cluster_machine_hostname(m) : NULL;

        *ret = (Naming) { .raft_id = raft_id };
        if (raft_id == state->raft_id)
                snprintf(ret->name, sizeof(ret->name), "%s", request->api->settings->name);
        else if (hostname)
                snprintf(ret->name, sizeof(ret->name), "%s", hostname);
        else if (request->api->host->peers)
                peers_each(request->api->host->peers, match_peer, ret);
}

/* Set the URL of a member, "" if it is not known. */
static void client_url(const Request *request, const KvState *state, uint64_t raft_id, Text *t) {
        const ClusterMachine *m = machine_of(request, raft_id);

        text_clear(t);
        if (raft_id == state->raft_id)
                own_url(request, t);
        else if (m && m->member.client[0])
                text_append(t, m->member.client);
        else if (m && m->facts && m->facts->client) /* an older version publishes it there */
                text_append(t, m->facts->client);
        else if (state->attached || (m && m->presence == PRESENCE_UP))
                own_url(request, t);
}

static void etcd_member_write(Text *t, const Request *request, const KvState *state, const KvMember *member) {
        const ClusterMachine *m = machine_of(request, member->raft_id);
        /* A host without a replica has the addresses of the member keys only. */
        const char *address = member->address[0] || !m ? member->address : m->member.peer;
        _cleanup_text_ Text url = {};
        char id[MEMBER_ID_SIZE];
        Naming naming;

        v2_member_id(state, member->raft_id, id);
        member_name(request, state, member->raft_id, &naming);
        json_open(t, NULL, '{');
        json_add_string(t, "id", id);
        json_add_string_always(t, "name", naming.name);
        json_open(t, "peerURLs", '[');
        if (address[0]) {
                text_printf(&url, "http://%s", address);
                json_add_item(t, url.chars ?: "");
        }
        json_close(t, ']');
        json_open(t, "clientURLs", '[');
        client_url(request, state, member->raft_id, &url);
        if (url.size > 0)
                json_add_item(t, url.chars);
        json_close(t, ']');
        json_close(t, '}');
        t->error = t->error ?: url.error;
}

/* Sort by the id of the API, as etcd does. */
static size_t members_sorted(const KvState *state, const KvMember *ret[static KV_MEMBERS_MAX]) {
        for (size_t i = 0; i < state->n_members; i++) {
                uint64_t id = mix(state->cluster_id + state->members[i].raft_id);
                size_t at = i;

                for (; at > 0 && mix(state->cluster_id + ret[at - 1]->raft_id) > id; at--)
                        ret[at] = ret[at - 1];
                ret[at] = &state->members[i];
        }
        return state->n_members;
}

static void members_list(Request *request, const KvState *state) {
        const KvMember *sorted[KV_MEMBERS_MAX];
        _cleanup_text_ Text t = {};
        size_t n = members_sorted(state, sorted);

        json_open(&t, NULL, '{');
        json_open(&t, "members", '[');
        for (size_t i = 0; i < n; i++)
                etcd_member_write(&t, request, state, sorted[i]);
        json_close(&t, ']');
        json_close(&t, '}');
        text_append_char(&t, '\n');
        answer_of_cluster(request, 200, &t);
}

static const KvMember *member_by_id(const KvState *state, const char *id) {
        char own[MEMBER_ID_SIZE];

        for (size_t i = 0; i < state->n_members; i++) {
                v2_member_id(state, state->members[i].raft_id, own);
                if (strcasecmp(own, id) == 0)
                        return &state->members[i];
        }
        return NULL;
}

/* -- Changes: etcd's checks, in its order -- */

/* Return the digits of an id without leading zeros, or NULL if 'text' is no id. */
static const char *id_digits(const char *text) {
        size_t n = strspn(text, "0123456789abcdefABCDEF");

        if (n == 0 || text[n])
                return NULL;
        while (text[0] == '0' && text[1])
                text++;
        return strlen(text) <= 16 ? text : NULL;
}

static int url_check(const char *url, Error *err) {
        static const char *const schemes[] = { "http://", "https://", "unix://", "unixs://" };
        const char *rest = NULL, *colon, *after;

        for (size_t i = 0; i < ELEMENTS(schemes); i++)
                if (starts_with(url, schemes[i]))
                        rest = url + strlen(schemes[i]);
        if (!rest)
                return error_set(err, -EINVAL, "URL scheme must be http, https, unix, or unixs: %s", url);
        if (!starts_with(url, "http"))
                return 0;
        colon = strrchr(rest, ':');
        if (!colon || strcspn(rest, "/") < (size_t) (colon - rest))
                return error_set(err, -EINVAL, "URL address does not have the form \"host:port\": %s", url);
        after = colon + 1 + strspn(colon + 1, "0123456789");
        if (*after && *after != '/')
                return error_set(err, -EINVAL, "parse \"%s\": invalid port \"%s\" after host", url, colon);
        if (strchr(rest, '/'))
                return error_set(err, -EINVAL, "URL must not contain a path: %s", url);
        return 0;
}

static int body_check(const HttpRequest *http, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *urls;
        int r;

        r = TRY(json_value_parse(http->body, http->body_size, &root, err));
        if (json_value_type(root) != JSON_VALUE_OBJECT)
                return error_set(err, -EINVAL, "expected an object with \"peerURLs\"");
        urls = json_value_member(root, "peerURLs");
        if (urls && json_value_type(urls) != JSON_VALUE_ARRAY)
                return error_set(err, -EINVAL, "peerURLs: expected a list of strings");
        if (json_value_count(urls) == 0)
                return error_set(err, -EINVAL, "no valid URLs given");
        for (size_t i = 0; r == 0 && i < json_value_count(urls); i++) {
                const char *url = json_value_string(json_value_item(urls, i));

                r = url ? url_check(url, err) :
                          error_set(err, -EINVAL, "peerURLs: expected a list of strings");
        }
        return r;
}

/* False: the body is invalid, and the request is answered. */
static bool body_is_good(Request *request) {
        const char *type = request->http->content_type ?: "";
        size_t size = strcspn(type, "; \t");
        Error err = {};
        int r;

        /* The listener checks this only for a path without escapes. */
        if (request->http->body_size > MEMBERS_BODY_MAX) {
                answer_cluster_message(request, 413, "the body is limited to %d KiB",
                                       MEMBERS_BODY_MAX / 1024);
                return false;
        }
        if (size != strlen("application/json") || strncasecmp(type, "application/json", size) != 0) {
                answer_cluster_message(request, 415, "Bad Content-Type %.*s, accept application/json",
                                       (int) MIN(size, (size_t) 200), type);
                return false;
        }
        r = body_check(request->http, &err);
        if (r < 0) {
                answer_cluster_message(request, request_status_of(r), "%s", error_text(&err, r));
                return false;
        }
        return true;
}

static void member_on_removed(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Request *request = userdata;

        request->changing = false;
        if (status == KV_OK)
                answer_of_cluster(request, 204, &(Text) {});
        else if (status != KV_COMPARE_FAILED && status != KV_NOT_FOUND)
                answer_cluster_message(request, 503, "%s", message);
        else if (!request_decide_again(request))
                answer_cluster_message(request, 409, "the member has changed meanwhile");
}

/* As DELETE /fleet/v1/machines/ID: for a member that is lost. */
static void member_delete(Request *request, const KvState *state, const KvMember *member) {
        const ClusterMachine *m = machine_of(request, member->raft_id);
        Error err = {};

        if (!sender_may(request->sender, RIGHT_ADMINISTER))
                answer_cluster_message(
                        request, 403,
                        "members are removed on the local socket: fleetctl remove, or fleetctl "
                        "leave on the host itself");
        else if (member->raft_id == state->raft_id)
                answer_cluster_message(request, 409,
                                       "%s is this host: fleetctl leave takes it out of the cluster",
                                       request->api->settings->name);
        else if (!m || m->member.raft_id != member->raft_id || cluster_machine_is_removed(m))
                answer_cluster_message(request, 409, "the member is being removed already");
        else if (machine_removal_is_refused(request, m, false, &err))
                answer_cluster_message(request, 409, "%s", err.message);
        else if (registry_remove_machine(request_registry(request), m, request_user(request), NULL,
                                         member_on_removed, request) < 0)
                answer_cluster_message(request, 500, "out of memory");
        else
                request->changing = true;
}

static void member_change(Request *request, const KvState *state, const char *text) {
        const char *id = id_digits(text);
        const KvMember *member = id ? member_by_id(state, id) : NULL;

        if (!id)
                answer_cluster_message(request, 404, "No such member: %.200s", text);
        else if (method_is(request, "PUT") && !body_is_good(request))
                return;
        else if (!member)
                answer_cluster_message(request, 404, "No such member: %s", id);
        else if (method_is(request, "DELETE"))
                member_delete(request, state, member);
        else
                answer_cluster_message(
                        request, 409,
                        "the address of a member is ListenPeer= in its own fleetd.conf, and is not "
                        "changed here");
}

/* -- Handlers -- */

static void members_get(Request *request, const KvState *state, const char *id) {
        bool is_leader = streq(id, "leader");
        _cleanup_text_ Text t = {};
        const KvMember *member;
        char leader[MEMBER_ID_SIZE];

        v2_member_id(state, state->leader_id, leader);
        member = member_by_id(state, is_leader ? leader : id);
        if (id[0] == 0)
                members_list(request, state);
        else if (member) {
                etcd_member_write(&t, request, state, member);
                text_append_char(&t, '\n');
                answer_of_cluster(request, 200, &t);
        } else if (is_leader)
                answer_cluster_message(request, 503, "During election");
        else
                answer_cluster_message(request, 404, "Not found");
}

unsigned v2_members_handle(Request *request, Error *err) {
        const char *id = request->rest[0] == '/' ? request->rest + 1 : "";
        char cluster[MEMBER_ID_SIZE];
        KvState state;

        kv_state(request->api->host->store, &state);
        if (method_is(request, "GET"))
                members_get(request, &state, id);
        else if (method_is(request, "POST")) {
                if (body_is_good(request))
                        return answer_cluster_message(request, 409,
                                                      "a host joins by a token: fleetctl token");
        } else if (id[0])
                member_change(request, &state, id);
        else
                return request_not_allowed(request, cluster_field(request, cluster));
        return 0;
}

static bool lists_url(const Text *list, const char *url) {
        size_t n = strlen(url);

        for (const char *p = list->chars; p && (p = strstr(p, url)); p += n)
                if (p[n] == 0 || p[n] == ',')
                        return true;
        return false;
}

unsigned v2_machines_handle(Request *request, Error *err) {
        const KvMember *sorted[KV_MEMBERS_MAX];
        _cleanup_text_ Text t = {}, url = {};
        KvState state;
        size_t n;

        kv_state(request->api->host->store, &state);
        n = members_sorted(&state, sorted);
        for (size_t i = 0; i < n; i++) {
                client_url(request, &state, sorted[i]->raft_id, &url);
                if (url.size > 0 && !lists_url(&t, url.chars))
                        text_printf(&t, "%s%s", t.size > 0 ? ", " : "", url.chars);
        }
        if (t.size == 0)
                own_url(request, &t); /* no cluster yet: this listener serves clients nevertheless */
        t.error = t.error ?: url.error;
        return request_answer_built(request, 200, "text/plain; charset=utf-8", NULL, &t);
}
