/* Health and availability of a unit: a table of histories, and random ones against a slow model. */
#include <signal.h>

#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/features/health/health.h"

static const HealthOptions without_checks = { .watch_ms = 10000 },
                           one_check = { .n_checks = 1, .failures = 3, .successes = 1, .watch_ms = 10000 };

typedef struct Play {
        HealthState state;
        HealthOptions options;
        SystemdUnit seen;
        uint64_t now_ms;
} Play;

static Play play_of(const HealthOptions *options) {
        return (Play) { .options = *options,
                        .now_ms = 1000,
                        .seen = { .load = "loaded", .active = "inactive", .hash = "one" } };
}

static void observe(Play *p) {
        health_observe(&p->state, &p->seen, &p->options, p->now_ms);
}

static void change(Play *p, const char *active, const char *invocation) {
        snprintf(p->seen.active, sizeof(p->seen.active), "%s", active);
        snprintf(p->seen.invocation_id, sizeof(p->seen.invocation_id), "%s", invocation);
        observe(p);
}

static void pass_ms(Play *p, uint64_t ms) {
        p->now_ms += ms;
        observe(p);
}

static void probe(Play *p, bool passed) {
        health_count(&p->state, 0, &(HealthResult) { .passed = passed, .why = "HTTP 503" }, &p->options,
                     p->now_ms);
}

static void assert_health(const Play *p, UnitHealth health, bool available) {
        assert_string_equal(unit_health_to_string(p->state.health), unit_health_to_string(health));
        assert_int_equal(p->state.available, available);
}

static void a_unit_without_checks_is_healthy_while_it_is_active(void **state) {
        static const struct {
                const char *active;
                UnitHealth health;
        } rows[] = {
                { "inactive", UNIT_HEALTH_NONE },      { "activating", UNIT_HEALTH_STARTING },
                { "active", UNIT_HEALTH_PASSING },     { "reloading", UNIT_HEALTH_PASSING },
                { "refreshing", UNIT_HEALTH_PASSING }, { "deactivating", UNIT_HEALTH_NONE },
                { "failed", UNIT_HEALTH_FAILING },     { "maintenance", UNIT_HEALTH_NONE },
        };
        Play p = play_of(&without_checks);

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                change(&p, rows[i].active, "a");
                assert_health(&p, rows[i].health, false);
                assert_string_equal(p.state.why, "");
        }
}

static void a_unit_is_available_after_the_watch_time(void **state) {
        Play p = play_of(&without_checks);

        change(&p, "activating", "a");
        assert_int_equal(p.state.due_ms, 0);
        pass_ms(&p, 60000);
        change(&p, "active", "a");
        assert_int_equal(p.state.due_ms, p.now_ms + 10000);
        pass_ms(&p, 9999);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        change(&p, "reloading", "a"); /* not an interruption */
        pass_ms(&p, 1);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        assert_int_equal(p.state.due_ms, 0);
        change(&p, "deactivating", "a");
        assert_health(&p, UNIT_HEALTH_NONE, false);
}

static void another_process_or_text_is_not_available(void **state) {
        Play p = play_of(&without_checks);

        change(&p, "active", "a");
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        change(&p, "active", "b"); /* its stop was not observed */
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        snprintf(p.seen.hash, sizeof(p.seen.hash), "two"); /* put in force without a restart */
        observe(&p);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
}

/* With a text; one that is stopped, or gets another text, begins again. */
static void an_available_unit_that_is_not_any_more_has_lapsed(void **state) {
        Play p = play_of(&without_checks);

        change(&p, "active", "a");
        pass_ms(&p, 5000);
        change(&p, "activating", "a");
        change(&p, "active", "b");
        assert_false(p.state.lapsed); /* it was not available */
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        assert_false(p.state.lapsed);
        change(&p, "activating", "b");
        assert_true(p.state.lapsed);
        change(&p, "active", "c");
        assert_true(p.state.lapsed);
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        assert_false(p.state.lapsed);
        snprintf(p.seen.hash, sizeof(p.seen.hash), "two");
        change(&p, "activating", "d");
        assert_false(p.state.lapsed);
        change(&p, "active", "d");
        pass_ms(&p, 10000);
        change(&p, "inactive", "d");
        assert_false(p.state.lapsed);
        change(&p, "active", "e");
        assert_false(p.state.lapsed);
}

/* The file of the next text is written before its start: until then, the unit has failed with the former one.
 */
static void a_failure_is_none_of_a_text_that_was_not_started(void **state) {
        Play p = play_of(&without_checks);

        change(&p, "active", "a");
        change(&p, "failed", "a");
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        snprintf(p.seen.hash, sizeof(p.seen.hash), "two");
        pass_ms(&p, 10);
        assert_health(&p, UNIT_HEALTH_NONE, false);
        change(&p, "activating", "b");
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        change(&p, "failed", "b");
        assert_health(&p, UNIT_HEALTH_FAILING, false);
}

static void an_edit_of_x_fleet_alone_changes_no_health(void **state) {
        Play p = play_of(&without_checks);

        p.options.process = "same";
        change(&p, "active", "a");
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        snprintf(p.seen.hash, sizeof(p.seen.hash), "two");
        pass_ms(&p, 10);
        assert_health(&p, UNIT_HEALTH_PASSING, true);

        /* A text that is not known, or changes the service. */
        p.options.process = NULL;
        snprintf(p.seen.hash, sizeof(p.seen.hash), "three");
        pass_ms(&p, 10);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        p.options.process = "same";
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        p.options.process = "other";
        snprintf(p.seen.hash, sizeof(p.seen.hash), "four");
        pass_ms(&p, 10);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
}

static void crash(Play *p, const char *invocation) {
        p->seen.n_restarts++;
        change(p, "activating", invocation);
        change(p, "active", invocation);
}

static void the_reason_of_the_first_restart_is_kept(void **state) {
        Play p = play_of(&without_checks);

        change(&p, "active", "a");
        snprintf(p.seen.sub, sizeof(p.seen.sub), "auto-restart");
        snprintf(p.seen.result, sizeof(p.seen.result), "exit-code");
        p.seen.exec_code = CLD_EXITED;
        p.seen.exec_status = 203;
        change(&p, "activating", "a");
        p.seen.sub[0] = p.seen.result[0] = 0;
        crash(&p, "b");
        crash(&p, "c");
        crash(&p, "d");
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_string_equal(p.state.why,
                            "exit status 203/EXEC (the program of ExecStart= does not exist or cannot be "
                            "executed), 3 times");
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        crash(&p, "e");
        crash(&p, "f");
        crash(&p, "g");
        assert_string_equal(p.state.why, "systemd restarted it 3 times before it was available");
}

static void three_restarts_before_it_is_available_are_a_failure(void **state) {
        Play p = play_of(&without_checks);

        change(&p, "active", "a");
        crash(&p, "b");
        crash(&p, "c");
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        crash(&p, "d");
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_string_equal(p.state.why, "systemd restarted it 3 times before it was available");
        crash(&p, "e"); /* the reason is unchanged, and needs no write */
        assert_string_equal(p.state.why, "systemd restarted it 3 times before it was available");
        pass_ms(&p, 9999);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        pass_ms(&p, 1);
        assert_health(&p, UNIT_HEALTH_PASSING, true);

        crash(&p, "f"); /* counting begins again */
        crash(&p, "g");
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        crash(&p, "h");
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        change(&p, "inactive", "h");
        assert_health(&p, UNIT_HEALTH_NONE, false);
        p.seen.n_restarts = 0;
        change(&p, "active", "i"); /* started by the agent */
        assert_health(&p, UNIT_HEALTH_PASSING, false);
}

static void restarts_before_this_daemon_or_of_the_former_text_do_not_count(void **state) {
        Play p = play_of(&without_checks);

        p.seen.n_restarts = 50;
        change(&p, "active", "a");
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        crash(&p, "b");
        crash(&p, "c");
        snprintf(p.seen.hash, sizeof(p.seen.hash), "two");
        observe(&p);
        crash(&p, "d");
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        crash(&p, "e");
        crash(&p, "f");
        assert_health(&p, UNIT_HEALTH_FAILING, false);
}

static void availability_survives_a_restart_of_the_daemon(void **state) {
        static const struct {
                const char *hash, *invocation;
                bool available, expected;
        } rows[] = {
                { "one", "a", true, true }, { "two", "a", true, false },  { "one", "b", true, false },
                { "one", "", true, false }, { "one", "a", false, false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                UnitState published = { .hash = (char *) rows[i].hash,
                                        .health = UNIT_HEALTH_PASSING,
                                        .available = rows[i].available };
                Play p = play_of(&without_checks);

                snprintf(published.invocation, sizeof(published.invocation), "%s", rows[i].invocation);
                change(&p, "active", "a");
                health_inherit(&p.state, NULL, &p.options, p.now_ms); /* the view is read later */
                assert_health(&p, UNIT_HEALTH_PASSING, false);
                pass_ms(&p, 100);
                health_inherit(&p.state, &published, &p.options, p.now_ms);
                assert_health(&p, UNIT_HEALTH_PASSING, rows[i].expected);
                observe(&p);
                assert_health(&p, UNIT_HEALTH_PASSING, rows[i].expected);
        }
}

static void an_interruption_that_this_daemon_saw_outweighs_the_published_state(void **state) {
        UnitState published = {
                .hash = (char *) "one", .invocation = "a", .health = UNIT_HEALTH_PASSING, .available = true
        };
        Play p = play_of(&without_checks);

        change(&p, "failed", "a");
        change(&p, "active", "a");
        health_inherit(&p.state, &published, &p.options, p.now_ms);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
}

static void a_check_changes_its_state_after_consecutive_results(void **state) {
        Play p = play_of(&one_check);

        p.options.successes = 2;
        change(&p, "active", "a");
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        probe(&p, false);
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        for (unsigned i = 0; i < 10; i++) {
                probe(&p, i % 3 == 2);
                assert_health(&p, UNIT_HEALTH_PASSING, false);
        }
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_string_equal(p.state.why, "HTTP 503, 3 times");
        probe(&p, false);
        assert_string_equal(p.state.why, "HTTP 503, 3 times");
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        assert_string_equal(p.state.why, "");
}

/* A program that needs longer until it answers is told from one that has stopped answering. */
static void the_reason_of_a_check_that_has_not_passed_has_the_time_since_the_start(void **state) {
        Play p = play_of(&one_check);

        change(&p, "active", "a");
        for (unsigned i = 0; i < 3; i++) {
                p.now_ms += 1000;
                probe(&p, false);
        }
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_string_equal(p.state.why,
                            "HTTP 503, 3 times; the check has not passed in the 3 s since the start "
                            "(HealthStartSec=)");
}

static void all_checks_must_pass(void **state) {
        const HealthResult passed = { .passed = true }, other = { .why = "connection refused" };
        Play p = play_of(&one_check);

        p.options.n_checks = 2;
        p.options.failures = 1;
        change(&p, "active", "a");
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        health_count(&p.state, 1, &passed, &p.options, p.now_ms);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        probe(&p, false);
        assert_string_equal(p.state.why, "HTTP 503");
        health_count(&p.state, 1, &other, &p.options, p.now_ms);
        assert_string_equal(p.state.why, "HTTP 503");
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        health_count(&p.state, 1, &other, &p.options, p.now_ms);
        assert_string_equal(p.state.why, "connection refused, 2 times");
        health_count(&p.state, 1, &passed, &p.options, p.now_ms);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        health_count(&p.state, 2, &other, &p.options, p.now_ms); /* there is no such check */
        assert_health(&p, UNIT_HEALTH_PASSING, false);
}

static void failures_in_the_start_period_do_not_count(void **state) {
        Play p = play_of(&one_check);

        p.options.start_ms = 60000;
        change(&p, "active", "a");
        for (unsigned i = 0; i < 59; i++) {
                pass_ms(&p, 1000);
                probe(&p, false);
                assert_health(&p, UNIT_HEALTH_STARTING, false);
        }
        pass_ms(&p, 1000);
        probe(&p, false);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_FAILING, false);

        change(&p, "active", "b"); /* a check that has passed ends the period */
        probe(&p, false);
        probe(&p, true);
        probe(&p, false);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
}

static void a_flapping_instance_is_never_available(void **state) {
        Play p = play_of(&one_check);

        change(&p, "active", "a");
        for (unsigned i = 0; i < 1000; i++) { /* never three failures in a row */
                pass_ms(&p, 3000);
                probe(&p, i % 3 != 0);
                assert_false(p.state.available);
        }
        for (unsigned i = 0; i < 6; i++) {
                pass_ms(&p, 2000);
                probe(&p, true);
        }
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        probe(&p, false); /* an available one is, until the check is failing */
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
}

static void a_late_probe_is_discarded(void **state) {
        Play p = play_of(&one_check);

        change(&p, "active", "a");
        probe(&p, true);
        for (unsigned i = 0; i < 10; i++)
                health_count(&p.state, 0, &(HealthResult) { .late_ms = 251, .why = "timed out" }, &p.options,
                             p.now_ms);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        for (unsigned i = 0; i < 3; i++)
                health_count(&p.state, 0, &(HealthResult) { .late_ms = 250, .why = "timed out" }, &p.options,
                             p.now_ms);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
}

static void end(Play *p, bool unknown, bool not_executed, unsigned times) {
        for (unsigned i = 0; i < times; i++)
                health_count(&p->state, 0,
                             &(HealthResult) {
                                     .unknown = unknown, .not_executed = not_executed, .why = "no room" },
                             &p->options, p->now_ms);
}

/* It is known when it lasts, and is taken back by the next result, another process, and the end of this one.
 */
static void a_check_that_cannot_run_changes_no_health(void **state) {
        Play p = play_of(&one_check);

        change(&p, "active", "a");
        end(&p, true, false, 10);
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        assert_string_equal(p.state.unchecked, "no room");
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        assert_string_equal(p.state.unchecked, "");
        pass_ms(&p, UPDATE_WATCH_MS - 1);
        end(&p, true, false, 1); /* it is not known to be healthy meanwhile */
        pass_ms(&p, 1);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
        probe(&p, true);
        pass_ms(&p, UPDATE_WATCH_MS);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        end(&p, true, false, 2);
        assert_string_equal(p.state.unchecked, "");
        end(&p, true, false, 8);
        assert_string_equal(p.state.unchecked, "no room");
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        change(&p, "active", "b");
        assert_string_equal(p.state.unchecked, "");
        end(&p, true, false, 3);
        change(&p, "failed", "b");
        assert_string_equal(p.state.unchecked, "");

        change(&p, "active", "c"); /* a failing check may pass by now */
        probe(&p, false);
        probe(&p, false);
        end(&p, true, false, 1);
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_true(health_is_failing_check(&p.state));
        end(&p, true, false, 1);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_false(health_is_failing_check(&p.state));

        change(&p, "active", "d"); /* of a program that has never run here, the text is the cause */
        end(&p, false, true, 3);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_false(health_is_failing_check(&p.state));
        p.options.ran = 1;
        change(&p, "active", "e");
        end(&p, false, true, 3);
        assert_health(&p, UNIT_HEALTH_STARTING, false);
        assert_string_equal(p.state.unchecked, "no room");
}

static void the_published_state_of_checks_survives_a_restart_of_the_daemon(void **state) {
        UnitState published = {
                .hash = (char *) "one", .invocation = "a", .health = UNIT_HEALTH_PASSING, .available = true
        };
        Play p = play_of(&one_check);

        change(&p, "active", "a");
        health_inherit(&p.state, &published, &p.options, p.now_ms);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        probe(&p, false);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        probe(&p, false);
        assert_health(&p, UNIT_HEALTH_FAILING, false);

        p = play_of(&one_check);
        published.health = UNIT_HEALTH_FAILING;
        published.available = false;
        published.why = (char *) "HTTP 503, 3 times";
        change(&p, "active", "a");
        health_inherit(&p.state, &published, &p.options, p.now_ms);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_string_equal(p.state.why, "HTTP 503, 3 times");
        probe(&p, true);
        assert_health(&p, UNIT_HEALTH_PASSING, false);
}

static void fail_check(Play *p) {
        for (unsigned i = 0; i < 3; i++)
                probe(p, false);
}

static void restarts_have_a_delay_that_doubles(void **state) {
        static const unsigned delays_s[] = { 0, 30, 60, 120, 240, 480, 600, 600 };
        Play p = play_of(&one_check);
        uint64_t due_ms;

        change(&p, "active", "a");
        assert_false(health_must_restart(&p.state, p.now_ms, &due_ms));
        for (size_t i = 0; i < ELEMENTS(delays_s); i++) {
                fail_check(&p);
                if (delays_s[i] > 0) {
                        assert_false(health_must_restart(&p.state, p.now_ms, &due_ms));
                        assert_int_equal(due_ms, p.now_ms + delays_s[i] * 1000);
                        pass_ms(&p, delays_s[i] * 1000 - 1);
                        assert_false(health_must_restart(&p.state, p.now_ms, &due_ms));
                        pass_ms(&p, 1);
                }
                assert_true(health_must_restart(&p.state, p.now_ms, &due_ms));
                health_count_restart(&p.state, p.now_ms);
                change(&p, "active", i % 2 ? "a" : "b");
                assert_false(health_must_restart(&p.state, p.now_ms, &due_ms));
                assert_int_equal(due_ms, 0);
        }
        probe(&p, true);
        pass_ms(&p, 10000);
        assert_health(&p, UNIT_HEALTH_PASSING, true);
        fail_check(&p);
        assert_true(health_must_restart(&p.state, p.now_ms, &due_ms));
}

/* The unit may have recovered while the daemon was stopped. */
static void a_published_failure_alone_restarts_nothing(void **state) {
        UnitState published = { .hash = (char *) "one", .invocation = "a", .health = UNIT_HEALTH_FAILING };
        Play p = play_of(&one_check);
        uint64_t due_ms;

        change(&p, "active", "a");
        health_inherit(&p.state, &published, &p.options, p.now_ms);
        assert_health(&p, UNIT_HEALTH_FAILING, false);
        assert_false(health_must_restart(&p.state, p.now_ms, &due_ms));
        assert_int_equal(due_ms, 0);
        probe(&p, false);
        assert_true(health_must_restart(&p.state, p.now_ms, &due_ms));
}

static void no_restart_while_more_than_half_of_the_set_is_unhealthy(void **state) {
        static const struct {
                size_t n_unhealthy, n_set;
                bool expected;
        } rows[] = { { 1, 1, true }, { 1, 2, true },  { 2, 2, false }, { 2, 3, false },
                     { 2, 4, true }, { 3, 4, false }, { 3, 6, true },  { 4, 6, false } };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                assert_int_equal(health_is_suspended(rows[i].n_unhealthy, rows[i].n_set), !rows[i].expected);
}

/* Random histories: an available unit was observed running in one invocation with one text, and no probe
 * failed, for the whole watch time before it became available. */
static void available_is_uninterrupted(void **state) {
        static const char *const actives[] = { "inactive", "activating", "active",
                                               "active",   "reloading",  "failed" };

        for (unsigned seed = 1; seed <= 2000; seed++) {
                Random random;
                Play p = play_of(&one_check);
                uint64_t since_ms = 0; /* of the uninterrupted time in the model; 0: none */
                bool was = false;

                random_seed(&random, seed);
                p.options.n_checks = seed % 2;
                for (unsigned i = 0; i < 300; i++) {
                        bool failed;
                        const char *invocation = p.seen.invocation_id[0] == 'a' ? "b" : "a";

                        p.now_ms += random_below(&random, 4000);
                        switch (random_below(&random, 20)) {
                        case 0:
                                change(&p, actives[random_below(&random, ELEMENTS(actives))], invocation);
                                since_ms = 0;
                                break;
                        case 1:
                                snprintf(p.seen.hash, sizeof(p.seen.hash), "%s",
                                         streq(p.seen.hash, "one") ? "two" : "one");
                                since_ms = 0;
                        }
                        observe(&p);
                        if (!active_state_is_up(p.seen.active))
                                since_ms = 0;
                        else if (p.options.n_checks == 0 && since_ms == 0)
                                since_ms = p.now_ms;
                        if (p.state.available && !was && (since_ms == 0 || p.now_ms - since_ms < 10000))
                                fail_msg("seed %u, step %u: available after %llu ms", seed, i,
                                         (unsigned long long) (since_ms ? p.now_ms - since_ms : 0));
                        if (p.options.n_checks > 0 && since_ms > 0 && p.now_ms - since_ms >= 10000 &&
                            !p.state.available)
                                fail_msg("seed %u, step %u: healthy and not available", seed, i);
                        if (p.state.available &&
                            (!active_state_is_up(p.seen.active) || p.state.health != UNIT_HEALTH_PASSING))
                                fail_msg("seed %u, step %u: available and not healthy", seed, i);
                        was = p.state.available;
                        if (p.options.n_checks == 0 || !active_state_is_up(p.seen.active) ||
                            random_below(&random, 2))
                                continue;
                        failed = random_below(&random, 8) == 0;
                        probe(&p, !failed);
                        if (failed && !p.state.available)
                                since_ms = 0;
                        else if (!failed && since_ms == 0)
                                since_ms = p.now_ms;
                        was = p.state.available;
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_unit_without_checks_is_healthy_while_it_is_active),
                cmocka_unit_test(a_unit_is_available_after_the_watch_time),
                cmocka_unit_test(another_process_or_text_is_not_available),
                cmocka_unit_test(an_available_unit_that_is_not_any_more_has_lapsed),
                cmocka_unit_test(a_failure_is_none_of_a_text_that_was_not_started),
                cmocka_unit_test(an_edit_of_x_fleet_alone_changes_no_health),
                cmocka_unit_test(three_restarts_before_it_is_available_are_a_failure),
                cmocka_unit_test(the_reason_of_the_first_restart_is_kept),
                cmocka_unit_test(restarts_before_this_daemon_or_of_the_former_text_do_not_count),
                cmocka_unit_test(availability_survives_a_restart_of_the_daemon),
                cmocka_unit_test(an_interruption_that_this_daemon_saw_outweighs_the_published_state),
                cmocka_unit_test(a_check_changes_its_state_after_consecutive_results),
                cmocka_unit_test(the_reason_of_a_check_that_has_not_passed_has_the_time_since_the_start),
                cmocka_unit_test(all_checks_must_pass),
                cmocka_unit_test(failures_in_the_start_period_do_not_count),
                cmocka_unit_test(a_flapping_instance_is_never_available),
                cmocka_unit_test(a_late_probe_is_discarded),
                cmocka_unit_test(a_check_that_cannot_run_changes_no_health),
                cmocka_unit_test(the_published_state_of_checks_survives_a_restart_of_the_daemon),
                cmocka_unit_test(restarts_have_a_delay_that_doubles),
                cmocka_unit_test(a_published_failure_alone_restarts_nothing),
                cmocka_unit_test(no_restart_while_more_than_half_of_the_set_is_unhealthy),
                cmocka_unit_test(available_is_uninterrupted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
