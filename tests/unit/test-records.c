/* Assignment records on disk: they are read back unchanged, and a corrupt part affects only itself. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "fleetd/agent/records.h"
#include "tests/lib/scratch.h"

static const char boot[] = "b0000000000000000000000000000001",
                  invocation[] = "10000000000000000000000000000000";

/* The next call of these fails with this error. */
static int mkdir_error, fsync_error, fdopendir_error, link_error;

int __real_mkdirat(int fd, const char *name, mode_t mode);
int __wrap_mkdirat(int fd, const char *name, mode_t mode);
int __real_fsync_dir(int fd);
int __wrap_fsync_dir(int fd);
DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);

static bool fails(int *error) {
        if (*error == 0)
                return false;
        errno = *error;
        *error = 0;
        return true;
}

int __wrap_mkdirat(int fd, const char *name, mode_t mode) {
        return fails(&mkdir_error) ? -1 : __real_mkdirat(fd, name, mode);
}

/* A write that is held in the middle. */
static struct {
        bool armed;
        sem_t begun, goes_on, locking;
        unsigned n;
} hold;

int __wrap_fsync_dir(int fd) {
        if (hold.armed && hold.n++ == 0) {
                assert_int_equal(sem_post(&hold.begun), 0);
                assert_int_equal(sem_wait(&hold.goes_on), 0);
        }
        return fails(&fsync_error) ? -errno : __real_fsync_dir(fd);
}

DIR *__wrap_fdopendir(int fd) {
        return fails(&fdopendir_error) ? NULL : __real_fdopendir(fd);
}

int __real_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);

int __wrap_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags) {
        return fails(&link_error) ? -1 : __real_linkat(from_fd, from, to_fd, to, flags);
}

int __real_pthread_mutex_lock(pthread_mutex_t *lock);
int __wrap_pthread_mutex_lock(pthread_mutex_t *lock);

int __wrap_pthread_mutex_lock(pthread_mutex_t *lock) {
        if (hold.armed)
                assert_int_equal(sem_post(&hold.locking), 0);
        return __real_pthread_mutex_lock(lock);
}

static Unit *unit_of(const char *name, const char *text) {
        Unit *unit = NULL;

        assert_int_equal(unit_parse(name, text, strlen(text), &unit, NULL), 0);
        return unit;
}

static AssignmentRecord *record(AssignmentRecords *n, const char *name, const char *text, AssignmentKind kind,
                                uint64_t index) {
        _cleanup_unit_ Unit *unit = unit_of(name, text);
        AssignmentRecord *ret = NULL;

        assert_int_equal(records_put(n, unit, kind, index - 1, index, &ret), 0);
        return ret;
}

static int scratch_setup(void **state) {
        *state = scratch_new();
        return 0;
}

static int scratch_teardown(void **state) {
        scratch_free(*state);
        return 0;
}

static void the_first_records_are_empty_and_create_their_folder(void **state) {
        _cleanup_free_ char *dir = scratch_path(*state, "a/b");
        _cleanup_(records_close) AssignmentRecords n;

        assert_int_equal(records_open(&n, dir, NULL), 0);
        assert_null(n.table);
        assert_int_equal(n.lineage, 0);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(access(dir, F_OK), 0);
}

/* A copied disk, or a changed machine ID, on a host that has no certificate. Records of an older version name
 * no machine. */
static void records_of_another_machine_are_not_taken(void **state) {
        static const char one[] = "11111111111111111111111111111111",
                          other[] = "22222222222222222222222222222222";
        AssignmentRecords n;
        Error err = {};

        assert_int_equal(records_open(&n, *state, NULL), 0);
        (void) record(&n, "web.service", "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN, 20);
        assert_int_equal(records_save(&n), 0);
        records_close(&n);

        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_int_equal(records_take(&n, one, NULL), 0);
        assert_true(n.dirty);
        assert_int_equal(records_save(&n), 0);
        records_close(&n);

        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_int_equal(records_take(&n, other, &err), -EPERM);
        assert_non_null(
                strstr(err.message, " has the units of machine 11111111, and this host is 22222222 "));
        assert_int_equal(records_take(&n, one, NULL), 0);
        assert_false(n.dirty);
        records_remove(&n, "web.service");
        assert_int_equal(records_save(&n), 0);
        records_close(&n);

        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_int_equal(records_take(&n, other, NULL), 0); /* it has no units */
        records_close(&n);
}

static void saved_records_are_read_back_to_the_byte(void **state) {
        static const char text[] = "# \xc3\xa4 \"quoted\"\n[Service]\nExecStart=/bin/one\\\n  two\n";
        _cleanup_free_ char *path = scratch_path(*state, "assignment"),
                            *bad = scratch_path(*state, "assignment.bad"), *stored = NULL;
        const AssignmentRecord *web, *job;
        struct stat st;
        AssignmentRecords n;
        AssignmentRecord *x;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        n.lineage = 77;
        x = record(&n, "web.service", text, ASSIGNMENT_RUN, 20);
        memcpy(x->started_boot, boot, sizeof(boot));
        memcpy(x->before, invocation, sizeof(invocation));
        memcpy(x->invocation, invocation, sizeof(invocation));
        x->starting = x->ran = x->stopped = x->stopped_for = x->replacing = x->reloading = true;
        snprintf(x->job, sizeof(x->job), "condition");
        record_ports_add(&x->ports, "http", 20017);
        record_ports_add(&x->ports, "a-b", 65535);
        x = record(&n, "job.service", "[Service]\nExecStart=/bin/two\n", ASSIGNMENT_LOAD, 31);
        x->done = x->stopping = true;
        memcpy(x->owned_boot, boot, sizeof(boot));
        assert_int_equal(records_save(&n), 0);
        assert_false(n.dirty);
        records_close(&n);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(read_file_at(AT_FDCWD, path, 4096, &stored, NULL), 0);
        assert_true(strstr(stored, "job.service") < strstr(stored, "web.service")); /* in order */

        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_int_equal(n.lineage, 77);
        assert_int_equal(n.acted_index, 31);
        assert_int_equal(HASH_COUNT(n.table), 2);
        web = records_get(&n, "web.service");
        assert_string_equal(web->unit->text, text);
        assert_int_equal(web->kind, ASSIGNMENT_RUN);
        assert_int_equal(web->unit_index, 19);
        assert_int_equal(web->index, 20);
        assert_string_equal(web->started_boot, boot);
        assert_string_equal(web->before, invocation);
        assert_string_equal(web->invocation, invocation);
        assert_true(web->starting);
        assert_true(web->ran);
        assert_true(web->stopped);
        assert_true(web->stopped_for);
        assert_true(web->replacing && web->reloading);
        assert_false(web->done);
        assert_string_equal(web->job, "condition");
        assert_non_null(strstr(stored, ",\"ports\":{\"http\":20017,\"a-b\":65535},"));
        assert_int_equal(record_ports_number(&web->ports, &(ServicePort) { "a-b" }), 65535);
        assert_int_equal(record_ports_number(&web->ports, &(ServicePort) { "http" }), 20017);
        assert_int_equal(record_ports_number(&web->ports, &(ServicePort) { "http", 80 }), 80);
        assert_int_equal(record_ports_number(&web->ports, &(ServicePort) { "other" }), 0);
        job = records_get(&n, "job.service");
        assert_int_equal(job->kind, ASSIGNMENT_LOAD);
        assert_false(job->stopped_for);
        assert_false(job->replacing || job->reloading);
        assert_string_equal(job->started_boot, "");
        assert_string_equal(job->owned_boot, boot);
        assert_string_equal(web->owned_boot, "");
        assert_true(job->done);
        assert_true(job->stopping);
        assert_false(web->stopping);
        assert_false(n.dirty);
        assert_int_equal(access(bad, F_OK), -1);
        records_close(&n);
}

/* A lineage has 64 random bits, more than a JSON number holds. */
static void every_lineage_is_read_back(void **state) {
        static const uint64_t lineages[] = { 1, INT64_MAX, (uint64_t) INT64_MAX + 1, UINT64_MAX };

        for (size_t i = 0; i < ELEMENTS(lineages); i++) {
                AssignmentRecords n;

                assert_int_equal(records_open(&n, *state, NULL), 0);
                n.lineage = lineages[i];
                n.dirty = true;
                assert_int_equal(records_save(&n), 0);
                records_close(&n);

                assert_int_equal(records_open(&n, *state, NULL), 0);
                assert_true(n.lineage == lineages[i]);
                records_close(&n);
        }
}

static void a_removed_record_stays_removed_but_its_index_counts(void **state) {
        AssignmentRecords n;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        record(&n, "web.service", "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN, 19)->stopping = true;
        assert_false(record(&n, "web.service", "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN, 20)
                             ->stopping); /* assigned again */
        records_remove(&n, "web.service");
        records_remove(&n, "never.service");
        assert_int_equal(records_save(&n), 0);
        records_close(&n);

        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_null(n.table);
        assert_int_equal(n.acted_index, 20);
        records_close(&n);
}

/* A leaked descriptor raises it. */
static int lowest_fd(void) {
        int fd = dup(STDIN_FILENO);

        assert_true(fd >= 0);
        close(fd);
        return fd;
}

static void an_unchanged_record_is_not_written_again(void **state) {
        _cleanup_free_ char *path = scratch_path(*state, "assignment");
        struct stat before, after;
        int fd = lowest_fd(), fd_open;
        AssignmentRecords n;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        fd_open = lowest_fd();
        record(&n, "web.service", "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN, 20);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(stat(path, &before), 0);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(before.st_ino, after.st_ino); /* each write is a new file */
        assert_int_equal(lowest_fd(), fd_open);
        records_close(&n);
        assert_int_equal(lowest_fd(), fd);
}

static void a_corrupt_file_is_kept_under_another_name_and_the_daemon_starts(void **state) {
        static const char *const broken[] = {
                "",
                "{",
                "[]x",
                "{\"floor\":-1}",
                "{\"lineage\":\"x\"}",
                "{\"lineage\":7,\"floor\":9}",
                "{\"era\":5}",
                "{\"boot\":5}",
                "{\"lineage\":\"00000000000000ab\",\"era\":5}",
        };
        _cleanup_free_ char *path = scratch_path(*state, "assignment"),
                            *bad = scratch_path(*state, "assignment.bad");

        for (size_t i = 0; i < ELEMENTS(broken); i++) {
                _cleanup_free_ char *kept = NULL;
                _cleanup_(records_close) AssignmentRecords n;

                (void) unlink(bad);
                scratch_write(path, broken[i]);
                assert_int_equal(records_open(&n, *state, NULL), 0);
                assert_null(n.table);
                assert_int_equal(n.lineage, 0);
                assert_int_equal(n.acted_index, 0);
                assert_int_equal(access(path, F_OK), -1);
                assert_int_equal(read_file_at(AT_FDCWD, bad, 4096, &kept, NULL), 0);
                assert_string_equal(kept, broken[i]);
                record(&n, "web.service", "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN, 20);
                assert_int_equal(records_save(&n), 0);
        }
}

static void a_corrupt_entry_affects_no_other_entry(void **state) {
        static const char *const broken[] = {
                "{}",
                "5",
                "{\"name\":\"b.service\",\"order\":\"stop\",\"text\":\"\"}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":5}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"\",\"startedBoot\":\"short\"}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"\",\"before\":\"short\"}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"[Service\"}",
                "{\"name\":\"b.service\",\"order\":\"hold\",\"text\":\"\"}",
                "{\"order\":\"run\",\"text\":\"\"}",
                "{\"name\":\"b.service\",\"order\":\"run\"}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"\",\"replacing\":5}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"\",\"ports\":{\"http\":1023}}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"\",\"ports\":{\"http\":65536}}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"\",\"ports\":{\"http\":\"x\"}}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"\",\"ports\":{\"HTTP\":20017}}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"text\":\"\",\"ports\":{\"a\":2000,\"b\":2000,"
                "\"c\":2000,\"d\":2000,\"e\":2000,\"f\":2000,\"g\":2000,\"h\":2000,\"i\":2000}}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"hash\":\"../assignment\"}",
                "{\"name\":\"b.service\",\"order\":\"run\",\"hash\":\"../unit\"}", /* which is there, and a
                                                                                      unit */
                "{\"name\":\"b.service\",\"order\":\"run\",\"hash\":"
                "\"0123456789012345678901234567890123456789\"}",
        };
        _cleanup_free_ char *path = scratch_path(*state, "assignment"),
                            *bad = scratch_path(*state, "assignment.bad");
        _cleanup_free_ char *texts = scratch_path(*state, "texts"), *unit = scratch_path(*state, "unit");

        assert_int_equal(mkdir(texts, 0700), 0);
        scratch_write(unit, "");
        for (size_t i = 0; i < ELEMENTS(broken); i++) {
                _cleanup_free_ char *text = NULL, *kept = NULL;
                AssignmentRecords n;

                assert_true(asprintf(&text,
                                     "{\"lineage\":\"00000000000000ab\",\"floor\":9,\"units\":[{\"name\":\"a."
                                     "service\",\"order\":\"run\",\"text\":"
                                     "\"\",\"index\":8,\"done\":true},%s,{\"name\":\"c.service\",\"order\":"
                                     "\"load\",\"text\":\"\"}]}",
                                     broken[i]) > 0);
                scratch_write(path, text);
                assert_int_equal(records_open(&n, *state, NULL), 0);
                assert_int_equal(HASH_COUNT(n.table), 2);
                assert_true(records_get(&n, "a.service")->done);
                assert_int_equal(records_get(&n, "a.service")->unit_index, 0);
                assert_non_null(records_get(&n, "c.service"));
                assert_int_equal(records_get(&n, "c.service")->index, 0);
                assert_int_equal(n.lineage, 0xab);
                assert_int_equal(n.acted_index, 9);
                n.dirty = true;
                assert_int_equal(records_save(&n), 0);
                records_close(&n);
                assert_int_equal(read_file_at(AT_FDCWD, bad, 4096, &kept, NULL), 0);
                assert_string_equal(kept, text);
        }
}

static size_t n_texts(void *scratch) {
        _cleanup_free_ char *path = scratch_path(scratch, "texts");
        struct dirent **names;
        int n = scandir(path, &names, NULL, alphasort);

        for (int i = 0; i < n; i++)
                free(names[i]);
        if (n >= 0)
                free(names);
        return n < 0 ? 0 : n - 2;
}

#define ONE "[Service]\nExecStart=/bin/one\n"

static void a_corrupt_file_that_cannot_be_renamed_is_an_error_or_is_read_as_empty(void **state) {
        static const char *const broken[] = { "nonsense", "{\"floor\":5,\"units\":[5]}" };
        _cleanup_free_ char *dir = scratch_path(*state, "agent"), *bad = scratch_path(dir, "assignment.bad"),
                            *path = scratch_path(dir, "assignment");
        AssignmentRecords n;

        assert_int_equal(mkdir(dir, 0700), 0);
        assert_int_equal(mkdir(bad, 0700), 0); /* no file replaces a folder */
        for (size_t i = 0; i < ELEMENTS(broken); i++) {
                Error err = {};

                scratch_write(path, broken[i]);
                assert_int_equal(records_open(&n, dir, &err), -EISDIR);
                assert_non_null(strstr(err.message, "Failed to rename"));
                assert_null(n.table);
                records_close(&n);
                assert_int_equal(access(path, F_OK), 0);
        }
        assert_int_equal(rmdir(bad), 0);

        scratch_write(path, broken[1]);
        link_error = EMLINK;
        assert_int_equal(records_open(&n, dir, NULL), 0);
        assert_int_equal(n.acted_index, 0);
        records_close(&n);
        assert_int_equal(access(bad, F_OK), 0);
        assert_int_equal(access(path, F_OK), -1);
}

static void texts_of_a_mebibyte_in_total_are_in_one_file(void **state) {
        enum { UNITS = 16, TEXT_SIZE = RECORDS_INLINE_MAX / UNITS, LINE_SIZE = 64 };
        _cleanup_free_ char *text = malloc(TEXT_SIZE + 1);
        _cleanup_(records_close) AssignmentRecords n;

        for (size_t i = 0; i < TEXT_SIZE; i++)
                text[i] = i % LINE_SIZE == 0 ? '#' : i % LINE_SIZE == LINE_SIZE - 1 ? '\n' : 'a';
        memcpy(text, ONE "#", strlen(ONE "#"));
        text[TEXT_SIZE] = 0;
        assert_int_equal(records_open(&n, *state, NULL), 0);
        for (unsigned i = 0; i < UNITS; i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", i);
                assert_int_equal(record(&n, name, text, ASSIGNMENT_RUN, 20 + i)->unit->text_size, TEXT_SIZE);
        }
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), 0);
        (void) record(&n, "more.service", ONE, ASSIGNMENT_RUN, 99);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), 1); /* they differ in comments only */
}

static void fill(char *big, size_t size, unsigned i) {
        size_t at = snprintf(big, size, "[Service]\nExecStart=/bin/one %u\n", i);

        for (; at + 60 < size; at += 60)
                memcpy(big + at, "Environment=abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuv\n", 60),
                        big[at + 59] = '\n';
        big[at] = 0;
}

/* As many as a host may have: a written file can be read, and a change writes no text again. */
static void texts_beyond_a_mebibyte_are_in_files_of_their_own_and_written_once(void **state) {
        enum { UNITS = 160, TEXT_SIZE = 120 * 1000 };
        _cleanup_free_ char *path = scratch_path(*state, "assignment"),
                            *texts = scratch_path(*state, "texts"), *big = malloc(TEXT_SIZE + 1);
        _cleanup_free_ char *one = NULL, *stray = NULL;
        struct stat before, after;
        AssignmentRecords n;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        n.lineage = 77;
        for (unsigned i = 0; i < UNITS; i++) {
                char name[32];

                fill(big, TEXT_SIZE, i);
                snprintf(name, sizeof(name), "u%u.service", i);
                record(&n, name, big, ASSIGNMENT_RUN, 20 + i)->done = i % 2;
        }
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), UNITS);
        assert_int_equal(stat(path, &after), 0);
        assert_true(after.st_size < 100 * 1000);
        records_close(&n);

        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_int_equal(HASH_COUNT(n.table), UNITS);
        assert_int_equal(n.lineage, 77);
        assert_int_equal(n.acted_index, 20 + UNITS - 1);
        assert_true(records_get(&n, "u7.service")->done);
        assert_string_equal(records_get(&n, "u159.service")->unit->text, big);
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(stat(texts, &before), 0);
                records_get(&n, "u7.service")->done = i;
                n.dirty = true;
                n.dirty_texts = false;
                assert_int_equal(records_save(&n), 0);
                assert_int_equal(stat(texts, &after), 0);
                assert_true(before.st_mtim.tv_sec == after.st_mtim.tv_sec &&
                            before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
        }
        assert_int_equal(after.st_mode & 07777, 0700);
        assert_true(asprintf(&one, "%s/%s", texts, records_get(&n, "u0.service")->unit->hash) > 0);
        assert_int_equal(stat(one, &after), 0);
        assert_int_equal(after.st_mode & 07777, 0600);

        /* Unused texts are removed; texts that fit are in one file again. */
        records_remove(&n, "u7.service");
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), UNITS - 1);
        for (unsigned i = 5; i < UNITS; i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", i);
                records_remove(&n, name);
        }
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), 0);

        /* When they do not fit any more, all have files again. */
        for (unsigned i = 5; i < 25; i++) {
                char name[32];

                fill(big, TEXT_SIZE, i);
                snprintf(name, sizeof(name), "u%u.service", i);
                record(&n, name, big, ASSIGNMENT_RUN, 200 + i);
        }
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), 25);
        records_close(&n);

        /* The next daemon removes files that a crash left. */
        stray = scratch_path(texts, "stray");
        scratch_write(stray, "");
        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_int_equal(HASH_COUNT(n.table), 25);
        n.dirty = true;
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), 25);
        records_close(&n);
}

static void a_folder_that_cannot_be_created_is_rejected_with_a_message(void **state) {
        _cleanup_free_ char *file = scratch_path(*state, "file"), *dir = scratch_path(*state, "file/agent");
        Error err = {};
        AssignmentRecords n;

        scratch_write(file, "");
        assert_int_equal(records_open(&n, dir, &err), -ENOTDIR);
        assert_non_null(strstr(err.message, "Failed to open "));
        assert_non_null(strstr(err.message, "file/agent"));
}

static bool has_text(const char *dir, const AssignmentRecord *record) {
        _cleanup_free_ char *path = NULL;

        assert_true(asprintf(&path, "%s/texts/%s", dir, record->unit->hash) > 0);
        return access(path, F_OK) == 0;
}

/* As a worker writes: changes during a write belong to the next one. */
static void changes_during_a_write_are_written_by_the_next_one(void **state) {
        static char large[120 * 1024] = "[Service]\nExecStart=/bin/one";
        _cleanup_free_ char *path = scratch_path(*state, "assignment");
        RecordsWrite *write;
        AssignmentRecord *web, *job;
        AssignmentRecords n;

        for (size_t i = strlen(large); i < sizeof(large) - 1; i++)
                large[i] = i % 64 == 0 ? '\n' : i % 64 == 1 ? '#' : i < 64 ? ' ' : 'x';
        assert_int_equal(records_open(&n, *state, NULL), 0);
        web = record(&n, "web.service", large, ASSIGNMENT_RUN, 20);
        job = record(&n, "job.service", large, ASSIGNMENT_RUN, 21);
        for (unsigned i = 0; i < 8; i++) { /* together too much for the record */
                char name[32];

                snprintf(name, sizeof(name), "other-%u.service", i);
                record(&n, name, large, ASSIGNMENT_RUN, 21);
        }
        assert_int_equal(records_write_new(&n, &write), 1);
        assert_int_equal(records_write_new(&n, &write), 0);
        memcpy(strstr(large, "one"), "two", 3);
        job = record(&n, "job.service", large, ASSIGNMENT_RUN, 22);
        records_write_run(write);
        assert_int_equal(unlink(path), 0);
        records_write_run(write); /* once is enough */
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(records_write_end(&n, write), 0);
        write = records_write_free(write);
        assert_null(records_write_free(NULL));
        assert_true(n.dirty && web->text_stored && !job->text_stored);
        assert_true(has_text(*state, web) && !has_text(*state, job));

        assert_int_equal(records_save(&n), 0);
        assert_true(!n.dirty && has_text(*state, web) && has_text(*state, job));

        /* Another text of a record with a stored text. */
        memcpy(strstr(large, "two"), "six", 3);
        job = record(&n, "job.service", large, ASSIGNMENT_RUN, 23);
        assert_int_equal(records_save(&n), 0);
        assert_true(has_text(*state, job));
        assert_int_equal(n_texts(*state), 2); /* the former one is gone */
        records_close(&n);
        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_string_equal(records_get(&n, "job.service")->unit->text, large);
        records_close(&n);
}

static char large_text[120 * 1024];

/* Record twelve units with large texts that differ; 'large_text' is the last one. */
static void record_large_ones(AssignmentRecords *n) {
        int start = snprintf(large_text, sizeof(large_text), ONE);

        for (size_t i = start; i < sizeof(large_text) - 1; i++)
                large_text[i] = i % 64 == 0 ? '\n' : '#';
        for (unsigned i = 0; i < 12; i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", i);
                large_text[start - 2] = 'a' + i;
                record(n, name, large_text, ASSIGNMENT_RUN, 20 + i);
        }
}

static void *run_write(void *write) {
        records_write_run(write);
        assert_int_equal(sem_post(&hold.locking), 0);
        return NULL;
}

/* As a daemon that stops while its worker writes. */
static void a_write_that_is_run_twice_at_once_is_made_once(void **state) {
        _cleanup_free_ char *elsewhere = scratch_path(*state, "elsewhere");
        pthread_t worker, other;
        RecordsWrite *write;
        unsigned once;
        _cleanup_(records_close) AssignmentRecords n, same;

        assert_int_equal(records_open(&same, elsewhere, NULL), 0);
        record_large_ones(&same); /* of texts with a folder that is synced */
        hold.n = 1;               /* none is held */
        hold.armed = true;
        assert_int_equal(records_save(&same), 0);
        hold.armed = false;
        once = hold.n - 1;
        assert_int_equal(records_open(&n, *state, NULL), 0);
        record_large_ones(&n);
        assert_int_equal(records_write_new(&n, &write), 1);
        assert_int_equal(sem_init(&hold.begun, 0, 0) | sem_init(&hold.goes_on, 0, 0) |
                                 sem_init(&hold.locking, 0, 0),
                         0);
        hold.n = 0;
        hold.armed = true;
        assert_int_equal(pthread_create(&worker, NULL, run_write, write), 0);
        assert_int_equal(sem_wait(&hold.begun), 0);
        while (sem_trywait(&hold.locking) == 0) /* its own */
                ;
        assert_int_equal(pthread_create(&other, NULL, run_write, write), 0);
        assert_int_equal(sem_wait(&hold.locking), 0); /* it waits for the first one, or has ended */
        assert_int_equal(sem_post(&hold.goes_on), 0);
        assert_int_equal(pthread_join(worker, NULL) | pthread_join(other, NULL), 0);
        hold.armed = false;
        assert_int_equal(hold.n, once);
        assert_int_equal(records_write_end(&n, write), 0);
        records_write_free(write);
}

/* As by rm -rf while the daemon runs: without a change, and with texts in files of their own. */
static void a_removed_folder_is_made_again_with_all_that_is_recorded(void **state) {
        _cleanup_free_ char *dir = scratch_path(*state, "agent"),
                            *elsewhere = scratch_path(*state, "elsewhere");
        RecordsWrite *write;
        struct stat st;
        _cleanup_(records_close) AssignmentRecords n;

        assert_int_equal(records_open(&n, dir, NULL), 0);
        n.lineage = 77;
        record_large_ones(&n);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(dir), 12);
        assert_false(n.dirty);
        records_check_dir(&n);
        assert_false(n.dirty);

        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(records_close) AssignmentRecords other;

                if (i == 0)
                        assert_int_equal(remove_tree_at(AT_FDCWD, dir), 0);
                else { /* another folder is in its place */
                        assert_int_equal(rename(dir, elsewhere), 0);
                        assert_int_equal(mkdir(dir, 0700), 0);
                }
                records_check_dir(&n);
                assert_int_equal(stat(dir, &st), 0);
                assert_int_equal(st.st_mode & 07777, 0700);
                assert_true(n.dirty);
                assert_int_equal(records_save(&n), 0);
                assert_int_equal(records_open(&other, dir, NULL), 0);
                assert_int_equal(HASH_COUNT(other.table), 12);
                assert_int_equal(other.lineage, 77);
                assert_int_equal(other.acted_index, 31);
                assert_string_equal(records_get(&other, "u11.service")->unit->text, large_text);
        }

        /* No check in between: the next save finds it. */
        assert_int_equal(remove_tree_at(AT_FDCWD, dir), 0);
        record(&n, "u3.service", "[Service]\nExecStart=/bin/two\n", ASSIGNMENT_RUN, 40);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(dir), 12);

        /* During a write: that write has to be repeated. */
        record(&n, "u4.service", "[Service]\nExecStart=/bin/four\n", ASSIGNMENT_RUN, 50);
        assert_int_equal(records_write_new(&n, &write), 1);
        assert_int_equal(remove_tree_at(AT_FDCWD, dir), 0);
        records_write_run(write);
        assert_int_equal(records_write_end(&n, write), -ESTALE);
        write = records_write_free(write);
        assert_true(n.dirty);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(dir), 12);
}

static void a_failed_write_leaves_the_records_dirty(void **state) {
        _cleanup_free_ char *path = scratch_path(*state, "assignment");
        _cleanup_(records_close) AssignmentRecords n;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        record(&n, "web.service", "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN, 20);
        assert_int_equal(mkdir(path, 0700), 0); /* no file replaces a folder */
        assert_int_equal(records_save(&n), -EISDIR);
        assert_true(n.dirty);
        assert_int_equal(rmdir(path), 0);
        assert_int_equal(records_save(&n), 0);
        assert_false(n.dirty);
}

static void a_unit_started_in_another_era_of_the_same_boot_does_not_count_as_started(void **state) {
        static const char other_boot[] = "b0000000000000000000000000000002";
        AssignmentRecords n;
        AssignmentRecord *x;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        x = record(&n, "web.service", ONE, ASSIGNMENT_RUN, 20);
        memcpy(x->started_boot, boot, sizeof(boot));
        memcpy(x->owned_boot, boot, sizeof(boot));
        x->starting = x->stopped = x->stopped_for = x->finishing = true;
        snprintf(n.boot, sizeof(n.boot), "%s", boot); /* as a version without eras */
        records_set_era(&n, boot, "");
        assert_string_equal(n.era, "");
        records_set_era(&n, boot, "0.1.0");
        assert_string_equal(n.era, "0.1.0");
        assert_string_equal(x->started_boot, boot);
        assert_true(x->starting && x->stopped && x->stopped_for && x->finishing);

        assert_int_equal(records_save(&n), 0);
        records_set_era(&n, boot, "0.1.0");
        assert_false(n.dirty);
        records_set_era(&n, boot, "");
        assert_string_equal(n.era, "0.1.0");
        records_close(&n);
        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_string_equal(n.boot, boot);
        assert_string_equal(n.era, "0.1.0");
        x = records_get(&n, "web.service");
        x->finishing = true;

        records_set_era(&n, boot, "0.2.0");
        assert_true(n.dirty);
        assert_string_equal(n.era, "0.2.0");
        assert_string_equal(x->started_boot, "");
        assert_string_equal(x->owned_boot, "");
        assert_false(x->starting || x->stopped || x->stopped_for || x->finishing);

        memcpy(x->started_boot, boot, sizeof(boot));
        records_set_era(&n, other_boot, "0.3.0");
        assert_string_equal(n.boot, other_boot);
        assert_string_equal(n.era, "0.3.0");
        assert_string_equal(x->started_boot, boot); /* its boot ID shows that it is not of this boot */
        records_close(&n);
}

/* Occupy the name of the temporary file of 'name', so that it cannot be written. */
static char *take_temporary(const char *folder, const char *name) {
        char temporary[FILE_TEMPORARY_SIZE];
        char *path;

        file_temporary_name(name, temporary);
        path = scratch_path(folder, temporary);
        assert_int_equal(mkdir(path, 0700), 0);
        return path;
}

static void a_failed_write_leaves_the_files_unchanged(void **state) {
        _cleanup_free_ char *path = scratch_path(*state, "assignment"),
                            *texts = scratch_path(*state, "texts"), *text = NULL, *stored = NULL;
        struct stat before, after;
        AssignmentRecords n;
        AssignmentRecord *x;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        record_large_ones(&n);
        scratch_write(texts, "no folder");
        assert_int_equal(records_save(&n), -ENOTDIR);
        assert_true(n.dirty);
        assert_int_equal(access(path, F_OK), -1);
        assert_int_equal(unlink(texts), 0);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), 12);
        assert_int_equal(stat(path, &before), 0);

        large_text[strlen(ONE) - 2] = 'z';
        x = record(&n, "u0.service", large_text, ASSIGNMENT_RUN, 40);
        text = take_temporary(texts, x->unit->hash);
        assert_int_equal(records_save(&n), -EISDIR);
        assert_true(n.dirty);
        assert_int_equal(stat(path, &after), 0);
        assert_true(before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
        assert_int_equal(n_texts(*state), 12 + 1); /* and the obstacle */
        assert_int_equal(rmdir(text), 0);

        /* The file still refers to the former text. */
        stored = take_temporary(*state, "assignment");
        assert_int_equal(records_save(&n), -EISDIR);
        assert_int_equal(n_texts(*state), 12 + 1);
        assert_int_equal(rmdir(stored), 0);

        assert_int_equal(records_save(&n), 0);
        assert_int_equal(n_texts(*state), 12);
        records_close(&n);
        assert_int_equal(records_open(&n, *state, NULL), 0);
        assert_int_equal(HASH_COUNT(n.table), 12);
        records_close(&n);
}

/* Of the texts of one save the first was written, and the second was not. */
static void a_text_that_was_written_before_another_failed_is_not_written_again(void **state) {
        _cleanup_free_ char *texts = scratch_path(*state, "texts"), *taken = NULL, *path = NULL;
        const AssignmentRecord *first = NULL, *second = NULL; /* by hash, as they are written */
        struct stat before, after;
        _cleanup_(records_close) AssignmentRecords n;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        record_large_ones(&n);
        for (const AssignmentRecord *x = n.table; x; x = x->hh.next)
                if (!first || strcmp(x->unit->hash, first->unit->hash) < 0) {
                        second = first;
                        first = x;
                } else if (!second || strcmp(x->unit->hash, second->unit->hash) < 0)
                        second = x;
        assert_int_equal(mkdir(texts, 0700), 0);
        taken = take_temporary(texts, second->unit->hash);
        path = scratch_path(texts, first->unit->hash);
        assert_int_equal(records_save(&n), -EISDIR);
        assert_true(first->text_stored && !second->text_stored);
        assert_int_equal(stat(path, &before), 0);
        assert_int_equal(rmdir(taken), 0);
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(before.st_ino, after.st_ino); /* each write is a new file */
}

static void an_error_of_the_folder_of_texts_is_returned_by_the_save(void **state) {
        _cleanup_free_ char *path = scratch_path(*state, "assignment");
        int *errors[] = { &mkdir_error, &fsync_error };
        _cleanup_(records_close) AssignmentRecords n;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        record_large_ones(&n);
        for (size_t i = 0; i < ELEMENTS(errors); i++) {
                *errors[i] = ENOSPC;
                assert_int_equal(records_save(&n), -ENOSPC);
                assert_int_equal(*errors[i], 0);
                assert_int_equal(access(path, F_OK), -1); /* it would refer to texts that may not exist */
        }
        assert_int_equal(records_save(&n), 0);
}

static void texts_that_cannot_be_listed_stay_and_leak_no_descriptor(void **state) {
        int fd_open;
        _cleanup_(records_close) AssignmentRecords n;

        assert_int_equal(records_open(&n, *state, NULL), 0);
        record_large_ones(&n);
        assert_int_equal(records_save(&n), 0);
        fd_open = lowest_fd();
        records_remove(&n, "u0.service");
        fdopendir_error = ENOMEM;
        assert_int_equal(records_save(&n), 0);
        assert_int_equal(fdopendir_error, 0);
        assert_int_equal(lowest_fd(), fd_open);
        assert_int_equal(n_texts(*state), 12);
}

/* As in a daemon whose standard input is closed. */
static void fill_field(char *field, size_t size) {
        memset(field, 'x', size - 1);
        field[size - 1] = 0;
}

static void records_above_the_size_limit_are_not_written(void **state) {
        enum { UNITS = RECORDS_SIZE_MAX / 500 };
        _cleanup_free_ char *dir = scratch_path(*state, "agent");
        _cleanup_unit_ Unit *unit = unit_of("first.service", "[Service]\nExecStart=/x\n");
        AssignmentRecords n;

        assert_int_equal(records_open(&n, dir, NULL), 0);
        assert_int_equal(records_put(&n, unit, ASSIGNMENT_RUN, 1, 2, NULL), 0);
        assert_int_equal(records_save(&n), 0);
        for (unsigned i = 0; i < UNITS; i++) { /* all with one text, which is not read for each */
                AssignmentRecord *one = NEW0(AssignmentRecord, 1);

                assert_non_null(one);
                snprintf(one->name, sizeof(one->name), "%0247u.service", i);
                fill_field(one->before, sizeof(one->before));
                fill_field(one->invocation, sizeof(one->invocation));
                fill_field(one->owned_boot, sizeof(one->owned_boot));
                fill_field(one->started_boot, sizeof(one->started_boot));
                one->ran = one->replacing = one->starting = one->stopped = one->stopping = one->done = true;
                one->unit = unit;
                HASH_ADD_STR(n.table, name, one);
                assert_true(TABLE_ADDED(one));
        }
        n.dirty = true;
        assert_int_equal(records_save(&n), -EFBIG);
        for (AssignmentRecord *one = n.table; one; one = one->hh.next)
                if (one->unit == unit)
                        one->unit = NULL;
        records_close(&n);

        assert_int_equal(records_open(&n, dir, NULL), 0);
        assert_int_equal(HASH_COUNT(n.table), 1);
        records_close(&n);
}

/* Units with fixed and selected ports come, change and go. */
static void the_holders_of_a_port_are_the_units_of_the_table_that_have_it(void **state) {
        static const char *const texts[] = { "[X-Fleet]\nPort=a:auto\nPort=b:8001/udp\n",
                                             "[X-Fleet]\nPort=a:8002\n", "[Service]\nType=exec\n" };
        AssignmentRecords all;
        unsigned n_held = 0;

        assert_int_equal(records_open(&all, *state, NULL), 0);
        for (unsigned step = 0; step < 500; step++) {
                char name[16];
                AssignmentRecord *x;

                snprintf(name, sizeof(name), "%u.service", rand() % 9U);
                x = records_get(&all, name);
                if (!x || rand() % 3 == 0)
                        (void) record(&all, name, texts[rand() % ELEMENTS(texts)], ASSIGNMENT_RUN, 2);
                else if (rand() % 2)
                        assert_int_equal(
                                records_set_ports(&all, x,
                                                  &(RecordPorts) { { { "a", 8001 + rand() % 2 } }, 1 }),
                                0);
                else
                        records_remove(&all, name);
                for (uint16_t i = 0; i < 4; i++) {
                        uint16_t number = 8001 + i / 2;
                        size_t n, expected = 0;
                        const HeldPort *held = records_holders(&all, number, i % 2, &n);

                        for (x = all.table; x; x = x->hh.next)
                                expected += record_ports_have(&x->ports, &x->unit->placement.service, number,
                                                              i % 2);
                        assert_int_equal(n, expected);
                        n_held += (unsigned) n;
                        while (n-- > 0)
                                assert_true(record_ports_have(&held[n].record->ports,
                                                              &held[n].record->unit->placement.service,
                                                              number, i % 2));
                }
        }
        assert_true(n_held > 1000);
        records_close(&all);
}

static void descriptor_zero_is_used_like_any_other(void **state) {
        RecordsWrite *write;
        AssignmentRecords n;

        for (unsigned when = 0; when < 3; when++) { /* it is of the folder, of a write, of the texts */
                _cleanup_free_ char *dir = scratch_path(*state, (char[]) { 'a' + when, 0 });
                int input = dup(STDIN_FILENO), fd;

                assert_true(input > STDIN_FILENO);
                if (when == 0)
                        close(STDIN_FILENO);
                assert_int_equal(records_open(&n, dir, NULL), 0);
                record_large_ones(&n);
                assert_int_equal(records_save(&n), 0);
                records_remove(&n, "u0.service");
                if (when == 1)
                        close(STDIN_FILENO);
                assert_int_equal(records_write_new(&n, &write), 1);
                if (when == 2)
                        close(STDIN_FILENO);
                records_write_run(write);
                assert_int_equal(records_write_end(&n, write), 0);
                write = records_write_free(write);
                assert_int_equal(n_texts(dir), 11);
                records_close(&n);
                assert_int_equal(fcntl(STDIN_FILENO, F_GETFD), -1); /* it is closed again */
                assert_int_equal(dup2(input, STDIN_FILENO), STDIN_FILENO);
                close(input);
                fd = dup(STDIN_FILENO);
                records_close(&n); /* closes no descriptor that others have opened since */
                assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0 && fcntl(fd, F_GETFD) >= 0);
                close(fd);
        }
}

int main(void) {
#define in_scratch(f) cmocka_unit_test_setup_teardown(f, scratch_setup, scratch_teardown)
        const struct CMUnitTest tests[] = {
                in_scratch(the_first_records_are_empty_and_create_their_folder),
                in_scratch(saved_records_are_read_back_to_the_byte),
                in_scratch(every_lineage_is_read_back),
                in_scratch(a_removed_record_stays_removed_but_its_index_counts),
                in_scratch(an_unchanged_record_is_not_written_again),
                in_scratch(records_of_another_machine_are_not_taken),
                in_scratch(a_corrupt_file_is_kept_under_another_name_and_the_daemon_starts),
                in_scratch(a_corrupt_entry_affects_no_other_entry),
                in_scratch(a_corrupt_file_that_cannot_be_renamed_is_an_error_or_is_read_as_empty),
                in_scratch(texts_of_a_mebibyte_in_total_are_in_one_file),
                in_scratch(texts_beyond_a_mebibyte_are_in_files_of_their_own_and_written_once),
                in_scratch(changes_during_a_write_are_written_by_the_next_one),
                in_scratch(a_failed_write_leaves_the_records_dirty),
                in_scratch(a_write_that_is_run_twice_at_once_is_made_once),
                in_scratch(a_removed_folder_is_made_again_with_all_that_is_recorded),
                in_scratch(a_folder_that_cannot_be_created_is_rejected_with_a_message),
                in_scratch(a_unit_started_in_another_era_of_the_same_boot_does_not_count_as_started),
                in_scratch(a_failed_write_leaves_the_files_unchanged),
                in_scratch(a_text_that_was_written_before_another_failed_is_not_written_again),
                in_scratch(an_error_of_the_folder_of_texts_is_returned_by_the_save),
                in_scratch(texts_that_cannot_be_listed_stay_and_leak_no_descriptor),
                in_scratch(records_above_the_size_limit_are_not_written),
                in_scratch(the_holders_of_a_port_are_the_units_of_the_table_that_have_it),
                in_scratch(descriptor_zero_is_used_like_any_other),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
