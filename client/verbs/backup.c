/* backup: the copy of the tree that fleetd sends, in a file that is complete and verified, or absent. And the
 * verification of an existing file, which needs no daemon: its checksum here, the tree in it by the program
 * fleetd. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "client/core/temporary.h"
#include "client/verbs/backup_check.h"
#include "client/verbs/recover.h"

enum { BACKUP_SILENCE_MS = 120000 }; /* of the daemon, which first makes the copy */

/* -- Writing -- */

/* A file beside its final name, without which it is removed. */
typedef struct BackupDraft {
        char *path; /* "" once it is renamed */
        int fd;
} BackupDraft;

static void backup_draft_done(BackupDraft *d) {
        if (d->path && d->path[0])
                (void) unlink(d->path);
        temporary_forget(d->path);
        closep(&d->fd);
        free(d->path);
}

static int draft_open(BackupDraft *d, const char *file, Error *err) {
        struct stat st;
        int r;

        if (lstat(file, &st) == 0)
                return error_set(err, -EEXIST,
                                 "%s exists: a backup does not replace a file; choose another name", file);
        if (asprintf(&d->path, "%s.new-XXXXXX", file) < 0) {
                d->path = NULL;
                return -ENOMEM;
        }
        d->fd = mkostemp(d->path, O_CLOEXEC); /* with the mode 0600 */
        if (d->fd >= 0) {
                temporary_add(d->path);
                return 0;
        }
        if (errno == ENOENT)
                r = error_set(err, -ENOENT, "Failed to create %s: its folder does not exist", file);
        else
                r = error_set(err, -errno, "Failed to create a file beside %s: %s", file, strerror(errno));
        d->path[0] = 0;
        return r;
}

static int draft_commit(BackupDraft *d, const char *file, Error *err) {
        _cleanup_close_ int folder = -1;
        const char *slash = strrchr(file, '/');
        _cleanup_free_ char *parent = slash ? strndup(file, slash == file ? 1 : (size_t) (slash - file)) :
                                              strdup(".");

        if (!parent)
                return -ENOMEM;
        folder = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fsync(d->fd) < 0 || renameat2(AT_FDCWD, d->path, AT_FDCWD, file, RENAME_NOREPLACE) < 0)
                return error_set(err, -errno, "Failed to write %s: %s", file, strerror(errno));
        temporary_forget(d->path);
        d->path[0] = 0;
        if (folder < 0 || fsync(folder) < 0)
                return error_set(err, -errno, "Failed to sync %s: %s", parent, strerror(errno));
        return 0;
}

/* Receive a backup in the draft. An answer without end does not fill the disk. */
static int receive(Client *c, const BackupDraft *draft, const char *file, Error *err) {
        _cleanup_reply_ Reply reply = {};
        struct statvfs disk;
        uint64_t limit = fstatvfs(draft->fd, &disk) < 0 ? UINT64_MAX :
                                                          disk.f_bavail * disk.f_frsize / 16 * 15;
        int r;

        r = connection_download(c->connection, "/fleet/v1/cluster/backup", draft->fd, limit,
                                BACKUP_SILENCE_MS, &reply, err);
        if (r == -ENOSPC || r == -EDQUOT || r == -EIO || r == -EFBIG)
                return error_prefix(err, r, "Failed to write %s", file);
        return r < 0 ? r : reply_check(&reply, err);
}

/* -- The verb -- */

static int print_description(const Client *c, const char *file, const BackupDescription *d, bool known) {
        _cleanup_text_ Text t = {};
        char id[HEX64_SIZE];

        if (!streq(c->options.output, "json")) {
                text_printf(&t, "%s: ", file);
                if (known)
                        backup_append_description(&t, d);
                else
                        text_append(&t, "verified; a former version wrote it, without a description");
                (void) output_built(&t);
                if (known && d->unconfirmed)
                        client_note(
                                "not confirmed by a leader: writes that this host did not have are missing");
                return t.error;
        }
        json_open(&t, NULL, '{');
        json_add_string(&t, "clusterId", known ? hex64_print(d->cluster_id, id) : NULL);
        json_add_u64(&t, "clusterTime", d->cluster_ms);
        json_add_bool(&t, "confirmed", known && !d->unconfirmed);
        json_add_string(&t, "file", file);
        json_open(&t, "hosts", '[');
        for (size_t i = 0; i < d->n_hosts; i++)
                json_add_item(&t, d->hosts[i]);
        json_close(&t, ']');
        json_add_u64(&t, "index", d->index);
        json_add_u64(&t, "level", known ? MAX(d->level, (uint64_t) 1) : 0);
        json_add_string(&t, "lineage", known ? hex64_print(d->lineage, id) : NULL);
        json_add_u64(&t, "raftIndex", d->raft_index);
        json_add_u64(&t, "time", d->wall_ms);
        json_close(&t, '}');
        return output_built(&t);
}

/* Verify the file at 'path', and print it under its name. */
static int verify(const Client *c, const char *path, const char *name, BackupDescription *ret,
                  bool *ret_known, Error *err) {
        int r;

        r = TRY(backup_read(path, ret, err));
        *ret_known = r > 0;
        r = backup_open_tree(path);
        if (r != EXIT_DONE)
                client_note("%s is no usable backup", name);
        return r;
}

static int backup_write(Client *c, const char *file, Error *err) {
        _cleanup_backup_description_ BackupDescription d = {};
        _cleanup_(backup_draft_done) BackupDraft draft = { .fd = -1 };
        bool known = false;

        TRY(draft_open(&draft, file, err));
        TRY(receive(c, &draft, file, err));
        TRY_DONE(verify(c, draft.path, file, &d, &known, err));
        TRY(draft_commit(&draft, file, err));
        return print_description(c, file, &d, known);
}

static int backup_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_backup_description_ BackupDescription d = {};
        bool known = false;
        int r;

        if (c->options.cluster_key && (n > 0 || c->options.verify))
                return client_usage(
                        "backup --cluster-key=FILE: expected no other file; make the backup by a command "
                        "of its own");
        if (c->options.cluster_key)
                return recover_write_keys(c, c->options.cluster_key, err);
        if (n != 1)
                return client_usage(c->options.verify ?
                                            "backup --verify: expected one file" :
                                            "backup: expected one file, which does not exist yet");
        if (!c->options.verify)
                return backup_write(c, args[0], err);
        r = verify(c, args[0], args[0], &d, &known, err);
        return r != EXIT_DONE ? r : print_description(c, args[0], &d, known);
}

VERB(backup, "backup", "yes json", "FILE", "Write a backup of the running cluster, and verify it",
     "The backup has all keys, units, assignments and the history, of one index, with all writes that were\n"
     "acknowledged before. The file is new, and only its owner may read it. Without a leader, it has what\n"
     "this host has, which is printed. --verify checks an existing file, without a daemon.\n"
     "--cluster-key=FILE writes the keys that a backup does not have, as root on a voter or standby.\n\n"
     "fleetctl backup /root/fleet-$(date +%F).backup\n",
     backup_run);
