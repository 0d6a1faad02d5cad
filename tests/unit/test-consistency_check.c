/* Comparison of trees: the right hash, the hosts that are told, repetitions, and reports that do not count.
 * The replica is played. */

#include "tests/lib/test.h"
#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_replica.h"

enum { REPORT, VERDICT, ASK, REPORT_TAKEN }; /* kinds of frames */
enum { SAME, DIFFERS, UNDECIDED };           /* verdicts */
enum { EVERY = 10, ASK_MS = 1000, DOUBT_MS = 5000, OWN_MAX = 8, ROWS_MAX = 8 };

static ConsistencyCheck *c;
static uint64_t hash_of_tree, tree_applied, log_first;
static int tree_error;
static unsigned n_logged;

/* -- Other functions of the replica that it calls -- */

int __wrap_replica_transfer(Replica *p, uint64_t raft_id);
int __wrap_replica_transfer(Replica *p, uint64_t raft_id) {
        text_printf(&fake.said, "transfer %" PRIu64 "\n", raft_id);
        return 0;
}

void __wrap_replica_probe(Replica *p);
void __wrap_replica_probe(Replica *p) {
        text_append(&fake.said, "probe\n");
}

void __wrap_transfers_send(Transfers *t, uint64_t to, uint64_t index, bool again);
void __wrap_transfers_send(Transfers *t, uint64_t to, uint64_t index, bool again) {
        text_printf(&fake.said, "tree %" PRIu64 " from %" PRIu64 "\n", to, index);
}

uint64_t __wrap_raft_log_first_index(const RaftLog *log);
uint64_t __wrap_raft_log_first_index(const RaftLog *log) {
        return log_first;
}

int __wrap_tree_begin_read(Tree *tree, TreeTxn **ret);
int __wrap_tree_begin_read(Tree *tree, TreeTxn **ret) {
        *ret = NULL;
        return tree_error;
}

int __wrap_tree_meta(TreeTxn *txn, TreeMeta *ret);
int __wrap_tree_meta(TreeTxn *txn, TreeMeta *ret) {
        *ret = (TreeMeta) { .applied = tree_applied };
        return 0;
}

int __wrap_tree_kept_hash(TreeTxn *txn, uint64_t *ret);
int __wrap_tree_kept_hash(TreeTxn *txn, uint64_t *ret) {
        *ret = hash_of_tree;
        return 0;
}

void __wrap_tree_abort(TreeTxn *txn);
void __wrap_tree_abort(TreeTxn *txn) {}

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        n_logged++;
}

/* -- Helpers -- */

static void begin(const char *roles) {
        fake_begin(roles);
        fake.applied = 1000;
        fake.replica.options.compare_every = EVERY;
        hash_of_tree = 7;
        tree_applied = tree_error = 0;
        log_first = 30;
        n_logged = 0;
        log_set_sink(on_log, NULL);
        assert_int_equal(consistency_new(&c, &fake.replica), 0);
        fake.replica.consistency = c;
}

/* Server 2 leads. */
static void begin_to_follow(void) {
        begin("VVV");
        fake.leads = false;
        fake.leader = 2;
}

static void end(void) {
        fake_run();
        assert_null(consistency_free(c));
        fake_end();
        log_set_sink(NULL, NULL);
}

/* Our tree at 'index' is committed, with that hash. */
static void apply(uint64_t index, uint64_t hash) {
        hash_of_tree = hash;
        consistency_applied(c, NULL, index);
        consistency_committed(c, true);
        fake_run();
}

static void receive(uint64_t from, uint8_t kind, uint64_t term, uint64_t index, uint64_t value, size_t more) {
        _cleanup_writer_ Writer w = {};

        fake_frame(&w, from, kind, term, index, value, more);
        consistency_on_frame(&fake.replica, NULL, PEER_TREE, w.bytes, w.size);
}

static void report(uint64_t from, uint64_t index, uint64_t hash) {
        receive(from, REPORT, fake.term, index, hash, 0);
}

static void verdict(uint64_t from, uint64_t index, uint64_t what) {
        receive(from, VERDICT, fake.term, index, what, 0);
}

/* -- A leader judges -- */

static void the_hash_of_a_majority_is_right_and_each_host_gets_it_once(void **state) {
        begin("VVVss");
        apply(EVERY + 1, 7);
        apply(EVERY, 7);
        fake_assert_said("");
        report(4, EVERY, 7); /* standbys beside three voters */
        report(5, EVERY, 7);
        fake_assert_said("");
        report(2, EVERY, 7);
        fake_assert_said("send 4: 1 5 10 0\nsend 5: 1 5 10 0\nsend 2: 1 5 10 0\n");
        report(3, EVERY, 8);
        fake_assert_said("send 3: 1 5 10 1\n");
        report(3, EVERY, 8);
        report(2, EVERY, 7);
        fake_assert_said("");
        report(3, EVERY, 7); /* its tree was exchanged */
        fake_assert_said("send 3: 1 5 10 0\n");
        assert_false(consistency_differs(c) || consistency_undecided(c));
        assert_true(consistency_may_send(c));
        end();

        begin("V");
        apply(EVERY, 7);
        fake_assert_said("");
        assert_false(consistency_differs(c) || consistency_undecided(c));
        end();
}

static void the_interval_of_comparisons_may_be_set_and_is_1000_entries_otherwise(void **state) {
        begin_to_follow();
        fake.replica.options.compare_every = 1;
        apply(11, 7);
        fake_assert_said("send 2: 0 5 11 7\n");
        fake.replica.options.compare_every = 0;
        apply(500, 7);
        fake_assert_said("");
        apply(COMPARE_EVERY, 8);
        fake_assert_said("send 2: 0 5 1000 8\n");
        apply(COMPARE_EVERY, 8);
        fake_assert_said("");
        end();
}

static void a_leader_that_differs_transfers_its_leadership_until_another_leads(void **state) {
        begin("VVV");
        apply(EVERY, 8);
        report(2, EVERY, 7);
        fake_assert_said("");
        fake.n_flushed = 0;
        report(3, EVERY, 7);
        fake_assert_said("send 2: 1 5 10 0\nsend 3: 1 5 10 0\ntransfer 0\n");
        assert_true(consistency_differs(c) && fake.n_flushed == 1 &&
                    (fake.replica.changed & RAFT_CHANGED_STATE));
        assert_false(consistency_may_send(c));
        fake_pass(ASK_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("transfer 0\n");
        receive(3, ASK, 5, 20, 0, 0); /* it is sent no tree of ours */
        fake_assert_said("");
        consistency_tree_replaced(c, false);
        assert_false(consistency_differs(c));
        fake_pass(10 * ASK_MS);
        fake_assert_said("");
        end();
}

static void without_a_possible_majority_all_hosts_get_a_report(void **state) {
        static const char *const roles[] = { "VV", "Vs" };

        for (size_t i = 0; i < ELEMENTS(roles); i++) {
                begin(roles[i]);
                apply(EVERY, 7);
                report(2, EVERY, 8);
                fake_assert_said("probe\nsend 2: 1 5 10 2\n");
                assert_true(consistency_undecided(c) && !consistency_differs(c) && !consistency_may_send(c));
                receive(2, ASK, 5, 20, 0, 0);
                fake_assert_said("");
                end();
        }

        /* Of fewer than three voters the standbys decide, too. */
        begin("VVs");
        apply(EVERY, 7);
        report(3, EVERY, 7);
        fake_assert_said("send 3: 1 5 10 0\n");
        report(2, EVERY, 8);
        fake_assert_said("send 2: 1 5 10 1\n");
        end();
}

static void without_a_majority_the_check_waits_five_seconds_for_further_reports(void **state) {
        begin("VVV");
        apply(EVERY, 7);
        assert_true(consistency_may_send(c));
        report(2, EVERY, 8);
        assert_false(consistency_may_send(c));
        fake_pass(DOUBT_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("probe\nsend 2: 1 5 10 2\n");
        assert_true(consistency_undecided(c));
        report(3, EVERY, 7);
        fake_assert_said("send 2: 1 5 10 1\nsend 3: 1 5 10 0\n");
        assert_false(consistency_undecided(c));
        assert_true(consistency_may_send(c));
        end();

        /* In time. */
        begin("VVV");
        apply(EVERY, 7);
        report(2, EVERY, 8);
        fake_pass(DOUBT_MS - 1);
        report(3, EVERY, 8);
        fake_assert_said("send 2: 1 5 10 0\nsend 3: 1 5 10 0\ntransfer 0\n");
        end();

        /* A host that does not lead any more, or leads in another term, judges nothing. */
        for (unsigned i = 0; i < 2; i++) {
                begin("VVV");
                apply(EVERY, 7);
                report(2, EVERY, 8);
                if (i == 0)
                        fake.leads = false;
                else
                        fake.term = 6;
                assert_int_equal(consistency_may_send(c), i == 1);
                fake_pass(2 * DOUBT_MS);
                assert_false(consistency_undecided(c));
                end();
        }
}

static void a_host_that_reports_again_is_one_witness(void **state) {
        begin("VVV");
        report(2, EVERY, 7);
        report(2, EVERY, 7);
        fake_assert_said("");
        report(3, EVERY, 7);
        fake_assert_said("send 2: 1 5 10 0\nsend 3: 1 5 10 0\n");
        end();
}

static void three_different_trees_are_undecided_at_once(void **state) {
        begin("VVV");
        apply(EVERY, 7);
        report(2, EVERY, 8);
        fake_assert_said("");
        report(3, EVERY, 9);
        fake_assert_said("probe\nsend 2: 1 5 10 2\nsend 3: 1 5 10 2\n");
        assert_true(consistency_undecided(c));
        end();
}

static void doubts_of_several_entries_end_in_their_order(void **state) {
        begin("VVV");
        for (uint64_t i = 1; i <= 3; i++) {
                apply(i * EVERY, 7);
                report(2, i * EVERY, 8);
        }
        fake_pass(DOUBT_MS);
        fake_assert_said("probe\nsend 2: 1 5 10 2\nprobe\nsend 2: 1 5 20 2\nprobe\nsend 2: 1 5 30 2\n");
        end();
}

/* A tree that was taken from a leader is his. */
static void taken_trees_are_no_witnesses_unless_all_have_spoken(void **state) {
        begin("VVV");
        apply(EVERY, 7);
        receive(2, REPORT_TAKEN, 5, EVERY, 7, 0);
        fake_assert_said("");
        report(3, EVERY, 7);
        fake_assert_said("send 2: 1 5 10 0\nsend 3: 1 5 10 0\n");
        apply(2 * EVERY, 7);
        receive(2, REPORT_TAKEN, 5, 2 * EVERY, 7, 0);
        fake_assert_said("");
        receive(3, REPORT_TAKEN, 5, 2 * EVERY, 7, 0);
        fake_assert_said("send 2: 1 5 20 0\nsend 3: 1 5 20 0\n");
        apply(3 * EVERY, 7);
        receive(2, REPORT_TAKEN, 5, 3 * EVERY, 7, 0);
        report(3, 3 * EVERY, 8);
        fake_pass(DOUBT_MS);
        fake_assert_said("probe\nsend 2: 1 5 30 2\nsend 3: 1 5 30 2\n");
        end();

        /* Two of five have trees of their own, and all five agree. */
        begin("VVVVV");
        apply(EVERY, 7);
        report(2, EVERY, 7);
        receive(3, REPORT_TAKEN, 5, EVERY, 7, 0);
        receive(4, REPORT_TAKEN, 5, EVERY, 7, 0);
        fake_assert_said("");
        receive(5, REPORT_TAKEN, 5, EVERY, 7, 0);
        fake_assert_said("send 2: 1 5 10 0\nsend 3: 1 5 10 0\nsend 4: 1 5 10 0\nsend 5: 1 5 10 0\n");
        end();

        /* That of a single voter is right from its first report on. */
        begin("V");
        consistency_tree_replaced(c, true);
        apply(EVERY, 7);
        fake.leads = false;
        fake.leader = 2;
        apply(2 * EVERY, 7);
        fake_assert_said("send 2: 0 5 20 7\n");
        end();
}

static void a_leader_compares_eight_indexes_of_its_term(void **state) {
        begin("VVV");
        for (uint64_t i = 1; i <= ROWS_MAX + 1; i++)
                report(2, i * EVERY, 7);
        report(3, EVERY, 7);
        fake_assert_said(""); /* it made room, and is older than all */
        report(3, 2 * EVERY, 7);
        fake_assert_said("send 2: 1 5 20 0\nsend 3: 1 5 20 0\n");
        fake.term = 6;
        report(3, 3 * EVERY, 7);
        fake_assert_said("");
        report(2, 3 * EVERY, 7);
        fake_assert_said("send 3: 1 6 30 0\nsend 2: 1 6 30 0\n");
        report(2, 4 * EVERY, 7);
        for (uint64_t i = 0; i <= RAFT_SERVERS_MAX; i++)
                report(100 + i, 4 * EVERY, 7); /* more than there is room for, of no servers */
        fake_assert_said("");
        end();
}

static void the_first_entry_is_compared_like_any_other(void **state) {
        begin("VVV");
        fake.now_ms = 1;
        fake.replica.options.compare_every = 1;
        apply(1, 7);
        report(2, 1, 8);
        assert_false(consistency_may_send(c));
        fake_pass(DOUBT_MS);
        fake_assert_said("probe\nsend 2: 1 5 1 2\n");
        assert_true(consistency_undecided(c) && !consistency_may_send(c));
        report(3, 1, 8);
        fake_assert_said("send 2: 1 5 1 0\nsend 3: 1 5 1 0\ntransfer 0\n");
        assert_true(consistency_differs(c) && !consistency_may_send(c));
        end();

        begin_to_follow();
        fake.replica.options.compare_every = 1;
        apply(1, 8);
        fake_assert_said("send 2: 0 5 1 8\n");
        verdict(2, 1, DIFFERS);
        fake_assert_said("send 2: 2 5 29 0\n");
        verdict(2, 1, SAME);
        verdict(2, 1, DIFFERS);
        apply(2, 8);
        fake_assert_said("");
        assert_true(consistency_differs(c) && !consistency_may_send(c));
        fake_pass(COMPARE_REST_MS);
        consistency_tree_replaced(c, false);
        assert_true(loop_next_due_ms(&fake.loop) == UINT64_MAX); /* nothing is asked for any more */
        assert_true(consistency_may_send(c));
        text_clear(&fake.said);
        apply(1, 7);
        verdict(2, 1, UNDECIDED);
        assert_true(consistency_undecided(c) && !consistency_may_send(c));
        fake_assert_said("send 2: 0 5 1 7\nprobe\n");
        end();
}

/* -- Reports and verdicts of a follower -- */

static void a_follower_that_differs_asks_for_the_leaders_tree_every_second(void **state) {
        RaftLog *log;

        begin_to_follow();
        log = fake.replica.log;
        apply(EVERY, 8);
        fake_assert_said("send 2: 0 5 10 8\n");
        verdict(3, EVERY, DIFFERS);     /* not of the leader */
        verdict(2, 2 * EVERY, DIFFERS); /* of what we did not say */
        verdict(2, EVERY, 3);
        receive(2, VERDICT, 4, EVERY, DIFFERS, 0);
        receive(2, VERDICT, 6, EVERY, DIFFERS, 0);
        receive(2, VERDICT, 5, EVERY, DIFFERS, 1);
        receive(2, REPORT, 5, EVERY, DIFFERS, 0);
        verdict(2, EVERY, SAME);
        fake_assert_said("");
        assert_false(consistency_differs(c));

        fake.n_flushed = 0;
        verdict(2, EVERY, DIFFERS);
        fake_assert_said("send 2: 2 5 29 0\n");
        assert_true(consistency_differs(c));
        assert_int_equal(fake.n_flushed, 1);
        verdict(2, EVERY, SAME);
        verdict(2, EVERY, DIFFERS);
        apply(2 * EVERY, 8); /* no further report about such a tree */
        fake_assert_said("");
        assert_true(consistency_differs(c));
        log_first = 1;
        fake_pass(ASK_MS);
        fake_assert_said("send 2: 2 5 1 0\n");
        fake.leader = 0;
        fake_pass(ASK_MS);
        fake.leader = 2;
        fake.replica.log = NULL;
        fake_pass(ASK_MS);
        fake_assert_said("");
        fake.replica.log = log;
        fake_pass(ASK_MS);
        fake_assert_said("send 2: 2 5 1 0\n");

        /* With another tree it begins again, and reports the replacement until a majority agrees. */
        consistency_tree_replaced(c, true);
        fake_pass(2 * ASK_MS);
        fake_assert_said("");
        verdict(2, EVERY, DIFFERS);
        assert_false(consistency_differs(c));
        apply(3 * EVERY, 7);
        fake_assert_said("send 2: 3 5 30 7\n");
        verdict(2, 3 * EVERY, SAME);
        apply(4 * EVERY, 7);
        fake_assert_said("send 2: 0 5 40 7\n");
        end();
}

static void an_undecided_host_probes_its_tree_and_is_undecided_until_a_majority_agrees(void **state) {
        begin_to_follow();
        apply(EVERY, 7);
        apply(2 * EVERY, 7);
        apply(3 * EVERY, 7);
        fake_assert_said("send 2: 0 5 10 7\nsend 2: 0 5 20 7\nsend 2: 0 5 30 7\n");
        n_logged = fake.n_flushed = 0;
        verdict(2, 2 * EVERY, UNDECIDED);
        assert_int_equal(n_logged, 1);
        verdict(2, EVERY, UNDECIDED);
        fake_assert_said("probe\nprobe\n");
        assert_int_equal(n_logged, 1);
        assert_int_equal(fake.n_flushed, 1); /* of one turn */
        assert_true(consistency_undecided(c));
        verdict(2, EVERY, SAME);
        assert_true(consistency_undecided(c));
        fake_assert_said("");
        assert_int_equal(fake.n_flushed, 1);
        verdict(2, 2 * EVERY, SAME);
        assert_false(consistency_undecided(c));
        fake_assert_said("");
        assert_int_equal(fake.n_flushed, 2);
        assert_int_equal(n_logged, 2);
        verdict(2, 3 * EVERY, SAME);
        fake_assert_said("");
        assert_int_equal(n_logged, 2);

        verdict(2, 3 * EVERY, UNDECIDED);
        verdict(2, 3 * EVERY, SAME); /* the same index is enough */
        assert_false(consistency_undecided(c));
        consistency_tree_replaced(c, false);
        fake_assert_said("probe\n");
        end();
}

static void the_last_eight_reports_wait_for_a_leader_and_the_last_one_is_said_again(void **state) {
        begin_to_follow();
        fake.leader = 0;
        for (uint64_t i = 1; i <= OWN_MAX + 2; i++)
                apply(i * EVERY, i);
        fake_assert_said("");
        fake.leader = 2;
        apply((OWN_MAX + 3) * EVERY, 7);
        fake_assert_said("send 2: 0 5 40 4\nsend 2: 0 5 50 5\nsend 2: 0 5 60 6\nsend 2: 0 5 70 7\nsend 2: 0 "
                         "5 80 8\nsend 2: 0 5 90 9\nsend 2: 0 5 100 10\n"
                         "send 2: 0 5 110 7\n");
        consistency_on_flush(c, RAFT_CHANGED_STATE | RAFT_CHANGED_CONFIGURATION);
        fake_assert_said("");
        consistency_on_flush(c, RAFT_CHANGED_LEADER);
        fake_assert_said("send 2: 0 5 110 7\n");
        verdict(2, 3 * EVERY, DIFFERS); /* too long ago */
        assert_false(consistency_differs(c));
        verdict(2, 4 * EVERY, DIFFERS);
        assert_true(consistency_differs(c));
        fake_assert_said("send 2: 2 5 29 0\n");
        end();

        begin_to_follow();
        consistency_on_flush(c, RAFT_CHANGED_LEADER); /* nothing was ever said */
        fake_assert_said("");
        apply(EVERY, 7);
        fake_assert_said("send 2: 0 5 10 7\n");
        consistency_on_flush(c, RAFT_CHANGED_LEADER);
        fake_assert_said("send 2: 0 5 10 7\n");
        end();
}

static void committed_hashes_are_reported_and_the_tree_again_once_it_rests(void **state) {
        static int shown;

        begin_to_follow();
        hash_of_tree = 1;
        consistency_applied(c, NULL, EVERY);
        consistency_committed(c, false);
        hash_of_tree = 2;
        consistency_applied(c, NULL, 2 * EVERY);
        hash_of_tree = 3;
        consistency_applied(c, NULL, 3 * EVERY);
        hash_of_tree = 4;
        consistency_applied(c, NULL, 4 * EVERY);
        consistency_committed(c, true);
        fake_assert_said("send 2: 0 5 20 2\nsend 2: 0 5 40 4\n");
        consistency_committed(c, true);
        fake_assert_said("");

        tree_applied = 43;
        hash_of_tree = 5;
        fake_pass(COMPARE_REST_MS / 2);
        consistency_committed(c, true); /* does not put it off */
        fake_pass(COMPARE_REST_MS / 2 - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("send 2: 0 5 43 5\n");
        fake_pass(3 * COMPARE_REST_MS);
        fake_assert_said("");
        consistency_committed(c, true);
        fake_pass(COMPARE_REST_MS);
        fake_assert_said(""); /* of this index all is said */

        for (unsigned i = 0; i < 4; i++) {
                fake.closed = i == 0;
                fake.replica.trees.previous = i == 1 ? (Tree *) &shown : NULL;
                tree_error = i == 2 ? -ENOMEM : 0;
                tree_applied = i == 3 ? 0 : 44;
                consistency_committed(c, true);
                fake_pass(COMPARE_REST_MS);
                fake_assert_said("");
        }
        tree_applied = 45;
        consistency_committed(c, false);
        fake_pass(COMPARE_REST_MS);
        fake_assert_said("");
        consistency_committed(c, true);
        fake_pass(COMPARE_REST_MS);
        fake_assert_said("send 2: 0 5 45 5\n");
        end();
}

static void a_leader_sends_its_tree_on_request_and_ignores_frames_that_are_not_for_it(void **state) {
        begin("VVV");
        fake.applied = 100;
        receive(3, ASK, 5, 100, 0, 0);
        fake_assert_said("tree 3 from 100\n");
        receive(3, ASK, 5, 101, 0, 0);
        receive(3, ASK, 5, 0, 0, 0);
        receive(3, ASK, 4, 50, 0, 0);
        receive(3, ASK, 5, 50, 0, 1);
        receive(3, 4, 5, 50, 0, 0);
        fake.leads = false;
        fake.leader = 2;
        receive(3, ASK, 5, 50, 0, 0);
        fake.leads = true;
        fake.closed = true;
        receive(3, ASK, 5, 50, 0, 0);
        fake.closed = false;
        fake_assert_said("");

        /* Reports are the leader's alone. */
        apply(EVERY, 7);
        fake.leads = false;
        report(2, EVERY, 7);
        fake.leads = true;
        report(3, EVERY, 8);
        fake_assert_said("");
        end();
        assert_null(consistency_free(NULL));
}

static void a_comparison_that_ends_sends_nothing_more(void **state) {
        begin_to_follow();
        consistency_applied(c, NULL, EVERY);
        consistency_committed(c, true); /* its report is to be sent in this turn */
        assert_null(consistency_free(c));
        fake_pass(2 * COMPARE_REST_MS);
        fake_assert_said("");
        fake_end();
        log_set_sink(NULL, NULL);
}

static void without_memory_there_is_none(void **state) {
        ConsistencyCheck *none = NULL;

        fake_begin("V");
        alloc_fail_at(1);
        assert_int_equal(consistency_new(&none, &fake.replica), -ENOMEM);
        alloc_fail_at(0);
        assert_null(none);
        fake_end();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_hash_of_a_majority_is_right_and_each_host_gets_it_once),
                cmocka_unit_test(the_interval_of_comparisons_may_be_set_and_is_1000_entries_otherwise),
                cmocka_unit_test(a_leader_that_differs_transfers_its_leadership_until_another_leads),
                cmocka_unit_test(without_a_possible_majority_all_hosts_get_a_report),
                cmocka_unit_test(without_a_majority_the_check_waits_five_seconds_for_further_reports),
                cmocka_unit_test(a_host_that_reports_again_is_one_witness),
                cmocka_unit_test(three_different_trees_are_undecided_at_once),
                cmocka_unit_test(doubts_of_several_entries_end_in_their_order),
                cmocka_unit_test(taken_trees_are_no_witnesses_unless_all_have_spoken),
                cmocka_unit_test(a_leader_compares_eight_indexes_of_its_term),
                cmocka_unit_test(the_first_entry_is_compared_like_any_other),
                cmocka_unit_test(a_follower_that_differs_asks_for_the_leaders_tree_every_second),
                cmocka_unit_test(an_undecided_host_probes_its_tree_and_is_undecided_until_a_majority_agrees),
                cmocka_unit_test(the_last_eight_reports_wait_for_a_leader_and_the_last_one_is_said_again),
                cmocka_unit_test(committed_hashes_are_reported_and_the_tree_again_once_it_rests),
                cmocka_unit_test(a_leader_sends_its_tree_on_request_and_ignores_frames_that_are_not_for_it),
                cmocka_unit_test(a_comparison_that_ends_sends_nothing_more),
                cmocka_unit_test(without_memory_there_is_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
