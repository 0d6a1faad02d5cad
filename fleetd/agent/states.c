/* Publication of unit states: the observed state of each dirty unit against the registry's. */

#include "fleetd/agent/agent_internal.h"

enum { PUBLISH_BATCH_MAX = 150, CHANGING_MS = 300, STEADY_MS = 1000, REPORT_RETRY_MS = 1000 };

typedef enum AgentOffer {
        AGENT_OFFER_NONE,  /* the registry is current */
        AGENT_OFFER_LATER, /* not read yet, about to change again, or above the rate limit */
        AGENT_OFFER_NOW,
        AGENT_OFFER_ENDPOINT, /* current but for an endpoint, which waits for its pace or its machine */
} AgentOffer;

/* Append why systemd did not execute the last start, by UnitState.job. */
static void agent_append_job_reason(Text *t, const AgentUnit *u, const char *job) {
        static const struct {
                const char *job, *reason;
        } rows[] = {
                { "assert", "an assertion of the unit (Assert...=) does not hold" },
                { "condition", "a condition of the unit (Condition...=, ExecCondition=) does not hold" },
                { "dependency", "a unit that it requires failed to start" },
                { "timeout", "the job to start it timed out" },
                { "unsupported", "this host does not support units of this type" },
        };

        if (streq(job, STATE_JOB_REFUSED))
                text_append(t, u->last_error);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (streq(job, rows[i].job))
                        text_append(t, rows[i].reason);
}

/* Append why this host cannot bring the content that a running unit is to have. */
static void agent_append_content_problem(Text *t, const Agent *a, const AgentUnit *u, UnitState *state) {
        const Unit *text = agent_unit_text(a, u);
        Verdict why = {};

        if (text)
                (void) agent_content(a, text, &why);
        if (!state_code_is_of_inputs(why.code))
                return;
        state->code = why.code;
        verdict_append(t, &why);
}

/* Append why 'u' has failed, was not started, is not loaded, or runs with its former content; nothing for
 * another unit that runs, or one that has ended successfully. */
static void agent_append_reason(Text *t, const Agent *a, const AgentUnit *u, const AssignmentRecord *record,
                                UnitState *state) {
        bool inactive = streq(u->seen.active, "inactive");
        Verdict why;

        if (streq(state->load, STATE_FOREIGN)) {
                if (u->link_refused)
                        text_append(t, u->last_error);
                else
                        text_printf(t, "this host has a unit of that name from another source%s%s",
                                    u->seen.fragment[0] ? ": " : "", u->seen.fragment);
                return;
        }
        if (state->done)
                return;
        agent_append_job_reason(t, u, state->job);
        if (t->size == 0)
                systemd_append_reason(t, &u->seen);
        if (t->size == 0 && inactive && (u->n_failures > 0 || u->waits)) {
                text_append(t, u->last_error);
                state->code = u->unprovided;
        }
        if (t->size == 0 && active_state_is_up(u->seen.active))
                agent_append_content_problem(t, a, u, state);
        if (t->size > 0 || !inactive || !record || record->kind != ASSIGNMENT_RUN ||
            !streq(record->started_boot, a->boot_id))
                return;
        if (record->stopped_for)
                state->code = VERDICT_STOPPED_FOR;
        else if (record->stopped)
                state->code = VERDICT_STOPPED_BY_HAND;
        else if (!record->starting && !u->seen.job && u->seen.end == SYSTEMD_END_FAILED)
                state->code = VERDICT_FAILURE_RESET;
        else if (!record->starting && !u->seen.job && u->seen.end == SYSTEMD_END_UNKNOWN)
                state->code = VERDICT_STOPPED_UNOBSERVED;
        else if (!u->seen.job && u->seen.end == SYSTEMD_END_ITSELF && record->unit &&
                 !unit_finishes(record->unit))
                state->code = VERDICT_ENDED_ITSELF;
        verdict_set(&why, state->code, "%s", u->seen.held_by[0] ? u->seen.held_by : "another unit");
        verdict_append(t, &why);
}

/* 'published' (or NULL) has the time of a state that is older than this daemon. Return false without memory.
 */
static bool agent_state_of(Agent *a, AgentUnit *u, const ClusterState *published, UnitState *ret) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        AssignmentRecord *record = records_get(&a->records, u->name);
        bool done = agent_record_done(a, u, record),
             conflicting = agent_is_conflicting(&u->seen, record, a->boot_id, u->link_refused);
        _cleanup_text_ Text reason = {};

        if (unit_state_init(ret, conflicting ? STATE_FOREIGN : u->seen.load,
                            conflicting ? "inactive" : u->seen.active, conflicting ? "dead" : u->seen.sub,
                            u->seen.hash[0] ? u->seen.hash : NULL, u->since_ms, done) < 0)
                return false;
        snprintf(ret->invocation, sizeof(ret->invocation), "%s",
                 conflicting ? "" : agent_active_invocation(&u->seen));
        if (published && u->precedes && unit_state_lasts(&published->state, ret))
                ret->since_ms = published->state.since_ms;
        if (!conflicting && u->start_refused && u->n_failures > 0 && !agent_is_started(&u->seen))
                snprintf(ret->job, sizeof(ret->job), STATE_JOB_REFUSED);
        else if (!conflicting && record && streq(u->seen.active, "inactive"))
                snprintf(ret->job, sizeof(ret->job), "%s", record->job);
        if (agent_is_kept(assignment, record, &u->seen, a->boot_id))
                ret->kept = assignment->index;
        ret->inputs = record && !conflicting ? record->inputs : 0;
        /* The record is written before the start: until then, the state is that of the former content. */
        if (ret->inputs > 0 && record->starting && streq(u->seen.invocation_id, record->before))
                ret->inputs = published ? MIN(ret->inputs, published->state.inputs) : 0;
        agent_append_reason(&reason, a, u, record, ret);
        if (reason.error < 0 || unit_state_set_reason(ret, reason.chars ?: "") < 0 ||
            agent_add_health(a, u, ret) < 0) {
                unit_state_done(ret);
                return false;
        }
        return true;
}

/* Return the start of the transition that 'u' is in, or 0. A unit that restarts again and again pauses for
 * less than STEADY_MS: that is one transition. */
static uint64_t agent_changing_since(const Agent *a, AgentUnit *u, const ClusterAssignment *assignment,
                                     const UnitState *state) {
        uint64_t now_ms = loop_now_ms(a->loop);
        bool waits = assignment && assignment->kind == ASSIGNMENT_RUN && streq(u->seen.active, "inactive") &&
                     !state->done && !state->job[0];

        if (!waits && !u->seen.job && !streq(u->seen.active, "activating") &&
            !streq(u->seen.active, "deactivating") && !streq(u->seen.active, "reloading") &&
            !streq(u->seen.active, "refreshing")) {
                if (u->steady_ms == 0)
                        u->steady_ms = now_ms;
                return 0;
        }
        if (u->changing_ms == 0 || (u->steady_ms > 0 && now_ms - u->steady_ms >= STEADY_MS))
                u->changing_ms = now_ms;
        u->steady_ms = 0;
        return u->changing_ms;
}

/* Return whether 'state' is a short transition. Publishing it would delay the state that clients wait for by
 * the gap between two states of one unit. */
static bool agent_delays_state(Agent *a, AgentUnit *u, const ClusterAssignment *assignment,
                               const UnitState *state) {
        uint64_t since_ms = agent_changing_since(a, u, assignment, state);

        if (since_ms == 0 || loop_now_ms(a->loop) - since_ms >= CHANGING_MS)
                return false;
        publisher_wake_at(a->publisher, since_ms + CHANGING_MS);
        return true;
}

static void agent_on_reported(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Agent *a = userdata;

        a->reporting = false;
        a->reported = status == KV_OK;
        if (a->reported)
                agent_wake(a);
        else
                publisher_wake_at(a->publisher, loop_now_ms(a->loop) + REPORT_RETRY_MS);
}

/* Return whether nothing is started here, or stopped, by an assignment of the former lineage. */
static bool agent_agrees(const Agent *a, const AgentUnit *u, const ClusterAssignment *assignment) {
        bool runs = assignment && assignment->kind == ASSIGNMENT_RUN;
        const ClusterState *s = cluster_state(registry_cluster(a->registry), a->machine_id, u->name);

        if (!agent_is_started(&u->seen))
                return !runs || (s && s->state.done);
        return runs && (!assignment->hash[0] || streq(assignment->hash, u->seen.hash));
}

/* Return whether the engine of this lineage has decided about each unit that runs here, or is assigned to
 * this host: it stays as it is, or its assignment was written since the lineage began. It may run on a host
 * that has not reported yet. A unit without a unit key gets no assignment. */
static bool agent_is_answered(const Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        uint64_t begun = cluster_begun_index(c);

        for (const AgentUnit *u = a->units; u; u = u->hh.next) {
                const ClusterAssignment *assignment = agent_assignment(a, u->name);

                if (cluster_any_unit(c, u->name) && !agent_agrees(a, u, assignment) &&
                    !(assignment && begun > 0 && assignment->index > begun))
                        return false;
        }
        return true;
}

/* All units are published: end this host's report to a cluster of a new lineage that waits for it, or that
 * has had the reports of the others for long. */
static void agent_report(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterMachine *self = cluster_machine(c, a->machine_id);

        if (!a->adopting || a->reporting || a->refreshing || a->refresh_all || a->all_dirty)
                return;
        if (c->adopting && (a->reported || (self && self->reported == c->lineage)))
                a->reported = true;
        else if (c->adopting) {
                a->reporting = registry_report(a->registry, agent_on_reported, a) >= 0;
                if (!a->reporting)
                        agent_retry_soon(a);
        } else if (timer_armed(&a->adopt) && (a->reported || agent_is_answered(a))) {
                a->reported = true;
                timer_stop(&a->adopt);
                agent_wake(a);
        }
}

/* Compare 'u' with the registry. AGENT_OFFER_NOW: *ret is set. The state of a unit of which nothing is left
 * is removed, with the assignment that this completes. */
static AgentOffer agent_compare(Agent *a, AgentUnit *u, StateChange *ret) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const ClusterState *state = cluster_state(c, a->machine_id, u->name);
        bool kept = (assignment && assignment->kind != ASSIGNMENT_STOP) ||
                    records_get(&a->records, u->name) || u->seen.has_file;
        AgentOffer offer = AGENT_OFFER_LATER;
        bool writes;

        /* Its removal is not complete, or its file is being written, or waits for the write of others.
         * Clients take a published state for the end of "load". */
        writes = u->busy || (a->writing > 0 && !u->planned);
        if ((u->busy && !kept) || (writes && streq(u->seen.load, "not-found") && !agent_is_started(&u->seen)))
                return AGENT_OFFER_LATER;
        if (!kept) {
                if (!assignment && !state && ret->endpoint_write == ENDPOINT_STAYS)
                        return AGENT_OFFER_NONE;
                ret->remove = true;
                ret->stopped = assignment != NULL;
                ret->assignment_index = assignment ? assignment->index : 0;
                return publisher_allows(a->publisher, u->name) ? AGENT_OFFER_NOW : AGENT_OFFER_LATER;
        }
        if (!agent_state_of(a, u, state, &ret->state)) {
                agent_retry_soon(a);
                return AGENT_OFFER_LATER;
        }
        if (assignment && assignment->kind == ASSIGNMENT_RUN && a->systemd->ops->is_stopping(a->systemd)) {
                unit_state_done(&ret->state); /* that it ends with its host is no failure */
                return AGENT_OFFER_LATER;
        }
        ret->precedes = u->precedes;
        if (state && unit_state_equal(&state->state, &ret->state)) {
                if (agent_changing_since(a, u, assignment, &ret->state) > 0)
                        u->changing_ms = 0;
                if (ret->endpoint_write == ENDPOINT_STAYS)
                        offer = AGENT_OFFER_NONE;
                else if (publisher_allows(a->publisher, u->name))
                        return AGENT_OFFER_NOW;
        } else if ((u->ended_first || !agent_delays_state(a, u, assignment, &ret->state)) &&
                   u->done_save <= a->n_saved && publisher_allows(a->publisher, u->name)) {
                u->ended_first = false;
                memcpy(ret->note, u->note, sizeof(ret->note));
                u->note[0] = 0;
                return AGENT_OFFER_NOW;
        }
        unit_state_done(&ret->state);
        return offer;
}

/* While assignments do not count, the unit goes on as it is recorded. */
static bool agent_goes_on(const Agent *a, const AgentUnit *u, const AssignmentRecord *record) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);

        if (u->stopping)
                return false;
        return a->fresh ? assignment && assignment->kind == ASSIGNMENT_RUN :
                          record && record->kind == ASSIGNMENT_RUN;
}

/* Tell the components about a unit that has been read; 'change' as in Duty.publish. */
static void agent_tell_duties(const Agent *a, const AgentUnit *u, StateChange *change) {
        const AssignmentRecord *record = records_get(&a->records, u->name);
        DutyUnit unit = { .name = u->name,
                          .record = record,
                          .assigned = agent_assigned_text(a, u),
                          .invocation = agent_active_invocation(&u->seen),
                          .runs = agent_goes_on(a, u, record),
                          .passing = agent_is_passing(a, u),
                          .available = u->health.available,
                          .undecided = !a->fresh && health_is_undecided(&u->health) };

        agent_publish_duties(a, &unit, change);
}

/* agent_compare(), with what the components add. */
static AgentOffer agent_offer(Agent *a, AgentUnit *u, StateChange *ret) {
        AgentOffer offer;
        bool waits;

        if (!u->observed || u->must_refresh || u->refreshing)
                return AGENT_OFFER_LATER;
        *ret = (StateChange) {};
        snprintf(ret->unit, sizeof(ret->unit), "%s", u->name);
        agent_tell_duties(a, u, ret);
        waits = ret->endpoint_write == ENDPOINT_SET && !publisher_takes_endpoint(a->publisher, u->name);
        if (waits)
                ret->endpoint_write = ENDPOINT_STAYS;
        offer = agent_compare(a, u, ret);
        if (offer != AGENT_OFFER_NOW)
                endpoint_record_done(&ret->endpoint);
        if (offer == AGENT_OFFER_NONE && waits)
                return AGENT_OFFER_ENDPOINT;
        return offer;
}

/* Return whether a state of 'u' would be one more of a unit that is not assigned to this host. The cluster
 * limits their number, and then rejects the whole transaction. */
static bool agent_is_unexpected(const Agent *a, const AgentUnit *u) {
        return !agent_assignment(a, u->name) &&
               !cluster_state(registry_cluster(a->registry), a->machine_id, u->name);
}

/* Offer the dirty units of one kind. Return the number of changes, and whether the registry is current. */
static size_t agent_offer_dirty(Agent *a, bool unexpected, StateChange changes[static PUBLISH_BATCH_MAX],
                                bool *ret_all) {
        size_t n = 0;
        AgentUnit *u;

        *ret_all = true;
        TAILQ_FOREACH(u, &a->dirty, dirty_units) {
                AgentOffer offer = AGENT_OFFER_LATER;

                if (agent_is_unexpected(a, u) != unexpected)
                        continue;
                if (n < PUBLISH_BATCH_MAX)
                        offer = agent_offer(a, u, &changes[n]);
                u->published = offer == AGENT_OFFER_NONE;
                *ret_all &= u->published || offer == AGENT_OFFER_ENDPOINT;
                n += offer == AGENT_OFFER_NOW;
        }
        return n;
}

void agent_publish(Agent *a) {
        bool publishes = a->fresh || a->adopting, expected, all;
        bool sends = publishes && publisher_ready(a->publisher);
        StateChange *changes;
        AgentUnit *u;
        size_t n;

        /* When publication begins, all units become dirty. */
        TAILQ_FOREACH(u, &a->dirty, dirty_units) {
                u->published = !publishes;
                if (!sends && u->observed && !u->must_refresh && !u->refreshing)
                        agent_tell_duties(a, u, NULL);
        }
        if (!sends)
                return;
        changes = NEW0(StateChange, PUBLISH_BATCH_MAX);
        if (!changes) {
                agent_retry_soon(a);
                return;
        }

        n = agent_offer_dirty(a, false, changes, &expected);
        if (n == 0) {
                n = agent_offer_dirty(a, true, changes, &all);
                all = all && expected;
        }
        if (n > 0 && publisher_send(a->publisher, changes, n) < 0)
                agent_retry_soon(a);
        else if (n == 0 && all)
                agent_report(a);
        for (size_t i = 0; i < n; i++) {
                unit_state_done(&changes[i].state);
                endpoint_record_done(&changes[i].endpoint);
        }
        free(changes);
}
