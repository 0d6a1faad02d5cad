/* Comparison of the replicas' trees while they run.
 *
 * Apply is deterministic, so equal index means equal tree, unless memory, a disk or a bug changed one. Each
 * replica reports the hash of its tree to the leader, at indexes that are multiples of some number, and at
 * rest after a change. The leader decides: the hash that a majority reports for an index is correct. A
 * replica that diverged is notified. It transfers leadership if it leads, and receives the leader's tree by a
 * transfer; its log and vote stay valid. A tree that came from a leader does not count in addition to the
 * leader's until a majority agrees with it: else one wrong tree would count twice. If hashes differ and none
 * has a majority, no tree is replaced, no log is cut, and all hosts report the condition. */
#pragma once

#include "kvstore/raft/replica.h"

enum { COMPARE_EVERY = 1000, COMPARE_REST_MS = 10000 };

int consistency_new(ConsistencyCheck **ret, Replica *p);
ConsistencyCheck *consistency_free(ConsistencyCheck *c); /* NULL allowed; returns NULL */

/* Entry 'index' is applied, inside a transaction that has read its meta record. Then the transaction was
 * committed, or was not. */
void consistency_applied(ConsistencyCheck *c, TreeTxn *txn, uint64_t index);
void consistency_committed(ConsistencyCheck *c, bool committed);
void consistency_on_flush(ConsistencyCheck *c, unsigned changed); /* an input is over */
/* The handler of PEER_TREE; 'userdata' is the Replica. */
void consistency_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size);

bool consistency_differs(const ConsistencyCheck *c);   /* this host's tree, which waits for the leader's */
bool consistency_undecided(const ConsistencyCheck *c); /* no hash has a majority */
bool consistency_may_send(const ConsistencyCheck *c);  /* no report puts this host's tree in doubt */
/* The tree was replaced: compare again. 'taken': by a leader's tree, which does not count in addition to the
 * leader's until a majority agrees with it. */
void consistency_tree_replaced(ConsistencyCheck *c, bool taken);
