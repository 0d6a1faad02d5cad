/* A position: one machine of a unit that may have several, and why the unit leaves it. */

#include "fleetd/engine/plan_internal.h"
#include "fleetd/engine/rollout_budget.h"

void position_judge(Pass *pass, Position *p) {
        const ClusterAssignment *o = p->assignment;

        if (o->machine->presence == PRESENCE_AWAY || cluster_machine_is_unreadable(o->machine)) {
                p->state = POSITION_HELD;
                return;
        }
        if (presence_is_down(o->machine->presence)) {
                uint64_t left_ms = bound_left_ms(pass, o);

                p->state = left_ms > 0 || brake_holds(&pass->brake, o->machine) ? POSITION_HELD :
                                                                                  POSITION_GONE;
                if (left_ms > 0)
                        plan_again(pass, left_ms);
                return;
        }
        p->rule = scheduler_refusal(pass->view, o->of, o->machine, true, &p->why);
        if (p->why.code == -ENOMEM)
                pass->error = p->why.code;
        if (plan_has_former_text(o) && p->rule != RULE_MAINTENANCE && p->rule != RULE_MOVE &&
            p->rule != RULE_FOREIGN)
                p->rule = RULE_NONE; /* the rules of the wanted text apply when it has that */
        if (p->rule != RULE_NONE)
                p->state = POSITION_UNFIT;
        else if (o->of->unit->placement.move != PLACEMENT_STAYS && !cluster_data_holder(o->of, o->machine) &&
                 scheduler_replaced_by(pass->view, o->of, o->machine))
                p->state = POSITION_REPLACED;
        else
                p->state = POSITION_FITS;
}

bool position_is_drained(const Position *p) {
        return p->state == POSITION_UNFIT && p->rule == RULE_MAINTENANCE;
}

bool position_leaves(const Position *p) {
        return p->state == POSITION_UNFIT && (p->rule == RULE_MAINTENANCE || p->rule == RULE_MOVE);
}

bool position_is_overdue(const Pass *pass, const Position *p) {
        return position_is_drained(p) && plan_is_overdue(pass, p->assignment->machine);
}

void position_stop_unfit(Pass *pass, const Position *p) {
        const ClusterAssignment *o = p->assignment;
        char name[CLUSTER_LABEL_SIZE];

        if (position_is_overdue(pass, p)) {
                plan_change(pass, o->machine, o->of, ASSIGNMENT_STOP, VERDICT_DRAIN_OVER, "%s",
                            cluster_machine_label(o->machine, name));
                return;
        }
        plan_change(pass, o->machine, o->of, ASSIGNMENT_STOP, VERDICT_UNFIT, "%s" VERDICT_NEXT "%s",
                    cluster_machine_label(o->machine, name), error_text(&p->why, 0));
}

VerdictCode position_cause(const Position *p) {
        switch (p->state) {
        case POSITION_GONE:
                return cluster_machine_is_removed(p->assignment->machine) ? VERDICT_LEAVES_REMOVED :
                       p->assignment->machine->presence == PRESENCE_LEFT  ? VERDICT_LEAVES_LEFT :
                                                                            VERDICT_LEAVES_LOST;
        case POSITION_REPLACED:
                return VERDICT_LEAVES_REPLACED;
        case POSITION_UNFIT:
                if (p->rule == RULE_MAINTENANCE)
                        return cluster_machine_is_leaving(p->assignment->machine)  ? VERDICT_LEAVES_LEAVING :
                               cluster_machine_is_stopping(p->assignment->machine) ? VERDICT_LEAVES_STOPPING :
                                                                                     VERDICT_LEAVES_DRAINED;
                if (p->rule == RULE_MOVE)
                        return VERDICT_LEAVES_REQUESTED;
                /* fall through */
        default:
                return VERDICT_LEAVES_UNFIT;
        }
}

MoveReason position_reason(const Position *p) {
        const ClusterMachine *m = p->assignment->machine;

        if (m->presence == PRESENCE_LEFT || m->maintenance)
                return MOVE_DRAINED;
        if (p->state == POSITION_GONE)
                return MOVE_LOST;
        if (p->rule == RULE_MOVE)
                return MOVE_REQUESTED;
        if (p->state == POSITION_REPLACED || scheduler_is_conflict(p->rule) || p->rule == RULE_FOREIGN)
                return MOVE_CONFLICT;
        return MOVE_EDITED;
}

void position_wait(Pass *pass, const Position *p, const Error *why) {
        const ClusterAssignment *o = p->assignment;
        char name[CLUSTER_LABEL_SIZE];

        plan_wait(pass, o->of, position_cause(p), "%s" VERDICT_NEXT "%s",
                  cluster_machine_label(o->machine, name), why->message);
}

void position_explain_wait(Pass *pass, const ClusterUnit *u, const Position *p) {
        bool unfit = p->state == POSITION_UNFIT && !position_leaves(p);
        char buffer[CLUSTER_LABEL_SIZE];
        const char *name = cluster_machine_label(p->assignment->machine, buffer);
        Error why = {};

        scheduler_explain(pass->view, u, p->assignment->machine, &why);
        if (unfit)
                plan_wait(pass, u, VERDICT_UNFIT_NOW, "%s" VERDICT_NEXT "%s" VERDICT_NEXT "%s", name,
                          p->why.message, why.message);
        else
                plan_wait(pass, u, position_cause(p), "%s" VERDICT_NEXT "%s", name, why.message);
}

/* How many instances of a set may stop. */
typedef struct PlanBudget {
        const ClusterUnit *head;
        RolloutBudget budget;
        size_t n_stopping; /* instances that the first 'n_counted' changes of the plan stop */
        size_t n_counted;
        UT_hash_handle hh;
} PlanBudget;

/* Count the instances of the set that this plan stops, since the last time. */
static void position_count_stopping(const Pass *pass, PlanBudget *b) {
        for (; b->n_counted < pass->plan->n; b->n_counted++) {
                const AssignmentChange *c = &pass->plan->changes[b->n_counted];
                const ClusterUnit *u = c->kind == ASSIGNMENT_STOP ? cluster_unit(pass->cluster, c->unit) :
                                                                    NULL;

                b->n_stopping += u && rollout_head(pass->cluster, u) == b->head;
        }
}

/* Return the budget of the set of a unit: the set is read once for a plan. NULL: out of memory. */
static PlanBudget *position_budget(Pass *pass, const ClusterUnit *u) {
        const ClusterUnit *head = rollout_head(pass->cluster, u);
        PlanBudget *b;

        HASH_FIND_PTR(pass->budgets, &head, b);
        if (!b) {
                b = NEW0(PlanBudget, 1);
                if (b && rollout_read_budget(pass->cluster, head, &b->budget) == 0) {
                        b->head = head;
                        HASH_ADD_PTR(pass->budgets, head, b);
                        scheduler_view_count_work(pass->view, b->budget.n);
                }
                if (!b || !b->head || !TABLE_ADDED(b)) {
                        free(b);
                        pass->error = -ENOMEM;
                        return NULL;
                }
        }
        position_count_stopping(pass, b);
        return b;
}

bool position_has_budget(Pass *pass, const Position *from, Error *ret_why) {
        const ClusterAssignment *o = from->assignment;
        PlanBudget *b;

        if (position_is_overdue(pass, from) || cluster_machine_is_stopping(o->machine) ||
            !rollout_is_counted(pass->cluster, o))
                return true;
        b = position_budget(pass, o->of);
        return b && rollout_permits(&b->budget, b->n_stopping, ret_why);
}

void position_budgets_done(Pass *pass) {
        PlanBudget *budget, *next;

        HASH_ITER(hh, pass->budgets, budget, next) {
                HASH_DEL(pass->budgets, budget);
                free(budget);
        }
}

void position_wait_bound(Pass *pass, const Position *p) {
        const ClusterAssignment *o = p->assignment;
        char buffer[CLUSTER_LABEL_SIZE];
        const char *name = cluster_machine_label(o->machine, buffer);

        /* The assignment of a conflicting unit has no effect, and a finished one would be run again. */
        if (o->kind != ASSIGNMENT_LOAD && p->rule != RULE_FOREIGN && !plan_stays_finished(o))
                plan_change(pass, o->machine, o->of, ASSIGNMENT_LOAD, VERDICT_UNFIT_WAITS,
                            "%s" VERDICT_NEXT "%s", name, error_text(&p->why, 0));
        plan_wait(pass, o->of, VERDICT_UNFIT_NOW,
                  "%s" VERDICT_NEXT "%s" VERDICT_NEXT "it waits there (Move=no)", name,
                  error_text(&p->why, 0));
}
