/* Units with secrets and keys, the requests of people about them, and checks of their contents on the
 * simulated hosts. One world has them at a time. */
#pragma once

#include "tests/sim/cluster.h"

/* In some worlds without attached hosts, give the founder a level without contents; before it starts. */
void contents_age(SimCluster *c);
/* Submit units of each OnChange=, and change their texts, keys and secrets from now on, until cluster->quiet.
 * Hosts with certificates have secrets. */
void contents_begin(SimCluster *c);
/* A daemon has received a key. */
void contents_note(SimCluster *c, const KvNode *node);
/* Check the files of all hosts. To be called repeatedly. */
void contents_watch(SimCluster *c);

/* A process of a unit starts or ends. Return false for other units. A start has the files of one content,
 * which is not older than the assigned one; fleetd stops no unit without another text or content, and makes
 * no more instances of a set unavailable than MaxUnavailable=. */
bool contents_check_start(SimMachine *m, const char *unit);
bool contents_check_stop(SimMachine *m, const char *unit, bool asked);
/* Fail if a content has not arrived, and neither a problem nor its rollout explains that. Without faults. */
void contents_check(SimCluster *c);
/* Give all units a last text and content; return whether each instance has both. To be called repeatedly. */
bool contents_end(SimCluster *c);
void contents_failed(SimCluster *c);      /* they never have */
void contents_count(const SimCluster *c); /* what has happened in this world */
/* Print how often it happened in all worlds. */
void contents_print(void);
