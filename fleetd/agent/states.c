/* The states of this host's units, as they are published in the registry. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum { PUBLISH_BATCH_MAX = 200, CHANGING_MS = 300, STEADY_MS = 1000, REPORT_RETRY_MS = 1000 };

/* False without memory. */
static bool agent_state_of(Agent *a, AgentUnit *u, UnitState *ret) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        bool done = agent_record_done(a, u, record),
             conflicting = agent_is_conflicting(&u->seen, record, a->boot_id, u->link_refused);

        if (unit_state_init(ret, conflicting ? STATE_FOREIGN : u->seen.load,
                            conflicting ? "inactive" : u->seen.active, conflicting ? "dead" : u->seen.sub,
                            u->seen.hash[0] ? u->seen.hash : NULL, u->since_ms, done) < 0)
                return false;
        if (!conflicting && record && streq(u->seen.active, "inactive"))
                snprintf(ret->job, sizeof(ret->job), "%s", record->job);
        return true;
}

/* Since when a unit has been on its way to another state; 0: it is not. One that is restarted again and again
 * rests too shortly to be steady. */
static uint64_t agent_changing_since(const Agent *a, AgentUnit *u, const ClusterAssignment *o,
                                     const UnitState *state) {
        uint64_t now_ms = loop_now_ms(a->loop);
        bool waits = o && o->kind == ASSIGNMENT_RUN && streq(u->seen.active, "inactive") && !state->done &&
                     !state->job[0];

        if (!waits && !u->seen.job && !streq(u->seen.active, "activating") &&
            !streq(u->seen.active, "deactivating") && !streq(u->seen.active, "reloading")) {
                if (u->steady_ms == 0)
                        u->steady_ms = now_ms;
                return 0;
        }
        if (u->changing_ms == 0 || (u->steady_ms > 0 && now_ms - u->steady_ms >= STEADY_MS))
                u->changing_ms = now_ms;
        u->steady_ms = 0;
        return u->changing_ms;
}

/* A state that will soon be another one is not told at once: that other one is what people wait for, and it
 * would have to wait its second behind this one. */
static bool agent_delays_state(Agent *a, AgentUnit *u, const ClusterAssignment *o, const UnitState *state) {
        uint64_t since_ms = agent_changing_since(a, u, o, state);

        if (since_ms == 0 || loop_now_ms(a->loop) - since_ms >= CHANGING_MS)
                return false;
        publisher_wake_at(a->publisher, since_ms + CHANGING_MS);
        return true;
}

static void agent_on_reported(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Agent *a = userdata;

        a->reporting = false;
        if (status != KV_OK)
                publisher_wake_at(a->publisher, loop_now_ms(a->loop) + REPORT_RETRY_MS);
}

/* All that is here was told to a cluster whose lineage is new, and which waits for that. */
static void agent_report(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterMachine *self = cluster_machine(c, a->machine_id);

        if (c->adopting && a->adopting && !a->reporting && !a->refreshing && !a->refresh_all &&
            !a->all_dirty && (!self || self->reported != c->lineage)) {
                a->reporting = registry_report(a->registry, agent_on_reported, a) >= 0;
                if (!a->reporting)
                        agent_retry_soon(a);
        }
}

/* Compares what is with what the registry has; offers the difference. 'obeyed' units are those of which
 * nothing is left. */
void agent_publish(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        StateChange *changes;
        bool all = true; /* and nothing is left to be told */
        AgentUnit *u;
        size_t n = 0;

        /* When there is somebody to be told, all is gone over. */
        TAILQ_FOREACH(u, &a->dirty, dirty_units)
        u->published = !a->fresh && !a->adopting;
        if ((!a->fresh && !a->adopting) || !publisher_ready(a->publisher))
                return;
        changes = NEW0(StateChange, PUBLISH_BATCH_MAX);
        if (!changes) {
                agent_retry_soon(a);
                return;
        }

        TAILQ_FOREACH(u, &a->dirty, dirty_units) {
                const ClusterAssignment *o = cluster_assignment(c, a->machine_id, u->name);
                const ClusterState *s = cluster_state(c, a->machine_id, u->name);
                bool kept = (o && o->kind != ASSIGNMENT_STOP) || records_get(&a->records, u->name) ||
                            u->seen.has_file;
                StateChange *change;

                if (n == PUBLISH_BATCH_MAX) {
                        all = false;
                        break;
                }
                change = &changes[n];
                if (!u->observed || u->must_refresh || u->refreshing || (u->busy && !kept)) {
                        all = false;
                        continue;
                }
                *change = (StateChange) {};
                snprintf(change->unit, sizeof(change->unit), "%s", u->name);
                if (!kept && (o || s)) {
                        change->remove = true;
                        change->obeyed = o != NULL;
                        change->order_index = o ? o->index : 0;
                } else if (!kept) {
                        u->published = true;
                        continue;
                } else if (!agent_state_of(a, u, &change->state)) {
                        all = false;
                        agent_retry_soon(a);
                        continue;
                } else if (s && unit_state_equal(&s->state, &change->state)) {
                        if (agent_changing_since(a, u, o, &change->state) > 0)
                                u->changing_ms = 0;
                        unit_state_done(&change->state);
                        u->published = true;
                        continue;
                }
                all = false;
                if ((!change->remove &&
                     (agent_delays_state(a, u, o, &change->state) || u->done_save > a->n_saved)) ||
                    !publisher_allows(a->publisher, u->name)) {
                        unit_state_done(&change->state);
                        continue;
                }
                n++;
        }
        if (n > 0 && publisher_send(a->publisher, changes, n) < 0)
                agent_retry_soon(a);
        else if (n == 0 && all)
                agent_report(a);
        for (size_t i = 0; i < n; i++)
                unit_state_done(&changes[i].state);
        free(changes);
}
