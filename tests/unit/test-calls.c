/* Each system call of each scenario fails once with each error that it can have, or is executed in part. In
 * all cases, an answer of success is true, a file is complete, old or new, and a log that failed to sync gets
 * no further writes. When the call works again, everything works, in the same folder. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/records.h"
#include "fleetd/directory/directory.h"
#include "fleetd/host/settings.h"
#include "fleetd/systemd/runtime_dir.h"
#include "kvstore/tree/data_dir.h"
#include "kvstore/raft/log.h"
#include "tests/lib/calls.h"
#include "tests/lib/host.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/scratch.h"
#include "tests/lib/three_hosts.h"

/* A scenario works in 'folder', which stays between its runs. It returns 0 or a negative errno, and fails the
 * test where a promise is broken; a run that nothing disturbs returns 0. */
typedef int (*Scenario)(const char *folder, unsigned run);

static unsigned n_points;
static bool seen[64]; /* by kind: it was called, and failed */

/* Which calls fail. */
typedef enum Where {
        ANY,
        OURS, /* any, and only code of ours is between, which goes on after an interruption and finishes what
                 was done by half */
        NETWORK, /* those of sockets: a log that could not be written is not written on, and that is another
                    test */
} Where;

static bool is_of(Where where, const char *call) {
        static const char *const network[] = { "read",    "write",   "writev",     "socket",
                                               "bind",    "listen",  "accept4",    "connect",
                                               "recvmsg", "sendmsg", "epoll_pwait" };

        for (size_t i = 0; i < ELEMENTS(network) && where == NETWORK; i++)
                if (streq(network[i], call))
                        return true;
        return where != NETWORK;
}

static void disturb(const char *name, Scenario scenario, unsigned stride, Where where) {
        unsigned points = 0, run = 0;
        char *scratch = scratch_new();

        if (getenv("CHECK_ALL"))
                stride = 1;
        if (scenario(scratch, run++) != 0)
                fail_msg("%s: undisturbed", name);
        for (size_t kind = 0; kind < n_call_faults; kind++)
                for (size_t e = 0; is_of(where, call_faults[kind].name) && call_faults[kind].errors[e]; e++)
                        for (unsigned n = 1;; n += stride) {
                                int error = call_faults[kind].errors[e], r;
                                bool fired;

                                call_fail_at(kind, error, n);
                                r = scenario(scratch, run++);
                                fired = call_has_failed();
                                call_fail_at(kind, error, 0);
                                if (!fired && r == 0)
                                        break;
                                if (!fired)
                                        fail_msg("%s: fails by itself: %s", name, strerror(-r));
                                if ((error == EINTR || error == CALL_SHORT) && r != 0 && where == OURS)
                                        fail_msg("%s: %s number %u is interrupted or short: %s", name,
                                                 call_faults[kind].name, n, strerror(-r));
                                r = scenario(scratch, run++);
                                if (r != 0)
                                        fail_msg("%s: after %s number %u had failed (%s): %s", name,
                                                 call_faults[kind].name, n,
                                                 error > 0 ? strerror(error) : "short", strerror(-r));
                                seen[kind] = true;
                                points++;
                        }
        printf("%s: %u points\n", name, points);
        assert_true(points > 0);
        n_points += points;
        scratch_free(scratch);
}

static int open_folder(const char *path) {
        return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Not by read_file_at(): what a test looks with is not disturbed. */
static bool is_there(const char *folder, const char *name) {
        _cleanup_free_ char *path = scratch_path(folder, name);
        struct stat st;

        return stat(path, &st) == 0;
}

/* -- Files -- */

static int replace_file(const char *folder, unsigned run) {
        _cleanup_close_ int fd = open_folder(folder);
        char text[64];
        int r;

        if (fd < 0)
                return -errno;
        snprintf(text, sizeof(text), "the text of run %u\n", run);
        r = write_file_at(fd, "file", text, strlen(text), 0600);
        if (r == 0) {
                _cleanup_free_ char *found = NULL;

                r = read_file_at(fd, "file", 100, &found, NULL);
                if (r == 0)
                        assert_string_equal(found, text);
        } else if (is_there(folder, "file")) {
                _cleanup_free_ char *found = NULL;

                assert_int_equal(read_file_at(fd, "file", 100, &found, NULL), 0);
                assert_true(starts_with(found, "the text of run ") && ends_with(found, "\n"));
        }
        return r;
}

static int folders(const char *folder, unsigned run) {
        _cleanup_free_ char *path = scratch_path(folder, "a/b/c");
        _cleanup_close_ int fd = open_dir(path, 0700), top = -1;
        int r;

        if (fd < 0)
                return fd;
        r = write_file_at(fd, "x", "y", 1, 0600);
        top = open_folder(folder);
        if (top < 0)
                return -errno;
        return r ?: remove_tree_at(top, "a");
}

static int raw_disk(const char *folder, unsigned run) {
        _cleanup_free_ char *path = scratch_path(folder, "disk");
        char **names = NULL, bytes[6] = "";
        DiskFile *file = NULL;
        Disk *disk = NULL;
        size_t n = 0;
        int r = disk_real_open(path, &disk);

        if (r < 0)
                return r;
        r = disk->ops->open(disk, "one", true, 4096, &file);
        r = r ?: file->ops->write(file, "hello", 5, 100);
        r = r ?: file->ops->read(file, bytes, 5, 100);
        if (r == 0)
                assert_string_equal(bytes, "hello");
        if (file)
                file->ops->close(file);
        r = r ?: disk->ops->rename(disk, "one", "two");
        r = r ?: disk->ops->list(disk, &names, &n);
        for (size_t i = 0; i < n; i++)
                free(names[i]);
        free(names);
        r = r ?: disk->ops->remove(disk, "two");
        disk_real_close(disk);
        return r;
}

static int settings(const char *folder, unsigned run) {
        _cleanup_free_ char *path = scratch_path(folder, "fleetd.conf");
        char option[400], *arguments[] = { (char *) "fleetd", option,
                                           (char *) "--machine-id=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL };
        _cleanup_settings_ Settings s = {};
        Error err = {};
        int r;

        if (!is_there(folder, "fleetd.conf"))
                scratch_write(path, "[Fleetd]\nName=alpha\n");
        snprintf(option, sizeof(option), "--config=%s", path);
        r = settings_read(&s, 3, arguments, &err);
        if (r < 0)
                assert_true(err.message[0]);
        else
                assert_string_equal(s.name, "alpha");
        return r;
}

static int notes(const char *folder, unsigned run) {
        _cleanup_unit_ Unit *unit = NULL;
        AssignmentRecords n;
        int r;

        assert_int_equal(unit_read("a.service", "[Service]\nExecStart=/bin/x\n", 27, &unit, NULL), 0);
        r = records_open(&n, folder, NULL);
        if (r == 0) {
                r = records_put(&n, unit, ASSIGNMENT_RUN, run + 1, run + 1, NULL);
                r = r ?: records_save(&n);
        }
        records_close(&n);
        return r;
}

static int unit_dir(const char *folder, unsigned run) {
        const RuntimeDirEntry *entry = NULL;
        RuntimeDir d;
        int r = runtime_dir_open(&d, folder, "/nowhere", "/nowhere", NULL);

        if (r == 0)
                r = runtime_dir_write(&d, "b.service", "[Service]\nExecStart=/bin/x\n", 27);
        if (r == 0) {
                assert_int_equal(runtime_dir_get(&d, "b.service", &entry), 0);
                assert_true(entry || is_there(folder, "b.service"));
        }
        if (r == 0)
                r = runtime_dir_remove(&d, "b.service");
        if (r == 0)
                assert_false(is_there(folder, "b.service"));
        runtime_dir_close(&d);
        return r;
}

static void files_are_whole_and_success_is_true(void **state) {
        disturb("a file is replaced", replace_file, 1, OURS);
        disturb("folders are made and removed", folders, 1, OURS);
        disturb("a disk's files", raw_disk, 1, OURS);
        disturb("settings", settings, 1, OURS);
        disturb("notes of an agent", notes, 1, OURS);
        disturb("the folder of unit files", unit_dir, 1, OURS);
}

/* -- The log -- */

typedef struct LogRun {
        uint64_t appended;
        int failed;
        unsigned n_failed;
} LogRun;

static void on_appended(void *userdata, uint64_t generation, uint64_t last_index) {
        ((LogRun *) userdata)->appended = last_index;
}

static void on_failed(void *userdata, int error, const char *message) {
        LogRun *l = userdata;

        l->failed = error;
        l->n_failed++;
}

static uint64_t
        promised; /* the last entry that was reported as durable to a run; valid as long as the folder */

static int log_life(const char *folder, unsigned run) {
        _cleanup_free_ char *path = scratch_path(folder, "raft");
        RaftLogEvents events = { .appended = on_appended, .failed = on_failed };
        RaftLogMeta meta = { .cluster = 1, .id = 1, .term = 1 };
        RaftLogOptions options = { .file_size = 4096 };
        char data[500] = {};
        RaftEntry entry = { .term = 1, .type = RAFT_ENTRY_COMMAND, .data = data, .size = sizeof(data) };
        Disk *disk = NULL;
        RaftLog *log = NULL;
        ManualLoop loop;
        LogRun l = {};
        int r;

        if (run == 0)
                promised = 0;
        manual_loop_init(&loop, 1);
        r = disk_real_open(path, &disk);
        if (r == 0 && promised == 0) {
                r = raft_log_create(disk, &meta, 1, &entry, 1, &options, NULL);
                if (r == 0)
                        promised = 1;
                if (r == -EEXIST) /* all was written, but not reported */
                        r = 0, promised = 1;
        }
        r = r ?: raft_log_open(disk, &loop.base, &options, &events, &l, &log, NULL);
        if (r == 0) {
                assert_true(raft_log_last_index(log) >= promised);
                promised = raft_log_last_index(log);
                for (unsigned i = 0; i < 4 && l.n_failed == 0 && r == 0; i++) {
                        r = raft_log_append(log, 1, raft_log_last_index(log) + 1, &entry, 1);
                        while (manual_loop_work(&loop))
                                ;
                        if (l.n_failed == 0 && r == 0) {
                                assert_int_equal(l.appended, raft_log_last_index(log));
                                promised = l.appended;
                        }
                }
                if (l.n_failed > 0) {
                        /* What could not be written or synced is not written on, ever. */
                        assert_int_equal(l.n_failed, 1);
                        assert_true(raft_log_append(log, 1, raft_log_last_index(log) + 1, &entry, 1) < 0);
                        assert_true(raft_log_write_meta(log, 2, 1) < 0);
                        assert_int_equal(loop.n, 0);
                        r = l.failed;
                }
                if (r == 0) {
                        r = raft_log_cut(log, promised > 20 ? promised - 20 : 0);
                        while (manual_loop_work(&loop))
                                ;
                        r = r ?: l.failed;
                        if (r == 0) /* the cut removes files, also after a failure: 7 entries in each */
                                assert_true(raft_log_last_index(log) - raft_log_first_index(log) < 20 * 7);
                }
        }
        raft_log_close(log, NULL, NULL);
        disk_real_close(disk);
        loop_done(&loop.base);
        return r;
}

static void a_log_keeps_what_it_promised_and_is_not_written_after_a_failure(void **state) {
        disturb("a log is opened, written and cut", log_life, 1, OURS);
}

/* -- The tree's folder -- */

static int tree_life(const char *folder, unsigned run) {
        _cleanup_free_ char *path = scratch_path(folder, "tree");
        Checkpoint copy = { .fd = -1 };
        Tree *tree = NULL;
        TreeTxn *txn = NULL;
        TreeMeta meta;
        DataDir f;
        int r = data_dir_open(&f, path, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                              "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 1024 * 1024, &tree, NULL);

        r = r ?: tree_begin_write(tree, &txn);
        r = r     ?:
                    tree_put(txn, &(KvNode) { .key = kv_string("/a"),
                                              .value = kv_string("1"),
                                              .created = 1,
                                              .modified = run + 1 });
        r = r ?: tree_meta(txn, &meta);
        if (r == 0) {
                meta.applied = run + 1;
                r = tree_set_meta(txn, &meta);
        }
        if (r == 0)
                r = tree_commit(TAKE_PTR(txn));
        tree_abort(txn);
        r = r ?: data_dir_write_identity(&f, 1, 2);
        r = r ?: data_dir_copy(&f, tree, &copy, NULL);
        if (r == 0) {
                assert_int_equal(copy.meta.applied, run + 1);
                data_dir_adopt(&f, &copy);
        }
        checkpoint_done(&copy);
        tree_close(tree);
        if (r == 0)
                data_dir_closed(&f);
        data_dir_done(&f);
        return r;
}

static void a_tree_is_opened_copied_and_opened_again(void **state) {
        disturb("a tree is opened, written and copied", tree_life, 1, ANY);
}

/* The tree that is set aside is complete in one of two places, for each failure. */
static int set_aside(const char *folder, unsigned run) {
        _cleanup_free_ char *path = scratch_path(folder, "tree");
        char kept[64], here[64], aside[64];
        bool is_marked = false;
        Tree *tree = NULL;
        DataDir f;
        int r = data_dir_open(&f, path, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                              "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 1024 * 1024, &tree, NULL);

        snprintf(kept, sizeof(kept), "live/kept-%u", run);
        snprintf(here, sizeof(here), "tree/live/kept-%u", run);
        snprintf(aside, sizeof(aside), "tree/old/live/kept-%u", run);
        tree = tree_close(tree);
        if (r == 0) {
                r = write_file_at(f.fd, kept, "", 0, 0600);
                is_marked = r == 0;
        }
        r = r ?: data_dir_set_aside(&f, &tree, NULL);
        if (is_marked)
                assert_true(is_there(folder, aside) || is_there(folder, here));
        if (r == 0)
                assert_true(is_there(folder, aside) && tree);
        tree_close(tree);
        data_dir_done(&f);
        return r;
}

static void a_tree_is_set_aside_or_stays_where_it_was(void **state) {
        disturb("a tree is set aside", set_aside, 1, ANY);
}

/* -- Stores -- */

static char last_key[32]; /* acknowledged; it lives as long as the folder */

static int put_in(ThreeHostsHost *h, unsigned run, unsigned i) {
        char key[32], value[512];

        snprintf(key, sizeof(key), "/r%u-%u", run, i);
        if (three_hosts_put(h, key, "v") != KV_OK)
                return h->failed < 0 ? h->failed : -EIO;
        assert_string_equal(three_hosts_get(h, key, value), "v");
        memcpy(last_key, key, sizeof(last_key));
        return 0;
}

static int store_life(const char *folder, unsigned run) {
        char value[512];
        ThreeHosts t;
        int r;

        if (run == 0)
                last_key[0] = 0;
        three_hosts_new(&t, folder, false);
        t.checkpoint_entries = 8;
        t.log_file_size = 4096;
        r = three_hosts_open(&t, 0, false, NULL);
        if (r == 0 && !three_hosts_until_for(&t, 2000, three_hosts_is_led, &t.hosts[0]))
                r = t.hosts[0].failed < 0 ? t.hosts[0].failed : -EIO;
        if (r == 0 && last_key[0])
                assert_string_equal(three_hosts_get(&t.hosts[0], last_key, value), "v");
        for (unsigned i = 0; i < 3 && r == 0; i++)
                r = put_in(&t.hosts[0], run, i);
        three_hosts_free(&t);
        return r;
}

static void a_store_has_its_acknowledged_writes_after_every_failure(void **state) {
        disturb("a store is opened, written and closed", store_life, 2, ANY);
}

/* -- Sessions: two hosts that find each other again -- */

static ThreeHosts pair;

static bool follows(void *userdata) {
        return three_hosts_is_led(&pair.hosts[1]);
}

static int talk(const char *folder, unsigned run) {
        char key[32];

        (void) folder;
        snprintf(key, sizeof(key), "/t%u", run);
        assert_true(three_hosts_until(&pair, follows, NULL));
        return three_hosts_put(&pair.hosts[1], key, "v") == KV_OK ? 0 : -EIO;
}

/* The follower's listeners and sessions are opened again each time. */
static int meet(const char *folder, unsigned run) {
        int r;

        (void) folder;
        three_hosts_close(&pair, 1);
        r = three_hosts_open(&pair, 1, false, NULL);
        if (r == 0 && !three_hosts_until_for(&pair, 10000, follows, NULL))
                r = -ETIMEDOUT;
        if (r < 0)
                three_hosts_close(&pair, 1);
        return r;
}

static void sessions_are_opened_again_and_writes_continue(void **state) {
        char *scratch = scratch_new();

        three_hosts_new(&pair, scratch, true);
        assert_int_equal(three_hosts_open(&pair, 0, false, NULL), 0);
        assert_true(three_hosts_until(&pair, three_hosts_is_led, &pair.hosts[0]));
        three_hosts_let_in(&pair, 0, 1, false);
        disturb("a follower writes", talk, 2, NETWORK);
        disturb("a follower comes back", meet, 9, NETWORK);
        three_hosts_free(&pair);
        scratch_free(scratch);
}

/* -- The watched folder -- */

static Host *host;

static int watch_folder(const char *folder, unsigned run) {
        _cleanup_free_ char *units = scratch_path(folder, "units"), *path = NULL;
        Directory *d = NULL;
        char name[32];
        int r;

        snprintf(name, sizeof(name), "u%u.service", run);
        if (!is_there(folder, "units"))
                assert_int_equal(mkdir(units, 0755), 0);
        path = scratch_path(units, name);
        host->settings.state_directory = (char *) folder;
        host->settings.unit_directory = units;
        r = directory_new(&d, &host->components, NULL);
        if (r == 0) {
                FILE *f = fopen(path, "we");

                assert_non_null(f);
                assert_true(fputs("[Service]\nExecStart=/bin/x\n", f) > 0);
                fclose(f);
                HOST_UNTIL(host, cluster_unit(registry_cluster(host->registry),
                                              name)); /* at the latest when it looks again */
                directory_free(d);
                (void) unlink(path);
        }
        return r;
}

static void a_watched_folder_is_seen_in_the_end(void **state) {
        host = host_new(false);
        disturb("a file is dropped", watch_folder, 7, ANY);
        host = host_free(host);
}

static void the_goal_is_met(void **state) {
        unsigned kinds = 0;

        for (size_t i = 0; i < n_call_faults; i++) {
                kinds += seen[i];
                if (!seen[i])
                        printf("never called: %s\n", call_faults[i].name);
        }
        printf("%u kinds of calls, %u points\n", kinds, n_points);
        assert_true(kinds >= 18);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(files_are_whole_and_success_is_true),
                cmocka_unit_test(a_log_keeps_what_it_promised_and_is_not_written_after_a_failure),
                cmocka_unit_test(a_tree_is_opened_copied_and_opened_again),
                cmocka_unit_test(a_tree_is_set_aside_or_stays_where_it_was),
                cmocka_unit_test(a_store_has_its_acknowledged_writes_after_every_failure),
                cmocka_unit_test(sessions_are_opened_again_and_writes_continue),
                cmocka_unit_test(a_watched_folder_is_seen_in_the_end),
                cmocka_unit_test(the_goal_is_met),
        };

        signal(SIGPIPE, SIG_IGN);
        log_set_max_priority(LOG_EMERG);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
