/* What steps and observations change in the assignment records. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

/* What is seen is a unit of the host under that name: it says nothing of what was started here. */
static bool agent_observes_conflict(const Agent *a, const AgentUnit *u, const AssignmentRecord *record) {
        return agent_is_conflicting(&u->seen, record, a->boot_id, false) &&
               !(record->invocation[0] && streq(record->invocation, u->seen.invocation_id));
}

/* Whether it is done; that is noted. */
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

/* What became of it is noted, as long as anybody knows. One that had finished, and was started by hand or by
 * another unit, has not. */
void agent_record_observed(Agent *a, AgentUnit *u) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        bool stopped_for;

        if (!record || !u->observed || (record->stopping && !agent_is_running(&u->seen)))
                return;
        if (agent_observes_conflict(a, u, record)) {
                record->taken_over = false;
                return;
        }
        if (agent_is_running(&u->seen)) {
                if (u->seen.owner == SYSTEMD_OURS)
                        memcpy(record->invocation, u->seen.invocation_id, sizeof(record->invocation));
                agent_record_flag(a, &record->taken_over,
                                  u->seen.owner == SYSTEMD_CONFLICTING &&
                                          !agent_is_conflicting(&u->seen, record, a->boot_id, false));
                u->n_restarts = 0;
                u->restart_ms = 0;
                agent_record_job(a, record, "");
                agent_record_flag(a, &record->ran, true);
                agent_record_flag(a, &record->done, false);
                agent_record_flag(a, &record->stopped, false);
        } else if (streq(u->seen.active, "failed") ||
                   (u->seen.end != SYSTEMD_END_UNKNOWN && u->seen.end != SYSTEMD_END_ITSELF))
                agent_record_flag(a, &record->ran, false);
        if (u->seen.end != SYSTEMD_END_UNKNOWN)
                agent_record_flag(a, &record->stopped,
                                  u->seen.end == SYSTEMD_END_STOPPED &&
                                          streq(record->started_boot, a->boot_id));
        if (u->seen.end == SYSTEMD_END_SKIPPED)
                agent_record_job(a, record, "condition");
        (void) agent_record_done(a, u, record);
        stopped_for = agent_is_stopped_for(record, &u->seen, a->boot_id);
        if (record->stopped_for == stopped_for || u->seen.job)
                return;
        record->stopped_for = stopped_for;
        a->records.dirty = true;
        if (stopped_for)
                log_notice(((LogFields) { .unit = u->name }),
                           "%s was stopped for the sake of another unit, and is started again when that one "
                           "is back",
                           u->name);
}

/* What was stopped for another unit's sake still is when its start got lost. */
void agent_record_lost_start(Agent *a, AgentUnit *u) {
        AssignmentRecord *record = records_get(&a->records, u->name);

        if (record && u->observed && record->stopped_for && agent_start_got_lost(record, &u->seen))
                agent_cancel_start(a, record, u);
}

/* Nothing of it shows in a unit that stayed inactive; all other results make it failed, or are none of a
 * start. */
void agent_record_job_result(Agent *a, const char *unit, const char *result) {
        static const char *const never_began[] = { "assert", "dependency", "timeout", "unsupported" };
        AssignmentRecord *record = records_get(&a->records, unit);

        if (record && streq(result, "done"))
                agent_record_job(a, record, "");
        for (size_t i = 0; record && i < ELEMENTS(never_began); i++)
                if (streq(result, never_began[i]) && !streq(record->job, result)) {
                        log_warning(((LogFields) { .unit = unit }), "%s: systemd did not start it: %s", unit,
                                    result);
                        agent_record_job(a, record, result);
                }
}

void agent_record_started(Agent *a, AssignmentRecord *record) {
        snprintf(record->started_boot, sizeof(record->started_boot), "%s", a->boot_id);
        record->starting = true;
}

/* No job came of the start that was noted: it is still to be made. */
void agent_record_not_started(AssignmentRecord *record) {
        record->starting = false;
        if (!record->stopped_for)
                record->started_boot[0] = 0;
}

void agent_cancel_start(Agent *a, AssignmentRecord *record, AgentUnit *u) {
        agent_record_not_started(record);
        record->before[0] = 0; /* systemd had read its text by then: what begins later has it */
        a->records.dirty = true;
        u->restart_ms = 0; /* it moved nothing */
}

/* The note follows the order; 'started': it runs, or is about to be started ('starting'), in this boot. Until
 * that start has succeeded this daemon makes it; until the unit runs it stays noted that it was stopped for
 * another one. 0 or -ENOMEM. */
int agent_record_assignment(Agent *a, const AgentUnit *unit, bool started, bool starting) {
        const char *name = unit->name;
        const Cluster *c = registry_cluster(a->registry);
        const ClusterAssignment *o = a->fresh ? cluster_assignment(c, a->machine_id, name) : NULL;
        const ClusterUnit *u = cluster_unit(c, name);
        AssignmentRecord *record = records_get(&a->records, name);
        bool again = starting && record && record->stopped_for && (!o || o->index == record->index);
        int r;

        if (o && o->kind != ASSIGNMENT_STOP && u && u->unit) {
                r = records_put(&a->records, u->unit, o->kind, u->index, o->index, &record);
                if (r < 0)
                        return r;
        }
        if (record && (started || record->kind == ASSIGNMENT_LOAD)) /* its file is in force */
                snprintf(record->owned_boot, sizeof(record->owned_boot), "%s", a->boot_id);
        if (record && record->kind == ASSIGNMENT_LOAD)
                record->replacing = false;
        if (!record || !started)
                return 0;
        agent_record_started(a, record);
        record->starting = starting;
        snprintf(record->before, sizeof(record->before), "%s", starting ? unit->seen.invocation_id : "");
        record->ran = record->done = record->stopped = false;
        record->stopped_for = again;
        record->replacing = record->replacing && starting;
        record->finishing = starting;
        record->job[0] = 0;
        a->records.dirty = true;
        return 0;
}

/* Note that 'unit' is about to be stopped or removed. What is to be stopped has an order and, if
 * that is to run, a text: the plan saw both. */
void agent_record_stop(Agent *a, const AgentUnit *unit, AgentStep s) {
        const ClusterAssignment *o = cluster_assignment(registry_cluster(a->registry), a->machine_id,
                                                        unit->name);
        const ClusterUnit *u = cluster_unit(registry_cluster(a->registry), unit->name);
        AssignmentRecord *record = records_get(&a->records, unit->name);

        if (!record)
                return;
        if (s == AGENT_STOP) /* until it has stopped nothing else may say that what runs is ours */
                snprintf(record->owned_boot, sizeof(record->owned_boot), "%s", a->boot_id);
        /* The note stays until it has stopped, and is removed. */
        if (s == AGENT_REMOVE || o->kind != ASSIGNMENT_RUN) {
                a->records.acted_index = MAX(a->records.acted_index, o ? o->index : 0);
                a->records.dirty |= !record->stopping;
                record->kind = ASSIGNMENT_LOAD;
                record->stopping = true;
                record->starting = record->replacing = record->finishing = false;
                return;
        }
        /* Stopped for another text. That and the intention come before the stop: should the cluster be lost
         * after it, this daemon finishes by itself. */
        record->replacing |= records_put(&a->records, u->unit, ASSIGNMENT_RUN, u->index, o->index, NULL) == 0;
        if (record->replacing)
                snprintf(record->before, sizeof(record->before), "%s", unit->seen.invocation_id);
        record->finishing |= record->replacing;
        record->started_boot[0] = 0;
        record->starting = false;
        a->records.dirty = true;
}

/* Asked after each reload and for each write, and by each daemon once: whatever is started then has the new
 * text, and a socket may start it again and again. */
void agent_check_outdated(Agent *a, AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);
        bool is_outdated = record && record->replacing && !record->starting && record->before[0] &&
                           agent_is_running(&u->seen) && !streq(record->before, u->seen.invocation_id);

        snprintf(u->outdated_invocation, sizeof(u->outdated_invocation), "%s",
                 is_outdated ? u->seen.invocation_id : "");
        u->outdated_listing = 0;
}
