/* Whether a unit that moves has failed on the machine to which it moves, or is late there. */
#include "fleetd/engine/drain.h"
#include "fleetd/engine/plan_internal.h"

/* Return for how long the unit may still become available there. While the brake is on, or without a leader,
 * no deadline passes. */
static uint64_t move_deadline_left_ms(const Pass *pass, const ClusterAssignment *o) {
        const Unit *unit = o->of->unit;
        uint64_t end_ms, now_ms = pass->cluster->now_ms,
                         since_ms = MAX(o->since_ms, pass->limits ? pass->limits->leads_ms : 0);

        if (!unit || o->kind != ASSIGNMENT_RUN ||
            __builtin_add_overflow(
                    since_ms,
                    update_deadline_ms(&unit->placement.update, &unit->placement.health, &unit->file),
                    &end_ms))
                return UINT64_MAX;
        end_ms = MAX(end_ms, pass->brake.until_ms);
        return end_ms > now_ms ? end_ms - now_ms : 0;
}

bool move_has_failed_there(const ClusterAssignment *o) {
        const ClusterState *s = cluster_state_on(o->machine, o->unit);

        return s && s->state.active &&
               (streq(s->state.active, "failed") || s->state.job[0] ||
                s->state.health == UNIT_HEALTH_FAILING ||
                (s->state.sub && starts_with(s->state.sub, "auto-restart")));
}

bool move_is_late(const Pass *pass, const ClusterAssignment *o) {
        const ClusterState *s = cluster_state_on(o->machine, o->unit);

        return o->machine->presence == PRESENCE_UP && !move_has_failed_there(o) &&
               !(s && s->state.active && streq(s->state.active, "inactive")) &&
               move_deadline_left_ms(pass, o) == 0;
}

uint64_t move_start_left_ms(const Pass *pass, const ClusterAssignment *o) {
        const ClusterState *s = cluster_state_on(o->machine, o->unit);
        bool away = o->machine->presence == PRESENCE_AWAY;
        uint64_t now_ms = pass->cluster->now_ms,
                 end_ms = away ? o->machine->since_ms + DRAIN_AWAY_MS : o->since_ms + DRAIN_START_MS;

        if (away)
                return end_ms > now_ms ? end_ms - now_ms : 0;
        if (plan_is_down(o->machine))
                return UINT64_MAX;
        if (move_has_failed_there(o))
                return 0;
        if (!s || !s->state.active || !streq(s->state.active, "inactive"))
                return move_deadline_left_ms(pass, o);
        return end_ms > now_ms ? end_ms - now_ms : 0;
}
