/* The watched folder on a real disk, a real loop and a real store: files become units, and what people see
 * beside them. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/directory/directory.h"
#include "fleetd/directory/scan.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"
#include "units/name.h"

enum { QUIET_MS = 500 };

typedef struct Fixture {
        Host *host;
        char *folder, *records;
        Directory *directory;
} Fixture;

static void watch(Fixture *room) {
        DirectoryOptions options = { .path = room->folder,
                                     .record_dir = room->records,
                                     .machine_id = room->host->id };
        Error err = {};

        room->directory = directory_free(room->directory);
        if (directory_new(&room->directory, room->host->loop, room->host->registry, &options, &err) < 0)
                fail_msg("%s", err.message);
}

static int fixture_setup(void **state) {
        Fixture *room = NEW0(Fixture, 1);

        room->host = host_new(false);
        room->folder = scratch_path(room->host->scratch, "folder");
        room->records = scratch_path(room->host->scratch, "agent");
        assert_int_equal(mkdir(room->folder, 0755), 0);
        watch(room);
        *state = room;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *room = *state;

        directory_free(room->directory);
        host_free(room->host);
        free(room->folder);
        free(room->records);
        free(room);
        return 0;
}

/* -- Files and units -- */

static void write_unit(Fixture *room, const char *name, const char *text) {
        _cleanup_free_ char *path = scratch_path(room->folder, name);

        scratch_write(path, text);
}

static void remove_unit(Fixture *room, const char *name) {
        _cleanup_free_ char *path = scratch_path(room->folder, name);

        assert_int_equal(unlink(path), 0);
}

static bool file_says(const char *path, const char *part) {
        _cleanup_free_ char *text = NULL;

        return read_file_at(AT_FDCWD, path, 4096, &text, NULL) == 0 && strstr(text, part);
}

static bool says(Fixture *room, const char *name, const char *part) {
        _cleanup_free_ char *path = scratch_path(room->folder, name);

        return file_says(path, part);
}

static bool is_there(Fixture *room, const char *name) {
        _cleanup_free_ char *path = scratch_path(room->folder, name);

        return access(path, F_OK) == 0;
}

static const ClusterUnit *unit(Fixture *room, const char *name) {
        return cluster_unit(registry_cluster(room->host->registry), name);
}

static bool runs(Fixture *room, const char *name, const char *command) {
        const ClusterUnit *u = unit(room, name);

        return u && strstr(u->unit->text, command);
}

static const Problem *problem(Fixture *room, const char *name) {
        const ClusterProblem *p = cluster_problem(registry_cluster(room->host->registry), room->host->id,
                                                  name);

        return p ? &p->problem : NULL;
}

/* What fleetctl directory confirm and take-over write. */
static void confirm(Fixture *room, const char *name) {
        Problem said = *problem(room, name);

        said.confirmed = true;
        assert_int_equal(
                host_wait(room->host, registry_change_directory(room->host->registry, NULL, 0,
                                                                &(ProblemChange) { .machine = room->host->id,
                                                                                   .name = name,
                                                                                   .problem = &said },
                                                                1, host_on_done, room->host)),
                KV_OK);
}

#define ONE                     "[Service]\nExecStart=/bin/one\n"
#define TWO                     "[Service]\nExecStart=/bin/two\n"
#define UNTIL(room, expression) HOST_UNTIL((room)->host, expression)

static void a_name_of_any_length_becomes_a_unit_or_a_problem(void **state) {
        Fixture *room = *state;
        char name[UNIT_NAME_MAX + 1] = "";

        memset(name, 'n', UNIT_NAME_MAX);
        memcpy(name + UNIT_NAME_MAX - strlen(".service"), ".service", strlen(".service"));
        write_unit(room, name, ONE);
        UNTIL(room, unit(room, name));
        write_unit(room, name, "no section\n");
        UNTIL(room, problem(room, name));
        assert_true(runs(room, name, "/bin/one"));
        write_unit(room, name, TWO);
        UNTIL(room, runs(room, name, "/bin/two") && !problem(room, name));
}

static void a_dropped_file_becomes_a_unit_that_is_wanted(void **state) {
        Fixture *room = *state;

        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        assert_int_equal(unit(room, "web.service")->target, TARGET_LAUNCHED);
        assert_string_equal(unit(room, "web.service")->unit->owner, room->host->id);
        assert_non_null(strstr(unit(room, "web.service")->unit->path, "folder/web.service"));
        assert_false(is_there(room, "web.service.error"));
}

static void a_template_is_kept_but_not_started(void **state) {
        Fixture *room = *state;

        write_unit(room, "web@.service", ONE);
        UNTIL(room, unit(room, "web@.service"));
        assert_int_equal(unit(room, "web@.service")->target, TARGET_INACTIVE);
}

static void an_edit_is_an_update_that_keeps_what_people_want(void **state) {
        Fixture *room = *state;

        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        assert_int_equal(
                host_wait(room->host, registry_change_units(room->host->registry,
                                                            &(UnitChange) { .name = "web.service",
                                                                            .has_target = true,
                                                                            .target = TARGET_LOADED },
                                                            1, host_on_done, room->host)),
                KV_OK);
        write_unit(room, "web.service", TWO);
        UNTIL(room, runs(room, "web.service", "/bin/two"));
        assert_int_equal(unit(room, "web.service")->target, TARGET_LOADED);
}

static void a_removed_file_takes_its_unit_along(void **state) {
        Fixture *room = *state;

        write_unit(room, "web.service", ONE);
        write_unit(room, "job.service", TWO);
        UNTIL(room, unit(room, "web.service") && unit(room, "job.service"));
        remove_unit(room, "web.service");
        UNTIL(room, !unit(room, "web.service"));
        assert_non_null(unit(room, "job.service"));
}

static void a_broken_file_says_why_beside_it_and_changes_nothing(void **state) {
        Fixture *room = *state;

        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        write_unit(room, "web.service", "[Service]\nExecStart=/bin/one\nno option\n");
        UNTIL(room, is_there(room, "web.service.error"));
        assert_true(says(room, "web.service.error", "web.service: line 3: "));
        assert_true(says(room, "web.service.error", "The cluster still has the version of index "));
        assert_true(runs(room, "web.service", "/bin/one"));

        write_unit(room, "web.service", TWO);
        UNTIL(room, runs(room, "web.service", "/bin/two"));
        UNTIL(room, !is_there(room, "web.service.error"));
}

static void the_trace_of_a_broken_file_goes_with_it(void **state) {
        Fixture *room = *state;

        write_unit(room, "web.service", "nonsense");
        UNTIL(room, is_there(room, "web.service.error"));
        remove_unit(room, "web.service");
        UNTIL(room, !is_there(room, "web.service.error"));
        assert_null(unit(room, "web.service"));
}

static void what_is_no_plain_unit_file_is_not_taken(void **state) {
        _cleanup_free_ char *link = NULL, *folder = NULL;
        Fixture *room = *state;

        link = scratch_path(room->folder, "link.service");
        folder = scratch_path(room->folder, "folder.service");
        assert_int_equal(symlink("/etc/passwd", link), 0);
        assert_int_equal(mkdir(folder, 0755), 0);
        write_unit(room, ".hidden.service", ONE);
        write_unit(room, "web.service~", ONE);
        write_unit(room, "#web.service", ONE);
        write_unit(room, "README", ONE);
        write_unit(room, "last.service", ONE);
        UNTIL(room, unit(room, "last.service"));
        UNTIL(room, is_there(room, "link.service.error") && is_there(room, "folder.service.error"));
        assert_int_equal(HASH_COUNT(registry_cluster(room->host->registry)->units), 1);
        assert_true(says(room, "link.service.error", "a symbolic link; only plain files are read"));
}

static void somebody_elses_unit_is_kept_and_said(void **state) {
        Fixture *room = *state;

        host_unit(room->host, "web.service", ONE, TARGET_INACTIVE);
        write_unit(room, "web.service", TWO);
        UNTIL(room, is_there(room, "web.service.error"));
        assert_true(says(room, "web.service.error",
                         "the cluster has another unit of this name, submitted by fleetctl"));
        assert_true(runs(room, "web.service", "/bin/one"));
}

static void a_unit_destroyed_elsewhere_comes_back_from_its_file(void **state) {
        Fixture *room = *state;
        uint64_t index;

        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        index = unit(room, "web.service")->index;
        assert_int_equal(host_wait(room->host, registry_change_units(room->host->registry,
                                                                     &(UnitChange) { .name = "web.service",
                                                                                     .remove = true },
                                                                     1, host_on_done, room->host)),
                         KV_OK);
        UNTIL(room, unit(room, "web.service") && unit(room, "web.service")->index > index);
}

static void a_file_removed_while_the_daemon_was_away_takes_its_unit_along(void **state) {
        Fixture *room = *state;

        write_unit(room, "web.service", ONE);
        write_unit(room, "job.service", TWO);
        UNTIL(room, unit(room, "web.service") && unit(room, "job.service"));
        room->directory = directory_free(room->directory);
        remove_unit(room, "web.service");
        watch(room);
        UNTIL(room, !unit(room, "web.service"));
        assert_non_null(unit(room, "job.service"));
}

/* Else the unit would go again, when one of this name is submitted and the record is read by the next start.
 */
static void a_unit_that_was_removed_is_no_longer_on_the_record(void **state) {
        _cleanup_free_ char *record = NULL;
        Fixture *room = *state;

        record = scratch_path(room->records, "directory");
        write_unit(room, "web.service", ONE);
        write_unit(room, "job.service", TWO);
        UNTIL(room, unit(room, "web.service") && unit(room, "job.service"));
        assert_true(file_says(record, "\"web.service\"") && file_says(record, "\"job.service\""));
        remove_unit(room, "web.service");
        UNTIL(room, !file_says(record, "\"web.service\""));
        assert_null(unit(room, "web.service"));
        assert_true(file_says(record, "\"job.service\""));
}

static void another_folder_in_its_place_removes_nothing(void **state) {
        _cleanup_free_ char *aside = NULL;
        Fixture *room = *state;

        aside = scratch_path(room->host->scratch, "aside");
        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        assert_int_equal(rename(room->folder, aside), 0);
        assert_int_equal(mkdir(room->folder, 0755), 0);
        write_unit(room, "job.service", TWO);
        UNTIL(room, unit(room, "job.service"));
        host_pause(room->host, QUIET_MS);
        assert_non_null(unit(room, "web.service"));
}

static void many_files_that_vanish_at_once_are_not_believed(void **state) {
        static const char *const names[] = { "a.service", "b.service", "c.service", "d.service" };
        Fixture *room = *state;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                write_unit(room, names[i], ONE);
        UNTIL(room, HASH_COUNT(registry_cluster(room->host->registry)->units) == ELEMENTS(names));
        room->directory = directory_free(room->directory);
        for (size_t i = 0; i < 3; i++)
                remove_unit(room, names[i]);
        watch(room);
        write_unit(room, "e.service", ONE);
        UNTIL(room, unit(room, "e.service"));
        for (size_t i = 0; i < ELEMENTS(names); i++)
                assert_non_null(unit(room, names[i]));

        /* Two of them are back: the third stays held, until people say what they meant. */
        UNTIL(room, problem(room, "a.service") && problem(room, "b.service") && problem(room, "c.service"));
        assert_int_equal(problem(room, "c.service")->kind, PROBLEM_HELD);
        assert_non_null(strstr(problem(room, "c.service")->text, "c.service: its file is gone from "));
        write_unit(room, "a.service", ONE);
        write_unit(room, "b.service", ONE);
        UNTIL(room, !problem(room, "a.service") && !problem(room, "b.service"));
        assert_non_null(unit(room, "c.service"));
        confirm(room, "c.service");
        UNTIL(room, !unit(room, "c.service") && !problem(room, "c.service"));
        assert_non_null(unit(room, "a.service"));
}

static void another_folder_in_its_place_is_watched_and_what_it_lacks_is_held(void **state) {
        _cleanup_free_ char *aside = NULL;
        Fixture *room = *state;

        aside = scratch_path(room->host->scratch, "aside");
        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        assert_int_equal(rename(room->folder, aside), 0);
        assert_int_equal(mkdir(room->folder, 0755), 0);
        UNTIL(room, problem(room, "web.service"));
        assert_non_null(strstr(problem(room, "web.service")->text,
                               "which is another folder than the one it was seen in"));
        write_unit(room, "job.service", TWO);
        UNTIL(room, unit(room, "job.service"));

        assert_int_equal(remove_tree_at(AT_FDCWD, room->folder), 0);
        assert_int_equal(rename(aside, room->folder), 0);
        UNTIL(room, !problem(room, "web.service"));
        assert_non_null(unit(room, "web.service"));
}

static void a_name_that_is_taken_is_told_and_taken_over_when_people_say_so(void **state) {
        Fixture *room = *state;

        host_unit(room->host, "web.service", ONE, TARGET_LOADED);
        write_unit(room, "web.service", TWO);
        UNTIL(room, problem(room, "web.service"));
        assert_int_equal(problem(room, "web.service")->kind, PROBLEM_TAKEN);
        assert_int_equal(problem(room, "web.service")->unit_index, unit(room, "web.service")->index);
        confirm(room, "web.service");
        UNTIL(room, runs(room, "web.service", "/bin/two") && !problem(room, "web.service"));
        assert_string_equal(unit(room, "web.service")->unit->owner, room->host->id);
        assert_int_equal(unit(room, "web.service")->target, TARGET_LOADED);
        UNTIL(room, !is_there(room, "web.service.error"));
}

static void a_refused_file_is_told_to_the_cluster_until_it_is_mended(void **state) {
        Fixture *room = *state;

        write_unit(room, "web.service", "[Service]\nno option\n");
        UNTIL(room, problem(room, "web.service"));
        assert_int_equal(problem(room, "web.service")->kind, PROBLEM_REFUSED);
        assert_non_null(strstr(problem(room, "web.service")->text, "web.service: line 2: "));
        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service") && !problem(room, "web.service"));
}

static size_t problems(Fixture *room) {
        const ClusterMachine *m = cluster_machine(registry_cluster(room->host->registry), room->host->id);

        return m ? HASH_COUNT(m->problems) : 0;
}

static void the_cluster_is_told_of_so_many_problems_and_of_others_as_these_end(void **state) {
        enum { PROBLEMS_MAX = 1000, BEYOND = 3 };
        Fixture *room = *state;
        char name[32];

        room->directory = directory_free(room->directory);
        for (unsigned i = 0; i < PROBLEMS_MAX + BEYOND; i++) {
                snprintf(name, sizeof(name), "u%04u.service", i);
                write_unit(room, name, "[Service\n");
        }
        watch(room);
        for (size_t n = 50; n <= PROBLEMS_MAX; n += 50)
                UNTIL(room, problems(room) >= n);
        snprintf(name, sizeof(name), "u%04u.service.error", PROBLEMS_MAX + BEYOND - 1);
        UNTIL(room, is_there(room, name)); /* beside its file each is said */
        host_pause(room->host, QUIET_MS);
        assert_int_equal(problems(room), PROBLEMS_MAX);
        assert_non_null(problem(room, "u0999.service"));
        assert_null(problem(room, "u1000.service"));
        write_unit(room, "u0000.service", ONE);
        UNTIL(room, problem(room, "u1000.service") && !problem(room, "u0000.service"));
        host_pause(room->host, QUIET_MS);
        assert_int_equal(problems(room), PROBLEMS_MAX);
}

static void a_file_is_not_read_while_it_is_written(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *room = *state;
        FILE *file;

        write_unit(room, "first.service", ONE);
        UNTIL(room, unit(room, "first.service")); /* the folder is watched */
        path = scratch_path(room->folder, "web.service");
        file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs("[Service]\nExecStart=/bin/one --half", file) >= 0 && fflush(file) == 0);
        write_unit(room, "witness.service", ONE);
        UNTIL(room, unit(room, "witness.service"));
        host_pause(room->host, QUIET_MS);
        assert_null(unit(room, "web.service"));
        assert_true(fputs(" --whole\n", file) >= 0);
        assert_int_equal(fclose(file), 0);
        UNTIL(room, runs(room, "web.service", "--half --whole"));
        assert_false(is_there(room, "web.service.error"));
}

static void drop_ins_are_part_of_their_unit_and_watched(void **state) {
        _cleanup_free_ char *of_unit = NULL, *of_template = NULL;
        Fixture *room = *state;

        of_unit = scratch_path(room->folder, "web@1.service.d");
        of_template = scratch_path(room->folder, "web@.service.d");
        write_unit(room, "web@1.service", ONE);
        UNTIL(room, unit(room, "web@1.service"));
        assert_int_equal(mkdir(of_template, 0755), 0);
        write_unit(room, "web@.service.d/10.conf", "[Service]\nNice=1\n");
        UNTIL(room, runs(room, "web@1.service", "Nice=1"));
        assert_int_equal(mkdir(of_unit, 0755), 0);
        write_unit(room, "web@1.service.d/20.conf", "[Service]\nNice=2\n");
        UNTIL(room, runs(room, "web@1.service", "Nice=2"));
        host_pause(room->host, QUIET_MS); /* it is watched by now, and nothing else wakes */
        write_unit(room, "web@1.service.d/20.conf", "[Service]\nNice=3\n");
        UNTIL(room, runs(room, "web@1.service", "Nice=3"));
        assert_true(runs(room, "web@1.service", "# web@.service.d/10.conf\n"));

        write_unit(room, "web@1.service.d/20.conf", "Nice=4\n");
        UNTIL(room,
              says(room, "web@1.service.error",
                   "web@1.service: web@1.service.d/20.conf: line 1: an option before the first [section]"));
        assert_true(runs(room, "web@1.service", "Nice=3"));
        assert_int_equal(remove_tree_at(AT_FDCWD, of_unit), 0);
        UNTIL(room, !is_there(room, "web@1.service.error") && !runs(room, "web@1.service", "Nice=3"));
        assert_true(runs(room, "web@1.service", "Nice=1"));
}

static void a_drop_in_for_a_type_or_a_prefix_reaches_every_unit_of_it(void **state) {
        _cleanup_free_ char *of_type = NULL, *of_prefix = NULL;
        Fixture *room = *state;

        of_type = scratch_path(room->folder, "service.d");
        of_prefix = scratch_path(room->folder, "web-.service.d");
        write_unit(room, "web-a.service", ONE);
        write_unit(room, "web-b.service", ONE);
        write_unit(room, "db.service", ONE);
        UNTIL(room, unit(room, "web-a.service") && unit(room, "web-b.service") && unit(room, "db.service"));
        assert_int_equal(mkdir(of_type, 0755), 0);
        write_unit(room, "service.d/10.conf", "[Service]\nNice=1\n");
        UNTIL(room, runs(room, "web-a.service", "Nice=1") && runs(room, "web-b.service", "Nice=1") &&
                            runs(room, "db.service", "Nice=1"));
        assert_int_equal(mkdir(of_prefix, 0755), 0);
        write_unit(room, "web-.service.d/10.conf", "[Service]\nNice=2\n");
        UNTIL(room, runs(room, "web-a.service", "Nice=2") && runs(room, "web-b.service", "Nice=2"));
        assert_false(runs(room, "web-a.service", "Nice=1")); /* the special one of a name */
        assert_true(runs(room, "db.service", "Nice=1"));

        host_pause(room->host, QUIET_MS);
        write_unit(room, "service.d/10.conf", "Nice=4\n");
        UNTIL(room, says(room, "db.service.error",
                         "db.service: service.d/10.conf: line 1: an option before the first [section]"));
        assert_false(is_there(room, "web-a.service.error"));
        assert_int_equal(remove_tree_at(AT_FDCWD, of_type), 0);
        UNTIL(room, !is_there(room, "db.service.error") && !runs(room, "db.service", "Nice=1"));
}

/* An older version has stored it. */
static void a_file_beyond_a_limit_is_refused_unless_the_cluster_has_its_text(void **state) {
        _cleanup_text_ Text large = {}, other = {};
        _cleanup_unit_ Unit *stored = NULL;
        Fixture *room = *state;

        text_append(&large, ONE "[Install]\n");
        for (int i = 0; i < 257; i++)
                text_append(&large, "Also=b.service\n");
        text_append(&other, large.chars);
        text_append(&other, "# another one\n");
        assert_int_equal(unit_read("old.service", large.chars, large.size, &stored, NULL), 0);
        assert_int_equal(unit_set_owner(stored, room->host->id, "/etc/fleet/units/old.service"), 0);
        assert_int_equal(host_wait(room->host, registry_change_units(room->host->registry,
                                                                     &(UnitChange) { .unit = stored,
                                                                                     .only_if_absent = true },
                                                                     1, host_on_done, room->host)),
                         KV_OK);

        write_unit(room, "old.service", large.chars);
        write_unit(room, "new.service", large.chars);
        UNTIL(room, says(room, "new.service.error", "new.service: ") && problem(room, "new.service"));
        assert_false(is_there(room, "old.service.error"));
        assert_null(problem(room, "old.service"));
        assert_null(unit(room, "new.service"));

        write_unit(room, "old.service", other.chars);
        UNTIL(room, says(room, "old.service.error", "[Install] has more than 256 names") &&
                            problem(room, "old.service"));
        assert_string_equal(unit(room, "old.service")->unit->text, large.chars);
        write_unit(room, "old.service", large.chars);
        UNTIL(room, !is_there(room, "old.service.error") && !problem(room, "old.service"));
        write_unit(room, "new.service", TWO);
        UNTIL(room, runs(room, "new.service", "/bin/two") && !is_there(room, "new.service.error"));
        remove_unit(room, "old.service");
        UNTIL(room, !unit(room, "old.service"));
}

static void a_unit_whose_owner_left_is_adopted(void **state) {
        static const char other[] = "0123456789abcdef0123456789abcdef";
        _cleanup_unit_ Unit *theirs = NULL;
        Fixture *room = *state;

        assert_int_equal(unit_parse("web.service", ONE, strlen(ONE), &theirs, NULL), 0);
        assert_int_equal(unit_set_owner(theirs, other, "/etc/fleet/units/web.service"), 0);
        assert_int_equal(host_wait(room->host, registry_change_units(room->host->registry,
                                                                     &(UnitChange) { .unit = theirs,
                                                                                     .only_if_absent = true },
                                                                     1, host_on_done, room->host)),
                         KV_OK);
        write_unit(room, "web.service", ONE);
        UNTIL(room, streq(unit(room, "web.service")->unit->owner, room->host->id));
        remove_unit(room, "web.service");
        UNTIL(room, !unit(room, "web.service"));
}

static void a_folder_that_comes_later_is_watched_then(void **state) {
        Fixture *room = *state;

        room->directory = directory_free(room->directory);
        assert_int_equal(rmdir(room->folder), 0);
        watch(room);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(mkdir(room->folder, 0755), 0);
        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        write_unit(room, "web.service", TWO);
        UNTIL(room, runs(room, "web.service", "/bin/two"));
}

static void a_folder_that_is_never_quiet_is_looked_at_all_the_same(void **state) {
        Fixture *room = *state;

        write_unit(room, "first.service", ONE);
        UNTIL(room, unit(room, "first.service"));
        host_pause(room->host, QUIET_MS);
        write_unit(room, "web.service", ONE);
        HOST_UNTIL(room->host, (write_unit(room, "noise", "x"), unit(room, "web.service")));
}

static void a_broken_record_removes_nothing(void **state) {
        _cleanup_free_ char *record = NULL;
        Fixture *room = *state;

        record = scratch_path(room->records, "directory");
        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        room->directory = directory_free(room->directory);
        scratch_write(record, "{\"device\":1,\"names\":[\"web.serv");
        remove_unit(room, "web.service");
        write_unit(room, "job.service", TWO);
        watch(room);
        UNTIL(room, unit(room, "job.service"));
        host_pause(room->host, QUIET_MS);
        assert_non_null(unit(room, "web.service"));
}

/* -- Scanning in steps -- */

enum { MANY = 700, LATER_MS = 60000 /* no stamp is of just now any more */ };

static bool is_finished(void *userdata, const char *name) {
        return false;
}

static uint64_t wall_ms(void) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/* A scan of all of it; returns how many files were read, and how many steps it took. */
static size_t scan(Fixture *room, DirectoryFolder *folder, uint64_t now_ms, unsigned *ret_steps) {
        _cleanup_close_ int fd = open(room->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DirectoryScan s = { .path = room->folder,
                            .machine_id = room->host->id,
                            .is_unfinished = is_finished };
        size_t n_read;
        int r;

        assert_int_equal(directory_scan_begin(&s, fd), 0);
        *ret_steps = 0;
        do {
                ++*ret_steps;
                r = directory_scan_step(&s, folder, now_ms);
                if (s.work > 2000)
                        fail_msg("%zu in one step", s.work);
        } while (r > 0);
        assert_int_equal(r, 0);
        n_read = s.n_read;
        directory_scan_done(&s);
        return n_read;
}

static void a_scan_reads_what_has_changed_and_nothing_else(void **state) {
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        Fixture *room = *state;
        unsigned steps = 0;
        struct stat st;
        char name[32];

        room->directory = directory_free(room->directory);
        for (unsigned i = 0; i < MANY; i++) {
                snprintf(name, sizeof(name), "u%03u.service", i);
                write_unit(room, name, ONE);
        }
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), MANY);
        assert_true(steps > MANY * 20 / 1000);
        assert_int_equal(folder.n, MANY);
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 0);
        assert_true(steps < 5);
        assert_true(folder.complete && folder.files[7].unit);

        write_unit(room, "u007.service", "[Service]\nExecStart=/bin/another\n");
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_non_null(strstr(folder.files[7].unit->text, "another"));
        directory_folder_touch(&folder, "u008.service");
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 0);

        /* The same size, and time set back: only the time of the change itself tells. */
        _cleanup_free_ char *path = scratch_path(room->folder, "u009.service");

        assert_int_equal(stat(path, &st), 0);
        write_unit(room, "u009.service", TWO);
        assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]) { st.st_atim, st.st_mtim }, 0), 0);
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_non_null(strstr(folder.files[9].unit->text, "/bin/two"));

        /* What was changed just now may have been changed twice within one tick of the clock. */
        write_unit(room, "u010.service", TWO);
        assert_true(scan(room, &folder, wall_ms(), &steps) >= 1);
        assert_true(scan(room, &folder, wall_ms() + LATER_MS, &steps) >= 1);
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 0);

        /* A drop-in is part of the units that it concerns. */
        path = (free(path), scratch_path(room->folder, "u011.service.d"));
        assert_int_equal(mkdir(path, 0755), 0);
        write_unit(room, "u011.service.d/x.conf", "[Service]\nNice=7\n");
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_non_null(strstr(folder.files[11].unit->text, "Nice=7"));
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 0);
        write_unit(room, "u011.service.d/x.conf", "[Service]\nNice=8\n");
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 1);

        /* Why a unit may not be submitted is kept with it. */
        write_unit(room, "u012.service", "[X-Fleet]\nGlobal=true\nMachineOf=a.service\n");
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 0);
        assert_string_equal(folder.files[12].fault, "u012.service: Global cannot be used with Peers");
        assert_non_null(folder.files[12].unit);
        write_unit(room, "u012.service", TWO);
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_null(folder.files[12].fault);

        remove_unit(room, "u000.service");
        assert_int_equal(scan(room, &folder, wall_ms() + LATER_MS, &steps), 0);
        assert_int_equal(folder.n, MANY - 1);
        assert_null(directory_folder_find(&folder, "u000.service"));
}

static void a_change_elsewhere_in_the_cluster_does_not_read_the_folder(void **state) {
        Fixture *room = *state;
        uint64_t scans;

        write_unit(room, "web.service", ONE);
        UNTIL(room, unit(room, "web.service"));
        host_pause(room->host, QUIET_MS);
        scans = directory_counts(room->directory).scans;
        for (unsigned i = 0; i < 5; i++) {
                host_unit(room->host, "elsewhere.service", i % 2 ? ONE : TWO, TARGET_INACTIVE);
                host_pause(room->host, QUIET_MS / 2);
        }
        assert_int_equal(directory_counts(room->directory).scans, scans);

        /* One of its own is put right again, and that takes no scan, either. */
        assert_int_equal(host_wait(room->host, registry_change_units(room->host->registry,
                                                                     &(UnitChange) { .name = "web.service",
                                                                                     .remove = true },
                                                                     1, host_on_done, room->host)),
                         KV_OK);
        UNTIL(room, unit(room, "web.service"));
        assert_int_equal(directory_counts(room->directory).scans, scans);
}

/* Events are what makes it quick, after an hour as in the first second. */
static void a_second_burst_of_changes_is_taken_as_quickly_as_the_first(void **state) {
        Fixture *room = *state;
        uint64_t begin_ms;

        for (unsigned burst = 0; burst < 3; burst++) {
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", burst);
                begin_ms = loop_now_ms(room->host->loop);
                write_unit(room, name, ONE);
                UNTIL(room, unit(room, name));
                assert_true(loop_now_ms(room->host->loop) - begin_ms < 15000); /* the period is 30 s */
                host_pause(room->host, 1200);
        }
}

static unsigned notices;

static void count_notices(void *userdata, int priority, const LogFields *fields, const char *sentence) {
        if (priority == LOG_NOTICE && fields->unit && streq(fields->unit, "web.service") &&
            strstr(sentence, "is new"))
                notices++;
}

static void ignore_result(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

/* While the cluster rejects it nothing changes, however often it is tried. */
static void a_change_is_told_when_it_was_made_and_once(void **state) {
        const KvCommand in_the_way = { .op = KV_SET,
                                       .internal = true,
                                       .key = kv_string("/_fleet/unit/web.service/below"),
                                       .value = kv_string("1") };
        const KvCommand away = { .op = KV_DELETE,
                                 .internal = true,
                                 .recursive = true,
                                 .key = kv_string("/_fleet/unit/web.service") };
        Fixture *room = *state;

        notices = 0;
        log_set_sink(count_notices, NULL);
        assert_int_equal(kv_propose(room->host->store, &in_the_way, ignore_result, NULL, NULL), 0);
        host_pause(room->host, QUIET_MS);
        write_unit(room, "web.service", ONE);
        host_pause(room->host, 3000);
        assert_int_equal(notices, 0);
        assert_int_equal(kv_propose(room->host->store, &away, ignore_result, NULL, NULL), 0);
        UNTIL(room, unit(room, "web.service") && notices > 0);
        host_pause(room->host, QUIET_MS);
        assert_int_equal(notices, 1);
        log_set_sink(NULL, NULL);
}

int main(int argc, char *argv[]) {
#define in_a_room(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_a_room(a_name_of_any_length_becomes_a_unit_or_a_problem),
                in_a_room(a_dropped_file_becomes_a_unit_that_is_wanted),
                in_a_room(a_template_is_kept_but_not_started),
                in_a_room(an_edit_is_an_update_that_keeps_what_people_want),
                in_a_room(a_removed_file_takes_its_unit_along),
                in_a_room(a_broken_file_says_why_beside_it_and_changes_nothing),
                in_a_room(the_trace_of_a_broken_file_goes_with_it),
                in_a_room(what_is_no_plain_unit_file_is_not_taken),
                in_a_room(somebody_elses_unit_is_kept_and_said),
                in_a_room(a_unit_destroyed_elsewhere_comes_back_from_its_file),
                in_a_room(a_file_removed_while_the_daemon_was_away_takes_its_unit_along),
                in_a_room(a_unit_that_was_removed_is_no_longer_on_the_record),
                in_a_room(another_folder_in_its_place_removes_nothing),
                in_a_room(many_files_that_vanish_at_once_are_not_believed),
                in_a_room(another_folder_in_its_place_is_watched_and_what_it_lacks_is_held),
                in_a_room(a_name_that_is_taken_is_told_and_taken_over_when_people_say_so),
                in_a_room(a_refused_file_is_told_to_the_cluster_until_it_is_mended),
                in_a_room(the_cluster_is_told_of_so_many_problems_and_of_others_as_these_end),
                in_a_room(a_file_is_not_read_while_it_is_written),
                in_a_room(drop_ins_are_part_of_their_unit_and_watched),
                in_a_room(a_drop_in_for_a_type_or_a_prefix_reaches_every_unit_of_it),
                in_a_room(a_file_beyond_a_limit_is_refused_unless_the_cluster_has_its_text),
                in_a_room(a_unit_whose_owner_left_is_adopted),
                in_a_room(a_folder_that_comes_later_is_watched_then),
                in_a_room(a_folder_that_is_never_quiet_is_looked_at_all_the_same),
                in_a_room(a_broken_record_removes_nothing),
                in_a_room(a_scan_reads_what_has_changed_and_nothing_else),
                in_a_room(a_change_elsewhere_in_the_cluster_does_not_read_the_folder),
                in_a_room(a_second_burst_of_changes_is_taken_as_quickly_as_the_first),
                in_a_room(a_change_is_told_when_it_was_made_and_once),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
