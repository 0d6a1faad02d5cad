/* The state of an assignment, as plans judge it. */
#include "fleetd/engine/plan_internal.h"

/* A daemon of an older version may publish that of a unit whose class does not finish. */
bool plan_has_finished(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return s && s->state.done && (!o->of->unit || unit_finishes(o->of->unit));
}

/* The agent removes a state together with its assignment, so that a state is never of an earlier assignment.
 */
bool plan_is_up(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        if (!s)
                return false;
        if (plan_has_finished(o))
                return true;
        if (o->kind == ASSIGNMENT_LOAD)
                return s->state.load && streq(s->state.load, "loaded");
        return active_state_is_up(s->state.active);
}

bool plan_is_healthy(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return plan_is_up(o) && s->state.health != UNIT_HEALTH_FAILING &&
               s->state.health != UNIT_HEALTH_STARTING;
}

bool plan_is_current(const ClusterAssignment *o) {
        return o->hash[0] ? streq(o->hash, o->of->unit->hash) : o->unit_index == o->of->index;
}

bool plan_has_former_text(const ClusterAssignment *o) {
        return o->hash[0] && !plan_is_current(o);
}

bool plan_has_content(const ClusterAssignment *o, const UnitState *s) {
        const Unit *unit = o->of->unit;

        return s->inputs >= o->inputs || !unit || !input_policy_restarts(&unit->placement.inputs);
}

AssignmentKind plan_wanted_kind(const ClusterUnit *u) {
        return u->target == TARGET_LAUNCHED ? ASSIGNMENT_RUN : ASSIGNMENT_LOAD;
}

bool plan_is_wanted(const ClusterUnit *u) {
        return cluster_unit_is_wanted(u);
}

bool engine_may_leave(const ClusterAssignment *o) {
        return cluster_assignment_is_active(o) && !cluster_unit_is_unreadable(o->of) &&
               plan_is_wanted(o->of) && !plan_has_finished(o);
}

bool plan_is_stray(const ClusterState *s) {
        return !cluster_assignment_on(s->machine, s->unit) && s->machine->presence == PRESENCE_UP;
}

bool plan_names_texts(const Pass *pass) {
        return pass->limits && pass->limits->names_texts;
}

bool plan_stays_finished(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return plan_has_finished(o) || (o->finished && o->kind == ASSIGNMENT_RUN &&
                                        !(s && s->state.active && !streq(s->state.active, "inactive")));
}

bool plan_is_of_finished(const ClusterUnit *u) {
        const ClusterAssignment *o;

        LIST_FOREACH(o, &u->assignments, of_unit)
                if (cluster_assignment_is_active(o) && plan_stays_finished(o))
                        return u->unit && !u->unit->placement.global;
        return false;
}

bool plan_takes_finished(const ClusterMachine *m) {
        return m->facts && m->facts->takes_finished;
}

bool plan_is_overdue(const Pass *pass, const ClusterMachine *m) {
        return cluster_machine_is_overdue(m, pass->cluster->now_ms) &&
               pass->brake.until_ms <= pass->cluster->now_ms;
}

void plan_again(const Pass *pass, uint64_t after_ms) {
        pass->plan->again_ms = MIN(pass->plan->again_ms, after_ms);
}
