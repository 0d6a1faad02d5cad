/* Changes of the assignment records: by steps that are about to be executed, and by observations. */

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

/* Return whether the observed unit is the host's own: it does not describe the unit that was started here. */
static bool agent_observes_conflict(const Agent *a, const AgentUnit *u, const AssignmentRecord *record) {
        return agent_is_conflicting(&u->seen, record, a->boot_id, false) &&
               !(record->invocation[0] && streq(record->invocation, u->seen.invocation_id));
}

bool agent_record_done(Agent *a, AgentUnit *u, AssignmentRecord *record) {
        if (!record || (!record->done && agent_observes_conflict(a, u, record)) ||
            !agent_is_done(record, &u->seen, a->boot_id, u->job_ended))
                return false;
        if (!record->done) {
                record->done = true;
                a->records.dirty = true;
                u->done_save = a->n_saves + 1;
        }
        return true;
}

static void agent_record_flag(Agent *a, bool *flag, bool value) {
        a->records.dirty |= *flag != value;
        *flag = value;
}

static void agent_record_job(Agent *a, AssignmentRecord *record, const char *job) {
        if (streq(record->job, job))
                return;
        snprintf(record->job, sizeof(record->job), "%s", job);
        a->records.dirty = true;
}

/* systemd refuses the start of a trigger by a failed job, and leaves it inactive. It may permit the start
 * later, as one that it rejects at once: it is repeated in the same way. The reasons are systemd's. */
static void agent_record_refusal(Agent *a, AgentUnit *u, AssignmentRecord *record) {
        const char *triggered = unit_triggered(record->unit);
        const AgentUnit *other = triggered ? agent_unit(a, triggered, false) : NULL;
        bool loaded = other && other->observed && streq(other->seen.load, "loaded");
        char reason[sizeof(u->last_error)];

        if (triggered && !loaded)
                snprintf(reason, sizeof(reason), "refusing to start, unit %.200s to trigger not loaded",
                         triggered);
        else
                snprintf(reason, sizeof(reason), "systemd refused to start it: journalctl -u %.190s",
                         u->name);
        agent_record_job(a, record, "");
        agent_cancel_start(a, record, u);
        u->start_refused = true;
        agent_unit_failed(a, u, "start", reason);
        publisher_expedite(a->publisher, u->name);
}

void agent_record_observed(Agent *a, AgentUnit *u) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        bool stopped_for;

        if (!record || !u->observed || (record->stopping && !agent_is_started(&u->seen)))
                return;
        if (agent_observes_conflict(a, u, record)) {
                record->taken_over = false;
                return;
        }
        if (agent_is_started(&u->seen)) {
                if (u->seen.owner == SYSTEMD_OURS)
                        memcpy(record->invocation, u->seen.invocation_id, sizeof(record->invocation));
                agent_record_flag(a, &record->taken_over,
                                  u->seen.owner == SYSTEMD_CONFLICTING &&
                                          !agent_is_conflicting(&u->seen, record, a->boot_id, false));
                u->n_restarts = 0;
                u->restart_ms = 0;
                if (agent_is_trigger(record) && u->start_refused) {
                        u->start_refused = false;
                        u->n_failures = 0;
                        u->last_error[0] = 0;
                }
                agent_record_job(a, record, "");
                agent_record_flag(a, &record->ran, true);
                agent_record_flag(a, &record->done, false);
                agent_record_flag(a, &record->stopped, false);
        } else if (streq(u->seen.active, "failed") && record->done) {
                /* Another unit, or a person, has started it: a later run than the one that finished. */
                agent_record_flag(a, &record->done, false);
                snprintf(record->started_boot, sizeof(record->started_boot), "%s", a->boot_id);
        } else if (streq(u->seen.active, "failed") ||
                   (u->seen.end != SYSTEMD_END_UNKNOWN && u->seen.end != SYSTEMD_END_ITSELF))
                agent_record_flag(a, &record->ran, false);
        if (u->seen.end != SYSTEMD_END_UNKNOWN)
                agent_record_flag(a, &record->stopped,
                                  u->seen.end == SYSTEMD_END_STOPPED &&
                                          streq(record->started_boot, a->boot_id));
        if (u->seen.end == SYSTEMD_END_SKIPPED)
                agent_record_job(a, record, "condition");
        else if (streq(record->job, "failed") && streq(u->seen.active, "inactive") && !u->seen.job)
                agent_record_refusal(a, u, record);
        else if (streq(record->job, "failed") && !u->seen.job)
                agent_record_job(a, record, "");
        (void) agent_record_done(a, u, record);
        stopped_for = agent_is_stopped_for(record, &u->seen, a->boot_id);
        if (record->stopped_for == stopped_for || u->seen.job)
                return;
        record->stopped_for = stopped_for;
        a->records.dirty = true;
        if (stopped_for)
                log_notice(((LogFields) { .unit = u->name }),
                           "%s was stopped with another unit or with the host, and is started again with it",
                           u->name);
}

void agent_record_provided(Agent *a, AssignmentRecord *record, uint64_t content) {
        a->records.dirty |= record->inputs != content;
        record->inputs = content;
}

/* The invocation that systemd began by itself, after the last listing without it, has at least the content
 * that the files had then: so the unit is read again when that has changed. A cluster that was restored may
 * have an older content; a later one has a higher number than that. */
void agent_record_content(Agent *a, AgentUnit *u) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        uint64_t content = record && record->unit && u->observed ? agent_content(a, record->unit, NULL) : 0;
        const ClusterUnit *of = content > 0 && a->fresh ? agent_cluster_unit(a, u) : NULL;

        if (content == 0)
                return;
        if (record->inputs < u->content && agent_is_started(&u->seen) && u->seen.owner == SYSTEMD_OURS &&
            !streq(record->invocation, u->seen.invocation_id))
                agent_record_provided(a, record, u->content);
        if (of && of->inputs && of->inputs->number > 0 && of->inputs->number < record->inputs)
                agent_record_provided(a, record, of->inputs->number);
        if (u->refreshed)
                u->content = content;
        else if (u->content != content)
                agent_refresh_now(a, u);
}

/* 0 or -ENOMEM. */
static int agent_put_record(Agent *a, const Unit *text, const ClusterAssignment *assignment,
                            AssignmentRecord **ret) {
        int r = records_put(&a->records, text, assignment->kind, assignment->unit_index, assignment->index,
                            ret);

        if (r >= 0)
                (*ret)->since_ms = assignment->since_ms;
        return r;
}

/* While units are reported to a cluster of a new lineage, too: the report would replace the state that says
 * so. Later, the state may be this daemon's own, of a run before the assignment that is in the view by now.
 */
void agent_record_completed(Agent *a, AgentUnit *u) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const Unit *text = agent_assigned_text(a, u);
        AssignmentRecord *record = records_get(&a->records, u->name);
        bool moved = a->fresh && u->observed && agent_takes_finished(assignment, text, record, &u->seen);

        if (!(a->fresh || a->adopting) || !u->observed ||
            (!moved && (!u->precedes || !agent_has_completed_before(assignment, text,
                                                                    cluster_state(c, a->machine_id, u->name),
                                                                    record, &u->seen))) ||
            agent_is_conflicting(&u->seen, record, a->boot_id, u->link_refused))
                return;
        if (agent_put_record(a, text, assignment, &record) < 0) {
                agent_retry_soon(a);
                return;
        }
        /* A global unit runs in each boot, and the state does not say in which one it ran. */
        if (text->placement.global)
                snprintf(record->started_boot, sizeof(record->started_boot), "%s", a->boot_id);
        record->done = true;
        record->starting = false;
        u->done_save = a->n_saves + 1;
        log_info(((LogFields) { .unit = u->name, .index = assignment->index }), "%s: done (%s)", u->name,
                 moved ? "it has finished on its former machine" :
                         "completed before, by the state in the cluster");
}

void agent_record_since(Agent *a, const AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        AssignmentRecord *record = records_get(&a->records, u->name);

        if (!assignment || !record || record->index != assignment->index)
                return;
        a->records.dirty |= record->since_ms != assignment->since_ms;
        record->since_ms = assignment->since_ms;
        if (record->inputs == 0 && record->unit && input_policy_is_set(&record->unit->placement.inputs) &&
            agent_has_started(a, u))
                agent_record_provided(a, record, assignment->inputs);
}

void agent_record_lost_start(Agent *a, AgentUnit *u) {
        AssignmentRecord *record = records_get(&a->records, u->name);

        if (record && u->observed && record->stopped_for && agent_start_got_lost(record, &u->seen))
                agent_cancel_start(a, record, u);
}

void agent_record_job_result(Agent *a, const char *unit, const char *result) {
        static const char *const never_began[] = { "assert", "dependency", "timeout", "unsupported" };
        AssignmentRecord *record = records_get(&a->records, unit);

        if (record && streq(result, "done"))
                agent_record_job(a, record, "");
        if (record && streq(result, "failed") && agent_is_trigger(record))
                agent_record_job(a, record, result);
        for (size_t i = 0; record && i < ELEMENTS(never_began); i++)
                if (streq(result, never_began[i]) && !streq(record->job, result)) {
                        log_warning(((LogFields) { .unit = unit }), "systemd did not start %s: %s", unit,
                                    result);
                        agent_record_job(a, record, result);
                }
}

void agent_record_started(Agent *a, AssignmentRecord *record) {
        snprintf(record->started_boot, sizeof(record->started_boot), "%s", a->boot_id);
        record->starting = true;
}

void agent_record_not_started(AssignmentRecord *record) {
        record->starting = false;
        if (!record->stopped_for)
                record->started_boot[0] = 0;
}

void agent_cancel_start(Agent *a, AssignmentRecord *record, AgentUnit *u) {
        agent_record_not_started(record);
        record->before[0] = 0; /* systemd has the text of 'unit' by now, so later invocations run it */
        a->records.dirty = true;
        u->restart_ms = 0; /* the start affected no other unit */
}

void agent_record_reload(Agent *a, const AgentUnit *u, bool reloading) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        const Unit *text = agent_unit_text(a, u);

        /* One for a content leaves the recorded text in force. */
        if (record && !(reloading && text && unit_effect(record->unit, text) != EFFECT_RELOAD))
                agent_record_flag(a, &record->reloading, reloading);
}

int agent_record_assignment(Agent *a, const AgentUnit *unit, bool started, bool starting) {
        const char *name = unit->name;
        const ClusterAssignment *assignment = a->fresh ? agent_assignment(a, name) : NULL;
        const Unit *text = agent_assigned_text(a, unit);
        AssignmentRecord *record = records_get(&a->records, name);
        bool again = starting && record && record->stopped_for &&
                     (!assignment || assignment->index == record->index);
        /* OnChange=restart of the assigned text alone restarts nothing: the next content does. */
        bool restarts = record && record->unit && input_policy_restarts(&record->unit->placement.inputs);

        if (assignment && assignment->kind != ASSIGNMENT_STOP && text)
                TRY(agent_put_record(a, text, assignment, &record));
        if (assignment && record && !started && !restarts && record->inputs < assignment->inputs &&
            record->kind == ASSIGNMENT_RUN && input_policy_restarts(&record->unit->placement.inputs))
                agent_record_provided(a, record, assignment->inputs);
        if (record && (started || record->kind == ASSIGNMENT_LOAD)) /* the file of the unit is in force */
                snprintf(record->owned_boot, sizeof(record->owned_boot), "%s", a->boot_id);
        if (record && record->kind == ASSIGNMENT_LOAD)
                record->replacing = false;
        if (!record || !started)
                return 0;
        if (record->unit && starting) /* one that runs already: agent_record_since() */
                agent_record_provided(a, record, agent_content(a, record->unit, NULL));
        agent_record_started(a, record);
        record->starting = starting;
        snprintf(record->before, sizeof(record->before), "%s", starting ? unit->seen.invocation_id : "");
        record->ran = record->done = record->stopped = false;
        record->stopped_for = again;
        record->replacing = record->replacing && starting;
        record->reloading = false;
        record->finishing = starting;
        record->job[0] = 0;
        a->records.dirty = true;
        return 0;
}

void agent_record_stop(Agent *a, const AgentUnit *unit, AgentStep s) {
        const ClusterAssignment *assignment = agent_assignment(a, unit->name);
        AssignmentRecord *record = records_get(&a->records, unit->name);

        if (!record)
                return;
        /* Until the unit has stopped, this alone marks what runs as ours. */
        if (s == AGENT_STOP || unit->seen.owner == SYSTEMD_OURS)
                snprintf(record->owned_boot, sizeof(record->owned_boot), "%s", a->boot_id);
        /* Stopped without the cluster (OnPartition=stop): it starts again when the cluster is back. */
        if (s == AGENT_STOP && !a->fresh) {
                agent_record_not_started(record);
                a->records.dirty = true;
                return;
        }
        /* The record stays until the unit has stopped, and is removed with it. */
        if (s == AGENT_REMOVE || assignment->kind != ASSIGNMENT_RUN) {
                a->records.acted_index = MAX(a->records.acted_index, assignment ? assignment->index : 0);
                a->records.dirty |= !record->stopping;
                record->kind = ASSIGNMENT_LOAD;
                record->stopping = true;
                record->starting = record->replacing = record->finishing = record->reloading = false;
                return;
        }
        /* Stopped to replace its text. The record precedes the stop: if the cluster is lost in between, this
         * daemon finishes the replacement alone. */
        record->replacing |= agent_put_record(a, agent_assigned_text(a, unit), assignment, &record) == 0;
        if (record->replacing)
                snprintf(record->before, sizeof(record->before), "%s", unit->seen.invocation_id);
        record->finishing |= record->replacing;
        record->started_boot[0] = 0;
        record->starting = record->reloading = false;
        a->records.dirty = true;
}
