/* Shared by the files of the tree. No file of another folder includes this header. */
#pragma once

#include <sys/queue.h>

#include "base/bytes.h"
#include "kvstore/tree/tree.h"

struct MDB_cursor;
struct MDB_env;
struct MDB_txn;

struct Tree {
        struct MDB_env *env;
        unsigned nodes, expiry, events, results, meta;
        TreeTxn *spare; /* a read transaction for reuse */
        Writer scratch; /* buffer of the current record */
        unsigned n_txns;
        const _Atomic bool *cancelled; /* TreeOptions.cancelled */
        uint64_t map_size;
        TurnWork *work;                  /* borrowed; NULL: do not count */
        LIST_HEAD(, TreeReader) readers; /* in workers */
};

struct TreeTxn {
        Tree *tree;
        TreeTxn *outer;
        struct MDB_txn *txn;
        bool write;
        size_t seen; /* LMDB's number of the state that a read transaction uses */
        bool meta_read, meta_changed, summed;
        TreeMeta meta;
        uint64_t touched;                 /* tree_touched() */
        TurnWork *work;                   /* of the tree; NULL in a worker */
        TreeReader *reader;               /* owner; NULL: the loop */
        uint64_t n_visited, n_visits_max; /* by walks; 0: no limit */
};

/* Count a record of this number of bytes that was written or removed. */
void tree_touch(TreeTxn *txn, uint64_t size);

/* Count a node that was read or written, and the bytes of its record. */
static inline void tree_count(const TreeTxn *txn, size_t bytes) {
        if (!txn->work)
                return;
        txn->work->nodes++;
        txn->work->bytes += bytes;
}

/* Count a node that a walk has read. Return 0 to continue, or an error, also that of a stopped reader. */
int tree_visited(TreeTxn *txn, size_t bytes);

/* End the transaction of a reader. */
void tree_reader_end(TreeTxn *txn);
/* Stop all readers of a tree that closes, and wait until their transactions have ended. */
void tree_readers_end(Tree *tree);

/* Count rows and folds, and check that each fold has its row. -EUCLEAN. */
int tree_history_count(TreeTxn *txn, TreeHistory *ret);

/* Compute the sum of the hashes of all records. */
int tree_sum(TreeTxn *txn, uint64_t *ret);
int tree_sum_other_tables(TreeTxn *txn, uint64_t *sum); /* add the tables without nodes */

/* Return LMDB's code as a negative errno. -EUCLEAN: the file is corrupt. */
int tree_error(int rc);
void tree_cursor_closep(struct MDB_cursor **cursor);
