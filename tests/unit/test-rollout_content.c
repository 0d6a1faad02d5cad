/* Rollouts of contents: with OnChange=restart, a new number of the inputs of a set restarts its instances as
 * a new text does. */
#include "tests/lib/test.h"
#include "tests/lib/rollout_play.h"

#define RESTARTS "Secret=pw\nOnChange=restart\n"

/* Six instances, whose content is the first one. */
static void begin_contents(Play *play, const char *options) {
        begin_template(play, 6, options);
        for (size_t i = 0; i < play->n; i++) {
                put_content(play, play->instances[i].unit, 1);
                put_assignment(play, play->instances[i].machine, play->instances[i].unit, 1, 1);
                play->instances[i].index = assignment_of(play, i)->index;
                play->instances[i].inputs = 1;
                put_state(play, i, "active", true);
        }
        second(play);
        assert_null(record_of(play));
}

static size_t count_content(Play *play, uint64_t number) {
        size_t n = 0;

        for (size_t i = 0; i < play->n; i++)
                n += play->instances[i].inputs == number;
        return n;
}

/* As the leader records it while no content can be made; 'number': of the former one. */
static void put_content_problem(Play *play, const char *unit, uint64_t number) {
        InputsRecord record = { .number = number, .waits = true };
        char key[LAYOUT_KEY_MAX];
        _cleanup_text_ Text t = {};

        verdict_set(&record.problem, VERDICT_AWAITS_SECRET, "pw");
        stored_inputs_write(&t, &record);
        cluster_view_put(&play->p, layout_key(key, LAYOUT_INPUTS, unit, NULL), t.chars);
}

static void assert_label(Play *play, const char *expected) {
        char label[ROLLOUT_LABEL_SIZE];

        rollout_record_label(record_of(play), label);
        assert_string_equal(label, expected);
}

static void a_content_restarts_one_instance_after_the_other(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        change_content(&play, 2);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_ROLLING, 1);
        assert_label(&play, "content 2");
        assert_int_equal(record_of(&play)->to.inputs, 2);
        assert_int_equal(record_of(&play)->from.inputs, 1);
        assert_string_equal(record_of(&play)->by, "");
        assert_int_equal(count_content(&play, 2), 1);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_label(&play, "content 2");
        assert_string_equal(play.reasons, "content 2: rolling; content 2: done; ");
        assert_int_equal(record_of(&play)->completed.inputs, 2);
        assert_int_equal(count_content(&play, 2), 6);
        assert_int_equal(starts(&play), 6);
        assert_int_equal(play.max_unavailable, 1);
}

/* The keys of the others have their former numbers. */
static void only_instances_whose_content_has_changed_restart(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        put_content(&play, "web@2.service", 2);
        put_content(&play, "web@5.service", 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 2);
        assert_int_equal(play.instances[1].inputs + play.instances[4].inputs, 4);
        change_content(&play, 3);
        seconds(&play, 30);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 2 + 6);
}

static void without_restarts_a_content_changes_nothing(void **state) {
        static const char *const options[] = { "Secret=pw\n", "ConfigKeys=/a\nOnChange=none\n",
                                               "ConfigKeys=/a\nOnChange=reload\n" };

        for (size_t i = 0; i < ELEMENTS(options); i++) {
                _cleanup_(end) Play play;

                begin_contents(&play, options[i]);
                change_content(&play, 2);
                seconds(&play, 20);
                assert_null(record_of(&play));
                assert_int_equal(starts(&play), 0);
                want(&play, 2);
                seconds(&play, 30);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                assert_int_equal(record_of(&play)->to.inputs, 0);
                assert_int_equal(starts(&play), 6);
        }
}

static void a_bad_content_takes_one_and_the_next_one_continues(void **state) {
        static const struct {
                const char *options;
                Quality quality;
                unsigned seconds;
                const char *why;
        } rows[] = {
                { RESTARTS, FAILS, 5, "web@1.service on A: exit status 1" },
                { RESTARTS "UpdateOnFailure=revert", FAILS, 5,
                  "web@1.service on A: exit status 1; the former content is not stored" },
                { RESTARTS "UpdateDeadlineSec=60s", SLOW, 70,
                  "no further instance was available within UpdateDeadlineSec=" },
                { RESTARTS "Canary=2\nPromote=5s", FAILS, 5, "web@1.service on A: exit status 1" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const RolloutOutcome *outcome;
                _cleanup_(end) Play play;

                begin_contents(&play, rows[i].options);
                play.contents[2] = rows[i].quality;
                change_content(&play, 2);
                seconds(&play, rows[i].seconds);
                assert_rollout(&play, ROLLOUT_PAUSED, 1);
                assert_string_equal(record_of(&play)->why, rows[i].why);
                assert_int_equal(starts(&play), 1);
                outcome = rollout_record_outcome(record_of(&play), head_of(&play)->unit->hash);
                assert_true(outcome && outcome->result == ROLLOUT_COMPLETED);
                seconds(&play, 100);
                assert_int_equal(starts(&play), 1);
                change_content(&play, 3);
                seconds(&play, 60);
                assert_rollout(&play, ROLLOUT_DONE, 1);
                assert_label(&play, "content 3");
                assert_int_equal(record_of(&play)->from.inputs, 1);
                assert_int_equal(starts(&play), 1 + 6);
                assert_int_equal(play.max_unavailable, 1);
                for (size_t k = 0; k < play.n; k++) /* at most once for a number */
                        assert_true(play.instances[k].n_starts <= 2);
        }
}

/* The value is the same: the failed instance is started again first. */
static void after_resume_a_failed_content_is_tried_again(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        play.contents[2] = FAILS;
        change_content(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 1);
        play.contents[2] = GOOD;
        play.instances[0].started_ms = 0; /* it becomes available by another start only */
        assert_int_equal(ask(&play, ROLLOUT_RESUME), 0);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 1 + 6);
}

/* 'resume' continues with the newest content. */
static void a_rollout_that_a_user_has_paused_stays_paused_with_another_content(void **state) {
        for (unsigned text = 0; text < 2; text++) {
                _cleanup_(end) Play play;
                unsigned n;

                begin_contents(&play, RESTARTS);
                if (text)
                        want(&play, 2);
                else
                        change_content(&play, 2);
                seconds(&play, 2);
                assert_int_equal(ask(&play, ROLLOUT_PAUSE), 0);
                seconds(&play, 10);
                n = starts(&play);
                assert_in_range(n, 1, 2);
                for (unsigned number = 3; number <= 4; number++) {
                        change_content(&play, number);
                        seconds(&play, 30);
                        assert_rollout(&play, ROLLOUT_PAUSED, text + 1);
                        assert_string_equal(record_of(&play)->why, "by a user");
                        assert_int_equal(record_of(&play)->to.inputs, number);
                        assert_int_equal(starts(&play), n);
                }
                assert_int_equal(ask(&play, ROLLOUT_RESUME), 0);
                seconds(&play, 60);
                assert_rollout(&play, ROLLOUT_DONE, text + 1);
                assert_label(&play, text ? "revision 2" : "content 4");
                assert_int_equal(starts(&play), n + 6);
                assert_int_equal(count_content(&play, 4), 6);
                assert_int_equal(play.max_unavailable, 1);
        }
}

/* The text is the cause. Instances that have failed with it are not started again. */
static void a_text_that_has_failed_stays_paused_with_another_content(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS "MaxUnavailable=3");
        play.quality[2] = FAILS;
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(starts(&play), 3);
        for (unsigned number = 2; number <= 4; number++) {
                change_content(&play, number);
                seconds(&play, 30);
                assert_rollout(&play, ROLLOUT_PAUSED, 2);
                assert_label(&play, "revision 2");
                assert_int_equal(record_of(&play)->code, VERDICT_INSTANCE_FAILED);
                assert_int_equal(record_of(&play)->to.inputs, number);
                assert_int_equal(starts(&play), 3);
        }
        want(&play, 3);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_DONE, 3);
        assert_int_equal(count_content(&play, 4), 6);
}

static void a_rollout_that_is_paused_while_it_is_held_updates_its_canaries_again(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS "Canary=1");
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        assert_int_equal(ask(&play, ROLLOUT_PAUSE), 0);
        change_content(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(starts(&play), 1);
        assert_int_equal(ask(&play, ROLLOUT_RESUME), 0);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        assert_int_equal(starts(&play), 2);
        assert_int_equal(play.instances[0].inputs, 2);
}

/* It cannot be sealed there, for example: the process goes on, and uses the budget. */
static void a_content_that_a_host_cannot_provide_pauses_the_rollout(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS "UpdateDeadlineSec=60s");
        play.contents[2] = STUCK;
        change_content(&play, 2);
        seconds(&play, 70);
        assert_rollout(&play, ROLLOUT_PAUSED, 1);
        assert_string_equal(record_of(&play)->why,
                            "A has not executed the update of web@1.service within UpdateDeadlineSec=");
        assert_int_equal(record_of(&play)->code, VERDICT_NONE);
        assert_int_equal(starts(&play), 0);
        change_content(&play, 3);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 6);
        assert_int_equal(play.max_unavailable, 1);
}

/* The leader finds that an input of the text is missing, and its host waits, without a limit of time: the
 * input is all that is needed. */
static void a_text_that_waits_for_an_input_continues_when_it_is_there(void **state) {
        static const struct {
                const char *options;
                uint64_t number; /* of the content of the former text */
        } rows[] = { { RESTARTS "UpdateDeadlineSec=60s", 1 },
                     { "Secret=pw\nUpdateDeadlineSec=60s", 0 },
                     { RESTARTS "UpdateDeadlineSec=60s\nUpdateOnFailure=revert\nCanary=1\nPromote=5s", 0 },
                     { RESTARTS "UpdateDeadlineSec=60s\nUpdateOnFailure=continue", 1 } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_rollout_set_ RolloutSet set = {};
                Error why = {};
                _cleanup_(end) Play play;

                if (rows[i].number > 0)
                        begin_contents(&play, rows[i].options);
                else
                        begin_template(&play, 6, rows[i].options);
                for (size_t k = 0; k < play.n; k++)
                        put_content_problem(&play, play.instances[k].unit, rows[i].number);
                play.quality[2] = STUCK;
                want(&play, 2);
                seconds(&play, 1000);
                assert_rollout(&play, strstr(rows[i].options, "Canary") ? ROLLOUT_CANARY : ROLLOUT_ROLLING,
                               2);
                assert_int_equal(count_with(&play, 2), 1);
                assert_int_equal(starts(&play), 0);
                assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
                rollout_explain(&play.p.cluster, &set, &set.instances[0], false, &why);
                assert_string_equal(why.message, "waiting for secret pw: not set");
                change_content(&play, (unsigned) rows[i].number + 1);
                play.quality[2] = GOOD;
                seconds(&play, 60);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                assert_int_equal(starts(&play), 6);
                assert_int_equal(play.max_unavailable, 1);
        }
}

/* The host has executed the update with the former content: then the problem is none of this text. */
static void a_text_that_runs_with_the_former_content_has_a_deadline(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS "UpdateDeadlineSec=60s");
        for (size_t k = 0; k < play.n; k++)
                put_content_problem(&play, play.instances[k].unit, 1);
        play.quality[2] = SLOW;
        want(&play, 2);
        seconds(&play, 70);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(starts(&play), 1);
}

static void a_content_supersedes_one_that_is_rolling(void **state) {
        _cleanup_rollout_set_ RolloutSet set = {};
        Error why = {};
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        change_content(&play, 2);
        assert_int_equal(step(&play), ROLLOUT_WRITE); /* its machine has not executed it */
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        assert_int_equal(set.n_of[INSTANCE_UPDATING], 1);
        assert_int_equal(rollout_available(&set), 5);
        assert_false(rollout_is_counted(&play.p.cluster, set.instances[0].assignment));
        rollout_explain(&play.p.cluster, &set, &set.instances[0], false, &why);
        assert_string_equal(why.message,
                            "it still has its former content; its host is about to start it again");
        change_content(&play, 3);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(assignment_of(&play, 0)->inputs, 3); /* what is published is of neither */
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 6);
        assert_int_equal(play.max_unavailable, 1);
}

static void an_instance_whose_host_cannot_write_its_content_has_the_reason(void **state) {
        _cleanup_rollout_set_ RolloutSet set = {};
        const ClusterAssignment *a;
        char key[LAYOUT_KEY_MAX], value[256];
        Error why = {};
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        change_content(&play, 2);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        a = assignment_of(&play, 0);
        snprintf(value, sizeof(value),
                 "{\"active\":\"active\",\"code\":\"secret-unsealed\",\"hash\":\"%s\",\"inputs\":1,"
                 "\"load\":\"loaded\",\"reason\":\"cannot seal pw: it is broken\",\"sub\":\"running\"}",
                 a->hash);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_STATE, a->unit, a->machine->id), value);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        rollout_explain(&play.p.cluster, &set, &set.instances[0], false, &why);
        assert_string_equal(why.message, "it runs with its former content: cannot seal pw: it is broken");
}

/* It is published after the step: the process that ends is of the former content. */
static void what_fails_or_is_skipped_with_the_former_content_is_being_updated(void **state) {
        static const char *const rest[] = { "\"health\":\"failing\"", "\"job\":\"condition\"",
                                            "\"job\":\"failed\"", "\"health\":\"passing\",\"lapsed\":true" };

        for (size_t i = 0; i < ELEMENTS(rest); i++) {
                _cleanup_rollout_set_ RolloutSet set = {}, after = {};
                char key[LAYOUT_KEY_MAX], value[256];
                const ClusterAssignment *a;
                _cleanup_(end) Play play;

                begin_contents(&play, RESTARTS);
                change_content(&play, 2);
                assert_int_equal(step(&play), ROLLOUT_WRITE);
                a = assignment_of(&play, 0);
                layout_key(key, LAYOUT_STATE, a->unit, a->machine->id);
                for (unsigned number = 1; number <= 2; number++) {
                        snprintf(value, sizeof(value),
                                 "{\"active\":\"inactive\",\"hash\":\"%s\",\"inputs\":%u,\"load\":\"loaded\","
                                 "%s,"
                                 "\"sub\":\"dead\"}",
                                 a->hash, number, rest[i]);
                        cluster_view_put(&play.p, key, value);
                        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play),
                                                          number == 1 ? &set : &after),
                                         0);
                }
                assert_int_equal(set.instances[0].state, INSTANCE_UPDATING);
                assert_int_equal(after.instances[0].state,
                                 strstr(rest[i], "condition") ? INSTANCE_SKIPPED : INSTANCE_FAILED);
        }
}

static void a_text_and_a_content_are_one_step(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        want(&play, 2);
        change_content(&play, 2);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_label(&play, "revision 2");
        assert_int_equal(record_of(&play)->completed.inputs, 2);
        assert_int_equal(starts(&play), 6);
        assert_int_equal(play.max_unavailable, 1);
}

/* The content is that of now: it is not stored by its number. */
static void a_text_that_fails_is_reverted_with_the_present_content(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS "UpdateOnFailure=revert");
        play.quality[2] = FAILS;
        want(&play, 2);
        change_content(&play, 2);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_label(&play, "revision 1");
        assert_int_equal(record_of(&play)->to.inputs, 2);
        assert_int_equal(record_of(&play)->reverted.number, 2);
        assert_int_equal(count_with(&play, 1), 6);
        assert_int_equal(count_content(&play, 2), 6);
        assert_int_equal(starts(&play), 1 + 6);
        change_content(&play, 3);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_label(&play, "content 3");
        assert_int_equal(record_of(&play)->reverted.number, 2);
}

/* A content of a text to which a user has returned is an update, with its checks. */
static void after_a_revert_a_content_is_an_update(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS "Canary=1");
        want(&play, 2);
        seconds(&play, 10);
        put_unit(&play, play.head, 1, NULL, REVISION_REVERTED);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        change_content(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 1);
        assert_int_equal(count_content(&play, 2), 1);
        assert_int_equal(ask(&play, ROLLOUT_PROMOTE), 0);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_string_equal(
                strstr(play.reasons, "content 2"),
                "content 2: canary; content 2: held: 1 of 6 instances have it; content 2: done; ");
}

/* --canary= of a text is for its own rollout. */
static void what_was_requested_with_a_text_is_not_for_a_content(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        assert_int_equal(update_request_read("1", NULL, &play.update, NULL), 0);
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        assert_int_equal(ask(&play, ROLLOUT_PROMOTE), 0);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        change_content(&play, 2);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_label(&play, "content 2");
}

/* They were assigned before their keys were written, and start with what there is. */
static void the_first_content_restarts_nothing(void **state) {
        _cleanup_rollout_set_ RolloutSet set = {}, failed = {};
        _cleanup_(end) Play play;

        begin_template(&play, 2, RESTARTS);
        for (size_t i = 0; i < play.n; i++)
                put_state(&play, i, "inactive", false);
        change_content(&play, 1);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        assert_int_equal(set.n_of[INSTANCE_UPDATING], 2);
        assert_int_equal(rollout_set_content(&set), 1);
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
        for (size_t i = 0; i < play.n; i++) {
                play.instances[i].inputs = 1;
                put_state(&play, i, i > 0 ? "active" : "failed", i > 0);
        }
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &failed), 0);
        assert_int_equal(failed.instances[0].state, INSTANCE_FAILED);
        change_content(&play, 2); /* also of one that has failed with the first one */
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_true(!rollout_record_outcome(record_of(&play), head_of(&play)->unit->hash) ||
                    rollout_record_outcome(record_of(&play), head_of(&play)->unit->hash)->result ==
                            ROLLOUT_COMPLETED); /* the text has not failed */
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(count_content(&play, 2), 2);
        assert_int_equal(starts(&play), 2);
}

static void a_global_unit_restarts_machine_after_machine(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 4, RESTARTS);
        put_content(&play, play.head, 1);
        for (size_t i = 0; i < play.n; i++) {
                play.instances[i].inputs = 1;
                put_state(&play, i, "active", true);
        }
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
        play.contents[2] = FAILS;
        put_content(&play, play.head, 2);
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_PAUSED, 1);
        assert_int_equal(starts(&play), 1);
        put_content(&play, play.head, 3);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 1 + 4);
        assert_int_equal(play.max_unavailable, 1);
}

static void an_instance_on_a_lost_host_gets_the_content_after_its_return(void **state) {
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        cluster_view_presence(&play.p, "C", PRESENCE_LOST);
        change_content(&play, 2);
        seconds(&play, 60);
        assert_int_equal(count_content(&play, 2), 0); /* it uses the budget */
        cluster_view_presence(&play.p, "C", PRESENCE_UP);
        seconds(&play, 40);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_int_equal(starts(&play), 6);
}

/* The first step begins the rollout, and judges the instances as the next one does. */
static void a_host_that_was_lost_with_a_former_content_is_skipped_from_the_first_step_on(void **state) {
        _cleanup_rollout_set_ RolloutSet before = {}, set = {};
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS "UpdateMaxFailures=1");
        change_content(&play, 2);
        second(&play);
        cluster_view_presence(&play.p, "A", PRESENCE_LOST);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &before), 0);
        assert_int_equal(before.instances[0].state, INSTANCE_FAILED);
        put_content(&play, "web@5.service", 3); /* the number of web@1.service is that of before */
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        assert_int_equal(set.instances[0].state, INSTANCE_UNREACHABLE);
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_label(&play, "content 3");
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
}

/* A job that has finished, and an instance that is loaded only, get the number at once, and do not run. */
static void what_does_not_run_gets_the_content_and_is_not_started(void **state) {
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE], value[256];
        const ClusterAssignment *a;
        _cleanup_rollout_step_ RolloutStep next = {};
        _cleanup_rollout_set_ RolloutSet set = {};
        const RolloutConditions conditions = {};
        _cleanup_(end) Play play;

        begin_template(&play, 2, RESTARTS "[Service]\nType=oneshot\n");
        cluster_view_put(&play.p, layout_key(key, LAYOUT_FACTS, NULL, cluster_view_id(id, "A")),
                         "{\"name\":\"A\",\"takesFinished\":true}");
        change_content(&play, 1);
        a = assignment_of(&play, 0);
        snprintf(value, sizeof(value),
                 "{\"active\":\"inactive\",\"done\":true,\"hash\":\"%s\",\"inputs\":1,\"load\":\"loaded\","
                 "\"sub\":"
                 "\"dead\"}",
                 a->hash);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_STATE, a->unit, a->machine->id), value);
        a = assignment_of(&play, 1);
        snprintf(value, sizeof(value),
                 "{\"hash\":\"%s\",\"inputs\":1,\"order\":\"load\",\"rev\":1,\"since\":1}", a->hash);
        cluster_view_put(&play.p, layout_key(key, LAYOUT_ASSIGNMENT, a->unit, a->machine->id), value);
        put_state(&play, 1, "inactive", false);
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
        change_content(&play, 2);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        assert_int_equal(set.n_of[INSTANCE_IDLE], 2);
        assert_int_equal(rollout_step(&play.p.cluster, head_of(&play), &conditions, &next), 0);
        assert_int_equal(next.change, ROLLOUT_WRITE);
        assert_false(next.has_record);
        assert_int_equal(next.n_updates, 2);
        for (size_t i = 0; i < 2; i++)
                assert_false(rollout_starts_again(head_of(&play)->unit, &next.updates[i]));
}

/* A step of another content starts what does not run; a process is restarted by its number. */
static void a_content_starts_what_has_failed(void **state) {
        _cleanup_rollout_set_ RolloutSet set = {};
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        play.contents[2] = FAILS;
        change_content(&play, 2);
        seconds(&play, 5);
        put_state(&play, 0, "inactive", false);
        change_content(&play, 3);
        assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
        assert_int_equal(set.instances[0].state, INSTANCE_BAD);
        assert_true(rollout_starts_again(head_of(&play)->unit, &set.instances[0]));
        assert_int_equal(set.instances[1].state, INSTANCE_OLD);
        assert_false(rollout_starts_again(head_of(&play)->unit, &set.instances[1]));
}

static void a_set_is_due_for_its_content(void **state) {
        _cleanup_rollout_ RolloutRecord record = {};
        const ClusterUnit *u;
        _cleanup_(end) Play play;

        begin_contents(&play, RESTARTS);
        u = cluster_unit(&play.p.cluster, "web@1.service");
        assert_false(rollout_is_due(u, head_of(&play)));
        put_content(&play, u->name, 2);
        assert_true(rollout_is_due(u, head_of(&play)));
        assert_false(rollout_is_due(cluster_unit(&play.p.cluster, "web@2.service"), head_of(&play)));
        seconds(&play, 20);
        assert_rollout(&play, ROLLOUT_DONE, 1);
        assert_false(rollout_is_due(u, head_of(&play)));
        /* A new instance has the next number already. */
        put_content(&play, u->name, 3);
        put_assignment(&play, "A", u->name, 1, 1);
        play.instances[0].inputs = 3;
        put_state(&play, 0, "active", true);
        assert_true(rollout_is_due(u, head_of(&play)));
        assert_int_equal(step(&play), ROLLOUT_WRITE);
        assert_int_equal(record_of(&play)->to.inputs, 3);
        assert_int_equal(step(&play), ROLLOUT_NOTHING);
        assert_int_equal(record_of(&play)->completed.inputs, 3);
        /* It is not completed: the instance was away when the rollout ended. */
        assert_int_equal(json_record_copy(&rollout_record, record_of(&play), &record), 0);
        record.completed.inputs = 2;
        write_record(&play, &record);
        assert_true(rollout_is_due(u, head_of(&play)));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_content_restarts_one_instance_after_the_other),
                cmocka_unit_test(only_instances_whose_content_has_changed_restart),
                cmocka_unit_test(without_restarts_a_content_changes_nothing),
                cmocka_unit_test(a_bad_content_takes_one_and_the_next_one_continues),
                cmocka_unit_test(after_resume_a_failed_content_is_tried_again),
                cmocka_unit_test(a_rollout_that_a_user_has_paused_stays_paused_with_another_content),
                cmocka_unit_test(a_text_that_has_failed_stays_paused_with_another_content),
                cmocka_unit_test(a_rollout_that_is_paused_while_it_is_held_updates_its_canaries_again),
                cmocka_unit_test(a_content_that_a_host_cannot_provide_pauses_the_rollout),
                cmocka_unit_test(a_text_that_waits_for_an_input_continues_when_it_is_there),
                cmocka_unit_test(a_text_that_runs_with_the_former_content_has_a_deadline),
                cmocka_unit_test(a_content_supersedes_one_that_is_rolling),
                cmocka_unit_test(an_instance_whose_host_cannot_write_its_content_has_the_reason),
                cmocka_unit_test(what_fails_or_is_skipped_with_the_former_content_is_being_updated),
                cmocka_unit_test(a_text_and_a_content_are_one_step),
                cmocka_unit_test(a_text_that_fails_is_reverted_with_the_present_content),
                cmocka_unit_test(after_a_revert_a_content_is_an_update),
                cmocka_unit_test(what_was_requested_with_a_text_is_not_for_a_content),
                cmocka_unit_test(the_first_content_restarts_nothing),
                cmocka_unit_test(a_global_unit_restarts_machine_after_machine),
                cmocka_unit_test(an_instance_on_a_lost_host_gets_the_content_after_its_return),
                cmocka_unit_test(
                        a_host_that_was_lost_with_a_former_content_is_skipped_from_the_first_step_on),
                cmocka_unit_test(what_does_not_run_gets_the_content_and_is_not_started),
                cmocka_unit_test(a_content_starts_what_has_failed),
                cmocka_unit_test(a_set_is_due_for_its_content),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
