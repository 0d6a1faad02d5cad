/* Changes mark units dirty; one deferred call later they are planned and written in one transaction. While
 * that is under way, and until its effect is in the picture, nothing is planned: a plan made on half of an
 * answer could give a unit a second machine. Beginning to lead, after any answer that is not a plain yes, and
 * now and then, all units are dirty. A turn plans some of the dirty units, and ends after so much work: no
 * turn is long. */
#include "base/sizes.h"
#include "fleetd/engine/engine.h"

#include <stdio.h>

#include "base/log.h"
#include "fleetd/engine/adoption.h"
#include "fleetd/engine/plan.h"
#include "units/name.h"

enum {
        BRAKE_MS = 30000,
        SWEEP_MS = 30000, /* what an event failed to tell costs so long at most */
        SLICE = 250,      /* units that are planned in one turn, */
        WORK_MAX = 20000, /* or fewer: after so much work (scheduler_view_work()) the rest waits for the next
                             turn; some ms */
        RETRY_MS = 100,
        PART = 150, /* changes of a plan that go into one transaction */
};

static const char message_scheduled[] = "0c2b4fba37fb46e6a5eb9e0a4e3c6b1d";

typedef struct Dirty {
        char unit[UNIT_NAME_MAX + 1];
        UT_hash_handle hh;
} Dirty;

/* A change that the store rejected although the cluster view says that it holds. The second time its unit is
 * left out, so that the other changes of the plan proceed; until something changes about it. */
typedef struct Rejected {
        AssignmentChange change;
        unsigned times;
        UT_hash_handle hh; /* by the unit of the change */
} Rejected;

enum { REJECTED_TIMES = 2 };

struct Engine {
        Loop *loop;
        Registry *registry;
        EngineOptions options;
        RegistryListener listener;
        Deferred wake;
        Timer again; /* the plan changes by time alone, or something has to be tried again */
        Timer sweep; /* all units are to be looked at, if anything has changed */
        bool leading;
        bool beginning; /* the picture may not yet tell what the last leader did */
        uint64_t term;
        EngineMarks marks;             /* what changes may concern, since the last plan */
        Dirty *dirty;                  /* table by unit */
        Rejected *rejected;            /* table by unit */
        bool sweeping;                 /* all are dirty from 'cursor' on */
        char cursor[256];              /* a unit; "": the first */
        uint64_t swept_index;          /* of the picture when the last sweep began */
        EnginePlan plan;               /* written, or being written */
        size_t n_written;              /* of its changes, those before the part under way */
        bool writing;                  /* no answer yet */
        uint64_t freed;                /* EnginePlan's, of the last plan */
        uint64_t written_index;        /* 0: nothing to wait for */
        char awaited[MACHINE_ID_SIZE]; /* the machine whose report is waited for, as we said it last */
        EngineCounts counts;
};

/* -- Dirt -- */

static void forget_dirt(Engine *e) {
        Dirty *d, *next;

        HASH_ITER(hh, e->dirty, d, next) {
                HASH_DEL(e->dirty, d);
                free(d);
        }
}

static int add_dirty(void *userdata, const char *unit) {
        Engine *e = userdata;
        Dirty *d;

        if (!unit) {
                e->sweeping = true;
                e->cursor[0] = 0;
                return 0;
        }

        HASH_FIND_STR(e->dirty, unit, d);
        if (d)
                return 0;
        d = NEW0(Dirty, 1);
        if (!d)
                return -ENOMEM;
        snprintf(d->unit, sizeof(d->unit), "%s", unit);
        HASH_ADD_STR(e->dirty, unit, d);
        if (!TABLE_ADDED(d)) {
                free(d);
                return -ENOMEM;
        }
        return 0;
}

static void mark_all(Engine *e) {
        (void) add_dirty(e, NULL);
        loop_defer(e->loop, &e->wake);
}

/* Some more units of the sweep. If the one that was next is gone it begins anew: that is rare, and costs time
 * only. */
static int sweep_on(Engine *e, const Cluster *cluster) {
        const ClusterUnit *u = e->cursor[0] ? cluster_any_unit(cluster, e->cursor) : NULL;
        int r;

        if (!u) {
                e->swept_index = cluster->index;
                u = cluster->units;
        }
        for (size_t n = 0; u && n < SLICE; n++, u = u->hh.next) {
                r = add_dirty(e, u->name);
                if (r < 0)
                        return r;
        }
        e->sweeping = u != NULL;
        snprintf(e->cursor, sizeof(e->cursor), "%s", u ? u->name : "");
        return 0;
}

/* -- Rejections -- */

/* 'unit' NULL: all. */
static void forget_rejected(Engine *e, const char *unit) {
        Rejected *x, *next;

        HASH_ITER(hh, e->rejected, x, next) {
                if (unit && !streq(x->change.unit, unit))
                        continue;
                HASH_DEL(e->rejected, x);
                free(x);
        }
}

static bool is_held(void *userdata, const char *unit) {
        const Engine *e = userdata;
        Rejected *x;

        HASH_FIND_STR(e->rejected, unit, x);
        return x && x->times >= REJECTED_TIMES;
}

static bool same_checks(const AssignmentChange *a, const AssignmentChange *b) {
        return streq(a->machine, b->machine) && a->expected_index == b->expected_index &&
               a->unit_index == b->unit_index && a->presence_index == b->presence_index;
}

/* Without memory for it the plan is made again, as after the first time. */
static void note_rejected(Engine *e, const AssignmentChange *c, const char *sentence) {
        Rejected *x;

        HASH_FIND_STR(e->rejected, c->unit, x);
        if (!x) {
                x = NEW0(Rejected, 1);
                if (!x)
                        return;
                x->change = *c;
                HASH_ADD_STR(e->rejected, change.unit, x);
                if (!TABLE_ADDED(x)) {
                        free(x);
                        return;
                }
        }
        x->times = same_checks(&x->change, c) ? x->times + 1 : 1;
        x->change = *c;
        if (x->times == REJECTED_TIMES)
                log_warning(((LogFields) { .unit = c->unit, .machine = c->machine, .term = e->term }),
                            "%s: nothing is planned of it until it changes: %s on %s was rejected twice: %s",
                            c->unit, assignment_kind_to_string(c->kind),
                            cluster_name_of(registry_cluster(e->registry), c->machine), sentence);
}

static void on_change(void *userdata, const RegistryChange *change) {
        Engine *e = userdata;

        if (!e->leading)
                return;
        if (e->rejected)
                forget_rejected(e, change->unit);
        if (engine_marks_add(&e->marks, registry_cluster(e->registry), change) < 0)
                e->marks.all = true; /* no memory for names: all of them needs none */
        loop_defer(e->loop, &e->wake);
}

/* -- Writing -- */

static void forget_plan(Engine *e) {
        engine_plan_done(&e->plan);
        e->n_written = 0;
}

void engine_counts(const Engine *e, EngineCounts *ret) {
        *ret = e->counts;
}

static void count_orders(Engine *e, size_t end, bool given) {
        EngineCounts *c = &e->counts;

        for (size_t i = e->n_written; i < end; i++) {
                bool stops = e->plan.changes[i].remove || e->plan.changes[i].kind == ASSIGNMENT_STOP;

                *(given ? stops ? &c->unscheduled : &c->scheduled :
                  stops ? &c->unschedule_failures :
                          &c->schedule_failures) += 1;
        }
}

static void on_written(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Engine *e = userdata;
        size_t end = MIN(e->n_written + PART, e->plan.n);
        const AssignmentChange *rejected;

        e->writing = false;
        count_orders(e, end, status == KV_OK);
        if (status == KV_OK) {
                e->written_index = index;
                for (size_t i = e->n_written; i < end; i++) {
                        const AssignmentChange *c = &e->plan.changes[i];

                        log_notice(((LogFields) { .unit = c->unit,
                                                  .machine = c->machine,
                                                  .index = index,
                                                  .term = e->term,
                                                  .message_id = message_scheduled }),
                                   "%s: %s on %s: %s", c->unit, assignment_kind_to_string(c->kind),
                                   cluster_name_of(registry_cluster(e->registry), c->machine), c->reason);
                }
                e->n_written = end;
                loop_defer(e->loop, &e->wake);
                return;
        }

        log_debug(((LogFields) { .term = e->term }), "orders were not given: %s", sentence);
        rejected = registry_refused_assignment(e->registry, e->plan.changes + e->n_written,
                                               end - e->n_written);
        if (rejected)
                note_rejected(e, rejected, sentence);
        forget_plan(e);
        if (!e->leading)
                return;
        /* Somebody was faster, or nobody knows: look again, at what is there. */
        (void) add_dirty(e, NULL);
        if (timer_start(&e->again, e->loop, RETRY_MS) < 0)
                loop_defer(e->loop, &e->wake);
}

static void take_dirt(Engine *e, const char *unit) {
        Dirty *d;

        HASH_FIND_STR(e->dirty, unit, d);
        HASH_DEL(e->dirty, d);
        free(d);
}

/* Of the dirty units those that are dirty for longest; what is not looked at comes behind the others. */
static int make_plan(Engine *e, const Cluster *cluster) {
        const EnginePlanLimits limits = {
                .is_held = is_held, .userdata = e, .work_max = WORK_MAX, .freed = e->freed
        };
        const char *names[SLICE];
        size_t n = 0;
        int r;

        r = engine_marks_expand(&e->marks, cluster, add_dirty, e);
        if (r >= 0 && e->sweeping && HASH_COUNT(e->dirty) < SLICE)
                r = sweep_on(e, cluster);
        if (r < 0)
                return r;
        for (const Dirty *d = e->dirty; d && n < SLICE; d = d->hh.next)
                names[n++] = d->unit;
        r = engine_plan_within(cluster, names, n, e->options.brake_ms, &limits, &e->plan);
        if (r < 0)
                return r;

        loop_count(e->loop, e->plan.work, 0);
        e->freed = e->plan.freed;
        while (n > 0)
                take_dirt(e, names[--n]);
        for (size_t i = 0; i < e->plan.rest.n && r >= 0; i++)
                r = add_dirty(e, e->plan.rest.items[i]);
        return r;
}

static void sleep_until_again(Engine *e, uint64_t again_ms) {
        timer_stop(&e->again);
        if (again_ms < UINT64_MAX && timer_start(&e->again, e->loop, again_ms) < 0)
                log_warning(NO_FIELDS,
                            "the engine has no memory for its timer; it goes on at the next change");
}

/* A large plan goes in parts: each holds only for what it was planned on, and with the first that does not
 * the rest is forgotten. */
static int write_part(Engine *e) {
        int r;

        r = registry_assign(e->registry, e->term, e->plan.changes + e->n_written,
                            MIN(e->plan.n - e->n_written, (size_t) PART), on_written, e);
        e->writing = r >= 0;
        return r;
}

/* -- A new lineage -- */

static bool awaits_reports(Engine *e, const Cluster *cluster) {
        const ClusterMachine *missing;
        uint64_t again_ms;

        if (!engine_awaits_reports(cluster, &missing, &again_ms))
                return false;
        if (!streq(e->awaited, missing->id)) {
                memcpy(e->awaited, missing->id, sizeof(e->awaited));
                log_notice(((LogFields) { .machine = missing->id, .term = e->term }),
                           "the cluster was recovered or restored: no orders until %s has said what runs on "
                           "it, or for another %llu s",
                           cluster_machine_name(missing), (unsigned long long) again_ms / 1000);
        }
        sleep_until_again(e, again_ms);
        return true;
}

static void on_adoption_ended(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Engine *e = userdata;

        e->writing = false;
        if (status == KV_OK) {
                e->written_index = index;
                e->awaited[0] = 0;
                log_notice(((LogFields) { .index = index, .term = e->term }),
                           "what runs in the recovered or restored cluster has its orders; they count from "
                           "now on");
        }
        if (!e->leading)
                return;
        (void) add_dirty(e, NULL);
        if (status == KV_OK || timer_start(&e->again, e->loop, RETRY_MS) < 0)
                loop_defer(e->loop, &e->wake);
}

/* Nothing is left to order: hosts may obey. */
static int end_adoption(Engine *e) {
        int r = registry_end_adoption(e->registry, e->term, on_adoption_ended, e);

        e->writing = r >= 0;
        return r;
}

/* -- The pass -- */

static void pass(void *userdata) {
        Engine *e = userdata;
        const Cluster *cluster = registry_cluster(e->registry);
        int r = 0;

        if (!e->leading || e->writing || !registry_ready(e->registry))
                return;
        if (e->beginning && !registry_is_current(e->registry)) {
                loop_defer(e->loop, &e->wake); /* its events come from the loop, some each turn */
                return;
        }
        e->beginning = false;
        if (e->written_index > 0) {
                /* Each write has its own index, and the answer's is the last one's: its event wakes us. */
                if (cluster->index < e->written_index)
                        return;
                e->written_index = 0;
        }
        if (awaits_reports(e, cluster))
                return;
        if (e->n_written == e->plan.n) {
                bool idle = !e->sweeping && !e->dirty && !engine_marks_any(&e->marks);

                forget_plan(e);
                if (idle && !cluster->adopting)
                        return;
                e->counts.passes++;
                r = idle ? end_adoption(e) : make_plan(e, cluster);
                if (r >= 0 && !idle) {
                        sleep_until_again(e, e->plan.again_ms);
                        if (e->sweeping || e->dirty || cluster->adopting)
                                loop_defer(e->loop, &e->wake);
                }
        }
        if (r >= 0 && e->plan.n > 0)
                r = write_part(e);
        if (r < 0) {
                e->counts.pass_failures++;
                log_error(((LogFields) { .error = r, .term = e->term }), "cannot plan: %s", strerror(-r));
                forget_plan(e);
                (void) add_dirty(e, NULL);
                deferred_cancel(&e->wake);
                sleep_until_again(e, RETRY_MS);
        }
}

static void on_again(void *userdata) {
        mark_all(userdata);
}

static void sweep_later(Engine *e) {
        if (timer_start(&e->sweep, e->loop, SWEEP_MS) < 0)
                log_warning(
                        NO_FIELDS,
                        "the engine has no memory for its timer; it looks at all units when it is asked to");
}

static void on_sweep(void *userdata) {
        Engine *e = userdata;

        if (e->sweeping)
                loop_defer(e->loop, &e->wake); /* it may wait for a timer that there was no memory for */
        else if (registry_cluster(e->registry)->index != e->swept_index)
                mark_all(e);
        sweep_later(e);
}

/* -- Leading -- */

static void stop(Engine *e) {
        e->leading = false;
        e->counts.leader_since_s = 0;
        e->written_index = 0;
        if (e->writing)
                e->plan.n = MIN(e->n_written + PART, e->plan.n); /* the rest of it is not written any more */
        else
                forget_plan(e);
        forget_dirt(e);
        engine_marks_done(&e->marks);
        e->freed = 0;
        forget_rejected(e, NULL);
        e->sweeping = false;
        timer_stop(&e->again);
        timer_stop(&e->sweep);
        deferred_cancel(&e->wake);
}

void engine_state_changed(Engine *e) {
        KvState state;
        bool leads;

        kv_state(registry_store(e->registry), &state);
        leads = state.role == KV_ROLE_LEADER && state.ready;
        if (leads == e->leading && (!leads || state.term == e->term))
                return;

        stop(e);
        if (!leads)
                return;

        e->leading = e->beginning = true;
        e->counts.leader_since_s = loop_wall_ms(e->loop) / 1000;
        e->term = state.term;
        log_notice(((LogFields) { .term = e->term }), "this host's engine places units from now on");
        mark_all(e);
        sweep_later(e);
}

int engine_new(Engine **ret, Loop *loop, Registry *registry, const EngineOptions *options) {
        Engine *e = NEW0(Engine, 1);

        if (!e)
                return -ENOMEM;

        e->loop = loop;
        e->registry = registry;
        e->options = *options;
        e->options.brake_ms = options->brake_ms ?: BRAKE_MS;
        e->listener = (RegistryListener) { .on_change = on_change, .userdata = e };
        e->wake = DEFERRED(pass, e);
        e->again = TIMER(on_again, e);
        e->sweep = TIMER(on_sweep, e);
        registry_listen(registry, &e->listener);
        engine_state_changed(e);
        *ret = e;
        return 0;
}

uint64_t engine_brake(const Engine *e) {
        return e->options.brake_ms;
}

void engine_set_brake(Engine *e, uint64_t brake_ms) {
        brake_ms = brake_ms ?: BRAKE_MS;
        if (brake_ms == e->options.brake_ms)
                return;
        e->options.brake_ms = brake_ms;
        if (e->term > 0)
                mark_all(e);
}

Engine *engine_free(Engine *e) {
        if (!e)
                return NULL;
        registry_unlisten(e->registry, &e->listener);
        registry_forget(e->registry, e);
        stop(e);
        engine_plan_done(&e->plan);
        free(e);
        return NULL;
}
