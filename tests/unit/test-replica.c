/* The replica between its parts: what each input leads to, in which order, with which limits, and what
 * becomes of each call that fails. The parts are played; tests/sim/ has the real ones.
 * tests/unit/test-replica_recovery.c is how it begins, ends and comes back. */

#include "tests/lib/test.h"
#include "kvstore/command/cost.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_parts.h"

/* What the parts say at steps that repeat. */
#define ADOPTED  "folder copy of tree 1\nlog 7: checkpoint of entry 10, 3000 bytes\nfolder adopt 10\n"
#define COPIED   ADOPTED "transfers step\n"
#define REPORTED "core checkpointed 10 of term 5, configuration 1 (4 bytes)\n"
#define FLUSHED  "compare flushed 0\nflushed 0\n"
#define APPENDED "core receive append of 2 at b:2 term 5\n"

#define p        (parts.p)
enum { SILENCE_MS = 800, COPY_RETRY_MS = 10000 }; /* twice the election timeout; of checkpoints.c */

/* -- Helpers -- */

static void receive_of(PeerFrame type, uint64_t cluster, uint64_t from, uint64_t to, const RaftMessage *m) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, cluster);
        write_u64(&w, from);
        write_u64(&w, to);
        raft_message_encode(&w, m);
        fake.handlers[type].run(p, NULL, type, w.bytes, w.size);
}

static void receive(RaftMessage m) {
        receive_of(PEER_RAFT, 70, 2, 1, &m);
}

static RaftMessage append(uint64_t term) {
        static RaftEntry entry = { .term = 5, .type = RAFT_ENTRY_BARRIER };

        return (RaftMessage) { .type = RAFT_MESSAGE_APPEND,
                               .term = term,
                               .append = { .prev_index = 20,
                                           .prev_term = 5,
                                           .commit = 12,
                                           .entries = &entry,
                                           .n_entries = 1 } };
}

static RaftMessage snapshot(uint64_t index, uint64_t term) {
        return (RaftMessage) { .type = RAFT_MESSAGE_SNAPSHOT,
                               .term = term,
                               .snapshot = { .index = index,
                                             .index_term = 5,
                                             .configuration_index = 1,
                                             .configuration = "conf",
                                             .configuration_size = 4 } };
}

static void lead(void) {
        parts.state = RAFT_STATE_LEADER;
        parts.leader = 1;
        for (size_t i = 0; i < ELEMENTS(parts.match); i++)
                parts.match[i] = 20;
}

/* One of its conditions, of those that most inputs look at. */
typedef enum Condition { OPEN, NO_CORE, RESTARTING, FAILED, CLOSING, _CONDITION_MAX } Condition;

static void set(Condition c, bool on) {
        static const ReplicaState states[] = { REPLICA_OPEN, REPLICA_WAITING, REPLICA_RESTARTING,
                                               REPLICA_FAILING, REPLICA_CLOSING };
        static RaftCore *core;

        if (c == NO_CORE || c == CLOSING) {
                if (on)
                        core = TAKE_PTR(p->core);
                else
                        p->core = core;
        }
        p->error = on && c == FAILED ? -EIO : 0;
        p->state = on ? states[c] : REPLICA_OPEN;
}

/* -- Around an input -- */

static void the_tick_is_when_the_core_wants_it(void **state) {
        uint64_t serial;

        parts_begin();
        replica_arm(p);
        expect_state("= tree 1\n");
        parts.timeout_ms = fake.now_ms + 50;
        replica_arm(p);
        expect_state("= tree 1 tick+50\n");
        serial = p->tick.serial;
        replica_arm(p);
        assert_int_equal(p->tick.serial, serial);
        fake_pass(50);
        expect_state("core tick\n" FLUSHED "= tree 1\n");
        parts.timeout_ms = 3;
        replica_arm(p);
        expect_state("= tree 1 tick+0\n");
        parts.timeout_ms = fake.now_ms + 1;
        replica_arm(p);
        expect_state("= tree 1 tick+1\n");
        set(CLOSING, true);
        replica_arm(p);
        set(CLOSING, false);
        expect_state("= tree 1\n");
        replica_arm(p);
        set(NO_CORE, true);
        replica_arm(p);
        set(NO_CORE, false);
        expect_state("= tree 1\n");
        replica_arm(p);
        parts.timeout_ms = UINT64_MAX;
        replica_arm(p);
        expect_state("= tree 1\n");
        parts.timeout_ms = fake.now_ms + 3; /* by the input */
        p->applying.next.run(p);
        expect_state("core apply\n" FLUSHED "= tree 1 tick+3\n");
        parts_end();

        parts_begin();
        parts.timeout_ms = 1100;
        alloc_fail_at(1);
        replica_arm(p);
        assert_true(alloc_has_failed());
        alloc_fail_at(0);
        expect_state("= tree 1 error -12 \"out of memory\" failing stop!\n");
        parts_end();
}

static void without_a_vote_the_silence_of_the_leader_is_watched(void **state) {
        parts_begin();
        parts.role = RAFT_ROLE_STANDBY;
        replica_arm(p);
        expect_state("= tree 1 silence+800\n");
        fake_pass(1);
        replica_arm(p);
        expect_state("= tree 1 silence+799\n");
        fake_pass(99);
        receive(append(5));
        expect_state(APPENDED FLUSHED "= tree 1 silence+700\n");
        receive(append(4)); /* of an earlier term: no sign of a leader */
        fake_pass(SILENCE_MS - 1);
        expect_state("core receive append of 2 at b:2 term 4\n" FLUSHED "= tree 1 silence+1\n");
        assert_int_equal(replica_leader(p), 2);
        fake_pass(1);
        expect_state("transfers step\ncompare flushed 2\nflushed 2\n= tree 1 silent\n");
        assert_int_equal(replica_leader(p), 0);
        replica_arm(p); /* once it is silent, it stays so until it says something */
        expect_state("= tree 1 silent\n");
        fake_pass(1);
        receive(append(5));
        expect_state(APPENDED "transfers step\ncompare flushed 2\nflushed 2\n= tree 1 silence+800\n");
        assert_int_equal(replica_leader(p), 2);
        timer_stop(&p->contact.silence);
        p->contact.last_ms = 0;
        receive(snapshot(9, 5));
        expect_state("core receive snapshot of 2 at b:2 term 5\n" FLUSHED "= tree 1 silence+800\n");
        for (Condition c = NO_CORE; c <= RESTARTING; c++) {
                set(c, true);
                p->contact.last_ms = 0;
                p->contact.silence.fire(p);
                set(c, false);
        }
        parts.role = RAFT_ROLE_VOTER;
        p->contact.silence.fire(p);
        expect_state("= tree 1 silence+800\n");
        p->contact.silent = true;
        assert_int_equal(replica_leader(p), 2);
        timer_stop(&p->contact.silence);
        receive(append(5)); /* who has a vote asks the engine */
        expect_state(APPENDED "transfers step\ncompare flushed 2\nflushed 2\n= tree 1\n");
        parts_end();
}

static void what_the_core_answers_may_end_the_replica(void **state) {
        static const struct {
                int r;
                ReplicaState state;
                bool behind;
                Said said;
        } cases[] = {
                { 0, REPLICA_OPEN, .said = SAID("= tree 1\n") },
                { 0, .state = REPLICA_TRANSFERRING, .said = SAID("= tree 1 transferring\n") },
                { 0, REPLICA_OPEN, .behind = true, .said = SAID("= tree 1 apply!\n") },
                { -ERESTART, REPLICA_OPEN, .said = SAID("= tree 1 restarting stop!\n") },
                { -ERESTART, .state = REPLICA_RESTARTING, .said = SAID("= tree 1 restarting\n") },
                { -ESHUTDOWN, REPLICA_OPEN,
                  .said = SAID("= tree 1 error -108 \"the log contradicts what the cluster has committed; "
                               "run fleetd --reset and let this host join again\" failing stop!\n") },
                { -EIO, REPLICA_OPEN,
                  .said = SAID("= tree 1 error -5 \"the replica cannot continue: Input/output error\" "
                               "failing stop!\n") },
                { -EIO, .state = REPLICA_RESTARTING,
                  .said = SAID("= tree 1 error -5 \"the replica cannot continue: Input/output error\" "
                               "stopping stop!\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                p->state = cases[i].state;
                parts.behind = cases[i].behind;
                replica_enter(p);
                assert_int_equal(p->depth, 1);
                replica_leave(p, cases[i].r);
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }

        /* Also while it stops: nothing is handed over any more. */
        parts_begin();
        p->error = -ENOSPC;
        p->state = REPLICA_TRANSFERRING;
        replica_enter(p);
        replica_leave(p, -EIO);
        expect_state("= tree 1 error -28 \"\" transferring stop!\n");
        parts_end();
}

static void each_input_asks_whether_there_is_a_core(void **state) {
        for (Condition c = OPEN; c < _CONDITION_MAX; c++) {
                parts_begin();
                lead();
                set(c, true);
                parts_say("-- condition %d", c);
                p->tick.fire(p);
                parts_say("-- apply");
                p->applying.next.run(p);
                parts_say("-- appended");
                replica_on_appended(p, 3, 12);
                parts_say("-- raft");
                receive(append(5));
                parts_say("-- bulk");
                fake.handlers[PEER_SNAPSHOT].run(p, NULL, PEER_SNAPSHOT, "BULK", 4);
                parts_say("-- ack");
                fake.handlers[PEER_SNAPSHOT_ACK].run(p, NULL, PEER_SNAPSHOT_ACK, "ACK", 3);
                parts_say("-- tree");
                fake.handlers[PEER_TREE].run(p, NULL, PEER_TREE, "TREE", 4);
                parts_look();
                set(c, false);
                switch (c) {
                case OPEN:
                        expect("-- condition 0\ncore tick\n" FLUSHED "-- apply\ncore apply\n" FLUSHED
                               "-- appended\ncore appended 3 12\n" FLUSHED "-- raft\n" APPENDED FLUSHED
                               "-- bulk\nbulk BULK\n-- ack\nack ACK\n-- tree\ncompare frame TREE\n= tree 1 "
                               "notice!\n");
                        break;
                case NO_CORE:
                        expect("-- condition 1\n-- apply\n-- appended\n-- raft\n-- bulk\n-- ack\n-- "
                               "tree\ncompare frame TREE\n= coreless tree 1 waiting\n");
                        break;
                case RESTARTING:
                        expect("-- condition 2\n-- apply\n-- appended\n-- raft\n-- bulk\n-- ack\n-- tree\n"
                               "compare frame TREE\n= tree 1 restarting\n");
                        break;
                case FAILED:
                        expect("-- condition 3\ncore tick\n" FLUSHED "-- apply\ncore apply\n" FLUSHED
                               "-- appended\ncore appended 3 12\n" FLUSHED "-- raft\n" APPENDED FLUSHED
                               "-- bulk\n-- ack\n-- tree\ncompare frame TREE\n= tree 1 error -5 \"\" "
                               "failing\n");
                        break;
                default:
                        expect("-- condition 4\n-- apply\n-- appended\n-- raft\n-- bulk\n-- ack\n-- "
                               "tree\ncompare frame TREE\n= coreless tree 1 closing\n");
                        break;
                }
                parts_end();
        }
}

static void an_input_that_fails_ends_the_replica(void **state) {
        parts_begin();
        parts_fail("raft_core_tick", -ENOMEM);
        p->tick.fire(p);
        expect_state(
                "core tick\n" FLUSHED
                "= tree 1 error -12 \"the replica cannot continue: Cannot allocate memory\" failing stop!\n");
        parts_end();
        parts_begin();
        parts_fail("raft_core_apply", -ENOMEM);
        p->applying.next.run(p);
        expect_state(
                "core apply\n" FLUSHED
                "= tree 1 error -12 \"the replica cannot continue: Cannot allocate memory\" failing stop!\n");
        parts_end();
        parts_begin();
        parts_fail("raft_core_appended", -ESHUTDOWN);
        replica_on_appended(p, 1, 2);
        expect_state("core appended 1 2\n" FLUSHED
                     "= tree 1 error -108 \"the log contradicts what the cluster has committed; run fleetd "
                     "--reset and let this host join again\" failing stop!\n");
        parts_end();
        parts_begin();
        parts_fail("raft_core_receive", -ERESTART);
        parts.installing = true; /* is not asked any more */
        receive(append(5));
        expect_state(APPENDED FLUSHED "= tree 1 restarting stop!\n");
        parts_end();
        parts_begin();
        parts_fail("raft_core_receive", -EIO);
        parts.installing = true;
        receive(append(5));
        expect_state(APPENDED FLUSHED
                     "= tree 1 error -5 \"the replica cannot continue: Input/output error\" failing stop!\n");
        parts_end();
        parts_begin();
        parts.installing = true;
        parts_fail("raft_core_installed", -EIO);
        receive(append(5));
        expect_state(APPENDED
                     "core installed\n" FLUSHED
                     "= tree 1 error -5 \"the replica cannot continue: Input/output error\" failing stop!\n");
        parts_end();
        parts_begin();
        replica_on_log_failed(p, -EROFS, "log.1: read-only");
        expect_state("= tree 1 error -30 \"log.1: read-only\" failing stop!\n");
        parts_end();
}

static void a_write_that_hangs_for_5_s_of_ticks_ends_the_replica(void **state) {
        parts_begin();
        parts.oldest_ms = fake.now_ms;
        parts.timeout_ms = fake.now_ms + 90000; /* heartbeats of a leader postpone it */
        replica_arm(p);
        for (unsigned i = 1; i < 5; i++) {
                assert_int_equal(p->tick.due_ms, fake.now_ms + 1000);
                fake.now_ms += i == 1 ? 100000 : 1000; /* a span without ticks counts as one second */
                p->tick.fire(p);
                assert_int_equal(p->write_watch.waited_ms, i * 1000);
                parts.timeout_ms = fake.now_ms + 90000;
                replica_arm(p);
        }
        assert_int_equal(p->error, 0);
        fake.now_ms += 1000;
        parts_forget();
        p->tick.fire(p);
        expect_state("core tick\n" FLUSHED "= tree 1 error -110 \"a write to the log has not completed for 5 "
                     "s: the disk hangs\" failing waited 5000 tick+1000 stop!\n");
        parts_end();

        /* Another write, none, and no log begin from the start. */
        for (unsigned i = 0; i < 3; i++) {
                parts_begin();
                parts.oldest_ms = fake.now_ms - 3;
                p->tick.fire(p);
                fake.now_ms += 7;
                p->tick.fire(p);
                assert_int_equal(p->write_watch.waited_ms, 10);
                parts.oldest_ms = i == 0 ? fake.now_ms + 7 : i == 1 ? 0 : parts.oldest_ms;
                RaftLog *log = p->log;
                p->log = i == 2 ? NULL : log;
                fake.now_ms += 7;
                p->tick.fire(p);
                assert_int_equal(p->write_watch.waited_ms, 0);
                p->log = log;
                parts.oldest_ms = fake.now_ms;
                p->tick.fire(p);
                fake.now_ms += 7;
                p->tick.fire(p);
                assert_int_equal(p->write_watch.waited_ms, 7);
                parts_end();
        }
}

/* -- Messages -- */

static void a_failed_replica_observes_the_leader(void **state) {
        parts_begin();
        replica_fail(p, -EIO, "it failed");
        fake_run();
        expect_state("core free\nlog close\nflushed 3\nfailed -5: it failed\n= coreless logless tree 1 error "
                     "-5 \"it failed\" failed observed-term 5 durable 15 attempts 1 comeback+500\n");
        assert_int_equal(replica_known_leader(p), 0);
        assert_int_equal(replica_known_term(p), 0);
        receive(append(4));
        expect_state("= coreless logless tree 1 error -5 \"it failed\" failed observed-term 5 durable 15 "
                     "attempts 1 comeback+500\n");
        receive(append(5));
        assert_int_equal(replica_known_leader(p), 2);
        assert_int_equal(replica_known_term(p), 5);
        expect_state("= coreless logless tree 1 error -5 \"it failed\" failed changed 2 observed 2 "
                     "observed-term 5 durable 15 attempts 1 silence+800 comeback+500 flush!\n");
        fake_run();
        expect_state("compare flushed 2\nflushed 2\n= coreless logless tree 1 error -5 \"it failed\" failed "
                     "observed 2 observed-term 5 durable 15 attempts 1 silence+800 comeback+500\n");
        receive((RaftMessage) { .type = RAFT_MESSAGE_VOTE, .term = 9 });
        fake.handlers[PEER_RAFT].run(p, NULL, PEER_RAFT, "short", 5);
        fake_pass(300);
        parts_forget();
        receive(append(5)); /* the same again: nothing to notify */
        expect_state("= coreless logless tree 1 error -5 \"it failed\" failed observed 2 observed-term 5 "
                     "durable 15 attempts 1 silence+500 comeback+200\n");
        timer_stop(&p->recovery.retry);
        fake_pass(SILENCE_MS - 300);
        expect_state("= coreless logless tree 1 error -5 \"it failed\" failed observed 2 observed-term 5 "
                     "durable 15 attempts 1 silence+300\n");
        fake_pass(299);
        assert_int_equal(replica_known_leader(p), 2);
        fake_pass(1);
        assert_int_equal(replica_known_leader(p), 0);
        expect_state("compare flushed 2\nflushed 2\n= coreless logless tree 1 error -5 \"it failed\" failed "
                     "observed-term 5 durable 15 attempts 1\n");
        p->contact.silence.fire(p);
        expect_state("= coreless logless tree 1 error -5 \"it failed\" failed observed-term 5 durable 15 "
                     "attempts 1\n");

        /* Another leader of the same term cannot be, but another term can. */
        receive(append(6));
        fake_run();
        parts_forget();
        receive(append(7));
        expect_state("= coreless logless tree 1 error -5 \"it failed\" failed changed 2 observed 2 "
                     "observed-term 7 durable 15 attempts 1 silence+800 flush!\n");
        p->state = REPLICA_QUARANTINED;
        assert_int_equal(replica_known_leader(p), 0);
        p->state = REPLICA_CLOSING;
        assert_int_equal(replica_known_leader(p), 0);
        p->state = REPLICA_FAILED;
        assert_int_equal(replica_known_leader(p), 2);
        assert_int_equal(replica_known_term(p), 7);
        p->error = 0;
        p->state = REPLICA_WAITING;
        assert_int_equal(replica_known_leader(p), 0);
        receive(append(8)); /* one that waits to join observes no leader */
        assert_int_equal(p->contact.observed.term, 7);
        parts_end();
}

static void frames_of_others_are_dropped(void **state) {
        static const struct {
                uint64_t cluster, from, to, handshake;
                bool taken;
        } cases[] = {
                { 70, 2, 1, 2, true },  { 70, 2, 1, 0, true },  { 70, 3, 1, 0, true },
                { 70, 3, 1, 2, false }, { 71, 2, 1, 2, false }, { 70, 0, 1, 0, false },
                { 70, 2, 0, 2, false }, { 70, 2, 3, 2, false }, { 70, 1, 1, 0, false },
        };
        RaftMessage m = append(5);

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                parts.handshake.raft_id = cases[i].handshake;
                receive_of(PEER_RAFT, cases[i].cluster, cases[i].from, cases[i].to, &m);
                assert_int_equal(fake.said.chars && strstr(fake.said.chars, "core receive"), cases[i].taken);
                parts_end();
        }
        parts_begin();
        p->identity.raft_id = 0;
        receive_of(PEER_RAFT, 70, 2, 0, &m);
        expect("");
        p->identity.raft_id = 1;
        fake.handlers[PEER_RAFT].run(p, NULL, PEER_RAFT, "short", 5);
        expect("");
        receive_of(PEER_RAFT, 70, 2, 1, &(RaftMessage) { .type = 6, .term = 5 }); /* is whole; cut below */
        expect("core receive timeout-now of 2 at b:2 term 5\n" FLUSHED);
        fake.handlers[PEER_RAFT].run(p, NULL, PEER_RAFT,
                                     "\x46\0\0\0\0\0\0\0"
                                     "\2\0\0\0\0\0\0\0"
                                     "\1\0\0\0\0\0\0\0"
                                     "\x01",
                                     25);
        expect("log 7: dropped a message of b:2: Bad message\n");
        parts_end();
}

static void messages_are_counted(void **state) {
        parts_begin();
        lead();
        replica_send_message(p, 2, &(RaftMessage) { .type = RAFT_MESSAGE_VOTE, .term = 5 });
        assert_int_equal(p->stats.appends_sent, 0);
        RaftMessage m = append(5);
        replica_send_message(p, 2, &m);
        assert_int_equal(p->stats.appends_sent, 1);
        assert_int_equal(p->stats.n_members, 1);
        assert_int_equal(p->stats.members[0].raft_id, 2);
        assert_int_equal(p->stats.members[0].waiting_since_ms, fake.now_ms);
        assert_int_equal(p->stats.members[0].n_failures, 0);
        parts_fail("peers_send_raft", -ENOTCONN);
        replica_send_message(p, 2, &m);
        assert_int_equal(p->stats.members[0].n_failures, 1);
        receive(m);
        assert_int_equal(p->stats.appends_received, 1);
        fake.now_ms += 5;
        receive((RaftMessage) { .type = RAFT_MESSAGE_APPEND_RESULT, .term = 5 });
        assert_int_equal(p->stats.members[0].n_answers, 1);
        assert_true(p->stats.members[0].current == 5);
        receive((RaftMessage) { .type = RAFT_MESSAGE_VOTE, .term = 5 });
        assert_int_equal(p->stats.appends_received, 1);
        assert_int_equal(p->stats.members[0].n_answers, 1);
        expect("send 2 (70 1 2) vote term 5: prev 0 of 0, commit 0\nsend 2 (70 1 2) append term 5: prev 20 "
               "of 5, commit 12\nsend 2 (70 1 2) append term 5: prev 20 of 5, commit 12\n" APPENDED FLUSHED
               "core receive append-result of 2 at b:2 term 5\n" FLUSHED
               "core receive vote of 2 at b:2 term 5\n" FLUSHED);
        parts_end();
}

static void a_snapshot_needs_its_tree(void **state) {
        Checkpoint tree = { .fd = -1, .meta = { .applied = 13 } };

        parts_begin();
        parts.role = RAFT_ROLE_STANDBY;
        receive(snapshot(13, 5)); /* behind what is committed (12), and not here */
        expect_state("= tree 1\n");
        receive(snapshot(12, 5));
        expect_state("core receive snapshot of 2 at b:2 term 5\n" FLUSHED "= tree 1 silence+800\n");
        parts.received = &tree;
        parts.installing = true;
        receive(snapshot(13, 5));
        expect_state("core receive snapshot of 2 at b:2 term 5, incoming\ncore installed\n" FLUSHED
                     "= tree 1 silence+800\n");
        assert_null(p->incoming);
        receive(snapshot(13, 4));
        expect_state("core receive snapshot of 2 at b:2 term 4, incoming\n" FLUSHED "= tree 1 silence+800\n");
        parts_end();
}

static void a_snapshot_waits_for_our_copy_to_end(void **state) {
        Checkpoint tree = { .fd = -1, .meta = { .applied = 13 } };

        for (unsigned i = 0; i < 5; i++) {
                parts_begin();
                parts.received = &tree;
                replica_checkpoint(p);
                receive(append(5)); /* others do not wait */
                parts_forget();
                alloc_fail_at(i == 1 ? 1 : 0);
                receive(snapshot(13, 5));
                assert_int_equal(alloc_has_failed(), i == 1);
                alloc_fail_at(0);
                assert_int_equal(!p->deferred.bytes, i == 1);
                receive(snapshot(14, 5)); /* the first one counts */
                expect_state("= tree 1 copying held\n");
                if (i == 2)
                        set(RESTARTING, true);
                if (i == 3)
                        set(NO_CORE, true);
                if (i == 4)
                        p->state = REPLICA_CLOSING;
                parts_work();
                parts_look();
                switch (i) {
                case 0:
                        expect(COPIED "core receive snapshot of 2 at b:2 term 5, incoming\n" REPORTED
                                      "  trailing 10\n" FLUSHED "= tree 1\n");
                        break;
                case 1:
                        expect(COPIED "core receive snapshot of 2 at b:2 term 5, incoming\n" REPORTED
                                      "  trailing 10\n" FLUSHED "= tree 1\n");
                        break;
                case 2:
                        expect(COPIED FLUSHED "= tree 1 restarting copy-untold\n");
                        break;
                case 3:
                        expect(ADOPTED FLUSHED "= coreless tree 1 waiting copy-untold\n");
                        set(NO_CORE, false);
                        break;
                default:
                        expect("folder copy of tree 1\n= tree 1 closing held closed!\n");
                        break;
                }
                p->state = REPLICA_OPEN;
                parts_end();
        }
}

static void chunks_are_a_sign_of_a_leader(void **state) {
        parts_begin();
        parts.role = RAFT_ROLE_STANDBY;
        fake.handlers[PEER_SNAPSHOT].run(p, NULL, PEER_SNAPSHOT, "BULK", 4);
        assert_int_equal(p->contact.last_ms, 0);
        parts.wanted = true;
        p->contact.silent = true;
        fake.handlers[PEER_SNAPSHOT].run(p, NULL, PEER_SNAPSHOT, "BULK", 4);
        assert_int_equal(p->contact.last_ms, fake.now_ms);
        expect_state("bulk BULK\nbulk BULK\n= tree 1 changed 2 silence+800\n");
        parts_end();
}

/* -- Inputs of the public interface -- */

static void what_is_submitted_goes_to_the_core(void **state) {
        uint64_t index = 0, term = 0;
        Error err = {};

        parts_begin();
        assert_int_equal(replica_submit(p, "abc", 3, &index, &term), 0);
        assert_int_equal(index, 21);
        assert_int_equal(term, 5);
        expect_state("core submit abc\n= tree 1\n");
        p->changed = RAFT_CHANGED_STATE;
        parts_fail("raft_core_submit", -EFBIG);
        assert_int_equal(replica_submit(p, "abc", 3, &index, &term), -EFBIG);
        expect_state("core submit abc\n= tree 1 changed 1 flush!\n");
        p->transfer.due_ms = 1;
        assert_int_equal(replica_submit(p, "abc", 3, &index, &term), -EREMOTE);
        p->transfer.due_ms = 0;
        parts.core_error = -EIO;
        assert_int_equal(replica_submit(p, "abc", 3, &index, &term), 0);
        expect_state("core submit abc\n= tree 1 error -5 \"the replica cannot continue: Input/output error\" "
                     "failing changed 1 flush! stop!\n");
        assert_int_equal(replica_submit(p, "abc", 3, &index, &term), -EREMOTE);
        assert_int_equal(replica_change(p, &(RaftChange) { .kind = RAFT_CHANGE_ADD, .id = 4 }, &err),
                         -EREMOTE);
        assert_string_equal(err.message, "this host does not lead");
        parts_end();

        parts_begin();
        assert_int_equal(replica_change(p, &(RaftChange) { .kind = RAFT_CHANGE_REMOVE, .id = 4 }, &err), 0);
        expect_state("core change 3 of 4\n= tree 1 flush!\n");
        parts_fail("raft_core_change", -EBUSY);
        assert_int_equal(replica_change(p, &(RaftChange) { .kind = RAFT_CHANGE_REMOVE, .id = 4 }, &err),
                         -EBUSY);
        assert_string_equal(err.message, "no change");
        expect_state("core change 3 of 4\n= tree 1 flush!\n");
        parts_fail("raft_core_change", -ENOMEM);
        assert_int_equal(replica_change(p, &(RaftChange) { .kind = RAFT_CHANGE_REMOVE, .id = 4 }, &err),
                         -ENOMEM);
        expect_state("core change 3 of 4\n= tree 1 error -12 \"the replica cannot continue: Cannot allocate "
                     "memory\" failing flush! stop!\n");
        parts_end();
}

/* -- Handing over -- */

static void leadership_goes_to_one_that_has_all(void **state) {
        parts_begin();
        assert_int_equal(replica_transfer(p, 2), -EREMOTE);
        assert_int_equal(replica_give_up_leadership(p), -EREMOTE);
        lead();
        parts.match[2] = 19;
        parts.match[3] = UINT64_MAX;
        fake.servers.items[2].role = RAFT_ROLE_VOTER;
        assert_int_equal(replica_give_up_leadership(p), 0);
        expect_state("= tree 1 transfer-due 1400\n");
        fake_pass(9);
        assert_int_equal(replica_give_up_leadership(p), 0); /* is under way */
        assert_int_equal(replica_transfer(p, 2), -EBUSY);
        fake_pass(390);
        replica_flush_notifications(p);
        expect_state(FLUSHED "= tree 1 transfer-due 1400 notice!\n");
        parts.match[3] = 20;
        replica_flush_notifications(p);
        expect_state("core transfer 3\n" FLUSHED "= tree 1 flush! notice!\n");

        /* To one that was named, also where another one is ready. */
        assert_int_equal(replica_transfer(p, 2), 0);
        expect_state("= tree 1 transfer-to 2 transfer-due 1799 flush! notice!\n");
        assert_int_equal(replica_give_up_leadership(p), 0);
        expect_state("core transfer 3\n= tree 1 flush! notice!\n");
        parts.match[3] = 19;
        assert_int_equal(replica_transfer(p, 2), 0);
        assert_int_equal(replica_give_up_leadership(p), 0); /* goes before one that was named */
        assert_int_equal(p->transfer.to, 0);
        p->transfer.due_ms = 0;
        assert_int_equal(replica_transfer(p, 2), 0);
        parts_forget();
        fake.now_ms += 400;
        parts_fail("raft_core_transfer", -EINVAL);
        replica_flush_notifications(p);
        expect_state("core transfer 2\n" FLUSHED "= tree 1 transfer-to 2 flush! notice!\n");

        /* Without a candidate, the core returns an error at once, which does not end the replica. */
        fake.servers.items[1].role = fake.servers.items[2].role = RAFT_ROLE_STANDBY;
        fake.servers.items[0].role = RAFT_ROLE_VOTER;
        parts_fail("raft_core_transfer", -ENOENT);
        assert_int_equal(replica_transfer(p, 0), -ENOENT);
        expect_state("core transfer 0\n= tree 1 flush! notice!\n");
        parts_end();

        /* The first that is ready. */
        parts_begin();
        lead();
        fake.servers.items[0].id = 2;
        fake.servers.items[1].id = 1;
        assert_int_equal(replica_transfer(p, 0), 0);
        expect("core transfer 2\n");
        parts_end();

        for (unsigned i = 0; i < 4; i++) {
                parts_begin();
                lead();
                parts.match[2] = parts.match[3] = 0;
                assert_int_equal(replica_transfer(p, 0), 0);
                set(i == 0 ? NO_CORE : i == 1 ? RESTARTING : i == 2 ? CLOSING : OPEN, true);
                if (i == 3)
                        parts.state = RAFT_STATE_FOLLOWER;
                assert_int_equal(replica_give_up_leadership(p), -EREMOTE);
                replica_flush_notifications(p);
                assert_int_equal(p->transfer.due_ms, i == 2 ? fake.now_ms + 400 : 0);
                set(i == 0 ? NO_CORE : i == 1 ? RESTARTING : i == 2 ? CLOSING : OPEN, false);
                parts_end();
        }

        /* One that fails still hands over, but not at another's wish. */
        parts_begin();
        lead();
        set(FAILED, true);
        assert_int_equal(replica_transfer(p, 2), -EREMOTE);
        assert_int_equal(replica_give_up_leadership(p), 0);
        expect_state("core transfer 2\n= tree 1 error -5 \"\" failing flush!\n");
        parts_end();
}

/* -- Checkpoints -- */

static void a_checkpoint_is_copied_adopted_and_reported(void **state) {
        parts_begin();
        p->options.checkpoint_kept = 3;
        p->checkpoints.entries_since = 7;
        p->checkpoints.bytes_since = 8;
        replica_checkpoint(p);
        expect_state("work checkpoints.c:checkpoints_copy_done nice 10\n= tree 1 copying\n");
        replica_checkpoint(p);
        replica_probe(p);
        expect("");
        parts_work();
        expect_state(COPIED REPORTED "  trailing 3\n" FLUSHED "= tree 1\n");

        /* The next one: the log is cut at the last but one, or what is kept. */
        parts.trees[1].applied = 14;
        replica_checkpoint(p);
        parts_forget();
        parts_work();
        expect_state("folder copy of tree 1\nlog 7: checkpoint of entry 14, 3000 bytes\nfolder adopt "
                     "14\nwork checkpoints.c:checkpoints_drop_done nice 0\ntransfers step\ncore checkpointed "
                     "14 of term 5, configuration 1 (4 bytes)\n  trailing 3\nlog cut 10\n" FLUSHED
                     "= tree 1 dropping previous 10\n");
        parts.trees[1].applied = 15;
        replica_checkpoint(p); /* while the file of the last one is still being closed */
        parts_forget();
        p->options.checkpoint_kept = 2;
        memmove(parts.works, parts.works + 1, sizeof(parts.works[0])); /* its copy first */
        parts.works[0]->work(p);
        Work *drop = &p->checkpoints.drop_work;
        parts.works[0]->done(p);
        deferred_cancel(&p->flush);
        p->flush.run(p);
        parts.works[0] = drop;
        expect_state("folder copy of tree 1\nlog 7: checkpoint of entry 15, 3000 bytes\nfolder adopt "
                     "15\ntransfers step\ncore checkpointed 15 of term 5, configuration 1 (4 bytes)\n  "
                     "trailing 2\nlog cut 13\n" FLUSHED "= tree 1 dropping previous 14\n");
        parts_work();
        expect_state("= tree 1 previous 14\n");
        parts_end();

        parts_begin();
        replica_checkpoint(p);
        parts_work();
        replica_checkpoint(p);
        parts_fail("loop_work", -ENOMEM);
        parts_forget();
        parts_work();
        expect_state(COPIED REPORTED "  trailing 10\n" FLUSHED "= tree 1 previous 10\n");
        assert_int_equal(p->checkpoints.drop_fd, -1);
        parts_end();
}

static void a_checkpoint_is_made_only_where_it_may(void **state) {
        for (unsigned i = 0; i < 10; i++) {
                Tree *tree;

                parts_begin();
                tree = p->trees.live;
                parts.differs = i == 1;
                parts.undecided = i == 2;
                p->checkpoints.retry_ms = fake.now_ms + (i == 3);
                p->trees.live = i == 4 ? NULL : tree;
                if (i >= 5 && i < 9)
                        set((Condition) (i - 4), true);
                if (i == 9)
                        parts_fail("loop_work", -ENOMEM);
                p->checkpoints.entries_since = 6;
                replica_checkpoint(p);
                assert_int_equal(p->checkpoints.copying, i == 0);
                assert_int_equal(p->checkpoints.entries_since, i == 0 ? 0 : 6);
                if (i == 9)
                        assert_int_equal(p->checkpoints.retry_ms, fake.now_ms + COPY_RETRY_MS);
                if (i >= 5 && i < 9)
                        set((Condition) (i - 4), false);
                p->trees.live = tree;
                parts_end();
        }

        /* A copy for verification does not depend on the reports of others. */
        for (unsigned i = 0; i < 8; i++) {
                Tree *tree;

                parts_begin();
                tree = p->trees.live;
                parts.differs = parts.undecided = true;
                p->checkpoints.retry_ms = fake.now_ms + 1;
                p->checkpoints.entries_since = 6;
                p->trees.live = i == 1 ? NULL : tree;
                if (i >= 2 && i < 6)
                        set((Condition) (i - 1), true);
                replica_probe(p);
                assert_int_equal(p->checkpoints.copying, i == 0 || i >= 6);
                if (i >= 2 && i < 6)
                        set((Condition) (i - 1), false);
                p->trees.live = tree;
                parts_forget();
                if (i == 6)
                        parts_fail("data_dir_probe", -EUCLEAN);
                if (i == 7)
                        parts_fail("data_dir_probe", -EIO);
                if (p->checkpoints.copying) {
                        parts_work();
                        parts_look();
                }
                switch (i) {
                case 0:
                        expect("folder probe of tree 1\nlog 5: verified the tree of this host\ntransfers "
                               "step\n" FLUSHED "= tree 1 entries 6 retry 1001\n");
                        break;
                case 6:
                        expect("folder probe of tree 1\nlog 4 (-117): Failed to verify the tree: "
                               "data_dir_probe did it\nfolder distrust\ntransfers step\n" FLUSHED
                               "= tree 1 error -117 \"data_dir_probe did it\" failing entries 6 retry 11000 "
                               "stop!\n");
                        break;
                case 7:
                        expect("folder probe of tree 1\nlog 4 (-5): Failed to verify the tree: "
                               "data_dir_probe did it\ntransfers step\n" FLUSHED
                               "= tree 1 entries 6 retry 11000\n");
                        break;
                default:
                        break;
                }
                parts_end();
        }
}

static void a_copy_that_fails_is_tried_again_later(void **state) {
        for (unsigned i = 0; i < 3; i++) {
                parts_begin();
                replica_checkpoint(p);
                parts_forget();
                parts_fail("data_dir_copy", i == 0 ? -ENOSPC : -EUCLEAN);
                if (i == 2)
                        set(NO_CORE, true);
                parts_work();
                parts_look();
                if (i == 0)
                        expect("folder copy of tree 1\nlog 4 (-28): Failed to make a checkpoint: "
                               "data_dir_copy did it\ntransfers step\n" FLUSHED "= tree 1 retry 11000\n");
                else if (i == 1)
                        expect("folder copy of tree 1\nlog 4 (-117): Failed to make a checkpoint: "
                               "data_dir_copy did it\nfolder distrust\ntransfers step\n" FLUSHED
                               "= tree 1 error -117 \"data_dir_copy did it\" failing retry 11000 stop!\n");
                else
                        expect("folder copy of tree 1\nlog 4 (-117): Failed to make a checkpoint: "
                               "data_dir_copy did it\nfolder distrust\n" FLUSHED
                               "= coreless tree 1 error -117 \"data_dir_copy did it\" stopping retry 11000 "
                               "stop!\n");
                if (i == 2)
                        set(NO_CORE, false);
                parts_end();
        }

        /* What is said is of this attempt. */
        parts_begin();
        parts_fail("data_dir_copy", -ENOSPC);
        replica_checkpoint(p);
        parts_work();
        p->checkpoints.retry_ms = 0;
        parts_forget();
        parts.no_message = true;
        parts_fail("data_dir_copy", -EIO);
        replica_checkpoint(p);
        parts_work();
        expect("work checkpoints.c:checkpoints_copy_done nice 10\nfolder copy of tree 1\nlog 4 (-5): Failed "
               "to make a checkpoint: Input/output error\ntransfers step\n" FLUSHED);
        parts_end();

        parts_begin();
        replica_checkpoint(p);
        p->state = REPLICA_CLOSING;
        parts.busy = true;
        parts_forget();
        parts_work();
        expect_state("folder copy of tree 1\n= tree 1 closing closed!\n");
        parts.busy = false;
        parts_end();
}

static void the_core_takes_a_checkpoint_once_it_can(void **state) {
        static const struct {
                int r;
                Said said;
        } cases[] = {
                { -EAGAIN, SAID(COPIED REPORTED "  trailing 10\n" FLUSHED "= tree 1 copy-untold\n") },
                { -ESTALE, SAID(COPIED REPORTED
                                "  trailing 10\nwork checkpoints.c:checkpoints_copy_done nice 10\n" FLUSHED
                                "= tree 1 copying\n") },
                { -EIO, SAID(COPIED REPORTED "  trailing 10\n" FLUSHED
                                             "= tree 1 error -5 \"the replica cannot continue: Input/output "
                                             "error\" failing copy-untold stop!\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                replica_checkpoint(p);
                parts_forget();
                parts_fail("raft_core_checkpointed", cases[i].r);
                parts_work();
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }

        /* Not while it has failed, begins again, or has no core; nor while trees differ. */
        for (unsigned i = 0; i < 5; i++) {
                parts_begin();
                p->checkpoints.reported = false;
                if (i < 3)
                        set((Condition) (i + 1), true);
                parts.differs = i == 3;
                parts.undecided = i == 4;
                p->checkpoints.bytes_since = 1000000;
                p->options.memory_bytes = 100;
                replica_flush_notifications(p);
                assert_false(p->checkpoints.reported);
                assert_false(p->checkpoints.copying);
                if (i < 3)
                        set((Condition) (i + 1), false);
                parts.differs = parts.undecided = false;
                replica_flush_notifications(p);
                assert_true(p->checkpoints.reported);
                assert_true(p->checkpoints.copying);
                parts_end();
        }

        /* The log is cut up to the last but one, or as many entries as are kept, whichever is less. */
        static const struct {
                uint64_t previous, applied;
                Said said;
        } cuts[] = {
                { 5, 508,
                  SAID("core checkpointed 508 of term 0, configuration 0 (0 bytes)\n  trailing 500\nlog cut "
                       "5\n" FLUSHED) },
                { 9, 508,
                  SAID("core checkpointed 508 of term 0, configuration 0 (0 bytes)\n  trailing 500\nlog cut "
                       "8\n" FLUSHED) },
                { 9, 500,
                  SAID("core checkpointed 500 of term 0, configuration 0 (0 bytes)\n  trailing "
                       "500\n" FLUSHED) },
                { 9, 501,
                  SAID("core checkpointed 501 of term 0, configuration 0 (0 bytes)\n  trailing 500\nlog cut "
                       "1\n" FLUSHED) },
                { 0, 508,
                  SAID("core checkpointed 508 of term 0, configuration 0 (0 bytes)\n  trailing "
                       "500\n" FLUSHED) },
        };

        for (size_t i = 0; i < ELEMENTS(cuts); i++)
                for (unsigned without = 0; without < 2; without++) {
                        RaftLog *log;

                        parts_begin();
                        log = p->log;
                        p->log = without ? NULL : log;
                        p->data_dir.checkpoint.meta.applied = cuts[i].applied;
                        p->checkpoints.previous = cuts[i].previous;
                        p->checkpoints.reported = false;
                        replica_flush_notifications(p);
                        assert_true(p->checkpoints.reported);
                        if (without)
                                assert_null(strstr(fake.said.chars, "cut"));
                        else
                                parts_expect(cuts[i].said);
                        p->log = log;
                        parts_end();
                }
}

static void a_checkpoint_is_due_with_so_many_entries_or_bytes(void **state) {
        static const struct {
                uint64_t entries, bytes;
                bool due;
        } cases[] = {
                { 1000, 1000, true },  { 999, 1000, false }, { 1000, 999, false },
                { 999, 100000, true }, { 0, 99999, false },  { 0, 100000, true },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                p->checkpoints.entries_since = cases[i].entries;
                p->checkpoints.bytes_since = cases[i].bytes;
                replica_flush_notifications(p);
                assert_int_equal(p->checkpoints.copying, cases[i].due);
                if (cases[i].due) { /* once */
                        p->checkpoints.bytes_since = 100000;
                        replica_flush_notifications(p);
                        assert_int_equal(parts.n_works, 1);
                }
                parts_end();
        }
        parts_begin();
        Tree *tree = TAKE_PTR(p->trees.live);
        p->checkpoints.bytes_since = 100000;
        replica_flush_notifications(p);
        assert_false(p->checkpoints.copying);
        p->trees.live = tree;
        parts_end();
}

#ifdef PLANTED_BUGS
static void with_a_planted_bug_the_log_is_cut_without_a_checkpoint(void **state) {
        parts_begin();
        p->options.cut_unchecked = true;
        p->checkpoints.entries_since = p->checkpoints.bytes_since = 5;
        parts_fail("raft_log_cut", -EIO);
        replica_checkpoint(p);
        assert_int_equal(p->checkpoints.entries_since, 5);
        replica_checkpoint(p);
        expect_state("log cut 10\nlog cut 10\n= tree 1\n");
        p->checkpoints.entries_since = 5;
        RaftLog *log = TAKE_PTR(p->log);
        replica_checkpoint(p);
        expect_state("= logless tree 1 entries 5\n");
        p->log = log;
        parts_end();
}
#endif

/* -- Telling -- */

static void the_end_of_an_input_is_notified(void **state) {
        parts_begin();
        p->options.memory_bytes = 1000; /* more is in memory */
        replica_flush_notifications(p);
        expect_state(REPORTED "  trailing 1\n" FLUSHED "= tree 1 forget 2125 forget-again+2000\n");
        parts_end();

        parts_begin();
        p->changed = RAFT_CHANGED_COMMIT;
        replica_flush_notifications(p);
        expect_state("transfers step\ncompare flushed 8\nflushed 8\n= tree 1\n");
        replica_flush_notifications(p);
        expect_state(FLUSHED "= tree 1\n");
        lead();
        replica_flush_notifications(p);
        expect_state(FLUSHED "= tree 1 notice!\n");
        fake_run();
        p->notices.followers[0].sent = p->notices.followers[1].sent = 30;
        parts_forget();

        /* Of one that stops: it ends when another host leads. */
        set(FAILED, true);
        p->changed = RAFT_CHANGED_STATE;
        replica_flush_notifications(p);
        expect_state("compare flushed 1\nflushed 1\n= tree 1 error -5 \"\" failing\n");
        parts.state = RAFT_STATE_FOLLOWER;
        replica_flush_notifications(p);
        expect_state(FLUSHED "= tree 1 error -5 \"\" failing\n");
        p->state = REPLICA_TRANSFERRING;
        parts.state = RAFT_STATE_LEADER;
        replica_flush_notifications(p);
        expect_state(FLUSHED "= tree 1 error -5 \"\" transferring\n");
        parts.state = RAFT_STATE_FOLLOWER;
        p->state = REPLICA_STOPPING;
        replica_flush_notifications(p);
        expect_state(FLUSHED "= tree 1 error -5 \"\" stopping\n");
        p->state = REPLICA_TRANSFERRING;
        replica_flush_notifications(p);
        expect_state(FLUSHED "= tree 1 error -5 \"\" transferring stop!\n");
        p->state = REPLICA_CLOSING;
        p->changed = RAFT_CHANGED_STATE;
        replica_flush_notifications(p);
        expect("");
        p->error = 0;
        p->state = REPLICA_RESTARTING;
        p->flush.run(p);
        expect("compare flushed 1\nflushed 1\n");
        deferred_cancel(&p->recovery.stop);
        parts_end();
}

static void on_closed(void *userdata) {
        parts_say("closed");
}

static void closing_waits_for_all_that_is_under_way(void **state) {
        for (unsigned i = 0; i < 6; i++) {
                parts_begin();
                p->closing.pending = i == 1;
                p->checkpoints.copying = i == 2;
                p->checkpoints.dropping = i == 3;
                p->reopening.running = i == 4;
                parts.busy = i == 5;
                replica_work_ended(p);
                fake_run();
                expect("");
                replica_close(p, on_closed, NULL);
                parts_forget();
                fake_run();
                assert_int_equal(fake.said.size > 0, i == 0);
                parts_forget();
                if (i > 0) {
                        p->closing.pending = 0;
                        p->checkpoints.copying = p->checkpoints.dropping = p->reopening.running = parts.busy =
                                false;
                        replica_work_ended(p);
                        fake_run();
                        assert_non_null(strstr(fake.said.chars, "closed\n"));
                        parts_forget();
                }
                p = NULL;
                parts_end();
        }
}

/* -- As others see it -- */

static void what_it_is_depends_on_its_state(void **state) {
        for (Condition c = OPEN; c < _CONDITION_MAX; c++) {
                parts_begin();
                lead();
                set(c, true);
                assert_int_equal(replica_is_open(p), c == OPEN);
                assert_int_equal(replica_is_leader(p), c == OPEN);
                assert_int_equal(replica_leader(p), c == OPEN ? 1 : 0);
                assert_int_equal(replica_term(p), c == OPEN ? 5 : 0);
                assert_int_equal(replica_known_leader(p), c == OPEN ? 1 : 0);
                assert_int_equal(replica_known_term(p), c == OPEN ? 5 : 0);
                set(c, false);
                parts.state = RAFT_STATE_CANDIDATE;
                assert_false(replica_is_leader(p));
                assert_true(replica_has_vote(p));
                parts.role = RAFT_ROLE_STANDBY;
                assert_false(replica_has_vote(p));
                assert_ptr_equal(replica_serving(p), p->trees.live);
                p->trees.previous = (Tree *) p;
                assert_ptr_equal(replica_serving(p), p);
                p->trees.previous = NULL;
                parts_end();
        }
}

static void the_first_reason_to_fail_counts(void **state) {
        parts_begin();
        replica_fail(p, -ENOSPC, "disk %s", "full");
        replica_fail(p, -EIO, "another");
        expect_state("= tree 1 error -28 \"disk full\" failing stop!\n");
        deferred_cancel(&p->recovery.stop);
        set(FAILED, false);
        replica_fail(p, 5, "positive");
        expect_state("= tree 1 error -5 \"positive\" failing stop!\n");
        set(FAILED, false);
        replica_fail(p, 0, "none");
        expect_state("= tree 1 error -5 \"none\" failing stop!\n");
        parts_end();
}

static void frames_are_sent_where_there_are_peers(void **state) {
        _cleanup_writer_ Writer w = {};
        Writer broken = { .error = -ENOMEM };

        parts_begin();
        write_raw(&w, "bytes", 5);
        assert_int_equal(replica_send(p, 2, PEER_TREE, &w), 0);
        parts_fail("peers_send_raft", -ENOBUFS);
        assert_int_equal(replica_send(p, 2, PEER_TREE, &w), -ENOBUFS);
        assert_int_equal(replica_send(p, 2, PEER_TREE, &broken), -ENOMEM);
        expect("send 2 type 21: bytes\nsend 2 type 21: bytes\n");
        replica_answer(p, 9, PEER_TREE, &w);
        replica_answer(p, 9, PEER_TREE, &broken);
        expect("reply 0 type 21: bytes\n");
        parts.no_session = true;
        replica_answer(p, 9, PEER_TREE, &w);
        parts.no_session = false;
        Peers *peers = TAKE_PTR(p->options.peers);
        replica_answer(p, 9, PEER_TREE, &w);
        assert_int_equal(replica_send(p, 2, PEER_TREE, &w), -ENOTCONN);
        expect("");
        p->options.peers = peers;
        parts_end();
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_tick_is_when_the_core_wants_it),
                cmocka_unit_test(without_a_vote_the_silence_of_the_leader_is_watched),
                cmocka_unit_test(what_the_core_answers_may_end_the_replica),
                cmocka_unit_test(each_input_asks_whether_there_is_a_core),
                cmocka_unit_test(an_input_that_fails_ends_the_replica),
                cmocka_unit_test(a_write_that_hangs_for_5_s_of_ticks_ends_the_replica),
                cmocka_unit_test(a_failed_replica_observes_the_leader),
                cmocka_unit_test(frames_of_others_are_dropped),
                cmocka_unit_test(messages_are_counted),
                cmocka_unit_test(a_snapshot_needs_its_tree),
                cmocka_unit_test(a_snapshot_waits_for_our_copy_to_end),
                cmocka_unit_test(chunks_are_a_sign_of_a_leader),
                cmocka_unit_test(what_is_submitted_goes_to_the_core),
                cmocka_unit_test(leadership_goes_to_one_that_has_all),
                cmocka_unit_test(a_checkpoint_is_copied_adopted_and_reported),
                cmocka_unit_test(a_checkpoint_is_made_only_where_it_may),
                cmocka_unit_test(a_copy_that_fails_is_tried_again_later),
                cmocka_unit_test(the_core_takes_a_checkpoint_once_it_can),
                cmocka_unit_test(a_checkpoint_is_due_with_so_many_entries_or_bytes),
#ifdef PLANTED_BUGS
                cmocka_unit_test(with_a_planted_bug_the_log_is_cut_without_a_checkpoint),
#endif
                cmocka_unit_test(the_end_of_an_input_is_notified),
                cmocka_unit_test(closing_waits_for_all_that_is_under_way),
                cmocka_unit_test(what_it_is_depends_on_its_state),
                cmocka_unit_test(the_first_reason_to_fail_counts),
                cmocka_unit_test(frames_are_sent_where_there_are_peers),
        };

        return cmocka_run_group_tests_name("raft_replica", tests, NULL, NULL);
}
