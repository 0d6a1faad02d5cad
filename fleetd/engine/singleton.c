/* Singletons: a unit that may still run on one machine starts on no other one.
 *
 * It is stopped before it moves. It has ended there when the machine reports that, which ends the assignment
 * to stop. Otherwise it has ended after the time that the assignment names (singleton_hold_ms()): a lease
 * that the machine requested after the assignment was committed is granted together with the assignment, so
 * that the machine renews no guard by it. That time begins when this leader knows the assignment, and
 * again with each leader: a former one confirmed leases until the next one was elected, not after. */
#include "fleetd/engine/drain.h"
#include "fleetd/engine/plan_internal.h"
#include "units/singleton.h"

bool singleton_is(const ClusterUnit *u) {
        const ClusterAssignment *former = NULL;
        bool current = false, held = false;

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (!cluster_assignment_is_active(o))
                        held |= o->hold_ms > 0;
                else if (!plan_has_former_text(o))
                        current = true;
                else if (!former || o->hold_ms > former->hold_ms)
                        former = o;
        if (former && (former->hold_ms > 0 || !current))
                return former->hold_ms > 0;
        return u->unit->placement.singleton || (held && !current);
}

/* Return for how long at most a process may run that is to be stopped since 'known_ms'. UINT64_MAX: until its
 * machine reports its end, because it has no guard. */
static uint64_t singleton_left_ms(const Pass *pass, uint64_t known_ms, uint64_t hold_ms) {
        uint64_t end_ms, now_ms = pass->cluster->now_ms;

        if (hold_ms == 0 || __builtin_add_overflow(MAX(known_ms, pass->limits ? pass->limits->leads_ms : 0),
                                                   hold_ms, &end_ms))
                return UINT64_MAX;
        return end_ms > now_ms ? end_ms - now_ms : 0;
}

/* Wait until the unit has ended on the machine. */
static void singleton_wait(Pass *pass, const ClusterUnit *u, const ClusterMachine *m, uint64_t left_ms) {
        char buffer[CLUSTER_LABEL_SIZE];
        const char *name = cluster_machine_label(m, buffer);

        if (left_ms == UINT64_MAX) {
                plan_wait(pass, u, VERDICT_MAY_RUN_IT, "%s", name);
                return;
        }
        plan_again(pass, left_ms);
        if (m->presence == PRESENCE_UP)
                plan_wait(pass, u, VERDICT_STOPS_IT, "%s", name);
        else
                plan_wait(pass, u, VERDICT_LEASE_RUNS, "%s", name);
}

/* -- A unit with a machine -- */

/* A machine that is away does not renew the lease: the unit stops there, unlike any other one. */
static void singleton_judge(Pass *pass, Position *p) {
        const ClusterMachine *m = p->assignment->machine;
        uint64_t end_ms;

        position_judge(pass, p);
        if (p->state != POSITION_HELD || m->presence != PRESENCE_AWAY || plan_has_finished(p->assignment) ||
            bound_is(p->assignment))
                return;
        end_ms = m->since_ms + SINGLETON_WATCHDOG_MS +
                 singleton_lease_ms(cluster_settings(pass->cluster)->singleton_lease_ms);
        if (end_ms > pass->cluster->now_ms)
                plan_again(pass, end_ms - pass->cluster->now_ms);
        else
                p->state = POSITION_GONE;
}

/* Return whether 'p' is a better machine to keep than 'q'. */
static bool singleton_prefers(const Position *p, const Position *q) {
        bool p_up = plan_is_up(p->assignment), q_up = plan_is_up(q->assignment);

        if ((p->state == POSITION_FITS) != (q->state == POSITION_FITS))
                return p->state == POSITION_FITS;
        return p_up && !q_up;
}

/* The unit has to leave the machine. */
static void singleton_leave(Pass *pass, const ClusterUnit *u, const Position *p) {
        const ClusterAssignment *o = p->assignment;
        const ClusterMachine *other;
        bool leaves = position_leaves(p);
        char name[CLUSTER_LABEL_SIZE];
        Error why = {};

        /* No process of it runs: it needs not end first. Its next machine does not run it again. */
        if (plan_stays_finished(o)) {
                if (scheduler_pick(pass->view, u, &other, &why) >= 0 && plan_takes_finished(other))
                        plan_change(pass, other, u, plan_wanted_kind(u), position_cause(p),
                                    "%s" VERDICT_NEXT "%s", cluster_machine_label(o->machine, name),
                                    why.message);
                return;
        }
        if (leaves && !drain_admits(pass, o, &why)) {
                position_wait(pass, p, &why);
                return;
        }
        if (leaves && plan_is_overdue(pass, o->machine) && !drain_is_for_reboot(o->machine))
                position_stop_unfit(pass, p);
        else if (scheduler_pick(pass->view, u, &other, &why) >= 0) {
                if (leaves && !position_has_budget(pass, p, &why)) {
                        position_wait(pass, p, &why);
                        return;
                }
                plan_change(pass, o->machine, u, ASSIGNMENT_STOP, position_cause(p),
                            "%s" VERDICT_NEXT "it starts elsewhere when it has ended",
                            cluster_machine_label(o->machine, name));
                if (pass->error == 0)
                        pass->plan->changes[pass->plan->n - 1].move = position_reason(p);
                if (leaves)
                        drain_count(pass, o);
        } else if (p->state == POSITION_REPLACED)
                plan_keep(pass, o);
        else if (p->state == POSITION_UNFIT && p->rule != RULE_FOREIGN && !leaves)
                position_stop_unfit(pass, p);
        else
                position_explain_wait(pass, u, p);
}

static void singleton_keep(Pass *pass, const ClusterUnit *u, const Position *p) {
        const ClusterAssignment *o = p->assignment;

        if (o->hold_ms == 0 && !plan_has_finished(o))
                plan_change(pass, o->machine, u, ASSIGNMENT_STOP, VERDICT_SINGLETON_NEW, "%s", "");
        else if (p->state == POSITION_FITS || p->state == POSITION_HELD)
                plan_keep(pass, o);
        else if (bound_is_rejected(p))
                position_wait_bound(pass, p);
        else
                singleton_leave(pass, u, p);
}

/* Plan a unit with assignments to run: one of them stays. Return false if there is none. */
static bool singleton_plan_active(Pass *pass, const ClusterUnit *u) {
        Position kept = {};

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                Position p = { .assignment = o };

                if (!cluster_assignment_is_active(o))
                        continue;
                singleton_judge(pass, &p);
                if (!kept.assignment || singleton_prefers(&p, &kept))
                        kept = p;
        }
        if (!kept.assignment)
                return false;
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (cluster_assignment_is_active(o) && o != kept.assignment)
                        plan_change(pass, o->machine, u, ASSIGNMENT_STOP, VERDICT_SINGLETON_OTHER, "%s", "");
        plan_stop_strays(pass, u, VERDICT_SINGLETON_OTHER);
        singleton_keep(pass, u, &kept);
        return true;
}

/* -- A unit without one -- */

static bool singleton_may_run(const ClusterState *s) {
        return !s->state.done && s->state.active && !active_state_is_down(s->state.active);
}

/* Plan a unit that a machine reports, or reported, without an assignment. Return false if there is none. */
static bool singleton_plan_stray(Pass *pass, const ClusterUnit *u) {
        uint64_t lease_ms = singleton_lease_ms(cluster_settings(pass->cluster)->singleton_lease_ms);

        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit)) {
                uint64_t left_ms = singleton_left_ms(pass, 0, singleton_hold_ms(&u->unit->file, lease_ms));

                if (cluster_assignment_on(s->machine, s->unit) || !singleton_may_run(s) ||
                    (s->machine->presence != PRESENCE_UP && left_ms == 0))
                        continue;
                if (s->machine->presence != PRESENCE_UP)
                        singleton_wait(pass, u, s->machine, left_ms);
                else if (active_state_is_up(s->state.active) &&
                         scheduler_may_adopt(pass->view, u, s->machine))
                        plan_change(pass, s->machine, u, plan_wanted_kind(u), VERDICT_RUNS_THERE, "%s", "");
                else
                        plan_change(pass, s->machine, u, ASSIGNMENT_STOP, VERDICT_SINGLETON_STRAY, "%s", "");
                return true;
        }
        return false;
}

/* Plan a unit that is being stopped. Return false if it has ended everywhere. */
static bool singleton_plan_stopping(Pass *pass, const ClusterUnit *u) {
        const ClusterAssignment *last = NULL;
        uint64_t most_ms = 0;
        size_t n = 0;

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                uint64_t left_ms = singleton_left_ms(pass, o->known_ms, o->hold_ms);

                n += left_ms > 0;
                if (left_ms <= most_ms)
                        continue;
                most_ms = left_ms;
                last = o;
        }
        if (!last)
                return false;
        if (n == 1 && most_ms != UINT64_MAX && last->machine->presence == PRESENCE_UP &&
            scheduler_may_return(pass->view, u, last->machine) &&
            !scheduler_replaced_by(pass->view, u, last->machine))
                plan_change(pass, last->machine, u, plan_wanted_kind(u), VERDICT_KEEPS_MACHINE, "%s", "");
        else
                singleton_wait(pass, u, last->machine, most_ms);
        return true;
}

void singleton_unit(Pass *pass, const ClusterUnit *u) {
        const ClusterMachine *m;
        Error why = {};

        if (singleton_plan_active(pass, u) || singleton_plan_stopping(pass, u) ||
            singleton_plan_stray(pass, u))
                return;
        if (scheduler_pick(pass->view, u, &m, &why) >= 0)
                plan_change(pass, m, u, plan_wanted_kind(u), VERDICT_SAID, "%s", why.message);
        else
                plan_wait(pass, u, VERDICT_SAID, "%s", why.message);
}
