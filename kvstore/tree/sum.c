/* The sum of the hashes of all records, which each change updates. */
#include "kvstore/tree/tree_internal.h"

#include <lmdb.h>

#include "kvstore/tree/format.h"

static int sum_node(void *userdata, const KvNode *node) {
        *(uint64_t *) userdata += tree_node_hash(node);
        return 1;
}

static int sum_records(TreeTxn *txn, unsigned table, uint64_t *sum) {
        MDB_cursor *cursor;
        MDB_val key, data;
        int r;

        if (table == 0)
                return 0;
        r = TRY(tree_error(mdb_cursor_open(txn->txn, table, &cursor)));
        while ((r = tree_error(mdb_cursor_get(cursor, &key, &data, MDB_NEXT))) == 0)
                *sum += tree_event_hash(key.mv_data, key.mv_size, data.mv_data, data.mv_size);
        mdb_cursor_close(cursor);
        return r == -ENOENT ? 0 : r;
}

/* Add the tables without nodes. */
int tree_sum_other_tables(TreeTxn *txn, uint64_t *sum) {
        int r = sum_records(txn, txn->tree->events, sum);

        return r < 0 ? r : sum_records(txn, txn->tree->results, sum);
}

int tree_sum(TreeTxn *txn, uint64_t *ret) {
        uint64_t sum = 0;

        TRY(tree_walk(txn, kv_string("/"), true, sum_node, &sum));
        TRY(tree_sum_other_tables(txn, &sum));
        *ret = sum;
        return 0;
}
