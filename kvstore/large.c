/* Large reads: in a worker, on a read transaction of its own. The store owns what is under way, so that who
 * asked may leave at once. */
#include "kvstore/kvstore_internal.h"

#include <errno.h>

struct KvLargeRead {
        KvStore *store;
        const KvLargeReadOps *ops;
        void *userdata;
        TreeReader *reader;
        Work work;
        Timer timeout;
        bool cancelled; /* nobody waits for it */
        int result;
        LIST_ENTRY(KvLargeRead) reads;
};

static void large_free(KvLargeRead *read) {
        timer_stop(&read->timeout);
        LIST_REMOVE(read, reads);
        read->store->n_large--;
        tree_reader_free(read->reader);
        read->ops->free(read->userdata);
        free(read);
}

static void large_run(void *userdata) {
        KvLargeRead *read = userdata;
        TreeTxn *txn;

        read->result = tree_reader_begin(read->reader, &txn);
        if (read->result < 0)
                return;
        read->result = read->ops->read(read->userdata, txn);
        tree_abort(txn);
}

static void large_done(void *userdata) {
        KvLargeRead *read = userdata;
        KvStore *store = read->store;

        timer_stop(&read->timeout);
        if (!read->cancelled)
                read->ops->done(read->userdata, read->result);
        large_free(read);
        kv_large_ended(store);
}

static void large_on_timeout(void *userdata) {
        KvLargeRead *read = userdata;

        tree_reader_stop(read->reader, -ETIMEDOUT);
}

int kv_read_large(KvStore *s, const KvLargeReadOps *ops, void *userdata, KvLargeRead **ret) {
        Tree *tree = replica_serving(s->replica);
        KvLargeRead *read;
        int r;

        if (s->closing)
                return -ESHUTDOWN;
        if (!tree)
                return -EUCLEAN;
        if (s->n_large >= KV_LARGE_READS_MAX)
                return -EBUSY;
        read = NEW0(KvLargeRead, 1);
        if (!read)
                return -ENOMEM;
        *read = (KvLargeRead) { .store = s, .ops = ops, .userdata = userdata };
        read->work = (Work) { .name = LOOP_NAME(large_done),
                              .work = large_run,
                              .done = large_done,
                              .userdata = read,
                              .nice = WORK_NICE_ANSWER };
        read->timeout = TIMER(large_on_timeout, read);
        r = tree_reader_new(tree, &read->reader);
        if (r == 0)
                r = timer_start(&read->timeout, s->loop, KV_LARGE_READ_MS);
        if (r == 0)
                r = loop_work(s->loop, &read->work);
        if (r < 0) {
                timer_stop(&read->timeout);
                tree_reader_free(read->reader);
                free(read);
                return r;
        }
        LIST_INSERT_HEAD(&s->large, read, reads);
        s->n_large++;
        *ret = read;
        return 0;
}

void kv_read_large_cancel(KvLargeRead *read) {
        read->cancelled = true;
        tree_reader_stop(read->reader, -ECANCELED);
}

void kv_large_stop(KvStore *s) {
        KvLargeRead *read;

        LIST_FOREACH(read, &s->large, reads)
        tree_reader_stop(read->reader, -ECANCELED);
}

void kv_large_drop(KvStore *s) {
        while (!LIST_EMPTY(&s->large))
                large_free(LIST_FIRST(&s->large));
}
