/* The history in the tree: rows of what happened, with the body that the proposer of a write attached
 * (KvNote).
 *
 * The same body within an hour of the first occurrence of its row raises the count of that row, and moves the
 * row to the end. The oldest rows go first. Everything follows from the tree and the note, so all replicas
 * have equal rows. */
#pragma once

#include "base/bytes.h"
#include "kvstore/tree/tree.h"

enum {
        HISTORY_ROWS_MAX = 100000,
        HISTORY_BYTES_MAX = 16 * 1024 * 1024, /* weight of rows and folds, with what LMDB adds */
        HISTORY_FOLD_MS = 60 * 60 * 1000,
        HISTORY_FOLDS_MAX = 8192, /* rows whose repetition is found: the newest ones */
};

/* Add a row at 'index', the store's index of the write. -EUCLEAN: the tables are corrupt. */
int history_add(TreeTxn *txn, uint64_t index, const KvNote *note);

/* Encode and decode a row without its index. A decoded row borrows. -EUCLEAN. */
void history_row_encode(const KvHistoryRow *row, Writer *w);
int history_row_decode(uint64_t index, KvBytes record, KvHistoryRow *ret);
