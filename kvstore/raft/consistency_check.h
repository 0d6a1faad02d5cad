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

typedef struct ConsistencyCheck ConsistencyCheck;

enum { COMPARE_EVERY = 1000, COMPARE_REST_MS = 10000 };

int consistency_new(ConsistencyCheck **ret, Replica *p);
ConsistencyCheck *consistency_free(ConsistencyCheck *c); /* NULL allowed; returns NULL */

/* Inside a transaction that has read its meta record: entry 'index' is applied. The transaction is committed,
 * or was not. */
void consistency_applied(ConsistencyCheck *c, TreeTxn *txn, uint64_t index);
void consistency_committed(ConsistencyCheck *c, bool committed);
void consistency_settled(ConsistencyCheck *c, unsigned changed); /* an input is over */
void consistency_on_frame(ConsistencyCheck *c, PeerSession *session, const void *payload, size_t size);

bool consistency_differs(const ConsistencyCheck *c);   /* our tree: it waits for the leader's */
bool consistency_undecided(const ConsistencyCheck *c); /* nobody knows whose tree is right */
bool consistency_may_send(const ConsistencyCheck *c);  /* nobody has said yet that our tree may be another one
                                                          than the others' */
/* Our tree is another one now: begin anew. 'taken': a leader's, which is no second one beside his until a
 * majority agrees with it. */
void consistency_tree_replaced(ConsistencyCheck *c, bool taken);
