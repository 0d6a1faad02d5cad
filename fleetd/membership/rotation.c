#include "fleetd/membership/rotation.h"

RotationStep rotation_step(const Cluster *c, uint64_t now_ms, const ClusterMachine **ret_waits) {
        const CaRotation *rotation = c->ca_rotation;
        const ClusterMachine *waits = NULL;
        bool late;

        *ret_waits = NULL;
        if (!rotation || !c->ca_roots)
                return ROTATION_WAIT;
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (m->host && !m->removed && m->presence == PRESENCE_UP &&
                    m->host_index < c->ca_roots_index && (!waits || strcmp(m->id, waits->id) < 0))
                        waits = m;
        *ret_waits = waits;
        late = rotation->compromised && now_ms >= rotation->since_ms + ROTATION_COMPROMISED_MS;
        if (waits && !late)
                return ROTATION_WAIT;
        return rotation->state == CA_ROTATION_DISTRIBUTE ? ROTATION_ISSUE : ROTATION_END;
}

static CaRootState rotation_next_state(CaRootState state) {
        return state == CA_ROOT_NEXT ? CA_ROOT_CURRENT : CA_ROOT_FORMER;
}

void rotation_roots(const CaRoots *roots, RotationStep step, CaRoots *ret) {
        ret->n = 0;
        for (size_t i = 0; i < roots->n; i++) {
                CaRoot root = roots->items[i];

                if (step == ROTATION_ISSUE)
                        root.state = rotation_next_state(root.state);
                else if (root.state != CA_ROOT_CURRENT)
                        continue;
                ret->items[ret->n++] = root;
        }
}
