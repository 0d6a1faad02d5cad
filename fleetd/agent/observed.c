/* What the agent knows of each unit on this host. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum {
        RETRY_MIN_MS = 500,
        RETRY_MAX_MS = 60000,
        RETRY_DOUBLINGS = 7,
        REFRESH_GAP_MS = 100,
        REFRESH_BURST =
                8, /* of one unit that changes without end: ten times a second, after eight in a row */
};

/* -- The dirty set -- */

void agent_wake(Agent *a) {
        if (!a->closing)
                loop_defer(a->loop, &a->pass);
}

static void agent_mark(Agent *a, AgentUnit *u) {
        if (u->dirty)
                return;
        u->dirty = true;
        TAILQ_INSERT_TAIL(&a->dirty, u, dirty_units);
}

static void agent_unmark(Agent *a, AgentUnit *u) {
        u->dirty = false;
        TAILQ_REMOVE(&a->dirty, u, dirty_units);
}

size_t agent_count_dirty(const Agent *a) {
        const AgentUnit *u;
        size_t n = 0;

        TAILQ_FOREACH(u, &a->dirty, dirty_units)
        n++;
        return n;
}

void agent_dirty(Agent *a, AgentUnit *u) {
        agent_mark(a, u);
        agent_wake(a);
}

void agent_dirty_all(Agent *a) {
        a->all_dirty = true;
        agent_wake(a);
}

void agent_wake_at(Agent *a, uint64_t due_ms) {
        uint64_t now_ms = loop_now_ms(a->loop);

        if (!timer_armed(&a->wake) || a->wake.due_ms > due_ms)
                (void) timer_start(&a->wake, a->loop, due_ms > now_ms ? due_ms - now_ms : 0);
}

void agent_again(Agent *a) {
        agent_wake_at(a, loop_now_ms(a->loop) + RETRY_MIN_MS);
}

/* -- Units -- */

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
        u->unproven = 1;
        HASH_ADD_STR(a->units, name, u);
        if (!TABLE_ADDED(u)) {
                free(u);
                return NULL;
        }
        agent_mark(a, u);
        return u;
}

static const ClusterMachine *agent_self(const Agent *a) {
        return cluster_machine(registry_cluster(a->registry), a->machine_id);
}

void agent_collect(Agent *a) {
        const ClusterMachine *self = agent_self(a);
        bool all = true;

        for (ClusterAssignment *o = self ? self->assignments : NULL; o; o = o->hh.next)
                all = agent_unit(a, o->unit, true) && all;
        for (ClusterState *s = self ? self->states : NULL; s; s = s->hh.next)
                all = agent_unit(a, s->unit, true) && all;
        for (AssignmentRecord *n = a->notes.table; n; n = n->hh.next)
                all = agent_unit(a, n->name, true) && all;
        for (AgentUnit *u = a->units; u; u = u->hh.next)
                agent_mark(a, u);
        a->all_dirty = !all;
        if (!all)
                agent_again(a);
}

static bool agent_unit_is_settled(const AgentUnit *u) {
        return !u->busy && !u->look && !u->hinted && !u->asked && u->planned && u->told;
}

void agent_settle(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        AgentUnit *u, *next;

        for (u = TAILQ_FIRST(&a->dirty); u; u = next) {
                next = TAILQ_NEXT(u, dirty_units);
                if (!agent_unit_is_settled(u))
                        continue;
                agent_unmark(a, u);
                if (u->seen.has_file || records_get(&a->notes, u->name) ||
                    cluster_assignment(c, a->machine_id, u->name) || cluster_state(c, a->machine_id, u->name))
                        continue;
                HASH_DEL(a->units, u);
                free(u);
        }
}

/* -- Refreshing -- */

uint64_t agent_refresh_due_ms(const AgentUnit *u) {
        enum { AHEAD_MS = (REFRESH_BURST - 1) * REFRESH_GAP_MS };

        return u->spent_ms > AHEAD_MS ? u->spent_ms - AHEAD_MS : 0;
}

void agent_refreshed(Agent *a, AgentUnit *u) {
        u->spent_ms = MAX(u->spent_ms, loop_now_ms(a->loop)) + REFRESH_GAP_MS;
}

void agent_refresh_now(Agent *a, AgentUnit *u) {
        u->look = true;
        u->spent_ms = 0;
        agent_dirty(a, u);
}

void agent_unit_failed(Agent *a, AgentUnit *u, const char *what, const char *sentence) {
        uint64_t delay_ms = RETRY_MIN_MS << MIN(u->failures, (unsigned) RETRY_DOUBLINGS);

        if (!streq(u->trouble, sentence))
                log_warning(((LogFields) { .unit = u->name }), "cannot %s %s: %s", what, u->name, sentence);
        snprintf(u->trouble, sizeof(u->trouble), "%s", sentence);
        u->failures++;
        u->retry_ms = loop_now_ms(a->loop) + MIN(delay_ms, (uint64_t) RETRY_MAX_MS);
        agent_mark(a, u);
        agent_again(a);
}

/* Asked after each reload and for each write, and by each daemon once: whatever is started then has the new
 * text, and a socket may start it again and again. */
static void agent_note_outdated(Agent *a, AgentUnit *u) {
        const AssignmentRecord *note = records_get(&a->notes, u->name);
        bool outdated = note && note->replacing && !note->starting && note->before[0] &&
                        agent_is_running(&u->seen) && !streq(note->before, u->seen.invocation_id);

        snprintf(u->outdated, sizeof(u->outdated), "%s", outdated ? u->seen.invocation_id : "");
        u->unproven = 0;
}

void agent_refresh_unit(Agent *a, const SystemdUnit *seen, uint64_t listing) {
        AgentUnit *u = agent_unit(a, seen->name, seen->has_file);

        if (!u) { /* without memory for one that is known by its file alone: it is found by looking at all
                     again */
                a->look_all |= seen->has_file;
                return;
        }
        if (!u->looked || !streq(u->seen.load, seen->load) || !streq(u->seen.active, seen->active) ||
            !streq(u->seen.sub, seen->sub))
                u->since_ms = loop_wall_ms(a->loop);
        u->seen = *seen;
        u->looked = u->answered = true;
        if (u->unproven > 0 && listing >= u->unproven)
                agent_note_outdated(a, u);
        agent_mark(a, u);
}

/* -- Planning -- */

bool agent_is_stale(const AgentUnit *u) {
        return u->hinted && !u->answered;
}

AgentStep agent_next_step(Agent *a, const AgentUnit *u, const char **ret_reason) {
        const Cluster *c = registry_cluster(a->registry);

        return agent_plan(
                &(AgentView) {
                        .assignment = cluster_assignment(c, a->machine_id, u->name),
                        .unit = cluster_unit(c, u->name),
                        .note = records_get(&a->notes, u->name),
                        .seen = u->looked ? &u->seen : NULL,
                        .boot_id = a->boot_id,
                        .fresh = a->fresh,
                        .use_saved = a->use_saved,
                        .stopping = a->systemd->ops->is_stopping(a->systemd),
                        .taken = u->taken,
                        .outdated = u->outdated[0] && streq(u->outdated, u->seen.invocation_id),
                },
                ret_reason);
}
