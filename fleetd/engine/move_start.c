/* Whether a unit that moves is available on the machine to which it moves, has failed or is late there, and
 * what cannot be known yet. */
#include "fleetd/engine/drain.h"
#include "fleetd/engine/plan_internal.h"

enum { STOPPED_MS = 5000 }; /* in which a machine that is up publishes that it stops a unit */

/* Return for how long the unit may still become available there. While the brake is on, or without a leader,
 * no deadline passes. */
static uint64_t move_deadline_left_ms(const Pass *pass, const ClusterAssignment *o) {
        const Unit *unit = o->of->unit;
        uint64_t end_ms, now_ms = pass->cluster->now_ms,
                         since_ms = MAX(o->since_ms, pass->limits ? pass->limits->leads_ms : 0);

        if (!unit || o->kind != ASSIGNMENT_RUN ||
            __builtin_add_overflow(since_ms,
                                   update_deadline_ms(&unit->placement.update, &unit->placement.health,
                                                      &unit->placement.service, &unit->file),
                                   &end_ms))
                return UINT64_MAX;
        end_ms = MAX(end_ms, pass->brake.until_ms);
        return end_ms > now_ms ? end_ms - now_ms : 0;
}

bool move_ran_there(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return s && s->state.active &&
               (streq(s->state.active, "failed") ||
                (s->state.sub && starts_with(s->state.sub, "auto-restart")));
}

bool move_has_failed_there(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return move_ran_there(o) ||
               (s && s->state.active && (s->state.job[0] || s->state.health == UNIT_HEALTH_FAILING));
}

bool move_is_late(const Pass *pass, const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return o->machine->presence == PRESENCE_UP && !move_has_failed_there(o) &&
               !(s && s->state.active && streq(s->state.active, "inactive")) &&
               move_deadline_left_ms(pass, o) == 0;
}

uint64_t move_start_left_ms(const Pass *pass, const ClusterAssignment *o) {
        const ClusterState *s = o->state;
        bool away = o->machine->presence == PRESENCE_AWAY;
        uint64_t now_ms = pass->cluster->now_ms,
                 end_ms = away ? o->machine->since_ms + DRAIN_AWAY_MS : o->since_ms + DRAIN_START_MS;

        if (away)
                return end_ms > now_ms ? end_ms - now_ms : 0;
        if (presence_is_down(o->machine->presence))
                return UINT64_MAX;
        if (move_has_failed_there(o))
                return 0;
        if (!s || !s->state.active || !streq(s->state.active, "inactive"))
                return move_deadline_left_ms(pass, o);
        return end_ms > now_ms ? end_ms - now_ms : 0;
}

bool move_was_away(const ClusterAssignment *kept, const ClusterAssignment *other) {
        return kept->machine->since_ms >= other->since_ms;
}

bool move_awaits_newer(Pass *pass, const Position *old, const Position *newer) {
        uint64_t left_ms = move_start_left_ms(pass, newer->assignment);

        if (newer->state != POSITION_FITS || !plan_is_up(newer->assignment) || left_ms == 0 ||
            !move_was_away(old->assignment, newer->assignment))
                return false;
        plan_again(pass, left_ms);
        return true;
}

bool move_awaits_stop(Pass *pass, const ClusterAssignment *o) {
        uint64_t now_ms = pass->cluster->now_ms, end_ms = o->since_ms + STOPPED_MS;
        char name[CLUSTER_LABEL_SIZE];

        if (o->index < o->of->target_index || !rollout_is_counted(pass->cluster, o) || now_ms >= end_ms)
                return false;
        plan_again(pass, end_ms - now_ms);
        plan_wait(pass, o->of, VERDICT_BEING_STOPPED, "%s", cluster_machine_label(o->machine, name));
        return true;
}

bool move_is_available(const ClusterAssignment *o, bool published) {
        return published && o->kind == ASSIGNMENT_RUN ? rollout_is_available(o) : plan_is_up(o);
}
