#include "fleetd/scheduler/scores.h"

/* -- Replaces= -- */

typedef struct ReplacerSearch {
        const SchedulerView *view;
        const ClusterUnit *unit;
        const ClusterUnit *found;
} ReplacerSearch;

static bool scheduler_on_replacer(void *userdata, const Placed *other, const char *pattern) {
        ReplacerSearch *s = userdata;

        if (other->stopping ||
            scheduler_view_match(s->view, &s->unit->unit->placement.replaces, other->unit->name))
                return true;
        s->found = other->unit;
        return false;
}

const ClusterUnit *scheduler_replaced_by(const SchedulerView *view, const ClusterUnit *unit,
                                         const ClusterMachine *machine) {
        ReplacerSearch s = { .view = view, .unit = unit };

        scheduler_view_each_naming(view, machine, CLUSTER_REPLACES, unit->name, scheduler_on_replacer, &s);
        return s.found;
}

/* -- The table -- */

static uint64_t score_units(const SchedulerView *view, const ClusterUnit *unit,
                            const ClusterMachine *machine) {
        return scheduler_view_load(view, machine);
}

static uint64_t score_replaced(const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine) {
        return scheduler_replaced_by(view, unit, machine) != NULL;
}

const Score scheduler_scores[_SCORE_MAX] = {
        [SCORE_UNITS] = { "had the fewest units", 1, score_units },
        [SCORE_REPLACED] = { "has no unit that replaces it", UINT64_C(1) << 32, score_replaced },
};

uint64_t scores_bound(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        return scheduler_scores[0].weight * scheduler_scores[0].cost(view, unit, machine);
}

uint64_t scores_sum(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine) {
        uint64_t sum = 0;

        for (size_t i = 0; i < _SCORE_MAX; i++)
                sum += scheduler_scores[i].weight * scheduler_scores[i].cost(view, unit, machine);
        return sum;
}
