/* Soft rules of placement as a table: each gives a machine a cost. The machine with the lowest cost in the
 * first row in which machines differ gets the unit. */
#pragma once

#include "fleetd/scheduler/scheduler.h"

typedef struct Score {
        const char *name; /* as the reason of a decision states it */
        uint64_t (*cost)(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine);
} Score;

/* In the order of the table. The view sorts its machines by the rows from SCORE_FULLNESS on, for a unit of
 * default size, so that a search can end early. */
typedef enum SchedulerScore {
        SCORE_REPLACED, /* 1 if a unit there replaces this one */
        SCORE_SPREAD,   /* see scheduler_view_spread() */
        SCORE_FULLNESS, /* after placement; see scheduler_view_fullness() */
        SCORE_UNITS,    /* assignments to run and load units */
        _SCORE_MAX,
} SchedulerScore;

extern const Score scheduler_scores[_SCORE_MAX];

typedef struct Scores {
        uint64_t costs[_SCORE_MAX];
} Scores;

void scores_read(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                 Scores *ret);
/* Return the first row in which both differ, or _SCORE_MAX. 'full': fullness counts. */
SchedulerScore scores_decide(const Scores *a, const Scores *b, bool full);
