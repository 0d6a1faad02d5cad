/* Proposals between hosts: frames to the leader, and its replies. */
#include "kvstore/propose_internal.h"

#include <errno.h>

/* -- To the leader -- */

static void write_frame_head(Proposals *p, Writer *w, uint64_t leader, uint64_t term, bool again, size_t n) {
        replica_write_head(p->options.replica, w, leader);
        write_u64(w, term);
        write_u64(w, p->options.origin);
        write_u64(w, proposals_floor(p));
        write_u8(w, again);
        write_varint(w, n);
}

static void write_item(Writer *w, const Proposal *x, const void *bytes, size_t size) {
        write_u64(w, x->number);
        write_u64(w, x->deadline_ms);
        write_blob(w, bytes, size);
}

/* A frame without commands requests the cluster time. */
static void ask_time(Proposals *p, uint64_t leader, uint64_t term) {
        _cleanup_writer_ Writer w = {};

        write_frame_head(p, &w, leader, term, false, 0);
        (void) replica_send(p->options.replica, leader, PEER_PROPOSE, &w);
}

bool proposals_send_frame(Proposals *p, uint64_t leader, uint64_t term) {
        _cleanup_writer_ Writer w = {}, items = {};
        uint64_t cluster_ms = proposals_known_ms(p), now = loop_now_ms(p->options.loop);
        Proposal *x, *end;
        bool again = false;
        size_t n = 0;

        if (cluster_ms == 0) {
                ask_time(p, leader, term);
                return false;
        }
        for (x = TAILQ_FIRST(&p->queue);
             x && n < FRAME_COMMANDS_MAX && x->later == TAILQ_FIRST(&p->queue)->later;
             x = TAILQ_NEXT(x, entry), n++) {
                if (n > 0 && items.size + x->size > KV_BATCH_MAX)
                        break;
                proposal_stamp(x, cluster_ms);
                again |= x->copies > 0;
                write_item(&items, x, x->bytes, x->size);
        }
        end = x;

        write_frame_head(p, &w, leader, term, again, n);
        write_raw(&w, items.bytes, items.size);
        if (items.error < 0 ||
            replica_send(p->options.replica, leader,
                         TAILQ_FIRST(&p->queue)->later ? PEER_PROPOSE_LATER : PEER_PROPOSE, &w) < 0)
                return false;

        while ((x = TAILQ_FIRST(&p->queue)) != end) {
                TAILQ_REMOVE(&p->queue, x, entry);
                x->state = PROPOSAL_SENT;
                x->term = term;
                x->sent_ms = now;
                x->copies++;
                if (x->copies == 1)
                        x->due_ms = now + PROPOSE_WAIT_MS;
        }
        return true;
}

/* A command without bytes requests its outcome. */
void proposals_ask_outcomes(Proposals *p) {
        _cleanup_writer_ Writer w = {}, items = {};
        uint64_t now = loop_now_ms(p->options.loop),
                 wait = replica_is_open(p->options.replica) ? PROPOSE_ASK_MS : SWEEP_MS;
        size_t n = 0;

        for (Proposal *x = p->own; x && n < FRAME_COMMANDS_MAX; x = x->hh.next) {
                if (x->state != PROPOSAL_ACCEPTED || x->once || now - x->sent_ms < wait)
                        continue;
                x->sent_ms = now - wait + MIN(wait, (uint64_t) ASK_AGAIN_MS);
                write_item(&items, x, NULL, 0);
                n++;
        }
        if (n == 0)
                return;
        write_frame_head(p, &w, p->leader, p->term, true, n);
        write_raw(&w, items.bytes, items.size);
        if (items.error == 0)
                (void) replica_send(p->options.replica, p->leader, PEER_PROPOSE, &w);
}

/* -- The leader's side -- */

/* A received frame, and the replies to it: numbers by their outcome, and results. */
typedef struct Asked {
        Proposals *p;
        PeerSession *session;
        uint64_t from, term, origin, floor;
        uint64_t now_ms;  /* cluster time */
        bool later;       /* the commands yield */
        bool here, again; /* this host leads in that term; some commands were sent before, to this host or
                             another */
        uint64_t numbers[_PROPOSED_MAX][FRAME_COMMANDS_MAX];
        size_t n[_PROPOSED_MAX];
        Writer done;
} Asked;

/* A reply to the host that proposed: an outcome of these numbers, or their results. */
typedef struct Reply {
        uint64_t from, term, origin, now_ms;
        ProposedWhat what;
        KvStatus status;
        const char *cause;
        const uint64_t *numbers; /* NULL: they are in 'answers' */
        size_t n;
        const Writer *answers;
} Reply;

static void reply_proposed(Proposals *p, PeerSession *session, const Reply *reply) {
        _cleanup_writer_ Writer w = {};

        replica_write_head(p->options.replica, &w, reply->from);
        write_u64(&w, reply->term);
        write_u64(&w, reply->origin);
        write_u64(&w, reply->now_ms);
        write_u8(&w, (uint8_t) reply->what);
        write_u8(&w, (uint8_t) reply->status);
        write_string(&w, reply->cause);
        write_varint(&w, reply->n);
        for (size_t i = 0; reply->numbers && i < reply->n; i++)
                write_u64(&w, reply->numbers[i]);
        if (reply->answers)
                write_raw(&w, reply->answers->bytes, reply->answers->size);
        if (w.error == 0 && (!reply->answers || reply->answers->error == 0))
                (void) peer_reply(session, PEER_PROPOSED, w.bytes, w.size);
}

static void reply_asked(Asked *a, ProposedWhat what, KvStatus status, const char *cause) {
        bool done = what == PROPOSED_DONE;

        reply_proposed(a->p, a->session,
                       &(Reply) { .from = a->from,
                                  .term = a->term,
                                  .origin = a->origin,
                                  .now_ms = a->now_ms,
                                  .what = what,
                                  .status = status,
                                  .cause = cause,
                                  .numbers = done ? NULL : a->numbers[what],
                                  .n = a->n[what],
                                  .answers = done ? &a->done : NULL });
}

/* Reply on the session of the frame; a host whose session has ended sends the command again. */
static void reply_later(Proposals *p, uint64_t number, Reply *reply) {
        PeerSession *session = peers_session(p->options.peers, number);

        reply->term = replica_term(p->options.replica);
        reply->now_ms = kv_clock_ms(p->options.store);
        if (session)
                reply_proposed(p, session, reply);
}

void proposals_say_refused(Proposals *p, const Proposal *x, KvStatus status, const char *cause) {
        reply_later(p, x->session,
                    &(Reply) { .from = x->from,
                               .origin = x->origin,
                               .what = PROPOSED_REFUSED,
                               .status = status,
                               .cause = cause,
                               .numbers = &x->number,
                               .n = 1 });
}

void proposals_flush_accepted(Proposals *p) {
        if (p->accepted.n > 0)
                reply_later(p, p->accepted.session,
                            &(Reply) { .from = p->accepted.from,
                                       .origin = p->accepted.origin,
                                       .what = PROPOSED_ACCEPTED,
                                       .cause = "",
                                       .numbers = p->accepted.numbers,
                                       .n = p->accepted.n });
        p->accepted.n = 0;
}

void proposals_say_accepted(Proposals *p, const Proposal *x) {
        if (x->session != p->accepted.session || x->origin != p->accepted.origin ||
            p->accepted.n == FRAME_COMMANDS_MAX)
                proposals_flush_accepted(p);
        p->accepted.from = x->from;
        p->accepted.session = x->session;
        p->accepted.origin = x->origin;
        p->accepted.numbers[p->accepted.n++] = x->number;
}

/* Enqueue another host's command; check its format here, too. 0: a later turn estimates it, and replies then.
 */
static int take_foreign(Proposals *p, const Proposal *like, const void *bytes, size_t size,
                        KvStatus *ret_status, Error *err) {
        _cleanup_free_ void *arena = NULL;
        uint64_t cost = 0;
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
        if (loop_has_budget(p->options.loop))
                r = proposals_check(p, &cmd, &cost, ret_status, err);
        if (r < 0)
                return r;

        x = NEW0(Proposal, 1);
        if (!x || !(x->bytes = malloc(size))) {
                free(x);
                return -ENOMEM;
        }
        x->origin = like->origin;
        x->number = like->number;
        x->floor = like->floor;
        x->from = like->from;
        x->session = like->session;
        x->deadline_ms = like->deadline_ms;
        memcpy(x->bytes, bytes, size);
        x->size = size;
        x->foreign = true;
        x->later = like->later;
        x->large = !cmd.internal && size > PROPOSE_SMALL_MAX;
        x->ours = cmd.internal;
        x->cost = cost;
        if (cost > 0)
                budget_take(&p->budget, &cmd, cost);
        p->n_foreign++;
        p->foreign_bytes += size;
        proposals_enqueue(p, x);
        loop_defer(p->options.loop, &p->pump);
        return cost > 0;
}

/* Reply with the outcome of a command that was sent before. True: the reply has it, or no proposer waits for
 * it, or the reply is full, and the host requests it again. 'only': the frame requests nothing else. */
static bool tell_outcome(Asked *a, Dedup *results, const Proposal *like, bool only) {
        KvBatchItem item = { .origin = like->origin,
                             .number = like->number,
                             .floor = like->floor,
                             .deadline_ms = like->deadline_ms };
        CachedResult kept;
        int verdict;

        if (!results || like->deadline_ms == 0)
                return false;
        verdict = dedup_judge(results, &item, &kept);
        if (verdict == DEDUP_LATE && only)
                a->numbers[PROPOSED_PAST][a->n[PROPOSED_PAST]++] = like->number;
        if (verdict != DEDUP_KEPT)
                return verdict == DEDUP_PASSED;
        if (a->done.size + kept.bytes.size > FRAME_ANSWERS_MAX && a->n[PROPOSED_DONE] > 0)
                return true;
        a->n[PROPOSED_DONE]++;
        write_u64(&a->done, like->number);
        write_u64(&a->done, kept.entry);
        write_u64(&a->done, kept.term);
        write_u64(&a->done, kept.now_ms);
        write_blob(&a->done, kept.bytes.data, kept.bytes.size);
        return true;
}

static ProposedWhat take_one(Asked *a, Dedup *results, const Proposal *like, const void *bytes, size_t size) {
        Proposals *p = a->p;
        Error err = {};
        KvStatus status;
        int r;

        if (!a->here)
                return PROPOSED_NOT_LEADER;
        if (tell_outcome(a, results, like, size == 0) || size == 0)
                return _PROPOSED_MAX;
        if (like->deadline_ms > 0 && like->deadline_ms < a->now_ms + PROPOSE_LIFE_MS / 2)
                return PROPOSED_LATE;
        if (p->n_foreign >= PROPOSE_MAX || p->foreign_bytes + size > PROPOSE_BYTES_MAX)
                return PROPOSED_BUSY;
        if (proposals_full(p) && !a->again && like->deadline_ms > 0 &&
            !proposals_gives_room(p, like->origin, like->floor))
                return PROPOSED_BUSY;
        r = take_foreign(p, like, bytes, size, &status, &err);
        if (r < 0 && r != -ENOMEM) {
                a->numbers[PROPOSED_REFUSED][0] = like->number;
                a->n[PROPOSED_REFUSED] = 1;
                reply_asked(a, PROPOSED_REFUSED, status, error_text(&err, r));
                return _PROPOSED_MAX;
        }
        if (r < 0)
                return PROPOSED_BUSY;
        return r == 0 ? _PROPOSED_MAX : PROPOSED_ACCEPTED;
}

/* Commands before the end of a truncated frame stay in the queue: apply answers them, or the host sends them
 * again. */
static void take_all(Asked *a, Dedup *results, Reader *r, uint64_t n) {
        for (uint64_t i = 0; i < n; i++) {
                Proposal like = { .origin = a->origin,
                                  .floor = a->floor,
                                  .from = a->from,
                                  .session = peer_number(a->session),
                                  .later = a->later,
                                  .number = read_u64(r) };
                const void *bytes;
                ProposedWhat what;
                size_t size;

                like.deadline_ms = read_u64(r);
                bytes = read_blob(r, KV_COMMAND_MAX, &size);
                if (r->failed || like.number < a->floor)
                        return;
                what = take_one(a, results, &like, bytes, size);
                if (what != _PROPOSED_MAX)
                        a->numbers[what][a->n[what]++] = like.number;
        }
}

/* No command with an earlier deadline takes effect after this state of the tree: once all of the log is
 * applied, the next entry carries the current time. */
static uint64_t judged_ms(const Asked *a, TreeTxn *txn) {
        TreeMeta meta;

        if (a->p->n_window == 0)
                return a->now_ms;
        return tree_meta(txn, &meta) >= 0 ? meta.cluster_ms : 0;
}

static void answer_asked(Asked *a, Reader *r, uint64_t n) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_(dedup_freep) Dedup *results = NULL;

        if (a->again && kv_read(a->p->options.store, &txn) >= 0)
                (void) dedup_new(&results, txn, 0, 0, judged_ms(a, txn));
        take_all(a, results, r, n);
}

static const char *busy_cause(const Proposals *p) {
        return proposals_full(p) ? PROPOSALS_FULL : "the leader's queue is full";
}

void proposals_on_propose(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size) {
        Proposals *p = userdata;
        Reader r = reader_over(payload, size);
        Asked a;
        uint64_t n;

        if (!replica_read_head(p->options.replica, session, &r, &a.from))
                return;
        a.p = p;
        a.session = session;
        a.term = read_u64(&r);
        a.origin = read_u64(&r);
        a.floor = read_u64(&r);
        a.again = read_u8(&r);
        a.later = type == PEER_PROPOSE_LATER;
        a.done = (Writer) {};
        memset(a.n, 0, sizeof(a.n));
        n = read_varint(&r);
        if (r.failed || n > FRAME_COMMANDS_MAX || a.origin == 0 || a.floor == 0)
                return;

        a.here = replica_is_leader(p->options.replica) && replica_term(p->options.replica) == a.term;
        a.now_ms = a.here ? kv_clock_ms(p->options.store) : proposals_known_ms(p);
        answer_asked(&a, &r, n);
        if (proposals_full(p))
                loop_defer(p->options.loop, &p->pump);
        for (ProposedWhat what = 0; what < _PROPOSED_MAX; what++)
                if ((a.n[what] > 0 && what != PROPOSED_REFUSED) ||
                    (n == 0 && a.here && what == PROPOSED_LATE))
                        reply_asked(&a, what, KV_BUSY, what == PROPOSED_BUSY ? busy_cause(p) : "");
        writer_done(&a.done);
}

/* A copy that was sent cannot take effect any more. */
static void copy_is_gone(Proposal *x) {
        x->copies -= x->copies > 0;
}

/* A host of another version may send a refusal without a status. */
static KvStatus refused_status(ProposedWhat what, KvStatus status) {
        if (what == PROPOSED_BUSY)
                return KV_BUSY;
        return status == KV_OK ? KV_FORBIDDEN : status;
}

static void on_said(Proposals *p, Proposal *x, ProposedWhat what, KvStatus status, const char *cause) {
        switch (what) {
        case PROPOSED_ACCEPTED:
                x->state = PROPOSAL_ACCEPTED;
                /* The loss of the leader has set a limit of its own. */
                if (p->term == x->term && p->leader != 0)
                        x->due_ms = 0;
                break;
        case PROPOSED_NOT_LEADER:
                copy_is_gone(x);
                proposals_enqueue(p, x); /* sent by the sweep, or when the leader is known */
                break;
        case PROPOSED_LATE:
                copy_is_gone(x);
                /* Send it with a new deadline, unless a copy with the old one may still take effect. */
                x->state = PROPOSAL_ACCEPTED;
                if (x->copies == 0) {
                        proposals_enqueue(p, x);
                        loop_defer(p->options.loop, &p->pump);
                }
                break;
        case PROPOSED_BUSY:
        case PROPOSED_REFUSED:
                copy_is_gone(x);
                if (x->copies > 0)
                        proposals_enqueue(p, x); /* another copy may have taken effect */
                else
                        proposals_refuse(p, x, refused_status(what, status), cause);
                break;
        default:
                break;
        }
}

/* A command that the leader accepted had no effect, or its result is dropped. This host's own apply may still
 * give the result. */
static void on_past(Proposals *p, Proposal *x, uint64_t said_ms) {
        if (x->state != PROPOSAL_ACCEPTED || x->deadline_ms >= said_ms || x->due_ms > 0)
                return;
        x->due_ms = loop_now_ms(p->options.loop) + PROPOSE_WAIT_MS;
        p->any_due = true;
}

static void read_done(Proposals *p, Reader *r, uint64_t n, Answers *answers) {
        for (uint64_t i = 0; i < n; i++) {
                uint64_t number = read_u64(r);
                CachedResult kept = { .entry = read_u64(r) };
                Proposal *x;

                kept.term = read_u64(r);
                kept.now_ms = read_u64(r);
                kept.bytes.data = read_blob(r, PEER_FRAME_MAX, &kept.bytes.size);
                HASH_FIND(hh, p->own, &number, sizeof(number), x);
                if (r->failed)
                        return;
                if (x && x->state != PROPOSAL_ANSWERED && x->copies > 0) {
                        KvResult *result = proposal_kept_answer(p, x, &kept);

                        /* This daemon's components write much, and read the tree without the bound: it stays
                         * readable while the replica has stopped. */
                        if (result && (!x->ours || replica_is_open(p->options.replica)) &&
                            kv_acknowledge(p->options.store, result->index) < 0) {
                                free(result); /* it is requested again, or unknown in the end */
                                continue;
                        }
                        answers_add(answers, number, result);
                }
        }
}

void proposals_on_proposed(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Proposals *p = userdata;
        Reader r = reader_over(payload, size);
        _cleanup_free_ char *cause = NULL;
        uint64_t from, term, origin, said_ms, n;
        uint8_t what, status;

        if (!replica_read_head(p->options.replica, session, &r, &from))
                return;
        term = read_u64(&r);
        origin = read_u64(&r);
        said_ms = read_u64(&r);
        what = read_u8(&r);
        status = read_u8(&r);
        cause = read_string(&r, ERROR_MESSAGE_MAX);
        n = read_varint(&r);
        if (r.failed || what >= _PROPOSED_MAX || status >= _KV_STATUS_MAX || n > FRAME_COMMANDS_MAX ||
            origin != p->options.origin)
                return;
        if (said_ms > proposals_known_ms(p)) {
                p->said_ms = said_ms;
                p->said_at_ms = loop_now_ms(p->options.loop);
                if (TAILQ_FIRST(&p->queue))
                        loop_defer(p->options.loop, &p->pump);
        }

        if (what == PROPOSED_DONE) {
                Answers answers = {};

                read_done(p, &r, n, &answers);
                answers_give(&answers, p);
                return;
        }
        for (uint64_t i = 0; i < n && !r.failed; i++) {
                uint64_t number = read_u64(&r);
                Proposal *x;

                HASH_FIND(hh, p->own, &number, sizeof(number), x);
                if (r.failed || !x || x->term != term)
                        continue;
                if (what == PROPOSED_PAST)
                        on_past(p, x, said_ms);
                else if (x->state == PROPOSAL_SENT)
                        on_said(p, x, (ProposedWhat) what, (KvStatus) status, cause);
        }
        proposals_keep_time(p);
}
