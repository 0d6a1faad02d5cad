/* What the agent knows of each unit on this host. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum { RETRY_MIN_MS = 500, RETRY_MAX_MS = 60000, RETRY_DOUBLINGS = 7 };

void agent_dirty(Agent *a) {
        if (!a->closing)
                loop_defer(a->loop, &a->pass);
}

void agent_again(Agent *a) {
        uint64_t due_ms = loop_now_ms(a->loop) + RETRY_MIN_MS;

        a->again_ms = due_ms;
        if (!timer_armed(&a->period) || a->period.due_ms > due_ms)
                (void) timer_start(&a->period, a->loop, RETRY_MIN_MS);
}

AgentUnit *agent_unit(Agent *a, const char *name, bool make) {
        AgentUnit *u;

        HASH_FIND_STR(a->units, name, u);
        if (u || !make)
                return u;

        u = NEW0(AgentUnit, 1);
        if (!u)
                return NULL;
        snprintf(u->name, sizeof(u->name), "%s", name);
        u->look = true;
        HASH_ADD_STR(a->units, name, u);
        if (!TABLE_ADDED(u)) {
                free(u);
                return NULL;
        }
        return u;
}

static const ClusterMachine *agent_self(const Agent *a) {
        return cluster_machine(registry_cluster(a->registry), a->machine_id);
}

void agent_collect(Agent *a) {
        const ClusterMachine *self = agent_self(a);

        bool all = true;

        for (ClusterOrder *o = self ? self->orders : NULL; o; o = o->hh.next)
                all = agent_unit(a, o->unit, true) && all;
        for (ClusterState *s = self ? self->states : NULL; s; s = s->hh.next)
                all = agent_unit(a, s->unit, true) && all;
        for (Note *n = a->notes.table; n; n = n->hh.next)
                all = agent_unit(a, n->name, true) && all;
        if (!all)
                agent_again(a);
}

void agent_sweep(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        AgentUnit *u, *next;

        HASH_ITER(hh, a->units, u, next) {
                if (u->busy || u->look || u->asked || u->seen.has_file || notes_get(&a->notes, u->name)
                    || cluster_order(c, a->machine_id, u->name) || cluster_state(c, a->machine_id, u->name))
                        continue;
                HASH_DEL(a->units, u);
                free(u);
        }
}

void agent_unit_failed(Agent *a, AgentUnit *u, const char *what, const char *sentence) {
        uint64_t delay_ms = RETRY_MIN_MS << MIN(u->failures, (unsigned) RETRY_DOUBLINGS);

        if (!streq(u->trouble, sentence))
                log_warning(((LogFields) { .unit = u->name }), "cannot %s %s: %s", what, u->name, sentence);
        snprintf(u->trouble, sizeof(u->trouble), "%s", sentence);
        u->failures++;
        u->retry_ms = loop_now_ms(a->loop) + MIN(delay_ms, (uint64_t) RETRY_MAX_MS);
        agent_again(a);
}

void agent_look_at(Agent *a, const SystemdUnit *seen) {
        AgentUnit *u = agent_unit(a, seen->name, seen->has_file);

        if (!u && seen->has_file) { /* nobody else knows of it: it is found by looking at all again */
                a->look_all = true;
                agent_again(a);
        }
        if (!u)
                return;
        if (!u->looked || !streq(u->seen.load, seen->load) || !streq(u->seen.active, seen->active) || !streq(u->seen.sub, seen->sub))
                u->since_ms = loop_wall_ms(a->loop);
        u->seen = *seen;
        u->looked = true;
}
