/* How a replica is opened and started, fails, begins again, comes back, is lost, and closes: the order of its
 * steps, the times between its attempts, and what becomes of each call that fails. The parts are played;
 * tests/sim/ has the real ones. */
#include <fcntl.h>

#include "tests/lib/test.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_parts.h"

#define p (parts.p)
/* Of replica_recovery.c. */
enum { TRANSFER_MS = 1000, PROBE_MAX_MS = 10000, STEADY_MS = 60000, LOOK_MS = 100 };

/* What the parts say at the steps of an opening and of a recovery. */
#define FOLDER_OPENED "folder open /tree m b 1234\n"
#define LOG_AT_0      "disk drop-caches\nlog open: file 4096, applied 0, loaded 2000\n"
#define LOG_AT_10     "disk drop-caches\nlog open: file 4096, applied 10, loaded 2000\n"
#define LOG_OPENED    LOG_AT_10 "own hardware h\n"
#define LOG_READ      LOG_OPENED "fits: 20 entries from 1\n  10 of term 5\n"
#define MARKED        "mark tree 1 with 70 in /tree\n"
#define SELF_IN_1     "self self: 1 of 70, 71, start 3\n"
#define CORE_NEW      "core new 1 a:1 400 150\nfits: 20 entries from 1\n  10 of term 5\n"
#define CORE_BEGINS   CORE_NEW "core start term 5 vote 2, 20 entries from 1, taken\n"
#define STARTS                                                                                          \
        "core start term 5 vote 2, 20 entries from 1, taken\n  state 10 of term 5, configuration 1 (4 " \
        "bytes)\nentries free 20\n"
#define CORE_STARTS CORE_NEW STARTS
#define REOPENS     "work replica_reopen.c:reopen_done nice 0\n"
#define REBUILDS    "log 5: rebuilding the tree in /tree from checkpoint and log\n" REOPENS
#define RECOVERED   "log 5: recovered the replica at entry 20 of its log\n"
#define FREED       "transfers free\ncompare free\nclose tree 1\nfolder done\n"
#define LOST(why)                                                                        \
        "folder lose: " why "\nlog 3 (-117): quarantined the replica of this host: " why \
        "; requesting to join under a new ID. "                                          \
        "Without a quorum, run fleetd --recover on a host with an intact log\n"
#define OPENED_LOST(why)                                                              \
        LOST(why)                                                                     \
        "self self: 0 of 70, 71, start 1\nself self: 0 of 70, 71, start 1\n= 0: " why \
        "\n= coreless logless tree 1 error -117 \"" why                               \
        "\" quarantined damaged not-started not-serving id 1000\n"

static void ignore(void *userdata) {}

/* -- Opening -- */

typedef struct Opening {
        const char *what, *fails;
        int error;
        unsigned skip;
        bool join, fresh, corrupt;
        uint64_t applied;
        Said said;
} Opening;

static void open_one(const Opening *o) {
        Error err = {};
        int r;

        for (size_t i = 0; i < PART_TREES; i++)
                parts.trees[i].applied = o->applied;
        if (o->fresh)
                parts_fail("raft_log_open", -ENOENT);
        if (o->fails)
                parts_fail_after(o->fails, o->error, o->skip);
        parts.corrupt = o->corrupt;
        r = replica_open(&p, &fake.loop, &parts.options, o->join, &err);
        parts_say("= %d: %s", r, err.message);
        if (r >= 0) {
                parts_look();
                assert_true(fake.handlers[PEER_RAFT].run && fake.handlers[PEER_SNAPSHOT].run &&
                            fake.handlers[PEER_SNAPSHOT_ACK].run && fake.handlers[PEER_TREE].run);
        } else
                assert_null(p);
        parts_expect(o->said);
}

static void a_replica_opens_what_is_there(void **state) {
        static const Opening cases[] = {
                { "a log", .applied = 10,
                  .said = SAID(FOLDER_OPENED LOG_OPENED MARKED SELF_IN_1
                               "= 0: \n= coreless tree 1 waiting not-started not-serving\n") },
                { "none: it founds", .fresh = true,
                  .said = SAID(FOLDER_OPENED LOG_AT_0
                               "found a:1 4096\n" LOG_AT_0 "own hardware h\n" MARKED SELF_IN_1
                               "= 0: \n= coreless tree 1 waiting founded not-started not-serving\n") },
                { "none: it waits to join", .fresh = true, .join = true,
                  .said = SAID(FOLDER_OPENED LOG_AT_0
                               "self self: 0 of 0, 0, start 1\n= 0: \n= coreless logless tree 1 waiting "
                               "not-started not-serving id 1000 cluster 1000\n") },
                { "a tree without its log", .fresh = true, .applied = 1,
                  .said = SAID(FOLDER_OPENED
                               "disk drop-caches\nlog open: file 4096, applied 1, loaded 2000\n" OPENED_LOST(
                                       "/tree holds a tree without its log; restore the log, or run fleetd "
                                       "--reset and let this host join again")) },
                { "the same, with others", .fresh = true, .applied = 1, .join = true,
                  .said = SAID(FOLDER_OPENED
                               "disk drop-caches\nlog open: file 4096, applied 1, loaded 2000\n" OPENED_LOST(
                                       "/tree holds a tree without its log; restore the log, or run fleetd "
                                       "--reset and let this host join again")) },
                { "nothing at all", "transfers_new", -ENOMEM, .said = SAID("folder done\n= -12: \n") },
                { "nothing at all", "consistency_new", -ENOMEM,
                  .said = SAID("transfers free\nfolder done\n= -12: \n") },
                { "no folder", "data_dir_open", -EIO,
                  .said = SAID(FOLDER_OPENED
                               "transfers free\ncompare free\nfolder done\n= -5: data_dir_open did it\n") },
                { "a corrupt checkpoint", "data_dir_open", -EUCLEAN, .corrupt = true,
                  .said = SAID(FOLDER_OPENED
                               "transfers free\ncompare free\nfolder done\n= -117: data_dir_open did it\n") },
                { "the same, with others", "data_dir_open", -EUCLEAN, .corrupt = true, .join = true,
                  .said = SAID(FOLDER_OPENED "folder open nothing\n" OPENED_LOST("data_dir_open did it")) },
                { "another damage", "data_dir_open", -EUCLEAN, .join = true,
                  .said = SAID(FOLDER_OPENED
                               "transfers free\ncompare free\nfolder done\n= -117: data_dir_open did it\n") },
                { "another error", "data_dir_open", -EIO, .corrupt = true, .join = true,
                  .said = SAID(FOLDER_OPENED
                               "transfers free\ncompare free\nfolder done\n= -5: data_dir_open did it\n") },
                { "one that is lost", "data_dir_is_quarantined", 1, .join = true,
                  .said = SAID(FOLDER_OPENED OPENED_LOST("it was lost")) },
                { "one that is lost alone", "data_dir_is_quarantined", 1,
                  .said = SAID(FOLDER_OPENED OPENED_LOST("it was lost")) },
                { "not known whether", "data_dir_is_quarantined", -EIO,
                  .said = SAID(FOLDER_OPENED LOG_AT_0
                               "own hardware h\n" MARKED SELF_IN_1
                               "= 0: \n= coreless tree 1 waiting not-started not-serving\n") },
                { "no tree", "tree_begin_read", -EIO,
                  .said = SAID(FOLDER_OPENED FREED
                               "= -5: Failed to read the tree in /tree: Input/output error\n") },
                { "no tree", "tree_meta", -EIO,
                  .said = SAID(FOLDER_OPENED FREED
                               "= -5: Failed to read the tree in /tree: Input/output error\n") },
                { "no tree beside no log", "tree_begin_read", -EIO, 1, .fresh = true,
                  .said = SAID(FOLDER_OPENED LOG_AT_0 FREED
                               "= -5: Failed to read the tree in /tree: Input/output error\n") },
                { "no disk", "drop-caches", -EIO,
                  .said = SAID(FOLDER_OPENED
                               "disk drop-caches\n" FREED
                               "= -5: Failed to read the log from its disk: Input/output error\n") },
                { "a damaged log", "raft_log_open", -EUCLEAN,
                  .said = SAID(FOLDER_OPENED LOG_AT_0 OPENED_LOST("raft_log_open did it")) },
                { "a damaged log, with others", "raft_log_open", -EUCLEAN, .join = true,
                  .said = SAID(FOLDER_OPENED LOG_AT_0 OPENED_LOST("raft_log_open did it")) },
                { "no log", "raft_log_open", -EIO, .join = true,
                  .said = SAID(FOLDER_OPENED LOG_AT_0 FREED "= -5: raft_log_open did it\n") },
                { "another's log", "bootstrap_check", -EPERM,
                  .said = SAID(FOLDER_OPENED LOG_AT_0 "log close\n" FREED "= -1: bootstrap_check did it\n") },
                { "no room in it", "bootstrap_own_hardware", -EIO,
                  .said = SAID(FOLDER_OPENED LOG_AT_0
                               "own hardware h\nlog close\n" FREED
                               "= -5: Failed to write the log's meta: Input/output error\n") },
                { "no room in the tree", "bootstrap_mark_tree", -EIO,
                  .said = SAID(FOLDER_OPENED LOG_AT_0 "own hardware h\n" MARKED "log close\n" FREED
                                                      "= -5: bootstrap_mark_tree did it\n") },
                { "not founded", "bootstrap_found", -EIO, .fresh = true,
                  .said = SAID(FOLDER_OPENED LOG_AT_0 "found a:1 4096\n" FREED
                                                      "= -5: bootstrap_found did it\n") },
                { "not opened again", "bootstrap_check", -EIO, .fresh = true,
                  .said = SAID(FOLDER_OPENED LOG_AT_0 "found a:1 4096\n" LOG_AT_0 "log close\n" FREED
                                                      "= -5: bootstrap_check did it\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin_closed();
                open_one(&cases[i]);
                parts_end();
        }

        parts_begin_closed();
        alloc_fail_at(1);
        assert_int_equal(replica_open(&p, &fake.loop, &parts.options, false, NULL), -ENOMEM);
        alloc_fail_at(0);
        assert_null(p);
        parts_end();

        /* With a configuration of its own only, its settings say whether there are others. */
        for (unsigned join = 0; join < 2; join++) {
                parts_begin_closed();
                parts.configuration_size = 1;
                parts_fail("raft_log_open", -EUCLEAN);
                assert_int_equal(replica_open(&p, &fake.loop, &parts.options, join, NULL),
                                 join ? 0 : -EUCLEAN);
                if (join) {
                        assert_int_equal(p->state, REPLICA_QUARANTINED);
                        assert_int_equal(p->checkpoints.drop_fd, -1);
                }
                parts_end();
        }

        /* Alone it sends no frames. */
        parts_begin_closed();
        parts.options.peers = NULL;
        assert_int_equal(replica_open(&p, &fake.loop, &parts.options, false, NULL), 0);
        expect(FOLDER_OPENED LOG_OPENED MARKED);
        assert_null(fake.handlers[PEER_RAFT].run);
        parts_end();

        parts_begin_closed();
        parts.meta.start_number = 0;
        assert_int_equal(replica_open(&p, &fake.loop, &parts.options, false, NULL), 0);
        expect(FOLDER_OPENED LOG_OPENED MARKED "self self: 1 of 70, 71, start 1\n");
        parts_end();
}

/* -- Starting -- */

static void a_replica_starts_from_what_it_opened(void **state) {
        static const struct {
                const char *what, *fails;
                int error;
                Said said;
        } cases[] = {
                { "as it should", NULL, 0, SAID(CORE_STARTS "= 0: \n= tree 1 changed 7 flush!\n") },
                { "no tree", "tree_begin_read", -EIO,
                  SAID("= -5: Failed to read the tree in /tree: Input/output error\n= coreless tree 1 "
                       "waiting "
                       "not-started\n") },
                { "no entries", "raft_log_take_entries", -ENOMEM,
                  SAID("= -12: \n= coreless tree 1 waiting not-started\n") },
                { "no core", "raft_core_new", -ENOMEM,
                  SAID("core new 1 a:1 400 150\nentries free 20\n= -12: Failed to start Raft: Cannot "
                       "allocate "
                       "memory\n= coreless tree 1 waiting not-started\n") },
                { "it does not start", "raft_core_start", -EUCLEAN,
                  SAID(CORE_STARTS "core free\n= -117: Failed to start Raft: Structure needs cleaning\n= "
                                   "coreless tree 1 stopping not-started\n") },
                { "an operation failed inside", "raft_core_start", 1,
                  SAID(CORE_STARTS "core free\n= -14: inside\n= coreless tree 1 error -14 \"inside\" "
                                   "stopping not-started stop!\n") },
                { "misfit", NULL, 0,
                  SAID(CORE_NEW
                       "folder copy of tree 1\nfolder adopt 10\nlog 6: the log does not fit the tree of "
                       "entry 10; the log begins again after it\nlog reset 10\ncore start term 5 vote 2, 0 "
                       "entries from 11, taken\n  state 10 of term 5, configuration 1 (4 bytes)\nentries "
                       "free 20\n= 0: \n= tree 1 changed 7 flush!\n") },
                { "misfit: no copy", "data_dir_copy", -EIO,
                  SAID(CORE_NEW "folder copy of tree 1\nentries free 20\ncore free\n= -5: data_dir_copy did "
                                "it\n= coreless tree 1 stopping not-started\n") },
                { "misfit: the tree is not what was written", "data_dir_copy", -EUCLEAN,
                  SAID(CORE_NEW
                       "folder copy of tree 1\nfolder distrust\nentries free 20\ncore free\n= 0: \n= "
                       "coreless tree 1 error -117 \"data_dir_copy did it\" stopping not-started stop!\n") },
                { "misfit: no reset", "raft_log_reset", -EIO,
                  SAID(CORE_NEW "folder copy of tree 1\nfolder adopt 10\nlog 6: the log does not fit the "
                                "tree of entry 10; the log begins again after it\nlog reset 10\nentries free "
                                "20\ncore free\n= -5: Failed to empty the log: Input/output error\n= "
                                "coreless tree 1 stopping not-started\n") },
                { "misfit with a checkpoint", NULL, 0,
                  SAID(CORE_NEW
                       "log 6: the log does not fit the tree of entry 10; the log begins again after it\nlog "
                       "reset 10\ncore start term 5 vote 2, 0 entries from 11, taken\n  state 10 of term 5, "
                       "configuration 1 (4 bytes)\nentries free 20\n= 0: \n= tree 1 changed 7 flush!\n") },
                { "misfit with an old checkpoint", NULL, 0,
                  SAID(CORE_NEW
                       "folder copy of tree 1\nfolder adopt 10\nlog 6: the log does not fit the tree of "
                       "entry 10; the log begins again after it\nlog reset 10\ncore start term 5 vote 2, 0 "
                       "entries from 11, taken\n  state 10 of term 5, configuration 1 (4 bytes)\nentries "
                       "free 20\n= 0: \n= tree 1 changed 7 flush!\n") },
                { "a gap", NULL, 0,
                  SAID("entries free 20\n= -117: the tree in /tree ends with entry 10, but the log begins "
                       "with 12; run fleetd --reset and let this host join again\n= coreless tree 1 waiting "
                       "damaged not-started\n") },
                { "no gap", NULL, 0,
                  SAID("core new 1 a:1 400 150\nfits: 20 entries from 11\n  10 of term 5\n"
                       "core start term 5 vote 2, 20 entries from 11, taken\n"
                       "  state 10 of term 5, configuration 1 (4 bytes)\nentries free 20\n= 0: \n"
                       "= tree 1 changed 7 flush!\n") },
                { "torn", NULL, 0,
                  SAID("log 6: dropped a write from the log that a crash interrupted: log.1 at offset "
                       "7\n" CORE_STARTS "= 0: \n= tree 1 changed 7 flush!\n") },
                { "behind", NULL, 0, SAID(CORE_STARTS "= 0: \n= tree 1 changed 7 flush! apply!\n") },
                { "corrupt", NULL, 0, SAID(CORE_STARTS "= 0: \n= tree 1 changed 7 bytes 100000 flush!\n") },
                { "an empty tree", NULL, 0,
                  SAID("core new 1 a:1 400 150\nfits: 20 entries from 1\n"
                       "core start term 5 vote 2, 20 entries from 1, taken\nentries free 20\n= 0: \n"
                       "= tree 1 changed 7 flush!\n") },
                { "no address", NULL, 0,
                  SAID("core new 1 - 400 150\nfits: 20 entries from 1\n  10 of term 5\n" STARTS
                       "= 0: \n= tree 1 changed 7 flush!\n") },
                { "no log", NULL, 0,
                  SAID("= 0: \n= coreless logless tree 1 waiting not-started id 1000 cluster 1000\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *what = cases[i].what;
                Error err = {};
                int r;

                parts_begin_closed();
                if (streq(what, "no address"))
                        parts.options.address[0] = '\0';
                if (streq(what, "no log"))
                        parts_fail("raft_log_open", -ENOENT);
                if (streq(what, "an empty tree") || streq(what, "no log"))
                        parts.trees[1].applied = 0;
                assert_int_equal(replica_open(&p, &fake.loop, &parts.options, streq(what, "no log"), &err),
                                 0);
                if (cases[i].fails)
                        parts_fail(cases[i].fails, cases[i].error);
                parts.misfit = starts_with(what, "misfit");
                if (strstr(what, "checkpoint")) {
                        p->data_dir.checkpoint.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
                        p->data_dir.checkpoint.meta.applied = strstr(what, "old") ? 9 : 10;
                }
                parts.log_first = streq(what, "a gap") ? 12 : streq(what, "no gap") ? 11 : 1;
                parts.torn = streq(what, "torn") ? "log.1 at offset 7" : NULL;
                parts.behind = streq(what, "behind");
                p->data_dir.corrupt = streq(what, "corrupt");
                parts_forget();
                r = replica_start(p, &err);
                parts_say("= %d: %s", r, err.message);
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }

        /* In service a tree that is not what was written is an error like any other. */
        parts_begin_closed();
        Error err = {};
        assert_int_equal(replica_open(&p, &fake.loop, &parts.options, false, &err), 0);
        p->started = true;
        parts.misfit = true;
        parts_fail("data_dir_copy", -EUCLEAN);
        assert_int_equal(replica_start(p, &err), -EUCLEAN);
        assert_string_equal(err.message, "data_dir_copy did it");
        parts_end();
}

/* -- Failing, and coming back -- */

static void fail_now(int error) {
        replica_fail(p, error, "it failed");
        fake_run();
}

static void a_failed_replica_recovers(void **state) {
        parts_begin();
        replica_arm(p);
        fail_now(-EIO);
        expect_state("core free\nlog close\nflushed 3\nfailed -5: it failed\n= coreless logless tree 1 error "
                     "-5 \"it failed\" failed observed-term 5 durable 15 attempts 1 comeback+500\n");
        fake_pass(499);
        expect("");
        fake_pass(1);
        expect_state("transfers drop\n" REOPENS "= coreless logless tree 1 error -5 \"it failed\" probing "
                     "observed-term 5 durable 15 attempts 1\n");
        parts_work();
        expect_state(LOG_READ MARKED CORE_STARTS RECOVERED
                     "transfers step\ncompare flushed 7\nflushed 7\n= tree 1 observed-term 5 durable 15 "
                     "attempts 1 back 1500 flush!\n");
        fake_run();
        expect_state(
                "compare flushed 0\nflushed 0\n= tree 1 observed-term 5 durable 15 attempts 1 back 1500\n");

        /* Again within a minute: the pauses go on; later they begin from the start. */
        fake_pass(STEADY_MS);
        parts_forget();
        fail_now(-EIO);
        expect_state(
                "core free\nlog close\nflushed 3\nfailed -5: it failed\n= coreless logless tree 1 error -5 "
                "\"it failed\" failed observed-term 5 durable 15 attempts 2 back 1500 comeback+1000\n");
        fake_pass(1000);
        parts_work();
        fake_pass(STEADY_MS + 1);
        parts_forget();
        fail_now(-EIO);
        expect_state(
                "core free\nlog close\nflushed 3\nfailed -5: it failed\n= coreless logless tree 1 error -5 "
                "\"it failed\" failed observed-term 5 durable 15 attempts 1 back 62500 comeback+500\n");
        parts_end();

        /* What this program does not know it will not know later. */
        parts_begin();
        fail_now(-ENOTSUP);
        expect_state("core free\nlog close\nflushed 3\nfailed -95: it failed\n= coreless logless tree 1 "
                     "error -95 \"it failed\" failed observed-term 5 durable 15\n");
        parts_end();
}

static void the_pauses_grow_up_to_10_s(void **state) {
        static const unsigned pauses[] = { 500, 1000, 2000, 4000, 8000, 10000, 10000, 10000 };

        parts_begin();
        fail_now(-EIO);
        parts_forget();
        for (size_t i = 0; i < ELEMENTS(pauses); i++) {
                assert_int_equal(p->recovery.retry.due_ms, fake.now_ms + pauses[i]);
                parts_fail("drop-caches", i == 6 ? -EROFS : -EIO);
                fake_pass(pauses[i]);
                parts_work();
                if (i == 0 || i >= 6)
                        assert_non_null(strstr(fake.said.chars, "log 4")); /* another reason */
                else
                        assert_null(strstr(fake.said.chars, "log 4"));
                if (i == 0)
                        expect_state("transfers drop\n" REOPENS
                                     "disk drop-caches\nlog 4 (-5): Failed to recover the replica: Failed to "
                                     "read the log from its disk: Input/output error\ncompare flushed "
                                     "3\nflushed 3\n= coreless logless tree 1 error -5 \"Failed to read the "
                                     "log from its disk: Input/output error\" failed observed-term 5 durable "
                                     "15 attempts 2 comeback+1000\n");
                parts_forget();
        }
        parts_end();
}

static void a_leader_hands_over_first(void **state) {
        for (unsigned i = 0; i < 4; i++) {
                parts_begin();
                parts.state = RAFT_STATE_LEADER;
                if (i == 1)
                        parts_fail("raft_core_transfer", -ENOENT);
                if (i == 1 || i == 3)
                        parts.match[2] = parts.match[3] = 20;
                p->contact.silence.fire = (void (*)(void *)) abort;
                assert_int_equal(timer_start(&p->contact.silence, p->loop, 100000), 0);
                fail_now(-EIO);
                parts_look();
                switch (i) {
                case 0:
                        expect("= tree 1 error -5 \"it failed\" transferring transfer-due 1400 "
                               "silence+100000 stop+1000\n");
                        break;
                case 1:
                        expect("core transfer 2\ncore free\nlog close\nflushed 3\nfailed -5: it "
                               "failed\ncompare flushed 0\nflushed 0\n= coreless logless tree 1 error -5 "
                               "\"it failed\" failed observed-term 5 durable 15 attempts 1 comeback+500\n");
                        break;
                case 2:
                        expect("= tree 1 error -5 \"it failed\" transferring transfer-due 1400 "
                               "silence+100000 stop+1000\n");
                        break;
                default:
                        expect("core transfer 2\ncompare flushed 0\nflushed 0\n= tree 1 error -5 \"it "
                               "failed\" transferring silence+100000 stop+1000\n");
                        break;
                }
                if (i == 0) {
                        fake_pass(TRANSFER_MS - 1);
                        expect("");
                        fake_pass(1);
                        expect_state("core free\nlog close\nflushed 3\nfailed -5: it failed\n= coreless "
                                     "logless tree 1 error -5 \"it failed\" failed observed-term 5 "
                                     "transfer-due 1400 durable 15 attempts 1 comeback+500\n");
                }
                if (i == 2) { /* another one leads now */
                        parts.state = RAFT_STATE_FOLLOWER;
                        replica_flush_notifications(p);
                        fake_run();
                        expect_state("compare flushed 0\nflushed 0\ncore free\nlog close\nflushed 3\nfailed "
                                     "-5: it failed\n= coreless logless tree 1 error -5 \"it failed\" failed "
                                     "observed-term 5 durable 15 attempts 1 comeback+500\n");
                }
                parts_end();
        }

        /* Told once. */
        parts_begin();
        parts.log_closes_later = true;
        fail_now(-EIO);
        expect_state("core free\nlog close\nflushed 3\nfailed -5: it failed\n= coreless logless log-closing "
                     "pending 1 tree 1 error -5 \"it failed\" failed observed-term 5 durable 15 attempts 1 "
                     "comeback+500\n");
        loop_defer(p->loop, &p->recovery.stop);
        fake_run();
        expect_state("= coreless logless log-closing pending 1 tree 1 error -5 \"it failed\" failed "
                     "observed-term 5 durable 15 attempts 1 comeback+500\n");
        fake_pass(500);
        expect_state("= coreless logless log-closing pending 1 tree 1 error -5 \"it failed\" failed "
                     "observed-term 5 durable 15 attempts 1 comeback+100\n");
        fake_pass(LOOK_MS - 1);
        expect("");
        parts.log_closed(p);
        fake_pass(1);
        expect_state("transfers drop\n" REOPENS "= coreless logless tree 1 error -5 \"it failed\" probing "
                     "observed-term 5 durable 15 attempts 1\n");
        parts_work();
        parts_end();
}

static void what_is_under_way_ends_first(void **state) {
        for (unsigned i = 0; i < 6; i++) {
                parts_begin();
                fail_now(-EIO);
                p->closing.pending = i == 1;
                p->checkpoints.copying = i == 2;
                p->reopening.running = i == 3;
                parts.busy = i == 4;
                parts_forget();
                fake_pass(500);
                assert_int_equal(p->recovery.retry.slot > 0 &&
                                         p->recovery.retry.due_ms == fake.now_ms + LOOK_MS,
                                 i > 0 && i < 5);
                assert_int_equal(parts.n_works, i == 0 || i == 5);
                p->closing.pending = 0;
                p->checkpoints.copying = p->reopening.running = parts.busy = false;
                if (parts.n_works == 0) {
                        fake_pass(LOOK_MS);
                        assert_int_equal(parts.n_works, 1);
                }
                parts_work();
                parts_end();
        }
        for (unsigned i = 0; i < 2; i++) {
                parts_begin();
                fail_now(-EIO);
                p->state = i == 0 ? REPLICA_QUARANTINED : REPLICA_CLOSING;
                parts_forget();
                fake_pass(500);
                expect("");
                parts_end();
        }
}

static void a_full_disk_needs_space(void **state) {
        enum { MIB = 1024 * 1024 };
        static const struct {
                int error;
                uint64_t free[2], total[2];
                bool distrusted, checkpoint;
                const char *reason;
        } cases[] = {
                { -ENOSPC, { 64 * MIB, 64 * MIB }, { 999 * MIB, 999 * MIB }, .reason = NULL },
                { -EDQUOT,
                  { 64 * MIB - 1024, 64 * MIB },
                  { 999 * MIB, 999 * MIB },
                  .reason = "disk of /tree full: 65535 of 1022976 KiB free; resuming at 65536 KiB free" },
                { -ENOSPC,
                  { 64 * MIB, 64 * MIB - 1 },
                  { 999 * MIB, 999 * MIB },
                  .reason = "disk of /tree full: 65535 of 1022976 KiB free; resuming at 65536 KiB free" },
                { -ENOSPC, { 1 * MIB, 1 * MIB }, { 8 * MIB, 8 * MIB }, .reason = NULL },
                { -ENOSPC,
                  { 1 * MIB, 1 * MIB - 1 },
                  { 8 * MIB, 8 * MIB },
                  .reason = "disk of /tree full: 1023 of 8192 KiB free; resuming at 1024 KiB free" },
                { -EIO, { 0, 0 }, { 8 * MIB, 8 * MIB }, .reason = NULL },
                { -ENOSPC,
                  { 1 * MIB, 1 * MIB + 2999 },
                  { 8 * MIB, 8 * MIB },
                  true,
                  true,
                  "disk of /tree full: 1026 of 8192 KiB free; resuming at 1026 KiB free" },
                { -ENOSPC, { 1 * MIB, 1 * MIB + 3000 }, { 8 * MIB, 8 * MIB }, true, true, NULL },
                { -ENOSPC, { 1 * MIB, 1 * MIB }, { 8 * MIB, 8 * MIB }, true, false, NULL },
                { -ENOSPC, { 1 * MIB, 1 * MIB }, { 8 * MIB, 8 * MIB }, false, true, NULL },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                if (cases[i].checkpoint) {
                        replica_checkpoint(p);
                        parts_work();
                        assert_int_equal(p->data_dir.checkpoint.size, 3000);
                }
                fail_now(cases[i].error);
                p->data_dir.distrusted = cases[i].distrusted;
                memcpy(parts.space, cases[i].free, sizeof(parts.space));
                memcpy(parts.total, cases[i].total, sizeof(parts.total));
                fake_pass(500);
                assert_int_equal(parts.n_works, !cases[i].reason);
                if (cases[i].reason)
                        assert_string_equal(p->reason, cases[i].reason);
                assert_int_equal(p->error, cases[i].error);
                if (parts.n_works > 0)
                        parts_work();
                parts_end();
        }
        for (unsigned i = 0; i < 2; i++) {
                parts_begin();
                fail_now(-ENOSPC);
                parts_fail(i == 0 ? "space" : "data_dir_space", -EIO);
                parts_forget();
                fake_pass(500);
                expect_state("transfers drop\nlog 4 (-5): Failed to recover the replica: Failed to read the "
                             "free disk space: Input/output error\ncompare flushed 3\nflushed 3\n= coreless "
                             "logless tree 1 error -28 \"Failed to read the free disk space: Input/output "
                             "error\" failed observed-term 5 durable 15 attempts 2 comeback+1000\n");
                parts_end();
        }
}

/* -- The tree made again -- */

static void a_tree_that_failed_is_made_again(void **state) {
        static const struct {
                const char *what;
                int error; /* of the replica */
                const char *fails;
                int fail_error;
                uint64_t applied; /* of the new tree; the old one: 10 */
                bool corrupt;
                Said said;
        } cases[] = {
                { "of an old checkpoint", -EIO, NULL, 0, 8, false,
                  SAID("transfers drop\n" REBUILDS
                       "folder rebuild\ndisk drop-caches\nlog open: file 4096, applied 8, loaded 2000\nown "
                       "hardware h\nfits: 20 entries from 1\n  8 of term 5\nfolder rebuilt\ncompare "
                       "exchanged\nmark tree 2 with 70 in /tree\ncore new 1 a:1 400 150\nfits: 20 entries "
                       "from 1\n  8 of term 5\ncore start term 5 vote 2, 20 entries from 1, taken\n  state 8 "
                       "of term 5, configuration 1 (1 bytes)\nentries free 20\n" RECOVERED
                       "transfers step\ncompare flushed 7\nflushed 7\n= tree 2 shown 1 (10) observed-term 5 "
                       "durable 15 attempts 1 back 1500 flush!\n") },
                { "of a checkpoint as new as the tree", -EIO, NULL, 0, 10, false,
                  SAID("transfers drop\n" REBUILDS "folder rebuild\n" LOG_READ
                       "folder rebuilt\ncompare exchanged\nclose tree 1\nmark tree 2 with 70 in "
                       "/tree\n" CORE_BEGINS
                       "  state 10 of term 5, configuration 1 (1 bytes)\nentries free 20\n" RECOVERED
                       "transfers step\ncompare flushed 7\nflushed 7\n= tree 2 observed-term 5 durable 15 "
                       "attempts 1 back 1500 flush!\n") },
                { "of a newer one", -EIO, NULL, 0, 11, false,
                  SAID("transfers drop\n" REBUILDS
                       "folder rebuild\ndisk drop-caches\nlog open: file 4096, applied 11, loaded 2000\nown "
                       "hardware h\nfits: 20 entries from 1\n  11 of term 5\nfolder rebuilt\ncompare "
                       "exchanged\nclose tree 1\nmark tree 2 with 70 in /tree\ncore new 1 a:1 400 150\nfits: "
                       "20 entries from 1\n  11 of term 5\ncore start term 5 vote 2, 20 entries from 1, "
                       "taken\n  state 11 of term 5, configuration 1 (1 bytes)\nentries free 20\n" RECOVERED
                       "transfers step\ncompare flushed 7\nreplaced\nflushed 7\n= tree 2 observed-term 5 "
                       "durable 15 attempts 1 back 1500 flush!\n") },
                { "of an old checkpoint, and the tree was wrong", -EUCLEAN, NULL, 0, 8, false,
                  SAID("transfers drop\n" REBUILDS
                       "folder rebuild\ndisk drop-caches\nlog open: file 4096, applied 8, loaded 2000\nown "
                       "hardware h\nfits: 20 entries from 1\n  8 of term 5\nfolder rebuilt\ncompare "
                       "exchanged\nmark tree 2 with 70 in /tree\ncore new 1 a:1 400 150\nfits: 20 entries "
                       "from 1\n  8 of term 5\ncore start term 5 vote 2, 20 entries from 1, taken\n  state 8 "
                       "of term 5, configuration 1 (1 bytes)\nentries free 20\n" RECOVERED
                       "transfers step\ncompare flushed 7\nflushed 7\n= tree 2 shown 1 (10, wrong) "
                       "observed-term 5 durable 15 attempts 1 back 1500 flush!\n") },
                { "not: damaged", -EIO, "data_dir_rebuild", -EUCLEAN, 8, true,
                  SAID("transfers drop\n" REBUILDS
                       "folder rebuild\nfolder forget checkpoint\nlog 4 (-117): Failed to recover the "
                       "replica: data_dir_rebuild did it\ncompare flushed 3\nflushed 3\n= coreless logless "
                       "tree 1 error -5 \"data_dir_rebuild did it\" failed damaged observed-term 5 durable "
                       "15 attempts 2 comeback+1000\n") },
                { "not: no disk", -EIO, "data_dir_rebuild", -EIO, 8, false,
                  SAID("transfers drop\n" REBUILDS
                       "folder rebuild\nlog 4 (-5): Failed to recover the replica: data_dir_rebuild did "
                       "it\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 error -5 "
                       "\"data_dir_rebuild did it\" failed observed-term 5 durable 15 attempts 2 "
                       "comeback+1000\n") },
                { "but without its log", -EIO, "raft_log_open", -EIO, 8, true,
                  SAID("transfers drop\n" REBUILDS
                       "folder rebuild\ndisk drop-caches\nlog open: file 4096, applied 8, loaded "
                       "2000\nfolder forget checkpoint\nfolder rebuilt\ncompare exchanged\nlog 4 (-5): "
                       "Failed to recover the replica: raft_log_open did it\ncompare flushed 3\nflushed 3\n= "
                       "coreless logless tree 2 shown 1 (10) error -5 \"raft_log_open did it\" failed "
                       "observed-term 5 durable 15 attempts 2 comeback+1000\n") },
                { "but there is no memory for its log", -EIO, "raft_log_open", -ENOMEM, 8, false,
                  SAID("transfers drop\n" REBUILDS
                       "folder rebuild\ndisk drop-caches\nlog open: file 4096, applied 8, loaded "
                       "2000\nfolder rebuilt\ncompare exchanged\nlog 4 (-12): Failed to recover the replica: "
                       "Cannot allocate memory\ncompare flushed 3\nflushed 3\n= coreless logless tree 2 "
                       "shown 1 (10) error -12 \"Cannot allocate memory\" failed observed-term 5 durable 15 "
                       "attempts 2 comeback+1000\n") },
                { "and cannot be read", -EIO, "tree_meta", -EIO, 8, false,
                  SAID("transfers drop\n" REBUILDS
                       "folder rebuild\nfolder rebuilt\ncompare exchanged\nlog 4 (-5): Failed to recover the "
                       "replica: Failed to read the tree in /tree: Input/output error\ncompare flushed "
                       "3\nflushed 3\n= coreless logless tree 2 shown 1 (10) error -5 \"Failed to read the "
                       "tree in /tree: Input/output error\" failed observed-term 5 durable 15 attempts 2 "
                       "comeback+1000\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                fail_now(cases[i].error);
                p->data_dir.distrusted = true;
                p->has_others = false;
                parts.configuration_size = 1;
                parts.corrupt = cases[i].corrupt;
                parts.trees[2].applied = cases[i].applied;
                parts_forget();
                fake_pass(500);
                if (cases[i].fails)
                        parts_fail(cases[i].fails, cases[i].fail_error);
                parts.no_message = cases[i].fail_error == -ENOMEM;
                parts_work();
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }

        /* One that could not be installed is missing, and made again, too. */
        parts_begin();
        fail_now(-EIO);
        p->trees.previous = TAKE_PTR(p->trees.live);
        p->trees.previous_applied = 10;
        parts_forget();
        fake_pass(500);
        expect("transfers drop\nfolder distrust\n" REBUILDS);
        parts_work();
        expect_state(
                "folder rebuild\n" LOG_READ
                "folder rebuilt\ncompare exchanged\nclose tree 1\nmark tree 2 with 70 in /tree\n" CORE_STARTS
                        RECOVERED "transfers step\ncompare flushed 7\nflushed 7\n= tree 2 observed-term 5 "
                "durable 15 attempts 1 back 1500 flush!\n");
        parts_end();

        /* A second one: what is shown stays. */
        parts_begin();
        fail_now(-EIO);
        p->data_dir.distrusted = true;
        parts.trees[2].applied = 8;
        fake_pass(500);
        parts_work();
        fail_now(-EIO);
        p->data_dir.distrusted = true;
        parts.trees[3].applied = 9;
        parts_forget();
        fake_pass(1000);
        parts_work();
        expect_state(
                "transfers drop\n" REBUILDS
                "folder rebuild\ndisk drop-caches\nlog open: file 4096, applied 9, loaded 2000\nown "
                "hardware h\nfits: 20 entries from 1\n  9 of term 5\nfolder rebuilt\ncompare "
                "exchanged\nclose tree 2\nmark tree 3 with 70 in /tree\ncore new 1 a:1 400 150\nfits: 20 "
                "entries from 1\n  9 of term 5\ncore start term 5 vote 2, 20 entries from 1, taken\n  "
                "state 9 of term 5, configuration 1 (4 bytes)\nentries free 20\n" RECOVERED
                "transfers step\ncompare flushed 7\nflushed 7\n= tree 3 shown 1 (10) observed-term 5 "
                "durable 15 attempts 2 back 2500 flush!\n");
        parts_end();
}

static void it_is_as_before_when_it_does_not_begin(void **state) {
        static const struct {
                const char *fails;
                int error;
                unsigned skip;
                Said said;
        } cases[] = {
                { "tree_begin_read", -EIO, 0,
                  SAID("transfers drop\nlog 4 (-5): Failed to recover the replica: Failed to read the tree "
                       "in "
                       "/tree: Input/output error\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 "
                       "error -5 \"Failed to read the tree in /tree: Input/output error\" failed "
                       "observed-term "
                       "5 durable 15 attempts 2 comeback+1000\n") },
                { "loop_work", -ENOMEM, 0,
                  SAID("transfers drop\nlog 4 (-12): Failed to recover the replica: Failed to read "
                       "checkpoint "
                       "and log: Cannot allocate memory\ncompare flushed 3\nflushed 3\n= coreless logless "
                       "tree 1 error -5 \"Failed to read checkpoint and log: Cannot allocate memory\" failed "
                       "observed-term 5 durable 15 attempts 2 comeback+1000\n") },
                { "drop-caches", -EIO, 0,
                  SAID("transfers drop\n" REOPENS
                       "disk drop-caches\nlog 4 (-5): Failed to recover the replica: Failed to read the log "
                       "from its disk: Input/output error\ncompare flushed 3\nflushed 3\n= coreless logless "
                       "tree 1 error -5 \"Failed to read the log from its disk: Input/output error\" failed "
                       "observed-term 5 durable 15 attempts 2 comeback+1000\n") },
                { "raft_log_open", -EUCLEAN, 0,
                  SAID("transfers drop\n" REOPENS LOG_AT_10
                       "log 4 (-117): Failed to recover the replica: raft_log_open did it\ncompare flushed "
                       "3\nflushed 3\n= coreless logless tree 1 error -117 \"raft_log_open did it\" failed "
                       "damaged observed-term 5 durable 15 attempts 2 comeback+1000\n") },
                { "bootstrap_check", -EPERM, 0,
                  SAID("transfers drop\n" REOPENS LOG_AT_10
                       "log close\nlog 4 (-1): Failed to recover the replica: bootstrap_check did "
                       "it\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 error -1 "
                       "\"bootstrap_check did it\" failed observed-term 5 durable 15 attempts 2 "
                       "comeback+1000\n") },
                { "bootstrap_own_hardware", -EIO, 0,
                  SAID("transfers drop\n" REOPENS LOG_OPENED
                       "log close\nlog 4 (-5): Failed to recover the replica: Failed to write the log's "
                       "meta: Input/output error\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 "
                       "error -5 \"Failed to write the log's meta: Input/output error\" failed observed-term "
                       "5 durable 15 attempts 2 comeback+1000\n") },
                { "bootstrap_mark_tree", -EIO, 0,
                  SAID("transfers drop\n" REOPENS LOG_READ MARKED
                       "log close\nlog 4 (-5): Failed to recover the replica: bootstrap_mark_tree did "
                       "it\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 error -5 "
                       "\"bootstrap_mark_tree did it\" failed observed-term 5 durable 15 attempts 2 "
                       "comeback+1000\n") },
                { "tree_begin_read", -EIO, 1,
                  SAID("transfers drop\n" REOPENS LOG_READ MARKED
                       "log close\nlog 4 (-5): Failed to recover the replica: Failed to read the tree in "
                       "/tree: Input/output error\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 "
                       "error -5 \"Failed to read the tree in /tree: Input/output error\" failed "
                       "observed-term 5 durable 15 attempts 2 comeback+1000\n") },
                { "tree_begin_read", -EIO, 2,
                  SAID("transfers drop\n" REOPENS LOG_READ MARKED
                       "log close\nlog 4 (-5): Failed to recover the replica: Failed to read the tree in "
                       "/tree: Input/output error\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 "
                       "error -5 \"Failed to read the tree in /tree: Input/output error\" failed "
                       "observed-term 5 durable 15 attempts 2 comeback+1000\n") },
                { "raft_core_start", -EUCLEAN, 0,
                  SAID("transfers drop\n" REOPENS LOG_READ MARKED CORE_BEGINS
                       "  state 10 of term 5, configuration 1 (1 bytes)\nentries free 20\ncore free\nlog "
                       "close\nlog 4 (-117): Failed to recover the replica: Failed to start Raft: Structure "
                       "needs cleaning\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 error -117 "
                       "\"Failed to start Raft: Structure needs cleaning\" failed observed-term 5 durable 15 "
                       "attempts 2 comeback+1000\n") },
                { "raft_core_start", 1, 0,
                  SAID("transfers drop\n" REOPENS LOG_READ MARKED CORE_BEGINS
                       "  state 10 of term 5, configuration 1 (1 bytes)\nentries free 20\ncore free\nlog "
                       "close\ncompare flushed 3\nflushed 3\n= coreless logless tree 1 error -14 \"inside\" "
                       "failed observed-term 5 durable 15 attempts 2 comeback+1000\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                fail_now(-EIO);
                p->has_others = false;
                parts.configuration_size = 1;
                parts_forget();
                parts_fail_after(cases[i].fails, cases[i].error, cases[i].skip);
                fake_pass(500);
                if (parts.n_works > 0)
                        parts_work();
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }
}

static void what_was_acknowledged_has_to_be_there_again(void **state) {
        static const struct {
                uint64_t stored, log_last, applied;
                bool fits;
        } cases[] = { { 15, 15, 10, true },
                      { 15, 14, 10, false },
                      { 15, 14, 15, true },
                      { 15, 10, 14, false },
                      { 15, 16, 10, true } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                parts.stored = cases[i].stored;
                fail_now(-EIO);
                p->has_others = false;
                parts.configuration_size = 1;
                parts.log_last = cases[i].log_last;
                parts.trees[1].applied = cases[i].applied;
                fake_pass(500);
                parts_work();
                assert_int_equal(p->error, cases[i].fits ? 0 : -EUCLEAN);
                assert_int_equal(p->recovery.damaged, !cases[i].fits);
                if (i == 1)
                        assert_string_equal(
                                p->reason,
                                "the log ends with entry 14, but entries up to 15 had been acknowledged");
                parts_end();
        }
}

static void a_log_that_does_not_fit_needs_a_checkpoint(void **state) {
        static const struct {
                uint64_t checkpoint; /* 0: none */
                bool copying;
                int error;
                uint64_t applied;
                Said said;
        } cases[] = {
                { 0, false, 0, 10,
                  SAID(LOG_READ
                       "folder copy of tree 1\nfolder adopt 10\n" MARKED CORE_NEW
                       "log 6: the log does not fit the tree of entry 10; the log begins again after it\nlog "
                       "reset 10\ncore start term 5 vote 2, 0 entries from 11, taken\n  state 10 of term 5, "
                       "configuration 1 (1 bytes)\nentries free 20\n" RECOVERED
                       "transfers step\ncompare flushed 7\nflushed 7\n= tree 1 observed-term 5 attempts 1 "
                       "back 1500 flush!\n") },
                { 10, false, 0, 10,
                  SAID(LOG_READ MARKED CORE_NEW
                       "log 6: the log does not fit the tree of entry 10; the log begins again after it\nlog "
                       "reset 10\ncore start term 5 vote 2, 0 entries from 11, taken\n  state 10 of term 5, "
                       "configuration 1 (1 bytes)\nentries free 20\n" RECOVERED
                       "transfers step\ncompare flushed 7\nflushed 7\n= tree 1 observed-term 5 attempts 1 "
                       "back 1500 flush!\n") },
                { 9, false, 0, 10,
                  SAID(LOG_READ
                       "folder copy of tree 1\nfolder adopt 10\n" MARKED CORE_NEW
                       "log 6: the log does not fit the tree of entry 10; the log begins again after it\nlog "
                       "reset 10\ncore start term 5 vote 2, 0 entries from 11, taken\n  state 10 of term 5, "
                       "configuration 1 (1 bytes)\nentries free 20\n" RECOVERED
                       "transfers step\ncompare flushed 7\nflushed 7\n= tree 1 observed-term 5 attempts 1 "
                       "back 1500 flush!\n") },
                { 0, true, 0, 10,
                  SAID(LOG_READ
                       "log 4 (-16): Failed to recover the replica: the log does not fit the tree, of which "
                       "a checkpoint is being made\ncompare flushed 3\nflushed 3\nlog close\n= coreless "
                       "logless tree 1 error -16 \"the log does not fit the tree, of which a checkpoint is "
                       "being made\" failed observed-term 5 attempts 2 comeback+1000\n") },
                { 0, false, -EIO, 10,
                  SAID(LOG_READ
                       "folder copy of tree 1\nlog 4 (-5): Failed to recover the replica: data_dir_copy did "
                       "it\ncompare flushed 3\nflushed 3\nlog close\n= coreless logless tree 1 error -5 "
                       "\"data_dir_copy did it\" failed observed-term 5 attempts 2 comeback+1000\n") },
                { 0, false, -EUCLEAN, 10,
                  SAID(LOG_READ "folder copy of tree 1\nfolder distrust\nlog 4 (-117): Failed to recover the "
                                "replica: data_dir_copy did it\ncompare flushed 3\nflushed 3\nlog close\n= "
                                "coreless logless tree 1 error -117 \"data_dir_copy did it\" failed "
                                "observed-term 5 attempts 2 comeback+1000\n") },
                { 0, false, 0, 0,
                  SAID(LOG_AT_0 "own hardware h\nfits: 20 entries from 1\nfolder copy of tree 1\nfolder "
                                "adopt 0\n" MARKED
                                "core new 1 a:1 400 150\nfits: 20 entries from 1\nlog 6: the log does not "
                                "fit the tree of entry 0; the log begins again after it\nlog reset 0\ncore "
                                "start term 5 vote 2, 0 entries from 1, taken\nentries free 20\n" RECOVERED
                                "transfers step\ncompare flushed 7\nflushed 7\n= tree 1 observed-term 5 "
                                "attempts 1 back 1500 flush!\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                fail_now(-EIO);
                p->recovery.durable_index = 0;
                p->has_others = false;
                parts.configuration_size = 1;
                parts.misfit = true;
                parts.trees[1].applied = cases[i].applied;
                if (cases[i].checkpoint > 0) {
                        p->data_dir.checkpoint.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
                        p->data_dir.checkpoint.meta.applied = cases[i].checkpoint;
                }
                if (cases[i].error < 0)
                        parts_fail("data_dir_copy", cases[i].error);
                fake_pass(500);
                p->reopening.may_copy &= !cases[i].copying;
                parts_forget();
                parts_work();
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }
}

/* -- Beginning again -- */

static void a_promotion_that_was_lost_begins_again_from_the_disk(void **state) {
        parts_begin();
        p->changed = RAFT_CHANGED_COMMIT;
        p->recovery.durable_index = 3;
        replica_enter(p);
        replica_leave(p, -ERESTART);
        expect_state("= tree 1 restarting changed 8 durable 3 stop!\n");
        fake_run();
        expect_state("log 5: lost leadership during a promotion; restarting from durable state\ncore "
                     "free\nflushed 3\nlog close\n" REOPENS "= coreless logless tree 1 restarting\n");
        parts_work();
        expect_state(LOG_READ MARKED CORE_STARTS
                     "transfers step\ncompare flushed 7\nflushed 7\n= tree 1 flush!\n");
        parts_end();

        static const struct {
                const char *fails;
                int error;
                Said said;
        } cases[] = {
                { "tree_begin_read", -EIO,
                  SAID("log 5: lost leadership during a promotion; restarting from durable state\ncore "
                       "free\nflushed 3\nlog close\nflushed 3\nfailed -5: Failed to start again: Failed to "
                       "read "
                       "the tree in /tree: Input/output error\n= coreless logless tree 1 error -5 \"Failed "
                       "to "
                       "start again: Failed to read the tree in /tree: Input/output error\" failed attempts "
                       "1 "
                       "comeback+500\n") },
                { "loop_work", -ENOMEM,
                  SAID("log 5: lost leadership during a promotion; restarting from durable state\ncore "
                       "free\nflushed 3\nlog close\nflushed 3\nfailed -12: Failed to start again: Failed to "
                       "read "
                       "checkpoint and log: Cannot allocate memory\n= coreless logless tree 1 error -12 "
                       "\"Failed to start again: Failed to read checkpoint and log: Cannot allocate memory\" "
                       "failed attempts 1 comeback+500\n") },
                { "raft_log_open", -EUCLEAN,
                  SAID("log 5: lost leadership during a promotion; restarting from durable state\ncore "
                       "free\nflushed 3\nlog close\n" REOPENS LOG_AT_10
                       "= coreless logless tree 1 error -117 \"Failed to start again: raft_log_open did it\" "
                       "stopping damaged stop!\n") },
                { "raft_core_start", -EIO,
                  SAID("log 5: lost leadership during a promotion; restarting from durable state\ncore "
                       "free\nflushed 3\nlog close\n" REOPENS LOG_READ MARKED CORE_STARTS
                       "core free\n= coreless tree 1 error -5 \"Failed to start again: Failed to start Raft: "
                       "Input/output error\" stopping stop!\n") },
                { NULL, -EROFS,
                  SAID("log 5: lost leadership during a promotion; restarting from durable state\ncore "
                       "free\nflushed 3\nlog close\n" REOPENS LOG_READ
                       "log close\n= coreless logless tree 1 error -30 \"meanwhile\" "
                       "stopping stop!\n") }, /* meanwhile
                                               */
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                parts_begin();
                replica_enter(p);
                replica_leave(p, -ERESTART);
                if (cases[i].fails)
                        parts_fail(cases[i].fails, cases[i].error);
                fake_run();
                if (!cases[i].fails)
                        replica_fail(p, cases[i].error, "meanwhile");
                if (parts.n_works > 0)
                        parts_work();
                parts_look();
                parts_expect(cases[i].said);
                parts_end();
        }

        /* It failed, or closes, while the log was being closed. */
        for (unsigned i = 0; i < 2; i++) {
                parts_begin();
                parts.log_closes_later = true;
                replica_enter(p);
                replica_leave(p, -ERESTART);
                fake_run();
                if (i == 0) {
                        p->error = -EIO;
                        p->state = REPLICA_FAILED;
                } else {
                        p->state = REPLICA_CLOSING;
                        p->closing.deferred = DEFERRED(ignore, NULL);
                }
                parts_forget();
                parts.log_closed(p);
                parts_look();
                if (i == 0)
                        expect("= coreless logless tree 1 error -5 \"\" failed\n");
                else
                        expect("= coreless logless tree 1 closing closed!\n");
                parts_end();
        }
}

static void a_tree_that_differs_is_exchanged(void **state) {
        Checkpoint whole = { .fd = -1, .meta = { .applied = 30 } };

        for (unsigned i = 0; i < 3; i++) {
                parts_begin();
                p->checkpoints.reported = false;
                p->checkpoints.entries_since = p->checkpoints.bytes_since = 4;
                parts.whole = i == 1 ? NULL : &whole;
                parts.trees[2].applied = i == 0 ? 30 : 10;
                replica_replace_tree(p);
                expect_state("= tree 1 restarting exchange copy-untold entries 4 bytes 4 stop!\n");
                if (i == 2)
                        parts_fail("data_dir_install", -EIO);
                fake_run();
                parts_look();
                switch (i) {
                case 0:
                        expect("core free\nflushed 3\nlog close\nfolder install 30, replace\nlog 5: replaced "
                               "the tree by the leader's tree of entry 30\ntransfers drop\ncompare "
                               "exchanged, taken\nclose tree 1\ncompare flushed 0\nreplaced\nflushed "
                               "0\n" REOPENS "= coreless logless tree 2 restarting previous 30 durable 15\n");
                        break;
                case 1:
                        expect("core free\nflushed 3\nlog close\ncompare flushed 0\nflushed 0\n" REOPENS
                               "= coreless logless tree 1 restarting copy-untold entries 4 bytes 4 durable "
                               "15\n");
                        break;
                default:
                        expect("core free\nflushed 3\nlog close\nfolder install 30, replace\nfolder "
                               "distrust\ncompare flushed 0\nflushed 0\nflushed 3\nfailed -5: Failed to "
                               "start "
                               "again: data_dir_install did it\n= coreless logless tree 1 error -5 \"Failed "
                               "to "
                               "start again: data_dir_install did it\" failed copy-untold entries 4 bytes 4 "
                               "durable 15 attempts 1 comeback+500\n");
                        break;
                }
                if (i == 0) {
                        parts_work();
                        expect_state(
                                "disk drop-caches\nlog open: file 4096, applied 30, loaded 2000\nown "
                                "hardware h\n"
                                "fits: 20 entries from 1\n  30 of term 5\nmark tree 2 with 70 in /tree\ncore "
                                "new 1 a:1 400 150\n"
                                "fits: 20 entries from 1\n  30 of term 5\ncore start term 5 vote 2, 20 "
                                "entries from 1, taken\n"
                                "  state 30 of term 5, configuration 1 (4 bytes)\nentries free 20\ntransfers "
                                "step\n"
                                "compare flushed 7\nflushed 7\n= tree 2 previous 30 durable 15 flush!\n");
                } else if (i == 1)
                        parts_work();
                parts_end();
        }

        for (unsigned i = 0; i < 3; i++) {
                parts_begin();
                p->state = i == 0 ? REPLICA_FAILING : REPLICA_OPEN;
                parts.state = i == 1 ? RAFT_STATE_LEADER : RAFT_STATE_FOLLOWER;
                p->checkpoints.copying = i == 2;
                replica_replace_tree(p);
                assert_int_equal(p->state == REPLICA_RESTARTING, false);
                p->checkpoints.copying = false;
                parts_end();
        }

        /* The trees that are shown. */
        parts_begin();
        parts_fail("tree_meta", -EIO);
        parts.whole = &whole;
        parts.trees[2].applied = 10;
        replica_replace_tree(p);
        fake_run();
        expect_state("core free\nflushed 3\nlog close\nfolder install 30, replace\nlog 5: replaced the tree "
                     "by the leader's tree of entry 30\ntransfers drop\ncompare exchanged, "
                     "taken\nclose tree 1\ncompare flushed 0\nreplaced\nflushed 0\n" REOPENS
                     "= coreless logless tree 2 restarting previous 30 durable 15\n"); /* ours cannot be
read: it is not shown */
        parts_end();
        parts_begin();
        parts_fail_after("tree_meta", -EIO, 1);
        parts.whole = &whole;
        replica_replace_tree(p);
        fake_run();
        expect_state(
                "core free\nflushed 3\nlog close\nfolder install 30, replace\nlog 5: replaced the tree by "
                "the leader's tree of entry 30\ntransfers drop\ncompare exchanged, taken\ncompare flushed "
                "0\nflushed 0\nflushed 3\nfailed -5: Failed to start again: Input/output error\n= coreless "
                "logless tree 2 shown 1 (10, wrong) error -5 \"Failed to start again: Input/output error\" "
                "failed previous 30 durable 15 attempts 1 comeback+500\n"); /* the new one cannot */
        parts_end();
        parts_begin();
        p->trees.previous = p->trees.live;
        p->trees.previous_applied = 10;
        replica_caught_up(p, 9);
        assert_non_null(p->trees.previous);
        p->trees.live = NULL;
        replica_caught_up(p, 10);
        assert_null(p->trees.previous);
        replica_caught_up(p, 10);
        expect("close tree 1\n");
        parts_end();
}

/* -- Lost, and joining -- */

static void one_that_may_have_others_is_lost(void **state) {
        static const struct {
                const char *what;
                const char *fails;
                int error;
                bool lost;
        } cases[] = {
                { "two servers", NULL, 0, true },
                { "one server", NULL, 0, false },
                { "no configuration", NULL, 0, false },
                { "no peers", NULL, 0, false },
                { "no address", NULL, 0, false },
                { "one server, but it was told of others", NULL, 0, true },
                { "told of others, no address", NULL, 0, false },
                { "no tree", "tree_begin_read", -EIO, false },
                { "no configuration to read", "tree_configuration", -EIO, false },
                { "damaged", "raft_configuration_decode_servers", -EBADMSG, false },
                { "no identity", "data_dir_read_identity", -ENOENT, false },
                { "not written", "data_dir_quarantine", -EIO, false },
                { "another tree is shown", NULL, 0, false },
                { "no tree at all", NULL, 0, false },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *what = cases[i].what;
                Error err = { .code = -EUCLEAN, .message = "the log is damaged" };
                Peers *peers;
                Tree *tree;

                parts_begin();
                fail_now(-EIO);
                peers = p->options.peers;
                tree = p->trees.live;
                parts.configuration_size = strstr(what, "one server")      ? 1 :
                                           streq(what, "no configuration") ? 0 :
                                                                             2;
                p->has_others = strstr(what, "told");
                if (strstr(what, "no address"))
                        p->options.address[0] = '\0';
                if (streq(what, "no peers"))
                        p->options.peers = NULL;
                if (streq(what, "another tree is shown")) {
                        p->trees.previous = tree;
                        p->trees.live = NULL;
                }
                if (streq(what, "no tree at all"))
                        p->trees.live = NULL;
                if (cases[i].fails)
                        parts_fail(cases[i].fails, cases[i].error);
                p->state = REPLICA_FAILED;
                parts_forget();
                assert_int_equal(replica_quarantine(p, &err), cases[i].lost               ? 0 :
                                                              cases[i].error < 0 && i > 9 ? cases[i].error :
                                                                                            -EUCLEAN);
                assert_int_equal(p->state == REPLICA_QUARANTINED, cases[i].lost);
                if (i == 0)
                        expect_state(
                                LOST("the log is damaged") "self self: 0 of 70, 71, start 3\n= coreless "
                                                           "logless tree 1 error -117 \"the log is damaged\" "
                                                           "quarantined observed-term 5 durable 15 attempts "
                                                           "1 id 1000 comeback+500\n");
                p->options.peers = peers;
                p->trees.previous = NULL;
                p->trees.live = tree;
                assert_int_equal(parts.n_txns, 0);
                parts_end();
        }

        /* The replica that finds its log damaged when it comes back. */
        parts_begin();
        fail_now(-EIO);
        parts_forget();
        parts_fail("raft_log_open", -EUCLEAN);
        fake_pass(500);
        parts_work();
        expect_state("transfers drop\n" REOPENS LOG_AT_10 LOST(
                "raft_log_open did it") "self self: 0 of 70, 71, start 3\ncompare flushed 3\nflushed 3\n= "
                                        "coreless logless tree 1 error -117 \"raft_log_open did it\" "
                                        "quarantined damaged observed-term 5 durable 15 attempts 1 id "
                                        "1000\n");
        fake_pass(100000);
        parts_forget();
        parts_end();
}

static void a_replica_joins(void **state) {
        static const Identity identity = { 70, 71, 9 }, other[] = { { 77, 71, 9 }, { 70, 77, 9 } };
        static const struct {
                const char *what, *fails;
                int error;
                bool lost;
                Said said;
        } cases[] = {
                { "for the first time", NULL, 0, false,
                  SAID("join as 9 of 70 4096\n" LOG_AT_0 "own hardware h\n" MARKED
                       "core new 1 a:1 400 150\nfits: 0 entries from 1\ncore start term 5 vote 2, 0 entries "
                       "from 1, taken\nentries free 0\n" SELF_IN_1 "= 0: \n= tree 1 changed 7 flush!\n") },
                { "no log made", "bootstrap_join", -EIO, false,
                  SAID("join as 9 of 70 4096\n= -5: bootstrap_join did it\n= coreless logless tree 1 waiting "
                       "not-started id 1000 cluster 1000\n") },
                { "no log opened", "raft_log_open", -EIO, false,
                  SAID("join as 9 of 70 4096\n" LOG_AT_0
                       "self self: 9 of 70, 71, start 1\n= 0: raft_log_open did it\n= coreless logless tree "
                       "1 error -5 \"Failed to start: raft_log_open did it\" stopping not-started id 1009 "
                       "stop!\n") },
                { "no start", "raft_core_new", -ENOMEM, false,
                  SAID("join as 9 of 70 4096\n" LOG_AT_0 "own hardware h\n" MARKED
                       "core new 1 a:1 400 150\nentries free 0\nself self: 9 of 70, 71, start 3\n= 0: Failed "
                       "to start Raft: Cannot allocate memory\n= coreless tree 1 error -12 \"Failed to "
                       "start: Failed to start Raft: Cannot allocate memory\" stopping not-started id 1009 "
                       "stop!\n") },
                { "again", NULL, 0, true,
                  SAID("set log aside\nfolder set aside\ncompare exchanged\nlog 5: kept the quarantined tree "
                       "in /tree/old, and the log in files old.*\njoin as 9 of 70 4096\n" LOG_AT_0
                       "own hardware h\nmark tree 2 with 70 in /tree\ncore new 1 a:1 400 150\nfits: 0 "
                       "entries from 1\ncore start term 5 vote 2, 0 entries from 1, taken\nentries free "
                       "0\nfolder found\n" SELF_IN_1
                       "= 0: \n= tree 2 shown 1 (10, wrong) changed 7 observed-term 5 attempts 1 back 1000 "
                       "comeback+500 flush!\n") },
                { "no log set aside", "bootstrap_set_aside", -EIO, true,
                  SAID("set log aside\n= -5: bootstrap_set_aside did it\n= coreless logless tree 1 error "
                       "-117 \"Structure needs cleaning\" quarantined copy-untold observed-term 5 waited 3 "
                       "entries 3 bytes 3 previous 3 durable 15 attempts 1 id 1000 comeback+500\n") },
                { "no tree set aside", "data_dir_set_aside", -EIO, true,
                  SAID("set log aside\nfolder set aside\n= -5: data_dir_set_aside did it\n= coreless logless "
                       "tree 1 error -117 \"Structure needs cleaning\" quarantined copy-untold "
                       "observed-term 5 waited 3 entries 3 bytes 3 previous 3 durable 15 attempts 1 id 1000 "
                       "comeback+500\n") },
                { "no new tree", "tree_meta", -EIO, true,
                  SAID("set log aside\nfolder set aside\ncompare exchanged\nclose tree 1\nlog 5: kept the "
                       "quarantined tree in /tree/old, and the log in files old.*\njoin as 9 of 70 "
                       "4096\n" LOG_AT_0 "own hardware h\nmark tree 2 with 70 in /tree\ncore new 1 a:1 400 "
                       "150\nfits: 0 entries from 1\ncore start term 5 vote 2, 0 entries "
                       "from 1, taken\nentries free 0\nfolder found\n" SELF_IN_1
                       "= 0: \n= tree 2 replaced! changed 7 observed-term 5 attempts 1 back 1000 "
                       "comeback+500 flush!\n") },
                { "no log made", "bootstrap_join", -EIO, true,
                  SAID("set log aside\nfolder set aside\ncompare exchanged\nlog 5: kept the quarantined tree "
                       "in /tree/old, and the log in files old.*\njoin as 9 of 70 4096\n= -5: bootstrap_join "
                       "did it\n= coreless logless tree 2 shown 1 (10, wrong) error -117 \"Structure needs "
                       "cleaning\" quarantined observed-term 5 attempts 1 back 1000 id 1000 "
                       "comeback+500\n") },
                { "no log opened", "raft_log_open", -EIO, true,
                  SAID("set log aside\nfolder set aside\ncompare exchanged\nlog 5: kept the quarantined tree "
                       "in /tree/old, and the log in files old.*\njoin as 9 of 70 4096\n" LOG_AT_0
                       "= -5: raft_log_open did it\n= coreless logless tree 2 shown 1 (10, wrong) error -117 "
                       "\"Structure needs cleaning\" quarantined observed-term 5 attempts 1 back 1000 id "
                       "1000 comeback+500\n") },
                { "no start", "raft_core_new", -ENOMEM, true,
                  SAID("set log aside\nfolder set aside\ncompare exchanged\nlog 5: kept the quarantined tree "
                       "in /tree/old, and the log in files old.*\njoin as 9 of 70 4096\n" LOG_AT_0
                       "own hardware h\nmark tree 2 with 70 in /tree\ncore new 1 a:1 400 150\nentries free "
                       "0\nlog close\n= -12: Failed to start Raft: Cannot allocate memory\n= coreless "
                       "logless tree 2 shown 1 (10, wrong) error -117 \"Structure needs cleaning\" "
                       "quarantined observed-term 5 attempts 1 back 1000 id 1000 comeback+500\n") },
                { "not said", "data_dir_end_quarantine", -EIO, true,
                  SAID("set log aside\nfolder set aside\ncompare exchanged\nlog 5: kept the quarantined tree "
                       "in /tree/old, and the log in files old.*\njoin as 9 of 70 4096\n" LOG_AT_0
                       "own hardware h\nmark tree 2 with 70 in /tree\ncore new 1 a:1 400 150\nfits: 0 "
                       "entries from 1\ncore start term 5 vote 2, 0 entries from 1, taken\nentries free "
                       "0\nfolder found\ncore free\nlog close\n= -5: \n= coreless logless tree 2 shown 1 "
                       "(10, wrong) error -117 \"Structure needs cleaning\" quarantined changed 7 "
                       "observed-term 5 attempts 1 back 1000 id 1000 comeback+500 flush!\n") },
                { "another cluster", NULL, 0, true,
                  SAID("= -18: this host belongs to another cluster or lineage\n= coreless logless tree 1 "
                       "error -117 \"Structure needs cleaning\" quarantined copy-untold observed-term 5 "
                       "waited 3 entries 3 bytes 3 previous 3 durable 15 attempts 1 id 1000 "
                       "comeback+500\n") },
                { "another lineage", NULL, 0, true,
                  SAID("= -18: this host belongs to another cluster or lineage\n= coreless logless tree 1 "
                       "error -117 \"Structure needs cleaning\" quarantined copy-untold observed-term 5 "
                       "waited 3 entries 3 bytes 3 previous 3 durable 15 attempts 1 id 1000 "
                       "comeback+500\n") },
                { "not at rest", NULL, 0, true,
                  SAID("= -16: work of the quarantined replica is still in flight\n= coreless logless "
                       "pending 1 tree 1 error -117 \"Structure needs cleaning\" quarantined copy-untold "
                       "observed-term 5 waited 3 entries 3 bytes 3 previous 3 durable 15 attempts 1 id 1000 "
                       "comeback+500\n") },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *what = cases[i].what;
                Error err = {};
                int r;

                if (cases[i].lost) {
                        parts_begin();
                        fail_now(-EIO);
                        assert_int_equal(replica_quarantine(p, &err), 0);
                        p->checkpoints.previous = p->checkpoints.entries_since = p->checkpoints.bytes_since =
                                p->write_watch.waited_ms = p->write_watch.since_ms = 3;
                        p->checkpoints.reported = false;
                } else {
                        parts_begin_closed();
                        parts_fail("raft_log_open", -ENOENT);
                        parts.trees[1].applied = 0;
                        assert_int_equal(replica_open(&p, &fake.loop, &parts.options, true, &err), 0);
                        assert_int_equal(replica_start(p, &err), 0);
                }
                parts.trees[2].applied = 0;
                parts.log_entries = 0;
                err = (Error) {};
                p->closing.pending = streq(what, "not at rest");
                if (cases[i].fails)
                        parts_fail(cases[i].fails, cases[i].error);
                parts_forget();
                const Identity *id = streq(what, "another cluster") ? &other[0] :
                                     streq(what, "another lineage") ? &other[1] :
                                                                      &identity;

                r = replica_join(p, id, &err);
                parts_say("= %d: %s", r, err.message);
                parts_look();
                parts_expect(cases[i].said);
                assert_true(p->state == REPLICA_QUARANTINED || p->write_watch.since_ms == 0);
                p->closing.pending = 0;
                parts_end();
        }

        for (unsigned i = 0; i < 3; i++) {
                Error err = {};
                RaftLog *log;

                parts_begin();
                log = p->log;
                if (i > 0)
                        p->log = NULL;
                if (i > 0)
                        p->state = i == 1 ? REPLICA_FAILED : REPLICA_RESTARTING;
                assert_int_equal(replica_join(p, &identity, &err), -EALREADY);
                assert_string_equal(err.message, "this host is a member of a cluster already");
                p->log = log;
                parts_end();
        }
}

/* -- Closing -- */

static void on_closed(void *userdata) {
        parts_say("closed %s", (const char *) userdata);
        p = NULL;
}

static void closing_gives_all_back(void **state) {
        parts_begin();
        parts.role = RAFT_ROLE_STANDBY;
        parts.timeout_ms = 1050;
        replica_arm(p);
        replica_checkpoints_init(p);
        assert_int_equal(timer_start(&p->checkpoints.compact_again, p->loop, 1), 0);
        assert_int_equal(timer_start(&p->recovery.transfer_timer, p->loop, 1), 0);
        assert_int_equal(timer_start(&p->recovery.retry, p->loop, 1), 0);
        parts.log_closes_later = true;
        replica_close(p, on_closed, (void *) "it");
        expect_state("folder cancel\ncore free\nlog close\n= coreless logless log-closing pending 1 tree 1 "
                     "closing closed!\n");
        for (PeerFrame f = 0; f < PEER_FRAME_TYPES; f++)
                assert_null(fake.handlers[f].run);
        fake_pass(1000);
        expect("");
        parts.log_closed(p);
        expect_state("= coreless logless tree 1 closing closed!\n");
        fake_run();
        expect("close tree 1\nfolder closed\ntransfers free\ncompare free\nfolder done\nclosed it\n");
        parts_end();

        /* Before it was started the live tree says nothing; deferred calls go with it. */
        parts_begin_closed();
        assert_int_equal(replica_open(&p, &fake.loop, &parts.options, false, NULL), 0);
        loop_defer(p->loop, &p->flush);
        loop_defer(p->loop, &p->notices.send);
        loop_defer(p->loop, &p->applying.next);
        loop_defer(p->loop, &p->recovery.stop);
        parts_forget();
        replica_close(p, on_closed, (void *) "it");
        fake_run();
        expect("folder cancel\nlog close\nclose tree 1\ntransfers free\ncompare free\nfolder done\nclosed "
               "it\n");
        parts_end();

        /* Without a log nothing is to be waited for. */
        parts_begin_closed();
        parts_fail("raft_log_open", -ENOENT);
        parts.trees[1].applied = 0;
        assert_int_equal(replica_open(&p, &fake.loop, &parts.options, true, NULL), 0);
        replica_close(p, on_closed, (void *) "it");
        fake_run();
        assert_null(p);
        parts_end();

        /* While a worker reads. */
        parts_begin();
        fail_now(-EIO);
        fake_pass(500);
        replica_close(p, on_closed, (void *) "it");
        fake_run();
        parts_forget();
        parts_work();
        fake_run();
        expect(LOG_READ "log close\nclose tree 1\nfolder closed\ntransfers free\ncompare free\nfolder "
                        "done\nclosed it\n");
        parts_end();

        assert_null(replica_crash(NULL));
        parts_begin();
        parts.log_closes_later = true;
        fail_now(-EIO);
        parts_forget();
        p = replica_crash(p);
        assert_null(p);
        expect("log crash\n" FREED);
        parts_end();
        parts_begin();
        p->deferred.bytes = malloc(3);
        p->trees.previous = (Tree *) ((char *) p->trees.live + 1);
        loop_defer(p->loop, &p->flush);
        loop_defer(p->loop, &p->notices.send);
        loop_defer(p->loop, &p->applying.next);
        loop_defer(p->loop, &p->recovery.stop);
        p->closing.deferred = DEFERRED(on_closed, NULL);
        loop_defer(p->loop, &p->closing.deferred);
        assert_int_equal(timer_start(&p->tick, p->loop, 1), 0);
        assert_int_equal(timer_start(&p->contact.silence, p->loop, 1), 0);
        assert_int_equal(timer_start(&p->checkpoints.compact_again, p->loop, 1), 0);
        assert_int_equal(timer_start(&p->recovery.transfer_timer, p->loop, 1), 0);
        assert_int_equal(timer_start(&p->recovery.retry, p->loop, 1), 0);
        p->checkpoints.drop_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        int fd = p->checkpoints.drop_fd;
        p = replica_crash(p);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        assert_int_equal(loop_next_due_ms(&fake.loop), UINT64_MAX);
        assert_null(fake.handlers[PEER_RAFT].run);
        expect("core free\nlog crash\ntransfers free\ncompare free\nclose tree 2\nclose tree 1\nfolder "
               "done\n");
        parts_end();
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_replica_opens_what_is_there),
                cmocka_unit_test(a_replica_starts_from_what_it_opened),
                cmocka_unit_test(a_failed_replica_recovers),
                cmocka_unit_test(the_pauses_grow_up_to_10_s),
                cmocka_unit_test(a_leader_hands_over_first),
                cmocka_unit_test(what_is_under_way_ends_first),
                cmocka_unit_test(a_full_disk_needs_space),
                cmocka_unit_test(a_tree_that_failed_is_made_again),
                cmocka_unit_test(it_is_as_before_when_it_does_not_begin),
                cmocka_unit_test(what_was_acknowledged_has_to_be_there_again),
                cmocka_unit_test(a_log_that_does_not_fit_needs_a_checkpoint),
                cmocka_unit_test(a_promotion_that_was_lost_begins_again_from_the_disk),
                cmocka_unit_test(a_tree_that_differs_is_exchanged),
                cmocka_unit_test(one_that_may_have_others_is_lost),
                cmocka_unit_test(a_replica_joins),
                cmocka_unit_test(closing_gives_all_back),
        };

        return cmocka_run_group_tests_name("raft_stop", tests, NULL, NULL);
}
