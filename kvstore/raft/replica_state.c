/* The states of a replica, and the transitions between them. */
#include "kvstore/raft/replica_internal.h"

/* Row: from. Bit: to. */
static const unsigned transitions[_REPLICA_STATE_MAX] = {
        [REPLICA_WAITING] = 1u << REPLICA_OPEN | 1u << REPLICA_STOPPING | 1u << REPLICA_QUARANTINED |
                            1u << REPLICA_CLOSING,
        [REPLICA_OPEN] = 1u << REPLICA_FAILING | 1u << REPLICA_STOPPING | 1u << REPLICA_RESTARTING |
                         1u << REPLICA_CLOSING,
        [REPLICA_FAILING] = 1u << REPLICA_TRANSFERRING | 1u << REPLICA_STOPPING | 1u << REPLICA_FAILED |
                            1u << REPLICA_CLOSING,
        [REPLICA_TRANSFERRING] = 1u << REPLICA_STOPPING | 1u << REPLICA_FAILED | 1u << REPLICA_CLOSING,
        [REPLICA_STOPPING] = 1u << REPLICA_FAILED | 1u << REPLICA_CLOSING,
        [REPLICA_FAILED] = 1u << REPLICA_PROBING | 1u << REPLICA_QUARANTINED | 1u << REPLICA_CLOSING,
        [REPLICA_PROBING] = 1u << REPLICA_OPEN | 1u << REPLICA_FAILED | 1u << REPLICA_CLOSING,
        [REPLICA_QUARANTINED] = 1u << REPLICA_WAITING | 1u << REPLICA_CLOSING,
        [REPLICA_RESTARTING] = 1u << REPLICA_OPEN | 1u << REPLICA_STOPPING | 1u << REPLICA_CLOSING,
};

bool replica_state_may_become(ReplicaState from, ReplicaState to) {
        return transitions[from] & 1u << to;
}

void replica_move(Replica *p, ReplicaState to) {
        assert(replica_state_may_become(p->state, to));
        p->state = to;
}

ReplicaState replica_state(const Replica *p) {
        return p->state;
}

bool replica_is_open(const Replica *p) {
        return p->state == REPLICA_OPEN;
}

bool replica_takes_inputs(const Replica *p) {
        return p->state == REPLICA_OPEN || p->state == REPLICA_FAILING || p->state == REPLICA_TRANSFERRING;
}

int replica_error(const Replica *p, const char **ret_reason) {
        if (p->error < 0 && ret_reason)
                *ret_reason = p->reason;
        return p->error;
}
