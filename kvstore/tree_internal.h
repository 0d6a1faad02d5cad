/* What the files of the tree know of each other. */
#pragma once

#include "base/bytes.h"
#include "kvstore/tree.h"

struct MDB_cursor;
struct MDB_env;
struct MDB_txn;

struct Tree {
        struct MDB_env *env;
        unsigned nodes, expiry, events, results, meta;
        TreeTxn *spare;  /* a read transaction that waits to be renewed */
        Writer scratch;  /* the record being written */
        unsigned n_txns;
};

struct TreeTxn {
        Tree *tree;
        TreeTxn *outer;
        struct MDB_txn *txn;
        bool write;
        size_t seen;     /* LMDB's number of the state that a reading one sees */
        bool meta_read, meta_changed, summed;
        TreeMeta meta;
};

/* The sum of all records' hashes, by reading them. */
int tree_sum(TreeTxn *txn, uint64_t *ret);

int tree_error(int rc); /* LMDB's code as a negative errno; -EUCLEAN: what is stored makes no sense */
void tree_cursor_closep(struct MDB_cursor **cursor);
