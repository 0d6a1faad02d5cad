/* The tree as a stream of chunks to a follower that fell behind: the checkpoint's file, acknowledged, then
 * Raft's message.
 *
 * One transfer per follower; it begins anew when it breaks, and goes on until the follower's log is known to
 * have passed it, or we do not lead any more. The receiving side keeps one: the newest leader's. No buffer is
 * larger than a chunk. */
#pragma once

#include "kvstore/raft/replica.h"

enum {
        TRANSFER_CHUNK = 256 * 1024,
        TRANSFER_WINDOW = 4,         /* chunks on the way */
        TRANSFERS_MAX = 4,           /* followers at a time */
        TRANSFER_SILENCE_MS = 10000, /* then begin anew */
};

int transfers_new(Transfers **ret, Replica *p);
Transfers *transfers_free(Transfers *t); /* NULL allowed; returns NULL. Not while transfers_busy() */
void transfers_drop(
        Transfers *t); /* ends all that is under way, and frees its room. Not while transfers_busy() */
/* Work off the loop is in flight. */
bool transfers_busy(const Transfers *t);

/* The core asks for it: a tree of at least 'index' to 'to'. Dropped while one to it runs. */
void transfers_send(Transfers *t, uint64_t to, uint64_t index);
/* The same to one whose tree differs from the others': it exchanges its tree when it has this one whole, and
 * keeps its log. */
void transfers_send_again(Transfers *t, uint64_t to, uint64_t index);
/* There is a new checkpoint, or something of Raft has changed: go on, or end. */
void transfers_step(Transfers *t);

/* True if it was a chunk of a leader that is not behind our term. */
bool transfers_on_snapshot(Transfers *t, PeerSession *session, const void *payload, size_t size);
void transfers_on_ack(Transfers *t, const void *payload, size_t size);

/* This host could not store the last tree that came. */
bool transfers_refuses(const Transfers *t);
/* The same for people, or of a follower that has no room for ours; *ret stays as it is where nothing is
 * wrong. */
void transfers_problem(const Transfers *t, char *ret, size_t size);

/* The received tree that 'message' speaks of, or NULL: then the message is to be dropped. */
Checkpoint *transfers_whole(Transfers *t); /* whatever was received last, and is whole; NULL */
Checkpoint *transfers_received(Transfers *t, const RaftMessage *message);
