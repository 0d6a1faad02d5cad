/* The observed state of each unit, the dirty set, and when to refresh. */

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum {
        RETRY_MIN_MS = 500,
        RETRY_MAX_MS = 60000,
        RETRY_DOUBLINGS = 7,
        VIEW_MS = 1, /* between looks at a view that follows the tree */
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

bool agent_view_has(Agent *a, uint64_t index) {
        if (registry_index(a->registry) >= index)
                return true;
        agent_wake_at(a, loop_now_ms(a->loop) + VIEW_MS);
        return false;
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
        if (!TABLE_ADDED_OR_FREED(u))
                return NULL;
        agent_mark(a, u);
        return u;
}

const ClusterAssignment *agent_assignment(const Agent *a, const char *name) {
        return cluster_assignment(registry_cluster(a->registry), a->machine_id, name);
}

void agent_collect(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterMachine *self = cluster_machine(c, a->machine_id);
        const ClusterService *server = cluster_server(c, a->machine_id);
        bool all = true;

        for (ClusterAssignment *o = self ? self->assignments : NULL; o; o = o->hh.next)
                all = agent_unit(a, o->unit, true) && all;
        for (ClusterState *s = self ? self->states : NULL; s; s = s->hh.next)
                all = agent_unit(a, s->unit, true) && all;
        for (size_t i = 0; i < server->n_endpoints; i++)
                all = agent_unit(a, server->endpoints[i]->unit, true) && all;
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
                agent_unit_gone(a, u);
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

        if (!same_string(u->last_error, message))
                log_warning(((LogFields) { .unit = u->name }), "Failed to %s %s: %s", what, u->name, message);
        text_format(u->last_error, sizeof(u->last_error), "%s", message);
        u->n_failures++;
        u->retry_ms = loop_now_ms(a->loop) + MIN(delay_ms, (uint64_t) RETRY_MAX_MS);
        agent_mark(a, u);
        agent_retry_soon(a);
}

void agent_note(AgentUnit *u, const Error *what) {
        if (what->code == 0)
                return;
        log_notice(((LogFields) { .unit = u->name }), "%s: %s", u->name, what->message);
        text_format(u->note, sizeof(u->note), "%s", what->message);
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
        u->seen.need_reload |= u->must_reload;
        if (streq(seen->active, "inactive") && !seen->held_by[0])
                memcpy(u->seen.held_by, former, sizeof(former));
        u->observed = u->refreshed = true;
        agent_observe_end(a, u);
        agent_count_start(a, u);
        if (u->outdated_listing > 0 && listing >= u->outdated_listing)
                agent_check_outdated(a, u);
        agent_mark(a, u);
}

bool agent_is_stale(const AgentUnit *u) {
        return u->changed && !u->refreshed;
}
