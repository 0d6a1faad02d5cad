/* Whether the replicas' trees are the same, while they run.
 *
 * Apply is deterministic, so equal index means equal tree; memory, a disk or a bug may think otherwise. Each
 * replica tells the leader the hash of its tree at indexes that are multiples of some number, and at rest
 * after a change. The leader judges: what a majority says of one index is right. Who differs is told so; it
 * hands over if it leads, and gets the leader's tree by the transfer there is; its log and its vote were
 * never in doubt. A tree that came from a leader is his, and does not count beside his until a majority has
 * agreed with it: else one that is wrong would be two. Where hashes differ and no majority agrees nobody's
 * tree is exchanged and nobody's log is cut, and all say so. */
#pragma once

#include "kvstore/raft/replica.h"

typedef struct Compare Compare;

enum { COMPARE_EVERY = 1000, COMPARE_REST_MS = 10000 };

int compare_new(Compare **ret, Replica *p);
Compare *compare_free(Compare *c); /* NULL allowed; returns NULL */

/* Inside a transaction that has read its meta record: entry 'index' is applied. The transaction is committed,
 * or was not. */
void compare_applied(Compare *c, TreeTxn *txn, uint64_t index);
void compare_committed(Compare *c, bool committed);
void compare_settled(Compare *c, unsigned changed); /* an input is over */
void compare_on_frame(Compare *c, PeerSession *session, const void *payload, size_t size);

bool compare_differs(const Compare *c);   /* our tree: it waits for the leader's */
bool compare_undecided(const Compare *c); /* nobody knows whose tree is right */
bool compare_may_send(
        const Compare *c); /* nobody has said yet that our tree may be another one than the others' */
/* Our tree is another one now: begin anew. 'taken': a leader's, which is no second one beside his until a
 * majority agrees with it. */
void compare_exchanged(Compare *c, bool taken);
