#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/registry/unit_order.h"

enum { UNITS = 100000, BLOCKS_MAX = 4 * UNITS / UNIT_BLOCK_MAX + 1, MODEL = 2000, STEPS = 20000 };

static ClusterUnit *units_new(size_t n) {
        ClusterUnit *units = NEW0(ClusterUnit, n);

        assert_non_null(units);
        for (size_t i = 0; i < n; i++)
                snprintf(units[i].name, sizeof(units[i].name), "u%07zu.service", i);
        return units;
}

static void check_blocks(const UnitOrder *o, size_t n_units) {
        size_t n = 0;

        for (size_t i = 0; i < o->n; i++) {
                assert_in_range(o->blocks[i]->n, 1, UNIT_BLOCK_MAX);
                if (i > 0)
                        assert_true(o->blocks[i - 1]->n + o->blocks[i]->n > UNIT_BLOCK_MAX / 2);
                n += o->blocks[i]->n;
        }
        assert_int_equal(n, n_units);
}

/* A change moves the pointers of one block, or the list of blocks: both remain small. */
static void a_change_costs_the_same_in_any_order_of_units(void **state) {
        ClusterUnit *units = units_new(UNITS);

        for (unsigned order = 0; order < 3; order++) {
                UnitPosition p = {};
                UnitOrder o = {};

                for (size_t i = 0; i < UNITS; i++) {
                        const size_t at[] = { i, UNITS - 1 - i, i * 7919 % UNITS };

                        assert_int_equal(unit_order_add(&o, &units[at[order]]), 0);
                }
                check_blocks(&o, UNITS);
                assert_in_range(o.n, UNITS / UNIT_BLOCK_MAX, BLOCKS_MAX);
                for (size_t i = 0; i < UNITS; i++)
                        assert_ptr_equal(unit_order_next(&o, &p), &units[i]);
                assert_null(unit_order_next(&o, &p));
                for (size_t i = 0; i < UNITS; i++)
                        if (i % 1000 > 0)
                                unit_order_remove(&o, &units[i * 7919 % UNITS]);
                check_blocks(&o, UNITS / 1000);
                assert_in_range(o.n, 1, 4 * UNITS / 1000 / UNIT_BLOCK_MAX + 1);
                unit_order_done(&o);
        }
        free(units);
}

static void units_that_come_in_order_fill_the_blocks(void **state) {
        ClusterUnit *units = units_new(10 * UNIT_BLOCK_MAX);
        UnitOrder o = {};

        for (size_t i = 0; i < 10 * UNIT_BLOCK_MAX; i++)
                assert_int_equal(unit_order_add(&o, &units[i]), 0);
        assert_int_equal(o.n, 10);
        unit_order_done(&o);
        free(units);
}

/* The prefixes have 0 to 8 of the bytes that all names have. */
static void check_prefix(const UnitOrder *o, const bool there[static MODEL], ClusterUnit *units,
                         const char *name, size_t size) {
        UnitPosition p;
        size_t n = unit_order_prefix(o, name, size, &p), expected = 0;

        for (size_t i = 0; i < MODEL; i++) {
                if (!there[i] || strncmp(units[i].name, name, size) != 0)
                        continue;
                expected++;
                assert_ptr_equal(unit_order_next(o, &p), &units[i]);
        }
        assert_int_equal(n, expected);
}

static void changes_and_prefixes_equal_those_of_a_sorted_list(void **state) {
        ClusterUnit *units = units_new(MODEL);
        bool there[MODEL] = {};
        UnitOrder o = {};
        Random random;
        size_t n = 0;

        random_seed(&random, 1);
        for (unsigned step = 0; step < STEPS; step++) {
                bool grows = step / (STEPS / 4) % 2 == 0; /* up and down, twice */
                size_t i = random_below(&random, MODEL);

                if (there[i] == grows && random_below(&random, 4) > 0)
                        continue;
                n += there[i] ? -1 : 1;
                if (there[i])
                        unit_order_remove(&o, &units[i]);
                else
                        assert_int_equal(unit_order_add(&o, &units[i]), 0);
                there[i] = !there[i];
                if (step % 50 > 0)
                        continue;
                check_blocks(&o, n);
                check_prefix(&o, there, units, units[random_below(&random, MODEL)].name,
                             random_below(&random, 9));
        }
        for (size_t i = 0; i < MODEL; i++)
                if (there[i])
                        unit_order_remove(&o, &units[i]);
        assert_int_equal(o.n, 0);
        assert_null(o.blocks);
        check_prefix(&o, (bool[MODEL]) {}, units, "u", 1);
        free(units);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_change_costs_the_same_in_any_order_of_units),
                cmocka_unit_test(units_that_come_in_order_fill_the_blocks),
                cmocka_unit_test(changes_and_prefixes_equal_those_of_a_sorted_list),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
