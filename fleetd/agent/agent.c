#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum {
        PERIOD_MS = 10000,
        PUBLISH_BATCH_MAX = 200,
        PASSING_MS = 300,
        STEADY_MS = 1000,
        ADOPT_MS = 30000,
        REPORT_AGAIN_MS = 1000,
        HELD_MS = 1000,
        AGAIN_MIN_MS = 30000,
        AGAIN_MAX_MS = 600000,
        AGAIN_DOUBLINGS = 5
};

/* -- Publishing -- */

/* What is seen is a unit of the host under that name: it says nothing of what was started here. */
static bool agent_sees_another(const Agent *a, const AgentUnit *u, const AssignmentRecord *note) {
        return agent_is_foreign(&u->seen, note, a->boot_id, false) &&
               !(note->invocation[0] && streq(note->invocation, u->seen.invocation_id));
}

/* Whether it is done; that is noted. */
static bool agent_note_done(Agent *a, AgentUnit *u, AssignmentRecord *note) {
        if (!note || (!note->done && agent_sees_another(a, u, note)) ||
            !agent_is_done(note, &u->seen, a->boot_id, u->job_ended))
                return false;
        if (!note->done) {
                note->done = true;
                a->notes.dirty = true;
                u->done_save = a->n_saves + 1;
        }
        return true;
}

/* False without memory. */
static bool agent_state_of(Agent *a, AgentUnit *u, UnitState *ret) {
        AssignmentRecord *note = records_get(&a->notes, u->name);
        bool done = agent_note_done(a, u, note),
             conflicting = agent_is_foreign(&u->seen, note, a->boot_id, u->taken);

        if (unit_state_init(ret, conflicting ? STATE_FOREIGN : u->seen.load,
                            conflicting ? "inactive" : u->seen.active, conflicting ? "dead" : u->seen.sub,
                            u->seen.hash[0] ? u->seen.hash : NULL, u->since_ms, done) < 0)
                return false;
        if (!conflicting && note && streq(u->seen.active, "inactive"))
                snprintf(ret->job, sizeof(ret->job), "%s", note->job);
        return true;
}

/* Since when a unit has been on its way to another state; 0: it is not. One that is restarted again and again
 * rests too shortly to be steady. */
static uint64_t agent_passing_since(const Agent *a, AgentUnit *u, const ClusterAssignment *o,
                                    const UnitState *state) {
        uint64_t now_ms = loop_now_ms(a->loop);
        bool waits = o && o->kind == ASSIGNMENT_RUN && streq(u->seen.active, "inactive") && !state->done &&
                     !state->job[0];

        if (!waits && !u->seen.job && !streq(u->seen.active, "activating") &&
            !streq(u->seen.active, "deactivating") && !streq(u->seen.active, "reloading")) {
                if (u->steady_ms == 0)
                        u->steady_ms = now_ms;
                return 0;
        }
        if (u->passing_ms == 0 || (u->steady_ms > 0 && now_ms - u->steady_ms >= STEADY_MS))
                u->passing_ms = now_ms;
        u->steady_ms = 0;
        return u->passing_ms;
}

/* A state that will soon be another one is not told at once: that other one is what people wait for, and it
 * would have to wait its second behind this one. */
static bool agent_holds(Agent *a, AgentUnit *u, const ClusterAssignment *o, const UnitState *state) {
        uint64_t since_ms = agent_passing_since(a, u, o, state);

        if (since_ms == 0 || loop_now_ms(a->loop) - since_ms >= PASSING_MS)
                return false;
        publisher_later(a->publisher, since_ms + PASSING_MS);
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

        if (c->adopting && a->adopting && !a->reporting && !a->looking && !a->look_all && !a->all_dirty &&
            (!self || self->reported != c->lineage)) {
                a->reporting = registry_report(a->registry, agent_on_reported, a) >= 0;
                if (!a->reporting)
                        agent_again(a);
        }
}

/* Compares what is with what the registry has; offers the difference. 'obeyed' units are those of which
 * nothing is left. */
static void agent_publish(Agent *a) {
        const Cluster *c = registry_cluster(a->registry);
        StateChange *changes;
        bool all = true; /* and nothing is left to be told */
        AgentUnit *u;
        size_t n = 0;

        /* When there is somebody to be told, all is gone over. */
        TAILQ_FOREACH(u, &a->dirty, dirty_units)
        u->told = !a->fresh && !a->adopting;
        if ((!a->fresh && !a->adopting) || !publisher_ready(a->publisher))
                return;
        changes = NEW0(StateChange, PUBLISH_BATCH_MAX);
        if (!changes) {
                agent_again(a);
                return;
        }

        TAILQ_FOREACH(u, &a->dirty, dirty_units) {
                const ClusterAssignment *o = cluster_assignment(c, a->machine_id, u->name);
                const ClusterState *s = cluster_state(c, a->machine_id, u->name);
                bool kept = (o && o->kind != ASSIGNMENT_STOP) || records_get(&a->notes, u->name) ||
                            u->seen.has_file;
                StateChange *change;

                if (n == PUBLISH_BATCH_MAX) {
                        all = false;
                        break;
                }
                change = &changes[n];
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
                } else if (!kept) {
                        u->told = true;
                        continue;
                } else if (!agent_state_of(a, u, &change->state)) {
                        all = false;
                        agent_again(a);
                        continue;
                } else if (s && unit_state_equal(&s->state, &change->state)) {
                        if (agent_passing_since(a, u, o, &change->state) > 0)
                                u->passing_ms = 0;
                        unit_state_done(&change->state);
                        u->told = true;
                        continue;
                }
                all = false;
                if ((!change->remove &&
                     (agent_holds(a, u, o, &change->state) || u->done_save > a->n_saved)) ||
                    !publisher_allows(a->publisher, u->name)) {
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

/* Its orders may be about hosts and units as they were: they count when it has heard of all hosts what runs.
 */
static bool agent_has_to_tell(const Agent *a) {
        return registry_cluster(a->registry)->adopting || agent_is_of_another_lineage(a);
}

static void agent_on_adopted(void *userdata) {
        Agent *a = userdata;
        const Cluster *c = registry_cluster(a->registry);

        a->adopting = false;
        agent_dirty_all(a);
        if (!agent_is_of_another_lineage(a))
                return;
        log_notice(NO_FIELDS, "what runs here was told to the cluster, which is of a new lineage: its orders "
                              "count from now on");
        a->notes.lineage = c->lineage;
        a->notes.floor = 0;
        a->notes.dirty = true;
}

/* Until the cluster has heard of all its hosts; where that is long past, for a while. */
static void agent_adopt(Agent *a) {
        bool all = registry_cluster(a->registry)->adopting;

        if (!all && timer_start(&a->adopt, a->loop, a->adopt_ms) < 0)
                return;
        if (all)
                log_notice(NO_FIELDS, "the cluster was recovered or restored: until it knows what runs on "
                                      "all its hosts this one says so, and touches nothing");
        else
                log_notice(NO_FIELDS,
                           "the cluster was recovered or restored: for %llu s this host says what runs, and "
                           "touches nothing",
                           (unsigned long long) a->adopt_ms / 1000);
        a->adopting = true;
        agent_dirty_all(a);
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
        agent_dirty_all(a);
}

/* Orders count while this host follows a leader and has since caught up with it: an order may have been taken
 * back long ago elsewhere. */
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

/* Each order counts anew: whoever has mended what failed under the last one does not wait for its pause to
 * end. */
static void agent_note_order(AgentUnit *u, const ClusterAssignment *o) {
        uint64_t index = o ? o->index : 0;

        if (index == u->order_index)
                return;
        u->order_index = index;
        u->failures = u->writes = u->agains = 0;
        u->retry_ms = u->again_ms = u->try_ms = 0;
}

static void agent_note_flag(Agent *a, bool *flag, bool value) {
        a->notes.dirty |= *flag != value;
        *flag = value;
}

static void agent_note_job(Agent *a, AssignmentRecord *note, const char *job) {
        if (streq(note->job, job))
                return;
        snprintf(note->job, sizeof(note->job), "%s", job);
        a->notes.dirty = true;
}

/* What became of it is noted, as long as anybody knows. One that had finished, and was started by hand or by
 * another unit, has not. */
static void agent_note_end(Agent *a, AgentUnit *u) {
        AssignmentRecord *note = records_get(&a->notes, u->name);
        bool stopped_for;

        if (!note || !u->looked || (note->stopping && !agent_is_running(&u->seen)))
                return;
        if (agent_sees_another(a, u, note)) {
                note->taken_over = false;
                return;
        }
        if (agent_is_running(&u->seen)) {
                if (u->seen.owner == SYSTEMD_OURS)
                        memcpy(note->invocation, u->seen.invocation_id, sizeof(note->invocation));
                agent_note_flag(a, &note->taken_over,
                                u->seen.owner == SYSTEMD_CONFLICTING &&
                                        !agent_is_foreign(&u->seen, note, a->boot_id, false));
                u->agains = 0;
                u->again_ms = 0;
                agent_note_job(a, note, "");
                agent_note_flag(a, &note->ran, true);
                agent_note_flag(a, &note->done, false);
                agent_note_flag(a, &note->stopped, false);
        } else if (streq(u->seen.active, "failed") ||
                   (u->seen.end != SYSTEMD_END_UNKNOWN && u->seen.end != SYSTEMD_END_ITSELF))
                agent_note_flag(a, &note->ran, false);
        if (u->seen.end != SYSTEMD_END_UNKNOWN)
                agent_note_flag(a, &note->stopped,
                                u->seen.end == SYSTEMD_END_STOPPED && streq(note->started_boot, a->boot_id));
        if (u->seen.end == SYSTEMD_END_SKIPPED)
                agent_note_job(a, note, "condition");
        (void) agent_note_done(a, u, note);
        stopped_for = agent_is_stopped_for(note, &u->seen, a->boot_id);
        if (note->stopped_for == stopped_for || u->seen.job)
                return;
        note->stopped_for = stopped_for;
        a->notes.dirty = true;
        if (stopped_for)
                log_notice(((LogFields) { .unit = u->name }),
                           "%s was stopped for the sake of another unit, and is started again when that one "
                           "is back",
                           u->name);
}

/* What was stopped for another unit's sake still is when its start got lost. */
static void agent_note_lost_start(Agent *a, AgentUnit *u) {
        AssignmentRecord *note = records_get(&a->notes, u->name);

        if (note && u->looked && note->stopped_for && agent_start_got_lost(note, &u->seen))
                agent_cancel_start(a, note, u);
}

/* When another start of what was stopped for another unit's sake is due: the last ones did not make it run.
 */
static uint64_t agent_again_gap_ms(const AgentUnit *u) {
        return MIN((uint64_t) AGAIN_MIN_MS << MIN(u->agains, (unsigned) AGAIN_DOUBLINGS),
                   (uint64_t) AGAIN_MAX_MS);
}

/* Nothing tells when what a unit is bound to is back: it is looked at every second. Nor is it started in the
 * first one, since the whole host may be on its way to another target, and this daemon with it. Each start of
 * it may move other units, so that one which did not make it run is repeated late. False: not now, and the
 * unit stays in the dirty set. */
static bool agent_may_try(Agent *a, AgentUnit *u, AgentStep s) {
        uint64_t now_ms = loop_now_ms(a->loop);

        if ((s != AGENT_NOTHING && s != AGENT_START) ||
            !agent_is_stopped_for(records_get(&a->notes, u->name), &u->seen, a->boot_id)) {
                u->try_ms = 0;
                return true;
        }
        if (u->try_ms == 0)
                u->try_ms = now_ms + HELD_MS;
        if (s == AGENT_START)
                u->try_ms = MAX(u->try_ms, u->again_ms);
        if (u->try_ms > now_ms) {
                agent_wake_at(a, u->try_ms);
                return false;
        }
        if (s == AGENT_START &&
            !u->answered) { /* that what it is bound to has ended again would not be told */
                agent_refresh_now(a, u);
                return false;
        }
        u->try_ms = 0;
        if (s == AGENT_NOTHING) {
                agent_refresh_now(a, u);
                return false;
        }
        u->again_ms = now_ms + agent_again_gap_ms(u);
        u->agains++;
        return true;
}

/* The next step of one unit; AGENT_NOTHING when there is none, or not yet (u->planned says which). */
static AgentStep agent_plan_unit(Agent *a, AgentUnit *u) {
        const ClusterAssignment *order = cluster_assignment(registry_cluster(a->registry), a->machine_id,
                                                            u->name);
        bool refused = u->refused;
        const char *reason;
        AgentStep s;

        u->planned = false;
        if (u->busy || u->look || u->asked)
                return AGENT_NOTHING;
        a->counts.planned++;
        agent_note_order(u, order);
        agent_note_lost_start(a, u);
        agent_note_end(a, u);
        s = agent_next_step(a, u, &reason);
        u->refused = s == AGENT_REFUSE;
        if (s != AGENT_WRITE)
                u->writes = 0;
        if (!agent_may_try(a, u, s))
                return AGENT_NOTHING;
        if (s == AGENT_NOTHING || s == AGENT_DONE) {
                log_debug(((LogFields) { .unit = u->name }), "%s: %s (%s)", u->name, agent_step_to_string(s),
                          reason);
                u->planned = true;
                return AGENT_NOTHING;
        }
        if (s == AGENT_REFUSE) {
                if (!refused)
                        log_warning(((LogFields) { .unit = u->name }), "%s is not run here: %s (%s)", u->name,
                                    reason, u->seen.fragment);
                u->planned = true;
                return AGENT_NOTHING;
        }
        /* A note waits for nobody: what is seen now must not be seen too late. */
        if (u->retry_ms > loop_now_ms(a->loop) && s != AGENT_RECORD && s != AGENT_ADOPT) {
                agent_wake_at(a, u->retry_ms);
                return AGENT_NOTHING;
        }
        if ((s == AGENT_WRITE && a->writing) ||
            (s == AGENT_REMOVE && a->removing)) /* when the batch before is done */
                return AGENT_NOTHING;
        if (s != AGENT_RECORD && s != AGENT_ADOPT && agent_is_stale(u)) {
                agent_refresh_now(a, u);
                return AGENT_NOTHING;
        }
        if (s != AGENT_RECORD)
                log_info(((LogFields) { .unit = u->name, .index = order ? order->index : 0 }), "%s: %s (%s)",
                         u->name, agent_step_to_string(s), reason);
        return s;
}

bool agent_sees_foreign(Agent *a, const char *unit) {
        const AgentUnit *u = agent_unit(a, unit, false);

        return u && u->looked &&
               agent_is_foreign(&u->seen, records_get(&a->notes, unit), a->boot_id, u->taken);
}

static void agent_plan_dirty(Agent *a) {
        size_t n_dirty = agent_count_dirty(a);
        _cleanup_free_ AgentUnit **units = NEW0(AgentUnit *, n_dirty + 1);
        _cleanup_free_ AgentStep *steps = NEW0(AgentStep, n_dirty + 1);
        AgentUnit *u;
        size_t n = 0;

        if (!units || !steps) {
                TAILQ_FOREACH(u, &a->dirty, dirty_units)
                u->planned = false;
                agent_again(a);
                return;
        }
        TAILQ_FOREACH(u, &a->dirty, dirty_units) {
                AgentStep s = agent_plan_unit(a, u);

                if (s == AGENT_NOTHING)
                        continue;
                units[n] = u;
                steps[n++] = s;
        }
        if (agent_execute(a, units, steps, n))
                agent_wake(a);
        TAILQ_FOREACH(u, &a->dirty, dirty_units)
        u->answered = false;
}

static void agent_pass(void *userdata) {
        Agent *a = userdata;
        bool fresh = a->fresh;

        a->counts.passes++;
        agent_freshen(a);
        if (a->fresh != fresh)
                a->all_dirty = true;
        if (!a->systemd->ops->is_ready(a->systemd)) {
                agent_save(a);
                return;
        }
        records_enter(&a->notes, a->boot_id, a->systemd->ops->era(a->systemd));

        if (a->all_dirty || a->look_all)
                agent_collect(a);
        agent_refresh(a);
        agent_plan_dirty(a);
        agent_publish(a);
        (void) records_check(&a->notes); /* an error of it is one of the save */
        agent_save(a);
        agent_settle(a);
}

/* -- Events: they only mark -- */

static void agent_on_change(void *userdata, const RegistryChange *change) {
        Agent *a = userdata;
        const Cluster *c = registry_cluster(a->registry);
        const char *name = change->unit;
        AgentUnit *u;
        bool make;

        if (change->machine && !streq(change->machine, a->machine_id))
                return;
        if (change->kind == CHANGED_ALL || change->kind == CHANGED_CLUSTER) {
                agent_dirty_all(a);
                return;
        }
        agent_wake(a); /* this host may have caught up with its notes by it */
        if (!name)
                return;
        make = cluster_assignment(c, a->machine_id, name) || cluster_state(c, a->machine_id, name);
        u = agent_unit(a, name, make);
        if (u)
                agent_dirty(a, u);
        else if (make) /* no memory */
                agent_dirty_all(a);
}

static void agent_on_ready(void *userdata, bool ready) {
        Agent *a = userdata;

        if (!ready)
                return;
        a->look_all = true;
        agent_wake(a);
}

/* A hint: what is already to be read again needs no second one. */
static void agent_on_changed(void *userdata, const char *unit) {
        Agent *a = userdata;
        AgentUnit *u = unit ? agent_unit(a, unit, false) : NULL;

        if (!unit) {
                a->look_all = true;
                agent_wake(a);
        }
        if (!u || u->hinted)
                return;
        u->hinted = true;
        agent_dirty(a, u);
}

/* Nothing of it shows in a unit that stayed inactive; all other results make it failed, or are none of a
 * start. */
static void agent_note_result(Agent *a, const char *unit, const char *result) {
        static const char *const never_began[] = { "assert", "dependency", "timeout", "unsupported" };
        AssignmentRecord *note = records_get(&a->notes, unit);

        if (note && streq(result, "done"))
                agent_note_job(a, note, "");
        for (size_t i = 0; note && i < ELEMENTS(never_began); i++)
                if (streq(result, never_began[i]) && !streq(note->job, result)) {
                        log_warning(((LogFields) { .unit = unit }), "%s: systemd did not start it: %s", unit,
                                    result);
                        agent_note_job(a, note, result);
                }
}

static void agent_on_job_removed(void *userdata, const char *unit, const char *result) {
        Agent *a = userdata;
        AgentUnit *u = agent_unit(a, unit, false);

        if (!u)
                return;
        u->job_ended |= streq(result, "done");
        agent_note_result(a, unit, result);
        u->look = true;
        agent_dirty(a, u);
}

static void agent_on_period(void *userdata) {
        Agent *a = userdata;

        agent_dirty_all(a);
        (void) timer_start(&a->period, a->loop, PERIOD_MS);
}

static void agent_on_boot_wait(void *userdata) {
        Agent *a = userdata;

        a->use_saved = true;
        if (HASH_COUNT(a->notes.table) > 0)
                log_notice(NO_FIELDS, "the cluster did not answer since this host booted: starting what was "
                                      "last assigned to it");
        agent_dirty_all(a);
}

static void agent_on_wake(void *userdata) {
        agent_wake(userdata);
}

void agent_state_changed(Agent *a) {
        agent_wake(a);
}

const AgentCounts *agent_counts(const Agent *a) {
        return &a->counts;
}

int agent_new(Agent **ret, Loop *loop, Registry *registry, Systemd *systemd, const AgentOptions *options,
              Error *err) {
        Agent *a = NEW0(Agent, 1);
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Agent) {
                .loop = loop,
                .registry = registry,
                .systemd = systemd,
                .look_all = true,
                .listener = { .on_change = agent_on_change, .userdata = a },
                .pass = DEFERRED(agent_pass, a),
                .period = TIMER(agent_on_period, a),
                .wake = TIMER(agent_on_wake, a),
                .boot_wait = TIMER(agent_on_boot_wait, a),
                .adopt = TIMER(agent_on_adopted, a),
                .adopt_ms = options->adopt_ms > 0 ? options->adopt_ms : ADOPT_MS,
                .notes = { .dir_fd = -1 },
        };
        TAILQ_INIT(&a->dirty);
        TAILQ_INIT(&a->waiting);
        snprintf(a->machine_id, sizeof(a->machine_id), "%s", options->machine_id);
        snprintf(a->boot_id, sizeof(a->boot_id), "%s", options->boot_id);

        r = records_open(&a->notes, options->directory, err);
        if (r == 0)
                r = publisher_new(&a->publisher, loop, registry, agent_on_wake, a);
        if (r == 0)
                r = timer_start(&a->period, loop, PERIOD_MS);
        if (r == 0)
                r = timer_start(&a->boot_wait, loop, options->boot_wait_ms);
        if (r < 0) {
                agent_free(a);
                return r;
        }

        /* What was started before this daemon began has long had its job. */
        for (AssignmentRecord *note = a->notes.table; note; note = note->hh.next) {
                AgentUnit *u = agent_unit(a, note->name, true);

                if (!u) {
                        agent_free(a);
                        return -ENOMEM;
                }
                u->job_ended = true;
        }
        registry_listen(registry, &a->listener);
        systemd->ops->set_events(systemd, &(SystemdEvents) {
                                                  .on_ready = agent_on_ready,
                                                  .on_changed = agent_on_changed,
                                                  .on_job_removed = agent_on_job_removed,
                                                  .userdata = a,
                                          });
        agent_dirty_all(a);
        *ret = a;
        return 0;
}

/* 'save': what the notes say now is on disk afterwards. */
static void agent_end(Agent *a, bool save) {
        AgentUnit *u, *next;

        if (a->syncing)
                kv_sync_cancel(registry_store(a->registry), &a->sync);
        registry_forget(a->registry, a);
        registry_unlisten(a->registry, &a->listener);
        a->systemd->ops->set_events(a->systemd, NULL);
        deferred_cancel(&a->pass);
        timer_stop(&a->period);
        timer_stop(&a->wake);
        timer_stop(&a->boot_wait);
        timer_stop(&a->adopt);
        a->publisher = publisher_free(a->publisher);
        agent_end_saves(a, save);
        HASH_ITER(hh, a->units, u, next) {
                HASH_DEL(a->units, u);
                free(u);
        }
        records_close(&a->notes);
        a->closing = true;
        if (a->calls == 0)
                free(a);
}

Agent *agent_free(Agent *a) {
        if (a)
                agent_end(a, true);
        return NULL;
}

Agent *agent_crash(Agent *a) {
        if (a)
                agent_end(a, false);
        return NULL;
}
