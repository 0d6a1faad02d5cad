/* Which units a change may concern. Too many cost time, too few would be a unit forgotten until the next full pass: a
 * property test holds the incremental plan against the full one. */
#include "fleetd/engine/plan.h"

typedef struct Adding {
        const Cluster *cluster;
        int (*add)(void *userdata, const char *unit);
        void *userdata;
        int error;
} Adding;

static void add(Adding *a, const char *unit) {
        if (a->error >= 0)
                a->error = a->add(a->userdata, unit);
}

/* 'related_only': those whose own rules look at what else is there. */
static void add_on_machine(Adding *a, const ClusterMachine *m, bool related_only) {
        for (const ClusterOrder *o = m->orders; o; o = o->hh.next)
                if (!related_only || o->of->lists[CLUSTER_RELATED].in)
                        add(a, o->unit);
        for (const ClusterState *s = related_only ? NULL : m->states; s; s = s->hh.next)
                add(a, s->unit);
}

/* Something became free, or possible: whoever waits may fit now, and whoever should make room may have a place to go. */
static void add_waiting(Adding *a) {
        for (const ClusterUnit *u = a->cluster->lists[CLUSTER_WAITING]; u; u = u->lists[CLUSTER_WAITING].next)
                add(a, u->name);
        for (const ClusterUnit *u = a->cluster->lists[CLUSTER_RELATED]; u; u = u->lists[CLUSTER_RELATED].next) {
                if (u->unit->placement.replaces.n == 0)
                        continue;
                for (const ClusterOrder *o = u->orders; o; o = o->next)
                        if (cluster_order_is_active(o))
                                add_on_machine(a, o->machine, false);
        }
        for (const ClusterUnit *u = a->cluster->lists[CLUSTER_GLOBAL]; u; u = u->lists[CLUSTER_GLOBAL].next)
                add(a, u->name);
}

int engine_concerned(const Cluster *cluster, const RegistryChange *change, int (*add_unit)(void *userdata, const char *unit), void *userdata) {
        Adding a = { .cluster = cluster, .add = add_unit, .userdata = userdata };
        const ClusterUnit *u = change->unit ? cluster_any_unit(cluster, change->unit) : NULL;
        const ClusterMachine *m = change->machine ? cluster_machine(cluster, change->machine) : NULL;

        switch (change->kind) {
        case CHANGED_ALL:
                add(&a, NULL);
                break;
        case CHANGED_UNIT:
        case CHANGED_TARGET:
                add(&a, change->unit);
                add_waiting(&a);
                for (const ClusterOrder *o = u ? u->orders : NULL; o; o = o->next)
                        add_on_machine(&a, o->machine, false);
                break;
        case CHANGED_ORDER:
                add(&a, change->unit);
                add_waiting(&a);
                if (m)
                        add_on_machine(&a, m, u && !u->lists[CLUSTER_RELATED].in);
                break;
        case CHANGED_STATE:
                add(&a, change->unit);
                break;
        case CHANGED_MACHINE:
        case CHANGED_PRESENCE:
                add_waiting(&a);
                if (m)
                        add_on_machine(&a, m, false);
                /* One more or less may begin or end the brake for all that are lost. */
                for (m = cluster->machines; m && change->kind == CHANGED_PRESENCE; m = m->hh.next)
                        if (m->presence == PRESENCE_LOST)
                                add_on_machine(&a, m, false);
                break;
        case CHANGED_PROBLEM:
        case CHANGED_CLUSTER:
                break;
        }
        return a.error;
}
