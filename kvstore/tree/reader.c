/* Reading in a worker. Closing the tree stops its readers, and waits until no worker has an open transaction.
 */
#include "kvstore/tree/tree_internal.h"

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
        LIVE_EVERY = 256,            /* nodes between checks of the live file */
        LIVE_MIN = 64 * 1024 * 1024, /* bytes; a live file below this may double */
};

struct TreeReader {
        Tree *tree; /* NULL: closed. Used by the loop, and by the worker between begin and end. */
        LIST_ENTRY(TreeReader) readers;
        pthread_mutex_t mutex;
        pthread_cond_t ended;
        bool inside;      /* guarded by the mutex: a transaction is open */
        atomic_int error; /* of tree_reader_stop(); 0: not stopped */
        uint64_t live;    /* bytes of the file when the transaction began */
};

int tree_reader_new(Tree *tree, TreeReader **ret) {
        TreeReader *reader = NEW0(TreeReader, 1);

        if (!reader)
                return -ENOMEM;
        reader->tree = tree;
        pthread_mutex_init(&reader->mutex, NULL);
        pthread_cond_init(&reader->ended, NULL);
        LIST_INSERT_HEAD(&tree->readers, reader, readers);
        *ret = reader;
        return 0;
}

TreeReader *tree_reader_free(TreeReader *reader) {
        if (!reader)
                return NULL;
        if (reader->tree)
                LIST_REMOVE(reader, readers);
        pthread_cond_destroy(&reader->ended);
        pthread_mutex_destroy(&reader->mutex);
        free(reader);
        return NULL;
}

void tree_reader_stop(TreeReader *reader, int error) {
        int none = 0;

        (void) atomic_compare_exchange_strong(&reader->error, &none, error);
}

/* Mark a transaction as open, unless the reader was stopped, or as ended. */
static int reader_set_inside(TreeReader *reader, bool inside) {
        int error;

        pthread_mutex_lock(&reader->mutex);
        error = inside ? atomic_load(&reader->error) : 0;
        reader->inside = inside && error == 0;
        pthread_cond_signal(&reader->ended);
        pthread_mutex_unlock(&reader->mutex);
        return error;
}

int tree_reader_begin(TreeReader *reader, TreeTxn **ret) {
        _cleanup_free_ TreeTxn *txn = NEW0(TreeTxn, 1);
        int r;

        if (!txn)
                return -ENOMEM;
        TRY(reader_set_inside(reader, true));
        r = tree_error(mdb_txn_begin(reader->tree->env, NULL, MDB_RDONLY, &txn->txn));
        if (r < 0) {
                (void) reader_set_inside(reader, false);
                return r;
        }
        reader->live = tree_file_size(reader->tree);
        txn->tree = reader->tree;
        txn->reader = reader;
        *ret = TAKE_PTR(txn);
        return 0;
}

void tree_reader_end(TreeTxn *txn) {
        mdb_txn_abort(txn->txn);
        (void) reader_set_inside(txn->reader, false);
        free(txn);
}

void tree_readers_end(Tree *tree) {
        TreeReader *reader;

        while ((reader = LIST_FIRST(&tree->readers))) {
                tree_reader_stop(reader, -ECANCELED);
                pthread_mutex_lock(&reader->mutex);
                while (reader->inside)
                        pthread_cond_wait(&reader->ended, &reader->mutex);
                pthread_mutex_unlock(&reader->mutex);
                LIST_REMOVE(reader, readers);
                reader->tree = NULL;
        }
}

int tree_visited(TreeTxn *txn, size_t bytes) {
        TreeReader *reader = txn->reader;

        tree_count(txn, bytes);
        if (++txn->n_visited > txn->n_visits_max && txn->n_visits_max > 0)
                return -E2BIG;
        if (!reader)
                return 0;
        if (txn->n_visited % LIVE_EVERY == 0 &&
            tree_file_size(reader->tree) > MAX(2 * reader->live, (uint64_t) LIVE_MIN))
                tree_reader_stop(reader, -EFBIG);
        return atomic_load_explicit(&reader->error, memory_order_relaxed);
}
