#include "fleetd/agent/hand_over.h"

#include "base/log.h"

HandOver hand_over_leadership(KvStore *store) {
        KvState state;
        int r;

        kv_state(store, &state);
        if (state.role != KV_ROLE_LEADER || state.n_voters_reachable < 2)
                return HAND_OVER_DONE;
        r = kv_transfer(store, 0);
        if (r == 0)
                log_notice(((LogFields) { .term = state.term }),
                           "transferring leadership to another host: this one goes down");
        return r == 0 || r == -EBUSY ? HAND_OVER_PENDING : HAND_OVER_DONE;
}
