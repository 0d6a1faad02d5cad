/* Deduplication: results are cached, so that a command takes effect once, however often it is proposed.
 *
 * A proposer numbers its commands. Each command carries the origin (one start of one daemon), a deadline in
 * cluster time, and the acknowledged bound: the lowest number for which the proposer still waits. When the
 * leader is lost, the proposer repeats the command to the next leader. Apply returns the cached result of a
 * command that it has applied, and ignores commands below the bound or past their deadline. So a result can
 * be dropped once the bound or its deadline is passed.
 *
 * One record of the tree for each origin and Raft entry holds the results of that entry for that origin. The
 * last record of an origin also holds its highest number, bound and deadline. */
#pragma once

#include "kvstore/command/arena.h"
#include "kvstore/command/command.h"
#include "kvstore/command/cost.h"
#include "kvstore/tree/tree.h"

enum {
        DEDUP_MAX = 16 * 1024 * 1024,      /* bytes of records, beyond which a leader rejects commands */
        DEDUP_VALUES_MAX = KV_WRITTEN_MAX, /* bytes of old values and causes in one record; the rest is cut */
        DEDUP_SWEEP_MS = 1000,             /* of cluster time, between scans for passed deadlines */
};

typedef enum DedupVerdict {
        DEDUP_FRESH,  /* never applied: apply it, then dedup_keep() */
        DEDUP_KEPT,   /* applied before: return that result */
        DEDUP_LATE,   /* its deadline has passed: it never has an effect with this deadline */
        DEDUP_PASSED, /* below the acknowledged bound: no proposer waits */
} DedupVerdict;

/* A result in its cached form; 'bytes' borrows from the tree, as nodes do. */
typedef struct CachedResult {
        uint64_t entry, term, now_ms;
        KvBytes bytes;
} CachedResult;

typedef struct DedupOrigin DedupOrigin; /* of dedup.c */

/* The table during one entry. Set the first members; the others are zero. */
typedef struct Dedup {
        TreeTxn *txn;                     /* borrowed */
        uint64_t entry, term, cluster_ms; /* 'cluster_ms': when the entry is applied */
        DedupOrigin *origins;             /* those of the entry's commands */
        size_t n, capacity;
        Writer scratch;
        Cost looked; /* of lookups since dedup_take_cost() */
} Dedup;

void dedup_done(Dedup *r);
/* Return a DedupVerdict, or a negative errno. Items without a deadline are always fresh. Needs neither a
 * write transaction nor the command. */
int dedup_judge(Dedup *r, const KvBatchItem *item, CachedResult *ret);
/* Add the cost of lookups since the last call. */
void dedup_take_cost(Dedup *r, Cost *cost);
int dedup_keep(Dedup *r, const KvBatchItem *item, const KvCommand *cmd, const KvResult *result);
/* Write the cached results, and drop those that are not needed any more. */
int dedup_store(Dedup *r);

/* Return the highest acknowledged bound of an origin; 0: unknown origin. */
uint64_t dedup_bound(TreeTxn *txn, uint64_t origin);

/* Decode the cached result of 'cmd'. It equals the first result; KV_UNKNOWN with a message, if that was too
 * large to be cached. The value of a refresh is not cached: it is the tree's, if the key was not written
 * since, else (and always without 'txn') KV_UNKNOWN, too. *ret borrows from arena, command and cached bytes.
 * -EBADMSG: invalid. */
int result_decode(const CachedResult *kept, TreeTxn *txn, const KvCommand *cmd, Arena *arena, KvResult *ret);
/* 'values_left': bytes of values and causes that may still be written; reduced. */
int result_encode(const KvResult *result, const KvCommand *cmd, size_t *values_left, Writer *w);
