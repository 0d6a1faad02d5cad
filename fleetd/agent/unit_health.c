/* The health of the units of this host: each pass measures it, and states.c publishes it. Results of checks
 * arrive between passes; they cause one only if the health changes. */

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum {
        TICK_SLACK_MS = 100,
        REPORT_MS = 60000,
        SET_VALID_MS = 30000, /* until a replica is asked for the health of a set again: the least delay of a
                                 restart, */
        SET_ANSWER_MS = 5000, /* or, without an answer */
};

/* Return the policies of the text that is in force, or NULL. */
static const Placement *agent_placement(const Agent *a, const AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);

        return record && record->unit ? &record->unit->placement : NULL;
}

/* Return what identifies the text in force but for [X-Fleet]; NULL: it is not known. */
static const char *agent_process(const Agent *a, const AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);
        const Unit *assigned = agent_assigned_text(a, u);

        if (assigned && streq(assigned->hash, u->seen.hash))
                return assigned->systemd_hash;
        return record && record->unit && streq(record->unit->hash, u->seen.hash) ?
                       record->unit->systemd_hash :
                       NULL;
}

/* Return whether the recorded text is that of the file. It is recorded after systemd has read the file and,
 * if its effect is a reload, after that. */
static bool agent_has_file_text(const Agent *a, const AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);

        return record && record->unit && streq(record->unit->hash, u->seen.hash);
}

static HealthOptions agent_health_options(const Agent *a, const AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);
        const Placement *p = agent_placement(a, u);

        if (!p)
                return (HealthOptions) { .watch_ms = UPDATE_WATCH_MS };
        return (HealthOptions) { .process = agent_process(a, u),
                                 .policy = record->unit->hash,
                                 .in_force = agent_has_file_text(a, u) && agent_has_started(a, u) &&
                                             !record->starting && !u->seen.job,
                                 .watch_ms = update_watch_ms(&p->update),
                                 .n_checks = a->checks ? p->health.n_checks : 0,
                                 .failures = health_failures(&p->health),
                                 .successes = health_successes(&p->health),
                                 .ran = (uint32_t) record->checked,
                                 .start_ms = p->health.start_ms };
}

static void agent_health_wake_at(Agent *a, uint64_t due_ms) {
        (void) timer_start_by(&a->health, a->loop, due_ms, TICK_SLACK_MS);
}

void agent_on_health_tick(void *userdata) {
        Agent *a = userdata;
        uint64_t now_ms = loop_now_ms(a->loop), next_ms = UINT64_MAX;

        for (AgentUnit *u = a->units; u; u = u->hh.next) {
                uint64_t due_ms = u->health.due_ms;

                if (u->health_restart_ms > 0 && (due_ms == 0 || u->health_restart_ms < due_ms))
                        due_ms = u->health_restart_ms;
                if (due_ms == 0)
                        continue;
                if (due_ms <= now_ms)
                        agent_dirty(a, u);
                else
                        next_ms = MIN(next_ms, due_ms);
        }
        if (next_ms < UINT64_MAX)
                agent_health_wake_at(a, next_ms);
}

/* -- Checks -- */

/* Return the user of commands; NULL: no memory. A transient unit replaces no specifier. */
static char *agent_check_user(const Unit *unit) {
        const char *dynamic = unit_file_get(&unit->file, "Service", "DynamicUser"),
                   *user = unit_file_get(&unit->file, "Service", "User");
        bool is_dynamic = false;

        if (dynamic && parse_bool(dynamic, &is_dynamic) >= 0 && is_dynamic)
                return strdup("65534"); /* the overflow user of the kernel, which owns nothing */
        return unit_name_expand(unit->name, user ?: "");
}

/* Probe the checks of 'u' while it runs, at the ports that it has since its start. */
static void agent_update_checks(Agent *a, AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);
        _cleanup_free_ char *user = NULL;

        if (!a->checks)
                return;
        if (!record || !record->unit || record->unit->placement.health.n_checks == 0 || !u->health.running ||
            agent_is_conflicting(&u->seen, record, a->boot_id, u->link_refused)) {
                checks_stop(a->checks, u->name);
                return;
        }
        for (size_t i = 0; i < record->ports.n; i++)
                health_policy_set_port(&record->unit->placement.health, record->ports.items[i].name,
                                       record->ports.items[i].number);
        user = agent_check_user(record->unit);
        if (!user ||
            checks_run(a->checks, u->name, &record->unit->placement.health, user, u->seen.invocation_id,
                       record->unit->hash, u->health.health == UNIT_HEALTH_PASSING) < 0)
                agent_retry_soon(a);
}

/* Take over whether a check of 'u' cannot run. */
static void agent_note_unchecked(Agent *a, AgentUnit *u, bool is) {
        if (is == u->unchecked)
                return;
        if (is)
                log_warning(((LogFields) { .unit = u->name }), "%s: a check cannot run on this host: %s",
                            u->name, u->health.unchecked);
        a->n_unchecked += is;
        a->n_unchecked -= u->unchecked;
        u->unchecked = is;
        agent_dirty(a, u);
}

static void agent_append_unchecked(const Agent *a, Text *t) {
        for (const AgentUnit *u = a->n_unchecked > 0 ? a->units : NULL; u; u = u->hh.next)
                if (u->unchecked) {
                        text_printf(t, "health checks of %zu unit%s cannot run, such as of %s: %s",
                                    a->n_unchecked, plural(a->n_unchecked), u->name, u->health.unchecked);
                        return;
                }
}

void agent_end_checks(Agent *a, AgentUnit *u) {
        agent_note_unchecked(a, u, false);
        if (a->checks)
                checks_stop(a->checks, u->name);
}

void agent_report_checks(Agent *a) {
        uint64_t now_ms = loop_now_ms(a->loop);
        _cleanup_text_ Text problem = {};
        bool has;

        if (!a->checks)
                return;
        agent_append_unchecked(a, &problem);
        if (problem.size == 0)
                checks_append_problem(a->checks, &problem);
        has = problem.size > 0;
        if (!has && !a->checks_reported)
                return;
        if (has && a->checks_reported && now_ms - a->checks_reported_ms < REPORT_MS)
                return;
        if (has && !a->checks_reported)
                log_warning(NO_FIELDS, "%s", problem.chars);
        if (problem.error < 0 || (a->host->on_checks && a->host->on_checks(a->host, problem.chars ?: "") < 0))
                return;
        a->checks_reported = has;
        a->checks_reported_ms = now_ms;
}

/* Record that the command of the check has run here: from then on, a missing program is the fault of the
 * host.
 */
static void agent_record_check(Agent *a, const AgentUnit *u, size_t i, const HealthResult *result) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        uint64_t bit = UINT64_C(1) << i;

        if (!record || !record->unit || !streq(u->health.policy, record->unit->hash) ||
            i >= record->unit->placement.health.n_checks || record->checked & bit || result->not_executed ||
            result->unknown || record->unit->placement.health.checks[i].kind != UNIT_CHECK_EXEC)
                return;
        record->checked |= bit;
        a->records.dirty = true;
        agent_wake(a);
}

void agent_on_check(void *userdata, const char *unit, size_t i, const HealthResult *result) {
        Agent *a = userdata;
        AgentUnit *u = agent_unit(a, unit, false);
        HealthOptions options;
        UnitHealth health;
        uint64_t due_ms;
        bool available;

        if (!u)
                return;
        options = agent_health_options(a, u);
        health = u->health.health;
        available = u->health.available;
        due_ms = u->health.due_ms;
        health_count(&u->health, i, result, &options, loop_now_ms(a->loop));
        agent_record_check(a, u, i, result);
        agent_note_unchecked(a, u, u->health.unchecked[0] != 0);
        if (u->health.due_ms > 0 && u->health.due_ms != due_ms)
                agent_health_wake_at(a, u->health.due_ms);
        if (u->health.health == health && u->health.available == available)
                return;
        if (u->health.health != health)
                log_info(((LogFields) { .unit = u->name }), "%s: health %s%s%s", u->name,
                         unit_health_to_string(u->health.health), u->health.why[0] ? ": " : "",
                         u->health.why);
        agent_dirty(a, u);
}

/* -- HealthAction=restart -- */

void agent_take_set(Agent *a, const char *unit, const SetHealth *others) {
        AgentUnit *u = agent_unit(a, unit, false);

        if (!u)
                return;
        u->set_others = *others;
        u->set_known_ms = loop_now_ms(a->loop);
        u->set_unanswered = false;
        agent_dirty(a, u);
}

/* Return whether the set of 'u' may have instances on machines whose states the view does not have. */
static bool agent_set_is_elsewhere(const Agent *a, const AgentUnit *u, const Placement *p) {
        return a->attached && (p->global || unit_name_is_instance(u->name));
}

/* Return whether the answer of a replica is new enough; otherwise ask for it. While the set stays unhealthy,
 * that is repeated, and each count visits all of the set. */
static bool agent_knows_set(Agent *a, AgentUnit *u) {
        uint64_t now_ms = loop_now_ms(a->loop);

        if (u->set_known_ms > 0 && now_ms - u->set_known_ms < SET_VALID_MS) {
                u->health_restart_ms = u->set_known_ms + SET_VALID_MS;
                return true;
        }
        if (u->set_asked_ms == 0 || now_ms - u->set_asked_ms >= SET_ANSWER_MS) {
                u->set_unanswered |= u->set_asked_ms > u->set_known_ms;
                if (a->host->ask_set)
                        (void) a->host->ask_set(a->host, u->name);
                u->set_asked_ms = now_ms;
        }
        u->health_restart_ms = u->set_asked_ms + SET_ANSWER_MS;
        return false;
}

/* Return whether the health of the set of 'u' suspends its restart, or is not known. 'u' is unhealthy,
 * whether or not that is published. */
static bool agent_set_suspends(Agent *a, AgentUnit *u, const Placement *p, bool *ret_known) {
        SetHealth others;

        *ret_known = true;
        if (!agent_set_is_elsewhere(a, u, p))
                others = set_health_of_others(registry_cluster(a->registry), u->name, a->machine_id);
        else {
                *ret_known = agent_knows_set(a, u);
                if (!*ret_known)
                        return true;
                others = u->set_others;
        }
        return health_is_suspended(others.n_unhealthy + 1, others.n + 1);
}

/* Restart 'u' if a check is failing, and that is due. */
static void agent_restart_unhealthy(Agent *a, AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const AssignmentRecord *record = records_get(&a->records, u->name);
        const Placement *p = agent_placement(a, u);
        bool was = u->restart_suspended, due, known = true;

        u->health_restart_ms = 0;
        u->restart_suspended = false;
        if (!p || p->health.action != HEALTH_ACTION_RESTART || !health_is_failing_check(&u->health) ||
            u->seen.owner != SYSTEMD_OURS || a->adopting || a->removed || u->busy ||
            !agent_has_started(a, u) || record->stopping ||
            (assignment && assignment->kind != ASSIGNMENT_RUN) || a->systemd->ops->is_stopping(a->systemd)) {
                u->set_unanswered = false;
                u->set_asked_ms = 0;
                return;
        }
        due = health_must_restart(&u->health, loop_now_ms(a->loop), &u->health_restart_ms);
        if (due || !agent_set_is_elsewhere(a, u, p)) {
                bool suspends = agent_set_suspends(a, u, p, &known);

                u->restart_suspended = suspends && (known || was || u->set_unanswered);
                due &= !suspends;
        }
        if (due) {
                log_notice(((LogFields) { .unit = u->name }), "%s: restart (HealthAction=restart): %s",
                           u->name, u->health.why);
                u->health_restart_ms = 0;
                if (agent_restart(a, u))
                        health_count_restart(&u->health, loop_now_ms(a->loop));
        } else if (u->health_restart_ms > 0)
                agent_health_wake_at(a, u->health_restart_ms);
}

/* -- The pass -- */

/* A unit that changed is measured when it has been read again. A view that has not reached what this host has
 * published, or served, may have the health of before; nothing is published meanwhile. */
void agent_update_health(Agent *a, AgentUnit *u) {
        const ClusterState *published = cluster_state(registry_cluster(a->registry), a->machine_id, u->name);
        HealthOptions options = agent_health_options(a, u);
        uint64_t now_ms = loop_now_ms(a->loop);

        if (!u->observed || u->must_refresh || u->refreshing || agent_is_stale(u))
                return;
        health_observe(&u->health, &u->seen, &options, now_ms);
        if (a->fresh || a->adopting)
                health_inherit(&u->health, published ? &published->state : NULL, &options, now_ms);
        if (u->health.due_ms > 0)
                agent_health_wake_at(a, u->health.due_ms);
        agent_update_checks(a, u);
        agent_note_unchecked(a, u, u->health.unchecked[0] != 0);
        agent_restart_unhealthy(a, u);
}

/* Return whether what was measured is of the text of the file, and with its checks. */
static bool agent_measures_file_text(const Agent *a, const AgentUnit *u) {
        const Placement *p = agent_placement(a, u);

        return agent_has_file_text(a, u) &&
               (p->health.n_checks == 0 || streq(u->health.policy, u->seen.hash));
}

bool agent_is_passing(const Agent *a, const AgentUnit *u) {
        return u->health.running && u->health.health == UNIT_HEALTH_PASSING && !u->reload_failed &&
               !agent_is_conflicting(&u->seen, records_get(&a->records, u->name), a->boot_id,
                                     u->link_refused);
}

/* A unit is failing, too, if systemd rejected its last start, or if its reload failed. An unmet condition is
 * no failure. */
int agent_add_health(const Agent *a, const AgentUnit *u, UnitState *state) {
        bool refused = state->job[0] && !streq(state->job, "condition");
        _cleanup_text_ Text why = {};

        if (!a->publishes_health || streq(state->load, STATE_FOREIGN) || state->done)
                return 0;
        state->health = refused || u->reload_failed ? UNIT_HEALTH_FAILING : u->health.health;
        state->available = u->health.available && !u->reload_failed && agent_measures_file_text(a, u);
        state->lapsed = u->health.lapsed;
        state->unchecked = u->unchecked;
        if (!state->job[0])
                text_append(&why, u->reload_failed ? u->last_error : u->health.why);
        if (state->unchecked && state->health != UNIT_HEALTH_FAILING)
                text_printf(&why, "a check cannot run there: %s", u->health.unchecked);
        if (u->restart_suspended)
                text_append(&why, u->set_unanswered ?
                                          "; not restarted: no replica answers this attached host with the "
                                          "health of the set" :
                                          "; not restarted while more than half of its instances are "
                                          "unhealthy");
        return why.error < 0 ? why.error : unit_state_set_why(state, why.chars ?: "");
}
