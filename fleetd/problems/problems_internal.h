/* The rows of hosts and of units. Within fleetd/problems only. */
#pragma once

#include "fleetd/problems/problems.h"

/* Before, and after those of the components. A row without a kind ends. */
extern const ProblemRow problem_host_rows[], problem_unit_rows[];

bool problem_has_presence(const ClusterMachine *m, Presence presence); /* false for NULL, or a removed one */
/* Return whether it may never return: it has been lost, or has left, for an hour, or was replaced. */
bool problem_is_gone(const ProblemSearch *s, const ClusterMachine *m);
bool problem_is_unreachable_voter(const ProblemSearch *s, const ClusterMachine *m);
/* Return whether the machine is about to report to the new lineage: not this host. */
bool problem_awaits(const ProblemSearch *s, const ClusterMachine *m);
