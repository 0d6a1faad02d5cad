/* What other components read of the replica, and its frames. */
#include "kvstore/raft/replica_internal.h"

bool replica_has_vote(const Replica *p) {
        return raft_core_role(p->core) == RAFT_ROLE_VOTER;
}

bool replica_is_leader(const Replica *p) {
        return replica_is_open(p) && raft_core_state(p->core) == RAFT_STATE_LEADER;
}

uint64_t replica_term(const Replica *p) {
        return replica_is_open(p) ? raft_core_term(p->core) : 0;
}

bool replica_has_founded(const Replica *p) {
        return p->founded;
}

const ReplicaOptions *replica_options(const Replica *p) {
        return &p->options;
}

const Identity *replica_identity(const Replica *p) {
        return &p->identity;
}

const ReplicationStats *replica_stats(const Replica *p) {
        return &p->stats;
}

const DurationCounts *replica_log_writes(const Replica *p) {
        return p->log ? raft_log_writes(p->log) : NULL;
}

RaftStateInfo replica_checkpoint_info(const Checkpoint *c) {
        return (RaftStateInfo) {
                .index = c->meta.applied,
                .term = c->meta.applied_term,
                .configuration_index = c->meta.configuration_index,
                .configuration = c->configuration,
                .configuration_size = c->configuration_size,
        };
}

RaftCore *replica_core(const Replica *p) {
        return p->core;
}

DataDir *replica_data_dir(Replica *p) {
        return &p->data_dir;
}

ConsistencyCheck *replica_consistency(const Replica *p) {
        return p->consistency;
}

Transfers *replica_transfers(const Replica *p) {
        return p->transfers;
}

/* -- Frames -- */

void replica_write_head(const Replica *p, Writer *w, uint64_t to) {
        write_u64(w, p->identity.cluster_id);
        write_u64(w, p->identity.raft_id);
        write_u64(w, to);
}

bool replica_read_head(const Replica *p, PeerSession *session, Reader *r, uint64_t *ret_from) {
        uint64_t cluster_id = read_u64(r), from = read_u64(r), to = read_u64(r);
        const PeerHandshake *handshake = peer_handshake(session);

        if (r->failed || from == 0 || to == 0)
                return false;
        if (cluster_id != p->identity.cluster_id || to != p->identity.raft_id || from == to)
                return false;
        /* With a key file, a host may not have sent its Raft ID yet. */
        if (handshake->raft_id != from &&
            (handshake->raft_id != 0 || peer_authentication(session)->kind == TLS_PEER_CERTIFICATE))
                return false;
        *ret_from = from;
        return true;
}

int replica_send(Replica *p, uint64_t to, PeerFrame type, const Writer *w) {
        if (!p->options.peers)
                return -ENOTCONN;
        if (w->error < 0)
                return w->error;
        return peers_send_raft(p->options.peers, to, type, w->bytes, w->size);
}

void replica_answer(Replica *p, uint64_t session_number, PeerFrame type, const Writer *w) {
        PeerSession *session = p->options.peers ? peers_session(p->options.peers, session_number) : NULL;

        if (session && w->error == 0)
                (void) peer_reply(session, type, w->bytes, w->size);
}

void replica_send_message(Replica *p, uint64_t to, const RaftMessage *message) {
        _cleanup_writer_ Writer w = {};
        int r;

        replica_write_head(p, &w, to);
        raft_message_encode(&w, message);
        r = replica_send(p, to, PEER_RAFT, &w); /* dropping is safe */
        if (message->type == RAFT_MESSAGE_APPEND)
                replication_stats_sent(&p->stats, to, loop_now_ms(p->loop), r < 0);
}
