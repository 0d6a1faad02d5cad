#include "fleetd/agent/plan.h"

static const char *const step_names[] = {
        [AGENT_NOTHING] = "nothing", [AGENT_WRITE] = "write",   [AGENT_RECORD] = "record",
        [AGENT_ADOPT] = "adopt",     [AGENT_START] = "start",   [AGENT_STOP] = "stop",
        [AGENT_REMOVE] = "remove",   [AGENT_DONE] = "done",     [AGENT_REFUSE] = "refuse",
        [AGENT_RESTART] = "restart", [AGENT_RELOAD] = "reload",
};

static const char plan_content_changed[] = "its secrets or configuration have changed";

const char *agent_step_to_string(AgentStep step) {
        return step_names[step];
}

bool agent_is_started(const SystemdUnit *seen) {
        return !streq(seen->active, "inactive") && !streq(seen->active, "failed") && seen->active[0];
}

bool agent_is_trigger(const AssignmentRecord *record) {
        return record && record->unit && unit_classes[record->unit->class].triggers;
}

static bool plan_is_owned(const AssignmentRecord *record, const char *boot_id) {
        return record && (streq(record->owned_boot, boot_id) || streq(record->started_boot, boot_id));
}

/* Another file has taken the name (a mask, or an administrator's file) since the unit was started here. The
 * unit is ours until it has stopped; otherwise it would run here and elsewhere. */
static bool plan_still_runs(const SystemdUnit *seen, const AssignmentRecord *record, const char *boot_id) {
        return plan_is_owned(record, boot_id) && agent_is_started(seen) && record->invocation[0] &&
               streq(record->invocation, seen->invocation_id);
}

/* systemd may know no file of a running unit. It is ours only if we have its file, or had it in force in this
 * boot. A file system mounted by hand has no file either, nor has a service of the host whose file was
 * removed. */
static bool plan_is_conflicting(const SystemdUnit *seen, const AssignmentRecord *record,
                                const char *boot_id) {
        if (seen->owner == SYSTEMD_CONFLICTING)
                return !plan_still_runs(seen, record, boot_id);
        return seen->owner == SYSTEMD_ABSENT && agent_is_started(seen) && !seen->has_file &&
               !plan_is_owned(record, boot_id);
}

bool agent_is_conflicting(const SystemdUnit *seen, const AssignmentRecord *record, const char *boot_id,
                          bool link_refused) {
        return plan_is_conflicting(seen, record, boot_id) || (link_refused && !agent_is_started(seen));
}

/* The link or the file was removed. The next reload by any program makes a running unit lose its Restart=,
 * and its load state becomes "error". In a unit that does not run, "error" may mean a wrong text. */
static bool plan_lacks_file(const SystemdUnit *seen) {
        return !seen->has_file || streq(seen->load, "not-found") ||
               (agent_is_started(seen) && streq(seen->load, "error"));
}

/* A stop is under way: wait for its end before the unit counts as running. */
static bool plan_is_stopping(const SystemdUnit *seen) {
        return streq(seen->active, "deactivating") && seen->job;
}

static AgentStep plan_step(AgentStep s, const char *reason, const char **ret_reason) {
        *ret_reason = reason;
        return s;
}

bool agent_is_kept(const ClusterAssignment *assignment, const AssignmentRecord *record,
                   const SystemdUnit *seen, const char *boot_id) {
        return assignment && assignment->kind == ASSIGNMENT_STOP && assignment->unless_running && record &&
               record->kind == ASSIGNMENT_RUN && !record->stopping && streq(record->started_boot, boot_id) &&
               active_state_is_up(seen->active);
}

static AgentStep plan_stop(const AgentView *v, const char **why) {
        /* This assignment precedes the one that was executed. */
        if (v->record && v->assignment->index < v->record->index)
                return plan_step(AGENT_NOTHING, "the stop assignment is older than the record", why);
        if (plan_is_conflicting(v->seen, v->record, v->boot_id) && (v->seen->has_file || v->record))
                return plan_step(AGENT_REMOVE, "conflicting unit: only our file and record are removed", why);
        if (plan_is_conflicting(v->seen, v->record, v->boot_id))
                return plan_step(AGENT_DONE, "conflicting unit, and nothing of ours is left", why);
        if (agent_is_kept(v->assignment, v->record, v->seen, v->boot_id))
                return plan_step(AGENT_NOTHING,
                                 "it runs here and elsewhere: waiting for the cluster to decide", why);
        if (agent_is_started(v->seen) && (v->seen->owner == SYSTEMD_OURS || v->seen->has_file || v->record))
                return plan_step(AGENT_STOP, "assigned to stop", why);
        if (v->seen->has_file || v->record)
                return plan_step(AGENT_REMOVE, "assigned to stop, and has stopped", why);
        return plan_step(AGENT_DONE, "nothing of the unit is left", why);
}

bool agent_start_got_lost(const AssignmentRecord *record, const SystemdUnit *seen) {
        return record->starting && !seen->job && !agent_is_started(seen) &&
               streq(seen->invocation_id, record->before);
}

/* Return whether the unit has finished. A global unit belongs to its host, and runs in each boot of it. */
static bool plan_has_finished(const AssignmentRecord *record, const char *boot_id) {
        return record->done && record->unit && unit_finishes(record->unit) &&
               (!record->unit->placement.global || streq(record->started_boot, boot_id));
}

/* Return whether the unit has to be started again to have the content that is assigned. One that has finished
 * does not run again for that, nor does one whose content is not known: no budget has permitted its stop.
 * OnChange=restart of the assigned text alone restarts nothing. */
static bool plan_lacks_content(const AgentView *v) {
        const AssignmentRecord *record = v->record;

        return record && record->kind == ASSIGNMENT_RUN && record->inputs > 0 &&
               record->inputs < v->assignment->inputs &&
               input_policy_restarts(&record->unit->placement.inputs) &&
               input_policy_restarts(&v->text->placement.inputs) && !plan_has_finished(record, v->boot_id);
}

/* Return whether this assignment's start was already made: in this boot, or for good. */
static bool plan_was_started(const AgentView *v) {
        const AssignmentRecord *record = v->record;
        bool same_order, same_text;

        if (!record || record->kind != ASSIGNMENT_RUN || agent_start_got_lost(v->record, v->seen))
                return false;

        /* A new assignment is a stop and a start in between, and a rewrite in place is not. Records of older
         * versions do not show which it was: a new unit key, whose text runs the same, is an edit of
         * [X-Fleet] alone. */
        same_order = record->index == v->assignment->index ||
                     (record->since_ms > 0 ? record->since_ms == v->assignment->since_ms :
                                             record->unit_index != v->assignment->unit_index);
        /* One that has finished gets another text for its next run, which a trigger or a user begins. */
        same_text = (unit_runs_same(record->unit, v->text) && !plan_lacks_content(v)) ||
                    (v->assignment->finished && plan_has_finished(record, v->boot_id));
        return same_order && same_text &&
               (plan_has_finished(record, v->boot_id) || streq(record->started_boot, v->boot_id));
}

/* Another start would end alike: a condition or an assertion does not hold, or systemd does not support the
 * unit. A dependency that failed or timed out may succeed later. */
static bool plan_start_is_futile(const AssignmentRecord *record, const SystemdUnit *seen) {
        return seen->end == SYSTEMD_END_SKIPPED ||
               (record->job[0] && !streq(record->job, "dependency") && !streq(record->job, "timeout"));
}

bool agent_is_stopped_for(const AssignmentRecord *record, const SystemdUnit *seen, const char *boot_id) {
        if (!record || record->kind != ASSIGNMENT_RUN || plan_has_finished(record, boot_id) ||
            record->starting || !streq(record->started_boot, boot_id) || !streq(seen->active, "inactive") ||
            seen->job || plan_start_is_futile(record, seen))
                return false;
        if (seen->end == SYSTEMD_END_UNKNOWN)
                return !record->stopped &&
                       (seen->oneshot ? record->stopped_for && !record->ran :
                                        record->stopped_for || seen->held || seen->unguarded);
        return seen->end == SYSTEMD_END_STOPPED_FOR;
}

/* Start a unit again that was started in this boot and was not stopped by hand. A start that systemd skipped
 * is not repeated to test the condition: before systemd checks conditions, the job stops conflicting units
 * and starts wanted ones. */
static AgentStep plan_again(const AgentView *v, const char *else_reason, const char **why) {
        const SystemdUnit *seen = v->seen;
        const AssignmentRecord *record = v->record;
        bool ended = agent_is_stopped_for(record, seen, v->boot_id) && !seen->held;

        if (v->stopping || !ended)
                return plan_step(AGENT_NOTHING, else_reason, why);
        if (seen->need_reload || plan_lacks_file(seen))
                return plan_step(AGENT_WRITE, "installing the unit file", why);
        return plan_step(AGENT_START, "the cause of its stop has ended", why);
}

/* Return whether the state of a restored or recovered cluster requires the next step: this host has not
 * executed the assignment before. */
static bool plan_is_inherited(const AgentView *v) {
        return v->inherited && !(v->record && v->record->index == v->assignment->index);
}

/* Return whether the process is to be reloaded: for its assigned text, or for the recorded one after a reload
 * for another text was begun. */
static bool plan_reloads(const AgentView *v) {
        const AssignmentRecord *record = v->record;

        if (systemd_is_restarting(v->seen) || !(agent_is_started(v->seen) || v->seen->job))
                return false;
        return unit_effect(record->unit, v->text) == EFFECT_RELOAD ||
               (record->reloading && effect_can_reload(&v->text->file));
}

/* Return whether the unit is active, and its files have a newer content than at its last start or reload. */
static bool plan_reloads_content(const AgentView *v) {
        const InputPolicy *inputs = &v->text->placement.inputs;

        return inputs->on_change == ON_CHANGE_RELOAD && input_policy_is_set(inputs) &&
               v->record->inputs < v->content && streq(v->seen->active, "active") && !v->seen->job &&
               effect_can_reload(&v->text->file);
}

/* Return whether a process with the recorded text may go on with the assigned one. It is reloaded for the
 * assignment with which it was started: for a new one, it was to stop in between. Units that are loaded are
 * not reloaded. */
static bool plan_runs_on(const AgentView *v) {
        bool may_reload = v->assignment->kind != ASSIGNMENT_LOAD && plan_was_started(v);

        return unit_effect(v->record->unit, v->text) <= (may_reload ? EFFECT_RELOAD : EFFECT_LIVE);
}

/* The unit was started by its record, and need not be restarted for its assigned text. The record keeps the
 * former text until the new one is in force: then a crash at any step is followed by the steps that are left.
 * 'differs': the file has another text. */
static AgentStep plan_started(const AgentView *v, bool differs, const char **why) {
        const SystemdUnit *seen = v->seen;
        const AssignmentRecord *record = v->record;
        bool pending = !unit_equal(record->unit, v->text);
        bool reloads = plan_reloads(v);

        if (record->starting && !reloads)
                return plan_step(AGENT_ADOPT, "the recorded start was made", why);
        if (differs || plan_lacks_file(seen) || (pending && seen->need_reload))
                return plan_step(AGENT_WRITE, "installing the unit file", why);
        if (reloads && (seen->job || !streq(seen->active, "active")))
                return plan_step(AGENT_NOTHING, "it is reloaded when its job has ended", why);
        if (reloads)
                return plan_step(AGENT_RELOAD, "its ReloadTrigger= has changed", why);
        if (plan_reloads_content(v))
                return plan_step(AGENT_RELOAD, plan_content_changed, why);
        if (pending || record->index != v->assignment->index ||
            record->unit_index != v->assignment->unit_index)
                return plan_step(AGENT_RECORD, "the assignment matches the running unit", why);
        return plan_again(v, "started before", why);
}

/* Return whether an assignment to be loaded only ends what runs: the unit was assigned to run before, or its
 * target state was requested again. Records of older versions have no time of their assignment. */
static bool plan_is_lowered(const AgentView *v) {
        const AssignmentRecord *record = v->record;

        return record->kind == ASSIGNMENT_RUN ||
               (record->since_ms > 0 && record->since_ms != v->assignment->since_ms);
}

/* Return whether a timer, another unit or a person has started the unit, which is loaded only: the run goes
 * on, and the next one has the new text. */
static bool plan_is_run_of_another(const AgentView *v) {
        return v->assignment->kind == ASSIGNMENT_LOAD &&
               (!v->record || (v->record->kind == ASSIGNMENT_LOAD && !v->record->stopping));
}

/* Return whether a port of the unit has no number yet: none is selected while it runs. */
static bool plan_lacks_number(const AssignmentRecord *record) {
        const ServicePolicy *service = &record->unit->placement.service;

        for (size_t i = 0; i < service->n_ports; i++)
                if (record_ports_number(&record->ports, &service->ports[i]) == 0)
                        return true;
        return false;
}

static AgentStep plan_run(const AgentView *v, const char **why) {
        const SystemdUnit *seen = v->seen;
        const AssignmentRecord *record = v->record;
        bool differs, other; /* the file has another text; the running unit may have another text */

        if (!v->unit)
                return plan_step(AGENT_NOTHING, "the unit was removed; a stop assignment will follow", why);
        if (!v->text)
                return plan_step(AGENT_NOTHING,
                                 v->assignment->hash[0] ?
                                         "its assigned text is not known here yet" :
                                         "assigned with an older text; the engine updates one host at a time",
                                 why);
        if (plan_is_conflicting(seen, record, v->boot_id))
                return plan_step(AGENT_REFUSE, "this host has a unit of that name from another source", why);

        differs = !seen->has_file || !streq(seen->hash, v->text->hash);
        other = record ? (record->replacing && !streq(record->started_boot, v->boot_id)) || !plan_runs_on(v) :
                         seen->has_file;
        if (other && (differs || (record && plan_reloads(v))) && agent_is_started(seen) &&
            !plan_is_run_of_another(v))
                return plan_step(AGENT_STOP,
                                 plan_is_inherited(v) ? "the restored or recovered cluster has another text" :
                                                        "its text has changed",
                                 why);

        if (v->assignment->kind == ASSIGNMENT_RUN && agent_is_started(seen) && plan_lacks_content(v))
                return plan_step(AGENT_STOP, plan_content_changed, why);

        if (v->assignment->kind == ASSIGNMENT_LOAD) {
                if (agent_is_started(seen) && record &&
                    (record->stopping || (v->assignment->index > record->index && plan_is_lowered(v))))
                        return plan_step(AGENT_STOP, "assigned to be loaded only", why);
                if (differs || plan_lacks_file(seen))
                        return plan_step(AGENT_WRITE, "installing the unit file", why);
                if (!record || record->kind != ASSIGNMENT_LOAD || record->stopping ||
                    record->index != v->assignment->index || !plan_is_owned(record, v->boot_id))
                        return plan_step(AGENT_RECORD, "assigned to be loaded", why);
                if (!agent_is_started(seen) && plan_lacks_number(record))
                        return plan_step(AGENT_WRITE, "selecting a number for its port", why);
                return plan_step(AGENT_NOTHING, "loaded", why);
        }

        if (plan_was_started(v))
                return plan_started(v, differs, why);
        if (record && record->replacing && v->outdated && agent_is_started(seen) &&
            unit_runs_same(record->unit, v->text))
                return plan_step(AGENT_STOP, "its former text was started again", why);
        if (v->stopping)
                return plan_step(AGENT_NOTHING, "systemd is stopping", why);
        if (differs || seen->need_reload || plan_lacks_file(seen) ||
            agent_is_conflicting(seen, record, v->boot_id, v->link_refused))
                return plan_step(AGENT_WRITE, "installing the unit file", why);
        if (plan_is_stopping(seen))
                return plan_step(AGENT_NOTHING, "it is being stopped", why);
        if (agent_is_started(seen))
                return plan_step(AGENT_ADOPT, "already running", why);
        return plan_step(AGENT_START,
                         plan_is_inherited(v) ?
                                 "assigned to run before the cluster was restored or recovered" :
                                 "assigned to run",
                         why);
}

static AgentStep plan_recorded(const AgentView *v, const char **why) {
        const AssignmentRecord *record = v->record;
        const char *reason;
        bool started, finished;

        if (record && record->stopping && v->fresh &&
            (!agent_is_started(v->seen) || plan_is_conflicting(v->seen, record, v->boot_id)))
                return plan_step(AGENT_REMOVE, "assigned to stop before, and has stopped", why);
        if (record && record->stopping)
                return plan_step(AGENT_NOTHING, "assigned to stop before; unit and file stay as they are",
                                 why);
        if (!record || plan_is_conflicting(v->seen, v->record, v->boot_id))
                return plan_step(AGENT_NOTHING, "no assignment", why);

        started = streq(record->started_boot, v->boot_id) && !agent_start_got_lost(v->record, v->seen);
        if (started && record->starting)
                return plan_step(AGENT_ADOPT, "the recorded start was made", why);
        finished = plan_has_finished(record, v->boot_id);
        if (started || finished || record->kind == ASSIGNMENT_LOAD) {
                if (plan_lacks_file(v->seen) && (plan_is_owned(record, v->boot_id) || v->use_records))
                        return plan_step(AGENT_WRITE, "installing the unit file", why);
                return plan_again(v, "no newer assignment", why);
        }
        if (record->replacing && agent_is_started(v->seen) &&
            (v->outdated || !streq(v->seen->hash, record->unit->hash)))
                return plan_step(AGENT_NOTHING, "waiting for the cluster: its former text runs", why);
        /* While host or daemon was down, the unit may have moved: another daemon waits, as with all
         * assignments. */
        if ((!v->use_records && (!record->finishing || v->fresh)) || v->stopping)
                return plan_step(AGENT_NOTHING, "waiting for the cluster", why);
        reason = record->replacing ? "finishing a replacement" :
                                     "assigned before, and no contact with the cluster";
        if (plan_lacks_file(v->seen) || !streq(v->seen->hash, record->unit->hash) || v->seen->need_reload)
                return plan_step(AGENT_WRITE, reason, why);
        if (plan_is_stopping(v->seen))
                return plan_step(AGENT_NOTHING, "it is being stopped", why);
        if (agent_is_started(v->seen))
                return plan_step(AGENT_ADOPT, "already running", why);
        return plan_step(AGENT_START, reason, why);
}

/* While the view is not fresh, only records count, and they never stop a unit. A unit with a known newer
 * assignment may run elsewhere by now: do not start it. */
static AgentStep plan_saved(const AgentView *v, const char **why) {
        bool superseded = v->assignment && v->record && v->assignment->kind != ASSIGNMENT_RUN &&
                          v->assignment->index > v->record->index;
        AgentStep s = plan_recorded(v, why);

        if (superseded && (s == AGENT_START || s == AGENT_WRITE))
                return plan_step(AGENT_NOTHING,
                                 "waiting for the cluster: the last known assignment is not to run", why);
        /* The cluster has answered, and its units may run elsewhere. */
        if (v->removed && (s == AGENT_START || s == AGENT_WRITE))
                return plan_step(AGENT_NOTHING, "this host was removed from the cluster", why);
        return s;
}

static AgentStep plan_any(const AgentView *v, const char **why) {
        if (!v->fresh || !v->assignment)
                return plan_saved(v, why);
        return v->assignment->kind == ASSIGNMENT_STOP ? plan_stop(v, why) : plan_run(v, why);
}

/* OnPartition=stop: the unit runs only on a host that has contact to the cluster, or had it a moment ago. */
static AgentStep plan_alone(const AgentView *v, AgentStep s, const char **why) {
        const AssignmentRecord *record = v->record;

        if (v->fresh || !record || !record->unit || !record->unit->placement.stops_alone)
                return s;
        if (v->alone_ms >= placement_stop_after_ms(&record->unit->placement) && agent_is_started(v->seen) &&
            !plan_is_stopping(v->seen) && !plan_is_conflicting(v->seen, record, v->boot_id))
                return plan_step(AGENT_STOP,
                                 "no contact with the cluster for StopAfterSec= (OnPartition=stop)", why);
        if (s == AGENT_START || s == AGENT_WRITE)
                return plan_step(AGENT_NOTHING, "waiting for the cluster (OnPartition=stop)", why);
        return s;
}

static bool plan_is_singleton(const AgentView *v) {
        const Unit *text = v->record ? v->record->unit : NULL;

        if (v->fresh && v->assignment && v->text)
                text = v->text;
        return text && text->placement.singleton;
}

/* A singleton that is assigned to this host may run on another one, unless this host has a lease: records are
 * never enough. */
AgentStep agent_plan(const AgentView *v, const char **ret_reason) {
        AgentStep s;

        if (!v->seen)
                return plan_step(AGENT_NOTHING, "not read from systemd yet", ret_reason);
        s = plan_alone(v, plan_any(v, ret_reason), ret_reason);
        if (s == AGENT_START && plan_is_singleton(v) && !(v->fresh && v->leased))
                return plan_step(AGENT_NOTHING, "waiting for the lease of singletons", ret_reason);
        return s;
}

bool agent_is_done(const AssignmentRecord *record, const SystemdUnit *seen, const char *boot_id,
                   bool job_ended) {
        if (!record || record->kind != ASSIGNMENT_RUN || !record->unit || !unit_finishes(record->unit))
                return false;
        if (plan_has_finished(record, boot_id))
                return true;
        return job_ended && !record->starting && streq(record->started_boot, boot_id) && !seen->job &&
               streq(seen->active, "inactive") && (streq(seen->result, "success") || !seen->result[0]) &&
               (seen->end == SYSTEMD_END_ITSELF ||
                (seen->end == SYSTEMD_END_UNKNOWN && seen->oneshot && !seen->held && record->ran));
}

bool agent_takes_finished(const ClusterAssignment *assignment, const Unit *text,
                          const AssignmentRecord *record, const SystemdUnit *seen) {
        return assignment && assignment->kind == ASSIGNMENT_RUN && assignment->finished && text &&
               unit_finishes(text) && streq(seen->active, "inactive") && !seen->job &&
               !(record && record->kind == ASSIGNMENT_RUN && record->since_ms == assignment->since_ms);
}

/* A state that precedes the assignment may be of an earlier run. It has no hash if the host of an older
 * version had booted since the run. */
bool agent_has_completed_before(const ClusterAssignment *assignment, const Unit *text,
                                const ClusterState *published, const AssignmentRecord *record,
                                const SystemdUnit *seen) {
        if (!assignment || assignment->kind != ASSIGNMENT_RUN || !text || !streq(seen->active, "inactive") ||
            seen->job)
                return false;
        if (!published || !published->state.done || published->index < assignment->index ||
            (published->state.hash && !streq(published->state.hash, text->hash)))
                return false;
        return !record || (record->kind == ASSIGNMENT_RUN && record->done &&
                           record->index > assignment->index && unit_runs_same(record->unit, text));
}
