/* The engine without a store. With a real store: test-registry. */

#include "tests/lib/test.h"
#include "base/sizes.h"
#include "tests/lib/alloc.h"
#include "tests/lib/engine_fixture.h"

enum {
        PLANNED_AT_ONCE = 250, /* units that one plan considers */
        MANY = 300,
};

#define ID_A     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ADOPTING "/_fleet/cluster/adopting"

static void lose_and_regain(void) {
        fixture.state.role = KV_ROLE_FOLLOWER;
        engine_state_changed(fixture.engine);
        fixture.state.role = KV_ROLE_LEADER;
        engine_state_changed(fixture.engine);
}

static EngineCounts counts(void) {
        EngineCounts c;

        engine_counts(fixture.engine, &c);
        return c;
}

static void launch(const char *name) {
        cluster_view_unit(&fixture.view, name, "", TARGET_LAUNCHED);
}

static void run_on_a(const char *name) {
        launch(name);
        cluster_view_assign(&fixture.view, "A", name, ASSIGNMENT_RUN);
        cluster_view_state(&fixture.view, "A", name, "active");
}

static void three_run(void) {
        run_on_a("a.service");
        run_on_a("b.service");
        run_on_a("c.service");
}

static const char *name_of_many(char ret[static 16], unsigned i) {
        snprintf(ret, 16, "u%03u.service", i % 1000);
        return ret;
}

/* -- Plans and assignments -- */

static void each_assignment_is_counted_and_logged_once(void **state) {
        launch("a.service");
        launch("b.service");
        fixture_begin();
        assert_int_equal(fixture.calls[0].n, 2);
        assert_int_equal(fixture.calls[0].term, TERM);
        fixture_complete();
        assert_int_equal(fixture.n_calls, 1);
        assert_int_equal(counts().scheduled, 2);
        assert_int_equal(counts().unscheduled, 0);
        assert_int_equal(fixture.n_logged, 2);

        cluster_view_target(&fixture.view, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        fixture_answer(KV_COMPARE_FAILED);
        assert_int_equal(counts().unschedule_failures, 1);
        assert_int_equal(counts().schedule_failures, 0);
        assert_int_equal(fixture.n_calls, 2); /* again, after a delay */
        assert_int_equal(fixture.retry.delay_ms, 100);
        fixture_fire(&fixture.retry);
        fixture_complete();
        assert_int_equal(fixture.n_calls, 3);
        assert_int_equal(counts().scheduled, 2);
        assert_int_equal(counts().unscheduled, 1);
        assert_int_equal(fixture.n_logged, 3);
}

/* It changes no state of the store, so that the engine has no other sign of it. */
static void a_raise_of_the_level_alone_plans_all_units(void **state) {
        three_run();
        fixture_begin();
        fixture.view.cluster.level = KV_LEVEL_UPDATES;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "a.service" });
        assert_int_equal(fixture.plans[fixture.n_plans - 1].n, 3);
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "a.service" });
        assert_int_equal(fixture.plans[fixture.n_plans - 1].n, 1);
}

static void a_large_plan_is_written_in_parts_each_when_the_cluster_view_has_the_one_before(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                launch(name_of_many(name, i));
        fixture_begin();
        assert_int_equal(fixture.plans[0].n, PLANNED_AT_ONCE);
        assert_int_equal(fixture.plans[0].work_max, 20000);
        assert_int_equal(fixture.calls[0].n, CHANGES_MAX);
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "u000.service" });
        fixture_answer(KV_OK);
        assert_int_equal(fixture.n_calls, 1);
        fixture_notify();
        assert_int_equal(fixture.n_calls, 2);
        assert_int_equal(fixture.calls[1].n, PLANNED_AT_ONCE - CHANGES_MAX);
        assert_int_equal(fixture.calls[1].n_plans, 1);

        /* Also if the events arrive before the answer. */
        fixture_notify();
        assert_int_equal(fixture.n_calls, 2);
        fixture_answer_at(KV_OK, fixture.view.index);
        assert_int_equal(fixture.n_calls, 3);
        while (fixture.done)
                fixture_complete();
        assert_int_equal(fixture.n_calls, 3);
        assert_int_equal(counts().scheduled, MANY);
        assert_int_equal(counts().passes, fixture.n_plans);
        for (unsigned i = 0; i < fixture.n_plans; i++)
                assert_true(fixture.plans[i].n <= PLANNED_AT_ONCE);
}

static void a_part_has_as_many_changes_as_fit_into_one_transaction(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                launch(name_of_many(name, i));
        fixture.fits = CHANGES_MAX - 50;
        fixture_begin();
        assert_int_equal(fixture.calls[0].n, CHANGES_MAX - 50);
        fixture_complete();
        assert_int_equal(counts().scheduled, CHANGES_MAX - 50);
        assert_int_equal(fixture.calls[1].n_plans, 1); /* the rest of the same plan */
        assert_int_equal(fixture.calls[1].n, CHANGES_MAX - 50);
        fixture.fits = 0;
        while (fixture.done)
                fixture_complete();
        assert_int_equal(counts().scheduled, MANY);
        assert_int_equal(counts().schedule_failures, 0);
}

static void assignments_that_could_not_be_written_are_planned_again_from_the_first_unit_on(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++) {
                run_on_a(name_of_many(name, i));
                cluster_view_target(&fixture.view, name, TARGET_INACTIVE);
        }
        fixture.error = -ENOMEM;
        fixture_begin();
        assert_int_equal(counts().pass_failures, 1);
        assert_int_equal(fixture.n_plans, 1); /* the other units wait for the retry, too */
        assert_int_equal(fixture.retry.delay_ms, 100);
        fixture_fire(&fixture.retry);
        assert_int_equal(fixture.n_calls, 2);
        assert_int_equal(fixture.calls[1].n_plans, 2);
        assert_memory_equal(fixture.plans[1].names, "u000.service ", 13);
        while (fixture.done)
                fixture_complete();
        assert_int_equal(counts().unscheduled, MANY);
}

static void all_units_are_planned_also_if_the_first_ones_need_no_change(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                run_on_a(name_of_many(name, i));
        cluster_view_target(&fixture.view, name_of_many(name, MANY - 1), TARGET_INACTIVE);
        fixture_begin();
        assert_int_equal(fixture.n_plans, 2);
        assert_int_equal(fixture.plans[1].n, MANY - PLANNED_AT_ONCE);
        assert_int_equal(fixture.calls[0].n, 1);
        fixture_complete();
        assert_int_equal(fixture.n_plans, 3);

        fixture_changed((RegistryChange) { .kind = CHANGED_MACHINE, .machine = ID_A });
        assert_int_equal(fixture.n_plans, 5);
        assert_int_equal(fixture.plans[3].n, PLANNED_AT_ONCE);
        assert_int_equal(fixture.plans[4].n, MANY - PLANNED_AT_ONCE);
}

/* As many as one plan considers: no other unit fits. */
static void changed_units_are_planned_before_the_resync(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                run_on_a(name_of_many(name, i));
        fixture_begin();
        assert_int_equal(fixture.n_plans, 2);
        for (unsigned i = 0; i < PLANNED_AT_ONCE; i++)
                fixture_report((RegistryChange) { .kind = CHANGED_STATE, .unit = name_of_many(name, i) });
        engine_set_brake(fixture.engine, 5000);
        fixture_turn();
        assert_int_equal(fixture.n_plans, 5);
        assert_int_equal(fixture.plans[2].n, PLANNED_AT_ONCE);
        assert_int_equal(fixture.plans[3].n, PLANNED_AT_ONCE);
        assert_int_equal(fixture.plans[4].n, MANY - PLANNED_AT_ONCE);
}

static void a_change_plans_the_units_that_it_affects(void **state) {
        static const RegistryChange one = { .kind = CHANGED_STATE, .unit = "b.service" };
        TurnWork before;

        three_run();
        fixture.freed = 7;
        fixture_begin();
        assert_int_equal(fixture.plans[0].n, 3);
        assert_int_equal(fixture.plans[0].freed, 0);
        before = fixture.loop.base.turns.now;
        fixture_changed(one);
        assert_int_equal(fixture.n_plans, 2);
        assert_string_equal(fixture.plans[1].names, "b.service ");
        assert_int_equal(fixture.plans[1].freed, 7);
        assert_true(fixture.plans[1].work > 0);
        assert_int_equal(fixture.loop.base.turns.now.nodes - before.nodes, fixture.plans[1].work);
        assert_int_equal(fixture.loop.base.turns.now.bytes, before.bytes);

        /* All units, if the affected ones are unknown, or memory is short. */
        fixture_changed((RegistryChange) { .kind = CHANGED_ALL });
        assert_int_equal(fixture.plans[2].n, 3);
        for (unsigned n = 1; n <= 3; n++) { /* the entry, and the two parts of its table */
                alloc_fail_at(n);
                fixture_report(one);
                assert_true(alloc_has_failed());
                alloc_fail_at(0);
                fixture_turn();
                assert_int_equal(fixture.plans[2 + n].n, 3);
        }
}

static void the_rest_of_a_plan_is_planned_next(void **state) {
        three_run();
        fixture_begin();
        fixture.rest[0] = "a.service";
        fixture.rest[1] = "b.service";
        fixture.n_rest = 2;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "c.service" });
        assert_int_equal(fixture.n_plans, 3);
        assert_string_equal(fixture.plans[1].names, "c.service ");
        assert_string_equal(fixture.plans[2].names, "a.service b.service ");
}

/* -- Memory -- */

static void assert_tried_again(unsigned failures, unsigned plans) {
        assert_int_equal(counts().pass_failures, failures);
        assert_int_equal(fixture.n_plans, plans);
        assert_true(fixture.retry.armed);
        assert_int_equal(fixture.retry.delay_ms, 100);
}

static void a_failure_without_memory_is_counted_and_tried_again_after_100_ms(void **state) {
        static const RegistryChange one = { .kind = CHANGED_STATE, .unit = "a.service" };

        three_run();
        fixture_engine();
        alloc_fail_at(1); /* the first entry of the dirty set, */
        fixture_turn();
        alloc_fail_at(0);
        assert_tried_again(1, 0);
        for (unsigned n = 2; n <= 3; n++) { /* the two parts of its table, */
                alloc_fail_at(n);
                fixture_fire(&fixture.retry);
                alloc_fail_at(0);
                assert_tried_again(n, 0);
        }
        fixture_fire(&fixture.retry);
        assert_int_equal(fixture.plans[0].n, 3);

        fixture_report(one);
        alloc_fail_at(1); /* the change, */
        fixture_turn();
        alloc_fail_at(0);
        assert_tried_again(4, 1);
        fixture_fire(&fixture.retry);

        fixture.plan_error = -ENOMEM; /* the plan, */
        fixture_changed(one);
        assert_tried_again(5, 3);
        fixture_fire(&fixture.retry);

        fixture.rest[0] = "b.service"; /* its rest, */
        fixture.n_rest = 1;
        fixture.fail_after_plan = 1;
        fixture_changed(one);
        alloc_fail_at(0);
        assert_tried_again(6, 5);
        fixture_fire(&fixture.retry);

        fixture.error = -ENOMEM; /* and the transaction. */
        cluster_view_target(&fixture.view, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        assert_tried_again(7, 7);
        fixture_fire(&fixture.retry);
        assert_int_equal(fixture.calls[1].n_plans, 8);
}

static void without_memory_for_a_timer_the_next_change_is_one_for_all_units(void **state) {
        three_run();
        fixture.without_timers = true;
        fixture_begin();
        assert_int_equal(fixture.n_warnings, 1); /* no resync */
        fixture.plan_error = -ENOMEM;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "a.service" });
        assert_int_equal(fixture.n_warnings, 2);
        fixture.without_timers = false;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "b.service" });
        assert_int_equal(fixture.n_plans, 3);
        assert_int_equal(fixture.plans[2].n, 3);

        /* Assignments that were not written are planned again at once. */
        cluster_view_target(&fixture.view, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        assert_int_equal(fixture.n_calls, 1);
        fixture.without_timers = true;
        fixture_answer(KV_COMPARE_FAILED);
        assert_int_equal(fixture.n_calls, 2);
        assert_int_equal(fixture.plans[4].n, 3);
}

/* A failed plan loses no unit, and the next plan begins with the same ones. */
static void units_that_could_not_be_planned_are_the_first_of_the_next_plan(void **state) {
        three_run();
        fixture_begin();
        fixture.plan_error = -ENOMEM;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "c.service" });
        assert_int_equal(counts().pass_failures, 1);
        fixture_fire(&fixture.retry);
        assert_string_equal(fixture.plans[2].names, "c.service a.service b.service ");
}

static void a_failure_without_memory_for_a_timer_is_tried_again_with_the_next_resync(void **state) {
        three_run();
        fixture_begin();
        fixture.plan_error = -ENOMEM;
        fixture.without_timers = true;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "c.service" });
        assert_int_equal(fixture.n_plans, 2);
        assert_int_equal(fixture.n_warnings, 1);
        fixture.without_timers = false;
        fixture_fire(&fixture.resync);
        assert_int_equal(fixture.n_plans, 3);
        assert_int_equal(fixture.plans[2].n, 3);
}

static void an_engine_without_memory_does_not_begin(void **state) {
        Engine *none = NULL;

        alloc_fail_at(1);
        assert_int_equal(engine_new(&none, &(ComponentHost) { .io.loop = &fixture.loop.base }, 0), -ENOMEM);
        alloc_fail_at(0);
        assert_null(none);
        assert_null(fixture.listener);
}

static void a_change_that_affects_no_unit_causes_no_pass(void **state) {
        three_run();
        fixture_begin();
        fixture_changed((RegistryChange) { .kind = CHANGED_CLUSTER });
        assert_int_equal(fixture.n_plans, 1);
        assert_int_equal(fixture.n_calls, 0);
        assert_int_equal(counts().passes, 1);
}

/* -- Time -- */

static void a_plan_that_time_changes_is_repeated_at_that_time(void **state) {
        static const RegistryChange one = { .kind = CHANGED_STATE, .unit = "a.service" };

        three_run();
        fixture.again_ms = 1000;
        fixture_begin();
        assert_true(fixture.retry.armed);
        assert_int_equal(fixture.retry.delay_ms, 1000);
        fixture.again_ms = 0;
        fixture_changed(one); /* of another unit: the first ones are still to be planned then */
        assert_true(fixture.retry.armed);
        assert_int_equal(fixture.retry.delay_ms, 1000);
        fixture_fire(&fixture.retry);
        assert_int_equal(fixture.n_plans, 3);
        assert_int_equal(fixture.plans[2].n, 3);
        assert_false(fixture.retry.armed);
        assert_int_equal(fixture.n_warnings, 0);
}

static void a_resync_plans_all_units_if_the_cluster_view_has_changed(void **state) {
        three_run();
        fixture_begin();
        assert_int_equal(fixture.resync.delay_ms, 30000);
        fixture_fire(&fixture.resync);
        assert_int_equal(fixture.n_plans, 1);
        fixture.view.cluster.index++;
        fixture_fire(&fixture.resync);
        assert_int_equal(fixture.n_plans, 2);
        assert_int_equal(fixture.plans[1].n, 3);
        fixture_fire(&fixture.resync);
        assert_int_equal(fixture.n_plans, 2);
        assert_true(fixture.resync.armed);
        assert_int_equal(fixture.resync.delay_ms, 30000);
}

static void a_brake_is_30_s_unless_it_is_set(void **state) {
        three_run();
        cluster_view_presence(&fixture.view, "A", PRESENCE_LOST);
        cluster_view_presence(&fixture.view, "B", PRESENCE_LOST);
        fixture.state.term = 1;
        fixture_begin();
        assert_int_equal(engine_brake(fixture.engine), 30000);
        assert_int_equal(fixture.plans[0].brake_ms, 30000);
        assert_int_equal(fixture.retry.delay_ms, 30000);

        engine_set_brake(fixture.engine, 5000);
        fixture_turn();
        assert_int_equal(fixture.n_plans, 2);
        assert_int_equal(fixture.plans[1].n, 3);
        assert_int_equal(fixture.plans[1].brake_ms, 5000);
        assert_int_equal(fixture.retry.delay_ms, 5000);
        engine_set_brake(fixture.engine, 5000);
        fixture_turn();
        assert_int_equal(fixture.n_plans, 2);
        engine_set_brake(fixture.engine, 0);
        assert_int_equal(engine_brake(fixture.engine), 30000);
        assert_int_equal(fixture.n_calls, 0);
}

/* -- Leadership -- */

static void a_follower_plans_nothing(void **state) {
        unsigned n;

        three_run();
        fixture.state.role = KV_ROLE_FOLLOWER;
        fixture_begin();
        fixture_changed((RegistryChange) { .kind = CHANGED_ALL });
        engine_set_brake(fixture.engine, 5000);
        fixture.state.role = KV_ROLE_LEADER;
        fixture.state.ready = false;
        engine_state_changed(fixture.engine);
        engine_wake_controllers(fixture.engine);
        engine_wake_controllers(NULL);
        assert_int_equal(fixture.n_wakes, 0);
        assert_int_equal(counts().leader_since_s, 0);
        assert_false(fixture.resync.armed);

        fixture.state.ready = true;
        engine_state_changed(fixture.engine);
        fixture_turn();
        assert_int_equal(fixture.n_plans, 1);
        assert_int_equal(fixture.plans[0].n, 3);
        assert_int_equal(counts().leader_since_s, 1); /* the loop's wall clock shows a second */
        n = fixture.n_wakes;
        engine_state_changed(fixture.engine);
        assert_int_equal(fixture.n_wakes, n);
        engine_wake_controllers(fixture.engine);
        assert_int_equal(fixture.n_wakes, n + 1);

        fixture.state.term = TERM + 1;
        engine_state_changed(fixture.engine);
        fixture_turn();
        assert_int_equal(fixture.n_plans, 2);
        cluster_view_target(&fixture.view, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        assert_int_equal(fixture.calls[0].term, TERM + 1);

        fixture.state.role = KV_ROLE_FOLLOWER;
        engine_state_changed(fixture.engine);
        assert_int_equal(counts().leader_since_s, 0);
        assert_false(fixture.woken || fixture.retry.armed || fixture.resync.armed);
        n = fixture.n_wakes;
        fixture_answer(KV_TERM_CHANGED);
        fixture_changed((RegistryChange) { .kind = CHANGED_ALL });
        assert_int_equal(fixture.n_wakes, n);
        assert_false(fixture.retry.armed);
}

static void an_engine_begins_when_its_view_is_current_and_later_needs_a_complete_one(void **state) {
        static const RegistryChange one = { .kind = CHANGED_STATE, .unit = "a.service" };

        three_run();
        fixture.current = false;
        fixture_engine();
        fixture.woken = false;
        fixture.wake->run(fixture.wake->userdata);
        assert_true(fixture.woken); /* wakes by itself */
        assert_int_equal(fixture.n_plans, 0);
        fixture.current = true;
        fixture_turn();
        assert_int_equal(fixture.n_plans, 1);
        fixture.current = false;
        fixture_changed(one);
        assert_int_equal(fixture.n_plans, 2);
        fixture.ready = false;
        fixture_changed(one);
        assert_int_equal(fixture.n_plans, 2);
        fixture.ready = true;
        fixture_changed(one);
        assert_int_equal(fixture.n_plans, 3);
}

/* The answer to the first part arrives before the leadership is lost, or after it is regained. */
static void assert_planned_again(bool answered_before) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                launch(name_of_many(name, i));
        fixture.freed = 7;
        fixture_begin();
        if (answered_before)
                fixture_answer(KV_OK);
        lose_and_regain();
        if (!answered_before)
                fixture_answer(KV_OK);
        assert_int_equal(counts().scheduled, CHANGES_MAX);
        assert_int_equal(fixture.n_logged, CHANGES_MAX);
        if (!answered_before)
                assert_int_equal(fixture.n_calls, 1);
        fixture_notify();
        assert_int_equal(fixture.n_calls, 2);
        assert_int_equal(fixture.calls[1].n_plans, 2);
        assert_int_equal(fixture.plans[1].freed, 0);
}

static void a_plan_of_an_earlier_leadership_is_repeated(void **state) {
        assert_planned_again(true);
}

static void an_answer_that_arrives_after_leadership_was_regained_ends_the_old_plan(void **state) {
        assert_planned_again(false);
}

static void a_new_leader_does_not_wait_for_what_it_wrote_before(void **state) {
        launch("a.service");
        fixture_begin();
        fixture_answer_at(KV_OK, fixture.view.index + 1000);
        assert_int_equal(fixture.n_plans, 1);
        lose_and_regain();
        fixture_turn();
        assert_int_equal(fixture.n_plans, 2);
}

/* A replaced tree may be older than the last write to the previous one. */
static void an_engine_waits_for_its_own_write_once(void **state) {
        three_run();
        launch("d.service");
        fixture_begin();
        fixture_complete();
        assert_int_equal(fixture.n_calls, 1);
        fixture.view.cluster.index = 0;
        fixture_report((RegistryChange) { .kind = CHANGED_STATE, .unit = "a.service" });
        fixture_turn();
        assert_string_equal(fixture.plans[fixture.n_plans - 1].names, "a.service ");
}

static void an_engine_can_be_freed_at_any_time(void **state) {
        launch("a.service");
        fixture_begin();
        assert_int_equal(fixture.n_calls, 1); /* while it writes, */
        fixture_end();
        fixture.plan_error = -ENOMEM;
        fixture_begin();
        assert_int_equal(counts().pass_failures, 1); /* with units that wait for a plan, */
        fixture_end();
        fixture_begin();
        fixture_report((RegistryChange) {
                .kind = CHANGED_ASSIGNMENT, .unit = "a.service", .machine = ID_A }); /* and with changes */
}

/* -- Rejected assignments -- */

static void an_assignment_that_is_rejected_twice_is_left_out_until_the_unit_changes(void **state) {
        launch("a.service");
        launch("b.service");
        fixture.refused = "a.service";
        fixture_begin();
        fixture_reject();
        assert_int_equal(fixture.n_warnings, 0);
        assert_int_equal(fixture.calls[1].n, 2);
        fixture_reject();
        assert_int_equal(fixture.calls[2].n, 1);
        assert_int_equal(fixture.n_warnings, 1);
        assert_int_equal(counts().schedule_failures, 4);
        fixture_complete();
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "b.service" });
        assert_int_equal(fixture.n_calls, 3);

        /* A new leader writes it again. */
        lose_and_regain();
        fixture_turn();
        assert_int_equal(fixture.n_calls, 4);
        fixture_reject();
        assert_int_equal(fixture.n_calls, 5);
        fixture_reject();
        assert_int_equal(fixture.n_calls, 5);
        assert_int_equal(fixture.n_warnings, 2);
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "a.service" });
        assert_int_equal(fixture.n_calls, 6);
}

static void a_rejection_of_another_assignment_of_the_unit_starts_a_new_count(void **state) {
        launch("a.service");
        launch("b.service");
        fixture.refused = "a.service";
        for (Field field = FIELD_MACHINE; field < _FIELD_MAX; field++) {
                fixture.n_calls = fixture.n_plans = 0;
                fixture_begin();
                fixture.other = field;
                fixture_reject();
                fixture.other = FIELD_NONE;
                fixture_reject();
                assert_int_equal(fixture.calls[2].n, 2);
                fixture_reject();
                assert_int_equal(fixture.calls[3].n, 1);
                fixture_end();
        }
}

static void a_rejection_without_memory_does_not_count(void **state) {
        launch("a.service");
        launch("b.service");
        fixture.refused = "a.service";
        for (unsigned n = 1; n <= 3; n++) { /* the entry, and the two parts of its table */
                fixture.n_calls = fixture.n_plans = 0;
                fixture_begin();
                alloc_fail_at(n);
                fixture_answer(KV_COMPARE_FAILED);
                assert_true(alloc_has_failed());
                alloc_fail_at(0);
                fixture_fire(&fixture.retry);
                fixture_reject();
                assert_int_equal(fixture.calls[2].n, 2);
                fixture_reject();
                assert_int_equal(fixture.calls[3].n, 1);
                fixture_end();
        }
}

/* -- A new lineage -- */

static void report(const char *machine) {
        char key[128], id[MACHINE_ID_SIZE];

        snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(id, machine));
        cluster_view_put(&fixture.view, key, "00000000000000ab");
}

static void assignments_wait_for_reports_and_the_adoption_ends_after_retries(void **state) {
        static const RegistryChange something = { .kind = CHANGED_CLUSTER };
        unsigned n;

        fixture.view.cluster.lineage = 0xab;
        cluster_view_put(&fixture.view, ADOPTING, "1000000");
        launch("a.service");
        cluster_view_state(&fixture.view, "B", "a.service", "active");
        fixture_begin();
        fixture_changed(something);
        assert_int_equal(fixture.n_plans, 0);
        assert_int_equal(fixture.retry.delay_ms, ADOPTION_MS);
        assert_int_equal(fixture.n_notices, 1); /* logged once */
        assert_non_null(strstr(fixture.notice, "waiting for A to report"));
        assert_non_null(strstr(fixture.notice, "for 300 s at most"));

        report("A");
        report("B");
        fixture_changed(something);
        assert_int_equal(fixture.calls[0].n, 1);
        fixture_complete();
        assert_int_equal(fixture.n_calls, 2);
        assert_int_equal(fixture.calls[1].n, 0);
        assert_int_equal(fixture.calls[1].term, TERM);
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE,
                                           .unit = "a.service" }); /* one transaction at a time */
        assert_int_equal(fixture.n_calls, 2);

        /* after a failure later, */
        fixture_answer(KV_NO_LEADER);
        assert_int_equal(fixture.n_calls, 2);
        assert_int_equal(fixture.retry.delay_ms, 100);
        fixture_fire(&fixture.retry);
        assert_int_equal(fixture.n_calls, 3);
        fixture.without_timers = true; /* or at once, with all units dirty, */
        n = fixture.n_plans;
        fixture_answer(KV_NO_LEADER);
        fixture.without_timers = false;
        assert_int_equal(fixture.n_calls, 4);
        assert_int_equal(fixture.n_plans, n + 1);
        fixture_answer(KV_NO_LEADER);
        fixture.error = -ENOMEM; /* also if the call itself fails */
        fixture_fire(&fixture.retry);
        assert_int_equal(fixture.n_calls, 5);
        assert_int_equal(counts().pass_failures, 1);
        assert_int_equal(fixture.retry.delay_ms, 100);
        fixture_fire(&fixture.retry);
        assert_int_equal(fixture.n_calls, 6);

        n = fixture.n_wakes;
        fixture_answer(KV_OK);
        assert_true(fixture.n_wakes > n);
        assert_false(fixture.retry.armed);
        assert_int_equal(fixture.n_calls, 6); /* its event has not arrived */
        cluster_view_remove(&fixture.view, ADOPTING);
        fixture_changed(something);
        assert_int_equal(fixture.n_calls, 6);

        /* The next lineage is logged, too. */
        fixture.view.cluster.lineage = 0xcd;
        cluster_view_put(&fixture.view, ADOPTING, "1000000");
        fixture_changed(something);
        assert_int_equal(fixture.n_notices, 2);
}

static void a_former_leader_leaves_the_end_of_the_adoption_to_the_next_one(void **state) {
        unsigned n;

        cluster_view_put(&fixture.view, ADOPTING, "0");
        fixture_begin();
        assert_int_equal(fixture.n_calls, 1);
        assert_int_equal(fixture.calls[0].n, 0);
        fixture.state.role = KV_ROLE_FOLLOWER;
        engine_state_changed(fixture.engine);
        n = fixture.n_wakes;
        fixture_answer(KV_TERM_CHANGED);
        assert_int_equal(fixture.n_wakes, n);
        assert_false(fixture.retry.armed);
}

#define in_a_fixture(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_fixture(each_assignment_is_counted_and_logged_once),
                in_a_fixture(a_raise_of_the_level_alone_plans_all_units),
                in_a_fixture(a_large_plan_is_written_in_parts_each_when_the_cluster_view_has_the_one_before),
                in_a_fixture(a_part_has_as_many_changes_as_fit_into_one_transaction),
                in_a_fixture(assignments_that_could_not_be_written_are_planned_again_from_the_first_unit_on),
                in_a_fixture(all_units_are_planned_also_if_the_first_ones_need_no_change),
                in_a_fixture(changed_units_are_planned_before_the_resync),
                in_a_fixture(a_change_plans_the_units_that_it_affects),
                in_a_fixture(the_rest_of_a_plan_is_planned_next),
                in_a_fixture(a_failure_without_memory_is_counted_and_tried_again_after_100_ms),
                in_a_fixture(without_memory_for_a_timer_the_next_change_is_one_for_all_units),
                in_a_fixture(units_that_could_not_be_planned_are_the_first_of_the_next_plan),
                in_a_fixture(a_failure_without_memory_for_a_timer_is_tried_again_with_the_next_resync),
                in_a_fixture(an_engine_without_memory_does_not_begin),
                in_a_fixture(a_change_that_affects_no_unit_causes_no_pass),
                in_a_fixture(a_plan_that_time_changes_is_repeated_at_that_time),
                in_a_fixture(a_resync_plans_all_units_if_the_cluster_view_has_changed),
                in_a_fixture(a_brake_is_30_s_unless_it_is_set),
                in_a_fixture(a_follower_plans_nothing),
                in_a_fixture(an_engine_begins_when_its_view_is_current_and_later_needs_a_complete_one),
                in_a_fixture(a_plan_of_an_earlier_leadership_is_repeated),
                in_a_fixture(an_answer_that_arrives_after_leadership_was_regained_ends_the_old_plan),
                in_a_fixture(a_new_leader_does_not_wait_for_what_it_wrote_before),
                in_a_fixture(an_engine_waits_for_its_own_write_once),
                in_a_fixture(an_engine_can_be_freed_at_any_time),
                in_a_fixture(an_assignment_that_is_rejected_twice_is_left_out_until_the_unit_changes),
                in_a_fixture(a_rejection_of_another_assignment_of_the_unit_starts_a_new_count),
                in_a_fixture(a_rejection_without_memory_does_not_count),
                in_a_fixture(assignments_wait_for_reports_and_the_adoption_ends_after_retries),
                in_a_fixture(a_former_leader_leaves_the_end_of_the_adoption_to_the_next_one),
        };

        log_set_sink(fixture_on_log, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
