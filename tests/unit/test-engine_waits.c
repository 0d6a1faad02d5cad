/* The rows of the history for units that wait for a machine. */

#include "tests/lib/test.h"
#include "tests/lib/engine_fixture.h"

static const RegistryChange everything = { .kind = CHANGED_ALL };

static void needs_gpu(const char *name) {
        cluster_view_unit(&fixture.view, name, "MachineMetadata=gpu=true\n", TARGET_LAUNCHED);
}

static void a_wait_has_one_row_with_its_first_reason(void **state) {
        needs_gpu("a.service");
        fixture_begin();
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 0);
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 1);
        assert_string_equal(fixture.note,
                            "a.service: no machine qualifies (A and B have no metadata gpu=true)");
        assert_false(fixture.waits.armed);

        /* It still waits, for another reason. */
        cluster_view_machine(&fixture.view, "C", "", PRESENCE_UP);
        fixture_changed(everything);
        assert_false(fixture.waits.armed);

        /* It gets a machine, loses it, and waits again. */
        cluster_view_machine(&fixture.view, "A", "gpu=true", PRESENCE_UP);
        fixture_changed(everything);
        fixture_complete();
        cluster_view_presence(&fixture.view, "A", PRESENCE_LOST);
        fixture_changed(everything);
        fixture_fire(&fixture.waits);
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 2);
        assert_string_equal(
                fixture.note,
                "a.service: A is lost; no other machine qualifies (B and C have no metadata gpu=true)");
}

static void a_unit_that_no_longer_fits_waits(void **state) {
        needs_gpu("a.service");
        cluster_view_assign(&fixture.view, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_state(&fixture.view, "A", "a.service", "active");
        fixture_begin();
        fixture_complete(); /* A stops it */
        assert_true(fixture.changes[0].kind == ASSIGNMENT_STOP);
        fixture_fire(&fixture.waits);
        assert_false(fixture.waits.armed);
        cluster_view_execute(&fixture.view);
        fixture_changed(everything);
        fixture_fire(&fixture.waits);
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 1);
        assert_string_equal(fixture.note,
                            "a.service: no machine qualifies (A and B have no metadata gpu=true)");
}

static void the_row_of_a_unit_that_runs_until_it_has_another_machine_names_its_machine(void **state) {
        char key[128], id[MACHINE_ID_SIZE];

        cluster_view_unit(&fixture.view, "a.service", "MachineID=aaaaaaaa\n", TARGET_LAUNCHED);
        cluster_view_assign(&fixture.view, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_state(&fixture.view, "A", "a.service", "active");
        snprintf(key, sizeof(key), "/_fleet/machine/%s/maintenance", cluster_view_id(id, "A"));
        cluster_view_put(&fixture.view, key, "{\"mode\":\"draining\"}");
        fixture_begin();
        fixture_fire(&fixture.waits);
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 1);
        assert_string_equal(
                fixture.note,
                "a.service on a: A is being drained; no other machine qualifies (B has another ID "
                "than aaaaaaaa)");
}

static void a_short_wait_has_no_row(void **state) {
        needs_gpu("a.service");
        needs_gpu("b.service");
        fixture_begin();
        fixture_fire(&fixture.waits);
        cluster_view_target(&fixture.view, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        cluster_view_destroy(&fixture.view, "b.service");
        fixture_changed((RegistryChange) { .kind = CHANGED_UNIT, .unit = "b.service" });
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 0);
        assert_false(fixture.waits.armed);

        /* Nothing of it remains: the next unit of that name begins to wait. */
        needs_gpu("b.service");
        fixture_changed((RegistryChange) { .kind = CHANGED_UNIT, .unit = "b.service" });
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 0);
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 1);
}

static void rows_of_many_waits_are_written_in_parts(void **state) {
        char name[16];

        for (unsigned i = 0; i < 250; i++) {
                snprintf(name, sizeof(name), "u%03u.service", i);
                needs_gpu(name);
        }
        fixture_begin();
        fixture_fire(&fixture.waits);
        for (unsigned n = 100; n <= 200; n += 100) {
                fixture_fire(&fixture.waits);
                assert_int_equal(fixture.n_notes, n);
        }
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 250);
        assert_false(fixture.waits.armed);
}

static void the_next_leader_adds_the_rows_again(void **state) {
        needs_gpu("a.service");
        fixture_begin();
        fixture.state.role = KV_ROLE_FOLLOWER;
        engine_state_changed(fixture.engine);
        assert_false(fixture.waits.armed);

        fixture.state.role = KV_ROLE_LEADER;
        engine_state_changed(fixture.engine);
        fixture_turn();
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 0);
        fixture_fire(&fixture.waits);
        assert_int_equal(fixture.n_notes, 1);
}

#define in_a_fixture(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_fixture(a_wait_has_one_row_with_its_first_reason),
                in_a_fixture(a_unit_that_no_longer_fits_waits),
                in_a_fixture(the_row_of_a_unit_that_runs_until_it_has_another_machine_names_its_machine),
                in_a_fixture(a_short_wait_has_no_row),
                in_a_fixture(rows_of_many_waits_are_written_in_parts),
                in_a_fixture(the_next_leader_adds_the_rows_again),
        };

        log_set_sink(fixture_on_log, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
