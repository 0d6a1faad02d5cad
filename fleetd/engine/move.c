/* Ordinary units: each has one machine, and two assignments while it moves.
 *
 * The old assignment remains until the unit runs on the new machine; while the old machine is up and drained,
 * until it is available there. If the old machine returns before that, the new assignment is withdrawn
 * instead. */

#include "fleetd/engine/drain.h"
#include "fleetd/engine/plan_internal.h"

enum {
        POSITIONS_MAX =
                8, /* active assignments of one ordinary unit that one plan considers, by machine ID */
        NO_POSITION = POSITIONS_MAX,
};

/* The positions of one unit, by age, and the ones that a decision depends on. */
typedef struct Positions {
        const ClusterUnit *unit;
        Position items[POSITIONS_MAX];
        size_t n;
        size_t fits, replaced; /* the oldest that fits, or is replaced; NO_POSITION: none */
        size_t held;           /* the newest that is held */
} Positions;

static int move_compare_age(const void *a, const void *b) {
        const ClusterAssignment *p = ((const Position *) a)->assignment,
                                *q = ((const Position *) b)->assignment;

        if (p->since_ms != q->since_ms)
                return p->since_ms < q->since_ms ? -1 : 1;
        if (p->created != q->created)
                return p->created < q->created ? -1 : 1;
        return strcmp(p->machine->id, q->machine->id);
}

static void move_positions(Pass *pass, const ClusterUnit *u, Positions *ret) {
        *ret = (Positions) { .unit = u, .fits = NO_POSITION, .replaced = NO_POSITION, .held = NO_POSITION };
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o && ret->n < POSITIONS_MAX;
             o = LIST_NEXT(o, of_unit))
                if (cluster_assignment_is_active(o))
                        ret->items[ret->n++].assignment = o;
        qsort(ret->items, ret->n, sizeof(*ret->items), move_compare_age);

        for (size_t i = 0; i < ret->n; i++) {
                position_judge(pass, &ret->items[i]);
                if (ret->items[i].state == POSITION_FITS && ret->fits == NO_POSITION)
                        ret->fits = i;
                if (ret->items[i].state == POSITION_REPLACED && ret->replaced == NO_POSITION)
                        ret->replaced = i;
                if (ret->items[i].state == POSITION_HELD)
                        ret->held = i;
        }
}

/* Return whether the machine was lost, or had left, when the unit got another one, as far as that is known.
 * One whose daemon was away for a moment has the unit as before. */
static bool move_was_replaced(const ClusterAssignment *kept, const ClusterAssignment *other) {
        return move_was_away(kept, other) &&
               (kept->machine->lost_ms >= kept->since_ms || !rollout_is_available(kept));
}

/* Stop all other assignments once the kept one is up. Before that, withdraw those that were to replace it. */
static void move_stop_others(Pass *pass, const Positions *all, size_t kept, bool up) {
        char buffer[CLUSTER_LABEL_SIZE];
        const char *name;

        if (all->n == 1)
                return;
        name = cluster_machine_label(all->items[kept].assignment->machine, buffer);
        for (size_t i = 0; i < all->n; i++) {
                const ClusterAssignment *o = all->items[i].assignment;

                if (i == kept)
                        continue;
                if (up && i > kept && move_awaits_newer(pass, &all->items[kept], &all->items[i]))
                        plan_keep(pass, o);
                else if (up) {
                        plan_stop_replaced(pass, o, all->items[kept].assignment);
                        if (pass->error == 0)
                                reconnect_defer(pass, all->unit, o);
                } else if (position_is_overdue(pass, &all->items[i]))
                        position_stop_unfit(pass, &all->items[i]);
                else if (i > kept)
                        plan_change(pass, o->machine, o->of, ASSIGNMENT_STOP,
                                    move_was_away(all->items[kept].assignment, o) ? VERDICT_IS_BACK :
                                                                                    VERDICT_STAYS_ON,
                                    "%s", name);
        }
}

/* Return whether the unit is known not to run there. While it starts, or without a known state, it may run.
 */
static bool move_is_known_down(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return !plan_is_up(o) && s && active_state_is_down(s->state.active);
}

typedef enum MoveLiveness { MOVE_DOWN, MOVE_MAY_RUN, MOVE_UP, MOVE_AVAILABLE } MoveLiveness;

static MoveLiveness move_liveness(const Position *p) {
        if (plan_is_up(p->assignment))
                return rollout_is_available(p->assignment) ? MOVE_AVAILABLE : MOVE_UP;
        return move_is_known_down(p->assignment) ? MOVE_DOWN : MOVE_MAY_RUN;
}

/* Return whether the unit runs in an older position, which a drain or a request ends, or ended until it was
 * cancelled. */
static bool move_serves_until(const Position *old, const ClusterAssignment *newer) {
        if (old->assignment->machine->presence != PRESENCE_UP || !plan_is_up(old->assignment))
                return false;
        return position_leaves(old) ||
               (old->state == POSITION_FITS && !move_was_replaced(old->assignment, newer));
}

/* Return whether the unit runs in the position as long as is necessary before its other ones end. While it
 * serves in an older one, it has to be available; if the machines of these shut down, healthy is enough. */
static bool move_has_arrived(const Pass *pass, const Positions *all, size_t i) {
        const ClusterAssignment *o = all->items[i].assignment;
        bool stopping = false;

        if (!plan_is_up(o))
                return false;
        for (size_t k = 0; k < i; k++) {
                if (!move_serves_until(&all->items[k], o))
                        continue;
                if (!cluster_machine_is_stopping(all->items[k].assignment->machine))
                        return move_is_available(o, plan_names_texts(pass));
                stopping = true;
        }
        return !stopping || plan_is_healthy(o);
}

/* Return whether the unit got its newest position because of maintenance or a request, and is known not to
 * run in the others. It need not run before those end. */
static bool move_interrupts_nothing(const Positions *all) {
        const ClusterAssignment *newest = all->items[all->n - 1].assignment;
        const ClusterState *s = newest->state;

        if (all->n < 2 || !s || !s->state.active || streq(s->state.active, "activating"))
                return false;
        for (size_t i = 0; i + 1 < all->n; i++) {
                const Position *p = &all->items[i];

                if (!position_leaves(p) || !move_is_known_down(p->assignment))
                        return false;
        }
        return true;
}

/* Return the position that a unit goes on with because it has failed on the machine to which it moved, or
 * does not start there: one that is being drained, and where it may run; NULL: there is none. */
static const Position *move_failed(Pass *pass, const Positions *all, size_t kept) {
        uint64_t left_ms = move_start_left_ms(pass, all->items[kept].assignment);
        const Position *back = NULL;
        MoveLiveness best = MOVE_MAY_RUN;

        if (kept != all->n - 1 || kept == 0 || left_ms == UINT64_MAX)
                return NULL;
        for (size_t i = 0; i < kept; i++) {
                const Position *p = &all->items[i];

                if (position_is_drained(p) && !position_is_overdue(pass, p) && move_liveness(p) >= best) {
                        back = p;
                        best = move_liveness(p);
                }
        }
        if (back && left_ms > 0)
                plan_again(pass, left_ms);
        return left_ms > 0 ? NULL : back;
}

/* Return why the unit leaves a newer position; VERDICT_STAYS_ON: another one has failed. */
static VerdictCode move_back_cause(const Pass *pass, const ClusterAssignment *o,
                                   const ClusterAssignment *newest) {
        if (o->machine->presence == PRESENCE_AWAY)
                return VERDICT_WENT_AWAY;
        if (o != newest)
                return VERDICT_STAYS_ON;
        if (move_is_late(pass, o))
                return VERDICT_WAS_LATE;
        if (move_ran_there(o))
                return VERDICT_FAILED_THERE;
        return plan_is_up(o) ? VERDICT_CHECKS_FAILED : VERDICT_START_FAILED;
}

/* The unit goes on in the position 'back', and leaves the newer ones. */
static void move_back(Pass *pass, const Positions *all, const Position *back) {
        const ClusterAssignment *newest = all->items[all->n - 1].assignment;
        char buffer[CLUSTER_LABEL_SIZE];
        const char *name = cluster_machine_label(back->assignment->machine, buffer);

        for (const Position *p = back + 1; p < all->items + all->n; p++) {
                const ClusterAssignment *o = p->assignment;

                if (p->state != POSITION_GONE)
                        plan_change(pass, o->machine, o->of, ASSIGNMENT_STOP,
                                    move_back_cause(pass, o, newest), "%s", name);
        }
        drain_note_failure(pass, back->assignment, newest->machine);
}

/* The unit remains in the position 'kept'. */
static void move_stay(Pass *pass, const Positions *all, size_t kept) {
        const ClusterAssignment *o = all->items[kept].assignment;
        bool up = move_has_arrived(pass, all, kept) || (kept == all->n - 1 && move_interrupts_nothing(all));
        const Position *back = up ? NULL : move_failed(pass, all, kept);

        if (back) {
                move_back(pass, all, back);
                return;
        }
        plan_keep(pass, o);
        move_stop_others(pass, all, kept, up);
        if (up)
                plan_stop_strays(pass, o->of, VERDICT_STRAYS);
}

/* Return the position from which a drain or a request moves the unit: where it is up, else where it may run,
 * else any, and the newest of these. NULL: it leaves for another reason, too, without limits. Lost machines
 * do not count.
 */
static const Position *move_drained(const Positions *all) {
        const Position *from = NULL;
        MoveLiveness best = MOVE_DOWN;
        bool only = true;

        for (size_t i = 0; i < all->n; i++) {
                const Position *p = &all->items[i];

                if (position_leaves(p) && move_liveness(p) >= best) {
                        from = p;
                        best = move_liveness(p);
                }
                only &= position_leaves(p) || p->state == POSITION_GONE;
        }
        return from && (only || plan_is_up(from->assignment)) ? from : NULL;
}

/* Move=stop-first, or Move=no: the unit gets its other machine when it has ended on these ones, on one of
 * which it may be available while it is updated on the other. */
static void move_stop_first(Pass *pass, const Positions *all, const Position *from) {
        char name[CLUSTER_LABEL_SIZE];
        Error why = {};

        for (size_t i = 0; i < all->n; i++)
                if (!position_has_budget(pass, &all->items[i], &why)) {
                        position_wait(pass, from, &why);
                        return;
                }

        for (size_t i = 0; i < all->n; i++) {
                const ClusterAssignment *o = all->items[i].assignment;

                plan_change(pass, o->machine, o->of, ASSIGNMENT_STOP, position_cause(&all->items[i]),
                            "%s" VERDICT_NEXT "it starts elsewhere when it has ended (%s)",
                            cluster_machine_label(o->machine, name),
                            o->of->sticky                                  ? "without its data" :
                            o->of->unit->placement.move == PLACEMENT_STAYS ? "Move=no" :
                                                                             "Move=stop-first");
        }
        if (pass->error == 0)
                pass->plan->changes[pass->plan->n - 1].move = position_reason(from);
        drain_count(pass, from->assignment);
}

/* Return whether the unit has arrived on a machine that it has to leave, too, before that one shuts down. The
 * older position in which it serves is not necessary any more, whether or not another machine qualifies. */
static bool move_has_arrived_on_the_way(const Pass *pass, const Positions *all) {
        const Position *newest = &all->items[all->n - 1];

        if (!position_leaves(newest) || position_is_overdue(pass, newest) ||
            cluster_machine_is_stopping(newest->assignment->machine) ||
            !move_has_arrived(pass, all, all->n - 1))
                return false;
        for (const Position *p = all->items; p < newest; p++)
                if (move_serves_until(p, newest->assignment))
                        return true;
        return false;
}

/* Return whether the unit triggers one that is being stopped there and starts elsewhere: the trigger stops
 * before, and follows. */
static bool move_precedes(const Pass *pass, const Position *p) {
        const ClusterAssignment *o = p->assignment, *triggered = NULL;
        const char *name = unit_triggered(o->of->unit);

        if (name && position_leaves(p))
                triggered = cluster_assignment(pass->cluster, o->machine->id, name);
        return triggered && triggered->kind == ASSIGNMENT_STOP;
}

/* The unit fits in none of its positions, and gets another machine. Until it runs there, each position
 * continues that a conflict does not forbid, also while the other machine has a hold-off. If no other machine
 * is available, it remains where another unit replaces it. */
static void move_away(Pass *pass, const Positions *all) {
        const Position *back = move_failed(pass, all, all->n - 1), *drained = move_drained(all),
                       *last = drained ?: &all->items[all->n - 1];
        const ClusterUnit *u = all->unit;
        bool found, soon, requested, ended = plan_is_of_finished(u);
        const ClusterMachine *m = NULL;
        char name[CLUSTER_LABEL_SIZE];
        AssignmentChange *c;
        Error why = {};
        int r;

        if (back) {
                move_back(pass, all, back);
                return;
        }
        if (bound_is_rejected(last)) {
                position_wait_bound(pass, last);
                return;
        }
        if (move_has_arrived_on_the_way(pass, all)) {
                move_stay(pass, all, all->n - 1);
                return;
        }
        if (drained && !drain_admits(pass, last->assignment, &why)) {
                position_wait(pass, last, &why);
                return;
        }
        r = drain_pick(pass, last->assignment, &m, &why);
        soon = r == -EAGAIN;
        found = r >= 0 && !(all->replaced != NO_POSITION && scheduler_replaced_by(pass->view, u, m));
        if (found && ended && !plan_takes_finished(m)) {
                plan_wait(pass, u, VERDICT_RUNS_AGAIN, "%s", cluster_machine_label(m, name));
                return;
        }
        if (!found && all->replaced != NO_POSITION) {
                move_stay(pass, all, all->replaced);
                return;
        }

        if (drained && found && !ended && cluster_unit_stops_first(u)) {
                move_stop_first(pass, all, drained);
                return;
        }
        for (size_t i = 0; i < all->n; i++) {
                const Position *p = &all->items[i];

                /* The assignment of a conflicting unit has no effect, and without it the machine would be
                 * selected again at once. A machine in maintenance waits for its last units. Without the
                 * assignment of a finished unit, it would be run again. */
                if (plan_stays_finished(p->assignment))
                        continue;
                if ((!found && move_precedes(pass, p)) ||
                    (position_is_overdue(pass, p) &&
                     (found || !drain_is_for_reboot(p->assignment->machine))) ||
                    (p->state == POSITION_UNFIT && p->rule != RULE_FOREIGN && !position_leaves(p) &&
                     (!(found || soon) || scheduler_is_conflict(p->rule))))
                        position_stop_unfit(pass, p);
        }
        if (!found) {
                position_explain_wait(pass, u, last);
                return;
        }
        requested = last->state == POSITION_UNFIT && last->rule == RULE_MOVE;
        c = plan_change(pass, m, u, plan_wanted_kind(u),
                        requested ? VERDICT_MOVED_ON_REQUEST : position_cause(last),
                        "%s" VERDICT_NEXT "%s" VERDICT_NEXT "%s",
                        cluster_machine_label(last->assignment->machine, name),
                        requested ? cluster_machine_name(m) : why.message,
                        drained && u->unit->placement.move == PLACEMENT_MOVE_UNKNOWN ?
                                "; its Move= is of a later version of fleetd: taken as start-first" :
                                "");
        if (c)
                c->move = position_reason(last);
        if (drained)
                drain_count(pass, drained->assignment);
}

/* The unit waits for its machine, which is down and has its data. */
static void move_wait_data(Pass *pass, const ClusterAssignment *o, const ClusterUnit *holder) {
        char name[CLUSTER_LABEL_SIZE], text[DATA_TEXT_SIZE];

        plan_wait(pass, o->of, VERDICT_AWAITS_DATA, "%s" VERDICT_NEXT "%s" VERDICT_NEXT "%s",
                  cluster_machine_label(o->machine, name), cluster_data_text(pass->cluster, holder, text),
                  cluster_machine_is_removed(o->machine) ? "not in the cluster" :
                  o->machine->presence == PRESENCE_LEFT  ? "shut down" :
                                                           "lost");
}

/* The unit fits in none of its positions, and one of them is held: the plan waits for that machine. Meanwhile
 * the unfit position continues in which it runs, or else the newest one (a move was under way), unless the
 * unit is known to run in the held one. */
static void move_wait(Pass *pass, const Positions *all) {
        const ClusterAssignment *o = all->items[all->held].assignment;
        const ClusterUnit *holder = cluster_data_holder(all->unit, o->machine);
        char name[CLUSTER_LABEL_SIZE];
        const Position *back = NULL, *spared = NULL;

        if (plan_has_finished(o) ||
            (o->machine->presence == PRESENCE_AWAY && move_has_arrived(pass, all, all->held))) {
                move_stay(pass, all, all->held);
                return;
        }

        back = move_failed(pass, all, all->held);
        if (back) {
                move_back(pass, all, back);
                return;
        }
        plan_keep(pass, o);
        if (holder)
                move_wait_data(pass, o, holder);
        else if (bound_left_ms(pass, o) > 0)
                plan_wait(pass, all->unit,
                          o->machine->presence == PRESENCE_LEFT ? VERDICT_AWAITS_LEFT : VERDICT_AWAITS_LOST,
                          "%s" VERDICT_NEXT "%s", cluster_machine_label(o->machine, name),
                          bound_awaits(o) ? "Move=no" : "ReplaceAfterSec=");
        for (size_t i = all->n; i > 0; i--) {
                const Position *p = &all->items[i - 1];

                if (p->state == POSITION_UNFIT && (!spared || move_liveness(p) > move_liveness(spared)))
                        spared = p;
        }
        for (size_t i = all->n; i > 0; i--) {
                const Position *p = &all->items[i - 1];

                if (p->state == POSITION_UNFIT && (p != spared || position_is_overdue(pass, p)))
                        position_stop_unfit(pass, p);
        }
}

/* Return a machine that runs the unit without an assignment while no assigned one runs it: after a restore,
 * or an operator's intervention. A running unit is not stopped for one that does not run. One that a drain
 * would move again runs on without an assignment until then. */
static const ClusterMachine *move_runs_elsewhere(const Pass *pass, const Positions *all) {
        for (size_t i = 0; i < all->n; i++) {
                const Position *p = &all->items[i];

                if (plan_has_finished(p->assignment) ||
                    (plan_is_up(p->assignment) && p->state != POSITION_GONE))
                        return NULL;
        }
        for (const ClusterState *s = LIST_FIRST(&all->unit->states); s; s = LIST_NEXT(s, of_unit))
                if (plan_is_stray(s) && active_state_is_up(s->state.active) &&
                    scheduler_may_adopt(pass->view, all->unit, s->machine) &&
                    scheduler_fits(pass->view, all->unit, s->machine, true, NULL))
                        return s->machine;
        return NULL;
}

/* Plan a unit without an active assignment: select the machine that gets one. */
static void move_assign(Pass *pass, const ClusterUnit *u) {
        const ClusterMachine *m;
        Error why = {};

        /* A unit that is still being stopped starts on no other machine. It stays where it is if the rules
         * for new units allow that: it displaces no unit that was placed since. */
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                if (presence_is_down(o->machine->presence))
                        continue;
                if (scheduler_may_return(pass->view, u, o->machine) && !move_awaits_stop(pass, o))
                        plan_change(pass, o->machine, u, plan_wanted_kind(u), VERDICT_KEEPS_MACHINE, "%s",
                                    "");
                return;
        }

        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit)) {
                if (!plan_is_stray(s) || !active_state_is_up(s->state.active) ||
                    !scheduler_may_adopt(pass->view, u, s->machine))
                        continue;
                plan_change(pass, s->machine, u, plan_wanted_kind(u), VERDICT_RUNS_THERE, "%s", "");
                return;
        }

        if (scheduler_pick(pass->view, u, &m, &why) >= 0)
                plan_change(pass, m, u, plan_wanted_kind(u), VERDICT_SAID, "%s", why.message);
        else
                plan_wait(pass, u, VERDICT_SAID, "%s", why.message);
}

/* Return whether the update on the other machine goes on. A machine that is away may return, as in a drain.
 */
static bool move_keeps_surge(Pass *pass, const Position *p) {
        uint64_t left_ms;

        if (p->state != POSITION_HELD || p->assignment->machine->presence != PRESENCE_AWAY)
                return p->state == POSITION_FITS;
        left_ms = move_start_left_ms(pass, p->assignment);
        if (left_ms > 0)
                plan_again(pass, left_ms);
        return left_ms > 0;
}

/* An update starts the unit on another machine first: it stops on the former one when it is available there.
 * A surge instance without a rollout ends. Also a drain or a request waits for that: it would withdraw one
 * that fails, and the update would assign it again. While it is paused, it assigns none. False: there is
 * none, or one of the two has to move. */
static bool move_surge(Pass *pass, const Positions *all) {
        const ClusterAssignment *surge = all->items[all->n - 1].assignment, *former = rollout_replaced(surge);
        const RolloutRecord *update = rollout_head(pass->cluster, all->unit)->rollout;
        bool fits = former && move_keeps_surge(pass, &all->items[all->n - 1]), leaves = false;
        char name[CLUSTER_LABEL_SIZE];

        for (size_t i = 0; i < all->n; i++) {
                const Position *p = &all->items[i];

                leaves |= p->assignment == former && position_leaves(p);
                fits &= p->assignment != former || p->state == POSITION_FITS ||
                        (position_leaves(p) && !position_is_overdue(pass, p));
        }
        if (!fits || all->n != 2)
                return false;
        if (rollout_is_available(surge)) {
                plan_keep(pass, surge);
                plan_stop_replaced(pass, former, surge);
        } else if (leaves && update && update->state == ROLLOUT_PAUSED)
                plan_change(pass, surge->machine, all->unit, ASSIGNMENT_STOP, VERDICT_UPDATE_PAUSED, "%s",
                            cluster_machine_label(former->machine, name));
        else if (!rollout_surges(pass->cluster, surge))
                plan_change(pass, surge->machine, all->unit, ASSIGNMENT_STOP, VERDICT_UPDATE_ENDED, "%s",
                            cluster_machine_label(former->machine, name));
        return true;
}

void move_unit(Pass *pass, const ClusterUnit *u) {
        const ClusterMachine *elsewhere;
        const Position *newest;
        Positions all;

        move_positions(pass, u, &all);
        if (all.n == 0) {
                move_assign(pass, u);
                return;
        }

        if (move_surge(pass, &all))
                return;
        elsewhere = u->target == TARGET_LAUNCHED ? move_runs_elsewhere(pass, &all) : NULL;
        if (elsewhere) {
                plan_change(pass, elsewhere, u, ASSIGNMENT_RUN, VERDICT_RUNS_THERE, "%s", "");
                return;
        }

        /* The unit has arrived, or has finished, in the newest position: the move is complete. */
        newest = &all.items[all.n - 1];
        if ((newest->state == POSITION_HELD && plan_has_finished(newest->assignment)) ||
            (newest->state == POSITION_FITS && move_has_arrived(pass, &all, all.n - 1)))
                all.fits = all.n - 1;

        if (all.fits != NO_POSITION)
                move_stay(pass, &all, all.fits);
        else if (all.held == NO_POSITION)
                move_away(pass, &all);
        else if (all.replaced == NO_POSITION)
                move_wait(pass, &all);
        else
                move_stay(pass, &all, all.replaced);
}
