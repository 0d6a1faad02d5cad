/* OnReconnect=keep-old: while the machine of a unit was lost, another one took over. When it returns and the
 * unit still runs there, the unit goes on there, and stops on the other machine.
 *
 * The lost machine is assigned to stop the unit unless it runs. An agent that finds it running publishes
 * that, and waits; one that finds it ended, as after a reboot, completes the stop. So an instance that does
 * not run never displaces one that does. Older agents stop it in both cases, as with keep-new. */
#include "fleetd/engine/plan_internal.h"

/* The assignment keeps the time since which the unit is there: of several machines that return, the unit goes
 * on where it has been for the longest time. */
void reconnect_defer(Pass *pass, const ClusterUnit *u, const ClusterAssignment *o) {
        AssignmentChange *c = &pass->plan->changes[pass->plan->n - 1];

        if (!u->unit->placement.keeps_old || u->sticky || !plan_names_texts(pass) ||
            plan_wanted_kind(u) != ASSIGNMENT_RUN || o->machine->presence != PRESENCE_LOST)
                return;
        c->unless_running = true;
        c->since_ms = o->since_ms;
}

/* Return the only active assignment of the unit, or NULL; '*ret_n' is their number. */
static const ClusterAssignment *reconnect_other(const ClusterUnit *u, size_t *ret_n) {
        const ClusterAssignment *found = NULL;

        *ret_n = 0;
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                if (!cluster_assignment_is_active(o))
                        continue;
                found = o;
                (*ret_n)++;
        }
        return *ret_n == 1 ? found : NULL;
}

/* Return whether the unit goes on where it ran before: it fits there, has been there for longer than
 * elsewhere, passes its checks, has the text and the content that it has elsewhere, and is not being moved or
 * updated. */
static bool reconnect_keeps(Pass *pass, const ClusterUnit *u, const ClusterAssignment *o,
                            const UnitState *state, const ClusterAssignment *other, size_t n_others) {
        Position p = { .assignment = o };

        if (!plan_is_up(o) || n_others > 1 || u->move ||
            (other && (plan_has_finished(other) || other->since_ms < o->since_ms ||
                       state->health == UNIT_HEALTH_FAILING || !same_string(state->hash, other->hash) ||
                       !plan_has_content(other, state))))
                return false;
        position_judge(pass, &p);
        return p.state == POSITION_FITS;
}

static void reconnect_decide(Pass *pass, const ClusterUnit *u, const ClusterAssignment *o,
                             const UnitState *state) {
        char name[CLUSTER_LABEL_SIZE];
        const ClusterAssignment *other;
        AssignmentChange *c;
        size_t n;

        other = reconnect_other(u, &n);
        if (!reconnect_keeps(pass, u, o, state, other, n)) {
                plan_change(pass, o->machine, u, ASSIGNMENT_STOP, VERDICT_RUNS_ELSEWHERE, "%s", "");
                return;
        }
        c = plan_change(pass, o->machine, u, ASSIGNMENT_RUN, VERDICT_HAS_RUN_THERE, "%s", "");
        if (!c)
                return;
        c->since_ms = o->since_ms;
        plan_set_text(c, o); /* which runs there */
        if (other)
                plan_change(pass, other->machine, u, ASSIGNMENT_STOP, VERDICT_HAS_RUN_ON, "%s",
                            cluster_machine_label(o->machine, name));
}

void reconnect_unit(Pass *pass, const ClusterUnit *u) {
        bool chosen = plan_is_wanted(u) && plan_wanted_kind(u) == ASSIGNMENT_RUN &&
                      u->unit->placement.keeps_old && !u->unit->placement.global &&
                      !u->unit->placement.singleton && !u->sticky;
        size_t n = pass->plan->n;

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o && pass->plan->n == n;
             o = LIST_NEXT(o, of_unit)) {
                const ClusterState *s = o->state;

                if (o->kind != ASSIGNMENT_STOP || !o->unless_running)
                        continue;
                if (!chosen)
                        plan_change(pass, o->machine, u, ASSIGNMENT_STOP,
                                    plan_is_wanted(u) ? VERDICT_IS_ELSEWHERE :
                                    u->unit           ? VERDICT_TO_BE_INACTIVE :
                                                        VERDICT_DESTROYED,
                                    "%s", "");
                else if (o->machine->presence == PRESENCE_UP && s && s->state.kept == o->index)
                        reconnect_decide(pass, u, o, &s->state);
        }
}
