#include "tests/lib/data_dir_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "tests/lib/scratch.h"

enum { FILE_MAX = 64 * 1024 * 1024 };

uint64_t disk_seq;
bool on_partition;
int copy_error;

int __real_read_file_at(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_size);
int __wrap_read_file_at(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_size);
int __wrap_read_file_at(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_size) {
        if (!starts_with(name, "/sys/dev/block/"))
                return __real_read_file_at(dir_fd, name, max, ret, ret_size);
        assert_true(ends_with(name, "/diskseq"));
        if (disk_seq == 0 || ends_with(name, "/../diskseq") != on_partition)
                return -ENOENT;
        if (max < 4096) /* that is the size of each file there */
                return -EFBIG;
        return asprintf(ret, "%" PRIu64 "\n", disk_seq) < 0 ? -ENOMEM : 0;
}

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size,
                        unsigned flags) {
        assert_int_equal(flags, 0);
        if (copy_error > 0) {
                errno = copy_error;
                return -1;
        }
        return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, size, flags);
}

int fixture_setup(void **state) {
        Fixture *r = NEW0(Fixture, 1);

        assert_non_null(r);
        r->scratch = scratch_new();
        r->path = scratch_path(r->scratch, "tree");
        r->machine = r->boot = 1;
        r->folder = (DataDir) { .fd = -1, .checkpoint = { .fd = -1 } };
        disk_seq = 0;
        on_partition = false;
        copy_error = 0;
        *state = r;
        return 0;
}

void fixture_crash(Fixture *r) {
        r->tree = tree_close(r->tree);
        data_dir_done(&r->folder);
}

void fixture_stop(Fixture *r) {
        r->tree = tree_close(r->tree);
        data_dir_closed(&r->folder);
        data_dir_done(&r->folder);
}

int fixture_teardown(void **state) {
        Fixture *r = *state;

        fixture_crash(r);
        scratch_free(r->scratch);
        free(r->path);
        free(r);
        return 0;
}

int fixture_try_open(Fixture *r, Error *err) {
        char machine[MACHINE_ID_SIZE], boot[BOOT_ID_SIZE];

        snprintf(machine, sizeof(machine), "%032x", r->machine);
        snprintf(boot, sizeof(boot), "%032x", r->boot);
        return data_dir_open(&r->folder, r->path, machine, boot, 1024 * 1024, &r->tree, err);
}

void fixture_open(Fixture *r) {
        Error err = {};
        int e = fixture_try_open(r, &err);

        if (e < 0)
                fail_msg("%s", error_text(&err, e));
}

struct stat fixture_stat(const Fixture *r, const char *name) {
        _cleanup_free_ char *path = scratch_path(r->path, name);
        struct stat st;

        if (stat(path, &st) < 0)
                fail_msg("%s: %s", name, strerror(errno));
        return st;
}

bool fixture_has(const Fixture *r, const char *name) {
        _cleanup_free_ char *path = scratch_path(r->path, name);

        return access(path, F_OK) == 0;
}

void fixture_make_file(const Fixture *r, const char *name, const char *text) {
        _cleanup_free_ char *path = scratch_path(r->path, name);

        scratch_write(path, text);
}

void fixture_rename(const Fixture *r, const char *from, const char *to) {
        _cleanup_free_ char *a = scratch_path(r->path, from), *b = scratch_path(r->path, to);

        assert_int_equal(rename(a, b), 0);
}

void fixture_unlink(const Fixture *r, const char *name) {
        _cleanup_free_ char *path = scratch_path(r->path, name);

        assert_int_equal(unlink(path), 0);
}

char *fixture_read(const Fixture *r, const char *name, size_t *ret_size) {
        _cleanup_free_ char *path = scratch_path(r->path, name);
        char *bytes;

        assert_int_equal(__real_read_file_at(AT_FDCWD, path, FILE_MAX, &bytes, ret_size), 0);
        return bytes;
}

void fixture_write(const Fixture *r, const char *name, const void *bytes, size_t size, uint64_t offset) {
        _cleanup_free_ char *path = scratch_path(r->path, name);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(pwrite_all(fd, bytes, size, offset), 0);
}

const char *fixture_marker(const Fixture *r) {
        static char text[1024];
        _cleanup_free_ char *path = scratch_path(r->path, "trusted"), *found = NULL;

        text[0] = 0;
        if (__real_read_file_at(AT_FDCWD, path, sizeof(text) - 1, &found, NULL) == 0)
                snprintf(text, sizeof(text), "%s", found);
        return text;
}

unsigned fixture_opens(const Fixture *r) {
        const char *line = strstr(fixture_marker(r), "\nopens ");
        unsigned n = 0;

        assert_non_null(line);
        assert_int_equal(sscanf(line, "\nopens %9u", &n), 1);
        return n;
}

bool fixture_says_shown(const Fixture *r) {
        return ends_with(fixture_marker(r), "\nshown\n");
}

unsigned n_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

void fixture_put(Fixture *r, uint64_t applied, const char *value) {
        TreeMeta meta;
        TreeTxn *txn;

        assert_int_equal(tree_begin_write(r->tree, &txn), 0);
        assert_int_equal(tree_put(txn, &(KvNode) { .key = kv_string("/a"),
                                                   .value = kv_string(value),
                                                   .created = 1,
                                                   .modified = applied }),
                         0);
        assert_int_equal(tree_meta(txn, &meta), 0);
        meta.applied = applied;
        assert_int_equal(tree_set_meta(txn, &meta), 0);
        assert_int_equal(tree_commit(txn), 0);
}

void assert_tree_holds(Tree *tree, uint64_t applied, const char *value) {
        TreeMeta meta;
        TreeTxn *txn;
        KvNode node;

        assert_int_equal(tree_begin_read(tree, &txn), 0);
        assert_int_equal(tree_check(txn, NULL), 0);
        assert_int_equal(tree_meta(txn, &meta), 0);
        assert_int_equal(meta.applied, applied);
        assert_int_equal(tree_get(txn, kv_string("/a"), &node), value ? 0 : -ENOENT);
        if (value)
                assert_true(kv_bytes_equal(node.value, kv_string(value)));
        tree_abort(txn);
}

void fixture_checkpoint(Fixture *r) {
        Checkpoint c = { .fd = -1 };
        Error err = {};
        int e = data_dir_copy(&r->folder, r->tree, &c, &err);

        if (e < 0)
                fail_msg("%s", error_text(&err, e));
        data_dir_adopt(&r->folder, &c);
}
