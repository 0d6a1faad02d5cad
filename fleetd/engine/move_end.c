/* When a requested move ends.
 *
 * By the move, the unit fits on one machine only (the scheduler's RULE_MOVE), and leaves the others as in a
 * drain. When the unit is available there and runs nowhere else, or cannot be, the move ends: its key is
 * deleted before anything else of the unit is planned. The unit then fits on its former machine again. */

#include "fleetd/engine/drain.h"
#include "fleetd/engine/plan_internal.h"

/* 'why': of another result than VERDICT_MOVE_DONE. */
static bool move_end(Pass *pass, const ClusterUnit *u, VerdictCode result, const char *why) {
        EnginePlan *plan = pass->plan;
        MoveEnd *end;

        if (GROW(plan->ends, plan->ends_capacity, plan->n_ends + 1) < 0) {
                pass->error = -ENOMEM;
                return true;
        }
        end = &plan->ends[plan->n_ends++];
        end->unit = u;
        verdict_set(&end->result, result, "%s" VERDICT_NEXT "%s" VERDICT_NEXT "%s",
                    cluster_name_of(pass->cluster, u->move->to), u->name, why);
        return true;
}

/* Return an active assignment on another machine whose drain moves the unit; NULL: none. */
static const ClusterAssignment *move_drained_elsewhere(const Pass *pass, const ClusterUnit *u) {
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (cluster_assignment_is_active(a) && !streq(a->machine->id, u->move->to) && !u->sticky &&
                    drain_moves(a, pass->cluster->now_ms))
                        return a;
        return NULL;
}

/* Return whether the record of the machine with its data has followed the unit. */
static bool move_has_data(const ClusterAssignment *there) {
        const ClusterUnit *u = there->of;

        return !u->sticky || there->kind != ASSIGNMENT_RUN ||
               (u->data && streq(u->data->machine, there->machine->id));
}

static bool move_is_only(const ClusterAssignment *there) {
        for (const ClusterAssignment *a = LIST_FIRST(&there->of->assignments); a; a = LIST_NEXT(a, of_unit))
                if (a != there && cluster_assignment_is_active(a))
                        return false;
        return true;
}

/* End the move of a unit that failed there, is failing, or was not started. */
static bool move_end_failed(Pass *pass, const ClusterAssignment *there) {
        const UnitState *s = there->state ? &there->state->state : NULL;
        const char *reason = s ? s->reason : NULL;
        char text[VERDICT_ARGS_SIZE];

        if (s && s->health == UNIT_HEALTH_FAILING && s->why)
                return move_end(pass, there->of, VERDICT_MOVE_FAILED, s->why);
        if (move_ran_there(there)) {
                if (!reason && !streq(s->active, "failed")) /* it ended successfully */
                        reason = s->sub;
                text_format(text, sizeof(text), "it failed there%s%s", reason ? ": " : "", reason ?: "");
                reason = text;
        } else if (!reason)
                reason = s && active_state_is_up(s->active) ? "it failed its checks there" :
                                                              "it did not start there";
        return move_end(pass, there->of, VERDICT_MOVE_FAILED, reason);
}

/* The unit has an assignment on the machine. */
static bool move_ends_there(Pass *pass, const ClusterAssignment *there) {
        Position p = { .assignment = there };
        uint64_t left_ms;

        position_judge(pass, &p);
        if (p.state == POSITION_UNFIT)
                return move_end(pass, there->of, VERDICT_MOVE_FAILED, error_text(&p.why, 0));
        if (p.state == POSITION_REPLACED)
                return move_end(pass, there->of, VERDICT_MOVE_FAILED, "a unit there replaces it");
        if (move_is_available(there, plan_names_texts(pass)))
                return move_is_only(there) && move_has_data(there) &&
                       move_end(pass, there->of, VERDICT_MOVE_DONE, "");
        left_ms = move_start_left_ms(pass, there);
        if (left_ms > 0) {
                plan_again(pass, left_ms);
                return false;
        }
        if (there->machine->presence == PRESENCE_AWAY)
                return move_end(pass, there->of, VERDICT_MOVE_FAILED,
                                "the machine went away before it was available there");
        if (move_is_late(pass, there))
                return move_end(pass, there->of, VERDICT_MOVE_FAILED,
                                "it was not available there within UpdateDeadlineSec=");
        return move_end_failed(pass, there);
}

/* The unit has none yet. A machine that is away may return. */
static bool move_ends_before(Pass *pass, const ClusterUnit *u, const ClusterMachine *to) {
        Error why = {};

        if (to->presence == PRESENCE_AWAY)
                return false;
        if (plan_is_of_finished(u) && !plan_takes_finished(to))
                return move_end(pass, u, VERDICT_MOVE_FAILED, MOVE_RUNS_AGAIN);
        if (!scheduler_fits(pass->view, u, to, false, &why))
                return move_end(pass, u, VERDICT_MOVE_FAILED, error_text(&why, 0));
        return scheduler_replaced_by(pass->view, u, to) &&
               move_end(pass, u, VERDICT_MOVE_FAILED, "a unit there replaces it");
}

bool move_ends(Pass *pass, const ClusterUnit *u) {
        const ClusterMachine *to = cluster_machine(pass->cluster, u->move->to);
        const ClusterAssignment *there = to ? cluster_assignment_on(to, u->name) : NULL, *drained;
        char name[CLUSTER_LABEL_SIZE], why[CLUSTER_LABEL_SIZE + 32];

        if (!plan_is_wanted(u))
                return move_end(pass, u, VERDICT_MOVE_ENDED,
                                u->unit ? "its target state is inactive" : "it was destroyed");
        if (u->unit->placement.global)
                return move_end(pass, u, VERDICT_MOVE_ENDED, "it is global now");
        /* Its data is recorded there first: it has been up there. */
        if (there && !move_has_data(there) && cluster_unit_up(u) == there)
                return false;
        if (!to || presence_is_down(to->presence))
                return move_end(pass, u, VERDICT_MOVE_LOST,
                                to && to->presence == PRESENCE_LEFT ? "it was shut down" : "it is lost");
        drained = move_drained_elsewhere(pass, u);
        if (drained) {
                snprintf(why, sizeof(why), "%s is being drained",
                         cluster_machine_label(drained->machine, name));
                return move_end(pass, u, VERDICT_MOVE_ENDED, why);
        }
        if (there && cluster_assignment_is_active(there))
                return move_ends_there(pass, there);
        return move_ends_before(pass, u, to);
}
