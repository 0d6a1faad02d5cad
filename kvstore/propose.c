#include "kvstore/propose_internal.h"

static void proposals_on_answer(void *userdata) {
        Proposals *p = userdata;
        Proposal *x;

        while ((x = TAILQ_FIRST(&p->answered))) {
                KvResult result = { .status = x->status, .cause = kv_string(x->cause ? x->cause : "") };

                proposals_answer(p, x, &result);
        }
}

static void proposals_no_leader(Proposals *p, Proposal *x) {
        char cause[128];

        if (x->copies == 0 && !x->internal && !x->once && proposals_relay_is_exhausted(p)) {
                proposals_refuse(p, x, KV_BUSY, PROPOSALS_PACED);
                return;
        }
        kv_problem(p->options.store, cause, sizeof(cause));
        proposals_refuse(p, x, KV_NO_LEADER, cause);
}

/* -- Into the log -- */

/* Check the rights of a sender whose command this host took while another one led: the leader decides, by its
 * view of that moment. */
static int proposals_check_sender(const Proposals *p, const Proposal *x, const KvCommand *cmd,
                                  KvStatus *ret_status, Error *err) {
        const uint8_t *principal = (const uint8_t *) x->item.command + x->item.command_size;
        int r;

        if (x->foreign || x->principal == 0 || !p->options.check ||
            kv_level(p->options.store) < KV_LEVEL_IDENTITY)
                return 0;
        r = p->options.check(p->options.userdata, NULL,
                             x->machine ?: peers_self(p->options.peers)->machine_id,
                             (KvBytes) { principal, x->principal }, cmd, err);
        if (r < 0)
                *ret_status = r == -EACCES || r == -EPERM ? KV_FORBIDDEN : KV_BUSY;
        return r;
}

/* Estimate, once and before it is logged, a command that arrived while this host did not lead, or from
 * another host in a turn without room. False: it is rejected. A command that may have taken effect is never
 * rejected: its estimate is COST_COMMAND_MAX, and apply gives the result. */
static bool proposals_estimate(Proposals *p, Proposal *x) {
        _cleanup_free_ void *arena = NULL;
        KvStatus status = KV_OK;
        Error err = {};
        KvCommand cmd;

        if (x->cost > 0)
                return true;
        p->has_estimated = true;
        if (kv_command_decode(x->item.command, x->item.command_size, &cmd, &arena) < 0) {
                x->cost = COST_COMMAND;
                return true;
        }
        if (x->copies > 0)
                (void) proposals_check_cost(p, &cmd, &x->cost, &status, &err);
        else if ((proposals_check_sender(p, x, &cmd, &status, &err) < 0 ||
                  proposals_check(p, &cmd, &x->cost, &status, &err) < 0) &&
                 status != KV_OK) {
                if (x->foreign) {
                        proposals_report_rejected(p, x, status, err.message);
                        proposals_remove_foreign(p, x);
                } else
                        proposals_refuse(p, x, status, err.message);
                return false;
        }
        x->cost = MAX(x->cost, (uint64_t) COST_COMMAND);
        if (x->foreign)
                proposals_say_accepted(p, x);
        budget_take(&p->budget, &cmd, x->cost);
        return true;
}

/* Estimate what waits for it, as far as this turn has room; at least one. */
static void proposals_estimate_waiting(Proposals *p) {
        Proposal *x, *next;

        TAILQ_FOREACH_SAFE(x, &p->queue, entry, next) {
                if (x->cost == 0 && p->has_estimated && !loop_has_budget(p->options.loop)) {
                        loop_defer(p->options.loop, &p->pump);
                        break;
                }
                (void) proposals_estimate(p, x);
        }
        proposals_flush_accepted(p);
}

/* Select the commands of the next entry, in order, as far as size and cost allow. Skip heavy commands that
 * have to wait. */
static size_t proposals_select(Proposals *p, Proposal *picked[static KV_BATCH_COMMANDS_MAX],
                               uint64_t *ret_heavy) {
        uint64_t cost = 0, wait_ms, now = loop_now_ms(p->options.loop);
        bool allowed = budget_allows(&p->budget, now, &wait_ms);
        size_t n = 0, size = BATCH_OVERHEAD;
        Proposal *x, *next;

        *ret_heavy = 0;
        TAILQ_FOREACH_SAFE(x, &p->queue, entry, next) {
                bool heavy;

                if (x->cost == 0 || n == KV_BATCH_COMMANDS_MAX)
                        break; /* without a cost: estimated in a later turn */
                heavy = budget_is_heavy(x->cost) && !x->internal;
                if (heavy && !allowed) {
                        /* Reject one that has waited too long, as one that arrives while too many wait. */
                        if (!x->foreign && x->copies == 0 && now - x->queued_ms > HEAVY_WAIT_MS)
                                proposals_refuse(p, x, KV_BUSY, BUDGET_BUSY);
                        else if (wait_ms > 0 && !timer_armed(&p->heavy))
                                (void) timer_start(&p->heavy, p->options.loop, wait_ms);
                        continue;
                }
                size += x->item.command_size + ITEM_OVERHEAD;
                cost += x->cost;
                if (n > 0 && (size > KV_BATCH_MAX || cost > COST_ENTRY_MAX))
                        break;
                *ret_heavy += heavy ? x->cost : 0;
                picked[n++] = x;
        }
        return n;
}

/* The command is in the log. */
static void proposals_on_logged(Proposals *p, Proposal *x, uint64_t term) {
        if (x->foreign) {
                proposals_remove_foreign(p, x);
                return;
        }
        TAILQ_REMOVE(&p->queue, x, entry);
        x->state = PROPOSAL_LOGGED;
        x->term = term;
        x->due_ms = 0;
        x->copies++;
}

/* Submit one entry of waiting commands. -EAGAIN: there is none, or the log is full for now. 'empty': submit
 * an entry without commands, too. */
static int proposals_submit(Proposals *p, bool empty) {
        _cleanup_writer_ Writer w = {};
        uint64_t cluster_ms = kv_clock_ms(p->options.store), acknowledged = proposals_acknowledged(p), index,
                 term, heavy;
        Proposal *picked[KV_BATCH_COMMANDS_MAX];
        KvBatch batch;
        size_t n;

        if (cluster_ms == 0)
                return -EAGAIN; /* the entries that carry it are not applied yet */
        n = proposals_select(p, picked, &heavy);
        if (n == 0 && !empty)
                return -EAGAIN; /* heavy commands wait, or were rejected */
        kv_batch_begin(&batch, &w,
                       &(KvBatchHead) { .cluster_ms = cluster_ms,
                                        .quota = p->options.quota,
                                        .level = kv_level(p->options.store),
                                        .quota_nodes = p->options.quota_nodes });
        for (size_t i = 0; i < n; i++) {
                Proposal *x = picked[i];

                proposal_stamp(x, cluster_ms);
                if (!x->foreign && !x->machine)
                        x->item.acknowledged = acknowledged;
                kv_batch_add(&batch, &w, &x->item);
        }
        if (w.error < 0)
                return w.error;

        TRY(replica_submit(p->options.replica, w.bytes, w.size, &index, &term));
        p->window[p->n_window++] = index;
        if (heavy > 0)
                budget_spend(&p->budget, loop_now_ms(p->options.loop), index, heavy);
        for (size_t i = 0; i < n; i++)
                proposals_on_logged(p, picked[i], term);
        return 0;
}

static void proposals_drop_foreign(Proposals *p) {
        Proposal *x, *next;

        TAILQ_FOREACH_SAFE(x, &p->queue, entry, next)
        if (x->foreign)
                proposals_remove_foreign(p, x);
}

/* The deduplication table is full: reject commands of this host unless they release results. An empty entry
 * now and then lets the deadlines of others pass. */
static void proposals_make_room(Proposals *p) {
        uint64_t now = loop_now_ms(p->options.loop);
        bool gives = proposals_gives_room(p, p->options.origin, proposals_acknowledged(p));
        Proposal *x, *next;

        TAILQ_FOREACH_SAFE(x, &p->queue, entry, next)
        if (!gives && !x->foreign && !x->once && x->copies == 0)
                proposals_refuse(p, x, KV_BUSY, PROPOSALS_FULL);
        if (!TAILQ_FIRST(&p->queue) && p->n_window == 0 && now - p->emptied_ms >= DEDUP_SWEEP_MS &&
            proposals_submit(p, true) >= 0)
                p->emptied_ms = now;
}

static void proposals_on_pump(void *userdata) {
        Proposals *p = userdata;
        Replica *replica = p->options.replica;
        uint64_t leader = p->attached ? p->leader : replica_known_leader(replica),
                 now = loop_now_ms(p->options.loop);
        Proposal *x, *next;

        p->has_estimated = false;
        if (replica_is_leader(replica)) {
                proposals_estimate_waiting(p);
                if (proposals_full(p))
                        proposals_make_room(p);
                while (TAILQ_FIRST(&p->queue) && p->n_window < PROPOSE_WINDOW)
                        if (proposals_submit(p, false) < 0)
                                break; /* the log is full, or leadership is being transferred: the end of
                                          either continues here */
                p->budget.waiting = 0;
                for (x = TAILQ_FIRST(&p->queue); x; x = TAILQ_NEXT(x, entry))
                        if (budget_is_heavy(x->cost) && !x->internal)
                                p->budget.waiting += x->cost;
        } else {
                proposals_drop_foreign(p);
                /* The outcome of commands of one term is never requested, and a replica that has stopped does
                 * not learn it. */
                TAILQ_FOREACH_SAFE(x, &p->queue, entry, next) {
                        if (!replica_is_open(replica) && x->once && x->copies == 0)
                                proposals_no_leader(p, x);
                }
                while (TAILQ_FIRST(&p->queue) && leader != 0)
                        if (!(p->attached ? proposals_send_relay(p) :
                                            proposals_send_frame(p, leader, replica_known_term(replica))))
                                break; /* no session yet: the sweep tries again */
        }

        /* What could not be sent waits for PROPOSE_WAIT_MS. */
        for (x = TAILQ_FIRST(&p->queue); x; x = TAILQ_NEXT(x, entry))
                if (x->due_ms == 0 && !x->foreign && !replica_is_leader(replica))
                        x->due_ms = now + PROPOSE_WAIT_MS;
        proposals_keep_time(p);
}

static void proposals_on_sweep(void *userdata) {
        Proposals *p = userdata;
        uint64_t now = loop_now_ms(p->options.loop);
        bool asks = false;
        Proposal *x, *next;

        p->any_due = false;
        HASH_ITER(hh, p->own, x, next) {
                if (x->state == PROPOSAL_ANSWERED)
                        continue;
                if (x->due_ms > 0 && x->due_ms <= now) {
                        /* Its time is over. It certainly had no effect only if no leader ever took it. */
                        if (x->copies > 0)
                                proposals_unknown(p, x);
                        else if (x->state != PROPOSAL_QUEUED || !replica_is_leader(p->options.replica))
                                proposals_no_leader(p, x);
                } else if (x->state == PROPOSAL_SENT && !x->once && now - x->sent_ms >= RESEND_MS &&
                           x->copies < COPIES_MAX)
                        proposals_enqueue(p, x);
                else if (x->state == PROPOSAL_ACCEPTED)
                        asks = true;
                p->any_due |= x->due_ms > now;
        }
        if (p->attached)
                proposals_relay_elsewhere(p);
        else if (asks && p->leader != 0 && !p->lead)
                proposals_ask_outcomes(p);
        proposals_pump(p);
        proposals_keep_time(p);
}

/* -- The leader is another one, or the same in a later term -- */

/* Repeat all proposals to the next leader, in their order and before the queued ones. */
static void leader_changed(Proposals *p) {
        uint64_t due = loop_now_ms(p->options.loop) + PROPOSE_WAIT_MS;
        Proposal *after = NULL;

        for (Proposal *x = p->own; x; x = x->hh.next) {
                if (x->state == PROPOSAL_ANSWERED)
                        continue;
                if (x->due_ms == 0 || x->due_ms > due)
                        x->due_ms = due;
                x->elsewhere = false;
                p->any_due = true;
                if (x->state == PROPOSAL_QUEUED || x->once || x->copies >= COPIES_MAX)
                        continue;
                x->state = PROPOSAL_QUEUED;
                proposal_insert(&p->queue, after, x);
                after = x;
        }
        proposals_keep_time(p);
}

void proposals_drop_relayed(Proposals *p) {
        Proposal *x, *next;

        HASH_ITER(hh, p->own, x, next) {
                if (x->machine)
                        proposals_remove(p, x);
        }
}

void proposals_attach(Proposals *p, bool attached, uint64_t session) {
        bool changed = p->attached != attached || p->term != session;

        if (!attached && !p->attached)
                return;
        if (attached && !p->attached)
                proposals_drop_relayed(p);
        p->attached = attached;
        p->leader = session != 0;
        p->term = session;
        p->lead = false;
        if (changed)
                leader_changed(p);
        proposals_pump(p);
        proposals_keep_time(p);
}

void proposals_on_input(Proposals *p, unsigned changed, uint64_t applied) {
        size_t n = 0;

        for (size_t i = 0; i < p->n_window; i++)
                if (p->window[i] > applied)
                        p->window[n++] = p->window[i];
        p->n_window = n;
        budget_applied(&p->budget, applied);

        if ((changed & (RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER)) && !p->attached) {
                Replica *replica = p->options.replica;

                if (p->term != replica_known_term(replica) || p->leader != replica_known_leader(replica)) {
                        if (!replica_is_leader(replica) || p->term != replica_term(replica)) {
                                p->n_window = 0;
                                budget_term_changed(&p->budget);
                        }
                        leader_changed(p);
                }
                p->term = replica_known_term(replica);
                p->leader = replica_known_leader(replica);
                p->lead = replica_is_leader(replica);
        }
        proposals_pump(p);
        proposals_keep_time(p);
}

/* -- Calls of the store -- */

int proposals_add(Proposals *p, const KvCommand *cmd, KvDone done, void *userdata, uint64_t *ret_number) {
        size_t principal = MIN(cmd->principal.size, (size_t) KV_PRINCIPAL_MAX), size = 0;
        _cleanup_writer_ Writer w = {};
        KvStatus status = KV_OK;
        Error err = {};
        uint64_t cost = 0;
        Proposal *x;
        int r;

        r = kv_command_check(cmd, &status, &err);
        if (r >= 0 && status == KV_OK)
                r = proposals_check(p, cmd, &cost, &status, &err);
        if (r == -ENOMEM)
                return r;
        if (r >= 0 && status == KV_OK) {
                r = kv_command_encode(cmd, kv_level(p->options.store), &w);
                size = w.size;
                write_raw(&w, cmd->principal.data, principal);
                if (w.error < 0 || r < 0)
                        return w.error < 0 ? w.error : r;
        }

        x = proposals_insert(p, p->options.origin, ++p->next_number, done, userdata);
        if (!x)
                return -ENOMEM;
        x->once = cmd->term > 0;
        x->internal = cmd->internal;
        x->weight = proposal_weight(cmd, size);
        if (ret_number)
                *ret_number = x->item.number;

        x->later = cmd->later;
        x->large = !cmd->internal && size > PROPOSE_SMALL_MAX;
        proposals_enqueue(p, x);
        if (status != KV_OK)
                proposals_refuse(p, x, status, err.message);
        else if (size > KV_COMMAND_MAX) /* no host could apply it */
                proposals_refuse(p, x, KV_TOO_LARGE,
                                 "a command of more than 250 KiB does not fit into the log");
        else if (HASH_COUNT(p->own) > PROPOSE_MAX || p->own_bytes + size > PROPOSE_BYTES_MAX)
                proposals_refuse(p, x, KV_BUSY, "too many writes wait for an answer on this host");
        else {
                x->principal = principal;
                x->item.command = writer_take(&w, &x->item.command_size);
                x->item.command_size = size;
                p->own_bytes += x->item.command_size;
                x->cost = cost;
                if (cost > 0)
                        budget_take(&p->budget, cmd, cost);
                loop_defer(p->options.loop, &p->pump);
        }
        return 0;
}

void proposals_cancel(Proposals *p, uint64_t number) {
        Proposal *x = proposals_find(p, p->options.origin, number);

        if (x)
                proposals_remove(p, x);
}

unsigned proposals_waiting(const Proposals *p) {
        return HASH_COUNT(p->own);
}

void proposals_end(Proposals *p) {
        Proposal *x, *next;

        proposals_drop_foreign(p);
        HASH_ITER(hh, p->own, x, next) {
                if (x->copies == 0)
                        proposals_no_leader(p, x);
                else
                        proposals_unknown(p, x);
        }
        p->n_window = 0;
        proposals_keep_time(p);
}

static const PeerFrameType frame_types[] = {
        { PEER_PROPOSE, proposals_on_propose },
        { PEER_PROPOSE_LATER, proposals_on_propose },
        { PEER_PROPOSED, proposals_on_proposed },
};

int proposals_new(Proposals **ret, const ProposalsOptions *options) {
        Proposals *p = NEW0(Proposals, 1);

        if (!p)
                return -ENOMEM;
        p->options = *options;
        TAILQ_INIT(&p->queue);
        TAILQ_INIT(&p->local);
        TAILQ_INIT(&p->answered);
        p->pump = DEFERRED(proposals_on_pump, p);
        p->answer = DEFERRED(proposals_on_answer, p);
        p->sweep = TIMER(proposals_on_sweep, p);
        p->heavy = TIMER(proposals_pump, p);
        if (options->peers)
                peers_register(options->peers, frame_types, ELEMENTS(frame_types), p);
        if (options->peers)
                proposals_relay_init(p);
        *ret = p;
        return 0;
}

Proposals *proposals_free(Proposals *p) {
        Proposal *x, *next;

        if (!p)
                return NULL;

        proposals_drop_foreign(p);
        HASH_ITER(hh, p->own, x, next) {
                proposals_remove(p, x);
        }
        if (p->options.peers) {
                proposals_relay_done(p);
                peers_unregister(p->options.peers, frame_types, ELEMENTS(frame_types));
        }
        deferred_cancel(&p->pump);
        deferred_cancel(&p->answer);
        timer_stop(&p->sweep);
        timer_stop(&p->heavy);
        budget_done(&p->budget);
        free(p);
        return NULL;
}
