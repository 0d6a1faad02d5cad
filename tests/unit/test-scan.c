/* The unit directory on disk: its files, NAME.error, and the record; without a loop or a store. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "fleetd/directory/seen_files.h"
#include "fleetd/directory/scan.h"
#include "tests/lib/scan_folder.h"
#include "tests/lib/scratch.h"

#define MACHINE "11111111111111111111111111111111"
#define ONE     "[Service]\nExecStart=/bin/one\n"

static int fdopendir_error; /* of the next call */

DIR *__real_fdopendir(int fd);
DIR *__wrap_fdopendir(int fd);

DIR *__wrap_fdopendir(int fd) {
        if (fdopendir_error == 0)
                return __real_fdopendir(fd);
        errno = fdopendir_error;
        fdopendir_error = 0;
        return NULL;
}

typedef struct Lab {
        char *path;
        int fd;
} Lab;

static unsigned warnings, notes;
static char last[600];

static void note_message(void *userdata, int priority, const LogFields *fields, const char *message) {
        warnings += priority == LOG_WARNING;
        notes += priority == LOG_INFO;
        snprintf(last, sizeof(last), "%s", message);
}

static int setup(void **state) {
        Lab *lab = NEW0(Lab, 1);

        lab->path = scratch_new();
        lab->fd = open(lab->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(lab->fd >= 0);
        warnings = notes = 0;
        log_set_sink(note_message, NULL);
        *state = lab;
        return 0;
}

static int teardown(void **state) {
        Lab *lab = *state;

        log_set_sink(NULL, NULL);
        close(lab->fd);
        scratch_free(lab->path);
        free(lab);
        return 0;
}

static void put(Lab *lab, const char *name, const char *text) {
        assert_int_equal(write_file_at(lab->fd, name, text, strlen(text), 0644), 0);
}

static bool is_written(void *userdata, const char *name) {
        return streq(name, "written.service");
}

static void look(Lab *lab, DirectoryFolder *ret) {
        directory_folder_done(ret);
        assert_int_equal(scan_folder(lab->fd, "/path", MACHINE, is_written, NULL, ret), 0);
}

static void each_file_is_a_unit_or_has_an_error(void **state) {
        static const struct {
                const char *name, *unit_or_error; /* a part of the text, or of the error */
                bool refused;
        } rows[] = {
                { "a.service", "/bin/one" },
                { "b.service", "b.service: larger than 128 KiB", true },
                { "c.servce", "c.servce: not a unit name: invalid unit type: \"servce\"", true },
                { "c.service", "#" },
                { "dbus.service", "dbus.service: systemd itself depends on a unit of that name", true },
                { "f.service", "f.service: not a plain file", true },
                { "l.service", "l.service: a symbolic link; only plain files are read", true },
                { "m y.service", "m y.service: not a unit name: invalid character ' ' in unit name", true },
                { "m.service", "m.service: m.service.d: too many drop-ins", true },
                { "n.service", "n.service: line 2: unable to find end of section (missing ])", true },
        };
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        _cleanup_text_ Text large = {};
        Lab *lab = *state;
        char name[64];

        put(lab, "a.service", ONE);
        put(lab, "dbus.service", ONE);
        put(lab, "n.service", "Nice=1\n[Service\n");
        put(lab, "m.service", ONE);
        put(lab, ".x.service", ONE);
        put(lab, "README", ONE);
        put(lab, "m y.service", ONE);
        put(lab, "c.servce", ONE);
        put(lab, "notes.text", ONE);
        put(lab, "m y.service~", ONE);
        put(lab, "m\xff.service", ONE);
        assert_int_equal(mkdirat(lab->fd, "d.servce", 0755), 0);
        put(lab, "#a.service", ONE);
        put(lab, "a.service~", ONE);
        put(lab, "a.service.error", "");
        put(lab, "gone.service.error", "");
        assert_int_equal(mkdirat(lab->fd, "f.service", 0755), 0);
        assert_int_equal(symlinkat("a.service", lab->fd, "l.service"), 0);
        assert_int_equal(mkdirat(lab->fd, "m.service.d", 0755), 0);
        for (unsigned i = 0; i <= DROP_INS_MAX; i++) {
                snprintf(name, sizeof(name), "m.service.d/%u.conf", i);
                put(lab, name, "[Service]\nNice=1\n");
        }
        while (large.size < UNIT_SIZE_MAX)
                text_append(&large, "#23456789012345\n");
        put(lab, "c.service", large.chars);
        text_append(&large, "#");
        put(lab, "b.service", large.chars);

        look(lab, &folder);
        assert_true(folder.complete);
        assert_int_equal(folder.n, ELEMENTS(rows));
        assert_int_equal(folder.n_drop_ins, 1);
        assert_int_equal(folder.errors.n, 2);
        for (size_t i = 0; i < folder.n; i++) {
                const DirectoryFile *f = &folder.files[i];

                assert_string_equal(f->name, rows[i].name);
                assert_ptr_equal(directory_folder_find(&folder, f->name), f);
                assert_int_equal(f->has_error, i == 0);
                assert_int_equal(f->unit == NULL, rows[i].refused);
                assert_int_equal(f->error != NULL, rows[i].refused);
                if (!strstr(f->error ?: f->unit->text, rows[i].unit_or_error))
                        fail_msg("%s: %s", f->name, f->error);
        }
        assert_string_equal(folder.files[0].unit->owner, MACHINE);
        assert_string_equal(folder.files[0].unit->path, "/path/a.service");
        assert_null(directory_folder_find(&folder, "gone.service"));
        assert_null(directory_folder_find(&(DirectoryFolder) {}, "a.service"));
        assert_int_equal(scan_folder(-1, "/path", MACHINE, is_written, NULL, &folder), -EBADF);
}

/* Return the lowest free descriptor: it is the same again after all later ones are closed. */
static int next_descriptor(void) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        close(fd);
        return fd;
}

/* In which order a directory is listed depends on the file system: some folders follow the last file. */
static void more_files_than_are_read_take_no_drop_ins_from_those_that_are(void **state) {
        enum { N_DROP_INS = 100 };
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        Lab *lab = *state;
        char name[64];

        put(lab, "u00000.service", ONE);
        for (unsigned i = 0; i <= DIRECTORY_FILES_MAX; i++) {
                snprintf(name, sizeof(name), "u%05u.service", i);
                if (i > 0)
                        assert_int_equal(linkat(lab->fd, "u00000.service", lab->fd, name, 0), 0);
                if (i >= N_DROP_INS)
                        continue;
                snprintf(name, sizeof(name), "u%05u.service.d", i);
                assert_int_equal(mkdirat(lab->fd, name, 0755), 0);
                snprintf(name, sizeof(name), "u%05u.service.d/1.conf", i);
                put(lab, name, "[Service]\nNice=7\n");
        }
        look(lab, &folder);
        assert_false(folder.complete);
        assert_int_equal(folder.n, DIRECTORY_FILES_MAX);
        assert_int_equal(folder.n_drop_ins, N_DROP_INS);
        for (unsigned i = 0; i < N_DROP_INS; i++) {
                snprintf(name, sizeof(name), "u%05u.service", i);
                const DirectoryFile *f = directory_folder_find(&folder, name);

                assert_true(!f || strstr(f->unit->text, "Nice=7"));
        }
}

/* As one on a file system that is not mounted; a folder that was removed is none. */
static void a_folder_of_drop_ins_that_is_a_link_to_nothing_is_an_error(void **state) {
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        Lab *lab = *state;

        put(lab, "web.service", ONE);
        assert_int_equal(mkdirat(lab->fd, "there", 0755), 0);
        put(lab, "there/1.conf", "[Service]\nNice=7\n");
        assert_int_equal(symlinkat("there", lab->fd, "web.service.d"), 0);
        look(lab, &folder);
        assert_non_null(strstr(directory_folder_find(&folder, "web.service")->unit->text, "Nice=7"));
        assert_int_equal(renameat(lab->fd, "there", lab->fd, "away"), 0);
        look(lab, &folder);
        assert_string_equal(directory_folder_find(&folder, "web.service")->error,
                            "web.service: web.service.d: No such file or directory");
        assert_int_equal(unlinkat(lab->fd, "web.service.d", 0), 0);
        look(lab, &folder);
        assert_null(strstr(directory_folder_find(&folder, "web.service")->unit->text, "Nice=7"));
}

static void a_directory_that_cannot_be_listed_leaves_nothing_open(void **state) {
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        int before = next_descriptor();
        Lab *lab = *state;

        put(lab, "a.service", ONE);
        fdopendir_error = ENOMEM;
        assert_int_equal(scan_folder(lab->fd, "/path", MACHINE, is_written, NULL, &folder), -ENOMEM);
        assert_int_equal(fdopendir_error, 0);
        assert_int_equal(scan_folder(-1, "/path", MACHINE, is_written, NULL, &folder), -EBADF);
        assert_int_equal(next_descriptor(), before);
        assert_int_equal(folder.n, 0);
        look(lab, &folder);
        assert_int_equal(folder.n, 1);
        assert_int_equal(next_descriptor(), before);
}

static void only_files_with_names_of_units_are_read(void **state) {
        static const struct {
                const char *name;
                bool unit;
        } rows[] = {
                { "a.service", true },   { "a@.service", true },  { "", false },
                { ".a.service", false }, { "#a.service", false }, { "a.service~", false },
                { "a", false },          { "a.txt", false },      { "a.service.d", false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_int_equal(directory_folder_name_is_unit(rows[i].name), rows[i].unit);
}

static void a_file_that_is_being_written_is_not_read(void **state) {
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        Lab *lab = *state;

        put(lab, "written.service", ONE);
        look(lab, &folder);
        assert_int_equal(folder.n, 1);
        assert_true(folder.files[0].unfinished);
        assert_null(folder.files[0].unit);
        assert_null(folder.files[0].error);
        assert_false(directory_folder_write_error(lab->fd, "/path", &folder.files[0], 0, false));
}

static size_t scan(Lab *lab, DirectoryFolder *folder) {
        DirectoryScan s = { .path = lab->path, .machine_id = MACHINE, .is_unfinished = is_written };
        size_t n;
        int r;

        assert_int_equal(directory_scan_begin(&s, lab->fd), 0);
        do
                r = directory_scan_step(&s, folder,
                                        UINT64_MAX / 2); /* far in the future: no change is recent */
        while (r > 0);
        assert_int_equal(r, 0);
        n = s.n_read;
        directory_scan_done(&s);
        return n;
}

static void a_touched_file_is_read_again_and_once(void **state) {
        static const struct {
                const char *touched;
                size_t n;
        } rows[] = { { "a.service", 1 }, { "none.service", 0 }, { NULL, 3 } };
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        Lab *lab = *state;

        put(lab, "a.service", ONE);
        put(lab, "b.service", "[Service\n");
        put(lab, "c.service", "[Service]\n[X-Fleet]\nGlobal=true\nMachineOf=a.service\n");
        assert_int_equal(scan(lab, &folder), 3);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                directory_folder_touch(&folder, rows[i].touched);
                assert_int_equal(scan(lab, &folder), rows[i].n);
                assert_int_equal(scan(lab, &folder), 0);
                assert_non_null(folder.files[0].unit);
                assert_non_null(folder.files[1].error);
                assert_int_equal(folder.files[1].kind, PROBLEM_REFUSED);
                assert_non_null(folder.files[2].fault);
        }
}

/* An older host of the cluster would ignore the option, and run the unit without it. */
static void a_file_with_an_option_above_the_level_of_the_cluster_is_rejected(void **state) {
        static const struct {
                const char *option;
                unsigned level;
                const char *error;
        } rows[] = {
                { "Singleton=yes", KV_LEVEL_ATTACHED,
                  "a.service: Singleton=yes begins at feature level 6, and this cluster has level 5; when "
                  "all hosts run "
                  "this version: fleetctl cluster level 6" },
                { "ReplaceAfterSec=1min", KV_LEVEL_REVISIONS,
                  "a.service: ReplaceAfterSec= begins at feature level 8, and this cluster has level 7; when "
                  "all hosts "
                  "run "
                  "this version: fleetctl cluster level 8" },
                { "OnPartition=stop", KV_LEVEL_REVISIONS,
                  "a.service: OnPartition=stop begins at feature level 8, and this cluster has level 7; when "
                  "all hosts "
                  "run "
                  "this version: fleetctl cluster level 8" },
                { "Canary=1", KV_LEVEL_UPDATES,
                  "a.service: Canary= begins at feature level 9, and this cluster has level 8; when all "
                  "hosts "
                  "run this version: fleetctl cluster level 9" },
                { "HealthTcp=80", KV_LEVEL_UPDATES,
                  "a.service: HealthTcp= begins at feature level 9, and this cluster has level 8; when all "
                  "hosts "
                  "run this version: fleetctl cluster level 9" },
                { "Port=http:80", OPTION_LEVEL_SERVICES,
                  "a.service: Port= begins at feature level 11, and this cluster has level 10; when all "
                  "hosts run this version: fleetctl cluster level 11" },
                { "WithdrawSec=1", OPTION_LEVEL_SERVICES,
                  "a.service: WithdrawSec= begins at feature level 11, and this cluster has level 10; when "
                  "all hosts run this version: fleetctl cluster level 11" },
                { "Sticky=no", OPTION_LEVEL_SCHEDULING,
                  "a.service: Sticky= begins at feature level 12, and this cluster has level 11; when all "
                  "hosts run this version: fleetctl cluster level 12" },
                { "MemoryRequest=0", OPTION_LEVEL_SCHEDULING,
                  "a.service: MemoryRequest= begins at feature level 12, and this cluster has level 11; when "
                  "all hosts run this version: fleetctl cluster level 12" },
                { "Secret=db", OPTION_LEVEL_INPUTS,
                  "a.service: Secret= begins at feature level 13, and this cluster has level 12; when all "
                  "hosts run this version: fleetctl cluster level 13" },
                { "OnChange=none", OPTION_LEVEL_INPUTS,
                  "a.service: OnChange= begins at feature level 13, and this cluster has level 12; when all "
                  "hosts run this version: fleetctl cluster level 13" },
                { "RestartTrigger=1", KV_LEVEL_UPDATES,
                  "a.service: RestartTrigger= begins at feature level 9, and this cluster has level 8; when "
                  "all hosts "
                  "run this version: fleetctl cluster level 9" },
        };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_directory_folder_ DirectoryFolder folder = {};
                char text[128];

                snprintf(text, sizeof(text), ONE "[X-Fleet]\n%s\n", rows[i].option);
                put(lab, "a.service", text);
                scan_level = rows[i].level - 1;
                look(lab, &folder);
                assert_null(folder.files[0].unit);
                assert_string_equal(folder.files[0].error, rows[i].error);
                scan_level = rows[i].level;
                look(lab, &folder);
                assert_non_null(folder.files[0].unit);
                scan_level = 0; /* not known yet */
                look(lab, &folder);
                assert_non_null(folder.files[0].unit);
        }
}

static void the_error_of_a_file_without_a_unit_name_says_that_it_is_renamed(void **state) {
        static const struct {
                const char *name, *step;
        } rows[] = {
                { "foo.servce", "Rename /path/foo.servce, for example to foo.service.\n" },
                { "a.b@1.tiemr", "Rename /path/a.b@1.tiemr, for example to a.b@1.timer.\n" },
                { "m y.service", "Rename /path/m y.service.\n" },
        };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                DirectoryFile f = { .error = (char[]) { "why" } };
                char name[64], text[128];

                snprintf(f.name, sizeof(f.name), "%s", rows[i].name);
                snprintf(name, sizeof(name), "%s.error", rows[i].name);
                snprintf(text, sizeof(text), "why\n%s", rows[i].step);
                assert_true(directory_folder_write_error(lab->fd, "/path", &f, 0, false));
                assert_true(file_holds_at(lab->fd, name, text, strlen(text)));
        }
}

static void the_error_of_a_paused_rollout_names_no_other_version(void **state) {
        static const char text[] = "a.service: the rollout of revision 2 is paused\n";
        DirectoryFile f = { .name = "a.service",
                            .kind = PROBLEM_PAUSED,
                            .error = (char[]) { "a.service: the rollout of revision 2 is paused" } };
        Lab *lab = *state;

        assert_true(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
        assert_true(file_holds_at(lab->fd, "a.service.error", text, strlen(text)));
        assert_string_equal(last, "/path/a.service: a.service: the rollout of revision 2 is paused");
}

/* The text in the cluster is a former one of the file only if the unit is that of the file. */
static void the_error_is_logged_with_the_kind_of_the_problem(void **state) {
#define KEPT "The cluster still has the previous text: fleetctl cat a.service\n"
        static const struct {
                ProblemKind kind;
                const char *file, *logged;
        } rows[] = {
                { PROBLEM_TAKEN, "a.service: why\n", "/path/a.service is taken: a.service: why" },
                { PROBLEM_REVERTED, "a.service: why\n" KEPT, "/path/a.service is reverted: a.service: why" },
                { PROBLEM_WARNED, "a.service: why\n", "/path/a.service: a.service: why" },
        };
        Lab *lab = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                DirectoryFile f = { .name = "a.service",
                                    .kind = rows[i].kind,
                                    .error = (char[]) { "a.service: why" } };

                (void) unlinkat(lab->fd, "a.service.error", 0);
                assert_true(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
                assert_true(file_holds_at(lab->fd, "a.service.error", rows[i].file, strlen(rows[i].file)));
                assert_string_equal(last, rows[i].logged);
        }
#undef KEPT
}

static void an_error_file_is_written_once_and_removed_when_the_file_is_correct(void **state) {
#define WHY      "a.service: why\nCorrect /path/a.service; it is read again when it is saved.\n"
#define PREVIOUS "The cluster still has the previous text: fleetctl cat a.service\n"
        DirectoryFile f = { .name = "a.service", .error = (char[]) { "a.service: why" } };
        Lab *lab = *state;

        assert_true(directory_folder_write_error(lab->fd, "/path", &f, 0, false));
        assert_true(file_holds_at(lab->fd, "a.service.error", WHY, strlen(WHY)));
        assert_true(f.has_error);
        assert_int_equal(warnings, 1);
        assert_string_equal(last, "/path/a.service is refused: a.service: why");
        assert_false(directory_folder_write_error(lab->fd, "/path", &f, 0, false));
        assert_true(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
        assert_true(file_holds_at(lab->fd, "a.service.error", WHY PREVIOUS, strlen(WHY PREVIOUS)));
        assert_int_equal(warnings, 2);

        /* A daemon that has just started finds the file, and logs nothing. */
        f.error_sum = 0;
        assert_true(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
        assert_false(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
        assert_int_equal(warnings, 2);
        f.has_error = false; /* removed by an operator */
        assert_int_equal(unlinkat(lab->fd, "a.service.error", 0), 0);
        assert_true(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
        assert_int_equal(warnings, 3);

        f.error = NULL;
        assert_true(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
        assert_string_equal(last, "/path/a.service is in order again");
        assert_int_equal(notes, 1);
        assert_int_equal(faccessat(lab->fd, "a.service.error", F_OK, 0), -1);
        assert_false(f.has_error || f.error_sum != 0);
        assert_false(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
        f.has_error = true; /* removed already */
        assert_true(directory_folder_write_error(lab->fd, "/path", &f, 7, false));
        assert_int_equal(notes, 1);

        put(lab, "b.service.error", "");
        directory_folder_remove_error(lab->fd, "b.service");
        assert_int_equal(faccessat(lab->fd, "b.service.error", F_OK, 0), -1);
}

static void an_error_file_that_cannot_be_written_is_tried_again(void **state) {
        DirectoryFile f = { .name = "a.service", .error = (char[]) { "why" } };
        Lab *lab = *state;

        assert_int_equal(mkdirat(lab->fd, "a.service.error", 0755), 0);
        for (unsigned i = 1; i <= 2; i++) {
                assert_true(directory_folder_write_error(lab->fd, "/path", &f, 0, false));
                assert_string_equal(last, "Failed to write /path/a.service.error: Is a directory");
                assert_int_equal(warnings, 2 * i);
                assert_false(f.has_error);
                assert_int_equal(f.error_sum, 0);
        }
}

static void an_error_of_a_file_with_too_long_a_name_is_logged_only(void **state) {
        DirectoryFile f = { .error = (char[]) { "why" } };
        Lab *lab = *state;

        memset(f.name, 'n', NAME_MAX - strlen(".error") + 1);
        assert_false(directory_folder_write_error(lab->fd, "/path", &f, 0,
                                                  true)); /* the problem is published already */
        assert_int_equal(warnings, 0);
        f.error_sum = 0;
        assert_false(directory_folder_write_error(lab->fd, "/path", &f, 0, false));
        assert_false(directory_folder_write_error(lab->fd, "/path", &f, 0, false));
        assert_int_equal(warnings, 1);
        assert_non_null(strstr(last, "its name is too long for a file NAME.error"));
        f.error = (char[]) { "another" };
        assert_false(directory_folder_write_error(lab->fd, "/path", &f, 0, false));
        assert_int_equal(warnings, 2);

        f = (DirectoryFile) { .error = (char[]) { "why" } }; /* the longest name that fits */
        memset(f.name, 'n', NAME_MAX - strlen(".error"));
        assert_true(directory_folder_write_error(lab->fd, "/path", &f, 0, false));
        assert_true(f.has_error);
}

static void a_record_is_read_back_and_contains_names_of_units_only(void **state) {
        static const char *const broken[] = { "", "{", "{\"device\":\"1\"}", "{\"device\":1,\"inode\":-1}" };
        static const char json[] = "{\"device\":1,\"inode\":2,\"names\":[\"a.service\",7,\"../"
                                   "b.service\",\"a.service\",\"c.timer\"]}";
        Named *table = NULL;
        SeenFile *seen;
        uint64_t device = 8, inode = 9;
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < ELEMENTS(broken); i++)
                assert_int_equal(seen_files_read(broken[i], strlen(broken[i]), &device, &inode, &table),
                                 -EBADMSG);
        assert_null(table);
        assert_int_equal(device * 10 + inode, 89);
        assert_int_equal(seen_files_read(json, strlen(json), &device, &inode, &table), 0);
        assert_int_equal(device * 10 + inode, 12);
        assert_int_equal(HASH_COUNT(table), 2);
        seen_files_write(&t, device, inode, table);
        assert_string_equal(t.chars, "{\"device\":1,\"inode\":2,\"names\":[\"a.service\",\"c.timer\"]}");

        seen = named_find(table, "c.timer");
        assert_true(seen->there);
        seen->there = false;
        assert_false(seen_files_add(&table, "c.timer"));
        assert_true(seen->there);
        assert_true(seen_files_add(&table, "d.timer"));
        named_clear(&table);
        assert_null(table);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(each_file_is_a_unit_or_has_an_error),
                T(more_files_than_are_read_take_no_drop_ins_from_those_that_are),
                T(a_folder_of_drop_ins_that_is_a_link_to_nothing_is_an_error),
                T(a_directory_that_cannot_be_listed_leaves_nothing_open),
                T(only_files_with_names_of_units_are_read),
                T(a_file_that_is_being_written_is_not_read),
                T(a_touched_file_is_read_again_and_once),
                T(a_file_with_an_option_above_the_level_of_the_cluster_is_rejected),
                T(the_error_of_a_file_without_a_unit_name_says_that_it_is_renamed),
                T(the_error_of_a_paused_rollout_names_no_other_version),
                T(the_error_is_logged_with_the_kind_of_the_problem),
                T(an_error_file_is_written_once_and_removed_when_the_file_is_correct),
                T(an_error_file_that_cannot_be_written_is_tried_again),
                T(an_error_of_a_file_with_too_long_a_name_is_logged_only),
                T(a_record_is_read_back_and_contains_names_of_units_only),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("unit_folder", tests, NULL, NULL);
}
