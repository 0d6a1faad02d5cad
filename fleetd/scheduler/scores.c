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

static uint64_t score_replaced(const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine) {
        return scheduler_replaced_by(view, unit, machine) != NULL;
}

static uint64_t score_fullness(const SchedulerView *view, const ClusterUnit *unit,
                               const ClusterMachine *machine) {
        return scheduler_view_fullness(view, machine, unit->unit->placement.size);
}

static uint64_t score_units(const SchedulerView *view, const ClusterUnit *unit,
                            const ClusterMachine *machine) {
        return scheduler_view_load(view, machine);
}

const Score scheduler_scores[_SCORE_MAX] = {
        [SCORE_REPLACED] = { "has no unit that replaces it", score_replaced },
        [SCORE_SPREAD] = { "had the fewest of its instances", scheduler_view_spread },
        [SCORE_FULLNESS] = { "is the least full", score_fullness },
        [SCORE_UNITS] = { "had the fewest units", score_units },
};

void scores_read(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                 Scores *ret) {
        for (SchedulerScore i = 0; i < _SCORE_MAX; i++)
                ret->costs[i] = scheduler_scores[i].cost(view, unit, machine);
}

SchedulerScore scores_decide(const Scores *a, const Scores *b, bool full) {
        SchedulerScore i = 0;

        while (i < _SCORE_MAX && (a->costs[i] == b->costs[i] || (i == SCORE_FULLNESS && !full)))
                i++;
        return i;
}
