/* What a command will cost, before the log: by the applied tree, and by the values that are on their way to it.
 *
 * The figure is what apply will charge (kvstore/cost.h) if the command has its effect, or more. It may be too low where what is on its
 * way changes the tree in another manner; apply bounds the cost again. Reads as much of the tree as apply would, and no more. */
#pragma once

#include "kvstore/command.h"
#include "kvstore/cost.h"
#include "kvstore/tree.h"

enum {
        VALUES_SLOTS = 1024,    /* a power of two */
        VALUES_SIZE_MIN = 1024, /* smaller values are not worth a slot */
};

/* Sizes of values by their keys, of as many keys as fit into three quarters of the slots: the value of any other key counts as it is in
 * the tree, and apply bounds the cost again. */
typedef struct Values {
        struct {
                uint64_t hash; /* of the key; 0: free */
                size_t size;
        } slots[VALUES_SLOTS];
        size_t n;
} Values;

void values_add(Values *values, KvBytes key, size_t size);
size_t values_size(const Values *values, KvBytes key); /* 0: none */
/* All that a command writes. */
void values_add_command(Values *values, const KvCommand *cmd);

typedef struct Estimated {
        Cost cost;    /* of the command */
        Cost counted; /* of the estimate itself: nodes that it passed to count them, which the size of the command does not bound */
        bool on_way;  /* a value that is on its way raised the cost */
} Estimated;

/* 'on_way': what is on its way, with NULL at its end; or NULL. The estimate ends when ret->cost exceeds 'cost_max' or ret->counted exceeds
 * 'count_max'. 0, or what the tree could not be read for. */
int cost_estimate(TreeTxn *txn, Values *const *on_way, const KvCommand *cmd, uint64_t cost_max, uint64_t count_max, Estimated *ret);
