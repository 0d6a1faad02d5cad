#include "fleetd/registry/set_health.h"

#include "fleetd/registry/unit_order.h"

/* Return whether the unit is meant to run there, and its machine can say so. */
static bool set_health_counts(const ClusterState *s) {
        const ClusterAssignment *assignment = cluster_assignment_on(s->machine, s->unit);

        return assignment && assignment->kind == ASSIGNMENT_RUN && s->machine->presence == PRESENCE_UP &&
               !s->state.done && !streq(s->state.job, "condition");
}

/* One that is being restarted does not serve either. A daemon of an older version publishes no health. */
static bool set_health_is_unhealthy(const UnitState *s) {
        return s->health == UNIT_HEALTH_NONE ? !active_state_is_up(s->active) :
                                               s->health != UNIT_HEALTH_PASSING;
}

SetHealth set_health_of_others(const Cluster *c, const char *unit, const char *machine) {
        _cleanup_free_ char *template = unit_name_is_instance(unit) ? unit_name_template(unit) : NULL;
        SetHealth sum = {};
        UnitPosition at;
        size_t n = template ? unit_order_instances(&c->by_name, template, &at) : 1;

        for (; n > 0; n--) {
                const ClusterUnit *other = template ? unit_order_next(&c->by_name, &at) :
                                                      cluster_any_unit(c, unit);
                const ClusterState *s;

                if (!other)
                        break;
                LIST_FOREACH(s, &other->states, of_unit) {
                        if ((streq(s->machine->id, machine) && streq(s->unit, unit)) || !set_health_counts(s))
                                continue;
                        sum.n++;
                        sum.n_unhealthy += set_health_is_unhealthy(&s->state);
                }
        }
        return sum;
}
