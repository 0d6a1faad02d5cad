#include "fleetd/identity/rotation.h"

bool rotation_is_rekey(const Cluster *c) {
        return c->ca_rotation && c->ca_rotation->state == CA_ROTATION_REKEY && c->ca_roots && c->ca_keys &&
               c->ca_keys->n > 0;
}

/* Whether the present state waits for a machine. The confirmations of the cluster key are known to the leader
 * only: here, members that are up count as having it. */
static bool rotation_waits_for(const Cluster *c, const ClusterMachine *m) {
        if (m->removed)
                return false;
        if (c->ca_rotation->state == CA_ROTATION_REKEY)
                return m->member.raft_id != 0 && m->presence != PRESENCE_UP && !c->ca_rotation->compromised;
        return m->host && m->presence == PRESENCE_UP && m->host_index < c->ca_roots_index;
}

RotationStep rotation_step(const Cluster *c, uint64_t now_ms, const ClusterMachine **ret_waits) {
        const CaRotation *rotation = c->ca_rotation;
        const ClusterMachine *waits = NULL;
        bool late;

        *ret_waits = NULL;
        if (!rotation || !c->ca_roots)
                return ROTATION_WAIT;
        if (rotation->state == CA_ROTATION_BEGIN)
                return ROTATION_ADD;
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (rotation_waits_for(c, m) && (!waits || strcmp(m->id, waits->id) < 0))
                        waits = m;
        *ret_waits = waits;
        /* After a step back of the wall clock, the begin is in the future. */
        late = rotation->compromised && (now_ms >= rotation->since_ms + ROTATION_COMPROMISED_MS ||
                                         now_ms + ROTATION_COMPROMISED_MS < rotation->since_ms);
        if (rotation->state == CA_ROTATION_REKEY || (waits && !late))
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
