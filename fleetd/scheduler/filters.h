/* Hard rules of placement as a table: each rejects a machine with a reason. */
#pragma once

#include "fleetd/scheduler/scheduler.h"

/* A unit on a machine; 'staying': see scheduler_refusal(). */
typedef struct Candidate {
        const SchedulerView *view;
        const ClusterUnit *unit;
        const Placement *placement; /* of the unit */
        const ClusterMachine *machine;
        bool staying;
} Candidate;

typedef struct Filter {
        const char *name; /* of the option in the unit file, "" if none sets this rule */
        int (*check)(const Candidate *c, Error *ret_why); /* 0, or -ENOENT: the rule rejects the machine */
} Filter;

extern const Filter scheduler_filters[_RULE_MAX];
