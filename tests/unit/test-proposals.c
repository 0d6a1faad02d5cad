/* The leader's side of proposals, to another host that says what it likes: the bounds of what is kept for it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/log.h"
#include "kvstore/propose_internal.h"
#include "tests/lib/still.h"

enum { LARGE = 200 * 1024, LIFE_MS = 10000 };

/* What was said to the last frame, by what became of a command. */
typedef struct Said {
        unsigned n[_PROPOSED_MAX], frames[_PROPOSED_MAX];
        size_t largest; /* frame */
        uint64_t now_ms;
        char cause[ERROR_MESSAGE_MAX];
} Said;

typedef struct Item {
        uint64_t number;
        const KvCommand *cmd; /* NULL: asks what became of it */
} Item;

static uint64_t term_of(const Still *h) {
        KvState state;

        kv_state(h->store, &state);
        return state.term;
}

static uint64_t entries_of(const Still *h) {
        KvState state;

        kv_state(h->store, &state);
        return state.raft_index;
}

static uint64_t kept_by(Still *h) {
        TreeMeta meta;
        TreeTxn *txn;

        assert_int_equal(kv_read(h->store, &txn), 0);
        assert_int_equal(tree_meta(txn, &meta), 0);
        tree_abort(txn);
        return meta.results.bytes;
}

static bool exists(Still *h, const char *key) {
        TreeTxn *txn;
        KvNode node;
        int r;

        assert_int_equal(kv_read(h->store, &txn), 0);
        r = tree_get(txn, kv_string(key), &node);
        tree_abort(txn);
        return r == 0;
}

static void meet(Still *h) {
        if (!h->asking.open)
                assert_true(still_meet(h));
}

static Said hear(Still *h) {
        Said said = {};
        Frame frame;

        while (still_hear(&h->asking, &frame)) {
                Reader r = reader_over(frame.payload, frame.size);
                _cleanup_free_ char *cause = NULL;
                unsigned what;

                if (frame.type != PEER_PROPOSED)
                        continue;
                (void) read_raw(&r, 3 * 8 + 2 * 8); /* head, term, origin */
                said.now_ms = read_u64(&r);
                what = read_u8(&r);
                (void) read_u8(&r);
                cause = read_string(&r, ERROR_MESSAGE_MAX);
                assert_true(!r.failed && what < _PROPOSED_MAX);
                said.n[what] += read_varint(&r);
                said.frames[what]++;
                said.largest = MAX(said.largest, frame.size);
                if (what == PROPOSED_BUSY)
                        snprintf(said.cause, sizeof(said.cause), "%s", cause);
        }
        return said;
}

/* Without items: what time it is. */
static Said say(Still *h, uint64_t origin, uint64_t floor, bool again, const Item *items, size_t n, uint64_t deadline_ms) {
        _cleanup_writer_ Writer w = {};
        KvState state;

        meet(h);
        (void) hear(h);
        kv_state(h->store, &state);
        write_u64(&w, state.cluster_id);
        write_u64(&w, 2);
        write_u64(&w, state.raft_id);
        write_u64(&w, term_of(h));
        write_u64(&w, origin);
        write_u64(&w, floor);
        write_u8(&w, again);
        write_varint(&w, n);
        for (size_t i = 0; i < n; i++) {
                _cleanup_writer_ Writer cmd = {};

                if (items[i].cmd)
                        assert_int_equal(kv_command_encode(items[i].cmd, &cmd), 0);
                write_u64(&w, items[i].number);
                write_u64(&w, deadline_ms);
                write_blob(&w, cmd.bytes, cmd.size);
        }
        assert_int_equal(w.error, 0);
        assert_true(still_say(h, PEER_PROPOSE, w.bytes, w.size));
        return hear(h);
}

static uint64_t deadline(Still *h) {
        return say(h, 1, 1, false, NULL, 0, 0).now_ms + LIFE_MS;
}

static Said propose(Still *h, uint64_t origin, uint64_t number, uint64_t floor, const char *key) {
        KvCommand cmd = { .op = KV_SET, .key = kv_string(key), .value = kv_string("1") };

        return say(h, origin, floor, false, &(Item) { number, &cmd }, 1, deadline(h));
}

/* Numbers 1 to n of 'origin', of which it takes none back; each answer brings the large value that stood there. Ends at the first that is
 * refused, whose number is returned; 0: none was. */
static uint64_t keep_large(Still *h, uint64_t origin, uint64_t n, Said *ret) {
        static char value[LARGE];
        KvCommand cmd = { .op = KV_SET, .key = kv_string("/large"), .value = { value, sizeof(value) } };

        memset(value, 'x', sizeof(value));
        for (uint64_t number = 1; number <= n; number++) {
                *ret = say(h, origin, 1, false, &(Item) { number, &cmd }, 1, deadline(h));
                if (ret->n[PROPOSED_BUSY] > 0)
                        return number;
                assert_int_equal(ret->n[PROPOSED_ACCEPTED], 1);
        }
        return 0;
}

static int host(void **state) {
        *state = still_new(false);
        return 0;
}

static int host_end(void **state) {
        still_free(*state);
        return 0;
}

/* -- Tests -- */

static void when_the_answers_kept_are_too_many_who_takes_none_back_is_refused_before_the_log(void **state) {
        Still *h = *state;
        uint64_t full, entries;
        Said said;

        full = keep_large(h, 99, 1000, &said);
        assert_in_range(full, RESULTS_MAX / LARGE, RESULTS_MAX / LARGE + 2 + PROPOSE_WINDOW);
        assert_string_equal(said.cause, PROPOSALS_FULL);
        assert_true(kept_by(h) >= RESULTS_MAX && kept_by(h) < RESULTS_MAX + 2 * LARGE);

        /* However often it is asked, and whoever asks that has taken nothing back. */
        entries = entries_of(h);
        for (unsigned i = 0; i < 20; i++) {
                said = propose(h, 100 + i, 1, 1, "/refused");
                assert_int_equal(said.n[PROPOSED_BUSY], 1);
                assert_string_equal(said.cause, PROPOSALS_FULL);
        }
        assert_int_equal(entries_of(h), entries);
        assert_false(exists(h, "/refused"));
}

static void who_takes_his_answers_is_served_and_makes_room_for_all(void **state) {
        Still *h = *state;
        uint64_t full;
        Said said;

        full = keep_large(h, 99, 1000, &said);
        assert_true(full > 0);
        said = propose(h, 99, full, full, "/served");
        assert_int_equal(said.n[PROPOSED_ACCEPTED], 1);
        assert_true(exists(h, "/served"));
        assert_true(kept_by(h) < LARGE);
        said = propose(h, 100, 1, 1, "/another");
        assert_int_equal(said.n[PROPOSED_ACCEPTED], 1);
        assert_true(exists(h, "/another"));
}

static void room_returns_when_the_deadlines_are_passed(void **state) {
        Still *h = *state;
        Said said;

        assert_true(keep_large(h, 99, 1000, &said) > 0);
        still_pass(h, LIFE_MS / 2);
        said = propose(h, 100, 1, 1, "/too-early");
        assert_int_equal(said.n[PROPOSED_BUSY], 1);
        /* Nobody writes meanwhile: who asks and is refused brings the entry that lets time pass. */
        still_pass(h, LIFE_MS / 2 + RESULTS_SWEEP_MS);
        for (unsigned i = 0; i < 3 && kept_by(h) >= LARGE; i++) {
                (void) propose(h, 100, 1, 1, "/refused");
                still_pass(h, RESULTS_SWEEP_MS);
        }
        assert_true(kept_by(h) < LARGE);
        assert_int_equal(propose(h, 100, 1, 1, "/in-time").n[PROPOSED_ACCEPTED], 1);
        assert_true(exists(h, "/in-time") && !exists(h, "/too-early"));
}

/* All at once they would not go into a frame, and nobody would hear of any. */
static void answers_that_fit_into_no_frame_come_in_several(void **state) {
        enum { N = 70 };
        Still *h = *state;
        unsigned rounds = 0, n = 0;
        Item items[N];
        Said said;

        assert_int_equal(keep_large(h, 99, N, &said), 0);
        while (n < N) {
                for (unsigned i = n; i < N; i++)
                        items[i] = (Item) { i + 1, NULL };
                said = say(h, 99, 1, true, items + n, N - n, deadline(h));
                assert_true(said.n[PROPOSED_DONE] > 0 && said.largest <= PEER_FRAME_MAX);
                n += said.n[PROPOSED_DONE];
                rounds++;
        }
        assert_int_equal(n, N);
        assert_true(rounds > 1);
}

static void a_frame_that_asks_a_thousand_times_for_one_answer_gets_no_thousand(void **state) {
        Still *h = *state;
        Item items[FRAME_COMMANDS_MAX];
        Said said;

        assert_int_equal(keep_large(h, 99, 2, &said), 0);
        for (size_t i = 0; i < ELEMENTS(items); i++)
                items[i] = (Item) { 2, NULL };
        said = say(h, 99, 1, true, items, ELEMENTS(items), deadline(h));
        assert_in_range(said.n[PROPOSED_DONE], 1, PEER_FRAME_MAX / LARGE);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define HOST(f) cmocka_unit_test_setup_teardown(f, host, host_end)
                HOST(when_the_answers_kept_are_too_many_who_takes_none_back_is_refused_before_the_log),
                HOST(who_takes_his_answers_is_served_and_makes_room_for_all),
                HOST(room_returns_when_the_deadlines_are_passed),
                HOST(answers_that_fit_into_no_frame_come_in_several),
                HOST(a_frame_that_asks_a_thousand_times_for_one_answer_gets_no_thousand),
        };

        log_set_max_priority(LOG_EMERG);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
