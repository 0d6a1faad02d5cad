/* Rollouts of a global unit whose texts are good or bad, the requests of people about them, and checks of
 * what the simulated systemd observes. One world has them at a time. */
#pragma once

#include "tests/sim/cluster.h"

/* Submit the unit with a good text, and change it from now on, until cluster->quiet. */
void rollouts_begin(SimCluster *c);
/* A daemon has received a key. */
void rollouts_note(SimCluster *c, const KvNode *node);
/* Count the states of the rollout; daemons end in some. To be called repeatedly. */
void rollouts_watch(SimCluster *c);

/* A process of the unit starts or ends. Return false for other units. Each text was assigned; fleetd makes
 * no more instances unavailable than MaxUnavailable=, and stops none that starts with the same text. */
bool rollouts_check_start(SimMachine *m, const char *unit);
bool rollouts_check_stop(SimMachine *m, const char *unit, bool asked);
/* Fail if the rollout has not ended, or waits for people. Without faults. */
void rollouts_check(SimCluster *c);
/* Roll out a last, good text; return whether all instances have it. To be called repeatedly. */
bool rollouts_end(SimCluster *c);
/* Print how often each state was reached in all worlds (reached.h). */
void rollouts_print(void);
