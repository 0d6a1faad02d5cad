/* Writing the steps of drains; drain.c plans them, without I/O. */
#include "fleetd/engine/controller.h"
#include "fleetd/engine/drain.h"

int drain_control(Control *c) {
        const Cluster *cluster = registry_cluster(c->registry);
        bool any = cluster->counts[MACHINES_MAINTAINED] > 0;

        for (const ClusterMachine *m = any ? cluster->machines : NULL; m; m = m->hh.next) {
                DrainStep step;
                int r;

                if (!m->maintenance)
                        continue;
                step = drain_step(cluster, m);
                if (step.next.mode == m->maintenance->mode)
                        continue;
                r = registry_maintain(c->registry, c->term, m, &step.next, step.reason, c->done, c->userdata);
                return r < 0 ? r : 1;
        }
        return 0;
}
