/* What a command will cost, before the log: by the applied tree, and by the values that are on their way to
 * it.
 *
 * The figure is what apply will charge (kvstore/cost.h) if the command has its effect, or more. It may be too
 * low where what is on its way changes the tree in another manner; apply bounds the cost again. Reads as
 * much of the tree as apply would, and no more. */
#pragma once

#include "kvstore/command.h"
#include "kvstore/cost.h"
#include "kvstore/tree/tree.h"

enum {
        VALUES_SLOTS = 1024,    /* a power of two */
        VALUES_SIZE_MIN = 1024, /* smaller values are not worth a slot */
        COUNTED_SLOTS = 32,     /* a power of two */
        COUNTED_MS = 1000,      /* a count is repeated after this time */
};

/* Sizes of values by their keys, of as many keys as fit into three quarters of the slots: the value of any
 * other key counts as it is in the tree, and apply bounds the cost again. */
typedef struct Values {
        struct {
                uint64_t hash; /* of the key; 0: free */
                size_t size;
        } slots[VALUES_SLOTS];
        size_t n;
        size_t left_out; /* size of the largest value for which there was no slot */
} Values;

void values_add(Values *values, KvBytes key, size_t size);
size_t values_size(const Values *values, KvBytes key); /* 0: none */
/* All that a command writes. */
void values_add_command(Values *values, const KvCommand *cmd);

/* Directories whose count ended an estimate, so that a repetition of the command takes no second count. */
typedef struct Counted {
        struct {
                uint64_t hash;          /* of the key; 0: free */
                uint64_t at_ms, index;  /* time, and index of the tree */
                uint64_t cost, counted; /* that it had come to: the directory has as much, or more */
        } slots[COUNTED_SLOTS];
        uint64_t now_ms; /* set by the caller */
} Counted;

typedef struct Estimated {
        Cost cost;      /* of the command */
        Cost counted;   /* of the estimate itself: nodes that it passed to count them, which the size of the
                           command does not bound */
        uint64_t known; /* cost of the counts that it took from an earlier estimate */
        bool stale;     /* since then the tree has changed */
        bool on_way;    /* a value that is on its way raised the cost */
} Estimated;

typedef struct EstimateLimits {
        uint64_t cost, counted; /* the estimate ends when it exceeds either; what is known counts as if it
                                   were counted */
} EstimateLimits;

/* 'on_way': what is on its way, with NULL at its end; or NULL. 'known': counts of earlier estimates; or NULL.
 * 0, or what the tree could not be read for. */
int cost_estimate(TreeTxn *txn, Values *const *on_way, Counted *known, const KvCommand *cmd,
                  const EstimateLimits *limits, Estimated *ret);
