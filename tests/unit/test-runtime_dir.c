/* The folder of unit files in force, and the traces of how units ended. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "fleetd/systemd/runtime_dir.h"
#include "tests/lib/scratch.h"

static uint64_t fixture_free = UINT64_MAX, room_total = UINT64_MAX;
static int room_error;

int __wrap_space_at(int fd, uint64_t *ret_free, uint64_t *ret_total);
int __wrap_space_at(int fd, uint64_t *ret_free, uint64_t *ret_total) {
        *ret_free = fixture_free;
        *ret_total = room_total;
        return room_error;
}

typedef struct Lab {
        char *scratch, *path, *quadlets, *links;
        RuntimeDir dir;
} Lab;

static int setup(void **state) {
        Lab *lab = NEW0(Lab, 1);

        lab->scratch = scratch_new();
        lab->path = scratch_path(lab->scratch, "units");
        lab->quadlets = scratch_path(lab->scratch, "containers/systemd");
        lab->links = scratch_path(lab->scratch, "links");
        assert_int_equal(mkdir(lab->links, 0755), 0);
        assert_int_equal(runtime_dir_open(&lab->dir, lab->path, lab->quadlets, lab->links, NULL), 0);
        *state = lab;
        return 0;
}

static int teardown(void **state) {
        Lab *lab = *state;

        runtime_dir_close(&lab->dir);
        free(lab->path);
        free(lab->quadlets);
        free(lab->links);
        scratch_free(lab->scratch);
        free(lab);
        return 0;
}

#define ONE "[Service]\nExecStart=/bin/one\n"
#define TWO "[Service]\nExecStart=/bin/two\n[Install]\nWantedBy=multi-user.target\n"

static const RuntimeDirEntry *entry(Lab *lab, const char *name) {
        const RuntimeDirEntry *e = NULL;

        assert_int_equal(runtime_dir_get(&lab->dir, name, &e), 0);
        return e;
}

static bool holds(Lab *lab, const char *name, const char *text) {
        return file_holds_at(lab->dir.fd, name, text, strlen(text));
}

static bool is_staged(Lab *lab, const char *name) {
        char staged[FILE_TEMPORARY_SIZE];

        file_temporary_name(name, staged);
        return faccessat(lab->dir.fd, staged, F_OK, 0) == 0;
}

static void make_link(const char *folder, const char *name, const char *target) {
        _cleanup_free_ char *path = scratch_path(folder, name);

        assert_int_equal(symlink(target, path), 0);
}

static unsigned warnings;
static char warned[300];

static void note_warning(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (priority != LOG_WARNING)
                return;
        warnings++;
        snprintf(warned + strlen(warned), sizeof(warned) - strlen(warned), "%s:%d ", fields->unit ?: "-",
                 fields->error);
}

static void files_that_are_not_our_units_are_ignored_with_a_warning(void **state) {
        static const char *const names[] = { "a.service", ".b.service", "c@.service", "d@1.service",
                                             "README" };
        _cleanup_free_ char *file = NULL;
        Lab *lab = *state;
        Error err = {};
        RuntimeDir other;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                assert_int_equal(write_file_at(lab->dir.fd, names[i], TWO, strlen(TWO), 0644), 0);
        assert_int_equal(write_file_at(lab->dir.fd, "e.service", "\0", 1, 0644), 0);
        assert_int_equal(mkdirat(lab->dir.fd, "f.service", 0755), 0);
        runtime_dir_close(&lab->dir);
        runtime_dir_close(&lab->dir); /* a second call has no effect */
        log_set_sink(note_warning, NULL);
        assert_int_equal(runtime_dir_open(&lab->dir, lab->path, lab->quadlets, lab->links, NULL), 0);
        log_set_sink(NULL, NULL);
        snprintf(warned + strlen(warned), sizeof(warned) - strlen(warned), "%u", warnings);
        assert_string_equal(warned, "README:-22 e.service:-74 f.service:-22 3");
        assert_int_equal(HASH_COUNT(lab->dir.entries), 2);
        assert_true(entry(lab, "a.service")->install);
        assert_non_null(entry(lab, "d@1.service"));

        file = scratch_path(lab->path, "a.service");
        assert_int_equal(runtime_dir_open(&other, file, lab->quadlets, lab->links, &err), -ENOTDIR);
        assert_non_null(strstr(err.message, "a.service: Not a directory"));
        assert_true(starts_with(err.message, "Failed to open "));
}

static void a_text_is_staged_if_systemd_has_space_to_reload(void **state) {
        enum { MIN_ROOM = 16 * 1024 * 1024 };
        static const struct {
                uint64_t total, free;
                int error, r;
        } rows[] = {
                { UINT64_MAX, MIN_ROOM, 0, 0 },
                { UINT64_MAX, MIN_ROOM - 1, 0, -ENOSPC },
                { MIN_ROOM, 0, 0, -ENOSPC },
                { MIN_ROOM - 1, 0, 0, 0 },  /* systemd does not require more than the size of the file system
                                             */
                { UINT64_MAX, 0, -EIO, 0 }, /* unknown */
        };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                room_total = rows[i].total;
                fixture_free = rows[i].free;
                room_error = rows[i].error;
                assert_int_equal(runtime_dir_stage(&lab->dir, "a.service", ONE, strlen(ONE)), rows[i].r);
                assert_int_equal(is_staged(lab, "a.service"), rows[i].r == 0);
                assert_null(entry(lab, "a.service"));
        }
        room_total = fixture_free = UINT64_MAX;
        room_error = 0;
        assert_int_equal(runtime_dir_stage(&(RuntimeDir) { .fd = -1 }, "a.service", ONE, strlen(ONE)),
                         -EBADF);
}

static void a_staged_file_is_put_in_force_if_it_has_the_text(void **state) {
        char staged[FILE_TEMPORARY_SIZE], hash[UNIT_HASH_SIZE];
        struct stat before, after;
        Lab *lab = *state;

        file_temporary_name("a.service", staged);
        assert_int_equal(runtime_dir_stage(&lab->dir, "a.service", ONE, strlen(ONE)), 0);
        assert_int_equal(fstatat(lab->dir.fd, staged, &before, 0), 0);
        assert_int_equal(runtime_dir_write(&lab->dir, "a.service", ONE, strlen(ONE)), 0);
        assert_int_equal(fstatat(lab->dir.fd, "a.service", &after, 0), 0);
        assert_int_equal(before.st_ino, after.st_ino);
        assert_false(entry(lab, "a.service")->install);
        memcpy(hash, entry(lab, "a.service")->hash, sizeof(hash));

        assert_int_equal(runtime_dir_stage(&lab->dir, "a.service", ONE, strlen(ONE)), 0);
        assert_int_equal(runtime_dir_write(&lab->dir, "a.service", TWO, strlen(TWO)), 0);
        assert_true(holds(lab, "a.service", TWO));
        assert_false(is_staged(lab, "a.service"));
        assert_true(entry(lab, "a.service")->install);
        assert_string_not_equal(entry(lab, "a.service")->hash, hash);
        assert_int_equal(HASH_COUNT(lab->dir.entries), 1);

        assert_int_equal(runtime_dir_write(&lab->dir, "b.service", "\0", 1), -EBADMSG);
        assert_null(entry(lab, "b.service"));
        assert_int_equal(mkdirat(lab->dir.fd, "c.service", 0755), 0);
        assert_int_equal(runtime_dir_write(&lab->dir, "c.service", ONE, strlen(ONE)), -EISDIR);
        assert_null(entry(lab, "c.service"));
}

static void a_unit_is_removed_with_its_staged_file(void **state) {
        Lab *lab = *state;

        assert_int_equal(runtime_dir_write(&lab->dir, "a.service", ONE, strlen(ONE)), 0);
        assert_int_equal(runtime_dir_stage(&lab->dir, "a.service", TWO, strlen(TWO)), 0);
        assert_int_equal(runtime_dir_remove(&lab->dir, "a.service"), 0);
        assert_null(lab->dir.entries);
        assert_false(is_staged(lab, "a.service"));
        assert_int_equal(faccessat(lab->dir.fd, "a.service", F_OK, 0), -1);
        assert_int_equal(runtime_dir_remove(&lab->dir, "a.service"), 0); /* it does not exist */
        assert_int_equal(mkdirat(lab->dir.fd, "b.service", 0755), 0);
        assert_true(runtime_dir_remove(&lab->dir, "b.service") < 0);
}

static void an_entry_follows_the_content_of_its_file(void **state) {
        _cleanup_free_ char *path = NULL;
        Lab *lab = *state;
        uint64_t reads;

        assert_int_equal(runtime_dir_write(&lab->dir, "a.service", ONE, strlen(ONE)), 0);
        assert_non_null(entry(lab, "a.service"));
        reads = lab->dir.reads;
        assert_non_null(entry(lab, "a.service"));
        assert_int_equal(lab->dir.reads, reads);

        path = scratch_path(lab->path, "a.service");
        scratch_write(path, TWO); /* by another program */
        assert_true(entry(lab, "a.service")->install);
        assert_int_equal(lab->dir.reads, reads + 1);
        assert_int_equal(write_file_at(lab->dir.fd, "a.service", "\0", 1, 0644), 0);
        assert_null(entry(lab, "a.service"));
        assert_null(lab->dir.entries);
        scratch_write(path, ONE);
        assert_non_null(entry(lab, "a.service"));
        assert_int_equal(unlink(path), 0);
        assert_null(entry(lab, "a.service"));
        assert_null(lab->dir.entries);
}

static void a_folder_that_was_removed_is_made_again(void **state) {
        Lab *lab = *state;

        assert_int_equal(runtime_dir_write(&lab->dir, "a.service", ONE, strlen(ONE)), 0);
        assert_int_equal(runtime_dir_check(&lab->dir), 0);
        assert_int_equal(remove_tree_at(AT_FDCWD, lab->path), 0);
        log_set_sink(note_warning, NULL);
        warnings = 0;
        assert_int_equal(runtime_dir_check(&lab->dir), 1);
        assert_int_equal(runtime_dir_check(&lab->dir), 0);
        log_set_sink(NULL, NULL);
        assert_int_equal(warnings, 1);
        assert_null(entry(lab, "a.service"));
        assert_int_equal(runtime_dir_write(&lab->dir, "a.service", ONE, strlen(ONE)), 0);
}

static void a_link_for_the_generator_replaces_nothing(void **state) {
        _cleanup_free_ char *link = NULL, *foreign = NULL, *blocked = NULL, *ours = NULL;
        Lab *lab = *state;
        char target[300] = "";

        link = scratch_path(lab->quadlets, "a.container");
        foreign = scratch_path(lab->quadlets, "b.container");
        ours = scratch_path(lab->path, "a.container");
        assert_int_equal(runtime_dir_offer(&lab->dir, "a.container"), 0); /* with the folders above it */
        assert_true(readlink(link, target, sizeof(target) - 1) > 0);
        assert_string_equal(target, ours);
        assert_int_equal(runtime_dir_offer(&lab->dir, "a.container"), 0);

        scratch_write(foreign, "");
        make_link(lab->quadlets, "c.container", "/dev/null");
        assert_int_equal(runtime_dir_offer(&lab->dir, "b.container"), -EEXIST);
        assert_int_equal(runtime_dir_offer(&lab->dir, "c.container"), -EEXIST);
        for (size_t i = 0; i < 3; i++)
                runtime_dir_withdraw(&lab->dir,
                                     ((const char *[]) { "a.container", "b.container", "c.container" })[i]);
        assert_int_equal(readlink(link, target, sizeof(target)), -1);
        assert_int_equal(access(foreign, F_OK), 0);
        assert_int_equal(runtime_dir_offer(&lab->dir, "c.container"), -EEXIST);

        assert_int_equal(remove_tree_at(AT_FDCWD, lab->quadlets), 0);
        scratch_write(lab->quadlets, "");
        assert_int_equal(runtime_dir_offer(&lab->dir, "a.container"), -ENOTDIR);
        assert_int_equal(unlink(lab->quadlets), 0);
        blocked = scratch_path(lab->scratch, "containers");
        assert_int_equal(rmdir(blocked), 0);
        make_link(lab->scratch, "containers", "nowhere");
        assert_true(runtime_dir_offer(&lab->dir, "a.container") < 0);
}

static void the_template_of_a_socket_is_linked_unless_the_host_has_one(void **state) {
        _cleanup_free_ char *link = NULL, *ours = NULL;
        Lab *lab = *state;
        char target[300] = "";

        link = scratch_path(lab->links, "a@.service");
        ours = scratch_path(lab->path, "a@.service");
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(runtime_dir_put_template(&lab->dir, "a@.service", TWO, strlen(TWO)), 0);
        assert_true(readlink(link, target, sizeof(target) - 1) > 0);
        assert_string_equal(target, ours);
        assert_true(file_holds_at(lab->dir.fd, "a@.service", TWO, strlen(TWO)));
        assert_int_equal(runtime_dir_put_template(&lab->dir, "a@.service", "# 3\n", 4), 0);
        assert_true(file_holds_at(lab->dir.fd, "a@.service", "# 3\n", 4));
        assert_int_equal(HASH_COUNT(lab->dir.entries), 0); /* no unit of a listing */
        runtime_dir_remove_template(&lab->dir, "a@.service");
        assert_int_equal(access(ours, F_OK), -1);
        assert_int_equal(readlink(link, target, sizeof(target)), -1);

        make_link(lab->links, "b@.service", "/dev/null");
        assert_int_equal(runtime_dir_put_template(&lab->dir, "b@.service", TWO, strlen(TWO)), -EEXIST);
        runtime_dir_remove_template(&lab->dir, "b@.service");
        link = (free(link), scratch_path(lab->links, "b@.service"));
        assert_true(readlink(link, target, sizeof(target)) > 0);
        /* Each host of systemd has it. */
        if (access("/usr/lib/systemd/system/getty@.service", F_OK) == 0)
                assert_int_equal(runtime_dir_put_template(&lab->dir, "getty@.service", TWO, strlen(TWO)),
                                 -EEXIST);
}

/* In paths, "U" is our folder, "Q" that of the generator, and "L" that of runtime links. */
static const char *path_of(Lab *lab, const char *s, char ret[static 700]) {
        const char *folder = *s == 'U' ? lab->path :
                             *s == 'Q' ? lab->quadlets :
                             *s == 'L' ? lab->links :
                                         NULL;

        snprintf(ret, 700, "%s%s", folder ?: "", folder ? s + 1 : s);
        return ret;
}

static void a_fragment_is_ours_by_its_path_or_its_target(void **state) {
        static const struct {
                const char *link, *target; /* NULL: none is made */
                const char *name, *fragment;
                bool owns, has, lost, links;
        } rows[] = {
                { NULL, NULL, "a.service", "U/a.service", true, true },
                { NULL, NULL, "b.service", "U/a.service", false, true },
                { NULL, NULL, "a.service", "U/a", false, false },
                { NULL, NULL, "a.service", "Ux/a.service", false, false },
                { NULL, NULL, "a.service", "U", false, false },
                { NULL, NULL, "a.service", "U/d/a.service", false, false },
                { NULL, NULL, "a.service", "a.service", false, false },
                { NULL, NULL, "a.service", "", false, false },
                { NULL, NULL, "a.service", "/usr/lib/a.service", false, false },
                { NULL, NULL, "a.service", "L/a.service", false, false, true },
                { NULL, NULL, "b.service", "L/a.service", false, false },
                { "L/a.service", "U/a.service", "a.service", "L/a.service", true, true, false, true },
                { "L/a.service", "U/b.service", "a.service", "L/a.service", false, true },
                { "L/a.service", "/dev/null", "a.service", "L/a.service", false, false },
                { "L/a.service", "../units/a.service", "a.service", "L/a.service", false, false },
                { "L/alias.service", "U/a.service", "alias.service", "L/alias.service", false, true },
                { NULL, NULL, "a.container", "Q/a.container", true, false },
                { NULL, NULL, "b.container", "Q/a.container", false, false },
                { NULL, NULL, "a.container", "U/a.container", false, true },
                { "Q/a.container", "U/a.container", "a.container", "Q/a.container", true, true },
                { "Q/a.container", "/dev/null", "a.container", "Q/a.container", false, false },
        };
        Lab *lab = *state;

        assert_int_equal(runtime_dir_offer(&lab->dir, "any.container"), 0); /* makes the folder */
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char link[700], target[700], fragment[700];

                if (rows[i].link)
                        assert_int_equal(symlink(path_of(lab, rows[i].target, target),
                                                 path_of(lab, rows[i].link, link)),
                                         0);
                path_of(lab, rows[i].fragment, fragment);
                if (runtime_dir_owns(&lab->dir, rows[i].name, fragment) != rows[i].owns)
                        fail_msg("row %zu: owns", i);
                if (runtime_dir_has(&lab->dir, fragment) != rows[i].has)
                        fail_msg("row %zu: has", i);
                if (runtime_dir_lost_link(&lab->dir, rows[i].name, fragment) != rows[i].lost)
                        fail_msg("row %zu: lost", i);
                if (runtime_dir_links(&lab->dir, rows[i].name) != rows[i].links)
                        fail_msg("row %zu: links", i);
                if (rows[i].link)
                        assert_int_equal(unlink(link), 0);
        }
}

static void links_are_followed_from_name_to_name_up_to_a_limit(void **state) {
        _cleanup_free_ char *long_path = NULL;
        char fragment[700], target[600];
        Lab *lab = *state;

        /* l1 leads to the file, l2 to l1, and so on: by name, as within one folder. */
        snprintf(target, sizeof(target), "%s/a.service", lab->path);
        make_link(lab->links, "l1.service", target);
        for (unsigned i = 2; i <= 9; i++) {
                snprintf(fragment, sizeof(fragment), "l%u.service", i);
                snprintf(target, sizeof(target), "l%u.service", i - 1);
                make_link(lab->links, fragment, target);
        }
        for (unsigned i = 1; i <= 9; i++) {
                snprintf(fragment, sizeof(fragment), "%s/l%u.service", lab->links, i);
                assert_int_equal(runtime_dir_has(&lab->dir, fragment), i <= 8);
        }

        /* A path longer than any of ours is not ours. */
        long_path = malloc(601);
        memset(long_path, 'x', 600);
        long_path[0] = '/';
        long_path[600] = 0;
        assert_false(runtime_dir_has(&lab->dir, long_path));
        for (size_t size = 598; size <= 599; size++) {
                long_path[size] = 0;
                make_link(lab->links, "long.service", long_path);
                snprintf(fragment, sizeof(fragment), "%s/long.service", lab->links);
                assert_false(runtime_dir_has(&lab->dir, fragment));
                assert_int_equal(unlink(fragment), 0);
                long_path[size] = 'x';
        }
}

static int note_name(void *userdata, const UnitOption *option, const char *name) {
        char *names = userdata;

        snprintf(names + strlen(names), 200 - strlen(names), "%s=%s ", option->name, name);
        return streq(name, "stop.service") ? -E2BIG : 0;
}

static void the_names_of_an_install_section_are_read_from_the_file(void **state) {
        static const char text[] =
                "[Install]\nAlias=x.service %p-%i.service\nAlso=y.socket\nWantedBy=z.target\n";
        static const char stop[] = "[Install]\nAlias=stop.service x.service\n";
        char names[200] = "";
        Lab *lab = *state;

        assert_int_equal(runtime_dir_write(&lab->dir, "a@1.service", text, strlen(text)), 0);
        assert_int_equal(runtime_dir_each_installed(&lab->dir, "a@1.service", note_name, names), 0);
        assert_string_equal(names, "Alias=x.service Alias=a-1.service Also=y.socket ");
        assert_int_equal(runtime_dir_write(&lab->dir, "b.service", stop, strlen(stop)), 0);
        names[0] = 0;
        assert_int_equal(runtime_dir_each_installed(&lab->dir, "b.service", note_name, names), -E2BIG);
        assert_string_equal(names, "Alias=stop.service ");
        assert_int_equal(runtime_dir_each_installed(&lab->dir, "none.service", note_name, names), -ENOENT);
        assert_int_equal(write_file_at(lab->dir.fd, "c.service", "\0", 1, 0644), 0);
        assert_int_equal(runtime_dir_each_installed(&lab->dir, "c.service", note_name, names), -EBADMSG);
}

/* -- How a unit ended -- */

/* Signals of a unit, one letter each, at times 1, 2, ...; a capital: with a job. a: active; e: activating; d:
 * deactivating; i, f: inactive, failed, just left the active state; o: inactive, without being active before;
 * n: still inactive, its condition does not hold; y: its condition holds; r: inactive, not checked again; k:
 * killed; s: rejected by ExecCondition=; t: a job with that of a target; j: another job; c: its job is
 * canceled; l: signals were lost; b: a start is requested */
static void play(SystemdTrace *t, const char *events) {
        uint64_t left_us = 0, checked_us = 0, now_us = 0;

        for (const char *p = events; *p; p++) {
                bool job = *p >= 'A' && *p <= 'Z';
                char c = job ? *p + ('a' - 'A') : *p;
                SystemdChange change = { .job = job ? 7 : 0, .condition = true };

                now_us++;
                switch (c) {
                case 'k':
                        t->killed = true;
                        continue;
                case 's':
                        t->skipped = true;
                        continue;
                case 't':
                case 'j':
                        t->with_target = c == 't';
                        continue;
                case 'c':
                        systemd_trace_job_canceled(t, now_us);
                        continue;
                case 'l':
                        t->running = false;
                        continue;
                case 'b':
                        systemd_trace_begin(t);
                        continue;
                case 'n':
                case 'y':
                        checked_us = now_us;
                        change.condition = c == 'y';
                        break;
                case 'r':
                        change.condition = false;
                        break;
                }
                change.active = c == 'a' ? "active" :
                                c == 'e' ? "activating" :
                                c == 'd' ? "deactivating" :
                                c == 'f' ? "failed" :
                                           "inactive";
                if (c == 'i' || c == 'f')
                        left_us = now_us;
                change.left_us = left_us;
                change.checked_us = checked_us;
                change.ended_us = c == 'i' || c == 'f' || c == 'o' ? now_us : 0;
                systemd_trace_change(t, &change);
        }
}

static void the_signals_of_a_unit_decide_how_it_ended(void **state) {
        static const struct {
                const char *events;
                SystemdEnd end;
                bool undecided;
                uint64_t stopped_us;
        } rows[] = {
                { "", SYSTEMD_END_UNKNOWN },
                { "a", SYSTEMD_END_UNKNOWN },
                { "i", SYSTEMD_END_UNKNOWN }, /* not observed running */
                { "ai", SYSTEMD_END_ITSELF },
                { "af", SYSTEMD_END_FAILED },
                { "eo", SYSTEMD_END_ITSELF }, /* a oneshot */
                { "EO", SYSTEMD_END_ITSELF }, /* during its start, with its job */
                { "EDO", SYSTEMD_END_ITSELF },
                { "aieO", SYSTEMD_END_ITSELF }, /* with the time at which it left the active state before */
                { "aki", SYSTEMD_END_STOPPED },
                { "akf", SYSTEMD_END_FAILED },
                { "aI", SYSTEMD_END_STOPPED, true, 2 },
                { "aF", SYSTEMD_END_STOPPED, true, 2 },
                { "aDi", SYSTEMD_END_STOPPED, true, 3 },
                { "di", SYSTEMD_END_ITSELF },
                { "aDdi", SYSTEMD_END_STOPPED, true, 4 },
                { "aDai", SYSTEMD_END_ITSELF }, /* it continued */
                { "atDi", SYSTEMD_END_STOPPED_FOR, false, 4 },
                { "atjDi", SYSTEMD_END_STOPPED, true, 5 },
                { "atDiai", SYSTEMD_END_ITSELF, false, 4 },
                { "atDiaDi", SYSTEMD_END_STOPPED, true, 7 },
                { "ecO", SYSTEMD_END_STOPPED, true, 2 },
                { "eco", SYSTEMD_END_ITSELF },
                { "ecaO", SYSTEMD_END_ITSELF }, /* it became active in spite of that */
                { "eceO", SYSTEMD_END_STOPPED, true, 2 },
                { "ceO", SYSTEMD_END_ITSELF }, /* it had not begun */
                { "aso", SYSTEMD_END_SKIPPED },
                { "asf", SYSTEMD_END_SKIPPED },
                { "n", SYSTEMD_END_SKIPPED },
                { "y", SYSTEMD_END_UNKNOWN },
                { "sy", SYSTEMD_END_SKIPPED },
                { "yr", SYSTEMD_END_UNKNOWN }, /* the same check again */
                { "r", SYSTEMD_END_UNKNOWN },
                { "aiyn", SYSTEMD_END_SKIPPED },
                { "air", SYSTEMD_END_ITSELF },
                { "an", SYSTEMD_END_UNKNOWN }, /* it runs */
                { "ali", SYSTEMD_END_UNKNOWN },
                { "lai", SYSTEMD_END_ITSELF },
                { "aib", SYSTEMD_END_UNKNOWN },
                { "aDib", SYSTEMD_END_UNKNOWN, false, 3 },
                { "akbi", SYSTEMD_END_STOPPED }, /* while it runs the trace is kept */
                { "aibai", SYSTEMD_END_ITSELF },
                { "akibai", SYSTEMD_END_ITSELF },
                { "asibai", SYSTEMD_END_ITSELF },
                { "aIbai", SYSTEMD_END_ITSELF, false, 2 },
                { "ecOeO", SYSTEMD_END_ITSELF, false, 2 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                SystemdTrace t = {};

                play(&t, rows[i].events);
                if (t.end != rows[i].end || t.undecided != rows[i].undecided ||
                    t.stopped_us != rows[i].stopped_us)
                        fail_msg("%s: end %d, undecided %d, stopped at %d", rows[i].events, t.end,
                                 t.undecided, (int) t.stopped_us);
        }
}

static void the_causes_of_a_stop_are_kept_up_to_a_limit(void **state) {
        SystemdTrace t = {};
        char name[16];

        assert_true(systemd_trace_may_be_for(&t, "any.service"));
        for (unsigned i = 0; i < SYSTEMD_MOVERS; i++) {
                snprintf(name, sizeof(name), "u%u.service", i);
                systemd_trace_stopped_for(&t, name);
                assert_true(systemd_trace_may_be_for(&t, name));
                assert_true(systemd_trace_may_be_for(&t, "u0.service"));
                assert_false(systemd_trace_may_be_for(&t, "any.service"));
                assert_int_equal(t.end, SYSTEMD_END_STOPPED_FOR);
        }
        systemd_trace_begin(&t); /* it does not run yet */
        assert_false(systemd_trace_may_be_for(&t, "any.service"));
        for (unsigned i = 0; i < 3; i++) {
                systemd_trace_stopped_for(&t, "more.service");
                assert_int_equal(t.n_movers, SYSTEMD_MOVERS + 1);
                assert_true(systemd_trace_may_be_for(&t, "any.service"));
        }
        systemd_trace_running(&t, 0, false);
        assert_int_equal(t.n_movers, 0);
        systemd_trace_stopped_for(&t, "u0.service");
        systemd_trace_running(&t, 0, false); /* it runs still */
        assert_false(systemd_trace_may_be_for(&t, "any.service"));
}

static void the_latest_moves_are_kept(void **state) {
        SystemdMove *m = NULL;
        char name[24];

        assert_false(systemd_moves_have(m, "u0", 0, 0));
        for (unsigned i = 0; i < SYSTEMD_MOVES_MAX; i++) {
                snprintf(name, sizeof(name), "u%u", i);
                systemd_moves_add(&m, name, 100 + i, 0);
        }
        assert_true(systemd_moves_have(m, "u0", 100, 0));
        assert_false(systemd_moves_have(m, "u0", 101, 0));
        systemd_moves_add(&m, "u0", 1000000, 0); /* it is the latest now */
        assert_int_equal(HASH_COUNT(m), SYSTEMD_MOVES_MAX);
        systemd_moves_add(&m, "new", 1000001, 0);
        assert_int_equal(HASH_COUNT(m), SYSTEMD_MOVES_MAX);
        assert_true(systemd_moves_have(m, "u0", 1000000, 0));
        assert_true(systemd_moves_have(m, "new", 1000001, 0));
        assert_false(systemd_moves_have(m, "u1", 0, 0));
        assert_true(systemd_moves_have(m, "u2", 102, 0));
        systemd_moves_clear(&m);
        assert_null(m);
}

/* -- Drop-ins -- */

static void words_of_a_drop_in_are_quoted_for_systemd(void **state) {
        static const struct {
                const char *word, *expected;
        } cases[] = {
                { "FLEET_ADDRESS=10.0.0.2", "FLEET_ADDRESS=10.0.0.2" },
                { "A=2001:db8::1", "A=2001:db8::1" },
                { "", "\"\"" },
                { "A=b c", "\"A=b c\"" },
                { "A=50%", "\"A=50%%\"" },
                { "A=\"\\", "\"A=\\\"\\\\\"" },
                { "A=\n\x7f", "\"A=\\x0a\\x7f\"" },
                { "A=\xc3\xa9", "\"A=\xc3\xa9\"" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_text_ Text t = {};

                drop_in_append_word(&t, cases[i].word);
                assert_string_equal(t.chars, cases[i].expected);
        }
}

static void a_drop_in_with_equal_text_is_not_written_again(void **state) {
        Lab *lab = *state;
        _cleanup_free_ char *link = scratch_path(lab->links, "a.service"), *read = NULL,
                            *other = scratch_path(lab->links, "a.service.d/own.conf");
        char path[DROP_IN_PATH_SIZE];
        FileStamp first, second;

        assert_int_equal(drop_in_get(link, DROP_IN_PORTS, &read), -ENOENT);
        assert_int_equal(drop_in_put(link, DROP_IN_PORTS, NULL), 0);
        assert_int_equal(drop_in_put(link, DROP_IN_PORTS, ONE), 1);
        assert_int_equal(drop_in_path(link, DROP_IN_PORTS, path), 0);
        assert_int_equal(file_stamp_at(AT_FDCWD, path, &first), 0);
        assert_int_equal(drop_in_put(link, DROP_IN_PORTS, ONE), 0);
        assert_int_equal(file_stamp_at(AT_FDCWD, path, &second), 0);
        assert_memory_equal(&first, &second, sizeof(first));
        assert_int_equal(drop_in_put(link, DROP_IN_PORTS, TWO), 1);
        assert_int_equal(drop_in_get(link, DROP_IN_PORTS, &read), 0);
        assert_string_equal(read, TWO);
        assert_true(drop_in_has(link, 1U << DROP_IN_PORTS));
        assert_false(drop_in_has(link, 1U << DROP_IN_PORTS | 1U << DROP_IN_SINGLETON));

        scratch_write(other, ONE); /* of the administrator: the folder stays */
        assert_int_equal(drop_in_put(link, DROP_IN_PORTS, NULL), 1);
        assert_int_equal(access(other, F_OK), 0);
        assert_true(drop_in_has(link, 0));
}

static void drop_ins_without_the_file_of_their_unit_are_removed_at_the_start(void **state) {
        static const struct {
                const char *unit;
                bool file, quadlet, of_another, stays, unreadable;
        } cases[] = {
                { "a.service", .file = true, .stays = true },
                { "b.service" },
                { "c.container", .quadlet = true },
                { "d.container", .file = true, .quadlet = true, .stays = true },
                { "f.service", .file = true, .unreadable = true, .stays = true },
                { "e.service", .of_another = true, .stays = true },
        };
        Lab *lab = *state;
        _cleanup_free_ char *empty = scratch_path(lab->links, "host.service.d"); /* of others */

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *text = cases[i].quadlet ? "[Container]\nImage=a\n" : ONE;
                char link[RUNTIME_PATH_SIZE];

                runtime_dir_link(&lab->dir, cases[i].unit, link);
                assert_int_equal(starts_with(link, lab->quadlets), cases[i].quadlet);
                if (cases[i].unreadable)
                        text = "[Service]\nExecStart=/bin/a\n[X-Fleet]\nSingleton=mayb\n";
                if (cases[i].file)
                        assert_int_equal(write_file_at(lab->dir.fd, cases[i].unit, text, strlen(text), 0644),
                                         0);
                if (cases[i].of_another)
                        make_link(lab->links, cases[i].unit, "/run/another/units/e.service");
                assert_int_equal(drop_in_put(link, DROP_IN_PORTS, ONE), 1);
        }
        assert_int_equal(mkdir(empty, 0755), 0);
        runtime_dir_close(&lab->dir);
        assert_int_equal(runtime_dir_open(&lab->dir, lab->path, lab->quadlets, lab->links, NULL), 0);
        assert_int_equal(access(empty, F_OK), 0);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char link[RUNTIME_PATH_SIZE];

                runtime_dir_link(&lab->dir, cases[i].unit, link);
                assert_int_equal(drop_in_has(link, 1U << DROP_IN_PORTS), cases[i].stays);
        }
        assert_int_equal(runtime_dir_write(&lab->dir, "a.service", TWO, strlen(TWO)), 0);
        assert_int_equal(runtime_dir_remove(&lab->dir, "d.container"), 0);
        assert_int_equal(runtime_dir_write(&lab->dir, "f.service", TWO, strlen(TWO)), 0);
        for (size_t i = 0; i < ELEMENTS(cases) - 1; i++) { /* no text wants them */
                char link[RUNTIME_PATH_SIZE];

                assert_false(
                        drop_in_has(runtime_dir_link(&lab->dir, cases[i].unit, link), 1U << DROP_IN_PORTS));
        }
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(files_that_are_not_our_units_are_ignored_with_a_warning),
                T(a_text_is_staged_if_systemd_has_space_to_reload),
                T(a_staged_file_is_put_in_force_if_it_has_the_text),
                T(a_unit_is_removed_with_its_staged_file),
                T(an_entry_follows_the_content_of_its_file),
                T(a_folder_that_was_removed_is_made_again),
                T(a_link_for_the_generator_replaces_nothing),
                T(the_template_of_a_socket_is_linked_unless_the_host_has_one),
                T(a_fragment_is_ours_by_its_path_or_its_target),
                T(links_are_followed_from_name_to_name_up_to_a_limit),
                T(the_names_of_an_install_section_are_read_from_the_file),
                cmocka_unit_test(words_of_a_drop_in_are_quoted_for_systemd),
                T(a_drop_in_with_equal_text_is_not_written_again),
                T(drop_ins_without_the_file_of_their_unit_are_removed_at_the_start),
                cmocka_unit_test(the_signals_of_a_unit_decide_how_it_ended),
                cmocka_unit_test(the_causes_of_a_stop_are_kept_up_to_a_limit),
                cmocka_unit_test(the_latest_moves_are_kept),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("unit_dir", tests, NULL, NULL);
}
