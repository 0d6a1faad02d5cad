/* The engine without a store. With a real store: test-registry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <errno.h>

#include <cmocka.h>

#include "fleetd/engine/adoption.h"
#include "base/sizes.h"
#include "tests/lib/alloc.h"
#include "tests/lib/engine_fixture.h"

enum {
        LOOKED_AT = 250, /* units, by one plan */
        MANY = 300,
};

#define ID_A     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ADOPTING "/_fleet/cluster/adopting"

static void lose_and_regain(void) {
        room.state.role = KV_ROLE_FOLLOWER;
        engine_state_changed(room.engine);
        room.state.role = KV_ROLE_LEADER;
        engine_state_changed(room.engine);
}

static EngineCounts counts(void) {
        EngineCounts c;

        engine_counts(room.engine, &c);
        return c;
}

static void launch(const char *name) {
        cluster_view_unit(&room.picture, name, "", TARGET_LAUNCHED);
}

static void run_on_a(const char *name) {
        launch(name);
        cluster_view_assign(&room.picture, "A", name, ASSIGNMENT_RUN);
        cluster_view_state(&room.picture, "A", name, "active");
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

/* -- Plans and orders -- */

static void orders_are_counted_and_told_once_each(void **state) {
        launch("a.service");
        launch("b.service");
        fixture_begin();
        assert_int_equal(room.calls[0].n, 2);
        assert_int_equal(room.calls[0].term, TERM);
        fixture_carry_out();
        assert_int_equal(room.n_calls, 1);
        assert_int_equal(counts().scheduled, 2);
        assert_int_equal(counts().unscheduled, 0);
        assert_int_equal(room.n_told, 2);

        cluster_view_target(&room.picture, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        fixture_answer(KV_COMPARE_FAILED);
        assert_int_equal(counts().unschedule_failures, 1);
        assert_int_equal(counts().schedule_failures, 0);
        assert_int_equal(room.n_calls, 2); /* again, but not at once */
        assert_int_equal(room.again.delay_ms, 100);
        fixture_fire(&room.again);
        fixture_carry_out();
        assert_int_equal(room.n_calls, 3);
        assert_int_equal(counts().scheduled, 2);
        assert_int_equal(counts().unscheduled, 1);
        assert_int_equal(room.n_told, 3);
}

static void a_large_plan_is_written_in_parts_each_when_the_one_before_is_known(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                launch(name_of_many(name, i));
        fixture_begin();
        assert_int_equal(room.plans[0].n, LOOKED_AT);
        assert_int_equal(room.plans[0].work_max, 20000);
        assert_int_equal(room.calls[0].n, ORDERS_MAX);
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "u000.service" });
        fixture_answer(KV_OK);
        assert_int_equal(room.n_calls, 1);
        fixture_tell();
        assert_int_equal(room.n_calls, 2);
        assert_int_equal(room.calls[1].n, LOOKED_AT - ORDERS_MAX);
        assert_int_equal(room.calls[1].n_plans, 1);

        /* Also when the events come before the answer. */
        fixture_tell();
        assert_int_equal(room.n_calls, 2);
        fixture_answer_at(KV_OK, room.picture.index);
        assert_int_equal(room.n_calls, 3);
        while (room.done)
                fixture_carry_out();
        assert_int_equal(room.n_calls, 3);
        assert_int_equal(counts().scheduled, MANY);
        assert_int_equal(counts().passes, room.n_plans);
        for (unsigned i = 0; i < room.n_plans; i++)
                assert_true(room.plans[i].n <= LOOKED_AT);
}

static void orders_that_could_not_be_written_are_planned_again_from_the_first_unit_on(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++) {
                run_on_a(name_of_many(name, i));
                cluster_view_target(&room.picture, name, TARGET_INACTIVE);
        }
        room.error = -ENOMEM;
        fixture_begin();
        assert_int_equal(counts().pass_failures, 1);
        assert_int_equal(room.n_plans, 1); /* the others of them, too, wait until memory may be there again */
        assert_int_equal(room.again.delay_ms, 100);
        fixture_fire(&room.again);
        assert_int_equal(room.n_calls, 2);
        assert_int_equal(room.calls[1].n_plans, 2);
        assert_memory_equal(room.plans[1].names, "u000.service ", 13);
        while (room.done)
                fixture_carry_out();
        assert_int_equal(counts().unscheduled, MANY);
}

static void all_units_are_looked_at_also_when_the_first_need_nothing(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                run_on_a(name_of_many(name, i));
        cluster_view_target(&room.picture, name_of_many(name, MANY - 1), TARGET_INACTIVE);
        fixture_begin();
        assert_int_equal(room.n_plans, 2);
        assert_int_equal(room.plans[1].n, MANY - LOOKED_AT);
        assert_int_equal(room.calls[0].n, 1);
        fixture_carry_out();
        assert_int_equal(room.n_plans, 3);

        fixture_changed((RegistryChange) { .kind = CHANGED_MACHINE, .machine = ID_A });
        assert_int_equal(room.n_plans, 5);
        assert_int_equal(room.plans[3].n, LOOKED_AT);
        assert_int_equal(room.plans[4].n, MANY - LOOKED_AT);
}

/* As many as one plan looks at: it has no place for others. */
static void units_that_have_changed_are_planned_before_all_are(void **state) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                run_on_a(name_of_many(name, i));
        fixture_begin();
        assert_int_equal(room.n_plans, 2);
        for (unsigned i = 0; i < LOOKED_AT; i++)
                fixture_hear((RegistryChange) { .kind = CHANGED_STATE, .unit = name_of_many(name, i) });
        engine_set_brake(room.engine, 5000);
        fixture_turn();
        assert_int_equal(room.n_plans, 5);
        assert_int_equal(room.plans[2].n, LOOKED_AT);
        assert_int_equal(room.plans[3].n, LOOKED_AT);
        assert_int_equal(room.plans[4].n, MANY - LOOKED_AT);
}

static void a_change_is_planned_for_those_that_it_concerns(void **state) {
        static const RegistryChange one = { .kind = CHANGED_STATE, .unit = "b.service" };
        TurnWork before;

        three_run();
        room.freed = 7;
        fixture_begin();
        assert_int_equal(room.plans[0].n, 3);
        assert_int_equal(room.plans[0].freed, 0);
        before = room.loop.base.turns.now;
        fixture_changed(one);
        assert_int_equal(room.n_plans, 2);
        assert_string_equal(room.plans[1].names, "b.service ");
        assert_int_equal(room.plans[1].freed, 7);
        assert_true(room.plans[1].work > 0);
        assert_int_equal(room.loop.base.turns.now.nodes - before.nodes, room.plans[1].work);
        assert_int_equal(room.loop.base.turns.now.bytes, before.bytes);

        /* All of them, where nobody knows which, or there is no memory for names. */
        fixture_changed((RegistryChange) { .kind = CHANGED_ALL });
        assert_int_equal(room.plans[2].n, 3);
        for (unsigned n = 1; n <= 3; n++) { /* the name itself, and the two parts of its table */
                alloc_fail_at(n);
                fixture_hear(one);
                assert_true(alloc_has_failed());
                alloc_fail_at(0);
                fixture_turn();
                assert_int_equal(room.plans[2 + n].n, 3);
        }
}

static void the_rest_of_a_plan_is_planned_next(void **state) {
        three_run();
        fixture_begin();
        room.rest[0] = "a.service";
        room.rest[1] = "b.service";
        room.n_rest = 2;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "c.service" });
        assert_int_equal(room.n_plans, 3);
        assert_string_equal(room.plans[1].names, "c.service ");
        assert_string_equal(room.plans[2].names, "a.service b.service ");
}

/* -- Memory -- */

static void assert_tried_again(unsigned failures, unsigned plans) {
        assert_int_equal(counts().pass_failures, failures);
        assert_int_equal(room.n_plans, plans);
        assert_true(room.again.armed);
        assert_int_equal(room.again.delay_ms, 100);
}

static void a_failure_for_want_of_memory_is_counted_and_tried_again_after_100_ms(void **state) {
        static const RegistryChange one = { .kind = CHANGED_STATE, .unit = "a.service" };

        three_run();
        fixture_engine();
        alloc_fail_at(1); /* the first of all names, */
        fixture_turn();
        alloc_fail_at(0);
        assert_tried_again(1, 0);
        for (unsigned n = 2; n <= 3; n++) { /* and the two parts of its table, */
                alloc_fail_at(n);
                fixture_fire(&room.again);
                alloc_fail_at(0);
                assert_tried_again(n, 0);
        }
        fixture_fire(&room.again);
        assert_int_equal(room.plans[0].n, 3);

        fixture_hear(one);
        alloc_fail_at(1); /* of one, */
        fixture_turn();
        alloc_fail_at(0);
        assert_tried_again(4, 1);
        fixture_fire(&room.again);

        room.plan_error = -ENOMEM; /* a plan, */
        fixture_changed(one);
        assert_tried_again(5, 3);
        fixture_fire(&room.again);

        room.rest[0] = "b.service"; /* what it leaves, */
        room.n_rest = 1;
        room.fail_after_plan = 1;
        fixture_changed(one);
        alloc_fail_at(0);
        assert_tried_again(6, 5);
        fixture_fire(&room.again);

        room.error = -ENOMEM; /* and orders. */
        cluster_view_target(&room.picture, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        assert_tried_again(7, 7);
        fixture_fire(&room.again);
        assert_int_equal(room.calls[1].n_plans, 8);
}

static void without_memory_for_a_timer_the_next_change_is_one_for_all_units(void **state) {
        three_run();
        room.without_timers = true;
        fixture_begin();
        assert_int_equal(room.n_warnings, 1); /* no sweep */
        room.plan_error = -ENOMEM;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "a.service" });
        assert_int_equal(room.n_warnings, 2);
        room.without_timers = false;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "b.service" });
        assert_int_equal(room.n_plans, 3);
        assert_int_equal(room.plans[2].n, 3);

        /* Orders that were not written are planned again at once. */
        cluster_view_target(&room.picture, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        assert_int_equal(room.n_calls, 1);
        room.without_timers = true;
        fixture_answer(KV_COMPARE_FAILED);
        assert_int_equal(room.n_calls, 2);
        assert_int_equal(room.plans[4].n, 3);
}

/* A failure leaves nothing that was to be planned out, and begins with it. */
static void what_could_not_be_planned_comes_first_the_next_time(void **state) {
        three_run();
        fixture_begin();
        room.plan_error = -ENOMEM;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "c.service" });
        assert_int_equal(counts().pass_failures, 1);
        fixture_fire(&room.again);
        assert_string_equal(room.plans[2].names, "c.service a.service b.service ");
}

static void a_failure_without_memory_for_a_timer_is_tried_again_with_the_next_resync(void **state) {
        three_run();
        fixture_begin();
        room.plan_error = -ENOMEM;
        room.without_timers = true;
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "c.service" });
        assert_int_equal(room.n_plans, 2);
        assert_int_equal(room.n_warnings, 1);
        room.without_timers = false;
        fixture_fire(&room.sweep);
        assert_int_equal(room.n_plans, 3);
        assert_int_equal(room.plans[2].n, 3);
}

static void an_engine_without_memory_does_not_begin(void **state) {
        Engine *none = NULL;

        alloc_fail_at(1);
        assert_int_equal(engine_new(&none, &room.loop.base, NULL, &(EngineOptions) {}), -ENOMEM);
        alloc_fail_at(0);
        assert_null(none);
        assert_null(room.listener);
}

static void a_change_that_concerns_no_unit_makes_no_pass(void **state) {
        three_run();
        fixture_begin();
        fixture_changed((RegistryChange) { .kind = CHANGED_CLUSTER });
        assert_int_equal(room.n_plans, 1);
        assert_int_equal(room.n_calls, 0);
        assert_int_equal(counts().passes, 1);
}

/* -- Time -- */

static void a_plan_that_time_changes_is_made_again_then(void **state) {
        static const RegistryChange one = { .kind = CHANGED_STATE, .unit = "a.service" };

        three_run();
        room.again_ms = 1000;
        fixture_begin();
        assert_true(room.again.armed);
        assert_int_equal(room.again.delay_ms, 1000);
        room.again_ms = 0;
        fixture_changed(one);
        assert_false(room.again.armed);
        room.again_ms = 1000;
        fixture_changed(one);
        room.again_ms = 0;
        fixture_fire(&room.again);
        assert_int_equal(room.n_plans, 4);
        assert_int_equal(room.plans[3].n, 3);
        assert_int_equal(room.n_warnings, 0);
}

static void a_resync_looks_at_all_units_if_anything_has_changed(void **state) {
        three_run();
        fixture_begin();
        assert_int_equal(room.sweep.delay_ms, 30000);
        fixture_fire(&room.sweep);
        assert_int_equal(room.n_plans, 1);
        room.picture.cluster.index++;
        fixture_fire(&room.sweep);
        assert_int_equal(room.n_plans, 2);
        assert_int_equal(room.plans[1].n, 3);
        fixture_fire(&room.sweep);
        assert_int_equal(room.n_plans, 2);
        assert_true(room.sweep.armed);
        assert_int_equal(room.sweep.delay_ms, 30000);
}

static void a_brake_is_30_s_unless_it_is_set(void **state) {
        three_run();
        cluster_view_presence(&room.picture, "A", PRESENCE_LOST);
        cluster_view_presence(&room.picture, "B", PRESENCE_LOST);
        room.state.term = 1;
        fixture_begin();
        assert_int_equal(engine_brake(room.engine), 30000);
        assert_int_equal(room.plans[0].brake_ms, 30000);
        assert_int_equal(room.again.delay_ms, 30000);

        engine_set_brake(room.engine, 5000);
        fixture_turn();
        assert_int_equal(room.n_plans, 2);
        assert_int_equal(room.plans[1].n, 3);
        assert_int_equal(room.plans[1].brake_ms, 5000);
        assert_int_equal(room.again.delay_ms, 5000);
        engine_set_brake(room.engine, 5000);
        fixture_turn();
        assert_int_equal(room.n_plans, 2);
        engine_set_brake(room.engine, 0);
        assert_int_equal(engine_brake(room.engine), 30000);
        assert_int_equal(room.n_calls, 0);
}

/* -- Leadership -- */

static void a_follower_plans_nothing(void **state) {
        unsigned n;

        three_run();
        room.state.role = KV_ROLE_FOLLOWER;
        fixture_begin();
        fixture_changed((RegistryChange) { .kind = CHANGED_ALL });
        engine_set_brake(room.engine, 5000);
        room.state.role = KV_ROLE_LEADER;
        room.state.ready = false;
        engine_state_changed(room.engine);
        assert_int_equal(room.n_wakes, 0);
        assert_int_equal(counts().leader_since_s, 0);
        assert_false(room.sweep.armed);

        room.state.ready = true;
        engine_state_changed(room.engine);
        fixture_turn();
        assert_int_equal(room.n_plans, 1);
        assert_int_equal(room.plans[0].n, 3);
        assert_int_equal(counts().leader_since_s, 1); /* the loop's wall clock shows a second */
        n = room.n_wakes;
        engine_state_changed(room.engine);
        assert_int_equal(room.n_wakes, n);

        room.state.term = TERM + 1;
        engine_state_changed(room.engine);
        fixture_turn();
        assert_int_equal(room.n_plans, 2);
        cluster_view_target(&room.picture, "a.service", TARGET_INACTIVE);
        fixture_changed((RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        assert_int_equal(room.calls[0].term, TERM + 1);

        room.state.role = KV_ROLE_FOLLOWER;
        engine_state_changed(room.engine);
        assert_int_equal(counts().leader_since_s, 0);
        assert_false(room.woken || room.again.armed || room.sweep.armed);
        n = room.n_wakes;
        fixture_answer(KV_TERM_CHANGED);
        fixture_changed((RegistryChange) { .kind = CHANGED_ALL });
        assert_int_equal(room.n_wakes, n);
        assert_false(room.again.armed);
}

static void an_engine_begins_when_its_view_is_current_and_needs_a_whole_one_later(void **state) {
        static const RegistryChange one = { .kind = CHANGED_STATE, .unit = "a.service" };

        three_run();
        room.current = false;
        fixture_engine();
        room.woken = false;
        room.wake->run(room.wake->userdata);
        assert_true(room.woken); /* looks again by itself */
        assert_int_equal(room.n_plans, 0);
        room.current = true;
        fixture_turn();
        assert_int_equal(room.n_plans, 1);
        room.current = false;
        fixture_changed(one);
        assert_int_equal(room.n_plans, 2);
        room.ready = false;
        fixture_changed(one);
        assert_int_equal(room.n_plans, 2);
        room.ready = true;
        fixture_changed(one);
        assert_int_equal(room.n_plans, 3);
}

/* Whether the answer to its first part came before leadership was lost, or after it was regained. */
static void assert_planned_anew(bool answered_before) {
        char name[16];

        for (unsigned i = 0; i < MANY; i++)
                launch(name_of_many(name, i));
        room.freed = 7;
        fixture_begin();
        if (answered_before)
                fixture_answer(KV_OK);
        lose_and_regain();
        if (!answered_before)
                fixture_answer(KV_OK);
        assert_int_equal(counts().scheduled, ORDERS_MAX);
        assert_int_equal(room.n_told, ORDERS_MAX);
        if (!answered_before)
                assert_int_equal(room.n_calls, 1);
        fixture_tell();
        assert_int_equal(room.n_calls, 2);
        assert_int_equal(room.calls[1].n_plans, 2);
        assert_int_equal(room.plans[1].freed, 0);
}

static void a_plan_from_before_leadership_was_lost_is_made_anew(void **state) {
        assert_planned_anew(true);
}

static void an_answer_that_comes_after_leadership_was_regained_ends_the_old_plan(void **state) {
        assert_planned_anew(false);
}

static void a_new_leader_does_not_wait_for_what_it_wrote_before(void **state) {
        launch("a.service");
        fixture_begin();
        fixture_answer_at(KV_OK, room.picture.index + 1000);
        assert_int_equal(room.n_plans, 1);
        lose_and_regain();
        fixture_turn();
        assert_int_equal(room.n_plans, 2);
}

/* A tree that was exchanged may be older than what was written to the former one. */
static void what_a_leader_wrote_is_waited_for_once(void **state) {
        three_run();
        launch("d.service");
        fixture_begin();
        fixture_carry_out();
        assert_int_equal(room.n_calls, 1);
        room.picture.cluster.index = 0;
        fixture_hear((RegistryChange) { .kind = CHANGED_STATE, .unit = "a.service" });
        fixture_turn();
        assert_string_equal(room.plans[room.n_plans - 1].names, "a.service ");
}

static void an_engine_may_end_at_any_time(void **state) {
        launch("a.service");
        fixture_begin();
        assert_int_equal(room.n_calls, 1); /* while it writes, */
        fixture_end();
        room.plan_error = -ENOMEM;
        fixture_begin();
        assert_int_equal(counts().pass_failures, 1); /* with units that wait for a plan, */
        fixture_end();
        fixture_begin();
        fixture_hear((RegistryChange) {
                .kind = CHANGED_ASSIGNMENT, .unit = "a.service", .machine = ID_A }); /* and with changes */
}

/* -- Refused orders -- */

static void an_order_that_is_refused_twice_is_left_out_until_something_changes(void **state) {
        launch("a.service");
        launch("b.service");
        room.refused = "a.service";
        fixture_begin();
        fixture_refuse();
        assert_int_equal(room.n_warnings, 0);
        assert_int_equal(room.calls[1].n, 2);
        fixture_refuse();
        assert_int_equal(room.calls[2].n, 1);
        assert_int_equal(room.n_warnings, 1);
        assert_int_equal(counts().schedule_failures, 4);
        fixture_carry_out();
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "b.service" });
        assert_int_equal(room.n_calls, 3);

        /* A new leader asks again. */
        lose_and_regain();
        fixture_turn();
        assert_int_equal(room.n_calls, 4);
        fixture_refuse();
        assert_int_equal(room.n_calls, 5);
        fixture_refuse();
        assert_int_equal(room.n_calls, 5);
        assert_int_equal(room.n_warnings, 2);
        fixture_changed((RegistryChange) { .kind = CHANGED_STATE, .unit = "a.service" });
        assert_int_equal(room.n_calls, 6);
}

static void a_refusal_of_another_order_of_the_unit_counts_anew(void **state) {
        launch("a.service");
        launch("b.service");
        room.refused = "a.service";
        for (Field field = FIELD_MACHINE; field < _FIELD_MAX; field++) {
                room.n_calls = room.n_plans = 0;
                fixture_begin();
                room.other = field;
                fixture_refuse();
                room.other = FIELD_NONE;
                fixture_refuse();
                assert_int_equal(room.calls[2].n, 2);
                fixture_refuse();
                assert_int_equal(room.calls[3].n, 1);
                fixture_end();
        }
}

static void a_refusal_that_there_is_no_memory_for_does_not_count(void **state) {
        launch("a.service");
        launch("b.service");
        room.refused = "a.service";
        for (unsigned n = 1; n <= 3; n++) { /* itself, and the two parts of its table */
                room.n_calls = room.n_plans = 0;
                fixture_begin();
                alloc_fail_at(n);
                fixture_answer(KV_COMPARE_FAILED);
                assert_true(alloc_has_failed());
                alloc_fail_at(0);
                fixture_fire(&room.again);
                fixture_refuse();
                assert_int_equal(room.calls[2].n, 2);
                fixture_refuse();
                assert_int_equal(room.calls[3].n, 1);
                fixture_end();
        }
}

/* -- A new lineage -- */

static void report(const char *machine) {
        char key[128], id[MACHINE_ID_SIZE];

        snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(id, machine));
        cluster_view_put(&room.picture, key, "00000000000000ab");
}

static void orders_wait_for_reports_and_the_end_of_the_waiting_is_tried_until_it_is_done(void **state) {
        static const RegistryChange something = { .kind = CHANGED_CLUSTER };
        unsigned n;

        room.picture.cluster.lineage = 0xab;
        cluster_view_put(&room.picture, ADOPTING, "1000000");
        launch("a.service");
        cluster_view_state(&room.picture, "B", "a.service", "active");
        fixture_begin();
        fixture_changed(something);
        assert_int_equal(room.n_plans, 0);
        assert_int_equal(room.again.delay_ms, ADOPTION_MS);
        assert_int_equal(room.n_notices, 1); /* told once */
        assert_non_null(strstr(room.notice, "waiting for A to report"));
        assert_non_null(strstr(room.notice, "for 300 s at most"));

        report("A");
        report("B");
        fixture_changed(something);
        assert_int_equal(room.calls[0].n, 1);
        fixture_carry_out();
        assert_int_equal(room.n_calls, 2);
        assert_int_equal(room.calls[1].n, 0);
        assert_int_equal(room.calls[1].term, TERM);
        fixture_changed((RegistryChange) {
                .kind = CHANGED_STATE,
                .unit = "a.service" }); /* one at a time: the registry takes no second one */
        assert_int_equal(room.n_calls, 2);

        /* After a failure later, */
        fixture_answer(KV_NO_LEADER);
        assert_int_equal(room.n_calls, 2);
        assert_int_equal(room.again.delay_ms, 100);
        fixture_fire(&room.again);
        assert_int_equal(room.n_calls, 3);
        room.without_timers = true; /* or at once, with a new look at all units, */
        n = room.n_plans;
        fixture_answer(KV_NO_LEADER);
        room.without_timers = false;
        assert_int_equal(room.n_calls, 4);
        assert_int_equal(room.n_plans, n + 1);
        fixture_answer(KV_NO_LEADER);
        room.error = -ENOMEM; /* also when it cannot be asked for. */
        fixture_fire(&room.again);
        assert_int_equal(room.n_calls, 5);
        assert_int_equal(counts().pass_failures, 1);
        assert_int_equal(room.again.delay_ms, 100);
        fixture_fire(&room.again);
        assert_int_equal(room.n_calls, 6);

        n = room.n_wakes;
        fixture_answer(KV_OK);
        assert_true(room.n_wakes > n);
        assert_false(room.again.armed);
        assert_int_equal(room.n_calls, 6); /* its event is still to come */
        cluster_view_remove(&room.picture, ADOPTING);
        fixture_changed(something);
        assert_int_equal(room.n_calls, 6);

        /* The next lineage is told of, too. */
        room.picture.cluster.lineage = 0xcd;
        cluster_view_put(&room.picture, ADOPTING, "1000000");
        fixture_changed(something);
        assert_int_equal(room.n_notices, 2);
}

static void a_former_leader_leaves_the_end_of_the_waiting_to_the_next_one(void **state) {
        unsigned n;

        cluster_view_put(&room.picture, ADOPTING, "0");
        fixture_begin();
        assert_int_equal(room.n_calls, 1);
        assert_int_equal(room.calls[0].n, 0);
        room.state.role = KV_ROLE_FOLLOWER;
        engine_state_changed(room.engine);
        n = room.n_wakes;
        fixture_answer(KV_TERM_CHANGED);
        assert_int_equal(room.n_wakes, n);
        assert_false(room.again.armed);
}

#define in_a_room(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                in_a_room(orders_are_counted_and_told_once_each),
                in_a_room(a_large_plan_is_written_in_parts_each_when_the_one_before_is_known),
                in_a_room(orders_that_could_not_be_written_are_planned_again_from_the_first_unit_on),
                in_a_room(all_units_are_looked_at_also_when_the_first_need_nothing),
                in_a_room(units_that_have_changed_are_planned_before_all_are),
                in_a_room(a_change_is_planned_for_those_that_it_concerns),
                in_a_room(the_rest_of_a_plan_is_planned_next),
                in_a_room(a_failure_for_want_of_memory_is_counted_and_tried_again_after_100_ms),
                in_a_room(without_memory_for_a_timer_the_next_change_is_one_for_all_units),
                in_a_room(what_could_not_be_planned_comes_first_the_next_time),
                in_a_room(a_failure_without_memory_for_a_timer_is_tried_again_with_the_next_resync),
                in_a_room(an_engine_without_memory_does_not_begin),
                in_a_room(a_change_that_concerns_no_unit_makes_no_pass),
                in_a_room(a_plan_that_time_changes_is_made_again_then),
                in_a_room(a_resync_looks_at_all_units_if_anything_has_changed),
                in_a_room(a_brake_is_30_s_unless_it_is_set),
                in_a_room(a_follower_plans_nothing),
                in_a_room(an_engine_begins_when_its_view_is_current_and_needs_a_whole_one_later),
                in_a_room(a_plan_from_before_leadership_was_lost_is_made_anew),
                in_a_room(an_answer_that_comes_after_leadership_was_regained_ends_the_old_plan),
                in_a_room(a_new_leader_does_not_wait_for_what_it_wrote_before),
                in_a_room(what_a_leader_wrote_is_waited_for_once),
                in_a_room(an_engine_may_end_at_any_time),
                in_a_room(an_order_that_is_refused_twice_is_left_out_until_something_changes),
                in_a_room(a_refusal_of_another_order_of_the_unit_counts_anew),
                in_a_room(a_refusal_that_there_is_no_memory_for_does_not_count),
                in_a_room(orders_wait_for_reports_and_the_end_of_the_waiting_is_tried_until_it_is_done),
                in_a_room(a_former_leader_leaves_the_end_of_the_waiting_to_the_next_one),
        };

        log_set_sink(fixture_on_log, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
