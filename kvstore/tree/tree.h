/* The tree in LMDB.
 *
 * Keys are paths whose separator is encoded below every other byte, so that a directory and all below it are
 * one contiguous range. An escaped path of more than 480 bytes is truncated, and 16 bytes of its hash follow;
 * the node contains the full path (two such paths with one hash cannot both be stored: -ENOTUNIQ). A second
 * table orders nodes by expiry. The meta makes the tree a Raft snapshot: applied index and term,
 * configuration and its index; it also contains the store's own index, cluster time, cluster id and lineage.
 *
 * Returned data is borrowed until the next write or the end of the transaction. */
#pragma once

#include "base/error.h"
#include "io/turn.h"
#include "kvstore/command/command.h"

typedef struct Tree Tree;
typedef struct TreeTxn TreeTxn;
typedef struct TreeReader TreeReader;

/* The most recent events of one kind of keys; persistent, and part of snapshots (kvstore/apply/events.h). */
typedef struct TreeWindow {
        uint64_t oldest; /* from this index on the window is complete; 0: always */
        uint64_t n, bytes;
} TreeWindow;

/* The deduplication table: cached results of commands (kvstore/apply/dedup.h). */
typedef struct TreeResults {
        uint64_t n, bytes; /* of the records, with their keys */
        uint64_t swept_ms; /* cluster time of the last removal of expired ones */
} TreeResults;

/* The history (kvstore/apply/history.h): rows, and folds, which find the row of a body. */
typedef struct TreeHistory {
        uint64_t n, bytes; /* rows; weight of rows and folds */
        uint64_t n_folds;
        uint64_t unfolded; /* rows below this index have no fold, and are closed */
} TreeHistory;

enum {
        TREE_WINDOW_USERS,
        TREE_WINDOW_OURS,
        _TREE_WINDOW_MAX,
        TREE_WINDOW_EVENTS = 1000,            /* of each window, as in etcd */
        TREE_WINDOW_BYTES = 16 * 1024 * 1024, /* ... or fewer, if they are large */
};

typedef struct TreeMeta {
        uint64_t applied, applied_term; /* Raft's, of the last entry applied */
        uint64_t configuration_index;   /* of the last RAFT_CHANGE applied */
        uint64_t index;                 /* the store's own counter */
        uint64_t cluster_ms;            /* cluster time of the last entry */
        uint64_t cluster_id, lineage;   /* 0 before the first entry */
        uint64_t quota; /* limit of the weight of users' nodes (apply.h), from the last leader's entries; 0:
                           default */
        /* The tree maintains the following members: */
        uint64_t n_nodes, n_bytes;         /* users' nodes and bytes of keys and values */
        uint64_t n_own_nodes, n_own_bytes; /* the same below /_fleet */
        TreeWindow windows[_TREE_WINDOW_MAX];
        TreeResults results;
        uint64_t level;       /* feature level (command.h); 0: the first */
        uint64_t quota_nodes; /* limit of the number of users' nodes, as 'quota'; 0: only their bytes limit it
                               */
        uint64_t sum;         /* sum of the hashes of all nodes and other records: tree_kept_hash() */
        TreeHistory history;  /* empty below KV_LEVEL_HISTORY */
} TreeMeta;

enum { TREE_CONFIGURATION_MAX = 16 * 1024 };

typedef struct TreeOptions {
        uint64_t quota; /* bytes of users' data; the map has 64 times this size (0: 256 MiB), or that of the
                         * tree's own quota if that is larger */
        bool read_only;
        /* When this becomes true, operations that read the whole tree end with -ECANCELED; borrowed. NULL:
         * never. */
        const _Atomic bool *cancelled;
} TreeOptions;

/* Open the environment in folder 'path', and create it if it does not exist. It runs without sync: the caller
 * decides whether to trust it after a restart. 'read_only', for a checkpoint that has no writer, creates
 * nothing and takes no lock. A process must not open a folder twice. Errors name the folder:
 *   -EUCLEAN   not a tree, or a corrupt one
 *   -ENOTSUP   written by a newer version */
int tree_open(const char *path, const TreeOptions *options, Tree **ret, Error *err);
/* Stop the readers in workers (-ECANCELED), wait for them, at most for one node, and close. NULL allowed;
 * returns NULL. */
Tree *tree_close(Tree *tree);
DEFINE_CLEANUP(Tree *, tree_close);
/* Count the nodes that transactions of the loop read or write in 'work' (borrowed) from now on; NULL: do not
 * count. */
void tree_set_work(Tree *tree, TurnWork *work);

/* Create the folder 'to', write a compacting copy into it, sync both (not the parent folder), and verify the
 * copy by tree_check(). Call it off the loop: it uses only a read transaction of its own. A failed copy is
 * removed. Errors:
 *   -EFBIG       the live file has doubled meanwhile, because the read transaction pins its pages
 *   -ECANCELED   TreeOptions.cancelled */
int tree_copy(Tree *tree, const char *to, TreeMeta *ret_meta, Error *err);

int tree_begin_read(Tree *tree, TreeTxn **ret);
int tree_begin_write(Tree *tree, TreeTxn **ret);
/* Begin a transaction inside a write transaction, for changes that may have to be rolled back. The outer one
 * must not be used meanwhile. */
int tree_begin_nested(TreeTxn *outer, TreeTxn **ret);
int tree_commit(TreeTxn *txn); /* ends the transaction in any case */
/* Return an upper bound of the bytes of changed pages, which LMDB keeps in memory until the commit. */
uint64_t tree_touched(const TreeTxn *txn);
void tree_abort(TreeTxn *txn); /* NULL allowed */
DEFINE_CLEANUP(TreeTxn *, tree_abort);
/* Let walks of this transaction fail with -E2BIG when they have read this number of nodes in total, visited
 * or not. 0: no limit. */
void tree_limit_walks(TreeTxn *txn, uint64_t n_visits);

/* -- Reading in a worker --
 *
 * The loop creates, stops and frees a reader. Meanwhile a worker begins its transaction, reads, and ends it
 * by tree_abort(). Walks fail when the reader is stopped, and with -EFBIG when the live file has doubled
 * since the beginning (files up to 64 MiB are exempt): a transaction pins the pages of its state. */
int tree_reader_new(Tree *tree, TreeReader **ret);
/* Call once, in the worker. Fails with the error of tree_reader_stop(). */
int tree_reader_begin(TreeReader *reader, TreeTxn **ret);
/* Let the read fail soon with 'error'; the first call counts. */
void tree_reader_stop(TreeReader *reader, int error);
/* Call after the end of the worker; the tree may be closed. NULL allowed; returns NULL. */
TreeReader *tree_reader_free(TreeReader *reader);

int tree_meta(TreeTxn *txn, TreeMeta *ret);
int tree_read_meta(Tree *tree, TreeMeta *ret);         /* in a transaction of its own */
int tree_set_meta(TreeTxn *txn, const TreeMeta *meta); /* except the members that the tree maintains */
/* Return the encoded Raft configuration; *ret is borrowed, and has size 0 if there is none. */
int tree_configuration(TreeTxn *txn, KvBytes *ret);
int tree_set_configuration(TreeTxn *txn, KvBytes configuration);

int tree_get(TreeTxn *txn, KvBytes path, KvNode *ret); /* -ENOENT; the root always exists, as a directory */
/* Insert or replace one node; update expiry and counts. */
int tree_put(TreeTxn *txn, const KvNode *node);
/* Delete one node, without those below it. -ENOENT. */
int tree_delete(TreeTxn *txn, KvBytes path);
/* Delete all nodes below 'path', without the node itself. */
int tree_delete_below(TreeTxn *txn, KvBytes path);

/* Visit all nodes below 'path' in key order (depth first, parents first). 'visit' returns > 0 to continue, 0
 * to stop, < 0 to fail; it must not write. 'recursive' false: only direct children, without reading the nodes
 * below them. */
int tree_walk(TreeTxn *txn, KvBytes path, bool recursive, KvVisit visit, void *userdata);
/* Visit the nodes of tree_walk() that follow 'after', for walks in several transactions. 'after' must be
 * below 'path'
 * (-EINVAL), and need not exist any more; empty: from the beginning. */
int tree_walk_from(TreeTxn *txn, KvBytes path, KvBytes after, bool recursive, KvVisit visit, void *userdata);
/* Visit the records of the key range that contains all nodes below 'path', in the order of keys: long keys
 * with the same prefix are in the order of their hashes. 'below' is false for a long key that only shares the
 * prefix. Does not sort. 'visit' returns as for tree_walk(). */
int tree_scan(TreeTxn *txn, KvBytes path, int (*visit)(void *userdata, const KvNode *node, bool below),
              void *userdata);

/* Return whether the key of 'path' is long: truncated and hashed. */
bool tree_is_long(KvBytes path);
/* Return whether the keys of two paths have the same first 480 bytes. */
bool tree_share_prefix(KvBytes a, KvBytes b);
/* Return a hash of the first 480 bytes of the key; 0: it has fewer. */
uint64_t tree_prefix_hash(KvBytes path);
/* Count the long keys with the prefix of 'path', its own included, up to 'max'. */
int tree_count_long(TreeTxn *txn, KvBytes path, uint64_t max, uint64_t *ret);

/* Return the node that expires first, at or before 'due_ms' (UINT64_MAX: no limit); -ENOENT. Equal times are
 * in the order of created index, then key. */
int tree_first_due(TreeTxn *txn, uint64_t due_ms, KvNode *ret);

/* Add an event to a window, and remove the oldest ones beyond the limits. 'weight' counts towards
 * TREE_WINDOW_BYTES. */
int tree_add_event(TreeTxn *txn, unsigned window, uint64_t index, KvBytes event, uint64_t weight);
/* Visit the events of a window in order. 'visit' returns as for tree_walk(). */
int tree_events(TreeTxn *txn, unsigned window, int (*visit)(void *userdata, uint64_t index, KvBytes event),
                void *userdata);

/* Remove all events; the windows are complete from 'oldest' on. The history stays. */
int tree_clear_events(TreeTxn *txn, uint64_t oldest);

/* Tables of the history: rows by store index, folds by the hash of a body. Records are borrowed as nodes are.
 * Rows that are deleted and inserted often leave gaps in pages, and are apart from closed rows. */
typedef enum TreeHistoryTable { TREE_FOLDS = 2, TREE_ROWS } TreeHistoryTable; /* after the windows */

int tree_history_get(TreeTxn *txn, TreeHistoryTable table, uint64_t key, KvBytes *ret); /* -ENOENT */
/* Insert a row, whose index is above all others, or insert or replace a fold. */
int tree_history_put(TreeTxn *txn, TreeHistoryTable table, uint64_t key, KvBytes record);
int tree_history_delete(TreeTxn *txn, TreeHistoryTable table, uint64_t key); /* -ENOENT */
/* Return the first row from this index on; -ENOENT. */
int tree_row_from(TreeTxn *txn, uint64_t index, uint64_t *ret_index, KvBytes *ret);
/* Close the first row that is not, which has no fold any more. -ENOENT. */
int tree_close_row(TreeTxn *txn, uint64_t index);
/* Visit the rows above 'after' in order, or with 'backward' those below 'after' (0: all), the last one first.
 * 'visit' returns as for tree_walk(). */
int tree_rows(TreeTxn *txn, uint64_t after, bool backward,
              int (*visit)(void *userdata, uint64_t index, KvBytes row), void *userdata);

/* Return a record of the deduplication table. Records are ordered by (origin, slot); an origin is not 0.
 * Borrowed as nodes are. -ENOENT. */
int tree_result(TreeTxn *txn, uint64_t origin, uint64_t slot, KvBytes *ret);
/* Return the last record below 'slot'. */
int tree_result_before(TreeTxn *txn, uint64_t origin, uint64_t slot, uint64_t *ret_slot, KvBytes *ret);
int tree_put_result(TreeTxn *txn, uint64_t origin, uint64_t slot, KvBytes record);
/* Visit the records of one origin, or of all (0). 'visit' returns as for tree_walk(), or TREE_DROP to remove
 * the record, in a write transaction. */
enum { TREE_DROP = 2 };
int tree_results(TreeTxn *txn, uint64_t origin, int (*visit)(void *userdata, uint64_t slot, KvBytes record),
                 void *userdata);
void tree_set_results_swept(TreeTxn *txn, uint64_t cluster_ms);

/* Return the hash of all nodes, events, rows and cached results, and of their meta: equal on replicas with
 * equal applied index. Reads the whole tree. */
int tree_hash(TreeTxn *txn, uint64_t *ret);
/* Return the same from the sum that each change updates, without reading nodes. If it differs from
 * tree_hash(), the tree is corrupt. */
int tree_kept_hash(TreeTxn *txn, uint64_t *ret);

/* Read the whole tree, and verify that each node decodes, that its directory exists, and that counts and sum
 * agree. -EUCLEAN. */
int tree_check(TreeTxn *txn, Error *err);
/* Do that for a tree in the folder 'path', which has no writer, and return its meta. */
int tree_check_copy(const char *path, const _Atomic bool *cancelled, TreeMeta *ret_meta, Error *err);

uint64_t tree_file_size(const Tree *tree);
/* Return the bytes of the pages in use; the file also contains free pages. */
int tree_used_size(TreeTxn *txn, uint64_t *ret);
