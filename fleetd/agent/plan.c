#include "fleetd/agent/plan.h"

static const char *const step_names[] = {
        [AGENT_NOTHING] = "nothing", [AGENT_WRITE] = "write", [AGENT_RECORD] = "note",
        [AGENT_ADOPT] = "adopt",     [AGENT_START] = "start", [AGENT_STOP] = "stop",
        [AGENT_REMOVE] = "remove",   [AGENT_DONE] = "obeyed", [AGENT_REFUSE] = "refuse",
};

const char *agent_step_to_string(AgentStep step) {
        return step_names[step];
}

bool agent_is_running(const SystemdUnit *seen) {
        return !streq(seen->active, "inactive") && !streq(seen->active, "failed") && seen->active[0];
}

static bool plan_is_owned(const AssignmentRecord *record, const char *boot_id) {
        return record && (streq(record->owned_boot, boot_id) || streq(record->started_boot, boot_id));
}

/* Another file has taken its name (a mask, or a file of an administrator) since it began to run here, and it
 * has not been started again since. It is ours until it has stopped, or it would run here and elsewhere. */
static bool plan_still_runs(const SystemdUnit *seen, const AssignmentRecord *record, const char *boot_id) {
        return plan_is_owned(record, boot_id) && agent_is_running(seen) && record->invocation[0] &&
               streq(record->invocation, seen->invocation_id);
}

/* What runs without a file that systemd can name is ours only if we have its file, or had it in force in this
 * boot: a file system that was mounted by hand has none, nor has a service of the host whose file was
 * removed. */
static bool plan_is_conflicting(const SystemdUnit *seen, const AssignmentRecord *record,
                                const char *boot_id) {
        if (seen->owner == SYSTEMD_CONFLICTING)
                return !plan_still_runs(seen, record, boot_id);
        return seen->owner == SYSTEMD_ABSENT && agent_is_running(seen) && !seen->has_file &&
               !plan_is_owned(record, boot_id);
}

bool agent_is_conflicting(const SystemdUnit *seen, const AssignmentRecord *record, const char *boot_id,
                          bool link_refused) {
        return plan_is_conflicting(seen, record, boot_id) || (link_refused && !agent_is_running(seen));
}

/* Its link or its file was taken away: whoever has systemd read its files anew makes a running unit forget
 * its Restart= (rule 34). What ran when it was read anew without its file is in "error"; in that of a unit
 * that does not run the text itself may be wrong. */
static bool plan_lacks_file(const SystemdUnit *seen) {
        return !seen->has_file || streq(seen->load, "not-found") ||
               (agent_is_running(seen) && streq(seen->load, "error"));
}

/* A stop of it is under way: its end is seen before it is taken for running. */
static bool plan_is_stopping(const SystemdUnit *seen) {
        return streq(seen->active, "deactivating") && seen->job;
}

static AgentStep plan_step(AgentStep s, const char *reason, const char **ret_reason) {
        *ret_reason = reason;
        return s;
}

static AgentStep plan_stop(const AgentView *v, const char **why) {
        /* An order from before the assignment is not about it (rule 30). */
        if (v->record && v->assignment->index < v->record->index)
                return plan_step(AGENT_NOTHING, "the order to stop is older than the assignment", why);
        if (plan_is_conflicting(v->seen, v->record, v->boot_id) && (v->seen->has_file || v->record))
                return plan_step(AGENT_REMOVE, "the unit of that name is the host's: only what is ours goes",
                                 why);
        if (plan_is_conflicting(v->seen, v->record, v->boot_id))
                return plan_step(AGENT_DONE, "the unit of that name here is not ours", why);
        if (agent_is_running(v->seen) && (v->seen->owner == SYSTEMD_OURS || v->seen->has_file || v->record))
                return plan_step(AGENT_STOP, "ordered to stop", why);
        if (v->seen->has_file || v->record)
                return plan_step(AGENT_REMOVE, "ordered to stop, and it has stopped", why);
        return plan_step(AGENT_DONE, "nothing of it is left here", why);
}

bool agent_start_got_lost(const AssignmentRecord *record, const SystemdUnit *seen) {
        return record->starting && !seen->job && !agent_is_running(seen) &&
               streq(seen->invocation_id, record->before);
}

/* The start of 'unit' under this order was made already: in this boot, or for good. */
static bool plan_was_started(const AgentView *v) {
        const AssignmentRecord *record = v->record;
        bool same_order, same_text;

        if (!record || record->kind != ASSIGNMENT_RUN || agent_start_got_lost(v->record, v->seen))
                return false;

        /* A new order for the same unit key means that somebody stopped and started it meanwhile; one for a
         * new key whose text runs the same is an edit of [X-Fleet] alone. */
        same_order = record->index == v->assignment->index || record->unit_index != v->assignment->unit_index;
        same_text = unit_runs_same(record->unit, v->unit->unit);
        return same_order && same_text && (record->done || streq(record->started_boot, v->boot_id));
}

/* The same start would end the same: a condition or an assertion does not hold, or systemd cannot do it. What
 * other units kept from its start (one failed, or was not there in time) may begin later. */
static bool plan_start_is_futile(const AssignmentRecord *record, const SystemdUnit *seen) {
        return seen->end == SYSTEMD_END_SKIPPED ||
               (record->job[0] && !streq(record->job, "dependency") && !streq(record->job, "timeout"));
}

bool agent_is_stopped_for(const AssignmentRecord *record, const SystemdUnit *seen, const char *boot_id) {
        if (!record || record->kind != ASSIGNMENT_RUN || record->done || record->starting ||
            !streq(record->started_boot, boot_id) || !streq(seen->active, "inactive") || seen->job ||
            plan_start_is_futile(record, seen))
                return false;
        if (seen->end == SYSTEMD_END_UNKNOWN)
                return !record->stopped && (seen->oneshot ? record->stopped_for && !record->ran :
                                                            record->stopped_for || seen->held);
        return seen->end == SYSTEMD_END_STOPPED_FOR;
}

/* Of a unit that was started in this boot, and that nobody stopped for its own sake. One that systemd did not
 * begin is not started again to see whether its condition holds by now: the job of a start stops units in
 * conflict with it, and starts what it wants, before systemd checks any condition. */
static AgentStep plan_again(const AgentView *v, const char *else_reason, const char **why) {
        const SystemdUnit *seen = v->seen;
        const AssignmentRecord *record = v->record;
        bool ended = agent_is_stopped_for(record, seen, v->boot_id) && !seen->held;

        if (v->stopping || record->done || !ended)
                return plan_step(AGENT_NOTHING, else_reason, why);
        if (seen->need_reload || plan_lacks_file(seen))
                return plan_step(AGENT_WRITE, "its text is not in force here", why);
        return plan_step(AGENT_START, "what it was stopped for is over", why);
}

static AgentStep plan_run(const AgentView *v, const char **why) {
        const SystemdUnit *seen = v->seen;
        const AssignmentRecord *record = v->record;
        bool differs, other; /* the file is not of this text; what runs may not be */

        if (!v->unit || !v->unit->unit)
                return plan_step(AGENT_NOTHING, "its unit is gone; an order to stop will follow", why);
        if (v->assignment->unit_index != v->unit->index)
                return plan_step(
                        AGENT_NOTHING,
                        "the order is about an older text; the engine will say when it is this host's turn",
                        why);
        if (plan_is_conflicting(seen, record, v->boot_id))
                return plan_step(AGENT_REFUSE, "this host has a unit of that name from elsewhere", why);

        differs = !seen->has_file || !streq(seen->hash, v->unit->unit->hash);
        other = record ? (record->replacing && !streq(record->started_boot, v->boot_id)) ||
                                 !unit_runs_same(record->unit, v->unit->unit) :
                         seen->has_file;
        if (differs && other && agent_is_running(seen))
                return plan_step(AGENT_STOP, "its text has changed", why);

        if (v->assignment->kind == ASSIGNMENT_LOAD) {
                if (agent_is_running(seen) && record &&
                    (record->stopping ||
                     (record->kind == ASSIGNMENT_RUN && v->assignment->index > record->index)))
                        return plan_step(AGENT_STOP, "ordered to be loaded only", why);
                if (differs || plan_lacks_file(seen))
                        return plan_step(AGENT_WRITE, "its text is not in force here", why);
                if (!record || record->kind != ASSIGNMENT_LOAD || record->stopping ||
                    record->index != v->assignment->index || !plan_is_owned(record, v->boot_id))
                        return plan_step(AGENT_RECORD, "ordered to be loaded", why);
                return plan_step(AGENT_NOTHING, "loaded", why);
        }

        if (plan_was_started(v)) {
                if (record->starting)
                        return plan_step(AGENT_ADOPT, "the start that was noted was made", why);
                if ((differs || plan_lacks_file(seen)) && !record->done)
                        return plan_step(AGENT_WRITE, "its text is not in force here", why);
                if (record->index != v->assignment->index || record->unit_index != v->assignment->unit_index)
                        return plan_step(AGENT_RECORD, "the order is about what runs", why);
                return plan_again(v, "started before", why);
        }
        if (record && record->replacing && v->outdated && agent_is_running(seen) &&
            unit_runs_same(record->unit, v->unit->unit))
                return plan_step(AGENT_STOP, "its former text was started again", why);
        if (v->stopping)
                return plan_step(AGENT_NOTHING, "systemd is stopping", why);
        if (differs || seen->need_reload || plan_lacks_file(seen) ||
            agent_is_conflicting(seen, record, v->boot_id, v->link_refused))
                return plan_step(AGENT_WRITE, "its text is not in force here", why);
        if (plan_is_stopping(seen))
                return plan_step(AGENT_NOTHING, "it is being stopped", why);
        if (agent_is_running(seen))
                return plan_step(AGENT_ADOPT, "it runs already", why);
        return plan_step(AGENT_START, "ordered to run", why);
}

static AgentStep plan_recorded(const AgentView *v, const char **why) {
        const AssignmentRecord *record = v->record;
        const char *reason;
        bool started;

        if (record && record->stopping && v->fresh &&
            (!agent_is_running(v->seen) || plan_is_conflicting(v->seen, record, v->boot_id)))
                return plan_step(AGENT_REMOVE, "ordered to stop before, and it has stopped", why);
        if (record && record->stopping)
                return plan_step(AGENT_NOTHING,
                                 "it was ordered to stop; its file and it itself stay as they are", why);
        if (!record || plan_is_conflicting(v->seen, v->record, v->boot_id))
                return plan_step(AGENT_NOTHING, "no order", why);

        started = streq(record->started_boot, v->boot_id) && !agent_start_got_lost(v->record, v->seen);
        if (started && record->starting)
                return plan_step(AGENT_ADOPT, "the start that was noted was made", why);
        if (started || record->kind == ASSIGNMENT_LOAD) {
                if (plan_lacks_file(v->seen) && !record->done &&
                    (plan_is_owned(record, v->boot_id) || v->use_records))
                        return plan_step(AGENT_WRITE, "its file is missing", why);
                return plan_again(v, "no newer order", why);
        }
        if (record->replacing && agent_is_running(v->seen) &&
            (v->outdated || !streq(v->seen->hash, record->unit->hash)))
                return plan_step(AGENT_NOTHING, "waiting for the cluster: its former text runs", why);
        /* While this host or its daemon was down the unit may have moved: another daemon waits as with all
         * that was assigned. */
        if ((!v->use_records && (!record->finishing || v->fresh)) || record->done || v->stopping)
                return plan_step(AGENT_NOTHING, "waiting for the cluster", why);
        reason = record->replacing ? "a replacement that had begun is finished" :
                                     "assigned before, and the cluster cannot be asked";
        if (plan_lacks_file(v->seen) || !streq(v->seen->hash, record->unit->hash) || v->seen->need_reload)
                return plan_step(AGENT_WRITE, reason, why);
        if (plan_is_stopping(v->seen))
                return plan_step(AGENT_NOTHING, "it is being stopped", why);
        if (agent_is_running(v->seen))
                return plan_step(AGENT_ADOPT, "it runs already", why);
        return plan_step(AGENT_START, reason, why);
}

/* Without the cluster's word the notes are all there is; they never stop anything. What is known to be
 * ordered otherwise since may run elsewhere by now: it is not started. */
static AgentStep plan_saved(const AgentView *v, const char **why) {
        bool superseded = v->assignment && v->record && v->assignment->kind != ASSIGNMENT_RUN &&
                          v->assignment->index > v->record->index;
        AgentStep s = plan_recorded(v, why);

        if (superseded && (s == AGENT_START || s == AGENT_WRITE))
                return plan_step(AGENT_NOTHING,
                                 "waiting for the cluster: the last order that is known is not to run", why);
        return s;
}

AgentStep agent_plan(const AgentView *v, const char **ret_reason) {
        if (!v->seen)
                return plan_step(AGENT_NOTHING, "systemd has not been asked yet", ret_reason);
        if (!v->fresh || !v->assignment)
                return plan_saved(v, ret_reason);
        return v->assignment->kind == ASSIGNMENT_STOP ? plan_stop(v, ret_reason) : plan_run(v, ret_reason);
}

bool agent_is_done(const AssignmentRecord *record, const SystemdUnit *seen, const char *boot_id,
                   bool job_ended) {
        if (!record || record->kind != ASSIGNMENT_RUN)
                return false;
        if (record->done)
                return true;
        return job_ended && !record->starting && streq(record->started_boot, boot_id) && !seen->job &&
               streq(seen->active, "inactive") && (streq(seen->result, "success") || !seen->result[0]) &&
               (seen->end == SYSTEMD_END_ITSELF ||
                (seen->end == SYSTEMD_END_UNKNOWN && seen->oneshot && !seen->held && record->ran));
}
