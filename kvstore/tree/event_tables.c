/* The event windows. */
#include "kvstore/tree/tree_internal.h"

#include <lmdb.h>

#include "kvstore/tree/format.h"

static int window_drop_oldest(TreeTxn *txn, MDB_cursor *cursor, unsigned window) {
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
        tree_touch(txn, 0);
        return tree_error(mdb_cursor_del(cursor, 0));
}

int tree_add_event(TreeTxn *txn, unsigned window, uint64_t index, KvBytes event, uint64_t weight) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
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

        TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor)));
        r = TRY(tree_error(mdb_cursor_put(cursor, &key, &data, 0)));
        w->n++;
        w->bytes += weight;
        txn->meta.sum += tree_event_hash(bytes, sizeof(bytes), scratch->bytes, scratch->size);
        txn->meta_changed = true;
        tree_touch(txn, scratch->size);
        while (r == 0 && (w->n > TREE_WINDOW_EVENTS || (w->bytes > TREE_WINDOW_BYTES && w->n > 1)))
                r = window_drop_oldest(txn, cursor, window);
        return r;
}

int tree_events(TreeTxn *txn, unsigned window, int (*visit)(void *userdata, uint64_t index, KvBytes event),
                void *userdata) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        uint8_t bytes[TREE_EVENT_KEY] = { window };
        MDB_val key = { sizeof(bytes), bytes }, data;
        int r;

        r = TRY(tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor)));
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

int tree_clear_events(TreeTxn *txn, uint64_t oldest) {
        _cleanup_(tree_cursor_closep) MDB_cursor *cursor = NULL;
        int r;

        assert(txn->write);
        r = tree_error(mdb_cursor_open(txn->txn, txn->tree->events, &cursor));
        for (unsigned i = 0; r == 0 && i < _TREE_WINDOW_MAX; i++) {
                while (r == 0 && txn->meta.windows[i].n > 0)
                        r = window_drop_oldest(txn, cursor, i);
                txn->meta.windows[i] = (TreeWindow) { .oldest = oldest };
        }
        txn->meta_changed = true;
        return r;
}
