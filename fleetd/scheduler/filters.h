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

/* Why a rule rejects one machine. */
typedef struct Refusal {
        Verdict why;
        const ClusterUnit *conflict; /* the unit on the machine that excludes this one; or NULL */
} Refusal;

typedef struct Filter {
        const char
                *name; /* of the option in the unit file, or that of /fleet/v1/why for a rule without one */
        /* 0, or -ENOENT: the rule rejects the machine. 'ret' may be NULL. */
        int (*check)(const Candidate *c, Refusal *ret);
} Filter;

extern const Filter scheduler_filters[_RULE_MAX];

/* Return the first rule that forbids the unit to run on the machine, or RULE_NONE: scheduler_refusal().
 * 'ignored': bits of rules that do not count. */
SchedulerRule scheduler_check(unsigned ignored, const SchedulerView *view, const ClusterUnit *unit,
                              const ClusterMachine *machine, bool staying, Refusal *ret);
