/* Retired members: the cluster has replaced a host while it was silent. PEER_RETIRED: version, lineage, Raft
 * ID. */
#include "base/log.h"
#include "fleetd/sessions/membership_internal.h"

enum { RETIRED_PROTOCOL = 1 };

/* The cluster has replaced this host while it was silent: its Raft ID is in no configuration and in no key.
 * While it is attached, it may have a leader: that of the replica that it uses. */
void retiring_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                       size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r);
        uint64_t lineage = read_u64(&r), raft_id = read_u64(&r);
        const PeerHandshake *peer = peer_handshake(session);
        KvState state;

        kv_state(m->store, &state);
        if (reader_end(&r) < 0 || version != RETIRED_PROTOCOL || lineage != state.lineage ||
            peer->cluster_id != state.cluster_id || raft_id != state.raft_id || raft_id == 0 ||
            state.role == KV_ROLE_LEADER || (state.leader_id != 0 && !state.attached) || state.lost ||
            m->was_leaving)
                return;
        if (kv_retire(m->store, "its replica was removed from the cluster") == 0)
                log_notice(((LogFields) { .machine = peer->machine_id }),
                           "%s reports that member %llu was removed: this host joins again", peer->name,
                           (unsigned long long) raft_id);
}

/* Return whether the Raft ID of a session's host is in no configuration and in no member key of this view. */
static bool retiring_is_replaced(const Membership *m, const PeerSession *session, const KvState *state) {
        const PeerHandshake *peer = peer_handshake(session);
        const ClusterMachine *known = cluster_machine(registry_cluster(m->registry), peer->machine_id);

        if (!state->ready || !registry_is_current(m->registry) || peer->raft_id == 0 ||
            peer->lineage != state->lineage ||
            (known && (known->member.raft_id == peer->raft_id || !LIST_EMPTY(&known->unreadable))))
                return false;
        for (size_t i = 0; i < state->n_members; i++)
                if (state->members[i].raft_id == peer->raft_id)
                        return false;
        return true;
}

static void retiring_send(const KvState *state, PeerSession *session) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, RETIRED_PROTOCOL);
        write_u64(&w, state->lineage);
        write_u64(&w, peer_handshake(session)->raft_id);
        if (w.error == 0)
                (void) peer_reply(session, PEER_RETIRED, w.bytes, w.size);
}

static void retiring_on_synced(void *userdata, KvStatus status) {
        Membership *m = userdata;
        PeerSession *session = peers_session(m->peers, m->retiring.session);
        KvState state;

        m->retiring.session = 0;
        kv_state(m->store, &state);
        if (status == KV_OK && session && retiring_is_replaced(m, session, &state))
                retiring_send(&state, session);
}

/* The host may not know the leader, and the leader may not dial it: each member answers. The view of a member
 * that does not lead may be older than the Raft ID, so it is brought up to date first. */
void retiring_check(Membership *m, PeerSession *session) {
        KvState state;

        if (peer_handshake(session)->raft_id == 0)
                return;
        kv_state(m->store, &state);
        if (!retiring_is_replaced(m, session, &state))
                return;
        if (state.role == KV_ROLE_LEADER) {
                retiring_send(&state, session);
        } else if (m->retiring.session == 0) {
                m->retiring.session = peer_number(session);
                m->retiring.sync = (KvSync) { .done = retiring_on_synced, .userdata = m };
                kv_sync(m->store, &m->retiring.sync);
        }
}
