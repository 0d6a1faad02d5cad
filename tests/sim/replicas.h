/* A template with Replicas=, the requests of people about its number, its target state and its instances, and
 * the check that exactly the demanded instances exist. The leader's daemon is killed after some requests. */
#pragma once

#include "tests/sim/cluster.h"

/* Begin the requests, until cluster->quiet. */
void replicas_begin(SimCluster *c);
/* Return whether it is a unit of the set: it starts and stops as its number demands. */
bool replicas_has(const char *unit);
/* Fail if other instances exist than people have asked for. Without faults. */
void replicas_check(SimCluster *c);
void replicas_print(void);
