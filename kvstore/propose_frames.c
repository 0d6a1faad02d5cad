/* Proposals between hosts: frames to the leader, and its replies. */
#include "kvstore/propose_internal.h"

/* -- To the leader -- */

/* Of a frame. The sender of each command follows it from KV_LEVEL_IDENTITY on: all hosts can read it then. */
enum {
        FRAME_AGAIN = 1 << 0,
        FRAME_PRINCIPALS = 1 << 1,
        FRAME_MACHINE = 1 << 2, /* the commands are of an attached host, whose machine ID follows the flags */
};

static unsigned frame_principals(const Proposals *p) {
        return kv_level(p->options.store) >= KV_LEVEL_IDENTITY ? FRAME_PRINCIPALS : 0;
}

/* 'x' is one of the proposals that follow, which have its origin; NULL: none follows. */
static void write_frame_head(Proposals *p, Writer *w, uint64_t leader, uint64_t term, unsigned flags,
                             const Proposal *x, size_t n) {
        replica_write_head(p->options.replica, w, leader);
        write_u64(w, term);
        write_u64(w, x ? x->item.origin : p->options.origin);
        write_u64(w, x ? proposal_acknowledged(p, x) : proposals_acknowledged(p));
        write_u8(w, (uint8_t) (flags | (x && x->machine ? FRAME_MACHINE : 0)));
        if (x && x->machine)
                write_string(w, x->machine);
        write_varint(w, n);
}

static void write_item(Writer *w, const Proposal *x, unsigned flags, bool with_command) {
        write_u64(w, x->item.number);
        write_u64(w, x->item.deadline_ms);
        write_blob(w, x->item.command, with_command ? x->item.command_size : 0);
        if (flags & FRAME_PRINCIPALS)
                write_blob(w, (const char *) x->item.command + x->item.command_size,
                           with_command ? x->principal : 0);
}

bool proposals_send_frame(Proposals *p, uint64_t leader, uint64_t term) {
        _cleanup_writer_ Writer w = {}, items = {};
        uint64_t cluster_ms = proposals_known_ms(p);
        unsigned flags = frame_principals(p);
        Proposal *x, *end, *first = TAILQ_FIRST(&p->queue);
        size_t n = 0;

        if (cluster_ms == 0) { /* a frame without commands requests it */
                write_frame_head(p, &w, leader, term, 0, NULL, 0);
                (void) replica_send(p->options.replica, leader, PEER_PROPOSE, &w);
                return false;
        }
        for (x = first;
             x && n < FRAME_COMMANDS_MAX && x->later == first->later && x->item.origin == first->item.origin;
             x = TAILQ_NEXT(x, entry), n++) {
                if (n > 0 && items.size + x->item.command_size > KV_BATCH_MAX)
                        break;
                proposal_stamp(x, cluster_ms);
                flags |= x->copies > 0 ? FRAME_AGAIN : 0;
                write_item(&items, x, flags, true);
        }
        end = x;

        write_frame_head(p, &w, leader, term, flags, first, n);
        write_raw(&w, items.bytes, items.size);
        if (items.error < 0 || replica_send(p->options.replica, leader,
                                            first->later ? PEER_PROPOSE_LATER : PEER_PROPOSE, &w) < 0)
                return false;

        while ((x = TAILQ_FIRST(&p->queue)) != end)
                proposal_sent(p, x, term);
        return true;
}

/* Request the outcomes of proposals of one origin, from 'x' on. Return the first one of another origin, or
 * NULL. A command without bytes requests its outcome. */
static Proposal *ask_outcomes(Proposals *p, Proposal *x) {
        _cleanup_writer_ Writer w = {}, items = {};
        uint64_t now = loop_now_ms(p->options.loop),
                 wait = replica_is_open(p->options.replica) ? PROPOSE_ASK_MS : SWEEP_MS;
        unsigned flags = frame_principals(p);
        const Proposal *first = x;
        size_t n = 0;

        for (; x && n < FRAME_COMMANDS_MAX && x->item.origin == first->item.origin; x = x->hh.next) {
                if (x->state != PROPOSAL_ACCEPTED || x->once || now - x->sent_ms < wait)
                        continue;
                x->sent_ms = now - wait + MIN(wait, (uint64_t) ASK_AGAIN_MS);
                write_item(&items, x, flags, false);
                n++;
        }
        if (n == 0)
                return x;
        write_frame_head(p, &w, p->leader, p->term, flags | FRAME_AGAIN, first, n);
        write_raw(&w, items.bytes, items.size);
        if (items.error == 0)
                (void) replica_send(p->options.replica, p->leader, PEER_PROPOSE, &w);
        return x;
}

void proposals_ask_outcomes(Proposals *p) {
        Proposal *x = p->own;

        while (x)
                x = ask_outcomes(p, x);
}

/* -- The leader's side -- */

/* The receiver of a reply, and what the head of the reply repeats of its frame. */
typedef struct ReplyTo {
        PeerSession *session;
        uint64_t from, term, origin, now_ms; /* now_ms: cluster time */
} ReplyTo;

/* A received frame, and the replies to it by their outcome. */
typedef struct Asked {
        Proposals *p;
        ReplyTo to;
        uint64_t acknowledged;
        bool later;          /* the commands yield */
        bool here, again;    /* this host leads in that term; some commands were sent before, to this host or
                                another */
        bool principals;     /* follow the commands */
        const char *machine; /* of the attached host; NULL: of the host that sent the frame */
        ReplyBody bodies[_PROPOSED_MAX];
} Asked;

static void reply(Proposals *p, const ReplyTo *to, ProposedWhat what, KvStatus status, const char *cause,
                  const ReplyBody *body) {
        _cleanup_writer_ Writer w = {};

        replica_write_head(p->options.replica, &w, to->from);
        write_u64(&w, to->term);
        write_u64(&w, to->origin);
        write_u64(&w, to->now_ms);
        write_u8(&w, (uint8_t) what);
        write_u8(&w, (uint8_t) status);
        write_string(&w, cause);
        write_varint(&w, body->n);
        write_raw(&w, body->bytes.bytes, body->bytes.size);
        if (w.error == 0 && body->bytes.error == 0)
                (void) peer_reply(to->session, PEER_PROPOSED, w.bytes, w.size);
}

static void reply_add(ReplyBody *body, uint64_t number) {
        write_u64(&body->bytes, number);
        body->n++;
}

static void reply_refused(Proposals *p, const ReplyTo *to, uint64_t number, KvStatus status,
                          const char *cause) {
        ReplyBody body = {};

        reply_add(&body, number);
        reply(p, to, PROPOSED_REFUSED, status, cause, &body);
        writer_done(&body.bytes);
}

/* Reply on the session of an earlier frame. A host whose session has ended sends the command again. */
static bool reply_find_session(Proposals *p, uint64_t session, uint64_t from, uint64_t origin, ReplyTo *ret) {
        *ret = (ReplyTo) { .session = peers_session(p->options.peers, session),
                           .from = from,
                           .term = replica_term(p->options.replica),
                           .origin = origin,
                           .now_ms = kv_clock_ms(p->options.store) };
        return ret->session;
}

void proposals_report_rejected(Proposals *p, const Proposal *x, KvStatus status, const char *cause) {
        ReplyTo to;

        if (reply_find_session(p, x->session, x->from, x->item.origin, &to))
                reply_refused(p, &to, x->item.number, status, cause);
}

void proposals_flush_accepted(Proposals *p) {
        ReplyTo to;

        if (p->accepted.body.n > 0 &&
            reply_find_session(p, p->accepted.session, p->accepted.from, p->accepted.origin, &to))
                reply(p, &to, PROPOSED_ACCEPTED, KV_OK, "", &p->accepted.body);
        writer_done(&p->accepted.body.bytes);
        p->accepted.body = (ReplyBody) {};
}

void proposals_say_accepted(Proposals *p, const Proposal *x) {
        if (x->session != p->accepted.session || x->item.origin != p->accepted.origin ||
            p->accepted.body.n == FRAME_COMMANDS_MAX)
                proposals_flush_accepted(p);
        p->accepted.from = x->from;
        p->accepted.session = x->session;
        p->accepted.origin = x->item.origin;
        reply_add(&p->accepted.body, x->item.number);
}

/* Check the rights of the host that sent the command. A frame without principals is of a host whose tree has
 * not reached the feature level yet: it is taken for the host itself, which has all its rights. */
static int check_foreign(const Asked *a, KvBytes principal, const KvCommand *cmd, Error *err) {
        const Proposals *p = a->p;
        const char *sender;

        if (!p->options.check || kv_level(p->options.store) < KV_LEVEL_IDENTITY)
                return 0;
        sender = peer_handshake(a->to.session)->machine_id;
        return p->options.check(p->options.userdata, a->machine ? sender : NULL, a->machine ?: sender,
                                principal, cmd, err);
}

/* Enqueue another host's command; check its format here, too. 0: a later turn estimates it, and replies then.
 */
static int take_foreign(const Asked *a, const Proposal *like, KvBytes principal, KvStatus *ret_status,
                        Error *err) {
        Proposals *p = a->p;
        _cleanup_free_ void *arena = NULL;
        size_t size = like->item.command_size;
        uint64_t cost = 0;
        KvCommand cmd;
        Proposal *x;
        void *copy;
        int r;

        *ret_status = KV_FORBIDDEN;
        r = kv_command_decode(like->item.command, size, &cmd, &arena);
        if (r < 0)
                return error_set(err, r, "the leader cannot read this command: %s", strerror(-r));
        TRY(kv_command_check(&cmd, ret_status, err));
        if (*ret_status != KV_OK)
                return -EINVAL;
        r = check_foreign(a, principal, &cmd, err);
        if (r < 0) {
                *ret_status = r == -EBUSY ? KV_BUSY : KV_FORBIDDEN;
                return r;
        }
        if (loop_has_budget(p->options.loop))
                r = proposals_check(p, &cmd, &cost, ret_status, err);
        if (r < 0)
                return r;

        x = NEW0(Proposal, 1);
        copy = malloc(size);
        if (!x || !copy) {
                free(x);
                free(copy);
                return -ENOMEM;
        }
        *x = *like;
        x->item.command = memcpy(copy, like->item.command, size);
        x->foreign = true;
        p->n_foreign++;
        p->foreign_bytes += size;
        proposals_take(p, x, &cmd, cost);
        return cost > 0;
}

/* Reply with the outcome of a command that was sent before. True: the reply has it, or no proposer waits for
 * it, or the reply is full, and the host requests it again. An item without a command requests nothing else.
 */
static bool tell_outcome(Asked *a, Dedup *results, const KvBatchItem *item) {
        ReplyBody *done = &a->bodies[PROPOSED_DONE];
        CachedResult kept;
        int verdict;

        if (!results->txn || item->deadline_ms == 0)
                return false;
        verdict = dedup_judge(results, item, &kept);
        if (verdict == DEDUP_LATE && item->command_size == 0)
                reply_add(&a->bodies[PROPOSED_PAST], item->number);
        if (verdict != DEDUP_KEPT)
                return verdict == DEDUP_PASSED;
        if (done->bytes.size + kept.bytes.size > FRAME_ANSWERS_MAX && done->n > 0)
                return true;
        reply_add(done, item->number);
        write_u64(&done->bytes, kept.entry);
        write_u64(&done->bytes, kept.term);
        write_u64(&done->bytes, kept.now_ms);
        write_blob(&done->bytes, kept.bytes.data, kept.bytes.size);
        return true;
}

static ProposedWhat take_one(Asked *a, Dedup *results, const Proposal *like, KvBytes principal) {
        size_t size = like->item.command_size;
        Proposals *p = a->p;
        Error err = {};
        KvStatus status;
        int r;

        if (!a->here)
                return PROPOSED_NOT_LEADER;
        if (tell_outcome(a, results, &like->item) || size == 0)
                return _PROPOSED_MAX;
        if (like->item.deadline_ms > 0 && like->item.deadline_ms < a->to.now_ms + PROPOSE_LIFE_MS / 2)
                return PROPOSED_LATE;
        if (p->n_foreign >= PROPOSE_MAX || p->foreign_bytes + size > PROPOSE_BYTES_MAX)
                return PROPOSED_BUSY;
        if (proposals_full(p) && !a->again && like->item.deadline_ms > 0 &&
            !proposals_gives_room(p, like->item.origin, like->item.acknowledged))
                return PROPOSED_BUSY;
        r = take_foreign(a, like, principal, &status, &err);
        if (r < 0 && r != -ENOMEM) {
                reply_refused(p, &a->to, like->item.number, status, error_text(&err, r));
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
                Proposal like = { .item = { .origin = a->to.origin,
                                            .acknowledged = a->acknowledged,
                                            .number = read_u64(r) },
                                  .from = a->to.from,
                                  .session = peer_number(a->to.session),
                                  .later = a->later };
                KvBytes principal = {};
                ProposedWhat what;

                like.item.deadline_ms = read_u64(r);
                like.item.command = read_blob(r, KV_COMMAND_MAX, &like.item.command_size);
                if (a->principals)
                        principal.data = read_blob(r, KV_PRINCIPAL_MAX, &principal.size);
                if (r->failed)
                        return;
                if (like.item.number < a->acknowledged)
                        continue;
                what = take_one(a, results, &like, principal);
                if (what != _PROPOSED_MAX)
                        reply_add(&a->bodies[what], like.item.number);
        }
}

/* No command with an earlier deadline takes effect after this state of the tree: once all of the log is
 * applied, the next entry carries the current time. */
static uint64_t judged_ms(const Asked *a, TreeTxn *txn) {
        TreeMeta meta;

        if (a->p->n_window == 0)
                return a->to.now_ms;
        return tree_meta(txn, &meta) >= 0 ? meta.cluster_ms : 0;
}

static void answer_asked(Asked *a, Reader *r, uint64_t n) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_(dedup_done) Dedup results = {};

        if (a->again && kv_read(a->p->options.store, &txn) >= 0)
                results = (Dedup) { .txn = txn, .cluster_ms = judged_ms(a, txn) };
        take_all(a, &results, r, n);
}

void proposals_on_propose(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size) {
        Proposals *p = userdata;
        Asked a = { .p = p, .to.session = session, .later = type == PEER_PROPOSE_LATER };
        const char *busy = "the leader's queue is full";
        Reader r = reader_over(payload, size);
        _cleanup_free_ char *machine = NULL;
        unsigned flags;
        uint64_t n;

        if (!replica_read_head(p->options.replica, session, &r, &a.to.from))
                return;
        a.to.term = read_u64(&r);
        a.to.origin = read_u64(&r);
        a.acknowledged = read_u64(&r);
        flags = read_u8(&r);
        a.again = flags & FRAME_AGAIN;
        a.principals = flags & FRAME_PRINCIPALS;
        if (flags & FRAME_MACHINE)
                a.machine = machine = read_string(&r, MACHINE_ID_SIZE - 1);
        n = read_varint(&r);
        if (r.failed || n > FRAME_COMMANDS_MAX || a.to.origin == 0 || a.acknowledged == 0)
                return;

        a.here = replica_is_leader(p->options.replica) && replica_term(p->options.replica) == a.to.term;
        a.to.now_ms = a.here ? kv_clock_ms(p->options.store) : proposals_known_ms(p);
        answer_asked(&a, &r, n);
        if (proposals_full(p)) {
                busy = PROPOSALS_FULL;
                loop_defer(p->options.loop, &p->pump);
        }
        for (ProposedWhat what = 0; what < _PROPOSED_MAX; what++) {
                if (a.bodies[what].n > 0 || (n == 0 && a.here && what == PROPOSED_LATE))
                        reply(p, &a.to, what, KV_BUSY, what == PROPOSED_BUSY ? busy : "", &a.bodies[what]);
                writer_done(&a.bodies[what].bytes);
        }
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
                /* Send it with a new deadline, unless a copy with the old one may still take effect. The
                 * deadline of an attached host is not changed here: another replica may have a copy. */
                x->state = PROPOSAL_ACCEPTED;
                if (x->machine)
                        proposals_refuse(p, x, KV_UNKNOWN,
                                         "it has waited for too long on its way to the leader");
                else if (x->copies == 0) {
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
static void on_past(Proposals *p, Proposal *x, uint64_t leader_ms) {
        if (x->state != PROPOSAL_ACCEPTED || x->item.deadline_ms >= leader_ms || x->due_ms > 0)
                return;
        x->due_ms = loop_now_ms(p->options.loop) + PROPOSE_WAIT_MS;
        p->any_due = true;
}

static void read_done(Proposals *p, uint64_t origin, Reader *r, uint64_t n, Applied *answers) {
        for (uint64_t i = 0; i < n; i++) {
                uint64_t number = read_u64(r);
                CachedResult kept = { .entry = read_u64(r) };
                Proposal *x;

                kept.term = read_u64(r);
                kept.now_ms = read_u64(r);
                kept.bytes.data = read_blob(r, PEER_FRAME_MAX, &kept.bytes.size);
                x = proposals_find(p, origin, number);
                if (r->failed)
                        return;
                /* This daemon's components write much, and read the tree without the bound: it stays readable
                 * while the replica has stopped. A result that is skipped is requested again, or unknown in
                 * the end. */
                if (x && x->state != PROPOSAL_ANSWERED && x->copies > 0)
                        proposals_add_kept(p, x, &kept, !x->internal || replica_is_open(p->options.replica),
                                           answers);
        }
}

void proposals_on_proposed(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Proposals *p = userdata;
        Reader r = reader_over(payload, size);
        _cleanup_free_ char *cause = NULL;
        uint64_t from, term, origin, leader_ms, n;
        uint8_t what, status;

        if (!replica_read_head(p->options.replica, session, &r, &from))
                return;
        term = read_u64(&r);
        origin = read_u64(&r);
        leader_ms = read_u64(&r);
        what = read_u8(&r);
        status = read_u8(&r);
        cause = read_string(&r, ERROR_MESSAGE_MAX);
        n = read_varint(&r);
        if (r.failed || what >= _PROPOSED_MAX || status >= _KV_STATUS_MAX || n > FRAME_COMMANDS_MAX)
                return;
        if (leader_ms > proposals_known_ms(p)) {
                p->leader_ms = leader_ms;
                p->leader_at_ms = loop_now_ms(p->options.loop);
                proposals_pump(p);
        }

        if (what == PROPOSED_DONE) {
                Applied answers = { .any_origin = true };

                read_done(p, origin, &r, n, &answers);
                proposals_results(p, &answers);
                applied_clear(&answers);
                return;
        }
        for (uint64_t i = 0; i < n && !r.failed; i++) {
                uint64_t number = read_u64(&r);
                Proposal *x;

                x = proposals_find(p, origin, number);
                if (r.failed || !x || x->term != term)
                        continue;
                if (what == PROPOSED_PAST)
                        on_past(p, x, leader_ms);
                else if (x->state == PROPOSAL_SENT)
                        on_said(p, x, (ProposedWhat) what, (KvStatus) status, cause);
        }
        proposals_keep_time(p);
}
