/* The folder of the tree by itself: when its live tree is trusted, what it is
 * made of otherwise, and which files and descriptors stay. */
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "kvstore/raft/bootstrap.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/data_dir_fixture.h"
#include "tests/lib/scratch.h"
#include "tests/lib/tree_file.h"

/* -- Trust -- */

static void boot_again(Fixture *r) {
        r->boot++;
}

static void change_machine(Fixture *r) {
        r->machine++;
}

static void lose_marker(Fixture *r) {
        fixture_unlink(r, "trusted");
}

static void garble_opens(Fixture *r) {
        _cleanup_free_ char *text = strdup(fixture_marker(r));

        memcpy(strstr(text, "\nopens ") + 1, "opine", 5);
        fixture_make_file(r, "trusted", text);
}

/* Of a later version, for example. */
static void add_unknown_lines(Fixture *r) {
        _cleanup_free_ char *marker = strdup(fixture_marker(r)), *text = NULL;
        char *behind = strchr(strstr(marker, "\nopens ") + 1, '\n') + 1;

        assert_true(asprintf(&text, "%.*slater %0200u\n%s", (int) (behind - marker), marker, 1u, behind) > 0);
        fixture_make_file(r, "trusted", text);
}

static void copy_live(Fixture *r) {
        size_t size;
        _cleanup_free_ char *bytes = fixture_read(r, "live/data.mdb", &size);

        fixture_write(r, "live/copy", bytes, size, 0);
        fixture_rename(r, "live/copy", "live/data.mdb");
}

static void change_disk(Fixture *r) {
        disk_seq++;
}

static void garble_disk(Fixture *r) {
        _cleanup_free_ char *text = strdup(fixture_marker(r));

        memcpy(strstr(text, "\ndisk ") + 6, "x", 1);
        fixture_make_file(r, "trusted", text);
}

static void lose_disk(Fixture *r) {
        disk_seq = 0;
}

static void distrust_and_crash(Fixture *r) {
        data_dir_distrust(&r->folder);
        assert_string_equal(fixture_marker(r), "");
        fixture_crash(r);
}

static void distrust_and_stop(Fixture *r) {
        data_dir_distrust(&r->folder);
        fixture_stop(r);
}

static void distrust_show_and_crash(Fixture *r) {
        data_dir_distrust(&r->folder);
        assert_int_equal(data_dir_serve(&r->folder), 0);
        assert_int_equal(data_dir_unserve(&r->folder), 0);
        assert_string_equal(fixture_marker(r), "");
        fixture_crash(r);
}

static void a_tree_is_believed_only_if_nothing_speaks_against_it(void **state) {
        static const struct {
                void (*end)(Fixture *r);
                void (*change)(Fixture *r);
                bool believed;
        } cases[] = {
                { fixture_crash, NULL, true },
                { fixture_stop, NULL, true },
                { fixture_crash, boot_again, false },
                { fixture_stop, boot_again, false },
                { fixture_crash, change_machine, false },
                { fixture_stop, lose_marker, false },
                { fixture_stop, garble_opens, false },
                { fixture_stop, add_unknown_lines, true },
                { fixture_stop, copy_live, false },
                { distrust_and_crash, NULL, false },
                { distrust_and_stop, NULL, false },
                { distrust_show_and_crash, NULL, false },
        };
        Fixture *r = *state;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                fixture_open(r);
                fixture_make_file(r, "live/witness", "x");
                cases[i].end(r);
                if (cases[i].change)
                        cases[i].change(r);
                fixture_open(r);
                if (fixture_has(r, "live/witness") != cases[i].believed)
                        fail_msg("case %zu", i);
                fixture_stop(r);
        }
}

static void a_tree_is_believed_on_the_disk_that_it_was_written_to(void **state) {
        static const struct {
                void (*change)(Fixture *r);
                bool believed;
        } cases[] = { { NULL, true },
                      { change_disk, false },
                      { NULL, true },
                      { garble_disk, false },
                      { lose_disk, false } };
        Fixture *r = *state;

        fixture_open(r);
        assert_null(strstr(fixture_marker(r), "\ndisk "));
        fixture_stop(r);
        for (unsigned partition = 0; partition < 2; partition++) {
                on_partition = partition;
                for (size_t i = 0; i < ELEMENTS(cases); i++) {
                        char line[64];

                        disk_seq = partition ? UINT64_C(4000000000123) : 1;
                        snprintf(line, sizeof(line), "\ndisk %" PRIu64 "\n", disk_seq);
                        fixture_open(r); /* the one before may be another disk's */
                        fixture_stop(r);
                        assert_non_null(strstr(fixture_marker(r), line));
                        fixture_open(r);
                        fixture_make_file(r, "live/witness", "x");
                        fixture_stop(r);
                        if (cases[i].change)
                                cases[i].change(r);
                        fixture_open(r);
                        if (fixture_has(r, "live/witness") != cases[i].believed)
                                fail_msg("case %zu", i);
                        fixture_stop(r);
                }
        }
}

/* Also where it was shown each time, which writes the marker again. */
static void after_three_starts_without_an_orderly_end_a_tree_is_rebuilt(void **state) {
        Fixture *r = *state;

        fixture_open(r);
        fixture_make_file(r, "live/witness", "x");
        for (unsigned i = 1; i <= 3; i++) {
                assert_int_equal(fixture_opens(r), i);
                assert_int_equal(data_dir_serve(&r->folder), 0);
                assert_int_equal(fixture_opens(r), i);
                fixture_crash(r);
                fixture_open(r);
                assert_int_equal(fixture_has(r, "live/witness"), i < 3);
        }
        assert_int_equal(fixture_opens(r), 1);
        assert_false(data_dir_was_served(&r->folder));
        assert_int_equal(data_dir_serve(&r->folder), 0);
        assert_int_equal(fixture_opens(r), 1);
        fixture_stop(r);
        assert_int_equal(fixture_opens(r), 0);
}

static void the_served_mark_is_written_once_and_cleared_in_place(void **state) {
        _cleanup_free_ char *unshown = NULL;
        Fixture *r = *state;
        ino_t file;

        fixture_open(r);
        assert_false(data_dir_was_served(&r->folder) || fixture_says_shown(r));
        assert_int_equal(data_dir_serve(&r->folder), 0);
        assert_true(data_dir_was_served(&r->folder) && fixture_says_shown(r));
        file = fixture_stat(r, "trusted").st_ino;
        assert_int_equal(data_dir_serve(&r->folder), 0);
        assert_true(fixture_stat(r, "trusted").st_ino == file); /* each write makes a new one */

        assert_int_equal(data_dir_unserve(&r->folder), 0);
        assert_false(data_dir_was_served(&r->folder) || fixture_says_shown(r));
        assert_true(fixture_stat(r, "trusted").st_ino == file);
        unshown = strdup(fixture_marker(r));
        assert_int_equal(data_dir_unserve(&r->folder), 0);
        assert_string_equal(fixture_marker(r), unshown);
        fixture_crash(r);
        fixture_open(r);
        assert_false(data_dir_was_served(&r->folder));

        assert_int_equal(data_dir_serve(&r->folder), 0);
        fixture_crash(r);
        fixture_open(r);
        assert_true(data_dir_was_served(&r->folder));

        r->tree = tree_close(r->tree);
        data_dir_distrust(&r->folder);
        assert_int_equal(data_dir_rebuild(&r->folder, &r->tree, &(bool) { false }, NULL), 0);
        assert_int_equal(fixture_opens(r), 1);
        data_dir_rebuilt(&r->folder);
        assert_false(data_dir_was_served(&r->folder));
        assert_int_equal(data_dir_serve(&r->folder), 0);
        assert_int_equal(fixture_opens(r), 1);
        fixture_make_file(r, "live/witness", "x");
        fixture_stop(r);
        fixture_open(r);
        assert_true(data_dir_was_served(&r->folder) &&
                    fixture_has(r, "live/witness")); /* it is trusted again */
}

static void cluster_time_outlives_a_reboot_but_not_another_machine(void **state) {
        static const uint64_t times[] = { 1, UINT64_C(1700000000123) };
        Fixture *r = *state;

        fixture_open(r);
        assert_int_equal(r->folder.cluster_ms, 0);
        assert_null(strstr(fixture_marker(r), "\ntime "));
        fixture_stop(r);
        assert_null(strstr(fixture_marker(r), "\ntime "));
        for (size_t i = 0; i < ELEMENTS(times); i++) {
                fixture_open(r);
                data_dir_keep_time(&r->folder, times[i]);
                data_dir_keep_time(&r->folder, times[i] - 1);
                assert_int_equal(r->folder.cluster_ms, times[i]);
                fixture_stop(r);
                boot_again(r);
                fixture_open(r);
                assert_int_equal(r->folder.cluster_ms, times[i]);
                fixture_stop(r);
        }
        change_machine(r);
        fixture_open(r);
        assert_int_equal(r->folder.cluster_ms, 0);
}

static void the_larger_quota_counts(void **state) {
        Fixture *r = *state;

        fixture_open(r);
        data_dir_raise_quota(&r->folder, 3 * 1024 * 1024);
        assert_int_equal(r->folder.quota, 3 * 1024 * 1024);
        data_dir_raise_quota(&r->folder, 2 * 1024 * 1024);
        assert_int_equal(r->folder.quota, 3 * 1024 * 1024);
}

/* -- Checkpoints -- */

static void checkpoints_leave_no_files_and_no_descriptors_behind(void **state) {
        unsigned before = n_descriptors(), with_one;
        Fixture *r = *state;
        int fd;

        fixture_open(r);
        fixture_stop(r);
        assert_int_equal(n_descriptors(), before);

        for (unsigned i = 0; i < 2; i++) {
                _cleanup_free_ char *path = scratch_path(r->path, i == 0 ? "incoming" : "checkpoint.new");

                assert_int_equal(mkdir(path, 0700), 0);
        }
        fixture_make_file(r, "incoming/data.mdb", "left by a crash");
        fixture_make_file(r, "checkpoint.new/data.mdb", "left by a crash");
        fixture_open(r);
        assert_false(fixture_has(r, "incoming") || fixture_has(r, "checkpoint.new"));

        fixture_put(r, 5, "mine");
        fixture_checkpoint(r);
        assert_int_equal(r->folder.checkpoint.meta.applied, 5);
        assert_false(fixture_has(r, "checkpoint.new"));
        with_one = n_descriptors();
        for (unsigned i = 0; i < 3; i++)
                fixture_checkpoint(r);
        assert_int_equal(n_descriptors(), with_one);
        assert_int_equal(data_dir_probe(&r->folder, r->tree, NULL), 0);
        assert_false(fixture_has(r, "checkpoint.new"));
        assert_int_equal(n_descriptors(), with_one);

        fd = data_dir_incoming_open(&r->folder);
        assert_true(fd >= 0);
        assert_int_equal(pwrite_all(fd, "x", 1, 0), 0);
        close(fd);
        fd = data_dir_incoming_open(&r->folder);
        assert_true(fd >= 0);
        assert_int_equal(fixture_stat(r, "incoming/data.mdb").st_size, 0);
        close(fd);
        data_dir_incoming_discard(&r->folder);
        assert_false(fixture_has(r, "incoming"));

        data_dir_forget_checkpoint(&r->folder);
        assert_int_equal(n_descriptors(), with_one - 1);
        fixture_stop(r);
        assert_int_equal(n_descriptors(), before);
}

static void assert_mode(const Fixture *r, const char *name, mode_t mode) {
        mode_t is = fixture_stat(r, name).st_mode & 07777;

        if (is != mode)
                fail_msg("%s has mode %o, not %o", name, is, mode);
}

static void only_the_owner_may_read_the_files_of_a_folder(void **state) {
        Fixture *r = *state;
        int fd;

        fixture_open(r);
        fixture_put(r, 5, "mine");
        fixture_checkpoint(r);
        assert_int_equal(data_dir_write_identity(&r->folder, 1, 2), 0);
        assert_int_equal(data_dir_quarantine(&r->folder, "a test"), 0);
        fd = data_dir_incoming_open(&r->folder);
        assert_true(fd >= 0);
        close(fd);
        assert_mode(r, "", 0700);
        assert_mode(r, "live", 0700);
        assert_mode(r, "live/data.mdb", 0600);
        assert_mode(r, "checkpoint", 0700);
        assert_mode(r, "checkpoint/data.mdb", 0600);
        assert_mode(r, "incoming", 0700);
        assert_mode(r, "incoming/data.mdb", 0600);
        assert_mode(r, "identity", 0600);
        assert_mode(r, "lost", 0600);
        assert_mode(r, "trusted", 0600);
        fixture_stop(r);
        boot_again(r);
        fixture_open(r);
        assert_mode(r, "live", 0700);
        assert_mode(r, "live/data.mdb", 0600); /* now a copy of the checkpoint */
        r->tree = tree_close(r->tree);
        assert_int_equal(data_dir_set_aside(&r->folder, &r->tree, NULL), 0);
        assert_mode(r, "old", 0700);
}

/* File systems that cannot copy by themselves say so in several ways. */
static void a_checkpoint_is_copied_by_hand_where_the_file_system_cannot(void **state) {
        static const int errors[] = { EXDEV, EINVAL, ENOSYS, EOPNOTSUPP };
        Fixture *r = *state;

        fixture_open(r);
        fixture_put(r, 7, "mine");
        fixture_stop(r);
        tree_file_swell(r->path, 12, true); /* more than two chunks */
        fixture_open(r);
        fixture_checkpoint(r);
        fixture_stop(r);
        for (size_t i = 0; i < ELEMENTS(errors); i++) {
                boot_again(r);
                copy_error = errors[i];
                fixture_open(r);
                assert_true(fixture_stat(r, "live/data.mdb").st_size > 2 * 1024 * 1024);
                assert_tree_holds(r->tree, 7, "mine");
                fixture_stop(r);
        }
        boot_again(r);
        copy_error = EIO;
        assert_int_equal(fixture_try_open(r, NULL), -EIO);
        fixture_crash(r);
        copy_error = 0;
        fixture_open(r);
        assert_tree_holds(r->tree, 7, "mine");
}

static void flip(const Fixture *r, const char *name, uint64_t at) {
        size_t size;
        _cleanup_free_ char *bytes = fixture_read(r, name, &size);

        assert_true(at < size);
        bytes[at] ^= 1;
        fixture_write(r, name, bytes + at, 1, at);
}

static void a_damaged_checkpoint_is_not_rebuilt_from(void **state) {
        bool corrupt = true;
        Fixture *r = *state;
        Tree *tree = NULL;

        fixture_open(r);
        fixture_put(r, 7, "mine");
        fixture_checkpoint(r);
        assert_int_equal(data_dir_rebuild(&r->folder, &tree, &corrupt, NULL), 0);
        assert_false(corrupt);
        assert_tree_holds(tree, 7, "mine");
        r->tree = tree_close(r->tree);
        r->tree = tree;

        flip(r, "checkpoint/data.mdb", 5000);
        tree = NULL;
        assert_int_equal(data_dir_rebuild(&r->folder, &tree, &corrupt, NULL), -EUCLEAN);
        assert_true(corrupt && !tree);
        flip(r, "checkpoint/data.mdb", 5000);

        corrupt = false;
        data_dir_forget_checkpoint(&r->folder);
        assert_int_equal(data_dir_rebuild(&r->folder, &tree, &corrupt, NULL), -EUCLEAN);
        assert_true(corrupt && !tree);
        fixture_checkpoint(r);
        assert_false(r->folder.corrupt);
}

/* Nothing is known of it: that is not the same as none. */
static void a_checkpoint_that_cannot_be_opened_stops_the_opening(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *r = *state;

        fixture_open(r);
        fixture_put(r, 7, "mine");
        fixture_checkpoint(r);
        fixture_make_file(r, "live/witness", "x");
        fixture_stop(r);
        fixture_rename(r, "checkpoint/data.mdb", "checkpoint/other");
        path = scratch_path(r->path, "checkpoint/data.mdb");
        assert_int_equal(symlink("other", path), 0);
        assert_int_equal(fixture_try_open(r, NULL), -ELOOP);
        fixture_crash(r);
        fixture_rename(r, "checkpoint/other", "checkpoint/data.mdb");
        fixture_open(r);
        assert_true(fixture_has(r, "live/witness"));
}

/* -- A leader's tree -- */

static void receive(Fixture *r, const char *bytes, size_t size) {
        int fd = data_dir_incoming_open(&r->folder);

        assert_true(fd >= 0);
        assert_int_equal(pwrite_all(fd, bytes, size, 0), 0);
        close(fd);
}

static void a_received_tree_takes_the_place_of_the_checkpoint_or_of_both(void **state) {
        _cleanup_free_ char *bytes = NULL;
        Checkpoint c = { .fd = -1 };
        Fixture *r = *state;
        unsigned before;
        size_t size;

        fixture_open(r);
        fixture_put(r, 9, "theirs");
        fixture_checkpoint(r);
        bytes = fixture_read(r, "checkpoint/data.mdb", &size);
        fixture_put(r, 3, "mine");
        fixture_checkpoint(r);
        assert_int_equal(data_dir_serve(&r->folder), 0);
        before = n_descriptors();

        receive(r, bytes, size);
        assert_int_equal(data_dir_incoming_finish(&r->folder, &c, NULL), 0);
        assert_int_equal(c.meta.applied, 9);
        assert_int_equal(c.size, size);
        assert_int_equal(data_dir_install(&r->folder, &c, false, &r->tree, NULL), 0);
        assert_int_equal(r->folder.checkpoint.meta.applied, 9);
        assert_tree_holds(r->tree, 3, "mine");
        assert_true(data_dir_was_served(&r->folder));
        assert_false(fixture_has(r, "incoming"));
        assert_int_equal(n_descriptors(), before);

        receive(r, bytes, size);
        flip(r, "incoming/data.mdb", 5000);
        assert_int_equal(data_dir_incoming_finish(&r->folder, &c, NULL), -EUCLEAN);
        assert_int_equal(n_descriptors(), before);

        receive(r, bytes, size);
        assert_int_equal(data_dir_incoming_finish(&r->folder, &c, NULL), 0);
        assert_int_equal(data_dir_install(&r->folder, &c, true, &r->tree, NULL), 0);
        assert_tree_holds(r->tree, 9, "theirs");
        assert_int_equal(fixture_opens(r), 1);
        assert_false(data_dir_was_served(&r->folder));
        assert_int_equal(data_dir_serve(&r->folder), 0);
        assert_int_equal(fixture_opens(r), 1);
        assert_false(fixture_has(r, "incoming"));
        assert_int_equal(n_descriptors(), before);
        fixture_crash(r);
        fixture_open(r);
        assert_tree_holds(r->tree, 9, "theirs");
}

/* -- What was lost -- */

static void a_tree_set_aside_is_kept_also_when_the_new_one_cannot_be_made(void **state) {
        char temporary[FILE_TEMPORARY_SIZE];
        _cleanup_free_ char *in_the_way = NULL;
        Fixture *r = *state;

        fixture_open(r);
        fixture_put(r, 7, "mine");
        fixture_checkpoint(r);
        assert_int_equal(data_dir_serve(&r->folder), 0);
        fixture_make_file(r, "live/witness", "x");
        r->tree = tree_close(r->tree);

        file_temporary_name("trusted", temporary);
        in_the_way = scratch_path(r->path, temporary);
        assert_int_equal(mkdir(in_the_way, 0700), 0);
        assert_true(data_dir_set_aside(&r->folder, &r->tree, NULL) < 0);
        assert_true(fixture_has(r, "old/live/witness") && !fixture_has(r, "live"));
        assert_int_equal(rmdir(in_the_way), 0);

        assert_int_equal(data_dir_set_aside(&r->folder, &r->tree, NULL), 0);
        assert_true(fixture_has(r, "old/live/witness") && fixture_has(r, "old/live/data.mdb") &&
                    fixture_has(r, "old/checkpoint/data.mdb"));
        assert_false(fixture_has(r, "checkpoint/data.mdb"));
        assert_false(data_dir_was_served(&r->folder) || r->folder.checkpoint.fd >= 0);
        assert_tree_holds(r->tree, 0, NULL);

        /* A corrupt checkpoint does not prevent the next one. */
        data_dir_forget_checkpoint(&r->folder);
        r->tree = tree_close(r->tree);
        assert_int_equal(data_dir_set_aside(&r->folder, &r->tree, NULL), 0);
        assert_false(r->folder.corrupt || fixture_has(r, "old/live/witness"));
}

static void a_lost_log_is_remembered_with_the_reason_until_another_is_found(void **state) {
        char reason[256] = "";
        Fixture *r = *state;

        fixture_open(r);
        assert_int_equal(data_dir_is_quarantined(&r->folder, reason, sizeof(reason)), 0);
        assert_int_equal(data_dir_quarantine(&r->folder, "one\ntwo"), 0);
        assert_int_equal(data_dir_is_quarantined(&r->folder, reason, sizeof(reason)), 1);
        assert_string_equal(reason, "one?two");
        assert_int_equal(data_dir_end_quarantine(&r->folder), 0);
        assert_int_equal(data_dir_is_quarantined(&r->folder, reason, sizeof(reason)), 0);
        assert_int_equal(data_dir_end_quarantine(&r->folder), 0);
}

static void an_identity_is_read_back_and_a_corrupt_one_is_none(void **state) {
        static const char *const garbled[] = { "", "2\ncluster 1\nlineage 2\n", "1\ncluster 1\n",
                                               "1\ncluster x\nlineage 2\n" };
        uint64_t cluster = 0, lineage = 0;
        Fixture *r = *state;

        fixture_open(r);
        assert_int_equal(data_dir_read_identity(&r->folder, &cluster, &lineage), -ENOENT);
        assert_int_equal(data_dir_write_identity(&r->folder, UINT64_C(0xfedcba9876543210), 2), 0);
        assert_int_equal(data_dir_read_identity(&r->folder, &cluster, &lineage), 0);
        assert_true(cluster == UINT64_C(0xfedcba9876543210) && lineage == 2);
        for (size_t i = 0; i < ELEMENTS(garbled); i++) {
                fixture_make_file(r, "identity", garbled[i]);
                assert_int_equal(data_dir_read_identity(&r->folder, &cluster, &lineage), -EBADMSG);
        }
}

static bool is_in(const char *folder, const char *name) {
        _cleanup_free_ char *path = scratch_path(folder, name);

        return access(path, F_OK) == 0;
}

static void a_log_that_is_set_aside_takes_the_place_of_the_one_before(void **state) {
        static const char *const names[] = { "meta.a", "log.00000001", "old.meta.a", "old.log.00000007",
                                             "other" };
        Fixture *r = *state;
        _cleanup_free_ char *folder = scratch_path(r->scratch, "raft");
        Disk *log_disk;

        assert_int_equal(disk_real_open(folder, &log_disk), 0);
        assert_true(bootstrap_is_fresh(log_disk));
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_free_ char *path = scratch_path(folder, names[i]);

                scratch_write(path, "x");
        }
        assert_false(bootstrap_is_fresh(log_disk));
        for (unsigned i = 0; i < 2; i++) { /* once more does no harm */
                assert_int_equal(bootstrap_set_aside(log_disk, NULL), 0);
                assert_true(is_in(folder, "old.meta.a") && is_in(folder, "old.log.00000001") &&
                            is_in(folder, "other"));
                assert_false(is_in(folder, "meta.a") || is_in(folder, "log.00000001") ||
                             is_in(folder, "old.log.00000007"));
                assert_true(bootstrap_is_fresh(log_disk));
        }
        disk_real_close(log_disk);
}

/* The first term of a founder is 1; a log without entries has seen none but that of the tree that was
 * restored. */
static void a_new_log_begins_in_the_term_of_what_it_holds(void **state) {
        enum { FOUND, JOIN, RESTORED, _KIND_MAX };
        static const uint64_t terms[] = { 1, 0, 7 };
        const Identity given = { .cluster_id = 0xc1, .lineage = 0xab, .raft_id = 5 };
        Fixture *r = *state;

        for (unsigned kind = 0; kind < _KIND_MAX; kind++) {
                char name[] = { 'l', (char) ('0' + kind), 0 };
                _cleanup_free_ char *folder = scratch_path(r->scratch, name);
                ManualLoop loop;
                RaftLog *log = NULL;
                size_t n_entries;
                uint64_t first;
                Disk *disk;

                manual_loop_init(&loop, 1);
                fixture_open(r);
                assert_int_equal(disk_real_open(folder, &disk), 0);
                assert_int_equal(kind == FOUND ? bootstrap_found(&r->folder, disk, &loop.base.random,
                                                                 "127.0.0.1:1", 0, NULL) :
                                 kind == JOIN  ? bootstrap_join(&r->folder, disk, &given, 0, NULL) :
                                                 bootstrap_restored(&r->folder, disk, &given, 7, NULL),
                                 0);
                assert_int_equal(raft_log_open(disk, &loop.base, &(RaftLogOptions) {}, &(RaftLogEvents) {},
                                               NULL, &log, NULL),
                                 0);
                assert_int_equal(raft_log_meta(log)->term, terms[kind]);
                assert_int_equal(raft_log_meta(log)->vote, 0);
                assert_int_equal(raft_log_meta(log)->id, kind == FOUND ? BOOTSTRAP_RAFT_ID : given.raft_id);
                (void) raft_log_entries(log, &n_entries, &first);
                assert_int_equal(n_entries, kind == FOUND ? 1 : 0);
                assert_int_equal(first, 1);
                raft_log_crash(log);
                disk_real_close(disk);
                fixture_stop(r);
                loop_done(&loop.base);
        }
}

/* -- A file that is mostly free -- */

/* Of 4 KiB pages: a node takes 51; a file of fewer than 1024 pages stays, and
 * 40 nodes make one of about 2600. */
static void a_file_shrinks_from_4_mib_on_if_less_than_a_quarter_is_used(void **state) {
        static const struct {
                unsigned made, kept;
                bool shrinks;
        } cases[] = { { 18, 0, false }, { 22, 0, true }, { 40, 15, false }, { 40, 11, true } };
        Fixture *r = *state;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                off_t before;

                free(r->path);
                r->path = scratch_path(r->scratch, (const char *const[]) { "a", "b", "c", "d" }[i]);
                fixture_open(r);
                fixture_put(r, 7, "mine");
                fixture_stop(r);
                tree_file_swell(r->path, cases[i].made, false);
                if (cases[i].kept > 0)
                        tree_file_swell(r->path, cases[i].kept, true);
                before = fixture_stat(r, "live/data.mdb").st_size;
                fixture_open(r);
                if ((fixture_stat(r, "live/data.mdb").st_size < before) != cases[i].shrinks)
                        fail_msg("case %zu: %jd bytes, %jd before", i,
                                 (intmax_t) fixture_stat(r, "live/data.mdb").st_size, (intmax_t) before);
                assert_tree_holds(r->tree, 7, "mine");
                assert_false(fixture_has(r, "checkpoint.new"));
                fixture_stop(r);
        }
}

static void a_file_of_just_4_mib_shrinks_and_a_smaller_one_does_not(void **state) {
        enum { LIMIT = 4 * 1024 * 1024, PAGE = 4096 };
        Fixture *r = *state;

        fixture_open(r);
        fixture_put(r, 7, "mine");
        fixture_stop(r);
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_free_ char *path = scratch_path(r->path, "live/data.mdb");
                off_t size = i == 0 ? LIMIT - PAGE : LIMIT;

                assert_true(fixture_stat(r, "live/data.mdb").st_size < size);
                assert_int_equal(truncate(path, size), 0);
                fixture_open(r);
                assert_int_equal(fixture_stat(r, "live/data.mdb").st_size < size, i);
                assert_tree_holds(r->tree, 7, "mine");
                fixture_stop(r);
        }
}

/* Its copy is read, and that finds out. */
static void a_damaged_tree_that_was_to_shrink_is_made_again_of_the_checkpoint(void **state) {
        _cleanup_free_ char *bytes = NULL;
        Fixture *r = *state;
        unsigned n = 0;
        size_t size;

        fixture_open(r);
        fixture_put(r, 7, "a-value-that-is-precious");
        fixture_checkpoint(r);
        fixture_stop(r);
        tree_file_swell(r->path, 22, false);
        bytes = fixture_read(r, "live/data.mdb", &size);
        for (char *at = bytes; (at = memmem(at, (size_t) (bytes + size - at), "precious", 8)); at++, n++)
                fixture_write(r, "live/data.mdb", "Precious", 8, (uint64_t) (at - bytes));
        assert_true(n > 0);
        fixture_open(r);
        assert_tree_holds(r->tree, 7, "a-value-that-is-precious");
}

#define in_a_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_fixture(a_tree_is_believed_only_if_nothing_speaks_against_it),
                in_a_fixture(a_tree_is_believed_on_the_disk_that_it_was_written_to),
                in_a_fixture(after_three_starts_without_an_orderly_end_a_tree_is_rebuilt),
                in_a_fixture(the_served_mark_is_written_once_and_cleared_in_place),
                in_a_fixture(cluster_time_outlives_a_reboot_but_not_another_machine),
                in_a_fixture(the_larger_quota_counts),
                in_a_fixture(checkpoints_leave_no_files_and_no_descriptors_behind),
                in_a_fixture(only_the_owner_may_read_the_files_of_a_folder),
                in_a_fixture(a_checkpoint_is_copied_by_hand_where_the_file_system_cannot),
                in_a_fixture(a_damaged_checkpoint_is_not_rebuilt_from),
                in_a_fixture(a_checkpoint_that_cannot_be_opened_stops_the_opening),
                in_a_fixture(a_received_tree_takes_the_place_of_the_checkpoint_or_of_both),
                in_a_fixture(a_tree_set_aside_is_kept_also_when_the_new_one_cannot_be_made),
                in_a_fixture(a_lost_log_is_remembered_with_the_reason_until_another_is_found),
                in_a_fixture(an_identity_is_read_back_and_a_corrupt_one_is_none),
                in_a_fixture(a_log_that_is_set_aside_takes_the_place_of_the_one_before),
                in_a_fixture(a_new_log_begins_in_the_term_of_what_it_holds),
                in_a_fixture(a_file_shrinks_from_4_mib_on_if_less_than_a_quarter_is_used),
                in_a_fixture(a_file_of_just_4_mib_shrinks_and_a_smaller_one_does_not),
                in_a_fixture(a_damaged_tree_that_was_to_shrink_is_made_again_of_the_checkpoint),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
