/* Rollouts: the steps of a set from one text to another, in cluster views whose machines do as they are
 * assigned. */
#include "tests/lib/test.h"
#include "tests/lib/drains.h"
#include "tests/lib/rollout_play.h"

/* -- Tests -- */

static void a_set_is_updated_one_by_one(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "");
        second(&play);
        assert_null(record_of(&play));
        want(&play, 2);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        assert_int_equal(count_with(&play, 2), 1);
        assert_int_equal(record_of(&play)->from.number, 1);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->completed.number, 2);
        assert_int_equal(count_with(&play, 2), 6);
        assert_int_equal(play.max_unavailable, 1);
        assert_int_equal(starts(&play), 6);
}

static void the_budget_is_a_share_of_the_instances(void **state) {
        static const struct {
                const char *options;
                size_t unavailable;
        } rows[] = {
                { "MaxUnavailable=2", 2 },    { "MaxUnavailable=50%", 4 },
                { "MaxUnavailable=10%", 1 },  { "MaxUnavailable=8\nMinAvailable=5", 3 },
                { "MaxUnavailable=100%", 8 }, { "MinAvailable=80%", 1 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(end) Play play;

                begin_template(&play, 8, rows[i].options);
                want(&play, 2);
                seconds(&play, 40);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                assert_int_equal(play.max_unavailable, rows[i].unavailable);
        }
}

static void a_failed_instance_pauses_the_rollout(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 100);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_string_equal(record_of(&play)->why, "web@1.service on A: exit status 1");
        assert_int_equal(record_of(&play)->n_failed, 1);
        assert_string_equal(record_of(&play)->failed[0].unit, "web@1.service");
        assert_int_equal(starts(&play), 1);
}

/* It gets the wanted text by a step. */
static void a_new_instance_gets_the_completed_text(void **state) {
        static const EnginePlanLimits limits = { .names_texts = true };
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        want(&play, 2);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        play.quality[3] = FAILS;
        want(&play, 3);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_PAUSED, 3);
        put_unit(&play, "web@9.service", 3, play.head, REVISION_SUBMITTED);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &limits, &plan), 0);
        assert_int_equal(plan.n, 1);
        assert_string_equal(plan.changes[0].unit, "web@9.service");
        assert_int_equal(plan.changes[0].revision, 2);
        assert_string_equal(plan.changes[0].hash, record_of(&play)->completed.hash);
}

/* Its text was replaced while it was loaded, and no process has the former one. */
static void a_loaded_unit_starts_with_its_new_text(void **state) {
        static const EnginePlanLimits limits = { .names_texts = true };
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        char key[LAYOUT_KEY_MAX], value[256];
        _cleanup_(end) Play play;

        begin(&play, "a.service", "");
        cluster_view_machine(&play.p, "A", "", PRESENCE_UP);
        snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"load\",\"rev\":1,\"since\":1}",
                 head_of(&play)->unit->hash);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_ASSIGNMENT, "a.service", machine_id("A")), value);
        want(&play, 2);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &limits, &plan), 0);
        assert_int_equal(plan.n, 1);
        assert_int_equal(plan.changes[0].kind, ASSIGNMENT_RUN);
        assert_int_equal(plan.changes[0].revision, 2);
}

static void a_broken_instance_gets_the_fix(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 10);
        want(&play, 3);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_ROLLING, 3);
        assert_int_equal(assignment_of(&play, 0)->revision, 3);
        assert_int_equal(count_with(&play, 3), 1);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(play.max_unavailable, 1);
        assert_int_equal(starts(&play), 7);
}

/* Its text may differ only by options that take effect without a restart. */
static void the_fix_of_a_failed_instance_starts_it(void **state) {
        _cleanup_rollout_set_ RolloutSet set = {};
        _cleanup_(end) Play play;

        begin_template(&play, 2, "");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        want(&play, 3);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        assert_int_equal(set.n, 2);
        assert_int_equal(set.instances[0].state, INSTANCE_BAD);
        assert_true(rollout_starts_again(head_of(&play)->unit, &set.instances[0]));
        assert_int_equal(set.instances[1].state, INSTANCE_OLD);
        assert_false(rollout_starts_again(head_of(&play)->unit, &set.instances[1]));
}

/* -- Drop-ins of an instance -- */

#define OWN "[Service]\nEnvironment=A=1\n"

static void an_instance_keeps_its_drop_ins_in_each_step(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        add_own(&play, OWN, true);
        second(&play);
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_with(&play, 2), 3);
        assert_int_equal(play.max_unavailable, 1);
        assert_int_equal(starts(&play), 3);
        assert_string_equal(assignment_of(&play, 0)->base, head_of(&play)->unit->hash);
        assert_string_not_equal(assignment_of(&play, 0)->hash, head_of(&play)->unit->hash);
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
}

static void a_revert_restores_the_former_text_with_the_drop_ins(void **state) {
        char before[UNIT_HASH_SIZE];
        _cleanup_(end) Play play;

        begin_template(&play, 3, "UpdateOnFailure=revert");
        add_own(&play, OWN, true);
        memcpy(before, assignment_of(&play, 0)->hash, sizeof(before));
        second(&play);
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        play.quality[3] = FAILS;
        want(&play, 3);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(starts(&play), 3 + 2); /* the first instance, and back */
        want(&play, 1);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_string_equal(assignment_of(&play, 0)->hash, before);
}

/* They may also take effect without a restart: it is no start again. */
static void other_drop_ins_update_one_instance(void **state) {
        _cleanup_rollout_set_ RolloutSet set = {};
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        add_own(&play, OWN, true);
        second(&play);
        add_own(&play, "[Service]\nEnvironment=A=2\n", false);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        assert_int_equal(set.instances[0].state, INSTANCE_OLD);
        assert_true(rollout_joins(&set, &set.instances[0]));
        assert_false(rollout_starts_again(set.instances[0].unit->unit, &set.instances[0]));
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 1);
        assert_string_equal(assignment_of(&play, 0)->hash,
                            cluster_unit(&play.p.cluster, "web@1.service")->unit->hash);
}

/* All instances had it: one that gets it later is no trial. */
static void a_text_that_was_completed_needs_no_canary(void **state) {
        unsigned n;
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Canary=1\nPromote=20s");
        add_own(&play, OWN, true);
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        n = starts(&play);
        add_own(&play, "[Service]\nEnvironment=A=2\n", false);
        seconds(&play, 1);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        seconds(&play, 5);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(starts(&play), n + 1);
}

/* Also without a record: all instances were started with it. */
static void other_drop_ins_need_no_canary_before_the_first_rollout(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Canary=1");
        add_own(&play, OWN, true);
        add_own(&play, "[Service]\nEnvironment=A=2\n", false);
        seconds(&play, 6);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 1);
}

/* All others have the text: what has failed are the drop-ins. */
static void drop_ins_that_fail_are_fixed_by_others(void **state) {
        const RolloutOutcome *outcome;
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        add_own(&play, OWN, true);
        want(&play, 2);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        play.quality[2] = FAILS;
        add_own(&play, "[Service]\nEnvironment=A=2\n", false);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        outcome = rollout_record_outcome(record_of(&play), head_of(&play)->unit->hash);
        assert_true(!outcome || outcome->result == ROLLOUT_COMPLETED);
        play.quality[2] = GOOD;
        add_own(&play, "[Service]\nEnvironment=A=3\n", false);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_unavailable(&play), 0);
}

/* Its set is the instance alone then, and its former text has the drop-ins. */
static void an_instance_that_has_left_its_template_returns_to_its_own_former_text(void **state) {
        char before[UNIT_HASH_SIZE];
        _cleanup_(end) Play play;

        begin_template(&play, 2, "UpdateOnFailure=revert");
        add_own(&play, OWN, true);
        memcpy(before, assignment_of(&play, 0)->hash, sizeof(before));
        play.head = "web@1.service";
        put_unit(&play, "web@1.service", 2, NULL, REVISION_SUBMITTED);
        play.quality[2] = FAILS;
        play.template = false;
        seconds(&play, 3);
        assert_int_equal(record_of(&play)->completed.number, 1);
        assert_string_equal(record_of(&play)->completed.hash, before);
}

/* Its machine has the former drop-ins; no other one can have them. */
static void an_instance_with_other_drop_ins_moves_with_these(void **state) {
        static const char *const drop_ins[] = { OWN, "[Service]\nEnvironment=A=2\n" };
        const EnginePlanLimits limits = { .names_texts = true };

        for (unsigned own = 0; own < 2; own++) {
                _cleanup_(engine_plan_done) EnginePlan plan = {};
                const ClusterUnit *u;
                bool placed = false;
                _cleanup_(end) Play play;

                begin_template(&play, 2, "");
                add_own(&play, OWN, true);
                second(&play);
                want(&play, 2);
                add_own(&play, drop_ins[own], false); /* its key has the wanted text; the step comes later */
                cluster_view_machine(&play.p, "A", "", PRESENCE_LOST);
                cluster_view_machine(&play.p, "F", "", PRESENCE_UP);
                assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &limits, &plan), 0);
                u = cluster_unit(&play.p.cluster, "web@1.service");
                for (size_t i = 0; i < plan.n; i++) {
                        const AssignmentChange *c = &plan.changes[i];

                        if (!streq(c->unit, u->name) || c->kind != ASSIGNMENT_RUN)
                                continue;
                        placed = true;
                        assert_int_equal(c->revision, own > 0 ? 2 : 1);
                        if (own > 0)
                                assert_string_equal(c->hash, u->unit->hash);
                        else
                                assert_string_not_equal(c->hash, u->unit->hash);
                }
                assert_true(placed);
        }
}

/* It exits after it was available, and systemd starts it again. */
static void an_instance_that_was_available_and_is_not_any_more_has_failed(void **state) {
        char key[LAYOUT_KEY_MAX], value[256];
        _cleanup_(end) Play play;

        begin_template(&play, 4, "");
        want(&play, 2);
        seconds(&play, 3);
        assert_int_equal(count_with(&play, 2), 1);
        assert_true(has_it(&play, 0));
        snprintf(value, sizeof(value),
                 "{\"active\":\"active\",\"hash\":\"%s\",\"health\":\"passing\",\"lapsed\":true,"
                 "\"load\":\"loaded\",\"sub\":\"running\"}",
                 assignment_of(&play, 0)->hash);
        layout_key(key, LAYOUT_STATE, play.instances[0].unit, machine_id(play.instances[0].machine));
        cluster_view_put(&play.p, key, value);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_string_equal(record_of(&play)->why,
                            "web@1.service on A: it was available, and is not any more");
        assert_int_equal(count_with(&play, 2), 1);
}

/* It is stopping: its state is published after the assignment, and is that of the former text. */
static void an_instance_that_ends_slowly_for_the_next_text_has_not_failed(void **state) {
        static const char *const states[] = { "\"lapsed\":true",
                                              "\"health\":\"failing\",\"why\":\"HTTP 503\"",
                                              "\"job\":\"dependency\"" };
        char key[LAYOUT_KEY_MAX], value[256], hash[UNIT_HASH_SIZE];
        Play play;

        for (size_t i = 0; i < ELEMENTS(states); i++) {
                begin_template(&play, 4, "");
                snprintf(hash, sizeof(hash), "%s", assignment_of(&play, 0)->hash);
                want(&play, 2);
                assert_int_equal(step(&play), ROLLOUT_WRITE);
                assert_int_equal(assignment_of(&play, 0)->revision, 2);
                snprintf(value, sizeof(value),
                         "{\"active\":\"deactivating\",\"hash\":\"%s\",%s,\"load\":\"loaded\",\"sub\":\"stop-"
                         "post\"}",
                         hash, states[i]);
                layout_key(key, LAYOUT_STATE, play.instances[0].unit, machine_id(play.instances[0].machine));
                cluster_view_put(&play.p, key, value);
                assert_int_equal(step(&play), ROLLOUT_NOTHING);
                seconds(&play, 40);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                end(&play);
        }
}

static void bad_updates_in_a_row_take_one(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "");
        for (unsigned i = 2; i <= 4; i++) {
                play.quality[i] = i == 3 ? SLOW : FAILS;
                want(&play, i);
                seconds(&play, 20);
        }
        assert_rollout(&play, ROLLOUT_PAUSED, 4);
        assert_int_equal(count_with(&play, 1), 5);
        assert_int_equal(count_unavailable(&play), 1);
        assert_int_equal(play.max_unavailable, 1);
}

/* The machine of the second instance has not yet published that it has stopped it. */
static void an_assignment_that_is_not_executed_counts_as_unavailable(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "");
        want(&play, 2);
        seconds(&play, 3);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(assignment_of(&play, 1)->revision, 2);
        want(&play, 3);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(assignment_of(&play, 1)->revision, 3);
        assert_int_equal(count_with(&play, 3), 1);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(play.max_unavailable, 1);
}

/* The state of an instance that is being restarted is still that of the text to which the rollout returns. */
static void an_instance_that_may_be_restarting_is_not_available_with_the_former_text(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "MaxUnavailable=2");
        want(&play, 2);
        seconds(&play, 3);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(count_with(&play, 2), 4);
        put_unit(&play, play.head, 1, NULL, REVISION_REVERTED);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
        assert_int_equal(count_with(&play, 2), 4);
        machines_act(&play);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_with(&play, 1), 6);
        assert_int_equal(play.max_unavailable, 2);
}

/* Move=stop-first: a drain takes an instance only as long as the rollout leaves budget, and one at a time. */
static void a_drain_and_a_rollout_share_one_budget(void **state) {
        _cleanup_free_ char *during = NULL, *after = NULL;
        _cleanup_(end) Play play;

        begin_template(&play, 4, "Move=stop-first");
        cluster_view_machine(&play.p, "E", "", PRESENCE_UP);
        maintain(&play.p, "C", "draining", "");
        maintain(&play.p, "D", "draining", "");
        want(&play, 2);
        assert_int_equal(step(&play), ROLLOUT_WRITE); /* of web@1.service */
        during = cluster_view_plan(&play.p, true);
        assert_string_equal(during, "");
        machines_act(&play);
        put_unit(&play, play.head, 1, NULL, REVISION_SUBMITTED);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        after = cluster_view_plan(&play.p, true);
        assert_string_equal(after, "stop web@3.service C");
}

/* Its machine has not acted for five seconds. */
static void an_instance_that_is_not_restarted_gets_the_former_text(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 2, "");
        want(&play, 2);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        put_unit(&play, play.head, 1, NULL, REVISION_REVERTED);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(count_with(&play, 2), 1);
        play.p.cluster.now_ms += 5000;
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(count_with(&play, 2), 0);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_DONE, 1);
}

static void a_second_update_supersedes(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "");
        want(&play, 2);
        seconds(&play, 5);
        want(&play, 3);
        seconds(&play, 1);
        assert_rollout(&play, ROLLOUT_ROLLING, 3);
        assert_int_equal(record_of(&play)->from.number, 1);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(count_with(&play, 3), 4);
        assert_int_equal(play.max_unavailable, 1);
}

/* The outcome of a text, by the hash that instances with it have; -1: unknown. */
static int outcome_of(Play *play, const char *hash) {
        const RolloutOutcome *o = rollout_record_outcome(record_of(play), hash);

        return o ? (int) o->result : -1;
}

static void the_outcome_of_each_text_is_kept(void **state) {
        char completed[UNIT_HASH_SIZE], reverted[UNIT_HASH_SIZE], failed[UNIT_HASH_SIZE];
        Play play;

        begin_template(&play, 3, "UpdateOnFailure=revert");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 1);
        memcpy(reverted, record_of(&play)->to.hash, sizeof(reverted));
        memcpy(completed, record_of(&play)->completed.hash, sizeof(completed));
        assert_int_equal(outcome_of(&play, completed), ROLLOUT_COMPLETED);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(outcome_of(&play, completed), ROLLOUT_COMPLETED);
        assert_int_equal(outcome_of(&play, reverted), ROLLOUT_REVERTED);
        want(&play, 3);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(outcome_of(&play, record_of(&play)->to.hash), ROLLOUT_COMPLETED);
        assert_int_equal(outcome_of(&play, completed), ROLLOUT_COMPLETED);
        assert_int_equal(outcome_of(&play, reverted), ROLLOUT_REVERTED);
        end(&play);

        begin_template(&play, 3, "UpdateOnFailure=pause");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 30);
        assert_int_equal(record_of(&play)->state, ROLLOUT_PAUSED);
        memcpy(failed, record_of(&play)->to.hash, sizeof(failed));
        assert_int_equal(outcome_of(&play, failed), ROLLOUT_FAILED);
        want(&play, 3);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(outcome_of(&play, failed), ROLLOUT_FAILED);
        end(&play);
}

/* With the former text wanted again, only the instances that have another one change. */
static void a_revert_touches_only_bad_instances(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "UpdateOnFailure=revert\nCanary=2");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 1);
        assert_rollout(&play, ROLLOUT_CANARY, 2);
        seconds(&play, 1);
        assert_rollout(&play, ROLLOUT_REVERTING, 1);
        assert_int_equal(ask(&play, ROLLOUT_PAUSE), 0);
        assert_string_equal(record_of(&play)->why, "by a user");
        assert_string_equal(rollout_record_reverted_why(record_of(&play)),
                            "web@1.service on A: exit status 1");
        assert_int_equal(ask(&play, ROLLOUT_RESUME), 0);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(record_of(&play)->reverted.number, 2);
        assert_string_equal(record_of(&play)->why, "web@1.service on A: exit status 1");
        assert_int_equal(count_with(&play, 1), 6);
        assert_int_equal(starts(&play), 2);
        assert_int_equal(play.instances[0].n_starts, 2);
        want(&play, 2);
        seconds(&play, 1);
        assert_int_equal(record_of(&play)->reverted.number, 0);
}

static void a_long_reason_of_a_failure_is_cut_after_a_word_and_marked(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "");
        play.failure =
                "HTTP 404 from http://127.0.0.1:8080/health/of/the/whole/shop, 3 times; the check has not "
                "passed in the 12 s since the start (HealthStartSec=)";
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_string_equal(record_of(&play)->why,
                            "web@1.service on A: HTTP 404 from "
                            "http://127.0.0.1:8080/health/of/the/whole/shop, 3 times; the "
                            "check has not passed in the 12 s since the start...");
        assert_non_null(strstr(play.reasons, "revision 2: paused: web@1.service on A: HTTP 404"));
}

static void a_revert_that_fails_pauses(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "UpdateOnFailure=revert");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 1);
        play.quality[1] = FAILS;
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_PAUSED, 1);
        assert_string_equal(record_of(&play)->why,
                            "revert to revision 1 failed: web@1.service on A: exit status 1");
        assert_int_equal(starts(&play), 2);
}

static void without_a_completed_text_a_failure_pauses(void **state) {
        _cleanup_(end) Play play;

        begin(&play, "one.service", "UpdateOnFailure=revert");
        add(&play, "one.service", "A");
        play.quality[1] = play.quality[2] = FAILS;
        put_state(&play, 0, "failed", false);
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(record_of(&play)->completed.number, 0);
        assert_string_equal(record_of(&play)->why,
                            "one.service on A: exit status 1; no revision to return to");
}

static void an_unreachable_host_is_skipped(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 3, "");
        cluster_view_presence(&play.p, "B", PRESENCE_LOST);
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_with(&play, 2), 2);
        assert_non_null(strstr(play.reasons, "revision 2: done, 1 behind"));
        cluster_view_presence(&play.p, "B", PRESENCE_UP);
        seconds(&play, 4);
        assert_int_equal(count_with(&play, 2), 3);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(starts(&play), 3);
}

/* Its instance is replaced elsewhere, or returns with the text: no rollout begins for it. */
static void an_instance_on_a_lost_host_that_has_the_text_is_not_behind(void **state) {
        Play play;

        begin_template(&play, 3, "");
        second(&play);
        cluster_view_presence(&play.p, "B", PRESENCE_LOST);
        seconds(&play, 20);
        assert_null(record_of(&play));
        assert_string_equal(play.reasons, "");

        end(&play);

        /* It had the text before a rollout for another one began. */
        begin_global(&play, 1, "");
        want(&play, 2);
        add_with(&play, "agent.service", "B", 2);
        add_with(&play, "agent.service", "C", 2);
        cluster_view_presence(&play.p, "B", PRESENCE_LOST);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_with(&play, 2), 3);
        assert_non_null(strstr(play.reasons, "revision 2: done"));
        assert_null(strstr(play.reasons, "behind"));
        end(&play);
}

static void a_host_lost_in_its_step_stops_the_rollout(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 3, "");
        play.quality[2] = SLOW;
        want(&play, 2);
        seconds(&play, 3);
        assert_int_equal(assignment_of(&play, 0)->revision, 2);
        cluster_view_presence(&play.p, "A", PRESENCE_LOST);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_string_equal(record_of(&play)->why,
                            "agent.service on A: its machine was lost during its update");
        assert_int_equal(count_with(&play, 2), 1);
}

/* A text that ends its host at each start: its machine would start it again after each return. */
static void a_lost_host_gets_the_text_that_replaces_one_that_has_failed(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 3, "");
        play.quality[2] = SLOW;
        want(&play, 2);
        seconds(&play, 3);
        cluster_view_presence(&play.p, "A", PRESENCE_LOST);
        seconds(&play, 5);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(assignment_of(&play, 0)->revision, 2);

        play.quality[3] = SLOW;
        want(&play, 3);
        seconds(&play, 5); /* nothing shows that the new text runs */
        assert_int_equal(assignment_of(&play, 0)->revision, 2);
        play.quality[4] = GOOD;
        want(&play, 4);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 4);
        assert_int_equal(assignment_of(&play, 0)->revision, 4);
        assert_non_null(strstr(play.reasons, "revision 4: done, 1 behind, 0 failed"));
        cluster_view_presence(&play.p, "A", PRESENCE_UP);
        seconds(&play, 5);
        assert_rollout(&play, ROLLOUT_DONE, 4);
        assert_int_equal(count_with(&play, 4), 3);
}

static void a_lost_host_keeps_a_text_that_was_completed(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 3, "");
        cluster_view_presence(&play.p, "A", PRESENCE_LOST);
        for (unsigned revision = 2; revision <= 4; revision++) {
                want(&play, revision);
                seconds(&play, 20);
                assert_rollout(&play, ROLLOUT_DONE, revision);
                assert_int_equal(assignment_of(&play, 0)->revision, 1);
        }
}

/* It may run behind a cut link: several such hosts would restart it together on their return. */
static void a_lost_host_keeps_a_text_that_has_failed_and_was_available_there(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 3, "");
        want(&play, 2);
        second(&play);
        while (record_of(&play)->available == 0)
                second(&play);
        cluster_view_presence(&play.p, "A", PRESENCE_LOST);
        seconds(&play, 5);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        want(&play, 3);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(assignment_of(&play, 0)->revision, 2);
}

static void after_resume_a_host_lost_in_its_step_is_skipped(void **state) {
        RolloutRecord next = {};
        Error err = {};
        _cleanup_(end) Play play;

        begin_global(&play, 3, "");
        want(&play, 2);
        second(&play);
        cluster_view_presence(&play.p, "A", PRESENCE_LOST);
        seconds(&play, 5);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(
                rollout_ask(head_of(&play), ROLLOUT_RESUME,
                            &(RolloutRequest) { .now_ms = play.p.cluster.now_ms, .index = play.p.index + 1 },
                            &next, &err),
                0);
        write_record(&play, &next);
        rollout_record_done(&next);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_non_null(strstr(play.reasons, "revision 2: done, 1 behind, 0 failed"));
        assert_int_equal(starts(&play), 3);
}

/* If a host is the cause, that is no failure of the text: it is not reverted, and goes on after 'resume'. */
static void without_progress_until_the_deadline_the_rollout_ends(void **state) {
        static const struct {
                const char *action;
                Quality quality;
                RolloutState state;
                const char *why;
        } rows[] = {
                { "pause", SLOW, ROLLOUT_PAUSED,
                  "no further instance was available within UpdateDeadlineSec=" },
                { "revert", SLOW, ROLLOUT_REVERTING,
                  "no further instance was available within UpdateDeadlineSec=" },
                { "revert", UNCHECKED, ROLLOUT_PAUSED, "the check cannot run on A: web@1.service: no room" },
                { "revert", STUCK, ROLLOUT_PAUSED,
                  "A has not executed the update of web@1.service within UpdateDeadlineSec=" },
                { "revert", UNSTARTED, ROLLOUT_PAUSED,
                  "A has not executed the update of web@1.service within UpdateDeadlineSec=" },
                { "continue", STUCK, ROLLOUT_ROLLING, "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char options[128];
                _cleanup_(end) Play play;

                snprintf(options, sizeof(options), "UpdateDeadlineSec=2min\nUpdateOnFailure=%s",
                         rows[i].action);
                begin_template(&play, 3, options);
                play.quality[2] = rows[i].quality;
                want(&play, 2);
                seconds(&play, 119);
                assert_rollout(&play, ROLLOUT_ROLLING, 2);
                seconds(&play, 2);
                assert_rollout(&play, rows[i].state, rows[i].state == ROLLOUT_REVERTING ? 1 : 2);
                assert_string_equal(record_of(&play)->why, rows[i].why);
                if (rows[i].quality >= UNCHECKED) {
                        assert_null(rollout_record_outcome(record_of(&play), head_of(&play)->unit->hash));
                        assert_int_equal(record_of(&play)->reverted.number, 0);
                }
        }
}

/* It is available for a moment, and its process ends, again and again. */
static void an_instance_that_is_available_again_is_no_progress(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "UpdateDeadlineSec=2min\nMaxUnavailable=2\nMinAvailable=2");
        want(&play, 2);
        for (unsigned i = 0; i < 150; i++) {
                if (i > 5)
                        play.quality[2] = SLOW;
                if (count_with(&play, 2) > 0)
                        put_state(&play, 0, "active", i % 2 == 0);
                second(&play);
        }
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
}

/* The first canary is available after 90 s, the next one 90 s later. */
static void each_canary_that_is_available_is_progress(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "UpdateDeadlineSec=2min\nCanary=2");
        play.quality[2] = SLOW;
        want(&play, 2);
        for (unsigned i = 0; i < 2; i++) {
                seconds(&play, 90);
                assert_rollout(&play, ROLLOUT_CANARY, 2);
                put_state(&play, i, "active", true);
        }
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_HELD, 2);
}

static void tolerated_failures_do_not_stop_the_rollout(void **state) {
        Play play;

        begin_template(&play, 4, "UpdateMaxFailures=1\nMaxUnavailable=2\nUpdateOnFailure=revert");
        want(&play, 2);
        second(&play);
        put_state(&play, 0, "failed", false);
        play.instances[0].started_ms = 0;
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->n_failed, 1);
        assert_int_equal(count_with(&play, 2), 4);
        /* No revert returns to a text that an instance does not run with. */
        play.quality[3] = FAILS;
        want(&play, 3);
        second(&play);
        assert_int_equal(record_of(&play)->from.number, 2);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        end(&play);

        begin_template(&play, 4, "UpdateOnFailure=continue\nMaxUnavailable=2");
        want(&play, 2);
        second(&play);
        put_state(&play, 0, "failed", false);
        play.instances[0].started_ms = 0;
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->completed.number, 1);
        put_state(&play, 0, "active", true);
        second(&play);
        assert_int_equal(record_of(&play)->completed.number, 2);
        end(&play);
}

static void canaries_are_held_until_they_are_promoted(void **state) {
        RolloutRecord next = {};
        Error err = {};
        Play play;

        begin_template(&play, 6, "Canary=2");
        want(&play, 2);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        assert_int_equal(count_with(&play, 2), 2);
        assert_int_equal(rollout_ask(head_of(&play), ROLLOUT_RESUME,
                                     &(RolloutRequest) { .now_ms = play.p.cluster.now_ms }, &next, &err),
                         -EINVAL);
        assert_string_equal(err.message,
                            "no rollout of web@.service is paused; it is held: fleetctl rollout promote "
                            "web@.service");
        assert_int_equal(rollout_ask(head_of(&play), ROLLOUT_PROMOTE,
                                     &(RolloutRequest) { .now_ms = play.p.cluster.now_ms }, &next, &err),
                         0);
        write_record(&play, &next);
        rollout_record_done(&next);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(play.max_unavailable, 1);
        end(&play);

        begin_template(&play, 6, "Canary=1\nPromote=20s");
        want(&play, 2);
        seconds(&play, 15);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        end(&play);
}

/* For one rollout: the next text is updated as its unit says. */
static void what_is_requested_with_a_text_counts_for_its_rollout(void **state) {
        Error err = {};
        Play play;

        begin_template(&play, 4, "UpdateOnFailure=pause");
        assert_int_equal(update_request_read("50%", "revert", &play.update, &err), 0);
        want(&play, 2);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        assert_int_equal(count_with(&play, 2), 2);
        put_state(&play, 0, "failed", false);
        play.update = (UpdateRequest) {}; /* the former text was submitted without one */
        seconds(&play, 60);
        assert_int_equal(count_with(&play, 2), 0);
        end(&play);

        begin_template(&play, 4, "Canary=1\nUpdateOnFailure=revert");
        assert_int_equal(update_request_read("0", "pause", &play.update, &err), 0);
        want(&play, 2);
        seconds(&play, 120);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        play.update = (UpdateRequest) {};
        want(&play, 3);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_HELD, 3);
        end(&play);
}

static void what_is_requested_for_a_rollout_is_checked(void **state) {
        static const struct {
                const char *canary, *on_failure, *message;
        } rows[] = {
                { NULL, NULL, NULL },
                { "0", "continue", NULL },
                { "100%", NULL, NULL },
                { "101%", NULL, "canary: expected a number or a percentage, for example 1 or 10%" },
                { "", NULL, "canary: expected a number or a percentage, for example 1 or 10%" },
                { "000000000001", NULL, "canary: expected a number or a percentage, for example 1 or 10%" },
                { NULL, "stop", "on-failure: expected pause, revert or continue" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                UpdateRequest update;
                Error err = {};

                assert_int_equal(update_request_read(rows[i].canary, rows[i].on_failure, &update, &err),
                                 rows[i].message ? -EINVAL : 0);
                assert_string_equal(err.message, rows[i].message ?: "");
        }
}

static void a_canary_that_fails_pauses_the_rollout(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "Canary=1");
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        put_state(&play, 0, "failed", false);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
}

static void batches_have_pauses(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "MaxUnavailable=2\nUpdatePauseSec=30s");
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_BETWEEN_BATCHES, 2);
        assert_int_equal(count_with(&play, 2), 2);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(play.max_unavailable, 2);
}

static void zones_are_updated_one_after_the_other(void **state) {
        static const char *const zones[] = { "zone=b", "zone=a", "", "zone=b", "zone=a" };
        unsigned order[] = { 1, 4, 0, 3, 2 };
        _cleanup_(end) Play play;

        begin_template(&play, 5, "UpdateBy=zone");
        for (unsigned i = 0; i < 5; i++)
                cluster_view_machine(&play.p, machine_name(i), zones[i], PRESENCE_UP);
        want(&play, 2);
        for (unsigned i = 0; i < 5; i++) {
                while (count_with(&play, 2) <= i)
                        second(&play);
                assert_int_equal(assignment_of(&play, order[i])->revision, 2);
        }
}

static void a_paused_rollout_goes_on_after_resume_with_what_failed(void **state) {
        RolloutRecord next = {};
        Error err = {};
        _cleanup_(end) Play play;

        begin_template(&play, 4, "");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(rollout_ask(head_of(&play), ROLLOUT_PAUSE,
                                     &(RolloutRequest) { .now_ms = play.p.cluster.now_ms }, &next, &err),
                         -EALREADY);
        play.quality[2] = GOOD;
        assert_int_equal(rollout_ask(head_of(&play), ROLLOUT_RESUME,
                                     &(RolloutRequest) { .now_ms = play.p.cluster.now_ms,
                                                         .index = play.p.index + 1,
                                                         .by = "root@alpha" },
                                     &next, &err),
                         0);
        write_record(&play, &next);
        rollout_record_done(&next);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(starts(&play), 5);
        assert_int_equal(play.instances[0].n_starts, 2);
}

static void a_pause_ends_no_step_and_begins_none(void **state) {
        RolloutRecord next = {};
        Error err = {};
        _cleanup_(end) Play play;

        begin_template(&play, 4, "");
        want(&play, 2);
        seconds(&play, 1);
        assert_int_equal(rollout_ask(head_of(&play), ROLLOUT_PAUSE,
                                     &(RolloutRequest) { .now_ms = play.p.cluster.now_ms, .by = "root" },
                                     &next, &err),
                         0);
        write_record(&play, &next);
        rollout_record_done(&next);
        seconds(&play, 700);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(starts(&play), 1);
        assert_int_equal(count_unavailable(&play), 0);
}

static void a_set_that_does_not_run_gets_its_text_at_once(void **state) {
        _cleanup_(end) Play play;
        char key[LAYOUT_KEY_MAX], value[256];

        begin(&play, "one.service", "");
        add(&play, "one.service", "A");
        snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"load\",\"rev\":1,\"since\":1}",
                 assignment_of(&play, 0)->hash);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_ASSIGNMENT, "one.service", machine_id("A")), value);
        want(&play, 2);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(count_with(&play, 2), 1);
        assert_null(record_of(&play));
}

static void a_unit_that_is_not_wanted_has_no_rollout(void **state) {
        _cleanup_(end) Play play;

        begin(&play, "one.service", "");
        add(&play, "one.service", "A");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        cluster_view_target(&play.p, "one.service", TARGET_INACTIVE);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->completed.number, 1);
        cluster_view_destroy(&play.p, "one.service");
        assert_int_equal(head_of(&play)->unit == NULL, 1);
}

/* A singleton has no machine while it moves. */
static void a_rollout_waits_for_a_unit_that_moves(void **state) {
        static const EnginePlanLimits limits = { .names_texts = true };
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        char key[LAYOUT_KEY_MAX];
        _cleanup_(end) Play play;

        begin(&play, "one.service", "Singleton=yes\n");
        add(&play, "one.service", "A");
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        play.quality[3] = FAILS;
        want(&play, 3);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 3);
        layout_key(key, LAYOUT_ASSIGNMENT, "one.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        layout_key(key, LAYOUT_STATE, "one.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
        assert_rollout(&play, ROLLOUT_PAUSED, 3);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &limits, &plan), 0);
        assert_int_equal(plan.n, 1);
        assert_int_equal(plan.changes[0].revision, 2);
        want(&play, 4); /* a fix starts at once */
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(record_of(&play)->state, ROLLOUT_DONE);
}

static void while_the_brake_is_on_no_step_begins(void **state) {
        const RolloutConditions conditions = { .braked = true };
        _cleanup_rollout_step_ RolloutStep next = {};
        _cleanup_(end) Play play;

        begin_template(&play, 4, "");
        want(&play, 2);
        assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &conditions, &next), 0);
        assert_int_equal(next.n_updates, 0);
}

static void the_deadline_does_not_run_while_the_brake_is_on(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 3, "UpdateDeadlineSec=2min");
        play.quality[2] = SLOW;
        want(&play, 2);
        seconds(&play, 100);
        play.braked = true;
        seconds(&play, 1000);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        play.braked = false;
        seconds(&play, 50);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        seconds(&play, 80);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
}

/* The text of 'completed' is not stored any more. */
static void a_revert_to_a_text_that_is_not_stored_pauses(void **state) {
        const RolloutConditions conditions = {};
        _cleanup_rollout_step_ RolloutStep step = {};
        _cleanup_(end) Play play;

        begin_template(&play, 3, "UpdateOnFailure=revert");
        play.quality[2] = FAILS;
        want(&play, 2);
        for (unsigned i = 0; i < 20 && step.change != ROLLOUT_REVERT; i++) {
                rollout_step_done(&step);
                assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &conditions, &step), 0);
                if (step.change != ROLLOUT_REVERT)
                        second(&play);
        }
        assert_int_equal(step.change, ROLLOUT_REVERT);
        rollout_step_pause_instead(&step, "revision 1 is not stored any more");
        assert_int_equal(step.change, ROLLOUT_WRITE);
        assert_string_equal(step.next.why,
                            "web@1.service on A: exit status 1; revision 1 is not stored any more");
        write_record(&play, &step.next);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(count_with(&play, 2), 1);
}

/* Keys of a later version: the record stays as it is. */
static void an_unreadable_key_ends_no_rollout(void **state) {
        for (unsigned i = 0; i < 2; i++) {
                const RolloutConditions conditions = {};
                _cleanup_rollout_step_ RolloutStep rolling = {};
                _cleanup_(end) Play play;

                begin_template(&play, 3, "");
                want(&play, 2);
                seconds(&play, 2);
                assert_rollout(&play, ROLLOUT_ROLLING, 2);
                cluster_view_unreadable(&play.p, i == 0 ? LAYOUT_UNIT : LAYOUT_ROLLOUT, play.head, NULL);
                assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &conditions, &rolling), 0);
                assert_int_equal(rolling.change, ROLLOUT_NOTHING);
        }
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_set_is_updated_one_by_one),
                cmocka_unit_test(the_budget_is_a_share_of_the_instances),
                cmocka_unit_test(a_failed_instance_pauses_the_rollout),
                cmocka_unit_test(a_new_instance_gets_the_completed_text),
                cmocka_unit_test(a_loaded_unit_starts_with_its_new_text),
                cmocka_unit_test(a_broken_instance_gets_the_fix),
                cmocka_unit_test(the_fix_of_a_failed_instance_starts_it),
                cmocka_unit_test(an_instance_keeps_its_drop_ins_in_each_step),
                cmocka_unit_test(a_revert_restores_the_former_text_with_the_drop_ins),
                cmocka_unit_test(other_drop_ins_update_one_instance),
                cmocka_unit_test(a_text_that_was_completed_needs_no_canary),
                cmocka_unit_test(other_drop_ins_need_no_canary_before_the_first_rollout),
                cmocka_unit_test(drop_ins_that_fail_are_fixed_by_others),
                cmocka_unit_test(an_instance_that_has_left_its_template_returns_to_its_own_former_text),
                cmocka_unit_test(an_instance_with_other_drop_ins_moves_with_these),
                cmocka_unit_test(an_instance_that_was_available_and_is_not_any_more_has_failed),
                cmocka_unit_test(an_instance_that_ends_slowly_for_the_next_text_has_not_failed),
                cmocka_unit_test(bad_updates_in_a_row_take_one),
                cmocka_unit_test(an_assignment_that_is_not_executed_counts_as_unavailable),
                cmocka_unit_test(an_instance_that_may_be_restarting_is_not_available_with_the_former_text),
                cmocka_unit_test(a_drain_and_a_rollout_share_one_budget),
                cmocka_unit_test(an_instance_that_is_not_restarted_gets_the_former_text),
                cmocka_unit_test(a_second_update_supersedes),
                cmocka_unit_test(the_outcome_of_each_text_is_kept),
                cmocka_unit_test(a_revert_touches_only_bad_instances),
                cmocka_unit_test(a_long_reason_of_a_failure_is_cut_after_a_word_and_marked),
                cmocka_unit_test(a_revert_that_fails_pauses),
                cmocka_unit_test(without_a_completed_text_a_failure_pauses),
                cmocka_unit_test(an_unreachable_host_is_skipped),
                cmocka_unit_test(an_instance_on_a_lost_host_that_has_the_text_is_not_behind),
                cmocka_unit_test(a_host_lost_in_its_step_stops_the_rollout),
                cmocka_unit_test(a_lost_host_gets_the_text_that_replaces_one_that_has_failed),
                cmocka_unit_test(a_lost_host_keeps_a_text_that_was_completed),
                cmocka_unit_test(a_lost_host_keeps_a_text_that_has_failed_and_was_available_there),
                cmocka_unit_test(after_resume_a_host_lost_in_its_step_is_skipped),
                cmocka_unit_test(without_progress_until_the_deadline_the_rollout_ends),
                cmocka_unit_test(an_instance_that_is_available_again_is_no_progress),
                cmocka_unit_test(each_canary_that_is_available_is_progress),
                cmocka_unit_test(tolerated_failures_do_not_stop_the_rollout),
                cmocka_unit_test(canaries_are_held_until_they_are_promoted),
                cmocka_unit_test(what_is_requested_with_a_text_counts_for_its_rollout),
                cmocka_unit_test(what_is_requested_for_a_rollout_is_checked),
                cmocka_unit_test(a_canary_that_fails_pauses_the_rollout),
                cmocka_unit_test(batches_have_pauses),
                cmocka_unit_test(zones_are_updated_one_after_the_other),
                cmocka_unit_test(a_paused_rollout_goes_on_after_resume_with_what_failed),
                cmocka_unit_test(a_pause_ends_no_step_and_begins_none),
                cmocka_unit_test(a_set_that_does_not_run_gets_its_text_at_once),
                cmocka_unit_test(a_unit_that_is_not_wanted_has_no_rollout),
                cmocka_unit_test(a_rollout_waits_for_a_unit_that_moves),
                cmocka_unit_test(while_the_brake_is_on_no_step_begins),
                cmocka_unit_test(the_deadline_does_not_run_while_the_brake_is_on),
                cmocka_unit_test(a_revert_to_a_text_that_is_not_stored_pauses),
                cmocka_unit_test(an_unreadable_key_ends_no_rollout),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
