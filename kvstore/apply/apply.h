/* The state machine: one batch in one transaction, an answer and events for each command. Reads no clock,
 * no chance, touches nothing but the transaction: every replica with the same tree and the same entry ends
 * with the same tree and the same answers. Semantics: etcd v2 (reference: its API description), plus
 * transactions.
 */
#pragma once

#include "kvstore/arena.h"
#include "kvstore/command.h"
#include "kvstore/cost.h"
#include "kvstore/tree/tree.h"

enum {
        APPLY_SUBTREE_MAX = 100000, /* below KV_LEVEL_COST: nodes that one delete takes along; an expiry of
                                       more goes in pages, children first */
        APPLY_NODE_WEIGHT = 128,    /* bytes that a node weighs besides its key and value */
};

/* What users' nodes may weigh where the tree's meta does not say otherwise; as much again is there for
 * /_fleet. */
#define APPLY_QUOTA (256ull * 1024 * 1024)

/* One change of one key, as watchers see it. Borrowed for the call of 'on_event'. */
typedef struct KvEvent {
        KvAction action;
        uint64_t index; /* the store's */
        KvNode node;    /* for delete and expire: key, indexes, dir; a directory takes all below it along */
        bool has_prev;
        KvNode prev;
        bool refresh;    /* watchers are not told; it takes a slot of the window */
        uint64_t now_ms; /* cluster time of the entry */
} KvEvent;

/* Either may be NULL. Called before the transaction is committed; a command's events come before its result.
 */
typedef struct ApplySink {
        void (*on_result)(void *userdata, uint64_t origin, uint64_t number, const KvResult *result);
        void (*on_event)(void *userdata, const KvEvent *event);
        void *userdata;
        unsigned level_max; /* for tests: what this program is to know at most; 0: KV_LEVEL_MAX */
        Cost *cost;         /* what the entry has cost so far: moves with each command, at all levels */
} ApplySink;

/* Applies one Raft entry's batch inside 'txn' and moves the tree's meta (applied index and term, store's
 * index, cluster time, which never runs backward). A refused command is an answer like any other and changes
 * nothing. A negative errno means that this replica can no longer follow the log: the caller aborts the
 * transaction and stops the replica. -ENOTSUP: the entry is of a feature level, or holds a command, that this
 * program does not know. */
int apply_batch(TreeTxn *txn, uint64_t raft_index, uint64_t term, const void *bytes, size_t size,
                const ApplySink *sink);

/* Whether users' quotas have room for what a set, create, update or post adds at least, to 'prev' or (NULL)
 * as a new node: 0, or -EDQUOT and the sentence that names the quota. Pure; ways that are missing are not
 * counted. */
int apply_room(const TreeMeta *meta, const KvCommand *cmd, const KvNode *prev, Error *err);

/* The same for an entry without commands (a no-op, a configuration): only the meta moves. */
int apply_empty(TreeTxn *txn, uint64_t raft_index, uint64_t term);

/* One command, as apply_batch() does it: 'meta' is moved on, but not yet the tree's (tree_set_meta()). What
 * *ret points to is the command's, or the arena's. */
int apply_command(TreeTxn *txn, TreeMeta *meta, const KvCommand *cmd, uint64_t term, Arena *arena,
                  const ApplySink *sink, KvResult *ret);
