#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fleetd/api/routes.h"

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
                const Route *route = route_find(rows[i].family, rows[i].method, rows[i].path,
                                                strlen(rows[i].path), &rest, methods);

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
        };

        for (RemoteCommandKind kind = 0; kind < _CALL_MAX; kind++) {
                bool changes = remote_command_changes(kind);
                char methods[ROUTE_METHODS_SIZE];
                const char *rest;
                const Route *route = route_find(ROUTE_FLEET, changes ? "POST" : "GET", paths[kind],
                                                strlen(paths[kind]), &rest, methods);

                assert_non_null(route);
                assert_int_equal(route->command, kind);
                assert_int_equal(route->right, changes ? RIGHT_UNITS_CHANGE : RIGHT_UNITS_SEE);
        }
}

static void a_nul_ends_no_path(void **state) {
        char methods[ROUTE_METHODS_SIZE];
        const char *rest;

        assert_null(route_find(ROUTE_KV, "GET", "/fleet/v1/kv/list\0x", 19, &rest, methods));
        assert_non_null(route_find(ROUTE_KV, "GET", "/fleet/v1/kv/value/a\0b", 22, &rest, methods));
        assert_string_equal(rest, "/a");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_path_and_a_method_have_one_route),
                cmocka_unit_test(a_remote_command_has_the_right_of_its_kind),
                cmocka_unit_test(a_nul_ends_no_path),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
