#include "kvstore/raft/read_index.h"

#include <assert.h>
#include <errno.h>

enum { SWEEP_MS = 50 };

typedef enum CheckKind {
        CHECK_TERM, /* a leader asks a voter: do you know a later term than mine? */
        CHECK_READ, /* a follower asks its leader: how far must I have applied? */
        _CHECK_MAX,
} CheckKind;

/* In order of arrival. */
typedef struct Queue {
        KvSync *first, **last;
} Queue;

/* A follower's question, waiting like a read of ours. */
typedef struct Remote {
        KvSync sync;
        ReadIndex *reads;
        uint64_t session, from, number;
} Remote;

struct ReadIndex {
        Replica *replica;
        Queue arrived; /* wait for a check to begin */
        Queue checked; /* by the check under way */
        Queue sure;    /* wait for 'sure_index' to be applied */
        uint64_t number, check_index, check_ms, sure_index;
        uint64_t confirmed[RAFT_SERVERS_MAX];
        size_t n_confirmed;
        unsigned n_remote;
        bool checking;
        Deferred kick;
        Timer timer;
};

static void queue_init(Queue *q) {
        q->first = NULL;
        q->last = &q->first;
}

static void queue_add(Queue *q, KvSync *sync) {
        sync->next = NULL;
        *q->last = sync;
        q->last = &sync->next;
}

static KvSync *queue_take(Queue *q) {
        KvSync *sync = q->first;

        if (sync) {
                q->first = sync->next;
                if (!q->first)
                        q->last = &q->first;
                sync->next = NULL;
        }
        return sync;
}

static bool queue_remove(Queue *q, KvSync *sync) {
        for (KvSync **s = &q->first; *s; s = &(*s)->next) {
                if (*s != sync)
                        continue;
                *s = sync->next;
                if (q->last == &sync->next)
                        q->last = s;
                sync->next = NULL;
                return true;
        }
        return false;
}

/* 'from' in front of 'to'. */
static void queue_prepend(Queue *to, Queue *from) {
        if (!from->first)
                return;
        *from->last = to->first;
        if (!to->first)
                to->last = from->last;
        to->first = from->first;
        queue_init(from);
}

static void queue_append(Queue *to, Queue *from) {
        if (!from->first)
                return;
        *to->last = from->first;
        to->last = from->last;
        queue_init(from);
}

static bool any_waits(const ReadIndex *reads) {
        return reads->arrived.first || reads->checked.first || reads->sure.first;
}

static void keep_time(ReadIndex *reads) {
        if (!any_waits(reads))
                timer_stop(&reads->timer);
        else if (!timer_armed(&reads->timer))
                (void) timer_start(&reads->timer, reads->replica->loop, SWEEP_MS);
}

static void write_check(ReadIndex *reads, Writer *w, uint64_t to, CheckKind kind, uint64_t term,
                        uint64_t number, uint64_t index) {
        replica_write_head(reads->replica, w, to);
        write_u8(w, (uint8_t) kind);
        write_u64(w, term);
        write_u64(w, number);
        write_u64(w, index);
}

static void ask(ReadIndex *reads, uint64_t to, CheckKind kind) {
        _cleanup_writer_ Writer w = {};

        write_check(reads, &w, to, kind, replica_term(reads->replica), reads->number, 0);
        (void) replica_send(reads->replica, to, PEER_TERM_CHECK, &w); /* a lost one is asked again */
}

static void answer(ReadIndex *reads, uint64_t session, uint64_t to, CheckKind kind, uint64_t term,
                   uint64_t number, uint64_t index) {
        _cleanup_writer_ Writer w = {};

        write_check(reads, &w, to, kind, term, number, index);
        replica_answer(reads->replica, session, PEER_TERM_CHECKED, &w);
}

/* One by one from the queue itself: who is called may cancel others. */
static void answer_applied(ReadIndex *reads) {
        Replica *p = reads->replica;

        while (reads->sure.first && p->core && raft_core_applied_index(p->core) >= reads->sure_index) {
                KvSync *sync = queue_take(&reads->sure);

                sync->done(sync->userdata, KV_OK);
        }
}

/* The check is through: who was in it waits for 'index' only. */
static void passed(ReadIndex *reads, uint64_t index) {
        reads->checking = false;
        reads->sure_index = MAX(reads->sure_index, index);
        queue_append(&reads->sure, &reads->checked);
        loop_defer(reads->replica->loop, &reads->kick);
}

static bool has_majority(const ReadIndex *reads) {
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

static void begin_check(ReadIndex *reads) {
        Replica *p = reads->replica;
        uint64_t leader = replica_leader(p);

        if (!p->core || leader == 0)
                return;
        if (replica_is_leader(p) && !raft_core_leads(p->core))
                return; /* the commit index may be older than what was acknowledged */

        reads->checking = true;
        reads->number++;
        reads->check_ms = loop_now_ms(p->loop);
        reads->n_confirmed = 0;
        queue_append(&reads->checked, &reads->arrived);

        if (!replica_is_leader(p)) {
                ask(reads, leader, CHECK_READ);
                return;
        }

        reads->check_index = raft_core_commit_index(p->core);
        if (has_majority(reads)) {
                passed(reads, reads->check_index);
                return;
        }

        const RaftServers *servers = raft_core_servers(p->core);
        for (size_t i = 0; i < servers->n; i++)
                if (servers->items[i].role == RAFT_ROLE_VOTER &&
                    servers->items[i].id != raft_core_id(p->core))
                        ask(reads, servers->items[i].id, CHECK_TERM);
}

static void on_kick(void *userdata) {
        ReadIndex *reads = userdata;

        if (!reads->checking && reads->arrived.first)
                begin_check(reads);
        answer_applied(reads);
        keep_time(reads);
}

/* A check that leads nowhere begins again, with all that have come meanwhile. */
static void again(ReadIndex *reads) {
        reads->checking = false;
        queue_prepend(&reads->arrived, &reads->checked);
        loop_defer(reads->replica->loop, &reads->kick);
}

/* Queues are in order of arrival, and so of falling due. */
static void expire(ReadIndex *reads, Queue *q, KvStatus status) {
        uint64_t now = loop_now_ms(reads->replica->loop);

        while (q->first && q->first->due_ms <= now) {
                KvSync *sync = queue_take(q);

                sync->done(sync->userdata, status);
        }
}

static void on_timer(void *userdata) {
        ReadIndex *reads = userdata;

        expire(reads, &reads->arrived, replica_leader(reads->replica) ? KV_UNKNOWN : KV_NO_LEADER);
        expire(reads, &reads->checked, KV_UNKNOWN);
        expire(reads, &reads->sure, KV_UNKNOWN);
        if (reads->checking && loop_now_ms(reads->replica->loop) >= reads->check_ms + READS_RETRY_MS)
                again(reads);
        else if (!reads->checking && reads->arrived.first)
                loop_defer(reads->replica->loop, &reads->kick);
        keep_time(reads);
}

/* -- Others' questions and answers -- */

static void remote_done(void *userdata, KvStatus status) {
        Remote *m = userdata;

        m->reads->n_remote--;
        if (status == KV_OK && m->reads->replica->core)
                answer(m->reads, m->session, m->from, CHECK_READ, replica_term(m->reads->replica), m->number,
                       raft_core_applied_index(m->reads->replica->core));
        free(m);
}

/* What write_check() wrote. */
typedef struct Check {
        uint64_t from, term, number, index;
        uint8_t kind;
} Check;

static bool read_check(const ReadIndex *reads, PeerSession *session, const void *payload, size_t size,
                       Check *ret) {
        Reader r = reader_over(payload, size);

        if (!reads->replica->core || !replica_read_head(reads->replica, session, &r, &ret->from))
                return false;
        ret->kind = read_u8(&r);
        ret->term = read_u64(&r);
        ret->number = read_u64(&r);
        ret->index = read_u64(&r);
        return reader_end(&r) >= 0;
}

static void on_check(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        ReadIndex *reads = userdata;
        Remote *m;
        Check c;

        if (!read_check(reads, session, payload, size, &c))
                return;

        if (replica_term(reads->replica) == 0)
                return; /* nothing known, or closing */
        if (c.kind == CHECK_TERM) {
                answer(reads, peer_number(session), c.from, CHECK_TERM,
                       MAX(c.term, replica_term(reads->replica)), c.number, 0);
                return;
        }

        if (c.kind != CHECK_READ || !replica_is_leader(reads->replica) || reads->n_remote >= READS_REMOTE_MAX)
                return; /* who asks will ask again, perhaps somebody else */
        m = NEW0(Remote, 1);
        if (!m)
                return;
        *m = (Remote) { .sync = { .done = remote_done, .userdata = m },
                        .reads = reads,
                        .session = peer_number(session),
                        .from = c.from,
                        .number = c.number };
        reads->n_remote++;
        read_index_add(reads, &m->sync);
}

static void on_checked(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                       size_t size) {
        ReadIndex *reads = userdata;
        Check c;

        if (!read_check(reads, session, payload, size, &c) || !reads->checking || c.number != reads->number)
                return;

        if (c.kind == CHECK_READ) {
                if (!replica_is_leader(reads->replica))
                        passed(reads, c.index);
                return;
        }

        if (c.kind != CHECK_TERM || !replica_is_leader(reads->replica) ||
            c.term != replica_term(reads->replica) || reads->n_confirmed >= RAFT_SERVERS_MAX)
                return;
        reads->confirmed[reads->n_confirmed++] = c.from;
        if (has_majority(reads))
                passed(reads, reads->check_index);
}

/* -- The door's calls -- */

void read_index_add(ReadIndex *reads, KvSync *sync) {
        sync->due_ms = loop_now_ms(reads->replica->loop) + READS_WAIT_MS;
        queue_add(&reads->arrived, sync);
        loop_defer(reads->replica->loop, &reads->kick);
        keep_time(reads);
}

void read_index_cancel(ReadIndex *reads, KvSync *sync) {
        if (!queue_remove(&reads->arrived, sync) && !queue_remove(&reads->checked, sync))
                (void) queue_remove(&reads->sure, sync);
        keep_time(reads);
}

void read_index_settled(ReadIndex *reads, unsigned changed) {
        if ((changed & (RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER)) && reads->checking)
                again(reads);
        if (any_waits(reads))
                loop_defer(reads->replica->loop, &reads->kick);
}

void read_index_end(ReadIndex *reads, KvStatus status) {
        Queue *queues[] = { &reads->sure, &reads->checked, &reads->arrived };

        reads->checking = false;
        for (size_t i = 0; i < ELEMENTS(queues); i++) {
                KvSync *last = NULL, *sync;

                /* Not those that come while we answer. */
                for (sync = queues[i]->first; sync; sync = sync->next)
                        last = sync;
                while (last && (sync = queue_take(queues[i]))) {
                        bool is_last = sync == last;

                        sync->done(sync->userdata, status);
                        if (is_last)
                                break;
                }
        }
        keep_time(reads);
}

void read_index_drop(ReadIndex *reads) {
        Queue *queues[] = { &reads->sure, &reads->checked, &reads->arrived };
        KvSync *sync;

        for (size_t i = 0; i < ELEMENTS(queues); i++)
                while ((sync = queue_take(queues[i])))
                        if (sync->done == remote_done)
                                free(sync->userdata);
        keep_time(reads);
}

int read_index_new(ReadIndex **ret, Replica *replica) {
        ReadIndex *reads = NEW0(ReadIndex, 1);

        if (!reads)
                return -ENOMEM;
        reads->replica = replica;
        queue_init(&reads->arrived);
        queue_init(&reads->checked);
        queue_init(&reads->sure);
        reads->kick = DEFERRED(on_kick, reads);
        reads->timer = TIMER(on_timer, reads);
        if (replica->options.peers) {
                peers_handle(replica->options.peers, PEER_TERM_CHECK, on_check, reads);
                peers_handle(replica->options.peers, PEER_TERM_CHECKED, on_checked, reads);
        }
        *ret = reads;
        return 0;
}

ReadIndex *read_index_free(ReadIndex *reads) {
        if (!reads)
                return NULL;
        assert(!any_waits(reads));
        if (reads->replica->options.peers) {
                peers_handle(reads->replica->options.peers, PEER_TERM_CHECK, NULL, NULL);
                peers_handle(reads->replica->options.peers, PEER_TERM_CHECKED, NULL, NULL);
        }
        deferred_cancel(&reads->kick);
        timer_stop(&reads->timer);
        free(reads);
        return NULL;
}
