/* The budget of a set: which instances it counts, and which operations ask it. */
#include "tests/lib/test.h"
#include "tests/lib/drains.h"
#include "tests/lib/rollout_play.h"
#include "tests/lib/words_of.h"

static const EnginePlanLimits names = { .names_texts = true };

static void put_order(Play *play, const char *unit, const char *machine, const char *order, unsigned revision,
                      const char *hash) {
        char key[LAYOUT_KEY_MAX], value[256];

        snprintf(value, sizeof(value),
                 "{\"hash\":\"%s\",\"hold\":30000,\"order\":\"%s\",\"rev\":%u,\"since\":1}", hash, order,
                 revision);
        cluster_view_put(&play->p, layout_key(key, LAYOUT_ASSIGNMENT, unit, machine_id(machine)), value);
}

static void load_only(Play *play, size_t i) {
        char key[LAYOUT_KEY_MAX], hash[UNIT_HASH_SIZE];
        const char *unit = play->instances[i].unit, *machine = play->instances[i].machine;

        snprintf(hash, sizeof(hash), "%s", assignment_of(play, i)->hash);
        cluster_view_target(&play->p, unit, TARGET_LOADED);
        put_order(play, unit, machine, "load", 1, hash);
        layout_key(key, LAYOUT_STATE, unit, machine_id(machine));
        cluster_view_remove(&play->p, key);
}

/* Six instances of revision 2, of which the first three are loaded only. */
static void begin_loaded(Play *play, const char *options) {
        begin_template(play, 6, options);
        for (size_t i = 0; i < 3; i++)
                load_only(play, i);
        want(play, 2);
}

/* Write steps while no machine acts. Return how many instances to run are updated. */
static size_t count_taken(Play *play) {
        const RolloutConditions conditions = {};
        size_t n = 0;

        for (unsigned k = 0; k < 4; k++) {
                _cleanup_rollout_step_ RolloutStep next = {};
                const ClusterUnit *head = head_of(play);
                char hash[UNIT_HASH_SIZE];

                snprintf(hash, sizeof(hash), "%s", head->unit->hash);
                assert_int_equal(rollout_step(&play->p.cluster, head, &conditions, &next), 0);
                for (size_t i = 0; i < next.n_updates; i++) {
                        const ClusterAssignment *a = next.updates[i].assignment;
                        char unit[UNIT_NAME_MAX + 1];

                        snprintf(unit, sizeof(unit), "%s", a->unit);
                        n += a->kind == ASSIGNMENT_RUN;
                        put_order(play, unit, machine_of(play, a->machine->id),
                                  assignment_kind_to_string(a->kind), 2, hash);
                        put_unit(play, unit, 2, play->head, REVISION_SUBMITTED);
                }
                if (next.has_record)
                        write_record(play, &next.next);
        }
        return n;
}

static void loaded_units_use_no_budget_and_are_no_canaries(void **state) {
        Play play;

        begin_loaded(&play, "MaxUnavailable=50%");
        assert_int_equal(count_taken(&play), 1);
        end(&play);

        begin_loaded(&play, "MinAvailable=3");
        assert_int_equal(count_taken(&play), 0);
        end(&play);

        /* In one step with them, an available instance is a canary, and an unavailable one is updated. */
        for (unsigned failed = 0; failed < 2; failed++) {
                begin_loaded(&play, "Canary=2");
                put_state(&play, 3, failed ? "failed" : "active", !failed);
                assert_int_equal(step(&play), ROLLOUT_WRITE);
                assert_rollout(&play, ROLLOUT_CANARY, 2);
                assert_int_equal(count_with(&play, 2), 4);
                end(&play);
        }

        /* A text that is loaded only has not run. */
        begin_loaded(&play, "");
        for (size_t i = 3; i < 6; i++)
                cluster_view_presence(&play.p, play.instances[i].machine, PRESENCE_AWAY);
        assert_int_equal(count_taken(&play), 0);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->completed.number, 1);
        for (size_t i = 3; i < 6; i++)
                cluster_view_presence(&play.p, play.instances[i].machine, PRESENCE_UP);
        assert_int_equal(count_taken(&play), 1);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        end(&play);
}

/* A drain waits for ever; a host that shuts down does not. */
static void an_unsatisfiable_budget_is_reported(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_free_ char *shutdown = NULL;
        size_t n = 0;
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Move=stop-first\nMinAvailable=3");
        cluster_view_machine(&play.p, "E", "", PRESENCE_UP);
        maintain(&play.p, "C", "draining", "");
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.n, 0);
        for (size_t i = 0; i < plan.n_waits; i++)
                n += !!strstr(words_of(plan.waits[i].why),
                              "0 of 3 instances of web@.service are unavailable "
                              "(MaxUnavailable=1, MinAvailable=3): none can be stopped first");
        assert_int_equal(n, 1);
        maintain(&play.p, "C", "draining", "\"for\":\"shutdown\",");
        shutdown = cluster_view_plan(&play.p, true);
        assert_string_equal(shutdown, "stop web@3.service C");
}

/* A drain stops an instance, and is cancelled at once: the published state is still that of before. It is
 * not started before its machine has published that it stops, and no other instance is stopped meanwhile. */
static void a_stop_that_is_cancelled_at_once_takes_its_budget(void **state) {
        static const struct {
                const char *active; /* NULL: it has ended */
                uint64_t after_ms;
                const char *plan;
        } rows[] = {
                { NULL, 0, "run web@1.service A" },
                { "deactivating", 0, "run web@1.service A" },
                { "active", 4999, "" },
                { "active", 5000, "run web@1.service A" }, /* it is not stopped there */
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(end) Play play;

                begin_template(&play, 3, "Move=stop-first");
                maintain(&play.p, "A", "draining", "");
                plans(&play.p, "stop web@1.service A");
                maintain(&play.p, "A", NULL, "");
                maintain(&play.p, "B", "draining", "");
                plans(&play.p, "");
                if (!rows[i].active)
                        has_ended(&play.p, "A", "web@1.service");
                else
                        cluster_view_state(&play.p, "A", "web@1.service", rows[i].active);
                play.p.cluster.now_ms += rows[i].after_ms;
                plans(&play.p, rows[i].plan);
        }
}

/* Each state of a rollout with each state of an instance that waits or is not available yet. */
static void each_wait_of_a_rollout_has_a_reason(void **state) {
        static const RolloutInstanceState waits[] = { INSTANCE_OLD,         INSTANCE_BAD,
                                                      INSTANCE_UNREACHABLE, INSTANCE_SURGING,
                                                      INSTANCE_UPDATING,    INSTANCE_FAILED };
        static const char *const options[] = { "", "MinAvailable=3", "Canary=1", "UpdateBy=zone" };
        static const char *const actives[] = { "active", "activating", "inactive", "failed" };

        for (size_t o = 0; o < ELEMENTS(options); o++) {
                _cleanup_(end) Play play;

                begin_template(&play, 3, options[o]);
                want(&play, 2);
                for (int s = 0; s < _ROLLOUT_STATE_MAX * 2; s++)
                        for (size_t a = 0; a < ELEMENTS(actives); a++) {
                                RolloutSet set = {};
                                RolloutRecord record = { .state = (RolloutState) (s / 2),
                                                         .before = ROLLOUT_ROLLING,
                                                         .to.number = 2 };

                                snprintf(record.to.hash, UNIT_HASH_SIZE, "%s", head_of(&play)->unit->hash);
                                write_record(&play, &record);
                                put_state(&play, 0, actives[a], false);
                                assert_int_equal(rollout_set_read(&play.p.cluster, head_of(&play), &set), 0);
                                for (size_t i = 0; i < set.n; i++)
                                        for (size_t w = 0; w < ELEMENTS(waits); w++) {
                                                Error why = {};

                                                set.instances[i].state = waits[w];
                                                set.instances[i].why = "exit status 1";
                                                rollout_explain(&play.p.cluster, &set, &set.instances[i],
                                                                s % 2, &why);
                                                if (!why.message[0])
                                                        fail_msg("%s, record %d, %s, %s: no reason",
                                                                 options[o], s / 2, actives[a],
                                                                 rollout_instance_word(&set.instances[i]));
                                        }
                                rollout_set_done(&set);
                        }
        }
}

/* web@1 to web@4, each with Singleton=yes, on a machine that is drained. */
static size_t count_stopped_singletons(const char *options, const char *maintenance) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        char hash[UNIT_HASH_SIZE];
        size_t n = 0;
        Play play;

        begin(&play, "web@.service", options);
        for (unsigned i = 1; i <= 4; i++) {
                char unit[32];

                snprintf(unit, sizeof(unit), "web@%u.service", i);
                put_unit(&play, unit, 1, play.head, REVISION_SUBMITTED);
                cluster_view_target(&play.p, unit, TARGET_LAUNCHED);
                add(&play, unit, "A");
                snprintf(hash, sizeof(hash), "%s", assignment_of(&play, i - 1)->hash);
                put_order(&play, unit, "A", "run", 1, hash);
                put_state(&play, i - 1, "active", true);
        }
        cluster_view_machine(&play.p, "B", "", PRESENCE_UP);
        maintain(&play.p, "A", "draining", maintenance);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        for (size_t i = 0; i < plan.n; i++)
                n += plan.changes[i].kind == ASSIGNMENT_STOP;
        end(&play);
        return n;
}

static void singletons_of_a_set_share_its_budget(void **state) {
        assert_int_equal(count_stopped_singletons("Singleton=yes", ""), 1);
        assert_int_equal(count_stopped_singletons("Singleton=yes\nMaxUnavailable=2", ""), 2);
}

static void a_shutdown_stops_first_without_budget(void **state) {
        assert_int_equal(count_stopped_singletons("Singleton=yes", "\"for\":\"shutdown\","), 4);
}

/* One of four is on a machine that shuts down: no other one is updated. */
static void instances_on_a_machine_that_shuts_down_are_not_available(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "");
        maintain(&play.p, "D", "draining", "\"for\":\"shutdown\",");
        want(&play, 2);
        assert_int_equal(count_taken(&play), 0);
}

/* web@1 has revision 2, and moves while the rollout is held. */
static void a_unit_that_stops_first_moves_with_its_text(void **state) {
        _cleanup_(engine_plan_done) EnginePlan stop = {}, start = {};
        char key[LAYOUT_KEY_MAX];
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Canary=1\nMove=stop-first");
        cluster_view_machine(&play.p, "F", "", PRESENCE_UP);
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        maintain(&play.p, "A", "draining", "");
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &stop), 0);
        assert_int_equal(stop.n, 1);
        assert_int_equal(stop.changes[0].revision, 2);
        cluster_view_apply(&play.p, &stop);
        layout_key(key, LAYOUT_STATE, "web@1.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        layout_key(key, LAYOUT_ASSIGNMENT, "web@1.service", machine_id("A"));
        cluster_view_remove(&play.p, key);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &start), 0);
        assert_int_equal(start.n, 1);
        assert_int_equal(start.changes[0].revision, 2);
}

/* A new instance still gets the completed text. */
static void an_instance_that_is_new_while_a_rollout_is_held_gets_the_former_text(void **state) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_(end) Play play;

        begin_template(&play, 3, "Canary=1");
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_HELD, 2);
        put_unit(&play, "web@9.service", 2, play.head, REVISION_SUBMITTED);
        cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        assert_int_equal(plan.n, 1);
        assert_int_equal(plan.changes[0].revision, 1);
}

/* The wanted text is no singleton; the one of a new instance, which is completed, is one. */
static void a_new_instance_with_the_completed_text_has_its_guard(void **state) {
        static const char *const options[] = { "Singleton=yes\nCanary=1", "Canary=1" };

        for (size_t i = 0; i < ELEMENTS(options); i++) {
                _cleanup_(engine_plan_done) EnginePlan plan = {};
                char hash[UNIT_HASH_SIZE];
                _cleanup_(end) Play play;

                begin_template(&play, 2, options[i]);
                for (size_t k = 0; k < 2; k++) {
                        snprintf(hash, sizeof(hash), "%s", assignment_of(&play, k)->hash);
                        if (i == 0)
                                put_order(&play, play.instances[k].unit, play.instances[k].machine, "run", 1,
                                          hash);
                        put_state(&play, k, "active", true);
                        play.instances[k].index = assignment_of(&play, k)->index;
                }
                play.options = options[1 - i];
                want(&play, 2);
                second(&play);
                assert_rollout(&play, ROLLOUT_CANARY, 2);
                put_unit(&play, "web@9.service", 2, play.head, REVISION_SUBMITTED);
                cluster_view_target(&play.p, "web@9.service", TARGET_LAUNCHED);
                assert_int_equal(engine_plan(&play.p.cluster, (const char *const[]) { "web@9.service" }, 1,
                                             30000, &names, &plan),
                                 0);
                assert_int_equal(plan.n, 1);
                assert_int_equal(plan.changes[0].revision, 1);
                assert_int_equal(plan.changes[0].hold_ms, i == 0 ? 30000 : 0);
        }
}

/* The guard of a text that all instances have is that of an assignment with it. */
static void a_completed_text_has_the_guard_of_its_assignments(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 1, "");
        play.options = "Singleton=yes\n[Service]\nTimeoutStopSec=5";
        want(&play, 2);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->hold_ms, 21400);
}

/* Units of a drained machine that stop first, of a set of this size. */
static size_t work_of_a_drain(size_t size) {
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        char unit[32];
        size_t work;
        Play play;

        begin(&play, "web@.service", "Move=stop-first");
        cluster_view_machine(&play.p, "A", "", PRESENCE_UP);
        cluster_view_machine(&play.p, "B", "", PRESENCE_UP);
        for (size_t i = 0; i < size; i++) {
                char key[LAYOUT_KEY_MAX], value[256];
                const char *machine = i < 50 ? "A" : "B";

                snprintf(unit, sizeof(unit), "web@%zu.service", i);
                put_unit(&play, unit, 1, play.head, REVISION_SUBMITTED);
                cluster_view_target(&play.p, unit, TARGET_LAUNCHED);
                put_assignment(&play, machine, unit, 1, 1);
                snprintf(value, sizeof(value),
                         "{\"active\":\"active\",\"available\":true,\"hash\":\"%s\",\"health\":\"passing\","
                         "\"load\":\"loaded\",\"sub\":\"running\"}",
                         head_of(&play)->unit->hash);
                cluster_view_put(&play.p, layout_key(key, LAYOUT_STATE, unit, machine_id(machine)), value);
        }
        maintain(&play.p, "A", "draining", "");
        assert_int_equal(engine_plan(&play.p.cluster, NULL, 0, 30000, &names, &plan), 0);
        assert_int_equal(plan.n, 1);
        work = plan.work;
        end(&play);
        return work;
}

/* Once for a plan: the work grows with the set, not with the set for each of its units that waits. */
static void the_budget_of_a_set_is_read_once(void **state) {
        size_t small = work_of_a_drain(100), large = work_of_a_drain(400);

        assert_true(large >= small + 300); /* it is counted */
        assert_true(large <= small + 10 * 300);
}

/* The planned reboot of a machine; NULL: it has none. */
static void reboots(Play *play, const char *machine, const char *state, Presence presence) {
        char key[LAYOUT_KEY_MAX], value[128];

        layout_key(key, LAYOUT_REBOOT, NULL, machine_id(machine));
        snprintf(value, sizeof(value), "{\"kind\":\"reboot\",\"since\":1,\"state\":\"%s\",\"until\":9000000}",
                 state ?: "");
        if (state)
                cluster_view_put(&play->p, key, value);
        else
                cluster_view_remove(&play->p, key);
        cluster_view_presence(&play->p, machine, presence);
}

/* One of four machines goes down for its reboot, or has not finished its return. One that is drained still
 * runs its instance, and one that is down for another reason is none of the set of a global unit. */
static void instances_on_a_machine_that_reboots_are_not_available(void **state) {
        static const struct {
                const char *reboot;
                Presence presence;
                size_t n, taken; /* of a global unit */
        } rows[] = {
                { "queued", PRESENCE_UP, 4, 1 },    { "draining", PRESENCE_UP, 4, 1 },
                { "rebooting", PRESENCE_UP, 4, 0 }, { "rebooting", PRESENCE_LEFT, 4, 0 },
                { "down", PRESENCE_LEFT, 4, 0 },    { "down", PRESENCE_LOST, 4, 0 },
                { "back", PRESENCE_UP, 4, 0 },      { "failed", PRESENCE_LEFT, 3, 1 },
                { NULL, PRESENCE_LEFT, 3, 1 },
        };

        for (size_t i = 0; i < 2 * ELEMENTS(rows); i++) {
                bool global = i % 2 == 0, up = rows[i / 2].presence == PRESENCE_UP;
                RolloutBudget budget;
                _cleanup_(end) Play play;

                if (global)
                        begin_global(&play, 4, "");
                else
                        begin_template(&play, 4, "");
                reboots(&play, "D", rows[i / 2].reboot, rows[i / 2].presence);
                assert_int_equal(rollout_read_budget(&play.p.cluster, head_of(&play), &budget), 0);
                assert_int_equal(budget.n, global ? rows[i / 2].n : 4);
                assert_int_equal(budget.available, up && rows[i / 2].taken > 0 ? 4 : 3);
                want(&play, 2);
                if (global || up)
                        second(&play);
                if (global || up)
                        assert_int_equal(count_with(&play, 2), rows[i / 2].taken);
        }
}

/* A has the new text when it goes down: it is updated already, and the others wait for its return. */
static void a_planned_reboot_is_no_failure_of_the_text(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 4, "UpdateOnFailure=revert");
        want(&play, 2);
        second(&play);
        assert_int_equal(assignment_of(&play, 0)->revision, 2);
        seconds(&play, 2);
        reboots(&play, "A", "down", PRESENCE_LEFT);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        assert_true(count_with(&play, 2) <= 2);
        reboots(&play, "A", NULL, PRESENCE_UP);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(record_of(&play)->n_failed, 0);
        assert_int_equal(count_with(&play, 2), 4);
}

static void begin_set(Play *play, bool global, unsigned n, const char *options) {
        if (global)
                begin_global(play, n, options);
        else
                begin_template(play, n, options);
}

/* The instance is stopped, and has no assignment and no state any more. */
static void leave_set(Play *play, size_t i) {
        const char *unit = play->instances[i].unit, *id = machine_id(play->instances[i].machine);
        char key[LAYOUT_KEY_MAX];

        cluster_view_target(&play->p, unit, TARGET_INACTIVE);
        cluster_view_remove(&play->p, layout_key(key, LAYOUT_STATE, unit, id));
        cluster_view_remove(&play->p, layout_key(key, LAYOUT_ASSIGNMENT, unit, id));
}

/* The only unavailable instance is on a machine that is not up, for longer than UpdateDeadlineSec=. */
static void the_deadline_does_not_run_while_machines_that_are_not_up_hold_the_budget(void **state) {
        static const struct {
                bool global;
                const char *reboot;
                Presence presence;
        } rows[] = {
                { true, "down", PRESENCE_LEFT },
                { true, "down", PRESENCE_LOST },
                { false, "down", PRESENCE_LEFT },
                { false, NULL, PRESENCE_AWAY },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *options = "UpdateOnFailure=revert\nUpdateDeadlineSec=60";
                _cleanup_(end) Play play;

                begin_set(&play, rows[i].global, 4, options);
                reboots(&play, "D", rows[i].reboot, rows[i].presence);
                want(&play, 2);
                seconds(&play, 200);
                assert_rollout(&play, ROLLOUT_ROLLING, 2);
                assert_int_equal(count_with(&play, 2), 0);
                reboots(&play, "D", NULL, PRESENCE_UP);
                put_state(&play, 3, "active", true);
                seconds(&play, 60);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                assert_int_equal(count_with(&play, 2), 4);
        }
}

/* A was available with the text before its machine went away, or down for its reboot. */
static void an_updated_instance_whose_machine_is_away_holds_the_budget_and_not_the_deadline(void **state) {
        static const struct {
                bool global;
                const char *reboot;
                Presence presence;
        } rows[] = {
                { false, NULL, PRESENCE_AWAY },
                { false, "rebooting", PRESENCE_AWAY },
                { true, "rebooting", PRESENCE_AWAY },
                { false, "down", PRESENCE_LEFT },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                const char *options = "UpdateOnFailure=revert\nUpdateDeadlineSec=60";
                _cleanup_(end) Play play;

                begin_set(&play, rows[i].global, 4, options);
                want(&play, 2);
                while (!record_of(&play) || record_of(&play)->available == 0)
                        second(&play);
                reboots(&play, "A", rows[i].reboot, rows[i].presence);
                seconds(&play, 200);
                assert_rollout(&play, ROLLOUT_ROLLING, 2);
                assert_in_range(count_with(&play, 2), 1, 2);
                reboots(&play, "A", NULL, PRESENCE_UP);
                seconds(&play, 60);
                assert_rollout(&play, ROLLOUT_DONE, 2);
                assert_int_equal(count_with(&play, 2), 4);
        }
}

/* Without a spare machine, MaxSurge= updates within the budget. */
static void the_deadline_of_a_surge_does_not_run_either(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4,
                       "MaxSurge=1\nConflicts=web@*.service\nUpdateOnFailure=revert\nUpdateDeadlineSec=60");
        cluster_view_presence(&play.p, "D", PRESENCE_AWAY);
        want(&play, 2);
        seconds(&play, 200);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        assert_int_equal(count_with(&play, 2), 0);
        cluster_view_presence(&play.p, "D", PRESENCE_UP);
        put_state(&play, 3, "active", true);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_DONE, 2);
}

/* It is shown as paused. */
static void a_revert_that_makes_no_progress_is_paused(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "UpdateOnFailure=revert\nUpdateDeadlineSec=60");
        want(&play, 2);
        while (count_with(&play, 2) < 3)
                second(&play);
        play.quality[2] = FAILS;
        cluster_view_presence(&play.p, "A", PRESENCE_AWAY);
        put_state(&play, 2, "failed", false);
        seconds(&play, 10);
        assert_rollout(&play, ROLLOUT_REVERTING, 1);
        seconds(&play, 200);
        assert_rollout(&play, ROLLOUT_PAUSED, 1);
}

/* With budget, or a step that does not end, it runs. */
static void the_deadline_runs_while_a_step_does_not_end(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 4, "MaxUnavailable=2\nUpdateDeadlineSec=60");
        reboots(&play, "D", "down", PRESENCE_LEFT);
        play.quality[2] = SLOW;
        want(&play, 2);
        seconds(&play, 100);
        assert_rollout(&play, ROLLOUT_PAUSED, 2);
        assert_int_equal(count_with(&play, 2), 1);
}

/* A was updated before it is shut down, or lost. */
static void a_machine_that_is_shut_down_after_its_update_is_no_failure(void **state) {
        static const Presence rows[] = { PRESENCE_LEFT, PRESENCE_LOST };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(end) Play play;

                begin_global(&play, 4, "");
                want(&play, 2);
                while (count_with(&play, 2) < 2)
                        second(&play);
                cluster_view_presence(&play.p, "A", rows[i]);
                seconds(&play, 60);
                if (rows[i] == PRESENCE_LOST) { /* the text may have ended it */
                        assert_rollout(&play, ROLLOUT_PAUSED, 2);
                        assert_string_equal(record_of(&play)->why,
                                            "agent.service on A: its machine was lost after its update");
                } else {
                        assert_rollout(&play, ROLLOUT_DONE, 2);
                        assert_int_equal(count_with(&play, 2), 4);
                        assert_null(strstr(play.reasons, "behind"));
                }
        }
}

/* The agent reports the new start of its unit before the leader has written that the machine is up. */
static void a_machine_that_is_back_from_a_shutdown_is_no_failure_before_it_is_up(void **state) {
        _cleanup_(end) Play play;

        begin_global(&play, 4, "UpdateOnFailure=revert");
        want(&play, 2);
        while (count_with(&play, 2) < 2)
                second(&play);
        cluster_view_presence(&play.p, "A", PRESENCE_LEFT);
        seconds(&play, 5);
        put_state(&play, 0, "active", false);
        seconds(&play, 2);
        assert_rollout(&play, ROLLOUT_ROLLING, 2);
        cluster_view_presence(&play.p, "A", PRESENCE_UP);
        seconds(&play, 5);
        put_state(&play, 0, "active", true);
        seconds(&play, 60);
        assert_rollout(&play, ROLLOUT_DONE, 2);
        assert_int_equal(count_with(&play, 2), 4);
}

static void a_rollout_is_not_promoted_while_the_machines_of_all_canaries_are_down(void **state) {
        for (unsigned global = 0; global < 2; global++) {
                const char *options = "Canary=1\nPromote=20s\nMaxUnavailable=4";
                _cleanup_(end) Play play;

                begin_set(&play, global, 4, options);
                want(&play, 2);
                while (record_of(&play) == NULL || record_of(&play)->state != ROLLOUT_HELD)
                        second(&play);
                reboots(&play, "A", "down", PRESENCE_LEFT);
                seconds(&play, 60);
                assert_rollout(&play, ROLLOUT_HELD, 2);
                assert_int_equal(count_with(&play, 2), 1);
                reboots(&play, "A", NULL, PRESENCE_UP);
                seconds(&play, 30);
                assert_rollout(&play, ROLLOUT_DONE, 2);
        }
}

/* Four of the updated instances are stopped; the others become available one by one, each within the
 * deadline. */
static void a_set_that_gets_smaller_makes_progress(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 8, "UpdateDeadlineSec=60");
        want(&play, 2);
        while (count_with(&play, 2) < 5)
                second(&play);
        play.quality[2] = SLOW;
        put_state(&play, 4, "active", true);
        second(&play);
        assert_int_equal(count_with(&play, 2), 6);
        for (size_t i = 0; i < 4; i++)
                leave_set(&play, i);
        for (size_t i = 5; i < 8; i++) {
                seconds(&play, 50);
                assert_rollout(&play, ROLLOUT_ROLLING, 2);
                put_state(&play, i, "active", true);
                seconds(&play, 2);
        }
        assert_rollout(&play, ROLLOUT_DONE, 2);
}

/* web@6 is stopped and started again: the others become available one by one, each within the deadline. */
static void a_set_that_grows_again_makes_progress(void **state) {
        _cleanup_(end) Play play;

        begin_template(&play, 6, "UpdateOnFailure=revert\nUpdateDeadlineSec=60");
        want(&play, 2);
        second(&play);
        play.quality[2] = SLOW;
        for (size_t i = 0; i < 6; i++) {
                put_state(&play, i, "active", true);
                seconds(&play, 2);
                if (i == 0) {
                        leave_set(&play, 5);
                        second(&play);
                        assert_int_equal(record_of(&play)->left, 1);
                        cluster_view_target(&play.p, "web@6.service", TARGET_LAUNCHED);
                        put_assignment(&play, "F", "web@6.service", 1, play.p.cluster.now_ms);
                        play.instances[5].index = assignment_of(&play, 5)->index;
                        put_state(&play, 5, "active", true);
                        second(&play);
                        assert_int_equal(record_of(&play)->left, 0);
                }
                if (i < 5)
                        assert_rollout(&play, ROLLOUT_ROLLING, 2);
                seconds(&play, 45);
        }
        assert_rollout(&play, ROLLOUT_DONE, 2);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(loaded_units_use_no_budget_and_are_no_canaries),
                cmocka_unit_test(an_unsatisfiable_budget_is_reported),
                cmocka_unit_test(a_stop_that_is_cancelled_at_once_takes_its_budget),
                cmocka_unit_test(each_wait_of_a_rollout_has_a_reason),
                cmocka_unit_test(singletons_of_a_set_share_its_budget),
                cmocka_unit_test(a_shutdown_stops_first_without_budget),
                cmocka_unit_test(instances_on_a_machine_that_shuts_down_are_not_available),
                cmocka_unit_test(instances_on_a_machine_that_reboots_are_not_available),
                cmocka_unit_test(a_planned_reboot_is_no_failure_of_the_text),
                cmocka_unit_test(the_deadline_does_not_run_while_machines_that_are_not_up_hold_the_budget),
                cmocka_unit_test(
                        an_updated_instance_whose_machine_is_away_holds_the_budget_and_not_the_deadline),
                cmocka_unit_test(the_deadline_of_a_surge_does_not_run_either),
                cmocka_unit_test(a_revert_that_makes_no_progress_is_paused),
                cmocka_unit_test(a_set_that_grows_again_makes_progress),
                cmocka_unit_test(the_deadline_runs_while_a_step_does_not_end),
                cmocka_unit_test(a_machine_that_is_shut_down_after_its_update_is_no_failure),
                cmocka_unit_test(a_machine_that_is_back_from_a_shutdown_is_no_failure_before_it_is_up),
                cmocka_unit_test(a_rollout_is_not_promoted_while_the_machines_of_all_canaries_are_down),
                cmocka_unit_test(a_set_that_gets_smaller_makes_progress),
                cmocka_unit_test(a_unit_that_stops_first_moves_with_its_text),
                cmocka_unit_test(an_instance_that_is_new_while_a_rollout_is_held_gets_the_former_text),
                cmocka_unit_test(a_new_instance_with_the_completed_text_has_its_guard),
                cmocka_unit_test(a_completed_text_has_the_guard_of_its_assignments),
                cmocka_unit_test(the_budget_of_a_set_is_read_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
