/* What the replica does for its core: messages, installs, entries that are applied in slices; and what memory
 * forgets of the log. The parts are played; tests/sim/ has the real ones. */

#include "tests/lib/test.h"
#include "kvstore/command/cost.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_parts.h"

/* What the parts say at steps that repeat. */
#define CUT_TO_20 "core checkpointed 20 of term 5, configuration 1 (4 bytes)\n  trailing 5\n"
#define CUT_TO_10 "core checkpointed 10 of term 5, configuration 1 (4 bytes)\n  trailing 1\n"
#define APPLIED_12                                                                      \
        "work of tree 1: turn\nbegin\napply 11\ncompare 11\napply empty 12 of term 6\n" \
        "compare 12\n"
#define LATER         "= tree 1 forget 2125 forget-again+2000\n"
#define NOT_COMMITTED "compare not committed\nnot committed\nfolder distrust\n"

#define p             (parts.p)
#define ops           replica_core_ops
/* of replica_ops.c */
enum {
        SLICE_ENTRIES = 256,
        SLICE_BYTES = 4 * 1024 * 1024,
        SLICE_HELD_BYTES = 8 * 1024 * 1024,
        FORGET_AGAIN_MS = 2000
};

static void lead(void) {
        parts.state = RAFT_STATE_LEADER;
        for (size_t i = 0; i < ELEMENTS(parts.match); i++)
                parts.match[i] = 20;
}

/* -- The log -- */

static void term_vote_and_entries_go_to_the_log(void **state) {
        RaftEntry e = { .term = 5, .type = RAFT_ENTRY_COMMAND };

        parts_begin();
        assert_int_equal(ops.write_meta(p, 6, 2), 0);
        assert_int_equal(ops.append(p, 3, 21, &e, 1), 0);
        parts_fail("raft_log_append", -EIO); /* the log reports it itself */
        assert_int_equal(ops.append(p, 3, 22, &e, 1), -EIO);
        ops.changed(p, RAFT_CHANGED_STATE);
        ops.changed(p, RAFT_CHANGED_COMMIT);
        expect_state("log meta 6 2\nlog append 3: 21 1\nlog append 3: 22 1\n= tree 1 changed 9\n");
        parts_fail("raft_log_write_meta", -ENOSPC);
        assert_int_equal(ops.write_meta(p, 7, 0), -ENOSPC);
        expect_state("log meta 7 0\n= tree 1 error -28 \"Failed to write term and vote: No space left on "
                     "device\" failing changed 9 stop!\n");
        ops.send_snapshot(p, 2, "b:2", 5, 9);
        expect("transfers send 2 9\n");
        parts_end();
}

/* -- The commit index -- */

static void followers_get_the_commit_index_once(void **state) {
        RaftEntry none[3];
        RaftMessage m = { .type = RAFT_MESSAGE_APPEND,
                          .term = 5,
                          .append = { .prev_index = 12, .prev_term = 5, .commit = 14, .entries = none } };

        parts_begin();
        p->notices.send.run(p);
        expect("");
        lead();
        fake.commit = 1;
        parts.match[3] = 0;
        p->notices.send.run(p);
        expect("send 2 (70 1 2) append term 5: prev 20 of 5, commit 1\n");
        fake.commit = 12;
        parts.match[3] = 11;
        p->notices.send.run(p);
        expect_state("send 2 (70 1 2) append term 5: prev 20 of 5, commit 12\nsend 3 (70 1 3) append term 5: "
                     "prev 11 of 5, commit 12\n"
                     "= tree 1\n");
        p->notices.send.run(p);
        expect("");
        parts.match[3] = 9; /* of an earlier term, by its entry */
        p->notices.followers[1].sent = 8;
        p->notices.send.run(p);
        expect("send 3 (70 1 3) append term 5: prev 9 of 4, commit 12\n");
        parts.match[3] = UINT64_MAX;
        parts.match[2] = 0; /* not in memory any more */
        fake.commit = 14;
        p->notices.send.run(p);
        expect("");

        /* The commit index of any message counts, up to the end of that message and of the log. */
        parts.match[2] = parts.match[3] = 20;
        ops.send(p, 2, "b:2", &m);
        assert_int_equal(p->notices.followers[0].sent, 12);
        m.append.n_entries = 1;
        RaftEntry one = { .term = 5, .type = RAFT_ENTRY_BARRIER };
        m.append.entries = &one;
        ops.send(p, 2, "b:2", &m);
        assert_int_equal(p->notices.followers[0].sent, 13);
        m.append.prev_index = 19;
        ops.send(p, 2, "b:2", &m);
        assert_int_equal(p->notices.followers[0].sent, 14);
        m.append.commit = 3;
        ops.send(p, 2, "b:2", &m);
        assert_int_equal(p->notices.followers[0].sent, 14);
        ops.send(p, 3, "b:3", &(RaftMessage) { .type = RAFT_MESSAGE_VOTE, .term = 5 });
        parts_forget();
        p->notices.send.run(p);
        expect("send 3 (70 1 3) append term 5: prev 20 of 5, commit 14\n");

        /* In another term all are notified again. */
        parts.term = 6;
        p->notices.send.run(p);
        expect_state("send 2 (70 1 2) append term 6: prev 20 of 5, commit 14\nsend 3 (70 1 3) append term 6: "
                     "prev 20 of 5, commit 14\n"
                     "= tree 1\n");
        assert_int_equal(p->notices.term, 6);
        assert_int_equal(p->notices.n_followers, 2);

        /* There is room for as many as a configuration has. */
        m = (RaftMessage) { .type = RAFT_MESSAGE_APPEND,
                            .term = 6,
                            .append = { .prev_index = 12, .commit = 14 } };
        for (uint64_t id = 100; id < 200; id++)
                ops.send(p, id, "x:1", &m);
        assert_int_equal(p->notices.n_followers, RAFT_SERVERS_MAX);
        assert_int_equal(p->notices.followers[RAFT_SERVERS_MAX - 1].id, 100 + RAFT_SERVERS_MAX - 3);
        p->notices.followers[0].id = 99; /* no room for number 2 */
        fake.commit = 15;
        parts_forget();
        p->notices.send.run(p);
        expect("send 3 (70 1 3) append term 6: prev 20 of 5, commit 15\n");
        parts_end();
}

/* -- Trees of others -- */

static void a_received_tree_takes_the_place_of_ours(void **state) {
        Checkpoint tree = { .fd = -1, .meta = { .applied = 30 } };
        RaftStateInfo info = { .index = 30, .term = 5 };

        parts_begin();
        assert_int_equal(ops.install(p, &info, false), -ESHUTDOWN);
        p->incoming = &tree;
        p->checkpoints.reported = false;
        p->checkpoints.entries_since = p->checkpoints.bytes_since = 4;
        assert_int_equal(ops.install(p, &info, false), 0);
        expect_state("folder install 30, replace\nclose tree 1\ncompare exchanged, taken\nmark tree 2 with "
                     "70 in /tree\nlog reset 30\n= tree 2 replaced! previous 30\n");
        parts_end();

        parts_begin();
        p->incoming = &tree;
        p->checkpoints.reported = false;
        p->checkpoints.entries_since = p->checkpoints.bytes_since = 4;
        assert_int_equal(ops.install(p, &info, true), 0);
        expect_state("folder install 30\nlog reset 30\n= tree 1 previous 30\n");
        parts_end();

        /* The tree that is shown stays while the new one is behind it. */
        for (uint64_t shown = 30; shown <= 31; shown++) {
                parts_begin();
                p->incoming = &tree;
                p->trees.previous = p->trees.live;
                p->trees.previous_applied = shown;
                p->trees.live = NULL;
                assert_int_equal(ops.install(p, &info, false), 0);
                parts_look();
                if (shown == 30)
                        expect("folder install 30, replace\nclose tree 1\ncompare exchanged, taken\nmark "
                               "tree 2 with 70 in /tree\nlog reset 30\n= tree 2 replaced! previous 30\n");
                else
                        expect("folder install 30, replace\ncompare exchanged, taken\nmark tree 2 with 70 in "
                               "/tree\nlog reset 30\n"
                               "= tree 2 shown 1 (31, wrong) previous 30\n");
                parts_end();
        }

        parts_begin();
        p->incoming = &tree;
        parts_fail("data_dir_install", -EUCLEAN);
        assert_int_equal(ops.install(p, &info, false), -EUCLEAN);
        expect_state("folder install 30, replace\nfolder distrust\n= tree 1 error -117 \"data_dir_install "
                     "did it\" failing stop!\n");
        parts_end();
        parts_begin();
        p->incoming = &tree;
        parts_fail("bootstrap_mark_tree", -EIO);
        assert_int_equal(ops.install(p, &info, false), -EIO);
        expect_state("folder install 30, replace\nclose tree 1\ncompare exchanged, taken\nmark tree 2 with "
                     "70 in /tree\n= tree 2 error -5 \"bootstrap_mark_tree did it\" failing replaced! "
                     "previous 30 stop!\n");
        parts_end();
        parts_begin();
        p->incoming = &tree;
        parts_fail("raft_log_reset", -EROFS);
        assert_int_equal(ops.install(p, &info, false), -EROFS);
        parts_end();
}

/* -- Entries -- */

static RaftEntry command(size_t size) {
        return (RaftEntry) { .term = 5, .type = RAFT_ENTRY_COMMAND, .size = size };
}

static void entries_are_applied_in_one_transaction(void **state) {
        RaftEntry e[3] = { command(1),
                           { .term = 6, .type = RAFT_ENTRY_BARRIER },
                           { .term = 7, .type = RAFT_ENTRY_CHANGE, .data = "CONF", .size = 4 } };

        parts_begin();
        fake_run(); /* a new turn */
        fake.loop.turns.n++;
        assert_int_equal(ops.apply(p, 11, e, 3), 3);
        expect_state(APPLIED_12
                     "set configuration CONF\nset meta: entry 13 of term 7, configuration 13\ncompare "
                     "13\ncommit\ncompare committed\ncommitted\n= tree 1 entries 3 bytes 149\n");
        p->in_service = false;
        assert_int_equal(ops.apply(p, 14, e, 1), 1);
        expect("work of tree 1: none\nbegin\napply 14\ncompare 14\ncommit\ncompare committed\ncommitted\n");
        parts_end();
}

static void each_call_that_fails_ends_the_replica(void **state) {
        static const struct {
                const char *name;
                int error;
                unsigned skip;
                Said said;
        } cases[] = {
                { "tree_begin_write", -EIO, 0,
                  SAID("work of tree 1: turn\nbegin\n" NOT_COMMITTED
                       "= tree 1 error -5 \"cannot apply entry 11 and later: Input/output error\" failing "
                       "stop!\n") },
                { "tree_meta", -EIO, 0,
                  SAID("work of tree 1: turn\nbegin\n" NOT_COMMITTED
                       "= tree 1 error -5 \"cannot apply entry 11 and later: Input/output error\" failing "
                       "stop!\n") },
                { "apply", -ENOTSUP, 0,
                  SAID("work of tree 1: turn\nbegin\napply 11\n" NOT_COMMITTED
                       "= tree 1 error -95 \"entry 11 or later requires a newer feature level; upgrade this "
                       "host\" failing stop!\n") },
                { "apply_empty", -EIO, 0,
                  SAID("work of tree 1: turn\nbegin\napply 11\ncompare 11\napply empty 12 of term "
                       "6\n" NOT_COMMITTED "= tree 1 error -5 \"cannot apply entry 11 and later: "
                       "Input/output error\" failing entries 1 bytes 49 stop!\n") },
                { "tree_set_configuration", -EIO, 0,
                  SAID(APPLIED_12 "set configuration CONF\n" NOT_COMMITTED
                                  "= tree 1 error -5 \"cannot apply entry 11 and later: Input/output error\" "
                                  "failing entries 2 bytes 97 stop!\n") },
                { "tree_meta", -EIO, 1,
                  SAID(APPLIED_12 "set configuration CONF\n" NOT_COMMITTED
                                  "= tree 1 error -5 \"cannot apply entry 11 and later: Input/output error\" "
                                  "failing entries 2 bytes 97 stop!\n") },
                { "tree_set_meta", -EIO, 0,
                  SAID(APPLIED_12 "set configuration CONF\nset meta: entry 13 of term 7, configuration "
                                  "13\n" NOT_COMMITTED
                                  "= tree 1 error -5 \"cannot apply entry 11 and later: Input/output error\" "
                                  "failing entries 2 bytes 97 stop!\n") },
                { "tree_commit", -ENOSPC, 0,
                  SAID(APPLIED_12 "set configuration CONF\nset meta: entry 13 of term 7, configuration "
                                  "13\ncompare 13\ncommit\n" NOT_COMMITTED
                                  "= tree 1 error -28 \"cannot apply entry 11 and later: No space left on "
                                  "device\" failing entries 3 bytes 149 stop!\n") },
        };
        RaftEntry e[3] = { command(1),
                           { .term = 6, .type = RAFT_ENTRY_BARRIER },
                           { .term = 7, .type = RAFT_ENTRY_CHANGE, .data = "CONF", .size = 4 } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                fake.loop.turns.n++;
                parts_fail_after(cases[i].name, cases[i].error, cases[i].skip);
                assert_int_equal(ops.apply(p, 11, e, 3), cases[i].error);
                assert_int_equal(parts.n_txns, 0);
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }
}

static void entries_that_the_tree_has_are_not_applied_again(void **state) {
        RaftEntry e[3] = { command(1), command(1), command(1) };

        parts_begin();
        assert_int_equal(ops.apply(p, 9, e, 3), 3);
        expect_state(
                "work of tree 1: turn\nbegin\napply 11\ncompare 11\ncommit\ncompare committed\ncommitted\n"
                "= tree 1 entries 1 bytes 49\n");
        parts_end();
}

static void a_slice_ends_at_each_of_its_limits(void **state) {
        static RaftEntry e[300];
        enum { PART = SLICE_BYTES / 16 }; /* the largest entry there is */

        for (size_t i = 0; i < ELEMENTS(e); i++)
                e[i] = command(0);
        parts_begin();
        assert_int_equal(ops.apply(p, 11, e, 300), SLICE_ENTRIES);
        assert_int_equal(p->checkpoints.entries_since, SLICE_ENTRIES);
        assert_int_equal(p->checkpoints.bytes_since,
                         SLICE_ENTRIES * 48); /* 32 of the entry, and two pointers */
        assert_int_equal(ops.apply(p, 267, e, 256), 256);
        assert_int_equal(ops.apply(p, 11, e, 255), 255);
        parts_end();

        for (size_t i = 0; i < ELEMENTS(e); i++)
                e[i] = command(PART);
        parts_begin();
        assert_int_equal(ops.apply(p, 11, e, 300), 16);
        e[0].size = PART - 1;
        assert_int_equal(ops.apply(p, 11, e, 300), 17);
        parts_end();

        for (unsigned over = 0; over < 2; over++) {
                parts_begin();
                parts.held = SLICE_HELD_BYTES - 100 + over;
                parts.touched = 100;
                assert_int_equal(ops.apply(p, 11, e, 3), over ? 1 : 3);
                assert_int_equal(p->applying.held_max, SLICE_HELD_BYTES + over);
                parts_end();
        }

        /* While another tree is shown, a slice ends where ours is as far. */
        parts_begin();
        p->trees.previous = p->trees.live;
        p->trees.previous_applied = 11;
        assert_int_equal(ops.apply(p, 11, e, 4), 1);
        p->trees.previous = NULL;
        parts_end();
        parts_begin();
        p->trees.previous = p->trees.live;
        p->trees.previous_applied = 12;
        p->trees.live = (Tree *) ((char *) p->trees.live + 1);
        p->trees.previous_wrong = true;
        assert_int_equal(ops.apply(p, 11, e, 4), 2);
        expect_state(
                "work of tree 2: turn\nbegin\napply 11\ncompare 11\napply 12\ncompare 12\ncommit\ncompare "
                "committed\ncommitted\nclose tree 1\n= tree 2 replaced! entries 2 bytes 524383\n");
        parts_end();
        parts_begin();
        p->trees.previous = p->trees.live;
        p->trees.previous_applied = 10;
        p->trees.live = (Tree *) ((char *) p->trees.live + 1);
        assert_int_equal(ops.apply(p, 11, e, 4), 4);
        expect_state("work of tree 2: turn\nbegin\napply 11\ncompare 11\napply 12\ncompare 12\napply "
                     "13\ncompare 13\napply 14\n"
                     "compare 14\ncommit\ncompare committed\ncommitted\nclose tree 1\n= tree 2 entries 4 "
                     "bytes 1048767\n");
        parts_end();
}

static void all_inputs_of_a_turn_share_what_it_may_cost(void **state) {
        RaftEntry e[3] = { command(1), command(1), command(1) };

        parts_begin();
        assert_int_equal(ops.apply(p, 11, e, 0), 0);
        assert_int_equal(p->error, 0);
        fake.loop.turns.n++;
        parts.cost = COST_SLICE / 2;
        assert_int_equal(ops.apply(p, 11, e, 2), 2); /* exactly so much */
        assert_int_equal(p->applying.cost, COST_SLICE);
        assert_int_equal(ops.apply(p, 13, e, 3), 1); /* the one that exceeds it is the last */
        assert_int_equal(ops.apply(p, 14, e, 3), 0);
        fake.loop.turns.n++;
        parts_forget();
        assert_int_equal(ops.apply(p, 14, e, 3), 3);
        expect("work of tree 1: turn\nbegin\napply 14\ncompare 14\napply 15\ncompare 15\napply 16\ncompare "
               "16\ncommit\n"
               "compare committed\ncommitted\n");

        /* Before there is any service all follow at once. */
        fake.loop.turns.n++;
        p->in_service = false;
        parts.cost = COST_SLICE + 1;
        parts.held = SLICE_HELD_BYTES + 1;
        assert_int_equal(ops.apply(p, 17, e, 3), 3);
        expect("work of tree 1: none\nbegin\napply 17\ncompare 17\ncommit\ncompare "
               "committed\ncommitted\nwork of tree 1: none\nbegin\n"
               "apply 18\ncompare 18\ncommit\ncompare committed\ncommitted\nwork of tree 1: "
               "none\nbegin\napply 19\ncompare 19\ncommit\n"
               "compare committed\ncommitted\n");
        parts_fail_after("apply", -EIO, 1);
        assert_int_equal(ops.apply(p, 20, e, 3), -EIO);
        expect_state("work of tree 1: none\nbegin\napply 20\ncompare 20\ncommit\ncompare "
                     "committed\ncommitted\nwork of tree 1: none\nbegin\napply 21\n" NOT_COMMITTED
                     "= tree 1 error -5 \"cannot apply entry 20 and later: Input/output error\" failing "
                     "not-serving entries 10 bytes 490 stop!\n");
        parts_end();
}

/* -- What memory forgets -- */

static void memory_drops_entries_beyond_its_limit(void **state) {
        static const struct {
                const char *what;
                uint64_t memory, forget, applied, commit, stored;
                Said said;
        } cases[] = {
                { "as much as there may be", 2000, 0, 10, 12, 15, SAID("= tree 1\n") },
                { "a byte more", 1999, 0, 10, 12, 15,
                  SAID(CUT_TO_10 "= tree 1 forget 2249 forget-again+2000\n") },
                { "applied so far", 1000, 0, 11, 20, 20,
                  SAID("core checkpointed 11 of term 5, configuration 1 (4 bytes)\n  trailing 1\n" LATER) },
                { "committed so far", 1000, 0, 20, 12, 20,
                  SAID("core checkpointed 12 of term 5, configuration 1 (4 bytes)\n  trailing 1\n" LATER) },
                { "durable so far", 1000, 0, 20, 20, 13,
                  SAID("core checkpointed 13 of term 5, configuration 1 (4 bytes)\n  trailing 1\n" LATER) },
                { "all", 1000, 0, 20, 20, 20, SAID(CUT_TO_20 LATER) },
                { "seen before", 1000, 2000, 20, 20, 20, SAID("= tree 1 forget 2000\n") },
                { "more than when it was seen before", 1000, 1999, 20, 20, 20, SAID(CUT_TO_20 LATER) },
                { "nothing of it is in memory", 1000, 0, 0, 20, 20, SAID(LATER) },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                p->options.memory_bytes = cases[i].memory;
                p->checkpoints.compact_bytes = cases[i].forget;
                fake.applied = cases[i].applied;
                fake.commit = cases[i].commit;
                parts.stored = cases[i].stored;
                parts.trees[1].applied = 20;
                replica_compact(p);
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }
}

static void memory_keeps_what_may_not_go(void **state) {
        for (unsigned i = 0; i < 13; i++) {
                Tree *tree;

                parts_begin();
                tree = p->trees.live;
                p->options.memory_bytes = 1000;
                if (i == 1)
                        p->trees.live = NULL;
                parts.installing = i == 2;
                parts.differs = i == 3;
                parts.undecided = i == 4;
                if (i == 5)
                        parts_fail("tree_begin_read", -EIO);
                if (i == 6)
                        parts_fail("tree_meta", -EIO);
                if (i == 7)
                        parts_fail("tree_configuration", -EIO);
                if (i == 9)
                        parts.trees[1].configuration_index = 11;
                if (i == 10)
                        parts.trees[1].configuration_index = 10;
                if (i == 11)
                        parts.trees[1].applied = 9;
                if (i == 12)
                        parts.configuration_size = 0;
                if (i == 8) {
                        alloc_fail_at(1);
                        replica_compact(p);
                        assert_true(alloc_has_failed());
                        alloc_fail_at(0);
                } else
                        replica_compact(p);
                parts_look();
                switch (i) {
                case 0:
                        expect(CUT_TO_10 LATER);
                        break;
                case 10:
                        expect("core checkpointed 10 of term 5, configuration 10 (4 bytes)\n  trailing "
                               "1\n" LATER);
                        break;
                case 12:
                        expect("core checkpointed 10 of term 5, configuration 1 (0 bytes)\n  trailing "
                               "1\n" LATER);
                        break;
                case 1:
                        expect("= tree 99\n");
                        break;
                case 2:
                case 3:
                case 4:
                        expect("= tree 1\n");
                        break;
                default:
                        expect(LATER);
                        break;
                }
                assert_int_equal(parts.n_txns, 0);
                p->trees.live = tree;
                parts_end();
        }

        static const struct {
                int r;
                Said said;
        } cases[] = {
                { -EAGAIN, SAID(CUT_TO_10 LATER) },
                { -ESTALE, SAID(CUT_TO_10 LATER) },
                { -EIO, SAID(CUT_TO_10 "= tree 1 error -5 \"the replica cannot continue: Input/output "
                                       "error\" failing forget 2125 forget-again+2000 stop!\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                p->options.memory_bytes = 1000;
                parts_fail("raft_core_checkpointed", cases[i].r);
                replica_compact(p);
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }

        /* Five entries may stay: of five, nothing can go. */
        parts_begin();
        p->options.memory_bytes = 1000;
        parts.more_bytes = 600;
        parts.first = 16;
        fake.applied = fake.commit = parts.stored = 20;
        parts.trees[1].applied = 20;
        replica_compact(p);
        expect_state("= tree 1 forget 1225 forget-again+2000\n");
        p->checkpoints.compact_bytes = 0;
        parts.first = 15;
        replica_compact(p);
        expect_state(CUT_TO_20 "= tree 1 forget 1325 forget-again+2000\n");
        parts_end();
}

static void it_is_tried_again_after_2_s(void **state) {
        parts_begin();
        p->options.memory_bytes = 1000;
        replica_compact(p);
        expect_state(CUT_TO_10 LATER);
        fake_pass(500);
        p->checkpoints.compact_bytes = 0;
        replica_compact(p);
        expect_state(CUT_TO_10 "= tree 1 forget 2125 forget-again+1500\n");
        fake_pass(FORGET_AGAIN_MS - 501);
        expect("");
        fake_pass(1);
        expect_state(CUT_TO_10 LATER);
        p->depth = 1;
        p->checkpoints.compact_bytes = 5;
        fake_pass(FORGET_AGAIN_MS);
        expect_state("= tree 1 depth 1\n");
        p->depth = 0;
        p->checkpoints.compact_bytes = 0;
        replica_compact(p);
        parts_forget();
        p->state = REPLICA_RESTARTING;
        fake_pass(FORGET_AGAIN_MS);
        expect_state("= tree 1 restarting\n");
        p->state = REPLICA_OPEN;
        parts.last = 4; /* forgotten: nothing more is due */
        replica_compact(p);
        expect_state("= tree 1\n");
        parts.last = 20;
        p->options.memory_bytes = 1999;
        p->checkpoints.compact_bytes = 1;
        replica_compact(p);
        expect_state(CUT_TO_10 "= tree 1 forget 2249 forget-again+2000\n");
        parts_end();
}

static void what_a_follower_lacks_stays_up_to_half_of_the_tree(void **state) {
        static const struct {
                const char *what;
                uint64_t match, file_size, checkpoint_bytes;
                bool follows;
                RaftServerRole role;
                Said said;
        } cases[] = {
                { "nothing is lacked", 15, 8000, 100000, false, RAFT_ROLE_VOTER, SAID(CUT_TO_20 LATER) },
                { "one is lacked", 14, 3200, 100000, false, RAFT_ROLE_VOTER,
                  SAID("core checkpointed 20 of term 5, configuration 1 (4 bytes)\n  trailing 8\n" LATER) },
                { "by a standby", 14, 3200, 100000, false, RAFT_ROLE_STANDBY,
                  SAID("core checkpointed 20 of term 5, configuration 1 (4 bytes)\n  trailing 8\n" LATER) },
                { "by a spare", 14, 3200, 100000, false, RAFT_ROLE_SPARE, SAID(CUT_TO_20 LATER) },
                { "by one of which nothing is known", UINT64_MAX, 3200, 100000, false, RAFT_ROLE_VOTER,
                  SAID(CUT_TO_20 LATER) },
                { "but we do not lead", 14, 3200, 100000, true, RAFT_ROLE_VOTER, SAID(CUT_TO_20 LATER) },
                { "of a small tree", 14, 1000, 100000, false, RAFT_ROLE_VOTER, SAID(CUT_TO_20 LATER) },
                { "of a large one", 14, 3998, 100000, false, RAFT_ROLE_VOTER,
                  SAID("core checkpointed 20 of term 5, configuration 1 (4 bytes)\n  trailing 9\n" LATER) },
                { "of a larger one", 14, 4000, 100000, false, RAFT_ROLE_VOTER, SAID(LATER) },
                { "up to the bytes between checkpoints", 14, 8000, 1600, false, RAFT_ROLE_VOTER,
                  SAID("core checkpointed 20 of term 5, configuration 1 (4 bytes)\n  trailing 8\n" LATER) },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                lead();
                if (cases[i].follows)
                        parts.state = RAFT_STATE_FOLLOWER;
                p->options.memory_bytes = 1000;
                p->options.checkpoint_bytes = cases[i].checkpoint_bytes;
                parts.file_size = cases[i].file_size;
                parts.match[1] = 0; /* we ourselves lack nothing */
                parts.match[3] = cases[i].match;
                fake.servers.items[2].role = cases[i].role;
                fake.applied = fake.commit = parts.stored = 20;
                parts.trees[1].applied = 20;
                replica_compact(p);
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }

        /* Wherever it stands in the configuration. */
        parts_begin();
        lead();
        p->options.memory_bytes = 1000;
        fake.servers.items[0].id = 2;
        fake.servers.items[1].id = 1;
        parts.match[2] = 3;
        assert_int_equal(replica_trailing(p, 20), 20);
        parts_end();

        /* Behind a checkpoint stays what memory may hold, and at most what is to be kept. */
        parts_begin();
        p->options.memory_bytes = 1000; /* half of it: five entries, from 16 on */
        assert_int_equal(replica_trailing(p, 20), 5);
        assert_int_equal(replica_trailing(p, 16), 1);
        assert_int_equal(replica_trailing(p, 15), 1);
        assert_int_equal(replica_trailing(p, 10), 1);
        assert_int_equal(replica_trailing(p, 18), 3);
        p->options.checkpoint_kept = 2;
        assert_int_equal(replica_trailing(p, 18), 2);
        p->options.memory_bytes = 1001;
        p->options.checkpoint_kept = 500;
        assert_int_equal(replica_trailing(p, 20), 5);
        p->options.memory_bytes = 998;
        assert_int_equal(replica_trailing(p, 20), 4);
        lead();
        parts.match[3] = 3;
        Tree *tree = TAKE_PTR(p->trees.live); /* without a tree its size says nothing */
        assert_int_equal(replica_trailing(p, 20), 4);
        p->trees.live = tree;
        assert_int_equal(replica_trailing(p, 20), 20);
        parts_end();
}

static void the_state_is_that_of_the_tree(void **state) {
        static const struct {
                const char *name;
                int error;
                bool has_message;
        } cases[] = { { "tree_begin_read", -EIO, true },
                      { "tree_meta", -EIO, true },
                      { "tree_configuration", -EIO, true } };
        Checkpoint c;
        Error err = {};

        parts_begin();
        assert_int_equal(replica_read_info(p, &c, &err), 0);
        assert_int_equal(c.fd, -1);
        assert_int_equal(c.meta.applied, 10);
        assert_int_equal(c.configuration_size, 4);
        assert_memory_equal(c.configuration, "conf", 4);
        checkpoint_done(&c);
        parts.configuration_size = 1;
        assert_int_equal(replica_read_info(p, &c, &err), 0);
        assert_int_equal(c.configuration_size, 1);
        checkpoint_done(&c);
        parts.configuration_size = 0;
        assert_int_equal(replica_read_info(p, &c, &err), 0);
        assert_null(c.configuration);
        assert_int_equal(c.configuration_size, 0);
        parts.configuration_size = 4;
        alloc_fail_at(1);
        assert_int_equal(replica_read_info(p, &c, &err), -ENOMEM);
        alloc_fail_at(0);
        assert_null(c.configuration);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_fail(cases[i].name, cases[i].error);
                assert_int_equal(replica_read_info(p, &c, &err), cases[i].error);
                assert_string_equal(err.message, "Failed to read the tree in /tree: Input/output error");
                assert_null(c.configuration);
        }
        parts_end();
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(term_vote_and_entries_go_to_the_log),
                cmocka_unit_test(followers_get_the_commit_index_once),
                cmocka_unit_test(a_received_tree_takes_the_place_of_ours),
                cmocka_unit_test(entries_are_applied_in_one_transaction),
                cmocka_unit_test(each_call_that_fails_ends_the_replica),
                cmocka_unit_test(entries_that_the_tree_has_are_not_applied_again),
                cmocka_unit_test(a_slice_ends_at_each_of_its_limits),
                cmocka_unit_test(all_inputs_of_a_turn_share_what_it_may_cost),
                cmocka_unit_test(memory_drops_entries_beyond_its_limit),
                cmocka_unit_test(memory_keeps_what_may_not_go),
                cmocka_unit_test(it_is_tried_again_after_2_s),
                cmocka_unit_test(what_a_follower_lacks_stays_up_to_half_of_the_tree),
                cmocka_unit_test(the_state_is_that_of_the_tree),
        };

        return cmocka_run_group_tests_name("raft_replica_ops", tests, NULL, NULL);
}
