#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum { PERIOD_MS = 10000, PUBLISH_BATCH_MAX = 200, PASSING_MS = 300, ADOPT_MS = 30000, REPORT_AGAIN_MS = 1000 };

/* -- Publishing -- */

/* False without memory. */
static bool agent_state_of(Agent *a, AgentUnit *u, UnitState *ret) {
        Note *note = notes_get(&a->notes, u->name);
        bool done = agent_is_done(note, &u->seen, a->boot_id, u->job_ended);

        if (done && note && !note->done) {
                note->done = true;
                a->notes.dirty = true;
        }
        if (unit_state_init(ret, u->refused ? STATE_FOREIGN : u->seen.load, u->refused ? "inactive" : u->seen.active,
                            u->refused ? "dead" : u->seen.sub, u->seen.hash[0] ? u->seen.hash : NULL, u->since_ms, done) < 0)
                return false;
        if (!u->refused && streq(u->seen.active, "inactive"))
                memcpy(ret->job, u->job, sizeof(ret->job));
        return true;
}

/* A state that will soon be another one is not told at once: that other one is what people wait for, and it would have to wait its
 * second behind this one. */
static bool agent_holds(Agent *a, AgentUnit *u, const ClusterOrder *o, const UnitState *state) {
        uint64_t now_ms = loop_now_ms(a->loop);
        bool waits = o && o->order == ORDER_RUN && streq(u->seen.active, "inactive") && !state->done && !state->job[0];

        if (!waits && !u->seen.job && !streq(u->seen.active, "activating") && !streq(u->seen.active, "deactivating")
            && !streq(u->seen.active, "reloading")) {
                u->passing_ms = 0;
                return false;
        }
        if (u->passing_ms == 0)
                u->passing_ms = now_ms;
        if (now_ms - u->passing_ms >= PASSING_MS)
                return false;
        publisher_later(a->publisher, u->passing_ms + PASSING_MS);
        return true;
}

static void agent_on_reported(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Agent *a = userdata;

        a->reporting = false;
        if (status != KV_OK)
                publisher_later(a->publisher, loop_now_ms(a->loop) + REPORT_AGAIN_MS);
}

/* All that is here was told to a cluster whose lineage is new, and which waits for that. */
static void agent_report(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        const ClusterMachine *self = cluster_machine(c, a->machine_id);

        if (c->adopting && a->adopting && !a->reporting && !a->looking && !a->look_all && (!self || self->reported != c->lineage)) {
                a->reporting = registry_report(a->registry, agent_on_reported, a) >= 0;
                if (!a->reporting)
                        agent_again(a);
        }
}

/* Compares what is with what the registry has; offers the difference. 'obeyed' units are those of which nothing is left. */
static void agent_publish(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        StateChange *changes;
        bool all = true; /* and nothing is left to be told */
        size_t n = 0;

        if ((!a->fresh && !a->adopting) || !publisher_ready(a->publisher))
                return;
        changes = NEW0(StateChange, PUBLISH_BATCH_MAX);
        if (!changes) {
                agent_again(a);
                return;
        }

        for (AgentUnit *u = a->units; u && n < PUBLISH_BATCH_MAX; u = u->hh.next) {
                const ClusterOrder *o = cluster_order(c, a->machine_id, u->name);
                const ClusterState *s = cluster_state(c, a->machine_id, u->name);
                bool kept = (o && o->order != ORDER_STOP) || notes_get(&a->notes, u->name) || u->seen.has_file;
                StateChange *change = &changes[n];

                if (!u->looked || u->look || u->asked || (u->busy && !kept)) {
                        all = false;
                        continue;
                }
                *change = (StateChange) {};
                snprintf(change->unit, sizeof(change->unit), "%s", u->name);
                if (!kept && (o || s)) {
                        change->remove = true;
                        change->obeyed = o != NULL;
                        change->order_index = o ? o->index : 0;
                } else if (!kept)
                        continue;
                else if (!agent_state_of(a, u, &change->state)) {
                        all = false;
                        agent_again(a);
                        continue;
                } else if (s && unit_state_equal(&s->state, &change->state)) {
                        unit_state_done(&change->state);
                        continue;
                }
                all = false;
                if ((!change->remove && agent_holds(a, u, o, &change->state)) || !publisher_allows(a->publisher, u->name)) {
                        unit_state_done(&change->state);
                        continue;
                }
                n++;
        }
        if (n > 0 && publisher_send(a->publisher, changes, n) < 0)
                agent_again(a);
        else if (n == 0 && all)
                agent_report(a);
        for (size_t i = 0; i < n; i++)
                unit_state_done(&changes[i].state);
        free(changes);
}

/* -- The pass -- */

/* What this host's notes know is another cluster's, or this one's before it was recovered or restored. */
static bool agent_is_of_another_lineage(const Agent *a) {
        const Cluster *c = registry_cluster(a->registry);

        return a->notes.lineage != 0 && c->lineage != 0 && c->lineage != a->notes.lineage;
}

/* Its orders may be about hosts and units as they were: they count when it has heard of all hosts what runs. */
static bool agent_has_to_tell(const Agent *a) {
        return registry_cluster(a->registry)->adopting || agent_is_of_another_lineage(a);
}

static void agent_on_adopted(void *userdata) {
        Agent *a = userdata;
        const Cluster *c = registry_cluster(a->registry);

        a->adopting = false;
        agent_dirty(a);
        if (!agent_is_of_another_lineage(a))
                return;
        log_notice(NO_FIELDS, "what runs here was told to the cluster, which is of a new lineage: its orders count from now on");
        a->notes.lineage = c->lineage;
        a->notes.floor = 0;
        a->notes.dirty = true;
}

/* Until the cluster has heard of all its hosts; where that is long past, for a while. */
static void agent_adopt(Agent *a) {
        bool all = registry_cluster(a->registry)->adopting;

        if (a->adopting || (!all && timer_start(&a->adopt, a->loop, a->adopt_ms) < 0))
                return;
        if (all)
                log_notice(NO_FIELDS, "the cluster was recovered or restored: until it knows what runs on all its hosts this one says so, and touches nothing");
        else
                log_notice(NO_FIELDS, "the cluster was recovered or restored: for %llu s this host says what runs, and touches nothing",
                           (unsigned long long) a->adopt_ms / 1000);
        a->adopting = true;
}

static void agent_on_synced(void *userdata, KvStatus status) {
        Agent *a = userdata;

        a->syncing = false;
        if (status == KV_OK && agent_has_to_tell(a))
                agent_adopt(a);
        else if (status == KV_OK) {
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
                /* What was asked of a leader that is gone proves nothing about the time after it. */
                if (a->syncing)
                        kv_sync_cancel(store, &a->sync);
                a->fresh = a->syncing = a->adopting = false;
                timer_stop(&a->adopt);
                return;
        }
        if (a->adopting && !c->adopting && !timer_armed(&a->adopt))
                agent_on_adopted(a);
        if (agent_has_to_tell(a) ? a->adopting : c->index < a->notes.floor)
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

/* Each order counts anew: whoever has mended what failed under the last one does not wait for its pause to end. */
static void agent_note_order(AgentUnit *u, const ClusterOrder *o) {
        uint64_t index = o ? o->index : 0;

        if (index == u->order_index)
                return;
        u->order_index = index;
        u->failures = u->writes = 0;
        u->retry_ms = 0;
}

static void agent_plan_all(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        size_t max = HASH_COUNT(a->units), n = 0;
        uint64_t now_ms = loop_now_ms(a->loop), next_ms = now_ms + PERIOD_MS;
        _cleanup_free_ AgentUnit **units = NEW0(AgentUnit *, max + 1);
        _cleanup_free_ AgentStep *steps = NEW0(AgentStep, max + 1);
        bool stopping = a->systemd->ops->is_stopping(a->systemd);

        if (!units || !steps) {
                agent_again(a);
                return;
        }
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
                agent_note_order(u, view.order);
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
                /* A note waits for nobody: what is seen now must not be seen too late. */
                if (u->retry_ms > now_ms && s != AGENT_NOTE && s != AGENT_ADOPT) {
                        next_ms = MIN(next_ms, u->retry_ms);
                        continue;
                }
                if ((s == AGENT_WRITE && a->writing) || (s == AGENT_REMOVE && a->removing)) /* when the batch before is done */
                        continue;
                if (s != AGENT_NOTE)
                        log_info(((LogFields) { .unit = u->name, .index = view.order ? view.order->index : 0 }), "%s: %s (%s)",
                                 u->name, agent_step_to_string(s), reason);
                units[n] = u;
                steps[n++] = s;
        }
        if (agent_take(a, units, steps, n))
                agent_dirty(a);
        if (a->again_ms > now_ms)
                next_ms = MIN(next_ms, a->again_ms);
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

/* Nothing of it shows in a unit that stayed inactive; all other results make it failed, or are none of a start. */
static void job_result(AgentUnit *u, const char *result) {
        static const char *const never_began[] = { "assert", "dependency", "unsupported" };

        if (streq(result, "done"))
                u->job[0] = 0;
        for (size_t i = 0; i < ELEMENTS(never_began); i++)
                if (streq(result, never_began[i]) && !streq(u->job, result)) {
                        log_warning(((LogFields) { .unit = u->name }), "%s: systemd did not start it: %s", u->name, result);
                        snprintf(u->job, sizeof(u->job), "%s", result);
                }
}

static void agent_on_job_removed(void *userdata, const char *unit, const char *result) {
        Agent *a = userdata;
        AgentUnit *u = agent_unit(a, unit, false);

        if (!u)
                return;
        u->job_ended |= streq(result, "done");
        job_result(u, result);
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
                .adopt = { .fire = agent_on_adopted, .userdata = a },
                .adopt_ms = options->adopt_ms > 0 ? options->adopt_ms : ADOPT_MS,
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

                if (!u) {
                        agent_free(a);
                        return -ENOMEM;
                }
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
        registry_forget(a->registry, a);
        registry_unlisten(a->registry, &a->listener);
        a->systemd->ops->set_events(a->systemd, NULL);
        deferred_cancel(&a->pass);
        timer_stop(&a->period);
        timer_stop(&a->boot_wait);
        timer_stop(&a->adopt);
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
