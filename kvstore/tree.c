#include "kvstore/tree.h"

#include <assert.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/table.h"

/* Four tables:
 *
 *     nodes    key of the path        -> flags u8, created u64, modified u64, [expires_ms u64], size of path u16, path, value
 *     expiry   expires_ms, created (big-endian)  -> key of the node; equal ones sorted
 *     events   window u8, index (big-endian) -> weight u64, event
 *     meta     "meta", "configuration"
 *
 * The whole path stands in every node: what reads return is then borrowed from the file as it is, long or short. */
enum {
        TREE_VERSION = 1,
        KEY_CUT = 480,              /* an escaped path up to here is its own key ... */
        KEY_LONG = KEY_CUT + 16,    /* ... a longer one is cut and hashed: keys of this size are the long ones */
        NODE_DIR = 1 << 0,
        NODE_EXPIRES = 1 << 1,
        MAP_FACTOR = 64,
        COPY_CHUNK = 256 * 1024,
        COPY_LIVE_MIN = 64 * 1024 * 1024, /* a live file below this may double during a copy */
};

static const uint64_t QUOTA_DEFAULT = 256 * 1024 * 1024;
static const uint64_t QUOTA_MIN = 1024 * 1024;

struct Tree {
        MDB_env *env;
        MDB_dbi nodes, expiry, events, meta;
        TreeTxn *spare;  /* a read transaction that waits to be renewed */
        Writer scratch;  /* the record being written */
        unsigned n_txns;
};

struct TreeTxn {
        Tree *tree;
        TreeTxn *outer;
        MDB_txn *txn;
        bool write;
        bool meta_read, meta_changed;
        TreeMeta meta;
};

static int tree_error(int rc) {
        switch (rc) {
        case MDB_SUCCESS:
                return 0;
        case MDB_NOTFOUND:
                return -ENOENT;
        case MDB_KEYEXIST:
                return -EEXIST;
        case MDB_MAP_FULL:
                return -ENOSPC;
        case MDB_TXN_FULL:
                return -E2BIG;
        case MDB_READERS_FULL:
                return -EBUSY;
        case MDB_PAGE_NOTFOUND:
        case MDB_CORRUPTED:
        case MDB_PANIC:
        case MDB_VERSION_MISMATCH:
        case MDB_INVALID:
        case MDB_INCOMPATIBLE:
                return -EUCLEAN;
        default:
                return rc > 0 ? -rc : -EIO;
        }
}

/* -- Keys -- */

static void put_big_endian(uint8_t *bytes, uint64_t v) {
        for (size_t i = 0; i < 8; i++)
                bytes[i] = v >> (56 - 8 * i);
}

static uint64_t get_big_endian(const uint8_t *bytes) {
        uint64_t v = 0;

        for (size_t i = 0; i < 8; i++)
                v = v << 8 | bytes[i];
        return v;
}

/* The separator becomes 0, below every other byte; 0 and 1 make room for it. The first separator is left out, so the
 * root, which is never stored, would be empty. */
static size_t node_key(KvBytes path, uint8_t key[static KEY_LONG]) {
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
                        if (n == KEY_CUT) {
                                XXH128_canonical_t hash;

                                XXH128_canonicalFromHash(&hash, XXH3_128bits(path.data, path.size));
                                memcpy(key + n, hash.digest, sizeof(hash.digest));
                                return KEY_LONG;
                        }
                        key[n++] = escaped[j];
                }
        }
        return n;
}

/* Where all nodes below a path lie. Below a path whose key is about to be cut the range holds others, too: 'mixed'. */
typedef struct Range {
        KvBytes path;
        uint8_t prefix[KEY_CUT];
        size_t size;
        bool mixed;
} Range;

static Range range_below(KvBytes path) {
        Range range = { .path = path };
        uint8_t key[KEY_LONG];
        size_t size = node_key(path, key);

        range.mixed = size >= KEY_CUT;
        range.size = MIN(size, KEY_CUT);
        memcpy(range.prefix, key, range.size);
        if (size > 0 && !range.mixed)
                range.prefix[range.size++] = 0;
        return range;
}

static bool range_holds(const Range *range, const MDB_val *key) {
        return key->mv_size >= range->size && memcmp(key->mv_data, range->prefix, range->size) == 0;
}

/* The first key of the range, if there is one; else 1. */
static int range_first(const Range *range, MDB_cursor *cursor, MDB_val *key, MDB_val *data) {
        int r;

        *key = (MDB_val) { range->size, (void *) range->prefix };
        r = tree_error(mdb_cursor_get(cursor, key, data, range->size > 0 ? MDB_SET_RANGE : MDB_FIRST));
        if (r < 0)
                return r == -ENOENT ? 1 : r;
        return range_holds(range, key) ? 0 : 1;
}

static int range_next(const Range *range, MDB_cursor *cursor, MDB_val *key, MDB_val *data) {
        int r = tree_error(mdb_cursor_get(cursor, key, data, MDB_NEXT));

        if (r < 0)
                return r == -ENOENT ? 1 : r;
        return range_holds(range, key) ? 0 : 1;
}

/* -- Records -- */

static int node_decode(const MDB_val *data, KvNode *ret) {
        Reader r = reader_over(data->mv_data, data->mv_size);
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

static void node_encode(const KvNode *node, Writer *w) {
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

static void meta_encode(const TreeMeta *meta, Writer *w) {
        w->size = 0, w->error = 0;
        write_u8(w, TREE_VERSION);
        write_u64(w, meta->applied);
        write_u64(w, meta->applied_term);
        write_u64(w, meta->configuration_index);
        write_u64(w, meta->index);
        write_u64(w, meta->cluster_ms);
        write_u64(w, meta->cluster_id);
        write_u64(w, meta->lineage);
        write_u64(w, meta->quota);
        write_u64(w, meta->n_nodes);
        write_u64(w, meta->n_bytes);
        write_u64(w, meta->n_own_nodes);
        write_u64(w, meta->n_own_bytes);
        for (const TreeWindow *window = meta->windows; window < meta->windows + _TREE_WINDOW_MAX; window++) {
                write_u64(w, window->oldest);
                write_u64(w, window->n);
                write_u64(w, window->bytes);
        }
}

static int meta_decode(const MDB_val *data, TreeMeta *ret) {
        Reader r = reader_over(data->mv_data, data->mv_size);
        TreeMeta meta;

        if (read_u8(&r) != TREE_VERSION)
                return -ENOTSUP;
        meta.applied = read_u64(&r);
        meta.applied_term = read_u64(&r);
        meta.configuration_index = read_u64(&r);
        meta.index = read_u64(&r);
        meta.cluster_ms = read_u64(&r);
        meta.cluster_id = read_u64(&r);
        meta.lineage = read_u64(&r);
        meta.quota = read_u64(&r);
        meta.n_nodes = read_u64(&r);
        meta.n_bytes = read_u64(&r);
        meta.n_own_nodes = read_u64(&r);
        meta.n_own_bytes = read_u64(&r);
        for (TreeWindow *window = meta.windows; window < meta.windows + _TREE_WINDOW_MAX; window++) {
                window->oldest = read_u64(&r);
                window->n = read_u64(&r);
                window->bytes = read_u64(&r);
        }
        if (reader_end(&r) < 0)
                return -EUCLEAN;
        *ret = meta;
        return 0;
}

/* -- The environment -- */

static int open_tables(Tree *tree, bool read_only) {
        unsigned make = read_only ? 0 : MDB_CREATE;
        MDB_txn *txn;
        int rc;

        rc = mdb_txn_begin(tree->env, NULL, read_only ? MDB_RDONLY : 0, &txn);
        if (rc != 0)
                return tree_error(rc);
        rc = mdb_dbi_open(txn, "nodes", make, &tree->nodes);
        if (rc == 0)
                rc = mdb_dbi_open(txn, "expiry", make | MDB_DUPSORT, &tree->expiry);
        if (rc == 0)
                rc = mdb_dbi_open(txn, "events", make, &tree->events);
        if (rc == 0)
                rc = mdb_dbi_open(txn, "meta", make, &tree->meta);
        if (rc != 0) {
                mdb_txn_abort(txn);
                return rc == MDB_NOTFOUND ? -EUCLEAN : tree_error(rc);
        }
        return tree_error(mdb_txn_commit(txn));
}

static int check_version(Tree *tree) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta;
        int r;

        r = tree_begin_read(tree, &txn);
        return r < 0 ? r : tree_meta(txn, &meta);
}

DEFINE_CLEANUP(Tree *, tree_close);

int tree_open(const char *path, const TreeOptions *options, Tree **ret, Error *err) {
        _cleanup_(tree_closep) Tree *tree = NULL;
        uint64_t quota = options->quota > 0 ? MAX(options->quota, QUOTA_MIN) : QUOTA_DEFAULT;
        unsigned flags = MDB_NOSYNC | MDB_NOTLS | (options->read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
        int r, dead;

        tree = NEW0(Tree, 1);
        if (!tree)
                return -ENOMEM;
        if (!options->read_only) {
                _cleanup_close_ int fd = open_dir(path, 0700);

                if (fd < 0)
                        return error_set(err, fd, "cannot make %s: %s", path, strerror(-fd));
        }

        r = tree_error(mdb_env_create(&tree->env));
        if (r < 0)
                return r;
        /* The map is address space, not memory or disk. It is never resized: that would need all readers to stop. */
        mdb_env_set_mapsize(tree->env, quota * MAP_FACTOR);
        mdb_env_set_maxdbs(tree->env, 4);
        mdb_env_set_maxreaders(tree->env, 32);

        /* Not MDB_WRITEMAP: with it a full disk is a SIGBUS, without it an error from commit. */
        r = tree_error(mdb_env_open(tree->env, path, flags, 0600));
        if (r == 0) {
                (void) mdb_reader_check(tree->env, &dead);
                r = open_tables(tree, options->read_only);
        }
        if (r == 0)
                r = check_version(tree);
        if (r == -ENOTSUP)
                return error_set(err, r, "the tree in %s was written by a newer fleetd", path);
        if (r == -EUCLEAN)
                return error_set(err, r, "the tree in %s is damaged", path);
        if (r < 0)
                return error_set(err, r, "cannot open the tree in %s: %s", path, strerror(-r));

        *ret = TAKE_PTR(tree);
        return 0;
}

Tree *tree_close(Tree *tree) {
        if (!tree)
                return NULL;

        if (tree->spare) {
                mdb_txn_abort(tree->spare->txn);
                free(tree->spare);
        }
        assert(tree->n_txns == 0);
        if (tree->env)
                mdb_env_close(tree->env);
        writer_done(&tree->scratch);
        free(tree);
        return NULL;
}

uint64_t tree_file_size(const Tree *tree) {
        struct stat st;
        int fd;

        if (mdb_env_get_fd(tree->env, &fd) != 0 || fstat(fd, &st) < 0)
                return 0;
        return st.st_size;
}

/* -- Transactions -- */

static int read_meta(TreeTxn *txn) {
        MDB_val key = { 4, (void *) "meta" }, data;
        int r;

        if (txn->meta_read)
                return 0;
        r = tree_error(mdb_get(txn->txn, txn->tree->meta, &key, &data));
        if (r == 0)
                r = meta_decode(&data, &txn->meta);
        else if (r == -ENOENT)
                txn->meta = (TreeMeta) {}, r = 0;
        txn->meta_read = r == 0;
        return r;
}

static int write_meta(TreeTxn *txn) {
        Writer *w = &txn->tree->scratch;
        MDB_val key = { 4, (void *) "meta" }, data;

        meta_encode(&txn->meta, w);
        if (w->error < 0)
                return w->error;
        data = (MDB_val) { w->size, w->bytes };
        return tree_error(mdb_put(txn->txn, txn->tree->meta, &key, &data, 0));
}

static int begin(Tree *tree, MDB_txn *outer, unsigned flags, TreeTxn **ret) {
        _cleanup_free_ TreeTxn *txn = NEW0(TreeTxn, 1);
        int r;

        if (!txn)
                return -ENOMEM;
        r = tree_error(mdb_txn_begin(tree->env, outer, flags, &txn->txn));
        if (r < 0)
                return r;
        txn->tree = tree;
        txn->write = !(flags & MDB_RDONLY);
        tree->n_txns++;
        *ret = TAKE_PTR(txn);
        return 0;
}

int tree_begin_read(Tree *tree, TreeTxn **ret) {
        int r;

        if (!tree->spare)
                return begin(tree, NULL, MDB_RDONLY, ret);

        r = tree_error(mdb_txn_renew(tree->spare->txn));
        if (r < 0)
                return r;
        tree->n_txns++;
        *ret = TAKE_PTR(tree->spare);
        (*ret)->meta_read = false;
        return 0;
}

int tree_begin_write(Tree *tree, TreeTxn **ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = begin(tree, NULL, 0, &txn);
        if (r == 0)
                r = read_meta(txn);
        if (r == 0)
                *ret = TAKE_PTR(txn);
        return r;
}

int tree_begin_nested(TreeTxn *outer, TreeTxn **ret) {
        int r;

        r = begin(outer->tree, outer->txn, 0, ret);
        if (r < 0)
                return r;
        (*ret)->outer = outer;
        (*ret)->meta = outer->meta;
        (*ret)->meta_read = true;
        return 0;
}

static void end(TreeTxn *txn) {
        txn->tree->n_txns--;
        free(txn);
}

void tree_abort(TreeTxn *txn) {
        Tree *tree;

        if (!txn)
                return;

        tree = txn->tree;
        if (!txn->write && !tree->spare) {
                mdb_txn_reset(txn->txn);
                tree->spare = txn;
                tree->n_txns--;
                return;
        }
        mdb_txn_abort(txn->txn);
        end(txn);
}

int tree_commit(TreeTxn *txn) {
        int r = 0;

        if (!txn->write) {
                tree_abort(txn);
                return 0;
        }
        if (txn->meta_changed && !txn->outer)
                r = write_meta(txn);
        if (r < 0) {
                tree_abort(txn);
                return r;
        }
        r = tree_error(mdb_txn_commit(txn->txn));
        if (r == 0 && txn->outer && txn->meta_changed) {
                txn->outer->meta = txn->meta;
                txn->outer->meta_changed = true;
        }
        end(txn);
        return r;
}

int tree_meta(TreeTxn *txn, TreeMeta *ret) {
        int r = read_meta(txn);

        if (r == 0)
                *ret = txn->meta;
        return r;
}

int tree_set_meta(TreeTxn *txn, const TreeMeta *meta) {
        TreeMeta old = txn->meta;

        assert(txn->write);
        txn->meta = *meta;
        txn->meta.n_nodes = old.n_nodes;
        txn->meta.n_bytes = old.n_bytes;
        txn->meta.n_own_nodes = old.n_own_nodes;
        txn->meta.n_own_bytes = old.n_own_bytes;
        memcpy(txn->meta.windows, old.windows, sizeof(old.windows));
        txn->meta_changed = true;
        return 0;
}

int tree_configuration(TreeTxn *txn, KvBytes *ret) {
        MDB_val key = { 13, (void *) "configuration" }, data = {};
        int r;

        r = tree_error(mdb_get(txn->txn, txn->tree->meta, &key, &data));
        if (r < 0 && r != -ENOENT)
                return r;
        *ret = (KvBytes) { data.mv_data, data.mv_size };
        return 0;
}

int tree_set_configuration(TreeTxn *txn, KvBytes configuration) {
        MDB_val key = { 13, (void *) "configuration" };
        MDB_val data = { configuration.size, (void *) configuration.data };

        if (configuration.size > TREE_CONFIGURATION_MAX)
                return -E2BIG;
        return tree_error(mdb_put(txn->txn, txn->tree->meta, &key, &data, 0));
}

/* -- Nodes -- */

static int get_record(TreeTxn *txn, KvBytes path, MDB_val *key, KvNode *ret) {
        MDB_val data;
        int r;

        r = tree_error(mdb_get(txn->txn, txn->tree->nodes, key, &data));
        if (r == 0)
                r = node_decode(&data, ret);
        if (r == 0 && !kv_bytes_equal(ret->key, path))
                r = -ENOTUNIQ;
        return r;
}

int tree_get(TreeTxn *txn, KvBytes path, KvNode *ret) {
        uint8_t bytes[KEY_LONG];
        MDB_val key = { node_key(path, bytes), bytes };

        if (key.mv_size == 0) {
                *ret = (KvNode) { .key = kv_string("/"), .dir = true };
                return 0;
        }
        return get_record(txn, path, &key, ret);
}

static void count(TreeTxn *txn, const KvNode *node, bool there) {
        bool ours = kv_path_is_ours(node->key);
        uint64_t *n_nodes = ours ? &txn->meta.n_own_nodes : &txn->meta.n_nodes;
        uint64_t *n_bytes = ours ? &txn->meta.n_own_bytes : &txn->meta.n_bytes;
        uint64_t size = node->key.size + node->value.size;

        *n_nodes += there ? 1 : -1;
        *n_bytes += there ? size : -size;
        txn->meta_changed = true;
}

static int set_expiry(TreeTxn *txn, const KvNode *node, MDB_val node_at, bool there) {
        uint8_t bytes[16];
        MDB_val key = { sizeof(bytes), bytes };

        if (node->expires_ms == 0)
                return 0;
        put_big_endian(bytes, node->expires_ms);
        put_big_endian(bytes + 8, node->created);
        return tree_error(there ? mdb_put(txn->txn, txn->tree->expiry, &key, &node_at, 0)
                                : mdb_del(txn->txn, txn->tree->expiry, &key, &node_at));
}

int tree_put(TreeTxn *txn, const KvNode *node) {
        uint8_t bytes[KEY_LONG];
        MDB_val key = { node_key(node->key, bytes), bytes }, data;
        Writer *w = &txn->tree->scratch;
        KvNode old;
        int r;

        assert(txn->write && key.mv_size > 0);
        r = get_record(txn, node->key, &key, &old);
        if (r < 0 && r != -ENOENT)
                return r;
        /* Encoded first: the node may borrow from the record that it replaces. */
        node_encode(node, w);
        if (w->error < 0)
                return w->error;

        if (r == 0) {
                count(txn, &old, false);
                r = set_expiry(txn, &old, key, false);
                if (r < 0)
                        return r;
        }
        data = (MDB_val) { w->size, w->bytes };
        r = tree_error(mdb_put(txn->txn, txn->tree->nodes, &key, &data, 0));
        if (r < 0)
                return r;
        r = node_decode(&data, &old); /* LMDB copied it; 'node' may be gone with the record that was replaced */
        if (r < 0)
                return r;
        count(txn, &old, true);
        return set_expiry(txn, &old, key, true);
}

int tree_delete(TreeTxn *txn, KvBytes path) {
        uint8_t bytes[KEY_LONG];
        MDB_val key = { node_key(path, bytes), bytes };
        KvNode old;
        int r;

        assert(txn->write && key.mv_size > 0);
        r = get_record(txn, path, &key, &old);
        if (r < 0)
                return r;
        count(txn, &old, false);
        r = set_expiry(txn, &old, key, false);
        if (r < 0)
                return r;
        return tree_error(mdb_del(txn->txn, txn->tree->nodes, &key, NULL));
}

static void cursor_closep(MDB_cursor **cursor) {
        if (*cursor)
                mdb_cursor_close(*cursor);
}

int tree_delete_below(TreeTxn *txn, KvBytes path) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        Range range = range_below(path);
        MDB_val key, data;
        int r;

        assert(txn->write);
        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->nodes, &cursor));
        if (r < 0)
                return r;

        for (r = range_first(&range, cursor, &key, &data); r == 0; r = range_next(&range, cursor, &key, &data)) {
                uint8_t bytes[KEY_LONG];
                KvNode node;

                r = node_decode(&data, &node);
                if (r < 0)
                        return r;
                if (range.mixed && !kv_path_is_below(node.key, path))
                        continue;
                if (key.mv_size > sizeof(bytes))
                        return -EUCLEAN;
                memcpy(bytes, key.mv_data, key.mv_size);

                count(txn, &node, false);
                r = set_expiry(txn, &node, (MDB_val) { key.mv_size, bytes }, false);
                if (r == 0)
                        r = tree_error(mdb_cursor_del(cursor, 0)); /* the next MDB_NEXT then finds what followed */
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : 0;
}

/* -- Walking -- */

typedef struct Walk {
        TreeTxn *txn;
        MDB_cursor *cursor;
        Range range;
        bool recursive;
        int (*visit)(void *userdata, const KvNode *node);
        void *userdata;
} Walk;

static int compare_paths(const void *a, const void *b) {
        const KvNode *x = a, *y = b;
        const uint8_t *p = x->key.data, *q = y->key.data;
        size_t n = MIN(x->key.size, y->key.size);

        for (size_t i = 0; i < n; i++)
                if (p[i] != q[i])
                        return p[i] == '/' ? -1 : q[i] == '/' ? 1 : p[i] < q[i] ? -1 : 1;
        return x->key.size < y->key.size ? -1 : x->key.size > y->key.size;
}

static bool is_child(KvBytes path, KvBytes parent) {
        size_t skip = parent.size == 1 ? 1 : parent.size + 1;

        return !memchr((const char *) path.data + skip, '/', path.size - skip);
}

static int walk_visit(const Walk *walk, const KvNode *node) {
        if (walk->range.mixed && !kv_path_is_below(node->key, walk->range.path))
                return 1;
        if (!walk->recursive && !is_child(node->key, walk->range.path))
                return 1;
        return walk->visit(walk->userdata, node);
}

/* Long keys with one beginning lie in the order of their hashes: they are collected, and visited in that of their paths.
 * Returns as walk_visit(); the cursor then stands on what follows, *at tells as range_next(). */
static int walk_long(const Walk *walk, MDB_val *key, MDB_val *data, int *at) {
        _cleanup_free_ KvNode *nodes = NULL;
        size_t n = 0, capacity = 0;
        uint8_t beginning[KEY_CUT];
        int r = 1;

        memcpy(beginning, key->mv_data, KEY_CUT);
        do {
                if (GROW(nodes, capacity, n + 1) < 0)
                        return -ENOMEM;
                r = node_decode(data, &nodes[n++]);
                if (r < 0)
                        return r;
                *at = range_next(&walk->range, walk->cursor, key, data);
        } while (*at == 0 && key->mv_size == KEY_LONG && memcmp(key->mv_data, beginning, KEY_CUT) == 0);

        qsort(nodes, n, sizeof(*nodes), compare_paths);
        r = 1;
        for (size_t i = 0; r > 0 && i < n; i++)
                r = walk_visit(walk, &nodes[i]);
        return r;
}

/* To the next node that is not below the one under the cursor. */
static int walk_skip_below(const Walk *walk, MDB_val *key, MDB_val *data) {
        uint8_t behind[KEY_CUT + 1];
        int r;

        memcpy(behind, key->mv_data, key->mv_size);
        behind[key->mv_size] = 1;
        *key = (MDB_val) { key->mv_size + 1, behind };
        r = tree_error(mdb_cursor_get(walk->cursor, key, data, MDB_SET_RANGE));
        if (r < 0)
                return r == -ENOENT ? 1 : r;
        return range_holds(&walk->range, key) ? 0 : 1;
}

int tree_walk(TreeTxn *txn, KvBytes path, bool recursive, int (*visit)(void *userdata, const KvNode *node), void *userdata) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        Walk walk = { .txn = txn, .range = range_below(path), .recursive = recursive, .visit = visit, .userdata = userdata };
        MDB_val key, data;
        int at, r;

        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->nodes, &cursor));
        if (r < 0)
                return r;
        walk.cursor = cursor;

        at = range_first(&walk.range, cursor, &key, &data);
        while (at == 0) {
                KvNode node;

                if (key.mv_size == KEY_LONG) {
                        r = walk_long(&walk, &key, &data, &at);
                        if (r <= 0)
                                return r;
                        continue;
                }
                r = node_decode(&data, &node);
                if (r == 0)
                        r = walk_visit(&walk, &node);
                if (r <= 0)
                        return r;
                if (!recursive && node.dir && key.mv_size < KEY_CUT)
                        at = walk_skip_below(&walk, &key, &data);
                else
                        at = range_next(&walk.range, cursor, &key, &data);
        }
        return at < 0 ? at : 0;
}

static int stop_at_first(void *userdata, const KvNode *node) {
        *(bool *) userdata = true;
        return 0;
}

bool tree_has_children(TreeTxn *txn, KvBytes path) {
        bool found = false;

        return tree_walk(txn, path, true, stop_at_first, &found) == 0 && found;
}

int tree_first_due(TreeTxn *txn, uint64_t due_ms, KvNode *ret) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        MDB_val key, at, data;
        int r;

        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->expiry, &cursor));
        if (r == 0)
                r = tree_error(mdb_cursor_get(cursor, &key, &at, MDB_FIRST));
        if (r < 0)
                return r;
        if (key.mv_size != 16)
                return -EUCLEAN;
        if (get_big_endian(key.mv_data) > due_ms)
                return -ENOENT;

        r = tree_error(mdb_get(txn->txn, txn->tree->nodes, &at, &data));
        return r == -ENOENT ? -EUCLEAN : r < 0 ? r : node_decode(&data, ret);
}

/* -- Events -- */

enum { EVENT_KEY = 9 };

static int drop_oldest_event(TreeTxn *txn, MDB_cursor *cursor, unsigned window) {
        TreeWindow *w = &txn->meta.windows[window];
        uint8_t bytes[EVENT_KEY] = { window };
        MDB_val key = { sizeof(bytes), bytes }, data;
        uint64_t weight;
        Reader r;
        int k;

        k = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE));
        if (k < 0)
                return k == -ENOENT ? -EUCLEAN : k;
        if (key.mv_size != EVENT_KEY || *(const uint8_t *) key.mv_data != window)
                return -EUCLEAN;
        r = reader_over(data.mv_data, data.mv_size);
        w->oldest = get_big_endian((const uint8_t *) key.mv_data + 1) + 1;
        weight = read_u64(&r);
        w->bytes -= MIN(w->bytes, weight);
        w->n--;
        return tree_error(mdb_cursor_del(cursor, 0));
}

int tree_add_event(TreeTxn *txn, unsigned window, uint64_t index, KvBytes event, uint64_t weight) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        TreeWindow *w = &txn->meta.windows[window];
        Writer *scratch = &txn->tree->scratch;
        uint8_t bytes[EVENT_KEY] = { window };
        MDB_val key = { sizeof(bytes), bytes }, data;
        int r;

        assert(txn->write && window < _TREE_WINDOW_MAX);
        scratch->size = 0, scratch->error = 0;
        write_u64(scratch, weight);
        write_raw(scratch, event.data, event.size);
        if (scratch->error < 0)
                return scratch->error;
        put_big_endian(bytes + 1, index);
        data = (MDB_val) { scratch->size, scratch->bytes };

        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor));
        if (r == 0)
                r = tree_error(mdb_cursor_put(cursor, &key, &data, 0));
        if (r < 0)
                return r;
        w->n++;
        w->bytes += weight;
        txn->meta_changed = true;
        while (r == 0 && (w->n > TREE_WINDOW_EVENTS || (w->bytes > TREE_WINDOW_BYTES && w->n > 1)))
                r = drop_oldest_event(txn, cursor, window);
        return r;
}

int tree_events(TreeTxn *txn, unsigned window, int (*visit)(void *userdata, uint64_t index, KvBytes event), void *userdata) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[EVENT_KEY] = { window };
        MDB_val key = { sizeof(bytes), bytes }, data;
        int r;

        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor));
        if (r < 0)
                return r;
        for (r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE)); r == 0;
             r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_NEXT))) {
                if (key.mv_size != EVENT_KEY || data.mv_size < 8)
                        return -EUCLEAN;
                if (*(const uint8_t *) key.mv_data != window)
                        return 0;
                r = visit(userdata, get_big_endian((const uint8_t *) key.mv_data + 1),
                          (KvBytes) { (const uint8_t *) data.mv_data + 8, data.mv_size - 8 });
                if (r <= 0)
                        return r;
        }
        return r == -ENOENT ? 0 : r;
}

/* -- The whole -- */

static int hash_node(void *userdata, const KvNode *node) {
        uint64_t *sum = userdata;
        uint64_t fields[] = { node->dir, node->created, node->modified, node->expires_ms, node->key.size };
        XXH64_hash_t h = XXH3_64bits(fields, sizeof(fields));

        h = XXH3_64bits_withSeed(node->key.data, node->key.size, h);
        *sum += XXH3_64bits_withSeed(node->value.data, node->value.size, h);
        return 1;
}

int tree_hash(TreeTxn *txn, uint64_t *ret) {
        uint64_t sum = 0;
        TreeMeta meta;
        int r;

        r = tree_meta(txn, &meta);
        if (r == 0)
                r = tree_walk(txn, kv_string("/"), true, hash_node, &sum);
        if (r == 0)
                *ret = sum ^ XXH3_64bits(&meta.index, sizeof(meta.index)) ^ XXH3_64bits(meta.windows, sizeof(meta.windows));
        return r;
}

/* -- Checking and copying -- */

typedef struct Check {
        TreeTxn *txn;
        TreeMeta seen;
        uint64_t n_expiring;
} Check;

static int check_node(void *userdata, const KvNode *node) {
        Check *check = userdata;
        bool ours = kv_path_is_ours(node->key);
        const char *slash = memrchr(node->key.data, '/', node->key.size);
        KvBytes parent = { node->key.data, slash ? slash - (const char *) node->key.data : 0 };
        KvNode dir, again;

        if (!slash || tree_get(check->txn, parent.size > 0 ? parent : kv_string("/"), &dir) < 0 || !dir.dir ||
            tree_get(check->txn, node->key, &again) < 0 || (node->dir && node->value.size > 0))
                return -EUCLEAN;
        *(ours ? &check->seen.n_own_nodes : &check->seen.n_nodes) += 1;
        *(ours ? &check->seen.n_own_bytes : &check->seen.n_bytes) += node->key.size + node->value.size;
        check->n_expiring += node->expires_ms > 0;
        return 1;
}

int tree_check(TreeTxn *txn, Error *err) {
        Check check = { .txn = txn };
        MDB_stat expiry;
        TreeMeta meta = {};
        int r;

        r = tree_meta(txn, &meta);
        if (r == 0)
                r = tree_error(mdb_stat(txn->txn, txn->tree->expiry, &expiry));
        if (r == 0)
                r = tree_walk(txn, kv_string("/"), true, check_node, &check);
        if (r == -EUCLEAN)
                return error_set(err, r, "a node of the tree is damaged");
        if (r < 0)
                return error_set(err, r, "cannot read the tree: %s", strerror(-r));
        if (meta.n_nodes != check.seen.n_nodes || meta.n_bytes != check.seen.n_bytes ||
            meta.n_own_nodes != check.seen.n_own_nodes || meta.n_own_bytes != check.seen.n_own_bytes ||
            expiry.ms_entries != check.n_expiring)
                return error_set(err, -EUCLEAN, "the tree does not hold what its counts say");
        return 0;
}

/* LMDB writes the copy into a pipe, and we from there into the file: so that we can count, and give up. */
typedef struct Copier {
        Tree *tree;
        int pipe_fd;
        int result;
} Copier;

static void *run_copier(void *userdata) {
        Copier *copier = userdata;

        copier->result = tree_error(mdb_env_copyfd2(copier->tree->env, copier->pipe_fd, MDB_CP_COMPACT));
        close(copier->pipe_fd);
        return NULL;
}

static int pump(Tree *tree, int from, int to, uint64_t max) {
        _cleanup_free_ char *chunk = malloc(COPY_CHUNK);
        uint64_t size = 0, live = tree_file_size(tree);

        if (!chunk)
                return -ENOMEM;
        for (;;) {
                ssize_t n = read(from, chunk, COPY_CHUNK);
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                if ((max > 0 && size + n > max) || tree_file_size(tree) > MAX(2 * live, (uint64_t) COPY_LIVE_MIN))
                        return -EFBIG;
                r = pwrite_all(to, chunk, n, size);
                if (r < 0)
                        return r;
                size += n;
        }
}

static int copy_file(Tree *tree, int fd, uint64_t max) {
        _cleanup_close_ int read_fd = -1;
        Copier copier = { .tree = tree };
        pthread_t thread;
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        read_fd = fds[0];
        copier.pipe_fd = fds[1];
        r = -pthread_create(&thread, NULL, run_copier, &copier);
        if (r < 0) {
                close(fds[1]);
                return r;
        }

        r = pump(tree, read_fd, fd, max);
        close(TAKE_FD(read_fd)); /* given up: LMDB's next write fails, and its thread ends */
        pthread_join(thread, NULL);
        if (r == 0)
                r = copier.result;
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        return r;
}

static int check_copy(const char *path, TreeMeta *ret_meta, Error *err) {
        _cleanup_(tree_closep) Tree *copy = NULL;
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = tree_open(path, &(TreeOptions) { .read_only = true }, &copy, err);
        if (r < 0)
                return r;
        r = tree_begin_read(copy, &txn);
        if (r == 0)
                r = tree_check(txn, err);
        if (r == 0)
                r = tree_meta(txn, ret_meta);
        return r;
}

int tree_copy(Tree *tree, const char *to, uint64_t max, TreeMeta *ret_meta, Error *err) {
        _cleanup_close_ int dir_fd = -1, fd = -1;
        TreeMeta meta;
        int r;

        if (mkdir(to, 0700) < 0)
                return error_set(err, -errno, "cannot make %s: %s", to, strerror(errno));
        dir_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = dir_fd < 0 ? -errno : 0;
        if (r == 0) {
                fd = openat(dir_fd, "data.mdb", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
                r = fd < 0 ? -errno : copy_file(tree, fd, max);
        }
        if (r == 0)
                r = fsync_dir(dir_fd);
        if (r < 0)
                error_set(err, r, "cannot copy the tree to %s: %s", to, strerror(-r));
        else
                r = check_copy(to, &meta, err);
        if (r < 0) {
                if (dir_fd >= 0)
                        (void) unlinkat(dir_fd, "data.mdb", 0);
                (void) rmdir(to);
                return r;
        }
        *ret_meta = meta;
        return 0;
}
