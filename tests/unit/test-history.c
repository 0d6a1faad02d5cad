#include "tests/lib/test.h"

#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/table.h"
#include "kvstore/apply/events.h"
#include "kvstore/apply/history.h"
#include "kvstore/tree/format.h"
#include "kvstore/tree/tree_internal.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/commands.h"
#include "tests/lib/scratch.h"

enum { HOUR_MS = 3600 * 1000 };

#define START_MS UINT64_C(1700000000000)

typedef struct Fixture {
        char *scratch, *path;
        Tree *tree;
        TreeTxn *txn; /* a write transaction, open */
        TreeMeta meta;
} Fixture;

static void fixture_open(Fixture *f) {
        assert_int_equal(tree_open(f->path, &(TreeOptions) {}, &f->tree, NULL), 0);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
}

static void fixture_commit(Fixture *f) {
        assert_int_equal(tree_set_meta(f->txn, &f->meta), 0);
        assert_int_equal(tree_commit(TAKE_PTR(f->txn)), 0);
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        f->scratch = scratch_new();
        f->path = scratch_path(f->scratch, "tree");
        f->meta.level = KV_LEVEL_HISTORY;
        fixture_open(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        tree_abort(f->txn);
        tree_close(f->tree);
        scratch_free(f->scratch);
        free(f->path);
        free(f);
        return 0;
}

static KvStatus apply(Fixture *f, const KvCommand *cmd) {
        _cleanup_arena_ Arena arena = {};
        KvResult result;

        assert_int_equal(sink_apply_command(f->txn, &f->meta, cmd, 1, &arena, &(ApplySink) {}, &result), 0);
        return result.status;
}

static KvCommand noted(const char *key, uint64_t wall_ms, const char *body) {
        return COMMAND(KV_SET, key, .internal = true, .note = { wall_ms, kv_string(body) });
}

static void note(Fixture *f, uint64_t wall_ms, const char *body) {
        KvCommand cmd = noted("/_fleet/a", wall_ms, body);

        assert_int_equal(apply(f, &cmd), KV_OK);
}

static void note_bytes(Fixture *f, uint64_t wall_ms, KvBytes body) {
        assert_int_equal(history_add(f->txn, ++f->meta.index, &(KvNote) { wall_ms, body }), 0);
}

typedef struct Printed {
        Text *text;
        unsigned n_max; /* 0: all */
} Printed;

static int print_row(void *userdata, uint64_t index, KvBytes record) {
        Printed *p = userdata;
        KvHistoryRow row;

        assert_int_equal(history_row_decode(index, record, &row), 0);
        text_printf(p->text, "%llu: %lld+%llu %.*s x%llu\n", (unsigned long long) row.index,
                    (long long) (row.first_ms - START_MS), (unsigned long long) (row.last_ms - row.first_ms),
                    (int) row.body.size, (const char *) row.body.data, (unsigned long long) row.count);
        return p->n_max == 0 || --p->n_max > 0;
}

static void rows(TreeTxn *txn, uint64_t after, bool backward, unsigned n_max, Text *t) {
        text_clear(t);
        text_append(t, "");
        assert_int_equal(tree_rows(txn, after, backward, print_row, &(Printed) { t, n_max }), 0);
}

static void assert_rows(TreeTxn *txn, const char *expected) {
        _cleanup_text_ Text t = {};

        rows(txn, 0, false, 0, &t);
        assert_string_equal(t.chars, expected);
}

static void assert_whole(Fixture *f) {
        uint64_t walked, kept;
        Error err = {};

        if (tree_check(f->txn, &err) < 0)
                fail_msg("%s", err.message);
        assert_int_equal(tree_hash(f->txn, &walked), 0);
        assert_int_equal(tree_kept_hash(f->txn, &kept), 0);
        assert_true(walked == kept);
}

static TreeHistory history_of(TreeTxn *txn) {
        TreeMeta meta;

        assert_int_equal(tree_meta(txn, &meta), 0);
        return meta.history;
}

/* -- Rows -- */

static void a_write_adds_its_row_at_its_index(void **state) {
        Fixture *f = *state;
        KvCommand plain = noted("/_fleet/b", 0, "");
        KvCommand writes[] = {
                noted("/_fleet/b", START_MS + 30, "two"),
                noted("/_fleet/c", START_MS + 40, ""),
                noted("/_fleet/d", START_MS + 50, "three"),
        };
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = 3 };

        note(f, START_MS, "one");
        assert_int_equal(apply(f, &plain), KV_OK);
        assert_int_equal(apply(f, &txn), KV_OK);
        assert_rows(f->txn, "1: 0+0 one x1\n3: 30+0 two x1\n5: 50+0 three x1\n");
        assert_whole(f);
}

static void each_kind_of_write_may_have_a_row(void **state) {
        Fixture *f = *state;
        KvCommand cmd = noted("/_fleet/a", START_MS, "row");
        static const KvOp ops[] = { KV_CREATE, KV_UPDATE, KV_SET, KV_DELETE, KV_POST };

        for (size_t i = 0; i < ELEMENTS(ops); i++) {
                cmd.op = ops[i];
                assert_int_equal(apply(f, &cmd), KV_OK);
                assert_int_equal(f->meta.index, i + 1);
        }
        assert_rows(f->txn, "5: 0+0 row x5\n");
}

static void a_repetition_within_an_hour_of_the_first_one_raises_the_count(void **state) {
        static const struct {
                int64_t later_ms;
                const char *rows;
        } cases[] = {
                { 0, "3: 0+0 same x2\n" },
                { 1000, "3: 0+1000 same x2\n" },
                { HOUR_MS - 1, "3: 0+3599999 same x2\n" },
                { HOUR_MS, "1: 0+0 same x1\n3: 3600000+0 same x1\n" },
                /* Another host's clock may be behind. */
                { -1000, "3: 0+0 same x2\n" },
                { 1 - HOUR_MS, "3: 0+0 same x2\n" },
                { -HOUR_MS, "1: 0+0 same x1\n3: -3600000+0 same x1\n" },
        };
        Fixture *f = *state;
        TreeTxn *outer = f->txn;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_text_ Text all = {}, others = {};

                assert_int_equal(tree_begin_nested(outer, &f->txn), 0);
                f->meta.index = 0;
                note(f, START_MS, "same");
                note(f, START_MS + (uint64_t) cases[i].later_ms, "other");
                note(f, START_MS + (uint64_t) cases[i].later_ms, "same");
                rows(f->txn, 0, false, 0, &all);
                for (const char *line = all.chars; *line; line = strchr(line, '\n') + 1) {
                        size_t size = strchr(line, '\n') + 1 - line;

                        if (!memmem(line, size, "other", 5))
                                text_append_bytes(&others, line, size);
                }
                text_append(&others, "");
                assert_string_equal(others.chars, cases[i].rows);
                assert_whole(f);
                tree_abort(f->txn);
                f->txn = outer;
        }
}

/* A row that is repeated again and again still ends an hour after it began. */
static void a_row_that_is_repeated_for_hours_begins_again_each_hour(void **state) {
        Fixture *f = *state;

        for (unsigned minute = 0; minute < 150; minute += 25)
                note(f, START_MS + minute * 60000, "again");
        assert_rows(f->txn, "3: 0+3000000 again x3\n6: 4500000+3000000 again x3\n");
}

static void a_command_without_effect_leaves_no_row(void **state) {
        Fixture *f = *state;
        KvCommand writes[] = {
                noted("/_fleet/b", START_MS + 10, "old"),
                noted("/_fleet/b", START_MS + 10, "new"),
                noted("/_fleet/a", START_MS + 10, "refused"),
        };
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = 3 };
        KvCommand late = { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = 2, .term = 9 };

        note(f, START_MS, "old");
        writes[2].op = KV_CREATE;
        assert_int_equal(apply(f, &writes[2]), KV_EXISTS);
        assert_int_equal(apply(f, &txn), KV_EXISTS);
        assert_int_equal(apply(f, &late), KV_TERM_CHANGED);
        assert_rows(f->txn, "1: 0+0 old x1\n");
        assert_whole(f);
        txn.n_writes = 2;
        assert_int_equal(apply(f, &txn), KV_OK);
        assert_rows(f->txn, "2: 0+10 old x2\n3: 10+0 new x1\n");
        assert_whole(f);
}

static void a_row_is_refused_of_users_and_below_its_feature_level(void **state) {
        Fixture *f = *state;
        KvCommand writes[] = { noted("/_fleet/a", START_MS, "row"), noted("/_fleet/b", START_MS, "") };
        const struct {
                KvCommand cmd;
                unsigned level;
                KvStatus status;
        } cases[] = {
                { writes[0], KV_LEVEL_HISTORY - 1, KV_INVALID },
                { { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = 2 },
                  KV_LEVEL_HISTORY - 1,
                  KV_INVALID },
                { COMMAND(KV_SET, "/a", .note = writes[0].note), KV_LEVEL_HISTORY, KV_FORBIDDEN },
                { { .op = KV_RAISE, .limit = 4, .internal = true, .note = writes[0].note },
                  KV_LEVEL_HISTORY,
                  KV_INVALID },
                { { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = 2, .note = writes[0].note },
                  KV_LEVEL_HISTORY,
                  KV_INVALID },
        };
        KvNode node;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                f->meta.level = cases[i].level;
                if (apply(f, &cases[i].cmd) != cases[i].status)
                        fail_msg("case %zu", i);
                assert_int_equal(tree_get(f->txn, kv_string("/_fleet"), &node), -ENOENT);
                assert_rows(f->txn, "");
        }
}

static void rows_are_read_in_both_directions_from_any_place(void **state) {
        static const struct {
                uint64_t after;
                bool backward;
                unsigned n_max;
                const char *indexes;
        } cases[] = {
                { 0, false, 0, "2357" },      { 1, false, 0, "2357" }, { 2, false, 0, "357" },
                { 4, false, 0, "57" },        { 4, false, 1, "5" },    { 7, false, 0, "" },
                { UINT64_MAX, false, 0, "" }, { 0, true, 0, "7532" },  { 0, true, 2, "75" },
                { 7, true, 0, "532" },        { 6, true, 0, "532" },   { 2, true, 0, "" },
                { UINT64_MAX, true, 1, "7" },
        };
        static const uint64_t at[] = { 2, 3, 5, 7 };
        Fixture *f = *state;

        for (unsigned i = 0; i < 2; i++) /* events are in the same table */
                assert_int_equal(tree_add_event(f->txn, i, 9, kv_string("event"), 1), 0);
        assert_rows(f->txn, "");
        assert_int_equal(tree_rows(f->txn, 0, true, print_row, NULL), 0);
        for (size_t i = 0; i < ELEMENTS(at); i++) {
                char body[2] = { (char) ('a' + i), 0 };

                f->meta.index = at[i] - 1;
                note_bytes(f, START_MS, kv_string(body));
        }
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_text_ Text all = {}, indexes = {};

                rows(f->txn, cases[i].after, cases[i].backward, cases[i].n_max, &all);
                text_append(&indexes, "");
                for (const char *line = all.chars; *line; line = strchr(line, '\n') + 1)
                        text_append_bytes(&indexes, line, 1);
                if (!streq(indexes.chars, cases[i].indexes))
                        fail_msg("case %zu: '%s'", i, indexes.chars);
        }
}

static int count_row(void *userdata, uint64_t index, KvBytes record) {
        KvHistoryRow row;
        unsigned *n = userdata;

        assert_int_equal(history_row_decode(index, record, &row), 0);
        (*n)++;
        return 1;
}

static int fail_visit(void *userdata, uint64_t index, KvBytes record) {
        return -EXDEV;
}

static void a_visit_that_fails_ends_the_reading(void **state) {
        Fixture *f = *state;

        note(f, START_MS, "a");
        assert_int_equal(tree_rows(f->txn, 0, false, fail_visit, NULL), -EXDEV);
        assert_int_equal(tree_rows(f->txn, 0, true, fail_visit, NULL), -EXDEV);
}

static void rows_count_as_nodes_that_a_walk_has_read(void **state) {
        Fixture *f = *state;
        unsigned n = 0;

        for (unsigned i = 0; i < 3; i++)
                note_bytes(f, START_MS + i * UINT64_C(2) * HOUR_MS, kv_string("row"));
        tree_limit_walks(f->txn, 3);
        assert_int_equal(tree_rows(f->txn, 0, false, count_row, &n), 0);
        tree_limit_walks(f->txn, 2);
        assert_int_equal(tree_rows(f->txn, 0, true, count_row, &n), -E2BIG);
        tree_limit_walks(f->txn, 0);
        assert_int_equal(n, 5);
}

static void another_body_with_the_same_hash_is_another_row(void **state) {
        const KvBytes body = kv_string("has the hash of the first row, as its fold says");
        _cleanup_writer_ Writer fold = {};
        Fixture *f = *state;

        note(f, START_MS, "first");
        write_u64(&fold, 1);
        assert_int_equal(tree_history_put(f->txn, TREE_FOLDS, XXH3_64bits(body.data, body.size),
                                          (KvBytes) { fold.bytes, fold.size }),
                         0);
        note_bytes(f, START_MS, body);
        note(f, START_MS, "first");
        assert_rows(f->txn, "2: 0+0 has the hash of the first row, as its fold says x1\n3: 0+0 first x2\n");
        assert_whole(f);
}

/* -- Bytes -- */

static void rows_have_these_bytes(void **state) {
        static const struct {
                KvHistoryRow row;
                uint8_t bytes[24];
                size_t size;
        } cases[] = {
                { { 7, 1, 1, 1, { "b", 1 } }, { 1, 0, 1, 'b' }, 4 },
                { { 7, 300, 500, 129, { "\0x", 2 } }, { 0xac, 2, 0xc8, 1, 0x81, 1, 0, 'x' }, 8 },
                { { 7, UINT64_MAX, UINT64_MAX, 2, { "b", 1 } },
                  { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0, 2, 'b' },
                  13 },
        };
        KvHistoryRow row;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_writer_ Writer w = {};

                history_row_encode(&cases[i].row, &w);
                assert_int_equal(w.error, 0);
                assert_int_equal(w.size, cases[i].size);
                assert_memory_equal(w.bytes, cases[i].bytes, w.size);
                assert_int_equal(history_row_decode(7, (KvBytes) { w.bytes, w.size }, &row), 0);
                assert_true(row.index == 7 && row.first_ms == cases[i].row.first_ms &&
                            row.last_ms == cases[i].row.last_ms && row.count == cases[i].row.count &&
                            kv_bytes_equal(row.body, cases[i].row.body));
                for (size_t size = 0; size <= w.size - row.body.size; size++)
                        assert_int_equal(history_row_decode(7, (KvBytes) { w.bytes, size }, &row), -EUCLEAN);
        }
}

static void bytes_that_are_no_row_are_refused(void **state) {
        static const struct {
                KvBytes bytes;
                const char *what;
        } cases[] = {
                { { "\1\0\0b", 4 }, "no occurrence" },
                { { "\1\0\1", 3 }, "no body" },
                { { "\xff\xff\xff\xff\xff\xff\xff\xff\xff\1\1\1b", 13 }, "an end after the end of time" },
                { { "\x81\0\0\1b", 5 }, "a number in a longer form" },
        };
        uint8_t large[3 + KV_NOTE_MAX + 1] = { 1, 0, 1 };
        KvHistoryRow row;

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                if (history_row_decode(7, cases[i].bytes, &row) != -EUCLEAN)
                        fail_msg("%s", cases[i].what);
        assert_int_equal(history_row_decode(7, (KvBytes) { large, sizeof(large) - 1 }, &row), 0);
        assert_int_equal(history_row_decode(7, (KvBytes) { large, sizeof(large) }, &row), -EUCLEAN);
}

/* -- Limits -- */

/* A body as fleetd writes it: name of 40 bytes, machine ID, reason of 40 bytes, user, and their sizes. */
static KvBytes typical_body(unsigned i, char bytes[static 128]) {
        int n = snprintf(bytes, 128,
                         "s(web-frontend-%019u.service\x10%016u(exit status 203/EXEC, %018u\4root", i, i % 7,
                         i);

        assert_int_equal(n, 105);
        return (KvBytes) { bytes, (size_t) n };
}

static uint64_t used_size(TreeTxn *txn) {
        uint64_t size;

        assert_int_equal(tree_used_size(txn, &size), 0);
        return size;
}

static uint64_t cpu_us(void) {
        struct timespec t;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_nsec / 1000;
}

static void assert_within_limits(Fixture *f) {
        TreeHistory h = history_of(f->txn);

        assert_in_range(h.n, 0, HISTORY_ROWS_MAX);
        assert_in_range(h.bytes, 0, HISTORY_BYTES_MAX);
        assert_in_range(h.n_folds, 0, HISTORY_FOLDS_MAX);
}

static void a_hundred_thousand_typical_rows_take_at_most_16_mib(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *to = scratch_path(f->scratch, "copy"),
                            *file = scratch_path(f->scratch, "copy/data.mdb");
        uint64_t before = used_size(f->txn), began_us, taken_us;
        char body[128];
        unsigned n = 0;
        struct stat st;
        TreeMeta meta;

        for (unsigned i = 0; i < HISTORY_ROWS_MAX + 1000; i++) {
                note_bytes(f, START_MS + i, typical_body(i, body));
                if (i % 1000 != 0)
                        continue;
                fixture_commit(f);
                assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
        }
        assert_int_equal(history_of(f->txn).n, HISTORY_ROWS_MAX);
        assert_within_limits(f);
        assert_whole(f);
        assert_in_range(used_size(f->txn) - before, 0, HISTORY_BYTES_MAX);

        began_us = cpu_us();
        assert_int_equal(tree_rows(f->txn, 0, false, count_row, &n), 0);
        taken_us = cpu_us() - began_us;
        assert_int_equal(n, HISTORY_ROWS_MAX);
        fixture_commit(f);
        assert_int_equal(tree_copy(f->tree, to, &meta, NULL), 0);
        assert_int_equal(stat(file, &st), 0);
        assert_in_range(st.st_size, 0, HISTORY_BYTES_MAX);
        print_message("%u rows: weight %llu KiB, copy %llu KiB, file %llu KiB; read in %llu us\n", n,
                      (unsigned long long) meta.history.bytes / 1024, (unsigned long long) st.st_size / 1024,
                      (unsigned long long) tree_file_size(f->tree) / 1024, (unsigned long long) taken_us);
}

static void large_rows_make_the_history_shorter(void **state) {
        Fixture *f = *state;
        char body[KV_NOTE_MAX] = "";
        unsigned n = HISTORY_BYTES_MAX / KV_NOTE_MAX + 1000;
        uint64_t first;
        KvBytes row;

        for (unsigned i = 0; i < n; i++) {
                memcpy(body, &i, sizeof(i));
                note_bytes(f, START_MS + i, (KvBytes) { body, sizeof(body) });
                if (i % 5000 == 0)
                        assert_within_limits(f);
        }
        assert_within_limits(f);
        assert_whole(f);
        assert_true(history_of(f->txn).bytes > HISTORY_BYTES_MAX - 2 * KV_NOTE_MAX);
        assert_int_equal(tree_row_from(f->txn, 0, &first, &row), 0);
        assert_int_equal(n - first + 1, history_of(f->txn).n); /* the newest ones are there */
}

static void four_rows_that_are_repeated_each_second_of_a_day_are_a_hundred_at_most(void **state) {
        Fixture *f = *state;
        uint64_t before = used_size(f->txn);
        char body[128];

        for (unsigned i = 0; i < 86400; i++)
                for (unsigned n = 0; n < 4; n++)
                        note_bytes(f, START_MS + i * UINT64_C(1000) + n * 7, typical_body(n, body));
        assert_int_equal(history_of(f->txn).n, 96);
        assert_int_equal(history_of(f->txn).n_folds, 4);
        assert_whole(f);
        assert_in_range(used_size(f->txn) - before, 0, 64 * 1024);
}

/* Folds cost space for the newest rows only. */
static void a_repetition_of_an_old_row_among_many_others_is_a_row_of_its_own(void **state) {
        enum { N = HISTORY_FOLDS_MAX + 1000 };
        Fixture *f = *state;
        char body[128];

        for (unsigned i = 0; i < N; i++)
                note_bytes(f, START_MS, typical_body(i, body));
        assert_int_equal(history_of(f->txn).n_folds, HISTORY_FOLDS_MAX);
        note_bytes(f, START_MS, typical_body(N - HISTORY_FOLDS_MAX, body)); /* the oldest with a fold */
        assert_int_equal(history_of(f->txn).n, N);
        note_bytes(f, START_MS, typical_body(N - HISTORY_FOLDS_MAX - 1, body));
        assert_int_equal(history_of(f->txn).n, N + 1);
        assert_int_equal(history_of(f->txn).n_folds, HISTORY_FOLDS_MAX);
        assert_whole(f);
}

/* Rows whose body has a later row have no fold: the search for rows to unfold passes them in steps. */
static void rows_without_a_fold_do_not_keep_those_of_others(void **state) {
        Fixture *f = *state;
        char body[128];

        note_bytes(f, START_MS, kv_string("first"));
        for (unsigned i = 0; i < 2000; i++)
                note_bytes(f, START_MS + i * UINT64_C(2) * HOUR_MS, kv_string("each is an hour apart"));
        assert_int_equal(history_of(f->txn).n_folds, 2);
        for (unsigned i = 0; i < HISTORY_FOLDS_MAX + 3000; i++)
                note_bytes(f, START_MS, typical_body(i, body));
        assert_int_equal(history_of(f->txn).n_folds, HISTORY_FOLDS_MAX);
        assert_whole(f);
}

/* The clock of a host jumps by hours, and the other rows never repeat. */
static void the_oldest_row_goes_with_its_fold(void **state) {
        Fixture *f = *state;
        uint64_t first;
        KvBytes row;

        note_bytes(f, START_MS, kv_string("first"));
        for (unsigned i = 1; i < HISTORY_ROWS_MAX; i++)
                note_bytes(f, START_MS + i * UINT64_C(2) * HOUR_MS, kv_string("each is an hour apart"));
        assert_int_equal(history_of(f->txn).n, HISTORY_ROWS_MAX);
        assert_int_equal(history_of(f->txn).n_folds, 2);
        note_bytes(f, START_MS, kv_string("another"));
        assert_int_equal(history_of(f->txn).n, HISTORY_ROWS_MAX);
        assert_int_equal(history_of(f->txn).n_folds, 2);
        assert_int_equal(tree_row_from(f->txn, 0, &first, &row), 0);
        assert_int_equal(first, 2);
        assert_whole(f);
        note_bytes(f, START_MS, kv_string("first")); /* a row of its own */
        assert_int_equal(history_of(f->txn).n_folds, 3);
        assert_whole(f);
}

/* Repetitions leave gaps in the pages of older rows. */
static void a_hundred_thousand_rows_of_which_many_are_repeated_take_at_most_16_mib(void **state) {
        Fixture *f = *state;
        Random random;
        char body[128];
        uint64_t weight, used;

        random_seed(&random, 5);
        for (unsigned i = 0; i < 220000; i++)
                note_bytes(f, START_MS + i * UINT64_C(100),
                           typical_body(random_below(&random, 2) ? i : (unsigned) random_below(&random, 500),
                                        body));
        weight = history_of(f->txn).bytes;
        used = used_size(f->txn);
        assert_within_limits(f);
        assert_whole(f);
        print_message("weight %llu KiB, used %llu KiB\n", (unsigned long long) weight / 1024,
                      (unsigned long long) used / 1024);
        assert_int_equal(history_of(f->txn).n, HISTORY_ROWS_MAX);
        assert_in_range(used, 0, HISTORY_BYTES_MAX);
}

/* -- Lifetime -- */

static void the_history_survives_a_restart_a_copy_and_another_lineage(void **state) {
        static const char expected[] = "2: 0+5 a x2\n3: 9+0 b x1\n";
        Fixture *f = *state;
        _cleanup_free_ char *to = scratch_path(f->scratch, "copy");
        TreeMeta meta;
        TreeTxn *txn;
        Tree *copy;

        note(f, START_MS, "a");
        note(f, START_MS + 5, "a");
        note(f, START_MS + 9, "b");
        fixture_commit(f);
        f->tree = tree_close(f->tree);
        fixture_open(f);
        assert_rows(f->txn, expected);
        assert_int_equal(tree_clear_events(f->txn, 1000), 0);
        assert_rows(f->txn, expected);
        assert_whole(f);
        fixture_commit(f);

        assert_int_equal(tree_copy(f->tree, to, &meta, NULL), 0);
        assert_int_equal(meta.history.n, 2);
        assert_int_equal(tree_open(to, &(TreeOptions) { .read_only = true }, &copy, NULL), 0);
        assert_int_equal(tree_begin_read(copy, &txn), 0);
        assert_rows(txn, expected);
        tree_abort(txn);
        tree_close(copy);
}

static void a_copy_whose_history_was_changed_is_corrupt(void **state) {
        static const struct {
                TreeHistoryTable table;
                size_t member;
        } cases[] = {
                { TREE_ROWS, offsetof(TreeHistory, n) },
                { TREE_ROWS, offsetof(TreeHistory, bytes) },
                { TREE_FOLDS, offsetof(TreeHistory, n_folds) },
        };
        Fixture *f = *state;
        TreeTxn *outer = f->txn;
        Error err = {};

        note(f, START_MS, "a");
        assert_int_equal(tree_check(f->txn, NULL), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                assert_int_equal(tree_begin_nested(outer, &f->txn), 0);
                ++*(uint64_t *) ((char *) &f->txn->meta.history + cases[i].member);
                assert_int_equal(tree_check(f->txn, &err), -EUCLEAN);
                assert_string_equal(err.message, "the tree is corrupt: its counts do not match its content");
                tree_abort(f->txn);
        }
        assert_int_equal(tree_begin_nested(outer, &f->txn), 0);
        assert_int_equal(tree_history_delete(f->txn, TREE_ROWS, 1), 0); /* its fold is left */
        assert_int_equal(tree_check(f->txn, &err), -EUCLEAN);
        assert_int_equal(history_add(f->txn, 2, &(KvNote) { START_MS, kv_string("a") }), -EUCLEAN);
        tree_abort(f->txn);
        f->txn = outer;
        assert_int_equal(history_add(f->txn, 1, &(KvNote) { START_MS, kv_string("b") }), -EUCLEAN);
}

/* -- A model -- */

enum { MODEL_BODIES = 12 };

typedef struct Model {
        struct {
                uint64_t index, first_ms, last_ms, count;
                unsigned body;
        } rows[4096];
        size_t n;
} Model;

static void model_note(Model *m, uint64_t index, uint64_t wall_ms, unsigned body) {
        for (size_t i = m->n; i-- > 0;) {
                uint64_t first_ms = m->rows[i].first_ms, last_ms = MAX(m->rows[i].last_ms, wall_ms),
                         count = m->rows[i].count + 1;

                if (m->rows[i].body != body)
                        continue;
                if (wall_ms >= first_ms + HOUR_MS || first_ms >= wall_ms + HOUR_MS)
                        break;
                memmove(m->rows + i, m->rows + i + 1, (--m->n - i) * sizeof(m->rows[0]));
                m->rows[m->n].first_ms = first_ms;
                m->rows[m->n].last_ms = last_ms;
                m->rows[m->n].count = count;
                m->rows[m->n].index = index;
                m->rows[m->n++].body = body;
                return;
        }
        m->rows[m->n].first_ms = m->rows[m->n].last_ms = wall_ms;
        m->rows[m->n].count = 1;
        m->rows[m->n].index = index;
        m->rows[m->n++].body = body;
}

static void random_rows_equal_those_of_a_model_that_searches_all(void **state) {
        Fixture *f = *state;
        _cleanup_free_ Model *model = NEW0(Model, 1), *saved = NEW0(Model, 1);
        uint64_t now_ms = START_MS;
        Random random;

        random_seed(&random, 3);
        for (unsigned i = 0; i < 400; i++) {
                bool rolled_back = random_below(&random, 4) == 0;
                TreeTxn *outer = f->txn;
                uint64_t index = f->meta.index;
                _cleanup_text_ Text expected = {};

                *saved = *model;
                assert_int_equal(tree_begin_nested(outer, &f->txn), 0);
                for (uint64_t n = random_below(&random, 8); n > 0; n--) {
                        unsigned body = (unsigned) random_below(&random, MODEL_BODIES);
                        uint64_t wall_ms = now_ms + random_below(&random, 20) * 60000;
                        char text[16];

                        now_ms += random_below(&random, 10 * 60000);
                        snprintf(text, sizeof(text), "body %u", body);
                        note(f, wall_ms, text);
                        model_note(model, f->meta.index, wall_ms, body);
                }
                if (rolled_back) {
                        tree_abort(f->txn);
                        f->meta.index = index;
                        *model = *saved;
                } else
                        assert_int_equal(tree_commit(f->txn), 0);
                f->txn = outer;
                text_append(&expected, "");
                for (size_t k = 0; k < model->n; k++)
                        text_printf(&expected, "%llu: %lld+%llu body %u x%llu\n",
                                    (unsigned long long) model->rows[k].index,
                                    (long long) (model->rows[k].first_ms - START_MS),
                                    (unsigned long long) (model->rows[k].last_ms - model->rows[k].first_ms),
                                    model->rows[k].body, (unsigned long long) model->rows[k].count);
                if (i % 20 != 0 && i < 390)
                        continue;
                assert_rows(f->txn, expected.chars);
                assert_whole(f);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(a_write_adds_its_row_at_its_index),
                TEST(each_kind_of_write_may_have_a_row),
                TEST(a_repetition_within_an_hour_of_the_first_one_raises_the_count),
                TEST(a_row_that_is_repeated_for_hours_begins_again_each_hour),
                TEST(a_command_without_effect_leaves_no_row),
                TEST(a_row_is_refused_of_users_and_below_its_feature_level),
                TEST(rows_are_read_in_both_directions_from_any_place),
                TEST(a_visit_that_fails_ends_the_reading),
                TEST(rows_count_as_nodes_that_a_walk_has_read),
                TEST(another_body_with_the_same_hash_is_another_row),
                cmocka_unit_test(rows_have_these_bytes),
                cmocka_unit_test(bytes_that_are_no_row_are_refused),
                TEST(a_hundred_thousand_typical_rows_take_at_most_16_mib),
                TEST(large_rows_make_the_history_shorter),
                TEST(four_rows_that_are_repeated_each_second_of_a_day_are_a_hundred_at_most),
                TEST(a_repetition_of_an_old_row_among_many_others_is_a_row_of_its_own),
                TEST(rows_without_a_fold_do_not_keep_those_of_others),
                TEST(the_oldest_row_goes_with_its_fold),
                TEST(a_hundred_thousand_rows_of_which_many_are_repeated_take_at_most_16_mib),
                TEST(the_history_survives_a_restart_a_copy_and_another_lineage),
                TEST(a_copy_whose_history_was_changed_is_corrupt),
                TEST(random_rows_equal_those_of_a_model_that_searches_all),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
