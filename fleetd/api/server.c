#include <grp.h>
#include <strings.h>

#include "base/log.h"
#include "base/parse.h"
#include "fleetd/api/call_execute.h"
#include "fleetd/api/forward.h"
#include "fleetd/api/forward_serve.h"
#include "fleetd/api/handlers.h"
#include "fleetd/api/keys_v2_answer.h"
#include "fleetd/api/parked.h"
#include "fleetd/api/routes.h"
#include "fleetd/api/socket_access.h"
#include "fleetd/api/tls_front.h"
#include "units/api_json.h"

/* -- The sender of a request: no web page may use a browser to send it (CVE-2018-1098, -1099) -- */

static bool host_is_local(const char *host, const char *bound) {
        char name[128];
        size_t size = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");

        if (size >= sizeof(name) || size > strlen(host) ||
            (host[size] && (host[size] != ':' || host[size + 1 + strspn(host + size + 1, "0123456789")])))
                return false;
        memcpy(name, host, size);
        name[size] = 0;
        /* An address in digits is no DNS name; 127.0.0.1.example is a name, and another server could resolve
         * it. */
        return name[0] == 0 || strcasecmp(name, "localhost") == 0 || streq(name, "[::1]") ||
               (starts_with(name, "127.") && strspn(name, "0123456789.") == size) ||
               (strlen(bound) > size && strncmp(bound, name, size) == 0 && bound[size] == ':');
}

/* Return whether a web page is from this listener: under the name in 'host', which is local, or by its
 * address. Another port of this host is another origin. */
static bool origin_is_ours(const char *origin, const char *host, const char *bound) {
        static const char scheme[] = "http://";
        const char *authority = origin + strlen(scheme);

        return starts_with(origin, scheme) && authority[0] &&
               (streq(authority, host) || streq(authority, bound));
}

/* Set who the peer of the local socket is, and what the settings state about it. 0, -ENOMEM, or why its
 * credentials are unknown. */
static int server_read_peer(const Api *api, const Stream *stream, Principal *ret, PolicyFacts *facts) {
        _cleanup_free_ gid_t *groups = NULL;
        size_t n = 0;
        uid_t uid;

        TRY(stream_peer_uid(stream, &uid));
        ret->kind = PRINCIPAL_LOCAL;
        ret->uid = uid;
        facts->is_operator = uid == 0 || uid == geteuid();
        if (facts->is_operator)
                return 0;
        TRY(stream_peer_groups(stream, &groups, &n));
        for (size_t i = 0; i < n; i++)
                if (groups[i] == api->operators) {
                        facts->is_operator = true;
                        (void) principal_add_group(ret, groups[i]);
                }
        return local_rights_of(&api->local_rights, groups, n, ret, &facts->granted);
}

/* Set *ret to the sender of what arrives on the stream, with its rights as they are now: a new reference. */
static int server_sender(ApiListenerState *listener, const Stream *stream, Sender **ret) {
        const Api *api = listener->api;
        PolicyFacts facts = {};
        Principal p = {};
        int r = 0;

        if (listener->kind == API_TLS)
                tls_front_principal(stream, &p);
        else
                snprintf(p.machine, sizeof(p.machine), "%s", api->settings->machine_id);
        if (listener->kind == API_LOOPBACK) {
                p.kind = PRINCIPAL_ANONYMOUS;
                facts.reads = settings_client_access(api->settings) <= CLIENT_READ_ONLY;
                facts.writes = settings_client_access(api->settings) == CLIENT_READ_WRITE;
        } else if (listener->kind == API_SOCKET)
                r = server_read_peer(api, stream, &p, &facts);
        if (r >= 0 && (!listener->sender || !principal_equal(&listener->sender->principal, &p))) {
                r = policy_facts_read(registry_cluster(api->host->registry), &p, &facts);
                if (listener->kind != API_TLS)
                        facts.is_removed = false; /* a host that has been removed is still its own */
                sender_unref(listener->sender);
                listener->sender = r < 0 ? NULL : sender_new(&p, &facts);
        }
        right_list_unref(facts.granted);
        if (r < 0 || !listener->sender)
                return r < 0 ? r : -ENOMEM;
        *ret = sender_ref(listener->sender);
        return 0;
}

static int request_find_sender(const Request *request, Sender **ret) {
        ApiListenerState *listener = request->listener;

        if (request->http->sink)
                return serving_sender(request, ret);
        if (listener->kind == API_LOOPBACK && listener->sender) { /* all its clients have the same rights */
                *ret = sender_ref(listener->sender);
                return 0;
        }
        return server_sender(listener, request->http->stream, ret);
}

static bool server_is_host(const ApiListenerState *listener, const char *host) {
        switch (listener->kind) {
        case API_LOOPBACK:
                return host_is_local(host, listener->address);
        case API_TLS:
                return tls_front_has_name(listener->front, host);
        default:
                return true;
        }
}

static bool server_is_origin(const ApiListenerState *listener, const HttpRequest *http) {
        static const char scheme[] = "https://";

        if (listener->kind == API_TLS)
                return starts_with(http->origin, scheme) && streq(http->origin + strlen(scheme), http->host);
        return origin_is_ours(http->origin, http->host, listener->address);
}

/* Set the sender of a request. False: it is not accepted, and the request is answered. */
static bool server_authenticate(Request *request) {
        ApiListenerState *listener = request->listener;
        const HttpRequest *http = request->http;
        int r;

        if (!server_is_host(listener, http->host))
                request_error(request, 403, "Host header '%s' does not match this listener", http->host);
        else if (listener->kind != API_SOCKET && http->origin && !server_is_origin(listener, http))
                request_error(request, 403,
                              "requests of web pages from other origins are rejected (Origin: %s)",
                              http->origin);
        else {
                r = request_find_sender(request, &request->sender);
                if (r >= 0)
                        return true;
                request_error(request, r == -ENOMEM ? 500 : 403, "Failed to read the user of the socket: %s",
                              strerror(-r));
        }
        return false;
}

/* Reject a request that can change something, of any path, if ClientAccess= does not permit it. */
static bool server_allows_method(Request *request) {
        bool reads = method_is(request, "GET") || method_is(request, "HEAD") || method_is(request, "OPTIONS");

        if (request->listener->kind != API_LOOPBACK ||
            sender_may(request->sender, reads ? RIGHT_KEYS_READ : RIGHT_KEYS_WRITE))
                return true;
        request_denied(request);
        request_error(
                request, 403, "%s",
                request->sender->facts.is_restricted && request->sender->facts.writes ?
                        "this host is restricted: its clients write only below the prefixes of its token" :
                        "this listener is read-only (ClientAccess=read-only)");
        return false;
}

/* -- Rights that end -- */

static void request_revoke(Request *request) {
        char text[PRINCIPAL_TEXT_SIZE];

        log_debug(NO_FIELDS, "ended a request of %s: it has lost a right",
                  principal_text(&request->sender->principal, text));
        if (request->on_revoked)
                request->on_revoked(request);
        else if (request->streams)
                request_cut(request, "the right to this stream has ended");
        else if (sender_may(request->sender, request->route->right))
                keys_v2_refuse_any(request, "the rights of the sender have changed: try again");
        else
                route_forbid(request, request->route->right);
}

/* Return whether the cluster view still states the same about the sender: mostly, without a new one. */
static bool server_is_current(const Api *api, const Sender *sender) {
        const PolicyFacts *facts = &sender->facts;
        PolicyFacts now = {};
        bool same;
        int r;

        r = policy_facts_read(registry_cluster(api->host->registry), &sender->principal, &now);
        same = r >= 0 && now.is_restricted == facts->is_restricted && streq(now.of_host, facts->of_host);
        if (sender->principal.kind == PRINCIPAL_USER)
                same = same && now.is_removed == facts->is_removed &&
                       right_list_covers(now.granted, facts->granted) &&
                       right_list_covers(facts->granted, now.granted);
        right_list_unref(now.granted);
        return same;
}

/* Give each request the sender that it would have now. If a right is lost, answers that last end, and reads
 * are not answered: a stream may still begin. A change without an answer so far was permitted when it
 * arrived. */
static void server_review(void *userdata) {
        Api *api = userdata;
        Request *request, *next;
        ApiListenerState *listener;

        TAILQ_FOREACH(listener, &api->listeners, listeners)
                listener->sender = sender_unref(listener->sender);
        for (request = TAILQ_FIRST(&api->requests); request; request = next) {
                Sender *now = NULL;
                bool kept;

                next = TAILQ_NEXT(request, requests);
                if (!request->sender || (!api->regrant && server_is_current(api, request->sender)) ||
                    request_find_sender(request, &now) < 0)
                        continue;
                kept = sender_keeps(now, request->sender);
                sender_unref(request->sender);
                request->sender = now;
                if (!kept &&
                    (request->watching || request->streams || (request->route && forward_reads(request))))
                        request_revoke(request);
        }
        api->regrant = false;
        call_execute_review(api);
        TAILQ_FOREACH(listener, &api->listeners, listeners)
                if (listener->front)
                        tls_front_review(listener->front);
}

/* Only principals, hosts, tombstones and roots concern rights; the other keys of this kind of change are
 * rare. */
static void api_on_rights(void *userdata, const RegistryChange *change) {
        Api *api = userdata;

        if (change->kind == CHANGED_CLUSTER || change->kind == CHANGED_ALL)
                loop_defer(api->loop, &api->review);
}

/* -- Read bound: while the tree may be older than the state that this host served, reads wait until it has
 * caught up --
 */

static void gate_refuse(Request *request) {
        KvState state;
        char cause[448];

        kv_state(request->api->host->store, &state);
        if (state.removed)
                snprintf(cause, sizeof(cause), "%s", state.problem);
        else if (state.unserved && state.index == 0)
                snprintf(cause, sizeof(cause), "no state of a cluster yet: %s (journalctl -u fleetd)",
                         state.problem[0] ? state.problem : "the leader does not answer");
        else
                snprintf(cause, sizeof(cause),
                         "%s index %llu of its tree; reads are served once it has caught up (%s)",
                         state.unserved ? "this host has not received the state of its cluster beyond" :
                                          "this host served states beyond",
                         (unsigned long long) state.index,
                         state.problem[0] ? state.problem : "the leader does not answer");
        keys_v2_refuse_any(request, cause);
}

static void gate_on_synced(Request *request, KvStatus status) {
        if (status == KV_OK)
                route_request(request);
        else
                gate_refuse(request);
}

/* Return whether the answer depends on the tree; identity and condition of this host do not. */
static bool gate_concerns(const Request *request) {
        const char *path = request->path;

        return (method_is(request, "GET") || method_is(request, "HEAD")) &&
               (starts_with(path, "/v2/keys") ||
                ((starts_with(path, "/fleet/v1/") || starts_with(path, "/v1-alpha/")) &&
                 !streq(path + 9, "/cluster") && !streq(path + 9, "/local")));
}

static void gate_admit(Request *request) {
        if (!gate_concerns(request) || kv_can_serve(request->api->host->store))
                route_request(request);
        else
                request_sync(request, gate_on_synced);
}

/* -- The server's callbacks -- */

static size_t api_on_body(void *userdata, const HttpRequest *http) {
        return api_body_limit(userdata, http->method, http->target);
}

/* Write an error that is answered before a handler is called, in the form of the listener. */
static const char *api_write_refusal(void *userdata, void *at, unsigned status, const char *message,
                                     Text *body) {
        const ApiListenerState *listener = at;

        if (listener->dialect == DIALECT_FLEET)
                api_error_write(body, status, message, NULL);
        else
                (void) keys_v2_write_error(body, status == 503 ? 300 : 210, message, strlen(message), 0);
        return "application/json";
}

static bool server_reads_parameters(Request *request) {
        Error err = {};
        int r;

        r = http_parameters_parse(&request->parameters, request->query, strlen(request->query), &err);
        if (r >= 0)
                return true;
        request_error(request, request_refused(r, &err), "%s", err.message);
        return false;
}

static void api_on_request(void *userdata, HttpRequest *http) {
        Request *request = api_request_new(userdata, http);
        int r;

        if (!request) {
                http_answer(http, 503, "text/plain; charset=utf-8", NULL, "out of memory\n", 14);
                return;
        }
        r = http_target_split(http->target, &request->path, &request->path_size, &request->query);
        if (r == -ENOMEM)
                request_error(request, 500, "out of memory");
        else if (r < 0)
                request_refuse_target(request);
        else if (server_authenticate(request) && server_allows_method(request) &&
                 /* keys of v2 have parameters in the body, too: their handler reads both */
                 (starts_with(request->path, "/v2/keys") || server_reads_parameters(request)))
                gate_admit(request);
}

static void api_on_gone(void *userdata, HttpRequest *http) {
        Request *request = http->userdata;

        if (request)
                request_free(request);
}

static void api_on_drain(void *userdata, HttpRequest *http) {
        Request *request = http->userdata;

        if (request && request->on_drain)
                request->on_drain(request);
}

static const HttpHandler api_handler = {
        .body_limit = api_on_body,
        .on_request = api_on_request,
        .on_gone = api_on_gone,
        .on_drain = api_on_drain,
        .write_error = api_write_refusal,
};

/* -- Listeners -- */

/* Users that are no operators have connections of their own, and cannot take those of operators. */
static void api_on_accepted(void *userdata, Stream *stream) {
        ApiListenerState *listener = userdata;
        _cleanup_(sender_unrefp) Sender *sender = NULL;
        HttpServer *server = listener->server;

        if (listener->groups && listener->api->local_rights.n > 0 &&
            (server_sender(listener, stream, &sender) < 0 || !sender->facts.is_operator))
                server = listener->groups;
        http_server_accept(server, stream, listener);
}

/* Let root, group fleet and the groups with rights connect; root alone if there are no such groups. */
static void socket_give(const Api *api, const char *path) {
        uint32_t groups[LOCAL_GROUPS_MAX];
        int r;

        if (api->operators != UINT32_MAX && chown(path, (uid_t) -1, api->operators) < 0)
                log_warning(((LogFields) { .error = -errno }),
                            "Failed to change the group of %s to fleet: %s; only root can connect", path,
                            strerror(errno));
        for (size_t i = 0; i < api->local_rights.n; i++)
                groups[i] = api->local_rights.groups[i].gid;
        r = socket_admit(path, groups, api->local_rights.n);
        if (r < 0)
                log_warning(((LogFields) { .error = r }),
                            "Failed to admit the groups of LocalRights= to %s: %s; only root and group fleet "
                            "can connect",
                            path, strerror(-r));
}

static void listener_free(ApiListenerState *listener) {
        if (listener->listener)
                listener->api->host->io.network->ops->unlisten(listener->api->host->io.network,
                                                               listener->listener);
        if (listener->server)
                http_server_free(listener->server);
        if (listener->groups)
                http_server_free(listener->groups);
        tls_front_free(listener->front);
        sender_unref(listener->sender);
        free(listener);
}

DEFINE_CLEANUP(ApiListenerState *, listener_free)

int api_listen(Api *api, ApiListener kind, const char *address, Error *err) {
        _cleanup_(listener_freep) ApiListenerState *listener = NEW0(ApiListenerState, 1);
        Network *net = api->host->io.network;
        int r;

        if (!listener)
                return -ENOMEM;
        api_listener_init(listener, api, kind);
        snprintf(listener->address, sizeof(listener->address), "%s", address);
        r = http_server_new(&listener->server, api->loop, &api_handler, api, &api->settings->http);
        if (r >= 0 && kind == API_SOCKET)
                r = http_server_new(&listener->groups, api->loop, &api_handler, api, &api->settings->http);
        if (r < 0)
                return r;
        if (kind == API_TLS)
                r = tls_front_new(&listener->front, listener, err);
        else
                r = net->ops->listen(net, address, api_on_accepted, listener, &listener->listener, err);
        if (r < 0)
                return r;
        if (kind == API_SOCKET)
                socket_give(api, address);
        TAILQ_INSERT_TAIL(&api->listeners, listener, listeners);
        (void) TAKE_PTR(listener);
        return 0;
}

void api_each_listener(const Api *api,
                       void (*each)(void *userdata, const char *name, const HttpCounts *counts),
                       void *userdata) {
        const ApiListenerState *listener;

        TAILQ_FOREACH(listener, &api->listeners, listeners) {
                HttpCounts counts = http_server_counts(listener->server);

                each(userdata, listener->name, &counts);
        }
}

uint64_t api_watches(const Api *api) {
        return api->n_watching;
}

void api_state_changed(void *self) {
        Api *api = self;
        KvState state;

        parked_begin(api);
        kv_state(api->host->store, &state);
        if (state.leader_id == api->leader_id)
                return;
        api->leader_id = state.leader_id;
        api->leader_since_ms = loop_now_ms(api->loop);
}

/* Settings were checked when they were read; a group that does not exist has no rights. */
static int api_read_local_rights(Api *api) {
        const Names *texts = &api->settings->local_rights;
        _cleanup_local_rights_ LocalRights all = {};
        LocalRights former = api->local_rights;

        for (size_t i = 0; i < texts->n; i++)
                if (local_rights_add(&all, texts->items[i], NULL) == -ENOMEM)
                        return -ENOMEM;
        api->local_rights = all;
        all = former;
        return 0;
}

int api_reload(ComponentHost *host, void *self, const Settings *settings) {
        Api *api = self;
        ApiListenerState *listener;

        if (api_read_local_rights(api) < 0)
                log_error(NO_FIELDS, "out of memory: LocalRights= stays as it was");
        TAILQ_FOREACH(listener, &api->listeners, listeners) {
                http_server_set_limits(listener->server, &settings->http);
                if (listener->groups)
                        http_server_set_limits(listener->groups, &settings->http);
                if (listener->kind == API_SOCKET)
                        socket_give(api, listener->address);
        }
        api->regrant = true;
        loop_defer(api->loop, &api->review);
        return 0;
}

int api_new(Api **ret, ComponentHost *host) {
        const struct group *group = getgrnam("fleet");
        Api *api = NEW0(Api, 1);
        int r;

        if (!api)
                return -ENOMEM;
        *api = (Api) { .loop = host->io.loop,
                       .host = host,
                       .settings = host->settings,
                       .started_ms = loop_now_ms(host->io.loop),
                       .leader_since_ms = loop_now_ms(host->io.loop) };
        TAILQ_INIT(&api->listeners);
        TAILQ_INIT(&api->requests);
        TAILQ_INIT(&api->listings);
        TAILQ_INIT(&api->scrapes);
        for (size_t i = 0; i < PLAN_SENDERS_MAX; i++)
                TAILQ_INIT(&api->plans[i].plans);
        api->list = DEFERRED(api_on_list, api);
        api->review = DEFERRED(server_review, api);
        parked_init(api);
        api->operators = group ? group->gr_gid : UINT32_MAX;
        denials_init(&api->denials, api->loop, host->registry);
        r = api_read_local_rights(api);
        if (r >= 0)
                r = remote_commands_new(api);
        if (r >= 0)
                r = forward_new(api);
        if (r >= 0)
                r = serving_new(api);
        if (r < 0) {
                api_free(api);
                return r;
        }
        api->rights = (RegistryObserver) { .on_change = api_on_rights, .userdata = api };
        if (host->registry)
                registry_observe(host->registry, &api->rights);
        *ret = api;
        return 0;
}

void *api_free(void *self) {
        Api *api = self;
        ApiListenerState *listener;
        Request *request;

        if (!api)
                return NULL;

        serving_free(api);
        while ((request = TAILQ_FIRST(&api->requests))) {
                request->http->userdata = NULL;
                request_free(request);
        }
        parked_end(api);
        forward_free(api);
        metrics_stop(api);
        denials_done(&api->denials);
        deferred_cancel(&api->list);
        deferred_cancel(&api->review);
        if (api->host->registry)
                registry_unobserve(api->host->registry, &api->rights);
        local_rights_done(&api->local_rights);
        remote_commands_free(api);
        while ((listener = TAILQ_FIRST(&api->listeners))) {
                TAILQ_REMOVE(&api->listeners, listener, listeners);
                listener_free(listener);
        }
        free(api);
        return NULL;
}
