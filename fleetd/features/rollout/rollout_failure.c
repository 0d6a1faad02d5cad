/* The failure that ends a rollout: the instances that have failed, for the record, and the reason. */

#include "fleetd/features/rollout/rollout_internal.h"

int rolling_store_failures(Rolling *x) {
        _cleanup_rollout_order_ RolloutOrder order = {};
        RolloutRecord *r = x->next;
        const RolloutInstance *p;

        rollout_record_clear_failures(r);
        if (x->set.n_of[INSTANCE_FAILED] == 0)
                return 0;
        r->failed = calloc(MIN(x->set.n_of[INSTANCE_FAILED], (size_t) ROLLOUT_FAILURES_MAX),
                           sizeof(*r->failed));
        if (!r->failed)
                return -ENOMEM;
        if (rollout_order_begin(&x->set, INSTANCE_FAILED, &order) < 0)
                return -ENOMEM;
        while (r->n_failed < ROLLOUT_FAILURES_MAX && (p = rollout_order_next(&order))) {
                RolloutFailure *f = &r->failed[r->n_failed++];

                snprintf(f->unit, sizeof(f->unit), "%s", p->unit->name);
                snprintf(f->machine, sizeof(f->machine), "%s", p->assignment->machine->id);
                text_format(f->why, sizeof(f->why), "%s", p->why);
        }
        return 0;
}

/* Return an instance that keeps its former text, because no machine qualifies for the wanted one; or NULL. */
static const RolloutInstance *rolling_find_unfit(Rolling *x) {
        const ClusterMachine *unused;

        for (size_t i = 0; i < x->set.n; i++) {
                const RolloutInstance *p = &x->set.instances[i];

                if (p->state == INSTANCE_BAD && rolling_place(x, p, &unused) == 0)
                        return p;
        }
        return NULL;
}

void rolling_describe_failure(Rolling *x, char *ret, size_t size) {
        const RolloutRecord *r = x->next;
        const RolloutFailure *f = r->n_failed > 0 ? &r->failed[0] : NULL;
        size_t lost = rollout_lost(&x->set, r);
        const RolloutInstance *unfit;

        if (f) {
                text_format(ret, size, "%s on %s: %s", f->unit, cluster_name_of(x->cluster, f->machine),
                            f->why);
                return;
        }
        if (lost > 0) {
                snprintf(ret, size, "a condition of the text is not met, and stopped %zu of %zu instances",
                         lost, (size_t) r->served);
                return;
        }
        unfit = rolling_find_unfit(x);
        snprintf(ret, size, "no further instance was available within UpdateDeadlineSec=%s%s",
                 unfit                ? "; no machine qualifies for " :
                 x->set.n_missing > 0 ? "; an instance has no machine" :
                                        "",
                 unfit ? unfit->unit->name : "");
}
