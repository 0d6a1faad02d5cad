/* What a host remembers to have shown: how seldom it is written, and when a tree may be shown again. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/memory.h"
#include "kvstore/read_bound.h"
#include "tests/lib/scratch.h"

enum { LINEAGE = 0xab, OTHER = 0xcd };

typedef struct Fixture {
        char *scratch;
        ReadBound bound;
} Fixture;

static int fixture_setup(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);

        fixture->scratch = scratch_new();
        assert_int_equal(read_bound_open(&fixture->bound, fixture->scratch, NULL), 0);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        read_bound_done(&fixture->bound);
        scratch_free(fixture->scratch);
        free(fixture);
        return 0;
}

static void again(Fixture *fixture) {
        read_bound_done(&fixture->bound);
        assert_int_equal(read_bound_open(&fixture->bound, fixture->scratch, NULL), 0);
}

static uint64_t written(Fixture *fixture) {
        _cleanup_free_ char *text = NULL;
        unsigned long long index = 0;

        assert_int_equal(read_file_at(fixture->bound.dir_fd, "floor", 256, &text, NULL), 0);
        assert_int_equal(sscanf(text, "1\nlineage 00000000000000ab\nindex %llu", &index), 1);
        return index;
}

static ino_t file_of(Fixture *fixture) {
        struct stat st;

        assert_int_equal(fstatat(fixture->bound.dir_fd, "floor", &st, 0), 0);
        return st.st_ino;
}

/* A host that has no record of the lineage is confirmed first: the founder by itself. */
static void begin_confirmed(ReadBound *f, uint64_t lineage, uint64_t index) {
        assert_int_equal(read_bound_begin(f, lineage, index, false), 0);
        assert_false(read_bound_allows(f, index));
        assert_int_equal(read_bound_confirm(f, index), 0);
        assert_true(read_bound_allows(f, index));
}

static void a_tree_without_a_record_is_served_once_a_majority_has_confirmed_it(void **state) {
        Fixture *fixture = *state;
        ReadBound *f = &fixture->bound;

        assert_int_equal(read_bound_begin(f, 0, 0, false), 0); /* waits to be admitted */
        assert_false(read_bound_allows(f, 0));
        assert_int_equal(read_bound_begin(f, LINEAGE, 0, false), 0); /* was admitted, and its tree is empty */
        assert_int_equal(read_bound_reach(f, 50), 0);
        assert_false(read_bound_allows(f, 50)); /* part of what the cluster holds */
        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, 60, false), 0);
        assert_false(read_bound_allows(f, 60)); /* a restart confirms nothing */
        assert_int_equal(read_bound_confirm(f, 70), 0);
        assert_true(read_bound_allows(f, 70));
        assert_int_equal(read_bound_end(f, 70), 0);

        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, 70, false), 0);
        assert_true(read_bound_allows(f, 70)); /* its own record is enough */
}

static void a_served_index_is_recorded_before(void **state) {
        Fixture *fixture = *state;
        ReadBound *f = &fixture->bound;
        uint64_t index = 1;

        begin_confirmed(f, LINEAGE, 1);
        for (unsigned i = 0; i < 50; i++) {
                index += READ_BOUND_STEP / 7;
                assert_false(read_bound_allows(f, index) && written(fixture) < index);
                assert_int_equal(read_bound_reach(f, index), 0);
                assert_true(read_bound_allows(f, index));
                assert_true(written(fixture) >= index);
        }
}

static void a_step_costs_no_write(void **state) {
        Fixture *fixture = *state;
        ino_t file;

        begin_confirmed(&fixture->bound, LINEAGE, 1);
        file = file_of(fixture);
        for (uint64_t index = 1; index < READ_BOUND_STEP / 2; index += 100)
                assert_int_equal(read_bound_reach(&fixture->bound, index), 0);
        assert_int_equal(file_of(fixture), file); /* each write makes a new one */
        assert_int_equal(read_bound_reach(&fixture->bound, 2 * READ_BOUND_STEP), 0);
        assert_int_not_equal(file_of(fixture), file);
}

static void after_a_crash_the_served_tree_is_served_and_another_waits(void **state) {
        Fixture *fixture = *state;
        ReadBound *f = &fixture->bound;

        begin_confirmed(f, LINEAGE, 100);
        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, 100, true), 0);
        assert_true(read_bound_allows(f, 100));

        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, 70, false), 0);
        assert_false(read_bound_allows(f, 70));
        assert_int_equal(read_bound_reach(f, 150), 0);
        assert_false(read_bound_allows(f, 150)); /* it was up to a step further */
        assert_int_equal(read_bound_confirm(f, 150), 0);
        assert_true(read_bound_allows(f, 150));
}

static void a_host_that_was_never_confirmed_before_a_crash_waits_again(void **state) {
        Fixture *fixture = *state;
        ReadBound *f = &fixture->bound;

        begin_confirmed(f, LINEAGE, 100);
        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, 70, false), 0);
        assert_int_equal(read_bound_end(f, 70), 0); /* nothing was shown: nothing to be forgotten */
        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, 70, false), 0);
        assert_false(read_bound_allows(f, 70));
}

static void a_stop_in_order_leaves_the_figure_itself(void **state) {
        Fixture *fixture = *state;
        ReadBound *f = &fixture->bound;

        begin_confirmed(f, LINEAGE, 100);
        assert_int_equal(read_bound_end(f, 100), 0);
        assert_int_equal(written(fixture), 100);

        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, 99, false), 0);
        assert_false(read_bound_allows(f, 99));
        assert_int_equal(read_bound_reach(f, 100), 0);
        assert_true(read_bound_allows(f, 100));
}

static void what_is_acknowledged_ahead_of_the_tree_is_recorded_before_and_binds_after_a_crash(void **state) {
        Fixture *fixture = *state;
        ReadBound *f = &fixture->bound;
        const uint64_t ahead = 3 * READ_BOUND_STEP;
        ino_t file;

        begin_confirmed(f, LINEAGE, 100);
        assert_int_equal(read_bound_promise(f, ahead), 0);
        assert_true(written(fixture) >= ahead);
        file = file_of(fixture);
        assert_int_equal(read_bound_promise(f, ahead + 1), 0);
        assert_int_equal(file_of(fixture), file); /* it costs a write once, not with each answer */

        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, ahead - 1, false), 0);
        assert_false(read_bound_allows(f, ahead - 1));

        /* So it is while the tree has not reached what was served before, either. */
        assert_int_equal(read_bound_promise(f, 2 * ahead), 0);
        again(fixture);
        assert_int_equal(read_bound_begin(f, LINEAGE, 2 * ahead - 1, false), 0);
        assert_false(read_bound_allows(f, 2 * ahead - 1));
}

static void a_host_without_a_tree_serves_nothing_of_its_former_cluster(void **state) {
        Fixture *fixture = *state;
        ReadBound *f = &fixture->bound;

        begin_confirmed(f, LINEAGE, 10);
        again(fixture);
        assert_int_equal(read_bound_begin(f, 0, 0, false), 0);
        assert_false(read_bound_allows(f, 0));
        assert_int_equal(read_bound_begin(f, LINEAGE, 0, false), 0); /* joined again */
        assert_false(read_bound_allows(f, 0));
        assert_int_equal(read_bound_confirm(f, 12), 0);
        assert_true(read_bound_allows(f, 12));
}

static void a_new_lineage_is_measured_by_itself(void **state) {
        Fixture *fixture = *state;

        begin_confirmed(&fixture->bound, LINEAGE, 1000);
        again(fixture);
        begin_confirmed(&fixture->bound, OTHER, 5);
        again(fixture);
        assert_int_equal(fixture->bound.lineage, OTHER);
}

static void a_record_that_cannot_be_read_is_one_of_unknown_height(void **state) {
        static const char *const records[] = { "", "1\n", "1\nlineage 00000000000000ab\nindex",
                                               "1\nlineage 00000000000000ab\nindex 5\nmore",
                                               "2\nlineage 1\nindex 2\n" };
        Fixture *fixture = *state;
        ReadBound *f = &fixture->bound;

        for (size_t i = 0; i < ELEMENTS(records); i++) {
                assert_int_equal(write_file_at(f->dir_fd, "floor", records[i], strlen(records[i]), 0600), 0);
                again(fixture);
                assert_int_equal(read_bound_begin(f, LINEAGE, 1 << 30, false), 0);
                assert_int_equal(read_bound_reach(f, 1 << 30), 0);
                assert_false(read_bound_allows(f, 1 << 30));
                assert_int_equal(read_bound_confirm(f, 1 << 30), 0);
                assert_true(read_bound_allows(f, 1 << 30));
                assert_true(written(fixture) >= 1 << 30);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(
                        a_tree_without_a_record_is_served_once_a_majority_has_confirmed_it, fixture_setup,
                        fixture_teardown),
                cmocka_unit_test_setup_teardown(a_served_index_is_recorded_before, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_step_costs_no_write, fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(after_a_crash_the_served_tree_is_served_and_another_waits,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_host_that_was_never_confirmed_before_a_crash_waits_again,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_stop_in_order_leaves_the_figure_itself, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(
                        what_is_acknowledged_ahead_of_the_tree_is_recorded_before_and_binds_after_a_crash,
                        fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_host_without_a_tree_serves_nothing_of_its_former_cluster,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(a_new_lineage_is_measured_by_itself, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(a_record_that_cannot_be_read_is_one_of_unknown_height,
                                                fixture_setup, fixture_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
