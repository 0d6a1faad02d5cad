/* Checkpoints: verified, synced copies of the live tree. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/fault_point.h"
#include "base/file.h"
#include "kvstore/tree/data_dir_internal.h"
#include "base/file_checksum.h"

void checkpoint_done(Checkpoint *c) {
        if (c->fd >= 0)
                close(c->fd);
        free(c->configuration);
        *c = (Checkpoint) { .fd = -1 };
}

int data_dir_verify(const DataDir *folder, int fd, const char *file, Error *err) {
        int r = file_checksum_check(fd, &folder->cancelled);

        if (r == -EUCLEAN)
                return error_set(err, r, "%s is corrupt: checksum mismatch", file);
        return r < 0 ? error_set(err, r, "Failed to read %s: %s", file, strerror(-r)) : 0;
}

int checkpoint_read(Checkpoint *c, Tree *tree) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        KvBytes configuration;
        int r;

        TRY(tree_begin_read(tree, &txn));
        TRY(tree_meta(txn, &c->meta));
        r = tree_configuration(txn, &configuration);
        if (r < 0 || configuration.size == 0)
                return r;

        c->configuration = malloc(configuration.size);
        if (!c->configuration)
                return -ENOMEM;
        memcpy(c->configuration, configuration.data, configuration.size);
        c->configuration_size = configuration.size;
        return 0;
}

int data_dir_examine(const DataDir *folder, const char *name, Checkpoint *ret, Error *err) {
        _cleanup_(checkpoint_done) Checkpoint c = { .fd = -1 };
        _cleanup_free_ char *path = data_dir_path(folder, name);
        _cleanup_(tree_closep) Tree *tree = NULL;
        _cleanup_free_ char *file = NULL;
        struct stat st;
        int r;

        if (!path || asprintf(&file, "%s/" DATA, path) < 0)
                return -ENOMEM;

        c.fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (c.fd < 0)
                return -errno;
        if (fstat(c.fd, &st) < 0)
                return -errno;
        c.size = (uint64_t) st.st_size;
        r = data_dir_verify(folder, c.fd, file, err); /* first: LMDB follows any pointer in a corrupt page */
        if (r < 0)
                return r;

        TRY(tree_open(path, &(TreeOptions) { .read_only = true }, &tree, err));

        r = checkpoint_read(&c, tree);
        if (r < 0)
                return error_set(err, r, "Failed to read %s: %s", file, strerror(-r));

        *ret = c;
        c = (Checkpoint) { .fd = -1 };
        return 0;
}

/* Write a verified copy of 'tree' into checkpoint.new/. */
static int checkpoint_write(const DataDir *folder, Tree *tree, Error *err) {
        _cleanup_free_ char *path = data_dir_path(folder, "checkpoint.new");
        TreeMeta meta;
        int r;

        if (!path)
                return -ENOMEM;
        r = remove_tree_at(folder->fd, "checkpoint.new");
        if (r < 0)
                return error_set(err, r, "Failed to remove %s: %s", path, strerror(-r));
        return tree_copy(tree, path, &meta, err);
}

int data_dir_copy(const DataDir *folder, Tree *tree, Checkpoint *ret, Error *err) {
        _cleanup_(checkpoint_done) Checkpoint c = { .fd = -1 };
        int r;

        TRY(checkpoint_write(folder, tree, err));
        TRY(data_dir_examine(folder, "checkpoint.new", &c, err));
        fault_point("checkpoint-examined");

        if (renameat(folder->fd, "checkpoint.new/" DATA, folder->fd, "checkpoint/" DATA) < 0)
                return error_set(err, -errno, "Failed to rename %s/checkpoint.new: %s", folder->path,
                                 strerror(errno));
        fault_point("checkpoint-renamed");
        r = data_dir_sync(folder, "checkpoint");
        if (r < 0)
                return error_set(err, r, "Failed to sync %s/checkpoint: %s", folder->path, strerror(-r));
        fault_point("checkpoint-synced");
        (void) remove_tree_at(folder->fd, "checkpoint.new");

        *ret = c;
        c = (Checkpoint) { .fd = -1 };
        return 0;
}

int data_dir_probe(const DataDir *folder, Tree *tree, Error *err) {
        int r = checkpoint_write(folder, tree, err);

        (void) remove_tree_at(folder->fd, "checkpoint.new");
        return r;
}

void data_dir_cancel(DataDir *folder) {
        folder->cancelled = true;
}

void data_dir_adopt(DataDir *folder, Checkpoint *checkpoint) {
        checkpoint_done(&folder->checkpoint);
        folder->checkpoint = *checkpoint;
        folder->corrupt = false;
        *checkpoint = (Checkpoint) { .fd = -1 };
}

void data_dir_forget_checkpoint(DataDir *folder) {
        checkpoint_done(&folder->checkpoint);
        folder->corrupt = true;
}
