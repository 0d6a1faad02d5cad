/* What commands cost, and what apply does with those that cost too much. */

#include "tests/lib/test.h"
#include "base/clock.h"
#include "kvstore/apply/apply.h"
#include "kvstore/budget.h"
#include "kvstore/apply/events.h"
#include "kvstore/apply/dedup.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/commands.h"
#include "tests/lib/scratch.h"

enum { ORIGIN = 7, LARGE = KV_VALUE_MAX, LATE_MS = 10000 };

static char large[LARGE];

/* A tree, entries applied to it, and the results of the last one. */
typedef struct Fixture {
        char *scratch;
        Tree *tree;
        TreeTxn *txn;
        uint64_t entry, number, now_ms;
        unsigned level;
        Cost cost; /* of the last entry */
        size_t n_answers, n_events;
        KvStatus status[1000]; /* of its commands, in order */
        KvResult *last;        /* a copy of the last answer */
        size_t moved;          /* bytes of its events and answers, as they are encoded */
        size_t values;         /* bytes of values in its events */
} Fixture;

static Fixture *fixture_new(unsigned level) {
        _cleanup_free_ char *path = NULL;
        Fixture *f = NEW0(Fixture, 1);
        TreeMeta meta;

        memset(large, 'x', sizeof(large));
        f->scratch = scratch_new();
        path = scratch_path(f->scratch, "tree");
        f->now_ms = 1000;
        f->level = level;
        assert_int_equal(tree_open(path, &(TreeOptions) {}, &f->tree, NULL), 0);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        meta.level = level;
        meta.quota = 1ull << 40;
        assert_int_equal(tree_set_meta(f->txn, &meta), 0);
        return f;
}

static void fixture_free(Fixture *f) {
        assert_int_equal(tree_check(f->txn, NULL), 0);
        tree_abort(f->txn);
        tree_close(f->tree);
        scratch_free(f->scratch);
        free(f->last);
        free(f);
}

static int setup(void **state) {
        *state = fixture_new(KV_LEVEL_COST);
        return 0;
}

static int setup_below(void **state) {
        *state = fixture_new(KV_LEVEL_COST - 1);
        return 0;
}

static int setup_history(void **state) {
        *state = fixture_new(KV_LEVEL_HISTORY);
        return 0;
}

static int teardown(void **state) {
        fixture_free(*state);
        return 0;
}

static void on_event(void *userdata, const KvEvent *event) {
        Fixture *f = userdata;
        _cleanup_writer_ Writer w = {};

        f->n_events++;
        assert_int_equal(event_encode(event, &w), 0);
        f->moved += w.size;
        f->values += event->node.value.size + event->prev.value.size;
}

static void on_result(void *userdata, uint64_t origin, uint64_t number, const KvResult *result) {
        Fixture *f = userdata;

        if (f->n_answers < ELEMENTS(f->status))
                f->status[f->n_answers] = result->status;
        f->n_answers++;
        free(f->last);
        f->last = kv_result_copy(result);
        assert_non_null(f->last);
}

/* One entry, with the numbers from 'first' on. */
static void apply_from(Fixture *f, uint64_t first, const KvCommand *commands, size_t n) {
        _cleanup_writer_ Writer batch = {};
        ApplySink sink = { .on_result = on_result, .on_event = on_event, .userdata = f, .cost = &f->cost };
        KvBatch b;

        kv_batch_begin(&b, &batch, &(KvBatchHead) { .cluster_ms = f->now_ms, .level = f->level });
        for (size_t i = 0; i < n; i++) {
                _cleanup_writer_ Writer w = {};

                assert_int_equal(kv_command_encode(&commands[i], KV_LEVEL_MAX, &w), 0);
                kv_batch_add(&b, &batch,
                             &(KvBatchItem) { .origin = ORIGIN,
                                              .number = first + i,
                                              .acknowledged = 1,
                                              .deadline_ms = f->now_ms + LATE_MS,
                                              .command = w.bytes,
                                              .command_size = w.size });
        }
        f->cost = (Cost) {};
        f->n_answers = f->n_events = f->moved = f->values = 0;
        assert_int_equal(sink_apply_batch(f->txn, ++f->entry, 1, batch.bytes, batch.size, &sink), 0);
        assert_int_equal(f->n_answers, n);
        f->number = MAX(f->number, first + n - 1);
}

static KvStatus apply(Fixture *f, KvCommand cmd) {
        apply_from(f, f->number + 1, &cmd, 1);
        return f->status[0];
}

static KvCommand set_of(const char *key, size_t size) {
        return COMMAND(KV_SET, key, .value = { large, size });
}

static KvCommand refresh_of(const char *key) {
        return COMMAND(KV_SET, key, .refresh = true, TTL(1000000));
}

static KvCommand txn_of(KvCommand *writes, size_t n) {
        return (KvCommand) { .op = KV_TXN, .writes = writes, .n_writes = n };
}

/* Nodes, events and index are as they were. */
static void assert_unchanged(Fixture *f, const TreeMeta *before) {
        TreeMeta after;

        assert_int_equal(tree_meta(f->txn, &after), 0);
        assert_int_equal(after.index, before->index);
        assert_int_equal(after.n_nodes, before->n_nodes);
        assert_int_equal(after.n_bytes, before->n_bytes);
        assert_memory_equal(after.windows, before->windows, sizeof(after.windows));
}

static bool exists(Fixture *f, const char *key) {
        KvNode node;

        return tree_get(f->txn, kv_string(key), &node) == 0;
}

static bool cause_has(const Fixture *f, const char *text) {
        return f->last->cause.size > 0 &&
               memmem(f->last->cause.data, f->last->cause.size, text, strlen(text));
}

/* Existing nodes, at any cost. */
static void lay(Fixture *f, const char *dir, unsigned from, unsigned to, size_t size, uint64_t expires_ms) {
        KvNode node = { .key = kv_string(dir), .dir = true, .created = 1, .modified = 1 };
        char key[1024];

        if (from == 0)
                assert_int_equal(tree_put(f->txn, &node), 0);
        for (unsigned i = from; i < to; i++) {
                snprintf(key, sizeof(key), "%s/%06u", dir, i);
                node = (KvNode) { .key = kv_string(key),
                                  .value = { large, size },
                                  .created = i + 2,
                                  .modified = i + 2,
                                  .expires_ms = expires_ms };
                assert_int_equal(tree_put(f->txn, &node), 0);
        }
}

/* -- One command -- */

static void a_transaction_that_moves_too_much_is_refused_and_changes_nothing(void **state) {
        Fixture *f = *state;
        KvCommand writes[500];
        TreeMeta before;

        assert_int_equal(apply(f, set_of("/k", LARGE)), KV_OK);
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                writes[i] = refresh_of("/k");
        assert_int_equal(tree_meta(f->txn, &before), 0);
        assert_int_equal(apply(f, txn_of(writes, ELEMENTS(writes))), KV_TOO_LARGE);
        assert_int_equal(f->n_events, 0);
        assert_unchanged(f, &before);
        assert_true(f->last->refused_at > 1 && f->last->refused_at < 40);
        assert_true(f->cost.total <= COST_ENTRY_MAX);
}

static void below_the_feature_level_the_same_transaction_is_done_as_ever(void **state) {
        Fixture *f = *state;
        KvCommand writes[40];

        assert_int_equal(apply(f, set_of("/k", LARGE)), KV_OK);
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                writes[i] = refresh_of("/k");
        assert_int_equal(apply(f, txn_of(writes, ELEMENTS(writes))), KV_OK);
        assert_int_equal(f->n_events, ELEMENTS(writes));
        assert_int_equal(f->values, ELEMENTS(writes) * 2 * LARGE);
        assert_true(f->cost.total > COST_COMMAND_MAX); /* it is counted all the same */
}

static void what_is_allowed_and_what_is_refused_are_one_node_apart(void **state) {
        Fixture *f = *state;
        unsigned low = 0, high = 60000;
        KvCommand remove = COMMAND(KV_DELETE, "/d", .recursive = true);

        while (high - low > 1) {
                unsigned n = low + (high - low) / 2;
                TreeTxn *outer = f->txn;

                assert_int_equal(tree_begin_nested(outer, &f->txn), 0);
                lay(f, "/d", 0, n, 100, 0);
                if (apply(f, remove) == KV_OK) {
                        assert_true(f->cost.total <= COST_COMMAND_MAX);
                        assert_false(exists(f, "/d"));
                        low = n;
                } else {
                        assert_int_equal(f->status[0], KV_TOO_LARGE);
                        assert_true(cause_has(f, "16384 KiB"));
                        assert_true(exists(f, "/d/000000"));
                        high = n;
                }
                tree_abort(f->txn);
                f->txn = outer;
        }
        assert_in_range(low, 10000, 50000);
        lay(f, "/d", 0, low, 100, 0);
        assert_int_equal(apply(f, remove), KV_OK);
        assert_true(f->cost.total + COST_PASS + COST_REMOVE + 109 > COST_COMMAND_MAX);
}

/* What is refused is work, too: the count of what is below. */
static void counting_what_is_refused_counts(void **state) {
        Fixture *f = *state;
        KvCommand removes[400];
        size_t n_refused = 0;

        lay(f, "/d", 0, 60000, 10, 0);
        for (size_t i = 0; i < ELEMENTS(removes); i++)
                removes[i] = COMMAND(KV_DELETE, "/d", .recursive = true);
        apply_from(f, 1, removes, ELEMENTS(removes));
        for (size_t i = 0; i < ELEMENTS(removes); i++)
                n_refused += f->status[i] == KV_TOO_LARGE;
        assert_in_range(n_refused, 1, 4);
        assert_int_equal(f->status[ELEMENTS(removes) - 1], KV_DEFERRED);
        assert_true(f->cost.total <= COST_ENTRY_MAX);
}

static void a_comparison_that_would_quote_too_much_is_no_exception(void **state) {
        Fixture *f = *state;
        KvCommand swaps[200];

        assert_int_equal(apply(f, set_of("/k", LARGE)), KV_OK);
        for (size_t i = 0; i < ELEMENTS(swaps); i++)
                swaps[i] = SET("/k", "1", IF_VALUE("2"));
        apply_from(f, 10, swaps, ELEMENTS(swaps));
        assert_int_equal(f->status[0], KV_COMPARE_FAILED);
        assert_int_equal(f->status[ELEMENTS(swaps) - 1], KV_DEFERRED);
        assert_true(f->cost.total <= COST_ENTRY_MAX);
}

static void the_answer_to_a_transaction_holds_no_more_refreshed_values_than_allowed(void **state) {
        Fixture *f = *state;
        KvCommand writes[9];
        char keys[ELEMENTS(writes)][8];

        for (size_t i = 0; i < ELEMENTS(writes); i++) {
                snprintf(keys[i], sizeof(keys[i]), "/k%zu", i);
                assert_int_equal(apply(f, set_of(keys[i], LARGE)), KV_OK);
                writes[i] = refresh_of(keys[i]);
        }
        assert_int_equal(apply(f, txn_of(writes, COST_ANSWER_MAX / LARGE)), KV_OK);
        assert_int_equal(apply(f, txn_of(writes, COST_ANSWER_MAX / LARGE + 1)), KV_TOO_LARGE);
        assert_int_equal(f->last->refused_at, COST_ANSWER_MAX / LARGE + 1);
        assert_int_equal(f->n_events, 0);
}

/* -- One entry -- */

static void what_no_longer_fits_into_an_entry_has_no_effect_and_takes_effect_once_in_a_later_one(
        void **state) {
        Fixture *f = *state;
        KvCommand writes[60];
        char keys[ELEMENTS(writes)][8];
        uint64_t first = 1000, index;
        TreeMeta meta;
        size_t done = 0;

        for (size_t i = 0; i < ELEMENTS(writes); i++) {
                snprintf(keys[i], sizeof(keys[i]), "/k%zu", i);
                assert_int_equal(tree_put(f->txn, &(KvNode) { .key = kv_string(keys[i]),
                                                              .value = { large, LARGE },
                                                              .created = 1,
                                                              .modified = 1 }),
                                 0);
                writes[i] = set_of(keys[i], 1);
        }
        apply_from(f, first, writes, ELEMENTS(writes));
        for (size_t i = 0; i < ELEMENTS(writes); i++) {
                KvNode node;

                assert_true(f->status[i] == KV_OK || f->status[i] == KV_DEFERRED);
                assert_int_equal(tree_get(f->txn, kv_string(keys[i]), &node), 0);
                assert_int_equal(node.value.size, f->status[i] == KV_OK ? 1 : LARGE);
                done += f->status[i] == KV_OK;
        }
        assert_true(done > 5 && done < ELEMENTS(writes));
        assert_int_equal(f->last->status, KV_DEFERRED);
        assert_in_range(f->last->charged, LARGE, COST_COMMAND_MAX);
        assert_true(f->cost.total <= COST_ENTRY_MAX && f->cost.total > COST_ENTRY_MAX / 2);

        for (unsigned round = 0; done < ELEMENTS(writes); round++) {
                assert_true(round < 20);
                apply_from(f, first, writes,
                           ELEMENTS(writes)); /* all again: what was done answers as it did */
                done = 0;
                for (size_t i = 0; i < ELEMENTS(writes); i++)
                        done += f->status[i] !=
                                KV_DEFERRED; /* KV_UNKNOWN: done, and the large old value was not kept */
        }
        assert_int_equal(tree_meta(f->txn, &meta), 0);
        index = meta.index;
        assert_int_equal(index, ELEMENTS(writes));
        assert_int_equal(apply(f, set_of("/other", 1)), KV_OK);
        assert_int_equal(f->last->index, index + 1);
}

/* -- Numbers that were overtaken -- */

enum {
        KEPT_ENTRIES = 40,
        KEPT_EACH = 1000,
        KEPT_FIRST = 100,
        KEPT_SKIPPED = KEPT_FIRST + (KEPT_ENTRIES - 2) * KEPT_EACH
};

/* Entries of many small commands, whose answers are kept; of one number, nothing was heard. */
static void keep_many(Fixture *f) {
        static KvCommand many[KEPT_EACH];

        for (size_t i = 0; i < ELEMENTS(many); i++)
                many[i] = set_of("/x", 1);
        for (unsigned i = 0; i < KEPT_ENTRIES; i++) {
                uint64_t first = KEPT_FIRST + i * KEPT_EACH;

                if (first == KEPT_SKIPPED)
                        apply_from(f, first + 1, many, ELEMENTS(many) - 1);
                else
                        apply_from(f, first, many, ELEMENTS(many));
        }
}

static void what_is_read_to_find_an_overtaken_number_is_charged(void **state) {
        Fixture *f = *state;
        KvCommand one = set_of("/y", 1);
        uint64_t each = KEPT_EACH * COST_KEPT, cost;

        keep_many(f);
        assert_int_equal(apply(f, one), KV_OK);
        assert_int_equal(apply(f, one), KV_OK);
        cost = f->cost.total;
        assert_true(cost < each);

        /* Only records that may have it are read. */
        apply_from(f, KEPT_SKIPPED, &one, 1);
        assert_int_equal(f->status[0], KV_OK);
        assert_false(f->last->again);
        assert_in_range(f->cost.total, cost + each, cost + 3 * each);
        apply_from(f, KEPT_SKIPPED, &one, 1);
        assert_true(f->last->again);
        apply_from(f, KEPT_SKIPPED - 1, &one, 1);
        assert_true(f->last->again);
        assert_in_range(f->cost.total, each, 5 * each);

        apply_from(f, 1, &one, 1);
        assert_int_equal(f->status[0], KV_OK);
        assert_false(f->last->again);
        assert_true(f->cost.total > (KEPT_ENTRIES - 1) * each);
}

/* It defers other commands of the entry, and never the one that it was read for. */
static void a_command_is_not_deferred_for_what_was_read_to_find_its_number(void **state) {
        Fixture *f = *state;
        KvCommand remove = COMMAND(KV_DELETE, "/d", .recursive = true),
                  commands[] = { set_of("/y", 1), remove };

        keep_many(f);
        lay(f, "/d", 0, 40000, 10, 0);
        apply_from(f, 1, commands, ELEMENTS(commands));
        assert_int_equal(f->status[0], KV_OK);
        assert_int_equal(f->status[1], KV_DEFERRED);
        apply_from(f, 2, &remove, 1);
        assert_int_equal(f->status[0], KV_OK);
        assert_false(exists(f, "/d"));
}

/* -- Refreshes -- */

static void a_refresh_keeps_no_value_but_in_its_answer(void **state) {
        Fixture *f = *state;
        KvCommand refresh = refresh_of("/k");
        TreeMeta before, after;

        assert_int_equal(apply(f, set_of("/k", LARGE)), KV_OK);
        assert_int_equal(tree_meta(f->txn, &before), 0);
        apply_from(f, 10, &refresh, 1);
        assert_int_equal(f->status[0], KV_OK);
        assert_int_equal(f->values, 0);
        assert_int_equal(f->last->node.value.size, LARGE);
        assert_int_equal(f->last->prev.value.size, LARGE);
        assert_int_equal(tree_meta(f->txn, &after), 0);
        assert_true(after.results.bytes - before.results.bytes < 200);
        assert_true(after.windows[TREE_WINDOW_USERS].bytes - before.windows[TREE_WINDOW_USERS].bytes < 200);

        /* Asked again, the value is the tree's: before and after another refresh. */
        apply_from(f, 10, &refresh, 1);
        assert_true(f->last->again);
        assert_int_equal(f->status[0], KV_OK);
        assert_int_equal(f->last->node.value.size, LARGE);
        assert_int_equal(f->last->prev.value.size, LARGE);

        assert_int_equal(apply(f, set_of("/k", 1)), KV_OK);
        apply_from(f, 10, &refresh, 1);
        assert_int_equal(f->status[0], KV_UNKNOWN); /* it was applied, and its previous value is lost */
        assert_true(cause_has(f, "the command took effect"));
}

/* -- Long keys -- */

static char *long_key(char key[static 600], unsigned i) {
        memset(key, 'd', 486);
        key[0] = '/';
        snprintf(key + 486, 100, "/%06u", i);
        return key;
}

static void lay_long(Fixture *f, unsigned n) {
        char key[600], dir[487];

        snprintf(dir, sizeof(dir), "%.486s", long_key(key, 0));
        lay(f, dir, 0, n, 1, 0);
}

static void so_many_long_keys_share_one_beginning_and_no_more(void **state) {
        Fixture *f = *state;
        char key[600], dir[487], keys[10][600];
        KvCommand writes[ELEMENTS(keys)], more[ELEMENTS(keys)];

        snprintf(dir, sizeof(dir), "%.486s", long_key(key, 0));
        lay_long(f, COST_LONG_KEYS_MAX - 2); /* with the directory itself: one less than there may be */
        assert_int_equal(apply(f, set_of(long_key(key, 900000), 1)), KV_OK);
        assert_int_equal(apply(f, set_of(long_key(key, 900001), 1)), KV_TOO_LARGE);
        assert_true(cause_has(f, "4096 keys"));
        assert_int_equal(apply(f, set_of(long_key(key, 900000), 2)),
                         KV_OK); /* what is there can be changed */

        assert_int_equal(apply(f, COMMAND(KV_DELETE, long_key(key, 5))), KV_OK);
        assert_int_equal(apply(f, set_of(long_key(key, 900001), 1)), KV_OK);

        /* Those of one transaction are counted once, and to the last. */
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                writes[i] = i % 2 == 0 ? COMMAND(KV_DELETE, long_key(keys[i], 100 + i)) :
                                         set_of(long_key(keys[i], 910000 + i), 1);
        assert_int_equal(apply(f, txn_of(writes, ELEMENTS(writes))), KV_OK);
        assert_int_equal(apply(f, COMMAND(KV_DELETE, long_key(key, 8))), KV_OK);
        assert_int_equal(apply(f, COMMAND(KV_DELETE, long_key(key, 9))), KV_OK);
        for (size_t i = 0; i < 3; i++)
                more[i] = set_of(long_key(keys[i], 920000 + i), 1);
        assert_int_equal(apply(f, txn_of(more, 3)), KV_TOO_LARGE);
        assert_int_equal(f->last->refused_at, 3);
        assert_int_equal(apply(f, txn_of(more, 2)), KV_OK);
        assert_true(f->cost.nodes < COST_LONG_KEYS_MAX + 20);

        /* Directories on the way count, too. */
        assert_int_equal(apply(f, COMMAND(KV_DELETE, long_key(key, 6))), KV_OK);
        long_key(key, 900002);
        strcat(key, "/x");
        assert_int_equal(apply(f, set_of(key, 1)), KV_TOO_LARGE);

        assert_int_equal(apply(f, COMMAND(KV_DELETE, dir, .recursive = true)), KV_OK);
        assert_false(exists(f, dir));
}

static void more_long_keys_of_an_older_tree_stay_readable_and_can_be_deleted(void **state) {
        Fixture *f = *state;
        char key[600], dir[487];

        snprintf(dir, sizeof(dir), "%.486s", long_key(key, 0));
        lay_long(f, 2 * COST_LONG_KEYS_MAX);
        assert_true(exists(f, long_key(key, 2 * COST_LONG_KEYS_MAX - 1)));
        assert_int_equal(apply(f, set_of(long_key(key, 900000), 1)), KV_TOO_LARGE);
        assert_int_equal(apply(f, COMMAND(KV_DELETE, long_key(key, 7))), KV_OK);
        assert_int_equal(apply(f, COMMAND(KV_DELETE, dir, .dir = true)), KV_DIR_NOT_EMPTY);
        assert_true(f->cost.nodes < 10); /* it stopped at the first */
        assert_int_equal(apply(f, COMMAND(KV_DELETE, dir, .recursive = true)), KV_OK);
        assert_false(exists(f, dir));
}

/* -- Estimates -- */

enum { GROUPS = 3 };

/* Long keys of several groups, which alternate with 'i'. */
static char *group_key(char key[static 600], unsigned i) {
        long_key(key, i);
        key[1] = (char) ('A' + i % GROUPS);
        return key;
}

static void lay_groups(Fixture *f, unsigned n) {
        char key[600];

        for (unsigned i = 0; i < GROUPS; i++) {
                group_key(key, i);
                key[486] = 0;
                lay(f, key, 0, n, 1, 0);
        }
}

static Estimated estimate(Fixture *f, KvCommand cmd) {
        Estimated e;

        assert_int_equal(cost_estimate(f->txn, NULL, NULL, &cmd,
                                       &(EstimateLimits) { COST_COMMAND_MAX, BUDGET_COUNT_MAX }, &e),
                         0);
        return e;
}

/* A command that is done costs no more than its estimate; its cost is returned. */
static uint64_t assert_estimated(Fixture *f, KvCommand cmd) {
        uint64_t estimated = estimate(f, cmd).cost.total;

        assert_int_equal(apply(f, cmd), KV_OK);
        if (f->cost.total > estimated)
                fail_msg("it was estimated at %llu and charged %llu", (unsigned long long) estimated,
                         (unsigned long long) f->cost.total);
        return f->cost.total;
}

static void a_command_counts_each_group_of_long_keys_once(void **state) {
        enum { N = 60 };
        static char keys[2 * N][600];
        Fixture *f = *state;
        KvCommand writes[N];
        Estimated e;

        lay_groups(f, COST_LONG_KEYS_MAX - 1 - N);
        for (unsigned i = 0; i < N; i++)
                writes[i] = set_of(group_key(keys[i], 900000 + i), 1);
        e = estimate(f, txn_of(writes, N));
        assert_true(e.counted.nodes <= GROUPS * COST_LONG_KEYS_MAX);
        (void) assert_estimated(f, txn_of(writes, N));
        assert_true(f->cost.nodes < GROUPS * COST_LONG_KEYS_MAX + 10 * N);

        /* Removals in between change nothing. */
        for (unsigned i = 0; i < N; i++)
                writes[i] = i % 2 == 0 ? COMMAND(KV_DELETE, group_key(keys[i], 900000 + i)) :
                                         set_of(group_key(keys[i], 910000 + i), 1);
        assert_true(assert_estimated(f, txn_of(writes, N)) <
                    GROUPS * COST_LONG_KEYS_MAX * COST_PASS + N * 16 * 1024);
        assert_true(f->cost.nodes < GROUPS * COST_LONG_KEYS_MAX + 10 * N);

        /* Each is removed and written again: the first write pays for the count. */
        for (unsigned i = 0; i < N; i++)
                writes[i] = i % 2 == 0 ? COMMAND(KV_DELETE, long_key(keys[i], i)) : set_of(keys[i - 1], 1);
        for (unsigned i = 0; i < N; i++)
                keys[i][1] = 'A';
        (void) assert_estimated(f, txn_of(writes, N));
        assert_true(f->cost.nodes > COST_LONG_KEYS_MAX - N);
}

/* A directory that an earlier write of the transaction has removed is made again, with all directories on the
 * way. */
static void what_a_transaction_has_removed_is_missing_for_its_later_writes(void **state) {
        static char deep[2 * 400 + 1];
        Fixture *f = *state;
        KvCommand writes[20];
        char dirs[ELEMENTS(writes) - 2][8];

        for (size_t i = 0; i < sizeof(deep) - 1; i += 2)
                deep[i] = '/', deep[i + 1] = 'a';
        assert_int_equal(apply(f, set_of(deep, 1)), KV_OK);
        for (size_t i = 0; i < 4; i++)
                writes[i] = i % 2 == 0 ? COMMAND(KV_DELETE, "/a", .recursive = true) : set_of(deep, 1);
        assert_true(assert_estimated(f, txn_of(writes, 4)) > COST_HEAVY);

        /* However many there are. */
        for (size_t i = 0; i < ELEMENTS(dirs); i++) {
                snprintf(dirs[i], sizeof(dirs[i]), "/d%zu", i);
                lay(f, dirs[i], 0, 1, 1, 0);
                writes[i] = COMMAND(KV_DELETE, dirs[i], .recursive = true);
        }
        writes[ELEMENTS(dirs)] = COMMAND(KV_DELETE, "/a", .recursive = true);
        writes[ELEMENTS(dirs) + 1] = set_of(deep, 1);
        assert_true(assert_estimated(f, txn_of(writes, ELEMENTS(writes))) > COST_HEAVY);
}

/* Each small value is the old one of the next write. */
static void small_values_of_a_transaction_count_for_its_later_writes(void **state) {
        enum { SAME = 108, KEYS = 700 };
        static char keys[KEYS][16];
        static KvCommand writes[2 * KEYS];
        Fixture *f = *state;

        for (size_t i = 0; i < SAME; i++)
                writes[i] = set_of("/same", VALUES_SIZE_MIN - 1);
        (void) assert_estimated(f, txn_of(writes, SAME));

        /* More keys than are remembered. */
        for (size_t i = 0; i < KEYS; i++) {
                snprintf(keys[i], sizeof(keys[i]), "/k%zu", i);
                writes[i] = set_of(keys[i], 1);
        }
        (void) assert_estimated(f, txn_of(writes, KEYS));
        for (size_t i = 0; i < KEYS; i++) {
                writes[i] = set_of(keys[i], 250);
                writes[KEYS + i] = set_of(keys[i], 1);
        }
        (void) assert_estimated(f, txn_of(writes, 2 * KEYS));
}

/* Each row has the same price, in the estimate and in apply; a transaction of too many is rejected. */
static void rows_of_the_history_are_charged_before_the_writes(void **state) {
        enum { N = 2, MANY = COST_COMMAND_MAX / COST_NOTE + 1 };
        static KvCommand many[MANY];
        Fixture *f = *state;
        KvCommand writes[N] = { set_of("/a", 1), set_of("/b", 1) }, txn = txn_of(writes, N);
        uint64_t without;
        TreeMeta before;

        txn.internal = true;
        assert_int_equal(apply(f, txn), KV_OK);
        without = assert_estimated(f, txn);
        for (unsigned i = 0; i < N; i++)
                writes[i].note = (KvNote) { 1000 + i, kv_string("row") };
        assert_int_equal(assert_estimated(f, txn), without + N * COST_NOTE);

        for (unsigned i = 0; i < MANY; i++)
                many[i] = writes[0];
        txn = txn_of(many, MANY);
        txn.internal = true;
        assert_int_equal(tree_meta(f->txn, &before), 0);
        assert_int_equal(apply(f, txn), KV_TOO_LARGE);
        assert_unchanged(f, &before);
        assert_int_equal(before.history.n, 1);
}

static void as_many_directories_as_a_transaction_may_make_are_estimated(void **state) {
        enum { KEYS = 30, DEPTH = 90 };
        static char keys[KEYS][16 + 2 * DEPTH];
        Fixture *f = *state;
        KvCommand writes[KEYS];

        for (size_t i = 0; i < KEYS; i++) {
                char *p = keys[i] + sprintf(keys[i], "/r%zu", i);

                for (unsigned k = 0; k < DEPTH; k++)
                        p += sprintf(p, "/a");
                writes[i] = set_of(keys[i], 1);
        }
        (void) assert_estimated(f, txn_of(writes, KEYS));
}

static void the_child_of_a_post_may_be_a_long_key_where_its_directory_is_none(void **state) {
        Fixture *f = *state;
        char dir[478];

        memset(dir, 'p', sizeof(dir));
        dir[0] = '/';
        dir[sizeof(dir) - 1] = 0;
        for (unsigned i = 0; i < 4000; i++) {
                char key[600];
                KvNode node = { .created = 1, .modified = 1 };

                snprintf(key, sizeof(key), "%s/%020u", dir, 5000000 + i);
                node.key = kv_string(key);
                assert_int_equal(tree_put(f->txn, &node), 0);
        }
        assert_int_equal(
                tree_put(f->txn,
                         &(KvNode) { .key = kv_string(dir), .dir = true, .created = 1, .modified = 1 }),
                0);
        assert_true(assert_estimated(f, COMMAND(KV_POST, dir, .value = { large, 1 })) > 4000 * COST_PASS);
}

/* -- Budget -- */

static KvStatus check(Fixture *f, Budget *b, uint64_t now_ms, KvCommand cmd, uint64_t *ret_cost) {
        KvStatus status = KV_OK;
        uint64_t cost;
        Error err = {};
        int r;

        r = budget_check(b, f->txn, now_ms, &cmd, &cost, &status, &err);
        assert_true((status == KV_OK) == (r == 0));
        if (ret_cost)
                *ret_cost = cost;
        return status;
}

/* A transaction counts its work where its tree did when it began. */
static void count_work(Fixture *f, TurnWork *work) {
        assert_int_equal(tree_commit(f->txn), 0);
        tree_set_work(f->tree, work);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
}

/* However many are refused at one time: the work for it is bounded, and so is the work for one of them. */
static void estimates_of_refused_commands_take_a_bounded_part_of_a_turn(void **state) {
        enum { N = 40, ROUNDS = 500 };
        static char keys[N][600];
        Fixture *f = *state;
        KvCommand writes[N], remove = COMMAND(KV_DELETE, "/d", .recursive = true);
        TurnWork work = {};
        Budget b = {};

        lay_groups(f, COST_LONG_KEYS_MAX - 1 - N);
        lay(f, "/d", 0, 60000, 10, 0);
        lay(f, "/small", 0, 20, 10, 0);
        for (unsigned i = 0; i < N; i++)
                writes[i] = set_of(group_key(keys[i], 900000 + i), 1);
        count_work(f, &work);
        /* As many heavy commands wait as may: an estimate ends where it is known that the command is heavy.
         */
        b = (Budget) { .waiting = 100ull * COST_ENTRY_MAX };
        work = (TurnWork) {};
        assert_int_equal(check(f, &b, 1000, txn_of(writes, N), NULL), KV_BUSY);
        assert_in_range(work.nodes, COST_LONG_KEYS_MAX / 2, 2 * COST_LONG_KEYS_MAX + 100);

        for (unsigned kind = 0; kind < 2; kind++) {
                b = (Budget) {};
                work = (TurnWork) {};
                for (unsigned i = 0; i < ROUNDS; i++)
                        (void) check(f, &b, 1000, kind == 0 ? remove : txn_of(writes, N), NULL);
                assert_in_range(work.nodes, COST_LONG_KEYS_MAX, COST_ENTRY_MAX / COST_PASS + ROUNDS * 100);
                /* An ordinary write is estimated as ever, and a small directory removed. */
                assert_int_equal(check(f, &b, 1000, set_of("/x", 1), NULL), KV_OK);
                assert_int_equal(check(f, &b, 1000, COMMAND(KV_DELETE, "/small", .recursive = true), NULL),
                                 KV_OK);
        }
        count_work(f, NULL);
}

/* The directory that one client asks to remove at each half of a millisecond is refused, and takes no time
 * that the count of another one needs. */
static void a_removal_that_is_refused_again_and_again_delays_no_count_of_others(void **state) {
        enum { SECONDS = 30 };
        Fixture *f = *state;
        KvCommand huge = COMMAND(KV_DELETE, "/d", .recursive = true),
                  small = COMMAND(KV_DELETE, "/e", .recursive = true);
        KvCommand writes[] = { set_of("/x", 1), huge }, txn = txn_of(writes, ELEMENTS(writes));
        TurnWork work = {};
        Budget b = {};

        lay(f, "/d", 0, 70000, 10, 0);
        lay(f, "/e", 0, 1100, 10, 0);
        tree_set_work(f->tree, &work);
        for (uint64_t ms = 1000; ms < 1000 + SECONDS * 1000; ms++) {
                for (unsigned k = 0; k < 2; k++)
                        assert_int_not_equal(check(f, &b, ms, ms % 2 == 0 ? huge : txn, NULL), KV_OK);
                if (ms % 1000 == 777)
                        assert_int_equal(check(f, &b, ms, small, NULL), KV_OK);
        }
        assert_true(work.nodes <=
                    SECONDS * 1000 / (BUDGET_SHARE * COST_ENTRY_MS) * (COST_ENTRY_MAX / COST_PASS) +
                            SECONDS * 2000 * 20);
        tree_set_work(f->tree, NULL);
}

/* More directories than are remembered, each of them too large: what is not heavy still gets its share of the
 * time. */
static void what_counts_much_takes_no_time_from_what_counts_little(void **state) {
        enum { DIRS = 3 * COUNTED_SLOTS, SECONDS = 15 };
        Fixture *f = *state;
        KvCommand small = COMMAND(KV_DELETE, "/e", .recursive = true);
        KvNode node = { .dir = true, .created = 1, .modified = 1 };
        unsigned n_taken = 0, next = 0;
        char dir[2 * DIRS + 1] = "";
        uint64_t when = 0;
        TurnWork work = {};
        Random random;
        Budget b = {};

        random_seed(&random, 1);
        lay(f, "/e", 0, 1100, 10, 0);
        for (unsigned i = 0; i < DIRS; i++) {
                strcat(dir, "/d");
                node.key = kv_string(dir);
                assert_int_equal(tree_put(f->txn, &node), 0);
        }
        lay(f, dir, 0, 70000, 1, 0);
        tree_set_work(f->tree, &work);
        for (uint64_t ms = 1000; ms < 1000 + SECONDS * 1000; ms++) {
                if (ms % 250 == 0)
                        when = ms + random_u64(&random) % 250;
                if (ms == when)
                        n_taken += check(f, &b, ms, small, NULL) == KV_OK;
                for (unsigned k = 0; k < 2; k++) {
                        KvCommand huge = { .op = KV_DELETE,
                                           .key = { dir, 2 * (1 + next++ % DIRS) },
                                           .recursive = true };

                        assert_int_not_equal(check(f, &b, ms, huge, NULL), KV_OK);
                }
        }
        assert_true(n_taken > 0);
        assert_true(work.nodes <=
                    SECONDS * 1000 / (BUDGET_SHARE * COST_ENTRY_MS) * (COST_ENTRY_MAX / COST_PASS) +
                            SECONDS * 2000 * 50);
        tree_set_work(f->tree, NULL);
}

/* A directory that was too large a moment ago may have become smaller. */
static void a_removal_that_was_too_large_is_counted_again_after_a_second(void **state) {
        Fixture *f = *state;
        KvCommand remove = COMMAND(KV_DELETE, "/d", .recursive = true);
        Budget b = {};

        lay(f, "/d", 0, 70000, 10, 0);
        assert_int_equal(check(f, &b, 1000, remove, NULL), KV_TOO_LARGE);
        assert_int_equal(check(f, &b, 1001, remove, NULL), KV_TOO_LARGE);
        assert_int_equal(tree_delete_below(f->txn, kv_string("/d")), 0);
        assert_int_equal(apply(f, set_of("/x", 1)), KV_OK);
        assert_int_equal(check(f, &b, 1002, remove, NULL), KV_BUSY);
        assert_int_equal(check(f, &b, 1000 + COUNTED_MS, remove, NULL), KV_OK);
}

/* They cost no time that heavy commands have. */
static void estimates_delay_no_heavy_command(void **state) {
        Fixture *f = *state;
        KvCommand remove = COMMAND(KV_DELETE, "/d", .recursive = true);
        char key[600];
        uint64_t cost, wait_ms;
        unsigned n_taken = 0;
        Budget b = {};

        lay_groups(f, COST_LONG_KEYS_MAX - 2);
        lay(f, "/d", 0, 60000, 10, 0);
        for (unsigned i = 0; i < 10000; i++) {
                n_taken += check(f, &b, 1000, set_of(group_key(key, 900000), 1), &cost) == KV_OK &&
                           !budget_is_heavy(cost);
                assert_true(budget_allows(&b, 1000, &wait_ms));
        }
        assert_true(n_taken > 0);
        for (unsigned i = 0; i < 2000; i++) {
                KvStatus status = check(f, &b, 2000 + i, remove, NULL);

                assert_true(status == KV_TOO_LARGE || status == KV_BUSY);
                assert_true(budget_allows(&b, 2000 + i, &wait_ms));
        }
}

/* Each counts as it is in the tree. */
static void many_values_on_their_way_make_no_other_one_large(void **state) {
        Fixture *f = *state;
        KvCommand writes[12];
        uint64_t cost, alone;
        char keys[12][16];
        Budget b = {};

        lay(f, "/d", 0, 12, 10, 0);
        for (size_t i = 0; i < ELEMENTS(writes); i++) {
                snprintf(keys[i], sizeof(keys[i]), "/d/%06zu", i);
                writes[i] = set_of(keys[i], 10);
        }
        assert_int_equal(check(f, &b, 1000, txn_of(writes, ELEMENTS(writes)), &alone), KV_OK);
        for (unsigned i = 0; i < 3 * VALUES_SLOTS; i++) {
                char key[16];
                KvCommand cmd;

                snprintf(key, sizeof(key), "/%u", i);
                cmd = set_of(key, i % 100 == 0 ? LARGE : VALUES_SIZE_MIN);
                budget_take(&b, &cmd, 1);
        }
        assert_int_equal(check(f, &b, 1000, txn_of(writes, ELEMENTS(writes)), &cost), KV_OK);
        assert_int_equal(cost, alone);
        assert_int_equal(check(f, &b, 1000, set_of("/0", 1), &cost), KV_OK); /* the first ones are known */
        assert_true(cost > LARGE);
        budget_done(&b);
}

static void what_was_in_flight_in_another_term_holds_nothing_up(void **state) {
        Budget b = { .waiting = COST_ENTRY_MAX };
        uint64_t wait_ms;

        budget_spend(&b, 1000, 103, COST_ENTRY_MAX);
        budget_applied(&b, 101);
        assert_false(budget_allows(&b, 5000, &wait_ms));
        budget_term_changed(&b);
        assert_true(budget_allows(&b, 5000, &wait_ms));
        assert_int_equal(b.waiting, 0);
}

/* -- Expiry -- */

static KvCommand expiry(uint64_t limit) {
        return COMMAND(KV_EXPIRE, "/", .internal = true, .limit = limit);
}

static void a_large_directory_expires_in_pages_that_each_cost_little(void **state) {
        Fixture *f = *state;
        unsigned entries = 0;

        lay(f, "/d", 0, 30000, 100, 0);
        assert_int_equal(tree_put(f->txn, &(KvNode) { .key = kv_string("/d"),
                                                      .dir = true,
                                                      .created = 1,
                                                      .modified = 1,
                                                      .expires_ms = 10 }),
                         0);
        while (exists(f, "/d")) {
                assert_int_equal(apply(f, expiry(1000)), KV_OK);
                assert_true(f->n_events > 0);
                assert_true(f->cost.total <= COST_ENTRY_MAX);
                assert_true(++entries < 200);
        }
        assert_true(entries > 10);
        assert_false(exists(f, "/d/000000"));
}

static void what_is_due_with_large_values_goes_with_several_entries(void **state) {
        Fixture *f = *state;
        unsigned entries = 0;

        lay(f, "/d", 0, 20, LARGE, 10);
        while (exists(f, "/d/000019")) {
                assert_int_equal(apply(f, expiry(1000)), KV_OK);
                assert_true(f->cost.total <= COST_EXPIRE_MAX + COST_COMMAND);
                assert_true(f->n_events > 0 && ++entries < 20);
        }
        assert_true(entries >= 3);
}

static void an_expiry_of_one_node_spares_the_next_when_that_one_was_renewed(void **state) {
        Fixture *f = *state;
        KvCommand first = expiry(1);
        KvNode node;

        lay(f, "/d", 0, 2, 1, 500);
        assert_int_equal(tree_first_due(f->txn, f->now_ms, &node), 0);
        first.has_ttl = true;
        first.ttl_ms = node.expires_ms;
        first.prev_index = node.created;
        assert_int_equal(apply(f, refresh_of("/d/000000")), KV_OK);
        assert_int_equal(apply(f, first), KV_OK);
        assert_int_equal(f->n_events, 0);
        assert_true(exists(f, "/d/000001"));
        assert_int_equal(apply(f, expiry(1)), KV_OK); /* one that names none takes what is due */
        assert_false(exists(f, "/d/000001"));
}

/* -- All of it -- */

static KvCommand draw(Random *random, char key[static 64], bool alone) {
        static const KvOp ops[] = { KV_SET, KV_SET, KV_CREATE, KV_UPDATE, KV_DELETE, KV_DELETE };
        static const size_t sizes[] = { 0, 1, 50, 1000, 30000, LARGE };
        KvCommand cmd = { .op = ops[random_u64(random) % ELEMENTS(ops)] };
        unsigned kind = random_u64(random) % 10;

        snprintf(key, 64,
                 kind < 3 ? "/%u" :
                 kind < 7 ? "/%u/%u" :
                            "/%u/%u/%u",
                 (unsigned) (random_u64(random) % 4), (unsigned) (random_u64(random) % 4),
                 (unsigned) (random_u64(random) % 4));
        cmd.key = kv_string(key);
        if (cmd.op == KV_DELETE) {
                cmd.recursive = random_u64(random) % 2;
                return cmd;
        }
        cmd.value = (KvBytes) { large, sizes[random_u64(random) % (alone ? ELEMENTS(sizes) : 4)] };
        cmd.refresh = cmd.op != KV_CREATE && random_u64(random) % 4 == 0;
        if (cmd.refresh)
                cmd.value = (KvBytes) {};
        cmd.has_ttl = cmd.refresh || random_u64(random) % 4 == 0;
        cmd.ttl_ms = 1 + random_u64(random) % 100000;
        if (!cmd.refresh && cmd.op == KV_SET && random_u64(random) % 5 == 0) {
                cmd.has_prev_value = true;
                cmd.prev_value = (KvBytes) { large, random_u64(random) % 2 };
        }
        return cmd;
}

/* For any command and any tree, the encoded and stored bytes are at most the charged cost, and that is at
 * most the limit. */
static void what_is_charged_bounds_what_is_moved(void **state) {
        Fixture *f = *state;
        Random random;

        random_seed(&random, 20261120);
        for (unsigned round = 0; round < 1500; round++) {
                KvCommand writes[12], commands[12];
                char keys[ELEMENTS(commands)][64], inner[ELEMENTS(writes)][64];
                size_t n = 1 + random_u64(&random) % 4,
                       n_writes = 2 + random_u64(&random) % (ELEMENTS(writes) - 2);
                uint64_t estimated;
                size_t encoded;
                TreeMeta before, after;

                f->now_ms += random_u64(&random) % 2000;
                for (size_t i = 0; i < n; i++) {
                        commands[i] = draw(&random, keys[i], n == 1);
                        if (i == 0 && random_u64(&random) % 3 == 0) {
                                for (size_t k = 0; k < n_writes; k++)
                                        writes[k] = draw(&random, inner[k], false);
                                commands[i] = txn_of(writes, n_writes);
                        }
                        if (i == 1 && random_u64(&random) % 8 == 0)
                                commands[i] = expiry(100);
                }
                assert_int_equal(tree_meta(f->txn, &before), 0);
                estimated = n == 1 ? estimate(f, commands[0]).cost.total : 0;
                apply_from(f, f->number + 1, commands, n);
                if (n == 1 && f->status[0] == KV_OK && f->cost.total > estimated)
                        fail_msg("round %u: it was estimated at %llu and charged %llu", round,
                                 (unsigned long long) estimated, (unsigned long long) f->cost.total);
                assert_int_equal(tree_meta(f->txn, &after), 0);
                encoded = f->moved + (after.results.bytes > before.results.bytes ?
                                              after.results.bytes - before.results.bytes :
                                              0);
                assert_true(f->cost.total <= COST_ENTRY_MAX);
                assert_true(f->cost.total >= f->cost.bytes + f->cost.nodes * COST_PASS);
                assert_true(f->cost.nodes >= f->n_events + n);
                if (encoded > f->cost.total)
                        fail_msg("round %u: %zu bytes were encoded, and %llu charged", round, encoded,
                                 (unsigned long long) f->cost.total);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(
                        a_transaction_that_moves_too_much_is_refused_and_changes_nothing, setup, teardown),
                cmocka_unit_test_setup_teardown(below_the_feature_level_the_same_transaction_is_done_as_ever,
                                                setup_below, teardown),
                cmocka_unit_test_setup_teardown(what_is_allowed_and_what_is_refused_are_one_node_apart, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(counting_what_is_refused_counts, setup, teardown),
                cmocka_unit_test_setup_teardown(a_comparison_that_would_quote_too_much_is_no_exception, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(
                        the_answer_to_a_transaction_holds_no_more_refreshed_values_than_allowed, setup,
                        teardown),
                cmocka_unit_test_setup_teardown(
                        what_no_longer_fits_into_an_entry_has_no_effect_and_takes_effect_once_in_a_later_one,
                        setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_read_to_find_an_overtaken_number_is_charged, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(
                        a_command_is_not_deferred_for_what_was_read_to_find_its_number, setup, teardown),
                cmocka_unit_test_setup_teardown(a_refresh_keeps_no_value_but_in_its_answer, setup, teardown),
                cmocka_unit_test_setup_teardown(so_many_long_keys_share_one_beginning_and_no_more, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(
                        more_long_keys_of_an_older_tree_stay_readable_and_can_be_deleted, setup, teardown),
                cmocka_unit_test_setup_teardown(a_command_counts_each_group_of_long_keys_once, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(
                        what_a_transaction_has_removed_is_missing_for_its_later_writes, setup, teardown),
                cmocka_unit_test_setup_teardown(small_values_of_a_transaction_count_for_its_later_writes,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(as_many_directories_as_a_transaction_may_make_are_estimated,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(
                        the_child_of_a_post_may_be_a_long_key_where_its_directory_is_none, setup, teardown),
                cmocka_unit_test_setup_teardown(estimates_of_refused_commands_take_a_bounded_part_of_a_turn,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(
                        a_removal_that_is_refused_again_and_again_delays_no_count_of_others, setup, teardown),
                cmocka_unit_test_setup_teardown(what_counts_much_takes_no_time_from_what_counts_little, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_removal_that_was_too_large_is_counted_again_after_a_second,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(estimates_delay_no_heavy_command, setup, teardown),
                cmocka_unit_test_setup_teardown(many_values_on_their_way_make_no_other_one_large, setup,
                                                teardown),
                cmocka_unit_test(what_was_in_flight_in_another_term_holds_nothing_up),
                cmocka_unit_test_setup_teardown(a_large_directory_expires_in_pages_that_each_cost_little,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_due_with_large_values_goes_with_several_entries,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(
                        an_expiry_of_one_node_spares_the_next_when_that_one_was_renewed, setup, teardown),
                cmocka_unit_test_setup_teardown(rows_of_the_history_are_charged_before_the_writes,
                                                setup_history, teardown),
                cmocka_unit_test_setup_teardown(what_is_charged_bounds_what_is_moved, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
