#include "base/log.h"
#include "fleetd/agent/agent_internal.h"

enum {
        PERIOD_MS = 10000,
        PERIOD_SLACK_MS = 1000,
        ADOPT_MS = 30000,
        RECHECK_MS = 1000,
        RESTART_MIN_MS = 30000,
        RESTART_MAX_MS = 600000,
        RESTART_DOUBLINGS = 5
};

/* -- The pass -- */

/* Return whether the records are of another cluster, or of this one before it was recovered or restored. */
static bool agent_is_of_another_lineage(const Agent *a) {
        const Cluster *c = registry_cluster(a->registry);

        return a->records.lineage != 0 && c->lineage != 0 && c->lineage != a->records.lineage;
}

/* Return whether assignments are to be ignored: they may describe hosts and units before the change of
 * lineage. They count when all hosts have reported what runs. */
static bool agent_must_report(const Agent *a) {
        return registry_cluster(a->registry)->adopting || agent_is_of_another_lineage(a);
}

static void agent_on_adopted(void *userdata) {
        Agent *a = userdata;
        const Cluster *c = registry_cluster(a->registry);

        a->adopting = false;
        agent_dirty_all(a);
        if (!agent_is_of_another_lineage(a))
                return;
        log_notice(NO_FIELDS, "reported all units to the cluster, which has a new lineage; executing its "
                              "assignments from now on");
        a->records.lineage = c->lineage;
        a->records.acted_index = 0;
        a->records.dirty = true;
}

/* The cluster waits for no reports any more. Report until it has assignments for the units that run here, for
 * ADOPT_MS at most. */
static void agent_report_late(Agent *a) {
        uint64_t adopt_ms = a->host->io.adopt_ms ?: ADOPT_MS;

        if (timer_start(&a->adopt, a->loop, adopt_ms) < 0)
                return;
        log_notice(NO_FIELDS,
                   "the cluster was recovered or restored: reporting units, and touching none, for "
                   "%llu s at most",
                   (unsigned long long) adopt_ms / 1000);
        a->adopting = true;
        a->reported = false;
        agent_dirty_all(a);
}

/* Report until the cluster has the reports of all hosts. */
static void agent_begin_adoption(Agent *a) {
        if (!registry_cluster(a->registry)->adopting) {
                agent_report_late(a);
                return;
        }
        log_notice(NO_FIELDS, "the cluster was recovered or restored: reporting units, and touching none, "
                              "until all hosts have reported");
        a->adopting = true;
        a->reported = false;
        agent_dirty_all(a);
}

/* The cluster has ended its wait for reports, with that of this host or without. */
static void agent_end_adoption(Agent *a) {
        if (!agent_is_of_another_lineage(a) || a->reported)
                agent_on_adopted(a);
        else
                agent_report_late(a);
}

static void agent_on_synced(void *userdata, KvStatus status) {
        Agent *a = userdata;

        a->syncing = false;
        a->synced = status == KV_OK;
        a->synced_index = kv_index(registry_store(a->registry));
        agent_dirty_all(a);
}

/* The tree has all since the check, and the view follows it: an event that is still to be applied may
 * withdraw an assignment. */
static void agent_follow_view(Agent *a) {
        if (!agent_view_has(a, a->synced_index))
                return;
        a->synced = false;
        a->use_records = false; /* a cluster that waits for reports has answered, too */
        timer_stop(&a->boot_wait);
        if (agent_must_report(a))
                agent_begin_adoption(a);
        else
                a->fresh = true;
}

static void agent_update_removal(Agent *a, const KvState *state) {
        if (state->removed == a->removed)
                return;
        a->removed = state->removed;
        a->all_dirty = true;
        if (a->removed && HASH_COUNT(a->records.table) > 0)
                log_notice(NO_FIELDS, "this host was removed from the cluster: its units that run are not "
                                      "touched, and its last assignments are not started");
}

/* Assignments count while this host follows a leader and has passed a ReadIndex check since. An older view
 * may contain assignments that were withdrawn long ago. */
static void agent_update_freshness(Agent *a) {
        KvStore *store = registry_store(a->registry);
        const Cluster *c = registry_cluster(a->registry);
        KvState state;

        kv_state(store, &state);
        agent_update_removal(a, &state);
        a->publishes_health = state.level >= KV_LEVEL_UPDATES;
        a->attached = state.attached;
        if (!state.ready || !registry_ready(a->registry)) {
                /* A check with the previous leader proves nothing about the time after it. */
                if (a->syncing)
                        kv_sync_cancel(store, &a->sync);
                a->fresh = a->syncing = a->synced = a->adopting = false;
                timer_stop(&a->adopt);
                return;
        }
        if (a->adopting && !c->adopting && !timer_armed(&a->adopt))
                agent_end_adoption(a);
        /* A host without records has run nothing for the former lineage: it has nothing to report, as at its
         * first start. */
        if (!a->records.table && !c->adopting && agent_is_of_another_lineage(a))
                a->records.lineage = a->records.acted_index = 0;
        if (agent_must_report(a)) /* also if this host has not noticed that it had no leader meanwhile */
                a->fresh = false;
        if (agent_must_report(a) ? a->adopting : c->index < a->records.acted_index)
                a->fresh = false;
        else if (a->synced && !a->fresh)
                agent_follow_view(a);
        else if (!a->fresh && !a->syncing) {
                a->syncing = true;
                a->sync = (KvSync) { .done = agent_on_synced, .userdata = a };
                kv_sync(store, &a->sync);
        }
        if (a->fresh && a->records.lineage == 0 && c->lineage != 0) {
                a->records.lineage = c->lineage;
                a->records.dirty = true;
        }
}

/* Delays apply to one assignment: a new one may follow a repair. */
static void agent_reset_backoff(AgentUnit *u, const ClusterAssignment *assignment) {
        uint64_t index = assignment ? assignment->index : 0;

        if (index == u->assignment_index)
                return;
        u->assignment_index = index;
        u->n_failures = u->n_writes = u->n_restarts = 0;
        u->retry_ms = u->restart_ms = u->recheck_ms = u->trigger_until_ms = 0;
        u->reload_failed = false;
}

/* Return whether 's' may be executed now, for a unit that was stopped because of another one; if not, 'u'
 * stays in the dirty set.
 *
 * systemd sends no signal when the other unit is back, so the unit is checked each second. In the first
 * second it is not started: the host may be switching to another target, which stops this daemon, too. Each
 * start may affect other units, so a start without effect is repeated late. */
static bool agent_may_restart(Agent *a, AgentUnit *u, AgentStep s) {
        uint64_t now_ms = loop_now_ms(a->loop);

        if ((s != AGENT_NOTHING && s != AGENT_START) ||
            !agent_is_stopped_for(records_get(&a->records, u->name), &u->seen, a->boot_id)) {
                u->recheck_ms = 0;
                return true;
        }
        if (u->recheck_ms == 0)
                u->recheck_ms = now_ms + RECHECK_MS;
        if (s == AGENT_START)
                u->recheck_ms = MAX(u->recheck_ms, u->restart_ms);
        if (u->recheck_ms > now_ms) {
                agent_wake_at(a, u->recheck_ms);
                return false;
        }
        if (s == AGENT_START &&
            !u->refreshed) { /* systemd sends no signal when the other unit has stopped again */
                agent_refresh_now(a, u);
                return false;
        }
        u->recheck_ms = 0;
        if (s == AGENT_NOTHING) {
                agent_refresh_now(a, u);
                return false;
        }
        u->restart_ms = now_ms +
                        MIN((uint64_t) RESTART_MIN_MS << MIN(u->n_restarts, (unsigned) RESTART_DOUBLINGS),
                            (uint64_t) RESTART_MAX_MS);
        u->n_restarts++;
        return true;
}

/* Return whether the next step may be executed: a socket with Accept=yes starts when its template is in
 * force. One that the host has from another source is a conflict, as one of the unit itself. */
static bool agent_has_template(Agent *a, AgentUnit *u, AgentStep s) {
        int r;

        if (s == AGENT_STOP || s == AGENT_REMOVE || s == AGENT_DONE || s == AGENT_REFUSE)
                return true;
        r = agent_put_template(a, u);
        if (r >= 0)
                return true;
        if (u->retry_ms <= loop_now_ms(a->loop))
                agent_unit_failed(a, u, "put the template in force of", strerror(-r));
        u->link_refused |= r == -EEXIST && !agent_has_started(a, u);
        return s != AGENT_WRITE && s != AGENT_START;
}

/* Return the next step of 'u': AGENT_NOTHING if there is none (u->planned), or not yet. */
static AgentStep agent_plan_unit(Agent *a, AgentUnit *u) {
        const ClusterAssignment *assignment = agent_assignment(a, u->name);
        bool refused = u->refused;
        const char *reason;
        AgentStep s;

        u->planned = false;
        agent_note_singleton(a, u);
        if ((u->busy && !u->reload) || u->must_refresh || u->refreshing)
                return AGENT_NOTHING;
        a->counts.planned++;
        agent_reset_backoff(u, assignment);
        agent_read_text(a, u);
        agent_record_since(a, u);
        agent_record_completed(a, u);
        agent_record_lost_start(a, u);
        agent_record_content(a, u);
        agent_record_observed(a, u);
        s = agent_next_step(a, u, &reason);
        if (u->reload && s != AGENT_STOP)
                return AGENT_NOTHING;
        u->unprovided = VERDICT_NONE;
        u->waits = agent_awaits_another(a, u, s);
        if (u->waits) { /* the other one is dirty when it changes */
                log_debug(((LogFields) { .unit = u->name }), "%s: %s waits (%s)", u->name,
                          agent_step_to_string(s), u->last_error);
                return AGENT_NOTHING;
        }
        if (!agent_is_provided(a, u, s)) {
                s = AGENT_NOTHING;
                reason = u->last_error;
        }
        u->refused = s == AGENT_REFUSE;
        if (s != AGENT_WRITE)
                u->n_writes = 0;
        if (!agent_has_template(a, u, s)) {
                agent_wake_at(a, u->retry_ms);
                return AGENT_NOTHING;
        }
        if (!agent_may_restart(a, u, s))
                return AGENT_NOTHING;
        u->stopping &= s == AGENT_STOP || !a->fresh; /* without a leader, its delay goes on */
        if (s == AGENT_NOTHING || s == AGENT_DONE) {
                log_debug(((LogFields) { .unit = u->name }), "%s: %s (%s)", u->name, agent_step_to_string(s),
                          reason);
                u->planned = true;
                return AGENT_NOTHING;
        }
        if (s == AGENT_REFUSE) {
                if (!refused)
                        log_warning(((LogFields) { .unit = u->name }), "Refusing to run %s: %s (%s)", u->name,
                                    reason, u->seen.fragment);
                u->planned = true;
                return AGENT_NOTHING;
        }
        /* Records are never delayed: the observed state may be gone by then. */
        if (u->retry_ms > loop_now_ms(a->loop) && s != AGENT_RECORD && s != AGENT_ADOPT) {
                agent_wake_at(a, u->retry_ms);
                return AGENT_NOTHING;
        }
        if ((s == AGENT_WRITE && a->writing) ||
            (s == AGENT_REMOVE && a->removing)) /* the previous batch is under way */
                return AGENT_NOTHING;
        if (s != AGENT_RECORD && s != AGENT_ADOPT && agent_is_stale(u)) {
                agent_refresh_now(a, u);
                return AGENT_NOTHING;
        }
        u->stopping = s == AGENT_STOP;
        if (u->stopping && agent_delays_stop(a, u))
                return AGENT_NOTHING;
        if (s != AGENT_RECORD)
                log_info(((LogFields) { .unit = u->name, .index = assignment ? assignment->index : 0 }),
                         "%s: %s (%s)", u->name, agent_step_to_string(s), reason);
        return s;
}

bool agent_awaits_stop(const Agent *a, bool *ret_stopping) {
        bool any = false;

        *ret_stopping = false;
        for (const AgentUnit *u = a->units; u; u = u->hh.next) {
                const AssignmentRecord *record = records_get(&a->records, u->name);
                const ClusterUnit *of = cluster_unit(registry_cluster(a->registry), u->name);

                if (!record || !record->unit || !placement_stops_first(&record->unit->placement) ||
                    (of && of->sticky) ||
                    record->unit->placement.move == PLACEMENT_STAYS || /* no other machine starts it */
                    u->seen.owner != SYSTEMD_OURS || !agent_is_started(&u->seen))
                        continue;
                any = true;
                *ret_stopping |= streq(u->seen.active, "deactivating");
        }
        return any;
}

void agent_each_unit(const Agent *a, void (*each)(void *userdata, const SystemdUnit *unit), void *userdata) {
        for (const AgentUnit *u = a->units; u; u = u->hh.next)
                if (u->observed && u->seen.has_file && u->seen.owner != SYSTEMD_CONFLICTING)
                        each(userdata, &u->seen);
}

bool agent_has_conflict(Agent *a, const char *unit) {
        const AgentUnit *u = agent_unit(a, unit, false);

        return u && u->observed &&
               agent_is_conflicting(&u->seen, records_get(&a->records, unit), a->boot_id, u->link_refused);
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
                agent_retry_soon(a);
                return;
        }
        agent_find_triggered(a);
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
                u->refreshed = false;
}

static void agent_pass(void *userdata) {
        Agent *a = userdata;
        bool fresh = a->fresh;
        AgentUnit *u;

        a->counts.passes++;
        agent_update_freshness(a);
        agent_update_lease(a);
        agent_update_partition(a);
        if (a->fresh != fresh)
                a->all_dirty = true;
        if (!a->systemd->ops->is_ready(a->systemd)) {
                agent_save(a);
                return;
        }
        records_set_era(&a->records, a->boot_id, a->systemd->ops->era(a->systemd));

        if (a->all_dirty || a->refresh_all)
                agent_collect(a);
        agent_refresh(a);
        TAILQ_FOREACH(u, &a->dirty, dirty_units)
                agent_update_health(a, u);
        agent_plan_dirty(a);
        agent_publish(a);
        (void) records_check_dir(&a->records); /* the save reports its error */
        agent_save(a);
        agent_clean(a);
}

/* -- Events: they only mark units dirty -- */

static void agent_on_change(void *userdata, const RegistryChange *change) {
        Agent *a = userdata;
        const Cluster *c = registry_cluster(a->registry);
        char socket[UNIT_NAME_MAX + 1];
        const char *name = change->unit;
        AgentUnit *u;
        bool make;

        if (change->machine && !streq(change->machine, a->machine_id))
                return;
        if (change->kind == CHANGED_ALL || change->kind == CHANGED_CLUSTER) {
                agent_dirty_all(a);
                return;
        }
        agent_wake(a); /* the view may have reached the index of the records */
        if (!name)
                return;
        if (change->kind == CHANGED_UNIT && unit_class_accepting(name, socket) &&
            (u = agent_unit(a, socket, false)))
                agent_dirty(a, u);
        make = agent_assignment(a, name) || cluster_state(c, a->machine_id, name) ||
               cluster_endpoint(c, a->machine_id, name);
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
        a->refresh_all = true;
        agent_wake(a);
        agent_tell_ready(a);
}

/* A unit that is to be refreshed already needs no second mark. */
static void agent_on_changed(void *userdata, const char *unit) {
        Agent *a = userdata;
        AgentUnit *u = unit ? agent_unit(a, unit, false) : NULL;

        if (!unit) {
                a->refresh_all = true;
                agent_wake(a);
        }
        if (!u || u->changed)
                return;
        u->changed = true;
        agent_dirty(a, u);
}

static void agent_on_job_removed(void *userdata, const char *unit, const char *result) {
        Agent *a = userdata;
        AgentUnit *u = agent_unit(a, unit, false);

        if (!u)
                return;
        u->job_ended |= streq(result, "done");
        agent_record_job_result(a, unit, result);
        u->must_refresh = true;
        agent_dirty(a, u);
}

static void agent_on_period(void *userdata) {
        Agent *a = userdata;

        agent_report_checks(a);
        agent_dirty_all(a);
        (void) timer_start_with_slack(&a->period, a->loop, PERIOD_MS, PERIOD_SLACK_MS);
}

static void agent_on_boot_wait(void *userdata) {
        Agent *a = userdata;

        a->use_records = true;
        if (!a->removed && HASH_COUNT(a->records.table) > 0)
                log_notice(
                        NO_FIELDS,
                        "no contact with the cluster since boot: starting the last assignments of this host");
        agent_dirty_all(a);
}

static void agent_on_wake(void *userdata) {
        agent_wake(userdata);
}

void agent_state_changed(void *agent) {
        Agent *a = agent;

        agent_wake(a);
}

void agent_wake_unit(Agent *a, const char *unit) {
        AgentUnit *u = agent_unit(a, unit, true);

        if (u)
                agent_dirty(a, u);
        else
                agent_dirty_all(a);
}

bool agent_is_fresh(const Agent *a) {
        return a->fresh;
}

const AgentCounts *agent_counts(const Agent *a) {
        return &a->counts;
}

const HeldPort *agent_port_holders(const Agent *a, uint16_t number, PortProtocol protocol, size_t *ret_n) {
        return records_holders(&a->records, number, protocol, ret_n);
}

const ChecksCounts *agent_checks(const Agent *a) {
        return checks_counts(a->checks);
}

static int agent_open(Agent *a, Error *err) {
        _cleanup_free_ char *directory = NULL;
        int r = TRY(settings_agent_path(a->host->settings, &directory));

        r = records_open(&a->records, directory, err);
        if (r >= 0)
                r = records_take(&a->records, a->machine_id, err);
        if (r < 0)
                return r;
        r = TRY(publisher_new(&a->publisher, a->loop, a->registry, agent_on_wake, a));
        if (a->host->io.prober)
                r = TRY(checks_new(&a->checks, a->loop, a->host->io.prober, a->machine_id, agent_on_check,
                                   a));
        TRY(timer_start_with_slack(&a->period, a->loop, PERIOD_MS, PERIOD_SLACK_MS));
        TRY(timer_start(&a->boot_wait, a->loop, a->host->settings->boot_wait_ms));

        /* Jobs of units that were started before this daemon ended long ago. */
        for (AssignmentRecord *record = a->records.table; record; record = record->hh.next) {
                AgentUnit *u = agent_unit(a, record->name, true);

                if (!u)
                        return -ENOMEM;
                u->job_ended = true;
        }
        return 0;
}

int agent_new(Agent **ret, ComponentHost *host, Error *err) {
        Agent *a = NEW0(Agent, 1);
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Agent) {
                .host = host,
                .loop = host->io.loop,
                .registry = host->registry,
                .systemd = host->io.systemd,
                .machine_id = host->settings->machine_id,
                .boot_id = host->io.boot_id,
                .refresh_all = true,
                .observer = { .on_change = agent_on_change, .userdata = a },
                .pass = DEFERRED(agent_pass, a),
                .period = TIMER(agent_on_period, a),
                .wake = TIMER(agent_on_wake, a),
                .boot_wait = TIMER(agent_on_boot_wait, a),
                .adopt = TIMER(agent_on_adopted, a),
                .lease = { .tick = TIMER(agent_on_wake, a) },
                .partition = { .tick = TIMER(agent_on_partition_tick, a) },
                .health = TIMER(agent_on_health_tick, a),
                .records = { .dir_fd = -1 },
        };
        TAILQ_INIT(&a->dirty);
        TAILQ_INIT(&a->waiting);
        r = agent_open(a, err);
        if (r < 0) {
                agent_free(a);
                return r;
        }

        registry_observe(a->registry, &a->observer);
        a->systemd->ops->set_events(a->systemd, &(SystemdEvents) {
                                                        .on_ready = agent_on_ready,
                                                        .on_changed = agent_on_changed,
                                                        .on_job_removed = agent_on_job_removed,
                                                        .userdata = a,
                                                });
        agent_dirty_all(a);
        *ret = a;
        return 0;
}

/* 'save': write the records before this returns. */
static Agent *agent_end(Agent *a, bool save) {
        AgentUnit *u, *next;

        if (!a)
                return NULL;

        if (a->syncing)
                kv_sync_cancel(registry_store(a->registry), &a->sync);
        registry_cancel(a->registry, a);
        registry_unobserve(a->registry, &a->observer);
        a->systemd->ops->set_events(a->systemd, NULL);
        deferred_cancel(&a->pass);
        timer_stop(&a->period);
        timer_stop(&a->wake);
        timer_stop(&a->boot_wait);
        timer_stop(&a->adopt);
        agent_end_lease(a);
        timer_stop(&a->partition.tick);
        timer_stop(&a->health);
        a->checks = checks_free(a->checks);
        a->publisher = publisher_free(a->publisher);
        agent_end_saves(a, save);
        named_clear(&a->triggered);
        HASH_ITER(hh, a->units, u, next) {
                agent_forget_text(a, u);
                HASH_DEL(a->units, u);
                free(u);
        }
        records_close(&a->records);
        a->closing = true;
        if (a->calls == 0)
                free(a);
        return NULL;
}

void *agent_free(void *agent) {
        return agent_end(agent, true);
}

void *agent_crash(void *agent) {
        return agent_end(agent, false);
}
