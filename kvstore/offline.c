#include "kvstore/offline.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "kvstore/apply/apply.h"
#include "kvstore/backup_tree.h"
#include "kvstore/raft/bootstrap.h"
#include "kvstore/raft/core.h"

#define OFFLINE_NEXT "; restore a backup (fleetctl restore FILE), or join a cluster (fleetctl join)"
enum { FULL_SIZE = 64 * 1024 }; /* bytes that are free on a disk that counts as full */

/* -- The replica on disk -- */

typedef struct Found {
        DataDir data_dir;
        Tree *tree;
        uint64_t applied; /* by the tree */
        RaftLog *log;
        RaftEntry *entries; /* owned; the tree holds those up to 'applied' */
        size_t n;
        uint64_t first; /* index of the first of them */
        Identity identity;
} Found;

static void found_done(Found *f) {
        f->entries = raft_log_entries_free(f->entries, f->n);
        f->log = raft_log_close(f->log, NULL, NULL);
        f->tree = tree_close(f->tree);
        if (f->data_dir.fd >= 0)
                data_dir_closed(&f->data_dir);
        data_dir_done(&f->data_dir);
}

static void ignore_appended(void *userdata, uint64_t generation, uint64_t last_index) {}

static void ignore_failed(void *userdata, int error, const char *message) {}

static int find(Found *f, const KvOfflineOptions *o, Error *err) {
        static const RaftLogEvents events = { .appended = ignore_appended, .failed = ignore_failed };
        TreeMeta meta;
        int r;

        if (access(o->tree_path, F_OK) < 0)
                return error_set(err, -errno, "this host has no replica: cannot find %s: %s" OFFLINE_NEXT,
                                 o->tree_path, strerror(errno));
        TRY(data_dir_open(&f->data_dir, o->tree_path, o->machine_id, o->boot_id, o->quota, &f->tree, err));
        r = tree_read_meta(f->tree, &meta);
        if (r < 0)
                return error_set(err, r, "Failed to read the tree in %s: %s", o->tree_path, strerror(-r));
        f->applied = meta.applied;
        r = raft_log_open(o->log_disk, o->loop, &(RaftLogOptions) { .applied = meta.applied }, &events, NULL,
                          &f->log, err);
        if (r == -ENOENT)
                return error_set(err, r, "this host has no replica: there is no log beside %s" OFFLINE_NEXT,
                                 o->tree_path);
        if (r < 0)
                return r;
        TRY(bootstrap_check(&f->data_dir, raft_log_meta(f->log), &f->identity, err));
        TRY(raft_log_take_entries(f->log, &f->entries, &f->n, &f->first));
        if (f->first > meta.applied + 1)
                return error_set(err, -EUCLEAN,
                                 "the tree in %s ends with entry %" PRIu64
                                 ", but the log begins with %" PRIu64 ": entries are missing",
                                 o->tree_path, meta.applied, f->first);
        return 0;
}

/* -- The tree of a new lineage -- */

static int offline_apply_entry(Tree *tree, uint64_t index, const RaftEntry *e) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        const KvBytes bytes = { e->data, e->size };
        int r;

        TRY(tree_begin_write(tree, &txn));
        r = e->type == RAFT_ENTRY_COMMAND ?
                    apply_batch(txn, index, e->term, e->data, e->size, NULL) :
                    apply_other(txn, index, e->term, e->type == RAFT_ENTRY_CHANGE ? &bytes : NULL);
        return r < 0 ? r : tree_commit(TAKE_PTR(txn));
}

static int offline_apply_all(Tree *tree, const Found *f, Error *err) {
        for (size_t i = 0; i < f->n; i++) {
                uint64_t index = f->first + i;
                int r = index > f->applied ? offline_apply_entry(tree, index, &f->entries[i]) : 0;

                if (r < 0)
                        return error_set(err, r, "Failed to apply entry %" PRIu64 " of the log: %s", index,
                                         strerror(-r));
        }
        return 0;
}

typedef struct Moot {
        const KvOfflineOptions *options;
        char **keys;
        size_t n, capacity;
} Moot;

static int collect_moot(void *userdata, const KvNode *node) {
        Moot *m = userdata;

        if (node->dir || !m->options->is_moot(m->options->userdata, node))
                return 1;
        if (GROW(m->keys, m->capacity, m->n + 1) < 0 ||
            !(m->keys[m->n] = strndup(node->key.data, node->key.size)))
                return -ENOMEM;
        m->n++;
        return 1;
}

static int leave_out(TreeTxn *txn, const KvOfflineOptions *o) {
        Moot m = { .options = o };
        int r;

        if (!o->is_moot)
                return 0;
        r = tree_walk(txn, kv_string("/_fleet"), true, collect_moot, &m);
        for (size_t i = 0; i < m.n; i++) {
                if (r >= 0)
                        r = tree_delete(txn, kv_string(m.keys[i]));
                free(m.keys[i]);
        }
        free(m.keys);
        return r;
}

static int configure(TreeTxn *txn, uint64_t raft_id, const char *address) {
        _cleanup_free_ void *bytes = NULL;
        size_t size;
        int r = bootstrap_configuration(raft_id, address, &bytes, &size);

        return r < 0 ? r : tree_set_configuration(txn, (KvBytes) { bytes, size });
}

typedef struct LineageKeys {
        TreeTxn *txn;
        uint64_t index; /* of the last change */
} LineageKeys;

static int lineage_put(void *puts, const char *key, const char *value) {
        LineageKeys *keys = puts;
        KvNode there;

        keys->index++;
        for (const char *slash = strchr(key + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                KvNode dir = { .key = { key, (size_t) (slash - key) },
                               .dir = true,
                               .created = keys->index,
                               .modified = keys->index };
                int r = tree_get(keys->txn, dir.key, &there);

                if (r == -ENOENT)
                        r = tree_put(keys->txn, &dir);
                if (r < 0)
                        return r;
        }
        return tree_put(keys->txn, &(KvNode) { .key = kv_string(key),
                                               .value = kv_string(value),
                                               .created = keys->index,
                                               .modified = keys->index });
}

static int lineage_change(Tree *tree, const KvOfflineOptions *o, KvOffline *result, TreeMeta *ret,
                          Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        LineageKeys keys;
        Random random;
        int r;

        TRY(random_seed_from_system(&random));
        TRY(tree_begin_write(tree, &txn));
        TRY(leave_out(txn, o) ?: configure(txn, result->raft_id, o->address) ?: tree_meta(txn, ret));

        do
                ret->lineage = random_u64(&random);
        while (ret->lineage == 0 || ret->lineage == result->lineage);
        ret->cluster_id = result->cluster_id;
        ret->applied += KV_OFFLINE_RAISE;
        ret->configuration_index = ret->applied;
        result->new_lineage = ret->lineage;
        keys = (LineageKeys) { txn, ret->index + KV_OFFLINE_RAISE };
        TRY(o->begin ? o->begin(o->userdata, result, lineage_put, &keys, err) : 0);
        ret->index = keys.index;
        r = tree_set_meta(txn, ret) ?: tree_clear_events(txn, ret->index + 1);
        return r < 0 ? r : tree_commit(TAKE_PTR(txn));
}

static int lineage_begin(Tree *tree, const KvOfflineOptions *o, KvOffline *result, uint64_t *ret_term,
                         Error *err) {
        TreeMeta meta;
        int r;

        r = lineage_change(tree, o, result, &meta, err);
        if (r < 0 && err->message[0])
                return r;
        if (r < 0)
                return error_set(err, r, "Failed to change the copy of the tree: %s", strerror(-r));
        result->new_index = meta.index;
        *ret_term = meta.applied_term;
        return 0;
}

static int offline_describe_in_txn(TreeTxn *txn, KvOffline *ret) {
        KvBytes configuration;
        RaftServers servers;
        TreeMeta meta;
        int r;

        TRY(tree_meta(txn, &meta));
        ret->cluster_id = meta.cluster_id;
        ret->lineage = meta.lineage;
        ret->index = meta.index;
        ret->raft_index = meta.applied;
        ret->cluster_ms = meta.cluster_ms;
        ret->level = meta.level;
        ret->n_nodes = meta.n_nodes + meta.n_own_nodes;
        r = tree_configuration(txn, &configuration);
        if (r < 0 || configuration.size == 0)
                return r;
        TRY(raft_configuration_decode_servers(configuration.data, configuration.size, &servers));
        ret->n_members = servers.n;
        raft_servers_done(&servers);
        return 0;
}

static int offline_describe(Tree *tree, KvOffline *ret, Error *err) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        int r;

        r = tree_begin_read(tree, &txn);
        if (r >= 0)
                r = offline_describe_in_txn(txn, ret);
        return r < 0 ? error_set(err, r, "Failed to read the copy of the tree: %s", strerror(-r)) : 0;
}

/* -- The workshop -- */

/* A directory beside the data directory, in which copies are made. It is removed at the end in any case. */
typedef struct Workshop {
        char *parent, *name, *path;
        int parent_fd;
} Workshop;

static void workshop_done(Workshop *w) {
        if (w->parent_fd >= 0 && w->name)
                (void) remove_tree_at(w->parent_fd, w->name);
        closep(&w->parent_fd);
        free(w->parent);
        free(w->name);
        free(w->path);
}

static int workshop_open(Workshop *w, const char *beside, Error *err) {
        const char *slash = strrchr(beside, '/');
        int r;

        *w = (Workshop) { .parent_fd = -1 };
        w->parent = !slash ? strdup(".") : strndup(beside, slash == beside ? 1 : (size_t) (slash - beside));
        if (!w->parent || asprintf(&w->name, "%s.new", slash ? slash + 1 : beside) < 0 ||
            asprintf(&w->path, "%s.new", beside) < 0)
                return -ENOMEM;
        w->parent_fd = open_dir(w->parent, 0700);
        if (w->parent_fd < 0)
                return error_set(err, w->parent_fd, "Failed to open %s: %s", w->parent,
                                 strerror(-w->parent_fd));
        r = remove_tree_at(w->parent_fd, w->name);
        if (r >= 0 && mkdirat(w->parent_fd, w->name, 0700) < 0)
                r = -errno;
        return r < 0 ? error_set(err, r, "Failed to create %s: %s", w->path, strerror(-r)) : 0;
}

static int workshop_open_tree(const Workshop *w, const char *name, uint64_t quota, Tree **ret, Error *err) {
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/%s", w->path, name) < 0)
                return -ENOMEM;
        return tree_open(path, &(TreeOptions) { .quota = quota }, ret, err);
}

static int workshop_copy(const Workshop *w, Tree *tree, const char *name, Error *err) {
        _cleanup_free_ char *path = NULL;
        TreeMeta meta;

        if (asprintf(&path, "%s/%s", w->path, name) < 0)
                return -ENOMEM;
        return tree_copy(tree, path, &meta, err);
}

/* Verify 'name' in the workshop. */
static int check_backup(const Workshop *w, const char *name, const char *file, Error *err) {
        _cleanup_backup_description_ BackupDescription d = {};
        _cleanup_free_ char *path = NULL;

        if (asprintf(&path, "%s/%s", w->path, name) < 0)
                return -ENOMEM;
        return backup_tree_check(path, file, &d, err);
}

int kv_backup_verify(const char *folder, const char *file, KvOffline *ret, BackupDescription *ret_description,
                     Error *err) {
        _cleanup_backup_description_ BackupDescription d = {};
        _cleanup_(tree_closep) Tree *tree = NULL;
        KvOffline result = {};

        TRY(backup_tree_check(folder, file, &d, err)                                    ?:
                    tree_open(folder, &(TreeOptions) { .read_only = true }, &tree, err) ?:
                    offline_describe(tree, &result, err));
        *ret = result;
        *ret_description = d;
        d = (BackupDescription) {};
        return 0;
}

/* Make a data directory of the workshop, whose descriptor is 'fd'. 'term': it has no log yet; 0: it has. */
static int workshop_complete(const Workshop *w, int fd, const KvOffline *result, uint64_t term) {
        DataDir data_dir = { .fd = fd, .path = w->path, .checkpoint = { .fd = -1 } };
        int r;

        r = data_dir_write_identity(&data_dir, result->cluster_id, result->new_lineage);
        if (r >= 0 && term > 0)
                r = data_dir_write_restored(&data_dir, term);
        if (r < 0)
                return r;
        r = remove_tree_at(fd, "work");
        return r < 0 ? r : fsync_dir(fd);
}

/* Mark a failure behind the rename: the new lineage is in force. */
static int in_force(int error, Error *err) {
        (void) error_prefix(err, error, "the new lineage is in force; the next start completes it");
        return -EINPROGRESS;
}

/* Make 'tree' the checkpoint of the workshop, and rename the workshop to the data directory; one that is
 * there already is removed with the workshop. 'term': as workshop_complete()'s. */
static int put_in_place(const Workshop *w, const KvOfflineOptions *o, Tree *tree, const KvOffline *result,
                        uint64_t term, Error *err) {
        _cleanup_close_ int fd = -1;
        const char *name = strrchr(o->tree_path, '/');
        int r;

        TRY(workshop_copy(w, tree, "checkpoint", err));
        fd = openat(w->parent_fd, w->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return error_set(err, -errno, "Failed to open %s: %s", w->path, strerror(errno));
        r = workshop_complete(w, fd, result, term);
        if (r < 0)
                return error_set(err, r, "Failed to write %s: %s", w->path, strerror(-r));

        if (renameat2(w->parent_fd, w->name, w->parent_fd, name ? name + 1 : o->tree_path,
                      access(o->tree_path, F_OK) < 0 ? RENAME_NOREPLACE : RENAME_EXCHANGE) < 0)
                return error_set(err, -errno, "Failed to replace %s by %s: %s", o->tree_path, w->path,
                                 strerror(errno));
        r = fsync_dir(w->parent_fd);
        return r < 0 ? in_force(error_set(err, r, "Failed to sync %s: %s", w->parent, strerror(-r)), err) : 0;
}

/* -- Recovery, backup, restore -- */

/* Collect this host's replica in a tree beside 'beside', and describe it. */
static int offline_collect(const KvOfflineOptions *o, const char *beside, Found *found, Workshop *w,
                           Tree **ret, KvOffline *result, Error *err) {
        TRY(find(found, o, err)                                       ?:
                    workshop_open(w, beside, err)                     ?:
                    workshop_copy(w, found->tree, "work", err)        ?:
                    workshop_open_tree(w, "work", o->quota, ret, err) ?:
                                                                        offline_apply_all(*ret, found, err));
        /* A tree that the log alone has made does not hold its identity yet. */
        TRY(bootstrap_mark_tree(*ret, &found->identity, w->path, err));
        TRY(offline_describe(*ret, result, err));
        result->raft_id = found->identity.raft_id;
        return 0;
}

int kv_recover(const KvOfflineOptions *o, bool look, KvOffline *ret, Error *err) {
        _cleanup_(workshop_done) Workshop w = { .parent_fd = -1 };
        _cleanup_(found_done) Found found = { .data_dir = { .fd = -1, .checkpoint = { .fd = -1 } } };
        _cleanup_(tree_closep) Tree *tree = NULL;
        KvOffline result = {};
        uint64_t term;
        int r;

        TRY(offline_collect(o, o->tree_path, &found, &w, &tree, &result, err));
        if (look) {
                *ret = result;
                return 0;
        }

        TRY(lineage_begin(tree, o, &result, &term, err));
        TRY(put_in_place(&w, o, tree, &result, 0, err));
        data_dir_distrust(&found.data_dir); /* the old one, which is removed with the workshop */
        r = bootstrap_own_hardware(o->hardware_id, found.log, true);
        if (r < 0)
                return in_force(error_set(err, r, "Failed to write the log's meta: %s", strerror(-r)), err);
        *ret = result;
        return 0;
}

/* LMDB reports a write that the disk accepts in part as EIO. */
static bool workshop_is_full(const Workshop *w, int error) {
        uint64_t n_free, total;

        return error == -ENOSPC || error == -EDQUOT ||
               (error == -EIO && w->parent_fd >= 0 && space_at(w->parent_fd, &n_free, &total) >= 0 &&
                n_free < FULL_SIZE);
}

typedef struct Describing {
        const KvOfflineOptions *options;
        BackupDescription *description;
} Describing;

static int describe_node(void *userdata, const KvNode *node) {
        const Describing *d = userdata;
        int r = node->dir ? 0 : d->options->describe(node, d->description);

        return r < 0 ? r : 1;
}

static int describe_tree(const KvOfflineOptions *o, Tree *tree, BackupDescription *d) {
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        TreeMeta meta;

        TRY(tree_begin_read(tree, &txn));
        TRY(tree_meta(txn, &meta));
        d->cluster_ms = meta.cluster_ms;
        d->level = meta.level;
        return o->describe ?
                       tree_walk(txn, kv_string("/_fleet"), true, describe_node, &(Describing) { o, d }) :
                       0;
}

/* Add the description to the backup in the workshop, and sync it. No leader was asked. */
static int backup_describe(const KvOfflineOptions *o, const Workshop *w, Tree *tree, const KvOffline *f) {
        _cleanup_backup_description_ BackupDescription d = { .cluster_id = f->cluster_id,
                                                             .lineage = f->lineage,
                                                             .index = f->index,
                                                             .raft_index = f->raft_index,
                                                             .wall_ms = o->wall_ms,
                                                             .unconfirmed = true };
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -1;

        TRY(describe_tree(o, tree, &d));
        if (asprintf(&path, "%s/backup/data.mdb", w->path) < 0)
                return -ENOMEM;
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        TRY(backup_file_describe(fd, &d));
        return fsync(fd) < 0 ? -errno : 0;
}

/* Make a verified backup in the workshop beside 'file'. */
static int backup_prepare(const KvOfflineOptions *o, const char *file, Found *found, Workshop *w, Tree **ret,
                          KvOffline *result, Error *err) {
        int r;

        TRY(offline_collect(o, file, found, w, ret, result, err) ?: workshop_copy(w, *ret, "backup", err));
        r = backup_describe(o, w, *ret, result);
        if (r < 0)
                return error_set(err, r, "Failed to write the description of %s: %s", file, strerror(-r));
        return check_backup(w, "backup", file, err);
}

int kv_backup(const KvOfflineOptions *o, const char *file, KvOffline *ret, Error *err) {
        _cleanup_(workshop_done) Workshop w = { .parent_fd = -1 };
        _cleanup_(found_done) Found found = { .data_dir = { .fd = -1, .checkpoint = { .fd = -1 } } };
        _cleanup_(tree_closep) Tree *tree = NULL;
        _cleanup_free_ char *copy = NULL;
        KvOffline result = {};
        int r;

        TRY(backup_check_new_file(file, err));
        r = backup_prepare(o, file, &found, &w, &tree, &result, err);
        if (r < 0 && workshop_is_full(&w, r))
                return error_set(
                        err, -ENOSPC,
                        "Failed to write %s: no space left in its folder, which needs more than twice "
                        "the size of the backup meanwhile; choose another folder",
                        file);
        if (r < 0)
                return r;
        if (asprintf(&copy, "%s/backup/data.mdb", w.path) < 0)
                return -ENOMEM;
        if (renameat2(AT_FDCWD, copy, AT_FDCWD, file, RENAME_NOREPLACE) < 0)
                return error_set(err, -errno, "Failed to write %s: %s", file, strerror(errno));
        r = fsync_dir(w.parent_fd);
        if (r < 0)
                return error_set(err, r, "Failed to sync %s: %s", w.parent, strerror(-r));
        *ret = result;
        return 0;
}

/* Copy the backup to work/data.mdb. */
static int take_in(const Workshop *w, const char *file, Error *err) {
        _cleanup_close_ int in = open(file, O_RDONLY | O_CLOEXEC), out = -1;
        _cleanup_free_ char *path = NULL, *chunk = malloc(1 << 20);
        uint64_t size = 0;
        ssize_t n;

        if (in < 0)
                return error_set(err, -errno, "Failed to open %s: %s", file, strerror(errno));
        if (!chunk || asprintf(&path, "%s/work", w->path) < 0)
                return -ENOMEM;
        if (mkdir(path, 0700) < 0)
                return error_set(err, -errno, "Failed to create %s: %s", path, strerror(errno));
        free(TAKE_PTR(path));
        if (asprintf(&path, "%s/work/data.mdb", w->path) < 0)
                return -ENOMEM;
        out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (out < 0)
                return error_set(err, -errno, "Failed to create %s: %s", path, strerror(errno));
        while ((n = read(in, chunk, 1 << 20)) > 0) {
                int r = pwrite_all(out, chunk, (size_t) n, size);

                if (r < 0)
                        return error_set(err, r, "Failed to write %s: %s", path, strerror(-r));
                size += (uint64_t) n;
        }
        return n < 0 ? error_set(err, -errno, "Failed to read %s: %s", file, strerror(errno)) : 0;
}

/* Copy the backup to the workshop, verify and open it. */
static int restore_open(const Workshop *w, const KvOfflineOptions *o, const char *file, Tree **ret,
                        KvOffline *result, Error *err) {
        TRY(take_in(w, file, err)                      ?:
                    check_backup(w, "work", file, err) ?:
                                                         workshop_open_tree(w, "work", o->quota, ret, err));
        result->raft_id = BOOTSTRAP_RAFT_ID; /* of the only member of a new lineage */
        return offline_describe(*ret, result, err);
}

/* Create the log of a restored data directory. A start of the daemon does the same. */
static int restore_finish(const KvOfflineOptions *o, DataDir *data_dir, Tree **live, const KvOffline *result,
                          uint64_t term, Error *err) {
        int r;

        TRY(data_dir_open(data_dir, o->tree_path, o->machine_id, o->boot_id, o->quota, live, err));
        memcpy(data_dir->hardware_id, o->hardware_id, sizeof(data_dir->hardware_id));
        TRY(bootstrap_restored(data_dir, o->log_disk,
                               &(Identity) { .cluster_id = result->cluster_id,
                                             .lineage = result->new_lineage,
                                             .raft_id = result->raft_id },
                               term, err));
        r = data_dir_remove_restored(data_dir);
        return r < 0 ? error_set(err, r, "Failed to remove %s/restored: %s", o->tree_path, strerror(-r)) : 0;
}

int kv_read_cluster_id(const char *tree_path, uint64_t *ret) {
        _cleanup_close_ int fd = open(tree_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DataDir data_dir = { .fd = fd, .checkpoint = { .fd = -1 } };
        uint64_t lineage;

        return fd < 0 ? -errno : data_dir_read_identity(&data_dir, ret, &lineage);
}

int kv_restore_check(const KvOfflineOptions *o, Error *err) {
        uint64_t id;

        if (bootstrap_is_fresh(o->log_disk) &&
            (access(o->tree_path, F_OK) < 0 ||
             (!o->admitted && kv_read_cluster_id(o->tree_path, &id) == -ENOENT)))
                return 0;
        return error_set(err, -EEXIST,
                         "this host has the state of a cluster in %s, which a backup does not replace; to "
                         "move it to old/: systemctl stop fleetd; fleetd --reset",
                         o->tree_path);
}

int kv_restore(const KvOfflineOptions *o, const char *file, KvOffline *ret, Error *err) {
        _cleanup_(workshop_done) Workshop w = { .parent_fd = -1 };
        _cleanup_(data_dir_done) DataDir data_dir = { .fd = -1, .checkpoint = { .fd = -1 } };
        _cleanup_(tree_closep) Tree *tree = NULL, *live = NULL;
        KvOffline result = {};
        uint64_t term = 0;
        int r;

        TRY(kv_restore_check(o, err) ?: workshop_open(&w, o->tree_path, err));
        TRY(restore_open(&w, o, file, &tree, &result, err) ?: lineage_begin(tree, o, &result, &term, err));
        TRY(put_in_place(&w, o, tree, &result, MAX(term, UINT64_C(1)), err));
        r = restore_finish(o, &data_dir, &live, &result, term, err);
        if (r < 0)
                return in_force(r, err);
        *ret = result;
        return 0;
}
