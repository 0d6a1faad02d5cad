/* Calls to systemd about units of this host, and the notes that go before them. A call outlives the agent
 * that made it. */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum {
        BATCH_MAX = 500,       /* units in one call */
        WRITES_IN_ROW_MAX = 2, /* of a file that systemd does not take: then they are put off */
};

/* One call to systemd about some units: remembers which, whatever happens to the agent. */
struct AgentCall {
        Agent *agent;
        AgentStep step;
        char **names;
        size_t n;
        bool reloaded;
        bool all;         /* of a look: at whatever has a file, too */
        uint64_t save;    /* of the notes, that it waits for */
        uint64_t listing; /* of a->n_listings: its own */
        TAILQ_ENTRY(AgentCall) waiting_calls;
};

/* -- Calls -- */

static AgentCall *agent_call_free(AgentCall *call) {
        for (size_t i = 0; i < call->n; i++)
                free(call->names[i]);
        free(call->names);
        free(call);
        return NULL;
}
DEFINE_CLEANUP(AgentCall *, agent_call_free)

/* NULL without memory: the pass that comes then begins it. */
static AgentCall *agent_call_new(Agent *a, AgentStep step, AgentUnit *const *units, size_t n) {
        _cleanup_(agent_call_freep) AgentCall *call = NEW0(AgentCall, 1);

        if (call) {
                call->agent = a;
                call->step = step;
                call->names = NEW0(char *, n + 1);
        }
        for (size_t i = 0; call && call->names && i < n && (call->names[i] = strdup(units[i]->name)); i++)
                call->n++;
        if (!call || !call->names || call->n < n) {
                agent_again(a);
                return NULL;
        }
        for (size_t i = 0; i < n; i++)
                *(step == AGENT_NOTHING ? &units[i]->asked : &units[i]->busy) = true;
        a->calls++;
        return TAKE_PTR(call);
}

static const char *const *call_names(const AgentCall *call) {
        return (const char *const *) call->names;
}

/* Never NULL: agent_settle() keeps a unit that is busy or asked for. */
static AgentUnit *agent_called(const AgentCall *call, size_t i) {
        return agent_unit(call->agent, call->names[i], false);
}

/* It was started here in this boot, under its present note. */
static bool agent_has_started(const Agent *a, const AgentUnit *u) {
        const AssignmentRecord *note = records_get(&a->notes, u->name);

        return note && note->kind == ASSIGNMENT_RUN && streq(note->started_boot, a->boot_id);
}

/* Returns false when the agent is closing; the last call of such an agent frees it. */
static bool agent_call_ended(Agent *a) {
        a->calls--;
        if (!a->closing)
                return true;
        if (a->calls == 0)
                free(a);
        return false;
}

/* Ends a call: its units are looked at again, by a pass that comes soon. The agent may be gone then. */
static void agent_call_done(AgentCall *call, int error, const char *sentence) {
        Agent *a = call->agent;

        if (!agent_call_ended(a))
                return;
        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_called(call, i);

                u->busy = false;
                agent_refresh_now(a, u);
                if (call->step == AGENT_WRITE)
                        u->taken = error == -EEXIST && !agent_has_started(a, u);
                publisher_ordered(a->publisher, u->name);
                if (error < 0)
                        agent_unit_failed(a, u, agent_step_to_string(call->step),
                                          sentence && sentence[0] ? sentence : strerror(-error));
                else if (call->step == AGENT_WRITE && ++u->writes > WRITES_IN_ROW_MAX)
                        agent_unit_failed(a, u, "put in force", "systemd does not take its file");
                else {
                        u->failures = 0;
                        u->trouble[0] = 0;
                }
        }
}

/* -- Looking -- */

static void agent_on_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        if (!agent_call_ended(a))
                return;
        a->looking = false;
        for (size_t i = 0; error == 0 && i < n; i++)
                agent_refresh_unit(a, &units[i], call->listing);
        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_called(call, i);

                u->asked = false;
                u->look |= error < 0;
        }
        if (error == 0) {
                agent_wake(a);
                return;
        }
        a->look_all |= call->all;
        agent_again(a);
}

/* Whether it is to be read now; when later, a pass comes then. */
static bool agent_refreshes_unit(Agent *a, const AgentUnit *u) {
        uint64_t due_ms = agent_refresh_due_ms(u);

        if (u->asked || (!u->look && !u->hinted))
                return false;
        if (due_ms > loop_now_ms(a->loop))
                agent_wake_at(a, due_ms);
        return due_ms <= loop_now_ms(a->loop);
}

void agent_refresh(Agent *a) {
        _cleanup_free_ AgentUnit **units = NULL;
        bool all = a->look_all;
        AgentCall *call;
        AgentUnit *u;
        size_t n = 0;
        int r;

        if (a->looking)
                return;

        units = NEW0(AgentUnit *, agent_count_dirty(a) + 1);
        if (!units) {
                agent_again(a);
                return;
        }
        TAILQ_FOREACH(u, &a->dirty, dirty_units)
        if (all || agent_refreshes_unit(a, u))
                units[n++] = u;
        if (n == 0 && !all)
                return;
        call = agent_call_new(a, AGENT_NOTHING, units, n);
        if (!call)
                return;
        for (size_t i = 0; i < n; i++) {
                units[i]->look = units[i]->hinted = false;
                agent_refreshed(a, units[i]);
        }
        a->look_all = false;
        a->looking = true;
        a->counts.listings++;
        a->counts.refreshed += n;
        call->all = all;
        call->listing = ++a->n_listings;
        r = a->systemd->ops->list(a->systemd, call_names(call), call->n, all, agent_on_listed, call);
        if (r < 0)
                agent_on_listed(call, r, NULL, 0);
}

/* -- Steps -- */

static void agent_note_start(Agent *a, AssignmentRecord *note) {
        snprintf(note->started_boot, sizeof(note->started_boot), "%s", a->boot_id);
        note->starting = true;
}

/* No job came of the start that was noted: it is still to be made. */
static void agent_unnote_start(AssignmentRecord *note) {
        note->starting = false;
        if (!note->stopped_for)
                note->started_boot[0] = 0;
}

void agent_cancel_start(Agent *a, AssignmentRecord *note, AgentUnit *u) {
        agent_unnote_start(note);
        note->before[0] = 0; /* systemd had read its text by then: what begins later has it */
        a->notes.dirty = true;
        u->again_ms = 0; /* it moved nothing */
}

static void agent_on_called(void *userdata, int error, const char *sentence) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        if (call->step == AGENT_START && !a->closing) {
                AssignmentRecord *note = records_get(&a->notes, call->names[0]);

                /* Was the answer lost, then what systemd shows decides whether the start was made. */
                if (note && error == 0) {
                        note->starting = note->replacing = note->finishing = false;
                        a->notes.dirty = true;
                } else if (note && error != -ETIMEDOUT && error != -ECONNRESET && error != -ECANCELED)
                        agent_cancel_start(
                                a, note,
                                agent_called(call, 0)); /* it never left for systemd, or was refused */
        }
        agent_call_done(call, error, sentence);
}

/* A socket, a timer or a person may have started one before systemd had read its new text: 'listing', or a
 * later one, shows that. */
static void agent_mark_unproven(const AgentCall *call, uint64_t listing) {
        for (size_t i = 0; i < call->n; i++)
                agent_called(call, i)->unproven = listing;
}

/* After an error systemd may have read the file all the same, for example because it was re-executed. */
static void agent_write_done(AgentCall *call, int error, const char *sentence) {
        _cleanup_(agent_call_freep) AgentCall *owned = call;
        Agent *a = call->agent;

        if (!a->closing) {
                a->writing--;
                if (error < 0 || call->reloaded)
                        agent_mark_unproven(call, a->n_listings + 1);
        }
        agent_call_done(owned, error, sentence);
}

static void agent_on_reloaded(void *userdata, int error, const char *sentence) {
        agent_write_done(userdata, error, sentence);
}

/* After linking: whom systemd still knows by another text, or not at all, wants one reload for the batch
 * (rule 33). */
static void agent_on_linked_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        AgentCall *call = userdata;
        Agent *a = call->agent;
        bool reload = false;
        int r = 0;

        if (a->closing || error < 0) {
                agent_write_done(call, error, "");
                return;
        }
        agent_mark_unproven(call, call->listing); /* another program may have made systemd read the file */
        for (size_t i = 0; i < n; i++) {
                agent_refresh_unit(a, &units[i], call->listing);
                reload |= units[i].need_reload || units[i].owner == SYSTEMD_ABSENT ||
                          streq(units[i].load, "error");
        }
        if (reload && !call->reloaded) {
                call->reloaded = true;
                r = a->systemd->ops->reload(a->systemd, agent_on_reloaded, call);
                if (r == 0)
                        return;
        }
        agent_write_done(call, r, "");
}

static void agent_on_linked(void *userdata, int error, const char *sentence);

static void agent_link(Agent *a, AgentUnit **units, size_t n) {
        AgentCall *call = agent_call_new(a, AGENT_WRITE, units, n);
        int r;

        if (!call)
                return;
        a->writing++;
        r = a->systemd->ops->link(a->systemd, call_names(call), call->n, agent_on_linked, call);
        if (r < 0)
                agent_write_done(call, r, "");
}

/* systemd refuses a batch as a whole, for the sake of one unit perhaps: each gets a call of its own. */
static void agent_link_each(AgentCall *call) {
        Agent *a = call->agent;

        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_called(call, i);

                u->busy = false; /* without memory for its call the next pass makes it */
                agent_link(a, &u, 1);
        }
        a->writing--;
        a->calls--;
        (void) agent_call_free(call);
}

static void agent_on_linked(void *userdata, int error, const char *sentence) {
        AgentCall *call = userdata;
        Agent *a = call->agent;
        int r = error;

        if (!a->closing && error < 0 && call->n > 1 && a->systemd->ops->is_ready(a->systemd)) {
                agent_link_each(call);
                return;
        }
        if (!a->closing && error == 0) {
                call->listing = ++a->n_listings;
                r = a->systemd->ops->list(a->systemd, call_names(call), call->n, false,
                                          agent_on_linked_listed, call);
        }
        if (a->closing || r < 0)
                agent_write_done(call, r, sentence);
}

/* The text that is to be in force: the registry's, or the note's where the cluster cannot be asked. */
static const Unit *agent_text(const Agent *a, const char *name) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterAssignment *o = cluster_assignment(c, a->machine_id, name);
        const ClusterUnit *u = cluster_unit(c, name);
        const AssignmentRecord *note = records_get(&a->notes, name);

        if (a->fresh && o && o->kind != ASSIGNMENT_STOP && u && u->unit)
                return u->unit;
        return note ? note->unit : NULL;
}

static void agent_write(Agent *a, AgentUnit **units, size_t n) {
        size_t written = 0;
        int r;

        for (size_t i = 0; i < n; i++) {
                const Unit *text = agent_text(a, units[i]->name);

                r = a->systemd->ops->write_file(a->systemd, units[i]->name, text->text, text->text_size);
                if (r < 0)
                        agent_unit_failed(a, units[i], "write the file of", strerror(-r));
                else
                        units[written++] = units[i];
        }
        if (written > 0)
                agent_link(a, units, written);
}

static void agent_remove_done(AgentCall *call, int error, const char *sentence) {
        _cleanup_(agent_call_freep) AgentCall *owned = call;

        if (!call->agent->closing)
                call->agent->removing = false;
        agent_call_done(owned, error, sentence);
}

/* A socket, a timer or a person may have started it since it was seen stopped: then its file and its note
 * stay, by which it is ours, and it is stopped again. */
static void agent_remove_one(Agent *a, const SystemdUnit *seen) {
        int r;

        if (agent_is_running(seen) &&
            !agent_is_foreign(seen, records_get(&a->notes, seen->name), a->boot_id, false))
                return;
        r = a->systemd->ops->remove_file(a->systemd, seen->name);
        if (r < 0 && r != -ENOENT)
                log_warning(((LogFields) { .unit = seen->name, .error = r }),
                            "cannot remove the file of %s: %s", seen->name, strerror(-r));
        records_remove(&a->notes, seen->name);
}

static void agent_on_unlinked_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        AgentCall *call = userdata;

        for (size_t i = 0; !call->agent->closing && error == 0 && i < n; i++)
                agent_remove_one(call->agent, &units[i]);
        agent_remove_done(call, error, "");
}

static void agent_on_unlinked(void *userdata, int error, const char *sentence) {
        AgentCall *call = userdata;
        Agent *a = call->agent;
        int r = error;

        if (!a->closing && error == 0)
                r = a->systemd->ops->list(a->systemd, call_names(call), call->n, false,
                                          agent_on_unlinked_listed, call);
        if (a->closing || r < 0)
                agent_remove_done(call, r, sentence);
}

/* Ignore the result: the removal of the unit goes on, and reports its own errors. */
static void agent_on_reset(void *userdata, int error, const char *sentence) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;

        (void) agent_call_ended(call->agent);
}

static void agent_remove(AgentCall *call) {
        Agent *a = call->agent;
        int r;

        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_called(call, i);
                AgentCall *reset;

                if (!streq(u->seen.active, "failed") || u->seen.owner != SYSTEMD_OURS ||
                    !(reset = agent_call_new(a, AGENT_REMOVE, &u, 1)))
                        continue;
                r = a->systemd->ops->reset_failed(a->systemd, u->name, agent_on_reset, reset);
                if (r < 0)
                        agent_on_reset(reset, r, "");
        }

        r = a->systemd->ops->unlink(a->systemd, call_names(call), call->n, agent_on_unlinked, call);
        if (r < 0)
                agent_on_unlinked(call, r, "");
}

/* -- Notes -- */

/* The note follows the order; 'started': it runs, or is about to be started ('starting'), in this boot. Until
 * that start has succeeded this daemon makes it; until the unit runs it stays noted that it was stopped for
 * another one. 0 or -ENOMEM. */
static int agent_note(Agent *a, const AgentUnit *unit, bool started, bool starting) {
        const char *name = unit->name;
        const Cluster *c = registry_cluster(a->registry);
        const ClusterAssignment *o = a->fresh ? cluster_assignment(c, a->machine_id, name) : NULL;
        const ClusterUnit *u = cluster_unit(c, name);
        AssignmentRecord *note = records_get(&a->notes, name);
        bool again = starting && note && note->stopped_for && (!o || o->index == note->index);
        int r;

        if (o && o->kind != ASSIGNMENT_STOP && u && u->unit) {
                r = records_put(&a->notes, u->unit, o->kind, u->index, o->index, &note);
                if (r < 0)
                        return r;
        }
        if (note && (started || note->kind == ASSIGNMENT_LOAD)) /* its file is in force */
                snprintf(note->owned_boot, sizeof(note->owned_boot), "%s", a->boot_id);
        if (note && note->kind == ASSIGNMENT_LOAD)
                note->replacing = false;
        if (!note || !started)
                return 0;
        agent_note_start(a, note);
        note->starting = starting;
        snprintf(note->before, sizeof(note->before), "%s", starting ? unit->seen.invocation_id : "");
        note->ran = note->done = note->stopped = false;
        note->stopped_for = again;
        note->replacing = note->replacing && starting;
        note->finishing = starting;
        note->job[0] = 0;
        a->notes.dirty = true;
        return 0;
}

/* Note that 'unit' is about to be stopped or removed. What is to be stopped has an order and, if
 * that is to run, a text: the plan saw both. */
static void agent_note_stop(Agent *a, const AgentUnit *unit, AgentStep s) {
        const ClusterAssignment *o = cluster_assignment(registry_cluster(a->registry), a->machine_id,
                                                        unit->name);
        const ClusterUnit *u = cluster_unit(registry_cluster(a->registry), unit->name);
        AssignmentRecord *note = records_get(&a->notes, unit->name);

        if (!note)
                return;
        if (s == AGENT_STOP) /* until it has stopped nothing else may say that what runs is ours */
                snprintf(note->owned_boot, sizeof(note->owned_boot), "%s", a->boot_id);
        /* The note stays until it has stopped, and is removed. */
        if (s == AGENT_REMOVE || o->kind != ASSIGNMENT_RUN) {
                a->notes.floor = MAX(a->notes.floor, o ? o->index : 0);
                a->notes.dirty |= !note->stopping;
                note->kind = ASSIGNMENT_LOAD;
                note->stopping = true;
                note->starting = note->replacing = note->finishing = false;
                return;
        }
        /* Stopped for another text. That and the intention come before the stop: should the cluster be lost
         * after it, this daemon finishes by itself. */
        note->replacing |= records_put(&a->notes, u->unit, ASSIGNMENT_RUN, u->index, o->index, NULL) == 0;
        if (note->replacing)
                snprintf(note->before, sizeof(note->before), "%s", unit->seen.invocation_id);
        note->finishing |= note->replacing;
        note->started_boot[0] = 0;
        note->starting = false;
        a->notes.dirty = true;
}

/* -- Notes are on disk before the calls that they are about --
 *
 * One write is under way, off the loop; the next one has all that changed meanwhile. A call waits for the
 * write that has its note. Where a write fails that is said, and the calls are made all the same: a full disk
 * must not keep units from being started and stopped. Before the call the unit is planned again: order, unit
 * and host may have changed during the write. */

/* Whether a unit is still to be started or stopped: the write of its note may have taken long. */
static bool agent_is_due(Agent *a, const AgentCall *call, AgentUnit *u) {
        AssignmentRecord *note = call->step == AGENT_START ? records_get(&a->notes, u->name) : NULL;
        const char *reason;
        AgentStep s;

        if (note)
                agent_unnote_start(note);
        s = agent_next_step(a, u, &reason);
        if (s == call->step) {
                if (note)
                        agent_note_start(a, note);
                return true;
        }
        log_info(((LogFields) { .unit = u->name }), "%s: no %s any more, but %s (%s)", u->name,
                 agent_step_to_string(call->step), agent_step_to_string(s), reason);
        if (note)
                agent_cancel_start(a, note, u);
        return false;
}

static void agent_begin_call(AgentCall *call) {
        Agent *a = call->agent;
        AgentUnit *u = agent_called(call, 0);
        int r;

        if (call->step == AGENT_REMOVE) {
                agent_remove(call);
                return;
        }
        if (!agent_is_due(a, call, u)) {
                agent_call_done(call, 0, "");
                (void) agent_call_free(call);
                return;
        }
        if (call->step == AGENT_START)
                u->job_ended = false;
        r = (call->step == AGENT_START ? a->systemd->ops->start : a->systemd->ops->stop)(
                a->systemd, call->names[0], agent_on_called, call);
        if (r < 0)
                agent_on_called(call, r, "");
}

/* False: what is known of its unit is not new enough, and a pass is due for that. */
static bool agent_may_begin(Agent *a, const AgentCall *call) {
        AgentUnit *u = agent_called(call, 0);

        if (call->step == AGENT_REMOVE)
                return true;
        if (!a->systemd->ops->is_ready(a->systemd) || u->look || u->asked)
                return false;
        if (agent_is_stale(u))
                agent_refresh_now(a, u);
        return !u->look;
}

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

static void agent_save_ended(Agent *a, int r) {
        a->n_saved = a->n_saves;
        if (r < 0 && r != a->note_error)
                log_error(((LogFields) { .error = r }),
                          "cannot save the assignment of this host: %s; orders are obeyed all the same",
                          strerror(-r));
        a->note_error = r;
        agent_begin_saved(a);
        if (r >= 0)
                agent_wake(a); /* what was not to be told before it was noted */
}

static void agent_save_run(void *userdata) {
        Agent *a = userdata;

        records_write_run(a->write);
}

static void agent_save_done(void *userdata) {
        Agent *a = userdata;
        int r = a->closing ? 0 : records_write_end(&a->notes, a->write);
        const AgentCall *last;

        a->write = records_write_free(a->write);
        if (!agent_call_ended(a))
                return;
        if (r == -ESTALE) { /* the calls that wait for it wait for the next one */
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

        if (a->write || !a->notes.dirty)
                return;
        r = records_write_new(&a->notes, &a->write);
        a->n_saves++;
        if (r < 0) {
                agent_save_ended(a, r);
                return;
        }
        a->save_work = (Work) { .name = LOOP_NAME(agent_save_done),
                                .work = agent_save_run,
                                .done = agent_save_done,
                                .userdata = a };
        if (loop_work(a->loop, &a->save_work) < 0) { /* without memory it is made here */
                records_write_run(a->write);
                r = records_write_end(&a->notes, a->write);
                a->write = records_write_free(a->write);
                agent_save_ended(a, r);
                return;
        }
        a->calls++;
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
                records_write_run(a->write); /* it is over, or made here */
                (void) records_write_end(&a->notes, a->write);
        }
        a->notes.dirty |= a->notes.table != NULL; /* invocations, which are not written each time */
        (void) records_save(&a->notes);
}

/* -- Carrying out -- */

/* A unit is stopped for another text only when that text can be put in force. */
static int agent_stage(Agent *a, const AgentUnit *u) {
        const ClusterAssignment *o = cluster_assignment(registry_cluster(a->registry), a->machine_id,
                                                        u->name);
        const Unit *text = agent_text(a, u->name);

        if (!o || o->kind != ASSIGNMENT_RUN || !text || streq(text->hash, u->seen.hash))
                return 0;
        return a->systemd->ops->stage_file(a->systemd, u->name, text->text, text->text_size);
}

/* False: 'call' could not be made. */
static bool agent_wait(Agent *a, AgentCall *call, uint64_t save) {
        if (!call)
                return false;
        call->save = save;
        TAILQ_INSERT_TAIL(&a->waiting, call, waiting_calls);
        return true;
}

bool agent_execute(Agent *a, AgentUnit **units, AgentStep *steps, size_t n) {
        AgentUnit *batch[BATCH_MAX];
        bool noted = false;
        uint64_t save;
        size_t n_batch;
        int r;

        /* Notes first, on disk, before the calls that they are about: what has none would be
         * started twice.
         */
        for (size_t i = 0; i < n; i++) {
                if (steps[i] == AGENT_RECORD || steps[i] == AGENT_ADOPT || steps[i] == AGENT_START) {
                        r = agent_note(a, units[i], steps[i] != AGENT_RECORD, steps[i] == AGENT_START);
                        if (r < 0) {
                                agent_unit_failed(a, units[i], agent_step_to_string(steps[i]), strerror(-r));
                                steps[i] = AGENT_NOTHING;
                                continue;
                        }
                        noted |= steps[i] != AGENT_START;
                }
                r = steps[i] == AGENT_STOP ? agent_stage(a, units[i]) : 0;
                if (r < 0) {
                        agent_unit_failed(a, units[i], "write the file of", strerror(-r));
                        steps[i] = AGENT_NOTHING;
                        continue;
                }
                if (steps[i] == AGENT_STOP || steps[i] == AGENT_REMOVE)
                        agent_note_stop(a, units[i], steps[i]);
                if (steps[i] == AGENT_ADOPT)
                        units[i]->job_ended = true;
                if (steps[i] == AGENT_ADOPT || steps[i] == AGENT_START)
                        units[i]->taken = false;
                if (steps[i] == AGENT_WRITE || steps[i] == AGENT_START || steps[i] == AGENT_STOP ||
                    steps[i] == AGENT_REMOVE)
                        publisher_ordered(a->publisher, units[i]->name);
        }
        save = a->n_saves + a->notes.dirty;

        for (size_t i = 0; i < n; i++)
                if (steps[i] == AGENT_STOP || steps[i] == AGENT_START)
                        agent_wait(a, agent_call_new(a, steps[i], &units[i], 1), save);

        n_batch = 0;
        for (size_t i = 0; i < n && !a->writing && n_batch < BATCH_MAX; i++)
                if (steps[i] == AGENT_WRITE)
                        batch[n_batch++] = units[i];
        if (n_batch > 0)
                agent_write(a, batch, n_batch);

        n_batch = 0;
        for (size_t i = 0; i < n && !a->removing && n_batch < BATCH_MAX; i++)
                if (steps[i] == AGENT_REMOVE)
                        batch[n_batch++] = units[i];
        if (n_batch > 0)
                a->removing = agent_wait(a, agent_call_new(a, AGENT_REMOVE, batch, n_batch), save);

        agent_begin_saved(a); /* nothing is to be written for them */
        agent_save(a);
        return noted;
}
