/* The deduplication table; kvstore/apply/dedup.c defines its records. */
#include "kvstore/tree/tree_internal.h"

#include <lmdb.h>

#include "kvstore/tree/format.h"

static MDB_val result_key(uint64_t origin, uint64_t slot, uint8_t bytes[static TREE_RESULT_KEY]) {
        tree_put_big_endian(bytes, origin);
        tree_put_big_endian(bytes + 8, slot);
        return (MDB_val) { TREE_RESULT_KEY, bytes };
}

static void result_count(TreeTxn *txn, MDB_val key, MDB_val data, bool added) {
        TreeResults *results = &txn->meta.results;
        uint64_t hash = tree_event_hash(key.mv_data, key.mv_size, data.mv_data, data.mv_size);

        results->n += added ? 1 : -1;
        results->bytes += added ? key.mv_size + data.mv_size : -(key.mv_size + data.mv_size);
        txn->meta.sum += added ? hash : -hash;
        txn->meta_changed = true;
        tree_touch(txn, added ? data.mv_size : 0);
}

int tree_result(TreeTxn *txn, uint64_t origin, uint64_t slot, KvBytes *ret) {
        uint8_t bytes[TREE_RESULT_KEY];
        MDB_val key = result_key(origin, slot, bytes), data;

        if (txn->tree->results == 0)
                return -ENOENT;
        TRY(tree_error(mdb_get(txn->txn, txn->tree->results, &key, &data)));
        *ret = (KvBytes) { data.mv_data, data.mv_size };
        return 0;
}

int tree_result_before(TreeTxn *txn, uint64_t origin, uint64_t slot, uint64_t *ret_slot, KvBytes *ret) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[TREE_RESULT_KEY];
        MDB_val key = result_key(origin, slot, bytes), data;
        int r;

        if (txn->tree->results == 0)
                return -ENOENT;
        TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->results, &cursor)));
        r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE));
        if (r < 0 && r != -ENOENT)
                return r;
        TRY(tree_error(mdb_cursor_get(cursor, &key, &data, r == 0 ? MDB_PREV : MDB_LAST)));
        if (key.mv_size != TREE_RESULT_KEY)
                return -EUCLEAN;
        if (tree_get_big_endian(key.mv_data) != origin)
                return -ENOENT;
        *ret_slot = tree_get_big_endian((const uint8_t *) key.mv_data + 8);
        *ret = (KvBytes) { data.mv_data, data.mv_size };
        return 0;
}

int tree_put_result(TreeTxn *txn, uint64_t origin, uint64_t slot, KvBytes record) {
        uint8_t bytes[TREE_RESULT_KEY];
        MDB_val key = result_key(origin, slot, bytes), data = { record.size, (void *) record.data }, old;
        int r;

        assert(txn->write && origin > 0 && slot < UINT64_MAX);
        r = tree_error(mdb_get(txn->txn, txn->tree->results, &key, &old));
        if (r == 0)
                result_count(txn, key, old, false);
        else if (r != -ENOENT)
                return r;
        TRY(tree_error(mdb_put(txn->txn, txn->tree->results, &key, &data, 0)));
        result_count(txn, key, (MDB_val) { record.size, (void *) record.data }, true);
        return 0;
}

int tree_results(TreeTxn *txn, uint64_t origin, int (*visit)(void *userdata, uint64_t slot, KvBytes record),
                 void *userdata) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[TREE_RESULT_KEY];
        MDB_val key = result_key(origin, 0, bytes), data;
        int r, k;

        if (txn->tree->results == 0)
                return 0;
        r = TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->results, &cursor)));
        for (r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE)); r == 0;
             r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_NEXT))) {
                if (key.mv_size != TREE_RESULT_KEY)
                        return -EUCLEAN;
                if (origin > 0 && tree_get_big_endian(key.mv_data) != origin)
                        return 0;
                k = visit(userdata, tree_get_big_endian((const uint8_t *) key.mv_data + 8),
                          (KvBytes) { data.mv_data, data.mv_size });
                if (k <= 0)
                        return k;
                if (k == TREE_DROP) {
                        assert(txn->write);
                        result_count(txn, key, data, false);
                        r = tree_error(
                                mdb_cursor_del(cursor, 0)); /* MDB_NEXT then returns the following record */
                        if (r < 0)
                                return r;
                }
        }
        return r == -ENOENT ? 0 : r;
}

void tree_set_results_swept(TreeTxn *txn, uint64_t cluster_ms) {
        assert(txn->write);
        txn->meta.results.swept_ms = cluster_ms;
        txn->meta_changed = true;
}
