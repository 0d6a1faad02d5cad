#include "fleetd/scheduler/scheduler.h"

#include "fleetd/scheduler/filters.h"
#include "fleetd/scheduler/scores.h"

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

bool scheduler_would_fit_freed(const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine) {
        return scheduler_is_conflict(scheduler_check(0, view, unit, machine, false, NULL)) &&
               scheduler_check(RULE_PORT + 1, view, unit, machine, false, NULL) == RULE_NONE;
}

bool scheduler_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                    bool staying, Error *ret_why) {
        return scheduler_refusal(view, unit, machine, staying, ret_why) == RULE_NONE;
}

bool scheduler_may_return(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        SchedulerRule rule = scheduler_refusal(view, unit, machine, false, NULL);

        return rule == RULE_NONE || rule == RULE_FLAP_DAMPING;
}

bool scheduler_would_fit_uncordoned(const SchedulerView *view, const ClusterUnit *unit,
                                    const ClusterMachine *machine) {
        return scheduler_refusal(view, unit, machine, false, NULL) == RULE_MAINTENANCE && !machine->reboot &&
               !cluster_machine_is_leaving(machine) && !cluster_machine_is_stopping(machine);
}

bool scheduler_would_fit_started(const SchedulerView *view, const ClusterUnit *unit,
                                 const ClusterMachine *machine, bool *ret_cordoned) {
        SchedulerRule rule;

        *ret_cordoned = false;
        if ((machine->presence != PRESENCE_LOST && machine->presence != PRESENCE_LEFT) || !machine->facts ||
            machine->member.agentless || cluster_machine_is_unreadable(machine) ||
            cluster_machine_is_leaving(machine))
                return false;
        rule = scheduler_check(RULE_PRESENCE + 1, view, unit, machine, false, NULL);
        if (rule == RULE_MAINTENANCE) {
                *ret_cordoned = !cluster_machine_is_stopping(machine) && !machine->reboot;
                rule = scheduler_check(RULE_MAINTENANCE + 1, view, unit, machine, false, NULL);
        }
        return rule == RULE_NONE;
}

bool scheduler_may_adopt(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        SchedulerRule rule = scheduler_refusal(view, unit, machine, false, NULL);

        if (rule == RULE_STICKY) /* its data follows */
                rule = scheduler_check(RULE_STICKY + 1, view, unit, machine, false, NULL);
        if (rule == RULE_PORT)
                rule = scheduler_check(RULE_PORT + 1, view, unit, machine, false, NULL);
        return rule == RULE_NONE || rule == RULE_MAINTENANCE || rule == RULE_MOVE ||
               rule == RULE_FLAP_DAMPING;
}

/* -- Selection -- */

enum { EXPLAIN_MAX = 100 }; /* machines; of more, the answer does not state how many qualify */

/* The machines that a selection has considered. */
typedef struct Selection {
        size_t n_qualified;
        size_t n_damped;              /* that qualify after their hold-off */
        const ClusterMachine *damped; /* one of them */
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

/* State why the machine was selected. A requested move leaves no choice (RULE_MOVE). Otherwise the reason
 * names the first score: it decides wherever the heavier scores are equal. 'all': the selection has
 * considered all machines. */
static void scheduler_state_reason(const SchedulerView *view, const ClusterUnit *unit,
                                   const ClusterMachine *best, const Selection *count, bool all,
                                   Error *ret_why) {
        const char *name = cluster_machine_name(best), *first = scheduler_scores[0].name;
        unsigned long long cost = scheduler_scores[0].cost(view, unit, best);
        char damped[160] = "";

        if (all && count->n_damped == 1)
                snprintf(damped, sizeof(damped), "; %.64s was lost %llu times in short order",
                         cluster_machine_name(count->damped), (unsigned long long) count->damped->losses);
        else if (all && count->n_damped > 1)
                snprintf(damped, sizeof(damped), "; %zu others were lost repeatedly in short order",
                         count->n_damped);

        if (unit->move) /* others may qualify, too, but for the request */
                error_set(ret_why, 0, "moved to %s on request", name);
        else if (all && count->n_qualified == 1)
                error_set(ret_why, 0, "%s was the only machine that qualified%s", name, damped);
        else if (all)
                error_set(ret_why, 0, "%s %s (%llu) of %zu machines that qualify%s", name, first, cost,
                          count->n_qualified, damped);
        else
                error_set(ret_why, 0, "%s %s (%llu) of those that qualify", name, first, cost);
}

int scheduler_pick(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine **ret,
                   Error *ret_why) {
        size_t n = scheduler_view_n_machines(view);
        const ClusterMachine *best = NULL;
        uint64_t lowest = UINT64_MAX;
        Selection count = {};
        bool explain = ret_why && n <= EXPLAIN_MAX;

        for (size_t i = 0; i < n && !scheduler_view_is_spent(view); i++) {
                const ClusterMachine *m = scheduler_view_by_load(view, i);
                bool can_win = !best || scores_bound(view, unit, m) < lowest;

                if (!can_win && !explain)
                        break;
                scheduler_view_count_work(view, 1);
                if (!scheduler_qualifies(view, unit, m, &count) || !can_win)
                        continue;

                uint64_t sum = scores_sum(view, unit, m);

                if (sum < lowest) {
                        lowest = sum;
                        best = m;
                }
        }
        if (scheduler_view_is_spent(view))
                return -E2BIG;
        if (!best) {
                if (ret_why)
                        scheduler_explain(view, unit, NULL, ret_why);
                return count.n_damped > 0 ? -EAGAIN : -ENOENT;
        }
        if (ret_why)
                scheduler_state_reason(view, unit, best, &count, explain, ret_why);
        *ret = best;
        return 0;
}
