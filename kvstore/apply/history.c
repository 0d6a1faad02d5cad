#include "kvstore/apply/history.h"

#include "base/table.h"

/* A row: first_ms varint, last_ms after first_ms varint, count varint, body: the rest.
 *
 * A fold is the store index of the row that has a body, by the hash of the body. When there are too many, the
 * oldest rows lose theirs, and are closed. */

enum { CLOSE_STEPS = 2 }; /* rows that are closed with each new one; more than are added */

void history_row_encode(const KvHistoryRow *row, Writer *w) {
        write_varint(w, row->first_ms);
        write_varint(w, row->last_ms - row->first_ms);
        write_varint(w, row->count);
        write_raw(w, row->body.data, row->body.size);
}

int history_row_decode(uint64_t index, KvBytes record, KvHistoryRow *ret) {
        Reader r = reader_over(record.data, record.size);
        KvHistoryRow row = { .index = index, .first_ms = read_varint(&r) };
        uint64_t lasted_ms = read_varint(&r);

        row.count = read_varint(&r);
        if (r.failed || lasted_ms > UINT64_MAX - row.first_ms || row.count == 0 || r.left == 0 ||
            r.left > KV_NOTE_MAX)
                return -EUCLEAN;
        row.last_ms = row.first_ms + lasted_ms;
        row.body = (KvBytes) { r.bytes, r.left };
        *ret = row;
        return 0;
}

static uint64_t history_hash(KvBytes body) {
        return XXH3_64bits(body.data, body.size);
}

/* Return the index of the row that the fold of a hash names. -ENOENT. */
static int history_fold(TreeTxn *txn, uint64_t hash, uint64_t *ret_index) {
        KvBytes record;
        Reader r;

        TRY(tree_history_get(txn, TREE_FOLDS, hash, &record));
        r = reader_over(record.data, record.size);
        *ret_index = read_u64(&r);
        return reader_end(&r) < 0 ? -EUCLEAN : 0;
}

/* Return the row that a note repeats. -ENOENT. */
static int history_find(TreeTxn *txn, const KvNote *note, uint64_t hash, KvHistoryRow *ret) {
        uint64_t index, apart_ms;
        KvBytes record;
        int r;

        TRY(history_fold(txn, hash, &index));
        r = tree_history_get(txn, TREE_ROWS, index, &record);
        if (r < 0)
                return r == -ENOENT ? -EUCLEAN : r;
        TRY(history_row_decode(index, record, ret));
        apart_ms = MAX(note->wall_ms, ret->first_ms) - MIN(note->wall_ms, ret->first_ms);
        return apart_ms < HISTORY_FOLD_MS && kv_bytes_equal(ret->body, note->body) ? 0 : -ENOENT;
}

static int history_put(TreeTxn *txn, const KvHistoryRow *row, uint64_t hash) {
        _cleanup_writer_ Writer record = {}, fold = {};
        int r;

        history_row_encode(row, &record);
        write_u64(&fold, row->index);
        if (record.error < 0 || fold.error < 0)
                return -ENOMEM;
        r = tree_history_put(txn, TREE_ROWS, row->index, (KvBytes) { record.bytes, record.size });
        return r < 0 ? r : tree_history_put(txn, TREE_FOLDS, hash, (KvBytes) { fold.bytes, fold.size });
}

/* Return 1 and the hash of the row's body if the fold of the body names this row, and no later one. */
static int history_has_fold(TreeTxn *txn, uint64_t index, KvBytes record, uint64_t *ret_hash) {
        KvHistoryRow row;
        uint64_t folded;
        int r;

        TRY(history_row_decode(index, record, &row));
        *ret_hash = history_hash(row.body);
        r = history_fold(txn, *ret_hash, &folded);
        if (r == -ENOENT)
                return 0;
        return r < 0 ? r : folded == index;
}

static int history_drop_oldest(TreeTxn *txn) {
        uint64_t index, hash;
        KvBytes record;
        int r;

        r = tree_row_from(txn, 0, &index, &record);
        if (r < 0)
                return r == -ENOENT ? -EUCLEAN : r;
        r = history_has_fold(txn, index, record, &hash);
        if (r > 0)
                r = tree_history_delete(txn, TREE_FOLDS, hash);
        return r < 0 ? r : tree_history_delete(txn, TREE_ROWS, index);
}

/* Close the first row that is not: it has no fold, or there are too many. Return 0 if it keeps its fold. */
static int history_close(TreeTxn *txn, const TreeHistory *h) {
        uint64_t index, hash;
        KvBytes record;
        int r;

        r = tree_row_from(txn, h->unfolded, &index, &record);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        r = history_has_fold(txn, index, record, &hash);
        if (r > 0 && h->n_folds <= HISTORY_FOLDS_MAX)
                return 0;
        if (r > 0)
                r = tree_history_delete(txn, TREE_FOLDS, hash);
        if (r >= 0)
                r = tree_close_row(txn, index);
        return r < 0 ? r : 1;
}

static int history_trim(TreeTxn *txn) {
        TreeMeta meta;
        int r;

        for (unsigned i = 0; i < CLOSE_STEPS; i++) {
                r = tree_meta(txn, &meta);
                if (r == 0)
                        r = history_close(txn, &meta.history);
                if (r < 0)
                        return r;
                if (r == 0)
                        break;
        }
        for (;;) {
                r = tree_meta(txn, &meta);
                if (r < 0 || (meta.history.n <= HISTORY_ROWS_MAX && meta.history.bytes <= HISTORY_BYTES_MAX))
                        return r;
                r = TRY(history_drop_oldest(txn));
        }
}

int history_add(TreeTxn *txn, uint64_t index, const KvNote *note) {
        KvHistoryRow row = { index, note->wall_ms, note->wall_ms, 1, note->body }, before;
        uint64_t hash = history_hash(note->body);
        int r;

        r = history_find(txn, note, hash, &before);
        if (r == 0) {
                row.first_ms = before.first_ms;
                row.last_ms = MAX(before.last_ms, note->wall_ms);
                row.count = before.count + 1;
                r = tree_history_delete(txn, TREE_ROWS, before.index);
        }
        if (r < 0 && r != -ENOENT)
                return r;
        r = history_put(txn, &row, hash);
        return r < 0 ? r : history_trim(txn);
}
