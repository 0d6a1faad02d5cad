/* Units that stay on their machine (Move=no), or where their data is (Sticky=).
 *
 * Four events move a unit with Move=no: a request with --force, a drain with --force, the removal of its
 * machine, and its loss. A shutdown is no loss, nor is what follows an announced stop. Where any other unit
 * would be stopped and lose its assignment, this one is loaded only: its assignment is what binds it. Of a
 * sticky unit, the record of its machine binds it, and only a request with --force moves it. */
#include "fleetd/engine/plan_internal.h"

bool bound_is(const ClusterAssignment *o) {
        return scheduler_is_bound(o->of, o->machine) && !o->of->move &&
               !cluster_machine_is_removed(o->machine);
}

bool bound_awaits(const ClusterAssignment *o) {
        return cluster_machine_has_stopped(o->machine) && bound_is(o);
}

AssignmentKind bound_kind(const Pass *pass, const ClusterAssignment *o) {
        const ClusterMachine *m = o->machine;
        AssignmentKind wanted = plan_wanted_kind(o->of);
        bool overdue = plan_is_overdue(pass, m), loaded = o->kind == ASSIGNMENT_LOAD;

        if (wanted != ASSIGNMENT_RUN || !(overdue || (loaded && cluster_machine_was_drained(m))) ||
            plan_stays_finished(o) || !bound_is(o))
                return wanted;
        return loaded || !m->maintenance->purpose[0] ? ASSIGNMENT_LOAD : wanted;
}

bool bound_waits(const ClusterAssignment *o) {
        const MaintenanceRecord *m = o->machine->maintenance;
        const char *active = o->state ? o->state->state.active : NULL;

        if (bound_is(o) && cluster_has_conflicting_unit(o->of, o->machine))
                return true;
        return m && m->deadline_ms > 0 && o->kind == ASSIGNMENT_LOAD && bound_is(o) &&
               active_state_is_down(active);
}

bool bound_is_rejected(const Position *p) {
        return p->state == POSITION_UNFIT && p->rule != RULE_MACHINE_OF && bound_is(p->assignment) &&
               p->assignment->of->unit->placement.move == PLACEMENT_STAYS;
}

uint64_t bound_left_ms(const Pass *pass, const ClusterAssignment *o) {
        bool has_data = cluster_data_holder(o->of, o->machine);
        uint64_t end_ms, now_ms = pass->cluster->now_ms;

        if (has_data || (o->of->sticky && o->of->move))
                return has_data ? UINT64_MAX : 0;
        if (!o->of->unit || o->of->unit->placement.global || cluster_machine_is_removed(o->machine))
                return 0;
        if (bound_awaits(o))
                return UINT64_MAX;
        if (o->machine->presence != PRESENCE_LOST)
                return 0;
        if (__builtin_add_overflow(o->machine->since_ms, o->of->unit->placement.replace_after_ms, &end_ms))
                return UINT64_MAX;
        return end_ms > now_ms ? end_ms - now_ms : 0;
}
