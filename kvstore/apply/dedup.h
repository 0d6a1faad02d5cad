/* Answers that are kept, so that a command takes effect once, however often it is asked.
 *
 * Who asks numbers his commands and says with each: which daemon's start he is (origin), until when it is
 * worth anything (a deadline in cluster time), and the lowest number that he still waits for (the floor).
 * When the leader is lost he asks the next one. Apply gives the answer of the first time to what it knows,
 * and does nothing for what is below the floor or past its deadline; so an answer can go once the floor or
 * its deadline is passed.
 *
 * One record of the tree for each origin and Raft entry holds what that entry answered to that origin. The
 * last record of an origin also says what is known of it: the highest number, floor and deadline that were
 * ever seen. */
#pragma once

#include "kvstore/apply/apply.h"
#include "kvstore/arena.h"
#include "kvstore/command.h"
#include "kvstore/tree/tree.h"

enum {
        DEDUP_MAX = 16 * 1024 * 1024, /* bytes of records, beyond which a leader takes no more commands */
        DEDUP_VALUES_MAX =
                KV_WRITTEN_MAX, /* bytes of old values and causes in one record; what exceeds it is cut */
        DEDUP_SWEEP_MS = 1000,  /* of cluster time, between looks for what is past its deadline */
};

typedef enum DedupVerdict {
        DEDUP_FRESH,  /* never applied: apply it, then dedup_keep() */
        DEDUP_KEPT,   /* applied before: that answer */
        DEDUP_LATE,   /* its deadline is past: it has no effect, nor will it ever have one with this deadline
                       */
        DEDUP_PASSED, /* below the floor: nobody waits for it */
} DedupVerdict;

/* An answer as it is kept; 'bytes' borrows from the tree, as nodes do. */
typedef struct CachedResult {
        uint64_t entry, term, now_ms;
        KvBytes bytes;
} CachedResult;

typedef struct Dedup Dedup;

/* What one entry of 'term', applied at 'cluster_ms', asks and answers. */
int dedup_new(Dedup **ret, TreeTxn *txn, uint64_t entry, uint64_t term, uint64_t cluster_ms);
Dedup *dedup_free(Dedup *r); /* NULL allowed; returns NULL */
DEFINE_CLEANUP(Dedup *, dedup_free);
/* A DedupVerdict, or a negative errno. Items without a deadline are always fresh. Needs no write
 * transaction, nor a command. */
int dedup_judge(Dedup *r, const KvBatchItem *item, CachedResult *ret);
/* Adds what was read since the last call, to find numbers that are not above all others. */
void dedup_take_cost(Dedup *r, Cost *cost);
int dedup_keep(Dedup *r, const KvBatchItem *item, const KvCommand *cmd, const KvResult *result);
/* Writes what was kept, and drops what nobody needs any more. */
int dedup_store(Dedup *r);

/* The highest floor that an origin has said; 0 when nothing is known of it. */
uint64_t dedup_bound(TreeTxn *txn, uint64_t origin);

/* The answer again, by the command that was asked: all of it is as it was, but what was too large to be kept:
 * then KV_UNKNOWN and a sentence. The value of a refresh, which is not kept, is the tree's, if that has not
 * been written since: else that, too (always, without 'txn'). What it points to is the arena's, the command's
 * or the kept bytes'. -EBADMSG. */
int result_decode(const CachedResult *kept, TreeTxn *txn, const KvCommand *cmd, Arena *arena, KvResult *ret);
/* 'values_left': bytes of values and causes that may be written; taken from. */
int result_encode(const KvResult *result, const KvCommand *cmd, size_t *values_left, Writer *w);
