/* What the files of apply know of each other. */
#pragma once

#include "kvstore/apply/apply.h"
#include "kvstore/apply/long_keys.h"

/* Functions that may refuse return 1 to go on, 0 when the answer in 'ret' is a refusal, and a negative errno
 * when this replica cannot follow. Everything is checked before anything is written; only a transaction's
 * writes, which may fail after others, run in a nested transaction. */

typedef struct Apply {
        TreeTxn *txn;
        TreeMeta *meta; /* the caller's: index and cluster time move here */
        Arena *arena;
        const ApplySink *sink;
        bool collect;  /* inside a transaction: keep the events until all of it is done */
        Cost cost;     /* of this command so far */
        uint64_t left; /* of the entry's budget, before this command */
        LongKeys long_keys;
        uint64_t answer; /* bytes of values in a transaction's answer that are not its own */
        KvEvent *events;
        size_t n_events, capacity;
} Apply;

int apply_refuse(Apply *a, KvResult *ret, KvStatus status, KvBytes cause);
/* As tree_get(), for a question: a key that another one's hash keeps out is not there. */
int apply_get(Apply *a, KvBytes path, KvNode *ret);
/* The tree's bytes move with the next write: what an event tells of the past is copied before. */
int apply_keep(Apply *a, KvNode *node);

/* From this feature level on, what a command may cost is bounded. */
static inline bool apply_bounds(const Apply *a) {
        return a->meta->level >= KV_LEVEL_COST;
}

/* Charges for what comes next, before it is done: 1, or 0 when the command may not cost so much, or not in
 * this entry. What is refused is not charged. */
int apply_afford(Apply *a, const Cost *more, KvResult *ret);
int apply_visit(Apply *a, size_t key, KvResult *ret); /* the same, for a node that is looked up */

/* A command for one key. */
int apply_one(Apply *a, const KvCommand *cmd, KvResult *ret);
int apply_expire(Apply *a, const KvCommand *cmd, KvResult *ret);
