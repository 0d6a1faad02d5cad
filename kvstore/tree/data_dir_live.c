#include "kvstore/tree/data_dir_internal.h"

#include <fcntl.h>

#include "base/fault_point.h"
#include "base/file.h"
#include "base/log.h"

enum {
        LOST_MAX = 4096, /* bytes of 'lost' */
        SHRINK_MIN = 4 * 1024 *
                     1024,  /* bytes; a smaller file is not shrunk, a larger one is if it exceeds ... */
        SHRINK_RATIO = 4,   /* ... this multiple of its content */
        BAD_STARTS_MAX = 3, /* after this number of starts without an orderly close, rebuild the tree */
};

/* -- Opening -- */

static int live_remove_marker(const DataDir *folder, Error *err) {
        if (unlinkat(folder->fd, "trusted", 0) < 0 && errno != ENOENT)
                return error_set(err, -errno, "Failed to remove %s/trusted: %s", folder->path,
                                 strerror(errno));
        return 0;
}

/* Replace the live tree by a copy of the checkpoint. Without checkpoint, the new tree is empty. */
static int live_copy_checkpoint(const DataDir *folder) {
        int r;

        r = remove_tree_at(folder->fd, "live");
        fault_point("rebuild-removed");
        if (r < 0)
                return r;

        r = data_dir_make(folder, "live");
        if (r < 0 || folder->checkpoint.fd < 0)
                return r;

        return data_dir_copy_file(folder, "checkpoint/" DATA, "live/" DATA);
}

/* Remove the marker first: it refers to the old tree. */
static int live_rebuild(const DataDir *folder, Error *err) {
        int r;

        if (folder->cancelled)
                return -ECANCELED;
        TRY(live_remove_marker(folder, err));
        fault_point("rebuild-distrusted");

        r = live_copy_checkpoint(folder);
        fault_point("rebuild-copied");
        if (r < 0)
                return error_set(err, r, "Failed to rebuild %s/live: %s", folder->path, strerror(-r));
        return 0;
}

static int live_open(const DataDir *folder, unsigned opens, bool served, Tree **ret, Error *err) {
        _cleanup_free_ char *path = data_dir_path(folder, "live");
        _cleanup_(tree_closep) Tree *tree = NULL;
        int r;

        if (!path)
                return -ENOMEM;

        TRY(tree_open(path, &(TreeOptions) { .quota = folder->quota, .cancelled = &folder->cancelled }, &tree,
                      err));

        fault_point("tree-opened");
        r = data_dir_write_marker(folder, opens, served);
        if (r < 0)
                return error_set(err, r, "Failed to write %s/trusted: %s", folder->path, strerror(-r));

        *ret = TAKE_PTR(tree);
        return 0;
}

static bool tree_is_sparse(Tree *tree, uint64_t *ret_size) {
        uint64_t used, size = tree_file_size(tree);
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;

        *ret_size = size;
        return size >= SHRINK_MIN && tree_begin_read(tree, &txn) >= 0 && tree_used_size(txn, &used) >= 0 &&
               used < size / SHRINK_RATIO;
}

/* Replace a live tree that is not in use yet by a copy without free pages: LMDB never shrinks its file. The
 * copy has the same state, so it keeps 'served'. A crash between the renames leaves a file without a marker,
 * and the tree is rebuilt from checkpoint and log; therefore a corrupt checkpoint prevents shrinking. On
 * failure the tree may be closed; *tree is NULL then. */
static int live_shrink(DataDir *folder, unsigned opens, bool served, Tree **tree, Error *err) {
        _cleanup_free_ char *path = data_dir_path(folder, "checkpoint.new");
        uint64_t before;
        TreeMeta meta;
        Error why = {};
        int r;

        if (folder->corrupt || !tree_is_sparse(*tree, &before))
                return 0;

        r = path ? tree_copy(*tree, path, &meta, &why) : -ENOMEM;
        if (r >= 0 && unlinkat(folder->fd, "trusted", 0) < 0)
                r = -errno;
        if (r == -EUCLEAN) { /* the copy was verified by reading it */
                *tree = tree_close(*tree);
                return error_set(err, r, "%s", error_text(&why, r));
        }
        if (r < 0) {
                log_warning(NO_FIELDS, "Failed to shrink the tree in %s/live from %" PRIu64 " KiB: %s",
                            folder->path, before / 1024, error_text(&why, r));
                (void) remove_tree_at(folder->fd, "checkpoint.new");
                return 0;
        }

        fault_point("shrink-distrusted");
        *tree = tree_close(*tree);
        (void) unlinkat(folder->fd, "live/" LOCK, 0);
        if (renameat(folder->fd, "checkpoint.new/" DATA, folder->fd, "live/" DATA) < 0)
                return error_set(err, -errno, "Failed to rename %s: %s", path, strerror(errno));
        fault_point("shrink-replaced");
        (void) remove_tree_at(folder->fd, "checkpoint.new");
        TRY(live_open(folder, opens, served, tree, err));

        log_info(NO_FIELDS, "shrank the tree in %s/live from %" PRIu64 " KiB to %" PRIu64 " KiB",
                 folder->path, before / 1024, tree_file_size(*tree) / 1024);
        return 0;
}

/* Remove what a crash left, and create the folders. A folder that exists may have been created and not synced
 * by a daemon that was killed; sync all of them, because the log is truncated up to the checkpoint. */
static int data_dir_prepare(const DataDir *folder) {
        static const char *const leftovers[] = { "checkpoint.new", "incoming" };
        static const char *const folders[] = { "checkpoint", "live" };
        int r;

        for (size_t i = 0; i < ELEMENTS(leftovers); i++)
                r = TRY(remove_tree_at(folder->fd, leftovers[i]));
        for (size_t i = 0; i < ELEMENTS(folders); i++)
                r = TRY(data_dir_make(folder, folders[i]));

        r = data_dir_sync(folder, "checkpoint");
        return r < 0 ? r : fsync_dir(folder->fd);
}

/* Open the live tree if it is trusted. Return 1 if it is open, 0 if it has to be rebuilt. */
static int live_open_trusted(DataDir *folder, Tree **ret) {
        bool served = false;
        unsigned opens = 0;
        Error why = {};
        int r;

        if (!data_dir_is_trusted(folder, &opens, &served) || opens >= BAD_STARTS_MAX)
                return 0;

        r = live_open(folder, opens + 1, served, ret, &why);
        if (r >= 0)
                r = live_shrink(folder, opens + 1, served, ret, &why);
        if (r < 0) {
                log_warning(NO_FIELDS, "Failed to open the tree in %s/live, rebuilding it: %s", folder->path,
                            error_text(&why, r));
                return 0;
        }

        data_dir_marker_written(folder, opens + 1, served);
        if (folder->corrupt)
                log_error(NO_FIELDS,
                          "%s/checkpoint/" DATA " is corrupt; writing a new checkpoint from the live tree",
                          folder->path);
        return 1;
}

int data_dir_open(DataDir *folder, const char *path, const char *machine_id, const char *boot_id,
                  uint64_t quota, Tree **ret, Error *err) {
        Error why = {};
        int r;

        *folder = (DataDir) { .fd = -1, .quota = quota, .checkpoint = { .fd = -1 } };
        snprintf(folder->machine_id, sizeof(folder->machine_id), "%s", machine_id);
        snprintf(folder->boot_id, sizeof(folder->boot_id), "%s", boot_id);

        folder->path = strdup(path);
        if (!folder->path)
                return -ENOMEM;
        folder->fd = open_dir(path, 0700);
        if (folder->fd < 0)
                return error_set(err, folder->fd, "Failed to open %s: %s", path, strerror(-folder->fd));

        folder->cluster_ms = data_dir_read_time(folder);
        r = data_dir_prepare(folder);
        if (r < 0)
                return error_set(err, r, "Failed to prepare %s: %s", path, strerror(-r));

        r = data_dir_examine(folder, "checkpoint", &folder->checkpoint, &why);
        if (r == -ENOTSUP)
                return error_set(err, r, "%s", error_text(&why, r));
        if (r < 0 && r != -ENOENT && r != -EUCLEAN) /* the checkpoint itself may be intact */
                return error_set(err, r, "Failed to open %s/checkpoint/" DATA ": %s", path, strerror(-r));
        folder->corrupt = r == -EUCLEAN;

        if (live_open_trusted(folder, ret) > 0)
                return 0;
        if (folder->corrupt)
                return error_set(err, -EUCLEAN,
                                 "%s/checkpoint/" DATA
                                 " is corrupt, and the tree cannot be rebuilt without it; " RESET_AND_REJOIN,
                                 path);

        TRY(live_rebuild(folder, err));
        TRY(live_open(folder, 1, false, ret, err));
        data_dir_marker_written(folder, 1, false);
        return 0;
}

int data_dir_open_empty(const DataDir *folder, Tree **ret, Error *err) {
        _cleanup_free_ char *path = data_dir_path(folder, "incoming");

        return path ? tree_open(path, &(TreeOptions) { .quota = folder->quota }, ret, err) : -ENOMEM;
}

int data_dir_rebuild(const DataDir *folder, Tree **ret, bool *ret_corrupt, Error *err) {
        _cleanup_free_ char *file = data_dir_path(folder, "checkpoint/" DATA);
        int r;

        if (!file)
                return -ENOMEM;
        r = folder->checkpoint.fd >= 0 ? data_dir_verify(folder, folder->checkpoint.fd, file, err) : 0;
        *ret_corrupt = folder->corrupt || r == -EUCLEAN;
        if (*ret_corrupt)
                return error_set(err, -EUCLEAN, "%s is corrupt, and the tree cannot be rebuilt without it",
                                 file);
        if (r < 0)
                return r;

        r = live_rebuild(folder, err);
        return r < 0 ? r : live_open(folder, 1, false, ret, err);
}

void data_dir_rebuilt(DataDir *folder) {
        data_dir_marker_written(folder, 1, false);
        folder->distrusted = false;
}

int data_dir_space(const DataDir *folder, uint64_t *ret_free, uint64_t *ret_total) {
        return space_at(folder->fd, ret_free, ret_total);
}

void data_dir_done(DataDir *folder) {
        checkpoint_done(&folder->checkpoint);
        if (folder->fd >= 0)
                close(folder->fd);
        free(folder->path);
        *folder = (DataDir) { .fd = -1, .checkpoint = { .fd = -1 } };
}

/* -- Identity -- */

int data_dir_read_identity(const DataDir *folder, uint64_t *ret_cluster_id, uint64_t *ret_lineage) {
        _cleanup_free_ char *text = NULL;
        uint64_t cluster_id, lineage;
        size_t size;

        TRY(read_file_at(folder->fd, "identity", MARKER_MAX, &text, &size));
        if (sscanf(text, "1\ncluster %16" SCNx64 "\nlineage %16" SCNx64, &cluster_id, &lineage) != 2)
                return -EBADMSG;

        *ret_cluster_id = cluster_id;
        *ret_lineage = lineage;
        return 0;
}

int data_dir_write_identity(const DataDir *folder, uint64_t cluster_id, uint64_t lineage) {
        char text[MARKER_MAX];

        snprintf(text, sizeof(text), "1\ncluster %016" PRIx64 "\nlineage %016" PRIx64 "\n", cluster_id,
                 lineage);
        return write_file_at(folder->fd, "identity", text, strlen(text), 0600);
}

int data_dir_write_restored(const DataDir *folder, uint64_t term) {
        char text[MARKER_MAX];

        snprintf(text, sizeof(text), "1\nterm %" PRIu64 "\n", term);
        return write_file_at(folder->fd, "restored", text, strlen(text), 0600);
}

int data_dir_read_restored(const DataDir *folder, uint64_t *ret_term) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_file_at(folder->fd, "restored", MARKER_MAX, &text, &size);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return sscanf(text, "1\nterm %20" SCNu64 "\n", ret_term) == 1 ? 1 : -EBADMSG;
}

int data_dir_remove_restored(const DataDir *folder) {
        if (unlinkat(folder->fd, "restored", 0) < 0)
                return errno == ENOENT ? 0 : -errno;
        return fsync_dir(folder->fd);
}

/* -- A leader's tree -- */

int data_dir_incoming_open(const DataDir *folder) {
        int r;

        TRY(remove_tree_at(folder->fd, "incoming"));
        TRY(data_dir_make(folder, "incoming"));

        fault_point("incoming-emptied");
        r = openat(folder->fd, "incoming/" DATA, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        return r < 0 ? -errno : r;
}

static int incoming_sync_and_copy(const DataDir *folder) {
        TRY(data_dir_sync_file(folder, "incoming/" DATA));
        TRY(data_dir_sync(folder, "incoming"));
        fault_point("incoming-synced");
        return data_dir_copy_file(folder, "incoming/" DATA, "incoming/" NEXT);
}

int data_dir_incoming_finish(const DataDir *folder, Checkpoint *ret, Error *err) {
        int r;

        fault_point("incoming-received");
        r = incoming_sync_and_copy(folder);
        fault_point("incoming-copied");
        if (r < 0)
                return error_set(err, r, "Failed to store the leader's tree in %s/incoming: %s", folder->path,
                                 strerror(-r));

        return data_dir_examine(folder, "incoming", ret, err);
}

/* Rename the copy of the incoming tree to the live tree, and open it. */
static int live_replace(DataDir *folder, Tree **tree, Error *err) {
        *tree = tree_close(*tree);
        TRY(live_remove_marker(folder, err));
        fault_point("install-distrusted");
        (void) unlinkat(folder->fd, "live/" LOCK, 0);
        if (renameat(folder->fd, "incoming/" NEXT, folder->fd, "live/" DATA) < 0)
                return error_set(err, -errno, "Failed to rename %s/incoming/" NEXT ": %s", folder->path,
                                 strerror(errno));
        fault_point("install-replaced");
        TRY(live_open(folder, 1, false, tree, err));
        data_dir_marker_written(folder, 1, false);
        return 0;
}

int data_dir_install(DataDir *folder, Checkpoint *incoming, bool replace, Tree **tree, Error *err) {
        int r;

        /* The durable copy first: after a crash from here on, the host opens the new state, and drops a log
         * that does not match it. */
        if (renameat(folder->fd, "incoming/" DATA, folder->fd, "checkpoint/" DATA) < 0)
                return error_set(err, -errno, "Failed to rename %s/incoming/" DATA ": %s", folder->path,
                                 strerror(errno));
        fault_point("install-renamed");
        r = data_dir_sync(folder, "checkpoint");
        if (r < 0)
                return error_set(err, r, "Failed to sync %s/checkpoint: %s", folder->path, strerror(-r));
        fault_point("install-synced");
        data_dir_adopt(folder, incoming);

        if (replace)
                TRY(live_replace(folder, tree, err));

        fault_point("installed");
        data_dir_incoming_discard(folder);
        return 0;
}

void data_dir_incoming_discard(const DataDir *folder) {
        (void) remove_tree_at(folder->fd, "incoming");
}

/* -- Quarantine: a replica whose log lost acknowledged data -- */

int data_dir_quarantine(const DataDir *folder, const char *reason) {
        return write_file_at(folder->fd, "lost", reason, strlen(reason), 0600);
}

int data_dir_is_quarantined(const DataDir *folder, char *ret, size_t size) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_file_at(folder->fd, "lost", LOST_MAX, &text, NULL);
        if (r == -ENOENT)
                return 0;
        snprintf(ret, size, "%s",
                 r < 0 ? "the log lacks acknowledged entries" : text); /* its existence counts */
        text_keep_to_one_line(ret);
        return 1;
}

/* Move live tree and checkpoint to old/, and replace its content. */
static int data_dir_begin_empty(DataDir *folder) {
        int r;

        if (faccessat(folder->fd, "live", F_OK, 0) == 0) {
                TRY(remove_tree_at(folder->fd, "old"));
                r = TRY(data_dir_make(folder, "old"));
                if (renameat(folder->fd, "checkpoint", folder->fd, "old/checkpoint") < 0 && errno != ENOENT)
                        return -errno;
                if (renameat(folder->fd, "live", folder->fd, "old/live") < 0)
                        return -errno;
        }
        checkpoint_done(&folder->checkpoint);
        folder->corrupt = false;
        r = data_dir_make(folder, "checkpoint");
        return r < 0 ? r : fsync_dir(folder->fd);
}

int data_dir_set_aside(DataDir *folder, Tree **ret, Error *err) {
        bool corrupt;
        int r;

        r = data_dir_begin_empty(folder);
        if (r < 0)
                return error_set(err, r, "Failed to set the tree in %s aside: %s", folder->path,
                                 strerror(-r));

        r = data_dir_rebuild(folder, ret, &corrupt, err); /* without checkpoint: an empty tree */
        if (r < 0) {
                (void) remove_tree_at(folder->fd, "live"); /* the next attempt must not move it to old/ */
                return r;
        }
        data_dir_rebuilt(folder);
        return 0;
}

int data_dir_end_quarantine(const DataDir *folder) {
        if (unlinkat(folder->fd, "lost", 0) < 0 && errno != ENOENT)
                return -errno;
        return fsync_dir(folder->fd);
}
