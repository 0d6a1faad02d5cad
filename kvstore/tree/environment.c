#include "kvstore/tree/tree_internal.h"

#include <lmdb.h>

#include "base/file.h"
#include "kvstore/tree/format.h"

enum { MAP_FACTOR = 64 };

static const uint64_t QUOTA_DEFAULT = 256 * 1024 * 1024;
static const uint64_t QUOTA_MIN =
        2 * 1024 * 1024; /* 64 times this has space for event windows, cached results and history */
static const uint64_t MAP_MAX =
        1ull << 44; /* of 2^47 bytes of address space; reached by a quota of 256 GiB */

static uint64_t map_size(uint64_t quota) {
        return MIN(MAX(quota, QUOTA_MIN), MAP_MAX / MAP_FACTOR) * MAP_FACTOR;
}

/* -- The environment -- */

static int tree_open_tables(Tree *tree, bool read_only) {
        const struct {
                const char *name;
                unsigned flags, *ret;
        } tables[] = {
                { "nodes", 0, &tree->nodes },   { "expiry", MDB_DUPSORT, &tree->expiry },
                { "events", 0, &tree->events }, { "results", 0, &tree->results },
                { "meta", 0, &tree->meta },
        };
        unsigned make = read_only ? 0 : MDB_CREATE;
        MDB_txn *txn;
        int rc;

        rc = mdb_txn_begin(tree->env, NULL, read_only ? MDB_RDONLY : 0, &txn);
        if (rc != 0)
                return tree_error(rc);
        for (size_t i = 0; rc == 0 && i < ELEMENTS(tables); i++) {
                rc = mdb_dbi_open(txn, tables[i].name, make | tables[i].flags, tables[i].ret);
                if (rc == MDB_NOTFOUND && read_only && tables[i].ret == &tree->results)
                        rc = tree->results = 0; /* a checkpoint of an older version */
        }
        if (rc != 0) {
                mdb_txn_abort(txn);
                return rc == MDB_NOTFOUND ? -EUCLEAN : tree_error(rc);
        }
        return tree_error(mdb_txn_commit(txn));
}

/* Add the sum to a tree of a version without it. */
static int tree_begin_sum(Tree *tree) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;

        TRY(tree_begin_write(tree, &txn));
        TRY(tree_sum(txn, &txn->meta.sum));
        txn->meta_changed = true;
        return tree_commit(TAKE_PTR(txn));
}

static int tree_check_version(Tree *tree, bool read_only, uint64_t *ret_quota) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta = {};

        TRY(tree_begin_read(tree, &txn));
        TRY(tree_meta(txn, &meta));
        *ret_quota = meta.quota;
        return txn->summed || read_only ? 0 : tree_begin_sum(tree);
}

/* Open an existing or new environment in 'path', and its tables. */
static int tree_open_environment(Tree *tree, const char *path, const TreeOptions *options) {
        unsigned flags = MDB_NOSYNC | MDB_NOTLS | (options->read_only ? MDB_RDONLY | MDB_NOLOCK : 0);
        uint64_t quota = 0;
        int r, dead;

        /* The map is address space, not memory or disk. It is never resized while the tree is in use: that
         * would require all readers to stop. */
        tree->map_size = map_size(options->quota > 0 ? options->quota : QUOTA_DEFAULT);
        mdb_env_set_mapsize(tree->env, tree->map_size);
        mdb_env_set_maxdbs(tree->env, 5);
        mdb_env_set_maxreaders(tree->env, 32);

        /* Not MDB_WRITEMAP: with it, a full disk causes SIGBUS; without it, an error of the commit. */
        r = tree_error(mdb_env_open(tree->env, path, flags, 0600));
        if (r == -EBADF && options->read_only)
                return -EUCLEAN; /* the file is empty: LMDB would initialize it */
        if (r < 0)
                return r;
        (void) mdb_reader_check(tree->env, &dead);

        TRY(tree_open_tables(tree, options->read_only));
        r = tree_check_version(tree, options->read_only, &quota);
        if (r < 0 || map_size(quota) <= tree->map_size)
                return r;
        /* Grow the map to the quota of the leader's entries, which may exceed the host's setting. */
        tree->map_size = map_size(quota);
        return tree_error(mdb_env_set_mapsize(tree->env, tree->map_size));
}

int tree_open(const char *path, const TreeOptions *options, Tree **ret, Error *err) {
        _cleanup_(tree_closep) Tree *tree = NULL;
        int r;

        tree = NEW0(Tree, 1);
        if (!tree)
                return -ENOMEM;
        tree->cancelled = options->cancelled;
        if (!options->read_only) {
                _cleanup_close_ int fd = open_dir(path, 0700);

                if (fd < 0)
                        return error_set(err, fd, "Failed to create %s: %s", path, strerror(-fd));
        }

        r = tree_error(mdb_env_create(&tree->env));
        if (r < 0)
                return error_set(err, r, "Failed to open the tree in %s: %s", path, strerror(-r));
        r = tree_open_environment(tree, path, options);
        if (r == -ENOTSUP)
                return error_set(err, r, "the tree in %s was written by a newer fleetd; upgrade this host",
                                 path);
        if (r == -EUCLEAN)
                return error_set(err, r, "the tree in %s is corrupt", path);
        if (r < 0)
                return error_set(err, r, "Failed to open the tree in %s: %s", path, strerror(-r));

        *ret = TAKE_PTR(tree);
        return 0;
}

Tree *tree_close(Tree *tree) {
        if (!tree)
                return NULL;

        tree_readers_end(tree);
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

void tree_set_work(Tree *tree, TurnWork *work) {
        tree->work = work;
}

int tree_used_size(TreeTxn *txn, uint64_t *ret) {
        const unsigned tables[] = { txn->tree->nodes, txn->tree->expiry, txn->tree->events,
                                    txn->tree->results, txn->tree->meta };
        uint64_t size = 0;
        MDB_stat stat;

        for (size_t i = 0; i < ELEMENTS(tables); i++) {
                if (tables[i] == 0) /* a checkpoint of an older version */
                        continue;
                TRY(tree_error(mdb_stat(txn->txn, tables[i], &stat)));
                size += stat.ms_psize * (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages);
        }
        *ret = size;
        return 0;
}

/* -- Transactions -- */

static int txn_read_meta(TreeTxn *txn) {
        MDB_val key = { 4, (void *) "meta" }, data;
        int r;

        if (txn->meta_read)
                return 0;
        r = tree_error(mdb_get(txn->txn, txn->tree->meta, &key, &data));
        if (r == -ENOENT) {
                txn->meta = (TreeMeta) {};
                txn->summed = true;
        } else if (r < 0)
                return r;
        else {
                TRY(tree_meta_decode(data.mv_data, data.mv_size, &txn->meta, &txn->summed));
        }
        txn->meta_read = true;
        return 0;
}

static int txn_write_meta(TreeTxn *txn) {
        Writer *w = &txn->tree->scratch;
        MDB_val key = { 4, (void *) "meta" }, data;

        tree_meta_encode(&txn->meta, w);
        if (w->error < 0)
                return w->error;
        data = (MDB_val) { w->size, w->bytes };
        return tree_error(mdb_put(txn->txn, txn->tree->meta, &key, &data, 0));
}

static int txn_begin(Tree *tree, MDB_txn *outer, unsigned flags, TreeTxn **ret) {
        _cleanup_free_ TreeTxn *txn = NEW0(TreeTxn, 1);

        if (!txn)
                return -ENOMEM;
        TRY(tree_error(mdb_txn_begin(tree->env, outer, flags, &txn->txn)));
        txn->tree = tree;
        txn->work = tree->work;
        txn->seen = mdb_txn_id(txn->txn);
        txn->write = !(flags & MDB_RDONLY);
        tree->n_txns++;
        *ret = TAKE_PTR(txn);
        return 0;
}

int tree_begin_read(Tree *tree, TreeTxn **ret) {
        size_t seen;

        /* A renewed transaction keeps the meta that it has read, if the state has not changed. */
        if (!tree->spare)
                return txn_begin(tree, NULL, MDB_RDONLY, ret);

        seen = tree->spare->seen;
        TRY(tree_error(mdb_txn_renew(tree->spare->txn)));
        tree->n_txns++;
        *ret = TAKE_PTR(tree->spare);
        (*ret)->work = tree->work;
        (*ret)->n_visited = (*ret)->n_visits_max = 0;
        (*ret)->seen = mdb_txn_id((*ret)->txn);
        if ((*ret)->seen != seen)
                (*ret)->meta_read = false;
        return 0;
}

int tree_begin_write(Tree *tree, TreeTxn **ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;

        TRY(txn_begin(tree, NULL, 0, &txn));
        TRY(txn_read_meta(txn));
        *ret = TAKE_PTR(txn);
        return 0;
}

int tree_begin_nested(TreeTxn *outer, TreeTxn **ret) {
        TRY(txn_begin(outer->tree, outer->txn, 0, ret));
        (*ret)->outer = outer;
        (*ret)->meta = outer->meta;
        (*ret)->meta_read = true;
        (*ret)->summed = outer->summed;
        return 0;
}

uint64_t tree_touched(const TreeTxn *txn) {
        return txn->touched;
}

static void txn_end(TreeTxn *txn) {
        txn->tree->n_txns--;
        free(txn);
}

void tree_abort(TreeTxn *txn) {
        Tree *tree;

        if (!txn)
                return;
        if (txn->reader) {
                tree_reader_end(txn);
                return;
        }

        tree = txn->tree;
        if (!txn->write && !tree->spare) {
                mdb_txn_reset(txn->txn);
                tree->spare = txn;
                tree->n_txns--;
                return;
        }
        mdb_txn_abort(txn->txn);
        txn_end(txn);
}

int tree_commit(TreeTxn *txn) {
        int r = 0;

        if (!txn->write) {
                tree_abort(txn);
                return 0;
        }
        if (txn->meta_changed && !txn->outer)
                r = txn_write_meta(txn);
        if (r < 0) {
                tree_abort(txn);
                return r;
        }
        r = tree_error(mdb_txn_commit(txn->txn));
        if (r >= 0 && txn->outer) {
                txn->outer->touched += txn->touched;
                txn->outer->meta = txn->meta;
                txn->outer->meta_changed |= txn->meta_changed;
        }
        txn_end(txn);
        return r;
}

void tree_limit_walks(TreeTxn *txn, uint64_t n_visits) {
        txn->n_visited = 0;
        txn->n_visits_max = n_visits;
}

int tree_meta(TreeTxn *txn, TreeMeta *ret) {
        TRY(txn_read_meta(txn));
        *ret = txn->meta;
        return 0;
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
        txn->meta.history = old.history;
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
