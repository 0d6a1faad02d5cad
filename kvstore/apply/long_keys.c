#include "kvstore/apply/long_keys.h"

void long_keys_done(LongKeys *keys) {
        free(keys->groups);
        *keys = (LongKeys) {};
}

static LongGroup *find(const LongKeys *keys, uint64_t hash, KvBytes key) {
        for (size_t i = 0; i < keys->n; i++)
                if (keys->groups[i].hash == hash && tree_share_prefix(keys->groups[i].key, key))
                        return &keys->groups[i];
        return NULL;
}

int long_keys_group(LongKeys *keys, TreeTxn *txn, KvBytes key, uint64_t max, LongGroup **ret,
                    uint64_t *ret_counted) {
        uint64_t hash = tree_prefix_hash(key);
        LongGroup group = { .hash = hash, .key = key };

        *ret_counted = 0;
        *ret = find(keys, hash, key);
        if (*ret)
                return 0;
        TRY(GROW(keys->groups, keys->capacity, keys->n + 1));
        TRY(tree_count_long(txn, key, max, &group.n));
        *ret_counted = group.n;
        keys->groups[keys->n] = group;
        *ret = &keys->groups[keys->n++];
        return 0;
}

/* A path shorter than a beginning takes whole groups along; a longer one has all that is below it in its own
 * group. */
void long_keys_removed(LongKeys *keys, KvBytes path, uint64_t n_below) {
        uint64_t hash, gone;
        LongGroup *group;

        if (keys->n == 0)
                return;
        hash = tree_prefix_hash(path);
        for (size_t i = 0; hash == 0 && n_below > 0 && i < keys->n; i++)
                if (kv_path_is_below(keys->groups[i].key, path))
                        keys->groups[i].n = 0;
        group = hash != 0 ? find(keys, hash, path) : NULL;
        gone = n_below + tree_is_long(path);
        if (group)
                group->n -= MIN(group->n, gone);
}
