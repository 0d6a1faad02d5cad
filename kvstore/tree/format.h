/* The formats of the tree: keys, records, the meta. Pure. LMDB stores and sorts them, in five tables:
 *
 *     nodes    key of the path                   -> flags u8, created, modified, [expires_ms] u64,
 *                                                   size of path u16, path, value
 *     expiry   expires_ms, created (big-endian)  -> key of the node; equal ones sorted
 *     events   window u8, index (big-endian)     -> weight u64, event
 *              2 u8, hash of a body (big-endian) -> fold: index of the row u64
 *              3 or 4 u8, index (big-endian)     -> row of kvstore/apply/history.c; 3: closed
 *     results  origin, slot (big-endian)         -> record of kvstore/apply/dedup.c
 *     meta     "meta", "configuration"
 *
 * Each node contains its full path, so that reads can return a path borrowed from the file, long or short. */
#pragma once

#include "base/bytes.h"
#include "kvstore/tree/tree.h"

enum {
        TREE_KEY_CUT = 480, /* bytes; an escaped path up to this size is the key ... */
        TREE_KEY_LONG = TREE_KEY_CUT +
                        16, /* ... a longer one is truncated and hashed: only long keys have this size */
        TREE_EVENT_KEY = 9,
        TREE_RESULT_KEY = 16,
        TREE_HISTORY_WEIGHT =
                24, /* bytes that a row or fold weighs in addition to key and record, for LMDB */
};

/* Write the key of a path, and return its size; 0 for the root, which is never stored. */
size_t tree_key(KvBytes path, uint8_t key[static TREE_KEY_LONG]);

/* The range of keys that contains all nodes below a path: those with a prefix. If the key of the path has the
 * maximal size, the range contains other nodes, too: 'mixed'. */
typedef struct TreeRange {
        KvBytes path;
        uint8_t prefix[TREE_KEY_CUT];
        size_t size;
        bool mixed;
} TreeRange;

TreeRange tree_range_below(KvBytes path);
bool tree_range_holds(const TreeRange *range, const void *key, size_t size);

/* Compare full paths in the order of keys; for qsort() over KvNode. */
int tree_compare_paths(const void *a, const void *b);
/* Return whether 'path', which is below 'parent', is a direct child. */
bool tree_path_is_child(KvBytes path, KvBytes parent);

/* Encoding replaces the content of the writer. Decoded nodes borrow. -EUCLEAN; -ENOTSUP: a newer version. */
void tree_node_encode(const KvNode *node, Writer *w);
int tree_node_decode(const void *bytes, size_t size, KvNode *ret);
void tree_meta_encode(const TreeMeta *meta, Writer *w);
/* *ret_summed: the version of the meta has a sum. */
int tree_meta_decode(const void *bytes, size_t size, TreeMeta *ret, bool *ret_summed);

/* Return the hash of one record. The hash of a tree covers the sum of these hashes, so each change is one
 * addition, independent of order. */
uint64_t tree_node_hash(const KvNode *node);
uint64_t tree_event_hash(const void *key, size_t key_size, const void *bytes, size_t size);
uint64_t tree_meta_hash(const TreeMeta *meta, uint64_t sum);

void tree_put_big_endian(uint8_t *bytes, uint64_t v);
uint64_t tree_get_big_endian(const uint8_t *bytes);
