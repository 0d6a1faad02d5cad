/* Which units a change may concern. Too many cost time, too few would be a unit forgotten until the next full
 * pass: a property test holds the incremental plan against the full one.
 *
 * A change marks what it is about, and only the next plan turns marks into units: a hundred changes of one
 * transaction concern the same waiting units, and the same neighbours, once. */
#include <errno.h>
#include <stdio.h>

#include "fleetd/engine/plan.h"

/* A unit, or a machine of which all units are concerned, or those only whose own rules look at what else is
 * there. */
struct EngineMark {
        bool related_only;
        UT_hash_handle hh;
        char name[];
};

static void clear(EngineMark **table) {
        EngineMark *m, *next;

        HASH_ITER(hh, *table, m, next) {
                HASH_DEL(*table, m);
                free(m);
        }
}

void engine_marks_done(EngineMarks *marks) {
        clear(&marks->units);
        clear(&marks->machines);
        *marks = (EngineMarks) {};
}

bool engine_marks_any(const EngineMarks *marks) {
        return marks->units || marks->machines || marks->all || marks->waiting || marks->lost;
}

static int mark(EngineMark **table, const char *name, bool related_only) {
        EngineMark *m;

        HASH_FIND_STR(*table, name, m);
        if (m) {
                m->related_only = m->related_only && related_only;
                return 0;
        }
        m = (EngineMark *) NEW0(char, sizeof(*m) + strlen(name) + 1);
        if (!m)
                return -ENOMEM;
        memcpy(m->name, name, strlen(name) + 1);
        m->related_only = related_only;
        HASH_ADD_KEYPTR(hh, *table, m->name, strlen(name), m);
        if (TABLE_ADDED(m))
                return 0;
        free(m);
        return -ENOMEM;
}

int engine_marks_add(EngineMarks *marks, const Cluster *cluster, const RegistryChange *change) {
        const ClusterUnit *u = change->unit ? cluster_any_unit(cluster, change->unit) : NULL;
        int r = 0;

        switch (change->kind) {
        case CHANGED_ALL:
                marks->all = true;
                break;
        case CHANGED_UNIT:
        case CHANGED_TARGET:
                marks->waiting = true;
                r = mark(&marks->units, change->unit, false);
                for (const ClusterAssignment *o = u ? LIST_FIRST(&u->assignments) : NULL; o && r >= 0;
                     o = LIST_NEXT(o, of_unit))
                        r = mark(&marks->machines, o->machine->id, false);
                break;
        case CHANGED_ASSIGNMENT:
                marks->waiting = true;
                r = mark(&marks->units, change->unit, false);
                if (r >= 0)
                        r = mark(&marks->machines, change->machine, u && !u->listed[CLUSTER_RELATED]);
                break;
        case CHANGED_STATE:
                r = mark(&marks->units, change->unit, false);
                break;
        case CHANGED_MACHINE:
        case CHANGED_PRESENCE:
                marks->waiting = true;
                /* One more or less may begin or end the brake for all that are lost. */
                marks->lost = marks->lost || change->kind == CHANGED_PRESENCE;
                r = mark(&marks->machines, change->machine, false);
                break;
        case CHANGED_PROBLEM:
        case CHANGED_CLUSTER:
                break;
        }
        return r;
}

typedef struct Adding {
        int (*add)(void *userdata, const char *unit);
        void *userdata;
        int error;
} Adding;

static void add(Adding *a, const char *unit) {
        if (a->error >= 0)
                a->error = a->add(a->userdata, unit);
}

static void add_on_machine(Adding *a, const ClusterMachine *m, bool related_only) {
        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next)
                if (!related_only || o->of->listed[CLUSTER_RELATED])
                        add(a, o->unit);
        for (const ClusterState *s = related_only ? NULL : m->states; s; s = s->hh.next)
                add(a, s->unit);
}

/* Something became free, or possible: whoever waits may fit now, and whoever should make room may have a
 * place to go. */
static void add_waiting(Adding *a, const Cluster *cluster) {
        for (const ClusterUnit *u = LIST_FIRST(&cluster->lists[CLUSTER_WAITING]); u;
             u = LIST_NEXT(u, lists[CLUSTER_WAITING]))
                add(a, u->name);
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next)
                if (m->n_replacing > 0)
                        add_on_machine(a, m, false);
        for (const ClusterUnit *u = LIST_FIRST(&cluster->lists[CLUSTER_GLOBAL]); u;
             u = LIST_NEXT(u, lists[CLUSTER_GLOBAL]))
                add(a, u->name);
}

int engine_marks_expand(EngineMarks *marks, const Cluster *cluster,
                        int (*add_unit)(void *userdata, const char *unit), void *userdata) {
        Adding a = { .add = add_unit, .userdata = userdata };

        if (marks->all)
                add(&a, NULL);
        for (const EngineMark *m = marks->units; m; m = m->hh.next)
                add(&a, m->name);
        if (marks->waiting)
                add_waiting(&a, cluster);
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                const EngineMark *marked;

                HASH_FIND_STR(marks->machines, m->id, marked);
                if (marked || (marks->lost && m->presence == PRESENCE_LOST))
                        add_on_machine(&a, m,
                                       marked && marked->related_only &&
                                               !(marks->lost && m->presence == PRESENCE_LOST));
        }
        if (a.error >= 0)
                engine_marks_done(marks);
        return a.error;
}
