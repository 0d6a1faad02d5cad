/* Hard rules of placement as a table: each rejects a machine with a reason. */
#pragma once

#include "fleetd/scheduler/scheduler.h"

typedef struct Filter {
        SchedulerRule rule;
        const char *name; /* of the option in the unit file, "" if none sets this rule */
        bool (*fits)(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                     bool staying, Error *ret_why);
} Filter;

extern const Filter scheduler_filters[_RULE_MAX];
