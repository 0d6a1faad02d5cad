/* The plan: for each unit, the changes that bring its assignments to the state that the cluster view
 * requires.
 *
 * The plan keeps no memory. Assignments, states and presences show which moves are under way, so that the
 * next leader continues them. */
#include "fleetd/engine/plan.h"

#include "fleetd/engine/plan_internal.h"
#include "fleetd/registry/presence.h"

void engine_plan_done(EnginePlan *plan) {
        free(plan->changes);
        for (size_t i = 0; i < plan->n_waits; i++)
                free(plan->waits[i].why);
        free(plan->waits);
        free(plan->ends);
        names_done(&plan->rest);
        *plan = (EnginePlan) {};
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
        position_budgets_done(pass);
        free(pass->machines);
}

static void plan_unwanted(Pass *pass, const ClusterUnit *u) {
        VerdictCode why = u->unit ? VERDICT_TO_BE_INACTIVE : VERDICT_DESTROYED;

        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (cluster_assignment_is_active(o))
                        plan_change(pass, o->machine, u, ASSIGNMENT_STOP, why, "%s", "");
        /* A running unit that the cluster does not contain is unknown, not removed: it continues. */
        if (u->unit)
                plan_stop_strays(pass, u, why);
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
                if (p && resources_are_set(p->request) &&
                    scheduler_view_part(pass->view, p->request, &item->part) < 0)
                        pass->error = -ENOMEM;
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

/* Requests first, the largest one before: a small one finds room after it. */
static int plan_compare(const PlanItem *a, const PlanItem *b) {
        if (a->part != b->part)
                return a->part > b->part ? -1 : 1;
        return strcmp(a->unit->name, b->unit->name);
}

static void plan_sort(Pass *pass) {
        if (!pass->sorted)
                HASH_SRT(hh, pass->items, plan_compare);
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
                                                                      .why = TAKE_PTR(item->wait) };
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

        if (units && n_units == 0 && !brake_is_possible(cluster)) {
                *ret = (EnginePlan) { .again_ms = plan_again_ms(cluster, UINT64_MAX) };
                return 0;
        }
        TRY(scheduler_view_new(cluster, cluster->now_ms, &pass.view));
        TRY(brake_update(&pass, brake_ms));

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
