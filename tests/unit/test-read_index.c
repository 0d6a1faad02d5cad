/* Reads checks: the hosts that are asked, the answers that count, repetitions, cancellation and the end.
 * The replica is played. */

#include "tests/lib/test.h"
#include "kvstore/raft/read_index.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_replica.h"

enum { TERM, READ, STRANGE }; /* kinds of checks */
enum { SWEEP_MS = 50 };

static ReadIndex *reads;

/* One that waits. */
typedef struct Waiting {
        KvSync sync;
        char name;
        bool again; /* asks once more while it is answered */
} Waiting;

static void on_done(void *userdata, KvStatus status) {
        Waiting *w = userdata;

        text_printf(&fake.said, "done %c %s\n", w->name,
                    status == KV_OK        ? "ok" :
                    status == KV_NO_LEADER ? "no-leader" :
                    status == KV_UNKNOWN   ? "unknown" :
                                             "?");
        if (w->again) {
                w->again = false;
                read_index_add(reads, &w->sync);
        }
}

static void add(Waiting *w, char name) {
        *w = (Waiting) { .sync = { .done = on_done, .userdata = w }, .name = name };
        read_index_add(reads, &w->sync);
}

/* A frame of 'type' from server 'from', by session 7. */
static void receive(PeerFrame type, uint64_t from, uint8_t kind, uint64_t term, uint64_t number,
                    uint64_t index, size_t more) {
        _cleanup_writer_ Writer w = {};

        fake_frame(&w, from, kind, term, number, index, more);
        fake.handlers[type].run(fake.handlers[type].userdata, (PeerSession *) (uintptr_t) 7, type, w.bytes,
                                w.size);
}

static void answered(uint64_t from, uint8_t kind, uint64_t term, uint64_t number, uint64_t index) {
        receive(PEER_TERM_CHECKED, from, kind, term, number, index, 0);
}

static void asked(uint64_t from, uint8_t kind, uint64_t term, uint64_t number) {
        receive(PEER_TERM_CHECK, from, kind, term, number, 0, 0);
}

static void begin(const char *roles) {
        fake_begin(roles);
        assert_int_equal(read_index_new(&reads, &fake.replica), 0);
}

/* No read waits any more, and nothing wakes the loop. */
static void end(void) {
        fake_assert_said("");
        assert_true(loop_next_due_ms(&fake.loop) == UINT64_MAX);
        assert_null(read_index_free(reads));
        fake_end();
}

static void a_leaders_read_waits_for_a_majority_and_for_what_was_committed_before(void **state) {
        Waiting a;

        begin("VVVs");
        fake.applied = 9;
        add(&a, 'a');
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\n");
        answered(2, TERM, 5, 1, 0);
        fake_assert_said("");
        fake.applied = 10;
        read_index_on_flush(reads, 0);
        fake_assert_said("done a ok\n");
        end();

        begin("VVV"); /* also one that is not the first of the configuration */
        fake.servers.items[0].id = 2;
        fake.servers.items[1].id = 1;
        add(&a, 'a');
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\n");
        answered(3, TERM, 5, 1, 0);
        fake_assert_said("done a ok\n");
        end();
}

/* The same one twice, a standby, and answers to other questions do not count. */
static void of_four_voters_three_have_to_answer_the_very_question(void **state) {
        Waiting a;

        begin("VVVVs");
        add(&a, 'a');
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\nsend 4: 0 5 1 0\n");
        answered(2, TERM, 5, 1, 0);
        answered(2, TERM, 5, 1, 0);
        answered(5, TERM, 5, 1, 0);
        answered(3, TERM, 4, 1, 0);
        answered(3, TERM, 6, 1, 0);
        answered(3, TERM, 5, 2, 0);
        answered(3, TERM, 5, 0, 0);
        answered(3, READ, 5, 1, 10);
        answered(3, STRANGE, 5, 1, 0);
        receive(PEER_TERM_CHECKED, 3, TERM, 5, 1, 0, 1);
        fake_assert_said("");
        answered(3, TERM, 5, 1, 0);
        fake_assert_said("done a ok\n");
        answered(4, TERM, 5, 1, 0); /* late */
        end();
}

/* So many answers to one question are no answers. */
static void a_voter_that_answers_again_and_again_fills_no_memory(void **state) {
        Waiting a;

        begin("VVVV");
        add(&a, 'a');
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\nsend 4: 0 5 1 0\n");
        for (unsigned i = 0; i < RAFT_SERVERS_MAX + 1; i++)
                answered(2, TERM, 5, 1, 0);
        answered(3, TERM, 5, 1, 0);
        fake_assert_said("");
        read_index_cancel(reads, &a.sync);
        end();

        begin("VVVV"); /* the last one that there is room for counts */
        add(&a, 'a');
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\nsend 4: 0 5 1 0\n");
        for (unsigned i = 0; i < RAFT_SERVERS_MAX - 1; i++)
                answered(2, TERM, 5, 1, 0);
        answered(3, TERM, 5, 1, 0);
        fake_assert_said("done a ok\n");
        end();
}

static void a_single_voter_asks_no_other_once_it_is_ready(void **state) {
        Waiting a, b;

        begin("V");
        add(&a, 'a');
        fake_assert_said("done a ok\n");
        fake.ready = false;
        add(&b, 'b');
        fake_pass(10 * SWEEP_MS);
        fake_assert_said("");
        fake.ready = true;
        fake_pass(SWEEP_MS);
        fake_assert_said("done b ok\n");
        end();
}

static void a_follower_asks_its_leader_how_far_to_apply(void **state) {
        RaftCore *core;
        Waiting a;

        begin("VVV");
        core = fake.replica.core;
        fake.leads = false;
        fake.leader = 2;
        add(&a, 'a');
        fake_assert_said("send 2: 1 5 1 0\n");
        answered(3, TERM, 5, 1, 0);
        answered(2, TERM, 5, 1, 0);
        fake_assert_said("");
        answered(2, READ, 5, 1, 20);
        fake.applied = 19;
        read_index_on_flush(reads, 0);
        fake_assert_said("");
        fake.applied = 20;
        fake.replica.core = NULL;
        read_index_on_flush(reads, 0);
        fake_assert_said("");
        fake.replica.core = core;
        read_index_on_flush(reads, 0);
        fake_assert_said("done a ok\n");
        end();
}

static void a_read_is_asked_again_after_300_ms_and_given_up_after_1500(void **state) {
        Waiting a, b, c;

        begin("VVV");
        fake.leads = false;
        fake.leader = 2;
        add(&a, 'a');
        fake_assert_said("send 2: 1 5 1 0\n");
        fake_pass(READS_RETRY_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("send 2: 1 5 2 0\n");
        fake_pass(READS_WAIT_MS - READS_RETRY_MS - 1);
        fake_assert_said("send 2: 1 5 3 0\nsend 2: 1 5 4 0\nsend 2: 1 5 5 0\n");
        fake_pass(1);
        fake_assert_said("done a unknown\n");

        /* Without a leader; with one that is not ready; with a committed entry that is not applied. */
        fake.leader = 0;
        add(&a, 'a');
        fake_pass(READS_WAIT_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("done a no-leader\n");
        fake.leader = 1;
        fake.leads = true;
        fake.ready = false;
        add(&b, 'b');
        fake_pass(READS_WAIT_MS);
        fake_assert_said("done b unknown\n");
        fake.ready = true;
        fake.servers.n = 1;
        fake.applied = 9;
        add(&c, 'c');
        fake_pass(READS_WAIT_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("done c unknown\n");
        end();
}

/* It was not asked after it arrived. */
static void a_read_that_arrives_during_a_check_waits_for_the_next_one(void **state) {
        Waiting a, b;

        begin("VVV");
        add(&a, 'a');
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\n");
        add(&b, 'b');
        fake_assert_said("");
        answered(2, TERM, 5, 1, 0);
        fake_assert_said("send 2: 0 5 2 0\nsend 3: 0 5 2 0\ndone a ok\n");
        answered(3, TERM, 5, 1, 0);
        fake_assert_said("");
        answered(3, TERM, 5, 2, 0);
        fake_assert_said("done b ok\n");
        end();
}

static void after_another_leader_or_term_is_asked_again_in_the_order_of_arrival(void **state) {
        static const unsigned changes[] = { RAFT_CHANGED_LEADER, RAFT_CHANGED_STATE };

        for (size_t i = 0; i < ELEMENTS(changes); i++) {
                Waiting a, b, c;

                begin("VVV");
                add(&a, 'a');
                fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\n");
                add(&b, 'b');
                read_index_on_flush(reads, RAFT_CHANGED_CONFIGURATION | RAFT_CHANGED_COMMIT);
                fake_assert_said("");
                fake.term = 6;
                read_index_on_flush(reads, changes[i]);
                fake_assert_said("send 2: 0 6 2 0\nsend 3: 0 6 2 0\n");
                answered(2, TERM, 6, 1, 0);
                fake_assert_said("");
                answered(2, TERM, 6, 2, 0);
                fake_assert_said("done a ok\ndone b ok\n");

                /* Also one that comes before it is asked. */
                add(&a, 'a');
                fake_assert_said("send 2: 0 6 3 0\nsend 3: 0 6 3 0\n");
                read_index_on_flush(reads, changes[i]);
                add(&c, 'c');
                fake_assert_said("send 2: 0 6 4 0\nsend 3: 0 6 4 0\n");
                answered(2, TERM, 6, 4, 0);
                fake_assert_said("done a ok\ndone c ok\n");
                read_index_on_flush(reads, changes[i]);
                end();
        }
}

static void a_cancelled_read_is_not_answered_and_those_behind_are(void **state) {
        Waiting a, b, c;

        begin("VVV");
        fake.applied = 9;
        add(&a, 'a');
        add(&b, 'b');
        read_index_cancel(reads, &b.sync); /* has arrived */
        add(&c, 'c');
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\n");
        read_index_cancel(reads, &c.sync); /* is checked */
        add(&b, 'b');
        read_index_on_flush(reads, RAFT_CHANGED_LEADER);
        add(&c, 'c');
        fake_assert_said("send 2: 0 5 2 0\nsend 3: 0 5 2 0\n");
        answered(2, TERM, 5, 2, 0);
        fake_assert_said("");
        read_index_cancel(reads, &a.sync); /* waits to be applied: the first, then the last */
        read_index_cancel(reads, &c.sync);
        add(&a, 'a');
        fake_assert_said("send 2: 0 5 3 0\nsend 3: 0 5 3 0\n");
        answered(3, TERM, 5, 3, 0);
        fake.applied = 10;
        fake_assert_said("done b ok\ndone a ok\n");

        add(&a, 'a'); /* the only one of its check, which is answered all the same */
        fake_assert_said("send 2: 0 5 4 0\nsend 3: 0 5 4 0\n");
        read_index_cancel(reads, &a.sync);
        answered(2, TERM, 5, 4, 0);
        fake_assert_said("");
        add(&b, 'b');
        fake_assert_said("send 2: 0 5 5 0\nsend 3: 0 5 5 0\n");
        answered(2, TERM, 5, 5, 0);
        fake_assert_said("done b ok\n");

        add(&a, 'a');
        read_index_cancel(reads, &a.sync);
        end();
}

static void questions_of_other_hosts_are_answered_as_far_as_they_may_be(void **state) {
        unsigned n = 0;

        begin("VVV");
        asked(2, TERM, 3, 4);
        asked(2, TERM, 8, 5);
        fake_assert_said("answer 7 2: 0 5 4 0\nanswer 7 2: 0 8 5 0\n");
        receive(PEER_TERM_CHECK, 2, TERM, 3, 4, 0, 1);
        asked(2, STRANGE, 5, 4);
        fake.closed = true;
        asked(2, TERM, 3, 4);
        fake.closed = false;
        fake.leads = false;
        asked(2, READ, 5, 4);
        fake.leads = true;
        fake_assert_said("");

        asked(2, READ, 5, 6);
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\n");
        answered(3, TERM, 5, 1, 0);
        fake_assert_said("answer 7 2: 1 5 6 10\n");

        /* A host whose read fails gets no answer: it asks again. */
        asked(2, READ, 5, 7);
        fake_assert_said("send 2: 0 5 2 0\nsend 3: 0 5 2 0\n");
        fake.leads = false;
        fake.leader = 0;
        read_index_on_flush(reads, RAFT_CHANGED_STATE);
        fake_pass(READS_WAIT_MS);
        fake_assert_said("");

        /* So many wait at a time, and as many again. */
        fake.leads = true;
        fake.leader = 1;
        fake.servers.n = 1;
        for (unsigned round = 0; round < 2; round++) {
                fake.ready = false;
                for (unsigned i = 0; i < READS_REMOTE_MAX + 6; i++)
                        asked(2, READ, 5, i);
                fake_assert_said("");
                fake.ready = true;
                fake_pass(SWEEP_MS);
                n = 0;
                for (const char *at = fake.said.chars; (at = strstr(at, "answer 7 2: 1 5 ")); at++)
                        n++;
                assert_int_equal(n, READS_REMOTE_MAX);
                text_clear(&fake.said);
        }
        end();
}

static void at_the_end_all_are_answered_once_in_order(void **state) {
        Waiting a, b, c, d;

        begin("VVV");
        fake.applied = 9;
        add(&a, 'a');
        fake_assert_said("send 2: 0 5 1 0\nsend 3: 0 5 1 0\n");
        answered(2, TERM, 5, 1, 0);
        add(&b, 'b');
        fake_assert_said("send 2: 0 5 2 0\nsend 3: 0 5 2 0\n");
        add(&c, 'c');
        add(&d, 'd');
        c.again = true;
        read_index_end(reads, KV_NO_LEADER);
        assert_string_equal(fake.said.chars,
                            "done a no-leader\ndone b no-leader\ndone c no-leader\ndone d no-leader\n");
        text_clear(&fake.said);

        /* The read that was added during its answer is checked at once. */
        fake_assert_said("send 2: 0 5 3 0\nsend 3: 0 5 3 0\n");
        asked(3, READ, 5, 9);
        assert_null(read_index_free(reads)); /* all are dropped: ours is not notified, another's is freed */
        fake_assert_said("");
        fake_end();
}

static void without_peers_no_frames_are_handled(void **state) {
        fake_begin("V");
        fake.replica.options.peers = NULL;
        assert_int_equal(read_index_new(&reads, &fake.replica), 0);
        assert_true(!fake.handlers[PEER_TERM_CHECK].run && !fake.handlers[PEER_TERM_CHECKED].run);
        end();
        begin("V");
        assert_true(fake.handlers[PEER_TERM_CHECK].run && fake.handlers[PEER_TERM_CHECKED].run);
        read_index_free(reads);
        assert_true(!fake.handlers[PEER_TERM_CHECK].run && !fake.handlers[PEER_TERM_CHECKED].run);
        fake_end();
        assert_null(read_index_free(NULL));
}

static void what_is_dropped_or_ended_leaves_nothing_to_be_done(void **state) {
        Waiting a, b, c;

        for (unsigned i = 0; i < 3; i++) {
                begin("VVV");
                if (i == 0) { /* confirmed; waits until entry 10 is applied */
                        fake.applied = 9;
                        add(&c, 'c');
                        fake_run();
                        answered(2, TERM, 5, 1, 0);
                }
                asked(2, READ, 5, 9);
                add(&a, 'a');
                fake_run();
                add(&b, 'b');
                asked(3, READ, 5, 9);
                if (i > 0)
                        fake_run();
                text_clear(&fake.said);
                if (i == 2) {
                        read_index_end(reads, KV_UNKNOWN);
                        assert_true(loop_next_due_ms(&fake.loop) == UINT64_MAX);
                }
                assert_null(read_index_free(reads));
                if (i < 2)
                        assert_null(fake.said.chars && fake.said.chars[0] ? fake.said.chars : NULL);
                assert_true(loop_next_due_ms(&fake.loop) == UINT64_MAX);
                fake_end();
        }
}

static void a_question_without_memory_is_not_answered(void **state) {
        _cleanup_writer_ Writer w = {};
        PeerHandler run;

        begin("V");
        fake_frame(&w, 2, READ, 5, 9, 0, 0);
        run = fake.handlers[PEER_TERM_CHECK].run;
        alloc_fail_at(1);
        run(fake.handlers[PEER_TERM_CHECK].userdata, (PeerSession *) (uintptr_t) 7, PEER_TERM_CHECK, w.bytes,
            w.size);
        assert_true(alloc_has_failed());
        alloc_fail_at(0);
        end();
}

static void without_memory_there_is_none(void **state) {
        ReadIndex *none = NULL;

        fake_begin("V");
        alloc_fail_at(1);
        assert_int_equal(read_index_new(&none, &fake.replica), -ENOMEM);
        alloc_fail_at(0);
        assert_null(none);
        fake_end();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_leaders_read_waits_for_a_majority_and_for_what_was_committed_before),
                cmocka_unit_test(of_four_voters_three_have_to_answer_the_very_question),
                cmocka_unit_test(a_voter_that_answers_again_and_again_fills_no_memory),
                cmocka_unit_test(a_single_voter_asks_no_other_once_it_is_ready),
                cmocka_unit_test(a_follower_asks_its_leader_how_far_to_apply),
                cmocka_unit_test(a_read_is_asked_again_after_300_ms_and_given_up_after_1500),
                cmocka_unit_test(a_read_that_arrives_during_a_check_waits_for_the_next_one),
                cmocka_unit_test(after_another_leader_or_term_is_asked_again_in_the_order_of_arrival),
                cmocka_unit_test(a_cancelled_read_is_not_answered_and_those_behind_are),
                cmocka_unit_test(questions_of_other_hosts_are_answered_as_far_as_they_may_be),
                cmocka_unit_test(at_the_end_all_are_answered_once_in_order),
                cmocka_unit_test(without_peers_no_frames_are_handled),
                cmocka_unit_test(what_is_dropped_or_ended_leaves_nothing_to_be_done),
                cmocka_unit_test(a_question_without_memory_is_not_answered),
                cmocka_unit_test(without_memory_there_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
