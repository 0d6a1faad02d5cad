/* Execution of steps: calls to systemd, after the write that contains their record has ended. A call may
 * outlive its agent. */

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum {
        BATCH_MAX = 500,       /* units in one call */
        WRITES_IN_ROW_MAX = 2, /* of a file that systemd does not load; later writes are delayed */
};

/* A socket, a timer or a user may have started a unit before systemd read its new text. This listing, or a
 * later one, decides. */
static void agent_mark_outdated(const AgentCall *call, uint64_t listing) {
        for (size_t i = 0; i < call->names.n; i++)
                agent_call_unit(call, i)->outdated_listing = listing;
}

static bool agent_reply_is_lost(int error) {
        return error == -ETIMEDOUT || error == -ECONNRESET || error == -ECANCELED;
}

/* The outcome of a start. If the reply was lost, the state of the unit decides whether the start was made. */
static void agent_start_ended(Agent *a, AgentUnit *u, int error) {
        AssignmentRecord *record = records_get(&a->records, u->name);

        if (record && error == 0) {
                record->starting = record->replacing = record->finishing = false;
                a->records.dirty = true;
        } else if (record && !agent_reply_is_lost(error))
                agent_cancel_start(a, record, u); /* never sent, or rejected */
}

/* The process has the text that was in force when it was reloaded. For a content it is reloaded once, also if
 * that fails. */
static void agent_reload_ended(Agent *a, AgentUnit *u, const AgentCall *call, int error) {
        const Unit *text = a->fresh && error == 0 ? agent_assigned_text(a, u) : NULL;
        AssignmentRecord *record;

        u->reload = NULL;
        u->reload_failed = error == -EIO;
        if (error == 0)
                health_begin_watch(&u->health);
        if (text && streq(text->hash, call->hash)) {
                if (agent_record_assignment(a, u, false, false) < 0)
                        agent_retry_soon(a);
                else
                        agent_record_reload(a, u, false);
        }
        record = records_get(&a->records, u->name);
        if (record && record->unit && (error == 0 || error == -EIO) &&
            record->unit->placement.inputs.on_change == ON_CHANGE_RELOAD)
                agent_record_provided(a, record, MAX(record->inputs, call->content));
}

/* A reload lasts until TimeoutStartSec=, which may be infinite. The job of a stop replaces that of the
 * reload, whose end concerns the unit no more. */
static void agent_abandon_reload(AgentUnit *u) {
        names_done(&u->reload->names);
        u->reload = NULL;
        u->busy = false;
}

/* End a call and free it: a pass that comes soon refreshes its units. The agent may have been freed. After a
 * failed write systemd may still have read the file, for example because it was re-executed. */
static void agent_call_done(void *userdata, int error, const char *message) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        if (!agent_call_ended(a))
                return;
        if (call->step == AGENT_START)
                agent_start_ended(a, agent_call_unit(call, 0), error);
        if (call->step == AGENT_RELOAD && call->names.n > 0)
                agent_reload_ended(a, agent_call_unit(call, 0), call, error);
        if (call->step == AGENT_REMOVE)
                a->removing = false;
        if (call->step == AGENT_WRITE) {
                a->writing--;
                if (error < 0 || call->reloaded)
                        agent_mark_outdated(call, a->n_listings + 1);
        }
        for (size_t i = 0; i < call->names.n; i++) {
                AgentUnit *u = agent_call_unit(call, i);
                /* The job of a trigger may still be refused. */
                bool undecided = call->step == AGENT_START && error == 0 &&
                                 agent_is_trigger(records_get(&a->records, u->name));

                u->busy = false;
                *(error < 0 ? &a->counts.failed[call->step] : &a->counts.done[call->step]) += 1;
                agent_refresh_now(a, u);
                if (call->step == AGENT_WRITE && error == 0)
                        u->must_reload = false;
                if (call->step == AGENT_WRITE)
                        u->link_refused = error == -EEXIST && !agent_has_started(a, u);
                publisher_expedite(a->publisher, u->name);
                if (undecided)
                        continue;
                u->start_refused = call->step == AGENT_START && systemd_is_refusal(error);
                if (error < 0)
                        agent_unit_failed(a, u, agent_step_to_string(call->step),
                                          message && message[0] ? message : strerror(-error));
                else if (call->step == AGENT_WRITE && ++u->n_writes > WRITES_IN_ROW_MAX)
                        agent_unit_failed(a, u, "put in force", "systemd does not load its file");
                else {
                        u->n_failures = 0;
                        u->last_error[0] = 0;
                }
        }
}

/* -- Steps -- */

/* A socket, a timer or a user may have started the unit since it was observed as stopped. Then its file and
 * record, which mark it as ours, stay, and it is stopped again. The record stays, too, while systemd has a
 * unit that a trigger refers to: that could start it. Return whether a reload has to end that. */
static bool agent_remove_one(Agent *a, const SystemdUnit *seen, bool reloaded) {
        int r;

        if (agent_is_started(seen) &&
            !agent_is_conflicting(seen, records_get(&a->records, seen->name), a->boot_id, false))
                return false;
        r = a->systemd->ops->remove_file(a->systemd, seen->name);
        if (r < 0 && r != -ENOENT)
                log_warning(((LogFields) { .unit = seen->name, .error = r }),
                            "Failed to remove the file of %s: %s", seen->name, strerror(-r));
        if (!reloaded && streq(seen->load, "loaded") && seen->owner != SYSTEMD_CONFLICTING)
                return true;
        agent_remove_template(a, seen->name);
        records_remove(&a->records, seen->name);
        return false;
}

static void agent_on_links_changed(void *userdata, int error, const char *message);

/* After linking: reload once for the batch if systemd has an older text of a unit, or does not have the unit.
 * systemd would start the older text of a failed or referenced unit. After unlinking: remove the files. */
static void agent_on_links_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        AgentCall *call = userdata;
        Agent *a = call->agent;
        bool reload = false;
        int r = error;

        if (a->closing || error < 0) {
                agent_call_done(call, error, "");
                return;
        }
        if (call->step == AGENT_WRITE) /* another program may have made systemd read the file */
                agent_mark_outdated(call, call->listing);
        for (size_t i = 0; i < n; i++) {
                if (call->step == AGENT_REMOVE) {
                        reload |= agent_remove_one(a, &units[i], call->reloaded);
                        continue;
                }
                agent_refresh_unit(a, &units[i], call->listing);
                reload |= units[i].need_reload || agent_call_unit(call, i)->must_reload ||
                          units[i].owner == SYSTEMD_ABSENT || streq(units[i].load, "error");
        }
        if (reload && !call->reloaded) {
                call->reloaded = true;
                r = a->systemd->ops->reload(
                        a->systemd, call->step == AGENT_REMOVE ? agent_on_links_changed : agent_call_done,
                        call);
                if (r == 0)
                        return;
        }
        agent_call_done(call, r, "");
}

static void agent_link(Agent *a, AgentUnit **units, size_t n) {
        AgentCall *call = agent_call_new(a, AGENT_WRITE, units, n);
        int r;

        if (!call)
                return;
        a->writing++;
        r = a->systemd->ops->link(a->systemd, agent_call_names(call), call->names.n, agent_on_links_changed,
                                  call);
        if (r < 0)
                agent_call_done(call, r, "");
}

/* systemd rejects a batch as a whole, even for one unit: link each unit by a call of its own. */
static void agent_link_each(AgentCall *call) {
        Agent *a = call->agent;

        for (size_t i = 0; i < call->names.n; i++) {
                AgentUnit *u = agent_call_unit(call, i);

                u->busy = false; /* without memory for its call, the next pass makes it */
                agent_link(a, &u, 1);
        }
        a->writing--;
        a->calls--;
        (void) agent_call_free(call);
}

static void agent_on_links_changed(void *userdata, int error, const char *message) {
        AgentCall *call = userdata;
        Agent *a = call->agent;
        int r = error;

        if (call->step == AGENT_WRITE && !a->closing && error < 0 && call->names.n > 1 &&
            a->systemd->ops->is_ready(a->systemd)) {
                agent_link_each(call);
                return;
        }
        if (!a->closing && error == 0) {
                call->listing = ++a->n_listings;
                r = a->systemd->ops->list(a->systemd, agent_call_names(call), call->names.n, false,
                                          agent_on_links_listed, call);
        }
        if (a->closing || r < 0)
                agent_call_done(call, r, message);
}

/* agent_stage_duties(). If that fails, it is tried again later, as a start that systemd refuses. */
static int agent_stage_noted(Agent *a, AgentUnit *u, const Unit *text) {
        Error why = {};
        int r = agent_stage_duties(a, u, text, &why);

        if (r < 0) {
                u->start_refused = true;
                agent_unit_failed(a, u, "start", error_text(&why, r));
                publisher_expedite(a->publisher, u->name);
        } else
                agent_note(u, &why);
        return r;
}

static void agent_write(Agent *a, AgentUnit **units, size_t n) {
        size_t written = 0;
        int r;

        for (size_t i = 0; i < n; i++) {
                const Unit *text = agent_unit_text(a, units[i]);

                if (agent_stage_noted(a, units[i], text) < 0)
                        continue;
                r = a->systemd->ops->write_file(a->systemd, units[i]->name, text->text, text->text_size);
                if (r < 0)
                        agent_unit_failed(a, units[i], "write the file of", strerror(-r));
                else
                        units[written++] = units[i];
        }
        if (written > 0)
                agent_link(a, units, written);
}

/* Ignore the result: the removal or the start of the unit continues, and reports its own errors. */
static void agent_on_reset(void *userdata, int error, const char *message) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;

        (void) agent_call_ended(call->agent);
}

static void agent_reset_failed(Agent *a, AgentStep step, AgentUnit *u) {
        bool failed = streq(u->seen.active, "failed") && u->seen.owner == SYSTEMD_OURS;
        AgentCall *reset = failed ? agent_call_new(a, step, &u, 1) : NULL;

        if (reset && a->systemd->ops->reset_failed(a->systemd, u->name, agent_on_reset, reset) < 0)
                agent_on_reset(reset, 0, "");
}

static void agent_remove(AgentCall *call) {
        Agent *a = call->agent;
        int r;

        for (size_t i = 0; i < call->names.n; i++)
                agent_reset_failed(a, AGENT_REMOVE, agent_call_unit(call, i));

        r = a->systemd->ops->unlink(a->systemd, agent_call_names(call), call->names.n, agent_on_links_changed,
                                    call);
        if (r < 0)
                agent_on_links_changed(call, r, "");
}

bool agent_restart(Agent *a, AgentUnit *u) {
        AgentCall *call = a->systemd->ops->is_ready(a->systemd) ? agent_call_new(a, AGENT_RESTART, &u, 1) :
                                                                  NULL;
        int r;

        if (!call)
                return false;
        u->ended_first = false;
        u->ends = 0;
        r = a->systemd->ops->restart(a->systemd, u->name, agent_call_done, call);
        if (r < 0)
                agent_call_done(call, r, "");
        return true;
}

/* -- Calls that wait for a save -- */

/* Return whether the step is still the next one: assignment, unit and host may have changed during the write
 * of the record. */
static bool agent_is_due(Agent *a, const AgentCall *call, AgentUnit *u) {
        AssignmentRecord *record = call->step == AGENT_START ? records_get(&a->records, u->name) : NULL;
        const char *reason;
        AgentStep s;

        if (record)
                agent_record_not_started(record);
        s = agent_next_step(a, u, &reason);
        if (s == call->step && !agent_is_provided(a, u, s)) {
                s = AGENT_NOTHING;
                reason = u->last_error;
        }
        if (s == call->step) {
                if (record)
                        agent_record_started(a, record);
                return true;
        }
        log_info(((LogFields) { .unit = u->name }), "%s: the next step is no longer %s but %s (%s)", u->name,
                 agent_step_to_string(call->step), agent_step_to_string(s), reason);
        if (record)
                agent_cancel_start(a, record, u);
        return false;
}

static int (*agent_call_operation(const AgentCall *call))(Systemd *, const char *, SystemdDone, void *) {
        const SystemdOps *ops = call->agent->systemd->ops;

        if (call->step == AGENT_RELOAD)
                return ops->reload_unit;
        return call->step == AGENT_START ? ops->start : ops->stop;
}

static void agent_begin_call(AgentCall *call) {
        Agent *a = call->agent;
        AgentUnit *u = agent_call_unit(call, 0);
        AssignmentRecord *record;
        int r;

        if (call->step == AGENT_REMOVE) {
                agent_remove(call);
                return;
        }
        if (!agent_is_due(a, call, u)) {
                call->step = AGENT_NOTHING; /* nothing was started: a replacement is still to be finished */
                agent_call_done(call, 0, "");
                return;
        }
        record = records_get(&a->records, u->name);
        if (call->step == AGENT_START) {
                if (record && record->unit) /* its files may have a newer content than when it was saved */
                        agent_record_provided(a, record, agent_content(a, record->unit, NULL));
                u->job_ended = u->ended_first = false;
                u->start_counts = true;
                u->ends = 0;
                /* An assigned start is not limited by those of before. */
                agent_reset_failed(a, AGENT_START, u);
        }
        r = agent_begin_duties(a, u, call->step);
        if (r < 0) {
                agent_call_done(call, r, strerror(-r));
                return;
        }
        if (call->step == AGENT_RELOAD) {
                memcpy(call->hash, u->seen.hash, sizeof(call->hash));
                call->content = record && record->unit ? agent_content(a, record->unit, NULL) : 0;
                u->reload = call;
        }
        r = agent_call_operation(call)(a->systemd, call->names.items[0], agent_call_done, call);
        if (r < 0)
                agent_call_done(call, r, "");
}

/* Return false if the observed state is too old; then a pass that refreshes it is scheduled. */
static bool agent_may_begin(Agent *a, const AgentCall *call) {
        AgentUnit *u = agent_call_unit(call, 0);

        if (call->step == AGENT_REMOVE)
                return true;
        if (!a->systemd->ops->is_ready(a->systemd) || u->must_refresh || u->refreshing)
                return false;
        if (agent_is_stale(u))
                agent_refresh_now(a, u);
        return !u->must_refresh;
}

/* Begin the calls whose save has ended. */
static void agent_begin_saved(Agent *a) {
        AgentCall *call, *next;

        for (call = TAILQ_FIRST(&a->waiting); call; call = next) {
                next = TAILQ_NEXT(call, waiting_calls);
                if (call->save <= a->n_saved && agent_may_begin(a, call)) {
                        TAILQ_REMOVE(&a->waiting, call, waiting_calls);
                        agent_begin_call(call);
                }
        }
}

/* -- Saves of the records: one write at a time, off the loop --
 *
 * The next write contains all changes since the previous one began. If a write fails, the calls are made all
 * the same: a full disk must not keep units from being started and stopped. */

static void agent_save_ended(Agent *a, int r) {
        a->n_saved = a->n_saves;
        if (r < 0 && r != a->save_error)
                log_error(((LogFields) { .error = r }),
                          "Failed to save the assignments of this host: %s; executing them all the same",
                          strerror(-r));
        a->save_error = r;
        agent_begin_saved(a);
        if (r >= 0)
                agent_wake(a); /* completions are published after the save that records them */
}

static void agent_save_run(void *userdata) {
        Agent *a = userdata;

        records_write_run(a->write);
}

static void agent_save_done(void *userdata) {
        Agent *a = userdata;
        const AgentCall *last;
        int r = a->closing ? 0 : records_write_end(&a->records, a->write);

        a->write = records_write_free(a->write);
        if (!agent_call_ended(a))
                return;
        if (r == -ESTALE) { /* the waiting calls wait for the next write */
                agent_save(a);
                return;
        }
        agent_save_ended(a, r);
        last = TAILQ_LAST(&a->waiting, AgentCalls);
        if (last && last->save > a->n_saved)
                agent_save(a);
}

void agent_save(Agent *a) {
        int r;

        if (a->write || !a->records.dirty)
                return;
        r = records_write_new(&a->records, &a->write);
        a->n_saves++;
        if (r < 0) {
                agent_save_ended(a, r);
                return;
        }
        a->save_work = (Work) { .name = LOOP_NAME(agent_save_done),
                                .work = agent_save_run,
                                .done = agent_save_done,
                                .userdata = a };
        a->calls++;
        if (loop_work(a->loop, &a->save_work) < 0) { /* no memory for a worker: write on the loop */
                records_write_run(a->write);
                agent_save_done(a);
        }
}

void agent_end_saves(Agent *a, bool save) {
        AgentCall *call;

        while ((call = TAILQ_FIRST(&a->waiting))) {
                TAILQ_REMOVE(&a->waiting, call, waiting_calls);
                a->calls--;
                agent_call_free(call);
        }
        if (!save && a->write) {
                a->write = records_write_free(a->write);
                a->calls--;
        }
        if (!save)
                return;
        if (a->write) {
                records_write_run(a->write); /* returns when the worker's write, or this one, has ended */
                (void) records_write_end(&a->records, a->write);
        }
        a->records.dirty |= a->records.table != NULL; /* a new invocation alone does not set 'dirty' */
        (void) records_save(&a->records);
}

/* -- Execution -- */

/* Stop a unit to replace its text only if the new text can be put in force. */
static int agent_stage(Agent *a, const AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        const Unit *text = agent_unit_text(a, u);

        if (!assignment || assignment->kind != ASSIGNMENT_RUN || !text || streq(text->hash, u->seen.hash))
                return 0;
        return a->systemd->ops->stage_file(a->systemd, u->name, text->text, text->text_size);
}

/* Write what goes with the file of a unit whose record is current. Replace *step by AGENT_WRITE if that has
 * changed, or by AGENT_NOTHING if it fails. */
static void agent_stage_step(Agent *a, AgentUnit *u, AgentStep *step) {
        AssignmentRecord *record = records_get(&a->records, u->name);
        const Unit *text = agent_unit_text(a, u);
        int r = record && text ? agent_stage_noted(a, u, text) : 0;

        if (r == 0)
                return;
        if (*step == AGENT_START)
                agent_cancel_start(a, record, u);
        *step = r > 0 ? AGENT_WRITE : AGENT_NOTHING;
}

/* Return false if 'call' is NULL. */
static bool agent_await_save(Agent *a, AgentCall *call, uint64_t save) {
        if (!call)
                return false;
        call->save = save;
        TAILQ_INSERT_TAIL(&a->waiting, call, waiting_calls);
        return true;
}

/* Update the record for *step, or replace *step by AGENT_NOTHING if that fails. Return whether the step is
 * complete with that, so that a new plan is due. */
static bool agent_record_step(Agent *a, AgentUnit *u, AgentStep *step) {
        const char *what = agent_step_to_string(*step);
        int r = 0;

        if (*step == AGENT_RECORD || *step == AGENT_ADOPT || *step == AGENT_START)
                r = agent_record_assignment(a, u, *step != AGENT_RECORD, *step == AGENT_START);
        else if (*step == AGENT_STOP) {
                what = "write the file of";
                r = agent_stage(a, u);
        }
        if (r < 0) {
                agent_unit_failed(a, u, what, strerror(-r));
                *step = AGENT_NOTHING;
                u->stopping = false;
                return false;
        }
        if (*step == AGENT_ADOPT) { /* started by another program: a refused start is no longer the last */
                u->job_ended = true;
                u->start_refused = false;
                u->n_failures = 0;
                u->last_error[0] = 0;
        }
        if (*step == AGENT_RECORD || *step == AGENT_ADOPT || *step == AGENT_START)
                agent_stage_step(a, u, step);
        if (*step == AGENT_STOP || *step == AGENT_REMOVE)
                agent_record_stop(a, u, *step);
        if (*step == AGENT_STOP && u->reload)
                agent_abandon_reload(u);
        if (*step == AGENT_RELOAD)
                agent_record_reload(a, u, true);
        if (*step == AGENT_ADOPT || *step == AGENT_START)
                u->link_refused = false;
        if (*step == AGENT_WRITE || *step == AGENT_RELOAD || *step == AGENT_START || *step == AGENT_STOP ||
            *step == AGENT_REMOVE)
                publisher_expedite(a->publisher, u->name);
        return *step == AGENT_RECORD || *step == AGENT_ADOPT;
}

/* Return the number of units with 'step' in *ret, at most BATCH_MAX. */
static size_t agent_batch(AgentStep step, AgentUnit *const *units, const AgentStep *steps, size_t n,
                          AgentUnit *ret[static BATCH_MAX]) {
        size_t n_batch = 0;

        for (size_t i = 0; i < n && n_batch < BATCH_MAX; i++)
                if (steps[i] == step)
                        ret[n_batch++] = units[i];
        return n_batch;
}

bool agent_execute(Agent *a, AgentUnit **units, AgentStep *steps, size_t n) {
        AgentUnit *batch[BATCH_MAX];
        bool recorded = false;
        size_t n_batch;
        uint64_t save;

        for (size_t i = 0; i < n; i++)
                recorded |= agent_record_step(a, units[i], &steps[i]);
        save = a->n_saves + a->records.dirty;

        for (size_t i = 0; i < n; i++)
                if (steps[i] == AGENT_STOP || steps[i] == AGENT_START || steps[i] == AGENT_RELOAD)
                        agent_await_save(a, agent_call_new(a, steps[i], &units[i], 1), save);

        n_batch = a->writing ? 0 : agent_batch(AGENT_WRITE, units, steps, n, batch);
        if (n_batch > 0)
                agent_write(a, batch, n_batch);
        n_batch = a->removing ? 0 : agent_batch(AGENT_REMOVE, units, steps, n, batch);
        if (n_batch > 0)
                a->removing = agent_await_save(a, agent_call_new(a, AGENT_REMOVE, batch, n_batch), save);

        agent_begin_saved(a); /* calls whose records did not change */
        agent_save(a);
        return recorded;
}
