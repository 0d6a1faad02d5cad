/* The leader's side of proposals, to another host that says what it likes: the bounds of what is kept for it.
 */
#include <fcntl.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "kvstore/kvstore_internal.h"
#include "kvstore/propose_internal.h"
#include "peers/session.h"
#include "tests/lib/commands.h"
#include "tests/lib/quiet_peer.h"
#include "tests/lib/store_inside.h"

enum { LARGE = 200 * 1024, LIFE_MS = 10000, SHARE_MS = 30 /* after which the next heavy command may go */ };

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

static uint64_t term_of(const QuietPeer *h) {
        KvState state;

        kv_state(h->store, &state);
        return state.term;
}

/* The result of a copy of a proposal of this host. */
static void take_result(QuietPeer *h, uint64_t number, const KvResult *result) {
        Proposals *p = h->store->proposals;

        proposals_take_result(p, proposals_find(p, p->options.origin, number), result);
}

static uint64_t entries_of(const QuietPeer *h) {
        KvState state;

        kv_state(h->store, &state);
        return state.raft_index;
}

static uint64_t kept_by(QuietPeer *h) {
        TreeMeta meta;

        assert_int_equal(store_meta(h->store, &meta), 0);
        return meta.results.bytes;
}

static bool exists(QuietPeer *h, const char *key) {
        return store_has(h->store, key);
}

static void meet(QuietPeer *h) {
        if (!h->asking.open)
                assert_true(quiet_peer_meet(h));
}

static Said receive(QuietPeer *h) {
        Said said = {};
        Frame frame;

        while (quiet_peer_receive(&h->asking, &frame)) {
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
                if (what == PROPOSED_BUSY || what == PROPOSED_REFUSED)
                        snprintf(said.cause, sizeof(said.cause), "%s", cause);
        }
        return said;
}

/* Without items: what time it is. */
static Said say(QuietPeer *h, uint64_t origin, uint64_t floor, bool again, const Item *items, size_t n,
                uint64_t deadline_ms) {
        _cleanup_writer_ Writer w = {};
        KvState state;

        meet(h);
        (void) receive(h);
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
                        assert_int_equal(kv_command_encode(items[i].cmd, KV_LEVEL_MAX, &cmd), 0);
                write_u64(&w, items[i].number);
                write_u64(&w, deadline_ms);
                write_blob(&w, cmd.bytes, cmd.size);
        }
        assert_int_equal(w.error, 0);
        assert_true(quiet_peer_send(h, PEER_PROPOSE, w.bytes, w.size));
        return receive(h);
}

static uint64_t deadline(QuietPeer *h) {
        return say(h, 1, 1, false, NULL, 0, 0).now_ms + LIFE_MS;
}

static Said propose(QuietPeer *h, uint64_t origin, uint64_t number, uint64_t floor, const char *key) {
        KvCommand cmd = SET(key, "1");

        return say(h, origin, floor, false, &(Item) { number, &cmd }, 1, deadline(h));
}

/* Numbers 1 to n of 'origin', of which it takes none back; each answer brings the large value that stood
 * there. Ends at the first that is refused, whose number is returned; 0: none was. */
static uint64_t keep_large(QuietPeer *h, uint64_t origin, uint64_t n, Said *ret) {
        static char value[LARGE];
        KvCommand cmd = COMMAND(KV_SET, "/large", .value = { value, sizeof(value) });

        memset(value, 'x', sizeof(value));
        for (uint64_t number = 1; number <= n; number++) {
                *ret = say(h, origin, 1, false, &(Item) { number, &cmd }, 1, deadline(h));
                if (ret->n[PROPOSED_BUSY] > 0)
                        return number;
                assert_int_equal(ret->n[PROPOSED_ACCEPTED], 1);
                quiet_peer_pass(h, SHARE_MS);
        }
        return 0;
}

static int host(void **state) {
        *state = quiet_peer_new(false);
        return 0;
}

static int host_end(void **state) {
        quiet_peer_free(*state);
        return 0;
}

/* -- Tests -- */

static void beyond_the_limit_an_origin_that_acknowledges_no_results_is_rejected(void **state) {
        QuietPeer *h = *state;
        uint64_t full, entries;
        Said said;

        full = keep_large(h, 99, 1000, &said);
        assert_in_range(full, DEDUP_MAX / LARGE, DEDUP_MAX / LARGE + 2 + PROPOSE_WINDOW);
        assert_string_equal(said.cause, PROPOSALS_FULL);
        assert_true(kept_by(h) >= DEDUP_MAX && kept_by(h) < DEDUP_MAX + 2 * LARGE);

        /* For any number of requests, of all origins that acknowledged no result. */
        entries = entries_of(h);
        for (unsigned i = 0; i < 20; i++) {
                said = propose(h, 100 + i, 1, 1, "/refused");
                assert_int_equal(said.n[PROPOSED_BUSY], 1);
                assert_string_equal(said.cause, PROPOSALS_FULL);
        }
        assert_int_equal(entries_of(h), entries);
        assert_false(exists(h, "/refused"));
}

static void an_origin_that_acknowledges_its_results_is_served_and_frees_space_for_all(void **state) {
        QuietPeer *h = *state;
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

static void space_returns_when_the_deadlines_have_passed(void **state) {
        QuietPeer *h = *state;
        Said said;

        assert_true(keep_large(h, 99, 1000, &said) > 0);
        quiet_peer_pass(h, LIFE_MS / 2);
        said = propose(h, 100, 1, 1, "/too-early");
        assert_int_equal(said.n[PROPOSED_BUSY], 1);
        /* Without writes, a rejected request writes the entry that advances cluster time. */
        quiet_peer_pass(h, LIFE_MS / 2 + DEDUP_SWEEP_MS);
        for (unsigned i = 0; i < 3 && kept_by(h) >= LARGE; i++) {
                (void) propose(h, 100, 1, 1, "/refused");
                quiet_peer_pass(h, DEDUP_SWEEP_MS);
        }
        assert_true(kept_by(h) < LARGE);
        assert_int_equal(propose(h, 100, 2, 1, "/in-time").n[PROPOSED_ACCEPTED], 1);
        assert_true(exists(h, "/in-time"));
        assert_false(exists(h, "/too-early"));
}

/* All at once exceed a frame, and no answer would arrive. */
static void answers_that_fit_into_no_frame_come_in_several(void **state) {
        enum { N = 70 };
        QuietPeer *h = *state;
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
        QuietPeer *h = *state;
        Item items[FRAME_COMMANDS_MAX];
        Said said;

        assert_int_equal(keep_large(h, 99, 2, &said), 0);
        for (size_t i = 0; i < ELEMENTS(items); i++)
                items[i] = (Item) { 2, NULL };
        said = say(h, 99, 1, true, items, ELEMENTS(items), deadline(h));
        assert_in_range(said.n[PROPOSED_DONE], 1, PEER_FRAME_MAX / LARGE);
}

/* Who asks and applies nothing himself hears of it in no other way. Not before it is certain: it may be in
 * the log. */
static void what_is_past_its_deadline_without_an_answer_is_said_to_be(void **state) {
        const KvCommand cmd = SET("/a", "1");
        const Item questions[] = { { 1, NULL }, { 2, NULL } };
        QuietPeer *h = *state;
        uint64_t deadline_ms = deadline(h);
        Said said;

        assert_int_equal(say(h, 99, 1, false, &(Item) { 1, &cmd }, 1, deadline_ms).n[PROPOSED_ACCEPTED], 1);
        said = say(h, 99, 1, true, questions, 2, deadline_ms);
        assert_int_equal(said.n[PROPOSED_DONE], 1);
        assert_int_equal(said.n[PROPOSED_PAST], 0);

        quiet_peer_pass(h, LIFE_MS + 1);
        meet(h);
        said = say(h, 99, 1, true, questions, 2, deadline_ms);
        assert_int_equal(said.n[PROPOSED_DONE], 1);
        assert_int_equal(said.n[PROPOSED_PAST], 1);
        assert_int_equal(say(h, 99, 1, true, questions, 2, deadline(h)).n[PROPOSED_PAST], 0);

        h->store->proposals->n_window++; /* as if an entry were not applied */
        said = say(h, 99, 1, true, questions, 2, deadline_ms);
        h->store->proposals->n_window--;
        assert_int_equal(said.n[PROPOSED_DONE], 1);
        assert_int_equal(said.n[PROPOSED_PAST], 0);
}

static void on_done(void *userdata, const KvResult *result) {
        *(KvStatus *) userdata = result->status;
}

static void a_late_copy_of_an_earlier_deadline_says_nothing_of_the_later_one(void **state) {
        const KvCommand cmd = SET("/late", "1");
        QuietPeer *h = *state;
        Proposals *p = h->store->proposals;
        KvStatus status = _KV_STATUS_MAX;
        uint64_t number;
        Proposal *x;

        assert_int_equal(kv_propose(h->store, &cmd, on_done, &status, &number), 0);
        x = proposals_find(p, p->options.origin, number);
        assert_non_null(x);
        TAILQ_REMOVE(&p->queue, x, entry); /* as if it had been sent once more, with a new deadline */
        x->state = PROPOSAL_SENT;
        x->copies = 1;
        x->item.deadline_ms = 5000;

        proposals_take_result(p, x, &(KvResult) { .status = KV_LATE, .now_ms = 4999 });
        assert_int_equal(x->state, PROPOSAL_SENT);
        assert_int_equal(x->copies, 1); /* so it is not "nothing happened" if the leader is lost now */

        proposals_take_result(p, x, &(KvResult) { .status = KV_LATE, .now_ms = 5001 });
        assert_int_equal(x->state, PROPOSAL_QUEUED);
        assert_int_equal(x->copies, 0);
        quiet_peer_run(h);
        assert_int_equal(status, KV_OK);
        assert_true(exists(h, "/late"));
}

/* -- Cost -- */

static Cost costliest(QuietPeer *h) {
        KvCounts counts;

        kv_counts(h->store, &counts);
        return counts.cost_max;
}

static char large[LARGE];

/* "/k0" and so on, each with a large value. */
static void lay_large(QuietPeer *h, unsigned n) {
        memset(large, 'x', sizeof(large));
        for (unsigned i = 0; i < n; i++) {
                char key[16];
                KvCommand cmd = { .op = KV_SET, .value = { large, sizeof(large) } };

                snprintf(key, sizeof(key), "/k%u", i);
                cmd.key = kv_string(key);
                assert_int_equal(say(h, 50, 1 + i, false, &(Item) { 1 + i, &cmd }, 1, deadline(h))
                                         .n[PROPOSED_ACCEPTED],
                                 1);
                quiet_peer_pass(h, SHARE_MS);
                assert_true(exists(h, key));
        }
        quiet_peer_pass(h, 3 * BUDGET_IN_FLIGHT_MS);
}

static void a_command_that_costs_too_much_is_refused_before_the_log(void **state) {
        QuietPeer *h = *state;
        KvCommand writes[500], txn = { .op = KV_TXN, .writes = writes, .n_writes = ELEMENTS(writes) };
        uint64_t entries;
        Said said;

        lay_large(h, 1);
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                writes[i] = COMMAND(KV_SET, "/k0", .refresh = true, TTL(1000000));
        entries = entries_of(h);
        said = say(h, 99, 1, false, &(Item) { 1, &txn }, 1, deadline(h));
        assert_int_equal(said.n[PROPOSED_REFUSED], 1);
        assert_non_null(strstr(said.cause, "16384 KiB"));
        assert_int_equal(entries_of(h), entries);

        /* What one of them costs is taken, in any number: each entry holds what it may. */
        txn.n_writes = 4;
        said = say(h, 99, 1, false, &(Item) { 1, &txn }, 1, deadline(h));
        assert_int_equal(said.n[PROPOSED_ACCEPTED], 1);
        assert_true(costliest(h).total <= COST_ENTRY_MAX);
}

/* No feature level is needed for it. */
static void what_would_cost_an_entry_too_much_goes_into_several(void **state) {
        enum { N = 40 };
        QuietPeer *h = *state;
        KvCommand sets[N];
        char keys[N][8];
        Item items[N];
        uint64_t entries;
        KvState now;
        Said said;

        kv_state(h->store, &now);
        lay_large(h, N);
        for (unsigned i = 0; i < N; i++) {
                snprintf(keys[i], sizeof(keys[i]), "/k%u", i);
                sets[i] = SET(keys[i], "1");
                items[i] = (Item) { 1 + i, &sets[i] };
        }
        entries = entries_of(h);
        said = say(h, 99, 1, false, items, N, deadline(h));
        assert_int_equal(said.n[PROPOSED_ACCEPTED], N);
        quiet_peer_pass(h, BUDGET_WAIT_MS);
        assert_true(entries_of(h) >= entries + 3);
        for (unsigned i = 0; i < N; i++) {
                KvNode node;

                assert_int_equal(store_node(h->store, keys[i], &node), 0);
                assert_int_equal(node.value.size, 1);
        }
        assert_true(costliest(h).total <= COST_ENTRY_MAX);
}

static void heavy_commands_take_their_share_and_no_more_and_others_pass(void **state) {
        enum { N = 400 };
        QuietPeer *h = *state;
        KvCommand set = SET("/k0", "1");
        KvCommand heavy[N];
        char keys[N][8];
        Item items[N];
        uint64_t began = h->now_ms;
        KvCounts before, after;
        unsigned n_taken;
        Said said;

        lay_large(h, 1);
        for (unsigned i = 0; i < N; i++) {
                /* A failed comparison quotes the value: it costs much, and leaves it there. */
                snprintf(keys[i], sizeof(keys[i]), "/k0");
                heavy[i] = SET(keys[i], "1", IF_VALUE("2"));
                items[i] = (Item) { 1 + i, &heavy[i] };
        }
        kv_counts(h->store, &before);
        said = say(h, 99, 1, false, items, N, deadline(h));
        n_taken = said.n[PROPOSED_ACCEPTED];
        assert_in_range(n_taken, 20, N - 1);
        assert_int_equal(said.n[PROPOSED_REFUSED] + n_taken, N);
        assert_non_null(strstr(said.cause, "expensive"));

        /* Who asks for little is not kept waiting. */
        began = h->now_ms;
        set.key = kv_string("/small");
        said = say(h, 98, 1, false, &(Item) { 1, &set }, 1, deadline(h));
        assert_int_equal(said.n[PROPOSED_ACCEPTED], 1);
        assert_true(exists(h, "/small"));
        assert_int_equal(h->now_ms, began);

        quiet_peer_pass(h, 2 * BUDGET_WAIT_MS);
        kv_counts(h->store, &after);
        assert_true(after.cost.total - before.cost.total <=
                    COST_ENTRY_MAX / (BUDGET_SHARE * COST_ENTRY_MS) * (BUDGET_WAIT_MS + 200) +
                            COST_ENTRY_MAX);
        assert_true(costliest(h).total <= COST_ENTRY_MAX);
        said = say(h, 99, N + 1, false, &(Item) { N + 1, &heavy[0] }, 1, deadline(h));
        assert_int_equal(said.n[PROPOSED_ACCEPTED], 1); /* a second later there is room */
}

/* A command may not be known to cost much before others are applied. */
static void what_is_on_its_way_counts(void **state) {
        enum { N = 200 };
        QuietPeer *h = *state;
        KvCommand commands[N];
        Item items[N];
        Said said;

        memset(large, 'x', sizeof(large));
        for (unsigned i = 0; i < N; i++) {
                commands[i] = COMMAND(KV_SET, "/k", .refresh = true, TTL(1000000));
                items[i] = (Item) { 1 + i, &commands[i] };
        }
        commands[0] = COMMAND(KV_SET, "/k", .value = { large, sizeof(large) });
        said = say(h, 99, 1, false, items, N, deadline(h));
        assert_int_equal(said.n[PROPOSED_ACCEPTED] + said.n[PROPOSED_REFUSED], N);
        quiet_peer_pass(h, 2 * BUDGET_WAIT_MS);
        assert_true(costliest(h).total <= COST_ENTRY_MAX);
}

typedef struct Outcome {
        unsigned n;
        KvStatus status;
} Outcome;

static void on_outcome(void *userdata, const KvResult *result) {
        Outcome *outcome = userdata;

        outcome->n++;
        outcome->status = result->status;
}

/* In the log, and not applied. */
static uint64_t propose_ours(QuietPeer *h, const KvCommand *cmd, Outcome *outcome) {
        uint64_t number;

        assert_int_equal(kv_propose(h->store, cmd, on_outcome, outcome, &number), 0);
        for (unsigned i = 0; i < 100 && h->n_works == 0; i++)
                (void) loop_run_due(&h->loop, 1);
        assert_true(h->n_works > 0);
        assert_int_equal(outcome->n, 0);
        return number;
}

/* Too late, or for a later entry: either way that copy has done nothing, and another one is made. */
static void a_copy_that_had_no_effect_is_proposed_again(void **state) {
        static const KvStatus statuses[] = { KV_LATE, KV_DEFERRED };
        KvCommand create = COMMAND(KV_CREATE, "/once", .value = kv_string("1"));
        QuietPeer *h = *state;

        for (size_t i = 0; i < ELEMENTS(statuses); i++) {
                KvCommand set = SET("/a", "1");
                uint64_t entries = entries_of(h), number;
                Outcome outcome = {};

                number = propose_ours(h, &set, &outcome);
                take_result(h, number, &(KvResult) { .status = statuses[i], .now_ms = UINT64_MAX });
                assert_int_equal(outcome.n, 0);
                quiet_peer_run(h);
                assert_int_equal(outcome.n, 1);
                assert_int_equal(outcome.status, KV_OK);
                assert_int_equal(entries_of(h), entries + 2);
        }
        /* The other copy may have had its effect all the same: it has it once. */
        Outcome outcome = {};
        uint64_t number = propose_ours(h, &create, &outcome);

        take_result(h, number, &(KvResult) { .status = KV_DEFERRED });
        quiet_peer_run(h);
        assert_int_equal(outcome.n, 1);
        assert_int_equal(outcome.status, KV_OK);
}

/* A host that begins to lead estimates what it took before, and there may be thousands of them. */
static void what_is_estimated_before_the_log_takes_the_work_of_several_turns(void **state) {
        enum { N = 8, CHECKS = 4000 };
        static KvCheck checks[CHECKS];
        KvCommand write = SET("/k", "2"), txn = {
                .op = KV_TXN, .checks = checks, .n_checks = CHECKS, .writes = &write, .n_writes = 1
        };
        uint64_t numbers[N], most = 0;
        QuietPeer *h = *state;
        Outcome outcome = {}, first = {};
        bool more = true;

        (void) propose_ours(h, &SET("/k", "1"), &first);
        quiet_peer_run(h);
        for (size_t i = 0; i < CHECKS; i++)
                checks[i] = (KvCheck) { .key = kv_string("/k"), .kind = KV_CHECK_EXISTS };
        for (size_t i = 0; i < N; i++)
                assert_int_equal(kv_propose(h->store, &txn, on_outcome, &outcome, &numbers[i]), 0);
        for (unsigned i = 0; i < 100 && h->n_works == 0; i++)
                (void) loop_run_due(&h->loop, 1);
        for (size_t i = 0; i < N; i++)
                take_result(h, numbers[i], &(KvResult) { .status = KV_DEFERRED });
        for (Proposal *x = h->store->proposals->own; x; x = x->hh.next)
                x->cost = 0;
        (void) turns_end_work(&h->loop.turns);
        for (unsigned pumps = 0; more && pumps < 100; pumps++) {
                more = loop_run_due(&h->loop, 1);
                most = MAX(most, turn_work_bytes(&h->loop.turns.now));
                (void) turns_end_work(&h->loop.turns);
        }
        assert_in_range(most, CHECKS * TURN_NODE, TURN_WORK_MAX + CHECKS * (TURN_NODE + 64));
        quiet_peer_pass(h, 2 * BUDGET_WAIT_MS);
        assert_int_equal(outcome.n, N);
        assert_int_equal(outcome.status, KV_OK);
}

/* A frame may hold as many as it likes. */
static void what_another_host_proposes_is_estimated_in_several_turns(void **state) {
        enum { N = 16, CHECKS = 4000, ONE = CHECKS * (TURN_NODE + 64) };
        static KvCheck checks[CHECKS];
        KvCommand write = SET("/k", "2"), txn = {
                .op = KV_TXN, .checks = checks, .n_checks = CHECKS, .writes = &write, .n_writes = 1
        };
        QuietPeer *h = *state;
        Proposals *p = h->store->proposals;
        uint64_t deadline_ms;
        Item items[N];
        Said said;

        assert_int_equal(propose(h, 50, 1, 1, "/k").n[PROPOSED_ACCEPTED], 1);
        for (size_t i = 0; i < CHECKS; i++)
                checks[i] = (KvCheck) { .key = kv_string("/k"), .kind = KV_CHECK_EXISTS };
        for (size_t i = 0; i < N; i++)
                items[i] = (Item) { 1 + i, &txn };
        deadline_ms = deadline(h);
        p->budget.heavy_index = UINT64_MAX; /* none goes into the log, whose work would count */
        (void) turns_end_work(&h->loop.turns);
        h->loop.turns.most = (TurnWork) {};
        said = say(h, 99, 1, false, items, N, deadline_ms);
        assert_int_equal(said.n[PROPOSED_ACCEPTED], N);
        (void) turns_end_work(&h->loop.turns);
        assert_in_range(turn_work_bytes(&h->loop.turns.most), ONE,
                        TURN_WORK_MAX + 3 * ONE); /* and one for the frame and for each pump */
        assert_int_equal(p->n_foreign, N);
        p->budget.heavy_index = 0;
        quiet_peer_pass(h, 2 * BUDGET_WAIT_MS);
        assert_int_equal(p->n_foreign, 0);
        said = say(h, 99, 1, true, &(Item) { N, NULL }, 1, deadline_ms);
        assert_int_equal(said.n[PROPOSED_DONE], 1);
}

static void what_is_refused_in_a_later_turn_is_said_to_the_host_that_proposed_it(void **state) {
        QuietPeer *h = *state;
        KvCommand writes[500], txn = { .op = KV_TXN, .writes = writes, .n_writes = ELEMENTS(writes) };
        uint64_t deadline_ms, entries;
        Said said;

        lay_large(h, 1);
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                writes[i] = COMMAND(KV_SET, "/k0", .refresh = true, TTL(1000000));
        deadline_ms = deadline(h);
        entries = entries_of(h);
        loop_count(&h->loop, 0, TURN_WORK_MAX);
        said = say(h, 99, 1, false, &(Item) { 1, &txn }, 1, deadline_ms);
        assert_int_equal(said.n[PROPOSED_REFUSED], 1);
        assert_non_null(strstr(said.cause, "16384 KiB"));
        assert_int_equal(said.n[PROPOSED_ACCEPTED], 0);
        assert_int_equal(h->store->proposals->n_foreign, 0);
        assert_int_equal(entries_of(h), entries);
}

/* Before all that came later, and at what it was charged: apply knows better. */
static void a_deferred_command_keeps_its_place_and_costs_what_it_was_charged(void **state) {
        KvCommand set = SET("/a", "1"), other = COMMAND(KV_SET, "/b");
        QuietPeer *h = *state;
        Proposals *p = h->store->proposals;
        Outcome outcome = {}, later = {};
        uint64_t number, second;

        number = propose_ours(h, &set, &outcome);
        h->now_ms += 10;
        assert_int_equal(kv_propose(h->store, &other, on_outcome, &later, &second), 0);
        take_result(h, number, &(KvResult) { .status = KV_DEFERRED, .charged = COST_HEAVY / 2 });
        assert_int_equal(TAILQ_FIRST(&p->queue)->item.number, number);
        assert_int_equal(TAILQ_FIRST(&p->queue)->cost, COST_HEAVY / 2);
        assert_int_equal(TAILQ_LAST(&p->queue, ProposalList)->item.number, second);
        quiet_peer_run(h);
        assert_int_equal(outcome.status, KV_OK);
        assert_int_equal(later.status, KV_OK);
}

static void small_commands_do_not_wait_for_large_ones_until_those_have_waited_long(void **state) {
        KvCommand wide = COMMAND(KV_SET, "/k0", .value = { large, PROPOSE_SMALL_MAX });
        KvCommand light = SET("/a", "1"), ours = wide;
        QuietPeer *h = *state;
        Proposals *p = h->store->proposals;
        Outcome outcome[5] = {};
        uint64_t number;

        ours.internal = true;
        assert_int_equal(kv_propose(h->store, &wide, on_outcome, &outcome[0], &number), 0);
        assert_int_equal(kv_propose(h->store, &wide, on_outcome, &outcome[1], &number), 0);
        assert_int_equal(kv_propose(h->store, &light, on_outcome, &outcome[2], &number), 0);
        assert_int_equal(TAILQ_FIRST(&p->queue)->item.number, number);
        assert_int_equal(kv_propose(h->store, &ours, on_outcome, &outcome[3], &number), 0);
        assert_int_equal(TAILQ_NEXT(TAILQ_FIRST(&p->queue), entry)->item.number, number);
        h->now_ms += LATER_MS;
        assert_int_equal(kv_propose(h->store, &light, on_outcome, &outcome[4], &number), 0);
        assert_int_equal(TAILQ_LAST(&p->queue, ProposalList)->item.number, number);
        quiet_peer_run(h);
        for (size_t i = 0; i < ELEMENTS(outcome); i++)
                assert_int_equal(outcome[i].status, KV_OK);
}

static void a_heavy_command_that_does_not_get_its_turn_is_refused(void **state) {
        QuietPeer *h = *state;
        KvCommand heavy = COMMAND(KV_SET, "/k0", .value = { large, sizeof(large) });
        KvCommand light = SET("/a", "1");
        Outcome outcome[2] = {};
        uint64_t entries;

        lay_large(h, 1);
        h->store->proposals->budget.heavy_index = UINT64_MAX; /* of an entry that is not applied */
        assert_int_equal(kv_propose(h->store, &heavy, on_outcome, &outcome[0], NULL), 0);
        assert_int_equal(kv_propose(h->store, &light, on_outcome, &outcome[1], NULL), 0);
        quiet_peer_pass(h, BUDGET_WAIT_MS);
        assert_int_equal(outcome[0].n, 0);
        assert_int_equal(outcome[1].n, 1);
        assert_int_equal(outcome[1].status, KV_OK);
        entries = entries_of(h);
        quiet_peer_pass(h, 2 * BUDGET_WAIT_MS);
        assert_int_equal(outcome[0].n, 1);
        assert_int_equal(outcome[0].status, KV_BUSY);
        assert_int_equal(entries_of(h), entries); /* nothing is left for one */
}

/* Its verdict is given once: the cost of a command of which nothing is known but that it is too costly. It
 * waits as long as it has to: only apply can refuse it. */
static void a_command_that_may_have_happened_is_estimated_once(void **state) {
        QuietPeer *h = *state;
        Proposals *p = h->store->proposals;
        KvCommand writes[500], txn = { .op = KV_TXN, .writes = writes, .n_writes = ELEMENTS(writes) };
        KvCommand light = SET("/a", "1");
        uint64_t number, deadline_ms;
        Outcome outcome = {}, other = {};
        Proposal *x;

        lay_large(h, 1);
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                writes[i] = COMMAND(KV_SET, "/k0", .refresh = true, TTL(1000000));
        txn.n_writes = 1;
        deadline_ms = deadline(h);
        assert_int_equal(kv_propose(h->store, &txn, on_outcome, &outcome, &number), 0);
        x = proposals_find(p, p->options.origin, number);
        /* As if a leader before had taken it. */
        txn.n_writes = ELEMENTS(writes);
        free((void *) x->item.command);
        p->own_bytes -= x->item.command_size;
        {
                _cleanup_writer_ Writer w = {};

                assert_int_equal(kv_command_encode(&txn, KV_LEVEL_MAX, &w), 0);
                x->item.command = writer_take(&w, &x->item.command_size);
        }
        p->own_bytes += x->item.command_size;
        x->copies = 1;
        x->cost = 0;
        x->item.deadline_ms = deadline_ms;
        p->budget.heavy_index = UINT64_MAX;
        quiet_peer_run(h);
        assert_int_equal(outcome.n, 0);
        assert_int_equal(x->state, PROPOSAL_QUEUED);
        assert_int_equal(x->cost, COST_COMMAND_MAX);
        x->cost--; /* an estimate would not find this */
        quiet_peer_pass(h, HEAVY_WAIT_MS + 1);
        assert_int_equal(kv_propose(h->store, &light, on_outcome, &other, NULL), 0);
        quiet_peer_run(h);
        assert_int_equal(other.n, 1);
        assert_int_equal(outcome.n, 0);
        assert_int_equal(x->state, PROPOSAL_QUEUED);
        assert_int_equal(x->cost, COST_COMMAND_MAX - 1);
        p->budget.heavy_index = 0;
        quiet_peer_pass(h, BUDGET_WAIT_MS);
        assert_int_equal(outcome.n, 1);
        assert_int_equal(outcome.status, KV_TOO_LARGE);
}

static size_t unsent;

static size_t unsent_of(const Stream *s) {
        return unsent;
}

/* The queue is full of one large frame: the kernel takes it piece by piece, and its memory is given back at
 * the end. */
static void a_session_whose_full_queue_moves_is_kept_and_one_that_stands_still_is_cut(void **state) {
        QuietPeer *h = *state;
        static StreamOps ops;

        assert_true(quiet_peer_meet(h));
        ops = *h->asked.base.ops;
        ops.queued = unsent_of;
        h->asked.base.ops = &ops;
        h->asked.base.held = unsent = PEER_QUEUE_MAX;
        assert_int_equal(peers_send(h->peers, QUIET_PEER_OTHER_ID, PEER_TERM_CHECK, "x", 1), -ENOBUFS);
        for (unsigned i = 0; i < 3; i++) {
                unsent -= i == 2 ? PEER_QUEUE_MAX - 100 : 1;
                quiet_peer_pass(h, SESSION_STALL_MS);
                assert_true(h->asked.open && !h->asked.closing);
                assert_int_equal(peers_send(h->peers, QUIET_PEER_OTHER_ID, PEER_TERM_CHECK, "x", 1),
                                 -ENOBUFS); /* it is still held */
        }
        quiet_peer_pass(h, SESSION_STALL_MS);
        assert_false(h->asked.open);
}

/* An answer of the leader's is given only when this host has recorded how far it is ahead of its own tree. */
static void what_cannot_be_recorded_is_not_acknowledged(void **state) {
        static const int errors[] = { 0, -ENOTDIR };
        QuietPeer *h = *state;
        ReadBound before = h->store->read_bound;

        for (size_t i = 0; i < ELEMENTS(errors); i++) {
                h->store->read_bound = (ReadBound) {
                        .dir_fd = errors[i] ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1, .met = true
                };
                assert_int_equal(kv_acknowledge(h->store, 3 * READ_BOUND_STEP + i), errors[i]);
                assert_int_equal(h->store->promised, 3 * READ_BOUND_STEP + i);
                closep(&h->store->read_bound.dir_fd);
        }
        h->store->read_bound = before;
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define HOST(f) cmocka_unit_test_setup_teardown(f, host, host_end)
                HOST(a_late_copy_of_an_earlier_deadline_says_nothing_of_the_later_one),
                HOST(a_command_that_costs_too_much_is_refused_before_the_log),
                HOST(what_would_cost_an_entry_too_much_goes_into_several),
                HOST(heavy_commands_take_their_share_and_no_more_and_others_pass),
                HOST(what_is_on_its_way_counts),
                HOST(a_copy_that_had_no_effect_is_proposed_again),
                HOST(what_is_estimated_before_the_log_takes_the_work_of_several_turns),
                HOST(what_another_host_proposes_is_estimated_in_several_turns),
                HOST(what_is_refused_in_a_later_turn_is_said_to_the_host_that_proposed_it),
                HOST(a_deferred_command_keeps_its_place_and_costs_what_it_was_charged),
                HOST(small_commands_do_not_wait_for_large_ones_until_those_have_waited_long),
                HOST(a_heavy_command_that_does_not_get_its_turn_is_refused),
                HOST(a_command_that_may_have_happened_is_estimated_once),
                HOST(what_is_past_its_deadline_without_an_answer_is_said_to_be),
                HOST(beyond_the_limit_an_origin_that_acknowledges_no_results_is_rejected),
                HOST(an_origin_that_acknowledges_its_results_is_served_and_frees_space_for_all),
                HOST(space_returns_when_the_deadlines_have_passed),
                HOST(answers_that_fit_into_no_frame_come_in_several),
                HOST(a_frame_that_asks_a_thousand_times_for_one_answer_gets_no_thousand),
                HOST(a_session_whose_full_queue_moves_is_kept_and_one_that_stands_still_is_cut),
                HOST(what_cannot_be_recorded_is_not_acknowledged),
        };

        log_set_max_priority(LOG_EMERG);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
