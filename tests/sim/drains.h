/* People who cordon, drain and uncordon hosts of a simulated cluster, or move a unit, and the checks. */
#pragma once

#include "tests/sim/cluster.h"

/* Units that stop before they move; their names begin with this. */
#define DRAINS_STOPS_FIRST "first"

/* Change the maintenance of a random host from time to time, until cluster->quiet. Sets cluster->drains. */
void drains_begin(SimCluster *c);
/* Note which hosts are in maintenance, in regular intervals. */
void drains_watch(SimCluster *c);
/* After faults: each drain has ended, or each unit that is left has a reason; each move has ended. */
void drains_check(SimCluster *c);
/* End the maintenance of all hosts; true: none is left. */
bool drains_end(SimCluster *c);
/* Return whether a drain, or its end, may stop or start a unit that has run on 'm' since 'since_ms'. */
bool drains_may_move(const SimCluster *c, uint64_t since_ms);
/* The unit stops on 'm' for no other reason than a drain. Fail unless it may: it has been started elsewhere,
 * or stops first, within the limits, or the deadline has passed. */
void drains_check_stop(SimMachine *m, const char *unit, uint64_t since_ms);
/* Print how often each request was sent in all worlds. */
void drains_print(void);
