#include "fleetd/engine/rollout_budget.h"

size_t rollout_unavailable(const RolloutSet *set, const RolloutRecord *record) {
        const size_t *n = set->n_of;

        return n[INSTANCE_BAD] + n[INSTANCE_UPDATING] + n[INSTANCE_FAILED] + n[INSTANCE_UNREADABLE] -
               set->n_kept + rollout_lost(set, record) + set->n_missing + set->n_leaving +
               n[INSTANCE_UNREACHABLE] - set->n_passed;
}

size_t rollout_available(const RolloutSet *set) {
        const size_t *n = set->n_of;

        return n[INSTANCE_OLD] + n[INSTANCE_SURGING] + n[INSTANCE_AVAILABLE] + set->n_kept - set->n_leaving;
}

/* What was requested with a text has ended with its rollout: it is not for the next content. */
UpdatePolicy rollout_policy(const ClusterUnit *head) {
        static const UpdateRequest none;
        const RolloutRecord *r = head->rollout;
        bool ended = r && r->completed.inputs > 0 && streq(r->completed.hash, head->unit->hash);

        return update_policy_for(&head->unit->placement.update,
                                 ended ? &none : &head->unit->revisions.wanted.update);
}

int rollout_read_budget(const Cluster *cluster, const ClusterUnit *head, RolloutBudget *ret) {
        const UpdatePolicy policy = rollout_policy(head);
        _cleanup_rollout_set_ RolloutSet set = {};
        RolloutBudget b = { .name = head->name };

        TRY(rollout_set_read(cluster, head, &set));
        b.available = rollout_available(&set);
        b.n = b.available + rollout_unavailable(&set, head->rollout) + set.n_passed - set.n_absent;
        b.max = update_max_unavailable(&policy, (unsigned) b.n);
        b.min = update_min_available(&policy, (unsigned) b.n);
        *ret = b;
        return 0;
}

bool rollout_permits(const RolloutBudget *b, size_t n_stopping, Error *ret_why) {
        size_t available = b->available - MIN(b->available, n_stopping),
               unavailable = b->n - MIN(available, b->n);

        if (unavailable < b->max && available > b->min)
                return true;
        error_set(ret_why, -EAGAIN,
                  "%zu of %zu instances of %s are unavailable (MaxUnavailable=%u, MinAvailable=%u)%s",
                  unavailable, b->n, b->name, b->max, b->min,
                  b->min >= b->n ? ": none can be stopped first" : "");
        return false;
}

bool rollout_is_paused_by(const RolloutRecord *r, const char *unit, const char *machine) {
        return r->state == ROLLOUT_PAUSED && r->code == VERDICT_INSTANCE_FAILED && r->n_failed > 0 &&
               streq(r->failed[0].unit, unit) && streq(r->failed[0].machine, machine);
}
