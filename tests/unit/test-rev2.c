#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "tests/lib/drains.h"
#include "tests/lib/rollout_play.h"

static const EnginePlanLimits names = { .names_texts = true };

/* E1 */
static void a_revert_passes_a_host_that_is_lost(void **state) {
        Play play;

        begin_global(&play, 4, "UpdateOnFailure=revert");
        play.quality[2] = FAILS;
        cluster_view_presence(&play.p, "D", PRESENCE_LOST);
        want(&play, 2);
        seconds(&play, 60);
        printf("E1: %s; count1=%zu unavailable=%zu\n", play.reasons, count_with(&play, 1), count_unavailable(&play));
        assert_rollout(&play, ROLLOUT_DONE, 1);
        end(&play);
}

/* E1b: a host that was switched off long ago */
static void a_revert_passes_a_host_that_has_left(void **state) {
        Play play;

        begin_global(&play, 4, "UpdateOnFailure=revert");
        play.quality[2] = FAILS;
        cluster_view_presence(&play.p, "D", PRESENCE_LEFT);
        want(&play, 2);
        seconds(&play, 60);
        printf("E1b: %s\n", play.reasons);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        end(&play);
}

/* E2 */
static void a_pause_between_batches_ends_although_an_instance_failed(void **state) {
        Play play;

        begin_template(&play, 6, "UpdateOnFailure=continue\nMaxUnavailable=2\nUpdatePauseSec=10s");
        want(&play, 2);
        second(&play);
        put_state(&play, 0, "failed", false);
        play.instances[0].started_ms = 0;
        seconds(&play, 2000);
        printf("E2: %s %s with 2: %zu\n", rollout_state_to_string(record_of(&play)->state), play.reasons, count_with(&play, 2));
        assert_rollout(&play, ROLLOUT_DONE, 2);
        end(&play);
}

/* E3 */
static void a_failed_canary_with_continue_is_not_for_ever(void **state) {
        Play play;

        begin_template(&play, 6, "UpdateOnFailure=continue\nMaxUnavailable=2\nCanary=2");
        want(&play, 2);
        second(&play);
        put_state(&play, 0, "failed", false);
        play.instances[0].started_ms = 0;
        seconds(&play, 2000);
        printf("E3: %s %s\n", rollout_state_to_string(record_of(&play)->state), play.reasons);
        assert_true(record_of(&play)->state != ROLLOUT_CANARY);
        end(&play);
}

static void load_only(Play *play, size_t i) {
        char key[LAYOUT_KEY_MAX], value[256];

        cluster_view_target(&play->p, play->instances[i].unit, TARGET_LOADED);
        snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"load\",\"rev\":1,\"since\":1}", assignment_of(play, i)->hash);
        cluster_view_put(&play->p, layout_key(key, LAYOUT_ASSIGNMENT, play->instances[i].unit, machine_id(play->instances[i].machine)), value);
        layout_key(key, LAYOUT_STATE, play->instances[i].unit, machine_id(play->instances[i].machine));
        cluster_view_remove(&play->p, key);
}

/* steps of a set without executing LOAD as RUN: only the pure step, written by hand */
static size_t taken_of_running(Play *play, size_t first_running) {
        const RolloutLimits limits = {};
        size_t n = 0;

        for (unsigned k = 0; k < 4; k++) {
                _cleanup_rollout_step_ RolloutStep s = {};
                const ClusterUnit *head = head_of(play);
                unsigned to = (unsigned) revisions_wanted(&head->unit->revisions);
                char hash[UNIT_HASH_SIZE];

                snprintf(hash, sizeof(hash), "%s", head->unit->hash);
                assert_int_equal(rollout_step(&play->p.cluster, head, &limits, &s), 0);
                if (s.change == ROLLOUT_NOTHING)
                        break;
                for (size_t i = 0; i < s.n_updates; i++) {
                        char key[LAYOUT_KEY_MAX], value[256], unit[32], machine[MACHINE_ID_SIZE];
                        AssignmentKind kind = s.updates[i].assignment->kind;

                        snprintf(unit, sizeof(unit), "%s", s.updates[i].assignment->unit);
                        snprintf(machine, sizeof(machine), "%s", s.updates[i].assignment->machine->id);
                        snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"%s\",\"rev\":%u,\"since\":1}", hash,
                                 kind == ASSIGNMENT_LOAD ? "load" : "run", to);
                        cluster_view_put(&play->p, layout_key(key, LAYOUT_ASSIGNMENT, unit, machine), value);
                        put_unit(play, unit, to, play->head, REVISION_SUBMITTED);
                        n += kind == ASSIGNMENT_RUN;
                }
                if (s.has_record)
                        write_record(play, &s.next);
        }
        (void) first_running;
        return n;
}

/* E4 */
static void units_that_are_loaded_only_are_no_available_instances(void **state) {
        Play play;
        size_t n;

        begin_template(&play, 6, "MaxUnavailable=50%");
        for (size_t i = 0; i < 3; i++)
                load_only(&play, i);
        want(&play, 2);
        n = taken_of_running(&play, 3);
        printf("E4: MaxUnavailable=50%% of 3 running (3 loaded): %zu of 3 taken at once\n", n);
        end(&play);

        begin_template(&play, 6, "MinAvailable=3");
        for (size_t i = 0; i < 3; i++)
                load_only(&play, i);
        want(&play, 2);
        size_t m = taken_of_running(&play, 3);
        printf("E4: MinAvailable=3 of 3 running: %zu taken\n", m);
        end(&play);
        assert_int_equal(n, 1);
        assert_int_equal(m, 0);
}

/* E4b */
static void units_that_are_loaded_only_are_no_canaries(void **state) {
        Play play;

        begin_template(&play, 6, "Canary=2");
        for (size_t i = 0; i < 3; i++)
                load_only(&play, i);
        want(&play, 2);
        (void) taken_of_running(&play, 3);
        printf("E4b: %s\n", rollout_state_to_string(record_of(&play)->state));
        assert_int_equal(record_of(&play)->state, ROLLOUT_CANARY);
        end(&play);
}

/* E5 */
static void a_text_that_fits_no_machine_is_reverted(void **state) {
        char key[LAYOUT_KEY_MAX];
        Play play;

        begin(&play, "one.service", "UpdateOnFailure=revert");
        add(&play, "one.service", "A");
        want(&play, 2);
        second(&play);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        layout_key(key, LAYOUT_ASSIGNMENT, "one.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        layout_key(key, LAYOUT_STATE, "one.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        for (unsigned i = 0; i < 3600; i++) {
                (void) step(&play);
                play.p.cluster.now_ms += 1000;
        }
        printf("E5: after an hour: %s: %s\n", rollout_state_to_string(record_of(&play)->state), play.reasons);
        assert_true(record_of(&play)->state != ROLLOUT_ROLLING);
        end(&play);
}

/* E5b: the whole way, with the plan */
static void a_text_that_fits_no_machine_is_reverted_with_plans(void **state) {
        Play play;
        char key[LAYOUT_KEY_MAX];

        begin(&play, "one.service", "UpdateOnFailure=revert");
        add(&play, "one.service", "A");
        cluster_view_machine(&play.p, "B", "", PRESENCE_UP);
        play.options = "UpdateOnFailure=revert\nMachineMetadata=disk=ssd";
        want(&play, 2);
        for (unsigned i = 0; i < 3600; i++) {
                _cleanup_(engine_plan_done) EnginePlan plan = {};

                assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
                for (size_t k = 0; k < plan.n && i < 5; k++)
                        printf("E5b: %u s: %s %s: %s\n", i, assignment_kind_to_string(plan.changes[k].kind), plan.changes[k].unit, plan.changes[k].reason);
                cluster_view_apply(&play.p, &plan);
                if (assignment_of(&play, 0) && assignment_of(&play, 0)->kind == ASSIGNMENT_STOP) {
                        layout_key(key, LAYOUT_STATE, "one.service", machine_id("A"));
                        cluster_view_remove(&play.p, key);
                        layout_key(key, LAYOUT_ASSIGNMENT, "one.service", machine_id("A"));
                        cluster_view_remove(&play.p, key);
                }
                (void) step(&play);
                play.p.cluster.now_ms += 1000;
        }
        printf("E5b: after an hour: %s: %s\n", rollout_state_to_string(record_of(&play)->state), play.reasons);
        assert_true(record_of(&play)->state != ROLLOUT_ROLLING);
        end(&play);
}

/* E7b: the whole way of a template */
static void after_a_revert_all_instances_run(void **state) {
        Play play;
        char key[LAYOUT_KEY_MAX];
        size_t n = 0;

        begin_template(&play, 3, "UpdateOnFailure=revert");
        cluster_view_machine(&play.p, "F", "", PRESENCE_UP);
        play.options = "UpdateOnFailure=revert\nMachineMetadata=disk=ssd";
        want(&play, 2);
        for (unsigned i = 0; i < 3600; i++) {
                _cleanup_(engine_plan_done) EnginePlan plan = {};

                if (record_of(&play) && record_of(&play)->state == ROLLOUT_REVERTING)
                        play.options = "UpdateOnFailure=revert";
                assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
                for (size_t k = 0; k < plan.n; k++)
                        printf("E7b: %u s: %s %s: %s\n", i, assignment_kind_to_string(plan.changes[k].kind), plan.changes[k].unit, plan.changes[k].reason);
                cluster_view_apply(&play.p, &plan);
                for (size_t k = 0; k < play.n; k++)
                        if (assignment_of(&play, k) && assignment_of(&play, k)->kind == ASSIGNMENT_STOP) {
                                layout_key(key, LAYOUT_STATE, play.instances[k].unit, machine_id(play.instances[k].machine));
                                cluster_view_remove(&play.p, key);
                                layout_key(key, LAYOUT_ASSIGNMENT, play.instances[k].unit, machine_id(play.instances[k].machine));
                                cluster_view_remove(&play.p, key);
                        }
                {
                        /* the revert writes the text without the option */
                        const char *options = play.options;
                        const RolloutLimits l = {};
                        _cleanup_rollout_step_ RolloutStep look = {};
                        assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &l, &look), 0);
                        if (look.change == ROLLOUT_REVERT)
                                play.options = "UpdateOnFailure=revert";
                        else
                                play.options = options;
                        (void) step(&play);
                }
                play.p.cluster.now_ms += 1000;
        }
        for (size_t k = 0; k < play.n; k++)
                n += assignment_of(&play, k) != NULL;
        printf("E7b: after an hour: %s: %s; %zu of 3 run\n", rollout_state_to_string(record_of(&play)->state), play.reasons, n);
        assert_int_equal(n, 3);
        end(&play);
}

/* E6 */
static void an_instance_that_is_started_gets_the_text_of_its_template(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        Play play;

        begin_template(&play, 2, "");
        put_unit(&play, "web@9.service", 1, play.head, REVISION_SUBMITTED);
        cluster_view_target(&play.p, "web@9.service", TARGET_INACTIVE);
        want(&play, 2);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        assert_int_equal(plan.n, 1);
        printf("E6: web@9 starts with revision %llu, wanted 2\n", (unsigned long long) plan.changes[0].revision);
        assert_int_equal(plan.changes[0].revision, 2);
        end(&play);
}

/* E7 */
static void an_instance_without_a_machine_gets_the_fix(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        Play play;
        char key[LAYOUT_KEY_MAX];

        /* revision 2 fits no machine: its options are in the text of web@1's key only */
        begin_template(&play, 3, "UpdateOnFailure=revert\nMachineMetadata=disk=ssd");
        for (unsigned i = 0; i < 3; i++)
                cluster_view_machine(&play.p, machine_name(i), "", PRESENCE_UP);
        /* web@1 had got that text, and was stopped */
        put_unit(&play, "web@1.service", 2, play.head, REVISION_SUBMITTED);
        layout_key(key, LAYOUT_ASSIGNMENT, "web@1.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        layout_key(key, LAYOUT_STATE, "web@1.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        /* the fix */
        play.options = "";
        put_unit(&play, "web@2.service", 3, play.head, REVISION_SUBMITTED);
        put_unit(&play, "web@3.service", 3, play.head, REVISION_SUBMITTED);
        want(&play, 3);
        for (unsigned i = 0; i < 1000; i++) {
                const RolloutLimits limits = {};
                _cleanup_rollout_step_ RolloutStep s = {};

                assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &limits, &s), 0);
                for (size_t k = 0; k < s.n_updates; k++)
                        assert_string_not_equal(s.updates[k].unit->name, "web@1.service");
                play.p.cluster.now_ms += 1000;
                break;
        }
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        printf("E7: plan has %zu changes\n", plan.n);
        for (size_t i = 0; i < plan.n; i++)
                printf("   %s rev %llu\n", plan.changes[i].unit, (unsigned long long) plan.changes[i].revision);
        bool placed = false;
        for (size_t i = 0; i < plan.n; i++)
                placed |= streq(plan.changes[i].unit, "web@1.service");
        assert_true(placed);
        end(&play);
}

/* E8 */
static void an_assignment_that_cannot_be_read_is_not_overwritten(void **state) {
        const RolloutLimits limits = {};
        _cleanup_rollout_step_ RolloutStep s = {};
        Play play;

        begin_template(&play, 3, "MaxUnavailable=3");
        cluster_view_unreadable(&play.p, LAYOUT_ASSIGNMENT, "web@2.service", "B");
        want(&play, 2);
        assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &limits, &s), 0);
        bool touched = false;
        for (size_t i = 0; i < s.n_updates; i++) {
                if (streq(s.updates[i].unit->name, "web@2.service")) {
                        touched = true;
                        printf("E8: overwritten with kind %d\n", (int) s.updates[i].assignment->kind);
                }
        }
        assert_false(touched);
        end(&play);
}

/* E8b */
static void with_a_record_that_cannot_be_read_a_new_instance_does_not_get_the_text_that_is_paused(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        Play play;

        begin_template(&play, 3, "");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        put_unit(&play, "web@9.service", 2, play.head, REVISION_SUBMITTED);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        cluster_view_unreadable(&play.p, LAYOUT_ROLLOUT, play.head, NULL);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        printf("E8b: %zu changes, revision %llu\n", plan.n, plan.n ? (unsigned long long) plan.changes[0].revision : 0);
        assert_true(plan.n == 0 || plan.changes[0].revision != 2);
        end(&play);
}

/* E9 */
static void a_set_with_an_instance_that_has_no_machine_is_updated(void **state) {
        Play play;

        begin_template(&play, 3, "");
        put_unit(&play, "web@9.service", 1, play.head, REVISION_SUBMITTED);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        want(&play, 2);
        seconds(&play, 700);
        printf("E9: %s: %s; %zu of 3 updated\n", rollout_state_to_string(record_of(&play)->state), play.reasons, count_with(&play, 2));
        assert_true(count_with(&play, 2) > 0);
        end(&play);
}

/* E10 */
static void a_text_that_never_ran_is_not_completed(void **state) {
        Play play;

        begin(&play, "one.service", "UpdateOnFailure=revert");
        add(&play, "one.service", "A");
        play.quality[2] = FAILS;
        cluster_view_presence(&play.p, "A", PRESENCE_AWAY);
        want(&play, 2);
        seconds(&play, 3);
        printf("E10: %s completed %llu\n", rollout_state_to_string(record_of(&play)->state), (unsigned long long) record_of(&play)->completed.number);
        cluster_view_presence(&play.p, "A", PRESENCE_UP);
        seconds(&play, 1200);
        printf("E10: after return: %s completed %llu, unavailable %zu, %s\n", rollout_state_to_string(record_of(&play)->state), (unsigned long long) record_of(&play)->completed.number, count_unavailable(&play), play.reasons);
        assert_int_equal(record_of(&play)->completed.number, 1);
        end(&play);
}

/* E11 */
static void a_canary_that_is_not_available_is_not_promoted(void **state) {
        Play play;

        begin_template(&play, 6, "Canary=1\nPromote=20s\nMaxUnavailable=3");
        want(&play, 2);
        seconds(&play, 8);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        put_state(&play, 0, "active", false); /* its process ended, and was started again */
        play.quality[2] = SLOW;
        seconds(&play, 40);
        printf("E11: %s, %zu have it: %s\n", rollout_state_to_string(record_of(&play)->state), count_with(&play, 2), play.reasons);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        end(&play);
}

static void ask(Play *play, RolloutVerb verb) {
        RolloutRecord next = {};
        Error err = {};

        assert_int_equal(rollout_ask(head_of(play), verb, &(RolloutRequest) { .now_ms = play->p.cluster.now_ms, .index = play->p.index + 1 }, &next, &err), 0);
        write_record(play, &next);
        rollout_record_done(&next);
}

/* E12 */
static void a_promotion_by_time_follows_a_pause(void **state) {
        Play play;

        begin_template(&play, 6, "Canary=1\nPromote=20s");
        want(&play, 2);
        seconds(&play, 8);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        ask(&play, ROLLOUT_PAUSE);
        ask(&play, ROLLOUT_RESUME);
        seconds(&play, 200);
        printf("E12: %s\n", rollout_state_to_string(record_of(&play)->state));
        assert_true(record_of(&play)->state != ROLLOUT_HELD);
        end(&play);
}

/* E13 */
static void a_short_deadline_does_not_pass_while_the_brake_is_on(void **state) {
        Play play;

        begin_template(&play, 3, "UpdateDeadlineSec=30s");
        play.quality[2] = SLOW;
        want(&play, 2);
        seconds(&play, 2);
        play.braked = true;
        seconds(&play, 45);
        play.braked = false;
        seconds(&play, 2);
        printf("E13: %s\n", rollout_state_to_string(record_of(&play)->state));
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        end(&play);
}

/* E17: a canary that stops first moves */
static void an_instance_that_stops_first_moves_with_its_text(void **state) {
        _cleanup_(engine_plan_done) EnginePlan stop = {}, start = {};
        Play play;
        char key[LAYOUT_KEY_MAX];

        begin_template(&play, 3, "Canary=1\nMove=stop-first");
        cluster_view_machine(&play.p, "F", "", PRESENCE_UP);
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        maintain(&play.p, "A", "draining", "");
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &stop), 0);
        assert_int_equal(stop.n, 1);
        cluster_view_apply(&play.p, &stop);
        layout_key(key, LAYOUT_STATE, "web@1.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        layout_key(key, LAYOUT_ASSIGNMENT, "web@1.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &start), 0);
        assert_int_equal(start.n, 1);
        printf("E17: had 2, starts with %llu\n", (unsigned long long) start.changes[0].revision);
        assert_int_equal(start.changes[0].revision, 2);
        end(&play);
}

/* E18 */
static void singletons_of_a_set_share_its_budget(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        Play play;
        size_t n = 0;

        begin(&play, "web@.service", "Singleton=yes");
        for (unsigned i = 1; i <= 4; i++) {
                char unit[32], key[LAYOUT_KEY_MAX], value[256];

                snprintf(unit, sizeof(unit), "web@%u.service", i);
                put_unit(&play, unit, 1, play.head, REVISION_SUBMITTED);
                cluster_view_target(&play.p, unit, TARGET_LAUNCHED);
                add(&play, unit, "A");
                snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"hold\":30000,\"order\":\"run\",\"rev\":1,\"since\":1}", assignment_of(&play, i - 1)->hash);
                cluster_view_put(&play.p, layout_key(key, LAYOUT_ASSIGNMENT, unit, machine_id("A")), value);
        }
        cluster_view_machine(&play.p, "B", "", PRESENCE_UP);
        maintain(&play.p, "A", "draining", "");
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        for (size_t i = 0; i < plan.n; i++)
                n += plan.changes[i].kind == ASSIGNMENT_STOP;
        printf("E18: %zu of 4 singletons of one set stop at once (MaxUnavailable=1)\n", n);
        assert_int_equal(n, 1);
        end(&play);
}

/* E20 */
static void a_drain_stops_the_old_instance_when_the_new_one_is_available(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        Play play;
        size_t n = 0;

        begin_template(&play, 2, "HealthTcp=80");
        maintain(&play.p, "A", "draining", "");
        add(&play, "web@1.service", "B");
        {
                char key[LAYOUT_KEY_MAX], value[256];
                snprintf(value, sizeof(value), "{\"hash\":\"%s\",\"order\":\"run\",\"rev\":1,\"since\":900000}", assignment_of(&play, 2)->hash);
                cluster_view_put(&play.p, layout_key(key, LAYOUT_ASSIGNMENT, "web@1.service", machine_id("B")), value);
        }
        put_state(&play, 2, "active", false);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        for (size_t i = 0; i < plan.n; i++) {
                printf("E20: %s %s: %s\n", assignment_kind_to_string(plan.changes[i].kind), plan.changes[i].unit, plan.changes[i].reason);
                n += plan.changes[i].kind == ASSIGNMENT_STOP;
        }
        assert_int_equal(n, 0);
        end(&play);
}

/* E21: after the level raise: own numbers */
static void after_the_raise_the_number_is_that_of_the_template(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_unit_ Unit *text = NULL;
        _cleanup_text_ Text t = {};
        char key[LAYOUT_KEY_MAX], value[256];
        Play play;

        begin(&play, "web@.service", "");
        want(&play, 5);
        text = unit_of(&play, "web@1.service", 5, NULL);
        text->revisions.wanted.number = 2; /* submitted twice since */
        stored_unit_write(&t, text);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_UNIT, "web@1.service", NULL), t.chars);
        cluster_view_target(&play.p, "web@1.service", TARGET_LAUNCHED);
        cluster_view_machine(&play.p, "A", "", PRESENCE_UP);
        snprintf(value, sizeof(value), "{\"order\":\"run\",\"since\":1,\"unit\":%llu}", (unsigned long long) cluster_unit(&play.p.cluster, "web@1.service")->index);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_ASSIGNMENT, "web@1.service", machine_id("A")), value);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        assert_int_equal(plan.n, 1);
        printf("E21: the assignment names revision %llu; the template's is 5\n", (unsigned long long) plan.changes[0].revision);
        assert_int_equal(plan.changes[0].revision, 5);
        end(&play);
}

/* E22: the placement of surge instances */
static void a_surge_instance_starts_where_the_new_text_fits(void **state) {
        const RolloutLimits limits = {};
        _cleanup_rollout_step_ RolloutStep s = {};
        Play play;

        begin_template(&play, 2, "MaxSurge=1\nMaxUnavailable=0");
        cluster_view_machine(&play.p, "E", "disk=hdd", PRESENCE_UP);
        cluster_view_machine(&play.p, "F", "disk=ssd", PRESENCE_UP);
        for (unsigned i = 0; i < 3; i++) /* F has more units */
                { char n[32]; snprintf(n, sizeof(n), "x%u.service", i); cluster_view_unit(&play.p, n, "", TARGET_LAUNCHED); run_on(&play.p, "F", n); }
        play.options = "MaxSurge=1\nMaxUnavailable=0\nMachineMetadata=disk=ssd";
        want(&play, 2);
        assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &limits, &s), 0);
        assert_int_equal(s.n_updates, 1);
        printf("E22: to %s\n", s.updates[0].to ? cluster_machine_name(s.updates[0].to) : "-");
        assert_string_equal(cluster_machine_name(s.updates[0].to), "F");
        end(&play);
}

/* E23: the last of the set gets no machine */
static void a_rollout_is_not_done_while_an_instance_has_no_machine(void **state) {
        char key[LAYOUT_KEY_MAX];
        Play play;

        begin_template(&play, 3, "");
        want(&play, 2);
        for (unsigned i = 0; i < 60 && count_with(&play, 2) < 3; i++)
                second(&play);
        /* the text of the last one fits no machine: the plan has stopped it */
        layout_key(key, LAYOUT_ASSIGNMENT, "web@3.service", machine_id("C"));
        cluster_view_remove(&play.p, key);
        layout_key(key, LAYOUT_STATE, "web@3.service", machine_id("C"));
        cluster_view_remove(&play.p, key);
        for (unsigned i = 0; i < 30; i++) {
                (void) step(&play);
                play.p.cluster.now_ms += 1000;
        }
        printf("E23: %s: %s\n", rollout_state_to_string(record_of(&play)->state), play.reasons);
        assert_true(record_of(&play)->state != ROLLOUT_DONE);
        end(&play);
}

/* E24: a record of an instance that follows its template again */
static void an_instance_that_follows_again_has_no_rollout_of_its_own(void **state) {
        const RolloutLimits limits = {};
        _cleanup_rollout_step_ RolloutStep s = {};
        Play play;
        char key[LAYOUT_KEY_MAX];

        begin_template(&play, 3, "");
        want(&play, 2);
        second(&play); /* web@1 is in progress: the budget is used */
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_ROLLOUT, "web@3.service", NULL),
                         "{\"state\":\"paused\",\"before\":\"rolling\",\"to\":7,\"toHash\":\"0123456789012345678901234567890123456789\"}");
        assert_int_equal(rollout_step(&play.p.cluster, cluster_any_unit(&play.p.cluster, "web@3.service"), &limits, &s), 0);
        printf("E24: change %d, %zu updates, record %d\n", (int) s.change, s.n_updates, s.has_record);
        assert_int_equal(s.change, ROLLOUT_DELETE);
        end(&play);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_revert_passes_a_host_that_is_lost),
                cmocka_unit_test(a_revert_passes_a_host_that_has_left),
                cmocka_unit_test(a_pause_between_batches_ends_although_an_instance_failed),
                cmocka_unit_test(a_failed_canary_with_continue_is_not_for_ever),
                cmocka_unit_test(units_that_are_loaded_only_are_no_available_instances),
                cmocka_unit_test(units_that_are_loaded_only_are_no_canaries),
                cmocka_unit_test(a_text_that_fits_no_machine_is_reverted),
 cmocka_unit_test(a_text_that_fits_no_machine_is_reverted_with_plans),
 cmocka_unit_test(after_a_revert_all_instances_run),
                cmocka_unit_test(an_instance_that_is_started_gets_the_text_of_its_template),
                cmocka_unit_test(an_instance_without_a_machine_gets_the_fix),
                cmocka_unit_test(an_assignment_that_cannot_be_read_is_not_overwritten),
                cmocka_unit_test(with_a_record_that_cannot_be_read_a_new_instance_does_not_get_the_text_that_is_paused),
                cmocka_unit_test(a_set_with_an_instance_that_has_no_machine_is_updated),
                cmocka_unit_test(a_text_that_never_ran_is_not_completed),
                cmocka_unit_test(a_canary_that_is_not_available_is_not_promoted),
                cmocka_unit_test(a_promotion_by_time_follows_a_pause),
                cmocka_unit_test(a_short_deadline_does_not_pass_while_the_brake_is_on),
                cmocka_unit_test(an_instance_that_stops_first_moves_with_its_text),
                cmocka_unit_test(singletons_of_a_set_share_its_budget),
                cmocka_unit_test(a_drain_stops_the_old_instance_when_the_new_one_is_available),
                cmocka_unit_test(after_the_raise_the_number_is_that_of_the_template),
                cmocka_unit_test(a_surge_instance_starts_where_the_new_text_fits),
                cmocka_unit_test(a_rollout_is_not_done_while_an_instance_has_no_machine),
                cmocka_unit_test(an_instance_that_follows_again_has_no_rollout_of_its_own),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
