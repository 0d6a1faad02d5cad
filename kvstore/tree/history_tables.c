/* The tables of the history: parts of the table of events, so that sum, copy and check cover them.
 *
 * A row that has a fold may be repeated, and move to the end. New rows have the last keys of the table, and
 * are appended, so that pages are full; moves leave gaps. Closed rows are in the part before: they are
 * appended to it in order, and only the first one is ever removed. So their pages stay full. */
#include "kvstore/tree/tree_internal.h"

#include <lmdb.h>

#include "kvstore/tree/format.h"

enum { CLOSED = TREE_ROWS, OPEN };

static_assert((int) _TREE_WINDOW_MAX <= (int) TREE_FOLDS, "these numbers are on disk");

/* The meta of the transaction has been read. */
static MDB_val history_key(const TreeTxn *txn, TreeHistoryTable table, uint64_t key,
                           uint8_t bytes[static TREE_EVENT_KEY]) {
        bytes[0] = table == TREE_ROWS && key >= txn->meta.history.unfolded ? OPEN : table;
        tree_put_big_endian(bytes + 1, key);
        return (MDB_val) { TREE_EVENT_KEY, bytes };
}

static uint64_t history_weight(KvBytes record) {
        return TREE_EVENT_KEY + record.size + TREE_HISTORY_WEIGHT;
}

static void history_count(TreeTxn *txn, TreeHistoryTable table, MDB_val key, KvBytes record, bool added) {
        TreeHistory *history = &txn->meta.history;
        uint64_t hash = tree_event_hash(key.mv_data, key.mv_size, record.data, record.size);

        *(table == TREE_ROWS ? &history->n : &history->n_folds) += added ? 1 : -1;
        history->bytes += added ? history_weight(record) : -history_weight(record);
        txn->meta.sum += added ? hash : -hash;
        txn->meta_changed = true;
        tree_touch(txn, added ? record.size : 0);
}

int tree_history_get(TreeTxn *txn, TreeHistoryTable table, uint64_t key, KvBytes *ret) {
        uint8_t bytes[TREE_EVENT_KEY];
        MDB_val at = history_key(txn, table, key, bytes), data;

        TRY(tree_error(mdb_get(txn->txn, txn->tree->events, &at, &data)));
        *ret = (KvBytes) { data.mv_data, data.mv_size };
        return 0;
}

int tree_history_delete(TreeTxn *txn, TreeHistoryTable table, uint64_t key) {
        uint8_t bytes[TREE_EVENT_KEY];
        MDB_val at = history_key(txn, table, key, bytes);
        KvBytes record;

        assert(txn->write);
        TRY(tree_history_get(txn, table, key, &record));
        history_count(txn, table, at, record, false);
        return tree_error(mdb_del(txn->txn, txn->tree->events, &at, NULL));
}

int tree_history_put(TreeTxn *txn, TreeHistoryTable table, uint64_t key, KvBytes record) {
        uint8_t bytes[TREE_EVENT_KEY];
        MDB_val at = history_key(txn, table, key, bytes), data = { record.size, (void *) record.data };
        KvBytes old;
        int r;

        assert(txn->write);
        r = table == TREE_FOLDS ? tree_history_get(txn, table, key, &old) : -ENOENT;
        if (r < 0 && r != -ENOENT)
                return r;
        if (r == 0)
                history_count(txn, table, at, old, false);
        r = tree_error(mdb_put(txn->txn, txn->tree->events, &at, &data, bytes[0] == OPEN ? MDB_APPEND : 0));
        if (r < 0)
                return r == -EEXIST ? -EUCLEAN : r;
        history_count(txn, table, at, record, true);
        return 0;
}

int tree_close_row(TreeTxn *txn, uint64_t index) {
        Writer *copy = &txn->tree->scratch;
        KvBytes row;

        TRY(tree_history_get(txn, TREE_ROWS, index, &row));
        copy->size = 0, copy->error = 0;
        write_raw(copy, row.data, row.size);
        if (copy->error < 0)
                return copy->error;
        TRY(tree_history_delete(txn, TREE_ROWS, index));
        txn->meta.history.unfolded = index + 1;
        return tree_history_put(txn, TREE_ROWS, index, (KvBytes) { copy->bytes, copy->size });
}

/* Read the record at the cursor: 1, or 0 outside of the rows. */
static int row_read(MDB_val key, MDB_val data, uint64_t *ret_index, KvBytes *ret) {
        if (key.mv_size != TREE_EVENT_KEY)
                return -EUCLEAN;
        if (*(const uint8_t *) key.mv_data < CLOSED)
                return 0;
        *ret_index = tree_get_big_endian((const uint8_t *) key.mv_data + 1);
        *ret = (KvBytes) { data.mv_data, data.mv_size };
        return 1;
}

/* Move to the last row below 'key', or of all. */
static int row_seek_before(MDB_cursor *cursor, bool all, MDB_val *key, MDB_val *data) {
        int r = all ? -ENOENT : tree_error(mdb_cursor_get(cursor, key, data, MDB_SET_RANGE));

        if (r < 0 && r != -ENOENT)
                return r;
        return tree_error(mdb_cursor_get(cursor, key, data, r == 0 ? MDB_PREV : MDB_LAST));
}

int tree_row_from(TreeTxn *txn, uint64_t index, uint64_t *ret_index, KvBytes *ret) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[TREE_EVENT_KEY];
        MDB_val key = history_key(txn, TREE_ROWS, index, bytes), data;
        int r;

        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor));
        if (r == 0)
                r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE));
        if (r < 0)
                return r;
        r = row_read(key, data, ret_index, ret);
        return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

int tree_rows(TreeTxn *txn, uint64_t after, bool backward,
              int (*visit)(void *userdata, uint64_t index, KvBytes row), void *userdata) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[TREE_EVENT_KEY];
        MDB_val key, data;
        uint64_t index;
        TreeMeta meta;
        KvBytes row;
        int r;

        if (!backward && after == UINT64_MAX)
                return 0;
        r = tree_meta(txn, &meta);
        if (r == 0)
                r = tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor));
        if (r < 0)
                return r;
        key = history_key(txn, TREE_ROWS, backward ? after : after + 1, bytes);
        r = backward ? row_seek_before(cursor, after == 0, &key, &data) :
                       tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE));
        for (; r == 0; r = tree_error(mdb_cursor_get(cursor, &key, &data, backward ? MDB_PREV : MDB_NEXT))) {
                r = row_read(key, data, &index, &row);
                if (r <= 0)
                        return r;
                TRY(tree_visited(txn, row.size));
                r = visit(userdata, index, row);
                if (r <= 0)
                        return r;
        }
        return r == -ENOENT ? 0 : r;
}

int tree_history_count(TreeTxn *txn, TreeHistory *ret) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[TREE_EVENT_KEY];
        MDB_val key = history_key(txn, TREE_FOLDS, 0, bytes), data;
        TreeHistory seen = {};
        int r;

        r = TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor)));
        for (r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_SET_RANGE)); r == 0;
             r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_NEXT))) {
                KvBytes record = { data.mv_data, data.mv_size };
                Reader fold = reader_over(record.data, record.size);
                KvBytes row;

                if (key.mv_size != TREE_EVENT_KEY)
                        return -EUCLEAN;
                seen.bytes += history_weight(record);
                if (*(const uint8_t *) key.mv_data != TREE_FOLDS) {
                        seen.n++;
                        continue;
                }
                seen.n_folds++;
                if (tree_history_get(txn, TREE_ROWS, read_u64(&fold), &row) < 0 || reader_end(&fold) < 0)
                        return -EUCLEAN;
        }
        if (r != -ENOENT)
                return r;
        *ret = seen;
        return 0;
}
