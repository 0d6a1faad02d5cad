/* The pass: dirty set, plan, transaction.
 *
 * While a transaction is in flight, and until the cluster view contains its effect, the engine does not plan:
 * a plan on half of the changes could assign a second machine to a unit. All units are dirty when the engine
 * begins to lead, after a failed or uncertain transaction, and from time to time. One turn of the loop plans
 * a limited part of the dirty set. */
#include "fleetd/engine/engine.h"

#include "base/log.h"
#include "fleetd/engine/controller.h"
#include "fleetd/engine/drain.h"
#include "fleetd/engine/plan_internal.h"
#include "fleetd/engine/waits.h"

enum {
        BRAKE_MS = 30000,
        RESYNC_MS = 30000, /* after which a missed event is found */
        SLICE = 250,       /* units that one turn plans, */
        WORK_MAX = 20000,  /* and the work after which it ends (scheduler_view_work()): some ms */
        RETRY_MS = 100,
        PART = 150, /* changes of a plan in one transaction, or fewer: as many as fit */
        REJECTED_TIMES = 2,
};

static const char message_scheduled[] = "0c2b4fba37fb46e6a5eb9e0a4e3c6b1d";

/* A change that the store rejected although its preconditions hold in the cluster view. After REJECTED_TIMES
 * the unit is left out until it changes, so that the other changes of the plan proceed. */
typedef struct Rejected {
        Named unit;
        AssignmentChange change;
        unsigned times;
} Rejected;

struct Engine {
        Loop *loop;
        Registry *registry;
        const Component *const *components; /* NULL: none */
        void *const *selves;                /* of these */
        uint64_t brake_ms;                  /* BrakeSec= */
        RegistryObserver observer;
        EngineCounts counts;
        Deferred wake;
        Timer replan; /* of all units: the plan changes by time alone, or an attempt has failed */
        Timer again;  /* only a wake-up: a controller's answer changes by time alone */
        Timer resync; /* all units become dirty if the cluster view has changed */
        bool leading;
        bool beginning;          /* the cluster view may lack writes of the previous leader */
        uint64_t term, leads_ms; /* cluster time at which it began to lead */
        bool names_texts;        /* from KV_LEVEL_UPDATES on */

        EngineMarks marks;              /* changes since the last plan */
        Named *dirty;                   /* units */
        Named *rejected;                /* Rejected, by unit */
        bool resyncing;                 /* all units from 'cursor' on are dirty */
        char cursor[UNIT_NAME_MAX + 1]; /* "": the first unit */
        uint64_t resynced_index;        /* of the cluster view when the last resync began */

        EnginePlan plan;               /* written, or being written */
        size_t n_written;              /* of its changes, before the part in flight */
        size_t n_sent;                 /* in that part */
        bool writing;                  /* a transaction is in flight */
        uint64_t written_index;        /* that the cluster view has to reach; 0: none */
        uint64_t freed;                /* EnginePlan.freed of the last plan */
        EngineWaits waits;             /* units without a machine */
        char awaited[MACHINE_ID_SIZE]; /* whose report is missing, as last logged */
};

/* -- The dirty set -- */

static int engine_add_dirty(void *userdata, const char *unit) {
        Engine *e = userdata;

        if (!unit) {
                e->resyncing = true;
                e->cursor[0] = 0;
                return 0;
        }
        return named_get(&e->dirty, unit, sizeof(Named)) ? 0 : -ENOMEM;
}

static void engine_mark_all(Engine *e) {
        (void) engine_add_dirty(e, NULL);
        loop_defer(e->loop, &e->wake);
}

/* Add the next units of the resync. If the unit at the cursor is gone, the resync starts again. */
static int engine_resync_slice(Engine *e, const Cluster *cluster) {
        const ClusterUnit *u = e->cursor[0] ? cluster_any_unit(cluster, e->cursor) : NULL;

        if (!u) {
                e->resynced_index = cluster->index;
                u = cluster->units;
        }
        for (size_t n = 0; u && n < SLICE; n++, u = u->hh.next)
                if (engine_add_dirty(e, u->name) < 0)
                        return -ENOMEM;
        e->resyncing = u != NULL;
        snprintf(e->cursor, sizeof(e->cursor), "%s", u ? u->name : "");
        return 0;
}

/* -- Rejections -- */

static bool engine_is_held(void *userdata, const char *unit) {
        const Engine *e = userdata;
        const Rejected *x = named_find(e->rejected, unit);

        return x && x->times >= REJECTED_TIMES;
}

static bool engine_same_preconditions(const AssignmentChange *a, const AssignmentChange *b) {
        return streq(a->machine, b->machine) && a->expected_index == b->expected_index &&
               a->unit_index == b->unit_index && a->presence_index == b->presence_index;
}

/* Without memory, the plan is repeated as after a first rejection. */
static void engine_note_rejected(Engine *e, const AssignmentChange *c, const char *message) {
        Rejected *x = named_get(&e->rejected, c->unit, sizeof(Rejected));

        if (!x)
                return;
        x->times = engine_same_preconditions(&x->change, c) ? x->times + 1 : 1;
        x->change = *c;
        if (x->times == REJECTED_TIMES)
                log_warning(((LogFields) { .unit = c->unit, .machine = c->machine, .term = e->term }),
                            "%s: not planned until it changes: %s on %s was rejected %d times: %s", c->unit,
                            assignment_kind_to_string(c->kind),
                            cluster_name_of(registry_cluster(e->registry), c->machine), REJECTED_TIMES,
                            message);
}

static void engine_on_change(void *userdata, const RegistryChange *change) {
        Engine *e = userdata;

        if (!e->leading)
                return;
        if (change->unit)
                named_remove(&e->rejected, change->unit);
        else
                named_clear(&e->rejected);
        engine_marks_add(&e->marks, registry_cluster(e->registry), change);
        loop_defer(e->loop, &e->wake);
}

/* -- Writing -- */

static void engine_drop_plan(Engine *e) {
        engine_plan_done(&e->plan);
        e->n_written = e->n_sent = 0;
}

void engine_counts(const Engine *e, EngineCounts *ret) {
        *ret = e->counts;
}

static void engine_count(Engine *e, size_t end, bool written) {
        EngineCounts *c = &e->counts;
        size_t n_stops = 0, n = end - e->n_written;

        for (size_t i = e->n_written; i < end; i++) {
                n_stops += e->plan.changes[i].kind == ASSIGNMENT_STOP;
                c->moves[e->plan.changes[i].move] += written;
        }
        *(written ? &c->unscheduled : &c->unschedule_failures) += n_stops;
        *(written ? &c->scheduled : &c->schedule_failures) += n - n_stops;
}

static void engine_log_written(const Engine *e, const AssignmentChange *c, uint64_t index) {
        const Verdict why = assignment_change_why(c);
        Error message = {};

        verdict_print(&why, &message);
        log_notice(((LogFields) { .unit = c->unit,
                                  .machine = c->machine,
                                  .index = index,
                                  .term = e->term,
                                  .message_id = message_scheduled }),
                   "%s: %s on %s: %s", c->unit, assignment_kind_to_string(c->kind),
                   cluster_name_of(registry_cluster(e->registry), c->machine), message.message);
}

/* Wake at once, or after RETRY_MS if the attempt failed. */
static void engine_wake(Engine *e, bool failed) {
        if (!failed || timer_start(&e->replan, e->loop, RETRY_MS) < 0)
                loop_defer(e->loop, &e->wake);
}

static void engine_plan_all(Engine *e, bool failed) {
        if (!e->leading)
                return;
        (void) engine_add_dirty(e, NULL);
        engine_wake(e, failed);
}

static void engine_on_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Engine *e = userdata;
        size_t end = e->n_written + e->n_sent;
        const AssignmentChange *rejected;

        e->writing = false;
        engine_count(e, end, status == KV_OK);
        if (status == KV_OK) {
                e->written_index = index;
                for (size_t i = e->n_written; i < end; i++)
                        engine_log_written(e, &e->plan.changes[i], index);
                e->n_written = end;
                e->n_sent = 0;
                engine_wake(e, false);
                return;
        }

        log_debug(((LogFields) { .term = e->term }), "Failed to write assignments: %s", message);
        rejected = registry_refused_assignment(e->registry, e->plan.changes + e->n_written,
                                               end - e->n_written);
        if (rejected)
                engine_note_rejected(e, rejected, message);
        engine_drop_plan(e);
        /* Another write came first, or the result is unknown: plan again from the cluster view. */
        engine_plan_all(e, true);
}

static void engine_on_step_written(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Engine *e = userdata;

        e->writing = false;
        if (status == KV_OK)
                e->written_index = index;
        engine_wake(e, status != KV_OK);
}

static Control engine_control_of(Engine *e, void *self) {
        return (Control) { .self = self,
                           .registry = e->registry,
                           .term = e->term,
                           .brake_ms = e->brake_ms,
                           .leads_ms = e->leads_ms,
                           .done = engine_on_step_written,
                           .userdata = e,
                           .again_ms = UINT64_MAX };
}

/* Let the controllers know of a unit that was planned. 0 or -ENOMEM. */
static int engine_note_planned(Engine *e, const char *unit) {
        int r = 0;

        for (size_t i = 0; r == 0 && e->names_texts && e->components && e->components[i]; i++) {
                const Controller *c = e->components[i]->controller;
                Control control = engine_control_of(e, e->selves[i]);

                if (c && c->planned)
                        r = c->planned(&control, unit);
        }
        return r;
}

/* Plan the units that have been dirty for longest. Units that the plan did not reach become the newest. */
static int engine_make_plan(Engine *e, const Cluster *cluster) {
        const EnginePlanLimits limits = { .is_held = engine_is_held,
                                          .userdata = e,
                                          .work_max = WORK_MAX,
                                          .names_texts = e->names_texts,
                                          .leads_ms = e->leads_ms,
                                          .freed = e->freed };
        const char *names[SLICE];
        size_t n = 0;

        TRY(engine_marks_expand(&e->marks, cluster, engine_add_dirty, e));
        if (e->resyncing && HASH_COUNT(e->dirty) < SLICE)
                TRY(engine_resync_slice(e, cluster));
        for (const Named *d = e->dirty; d && n < SLICE; d = d->hh.next)
                names[n++] = d->name;
        TRY(engine_plan(cluster, names, n, e->brake_ms, &limits, &e->plan));

        loop_count(e->loop, e->plan.work, 0);
        e->freed = e->plan.freed;
        waits_update(&e->waits, &e->plan);
        while (n > 0) {
                if (!cluster_any_unit(cluster, names[--n]))
                        waits_forget(&e->waits, names[n]);
                TRY(engine_note_planned(e, names[n]));
                named_remove(&e->dirty, names[n]);
        }
        for (size_t i = 0; i < e->plan.rest.n; i++)
                if (engine_add_dirty(e, e->plan.rest.items[i]) < 0)
                        return -ENOMEM;
        return 0;
}

/* A plan of some units keeps the earlier time of the others. */
static void engine_replan_after(Engine *e, uint64_t again_ms) {
        if (again_ms < UINT64_MAX &&
            timer_start_by(&e->replan, e->loop, loop_now_ms(e->loop) + again_ms, 0) < 0)
                log_warning(NO_FIELDS,
                            "Failed to start the engine's timer: out of memory; the next change wakes the "
                            "engine");
}

/* Write the next part of the plan. Each part has its own preconditions; a rejected part discards the rest of
 * the plan. */
static int engine_write_part(Engine *e) {
        int r;

        r = registry_assign(e->registry, e->term, e->plan.changes + e->n_written,
                            MIN(e->plan.n - e->n_written, (size_t) PART), &e->n_sent, engine_on_written, e);
        e->writing = r >= 0;
        return r;
}

/* -- A new lineage -- */

static bool engine_waits_for_reports(Engine *e, const Cluster *cluster) {
        const ClusterMachine *missing;
        uint64_t again_ms;

        if (!engine_awaits_reports(cluster, &missing, &again_ms))
                return false;
        if (!streq(e->awaited, missing->id)) {
                memcpy(e->awaited, missing->id, sizeof(e->awaited));
                log_notice(((LogFields) { .machine = missing->id, .term = e->term }),
                           "the cluster was recovered or restored; waiting for %s to report its units, for "
                           "%llu s at "
                           "most",
                           cluster_machine_name(missing), (unsigned long long) again_ms / 1000);
        }
        engine_replan_after(e, again_ms);
        return true;
}

static void engine_on_adoption_ended(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Engine *e = userdata;

        e->writing = false;
        if (status == KV_OK) {
                e->written_index = index;
                e->awaited[0] = 0;
                log_notice(((LogFields) { .index = index, .term = e->term }),
                           "the running units of the recovered or restored cluster have assignments, which "
                           "are in force now");
        }
        engine_plan_all(e, status != KV_OK);
}

/* All running units have assignments: hosts may execute them. */
static int engine_end_adoption(Engine *e) {
        int r = registry_end_adoption(e->registry, e->term, engine_on_adoption_ended, e);

        e->writing = r >= 0;
        return r;
}

/* -- Moves and revisions -- */

static void engine_on_moves_ended(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Engine *e = userdata;

        if (status != KV_OK || !e->leading)
                engine_drop_plan(e);
        if (status != KV_OK && e->leading)
                (void) engine_add_dirty(e, NULL);
        engine_on_step_written(e, status, message, index);
}

/* Write the ends of requested moves, before the changes of the other units. 0 or a negative errno. */
static int engine_end_moves(Engine *e) {
        int r = registry_end_moves(e->registry, e->term, e->plan.ends, e->plan.n_ends, NULL,
                                   engine_on_moves_ended, e);

        e->plan.n_ends = 0;
        e->writing = r >= 0;
        return MIN(r, 0);
}

/* Delete former texts of units that are not kept any more. */
static int engine_delete_surplus(Control *c) {
        return registry_delete_surplus(c->registry, c->term, c->done, c->userdata);
}

/* -- The pass -- */

/* Plan, or end the adoption if no unit is dirty. 0 or a negative errno. */
static int engine_advance(Engine *e, const Cluster *cluster) {
        bool idle = !e->resyncing && !e->dirty && !engine_marks_any(&e->marks);

        engine_drop_plan(e);
        if (idle && !cluster->adopting)
                return 0;
        e->counts.passes++;
        if (idle)
                return engine_end_adoption(e);

        TRY(engine_make_plan(e, cluster));
        engine_replan_after(e, e->plan.again_ms);
        if (e->resyncing || e->dirty || cluster->adopting)
                loop_defer(e->loop, &e->wake);
        return 0;
}

/* Return whether the engine has to wait for the cluster view. */
static bool engine_is_behind(Engine *e, const Cluster *cluster) {
        if (e->beginning && !registry_is_current(e->registry)) {
                loop_defer(e->loop, &e->wake); /* the loop delivers some of the registry's events each turn */
                return true;
        }
        e->beginning = false;
        /* The answer has the index of the last write: its event wakes the engine. */
        if (e->written_index > 0 && cluster->index < e->written_index)
                return true;
        e->written_index = 0;
        return false;
}

static int engine_step(Engine *e, const Controller *c, void *self) {
        Control control = engine_control_of(e, self);
        int r = c->step(&control);

        e->writing = r > 0;
        if (r == 0 && control.again_ms < UINT64_MAX)
                r = timer_start_by(&e->again, e->loop, loop_now_ms(e->loop) + control.again_ms, 0);
        return r;
}

/* Let the controllers write one step, in the order of their priority. 0 or a negative errno. */
static int engine_control(Engine *e) {
        static const Controller drains = { "drains", drain_control },
                                surplus = { "surplus texts", engine_delete_surplus };
        int r = engine_step(e, &drains, NULL);

        for (size_t i = 0; r == 0 && e->components && e->components[i]; i++)
                if (e->components[i]->controller)
                        r = engine_step(e, e->components[i]->controller, e->selves[i]);
        if (r == 0)
                r = engine_step(e, &surplus, NULL);
        return MIN(r, 0);
}

/* From the raise of the level on, all assignments get the names of their texts. */
static void engine_set_names_texts(Engine *e, bool names) {
        if (names && !e->names_texts && e->leading)
                engine_mark_all(e);
        e->names_texts = names;
}

static void engine_on_wake(void *userdata) {
        Engine *e = userdata;
        const Cluster *cluster = registry_cluster(e->registry);
        int r = 0;

        if (!e->leading || e->writing || !registry_ready(e->registry))
                return;
        /* A raise of the level alone changes no state of the store. */
        engine_set_names_texts(e, cluster->level >= KV_LEVEL_UPDATES);
        if (engine_is_behind(e, cluster) || engine_waits_for_reports(e, cluster))
                return;
        if (e->n_written == e->plan.n)
                r = engine_advance(e, cluster);
        if (r >= 0 && e->plan.n_ends > 0)
                r = engine_end_moves(e);
        else if (r >= 0 && e->plan.n > e->n_written)
                r = engine_write_part(e);
        else if (r >= 0 && !e->writing)
                r = engine_control(e);
        if (r >= 0)
                return;

        e->counts.pass_failures++;
        log_error(((LogFields) { .error = r, .term = e->term }), "Failed to plan: %s; trying again",
                  strerror(-r));
        engine_drop_plan(e);
        (void) engine_add_dirty(e, NULL);
        deferred_cancel(&e->wake);
        engine_replan_after(e, RETRY_MS);
}

static void engine_on_again(void *userdata) {
        engine_wake(userdata, false);
}

void engine_wake_controllers(Engine *e) {
        if (e && e->leading)
                engine_wake(e, false);
}

static void engine_on_replan(void *userdata) {
        engine_mark_all(userdata);
}

static void engine_resync_later(Engine *e) {
        if (timer_start(&e->resync, e->loop, RESYNC_MS) < 0)
                log_warning(NO_FIELDS,
                            "Failed to start the engine's timer: out of memory; missed events are not found");
}

static void engine_on_resync(void *userdata) {
        Engine *e = userdata;

        if (e->resyncing)
                loop_defer(e->loop, &e->wake); /* its timer may have failed to start */
        else if (registry_cluster(e->registry)->index != e->resynced_index)
                engine_mark_all(e);
        engine_resync_later(e);
}

/* -- Leading -- */

static void engine_stop(Engine *e) {
        e->leading = false;
        e->counts.leader_since_s = 0;
        e->written_index = 0;
        if (e->writing)
                e->plan.n = e->n_written + e->n_sent; /* the part in flight is the last one */
        else
                engine_drop_plan(e);
        named_clear(&e->dirty);
        engine_marks_done(&e->marks);
        e->freed = 0;
        named_clear(&e->rejected);
        e->resyncing = false;
        waits_clear(&e->waits);
        timer_stop(&e->replan);
        timer_stop(&e->resync);
        timer_stop(&e->again);
        deferred_cancel(&e->wake);
}

void engine_state_changed(void *engine) {
        Engine *e = engine;
        KvStore *store = registry_store(e->registry);
        uint64_t term = kv_leads(store);
        KvState state;

        kv_state(store, &state);
        engine_set_names_texts(e, state.level >= KV_LEVEL_UPDATES);
        if (term == (e->leading ? e->term : 0))
                return;

        engine_stop(e);
        if (term == 0)
                return;

        e->leading = e->beginning = true;
        e->counts.leader_since_s = loop_wall_ms(e->loop) / 1000;
        e->term = term;
        e->leads_ms = kv_cluster_ms(registry_store(e->registry));
        log_notice(((LogFields) { .term = e->term }), "the engine of this host places units from now on");
        engine_mark_all(e);
        engine_resync_later(e);
}

int engine_new(Engine **ret, const ComponentHost *host, uint64_t brake_ms) {
        Engine *e = NEW0(Engine, 1);

        if (!e)
                return -ENOMEM;

        e->loop = host->io.loop;
        e->registry = host->registry;
        e->components = host->components;
        e->selves = host->selves;
        engine_set_brake(e, brake_ms);
        e->observer = (RegistryObserver) { .on_change = engine_on_change, .userdata = e };
        e->wake = DEFERRED(engine_on_wake, e);
        e->replan = TIMER(engine_on_replan, e);
        e->resync = TIMER(engine_on_resync, e);
        e->again = TIMER(engine_on_again, e);
        waits_init(&e->waits, e->loop, e->registry);
        registry_observe(e->registry, &e->observer);
        engine_state_changed(e);
        *ret = e;
        return 0;
}

uint64_t engine_brake(const Engine *e) {
        return e->brake_ms;
}

bool engine_brakes(const Engine *e) {
        return e && engine_is_braked(registry_cluster(e->registry), e->brake_ms);
}

void engine_set_brake(Engine *e, uint64_t brake_ms) {
        brake_ms = brake_ms ?: BRAKE_MS;
        if (brake_ms == e->brake_ms)
                return;
        e->brake_ms = brake_ms;
        if (e->term > 0)
                engine_mark_all(e);
}

void *engine_free(void *engine) {
        Engine *e = engine;

        if (!e)
                return NULL;
        registry_unobserve(e->registry, &e->observer);
        registry_cancel(e->registry, e);
        engine_stop(e);
        engine_plan_done(&e->plan);
        free(e);
        return NULL;
}
