/* Operations on the whole tree: its hash, its verification, and its copy for a checkpoint. */
#include "kvstore/tree/tree_internal.h"

#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/fault_point.h"
#include "base/file.h"
#include "base/file_checksum.h"
#include "kvstore/tree/format.h"

enum {
        COPY_CHUNK = 256 * 1024,          /* bytes */
        COPY_AHEAD = 2 * 1024 * 1024,     /* bytes that are written and not on the disk yet */
        COPY_LIVE_MIN = 64 * 1024 * 1024, /* a live file below this may double during a copy */
};

/* -- Hashes -- */

int tree_hash(TreeTxn *txn, uint64_t *ret) {
        uint64_t sum = 0;
        TreeMeta meta;

        TRY(tree_meta(txn, &meta));
        TRY(tree_sum(txn, &sum));
        *ret = tree_meta_hash(&meta, sum);
        return 0;
}

int tree_kept_hash(TreeTxn *txn, uint64_t *ret) {
        TreeMeta meta;

        TRY(tree_meta(txn, &meta));
        *ret = tree_meta_hash(&meta, meta.sum);
        return 0;
}

/* -- Verification -- */

typedef struct Check {
        TreeTxn *txn;
        TreeMeta seen;
        uint64_t n_expiring;
} Check;

static int check_node(void *userdata, const KvNode *node) {
        Check *check = userdata;
        bool ours = kv_path_is_ours(node->key);
        const char *slash = memrchr(node->key.data, '/', node->key.size);
        KvBytes parent = { node->key.data, slash ? slash - (const char *) node->key.data : 0 };
        KvNode dir, again;

        if (check->txn->tree->cancelled && *check->txn->tree->cancelled)
                return -ECANCELED;
        if (!slash || tree_get(check->txn, parent.size > 0 ? parent : kv_string("/"), &dir) < 0 || !dir.dir ||
            tree_get(check->txn, node->key, &again) < 0 || (node->dir && node->value.size > 0))
                return -EUCLEAN;
        *(ours ? &check->seen.n_own_nodes : &check->seen.n_nodes) += 1;
        *(ours ? &check->seen.n_own_bytes : &check->seen.n_bytes) += node->key.size + node->value.size;
        check->n_expiring += node->expires_ms > 0;
        check->seen.sum += tree_node_hash(node);
        return 1;
}

static int check_result(void *userdata, uint64_t slot, KvBytes record) {
        Check *check = userdata;

        check->seen.results.n++;
        check->seen.results.bytes += TREE_RESULT_KEY + record.size;
        return 1;
}

static int check_read(Check *check, MDB_stat *ret_expiry, TreeMeta *ret_meta) {
        TreeTxn *txn = check->txn;
        int r;

        TRY(tree_meta(txn, ret_meta));
        TRY(tree_error(mdb_stat(txn->txn, txn->tree->expiry, ret_expiry)));
        TRY(tree_walk(txn, kv_string("/"), true, check_node, check));
        TRY(tree_sum_other_tables(txn, &check->seen.sum));
        r = tree_results(txn, 0, check_result, check);
        return r < 0 ? r : tree_history_count(txn, &check->seen.history);
}

int tree_check(TreeTxn *txn, Error *err) {
        Check check = { .txn = txn };
        MDB_stat expiry;
        TreeMeta meta = {};
        int r;

        r = check_read(&check, &expiry, &meta);
        if (r == -EUCLEAN)
                return error_set(err, r, "a node of the tree is corrupt");
        if (r < 0)
                return error_set(err, r, "Failed to read the tree: %s", strerror(-r));
        if (meta.n_nodes != check.seen.n_nodes || meta.n_bytes != check.seen.n_bytes ||
            meta.n_own_nodes != check.seen.n_own_nodes || meta.n_own_bytes != check.seen.n_own_bytes ||
            expiry.ms_entries != check.n_expiring || meta.results.n != check.seen.results.n ||
            meta.results.bytes != check.seen.results.bytes || meta.history.n != check.seen.history.n ||
            meta.history.bytes != check.seen.history.bytes ||
            meta.history.n_folds != check.seen.history.n_folds)
                return error_set(err, -EUCLEAN, "the tree is corrupt: its counts do not match its content");
        if (txn->summed && meta.sum != check.seen.sum)
                return error_set(err, -EUCLEAN, "the tree is corrupt: its sum does not match its content");
        return 0;
}

int tree_read_meta(Tree *tree, TreeMeta *ret) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r = tree_begin_read(tree, &txn);

        return r < 0 ? r : tree_meta(txn, ret);
}

/* -- Copying -- */

/* LMDB writes the copy into a pipe, and this module from there into the file, so that it can limit and cancel
 * the copy. */
typedef struct Copier {
        Tree *tree;
        int pipe_fd;
        int result;
} Copier;

static void *copier_run(void *userdata) {
        Copier *copier = userdata;

        copier->result = tree_error(mdb_env_copyfd2(copier->tree->env, copier->pipe_fd, MDB_CP_COMPACT));
        close(copier->pipe_fd);
        return NULL;
}

static int copier_pump(Tree *tree, int from, int to) {
        _cleanup_free_ char *chunk = malloc(COPY_CHUNK);
        uint64_t size = 0, live = tree_file_size(tree);
        uint32_t crc = 0;

        if (!chunk)
                return -ENOMEM;
        for (;;) {
                ssize_t n = read(from, chunk, COPY_CHUNK);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return file_checksum_append(to, size, crc);
                if (tree->cancelled && *tree->cancelled)
                        return -ECANCELED;
                if (tree_file_size(tree) > MAX(2 * live, (uint64_t) COPY_LIVE_MIN))
                        return -EFBIG;
                TRY(pwrite_all(to, chunk, n, size));
                crc = crc32c(crc, chunk, n);
                /* Write to the disk continuously: a large amount at the end would delay writes of the log. */
                (void) sync_file_range(to, size, n, SYNC_FILE_RANGE_WRITE);
                if (size >= COPY_AHEAD)
                        (void) sync_file_range(to, size - COPY_AHEAD, n, SYNC_FILE_RANGE_WAIT_BEFORE);
                size += n;
        }
}

static int copier_copy(Tree *tree, int fd) {
        _cleanup_close_ int read_fd = -1;
        Copier copier = { .tree = tree };
        pthread_t thread;
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        read_fd = fds[0];
        copier.pipe_fd = fds[1];
        r = -pthread_create(&thread, NULL, copier_run, &copier);
        if (r < 0) {
                close(fds[1]);
                return r;
        }

        r = copier_pump(tree, read_fd, fd);
        close(TAKE_FD(read_fd)); /* after a failure, LMDB's next write fails, and its thread ends */
        pthread_join(thread, NULL);
        if (r == 0)
                r = copier.result;
        fault_point("copy-written");
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        fault_point("copy-synced");
        return r;
}

int tree_check_copy(const char *path, const _Atomic bool *cancelled, TreeMeta *ret_meta, Error *err) {
        _cleanup_(tree_closep) Tree *copy = NULL;
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        TRY(tree_open(path, &(TreeOptions) { .read_only = true, .cancelled = cancelled }, &copy, err));
        r = tree_begin_read(copy, &txn);
        if (r < 0)
                return error_set(err, r, "Failed to read the copy in %s: %s", path, strerror(-r));
        r = tree_check(txn, err);
        return r < 0 ? r : tree_meta(txn, ret_meta);
}

static int copy_to_folder(Tree *tree, int dir_fd) {
        _cleanup_close_ int fd = -1;
        int r;

        fd = openat(dir_fd, "data.mdb", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = copier_copy(tree, fd);
        return r < 0 ? r : fsync_dir(dir_fd);
}

int tree_copy(Tree *tree, const char *to, TreeMeta *ret_meta, Error *err) {
        _cleanup_close_ int dir_fd = -1;
        TreeMeta meta;
        int r;

        if (mkdir(to, 0700) < 0)
                return error_set(err, -errno, "Failed to create %s: %s", to, strerror(errno));
        fault_point("copy-folder-made");
        dir_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = dir_fd < 0 ? -errno : copy_to_folder(tree, dir_fd);
        if (r < 0)
                error_set(err, r, "Failed to copy the tree to %s: %s", to,
                          r == -EFBIG ? "its file has doubled meanwhile" : strerror(-r));
        else
                r = tree_check_copy(to, tree->cancelled, &meta, err);
        if (r < 0) {
                if (dir_fd >= 0)
                        (void) unlinkat(dir_fd, "data.mdb", 0);
                (void) rmdir(to);
                return r;
        }
        *ret_meta = meta;
        return 0;
}
