/* The units that a change may affect. Too many cost time; a missing one would wait until the next resync. A
 * property test compares incremental plans with full ones.
 *
 * A change marks its object, and only the next plan expands marks to units: a hundred changes of one
 * transaction affect the same waiting units, and the same neighbours, once. */

#include "fleetd/engine/plan.h"
#include "fleetd/registry/unit_order.h"

/* A machine whose units are affected. */
typedef struct MachineMark {
        Named id;
        bool related_only; /* only units whose options name other units */
} MachineMark;

void engine_marks_done(EngineMarks *marks) {
        named_clear(&marks->units);
        named_clear(&marks->machines);
        *marks = (EngineMarks) {};
}

bool engine_marks_any(const EngineMarks *marks) {
        return marks->units || marks->machines || marks->all || marks->waiting || marks->lost ||
               marks->started;
}

/* Without memory, the functions below mark all units. */
static void marks_add_unit(EngineMarks *marks, const char *name) {
        if (!named_get(&marks->units, name, sizeof(Named)))
                marks->all = true;
}

static void marks_add_machine(EngineMarks *marks, const char *id, bool related_only) {
        const bool marked = named_find(marks->machines, id);
        MachineMark *m = named_get(&marks->machines, id, sizeof(MachineMark));

        if (m)
                m->related_only = (!marked || m->related_only) && related_only;
        else
                marks->all = true;
}

/* The surge instances of a set end with its rollout. */
static void marks_add_followers(EngineMarks *marks, const Cluster *cluster, const ClusterUnit *head) {
        const ClusterUnit *u;
        UnitPosition at = {};

        if (!head || !head->unit)
                return;
        for (size_t n = unit_order_instances(&cluster->by_name, head->name, &at); n > 0; n--) {
                u = unit_order_next(&cluster->by_name, &at);
                if (u && LIST_FIRST(&u->assignments) && LIST_NEXT(LIST_FIRST(&u->assignments), of_unit))
                        marks_add_unit(marks, u->name);
        }
}

/* Return whether the change is of facts that the scheduler does not read: it plans nothing. */
static bool marks_ignores(const Cluster *cluster, const RegistryChange *change) {
        const ClusterMachine *m = change->machine ? cluster_machine(cluster, change->machine) : NULL;

        return m && m->facts && change->key && change->key->kind == LAYOUT_FACTS &&
               m->facts_index == change->index && m->place_index != change->index;
}

/* Return whether the unit may count among those that start elsewhere, whose number is limited. */
static bool marks_is_moving(const ClusterUnit *u) {
        const ClusterAssignment *first = u ? LIST_FIRST(&u->assignments) : NULL;

        if (u && cluster_unit_stops_first(u))
                return true;
        return first && LIST_NEXT(first, of_unit) && !(u->unit && u->unit->placement.global);
}

void engine_marks_add(EngineMarks *marks, const Cluster *cluster, const RegistryChange *change) {
        const ClusterUnit *u = change->unit ? cluster_any_unit(cluster, change->unit) : NULL;

        switch (change->kind) {
        case CHANGED_ALL:
                marks->all = true;
                break;
        case CHANGED_UNIT:
        case CHANGED_TARGET:
                marks->waiting = true;
                marks_add_unit(marks, change->unit);
                for (const ClusterAssignment *o = u ? LIST_FIRST(&u->assignments) : NULL; o;
                     o = LIST_NEXT(o, of_unit))
                        marks_add_machine(marks, o->machine->id, false);
                break;
        case CHANGED_ASSIGNMENT:
                marks->waiting = true;
                marks_add_unit(marks, change->unit);
                marks_add_machine(marks, change->machine, u && !u->listed[CLUSTER_RELATED]);
                break;
        case CHANGED_MOVE:
        case CHANGED_DATA:
        case CHANGED_REPLICAS:
                marks_add_unit(marks, change->unit);
                break;
        case CHANGED_INPUTS:
        case CHANGED_ROLLOUT:
                marks_add_unit(marks, change->unit);
                marks_add_followers(marks, cluster, u);
                break;
        case CHANGED_STATE:
                marks->started |= marks_is_moving(u);
                marks_add_unit(marks, change->unit);
                break;
        case CHANGED_PRESENCE:
                marks->lost = true; /* one lost host more or less may begin or end the brake */
                /* fall through */
        case CHANGED_MACHINE:
                if (marks_ignores(cluster, change))
                        break;
                marks->waiting = true;
                marks_add_machine(marks, change->machine, false);
                break;
        case CHANGED_PROBLEM:
        case CHANGED_ENDPOINT:
        case CHANGED_SECRET:
        case CHANGED_REVISION:
                break;
        case CHANGED_CLUSTER: /* "sticky" */
                marks->all |= change->key && change->key->kind == LAYOUT_SETTINGS;
                break;
        }
}

typedef struct Expansion {
        int (*add)(void *userdata, const char *unit);
        void *userdata;
        int error;
} Expansion;

static void expand_add(Expansion *x, const char *unit) {
        if (x->error >= 0)
                x->error = x->add(x->userdata, unit);
}

static void expand_machine(Expansion *x, const ClusterMachine *m, bool related_only) {
        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next)
                if (!related_only || o->of->listed[CLUSTER_RELATED])
                        expand_add(x, o->unit);
        for (const ClusterState *s = related_only ? NULL : m->states; s; s = s->hh.next)
                expand_add(x, s->unit);
}

/* A machine may have become free: for a unit that waits, for a unit that another one replaces or that is to
 * leave a drained machine, and for global units. */
static void expand_waiting(Expansion *x, const Cluster *cluster) {
        bool any = !LIST_EMPTY(&cluster->lists[CLUSTER_REPLACING]) ||
                   cluster->counts[MACHINES_MAINTAINED] > 0;

        for (const ClusterUnit *u = LIST_FIRST(&cluster->lists[CLUSTER_WAITING]); u;
             u = LIST_NEXT(u, lists[CLUSTER_WAITING]))
                expand_add(x, u->name);
        for (const ClusterMachine *m = any ? cluster->machines : NULL; m; m = m->hh.next)
                if (m->n_replacing > 0 || cluster_machine_is_draining(m))
                        expand_machine(x, m, false);
        for (const ClusterUnit *u = LIST_FIRST(&cluster->lists[CLUSTER_GLOBAL]); u;
             u = LIST_NEXT(u, lists[CLUSTER_GLOBAL]))
                expand_add(x, u->name);
}

int engine_marks_expand(EngineMarks *marks, const Cluster *cluster,
                        int (*add)(void *userdata, const char *unit), void *userdata) {
        Expansion x = { .add = add, .userdata = userdata };
        bool any = marks->machines || marks->lost || marks->started;

        if (marks->all)
                expand_add(&x, NULL);
        for (const Named *mark = marks->units; mark; mark = mark->hh.next)
                expand_add(&x, mark->name);
        if (marks->waiting)
                expand_waiting(&x, cluster);
        for (const ClusterUnit *u = LIST_FIRST(&cluster->lists[CLUSTER_MOVING]);
             u && (marks->waiting || marks->started); u = LIST_NEXT(u, lists[CLUSTER_MOVING]))
                expand_add(&x, u->name);
        for (const ClusterMachine *m = any ? cluster->machines : NULL; m; m = m->hh.next) {
                bool whole = (marks->lost && m->presence == PRESENCE_LOST) ||
                             (marks->started && cluster_machine_is_draining(m));
                const MachineMark *mark = named_find_of(marks->machines, &m->hh);

                if (mark || whole)
                        expand_machine(&x, m, !whole && mark->related_only);
        }
        if (x.error >= 0)
                engine_marks_done(marks);
        return x.error;
}
