/* Users who write one key after the other, at random hosts, while a simulated cluster changes. One load at a
 * time. */
#pragma once

#include "tests/sim/cluster.h"

/* Write a key each 'pause_ms' until load_stop(), at the hosts of 'cluster' for which 'counts' is true; NULL:
 * at all. At most LOAD_WRITES_MAX keys are written. */
enum { LOAD_WRITES_MAX = 20000 };
void load_start(SimCluster *cluster, uint64_t pause_ms, bool (*counts)(const SimMachine *m));
void load_stop(void);
/* Return whether the tree of a host that serves has each write that was acknowledged. */
bool load_is_on(const SimMachine *m);
/* Fail unless at least half of the writes were acknowledged. */
void load_check(void);
