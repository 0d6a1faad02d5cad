/* Soft rules of placement as a table: each gives a machine a cost, and the machine with the lowest sum of
 * weighted costs gets the unit. */
#pragma once

#include "fleetd/scheduler/scheduler.h"

typedef struct Score {
        const char *name; /* as the reason of a decision states it */
        uint64_t weight;
        uint64_t (*cost)(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine);
} Score;

/* In the order of the table. The view sorts its machines by the first score, so that no machine after one
 * whose first score alone exceeds the lowest sum needs the others. A cost of one row never outweighs the next
 * heavier row. */
typedef enum SchedulerScore {
        SCORE_UNITS,    /* the load: assignments to run and load units */
        SCORE_REPLACED, /* 1 if a unit there replaces this one */
        _SCORE_MAX,
} SchedulerScore;

extern const Score scheduler_scores[_SCORE_MAX];

/* Return the sum of the weighted costs of 'machine'; the lower, the better. */
uint64_t scores_sum(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine);
/* Return the lowest sum that 'machine', and each machine after it in the view, can have. */
uint64_t scores_bound(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine);
