#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "fleetd/registry/policy.h"

static const char *const principals[_PRINCIPAL_MAX] = {
        [PRINCIPAL_NONE] = "none",
        [PRINCIPAL_ADMINISTRATOR] = "administrator",
        [PRINCIPAL_WRITER] = "writer",
        [PRINCIPAL_READER] = "reader",
};

/* Each right on each resource, with the letters of the principals that have it. */
static void the_table_grants_these_rights_and_denies_all_others(void **state) {
        static const struct {
                Right right;
                const char *on[_RESOURCE_MAX]; /* a: administrator, w: writer, r: reader */
        } rows[_RIGHT_MAX] = {
                { RIGHT_NONE, { "", "", "" } },          { RIGHT_STATUS_SEE, { "awr", "", "" } },
                { RIGHT_KEYS_READ, { "", "awr", "a" } }, { RIGHT_KEYS_WRITE, { "", "aw", "" } },
                { RIGHT_UNITS_SEE, { "a", "", "" } },    { RIGHT_UNITS_CHANGE, { "a", "", "" } },
                { RIGHT_ADMINISTER, { "a", "", "" } },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(rows[i].right, i);
                for (Principal p = 0; p < _PRINCIPAL_MAX; p++)
                        for (Resource on = 0; on < _RESOURCE_MAX; on++) {
                                bool granted = strchr(rows[i].on[on], principals[p][0]);

                                if (policy_allows(p, rows[i].right, on) != granted)
                                        fail_msg("right %zu of %s on resource %d: expected %s", i,
                                                 principals[p], on, granted ? "granted" : "denied");
                        }
        }
}

static void keys_below_fleet_are_a_resource_of_their_own(void **state) {
        assert_int_equal(resource_of_key(kv_string("/_fleet")), RESOURCE_FLEET_KEYS);
        assert_int_equal(resource_of_key(kv_string("/_fleet/unit/a.service")), RESOURCE_FLEET_KEYS);
        assert_int_equal(resource_of_key(kv_string("/_fleets")), RESOURCE_USER_KEYS);
        assert_int_equal(resource_of_key(kv_string("/a/_fleet")), RESOURCE_USER_KEYS);
        assert_int_equal(resource_of_key(kv_string("/")), RESOURCE_USER_KEYS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_table_grants_these_rights_and_denies_all_others),
                cmocka_unit_test(keys_below_fleet_are_a_resource_of_their_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
