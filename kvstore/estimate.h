/* Estimates of the cost of a command before the log, from the applied tree and the values of commands in
 * flight.
 *
 * The estimate is at least the cost that apply charges (kvstore/command/cost.h) if the command succeeds. It
 * may be too low if commands in flight change the tree in other ways; apply limits the cost again. An
 * estimate reads no more of the tree than apply does. */
#pragma once

#include "kvstore/command/cost.h"
#include "kvstore/tree/tree.h"

enum {
        VALUES_SLOTS = 2048,    /* a power of two */
        VALUES_SIZE_MIN = 1024, /* bytes; smaller values have no slot */
        COUNTED_SLOTS = 32,     /* a power of two */
        COUNTED_MS = 1000,      /* a count is repeated after this time */
};

/* Sizes of values by key, for as many keys as fit into three quarters of the slots. The value of any other
 * key counts as in the tree; apply limits the cost again. */
typedef struct Values {
        struct {
                uint64_t hash; /* of the key; 0: free */
                size_t size;
        } slots[VALUES_SLOTS];
        size_t n;
        size_t left_out; /* size of the largest value without a slot */
} Values;

void values_add(Values *values, KvBytes key, size_t size);
size_t values_size(const Values *values, KvBytes key); /* 0: none */
/* Add all values that a command writes. */
void values_add_command(Values *values, const KvCommand *cmd);

/* Directories whose count ended an estimate, so that a repeated command needs no second count. */
typedef struct Counted {
        struct CountedSlot {
                uint64_t hash;          /* of the key; 0: free */
                uint64_t at_ms, index;  /* time, and index of the tree */
                uint64_t cost, counted; /* at the end of the count: lower bounds for the directory */
        } slots[COUNTED_SLOTS];
        uint64_t now_ms; /* set by the caller */
} Counted;

typedef struct Estimated {
        Cost cost;    /* of the command */
        Cost counted; /* of the estimate itself: counted nodes, whose number the size of the command does not
                         bound */
        uint64_t known; /* cost of counts that were reused from an earlier estimate */
        bool stale;     /* the tree has changed since the earlier estimate */
        bool in_flight; /* a value in flight raised the cost */
} Estimated;

typedef struct EstimateLimits {
        uint64_t cost, counted; /* the estimate ends when it exceeds either; reused counts are included */
} EstimateLimits;

/* Estimate the cost of 'cmd'. 'in_flight': values of commands in flight, terminated by NULL; may be NULL.
 * 'known': counts of earlier estimates; may be NULL. Return 0, or an error of reading the tree. */
int cost_estimate(TreeTxn *txn, Values *const *in_flight, Counted *known, const KvCommand *cmd,
                  const EstimateLimits *limits, Estimated *ret);
