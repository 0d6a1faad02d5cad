#include "kvstore/tree/data_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fault_point.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"
#include "kvstore/tree/file_checksum.h"

#define DATA  "data.mdb"
#define LOCK  "lock.mdb"
#define NEXT  "next.mdb" /* in incoming/: the copy that becomes live */
#define SHOWN "shown\n"  /* in 'trusted' */
#define TIME  "time "    /* likewise */
#define DISK  "disk "    /* likewise: disk_number() */

enum {
        MARKER_MAX = 512,
        SYSFS_MAX = 4096, /* a page is the size of each file there */
        LOST_MAX = 4096,
        SHRINK_MIN = 4 * 1024 * 1024, /* a smaller file stays as it is; a larger one has at most ... */
        SHRINK_RATIO = 4,             /* ... so many times the size of what is in it */
        BAD_STARTS_MAX = 3, /* so many ends without order in a row, and the tree itself is suspected */
};

void checkpoint_done(Checkpoint *c) {
        if (c->fd >= 0)
                close(c->fd);
        free(c->configuration);
        *c = (Checkpoint) { .fd = -1 };
}

static char *path_of(const DataDir *folder, const char *name) {
        char *path;

        if (asprintf(&path, "%s/%s", folder->path, name) < 0)
                return NULL;
        return path;
}

static int make_dir(int dir_fd, const char *name) {
        if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        return 0;
}

static int sync_dir_at(int dir_fd, const char *name) {
        _cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        return fsync_dir(fd);
}

static int sync_file_at(int dir_fd, const char *name) {
        _cleanup_close_ int fd = openat(dir_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0)
                return -errno;
        return fsync(fd) < 0 ? -errno : 0;
}

/* Shares blocks where the file system can; the copy is not synced. */
static int copy_file(const DataDir *folder, const char *from, const char *to) {
        int dir_fd = folder->fd;
        _cleanup_close_ int in = openat(dir_fd, from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        _cleanup_close_ int out = -1;
        _cleanup_free_ char *buffer = NULL;
        const size_t chunk = 1024 * 1024;
        uint64_t offset = 0;
        bool by_hand = false;

        if (in < 0)
                return -errno;

        out = openat(dir_fd, to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (out < 0)
                return -errno;

        for (;;) {
                ssize_t n;
                int r;

                if (folder->cancelled)
                        return -ECANCELED;
                if (!by_hand) {
                        n = copy_file_range(in, NULL, out, NULL, chunk, 0);
                        if (n < 0 && offset == 0 &&
                            (errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)) {
                                by_hand = true;
                                continue;
                        }
                        if (n < 0)
                                return -errno;
                } else {
                        if (!buffer && !(buffer = malloc(chunk)))
                                return -ENOMEM;
                        n = pread(in, buffer, chunk, (off_t) offset);
                        if (n < 0)
                                return -errno;
                        r = pwrite_all(out, buffer, (size_t) n, offset);
                        if (r < 0)
                                return r;
                }
                if (n == 0)
                        return 0;
                offset += (uint64_t) n;
        }
}

/* -- Trust -- */

/* The number that the kernel gave a disk as it was attached; no other one has it in this boot. 0: 'device' is
 * no disk, or the kernel is older than 5.15. Device and inode are the same again once a disk was taken away
 * with writes that had not reached it, and attached and mounted again; so is the mount ID, which differs in
 * each mount namespace besides. */
static uint64_t disk_number(dev_t device) {
        static const char *const names[] = { "", "../" }; /* a disk's own; a partition's is beside it */
        char path[64];
        uint64_t n;

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *text = NULL;

                snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%sdiskseq", major(device), minor(device),
                         names[i]);
                if (read_file_at(AT_FDCWD, path, SYSFS_MAX, &text, NULL) >= 0 &&
                    sscanf(text, "%19" SCNu64, &n) == 1)
                        return n;
        }
        return 0;
}

static int marker_text(const DataDir *folder, char *ret, size_t size, uint64_t *ret_disk) {
        struct stat st;

        if (fstatat(folder->fd, "live/" DATA, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;

        snprintf(ret, size, "1\nboot %s\nmachine %s\ndevice %" PRIu64 "\ninode %" PRIu64 "\n",
                 folder->boot_id, folder->machine_id, (uint64_t) st.st_dev, (uint64_t) st.st_ino);
        *ret_disk = disk_number(st.st_dev);
        return 0;
}

/* An older version takes the first lines up to the number of openings and the last line, and skips what is
 * between. */
static int write_marker(const DataDir *folder, unsigned opens, bool shown) {
        uint64_t cluster_ms = folder->cluster_ms;
        char text[MARKER_MAX], time[32] = "", disk[32] = "";
        uint64_t number;
        size_t size;
        int r;

        r = marker_text(folder, text, sizeof(text), &number);
        if (r < 0)
                return r;

        size = strlen(text);
        if (cluster_ms > 0)
                snprintf(time, sizeof(time), TIME "%" PRIu64 "\n", cluster_ms);
        if (number > 0)
                snprintf(disk, sizeof(disk), DISK "%" PRIu64 "\n", number);
        snprintf(text + size, sizeof(text) - size, "opens %u\n%s%s%s", opens, time, disk, shown ? SHOWN : "");
        return write_file_at(folder->fd, "trusted", text, strlen(text), 0600);
}

static void marker_written(DataDir *folder, unsigned opens, bool shown) {
        folder->opens = opens;
        folder->shown = shown;
}

/* *ret_opens: how often in a row it was opened and not closed in order. */
static bool live_is_trusted(const DataDir *folder, unsigned *ret_opens, bool *ret_shown) {
        _cleanup_free_ char *found = NULL;
        uint64_t disk, was = 0;
        char wanted[MARKER_MAX];
        const char *line;
        size_t size;

        if (marker_text(folder, wanted, sizeof(wanted), &disk) < 0 ||
            read_file_at(folder->fd, "trusted", MARKER_MAX, &found, &size) < 0)
                return false;
        if (!starts_with(found, wanted) || sscanf(found + strlen(wanted), "opens %9u", ret_opens) != 1)
                return false;
        line = strstr(found, "\n" DISK);
        if (line && (sscanf(line, "\n" DISK "%19" SCNu64 "\n", &was) != 1 || was != disk))
                return false;
        *ret_shown = ends_with(found, "\n" SHOWN);

        /* Reports an error that writing back had meanwhile. */
        return sync_file_at(folder->fd, "live/" DATA) >= 0;
}

/* Cluster time at the last stop in order; also of a marker that does not vouch for the tree, after a reboot:
 * time has passed all the same. */
static uint64_t read_time(const DataDir *folder) {
        _cleanup_free_ char *text = NULL;
        char machine[64];
        const char *line;
        uint64_t ms = 0;

        snprintf(machine, sizeof(machine), "\nmachine %s\n", folder->machine_id);
        if (read_file_at(folder->fd, "trusted", MARKER_MAX, &text, NULL) < 0 || !strstr(text, machine))
                return 0;
        line = strstr(text, "\n" TIME);
        return line && sscanf(line, "\n" TIME "%19" SCNu64 "\n", &ms) == 1 ? ms : 0;
}

void data_dir_distrust(DataDir *folder) {
        folder->distrusted = true;
        (void) unlinkat(folder->fd, "trusted", 0);
}

void data_dir_raise_quota(DataDir *folder, uint64_t quota) {
        folder->quota = MAX(folder->quota, quota);
}

void data_dir_keep_time(DataDir *folder, uint64_t cluster_ms) {
        if (folder->cluster_ms < cluster_ms)
                folder->cluster_ms = cluster_ms;
}

void data_dir_closed(DataDir *folder) {
        if (!folder->distrusted && folder->fd >= 0)
                (void) write_marker(folder, 0,
                                    folder->shown); /* else it counts as one more bad start: harmless */
}

int data_dir_serve(DataDir *folder) {
        int r;

        if (folder->shown || folder->distrusted)
                return 0;
        r = write_marker(folder, folder->opens, true);
        if (r >= 0)
                marker_written(folder, folder->opens, true);
        return r;
}

bool data_dir_was_served(const DataDir *folder) {
        return folder->shown;
}

/* Shortened in place, which a full disk allows, too. */
int data_dir_unserve(DataDir *folder) {
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (!folder->shown || folder->distrusted)
                return 0;
        fd = openat(folder->fd, "trusted", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size < (off_t) strlen(SHOWN))
                return -EBADMSG;
        if (ftruncate(fd, st.st_size - (off_t) strlen(SHOWN)) < 0 || fsync(fd) < 0)
                return -errno;
        folder->shown = false;
        return 0;
}

/* -- Checkpoints -- */

static int check_sum(const DataDir *folder, int fd, const char *file, Error *err) {
        int r = file_checksum_check(fd, &folder->cancelled);

        if (r == -EUCLEAN)
                return error_set(err, r, "%s is damaged: it does not hold what was written to it", file);
        return r < 0 ? error_set(err, r, "cannot read %s: %s", file, strerror(-r)) : 0;
}

/* Opens the tree in 'name' for reading only and takes its word: the proof that it can be read. */
static int examine(const DataDir *folder, const char *name, Checkpoint *ret, Error *err) {
        _cleanup_(checkpoint_done) Checkpoint c = { .fd = -1 };
        _cleanup_free_ char *path = path_of(folder, name);
        _cleanup_free_ char *file = NULL;
        Tree *tree = NULL;
        TreeTxn *txn = NULL;
        KvBytes configuration;
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
        r = check_sum(folder, c.fd, file, err); /* before LMDB follows what may point anywhere */
        if (r < 0)
                return r;

        r = tree_open(path, &(TreeOptions) { .read_only = true }, &tree, err);
        if (r < 0)
                return r;

        r = tree_begin_read(tree, &txn);
        if (r >= 0)
                r = tree_meta(txn, &c.meta);
        if (r >= 0)
                r = tree_configuration(txn, &configuration);
        if (r >= 0 && configuration.size > 0) {
                c.configuration = malloc(configuration.size);
                if (c.configuration) {
                        memcpy(c.configuration, configuration.data, configuration.size);
                        c.configuration_size = configuration.size;
                } else
                        r = -ENOMEM;
        }
        tree_abort(txn);
        tree_close(tree);
        if (r < 0)
                return error_set(err, r, "cannot read %s: %s", file, strerror(-r));

        *ret = c;
        c = (Checkpoint) { .fd = -1 };
        return 0;
}

int data_dir_copy(const DataDir *folder, Tree *tree, Checkpoint *ret, Error *err) {
        _cleanup_(checkpoint_done) Checkpoint c = { .fd = -1 };
        _cleanup_free_ char *path = path_of(folder, "checkpoint.new");
        TreeMeta meta;
        int r;

        if (!path)
                return -ENOMEM;

        r = remove_tree_at(folder->fd, "checkpoint.new");
        if (r < 0)
                return error_set(err, r, "cannot remove %s: %s", path, strerror(-r));

        r = tree_copy(tree, path, 0, &meta, err);
        if (r < 0)
                return r;

        r = examine(folder, "checkpoint.new", &c, err);
        if (r < 0)
                return r;
        fault_point("checkpoint-examined");

        if (renameat(folder->fd, "checkpoint.new/" DATA, folder->fd, "checkpoint/" DATA) < 0)
                return error_set(err, -errno, "cannot rename %s: %s", path, strerror(errno));
        fault_point("checkpoint-renamed");
        r = sync_dir_at(folder->fd, "checkpoint");
        if (r < 0)
                return error_set(err, r, "cannot sync %s/checkpoint: %s", folder->path, strerror(-r));
        fault_point("checkpoint-synced");
        (void) remove_tree_at(folder->fd, "checkpoint.new");

        *ret = c;
        c = (Checkpoint) { .fd = -1 };
        return 0;
}

int data_dir_probe(const DataDir *folder, Tree *tree, Error *err) {
        _cleanup_free_ char *path = path_of(folder, "checkpoint.new");
        TreeMeta meta;
        int r;

        if (!path)
                return -ENOMEM;
        r = remove_tree_at(folder->fd, "checkpoint.new");
        if (r < 0)
                return error_set(err, r, "cannot remove %s: %s", path, strerror(-r));
        r = tree_copy(tree, path, 0, &meta, err);
        (void) remove_tree_at(folder->fd, "checkpoint.new");
        return r;
}

void data_dir_cancel(DataDir *folder) {
        folder->cancelled = true;
}

void data_dir_adopt(DataDir *folder, Checkpoint *checkpoint) {
        checkpoint_done(&folder->checkpoint);
        folder->checkpoint = *checkpoint;
        folder->rotten = false;
        *checkpoint = (Checkpoint) { .fd = -1 };
}

void data_dir_forget_checkpoint(DataDir *folder) {
        checkpoint_done(&folder->checkpoint);
        folder->rotten = true;
}

/* -- Opening -- */

/* A fresh live tree: the checkpoint's bytes, or none. The marker of the old one goes first. */
static int rebuild(const DataDir *folder, Error *err) {
        int r;

        if (folder->cancelled)
                return -ECANCELED;
        if (unlinkat(folder->fd, "trusted", 0) < 0 && errno != ENOENT)
                return error_set(err, -errno, "cannot remove %s/trusted: %s", folder->path, strerror(errno));
        fault_point("rebuild-distrusted");
        r = remove_tree_at(folder->fd, "live");
        fault_point("rebuild-removed");
        if (r >= 0)
                r = make_dir(folder->fd, "live");
        if (r >= 0 && folder->checkpoint.fd >= 0)
                r = copy_file(folder, "checkpoint/" DATA, "live/" DATA);
        fault_point("rebuild-copied");
        if (r < 0)
                return error_set(err, r, "cannot rebuild %s/live: %s", folder->path, strerror(-r));
        return 0;
}

static int open_live(const DataDir *folder, unsigned opens, bool shown, Tree **ret, Error *err) {
        _cleanup_free_ char *path = path_of(folder, "live");
        Tree *tree;
        int r;

        if (!path)
                return -ENOMEM;

        r = tree_open(path, &(TreeOptions) { .quota = folder->quota, .cancelled = &folder->cancelled }, &tree,
                      err);
        if (r < 0)
                return r;

        fault_point("tree-opened");
        r = write_marker(folder, opens, shown);
        if (r < 0) {
                tree_close(tree);
                return error_set(err, r, "cannot write %s/trusted: %s", folder->path, strerror(-r));
        }

        *ret = tree;
        return 0;
}

static bool is_wasteful(Tree *tree, uint64_t *ret_size) {
        uint64_t used = 0, size = tree_file_size(tree);
        TreeTxn *txn = NULL;
        int r;

        if (size < SHRINK_MIN)
                return false;
        r = tree_begin_read(tree, &txn);
        if (r >= 0)
                r = tree_used_size(txn, &used);
        tree_abort(txn);
        *ret_size = size;
        return r >= 0 && used < size / SHRINK_RATIO;
}

/* LMDB's file never becomes smaller: a copy without the free pages takes the place of a live tree that nobody
 * uses yet. It is in the same state, so that 'shown' is true of it, too. A kill between the names leaves a
 * file without a marker: the tree is rebuilt from the checkpoint and the log, which is why a damaged
 * checkpoint prevents this. < 0: there is no tree any more; *tree is NULL. */
static int shrink(DataDir *folder, unsigned opens, bool shown, Tree **tree, Error *err) {
        _cleanup_free_ char *path = path_of(folder, "checkpoint.new");
        uint64_t before;
        TreeMeta meta;
        Error why = {};
        int r;

        if (folder->rotten || !is_wasteful(*tree, &before))
                return 0;

        r = path ? tree_copy(*tree, path, 0, &meta, &why) : -ENOMEM;
        if (r >= 0 && unlinkat(folder->fd, "trusted", 0) < 0)
                r = -errno;
        if (r == -EUCLEAN) { /* the copy was read */
                *tree = tree_close(*tree);
                return error_set(err, r, "%s", error_text(&why, r));
        }
        if (r < 0) {
                log_warning(NO_FIELDS,
                            "the file of the tree in %s/live stays at %" PRIu64 " KiB, most of it free: %s",
                            folder->path, before / 1024, error_text(&why, r));
                (void) remove_tree_at(folder->fd, "checkpoint.new");
                return 0;
        }

        fault_point("shrink-distrusted");
        *tree = tree_close(*tree);
        (void) unlinkat(folder->fd, "live/" LOCK, 0);
        if (renameat(folder->fd, "checkpoint.new/" DATA, folder->fd, "live/" DATA) < 0)
                return error_set(err, -errno, "cannot rename %s: %s", path, strerror(errno));
        fault_point("shrink-replaced");
        (void) remove_tree_at(folder->fd, "checkpoint.new");
        r = open_live(folder, opens, shown, tree, err);
        if (r >= 0)
                log_info(NO_FIELDS,
                         "shrank the file of the tree in %s/live from %" PRIu64 " to %" PRIu64 " KiB",
                         folder->path, before / 1024, tree_file_size(*tree) / 1024);
        return r;
}

int data_dir_open(DataDir *folder, const char *path, const char *machine_id, const char *boot_id,
                  uint64_t quota, Tree **ret, Error *err) {
        bool shown = false;
        unsigned opens = 0;
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
                return error_set(err, folder->fd, "cannot open %s: %s", path, strerror(-folder->fd));

        folder->cluster_ms = read_time(folder);
        r = remove_tree_at(folder->fd, "checkpoint.new");
        if (r >= 0)
                r = remove_tree_at(folder->fd, "incoming");
        if (r >= 0)
                r = make_dir(folder->fd, "checkpoint");
        if (r >= 0)
                r = make_dir(folder->fd, "live");
        if (r >= 0) /* a name that is found may be one that a killed daemon had made and not synced: the log
                       is cut behind it */
                r = sync_dir_at(folder->fd, "checkpoint");
        if (r >= 0)
                r = fsync_dir(folder->fd);
        if (r < 0)
                return error_set(err, r, "cannot prepare %s: %s", path, strerror(-r));

        r = examine(folder, "checkpoint", &folder->checkpoint, &why);
        if (r == -ENOTSUP)
                return error_set(err, r, "%s", error_text(&why, r));
        if (r < 0 && r != -ENOENT && r != -EUCLEAN) /* nothing is wrong with it */
                return error_set(err, r, "cannot open %s/checkpoint/" DATA ": %s", path, strerror(-r));
        folder->rotten = r == -EUCLEAN;

        if (live_is_trusted(folder, &opens, &shown) && opens < BAD_STARTS_MAX) {
                why = (Error) {};
                r = open_live(folder, opens + 1, shown, ret, &why);
                if (r >= 0)
                        r = shrink(folder, opens + 1, shown, ret, &why);
                if (r >= 0) {
                        marker_written(folder, opens + 1, shown);
                        if (folder->rotten)
                                log_error(NO_FIELDS,
                                          "%s/checkpoint/" DATA
                                          " is damaged: a new one is made of the tree in use",
                                          path);
                        return 0;
                }
                log_warning(NO_FIELDS, "the tree in %s/live cannot be used, rebuilding it: %s", path,
                            error_text(&why, r));
        }

        if (folder->rotten)
                return error_set(err, -EUCLEAN,
                                 "%s/checkpoint/" DATA
                                 " is damaged, and the tree cannot be made again without it; remove this "
                                 "host's state and let it join anew",
                                 path);
        r = rebuild(folder, err);
        if (r >= 0)
                r = open_live(folder, 1, false, ret, err);
        if (r >= 0)
                marker_written(folder, 1, false);
        return r;
}

int data_dir_open_nothing(const DataDir *folder, Tree **ret, Error *err) {
        _cleanup_free_ char *path = path_of(folder, "incoming");

        return path ? tree_open(path, &(TreeOptions) { .quota = folder->quota }, ret, err) : -ENOMEM;
}

int data_dir_rebuild(const DataDir *folder, Tree **ret, bool *ret_rotten, Error *err) {
        _cleanup_free_ char *file = path_of(folder, "checkpoint/" DATA);
        int r;

        if (!file)
                return -ENOMEM;
        r = folder->checkpoint.fd >= 0 ? check_sum(folder, folder->checkpoint.fd, file, err) : 0;
        *ret_rotten = folder->rotten || r == -EUCLEAN;
        if (*ret_rotten)
                return error_set(err, -EUCLEAN, "%s is damaged, and the tree cannot be made again without it",
                                 file);
        if (r >= 0)
                r = rebuild(folder, err);
        return r < 0 ? r : open_live(folder, 1, false, ret, err);
}

void data_dir_rebuilt(DataDir *folder) {
        marker_written(folder, 1, false);
        folder->distrusted = false;
}

int data_dir_room(const DataDir *folder, uint64_t *ret_free, uint64_t *ret_total) {
        return room_at(folder->fd, ret_free, ret_total);
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
        int r;

        r = read_file_at(folder->fd, "identity", MARKER_MAX, &text, &size);
        if (r < 0)
                return r;
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

/* -- A leader's tree -- */

int data_dir_incoming_open(const DataDir *folder) {
        int r;

        r = remove_tree_at(folder->fd, "incoming");
        if (r >= 0)
                r = make_dir(folder->fd, "incoming");
        if (r < 0)
                return r;

        fault_point("incoming-emptied");
        r = openat(folder->fd, "incoming/" DATA, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        return r < 0 ? -errno : r;
}

int data_dir_incoming_finish(const DataDir *folder, Checkpoint *ret, Error *err) {
        int r;

        fault_point("incoming-received");
        r = sync_file_at(folder->fd, "incoming/" DATA);
        if (r >= 0)
                r = sync_dir_at(folder->fd, "incoming");
        fault_point("incoming-synced");
        if (r >= 0)
                r = copy_file(folder, "incoming/" DATA, "incoming/" NEXT);
        fault_point("incoming-copied");
        if (r < 0)
                return error_set(err, r, "cannot store the leader's tree in %s/incoming: %s", folder->path,
                                 strerror(-r));

        return examine(folder, "incoming", ret, err);
}

int data_dir_install(DataDir *folder, Checkpoint *incoming, bool replace, Tree **tree, Error *err) {
        int r;

        /* The durable copy first: from here on a crash finds the new state and drops a log that does not fit
         * it. */
        if (renameat(folder->fd, "incoming/" DATA, folder->fd, "checkpoint/" DATA) < 0)
                return error_set(err, -errno, "cannot rename %s/incoming/" DATA ": %s", folder->path,
                                 strerror(errno));
        fault_point("install-renamed");
        r = sync_dir_at(folder->fd, "checkpoint");
        if (r < 0)
                return error_set(err, r, "cannot sync %s/checkpoint: %s", folder->path, strerror(-r));
        fault_point("install-synced");
        data_dir_adopt(folder, incoming);

        if (replace) {
                *tree = tree_close(*tree);
                if (unlinkat(folder->fd, "trusted", 0) < 0 && errno != ENOENT)
                        return error_set(err, -errno, "cannot remove %s/trusted: %s", folder->path,
                                         strerror(errno));
                fault_point("install-distrusted");
                (void) unlinkat(folder->fd, "live/" LOCK, 0);
                if (renameat(folder->fd, "incoming/" NEXT, folder->fd, "live/" DATA) < 0)
                        return error_set(err, -errno, "cannot rename %s/incoming/" NEXT ": %s", folder->path,
                                         strerror(errno));
                fault_point("install-replaced");
                r = open_live(folder, 1, false, tree, err);
                if (r < 0)
                        return r;
                marker_written(folder, 1, false);
        }

        fault_point("installed");
        data_dir_incoming_discard(folder);
        return 0;
}

void data_dir_incoming_discard(const DataDir *folder) {
        (void) remove_tree_at(folder->fd, "incoming");
}

/* -- A replica that lost what it had acknowledged -- */

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
                 r < 0 ? "the log lacks what it had" : text); /* that the file is there is what counts */
        text_keep_to_one_line(ret);
        return 1;
}

int data_dir_set_aside(DataDir *folder, Tree **ret, Error *err) {
        bool rotten;
        int r = 0;

        if (faccessat(folder->fd, "live", F_OK, 0) == 0) {
                r = remove_tree_at(folder->fd, "old");
                if (r >= 0)
                        r = make_dir(folder->fd, "old");
                if (r >= 0 && renameat(folder->fd, "checkpoint", folder->fd, "old/checkpoint") < 0 &&
                    errno != ENOENT)
                        r = -errno;
                if (r >= 0 && renameat(folder->fd, "live", folder->fd, "old/live") < 0)
                        r = -errno;
        }
        if (r >= 0) {
                checkpoint_done(&folder->checkpoint);
                folder->rotten = false;
                r = make_dir(folder->fd, "checkpoint");
        }
        if (r >= 0)
                r = fsync_dir(folder->fd);
        if (r < 0)
                return error_set(err, r, "cannot set the tree in %s aside: %s", folder->path, strerror(-r));

        r = data_dir_rebuild(folder, ret, &rotten, err); /* of nothing: an empty one */
        if (r < 0) {
                (void) remove_tree_at(folder->fd,
                                      "live"); /* the next attempt must not take it for what was lost */
                return r;
        }
        data_dir_rebuilt(folder);
        return 0;
}

int data_dir_found(const DataDir *folder) {
        if (unlinkat(folder->fd, "lost", 0) < 0 && errno != ENOENT)
                return -errno;
        return fsync_dir(folder->fd);
}
