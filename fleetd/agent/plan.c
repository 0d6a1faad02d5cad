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

static bool is_owned(const AssignmentRecord *note, const char *boot_id) {
        return note && (streq(note->owned_boot, boot_id) || streq(note->started_boot, boot_id));
}

/* Another file has taken its name (a mask, or a file of an administrator) since it began to run here, and it
 * has not been started again since. It is ours until it has stopped, or it would run here and elsewhere. */
static bool runs_on(const SystemdUnit *seen, const AssignmentRecord *note, const char *boot_id) {
        return is_owned(note, boot_id) && agent_is_running(seen) && note->invocation[0] &&
               streq(note->invocation, seen->invocation_id);
}

/* What runs without a file that systemd can name is ours only if we have its file, or had it in force in this
 * boot: a file system that was mounted by hand has none, nor has a service of the host whose file was
 * removed. */
static bool is_conflicting(const SystemdUnit *seen, const AssignmentRecord *note, const char *boot_id) {
        if (seen->owner == SYSTEMD_CONFLICTING)
                return !runs_on(seen, note, boot_id);
        return seen->owner == SYSTEMD_ABSENT && agent_is_running(seen) && !seen->has_file &&
               !is_owned(note, boot_id);
}

bool agent_is_foreign(const SystemdUnit *seen, const AssignmentRecord *note, const char *boot_id,
                      bool taken) {
        return is_conflicting(seen, note, boot_id) || (taken && !agent_is_running(seen));
}

/* Its link or its file was taken away: whoever has systemd read its files anew makes a running unit forget
 * its Restart= (rule 34). What ran when it was read anew without its file is in "error"; in that of a unit
 * that does not run the text itself may be wrong. */
static bool has_lost_its_file(const SystemdUnit *seen) {
        return !seen->has_file || streq(seen->load, "not-found") ||
               (agent_is_running(seen) && streq(seen->load, "error"));
}

/* A stop of it is under way: its end is seen before it is taken for running. */
static bool is_being_stopped(const SystemdUnit *seen) {
        return streq(seen->active, "deactivating") && seen->job;
}

static AgentStep step(AgentStep s, const char *reason, const char **ret_reason) {
        *ret_reason = reason;
        return s;
}

static AgentStep plan_stop(const AgentView *v, const char **why) {
        /* An order from before the assignment is not about it (rule 30). */
        if (v->note && v->assignment->index < v->note->index)
                return step(AGENT_NOTHING, "the order to stop is older than the assignment", why);
        if (is_conflicting(v->seen, v->note, v->boot_id) && (v->seen->has_file || v->note))
                return step(AGENT_REMOVE, "the unit of that name is the host's: only what is ours goes", why);
        if (is_conflicting(v->seen, v->note, v->boot_id))
                return step(AGENT_DONE, "the unit of that name here is not ours", why);
        if (agent_is_running(v->seen) && (v->seen->owner == SYSTEMD_OURS || v->seen->has_file || v->note))
                return step(AGENT_STOP, "ordered to stop", why);
        if (v->seen->has_file || v->note)
                return step(AGENT_REMOVE, "ordered to stop, and it has stopped", why);
        return step(AGENT_DONE, "nothing of it is left here", why);
}

bool agent_start_got_lost(const AssignmentRecord *note, const SystemdUnit *seen) {
        return note->starting && !seen->job && !agent_is_running(seen) &&
               streq(seen->invocation_id, note->before);
}

/* The start of 'unit' under this order was made already: in this boot, or for good. */
static bool was_started(const AgentView *v) {
        const AssignmentRecord *note = v->note;
        bool same_order, same_text;

        if (!note || note->kind != ASSIGNMENT_RUN || agent_start_got_lost(v->note, v->seen))
                return false;

        /* A new order for the same unit key means that somebody stopped and started it meanwhile; one for a
         * new key whose text runs the same is an edit of [X-Fleet] alone. */
        same_order = note->index == v->assignment->index || note->unit_index != v->assignment->unit_index;
        same_text = unit_runs_same(note->unit, v->unit->unit);
        return same_order && same_text && (note->done || streq(note->started_boot, v->boot_id));
}

/* The same start would end the same: a condition or an assertion does not hold, or systemd cannot do it. What
 * other units kept from its start (one failed, or was not there in time) may begin later. */
static bool start_is_pointless(const AssignmentRecord *note, const SystemdUnit *seen) {
        return seen->end == SYSTEMD_END_SKIPPED ||
               (note->job[0] && !streq(note->job, "dependency") && !streq(note->job, "timeout"));
}

bool agent_is_stopped_for(const AssignmentRecord *note, const SystemdUnit *seen, const char *boot_id) {
        if (!note || note->kind != ASSIGNMENT_RUN || note->done || note->starting ||
            !streq(note->started_boot, boot_id) || !streq(seen->active, "inactive") || seen->job ||
            start_is_pointless(note, seen))
                return false;
        if (seen->end == SYSTEMD_END_UNKNOWN)
                return !note->stopped &&
                       (seen->oneshot ? note->stopped_for && !note->ran : note->stopped_for || seen->held);
        return seen->end == SYSTEMD_END_STOPPED_FOR;
}

/* Of a unit that was started in this boot, and that nobody stopped for its own sake. One that systemd did not
 * begin is not started again to see whether its condition holds by now: the job of a start stops units in
 * conflict with it, and starts what it wants, before systemd checks any condition. */
static AgentStep plan_again(const AgentView *v, const char *else_reason, const char **why) {
        const SystemdUnit *seen = v->seen;
        const AssignmentRecord *note = v->note;
        bool over = agent_is_stopped_for(note, seen, v->boot_id) && !seen->held;

        if (v->stopping || note->done || !over)
                return step(AGENT_NOTHING, else_reason, why);
        if (seen->need_reload || has_lost_its_file(seen))
                return step(AGENT_WRITE, "its text is not in force here", why);
        return step(AGENT_START, "what it was stopped for is over", why);
}

static AgentStep plan_run(const AgentView *v, const char **why) {
        const SystemdUnit *seen = v->seen;
        const AssignmentRecord *note = v->note;
        bool differs, other; /* the file is not of this text; what runs may not be */

        if (!v->unit || !v->unit->unit)
                return step(AGENT_NOTHING, "its unit is gone; an order to stop will follow", why);
        if (v->assignment->unit_index != v->unit->index)
                return step(
                        AGENT_NOTHING,
                        "the order is about an older text; the engine will say when it is this host's turn",
                        why);
        if (is_conflicting(seen, note, v->boot_id))
                return step(AGENT_REFUSE, "this host has a unit of that name from elsewhere", why);

        differs = !seen->has_file || !streq(seen->hash, v->unit->unit->hash);
        other = note ? (note->replacing && !streq(note->started_boot, v->boot_id)) ||
                                !unit_runs_same(note->unit, v->unit->unit) :
                       seen->has_file;
        if (differs && other && agent_is_running(seen))
                return step(AGENT_STOP, "its text has changed", why);

        if (v->assignment->kind == ASSIGNMENT_LOAD) {
                if (agent_is_running(seen) && note &&
                    (note->stopping || (note->kind == ASSIGNMENT_RUN && v->assignment->index > note->index)))
                        return step(AGENT_STOP, "ordered to be loaded only", why);
                if (differs || has_lost_its_file(seen))
                        return step(AGENT_WRITE, "its text is not in force here", why);
                if (!note || note->kind != ASSIGNMENT_LOAD || note->stopping ||
                    note->index != v->assignment->index || !is_owned(note, v->boot_id))
                        return step(AGENT_RECORD, "ordered to be loaded", why);
                return step(AGENT_NOTHING, "loaded", why);
        }

        if (was_started(v)) {
                if (note->starting)
                        return step(AGENT_ADOPT, "the start that was noted was made", why);
                if ((differs || has_lost_its_file(seen)) && !note->done)
                        return step(AGENT_WRITE, "its text is not in force here", why);
                if (note->index != v->assignment->index || note->unit_index != v->assignment->unit_index)
                        return step(AGENT_RECORD, "the order is about what runs", why);
                return plan_again(v, "started before", why);
        }
        if (note && note->replacing && v->outdated && agent_is_running(seen) &&
            unit_runs_same(note->unit, v->unit->unit))
                return step(AGENT_STOP, "its former text was started again", why);
        if (v->stopping)
                return step(AGENT_NOTHING, "systemd is stopping", why);
        if (differs || seen->need_reload || has_lost_its_file(seen) ||
            agent_is_foreign(seen, note, v->boot_id, v->taken))
                return step(AGENT_WRITE, "its text is not in force here", why);
        if (is_being_stopped(seen))
                return step(AGENT_NOTHING, "it is being stopped", why);
        if (agent_is_running(seen))
                return step(AGENT_ADOPT, "it runs already", why);
        return step(AGENT_START, "ordered to run", why);
}

static AgentStep plan_noted(const AgentView *v, const char **why) {
        const AssignmentRecord *note = v->note;
        const char *reason;
        bool started;

        if (note && note->stopping && v->fresh &&
            (!agent_is_running(v->seen) || is_conflicting(v->seen, note, v->boot_id)))
                return step(AGENT_REMOVE, "ordered to stop before, and it has stopped", why);
        if (note && note->stopping)
                return step(AGENT_NOTHING, "it was ordered to stop; its file and it itself stay as they are",
                            why);
        if (!note || is_conflicting(v->seen, v->note, v->boot_id))
                return step(AGENT_NOTHING, "no order", why);

        started = streq(note->started_boot, v->boot_id) && !agent_start_got_lost(v->note, v->seen);
        if (started && note->starting)
                return step(AGENT_ADOPT, "the start that was noted was made", why);
        if (started || note->kind == ASSIGNMENT_LOAD) {
                if (has_lost_its_file(v->seen) && !note->done && (is_owned(note, v->boot_id) || v->use_saved))
                        return step(AGENT_WRITE, "its file is missing", why);
                return plan_again(v, "no newer order", why);
        }
        if (note->replacing && agent_is_running(v->seen) &&
            (v->outdated || !streq(v->seen->hash, note->unit->hash)))
                return step(AGENT_NOTHING, "waiting for the cluster: its former text runs", why);
        /* While this host or its daemon was down the unit may have moved: another daemon waits as with all
         * that was assigned. */
        if ((!v->use_saved && (!note->finishing || v->fresh)) || note->done || v->stopping)
                return step(AGENT_NOTHING, "waiting for the cluster", why);
        reason = note->replacing ? "a replacement that had begun is finished" :
                                   "assigned before, and the cluster cannot be asked";
        if (has_lost_its_file(v->seen) || !streq(v->seen->hash, note->unit->hash) || v->seen->need_reload)
                return step(AGENT_WRITE, reason, why);
        if (is_being_stopped(v->seen))
                return step(AGENT_NOTHING, "it is being stopped", why);
        if (agent_is_running(v->seen))
                return step(AGENT_ADOPT, "it runs already", why);
        return step(AGENT_START, reason, why);
}

/* Without the cluster's word the notes are all there is; they never stop anything. What is known to be
 * ordered otherwise since may run elsewhere by now: it is not started. */
static AgentStep plan_saved(const AgentView *v, const char **why) {
        bool superseded = v->assignment && v->note && v->assignment->kind != ASSIGNMENT_RUN &&
                          v->assignment->index > v->note->index;
        AgentStep s = plan_noted(v, why);

        if (superseded && (s == AGENT_START || s == AGENT_WRITE))
                return step(AGENT_NOTHING,
                            "waiting for the cluster: the last order that is known is not to run", why);
        return s;
}

AgentStep agent_plan(const AgentView *v, const char **ret_reason) {
        if (!v->seen)
                return step(AGENT_NOTHING, "systemd has not been asked yet", ret_reason);
        if (!v->fresh || !v->assignment)
                return plan_saved(v, ret_reason);
        return v->assignment->kind == ASSIGNMENT_STOP ? plan_stop(v, ret_reason) : plan_run(v, ret_reason);
}

bool agent_is_done(const AssignmentRecord *note, const SystemdUnit *seen, const char *boot_id,
                   bool job_ended) {
        if (!note || note->kind != ASSIGNMENT_RUN)
                return false;
        if (note->done)
                return true;
        return job_ended && !note->starting && streq(note->started_boot, boot_id) && !seen->job &&
               streq(seen->active, "inactive") && (streq(seen->result, "success") || !seen->result[0]) &&
               (seen->end == SYSTEMD_END_ITSELF ||
                (seen->end == SYSTEMD_END_UNKNOWN && seen->oneshot && !seen->held && note->ran));
}
