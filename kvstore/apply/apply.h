/* The state machine: one batch in one transaction; a result and events for each command. It uses no clock and
 * no randomness, and changes only the transaction: every replica with the same tree and the same entry gets
 * the same tree and the same results. Semantics: etcd v2 (its API description), plus transactions. */
#pragma once

#include "kvstore/apply/applied.h"
#include "kvstore/command/arena.h"

enum {
        APPLY_SUBTREE_MAX = 100000, /* below KV_LEVEL_COST: nodes that one delete takes along; an expiry of
                                       more goes in pages, children first */
};

/* The quota of users' nodes, unless the tree's meta sets one; /_fleet has the same quota again. */
#define APPLY_QUOTA (256ull * 1024 * 1024)

/* Apply one Raft entry's batch inside 'txn', and advance the tree's meta: applied index and term, the store's
 * index, and cluster time, which never runs backward. Add results and events to 'applied', which may be NULL.
 * A rejected command is a normal result and changes nothing. A negative errno means that this replica can no
 * longer follow the log: the caller aborts the transaction and stops the replica. -ENOTSUP: this program does
 * not know the entry's feature level, or one of its commands. */
int apply_batch(TreeTxn *txn, uint64_t raft_index, uint64_t term, const void *bytes, size_t size,
                Applied *applied);

/* Check that users' quotas have room for what a set, create, update or post adds at least, to 'prev' or
 * (NULL) as a new node: 0, or -EDQUOT with a message that names the quota. Pure; missing parent directories
 * are not counted. */
int apply_room(const TreeMeta *meta, const KvCommand *cmd, const KvNode *prev, Error *err);

/* Apply an entry without commands, with a Raft configuration or (NULL) without: advance the applied index and
 * term. */
int apply_other(TreeTxn *txn, uint64_t raft_index, uint64_t term, const KvBytes *configuration);

/* Apply one command. This advances 'meta', but not the tree's (tree_set_meta()). *ret borrows from the
 * command and the arena. 'applied' may be NULL. */
int apply_command(TreeTxn *txn, TreeMeta *meta, const KvCommand *cmd, uint64_t term, Arena *arena,
                  Applied *applied, KvResult *ret);
