#include "fleetd/engine/explain.h"

#include <time.h>

#include "fleetd/engine/drain.h"
#include "fleetd/engine/plan_internal.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/unit_order.h"
#include "units/api_json.h"

enum { BLOCKED_MAX = 100, DAY_MS = 24 * 3600 * 1000 };

const char *const drained_unit_names[_DRAINED_UNIT_MAX] = {
        [DRAINED_UNIT_MOVES] = "moving",
        [DRAINED_UNIT_STOPS] = "stopping",
        [DRAINED_UNIT_QUEUED] = "queued",
        [DRAINED_UNIT_WAITS] = "waiting",
};

/* -- A unit that is to leave its machine -- */

/* Return a machine to which the unit moves, and that is away; NULL: none. */
static const ClusterMachine *explain_away(const ClusterUnit *u, const ClusterMachine *where) {
        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (a->machine != where && cluster_assignment_is_active(a) &&
                    a->machine->presence == PRESENCE_AWAY)
                        return a->machine;
        return NULL;
}

/* Return whether the availability budget of its set keeps a unit that stops first. */
static bool explain_lacks_budget(const SchedulerView *view, const ClusterAssignment *a, Error *ret_why) {
        EnginePlan plan = {};
        Pass pass = { .cluster = scheduler_view_cluster(view),
                      .view = (SchedulerView *) view, /* no decision is recorded */
                      .plan = &plan };
        Position p = { .assignment = a };
        bool has;

        if (!cluster_unit_stops_first(a->of))
                return false;
        position_judge(&pass, &p);
        has = position_has_budget(&pass, &p, ret_why);
        position_budgets_done(&pass);
        return !has && pass.error == 0;
}

/* Return the unit beside which it stays (MachineOf=), and that has not left the machine either; NULL: none.
 */
static const char *explain_beside(const ClusterUnit *u, const ClusterMachine *where) {
        const Names *names = &u->unit->placement.machine_of;

        for (size_t i = 0; i < names->n; i++) {
                const ClusterAssignment *a = cluster_assignment_on(where, names->items[i]);

                if (a && cluster_assignment_is_active(a))
                        return names->items[i];
        }
        return NULL;
}

/* Set for what a unit that is active on the machine to which it moves waits there; nothing while it starts.
 */
static void explain_start(const Cluster *c, const ClusterAssignment *there, Error *ret) {
        const ClusterState *s = there->state;
        UpdatePolicy policy;

        if (!there->of->unit || !s || s->index < there->index || !active_state_is_up(s->state.active))
                return;
        policy = rollout_policy(rollout_head(c, there->of));
        error_set(ret, 0, "it is available after %llu s (UpdateWatchSec=)",
                  (unsigned long long) (update_watch_ms(&policy) + 999) / 1000);
}

DrainedUnit engine_explain_drain(const SchedulerView *view, const ClusterUnit *u, const ClusterMachine *where,
                                 const ClusterMachine **ret_to, Error *ret_why) {
        const ClusterAssignment *a = cluster_assignment_on(where, u->name),
                                *there = drain_successor(u, where);
        const ClusterMachine *away = explain_away(u, where);
        bool leaves = cluster_machine_is_leaving(where);
        const ClusterUnit *holder = cluster_data_holder(u, where);
        const char *spared, *beside;
        char text[DATA_TEXT_SIZE];

        *ret_to = NULL;
        *ret_why = (Error) {};
        if (cluster_unit_is_unreadable(u)) {
                error_set(ret_why, DRAINED_UNIT_BLOCKED, "%s", CLUSTER_UNREADABLE);
                return DRAINED_UNIT_WAITS;
        }
        if (there) {
                *ret_to = there->machine;
                explain_start(scheduler_view_cluster(view), there, ret_why);
                return DRAINED_UNIT_MOVES;
        }
        if (!a || !cluster_assignment_is_active(a))
                return DRAINED_UNIT_STOPS;
        spared = scheduler_drain_spares(u, where, scheduler_view_now_ms(view));
        if (where->presence == PRESENCE_AWAY)
                error_set(ret_why, DRAINED_UNIT_BLOCKED, "%s is away; on it: systemctl start fleetd",
                          cluster_machine_name(where));
        else if (holder)
                error_set(ret_why, DRAINED_UNIT_STAYS, "its data is there (%s)%s%s%s",
                          cluster_data_text(scheduler_view_cluster(view), holder, text),
                          leaves ? "; to move it without: fleetctl move " : "", leaves ? holder->name : "",
                          leaves ? " HOST --force" : "");
        else if (spared)
                error_set(ret_why, scheduler_is_bound(u, where) ? DRAINED_UNIT_BOUND : 0, "%s", spared);
        else if (where->presence != PRESENCE_UP)
                error_set(ret_why, 0, "%s is %s", cluster_machine_name(where),
                          presence_to_string(where->presence));
        else if (cluster_machine_is_unreadable(where))
                error_set(ret_why, DRAINED_UNIT_BLOCKED, "%s: %s", cluster_machine_name(where),
                          CLUSTER_UNREADABLE);
        else if (away)
                error_set(ret_why, 0, "%s, to which it moves, is away", cluster_machine_name(away));
        else if (drain_explain_retry(scheduler_view_cluster(view), a, ret_why))
                return DRAINED_UNIT_WAITS;
        else if (u->unit && scheduler_pick(view, u, ret_to, NULL) < 0) {
                beside = explain_beside(u, where);
                if (beside) {
                        error_set(ret_why, 0, "after %s, beside which it stays", beside);
                        return DRAINED_UNIT_QUEUED;
                }
                scheduler_explain(view, u, where, ret_why);
        } else if (explain_lacks_budget(view, a, ret_why))
                *ret_to = NULL;
        return ret_why->message[0] ? DRAINED_UNIT_WAITS : DRAINED_UNIT_QUEUED;
}

const ClusterAssignment *engine_first_waiting(const SchedulerView *view, const ClusterMachine *m,
                                              size_t *ret_n, Error *ret_why) {
        const ClusterAssignment *first = NULL;
        const ClusterMachine *to;
        Error why;

        *ret_n = 0;
        for (const ClusterAssignment *a = m->assignments; a && scheduler_view_work(view) <= EXPLAIN_WORK_MAX;
             a = a->hh.next) {
                if (!drain_awaits(a) || engine_explain_drain(view, a->of, m, &to, &why) != DRAINED_UNIT_WAITS)
                        continue;
                ++*ret_n;
                if (first && strcmp(a->unit, first->unit) > 0)
                        continue;
                first = a;
                *ret_why = why;
        }
        return first;
}

/* Return whether the unit stays on a machine that leaves the cluster until people act. */
static bool explain_waits_for_people(const SchedulerView *view, const ClusterUnit *u,
                                     const ClusterMachine *m) {
        const ClusterAssignment *a = cluster_assignment_on(m, u->name);
        uint64_t now_ms = scheduler_view_now_ms(view);
        const ClusterMachine *other;
        Error why;

        if (!a || !drain_awaits(a) || engine_explain_drain(view, u, m, &other, &why) != DRAINED_UNIT_WAITS)
                return false;
        if (cluster_unit_is_unreadable(u))
                return true;
        if (scheduler_drain_spares(u, m, now_ms)) /* a job ends by itself */
                return scheduler_is_bound(u, m);
        return drain_retry_ms(a, now_ms) == 0 && m->presence == PRESENCE_UP &&
               scheduler_pick(view, u, &other, NULL) < 0;
}

int engine_blocked_units(const SchedulerView *view, const ClusterMachine *m, Names *ret) {
        UnitPosition at = {};
        const ClusterUnit *u;
        int r = 0;

        while (r >= 0 && ret->n < BLOCKED_MAX && scheduler_view_work(view) <= EXPLAIN_WORK_MAX &&
               (u = unit_order_next(&scheduler_view_cluster(view)->by_name, &at)))
                if (explain_waits_for_people(view, u, m))
                        r = names_add(ret, u->name, strlen(u->name));
        return r;
}

/* -- A unit with a requested move -- */

const ClusterAssignment *engine_move_from(const ClusterUnit *u) {
        const ClusterAssignment *from = NULL;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit))
                if (!streq(a->machine->id, u->move->to) && (!from || cluster_assignment_is_active(a)))
                        from = a;
        return from;
}

/* The unit is on no machine. */
static DrainedUnit explain_move_from_nowhere(const Cluster *c, const ClusterUnit *u, Error *ret_why) {
        const ClusterAssignment *there = cluster_assignment(c, u->move->to, u->name);
        const ClusterMachine *to = cluster_machine(c, u->move->to);
        const char *held = drain_held(c, false);

        if (there && cluster_assignment_is_active(there)) {
                explain_start(c, there, ret_why);
                return DRAINED_UNIT_MOVES;
        }
        if (held)
                error_set(ret_why, 0, "%s", held);
        else if (to && to->presence != PRESENCE_UP)
                error_set(ret_why, 0, "%s is %s", cluster_machine_name(to), presence_to_string(to->presence));
        return ret_why->message[0] ? DRAINED_UNIT_WAITS : DRAINED_UNIT_QUEUED;
}

DrainedUnit engine_explain_move(const SchedulerView *view, const ClusterUnit *u, bool braked,
                                Error *ret_why) {
        const Cluster *c = scheduler_view_cluster(view);
        const ClusterAssignment *from = engine_move_from(u);
        const ClusterMachine *to;
        const char *reason;
        DrainedUnit state;

        if (!from)
                return explain_move_from_nowhere(c, u, ret_why);
        state = engine_explain_drain(view, u, from->machine, &to, ret_why);
        if (state != DRAINED_UNIT_QUEUED || !u->unit)
                return state;
        reason = scheduler_move_spares(u, from->machine) ?: drain_held(c, braked);
        if (!reason)
                return state;
        error_set(ret_why, 0, "%s", reason);
        return DRAINED_UNIT_WAITS;
}

/* Set what the requested move of the unit does: "moves to gamma: it starts there". */
static void explain_move(const SchedulerView *view, const ClusterUnit *u, bool braked, Error *ret) {
        const char *to = cluster_name_of(scheduler_view_cluster(view), u->move->to);
        const ClusterAssignment *from = engine_move_from(u);
        Error why = {};

        switch (engine_explain_move(view, u, braked, &why)) {
        case DRAINED_UNIT_MOVES:
                error_set(ret, 0, "moves to %s: it starts there", to);
                break;
        case DRAINED_UNIT_STOPS:
                error_set(ret, 0, "moves to %s: %s stops it first", to, cluster_machine_name(from->machine));
                break;
        case DRAINED_UNIT_QUEUED:
                error_set(ret, 0, "moves to %s: queued", to);
                break;
        default:
                error_set(ret, 0, "moves to %s: waiting: %s", to, why.message);
                break;
        }
}

/* -- Any unit -- */

/* The unit in question, and the times that its reason depends on. */
typedef struct ExplainedUnit {
        const SchedulerView *view;
        const Cluster *cluster;
        const ClusterUnit *unit;
        uint64_t brake_ms, wall_ms;
} ExplainedUnit;

/* The mass-failure brake holds the unit back. */
static void explain_brake(const ExplainedUnit *x, Error *ret) {
        EngineBrake brake = {};
        struct tm when = {};
        char until[16] = "";
        time_t seconds;

        if (engine_brake_state(x->cluster, x->brake_ms, &brake) < 0 || brake.until_ms == 0) {
                error_set(ret, 0,
                          "held back: machines that were lost together are replaced one by one (BrakeSec=)");
                return;
        }
        seconds = (time_t) ((x->wall_ms + brake.until_ms - x->cluster->now_ms) / 1000);
        (void) localtime_r(&seconds, &when);
        (void) strftime(until, sizeof(until), "%H:%M:%S", &when);
        error_set(ret, 0, "held back until %s: %zu of %zu machines were lost within a minute (BrakeSec=)",
                  until, brake.n_lost, brake.n_total);
}

/* Set what a unit waits for that cannot stay on its machine, and that no other one has. */
static void explain_next(const ExplainedUnit *x, const ClusterAssignment *a, bool old, Error *ret) {
        const ClusterMachine *where = a->machine, *other;
        const char *held = NULL;

        if (where->maintenance && drain_explain_retry(x->cluster, a, ret))
                return;
        if (cluster_machine_is_draining(where) && where->presence == PRESENCE_UP) {
                if (engine_explain_drain(x->view, x->unit, where, &other, ret) == DRAINED_UNIT_WAITS)
                        return;
                held = drain_held(x->cluster, engine_is_braked(x->cluster, x->brake_ms));
        }
        if (held)
                error_set(ret, 0, "%s", held);
        else if (scheduler_pick(x->view, x->unit, &other, NULL) >= 0)
                error_set(ret, 0, "moving to %s", cluster_machine_name(other));
        else
                scheduler_explain(x->view, x->unit, old ? NULL : where, ret);
}

/* The unit waits, because it cannot stay on its machine: state the cause, then what follows. A machine that
 * has been lost for an hour is no news. A unit that another machine is starting moves, and does not wait.
 * Return the kind. 'unfit': NULL if the machine is down. */
static const char *explain_waiting(const ExplainedUnit *x, const ClusterAssignment *a, const Error *unfit,
                                   Error *ret) {
        const ClusterAssignment *successor = drain_successor(x->unit, a->machine);
        bool old = presence_is_omitted(a->machine, x->cluster->now_ms);
        char buffer[CLUSTER_LABEL_SIZE];
        const char *name = cluster_machine_label(a->machine, buffer);
        Error cause = {}, next = {};

        if (successor)
                error_set(&next, 0, "%s has it", cluster_machine_name(successor->machine));
        else
                explain_next(x, a, old, &next);
        if (unfit)
                error_set(&cause, 0, "%s no longer qualifies (%s); ", name, unfit->message);
        else if (!old)
                error_set(&cause, 0, "%s %s; ", name,
                          a->machine->presence == PRESENCE_LEFT ? "was shut down" : "is lost");
        error_set(ret, 0, "%s: %s%s", successor ? "moving" : "waiting", cause.message, next.message);
        return successor ? API_REASON_MOVING : API_REASON_WAITING;
}

/* Set the reason of a unit whose data may be newer on a host without a report after a restore, with the ways
 * out. */
static bool explain_newer(const ExplainedUnit *x, Error *ret) {
        const ClusterMachine *newer = cluster_data_newer(x->cluster, x->unit);
        bool up = newer && newer->presence == PRESENCE_UP;

        if (newer)
                error_set(ret, 0,
                          "its data may be newer on %s, which did not report in time: %sfleetctl move %s %s "
                          "--force",
                          cluster_machine_name(newer), up ? "if so, " : "bring it up, or ", x->unit->name,
                          up ? cluster_machine_name(newer) : "HOST");
        return newer;
}

/* Set the reason of a unit that waits for the machine with its data, or with that of the unit that it
 * follows, if that is down or unknown, with the two ways out. */
static bool explain_data(const ExplainedUnit *x, const ClusterUnit *of, Error *ret) {
        const char *id = cluster_bound_machine(of);
        const ClusterMachine *m = id ? cluster_machine(x->cluster, id) : NULL;
        char text[DATA_TEXT_SIZE], since[32] = "";
        _cleanup_text_ Text t = {};
        struct tm when = {};
        Verdict why;
        time_t seconds;

        if (!id || (m && !presence_is_down(m->presence)))
                return false;
        if (m && m->presence_index > 0) {
                seconds = (time_t) ((x->wall_ms + m->since_ms - x->cluster->now_ms) / 1000);
                (void) localtime_r(&seconds, &when);
                (void) strftime(since, sizeof(since),
                                x->cluster->now_ms - m->since_ms < (uint64_t) DAY_MS ?
                                        " since %H:%M" :
                                        " since %Y-%m-%d %H:%M",
                                &when);
        }
        verdict_set(&why, VERDICT_AWAITS_DATA, "%.64s" VERDICT_NEXT "%s" VERDICT_NEXT "%s%s",
                    cluster_name_of(x->cluster, id), cluster_data_text(x->cluster, of, text),
                    !m || cluster_machine_is_removed(m) ? "not in the cluster" :
                    m->presence == PRESENCE_LEFT        ? "shut down" :
                                                          "lost",
                    since);
        verdict_append(&t, &why);
        text_printf(&t, "; bring the host %.64s up, or fleetctl move %s HOST --force (without its data)",
                    cluster_name_of(x->cluster, id), of->name);
        error_set(ret, t.error, "%s", text_chars(&t));
        return true;
}

/* Set the reason of a unit that waits for its machine for 'left_ms'. */
static const char *explain_delay(const ExplainedUnit *x, const ClusterAssignment *a, uint64_t left_ms,
                                 Error *ret) {
        const char *name = cluster_machine_name(a->machine);

        if (explain_data(x, cluster_data_holder(x->unit, a->machine) ?: x->unit, ret))
                return API_REASON_WAITING;
        if (bound_awaits(a))
                error_set(ret, 0,
                          "waiting: %s was shut down, and no other machine takes over (Move=no); to move it: "
                          "fleetctl move %s --force",
                          name, a->unit);
        else if (left_ms == UINT64_MAX)
                error_set(ret, 0,
                          "waiting: %s is lost, and no other machine takes over "
                          "(ReplaceAfterSec=never)",
                          name);
        else
                error_set(ret, 0,
                          "waiting: %s is lost, and another machine takes over in %llu s "
                          "(ReplaceAfterSec=)",
                          name, (unsigned long long) (left_ms + 999) / 1000);
        return API_REASON_WAITING;
}

/* Return whether a unit is not started because its secrets and configuration have a problem. */
static bool explain_inputs(const ClusterAssignment *a) {
        const UnitState *s = a->state ? &a->state->state : NULL;

        return a->kind == ASSIGNMENT_RUN && a->of->inputs && a->of->inputs->problem.code != VERDICT_NONE &&
               (!s || (streq(s->active, "inactive") && !s->reason && !s->done));
}

/* Set the reason of a unit that remains on its machine, and return its kind. */
static const char *explain_staying(const ExplainedUnit *x, const ClusterAssignment *a, Error *ret) {
        const ClusterMachine *where = a->machine, *to;
        Error why;

        if (where->maintenance && where->maintenance->mode == MAINTENANCE_DRAINING &&
            engine_explain_drain(x->view, x->unit, where, &to, &why) == DRAINED_UNIT_WAITS) {
                error_set(ret, 0, "waiting: %s is %s; it stays: %s", cluster_machine_name(where),
                          cluster_machine_is_leaving(where) ? "leaving the cluster" : "being drained",
                          why.message);
                return API_REASON_WAITING;
        }
        if (explain_inputs(a)) {
                verdict_print(&x->unit->inputs->problem, ret);
                return API_REASON_INPUTS;
        }
        verdict_print(&a->why, ret);
        return NULL;
}

/* Set the reason of an ordinary unit that is assigned, by its position as plans judge it, and return its
 * kind.
 */
static const char *explain_assigned(const ExplainedUnit *x, const ClusterAssignment *a, Error *ret) {
        EnginePlan plan = {};
        Pass pass = { .cluster = x->cluster,
                      .view = (SchedulerView *) x->view, /* no decision is recorded */
                      .plan = &plan };
        Position p = { .assignment = a };
        uint64_t left_ms;

        if (brake_update(&pass, x->brake_ms) < 0)
                return NULL;
        position_judge(&pass, &p);
        brake_done(&pass.brake);
        left_ms = bound_left_ms(&pass, a);
        if (plan_has_finished(a)) {
                error_set(ret, 0, "finished on %s: it ended successfully, and is not run again",
                          cluster_machine_name(a->machine));
                return API_REASON_FINISHED;
        }
        if (p.state == POSITION_HELD && left_ms > 0)
                return explain_delay(x, a, left_ms, ret);
        if (p.state == POSITION_HELD && presence_is_down(a->machine->presence)) {
                explain_brake(x, ret);
                return API_REASON_HELD;
        }
        if (p.state == POSITION_GONE)
                return explain_waiting(x, a, NULL, ret);
        if (bound_is_rejected(&p) ||
            (bound_is(a) && a->kind == ASSIGNMENT_LOAD && plan_wanted_kind(a->of) == ASSIGNMENT_RUN)) {
                if (p.why.message[0])
                        error_set(ret, 0,
                                  "waiting: %s no longer qualifies (%s), and it stays there (Move=no)",
                                  cluster_machine_name(a->machine), p.why.message);
                else {
                        verdict_print(&a->why, &p.why);
                        error_set(ret, 0, "waiting: %s", p.why.message);
                }
                return API_REASON_WAITING;
        }
        return p.state == POSITION_UNFIT ? explain_waiting(x, a, &p.why, ret) : explain_staying(x, a, ret);
}

/* Set the reason of a unit without an assignment to run, and return its kind. */
static const char *explain_unplaced(const ExplainedUnit *x, Error *ret) {
        const ClusterMachine *to;
        Error why = {};

        for (const ClusterAssignment *a = LIST_FIRST(&x->unit->assignments); a; a = LIST_NEXT(a, of_unit))
                if (!cluster_machine_is_removed(a->machine) &&
                    (a->hold_ms > 0 || !presence_is_down(a->machine->presence))) {
                        error_set(ret, 0, "waiting: it has to end on %s", cluster_machine_name(a->machine));
                        return API_REASON_WAITING;
                }
        if (scheduler_pick(x->view, x->unit, &to, &why) < 0) {
                if (!explain_data(x, x->unit, ret) && !explain_newer(x, ret))
                        *ret = why;
                return API_REASON_WAITING;
        }
        error_set(ret, 0, "about to be assigned: %s", why.message);
        return NULL;
}

const char *engine_explain_unit(const SchedulerView *view, const ClusterUnit *u, uint64_t brake_ms,
                                uint64_t wall_ms, Error *ret) {
        const Cluster *c = scheduler_view_cluster(view);
        const ExplainedUnit x = { view, c, u, brake_ms, wall_ms };
        const ClusterMachine *where = NULL;
        const ClusterAssignment *a;

        *ret = (Error) {};
        if (cluster_unit_is_unreadable(u)) {
                error_set(ret, 0, "left as it is: %s", CLUSTER_UNREADABLE);
                return NULL;
        }
        if (c->adopting && u->target != TARGET_INACTIVE) {
                error_set(ret, 0, "waiting: %s", drain_held(c, false));
                return API_REASON_HELD;
        }
        if (u->move) {
                explain_move(view, u, engine_is_braked(c, brake_ms), ret);
                return API_REASON_MOVING;
        }
        (void) cluster_current_state(c, u, &where);
        a = where ? cluster_assignment_on(where, u->name) : NULL;
        if (a)
                return explain_assigned(&x, a, ret);
        if (u->target == TARGET_INACTIVE)
                error_set(ret, 0, "its target state is inactive");
        else if (!u->unit->placement.global && cluster_unit_is_wanted(u))
                return explain_unplaced(&x, ret);
        return NULL;
}
