/* The next step of the agent with one unit: each row of the rules, every combination of inputs, and sequences
 * of steps with a crash in each of them. */

#include "tests/lib/test.h"
#include "fleetd/agent/plan.h"
#include "tests/lib/size.h"

static const char boot_now[] = "b0000000000000000000000000000001",
                  boot_before[] = "b0000000000000000000000000000000";
static const char invocation_old[] = "10000000000000000000000000000000";

static const char text_one[] = "[Service]\nExecStart=/bin/one\n";
static const char text_tuned[] =
        "[Service]\nExecStart=/bin/one\n[X-Fleet]\nConflicts=x*\n"; /* runs the same */
static const char text_live[] = "[Service]\nExecStart=/bin/one\nMemoryMax=1G\n";
#define RELOADS "[Service]\nExecStart=/bin/one\nExecReload=/bin/kill -HUP $MAINPID\n[X-Fleet]\n"
static const char text_former[] = RELOADS "ReloadTrigger=1\n", text_reload[] = RELOADS "ReloadTrigger=2\n";
static const char
        text_content[] = "[Service]\nExecStart=/bin/one\n[X-Fleet]\nSecret=pw\nOnChange=restart\n",
        text_content_two[] = "[Service]\nExecStart=/bin/two\n[X-Fleet]\nSecret=pw\nOnChange=restart\n",
        text_files[] = RELOADS "ConfigKeys=/shop\nOnChange=reload\n",
        text_unable[] = "[Service]\nExecStart=/bin/one\n[X-Fleet]\nConfigKeys=/shop\nOnChange=reload\n",
        text_passive[] = RELOADS "ConfigKeys=/shop\n",
        text_restarts[] = RELOADS "ConfigKeys=/shop\nOnChange=restart\n",
        text_job[] = "[Service]\nType=oneshot\nExecStart=/bin/one\n[X-Fleet]\nSecret=pw\nOnChange=restart\n";
static const char text_two[] = "[Service]\nExecStart=/bin/two\n";

/* One view, and the objects that it refers to. */
typedef struct Scene {
        ClusterAssignment assignment;
        ClusterUnit unit;
        AssignmentRecord record;
        SystemdUnit seen;
        AgentView view;
        Unit *one, *tuned, *two, *live, *former, *reload, *content, *content_two, *files, *unable, *passive,
                *restarts, *job;
} Scene;

static Unit *unit_of(const char *text) {
        Unit *unit = NULL;

        assert_int_equal(unit_parse("web.service", text, strlen(text), &unit, NULL), 0);
        return unit;
}

static int scene_setup(void **state) {
        Scene *s = calloc(1, sizeof(*s));

        s->one = unit_of(text_one);
        s->tuned = unit_of(text_tuned);
        s->two = unit_of(text_two);
        s->live = unit_of(text_live);
        s->former = unit_of(text_former);
        s->reload = unit_of(text_reload);
        s->content = unit_of(text_content);
        s->content_two = unit_of(text_content_two);
        s->files = unit_of(text_files);
        s->passive = unit_of(text_passive);
        /* Stored by another version: none accepts it. */
        assert_int_equal(unit_read("web.service", text_unable, strlen(text_unable), &s->unable, NULL), 0);
        s->restarts = unit_of(text_restarts);
        s->job = unit_of(text_job);
        *state = s;
        return 0;
}

static int scene_teardown(void **state) {
        Scene *s = *state;

        unit_free(s->one);
        unit_free(s->tuned);
        unit_free(s->two);
        unit_free(s->live);
        unit_free(s->former);
        unit_free(s->reload);
        unit_free(s->content);
        unit_free(s->content_two);
        unit_free(s->files);
        unit_free(s->passive);
        unit_free(s->unable);
        unit_free(s->restarts);
        unit_free(s->job);
        free(s);
        return 0;
}

/* The base of all rows: systemd has not loaded the unit, there is neither assignment nor record, the view is
 * fresh. */
static Scene *scene(void **state) {
        Scene *s = *state;

        s->assignment = (ClusterAssignment) { .kind = ASSIGNMENT_RUN, .index = 20, .unit_index = 10 };
        s->unit = (ClusterUnit) { .unit = s->one, .index = 10 };
        s->record =
                (AssignmentRecord) { .kind = ASSIGNMENT_RUN, .unit = s->one, .index = 20, .unit_index = 10 };
        s->seen = (SystemdUnit) { .load = "not-found", .active = "inactive", .sub = "dead" };
        s->view = (AgentView) { .unit = &s->unit, .seen = &s->seen, .boot_id = boot_now, .fresh = true };
        return s;
}

static void in_force(Scene *s, const Unit *unit, const char *active) {
        snprintf(s->seen.load, sizeof(s->seen.load), "loaded");
        snprintf(s->seen.active, sizeof(s->seen.active), "%s", active);
        snprintf(s->seen.hash, sizeof(s->seen.hash), "%s", unit->hash);
        s->seen.owner = SYSTEMD_OURS;
        s->seen.has_file = true;
        snprintf(s->seen.fragment, sizeof(s->seen.fragment), "/run/fleet/units/web.service");
}

/* Whether our file exists is independent of this. */
static void conflicting(Scene *s, const char *active) {
        snprintf(s->seen.load, sizeof(s->seen.load), "loaded");
        snprintf(s->seen.active, sizeof(s->seen.active), "%s", active);
        snprintf(s->seen.fragment, sizeof(s->seen.fragment), "/etc/systemd/system/web.service");
        s->seen.owner = SYSTEMD_CONFLICTING;
}

static void assigned(Scene *s, AssignmentKind kind) {
        s->assignment.kind = kind;
        s->view.assignment = &s->assignment;
}

static void recorded(Scene *s, AssignmentKind kind, const char *started_boot) {
        s->record.kind = kind;
        snprintf(s->record.started_boot, sizeof(s->record.started_boot), "%s", started_boot);
        s->view.record = &s->record;
}

static void owned(Scene *s, const char *boot) {
        snprintf(s->record.owned_boot, sizeof(s->record.owned_boot), "%s", boot);
}

/* An assignment without a hash is of the unit key that it was planned on. */
static AgentStep planned(const Scene *s, AgentView view, const char **ret_reason) {
        if (!s->assignment.hash[0])
                view.text = view.unit && s->assignment.unit_index == s->unit.index ? s->unit.unit : NULL;
        return agent_plan(&view, ret_reason);
}

#define assert_step(s, expected)                                                             \
        do {                                                                                 \
                const char *reason_ = NULL;                                                  \
                assert_string_equal(agent_step_to_string(planned((s), (s)->view, &reason_)), \
                                    agent_step_to_string(expected));                         \
                assert_non_null(reason_);                                                    \
        } while (false)

static void assert_reason(const Scene *s, const char *expected) {
        const char *reason = NULL;

        (void) planned(s, s->view, &reason);
        assert_string_equal(reason, expected);
}

/* -- Rows -- */

static void no_step_is_planned_before_systemd_was_read(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        s->view.seen = NULL;
        assert_step(s, AGENT_NOTHING);
}

static void without_an_assignment_there_is_no_step(void **state) {
        Scene *s = scene(state);

        assert_step(s, AGENT_NOTHING);
        in_force(s, s->one, "active");
        recorded(s, ASSIGNMENT_RUN, boot_now);
        assert_step(s, AGENT_NOTHING);
}

static void an_assigned_unit_is_written_then_started(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        assert_step(s, AGENT_WRITE);
        assert_reason(s, "installing the unit file");
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_START);
}

/* The host has not executed the assignment before: its record is absent, or of a later one. */
static void the_first_step_after_a_restore_has_it_as_its_reason(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        in_force(s, s->one, "inactive");
        assert_reason(s, "assigned to run");
        s->view.inherited = true;
        assert_step(s, AGENT_START);
        assert_reason(s, "assigned to run before the cluster was restored or recovered");

        recorded(s, ASSIGNMENT_RUN, "");
        assert_reason(s, "assigned to run");
        s->record.unit = s->two;
        s->record.index = 30;
        in_force(s, s->two, "active");
        assert_step(s, AGENT_STOP);
        assert_reason(s, "the restored or recovered cluster has another text");
        s->view.inherited = false;
        assert_reason(s, "its text has changed");
}

static void a_text_that_systemd_has_not_read_is_not_started(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        in_force(s, s->one, "inactive");
        s->seen.need_reload = true;
        assert_step(s, AGENT_WRITE);
        s->seen.need_reload = false;
        snprintf(s->seen.load, sizeof(s->seen.load), "not-found");
        assert_step(s, AGENT_WRITE);
}

static void a_unit_that_runs_as_assigned_is_adopted(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        in_force(s, s->one, "active");
        assert_step(s, AGENT_ADOPT);
        in_force(s, s->one, "activating");
        assert_step(s, AGENT_ADOPT);

        in_force(s, s->one, "deactivating"); /* without a job: it ends by itself */
        assert_step(s, AGENT_ADOPT);
        s->seen.job = true;
        assert_step(s, AGENT_NOTHING);
        in_force(s, s->one, "inactive"); /* a job of another program */
        assert_step(s, AGENT_START);
}

static void a_started_unit_is_not_started_again(void **state) {
        static const char *const states[] = { "active", "inactive", "failed", "activating", "deactivating" };

        for (size_t i = 0; i < ELEMENTS(states); i++) {
                Scene *s = scene(state);

                assigned(s, ASSIGNMENT_RUN);
                recorded(s, ASSIGNMENT_RUN, boot_now);
                in_force(s, s->one, states[i]);
                assert_step(s, AGENT_NOTHING);
        }
}

static void a_new_boot_starts_units_that_have_not_completed(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_before);
        assert_step(s, AGENT_WRITE);
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_START);
        s->record.done = true;
        assert_step(s, AGENT_NOTHING);
}

static void a_newer_assignment_of_the_same_text_starts_again(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "inactive");
        s->assignment.index = 30;
        assert_step(s, AGENT_START);
        in_force(s, s->one, "active");
        assert_step(s, AGENT_ADOPT);
}

static void an_edit_of_the_x_fleet_section_touches_no_running_unit(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        s->unit.unit = s->tuned;
        s->unit.index = s->assignment.unit_index = 25;
        s->assignment.index = 26;
        assert_step(s, AGENT_WRITE);
        in_force(s, s->tuned, "active");
        assert_step(s, AGENT_RECORD);
        s->record.unit = s->tuned;
        s->record.index = 26;
        assert_step(s, AGENT_RECORD);
        s->record.unit_index = 25;
        assert_step(s, AGENT_NOTHING);
}

/* A rewrite in place keeps the time of the assignment; a stop and a start in between do not. */
static void a_job_that_has_ended_is_started_by_a_new_assignment_only(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "inactive");
        s->record.since_ms = s->assignment.since_ms = 1000;
        s->assignment.index = 30;
        assert_step(s, AGENT_RECORD);
        s->assignment.since_ms = 2000;
        assert_step(s, AGENT_START);
        s->assignment.unit_index = s->unit.index = 25;
        assert_step(s, AGENT_START);
}

static void a_text_that_is_not_known_here_is_waited_for(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        snprintf(s->assignment.hash, sizeof(s->assignment.hash), "%s", s->two->hash);
        s->assignment.index = 26;
        assert_step(s, AGENT_NOTHING);
        assert_reason(s, "its assigned text is not known here yet");
        s->view.text = s->two;
        assert_step(s, AGENT_STOP);
}

static void a_changed_text_is_stopped_written_and_started(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        s->unit.unit = s->two;
        s->unit.index = s->assignment.unit_index = 25;
        s->assignment.index = 26;
        assert_step(s, AGENT_STOP);
        s->record.started_boot[0] = 0;
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_WRITE);
        in_force(s, s->two, "inactive");
        assert_step(s, AGENT_START);
}

/* The record has the running text. */
static void a_changed_text_is_stopped_even_without_the_file_of_the_former_one(void **state) {
        static const SystemdOwner owners[] = { SYSTEMD_OURS, SYSTEMD_ABSENT };

        for (size_t i = 0; i < ELEMENTS(owners); i++) {
                Scene *s = scene(state);

                assigned(s, ASSIGNMENT_RUN);
                recorded(s, ASSIGNMENT_RUN, boot_now);
                owned(s, boot_now);
                in_force(s, s->one, "active");
                s->seen.owner = owners[i];
                s->seen.has_file = false;
                s->seen.hash[0] = 0;
                s->unit.index = s->assignment.unit_index = 25;
                s->assignment.index = 26;
                assert_step(s, AGENT_WRITE);
                s->unit.unit = s->tuned;
                assert_step(s, AGENT_WRITE);
                s->unit.unit = s->two;
                assert_step(s, AGENT_STOP);

                /* The call failed, or was lost. */
                s->record.unit = s->two;
                s->record.unit_index = 25;
                s->record.index = 26;
                s->record.started_boot[0] = 0;
                s->record.replacing = true;
                assert_step(s, AGENT_STOP);
                s->view.fresh = false;
                assert_step(s, AGENT_NOTHING);
                s->view.fresh = true;
                snprintf(s->seen.active, sizeof(s->seen.active), "inactive");
                assert_step(s, AGENT_WRITE);

                /* The reply to its start was lost: the new text runs. */
                recorded(s, ASSIGNMENT_RUN, boot_now);
                s->record.starting = true;
                snprintf(s->seen.active, sizeof(s->seen.active), "active");
                assert_step(s, AGENT_ADOPT);
        }
}

static void a_begun_replacement_is_finished_without_the_cluster(void **state) {
        Scene *s = scene(state);

        s->view.fresh = false;
        s->record.unit = s->two;
        s->record.replacing = s->record.finishing = true;
        recorded(s, ASSIGNMENT_RUN, "");
        in_force(s, s->one, "active");
        assert_step(s, AGENT_NOTHING); /* without the cluster no unit is stopped */
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_WRITE);
        in_force(s, s->two, "inactive");
        assert_step(s, AGENT_START);
        assert_reason(s, "finishing a replacement");
        s->view.stopping = true;
        assert_step(s, AGENT_NOTHING);
        s->view.stopping = false;
        s->view.removed = true;
        assert_step(s, AGENT_NOTHING);
        assert_reason(s, "this host was removed from the cluster");
        s->view.removed = false;

        /* Another daemon finishes it where all records are started. */
        s->record.finishing = false;
        assert_step(s, AGENT_NOTHING);
        s->view.use_records = true;
        assert_step(s, AGENT_START);
        in_force(s, s->two, "deactivating"); /* not before it has stopped */
        s->seen.job = true;
        assert_step(s, AGENT_NOTHING);
        s->seen.job = false;
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_WRITE);
        s->record.replacing = false;
        assert_reason(s, "assigned before, and no contact with the cluster");
        s->record.replacing = true;
        in_force(s, s->one, "active");
        assert_step(s, AGENT_NOTHING);
        s->view.use_records = false;

        /* A crash between the record and the call: the former text still runs. */
        s->record.replacing = s->view.fresh = true;
        in_force(s, s->one, "active");
        assigned(s, ASSIGNMENT_RUN);
        s->unit.unit = s->two;
        assert_step(s, AGENT_STOP);
}

static void a_conflicting_unit_is_refused_and_not_touched(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        conflicting(s, "active");
        assert_step(s, AGENT_REFUSE);
        assigned(s, ASSIGNMENT_LOAD);
        assert_step(s, AGENT_REFUSE);
        assigned(s, ASSIGNMENT_STOP);
        assert_step(s, AGENT_DONE);
}

/* An administrator put a file of that name over ours: the running unit is theirs. */
static void a_unit_that_the_host_replaced_is_never_stopped_and_only_our_file_is_removed(void **state) {
        Scene *s = scene(state);

        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        conflicting(s, "active");
        assigned(s, ASSIGNMENT_RUN);
        assert_step(s, AGENT_REFUSE);
        s->unit.unit = s->two; /* nor for another text */
        assert_step(s, AGENT_REFUSE);
        assigned(s, ASSIGNMENT_STOP);
        s->assignment.index = 30;
        assert_step(s, AGENT_REMOVE);
        s->view.record = NULL;
        assert_step(s, AGENT_REMOVE);
        s->seen.has_file = false;
        assert_step(s, AGENT_DONE);
}

/* An administrator masks the name, or puts a file over ours, and does not restart the unit: the running unit
 * was started here. */
static void a_running_unit_with_a_conflicting_file_stays_ours_until_it_has_stopped(void **state) {
        for (unsigned masked = 0; masked < 2; masked++) {
                Scene *s = scene(state);

                assigned(s, ASSIGNMENT_RUN);
                recorded(s, ASSIGNMENT_RUN, boot_now);
                in_force(s, s->one, "active");
                conflicting(s, "active");
                snprintf(s->seen.invocation_id, sizeof(s->seen.invocation_id), "%s", invocation_old);
                snprintf(s->record.invocation, sizeof(s->record.invocation), "%s", invocation_old);
                snprintf(s->seen.load, sizeof(s->seen.load), masked ? "masked" : "loaded");
                assert_false(agent_is_conflicting(&s->seen, &s->record, boot_now, false));
                assert_step(s, AGENT_NOTHING);
                s->view.fresh = false;
                assert_step(s, AGENT_NOTHING);
                s->view.fresh = true;
                assigned(s, ASSIGNMENT_STOP);
                s->assignment.index = 30;
                assert_step(s, AGENT_STOP);

                /* It has stopped: the name belongs to the host. */
                snprintf(s->seen.active, sizeof(s->seen.active), "inactive");
                assert_true(agent_is_conflicting(&s->seen, &s->record, boot_now, false));
                assert_step(s, AGENT_REMOVE);
                assigned(s, ASSIGNMENT_RUN);
                assert_step(s, AGENT_REFUSE);

                /* It was started in another boot, or not here. */
                snprintf(s->seen.active, sizeof(s->seen.active), "active");
                assert_true(agent_is_conflicting(&s->seen, &s->record, boot_before, false));
                assert_true(agent_is_conflicting(&s->seen, NULL, boot_now, false));

                /* It was restarted: the running unit is the administrator's. */
                snprintf(s->seen.invocation_id, sizeof(s->seen.invocation_id), "%032x", 2);
                assert_step(s, AGENT_REFUSE);
                s->record.invocation[0] = s->seen.invocation_id[0] = 0;
                assert_step(s, AGENT_REFUSE);
        }
}

static void a_name_from_another_source_conflicts_in_any_state(void **state) {
        static const struct {
                struct {
                        bool alias;
                        const char *load, *fragment;
                        bool our_file;
                } source;
                SystemdOwner owner;
        } rows[] = {
                { { false, "not-found", "", false }, SYSTEMD_ABSENT },
                { { false, "loaded", "/run/fleet/units/web.service", true }, SYSTEMD_OURS },
                { { false, "bad-setting", "/run/systemd/system/web.service", true }, SYSTEMD_OURS },
                { { false, "error", "", false },
                  SYSTEMD_ABSENT }, /* the owner of our unit whose file was removed while it ran */
                { { false, "loaded", "", false }, SYSTEMD_ABSENT },
                { { false, "loaded", "/usr/lib/systemd/system/web.service", false }, SYSTEMD_CONFLICTING },
                { { false, "bad-setting", "/usr/lib/systemd/system/web.service", false },
                  SYSTEMD_CONFLICTING },
                { { false, "error", "/usr/lib/systemd/system/web.service", false }, SYSTEMD_CONFLICTING },
                { { false, "masked", "/etc/systemd/system/web.service", false }, SYSTEMD_CONFLICTING },
                { { false, "masked", "", false }, SYSTEMD_CONFLICTING },
                { { true, "loaded", "/etc/systemd/system/realshop.service", false }, SYSTEMD_CONFLICTING },
                { { true, "loaded", "", false }, SYSTEMD_CONFLICTING },
                { { true, "loaded", "/run/fleet/units/web.service", true }, SYSTEMD_OURS },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                SystemdUnit unit = { .alias = rows[i].source.alias };

                snprintf(unit.load, sizeof(unit.load), "%s", rows[i].source.load);
                snprintf(unit.fragment, sizeof(unit.fragment), "%s", rows[i].source.fragment);
                if (systemd_owner(&unit, rows[i].source.our_file) != rows[i].owner)
                        fail_msg("row %zu", i);
        }
}

/* A file system that was mounted by hand, or a service of the host whose file was removed while it ran. */
static void a_running_unit_without_a_file_is_ours_only_if_it_was_started_here(void **state) {
        Scene *s = scene(state);

        snprintf(s->seen.load, sizeof(s->seen.load), "loaded");
        snprintf(s->seen.active, sizeof(s->seen.active), "active");
        assigned(s, ASSIGNMENT_RUN);
        assert_step(s, AGENT_REFUSE);
        assert_true(agent_is_conflicting(&s->seen, NULL, boot_now, false));
        assigned(s, ASSIGNMENT_STOP);
        assert_step(s, AGENT_DONE);
        recorded(s, ASSIGNMENT_RUN, "another boot");
        s->assignment.index = 30;
        assert_step(s, AGENT_REMOVE); /* of the record; no unit is stopped */

        /* Its file and its link were removed, and systemd was reloaded since. */
        recorded(s, ASSIGNMENT_RUN, boot_now);
        assert_false(agent_is_conflicting(&s->seen, &s->record, boot_now, false));
        assert_step(s, AGENT_STOP);
        assigned(s, ASSIGNMENT_RUN);
        assert_step(s, AGENT_WRITE);
        s->view.record = NULL;
        s->seen.has_file = true;
        assert_false(agent_is_conflicting(&s->seen, NULL, boot_now, false));

        /* Once it does not run, the name is free. */
        s->seen.has_file = false;
        snprintf(s->seen.active, sizeof(s->seen.active), "inactive");
        assert_step(s, AGENT_WRITE);
}

static void an_assignment_of_a_removed_unit_changes_nothing(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        s->view.unit = NULL;
        assert_step(s, AGENT_NOTHING);
}

static void an_unreadable_unit_key_keeps_no_assigned_text_from_starting(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        snprintf(s->assignment.hash, sizeof(s->assignment.hash), "%s", s->one->hash);
        recorded(s, ASSIGNMENT_RUN, "");
        in_force(s, s->one, "inactive");
        s->unit.unit = NULL; /* the entry has an unreadable key */
        s->view.text = s->one;
        assert_step(s, AGENT_START);
        s->view.text = NULL;
        assert_step(s, AGENT_NOTHING);
}

/* The engine assigns the new text when it is this host's turn. */
static void an_assignment_of_an_older_text_changes_nothing(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        s->unit.unit = s->two;
        s->unit.index = 25;
        assert_step(s, AGENT_NOTHING);
}

static void a_loaded_unit_is_started_although_its_x_fleet_section_has_changed(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_LOAD, boot_now); /* it ran before */
        in_force(s, s->tuned, "inactive");
        s->unit.unit = s->tuned;
        s->unit.index = s->assignment.unit_index = 25;
        s->assignment.index = 26;
        assert_step(s, AGENT_START);
}

static void load_writes_and_records_and_starts_nothing(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_LOAD);
        assert_step(s, AGENT_WRITE);
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_RECORD);
        recorded(s, ASSIGNMENT_LOAD, "");
        assert_step(s, AGENT_RECORD); /* its file is in force in this boot: a record of an earlier version
                                         does not have that */
        owned(s, boot_before);
        assert_step(s, AGENT_RECORD);
        owned(s, boot_now);
        assert_step(s, AGENT_NOTHING);
        s->record.stopping = true;
        assert_step(s, AGENT_RECORD);
        s->record.stopping = false;
        recorded(s, ASSIGNMENT_RUN, "");
        assert_step(s, AGENT_RECORD);
        recorded(s, ASSIGNMENT_LOAD, "");
        s->assignment.index = 21;
        assert_step(s, AGENT_RECORD);
}

/* A timer or a user started it. Only another request for its target state gives the assignment another time.
 */
static void a_loaded_unit_that_runs_is_stopped_by_another_request_only(void **state) {
        static const struct {
                uint64_t recorded, assigned;
                AgentStep step;
        } rows[] = { { 5, 5, AGENT_RECORD }, { 5, 6, AGENT_STOP }, { 0, 6, AGENT_RECORD } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Scene *s = scene(state);

                assigned(s, ASSIGNMENT_LOAD);
                in_force(s, s->one, "activating");
                recorded(s, ASSIGNMENT_LOAD, "");
                owned(s, boot_now);
                s->assignment.index = 21;
                s->record.since_ms = rows[i].recorded;
                s->assignment.since_ms = rows[i].assigned;
                assert_step(s, rows[i].step);
        }
}

/* A socket, a timer or a user started it, and its file and its link were removed since. */
static void a_loaded_unit_that_runs_is_ours_without_its_file(void **state) {
        Scene *s = scene(state);

        recorded(s, ASSIGNMENT_LOAD, "");
        owned(s, boot_now);
        snprintf(s->seen.load, sizeof(s->seen.load), "error");
        snprintf(s->seen.active, sizeof(s->seen.active), "active");
        assigned(s, ASSIGNMENT_LOAD);
        assert_false(agent_is_conflicting(&s->seen, &s->record, boot_now, false));
        assert_step(s, AGENT_WRITE);
        s->view.fresh = false;
        assert_step(s, AGENT_WRITE);
        s->view.fresh = true;
        assigned(s, ASSIGNMENT_STOP);
        s->assignment.index = 30;
        assert_step(s, AGENT_STOP);
        owned(s, boot_before);
        assert_true(agent_is_conflicting(&s->seen, &s->record, boot_now, false));
        assert_step(s, AGENT_REMOVE);
}

static void load_after_run_stops(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_LOAD);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        s->assignment.index = 19;
        assert_step(s, AGENT_RECORD); /* the assignment precedes the record */
        s->assignment.index = 21;
        assert_step(s, AGENT_STOP);
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_RECORD);
}

static void stop_stops_removes_and_reports(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_STOP);
        s->assignment.index = 30;
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        assert_step(s, AGENT_STOP);
        s->view.record = NULL; /* lost */
        assert_step(s, AGENT_STOP);
        s->seen.has_file = false;
        assert_step(s, AGENT_STOP);
        s->seen.owner = SYSTEMD_ABSENT; /* its link is gone */
        s->seen.has_file = true;
        assert_step(s, AGENT_STOP);
        in_force(s, s->one, "deactivating");
        assert_step(s, AGENT_STOP);
        in_force(s, s->one, "failed");
        assert_step(s, AGENT_REMOVE);
        s = scene(state);
        assigned(s, ASSIGNMENT_STOP);
        assert_step(s, AGENT_DONE);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        assert_step(s, AGENT_REMOVE);
}

/* The stop call failed, or was lost: the file is gone, so the record alone shows the owner. */
static void what_was_ordered_to_stop_is_ours_until_it_has_stopped_and_is_never_started_or_put_back(
        void **state) {
        for (unsigned boots = 0; boots < 2; boots++) {
                Scene *s = scene(state);

                recorded(s, ASSIGNMENT_LOAD, boots ? boot_before : boot_now);
                s->record.stopping = true;
                if (!boots) {
                        snprintf(s->seen.load, sizeof(s->seen.load), "error");
                        snprintf(s->seen.active, sizeof(s->seen.active), "active");
                        assigned(s, ASSIGNMENT_STOP);
                        s->assignment.index = 30;
                        assert_step(s, AGENT_STOP);
                        s->view.assignment = NULL;
                        assert_step(s, AGENT_NOTHING);
                }
                s->view.fresh = false;
                s->view.use_records = true;
                s->view.assignment = NULL;
                assert_step(s, AGENT_NOTHING);
                snprintf(s->seen.active, sizeof(s->seen.active), "inactive");
                s->record.stopped_for = true;
                assert_step(s, AGENT_NOTHING);

                /* The assignment is gone: another daemon reported its end, and died before the record was
                 * removed. */
                s->view.fresh = true;
                assert_step(s, AGENT_REMOVE);
                assigned(s, ASSIGNMENT_STOP);
                s->assignment.index = 30;
                assert_step(s, AGENT_REMOVE);

                /* It is assigned again. */
                assigned(s, ASSIGNMENT_RUN);
                assert_step(s, AGENT_WRITE);
                in_force(s, s->one, "active");
                assert_step(s, AGENT_ADOPT);
        }
}

static void an_older_stop_assignment_does_not_apply_to_a_newer_record(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_STOP);
        s->assignment.index = 19;
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        assert_step(s, AGENT_NOTHING);
}

static void no_unit_is_started_during_a_shutdown(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        in_force(s, s->one, "inactive");
        s->view.stopping = true;
        assert_step(s, AGENT_NOTHING);
        s->view.fresh = false;
        s->view.use_records = true;
        recorded(s, ASSIGNMENT_RUN, boot_before);
        assert_step(s, AGENT_NOTHING);
}

static void a_recorded_start_that_left_no_trace_is_made(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        s->record.starting = true;
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_START);

        /* systemd shows an earlier invocation. */
        snprintf(s->record.before, sizeof(s->record.before), "%s", invocation_old);
        snprintf(s->seen.invocation_id, sizeof(s->seen.invocation_id), "%s", invocation_old);
        assert_step(s, AGENT_START);
        in_force(s, s->one, "failed");
        assert_step(s, AGENT_START);
}

static void a_recorded_start_that_left_a_trace_is_not_made_twice(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        s->record.starting = true;
        in_force(s, s->one, "inactive");
        snprintf(s->seen.invocation_id, sizeof(s->seen.invocation_id), "%s", invocation_old);
        assert_step(s, AGENT_ADOPT); /* it ran, and has ended */
        s->seen.invocation_id[0] = 0;
        s->seen.job = true;
        assert_step(s, AGENT_ADOPT); /* it is queued */
        s->seen.job = false;
        in_force(s, s->one, "active");
        assert_step(s, AGENT_ADOPT); /* it runs */
        s->view.fresh = false;
        assert_step(s, AGENT_ADOPT);
        s->view.fresh = true;
        s->record.starting = false;
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_NOTHING); /* and that it ended on its own changes nothing */
}

static void without_the_cluster_only_units_that_the_boot_ended_are_started_after_the_wait(void **state) {
        Scene *s = scene(state);

        s->view.fresh = false;
        assigned(s, ASSIGNMENT_STOP); /* older than the record */
        s->assignment.index = 10;
        recorded(s, ASSIGNMENT_RUN, boot_before);
        assert_step(s, AGENT_NOTHING);
        s->view.use_records = true;
        assert_step(s, AGENT_WRITE);
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_START);
        in_force(s, s->one, "active");
        assert_step(s, AGENT_ADOPT);
        s->record.done = true;
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_NOTHING);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        s->record.done = false;
        in_force(s, s->one, "active");
        assert_step(s, AGENT_NOTHING);
        s->view.record = NULL;
        in_force(s, s->one, "inactive");
        assert_step(s, AGENT_NOTHING);
}

/* This replica has the assignment, and lost the cluster before it was executed: the unit may run elsewhere by
 * now. */
static void without_the_cluster_a_unit_with_a_newer_known_assignment_is_not_started(void **state) {
        static const AssignmentKind kinds[] = { ASSIGNMENT_STOP, ASSIGNMENT_LOAD };

        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                Scene *s = scene(state);

                s->view.fresh = false;
                assigned(s, kinds[i]);
                s->assignment.index = 30;

                /* A boot. */
                s->view.use_records = true;
                recorded(s, ASSIGNMENT_RUN, boot_before);
                assert_step(s, AGENT_NOTHING);
                in_force(s, s->one, "inactive");
                assert_step(s, AGENT_NOTHING);
                s->view.use_records = false;

                /* A replacement. */
                s->record.replacing = s->record.finishing = true;
                recorded(s, ASSIGNMENT_RUN, "");
                assert_step(s, AGENT_NOTHING);
                s->record.replacing = s->record.finishing = false;

                /* It was stopped because of another unit. */
                recorded(s, ASSIGNMENT_RUN, boot_now);
                s->seen.end = SYSTEMD_END_STOPPED_FOR;
                assert_step(s, AGENT_NOTHING);

                /* A running unit is not stopped. */
                in_force(s, s->one, "active");
                assert_step(s, AGENT_NOTHING);
                s->assignment.index = 19;
                in_force(s, s->one, "inactive");
                assert_step(s, AGENT_START);
        }
}

static void a_missing_file_or_link_is_restored(void **state) {
        static const AssignmentKind kinds[] = { ASSIGNMENT_RUN, ASSIGNMENT_LOAD };

        for (size_t i = 0; i < 2 * ELEMENTS(kinds); i++) {
                AssignmentKind kind = kinds[i % 2];
                Scene *s = scene(state);

                if (i < ELEMENTS(kinds))
                        assigned(s, kind);
                s->view.fresh = i < ELEMENTS(kinds);
                recorded(s, kind, kind == ASSIGNMENT_RUN ? boot_now : "");
                owned(s, boot_now);
                in_force(s, s->one, kind == ASSIGNMENT_RUN ? "active" : "inactive");
                assert_step(s, AGENT_NOTHING);
                snprintf(s->seen.load, sizeof(s->seen.load),
                         "not-found"); /* another program removed the link, and reloaded systemd */
                s->seen.owner = SYSTEMD_ABSENT;
                s->seen.fragment[0] = 0;
                assert_step(s, AGENT_WRITE);
                in_force(s, s->one, "active");
                snprintf(s->seen.load, sizeof(s->seen.load), "error"); /* the load state while it runs */
                if (kind == ASSIGNMENT_RUN)
                        assert_step(s, AGENT_WRITE);
                in_force(s, s->one, "inactive");
                snprintf(s->seen.load, sizeof(s->seen.load),
                         "error"); /* a unit that does not run has another error */
                assert_step(s, AGENT_NOTHING);
                in_force(s, s->one, kind == ASSIGNMENT_RUN ? "active" : "inactive");
                s->seen.has_file = false;
                s->seen.hash[0] = 0;
                assert_step(s, AGENT_WRITE);
                s->record.done = kind == ASSIGNMENT_RUN; /* other units may name one that has completed */
                assert_step(s, AGENT_WRITE);
        }
}

static void a_unit_that_succeeded_has_completed_once_its_job_has_ended(void **state) {
        Scene *s = scene(state);

        in_force(s, s->one, "inactive");
        recorded(s, ASSIGNMENT_RUN, boot_now);
        snprintf(s->seen.result, sizeof(s->seen.result), "success");
        s->seen.end = SYSTEMD_END_ITSELF;
        assert_true(agent_is_done(&s->record, &s->seen, boot_now, true));
        assert_false(agent_is_done(&s->record, &s->seen, boot_now, false));
        assert_false(agent_is_done(&s->record, &s->seen, boot_before, true));
        assert_false(agent_is_done(NULL, &s->seen, boot_now, true));
        s->seen.job = true;
        assert_false(agent_is_done(&s->record, &s->seen, boot_now, true));
        s->seen.job = false;
        s->record.starting = true;
        assert_false(agent_is_done(&s->record, &s->seen, boot_now, true));
        s->record.starting = false;
        snprintf(s->seen.result, sizeof(s->seen.result), "exit-code");
        assert_false(agent_is_done(&s->record, &s->seen, boot_now, true));
        s->record.done = true;
        assert_true(agent_is_done(&s->record, &s->seen, boot_before, false));
        s->record.kind = ASSIGNMENT_LOAD;
        assert_false(agent_is_done(&s->record, &s->seen, boot_now, true));
}

/* The unit has completed under the assignment by the state that this host published, and there is no record.
 */
static void a_published_completion_replaces_a_lost_record(void **state) {
        Scene *s = scene(state);
        ClusterState published = { .state = { .done = true, .hash = s->one->hash }, .index = 21 };

#define assert_completed(expected)                                                                          \
        assert_int_equal(agent_has_completed_before(s->view.assignment, s->one, &published, s->view.record, \
                                                    &s->seen),                                              \
                         expected)
        assert_completed(false);
        assigned(s, ASSIGNMENT_RUN);
        assert_completed(true);
        assert_false(agent_has_completed_before(&s->assignment, s->one, NULL, NULL, &s->seen));
        assert_false(agent_has_completed_before(&s->assignment, NULL, &published, NULL, &s->seen));
        published.state.hash = NULL;
        assert_completed(true);
        published.state.hash = s->two->hash;
        assert_completed(false);
        published.state.hash = s->one->hash;
        published.state.done = false;
        assert_completed(false);
        published.state.done = true;
        published.index = 19; /* of an earlier assignment */
        assert_completed(false);
        published.index = 21;
        assigned(s, ASSIGNMENT_LOAD);
        assert_completed(false);
        assigned(s, ASSIGNMENT_RUN);

        s->seen.job = true;
        assert_completed(false);
        s->seen.job = false;
        in_force(s, s->one, "failed");
        assert_completed(false);
        in_force(s, s->one, "active");
        assert_completed(false);
        in_force(s, s->one, "inactive");
        assert_completed(true);

        recorded(s, ASSIGNMENT_RUN, boot_now); /* started, and restarted after the backup, or the next time */
        s->record.done = true;
        assert_completed(false);
        s->record.index = 19;
        assert_completed(false);
        s->record.index = 30;
        assert_completed(true);
        s->record.unit = s->tuned;
        assert_completed(true);
        s->record.unit = s->two;
        assert_completed(false);
        s->record.unit = s->one;
        s->record.done = false;
        assert_completed(false);
        s->record.done = true;
        s->record.kind = ASSIGNMENT_LOAD;
        assert_completed(false);
#undef assert_completed
}

static void a_stopped_or_skipped_unit_has_not_completed(void **state) {
        static const struct {
                SystemdEnd end;
                bool oneshot, held, ran, done;
        } rows[] = {
                { SYSTEMD_END_ITSELF, false, false, true, true },
                { SYSTEMD_END_ITSELF, true, false, false, true },
                { SYSTEMD_END_STOPPED, false, false, true, false },
                { SYSTEMD_END_STOPPED, true, false, true, false },
                { SYSTEMD_END_STOPPED_FOR, false, true, true, false },
                { SYSTEMD_END_SKIPPED, true, false, true, false },
                { SYSTEMD_END_FAILED, false, false, true, false },
                { SYSTEMD_END_FAILED, true, false, true, false },
                { SYSTEMD_END_UNKNOWN, false, false, true, false }, /* Restart=always, perhaps; a file does
                                                                       not show how it ended */
                { SYSTEMD_END_UNKNOWN, true, false, true, true },
                { SYSTEMD_END_UNKNOWN, true, true, true, false },
                { SYSTEMD_END_UNKNOWN, true, false, false, false }, /* perhaps it never began */
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Scene *s = scene(state);

                in_force(s, s->one, "inactive");
                recorded(s, ASSIGNMENT_RUN, boot_now);
                s->seen.end = rows[i].end;
                s->seen.oneshot = rows[i].oneshot;
                s->seen.held = rows[i].held;
                s->record.ran = rows[i].ran;
                assert_int_equal(agent_is_done(&s->record, &s->seen, boot_now, true), rows[i].done);
        }
}

static void a_unit_stopped_because_of_another_one_is_started_again_when_that_runs(void **state) {
        for (unsigned fresh = 0; fresh < 2; fresh++) {
                Scene *s = scene(state);

                s->view.fresh = fresh;
                assigned(s, ASSIGNMENT_RUN);
                recorded(s, ASSIGNMENT_RUN, boot_now);
                in_force(s, s->one, "inactive");
                s->seen.end = SYSTEMD_END_STOPPED_FOR;
                s->seen.held = true;
                assert_step(s, AGENT_NOTHING);
                s->seen.held = false;
                assert_step(s, AGENT_START);
                s->view.stopping = true;
                assert_step(s, AGENT_NOTHING);
                s->view.stopping = false;
                s->seen.job = true;
                assert_step(s, AGENT_NOTHING);
                s->seen.job = false;
                s->seen.end = SYSTEMD_END_STOPPED; /* by hand */
                assert_step(s, AGENT_NOTHING);

                /* A new daemon has not observed it. */
                s->seen.end = SYSTEMD_END_UNKNOWN;
                assert_step(s, AGENT_NOTHING);
                s->record.stopped_for = true;
                assert_step(s, AGENT_START);
                s->seen.held = true;
                assert_step(s, AGENT_NOTHING);
                s->record.stopped_for = false;
                assert_true(agent_is_stopped_for(&s->record, &s->seen, boot_now));
                s->record.stopped = true; /* the previous daemon has observed that it was by hand */
                assert_false(agent_is_stopped_for(&s->record, &s->seen, boot_now));
                s->record.stopped = false;

                s->seen.held = false;
                s->record.stopped_for = true;
                assert_step(s, AGENT_START);
                s->record.done = true;
                assert_step(s, AGENT_NOTHING);
                assert_false(agent_is_stopped_for(&s->record, &s->seen, boot_now));
                s->record.done = false;
                assert_true(agent_is_stopped_for(&s->record, &s->seen, boot_now));
                assert_false(agent_is_stopped_for(&s->record, &s->seen, boot_before));
                s->record.starting = true;
                assert_false(agent_is_stopped_for(&s->record, &s->seen, boot_now));
                s->record.starting = false;
                snprintf(s->seen.active, sizeof(s->seen.active), "active");
                assert_false(agent_is_stopped_for(&s->record, &s->seen, boot_now));
        }
}

static void a_skipped_unit_is_started_only_by_a_new_assignment_or_text(void **state) {
        static const char *const jobs[] = { "condition", "assert", "unsupported" };

        for (unsigned i = 0; i < 2 * 3 * ELEMENTS(jobs); i++) {
                Scene *s = scene(state);

                s->view.fresh = i % 2;
                assigned(s, ASSIGNMENT_RUN);
                recorded(s, ASSIGNMENT_RUN, boot_now);
                in_force(s, s->one, "inactive");
                s->seen.end = (SystemdEnd[]) { SYSTEMD_END_UNKNOWN, SYSTEMD_END_SKIPPED,
                                               SYSTEMD_END_STOPPED_FOR }[i / 2 % 3];
                snprintf(s->record.job, sizeof(s->record.job), "%s", jobs[i / 6]);
                s->record.stopped_for = true;
                assert_step(s, AGENT_NOTHING);
                assert_false(agent_is_stopped_for(&s->record, &s->seen, boot_now));
                s->seen.held = true;
                assert_false(agent_is_stopped_for(&s->record, &s->seen, boot_now));
                s->seen.held = false;

                s->view.fresh = true;
                s->assignment.index++;
                assert_step(s, AGENT_START);
                s->assignment.index--;
                s->unit.unit = s->two;
                assert_step(s, AGENT_WRITE);
        }
}

static void a_unit_that_failed_with_its_dependency_waits_for_it(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "inactive");
        for (unsigned i = 0; i < 4; i++) {
                bool known = i % 2 == 0;

                s->seen.end = known ? SYSTEMD_END_STOPPED_FOR : SYSTEMD_END_UNKNOWN;
                s->seen.oneshot = true;
                s->record.stopped_for = !known;
                snprintf(s->record.job, sizeof(s->record.job), "%s", i < 2 ? "dependency" : "timeout");
                s->seen.held = false;
                assert_step(s, AGENT_START);
                s->seen.held = true;
                assert_step(s, AGENT_NOTHING);
        }

        /* A oneshot unit that was observed running meanwhile may have completed. */
        s->seen.held = false;
        s->record.ran = true;
        assert_step(s, AGENT_NOTHING);
}

/* -- Traces: signals of systemd, and how a unit ended -- */

static const SystemdChange change_runs = { .active = "active", .condition = true, .checked_us = 100 };

static SystemdEnd end_of(const SystemdChange *changes, size_t n, bool killed, bool with_target) {
        SystemdTrace t = {};

        systemd_trace_change(&t, &change_runs);
        t.killed = killed;
        if (with_target)
                t.with_target = true;
        for (size_t i = 0; i < n; i++)
                systemd_trace_change(&t, &changes[i]);
        return t.end;
}

static void an_end_without_a_job_is_the_units_own_and_one_with_a_job_is_a_stop(void **state) {
        const SystemdChange itself = {
                .active = "inactive", .checked_us = 100, .left_us = 200, .ended_us = 200, .condition = true
        };
        const SystemdChange stop[] = {
                { .active = "deactivating", .job = 7, .checked_us = 100, .left_us = 200, .condition = true },
                { .active = "inactive",
                  .job = 7,
                  .checked_us = 100,
                  .left_us = 200,
                  .ended_us = 210,
                  .condition = true },
                { .active = "inactive",
                  .checked_us = 100,
                  .left_us = 200,
                  .ended_us = 210,
                  .condition = true },
                { .active = "inactive" }, /* systemd has unloaded it, and loaded it again */
        };
        const SystemdChange oneshot[] = {
                { .active = "activating", .job = 8, .checked_us = 300, .left_us = 0, .condition = true },
                { .active = "deactivating", .job = 8, .checked_us = 300, .left_us = 0, .condition = true },
                { .active = "inactive",
                  .job = 8,
                  .checked_us = 300,
                  .left_us = 0,
                  .ended_us = 310,
                  .condition = true },
        };
        const SystemdChange again[] = {
                itself, { .active = "inactive", .job = 9, .checked_us = 400, .left_us = 200, .ended_us = 200 }
        };

        assert_int_equal(end_of(&itself, 1, false, false), SYSTEMD_END_ITSELF);
        assert_int_equal(end_of(&itself, 1, true, false), SYSTEMD_END_STOPPED);
        for (size_t i = 2; i <= ELEMENTS(stop); i++)
                assert_int_equal(end_of(stop, i, false, false), SYSTEMD_END_STOPPED);
        assert_int_equal(end_of(stop, 2, false, true), SYSTEMD_END_STOPPED_FOR);
        assert_int_equal(end_of(oneshot, ELEMENTS(oneshot), false, false), SYSTEMD_END_ITSELF);
        assert_int_equal(end_of(again, 2, false, false), SYSTEMD_END_SKIPPED);
        assert_int_equal(end_of(&change_runs, 1, false, false), SYSTEMD_END_UNKNOWN);
}

static void a_service_that_its_exec_condition_rejected_was_skipped(void **state) {
        const SystemdChange begins = {
                .active = "activating", .job = 8, .checked_us = 300, .condition = true
        };
        const SystemdChange ends = {
                .active = "inactive", .job = 8, .checked_us = 300, .ended_us = 310, .condition = true
        };

        for (unsigned seen = 0; seen < 2; seen++) { /* systemd may report both at once */
                SystemdTrace t = {};

                if (seen)
                        systemd_trace_change(&t, &begins);
                t.skipped = true;
                systemd_trace_change(&t, &ends);
                assert_int_equal(t.end, SYSTEMD_END_SKIPPED);
                systemd_trace_change(&t, &change_runs);
                assert_false(t.skipped);
        }
}

static void a_unit_stopped_before_it_was_active_has_not_ended_by_itself(void **state) {
        const SystemdChange begins = {
                .active = "activating", .job = 8, .checked_us = 300, .condition = true
        };
        const SystemdChange stop[] = {
                { .active = "deactivating", .job = 9, .checked_us = 300, .condition = true },
                { .active = "inactive", .checked_us = 300, .ended_us = 310, .condition = true },
        };

        for (unsigned at_once = 0; at_once < 2; at_once++) {
                SystemdTrace t = {};

                systemd_trace_job_canceled(&t, 50); /* one of a start that had not begun */
                systemd_trace_change(&t, &begins);
                systemd_trace_job_canceled(&t, 305);
                if (at_once)
                        t.by_job = true;
                else
                        systemd_trace_change(&t, &stop[0]);
                systemd_trace_change(&t, &stop[1]);
                assert_int_equal(t.end, SYSTEMD_END_STOPPED);
                assert_true(t.undecided);
                assert_int_equal(t.stopped_us, 305);

                /* The next start is a new one. */
                systemd_trace_change(&t, &begins);
                systemd_trace_change(&t, &(SystemdChange) { .active = "inactive",
                                                            .job = 10,
                                                            .checked_us = 300,
                                                            .ended_us = 410,
                                                            .condition = true });
                assert_int_equal(t.end, SYSTEMD_END_ITSELF);
        }
}

static void a_job_canceled_before_the_unit_was_active_is_not_a_stop(void **state) {
        const SystemdChange ends = {
                .active = "inactive", .job = 10, .checked_us = 100, .ended_us = 410, .condition = true
        };
        SystemdTrace t = {};

        systemd_trace_change(
                &t,
                &(SystemdChange) { .active = "activating", .job = 8, .checked_us = 100, .condition = true });
        systemd_trace_job_canceled(&t, 305);
        systemd_trace_change(&t, &change_runs);
        systemd_trace_change(&t, &ends);
        assert_int_equal(t.end, SYSTEMD_END_ITSELF);
}

static void an_end_is_that_of_the_last_start_and_is_not_known_once_signals_were_lost(void **state) {
        const SystemdChange itself = {
                .active = "inactive", .checked_us = 100, .left_us = 200, .ended_us = 200, .condition = true
        };
        SystemdTrace t = {};

        systemd_trace_change(&t, &change_runs);
        systemd_trace_begin(&t);
        systemd_trace_change(&t, &itself);
        assert_int_equal(t.end, SYSTEMD_END_ITSELF);
        systemd_trace_begin(&t);
        assert_int_equal(t.end, SYSTEMD_END_UNKNOWN);

        systemd_trace_change(&t, &change_runs);
        t.running = false;
        systemd_trace_change(&t, &itself);
        assert_int_equal(t.end, SYSTEMD_END_UNKNOWN);
}

static void the_latest_moves_are_known(void **state) {
        SystemdMove *m = NULL;

        systemd_moves_add(&m, "app.service", 100, 0);
        assert_true(systemd_moves_have(m, "app.service", 100, 0));
        assert_false(systemd_moves_have(m, "app.service", 101, 0));
        assert_false(systemd_moves_have(m, "side.service", 0, 0));
        for (unsigned i = 0; i < 2 * SYSTEMD_MOVES_MAX; i++)
                systemd_moves_add(&m, "other.service", 200 + i, 0);
        assert_true(systemd_moves_have(m, "app.service", 100, 0));
        assert_true(systemd_moves_have(m, "other.service", 200 + SYSTEMD_MOVES_MAX, 0));
        for (unsigned i = 1; i < SYSTEMD_MOVES_MAX; i++) {
                char name[32];

                snprintf(name, sizeof(name), "side@%u.service", i);
                systemd_moves_add(&m, name, 300, 0);
        }
        assert_false(systemd_moves_have(m, "app.service", 100, 0)); /* the oldest */
        assert_true(systemd_moves_have(m, "other.service", 200, 0));
        systemd_moves_clear(&m);
        assert_false(systemd_moves_have(m, "other.service", 0, 0));
}

static void what_precedes_the_start_of_a_unit_is_no_cause_of_its_stop(void **state) {
        static const char *const begins[] = { "activating", "active" };
        SystemdMove *m = NULL;

        systemd_moves_add(&m, "before.service", 100, 4);
        systemd_moves_add(&m, "after.service", 100, 6);
        for (size_t i = 0; i < ELEMENTS(begins); i++) {
                SystemdTrace t = {};

                systemd_trace_change(&t, &(SystemdChange) { .signal = 5, .active = begins[i] });
                systemd_trace_change(&t, &(SystemdChange) { .signal = 7, .active = "active" });
                assert_false(systemd_moves_have(m, "before.service", 50, t.begun_signal));
                assert_true(systemd_moves_have(m, "after.service", 50, t.begun_signal));
                systemd_trace_change(&t,
                                     &(SystemdChange) { .signal = 8, .active = "inactive", .ended_us = 90 });
                systemd_trace_change(&t, &(SystemdChange) { .signal = 9, .active = begins[i] });
                assert_false(systemd_moves_have(m, "after.service", 50, t.begun_signal));
                /* Not observed before its stop: what caused it may precede all signals about it. */
                t = (SystemdTrace) {};
                systemd_trace_change(&t, &(SystemdChange) { .signal = 9, .active = "deactivating" });
                assert_true(systemd_moves_have(m, "before.service", 50, t.begun_signal));
        }
        systemd_moves_clear(&m);
}

static void units_that_changed_caused_the_stop_and_any_unit_if_none_is_known(void **state) {
        SystemdTrace t = {};

        assert_true(systemd_trace_may_be_for(&t, "app.service"));
        systemd_trace_stopped_for(&t, "app.service");
        assert_int_equal(t.end, SYSTEMD_END_STOPPED_FOR);
        assert_true(systemd_trace_may_be_for(&t, "app.service"));
        assert_false(systemd_trace_may_be_for(&t, "setup.service"));
        for (unsigned i = 0; i < 2 * SYSTEMD_MOVERS; i++)
                systemd_trace_stopped_for(&t, "other.service");
        assert_true(systemd_trace_may_be_for(&t, "setup.service")); /* more than are kept */
        systemd_trace_running(&t, 0, false);
        assert_int_equal(t.n_movers, 0);
}

static void a_former_text_that_was_started_again_during_its_replacement_is_stopped_by_order_alone(
        void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, "");
        in_force(s, s->one, "active");
        s->record.replacing = s->view.outdated = true;
        assert_step(s, AGENT_STOP);
        s->view.fresh = false;
        s->view.use_records = true;
        assert_step(s, AGENT_NOTHING);
        s->view.fresh = true;
        s->record.replacing = false; /* the running text may be the assigned one */
        assert_step(s, AGENT_ADOPT);
}

static void a_unit_that_is_to_stop_unless_it_runs_goes_on(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_STOP);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->unit.unit, "active");
        assert_step(s, AGENT_STOP);
        s->assignment.unless_running = true;
        assert_step(s, AGENT_NOTHING);
        assert_reason(s, "it runs here and elsewhere: waiting for the cluster to decide");
        in_force(s, s->unit.unit, "reloading");
        assert_step(s, AGENT_NOTHING);
        in_force(s, s->unit.unit, "refreshing");
        assert_step(s, AGENT_NOTHING);
        in_force(s, s->unit.unit, "activating"); /* it has ended */
        assert_step(s, AGENT_STOP);
        in_force(s, s->unit.unit, "inactive");
        assert_step(s, AGENT_REMOVE);
        in_force(s, s->unit.unit, "failed");
        assert_step(s, AGENT_REMOVE);
        recorded(s, ASSIGNMENT_RUN, boot_before); /* nothing of this boot has started it */
        in_force(s, s->unit.unit, "active");
        assert_step(s, AGENT_STOP);
        recorded(s, ASSIGNMENT_LOAD, boot_now);
        assert_step(s, AGENT_STOP);

        recorded(s, ASSIGNMENT_RUN, boot_now);
        assigned(s, ASSIGNMENT_RUN);
        s->assignment.index++;
        s->assignment.since_ms++;
        assert_step(s, AGENT_ADOPT);
}

static void a_unit_that_stops_alone_waits_for_the_cluster(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/one\n[X-Fleet]\nOnPartition=stop\n";
        Scene *s = scene(state);
        Unit *alone = unit_of(text);

        s->record.unit = s->unit.unit = alone;
        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, alone, "active");
        s->view.fresh = false;
        s->view.alone_ms = STOP_AFTER_MS - 1;
        assert_step(s, AGENT_NOTHING);
        s->view.alone_ms = STOP_AFTER_MS;
        assert_step(s, AGENT_STOP);
        assert_reason(s, "no contact with the cluster for StopAfterSec= (OnPartition=stop)");
        s->view.assignment = NULL; /* the daemon was restarted */
        assert_step(s, AGENT_STOP);
        in_force(s, alone, "deactivating");
        s->seen.job = true;
        assert_step(s, AGENT_NOTHING);
        s->seen.job = false;
        conflicting(s, "active");
        assert_step(s, AGENT_NOTHING);

        /* Stopped. Records start it neither now nor after a boot. */
        in_force(s, alone, "inactive");
        recorded(s, ASSIGNMENT_RUN, "");
        s->view.use_records = true;
        assert_step(s, AGENT_NOTHING);
        assert_reason(s, "waiting for the cluster (OnPartition=stop)");
        s->seen.has_file = false;
        assert_step(s, AGENT_NOTHING);

        in_force(s, alone, "inactive");
        assigned(s, ASSIGNMENT_RUN);
        s->view.fresh = true;
        s->view.alone_ms = 0;
        assert_step(s, AGENT_START);
        unit_free(alone);
}

/* An edit was reverted before its file was written, or systemd has read the former text again. */
static void a_running_unit_is_not_outdated_when_another_text_than_the_recorded_is_assigned(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, "");
        in_force(s, s->one, "active");
        s->record.unit = s->two;
        s->record.replacing = s->view.outdated = true;
        assert_step(s, AGENT_ADOPT);
        s->record.unit = s->one;
        assert_step(s, AGENT_STOP);
}

/* -- Every combination -- */

typedef void (*Judge)(Scene *s, AgentStep step);

/* Return the next digit of 'n' in base 'of'. */
static unsigned digit(uint64_t *n, unsigned of) {
        unsigned d = *n % of;

        *n /= of;
        return d;
}

static bool scene_number(Scene *s, uint64_t n) {
        static const char *const states[] = { "active", "inactive", "failed", "activating" };
        const Unit *texts[] = { s->one, s->tuned, s->two };
        uint64_t number = n;
        unsigned order = digit(&n, 4), unit = digit(&n, 4), file = digit(&n, 4), record = digit(&n, 3),
                 boot = digit(&n, 3);
        const char *active = states[digit(&n, ELEMENTS(states))];

        s->assignment.index = 19 + digit(&n, 3); /* before, equal to, after the record */
        s->assignment.unit_index = 10 + digit(&n, 2);
        s->unit.unit = unit > 0 ? (Unit *) texts[unit - 1] : NULL;
        s->view.unit = unit > 0 ? &s->unit : NULL;
        if (file > 0)
                in_force(s, texts[file - 1], active);
        if (digit(&n, 2))
                conflicting(s, active);
        if (digit(&n, 2))
                snprintf(s->seen.invocation_id, sizeof(s->seen.invocation_id), "%s", invocation_old);
        if (order > 0)
                assigned(s,
                         (AssignmentKind[]) { ASSIGNMENT_RUN, ASSIGNMENT_LOAD, ASSIGNMENT_STOP }[order - 1]);
        if (record > 0)
                recorded(s, record == 1 ? ASSIGNMENT_RUN : ASSIGNMENT_LOAD,
                         (const char *[]) { "", boot_before, boot_now }[boot]);
        s->record.starting = digit(&n, 2);
        s->record.done = digit(&n, 2);
        s->seen.need_reload = digit(&n, 2);
        s->seen.job = digit(&n, 2);
        s->seen.end = number * 7 / 3 % 6;
        s->seen.held = number * 11 / 5 % 2;
        s->record.replacing = number * 17 / 11 % 2;
        s->view.outdated = number * 37 / 29 % 2;
        s->record.finishing = s->record.replacing && number * 19 / 13 % 2;
        s->record.stopped_for = number * 13 / 7 % 2;
        if (number * 31 / 23 % 2)
                owned(s, boot_now);
        s->record.stopping = s->record.kind == ASSIGNMENT_LOAD && number * 29 / 19 % 2;
        if (number * 23 / 17 % 2)
                snprintf(s->record.invocation, sizeof(s->record.invocation), "%s", invocation_old);
        s->view.fresh = digit(&n, 2);
        s->view.use_records = digit(&n, 2);
        s->view.stopping = digit(&n, 2);
        s->view.removed = s->view.use_records && number * 41 / 37 % 2;
        return n == 0;
}

static void for_each_scene(void **state, Judge judge) {
        /* A stride that is coprime to the bases of the digits visits the same number of scenes with each
         * value. */
        const unsigned stride = test_size(7, 1, 1);
        uint64_t n = 0;

        for (;; n += stride) {
                Scene *s = scene(state);
                const char *reason;

                if (!scene_number(s, n))
                        break;
                judge(s, planned(s, s->view, &reason));
        }
        assert_true(n > 1000000);
}

static void judge_stop(Scene *s, AgentStep step) {
        bool newer = s->view.record && s->view.assignment && s->assignment.index > s->record.index;
        bool ordered_to_stop = s->view.assignment && s->assignment.kind == ASSIGNMENT_STOP &&
                               (!s->view.record || s->assignment.index >= s->record.index);
        bool changed = s->view.assignment && s->assignment.kind != ASSIGNMENT_STOP && s->unit.unit &&
                       !streq(s->seen.hash, s->unit.unit->hash) &&
                       (s->view.record ?
                                s->record.replacing || !unit_runs_same(s->record.unit, s->unit.unit) :
                                s->seen.has_file);
        bool outdated = s->view.record && s->record.replacing && s->view.outdated && s->view.assignment &&
                        s->assignment.kind == ASSIGNMENT_RUN && s->unit.unit &&
                        unit_runs_same(s->record.unit, s->unit.unit);

        if (step != AGENT_STOP)
                return;
        assert_true(s->view.fresh);
        assert_true(
                ordered_to_stop || changed || outdated ||
                (s->assignment.kind == ASSIGNMENT_LOAD && (newer || (s->view.record && s->record.stopping))));
}

static void no_unit_is_stopped_without_a_newer_assignment_or_a_changed_text(void **state) {
        for_each_scene(state, judge_stop);
}

static void judge_foreign(Scene *s, AgentStep step) {
        bool started = s->view.record &&
                       (streq(s->record.started_boot, boot_now) || streq(s->record.owned_boot, boot_now)) &&
                       agent_is_started(&s->seen);
        bool same = s->seen.invocation_id[0] && streq(s->record.invocation, s->seen.invocation_id);

        if (s->seen.owner != SYSTEMD_CONFLICTING)
                return;
        if (started && same) { /* it still runs under the name of another file */
                assert_true(step != AGENT_REFUSE && step != AGENT_START);
                return;
        }
        assert_true(step == AGENT_NOTHING || step == AGENT_REFUSE || step == AGENT_DONE ||
                    step == AGENT_REMOVE);
        if (step == AGENT_REMOVE)
                assert_true((s->view.assignment && s->assignment.kind == ASSIGNMENT_STOP &&
                             (s->view.record || s->seen.has_file)) ||
                            (s->view.fresh && s->view.record && s->record.stopping));
}

static void a_conflicting_unit_is_never_written_started_or_stopped(void **state) {
        for_each_scene(state, judge_foreign);
}

static void judge_start(Scene *s, AgentStep step) {
        if ((step == AGENT_START || step == AGENT_WRITE) && s->record.stopping && s->view.record)
                assert_true(s->view.fresh && s->view.assignment && s->assignment.kind != ASSIGNMENT_STOP);
        if (step != AGENT_START)
                return;
        assert_false(s->view.stopping);
        assert_false(s->view.removed && !(s->view.fresh && s->view.assignment));
        assert_false(streq(s->seen.active, "active") || streq(s->seen.active, "activating"));
        if (s->view.assignment && (s->view.fresh || s->assignment.index > s->record.index))
                assert_int_equal(s->assignment.kind, ASSIGNMENT_RUN);
        else /* or systemd stopped it in this boot because of another unit */
                assert_true(s->view.record && s->record.kind == ASSIGNMENT_RUN &&
                            (s->view.use_records || s->record.finishing ||
                             agent_is_stopped_for(&s->record, &s->seen, boot_now)));
        assert_true(s->seen.has_file && !s->seen.need_reload);
}

static void only_assigned_and_written_units_that_do_not_run_are_started(void **state) {
        for_each_scene(state, judge_start);
}

/* -- Lives: steps executed on a small systemd, with a crash in one of them -- */

typedef struct Life {
        AssignmentRecord record;
        bool has_record;
        SystemdUnit seen;
        bool loses_invocations; /* systemd unloads a unit that has stopped */
        unsigned starts, stops, reloads, invocations;
        char reloaded[UNIT_HASH_SIZE]; /* the text in force at the last reload of the process */
} Life;

static void life_stop(Life *l, Scene *s, unsigned parts) {
        const Unit *unit = s->unit.unit;

        if (parts < 1)
                return;
        if (s->assignment.kind != ASSIGNMENT_RUN) {
                l->record.kind = ASSIGNMENT_LOAD;
                l->record.stopping = true;
        } else {
                l->record.replacing = !unit_runs_same(l->record.unit, unit) ||
                                      l->record.inputs < s->assignment.inputs;
                l->record.unit = (Unit *) unit;
                l->record.index = s->assignment.index;
                l->record.unit_index = s->assignment.unit_index;
                l->record.started_boot[0] = 0;
                l->record.starting = false;
        }
        if (parts < 2)
                return;
        l->stops++;
        snprintf(l->seen.active, sizeof(l->seen.active), "inactive");
        if (l->loses_invocations)
                l->seen.invocation_id[0] = 0;
}

/* A step has up to three parts: record, call, reply. 'parts': how many happen before the daemon dies. */
static void life_step(Life *l, Scene *s, AgentStep step, unsigned parts) {
        const Unit *unit = s->unit.unit;

        switch (step) {
        case AGENT_RECORD:
        case AGENT_ADOPT:
        case AGENT_START:
                if (parts < 1)
                        return;
                if (!l->has_record)
                        l->record = (AssignmentRecord) {};
                l->has_record = true;
                l->record.kind = s->assignment.kind;
                l->record.stopping = false;
                l->record.unit = (Unit *) unit;
                l->record.index = s->assignment.index;
                l->record.unit_index = s->assignment.unit_index;
                if (step == AGENT_START)
                        l->record.inputs = s->view.content;
                else if (l->record.inputs == 0) /* not known */
                        l->record.inputs = s->assignment.inputs;
                if (step != AGENT_RECORD) {
                        l->record.replacing = false;
                        snprintf(l->record.started_boot, sizeof(l->record.started_boot), "%s", boot_now);
                        l->record.starting = step == AGENT_START;
                        snprintf(l->record.before, sizeof(l->record.before), "%s",
                                 step == AGENT_START ? l->seen.invocation_id : "");
                }
                if (step != AGENT_START || parts < 2)
                        return;
                l->starts++;
                snprintf(l->seen.active, sizeof(l->seen.active), "active");
                snprintf(l->seen.invocation_id, sizeof(l->seen.invocation_id), "%032x", ++l->invocations);
                if (parts > 2)
                        l->record.starting = false;
                return;
        case AGENT_WRITE:
                if (parts < 1)
                        return;
                l->seen.has_file = true;
                memcpy(l->seen.hash, unit->hash, sizeof(l->seen.hash));
                l->seen.need_reload = streq(l->seen.load, "loaded");
                if (parts < 2)
                        return;
                l->seen.need_reload = false;
                l->seen.owner = SYSTEMD_OURS;
                snprintf(l->seen.load, sizeof(l->seen.load), "loaded");
                snprintf(l->seen.fragment, sizeof(l->seen.fragment), "/run/fleet/units/web.service");
                return;
        case AGENT_RELOAD:
                if (parts < 1)
                        return;
                l->reloads++;
                memcpy(l->reloaded, l->seen.hash, sizeof(l->reloaded));
                if (parts < 3)
                        return;
                l->record.unit = (Unit *) unit;
                l->record.index = s->assignment.index;
                l->record.unit_index = s->assignment.unit_index;
                l->record.inputs = s->view.content;
                return;
        case AGENT_STOP:
                life_stop(l, s, parts);
                return;
        case AGENT_REMOVE:
                if (parts < 1)
                        return;
                l->has_record = false;
                if (parts < 2)
                        return;
                l->seen.has_file = false;
                l->seen.owner = SYSTEMD_ABSENT;
                l->seen.hash[0] = l->seen.fragment[0] = l->seen.invocation_id[0] = 0;
                snprintf(l->seen.load, sizeof(l->seen.load), "not-found");
                return;
        default:
                return;
        }
}

/* Execute steps until none is left. The daemon dies in step 'crash' (from 0) after 'parts' of it. */
static unsigned life_run(Life *l, Scene *s, unsigned crash, unsigned parts) {
        for (unsigned i = 0; i < 20; i++) {
                AgentView view = s->view;
                const char *reason;
                AgentStep step;

                view.record = l->has_record ? &l->record : NULL;
                view.seen = &l->seen;
                step = planned(s, view, &reason);
                if (step == AGENT_NOTHING || step == AGENT_DONE || step == AGENT_REFUSE)
                        return i;
                life_step(l, s, step, i == crash ? parts : 3);
        }
        fail_msg("it never comes to rest");
        return 0;
}

static Life life_begin(Scene *s, bool loses_invocations) {
        Life l = { .seen = s->seen,
                   .record = s->record,
                   .has_record = s->view.record != NULL,
                   .loses_invocations = loses_invocations };

        if (streq(l.seen.active, "active"))
                snprintf(l.seen.invocation_id, sizeof(l.seen.invocation_id), "%032x", ++l.invocations);
        return l;
}

static void assert_any_crash_ends_the_same(Scene *s, unsigned starts, unsigned stops) {
        for (unsigned forgets = 0; forgets < 2; forgets++) {
                Life calm = life_begin(s, forgets);
                unsigned n = life_run(&calm, s, 99, 0);

                assert_int_equal(calm.starts, starts);
                assert_int_equal(calm.stops, stops);
                for (unsigned crash = 0; crash < n; crash++)
                        for (unsigned parts = 0; parts <= 3; parts++) {
                                Life l = life_begin(s, forgets);

                                (void) life_run(&l, s, crash, parts);
                                assert_int_equal(l.starts, starts);
                                assert_int_equal(l.stops, stops);
                                assert_string_equal(l.seen.active, calm.seen.active);
                                assert_string_equal(l.seen.hash, calm.seen.hash);
                                assert_int_equal(l.seen.has_file, calm.seen.has_file);
                                assert_int_equal(l.has_record, calm.has_record);
                                if (!l.has_record)
                                        continue;
                                assert_false(l.record.starting);
                                assert_int_equal(l.record.index, calm.record.index);
                                assert_string_equal(l.record.started_boot, calm.record.started_boot);
                        }
        }
}

/* The unit runs with the former text, and its assignment was rewritten in place for another one. */
static Scene *replaced(void **state, Unit *former, const Unit *unit) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        in_force(s, former, "active");
        recorded(s, ASSIGNMENT_RUN, boot_now);
        s->record.unit = former;
        s->record.since_ms = s->assignment.since_ms = 5;
        s->unit.unit = (Unit *) unit;
        s->assignment.index = 21;
        return s;
}

static void the_process_goes_on_with_a_text_of_a_weaker_effect(void **state) {
        Scene *s = *state;

        s = replaced(state, s->one, s->live);
        assert_step(s, AGENT_WRITE);
        in_force(s, s->live, "active");
        s->seen.need_reload = true;
        assert_step(s, AGENT_WRITE); /* the daemon was restarted before systemd read the file */
        s->seen.need_reload = false;
        assert_step(s, AGENT_RECORD);
        s->record.unit = s->live;
        s->record.index = 21;
        assert_step(s, AGENT_NOTHING);

        s->unit.unit = s->two;
        assert_step(s, AGENT_STOP);
}

static void a_new_reload_trigger_reloads_a_running_unit_once(void **state) {
        Scene *s = *state;

        s = replaced(state, s->former, s->reload);
        assert_step(s, AGENT_WRITE);
        in_force(s, s->reload, "active");
        s->seen.need_reload = true;
        assert_step(s, AGENT_WRITE);
        s->seen.need_reload = false;
        assert_step(s, AGENT_RELOAD);
        s->seen.job = true;
        assert_step(s, AGENT_NOTHING);
        s->seen.job = false;
        in_force(s, s->reload, "reloading");
        assert_step(s, AGENT_NOTHING);
        in_force(s, s->reload, "activating"); /* its start may have read the former configuration */
        assert_step(s, AGENT_NOTHING);
        snprintf(s->seen.sub, sizeof(s->seen.sub), "auto-restart");
        assert_step(s, AGENT_RECORD);
        in_force(s, s->reload, "inactive");
        snprintf(s->seen.sub, sizeof(s->seen.sub), "dead");
        assert_step(s, AGENT_RECORD); /* the next start has the new text */
        in_force(s, s->reload, "active");
        s->record.starting = true;
        assert_step(s, AGENT_RELOAD);
        s->record.unit = s->reload;
        assert_step(s, AGENT_ADOPT);

        s = replaced(state, s->former, s->reload); /* no unit is reloaded that is to be loaded only */
        recorded(s, ASSIGNMENT_LOAD, boot_now);
        assigned(s, ASSIGNMENT_LOAD);
        assert_step(s, AGENT_WRITE); /* what a timer or a person has started goes on with its text */
        in_force(s, s->reload, "active");
        assert_step(s, AGENT_RECORD);
}

/* Its former assignment ended, but the unit was not stopped yet: the daemon has crashed before, for example.
 * A process is reloaded for the assignment with which it was started, and for no other one. */
static void a_unit_that_was_to_stop_does_not_go_on_with_the_text_of_its_former_assignment(void **state) {
        static const struct {
                const char *of;
                uint64_t since_ms;
                AssignmentKind kind;
                bool stopping, written;
                const char *booted;
                AgentStep step;
        } rows[] = {
                { "a reload of one assignment", 5, ASSIGNMENT_RUN, false, false, boot_now, AGENT_WRITE },
                { "the same, written", 5, ASSIGNMENT_RUN, false, true, boot_now, AGENT_RELOAD },
                { "a new assignment", 6, ASSIGNMENT_RUN, false, false, boot_now, AGENT_STOP },
                { "the same, written", 6, ASSIGNMENT_RUN, false, true, boot_now, AGENT_STOP },
                { "a recorded stop", 6, ASSIGNMENT_LOAD, true, false, boot_now, AGENT_STOP },
                { "the same, written", 6, ASSIGNMENT_LOAD, true, true, boot_now, AGENT_STOP },
                { "a start by another one", 5, ASSIGNMENT_RUN, false, false, "", AGENT_STOP },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Scene *s = replaced(state, ((Scene *) *state)->former, ((Scene *) *state)->reload);

                print_message("%s\n", rows[i].of);
                s->assignment.since_ms = rows[i].since_ms;
                recorded(s, rows[i].kind, rows[i].booted);
                s->record.stopping = rows[i].stopping;
                if (rows[i].written)
                        in_force(s, s->reload, "active");
                assert_step(s, rows[i].step);

                s->unit.unit = s->former; /* the same text again */
                in_force(s, s->former, "active");
                assert_step(s, rows[i].step == AGENT_STOP ? AGENT_ADOPT : AGENT_RECORD);
        }
}

static void a_crash_in_any_step_of_a_reload_ends_with_a_reload(void **state) {
        Scene *s = *state;

        s = replaced(state, s->former, s->reload);
        for (unsigned crash = 0; crash < 4; crash++)
                for (unsigned parts = 0; parts <= 3; parts++) {
                        Life l = life_begin(s, false);

                        (void) life_run(&l, s, crash, parts);
                        assert_in_range(l.reloads, 1, 2);
                        assert_string_equal(l.reloaded, s->reload->hash);
                        assert_ptr_equal(l.record.unit, s->reload);
                }
        assert_any_crash_ends_the_same(s, 0, 0);
        s = replaced(state, s->one, s->live);
        assert_any_crash_ends_the_same(s, 0, 0);
}

/* -- Contents: the files have number 3, the unit was started with 2, and 3 is assigned -- */

static Scene *with_content(void **state, Unit *text, const char *active) {
        Scene *s = replaced(state, text, text);

        in_force(s, text, active);
        s->record.inputs = 2;
        s->assignment.inputs = s->view.content = 3;
        return s;
}

static void a_new_content_stops_a_running_unit_and_starts_it_once(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->content, "active");

        assert_step(s, AGENT_STOP);
        assert_reason(s, "its secrets or configuration have changed");
        s->record.replacing = true; /* as recorded before the stop */
        s->record.started_boot[0] = 0;
        s->record.index = 21;
        assert_step(s, AGENT_STOP);
        in_force(s, s->content, "inactive");
        assert_step(s, AGENT_START);
        s->record.inputs = 3;
        snprintf(s->record.started_boot, sizeof(s->record.started_boot), "%s", boot_now);
        s->record.starting = true;
        in_force(s, s->content, "active");
        assert_step(s, AGENT_ADOPT);
        s->record.starting = s->record.replacing = false;
        assert_step(s, AGENT_NOTHING);

        /* A socket has started it in between, with the new files. */
        s->record.started_boot[0] = 0;
        s->record.replacing = true;
        assert_step(s, AGENT_ADOPT);
}

/* A new daemon has the record; the files of its host may be newer than what is assigned. */
static void a_unit_with_the_assigned_content_is_not_touched(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->content, "active");

        s->record.index = 21;
        s->record.inputs = 3;
        assert_step(s, AGENT_NOTHING);
        s->view.content = 4;
        assert_step(s, AGENT_NOTHING);
        s->record.inputs = 4;
        assert_step(s, AGENT_NOTHING);
        in_force(s, s->content, "failed");
        assert_step(s, AGENT_NOTHING);
}

static void a_unit_that_failed_is_started_with_a_new_content_and_a_finished_one_is_not(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->content, "failed");

        assert_step(s, AGENT_START);
        s->view.stopping = true;
        assert_step(s, AGENT_NOTHING);

        s = with_content(state, ((Scene *) *state)->job, "inactive");
        assert_step(s, AGENT_START);
        s->record.done = true;
        assert_step(s, AGENT_RECORD);
        s->record.index = 21;
        assert_step(s, AGENT_NOTHING);
}

static void a_loaded_unit_that_another_unit_started_goes_on_with_its_content(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->content, "active");

        recorded(s, ASSIGNMENT_LOAD, "");
        owned(s, boot_now);
        assigned(s, ASSIGNMENT_LOAD);
        assert_step(s, AGENT_RECORD);
        s->record.index = 21;
        assert_step(s, AGENT_NOTHING);
}

/* Its record is of a daemon that knows no contents. */
static void a_unit_whose_content_is_not_known_is_not_stopped(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->content, "active");

        s->record.inputs = 0;
        assert_step(s, AGENT_RECORD);
        s->record.index = 21;
        assert_step(s, AGENT_NOTHING);
        s->record.inputs = 2;
        assert_step(s, AGENT_STOP);
        s->view.record = NULL;
        assert_step(s, AGENT_ADOPT);
        assert_any_crash_ends_the_same(s, 0, 0);
}

static void a_text_that_only_restarts_for_contents_restarts_nothing(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->passive, "active");

        s->unit.unit = s->restarts;
        assert_step(s, AGENT_WRITE);
        in_force(s, s->restarts, "active");
        assert_step(s, AGENT_RECORD);
        s->record.unit = s->restarts;
        s->record.index = 21;
        s->record.inputs = 3;
        assert_step(s, AGENT_NOTHING);
        s->assignment.inputs = 4;
        assert_step(s, AGENT_STOP);
}

/* A text that changes together with the content is one step. */
static void a_text_and_a_content_are_replaced_by_one_stop(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->content, "active");

        s->unit.unit = s->content_two;
        assert_step(s, AGENT_STOP);
        assert_any_crash_ends_the_same(s, 1, 1);
}

static void without_contact_to_the_cluster_no_content_is_replaced(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->content, "active");

        s->view.fresh = false;
        assert_step(s, AGENT_NOTHING);
        s->view.use_records = true;
        assert_step(s, AGENT_NOTHING);

        /* It was stopped to be replaced. */
        s->record.replacing = s->record.finishing = true;
        s->view.use_records = false;
        s->record.started_boot[0] = 0;
        in_force(s, s->content, "inactive");
        assert_step(s, AGENT_START);
        assert_reason(s, "finishing a replacement");
        in_force(s, s->content, "active"); /* the stop was never made */
        assert_step(s, AGENT_ADOPT);
}

static void other_units_are_not_stopped_for_a_content(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->passive, "active");

        assert_step(s, AGENT_RECORD);
        s->record.index = 21;
        assert_step(s, AGENT_NOTHING);
        s = with_content(state, ((Scene *) *state)->one, "active");
        assert_step(s, AGENT_RECORD);
        s->record.index = 21;
        assert_step(s, AGENT_NOTHING);
        s = with_content(state, ((Scene *) *state)->unable, "active");
        assert_step(s, AGENT_RECORD);
        s->record.index = 21;
        assert_step(s, AGENT_NOTHING);
}

static void new_files_reload_an_active_unit_once(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->files, "active");

        assert_step(s, AGENT_RELOAD);
        assert_reason(s, "its secrets or configuration have changed");
        s->assignment.inputs = 2; /* a host does not wait for its assignment */
        assert_step(s, AGENT_RELOAD);
        s->seen.job = true;
        assert_step(s, AGENT_RECORD);
        s->seen.job = false;
        s->record.index = 21;
        in_force(s, s->files, "activating");
        assert_step(s, AGENT_NOTHING);
        in_force(s, s->files, "failed");
        assert_step(s, AGENT_NOTHING);
        in_force(s, s->files, "active");
        s->view.fresh = false;
        assert_step(s, AGENT_NOTHING);
        s->view.fresh = true;
        s->record.inputs = 3;
        assert_step(s, AGENT_NOTHING);
}

static void a_crash_in_any_step_of_a_restart_for_a_content_ends_in_one_stop_and_one_start(void **state) {
        assert_any_crash_ends_the_same(with_content(state, ((Scene *) *state)->content, "active"), 1, 1);
        assert_any_crash_ends_the_same(with_content(state, ((Scene *) *state)->content, "failed"), 1, 0);
}

static void a_crash_in_any_step_of_a_reload_for_a_content_ends_with_a_reload(void **state) {
        Scene *s = with_content(state, ((Scene *) *state)->files, "active");

        for (unsigned crash = 0; crash < 2; crash++)
                for (unsigned parts = 0; parts <= 3; parts++) {
                        Life l = life_begin(s, false);

                        (void) life_run(&l, s, crash, parts);
                        assert_in_range(l.reloads, 1, 2);
                        assert_int_equal(l.record.inputs, 3);
                }
        assert_any_crash_ends_the_same(s, 0, 0);
}

static void a_crash_in_any_step_of_a_start_ends_in_one_start(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        assert_any_crash_ends_the_same(s, 1, 0);
}

static void a_crash_in_any_step_of_an_update_ends_in_one_stop_and_one_start(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        s->unit.unit = s->two;
        s->unit.index = s->assignment.unit_index = 25;
        s->assignment.index = 26;
        assert_any_crash_ends_the_same(s, 1, 1);
}

static void a_crash_in_any_step_of_a_stop_ends_in_one_stop(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_STOP);
        s->assignment.index = 30;
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        assert_any_crash_ends_the_same(s, 0, 1);
}

static void a_crash_in_any_step_of_a_stop_to_be_loaded_only_ends_in_one_stop(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_LOAD);
        s->assignment.index = 30;
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        assert_any_crash_ends_the_same(s, 0, 1);
}

static void a_crash_in_any_step_of_a_start_after_a_boot_ends_in_one_start(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_before);
        assert_any_crash_ends_the_same(s, 1, 0);
}

static void a_crash_during_an_edit_of_the_x_fleet_section_touches_no_unit(void **state) {
        Scene *s = scene(state);

        assigned(s, ASSIGNMENT_RUN);
        recorded(s, ASSIGNMENT_RUN, boot_now);
        in_force(s, s->one, "active");
        s->unit.unit = s->tuned;
        s->unit.index = s->assignment.unit_index = 25;
        s->assignment.index = 26;
        assert_any_crash_ends_the_same(s, 0, 0);
}

int main(int argc, char *argv[]) {
#define row(f) cmocka_unit_test_setup_teardown(f, scene_setup, scene_teardown)
        const struct CMUnitTest tests[] = {
                row(no_step_is_planned_before_systemd_was_read),
                row(without_an_assignment_there_is_no_step),
                row(an_assigned_unit_is_written_then_started),
                row(the_first_step_after_a_restore_has_it_as_its_reason),
                row(a_text_that_systemd_has_not_read_is_not_started),
                row(a_unit_that_runs_as_assigned_is_adopted),
                row(a_started_unit_is_not_started_again),
                row(a_new_boot_starts_units_that_have_not_completed),
                row(a_newer_assignment_of_the_same_text_starts_again),
                row(an_edit_of_the_x_fleet_section_touches_no_running_unit),
                row(a_job_that_has_ended_is_started_by_a_new_assignment_only),
                row(a_text_that_is_not_known_here_is_waited_for),
                row(a_changed_text_is_stopped_written_and_started),
                row(a_changed_text_is_stopped_even_without_the_file_of_the_former_one),
                row(a_begun_replacement_is_finished_without_the_cluster),
                row(a_conflicting_unit_is_refused_and_not_touched),
                row(a_unit_that_the_host_replaced_is_never_stopped_and_only_our_file_is_removed),
                row(a_running_unit_with_a_conflicting_file_stays_ours_until_it_has_stopped),
                cmocka_unit_test(a_name_from_another_source_conflicts_in_any_state),
                row(a_running_unit_without_a_file_is_ours_only_if_it_was_started_here),
                row(an_assignment_of_a_removed_unit_changes_nothing),
                row(an_unreadable_unit_key_keeps_no_assigned_text_from_starting),
                row(an_assignment_of_an_older_text_changes_nothing),
                row(a_loaded_unit_is_started_although_its_x_fleet_section_has_changed),
                row(load_writes_and_records_and_starts_nothing),
                row(a_loaded_unit_that_runs_is_stopped_by_another_request_only),
                row(a_loaded_unit_that_runs_is_ours_without_its_file),
                row(load_after_run_stops),
                row(stop_stops_removes_and_reports),
                row(what_was_ordered_to_stop_is_ours_until_it_has_stopped_and_is_never_started_or_put_back),
                row(an_older_stop_assignment_does_not_apply_to_a_newer_record),
                row(no_unit_is_started_during_a_shutdown),
                row(a_recorded_start_that_left_no_trace_is_made),
                row(a_recorded_start_that_left_a_trace_is_not_made_twice),
                row(without_the_cluster_only_units_that_the_boot_ended_are_started_after_the_wait),
                row(without_the_cluster_a_unit_with_a_newer_known_assignment_is_not_started),
                row(a_missing_file_or_link_is_restored),
                row(a_unit_that_succeeded_has_completed_once_its_job_has_ended),
                row(a_published_completion_replaces_a_lost_record),
                row(a_stopped_or_skipped_unit_has_not_completed),
                row(a_unit_stopped_because_of_another_one_is_started_again_when_that_runs),
                row(a_skipped_unit_is_started_only_by_a_new_assignment_or_text),
                row(a_unit_that_failed_with_its_dependency_waits_for_it),
                cmocka_unit_test(an_end_without_a_job_is_the_units_own_and_one_with_a_job_is_a_stop),
                cmocka_unit_test(a_service_that_its_exec_condition_rejected_was_skipped),
                cmocka_unit_test(a_unit_stopped_before_it_was_active_has_not_ended_by_itself),
                cmocka_unit_test(a_job_canceled_before_the_unit_was_active_is_not_a_stop),
                cmocka_unit_test(an_end_is_that_of_the_last_start_and_is_not_known_once_signals_were_lost),
                cmocka_unit_test(the_latest_moves_are_known),
                cmocka_unit_test(what_precedes_the_start_of_a_unit_is_no_cause_of_its_stop),
                cmocka_unit_test(units_that_changed_caused_the_stop_and_any_unit_if_none_is_known),
                row(a_former_text_that_was_started_again_during_its_replacement_is_stopped_by_order_alone),
                row(a_unit_that_is_to_stop_unless_it_runs_goes_on),
                row(a_unit_that_stops_alone_waits_for_the_cluster),
                row(a_running_unit_is_not_outdated_when_another_text_than_the_recorded_is_assigned),
                row(no_unit_is_stopped_without_a_newer_assignment_or_a_changed_text),
                row(a_conflicting_unit_is_never_written_started_or_stopped),
                row(only_assigned_and_written_units_that_do_not_run_are_started),
                row(the_process_goes_on_with_a_text_of_a_weaker_effect),
                row(a_new_reload_trigger_reloads_a_running_unit_once),
                row(a_unit_that_was_to_stop_does_not_go_on_with_the_text_of_its_former_assignment),
                row(a_crash_in_any_step_of_a_reload_ends_with_a_reload),
                row(a_new_content_stops_a_running_unit_and_starts_it_once),
                row(a_unit_with_the_assigned_content_is_not_touched),
                row(a_unit_that_failed_is_started_with_a_new_content_and_a_finished_one_is_not),
                row(a_loaded_unit_that_another_unit_started_goes_on_with_its_content),
                row(a_unit_whose_content_is_not_known_is_not_stopped),
                row(a_text_that_only_restarts_for_contents_restarts_nothing),
                row(a_text_and_a_content_are_replaced_by_one_stop),
                row(without_contact_to_the_cluster_no_content_is_replaced),
                row(other_units_are_not_stopped_for_a_content),
                row(new_files_reload_an_active_unit_once),
                row(a_crash_in_any_step_of_a_restart_for_a_content_ends_in_one_stop_and_one_start),
                row(a_crash_in_any_step_of_a_reload_for_a_content_ends_with_a_reload),
                row(a_crash_in_any_step_of_a_start_ends_in_one_start),
                row(a_crash_in_any_step_of_an_update_ends_in_one_stop_and_one_start),
                row(a_crash_in_any_step_of_a_stop_ends_in_one_stop),
                row(a_crash_in_any_step_of_a_stop_to_be_loaded_only_ends_in_one_stop),
                row(a_crash_in_any_step_of_a_start_after_a_boot_ends_in_one_start),
                row(a_crash_during_an_edit_of_the_x_fleet_section_touches_no_unit),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
