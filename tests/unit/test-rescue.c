/* Backup and restore through their door: on stores that a daemon has left, in real folders. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/file.h"
#include "base/text.h"
#include "kvstore/file_sum.h"
#include "kvstore/rescue.h"
#include "tests/lib/scratch.h"
#include "tests/lib/trio.h"

enum { N_KEYS = 400, PAGE = 4096 };

typedef struct Room {
        char *scratch, *file;
        Trio trio;
} Room;

static int make_room(void **state) {
        Room *room = NEW0(Room, 1);

        assert_non_null(room);
        room->scratch = scratch_new();
        room->file = scratch_path(room->scratch, "backup");
        trio_new(&room->trio, room->scratch, false);
        alarm(60);
        *state = room;
        return 0;
}

static int end_room(void **state) {
        Room *room = *state;

        trio_free(&room->trio);
        free(room->file);
        scratch_free(room->scratch);
        free(room);
        alarm(0);
        return 0;
}

static TrioHost *open_host(Room *room, unsigned number) {
        TrioHost *h = &room->trio.hosts[number];
        Error err = {};
        int r = trio_open(&room->trio, number, false, &err);

        if (r < 0)
                fail_msg("host %u: %s", number, error_text(&err, r));
        assert_true(trio_until(&room->trio, trio_is_led, h));
        return h;
}

/* The key that host 0 has as the last of so many. */
static void fill(Room *room, unsigned n) {
        TrioHost *h = open_host(room, 0);
        char key[32];

        for (unsigned i = 0; i < n; i++) {
                snprintf(key, sizeof(key), "/many/%u", i);
                assert_int_equal(trio_put(h, key, "a value of some length, so that there are pages enough to be damaged, one by one"), KV_OK);
        }
        trio_close(&room->trio, 0);
}

/* What a daemon's opener does with options that name host 'number', in another boot than any daemon's. */
static int rescue(Room *room, unsigned number, int (*run)(const KvRescueOptions *o, const char *file, KvRescue *ret, Error *err), const char *file,
                  KvRescue *ret, Error *err) {
        TrioHost *h = &room->trio.hosts[number];
        KvRescueOptions o = { .loop = room->trio.loop, .tree_path = h->tree_path };
        int r;

        assert_int_equal(disk_real_open(h->raft_path, &o.log_disk), 0);
        snprintf(o.machine_id, sizeof(o.machine_id), "%032x", number + 0xa0);
        snprintf(o.boot_id, sizeof(o.boot_id), "%032x", 99);
        r = run(&o, file, ret, err);
        disk_real_close(o.log_disk);
        return r;
}

static void must(Room *room, unsigned number, int (*run)(const KvRescueOptions *o, const char *file, KvRescue *ret, Error *err), KvRescue *ret) {
        Error err = {};
        int r = rescue(room, number, run, room->file, ret, &err);

        if (r < 0)
                fail_msg("%s", error_text(&err, r));
}

static void a_backup_from_before_the_first_checkpoint_is_restored(void **state) {
        Room *room = *state;
        KvRescue saved = {}, restored = {};
        char value[512];
        TrioHost *h;

        fill(room, N_KEYS);
        must(room, 0, kv_backup, &saved);
        assert_true(saved.cluster_id != 0 && saved.lineage != 0 && saved.raft_id == 1);
        assert_true(saved.n_nodes > N_KEYS);

        must(room, 1, kv_restore, &restored);
        assert_true(restored.cluster_id == saved.cluster_id && restored.lineage == saved.lineage);
        assert_true(restored.new_lineage != saved.lineage);
        h = open_host(room, 1);
        assert_true(starts_with(trio_get(h, "/many/399", value), "a value"));
        assert_int_equal(trio_put(h, "/after", "1"), KV_OK);
}

static void write_at(const char *file, const void *bytes, size_t size, off_t offset) {
        _cleanup_close_ int fd = open(file, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, bytes, size, offset), size);
}

static void assert_refused(Room *room, int error, const char *sentence) {
        KvRescue ret = {};
        Error err = {};

        assert_int_equal(rescue(room, 1, kv_restore, room->file, &ret, &err), error);
        assert_non_null(strstr(err.message, sentence));
        assert_int_equal(access(room->trio.hosts[1].tree_path, F_OK), -1); /* and another one can still be restored */
}

static void a_backup_with_a_damaged_page_is_refused_before_it_is_followed(void **state) {
        Room *room = *state;
        KvRescue ret = {};
        struct stat st;

        fill(room, N_KEYS);
        must(room, 0, kv_backup, &ret);
        assert_int_equal(stat(room->file, &st), 0);
        assert_true(st.st_size > 20 * PAGE);

        for (off_t page = 0; page < st.st_size; page += PAGE) {
                uint8_t was[2], is[2];
                _cleanup_close_ int fd = open(room->file, O_RDONLY | O_CLOEXEC);
                off_t at = page + 10 + (page / PAGE % 3) * 2; /* flags, and where the free space of the page lies */

                assert_int_equal(pread(fd, was, sizeof(was), at), sizeof(was));
                is[0] = was[0] ^ 0x5a;
                is[1] = was[1] ^ 0x81;
                write_at(room->file, is, sizeof(is), at);
                assert_refused(room, -EUCLEAN, "is damaged: it does not hold what was written to it");
                write_at(room->file, was, sizeof(was), at);
        }
        must(room, 1, kv_restore, &ret); /* that was all that was wrong with it */
}

static void what_is_no_whole_backup_is_refused(void **state) {
        Room *room = *state;
        KvRescue ret = {};
        struct stat st;

        fill(room, N_KEYS);
        must(room, 0, kv_backup, &ret);
        assert_int_equal(stat(room->file, &st), 0);
        for (off_t size = st.st_size - 1; size > 0; size /= 3) {
                assert_int_equal(truncate(room->file, size), 0);
                assert_refused(room, -EINVAL, "is no backup, or only the beginning of one");
        }
        assert_int_equal(truncate(room->file, 0), 0);
        assert_refused(room, -EINVAL, "is no backup");
}

static void a_backup_that_exists_is_not_overwritten(void **state) {
        Room *room = *state;
        KvRescue ret = {};
        Error err = {};

        fill(room, 3);
        scratch_write(room->file, "precious");
        assert_int_equal(rescue(room, 0, kv_backup, room->file, &ret, &err), -EEXIST);
        assert_int_equal(ret.cluster_id, 0);
}

static void a_backup_is_not_restored_beside_a_log(void **state) {
        static const char *const names[] = { "meta.b", "log.00000001" };
        Room *room = *state;
        KvRescue ret = {};
        char file[300];

        fill(room, 3);
        must(room, 0, kv_backup, &ret);
        assert_int_equal(mkdir(room->trio.hosts[1].raft_path, 0700), 0);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                snprintf(file, sizeof(file), "%s/%s", room->trio.hosts[1].raft_path, names[i]);
                scratch_write(file, "x");
                assert_refused(room, -EEXIST, "there is a log beside");
                assert_int_equal(unlink(file), 0);
        }
        must(room, 1, kv_restore, &ret);
}

#define in_a_room(f) cmocka_unit_test_setup_teardown(f, make_room, end_room)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_room(a_backup_from_before_the_first_checkpoint_is_restored),
                in_a_room(a_backup_with_a_damaged_page_is_refused_before_it_is_followed),
                in_a_room(what_is_no_whole_backup_is_refused),
                in_a_room(a_backup_that_exists_is_not_overwritten),
                in_a_room(a_backup_is_not_restored_beside_a_log),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
