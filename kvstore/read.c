/* Reads of the serving tree: of one node, of a part of the tree, on the loop or in a worker.
 *
 * The store owns large reads, so that a client may leave at any time. */
#include "kvstore/kvstore_internal.h"

#include "kvstore/apply/history.h"

struct KvList {
        KvStore *store;
        KvRange range;
        const KvListOps *ops;
        void *userdata;
        TreeReader *reader;
        Work work;
        Timer timeout;
        bool cancelled;
        int result;
        LIST_ENTRY(KvList) lists;
};

/* -- One node -- */

/* Set what is missing on the way to a key that does not exist. */
static void found_missing(TreeTxn *txn, KvBytes key, KvFound *found) {
        KvNode above;

        found->missing = key;
        for (size_t i = 1; i < key.size; i++) {
                KvBytes part = { key.data, i };
                bool absent;

                if (((const char *) key.data)[i] != '/')
                        continue;
                absent = tree_get(txn, part, &above) == -ENOENT;
                if (!absent && above.dir)
                        continue;
                found->missing = part;
                found->is_file = !absent;
                return;
        }
}

/* A get of an attached host: the request ends before the caller is called. */
static void get_on_remote(KvStore *s, KvGet *get) {
        int r = remote_get(s->remote, get, &get->request);

        if (r < 0)
                get->done(get->userdata, r, NULL);
}

void kv_get_cancel(KvGet *get) {
        if (get->request)
                remote_cancel(get->request);
        get->request = NULL;
}

void kv_get(KvStore *s, KvGet *get) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvFound found = {};
        TreeMeta meta;
        KvNode node;
        int r;

        get->request = NULL;
        if (s->attached) {
                get_on_remote(s, get);
                return;
        }
        r = kv_read(s, &txn);
        if (r == 0)
                r = tree_meta(txn, &meta);
        if (r < 0) {
                get->done(get->userdata, r, NULL);
                return;
        }
        found.index = meta.index;
        found.error = tree_get(txn, get->key, &node);
        if (found.error == 0) {
                node.key = get->key;
                found.node = &node;
        } else if (found.error == -ENOENT)
                found_missing(txn, get->key, &found);
        if (!found.node ||
            node.dir) /* nothing is borrowed: 'done' may read on, and needs no second transaction */
                tree_abort(TAKE_PTR(txn));
        get->done(get->userdata, 0, &found);
}

int kv_local_get(KvStore *s, KvBytes key, KvVisit visit, void *userdata) {
        const KvNode *own = s->attached ? node_set_find(remote_slice(s->remote), key) : NULL;
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvNode node;
        int r;

        if (s->attached)
                return own ? visit(userdata, own) : -ENOENT;
        TRY(kv_read(s, &txn));
        r = tree_get(txn, key, &node);
        return r < 0 ? r : visit(userdata, &node);
}

/* -- A part of the tree -- */

static int range_walk(TreeTxn *txn, const KvRange *range, KvVisit visit, void *userdata) {
        return tree_walk_from(txn, range->key, range->after, range->recursive, visit, userdata);
}

int kv_local_walk(KvStore *s, const KvRange *range, KvVisit visit, void *userdata) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        if (s->attached)
                return node_set_walk(remote_slice(s->remote), range, visit, userdata);
        r = kv_read(s, &txn);
        return r < 0 ? r : range_walk(txn, range, visit, userdata);
}

typedef struct RowVisit {
        int (*visit)(void *userdata, const KvHistoryRow *row);
        void *userdata;
} RowVisit;

static int row_visit(void *userdata, uint64_t index, KvBytes record) {
        const RowVisit *v = userdata;
        KvHistoryRow row;
        int r;

        r = history_row_decode(index, record, &row);
        return r < 0 ? r : v->visit(v->userdata, &row);
}

int kv_local_history(KvStore *s, uint64_t after, bool backward,
                     int (*visit)(void *userdata, const KvHistoryRow *row), void *userdata) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        RowVisit v = { visit, userdata };
        int r;

        r = kv_read(s, &txn);
        return r < 0 ? r : tree_rows(txn, after, backward, row_visit, &v);
}

static int list_run(TreeTxn *txn, const KvRange *range, const KvListOps *ops, void *userdata) {
        KvFound found = { .error = -ENOENT };
        TreeMeta meta;
        KvNode node;
        int r;

        TRY(tree_meta(txn, &meta));
        found.index = meta.index;
        if (!range->without_key)
                found.error = tree_get(txn, range->key, &node);
        found.node = found.error == 0 ? &node : NULL;
        r = ops->begin(userdata, &found);
        if (r > 0)
                r = range_walk(txn, range, ops->visit, userdata);
        return r < 0 ? r : ops->end(userdata);
}

static void list_free(KvList *list) {
        timer_stop(&list->timeout);
        LIST_REMOVE(list, lists);
        list->store->n_lists--;
        tree_reader_free(list->reader);
        list->ops->free(list->userdata);
        free(list);
}

static void list_work(void *userdata) {
        KvList *list = userdata;
        TreeTxn *txn;

        list->result = tree_reader_begin(list->reader, &txn);
        if (list->result < 0)
                return;
        list->result = list_run(txn, &list->range, list->ops, list->userdata);
        tree_abort(txn);
}

static void list_done(void *userdata) {
        KvList *list = userdata;
        KvStore *s = list->store;

        timer_stop(&list->timeout);
        if (!list->cancelled)
                list->ops->done(list->userdata, list->result);
        list_free(list);
        if (!s->replica && s->n_lists == 0) /* kv_close() has waited for it */
                loop_defer(s->loop, &s->finish);
}

static void list_on_timeout(void *userdata) {
        KvList *list = userdata;

        tree_reader_stop(list->reader, -ETIMEDOUT);
}

bool kv_may_read_large(const KvStore *s) {
        return s->n_lists < KV_LARGE_READS_MAX;
}

static int list_start_worker(KvStore *s, const KvRange *range, const KvListOps *ops, void *userdata,
                             KvList **ret) {
        Tree *tree = replica_serving(s->replica);
        KvList *list;
        int r;

        if (s->closing)
                return -ESHUTDOWN;
        if (!tree)
                return -EUCLEAN;
        if (!kv_may_read_large(s))
                return -EBUSY;
        list = NEW0(KvList, 1);
        if (!list)
                return -ENOMEM;
        *list = (KvList) { .store = s, .range = *range, .ops = ops, .userdata = userdata };
        list->work = (Work) { .name = LOOP_NAME(list_done),
                              .work = list_work,
                              .done = list_done,
                              .userdata = list,
                              .nice = WORK_NICE_ANSWER };
        list->timeout = TIMER(list_on_timeout, list);
        r = tree_reader_new(tree, &list->reader);
        if (r == 0)
                r = timer_start(&list->timeout, s->loop, KV_LARGE_READ_MS);
        if (r == 0)
                r = loop_work(s->loop, &list->work);
        if (r < 0) {
                timer_stop(&list->timeout);
                tree_reader_free(list->reader);
                free(list);
                return r;
        }
        LIST_INSERT_HEAD(&s->lists, list, lists);
        s->n_lists++;
        *ret = list;
        return 0;
}

void kv_list(KvStore *s, const KvRange *range, const KvListOps *ops, void *userdata, KvList **ret) {
        TreeTxn *txn;
        int r;

        *ret = NULL;
        r = s->attached ? -EUCLEAN : kv_read(s, &txn);
        if (r == 0) {
                tree_limit_walks(txn, range->visits_max);
                r = list_run(txn, range, ops, userdata);
                tree_abort(txn);
        }
        if (r == -E2BIG) {
                ops->grow(userdata);
                r = list_start_worker(s, range, ops, userdata, ret);
                if (r == 0)
                        return;
        }
        ops->done(userdata, r);
        ops->free(userdata);
}

void kv_list_cancel(KvList *list) {
        list->cancelled = true;
        tree_reader_stop(list->reader, -ECANCELED);
}

void kv_lists_stop(KvStore *s) {
        KvList *list;

        LIST_FOREACH(list, &s->lists, lists)
                tree_reader_stop(list->reader, -ECANCELED);
}

void kv_lists_drop(KvStore *s) {
        while (!LIST_EMPTY(&s->lists))
                list_free(LIST_FIRST(&s->lists));
}

void kv_sync(KvStore *s, KvSync *sync) {
        if (s->attached)
                remote_sync(s->remote, sync);
        else
                read_index_add(s->reads, sync);
}

void kv_sync_cancel(KvStore *s, KvSync *sync) {
        if (s->remote)
                remote_sync_cancel(s->remote, sync);
        read_index_cancel(s->reads, sync);
}

/* -- Backup -- */

void kv_copy(KvStore *s, KvCopyRequest *backup) {
        replica_backup(s->replica, backup);
}

void kv_copy_cancel(KvStore *s, KvCopyRequest *backup) {
        replica_backup_cancel(s->replica, backup);
}

/* -- Watches -- */

int kv_watch(KvStore *s, const KvWatchOptions *options, const KvWatchOps *ops, void *userdata, KvWatch **ret,
             uint64_t *ret_oldest) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvWatchOptions here = *options;
        KvNode node;

        if (s->attached && !options->slice)
                return remote_watch(s->remote, options, ops, userdata, ret, ret_oldest);
        if (here.absent)
                here.absent = kv_read(s, &txn) == 0 && tree_get(txn, here.key, &node) == -ENOENT;
        return hub_watch(s->hub, &here, ops, userdata, ret, ret_oldest);
}
