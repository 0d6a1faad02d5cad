#include "kvstore/raft/read_index.h"

#include "kvstore/raft/replica_internal.h"

enum { SWEEP_MS = 50 };

typedef enum CheckKind {
        CHECK_TERM, /* leader to voter: is there a later term? */
        CHECK_READ, /* follower to leader: which index has to be applied? */
        _CHECK_MAX,
} CheckKind;

/* A follower's request, which waits like a read of this host. */
typedef struct Remote {
        KvSync sync;
        ReadIndex *reads;
        uint64_t session, from, number;
} Remote;

struct ReadIndex {
        Replica *replica;
        KvSyncs arrived; /* wait for the start of a check */
        KvSyncs checked; /* served by the check in flight */
        KvSyncs sure;    /* wait for 'sure_index' to be applied */
        uint64_t number, check_index, check_ms, sure_index;
        uint64_t confirmed[RAFT_SERVERS_MAX];
        size_t n_confirmed;
        unsigned n_remote;
        bool checking;
        Deferred kick;
        Timer timer;
};

static KvSync *queue_take(KvSyncs *q) {
        KvSync *sync = TAILQ_FIRST(q);

        if (sync)
                TAILQ_REMOVE(q, sync, entry);
        return sync;
}

static bool read_index_is_waiting(const ReadIndex *reads) {
        return TAILQ_FIRST(&reads->arrived) || TAILQ_FIRST(&reads->checked) || TAILQ_FIRST(&reads->sure);
}

static void read_index_arm(ReadIndex *reads) {
        if (!read_index_is_waiting(reads))
                timer_stop(&reads->timer);
        else if (!timer_armed(&reads->timer))
                (void) timer_start(&reads->timer, reads->replica->loop, SWEEP_MS);
}

static void read_index_write_check(ReadIndex *reads, Writer *w, uint64_t to, CheckKind kind, uint64_t term,
                                   uint64_t number, uint64_t index) {
        replica_write_head(reads->replica, w, to);
        write_u8(w, (uint8_t) kind);
        write_u64(w, term);
        write_u64(w, number);
        write_u64(w, index);
}

static void read_index_request(ReadIndex *reads, uint64_t to, CheckKind kind) {
        _cleanup_writer_ Writer w = {};

        read_index_write_check(reads, &w, to, kind, replica_term(reads->replica), reads->number, 0);
        (void) replica_send(reads->replica, to, PEER_TERM_CHECK, &w); /* a lost request is repeated */
}

static void read_index_reply(ReadIndex *reads, uint64_t session, uint64_t to, CheckKind kind, uint64_t term,
                             uint64_t number, uint64_t index) {
        _cleanup_writer_ Writer w = {};

        read_index_write_check(reads, &w, to, kind, term, number, index);
        replica_answer(reads->replica, session, PEER_TERM_CHECKED, &w);
}

/* One by one from the queue itself: a callback may cancel other reads. */
static void read_index_finish_applied(ReadIndex *reads) {
        Replica *p = reads->replica;

        while (TAILQ_FIRST(&reads->sure) && p->core &&
               raft_core_applied_index(p->core) >= reads->sure_index) {
                KvSync *sync = queue_take(&reads->sure);

                sync->done(sync->userdata, KV_OK);
        }
}

/* The check has passed: its reads wait for 'index' only. */
static void read_index_passed(ReadIndex *reads, uint64_t index) {
        reads->checking = false;
        reads->sure_index = MAX(reads->sure_index, index);
        TAILQ_CONCAT(&reads->sure, &reads->checked, entry);
        loop_defer(reads->replica->loop, &reads->kick);
}

static bool read_index_has_majority(const ReadIndex *reads) {
        const RaftServers *servers = raft_core_servers(reads->replica->core);
        size_t n_voters = 0, n = 0;

        for (size_t i = 0; i < servers->n; i++) {
                const RaftServer *s = &servers->items[i];

                if (s->role != RAFT_ROLE_VOTER)
                        continue;
                n_voters++;
                if (s->id == raft_core_id(reads->replica->core)) {
                        n++;
                        continue;
                }
                for (size_t k = 0; k < reads->n_confirmed; k++)
                        if (reads->confirmed[k] == s->id) {
                                n++;
                                break;
                        }
        }
        return n > n_voters / 2;
}

static void read_index_begin_check(ReadIndex *reads) {
        Replica *p = reads->replica;
        uint64_t leader = replica_leader(p);

        if (!p->core || leader == 0)
                return;
        if (replica_is_leader(p) && !raft_core_leads(p->core))
                return; /* the commit index may be behind acknowledged entries */

        reads->checking = true;
        reads->number++;
        reads->check_ms = loop_now_ms(p->loop);
        reads->n_confirmed = 0;
        TAILQ_CONCAT(&reads->checked, &reads->arrived, entry);

        if (!replica_is_leader(p)) {
                read_index_request(reads, leader, CHECK_READ);
                return;
        }

        reads->check_index = raft_core_commit_index(p->core);
        if (read_index_has_majority(reads)) {
                read_index_passed(reads, reads->check_index);
                return;
        }

        const RaftServers *servers = raft_core_servers(p->core);
        for (size_t i = 0; i < servers->n; i++)
                if (servers->items[i].role == RAFT_ROLE_VOTER &&
                    servers->items[i].id != raft_core_id(p->core))
                        read_index_request(reads, servers->items[i].id, CHECK_TERM);
}

static void read_index_on_kick(void *userdata) {
        ReadIndex *reads = userdata;

        if (!reads->checking && TAILQ_FIRST(&reads->arrived))
                read_index_begin_check(reads);
        read_index_finish_applied(reads);
        read_index_arm(reads);
}

/* Repeat a check without an read_index_reply, together with the reads that arrived meanwhile. */
static void read_index_repeat(ReadIndex *reads) {
        reads->checking = false;
        TAILQ_CONCAT(&reads->checked, &reads->arrived, entry);
        TAILQ_CONCAT(&reads->arrived, &reads->checked, entry);
        loop_defer(reads->replica->loop, &reads->kick);
}

static void read_index_on_timer(void *userdata) {
        ReadIndex *reads = userdata;
        uint64_t now = loop_now_ms(reads->replica->loop);

        syncs_answer(&reads->arrived, now, replica_leader(reads->replica) ? KV_UNKNOWN : KV_NO_LEADER);
        syncs_answer(&reads->checked, now, KV_UNKNOWN);
        syncs_answer(&reads->sure, now, KV_UNKNOWN);
        if (reads->checking && now >= reads->check_ms + READS_RETRY_MS)
                read_index_repeat(reads);
        else if (!reads->checking && TAILQ_FIRST(&reads->arrived))
                loop_defer(reads->replica->loop, &reads->kick);
        read_index_arm(reads);
}

/* -- Requests and replies of other hosts -- */

static void read_index_remote_done(void *userdata, KvStatus status) {
        Remote *m = userdata;

        m->reads->n_remote--;
        if (status == KV_OK && m->reads->replica->core)
                read_index_reply(m->reads, m->session, m->from, CHECK_READ, replica_term(m->reads->replica),
                                 m->number, raft_core_applied_index(m->reads->replica->core));
        free(m);
}

/* The payload of a check, after its head. */
typedef struct Check {
        uint64_t from, term, number, index;
        uint8_t kind;
} Check;

static bool read_index_read_check(const ReadIndex *reads, PeerSession *session, const void *payload,
                                  size_t size, Check *ret) {
        Reader r = reader_over(payload, size);

        if (!reads->replica->core || !replica_read_head(reads->replica, session, &r, &ret->from))
                return false;
        ret->kind = read_u8(&r);
        ret->term = read_u64(&r);
        ret->number = read_u64(&r);
        ret->index = read_u64(&r);
        return reader_end(&r) >= 0;
}

static void read_index_on_check(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                size_t size) {
        ReadIndex *reads = userdata;
        Remote *m;
        Check c;

        if (!read_index_read_check(reads, session, payload, size, &c))
                return;

        if (replica_term(reads->replica) == 0)
                return; /* no term is known, or the replica closes */
        if (c.kind == CHECK_TERM) {
                read_index_reply(reads, peer_number(session), c.from, CHECK_TERM,
                                 MAX(c.term, replica_term(reads->replica)), c.number, 0);
                return;
        }

        if (c.kind != CHECK_READ || !replica_is_leader(reads->replica) || reads->n_remote >= READS_REMOTE_MAX)
                return; /* the follower repeats the request, perhaps to another host */
        m = NEW0(Remote, 1);
        if (!m)
                return;
        *m = (Remote) { .sync = { .done = read_index_remote_done, .userdata = m },
                        .reads = reads,
                        .session = peer_number(session),
                        .from = c.from,
                        .number = c.number };
        reads->n_remote++;
        read_index_add(reads, &m->sync);
}

static void read_index_on_checked(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                                  size_t size) {
        ReadIndex *reads = userdata;
        Check c;

        if (!read_index_read_check(reads, session, payload, size, &c) || !reads->checking ||
            c.number != reads->number)
                return;

        if (c.kind == CHECK_READ) {
                if (!replica_is_leader(reads->replica))
                        read_index_passed(reads, c.index);
                return;
        }

        if (c.kind != CHECK_TERM || !replica_is_leader(reads->replica) ||
            c.term != replica_term(reads->replica) || reads->n_confirmed >= RAFT_SERVERS_MAX)
                return;
        reads->confirmed[reads->n_confirmed++] = c.from;
        if (read_index_has_majority(reads))
                read_index_passed(reads, reads->check_index);
}

/* -- Calls of the store -- */

void read_index_add(ReadIndex *reads, KvSync *sync) {
        sync->due_ms = loop_now_ms(reads->replica->loop) + READS_WAIT_MS;
        TAILQ_INSERT_TAIL(&reads->arrived, sync, entry);
        loop_defer(reads->replica->loop, &reads->kick);
        read_index_arm(reads);
}

void read_index_cancel(ReadIndex *reads, KvSync *sync) {
        if (!syncs_remove(&reads->arrived, sync) && !syncs_remove(&reads->checked, sync))
                (void) syncs_remove(&reads->sure, sync);
        read_index_arm(reads);
}

void read_index_on_flush(ReadIndex *reads, unsigned changed) {
        if ((changed & (RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER)) && reads->checking)
                read_index_repeat(reads);
        if (read_index_is_waiting(reads))
                loop_defer(reads->replica->loop, &reads->kick);
}

void read_index_end(ReadIndex *reads, KvStatus status) {
        KvSyncs *queues[] = { &reads->sure, &reads->checked, &reads->arrived };

        reads->checking = false;
        for (size_t i = 0; i < ELEMENTS(queues); i++) {
                KvSync *last = TAILQ_LAST(queues[i], KvSyncs), *sync;

                /* Not those that arrive during the answers. */
                while (last && (sync = queue_take(queues[i]))) {
                        bool is_last = sync == last;

                        sync->done(sync->userdata, status);
                        if (is_last)
                                break;
                }
        }
        read_index_arm(reads);
}

static const PeerFrameType frame_types[] = {
        { PEER_TERM_CHECK, read_index_on_check },
        { PEER_TERM_CHECKED, read_index_on_checked },
};

int read_index_new(ReadIndex **ret, Replica *replica) {
        ReadIndex *reads = NEW0(ReadIndex, 1);
        Peers *peers;

        if (!reads)
                return -ENOMEM;
        reads->replica = replica;
        TAILQ_INIT(&reads->arrived);
        TAILQ_INIT(&reads->checked);
        TAILQ_INIT(&reads->sure);
        reads->kick = DEFERRED(read_index_on_kick, reads);
        reads->timer = TIMER(read_index_on_timer, reads);
        peers = replica->options.peers;
        if (peers) {
                peers_register(peers, frame_types, ELEMENTS(frame_types), reads);
        }
        *ret = reads;
        return 0;
}

ReadIndex *read_index_free(ReadIndex *reads) {
        KvSync *sync;

        if (!reads)
                return NULL;
        TAILQ_CONCAT(&reads->arrived, &reads->checked, entry);
        TAILQ_CONCAT(&reads->arrived, &reads->sure, entry);
        while ((sync = queue_take(&reads->arrived)))
                if (sync->done == read_index_remote_done)
                        free(sync->userdata);
        if (reads->replica->options.peers) {
                peers_unregister(reads->replica->options.peers, frame_types, ELEMENTS(frame_types));
        }
        deferred_cancel(&reads->kick);
        timer_stop(&reads->timer);
        free(reads);
        return NULL;
}
