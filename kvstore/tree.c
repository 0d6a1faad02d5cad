#include "kvstore/tree_internal.h"

#include <assert.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kvstore/tree_format.h"

enum { MAP_FACTOR = 64 };

static const uint64_t QUOTA_DEFAULT = 256 * 1024 * 1024;
static const uint64_t QUOTA_MIN = 1024 * 1024;

int tree_error(int rc) {
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

/* -- Ranges -- */

/* The first key of the range, if there is one; else 1. */
static int range_first(const TreeRange *range, MDB_cursor *cursor, MDB_val *key, MDB_val *data) {
        int r;

        *key = (MDB_val) { range->size, (void *) range->prefix };
        r = tree_error(mdb_cursor_get(cursor, key, data, range->size > 0 ? MDB_SET_RANGE : MDB_FIRST));
        if (r < 0)
                return r == -ENOENT ? 1 : r;
        return tree_range_holds(range, key->mv_data, key->mv_size) ? 0 : 1;
}

static int range_next(const TreeRange *range, MDB_cursor *cursor, MDB_val *key, MDB_val *data) {
        int r = tree_error(mdb_cursor_get(cursor, key, data, MDB_NEXT));

        if (r < 0)
                return r == -ENOENT ? 1 : r;
        return tree_range_holds(range, key->mv_data, key->mv_size) ? 0 : 1;
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
                rc = mdb_dbi_open(txn, "results", make, &tree->results);
        if (rc == MDB_NOTFOUND && tree->events > 0 && read_only)
                rc = tree->results = 0; /* a checkpoint of an older version */
        if (rc == 0)
                rc = mdb_dbi_open(txn, "meta", make, &tree->meta);
        if (rc != 0) {
                mdb_txn_abort(txn);
                return rc == MDB_NOTFOUND ? -EUCLEAN : tree_error(rc);
        }
        return tree_error(mdb_txn_commit(txn));
}

/* A tree of a version that kept no sum gets it. */
static int begin_sum(Tree *tree) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = tree_begin_write(tree, &txn);
        if (r == 0)
                r = tree_sum(txn, &txn->meta.sum);
        if (r < 0)
                return r;
        txn->meta_changed = true;
        return tree_commit(TAKE_PTR(txn));
}

static int check_version(Tree *tree, bool read_only) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta;
        int r;

        r = tree_begin_read(tree, &txn);
        if (r == 0)
                r = tree_meta(txn, &meta);
        return r < 0 || txn->summed || read_only ? r : begin_sum(tree);
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
        mdb_env_set_maxdbs(tree->env, 5);
        mdb_env_set_maxreaders(tree->env, 32);

        /* Not MDB_WRITEMAP: with it a full disk is a SIGBUS, without it an error from commit. */
        r = tree_error(mdb_env_open(tree->env, path, flags, 0600));
        if (r == 0) {
                (void) mdb_reader_check(tree->env, &dead);
                r = open_tables(tree, options->read_only);
        }
        if (r == 0)
                r = check_version(tree, options->read_only);
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
                r = tree_meta_decode(data.mv_data, data.mv_size, &txn->meta, &txn->summed);
        else if (r == -ENOENT)
                txn->meta = (TreeMeta) {}, txn->summed = true, r = 0;
        txn->meta_read = r == 0;
        return r;
}

static int write_meta(TreeTxn *txn) {
        Writer *w = &txn->tree->scratch;
        MDB_val key = { 4, (void *) "meta" }, data;

        tree_meta_encode(&txn->meta, w);
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
        txn->seen = mdb_txn_id(txn->txn);
        txn->write = !(flags & MDB_RDONLY);
        tree->n_txns++;
        *ret = TAKE_PTR(txn);
        return 0;
}

int tree_begin_read(Tree *tree, TreeTxn **ret) {
        size_t seen;
        int r;

        /* One that sees nothing new still knows what it has read of the tree's figures. */
        if (!tree->spare)
                return begin(tree, NULL, MDB_RDONLY, ret);

        seen = tree->spare->seen;
        r = tree_error(mdb_txn_renew(tree->spare->txn));
        if (r < 0)
                return r;
        tree->n_txns++;
        *ret = TAKE_PTR(tree->spare);
        (*ret)->seen = mdb_txn_id((*ret)->txn);
        if ((*ret)->seen != seen)
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
        (*ret)->summed = outer->summed;
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
        txn->meta.sum = old.sum;
        memcpy(txn->meta.windows, old.windows, sizeof(old.windows));
        txn->meta.results = old.results;
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
                r = tree_node_decode(data.mv_data, data.mv_size, ret);
        if (r == 0 && !kv_bytes_equal(ret->key, path))
                r = -ENOTUNIQ;
        return r;
}

int tree_get(TreeTxn *txn, KvBytes path, KvNode *ret) {
        uint8_t bytes[TREE_KEY_LONG];
        MDB_val key = { tree_key(path, bytes), bytes };

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
        txn->meta.sum += there ? tree_node_hash(node) : -tree_node_hash(node);
        txn->meta_changed = true;
}

static int set_expiry(TreeTxn *txn, const KvNode *node, MDB_val node_at, bool there) {
        uint8_t bytes[16];
        MDB_val key = { sizeof(bytes), bytes };

        if (node->expires_ms == 0)
                return 0;
        tree_put_big_endian(bytes, node->expires_ms);
        tree_put_big_endian(bytes + 8, node->created);
        return tree_error(there ? mdb_put(txn->txn, txn->tree->expiry, &key, &node_at, 0)
                                : mdb_del(txn->txn, txn->tree->expiry, &key, &node_at));
}

int tree_put(TreeTxn *txn, const KvNode *node) {
        uint8_t bytes[TREE_KEY_LONG];
        MDB_val key = { tree_key(node->key, bytes), bytes }, data;
        Writer *w = &txn->tree->scratch;
        KvNode old;
        int r;

        assert(txn->write && key.mv_size > 0);
        r = get_record(txn, node->key, &key, &old);
        if (r < 0 && r != -ENOENT)
                return r;
        /* Encoded first: the node may borrow from the record that it replaces. */
        tree_node_encode(node, w);
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
        /* By what LMDB has copied: 'node' may be gone with the record that was replaced. */
        r = tree_node_decode(data.mv_data, data.mv_size, &old);
        if (r < 0)
                return r;
        count(txn, &old, true);
        return set_expiry(txn, &old, key, true);
}

int tree_delete(TreeTxn *txn, KvBytes path) {
        uint8_t bytes[TREE_KEY_LONG];
        MDB_val key = { tree_key(path, bytes), bytes };
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
        TreeRange range = tree_range_below(path);
        MDB_val key, data;
        int r;

        assert(txn->write);
        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->nodes, &cursor));
        if (r < 0)
                return r;

        for (r = range_first(&range, cursor, &key, &data); r == 0; r = range_next(&range, cursor, &key, &data)) {
                uint8_t bytes[TREE_KEY_LONG];
                KvNode node;

                r = tree_node_decode(data.mv_data, data.mv_size, &node);
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
        TreeRange range;
        KvBytes after; /* a long key whose place among those with its beginning its path tells: what is up to it is not visited */
        bool recursive;
        int (*visit)(void *userdata, const KvNode *node);
        void *userdata;
} Walk;

static int walk_visit(const Walk *walk, const KvNode *node) {
        if (walk->range.mixed && !kv_path_is_below(node->key, walk->range.path))
                return 1;
        if (!walk->recursive && !tree_path_is_child(node->key, walk->range.path))
                return 1;
        if (walk->after.size > 0 && tree_compare_paths(node, &(KvNode) { .key = walk->after }) <= 0)
                return 1;
        return walk->visit(walk->userdata, node);
}

/* Long keys with one beginning lie in the order of their hashes: they are collected, and visited in that of their paths.
 * Returns as walk_visit(); the cursor then stands on what follows, *at tells as range_next(). */
static int walk_long(const Walk *walk, MDB_val *key, MDB_val *data, int *at) {
        _cleanup_free_ KvNode *nodes = NULL;
        size_t n = 0, capacity = 0;
        uint8_t beginning[TREE_KEY_CUT];
        int r = 1;

        memcpy(beginning, key->mv_data, TREE_KEY_CUT);
        do {
                if (GROW(nodes, capacity, n + 1) < 0)
                        return -ENOMEM;
                r = tree_node_decode(data->mv_data, data->mv_size, &nodes[n++]);
                if (r < 0)
                        return r;
                *at = range_next(&walk->range, walk->cursor, key, data);
        } while (*at == 0 && key->mv_size == TREE_KEY_LONG && memcmp(key->mv_data, beginning, TREE_KEY_CUT) == 0);

        qsort(nodes, n, sizeof(*nodes), tree_compare_paths);
        r = 1;
        for (size_t i = 0; r > 0 && i < n; i++)
                r = walk_visit(walk, &nodes[i]);
        return r;
}

/* To the next node that is not below the one under the cursor. */
static int walk_skip_below(const Walk *walk, MDB_val *key, MDB_val *data) {
        uint8_t behind[TREE_KEY_CUT + 1];
        int r;

        memcpy(behind, key->mv_data, key->mv_size);
        behind[key->mv_size] = 1;
        *key = (MDB_val) { key->mv_size + 1, behind };
        r = tree_error(mdb_cursor_get(walk->cursor, key, data, MDB_SET_RANGE));
        if (r < 0)
                return r == -ENOENT ? 1 : r;
        return tree_range_holds(&walk->range, key->mv_data, key->mv_size) ? 0 : 1;
}

/* The first node of the walk that is behind 'after'; tells as range_first(). */
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
                bytes[size++] = 1; /* behind all that is below it */
        }

        *key = (MDB_val) { size, bytes };
        r = tree_error(mdb_cursor_get(walk->cursor, key, data, MDB_SET_RANGE));
        if (r < 0)
                return r == -ENOENT ? 1 : r;
        if (key->mv_size == size && memcmp(key->mv_data, bytes, size) == 0)
                return range_next(&walk->range, walk->cursor, key, data);
        return tree_range_holds(&walk->range, key->mv_data, key->mv_size) ? 0 : 1;
}

static int walk_run(Walk *walk, KvBytes after) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        MDB_val key, data;
        int at, r;

        r = tree_error(mdb_cursor_open(walk->txn->txn, walk->txn->tree->nodes, &cursor));
        if (r < 0)
                return r;
        walk->cursor = cursor;

        at = walk_first(walk, after, &key, &data);
        while (at == 0) {
                KvNode node;

                if (key.mv_size == TREE_KEY_LONG) {
                        r = walk_long(walk, &key, &data, &at);
                        if (r <= 0)
                                return r;
                        continue;
                }
                r = tree_node_decode(data.mv_data, data.mv_size, &node);
                if (r == 0)
                        r = walk_visit(walk, &node);
                if (r <= 0)
                        return r;
                if (!walk->recursive && node.dir && key.mv_size < TREE_KEY_CUT)
                        at = walk_skip_below(walk, &key, &data);
                else
                        at = range_next(&walk->range, cursor, &key, &data);
        }
        return at < 0 ? at : 0;
}

int tree_walk(TreeTxn *txn, KvBytes path, bool recursive, int (*visit)(void *userdata, const KvNode *node),
              void *userdata) {
        Walk walk = {
                .txn = txn, .range = tree_range_below(path), .recursive = recursive, .visit = visit, .userdata = userdata,
        };

        return walk_run(&walk, (KvBytes) {});
}

int tree_walk_from(TreeTxn *txn, KvBytes path, KvBytes after, bool recursive, int (*visit)(void *userdata, const KvNode *node), void *userdata) {
        Walk walk = { .txn = txn, .range = tree_range_below(path), .recursive = recursive, .visit = visit, .userdata = userdata };

        return walk_run(&walk, after);
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
        if (tree_get_big_endian(key.mv_data) > due_ms)
                return -ENOENT;

        r = tree_error(mdb_get(txn->txn, txn->tree->nodes, &at, &data));
        return r == -ENOENT ? -EUCLEAN : r < 0 ? r : tree_node_decode(data.mv_data, data.mv_size, ret);
}

/* -- Events -- */

static int drop_oldest_event(TreeTxn *txn, MDB_cursor *cursor, unsigned window) {
        TreeWindow *w = &txn->meta.windows[window];
        uint8_t bytes[TREE_EVENT_KEY] = { window };
        MDB_val key = { sizeof(bytes), bytes }, data;
        uint64_t weight;
        Reader r;
        int k;

        k = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE));
        if (k < 0)
                return k == -ENOENT ? -EUCLEAN : k;
        if (key.mv_size != TREE_EVENT_KEY || *(const uint8_t *) key.mv_data != window)
                return -EUCLEAN;
        r = reader_over(data.mv_data, data.mv_size);
        w->oldest = tree_get_big_endian((const uint8_t *) key.mv_data + 1) + 1;
        weight = read_u64(&r);
        w->bytes -= MIN(w->bytes, weight);
        txn->meta.sum -= tree_event_hash(key.mv_data, key.mv_size, data.mv_data, data.mv_size);
        w->n--;
        return tree_error(mdb_cursor_del(cursor, 0));
}

int tree_add_event(TreeTxn *txn, unsigned window, uint64_t index, KvBytes event, uint64_t weight) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        TreeWindow *w = &txn->meta.windows[window];
        Writer *scratch = &txn->tree->scratch;
        uint8_t bytes[TREE_EVENT_KEY] = { window };
        MDB_val key = { sizeof(bytes), bytes }, data;
        int r;

        assert(txn->write && window < _TREE_WINDOW_MAX);
        scratch->size = 0, scratch->error = 0;
        write_u64(scratch, weight);
        write_raw(scratch, event.data, event.size);
        if (scratch->error < 0)
                return scratch->error;
        tree_put_big_endian(bytes + 1, index);
        data = (MDB_val) { scratch->size, scratch->bytes };

        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor));
        if (r == 0)
                r = tree_error(mdb_cursor_put(cursor, &key, &data, 0));
        if (r < 0)
                return r;
        w->n++;
        w->bytes += weight;
        txn->meta.sum += tree_event_hash(bytes, sizeof(bytes), scratch->bytes, scratch->size);
        txn->meta_changed = true;
        while (r == 0 && (w->n > TREE_WINDOW_EVENTS || (w->bytes > TREE_WINDOW_BYTES && w->n > 1)))
                r = drop_oldest_event(txn, cursor, window);
        return r;
}

int tree_events(TreeTxn *txn, unsigned window, int (*visit)(void *userdata, uint64_t index, KvBytes event),
                void *userdata) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[TREE_EVENT_KEY] = { window };
        MDB_val key = { sizeof(bytes), bytes }, data;
        int r;

        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor));
        if (r < 0)
                return r;
        for (r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE)); r == 0;
             r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_NEXT))) {
                if (key.mv_size != TREE_EVENT_KEY || data.mv_size < 8)
                        return -EUCLEAN;
                if (*(const uint8_t *) key.mv_data != window)
                        return 0;
                r = visit(userdata, tree_get_big_endian((const uint8_t *) key.mv_data + 1),
                          (KvBytes) { (const uint8_t *) data.mv_data + 8, data.mv_size - 8 });
                if (r <= 0)
                        return r;
        }
        return r == -ENOENT ? 0 : r;
}

int tree_forget_events(TreeTxn *txn, uint64_t oldest) {
        _cleanup_(cursor_closep) MDB_cursor *cursor = NULL;
        int r;

        assert(txn->write);
        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor));
        for (unsigned i = 0; r == 0 && i < _TREE_WINDOW_MAX; i++) {
                while (r == 0 && txn->meta.windows[i].n > 0)
                        r = drop_oldest_event(txn, cursor, i);
                txn->meta.windows[i] = (TreeWindow) { .oldest = oldest };
        }
        txn->meta_changed = true;
        return r;
}
