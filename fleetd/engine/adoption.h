/* The beginning of a new lineage (rule 26): the tree may be of last week, and what it says of a host means
 * nothing until that host has spoken. Pure. */
#pragma once

#include "fleetd/registry/cluster.h"

enum {
        ADOPTION_MS = 5 * 60 * 1000
}; /* of cluster time: who has not reported then is taken for what his presence says */

/* Whether orders are still to wait: *ret_missing is a known host that has not said what runs on it,
 * *ret_again_ms when time alone ends the waiting. */
bool engine_awaits_reports(const Cluster *cluster, const ClusterMachine **ret_missing,
                           uint64_t *ret_again_ms);
