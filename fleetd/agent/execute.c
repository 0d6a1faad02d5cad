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
                agent_retry_soon(a);
                return NULL;
        }
        for (size_t i = 0; i < n; i++)
                *(step == AGENT_NOTHING ? &units[i]->refreshing : &units[i]->busy) = true;
        a->calls++;
        return TAKE_PTR(call);
}

static const char *const *call_names(const AgentCall *call) {
        return (const char *const *) call->names;
}

/* Never NULL: agent_clean() keeps a unit that is busy or asked for. */
static AgentUnit *agent_call_unit(const AgentCall *call, size_t i) {
        return agent_unit(call->agent, call->names[i], false);
}

/* It was started here in this boot, under its present note. */
static bool agent_has_started(const Agent *a, const AgentUnit *u) {
        const AssignmentRecord *record = records_get(&a->records, u->name);

        return record && record->kind == ASSIGNMENT_RUN && streq(record->started_boot, a->boot_id);
}

/* Returns false when the agent is closing; the last call of such an agent frees it. */
bool agent_call_ended(Agent *a) {
        a->calls--;
        if (!a->closing)
                return true;
        if (a->calls == 0)
                free(a);
        return false;
}

/* Ends a call: its units are looked at again, by a pass that comes soon. The agent may be gone then. */
static void agent_call_done(AgentCall *call, int error, const char *message) {
        Agent *a = call->agent;

        if (!agent_call_ended(a))
                return;
        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_call_unit(call, i);

                u->busy = false;
                agent_refresh_now(a, u);
                if (call->step == AGENT_WRITE)
                        u->link_refused = error == -EEXIST && !agent_has_started(a, u);
                publisher_expedite(a->publisher, u->name);
                if (error < 0)
                        agent_unit_failed(a, u, agent_step_to_string(call->step),
                                          message && message[0] ? message : strerror(-error));
                else if (call->step == AGENT_WRITE && ++u->n_writes > WRITES_IN_ROW_MAX)
                        agent_unit_failed(a, u, "put in force", "systemd does not take its file");
                else {
                        u->n_failures = 0;
                        u->last_error[0] = 0;
                }
        }
}

/* -- Looking -- */

static void agent_on_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        if (!agent_call_ended(a))
                return;
        a->refreshing = false;
        for (size_t i = 0; error == 0 && i < n; i++)
                agent_refresh_unit(a, &units[i], call->listing);
        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_call_unit(call, i);

                u->refreshing = false;
                u->must_refresh |= error < 0;
        }
        if (error == 0) {
                agent_wake(a);
                return;
        }
        a->refresh_all |= call->all;
        agent_retry_soon(a);
}

/* Whether it is to be read now; when later, a pass comes then. */
static bool agent_refreshes_unit(Agent *a, const AgentUnit *u) {
        uint64_t due_ms = agent_refresh_due_ms(u);

        if (u->refreshing || (!u->must_refresh && !u->changed))
                return false;
        if (due_ms > loop_now_ms(a->loop))
                agent_wake_at(a, due_ms);
        return due_ms <= loop_now_ms(a->loop);
}

void agent_refresh(Agent *a) {
        _cleanup_free_ AgentUnit **units = NULL;
        bool all = a->refresh_all;
        AgentCall *call;
        AgentUnit *u;
        size_t n = 0;
        int r;

        if (a->refreshing)
                return;

        units = NEW0(AgentUnit *, agent_count_dirty(a) + 1);
        if (!units) {
                agent_retry_soon(a);
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
                units[i]->must_refresh = units[i]->changed = false;
                agent_refreshed(a, units[i]);
        }
        a->refresh_all = false;
        a->refreshing = true;
        a->counts.listings++;
        a->counts.refreshed += n;
        call->all = all;
        call->listing = ++a->n_listings;
        r = a->systemd->ops->list(a->systemd, call_names(call), call->n, all, agent_on_listed, call);
        if (r < 0)
                agent_on_listed(call, r, NULL, 0);
}

/* -- Steps -- */

static void agent_on_called(void *userdata, int error, const char *message) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        if (call->step == AGENT_START && !a->closing) {
                AssignmentRecord *record = records_get(&a->records, call->names[0]);

                /* Was the answer lost, then what systemd shows decides whether the start was made. */
                if (record && error == 0) {
                        record->starting = record->replacing = record->finishing = false;
                        a->records.dirty = true;
                } else if (record && error != -ETIMEDOUT && error != -ECONNRESET && error != -ECANCELED)
                        agent_cancel_start(
                                a, record,
                                agent_call_unit(call, 0)); /* it never left for systemd, or was refused */
        }
        agent_call_done(call, error, message);
}

/* A socket, a timer or a person may have started one before systemd had read its new text: 'listing', or a
 * later one, shows that. */
static void agent_mark_outdated(const AgentCall *call, uint64_t listing) {
        for (size_t i = 0; i < call->n; i++)
                agent_call_unit(call, i)->outdated_listing = listing;
}

/* After an error systemd may have read the file all the same, for example because it was re-executed. */
static void agent_write_done(AgentCall *call, int error, const char *message) {
        _cleanup_(agent_call_freep) AgentCall *owned = call;
        Agent *a = call->agent;

        if (!a->closing) {
                a->writing--;
                if (error < 0 || call->reloaded)
                        agent_mark_outdated(call, a->n_listings + 1);
        }
        agent_call_done(owned, error, message);
}

static void agent_on_reloaded(void *userdata, int error, const char *message) {
        agent_write_done(userdata, error, message);
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
        agent_mark_outdated(call, call->listing); /* another program may have made systemd read the file */
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

static void agent_on_linked(void *userdata, int error, const char *message);

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
                AgentUnit *u = agent_call_unit(call, i);

                u->busy = false; /* without memory for its call the next pass makes it */
                agent_link(a, &u, 1);
        }
        a->writing--;
        a->calls--;
        (void) agent_call_free(call);
}

static void agent_on_linked(void *userdata, int error, const char *message) {
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
                agent_write_done(call, r, message);
}

/* The text that is to be in force: the registry's, or the note's where the cluster cannot be asked. */
static const Unit *agent_unit_text(const Agent *a, const char *name) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterAssignment *o = cluster_assignment(c, a->machine_id, name);
        const ClusterUnit *u = cluster_unit(c, name);
        const AssignmentRecord *record = records_get(&a->records, name);

        if (a->fresh && o && o->kind != ASSIGNMENT_STOP && u && u->unit)
                return u->unit;
        return record ? record->unit : NULL;
}

static void agent_write(Agent *a, AgentUnit **units, size_t n) {
        size_t written = 0;
        int r;

        for (size_t i = 0; i < n; i++) {
                const Unit *text = agent_unit_text(a, units[i]->name);

                r = a->systemd->ops->write_file(a->systemd, units[i]->name, text->text, text->text_size);
                if (r < 0)
                        agent_unit_failed(a, units[i], "write the file of", strerror(-r));
                else
                        units[written++] = units[i];
        }
        if (written > 0)
                agent_link(a, units, written);
}

static void agent_remove_done(AgentCall *call, int error, const char *message) {
        _cleanup_(agent_call_freep) AgentCall *owned = call;

        if (!call->agent->closing)
                call->agent->removing = false;
        agent_call_done(owned, error, message);
}

/* A socket, a timer or a person may have started it since it was seen stopped: then its file and its note
 * stay, by which it is ours, and it is stopped again. */
static void agent_remove_one(Agent *a, const SystemdUnit *seen) {
        int r;

        if (agent_is_running(seen) &&
            !agent_is_conflicting(seen, records_get(&a->records, seen->name), a->boot_id, false))
                return;
        r = a->systemd->ops->remove_file(a->systemd, seen->name);
        if (r < 0 && r != -ENOENT)
                log_warning(((LogFields) { .unit = seen->name, .error = r }),
                            "cannot remove the file of %s: %s", seen->name, strerror(-r));
        records_remove(&a->records, seen->name);
}

static void agent_on_unlinked_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        AgentCall *call = userdata;

        for (size_t i = 0; !call->agent->closing && error == 0 && i < n; i++)
                agent_remove_one(call->agent, &units[i]);
        agent_remove_done(call, error, "");
}

static void agent_on_unlinked(void *userdata, int error, const char *message) {
        AgentCall *call = userdata;
        Agent *a = call->agent;
        int r = error;

        if (!a->closing && error == 0)
                r = a->systemd->ops->list(a->systemd, call_names(call), call->n, false,
                                          agent_on_unlinked_listed, call);
        if (a->closing || r < 0)
                agent_remove_done(call, r, message);
}

/* Ignore the result: the removal of the unit goes on, and reports its own errors. */
static void agent_on_reset(void *userdata, int error, const char *message) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;

        (void) agent_call_ended(call->agent);
}

static void agent_remove(AgentCall *call) {
        Agent *a = call->agent;
        int r;

        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_call_unit(call, i);
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

/* -- Notes are on disk before the calls that they are about --
 *
 * One write is under way, off the loop; the next one has all that changed meanwhile. A call waits for the
 * write that has its note. Where a write fails that is said, and the calls are made all the same: a full disk
 * must not keep units from being started and stopped. Before the call the unit is planned again: order, unit
 * and host may have changed during the write. */

/* Whether a unit is still to be started or stopped: the write of its note may have taken long. */
static bool agent_is_due(Agent *a, const AgentCall *call, AgentUnit *u) {
        AssignmentRecord *record = call->step == AGENT_START ? records_get(&a->records, u->name) : NULL;
        const char *reason;
        AgentStep s;

        if (record)
                agent_record_not_started(record);
        s = agent_next_step(a, u, &reason);
        if (s == call->step) {
                if (record)
                        agent_record_started(a, record);
                return true;
        }
        log_info(((LogFields) { .unit = u->name }), "%s: no %s any more, but %s (%s)", u->name,
                 agent_step_to_string(call->step), agent_step_to_string(s), reason);
        if (record)
                agent_cancel_start(a, record, u);
        return false;
}

static void agent_begin_call(AgentCall *call) {
        Agent *a = call->agent;
        AgentUnit *u = agent_call_unit(call, 0);
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
        AgentUnit *u = agent_call_unit(call, 0);

        if (call->step == AGENT_REMOVE)
                return true;
        if (!a->systemd->ops->is_ready(a->systemd) || u->must_refresh || u->refreshing)
                return false;
        if (agent_is_stale(u))
                agent_refresh_now(a, u);
        return !u->must_refresh;
}

void agent_begin_saved(Agent *a) {
        AgentCall *call, *next;

        for (call = TAILQ_FIRST(&a->waiting); call; call = next) {
                next = TAILQ_NEXT(call, waiting_calls);
                if (call->save <= a->n_saved && agent_may_begin(a, call)) {
                        TAILQ_REMOVE(&a->waiting, call, waiting_calls);
                        agent_begin_call(call);
                }
        }
}

/* -- Carrying out -- */

/* A unit is stopped for another text only when that text can be put in force. */
static int agent_stage(Agent *a, const AgentUnit *u) {
        const ClusterAssignment *o = cluster_assignment(registry_cluster(a->registry), a->machine_id,
                                                        u->name);
        const Unit *text = agent_unit_text(a, u->name);

        if (!o || o->kind != ASSIGNMENT_RUN || !text || streq(text->hash, u->seen.hash))
                return 0;
        return a->systemd->ops->stage_file(a->systemd, u->name, text->text, text->text_size);
}

/* False: 'call' could not be made. */
static bool agent_await_save(Agent *a, AgentCall *call, uint64_t save) {
        if (!call)
                return false;
        call->save = save;
        TAILQ_INSERT_TAIL(&a->waiting, call, waiting_calls);
        return true;
}

bool agent_execute(Agent *a, AgentUnit **units, AgentStep *steps, size_t n) {
        AgentUnit *batch[BATCH_MAX];
        bool recorded = false;
        uint64_t save;
        size_t n_batch;
        int r;

        /* Notes first, on disk, before the calls that they are about: what has none would be
         * started twice.
         */
        for (size_t i = 0; i < n; i++) {
                if (steps[i] == AGENT_RECORD || steps[i] == AGENT_ADOPT || steps[i] == AGENT_START) {
                        r = agent_record_assignment(a, units[i], steps[i] != AGENT_RECORD,
                                                    steps[i] == AGENT_START);
                        if (r < 0) {
                                agent_unit_failed(a, units[i], agent_step_to_string(steps[i]), strerror(-r));
                                steps[i] = AGENT_NOTHING;
                                continue;
                        }
                        recorded |= steps[i] != AGENT_START;
                }
                r = steps[i] == AGENT_STOP ? agent_stage(a, units[i]) : 0;
                if (r < 0) {
                        agent_unit_failed(a, units[i], "write the file of", strerror(-r));
                        steps[i] = AGENT_NOTHING;
                        continue;
                }
                if (steps[i] == AGENT_STOP || steps[i] == AGENT_REMOVE)
                        agent_record_stop(a, units[i], steps[i]);
                if (steps[i] == AGENT_ADOPT)
                        units[i]->job_ended = true;
                if (steps[i] == AGENT_ADOPT || steps[i] == AGENT_START)
                        units[i]->link_refused = false;
                if (steps[i] == AGENT_WRITE || steps[i] == AGENT_START || steps[i] == AGENT_STOP ||
                    steps[i] == AGENT_REMOVE)
                        publisher_expedite(a->publisher, units[i]->name);
        }
        save = a->n_saves + a->records.dirty;

        for (size_t i = 0; i < n; i++)
                if (steps[i] == AGENT_STOP || steps[i] == AGENT_START)
                        agent_await_save(a, agent_call_new(a, steps[i], &units[i], 1), save);

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
                a->removing = agent_await_save(a, agent_call_new(a, AGENT_REMOVE, batch, n_batch), save);

        agent_begin_saved(a); /* nothing is to be written for them */
        agent_save(a);
        return recorded;
}

bool agent_waits_for_save(const Agent *a) {
        const AgentCall *last = TAILQ_LAST(&a->waiting, AgentCalls);

        return last && last->save > a->n_saved;
}

void agent_drop_waiting(Agent *a) {
        AgentCall *call;

        while ((call = TAILQ_FIRST(&a->waiting))) {
                TAILQ_REMOVE(&a->waiting, call, waiting_calls);
                a->calls--;
                agent_call_free(call);
        }
}

#ifdef PLANTED_BUGS
void agent_plant_restart(Agent *a) {
        KvState state;

        kv_state(registry_store(a->registry), &state);
        if (state.leader_id != 0 && a->leader_id != 0 && state.leader_id != a->leader_id)
                for (AssignmentRecord *record = a->records.table; record; record = record->hh.next) {
                        record->started_boot[0] = 0;
                        record->done = false;
                        a->records.dirty = true;
                }
        for (AgentUnit *u = a->units; u; u = u->hh.next) {
                AgentCall *call;

                if (state.leader_id != 0 && a->leader_id != 0 && state.leader_id != a->leader_id &&
                    u->observed && !u->busy && (call = agent_call_new(a, AGENT_STOP, &u, 1)))
                        (void) a->systemd->ops->stop(a->systemd, u->name, agent_on_called, call);
        }
        a->leader_id = state.leader_id ?: a->leader_id;
}
#endif
