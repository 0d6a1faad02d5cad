/* The unit directory on a real disk, loop and store: files become units, or get NAME.error. */
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/lib/test.h"
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

static void watch(Fixture *fixture) {
        Error err = {};

        fixture->directory = directory_free(fixture->directory);
        fixture->host->settings.unit_directory = fixture->folder;
        if (directory_new(&fixture->directory, &fixture->host->components, &err) < 0)
                fail_msg("%s", err.message);
}

static int fixture_setup(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);

        fixture->host = host_new(false);
        fixture->folder = scratch_path(fixture->host->scratch, "folder");
        fixture->records = scratch_path(fixture->host->scratch, "agent");
        assert_int_equal(mkdir(fixture->folder, 0755), 0);
        watch(fixture);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        directory_free(fixture->directory);
        host_free(fixture->host);
        free(fixture->folder);
        free(fixture->records);
        free(fixture);
        return 0;
}

/* -- Files and units -- */

static void write_unit(Fixture *fixture, const char *name, const char *text) {
        _cleanup_free_ char *path = scratch_path(fixture->folder, name);

        scratch_write(path, text);
}

static void remove_unit(Fixture *fixture, const char *name) {
        _cleanup_free_ char *path = scratch_path(fixture->folder, name);

        assert_int_equal(unlink(path), 0);
}

static bool file_says(const char *path, const char *part) {
        _cleanup_free_ char *text = NULL;

        return read_file_at(AT_FDCWD, path, 4096, &text, NULL) == 0 && strstr(text, part);
}

static bool says(Fixture *fixture, const char *name, const char *part) {
        _cleanup_free_ char *path = scratch_path(fixture->folder, name);

        return file_says(path, part);
}

static bool is_there(Fixture *fixture, const char *name) {
        _cleanup_free_ char *path = scratch_path(fixture->folder, name);

        return access(path, F_OK) == 0;
}

static const ClusterUnit *unit(Fixture *fixture, const char *name) {
        return cluster_unit(registry_cluster(fixture->host->registry), name);
}

static bool runs(Fixture *fixture, const char *name, const char *command) {
        const ClusterUnit *u = unit(fixture, name);

        return u && strstr(u->unit->text, command);
}

static const Problem *problem(Fixture *fixture, const char *name) {
        const ClusterProblem *p = cluster_problem(registry_cluster(fixture->host->registry),
                                                  fixture->host->id, name);

        return p ? &p->problem : NULL;
}

/* The write of fleetctl directory confirm and take-over. */
/* After the last change of the text: until its host has a name, that has the ID. */
static void confirm(Fixture *fixture, const char *name) {
        Problem said;

        HOST_UNTIL(fixture->host, !strstr(problem(fixture, name)->text, fixture->host->id));
        said = *problem(fixture, name);
        said.confirmed = true;
        assert_int_equal(host_wait(fixture->host,
                                   registry_change_directory(fixture->host->registry, NULL, 0,
                                                             &(ProblemChange) { .machine = fixture->host->id,
                                                                                .name = name,
                                                                                .problem = &said },
                                                             1, host_on_done, fixture->host)),
                         KV_OK);
}

#define ONE                        "[Service]\nExecStart=/bin/one\n"
#define TWO                        "[Service]\nExecStart=/bin/two\n"
#define LOADED                     "[X-Fleet]\nTargetState=loaded\n"
#define UNTIL(fixture, expression) HOST_UNTIL((fixture)->host, expression)

static void a_name_of_any_length_becomes_a_unit_or_a_problem(void **state) {
        Fixture *fixture = *state;
        char name[UNIT_NAME_MAX + 1] = "";

        memset(name, 'n', UNIT_NAME_MAX);
        memcpy(name + UNIT_NAME_MAX - strlen(".service"), ".service", strlen(".service"));
        write_unit(fixture, name, ONE);
        UNTIL(fixture, unit(fixture, name));
        write_unit(fixture, name, "no section\n");
        UNTIL(fixture, problem(fixture, name));
        assert_true(runs(fixture, name, "/bin/one"));
        write_unit(fixture, name, TWO);
        UNTIL(fixture, runs(fixture, name, "/bin/two") && !problem(fixture, name));
}

static void a_new_file_becomes_a_launched_unit(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        assert_int_equal(unit(fixture, "web.service")->target, TARGET_LAUNCHED);
        assert_string_equal(unit(fixture, "web.service")->unit->owner, fixture->host->id);
        assert_non_null(strstr(unit(fixture, "web.service")->unit->path, "folder/web.service"));
        assert_false(is_there(fixture, "web.service.error"));
}

static void a_file_states_its_target_state_and_a_template_that_of_its_replicas(void **state) {
        static const struct {
                const char *name, *text;
                TargetState target;
        } cases[] = {
                { "job.service", ONE LOADED, TARGET_LOADED },
                { "job.container", "[Container]\nImage=a\n" LOADED, TARGET_LOADED },
                { "run.service", ONE "[X-Fleet]\nTargetState=launched\n", TARGET_LAUNCHED },
                { "web@.service", ONE, TARGET_INACTIVE },
                { "job@.service", ONE LOADED, TARGET_INACTIVE },
                { "job@1.service", ONE LOADED, TARGET_LOADED },
                { "set@.service", ONE "[X-Fleet]\nReplicas=2\n", TARGET_LAUNCHED },
                { "idle@.service", ONE "[X-Fleet]\nReplicas=2\nTargetState=loaded\n", TARGET_LOADED },
        };
        Fixture *fixture = *state;

        host_raise(fixture->host, KV_LEVEL_SCHEDULING);
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                write_unit(fixture, cases[i].name, cases[i].text);
                UNTIL(fixture, unit(fixture, cases[i].name));
                assert_int_equal(unit(fixture, cases[i].name)->target, cases[i].target);
        }
        /* An edit makes it a set. */
        write_unit(fixture, "web@.service", ONE "[X-Fleet]\nReplicas=2\n");
        UNTIL(fixture, unit(fixture, "web@.service")->target == TARGET_LAUNCHED);
}

static void an_edit_is_an_update_that_keeps_the_target_state_unless_it_changes_that(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        assert_int_equal(
                host_wait(fixture->host, registry_change_units(fixture->host->registry,
                                                               &(UnitChange) { .name = "web.service",
                                                                               .has_target = true,
                                                                               .target = TARGET_LOADED },
                                                               1, host_on_done, fixture->host)),
                KV_OK);
        write_unit(fixture, "web.service", TWO);
        UNTIL(fixture, runs(fixture, "web.service", "/bin/two"));
        assert_int_equal(unit(fixture, "web.service")->target, TARGET_LOADED);

        /* Its own line is an edit of the target state; the absence of one means "launched". */
        write_unit(fixture, "web.service", ONE "[X-Fleet]\nTargetState=launched\n");
        UNTIL(fixture, runs(fixture, "web.service", "/bin/one"));
        assert_int_equal(unit(fixture, "web.service")->target, TARGET_LAUNCHED);
        write_unit(fixture, "web.service", TWO LOADED);
        UNTIL(fixture, runs(fixture, "web.service", "/bin/two"));
        assert_int_equal(unit(fixture, "web.service")->target, TARGET_LOADED);
        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, runs(fixture, "web.service", "/bin/one"));
        assert_int_equal(unit(fixture, "web.service")->target, TARGET_LAUNCHED);
}

static void a_removed_file_removes_its_unit(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "web.service", ONE);
        write_unit(fixture, "job.service", TWO);
        UNTIL(fixture, unit(fixture, "web.service") && unit(fixture, "job.service"));
        remove_unit(fixture, "web.service");
        UNTIL(fixture, !unit(fixture, "web.service"));
        assert_non_null(unit(fixture, "job.service"));
}

static void a_broken_file_gets_an_error_file_and_changes_nothing(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        write_unit(fixture, "web.service", "[Service]\nExecStart=/bin/one\nno option\n");
        UNTIL(fixture, is_there(fixture, "web.service.error"));
        assert_true(says(fixture, "web.service.error", "web.service: line 3: "));
        assert_true(says(fixture, "web.service.error",
                         "The cluster still has the previous text: fleetctl cat web.service\n"));
        assert_true(runs(fixture, "web.service", "/bin/one"));

        write_unit(fixture, "web.service", TWO);
        UNTIL(fixture, runs(fixture, "web.service", "/bin/two"));
        UNTIL(fixture, !is_there(fixture, "web.service.error"));
}

static void the_error_file_is_removed_with_the_broken_file(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "web.service", "nonsense");
        UNTIL(fixture, is_there(fixture, "web.service.error"));
        remove_unit(fixture, "web.service");
        UNTIL(fixture, !is_there(fixture, "web.service.error"));
        assert_null(unit(fixture, "web.service"));
}

static void only_plain_unit_files_are_read(void **state) {
        _cleanup_free_ char *link = NULL, *folder = NULL;
        Fixture *fixture = *state;

        link = scratch_path(fixture->folder, "link.service");
        folder = scratch_path(fixture->folder, "folder.service");
        assert_int_equal(symlink("/etc/passwd", link), 0);
        assert_int_equal(mkdir(folder, 0755), 0);
        write_unit(fixture, ".hidden.service", ONE);
        write_unit(fixture, "web.service~", ONE);
        write_unit(fixture, "#web.service", ONE);
        write_unit(fixture, "README", ONE);
        write_unit(fixture, "last.service", ONE);
        UNTIL(fixture, unit(fixture, "last.service"));
        UNTIL(fixture, is_there(fixture, "link.service.error") && is_there(fixture, "folder.service.error"));
        assert_int_equal(HASH_COUNT(registry_cluster(fixture->host->registry)->units), 1);
        assert_true(says(fixture, "link.service.error", "a symbolic link; only plain files are read"));
}

static void the_unit_of_another_owner_is_kept_and_reported(void **state) {
        Fixture *fixture = *state;

        host_unit(fixture->host, "web.service", ONE, TARGET_INACTIVE);
        write_unit(fixture, "web.service", TWO);
        UNTIL(fixture, is_there(fixture, "web.service.error"));
        assert_true(says(fixture, "web.service.error",
                         "the cluster has another unit of this name, submitted by fleetctl"));
        assert_true(runs(fixture, "web.service", "/bin/one"));
}

static void a_destroyed_unit_is_submitted_again_from_its_file(void **state) {
        Fixture *fixture = *state;
        uint64_t index;

        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        index = unit(fixture, "web.service")->index;
        assert_int_equal(host_wait(fixture->host, registry_change_units(fixture->host->registry,
                                                                        &(UnitChange) { .name = "web.service",
                                                                                        .remove = true },
                                                                        1, host_on_done, fixture->host)),
                         KV_OK);
        UNTIL(fixture, unit(fixture, "web.service") && unit(fixture, "web.service")->index > index);
}

static void a_file_removed_while_the_daemon_was_stopped_removes_its_unit(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "web.service", ONE);
        write_unit(fixture, "job.service", TWO);
        UNTIL(fixture, unit(fixture, "web.service") && unit(fixture, "job.service"));
        fixture->directory = directory_free(fixture->directory);
        remove_unit(fixture, "web.service");
        watch(fixture);
        UNTIL(fixture, !unit(fixture, "web.service"));
        assert_non_null(unit(fixture, "job.service"));
}

/* Otherwise, the next start would remove a unit of this name that was submitted since. */
static void a_removed_unit_is_no_longer_in_the_record(void **state) {
        _cleanup_free_ char *record = NULL;
        Fixture *fixture = *state;

        record = scratch_path(fixture->records, "directory");
        write_unit(fixture, "web.service", ONE);
        write_unit(fixture, "job.service", TWO);
        UNTIL(fixture, unit(fixture, "web.service") && unit(fixture, "job.service"));
        assert_true(file_says(record, "\"web.service\"") && file_says(record, "\"job.service\""));
        remove_unit(fixture, "web.service");
        UNTIL(fixture, !file_says(record, "\"web.service\""));
        assert_null(unit(fixture, "web.service"));
        assert_true(file_says(record, "\"job.service\""));
}

static void another_directory_in_its_place_removes_nothing(void **state) {
        _cleanup_free_ char *aside = NULL;
        Fixture *fixture = *state;

        aside = scratch_path(fixture->host->scratch, "aside");
        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        assert_int_equal(rename(fixture->folder, aside), 0);
        assert_int_equal(mkdir(fixture->folder, 0755), 0);
        write_unit(fixture, "job.service", TWO);
        UNTIL(fixture, unit(fixture, "job.service"));
        host_pause(fixture->host, QUIET_MS);
        assert_non_null(unit(fixture, "web.service"));
}

static void many_files_that_disappear_at_once_are_held(void **state) {
        static const char *const names[] = { "a.service", "b.service", "c.service", "d.service" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(names); i++)
                write_unit(fixture, names[i], ONE);
        UNTIL(fixture, HASH_COUNT(registry_cluster(fixture->host->registry)->units) == ELEMENTS(names));
        fixture->directory = directory_free(fixture->directory);
        for (size_t i = 0; i < 3; i++)
                remove_unit(fixture, names[i]);
        watch(fixture);
        write_unit(fixture, "e.service", ONE);
        UNTIL(fixture, unit(fixture, "e.service"));
        for (size_t i = 0; i < ELEMENTS(names); i++)
                assert_non_null(unit(fixture, names[i]));

        /* Two of them return: the third remains held, until an operator confirms. */
        UNTIL(fixture, problem(fixture, "a.service") && problem(fixture, "b.service") &&
                               problem(fixture, "c.service"));
        assert_int_equal(problem(fixture, "c.service")->kind, PROBLEM_HELD);
        assert_non_null(strstr(problem(fixture, "c.service")->text, "c.service: its file is gone from "));
        write_unit(fixture, "a.service", ONE);
        write_unit(fixture, "b.service", ONE);
        UNTIL(fixture, !problem(fixture, "a.service") && !problem(fixture, "b.service"));
        assert_non_null(unit(fixture, "c.service"));
        confirm(fixture, "c.service");
        UNTIL(fixture, !unit(fixture, "c.service") && !problem(fixture, "c.service"));
        assert_non_null(unit(fixture, "a.service"));
}

static void another_directory_in_its_place_is_watched_and_units_that_it_lacks_are_held(void **state) {
        _cleanup_free_ char *aside = NULL;
        Fixture *fixture = *state;

        aside = scratch_path(fixture->host->scratch, "aside");
        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        assert_int_equal(rename(fixture->folder, aside), 0);
        assert_int_equal(mkdir(fixture->folder, 0755), 0);
        UNTIL(fixture, problem(fixture, "web.service"));
        assert_non_null(strstr(problem(fixture, "web.service")->text,
                               "which is another folder than the one it was seen in"));
        write_unit(fixture, "job.service", TWO);
        UNTIL(fixture, unit(fixture, "job.service"));

        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->folder), 0);
        assert_int_equal(rename(aside, fixture->folder), 0);
        UNTIL(fixture, !problem(fixture, "web.service"));
        assert_non_null(unit(fixture, "web.service"));
}

static void a_name_of_another_owner_is_reported_and_taken_over_when_confirmed(void **state) {
        Fixture *fixture = *state;

        host_unit(fixture->host, "web.service", ONE, TARGET_LOADED);
        write_unit(fixture, "web.service", TWO);
        UNTIL(fixture, problem(fixture, "web.service"));
        assert_int_equal(problem(fixture, "web.service")->kind, PROBLEM_TAKEN);
        assert_int_equal(problem(fixture, "web.service")->unit_index, unit(fixture, "web.service")->index);
        confirm(fixture, "web.service");
        UNTIL(fixture, runs(fixture, "web.service", "/bin/two") && !problem(fixture, "web.service"));
        assert_string_equal(unit(fixture, "web.service")->unit->owner, fixture->host->id);
        assert_int_equal(unit(fixture, "web.service")->target, TARGET_LOADED);
        UNTIL(fixture, !is_there(fixture, "web.service.error"));
}

static void a_unit_without_an_owner_is_owned_by_its_file_when_confirmed(void **state) {
        Fixture *fixture = *state;

        host_unit(fixture->host, "web.service", ONE, TARGET_LOADED);
        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, problem(fixture, "web.service"));
        assert_int_equal(problem(fixture, "web.service")->kind, PROBLEM_UNOWNED);
        assert_false(is_there(fixture, "web.service.error"));
        assert_null(unit(fixture, "web.service")->unit->owner);
        confirm(fixture, "web.service");
        UNTIL(fixture, unit(fixture, "web.service")->unit->owner && !problem(fixture, "web.service"));
        assert_string_equal(unit(fixture, "web.service")->unit->owner, fixture->host->id);
        assert_int_equal(unit(fixture, "web.service")->target, TARGET_LOADED);
        remove_unit(fixture, "web.service");
        UNTIL(fixture, !unit(fixture, "web.service"));
}

static void a_rejected_file_is_published_as_a_problem_until_it_is_corrected(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "web.service", "[Service]\nno option\n");
        UNTIL(fixture, problem(fixture, "web.service"));
        assert_int_equal(problem(fixture, "web.service")->kind, PROBLEM_REFUSED);
        assert_non_null(strstr(problem(fixture, "web.service")->text, "web.service: line 2: "));
        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service") && !problem(fixture, "web.service"));
}

/* As a misspelt option: the unit runs without it. */
static void a_line_without_effect_is_published_until_it_is_corrected(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "web.service", ONE "[X-Fleet]\nMachineMetdata=zone=a\n");
        UNTIL(fixture, unit(fixture, "web.service") && problem(fixture, "web.service"));
        assert_int_equal(problem(fixture, "web.service")->kind, PROBLEM_WARNED);
        assert_non_null(strstr(problem(fixture, "web.service")->text,
                               ": warning: [X-Fleet] has no option MachineMetdata"));
        UNTIL(fixture, is_there(fixture, "web.service.error"));
        write_unit(fixture, "web.service", ONE "[X-Fleet]\nMachineMetadata=zone=a\n");
        UNTIL(fixture, !problem(fixture, "web.service") && !is_there(fixture, "web.service.error"));
}

static size_t problems(Fixture *fixture) {
        const ClusterMachine *m = cluster_machine(registry_cluster(fixture->host->registry),
                                                  fixture->host->id);

        return m ? HASH_COUNT(m->problems) : 0;
}

static void a_limited_number_of_problems_is_published_and_others_follow_as_these_end(void **state) {
        enum { PROBLEMS_MAX = 1000, BEYOND = 3 };
        Fixture *fixture = *state;
        char name[32];

        fixture->directory = directory_free(fixture->directory);
        for (unsigned i = 0; i < PROBLEMS_MAX + BEYOND; i++) {
                snprintf(name, sizeof(name), "u%04u.service", i);
                write_unit(fixture, name, "[Service\n");
        }
        watch(fixture);
        for (size_t n = 50; n <= PROBLEMS_MAX; n += 50)
                UNTIL(fixture, problems(fixture) >= n);
        snprintf(name, sizeof(name), "u%04u.service.error", PROBLEMS_MAX + BEYOND - 1);
        UNTIL(fixture, is_there(fixture, name)); /* each has its .error file */
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(problems(fixture), PROBLEMS_MAX);
        assert_non_null(problem(fixture, "u0999.service"));
        assert_null(problem(fixture, "u1000.service"));
        write_unit(fixture, "u0000.service", ONE);
        UNTIL(fixture, problem(fixture, "u1000.service") && !problem(fixture, "u0000.service"));
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(problems(fixture), PROBLEMS_MAX);
}

static void a_file_is_not_read_while_it_is_being_written(void **state) {
        _cleanup_free_ char *path = NULL;
        Fixture *fixture = *state;
        FILE *file;

        write_unit(fixture, "first.service", ONE);
        UNTIL(fixture, unit(fixture, "first.service")); /* the directory is watched */
        path = scratch_path(fixture->folder, "web.service");
        file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs("[Service]\nExecStart=/bin/one --half", file) >= 0 && fflush(file) == 0);
        write_unit(fixture, "witness.service", ONE);
        UNTIL(fixture, unit(fixture, "witness.service"));
        host_pause(fixture->host, QUIET_MS);
        assert_null(unit(fixture, "web.service"));
        assert_true(fputs(" --whole\n", file) >= 0);
        assert_int_equal(fclose(file), 0);
        UNTIL(fixture, runs(fixture, "web.service", "--half --whole"));
        assert_false(is_there(fixture, "web.service.error"));
}

static void drop_ins_are_part_of_their_unit_and_watched(void **state) {
        _cleanup_free_ char *of_unit = NULL, *of_template = NULL;
        Fixture *fixture = *state;

        of_unit = scratch_path(fixture->folder, "web@1.service.d");
        of_template = scratch_path(fixture->folder, "web@.service.d");
        write_unit(fixture, "web@1.service", ONE);
        UNTIL(fixture, unit(fixture, "web@1.service"));
        assert_int_equal(mkdir(of_template, 0755), 0);
        write_unit(fixture, "web@.service.d/10.conf", "[Service]\nNice=1\n");
        UNTIL(fixture, runs(fixture, "web@1.service", "Nice=1"));
        assert_int_equal(mkdir(of_unit, 0755), 0);
        write_unit(fixture, "web@1.service.d/20.conf", "[Service]\nNice=2\n");
        UNTIL(fixture, runs(fixture, "web@1.service", "Nice=2"));
        host_pause(fixture->host, QUIET_MS); /* it is watched now, and no other event requests a scan */
        write_unit(fixture, "web@1.service.d/20.conf", "[Service]\nNice=3\n");
        UNTIL(fixture, runs(fixture, "web@1.service", "Nice=3"));
        assert_true(runs(fixture, "web@1.service", "# web@.service.d/10.conf\n"));

        write_unit(fixture, "web@1.service.d/20.conf", "Nice=4\n");
        UNTIL(fixture,
              says(fixture, "web@1.service.error",
                   "web@1.service: web@1.service.d/20.conf: line 1: an option before the first [section]"));
        assert_true(runs(fixture, "web@1.service", "Nice=3"));
        assert_int_equal(remove_tree_at(AT_FDCWD, of_unit), 0);
        UNTIL(fixture,
              !is_there(fixture, "web@1.service.error") && !runs(fixture, "web@1.service", "Nice=3"));
        assert_true(runs(fixture, "web@1.service", "Nice=1"));
}

static void a_drop_in_for_a_type_or_a_prefix_applies_to_each_of_its_units(void **state) {
        _cleanup_free_ char *of_type = NULL, *of_prefix = NULL;
        Fixture *fixture = *state;

        of_type = scratch_path(fixture->folder, "service.d");
        of_prefix = scratch_path(fixture->folder, "web-.service.d");
        write_unit(fixture, "web-a.service", ONE);
        write_unit(fixture, "web-b.service", ONE);
        write_unit(fixture, "db.service", ONE);
        UNTIL(fixture, unit(fixture, "web-a.service") && unit(fixture, "web-b.service") &&
                               unit(fixture, "db.service"));
        assert_int_equal(mkdir(of_type, 0755), 0);
        write_unit(fixture, "service.d/10.conf", "[Service]\nNice=1\n");
        UNTIL(fixture, runs(fixture, "web-a.service", "Nice=1") && runs(fixture, "web-b.service", "Nice=1") &&
                               runs(fixture, "db.service", "Nice=1"));
        assert_int_equal(mkdir(of_prefix, 0755), 0);
        write_unit(fixture, "web-.service.d/10.conf", "[Service]\nNice=2\n");
        UNTIL(fixture, runs(fixture, "web-a.service", "Nice=2") && runs(fixture, "web-b.service", "Nice=2"));
        assert_false(runs(fixture, "web-a.service", "Nice=1")); /* the most specific one of a name */
        assert_true(runs(fixture, "db.service", "Nice=1"));

        host_pause(fixture->host, QUIET_MS);
        write_unit(fixture, "service.d/10.conf", "Nice=4\n");
        UNTIL(fixture, says(fixture, "db.service.error",
                            "db.service: service.d/10.conf: line 1: an option before the first [section]"));
        assert_false(is_there(fixture, "web-a.service.error"));
        assert_int_equal(remove_tree_at(AT_FDCWD, of_type), 0);
        UNTIL(fixture, !is_there(fixture, "db.service.error") && !runs(fixture, "db.service", "Nice=1"));
}

/* An older version stored it. */
static void a_file_beyond_a_limit_is_refused_unless_the_cluster_has_its_text(void **state) {
        _cleanup_text_ Text large = {}, other = {};
        _cleanup_unit_ Unit *stored = NULL;
        Fixture *fixture = *state;

        text_append(&large, ONE "[Install]\n");
        for (int i = 0; i < 257; i++)
                text_append(&large, "Also=b.service\n");
        text_append(&other, large.chars);
        text_append(&other, "# another one\n");
        assert_int_equal(unit_read("old.service", large.chars, large.size, &stored, NULL), 0);
        assert_int_equal(unit_set_owner(stored, fixture->host->id, "/etc/fleet/units/old.service"), 0);
        assert_int_equal(
                host_wait(fixture->host,
                          registry_change_units(fixture->host->registry,
                                                &(UnitChange) { .unit = stored, .only_if_absent = true }, 1,
                                                host_on_done, fixture->host)),
                KV_OK);

        write_unit(fixture, "old.service", large.chars);
        write_unit(fixture, "new.service", large.chars);
        UNTIL(fixture,
              says(fixture, "new.service.error", "new.service: ") && problem(fixture, "new.service"));
        assert_false(is_there(fixture, "old.service.error"));
        assert_null(problem(fixture, "old.service"));
        assert_null(unit(fixture, "new.service"));

        write_unit(fixture, "old.service", other.chars);
        UNTIL(fixture, says(fixture, "old.service.error", "[Install] has more than 256 names") &&
                               problem(fixture, "old.service"));
        assert_string_equal(unit(fixture, "old.service")->unit->text, large.chars);
        write_unit(fixture, "old.service", large.chars);
        UNTIL(fixture, !is_there(fixture, "old.service.error") && !problem(fixture, "old.service"));
        write_unit(fixture, "new.service", TWO);
        UNTIL(fixture, runs(fixture, "new.service", "/bin/two") && !is_there(fixture, "new.service.error"));
        remove_unit(fixture, "old.service");
        UNTIL(fixture, !unit(fixture, "old.service"));
}

static void a_unit_whose_owner_left_is_adopted(void **state) {
        static const char other[] = "0123456789abcdef0123456789abcdef";
        _cleanup_unit_ Unit *theirs = NULL;
        Fixture *fixture = *state;

        assert_int_equal(unit_parse("web.service", ONE, strlen(ONE), &theirs, NULL), 0);
        assert_int_equal(unit_set_owner(theirs, other, "/etc/fleet/units/web.service"), 0);
        assert_int_equal(
                host_wait(fixture->host,
                          registry_change_units(fixture->host->registry,
                                                &(UnitChange) { .unit = theirs, .only_if_absent = true }, 1,
                                                host_on_done, fixture->host)),
                KV_OK);
        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, streq(unit(fixture, "web.service")->unit->owner, fixture->host->id));
        remove_unit(fixture, "web.service");
        UNTIL(fixture, !unit(fixture, "web.service"));
}

static void ignore_result(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
}

static KvStatus submit_owned(Fixture *fixture) {
        _cleanup_unit_ Unit *own = NULL;

        assert_int_equal(unit_parse("own.service", ONE, strlen(ONE), &own, NULL), 0);
        assert_int_equal(unit_set_owner(own, fixture->host->id, "/etc/fleet/units/own.service"), 0);
        return host_wait(fixture->host,
                         registry_change_units(fixture->host->registry, &(UnitChange) { .unit = own }, 1,
                                               host_on_done, fixture->host));
}

/* NULL: delete the key. */
static void write_own_key(Fixture *fixture, const char *before, const char *after, const char *value) {
        KvCommand command = { .op = value ? KV_SET : KV_DELETE, .internal = true };
        _cleanup_free_ char *key = NULL;

        assert_true(asprintf(&key, "/_fleet/%s%s%s", before, fixture->host->id, after) > 0);
        command.key = kv_string(key);
        command.value = kv_string(value ?: "");
        assert_int_equal(kv_propose(fixture->host->store, &command, ignore_result, NULL, NULL), 0);
}

#define MAINTENANCE "machine/", "/maintenance"
#define TOMBSTONE   "cluster/removed/", ""

/* It would run them again as a cluster of its own. The submission is sent before the change is seen, too. */
static void a_host_that_leaves_or_has_left_submits_no_unit(void **state) {
        Fixture *fixture = *state;
        const Cluster *c = registry_cluster(fixture->host->registry);

        host_machine(fixture->host);
        write_own_key(fixture, MAINTENANCE, "{\"for\":\"leave\",\"mode\":\"draining\"}");
        assert_int_equal(submit_owned(fixture), KV_COMPARE_FAILED);
        UNTIL(fixture, cluster_machine_is_leaving(cluster_machine(c, fixture->host->id)));
        assert_int_equal(submit_owned(fixture), KV_COMPARE_FAILED);
        write_own_key(fixture, MAINTENANCE, "{\"for\":\"leave\",\"mode\":\"cordoned\"}");
        UNTIL(fixture, !cluster_machine_is_leaving(cluster_machine(c, fixture->host->id)));
        assert_int_equal(submit_owned(fixture), KV_OK);

        write_own_key(fixture, TOMBSTONE, "{\"reason\":\"leave\"}");
        assert_int_equal(submit_owned(fixture), KV_COMPARE_FAILED);
        write_own_key(fixture, TOMBSTONE, NULL);
        UNTIL(fixture, !cluster_machine(c, fixture->host->id)->removed);
        assert_int_equal(submit_owned(fixture), KV_OK);
}

static void a_directory_that_appears_later_is_watched_then(void **state) {
        Fixture *fixture = *state;

        fixture->directory = directory_free(fixture->directory);
        assert_int_equal(rmdir(fixture->folder), 0);
        watch(fixture);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(mkdir(fixture->folder, 0755), 0);
        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        write_unit(fixture, "web.service", TWO);
        UNTIL(fixture, runs(fixture, "web.service", "/bin/two"));
}

static void a_directory_that_changes_continuously_is_scanned_all_the_same(void **state) {
        Fixture *fixture = *state;

        write_unit(fixture, "first.service", ONE);
        UNTIL(fixture, unit(fixture, "first.service"));
        host_pause(fixture->host, QUIET_MS);
        write_unit(fixture, "web.service", ONE);
        HOST_UNTIL(fixture->host, (write_unit(fixture, "noise", "x"), unit(fixture, "web.service")));
}

static void a_broken_record_removes_nothing(void **state) {
        _cleanup_free_ char *record = NULL;
        Fixture *fixture = *state;

        record = scratch_path(fixture->records, "directory");
        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        fixture->directory = directory_free(fixture->directory);
        scratch_write(record, "{\"device\":1,\"names\":[\"web.serv");
        remove_unit(fixture, "web.service");
        write_unit(fixture, "job.service", TWO);
        watch(fixture);
        UNTIL(fixture, unit(fixture, "job.service"));
        host_pause(fixture->host, QUIET_MS);
        assert_non_null(unit(fixture, "web.service"));
}

/* -- Scanning in steps -- */

enum { MANY = 700, LATER_MS = 60000 /* later than all recent stamps */ };

static bool is_finished(void *userdata, const char *name) {
        return false;
}

static uint64_t wall_ms(void) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/* A complete scan. Return the number of files read, and the number of steps. */
static size_t scan(Fixture *fixture, DirectoryFolder *folder, uint64_t now_ms, unsigned *ret_steps) {
        _cleanup_close_ int fd = open(fixture->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DirectoryScan s = { .path = fixture->folder,
                            .machine_id = fixture->host->id,
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
        Fixture *fixture = *state;
        unsigned steps = 0;
        struct stat st;
        char name[32];

        fixture->directory = directory_free(fixture->directory);
        for (unsigned i = 0; i < MANY; i++) {
                snprintf(name, sizeof(name), "u%03u.service", i);
                write_unit(fixture, name, ONE);
        }
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), MANY);
        assert_true(steps > MANY * 20 / 1000);
        assert_int_equal(folder.n, MANY);
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 0);
        assert_true(steps < 5);
        assert_true(folder.complete && folder.files[7].unit);

        write_unit(fixture, "u007.service", "[Service]\nExecStart=/bin/another\n");
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_non_null(strstr(folder.files[7].unit->text, "another"));
        directory_folder_touch(&folder, "u008.service");
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 0);

        /* The same size, and the time set back: only the change time differs. */
        _cleanup_free_ char *path = scratch_path(fixture->folder, "u009.service");

        assert_int_equal(stat(path, &st), 0);
        write_unit(fixture, "u009.service", TWO);
        assert_int_equal(utimensat(AT_FDCWD, path, (struct timespec[]) { st.st_atim, st.st_mtim }, 0), 0);
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_non_null(strstr(folder.files[9].unit->text, "/bin/two"));

        /* A recent change may be one of two within one tick of the clock. */
        write_unit(fixture, "u010.service", TWO);
        assert_true(scan(fixture, &folder, wall_ms(), &steps) >= 1);
        assert_true(scan(fixture, &folder, wall_ms() + LATER_MS, &steps) >= 1);
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 0);

        /* A drop-in is part of its units. */
        path = (free(path), scratch_path(fixture->folder, "u011.service.d"));
        assert_int_equal(mkdir(path, 0755), 0);
        write_unit(fixture, "u011.service.d/x.conf", "[Service]\nNice=7\n");
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_non_null(strstr(folder.files[11].unit->text, "Nice=7"));
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 0);
        write_unit(fixture, "u011.service.d/x.conf", "[Service]\nNice=8\n");
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 1);

        /* The fault of a unit is kept with it. */
        write_unit(fixture, "u012.service", "[X-Fleet]\nGlobal=true\nMachineOf=a.service\n");
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 0);
        assert_string_equal(folder.files[12].fault, "u012.service: Global cannot be used with Peers");
        assert_non_null(folder.files[12].unit);
        write_unit(fixture, "u012.service", TWO);
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 1);
        assert_null(folder.files[12].fault);

        remove_unit(fixture, "u000.service");
        assert_int_equal(scan(fixture, &folder, wall_ms() + LATER_MS, &steps), 0);
        assert_int_equal(folder.n, MANY - 1);
        assert_null(directory_folder_find(&folder, "u000.service"));
}

static void a_change_of_the_registry_does_not_scan_the_directory(void **state) {
        _cleanup_close_ int scans = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        _cleanup_text_ Text names = {};
        Fixture *fixture = *state;
        char events[4096];

        write_unit(fixture, "web.service", ONE);
        UNTIL(fixture, unit(fixture, "web.service"));
        host_pause(fixture->host, QUIET_MS);
        assert_true(inotify_add_watch(scans, fixture->folder, IN_ACCESS | IN_ONLYDIR) >= 0);
        assert_true(directory_list_units(fixture->directory, &names) >= 0);
        assert_true(read(scans, events, sizeof(events)) > 0); /* it is seen how a directory is read */
        for (unsigned i = 0; i < 5; i++) {
                host_unit(fixture->host, "elsewhere.service", i % 2 ? ONE : TWO, TARGET_INACTIVE);
                host_pause(fixture->host, QUIET_MS / 2);
        }
        assert_true(read(scans, events, sizeof(events)) < 0);

        /* A changed unit of this directory is corrected, without a scan, too. */
        assert_int_equal(host_wait(fixture->host, registry_change_units(fixture->host->registry,
                                                                        &(UnitChange) { .name = "web.service",
                                                                                        .remove = true },
                                                                        1, host_on_done, fixture->host)),
                         KV_OK);
        UNTIL(fixture, unit(fixture, "web.service"));
        assert_true(read(scans, events, sizeof(events)) < 0);
}

/* Events request a scan at once, after an hour as in the first second. */
static void a_second_burst_of_changes_is_submitted_as_quickly_as_the_first(void **state) {
        Fixture *fixture = *state;
        uint64_t begin_ms;

        for (unsigned burst = 0; burst < 3; burst++) {
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", burst);
                begin_ms = loop_now_ms(fixture->host->loop);
                write_unit(fixture, name, ONE);
                UNTIL(fixture, unit(fixture, name));
                assert_true(loop_now_ms(fixture->host->loop) - begin_ms < 15000); /* the period is 30 s */
                host_pause(fixture->host, 1200);
        }
}

static unsigned notices, failures;
static bool revisions_are_full; /* an update cannot be sent */

static void count_notices(void *userdata, int priority, const LogFields *fields, const char *message) {
        notices += priority == LOG_NOTICE && fields->unit && streq(fields->unit, "web.service") &&
                   strstr(message, "is new");
        failures += priority == LOG_WARNING && starts_with(message, "Failed to submit");
}

bool __wrap_cluster_revisions_are_full(const ClusterUnit *u, const Placement *next);

bool __wrap_cluster_revisions_are_full(const ClusterUnit *u, const Placement *next) {
        return revisions_are_full;
}

/* While the cluster rejects it, nothing changes, however often it is tried. */
static void a_change_and_its_failures_are_logged_once(void **state) {
        const KvCommand in_the_way = { .op = KV_SET,
                                       .internal = true,
                                       .key = kv_string("/_fleet/unit/web.service/below"),
                                       .value = kv_string("1") };
        const KvCommand away = { .op = KV_DELETE,
                                 .internal = true,
                                 .recursive = true,
                                 .key = kv_string("/_fleet/unit/web.service") };
        Fixture *fixture = *state;

        notices = failures = 0;
        log_set_sink(count_notices, NULL);
        assert_int_equal(kv_propose(fixture->host->store, &in_the_way, ignore_result, NULL, NULL), 0);
        host_pause(fixture->host, QUIET_MS);
        write_unit(fixture, "web.service", ONE);
        host_pause(fixture->host, 3000);
        assert_int_equal(notices, 0);
        assert_int_equal(kv_propose(fixture->host->store, &away, ignore_result, NULL, NULL), 0);
        UNTIL(fixture, unit(fixture, "web.service") && notices > 0);
        host_pause(fixture->host, QUIET_MS);
        assert_int_equal(notices, 1);
        host_raise(fixture->host, KV_LEVEL_REVISIONS);
        revisions_are_full = true;
        write_unit(fixture, "web.service", TWO);
        host_pause(fixture->host, 4000);
        assert_int_equal(failures, 1);
        revisions_are_full = false;
        UNTIL(fixture, runs(fixture, "web.service", "/bin/two"));
        log_set_sink(NULL, NULL);
}

int main(int argc, char *argv[]) {
#define with_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                with_fixture(a_name_of_any_length_becomes_a_unit_or_a_problem),
                with_fixture(a_new_file_becomes_a_launched_unit),
                with_fixture(a_file_states_its_target_state_and_a_template_that_of_its_replicas),
                with_fixture(an_edit_is_an_update_that_keeps_the_target_state_unless_it_changes_that),
                with_fixture(a_removed_file_removes_its_unit),
                with_fixture(a_broken_file_gets_an_error_file_and_changes_nothing),
                with_fixture(the_error_file_is_removed_with_the_broken_file),
                with_fixture(only_plain_unit_files_are_read),
                with_fixture(the_unit_of_another_owner_is_kept_and_reported),
                with_fixture(a_destroyed_unit_is_submitted_again_from_its_file),
                with_fixture(a_file_removed_while_the_daemon_was_stopped_removes_its_unit),
                with_fixture(a_removed_unit_is_no_longer_in_the_record),
                with_fixture(another_directory_in_its_place_removes_nothing),
                with_fixture(many_files_that_disappear_at_once_are_held),
                with_fixture(another_directory_in_its_place_is_watched_and_units_that_it_lacks_are_held),
                with_fixture(a_name_of_another_owner_is_reported_and_taken_over_when_confirmed),
                with_fixture(a_unit_without_an_owner_is_owned_by_its_file_when_confirmed),
                with_fixture(a_rejected_file_is_published_as_a_problem_until_it_is_corrected),
                with_fixture(a_line_without_effect_is_published_until_it_is_corrected),
                with_fixture(a_limited_number_of_problems_is_published_and_others_follow_as_these_end),
                with_fixture(a_file_is_not_read_while_it_is_being_written),
                with_fixture(drop_ins_are_part_of_their_unit_and_watched),
                with_fixture(a_drop_in_for_a_type_or_a_prefix_applies_to_each_of_its_units),
                with_fixture(a_file_beyond_a_limit_is_refused_unless_the_cluster_has_its_text),
                with_fixture(a_unit_whose_owner_left_is_adopted),
                with_fixture(a_host_that_leaves_or_has_left_submits_no_unit),
                with_fixture(a_directory_that_appears_later_is_watched_then),
                with_fixture(a_directory_that_changes_continuously_is_scanned_all_the_same),
                with_fixture(a_broken_record_removes_nothing),
                with_fixture(a_scan_reads_what_has_changed_and_nothing_else),
                with_fixture(a_change_of_the_registry_does_not_scan_the_directory),
                with_fixture(a_second_burst_of_changes_is_submitted_as_quickly_as_the_first),
                with_fixture(a_change_and_its_failures_are_logged_once),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
