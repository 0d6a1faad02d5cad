/* The folder of the tree where calls of the system fail: each failure is returned with its reason, nothing is
 * left open, and the state that was durable before is there afterwards. */
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "kvstore/raft/bootstrap.h"
#include "tests/lib/alloc.h"
#include "kvstore/raft/replica.h"
#include "tests/lib/data_dir_fixture.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/scratch.h"
#include "tests/lib/tree_file.h"

/* -- Calls that fail -- */

/* Every call of that function on a path that ends so fails; NULL: none. */
static struct {
        const char *call, *path;
        unsigned n;
} fault;

static void fail_calls(const char *call, const char *path) {
        fault.call = call;
        fault.path = path;
        fault.n = 0;
}

static bool fails(const char *call, int dir_fd, const char *name) {
        char path[1024] = "", link[64];
        size_t size = 0;

        if (!fault.call || !streq(fault.call, call))
                return false;
        if (dir_fd >= 0) {
                ssize_t n;

                snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
                n = readlink(link, path, sizeof(path) / 2);
                size = n > 0 ? (size_t) n : 0;
        }
        snprintf(path + size, sizeof(path) - size, "%s%s", name ? "/" : "", name ?: "");
        if (!ends_with(path, fault.path))
                return false;
        fault.n++;
        errno = EIO;
        return true;
}

#define WRAP(name, parameters, dir_fd, path, arguments)                           \
        int __real_##name parameters;                                             \
        int __wrap_##name parameters;                                             \
        int __wrap_##name parameters {                                            \
                return fails(#name, dir_fd, path) ? -1 : __real_##name arguments; \
        }

WRAP(fsync, (int fd), fd, NULL, (fd))
WRAP(fstat, (int fd, struct stat *st), fd, NULL, (fd, st))
WRAP(fstatat, (int fd, const char *name, struct stat *st, int flags), fd, name, (fd, name, st, flags))
WRAP(ftruncate, (int fd, off_t size), fd, NULL, (fd, size))
WRAP(mkdirat, (int fd, const char *name, mode_t mode), fd, name, (fd, name, mode))
WRAP(unlinkat, (int fd, const char *name, int flags), fd, name, (fd, name, flags))
WRAP(renameat, (int from_fd, const char *from, int fd, const char *name), fd, name, (from_fd, from, fd, name))

ssize_t __real_pread(int fd, void *bytes, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *bytes, size_t size, off_t offset);
ssize_t __wrap_pread(int fd, void *bytes, size_t size, off_t offset) {
        return fails("pread", fd, NULL) ? -1 : __real_pread(fd, bytes, size, offset);
}

ssize_t __real_pwrite(int fd, const void *bytes, size_t size, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t size, off_t offset) {
        return fails("pwrite", fd, NULL) ? -1 : __real_pwrite(fd, bytes, size, offset);
}

static mode_t mode_of(int flags, va_list ap) {
        return flags & O_CREAT ? va_arg(ap, mode_t) : 0;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return fails("open", -1, path) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int fd, const char *name, int flags, ...);
int __wrap_openat(int fd, const char *name, int flags, ...);
int __wrap_openat(int fd, const char *name, int flags, ...) {
        mode_t mode;
        va_list ap;

        va_start(ap, flags);
        mode = mode_of(flags, ap);
        va_end(ap);
        return fails("openat", fd, name) ? -1 : __real_openat(fd, name, flags, mode);
}

/* -- A folder -- */

#define CONFIGURATION "the configuration"

static void put_configuration(Fixture *r) {
        TreeMeta meta;
        TreeTxn *txn;

        assert_int_equal(tree_begin_write(r->tree, &txn), 0);
        assert_int_equal(tree_meta(txn, &meta), 0);
        meta.applied_term = 4;
        meta.configuration_index = 3;
        assert_int_equal(tree_set_meta(txn, &meta), 0);
        assert_int_equal(tree_set_configuration(txn, kv_string(CONFIGURATION)), 0);
        assert_int_equal(tree_commit(txn), 0);
}

static void assert_state(const Checkpoint *c, uint64_t index) {
        assert_int_equal(c->meta.applied, index);
        assert_int_equal(c->meta.applied_term, 4);
        assert_int_equal(c->meta.configuration_index, 3);
        assert_int_equal(c->configuration_size, strlen(CONFIGURATION));
        assert_memory_equal(c->configuration, CONFIGURATION, c->configuration_size);
}

static void make_dir_in(const Fixture *r, const char *name) {
        _cleanup_free_ char *path = scratch_path(r->path, name);

        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
}

static void prepare(Fixture *r) {
        assert_int_equal(data_dir_serve(&r->folder), 0);
        fixture_make_file(r, "live/witness", "x");
        make_dir_in(r, "checkpoint.new");
        make_dir_in(r, "old");
}

/* A new one, whose tree and checkpoint are at 7, shown, and with files in each place that is cleared. */
static void begin(Fixture *r) {
        static unsigned n;
        char name[16];

        fixture_crash(r);
        snprintf(name, sizeof(name), "tree%u", ++n);
        free(r->path);
        r->path = scratch_path(r->scratch, name);
        fixture_open(r);
        fixture_put(r, 7, "mine");
        put_configuration(r);
        fixture_checkpoint(r);
        prepare(r);
}

static int reopen(Fixture *r, Error *err) {
        fixture_stop(r);
        make_dir_in(r, "incoming");
        return fixture_try_open(r, err);
}

static int reopen_after_boot(Fixture *r, Error *err) {
        fixture_stop(r);
        r->boot++;
        return fixture_try_open(r, err);
}

static int reopen_by_hand(Fixture *r, Error *err) {
        copy_error = EXDEV;
        return reopen_after_boot(r, err);
}

static int copy(Fixture *r, Error *err) {
        Checkpoint c = { .fd = -1 };
        int e = data_dir_copy(&r->folder, r->tree, &c, err);

        checkpoint_done(&c);
        return e;
}

static int probe(Fixture *r, Error *err) {
        return data_dir_probe(&r->folder, r->tree, err);
}

static int rebuild(Fixture *r, Error *err) {
        bool corrupt = true;
        Tree *tree = NULL;
        int e = data_dir_rebuild(&r->folder, &tree, &corrupt, err);

        assert_false(e == 0 && corrupt);
        assert_int_equal(e == 0, tree != NULL);
        tree_close(tree);
        return e;
}

static int open_incoming(Fixture *r, Error *err) {
        int fd;

        make_dir_in(r, "incoming");
        fd = data_dir_incoming_open(&r->folder);
        if (fd < 0)
                return fd;
        close(fd);
        return 0;
}

/* Puts our own tree, at 9, there. */
static void receive_tree(Fixture *r, const char *call, const char *path) {
        _cleanup_free_ char *bytes = NULL;
        size_t size;
        int fd;

        alloc_pause(true);
        fail_calls(NULL, NULL);
        fixture_put(r, 9, "theirs");
        fd = data_dir_incoming_open(&r->folder);
        assert_true(fd >= 0);
        assert_int_equal(copy(r, NULL), 0);
        bytes = fixture_read(r, "checkpoint/data.mdb", &size);
        assert_int_equal(pwrite_all(fd, bytes, size, 0), 0);
        close(fd);
        fail_calls(call, path);
        alloc_pause(false);
}

static int finish_incoming(Fixture *r, Error *err) {
        Checkpoint c = { .fd = -1 };
        int e;

        receive_tree(r, fault.call, fault.path);
        e = data_dir_incoming_finish(&r->folder, &c, err);
        if (e == 0)
                assert_state(&c, 9);
        checkpoint_done(&c);
        return e;
}

static int finish_by_hand(Fixture *r, Error *err) {
        copy_error = EXDEV;
        return finish_incoming(r, err);
}

static int install(Fixture *r, bool replace, Error *err) {
        const char *call = fault.call, *path = fault.path;
        Checkpoint c = { .fd = -1 };
        int e;

        receive_tree(r, NULL, NULL);
        alloc_pause(true);
        assert_int_equal(data_dir_incoming_finish(&r->folder, &c, NULL), 0);
        alloc_pause(false);
        fail_calls(call, path);
        e = data_dir_install(&r->folder, &c, replace, &r->tree, err);
        checkpoint_done(&c);
        return e;
}

static int install_checkpoint(Fixture *r, Error *err) {
        return install(r, false, err);
}

static int install_both(Fixture *r, Error *err) {
        return install(r, true, err);
}

static int set_aside(Fixture *r, Error *err) {
        r->tree = tree_close(r->tree);
        return data_dir_set_aside(&r->folder, &r->tree, err);
}

static int show(Fixture *r, Error *err) {
        int e;

        fault.call = fault.call ? "renameat" : NULL;
        r->folder.served = false;
        e = data_dir_serve(&r->folder);
        assert_int_equal(data_dir_was_served(&r->folder), e == 0);
        return e;
}

static int unshow(Fixture *r, Error *err) {
        int e = data_dir_unserve(&r->folder);

        assert_int_equal(data_dir_was_served(&r->folder), e < 0);
        return e;
}

static int lose(Fixture *r, Error *err) {
        return data_dir_quarantine(&r->folder, "a reason");
}

static int find(Fixture *r, Error *err) {
        return data_dir_end_quarantine(&r->folder);
}

static int identify(Fixture *r, Error *err) {
        return data_dir_write_identity(&r->folder, 1, 2);
}

static int read_identity(Fixture *r, Error *err) {
        uint64_t cluster_id, lineage;

        return data_dir_read_identity(&r->folder, &cluster_id, &lineage);
}

/* Each of these fails with EIO, and succeeds without the fault. 'message': in what is said of it; NULL:
 * nothing is. */
static void a_call_that_fails_is_returned_with_its_reason(void **state) {
        static const struct {
                int (*act)(Fixture *r, Error *err);
                const char *call, *path, *message;
        } cases[] = {
                { reopen, "openat", "/checkpoint", "Failed to prepare " },
                { reopen, "fsync", "/checkpoint", "Failed to prepare " },
                { reopen, "fsync", "/@", "Failed to prepare " },
                { reopen, "mkdirat", "/checkpoint", "Failed to prepare " },
                { reopen, "mkdirat", "/live", "Failed to prepare " },
                { reopen, "unlinkat", "/checkpoint.new", "Failed to prepare " },
                { reopen, "unlinkat", "/incoming", "Failed to prepare " },
                { reopen, "open", "/checkpoint/data.mdb", "/checkpoint/data.mdb: Input/output error" },
                { reopen, "fstat", "/checkpoint/data.mdb", "/checkpoint/data.mdb: Input/output error" },
                { reopen, "pread", "/checkpoint/data.mdb", "/checkpoint/data.mdb: Input/output error" },
                { reopen, "fstatat", "/live/data.mdb", "/trusted: Input/output error" },
                { reopen, "renameat", "/trusted", "/trusted: Input/output error" },
                { reopen_after_boot, "openat", "/checkpoint/data.mdb", "Failed to rebuild " },
                { reopen_after_boot, "openat", "/live/data.mdb", "Failed to rebuild " },
                { reopen_by_hand, "pwrite", "/live/data.mdb", "Failed to rebuild " },
                { rebuild, "pread", "/checkpoint/data.mdb", "Failed to read " },
                { rebuild, "unlinkat", "/trusted", "Failed to remove " },
                { rebuild, "unlinkat", "/live/data.mdb", "Failed to rebuild " },
                { rebuild, "mkdirat", "/live", "Failed to rebuild " },
                { rebuild, "openat", "/checkpoint/data.mdb", "Failed to rebuild " },
                { rebuild, "renameat", "/trusted", "Failed to write " },
                { copy, "unlinkat", "/checkpoint.new", "Failed to remove " },
                { copy, "open", "/checkpoint.new/data.mdb", NULL },
                { copy, "fstat", "/checkpoint.new/data.mdb", NULL },
                { copy, "renameat", "/checkpoint/data.mdb", "Failed to rename " },
                { copy, "openat", "/checkpoint", "Failed to sync " },
                { copy, "fsync", "/checkpoint", "Failed to sync " },
                { probe, "unlinkat", "/checkpoint.new", "Failed to remove " },
                { open_incoming, "unlinkat", "/incoming", NULL },
                { open_incoming, "mkdirat", "/incoming", NULL },
                { open_incoming, "openat", "/incoming/data.mdb", NULL },
                { finish_incoming, "openat", "/incoming/data.mdb", "Failed to store the leader's tree in " },
                { finish_incoming, "fsync", "/incoming/data.mdb", "Failed to store the leader's tree in " },
                { finish_incoming, "openat", "/incoming", "Failed to store the leader's tree in " },
                { finish_incoming, "fsync", "/incoming", "Failed to store the leader's tree in " },
                { finish_incoming, "openat", "/incoming/next.mdb", "Failed to store the leader's tree in " },
                { finish_by_hand, "pread", "/incoming/data.mdb", "Failed to store the leader's tree in " },
                { finish_by_hand, "pwrite", "/incoming/next.mdb", "Failed to store the leader's tree in " },
                { finish_incoming, "open", "/incoming/data.mdb", NULL },
                { install_checkpoint, "renameat", "/checkpoint/data.mdb",
                  "/incoming/data.mdb: Input/output error" },
                { install_checkpoint, "fsync", "/checkpoint", "Failed to sync " },
                { install_both, "unlinkat", "/trusted", "Failed to remove " },
                { install_both, "renameat", "/live/data.mdb", "/incoming/next.mdb: Input/output error" },
                { install_both, "renameat", "/trusted", "Failed to write " },
                { set_aside, "unlinkat", "/old", "Failed to set the tree in " },
                { set_aside, "mkdirat", "/old", "Failed to set the tree in " },
                { set_aside, "renameat", "/old/checkpoint", "Failed to set the tree in " },
                { set_aside, "renameat", "/old/live", "Failed to set the tree in " },
                { set_aside, "mkdirat", "/checkpoint", "Failed to set the tree in " },
                { set_aside, "fsync", "/@", "Failed to set the tree in " },
                { set_aside, "mkdirat", "/live", "Failed to rebuild " },
                { show, "renameat", "/trusted", NULL },
                { unshow, "openat", "/trusted", NULL },
                { unshow, "fstat", "/trusted", NULL },
                { unshow, "ftruncate", "/trusted", NULL },
                { unshow, "fsync", "/trusted", NULL },
                { lose, "renameat", "/lost", NULL },
                { find, "unlinkat", "/lost", NULL },
                { find, "fsync", "/@", NULL },
                { identify, "renameat", "/identity", NULL },
                { read_identity, "openat", "/identity", NULL },
        };
        unsigned descriptors = n_descriptors();
        Fixture *r = *state;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *path = cases[i].path;
                Error err = {};
                int e;

                copy_error = 0;
                if (r->tree && r->folder.checkpoint.meta.applied == 7)
                        prepare(r); /* the one of the case before */
                else
                        begin(r);
                if (cases[i].act == read_identity)
                        assert_int_equal(data_dir_write_identity(&r->folder, 1, 2), 0);
                fail_calls(cases[i].call, streq(path, "/@") ? strrchr(r->path, '/') : path);
                e = cases[i].act(r, &err);
                if (e != -EIO || fault.n == 0)
                        fail_msg("case %zu, %s of %s: %d after %u failures", i, cases[i].call, path, e,
                                 fault.n);
                if (cases[i].message ? !strstr(err.message, cases[i].message) : err.message[0])
                        fail_msg("case %zu, %s of %s: '%s'", i, cases[i].call, path, err.message);
                fail_calls(NULL, NULL);

                /* What was durable is there. */
                fixture_crash(r);
                if (n_descriptors() != descriptors)
                        fail_msg("case %zu, %s of %s: a descriptor stays open", i, cases[i].call, path);
                if (cases[i].act == set_aside)
                        continue;
                fixture_open(r);
                assert_state(&r->folder.checkpoint, r->folder.checkpoint.meta.applied == 9 ? 9 : 7);
                if (cases[i].act == finish_incoming || cases[i].act == finish_by_hand ||
                    cases[i].act == install_checkpoint || cases[i].act == install_both)
                        continue;
                assert_tree_holds(r->tree, 7, "mine");
                assert_false(fixture_has(r, "checkpoint.new"));
        }
}

static void without_a_fault_each_of_these_succeeds(void **state) {
        static int (*const acts[])(Fixture * r, Error * err) = {
                reopen,         reopen_after_boot,
                reopen_by_hand, rebuild,
                copy,           probe,
                open_incoming,  finish_incoming,
                finish_by_hand, install_checkpoint,
                install_both,   set_aside,
                show,           unshow,
                lose,           find,
                identify,
        };
        Fixture *r = *state;

        for (size_t i = 0; i < ELEMENTS(acts); i++) {
                Error err = {};
                int e;

                copy_error = 0;
                begin(r);
                e = acts[i](r, &err);
                if (e != 0)
                        fail_msg("act %zu: %s", i, error_text(&err, e));
                assert_false(acts[i] != set_aside &&
                             fixture_has(r, "checkpoint/lock.mdb")); /* it is only read */
        }
}

/* Of the live tree: it is not trusted, and made again. */
static void a_live_tree_that_cannot_be_synced_is_made_again(void **state) {
        static const char *const calls[] = { NULL, "openat", "fsync" };
        Fixture *r = *state;

        for (size_t i = 0; i < ELEMENTS(calls); i++) {
                begin(r);
                fixture_put(r, 8, "later"); /* not in the checkpoint */
                fixture_stop(r);
                fail_calls(calls[i], "/live/data.mdb");
                if (i == 1) { /* the rebuild opens it, too */
                        assert_int_equal(fixture_try_open(r, NULL), -EIO);
                        fail_calls(NULL, NULL);
                        fixture_crash(r);
                }
                fixture_open(r);
                fail_calls(NULL, NULL);
                assert_int_equal(fixture_has(r, "live/witness"), i == 0);
                assert_tree_holds(r->tree, i == 0 ? 8 : 7, i == 0 ? "later" : "mine");
        }
}

static void what_is_not_there_need_not_be_removed(void **state) {
        Error err = {};
        Fixture *r = *state;

        begin(r);
        data_dir_distrust(&r->folder);
        assert_int_equal(install_both(r, &err), 0);
        assert_int_equal(fixture_opens(r), 1);

        begin(r);
        data_dir_distrust(&r->folder);
        assert_int_equal(rebuild(r, &err), 0);

        begin(r);
        fixture_rename(r, "checkpoint", "elsewhere");
        assert_int_equal(set_aside(r, &err), 0);
        assert_false(fixture_has(r, "old/checkpoint"));
        assert_true(fixture_has(r, "old/live/witness") && fixture_has(r, "checkpoint"));
}

static void a_marker_that_is_too_short_to_be_one_is_not_shortened(void **state) {
        Fixture *r = *state;

        begin(r);
        fixture_make_file(r, "trusted", "hown\n");
        assert_int_equal(unshow(r, NULL), -EBADMSG);
        assert_string_equal(fixture_marker(r), "hown\n");
        fixture_make_file(r, "trusted", "shown\n");
        assert_int_equal(unshow(r, NULL), 0);
        assert_string_equal(fixture_marker(r), "");
}

static void what_runs_off_the_loop_ends_when_it_is_cancelled(void **state) {
        Checkpoint c = { .fd = -1 };
        Tree *tree = NULL;
        Fixture *r = *state;
        bool corrupt;

        begin(r);
        receive_tree(r, NULL, NULL);
        data_dir_cancel(&r->folder);
        assert_int_equal(copy(r, NULL), -ECANCELED);
        assert_int_equal(probe(r, NULL), -ECANCELED);
        assert_false(fixture_has(r, "checkpoint.new"));
        assert_int_equal(rebuild(r, NULL), -ECANCELED);
        assert_int_equal(data_dir_incoming_finish(&r->folder, &c, NULL), -ECANCELED);
        assert_int_equal(fixture_stat(r, "incoming/next.mdb").st_size, 0);
        assert_true(fixture_has(r, "live/witness"));

        fixture_crash(r); /* without a checkpoint, too */
        free(r->path);
        r->path = scratch_path(r->scratch, "new");
        fixture_open(r);
        fixture_make_file(r, "live/witness", "x");
        data_dir_cancel(&r->folder);
        assert_int_equal(data_dir_rebuild(&r->folder, &tree, &corrupt, NULL), -ECANCELED);
        assert_true(!tree && fixture_has(r, "live/witness"));
}

static void a_checkpoint_says_which_state_it_is(void **state) {
        Checkpoint c = { .fd = -1 };
        Fixture *r = *state;

        fixture_open(r);
        fixture_put(r, 5, "mine");
        fixture_checkpoint(r); /* before the first configuration */
        assert_int_equal(r->folder.checkpoint.configuration_size, 0);
        assert_null(r->folder.checkpoint.configuration);
        put_configuration(r);
        assert_int_equal(data_dir_copy(&r->folder, r->tree, &c, NULL), 0);
        assert_state(&c, 5);
        assert_int_equal(c.size, fixture_stat(r, "checkpoint/data.mdb").st_size);
        checkpoint_done(&c);
        assert_int_equal(c.fd, -1);
        assert_null(c.configuration);
}

static void the_space_is_that_of_the_file_system(void **state) {
        uint64_t available = 0, total = 0;
        Fixture *r = *state;
        struct statvfs st;

        fixture_open(r);
        assert_int_equal(data_dir_space(&r->folder, &available, &total), 0);
        assert_int_equal(statvfs(r->path, &st), 0);
        assert_int_equal(total, (uint64_t) st.f_blocks * st.f_frsize);
        assert_in_range(available, 0, total);
}

/* That the file is there is what counts. */
static void a_reason_that_cannot_be_read_is_one(void **state) {
        char reason[64] = "";
        Fixture *r = *state;

        begin(r);
        assert_int_equal(lose(r, NULL), 0);
        fail_calls("openat", "/lost");
        assert_int_equal(data_dir_is_quarantined(&r->folder, reason, sizeof(reason)), 1);
        fail_calls(NULL, NULL);
        assert_string_equal(reason, "the log lacks acknowledged entries");
}

/* -- A file that is mostly free -- */

static char said[2048];

static void keep_said(void *userdata, int priority, const LogFields *fields, const char *message) {
        snprintf(said + strlen(said), sizeof(said) - strlen(said), "%s\n", message);
}

static void a_tree_that_cannot_shrink_stays_or_is_made_again(void **state) {
        static const struct {
                const char *call, *path;
                bool stays;
                const char *message; /* behind the path */
        } cases[] = {
                { NULL, NULL, true, " from %ju KiB to %ju KiB\n" },
                { "unlinkat", "/trusted", true, " from %ju KiB: Input/output error\n" },
                { "renameat", "/live/data.mdb", false, ", rebuilding it: Failed to rename " },
        };
        Fixture *r = *state;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                uintmax_t before, after;
                char expected[256];

                begin(r);
                fixture_stop(r);
                tree_file_swell(r->path, 22, false);
                before = (uintmax_t) fixture_stat(r, "live/data.mdb").st_size / 1024;
                fail_calls(cases[i].call, cases[i].path);
                said[0] = 0;
                log_set_sink(keep_said, NULL);
                fixture_open(r);
                log_set_sink(NULL, NULL);
                fail_calls(NULL, NULL);
                after = (uintmax_t) fixture_stat(r, "live/data.mdb").st_size / 1024;
                assert_int_equal(after == before, i == 1);
                _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wformat-nonliteral\"")
                        snprintf(expected, sizeof(expected), cases[i].message, before, after);
                _Pragma("GCC diagnostic pop") if (!strstr(said, expected))
                        fail_msg("case %zu: '%s' is not in '%s'", i, expected, said);
                assert_int_equal(fixture_has(r, "live/witness"), cases[i].stays);
                assert_int_equal(data_dir_was_served(&r->folder), cases[i].stays);
                assert_int_equal(fixture_says_shown(r), cases[i].stays);
                assert_int_equal(fixture_opens(r), 1);
                assert_false(cases[i].stays && fixture_has(r, "checkpoint.new"));
                assert_tree_holds(r->tree, 7, "mine");
        }
}

/* -- Without memory -- */

static int open_nothing(Fixture *r, Error *err) {
        Tree *tree = NULL;
        int e;

        make_dir_in(r, "incoming");
        e = data_dir_open_empty(&r->folder, &tree, err);
        alloc_pause(true);
        if (e == 0)
                assert_tree_holds(tree, 0, NULL);
        tree_close(tree);
        return e;
}

static int copy_all(Fixture *r, Error *err) {
        Checkpoint c = { .fd = -1 };
        int e = data_dir_copy(&r->folder, r->tree, &c, err);

        if (e == 0)
                assert_state(&c, 7);
        checkpoint_done(&c);
        return e;
}

static int no_list(Disk *disk, char ***ret, size_t *ret_n) {
        return -EIO;
}

static void a_log_is_founded_or_it_is_said_why_not(void **state) {
        Fixture *r = *state;
        _cleanup_free_ char *identity = NULL;
        ManualLoop loop;
        DiskOps ops;

        begin(r);
        manual_loop_init(&loop, 1);
        for (unsigned n = 1, failed = 1; failed; n++) {
                char name[32];
                _cleanup_free_ char *folder = NULL;
                Error err = {};
                Disk *disk;
                int e;

                assert_true(n < 200);
                snprintf(name, sizeof(name), "log%u", n);
                folder = scratch_path(r->scratch, name);
                assert_int_equal(disk_real_open(folder, &disk), 0);
                alloc_fail_at(n);
                e = bootstrap_found(&r->folder, disk, &loop.base.random, "127.0.0.1:1", 0, &err);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                assert_int_equal(e, failed ? -ENOMEM : 0);
                if (!failed) {
                        assert_false(bootstrap_is_fresh(disk));
                        assert_int_equal(bootstrap_set_aside(disk, NULL), 0);
                        assert_true(bootstrap_is_fresh(disk));
                        ops = *disk->ops; /* what cannot be listed may have one */
                        ops.list = no_list;
                        disk->ops = &ops;
                        assert_false(bootstrap_is_fresh(disk));

                        identity = scratch_path(r->path, "identity");
                        (void) unlink(identity);
                        assert_int_equal(mkdir(identity, 0700), 0);
                        assert_true(bootstrap_found(&r->folder, disk, &loop.base.random, "127.0.0.1:1", 0,
                                                    &err) < 0);
                        assert_non_null(strstr(err.message, "Failed to write "));
                        assert_non_null(strstr(err.message, identity));
                        assert_int_equal(rmdir(identity), 0);
                }
                disk_real_close(disk);
        }
        loop_done(&loop.base);
}

static void what_fails_for_want_of_memory_says_so_and_works_again(void **state) {
        static int (*const acts[])(Fixture * r,
                                   Error * err) = { reopen_by_hand, rebuild,      copy_all,
                                                    probe,          open_nothing, finish_incoming };
        unsigned descriptors = n_descriptors();
        Fixture *r = *state;

        for (size_t i = 0; i < ELEMENTS(acts); i++)
                for (unsigned n = 1, failed = 1; failed; n++) {
                        Error err = {};
                        int e;

                        assert_true(n < 200);
                        if (n == 1 || acts[i] == reopen_by_hand) {
                                copy_error = 0;
                                begin(r);
                        }
                        alloc_fail_at(n);
                        e = acts[i](r, &err);
                        failed = alloc_has_failed();
                        alloc_fail_at(0);
                        if (e != 0 && (e != -ENOMEM || !failed))
                                fail_msg("act %zu, allocation %u: %s", i, n, error_text(&err, e));
                        fixture_crash(r);
                        assert_int_equal(n_descriptors(), descriptors);
                        fixture_open(r);
                        assert_state(&r->folder.checkpoint, r->folder.checkpoint.meta.applied == 9 ? 9 : 7);
                }
}

#define in_a_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_fixture(a_call_that_fails_is_returned_with_its_reason),
                in_a_fixture(without_a_fault_each_of_these_succeeds),
                in_a_fixture(a_live_tree_that_cannot_be_synced_is_made_again),
                in_a_fixture(what_is_not_there_need_not_be_removed),
                in_a_fixture(a_marker_that_is_too_short_to_be_one_is_not_shortened),
                in_a_fixture(what_runs_off_the_loop_ends_when_it_is_cancelled),
                in_a_fixture(a_checkpoint_says_which_state_it_is),
                in_a_fixture(the_space_is_that_of_the_file_system),
                in_a_fixture(a_reason_that_cannot_be_read_is_one),
                in_a_fixture(a_tree_that_cannot_shrink_stays_or_is_made_again),
                in_a_fixture(a_log_is_founded_or_it_is_said_why_not),
                in_a_fixture(what_fails_for_want_of_memory_says_so_and_works_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
