#include "fleetd/engine/adoption.h"

bool engine_awaits_reports(const Cluster *c, const ClusterMachine **ret_missing, uint64_t *ret_again_ms) {
        const ClusterMachine *missing = NULL;
        uint64_t end_ms;

        if (!c->adopting || c->adopting_since_ms == 0)
                return false;

        /* The first by ID, so that the log names each host once. */
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (cluster_awaits_report(c, m) && (!missing || strcmp(m->id, missing->id) < 0))
                        missing = m;
        if (!missing)
                return false;

        end_ms = c->adopting_since_ms > UINT64_MAX - ADOPTION_MS ? UINT64_MAX :
                                                                   c->adopting_since_ms + ADOPTION_MS;
        if (c->now_ms >= end_ms)
                return false;
        *ret_missing = missing;
        *ret_again_ms = end_ms == UINT64_MAX ? UINT64_MAX : end_ms - c->now_ms;
        return true;
}
