/* Presences over time. Flap damping: a machine that is lost repeatedly receives no units for a hold-off. Its
 * presence key has the state. */
#pragma once

#include "fleetd/registry/cluster.h"

enum {
        FLAP_WINDOW_MS = 600000, /* losses within this time of each other count together */
        HOLD_OFF_MS = 30000,     /* of the second loss; each further loss doubles it */
        HOLD_OFF_MAX_MS = 60 * 60000,
        LONG_LOST_MS = 60 * 60000, /* then reasons omit a lost machine, and it may be removed */
};

/* Return the record of a machine whose presence becomes 'presence', without a reason. 'was' is NULL for an
 * unknown machine. 'planned': this loss does not count, because the cluster begins a new lineage, which its
 * hosts join one by one. 'announced': its daemon has announced that it stops. A shutdown and a planned reboot
 * are announced by the keys of the machine, too. */
PresenceRecord presence_next(const ClusterMachine *was, Presence presence, bool planned, bool announced,
                             uint64_t now_ms);

/* Return whether reasons omit the machine: it has been lost for LONG_LOST_MS, or was replaced. */
bool presence_is_omitted(const ClusterMachine *m, uint64_t now_ms);

/* Return the rest of the machine's hold-off in ms; 0: none. */
uint64_t presence_hold_off_ms(const ClusterMachine *m, uint64_t now_ms);
