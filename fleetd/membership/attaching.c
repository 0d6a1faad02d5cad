/* Attached hosts: a host without a replica uses that of another one. */
#include "fleetd/membership/membership_internal.h"

static void attaching_consider(void *userdata, const PeerState *peer) {
        char *best = userdata;

        if (peer->dialed && peer->handshake.raft_id != 0 && !*best)
                memcpy(best, peer->handshake.machine_id, MACHINE_ID_SIZE);
}

void attaching_update(Membership *m, const KvState *state) {
        char best[MACHINE_ID_SIZE] = "";

        if (!state->attached && (state->raft_id != 0 || state->lost))
                return;
        peers_each(m->peers, attaching_consider, best);
        if (best[0] || state->attached)
                kv_attach(m->store, best[0] ? best : NULL);
}
