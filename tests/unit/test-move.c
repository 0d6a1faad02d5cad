/* Requested moves: one unit to another machine, in the plans of the engine. */
#include "tests/lib/test.h"
#include "tests/lib/drains.h"
#include "tests/lib/rollout_play.h"
#include "tests/lib/words_of.h"

static const char unit[] = "web.service";

static void request(ClusterView *p, const char *name, const char *to) {
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];
        MoveRecord move = { .by = "root@A", .since_ms = 1 };
        _cleanup_text_ Text t = {};

        memcpy(move.to, cluster_view_id(id, to), sizeof(move.to));
        stored_move_write(&t, &move);
        cluster_view_put(p, layout_key(key, LAYOUT_MOVE, name, NULL), t.chars);
}

static void cancel(ClusterView *p, const char *name) {
        char key[LAYOUT_KEY_MAX];

        cluster_view_remove(p, layout_key(key, LAYOUT_MOVE, name, NULL));
}

/* The unit runs on A, and is to move to B. */
static void begin_move(ClusterView *p, const char *options) {
        three_machines(p);
        cluster_view_unit(p, unit, options, TARGET_LAUNCHED);
        maintain(p, "B", "cordoned", "");
        maintain(p, "C", "cordoned", "");
        plans(p, "run web.service A");
        cluster_view_execute(p);
        maintain(p, "B", NULL, "");
        maintain(p, "C", NULL, "");
        plans(p, "");
        p->cluster.now_ms += 1000; /* the machines have been up for a while */
        request(p, unit, "B");
}

static const ClusterAssignment *order_on(ClusterView *p, const char *machine) {
        char id[MACHINE_ID_SIZE];

        return cluster_assignment(&p->cluster, cluster_view_id(id, machine), unit);
}

/* The instance runs with the guard of a singleton. */
static void hold(Play *play, size_t i) {
        const ClusterAssignment *a = assignment_of(play, i);
        char key[LAYOUT_KEY_MAX], value[256];

        snprintf(value, sizeof(value),
                 "{\"hash\":\"%s\",\"hold\":30000,\"order\":\"run\",\"rev\":1,\"since\":1}", a->hash);
        cluster_view_put(&play->p,
                         layout_key(key, LAYOUT_ASSIGNMENT, play->instances[i].unit,
                                    machine_id(play->instances[i].machine)),
                         value);
}

/* -- Without faults -- */

static void a_unit_runs_on_the_other_machine_before_it_stops(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        assert_string_equal(words_of(&order_on(&p, "B")->why), "moved from A to B on request");
        plans(&p, "");
        cluster_view_state(&p, "B", unit, "activating");
        plans(&p, "");
        cluster_view_state(&p, "B", unit, "active");
        plans(&p, "stop web.service A");
        /* The key is deleted last, so that the next leader goes on. */
        plans(&p, "moved to B");
        assert_null(cluster_any_unit(&p.cluster, unit)->move);
        plans(&p, "");
}

static void a_unit_serves_until_it_is_available_there(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cluster_view_active(&p, "B", unit, "starting");
        plans(&p, "");
        cluster_view_active(&p, "B", unit, "passing"); /* UpdateWatchSec= has not passed */
        plans(&p, "");
        cluster_view_active(&p, "B", unit, "failing");
        plans(&p, "move of web.service to B failed: it failed its checks there");
        plans(&p, "stop web.service B");
}

/* Its checks pass and fail in turn: it never becomes available, and never fails. */
static void a_unit_that_is_not_available_there_in_time_stays(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "UpdateDeadlineSec=5min");
        plans(&p, "run web.service B");
        for (unsigned i = 0; i < 29; i++) {
                p.cluster.now_ms += 10000;
                cluster_view_active(&p, "B", unit, i % 2 ? "passing" : "starting");
                plans(&p, "");
        }
        p.cluster.now_ms += 10000;
        plans(&p, "move of web.service to B failed: it was not available there within UpdateDeadlineSec=");
        plans(&p, "stop web.service B");
}

/* The request has decided about Move=no, which --force overrides. */
static void a_unit_that_stops_first_starts_there_when_it_has_ended(void **state) {
        static const char *const options[] = { "Move=stop-first", "Singleton=yes", "Move=no" };

        for (size_t i = 0; i < ELEMENTS(options); i++) {
                _cleanup_cluster_view_ ClusterView p;

                begin_move(&p, options[i]);
                plans(&p, "stop web.service A");
                plans(&p, ""); /* neither back, nor on another machine */
                has_ended(&p, "A", unit);
                plans(&p, "run web.service B");
                assert_string_equal(words_of(&order_on(&p, "B")->why), "moved to B on request");
                plans(&p, "");
                cluster_view_state(&p, "B", unit, "active");
                plans(&p, "moved to B");
                plans(&p, "");
        }
}

static void a_unit_that_is_loaded_moves(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, unit, "", TARGET_LOADED);
        plans(&p, "load web.service A");
        cluster_view_execute(&p);
        request(&p, unit, "C");
        plans(&p, "load web.service C");
        cluster_view_execute(&p);
        plans(&p, "stop web.service A");
        cluster_view_execute(&p);
        plans(&p, "moved to C");
}

static void a_move_leaves_no_pin(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cluster_view_execute(&p);
        plans(&p, "stop web.service A");
        cluster_view_execute(&p);
        plans(&p, "moved to B");
        maintain(&p, "B", "draining", "");
        plans(&p, "run web.service A");
}

/* One that does not run moves, too: it need not be available where it is. */
static void a_failed_unit_moves(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        cluster_view_state(&p, "A", unit, "failed");
        plans(&p, "run web.service B");
        cluster_view_state(&p, "B", unit, "active");
        plans(&p, "stop web.service A");
        plans(&p, "moved to B");
}

/* -- Ends -- */

static void a_unit_that_fails_there_stays(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cluster_view_state(&p, "B", unit, "failed");
        plans(&p, "move of web.service to B failed: it failed there");
        plans(&p, "stop web.service B");
        assert_string_equal(words_of(&order_on(&p, "B")->why), "it runs on A now");
        has_ended(&p, "B", unit);
        plans(&p, "");
}

/* The reason states whether systemd has executed it there, and the result. */
static void the_end_of_a_move_has_the_result_of_the_unit_there(void **state) {
        static const struct {
                const char *state, *end;
        } rows[] = {
                { "{\"active\":\"failed\",\"load\":\"loaded\",\"reason\":\"exit status "
                  "7\",\"sub\":\"failed\"}",
                  "it failed there: exit status 7" },
                { "{\"active\":\"activating\",\"load\":\"loaded\",\"reason\":\"exit status "
                  "7\",\"sub\":\"auto-restart\"}",
                  "it failed there: exit status 7" },
                { "{\"active\":\"activating\",\"load\":\"loaded\",\"sub\":\"auto-restart\"}",
                  "it failed there: auto-restart" },
                { "{\"active\":\"inactive\",\"job\":\"refused\",\"load\":\"loaded\",\"reason\":\"Unit b not "
                  "found.\",\"sub\":\"dead\"}",
                  "Unit b not found." },
                { "{\"active\":\"inactive\",\"job\":\"timeout\",\"load\":\"loaded\",\"sub\":\"dead\"}",
                  "it did not start there" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], end[128];
                _cleanup_cluster_view_ ClusterView p;

                begin_move(&p, "");
                plans(&p, "run web.service B");
                cluster_view_state(&p, "B", unit, "active");
                cluster_view_put(&p, layout_key(key, LAYOUT_STATE, unit, cluster_view_id(id, "B")),
                                 rows[i].state);
                snprintf(end, sizeof(end), "move of web.service to B failed: %s", rows[i].end);
                plans(&p, end);
        }
}

static void a_unit_that_does_not_begin_to_start_there_stays(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cluster_view_state(&p, "B", unit, "inactive");
        plans(&p, "");
        p.cluster.now_ms += DRAIN_START_MS;
        plans(&p, "move of web.service to B failed: it did not start there");
        plans(&p, "stop web.service B");
}

/* With Move=stop-first, it is there, and has failed. */
static void a_unit_that_stopped_first_and_fails_remains_there(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "Move=stop-first");
        plans(&p, "stop web.service A");
        has_ended(&p, "A", unit);
        plans(&p, "run web.service B");
        cluster_view_state(&p, "B", unit, "failed");
        plans(&p, "move of web.service to B failed: it failed there");
        plans(&p, "");
}

static void a_move_ends_when_its_machine_is_lost(void **state) {
        for (int step = 0; step < 3; step++) {
                _cleanup_cluster_view_ ClusterView p;

                begin_move(&p, "");
                if (step > 0)
                        plans(&p, "run web.service B");
                if (step > 1)
                        cluster_view_state(&p, "B", unit, "activating");
                cluster_view_presence(&p, "B", PRESENCE_AWAY);
                plans(&p, "");
                cluster_view_presence(&p, "B", PRESENCE_LOST);
                plans(&p, "move of web.service to B failed: it is lost");
                plans(&p, step > 0 ? "stop web.service B" : "");
                plans(&p, "");
        }
}

static void a_move_ends_when_its_machine_stays_away(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cluster_view_presence(&p, "B", PRESENCE_AWAY);
        p.cluster.now_ms += DRAIN_AWAY_MS;
        plans(&p, "move of web.service to B failed: the machine went away before it was available there");
}

static void a_move_ends_when_its_machine_rejects_the_unit(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        maintain(&p, "B", "cordoned", "");
        plans(&p, "move of web.service to B failed: it is cordoned");
        plans(&p, "");

        request(&p, unit, "B");
        maintain(&p, "B", NULL, "");
        plans(&p, "run web.service B");
        maintain(&p, "B", "draining", "");
        plans(&p, "move of web.service to B failed: it is draining");
}

static void a_stop_a_removal_and_a_drain_end_a_move(void **state) {
        ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cluster_view_target(&p, unit, TARGET_INACTIVE);
        plans(&p, "move of web.service to B ended: its target state is inactive");
        plans(&p, "stop web.service A; stop web.service B");
        cluster_view_free(&p);

        begin_move(&p, "");
        cluster_view_destroy(&p, unit);
        plans(&p, "move of web.service to B ended: it was destroyed");
        plans(&p, "stop web.service A");
        cluster_view_free(&p);

        /* The drain goes on with the machine that starts the unit. */
        begin_move(&p, "");
        plans(&p, "run web.service B");
        maintain(&p, "A", "draining", "");
        plans(&p, "move of web.service to B ended: A is being drained");
        plans(&p, "");
        cluster_view_state(&p, "B", unit, "active");
        plans(&p, "stop web.service A");
        cluster_view_free(&p);
}

/* Cancelled, the unit stays where it runs. */
static void a_cancelled_move_is_withdrawn(void **state) {
        ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cancel(&p, unit);
        plans(&p, "stop web.service B");
        has_ended(&p, "B", unit);
        plans(&p, "");
        cluster_view_free(&p);

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cluster_view_state(&p, "B", unit, "active");
        cancel(&p, unit);
        plans(&p, "stop web.service A");
        cluster_view_free(&p);
}

static void another_request_replaces_a_move(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        request(&p, unit, "C");
        plans(&p, "run web.service C");
        cluster_view_state(&p, "C", unit, "active");
        plans(&p, "stop web.service A; stop web.service B");
        plans(&p, "moved to C");
}

/* A job would run a second time. */
static void a_job_moves_when_it_has_ended(void **state) {
        char id[MACHINE_ID_SIZE];
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, unit, "[Service]\nType=oneshot\n[X-Fleet]", TARGET_LAUNCHED);
        plans(&p, "run web.service A");
        cluster_view_state(&p, "A", unit, "activating");
        request(&p, unit, "B");
        plans(&p, "");
        cluster_view_done(&p, "A", unit);
        plans(&p, "run web.service B"); /* its file; it is not run again */
        assert_true(
                cluster_assignment_on(cluster_machine(&p.cluster, cluster_view_id(id, "B")), unit)->finished);
        cluster_view_done(&p, "B", unit);
        plans(&p, "stop web.service A");
}

/* -- With others -- */

static void moves_wait_for_the_brake(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        six_machines(&p);
        put_units(&p, "F", "other", 1);
        cluster_view_unit(&p, unit, "", TARGET_LAUNCHED);
        run_on(&p, "A", unit);
        request(&p, unit, "B");
        for (char c = 'C'; c <= 'F'; c++)
                cluster_view_presence(&p, (char[]) { c, 0 }, PRESENCE_LOST);
        plans(&p, "");
        p.cluster.now_ms += 31000;
        plans(&p, "run other00.service B; run web.service B");
}

/* Drains and moves share the number of units that start elsewhere. */
static void moves_count_among_the_units_that_start_elsewhere(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        char name[32];
        _cleanup_free_ char *plan = NULL;

        three_machines(&p);
        put_units(&p, "A", "m", 40);
        for (int i = 0; i < 40; i++) {
                snprintf(name, sizeof(name), "m%02d.service", i);
                request(&p, name, "B");
        }
        plan = cluster_view_plan(&p, true);
        assert_int_equal(count_of(plan, "run "), DRAIN_MACHINE_MAX);
        plans(&p, "");
        cluster_view_state(&p, "B", "m00.service", "active");
        plans(&p, "stop m00.service A; run m08.service B");
}

/* An instance that stops first needs budget: at most one of three is unavailable. */
static void a_unit_that_stops_first_moves_within_the_budget_of_its_set(void **state) {
        static const char *const options[] = { "Move=stop-first", "Singleton=yes", "Move=no" };

        for (size_t i = 0; i < ELEMENTS(options); i++) {
                Play play;

                begin_template(&play, 3, options[i]);
                for (size_t k = 0; i == 1 && k < play.n; k++)
                        hold(&play, k);
                cluster_view_machine(&play.p, "D", "", PRESENCE_UP);
                put_state(&play, 0, "active", false);
                request(&play.p, "web@2.service", "D");
                plans(&play.p, "");
                put_state(&play, 0, "active", true);
                request(&play.p, "web@3.service", "D");
                plans(&play.p, "stop web@2.service B");
                end(&play);

                /* One that is unavailable needs none. */
                begin_template(&play, 3, options[i]);
                for (size_t k = 0; i == 1 && k < play.n; k++)
                        hold(&play, k);
                cluster_view_machine(&play.p, "D", "", PRESENCE_UP);
                put_state(&play, 0, "active", false);
                put_state(&play, 1, "active", false);
                request(&play.p, "web@2.service", "D");
                plans(&play.p, "stop web@2.service B");
                end(&play);
        }
}

/* The next leader has the view, and no memory: each plan of these tests is made from the view alone. Here, a
 * plan follows a plan at each step, and an incremental one reaches the result of a full one. */
static void each_step_is_planned_alike_by_the_next_leader(void **state) {
        static const char *const states[] = { NULL, "activating", "active", "failed" };
        const char *const names[] = { unit };

        for (size_t i = 0; i < ELEMENTS(states); i++) {
                _cleanup_(engine_plan_done) EnginePlan all = {}, one = {};
                _cleanup_cluster_view_ ClusterView p;

                begin_move(&p, "");
                plans(&p, "run web.service B");
                if (states[i])
                        cluster_view_state(&p, "B", unit, states[i]);
                assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000,
                                             &(EnginePlanLimits) { .names_texts = true, .leads_ms = 1 },
                                             &all),
                                 0);
                assert_int_equal(engine_plan(&p.cluster, names, 1, 30000,
                                             &(EnginePlanLimits) { .names_texts = true, .leads_ms = 1000000 },
                                             &one),
                                 0);
                assert_int_equal(all.n, one.n);
                assert_int_equal(all.n, i == 2);
                assert_int_equal(all.n_ends, one.n_ends);
                assert_int_equal(all.n_ends, i == 3);
        }
}

static void an_unreadable_move_leaves_its_unit_as_it_is(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin_move(&p, "");
        plans(&p, "run web.service B");
        cluster_view_unreadable(&p, LAYOUT_MOVE, unit, NULL);
        cluster_view_state(&p, "B", unit, "active");
        plans(&p, "");
}

static int add_name(void *userdata, const char *name) {
        return named_get(userdata, name ?: "*", sizeof(Named)) ? 0 : -ENOMEM;
}

/* A machine that becomes free is a change for each unit that waits for it. */
static void a_change_of_a_machine_is_one_of_the_units_that_move(void **state) {
        EngineMarks marks = {};
        Named *units = NULL;
        _cleanup_cluster_view_ ClusterView p;
        char id[MACHINE_ID_SIZE];

        begin_move(&p, "");
        engine_marks_add(&marks, &p.cluster,
                         &(RegistryChange) { .kind = CHANGED_MACHINE, .machine = cluster_view_id(id, "B") });
        assert_int_equal(engine_marks_expand(&marks, &p.cluster, add_name, &units), 0);
        assert_non_null(named_find(units, unit));
        named_clear(&units);
        engine_marks_add(&marks, &p.cluster, &(RegistryChange) { .kind = CHANGED_MOVE, .unit = unit });
        assert_int_equal(engine_marks_expand(&marks, &p.cluster, add_name, &units), 0);
        assert_non_null(named_find(units, unit));
        named_clear(&units);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_unit_runs_on_the_other_machine_before_it_stops),
                cmocka_unit_test(a_unit_serves_until_it_is_available_there),
                cmocka_unit_test(a_unit_that_is_not_available_there_in_time_stays),
                cmocka_unit_test(a_unit_that_stops_first_starts_there_when_it_has_ended),
                cmocka_unit_test(a_unit_that_is_loaded_moves),
                cmocka_unit_test(a_move_leaves_no_pin),
                cmocka_unit_test(a_failed_unit_moves),
                cmocka_unit_test(a_unit_that_fails_there_stays),
                cmocka_unit_test(the_end_of_a_move_has_the_result_of_the_unit_there),
                cmocka_unit_test(a_unit_that_does_not_begin_to_start_there_stays),
                cmocka_unit_test(a_unit_that_stopped_first_and_fails_remains_there),
                cmocka_unit_test(a_move_ends_when_its_machine_is_lost),
                cmocka_unit_test(a_move_ends_when_its_machine_stays_away),
                cmocka_unit_test(a_move_ends_when_its_machine_rejects_the_unit),
                cmocka_unit_test(a_stop_a_removal_and_a_drain_end_a_move),
                cmocka_unit_test(a_cancelled_move_is_withdrawn),
                cmocka_unit_test(another_request_replaces_a_move),
                cmocka_unit_test(a_job_moves_when_it_has_ended),
                cmocka_unit_test(moves_wait_for_the_brake),
                cmocka_unit_test(moves_count_among_the_units_that_start_elsewhere),
                cmocka_unit_test(a_unit_that_stops_first_moves_within_the_budget_of_its_set),
                cmocka_unit_test(each_step_is_planned_alike_by_the_next_leader),
                cmocka_unit_test(an_unreadable_move_leaves_its_unit_as_it_is),
                cmocka_unit_test(a_change_of_a_machine_is_one_of_the_units_that_move),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
