#include "kvstore/tree/format.h"

#include "base/table.h"

enum {
        TREE_VERSION = 5, /* 1: without sum; 2: without cached results; 3: without feature level, written at
                           * the first level; 4: without history, written below KV_LEVEL_HISTORY */
        NODE_DIR = 1 << 0,
        NODE_EXPIRES = 1 << 1,
        COMPARE_BYTES = 64, /* at once */
};

/* -- Keys -- */

void tree_put_big_endian(uint8_t *bytes, uint64_t v) {
        for (size_t i = 0; i < 8; i++)
                bytes[i] = v >> (56 - 8 * i);
}

uint64_t tree_get_big_endian(const uint8_t *bytes) {
        uint64_t v = 0;

        for (size_t i = 0; i < 8; i++)
                v = v << 8 | bytes[i];
        return v;
}

/* The separator becomes 0, below every other byte; 0 and 1 are escaped. The first separator is omitted, so
 * the key of the root, which is never stored, is empty. */
size_t tree_key(KvBytes path, uint8_t key[static TREE_KEY_LONG]) {
        const uint8_t *p = path.data;
        size_t n = 0;

        for (size_t i = 1; i < path.size; i++) {
                uint8_t escaped[2] = { p[i], 0 };
                size_t width = 1;

                if (p[i] == '/')
                        escaped[0] = 0;
                else if (p[i] <= 1)
                        escaped[0] = 1, escaped[1] = p[i] + 1, width = 2;
                for (size_t j = 0; j < width; j++) {
                        if (n == TREE_KEY_CUT) {
                                XXH128_canonical_t hash;

                                XXH128_canonicalFromHash(&hash, XXH3_128bits(path.data, path.size));
                                memcpy(key + n, hash.digest, sizeof(hash.digest));
                                return TREE_KEY_LONG;
                        }
                        key[n++] = escaped[j];
                }
        }
        return n;
}

TreeRange tree_range_below(KvBytes path) {
        TreeRange range = { .path = path };
        uint8_t key[TREE_KEY_LONG];
        size_t size = tree_key(path, key);

        range.mixed = size >= TREE_KEY_CUT;
        range.size = MIN(size, TREE_KEY_CUT);
        memcpy(range.prefix, key, range.size);
        if (size > 0 && !range.mixed)
                range.prefix[range.size++] = 0;
        return range;
}

bool tree_range_holds(const TreeRange *range, const void *key, size_t size) {
        return size >= range->size && memcmp(key, range->prefix, range->size) == 0;
}

int tree_compare_paths(const void *a, const void *b) {
        const KvNode *x = a, *y = b;
        const uint8_t *p = x->key.data, *q = y->key.data;
        size_t n = MIN(x->key.size, y->key.size), i = 0;

        /* Long keys often have a long common beginning. */
        while (n - i >= COMPARE_BYTES && memcmp(p + i, q + i, COMPARE_BYTES) == 0)
                i += COMPARE_BYTES;
        for (; i < n; i++) {
                if (p[i] == q[i])
                        continue;
                if (p[i] == '/' || q[i] == '/')
                        return p[i] == '/' ? -1 : 1;
                return p[i] < q[i] ? -1 : 1;
        }
        return x->key.size < y->key.size ? -1 : x->key.size > y->key.size;
}

bool tree_path_is_child(KvBytes path, KvBytes parent) {
        size_t skip = parent.size == 1 ? 1 : parent.size + 1;

        return !memchr((const char *) path.data + skip, '/', path.size - skip);
}

/* -- Records -- */

int tree_node_decode(const void *bytes, size_t size, KvNode *ret) {
        Reader r = reader_over(bytes, size);
        unsigned flags = read_u8(&r);
        KvNode node = { .dir = flags & NODE_DIR };

        node.created = read_u64(&r);
        node.modified = read_u64(&r);
        if (flags & NODE_EXPIRES)
                node.expires_ms = read_u64(&r);
        node.key.size = read_u16(&r);
        node.key.data = read_raw(&r, node.key.size);
        if (r.failed || node.key.size < 2)
                return -EUCLEAN;
        node.value = (KvBytes) { r.bytes, r.left };
        *ret = node;
        return 0;
}

void tree_node_encode(const KvNode *node, Writer *w) {
        w->size = 0, w->error = 0;
        write_u8(w, (node->dir ? NODE_DIR : 0) | (node->expires_ms > 0 ? NODE_EXPIRES : 0));
        write_u64(w, node->created);
        write_u64(w, node->modified);
        if (node->expires_ms > 0)
                write_u64(w, node->expires_ms);
        write_u16(w, node->key.size);
        write_raw(w, node->key.data, node->key.size);
        write_raw(w, node->value.data, node->value.size);
}

/* The members of the meta, in the order of the format. */
static const size_t meta_members[] = {
        offsetof(TreeMeta, applied),
        offsetof(TreeMeta, applied_term),
        offsetof(TreeMeta, configuration_index),
        offsetof(TreeMeta, index),
        offsetof(TreeMeta, cluster_ms),
        offsetof(TreeMeta, cluster_id),
        offsetof(TreeMeta, lineage),
        offsetof(TreeMeta, quota),
        offsetof(TreeMeta, n_nodes),
        offsetof(TreeMeta, n_bytes),
        offsetof(TreeMeta, n_own_nodes),
        offsetof(TreeMeta, n_own_bytes),
        offsetof(TreeMeta, windows[0].oldest),
        offsetof(TreeMeta, windows[0].n),
        offsetof(TreeMeta, windows[0].bytes),
        offsetof(TreeMeta, windows[1].oldest),
        offsetof(TreeMeta, windows[1].n),
        offsetof(TreeMeta, windows[1].bytes),
        offsetof(TreeMeta, sum),
        offsetof(TreeMeta, results.n),
        offsetof(TreeMeta, results.bytes),
        offsetof(TreeMeta, results.swept_ms),
        offsetof(TreeMeta, level),
        offsetof(TreeMeta, quota_nodes),
        offsetof(TreeMeta, history.n),
        offsetof(TreeMeta, history.bytes),
        offsetof(TreeMeta, history.n_folds),
        offsetof(TreeMeta, history.unfolded),
};

/* How many of them each version has. */
static const size_t n_meta_members[TREE_VERSION + 1] = { 0, 18, 19, 22, 24, ELEMENTS(meta_members) };

static uint8_t meta_version(uint64_t level) {
        if (level >= KV_LEVEL_HISTORY)
                return TREE_VERSION;
        return level > KV_LEVEL_FIRST ? 4 : 3;
}

void tree_meta_encode(const TreeMeta *meta, Writer *w) {
        uint8_t version = meta_version(meta->level);

        w->size = 0, w->error = 0;
        write_u8(w, version);
        for (size_t i = 0; i < n_meta_members[version]; i++)
                write_u64(w, *(const uint64_t *) ((const char *) meta + meta_members[i]));
}

int tree_meta_decode(const void *bytes, size_t size, TreeMeta *ret, bool *ret_summed) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r);
        TreeMeta meta = {};

        if (version == 0 || version > TREE_VERSION)
                return -ENOTSUP;
        for (size_t i = 0; i < n_meta_members[version]; i++)
                *(uint64_t *) ((char *) &meta + meta_members[i]) = read_u64(&r);
        if (reader_end(&r) < 0)
                return -EUCLEAN;
        *ret_summed = version > 1;
        *ret = meta;
        return 0;
}

/* -- Hashes -- */

uint64_t tree_node_hash(const KvNode *node) {
        uint64_t fields[] = { node->dir, node->created, node->modified, node->expires_ms, node->key.size };
        XXH64_hash_t h = XXH3_64bits(fields, sizeof(fields));

        h = XXH3_64bits_withSeed(node->key.data, node->key.size, h);
        return XXH3_64bits_withSeed(node->value.data, node->value.size, h);
}

uint64_t tree_event_hash(const void *key, size_t key_size, const void *bytes, size_t size) {
        return XXH3_64bits_withSeed(bytes, size, XXH3_64bits(key, key_size));
}

uint64_t tree_meta_hash(const TreeMeta *meta, uint64_t sum) {
        uint64_t fields[] = { sum,
                              meta->index,
                              meta->cluster_ms,
                              meta->quota,
                              meta->results.n,
                              meta->results.bytes,
                              meta->results.swept_ms };
        uint64_t newer[] = { meta->level, meta->quota_nodes };
        uint64_t seed = XXH3_64bits(fields, sizeof(fields));

        /* At lower levels, the hash equals that of older versions. */
        if (meta->level > KV_LEVEL_FIRST)
                seed = XXH3_64bits_withSeed(newer, sizeof(newer), seed);
        if (meta->level >= KV_LEVEL_HISTORY)
                seed = XXH3_64bits_withSeed(&meta->history, sizeof(meta->history), seed);
        return XXH3_64bits_withSeed(meta->windows, sizeof(meta->windows), seed);
}
