/* Units without an active assignment: the machine that gets one. */
#include "fleetd/engine/plan_internal.h"

int assign_unit(Pass *pass, const ClusterUnit *u) {
        const ClusterMachine *m;
        Error why = {};

        /* A unit that is still being stopped starts on no other machine. It stays where it is if the rules
         * for new units allow that: it displaces no unit that was placed since. */
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                if (plan_is_down(o->machine))
                        continue;
                if (!scheduler_may_return(pass->view, u, o->machine))
                        return 0;
                return plan_change(pass, o->machine, u, o, plan_wanted_kind(u),
                                   "it is wanted again, and was there");
        }

        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit)) {
                if (!plan_is_stray(s) || !streq(s->state.active, "active"))
                        continue;
                if (scheduler_may_return(pass->view, u, s->machine))
                        return plan_change(pass, s->machine, u, NULL, plan_wanted_kind(u),
                                           "it runs there already");
        }

        if (scheduler_pick(pass->view, u, &m, &why) < 0)
                return 0;
        return plan_change(pass, m, u, cluster_assignment(pass->cluster, m->id, u->name), plan_wanted_kind(u),
                           "%s", error_text(&why, 0));
}
