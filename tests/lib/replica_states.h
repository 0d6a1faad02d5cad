/* Names of a replica's states, for traces and tables. */
#pragma once

#include "kvstore/raft/replica.h"

static inline const char *replica_state_name(ReplicaState state) {
        static const char *const names[_REPLICA_STATE_MAX] = {
                [REPLICA_WAITING] = "waiting",       [REPLICA_OPEN] = "open",
                [REPLICA_FAILING] = "failing",       [REPLICA_TRANSFERRING] = "transferring",
                [REPLICA_STOPPING] = "stopping",     [REPLICA_FAILED] = "failed",
                [REPLICA_PROBING] = "probing",       [REPLICA_QUARANTINED] = "quarantined",
                [REPLICA_RESTARTING] = "restarting", [REPLICA_CLOSING] = "closing",
        };

        return names[state];
}
