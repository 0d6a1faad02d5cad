/* Transfer of the tree to a lagging follower: the checkpoint's file in acknowledged chunks, then Raft's
 * message.
 *
 * There is one transfer per follower. It starts again when it breaks, and continues until the follower's log
 * is known to have passed it, or this host does not lead any more. The receiver keeps one transfer, of the
 * newest leader. No buffer is larger than a chunk. */
#pragma once

#include "kvstore/raft/replica.h"

enum {
        TRANSFER_CHUNK = 256 * 1024,
        TRANSFER_WINDOW = 4,         /* chunks without an acknowledgement */
        TRANSFERS_MAX = 4,           /* concurrent transfers */
        TRANSFER_SILENCE_MS = 10000, /* without an acknowledgement: start again */
};

int transfers_new(Transfers **ret, Replica *p);
Transfers *transfers_free(Transfers *t); /* NULL allowed; returns NULL. Not while transfers_busy() */
/* End all transfers, and free their space. Not while transfers_busy(). */
void transfers_drop(Transfers *t);
/* Work off the loop is in flight. */
bool transfers_busy(const Transfers *t);

/* Send a tree of at least 'index' to 'to'. No effect while a transfer to it runs. 'again': the follower's
 * tree diverged; it replaces its tree when it has received all of this one, and keeps its log. */
void transfers_send(Transfers *t, uint64_t to, uint64_t index, bool again);
/* Continue or end transfers: there is a new checkpoint, or Raft's state has changed. */
void transfers_step(Transfers *t);

/* Return whether the chunk is from a leader whose term is not before this host's. */
bool transfers_on_snapshot(Transfers *t, PeerSession *session, const void *payload, size_t size);
/* The handler of PEER_SNAPSHOT_ACK; 'userdata' is the Replica. */
void transfers_on_ack(void *userdata, PeerSession *session, PeerFrame type, const void *payload, size_t size);

/* This host could not store the last received tree. */
bool transfers_refuses(const Transfers *t);
/* Describe that, or a follower without room for this host's tree; *ret stays unchanged if there is no
 * problem. */
void transfers_problem(const Transfers *t, char *ret, size_t size);

/* The last tree that was received completely; NULL: none. */
Checkpoint *transfers_whole(Transfers *t);
/* The received tree of 'message'; NULL: drop the message. */
Checkpoint *transfers_received(Transfers *t, const RaftMessage *message);
