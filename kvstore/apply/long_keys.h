/* The groups of long keys that one command touches, each counted once.
 *
 * Keys whose stored form exceeds 480 bytes share a group if the first 480 bytes are equal
 * (kvstore/tree/tree.h). At most COST_LONG_KEYS_MAX keys are in a group, and each walk among them passes all,
 * so that a command pays for a count. A command that returns to a group continues with the count of its first
 * visit: writes that alternate between groups, or removals between writes, cost no further count. */
#pragma once

#include "kvstore/tree/tree.h"

typedef struct LongGroup {
        uint64_t hash; /* of the shared beginning */
        KvBytes key;   /* the first key of the group that the command named; borrowed */
        uint64_t n;    /* keys in the group; above COST_LONG_KEYS_MAX there may be more */
} LongGroup;

typedef struct LongKeys {
        LongGroup *groups;
        size_t n, capacity;
} LongKeys;

void long_keys_done(LongKeys *keys);

/* The group of the long key 'key', which is borrowed until long_keys_done(). A new group is counted in 'txn',
 * up to 'max' keys: *ret_counted is the number of keys that the count passed now. *ret is valid until the
 * next call. */
int long_keys_group(LongKeys *keys, TreeTxn *txn, KvBytes key, uint64_t max, LongGroup **ret,
                    uint64_t *ret_counted);
/* 'path' was removed, and with it 'n_below' nodes below it. */
void long_keys_removed(LongKeys *keys, KvBytes path, uint64_t n_below);
