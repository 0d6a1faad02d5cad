#include "tests/lib/fake_replica.h"

#include "tests/lib/test.h"

FakeReplica fake;

/* -- Time -- */

static uint64_t now_ms(const Loop *loop) {
        return fake.now_ms;
}

static void wake_at(Loop *loop, uint64_t due_ms) {}

static int no_work(Loop *loop, Work *work) {
        return -1;
}

static const LoopOps ops = { .now_ms = now_ms, .wall_ms = now_ms, .wake_at = wake_at, .work = no_work };

void fake_run(void) {
        for (unsigned i = 0; loop_run_due(&fake.loop, 100); i++)
                assert_true(i < 1000);
}

void fake_pass(uint64_t ms) {
        uint64_t until_ms = fake.now_ms + ms;

        fake_run();
        for (uint64_t due_ms; (due_ms = loop_next_due_ms(&fake.loop)) <= until_ms;) {
                fake.now_ms = MAX(due_ms, fake.now_ms);
                fake_run();
        }
        fake.now_ms = until_ms;
}

/* -- Beginning and looking -- */

static void on_flush(void *userdata) {
        fake.n_flushed++;
}

void fake_begin(const char *roles) {
        static int core, peers, log;

        fake = (FakeReplica) { .now_ms = 1000,
                               .leads = true,
                               .ready = true,
                               .leader = 1,
                               .term = 5,
                               .commit = 10,
                               .applied = 10 };
        loop_init(&fake.loop, &ops, 1);
        fake.servers.items = NEW0(RaftServer,
                                  strlen(roles)); /* of its very size, so that nothing is read behind it */
        assert_non_null(fake.servers.items);
        for (; roles[fake.servers.n]; fake.servers.n++)
                fake.servers.items[fake.servers.n] = (RaftServer) {
                        .id = fake.servers.n + 1,
                        .address = (char *) "a:1",
                        .role = roles[fake.servers.n] == 'V' ? RAFT_ROLE_VOTER : RAFT_ROLE_STANDBY,
                };
        fake.replica.state = REPLICA_OPEN;
        fake.replica.loop = &fake.loop;
        fake.replica.core = (RaftCore *) &core; /* opaque: never read */
        fake.replica.log = (RaftLog *) &log;
        fake.replica.options.peers = (Peers *) &peers;
        fake.replica.flush = DEFERRED(on_flush, NULL);
}

void fake_end(void) {
        deferred_cancel(&fake.replica.flush);
        text_done(&fake.said);
        free(fake.servers.items);
        loop_done(&fake.loop);
}

void fake_assert_said(const char *expected) {
        fake_run();
        assert_string_equal(fake.said.chars ? fake.said.chars : "", expected);
        text_clear(&fake.said);
}

void fake_frame(Writer *w, uint64_t from, uint8_t kind, uint64_t a, uint64_t b, uint64_t c, size_t more) {
        write_u64(w, from);
        write_u8(w, kind);
        write_u64(w, a);
        write_u64(w, b);
        write_u64(w, c);
        for (; more > 0; more--)
                write_u8(w, 0);
        assert_int_equal(w->error, 0);
}

static void note(const Writer *w) {
        Reader r = reader_over(w->bytes, w->size);
        uint64_t to = read_u64(&r);
        unsigned kind = read_u8(&r);
        uint64_t a = read_u64(&r), b = read_u64(&r), c = read_u64(&r);

        assert_int_equal(reader_end(&r), 0);
        text_printf(&fake.said, "%" PRIu64 ": %u %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", to, kind, a, b, c);
}

/* -- What is asked of it -- */

#define ANSWER(type, name, parameters, value) \
        type __wrap_##name parameters;        \
        type __wrap_##name parameters {       \
                return value;                 \
        }

ANSWER(uint64_t, replica_term, (const Replica *p), fake.closed ? 0 : fake.term)
ANSWER(uint64_t, replica_leader, (const Replica *p), fake.leader)
ANSWER(bool, replica_is_leader, (const Replica *p), fake.leads)
ANSWER(bool, replica_is_open, (const Replica *p), !fake.closed)
ANSWER(uint64_t, raft_core_id, (const RaftCore *core), 1)
ANSWER(bool, raft_core_leads, (const RaftCore *core), fake.ready)
ANSWER(uint64_t, raft_core_commit_index, (const RaftCore *core), fake.commit)
ANSWER(uint64_t, raft_core_applied_index, (const RaftCore *core), fake.applied)
ANSWER(const RaftServers *, raft_core_servers, (const RaftCore *core), &fake.servers)
ANSWER(uint64_t, peer_number, (const PeerSession *session), (uintptr_t) session)

int __wrap_replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w);
int __wrap_replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w) {
        int r = fake.on_frame ? fake.on_frame(type, false, to, w) : 1;

        if (r <= 0)
                return r;
        text_append(&fake.said, "send ");
        note(w);
        return 0;
}

void __wrap_replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w);
void __wrap_replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w) {
        if (fake.on_frame && fake.on_frame(type, true, session_number, w) <= 0)
                return;
        text_printf(&fake.said, "answer %" PRIu64 " ", session_number);
        note(w);
}

void __wrap_replica_write_head(const Replica *p, Writer *w, uint64_t to);
void __wrap_replica_write_head(const Replica *p, Writer *w, uint64_t to) {
        write_u64(w, to);
}

bool __wrap_replica_read_head(const Replica *p, PeerSession *session, Reader *r, uint64_t *ret_from);
bool __wrap_replica_read_head(const Replica *p, PeerSession *session, Reader *r, uint64_t *ret_from) {
        *ret_from = read_u64(r);
        return !r->failed && *ret_from != 0;
}

void __wrap_peers_register(Peers *peers, const PeerFrameType *types, size_t n, void *userdata);
void __wrap_peers_register(Peers *peers, const PeerFrameType *types, size_t n, void *userdata) {
        for (size_t i = 0; i < n; i++) {
                fake.handlers[types[i].type].run = types[i].handler;
                fake.handlers[types[i].type].userdata = userdata;
        }
}

void __wrap_peers_unregister(Peers *peers, const PeerFrameType *types, size_t n);
void __wrap_peers_unregister(Peers *peers, const PeerFrameType *types, size_t n) {
        for (size_t i = 0; i < n; i++) {
                fake.handlers[types[i].type].run = NULL;
                fake.handlers[types[i].type].userdata = NULL;
        }
}
