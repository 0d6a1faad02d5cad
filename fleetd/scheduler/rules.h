/* The hard rules of placement as a table; the scheduler's own. Each says no with a sentence. They see the
 * view of the pass, not the picture alone. */
#pragma once

#include "fleetd/scheduler/scheduler.h"

typedef struct Placed Placed;

/* A unit on a machine, as the view has it. */
struct Placed {
        const ClusterUnit *unit;
        const ClusterAssignment *assignment; /* NULL: decided in this pass */
        bool stopping; /* ordered to stop and not gone yet: it holds its place against newcomers, and counts
                          no more */
};

/* Of a unit there, and the pattern by which it was found; false ends the visits. */
typedef bool (*SchedulerViewEach)(void *userdata, const Placed *placed, const char *pattern);

/* Visit the units on the machine whose names match 'pattern'. */
void scheduler_view_each_named(const SchedulerView *view, const ClusterMachine *machine, const char *pattern,
                               SchedulerViewEach each, void *userdata);
/* Visit the units on the machine whose rule matches 'name'. */
void scheduler_view_each_naming(const SchedulerView *view, const ClusterMachine *machine, ClusterRule rule,
                                const char *name, SchedulerViewEach each, void *userdata);
uint64_t scheduler_view_now_ms(const SchedulerView *view); /* cluster time of the picture */
bool scheduler_view_has(const SchedulerView *view, const ClusterMachine *machine,
                        const char *unit); /* active there */

typedef struct Filter {
        SchedulerRule rule;
        const char *name; /* the option, as people write it */
        bool (*fits)(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine,
                     bool staying, Error *ret_why);
} Filter;

extern const Filter scheduler_filters[_RULE_MAX];
