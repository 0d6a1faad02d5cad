#include "fleetd/api/api.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <strings.h>

#include "base/log.h"
#include "base/parse.h"
#include "fleetd/api/keys_v2.h"
#include "fleetd/api/kv_v1.h"
#include "fleetd/api/routes.h"
#include "units/api_json.h"

enum { UNIT_BODY_MAX = 1024 * 1024, BODY_UNREAD_MAX = 64 * 1024 };

const ApiLimits api_limits_default = {
        .key_size = KV_KEY_MAX,
        .value_size = KV_VALUE_MAX,
        .body_size = 2 << 20, /* a value and its previous one, each byte as %XX, and a margin */
        .answer_nodes = 100000,
        .answer_size = 32 << 20,
        .watches = 100000,
};

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

/* Set the principal of a request. False: the sender is not accepted, and the request is answered. */
static bool server_authenticate(Request *request) {
        const ApiListenerState *listener = request->listener;
        const HttpRequest *http = request->http;

        if (listener->is_dialed && !host_is_local(http->host, listener->address))
                request_error(request, 403, "Host header '%s' does not match this listener", http->host);
        else if (listener->is_dialed && http->origin &&
                 !origin_is_ours(http->origin, http->host, listener->address))
                request_error(request, 403,
                              "requests of web pages from other origins are rejected (Origin: %s)",
                              http->origin);
        else {
                request->principal = listener->principal;
                return true;
        }
        return false;
}

/* Reject a request that can change something, of any path, if its sender may not write users' keys. */
static bool server_allows_method(Request *request) {
        bool reads = method_is(request, "GET") || method_is(request, "HEAD") || method_is(request, "OPTIONS");

        if (policy_allows(request->principal, reads ? RIGHT_KEYS_READ : RIGHT_KEYS_WRITE, RESOURCE_USER_KEYS))
                return true;
        request_error(request, 403, "this listener is read-only (ClientAccess=read-only)");
        return false;
}

/* -- Read bound: while the tree may be older than the state that this host served, reads wait until it has
 * caught up --
 */

static void gate_refuse(Request *request) {
        KvState state;
        char cause[448];

        kv_state(request->api->options.store, &state);
        if (state.unserved && state.index == 0)
                snprintf(cause, sizeof(cause), "no state of a cluster yet: %s (journalctl -u fleetd)",
                         state.problem[0] ? state.problem : "the leader does not answer");
        else
                snprintf(cause, sizeof(cause),
                         "%s index %llu of its tree; reads are served once it has caught up (%s)",
                         state.unserved ? "this host has not received the state of its cluster beyond" :
                                          "this host served states beyond",
                         (unsigned long long) state.index,
                         state.problem[0] ? state.problem : "the leader does not answer");
        if (starts_with(request->path, "/v2/"))
                keys_v2_refuse(request, cause);
        else
                request_error(request, 503, "%s", cause);
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
                 !streq(path + 9, "/cluster")));
}

static void gate_admit(Request *request) {
        if (!gate_concerns(request) || kv_can_serve(request->api->options.store))
                route_request(request);
        else
                request_sync(request, gate_on_synced);
}

/* -- The server's callbacks -- */

static size_t api_body_limit(void *userdata, const HttpRequest *http) {
        const Api *api = userdata;
        bool is_read = streq(http->method, "PUT") || streq(http->method, "POST") ||
                       streq(http->method, "PATCH");

        if (!is_read)
                return BODY_UNREAD_MAX;
        if (starts_with(http->target, "/v2/"))
                return api->limits.body_size;
        if (starts_with(http->target, "/fleet/v1/kv/txn"))
                return MIN(api->limits.body_size, (uint64_t) KV_TXN_BODY_MAX);
        return MIN(api->limits.body_size, (uint64_t) UNIT_BODY_MAX);
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

/* Keys of v2 have parameters in the body, too: their handler reads both. */
static bool server_reads_parameters(Request *request) {
        Error err = {};
        int r;

        if (starts_with(request->path, "/v2/keys"))
                return true;
        r = http_parameters_parse(&request->parameters, request->query, strlen(request->query), &err);
        if (r >= 0)
                return true;
        request_refuse(request, r, &err);
        return false;
}

static void api_on_request(void *userdata, HttpRequest *http) {
        Request *request = NEW0(Request, 1);
        int r;

        if (!request) {
                http_answer(http, 503, "text/plain; charset=utf-8", NULL, "out of memory\n", 14);
                return;
        }
        *request = (Request) { .api = userdata, .http = http, .listener = http->listener };
        TAILQ_INSERT_TAIL(&request->api->requests, request, requests);
        http->userdata = request;

        r = http_target_split(http->target, &request->path, &request->path_size, &request->query);
        if (r == -ENOMEM)
                request_error(request, 500, "out of memory");
        else if (r < 0)
                request_refuse_target(request);
        else if (server_authenticate(request) && server_allows_method(request) &&
                 server_reads_parameters(request))
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
        .body_limit = api_body_limit,
        .on_request = api_on_request,
        .on_gone = api_on_gone,
        .on_drain = api_on_drain,
        .write_error = api_write_refusal,
};

/* -- Listeners -- */

static void api_on_accepted(void *userdata, Stream *stream) {
        ApiListenerState *listener = userdata;

        http_server_accept(listener->server, stream, listener);
}

/* Let root and group fleet connect; root alone if there is no such group. */
static void socket_give(const char *path) {
        const struct group *g = getgrnam("fleet");

        if (g && chown(path, (uid_t) -1, g->gr_gid) < 0)
                log_warning(((LogFields) { .error = -errno }),
                            "Failed to change the group of %s to fleet: %s; only root can connect", path,
                            strerror(errno));
}

/* Set what distinguishes the listeners: the principal of their requests, and the form of errors. No other
 * code does. */
static void listener_init(ApiListenerState *listener, ApiListener kind, ClientAccess access) {
        static const Principal clients[] = {
                [CLIENT_READ_WRITE] = PRINCIPAL_WRITER,
                [CLIENT_READ_ONLY] = PRINCIPAL_READER,
                [CLIENT_OFF] = PRINCIPAL_NONE,
        };

        if (kind == API_SOCKET) {
                listener->principal = PRINCIPAL_ADMINISTRATOR;
                listener->dialect = DIALECT_FLEET;
                listener->name = "socket";
                return;
        }
        listener->principal = clients[access];
        listener->dialect = DIALECT_ETCD;
        listener->is_dialed = true;
        listener->name = "loopback";
}

int api_listen(Api *api, ApiListener kind, const char *address, Error *err) {
        ApiListenerState *listener = NEW0(ApiListenerState, 1);
        Network *net = api->options.network;
        int r;

        if (!listener)
                return -ENOMEM;
        listener_init(listener, kind, api->options.access);
        snprintf(listener->address, sizeof(listener->address), "%s", address);
        r = http_server_new(&listener->server, api->loop, &api_handler, api, &api->http);
        if (r < 0) {
                free(listener);
                return r;
        }
        r = net->ops->listen(net, address, api_on_accepted, listener, &listener->listener, err);
        if (r < 0) {
                http_server_free(listener->server);
                free(listener);
                return r;
        }
        if (kind == API_SOCKET)
                socket_give(address);
        TAILQ_INSERT_TAIL(&api->listeners, listener, listeners);
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

void api_state_changed(Api *api) {
        KvState state;

        kv_state(api->options.store, &state);
        if (state.leader_id == api->leader_id)
                return;
        api->leader_id = state.leader_id;
        api->leader_since_ms = loop_now_ms(api->loop);
}

void api_set_limits(Api *api, const ApiLimits *limits, const HttpLimits *http) {
        ApiListenerState *listener;

        api->limits = *limits;
        api->http = *http;
        TAILQ_FOREACH(listener, &api->listeners, listeners)
                http_server_set_limits(listener->server, http);
}

int api_new(Api **ret, Loop *loop, const ApiOptions *options) {
        Api *api = NEW0(Api, 1);
        int r;

        if (!api)
                return -ENOMEM;
        *api = (Api) { .loop = loop,
                       .options = *options,
                       .started_ms = loop_now_ms(loop),
                       .leader_since_ms = loop_now_ms(loop) };
        TAILQ_INIT(&api->listeners);
        TAILQ_INIT(&api->requests);
        TAILQ_INIT(&api->listings);
        TAILQ_INIT(&api->scrapes);
        api->list = DEFERRED(api_on_list, api);
        snprintf(api->machine_id, sizeof(api->machine_id), "%s", options->machine_id);
        snprintf(api->name, sizeof(api->name), "%s", options->name);
        api->options.machine_id = api->machine_id;
        api->options.name = api->name;

        api->limits = options->limits ? *options->limits : api_limits_default;
        api->http = options->http ? *options->http : http_limits_default;

        r = remote_commands_new(api);
        if (r < 0) {
                api_free(api);
                return r;
        }
        *ret = api;
        return 0;
}

Api *api_free(Api *api) {
        ApiListenerState *listener;
        Request *request;

        if (!api)
                return NULL;

        while ((request = TAILQ_FIRST(&api->requests))) {
                request->http->userdata = NULL;
                request_free(request);
        }
        metrics_stop(api);
        deferred_cancel(&api->list);
        remote_commands_free(api);
        while ((listener = TAILQ_FIRST(&api->listeners))) {
                TAILQ_REMOVE(&api->listeners, listener, listeners);
                api->options.network->ops->unlisten(api->options.network, listener->listener);
                http_server_free(listener->server);
                free(listener);
        }
        free(api);
        return NULL;
}
