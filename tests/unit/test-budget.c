/* What commands cost, to the unit: as estimated before the log, and as charged by apply, which all replicas
 * have to agree on; and the limits and times of the leader's budget, at both edges. */

#include "tests/lib/test.h"
#include "kvstore/apply/apply.h"
#include "kvstore/budget.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/commands.h"
#include "tests/lib/scratch.h"

enum { NOW_MS = 5000 };

static char *scratch;
static Tree *tree;
static TreeTxn *txn; /* a write transaction, open */
static uint64_t entry;

static Cost apply(KvCommand cmd) {
        _cleanup_writer_ Writer w = {}, bytes = {};
        Cost cost = {};
        KvBatch batch;

        entry++;
        cmd.internal = true;
        assert_int_equal(kv_command_encode(&cmd, KV_LEVEL_MAX, &bytes), 0);
        kv_batch_begin(
                &batch, &w,
                &(KvBatchHead) { .cluster_ms = NOW_MS, .level = entry > 1 ? KV_LEVEL_COST : KV_LEVEL_FIRST });
        kv_batch_add(&batch, &w,
                     &(KvBatchItem) { .origin = 1,
                                      .number = entry,
                                      .acknowledged = entry,
                                      .command = bytes.bytes,
                                      .command_size = bytes.size });
        assert_int_equal(sink_apply_batch(txn, entry, 1, w.bytes, w.size, &(ApplySink) { .cost = &cost }), 0);
        return cost;
}

static KvCommand set(const char *key, const char *value) {
        return SET(key, value);
}

/* "/a" = "12345", "/t" = "12" which expires, "/d" with "x" = "123", "y" which expires, "s" with "z". */
static int setup(void **state) {
        _cleanup_free_ char *path = NULL;
        KvCommand t = set("/t", "12"), y = set("/d/y", "");

        scratch = scratch_new();
        path = scratch_path(scratch, "tree");
        assert_int_equal(tree_open(path, &(TreeOptions) {}, &tree, NULL), 0);
        assert_int_equal(tree_begin_write(tree, &txn), 0);
        entry = 0;
        t.has_ttl = y.has_ttl = true;
        t.ttl_ms = y.ttl_ms = 1000000;
        (void) apply((KvCommand) { .op = KV_RAISE, .limit = KV_LEVEL_COST });
        (void) apply(set("/a", "12345"));
        (void) apply(t);
        (void) apply(set("/d/x", "123"));
        (void) apply(y);
        (void) apply(set("/d/s/z", ""));
        return 0;
}

static int teardown(void **state) {
        tree_abort(txn);
        tree_close(tree);
        scratch_free(scratch);
        return 0;
}

/* -- Costs -- */

#define KEY(k)   .key = { k, sizeof(k) - 1 }
#define VALUE(v) .value = { v, sizeof(v) - 1 }

static KvCheck checks[] = { { .kind = KV_CHECK_VALUE, KEY("/a"), VALUE("12345") },
                            { .kind = KV_CHECK_ABSENT, KEY("/none") } };
static KvCommand one[] = { { .op = KV_SET, KEY("/a"), VALUE("1") } };
static KvCommand two[] = { { .op = KV_SET, KEY("/n/m"), VALUE("1") },
                           { .op = KV_SET, KEY("/n/o"), VALUE("22") } };
static KvCommand again[] = { { .op = KV_SET, KEY("/a"), VALUE("1234567") },
                             { .op = KV_SET, KEY("/a"), VALUE("1") } };
static KvCommand expires[] = { { .op = KV_SET, KEY("/a"), VALUE("1"), TTL(5) },
                               { .op = KV_SET, KEY("/t"), VALUE("1") } };
static KvCommand sweeps[] = { { .op = KV_DELETE, KEY("/d"), .recursive = true },
                              { .op = KV_SET, KEY("/d/x"), VALUE("1") } };
static KvCommand made[] = { { .op = KV_SET, KEY("/n/m"), VALUE("1") },
                            { .op = KV_DELETE, KEY("/n"), .recursive = true } };

static const struct {
        KvCommand cmd;
        Cost estimated, charged;
} costs[] = {
        { { .op = KV_SET, KEY("/n"), VALUE("1") }, { 15, 4, 7695 }, { 15, 4, 7695 } },
        { { .op = KV_SET, KEY("/a"), VALUE("1") }, { 44, 3, 7212 }, { 44, 3, 7212 } },
        { { .op = KV_SET, KEY("/t"), VALUE("123"), TTL(9) }, { 34, 3, 10786 }, { 34, 3, 10786 } },
        { { .op = KV_SET, KEY("/n/m/o"), VALUE("1") }, { 56, 8, 15928 }, { 53, 8, 15925 } },
        { { .op = KV_SET, KEY("/a"), .refresh = true, TTL(9) }, { 30, 3, 8990 }, { 30, 3, 8990 } },
        { { .op = KV_SET, KEY("/a"), VALUE("1"), .has_prev_value = true, .prev_value = { "12345", 5 } },
          { 44, 3, 7212 },
          { 44, 3, 7212 } },
        { { .op = KV_SET, KEY("/a"), VALUE("1"), .has_prev_value = true, .prev_value = { "other", 5 } },
          { 44, 3, 7212 },
          { 42, 2, 2602 } },
        { { .op = KV_CREATE, KEY("/a"), VALUE("1") }, { 44, 3, 7212 }, { 2, 2, 2562 } },
        { { .op = KV_CREATE, KEY("/d/n"), VALUE("1") }, { 26, 4, 7706 }, { 26, 4, 7706 } },
        { { .op = KV_UPDATE, KEY("/n/m"), VALUE("1") }, { 28, 5, 8220 }, { 7, 4, 3591 } },
        { { .op = KV_UPDATE, KEY("/d"), .dir = true }, { 10, 3, 7178 }, { 10, 3, 7178 } },
        { { .op = KV_POST, KEY("/d"), VALUE("1") }, { 121, 4, 7801 }, { 121, 4, 7801 } },
        { { .op = KV_POST, KEY("/"), VALUE("1") }, { 110, 4, 7790 }, { 110, 4, 7790 } },
        { { .op = KV_DELETE, KEY("/a") }, { 40, 3, 7208 }, { 40, 3, 7208 } },
        { { .op = KV_DELETE, KEY("/t"), .has_prev_value = true, .prev_value = { "12", 2 } },
          { 38, 3, 8998 },
          { 22, 3, 8982 } },
        { { .op = KV_DELETE, KEY("/n/m") }, { 24, 5, 8216 }, { 7, 4, 3591 } },
        { { .op = KV_DELETE, KEY("/d"), .dir = true }, { 10, 4, 7306 }, { 2, 3, 2690 } },
        { { .op = KV_DELETE, KEY("/d"), .recursive = true }, { 31, 11, 10527 }, { 31, 11, 10527 } },
        { { .op = KV_RAISE, .limit = KV_LEVEL_COST }, { 0, 1, 2048 }, { 0, 1, 2048 } },
        { { .op = KV_EXPIRE, .limit = 10 }, { 8388608, 1, 8390656 }, { 0, 1, 2048 } },
        { { .op = KV_TXN, .checks = checks, .n_checks = 2, .writes = one, .n_writes = 1 },
          { 77, 5, 8269 },
          { 56, 5, 8248 } },
        { { .op = KV_TXN, .checks = checks, .n_checks = 2 }, { 33, 3, 3105 }, { 12, 3, 3084 } },
        { { .op = KV_TXN, .writes = two, .n_writes = 2 }, { 62, 10, 33854 }, { 61, 10, 33853 } },
        { { .op = KV_TXN, .writes = again, .n_writes = 2 }, { 124, 6, 28796 }, { 124, 6, 28796 } },
        { { .op = KV_TXN, .writes = expires, .n_writes = 2 }, { 70, 6, 32326 }, { 70, 6, 32326 } },
        { { .op = KV_TXN, .writes = sweeps, .n_writes = 2 }, { 88, 22, 37592 }, { 62, 17, 36670 } },
        { { .op = KV_TXN, .writes = made, .n_writes = 2 }, { 50, 15, 34738 }, { 46, 11, 33710 } },
};

static void each_command_costs_exactly_this(void **state) {
        for (size_t i = 0; i < ELEMENTS(costs); i++) {
                EstimateLimits limits = { .cost = UINT64_MAX / 2, .counted = UINT64_MAX / 2 };
                Estimated e;
                Cost charged;

                assert_int_equal(setup(NULL), 0);
                assert_int_equal(cost_estimate(txn, NULL, NULL, &costs[i].cmd, &limits, &e), 0);
                charged = apply(costs[i].cmd);
                assert_int_equal(e.cost.bytes, costs[i].estimated.bytes);
                assert_int_equal(e.cost.nodes, costs[i].estimated.nodes);
                assert_int_equal(e.cost.total, costs[i].estimated.total);
                assert_int_equal(charged.bytes, costs[i].charged.bytes);
                assert_int_equal(charged.nodes, costs[i].charged.nodes);
                assert_int_equal(charged.total, costs[i].charged.total);
                (void) teardown(NULL);
        }
}

/* -- Values on their way -- */

static void a_value_that_is_on_its_way_counts_for_two_seconds(void **state) {
        static char large[VALUES_SIZE_MIN], small[VALUES_SIZE_MIN - 1];
        static const uint64_t after[][2] = {
                { 0, true }, { 999, true }, { 1000, true }, { 1999, true }, { 2000, false }
        };
        KvCommand refresh = { .op = KV_SET, KEY("/a"), .refresh = true };
        KvCommand values[] = { { .op = KV_SET, KEY("/a"), .value = { large, sizeof(large) } },
                               { .op = KV_SET, KEY("/a"), .value = { small, sizeof(small) } } };
        KvCommand in_txn = { .op = KV_TXN, .writes = values, .n_writes = 1 },
                  small_in_txn = { .op = KV_TXN, .writes = values + 1, .n_writes = 1 };
        KvCommand post = values[0];
        const struct {
                const KvCommand *cmd;
                bool counts;
        } taken[] = { { &values[0], true },
                      { &values[1], false },
                      { &in_txn, true },
                      { &small_in_txn, false },
                      { &post, false } };
        uint64_t cost, plain;
        KvStatus status = KV_OK;
        Error err = {};

        post.op = KV_POST;
        for (size_t i = 0; i < ELEMENTS(taken); i++)
                for (size_t k = 0; k < ELEMENTS(after); k++) {
                        Budget b = {};

                        assert_int_equal(budget_check(&b, txn, 10000, &refresh, &plain, &status, &err), 0);
                        budget_take(&b, taken[i].cmd, COST_COMMAND);
                        assert_int_equal(
                                budget_check(&b, txn, 10000 + after[k][0], &refresh, &cost, &status, &err),
                                0);
                        /* A refresh moves the value that it leaves there four times: kept, stored and told.
                         */
                        assert_int_equal(cost - plain,
                                         taken[i].counts && after[k][1] ? 4 * (VALUES_SIZE_MIN - 5) : 0);
                        assert_int_equal(b.waiting, 0);
                        budget_done(&b);
                        assert_null(b.in_flight[0]);
                        assert_null(b.in_flight[1]);
                }
}

static void of_two_values_on_their_way_the_larger_one_counts(void **state) {
        static char large[4096];
        KvCommand cmd = { .op = KV_SET, KEY("/a") }, refresh = { .op = KV_SET, KEY("/a"), .refresh = true };
        uint64_t cost[3];
        KvStatus status = KV_OK;
        Error err = {};

        for (unsigned order = 0; order < 3; order++) { /* the larger one first, later, alone */
                _cleanup_(budget_done) Budget b = {};

                assert_int_equal(budget_check(&b, txn, 1000, &refresh, &cost[order], &status, &err), 0);
                for (unsigned i = 0; i < 2; i++) {
                        cmd.value = (KvBytes) { large, order == 2 || i == order ? 4096 : 2048 };
                        budget_take(&b, &cmd, COST_COMMAND);
                        assert_int_equal(
                                budget_check(&b, txn, 2000 + i, &refresh, &cost[order], &status, &err), 0);
                }
        }
        assert_int_equal(cost[0], cost[2]);
        assert_int_equal(cost[1], cost[2]);
}

/* -- Shares -- */

static void heavy_commands_have_an_eighth_of_the_time(void **state) {
        Budget b = {};
        uint64_t wait_ms;

        assert_false(budget_is_heavy(COST_HEAVY));
        assert_true(budget_is_heavy(COST_HEAVY + 1));
        assert_true(budget_allows(&b, 1000, &wait_ms));
        assert_int_equal(wait_ms, 0);
        budget_spend(&b, 1000, 7, COST_ENTRY_MAX); /* 20 ms of work: 160 ms */
        assert_false(budget_allows(&b, 1000, &wait_ms));
        assert_int_equal(wait_ms, 160);
        budget_applied(&b, 6);
        assert_false(budget_allows(&b, 1160, &wait_ms));
        assert_int_equal(wait_ms, 0); /* for the entry, not for time */
        budget_applied(&b, 7);
        assert_false(budget_allows(&b, 1159, &wait_ms));
        assert_int_equal(wait_ms, 1);
        assert_true(budget_allows(&b, 1160, &wait_ms));
        budget_spend(&b, 1100, 8, COST_ENTRY_MAX / 2); /* behind what was spent before */
        assert_int_equal(b.free_us, 1240000);
        budget_spend(
                &b, 2000, 9,
                COST_HEAVY /
                        1024); /* a time that is over is not saved; not a whole millisecond counts as one */
        assert_int_equal(b.free_us, 2000009);
        (void) budget_allows(&b, 2000, &wait_ms);
        assert_int_equal(wait_ms, 1);
        b.waiting = 5;
        budget_term_changed(&b);
        assert_int_equal(b.waiting, 0);
        assert_int_equal(b.heavy_index, 0);
}

static void what_is_heavy_waits_and_what_would_wait_for_too_long_is_refused(void **state) {
        static char large[200 * 1024];
        KvCommand light = set("/t", "1"),
                  heavy = { .op = KV_SET, KEY("/a"), .value = { large, sizeof(large) } };
        KvStatus status = KV_OK;
        uint64_t cost;
        Error err = {};
        _cleanup_(budget_done) Budget b = {};

        (void) apply(heavy);
        assert_int_equal(budget_check(&b, txn, 1000, &heavy, &cost, &status, &err), 0);
        assert_true(budget_is_heavy(cost));
        budget_take(&b, &light, cost);
        assert_int_equal(b.waiting, cost);
        budget_take(&b, &light, COST_HEAVY);
        heavy.internal = true;
        budget_take(&b, &heavy, cost);
        heavy.internal = false;
        assert_int_equal(b.waiting, cost);

        /* A second, to the microsecond. */
        b.waiting = 0;
        b.free_us = 700000; /* over */
        assert_int_equal(budget_check(&b, txn, 1000, &heavy, &cost, &status, &err), 0);
        b.free_us = 2000000;
        assert_int_equal(budget_check(&b, txn, 1000, &heavy, &cost, &status, &err), 0);
        b.free_us++;
        assert_int_equal(budget_check(&b, txn, 1000, &heavy, &cost, &status, &err), -EBUSY);
        assert_int_equal(status, KV_BUSY);
        assert_string_equal(err.message, BUDGET_BUSY);
        assert_int_equal(cost, COST_COMMAND_MAX);
        status = KV_OK;
        assert_int_equal(budget_check(&b, txn, 1000, &light, &cost, &status, &err), 0);
        heavy.internal = true;
        assert_int_equal(budget_check(&b, txn, 1000, &heavy, &cost, &status, &err), 0);
        heavy.internal = false;
        b.free_us = 0;
        b.waiting = 6 * COST_ENTRY_MAX + COST_ENTRY_MAX / 4; /* 160 ms each */
        assert_int_equal(budget_check(&b, txn, 1000, &heavy, &cost, &status, &err), 0);
        b.waiting += COST_ENTRY_MAX / 1000;
        assert_int_equal(budget_check(&b, txn, 1000, &heavy, &cost, &status, &err), -EBUSY);
}

/* What may be counted, by what was counted before: all; as much as a light command needs; next to nothing. */
static void counts_have_their_own_shares(void **state) {
        KvCommand sweep = { .op = KV_DELETE, KEY("/d"), .recursive = true };
        static const struct {
                uint64_t counted_us, light_us;
                bool internal, light; /* whose share is used */
        } cases[] = {
                { 1000 * 1000 + 16000, 0, false, false },
                { 1000 * 1000 + 16001, 0, false, true },
                { 1000 * 1000 + 16001, 0, true, false },
                { 1000 * 1000 + 16001, 1000 * 1000 + 16000, false, true },
                { 1000 * 1000 + 16001, 1000 * 1000 + 16001, false, true },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_(budget_done)
                        Budget b = { .counted_us = cases[i].counted_us, .light_us = cases[i].light_us };
                uint64_t cost, spent = 4 * COST_PASS * 160000ull / COST_ENTRY_MAX; /* of an eighth */
                KvStatus status = KV_OK;
                Error err = {};

                sweep.internal = cases[i].internal;
                assert_int_equal(budget_check(&b, txn, 1000, &sweep, &cost, &status, &err), 0);
                assert_int_equal(b.counted_us, cases[i].counted_us + (cases[i].light ? 0 : spent));
                assert_int_equal(b.light_us, cases[i].light ? MAX(cases[i].light_us, 1000000u) + spent :
                                                              cases[i].light_us);
                assert_int_equal(b.counted.now_ms, 1000);
        }
}

/* "/w" with so many nodes. */
static void lay_wide(unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                char key[16];

                snprintf(key, sizeof(key), "/w/%u", i);
                (void) apply(set(key, ""));
        }
}

static void a_count_without_a_share_ends_at_its_least(void **state) {
        KvCommand sweep = { .op = KV_DELETE, KEY("/w"), .recursive = true };
        uint64_t cost;
        Error err = {};

        lay_wide(32);
        for (unsigned more = 0; more < 2; more++) {
                Budget none = { .counted_us = UINT64_MAX / 2, .light_us = UINT64_MAX / 2 };
                KvStatus status = KV_OK;

                assert_int_equal(budget_check(&none, txn, 1000, &sweep, &cost, &status, &err),
                                 more ? -EBUSY : 0);
                assert_int_equal(status, more ? KV_BUSY : KV_OK);
                (void) apply(set("/w/more", ""));
        }
        for (unsigned over = 0; over < 2; over++) { /* 16 ms ahead, and a microsecond more */
                Budget light = { .counted_us = UINT64_MAX / 2, .light_us = 1016000 + over };
                KvStatus status = KV_OK;

                assert_int_equal(budget_check(&light, txn, 1000, &sweep, &cost, &status, &err),
                                 over ? -EBUSY : 0);
        }
}

/* What is on its way may be refused yet: then a command that is too large by it alone is not. */
static void too_large_is_what_the_tree_makes_so(void **state) {
        static char large[KV_VALUE_MAX];
        KvCommand value = { .op = KV_SET, KEY("/a"), .value = { large, sizeof(large) } }, many[40];
        KvCommand cmd = { .op = KV_TXN, .writes = many, .n_writes = ELEMENTS(many) };
        Budget b = {};
        KvStatus status = KV_OK;
        uint64_t cost;
        Error err = {};

        for (size_t i = 0; i < ELEMENTS(many); i++)
                many[i] = (KvCommand) { .op = KV_SET, KEY("/a"), .refresh = true };
        assert_int_equal(budget_check(&b, txn, 1000, &cmd, &cost, &status, &err), 0);
        budget_take(&b, &value, COST_COMMAND);
        assert_int_equal(budget_check(&b, txn, 1000, &cmd, &cost, &status, &err), -EBUSY);
        assert_int_equal(status, KV_BUSY);
        status = KV_OK;
        cmd.internal = true;
        assert_int_equal(budget_check(&b, txn, 1000, &cmd, &cost, &status, &err), 0);
        assert_int_equal(status, KV_OK);
        assert_int_equal(cost, COST_COMMAND_MAX);
        budget_done(&b);
        (void) apply(value);
        for (unsigned internal = 0; internal < 2; internal++) {
                status = KV_OK;
                cmd.internal = internal;
                assert_int_equal(budget_check(&b, txn, 1000, &cmd, &cost, &status, &err), -E2BIG);
                assert_int_equal(status, KV_TOO_LARGE);
                assert_non_null(strstr(err.message, "at most 16384 KiB are allowed: do it in parts"));
        }
        budget_done(&b);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define IN_FIXTURE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                cmocka_unit_test(each_command_costs_exactly_this),
                IN_FIXTURE(a_value_that_is_on_its_way_counts_for_two_seconds),
                IN_FIXTURE(of_two_values_on_their_way_the_larger_one_counts),
                cmocka_unit_test(heavy_commands_have_an_eighth_of_the_time),
                IN_FIXTURE(what_is_heavy_waits_and_what_would_wait_for_too_long_is_refused),
                IN_FIXTURE(counts_have_their_own_shares),
                IN_FIXTURE(a_count_without_a_share_ends_at_its_least),
                IN_FIXTURE(too_large_is_what_the_tree_makes_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
