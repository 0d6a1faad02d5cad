#include "fleetd/maintenance.h"

#include <fcntl.h>
#include <pwd.h>
#include <sys/stat.h>

#include "base/file.h"
#include "fleetd/creds.h"
#include "fleetd/identity/identity.h"
#include "fleetd/identity/key_file.h"
#include "fleetd/registry/kinds.h"
#include "kvstore/offline.h"

typedef struct Maintenance {
        const Settings *settings;
        KeyFile keys;          /* of a restore with the keys of the former cluster; or none */
        RemovedRecord removed; /* the tombstone of this host, which ends; {}: it has none */
} Maintenance;

static void maintenance_done(Maintenance *m) {
        key_file_wipe(&m->keys);
}

/* Return whether a key is dropped in a new lineage. */
static bool maintenance_is_moot(void *userdata, const KvNode *node) {
        Maintenance *m = userdata;
        const NewLineage lineage = { .machine_id = m->settings->machine_id,
                                     .is_restored = m->settings->restore };
        LayoutKey k;

        if (!layout_parse(node->key, &k) || !kinds[k.kind]->in_new_lineage(&lineage, &k, node->value))
                return false;
        if (k.kind == LAYOUT_REMOVED)
                (void) stored_removed_read(node->value.data, node->value.size, &m->removed, NULL);
        return true;
}

static int maintenance_check_keys(const KeyFile *keys, const char *file, const KvOffline *backup,
                                  Error *err) {
        if (keys->cluster_id == backup->cluster_id)
                return 0;
        return error_set(
                err, -EXDEV,
                "%s has the keys of cluster %016llx, the backup is of cluster %016llx; use the file that "
                "belongs to the backup, or restore without --cluster-key",
                file, (unsigned long long) keys->cluster_id, (unsigned long long) backup->cluster_id);
}

/* Store the cluster keys before the rename: after it, they must be there, and until then nothing refers to
 * them. */
static int maintenance_store_keys(const Maintenance *m, const KvOffline *begun, Error *err) {
        if (m->keys.n == 0)
                return 0;
        TRY(maintenance_check_keys(&m->keys, m->settings->restore_key, begun, err));
        return key_file_store(&m->keys, m->settings->state_directory, creds_open_file, err);
}

/* Set 'ret' to the user who runs this command on 'host': with sudo, the one who called it. "": none is known.
 */
static void maintenance_user(const char *host, char *ret, size_t size) {
        const char *caller = getenv("SUDO_USER");
        const struct passwd *user = caller && *caller ? getpwnam(caller) : NULL;

        user = user ?: getpwuid(getuid());
        if (user)
                snprintf(ret, size, "%s@%s", user->pw_name, host);
}

/* The tombstone of a compromised host ends, and its keys stay denied. */
static int maintenance_deny(const Maintenance *m, const char *pin, KvOfflinePut *put, void *puts) {
        DeniedRecord denied = { .since_ms = m->removed.since_ms };
        char key[LAYOUT_KEY_MAX];
        _cleanup_text_ Text t = {};

        if (!pin[0] || !streq(m->removed.how, CLUSTER_REMOVED_COMPROMISED))
                return 0;
        snprintf(denied.machine, sizeof(denied.machine), "%s", m->settings->machine_id);
        stored_denied_write(&t, &denied);
        return t.error ?: put(puts, layout_key(key, LAYOUT_DENIED, pin, NULL), t.chars);
}

/* Write the keys of a new lineage: the begin of the adoption, and the record of the lineage. */
static int maintenance_begin(void *userdata, const KvOffline *begun, KvOfflinePut *put, void *puts,
                             Error *err) {
        const Maintenance *m = userdata;
        const Settings *s = m->settings;
        LineageRecord record = { .index = begun->index,
                                 .kind = s->restore ? LINEAGE_RESTORED : LINEAGE_RECOVERED };
        char key[LAYOUT_KEY_MAX], name[LINEAGE_SIZE], digits[32];
        _cleanup_text_ Text t = {};
        int r;

        TRY(maintenance_store_keys(m, begun, err)                  ?:
                    maintenance_deny(m, m->removed.pin, put, puts) ?:
                    maintenance_deny(m, m->removed.pin2, put, puts));
        snprintf(digits, sizeof(digits), "%llu", (unsigned long long) begun->cluster_ms);
        r = put(puts, layout_key(key, LAYOUT_CLUSTER, CLUSTER_ADOPTING, NULL), digits);
        if (r < 0 || begun->level < KV_LEVEL_IDENTITY)
                return r;
        hex64_print(begun->new_lineage, name);
        hex64_print(begun->lineage, record.ancestor);
        snprintf(record.machine, sizeof(record.machine), "%s", s->machine_id);
        maintenance_user(s->name, record.by, sizeof(record.by));
        stored_lineage_write(&t, &record);
        return t.error ?: put(puts, layout_key(key, LAYOUT_LINEAGE, name, NULL), t.chars);
}

/* Add the name of a host, from its facts or from its member key. */
static int maintenance_describe(const KvNode *node, BackupDescription *ret) {
        _cleanup_machine_ Machine machine = {};
        MemberRecord member = {};
        const char *name = "";
        LayoutKey k;

        if (!layout_parse(node->key, &k))
                return 0;
        if (k.kind == LAYOUT_FACTS &&
            stored_facts_read(node->value.data, node->value.size, &machine, NULL) >= 0)
                name = machine.name ?: "";
        if (k.kind == LAYOUT_MEMBER &&
            stored_member_read(node->value.data, node->value.size, &member, NULL) >= 0)
                name = member.name;
        for (size_t i = 0; i < ret->n_hosts; i++)
                if (streq(ret->hosts[i], name))
                        return 0;
        return *name ? backup_description_add_host(ret, name) : 0;
}

static void maintenance_print_found(const char *what, const KvOffline *f) {
        printf("%s cluster %016llx, lineage %016llx, at index %llu (Raft's entry %llu): %llu keys and "
               "directories.\n",
               what, (unsigned long long) f->cluster_id, (unsigned long long) f->lineage,
               (unsigned long long) f->index, (unsigned long long) f->raft_index,
               (unsigned long long) f->n_nodes);
}

static void maintenance_print_cluster(const KvOffline *f) {
        printf("This host is a cluster of one now, of lineage %016llx, at index %llu.\n",
               (unsigned long long) f->new_lineage, (unsigned long long) f->new_index);
        if (!getenv(ENV_FLEETCTL))
                puts("Start fleetd on it: systemctl start fleetd. Then on each other host that has not been "
                     "reset: systemctl stop fleetd; fleetd --reset; systemctl start fleetd");
}

/* Verify 'folder'/data.mdb, a link to the file. */
static int maintenance_verify_in(const char *folder, const char *file, KvOffline *ret, Error *err) {
        _cleanup_backup_description_ BackupDescription d = {};
        _cleanup_free_ char *real = realpath(file, NULL), *link = NULL;
        int r;

        if (!real)
                return error_set(err, -errno, "Failed to open %s: %s", file, strerror(errno));
        if (asprintf(&link, "%s/data.mdb", folder) < 0)
                return -ENOMEM;
        if (symlink(real, link) < 0)
                return error_set(err, -errno, "Failed to create %s: %s", link, strerror(errno));
        r = kv_backup_verify(folder, file, ret, &d, err);
        (void) unlink(link);
        return r;
}

int maintenance_verify(const char *file, const char *key_file, Error *err) {
        const char *tmp = getenv("TMPDIR");
        _cleanup_free_ char *folder = NULL;
        KvOffline found;
        _cleanup_key_file_ KeyFile keys = {};
        int r;

        TRY(key_file ? key_file_read(key_file, &keys, err) : 0);
        if (asprintf(&folder, "%s/fleetd-XXXXXX", tmp && *tmp ? tmp : "/tmp") < 0)
                return -ENOMEM;
        if (!mkdtemp(folder))
                return error_set(err, -errno, "Failed to create %s: %s", folder, strerror(errno));
        r = maintenance_verify_in(folder, file, &found, err);
        (void) rmdir(folder);
        if (r >= 0 && key_file)
                r = maintenance_check_keys(&keys, key_file, &found, err);
        if (r >= 0)
                maintenance_print_found("Verified:", &found);
        return r;
}

static int maintenance_recover(const Settings *s, const KvOfflineOptions *options, Error *err) {
        KvOffline found;

        TRY(kv_recover(options, !s->force, &found, err));
        maintenance_print_found("This host's replica:", &found);
        if (s->force) {
                maintenance_print_cluster(&found);
                return 0;
        }
        printf("The cluster has %zu member%s. With --force this host becomes a cluster of one, of a new "
               "lineage, with its own keys:\nkeys that only other hosts have are lost, all other hosts are "
               "rejected until they join again, and watchers of\nkeys have to read them again. No unit is "
               "touched. Use it only if a majority of the voters is lost for good.\nNothing was changed.\n",
               found.n_members, plural(found.n_members));
        return 0;
}

/* -- Reset -- */

enum { RESET_ATTEMPTS_MAX = 100 };

/* Rename 'from', or do nothing if it does not exist. An earlier attempt may have moved another one there:
 * then it gets a number. */
static int reset_move(int fd, const char *from, const char *to) {
        char name[64];

        for (unsigned i = 0; i < RESET_ATTEMPTS_MAX; i++) {
                if (i == 0)
                        snprintf(name, sizeof(name), "%s", to);
                else
                        snprintf(name, sizeof(name), "%s.%u", to, i);
                if (renameat2(fd, from, fd, name, RENAME_NOREPLACE) == 0 || errno == ENOENT)
                        return 0;
                if (errno != EEXIST && errno != ENOTEMPTY)
                        return -errno;
        }
        return -EEXIST;
}

/* Move log, tree and read bound to old.new/, and make that old/N. The log goes first: a tree without its log
 * starts no replica. After a crash, the next call moves the rest to the same folder. */
static int maintenance_reset(const Settings *s, Error *err) {
        static const char *const moves[][2] = { { "raft", "old.new/raft" },
                                                { "tree", "old.new/tree" },
                                                { "agent/floor", "old.new/floor" },
                                                { "cluster", "old.new/cluster" } };
        _cleanup_close_ int fd = open(s->state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        unsigned number = 0;
        int r = fd < 0 ? -errno : 0;

        if (r == 0 && faccessat(fd, "tree", F_OK, 0) < 0 && faccessat(fd, "cluster", F_OK, 0) < 0 &&
            faccessat(fd, "old.new", F_OK, 0) < 0)
                return error_set(err, -ENOENT, "this host has no replica in %s: nothing to reset",
                                 s->state_directory);
        if (r == 0 && mkdirat(fd, "old.new", 0700) < 0 && errno != EEXIST)
                r = -errno;
        for (size_t i = 0; r == 0 && i < ELEMENTS(moves); i++)
                r = reset_move(fd, moves[i][0], moves[i][1]);
        if (r == 0)
                r = fsync_dir(fd);
        if (r < 0)
                return error_set(err, r, "Failed to move the state in %s: %s; repeat fleetd --reset",
                                 s->state_directory, strerror(-r));
        TRY(identity_keep_old(fd, s->state_directory, &number, err));
        printf("Log, tree and read bound are in %s/old/%u. No unit was touched. Start fleetd: this host "
               "joins "
               "its cluster "
               "again\nif it is configured to (Join=), else it is a cluster of one. Or restore a backup "
               "first.\n",
               s->state_directory, number);
        return 0;
}

/* -- Cluster keys -- */

int maintenance_write_keys(const Settings *s, Error *err) {
        _cleanup_key_file_ KeyFile keys = {};
        _cleanup_free_ char *tree = NULL;
        int r;

        if (asprintf(&tree, "%s/tree", s->state_directory) < 0)
                return -ENOMEM;
        TRY(key_file_collect(s->state_directory, creds_open_file, &keys, err));
        r = kv_read_cluster_id(tree, &keys.cluster_id);
        if (r < 0)
                return error_set(err, r, "Failed to read %s/identity: %s", tree, strerror(-r));
        TRY(key_file_write(s->backup_key, &keys, err));
        printf("%s has %zu key%s of cluster %016llx. With a backup, it opens the certificate authority: keep "
               "it apart "
               "from backups.\n",
               s->backup_key, keys.n, plural(keys.n), (unsigned long long) keys.cluster_id);
        return 0;
}

/* -- The operation -- */

int maintenance_run(const Settings *s, const DaemonIo *io, Error *err) {
        _cleanup_(maintenance_done) Maintenance m = { .settings = s };
        _cleanup_free_ char *tree = NULL;
        KvOfflineOptions options = { .loop = io->loop,
                                     .log_disk = io->log_disk,
                                     .quota = s->quota,
                                     .admitted = settings_has_cluster(s),
                                     .is_moot = maintenance_is_moot,
                                     .describe = maintenance_describe,
                                     .begin = maintenance_begin,
                                     .wall_ms = loop_wall_ms(io->loop),
                                     .userdata = &m };
        KvOffline found;
        int r;

        if (asprintf(&tree, "%s/tree", s->state_directory) < 0)
                return -ENOMEM;
        options.tree_path = tree;
        snprintf(options.machine_id, sizeof(options.machine_id), "%s", s->machine_id);
        snprintf(options.boot_id, sizeof(options.boot_id), "%s", io->boot_id);
        snprintf(options.hardware_id, sizeof(options.hardware_id), "%s", io->hardware_id);
        snprintf(options.address, sizeof(options.address), "%s", s->listen_peer);

        if (s->reset)
                return maintenance_reset(s, err);
        if (s->recover)
                return maintenance_recover(s, &options, err);
        if (s->backup) {
                r = kv_backup(&options, s->backup, &found, err);
                if (r >= 0)
                        maintenance_print_found("Written and verified:", &found);
                return r;
        }
        if (s->dry_run)
                return kv_restore_check(&options, err) ?: maintenance_verify(s->restore, s->restore_key, err);
        TRY(s->restore_key ? key_file_read(s->restore_key, &m.keys, err) : 0);
        r = kv_restore(&options, s->restore, &found, err);
        if (r >= 0) {
                maintenance_print_found("Restored:", &found);
                maintenance_print_cluster(&found);
        }
        return r;
}
