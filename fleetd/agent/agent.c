#include "fleetd/agent/agent.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/plan.h"
#include "fleetd/agent/publish.h"

enum { PERIOD_MS = 10000, RETRY_MIN_MS = 500, RETRY_MAX_MS = 60000, PUBLISH_BATCH_MAX = 200, BATCH_MAX = 500 };

/* What the agent knows of one unit on this host. */
typedef struct AgentUnit {
        char name[256];
        SystemdUnit seen;
        bool looked;        /* 'seen' was read at all */
        bool look;          /* and must be read again */
        bool asked;         /* and is being read */
        bool busy;          /* a step is under way */
        bool job_ended;     /* a job of it ended well since we started it, or since this daemon began */
        bool refused;       /* said so */
        char trouble[256];  /* what systemd said to the last call that failed */
        unsigned failures, writes; /* in a row */
        uint64_t retry_ms;  /* no step before */
        uint64_t since_ms;  /* wall clock of the last change of its three states */
        UT_hash_handle hh;
} AgentUnit;

struct Agent {
        Loop *loop;         /* borrowed, as the next two */
        Registry *registry;
        Systemd *systemd;
        char machine_id[33], boot_id[33];
        Notes notes;
        AgentUnit *units;   /* by name */
        Publisher *publisher;
        RegistryListener listener;
        Deferred pass;
        Timer period, boot_wait;
        KvSync sync;
        bool syncing, fresh, use_saved, look_all, closing;
        unsigned calls;     /* operations whose answers are to come; the last one frees a closing agent */
        bool looking, writing, removing;
        int note_error;     /* of the last save, said once */
#ifdef PLANTED_BUGS
        const char *bug;
        uint64_t leader_id;
#endif
};

/* One call to systemd about some units: remembers which, whatever happens to the agent. */
typedef struct AgentCall {
        Agent *agent;
        AgentStep step;
        char **names;
        size_t n;
        bool reloaded;
} AgentCall;

static void agent_pass(void *userdata);

static void agent_dirty(Agent *a) {
        if (!a->closing)
                loop_defer(a->loop, &a->pass);
}

/* -- Units that we care about -- */

static AgentUnit *agent_unit(Agent *a, const char *name, bool make) {
        AgentUnit *u;

        HASH_FIND_STR(a->units, name, u);
        if (u || !make)
                return u;

        u = NEW0(AgentUnit, 1);
        if (!u)
                return NULL;
        snprintf(u->name, sizeof(u->name), "%s", name);
        u->look = true;
        HASH_ADD_STR(a->units, name, u);
        if (!TABLE_ADDED(u)) {
                free(u);
                return NULL;
        }
        return u;
}

static const ClusterMachine *agent_self(const Agent *a) {
        return cluster_machine(registry_cluster(a->registry), a->machine_id);
}

static void agent_collect(Agent *a) {
        const ClusterMachine *self = agent_self(a);

        for (ClusterOrder *o = self ? self->orders : NULL; o; o = o->hh.next)
                (void) agent_unit(a, o->unit, true);
        for (ClusterState *s = self ? self->states : NULL; s; s = s->hh.next)
                (void) agent_unit(a, s->unit, true);
        for (Note *n = a->notes.table; n; n = n->hh.next)
                (void) agent_unit(a, n->name, true);
}

/* Forgets units of which nothing is left. */
static void agent_sweep(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        AgentUnit *u, *next;

        HASH_ITER(hh, a->units, u, next) {
                if (u->busy || u->look || u->asked || u->seen.has_file || notes_get(&a->notes, u->name)
                    || cluster_order(c, a->machine_id, u->name) || cluster_state(c, a->machine_id, u->name))
                        continue;
                HASH_DEL(a->units, u);
                free(u);
        }
}

/* -- Calls -- */

static AgentCall *agent_call_free(AgentCall *call) {
        for (size_t i = 0; i < call->n; i++)
                free(call->names[i]);
        free(call->names);
        free(call);
        return NULL;
}
DEFINE_CLEANUP(AgentCall *, agent_call_free)

static AgentCall *agent_call_new(Agent *a, AgentStep step, AgentUnit *const *units, size_t n) {
        _cleanup_(agent_call_freep) AgentCall *call = NEW0(AgentCall, 1);

        if (!call)
                return NULL;
        call->agent = a;
        call->step = step;
        call->names = NEW0(char *, n + 1);
        if (!call->names)
                return NULL;
        for (; call->n < n; call->n++) {
                call->names[call->n] = strdup(units[call->n]->name);
                if (!call->names[call->n])
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

static void agent_unit_failed(Agent *a, AgentUnit *u, const char *what, const char *sentence) {
        uint64_t delay_ms = RETRY_MIN_MS << MIN(u->failures, 7u);

        if (!streq(u->trouble, sentence))
                log_warning(((LogFields) { .unit = u->name }), "cannot %s %s: %s", what, u->name, sentence);
        snprintf(u->trouble, sizeof(u->trouble), "%s", sentence);
        u->failures++;
        u->retry_ms = loop_now_ms(a->loop) + MIN(delay_ms, (uint64_t) RETRY_MAX_MS);
}

/* Ends a call: its units are looked at again. Returns false when the agent is gone. */
static bool agent_call_done(AgentCall *call, int error, const char *sentence) {
        Agent *a = call->agent;

        a->calls--;
        if (a->closing) {
                if (a->calls == 0)
                        free(a);
                return false;
        }
        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_unit(a, call->names[i], false);

                if (!u)
                        continue;
                u->busy = false;
                u->look = true;
                if (error < 0)
                        agent_unit_failed(a, u, agent_step_to_string(call->step), sentence && sentence[0] ? sentence : strerror(-error));
                else if (call->step == AGENT_WRITE && ++u->writes > 2)
                        agent_unit_failed(a, u, "put in force", "systemd does not take its file");
                else {
                        u->failures = 0;
                        u->trouble[0] = 0;
                }
        }
        agent_dirty(a);
        return true;
}

/* -- Looking -- */

static void agent_look_at(Agent *a, const SystemdUnit *seen) {
        AgentUnit *u = agent_unit(a, seen->name, seen->has_file);

        if (!u)
                return;
        if (!u->looked || !streq(u->seen.load, seen->load) || !streq(u->seen.active, seen->active) || !streq(u->seen.sub, seen->sub))
                u->since_ms = loop_wall_ms(a->loop);
        u->seen = *seen;
        u->looked = true;
}

static void agent_on_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        a->calls--;
        if (a->closing) {
                if (a->calls == 0)
                        free(a);
                return;
        }
        a->looking = false;
        for (size_t i = 0; error == 0 && i < n; i++)
                agent_look_at(a, &units[i]);
        for (size_t i = 0; i < call->n; i++) {
                AgentUnit *u = agent_unit(a, call->names[i], false);

                if (!u)
                        continue;
                u->asked = false;
                u->look |= error < 0;
        }
        if (error == 0)
                agent_dirty(a);
}

static void agent_look(Agent *a) {
        AgentUnit **units = NULL;
        bool all = a->look_all;
        AgentCall *call;
        size_t n = 0;

        if (a->looking)
                return;

        units = NEW0(AgentUnit *, HASH_COUNT(a->units) + 1);
        if (!units)
                return;
        for (AgentUnit *u = a->units; u; u = u->hh.next)
                if (all || u->look)
                        units[n++] = u;
        call = n > 0 || all ? agent_call_new(a, AGENT_NOTHING, units, n) : NULL;
        if (call) {
                for (size_t i = 0; i < n; i++)
                        units[i]->look = false;
                a->look_all = false;
                a->looking = true;
                a->systemd->ops->list(a->systemd, call_names(call), call->n, all, agent_on_listed, call);
        }
        free(units);
}

/* -- Steps -- */

static void agent_on_called(void *userdata, int error, const char *sentence) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        if (call->step == AGENT_START && !a->closing) {
                Note *note = notes_get(&a->notes, call->names[0]);

                /* Was the answer lost, then what systemd shows decides whether the start was made. */
                if (note && error != -ETIMEDOUT && error != -ECONNRESET && error != -ECANCELED) {
                        note->starting = false;
                        a->notes.dirty = true;
                        if (error == -ENOTCONN)
                                note->started_boot[0] = 0; /* it never left for systemd */
                }
        }
        (void) agent_call_done(call, error, sentence);
}

static void agent_write_done(AgentCall *call, int error, const char *sentence) {
        _cleanup_(agent_call_freep) AgentCall *owned = call;

        if (!call->agent->closing)
                call->agent->writing = false;
        (void) agent_call_done(owned, error, sentence);
}

static void agent_on_reloaded(void *userdata, int error, const char *sentence) {
        agent_write_done(userdata, error, sentence);
}

/* After linking: whom systemd still knows by another text, or not at all, wants one reload for the batch (rule 33). */
static void agent_on_linked_listed(void *userdata, int error, const SystemdUnit *units, size_t n) {
        AgentCall *call = userdata;
        Agent *a = call->agent;
        bool reload = false;

        if (a->closing || error < 0) {
                agent_write_done(call, error, "");
                return;
        }
        for (size_t i = 0; i < n; i++) {
                bool mine = false;

                for (size_t k = 0; k < call->n && !mine; k++)
                        mine = streq(call->names[k], units[i].name);
                agent_look_at(a, &units[i]);
                reload |= mine && (units[i].need_reload || (!units[i].ours && streq(units[i].load, "loaded")) || streq(units[i].load, "not-found"));
        }
        if (reload && !call->reloaded) {
                call->reloaded = true;
                a->systemd->ops->reload(a->systemd, agent_on_reloaded, call);
        } else
                agent_write_done(call, 0, "");
}

static void agent_on_linked(void *userdata, int error, const char *sentence) {
        AgentCall *call = userdata;
        Agent *a = call->agent;

        if (a->closing || error < 0)
                agent_write_done(call, error, sentence);
        else
                a->systemd->ops->list(a->systemd, call_names(call), call->n, false, agent_on_linked_listed, call);
}

/* The text that is to be in force: the registry's, or the note's where the cluster cannot be asked. */
static const Unit *agent_text(const Agent *a, const char *name) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterOrder *o = cluster_order(c, a->machine_id, name);
        const ClusterUnit *u = cluster_unit(c, name);
        const Note *note = notes_get(&a->notes, name);

        if (a->fresh && o && o->order != ORDER_STOP && u && u->unit)
                return u->unit;
        return note ? note->unit : NULL;
}

static void agent_write(Agent *a, AgentUnit **units, size_t n) {
        size_t written = 0;
        AgentCall *call;

        for (size_t i = 0; i < n; i++) {
                const Unit *text = agent_text(a, units[i]->name);
                int r;

                if (!text)
                        continue;
                r = a->systemd->ops->write_file(a->systemd, units[i]->name, text->text, text->text_size);
                if (r < 0)
                        agent_unit_failed(a, units[i], "write the file of", strerror(-r));
                else
                        units[written++] = units[i];
        }
        call = written > 0 ? agent_call_new(a, AGENT_WRITE, units, written) : NULL;
        if (!call)
                return;
        a->writing = true;
        a->systemd->ops->link(a->systemd, call_names(call), call->n, agent_on_linked, call);
}

static void agent_on_unlinked(void *userdata, int error, const char *sentence) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;
        Agent *a = call->agent;

        if (!a->closing) {
                a->removing = false;
                for (size_t i = 0; error == 0 && i < call->n; i++) {
                        int r = a->systemd->ops->remove_file(a->systemd, call->names[i]);

                        if (r < 0 && r != -ENOENT)
                                log_warning(((LogFields) { .unit = call->names[i], .error = r }), "cannot remove the file of %s: %s",
                                            call->names[i], strerror(-r));
                }
        }
        (void) agent_call_done(call, error, sentence);
}

static void agent_on_reset(void *userdata, int error, const char *sentence) {
        _cleanup_(agent_call_freep) AgentCall *call = userdata;

        (void) agent_call_done(call, 0, ""); /* that it had not failed, or is gone, is as well */
}

static void agent_remove(Agent *a, AgentUnit **units, size_t n) {
        AgentCall *call;

        for (size_t i = 0; i < n; i++)
                if (streq(units[i]->seen.active, "failed") && (call = agent_call_new(a, AGENT_REMOVE, &units[i], 1)))
                        a->systemd->ops->reset_failed(a->systemd, units[i]->name, agent_on_reset, call);

        call = agent_call_new(a, AGENT_REMOVE, units, n);
        if (!call)
                return;
        a->removing = true;
        a->systemd->ops->unlink(a->systemd, call_names(call), call->n, agent_on_unlinked, call);
}

/* The note follows the order; 'started': it runs, or is about to be started ('starting'), in this boot. */
static void agent_note(Agent *a, const AgentUnit *unit, bool started, bool starting) {
        const char *name = unit->name;
        const Cluster *c = registry_cluster(a->registry);
        const ClusterOrder *o = a->fresh ? cluster_order(c, a->machine_id, name) : NULL;
        const ClusterUnit *u = cluster_unit(c, name);
        Note *note = notes_get(&a->notes, name);

        if (o && o->order != ORDER_STOP && u && u->unit) {
                if (notes_put(&a->notes, u->unit, o->order, u->index, o->index, &note) < 0)
                        return;
        }
        if (!note || !started)
                return;
        snprintf(note->started_boot, sizeof(note->started_boot), "%s", a->boot_id);
        note->starting = starting;
        snprintf(note->before, sizeof(note->before), "%s", starting ? unit->seen.invocation_id : "");
        note->done = false;
        a->notes.dirty = true;
}

static void agent_note_stop(Agent *a, const char *name, AgentStep s) {
        const ClusterOrder *o = cluster_order(registry_cluster(a->registry), a->machine_id, name);
        Note *note = notes_get(&a->notes, name);

        if (!note)
                return;
        if (s == AGENT_REMOVE || (o && o->order == ORDER_STOP)) {
                a->notes.floor = MAX(a->notes.floor, o ? o->index : 0);
                notes_remove(&a->notes, name);
                return;
        }
        note->started_boot[0] = 0;
        note->starting = note->done = false;
        a->notes.dirty = true;
}

static void agent_save(Agent *a) {
        int r = notes_save(&a->notes);

        if (r < 0 && r != a->note_error)
                log_error(((LogFields) { .error = r }), "cannot save the assignment of this host: %s; orders are obeyed all the same", strerror(-r));
        a->note_error = r;
}

/* -- Publishing -- */

static bool agent_state_of(Agent *a, AgentUnit *u, UnitState *ret) {
        Note *note = notes_get(&a->notes, u->name);
        bool done = agent_is_done(note, &u->seen, a->boot_id, u->job_ended);

        if (done && note && !note->done) {
                note->done = true;
                a->notes.dirty = true;
        }
        return unit_state_init(ret, u->refused ? "foreign" : u->seen.load, u->refused ? "inactive" : u->seen.active,
                               u->refused ? "dead" : u->seen.sub, u->seen.hash[0] ? u->seen.hash : NULL, u->since_ms, done) == 0;
}

/* Compares what is with what the registry has; offers the difference. 'obeyed' units are those of which nothing is left. */
static void agent_publish(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        StateChange *changes;
        size_t n = 0;

        if (!a->fresh || !publisher_ready(a->publisher))
                return;
        changes = NEW0(StateChange, PUBLISH_BATCH_MAX);
        if (!changes)
                return;

        for (AgentUnit *u = a->units; u && n < PUBLISH_BATCH_MAX; u = u->hh.next) {
                const ClusterOrder *o = cluster_order(c, a->machine_id, u->name);
                const ClusterState *s = cluster_state(c, a->machine_id, u->name);
                bool kept = (o && o->order != ORDER_STOP) || notes_get(&a->notes, u->name) || u->seen.has_file;
                StateChange *change = &changes[n];

                if (!u->looked || u->look || u->asked || (u->busy && !kept))
                        continue;
                *change = (StateChange) {};
                snprintf(change->unit, sizeof(change->unit), "%s", u->name);
                if (!kept && (o || s)) {
                        change->remove = true;
                        change->obeyed = o != NULL;
                        change->order_index = o ? o->index : 0;
                } else if (!kept || !agent_state_of(a, u, &change->state))
                        continue;
                else if (s && unit_state_equal(&s->state, &change->state)) {
                        unit_state_done(&change->state);
                        continue;
                }
                if (!publisher_allows(a->publisher, u->name)) {
                        unit_state_done(&change->state);
                        continue;
                }
                n++;
        }
        if (n > 0)
                (void) publisher_send(a->publisher, changes, n);
        for (size_t i = 0; i < n; i++)
                unit_state_done(&changes[i].state);
        free(changes);
}

/* -- The pass -- */

static void agent_on_synced(void *userdata, KvStatus status) {
        Agent *a = userdata;

        a->syncing = false;
        if (status == KV_OK) {
                a->fresh = true;
                a->use_saved = false;
                timer_stop(&a->boot_wait);
        }
        agent_dirty(a);
}

/* Orders count while this host follows a leader and has since caught up with it: an order may have been taken back long
 * ago elsewhere. */
static void agent_freshen(Agent *a) {
        KvStore *store = registry_store(a->registry);
        const Cluster *c = registry_cluster(a->registry);
        KvState state;

        kv_state(store, &state);
        if (!state.ready || !registry_ready(a->registry)) {
                a->fresh = false;
                return;
        }
        if (a->notes.lineage != 0 && c->lineage != 0 && c->lineage != a->notes.lineage) {
                a->fresh = false; /* another cluster's word, or a restored one's: the engine must adopt first */
                return;
        }
        if (c->index < a->notes.floor)
                a->fresh = false;
        else if (!a->fresh && !a->syncing) {
                a->syncing = true;
                a->sync = (KvSync) { .done = agent_on_synced, .userdata = a };
                kv_sync(store, &a->sync);
        }
        if (a->fresh && a->notes.lineage == 0 && c->lineage != 0) {
                a->notes.lineage = c->lineage;
                a->notes.dirty = true;
        }
}

static void agent_take(Agent *a, AgentUnit **units, const AgentStep *steps, size_t n) {
        AgentUnit *batch[BATCH_MAX];
        size_t n_batch;
        AgentCall *call;

        /* Notes first, on disk, before anything that they are about. */
        for (size_t i = 0; i < n; i++) {
                if (steps[i] == AGENT_NOTE || steps[i] == AGENT_ADOPT || steps[i] == AGENT_START)
                        agent_note(a, units[i], steps[i] != AGENT_NOTE, steps[i] == AGENT_START);
                if (steps[i] == AGENT_STOP || steps[i] == AGENT_REMOVE)
                        agent_note_stop(a, units[i]->name, steps[i]);
                if (steps[i] == AGENT_ADOPT)
                        units[i]->job_ended = true;
        }
        agent_save(a);

        for (size_t i = 0; i < n; i++) {
                if (steps[i] != AGENT_STOP && steps[i] != AGENT_START)
                        continue;
                if (!(call = agent_call_new(a, steps[i], &units[i], 1)))
                        continue;
                if (steps[i] == AGENT_START)
                        units[i]->job_ended = false;
                (steps[i] == AGENT_START ? a->systemd->ops->start : a->systemd->ops->stop)(a->systemd, units[i]->name, agent_on_called, call);
        }

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
                agent_remove(a, batch, n_batch);
}

static void agent_plan_all(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        size_t max = HASH_COUNT(a->units), n = 0;
        uint64_t now_ms = loop_now_ms(a->loop), next_ms = now_ms + PERIOD_MS;
        _cleanup_free_ AgentUnit **units = NEW0(AgentUnit *, max + 1);
        _cleanup_free_ AgentStep *steps = NEW0(AgentStep, max + 1);
        bool stopping = a->systemd->ops->is_stopping(a->systemd), noted = false;

        if (!units || !steps)
                return;
        for (AgentUnit *u = a->units; u; u = u->hh.next) {
                AgentView view = {
                        .order = cluster_order(c, a->machine_id, u->name),
                        .unit = cluster_unit(c, u->name),
                        .note = notes_get(&a->notes, u->name),
                        .seen = u->looked ? &u->seen : NULL,
                        .boot_id = a->boot_id,
                        .fresh = a->fresh,
                        .use_saved = a->use_saved,
                        .stopping = stopping,
                };
                const char *reason;
                AgentStep s;

                if (u->busy || u->look || u->asked)
                        continue;
                s = agent_plan(&view, &reason);
                if (s != AGENT_WRITE)
                        u->writes = 0;
                if (s == AGENT_NOTHING || s == AGENT_OBEYED) {
                        log_debug(((LogFields) { .unit = u->name }), "%s: %s (%s)", u->name, agent_step_to_string(s), reason);
                        continue;
                }
                if (s == AGENT_REFUSE) {
                        if (!u->refused)
                                log_warning(((LogFields) { .unit = u->name }), "%s is not run here: %s (%s)", u->name, reason, u->seen.fragment);
                        u->refused = true;
                        continue;
                }
                u->refused = false;
                if (u->retry_ms > now_ms) {
                        next_ms = MIN(next_ms, u->retry_ms);
                        continue;
                }
                if ((s == AGENT_WRITE && a->writing) || (s == AGENT_REMOVE && a->removing)) /* when the batch before is done */
                        continue;
                noted |= s == AGENT_NOTE || s == AGENT_ADOPT;
                if (s != AGENT_NOTE)
                        log_info(((LogFields) { .unit = u->name, .index = view.order ? view.order->index : 0 }), "%s: %s (%s)",
                                 u->name, agent_step_to_string(s), reason);
                units[n] = u;
                steps[n++] = s;
        }
        agent_take(a, units, steps, n);
        if (noted)
                agent_dirty(a);
        (void) timer_start(&a->period, a->loop, next_ms - now_ms);
}

static void agent_pass(void *userdata) {
        Agent *a = userdata;

        agent_freshen(a);
        if (!a->systemd->ops->is_ready(a->systemd))
                return;

        agent_collect(a);
        agent_look(a);
        agent_plan_all(a);
        agent_publish(a);
        agent_save(a);
        agent_sweep(a);
}

/* -- Events: they only mark -- */

static void agent_on_change(void *userdata, const RegistryChange *change) {
        Agent *a = userdata;

        if (!change->machine || streq(change->machine, a->machine_id))
                agent_dirty(a);
}

static void agent_on_ready(void *userdata, bool ready) {
        Agent *a = userdata;

        if (!ready)
                return;
        a->look_all = true;
        agent_dirty(a);
}

static void agent_on_changed(void *userdata, const char *unit) {
        Agent *a = userdata;
        AgentUnit *u = unit ? agent_unit(a, unit, false) : NULL;

        if (unit && !u)
                return;
        if (u)
                u->look = true;
        else
                a->look_all = true;
        agent_dirty(a);
}

static void agent_on_job_removed(void *userdata, const char *unit, const char *result) {
        Agent *a = userdata;
        AgentUnit *u = agent_unit(a, unit, false);

        if (!u)
                return;
        u->job_ended |= streq(result, "done");
        u->look = true;
        agent_dirty(a);
}

static void agent_on_period(void *userdata) {
        Agent *a = userdata;

        agent_dirty(a);
        (void) timer_start(&a->period, a->loop, PERIOD_MS);
}

static void agent_on_boot_wait(void *userdata) {
        Agent *a = userdata;

        if (a->fresh)
                return;
        a->use_saved = true;
        if (HASH_COUNT(a->notes.table) > 0)
                log_notice(NO_FIELDS, "the cluster did not answer since this host booted: starting what was last assigned to it");
        agent_dirty(a);
}

static void agent_on_idle(void *userdata) {
        agent_dirty(userdata);
}

#ifdef PLANTED_BUGS
static void agent_plant_restart(Agent *a) {
        KvState state;

        kv_state(registry_store(a->registry), &state);
        if (state.leader_id != 0 && a->leader_id != 0 && state.leader_id != a->leader_id)
                for (Note *note = a->notes.table; note; note = note->hh.next)
                        agent_note_stop(a, note->name, AGENT_STOP);
        for (AgentUnit *u = a->units; u; u = u->hh.next) {
                AgentCall *call;

                if (state.leader_id != 0 && a->leader_id != 0 && state.leader_id != a->leader_id && u->looked && !u->busy
                    && (call = agent_call_new(a, AGENT_STOP, &u, 1)))
                        a->systemd->ops->stop(a->systemd, u->name, agent_on_called, call);
        }
        a->leader_id = state.leader_id ?: a->leader_id;
}
#endif

void agent_state_changed(Agent *a) {
#ifdef PLANTED_BUGS
        if (a->bug && streq(a->bug, "restart-on-leader-change"))
                agent_plant_restart(a);
#endif
        agent_dirty(a);
}

int agent_new(Agent **ret, Loop *loop, Registry *registry, Systemd *systemd, const AgentOptions *options, Error *err) {
        Agent *a = NEW0(Agent, 1);
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Agent) {
                .loop = loop, .registry = registry, .systemd = systemd, .look_all = true,
                .listener = { .on_change = agent_on_change, .userdata = a },
                .pass = { .run = agent_pass, .userdata = a },
                .period = { .fire = agent_on_period, .userdata = a },
                .boot_wait = { .fire = agent_on_boot_wait, .userdata = a },
                .notes = { .dir_fd = -1 },
        };
        snprintf(a->machine_id, sizeof(a->machine_id), "%s", options->machine_id);
        snprintf(a->boot_id, sizeof(a->boot_id), "%s", options->boot_id);

#ifdef PLANTED_BUGS
        a->bug = options->bug;
#endif

        r = notes_open(&a->notes, options->directory, err);
        if (r == 0)
                r = publisher_new(&a->publisher, loop, registry, a->machine_id, agent_on_idle, a);
        if (r == 0)
                r = timer_start(&a->period, loop, PERIOD_MS);
        if (r == 0)
                r = timer_start(&a->boot_wait, loop, options->boot_wait_ms);
        if (r < 0) {
                agent_free(a);
                return r;
        }

        /* What was started before this daemon began has long had its job. */
        for (Note *note = a->notes.table; note; note = note->hh.next) {
                AgentUnit *u = agent_unit(a, note->name, true);

                if (u)
                        u->job_ended = true;
        }
        registry_listen(registry, &a->listener);
        systemd->ops->set_events(systemd, &(SystemdEvents) {
                .on_ready = agent_on_ready, .on_changed = agent_on_changed, .on_job_removed = agent_on_job_removed, .userdata = a,
        });
        agent_dirty(a);
        *ret = a;
        return 0;
}

Agent *agent_free(Agent *a) {
        AgentUnit *u, *next;

        if (!a)
                return NULL;

        if (a->syncing)
                kv_sync_cancel(registry_store(a->registry), &a->sync);
        registry_unlisten(a->registry, &a->listener);
        a->systemd->ops->set_events(a->systemd, NULL);
        deferred_cancel(&a->pass);
        timer_stop(&a->period);
        timer_stop(&a->boot_wait);
        a->publisher = publisher_free(a->publisher);
        HASH_ITER(hh, a->units, u, next) {
                HASH_DEL(a->units, u);
                free(u);
        }
        notes_close(&a->notes);
        a->closing = true;
        if (a->calls == 0)
                free(a);
        return NULL;
}
