/* Tree and state machine with the first, second, third ... call of the database failing: each failure is said
 * as what it is, and the tree stays as it was. */

#include "tests/lib/test.h"
#include <lmdb.h>

#include "kvstore/apply/apply.h"
#include "kvstore/estimate.h"
#include "kvstore/apply/events.h"
#include "kvstore/apply/history.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/commands.h"
#include "tests/lib/failing_database.h"
#include "tests/lib/scratch.h"

/* -- A tree with something of everything -- */

enum { N_LARGE = 12 };

typedef struct Fixture {
        char *scratch, *path;
        Tree *tree;
        char long_dir[487], long_key[600], new_long_key[600];
        unsigned checks_from; /* this call on, what a scenario cannot read is damaged; 0: it checks nothing */
        Error err;            /* of a check */
        const KvCommand *cmd; /* of scenarios that apply one */
        unsigned level;
        KvStatus status;
        EstimateLimits limits;
} Fixture;

static char large[KV_VALUE_MAX];

static void lay(TreeTxn *txn, const char *key, bool dir, KvBytes value, uint64_t expires_ms) {
        KvNode node = { .key = kv_string(key),
                        .dir = dir,
                        .value = value,
                        .created = 1,
                        .modified = 1,
                        .expires_ms = expires_ms };

        assert_int_equal(tree_put(txn, &node), 0);
}

static int setup(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);
        TreeMeta meta = { .index = 10, .cluster_ms = 5000, .level = KV_LEVEL_HISTORY };
        TreeTxn *txn;
        char key[600];

        fixture->scratch = scratch_new();
        fixture->path = scratch_path(fixture->scratch, "tree");
        assert_int_equal(tree_open(fixture->path, &(TreeOptions) {}, &fixture->tree, NULL), 0);
        assert_int_equal(tree_begin_write(fixture->tree, &txn), 0);
        lay(txn, "/a", false, kv_string("v"), 9000);
        lay(txn, "/d", true, (KvBytes) {}, 0);
        lay(txn, "/d/e", true, (KvBytes) {}, 0);
        lay(txn, "/d/e/f", false, kv_string("v"), 8000);
        lay(txn, "/empty", true, (KvBytes) {}, 0);
        lay(txn, "/due", true, (KvBytes) {}, 2000);
        for (unsigned i = 0; i < N_LARGE; i++) {
                snprintf(key, sizeof(key), "/due/%02u", i);
                lay(txn, key, false, (KvBytes) { large, sizeof(large) }, 0);
        }
        lay(txn, "/due soon", false, kv_string("v"), 3000);
        memset(fixture->long_dir, 'd', sizeof(fixture->long_dir) - 1);
        fixture->long_dir[0] = '/';
        lay(txn, fixture->long_dir, true, (KvBytes) {}, 0);
        for (unsigned i = 0; i < 4; i++) {
                snprintf(fixture->long_key, sizeof(fixture->long_key), "%s/%u", fixture->long_dir, i);
                lay(txn, fixture->long_key, false, kv_string("v"), 0);
        }
        snprintf(fixture->new_long_key, sizeof(fixture->new_long_key), "%s/new", fixture->long_dir);
        for (unsigned i = 1; i < 4; i++)
                assert_int_equal(tree_put_result(txn, i / 2 + 1, i, kv_string("record")), 0);
        for (unsigned i = 0; i < _TREE_WINDOW_MAX; i++)
                for (unsigned index = 1; index < 4; index++)
                        assert_int_equal(
                                tree_add_event(txn, i, index, kv_string("event"), TREE_WINDOW_BYTES / 3), 0);
        assert_int_equal(history_add(txn, 5, &(KvNote) { 1000, kv_string("same") }), 0);
        assert_int_equal(tree_set_configuration(txn, kv_string("configuration")), 0);
        assert_int_equal(tree_set_meta(txn, &meta), 0);
        assert_int_equal(tree_commit(txn), 0);
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;

        tree_close(fixture->tree);
        scratch_free(fixture->scratch);
        free(fixture->path);
        free(fixture);
        return 0;
}

static uint64_t whole_hash(Tree *tree) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        uint64_t hash, kept;

        assert_int_equal(tree_begin_read(tree, &txn), 0);
        assert_int_equal(tree_check(txn, NULL), 0);
        assert_int_equal(tree_hash(txn, &hash), 0);
        assert_int_equal(tree_kept_hash(txn, &kept), 0);
        assert_true(hash == kept);
        return hash;
}

/* Runs 'scenario', which ends what it begins, until none of its calls fails; each one that does is its
 * answer. Returns how many did. */
static unsigned sweep(Fixture *fixture, const char *name, int (*scenario)(Fixture *fixture)) {
        uint64_t before = fixture->tree ? whole_hash(fixture->tree) : 0;
        unsigned n = 0;
        int r;

        do {
                failing_call(++n, EIO);
                r = scenario(fixture);
                failing_calls_end();
                if (r != (failing.failed ? -EIO : 0) &&
                    !(failing.failed && r == -EUCLEAN && fixture->checks_from > 0 &&
                      n >= fixture->checks_from))
                        fail_msg("%s, call %u%s: %d", name, n, failing.failed ? " failed" : "s", r);
                if (fixture->tree && whole_hash(fixture->tree) != before)
                        fail_msg("%s, call %u: the tree has changed", name, n);
        } while (failing.failed && n < 2000);
        assert_false(failing.failed);
        return n - 1;
}

/* -- The tree -- */

static int open_again(Fixture *fixture) {
        Tree *tree = NULL;
        Error err = {};
        int r = tree_open(fixture->path, &(TreeOptions) {}, &tree, &err);

        tree_close(tree);
        return r;
}

static int open_to_read(Fixture *fixture) {
        Tree *tree = NULL;
        Error err = {};
        int r = tree_open(fixture->path, &(TreeOptions) { .read_only = true }, &tree, &err);

        tree_close(tree);
        return r;
}

static void opening_says_which_call_failed(void **state) {
        Fixture *fixture = *state;

        fixture->tree = tree_close(fixture->tree);
        assert_true(sweep(fixture, "open", open_again) > 8);
        assert_true(sweep(fixture, "open to read", open_to_read) > 8);
}

static int begin_and_end(Fixture *fixture) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL, *second = NULL;
        TreeMeta meta;
        int r;

        for (unsigned i = 0; i < 2;
             i++) { /* the second one is the first one renewed, and sees another state */
                r = tree_begin_read(fixture->tree, &txn);
                if (r < 0)
                        return r;
                r = tree_meta(txn, &meta);
                if (r < 0)
                        return r;
                tree_abort(TAKE_PTR(txn));
                r = tree_begin_write(fixture->tree, &txn);
                if (r < 0)
                        return r;
                assert_int_equal(tree_set_meta(txn, &meta), 0);
                r = tree_begin_nested(txn, &second);
                if (r < 0)
                        return r;
                r = tree_commit(TAKE_PTR(second));
                if (r < 0)
                        return r;
                r = tree_commit(TAKE_PTR(txn));
                if (r < 0)
                        return r;
        }
        return 0;
}

static void transactions_say_which_call_failed(void **state) {
        assert_true(sweep(*state, "transactions", begin_and_end) > 8);
}

static int go_on(void *userdata, const KvNode *node) {
        return 1;
}

static int scan_on(void *userdata, const KvNode *node, bool below) {
        return 1;
}

static int event_on(void *userdata, uint64_t index, KvBytes event) {
        return 1;
}

static int row_on(void *userdata, uint64_t index, KvBytes row) {
        return 1;
}

static int result_on(void *userdata, uint64_t slot, KvBytes record) {
        return 1;
}

static int drop_result(void *userdata, uint64_t slot, KvBytes record) {
        return TREE_DROP;
}

enum {
        READ_GET,
        READ_WALK,
        READ_CHILDREN,
        READ_LONG,
        READ_FROM,
        READ_SCAN,
        READ_COUNT_LONG,
        READ_FIRST_DUE,
        READ_CONFIGURATION,
        READ_USED,
        READ_HASH,
        READ_CHECK,
        READ_EVENTS,
        READ_ROWS,
        READ_RESULT,
        READ_RESULT_BEFORE,
        READ_LAST_RESULT,
        READ_RESULTS,
        _READ_MAX
};

static unsigned reading;

static int read_one(Fixture *fixture, TreeTxn *txn) {
        uint64_t n = 0;
        KvBytes bytes;
        KvNode node;
        int r;

        switch (reading) {
        case READ_GET:
                return tree_get(txn, kv_string("/a"), &node);
        case READ_WALK:
                return tree_walk(txn, kv_string("/d"), true, go_on, NULL);
        case READ_CHILDREN:
                return tree_walk(txn, kv_string("/"), false, go_on, NULL);
        case READ_LONG:
                return tree_walk(txn, kv_string(fixture->long_dir), false, go_on, NULL);
        case READ_FROM:
                return tree_walk_from(txn, kv_string("/"), kv_string("/d/e"), true, go_on, NULL);
        case READ_SCAN:
                r = tree_scan(txn, kv_string("/"), scan_on, NULL);
                return r < 0 ? r : 0;
        case READ_COUNT_LONG:
                r = tree_count_long(txn, kv_string(fixture->long_key), 100, &n);
                if (r == 0)
                        assert_int_equal(n, 5);
                return r;
        case READ_FIRST_DUE:
                return tree_first_due(txn, 5000, &node);
        case READ_CONFIGURATION:
                return tree_configuration(txn, &bytes);
        case READ_USED:
                return tree_used_size(txn, &n);
        case READ_HASH:
                return tree_hash(txn, &n);
        case READ_CHECK:
                fixture->err = (Error) {};
                r = tree_check(txn, &fixture->err);
                if (r < 0)
                        assert_string_equal(fixture->err.message,
                                            r == -EUCLEAN ? "a node of the tree is corrupt" :
                                                            "Failed to read the tree: Input/output error");
                return r;
        case READ_EVENTS:
                return tree_events(txn, TREE_WINDOW_USERS, event_on, NULL);
        case READ_ROWS:
                r = tree_rows(txn, 0, false, row_on, NULL);
                return r < 0 ? r : tree_rows(txn, 5, true, row_on, NULL);
        case READ_RESULT:
                return tree_result(txn, 1, 1, &bytes);
        case READ_RESULT_BEFORE:
                return tree_result_before(txn, 1, 9, &n, &bytes);
        case READ_LAST_RESULT:
                return tree_result_before(txn, 2, 9, &n, &bytes);
        default:
                return tree_results(txn, 0, result_on, NULL);
        }
}

static int read_by_loop(Fixture *fixture) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r = tree_begin_read(fixture->tree, &txn);

        return r < 0 ? r : read_one(fixture, txn);
}

static int read_by_worker(Fixture *fixture) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeReader *reader;
        int r;

        assert_int_equal(tree_reader_new(fixture->tree, &reader), 0);
        r = tree_reader_begin(reader, &txn);
        if (r == 0)
                r = tree_walk(txn, kv_string("/"), true, go_on, NULL);
        tree_abort(TAKE_PTR(txn));
        tree_reader_free(reader);
        return r;
}

static void reading_says_which_call_failed(void **state) {
        char name[32];

        for (reading = 0; reading < _READ_MAX; reading++) {
                snprintf(name, sizeof(name), "read %u", reading);
                ((Fixture *) *state)->checks_from = reading == READ_CHECK;
                assert_true(sweep(*state, name, read_by_loop) >= 2);
        }
        assert_true(sweep(*state, "worker", read_by_worker) > 10);
}

enum {
        WRITE_NEW,
        WRITE_OVER,
        WRITE_DELETE,
        WRITE_DELETE_BELOW,
        WRITE_DELETE_LONG,
        WRITE_CONFIGURATION,
        WRITE_EVENT,
        WRITE_FORGET,
        WRITE_RESULT,
        WRITE_RESULT_OVER,
        WRITE_DROP_RESULTS,
        WRITE_EMPTY_ENTRY,
        _WRITE_MAX
};

static unsigned writing;

static int write_one(Fixture *fixture, TreeTxn *txn) {
        const KvNode node = { .key = kv_string(writing == WRITE_NEW ? "/new" : "/a"),
                              .created = 1,
                              .modified = 1,
                              .expires_ms = 7000 };

        switch (writing) {
        case WRITE_NEW:
        case WRITE_OVER:
                return tree_put(txn, &node);
        case WRITE_DELETE:
                return tree_delete(txn, kv_string("/a"));
        case WRITE_DELETE_BELOW:
                return tree_delete_below(txn, kv_string("/d"));
        case WRITE_DELETE_LONG:
                return tree_delete_below(txn, kv_string(fixture->long_dir));
        case WRITE_CONFIGURATION:
                return tree_set_configuration(txn, kv_string("new"));
        case WRITE_EVENT:
                return tree_add_event(txn, TREE_WINDOW_USERS, 9, kv_string("event"),
                                      TREE_WINDOW_BYTES); /* all others go */
        case WRITE_FORGET:
                return tree_clear_events(txn, 9);
        case WRITE_RESULT:
                return tree_put_result(txn, 1, 8, kv_string("record"));
        case WRITE_RESULT_OVER:
                return tree_put_result(txn, 1, 1, kv_string("another"));
        case WRITE_DROP_RESULTS:
                return tree_results(txn, 0, drop_result, NULL);
        default:
                return apply_other(txn, 9, 9, NULL);
        }
}

/* A transaction in which a call fails is not committed; the test only checks that the failing call reported
 * it. */
static int write_and_take_back(Fixture *fixture) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r = tree_begin_write(fixture->tree, &txn);

        return r < 0 ? r : write_one(fixture, txn);
}

static void writing_says_which_call_failed(void **state) {
        char name[32];

        for (writing = 0; writing < _WRITE_MAX; writing++) {
                snprintf(name, sizeof(name), "write %u", writing);
                assert_true(sweep(*state, name, write_and_take_back) >= 2);
        }
}

static int copy_tree(Fixture *fixture) {
        _cleanup_free_ char *to = scratch_path(fixture->scratch, "copy");
        Error err = {};
        TreeMeta meta;
        int r;

        r = tree_copy(fixture->tree, to, &meta, &err);
        assert_int_equal(access(to, F_OK), r < 0 ? -1 : 0);
        if (r < 0)
                return r;
        assert_int_equal(meta.index, 10);
        to = strcat(realloc(to, strlen(to) + 20), "/data.mdb");
        assert_int_equal(unlink(to), 0);
        *strrchr(to, '/') = 0;
        assert_int_equal(rmdir(to), 0);
        return 0;
}

static void a_copy_in_which_a_call_fails_leaves_nothing(void **state) {
        ((Fixture *) *state)->checks_from = 2; /* behind LMDB's copying */
        assert_true(sweep(*state, "copy", copy_tree) > 20);
}

/* The errors of LMDB, as callers get them. */
static void each_code_of_the_database_is_an_errno(void **state) {
        static const struct {
                int code, error;
        } table[] = {
                { MDB_NOTFOUND, -ENOENT },
                { MDB_KEYEXIST, -EEXIST },
                { MDB_MAP_FULL, -ENOSPC },
                { MDB_TXN_FULL, -E2BIG },
                { MDB_READERS_FULL, -EBUSY },
                { MDB_PAGE_NOTFOUND, -EUCLEAN },
                { MDB_CORRUPTED, -EUCLEAN },
                { MDB_PANIC, -EUCLEAN },
                { MDB_VERSION_MISMATCH, -EUCLEAN },
                { MDB_INVALID, -EUCLEAN },
                { MDB_INCOMPATIBLE, -EUCLEAN },
                { MDB_CURSOR_FULL, -EIO },
                { ENOSPC, -ENOSPC },
                { ENOMEM, -ENOMEM },
                { 1, -1 },
        };
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        Fixture *fixture = *state;
        uint64_t size;

        assert_int_equal(tree_begin_read(fixture->tree, &txn), 0);
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                failing_call(1, table[i].code);
                assert_int_equal(tree_used_size(txn, &size), table[i].error);
        }
        failing_calls_end();
        assert_int_equal(tree_used_size(txn, &size), 0);
}

/* -- The state machine -- */

static void ignore_event(void *userdata, const KvEvent *event) {}

static int apply_one_command(Fixture *fixture) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_arena_ Arena arena = {};
        TreeMeta meta;
        KvResult result;
        int r;

        r = tree_begin_write(fixture->tree, &txn);
        if (r < 0)
                return r;
        assert_int_equal(tree_meta(txn, &meta), 0);
        meta.level = fixture->level;
        r = sink_apply_command(txn, &meta, fixture->cmd, 1, &arena, &(ApplySink) { .on_event = ignore_event },
                               &result);
        if (r == 0 && result.status != fixture->status)
                fail_msg("'%s' is not '%s'", kv_status_name(result.status), kv_status_name(fixture->status));
        return r;
}

static void commands_say_which_call_failed(void **state) {
        Fixture *fixture = *state;
        KvCommand writes[] = {
                SET("/n/m", "v"),
                COMMAND(KV_DELETE, "/d", .recursive = true),
        };
        KvCheck checks[] = {
                { .kind = KV_CHECK_EXISTS, .key = kv_string("/a") },
                { .kind = KV_CHECK_ABSENT, .key = kv_string("/b") },
        };
        const struct {
                KvCommand cmd;
                KvStatus status;
        } table[] = {
                { COMMAND(KV_SET, "/x/y/z", TTL(5)), KV_OK },
                { SET("/a", "w"), KV_OK },
                { COMMAND(KV_SET, "/a", .refresh = true), KV_OK },
                { COMMAND(KV_SET, "/a/b"), KV_NOT_DIR },
                { COMMAND(KV_SET, "/d"), KV_NOT_FILE },
                { COMMAND(KV_SET, "/x/y", .refresh = true), KV_NOT_FOUND },
                { COMMAND(KV_SET, fixture->new_long_key), KV_OK },
                { COMMAND(KV_SET, "/a", .prev_index = 1), KV_OK },
                { COMMAND(KV_SET, "/a", .prev_index = 2), KV_COMPARE_FAILED },
                { COMMAND(KV_CREATE, "/x/y"), KV_OK },
                { COMMAND(KV_CREATE, "/a"), KV_EXISTS },
                { COMMAND(KV_UPDATE, "/a", .value = kv_string("w")), KV_OK },
                { COMMAND(KV_UPDATE, "/d", TTL(5)), KV_OK },
                { COMMAND(KV_UPDATE, "/a", IF_VALUE("v")), KV_OK },
                { COMMAND(KV_UPDATE, "/x/y"), KV_NOT_FOUND },
                { COMMAND(KV_POST, "/d"), KV_OK },
                { COMMAND(KV_DELETE, "/a"), KV_OK },
                { COMMAND(KV_DELETE, "/a", .prev_index = 1), KV_OK },
                { COMMAND(KV_DELETE, "/empty", .dir = true), KV_OK },
                { COMMAND(KV_DELETE, "/d", .dir = true), KV_DIR_NOT_EMPTY },
                { COMMAND(KV_DELETE, "/d", .recursive = true), KV_OK },
                { { .op = KV_EXPIRE, .internal = true, .limit = 100 }, KV_OK },
                { { .op = KV_TXN, .writes = writes, .n_writes = 2, .checks = checks, .n_checks = 2 }, KV_OK },
                { { .op = KV_TXN, .writes = writes, .n_writes = 1, .checks = checks, .n_checks = 2 }, KV_OK },
        };
        char name[32];

        for (size_t i = 0; i < 2 * ELEMENTS(table); i++) {
                fixture->cmd = &table[i / 2].cmd;
                fixture->status = table[i / 2].status;
                fixture->level = i % 2 ? KV_LEVEL_COST : KV_LEVEL_FIRST;
                snprintf(name, sizeof(name), "command %zu, level %u", i / 2, fixture->level);
                assert_true(sweep(fixture, name, apply_one_command) >= 3);
        }
}

/* A row that repeats another one, and one that is new. */
static void rows_say_which_call_failed(void **state) {
        Fixture *fixture = *state;
        const KvCommand same = COMMAND(KV_SET, "/a", .internal = true, .note = { 2000, kv_string("same") }),
                        other = COMMAND(KV_SET, "/a", .internal = true, .note = { 2000, kv_string("other") });

        fixture->level = KV_LEVEL_HISTORY;
        fixture->status = KV_OK;
        fixture->cmd = &same;
        assert_true(sweep(fixture, "a row that is repeated", apply_one_command) >= 8);
        fixture->cmd = &other;
        assert_true(sweep(fixture, "a row", apply_one_command) >= 5);
}

static int estimate_one_command(Fixture *fixture) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        Counted known = { .now_ms = 1 };
        Estimated estimated;
        int r = tree_begin_read(fixture->tree, &txn);

        return r < 0 ? r : cost_estimate(txn, NULL, &known, fixture->cmd, &fixture->limits, &estimated);
}

static void estimates_say_which_call_failed(void **state) {
        static const KvCommand commands[] = {
                { .op = KV_SET, .key = { "/x/y/z", 6 } },
                { .op = KV_SET, .key = { "/a", 2 } },
                { .op = KV_POST, .key = { "/d", 2 } },
                { .op = KV_DELETE, .key = { "/d", 2 }, .recursive = true },
                { .op = KV_DELETE, .key = { "/due", 4 }, .recursive = true },
                { .op = KV_DELETE, .key = { "/empty", 6 }, .dir = true },
        };
        Fixture *fixture = *state;
        char name[32];

        for (size_t i = 0; i < 2 * ELEMENTS(commands); i++) {
                fixture->cmd = &commands[i / 2];
                fixture->limits = (EstimateLimits) { .cost = i % 2 ? 1 : UINT64_MAX, .counted = UINT64_MAX };
                snprintf(name, sizeof(name), "estimate %zu", i);
                assert_true(sweep(fixture, name, estimate_one_command) >= 2);
        }
}

static int apply_entry(Fixture *fixture) {
        _cleanup_writer_ Writer batch = {};
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvBatch b;
        int r;

        kv_batch_begin(&b, &batch, &(KvBatchHead) { .cluster_ms = 6000, .level = 1 });
        for (unsigned i = 0; i < 2; i++) {
                KvCommand cmd = SET(i == 0 ? "/a" : "/b", "1");
                _cleanup_writer_ Writer command = {};

                assert_int_equal(kv_command_encode(&cmd, KV_LEVEL_MAX, &command), 0);
                kv_batch_add(&b, &batch,
                             &(KvBatchItem) { .origin = 9,
                                              .number = i + 1,
                                              .acknowledged = 1,
                                              .deadline_ms = 100000,
                                              .command = command.bytes,
                                              .command_size = command.size });
        }
        r = tree_begin_write(fixture->tree, &txn);
        if (r == 0)
                r = tree_results(txn, 0, drop_result, NULL); /* these are no answers */
        return r < 0 ? r : apply_batch(txn, 11, 1, batch.bytes, batch.size, NULL);
}

static void entries_say_which_call_failed(void **state) {
        assert_true(sweep(*state, "entry", apply_entry) > 8);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
                TEST(opening_says_which_call_failed),
                TEST(transactions_say_which_call_failed),
                TEST(reading_says_which_call_failed),
                TEST(writing_says_which_call_failed),
                TEST(a_copy_in_which_a_call_fails_leaves_nothing),
                TEST(each_code_of_the_database_is_an_errno),
                TEST(commands_say_which_call_failed),
                TEST(rows_say_which_call_failed),
                TEST(estimates_say_which_call_failed),
                TEST(entries_say_which_call_failed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
