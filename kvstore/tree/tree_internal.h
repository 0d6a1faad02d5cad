/* What the files of the tree know of each other. */
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
        TreeTxn *spare; /* a read transaction that waits to be renewed */
        Writer scratch; /* the record being written */
        unsigned n_txns;
        const _Atomic bool *cancelled; /* the opener's; may be NULL */
        uint64_t map_size;
        TurnWork *work;                  /* borrowed; NULL: nobody counts */
        LIST_HEAD(, TreeReader) readers; /* in workers */
};

struct TreeTxn {
        Tree *tree;
        TreeTxn *outer;
        struct MDB_txn *txn;
        bool write;
        size_t seen; /* LMDB's number of the state that a reading one sees */
        bool meta_read, meta_changed, summed;
        TreeMeta meta;
        uint64_t touched;                 /* tree_touched() */
        TurnWork *work;                   /* the tree's; NULL in a worker */
        TreeReader *reader;               /* whose transaction it is; NULL: the loop's */
        uint64_t n_visited, n_visits_max; /* by walks; 0: as many as there are */
};

/* A record of so many bytes was written, or removed. */
void tree_touch(TreeTxn *txn, uint64_t size);

/* A node was read or written: its record has so many bytes. */
static inline void tree_count(const TreeTxn *txn, size_t bytes) {
        if (!txn->work)
                return;
        txn->work->nodes++;
        txn->work->bytes += bytes;
}

/* A walk has read a node. 0: it goes on; or an error, also that of a reader that was stopped. */
int tree_visited(TreeTxn *txn, size_t bytes);

/* Ends the transaction of a reader. */
void tree_reader_end(TreeTxn *txn);
/* The tree closes: all readers stop, and have ended their transactions when this returns. */
void tree_readers_end(Tree *tree);

/* The sum of all records' hashes, by reading them. */
int tree_sum(TreeTxn *txn, uint64_t *ret);

int tree_error(int rc); /* LMDB's code as a negative errno; -EUCLEAN: what is stored makes no sense */
void tree_cursor_closep(struct MDB_cursor **cursor);
