/* The tree in LMDB (the one home of lmdb.h).
 *
 * Keys are paths with the separator encoded below every other byte, so that a directory and all below it is
 * one contiguous range; beyond 480 bytes the key is the escaped path cut there and 16 bytes of its hash, the
 * whole path in the node (two such paths with one hash cannot both be stored: -ENOTUNIQ). A second table
 * orders nodes by expiry. Meta holds what makes the tree a Raft snapshot: applied index and term, the
 * configuration in force and its index; and the store's own index, cluster time, cluster id, lineage.
 *
 * What reads return is borrowed until the transaction's next write or its end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "io/turn.h"
#include "kvstore/command.h"

typedef struct Tree Tree;
typedef struct TreeTxn TreeTxn;
typedef struct TreeReader TreeReader;

/* The last events of one owner, which outlive a restart and travel with the tree (kvstore/events.h). */
typedef struct TreeWindow {
        uint64_t oldest; /* from this index on nothing is missing; 0: nothing ever was */
        uint64_t n, bytes;
} TreeWindow;

/* The answers that are kept for who asks again (kvstore/apply/dedup.h). */
typedef struct TreeResults {
        uint64_t n, bytes; /* records, with their keys */
        uint64_t swept_ms; /* cluster time when those past their time were last looked for */
} TreeResults;

enum {
        TREE_WINDOW_USERS,
        TREE_WINDOW_OURS,
        _TREE_WINDOW_MAX,
        TREE_WINDOW_EVENTS = 1000,            /* of each: etcd's figure */
        TREE_WINDOW_BYTES = 16 * 1024 * 1024, /* ... or less, when they are large */
};

typedef struct TreeMeta {
        uint64_t applied, applied_term; /* Raft's, of the last entry applied */
        uint64_t configuration_index;   /* of the last RAFT_CHANGE applied */
        uint64_t index;                 /* the store's own counter */
        uint64_t cluster_ms;            /* cluster time of the last entry */
        uint64_t cluster_id, lineage;   /* 0 until the first entry says so */
        uint64_t quota; /* that users' nodes may weigh (apply.h), by the last leader's word; 0: default */
        /* From here on the tree counts itself: */
        uint64_t n_nodes, n_bytes;         /* users' nodes and bytes of keys and values */
        uint64_t n_own_nodes, n_own_bytes; /* the same below /_fleet */
        TreeWindow windows[_TREE_WINDOW_MAX];
        TreeResults results;
        uint64_t level;       /* feature level (command.h); 0: the first */
        uint64_t quota_nodes; /* how many users' nodes there may be, as 'quota'; 0: as many as its bytes allow
                               */
        uint64_t sum;         /* of the hashes of all nodes and events: tree_kept_hash() */
} TreeMeta;

enum { TREE_CONFIGURATION_MAX = 16 * 1024 };

typedef struct TreeOptions {
        uint64_t quota; /* bytes for users' data; the map is 64 times as large as this (0: 256 MiB), or as the
                           tree's own */
        bool read_only;
        /* Once this is true, what reads all of the tree, and so takes long, ends with -ECANCELED; borrowed.
         * NULL: it is never. */
        const _Atomic bool *cancelled;
} TreeOptions;

/* Opens (making it if absent) the environment in folder 'path'. It runs without sync: whether it may be
 * trusted after a restart is the caller's business. 'read_only' (a checkpoint that nobody writes) makes
 * nothing and takes no lock. Fails with a sentence naming the folder; -EUCLEAN: this is no tree, or a broken
 * one. One process opens a folder once. */
int tree_open(const char *path, const TreeOptions *options, Tree **ret, Error *err);
/* NULL allowed; returns NULL. Readers in workers are stopped (-ECANCELED) and waited for, which takes them
 * one node. */
Tree *tree_close(Tree *tree);
/* Nodes that transactions of the loop read or write are counted in 'work' (borrowed) from now on; NULL:
 * nowhere. */
void tree_set_work(Tree *tree, TurnWork *work);

/* A compacting copy into the new folder 'to' (made by this call; what contains it is not synced), synced,
 * with its folder, and read back by tree_check(); for off the loop: opens its own read transaction and
 * touches nothing else. Gives up with -EFBIG when the copy exceeds 'max' bytes (0: no bound), or when the
 * live file has doubled meanwhile: this reader pins its pages; with -ECANCELED when it was cancelled
 * (TreeOptions). A failed copy leaves nothing behind. */
int tree_copy(Tree *tree, const char *to, uint64_t max, TreeMeta *ret_meta, Error *err);

int tree_begin_read(Tree *tree, TreeTxn **ret);
int tree_begin_write(Tree *tree, TreeTxn **ret);
/* A transaction inside a write transaction, for what may have to be taken back; the outer one rests
 * meanwhile. */
int tree_begin_nested(TreeTxn *outer, TreeTxn **ret);
int tree_commit(TreeTxn *txn); /* ends it in any case */
/* Bytes of the pages that a writing transaction has changed, at most: LMDB keeps them in memory until it is
 * committed. */
uint64_t tree_touched(const TreeTxn *txn);
void tree_abort(TreeTxn *txn); /* NULL allowed */
static inline void tree_abortp(TreeTxn **txn) {
        tree_abort(*txn);
}
/* From now on walks of this transaction fail with -E2BIG once they have read so many nodes in all, also of
 * those that they do not visit and of those that they sort. 0: no limit. */
void tree_limit_walks(TreeTxn *txn, uint64_t n_visits);

/* -- Reading in a worker --
 *
 * A reader is made, stopped and freed on the loop; in between a worker begins its transaction, reads, and
 * ends it by tree_abort(). Walks fail when the reader was stopped, and with -EFBIG when the live file has
 * doubled since the transaction began (files up to 64 MiB are exempt): a transaction pins the pages of its
 * state. */
int tree_reader_new(Tree *tree, TreeReader **ret);
int tree_reader_begin(TreeReader *reader,
                      TreeTxn **ret); /* in the worker, once; the error it was stopped with */
void tree_reader_stop(TreeReader *reader,
                      int error); /* the read fails with 'error', soon; the first one counts */
TreeReader *tree_reader_free(
        TreeReader *reader); /* NULL allowed; the worker has ended; the tree may be closed; returns NULL */

int tree_meta(TreeTxn *txn, TreeMeta *ret);
int tree_set_meta(TreeTxn *txn, const TreeMeta *meta); /* all but the counts, which the tree keeps itself */
/* The encoded Raft configuration; *ret borrowed, size 0 if none. */
int tree_configuration(TreeTxn *txn, KvBytes *ret);
int tree_set_configuration(TreeTxn *txn, KvBytes configuration);

int tree_get(TreeTxn *txn, KvBytes path, KvNode *ret); /* -ENOENT; the root always is (a dir) */
int tree_put(TreeTxn *txn,
             const KvNode *node);            /* inserts or replaces this one node; keeps expiry and counts */
int tree_delete(TreeTxn *txn, KvBytes path); /* this one node, not what is below; -ENOENT */
int tree_delete_below(TreeTxn *txn, KvBytes path); /* all that is below, not the node itself */

/* Walks all nodes below 'path' in key order (depth first, parents first); 'visit' returns > 0 to go on, 0 to
 * stop, < 0 to fail; it must not write. 'recursive' false: direct children only (skips what is below them
 * without reading it). */
int tree_walk(TreeTxn *txn, KvBytes path, bool recursive, int (*visit)(void *userdata, const KvNode *node),
              void *userdata);
/* What tree_walk() visits and comes after the node 'after', which lies below 'path' (else -EINVAL) and need
 * not exist any more: for whoever walks in parts, which lie in different transactions. Empty: from the
 * beginning. */
int tree_walk_from(TreeTxn *txn, KvBytes path, KvBytes after, bool recursive,
                   int (*visit)(void *userdata, const KvNode *node), void *userdata);
/* Visits the records among which all nodes below 'path' lie, in the order of their keys: long keys with one
 * beginning in that of their hashes. 'below' is false for a long key that only shares the beginning. Collects
 * and sorts nothing. 'visit' returns as tree_walk()'s. */
int tree_scan(TreeTxn *txn, KvBytes path, int (*visit)(void *userdata, const KvNode *node, bool below),
              void *userdata);

/* Whether the key of 'path' is cut and hashed; how many such keys have the beginning of 'path', itself
 * included: counted up to 'max'. */
bool tree_is_long(KvBytes path);
/* Of two paths whose stored keys have so many bytes; a hash of these bytes, 0: the path has fewer. */
bool tree_share_beginning(KvBytes a, KvBytes b);
uint64_t tree_beginning(KvBytes path);
int tree_count_long(TreeTxn *txn, KvBytes path, uint64_t max, uint64_t *ret);

/* The node that expires first, at or before 'due_ms' (UINT64_MAX: whenever that is); -ENOENT. Equal times in
 * order of created index, then key. */
int tree_first_due(TreeTxn *txn, uint64_t due_ms, KvNode *ret);

/* Adds an event to a window; the oldest go when there are too many. 'weight' counts against
 * TREE_WINDOW_BYTES. */
int tree_add_event(TreeTxn *txn, unsigned window, uint64_t index, KvBytes event, uint64_t weight);
/* A window's events in order; 'visit' returns as tree_walk()'s. */
int tree_events(TreeTxn *txn, unsigned window, int (*visit)(void *userdata, uint64_t index, KvBytes event),
                void *userdata);

/* All events go; from 'oldest' on nothing will have been missing. */
int tree_forget_events(TreeTxn *txn, uint64_t oldest);

/* Records of kept answers, in order of (origin, slot); an origin is not 0. Borrowed as nodes are. -ENOENT. */
int tree_result(TreeTxn *txn, uint64_t origin, uint64_t slot, KvBytes *ret);
int tree_result_before(TreeTxn *txn, uint64_t origin, uint64_t slot, uint64_t *ret_slot,
                       KvBytes *ret); /* the last one below 'slot' */
int tree_put_result(TreeTxn *txn, uint64_t origin, uint64_t slot, KvBytes record);
/* Those of one origin, or of all (0). 'visit' returns as tree_walk()'s; TREE_DROP in a write transaction: the
 * record goes. */
enum { TREE_DROP = 2 };
int tree_results(TreeTxn *txn, uint64_t origin, int (*visit)(void *userdata, uint64_t slot, KvBytes record),
                 void *userdata);
void tree_set_results_swept(TreeTxn *txn, uint64_t cluster_ms);

/* Hash over all nodes, events and kept answers, and what the meta says of them: equal on replicas with equal
 * applied index. Walks the whole tree. */
int tree_hash(TreeTxn *txn, uint64_t *ret);
/* The same, from the sum that each change has kept; asks nothing of the nodes. Another answer than
 * tree_hash(): the tree was changed behind our back. */
int tree_kept_hash(TreeTxn *txn, uint64_t *ret);

/* Reads everything: each node decodes, its directory is there, counts and sum agree. -EUCLEAN and a
 * sentence if not. */
int tree_check(TreeTxn *txn, Error *err);

uint64_t tree_file_size(const Tree *tree);
int tree_used_size(TreeTxn *txn,
                   uint64_t *ret); /* bytes of the pages in use: the others are for what is still to come */
