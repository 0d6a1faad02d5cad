/* Backup and restore through their public interface: on stores of an ended daemon, in real folders. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/lib/test.h"
#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "base/file_checksum.h"
#include "kvstore/raft/bootstrap.h"
#include "kvstore/offline.h"
#include "kvstore/apply/history.h"
#include "tests/lib/commands.h"
#include "tests/lib/failing_database.h"
#include "tests/lib/scratch.h"
#include "tests/lib/three_hosts.h"

enum { N_KEYS = 400, PAGE = 4096 };

/* -- Calls that fail, beside those of the database -- */

static unsigned n_removals;      /* of trees of files since the test said so */
static unsigned n_renamed;       /* what was made is in its place */
static uint64_t entries_ahead;   /* the log begins so much later than it does */
static bool entries_are_unknown; /* what is in the log is of a newer version */
static bool disk_is_corrupt;     /* what was written is not what is read */

static int fails(Error *err) {
        return call_fails() ? error_set(err, -EIO, "it fails") : 0;
}

static int fails_with_errno(void) {
        if (!call_fails())
                return 0;
        errno = EIO;
        return -1;
}

#define STAND_IN(name, failure, parameters, ...)              \
        int __real_##name parameters;                         \
        int __wrap_##name parameters;                         \
        int __wrap_##name parameters {                        \
                return failure ?: __real_##name(__VA_ARGS__); \
        }

STAND_IN(mkdirat, fails_with_errno(), (int dir_fd, const char *name, mode_t mode), dir_fd, name, mode)
STAND_IN(mkdir, fails_with_errno(), (const char *name, mode_t mode), name, mode)
STAND_IN(fsync, fails_with_errno(), (int fd), fd)
STAND_IN(open_dir, fails(NULL), (const char *path, mode_t mode), path, mode)
STAND_IN(fsync_dir, fails(NULL), (int dir_fd), dir_fd)
STAND_IN(pwrite_all, fails(NULL), (int fd, const void *bytes, size_t size, uint64_t offset), fd, bytes, size,
         offset)
STAND_IN(data_dir_write_identity, fails(NULL), (const DataDir *folder, uint64_t cluster_id, uint64_t lineage),
         folder, cluster_id, lineage)
STAND_IN(random_seed_from_system, fails(NULL), (Random * random), random)
STAND_IN(file_checksum_check, disk_is_corrupt ? -EUCLEAN : fails(NULL),
         (int fd, const _Atomic bool *cancelled), fd, cancelled)
STAND_IN(bootstrap_check, fails(err),
         (const DataDir *folder, const RaftLogMeta *meta, Identity *ret, Error *err), folder, meta, ret, err)

int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags) {
        int r = fails_with_errno() ?: __real_renameat2(from_fd, from, to_fd, to, flags);

        n_renamed += r == 0;
        return r;
}

/* The last one removes the work folder, also when it fails. */
int __real_remove_tree_at(int dir_fd, const char *name);
int __wrap_remove_tree_at(int dir_fd, const char *name);
int __wrap_remove_tree_at(int dir_fd, const char *name) {
        bool counts = n_removals++ == 0 || streq(name, "work");

        return (counts ? fails(NULL) : 0) ?: __real_remove_tree_at(dir_fd, name);
}

/* The others' insides fail in tests of their own. */
#define AS_ONE(name, failure, parameters, ...)       \
        int __real_##name parameters;                \
        int __wrap_##name parameters;                \
        int __wrap_##name parameters {               \
                bool counts = failing.counts;        \
                int r = failure;                     \
                                                     \
                failing.counts = false;              \
                r = r ?: __real_##name(__VA_ARGS__); \
                failing.counts = counts;             \
                return r;                            \
        }

AS_ONE(data_dir_open, 0,
       (DataDir * folder, const char *path, const char *machine_id, const char *boot_id, uint64_t quota,
        Tree **ret, Error *err),
       folder, path, machine_id, boot_id, quota, ret, err)
AS_ONE(raft_log_open, 0,
       (Disk * disk, Loop *loop, const RaftLogOptions *options, const RaftLogEvents *events, void *userdata,
        RaftLog **ret, Error *err),
       disk, loop, options, events, userdata, ret, err)
AS_ONE(bootstrap_own_hardware, fails(NULL), (const char *hardware_id, RaftLog *log, bool change), hardware_id,
       log, change)
AS_ONE(bootstrap_restored, fails(err),
       (DataDir * folder, Disk *disk, const Identity *identity, uint64_t term, Error *err), folder, disk,
       identity, term, err)

void __real_data_dir_closed(DataDir *folder);
void __wrap_data_dir_closed(DataDir *folder);
void __wrap_data_dir_closed(DataDir *folder) {
        failing_calls_end(); /* later failures can no longer be reported */
        __real_data_dir_closed(folder);
}

int __real_raft_log_take_entries(RaftLog *log, RaftEntry **ret, size_t *ret_n, uint64_t *ret_first);
int __wrap_raft_log_take_entries(RaftLog *log, RaftEntry **ret, size_t *ret_n, uint64_t *ret_first);
int __wrap_raft_log_take_entries(RaftLog *log, RaftEntry **ret, size_t *ret_n, uint64_t *ret_first) {
        int r = __real_raft_log_take_entries(log, ret, ret_n, ret_first);

        *ret_first += entries_ahead;
        for (size_t i = 0; i < *ret_n && entries_are_unknown; i++)
                if ((*ret)[i].type == RAFT_ENTRY_COMMAND)
                        *(uint8_t *) (*ret)[i].data = 0xff;
        return r;
}

/* -- Rooms -- */

typedef struct Fixture {
        char *scratch, *file;
        ThreeHosts trio;
        KvOfflineOptions options; /* of run_offline(), in addition to the paths */
        unsigned fail_at;         /* the call of it that fails; 0: none */
} Fixture;

static int make_fixture(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);

        assert_non_null(fixture);
        fixture->scratch = scratch_new();
        fixture->file = scratch_path(fixture->scratch, "backup");
        three_hosts_new(&fixture->trio, fixture->scratch, false);
        alarm(60);
        *state = fixture;
        return 0;
}

static int end_fixture(void **state) {
        Fixture *fixture = *state;

        three_hosts_free(&fixture->trio);
        free(fixture->file);
        scratch_free(fixture->scratch);
        free(fixture);
        alarm(0);
        return 0;
}

static ThreeHostsHost *open_host(Fixture *fixture, unsigned number) {
        ThreeHostsHost *h = &fixture->trio.hosts[number];
        Error err = {};
        int r = three_hosts_open(&fixture->trio, number, false, &err);

        if (r < 0)
                fail_msg("host %u: %s", number, error_text(&err, r));
        assert_true(three_hosts_until(&fixture->trio, three_hosts_is_led, h));
        return h;
}

/* The key that host 0 has as the last of so many. */
static void fill(Fixture *fixture, unsigned n) {
        ThreeHostsHost *h = open_host(fixture, 0);
        char key[32];

        for (unsigned i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "/many/%u", i);
                assert_int_equal(
                        three_hosts_put(h, key,
                                        "a value of some length, so that there are pages enough to be "
                                        "damaged, one by one"),
                        KV_OK);
        }
        three_hosts_close(&fixture->trio, 0);
}

/* What a daemon's opener does with options that name host 'number', in another boot than any daemon's. */
static int run_offline(Fixture *fixture, unsigned number,
                       int (*run)(const KvOfflineOptions *o, const char *file, KvOffline *ret, Error *err),
                       const char *file, KvOffline *ret, Error *err) {
        ThreeHostsHost *h = &fixture->trio.hosts[number];
        KvOfflineOptions o = fixture->options;
        int r;

        o.loop = fixture->trio.loop;
        o.tree_path = h->tree_path;
        assert_int_equal(disk_real_open(h->raft_path, &o.log_disk), 0);
        snprintf(o.machine_id, sizeof(o.machine_id), "%032x", number + 0xa0);
        snprintf(o.boot_id, sizeof(o.boot_id), "%032x", 99);
        if (fixture->fail_at > 0)
                failing_call(fixture->fail_at, EIO);
        r = run(&o, file, ret, err);
        failing_calls_end();
        disk_real_close(o.log_disk);
        return r;
}

static void must(Fixture *fixture, unsigned number,
                 int (*run)(const KvOfflineOptions *o, const char *file, KvOffline *ret, Error *err),
                 KvOffline *ret) {
        Error err = {};
        int r = run_offline(fixture, number, run, fixture->file, ret, &err);

        if (r < 0)
                fail_msg("%s", error_text(&err, r));
}

typedef int (*Run)(const KvOfflineOptions *o, const char *file, KvOffline *ret, Error *err);

static void assert_says(Fixture *fixture, unsigned number, Run run, const char *file, int error,
                        const char *message) {
        KvOffline ret = {};
        Error err = {};

        assert_int_equal(run_offline(fixture, number, run, file, &ret, &err), error);
        if (!strstr(err.message, message))
                fail_msg("'%s' is not in '%s'", message, err.message);
        assert_int_equal(ret.cluster_id, 0);
}

static void a_backup_from_before_the_first_checkpoint_is_restored(void **state) {
        Fixture *fixture = *state;
        KvOffline saved = {}, restored = {};
        char value[512];
        ThreeHostsHost *h;

        fill(fixture, N_KEYS);
        must(fixture, 0, kv_backup, &saved);
        assert_true(saved.cluster_id != 0 && saved.lineage != 0 && saved.raft_id == 1);
        assert_true(saved.n_nodes > N_KEYS);

        must(fixture, 1, kv_restore, &restored);
        assert_true(restored.cluster_id == saved.cluster_id && restored.lineage == saved.lineage);
        assert_true(restored.new_lineage != saved.lineage);
        h = open_host(fixture, 1);
        assert_true(starts_with(three_hosts_get(h, "/many/399", value), "a value"));
        assert_int_equal(three_hosts_put(h, "/after", "1"), KV_OK);
}

static void write_at(const char *file, const void *bytes, size_t size, off_t offset) {
        _cleanup_close_ int fd = open(file, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, bytes, size, offset), size);
}

static void assert_refused(Fixture *fixture, int error, const char *message) {
        KvOffline ret = {};
        Error err = {};

        assert_int_equal(run_offline(fixture, 1, kv_restore, fixture->file, &ret, &err), error);
        assert_non_null(strstr(err.message, message));
        assert_int_equal(access(fixture->trio.hosts[1].tree_path, F_OK),
                         -1); /* and another one can still be restored */
}

/* A wiped host that was booted, and waits for admission: it has no log, and a tree without a cluster. */
static void a_backup_replaces_the_state_of_a_host_that_waits_for_admission(void **state) {
        Fixture *fixture = *state;
        KvOffline ret = {};
        char value[512];
        ThreeHostsHost *h;

        fill(fixture, 1);
        must(fixture, 0, kv_backup, &ret);
        assert_int_equal(three_hosts_open(&fixture->trio, 1, true, &(Error) {}), 0);
        three_hosts_close(&fixture->trio, 1);
        assert_int_equal(access(fixture->trio.hosts[1].tree_path, F_OK), 0);

        fixture->options.admitted = true; /* an attached host has no more on disk than that */
        assert_says(fixture, 1, kv_restore, fixture->file, -EEXIST, "this host has the state of a cluster");
        fixture->options.admitted = false;
        must(fixture, 1, kv_restore, &ret);
        h = open_host(fixture, 1);
        assert_true(starts_with(three_hosts_get(h, "/many/0", value), "a value"));
}

static void a_backup_with_a_damaged_page_is_refused_before_it_is_followed(void **state) {
        Fixture *fixture = *state;
        KvOffline ret = {};
        struct stat st;

        fill(fixture, N_KEYS);
        must(fixture, 0, kv_backup, &ret);
        assert_int_equal(stat(fixture->file, &st), 0);
        assert_true(st.st_size > 20 * PAGE);

        for (off_t page = 0; page < st.st_size; page += PAGE) {
                uint8_t was[2], is[2];
                _cleanup_close_ int fd = open(fixture->file, O_RDONLY | O_CLOEXEC);
                off_t at = page + 10 +
                           (page / PAGE % 3) * 2; /* flags, and where the free space of the page lies */

                assert_int_equal(pread(fd, was, sizeof(was), at), sizeof(was));
                is[0] = was[0] ^ 0x5a;
                is[1] = was[1] ^ 0x81;
                write_at(fixture->file, is, sizeof(is), at);
                assert_refused(fixture, -EUCLEAN, "is corrupt: checksum mismatch");
                write_at(fixture->file, was, sizeof(was), at);
        }
        must(fixture, 1, kv_restore, &ret); /* that was all that was wrong with it */
}

static void what_is_no_whole_backup_is_refused(void **state) {
        Fixture *fixture = *state;
        KvOffline ret = {};
        struct stat st;

        fill(fixture, N_KEYS);
        must(fixture, 0, kv_backup, &ret);
        assert_int_equal(stat(fixture->file, &st), 0);
        for (off_t size = st.st_size - 1; size > 0; size /= 3) {
                assert_int_equal(truncate(fixture->file, size), 0);
                assert_refused(fixture, -EINVAL, "is not a backup, or truncated");
        }
        assert_int_equal(truncate(fixture->file, 0), 0);
        assert_refused(fixture, -EINVAL, "is not a backup");
}

static void a_backup_that_exists_is_not_overwritten(void **state) {
        Fixture *fixture = *state;
        KvOffline ret = {};
        Error err = {};

        fill(fixture, 3);
        scratch_write(fixture->file, "precious");
        assert_int_equal(run_offline(fixture, 0, kv_backup, fixture->file, &ret, &err), -EEXIST);
        assert_int_equal(ret.cluster_id, 0);
}

/* Nothing is created or removed but the backup itself. */
static void a_backup_is_written_in_a_folder_that_exists(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *folder = scratch_path(fixture->scratch, "absent"),
                            *inside = scratch_path(fixture->scratch, "absent/backup"),
                            *workshop = scratch_path(fixture->scratch, "backup.new"), *below = NULL;
        KvOffline ret = {};
        struct stat st;

        fill(fixture, 3);
        assert_says(fixture, 0, kv_backup, inside, -ENOENT,
                    "absent: No such file or directory; create it first");
        assert_int_equal(access(folder, F_OK), -1);
        scratch_write(folder, "a file");
        assert_says(fixture, 0, kv_backup, inside, -ENOTDIR, "absent is not a folder");

        scratch_write(workshop, "another backup");
        assert_says(fixture, 0, kv_backup, fixture->file, -EEXIST,
                    "backup.new exists, in which a backup would be prepared");
        assert_int_equal(stat(workshop, &st), 0);
        assert_int_equal(unlink(workshop), 0);

        must(fixture, 0, kv_backup, &ret);
        assert_int_equal(stat(fixture->file, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(access(workshop, F_OK), -1);
        assert_true(asprintf(&below, "%s/x", fixture->file) > 0);
        assert_says(fixture, 0, kv_backup, below, -ENOTDIR, "backup is not a folder");
}

static void a_backup_that_cannot_be_read_back_is_no_success(void **state) {
        Fixture *fixture = *state;
        KvOffline ret = {};

        fill(fixture, 3);
        disk_is_corrupt = true;
        assert_says(fixture, 0, kv_backup, fixture->file, -EUCLEAN, "backup is corrupt: checksum mismatch");
        disk_is_corrupt = false;
        assert_int_equal(access(fixture->file, F_OK), -1);
        must(fixture, 0, kv_backup, &ret);
}

static void a_backup_is_not_restored_beside_a_log(void **state) {
        static const char *const names[] = { "meta.b", "log.00000001" };
        Fixture *fixture = *state;
        KvOffline ret = {};
        char file[300];

        fill(fixture, 3);
        must(fixture, 0, kv_backup, &ret);
        assert_int_equal(mkdir(fixture->trio.hosts[1].raft_path, 0700), 0);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                snprintf(file, sizeof(file), "%s/%s", fixture->trio.hosts[1].raft_path, names[i]);
                scratch_write(file, "x");
                assert_refused(fixture, -EEXIST, "this host has the state of a cluster in ");
                assert_int_equal(unlink(file), 0);
        }
        must(fixture, 1, kv_restore, &ret);
}

/* -- A backup that the test writes -- */

enum { INDEX = 100, APPLIED = 50, CLUSTER = 0xabc, LINEAGE = 0xdef, CLUSTER_MS = 123456 };

#define MARK "/_fleet/new/mark"

static void write_backup_of(Fixture *fixture, uint64_t cluster_id, unsigned level) {
        static const struct {
                const char *key;
                bool dir;
        } nodes[] = { { "/_fleet", true },         { "/_fleet/moot", true },  { "/_fleet/moot/a", false },
                      { "/_fleet/moot/b", false }, { "/_fleet/kept", false }, { "/moot", false } };
        _cleanup_free_ char *path = scratch_path(fixture->scratch, "written"),
                            *copy = scratch_path(fixture->scratch, "copied"), *data = NULL;
        TreeMeta meta = { .index = INDEX,
                          .applied = APPLIED,
                          .applied_term = 7,
                          .cluster_ms = CLUSTER_MS,
                          .cluster_id = cluster_id,
                          .lineage = LINEAGE,
                          .level = level };
        TreeTxn *txn;
        Tree *tree;

        assert_int_equal(tree_open(path, &(TreeOptions) {}, &tree, NULL), 0);
        assert_int_equal(tree_begin_write(tree, &txn), 0);
        for (size_t i = 0; i < ELEMENTS(nodes); i++)
                assert_int_equal(tree_put(txn, &(KvNode) { .key = kv_string(nodes[i].key),
                                                           .dir = nodes[i].dir,
                                                           .created = 1,
                                                           .modified = 1 }),
                                 0);
        assert_int_equal(tree_add_event(txn, TREE_WINDOW_USERS, 99, kv_string("event"), 10), 0);
        assert_int_equal(history_add(txn, 97, &(KvNote) { 1000, kv_string("started") }), 0);
        assert_int_equal(history_add(txn, 98, &(KvNote) { 2000, kv_string("failed") }), 0);
        assert_int_equal(tree_set_meta(txn, &meta), 0);
        assert_int_equal(tree_commit(txn), 0);
        assert_int_equal(tree_copy(tree, copy, &meta, NULL), 0);
        tree_close(tree);
        assert_true(asprintf(&data, "%s/data.mdb", copy) > 0);
        assert_int_equal(rename(data, fixture->file), 0);
        assert_int_equal(rmdir(copy), 0);
        assert_int_equal(remove_tree_at(AT_FDCWD, path), 0);
}

static void write_backup(Fixture *fixture, uint64_t cluster_id) {
        write_backup_of(fixture, cluster_id, KV_LEVEL_HISTORY);
}

/* What is in a backup, which becomes a tree again. */
static Tree *read_backup(Fixture *fixture, const char *file) {
        _cleanup_free_ char *path = scratch_path(fixture->scratch, "read"), *data = NULL;
        Tree *tree;

        assert_int_equal(mkdir(path, 0700), 0);
        assert_true(asprintf(&data, "%s/data.mdb", path) > 0);
        assert_int_equal(rename(file, data), 0);
        assert_int_equal(tree_open(path, &(TreeOptions) { .read_only = true }, &tree, NULL), 0);
        return tree;
}

static int begin(void *userdata, const KvOffline *begun, KvOfflinePut *put, void *puts, Error *err) {
        char value[64];
        int r;

        snprintf(value, sizeof(value), "%llu", (unsigned long long) begun->cluster_ms);
        r = put(puts, MARK, value);
        if (r < 0)
                return r;
        snprintf(value, sizeof(value), "%llu at level %llu", (unsigned long long) begun->lineage,
                 (unsigned long long) begun->level);
        assert_true(begun->new_lineage != 0 && begun->new_lineage != begun->lineage);
        return put(puts, MARK "s", value);
}

static bool is_moot(void *userdata, const KvNode *node) {
        ++*(unsigned *) userdata;
        assert_false(node->dir);
        return memmem(node->key.data, node->key.size, "moot", 4);
}

static void remove_host(Fixture *fixture, unsigned number) {
        ThreeHostsHost *h = &fixture->trio.hosts[number];

        assert_int_equal(remove_tree_at(AT_FDCWD, h->tree_path), 0);
        assert_int_equal(remove_tree_at(AT_FDCWD, h->raft_path), 0);
}

static bool has_value(TreeTxn *txn, const char *key, const char *value, uint64_t index) {
        KvNode node;

        return tree_get(txn, kv_string(key), &node) == 0 && kv_bytes_equal(node.value, kv_string(value)) &&
               node.created == index && node.modified == index && node.dir == !*value;
}

static int recover(const KvOfflineOptions *o, const char *file, KvOffline *ret, Error *err) {
        return kv_recover(o, false, ret, err);
}

static int look(const KvOfflineOptions *o, const char *file, KvOffline *ret, Error *err) {
        return kv_recover(o, true, ret, err);
}

static void a_new_lineage_is_raised_marked_and_without_what_is_moot(void **state) {
        Fixture *fixture = *state;
        KvOffline restored = {}, saved = {}, seen = {}, recovered = {};
        unsigned n_asked = 0;
        const uint64_t index = INDEX + KV_OFFLINE_RAISE + 2;
        TreeTxn *txn;
        TreeMeta meta;
        KvBytes configuration;
        KvNode node;
        Tree *tree;

        write_backup(fixture, CLUSTER);
        fixture->options = (KvOfflineOptions) {
                .is_moot = is_moot, .userdata = &n_asked, .begin = begin, .address = "10.0.0.7:1"
        };
        must(fixture, 1, kv_restore, &restored);
        assert_int_equal(n_asked, 3); /* files of ours */
        assert_true(restored.cluster_id == CLUSTER && restored.lineage == LINEAGE);
        assert_int_equal(restored.index, INDEX);
        assert_int_equal(restored.raft_index, APPLIED);
        assert_int_equal(restored.raft_id, 1);
        assert_int_equal(restored.n_nodes, 6);
        assert_int_equal(restored.n_members, 0);
        assert_int_equal(restored.new_index, index);
        assert_true(restored.new_lineage != 0 && restored.new_lineage != LINEAGE);

        must(fixture, 1, look, &seen);
        assert_int_equal(seen.new_index, 0);
        assert_true(seen.new_lineage == 0 && seen.lineage == restored.new_lineage &&
                    seen.cluster_id == CLUSTER);
        assert_int_equal(seen.raft_id, 1);
        assert_int_equal(unlink(fixture->file), 0);
        must(fixture, 1, kv_backup, &saved);
        assert_true(saved.lineage == restored.new_lineage && saved.cluster_id == CLUSTER);
        assert_int_equal(saved.index, index);
        assert_int_equal(saved.raft_index, APPLIED + KV_OFFLINE_RAISE);
        assert_int_equal(saved.raft_id, 1);
        assert_int_equal(saved.n_members, 1);
        assert_int_equal(saved.n_nodes, 6 - 2 + 3); /* and both marks, with their directory */
        assert_int_equal(saved.new_index, 0);

        tree = read_backup(fixture, fixture->file);
        assert_int_equal(tree_begin_read(tree, &txn), 0);
        assert_int_equal(tree_meta(txn, &meta), 0);
        assert_true(has_value(txn, MARK, "123456", index - 1));
        assert_true(has_value(txn, MARK "s", "3567 at level 4", index));
        assert_true(has_value(txn, "/_fleet/new", "", index - 1));
        assert_true(has_value(txn, "/_fleet", "", 1));
        assert_int_equal(tree_get(txn, kv_string("/_fleet/moot/a"), &node), -ENOENT);
        assert_int_equal(tree_get(txn, kv_string("/_fleet/moot"), &node), 0);
        assert_int_equal(tree_get(txn, kv_string("/moot"), &node), 0);
        assert_int_equal(meta.configuration_index, APPLIED + KV_OFFLINE_RAISE);
        assert_int_equal(meta.applied_term, 7);
        assert_int_equal(meta.cluster_ms, CLUSTER_MS);
        for (unsigned i = 0; i < _TREE_WINDOW_MAX; i++) {
                assert_int_equal(meta.windows[i].n, 0);
                assert_int_equal(meta.windows[i].oldest, index + 1);
        }
        assert_int_equal(tree_configuration(txn, &configuration), 0);
        assert_non_null(memmem(configuration.data, configuration.size, "10.0.0.7:1", 10));
        tree_abort(txn);
        tree_close(tree);

        /* Without an address and a mark; from here on nothing is moot. */
        fixture->options = (KvOfflineOptions) {};
        must(fixture, 1, recover, &recovered);
        assert_true(recovered.lineage == restored.new_lineage && recovered.new_lineage != recovered.lineage &&
                    recovered.new_lineage != 0);
        assert_int_equal(recovered.new_index, index + KV_OFFLINE_RAISE);
        assert_int_equal(recovered.index, index);
        assert_int_equal(recovered.raft_id, 1);
}

static int print_row(void *userdata, const KvHistoryRow *row) {
        text_printf(userdata, "%llu: %.*s %llu..%llu x%llu\n", (unsigned long long) row->index,
                    (int) row->body.size, (const char *) row->body.data, (unsigned long long) row->first_ms,
                    (unsigned long long) row->last_ms, (unsigned long long) row->count);
        return 1;
}

static void assert_history(Fixture *fixture, const char *expected) {
        _cleanup_text_ Text rows = {};
        ThreeHostsHost *h = open_host(fixture, 1);

        assert_int_equal(kv_local_history(h->store, 0, false, print_row, &rows), 0);
        assert_string_equal(rows.chars, expected);
        three_hosts_close(&fixture->trio, 1);
}

static bool note_came(void *userdata) {
        return *(KvStatus *) userdata != _KV_STATUS_MAX;
}

static void on_noted(void *userdata, const KvResult *result) {
        *(KvStatus *) userdata = result->status;
}

static void note_start(Fixture *fixture, uint64_t wall_ms) {
        KvCommand cmd = COMMAND(KV_SET, "/_fleet/kept", .internal = true,
                                .note = { wall_ms, kv_string("started") });
        ThreeHostsHost *h = open_host(fixture, 1);
        KvStatus status = _KV_STATUS_MAX;

        assert_int_equal(kv_propose(h->store, &cmd, on_noted, &status, NULL), 0);
        assert_true(three_hosts_until(&fixture->trio, note_came, &status));
        assert_int_equal(status, KV_OK);
        three_hosts_close(&fixture->trio, 1);
}

static void the_history_survives_restore_and_recovery_and_goes_on(void **state) {
        Fixture *fixture = *state;
        KvOffline restored = {}, recovered = {}, saved = {};
        char expected[200];

        write_backup(fixture, CLUSTER);
        must(fixture, 1, kv_restore, &restored);
        assert_history(fixture, "97: started 1000..1000 x1\n98: failed 2000..2000 x1\n");
        note_start(fixture, 5000);
        snprintf(expected, sizeof(expected), "98: failed 2000..2000 x1\n%llu: started 1000..5000 x2\n",
                 (unsigned long long) restored.new_index + 1);
        assert_history(fixture, expected);
        must(fixture, 1, recover, &recovered);
        assert_history(fixture, expected);
        assert_int_equal(unlink(fixture->file), 0);
        must(fixture, 1, kv_backup, &saved);
        remove_host(fixture, 1);
        must(fixture, 1, kv_restore, &restored);
        assert_history(fixture, expected);
}

static void each_refusal_says_what_is_wrong(void **state) {
        Fixture *fixture = *state;
        ThreeHostsHost *h = &fixture->trio.hosts[1];
        KvOffline ret = {};
        _cleanup_free_ char *other = scratch_path(fixture->scratch, "other");

        assert_says(fixture, 1, kv_backup, fixture->file, -ENOENT, "this host has no replica: cannot find ");
        assert_says(fixture, 1, look, NULL, -ENOENT, "this host has no replica: cannot find ");
        assert_says(fixture, 1, kv_restore, fixture->file, -ENOENT, "Failed to open ");
        assert_says(fixture, 1, kv_restore, fixture->scratch, -EISDIR, "Failed to read ");
        write_backup(fixture, 0);
        assert_says(fixture, 1, kv_restore, fixture->file, -EINVAL,
                    "backup is not a backup: it has no cluster ID");
        assert_int_equal(unlink(fixture->file), 0);
        write_backup_of(fixture, CLUSTER, KV_LEVEL_MAX + 1);
        assert_says(fixture, 1, kv_restore, fixture->file, -ENOTSUP,
                    "backup was written by a newer fleetd; upgrade this host");
        assert_int_equal(unlink(fixture->file), 0);

        write_backup(fixture, CLUSTER);
        must(fixture, 1, kv_restore, &ret);
        assert_says(
                fixture, 1, kv_restore, fixture->file, -EEXIST,
                "/tree1, which a backup does not replace; to move it to old/: systemctl stop fleetd; fleetd "
                "--reset");
        entries_ahead = 2 * KV_OFFLINE_RAISE;
        assert_says(
                fixture, 1, kv_backup, other, -EUCLEAN,
                "/tree1 ends with entry 4294967346, but the log begins with 8589934593: entries are missing");
        entries_ahead = 0;
        assert_int_equal(remove_tree_at(AT_FDCWD, h->raft_path), 0);
        assert_says(fixture, 1, kv_backup, other, -ENOENT,
                    "this host has no replica: there is no log beside ");
        assert_int_equal(access(other, F_OK), -1);
}

static void an_entry_that_cannot_be_read_ends_it(void **state) {
        Fixture *fixture = *state;
        KvOffline ret = {};
        Error err = {};
        int r;

        fill(fixture, 3);
        entries_are_unknown = true;
        r = run_offline(fixture, 0, kv_backup, fixture->file, &ret, &err);
        entries_are_unknown = false;
        assert_true(r < 0);
        assert_non_null(strstr(err.message, "Failed to apply entry "));
        assert_int_equal(access(fixture->file, F_OK), -1);
        must(fixture, 0, kv_backup, &ret);
}

/* The first, second, third ... call fails: that is said, and nothing is left but what was there. */
static void sweep(Fixture *fixture, const char *name, const char *file, Run run) {
        unsigned n = 0, n_in_force = 0;
        int r;

        fixture->options = (KvOfflineOptions) { .is_moot = is_moot,
                                                .userdata = &(unsigned) { 0 },
                                                .begin = begin };
        do {
                KvOffline ret = {};
                Error err = {};

                if (n_renamed > 0 && run != kv_backup) { /* until then nothing has changed */
                        remove_host(fixture, 1);
                        if (run != kv_restore)
                                must(fixture, 1, kv_restore, &(KvOffline) {});
                }
                n_removals = n_renamed = 0;
                fixture->fail_at = ++n;
                r = run_offline(fixture, 1, run, file, &ret, &err);
                fixture->fail_at = 0;
                if (r != (!failing.failed                   ? 0 :
                          n_renamed > 0 && run != kv_backup ? -EINPROGRESS :
                                                              -EIO) &&
                    !(failing.failed && r == -EUCLEAN && strstr(err.message, "corrupt")))
                        fail_msg("%s, call %u%s: %d: %s", name, n, failing.failed ? " failed" : "s", r,
                                 err.message);
                if (r == -EINPROGRESS && !strstr(err.message, "the new lineage is in force"))
                        fail_msg("%s, call %u: %s", name, n, err.message);
                n_in_force += r == -EINPROGRESS;
                if (failing.failed && (!err.message[0] || ret.cluster_id != 0))
                        fail_msg("%s, call %u failed, which is not said", name, n);
                if (run == kv_backup)
                        (void) unlink(file);
        } while (failing.failed && n < 2000);
        assert_in_range(n, 50, 1000);
        assert_int_equal(n_in_force > 0, run != kv_backup);
}

static void each_call_that_fails_is_said(void **state) {
        _cleanup_free_ char *other = scratch_path(((Fixture *) *state)->scratch, "other");
        Fixture *fixture = *state;

        write_backup(fixture, CLUSTER);
        sweep(fixture, "restore", fixture->file, kv_restore);
        sweep(fixture, "backup", other, kv_backup);
        sweep(fixture, "recover", NULL, recover);
}

#define in_a_fixture(f) cmocka_unit_test_setup_teardown(f, make_fixture, end_fixture)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_fixture(a_backup_from_before_the_first_checkpoint_is_restored),
                in_a_fixture(a_backup_replaces_the_state_of_a_host_that_waits_for_admission),
                in_a_fixture(a_backup_with_a_damaged_page_is_refused_before_it_is_followed),
                in_a_fixture(what_is_no_whole_backup_is_refused),
                in_a_fixture(a_backup_that_exists_is_not_overwritten),
                in_a_fixture(a_backup_is_written_in_a_folder_that_exists),
                in_a_fixture(a_backup_that_cannot_be_read_back_is_no_success),
                in_a_fixture(a_backup_is_not_restored_beside_a_log),
                in_a_fixture(a_new_lineage_is_raised_marked_and_without_what_is_moot),
                in_a_fixture(the_history_survives_restore_and_recovery_and_goes_on),
                in_a_fixture(each_refusal_says_what_is_wrong),
                in_a_fixture(an_entry_that_cannot_be_read_ends_it),
                in_a_fixture(each_call_that_fails_is_said),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
