/* Each rollout ends: with hosts that are away, instances without a machine, and failures that it tolerates.
 */
#include "tests/lib/test.h"
#include "tests/lib/rollout_play.h"

static const EnginePlanLimits names = { .names_texts = true };

static void remove_instance(Play *play, size_t i) {
        char key[LAYOUT_KEY_MAX];

        layout_key(key, LAYOUT_STATE, play->instances[i].unit, machine_id(play->instances[i].machine));
        cluster_view_remove(&play->p, key);
        layout_key(key, LAYOUT_ASSIGNMENT, play->instances[i].unit, machine_id(play->instances[i].machine));
        cluster_view_remove(&play->p, key);
}

/* Instances that have ended. */
static void machines_stop(Play *play) {
        for (size_t i = 0; i < play->n; i++)
                if (assignment_of(play, i) && assignment_of(play, i)->kind == ASSIGNMENT_STOP)
                        remove_instance(play, i);
}

static void plan_once(Play *play) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};

        assert_int_equal(engine_plan(&play->p.cluster, NULL, 0, 30000, &names, &plan), 0);
        cluster_view_apply(&play->p, &plan);
        machines_stop(play);
}

/* Plans and steps, second by second. 'options' are those of the text that a revert restores. */
static void seconds_with_plans(Play *play, unsigned n, const char *options) {
        const RolloutConditions conditions = {};

        while (n-- > 0) {
                _cleanup_rollout_step_ RolloutStep next = {};

                plan_once(play);
                assert_int_equal(rollout_step(&play->p.cluster, head_of(play), &conditions, &next), 0);
                if (next.change == ROLLOUT_REVERT)
                        play->options = options;
                second(play);
        }
}

/* An instance fails at once, and starts no more. */
static void fail_instance(Play *play, size_t i) {
        put_state(play, i, "failed", false);
        play->instances[i].started_ms = 0;
}

static void a_revert_skips_hosts_that_are_not_up(void **state) {
        static const Presence presences[] = { PRESENCE_LOST, PRESENCE_LEFT };

        for (size_t i = 0; i < ELEMENTS(presences); i++) {
                _cleanup_(end) Play play;

                begin_global(&play, 4, "UpdateOnFailure=revert");
                play.quality[2] = FAILS;
                cluster_view_presence(&play.p, "D", presences[i]);
                want(&play, 2);
                seconds(&play, 60);
                assert_rollout(&play, ROLLOUT_DONE, 1);
                assert_int_equal(count_with(&play, 1), 4);
        }
}

/* The instance on A failed before, with the text that is restored: the revert goes on with the others. */
static void a_revert_does_not_fail_because_of_what_had_failed(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 3, "UpdateOnFailure=revert\nMaxUnavailable=3");
        want(&play, 2);
        second(&play);
        fail_instance(&play, 0);
        put_unit(&play, play.head, 1, NULL, REVISION_REVERTED);
        put_assignment(&play, "A", "agent.service", 1, 1);
        play.instances[0].index = assignment_of(&play, 0)->index;
        fail_instance(&play, 0);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_with(&play, 1), 3);
}

/* It is submitted again, as revision 2: that is an update within the budget, and its failure reverts it. */
static void a_text_that_failed_before_is_an_update_and_no_revert(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "UpdateOnFailure=revert");
        want(&play, 2);
        second(&play);
        fail_instance(&play, 0);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        put_unit(&play, play.head, 2, NULL, REVISION_REVERTED);
        second(&play);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        assert_int_equal(count_with(&play, 2), 1);
        fail_instance(&play, 0);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_with(&play, 1), 4);
}

/* The first text of the unit fails at its start, without a rollout; one that ran before is no failed one. */
static void a_first_text_that_failed_is_an_update_and_no_revert_when_it_is_submitted_again(void **state) {
        for (size_t i = 0; i < 2; i++) {
                _cleanup_(end) Play play;

                begin(&play, "one.service", "");
                add(&play, "one.service", "A");
                if (i > 0)
                        second(&play);
                fail_instance(&play, 0);
                ((ClusterState *) assignment_of(&play, 0)->state)->state.lapsed = i > 0;
                want(&play, 2);
                seconds(&play, 60);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                put_unit(&play, play.head, 1, NULL, REVISION_REVERTED);
                second(&play);
                assert_rollout(&play, i > 0 ? ROLLOUT_REVERTING : ROLLOUT_ROLLING, 1);
        }
}

static void a_pause_between_batches_ends_although_an_instance_failed(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "UpdateOnFailure=continue\nMaxUnavailable=2\nUpdatePauseSec=10s");
        want(&play, 2);
        second(&play);
        fail_instance(&play, 0);
        seconds(&play, 2000);
        assert_rollout(&play, ROLLOUT_DONE, 2);
}

static void with_continue_a_failed_canary_does_not_hold_the_rollout_for_ever(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "UpdateOnFailure=continue\nMaxUnavailable=2\nCanary=2");
        want(&play, 2);
        second(&play);
        fail_instance(&play, 0);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_HELD, 2);
}

static void a_text_that_fits_no_machine_is_reverted(void **state) {
        _cleanup_(end) Play play;

        begin(&play, "one.service", "UpdateOnFailure=revert");
        add(&play, "one.service", "A");
        play.options = "UpdateOnFailure=revert\nMachineMetadata=disk=ssd";
        want(&play, 2);
        seconds_with_plans(&play, 650, "UpdateOnFailure=revert");
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_true(has_it(&play, 0));
        assert_int_equal(count_with(&play, 1), 1);
}

/* It fits no machine, and takes one of the set. */
static void after_a_revert_all_instances_run(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "UpdateOnFailure=revert");
        play.options = "UpdateOnFailure=revert\nMachineMetadata=disk=ssd";
        want(&play, 2);
        seconds_with_plans(&play, 600, "UpdateOnFailure=revert");
        assert_int_equal(count_with(&play, 1), 2);
        seconds_with_plans(&play, 50, "UpdateOnFailure=revert");
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_with(&play, 1), 3);
}

/* They have just been started, and are not available yet. */
static void a_text_that_fits_no_machine_stops_no_unavailable_instance(void **state) {
        _cleanup_rollout_set_ RolloutSet set = {};
        Error why = {};
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        play.quality[1] = SLOW;
        for (size_t i = 0; i < 3; i++) {
                put_state(&play, i, "active", false);
                play.instances[i].started_ms = 0;
        }
        play.options = "MachineMetadata=disk=ssd";
        want(&play, 2);
        seconds_with_plans(&play, 20, NULL);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        rollout_explain(&play.p.cluster, &set, &set.instances[0], false, &why);
        assert_string_equal(why.message, "waiting: no machine qualifies for the new text");
        seconds_with_plans(&play, 630, NULL);
        assert_int_equal(count_with(&play, 1), 3);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_string_equal(
                record_of(&play)->why,
                "no further instance was available within UpdateDeadlineSec=; no machine qualifies "
                "for web@1.service");
        play.options = "";
        want(&play, 3);
        seconds_with_plans(&play, 60, NULL);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(count_with(&play, 3), 3);
}

static void an_instance_without_a_machine_gets_the_fix(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        play.options = "MachineMetadata=disk=ssd";
        want(&play, 2);
        seconds_with_plans(&play, 10, NULL);
        assert_int_equal(count_with(&play, 1), 2);
        play.options = "";
        want(&play, 3);
        seconds_with_plans(&play, 60, NULL);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(count_with(&play, 3), 3);
}

/* One more instance than machines: it uses no budget, and the others are updated. */
static void a_set_with_a_waiting_instance_gets_the_fix(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Conflicts=web@*");
        put_unit(&play, "web@9.service", 1, play.head, REVISION_SUBMITTED);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        want(&play, 2);
        seconds_with_plans(&play, 60, NULL);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_with(&play, 2), 3);
        assert_string_equal(cluster_unit(&play.p.cluster, "web@9.service")->unit->hash,
                            head_of(&play)->unit->hash);
}

static void a_stopped_instance_starts_with_the_wanted_text(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_(end) Play play;

        begin_template(&play, 2, "");
        put_unit(&play, "web@9.service", 1, play.head, REVISION_SUBMITTED);
        want(&play, 2);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        assert_int_equal(plan.n, 1);
        assert_int_equal(plan.changes[0].revision, 2);
}

static void a_set_that_does_not_run_starts_with_the_wanted_text(void **state) {
        _cleanup_(end) Play play;

        begin(&play, "web@.service", "");
        put_unit(&play, "web@1.service", 1, play.head, REVISION_SUBMITTED);
        want(&play, 2);
        second(&play);
        assert_null(record_of(&play));
        assert_string_equal(cluster_unit(&play.p.cluster, "web@1.service")->unit->hash,
                            head_of(&play)->unit->hash);
}

static void a_rollout_is_not_done_while_an_instance_has_no_machine(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        want(&play, 2);
        for (unsigned i = 0; i < 60 && count_with(&play, 2) < 3; i++)
                second(&play);
        remove_instance(&play, 2); /* the plan has stopped it: its text fits no machine */
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        seconds(&play, 600);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
}

/* Its machine is away at the submission. */
static void a_text_that_never_ran_is_not_completed(void **state) {
        _cleanup_(end) Play play;

        begin(&play, "one.service", "UpdateOnFailure=revert");
        add(&play, "one.service", "A");
        play.quality[2] = FAILS;
        cluster_view_presence(&play.p, "A", PRESENCE_AWAY);
        want(&play, 2);
        seconds(&play, 3);
        assert_int_equal(record_of(&play)->completed.number, 1);
        cluster_view_presence(&play.p, "A", PRESENCE_UP);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_unavailable(&play), 0);
}

static void a_canary_that_is_not_available_is_not_promoted(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "Canary=1\nPromote=20s\nMaxUnavailable=3");
        want(&play, 2);
        seconds(&play, 8);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        put_state(&play, 0, "active", false); /* its process ended, and was started again */
        play.quality[2] = SLOW;
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        assert_int_equal(count_with(&play, 2), 1);
        put_state(&play, 0, "active", true);
        second(&play);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
}

static void a_promotion_by_time_follows_a_pause(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "Canary=1\nPromote=20s");
        want(&play, 2);
        seconds(&play, 8);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        assert_int_equal(ask(&play, ROLLOUT_PAUSE), 0);
        seconds(&play, 100);
        assert_int_equal(ask(&play, ROLLOUT_RESUME), 0);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
}

static void a_short_deadline_does_not_pass_while_the_brake_is_on(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "UpdateDeadlineSec=30s");
        play.quality[2] = SLOW;
        want(&play, 2);
        seconds(&play, 2);
        play.braked = true;
        seconds(&play, 45);
        play.braked = false;
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
}

/* Stopped while its rollout is paused, and started again. */
static void a_text_that_started_directly_is_completed(void **state) {
        _cleanup_(end) Play play;

        begin(&play, "one.service", "");
        add(&play, "one.service", "A");
        play.quality[2] = SLOW;
        want(&play, 2);
        seconds(&play, 2);
        assert_int_equal(ask(&play, ROLLOUT_PAUSE), 0);
        cluster_view_target(&play.p, "one.service", TARGET_INACTIVE);
        remove_instance(&play, 0);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->completed.number, 1);
        cluster_view_target(&play.p, "one.service", TARGET_LAUNCHED);
        put_assignment(&play, "A", "one.service", 2, play.p.cluster.now_ms);
        put_state(&play, 0, "active", true);
        assert_true(rollout_is_due(head_of(&play), head_of(&play)));
        second(&play);
        assert_int_equal(record_of(&play)->completed.number, 2);
}

/* The machine has executed the assignment, and a condition of the text is not met there. */
static void skip_instance(Play *play, size_t i) {
        char key[LAYOUT_KEY_MAX], value[256];

        snprintf(value, sizeof(value),
                 "{\"active\":\"inactive\",\"hash\":\"%s\",\"job\":\"condition\",\"load\":\"loaded\","
                 "\"sub\":\"dead\"}",
                 assignment_of(play, i)->hash);
        layout_key(key, LAYOUT_STATE, play->instances[i].unit, machine_id(play->instances[i].machine));
        cluster_view_put(&play->p, key, value);
        play->instances[i].index = assignment_of(play, i)->index;
        play->instances[i].started_ms = 0;
}

/* Seconds, in which the condition of 'revision' is not met on the first 'n' machines. */
static void seconds_skipping(Play *play, unsigned n_seconds, size_t n, unsigned revision) {
        while (n_seconds-- > 0) {
                while (step(play) != ROLLOUT_NOTHING)
                        ;
                for (size_t i = 0; i < n; i++)
                        if (assignment_of(play, i)->revision >= revision &&
                            play->instances[i].index != assignment_of(play, i)->index)
                                skip_instance(play, i);
                machines_act(play);
                play->p.cluster.now_ms += 1000;
        }
}

/* It runs on two of four machines, as before. */
static void a_global_unit_whose_condition_does_not_hold_somewhere_is_updated(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 4, "");
        skip_instance(&play, 0);
        skip_instance(&play, 1);
        want(&play, 2);
        seconds_skipping(&play, 40, 2, 1);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->completed.number, 2);
        assert_int_equal(record_of(&play)->n_failed, 0);
        assert_int_equal(count_with(&play, 2), 4);
}

/* The condition is new, and wrong: one instance is stopped by it, not all of them. */
static void a_text_whose_condition_is_met_nowhere_takes_one_instance(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "");
        want(&play, 2);
        seconds_skipping(&play, 20, 4, 2);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(count_with(&play, 2), 1);
        assert_string_equal(record_of(&play)->why,
                            "a condition of the text is not met, and stopped 1 of 4 instances");
}

/* A drain does not stop a second one meanwhile. */
static void an_instance_that_a_condition_stopped_uses_the_budget_of_its_set(void **state) {
        RolloutBudget budget;
        Error why = {};
        Play play;

        begin_template(&play, 3, "");
        want(&play, 2);
        seconds_skipping(&play, 20, 3, 2);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(rollout_read_budget(&play.p.cluster, head_of(&play), &budget), 0);
        assert_int_equal(budget.n, 3);
        assert_int_equal(budget.available, 2);
        assert_false(rollout_permits(&budget, 0, &why));
        end(&play);

        /* It is one of those of which a share may be unavailable. */
        begin_template(&play, 4, "MaxUnavailable=50%\nUpdateMaxFailures=1");
        want(&play, 2);
        seconds_skipping(&play, 40, 1, 2);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        end(&play);
}

/* The next texts take the instance that is stopped already. */
static void texts_in_a_row_whose_conditions_are_met_nowhere_take_one_instance(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "");
        for (unsigned revision = 2; revision < 6; revision++) {
                want(&play, revision);
                seconds_skipping(&play, 20, 4, 2);
                assert_rollout(&play, ROLLOUT_PAUSED, revision);
        }
        assert_int_equal(count_with(&play, 1), 3);
}

static void a_single_unit_that_a_condition_stops_gets_its_former_text(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 1, "UpdateOnFailure=revert");
        want(&play, 2);
        seconds_skipping(&play, 30, 1, 2);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_with(&play, 1), 1);
}

/* It is met on the others: with the consent of an operator, the rollout goes on. */
static void a_text_whose_condition_is_not_met_everywhere_is_completed_after_resume(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 4, "");
        want(&play, 2);
        seconds_skipping(&play, 60, 2, 2);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(count_with(&play, 2), 1);
        assert_int_equal(ask(&play, ROLLOUT_RESUME), 0);
        seconds_skipping(&play, 60, 2, 2);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->completed.number, 2);
        assert_int_equal(count_with(&play, 2), 4);
}

static void a_key_that_cannot_be_read_is_not_overwritten(void **state) {
        static const LayoutKind kinds[] = { LAYOUT_ASSIGNMENT, LAYOUT_STATE };

        for (size_t i = 0; i < 2 * ELEMENTS(kinds); i++) {
                const char *unit = i % 2 == 0 ? "agent.service" : "web@1.service";
                char key[LAYOUT_KEY_MAX];
                _cleanup_(end) Play play;

                if (i % 2 == 0)
                        begin_global(&play, 3, "MaxUnavailable=2");
                else
                        begin_template(&play, 3, "MaxUnavailable=2");
                cluster_view_unreadable(&play.p, kinds[i / 2], unit, "A");
                want(&play, 2);
                play.n = 3;
                seconds(&play, 40);
                assert_true(cluster_is_unreadable(
                        &play.p.cluster, kv_string(layout_key(key, kinds[i / 2], unit, machine_id("A")))));
                assert_rollout(&play, ROLLOUT_DONE, 2);
                assert_int_equal(count_with(&play, 2), 2);
        }
}

/* Its instances that cannot be read are not known to be available. */
static void an_instance_that_cannot_be_read_uses_the_budget(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        cluster_view_unreadable(&play.p, LAYOUT_STATE, "web@1.service", "A");
        want(&play, 2);
        seconds(&play, 40);
        assert_int_equal(count_with(&play, 2), 0);
}

/* Three instances that run with texts of their own get the text of the template, whose rollout has ended. */
static void join(Play *play) {
        for (unsigned i = 2; i < 5; i++) {
                char unit[32];

                snprintf(unit, sizeof(unit), "web@%u.service", i + 1);
                put_unit(play, unit, 1, NULL, REVISION_SUBMITTED);
                cluster_view_target(&play->p, unit, TARGET_LAUNCHED);
                add(play, unit, machine_name(i));
                put_unit(play, unit, 2, play->head, REVISION_SUBMITTED);
        }
}

static void instances_that_join_a_set_are_updated_by_its_rollout(void **state) {
        Play play;

        begin_template(&play, 2, "");
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        join(&play);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        assert_int_equal(count_with(&play, 2), 3);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->completed.number, 2);
        assert_int_equal(count_with(&play, 2), 5);
        assert_int_equal(play.max_unavailable, 1);
        assert_int_equal(starts(&play), 5);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        end(&play);

        /* Also if others have failed with the text. */
        begin_template(&play, 2, "UpdateOnFailure=continue\nMaxUnavailable=2\nCanary=1");
        want(&play, 2);
        second(&play);
        fail_instance(&play, 0);
        seconds(&play, 2);
        assert_int_equal(ask(&play, ROLLOUT_PROMOTE), 0);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        join(&play);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_with(&play, 2), 5);
        end(&play);
}

/* A request has the template and its instances: their keys have the new text before any of them runs it. */
static void instances_that_change_with_their_template_are_updated_in_canaries_and_revert(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "UpdateOnFailure=revert\nCanary=1\nPromote=manual");
        play.quality[2] = FAILS;
        want(&play, 2);
        for (unsigned i = 0; i < 3; i++)
                put_unit(&play, play.instances[i].unit, 2, play.head, REVISION_SUBMITTED);
        second(&play);
        assert_int_equal(record_of(&play)->completed.number, 1);
        assert_rollout(&play, ROLLOUT_CANARY, 2);
        seconds(&play, 30);
        assert_int_equal(count_with(&play, 1), 3);
        assert_int_equal(starts(&play), 2);
}

/* There was no rollout: the text of an instance of its own is none to which the set returns. */
static void a_set_without_a_rollout_has_one_when_instances_join(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 2, "UpdateOnFailure=revert");
        second(&play);
        assert_null(record_of(&play));
        for (unsigned i = 2; i < 4; i++) {
                char unit[32];

                snprintf(unit, sizeof(unit), "web@%u.service", i + 1);
                put_unit(&play, unit, 2, NULL, REVISION_SUBMITTED);
                cluster_view_target(&play.p, unit, TARGET_LAUNCHED);
                add_with(&play, unit, machine_name(i), 2);
                put_unit(&play, unit, 1, play.head, REVISION_SUBMITTED);
        }
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_ROLLING, 1);
        assert_int_equal(record_of(&play)->from.number, 0);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_with(&play, 1), 4);
}

static void of_instances_that_join_a_set_the_first_that_fails_pauses_the_rollout(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 2, "UpdateOnFailure=revert");
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        play.quality[2] = FAILS;
        join(&play);
        seconds(&play, 100);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_string_equal(record_of(&play)->why, "web@3.service on C: exit status 1");
        assert_int_equal(count_with(&play, 2), 3);
        assert_int_equal(starts(&play), 3);
}

/* One instance is stopped by the condition, and one starts that is new: the first one is missed as before. */
static void a_new_instance_does_not_hide_one_that_a_condition_stopped(void **state) {
        RolloutBudget budget;
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Canary=1\nUpdateDeadlineSec=10min");
        want(&play, 2);
        seconds_skipping(&play, 1, 0, 2);
        assert_rollout(&play, ROLLOUT_CANARY, 2);
        put_unit(&play, "web@9.service", 1, play.head, REVISION_SUBMITTED);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        add(&play, "web@9.service", "F");
        put_assignment(&play, "F", "web@9.service", 1, play.p.cluster.now_ms);
        put_state(&play, 3, "active", true);
        play.instances[3].index = assignment_of(&play, 3)->index;
        skip_instance(&play, 0);
        second(&play);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(count_with(&play, 2), 1);
        assert_int_equal(rollout_read_budget(&play.p.cluster, head_of(&play), &budget), 0);
        assert_int_equal(budget.n, 4);
        assert_int_equal(budget.available, 3);
}

/* The text was corrected by an option that excludes the machine, and it was started there once more. */
static void a_failure_on_a_machine_that_the_unit_leaves_is_none_of_the_text(void **state) {
        _cleanup_rollout_set_ RolloutSet set = {};
        _cleanup_(end) Play play;

        begin(&play, "one.service", "");
        add(&play, "one.service", "A");
        want(&play, 2);
        put_assignment(&play, "A", "one.service", 2, play.p.cluster.now_ms);
        put_state(&play, 0, "failed", false);
        cluster_view_machine(&play.p, "B", "", PRESENCE_UP);
        put_assignment(&play, "B", "one.service", 2, play.p.cluster.now_ms + 1);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        assert_int_equal(set.n, 1);
        assert_string_equal(set.instances[0].assignment->machine->id, machine_id("B"));
        assert_int_equal(set.instances[0].state, INSTANCE_UPDATING);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(instances_that_join_a_set_are_updated_by_its_rollout),
                cmocka_unit_test(
                        instances_that_change_with_their_template_are_updated_in_canaries_and_revert),
                cmocka_unit_test(a_set_without_a_rollout_has_one_when_instances_join),
                cmocka_unit_test(of_instances_that_join_a_set_the_first_that_fails_pauses_the_rollout),
                cmocka_unit_test(a_global_unit_whose_condition_does_not_hold_somewhere_is_updated),
                cmocka_unit_test(a_text_whose_condition_is_met_nowhere_takes_one_instance),
                cmocka_unit_test(a_new_instance_does_not_hide_one_that_a_condition_stopped),
                cmocka_unit_test(an_instance_that_a_condition_stopped_uses_the_budget_of_its_set),
                cmocka_unit_test(texts_in_a_row_whose_conditions_are_met_nowhere_take_one_instance),
                cmocka_unit_test(a_single_unit_that_a_condition_stops_gets_its_former_text),
                cmocka_unit_test(a_text_whose_condition_is_not_met_everywhere_is_completed_after_resume),
                cmocka_unit_test(a_key_that_cannot_be_read_is_not_overwritten),
                cmocka_unit_test(an_instance_that_cannot_be_read_uses_the_budget),
                cmocka_unit_test(a_revert_skips_hosts_that_are_not_up),
                cmocka_unit_test(a_revert_does_not_fail_because_of_what_had_failed),
                cmocka_unit_test(a_text_that_failed_before_is_an_update_and_no_revert),
                cmocka_unit_test(
                        a_first_text_that_failed_is_an_update_and_no_revert_when_it_is_submitted_again),
                cmocka_unit_test(a_pause_between_batches_ends_although_an_instance_failed),
                cmocka_unit_test(with_continue_a_failed_canary_does_not_hold_the_rollout_for_ever),
                cmocka_unit_test(a_text_that_fits_no_machine_is_reverted),
                cmocka_unit_test(after_a_revert_all_instances_run),
                cmocka_unit_test(a_text_that_fits_no_machine_stops_no_unavailable_instance),
                cmocka_unit_test(an_instance_without_a_machine_gets_the_fix),
                cmocka_unit_test(a_set_with_a_waiting_instance_gets_the_fix),
                cmocka_unit_test(a_stopped_instance_starts_with_the_wanted_text),
                cmocka_unit_test(a_set_that_does_not_run_starts_with_the_wanted_text),
                cmocka_unit_test(a_rollout_is_not_done_while_an_instance_has_no_machine),
                cmocka_unit_test(a_text_that_never_ran_is_not_completed),
                cmocka_unit_test(a_canary_that_is_not_available_is_not_promoted),
                cmocka_unit_test(a_promotion_by_time_follows_a_pause),
                cmocka_unit_test(a_short_deadline_does_not_pass_while_the_brake_is_on),
                cmocka_unit_test(a_text_that_started_directly_is_completed),
                cmocka_unit_test(a_failure_on_a_machine_that_the_unit_leaves_is_none_of_the_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
