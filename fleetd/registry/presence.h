/* A machine that keeps getting lost: what its presence key remembers of that. */
#pragma once

#include "fleetd/registry/cluster.h"

enum {
        FLAP_WINDOW_MS = 600000, /* two losses within so long are one trouble */
        HOLD_OFF_MS =
                30000, /* the second one costs so long without anything new, each further one twice as long */
        HOLD_OFF_MAX_MS = 60 * 60000,
};

/* The record of a machine that is 'presence' from now on. 'was' may be NULL: never heard of. No reason yet.
 */
PresenceRecord presence_next(const ClusterMachine *was, Presence presence, uint64_t now_ms);

/* How long from now it gets nothing new; 0: it may. */
uint64_t presence_hold_off_ms(const ClusterMachine *m, uint64_t now_ms);
