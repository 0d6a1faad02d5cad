/* Nodes in memory, sorted by path: the slice of a host without a replica. Some hundred nodes. */
#pragma once

#include "kvstore/kvstore.h"

typedef struct NodeSet {
        KvNode **items; /* owned, each with its bytes */
        size_t n, capacity;
} NodeSet;

/* Return the node of a key, borrowed until the next change; NULL: none. */
const KvNode *node_set_find(const NodeSet *set, KvBytes key);
/* Add a copy, or replace the node of that key. 1; 0: the set has this version; -ENOMEM: nothing has changed.
 */
int node_set_put(NodeSet *set, const KvNode *node);
/* Return whether the set had the key. */
bool node_set_remove(NodeSet *set, KvBytes key);
/* Visit the nodes below range->key, in order of their paths. 0, or the negative result of 'visit'. The set
 * must not change meanwhile. */
int node_set_walk(const NodeSet *set, const KvRange *range, KvVisit visit, void *userdata);
void node_set_done(NodeSet *set);
