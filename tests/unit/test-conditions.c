/* The problems that status reports, of an answer about a large cluster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "client/verbs/overview.h"

/* Return how many problems of a cluster of that size are of its size. */
static size_t n_of_size(size_t n_machines, size_t n_units) {
        ApiMachine *machines = NEW0(ApiMachine, n_machines);
        ApiUnit *units = NEW0(ApiUnit, n_units);
        View v = { .machines = { .machines = machines, .n = n_machines },
                   .units = { .units = units, .n = n_units } };
        Conditions all = {};
        size_t n = 0;

        assert_non_null(machines);
        assert_non_null(units);
        for (size_t i = 0; i < n_machines; i++)
                machines[i] = (ApiMachine) { .id = "0123456789abcdef0123456789abcdef", .presence = "up" };
        for (size_t i = 0; i < n_units; i++)
                units[i] = (ApiUnit) { .name = "a.service", .current_state = TARGET_INACTIVE };
        conditions_find(&v, &all);
        assert_int_equal(all.error, 0);
        for (size_t i = 0; i < all.n; i++)
                if (streq(all.items[i].kind, "size")) {
                        assert_non_null(strstr(all.items[i].what, "form several clusters"));
                        n++;
                }
        conditions_done(&all);
        free(machines);
        free(units);
        return n;
}

static void more_than_10000_machines_or_100000_units_are_reported(void **state) {
        assert_int_equal(n_of_size(10000, 100000), 0);
        assert_int_equal(n_of_size(10001, 1), 1);
        assert_int_equal(n_of_size(1, 100001), 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(more_than_10000_machines_or_100000_units_are_reported),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
