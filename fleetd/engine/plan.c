/* The plan: for each unit, the changes that bring its assignments to the state that the cluster view
 * requires.
 *
 * The plan keeps no memory. Assignments, states and presences show which moves are under way, so that the
 * next leader continues them. */
#include "fleetd/engine/plan.h"

#include <stdarg.h>
#include <stdio.h>

#include "fleetd/engine/plan_internal.h"
#include "fleetd/engine/rollout.h"
#include "fleetd/registry/presence.h"
#include "units/singleton.h"

/* A unit to plan, after the units that its placement depends on. */
struct PlanItem {
        const ClusterUnit *unit;
        enum {
                PHASE_REPLACING, /* Replaces= */
                PHASE_PLAIN,
                PHASE_FOLLOWING, /* MachineOf= */
        } phase;
        bool planned; /* has changes in this plan; the next plan considers it again */
        bool done;    /* considered in this round of its phase */
        char *wait;   /* owned: EngineWait.reason */
        UT_hash_handle hh;
};

void engine_plan_done(EnginePlan *plan) {
        free(plan->changes);
        for (size_t i = 0; i < plan->n_waits; i++)
                free(plan->waits[i].reason);
        free(plan->waits);
        free(plan->ends);
        names_done(&plan->rest);
        *plan = (EnginePlan) {};
}

void plan_budgets_done(Pass *pass) {
        PlanBudget *budget, *next;

        HASH_ITER(hh, pass->budgets, budget, next) {
                HASH_DEL(pass->budgets, budget);
                free(budget);
        }
}

static void plan_pass_done(Pass *pass) {
        PlanItem *item, *next;

        HASH_ITER(hh, pass->items, item, next) {
                HASH_DEL(pass->items, item);
                free(item->wait);
                free(item);
        }
        scheduler_view_free(pass->view);
        brake_done(&pass->brake);
        free(pass->drains.starting);
        plan_budgets_done(pass);
        free(pass->machines);
}

/* -- The state of an assignment -- */

/* A daemon of an older version may publish that of a unit whose class does not finish. */
bool plan_has_finished(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return s && s->state.done && (!o->of->unit || unit_finishes(o->of->unit));
}

/* The agent removes a state together with its assignment, so that a state is never of an earlier assignment.
 */
bool plan_is_up(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        if (!s)
                return false;
        if (plan_has_finished(o))
                return true;
        if (o->kind == ASSIGNMENT_LOAD)
                return s->state.load && streq(s->state.load, "loaded");
        return active_state_is_up(s->state.active);
}

bool plan_is_healthy(const ClusterAssignment *o) {
        const ClusterState *s = o->state;

        return plan_is_up(o) && s->state.health != UNIT_HEALTH_FAILING &&
               s->state.health != UNIT_HEALTH_STARTING;
}

bool plan_is_available(const ClusterAssignment *o, bool published) {
        return published && o->kind == ASSIGNMENT_RUN ? rollout_is_available(o) : plan_is_up(o);
}

bool plan_is_current(const ClusterAssignment *o) {
        return o->hash[0] ? streq(o->hash, o->of->unit->hash) : o->unit_index == o->of->index;
}

bool plan_has_former_text(const ClusterAssignment *o) {
        return o->hash[0] && !plan_is_current(o);
}

AssignmentKind plan_wanted_kind(const ClusterUnit *u) {
        return u->target == TARGET_LAUNCHED ? ASSIGNMENT_RUN : ASSIGNMENT_LOAD;
}

bool plan_is_wanted(const ClusterUnit *u) {
        return u->unit && u->target != TARGET_INACTIVE;
}

bool engine_may_leave(const ClusterAssignment *o) {
        return cluster_assignment_is_active(o) && !cluster_unit_is_unreadable(o->of) &&
               plan_is_wanted(o->of) && !plan_has_finished(o);
}

/* -- Changes -- */

/* The process of a singleton may have any of the texts that its machine was assigned. */
uint64_t plan_hold_ms(const Cluster *cluster, const Unit *text, const ClusterAssignment *o,
                      AssignmentKind kind) {
        uint64_t hold_ms = o ? o->hold_ms : 0, lease_ms;

        if (kind == ASSIGNMENT_STOP)
                return hold_ms;
        if (!text->placement.singleton)
                return 0;
        lease_ms = singleton_lease_ms(cluster_settings(cluster)->singleton_lease_ms);
        return MAX(hold_ms, singleton_hold_ms(&text->file, lease_ms));
}

bool plan_names_texts(const Pass *pass) {
        return pass->limits && pass->limits->names_texts;
}

static void plan_set_wanted_text(AssignmentChange *c, const ClusterUnit *u) {
        c->text_index = 0;
        c->revision = revisions_wanted(&u->unit->revisions);
        memcpy(c->hash, u->unit->hash, sizeof(c->hash));
        memcpy(c->base, u->unit->base, sizeof(c->base));
        c->own = u->unit->own;
}

void plan_set_text(AssignmentChange *c, const ClusterAssignment *of) {
        c->text_index = of->unit_index;
        c->revision = of->revision;
        memcpy(c->hash, of->hash, sizeof(c->hash));
        memcpy(c->base, of->base, sizeof(c->base));
        c->own = of->own;
        if (streq(c->machine, of->machine->id))
                memcpy(c->instead, of->instead, sizeof(c->instead));
}

/* Return the assignment whose text another one of the unit gets, too: no move and no replacement changes a
 * text. NULL: it gets the wanted text, also if the text was reported, and the cluster does not have it. */
static const ClusterAssignment *plan_text_source(const ClusterUnit *u) {
        const ClusterAssignment *newest = NULL, *stopped = NULL;

        if (u->unit->placement.global)
                return NULL;

        for (const ClusterAssignment *a = LIST_FIRST(&u->assignments); a; a = LIST_NEXT(a, of_unit)) {
                const ClusterAssignment **of = cluster_assignment_is_active(a) ? &newest : &stopped;

                if (a->revision > 0 && a->hash[0] && (of == &newest || a->index > u->target_index) &&
                    (!*of || cluster_assignment_is_newer(a, *of)))
                        *of = a;
        }
        return newest ?: stopped; /* one that stops first is still wanted: no user has stopped it */
}

/* Return whether a step of this rollout gave the unit, which was wanted before, its text: that is in its key
 * while it moves and has no machine. */
static bool plan_was_updated(const ClusterUnit *u, const RolloutRecord *r) {
        return u->unit->from && streq(u->unit->base, r->to.hash) && u->index > r->begun &&
               u->target_index <= r->begun;
}

/* The guard of a process is that of its text. */
static void plan_keep_text(AssignmentChange *c, const ClusterAssignment *o, const ClusterAssignment *source) {
        plan_set_text(c, source);
        if (plan_has_former_text(source))
                c->hold_ms = MAX(o ? o->hold_ms : 0, source->hold_ms);
}

/* Return whether only the machines that have this text can run it: the drop-ins of the instance have changed
 * since. */
static bool plan_has_former_drop_ins(const ClusterUnit *u, const ClusterAssignment *source) {
        return plan_has_former_text(source) && source->own != u->unit->own;
}

static void plan_choose_text(const Pass *pass, AssignmentChange *c, const ClusterUnit *u,
                             const ClusterAssignment *o, const ClusterAssignment *in_place) {
        const ClusterAssignment *source = in_place ?: plan_text_source(u);
        const RolloutRecord *rollout = rollout_head(pass->cluster, u)->rollout;

        if (!plan_names_texts(pass))
                return;
        plan_set_wanted_text(c, u);
        if (source && source->hash[0] && (in_place || !plan_has_former_drop_ins(u, source)))
                plan_keep_text(c, o, source);
        else if (rollout && rollout->state != ROLLOUT_DONE && rollout->completed.number > 0 &&
                 u->unit->own_size == 0 && !plan_was_updated(u, rollout)) {
                c->revision = rollout->completed.number; /* an instance that is new during a rollout */
                c->hold_ms = MAX(o ? o->hold_ms : 0, rollout->hold_ms);
                memcpy(c->hash, rollout->completed.hash, sizeof(c->hash));
                memcpy(c->base, c->hash, sizeof(c->base));
                c->own = 0;
        }
}

/* Return whether the unit is a set of its own, which is on one machine: while no process of it has its former
 * text, no step is needed for the wanted one. */
static bool plan_is_alone(const Pass *pass, const ClusterUnit *u) {
        return plan_names_texts(pass) && !u->unit->placement.global && rollout_head(pass->cluster, u) == u;
}

/* Return whether it is not known which text a unit without one gets: a later version of fleetd has written
 * the rollout of its set. */
static bool plan_lacks_text(Pass *pass, const ClusterUnit *u) {
        const ClusterUnit *head = rollout_head(pass->cluster, u);
        const ClusterAssignment *source = plan_text_source(u);

        if (!plan_names_texts(pass) || (source && source->hash[0]) ||
            !cluster_unit_has_unreadable(head, LAYOUT_ROLLOUT))
                return false;
        plan_wait(pass, u, "the rollout of %s: " CLUSTER_UNREADABLE, head->name);
        return true;
}

/* Return whether the target state of a loaded unit was requested again after its assignment: what runs of it,
 * by a timer or by hand, stops. A target state that was written with a text has the index of the text. While
 * the unit moves, the times of its assignments have the order of its machines. A request from before the
 * upgrade of the machine stops nothing, as it did then: other facts followed it. */
static bool plan_stops_again(const ClusterAssignment *o) {
        const ClusterUnit *u = o->of;

        return o->kind == ASSIGNMENT_LOAD && u->unit && u->target == TARGET_LOADED &&
               u->target_index > MAX(o->index, u->index) && move_takes_finished(o->machine) &&
               u->target_index > o->machine->place_index &&
               (u->unit->placement.global || (LIST_FIRST(&u->assignments) == o && !LIST_NEXT(o, of_unit)));
}

void plan_change(Pass *pass, const ClusterMachine *m, const ClusterUnit *u, const ClusterAssignment *o,
                 AssignmentKind kind, const char *format, ...) {
        EnginePlan *plan = pass->plan;
        bool in_place = o && cluster_assignment_is_active(o) && kind != ASSIGNMENT_STOP;
        /* A start after a stop: the agent may not have seen the load assignment in between, and an agent does
         * not start a unit again for the same assignment. */
        bool starts = in_place && kind == ASSIGNMENT_RUN && o->kind == ASSIGNMENT_LOAD;
        bool again = in_place && plan_stops_again(o);
        const char *reported = kind == ASSIGNMENT_RUN ? reported_text(pass, m, u) : NULL;
        AssignmentChange *c;
        int r;
        va_list ap;

        if (GROW(plan->changes, plan->capacity, plan->n + 1) < 0) {
                pass->error = -ENOMEM;
                return;
        }
        c = &plan->changes[plan->n++];
        *c = (AssignmentChange) {
                .kind = kind,
                .expected_index = o ? o->index : 0,
                .unit_index = u->unit ? u->index : 0,
                .presence_index = kind == ASSIGNMENT_STOP || in_place ? 0 : m->presence_index,
                .since_ms = in_place && !starts && !again ? o->since_ms : pass->cluster->now_ms,
                .hold_ms = plan_hold_ms(pass->cluster, u->unit, o, kind),
                .finished = kind == ASSIGNMENT_RUN && !starts &&
                            (in_place ? o->finished : move_is_of_finished(u)),
        };
        memcpy(c->machine, m->id, sizeof(c->machine));
        memcpy(c->unit, u->name, sizeof(c->unit));
        if (starts && plan_is_alone(pass, u))
                plan_set_wanted_text(c, u);
        else if (reported)
                reported_set_text(c, rollout_head(pass->cluster, u), reported);
        else if (kind != ASSIGNMENT_STOP)
                plan_choose_text(pass, c, u, o, in_place ? o : NULL);
        else if (o) {
                c->revision = o->revision;
                memcpy(c->hash, o->hash, sizeof(c->hash));
                memcpy(c->base, o->base, sizeof(c->base));
                c->own = o->own;
        }
        va_start(ap, format);
        text_format_list(c->reason, sizeof(c->reason), format, ap);
        va_end(ap);

        r = scheduler_view_decide(pass->view, m, u, kind != ASSIGNMENT_STOP);
        if (r < 0)
                pass->error = r;
}

void plan_stop_replaced(Pass *pass, const ClusterAssignment *o, const ClusterAssignment *by) {
        bool runs = by->state && active_state_is_up(by->state->state.active);
        char name[CLUSTER_LABEL_SIZE];

        plan_change(pass, o->machine, o->of, o, ASSIGNMENT_STOP,
                    runs ? "it runs on %s now" : "it is on %s now", cluster_machine_label(by->machine, name));
}

/* The assignment keeps the reason for its machine. */
static void plan_retarget(Pass *pass, const ClusterAssignment *o) {
        AssignmentKind kind = plan_wanted_kind(o->of);
        size_t n = pass->plan->n;

        plan_change(pass, o->machine, o->of, o, kind, "%s",
                    o->reason && *o->reason ? o->reason : cluster_target_reason(kind));
        if (pass->plan->n > n)
                pass->plan->changes[n].by_target = true;
}

void plan_keep(Pass *pass, const ClusterAssignment *o) {
        const ClusterUnit *u = o->of;
        AssignmentKind kind = bound_kind(pass, o);
        char name[CLUSTER_LABEL_SIZE];

        if (o->kind != kind && kind != plan_wanted_kind(u))
                plan_change(pass, o->machine, u, o, kind,
                            "the deadline of the drain of %s has passed, and it waits there (Move=no)",
                            cluster_machine_label(o->machine, name));
        else if (o->kind == ASSIGNMENT_LOAD && kind == ASSIGNMENT_RUN && bound_is(o) &&
                 o->index > u->target_index)
                plan_change(pass, o->machine, u, o, kind, "it has stayed on %s (Move=no)",
                            cluster_machine_label(o->machine, name));
        else if (o->kind != kind || plan_stops_again(o))
                plan_retarget(pass, o);
        else if (!plan_names_texts(pass) && !plan_is_current(o))
                plan_change(pass, o->machine, u, o, o->kind, "its unit file has changed");
        else if ((plan_names_texts(pass) && plan_is_current(o) && !o->hash[0]) ||
                 reported_text(pass, o->machine, u))
                plan_change(pass, o->machine, u, o, o->kind, "%s", o->reason ?: "");
}

void plan_wait(Pass *pass, const ClusterUnit *u, const char *format, ...) {
        PlanItem *item;
        va_list ap;

        HASH_FIND_PTR(pass->items, &u, item);
        if (!item)
                return;
        free(item->wait);
        va_start(ap, format);
        if (vasprintf(&item->wait, format, ap) < 0) {
                item->wait = NULL;
                pass->error = -ENOMEM;
        }
        va_end(ap);
}

bool plan_has_changes(const Pass *pass, const ClusterUnit *u) {
        const PlanItem *item;

        HASH_FIND_PTR(pass->items, &u, item);
        return item && item->planned;
}

bool plan_is_stray(const ClusterState *s) {
        return !cluster_assignment_on(s->machine, s->unit) && s->machine->presence == PRESENCE_UP;
}

void plan_stop_strays(Pass *pass, const ClusterUnit *u, const char *reason) {
        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit))
                if (plan_is_stray(s))
                        plan_change(pass, s->machine, u, NULL, ASSIGNMENT_STOP, "%s", reason);
}

static void plan_unwanted(Pass *pass, const ClusterUnit *u) {
        const char *reason = u->unit ? "its target state is inactive" : "it was destroyed";

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (cluster_assignment_is_active(o))
                        plan_change(pass, o->machine, u, o, ASSIGNMENT_STOP, "%s", reason);
        /* A running unit that the cluster does not contain is unknown, not removed: it continues. */
        if (u->unit)
                plan_stop_strays(pass, u, reason);
}

/* -- The units of a pass -- */

static void plan_add(Pass *pass, const ClusterUnit *u) {
        const Placement *p = u->unit ? &u->unit->placement : NULL;
        PlanItem *item;

        HASH_FIND_PTR(pass->items, &u, item);
        if (item)
                return;

        item = NEW0(PlanItem, 1);
        if (item) {
                item->unit = u;
                item->phase = PHASE_PLAIN;
                if (p && p->machine_of.n + p->triggers.n > 0)
                        item->phase = PHASE_FOLLOWING;
                else if (p && p->replaces.n > 0)
                        item->phase = PHASE_REPLACING;
                HASH_ADD_PTR(pass->items, unit, item);
        }
        if (!item || !TABLE_ADDED(item)) {
                free(item);
                pass->error = -ENOMEM;
                return;
        }
        pass->sorted = false;
}

static bool plan_on_related(void *userdata, const Placed *placed, const char *pattern) {
        Pass *pass = userdata;

        if (placed->assignment)
                plan_add(pass, placed->unit);
        return pass->error == 0;
}

/* Add the units on the machine whose options name 'u', or that the options of 'u' name. */
static void plan_add_related_on(Pass *pass, const ClusterUnit *u, const ClusterMachine *m) {
        static const ClusterRule rules[] = { CLUSTER_CONFLICTS, CLUSTER_REPLACES };

        for (size_t i = 0; i < ELEMENTS(rules); i++) {
                const Names *own = u->unit ? cluster_rule(&u->unit->placement, rules[i]) : NULL;

                scheduler_view_each_naming(pass->view, m, rules[i], u->name, plan_on_related, pass);
                for (size_t k = 0; own && k < own->n; k++)
                        scheduler_view_each_named(pass->view, m, own->items[k], plan_on_related, pass);
        }
}

/* Add the units that the changes of 'u' from the n-th on may affect: related units on those machines, and the
 * units that follow 'u'. The next plan considers those whose phase is over, as a full pass does. */
static void plan_add_related(Pass *pass, const ClusterUnit *u, size_t n) {
        static const ClusterRule following[] = { CLUSTER_MACHINE_OF, CLUSTER_TRIGGERS };

        for (; n < pass->plan->n; n++)
                plan_add_related_on(pass, u, cluster_machine(pass->cluster, pass->plan->changes[n].machine));
        for (size_t k = 0; k < ELEMENTS(following); k++) {
                const Pattern *followers = patterns_find(&pass->cluster->rules[following[k]], u->name);

                for (size_t i = 0; followers && i < followers->n; i++)
                        plan_add(pass, followers->units[i]);
        }
}

static int plan_compare_names(const PlanItem *a, const PlanItem *b) {
        return strcmp(a->unit->name, b->unit->name);
}

static void plan_sort(Pass *pass) {
        if (!pass->sorted)
                HASH_SRT(hh, pass->items, plan_compare_names);
        pass->sorted = true;
}

/* -- The pass -- */

/* Return whether the plan leaves the unit unchanged: too little of it is readable, or the store rejected its
 * changes. */
static bool plan_is_excluded(const Pass *pass, const ClusterUnit *u) {
        return cluster_unit_is_unreadable(u) ||
               (pass->limits->is_held && pass->limits->is_held(pass->limits->userdata, u->name));
}

static bool plan_has_ended(const Pass *pass) {
        return pass->plan->more || pass->error < 0;
}

static size_t plan_work(const Pass *pass) {
        return pass->n_planned + scheduler_view_work(pass->view);
}

static bool plan_is_full(const Pass *pass) {
        return pass->plan->n >= ENGINE_PLAN_MAX ||
               (pass->limits->work_max > 0 && plan_work(pass) >= pass->limits->work_max);
}

/* Return false if it is not known yet which text the unit gets. */
static bool plan_assignments(Pass *pass, const ClusterUnit *u) {
        if (!plan_is_wanted(u))
                plan_unwanted(pass, u);
        else if (plan_lacks_text(pass, u))
                return false;
        else if (u->unit->placement.global)
                global_unit(pass, u);
        else if (singleton_is(u))
                singleton_unit(pass, u);
        else
                move_unit(pass, u);
        return true;
}

static void plan_unit(Pass *pass, PlanItem *item) {
        const ClusterUnit *u = item->unit;
        size_t n = pass->plan->n;

        pass->n_planned++;
        item->done = true;
        free(item->wait);
        item->wait = NULL;
        if (u->move && move_ends(pass, u))
                return;
        reconnect_unit(pass, u);
        if (pass->plan->n == n && !plan_assignments(pass, u))
                return;
        if (pass->plan->more) { /* a global unit, and not all its machines */
                item->done = false;
                return;
        }
        item->planned = pass->plan->n > n;
        if (item->planned)
                plan_add_related(pass, u, n);
}

/* Plan each unit of a phase once that has no changes yet. Return whether there are new changes. */
static bool plan_run_phase(Pass *pass, unsigned phase) {
        size_t before = pass->plan->n;

        for (PlanItem *item = pass->items; item; item = item->hh.next)
                item->done = item->done && item->phase != phase;
        plan_sort(pass);
        for (PlanItem *item = pass->items; item && !plan_has_ended(pass); item = item->hh.next) {
                if (item->phase != phase || item->planned || plan_is_excluded(pass, item->unit))
                        continue;
                if (pass->n_planned > 0 && plan_is_full(pass)) {
                        pass->plan->more = true;
                        break;
                }
                plan_unit(pass, item);
                plan_sort(pass);
        }
        return pass->plan->n > before;
}

static void plan_run(Pass *pass) {
        for (unsigned phase = PHASE_REPLACING; phase < PHASE_FOLLOWING && !plan_has_ended(pass); phase++)
                (void) plan_run_phase(pass, phase);

        /* A unit may follow one that is later by name: repeat until nothing changes. */
        while (!plan_has_ended(pass) && plan_run_phase(pass, PHASE_FOLLOWING))
                ;
}

static void plan_list_rest(Pass *pass) {
        for (const PlanItem *item = pass->plan->more ? pass->items : NULL; item; item = item->hh.next) {
                if (item->done || item->planned || plan_is_excluded(pass, item->unit))
                        continue;
                if (names_add(&pass->plan->rest, item->unit->name, strlen(item->unit->name)) < 0)
                        pass->error = -ENOMEM;
        }
}

/* Units that a full plan has left out have no entry: the next plan considers them. */
static void plan_list_waits(Pass *pass) {
        EnginePlan *plan = pass->plan;

        if (!pass->items)
                return;
        plan->waits = NEW0(EngineWait, HASH_COUNT(pass->items));
        if (!plan->waits) {
                pass->error = -ENOMEM;
                return;
        }
        for (PlanItem *item = pass->items; item; item = item->hh.next)
                if (item->done || item->planned)
                        plan->waits[plan->n_waits++] = (EngineWait) { .unit = item->unit,
                                                                      .reason = TAKE_PTR(item->wait) };
}

/* Hosts that the brake releases: a host's release depends on the units of the hosts before it. */
static void plan_add_released(Pass *pass) {
        const Brake *brake = &pass->brake;

        for (size_t i = 0; i < brake->n_free; i++)
                pass->plan->freed += brake->hosts[i]->presence_index;
        for (size_t i = 0; i < brake->n_free && pass->limits->freed != pass->plan->freed; i++)
                for (const ClusterAssignment *o = brake->hosts[i]->assignments; o; o = o->hh.next)
                        plan_add(pass, o->of);
}

/* -- The public interface -- */

static void plan_add_all(Pass *pass, const char *const *units, size_t n_units) {
        const ClusterUnit *u;

        for (u = units ? NULL : pass->cluster->units; u; u = u->hh.next)
                plan_add(pass, u);
        for (size_t i = 0; i < n_units; i++) {
                u = cluster_any_unit(pass->cluster, units[i]);
                if (u)
                        plan_add(pass, u);
        }
}

/* Return when flap damping or the deadline of a drain ends next, at most 'again_ms'. */
static uint64_t plan_again_ms(const Cluster *cluster, uint64_t again_ms) {
        bool any = cluster->counts[MACHINES_HELD_OFF] > 0 || cluster->counts[MACHINES_MAINTAINED] > 0;

        for (const ClusterMachine *m = any ? cluster->machines : NULL; m; m = m->hh.next) {
                uint64_t damped_ms = presence_hold_off_ms(m, cluster->now_ms);

                if (damped_ms > 0)
                        again_ms = MIN(again_ms, damped_ms);
                if (m->maintenance && m->maintenance->deadline_ms > cluster->now_ms)
                        again_ms = MIN(again_ms, m->maintenance->deadline_ms - cluster->now_ms);
        }
        return again_ms;
}

int engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                const EnginePlanLimits *limits, EnginePlan *ret) {
        _cleanup_(engine_plan_done) EnginePlan plan = { .again_ms = UINT64_MAX };
        _cleanup_(plan_pass_done) Pass pass = { .cluster = cluster, .plan = &plan, .limits = limits };
        int r;

        if (units && n_units == 0 && !brake_is_possible(cluster)) {
                *ret = (EnginePlan) { .again_ms = plan_again_ms(cluster, UINT64_MAX) };
                return 0;
        }
        r = scheduler_view_new(cluster, cluster->now_ms, &pass.view);
        if (r < 0)
                return r;
        r = brake_update(&pass, brake_ms);
        if (r < 0)
                return r;

        plan.again_ms = plan_again_ms(cluster, pass.brake.again_ms);
        plan_add_released(&pass);
        plan_add_all(&pass, units, n_units);
        plan_run(&pass);
        plan_list_rest(&pass);
        plan_list_waits(&pass);
        if (pass.error < 0)
                return pass.error;

        plan.work = plan_work(&pass);
        *ret = plan;
        plan = (EnginePlan) {};
        return 0;
}

bool engine_awaits_reports(const Cluster *c, const ClusterMachine **ret_missing, uint64_t *ret_again_ms) {
        const ClusterMachine *missing = NULL;
        uint64_t end_ms;

        if (!c->adopting || c->adopting_since_ms == 0)
                return false;

        /* The first by ID, so that the log names each host once. */
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (cluster_awaits_report(c, m) && (!missing || strcmp(m->id, missing->id) < 0))
                        missing = m;
        if (!missing)
                return false;

        end_ms = c->adopting_since_ms > UINT64_MAX - ADOPTION_MS ? UINT64_MAX :
                                                                   c->adopting_since_ms + ADOPTION_MS;
        if (c->now_ms >= end_ms)
                return false;
        *ret_missing = missing;
        *ret_again_ms = end_ms == UINT64_MAX ? UINT64_MAX : end_ms - c->now_ms;
        return true;
}
