#include "fleetd/scheduler/scheduler.h"

#include "fleetd/scheduler/filters.h"
#include "fleetd/scheduler/scores.h"

#define IGNORE(rule) (1u << RULE_##rule)

SchedulerRule scheduler_refusal(const SchedulerView *view, const ClusterUnit *unit,
                                const ClusterMachine *machine, bool staying, Error *ret_why) {
        Refusal refusal;
        SchedulerRule rule = scheduler_check(0, view, unit, machine, staying, ret_why ? &refusal : NULL);

        if (ret_why && rule != RULE_NONE)
                verdict_print(&refusal.why, ret_why);
        return rule;
}

const ClusterUnit *scheduler_conflict_on(const SchedulerView *view, const ClusterUnit *unit,
                                         const ClusterMachine *machine) {
        Refusal refusal = {};

        return scheduler_is_conflict(scheduler_check(0, view, unit, machine, false, &refusal)) ?
                       refusal.conflict :
                       NULL;
}

/* Return whether a new unit would fit without those rules. */
static bool scheduler_fits_but(unsigned ignored, const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine) {
        return scheduler_check(ignored, view, unit, machine, false, NULL) == RULE_NONE;
}

bool scheduler_would_fit_freed(const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine) {
        return (scheduler_fits_but(IGNORE(CONFLICTS) | IGNORE(PORT), view, unit, machine) ||
                scheduler_fits_but(IGNORE(RESOURCES), view, unit, machine)) &&
               !scheduler_fits(view, unit, machine, false, NULL);
}

bool scheduler_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                    bool staying, Error *ret_why) {
        return scheduler_refusal(view, unit, machine, staying, ret_why) == RULE_NONE;
}

bool scheduler_may_return(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        return scheduler_fits_but(IGNORE(FLAP_DAMPING), view, unit, machine);
}

bool scheduler_would_fit_uncordoned(const SchedulerView *view, const ClusterUnit *unit,
                                    const ClusterMachine *machine) {
        return machine->maintenance && !machine->reboot &&
               scheduler_fits_but(IGNORE(MAINTENANCE), view, unit, machine) &&
               !cluster_machine_is_leaving(machine) && !cluster_machine_is_stopping(machine);
}

bool scheduler_would_fit_started(const SchedulerView *view, const ClusterUnit *unit,
                                 const ClusterMachine *machine, bool *ret_cordoned) {
        *ret_cordoned = false;
        if ((machine->presence != PRESENCE_LOST && machine->presence != PRESENCE_LEFT) || !machine->facts ||
            machine->member.agentless || cluster_machine_is_unreadable(machine) ||
            cluster_machine_is_leaving(machine) ||
            !scheduler_fits_but(IGNORE(PRESENCE) | IGNORE(MAINTENANCE), view, unit, machine))
                return false;
        *ret_cordoned = !cluster_machine_is_stopping(machine) && !machine->reboot &&
                        !scheduler_fits_but(IGNORE(PRESENCE), view, unit, machine);
        return true;
}

bool scheduler_may_adopt(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        return scheduler_fits_but(IGNORE(STICKY) | IGNORE(PORT) | IGNORE(MAINTENANCE) | IGNORE(MOVE) |
                                          IGNORE(RESOURCES) | IGNORE(FLAP_DAMPING),
                                  view, unit, machine);
}

/* -- Selection -- */

enum { EXPLAIN_MAX = 100 }; /* machines; of more, the answer does not state how many qualify */

/* The machines that a selection has considered. */
typedef struct Selection {
        size_t n_qualified;
        size_t n_damped;              /* that qualify after their hold-off */
        const ClusterMachine *damped; /* one of them */
        bool full;                    /* fullness counts: each one that qualifies has a known capacity */
        const ClusterMachine *best, *second;
        Scores of_best, of_second;
} Selection;

/* Return whether the machine may get the unit, and count it. */
static bool scheduler_qualifies(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *m,
                                Selection *count) {
        SchedulerRule rule;

        if (scheduler_view_has(view, m, unit->name))
                return false;
        rule = scheduler_refusal(view, unit, m, false, NULL);
        if (rule == RULE_FLAP_DAMPING) {
                count->n_damped++;
                count->damped = m;
        }
        count->n_qualified += rule == RULE_NONE;
        return rule == RULE_NONE;
}

/* Return whether each unit there has the default size. */
static bool scheduler_is_plain(const SchedulerView *view, const ClusterMachine *m) {
        Sums sized = scheduler_view_sized(view, m);

        return sized.memory_mib == sized.n * resources_default.memory_mib &&
               sized.cpu_percent == sized.n * resources_default.cpu_percent;
}

static bool scheduler_is_default(Resources size) {
        return resources_equal(size, resources_default);
}

/* Return the row that decided against the second machine, as the reason states it: without sizes and with
 * equal machines, that of the units. */
static SchedulerScore scheduler_row(const SchedulerView *view, const ClusterUnit *unit, const Selection *s) {
        SchedulerScore row = s->second ? scores_decide(&s->of_best, &s->of_second, s->full) : SCORE_UNITS;
        Resources a = scheduler_view_capacity(view, s->best);
        Resources b = s->second ? scheduler_view_capacity(view, s->second) : a;

        if (row == SCORE_SPREAD ||
            (row == SCORE_FULLNESS &&
             !(resources_equal(a, b) && scheduler_is_default(unit->unit->placement.size) &&
               scheduler_is_plain(view, s->best) && scheduler_is_plain(view, s->second))))
                return row;
        return SCORE_UNITS;
}

/* Write "had the fewest of its instances in zone (zone=d: 0)": the first key that decided. */
static void scheduler_print_spread(const SchedulerView *view, const ClusterUnit *unit, const Selection *s,
                                   char *ret, size_t size) {
        uint64_t row = s->of_best.costs[SCORE_SPREAD];
        const char *key, *value;
        size_t k = 0;

        while (scheduler_spread_part(row ^ s->of_second.costs[SCORE_SPREAD], k) == 0)
                k++;
        key = scheduler_spread_keys(unit)->items[k];
        value = pairs_get(scheduler_view_metadata(view, s->best), key);
        if (streq(key, "machine"))
                snprintf(ret, size, "(%u)", scheduler_spread_part(row, k) / 2);
        else
                snprintf(ret, size, "in %.32s (%s%.32s%s%.32s: %u)", key, value ? "" : "no ", key,
                         value ? "=" : "", value ?: "", scheduler_spread_part(row, k) / 2);
}

/* Write the deciding row with its figures. */
static void scheduler_print_score(const SchedulerView *view, const ClusterUnit *unit, const Selection *s,
                                  char *ret, size_t size) {
        SchedulerScore row = scheduler_row(view, unit, s);
        Resources capacity = scheduler_view_capacity(view, s->best), more = unit->unit->placement.size;
        Sums sized = scheduler_view_sized(view, s->best);
        unsigned long long memory, cpu;
        int n = snprintf(ret, size, "%s ", scheduler_scores[row].name);

        if (row == SCORE_SPREAD)
                scheduler_print_spread(view, unit, s, ret + n, size - (size_t) n);
        else if (row == SCORE_UNITS)
                snprintf(ret + n, size - (size_t) n, "(%llu)", (unsigned long long) s->of_best.costs[row]);
        else {
                memory = (sized.memory_mib + more.memory_mib) * 100 / capacity.memory_mib;
                cpu = (sized.cpu_percent + more.cpu_percent) * 100 / capacity.cpu_percent;
                snprintf(ret + n, size - (size_t) n, "(%llu %% after placement; memory %llu %%, cpu %llu %%)",
                         MAX(memory, cpu), memory, cpu);
        }
}

/* State why the machine was selected. A requested move leaves no choice (RULE_MOVE). 'all': the selection has
 * considered all machines. */
static void scheduler_state_reason(const SchedulerView *view, const ClusterUnit *unit, const Selection *s,
                                   bool all, Error *ret_why) {
        const char *name = cluster_machine_name(s->best);
        char damped[160] = "", score[160];

        scheduler_print_score(view, unit, s, score, sizeof(score));
        if (all && s->n_damped == 1)
                snprintf(damped, sizeof(damped), "; %.64s was lost %llu times in short order",
                         cluster_machine_name(s->damped), (unsigned long long) s->damped->losses);
        else if (all && s->n_damped > 1)
                snprintf(damped, sizeof(damped), "; %zu others were lost repeatedly in short order",
                         s->n_damped);

        if (unit->move) /* others may qualify, too, but for the request */
                error_set(ret_why, 0, "moved to %s on request", name);
        else if (all && s->n_qualified == 1)
                error_set(ret_why, 0, "%s was the only machine that qualified%s", name, damped);
        else if (all)
                error_set(ret_why, 0, "%s %s of %zu machines that qualify%s", name, score, s->n_qualified,
                          damped);
        else
                error_set(ret_why, 0, "%s %s of those that qualify", name, score);
}

/* Return whether the machine, or one after it in the order of the view, may be better than the best one. */
static bool scheduler_can_win(const SchedulerView *view, const ClusterUnit *unit, const Selection *s,
                              const ClusterMachine *m) {
        uint64_t bound, best;

        if (!s->best || s->of_best.costs[SCORE_REPLACED] > 0 ||
            s->of_best.costs[SCORE_SPREAD] > scheduler_view_least_spread(view, unit))
                return true;
        if (!s->full) /* the order of the view is not that of the units if it has sizes */
                return scheduler_view_has_sizes(view) ||
                       scheduler_view_load(view, m) < s->of_best.costs[SCORE_UNITS];
        bound = scheduler_view_fullness_bound(view, m, unit->unit->placement.size);
        best = s->of_best.costs[SCORE_FULLNESS];
        return scheduler_is_default(unit->unit->placement.size) ? bound < best : bound <= best;
}

/* Of equal machines, the smallest ID is the best. */
static bool scheduler_is_better(const Selection *s, const ClusterMachine *m, const Scores *scores,
                                const ClusterMachine *other, const Scores *others) {
        SchedulerScore row = other ? scores_decide(scores, others, s->full) : 0;

        return !other ||
               (row < _SCORE_MAX ? scores->costs[row] < others->costs[row] : strcmp(m->id, other->id) < 0);
}

/* Consider a machine that qualifies. */
static void scheduler_compare(const SchedulerView *view, const ClusterUnit *unit, Selection *s,
                              const ClusterMachine *m) {
        Scores scores;

        scores_read(view, unit, m, &scores);
        if (scheduler_is_better(s, m, &scores, s->best, &s->of_best)) {
                s->second = s->best;
                s->of_second = s->of_best;
                s->best = m;
                s->of_best = scores;
        } else if (scheduler_is_better(s, m, &scores, s->second, &s->of_second)) {
                s->second = m;
                s->of_second = scores;
        }
}

int scheduler_pick(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine **ret,
                   Error *ret_why) {
        size_t n = scheduler_view_n_machines(view);
        Selection s = { .full = scheduler_view_has_sizes(view) };
        bool explain = ret_why && n <= EXPLAIN_MAX;
        bool ordered = scheduler_is_default(unit->unit->placement.size) &&
                       scheduler_spread_keys(unit)->n == 0 &&
                       !scheduler_view_cluster(view)->rules[CLUSTER_REPLACES].all;

        for (size_t i = 0; i < n && !scheduler_view_is_spent(view); i++) {
                const ClusterMachine *m = scheduler_view_by_load(view, i);
                bool can_win = scheduler_can_win(view, unit, &s, m);

                if (!can_win && !explain)
                        break;
                scheduler_view_count_work(view, 1);
                if (!scheduler_qualifies(view, unit, m, &s))
                        continue;
                /* Machines of unknown capacity come first: unknown is neither empty nor full. */
                s.full = s.full && resources_are_set(scheduler_view_capacity(view, m));
                if (can_win || !s.second || !ordered) /* else the second precedes it, too */
                        scheduler_compare(view, unit, &s, m);
        }
        if (scheduler_view_is_spent(view))
                return -E2BIG;
        if (!s.best) {
                if (ret_why)
                        scheduler_explain(view, unit, NULL, ret_why);
                return s.n_damped > 0 ? -EAGAIN : -ENOENT;
        }
        if (ret_why)
                scheduler_state_reason(view, unit, &s, explain, ret_why);
        *ret = s.best;
        return 0;
}
