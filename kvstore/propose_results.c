/* Results of proposals: from apply, or cached in a tree. */
#include "kvstore/propose_internal.h"

void proposals_add_kept(Proposals *p, const Proposal *x, const CachedResult *kept, bool acknowledge,
                        Applied *answers) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_arena_ Arena arena = {};
        _cleanup_free_ void *decoded = NULL;
        KvResult result;
        KvCommand cmd;

        if (kv_command_decode(x->item.command, x->item.command_size, &cmd, &decoded) >= 0 &&
            kv_read(p->options.store, &txn) >= 0 && result_decode(kept, txn, &cmd, &arena, &result) >= 0 &&
            (!acknowledge || kv_acknowledge(p->options.store, result.index) >= 0))
                (void) applied_add_result(answers, x->item.origin, x->item.number, &result);
}

/* A proposal whose deadline has passed in the new tree may have had a result that is dropped. All others may
 * still take effect. */
static void proposals_find_answers(Proposals *p, Applied *answers) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        _cleanup_(dedup_done) Dedup results = {};
        TreeMeta meta;

        if (kv_read(p->options.store, &txn) < 0 || tree_meta(txn, &meta) < 0)
                return;
        results = (Dedup) { .txn = txn, .cluster_ms = meta.cluster_ms };
        for (Proposal *x = p->own; x; x = x->hh.next) {
                KvBatchItem item = x->item;
                CachedResult kept;
                int verdict;

                item.acknowledged = 1;
                if (x->state == PROPOSAL_ANSWERED || x->copies == 0)
                        continue;
                verdict = x->once ? DEDUP_LATE : dedup_judge(&results, &item, &kept);
                if (verdict == DEDUP_KEPT)
                        proposals_add_kept(p, x, &kept, false, answers);
                else if (verdict != DEDUP_FRESH)
                        proposals_unknown(p, x);
        }
}

void proposals_replaced(Proposals *p) {
        Applied answers = { .any_origin = true };

        if (p->own)
                proposals_find_answers(p, &answers);
        proposals_results(p, &answers);
        applied_clear(&answers);
}

/* Propose it again; its caller waits PROPOSE_WAIT_MS at most. */
static void proposals_queue_again(Proposals *p, Proposal *x, bool in_place) {
        if (x->due_ms == 0)
                x->due_ms = loop_now_ms(p->options.loop) + PROPOSE_WAIT_MS;
        if (x->state != PROPOSAL_QUEUED && in_place)
                proposals_enqueue_again(p, x);
        else if (x->state != PROPOSAL_QUEUED)
                proposals_enqueue(p, x);
        loop_defer(p->options.loop, &p->pump);
        proposals_keep_time(p);
}

void proposals_take_result(Proposals *p, Proposal *x, const KvResult *result) {
        if (x->state == PROPOSAL_ANSWERED)
                return;
        switch (result->status) {
        case KV_LATE:
                if (x->machine) /* the deadline is that of the attached host */
                        break;
                /* This copy reached the log after its deadline, as all its copies will: it has no effect.
                 * This does not hold for a proposal with a newer deadline than that copy. */
                if (x->item.deadline_ms >= result->now_ms)
                        return;
                if (p->attached && x->copies > 1) {
                        /* Another replica may have applied an earlier copy, whose cached result has ended
                         * with the deadline. */
                        proposals_unknown(p, x);
                        return;
                }
                x->copies = 0;
                proposals_queue_again(p, x, false);
                return;
        case KV_DEFERRED:
                /* This copy did not fit into its entry and had no effect; other copies in flight may have
                 * one. The cost is at least what apply has charged: use that as the estimate. */
                x->copies -= x->copies > 0;
                x->cost = MAX(x->cost, result->charged);
                proposals_queue_again(p, x, true);
                return;
        default:
                break;
        }
        if (p->options.commits && !x->machine)
                duration_count(p->options.commits, loop_clock_ns(p->options.loop) - x->proposed_ns);
        proposals_answer(p, x, result);
}

bool proposals_wants(void *proposals, uint64_t origin, uint64_t number) {
        return proposals_find(proposals, origin, number) != NULL;
}

void proposals_results(Proposals *p, const Applied *applied) {
        for (size_t i = 0; i < applied->n_results; i++) {
                const AppliedResult *r = &applied->results[i];
                Proposal *x = proposals_find(p, r->origin, r->number);

                if (x)
                        proposals_take_result(p, x, r->result);
        }
}
