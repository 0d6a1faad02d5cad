/* The begin of a new lineage. The tree may be a week old: its contents about a host mean nothing until that
 * host has reported. Pure. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Cluster time after which the engine no longer waits for reports. */
enum { ADOPTION_MS = 5 * 60 * 1000 };

/* Return whether the engine has to wait. *ret_missing is a known host that has not reported its units;
 * *ret_again_ms is the time from now after which the wait ends. */
bool engine_awaits_reports(const Cluster *cluster, const ClusterMachine **ret_missing,
                           uint64_t *ret_again_ms);
