/* The bytes of the tree: keys of paths, records, the meta. Pure; LMDB stores and sorts them, in four tables:
 *
 *     nodes    key of the path                   -> flags u8, created, modified, [expires_ms] u64,
 *                                                   size of path u16, path, value
 *     expiry   expires_ms, created (big-endian)  -> key of the node; equal ones sorted
 *     events   window u8, index (big-endian)     -> weight u64, event
 *     meta     "meta", "configuration"
 *
 * The whole path stands in every node: what reads return is then borrowed from the file as it is, long or
 * short. */
#pragma once

#include "base/bytes.h"
#include "kvstore/tree/tree.h"

enum {
        TREE_KEY_CUT = 480, /* an escaped path up to here is its own key ... */
        TREE_KEY_LONG = TREE_KEY_CUT +
                        16, /* ... a longer one is cut and hashed: keys of this size are the long ones */
        TREE_EVENT_KEY = 9,
        TREE_RESULT_KEY = 16,
};

/* The key of a path; 0 for the root, which is never stored. */
size_t tree_key(KvBytes path, uint8_t key[static TREE_KEY_LONG]);

/* Where all nodes below a path lie: the keys that begin so. Below a path whose key is about to be cut the
 * range holds others, too: 'mixed'. */
typedef struct TreeRange {
        KvBytes path;
        uint8_t prefix[TREE_KEY_CUT];
        size_t size;
        bool mixed;
} TreeRange;

TreeRange tree_range_below(KvBytes path);
bool tree_range_holds(const TreeRange *range, const void *key, size_t size);

/* The order of keys, said of whole paths; for qsort() over KvNode. */
int tree_compare_paths(const void *a, const void *b);
bool tree_path_is_child(KvBytes path, KvBytes parent); /* of a path that is known to be below */

/* Encoding replaces what is in the writer. Decoded nodes borrow. -EUCLEAN; -ENOTSUP for a newer version. */
void tree_node_encode(const KvNode *node, Writer *w);
int tree_node_decode(const void *bytes, size_t size, KvNode *ret);
void tree_meta_encode(const TreeMeta *meta, Writer *w);
int tree_meta_decode(const void *bytes, size_t size, TreeMeta *ret,
                     bool *ret_summed); /* not summed: of a version that had none */

/* Of one record of nodes or events; a tree's hash is of their sum, so that their order does not count and
 * each change is one addition. */
uint64_t tree_node_hash(const KvNode *node);
uint64_t tree_event_hash(const void *key, size_t key_size, const void *bytes, size_t size);
uint64_t tree_meta_hash(const TreeMeta *meta, uint64_t sum);

void tree_put_big_endian(uint8_t *bytes, uint64_t v);
uint64_t tree_get_big_endian(const uint8_t *bytes);
