/* The plan: for each unit, what should be ordered of which machine, compared with what is ordered.
 *
 * An ordinary unit has one machine. While it moves it has two orders: the old one goes on until the new one's
 * unit runs (rule 27), and if the old machine comes back before that, the new one goes instead. A global unit
 * has an order on every machine that fits. Nothing here remembers: what is under way can be read from orders,
 * states and presences, so that the next leader goes on where this one stopped. */
#include "fleetd/engine/plan.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "fleetd/engine/brake.h"
#include "fleetd/registry/presence.h"
#include "fleetd/scheduler/filters.h"
#include "fleetd/scheduler/scheduler.h"

/* A unit to look at. Those that others depend on come first: who replaces, then all others, then followers.
 */
typedef struct Item {
        const ClusterUnit *unit;
        enum { PHASE_REPLACING, PHASE_PLAIN, PHASE_FOLLOWING, _PHASE_MAX } phase;
        bool planned; /* something was decided: looked at again only in the next plan */
        bool done;    /* looked at, in this round of its phase */
        UT_hash_handle hh;
} Item;

typedef struct Pass {
        const Cluster *cluster;
        const EnginePlanLimits *limits;
        SchedulerView *view;
        EnginePlan *plan;
        Brake brake;
        Item *items; /* table by unit; in the order of names when 'sorted' */
        bool sorted;
        size_t n_looked;
        ClusterMachine **machines; /* sorted; made when first needed */
        size_t n_machines;
} Pass;

void engine_plan_done(EnginePlan *plan) {
        free(plan->changes);
        names_done(&plan->rest);
        *plan = (EnginePlan) {};
}

static void pass_done(Pass *pass) {
        Item *item, *next;

        HASH_ITER(hh, pass->items, item, next) {
                HASH_DEL(pass->items, item);
                free(item);
        }
        scheduler_view_free(pass->view);
        brake_done(&pass->brake);
        free(pass->machines);
}

/* -- What an order is worth -- */

static bool is_down(const ClusterMachine *m) {
        return m->presence == PRESENCE_LOST || m->presence == PRESENCE_LEFT;
}

static const ClusterState *state_of(const ClusterAssignment *o) {
        ClusterState *s;

        HASH_FIND_STR(o->machine->states, o->unit, s);
        return s;
}

static bool has_finished(const ClusterAssignment *o) {
        const ClusterState *s = state_of(o);

        return s && s->state.done;
}

/* Does the unit do what the order asks? A state lives no longer than the order it came from: the agent
 * removes both at once. */
static bool has_come_up(const ClusterAssignment *o) {
        const ClusterState *s = state_of(o);

        if (!s)
                return false;
        if (s->state.done)
                return true;
        if (o->kind == ASSIGNMENT_LOAD)
                return s->state.load && streq(s->state.load, "loaded");
        return s->state.active && (streq(s->state.active, "active") || streq(s->state.active, "reloading"));
}

/* An order names the very text that is meant: the agent waits for its turn with any other, even one that
 * differs in comments alone. */
static bool is_current(const ClusterAssignment *o) {
        return o->unit_index == o->of->index;
}

static AssignmentKind wanted_kind(const ClusterUnit *u) {
        return u->target == TARGET_LAUNCHED ? ASSIGNMENT_RUN : ASSIGNMENT_LOAD;
}

static bool is_wanted(const ClusterUnit *u) {
        return u->unit && u->target != TARGET_INACTIVE;
}

/* An unreadable machine keeps what it has, as it is. */
static bool takes_part(const ClusterMachine *m) {
        return m->presence == PRESENCE_UP && !cluster_machine_is_unreadable(m);
}

/* -- Deciding -- */

static int change(Pass *pass, const ClusterMachine *m, const ClusterUnit *u, const ClusterAssignment *o,
                  AssignmentKind kind, const char *format, ...) _printf_(6, 7);

static int change(Pass *pass, const ClusterMachine *m, const ClusterUnit *u, const ClusterAssignment *o,
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

/* Brings an order that stays to what is wanted now. */
static int keep(Pass *pass, const ClusterAssignment *o) {
        const ClusterUnit *u = o->of;

        if (o->kind != wanted_kind(u))
                return change(pass, o->machine, u, o, wanted_kind(u), "its target is %s",
                              target_state_to_string(u->target));
        if (!is_current(o))
                return change(pass, o->machine, u, o, o->kind, "its unit file has changed");
        return 0;
}

/* A machine reports a unit that nobody ordered there (after a restore, or a partition). */
static bool is_stray(const ClusterState *s) {
        ClusterAssignment *o;

        HASH_FIND_STR(s->machine->assignments, s->unit, o);
        return !o && s->machine->presence == PRESENCE_UP;
}

static int stop_strays(Pass *pass, const ClusterUnit *u, const char *reason) {
        int r;

        for (const ClusterState *s = u->states; s; s = s->next) {
                if (!is_stray(s))
                        continue;
                r = change(pass, s->machine, u, NULL, ASSIGNMENT_STOP, "%s", reason);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int plan_unwanted(Pass *pass, const ClusterUnit *u) {
        const char *reason = u->unit ? "its target is inactive" : "it was destroyed";
        int r;

        for (const ClusterAssignment *o = u->assignments; o; o = o->next) {
                if (!cluster_assignment_is_active(o))
                        continue;
                r = change(pass, o->machine, u, o, ASSIGNMENT_STOP, "%s", reason);
                if (r < 0)
                        return r;
        }
        /* What a machine runs and the cluster does not know is unknown, not removed (rule 23). */
        return u->unit ? stop_strays(pass, u, reason) : 0;
}

/* -- Ordinary units -- */

typedef enum Standing {
        STANDS,   /* the machine is up, and the unit fits there */
        HELD,     /* nothing moves it now: the machine is away, the brake is on, or the unit has finished */
        REPLACED, /* stands, but another unit there wants it gone */
        UNFIT,    /* the machine is up, but no longer for this unit */
        GONE,     /* the machine is lost, or has left */
} Standing;

typedef struct Position {
        const ClusterAssignment *assignment;
        Standing standing;
        SchedulerRule rule; /* UNFIT */
        Error why;
} Position;

enum {
        POSITIONS_MAX = 8
}; /* of the active orders of one ordinary unit, the first ones by machine are looked at in one plan */

static int by_age(const void *a, const void *b) {
        const ClusterAssignment *p = ((const Position *) a)->assignment,
                                *q = ((const Position *) b)->assignment;

        if (p->since_ms != q->since_ms)
                return p->since_ms < q->since_ms ? -1 : 1;
        if (p->created != q->created)
                return p->created < q->created ? -1 : 1;
        return strcmp(p->machine->id, q->machine->id);
}

static void judge(const Pass *pass, Position *p) {
        const ClusterMachine *m = p->assignment->machine;

        if (has_finished(p->assignment) || m->presence == PRESENCE_AWAY || cluster_machine_is_unreadable(m))
                p->standing = HELD;
        else if (is_down(m))
                p->standing = brake_holds(&pass->brake, m) ? HELD : GONE;
        else {
                p->rule = scheduler_refusal(pass->view, p->assignment->of, m, true, &p->why);
                if (p->rule != RULE_NONE)
                        p->standing = UNFIT;
                else
                        p->standing = scheduler_replaced_by(pass->view, p->assignment->of, m) ? REPLACED :
                                                                                                STANDS;
        }
}

/* Without an active order: one machine is to be chosen. */
static int plan_new(Pass *pass, const ClusterUnit *u) {
        const ClusterMachine *m;
        Error why = {};

        /* What is still being stopped is not started a second time elsewhere; it is taken back if it may be
         * there, as a newcomer: who has come since is not sent away. */
        for (const ClusterAssignment *o = u->assignments; o; o = o->next) {
                if (is_down(o->machine))
                        continue;
                if (!scheduler_may_return(pass->view, u, o->machine))
                        return 0;
                return change(pass, o->machine, u, o, wanted_kind(u), "it is wanted again, and was there");
        }

        for (const ClusterState *s = u->states; s; s = s->next) {
                if (!is_stray(s) || !streq(s->state.active, "active"))
                        continue;
                if (scheduler_may_return(pass->view, u, s->machine))
                        return change(pass, s->machine, u, NULL, wanted_kind(u), "it runs there already");
        }

        if (scheduler_pick(pass->view, u, &m, &why) < 0)
                return 0;
        return change(pass, m, u, cluster_assignment(pass->cluster, m->id, u->name), wanted_kind(u), "%s",
                      error_text(&why, 0));
}

/* 'up': the kept one runs, all others go. Else it is one that came back: those that were meant to replace it
 * go. */
static int stop_others(Pass *pass, const Position *all, size_t n, size_t kept, bool up) {
        const char *name = cluster_machine_name(all[kept].assignment->machine);
        int r;

        for (size_t i = up ? 0 : kept + 1; i < n; i++) {
                if (i == kept)
                        continue;
                if (up)
                        r = change(pass, all[i].assignment->machine, all[i].assignment->of, all[i].assignment,
                                   ASSIGNMENT_STOP, "it runs on %s now", name);
                else
                        r = change(pass, all[i].assignment->machine, all[i].assignment->of, all[i].assignment,
                                   ASSIGNMENT_STOP, "%s is back", name);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* It stays there. */
static int settle(Pass *pass, const Position *all, size_t n, size_t kept) {
        const ClusterAssignment *o = all[kept].assignment;
        bool up = has_finished(o) || has_come_up(o);
        int r;

        r = keep(pass, o);
        if (r < 0)
                return r;
        r = stop_others(pass, all, n, kept, up);
        if (r < 0)
                return r;
        return up ? stop_strays(pass, o->of, "it runs elsewhere") : 0;
}

/* Nowhere that it should stay: it gets another machine, and whatever may go on until that one runs it goes
 * on. 'replaced': where it can stay if there is no other, or SIZE_MAX. */
static int plan_move(Pass *pass, const ClusterUnit *u, const Position *all, size_t n, size_t replaced) {
        const Position *last = &all[n - 1];
        const ClusterMachine *m = NULL;
        bool found = false;
        Error why = {};
        int r;

        found = scheduler_pick(pass->view, u, &m, &why) >= 0 &&
                !(replaced != SIZE_MAX && scheduler_replaced_by(pass->view, u, m));
        if (!found && replaced != SIZE_MAX)
                return settle(pass, all, n, replaced);

        for (size_t i = 0; i < n; i++) {
                const ClusterAssignment *o = all[i].assignment;

                /* Where its name is taken it does nothing; an order that stayed away would be given again at
                 * once. */
                if (all[i].standing != UNFIT || all[i].rule == RULE_FOREIGN ||
                    (found && all[i].rule != RULE_CONFLICTS))
                        continue;
                r = change(pass, o->machine, u, o, ASSIGNMENT_STOP, "it may not stay: %s",
                           error_text(&all[i].why, 0));
                if (r < 0)
                        return r;
        }
        if (!found)
                return 0;

        const char *name = cluster_machine_name(last->assignment->machine), *cause;
        const ClusterAssignment *there = cluster_assignment(pass->cluster, m->id, u->name);

        switch (last->standing) {
        case GONE:
                cause = last->assignment->machine->presence == PRESENCE_LEFT ? "has left" : "is lost";
                break;
        case REPLACED:
                cause = "has a unit that replaces it";
                break;
        default:
                cause = "does not fit any more";
                break;
        }
        return change(pass, m, u, there, wanted_kind(u), "%s %s; %s", name, cause, error_text(&why, 0));
}

/* Nowhere that it should stay but where nothing moves it now: that is waited for. Of the machines where it
 * may not stay one runs it meanwhile (it was being moved), unless it is known to run where it is held. */
static int plan_held(Pass *pass, const Position *all, size_t n, size_t held) {
        const ClusterAssignment *o = all[held].assignment;
        bool spared = false;
        int r;

        if (has_finished(o) || (o->machine->presence == PRESENCE_AWAY && has_come_up(o)))
                return settle(pass, all, n, held);

        r = keep(pass, o);
        for (size_t i = n; i > 0 && r >= 0; i--) {
                const Position *p = &all[i - 1];

                if (p->standing != UNFIT)
                        continue;
                if (spared)
                        r = change(pass, p->assignment->machine, p->assignment->of, p->assignment,
                                   ASSIGNMENT_STOP, "it may not stay: %s", error_text(&p->why, 0));
                spared = true;
        }
        return r;
}

/* A unit that was told to be in one place and runs in another: after a restore, or where people have meddled.
 * What runs is not stopped for what does not. */
static const ClusterMachine *runs_elsewhere(const Pass *pass, const ClusterUnit *u, const Position *all,
                                            size_t n) {
        for (size_t i = 0; i < n; i++)
                if (has_finished(all[i].assignment) ||
                    (has_come_up(all[i].assignment) && all[i].standing != GONE))
                        return NULL;
        for (const ClusterState *s = u->states; s; s = s->next)
                if (is_stray(s) && s->state.active && streq(s->state.active, "active") &&
                    scheduler_may_return(pass->view, u, s->machine))
                        return s->machine;
        return NULL;
}

static int plan_ordinary(Pass *pass, const ClusterUnit *u) {
        const ClusterMachine *elsewhere;
        Position all[POSITIONS_MAX] = {};
        size_t n = 0, stands = SIZE_MAX, replaced = SIZE_MAX, held = SIZE_MAX;

        for (const ClusterAssignment *o = u->assignments; o && n < POSITIONS_MAX; o = o->next)
                if (cluster_assignment_is_active(o))
                        all[n++].assignment = o;
        if (n == 0)
                return plan_new(pass, u);

        qsort(all, n, sizeof(*all), by_age);
        for (size_t i = 0; i < n; i++) {
                judge(pass, &all[i]);
                if (all[i].standing == STANDS && stands == SIZE_MAX)
                        stands = i;
                if (all[i].standing == REPLACED && replaced == SIZE_MAX)
                        replaced = i;
                if (all[i].standing == HELD)
                        held = i;
        }

        elsewhere = u->target == TARGET_LAUNCHED ? runs_elsewhere(pass, u, all, n) : NULL;
        if (elsewhere)
                return change(pass, elsewhere, u, NULL, ASSIGNMENT_RUN, "it runs there already");

        /* The newest runs, or the unit has ended there: the move is over. */
        if (has_finished(all[n - 1].assignment) ||
            (all[n - 1].standing == STANDS && has_come_up(all[n - 1].assignment)))
                stands = n - 1;

        if (stands != SIZE_MAX)
                return settle(pass, all, n, stands);
        if (held != SIZE_MAX)
                return replaced == SIZE_MAX ? plan_held(pass, all, n, held) : settle(pass, all, n, replaced);
        return plan_move(pass, u, all, n, replaced);
}

/* -- Global units -- */

static int sorted_machines(Pass *pass) {
        if (!pass->machines)
                pass->machines = cluster_machines_sorted(pass->cluster, &pass->n_machines);
        return pass->machines ? 0 : -ENOMEM;
}

/* The machine whose turn it is to get the new text: none while another one is not up again with it (rule 28).
 * Machines that are not up wait for nobody, and nobody for them. */
static const ClusterAssignment *next_to_update(const ClusterUnit *u) {
        const ClusterAssignment *next = NULL;

        for (const ClusterAssignment *o = u->assignments; o; o = o->next) {
                const ClusterState *s;

                if (!cluster_assignment_is_active(o) || !takes_part(o->machine))
                        continue;
                if (!is_current(o)) {
                        next = next ? next : o;
                        continue;
                }
                s = state_of(o);
                if (o->unit_index == u->index &&
                    !(s && s->state.hash && streq(s->state.hash, u->unit->hash) && has_come_up(o)))
                        return NULL;
        }
        return next;
}

static int plan_global(Pass *pass, const ClusterUnit *u) {
        const ClusterAssignment *update = next_to_update(u);
        int r;

        r = sorted_machines(pass);
        if (r < 0)
                return r;

        for (size_t i = 0; i < pass->n_machines; i++) {
                const ClusterMachine *m = pass->machines[i];
                const ClusterAssignment *o = cluster_assignment(pass->cluster, m->id, u->name);
                SchedulerRule rule;
                Error why = {};

                if (!takes_part(m))
                        continue;
                if (pass->plan->n >= ENGINE_PLAN_MAX) {
                        pass->plan->more = true;
                        return 0;
                }

                if (!o || !cluster_assignment_is_active(o)) {
                        if (o ? !scheduler_may_return(pass->view, u, m) :
                                !scheduler_fits(pass->view, u, m, false, NULL))
                                continue;
                        r = change(pass, m, u, o, wanted_kind(u), "Global=yes, and the machine fits");
                } else if ((rule = scheduler_refusal(pass->view, u, m, true, &why)) != RULE_NONE &&
                           rule != RULE_FOREIGN)
                        r = change(pass, m, u, o, ASSIGNMENT_STOP, "it may not stay: %s",
                                   error_text(&why, 0));
                else if (o->kind != wanted_kind(u) || o == update)
                        r = keep(pass, o);
                else
                        r = 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* -- The pass -- */

static int add_item(Pass *pass, const ClusterUnit *u) {
        _cleanup_free_ Item *fresh = NULL;
        const Placement *p = u->unit ? &u->unit->placement : NULL;
        Item *item;

        HASH_FIND_PTR(pass->items, &u, item);
        if (item)
                return 0;

        fresh = NEW0(Item, 1);
        if (!fresh)
                return -ENOMEM;

        fresh->unit = u;
        fresh->phase = p && p->machine_of.n > 0 ? PHASE_FOLLOWING :
                       p && p->replaces.n > 0   ? PHASE_REPLACING :
                                                  PHASE_PLAIN;
        HASH_ADD_PTR(pass->items, unit, fresh);
        if (!TABLE_ADDED(fresh))
                return -ENOMEM;
        (void) TAKE_PTR(fresh);
        pass->sorted = false;
        return 0;
}

static int add_neighbours(Pass *pass, const char *machine_id) {
        const ClusterMachine *m = cluster_machine(pass->cluster, machine_id);
        int r;

        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next) {
                r = add_item(pass, o->of);
                if (r < 0)
                        return r;
        }
        return 0;
}

typedef struct Adding {
        Pass *pass;
        int error;
} Adding;

static bool add_placed(void *userdata, const Placed *placed, const char *pattern) {
        Adding *a = userdata;

        a->error = placed->assignment ? add_item(a->pass, placed->unit) : 0;
        return a->error >= 0;
}

/* Units on the machine whose rules name 'u', or which the rules of 'u' name. */
static void add_related_there(Adding *a, const ClusterUnit *u, const ClusterMachine *m) {
        static const ClusterRule rules[] = { CLUSTER_CONFLICTS, CLUSTER_REPLACES };

        for (size_t i = 0; i < ELEMENTS(rules); i++) {
                const Names *own = u->unit ? cluster_rule(&u->unit->placement, rules[i]) : NULL;

                if (a->error >= 0)
                        scheduler_view_each_naming(a->pass->view, m, rules[i], u->name, add_placed, a);
                for (size_t k = 0; own && k < own->n && a->error >= 0; k++)
                        scheduler_view_each_named(a->pass->view, m, own->items[k], add_placed, a);
        }
}

/* Whom the changes from the n-th on concern: units there whose rules, or those of 'u', name each other, and
 * units that follow 'u'. Those whose turn is over are looked at again in the next plan, as in a full pass. */
static int add_related(Pass *pass, const ClusterUnit *u, size_t n) {
        const Pattern *followed = patterns_find(&pass->cluster->rules[CLUSTER_MACHINE_OF],
                                                u->name); /* a name in full */
        Adding a = { .pass = pass };

        for (; n < pass->plan->n && a.error >= 0; n++)
                add_related_there(&a, u, cluster_machine(pass->cluster, pass->plan->changes[n].machine));
        for (size_t i = 0; followed && i < followed->n && a.error >= 0; i++)
                a.error = add_item(pass, followed->units[i]);
        return a.error;
}

static int by_name(const Item *a, const Item *b) {
        return strcmp(a->unit->name, b->unit->name);
}

/* Neither planned, stopped nor placed: what is known of it is not enough, or what was planned is refused. */
static bool is_left_alone(const Pass *pass, const ClusterUnit *u) {
        return u->unreadable ||
               (pass->limits->is_held && pass->limits->is_held(pass->limits->userdata, u->name));
}

static size_t work_of(const Pass *pass) {
        return pass->n_looked + scheduler_view_work(pass->view);
}

static bool is_full(const Pass *pass) {
        return pass->plan->n >= ENGINE_PLAN_MAX ||
               (pass->limits->work_max > 0 && work_of(pass) >= pass->limits->work_max);
}

static int look(Pass *pass, Item *item) {
        const ClusterUnit *u = item->unit;
        size_t n = pass->plan->n;
        int r;

        pass->n_looked++;
        item->done = true;
        if (!is_wanted(u))
                r = plan_unwanted(pass, u);
        else if (u->unit->placement.global)
                r = plan_global(pass, u);
        else
                r = plan_ordinary(pass, u);
        if (r < 0)
                return r;
        if (pass->plan->more) { /* a global one, and not all its machines */
                item->done = false;
                return 0;
        }
        item->planned = pass->plan->n > n;
        return item->planned ? add_related(pass, u, n) : 0;
}

static void sort_items(Pass *pass) {
        if (!pass->sorted)
                HASH_SRT(hh, pass->items, by_name);
        pass->sorted = true;
}

/* Looks once at each unit of one phase that nothing was decided about. Returns whether anything was, or a
 * negative errno. */
static int run_phase(Pass *pass, int phase) {
        size_t before = pass->plan->n;

        for (Item *item = pass->items; item; item = item->hh.next)
                item->done = item->done && (int) item->phase != phase;
        sort_items(pass);
        for (Item *item = pass->items; item && !pass->plan->more; item = item->hh.next) {
                int r;

                if ((int) item->phase != phase || item->planned || is_left_alone(pass, item->unit))
                        continue;
                if (pass->n_looked > 0 && is_full(pass)) {
                        pass->plan->more = true;
                        break;
                }
                r = look(pass, item);
                if (r < 0)
                        return r;
                sort_items(pass);
        }
        return pass->plan->n > before;
}

static int run(Pass *pass) {
        int r;

        for (int phase = PHASE_REPLACING; phase < PHASE_FOLLOWING && !pass->plan->more; phase++) {
                r = run_phase(pass, phase);
                if (r < 0)
                        return r;
        }

        /* Chains of followers, whatever their names: until nothing changes. */
        do {
                r = pass->plan->more ? 0 : run_phase(pass, PHASE_FOLLOWING);
        } while (r > 0);
        return r < 0 ? r : 0;
}

/* What was not looked at. */
static int keep_rest(Pass *pass) {
        for (const Item *item = pass->plan->more ? pass->items : NULL; item; item = item->hh.next) {
                if (item->done || item->planned || is_left_alone(pass, item->unit))
                        continue;
                if (names_add(&pass->plan->rest, item->unit->name, strlen(item->unit->name)) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* With several orders on lost hosts a unit is the business of the one that was lost last. */
static bool is_later_loss(const ClusterMachine *a, const ClusterMachine *b) {
        if (a->presence != PRESENCE_LOST || a == b)
                return false;
        return a->since_ms != b->since_ms ? a->since_ms > b->since_ms : strcmp(a->id, b->id) > 0;
}

/* Units whose move is under way, or that could move now: the brake lets hosts go one by one, each when those
 * before are through. */
static bool host_is_through(void *userdata, const ClusterMachine *m) {
        Pass *pass = userdata;

        for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next) {
                const ClusterAssignment *newest = o;
                const ClusterMachine *unused;
                const ClusterState *s;
                bool elsewhere = false; /* another machine decides what becomes of it */

                if (!cluster_assignment_is_active(o) || o->of->unreadable || !is_wanted(o->of) ||
                    o->of->unit->placement.global || has_finished(o))
                        continue;
                for (const ClusterAssignment *other = o->of->assignments; other; other = other->next) {
                        if (!cluster_assignment_is_active(other))
                                continue;
                        if (other->machine->presence == PRESENCE_UP && other->since_ms >= newest->since_ms)
                                newest = other;
                        elsewhere = elsewhere || is_later_loss(other->machine, m) ||
                                    other->machine->presence == PRESENCE_AWAY || has_finished(other);
                }

                if (newest == o) {
                        if (elsewhere)
                                continue;
                        if (scheduler_pick(pass->view, o->of, &unused, NULL) >= 0)
                                return false;
                        continue;
                }
                s = state_of(newest);
                if (!s || (s->state.active && streq(s->state.active, "activating")))
                        return false;
        }
        return true;
}

int engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                EnginePlan *ret) {
        return engine_plan_within(cluster, units, n_units, brake_ms, &(EnginePlanLimits) {}, ret);
}

int engine_plan_within(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms,
                       const EnginePlanLimits *limits, EnginePlan *ret) {
        _cleanup_(engine_plan_done) EnginePlan plan = { .again_ms = UINT64_MAX };
        _cleanup_(pass_done) Pass pass = { .cluster = cluster, .plan = &plan, .limits = limits };
        int r;

        r = scheduler_view_new(cluster, cluster->now_ms, &pass.view);
        if (r < 0)
                return r;
        r = brake_update(cluster, brake_ms, host_is_through, &pass, &pass.brake);
        if (r < 0)
                return r;

        plan.again_ms = pass.brake.again_ms;
        for (const ClusterMachine *m = cluster->machines; m; m = m->hh.next) {
                uint64_t quiet_ms = presence_quiet(m, cluster->now_ms);

                if (quiet_ms > 0)
                        plan.again_ms = MIN(plan.again_ms, quiet_ms);
        }
        /* Which host's turn it is depends on what becomes of units of those before. */
        for (size_t i = 0; i < pass.brake.n_free; i++)
                plan.freed += pass.brake.hosts[i]->presence_index;
        for (size_t i = 0; i < pass.brake.n_free && limits->freed != plan.freed; i++) {
                r = add_neighbours(&pass, pass.brake.hosts[i]->id);
                if (r < 0)
                        return r;
        }
        if (!units)
                for (const ClusterUnit *u = cluster->units; u; u = u->hh.next) {
                        r = add_item(&pass, u);
                        if (r < 0)
                                return r;
                }
        for (size_t i = 0; i < n_units; i++) {
                const ClusterUnit *u = cluster_any_unit(cluster, units[i]);

                r = u ? add_item(&pass, u) : 0;
                if (r < 0)
                        return r;
        }

        r = run(&pass);
        if (r < 0)
                return r;
        r = keep_rest(&pass);
        if (r < 0)
                return r;
        plan.work = work_of(&pass);

        *ret = plan;
        plan = (EnginePlan) {};
        return 0;
}

int engine_judge(const SchedulerView *view, const Cluster *cluster, const ClusterAssignment *order,
                 uint64_t brake_ms, EngineVerdict *ret, Error *ret_why) {
        EnginePlan plan = {};
        Pass pass = { .cluster = cluster,
                      .view = (SchedulerView *) view,
                      .plan = &plan }; /* nothing is decided in it */
        Position p = { .assignment = order };
        int r;

        r = brake_update(cluster, brake_ms, host_is_through, &pass, &pass.brake);
        if (r < 0)
                return r;
        judge(&pass, &p);
        brake_done(&pass.brake);
        *ret_why = p.why;
        if (has_finished(order))
                *ret = ENGINE_FINISHED;
        else if (p.standing == HELD && is_down(order->machine))
                *ret = ENGINE_BRAKED;
        else
                *ret = p.standing == GONE ? ENGINE_GONE : p.standing == UNFIT ? ENGINE_UNFIT : ENGINE_STAYS;
        return 0;
}
