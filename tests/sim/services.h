/* Invariants of endpoints: what the files of each host list, and when. A check that fails ends the run. */
#pragma once

#include "tests/sim/cluster.h"

/* Between two events, and often. */
void services_watch(SimCluster *c);
/* Its daemon is about to end: it may have listed what its view has, since the last look. */
void services_watch_end(SimMachine *m);
/* The daemon of the host stops the unit now. */
void services_check_stop(SimMachine *m, const char *unit);
/* All is well: keys equal what runs, and files equal keys. 'cluster': the leader's view. */
void services_check_healed(SimCluster *c, const Cluster *cluster);
