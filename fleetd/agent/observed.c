/* The observed state of each unit, the dirty set, and when to refresh. */
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum {
        RETRY_MIN_MS = 500,
        RETRY_MAX_MS = 60000,
        RETRY_DOUBLINGS = 7,
        TRIGGER_MS = 10000, /* a trigger that follows is stopped within a few turns of the engine */
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
        (void) timer_start_by(&a->wake, a->loop, due_ms, 0);
}

void agent_retry_soon(Agent *a) {
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
        u->must_refresh = true;
        u->outdated_listing = 1;
        HASH_ADD_STR(a->units, name, u);
        if (!TABLE_ADDED(u)) {
                free(u);
                return NULL;
        }
        agent_mark(a, u);
        return u;
}

const ClusterAssignment *agent_assignment(const Agent *a, const char *name) {
        return cluster_assignment(registry_cluster(a->registry), a->machine_id, name);
}

void agent_collect(Agent *a) {
        const ClusterMachine *self = cluster_machine(registry_cluster(a->registry), a->machine_id);
        bool all = true;

        for (ClusterAssignment *o = self ? self->assignments : NULL; o; o = o->hh.next)
                all = agent_unit(a, o->unit, true) && all;
        for (ClusterState *s = self ? self->states : NULL; s; s = s->hh.next)
                all = agent_unit(a, s->unit, true) && all;
        for (AssignmentRecord *record = a->records.table; record; record = record->hh.next)
                all = agent_unit(a, record->name, true) && all;
        for (AgentUnit *u = a->units; u; u = u->hh.next)
                agent_mark(a, u);
        a->all_dirty = !all;
        if (!all)
                agent_retry_soon(a);
}

void agent_clean(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        AgentUnit *u, *next;

        for (u = TAILQ_FIRST(&a->dirty); u; u = next) {
                next = TAILQ_NEXT(u, dirty_units);
                if (u->busy || u->must_refresh || u->changed || u->refreshing || !u->planned || !u->published)
                        continue;
                u->dirty = false;
                TAILQ_REMOVE(&a->dirty, u, dirty_units);
                if (u->seen.has_file || records_get(&a->records, u->name) || agent_assignment(a, u->name) ||
                    cluster_state(c, a->machine_id, u->name))
                        continue;
                agent_forget_singleton(a, u);
                agent_forget_text(u);
                agent_end_checks(a, u);
                HASH_DEL(a->units, u);
                free(u);
        }
}

/* -- Refreshing -- */

void agent_refresh_now(Agent *a, AgentUnit *u) {
        u->must_refresh = true;
        u->spent_ms = 0;
        agent_dirty(a, u);
}

void agent_unit_failed(Agent *a, AgentUnit *u, const char *what, const char *message) {
        uint64_t delay_ms = RETRY_MIN_MS << MIN(u->n_failures, (unsigned) RETRY_DOUBLINGS);

        if (!streq(u->last_error, message))
                log_warning(((LogFields) { .unit = u->name }), "Failed to %s %s: %s", what, u->name, message);
        text_format(u->last_error, sizeof(u->last_error), "%s", message);
        u->n_failures++;
        u->retry_ms = loop_now_ms(a->loop) + MIN(delay_ms, (uint64_t) RETRY_MAX_MS);
        agent_mark(a, u);
        agent_retry_soon(a);
}

/* Decide whether the running invocation may have the former text: once by each daemon, and after each write
 * and reload. Later starts have the new text, however often a socket starts the unit. */
static void agent_check_outdated(Agent *a, AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);
        bool is_outdated = record && record->replacing && !record->starting && record->before[0] &&
                           agent_is_started(&u->seen) && !streq(record->before, u->seen.invocation_id);

        snprintf(u->outdated_invocation, sizeof(u->outdated_invocation), "%s",
                 is_outdated ? u->seen.invocation_id : "");
        u->outdated_listing = 0;
}

bool agent_has_started(const Agent *a, const AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);

        return record && record->kind == ASSIGNMENT_RUN && streq(record->started_boot, a->boot_id);
}

/* How a unit stopped running. One that is restarted in vain also fails for good. */
typedef enum AgentEnd { AGENT_RESTARTING = 1 << 0, AGENT_FAILED = 1 << 1, AGENT_ENDED = 1 << 2 } AgentEnd;

/* Return 0 for a unit that runs, or whose state may precede the start that is under way. */
static unsigned agent_end_of(const Agent *a, const AgentUnit *u) {
        if (u->busy || u->seen.job)
                return 0;
        if (streq(u->seen.active, "failed"))
                return AGENT_FAILED;
        if (systemd_is_restarting(&u->seen))
                return AGENT_RESTARTING;
        if (streq(u->seen.active, "inactive") && agent_has_started(a, u) &&
            (u->seen.end == SYSTEMD_END_ITSELF || u->seen.end == SYSTEMD_END_STOPPED))
                return AGENT_ENDED;
        return 0;
}

/* The first end of each kind after a start is published at once: a user who starts a unit waits for it. Later
 * ones are repetitions, which have the limits of all states. */
static void agent_observe_end(Agent *a, AgentUnit *u) {
        unsigned end = agent_end_of(a, u);
        bool first = end != 0 && !(u->ends & end);

        u->ended_first = first || (end != 0 && u->ended_first);
        u->ends |= end;
        if (first)
                publisher_expedite(a->publisher, u->name);
}

const char *agent_active_invocation(const SystemdUnit *seen) {
        return active_state_is_up(seen->active) ? seen->invocation_id : "";
}

/* Count the time from its assignment until the unit is active, once after each start by the agent. A unit
 * that failed first does not count. */
static void agent_count_start(Agent *a, AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        uint64_t now_ms = kv_cluster_ms(registry_store(a->registry));

        if (!u->start_counts || u->seen.job)
                return;
        u->start_counts = streq(u->seen.active, "activating");
        if (assignment && streq(u->seen.active, "active"))
                duration_count(&a->counts.starts, (now_ms - MIN(now_ms, assignment->since_ms)) * 1000 * 1000);
}

void agent_refresh_unit(Agent *a, const SystemdUnit *seen, uint64_t listing) {
        AgentUnit *u = agent_unit(a, seen->name, seen->has_file);
        char former[UNIT_NAME_MAX + 1];

        if (!u) { /* no memory for a unit that is known by its file alone: a listing of all files finds it
                     again */
                a->refresh_all |= seen->has_file;
                return;
        }
        if (!u->observed || !streq(u->seen.load, seen->load) || !streq(u->seen.active, seen->active) ||
            !streq(u->seen.sub, seen->sub) ||
            !streq(agent_active_invocation(&u->seen), agent_active_invocation(seen)) ||
            (streq(seen->active, "failed") && !streq(u->seen.invocation_id, seen->invocation_id))) {
                u->since_ms = loop_wall_ms(a->loop);
                u->precedes = !u->observed;
        }
        /* Until it is started again, the unit that has prevented its start is the one to be named. */
        memcpy(former, u->seen.held_by, sizeof(former));
        u->seen = *seen;
        if (streq(seen->active, "inactive") && !seen->held_by[0])
                memcpy(u->seen.held_by, former, sizeof(former));
        u->observed = u->refreshed = true;
        agent_observe_end(a, u);
        agent_count_start(a, u);
        if (u->outdated_listing > 0 && listing >= u->outdated_listing)
                agent_check_outdated(a, u);
        agent_mark(a, u);
}

/* -- Planning -- */

bool agent_is_stale(const AgentUnit *u) {
        return u->changed && !u->refreshed;
}

/* Return whether the assignment is of the state from which the cluster was restored or recovered. */
static bool agent_inherits(const Cluster *c, const ClusterAssignment *assignment) {
        return assignment && assignment->index <= cluster_begun_index(c);
}

/* Return the text of a trigger that runs here as ours, or NULL. */
static const Unit *agent_running_trigger(const Agent *a, const AgentUnit *t) {
        const AssignmentRecord *record = records_get(&a->records, t->name);
        const Unit *text = record && record->unit ? record->unit : agent_assigned_text(a, t);

        if (!text || !unit_triggered(text) || !t->observed || !agent_is_started(&t->seen) ||
            t->seen.owner != SYSTEMD_OURS)
                return NULL;
        return text;
}

/* Return whether a trigger is to leave this host, as the unit that it starts is: it is assigned to stop, or
 * the rules of placement keep it beside that unit, which is somewhere else. */
static bool agent_trigger_leaves(const Agent *a, const AgentUnit *t, const Unit *text) {
        const ClusterAssignment *assignment = agent_assignment(a, t->name);
        const ClusterUnit *of = cluster_any_unit(registry_cluster(a->registry), unit_triggered(text));

        if (!assignment || text->placement.global)
                return assignment && assignment->kind == ASSIGNMENT_STOP;
        return assignment->kind == ASSIGNMENT_STOP || (of && of->unit && of->target != TARGET_INACTIVE) ||
               names_have(&text->placement.machine_of, unit_triggered(text));
}

void agent_find_triggered(Agent *a) {
        bool any = false;
        const AgentUnit *u;

        named_clear(&a->triggered);
        TAILQ_FOREACH(u, &a->dirty, dirty_units) {
                const ClusterAssignment *assignment = agent_assignment(a, u->name);

                any |= assignment && assignment->kind == ASSIGNMENT_STOP;
        }
        for (u = any ? a->units : NULL; u; u = u->hh.next) {
                const Unit *text = agent_running_trigger(a, u);

                if (text && agent_trigger_leaves(a, u, text)) /* without memory, nothing waits */
                        (void) named_get(&a->triggered, unit_triggered(text), sizeof(Named));
        }
}

bool agent_awaits_another(Agent *a, AgentUnit *u, AgentStep s, const char **ret_awaited) {
        const ClusterAssignment *assignment;
        const AssignmentRecord *record;
        const AgentUnit *triggered;
        const Unit *text;

        if (s == AGENT_STOP || s == AGENT_REMOVE) {
                assignment = agent_assignment(a, u->name);
                *ret_awaited = "its trigger runs here, and stops first";
                if (!assignment || assignment->kind != ASSIGNMENT_STOP || !named_find(a->triggered, u->name))
                        return false;
                if (u->trigger_until_ms == 0)
                        u->trigger_until_ms = loop_now_ms(a->loop) + TRIGGER_MS;
                if (loop_now_ms(a->loop) >= u->trigger_until_ms)
                        return false;
                agent_wake_at(a, u->trigger_until_ms);
                return true;
        }
        record = records_get(&a->records, u->name);
        text = agent_assigned_text(a, u) ?: (record ? record->unit : NULL);
        if (s != AGENT_START || !text || !unit_triggered(text))
                return false;
        triggered = agent_unit(a, unit_triggered(text), false);
        assignment = triggered ? agent_assignment(a, triggered->name) : NULL;
        *ret_awaited = "the unit that it triggers is not loaded yet";
        return triggered && (!assignment || assignment->kind != ASSIGNMENT_STOP) &&
               (!triggered->observed || streq(triggered->seen.load, "not-found"));
}

AgentStep agent_next_step(Agent *a, const AgentUnit *u, const char **ret_reason) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const Cluster *c = registry_cluster(a->registry);

        return agent_plan(
                &(AgentView) {
                        .assignment = assignment,
                        .unit = agent_cluster_unit(a, u),
                        .text = agent_assigned_text(a, u),
                        .record = records_get(&a->records, u->name),
                        .seen = u->observed ? &u->seen : NULL,
                        .boot_id = a->boot_id,
                        .leased = agent_has_lease(a),
                        .fresh = a->fresh,
                        .use_records = a->use_records,
                        .removed = a->removed,
                        .stopping = a->systemd->ops->is_stopping(a->systemd),
                        .link_refused = u->link_refused,
                        .outdated = u->outdated_invocation[0] &&
                                    streq(u->outdated_invocation, u->seen.invocation_id),
                        .alone_ms = a->partition.ms,
                        .inherited = agent_inherits(c, assignment),
                },
                ret_reason);
}
