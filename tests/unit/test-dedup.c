#include "tests/lib/test.h"

#include "base/clock.h"
#include "kvstore/apply/apply.h"
#include "kvstore/apply/dedup.h"
#include "tests/lib/apply_sink.h"
#include "tests/lib/commands.h"
#include "tests/lib/scratch.h"

enum { LIFE_MS = 10000 };

typedef struct Fixture {
        char *scratch;
        Tree *tree;
        TreeTxn *txn; /* a write transaction, open */
        uint64_t entry, cluster_ms;
        KvResult *answers[64];
        uint64_t numbers[64];
        unsigned n, n_events;
} Fixture;

static void on_result(void *userdata, uint64_t origin, uint64_t number, const KvResult *result) {
        Fixture *f = userdata;

        assert_true(f->n < ELEMENTS(f->answers));
        f->numbers[f->n] = number;
        f->answers[f->n++] = kv_result_copy(result);
}

static void on_event(void *userdata, const KvEvent *event) {
        ((Fixture *) userdata)->n_events++;
}

static void forget_answers(Fixture *f) {
        while (f->n > 0)
                free(f->answers[--f->n]);
        f->n_events = 0;
}

static int setup(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *f = NEW0(Fixture, 1);

        f->scratch = scratch_new();
        path = scratch_path(f->scratch, "tree");
        f->cluster_ms = 1000000;
        assert_int_equal(tree_open(path, &(TreeOptions) {}, &f->tree, NULL), 0);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        forget_answers(f);
        tree_abort(f->txn);
        tree_close(f->tree);
        scratch_free(f->scratch);
        free(f);
        return 0;
}

/* -- Entries -- */

typedef struct Entry {
        Writer w;
        KvBatch batch;
        uint64_t origin, acknowledged, deadline_ms;
} Entry;

static Entry entry_begin(Fixture *f, uint64_t origin, uint64_t acknowledged) {
        Entry e = { .origin = origin, .acknowledged = acknowledged, .deadline_ms = f->cluster_ms + LIFE_MS };

        kv_batch_begin(&e.batch, &e.w, &(KvBatchHead) { .cluster_ms = f->cluster_ms });
        return e;
}

static void entry_add(Entry *e, uint64_t number, KvCommand cmd) {
        _cleanup_writer_ Writer bytes = {};

        assert_int_equal(kv_command_encode(&cmd, KV_LEVEL_MAX, &bytes), 0);
        kv_batch_add(&e->batch, &e->w,
                     &(KvBatchItem) {
                             .origin = e->origin,
                             .number = number,
                             .acknowledged = e->acknowledged,
                             .deadline_ms = e->deadline_ms,
                             .command = bytes.bytes,
                             .command_size = bytes.size,
                     });
}

static void entry_apply(Fixture *f, const Entry *e) {
        assert_int_equal(
                sink_apply_batch(
                        f->txn, ++f->entry, 3, e->w.bytes, e->w.size,
                        &(ApplySink) { .on_result = on_result, .on_event = on_event, .userdata = f }),
                0);
}

static void ask(Fixture *f, uint64_t origin, uint64_t number, uint64_t acknowledged, KvCommand cmd) {
        Entry e = entry_begin(f, origin, acknowledged);

        entry_add(&e, number, cmd);
        entry_apply(f, &e);
        writer_done(&e.w);
}

static KvCommand set(const char *key, const char *value) {
        return SET(key, value);
}

static TreeMeta meta_of(Fixture *f) {
        TreeMeta meta;

        assert_int_equal(tree_meta(f->txn, &meta), 0);
        return meta;
}

/* Counts, sum and hash are as what is stored. */
static void check_tree(Fixture *f) {
        uint64_t hash, kept;

        assert_int_equal(tree_check(f->txn, NULL), 0);
        assert_int_equal(tree_hash(f->txn, &hash), 0);
        assert_int_equal(tree_kept_hash(f->txn, &kept), 0);
        assert_int_equal(hash, kept);
}

static void same_node(const KvNode *a, const KvNode *b) {
        assert_true(kv_bytes_equal(a->key, b->key));
        assert_true(kv_bytes_equal(a->value, b->value));
        assert_int_equal(a->dir, b->dir);
        assert_int_equal(a->created, b->created);
        assert_int_equal(a->modified, b->modified);
        assert_int_equal(a->expires_ms, b->expires_ms);
}

static void same_result(const KvResult *a, const KvResult *b) {
        assert_int_equal(a->status, b->status);
        assert_int_equal(a->action, b->action);
        assert_int_equal(a->internal, b->internal);
        assert_int_equal(a->index, b->index);
        assert_int_equal(a->now_ms, b->now_ms);
        assert_int_equal(a->raft_index, b->raft_index);
        assert_int_equal(a->term, b->term);
        assert_int_equal(a->refused_at, b->refused_at);
        assert_true(kv_bytes_equal(a->cause, b->cause));
        assert_int_equal(a->has_node, b->has_node);
        assert_int_equal(a->has_prev, b->has_prev);
        assert_int_equal(a->has_found, b->has_found);
        same_node(&a->node, &b->node);
        same_node(&a->prev, &b->prev);
        same_node(&a->found, &b->found);
        assert_int_equal(a->n_written, b->n_written);
        for (size_t i = 0; i < a->n_written; i++) {
                assert_int_equal(a->written[i].action, b->written[i].action);
                assert_int_equal(a->written[i].has_prev, b->written[i].has_prev);
                assert_int_equal(a->written[i].prev_cut, b->written[i].prev_cut);
                same_node(&a->written[i].node, &b->written[i].node);
                same_node(&a->written[i].prev, &b->written[i].prev);
        }
}

/* -- What is asked again -- */

static void a_repeated_request_gets_its_first_answer_and_changes_nothing(void **state) {
        KvCheck holds[] = { { .kind = KV_CHECK_EXISTS, .key = kv_string("/a") } };
        KvCheck differs[] = {
                { .kind = KV_CHECK_EXISTS, .key = kv_string("/a") },
                { .kind = KV_CHECK_VALUE, .key = kv_string("/ttl"), .value = kv_string("no") }
        };
        KvCommand writes[] = { set("/a", "txn"), COMMAND(KV_DELETE, "/b"), COMMAND(KV_CREATE, "/c") };
        KvCommand refused[] = { set("/x", "1"), COMMAND(KV_CREATE, "/a") };
        const KvCommand commands[] = {
                set("/a", "1"),
                set("/a", "two"),
                COMMAND(KV_CREATE, "/b", .value = kv_string("v")),
                COMMAND(KV_CREATE, "/b"),
                SET("/ttl", "t", TTL(500)),
                COMMAND(KV_UPDATE, "/ttl", .refresh = true, TTL(900)),
                COMMAND(KV_SET, "/ttl", .refresh = true),
                COMMAND(KV_UPDATE, "/none", .value = kv_string("x")),
                COMMAND(KV_SET, "/dir", .dir = true, TTL(70)),
                COMMAND(KV_UPDATE, "/dir", .dir = true),
                COMMAND(KV_POST, "/", .value = kv_string("in order")),
                COMMAND(KV_POST, "/q", .value = kv_string("in order")),
                SET("/a", "swapped", IF_VALUE("two")),
                SET("/a", "again", .prev_index = 1),
                { .op = KV_TXN, .checks = holds, .n_checks = 1, .writes = writes, .n_writes = 3 },
                { .op = KV_TXN, .checks = differs, .n_checks = 2, .writes = writes, .n_writes = 3 },
                { .op = KV_TXN, .writes = refused, .n_writes = 2 },
                { .op = KV_TXN, .writes = writes, .n_writes = 1, .internal = true },
                COMMAND(KV_DELETE, "/q", .recursive = true),
                COMMAND(KV_DELETE, "/a", IF_VALUE("txn")),
                SET("/", "x"),
        };
        Fixture *f = *state;
        Entry first = entry_begin(f, 5, 1);
        uint64_t index, hash, again;
        unsigned n;

        for (size_t i = 0; i < ELEMENTS(commands); i++)
                entry_add(&first, i + 1, commands[i]);
        entry_apply(f, &first);
        n = f->n;
        assert_int_equal(n, ELEMENTS(commands));
        for (unsigned i = 0; i < n; i++)
                assert_false(f->answers[i]->again);
        index = meta_of(f).index;
        assert_int_equal(tree_hash(f->txn, &hash), 0);
        f->n_events = 0;

        /* The same entry, by another leader; and once more within one entry. */
        for (size_t i = 0; i < ELEMENTS(commands); i++)
                entry_add(&first, i + 1, commands[i]);
        entry_apply(f, &first);
        assert_int_equal(f->n, 3 * n);
        for (unsigned i = 0; i < 3 * n; i++) {
                assert_int_equal(f->numbers[i], i % n + 1);
                if (i >= n)
                        assert_true(f->answers[i]->again);
                same_result(f->answers[i], f->answers[i % n]);
        }
        assert_int_equal(f->n_events, 0);
        assert_int_equal(meta_of(f).index, index);
        assert_int_equal(tree_hash(f->txn, &again), 0);
        assert_int_equal(again, hash);
        check_tree(f);
        writer_done(&first.w);
}

static void one_entry_that_asks_twice_does_it_once(void **state) {
        Fixture *f = *state;
        Entry e = entry_begin(f, 5, 1);

        entry_add(&e, 1, COMMAND(KV_POST, "/q"));
        entry_add(&e, 1, COMMAND(KV_POST, "/q"));
        entry_apply(f, &e);
        assert_int_equal(f->n, 2);
        same_result(f->answers[0], f->answers[1]);
        assert_int_equal(meta_of(f).index, 1);
        writer_done(&e.w);
}

static void numbers_that_come_late_are_new_and_those_of_another_origin_too(void **state) {
        Fixture *f = *state;

        ask(f, 5, 9, 1, set("/a", "9"));
        ask(f, 5, 3, 1, set("/a", "3"));
        ask(f, 6, 9, 1, set("/a", "other"));
        assert_int_equal(meta_of(f).index, 3);
        ask(f, 5, 3, 1, set("/a", "3"));
        ask(f, 5, 9, 1, set("/a", "9"));
        assert_int_equal(f->answers[3]->index, 2);
        assert_int_equal(f->answers[4]->index, 1);
        assert_int_equal(meta_of(f).index, 3);
        check_tree(f);
}

static void below_the_acknowledged_bound_nothing_is_applied_or_cached(void **state) {
        Fixture *f = *state;

        for (uint64_t i = 1; i <= 10; i++)
                ask(f, 5, i, 1, set("/a", "1"));
        assert_int_equal(meta_of(f).results.n, 10);
        ask(f, 5, 11, 11, set("/a", "2"));
        assert_int_equal(meta_of(f).results.n, 1);
        assert_int_equal(dedup_bound(f->txn, 5), 11);
        assert_int_equal(f->n, 11);

        /* An old copy, which says an old acknowledged. */
        ask(f, 5, 10, 1, set("/a", "3"));
        assert_int_equal(f->n, 11);
        assert_int_equal(meta_of(f).index, 11);
        check_tree(f);
}

static void past_its_deadline_a_command_does_nothing_and_says_so(void **state) {
        Fixture *f = *state;
        Entry e = entry_begin(f, 5, 1);
        TreeMeta meta;

        entry_add(&e, 1, set("/a", "1"));
        f->cluster_ms += LIFE_MS + 1;
        ask(f, 6, 1, 1, set("/b", "1")); /* time goes on by this */
        entry_apply(f, &e);
        assert_int_equal(f->answers[1]->status, KV_LATE);
        assert_int_equal(meta_of(f).index, 1);

        /* The very millisecond is in time; what is late is not remembered, and may come with a new deadline.
         */
        e.deadline_ms = f->cluster_ms;
        entry_add(&e, 1, set("/a", "1"));
        entry_apply(f, &e);
        assert_int_equal(f->answers[2]->status, KV_LATE);
        assert_int_equal(f->answers[3]->status, KV_OK);

        /* A kept answer is given even to who comes late. */
        ask(f, 5, 2, 1, set("/a", "2"));
        meta = meta_of(f);
        assert_int_equal(meta.index, 3);
        writer_done(&e.w);
}

static void answers_go_with_their_deadline(void **state) {
        Fixture *f = *state;

        for (uint64_t origin = 1; origin <= 20; origin++)
                ask(f, origin, 1, 1, set("/a", "1"));
        assert_int_equal(meta_of(f).results.n, 20);
        f->cluster_ms += LIFE_MS;
        ask(f, 21, 1, 1, set("/a", "1"));
        assert_int_equal(meta_of(f).results.n, 21); /* to the millisecond */
        f->cluster_ms += DEDUP_SWEEP_MS - 1;
        ask(f, 22, 1, 1, set("/a", "1"));
        assert_int_equal(meta_of(f).results.n, 22); /* looked for once a second */
        f->cluster_ms += 1;
        ask(f, 23, 1, 1, set("/a", "1"));
        assert_int_equal(meta_of(f).results.n, 3);
        check_tree(f);
}

static void without_a_deadline_no_answer_is_kept(void **state) {
        Fixture *f = *state;
        Entry e = entry_begin(f, 5, 1);

        e.deadline_ms = 0;
        entry_add(&e, 1, set("/a", "1"));
        entry_apply(f, &e);
        entry_apply(f, &e);
        assert_int_equal(meta_of(f).index, 2);
        assert_int_equal(meta_of(f).results.n, 0);
        assert_int_equal(meta_of(f).results.bytes, 0);
        writer_done(&e.w);
}

static void what_is_too_large_to_be_kept_is_unknown_not_invented(void **state) {
        _cleanup_free_ char *value = malloc(KV_VALUE_MAX);
        Fixture *f = *state;
        Entry e;
        char key[8];

        memset(value, 'v', KV_VALUE_MAX);
        for (unsigned i = 0; i < 5; i++) {
                snprintf(key, sizeof(key), "/%u", i);
                ask(f, 5, i + 1, i + 1, COMMAND(KV_SET, key, .value = { value, KV_VALUE_MAX }));
        }
        forget_answers(f);
        e = entry_begin(f, 5, 10);
        for (unsigned i = 0; i < 5; i++) {
                snprintf(key, sizeof(key), "/%u", i);
                entry_add(&e, 10 + i, COMMAND(KV_DELETE, key));
        }
        entry_apply(f, &e);
        assert_true(meta_of(f).results.bytes < DEDUP_VALUES_MAX + 4096);
        entry_apply(f, &e);
        for (unsigned i = 0; i < 4; i++)
                same_result(f->answers[i], f->answers[5 + i]);
        assert_int_equal(f->answers[4]->status, KV_OK);
        assert_int_equal(f->answers[9]->status, KV_UNKNOWN);
        assert_int_equal(meta_of(f).index, 10);
        writer_done(&e.w);
}

static void answers_are_in_the_checkpoint_and_in_the_hash(void **state) {
        _cleanup_free_ char *to = NULL;
        Fixture *f = *state;
        uint64_t with, without;
        TreeOptions read_only = { .read_only = true };
        TreeMeta meta;
        TreeTxn *txn;
        Tree *copy;

        ask(f, 5, 1, 1, set("/a", "1"));
        assert_int_equal(tree_hash(f->txn, &without), 0);
        assert_int_equal(tree_put_result(f->txn, 7, 1, kv_string("record")), 0);
        assert_int_equal(tree_hash(f->txn, &with), 0);
        assert_true(with != without);
        check_tree(f);

        assert_int_equal(tree_commit(f->txn), 0);
        to = scratch_path(f->scratch, "copy");
        assert_int_equal(tree_copy(f->tree, to, &meta, NULL), 0);
        assert_int_equal(tree_begin_write(f->tree, &f->txn), 0);

        assert_int_equal(tree_open(to, &read_only, &copy, NULL), 0);
        assert_int_equal(tree_begin_read(copy, &txn), 0);
        assert_int_equal(tree_hash(txn, &without), 0);
        assert_int_equal(with, without);
        assert_int_equal(dedup_bound(txn, 5), 1);
        tree_abort(txn);
        tree_close(copy);
}

static void a_number_with_another_command_is_answered_unknown_and_not_applied(void **state) {
        KvCommand writes[] = { set("/a", "1"), set("/b", "1") };
        Fixture *f = *state;

        ask(f, 5, 1, 1, (KvCommand) { .op = KV_TXN, .writes = writes, .n_writes = 2 });
        ask(f, 5, 1, 1, set("/a", "2"));
        assert_int_equal(f->answers[1]->status, KV_UNKNOWN);
        assert_int_equal(meta_of(f).index, 2);
}

/* -- At random -- */

/* Three origins ask, ask again, move their floors and miss their deadlines; each number has its effect once
 * at most. */
static void in_any_order_no_command_takes_effect_twice(void **state) {
        enum { ORIGINS = 3, NUMBERS = 400 };
        static uint64_t index_of[ORIGINS][NUMBERS + 1];
        uint64_t floors[ORIGINS] = { 1, 1, 1 }, last[ORIGINS] = {}, deadlines[ORIGINS][NUMBERS + 1] = {};
        Fixture *f = *state;
        Random random;
        unsigned n_again = 0, n_late = 0;

        memset(index_of, 0, sizeof(index_of));
        random_seed(&random, 4711);
        for (unsigned round = 0; round < 3000; round++) {
                unsigned o = random_below(&random, ORIGINS);
                Entry e = entry_begin(f, o + 1, floors[o]);
                uint64_t before = meta_of(f).index;

                for (uint64_t k = 0, n = 1 + random_below(&random, 4); k < n; k++) {
                        uint64_t number = floors[o] + random_below(&random, 5);

                        if (number > NUMBERS)
                                continue;
                        if (deadlines[o][number] == 0)
                                deadlines[o][number] = f->cluster_ms + LIFE_MS;
                        e.deadline_ms = deadlines[o][number];
                        entry_add(&e, number, COMMAND(KV_POST, "/q"));
                        last[o] = MAX(last[o], number);
                }
                entry_apply(f, &e);
                writer_done(&e.w);
                for (unsigned i = 0; i < f->n; i++) {
                        uint64_t *seen = &index_of[o][f->numbers[i]];

                        if (f->answers[i]->status == KV_LATE) {
                                assert_true(*seen == 0 || deadlines[o][f->numbers[i]] < f->cluster_ms);
                                n_late++;
                                continue;
                        }
                        assert_int_equal(f->answers[i]->again, *seen != 0);
                        n_again += *seen != 0;
                        if (*seen == 0)
                                assert_int_equal(f->answers[i]->index, ++before);
                        *seen = *seen ?: f->answers[i]->index;
                        assert_int_equal(f->answers[i]->index, *seen);
                }
                assert_int_equal(meta_of(f).index, before);
                forget_answers(f);
                f->cluster_ms += random_below(&random, 2000);
                if (random_below(&random, 4) == 0)
                        floors[o] = MIN(floors[o] + random_below(&random, 5), last[o] + 1);
        }
        assert_true(n_again > 100 && n_late > 100);
        check_tree(f);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_repeated_request_gets_its_first_answer_and_changes_nothing,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(one_entry_that_asks_twice_does_it_once, setup, teardown),
                cmocka_unit_test_setup_teardown(
                        numbers_that_come_late_are_new_and_those_of_another_origin_too, setup, teardown),
                cmocka_unit_test_setup_teardown(below_the_acknowledged_bound_nothing_is_applied_or_cached,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(past_its_deadline_a_command_does_nothing_and_says_so, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(answers_go_with_their_deadline, setup, teardown),
                cmocka_unit_test_setup_teardown(without_a_deadline_no_answer_is_kept, setup, teardown),
                cmocka_unit_test_setup_teardown(what_is_too_large_to_be_kept_is_unknown_not_invented, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(answers_are_in_the_checkpoint_and_in_the_hash, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(
                        a_number_with_another_command_is_answered_unknown_and_not_applied, setup, teardown),
                cmocka_unit_test_setup_teardown(in_any_order_no_command_takes_effect_twice, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
