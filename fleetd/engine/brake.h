/* The mass-failure brake: when many hosts vanish together, the network has probably failed, and moving all
 * units at once would overload the remaining hosts.
 *
 * Computed from the presences, so that a new leader has the same brake. The brake is on if more than a third
 * of all hosts, and at least two, were lost within BRAKE_WINDOW_MS. No unit moves for BrakeSec= then;
 * afterwards one host after the other is released. */
#pragma once

#include "fleetd/registry/cluster.h"

enum { BRAKE_WINDOW_MS = 60000 };

typedef struct Brake {
        const ClusterMachine **hosts; /* that vanished together, by the time of their loss; borrowed */
        size_t n;
        size_t n_free;     /* of these, the first ones are released */
        uint64_t again_ms; /* from now until time alone changes this; UINT64_MAX: never */
} Brake;

void brake_done(Brake *brake);

/* 'is_through' returns whether all moves away from a host are complete. 0 or -ENOMEM. */
int brake_update(const Cluster *cluster, uint64_t brake_ms,
                 bool (*is_through)(void *userdata, const ClusterMachine *host), void *userdata, Brake *ret);
/* Return whether no unit moves away from the machine. */
bool brake_holds(const Brake *brake, const ClusterMachine *machine);
