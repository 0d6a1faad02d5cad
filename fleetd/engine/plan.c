/* The plan: for each unit, the changes that bring its assignments to the state that the cluster view
 * requires.
 *
 * The plan keeps no memory. Assignments, states and presences show which moves are under way, so that the
 * next leader continues them. */
#include "fleetd/engine/plan.h"

#include <stdarg.h>
#include <stdio.h>

#include "fleetd/engine/plan_internal.h"
#include "fleetd/registry/presence.h"

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
        UT_hash_handle hh;
};

void engine_plan_done(EnginePlan *plan) {
        free(plan->changes);
        names_done(&plan->rest);
        *plan = (EnginePlan) {};
}

static void plan_pass_done(Pass *pass) {
        PlanItem *item, *next;

        HASH_ITER(hh, pass->items, item, next) {
                HASH_DEL(pass->items, item);
                free(item);
        }
        scheduler_view_free(pass->view);
        brake_done(&pass->brake);
        free(pass->machines);
}

/* -- The state of an assignment -- */

bool plan_is_down(const ClusterMachine *m) {
        return m->presence == PRESENCE_LOST || m->presence == PRESENCE_LEFT;
}

const ClusterState *plan_state(const ClusterAssignment *o) {
        ClusterState *s;

        HASH_FIND_STR(o->machine->states, o->unit, s);
        return s;
}

bool plan_has_finished(const ClusterAssignment *o) {
        const ClusterState *s = plan_state(o);

        return s && s->state.done;
}

/* The agent removes a state together with its assignment, so that a state is never of an earlier assignment.
 */
bool plan_is_up(const ClusterAssignment *o) {
        const ClusterState *s = plan_state(o);

        if (!s)
                return false;
        if (s->state.done)
                return true;
        if (o->kind == ASSIGNMENT_LOAD)
                return s->state.load && streq(s->state.load, "loaded");
        return s->state.active && (streq(s->state.active, "active") || streq(s->state.active, "reloading"));
}

bool plan_is_current(const ClusterAssignment *o) {
        return o->unit_index == o->of->index;
}

AssignmentKind plan_wanted_kind(const ClusterUnit *u) {
        return u->target == TARGET_LAUNCHED ? ASSIGNMENT_RUN : ASSIGNMENT_LOAD;
}

static bool plan_is_wanted(const ClusterUnit *u) {
        return u->unit && u->target != TARGET_INACTIVE;
}

/* -- Changes -- */

int plan_change(Pass *pass, const ClusterMachine *m, const ClusterUnit *u, const ClusterAssignment *o,
                AssignmentKind kind, const char *format, ...) {
        EnginePlan *plan = pass->plan;
        bool in_place = o && cluster_assignment_is_active(o) && kind != ASSIGNMENT_STOP;
        AssignmentChange *c;
        va_list ap;
        int r;

        r = GROW(plan->changes, plan->capacity, plan->n + 1);
        if (r < 0)
                return r;

        c = &plan->changes[plan->n++];
        *c = (AssignmentChange) {
                .kind = kind,
                .expected_index = o ? o->index : 0,
                .unit_index = u->unit ? u->index : 0,
                .presence_index = kind == ASSIGNMENT_STOP || in_place ? 0 : m->presence_index,
                .since_ms = in_place ? o->since_ms : pass->cluster->now_ms,
        };
        memcpy(c->machine, m->id, sizeof(c->machine));
        memcpy(c->unit, u->name, sizeof(c->unit));
        va_start(ap, format);
        vsnprintf(c->reason, sizeof(c->reason), format, ap);
        va_end(ap);

        return kind == ASSIGNMENT_STOP ? scheduler_view_remove(pass->view, m->id, u) :
                                         scheduler_view_place(pass->view, m->id, u);
}

int plan_keep(Pass *pass, const ClusterAssignment *o) {
        const ClusterUnit *u = o->of;

        if (o->kind != plan_wanted_kind(u))
                return plan_change(pass, o->machine, u, o, plan_wanted_kind(u), "its target is %s",
                                   target_state_to_string(u->target));
        if (!plan_is_current(o))
                return plan_change(pass, o->machine, u, o, o->kind, "its unit file has changed");
        return 0;
}

bool plan_is_stray(const ClusterState *s) {
        ClusterAssignment *o;

        HASH_FIND_STR(s->machine->assignments, s->unit, o);
        return !o && s->machine->presence == PRESENCE_UP;
}

int plan_stop_strays(Pass *pass, const ClusterUnit *u, const char *reason) {
        int r;

        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit)) {
                if (!plan_is_stray(s))
                        continue;
                r = plan_change(pass, s->machine, u, NULL, ASSIGNMENT_STOP, "%s", reason);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int plan_unwanted(Pass *pass, const ClusterUnit *u) {
        const char *reason = u->unit ? "its target is inactive" : "it was destroyed";
        int r;

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit)) {
                if (!cluster_assignment_is_active(o))
                        continue;
                r = plan_change(pass, o->machine, u, o, ASSIGNMENT_STOP, "%s", reason);
                if (r < 0)
                        return r;
        }
        /* A running unit that the cluster does not contain is unknown, not removed: it continues. */
        return u->unit ? plan_stop_strays(pass, u, reason) : 0;
}

/* -- The units of a pass -- */

static int plan_add(Pass *pass, const ClusterUnit *u) {
        _cleanup_free_ PlanItem *fresh = NULL;
        PlanItem *item;

        HASH_FIND_PTR(pass->items, &u, item);
        if (item)
                return 0;

        fresh = NEW0(PlanItem, 1);
        if (!fresh)
                return -ENOMEM;

        fresh->unit = u;
        fresh->phase = PHASE_PLAIN;
        if (u->unit && u->unit->placement.machine_of.n > 0)
                fresh->phase = PHASE_FOLLOWING;
        else if (u->unit && u->unit->placement.replaces.n > 0)
                fresh->phase = PHASE_REPLACING;
        HASH_ADD_PTR(pass->items, unit, fresh);
        if (!TABLE_ADDED(fresh))
                return -ENOMEM;
        (void) TAKE_PTR(fresh);
        pass->sorted = false;
        return 0;
}

static int plan_add_machine(Pass *pass, const ClusterMachine *m) {
        int r;

        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next) {
                r = plan_add(pass, o->of);
                if (r < 0)
                        return r;
        }
        return 0;
}

typedef struct RelatedSearch {
        Pass *pass;
        int error;
} RelatedSearch;

static bool plan_on_related(void *userdata, const Placed *placed, const char *pattern) {
        RelatedSearch *s = userdata;

        s->error = placed->assignment ? plan_add(s->pass, placed->unit) : 0;
        return s->error >= 0;
}

/* Add the units on the machine whose options name 'u', or that the options of 'u' name. */
static void plan_add_related_on(RelatedSearch *s, const ClusterUnit *u, const ClusterMachine *m) {
        static const ClusterRule rules[] = { CLUSTER_CONFLICTS, CLUSTER_REPLACES };

        for (size_t i = 0; i < ELEMENTS(rules); i++) {
                const Names *own = u->unit ? cluster_rule(&u->unit->placement, rules[i]) : NULL;

                if (s->error >= 0)
                        scheduler_view_each_naming(s->pass->view, m, rules[i], u->name, plan_on_related, s);
                for (size_t k = 0; own && k < own->n && s->error >= 0; k++)
                        scheduler_view_each_named(s->pass->view, m, own->items[k], plan_on_related, s);
        }
}

/* Add the units that the changes of 'u' from the n-th on may affect: related units on those machines, and the
 * units that follow 'u'. The next plan considers those whose phase is over, as a full pass does. */
static int plan_add_related(Pass *pass, const ClusterUnit *u, size_t n) {
        const Pattern *followers = patterns_find(&pass->cluster->rules[CLUSTER_MACHINE_OF], u->name);
        RelatedSearch s = { .pass = pass };

        for (; n < pass->plan->n && s.error >= 0; n++)
                plan_add_related_on(&s, u, cluster_machine(pass->cluster, pass->plan->changes[n].machine));
        for (size_t i = 0; followers && i < followers->n && s.error >= 0; i++)
                s.error = plan_add(pass, followers->units[i]);
        return s.error;
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

static size_t plan_work(const Pass *pass) {
        return pass->n_planned + scheduler_view_work(pass->view);
}

static bool plan_is_full(const Pass *pass) {
        return pass->plan->n >= ENGINE_PLAN_MAX ||
               (pass->limits->work_max > 0 && plan_work(pass) >= pass->limits->work_max);
}

static int plan_unit(Pass *pass, PlanItem *item) {
        const ClusterUnit *u = item->unit;
        size_t n = pass->plan->n;
        int r;

        pass->n_planned++;
        item->done = true;
        if (!plan_is_wanted(u))
                r = plan_unwanted(pass, u);
        else if (u->unit->placement.global)
                r = global_unit(pass, u);
        else
                r = move_unit(pass, u);
        if (r < 0)
                return r;
        if (pass->plan->more) { /* a global unit, and not all its machines */
                item->done = false;
                return 0;
        }
        item->planned = pass->plan->n > n;
        return item->planned ? plan_add_related(pass, u, n) : 0;
}

/* Plan each unit of a phase once that has no changes yet. Return whether there are new changes, or a negative
 * errno. */
static int plan_run_phase(Pass *pass, unsigned phase) {
        size_t before = pass->plan->n;
        int r;

        for (PlanItem *item = pass->items; item; item = item->hh.next)
                item->done = item->done && item->phase != phase;
        plan_sort(pass);
        for (PlanItem *item = pass->items; item && !pass->plan->more; item = item->hh.next) {
                if (item->phase != phase || item->planned || plan_is_excluded(pass, item->unit))
                        continue;
                if (pass->n_planned > 0 && plan_is_full(pass)) {
                        pass->plan->more = true;
                        break;
                }
                r = plan_unit(pass, item);
                if (r < 0)
                        return r;
                plan_sort(pass);
        }
        return pass->plan->n > before;
}

static int plan_run(Pass *pass) {
        int r;

        for (unsigned phase = PHASE_REPLACING; phase < PHASE_FOLLOWING && !pass->plan->more; phase++) {
                r = plan_run_phase(pass, phase);
                if (r < 0)
                        return r;
        }

        /* A unit may follow one that is later by name: repeat until nothing changes. */
        do {
                r = pass->plan->more ? 0 : plan_run_phase(pass, PHASE_FOLLOWING);
        } while (r > 0);
        return r < 0 ? r : 0;
}

static int plan_list_rest(Pass *pass) {
        for (const PlanItem *item = pass->plan->more ? pass->items : NULL; item; item = item->hh.next) {
                if (item->done || item->planned || plan_is_excluded(pass, item->unit))
                        continue;
                if (names_add(&pass->plan->rest, item->unit->name, strlen(item->unit->name)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* -- The brake -- */

/* A unit with several assignments on lost hosts moves with the host that was lost last. */
static bool plan_is_later_loss(const ClusterMachine *a, const ClusterMachine *b) {
        if (a->presence != PRESENCE_LOST || a == b)
                return false;
        return a->since_ms != b->since_ms ? a->since_ms > b->since_ms : strcmp(a->id, b->id) > 0;
}

/* Return whether the move of this unit away from its lost host is complete, or another machine decides about
 * it. */
static bool plan_move_is_complete(const Pass *pass, const ClusterAssignment *o) {
        const ClusterAssignment *newest = o;
        const ClusterMachine *unused;
        const ClusterState *s;
        bool elsewhere = false;

        for (const ClusterAssignment *other = LIST_FIRST(&o->of->assignments); other;
             other = LIST_NEXT(other, of_unit)) {
                if (!cluster_assignment_is_active(other))
                        continue;
                if (other->machine->presence == PRESENCE_UP && other->since_ms >= newest->since_ms)
                        newest = other;
                elsewhere = elsewhere || plan_is_later_loss(other->machine, o->machine) ||
                            other->machine->presence == PRESENCE_AWAY || plan_has_finished(other);
        }
        if (newest == o)
                return elsewhere || scheduler_pick(pass->view, o->of, &unused, NULL) < 0;
        s = plan_state(newest);
        return s && !(s->state.active && streq(s->state.active, "activating"));
}

/* The brake releases one host after the other, each when the moves from the hosts before it are complete. */
static bool plan_host_is_through(void *userdata, const ClusterMachine *m) {
        const Pass *pass = userdata;

        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next) {
                if (!cluster_assignment_is_active(o) || cluster_unit_is_unreadable(o->of) ||
                    !plan_is_wanted(o->of) || o->of->unit->placement.global || plan_has_finished(o))
                        continue;
                if (!plan_move_is_complete(pass, o))
                        return false;
        }
        return true;
}

int plan_update_brake(Pass *pass, uint64_t brake_ms) {
        return brake_update(pass->cluster, brake_ms, plan_host_is_through, pass, &pass->brake);
}

/* Hosts that the brake releases: a host's release depends on the units of the hosts before it. */
static int plan_add_released(Pass *pass) {
        int r;

        for (size_t i = 0; i < pass->brake.n_free; i++)
                pass->plan->freed += pass->brake.hosts[i]->presence_index;
        for (size_t i = 0; i < pass->brake.n_free && pass->limits->freed != pass->plan->freed; i++) {
                r = plan_add_machine(pass, pass->brake.hosts[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* -- The public interface -- */

static int plan_add_all(Pass *pass, const char *const *units, size_t n_units) {
        const ClusterUnit *u;
        int r;

        for (u = units ? NULL : pass->cluster->units; u; u = u->hh.next) {
                r = plan_add(pass, u);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < n_units; i++) {
                u = cluster_any_unit(pass->cluster, units[i]);
                r = u ? plan_add(pass, u) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                EnginePlan *ret) {
        return engine_plan_within(cluster, units, n_units, brake_ms, &(EnginePlanLimits) {}, ret);
}

int engine_plan_within(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                       const EnginePlanLimits *limits, EnginePlan *ret) {
        _cleanup_(engine_plan_done) EnginePlan plan = { .again_ms = UINT64_MAX };
        _cleanup_(plan_pass_done) Pass pass = { .cluster = cluster, .plan = &plan, .limits = limits };
        int r;

        r = scheduler_view_new(cluster, cluster->now_ms, &pass.view);
        if (r < 0)
                return r;
        r = plan_update_brake(&pass, brake_ms);
        if (r < 0)
                return r;

        plan.again_ms = pass.brake.again_ms;
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                uint64_t damped_ms = presence_hold_off_ms(m, cluster->now_ms);

                if (damped_ms > 0)
                        plan.again_ms = MIN(plan.again_ms, damped_ms);
        }
        r = plan_add_released(&pass);
        if (r < 0)
                return r;
        r = plan_add_all(&pass, units, n_units);
        if (r < 0)
                return r;
        r = plan_run(&pass);
        if (r < 0)
                return r;
        r = plan_list_rest(&pass);
        if (r < 0)
                return r;
        plan.work = plan_work(&pass);

        *ret = plan;
        plan = (EnginePlan) {};
        return 0;
}
