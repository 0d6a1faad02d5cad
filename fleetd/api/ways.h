/* What lets a machine run a unit that fits on none: members of the answer of /fleet/v1/why/NAME. Each is
 * true: it alone, done now, makes the unit fit. 'machines' are all of the cluster, sorted. */
#pragma once

#include "fleetd/scheduler/view.h"
#include "units/json.h"

/* "down": the hosts that would run the unit if they were up. */
void ways_write_down(Text *t, const SchedulerView *view, const ClusterUnit *u,
                     ClusterMachine *const *machines, size_t n);
/* "options": changes of its options, as "MaxPerMachine=2". */
void ways_write_options(Text *t, const SchedulerView *view, const ClusterUnit *u,
                        ClusterMachine *const *machines, size_t n);
/* "steps": arguments of fleetctl, the most direct ones first. */
void ways_write_steps(Text *t, const Cluster *c, const SchedulerView *view, const ClusterUnit *u,
                      ClusterMachine *const *machines, size_t n);
