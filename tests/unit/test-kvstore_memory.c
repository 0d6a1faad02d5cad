/* Tree, state machine and hub with the first, second, third ... allocation failing: each says so, gives back
 * what it holds, and can be asked again. */

#include "tests/lib/test.h"
#include "kvstore/apply/events.h"
#include "kvstore/hub.h"
#include "kvstore/apply/dedup.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/alloc.h"
#include "tests/lib/commands.h"
#include "tests/lib/scratch.h"

static uint64_t test_now_ms(const Loop *loop) {
        return 1;
}

static void test_wake_at(Loop *loop, uint64_t due_ms) {}

static const LoopOps test_ops = { .now_ms = test_now_ms, .wall_ms = test_now_ms, .wake_at = test_wake_at };

static KvCheck checks[] = { { .kind = KV_CHECK_ABSENT, .key = { "/x", 2 } } };
static KvCommand writes[] = {
        { .op = KV_SET, .key = { "/a", 2 }, .value = { "2", 1 } },
        { .op = KV_DELETE, .key = { "/d", 2 }, .recursive = true },
        { .op = KV_CREATE, .key = { "/e/f", 4 } },
};
static const KvCommand txn_command = {
        .op = KV_TXN, .checks = checks, .n_checks = 1, .writes = writes, .n_writes = 3
};

static void a_command_is_decoded_or_not_at_all(void **state) {
        _cleanup_writer_ Writer bytes = {};
        unsigned n = 0;
        int r;

        assert_int_equal(kv_command_encode(&txn_command, KV_LEVEL_MAX, &bytes), 0);
        do {
                _cleanup_free_ void *arena = NULL;
                KvCommand cmd;

                alloc_fail_at(++n);
                r = kv_command_decode(bytes.bytes, bytes.size, &cmd, &arena);
                assert_int_equal(r, alloc_has_failed() ? -ENOMEM : 0);
        } while (r < 0);
        alloc_fail_at(0);
        assert_in_range(n, 3, 10);
}

static void ignore_event(void *userdata, const KvEvent *event) {}

static int prepare_and_apply(Tree *tree, bool *ret_failed) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_arena_ Arena arena = {};
        TreeMeta meta = { .level = KV_LEVEL_HISTORY };
        KvCommand noted = SET("/d/x", "v", .internal = true, .note = { 1000, kv_string("row") });
        KvResult result;
        int r;

        r = tree_begin_write(tree, &txn);
        for (unsigned i = 0; r == 0 && i < 2; i++) /* the second one repeats the row */
                r = apply_command(txn, &meta, &noted, 1, &arena, NULL, &result);
        if (r == 0)
                r = sink_apply_command(txn, &meta, &txn_command, 1, &arena,
                                       &(ApplySink) { .on_event = ignore_event }, &result);
        if (r == 0) {
                assert_int_equal(result.status, KV_OK);
                assert_int_equal(meta.index, 5);
                r = tree_check(txn, NULL);
        }
        *ret_failed = alloc_has_failed();
        return r;
}

static void a_tree_is_opened_and_written_or_says_that_memory_is_short(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *path = scratch_path(scratch, "tree");
        Tree *tree = NULL;
        unsigned n = 0;
        bool failed;
        int r;

        do {
                alloc_fail_at(++n);
                r = tree_open(path, &(TreeOptions) {}, &tree, NULL);
                assert_int_equal(r, alloc_has_failed() ? -ENOMEM : 0);
        } while (r < 0);
        assert_true(n > 2);

        n = 0;
        do {
                alloc_fail_at(++n);
                r = prepare_and_apply(tree, &failed);
                assert_int_equal(r, failed ? -ENOMEM : 0);
        } while (failed);
        alloc_fail_at(0);
        assert_true(n > 5);
        tree_close(tree);
        scratch_free(scratch);
}

typedef struct Outcome {
        unsigned events, cleared;
} Outcome;

static void on_event(void *userdata, KvWatchEvent *event) {
        ((Outcome *) userdata)->events++;
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        ((Outcome *) userdata)->cleared++;
}

/* Return true when nothing failed: the watch got the event. Otherwise it was never opened, or got an error
 * that events were lost. */
static bool watch_once(Loop *loop) {
        static const KvWatchOps events = { .on_event = on_event, .on_cleared = on_cleared };
        KvWatchOptions options = { .key = kv_string("/a/b"), .recursive = true };
        KvEvent event = { .action = KV_ACTION_SET, .index = 1, .node = { .key = kv_string("/a/b/c") } };
        Outcome outcome = {};
        uint64_t oldest;
        KvWatch *watch;
        Hub *hub;

        if (hub_new(&hub, loop, 10, 0) < 0)
                return false;
        if (hub_watch(hub, &options, &events, &outcome, &watch, &oldest) == 0) {
                hub_publish(hub, &event);
                while (loop_run_due(loop, 100))
                        ;
                assert_int_equal(outcome.events + outcome.cleared, 1);
                if (!outcome.cleared)
                        kv_watch_close(watch);
        }
        hub_free(hub);
        return outcome.events == 1;
}

static void a_watch_gets_each_event_or_an_error_that_events_were_lost(void **state) {
        unsigned n = 0;
        bool succeeded;
        Loop loop;

        loop_init(&loop, &test_ops, 1);
        do {
                alloc_fail_at(++n);
                succeeded = watch_once(&loop);
                assert_true(succeeded != alloc_has_failed());
        } while (!succeeded);
        alloc_fail_at(0);
        assert_in_range(n, 8, 30);
        loop_done(&loop);
}

/* The answers of one entry, which make one record: a record that lacks some would let a command take effect
 * twice. */
static int store_answers(Tree *tree, unsigned fail_at, bool *ret_failed) {
        enum { N = 40 };
        const KvCommand cmd = { .op = KV_SET, .key = { "/a", 2 }, .value = { "1", 1 } };
        static char old[2000];
        const KvResult said = {
                .status = KV_OK,
                .action = KV_ACTION_SET,
                .index = 7,
                .has_node = true,
                .has_prev = true,
                .node = { .key = cmd.key, .value = cmd.value, .created = 7, .modified = 7 },
                .prev = { .key = cmd.key, .value = { old, sizeof(old) }, .created = 6, .modified = 6 }
        };
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_(dedup_done) Dedup results = {};
        CachedResult kept;
        int r;

        assert_int_equal(tree_begin_write(tree, &txn), 0);
        results = (Dedup) { .txn = txn, .entry = 1, .term = 1, .cluster_ms = 1000 };
        for (uint64_t number = 1; number <= N; number++) {
                KvBatchItem item = { .origin = 5, .number = number, .acknowledged = 1, .deadline_ms = 5000 };

                assert_int_equal(dedup_judge(&results, &item, &kept), DEDUP_FRESH);
                assert_int_equal(dedup_keep(&results, &item, &cmd, &said), 0);
        }
        alloc_fail_at(fail_at);
        r = dedup_store(&results);
        *ret_failed = alloc_has_failed();
        alloc_fail_at(0);
        return r;
}

static void the_answers_of_an_entry_are_stored_whole_or_not_at_all(void **state) {
        char *scratch = scratch_new();
        _cleanup_free_ char *path = scratch_path(scratch, "tree");
        unsigned n = 0;
        bool failed;
        Tree *tree;

        assert_int_equal(tree_open(path, &(TreeOptions) {}, &tree, NULL), 0);
        do {
                int r = store_answers(tree, ++n, &failed);

                assert_int_equal(r, failed ? -ENOMEM : 0);
        } while (failed);
        assert_in_range(n, 2, 100);
        tree_close(tree);
        scratch_free(scratch);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_command_is_decoded_or_not_at_all),
                cmocka_unit_test(a_tree_is_opened_and_written_or_says_that_memory_is_short),
                cmocka_unit_test(the_answers_of_an_entry_are_stored_whole_or_not_at_all),
                cmocka_unit_test(a_watch_gets_each_event_or_an_error_that_events_were_lost),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
