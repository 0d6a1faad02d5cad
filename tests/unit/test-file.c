/* Files by a folder's descriptor: bounded reads, whole writes, removals. */
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/memory.h"

typedef struct Lab {
        char path[64];
        int fd;
} Lab;

static int setup(void **state) {
        Lab *lab = NEW0(Lab, 1);

        strcpy(lab->path, "/tmp/fleetd-file-XXXXXX");
        assert_non_null(mkdtemp(lab->path));
        lab->fd = open(lab->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(lab->fd >= 0);
        *state = lab;
        return 0;
}

static int teardown(void **state) {
        Lab *lab = *state;

        close(lab->fd);
        assert_int_equal(remove_tree_at(AT_FDCWD, lab->path), 0);
        free(lab);
        return 0;
}

static const char *temporary(const char *name) {
        static char tmp[FILE_TEMPORARY_SIZE];

        file_temporary_name(name, tmp);
        return tmp;
}

static void a_written_file_is_read_back_and_replaced_whole(void **state) {
        Lab *lab = *state;
        struct stat st;
        char *text = NULL;
        size_t size;

        assert_int_equal(write_file_at(lab->fd, "unit", "first\0x", 7, 0640), 0);
        assert_int_equal(read_file_at(lab->fd, "unit", 100, &text, &size), 0);
        assert_int_equal(size, 7);
        assert_memory_equal(text, "first\0x", 8);
        free(text);
        assert_int_equal(fstatat(lab->fd, "unit", &st, 0), 0);
        assert_int_equal(st.st_mode & 0777, 0640);

        assert_int_equal(write_file_at(lab->fd, "unit", "", 0, 0600), 0);
        assert_int_equal(read_file_at(lab->fd, "unit", 100, &text, NULL), 0);
        assert_string_equal(text, "");
        free(text);
        assert_int_equal(fstatat(lab->fd, "unit", &st, 0), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(faccessat(lab->fd, temporary("unit"), F_OK, 0), -1);
}

/* Files in /proc have size 0. */
static void a_file_of_unknown_size_is_read_whole_or_found_too_large(void **state) {
        char *text = NULL;
        size_t size, whole = 0;

        assert_int_equal(read_file_at(AT_FDCWD, "/proc/self/smaps", 1 << 24, &text, &size), 0);
        for (const char *line = text; line; line = strstr(line + 1, "VmFlags:"))
                whole = line - text;
        assert_true(size > 3 * 4096 && whole > size - 256);
        assert_int_equal(strlen(text), size);
        free(text);
        text = NULL;
        assert_int_equal(read_file_at(AT_FDCWD, "/proc/self/smaps", 3 * 4096, &text, &size), -EFBIG);
        assert_null(text);
}

static void a_left_over_temporary_file_or_link_is_no_obstacle(void **state) {
        Lab *lab = *state;
        char *text = NULL;

        assert_int_equal(symlinkat("/nonexistent/elsewhere", lab->fd, temporary("unit")), 0);
        assert_int_equal(write_file_at(lab->fd, "unit", "text", 4, 0600), 0);
        assert_int_equal(read_file_at(lab->fd, "unit", 4, &text, NULL), 0);
        assert_string_equal(text, "text");
        free(text);
}

static void a_name_may_have_all_bytes_that_the_file_system_allows(void **state) {
        Lab *lab = *state;
        char name[NAME_MAX + 1] = "";
        char *text = NULL;

        memset(name, 'n', NAME_MAX);
        assert_int_equal(write_file_at(lab->fd, name, "text", 4, 0600), 0);
        assert_int_equal(write_file_at(lab->fd, name, "more", 4, 0600), 0);
        assert_int_equal(read_file_at(lab->fd, name, 4, &text, NULL), 0);
        assert_string_equal(text, "more");
        free(text);
        assert_int_equal(faccessat(lab->fd, temporary(name), F_OK, 0), -1);
}

static void a_name_that_is_too_long_is_refused(void **state) {
        Lab *lab = *state;
        char name[400];

        memset(name, 'n', sizeof(name) - 1);
        name[sizeof(name) - 1] = 0;
        assert_int_equal(write_file_at(lab->fd, name, "x", 1, 0600), -ENAMETOOLONG);
        assert_int_equal(faccessat(lab->fd, temporary(name), F_OK, 0), -1);
}

static void a_file_holds_its_bytes_and_no_others(void **state) {
        Lab *lab = *state;

        assert_false(file_holds_at(lab->fd, "file", "12345", 5));
        assert_int_equal(write_file_at(lab->fd, "file", "12345", 5, 0600), 0);
        assert_true(file_holds_at(lab->fd, "file", "12345", 5));
        assert_false(file_holds_at(lab->fd, "file", "12346", 5));
        assert_false(file_holds_at(lab->fd, "file", "1234", 4));
        assert_false(file_holds_at(lab->fd, "file", "123456", 6));
}

static void reads_are_bounded_and_only_of_regular_files(void **state) {
        Lab *lab = *state;
        char *text = NULL;

        assert_int_equal(write_file_at(lab->fd, "file", "12345", 5, 0600), 0);
        assert_int_equal(symlinkat("file", lab->fd, "link"), 0);
        assert_int_equal(mkdirat(lab->fd, "folder", 0700), 0);
        assert_int_equal(mkfifoat(lab->fd, "fifo", 0600), 0);
        assert_int_equal(read_file_at(lab->fd, "file", 4, &text, NULL), -EFBIG);
        assert_int_equal(read_file_at(lab->fd, "link", 100, &text, NULL), -ELOOP);
        assert_int_equal(read_file_at(lab->fd, "folder", 100, &text, NULL), -EINVAL);
        assert_int_equal(read_file_at(lab->fd, "fifo", 100, &text, NULL), -EINVAL);
        assert_int_equal(read_file_at(lab->fd, "none", 100, &text, NULL), -ENOENT);
        assert_null(text);
        assert_int_equal(read_file_at(lab->fd, "file", 5, &text, NULL), 0);
        free(text);
        /* A file that says 0 and has more, as those of /proc do. */
        assert_int_equal(read_file_at(AT_FDCWD, "/proc/self/status", 3, &text, NULL), -EFBIG);
        assert_int_equal(read_file_at(AT_FDCWD, "/proc/self/status", 1 << 20, &text, NULL), 0);
        assert_true(starts_with(text, "Name:"));
        free(text);
}

static void folders_are_made_with_all_above_them(void **state) {
        Lab *lab = *state;
        char path[128];
        struct stat st;
        int fd;

        snprintf(path, sizeof(path), "%s/a/b//c/", lab->path);
        fd = open_dir(path, 0750);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_mode & 0777 & ~0750, 0);
        close(fd);
        fd = open_dir(path, 0750); /* there already */
        assert_true(fd >= 0);
        close(fd);

        assert_int_equal(write_file_at(lab->fd, "file", "", 0, 0600), 0);
        snprintf(path, sizeof(path), "%s/file/a", lab->path);
        assert_int_equal(open_dir(path, 0750), -ENOTDIR);
}

static void bytes_at_an_offset_are_all_or_an_error(void **state) {
        Lab *lab = *state;
        char bytes[4];
        int fd = openat(lab->fd, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        assert_int_equal(pwrite_all(fd, "abcd", 4, 100), 0);
        assert_int_equal(pread_all(fd, bytes, 4, 100), 0);
        assert_memory_equal(bytes, "abcd", 4);
        assert_int_equal(pread_all(fd, bytes, 4, 101), -ENODATA);
        assert_int_equal(pread_all(fd, bytes, 0, 500), 0);
        close(fd);
        assert_int_equal(pwrite_all(fd, "a", 1, 0), -EBADF);
}

static void a_tree_is_removed_without_following_links_out_of_it(void **state) {
        Lab *lab = *state;

        assert_int_equal(mkdirat(lab->fd, "keep", 0700), 0);
        assert_int_equal(mkdirat(lab->fd, "keep/inside", 0700), 0);
        assert_int_equal(mkdirat(lab->fd, "tree", 0700), 0);
        assert_int_equal(mkdirat(lab->fd, "tree/deep", 0700), 0);
        assert_int_equal(symlinkat("../keep", lab->fd, "tree/link"), 0);
        assert_int_equal(remove_tree_at(lab->fd, "tree"), 0);
        assert_int_equal(faccessat(lab->fd, "tree", F_OK, 0), -1);
        assert_int_equal(faccessat(lab->fd, "keep/inside", F_OK, 0), 0);
        assert_int_equal(remove_tree_at(lab->fd, "tree"), 0);
}

static void a_folder_is_read_by_name_with_what_is_wrong_with_each_file(void **state) {
        static const struct {
                const char *name, *text; /* NULL: it cannot be read, ... */
                int error;               /* ... for this reason */
        } expected[] = {
                { "a.conf", "1" }, { "b.conf", NULL, -EFBIG }, { "c.conf", "" }, { "d.conf", NULL, -ELOOP }
        };
        FolderFile *files = NULL;
        Lab *lab = *state;
        size_t n = 0;

        assert_int_equal(mkdirat(lab->fd, "folder", 0700), 0);
        assert_int_equal(read_folder_at(lab->fd, "folder", ".conf", 0, 5, &files, &n), 0);
        assert_int_equal(n, 0);
        assert_int_equal(symlinkat("a.conf", lab->fd, "folder/d.conf"), 0);
        assert_int_equal(write_file_at(lab->fd, "folder/c.conf", "", 0, 0600), 0);
        assert_int_equal(write_file_at(lab->fd, "folder/a.conf", "1", 1, 0600), 0);
        assert_int_equal(write_file_at(lab->fd, "folder/b.conf", "123456", 6, 0600), 0);
        assert_int_equal(write_file_at(lab->fd, "folder/.e.conf", "1", 1, 0600), 0);
        assert_int_equal(write_file_at(lab->fd, "folder/f.conf~", "1", 1, 0600), 0);

        assert_int_equal(read_folder_at(lab->fd, "folder", ".conf", ELEMENTS(expected), 5, &files, &n), 0);
        assert_int_equal(n, ELEMENTS(expected));
        for (size_t i = 0; i < n; i++) {
                assert_string_equal(files[i].name, expected[i].name);
                assert_int_equal(files[i].error, expected[i].error);
                assert_int_equal(files[i].size, expected[i].text ? strlen(expected[i].text) : 0);
                assert_string_equal(files[i].text ? files[i].text : "none",
                                    expected[i].text ? expected[i].text : "none");
        }
        folder_files_free(files, n);

        files = NULL;
        n = 7;
        assert_int_equal(read_folder_at(lab->fd, "folder", ".conf", ELEMENTS(expected) - 1, 5, &files, &n),
                         -E2BIG);
        assert_int_equal(read_folder_at(lab->fd, "none", ".conf", 9, 5, &files, &n), -ENOENT);
        assert_int_equal(read_folder_at(lab->fd, "folder/a.conf", ".conf", 9, 5, &files, &n), -ENOTDIR);
        assert_null(files);
        assert_int_equal(n, 7);
}

static void a_staged_file_is_not_there_until_it_is_committed(void **state) {
        Lab *lab = *state;

        assert_int_equal(commit_file_at(lab->fd, "unit"), -ENOENT);
        assert_int_equal(stage_file_at(lab->fd, "unit", "text", 4, 0600), 0);
        assert_int_equal(faccessat(lab->fd, "unit", F_OK, 0), -1);
        assert_int_equal(stage_file_at(lab->fd, "unit", "more", 4, 0600), 0);
        assert_int_equal(commit_file_at(lab->fd, "unit"), 0);
        assert_true(file_holds_at(lab->fd, "unit", "more", 4));
        assert_int_equal(faccessat(lab->fd, temporary("unit"), F_OK, 0), -1);

        /* What stands in the way of either stays, and nothing else is left. */
        assert_int_equal(mkdirat(lab->fd, "folder", 0700), 0);
        assert_int_equal(write_file_at(lab->fd, "folder", "text", 4, 0600), -EISDIR);
        assert_int_equal(faccessat(lab->fd, temporary("folder"), F_OK, 0), -1);
        assert_int_equal(mkdirat(lab->fd, temporary("unit"), 0700), 0);
        assert_int_equal(write_file_at(lab->fd, "unit", "text", 4, 0600), -EISDIR);
        assert_true(file_holds_at(lab->fd, "unit", "more", 4));
}

static void a_folder_that_was_replaced_is_opened_again(void **state) {
        char path[128], file[128];
        Lab *lab = *state;
        int fd, before;

        snprintf(path, sizeof(path), "%s/folder", lab->path);
        fd = before = open_dir(path, 0700);
        assert_int_equal(reopen_dir(path, 0700, &fd), 0);
        assert_int_equal(fd, before);

        assert_int_equal(renameat(lab->fd, "folder", lab->fd, "aside"), 0);
        assert_int_equal(reopen_dir(path, 0700, &fd), 1); /* and made */
        assert_int_equal(write_file_at(fd, "file", "", 0, 0600), 0);
        assert_int_equal(faccessat(lab->fd, "folder/file", F_OK, 0), 0);
        assert_int_equal(reopen_dir(path, 0700, &fd), 0);

        snprintf(file, sizeof(file), "%s/folder/file", lab->path);
        before = fd;
        assert_int_equal(reopen_dir(file, 0700, &fd), -ENOTDIR);
        assert_int_equal(fd, before);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        close(fd);
}

static void the_space_of_a_file_system_excludes_that_of_root(void **state) {
        uint64_t available = 0, total = 0;
        Lab *lab = *state;
        struct statvfs st;

        assert_int_equal(space_at(lab->fd, &available, &total), 0);
        assert_int_equal(fstatvfs(lab->fd, &st), 0);
        assert_int_equal(total, (uint64_t) st.f_blocks * st.f_frsize);
        assert_true(total > 0 && available <= total);
        assert_in_range(available, 0, total - (uint64_t) (st.f_bfree - st.f_bavail) * st.f_frsize);
        assert_int_equal(space_at(-1, &available, &total), -EBADF);
}

static void all_bytes_are_written_in_order_or_an_error_is_said(void **state) {
        char bytes[8] = "";
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(write_all(fds[1], "abcd", 4), 0);
        assert_int_equal(write_all(fds[1], "e", 0), 0);
        assert_int_equal(read(fds[0], bytes, sizeof(bytes)), 4);
        assert_string_equal(bytes, "abcd");
        assert_int_equal(write_all(fds[0], "a", 1), -EBADF);
        assert_int_equal(pread_all(fds[0], bytes, 1, 0), -ESPIPE);
        assert_int_equal(pread_all(-1, bytes, 1, 0), -EBADF);
        assert_int_equal(fsync_dir(-1), -EBADF);
        close(fds[0]);
        close(fds[1]);
}

static void what_is_no_folder_is_removed_as_a_tree_of_one(void **state) {
        Lab *lab = *state;

        assert_int_equal(write_file_at(lab->fd, "file", "", 0, 0600), 0);
        assert_int_equal(symlinkat("file", lab->fd, "link"), 0);
        assert_int_equal(remove_tree_at(lab->fd, "link"), 0);
        assert_int_equal(faccessat(lab->fd, "file", F_OK, 0), 0);
        assert_int_equal(remove_tree_at(lab->fd, "file"), 0);
        assert_int_equal(faccessat(lab->fd, "file", F_OK, 0), -1);
        assert_int_equal(remove_tree_at(-1, "file"), -EBADF);
        assert_int_equal(open_dir("", 0700), -ENOENT);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(a_written_file_is_read_back_and_replaced_whole),
                T(a_file_of_unknown_size_is_read_whole_or_found_too_large),
                T(a_left_over_temporary_file_or_link_is_no_obstacle),
                T(a_name_may_have_all_bytes_that_the_file_system_allows),
                T(a_name_that_is_too_long_is_refused),
                T(a_file_holds_its_bytes_and_no_others),
                T(reads_are_bounded_and_only_of_regular_files),
                T(folders_are_made_with_all_above_them),
                T(bytes_at_an_offset_are_all_or_an_error),
                T(a_tree_is_removed_without_following_links_out_of_it),
                T(a_folder_is_read_by_name_with_what_is_wrong_with_each_file),
                T(a_staged_file_is_not_there_until_it_is_committed),
                T(a_folder_that_was_replaced_is_opened_again),
                T(the_space_of_a_file_system_excludes_that_of_root),
                T(all_bytes_are_written_in_order_or_an_error_is_said),
                T(what_is_no_folder_is_removed_as_a_tree_of_one),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
