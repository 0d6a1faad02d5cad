#include "kvstore/propose.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/table.h"

enum {
        SWEEP_MS = 100,
        ITEM_OVERHEAD = 40,  /* of one command in a batch or frame, at most */
        BATCH_OVERHEAD = 64, /* of a batch's or frame's head, at most */
        FRAME_COMMANDS_MAX = 1000,
        LATER_MS = 300,      /* so long states give way, and no longer */
};

static_assert(KV_COMMAND_MAX + ITEM_OVERHEAD + BATCH_OVERHEAD <= RAFT_ENTRY_SIZE_MAX, "a command fits into an entry of its own");

typedef enum ProposalState {
        PROPOSAL_QUEUED,   /* not yet in anybody's hands: nothing has happened */
        PROPOSAL_SENT,     /* to the leader of 'term', which has not said that it took it */
        PROPOSAL_ACCEPTED, /* by the leader of 'term', which puts it into its log or loses its place */
        PROPOSAL_LOGGED,   /* in our own log, in 'term' */
        PROPOSAL_ANSWERED, /* refused; the answer leaves with the next turn */
} ProposalState;

typedef struct Proposal {
        uint64_t origin, number;
        ProposalState state;
        uint64_t term;
        uint64_t due_ms; /* 0: as long as the leader is there */
        uint8_t *bytes;
        size_t size;
        KvDone done;     /* NULL and userdata NULL for another host's */
        void *userdata;
        KvStatus status;
        char *cause;
        bool foreign, later;
        uint64_t queued_ms;           /* of one that gives way: since when it does */
        struct Proposal *next, *prev; /* in the queue, or among the answered */
        UT_hash_handle hh;            /* ours, in order of number */
} Proposal;

typedef struct List {
        Proposal *first, *last;
} List;

typedef enum ProposedWhat { PROPOSED_ACCEPTED, PROPOSED_NOT_LEADER, PROPOSED_BUSY, PROPOSED_REFUSED, _PROPOSED_MAX } ProposedWhat;

struct Proposals {
        ProposalsOptions options;
        Proposal *own;       /* table by number */
        List queue, answered;
        uint64_t next_number;
        size_t n_own, own_bytes;         /* ours without an answer */
        size_t n_foreign, foreign_bytes; /* others' in the queue */
        uint64_t foreign_term;           /* in which they were taken */
        uint64_t window[PROPOSE_WINDOW]; /* indexes of our entries that are not applied */
        size_t n_window;
        uint64_t term, leader; /* as of the last look */
        bool lead;
        Deferred pump, answer;
        Timer sweep;
};

static void list_append(List *list, Proposal *x) {
        x->next = NULL;
        x->prev = list->last;
        if (list->last)
                list->last->next = x;
        else
                list->first = x;
        list->last = x;
}

static void list_insert_after(List *list, Proposal *after, Proposal *x) {
        x->prev = after;
        x->next = after ? after->next : list->first;
        if (x->next)
                x->next->prev = x;
        else
                list->last = x;
        if (after)
                after->next = x;
        else
                list->first = x;
}

static void list_remove(List *list, Proposal *x) {
        if (x->prev)
                x->prev->next = x->next;
        else
                list->first = x->next;
        if (x->next)
                x->next->prev = x->prev;
        else
                list->last = x->prev;
        x->next = x->prev = NULL;
}

/* Behind all that wait, but before those that give way and have not done so for long. */
static void queue_add(Proposals *p, Proposal *x) {
        uint64_t now = loop_now_ms(p->options.loop);
        Proposal *after = p->queue.last;

        x->queued_ms = now;
        while (!x->later && after && after->later && now - after->queued_ms < LATER_MS)
                after = after->prev;
        list_insert_after(&p->queue, after, x);
}

static void proposal_free(Proposal *x) {
        free(x->bytes);
        free(x->cause);
        free(x);
}

static void forget_foreign(Proposals *p, Proposal *x) {
        list_remove(&p->queue, x);
        p->n_foreign--;
        p->foreign_bytes -= x->size;
        proposal_free(x);
}

/* Takes one of ours out of everything. */
static void detach(Proposals *p, Proposal *x) {
        if (x->state == PROPOSAL_QUEUED)
                list_remove(&p->queue, x);
        else if (x->state == PROPOSAL_ANSWERED)
                list_remove(&p->answered, x);
        HASH_DEL(p->own, x);
        p->n_own--;
        p->own_bytes -= x->size;
}

static void settle_status(Proposals *p, Proposal *x, KvStatus status, const char *cause) {
        if (x->state == PROPOSAL_ANSWERED)
                return;
        if (x->state == PROPOSAL_QUEUED)
                list_remove(&p->queue, x);
        x->state = PROPOSAL_ANSWERED;
        x->status = status;
        free(x->cause);
        x->cause = cause ? strdup(cause) : NULL;
        list_append(&p->answered, x);
        loop_defer(p->options.loop, &p->answer);
}

static void on_answer(void *userdata) {
        Proposals *p = userdata;
        Proposal *x;

        while ((x = p->answered.first)) {
                KvResult result = { .status = x->status, .cause = kv_string(x->cause ? x->cause : "") };

                detach(p, x);
                x->done(x->userdata, &result);
                proposal_free(x);
        }
}

static void no_leader(Proposals *p, Proposal *x) {
        char cause[128];

        p->options.problem(p->options.userdata, cause, sizeof(cause));
        settle_status(p, x, KV_NO_LEADER, cause);
}

static void unknown(Proposals *p, Proposal *x) {
        settle_status(p, x, KV_UNKNOWN, "the leader was lost before it answered");
}

/* -- Into the log -- */

#ifdef PLANTED_BUGS
static void answer_early(Proposals *p, Proposal *x) {
        settle_status(p, x, KV_OK, NULL);
}
#endif

/* One entry out of what waits; 0 when something was taken, -EAGAIN when the log is full for now. */
static int submit_batch(Proposals *p) {
        _cleanup_writer_ Writer w = {};
        uint64_t index, term, cluster_ms = p->options.cluster_ms(p->options.userdata);
        size_t n = 0, size = BATCH_OVERHEAD;
        Proposal *x, *end;
        int r;

        if (cluster_ms == 0)
                return -EAGAIN; /* what the log says of it is not applied yet */
        kv_batch_begin(&w, &(KvBatchHead) { .cluster_ms = cluster_ms, .quota = p->options.quota });
        for (x = p->queue.first; x && n < KV_BATCH_COMMANDS_MAX; x = x->next, n++) {
                size += x->size + ITEM_OVERHEAD;
                if (n > 0 && size > KV_BATCH_MAX)
                        break;
                kv_batch_add(&w, &(KvBatchItem) { .origin = x->origin, .number = x->number, .command = x->bytes, .command_size = x->size });
        }
        end = x;
        if (w.error < 0)
                return w.error;

        r = replica_submit(p->options.replica, w.bytes, w.size, &index, &term);
        if (r < 0)
                return r;
        p->window[p->n_window++] = index;

        while ((x = p->queue.first) != end) {
                if (x->foreign) {
                        forget_foreign(p, x);
                        continue;
                }
                list_remove(&p->queue, x);
                x->state = PROPOSAL_LOGGED;
                x->term = term;
                x->due_ms = 0;
#ifdef PLANTED_BUGS
                if (p->options.answer_early)
                        answer_early(p, x);
#endif
        }
        return 0;
}

/* -- To the leader -- */

static bool send_frame(Proposals *p, uint64_t leader, uint64_t term) {
        _cleanup_writer_ Writer w = {}, items = {};
        Proposal *x, *end;
        size_t n = 0;

        for (x = p->queue.first; x && n < FRAME_COMMANDS_MAX && x->later == p->queue.first->later; x = x->next, n++) {
                if (n > 0 && items.size + x->size > KV_BATCH_MAX)
                        break;
                write_u64(&items, x->number);
                write_blob(&items, x->bytes, x->size);
        }
        end = x;

        replica_write_head(p->options.replica, &w, leader);
        write_u64(&w, term);
        write_varint(&w, n);
        write_raw(&w, items.bytes, items.size);
        if (items.error < 0 || replica_send(p->options.replica, leader, p->queue.first->later ? PEER_PROPOSE_LATER : PEER_PROPOSE, &w) < 0)
                return false;

        while ((x = p->queue.first) != end) {
                list_remove(&p->queue, x);
                x->state = PROPOSAL_SENT;
                x->term = term;
                x->due_ms = loop_now_ms(p->options.loop) + PROPOSE_WAIT_MS;
        }
        return true;
}

static void keep_time(Proposals *p) {
        if (p->n_own == 0 || (p->lead && !p->queue.first))
                timer_stop(&p->sweep);
        else if (!timer_armed(&p->sweep))
                (void) timer_start(&p->sweep, p->options.loop, SWEEP_MS);
}

static void drop_foreign(Proposals *p) {
        Proposal *next;

        for (Proposal *x = p->queue.first; x; x = next) {
                next = x->next;
                if (x->foreign)
                        forget_foreign(p, x);
        }
}

/* Who asked in an earlier term asks again now: what was taken then must not reach the log any more. */
static void begin_foreign_term(Proposals *p) {
        uint64_t term = replica_term(p->options.replica);

        if (p->foreign_term != term)
                drop_foreign(p);
        p->foreign_term = term;
}

static void on_pump(void *userdata) {
        Proposals *p = userdata;
        Replica *replica = p->options.replica;
        uint64_t leader = replica_leader(replica), now = loop_now_ms(p->options.loop);

        if (replica_is_leader(replica)) {
                begin_foreign_term(p);
                while (p->queue.first && p->n_window < PROPOSE_WINDOW)
                        if (submit_batch(p) < 0)
                                break; /* full, or handing over: what settles it wakes us */
        } else {
                drop_foreign(p);
                while (p->queue.first && leader != 0)
                        if (!send_frame(p, leader, replica_term(replica)))
                                break; /* no session yet: the sweep tries again */
        }

        /* What could not leave waits, but not for long. */
        for (Proposal *x = p->queue.first; x; x = x->next)
                if (x->due_ms == 0 && !x->foreign && !replica_is_leader(replica))
                        x->due_ms = now + PROPOSE_WAIT_MS;
        keep_time(p);
}

static void on_sweep(void *userdata) {
        Proposals *p = userdata;
        uint64_t now = loop_now_ms(p->options.loop);
        Proposal *x, *next;

        for (x = p->own; x; x = next) {
                next = x->hh.next;
                if (x->due_ms == 0 || x->due_ms > now || x->state == PROPOSAL_ANSWERED)
                        continue;
                if (x->state == PROPOSAL_QUEUED && !replica_is_leader(p->options.replica))
                        no_leader(p, x);
                else if (x->state != PROPOSAL_QUEUED)
                        unknown(p, x);
        }
        if (p->queue.first)
                loop_defer(p->options.loop, &p->pump);
        keep_time(p);
}

/* -- What was sent in an earlier term -- */

/* An entry of 'term' is applied: what was sent in an earlier one, and was not in what came before, never comes. */
static void send_again(Proposals *p, uint64_t term) {
        Proposal *after = NULL;
        uint64_t now = loop_now_ms(p->options.loop);

        for (Proposal *x = p->own; x; x = x->hh.next) {
                if (x->state == PROPOSAL_ANSWERED || x->state == PROPOSAL_QUEUED || x->term >= term)
                        continue;
                x->state = PROPOSAL_QUEUED;
                x->due_ms = now + PROPOSE_WAIT_MS;
                list_insert_after(&p->queue, after, x);
                after = x;
        }
        if (after)
                loop_defer(p->options.loop, &p->pump);
}

static void leader_lost(Proposals *p) {
        uint64_t due = loop_now_ms(p->options.loop) + PROPOSE_WAIT_MS;

        for (Proposal *x = p->own; x; x = x->hh.next)
                if (x->due_ms == 0)
                        x->due_ms = due;
#ifdef PLANTED_BUGS
        if (p->options.ask_blindly)
                send_again(p, UINT64_MAX);
#endif
        keep_time(p);
}

void proposals_settled(Proposals *p, unsigned changed, uint64_t applied, uint64_t term) {
        size_t n = 0;

        for (size_t i = 0; i < p->n_window; i++)
                if (p->window[i] > applied)
                        p->window[n++] = p->window[i];
        p->n_window = n;

        if (changed & (RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER)) {
                Replica *replica = p->options.replica;

                if (p->term != replica_term(replica) || p->leader != replica_leader(replica)) {
                        p->n_window = replica_is_leader(replica) && p->term == replica_term(replica) ? p->n_window : 0;
                        leader_lost(p);
                }
                p->term = replica_term(replica);
                p->leader = replica_leader(replica);
                p->lead = replica_is_leader(replica);
        }
        if (p->own)
                send_again(p, term);
        if (p->queue.first)
                loop_defer(p->options.loop, &p->pump);
        keep_time(p);
}

void proposals_lost(Proposals *p) {
        for (Proposal *x = p->own; x; x = x->hh.next)
                if (x->state != PROPOSAL_QUEUED)
                        unknown(p, x);
}

/* -- The leader's side -- */

static void reply_proposed(Proposals *p, PeerSession *session, uint64_t to, uint64_t term, ProposedWhat what, const uint64_t *numbers,
                           size_t n, KvStatus status, const char *cause) {
        _cleanup_writer_ Writer w = {};

        replica_write_head(p->options.replica, &w, to);
        write_u64(&w, term);
        write_u8(&w, (uint8_t) what);
        write_u8(&w, (uint8_t) status);
        write_string(&w, cause);
        write_varint(&w, n);
        for (size_t i = 0; i < n; i++)
                write_u64(&w, numbers[i]);
        if (w.error == 0)
                (void) peer_reply(session, PEER_PROPOSED, w.bytes, w.size);
}

/* Takes another host's command into our queue; its shape is checked here, too. */
static int take_foreign(Proposals *p, uint64_t origin, uint64_t number, bool later, const void *bytes, size_t size, KvStatus *ret_status,
                        Error *err) {
        _cleanup_free_ void *arena = NULL;
        KvCommand cmd;
        Proposal *x;
        int r;

        *ret_status = KV_FORBIDDEN;
        r = kv_command_decode(bytes, size, &cmd, &arena);
        if (r < 0)
                return error_set(err, r, "the leader cannot read this command: %s", strerror(-r));
        r = kv_command_check(&cmd, ret_status, err);
        if (r < 0)
                return r;
        if (*ret_status != KV_OK)
                return -EINVAL;

        x = NEW0(Proposal, 1);
        if (!x || !(x->bytes = malloc(size))) {
                free(x);
                return -ENOMEM;
        }
        memcpy(x->bytes, bytes, size);
        x->size = size;
        x->origin = origin;
        x->number = number;
        x->foreign = true;
        x->later = later;
        p->n_foreign++;
        p->foreign_bytes += size;
        queue_add(p, x);
        return 0;
}

static void on_propose(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Proposals *p = userdata;
        Replica *replica = p->options.replica;
        Reader r = reader_over(payload, size);
        uint64_t accepted[FRAME_COMMANDS_MAX], busy[FRAME_COMMANDS_MAX], from, term, n;
        size_t n_accepted = 0, n_busy = 0;
        bool here;

        if (!replica_read_head(replica, session, &r, &from))
                return;
        term = read_u64(&r);
        n = read_varint(&r);
        if (r.failed || n > FRAME_COMMANDS_MAX)
                return;
        here = replica_is_leader(replica) && replica_term(replica) == term;
        begin_foreign_term(p);

        for (uint64_t i = 0; i < n; i++) {
                uint64_t number = read_u64(&r);
                size_t bytes_size;
                const void *bytes = read_blob(&r, KV_COMMAND_MAX, &bytes_size);
                Error err = {};
                KvStatus status;
                int q;

                if (r.failed)
                        return; /* what was taken is in the queue; it is answered by apply, or by the sender's time-out */
                if (!here || p->n_foreign >= PROPOSE_MAX || p->foreign_bytes + bytes_size > PROPOSE_BYTES_MAX) {
                        busy[n_busy++] = number;
                        continue;
                }
                q = take_foreign(p, peer_hello(session)->nonce, number, type == PEER_PROPOSE_LATER, bytes, bytes_size, &status, &err);
                if (q == -ENOMEM)
                        busy[n_busy++] = number;
                else if (q < 0)
                        reply_proposed(p, session, from, term, PROPOSED_REFUSED, &number, 1, status, error_text(&err, q));
                else
                        accepted[n_accepted++] = number;
        }

        if (n_accepted > 0)
                reply_proposed(p, session, from, term, PROPOSED_ACCEPTED, accepted, n_accepted, KV_OK, "");
        if (n_busy > 0)
                reply_proposed(p, session, from, term, here ? PROPOSED_BUSY : PROPOSED_NOT_LEADER, busy, n_busy, KV_BUSY,
                               "the leader's queue is full");
        if (n_accepted > 0)
                loop_defer(p->options.loop, &p->pump);
}

static void on_proposed(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size) {
        Proposals *p = userdata;
        Reader r = reader_over(payload, size);
        _cleanup_free_ char *cause = NULL;
        uint64_t from, term, n;
        uint8_t what, status;

        if (!replica_read_head(p->options.replica, session, &r, &from))
                return;
        term = read_u64(&r);
        what = read_u8(&r);
        status = read_u8(&r);
        cause = read_string(&r, ERROR_MESSAGE_MAX);
        n = read_varint(&r);
        if (r.failed || what >= _PROPOSED_MAX || status >= _KV_STATUS_MAX || n > FRAME_COMMANDS_MAX)
                return;

        for (uint64_t i = 0; i < n && !r.failed; i++) {
                uint64_t number = read_u64(&r);
                Proposal *x;

                HASH_FIND(hh, p->own, &number, sizeof(number), x);
                if (r.failed || !x || x->state != PROPOSAL_SENT || x->term != term)
                        continue;

                switch ((ProposedWhat) what) {
                case PROPOSED_ACCEPTED:
                        x->state = PROPOSAL_ACCEPTED;
                        /* A leader that was lost meanwhile has begun a time of its own. */
                        if (p->term == term && p->leader != 0)
                                x->due_ms = 0;
                        break;
                case PROPOSED_NOT_LEADER:
                        x->state = PROPOSAL_QUEUED;
                        queue_add(p, x); /* with the sweep, or when the leader is known */
                        break;
                case PROPOSED_BUSY:
                        settle_status(p, x, KV_BUSY, cause);
                        break;
                case PROPOSED_REFUSED:
                        settle_status(p, x, status == KV_OK ? KV_FORBIDDEN : (KvStatus) status, cause);
                        break;
                case _PROPOSED_MAX:
                        break;
                }
        }
        keep_time(p);
}

/* -- The door's calls -- */

int proposals_add(Proposals *p, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number) {
        _cleanup_writer_ Writer w = {};
        KvStatus status = KV_OK;
        Error err = {};
        Proposal *x;
        int r;

        r = kv_command_check(cmd, &status, &err);
        if (r == -ENOMEM)
                return r;
        if (r >= 0 && status == KV_OK) {
                r = kv_command_encode(cmd, &w);
                if (w.error < 0 || r < 0)
                        return w.error < 0 ? w.error : r;
        }

        x = NEW0(Proposal, 1);
        if (!x)
                return -ENOMEM;
        x->origin = p->options.origin;
        x->number = ++p->next_number;
        x->done = done;
        x->userdata = userdata;
        HASH_ADD(hh, p->own, number, sizeof(x->number), x);
        if (!TABLE_ADDED(x)) {
                free(x);
                return -ENOMEM;
        }
        p->n_own++;
        if (ret_number)
                *ret_number = x->number;

        x->later = cmd->later;
        queue_add(p, x);
        if (status != KV_OK)
                settle_status(p, x, status, err.message);
        else if (w.size > KV_COMMAND_MAX) /* no host could apply it */
                settle_status(p, x, KV_TOO_LARGE, "a command of more than 250 KiB does not fit into the log");
        else if (p->n_own > PROPOSE_MAX || p->own_bytes + w.size > PROPOSE_BYTES_MAX)
                settle_status(p, x, KV_BUSY, "too many writes wait for an answer on this host");
        else {
                x->bytes = writer_take(&w, &x->size);
                p->own_bytes += x->size;
                loop_defer(p->options.loop, &p->pump);
        }
        return 0;
}

void proposals_forget(Proposals *p, uint64_t number) {
        Proposal *x;

        HASH_FIND(hh, p->own, &number, sizeof(number), x);
        if (!x)
                return;
        detach(p, x);
        proposal_free(x);
}

bool proposals_waits(const Proposals *p, uint64_t origin, uint64_t number) {
        Proposal *x;

        if (origin != p->options.origin)
                return false;
        HASH_FIND(hh, p->own, &number, sizeof(number), x);
        return x && x->state != PROPOSAL_ANSWERED;
}

void proposals_result(Proposals *p, uint64_t number, const KvResult *result) {
        Proposal *x;

        HASH_FIND(hh, p->own, &number, sizeof(number), x);
        if (!x || x->state == PROPOSAL_ANSWERED)
                return;
        detach(p, x);
        x->done(x->userdata, result);
        proposal_free(x);
}

unsigned proposals_waiting(const Proposals *p) {
        return (unsigned) p->n_own;
}

void proposals_end(Proposals *p) {
        Proposal *x, *next;

        drop_foreign(p);
        for (x = p->own; x; x = next) {
                next = x->hh.next;
                if (x->state == PROPOSAL_QUEUED)
                        no_leader(p, x);
                else
                        unknown(p, x);
        }
        p->n_window = 0;
        keep_time(p);
}

void proposals_drop(Proposals *p) {
        Proposal *x, *next;

        for (x = p->own; x; x = next) {
                next = x->hh.next;
                detach(p, x);
                proposal_free(x);
        }
}

int proposals_new(Proposals **ret, const ProposalsOptions *options) {
        Proposals *p = NEW0(Proposals, 1);

        if (!p)
                return -ENOMEM;
        p->options = *options;
        p->pump = (Deferred) { .run = on_pump, .userdata = p };
        p->answer = (Deferred) { .run = on_answer, .userdata = p };
        p->sweep = (Timer) { .fire = on_sweep, .userdata = p };
        if (options->peers) {
                peers_handle(options->peers, PEER_PROPOSE, on_propose, p);
                peers_handle(options->peers, PEER_PROPOSE_LATER, on_propose, p);
                peers_handle(options->peers, PEER_PROPOSED, on_proposed, p);
        }
        *ret = p;
        return 0;
}

Proposals *proposals_free(Proposals *p) {
        if (!p)
                return NULL;
        drop_foreign(p);
        assert(!p->own);
        if (p->options.peers) {
                peers_handle(p->options.peers, PEER_PROPOSE, NULL, NULL);
                peers_handle(p->options.peers, PEER_PROPOSE_LATER, NULL, NULL);
                peers_handle(p->options.peers, PEER_PROPOSED, NULL, NULL);
        }
        deferred_cancel(&p->pump);
        deferred_cancel(&p->answer);
        timer_stop(&p->sweep);
        free(p);
        return NULL;
}
