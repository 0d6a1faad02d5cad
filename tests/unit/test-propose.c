/* Proposals of a host on their way to the log: order, limits, copies and times, on the leader and elsewhere.
 * The replica, the other hosts and time are played. */

#include "tests/lib/test.h"
#include "kvstore/propose_internal.h"
#include "tests/lib/commands.h"
#include "tests/lib/fake_replica.h"
#include "tests/lib/scratch.h"

enum { ORIGIN = 77, CLUSTER_MS = 100000, START_MS = 1000 /* of fake.now_ms */ };

static struct {
        char *scratch;
        Tree *tree;
        Proposals *p;
        uint64_t cluster_ms, known_ms, kept, index;
        int submit, send, ahead, fits; /* errors, 0: none */
        uint64_t fit_limit;            /* asked of the leader's program */
        bool no_session;
        unsigned level;
        int check; /* what check_proposal() returns */
} world;

/* -- What is asked of the world -- */

#define ANSWER(type, name, parameters, value) \
        type __wrap_##name parameters;        \
        type __wrap_##name parameters {       \
                return value;                 \
        }

ANSWER(uint64_t, kv_clock_ms, (KvStore * s), world.cluster_ms)
ANSWER(uint64_t, kv_cluster_ms, (const KvStore *s), world.known_ms)
ANSWER(uint64_t, kv_kept_bytes, (const KvStore *s), world.kept)
ANSWER(unsigned, kv_level, (const KvStore *s), world.level)
ANSWER(int, kv_read, (KvStore * s, TreeTxn **ret), tree_begin_read(world.tree, ret))

int __wrap_kv_acknowledge(KvStore *s, uint64_t index);
int __wrap_kv_acknowledge(KvStore *s, uint64_t index) {
        text_printf(&fake.said, "ahead %" PRIu64 "\n", index);
        return world.ahead;
}

int __wrap_kv_check_room(KvStore *s, const KvCommand *cmd, KvStatus *ret_status, Error *err);
int __wrap_kv_check_room(KvStore *s, const KvCommand *cmd, KvStatus *ret_status, Error *err) {
        if (world.fits == 0)
                return 0;
        *ret_status = KV_TOO_LARGE;
        return error_set(err, world.fits, "no room");
}

void __wrap_kv_problem(const KvStore *s, char *ret, size_t size);
void __wrap_kv_problem(const KvStore *s, char *ret, size_t size) {
        snprintf(ret, size, "1 of 3 voters");
}

/* -- What is said -- */

/* "propose to 2, term 5, acknowledged 1, again: 1@110000 2?" */
static int on_frame(PeerFrame type, bool answer, uint64_t to, const Writer *w) {
        Reader r = reader_over(w->bytes, w->size);
        unsigned flags;
        uint64_t n;

        if (answer)
                return 1;
        if (world.send < 0)
                return world.send;
        assert_int_equal(read_u64(&r), to);
        text_printf(&fake.said, "%s to %" PRIu64 ", term %" PRIu64,
                    type == PEER_PROPOSE       ? "propose" :
                    type == PEER_PROPOSE_LATER ? "later" :
                                                 "?",
                    to, read_u64(&r));
        assert_int_equal(read_u64(&r), ORIGIN);
        text_printf(&fake.said, ", acknowledged %" PRIu64, read_u64(&r));
        flags = read_u8(&r);
        assert_true(flags < 4);
        text_printf(&fake.said, "%s:", flags & 1 ? ", again" : "");
        n = read_varint(&r);
        for (uint64_t i = 0; i < n; i++) {
                uint64_t number = read_u64(&r), deadline_ms = read_u64(&r);
                size_t size;

                (void) read_blob(&r, SIZE_MAX, &size);
                if (n <= 8)
                        text_printf(&fake.said, " %" PRIu64 "%s%" PRIu64, number, size > 0 ? "@" : "?",
                                    deadline_ms);
                if (flags & 2) {
                        const char *principal = read_blob(&r, KV_PRINCIPAL_MAX, &size);

                        text_printf(&fake.said, " for '%.*s'", (int) size, principal);
                }
        }
        if (n > 8)
                text_printf(&fake.said, " %" PRIu64 " commands", n);
        assert_int_equal(reader_end(&r), 0);
        text_append(&fake.said, "\n");
        return 0;
}

/* "log 1: 1@110000" */
int __wrap_replica_submit(Replica *p, const void *bytes, size_t size, uint64_t *ret_index,
                          uint64_t *ret_term);
int __wrap_replica_submit(Replica *p, const void *bytes, size_t size, uint64_t *ret_index,
                          uint64_t *ret_term) {
        KvBatchHead head;
        KvBatchItem item;
        KvBatch batch;
        Text items = {};
        unsigned n = 0;

        if (world.submit < 0)
                return world.submit;
        assert_int_equal(kv_batch_open(&batch, bytes, size, &head), 0);
        assert_int_equal(head.cluster_ms, world.cluster_ms);
        for (; kv_batch_next(&batch, &item) == 1; n++)
                if (n < 8)
                        text_printf(&items, " %s%" PRIu64 "@%" PRIu64, item.origin == ORIGIN ? "" : "*",
                                    item.number, item.deadline_ms);
        text_printf(&fake.said, "log %" PRIu64 ":", ++world.index);
        if (n > 8)
                text_printf(&fake.said, " %u commands\n", n);
        else
                text_printf(&fake.said, "%s\n", items.chars ? items.chars : "");
        text_done(&items);
        *ret_index = world.index;
        *ret_term = fake.term;
        return 0;
}

uint64_t __wrap_replica_known_leader(const Replica *p);
uint64_t __wrap_replica_known_leader(const Replica *p) {
        return fake.leader;
}

uint64_t __wrap_replica_known_term(const Replica *p);
uint64_t __wrap_replica_known_term(const Replica *p) {
        return fake.term;
}

PeerSession *__wrap_peers_session(Peers *peers, uint64_t number);
PeerSession *__wrap_peers_session(Peers *peers, uint64_t number) {
        return world.no_session ? NULL : (PeerSession *) (uintptr_t) number;
}

/* "say to 3 by 9, term 5, of 70 at 100000: accepted 1 2" */
int __wrap_peer_reply(PeerSession *session, PeerFrame type, const void *payload, size_t size);
int __wrap_peer_reply(PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        static const char *const words[] = { "accepted", "not-leader", "busy", "refused",
                                             "late",     "done",       "past" };
        Reader r = reader_over(payload, size);
        _cleanup_free_ char *cause = NULL;
        unsigned what, status;
        uint64_t n;

        assert_int_equal(type, PEER_PROPOSED);
        text_printf(&fake.said, "say to %" PRIu64 " by %" PRIu64, read_u64(&r),
                    (uint64_t) (uintptr_t) session);
        text_printf(&fake.said, ", term %" PRIu64, read_u64(&r));
        text_printf(&fake.said, ", of %" PRIu64, read_u64(&r));
        text_printf(&fake.said, " at %" PRIu64 ": ", read_u64(&r));
        what = read_u8(&r);
        status = read_u8(&r);
        cause = read_string(&r, ERROR_MESSAGE_MAX);
        n = read_varint(&r);
        assert_in_range(what, 0, _PROPOSED_MAX - 1);
        text_printf(&fake.said, "%s", words[what]);
        if (what == PROPOSED_REFUSED)
                text_printf(&fake.said, " %s", kv_status_name(status));
        for (uint64_t i = 0; what != PROPOSED_DONE && i < n; i++) {
                uint64_t number = read_u64(&r);

                if (n <= 8)
                        text_printf(&fake.said, " %" PRIu64, number);
        }
        if (n > 8)
                text_printf(&fake.said, " %" PRIu64 " commands", n);
        text_printf(&fake.said, "%s%s\n", cause[0] ? " " : "", cause);
        return 0;
}

/* "answer a: no leader 1 of 3 voters" */
static void on_done(void *userdata, const KvResult *result) {
        const char *name = result->status == KV_OK ? "ok" : kv_status_name(result->status);

        text_printf(&fake.said, "answer %s: %s%s%.*s\n", (const char *) userdata, name,
                    result->cause.size > 0 ? " " : "", (int) result->cause.size,
                    (const char *) result->cause.data);
}

const PeerHandshake *__wrap_peer_handshake(const PeerSession *session);
const PeerHandshake *__wrap_peer_handshake(const PeerSession *session) {
        static const PeerHandshake handshake = { .machine_id = "cccccccccccccccccccccccccccccccc" };

        return &handshake;
}

const PeerHandshake *__wrap_peers_self(const Peers *peers);
const PeerHandshake *__wrap_peers_self(const Peers *peers) {
        static const PeerHandshake self = { .machine_id = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };

        return &self;
}

/* "check /f of cc for 'user:a'" */
static int check_proposal(void *userdata, const char *relay, const char *machine_id, KvBytes principal,
                          const KvCommand *cmd, Error *err) {
        text_printf(&fake.said, "check %.*s of %.2s for '%.*s'\n", (int) cmd->key.size,
                    (const char *) cmd->key.data, machine_id, (int) principal.size,
                    (const char *) principal.data);
        return world.check < 0 ? error_set(err, world.check, "it may not") : 0;
}

static void begin(bool leads) {
        _cleanup_free_ char *path = NULL;
        ProposalsOptions options = { .origin = ORIGIN, .level_max = 7, .check = check_proposal };

        fake_begin("VVV");
        fake.on_frame = on_frame;
        fake.leads = leads;
        fake.leader = leads ? 1 : 2;
        memset(&world, 0, sizeof(world));
        world.cluster_ms = world.known_ms = CLUSTER_MS;
        world.scratch = scratch_new();
        path = scratch_path(world.scratch, "tree");
        assert_int_equal(tree_open(path, &(TreeOptions) {}, &world.tree, NULL), 0);
        options.loop = &fake.loop;
        options.peers = fake.replica.options.peers;
        options.replica = &fake.replica;
        assert_int_equal(proposals_new(&world.p, &options), 0);
        proposals_on_input(world.p, RAFT_CHANGED_LEADER, 0);
        fake_assert_said("");
}

static void end(void) {
        world.p = proposals_free(world.p);
        for (size_t i = 0; i < ELEMENTS(fake.handlers); i++)
                assert_null(fake.handlers[i].run);
        assert_true(loop_next_due_ms(&fake.loop) == UINT64_MAX);
        tree_close(world.tree);
        scratch_free(world.scratch);
        fake_end();
}

static uint64_t add(const char *name, KvCommand cmd) {
        uint64_t number;

        if (!cmd.key.size)
                cmd.key = kv_string("/a");
        assert_int_equal(proposals_add(world.p, &cmd, on_done, (void *) name, &number), 0);
        return number;
}

static Proposal *get(uint64_t number) {
        Proposal *x = proposals_find(world.p, ORIGIN, number);

        assert_non_null(x);
        return x;
}

/* Of the leader, to the numbers from 'first' to 'last'. */
static void receive(ProposedWhat what, KvStatus status, const char *cause, uint64_t leader_ms, uint64_t first,
                    uint64_t last) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, 2);
        write_u64(&w, fake.term);
        write_u64(&w, ORIGIN);
        write_u64(&w, leader_ms);
        write_u8(&w, what);
        write_u8(&w, status);
        write_string(&w, cause);
        write_varint(&w, last - first + 1);
        for (uint64_t n = first; n <= last; n++)
                write_u64(&w, n);
        fake.handlers[PEER_PROPOSED].run(fake.handlers[PEER_PROPOSED].userdata, (PeerSession *) 9,
                                         PEER_PROPOSED, w.bytes, w.size);
}

static void accepted(uint64_t first, uint64_t last) {
        receive(PROPOSED_ACCEPTED, KV_OK, "", CLUSTER_MS, first, last);
}

/* The leader gives an answer: the tree's index, and no more. */
static void receive_done(uint64_t number, uint64_t index) {
        _cleanup_writer_ Writer w = {}, answer = {};

        write_u8(&answer, KV_OK);
        write_u8(&answer, KV_ACTION_SET);
        write_u8(&answer, 0);
        write_varint(&answer, index);
        write_u64(&w, 2);
        write_u64(&w, fake.term);
        write_u64(&w, ORIGIN);
        write_u64(&w, CLUSTER_MS);
        write_u8(&w, PROPOSED_DONE);
        write_u8(&w, KV_OK);
        write_string(&w, "");
        write_varint(&w, 1);
        write_u64(&w, number);
        write_u64(&w, 11);
        write_u64(&w, 5);
        write_u64(&w, CLUSTER_MS);
        write_blob(&w, answer.bytes, answer.size);
        fake.handlers[PEER_PROPOSED].run(fake.handlers[PEER_PROPOSED].userdata, (PeerSession *) 9,
                                         PEER_PROPOSED, w.bytes, w.size);
}

/* Another host's commands, all alike, with the numbers from 1 on. 'principal' NULL: in the form without. */
static void receive_foreign_for(PeerFrame type, uint64_t origin, unsigned n, size_t size,
                                uint64_t deadline_ms, const char *principal) {
        _cleanup_free_ char *value = calloc(1, size + 1);
        KvCommand cmd = COMMAND(KV_SET, "/f", .value = { value, size });
        _cleanup_writer_ Writer w = {}, bytes = {};

        assert_non_null(value);
        assert_int_equal(kv_command_encode(&cmd, KV_LEVEL_MAX, &bytes), 0);
        write_u64(&w, 3);
        write_u64(&w, fake.term);
        write_u64(&w, origin);
        write_u64(&w, 1);
        write_u8(&w, principal ? 2 : 0);
        write_varint(&w, n);
        for (unsigned i = 1; i <= n; i++) {
                write_u64(&w, i);
                write_u64(&w, deadline_ms);
                write_blob(&w, bytes.bytes, bytes.size);
                if (principal)
                        write_blob(&w, principal, strlen(principal));
        }
        fake.handlers[type].run(fake.handlers[type].userdata, (PeerSession *) 9, type, w.bytes, w.size);
}

static void receive_foreign(PeerFrame type, uint64_t origin, unsigned n, size_t size, uint64_t deadline_ms) {
        receive_foreign_for(type, origin, n, size, deadline_ms, NULL);
}

static void change_leader(uint64_t leader) {
        fake.leader = leader;
        fake.leads = leader == 1;
        fake.term++;
        proposals_on_input(world.p, RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER, 0);
}

/* -- To another leader -- */

static void what_the_leader_does_not_take_is_sent_again_and_unknown_in_the_end(void **state) {
        begin(false);
        (void) add("a", (KvCommand) {});
        (void) add("b", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000 2@110000\n");
        fake_pass(RESEND_MS - 1);
        fake_assert_said("");
        world.known_ms += 5000; /* the deadline stays */
        fake_pass(1);
        fake_assert_said("propose to 2, term 5, acknowledged 1, again: 1@110000 2@110000\n");
        fake_pass(RESEND_MS);
        fake_assert_said("propose to 2, term 5, acknowledged 1, again: 1@110000 2@110000\n");
        fake_pass(PROPOSE_WAIT_MS - 2 * RESEND_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("answer a: outcome unknown\nanswer b: "
                         "outcome unknown\n");
        fake_pass(1000);
        end();
}

static void what_the_leader_took_is_asked_for_until_it_is_answered(void **state) {
        begin(false);
        (void) add("a", (KvCommand) {});
        (void) add("b", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000 2@110000\n");
        accepted(1, 2);
        fake_pass(PROPOSE_ASK_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("propose to 2, term 5, acknowledged 1, again: 1?110000 2?110000\n");
        proposals_take_result(world.p, get(1), &(KvResult) { .status = KV_OK });
        fake_assert_said("answer a: ok\n");
        fake_pass(2 * SWEEP_MS); /* looked for each 100 ms */
        fake_assert_said("");
        fake_pass(SWEEP_MS);
        fake_assert_said("propose to 2, term 5, acknowledged 2, again: 2?110000\n");
        receive_done(2, 31);
        fake_assert_said("ahead 31\nanswer b: ok\n");
        end();

        /* A host whose replica is stopped asks at once. */
        begin(false);
        (void) add("a", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
        accepted(1, 1);
        fake.closed = true;
        fake_pass(SWEEP_MS);
        fake_assert_said("propose to 2, term 5, acknowledged 1, again: 1?110000\n");
        end();
}

static void what_was_taken_and_came_to_nothing_is_unknown_after_a_while(void **state) {
        begin(false);
        (void) add("a", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
        receive(PROPOSED_PAST, KV_OK, "", 110001, 1, 1); /* of what it has not taken */
        assert_int_equal(get(1)->due_ms, START_MS + PROPOSE_WAIT_MS);
        accepted(1, 1);
        assert_int_equal(get(1)->due_ms, 0);
        receive(PROPOSED_PAST, KV_OK, "", 110000, 1, 1); /* the deadline itself is in time */
        assert_int_equal(get(1)->due_ms, 0);
        fake_pass(300);
        receive(PROPOSED_PAST, KV_OK, "", 110001, 1, 1);
        fake_pass(100);
        receive(PROPOSED_PAST, KV_OK, "", 110001, 1, 1); /* said once more: no new time */
        fake_pass(PROPOSE_ASK_MS - 401);
        fake_assert_said("");
        fake_pass(PROPOSE_WAIT_MS - (PROPOSE_ASK_MS - 301) - 1);
        text_clear(&fake.said); /* it goes on asking */
        fake_pass(1);
        fake_assert_said("answer a: outcome unknown\n");
        end();
}

/* Its deadline is that of the attached host: sent again, it would be too late again. */
static void a_relayed_command_that_is_too_late_for_the_leader_is_sent_once(void **state) {
        begin(false);
        (void) add("a", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
        get(1)->machine = strdup("cccccccccccccccccccccccccccccccc");
        world.known_ms = 100000;
        receive(PROPOSED_LATE, KV_BUSY, "", CLUSTER_MS, 1, 1);
        fake_assert_said("answer a: outcome unknown it has waited for too long on its way to the leader\n");
        end();
}

static void what_the_leader_says_of_a_copy_that_was_sent(void **state) {
        static const struct {
                ProposedWhat what;
                KvStatus status;
                bool before; /* another copy is on its way */
                const char *said;
        } words[] = {
                { PROPOSED_BUSY, KV_BUSY, false, "answer a: busy full\n" },
                { PROPOSED_REFUSED, KV_NOT_DIR, false, "answer a: not a directory full\n" },
                { PROPOSED_REFUSED, KV_OK, false, "answer a: not permitted full\n" },
                { PROPOSED_BUSY, KV_BUSY, true, "" },
                { PROPOSED_REFUSED, KV_NOT_DIR, true, "" },
                { PROPOSED_LATE, KV_BUSY, false, "propose to 2, term 5, acknowledged 1: 1@120000\n" },
                { PROPOSED_LATE, KV_BUSY, true, "" },
                { PROPOSED_NOT_LEADER, KV_BUSY, false, "" },
        };

        for (size_t i = 0; i < ELEMENTS(words); i++) {
                bool before = words[i].before, goes = words[i].said[0] == 0;
                ProposedWhat what = words[i].what;
                _cleanup_free_ char *expected = NULL;

                begin(false);
                (void) add("a", (KvCommand) {});
                fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
                if (before)
                        get(1)->copies++;
                world.known_ms = 110000;
                receive(what, words[i].status, "full", CLUSTER_MS, 1, 1);
                if (goes && !(what == PROPOSED_LATE)) {
                        assert_int_equal(get(1)->state, PROPOSAL_QUEUED);
                        assert_int_equal(get(1)->copies, before);
                }
                if (goes && what == PROPOSED_LATE) { /* too late to find out: it waits for the copy */
                        assert_int_equal(get(1)->state, PROPOSAL_ACCEPTED);
                        assert_int_equal(get(1)->copies, 1);
                        assert_null(TAILQ_FIRST(&world.p->queue));
                }
                fake_assert_said(words[i].said);
                fake_pass(SWEEP_MS);
                if (goes && what != PROPOSED_LATE) {
                        assert_true(asprintf(&expected, "propose to 2, term 5, acknowledged 1%s: 1@%d\n",
                                             before ? ", again" : "", before ? 110000 : 120000) > 0);
                        fake_assert_said(expected);
                } else
                        fake_assert_said("");
                end();
        }
}

static void frames_that_are_not_ours_or_not_whole_change_nothing(void **state) {
        begin(false);
        (void) add("a", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
        for (unsigned i = 0; i < 6; i++) {
                _cleanup_writer_ Writer w = {};

                write_u64(&w, i == 0 ? 0 : 2);
                write_u64(&w, i == 1 ? 4 : 5);
                write_u64(&w, i == 2 ? ORIGIN + 1 : ORIGIN);
                write_u64(&w, CLUSTER_MS + (i == 1 || i == 2 ? 0 : 50)); /* 2: may be of an attached host */
                write_u8(&w, i == 3 ? _PROPOSED_MAX : PROPOSED_BUSY);
                write_u8(&w, i == 4 ? _KV_STATUS_MAX : KV_BUSY);
                write_string(&w, "x");
                write_varint(&w, i == 5 ? FRAME_COMMANDS_MAX + 1 : 1);
                write_u64(&w, 1);
                fake.handlers[PEER_PROPOSED].run(fake.handlers[PEER_PROPOSED].userdata, (PeerSession *) 9,
                                                 PEER_PROPOSED, w.bytes, w.size);
                fake_assert_said("");
                assert_int_equal(get(1)->state, PROPOSAL_SENT);
                assert_int_equal(proposals_known_ms(world.p), CLUSTER_MS);
        }
        receive(PROPOSED_BUSY, KV_BUSY, "x", CLUSTER_MS, 2, 2); /* of what we never asked */
        fake_assert_said("");
        end();
}

static void an_answer_that_this_host_may_not_serve_is_withheld_and_requested_again(void **state) {
        begin(false);
        (void) add("a", (KvCommand) {});
        (void) add("b", (KvCommand) { .internal = true });
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000 2@110000\n");
        accepted(1, 2);
        world.ahead = -EIO;
        receive_done(1, 31);
        fake_assert_said("ahead 31\n");
        receive_done(2, 32);
        fake_assert_said("ahead 32\n");
        fake.closed = true; /* our own rooms read their tree as it is */
        receive_done(2, 32);
        fake_assert_said("answer b: ok\n");
        receive_done(1, 31);
        fake_assert_said("ahead 31\n");
        world.ahead = 0;
        receive_done(1, 31);
        receive_done(1, 31);
        fake_assert_said("ahead 31\nanswer a: ok\n");
        end();
}

/* No time is known: the leader says it, and that is all it is asked. */
static void without_cluster_time_the_leader_is_asked_for_it(void **state) {
        begin(false);
        world.known_ms = 0;
        (void) add("a", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1:\n");
        assert_int_equal(get(1)->state, PROPOSAL_QUEUED);
        fake_pass(30);
        receive(PROPOSED_LATE, KV_BUSY, "", 1, 1, 0);
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@10001\n");
        fake_pass(40);
        assert_int_equal(proposals_known_ms(world.p), 41);
        world.known_ms = 42;
        assert_int_equal(proposals_known_ms(world.p), 42);
        end();
}

static void a_frame_holds_so_many_commands_and_bytes_and_none_of_both_kinds(void **state) {
        enum { SIZE = 100000 };
        static char value[SIZE];

        begin(false);
        for (unsigned i = 0; i < FRAME_COMMANDS_MAX + 2; i++)
                (void) add("n", (KvCommand) {});
        fake_assert_said(
                "propose to 2, term 5, acknowledged 1: 1000 commands\npropose to 2, term 5, acknowledged 1: "
                "1001@110000 1002@110000\n");
        end();

        begin(false);
        for (unsigned i = 0; i < 4; i++)
                (void) add("n", (KvCommand) { .value = { value, SIZE } });
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000 2@110000\npropose to 2, term 5, "
                         "acknowledged 1: "
                         "3@110000 4@110000\n");
        end();

        begin(false);
        (void) add("n", (KvCommand) { .later = true });
        (void) add("n", (KvCommand) {});
        (void) add("n", (KvCommand) { .later = true });
        fake_assert_said("propose to 2, term 5, acknowledged 1: 2@110000\nlater to 2, term 5, acknowledged "
                         "1: 1@110000 3@110000\n");
        end();
}

/* To the byte: with what came before, not above KV_BATCH_MAX. */
static void a_frame_is_full_at_its_limit(void **state) {
        static char value[KV_VALUE_MAX];

        for (unsigned more = 0; more < 2; more++) {
                begin(false);
                for (unsigned i = 0; i < 2; i++)
                        (void) add("n", (KvCommand) { .value = { value, 128 * 1024 } });
                get(1)->item.command_size = 128 * 1024 - 3 - 16;
                get(2)->item.command_size = 128 * 1024 + more;
                world.p->own_bytes = get(1)->item.command_size + get(2)->item.command_size;
                fake_assert_said(
                        more ? "propose to 2, term 5, acknowledged 1: 1@110000\npropose to 2, term 5, "
                               "acknowledged 1: 2@110000\n" :
                               "propose to 2, term 5, acknowledged 1: 1@110000 2@110000\n");
                end();
        }
}

static void without_a_way_to_the_leader_nothing_is_sent_and_nothing_has_happened(void **state) {
        begin(false);
        world.send = -ENOTCONN;
        (void) add("a", (KvCommand) {});
        fake_pass(PROPOSE_WAIT_MS - 1);
        fake_assert_said("");
        assert_int_equal(get(1)->copies, 0);
        fake_pass(1);
        fake_assert_said("answer a: no leader 1 of 3 voters\n");
        (void) add("b", (KvCommand) {});
        fake_run();
        fake_pass(SWEEP_MS - 1);
        world.send = 0;
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("propose to 2, term 5, acknowledged 2: 2@110000\n");
        end();

        begin(false); /* and without a leader */
        fake.leader = 0;
        (void) add("a", (KvCommand) {});
        fake_pass(PROPOSE_WAIT_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("answer a: no leader 1 of 3 voters\n");
        end();
}

static void the_next_leader_is_asked_for_all_in_the_old_order(void **state) {
        begin(false);
        (void) add("a", (KvCommand) {});
        (void) add("once", (KvCommand) { .term = 5 });
        (void) add("c", (KvCommand) {});
        (void) add("often", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000 2@0 3@110000 4@110000\n");
        accepted(1, 3);
        get(4)->copies = COPIES_MAX;
        fake.leader = 0;
        (void) add("new", (KvCommand) {});
        fake_assert_said("");
        fake_pass(10);
        change_leader(3);
        assert_int_equal(get(1)->due_ms, START_MS + 10 + PROPOSE_WAIT_MS);
        assert_int_equal(get(2)->due_ms, START_MS + 10 + PROPOSE_WAIT_MS);
        assert_int_equal(get(4)->due_ms, START_MS + PROPOSE_WAIT_MS);
        fake_assert_said("propose to 3, term 6, acknowledged 1, again: 1@110000 3@110000 5@110000\n");
        proposals_on_input(world.p, RAFT_CHANGED_LEADER, 0); /* the same one */
        fake_assert_said("");
        accepted(1, 1);
        accepted(3, 5);
        fake_pass(PROPOSE_WAIT_MS - 10);
        text_clear(&fake.said);
        assert_int_equal(proposals_waiting(world.p), 4);
        fake_pass(2 * SWEEP_MS);
        assert_int_equal(proposals_waiting(world.p), 3);
        assert_non_null(strstr(fake.said.chars, "answer once: outcome unknown\n"));
        text_clear(&fake.said);
        end();
}

static void what_is_valid_in_one_term_is_refused_where_the_replica_is_stopped(void **state) {
        begin(false);
        fake.leader = 0;
        (void) add("once", (KvCommand) { .term = 5 });
        (void) add("other", (KvCommand) {});
        get(1)->copies = 1;
        fake_assert_said("");
        fake.closed = true;
        proposals_on_input(world.p, 0, 0);
        fake_assert_said("");
        get(1)->copies = 0;
        proposals_on_input(world.p, 0, 0);
        fake_assert_said("answer once: no leader 1 of 3 voters\n");
        assert_int_equal(get(2)->state, PROPOSAL_QUEUED);
        end();
}

static void the_end_says_what_has_not_happened_and_what_may_have(void **state) {
        begin(false);
        (void) add("sent", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
        fake.leader = 0;
        (void) add("kept", (KvCommand) {});
        proposals_end(world.p);
        fake_assert_said("answer sent: outcome unknown\nanswer kept: "
                         "no leader 1 of 3 voters\n");
        (void) add("forgotten", (KvCommand) {});
        assert_int_equal(proposals_waiting(world.p), 1);
        proposals_cancel(world.p, 3);
        proposals_cancel(world.p, 3);
        assert_int_equal(proposals_waiting(world.p), 0);
        fake_assert_said("");
        end();
}

/* -- Into the own log -- */

static void entries_of_a_leader_wait_when_four_are_not_applied(void **state) {
        begin(true);
        for (unsigned i = 0; i < PROPOSE_WINDOW + 1; i++) {
                (void) add("a", (KvCommand) {});
                fake_run();
        }
        fake_assert_said("log 1: 1@110000\nlog 2: 2@110000\nlog 3: 3@110000\nlog 4: 4@110000\n");
        assert_int_equal(get(1)->state, PROPOSAL_LOGGED);
        assert_int_equal(get(1)->copies, 1);
        assert_int_equal(get(1)->term, 5);
        (void) add("a", (KvCommand) {});
        proposals_on_input(world.p, 0, 2);
        assert_int_equal(world.p->n_window, 2);
        fake_assert_said("log 5: 5@110000 6@110000\n");
        assert_int_equal(world.p->n_window, 3);

        /* In a new term of its own it asks for all again: what was logged before may be lost. */
        proposals_take_result(world.p, get(1), &(KvResult) {});
        proposals_take_result(world.p, get(2), &(KvResult) {});
        fake_assert_said("answer a: ok\nanswer a: ok\n");
        change_leader(1);
        fake_assert_said("log 6: 3@110000 4@110000 5@110000 6@110000\n");
        assert_int_equal(world.p->n_window, 1);
        end();
}

static void what_the_log_does_not_take_waits_and_is_not_refused_by_a_leader(void **state) {
        begin(true);
        world.submit = -EAGAIN;
        (void) add("a", (KvCommand) {});
        fake_pass(2 * PROPOSE_WAIT_MS);
        fake_assert_said("");
        assert_int_equal(get(1)->copies, 0);
        assert_int_equal(world.p->n_window, 0);
        world.submit = 0;
        world.cluster_ms = 0; /* nor goes anything without a time */
        fake_pass(1000);
        fake_assert_said("");
        world.cluster_ms = 1;
        fake_pass(SWEEP_MS);
        fake_assert_said("log 1: 1@10001\n");
        assert_int_equal(get(1)->due_ms, 0);
        fake_pass(1000);
        fake_assert_said("");
        assert_int_equal(loop_next_due_ms(&fake.loop), UINT64_MAX); /* nothing falls due */
        end();

        /* What was asked of another leader before, too. */
        begin(false);
        (void) add("a", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
        change_leader(1);
        assert_true(get(1)->due_ms > 0);
        fake_assert_said("log 1: 1@110000\n");
        assert_int_equal(get(1)->due_ms, 0);
        assert_int_equal(get(1)->copies, 2);
        end();
}

/* Of the waiting, so many go into an entry as fit: one more byte, or unit of cost, and the last one goes with
 * the next. */
static void an_entry_is_full_at_its_limits(void **state) {
        static const struct {
                size_t size;
                uint64_t cost;
                bool two; /* entries */
        } seconds[] = {
                { KV_BATCH_MAX / 2, COST_HEAVY, false },
                { KV_BATCH_MAX / 2 + 1, COST_HEAVY, true },
                { KV_BATCH_MAX / 2, COST_HEAVY + 1, true },
        };

        for (size_t i = 0; i < ELEMENTS(seconds); i++) {
                static char value[KV_BATCH_MAX / 2 + 1];
                char expected[64];

                begin(true);
                for (unsigned n = 0; n < 2; n++)
                        (void) add("n", (KvCommand) { .internal = true, .value = { value, sizeof(value) } });
                get(1)->cost = COST_ENTRY_MAX - COST_HEAVY;
                get(1)->item.command_size = KV_BATCH_MAX / 2 - BATCH_OVERHEAD - 2 * ITEM_OVERHEAD;
                get(2)->cost = seconds[i].cost;
                get(2)->item.command_size = seconds[i].size;
                world.p->own_bytes = get(1)->item.command_size + get(2)->item.command_size;
                snprintf(expected, sizeof(expected), "log 1: 1@110000%s 2@110000\n",
                         seconds[i].two ? "\nlog 2:" : "");
                fake_assert_said(expected);
                end();
        }

        begin(true);
        for (unsigned i = 0; i < KV_BATCH_COMMANDS_MAX + 1; i++)
                (void) add("n", (KvCommand) {});
        fake_assert_said("log 1: 1000 commands\nlog 2: 1001@110000\n");
        end();
}

/* A single one that is larger than all that may go together goes alone. */
static void the_first_command_of_an_entry_is_sent_at_any_cost(void **state) {
        begin(true);
        for (unsigned n = 0; n < 3; n++)
                (void) add("n", (KvCommand) { .internal = true });
        get(1)->cost = COST_ENTRY_MAX + 1;
        get(2)->cost = COST_ENTRY_MAX;
        fake_assert_said("log 1: 1@110000\nlog 2: 2@110000\nlog 3: 3@110000\n");
        end();
}

static void heavy_commands_follow_each_other_in_their_own_time(void **state) {
        begin(true);
        for (unsigned n = 0; n < 3; n++)
                (void) add("n", (KvCommand) {});
        get(1)->cost = COST_HEAVY + 1;
        get(3)->cost = COST_HEAVY;
        fake_assert_said("log 1: 1@110000 2@110000 3@110000\n");
        assert_int_equal(world.p->budget.heavy_index, 1);
        assert_int_equal(world.p->budget.waiting, 0);
        (void) add("heavy", (KvCommand) {});
        (void) add("light", (KvCommand) {});
        (void) add("ours", (KvCommand) { .internal = true });
        get(4)->cost = get(6)->cost = COST_HEAVY + 7;
        fake_assert_said("log 2: 5@110000 6@110000\n");
        assert_int_equal(world.p->budget.waiting, COST_HEAVY + 7);
        proposals_on_input(world.p, 0, 1);
        assert_int_equal(world.p->budget.heavy_index, 0);
        fake_run();
        fake_pass(9); /* an eighth of the time: of 1 MiB, 20 ms / 16 * 8 */
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("log 3: 4@110000\n");
        assert_int_equal(world.p->budget.waiting, 0);
        (void) add("late", (KvCommand) {});
        (void) add("may have happened", (KvCommand) {});
        get(7)->cost = get(8)->cost = COST_HEAVY + 1;
        get(8)->copies = 1;
        fake_pass(HEAVY_WAIT_MS);
        fake_assert_said("");
        fake_pass(SWEEP_MS);
        fake_assert_said("answer late: busy " BUDGET_BUSY "\n");
        end();
}

static void with_too_many_answers_kept_ours_are_refused_unless_they_may_have_happened(void **state) {
        begin(true);
        world.kept = DEDUP_MAX - 1;
        (void) add("a", (KvCommand) {});
        fake_assert_said("log 1: 1@110000\n");
        proposals_on_input(world.p, 0, 1);
        world.kept = DEDUP_MAX;
        (void) add("b", (KvCommand) {});
        fake_assert_said("log 2:\nanswer b: busy " PROPOSALS_FULL "\n"); /* an empty entry lets time pass */
        proposals_on_input(world.p, 0, 2);
        (void) add("c", (KvCommand) {});
        (void) add("once", (KvCommand) { .term = 5 });
        (void) add("again", (KvCommand) {});
        get(5)->copies = 1;
        fake_assert_said("log 3: 4@0 5@0\nanswer c: busy " PROPOSALS_FULL "\n");
        fake_pass(DEDUP_SWEEP_MS - 1);
        (void) add("d", (KvCommand) {});
        fake_assert_said("answer d: busy " PROPOSALS_FULL "\n"); /* 3 is not applied */
        proposals_on_input(world.p, 0, 3);
        (void) add("e", (KvCommand) {});
        fake_assert_said("answer e: busy " PROPOSALS_FULL "\n"); /* one millisecond too early */
        fake_pass(1);
        (void) add("f", (KvCommand) {});
        fake_assert_said("log 4:\nanswer f: busy " PROPOSALS_FULL "\n");
        end();
}

static void what_comes_in_waits_in_this_order(void **state) {
        static char value[PROPOSE_SMALL_MAX];

        begin(true);
        world.submit = -EAGAIN;
        (void) add("n", (KvCommand) { .later = true });
        fake.now_ms += 1;
        (void) add("n", (KvCommand) { .value = { value, sizeof(value) } });
        fake.now_ms += LATER_MS - 2;
        (void) add("n", (KvCommand) {});
        fake.now_ms += 1;
        (void) add("n", (KvCommand) { .later = true });
        (void) add("n", (KvCommand) {});
        world.submit = 0;
        fake_assert_said("log 1: 3@110000 1@110000 5@110000 2@110000 4@110000\n");
        end();
}

/* What apply deferred goes back to its place: by the time that it came, and by its number. */
static void what_was_deferred_is_queued_again_in_its_place(void **state) {
        static const struct {
                int64_t ms[3]; /* by which 1, 2 (it), 3 came after the first */
                bool foreign;  /* 1 is another host's */
                const char *order;
        } orders[] = {
                { { 0, 0, 0 }, false, "log 2: 1@110000 2@110000 3@110000\n" },
                { { 1, 0, 1 }, false, "log 2: 2@110000 1@110000 3@110000\n" },
                { { 0, 1, 0 }, false, "log 2: 1@110000 3@110000 2@110000\n" },
                { { 0, 1, 2 }, false, "log 2: 1@110000 2@110000 3@110000\n" },
                { { 0, 0, 0 }, true, "log 2: *1@110000 2@110000 3@110000\n" },
        };

        for (size_t i = 0; i < ELEMENTS(orders); i++) {
                Proposal *x[3];

                begin(true);
                (void) add("1", (KvCommand) {});
                (void) add("2", (KvCommand) {});
                (void) add("3", (KvCommand) {});
                for (unsigned n = 0; n < 3; n++)
                        x[n] = get(n + 1);
                TAILQ_REMOVE(&world.p->queue, x[0], entry);
                TAILQ_REMOVE(&world.p->queue, x[2], entry);
                fake_assert_said("log 1: 2@110000\n");
                assert_int_equal(x[1]->due_ms, 0);
                proposals_on_input(world.p, 0, 1);
                if (orders[i].foreign) {
                        x[0]->state = PROPOSAL_SENT; /* it is not in the queue any more */
                        receive_foreign(PEER_PROPOSE, 3, 1, 1, 110000);
                } else
                        proposals_enqueue(world.p, x[0]);
                proposals_enqueue(world.p, x[2]);
                for (unsigned n = 0; n < 3; n++)
                        (n == 0 && orders[i].foreign ? TAILQ_FIRST(&world.p->queue) : x[n])->queued_ms =
                                500 + orders[i].ms[n];
                proposals_take_result(world.p, proposals_find(world.p, ORIGIN, 2),
                                      &(KvResult) { .status = KV_DEFERRED, .charged = 5 });
                assert_int_equal(x[1]->state, PROPOSAL_QUEUED);
                assert_int_equal(x[1]->copies, 0);
                assert_int_equal(x[1]->due_ms, START_MS + PROPOSE_WAIT_MS);
                assert_true(x[1]->cost >= COST_COMMAND); /* its estimate, if that was higher */
                text_clear(&fake.said);
                fake_assert_said(orders[i].order);
                end();
        }
}

static void a_proposal_that_missed_its_log_entry_is_proposed_again(void **state) {
        begin(true);
        (void) add("a", (KvCommand) {});
        fake_assert_said("log 1: 1@110000\n");
        proposals_take_result(world.p, proposals_find(world.p, ORIGIN, 1),
                              &(KvResult) { .status = KV_LATE, .now_ms = 110000 });
        fake_assert_said("");
        world.cluster_ms = 110001;
        proposals_take_result(world.p, proposals_find(world.p, ORIGIN, 1),
                              &(KvResult) { .status = KV_LATE, .now_ms = 110001 });
        assert_int_equal(get(1)->copies, 0);
        fake_assert_said("log 2: 1@120001\n");
        end();
}

static void so_much_of_ours_may_wait_and_no_more(void **state) {
        static char value[PROPOSE_SMALL_MAX];
        KvCommand cmd = COMMAND(KV_SET, "/a", .value = { value, sizeof(value) });
        _cleanup_writer_ Writer w = {};

        begin(true);
        world.submit = -EAGAIN;
        for (unsigned i = 0; i < PROPOSE_MAX; i++)
                (void) add("n", (KvCommand) {});
        fake_assert_said("");
        assert_int_equal(proposals_waiting(world.p), PROPOSE_MAX);
        (void) add("n", (KvCommand) {});
        fake_assert_said("answer n: busy too many writes wait for an answer on this host\n");
        end();

        assert_int_equal(kv_command_encode(&cmd, KV_LEVEL_MAX, &w), 0);
        for (unsigned more = 0; more < 2; more++) {
                begin(true);
                world.submit = -EAGAIN;
                world.p->own_bytes = PROPOSE_BYTES_MAX - w.size + more; /* as if so much waited */
                (void) add("n", cmd);
                fake_assert_said(more ? "answer n: busy too many writes wait for an answer on this host\n" :
                                        "");
                world.p->own_bytes -= PROPOSE_BYTES_MAX - w.size + more;
                end();
        }
}

static void what_no_host_could_apply_is_refused_at_once(void **state) {
        static char value[KV_VALUE_MAX];

        for (unsigned leads = 0; leads < 2; leads++) {
                begin(leads);
                (void) add("n", (KvCommand) { .op = KV_RAISE, .internal = true, .limit = 8 });
                fake_assert_said("answer n: not a valid command feature level 8: the fleetd of this host "
                                 "supports 7 at most\n");
                (void) add("n", (KvCommand) { .op = KV_RAISE, .internal = true, .limit = 7 });
                fake_assert_said(leads ? "log 1: 2@110000\n" :
                                         "propose to 2, term 5, acknowledged 2: 2@110000\n");
                end();
        }

        begin(true);
        (void) add("n", (KvCommand) { .value = { value, KV_VALUE_MAX },
                                      .has_prev_value = true,
                                      .prev_value = { value, KV_VALUE_MAX } });
        fake_assert_said("answer n: too large a command of more than 250 KiB does not fit into the log\n");
        world.fits = -EDQUOT;
        (void) add("n", (KvCommand) {});
        fake_assert_said("answer n: too large no room\n");
        world.fits = -ENOMEM;
        assert_int_equal(proposals_add(world.p, &COMMAND(KV_SET, "/a"), on_done, NULL, NULL), -ENOMEM);
        fake_assert_said("");
        end();
}

static void a_command_that_was_taken_without_an_estimate_is_judged_by_the_leader(void **state) {
        begin(false);
        (void) add("a", (KvCommand) {});
        world.send = -ENOTCONN;
        fake_assert_said("");
        assert_int_equal(get(1)->cost, 0);
        world.fits = -EDQUOT;
        change_leader(1);
        fake_assert_said("answer a: too large no room\n");
        end();

        begin(false); /* one that may have happened is not refused */
        (void) add("a", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
        world.fits = -EDQUOT;
        change_leader(1);
        fake_assert_said("log 1: 1@110000\n");
        assert_true(get(1)->cost >= COST_COMMAND);
        end();

        begin(false); /* nor what cannot be read: apply says so */
        (void) add("a", (KvCommand) {});
        memset((void *) get(1)->item.command, 0xff, get(1)->item.command_size);
        change_leader(1);
        fake_assert_said("log 1: 1@110000\n");
        assert_int_equal(get(1)->cost, COST_COMMAND);
        end();
}

/* When this host took it, its view may have been old; the leader was to check it. */
static void a_users_command_that_waited_for_another_leader_is_checked_by_this_one(void **state) {
        static const struct {
                int check;
                const char *said;
        } rows[] = {
                { -EACCES,
                  "check /a of aa for 'user:a'\nlog 1: 2@110000\nanswer a: not permitted it may not\n" },
                { -ENOMEM, "check /a of aa for 'user:a'\nlog 1: 2@110000\nanswer a: busy it may not\n" },
                { 0, "check /a of aa for 'user:a'\nlog 1: 1@110000 2@110000\n" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                begin(false);
                world.level = KV_LEVEL_IDENTITY;
                world.check = rows[i].check;
                world.send = -ENOTCONN;
                (void) add("a", (KvCommand) { .principal = kv_string("user:a") });
                (void) add("b", (KvCommand) {}); /* of this host itself */
                fake_assert_said("");
                change_leader(1);
                fake_assert_said(rows[i].said);
                end();
        }

        begin(false); /* one that may have happened was checked by that leader */
        world.level = KV_LEVEL_IDENTITY;
        (void) add("a", (KvCommand) { .principal = kv_string("user:a") });
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000 for 'user:a'\n");
        change_leader(1);
        fake_assert_said("log 1: 1@110000\n");
        end();
}

/* -- Of other hosts -- */

static void what_another_host_proposes_goes_into_the_log_with_ours(void **state) {
        begin(true);
        receive_foreign(PEER_PROPOSE, 70, 2, 1, 105000);
        (void) add("a", (KvCommand) {});
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: accepted 1 2\nlog 1: *1@105000 *2@105000 "
                         "1@110000\n");
        assert_int_equal(world.p->n_foreign, 0);
        assert_int_equal(world.p->foreign_bytes, 0);
        receive_foreign(PEER_PROPOSE, 70, 1, 1, 104999); /* half of its life is over */
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: late 1\n");
        receive_foreign(PEER_PROPOSE, 70, 1, 1, 0); /* of one term */
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: accepted 1\nlog 2: *1@0\n");
        receive_foreign(PEER_PROPOSE, 70, 0, 0, 0); /* what time is it? */
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: late\n");
        world.fits = -EDQUOT;
        receive_foreign(PEER_PROPOSE, 70, 1, 1, 110000);
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: refused too large 1 no room\n");
        world.fits = -ENOMEM;
        receive_foreign(PEER_PROPOSE, 70, 1, 1, 110000);
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: busy 1 the leader's queue is full\n");
        fake.leads = false;
        receive_foreign(PEER_PROPOSE, 70, 2, 1, 110000);
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: not-leader 1 2\n");
        receive_foreign(PEER_PROPOSE, 70, 0, 1, 110000);
        fake_assert_said("");
        end();
}

static void frames_of_other_hosts_that_are_not_whole_are_dropped(void **state) {
        begin(true);
        receive_foreign(PEER_PROPOSE, 0, 1, 1, 110000);
        fake_assert_said("");
        receive_foreign(PEER_PROPOSE, 70, FRAME_COMMANDS_MAX + 1, 1, 110000);
        fake_assert_said("");
        receive_foreign(PEER_PROPOSE, 70, FRAME_COMMANDS_MAX, 1, 110000);
        fake_assert_said(
                "say to 3 by 9, term 5, of 70 at 100000: accepted 1000 commands\nlog 1: 1000 commands\n");
        for (unsigned i = 0; i < 4; i++) {
                _cleanup_writer_ Writer w = {};

                write_u64(&w, i == 0 ? 0 : 3);
                write_u64(&w, 5);
                write_u64(&w, 70);
                write_u64(&w, i == 1 ? 0 : 5);
                write_u8(&w, false);
                write_varint(&w, 1);
                write_u64(&w, i == 2 ? 4 : 5); /* 4: below the acknowledged */
                write_u64(&w, 110000);
                write_blob(&w, "\377",
                           i == 3 ? 1 : 0); /* no command; nothing: a question, to which nothing is known */
                fake.handlers[PEER_PROPOSE].run(fake.handlers[PEER_PROPOSE].userdata, (PeerSession *) 9,
                                                PEER_PROPOSE, w.bytes, w.size);
                if (i < 3)
                        fake_assert_said("");
        }
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: refused not permitted 5 the leader cannot "
                         "read this command: Operation not supported\n");
        end();
}

static void so_much_of_other_hosts_may_wait_and_no_more(void **state) {
        enum { SIZE = 16 * 1024 - 16 };

        begin(true);
        world.submit = -EAGAIN;
        for (unsigned i = 0; i < 4; i++)
                receive_foreign(PEER_PROPOSE, 70 + i, 1000, 1, 110000);
        receive_foreign(PEER_PROPOSE, 75, 96, 1, 110000);
        assert_int_equal(world.p->n_foreign, PROPOSE_MAX);
        text_clear(&fake.said);
        receive_foreign(PEER_PROPOSE, 76, 2, 1, 110000);
        assert_string_equal(fake.said.chars,
                            "say to 3 by 9, term 5, of 76 at 100000: busy 1 2 the leader's queue is full\n");
        change_leader(2); /* it forgets them */
        fake_run();
        assert_int_equal(world.p->n_foreign, 0);
        assert_int_equal(world.p->foreign_bytes, 0);
        text_clear(&fake.said);
        end();

        begin(true);
        world.submit = -EAGAIN;
        receive_foreign(PEER_PROPOSE, 70, 1, SIZE, 110000);
        world.p->foreign_bytes += PROPOSE_BYTES_MAX -
                                  2 * world.p->foreign_bytes; /* room for one more, to the byte */
        text_clear(&fake.said);
        receive_foreign(PEER_PROPOSE, 71, 2, SIZE, 110000);
        assert_string_equal(fake.said.chars,
                            "say to 3 by 9, term 5, of 71 at 100000: accepted 1\nsay to 3 by 9, term 5, of "
                            "71 at 100000: busy 2 the leader's queue is full\n");
        change_leader(2);
        text_clear(&fake.said);
        fake_assert_said("");
        world.p->foreign_bytes = 0;
        end();
}

static void estimates_of_a_later_turn_are_sent_in_one_frame_for_each_origin(void **state) {
        begin(true);
        loop_count(&fake.loop, 0, TURN_WORK_MAX); /* this turn has no room */
        receive_foreign(PEER_PROPOSE, 70, 2, 1, 110000);
        receive_foreign(PEER_PROPOSE_LATER, 71, 1, 1, 110000);
        assert_int_equal(world.p->n_foreign, 3);
        assert_null(fake.said.chars && fake.said.chars[0] ? fake.said.chars : NULL);
        (void) turns_end_work(&fake.loop.turns);
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: accepted 1 2\nsay to 3 by 9, term 5, of 71 "
                         "at 100000: accepted 1\n"
                         "log 1: *1@110000 *2@110000 *1@110000\n");
        loop_count(&fake.loop, 0, TURN_WORK_MAX);
        receive_foreign(PEER_PROPOSE, 70, 1, 1, 110000);
        world.no_session = true; /* there is no requester */
        (void) turns_end_work(&fake.loop.turns);
        fake_assert_said("log 2: *1@110000\n");
        end();
}

static void the_sender_of_a_command_goes_to_the_leader_from_a_feature_level_on(void **state) {
        begin(false);
        (void) add("a", (KvCommand) { .principal = kv_string("user:a") });
        fake_assert_said("propose to 2, term 5, acknowledged 1: 1@110000\n");
        world.level = KV_LEVEL_IDENTITY;
        fake_pass(RESEND_MS);
        fake_assert_said("propose to 2, term 5, acknowledged 1, again: 1@110000 for 'user:a'\n");
        (void) add("b", (KvCommand) {});
        fake_assert_said("propose to 2, term 5, acknowledged 1: 2@110000 for ''\n");
        accepted(1, 2);
        fake_pass(PROPOSE_ASK_MS); /* a request for the outcome has no sender */
        fake_assert_said("propose to 2, term 5, acknowledged 1, again: 1?110000 for '' 2?110000 for ''\n");
        end();
}

static void the_leader_checks_the_rights_of_other_hosts_from_a_feature_level_on(void **state) {
        char longest[KV_PRINCIPAL_MAX + 2];

        begin(true);
        world.check = -EACCES;
        receive_foreign(PEER_PROPOSE, 70, 1, 1, 110000);
        fake_assert_said("say to 3 by 9, term 5, of 70 at 100000: accepted 1\nlog 1: *1@110000\n");
        receive_foreign_for(PEER_PROPOSE, 71, 1, 1, 110000,
                            "user:a"); /* of a host that knows the level first */
        fake_assert_said("say to 3 by 9, term 5, of 71 at 100000: accepted 1\nlog 2: *1@110000\n");
        world.level = KV_LEVEL_IDENTITY;
        receive_foreign_for(PEER_PROPOSE, 72, 1, 1, 110000, "user:a");
        fake_assert_said("check /f of cc for 'user:a'\n"
                         "say to 3 by 9, term 5, of 72 at 100000: refused not permitted 1 it may not\n");
        receive_foreign(PEER_PROPOSE, 73, 1, 1, 110000); /* of a host that knows it last */
        fake_assert_said("check /f of cc for ''\n"
                         "say to 3 by 9, term 5, of 73 at 100000: refused not permitted 1 it may not\n");
        world.check = -ENOMEM;
        receive_foreign_for(PEER_PROPOSE, 74, 1, 1, 110000, "");
        fake_assert_said("check /f of cc for ''\n"
                         "say to 3 by 9, term 5, of 74 at 100000: busy 1 the leader's queue is full\n");
        world.check = 0;
        receive_foreign_for(PEER_PROPOSE, 75, 2, 1, 110000, "user:b");
        fake_assert_said(
                "check /f of cc for 'user:b'\ncheck /f of cc for 'user:b'\n"
                "say to 3 by 9, term 5, of 75 at 100000: accepted 1 2\nlog 3: *1@110000 *2@110000\n");
        memset(longest, 'x', sizeof(longest) - 1);
        longest[sizeof(longest) - 1] = 0;
        receive_foreign_for(PEER_PROPOSE, 76, 1, 1, 110000, longest); /* too long: a frame that ends there */
        fake_assert_said("");
        end();
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_the_leader_does_not_take_is_sent_again_and_unknown_in_the_end),
                cmocka_unit_test(the_sender_of_a_command_goes_to_the_leader_from_a_feature_level_on),
                cmocka_unit_test(the_leader_checks_the_rights_of_other_hosts_from_a_feature_level_on),
                cmocka_unit_test(what_the_leader_took_is_asked_for_until_it_is_answered),
                cmocka_unit_test(what_was_taken_and_came_to_nothing_is_unknown_after_a_while),
                cmocka_unit_test(what_the_leader_says_of_a_copy_that_was_sent),
                cmocka_unit_test(a_relayed_command_that_is_too_late_for_the_leader_is_sent_once),
                cmocka_unit_test(frames_that_are_not_ours_or_not_whole_change_nothing),
                cmocka_unit_test(an_answer_that_this_host_may_not_serve_is_withheld_and_requested_again),
                cmocka_unit_test(without_cluster_time_the_leader_is_asked_for_it),
                cmocka_unit_test(a_frame_holds_so_many_commands_and_bytes_and_none_of_both_kinds),
                cmocka_unit_test(a_frame_is_full_at_its_limit),
                cmocka_unit_test(without_a_way_to_the_leader_nothing_is_sent_and_nothing_has_happened),
                cmocka_unit_test(the_next_leader_is_asked_for_all_in_the_old_order),
                cmocka_unit_test(what_is_valid_in_one_term_is_refused_where_the_replica_is_stopped),
                cmocka_unit_test(the_end_says_what_has_not_happened_and_what_may_have),
                cmocka_unit_test(entries_of_a_leader_wait_when_four_are_not_applied),
                cmocka_unit_test(what_the_log_does_not_take_waits_and_is_not_refused_by_a_leader),
                cmocka_unit_test(an_entry_is_full_at_its_limits),
                cmocka_unit_test(the_first_command_of_an_entry_is_sent_at_any_cost),
                cmocka_unit_test(heavy_commands_follow_each_other_in_their_own_time),
                cmocka_unit_test(with_too_many_answers_kept_ours_are_refused_unless_they_may_have_happened),
                cmocka_unit_test(what_comes_in_waits_in_this_order),
                cmocka_unit_test(what_was_deferred_is_queued_again_in_its_place),
                cmocka_unit_test(a_proposal_that_missed_its_log_entry_is_proposed_again),
                cmocka_unit_test(so_much_of_ours_may_wait_and_no_more),
                cmocka_unit_test(what_no_host_could_apply_is_refused_at_once),
                cmocka_unit_test(a_command_that_was_taken_without_an_estimate_is_judged_by_the_leader),
                cmocka_unit_test(a_users_command_that_waited_for_another_leader_is_checked_by_this_one),
                cmocka_unit_test(what_another_host_proposes_goes_into_the_log_with_ours),
                cmocka_unit_test(frames_of_other_hosts_that_are_not_whole_are_dropped),
                cmocka_unit_test(so_much_of_other_hosts_may_wait_and_no_more),
                cmocka_unit_test(estimates_of_a_later_turn_are_sent_in_one_frame_for_each_origin),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
