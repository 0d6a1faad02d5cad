/* The real disk: a locked folder of files that are read and written at an offset. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/disk.h"
#include "tests/lib/calls.h"

typedef struct Lab {
        char folder[64], path[80];
        Disk *disk;
} Lab;

static int setup(void **state) {
        Lab *lab = NEW0(Lab, 1);

        strcpy(lab->folder, "/tmp/fleetd-disk-XXXXXX");
        assert_non_null(mkdtemp(lab->folder));
        snprintf(lab->path, sizeof(lab->path), "%s/a/b", lab->folder);
        assert_int_equal(disk_real_open(lab->path, &lab->disk), 0);
        *state = lab;
        return 0;
}

static int teardown(void **state) {
        Lab *lab = *state;

        lab->disk = disk_real_close(lab->disk);
        assert_int_equal(remove_tree_at(-1, lab->folder), 0);
        free(lab);
        return 0;
}

static void a_folder_is_made_for_us_alone_and_has_one_user(void **state) {
        Lab *lab = *state;
        Disk *second = NULL;
        struct stat st;

        assert_int_equal(stat(lab->path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0700);
        assert_int_equal(disk_real_open(lab->path, &second), -EBUSY);
        lab->disk = disk_real_close(lab->disk);
        assert_int_equal(disk_real_open(lab->path, &lab->disk), 0);
}

static void a_new_file_has_its_size_reads_as_zeroes_and_keeps_what_is_written(void **state) {
        Lab *lab = *state;
        const DiskOps *ops = lab->disk->ops;
        DiskFile *file = NULL;
        uint64_t size = 0;
        char bytes[8] = "xxxxxxx";

        assert_int_equal(ops->open(lab->disk, "log", false, 0, &file), -ENOENT);
        assert_int_equal(ops->open(lab->disk, "log", true, 1 << 20, &file), 0);
        assert_int_equal(ops->size(file, &size), 0);
        assert_int_equal(size, 1 << 20);
        assert_int_equal(ops->read(file, bytes, 8, (1 << 20) - 8), 0);
        assert_memory_equal(bytes, "\0\0\0\0\0\0\0\0", 8);
        assert_int_equal(ops->write(file, "entry", 5, 4000), 0);
        assert_int_equal(ops->read(file, bytes, 8, (1 << 20) - 7), -ENODATA);
        ops->close(file);

        assert_int_equal(ops->open(lab->disk, "log", false, 0, &file), 0);
        assert_int_equal(ops->read(file, bytes, 5, 4000), 0);
        assert_memory_equal(bytes, "entry", 5);
        ops->close(file);
}

static void files_are_listed_in_byte_order_renamed_and_removed(void **state) {
        static const char *const names[] = { "b", "a10", "a9", "C" }, *const sorted[] = { "C", "a10", "b",
                                                                                          "c" };
        Lab *lab = *state;
        const DiskOps *ops = lab->disk->ops;
        char **list = NULL;
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                DiskFile *file = NULL;

                assert_int_equal(ops->open(lab->disk, names[i], true, 0, &file), 0);
                ops->close(file);
        }
        assert_int_equal(ops->rename(lab->disk, "a9", "c"), 0);
        assert_int_equal(ops->rename(lab->disk, "a9", "d"), -ENOENT);
        assert_int_equal(ops->list(lab->disk, &list, &n), 0);
        assert_int_equal(n, ELEMENTS(sorted));
        for (size_t i = 0; i < n; i++) {
                assert_string_equal(list[i], sorted[i]);
                free(list[i]);
        }
        free(list);
        assert_int_equal(ops->remove(lab->disk, "c"), 0);
        assert_int_equal(ops->remove(lab->disk, "c"), -ENOENT);
}

/* 0 or the first error. */
static int write_and_drop_caches(Disk *disk) {
        const DiskOps *ops = disk->ops;
        DiskFile *file = NULL;
        char bytes[10000] = {};
        char **list = NULL;
        size_t n = 0;
        int r;

        r = ops->open(disk, "new", true, 1 << 20, &file);
        if (r < 0)
                return r;
        r = ops->write(file, bytes, sizeof(bytes), 100);
        if (r == 0)
                r = ops->read(file, bytes, sizeof(bytes), 100);
        ops->close(file);
        if (r == 0)
                r = ops->rename(disk, "new", "log");
        if (r == 0)
                r = ops->list(disk, &list, &n);
        for (size_t i = 0; i < n; i++)
                free(list[i]);
        free(list);
        if (r == 0)
                r = ops->drop_caches(disk);
        return r ?: ops->remove(disk, "log");
}

/* What is interrupted, or done in part, goes on. */
static void a_call_of_the_kernel_that_fails_is_reported(void **state) {
        Lab *lab = *state;
        unsigned n_failed = 0;

        for (size_t kind = 0; kind < n_call_faults; kind++)
                for (const int *error = call_faults[kind].errors; *error != 0; error++)
                        for (unsigned n = 1;; n++) {
                                bool goes_on = *error == CALL_SHORT || *error == EINTR ||
                                               *error == EOPNOTSUPP;
                                int r;

                                call_fail_at(kind, *error, n);
                                r = write_and_drop_caches(lab->disk);
                                if (!call_has_failed())
                                        break;
                                call_fail_at(kind, *error, 0);
                                if (r != (goes_on ? 0 : -*error))
                                        fail_msg("%s %u with %d: %d", call_faults[kind].name, n, *error, r);
                                n_failed++;
                        }
        assert_in_range(n_failed, 20, 1000);
}

/* 0 or the first error. */
static int write_and_read_files(int fd) {
        static const char *const names[] = { "b.x", "a.x", "c.x", "other", ".hidden.x" };
        FolderFile *files = NULL;
        char *text = NULL;
        size_t n = 0;
        int r;

        r = mkdirat(fd, "folder", 0700) < 0 ? -errno : 0;
        for (size_t i = 0; i < ELEMENTS(names) && r == 0; i++) {
                char path[64];

                snprintf(path, sizeof(path), "folder/%s", names[i]);
                r = write_file_at(fd, path, names[i], strlen(names[i]), 0600);
        }
        if (r == 0)
                r = read_file_at(fd, "folder/other", 100, &text, &n);
        if (r == 0)
                assert_string_equal(text, "other");
        free(text);
        if (r == 0)
                r = read_folder_at(fd, "folder", ".x", 3, 100, &files, &n);
        if (r == 0)
                assert_int_equal(n, 3);
        for (size_t i = 0; i < n && r == 0 && files;
             i++) { /* by name; one that cannot be read is among them, with its error */
                char name[] = { "abc"[i], '.', 'x', 0 };

                assert_string_equal(files[i].name, name);
                if (files[i].error == 0)
                        assert_string_equal(files[i].text, name);
                else
                        r = files[i].error;
        }
        if (files)
                folder_files_free(files, n);
        return r ?: remove_tree_at(fd, "folder");
}

static void what_fails_with_a_file_is_reported(void **state) {
        Lab *lab = *state;
        FolderFile *files = NULL;
        unsigned n_failed = 0;
        size_t n_files = 0;
        int fd = open(lab->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        for (size_t kind = 0; kind < n_call_faults; kind++)
                for (const int *error = call_faults[kind].errors; *error != 0; error++)
                        for (unsigned n = 1;; n++) {
                                bool goes_on = *error == CALL_SHORT || *error == EINTR;
                                int r;

                                call_fail_at(kind, *error, n);
                                r = write_and_read_files(fd);
                                if (!call_has_failed())
                                        break;
                                call_fail_at(kind, *error, 0);
                                /* A file that cannot be opened as a folder is removed as what it is. */
                                goes_on |= streq(call_faults[kind].name, "openat") && r == 0 &&
                                           faccessat(fd, "folder", F_OK, 0) < 0;
                                if (goes_on ? r != 0 : r >= 0)
                                        fail_msg("%s %u with %d: %d", call_faults[kind].name, n, *error, r);
                                assert_int_equal(remove_tree_at(fd, "folder"), 0);
                                n_failed++;
                        }
        assert_in_range(n_failed, 20, 1000);

        /* One more than may be is too many. */
        assert_int_equal(mkdirat(fd, "folder", 0700), 0);
        assert_int_equal(write_file_at(fd, "folder/a", "", 0, 0600), 0);
        assert_int_equal(write_file_at(fd, "folder/b", "", 0, 0600), 0);
        assert_int_equal(read_folder_at(fd, "folder", "", 1, 100, &files, &n_files), -E2BIG);
        assert_int_equal(read_folder_at(fd, "folder/a", "", 1, 100, &files, &n_files), -ENOTDIR);
        assert_null(files);
        close(fd);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_folder_is_made_for_us_alone_and_has_one_user, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(
                        a_new_file_has_its_size_reads_as_zeroes_and_keeps_what_is_written, setup, teardown),
                cmocka_unit_test_setup_teardown(files_are_listed_in_byte_order_renamed_and_removed, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(a_call_of_the_kernel_that_fails_is_reported, setup, teardown),
                cmocka_unit_test_setup_teardown(what_fails_with_a_file_is_reported, setup, teardown),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
