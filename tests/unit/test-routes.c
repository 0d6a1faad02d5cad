#include "tests/lib/test.h"
#include "fleetd/api/routes.c" /* its table */
#include "fleetd/daemon_internal.h"
#include "tests/lib/policy_table.h"

static void a_path_and_a_method_have_one_route(void **state) {
        static const struct {
                RouteFamily family;
                const char *method, *path, *pattern, *rest; /* pattern NULL: no route */
                const char *methods; /* of the path, where the method is not supported */
        } rows[] = {
                { ROUTE_KEYS, "GET", "/v2/keys", "/v2/keys/**", "", "" },
                { ROUTE_KEYS, "DELETE", "/v2/keys/a/b", "/v2/keys/**", "/a/b", "" },
                { ROUTE_KEYS, "PATCH", "/v2/keys/a", NULL, NULL, "HEAD,GET,PUT,POST,DELETE" },
                { ROUTE_KV, "HEAD", "/fleet/v1/kv/list", "/fleet/v1/kv/list", "", "" },
                { ROUTE_KV, "GET", "/fleet/v1/kv/list/", NULL, NULL, "" },
                { ROUTE_KV, "PUT", "/fleet/v1/kv/value/a/b", "/fleet/v1/kv/value/**", "/a/b", "" },
                { ROUTE_KV, "PUT", "/fleet/v1/kv/values", NULL, NULL, "" },
                { ROUTE_KV, "POST", "/fleet/v1/kv/value", NULL, NULL, "GET,HEAD,PUT,DELETE" },
                { ROUTE_ETCD, "PUT", "/v2/members/", "/v2/members/**", "/", "" },
                { ROUTE_ETCD, "PATCH", "/v2/members/a", NULL, NULL, "GET,POST,DELETE,PUT" },
                { ROUTE_FLEET, "GET", "/fleet/v1/units", "/fleet/v1/units", "", "" },
                { ROUTE_FLEET, "GET", "/v1-alpha/units", "/fleet/v1/units", "", "" },
                { ROUTE_FLEET, "GET", "/fleet/v1/units/", NULL, NULL, "" },
                { ROUTE_FLEET, "PUT", "/fleet/v1/units/a.service", "/fleet/v1/units/*", "a.service", "" },
                { ROUTE_FLEET, "PUT", "/fleet/v1/units/a/b", NULL, NULL, "" },
                { ROUTE_FLEET, "POST", "/fleet/v1/units/a.service", NULL, NULL, "GET,PUT,DELETE" },
                { ROUTE_FLEET, "GET", "/fleet/v1/journal/a.service", "/fleet/v1/journal/*", "a.service", "" },
                { ROUTE_FLEET, "GET", "/fleet/v1/journal/", NULL, NULL, "" },
                { ROUTE_FLEET, "GET", "/fleet/v1/journal/a/b", NULL, NULL, "" },
                { ROUTE_FLEET, "GET", "/fleet/v1/start/a.service", NULL, NULL, "" },
                { ROUTE_FLEET, "POST", "/fleet/v1/kill/a.service", "/fleet/v1/kill/*", "a.service", "" },
                { ROUTE_FLEET, "GET", "/fleet/v1/kill/a.service", NULL, NULL, "POST" },
                { ROUTE_FLEET, "TRACE", "/fleet/v1/discovery", "/fleet/v1/discovery", "", "" },
                { ROUTE_FLEET, "GET", "/fleet/v1/kv/list", NULL, NULL, "" },
                { ROUTE_UNKNOWN, "GET", "/fleet/v1/units", NULL, NULL, "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char methods[ROUTE_METHODS_SIZE];
                const char *rest = NULL;
                const Route *route = route_find(daemon_components, rows[i].family, rows[i].method,
                                                rows[i].path, strlen(rows[i].path), &rest, methods);

                if (!rows[i].pattern) {
                        assert_null(route);
                        assert_string_equal(methods, rows[i].methods);
                        continue;
                }
                if (!route)
                        fail_msg("%s %s has no route", rows[i].method, rows[i].path);
                assert_string_equal(route->pattern, rows[i].pattern);
                assert_string_equal(rest, rows[i].rest);
                assert_int_not_equal(route->right, RIGHT_NONE);
                assert_non_null(route->handle);
        }
}

static void a_remote_command_has_the_right_of_its_kind(void **state) {
        static const char *const paths[_CALL_MAX] = {
                [CALL_JOURNAL] = "/fleet/v1/journal/a",
                [CALL_STATUS] = "/fleet/v1/status/a",
                [CALL_SHOW] = "/fleet/v1/show/a",
                [CALL_DEPENDENCIES] = "/fleet/v1/dependencies/a",
                [CALL_RELOAD] = "/fleet/v1/reload/a",
                [CALL_KILL] = "/fleet/v1/kill/a",
                [CALL_RESET_FAILED] = "/fleet/v1/reset-failed/a",
                [CALL_LOG] = "/fleet/v1/log",
                [CALL_USAGE] = "/fleet/v1/usage",
        };

        for (RemoteCommandKind kind = 0; kind < _CALL_MAX; kind++) {
                bool changes = remote_command_changes(kind);
                char methods[ROUTE_METHODS_SIZE];
                const char *rest;
                const Route *route = route_find(daemon_components, ROUTE_FLEET, changes ? "POST" : "GET",
                                                paths[kind], strlen(paths[kind]), &rest, methods);

                assert_non_null(route);
                assert_int_equal(route->command, kind);
                assert_int_equal(route->right, changes ? RIGHT_UNITS_CHANGE : RIGHT_UNITS_SEE);
        }
}

static void a_nul_ends_no_path(void **state) {
        char methods[ROUTE_METHODS_SIZE];
        const char *rest;

        assert_null(
                route_find(daemon_components, ROUTE_KV, "GET", "/fleet/v1/kv/list\0x", 19, &rest, methods));
        assert_non_null(route_find(daemon_components, ROUTE_KV, "GET", "/fleet/v1/kv/value/a\0b", 22, &rest,
                                   methods));
        assert_string_equal(rest, "/a");
}

static void a_path_is_of_one_component(void **state) {
        static const Route again[] = { { ROUTE_FLEET, "POST", "/fleet/v1/toy", RIGHT_UNITS_SEE },
                                       { ROUTE_FLEET, "GET", "/fleet/v1/toy", RIGHT_UNITS_SEE },
                                       { ROUTE_FLEET, "GET", "/fleet/v1/toy", RIGHT_UNITS_SEE },
                                       { ROUTE_FLEET, "PATCH", "/fleet/v1/units", RIGHT_UNITS_SEE },
                                       { ROUTE_FLEET, NULL, "/fleet/v1/reboots/resume", RIGHT_UNITS_SEE } };
        static const struct {
                size_t first, n;
                const char *message;
        } rows[] = {
                { 0, 2, NULL },
                { 0, 3, "toy and toy have a route GET /fleet/v1/toy" },
                { 3, 1, "the core and toy have a route PATCH /fleet/v1/units" },
                { 4, 1, "reboot and toy have a route of any method /fleet/v1/reboots/resume" },
        };

        assert_int_equal(api_check_routes(NULL, NULL), 0);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const Component toy = { "toy", .routes = again + rows[i].first, .n_routes = rows[i].n };
                const Component *const all[] = { &reboot_component, &toy, NULL };
                Error err = {};

                assert_int_equal(api_check_routes(all, &err), rows[i].message ? -EEXIST : 0);
                assert_string_equal(err.message, rows[i].message ?: "");
        }
}

static void some_paths_need_no_cluster_view(void **state) {
        static const char *const paths[] = { "/fleet/v1/cluster/join",  "/v1-alpha/cluster/join",
                                             "/fleet/v1/cluster/leave", "/v1-alpha/cluster/leave",
                                             "/fleet/v1/local",         "/v1-alpha/local" };

        for (size_t i = 0; i < ELEMENTS(paths); i++)
                if (!path_needs_no_view(paths[i]))
                        fail_msg("%s needs a view", paths[i]);
        assert_false(path_needs_no_view("/fleet/v1/units"));
        assert_false(path_needs_no_view("/v1-alpha/units"));
        assert_false(path_needs_no_view("/v1-alpha/local/a"));
        assert_false(path_needs_no_view("/v1-alpha"));
        assert_false(path_needs_no_view("/local"));
}

/* The senders that may use a route: web page; socket: root, group fleet, root of a restricted host, a group
 * with rights, the same on a restricted host, a group without rights; loopback: read-write, read-only, off, a
 * restricted host; TLS: a user, an administrator, a removed one, a revoked one; peers: machine, replica,
 * restricted, removed, renamed, root of a removed host, token; forwarded by another host: root, root of a
 * restricted host, of a removed one, of another one than that host, a group, the same on a restricted host,
 * read-write loopback, off, a user, the same on a restricted host, a revoked one, a machine. A request about
 * the host that gets it (_HERE) is not forwarded. */
#define NO_OTHER        " ------------"
#define STATUS_HERE     "- yyyyyy yy-y yy-- yyy-y--" NO_OTHER
#define SEE_HERE        "- yyyyy- ---- y--- -y-----" NO_OTHER
#define ADMINISTER_HERE "- yy---- ---- -y-- -------" NO_OTHER
#define LEAVE_HERE      "- yyy--- ---- -y-- -------" NO_OTHER
#define STATUS          "- yyyyyy yy-y yy-- yyy-y-- yy--yyy-yy--"
#define READ            "- yyyyy- yy-y y--- -y----- yy--yyy-yy--"
#define WRITE           "- yy-y-- y--- y--- ------- y---y-y-y---"
#define SEE             "- yyyyy- ---- y--- -y----- yy--yy--yy--"
#define CHANGE          "- yy-y-- ---- y--- ------- y---y---y---"
#define ADMINISTER      "- yy---- ---- -y-- ------- y-----------"

static const struct {
        const char *methods, *pattern, *cells;
} access_table[] = {
        { "HEAD GET", "/v2/keys/**", READ },
        { "PUT POST DELETE", "/v2/keys/**", WRITE },
        { "GET", "/fleet/v1/kv/changes", READ },
        { "GET HEAD", "/fleet/v1/kv/list", READ },
        { "POST", "/fleet/v1/kv/txn", WRITE },
        { "GET HEAD", "/fleet/v1/kv/value/**", READ },
        { "PUT", "/fleet/v1/kv/value/**", WRITE },
        { "DELETE", "/fleet/v1/kv/value/**", WRITE },
        { "GET", "/version", STATUS_HERE },
        { "GET", "/health", STATUS_HERE },
        { "GET HEAD", "/v2/machines", STATUS_HERE },
        { "GET", "/v2/members/**", STATUS_HERE },
        { "POST DELETE PUT", "/v2/members/**", STATUS },
        { "GET", "/v2/stats/self", STATUS },
        { "GET", "/v2/stats/leader", STATUS },
        { "GET", "/v2/stats/store", STATUS },
        { "GET HEAD", "/v2/auth/users", STATUS_HERE },
        { "GET HEAD", "/v2/auth/roles", STATUS_HERE },
        { "GET PUT DELETE", "/v2/auth/enable", STATUS_HERE },
        { "GET", "/metrics", SEE_HERE },
        { "GET", "/fleet/v1/units", SEE },
        { "GET", "/fleet/v1/units/*", SEE },
        { "PUT", "/fleet/v1/units/*", CHANGE },
        { "DELETE", "/fleet/v1/units/*", CHANGE },
        { "GET", "/fleet/v1/units/*/move", SEE },
        { "PUT", "/fleet/v1/units/*/move", CHANGE },
        { "DELETE", "/fleet/v1/units/*/move", CHANGE },
        { "GET", "/fleet/v1/units/*/replicas", SEE },
        { "PUT", "/fleet/v1/units/*/replicas", CHANGE },
        { "DELETE", "/fleet/v1/units/*/replicas", CHANGE },
        { "POST", "/fleet/v1/batch", CHANGE },
        { "GET", "/fleet/v1/state", SEE },
        { "GET", "/fleet/v1/state/*", SEE },
        { "GET", "/fleet/v1/local", SEE_HERE },
        { "GET", "/fleet/v1/machines", SEE },
        { "PATCH", "/fleet/v1/machines", CHANGE },
        { "DELETE", "/fleet/v1/machines/*", ADMINISTER },
        { "any", "/fleet/v1/machines/*", STATUS_HERE },
        { "GET", "/fleet/v1/why/*", SEE },
        { "POST", "/fleet/v1/plan", SEE },
        { "POST", "/fleet/v1/plan/machines", SEE },
        { "GET", "/fleet/v1/revisions/*", SEE },
        { "GET", "/fleet/v1/rollouts", SEE },
        { "GET", "/fleet/v1/rollouts/*", SEE },
        { "PUT", "/fleet/v1/rollouts/*", CHANGE },
        { "GET", "/fleet/v1/machines/*/maintenance", SEE },
        { "PUT", "/fleet/v1/machines/*/maintenance", ADMINISTER },
        { "DELETE", "/fleet/v1/machines/*/maintenance", ADMINISTER },
        { "GET", "/fleet/v1/reboots", SEE },
        { "POST", "/fleet/v1/reboots", ADMINISTER },
        { "DELETE", "/fleet/v1/reboots", ADMINISTER },
        { "POST", "/fleet/v1/reboots/resume", ADMINISTER },
        { "GET", "/fleet/v1/data", SEE },
        { "GET", "/fleet/v1/rebalance", SEE },
        { "GET", "/fleet/v1/secrets", SEE },
        { "PUT", "/fleet/v1/secrets/*", CHANGE },
        { "DELETE", "/fleet/v1/secrets/*", CHANGE },
        { "GET", "/fleet/v1/services", SEE },
        { "GET", "/fleet/v1/services/*", SEE },
        { "GET", "/fleet/v1/directory", SEE },
        { "POST", "/fleet/v1/directory", CHANGE },
        { "any", "/fleet/v1/discovery", SEE_HERE },
        { "GET", "/fleet/v1/events", SEE },
        { "GET", "/fleet/v1/history", SEE },
        { "GET", "/fleet/v1/problems", SEE },
        { "GET", "/fleet/v1/cluster", SEE },
        { "PUT", "/fleet/v1/cluster/level", ADMINISTER },
        { "DELETE", "/fleet/v1/cluster/adopting", ADMINISTER },
        { "GET", "/fleet/v1/cluster/backup", ADMINISTER },
        { "PUT", "/fleet/v1/cluster/settings", ADMINISTER },
        { "GET", "/fleet/v1/cluster/tokens", ADMINISTER },
        { "POST", "/fleet/v1/cluster/tokens", ADMINISTER },
        { "DELETE", "/fleet/v1/cluster/tokens/*", ADMINISTER },
        { "GET", "/fleet/v1/cluster/ca", SEE },
        { "POST", "/fleet/v1/cluster/ca/rotate", ADMINISTER },
        { "GET", "/fleet/v1/cluster/users", ADMINISTER },
        { "PUT", "/fleet/v1/cluster/users/*", ADMINISTER },
        { "DELETE", "/fleet/v1/cluster/users/*", ADMINISTER },
        { "POST", "/fleet/v1/cluster/host/rekey", ADMINISTER_HERE },
        { "POST", "/fleet/v1/cluster/rekey", ADMINISTER },
        { "POST", "/fleet/v1/cluster/secure", ADMINISTER },
        { "POST", "/fleet/v1/cluster/init", ADMINISTER_HERE },
        { "POST", "/fleet/v1/cluster/join", ADMINISTER_HERE },
        { "GET", "/fleet/v1/cluster/leave", SEE_HERE },
        { "POST", "/fleet/v1/cluster/leave", LEAVE_HERE },
        { "DELETE", "/fleet/v1/cluster/leave", LEAVE_HERE },
        { "GET", "/fleet/v1/journal/*", SEE },
        { "GET", "/fleet/v1/status/*", SEE },
        { "GET", "/fleet/v1/show/*", SEE },
        { "GET", "/fleet/v1/dependencies/*", SEE },
        { "POST", "/fleet/v1/reload/*", CHANGE },
        { "POST", "/fleet/v1/kill/*", CHANGE },
        { "POST", "/fleet/v1/reset-failed/*", CHANGE },
        { "GET", "/fleet/v1/log", SEE },
        { "GET", "/fleet/v1/usage", SEE },
};

static const char *access_of(const Route *route) {
        for (size_t i = 0; i < ELEMENTS(access_table); i++)
                if (streq(access_table[i].methods, route->methods ?: "any") &&
                    streq(access_table[i].pattern, route->pattern))
                        return access_table[i].cells;
        fail_msg("no cells for %s %s", route->methods ?: "any", route->pattern);
        return NULL;
}

static size_t check_cells(const Route *route, const PolicyTable *table) {
        static const char *const listeners[] = { "", "socket", "loopback", "tls", "peer", "forwarded" };
        const char *cell = access_of(route);
        size_t n = 0;

        for (size_t l = 0; l < ELEMENTS(listeners); l++, cell += *cell == ' ')
                for (size_t k = 0; k < table->n; k++) {
                        const PolicyTableRow *row = &table->rows[k];
                        bool may = !streq(row->listener, "forwarded") || route_may_be_forwarded(route);
                        Sender *sender;

                        if (!streq(row->listener, listeners[l]))
                                continue;
                        if (*cell != 'y' && *cell != '-')
                                fail_msg("%s: no cell for %s", route->pattern, row->name);
                        sender = sender_new(&row->principal, &row->facts);
                        if ((may && sender_may(sender, route->right)) != (*cell == 'y'))
                                fail_msg("%s %s, %s: expected %c", route->methods, route->pattern, row->name,
                                         *cell);
                        sender_unref(sender);
                        cell++;
                        n++;
                }
        assert_int_equal(*cell, 0);
        return n;
}

/* Each route × each listener × each principal. A principal that does not arrive at a listener has no cell
 * there. */
static void each_route_has_a_cell_for_each_listener_and_principal(void **state) {
        size_t n = 0, n_routes = 0;
        const Route *route, *end;
        PolicyTable table;

        policy_table_open(&table);
        for (size_t i = 0; route_set(daemon_components, i, &route, &end); i++)
                for (; route < end; route++, n_routes++)
                        n += check_cells(route, &table);
        assert_int_equal(n_routes, ELEMENTS(access_table));
        print_message("%zu cells: %zu routes, %zu principals\n", n, n_routes, table.n);
        policy_table_done(&table);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_path_and_a_method_have_one_route),
                cmocka_unit_test(a_remote_command_has_the_right_of_its_kind),
                cmocka_unit_test(a_nul_ends_no_path),
                cmocka_unit_test(a_path_is_of_one_component),
                cmocka_unit_test(some_paths_need_no_cluster_view),
                cmocka_unit_test(each_route_has_a_cell_for_each_listener_and_principal),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
