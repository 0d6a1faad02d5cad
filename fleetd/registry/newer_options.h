/* Options of units that depend on the cluster: on its feature level, or on its other units. */
#pragma once

#include "fleetd/registry/cluster.h"

/* Reject a unit with an option that older hosts of a cluster of this level would ignore: -EOPNOTSUPP, with
 * the command that ends that. Level 0 is not known yet, and rejects nothing. Pure. */
int cluster_check_options(const Unit *unit, unsigned level, Error *err);

/* Reject MaxSurge= of a unit that others follow by MachineOf=, and MachineOf= of such a unit: during an
 * update it runs on two machines. Reject Replicas= of an instance without a template. Reject a template whose
 * options of updates and health are invalid with the name of an instance that follows it, or with its
 * drop-ins; of many instances, the first ones by name are checked. *checked counts what that reads; it is 0
 * before the first unit of a request, whose units share the limit. -EINVAL, -ENOMEM. */
int cluster_check_followers(const Cluster *c, const Unit *unit, size_t *checked, Error *err);
