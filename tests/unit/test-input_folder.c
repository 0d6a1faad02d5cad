/* The files of contents on a real disk. A crash at each step: test-fault_points. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "fleetd/features/inputs/content_bytes.h"
#include "io/loop_uv.h"
#include "tests/lib/scratch.h"
#include "units/inputs.h"

#define UNIT "shop@1.service"

typedef struct Fixture {
        UvLoop *loop;
        InputFiles *files;
        char *scratch, *credentials, *config, *copies;
        unsigned answers;
        int error;
        char message[512];
} Fixture;

static void fixture_open(Fixture *f) {
        assert_int_equal(loop_uv_new(&f->loop), 0);
        assert_int_equal(
                input_folder_new(&f->files, loop_uv_base(f->loop), f->credentials, f->config, f->copies), 0);
}

static void fixture_close(Fixture *f) {
        f->files = input_folder_free(f->files);
        f->loop = loop_uv_free(f->loop);
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        f->scratch = scratch_new();
        f->credentials = scratch_path(f->scratch, "credentials");
        f->config = scratch_path(f->scratch, "config");
        f->copies = scratch_path(f->scratch, "agent/copies");
        fixture_open(f);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        fixture_close(f);
        free(f->credentials);
        free(f->config);
        free(f->copies);
        scratch_free(f->scratch);
        free(f);
        return 0;
}

static void on_done(void *userdata, int error, const char *message) {
        Fixture *f = userdata;

        f->answers++;
        f->error = error;
        snprintf(f->message, sizeof(f->message), "%s", message);
        assert_true(error < 0 ? message[0] : !message[0]);
        loop_uv_stop(f->loop);
}

static int put(Fixture *f, const InputFileSet *set) {
        unsigned before = f->answers;
        int r = f->files->ops->put(f->files, set, on_done, f);

        if (r < 0)
                return r;
        assert_int_equal(f->answers, before);
        (void) loop_uv_run(f->loop);
        assert_int_equal(f->answers, before + 1);
        return f->error;
}

#define FILES(...) ((const InputFile[]) { __VA_ARGS__ })
#define FILE_OF(n, text) \
        { n, text, sizeof(text) - 1 }
#define SET(k, d, ...) \
        ((InputFileSet) { .folder = UNIT, .digest = d, .number = (k), .environment = "", __VA_ARGS__ })

/* A content of one credential, one variable and two files. */
static InputFileSet content(uint64_t number, const char *text) {
        static InputFile credentials[1], files[2];
        static char environment[64];

        credentials[0] = (InputFile) { "db", text, strlen(text) };
        files[0] = (InputFile) { "a", text, strlen(text) };
        files[1] = (InputFile) { "sub/deep/b", text, strlen(text) };
        snprintf(environment, sizeof(environment), "A=\"%s\"\n", text);
        return (InputFileSet) { .folder = UNIT,
                                .digest = text,
                                .number = number,
                                .credentials = credentials,
                                .n_credentials = 1,
                                .files = files,
                                .n_files = 2,
                                .environment = environment };
}

/* The path of a name below the folder of the unit, or of that itself: "". */
static char *below(const char *root, const char *name) {
        char *path = NULL;

        assert_true(asprintf(&path, "%s/%s%s%s", root, UNIT, name[0] ? "/" : "", name) > 0);
        return path;
}

static bool holds(const char *root, const char *name, const char *text) {
        _cleanup_free_ char *path = below(root, name);

        return file_holds_at(AT_FDCWD, path, text, strlen(text));
}

static void assert_content(Fixture *f, const char *text) {
        char environment[64];

        snprintf(environment, sizeof(environment), "A=\"%s\"\n", text);
        assert_true(holds(f->credentials, "db", text));
        assert_true(holds(f->config, "environment", environment));
        assert_true(holds(f->config, "current/a", text));
        assert_true(holds(f->config, "current/sub/deep/b", text));
}

/* All names of a folder, with one space after each. */
static const char *names_of(const char *root, const char *folder) {
        _cleanup_free_ char *path = folder ? below(root, folder) : strdup(root);
        static char all[4096];
        char **names;
        size_t n, at = 0;

        assert_int_equal(list_folder_at(AT_FDCWD, path, NULL, 100, &names, &n), 0);
        all[0] = 0;
        for (size_t i = 0; i < n; i++)
                at += snprintf(all + at, sizeof(all) - at, "%s ", names[i]);
        strings_free(names, n);
        return all;
}

static const char *version(Fixture *f) {
        _cleanup_free_ char *path = below(f->config, "current");
        static char target[64];
        ssize_t n = readlink(path, target, sizeof(target) - 1);

        assert_true(n > 0);
        target[n] = 0;
        return target;
}

static int restore(Fixture *f, InputFileState *ret) {
        *ret = (InputFileState) {};
        return f->files->ops->restore(f->files, UNIT, ret);
}

static mode_t mode_of(const char *root, const char *name) {
        _cleanup_free_ char *path = below(root, name);
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        return st.st_mode;
}

static void files_are_readable_under_any_umask(void **state) {
        const mode_t masks[] = { 0077, 0000, getuid() == 0 ? 0777 : 0027 };

        for (size_t i = 0; i < ELEMENTS(masks); i++) {
                Fixture *f;
                mode_t mask;

                assert_int_equal(setup((void **) &f), 0);
                mask = umask(masks[i]);
                assert_int_equal(put(f, &(InputFileSet[]) { content(1, "one") }[0]), 0);
                umask(mask);
                assert_content(f, "one");
                assert_int_equal(mode_of(f->config, ".."), S_IFDIR | 0755);
                assert_int_equal(mode_of(f->config, "."), S_IFDIR | 0755);
                assert_int_equal(mode_of(f->config, "v1"), S_IFDIR | 0755);
                assert_int_equal(mode_of(f->config, "v1/sub/deep"), S_IFDIR | 0755);
                assert_int_equal(mode_of(f->config, "v1/sub/deep/b"), S_IFREG | 0644);
                assert_int_equal(mode_of(f->config, "environment"), S_IFREG | 0600);
                assert_int_equal(mode_of(f->credentials, "."), S_IFDIR | 0700);
                assert_int_equal(mode_of(f->credentials, "db"), S_IFREG | 0600);
                assert_int_equal(mode_of(f->copies, ""), S_IFREG | 0600);
                teardown((void **) &f);
        }
}

/* As a service with User=. */
static void another_user_reads_files_but_neither_environment_nor_credentials(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *file = below(f->config, "current/sub/deep/b"),
                            *environment = below(f->config, "environment");
        const InputFileSet set = content(1, "one");
        mode_t mask = umask(0077);
        int status;
        pid_t pid;

        assert_int_equal(put(f, &set), 0);
        umask(mask);
        if (getuid() != 0)
                skip();
        assert_int_equal(chmod(f->scratch, 0755), 0);
        pid = fork();
        if (pid == 0)
                _exit(setuid(65534) == 0 && access(file, R_OK) == 0 && access(environment, R_OK) < 0 ? 0 : 1);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

static void a_version_stays_until_there_are_two_later_ones(void **state) {
        Fixture *f = *state;
        InputFileSet set = content(4, "one");

        assert_int_equal(put(f, &set), 0);
        assert_string_equal(names_of(f->config, "."), "current environment v1 ");
        set = content(7, "two");
        assert_int_equal(put(f, &set), 0);
        assert_string_equal(names_of(f->config, "."), "current environment v1 v2 ");
        assert_string_equal(version(f), "v2");
        assert_true(holds(f->config, "v1/a", "one"));
        set = content(8, "three");
        assert_int_equal(put(f, &set), 0);
        assert_string_equal(names_of(f->config, "."), "current environment v2 v3 ");
        assert_content(f, "three");
}

static void a_content_without_a_file_of_the_former_one_has_none(void **state) {
        Fixture *f = *state;
        InputFileSet set = content(4, "one");
        InputFileState s;

        assert_int_equal(put(f, &set), 0);
        set.number = 5;
        set.digest = "other";
        set.n_files = 1;
        set.environment = "";
        assert_int_equal(put(f, &set), 0);
        assert_string_equal(names_of(f->config, "current"), "a ");
        assert_true(holds(f->config, "environment", ""));
        assert_int_equal(restore(f, &s), 0);
        assert_int_equal(s.number, 5);
        assert_string_equal(s.digest, "other");
        assert_string_equal(version(f), "v2");
}

static void files_have_the_bytes_of_the_content(void **state) {
        Fixture *f = *state;
        InputFileSet set = SET(1, "x", .n_credentials = 2,
                               .credentials = FILES(FILE_OF("db", "sealed\0one"), FILE_OF("tls.key", "")));
        _cleanup_free_ char *db = below(f->credentials, "db");

        assert_int_equal(put(f, &set), 0);
        assert_string_equal(names_of(f->credentials, "."), "db tls.key ");
        assert_true(file_holds_at(AT_FDCWD, db, "sealed\0one", 10));
        assert_string_equal(names_of(f->config, "current"), "");
}

static void a_missing_file_is_found_and_made_from_the_copy(void **state) {
        const Names credentials = { .items = (char *[]) { (char *) "db" }, .n = 1 };
        Fixture *f = *state;
        _cleanup_free_ char *db = below(f->credentials, "db"), *environment = below(f->config, "environment"),
                            *current = below(f->config, "current"), *version = below(f->config, "v1");
        InputFileSet set = content(1, "one");
        InputFileState s;

        assert_false(f->files->ops->check(f->files, UNIT, &credentials));
        assert_int_equal(put(f, &set), 0);
        assert_true(f->files->ops->check(f->files, UNIT, &credentials));
        for (unsigned i = 0; i < 4; i++) {
                if (i == 0)
                        assert_int_equal(unlink(environment), 0);
                else if (i == 1)
                        assert_int_equal(unlink(current), 0);
                else
                        assert_int_equal(remove_tree_at(AT_FDCWD, i == 2 ? version : f->config), 0);
                assert_false(f->files->ops->check(f->files, UNIT, &credentials));
                assert_int_equal(restore(f, &s), 0);
                assert_true(f->files->ops->check(f->files, UNIT, &credentials));
                assert_content(f, "one");
        }
        assert_int_equal(unlink(db), 0);
        assert_false(f->files->ops->check(f->files, UNIT, &credentials));
}

/* -- Readers -- */

typedef struct Look {
        int folder_fd; /* as of a mount */
        atomic_uint n;
        atomic_bool ends;
        const char *wrong;
} Look;

static bool read_pair(int current_fd, char a[static 16], char b[static 16]) {
        static const char *const names[] = { "a", "sub/deep/b" };
        char *const values[] = { a, b };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_close_ int fd = openat(current_fd, names[i], O_RDONLY | O_CLOEXEC);
                ssize_t n = fd < 0 ? -1 : read(fd, values[i], 15);

                if (n < 0)
                        return false;
                values[i][n] = 0;
        }
        return true;
}

static void *look_run(void *userdata) {
        Look *look = userdata;

        while (!atomic_load(&look->ends)) {
                _cleanup_close_ int fd = openat(look->folder_fd, "current",
                                                O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                char a[16], b[16];

                if (fd < 0)
                        look->wrong = "there is no current";
                else if (!read_pair(fd, a, b))
                        look->wrong = "a file is missing";
                else if (!a[0] || !streq(a, b))
                        look->wrong = "files are of two contents, or empty";
                atomic_fetch_add(&look->n, 1);
        }
        return NULL;
}

static void look_completely(Look *look) {
        unsigned n = atomic_load(&look->n);

        while (atomic_load(&look->n) < n + 2)
                (void) sched_yield();
}

/* A reader that holds the folder, as a container does, meets one whole content at each time. */
static void a_reader_has_one_whole_content_at_each_time(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *folder = below(f->config, ".");
        InputFileSet set = content(1, "first");
        pthread_t thread;
        Look look = {};
        char text[16];

        assert_int_equal(put(f, &set), 0);
        look.folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(look.folder_fd >= 0);
        assert_int_equal(pthread_create(&thread, NULL, look_run, &look), 0);
        for (unsigned k = 2; k < 50; k++) {
                snprintf(text, sizeof(text), "content-%u", k);
                set = content(k, text);
                assert_int_equal(put(f, &set), 0);
                look_completely(&look); /* it may be in the version before, not in that before it */
        }
        atomic_store(&look.ends, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        close(look.folder_fd);
        if (look.wrong)
                fail_msg("%s", look.wrong);
        assert_content(f, "content-49");
}

/* -- Boots, crashes -- */

static void after_a_boot_the_files_in_memory_are_made_from_the_copy(void **state) {
        Fixture *f = *state;
        InputFileSet set = content(9, "one");
        InputFileState s;

        assert_int_equal(restore(f, &s), -ENOENT);
        assert_int_equal(put(f, &set), 0);
        assert_int_equal(remove_tree_at(AT_FDCWD, f->config), 0);
        fixture_close(f);
        fixture_open(f);
        assert_int_equal(restore(f, &s), 0);
        assert_int_equal(s.number, 9);
        assert_string_equal(s.digest, "one");
        assert_content(f, "one");
        assert_int_equal(mode_of(f->config, "v1/sub"), S_IFDIR | 0755);
        assert_int_equal(restore(f, &s), 0); /* now it is complete */
        assert_string_equal(names_of(f->config, "."), "current environment v1 ");
}

static void without_one_of_its_credentials_a_copy_is_of_no_use(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *db = below(f->credentials, "db");
        InputFileSet set = content(9, "one");
        InputFileState s;

        assert_int_equal(put(f, &set), 0);
        assert_int_equal(unlink(db), 0);
        assert_int_equal(restore(f, &s), -ENOENT);
        assert_int_equal(put(f, &set), 0);
        assert_int_equal(restore(f, &s), 0);
}

static void what_an_interrupted_put_has_left_is_removed(void **state) {
        char left[3][FILE_TEMPORARY_SIZE] = { "v3" }, hidden[FILE_TEMPORARY_SIZE];
        Fixture *f = *state;
        _cleanup_free_ char *credential = NULL, *copy = NULL;
        InputFileSet set = content(1, "one");
        InputFileState s;

        file_temporary_name("db", hidden);
        credential = below(f->credentials, hidden);
        file_temporary_name(UNIT, hidden);
        assert_true(asprintf(&copy, "%s/%s", f->copies, hidden) > 0);
        file_temporary_name("environment", left[1]);
        file_temporary_name("current", left[2]);
        assert_int_equal(put(f, &set), 0);
        set = content(2, "two");
        assert_int_equal(put(f, &set), 0);
        for (unsigned round = 0; round < 2; round++) {
                for (size_t i = 0; i < ELEMENTS(left); i++) {
                        _cleanup_free_ char *path = below(f->config, left[i]), *file = NULL;

                        assert_true(asprintf(&file, "%s/%s", path, "a") > 0);
                        assert_true(i > 0 || mkdir(path, 0700) == 0);
                        scratch_write(i > 0 ? path : file, "half");
                }
                scratch_write(credential, "half");
                scratch_write(copy, "half");
                if (round == 0) {
                        assert_int_equal(restore(f, &s), 0);
                        assert_string_equal(names_of(f->config, "."), "current environment v1 v2 ");
                        assert_content(f, "two");
                } else {
                        set = content(3, "three");
                        assert_int_equal(put(f, &set), 0);
                        assert_string_equal(names_of(f->config, "."), "current environment v2 v3 ");
                        assert_content(f, "three");
                }
                assert_string_equal(names_of(f->credentials, "."), "db ");
                assert_string_equal(names_of(f->copies, NULL), UNIT " ");
        }
}

/* Between the renames of the copy and of the link. */
static void the_copy_decides_when_the_files_are_of_another_content(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *current = below(f->config, "current"),
                            *environment = below(f->config, "environment");
        InputFileSet set = content(1, "one");
        InputFileState s;

        assert_int_equal(put(f, &set), 0);
        set = content(2, "two");
        set.n_files = 1;
        assert_int_equal(put(f, &set), 0);
        assert_int_equal(unlink(current), 0);
        assert_int_equal(symlink("v1", current), 0);
        scratch_write(environment, "of v1");
        assert_int_equal(restore(f, &s), 0);
        assert_int_equal(s.number, 2);
        assert_string_equal(names_of(f->config, "current"), "a ");
        assert_string_equal(version(f), "v2");
        assert_true(holds(f->config, "environment", "A=\"two\"\n") && holds(f->config, "v1/a", "one"));
}

static void a_damaged_copy_is_none(void **state) {
        Fixture *f = *state;
        _cleanup_free_ char *copy = below(f->copies, ""), *bytes = NULL;
        InputFileSet set = content(2, "two");
        InputFileState s;
        size_t size;
        int fd;

        assert_int_equal(put(f, &set), 0);
        assert_int_equal(read_file_at(AT_FDCWD, copy, CONTENT_BYTES_MAX, &bytes, &size), 0);
        for (size_t i = 0; i < 2 * size; i++) {
                InputCopy read;

                bytes[i % size] ^= i < size ? 1 << i % 8 : 0; /* a bit is wrong, or the end is missing */
                assert_int_equal(input_copy_read(bytes, i < size ? size : i - size, &read), -EBADMSG);
                bytes[i % size] ^= i < size ? 1 << i % 8 : 0;
        }
        fd = open(copy, O_WRONLY | O_TRUNC | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(write_all(fd, bytes, size - 1), 0);
        close(fd);
        assert_int_equal(restore(f, &s), -EBADMSG);
        assert_int_equal(put(f, &set), 0);
        assert_int_equal(restore(f, &s), 0);
}

/* -- What fails -- */

static void a_copy_with_a_name_that_leaves_the_folder_is_none(void **state) {
        static const char *const names[] = { "",     "/",    "/a",    "a/",      "a//b", ".",
                                             "..",   "a/..", "../a",  "a/../..", "./a",  "a/.",
                                             "../x", "..//", "a/./b", "../../x" };
        Fixture *f = *state;
        InputFileSet set = content(1, "one");
        InputFileState s;
        int fd;

        assert_int_equal(put(f, &set), 0);
        fd = open(f->copies, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        for (size_t i = 0; i < 2 * ELEMENTS(names); i++) {
                ContentItem item = { names[i / 2], "x", 1 };
                InputCopy copy = {};
                _cleanup_writer_ Writer w = {};

                copy.content.lists[i % 2 ? 2 : 0] = &item;
                copy.content.n[i % 2 ? 2 : 0] = 1;
                input_copy_write(&copy, &w);
                assert_int_equal(write_file_at(fd, UNIT, w.bytes, w.size, 0600), 0);
                assert_int_equal(restore(f, &s), -EBADMSG);
        }
        close(fd);
        set.files = FILES(FILE_OF("...", "1"), FILE_OF(".a/..b", "2"));
        set.n_files = 2;
        assert_int_equal(put(f, &set), 0);
        assert_int_equal(remove_tree_at(AT_FDCWD, f->config), 0);
        assert_int_equal(restore(f, &s), 0);
        assert_true(holds(f->config, "current/.a/..b", "2"));
}

static void a_content_of_the_largest_size_fits(void **state) {
        Fixture *f = *state;
        InputFile *files = NEW0(InputFile, INPUT_FILES_MAX);
        char(*names)[16] = calloc(INPUT_FILES_MAX, sizeof(*names));
        char *environment = calloc(1, 2 * INPUT_VARIABLES_SIZE_MAX + 1),
             *value = calloc(1, INPUT_FILES_SIZE_MAX);
        InputFileSet set = SET(1, "x", .files = files, .n_files = INPUT_FILES_MAX);
        InputFileState s;

        memset(environment, '\\', 2 * INPUT_VARIABLES_SIZE_MAX);
        set.environment = environment;
        for (size_t i = 0; i < INPUT_FILES_MAX; i++) {
                snprintf(names[i], sizeof(names[i]), "%zu/%zu", i / 300, i);
                files[i] = (InputFile) { names[i], value, i == 0 ? INPUT_FILES_SIZE_MAX : 0 };
        }
        assert_int_equal(put(f, &set), 0);
        assert_int_equal(remove_tree_at(AT_FDCWD, f->config), 0);
        assert_int_equal(restore(f, &s), 0);
        assert_true(holds(f->config, "current/3/999", ""));
        free(value);
        free(environment);
        free(names);
        free(files);
}

static void after_a_failure_the_former_content_is_in_force(void **state) {
        Fixture *f = *state;
        InputFileSet set = content(1, "one");
        InputFileState s;

        assert_int_equal(put(f, &set), 0);
        set = SET(2, "x", .files = FILES(FILE_OF("a", "1"), FILE_OF("a/b", "2")), .n_files = 2);
        assert_int_equal(put(f, &set), -ENOTDIR);
        assert_non_null(strstr(f->message, "/config/" UNIT ": Not a directory"));
        assert_content(f, "one");
        assert_string_equal(names_of(f->config, "."), "current environment v1 ");
        assert_string_equal(names_of(f->copies, NULL), UNIT " ");
        assert_int_equal(restore(f, &s), 0);
        assert_int_equal(s.number, 1);
        assert_int_equal(remove_tree_at(AT_FDCWD, f->copies), 0);
        scratch_write(f->copies, "no folder");
        assert_int_equal(put(f, &set), -ENOTDIR);
        assert_content(f, "one");
}

/* Each file system in turn. */
static void on_a_full_disk_the_former_content_is_in_force(void **state) {
        char *value = calloc(1, 256 * 1024);

        for (unsigned i = 0; i < 3; i++) {
                InputFile large = { i == 0 ? "db" : "a", value, 256 * 1024 };
                InputFileSet set = content(1, "one");
                char expected[256];
                InputFileState s;
                const char *root;
                Fixture *f;

                assert_int_equal(setup((void **) &f), 0);
                root = i == 0 ? f->credentials : i == 1 ? f->config : f->copies;
                close(open_dir(root, 0755));
                if (mount("tmpfs", root, "tmpfs", 0, "size=128k") < 0) {
                        teardown((void **) &f);
                        free(value);
                        skip();
                }
                assert_int_equal(put(f, &set), 0);
                set = content(2, "two");
                if (i == 0)
                        set.credentials = &large;
                else
                        set.files = &large;
                set.n_files = 1;
                assert_int_equal(put(f, &set), -ENOSPC);
                snprintf(expected, sizeof(expected), "Failed to write %s/" UNIT ": No space left on device",
                         root);
                assert_string_equal(f->message, expected);
                if (i == 0)
                        assert_true(holds(f->credentials, "db", "one"));
                assert_true(holds(f->config, "current/a", "one"));
                assert_true(holds(f->config, "current/sub/deep/b", "one"));
                assert_true(holds(f->config, "environment", "A=\"one\"\n"));
                assert_string_equal(names_of(f->config, "."), "current environment v1 ");
                assert_string_equal(names_of(f->credentials, "."), "db ");
                assert_int_equal(restore(f, &s), 0);
                assert_int_equal(s.number, 1);
                set = content(3, "three"); /* there is room again */
                assert_int_equal(put(f, &set), 0);
                assert_content(f, "three");
                assert_int_equal(umount(root), 0);
                teardown((void **) &f);
        }
        free(value);
}

/* The same without privileges. */
static void a_limit_of_the_size_of_files_is_an_error(void **state) {
        Fixture *f = *state;
        InputFileSet set = content(1, "one");
        char value[4000] = {};
        struct rlimit before, small;

        assert_int_equal(put(f, &set), 0);
        set.files = FILES({ "a", value, sizeof(value) });
        set.n_files = 1;
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        small = (struct rlimit) { 2000, before.rlim_max };
        (void) signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_int_equal(put(f, &set), -EFBIG);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        (void) signal(SIGXFSZ, SIG_DFL);
        assert_content(f, "one");
        assert_string_equal(names_of(f->copies, NULL), UNIT " ");
}

/* -- Calls -- */

/* The loop waits for it. */
static void a_put_ends_after_its_owner(void **state) {
        Fixture *f = *state;
        InputFileSet set;
        InputFileState s;

        for (unsigned i = 0; i < 10; i++) {
                set = content(1 + i, i % 2 ? "odd" : "even");
                assert_int_equal(f->files->ops->put(f->files, &set, on_done, f), 0);
                for (unsigned k = 0; k < i; k++)
                        (void) sched_yield(); /* the work may have begun or ended */
                fixture_close(f);
                assert_int_equal(f->answers, 1 + i);
                assert_int_equal(f->error, 0);
                fixture_open(f);
                assert_int_equal(restore(f, &s), 0);
                assert_int_equal(s.number, 1 + i);
                assert_content(f, i % 2 ? "odd" : "even");
                assert_string_equal(names_of(f->credentials, "."), "db ");
        }
}

static void folders_are_listed_until_they_are_removed(void **state) {
        static const char *const folders[] = { "a.service", "b.container" };
        Fixture *f = *state;
        InputFileSet set;
        char **names;
        size_t n;

        assert_int_equal(f->files->ops->list(f->files, &names, &n), -ENOENT);
        for (size_t i = 0; i < ELEMENTS(folders); i++) {
                set = content(1, "one");
                set.folder = folders[i];
                assert_int_equal(put(f, &set), 0);
        }
        assert_int_equal(f->files->ops->list(f->files, &names, &n), 0);
        assert_int_equal(n, 2);
        for (size_t i = 0; i < n; i++)
                assert_string_equal(names[i], folders[i]);
        strings_free(names, n);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(f->files->ops->remove(f->files, "a.service"), 0);
                assert_string_equal(names_of(f->credentials, NULL), "b.container ");
                assert_string_equal(names_of(f->config, NULL), "b.container ");
                assert_string_equal(names_of(f->copies, NULL), "b.container ");
        }
}

int main(void) {
#define in_a_folder(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(files_are_readable_under_any_umask),
                in_a_folder(another_user_reads_files_but_neither_environment_nor_credentials),
                in_a_folder(a_version_stays_until_there_are_two_later_ones),
                in_a_folder(a_content_without_a_file_of_the_former_one_has_none),
                in_a_folder(files_have_the_bytes_of_the_content),
                in_a_folder(a_missing_file_is_found_and_made_from_the_copy),
                in_a_folder(a_reader_has_one_whole_content_at_each_time),
                in_a_folder(after_a_boot_the_files_in_memory_are_made_from_the_copy),
                in_a_folder(without_one_of_its_credentials_a_copy_is_of_no_use),
                in_a_folder(what_an_interrupted_put_has_left_is_removed),
                in_a_folder(the_copy_decides_when_the_files_are_of_another_content),
                in_a_folder(a_damaged_copy_is_none),
                in_a_folder(a_copy_with_a_name_that_leaves_the_folder_is_none),
                in_a_folder(a_content_of_the_largest_size_fits),
                in_a_folder(after_a_failure_the_former_content_is_in_force),
                cmocka_unit_test(on_a_full_disk_the_former_content_is_in_force),
                in_a_folder(a_limit_of_the_size_of_files_is_an_error),
                in_a_folder(a_put_ends_after_its_owner),
                in_a_folder(folders_are_listed_until_they_are_removed),
        };

        /* Before the first thread: what a failed test has mounted ends with this program. */
        if (unshare(CLONE_NEWNS) == 0)
                (void) mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
