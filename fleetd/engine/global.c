/* Global units: one assignment on each machine that fits. A new revision goes to one machine at a time. */
#include "fleetd/engine/plan_internal.h"

/* An unreadable machine keeps its assignments unchanged. */
static bool global_takes_part(const ClusterMachine *m) {
        return m->presence == PRESENCE_UP && !cluster_machine_is_unreadable(m);
}

/* Return the assignment that gets the new revision next, or NULL while one that has it is not up yet.
 * Machines that are not up neither wait nor delay others. */
static const ClusterAssignment *global_next_update(const ClusterUnit *u) {
        const ClusterAssignment *next = NULL;

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                const ClusterState *s;

                if (!cluster_assignment_is_active(o) || !global_takes_part(o->machine))
                        continue;
                if (!plan_is_current(o)) {
                        next = next ? next : o;
                        continue;
                }
                s = o->state;
                if (!(s && s->state.hash && streq(s->state.hash, u->unit->hash) && plan_is_up(o)))
                        return NULL;
        }
        return next;
}

static void global_on_machine(Pass *pass, const ClusterUnit *u, const ClusterMachine *m,
                              const ClusterAssignment *update) {
        const ClusterAssignment *o = cluster_assignment(pass->cluster, m->id, u->name);
        SchedulerRule rule;
        Error why = {};

        if (!o || !cluster_assignment_is_active(o)) {
                const ClusterState *s = o ? NULL : cluster_state_on(m, u->name);
                bool runs = s && active_state_is_up(s->state.active);

                if (o    ? scheduler_may_return(pass->view, u, m) :
                    runs ? scheduler_may_adopt(pass->view, u, m) &&
                                    scheduler_fits(pass->view, u, m, true, NULL) :
                           scheduler_fits(pass->view, u, m, false, NULL))
                        plan_change(pass, m, u, plan_wanted_kind(u), VERDICT_GLOBAL_FITS, "%s", "");
                return;
        }

        rule = scheduler_refusal(pass->view, u, m, true, &why);
        if (why.code == -ENOMEM)
                pass->error = why.code;
        if (plan_has_former_text(o) && rule != RULE_MAINTENANCE)
                rule = RULE_NONE;
        if (rule != RULE_NONE && rule != RULE_FOREIGN)
                plan_change(pass, m, u, ASSIGNMENT_STOP, VERDICT_UNFIT, "%s" VERDICT_NEXT "%s",
                            cluster_machine_name(m), error_text(&why, 0));
        else if (o->kind != plan_wanted_kind(u) || o == update || plan_names_texts(pass))
                plan_keep(pass, o);
}

void global_unit(Pass *pass, const ClusterUnit *u) {
        const ClusterAssignment *update = plan_names_texts(pass) ? NULL : global_next_update(u);

        if (!pass->machines)
                pass->machines = cluster_machines_sorted(pass->cluster, &pass->n_machines);
        if (!pass->machines) {
                pass->error = -ENOMEM;
                return;
        }

        for (size_t i = 0; i < pass->n_machines; i++) {
                if (!global_takes_part(pass->machines[i]))
                        continue;
                if (pass->plan->n >= ENGINE_PLAN_MAX) {
                        pass->plan->more = true;
                        return;
                }
                global_on_machine(pass, u, pass->machines[i], update);
        }
}
