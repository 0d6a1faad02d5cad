/* How many hosts may hold a replica. */
#pragma once

#include "base/error.h"
#include "fleetd/registry/cluster.h"

enum { VOTERS_STANDBYS_MAX = 2 };

/* Return how many hosts other than that machine, at that address, hold a replica or may hold one. Machines of
 * one address are one host that was installed again. */
size_t voters_others(const Cluster *cluster, const char *machine_id, const char *address);

/* Return how many hosts hold a replica with the setting 'voters', if there are so many. */
size_t voters_hosts_max(unsigned voters);
/* The same for a cluster: by its settings, or before it has any, by Voters= of this host. Voters=1 without
 * settings limits no host. Below KV_LEVEL_ATTACHED, a cluster has no other hosts. */
size_t voters_hosts_limit(const Cluster *cluster, unsigned configured);
/* Write why a cluster below KV_LEVEL_ATTACHED, with 'n' hosts of 'max', admits no other one, with the next
 * step. Return 'error'. */
int voters_refuse_host(size_t n, size_t max, int error, Error *err);
