/* Choosing a machine for a unit. Pure: the answer depends on the arguments alone.
 *
 * Hard rules are a table of predicates, each with a name and a sentence for its refusal; soft rules a table of scores. The
 * engine picks by it, and `why` and the API explain by the same table. Rules: fleet's (reference: its engine's decisions). */
#pragma once

#include "fleetd/registry/cluster.h"

/* A machine as one pass of the engine sees it: its orders, and what the pass has already decided. */
typedef struct SchedulerView SchedulerView;

int scheduler_view_new(const Cluster *cluster, SchedulerView **ret);
SchedulerView *scheduler_view_free(SchedulerView *view);
/* Decided in this pass: 'unit' is (no longer) on that machine. */
int scheduler_view_place(SchedulerView *view, const char *machine_id, const ClusterUnit *unit);
void scheduler_view_remove(SchedulerView *view, const char *machine_id, const char *unit);

/* Whether 'unit' may run on 'machine'; if not, one sentence why ("Conflicts=web@*.service, and web@1.service runs here").
 * 'staying': the unit is on it already, it shall only be checked again. */
bool scheduler_fits(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine *machine, Error *ret_why);

/* The machine with the fewest units among those that fit and are up; among equals the smallest id. -ENOENT: none; 'ret_why'
 * sums up: "alpha and beta: Conflicts=...; gamma: no metadata ssd=true". On success 'ret_why' says why there. */
int scheduler_pick(const SchedulerView *view, const ClusterUnit *unit, const ClusterMachine **ret, Error *ret_why);
