/* Nodes: access by path, ranges in the order of paths, order of expiry. */
#include "kvstore/tree/tree_internal.h"

#include <lmdb.h>

#include "base/table.h"
#include "kvstore/tree/format.h"

/* -- Ranges -- */

/* Move the cursor by an operation of LMDB. Return 1 if it leaves the range. */
static int range_move(const TreeRange *range, MDB_cursor *cursor, MDB_val *key, MDB_val *data,
                      MDB_cursor_op op) {
        int r = tree_error(mdb_cursor_get(cursor, key, data, op));

        if (r < 0)
                return r == -ENOENT ? 1 : r;
        return tree_range_holds(range, key->mv_data, key->mv_size) ? 0 : 1;
}

static int range_first(const TreeRange *range, MDB_cursor *cursor, MDB_val *key, MDB_val *data) {
        *key = (MDB_val) { range->size, (void *) range->prefix };
        return range_move(range, cursor, key, data, range->size > 0 ? MDB_SET_RANGE : MDB_FIRST);
}

static int range_next(const TreeRange *range, MDB_cursor *cursor, MDB_val *key, MDB_val *data) {
        return range_move(range, cursor, key, data, MDB_NEXT);
}

/* -- Nodes -- */

static int node_read(TreeTxn *txn, KvBytes path, MDB_val *key, KvNode *ret) {
        MDB_val data;
        int r;

        r = tree_error(mdb_get(txn->txn, txn->tree->nodes, key, &data));
        tree_count(txn, r == 0 ? data.mv_size : 0);
        if (r < 0)
                return r;
        TRY(tree_node_decode(data.mv_data, data.mv_size, ret));
        return kv_bytes_equal(ret->key, path) ? 0 : -ENOTUNIQ;
}

int tree_get(TreeTxn *txn, KvBytes path, KvNode *ret) {
        uint8_t bytes[TREE_KEY_LONG];
        MDB_val key = { tree_key(path, bytes), bytes };

        if (key.mv_size == 0) {
                *ret = (KvNode) { .key = kv_string("/"), .dir = true };
                return 0;
        }
        return node_read(txn, path, &key, ret);
}

static void node_count(TreeTxn *txn, const KvNode *node, bool added) {
        bool ours = kv_path_is_ours(node->key);
        uint64_t *n_nodes = ours ? &txn->meta.n_own_nodes : &txn->meta.n_nodes;
        uint64_t *n_bytes = ours ? &txn->meta.n_own_bytes : &txn->meta.n_bytes;
        uint64_t size = node->key.size + node->value.size;

        *n_nodes += added ? 1 : -1;
        *n_bytes += added ? size : -size;
        txn->meta.sum += added ? tree_node_hash(node) : -tree_node_hash(node);
        txn->meta_changed = true;
}

static int node_set_expiry(TreeTxn *txn, const KvNode *node, MDB_val node_at, bool added) {
        uint8_t bytes[16];
        MDB_val key = { sizeof(bytes), bytes };

        if (node->expires_ms == 0)
                return 0;
        tree_put_big_endian(bytes, node->expires_ms);
        tree_put_big_endian(bytes + 8, node->created);
        return tree_error(added ? mdb_put(txn->txn, txn->tree->expiry, &key, &node_at, 0) :
                                  mdb_del(txn->txn, txn->tree->expiry, &key, &node_at));
}

int tree_put(TreeTxn *txn, const KvNode *node) {
        uint8_t bytes[TREE_KEY_LONG];
        MDB_val key = { tree_key(node->key, bytes), bytes }, data;
        Writer *w = &txn->tree->scratch;
        KvNode old;
        int r;

        assert(txn->write && key.mv_size > 0);
        r = node_read(txn, node->key, &key, &old);
        if (r < 0 && r != -ENOENT)
                return r;
        /* Encode first: the node may borrow from the record that it replaces. */
        tree_node_encode(node, w);
        if (w->error < 0)
                return w->error;

        if (r == 0) {
                node_count(txn, &old, false);
                r = TRY(node_set_expiry(txn, &old, key, false));
        }
        data = (MDB_val) { w->size, w->bytes };
        r = tree_error(mdb_put(txn->txn, txn->tree->nodes, &key, &data, 0));
        tree_count(txn, w->size);
        if (r < 0)
                return r;
        /* Use LMDB's copy: 'node' is invalid if it borrowed from the replaced record. */
        TRY(tree_node_decode(data.mv_data, data.mv_size, &old));
        node_count(txn, &old, true);
        tree_touch(txn, data.mv_size);
        return node_set_expiry(txn, &old, key, true);
}

int tree_delete(TreeTxn *txn, KvBytes path) {
        uint8_t bytes[TREE_KEY_LONG];
        MDB_val key = { tree_key(path, bytes), bytes };
        KvNode old;

        assert(txn->write && key.mv_size > 0);
        TRY(node_read(txn, path, &key, &old));
        node_count(txn, &old, false);
        tree_touch(txn, 0);
        TRY(node_set_expiry(txn, &old, key, false));
        return tree_error(mdb_del(txn->txn, txn->tree->nodes, &key, NULL));
}

int tree_delete_below(TreeTxn *txn, KvBytes path) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        TreeRange range = tree_range_below(path);
        MDB_val key, data;
        int r;

        assert(txn->write);
        r = TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->nodes, &cursor)));

        for (r = range_first(&range, cursor, &key, &data); r == 0;
             r = range_next(&range, cursor, &key, &data)) {
                uint8_t bytes[TREE_KEY_LONG];
                KvNode node;

                TRY(tree_node_decode(data.mv_data, data.mv_size, &node));
                tree_count(txn, data.mv_size);
                if (range.mixed && !kv_path_is_below(node.key, path))
                        continue;
                if (key.mv_size > sizeof(bytes))
                        return -EUCLEAN;
                memcpy(bytes, key.mv_data, key.mv_size);

                node_count(txn, &node, false);
                tree_touch(txn, 0);
                TRY(node_set_expiry(txn, &node, (MDB_val) { key.mv_size, bytes }, false));
                r = tree_error(mdb_cursor_del(cursor, 0)); /* MDB_NEXT then returns the following record */
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : 0;
}

/* -- Walking -- */

typedef struct Walk {
        TreeTxn *txn;
        MDB_cursor *cursor;
        TreeRange range;
        KvBytes after; /* a long path: nodes up to it are not visited. Its key does not give its position
                        * among those with its prefix. */
        bool recursive;
        KvVisit visit;
        void *userdata;
} Walk;

static int walk_decode(TreeTxn *txn, const MDB_val *data, KvNode *ret) {
        int r = tree_node_decode(data->mv_data, data->mv_size, ret);

        return r < 0 ? r : tree_visited(txn, data->mv_size);
}

static int walk_visit(const Walk *walk, const KvNode *node) {
        if (walk->range.mixed && !kv_path_is_below(node->key, walk->range.path))
                return 1;
        if (!walk->recursive && !tree_path_is_child(node->key, walk->range.path))
                return 1;
        if (walk->after.size > 0 && tree_compare_paths(node, &(KvNode) { .key = walk->after }) <= 0)
                return 1;
        return walk->visit(walk->userdata, node);
}

/* Collect the long keys with one prefix, which are in the order of their hashes, and visit them in the order
 * of their paths. Return as walk_visit(). The cursor is then at the following record; *at is the result of
 * range_next(). */
static int walk_long(const Walk *walk, MDB_val *key, MDB_val *data, int *at) {
        _cleanup_free_ KvNode *nodes = NULL;
        size_t n = 0, capacity = 0;
        uint8_t prefix[TREE_KEY_CUT];
        int r = 1;

        memcpy(prefix, key->mv_data, TREE_KEY_CUT);
        do {
                TRY(GROW(nodes, capacity, n + 1));
                r = TRY(walk_decode(walk->txn, data, &nodes[n++]));
                *at = range_next(&walk->range, walk->cursor, key, data);
        } while (*at == 0 && key->mv_size == TREE_KEY_LONG &&
                 memcmp(key->mv_data, prefix, TREE_KEY_CUT) == 0);

        qsort(nodes, n, sizeof(*nodes), tree_compare_paths);
        r = 1;
        for (size_t i = 0; r > 0 && i < n; i++)
                r = walk_visit(walk, &nodes[i]);
        return r;
}

/* Move to the next node that is not below the current one. */
static int walk_skip_below(const Walk *walk, MDB_val *key, MDB_val *data) {
        uint8_t following[TREE_KEY_CUT + 1];

        memcpy(following, key->mv_data, key->mv_size);
        following[key->mv_size] = 1;
        *key = (MDB_val) { key->mv_size + 1, following };
        return range_move(&walk->range, walk->cursor, key, data, MDB_SET_RANGE);
}

/* Move to the first node of the walk after 'after'. Return as range_first(). */
static int walk_first(Walk *walk, KvBytes after, MDB_val *key, MDB_val *data) {
        uint8_t bytes[TREE_KEY_LONG];
        size_t size = tree_key(after, bytes);
        int r;

        if (after.size == 0)
                return range_first(&walk->range, walk->cursor, key, data);
        if (!kv_path_is_below(after, walk->range.path))
                return -EINVAL;
        if (size == TREE_KEY_LONG) {
                walk->after = after;
                size = TREE_KEY_CUT;
        } else if (!walk->recursive && size < TREE_KEY_CUT) {
                bytes[size++] = 1; /* after all nodes below it */
        }

        *key = (MDB_val) { size, bytes };
        r = range_move(&walk->range, walk->cursor, key, data, MDB_SET_RANGE);
        if (r == 0 && key->mv_size == size && memcmp(key->mv_data, bytes, size) == 0)
                return range_next(&walk->range, walk->cursor, key, data);
        return r;
}

int tree_walk_from(TreeTxn *txn, KvBytes path, KvBytes after, bool recursive, KvVisit visit, void *userdata) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        Walk walk = { .txn = txn,
                      .range = tree_range_below(path),
                      .recursive = recursive,
                      .visit = visit,
                      .userdata = userdata };
        MDB_val key, data;
        int at, r;

        r = TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->nodes, &cursor)));
        walk.cursor = cursor;

        at = walk_first(&walk, after, &key, &data);
        while (at == 0) {
                KvNode node;

                if (key.mv_size == TREE_KEY_LONG) {
                        r = walk_long(&walk, &key, &data, &at);
                        if (r <= 0)
                                return r;
                        continue;
                }
                TRY(walk_decode(txn, &data, &node));
                r = walk_visit(&walk, &node);
                if (r <= 0)
                        return r;
                if (!recursive && node.dir && key.mv_size < TREE_KEY_CUT)
                        at = walk_skip_below(&walk, &key, &data);
                else
                        at = range_next(&walk.range, cursor, &key, &data);
        }
        return at < 0 ? at : 0;
}

int tree_walk(TreeTxn *txn, KvBytes path, bool recursive, KvVisit visit, void *userdata) {
        return tree_walk_from(txn, path, (KvBytes) {}, recursive, visit, userdata);
}

int tree_scan(TreeTxn *txn, KvBytes path, int (*visit)(void *userdata, const KvNode *node, bool below),
              void *userdata) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        TreeRange range = tree_range_below(path);
        MDB_val key, data;
        int at, r;

        r = TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->nodes, &cursor)));
        for (at = range_first(&range, cursor, &key, &data); at == 0;
             at = range_next(&range, cursor, &key, &data)) {
                KvNode node;

                TRY(walk_decode(txn, &data, &node));
                r = visit(userdata, &node, !range.mixed || kv_path_is_below(node.key, path));
                if (r <= 0)
                        return r;
        }
        return at < 0 ? at : 0;
}

bool tree_is_long(KvBytes path) {
        uint8_t bytes[TREE_KEY_LONG];

        return path.size > TREE_KEY_CUT / 2 && tree_key(path, bytes) == TREE_KEY_LONG;
}

bool tree_share_prefix(KvBytes a, KvBytes b) {
        uint8_t x[TREE_KEY_LONG], y[TREE_KEY_LONG];

        return tree_key(a, x) >= TREE_KEY_CUT && tree_key(b, y) >= TREE_KEY_CUT &&
               memcmp(x, y, TREE_KEY_CUT) == 0;
}

uint64_t tree_prefix_hash(KvBytes path) {
        uint8_t bytes[TREE_KEY_LONG];

        if (path.size <= TREE_KEY_CUT / 2 || tree_key(path, bytes) < TREE_KEY_CUT)
                return 0;
        return XXH3_64bits(bytes, TREE_KEY_CUT) ?: 1;
}

int tree_count_long(TreeTxn *txn, KvBytes path, uint64_t max, uint64_t *ret) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[TREE_KEY_LONG];
        size_t size = tree_key(path, bytes);
        TreeRange range = { .path = path, .size = TREE_KEY_CUT };
        MDB_val key, data;
        uint64_t n = 0;
        int r;

        if (size < TREE_KEY_CUT) {
                *ret = 0;
                return 0;
        }
        r = TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->nodes, &cursor)));
        memcpy(range.prefix, bytes, TREE_KEY_CUT);
        for (r = range_first(&range, cursor, &key, &data); r == 0 && n < max;
             r = range_next(&range, cursor, &key, &data)) {
                n += key.mv_size == TREE_KEY_LONG;
                tree_count(txn, key.mv_size);
        }
        if (r < 0)
                return r;
        *ret = n;
        return 0;
}

int tree_first_due(TreeTxn *txn, uint64_t due_ms, KvNode *ret) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        MDB_val key, at, data;
        int r;

        TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->expiry, &cursor)));
        TRY(tree_error(mdb_cursor_get(cursor, &key, &at, MDB_FIRST)));
        if (key.mv_size != 16)
                return -EUCLEAN;
        if (tree_get_big_endian(key.mv_data) > due_ms)
                return -ENOENT;

        r = tree_error(mdb_get(txn->txn, txn->tree->nodes, &at, &data));
        if (r < 0)
                return r == -ENOENT ? -EUCLEAN : r;
        return tree_node_decode(data.mv_data, data.mv_size, ret);
}
