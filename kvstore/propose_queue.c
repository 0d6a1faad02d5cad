/* What the files of proposals share: the table and the queue, the check before the log, the clock. */
#include "kvstore/propose_internal.h"

void proposal_insert(ProposalList *list, Proposal *after, Proposal *x) {
        if (after)
                TAILQ_INSERT_AFTER(list, after, x, entry);
        else
                TAILQ_INSERT_HEAD(list, x, entry);
}

static void proposal_free(Proposal *x) {
        free((void *) x->item.command);
        free(x->cause);
        free(x->machine);
        free(x);
}

void proposals_remove_foreign(Proposals *p, Proposal *x) {
        TAILQ_REMOVE(&p->queue, x, entry);
        p->n_foreign--;
        p->foreign_bytes -= x->item.command_size;
        proposal_free(x);
}

/* Remove a proposal of the table from it and from its list. */
static void proposal_detach(Proposals *p, Proposal *x) {
        if (x->state == PROPOSAL_QUEUED)
                TAILQ_REMOVE(&p->queue, x, entry);
        else if (x->state == PROPOSAL_ANSWERED)
                TAILQ_REMOVE(&p->answered, x, entry);
        HASH_DEL(p->own, x);
        if (x->item.origin == p->options.origin)
                TAILQ_REMOVE(&p->local, x, of_local);
        p->own_bytes -= x->item.command_size;
}

void proposals_remove(Proposals *p, Proposal *x) {
        proposal_detach(p, x);
        proposal_free(x);
}

static bool proposal_yields(const Proposal *x) {
        return x->later || x->large;
}

void proposals_enqueue(Proposals *p, Proposal *x) {
        uint64_t now = loop_now_ms(p->options.loop);
        Proposal *after = TAILQ_LAST(&p->queue, ProposalList);

        x->state = PROPOSAL_QUEUED;
        x->queued_ms = now;
        while (!proposal_yields(x) && after && proposal_yields(after) && now - after->queued_ms < LATER_MS)
                after = TAILQ_PREV(after, ProposalList, entry);
        proposal_insert(&p->queue, after, x);
}

void proposals_take(Proposals *p, Proposal *x, const KvCommand *cmd, uint64_t cost) {
        x->large = !cmd->internal && x->item.command_size > PROPOSE_SMALL_MAX;
        x->internal = cmd->internal;
        x->cost = cost;
        if (cost > 0)
                budget_take(&p->budget, cmd, cost);
        proposals_enqueue(p, x);
        loop_defer(p->options.loop, &p->pump);
}

void proposals_enqueue_again(Proposals *p, Proposal *x) {
        Proposal *y = TAILQ_FIRST(&p->queue);

        while (y && (y->queued_ms < x->queued_ms ||
                     (y->queued_ms == x->queued_ms && (y->foreign || y->item.number < x->item.number))))
                y = TAILQ_NEXT(y, entry);
        x->state = PROPOSAL_QUEUED;
        proposal_insert(&p->queue,
                        y ? TAILQ_PREV(y, ProposalList, entry) : TAILQ_LAST(&p->queue, ProposalList), x);
}

void proposals_refuse(Proposals *p, Proposal *x, KvStatus status, const char *cause) {
        if (x->state == PROPOSAL_ANSWERED)
                return;
        if (x->state == PROPOSAL_QUEUED)
                TAILQ_REMOVE(&p->queue, x, entry);
        x->state = PROPOSAL_ANSWERED;
        x->status = status;
        free(x->cause);
        x->cause = cause ? strdup(cause) : NULL;
        TAILQ_INSERT_TAIL(&p->answered, x, entry);
        loop_defer(p->options.loop, &p->answer);
}

void proposals_unknown(Proposals *p, Proposal *x) {
        proposals_refuse(p, x, KV_UNKNOWN, NULL);
}

void proposals_answer(Proposals *p, Proposal *x, const KvResult *result) {
        proposal_detach(p, x);
        x->done(x->userdata, result);
        proposal_free(x);
}

Proposal *proposals_find(Proposals *p, uint64_t origin, uint64_t number) {
        const uint64_t key[] = { origin, number };
        Proposal *x;

        HASH_FIND(hh, p->own, key, PROPOSAL_KEY, x);
        return x;
}

Proposal *proposals_insert(Proposals *p, uint64_t origin, uint64_t number, KvDone done, void *userdata) {
        Proposal *x = NEW0(Proposal, 1);

        if (!x)
                return NULL;
        *x = (Proposal) { .item = { .origin = origin, .number = number },
                          .done = done,
                          .userdata = userdata,
                          .proposed_ns = loop_clock_ns(p->options.loop) };
        HASH_ADD(hh, p->own, item.origin, PROPOSAL_KEY, x);
        if (!TABLE_ADDED_OR_FREED(x))
                return NULL;
        if (origin == p->options.origin)
                TAILQ_INSERT_TAIL(&p->local, x, of_local);
        return x;
}

void proposals_pump(void *proposals) {
        Proposals *p = proposals;

        if (TAILQ_FIRST(&p->queue))
                loop_defer(p->options.loop, &p->pump);
}

void proposals_keep_time(Proposals *p) {
        if (!p->own || (p->lead && !TAILQ_FIRST(&p->queue) && !p->any_due))
                timer_stop(&p->sweep);
        else if (!timer_armed(&p->sweep))
                (void) timer_start(&p->sweep, p->options.loop, SWEEP_MS);
}

/* -- Deduplication -- */

uint64_t proposals_acknowledged(const Proposals *p) {
        const Proposal *x = TAILQ_FIRST(&p->local);

        return x ? x->item.number : p->next_number + 1;
}

uint64_t proposal_acknowledged(const Proposals *p, const Proposal *x) {
        return x->machine ? x->item.acknowledged : proposals_acknowledged(p);
}

void proposal_stamp(Proposal *x, uint64_t cluster_ms) {
        if (!x->foreign && !x->machine && !x->once && x->copies == 0)
                x->item.deadline_ms = cluster_ms + PROPOSE_LIFE_MS;
}

uint64_t proposals_known_ms(const Proposals *p) {
        uint64_t known = kv_cluster_ms(p->options.store);

        return p->leader_ms > 0 ? MAX(known, p->leader_ms + loop_now_ms(p->options.loop) - p->leader_at_ms) :
                                  known;
}

bool proposals_full(const Proposals *p) {
        return kv_kept_bytes(p->options.store) >= DEDUP_MAX;
}

bool proposals_gives_room(const Proposals *p, uint64_t origin, uint64_t acknowledged) {
        uint64_t known;
        TreeTxn *txn;

        if (kv_read(p->options.store, &txn) < 0)
                return false;
        known = dedup_bound(txn, origin);
        tree_abort(txn);
        return known > 0 && acknowledged > known;
}

/* -- Before the log -- */

uint64_t proposal_weight(const KvCommand *cmd, size_t size) {
        size_t writes = cmd->op == KV_TXN ? cmd->n_writes : 1;

        writes = (writes + PROPOSE_WEIGHT_WRITES - 1) / PROPOSE_WEIGHT_WRITES;
        size = (size + PROPOSE_WEIGHT_BYTES - 1) / PROPOSE_WEIGHT_BYTES;
        return MAX((uint64_t) 1, MAX(writes, size));
}

int proposals_check_cost(Proposals *p, const KvCommand *cmd, uint64_t *ret, KvStatus *ret_status,
                         Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvStatus status = KV_OK;
        int r;

        r = kv_read(p->options.store, &txn);
        if (r >= 0)
                r = budget_check(&p->budget, txn, loop_now_ms(p->options.loop), cmd, ret, &status, err);
        *ret = MAX(*ret, (uint64_t) COST_COMMAND); /* a tree that cannot be read is apply's to find */
        if (status == KV_OK)
                return 0;
        *ret_status = status;
        return r;
}

int proposals_check(Proposals *p, const KvCommand *cmd, uint64_t *ret_cost, KvStatus *ret_status,
                    Error *err) {
        *ret_cost = 0;
        if (replica_is_leader(p->options.replica)) {
                TRY(kv_check_room(p->options.store, cmd, ret_status, err));
                TRY(proposals_check_cost(p, cmd, ret_cost, ret_status, err));
        }
        if (cmd->op != KV_RAISE || cmd->limit <= p->options.level_max)
                return 0;
        *ret_status = KV_INVALID;
        return error_set(err, -EINVAL,
                         "feature level %" PRIu64 ": the fleetd of this host supports %u at most", cmd->limit,
                         p->options.level_max);
}

void proposal_sent(Proposals *p, Proposal *x, uint64_t term) {
        TAILQ_REMOVE(&p->queue, x, entry);
        x->state = PROPOSAL_SENT;
        x->term = term;
        x->sent_ms = loop_now_ms(p->options.loop);
        x->copies++;
        if (x->copies == 1)
                x->due_ms = x->sent_ms + PROPOSE_WAIT_MS;
}
