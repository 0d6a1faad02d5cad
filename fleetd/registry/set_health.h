/* The health of a set: the instances of a template, or the machines of one unit. */
#pragma once

#include "fleetd/registry/cluster.h"

typedef struct SetHealth {
        uint64_t n, n_unhealthy; /* 'n': instances that are meant to run, on machines that are up */
} SetHealth;

/* Count the set of a unit in the cluster view, without the instance of that name on 'machine'. */
SetHealth set_health_of_others(const Cluster *c, const char *unit, const char *machine);
