/* The hard rules of placement as a table; the scheduler's own. Each says no with a sentence. They see the view of the pass,
 * not the picture alone. */
#pragma once

#include "fleetd/scheduler/scheduler.h"

typedef struct Placed Placed;

/* A unit on a machine, as the view has it. */
struct Placed {
        const ClusterUnit *unit;
        const ClusterOrder *order; /* NULL: decided in this pass */
        bool stopping;             /* ordered to stop and not gone yet: it holds its place against newcomers, and counts no more */
};

/* Calls 'each' for what is on the machine until it returns false. */
void view_each(const SchedulerView *view, const ClusterMachine *machine, bool (*each)(void *userdata, const Placed *placed), void *userdata);
/* Whether a unit there has rules about others; most machines have none such, and need not be looked through. */
bool view_has_related(const SchedulerView *view, const ClusterMachine *machine);
uint64_t view_now_ms(const SchedulerView *view); /* cluster time of the picture */
bool view_has(const SchedulerView *view, const ClusterMachine *machine, const char *unit); /* active there */

typedef struct Filter {
        SchedulerRule rule;
        const char *name; /* the option, as people write it */
        bool (*fits)(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine, bool staying, Error *ret_why);
} Filter;

extern const Filter scheduler_filters[_RULE_MAX];
