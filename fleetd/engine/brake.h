/* The brake: when many hosts vanish together it is more likely that the network broke than that they did, and
 * moving all their units at once would drown the rest. Rule 20 of ARCHITECTURE section 13. Read from the
 * presences, so that a new leader knows. */
#pragma once

#include "fleetd/registry/cluster.h"

enum { BRAKE_WINDOW_MS = 60000 };

typedef struct Brake {
        const ClusterMachine **hosts; /* that vanished together, by the time of their loss; borrowed */
        size_t n;
        size_t n_free;     /* of those, the first so many may be replaced */
        uint64_t again_ms; /* from now until time alone changes this; UINT64_MAX: never */
} Brake;

void brake_done(Brake *brake);

/* 'is_through' says whether nothing is left to be moved away from a host, and what was moved runs. */
int brake_update(const Cluster *cluster, uint64_t brake_ms,
                 bool (*is_through)(void *userdata, const ClusterMachine *host), void *userdata, Brake *ret);
bool brake_holds(const Brake *brake, const ClusterMachine *machine);
