#include "fleetd/features/rebalance/rebalance.h"

#include "fleetd/engine/drain.h"
#include "fleetd/engine/rollout_set.h"
#include "fleetd/registry/presence.h"
#include "fleetd/registry/unit_order.h"
#include "fleetd/scheduler/filters.h"
#include "units/named.h"

enum {
        FULLER = FULLNESS_ONE / 10, /* of a machine: a smaller difference is worth no move ... */
        UNITS_LEAST = 3,
        UNITS_PART = 4, /* ... nor is one of fewer units, or of a smaller part of them */
};

/* The counters of a row of Spread= alone: whether a machine has the key changes no square. */
#define SPREAD_COUNTS UINT64_C(0xfffefffefffefffe)

/* What a move improves: the best one first. */
typedef enum RebalanceRow { BY_SIBLINGS, BY_FULLNESS, BY_UNITS, _BY_NOTHING } RebalanceRow;

typedef struct RebalanceGain {
        RebalanceRow row;
        uint64_t amount, full; /* fullness of the target with the unit: among equals */
} RebalanceGain;

typedef struct RebalancePlanned {
        Named unit;
        char from[MACHINE_ID_SIZE], to[MACHINE_ID_SIZE];
        bool made; /* it is in the answer */
} RebalancePlanned;

/* First, one unit after the other moves as long as one gains, also again, so that none is left that gains.
 * Then the moves are ordered. Each takes a pass over the units, of which a step compares one. */
struct Rebalance {
        Names patterns;
        size_t max, work;     /* work that was done */
        bool found;           /* a unit has a name that matches */
        Named *moves;         /* RebalancePlanned */
        bool orders;          /* they are complete */
        SchedulerView *room;  /* borrowed: all units where they are, and on their targets */
        SchedulerView *loads; /* with all moves made; of those that are ordered, these */
        struct RebalancePass {
                char after[UNIT_NAME_MAX + 1]; /* the last unit that was compared */
                char unit[UNIT_NAME_MAX + 1];  /* of the best move, "": none */
                char from[MACHINE_ID_SIZE], to[MACHINE_ID_SIZE];
                RebalanceGain gain;
        } pass;
};

static const struct RebalancePass rebalance_pass = { .gain.row = _BY_NOTHING };

int rebalance_new(Names *patterns, size_t max, Rebalance **ret) {
        *ret = NEW0(Rebalance, 1);
        if (!*ret)
                return -ENOMEM;
        **ret = (Rebalance) { .patterns = *patterns, .max = max, .pass = rebalance_pass };
        *patterns = (Names) {};
        return 0;
}

void rebalance_free(void *self) {
        Rebalance *r = self;

        names_done(&r->patterns);
        named_clear(&r->moves);
        scheduler_view_free(r->loads);
        free(r);
}

/* -- Candidates -- */

/* Return whether the unit may move at all. One that others follow (MachineOf=), or a trigger, moves more than
 * itself. All siblings that move have one MaxPerMachine= and Spread=: so the order of their moves does not
 * matter, and what one improves is no loss to the other. */
static bool rebalance_may_move(const Cluster *c, const ClusterUnit *u, bool named) {
        const ClusterUnit *template = cluster_template(c, u->name);
        const Placement none = {}, *p = u->unit ? &u->unit->placement : NULL,
                        *shared = template ? &template->unit->placement : &none;

        return p && u->target == TARGET_LAUNCHED && !unit_name_is_template(u->name) && !p->global &&
               !p->machine_id && !u->sticky && !u->move && p->move != PLACEMENT_STAYS &&
               p->machine_of.n == 0 && p->triggers.n == 0 && !scheduler_is_oneshot(u) &&
               p->max_per_machine == shared->max_per_machine && names_equal(&p->spread, &shared->spread) &&
               !patterns_find(&c->rules[CLUSTER_MACHINE_OF], u->name) &&
               !patterns_find(&c->rules[CLUSTER_TRIGGERS], u->name) &&
               (named || !cluster_unit_stops_first(u)) && !rollout_head(c, u)->listed[CLUSTER_ROLLING];
}

/* Return the machine that the unit may leave: on which it is available, and nowhere else. NULL: none. */
static const ClusterMachine *rebalance_source(const Rebalance *r, const ClusterUnit *u) {
        const ClusterAssignment *a, *only = NULL;

        if (!rebalance_may_move(scheduler_view_cluster(r->room), u, r->patterns.n > 0))
                return NULL;
        LIST_FOREACH(a, &u->assignments, of_unit) {
                if (cluster_assignment_is_active(a) && only)
                        return NULL;
                if (cluster_assignment_is_active(a))
                        only = a;
        }
        return only && only->kind == ASSIGNMENT_RUN && engine_may_leave(only) && rollout_is_available(only) &&
                               !cluster_machine_was_drained(only->machine) ?
                       only->machine :
                       NULL;
}

/* -- Gains -- */

static uint64_t rebalance_spread(const Rebalance *r, const ClusterUnit *u, const ClusterMachine *m) {
        return scheduler_view_spread(r->loads, u, m) & SPREAD_COUNTS;
}

/* Return whether MaxPerMachine= permits no more siblings beside the unit. */
static bool rebalance_exceeds(const Rebalance *r, const ClusterUnit *u, const ClusterMachine *m,
                              Refusal *ret) {
        const Candidate c = { r->loads, u, &u->unit->placement, m, false };

        return scheduler_filters[RULE_MAX_PER_MACHINE].check(&c, ret) < 0;
}

static RebalanceGain rebalance_gain(const Rebalance *r, const ClusterUnit *u, const ClusterMachine *from,
                                    const ClusterMachine *to) {
        const SchedulerView *v = r->loads;
        RebalanceGain gain = { _BY_NOTHING, 0, scheduler_view_fullness(v, to, u->unit->placement.size) };
        size_t left = scheduler_view_load(v, from), found = scheduler_view_load(v, to);
        uint64_t full = scheduler_view_fullness(v, from, (Resources) {}), here = rebalance_spread(r, u, from),
                 there = rebalance_spread(r, u, to);

        if (rebalance_exceeds(r, u, to, NULL)) /* it may return to where it is */
                return gain;
        if (there < here || rebalance_exceeds(r, u, from, NULL)) {
                gain.row = BY_SIBLINGS;
                gain.amount = here - MIN(here, there);
        } else if (there == here && gain.full < full &&
                   resources_are_set(scheduler_view_capacity(v, to))) { /* unknown is not empty */
                gain.amount = full - gain.full;
                if (gain.amount >= FULLER)
                        gain.row = BY_FULLNESS;
                else if (left >= found + MAX((size_t) UNITS_LEAST, (left + UNITS_PART - 1) / UNITS_PART)) {
                        gain.row = BY_UNITS;
                        gain.amount = left - found;
                }
        }
        return gain;
}

/* 'full': so it does among equals. */
static bool rebalance_is_better(const RebalanceGain *a, const RebalanceGain *b, bool full) {
        if (a->row != b->row)
                return a->row < b->row;
        return a->amount != b->amount ? a->amount > b->amount : full && a->full < b->full;
}

/* Return whether no machine from this one on, in the order of the view, gives the unit a better move. 'full':
 * its machine. */
static bool rebalance_is_past(const Rebalance *r, const ClusterUnit *u, const ClusterMachine *m,
                              uint64_t full, const RebalanceGain *best) {
        return !scheduler_view_has_sizes(r->loads) || best->row == BY_SIBLINGS ||
               full <= scheduler_view_fullness_bound(r->loads, m, u->unit->placement.size) +
                               (best->row == BY_FULLNESS ? best->amount : 0);
}

/* Let the move of the unit to one of the machines be the best one if it is. A unit may return to where it is.
 */
static void rebalance_compare(Rebalance *r, const ClusterUnit *u) {
        const Cluster *c = scheduler_view_cluster(r->room);
        const RebalancePlanned *planned = named_find(r->moves, u->name);
        const ClusterMachine *origin = r->orders && (!planned || planned->made) ? NULL :
                                                                                  rebalance_source(r, u),
                             *from = origin && planned && !r->orders ? cluster_machine(c, planned->to) :
                                                                       origin;
        struct RebalancePass best = r->pass;
        uint64_t full;
        bool alone;

        if (!from)
                return;
        full = scheduler_view_fullness(r->loads, from, (Resources) {});
        alone = !r->orders && rebalance_spread(r, u, from) == 0 && !rebalance_exceeds(r, u, from, NULL);
        for (size_t i = 0; i < scheduler_view_n_machines(r->room); i++) {
                const ClusterMachine *to = scheduler_view_by_load(r->loads, i);
                RebalanceGain gain;

                scheduler_view_count_work(r->room, 1);
                if (alone && rebalance_is_past(r, u, to, full, &best.gain))
                        break;
                if (to == from || (r->orders && !streq(to->id, planned->to)))
                        continue;
                gain = rebalance_gain(r, u, from, to);
                if ((gain.row == _BY_NOTHING && !r->orders) ||
                    !rebalance_is_better(&gain, &best.gain, streq(best.unit, u->name)))
                        continue;
                if (!r->orders && to != origin &&
                    (scheduler_replaced_by(r->room, u, to) || !scheduler_fits(r->room, u, to, false, NULL)))
                        continue;
                best.gain = gain;
                snprintf(best.unit, sizeof(best.unit), "%s", u->name);
                memcpy(best.from, origin->id, sizeof(best.from));
                memcpy(best.to, to->id, sizeof(best.to));
        }
        if (!scheduler_view_is_spent(r->room)) /* else its rules compare too much */
                r->pass = best;
}

/* -- Steps -- */

/* Add the moves planned so far to the view of the room, and those that count to a view of the loads. */
int rebalance_renew(void *self, SchedulerView *view) {
        const Cluster *c = scheduler_view_cluster(view);
        Rebalance *r = self;

        r->room = view;
        r->loads = scheduler_view_free(r->loads);
        TRY(scheduler_view_new(c, c->now_ms, &r->loads));
        for (const Named *n = r->moves; n; n = n->hh.next) {
                const RebalancePlanned *p = (const RebalancePlanned *) n;
                const ClusterMachine *from = cluster_machine(c, p->from), *to = cluster_machine(c, p->to);
                const ClusterUnit *u = cluster_unit(c, n->name);

                if (!u || !from || !to)
                        continue;
                TRY(scheduler_view_decide(view, to, u, true));
                if (r->orders && !p->made)
                        continue;
                TRY(scheduler_view_decide(r->loads, to, u, true));
                TRY(scheduler_view_remove(r->loads, from, u));
        }
        return 0;
}

/* Print the domain of a machine: "alpha", "zone=a", "no zone". */
static void rebalance_domain(const ClusterMachine *m, const char *key, char *ret, size_t size) {
        const char *value = pairs_get(&m->metadata, key);

        if (streq(key, "machine"))
                snprintf(ret, size, "%s", cluster_machine_name(m));
        else
                snprintf(ret, size, value ? "%.64s=%.64s" : "no %s", key, value);
}

/* Return the first key by which the machine has more siblings than the other one, NULL: none, and the counts.
 */
static const char *rebalance_key(const Rebalance *r, const RebalanceMove *m, unsigned ret[static 2]) {
        const Names *keys = scheduler_spread_keys(m->unit);

        for (size_t i = 0; i < keys->n; i++) {
                ret[0] = scheduler_spread_part(scheduler_view_spread(r->loads, m->unit, m->from), i) / 2 + 1;
                ret[1] = scheduler_spread_part(scheduler_view_spread(r->loads, m->unit, m->to), i) / 2;
                if (ret[0] != ret[1] + 1)
                        return ret[0] > ret[1] ? keys->items[i] : NULL;
        }
        return NULL;
}

static unsigned rebalance_percent(uint64_t fullness) {
        return (unsigned) ((fullness * 100 + FULLNESS_ONE / 2) / FULLNESS_ONE);
}

/* Set the reason of a move, before it is counted. */
static void rebalance_explain(const Rebalance *r, RebalanceMove *m, RebalanceRow row) {
        static const VerdictCode codes[] = { VERDICT_FEWER_SIBLINGS, VERDICT_LESS_FULL, VERDICT_FEWER_UNITS,
                                             VERDICT_LESS_FULL };
        const char *key = "machine", *unit = row == BY_FULLNESS || row == _BY_NOTHING ? " %" : "";
        char from[160], to[160], count[16];
        unsigned n[2] = { scheduler_view_load(r->loads, m->from), scheduler_view_load(r->loads, m->to) };
        Refusal refusal;

        if (row == BY_SIBLINGS) {
                key = rebalance_key(r, m, n);
                if (!key && rebalance_exceeds(r, m->unit, m->from, &refusal)) {
                        m->reason = refusal.why;
                        return;
                }
        } else if (*unit) {
                n[0] = rebalance_percent(scheduler_view_fullness(r->loads, m->from, (Resources) {}));
                n[1] = rebalance_percent(
                        scheduler_view_fullness(r->loads, m->to, m->unit->unit->placement.size));
        }
        rebalance_domain(m->from, key, from, sizeof(from));
        rebalance_domain(m->to, key, to, sizeof(to));
        snprintf(count, sizeof(count), *unit || n[1] > 0 ? "%u%s" : "none", n[1], unit);
        verdict_set(&m->reason, codes[row], "%s" VERDICT_NEXT "%u%s" VERDICT_NEXT "%s" VERDICT_NEXT "%s",
                    from, n[0], unit, to, count);
}

/* Plan the best move of the pass, or answer it. */
static int rebalance_take(Rebalance *r, const Cluster *c, RebalanceMove *ret) {
        RebalancePlanned *planned = named_get(&r->moves, r->pass.unit, sizeof(*planned));
        const ClusterMachine *origin = cluster_machine(c, r->pass.from), *to = cluster_machine(c, r->pass.to);

        if (!planned)
                return -ENOMEM;
        if (r->orders) {
                planned->made = true;
                *ret = (RebalanceMove) { cluster_unit(c, planned->unit.name), origin, to };
                rebalance_explain(r, ret, r->pass.gain.row);
        } else if (origin == to)
                named_remove(&r->moves, r->pass.unit);
        else {
                memcpy(planned->from, origin->id, sizeof(planned->from));
                memcpy(planned->to, to->id, sizeof(planned->to));
        }
        return 0;
}

int rebalance_step(Rebalance *r, RebalanceMove *ret, Error *err) {
        const Cluster *c = scheduler_view_cluster(r->room);
        bool limited = !r->orders && r->moves && r->work > REBALANCE_WORK_MAX;
        size_t work = scheduler_view_work(r->room);
        const ClusterUnit *u;
        UnitPosition at;

        *ret = (RebalanceMove) {};
        unit_order_seek(&c->by_name, r->pass.after, &at);
        u = limited ? NULL : unit_order_next(&c->by_name, &at);
        if (u) {
                snprintf(r->pass.after, sizeof(r->pass.after), "%s", u->name);
                scheduler_view_count_work(r->room, 1);
                if (cluster_unit_exists(u) &&
                    (r->patterns.n == 0 || scheduler_view_match(r->room, &r->patterns, u->name))) {
                        r->found = true;
                        rebalance_compare(r, u);
                }
                r->work += scheduler_view_work(r->room) - work;
                return 1;
        }
        if (!r->found && r->patterns.n > 0)
                return error_set(err, -ENOENT, "no unit has a name that matches %s", r->patterns.items[0]);
        u = cluster_unit(c, r->pass.unit);
        r->pass.unit[0] = 0;
        r->pass.gain = rebalance_pass.gain;
        if (u) /* the cluster may have changed meanwhile */
                rebalance_compare(r, u);
        if (r->pass.unit[0] && (r->orders || HASH_COUNT(r->moves) < r->max || named_find(r->moves, u->name)))
                TRY(rebalance_take(r, c, ret));
        else if (!u && r->orders)
                return 0;
        else if (!u || r->pass.unit[0])
                r->orders = true;
        r->pass = rebalance_pass;
        return 2;
}

bool rebalance_is_refused(const Cluster *c, bool braked, Error *ret) {
        const char *held = drain_held(c, braked), *name = "";

        for (const ClusterMachine *m = c->machines; m && !held; m = m->hh.next) {
                name = cluster_machine_name(m);
                if (m->reboot && m->reboot->state != REBOOT_FAILED)
                        held = " is to reboot";
                else if (!presence_is_down(m->presence) &&
                         (cluster_machine_is_draining(m) || cluster_machine_is_leaving(m)))
                        held = " is being drained";
        }
        if (held)
                error_set(ret, 0, "%s%s: repeat the command when that has ended", name, held);
        return held;
}
