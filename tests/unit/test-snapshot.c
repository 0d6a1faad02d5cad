/* The keys of the cluster at one index, of pages of several indexes and the changes meanwhile. */

#include "tests/lib/test.h"
#include "client/verbs/snapshot.h"

typedef struct Fixture {
        SnapshotNodes nodes;
        uint64_t index;
} Fixture;

static void page(Fixture *f, const char *key, uint64_t modified, const char *value) {
        KvListed node = { .key = (char *) key,
                          .key_size = strlen(key),
                          .value = (char *) value,
                          .value_size = value ? strlen(value) : 0,
                          .modified = modified,
                          .dir = !value };

        assert_int_equal(snapshot_apply_node(&f->nodes, &node), 0);
}

static int line(Fixture *f, const char *text) {
        return snapshot_apply_line(&f->nodes, text, strlen(text), 100, &f->index);
}

static void change(Fixture *f, const char *action, uint64_t index, const char *key, const char *more) {
        char text[256];

        snprintf(text, sizeof(text), "{\"action\":\"%s\",\"index\":%llu,\"node\":{\"key\":\"%s\"%s", action,
                 (unsigned long long) index, key, more);
        assert_int_equal(line(f, text), 0);
        assert_int_equal(f->index, index);
}

static const char *value(const Fixture *f, const char *key) {
        const SnapshotNode *n = snapshot_find(&f->nodes, key, strlen(key));

        return !n ? NULL : n->dir ? "/" : n->value;
}

#define SET(text) ",\"value\":\"" text "\"}}"
#define GONE      "}}"
#define GONE_DIR  ",\"dir\":true}}"

static void a_change_before_the_page_of_its_key_changes_nothing(void **state) {
        Fixture *f = *state;

        page(f, "/a", 7, "new");
        change(f, "set", 5, "/a", SET("old"));
        assert_string_equal(value(f, "/a"), "new");
        change(f, "delete", 6, "/a", GONE);
        assert_string_equal(value(f, "/a"), "new");
        change(f, "set", 8, "/a", SET("newer"));
        assert_string_equal(value(f, "/a"), "newer");
        change(f, "compareAndDelete", 9, "/a", GONE);
        assert_null(value(f, "/a"));
}

static void a_page_after_the_change_of_its_key_counts(void **state) {
        Fixture *f = *state;

        change(f, "create", 5, "/d/a", SET("5"));
        assert_string_equal(value(f, "/d"), "/");
        page(f, "/d", 3, NULL);
        page(f, "/d/a", 6, "6");
        assert_string_equal(value(f, "/d/a"), "6");
        page(f, "/d/a", 4, "4");
        assert_string_equal(value(f, "/d/a"), "6");
}

static void a_removed_directory_takes_what_is_older(void **state) {
        Fixture *f = *state;

        page(f, "/d", 1, NULL);
        page(f, "/d/a", 2, "a");
        page(f, "/d/e", 2, NULL);
        page(f, "/d/e/b", 9, "of a later page");
        page(f, "/dd", 2, "another");
        change(f, "delete", 5, "/d", GONE_DIR);
        assert_null(value(f, "/d"));
        assert_null(value(f, "/d/a"));
        assert_string_equal(value(f, "/d/e/b"), "of a later page");
        assert_string_equal(value(f, "/dd"), "another");
        change(f, "expire", 10, "/d", GONE_DIR);
        assert_null(value(f, "/d/e/b"));
}

static void a_refresh_keeps_the_value(void **state) {
        Fixture *f = *state;

        page(f, "/a", 1, "value");
        change(f, "update", 2, "/a", ",\"ttl\":5},\"refresh\":true}");
        assert_string_equal(value(f, "/a"), "value");
        assert_true(snapshot_find(&f->nodes, "/a", 2)->expires);
        change(f, "update", 3, "/a", ",\"value\":\"lasting\"}}");
        assert_false(snapshot_find(&f->nodes, "/a", 2)->expires);
        change(f, "update", 4, "/absent", ",\"ttl\":5},\"refresh\":true}");
        assert_null(value(f, "/absent"));
}

static void changes_after_the_limit_are_ignored(void **state) {
        Fixture *f = *state;

        change(f, "set", 100, "/a", SET("in time"));
        change(f, "set", 101, "/a", SET("late"));
        assert_string_equal(value(f, "/a"), "in time");
        assert_int_equal(line(f, "{\"index\":200}"), 0);
        assert_int_equal(f->index, 200);
}

static void bad_lines_are_errors(void **state) {
        Fixture *f = *state;

        assert_int_equal(line(f, "{\"error\":{\"code\":410,\"message\":\"gone\"},\"index\":9}"), -ESTALE);
        assert_int_equal(line(f, "{"), -EBADMSG);
        assert_int_equal(line(f, "{\"index\":\"x\"}"), -EBADMSG);
        assert_int_equal(line(f, "{\"action\":\"set\",\"index\":1}"), -EBADMSG);
        assert_int_equal(line(f, "{\"action\":\"set\",\"index\":1,\"node\":{\"value\":\"x\"}}"), -EBADMSG);
}

static int set_up(void **state) {
        *state = calloc(1, sizeof(Fixture));
        return *state ? 0 : -1;
}

static int tear_down(void **state) {
        snapshot_nodes_done(&((Fixture *) *state)->nodes);
        free(*state);
        return 0;
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
        static const struct CMUnitTest tests[] = {
                T(a_change_before_the_page_of_its_key_changes_nothing),
                T(a_page_after_the_change_of_its_key_counts),
                T(a_removed_directory_takes_what_is_older),
                T(a_refresh_keeps_the_value),
                T(changes_after_the_limit_are_ignored),
                T(bad_lines_are_errors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
