/* What is asked of the picture: sorted, and in fleet's words. */
#include "fleetd/registry/cluster.h"

bool cluster_has_conflicting_unit(const ClusterUnit *u, const ClusterMachine *m) {
        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit))
                if (s->machine == m && s->state.load && streq(s->state.load, STATE_FOREIGN))
                        return true;
        return false;
}

static int by_id(const void *a, const void *b) {
        return strcmp((*(ClusterMachine *const *) a)->id, (*(ClusterMachine *const *) b)->id);
}

ClusterUnit **cluster_units_sorted(const Cluster *c, size_t *ret_n) {
        ClusterUnit **sorted = NEW0(ClusterUnit *, HASH_COUNT(c->units) + 1);
        size_t n = HASH_COUNT(c->units);

        if (!sorted)
                return NULL;
        if (n > 0)
                memcpy(sorted, c->by_name, n * sizeof(*sorted));
        *ret_n = n;
        return sorted;
}

ClusterMachine **cluster_machines_sorted(const Cluster *c, size_t *ret_n) {
        ClusterMachine **sorted = NEW0(ClusterMachine *, HASH_COUNT(c->machines) + 1);
        size_t n = 0;

        if (!sorted)
                return NULL;
        for (ClusterMachine *m = c->machines; m; m = m->hh.next)
                sorted[n++] = m;
        qsort(sorted, n, sizeof(*sorted), by_id);
        *ret_n = n;
        return sorted;
}

bool cluster_awaits_report(const Cluster *c, const ClusterMachine *m) {
        return c->adopting && (m->facts || cluster_machine_has_unreadable(m, LAYOUT_FACTS)) &&
               m->reported != c->lineage;
}

TargetState cluster_current_state(const Cluster *c, const ClusterUnit *u,
                                  const ClusterMachine **ret_machine) {
        const ClusterAssignment *best = NULL;
        bool best_reports = false;

        *ret_machine = NULL;
        if (u->unit && u->unit->placement.global)
                return TARGET_INACTIVE;

        /* While a unit moves it has two: the one that shows something counts, and of those the later one. */
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                bool reports = o->machine->presence == PRESENCE_UP &&
                               cluster_state(c, o->machine->id, u->name);

                if (!cluster_assignment_is_active(o) || (best && best_reports && !reports))
                        continue;
                if (best && best_reports == reports && o->since_ms < best->since_ms)
                        continue;
                best = o;
                best_reports = reports;
        }
        if (!best)
                return TARGET_INACTIVE;

        *ret_machine = best->machine;
        if (best->machine->presence == PRESENCE_LOST || best->machine->presence == PRESENCE_LEFT ||
            best->kind == _ASSIGNMENT_INVALID || !cluster_state(c, best->machine->id, u->name))
                return TARGET_INACTIVE;
        return best->kind == ASSIGNMENT_RUN ? TARGET_LAUNCHED : TARGET_LOADED;
}

size_t cluster_load(const ClusterMachine *m) {
        return m->load;
}

const char *cluster_name_of(const Cluster *c, const char *machine_id) {
        const ClusterMachine *m = cluster_machine(c, machine_id);

        return m ? cluster_machine_name(m) : machine_id;
}

const char *cluster_machine_name(const ClusterMachine *m) {
        return m->facts && m->facts->name && *m->facts->name ? m->facts->name : m->id;
}
