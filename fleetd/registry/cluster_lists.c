/* The lists and figures of units that the cluster view keeps up to date. */
#include "fleetd/registry/cluster_parts.h"
#include "fleetd/registry/revision_view.h"

static void cluster_list_set(Cluster *c, ClusterList list, ClusterUnit *u, bool in) {
        if (u->listed[list] == in)
                return;
        if (in)
                LIST_INSERT_HEAD(&c->lists[list], u, lists[list]);
        else
                LIST_REMOVE(u, lists[list]);
        u->listed[list] = in;
        c->n_listed[list] += in ? 1 : -1;
        for (ClusterAssignment *o = list == CLUSTER_REPLACING ? LIST_FIRST(&u->assignments) : NULL; o;
             o = LIST_NEXT(o, of_unit))
                o->machine->n_replacing += in ? 1 : -1;
}

static bool cluster_unit_is_waiting(const ClusterUnit *u) {
        if (!cluster_unit_is_wanted(u) || u->unit->placement.global)
                return false;
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (cluster_assignment_is_active(o) && o->machine->presence == PRESENCE_UP &&
                    !cluster_has_conflicting_unit(u, o->machine))
                        return false;
        return true;
}

/* Return whether the unit last ran on another machine than the recorded one, or for the first time since the
 * lineage began: what is recorded then may be old. */
static bool cluster_unit_data_moved(const Cluster *c, const ClusterUnit *u) {
        const ClusterAssignment *up = u->sticky && !cluster_unit_is_unreadable(u) ? cluster_unit_up(u) : NULL;

        return up && !(u->data && streq(u->data->machine, up->machine->id) &&
                       u->data_index > cluster_begun_index(c));
}

/* Of a unit that follows no template, its own stored texts count: a global one has many assignments. */
static bool cluster_unit_has_former(const ClusterUnit *u) {
        bool reads = u->unit && u->unit->from;
        const ClusterAssignment *a;
        const ClusterRevision *x;

        LIST_FOREACH(x, &u->revisions, of_unit)
                reads |= x->inputs != NULL;
        for (a = reads ? LIST_FIRST(&u->assignments) : NULL; a; a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a) && cluster_assignment_has_former_text(a))
                        return true;
        return false;
}

static UnitCondition cluster_unit_condition(const ClusterUnit *u) {
        if (!u->unit)
                return UNIT_NOT_COUNTED;
        if (u->n_failed > 0)
                return UNIT_FAILED;
        if (u->n_active > 0)
                return UNIT_ACTIVE;
        return u->listed[CLUSTER_WAITING] ? UNIT_WAITING : UNIT_OTHER;
}

/* Figures are read without a walk over all units. */
static void cluster_count_unit(Cluster *c, ClusterUnit *u) {
        if (u->condition != UNIT_NOT_COUNTED)
                c->conditions[u->condition]--;
        u->condition = cluster_unit_condition(u);
        if (u->condition != UNIT_NOT_COUNTED)
                c->conditions[u->condition]++;
}

size_t cluster_n_units(const Cluster *c) {
        const size_t *n = c->conditions;

        return n[UNIT_ACTIVE] + n[UNIT_FAILED] + n[UNIT_WAITING] + n[UNIT_OTHER];
}

void cluster_update_lists(Cluster *c, ClusterUnit *u) {
        const Placement *p = u->unit ? &u->unit->placement : NULL;

        cluster_list_set(c, CLUSTER_WAITING, u, cluster_unit_is_waiting(u));
        cluster_list_set(c, CLUSTER_GLOBAL, u, p && p->global);
        cluster_list_set(c, CLUSTER_RELATED, u,
                         p && p->machine_of.n + p->triggers.n + p->conflicts.n + p->replaces.n + p->ports.n >
                                         0);
        cluster_list_set(c, CLUSTER_REPLACING, u, p && p->replaces.n > 0);
        cluster_list_set(c, CLUSTER_ROLLING, u, u->rollout && u->rollout->state != ROLLOUT_DONE);
        cluster_list_set(c, CLUSTER_REVERTED, u,
                         u->rollout && u->rollout->state == ROLLOUT_DONE && u->rollout->reverted.number > 0);
        cluster_list_set(c, CLUSTER_MOVING, u, u->move != NULL);
        cluster_list_set(c, CLUSTER_FORMER, u, cluster_unit_has_former(u));
        cluster_list_set(c, CLUSTER_SURPLUS, u, cluster_unit_has_surplus(u));
        cluster_list_set(c, CLUSTER_DATA_MOVED, u, cluster_unit_data_moved(c, u));
        cluster_list_set(c, CLUSTER_DATA_LEFT, u, u->data && !cluster_unit_exists(u));
        cluster_list_set(c, CLUSTER_STOPS_FIRST, u,
                         cluster_unit_stops_first(u) && u->target == TARGET_LAUNCHED && u->n_active == 0 &&
                                 cluster_unit_is_wanted(u));
        cluster_count_unit(c, u);
}
