/* What a machine reports of units: their states, and problems of files in its unit directory. */

#include "fleetd/registry/cluster_parts.h"

/* -- Problems -- */

void cluster_problem_free(ClusterMachine *m, ClusterProblem *p) {
        HASH_DEL(m->problems, p);
        problem_record_done(&p->problem);
        free(p);
}

static ClusterProblem *problem_new(ClusterMachine *m, const char *unit) {
        _cleanup_free_ ClusterProblem *p = NEW0(ClusterProblem, 1);

        if (!p)
                return NULL;
        snprintf(p->unit, sizeof(p->unit), "%s", unit);
        HASH_ADD_STR(m->problems, unit, p);
        return TABLE_ADDED(p) ? TAKE_PTR(p) : NULL;
}

static int problem_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterProblem *p = cluster_problem(c, k->machine, k->unit);

        if (!p)
                p = problem_new(e->machine, k->unit);
        if (!p)
                return -ENOMEM;
        problem_record_done(&p->problem);
        p->problem = *(Problem *) v->record;
        free(TAKE_PTR(v->record)); /* its contents are the entry's now */
        p->index = v->modified;
        return 0;
}

static int problem_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterProblem *p = cluster_problem(c, k->machine, k->unit);

        if (p)
                cluster_problem_free(e->machine, p);
        return 0;
}

static int problem_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        int r = 0;

        for (ClusterProblem *p = e->machine->problems; p && r == 0; p = p->hh.next)
                r = found(userdata, LAYOUT_PROBLEM, p->unit, e->machine->id);
        return r;
}

static const JsonField problem_shown[] = {
        { "confirmed", JSON_FIELD_BOOL, offsetof(Problem, confirmed) },
        { "problem", JSON_FIELD_WORD, offsetof(Problem, kind), .words = &problem_words },
        { "reason", JSON_FIELD_OWNED, offsetof(Problem, text) },
};

KIND(problem, "machine/%m/problem/%u", "problem", CHANGED_PROBLEM, OF_MACHINE | NAMES_UNIT, KV_LEVEL_FIRST,
     SLICE_MACHINE,
     { .own_set = RIGHT_REPORT,
       .own_remove = RIGHT_REPORT,
       .set = RIGHT_UNITS_CHANGE,
       .reports = 1u << KV_REPORT_OTHER },
     REMOVAL_OF_REPORTS | REMOVAL_OF_UNREADABLE, kind_stays, .record = &problem_record,
     .shown = JSON_FIELDS(problem_shown), .apply = problem_apply, .clear = problem_clear,
     .each = problem_each);

/* -- States -- */

/* Count the state among those of its unit, or no more. */
static void state_count(ClusterState *s, int by) {
        const char *active = s->state.active ?: "";

        s->of->n_active += active_state_is_up(active) ? by : 0;
        s->of->n_failed += streq(active, "failed") ? by : 0;
}

/* Set the state of the assignment of the unit to the machine, if there is one. */
static void state_assign(const ClusterState *s, ClusterState *now) {
        ClusterAssignment *a = cluster_assignment_on(s->machine, s->unit);

        if (a)
                a->state = now;
}

void cluster_state_free(ClusterState *s) {
        state_assign(s, NULL);
        state_count(s, -1);
        HASH_DEL(s->machine->states, s);
        LIST_REMOVE(s, of_unit);
        unit_state_done(&s->state);
        free(s);
}

static ClusterState *state_new(const KindEntries *e) {
        _cleanup_free_ ClusterState *s = NEW0(ClusterState, 1);

        if (!s)
                return NULL;
        s->machine = e->machine;
        s->of = e->unit;
        memcpy(s->unit, e->unit->name, sizeof(s->unit));
        HASH_ADD_STR(e->machine->states, unit, s);
        if (!TABLE_ADDED(s))
                return NULL;
        CLUSTER_LIST_INSERT(&e->unit->states, s);
        state_assign(s, s);
        return TAKE_PTR(s);
}

static int state_apply(Cluster *c, const KindEntries *e, const LayoutKey *k, KindValue *v) {
        ClusterState *s = cluster_state_on(e->machine, k->unit) ?: state_new(e);

        if (!s)
                return -ENOMEM;
        state_count(s, -1);
        unit_state_done(&s->state);
        s->state = *(UnitState *) v->record;
        free(TAKE_PTR(v->record)); /* as above */
        state_count(s, 1);
        s->index = v->modified;
        return 0;
}

static int state_clear(Cluster *c, const KindEntries *e, const LayoutKey *k) {
        ClusterState *s = cluster_state_on(e->machine, k->unit);

        if (s)
                cluster_state_free(s);
        return 0;
}

static int state_each(const Cluster *c, const KindEntries *e, KindFound *found, void *userdata) {
        int r = 0;

        for (ClusterState *s = e->unit ? LIST_FIRST(&e->unit->states) : e->machine->states; s && r == 0;
             s = e->unit ? LIST_NEXT(s, of_unit) : s->hh.next)
                r = found(userdata, LAYOUT_STATE, s->unit, s->machine->id);
        return r;
}

/* Each host publishes what runs there: a state of the former lineage would stop a unit on the host where it
 * runs meanwhile. A unit that ended successfully is not run again, also if its host never reports. */
static bool state_ends(const NewLineage *lineage, const LayoutKey *k, KvBytes value) {
        _cleanup_unit_state_ UnitState state = {};

        return stored_state_read(value.data, value.size, &state, NULL) < 0 || !state.done;
}

static const JsonField state_shown[] = {
        { "active", JSON_FIELD_OWNED, offsetof(UnitState, active) },
        { "finished", JSON_FIELD_BOOL, offsetof(UnitState, done) },
        { "load", JSON_FIELD_OWNED, offsetof(UnitState, load) },
        { "since", JSON_FIELD_U64, offsetof(UnitState, since_ms) },
        { "sub", JSON_FIELD_OWNED, offsetof(UnitState, sub) },
};

KIND(state, "state/%u/%m", "state", CHANGED_STATE, OF_UNIT | OF_MACHINE, KV_LEVEL_FIRST, SLICE_MACHINE,
     { .own_set = RIGHT_REPORT,
       .own_remove = RIGHT_REPORT,
       .remove = RIGHT_ADMINISTER,
       .reports = 1u << KV_REPORT_STATE },
     REMOVAL_OF_REPORTS, state_ends, .record = &state_record, .shown = JSON_FIELDS(state_shown),
     .apply = state_apply, .clear = state_clear, .each = state_each);
