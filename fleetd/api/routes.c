#include "fleetd/api/routes.h"

#include "fleetd/api/cluster_v2.h"
#include "fleetd/api/fleet_v1.h"
#include "fleetd/api/forward.h"
#include "fleetd/api/keys_v2_answer.h"
#include "fleetd/api/kv_v1.h"
#include "fleetd/problems/daemon.h"

/* One line per path and right. fleet-api(7) documents the same paths. The order within one path is the order
 * of the methods in an answer 405. */
/* clang-format off */
static const Route routes[] = {
        { ROUTE_KEYS,    "HEAD GET", "/v2/keys/**",              RIGHT_KEYS_READ, AT_STORE, keys_v2_handle },
        { ROUTE_KEYS,    "PUT POST DELETE", "/v2/keys/**", RIGHT_KEYS_WRITE, AT_STORE, keys_v2_handle },

        { ROUTE_KV,      "GET",  "/fleet/v1/kv/changes",     RIGHT_KEYS_READ,    AT_STORE, kv_changes_handle,
          .parameters = "after prefix progress" },
        { ROUTE_KV,      "GET HEAD", "/fleet/v1/kv/list",        RIGHT_KEYS_READ,    AT_VIEW, kv_list_handle,
          .parameters = "limit nextPageToken prefix quorum recursive values" },
        { ROUTE_KV,      "POST", "/fleet/v1/kv/txn",         RIGHT_KEYS_WRITE,   AT_STORE, kv_txn_handle,
          .parameters = "" },
        { ROUTE_KV,      "GET HEAD", "/fleet/v1/kv/value/**", RIGHT_KEYS_READ, AT_STORE, kv_value_get_handle,
          .parameters = "quorum" },
        { ROUTE_KV,      "PUT",  "/fleet/v1/kv/value/**",    RIGHT_KEYS_WRITE, AT_STORE, kv_value_put_handle,
          .parameters = "prevExist prevIndex ttl" },
        { ROUTE_KV, "DELETE", "/fleet/v1/kv/value/**", RIGHT_KEYS_WRITE, AT_STORE, kv_value_delete_handle,
          .parameters = "dir prevIndex recursive" },

        { ROUTE_ETCD,    "GET",  "/version",                 RIGHT_STATUS_SEE,   AT_HOST, v2_version_handle },
        { ROUTE_ETCD,    "GET",  "/health",                  RIGHT_STATUS_SEE,   AT_HOST, v2_health_handle },
        { ROUTE_ETCD,    "GET HEAD", "/v2/machines", RIGHT_STATUS_SEE, AT_HOST, v2_machines_handle },
        { ROUTE_ETCD,    "GET",  "/v2/members/**",           RIGHT_STATUS_SEE,   AT_HOST, v2_members_handle },
        { ROUTE_ETCD,    "POST DELETE PUT", "/v2/members/**", RIGHT_STATUS_SEE, AT_VIEW, v2_members_handle },
        { ROUTE_ETCD,    "GET",  "/v2/stats/self", RIGHT_STATUS_SEE, AT_VIEW, v2_stats_self_handle },
        { ROUTE_ETCD,    "GET",  "/v2/stats/leader", RIGHT_STATUS_SEE, AT_VIEW, v2_stats_leader_handle },
        { ROUTE_ETCD,    "GET",  "/v2/stats/store", RIGHT_STATUS_SEE, AT_VIEW, v2_stats_store_handle },
        { ROUTE_ETCD,    "GET HEAD", "/v2/auth/users", RIGHT_STATUS_SEE, AT_HOST, v2_auth_list_handle },
        { ROUTE_ETCD,    "GET HEAD", "/v2/auth/roles", RIGHT_STATUS_SEE, AT_HOST, v2_auth_list_handle },
        { ROUTE_ETCD, "GET PUT DELETE", "/v2/auth/enable", RIGHT_STATUS_SEE, AT_HOST, v2_auth_enable_handle },

        { ROUTE_METRICS, "GET",  "/metrics",                 RIGHT_UNITS_SEE,    AT_HOST, metrics_handle },

        { ROUTE_FLEET,   "GET",  "/fleet/v1/units",          RIGHT_UNITS_SEE,    AT_VIEW, units_list_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/units/*",        RIGHT_UNITS_SEE,    AT_VIEW, units_get_handle },
        { ROUTE_FLEET,   "PUT",  "/fleet/v1/units/*",        RIGHT_UNITS_CHANGE, AT_VIEW, units_put_handle },
        { ROUTE_FLEET,   "DELETE", "/fleet/v1/units/*", RIGHT_UNITS_CHANGE, AT_VIEW, units_delete_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/units/*/move",   RIGHT_UNITS_SEE,    AT_VIEW, move_get_handle },
        { ROUTE_FLEET,   "PUT",  "/fleet/v1/units/*/move",   RIGHT_UNITS_CHANGE, AT_VIEW, move_put_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/units/*/move", RIGHT_UNITS_CHANGE, AT_VIEW, move_delete_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/revisions/*",    RIGHT_UNITS_SEE,    AT_VIEW, revisions_handle },
        { ROUTE_FLEET,   "POST", "/fleet/v1/batch",          RIGHT_UNITS_CHANGE, AT_VIEW, batch_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/state",          RIGHT_UNITS_SEE, AT_VIEW, states_list_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/state/*",        RIGHT_UNITS_SEE,    AT_VIEW, states_get_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/local",          RIGHT_UNITS_SEE, AT_HOST, states_local_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/machines",       RIGHT_UNITS_SEE, AT_VIEW, machines_list_handle },
        { ROUTE_FLEET,   "PATCH", "/fleet/v1/machines", RIGHT_UNITS_CHANGE, AT_VIEW, machines_patch_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/machines/*", RIGHT_ADMINISTER, AT_VIEW, machines_delete_handle },
        { ROUTE_FLEET,   NULL,   "/fleet/v1/machines/*",     RIGHT_STATUS_SEE,   AT_HOST, machine_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/machines/*/maintenance", RIGHT_UNITS_SEE, AT_VIEW,
          maintenance_get_handle },
        { ROUTE_FLEET,   "PUT",  "/fleet/v1/machines/*/maintenance", RIGHT_ADMINISTER, AT_VIEW,
          maintenance_put_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/machines/*/maintenance", RIGHT_ADMINISTER, AT_VIEW,
          maintenance_delete_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/why/*",          RIGHT_UNITS_SEE,    AT_VIEW, why_handle },
        { ROUTE_FLEET,   "POST", "/fleet/v1/plan",           RIGHT_UNITS_SEE,    AT_VIEW, plan_handle },
        { ROUTE_FLEET,   "POST", "/fleet/v1/plan/machines",  RIGHT_UNITS_SEE, AT_VIEW, plan_machines_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/directory", RIGHT_UNITS_SEE, AT_VIEW, directory_list_handle },
        { ROUTE_FLEET,   "POST", "/fleet/v1/directory", RIGHT_UNITS_CHANGE, AT_VIEW, directory_post_handle },
        { ROUTE_FLEET,   NULL,   "/fleet/v1/discovery",      RIGHT_UNITS_SEE,    AT_HOST, discovery_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/events",         RIGHT_UNITS_SEE,    AT_VIEW, events_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/history",        RIGHT_UNITS_SEE,    AT_VIEW, history_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/problems",       RIGHT_UNITS_SEE,    AT_VIEW, problems_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/cluster",        RIGHT_UNITS_SEE,    AT_BOTH, cluster_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/cluster/backup", RIGHT_ADMINISTER,   AT_VIEW, backup_handle },
        { ROUTE_FLEET,   "PUT",  "/fleet/v1/cluster/level",  RIGHT_ADMINISTER,   AT_VIEW, level_handle },
        { ROUTE_FLEET,   "PUT",  "/fleet/v1/cluster/settings", RIGHT_ADMINISTER,   AT_VIEW, settings_handle },
        { ROUTE_FLEET,   "DELETE", "/fleet/v1/cluster/adopting", RIGHT_ADMINISTER, AT_VIEW, adopting_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/cluster/tokens", RIGHT_ADMINISTER, AT_VIEW, tokens_list_handle },
        { ROUTE_FLEET, "POST", "/fleet/v1/cluster/tokens", RIGHT_ADMINISTER, AT_VIEW, tokens_create_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/cluster/tokens/*", RIGHT_ADMINISTER, AT_VIEW,
          tokens_revoke_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/cluster/ca",     RIGHT_UNITS_SEE,    AT_VIEW, ca_handle },
        { ROUTE_FLEET,   "POST", "/fleet/v1/cluster/ca/rotate", RIGHT_ADMINISTER, AT_VIEW, ca_rotate_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/cluster/users",  RIGHT_ADMINISTER,   AT_VIEW, users_list_handle },
        { ROUTE_FLEET,   "PUT",  "/fleet/v1/cluster/users/*", RIGHT_ADMINISTER,   AT_VIEW, users_put_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/cluster/users/*", RIGHT_ADMINISTER, AT_VIEW,
          users_delete_handle },
        { ROUTE_FLEET, "POST", "/fleet/v1/cluster/host/rekey", RIGHT_ADMINISTER, AT_HOST, rekey_host_handle },
        { ROUTE_FLEET,   "POST", "/fleet/v1/cluster/rekey",  RIGHT_ADMINISTER,   AT_VIEW, rekey_handle },
        { ROUTE_FLEET,   "POST", "/fleet/v1/cluster/secure", RIGHT_ADMINISTER,   AT_VIEW, secure_handle },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/cluster/leave",  RIGHT_UNITS_SEE,    AT_HOST, leave_get_handle },
        { ROUTE_FLEET,   "POST", "/fleet/v1/cluster/leave",  RIGHT_LEAVE,        AT_HOST, leave_post_handle },
        { ROUTE_FLEET, "DELETE", "/fleet/v1/cluster/leave", RIGHT_LEAVE, AT_HOST, leave_delete_handle },

        { ROUTE_FLEET,   "GET",  "/fleet/v1/journal/*",      RIGHT_UNITS_SEE, AT_UNIT, remote_command_handle,
          .command = CALL_JOURNAL },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/status/*",       RIGHT_UNITS_SEE, AT_UNIT, remote_command_handle,
          .command = CALL_STATUS },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/show/*",         RIGHT_UNITS_SEE, AT_UNIT, remote_command_handle,
          .command = CALL_SHOW },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/dependencies/*", RIGHT_UNITS_SEE, AT_UNIT, remote_command_handle,
          .command = CALL_DEPENDENCIES },
        { ROUTE_FLEET,   "POST", "/fleet/v1/reload/*", RIGHT_UNITS_CHANGE, AT_UNIT, remote_command_handle,
          .command = CALL_RELOAD },
        { ROUTE_FLEET,   "POST", "/fleet/v1/kill/*", RIGHT_UNITS_CHANGE, AT_UNIT, remote_command_handle,
          .command = CALL_KILL },
        { ROUTE_FLEET, "POST", "/fleet/v1/reset-failed/*", RIGHT_UNITS_CHANGE, AT_UNIT, remote_command_handle,
          .command = CALL_RESET_FAILED },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/log",            RIGHT_UNITS_SEE,    AT_UNIT, remote_host_handle,
          .command = CALL_LOG },
        { ROUTE_FLEET,   "GET",  "/fleet/v1/usage",          RIGHT_UNITS_SEE,    AT_UNIT, remote_host_handle,
          .command = CALL_USAGE },
};
/* clang-format on */

/* -- Finding a route -- */

static const char fleet_prefix[] = "/fleet/v1", fleet_alias[] = "/v1-alpha";
enum { FLEET_PREFIX = sizeof(fleet_prefix) - 1 };
static_assert(sizeof(fleet_alias) == sizeof(fleet_prefix), "patterns of the alias begin at the same byte");

static bool path_is_of_fleet(const char *path) {
        return starts_with(path, fleet_prefix) || starts_with(path, fleet_alias);
}

static RouteFamily route_family(const char *path, size_t size) {
        static const char keys[] = "/v2/keys", kv[] = "/fleet/v1/kv";
        const size_t keys_size = sizeof(keys) - 1, kv_size = sizeof(kv) - 1;

        if (starts_with(path, keys) && (size == keys_size || path[keys_size] == '/'))
                return ROUTE_KEYS;
        if (starts_with(path, kv) && (path[kv_size] == 0 || path[kv_size] == '/'))
                return ROUTE_KV;
        if (starts_with(path, "/v2/") || streq(path, "/version") || streq(path, "/health"))
                return ROUTE_ETCD;
        if (streq(path, "/metrics"))
                return ROUTE_METRICS;
        if (path_is_of_fleet(path) && (path[FLEET_PREFIX] == 0 || path[FLEET_PREFIX] == '/'))
                return ROUTE_FLEET;
        return ROUTE_UNKNOWN;
}

/* Return what 'pattern' leaves open of 'path', and what follows; "" if nothing. NULL: the path does not
 * match.
 */
static const char *pattern_match(const char *pattern, const char *path, size_t size) {
        size_t n = strcspn(pattern, "*");

        if (pattern[n] == 0)
                return size == n && memcmp(path, pattern, n) == 0 ? path + n : NULL;
        if (pattern[n + 1] == '/') { /* "/a/ * /b" */
                const char *end = strncmp(path, pattern, n) == 0 && path[n] ? strchr(path + n, '/') : NULL;

                return end && end > path + n && streq(end, pattern + n + 1) ? path + n : NULL;
        }
        if (pattern[n + 1] == 0)
                return strncmp(path, pattern, n) == 0 && path[n] && !strchr(path + n, '/') ? path + n : NULL;
        n--; /* "/a" of "/a/ **" */
        return strncmp(path, pattern, n) == 0 && (path[n] == 0 || path[n] == '/') ? path + n : NULL;
}

/* Return what a route of this family leaves open of the path; NULL: it is none. */
static const char *route_match(const Route *route, RouteFamily family, const char *path, size_t size) {
        size_t prefix = family == ROUTE_FLEET ? FLEET_PREFIX : 0;

        if (route->family != family)
                return NULL;
        return pattern_match(route->pattern + prefix, path + prefix, size - prefix);
}

/* The sets of routes: that of the core, then those of the components. False: there are no more. */
static bool route_set(const Component *const *components, size_t i, const Route **ret,
                      const Route **ret_end) {
        if (i > 0 && (!components || !components[i - 1]))
                return false;
        *ret = i > 0 ? components[i - 1]->routes : routes;
        *ret_end = *ret + (i > 0 ? components[i - 1]->n_routes : ELEMENTS(routes));
        return true;
}

/* Write the methods of all routes with this path, separated by commas; "" if there is none. */
static void route_methods(const Component *const *components, RouteFamily family, const char *path,
                          size_t size, char ret_methods[static ROUTE_METHODS_SIZE]) {
        const Route *route, *end;
        size_t n = 0;

        ret_methods[0] = 0;
        for (size_t i = 0; route_set(components, i, &route, &end); i++)
                for (; route < end; route++) {
                        if (!route_match(route, family, path, size))
                                continue;
                        assert(n + strlen(route->methods) + 2 <= ROUTE_METHODS_SIZE);
                        n += (size_t) snprintf(ret_methods + n, ROUTE_METHODS_SIZE - n, "%s%s",
                                               n > 0 ? "," : "", route->methods);
                }
        for (char *p = strchr(ret_methods, ' '); p; p = strchr(p, ' '))
                *p = ',';
}

const Route *route_find(const Component *const *components, RouteFamily family, const char *method,
                        const char *path, size_t size, const char **ret_rest,
                        char ret_methods[static ROUTE_METHODS_SIZE]) {
        const Route *route, *end;

        for (size_t i = 0; route_set(components, i, &route, &end); i++)
                for (; route < end; route++) {
                        const char *rest = route_match(route, family, path, size);

                        if (rest && (!route->methods || text_has_word(route->methods, method))) {
                                *ret_rest = rest;
                                return route;
                        }
                }
        route_methods(components, family, path, size, ret_methods);
        return NULL;
}

/* A path is of one component, and each route of it has methods of its own. */
static bool route_is_same(const Route *a, const Route *b, bool other) {
        return a->family == b->family && streq(a->pattern, b->pattern) &&
               (other || same_string(a->methods, b->methods));
}

int api_check_routes(const Component *const *components, Error *err) {
        const Route *a, *a_end, *b, *b_end;

        for (size_t i = 0; route_set(components, i, &a, &a_end); i++)
                for (; a < a_end; a++)
                        for (size_t k = 0; k <= i && route_set(components, k, &b, &b_end); k++)
                                for (; b < b_end && b != a; b++)
                                        if (route_is_same(a, b, i != k))
                                                return error_set(err, -EEXIST, "%s and %s have a route %s %s",
                                                                 k > 0 ? components[k - 1]->name : "the core",
                                                                 i > 0 ? components[i - 1]->name : "the core",
                                                                 a->methods ?: "of any method", a->pattern);
        return 0;
}

/* -- Requests without a route -- */

/* Answer 405 in fleet's form: "GET,PUT,DELETE" becomes "GET, PUT and DELETE". */
static void refuse_method(Request *request, const char *methods) {
        const char *last = strrchr(methods, ',');
        char first[2 * ROUTE_METHODS_SIZE] = "";
        size_t n = 0;

        for (const char *p = methods; last && p < last; p++)
                n += (size_t) snprintf(first + n, sizeof(first) - n, *p == ',' ? ", " : "%c", *p);
        request_error(request, 405, "only %s%s%s supported against this resource", first, last ? " and " : "",
                      last ? last + 1 : methods);
}

static void route_not_allowed(Request *request, RouteFamily family, const char *methods) {
        switch (family) {
        case ROUTE_KEYS:
        case ROUTE_ETCD:
                request_not_allowed(request, (HttpField) { "Allow", methods });
                break;
        case ROUTE_KV:
                kv_v1_not_allowed(request, methods);
                break;
        default:
                refuse_method(request, methods);
        }
}

static void route_not_found(Request *request, RouteFamily family) {
        size_t root = family == ROUTE_FLEET ? FLEET_PREFIX : 1;

        if (family == ROUTE_KV)
                kv_v1_not_found(request);
        else if (family == ROUTE_ETCD ||
                 (family != ROUTE_FLEET && request->listener->dialect == DIALECT_ETCD))
                request_not_found(request);
        else /* "/" and the prefix alone exist, without methods */
                request_error(request, request->path[root] ? 404 : 405, "%s", "");
}

void route_forbid(Request *request, Right right) {
        char text[PRINCIPAL_TEXT_SIZE];

        request_denied(request);
        if (right == RIGHT_KEYS_READ || right == RIGHT_KEYS_WRITE) {
                if (request->route->family == ROUTE_KEYS)
                        keys_v2_forbid(request);
                else
                        kv_refuse_text(request, 403, "%s has no right to these keys",
                                       request_sender(request, text));
        } else if (!request->listener->grants)
                request_error(request, 403, "units are managed on the local socket only: /run/fleet.sock");
        else
                request_error(request, 403, "%s has no right %s (%s)", request_sender(request, text),
                              right_name(right) ?: "for this", request->listener->grants);
}

/* -- Checks of paths -- */

/* fleet's server treats escaped dots and slashes as parts of a name; etcd unescapes first. */
static bool path_is_redirected(const Request *request) {
        const char *target = request->http->target;

        if (request->path[0] != '/' || request_path_is_clean(request))
                return false;
        return request->listener->dialect == DIALECT_FLEET ? target[strcspn(target, "%?")] != '%' :
                                                             !method_is(request, "OPTIONS");
}

/* Reject a path that no route can have. True: the request is answered. */
static bool refuse_path(Request *request) {
        bool has_nul = strlen(request->path) < request->path_size, options = method_is(request, "OPTIONS");

        if (path_is_redirected(request))
                request_redirect_clean(request);
        else if (request->path[0] != '/' && !options) /* "*" is for OPTIONS */
                request_refuse_target(request);
        else if (has_nul && request->listener->dialect == DIALECT_FLEET) /* only keys have a NUL */
                request_error(request, 404, "%s", "");
        else if (has_nul && !options)
                request_not_found(request);
        else
                return false;
        return true;
}

/* Answer OPTIONS as etcd does, for any path. False: not in this family. */
static bool answer_options(Request *request, RouteFamily family) {
        if (!method_is(request, "OPTIONS") || family == ROUTE_KV)
                return false;
        if (family != ROUTE_KEYS && family != ROUTE_ETCD &&
            (request->listener->dialect != DIALECT_ETCD || path_is_of_fleet(request->path)))
                return false;
        request_answer(request, 200, NULL, NULL, "", 0);
        return true;
}

/* Answer without a cluster view: with the message of fleet, which scripts read, and the cause. */
static void route_refuse_unready(Request *request) {
        _cleanup_text_ Text t = {}, cause = {}, rejection = {};
        KvState state;

        kv_state(request->api->host->store, &state);
        text_append(&cause, state.problem[0] ? state.problem : "fleetd is reading the state of the cluster");
        problems_append_rejection(request->api->host->peers, &rejection);
        if (rejection.size > 0)
                text_printf(&cause, "; %s", rejection.chars);
        else if (state.waits)
                text_append(&cause,
                            "; no host of Join= has admitted or rejected it yet: start one of them, or "
                            "join by a token with fleetctl join");
        api_error_write(&t, 503, "fleet server unable to communicate with etcd", cause.chars ?: "");
        request_answer_built(request, 503, "application/json", NULL, &t);
}

/* Return whether a host without a cluster, or without a replica, answers. */
static bool path_needs_no_view(const char *path) {
        static const char *const ends[] = { "/cluster/join", "/cluster/leave", "/local" };

        if (strlen(path) <= FLEET_PREFIX || !path_is_of_fleet(path))
                return false;
        for (size_t i = 0; i < ELEMENTS(ends); i++)
                if (streq(path + FLEET_PREFIX, ends[i]))
                        return true;
        return false;
}

/* Return whether a replica accepts a request of this route from another host. */
static bool route_may_be_forwarded(const Route *route) {
        return route->place != AT_HOST;
}

/* Return whether a replica has to answer. */
static bool route_is_forwarded(const Request *request) {
        if (request->route->place == AT_HOST || request->route->place == AT_STORE ||
            !kv_is_attached(request->api->host->store))
                return false;
        switch (request->route->place) {
        case AT_UNIT:
                return !remote_command_is_here(request);
        case AT_BOTH:
                return forward_has_replica(request->api);
        default:
                return true;
        }
}

void route_request(Request *request) {
        RouteFamily family = route_family(request->path, request->path_size);
        char methods[ROUTE_METHODS_SIZE];
        const Route *route;

        if (family != ROUTE_KEYS && family != ROUTE_KV && refuse_path(request))
                return;
        if (answer_options(request, family))
                return;
        if (family == ROUTE_KEYS && !request_path_is_clean(request)) {
                request_redirect_clean(request);
                return;
        }
        /* Without metrics, or without the right to them, the path does not exist. */
        if (family == ROUTE_METRICS &&
            (!request->api->host->metrics || !sender_may(request->sender, RIGHT_UNITS_SEE)))
                family = ROUTE_UNKNOWN;
        /* fleet's server checks this before the path. */
        if ((family == ROUTE_FLEET || family == ROUTE_UNKNOWN) &&
            request->listener->dialect == DIALECT_FLEET && !registry_ready(request->api->host->registry) &&
            !path_needs_no_view(request->path)) {
                route_refuse_unready(request);
                return;
        }
        if (family == ROUTE_FLEET && !sender_may(request->sender, RIGHT_UNITS_SEE) &&
            !sender_may(request->sender, RIGHT_UNITS_CHANGE) &&
            !sender_may(request->sender, RIGHT_ADMINISTER)) { /* nor whether the path exists */
                route_forbid(request, RIGHT_UNITS_SEE);
                return;
        }

        route = route_find(request->api->host->components, family, request->http->method, request->path,
                           request->path_size, &request->rest, methods);
        if (!route && methods[0])
                route_not_allowed(request, family, methods);
        else if (!route)
                route_not_found(request, family);
        else {
                request->route = route;
                if (!sender_may(request->sender, route->right))
                        route_forbid(request, route->right);
                else if (request->http->sink && !route_may_be_forwarded(route))
                        request_error(request, 403,
                                      "this request is about the host that gets it: it is not forwarded");
                else if (request->http->sink && !forward_reads(request) &&
                         !kv_take_write(request->api->host->store, request->origin->machine))
                        request_error(request, 503, FORWARD_TOO_MANY);
                else if (route_is_forwarded(request))
                        forward_request(request);
                else
                        request_run(request);
        }
}

/* -- Requests -- */

enum { UNIT_BODY_MAX = 1024 * 1024, BODY_UNREAD_MAX = 64 * 1024 };

size_t api_body_limit(const Api *api, const char *method, const char *path) {
        bool is_read = streq(method, "PUT") || streq(method, "POST") || streq(method, "PATCH");

        if (!is_read)
                return BODY_UNREAD_MAX;
        if (starts_with(path, "/v2/members"))
                return MIN(api->settings->limits.body_size, (uint64_t) MEMBERS_BODY_MAX);
        if (starts_with(path, "/v2/"))
                return api->settings->limits.body_size;
        if (starts_with(path, "/fleet/v1/kv/txn"))
                return MIN(api->settings->limits.body_size, (uint64_t) KV_TXN_BODY_MAX);
        return MIN(api->settings->limits.body_size, (uint64_t) UNIT_BODY_MAX);
}

Request *api_request_new(Api *api, HttpRequest *http) {
        Request *request = NEW(Request);

        if (!request)
                return NULL;
        *request = (Request) { .api = api, .http = http, .listener = http->listener };
        TAILQ_INSERT_TAIL(&api->requests, request, requests);
        http->userdata = request;
        return request;
}

void api_listener_init(ApiListenerState *listener, Api *api, ApiListener kind) {
        static const struct {
                const char *name, *grants;
                ApiDialect dialect;
        } kinds[_API_LISTENER_MAX] = {
                { "socket", "LocalRights= in fleetd.conf", DIALECT_FLEET },
                { "loopback", NULL, DIALECT_ETCD },
                { "tls", "fleetctl cert set", DIALECT_FLEET },
        };

        listener->api = api;
        listener->kind = kind;
        listener->name = kinds[kind].name;
        listener->grants = kinds[kind].grants;
        listener->dialect = kinds[kind].dialect;
}
