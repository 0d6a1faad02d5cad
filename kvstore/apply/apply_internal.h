/* Shared by the files of apply. */
#pragma once

#include "kvstore/apply/applied.h"
#include "kvstore/apply/long_keys.h"
#include "kvstore/command/arena.h"

/* Functions that may reject return 1 to continue, 0 when the result in 'ret' is a rejection, and a negative
 * errno when this replica cannot follow the log. All checks precede all writes; only the writes of a
 * transaction, which may fail after others, run in a nested transaction. */

typedef struct Apply {
        TreeTxn *txn;
        TreeMeta *meta; /* the caller's: index and cluster time advance here */
        Arena *arena;
        Applied *applied; /* NULL: no caller needs events */
        bool in_txn;      /* this is a write of a transaction */
        Cost cost;        /* of this command so far */
        uint64_t left;    /* of the entry's budget, before this command */
        LongKeys long_keys;
        uint64_t answer; /* bytes of values in a transaction's result that the command does not hold */
} Apply;

/* Return a result of the command that has no effect on a key. */
KvResult apply_result(const Apply *a, KvStatus status, KvAction action);
int apply_refuse(Apply *a, KvResult *ret, KvStatus status, KvBytes cause);
int apply_refuse_error(Apply *a, KvResult *ret, KvStatus status, const Error *err);
/* As tree_get(), for a check: a key that collides with another one's hash does not exist. */
int apply_get(Apply *a, KvBytes path, KvNode *ret);
/* Copy the previous node of an event: the next write moves the tree's bytes. */
int apply_keep(Apply *a, KvNode *node);

/* From this feature level on, the cost of a command is bounded. */
static inline bool apply_bounds(const Apply *a) {
        return a->meta->level >= KV_LEVEL_COST;
}

/* Charge for the next step before it is done: 1, or 0 if the command may not cost so much, or not in this
 * entry. A rejected step is not charged. */
int apply_afford(Apply *a, const Cost *more, KvResult *ret);
int apply_visit(Apply *a, size_t key, KvResult *ret); /* the same, for the lookup of a node */

/* Apply a command for one key. */
int apply_one(Apply *a, const KvCommand *cmd, KvResult *ret);
int apply_expire(Apply *a, const KvCommand *cmd, KvResult *ret);
