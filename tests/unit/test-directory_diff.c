/* Files of the unit directory compared with its units: which are submitted, removed, or kept. */

#include "tests/lib/test.h"
#include "fleetd/directory/diff.h"
#include "base/sizes.h"
#include "tests/lib/cluster_view.h"
#include "units/stored_json.h"

enum { FILES_MAX = 16 };

typedef struct DataDir {
        ClusterView view;
        DirectoryFile files[FILES_MAX];
        size_t n;
        Named *record;
        DirectoryDiff diff;
        char id[MACHINE_ID_SIZE];
        bool crowded; /* more files than the limit */
} DataDir;

static int folder_setup(void **state) {
        DataDir *f = calloc(1, sizeof(*f));

        cluster_view_machine(&f->view, "A", "", PRESENCE_UP);
        cluster_view_machine(&f->view, "B", "", PRESENCE_UP);
        cluster_view_id(f->id, "A");
        *state = f;
        return 0;
}

static void folder_empty(DataDir *f) {
        for (size_t i = 0; i < f->n; i++) {
                unit_free(f->files[i].unit);
                free(f->files[i].fault);
                free(f->files[i].error);
                f->files[i] = (DirectoryFile) {};
        }
        f->n = 0;
}

static int folder_teardown(void **state) {
        DataDir *f = *state;

        folder_empty(f);
        directory_diff_done(&f->diff);
        named_clear(&f->record);
        cluster_view_free(&f->view);
        free(f);
        return 0;
}

static void text_of(char ret[static 256], const char *command) {
        snprintf(ret, 256, "[Service]\nExecStart=%s\n", command);
}

/* 'command' NULL: the file is not a unit. */
static void file(DataDir *f, const char *name, const char *command) {
        DirectoryFile *file = &f->files[f->n++];
        char text[256];

        snprintf(file->name, sizeof(file->name), "%s", name);
        if (command) {
                text_of(text, command);
                assert_int_equal(unit_parse(name, text, strlen(text), &file->unit, NULL), 0);
        }
        if (!command)
                file->error = strdup("no unit");
}

/* A unit of the cluster; 'owner' names a machine, or NULL. */
static void unit(DataDir *f, const char *name, const char *command, const char *owner) {
        _cleanup_unit_ Unit *u = NULL;
        _cleanup_text_ Text t = {};
        char text[256], key[300], id[MACHINE_ID_SIZE];

        text_of(text, command);
        assert_int_equal(unit_parse(name, text, strlen(text), &u, NULL), 0);
        if (owner)
                assert_int_equal(unit_set_owner(u, cluster_view_id(id, owner), "/etc/fleet/units/x"), 0);
        stored_unit_write(&t, u);
        snprintf(key, sizeof(key), "/_fleet/unit/%s", name);
        cluster_view_put(&f->view, key, t.chars);
}

static void seen(DataDir *f, const char *name) {
        assert_non_null(named_get(&f->record, name, sizeof(SeenFile)));
}

/* A problem that this host, A, has published about a unit, and perhaps its confirmation. */
static void set_problem(DataDir *f, const char *name, ProblemKind kind, bool confirmed) {
        const ClusterUnit *u = cluster_unit(&f->view.cluster, name);
        Problem problem = {
                .kind = kind, .text = (char *) "a message", .unit_index = u->index, .confirmed = confirmed
        };
        _cleanup_text_ Text t = {};
        char key[300];

        stored_problem_write(&t, &problem);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/problem/%s", f->id, name);
        cluster_view_put(&f->view, key, t.chars);
}

/* "submit a.service; remove b.service", and "; held 3". 'same': the record is about this directory. */
static void assert_diff(DataDir *f, bool same, const char *expected) {
        static const char *const words[_DIRECTORY_TASK_MAX] = {
                [DIRECTORY_SUBMIT] = "submit",       [DIRECTORY_UPDATE] = "update",
                [DIRECTORY_REMOVE] = "remove",       [DIRECTORY_ADOPT] = "adopt",
                [DIRECTORY_TAKE_OVER] = "take over",
        };
        DirectoryView view = { .machine_id = f->id,
                               .path = "/etc/fleet/units",
                               .files = f->files,
                               .n_files = f->n,
                               .record = f->record,
                               .complete = !f->crowded,
                               .same = same };
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < f->n; i++)
                if (f->files[i].unit) /* the error of the previous scan */
                        f->files[i].error = (free(f->files[i].error), NULL);
        directory_diff_done(&f->diff);
        assert_int_equal(directory_diff(&f->view.cluster, &view, &f->diff), 0);
        for (size_t i = 0; i < f->diff.n; i++)
                text_printf(&t, "%s%s %s", i > 0 ? "; " : "", words[f->diff.tasks[i].kind],
                            f->diff.tasks[i].name);
        if (f->diff.n_held > 0)
                text_printf(&t, "%sheld %zu", f->diff.n > 0 ? "; " : "", f->diff.n_held);
        assert_string_equal(t.chars ?: "", expected);
}

static void a_new_file_is_submitted(void **state) {
        DataDir *f = *state;

        file(f, "a.service", "/bin/a");
        assert_diff(f, true, "submit a.service");
        assert_ptr_equal(f->diff.tasks[0].unit, f->files[0].unit);
}

static void a_changed_file_is_an_update_of_the_version_that_was_seen(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/old", "A");
        file(f, "a.service", "/bin/new");
        assert_diff(f, true, "update a.service");
        assert_int_equal(f->diff.tasks[0].expected_index, f->view.index);
}

static void an_unchanged_file_causes_no_task(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", "A");
        file(f, "a.service", "/bin/a");
        seen(f, "a.service");
        assert_diff(f, true, "");
}

static void a_broken_file_changes_nothing(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", "A");
        file(f, "a.service", NULL);
        seen(f, "a.service");
        assert_diff(f, true, "");
        assert_string_equal(f->files[0].error, "no unit");
}

/* A unit that an older version stored may exceed a limit of this one. */
static void a_file_that_may_not_be_submitted_is_refused_unless_the_cluster_has_its_text(void **state) {
        DataDir *f = *state;

        unit(f, "b.service", "/bin/b", "A");
        unit(f, "c.service", "/bin/c", NULL);
        unit(f, "d.service", "/bin/old", "A");
        unit(f, "e.service", "/bin/old", "B");
        cluster_view_unreadable(&f->view, LAYOUT_UNIT, "f.service", NULL);
        file(f, "a.service", "/bin/a");
        file(f, "b.service", "/bin/b");
        file(f, "c.service", "/bin/c");
        file(f, "d.service", "/bin/d");
        file(f, "e.service", "/bin/e");
        file(f, "f.service", "/bin/f");
        for (size_t i = 0; i < f->n; i++) {
                f->files[i].fault = strdup("too much of something");
                f->files[i].kind = PROBLEM_TAKEN; /* of an earlier diff */
        }
        for (unsigned times = 0; times < 2; times++) {
                assert_diff(f, true, "");
                for (size_t i = 0; i < f->n; i++)
                        if (i == 1)
                                assert_null(f->files[i].error);
                        else if (i == 2) /* no owner */
                                assert_int_equal(f->files[i].kind, PROBLEM_UNOWNED);
                        else {
                                assert_string_equal(f->files[i].error, "too much of something");
                                assert_int_equal(f->files[i].kind, PROBLEM_REFUSED);
                        }
        }
}

static void a_unit_beyond_a_limit_whose_owner_left_is_adopted_by_the_same_text(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", "B");
        cluster_view_presence(&f->view, "B", PRESENCE_LEFT);
        file(f, "a.service", "/bin/a");
        f->files[0].fault = strdup("too much of something");
        assert_diff(f, true, "adopt a.service");
        assert_null(f->files[0].error);
}

/* It is neither submitted nor adopted: its owner is unknown. */
static void an_unreadable_unit_is_kept_and_reported(void **state) {
        DataDir *f = *state;

        cluster_view_unreadable(&f->view, LAYOUT_UNIT, "a.service", NULL);
        cluster_view_unreadable(&f->view, LAYOUT_UNIT, "b.service", NULL);
        seen(f, "b.service");
        file(f, "a.service", "/bin/a");
        file(f, "c.service", "/bin/c");
        assert_diff(f, true, "submit c.service");
        assert_string_equal(f->files[0].error,
                            "a.service: the cluster has a unit of this name, and " CLUSTER_UNREADABLE);
}

static void the_unit_of_another_owner_by_that_name_is_kept_and_reported(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/other", NULL);
        unit(f, "b.service", "/bin/other", "B");
        file(f, "a.service", "/bin/a");
        file(f, "b.service", "/bin/b");
        assert_diff(f, true, "");
        assert_non_null(strstr(
                f->files[0].error,
                "a.service: the cluster has another unit of this name, submitted by fleetctl; it keeps it. "
                "Give the file another name, or: fleetctl directory take-over a.service --machine=A"));
        assert_non_null(strstr(f->files[1].error, "submitted by the directory of B;"));
}

static void the_same_unit_of_another_owner_is_no_problem(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", "B");
        file(f, "a.service", "/bin/a");
        assert_diff(f, true, "");
        assert_null(f->files[0].error);
}

static void the_same_unit_without_an_owner_is_reported_and_taken_over_when_confirmed(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", NULL);
        unit(f, "b.service", "/bin/b", NULL);
        file(f, "a.service", "/bin/a");
        file(f, "b.service", "/bin/b");
        set_problem(f, "a.service", PROBLEM_TAKEN, true); /* of an earlier text of the file */
        set_problem(f, "b.service", PROBLEM_UNOWNED, false);
        assert_diff(f, true, "");
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(f->files[i].kind, PROBLEM_UNOWNED);
        assert_string_equal(f->files[0].error,
                            "a.service: not owned: submitted by fleetctl, with this text; the removal of the "
                            "file does not destroy the unit. To own it: fleetctl directory take-over "
                            "a.service --machine=A");
        set_problem(f, "b.service", PROBLEM_UNOWNED, true);
        assert_diff(f, true, "take over b.service");
        assert_int_equal(f->diff.tasks[0].expected_index, cluster_unit(&f->view.cluster, "b.service")->index);
        assert_null(f->files[1].error);
}

static void a_file_that_was_seen_here_and_is_gone_removes_its_unit(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", "A");
        seen(f, "a.service");
        assert_diff(f, true, "remove a.service");
        assert_int_equal(f->diff.tasks[0].expected_index, f->view.index);
}

static void absence_is_no_removal_if_the_file_was_never_seen_or_the_directory_is_another(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", "A");
        assert_diff(f, true, "held 1");
        assert_false(f->diff.held[0].seen);
        seen(f, "a.service");
        assert_diff(f, false, "held 1");
        f->crowded = true;
        assert_diff(f, true, "");
}

static void a_unit_that_changed_its_owner_is_not_removed(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", "B");
        unit(f, "b.service", "/bin/a", NULL);
        seen(f, "a.service");
        seen(f, "b.service");
        seen(f, "c.service");
        assert_diff(f, true, "");
}

static void many_files_that_disappear_at_once_remove_nothing(void **state) {
        char name[32];
        DataDir *f = *state;

        for (unsigned i = 0; i < 9; i++) {
                snprintf(name, sizeof(name), "u%u.service", i);
                unit(f, name, "/bin/a", "A");
                seen(f, name);
                if (i >= 3)
                        file(f, name, i == 3 ? "/bin/changed" : "/bin/a");
        }
        assert_diff(f, true, "update u3.service; held 3");
        folder_empty(f);
        assert_diff(f, true, "held 9");

        /* Files whose names are only meant as units do not count. */
        for (unsigned i = 0; i < 20; i++) {
                snprintf(name, sizeof(name), "u%u.servce", i);
                seen(f, name);
        }
        assert_diff(f, true, "held 9");
}

static void a_held_unit_remains_until_the_file_returns_or_an_operator_confirms(void **state) {
        DataDir *f = *state;

        for (unsigned i = 0; i < 3; i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", i);
                unit(f, name, "/bin/a", "A");
                seen(f, name);
        }
        assert_diff(f, true, "held 3");
        set_problem(f, "u0.service", PROBLEM_HELD, false);
        set_problem(f, "u1.service", PROBLEM_HELD, false);
        set_problem(f, "u2.service", PROBLEM_HELD, true);
        file(f, "u0.service", "/bin/a");
        assert_diff(f, true, "remove u2.service; held 1");
        assert_string_equal(f->diff.held[0].unit->name, "u1.service");

        /* A confirmation applies to the revision that it was given for. */
        unit(f, "u2.service", "/bin/b", "A");
        unit(f, "u1.service", "/bin/b", "A");
        folder_empty(f);
        assert_diff(f, true, "held 3");
}

static void a_confirmed_take_over_replaces_the_unit_of_the_other_owner(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/other", "B");
        unit(f, "b.service", "/bin/other", NULL);
        file(f, "a.service", "/bin/a");
        file(f, "b.service", "/bin/a");
        set_problem(f, "a.service", PROBLEM_TAKEN, true);
        set_problem(f, "b.service", PROBLEM_TAKEN, false);
        assert_diff(f, true, "take over a.service");
        assert_int_equal(f->diff.tasks[0].expected_index, cluster_unit(&f->view.cluster, "a.service")->index);
        assert_non_null(f->files[1].error);
}

static void a_confirmation_of_another_revision_does_not_count(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/other", "B");
        set_problem(f, "a.service", PROBLEM_TAKEN, true);
        unit(f, "a.service", "/bin/third", "B");
        file(f, "a.service", "/bin/a");
        assert_diff(f, true, "");
        assert_int_equal(f->files[0].kind, PROBLEM_TAKEN);
}

static void the_same_unit_of_an_owner_that_is_gone_is_adopted(void **state) {
        DataDir *f = *state;
        char id[MACHINE_ID_SIZE];

        unit(f, "a.service", "/bin/a", "B");
        unit(f, "b.service", "/bin/other", "B");
        file(f, "a.service", "/bin/a");
        file(f, "b.service", "/bin/b");
        cluster_view_presence(&f->view, "B", PRESENCE_LOST);
        f->view.cluster.now_ms = cluster_machine(&f->view.cluster, cluster_view_id(id, "B"))->since_ms +
                                 599999;
        assert_diff(f, true, "");
        f->view.cluster.now_ms++;
        assert_diff(f, true, "adopt a.service");
        f->view.cluster.now_ms = 0;
        assert_diff(f, true, "");
        cluster_view_presence(&f->view, "B", PRESENCE_LEFT);
        assert_diff(f, true, "adopt a.service");
        assert_int_equal(f->files[1].kind, PROBLEM_TAKEN);
}

static void few_of_many_files_that_disappear_are_removals(void **state) {
        char name[32];
        DataDir *f = *state;

        for (unsigned i = 0; i < 10; i++) {
                snprintf(name, sizeof(name), "u%u.service", i);
                unit(f, name, "/bin/a", "A");
                seen(f, name);
                if (i >= 3)
                        file(f, name, "/bin/a");
        }
        assert_diff(f, true, "remove u0.service; remove u1.service; remove u2.service");
}

static void two_of_two_are_removed(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/bin/a", "A");
        unit(f, "b.service", "/bin/a", "A");
        seen(f, "a.service");
        seen(f, "b.service");
        assert_diff(f, true, "remove a.service; remove b.service");
}
/* The rollout is that of the present text of the unit. */
static void put_rollout(DataDir *f, const char *name, const char *state, const char *reverted, bool failed) {
        const ClusterUnit *known = cluster_unit(&f->view.cluster, name);
        _cleanup_unit_ Unit *u = NULL;
        char text[256], key[300], value[700];

        text_of(text, reverted);
        assert_int_equal(unit_parse(name, text, strlen(text), &u, NULL), 0);
        snprintf(value, sizeof(value),
                 "{%s\"reverted\":3,\"revertedHash\":\"%s\",\"state\":\"%s\",\"to\":2,\"toHash\":\"%s\","
                 "\"why\":"
                 "\"exit status 1\"}",
                 failed ? "\"failed\":[{\"unit\":\"a.service\",\"why\":\"w\"}]," : "", u->hash, state,
                 known ? known->unit->hash : "h");
        snprintf(key, sizeof(key), "/_fleet/rollout/%s", name);
        cluster_view_put(&f->view, key, value);
}

static void a_reverted_file_stays_reverted(void **state) {
        DataDir *f = *state;

        unit(f, "a.service", "/good", "A");
        file(f, "a.service", "/bad");
        put_rollout(f, "a.service", "done", "/bad", false);
        assert_diff(f, true, "");
        assert_int_equal(f->files[0].kind, PROBLEM_REVERTED);
        assert_string_equal(
                f->files[0].error,
                "a.service: revision 3 was reverted (exit status 1); correct the file, or: fleetctl "
                "directory retry a.service --machine=A");
        set_problem(f, "a.service", PROBLEM_REVERTED, false);
        assert_diff(f, true, "");

        /* 'directory retry' */
        set_problem(f, "a.service", PROBLEM_REVERTED, true);
        assert_diff(f, true, "update a.service");

        /* The next text is submitted. */
        folder_empty(f);
        set_problem(f, "a.service", PROBLEM_REVERTED, false);
        file(f, "a.service", "/better");
        assert_diff(f, true, "update a.service");
}

/* The instance follows web@.service; its text ends with these drop-ins. */
static void put_follower(DataDir *f, const char *text, size_t own_size) {
        _cleanup_unit_ Unit *u = NULL;
        _cleanup_text_ Text t = {};

        assert_int_equal(unit_parse("web@1.service", text, strlen(text), &u, NULL), 0);
        assert_int_equal(unit_set_owner(u, f->id, "/etc/fleet/units/x"), 0);
        u->from = strdup("web@.service");
        u->own_size = own_size;
        stored_unit_write(&t, u);
        cluster_view_put(&f->view, "/_fleet/unit/web@1.service", t.chars);
}

/* The rollout is that of the template; the file of the instance has the text that was reverted. */
static void a_reverted_text_of_a_template_is_not_submitted_for_an_instance(void **state) {
        DataDir *f = *state;
        static const char *const own[] = { "", "\n\n# web@1.service.d/own.conf\n[Service]\nNice=1\n" };

        unit(f, "web@.service", "/good", NULL);
        put_rollout(f, "web@.service", "done", "/bad", false);
        for (size_t i = 0; i < ELEMENTS(own); i++) {
                _cleanup_text_ Text bad = {}, good = {};
                char text[256];

                folder_empty(f);
                text_of(text, "/bad");
                text_printf(&bad, "%s%s", text, own[i]);
                text_of(text, "/good");
                text_printf(&good, "%s%s", text, own[i]);
                file(f, "web@1.service", "/bad");
                f->files[0].unit = unit_free(f->files[0].unit);
                assert_int_equal(unit_parse("web@1.service", bad.chars, bad.size, &f->files[0].unit, NULL),
                                 0);
                put_follower(f, good.chars, strlen(own[i]));
                assert_diff(f, true, "");
                assert_int_equal(f->files[0].kind, PROBLEM_REVERTED);
        }
}

static void a_file_whose_text_a_user_left_by_a_revert_is_not_submitted(void **state) {
        DataDir *f = *state;
        _cleanup_unit_ Unit *bad = NULL;
        _cleanup_text_ Text value = {};
        const char *how[] = { "reverted", "directory" };
        char text[256];

        text_of(text, "/bad");
        assert_int_equal(unit_parse("a.service", text, strlen(text), &bad, NULL), 0);
        file(f, "a.service", "/bad");
        for (size_t i = 0; i < ELEMENTS(how); i++) {
                text_clear(&value);
                text_printf(&value,
                            "{\"owner\":\"%s\",\"path\":\"/x\",\"by\":\"root@alpha\",\"how\":\"%s\","
                            "\"rev\":2,\"revs\":[{\"hash\":\"%s\",\"rev\":3}],"
                            "\"text\":\"[Service]\\nExecStart=/good\\n\"}",
                            f->id, how[i], bad->hash);
                cluster_view_put(&f->view, "/_fleet/unit/a.service", value.chars);
                assert_diff(f, true, i == 0 ? "" : "update a.service");
                if (i == 0) {
                        assert_int_equal(f->files[0].kind, PROBLEM_REVERTED);
                        assert_string_equal(f->files[0].error,
                                            "a.service: revision 3 was reverted (by root@alpha); correct the "
                                            "file, or: fleetctl directory retry a.service --machine=A");
                }
        }
}

static void a_template_that_is_invalid_for_an_instance_is_refused(void **state) {
        static const char text[] = "[Service]\nExecStart=/a\n[X-Fleet]\nHealthTcp=80%i\n";
        DataDir *f = *state;

        unit(f, "a@.service", "/a", "A");
        file(f, "a@.service", "/b");
        unit_free(f->files[0].unit);
        assert_int_equal(unit_parse("a@.service", text, sizeof(text) - 1, &f->files[0].unit, NULL), 0);
        assert_diff(f, true, "update a@.service");
        cluster_view_put(&f->view, "/_fleet/unit/a@blue.service", "{\"from\":\"a@.service\",\"text\":\"\"}");
        assert_diff(f, true, "");
        assert_int_equal(f->files[0].kind, PROBLEM_REFUSED);
        assert_true(starts_with(
                f->files[0].error,
                "a@.service: a@blue.service: line 4: HealthTcp=80blue: the unit has no tcp port \"80blue\""));
}

static void a_paused_rollout_is_a_problem_of_its_file(void **state) {
        DataDir *f = *state;
        char text[256];

        unit(f, "a.service", "/bad", "A");
        file(f, "a.service", "/bad");
        put_rollout(f, "a.service", "rolling", "/other", false);
        assert_diff(f, true, "");
        assert_null(f->files[0].error);
        put_rollout(f, "a.service", "paused", "/other", true);
        assert_diff(f, true, "");
        assert_int_equal(f->files[0].kind, PROBLEM_PAUSED);
        assert_string_equal(
                f->files[0].error,
                "a.service: the rollout of revision 2 is paused: exit status 1; correct the file, "
                "or try the same text again: fleetctl rollout resume a.service");

        /* The corrected text is submitted, and the engine has not begun its rollout. */
        unit_free(f->files[0].unit);
        text_of(text, "/good");
        assert_int_equal(unit_parse("a.service", text, strlen(text), &f->files[0].unit, NULL), 0);
        assert_diff(f, true, "update a.service");
        assert_null(f->files[0].error);
        unit(f, "a.service", "/good", "A");
        assert_diff(f, true, "");
        assert_null(f->files[0].error);
}

/* 4 was left for 3, and that for 2. The last revert alone would leave 3 only. */
static void a_file_whose_text_a_user_left_by_the_first_of_two_reverts_is_not_submitted(void **state) {
        DataDir *f = *state;
        _cleanup_unit_ Unit *bad = NULL;
        _cleanup_text_ Text value = {};
        char text[256];

        text_of(text, "/bad");
        assert_int_equal(unit_parse("a.service", text, strlen(text), &bad, NULL), 0);
        file(f, "a.service", "/bad");
        text_printf(&value,
                    "{\"owner\":\"%s\",\"path\":\"/x\",\"by\":\"root@alpha\",\"how\":\"reverted\","
                    "\"rev\":2,\"revs\":[{\"hash\":\"%s\",\"rev\":4},{\"hash\":\"%040d\","
                    "\"how\":\"reverted\",\"rev\":3}],\"text\":\"[Service]\\nExecStart=/good\\n\"}",
                    f->id, bad->hash, 7);
        cluster_view_put(&f->view, "/_fleet/unit/a.service", value.chars);
        assert_diff(f, true, "");
}

int main(void) {
#define in_folder(f) cmocka_unit_test_setup_teardown(f, folder_setup, folder_teardown)
        const struct CMUnitTest tests[] = {
                in_folder(a_reverted_file_stays_reverted),
                in_folder(a_reverted_text_of_a_template_is_not_submitted_for_an_instance),
                in_folder(a_file_whose_text_a_user_left_by_a_revert_is_not_submitted),
                in_folder(a_file_whose_text_a_user_left_by_the_first_of_two_reverts_is_not_submitted),
                in_folder(a_template_that_is_invalid_for_an_instance_is_refused),
                in_folder(a_paused_rollout_is_a_problem_of_its_file),
                in_folder(a_new_file_is_submitted),
                in_folder(a_changed_file_is_an_update_of_the_version_that_was_seen),
                in_folder(an_unchanged_file_causes_no_task),
                in_folder(a_broken_file_changes_nothing),
                in_folder(a_file_that_may_not_be_submitted_is_refused_unless_the_cluster_has_its_text),
                in_folder(a_unit_beyond_a_limit_whose_owner_left_is_adopted_by_the_same_text),
                in_folder(an_unreadable_unit_is_kept_and_reported),
                in_folder(the_unit_of_another_owner_by_that_name_is_kept_and_reported),
                in_folder(the_same_unit_of_another_owner_is_no_problem),
                in_folder(the_same_unit_without_an_owner_is_reported_and_taken_over_when_confirmed),
                in_folder(a_file_that_was_seen_here_and_is_gone_removes_its_unit),
                in_folder(absence_is_no_removal_if_the_file_was_never_seen_or_the_directory_is_another),
                in_folder(a_unit_that_changed_its_owner_is_not_removed),
                in_folder(many_files_that_disappear_at_once_remove_nothing),
                in_folder(a_held_unit_remains_until_the_file_returns_or_an_operator_confirms),
                in_folder(a_confirmed_take_over_replaces_the_unit_of_the_other_owner),
                in_folder(a_confirmation_of_another_revision_does_not_count),
                in_folder(the_same_unit_of_an_owner_that_is_gone_is_adopted),
                in_folder(few_of_many_files_that_disappear_are_removals),
                in_folder(two_of_two_are_removed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
