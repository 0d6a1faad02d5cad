/* When health checks are probed, in virtual time: intervals, phases, and the limits of a host. */

#include "tests/lib/test.h"
#include "fleetd/features/health/checks.h"
#include "tests/sim/prober.h"

typedef struct Fixture {
        World *world;
        WorldLoop *loop;
        SimProber *prober;
        Checks *checks;
        SimProbe outcome; /* of all probes */
        unsigned n_started, n_passed, n_failed, n_late;
        unsigned most_in_flight, most_exec, n_exec;
        uint64_t started_ms[64]; /* of the first ones */
        bool stops;              /* each result ends the checks of its unit */
} Fixture;

static SimProbe decide(void *userdata, const ProbeRequest *request) {
        Fixture *f = userdata;

        if (f->n_started < ELEMENTS(f->started_ms))
                f->started_ms[f->n_started] = world_now_ms(f->world);
        f->n_started++;
        f->most_in_flight = MAX(f->most_in_flight, (unsigned) sim_prober_in_flight(f->prober) + 1);
        return f->outcome;
}

static void on_result(void *userdata, const char *unit, size_t i, const HealthResult *result) {
        Fixture *f = userdata;

        if (result->late_ms > HEALTH_LATE_MAX_MS)
                f->n_late++;
        else if (result->passed)
                f->n_passed++;
        else
                f->n_failed++;
        if (f->stops)
                checks_stop(f->checks, unit);
}

static int setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);

        f->world = world_new(1, false);
        f->loop = world_loop_new(f->world, "host");
        f->prober = sim_prober_new(f->world, f->loop, decide, f);
        f->outcome = (SimProbe) { .passed = true, .takes_ms = 5 };
        assert_int_equal(checks_new(&f->checks, world_loop(f->loop), sim_prober(f->prober),
                                    "11111111111111111111111111111111", on_result, f),
                         0);
        *state = f;
        return 0;
}

static int teardown(void **state) {
        Fixture *f = *state;

        checks_free(f->checks);
        assert_int_equal(sim_prober_in_flight(f->prober), 0);
        sim_prober_free(f->prober);
        world_loop_free(f->loop);
        world_free(f->world);
        free(f);
        return 0;
}

static void run_ms(Fixture *f, uint64_t ms) {
        world_run(f->world, world_now_ms(f->world) + ms);
}

static void begin(Fixture *f, const char *unit, const char *check, UnitCheckKind kind, bool passed) {
        HealthPolicy policy = {};

        assert_int_equal(health_policy_add(&policy, kind, check), 0);
        assert_int_equal(checks_run(f->checks, unit, &policy, "", "a", "one", passed), 0);
        health_policy_done(&policy);
}

static void begin_many(Fixture *f, unsigned n, const char *check, UnitCheckKind kind, bool passed) {
        char unit[32];

        for (unsigned i = 0; i < n; i++) {
                snprintf(unit, sizeof(unit), "web@%u.service", i);
                begin(f, unit, check, kind, passed);
        }
}

static void a_check_is_probed_each_second_until_it_passes_and_then_each_interval(void **state) {
        Fixture *f = *state;

        f->outcome.passed = false;
        begin(f, "web.service", "8080/", UNIT_CHECK_HTTP, false);
        run_ms(f, 5000);
        assert_in_range(f->n_failed, 4, 6);
        f->outcome.passed = true;
        run_ms(f, 1200);
        assert_int_equal(f->n_passed, 1);
        run_ms(f, 100000);
        assert_in_range(f->n_passed, 10, 12); /* the first interval is shorter */
        assert_int_equal(f->most_in_flight, 1);
}

static void the_interval_is_from_the_end_to_the_next_start(void **state) {
        Fixture *f = *state;

        f->outcome.takes_ms = 1900;
        begin(f, "web.service", "8080/", UNIT_CHECK_HTTP, true);
        run_ms(f, 60000);
        for (unsigned i = 2; i < f->n_started; i++)
                assert_in_range(f->started_ms[i] - f->started_ms[i - 1], 11900, 12400);
}

static void a_probe_ends_at_its_timeout(void **state) {
        Fixture *f = *state;

        f->outcome.takes_ms = 60000;
        begin(f, "web.service", "8080/", UNIT_CHECK_HTTP, false);
        run_ms(f, 2500);
        assert_int_equal(f->n_failed, 1);
        assert_int_equal(f->n_passed, 0);
}

static void checks_of_many_units_have_different_phases_and_common_wake_ups(void **state) {
        Fixture *f = *state;
        uint64_t wakes;

        f->outcome.takes_ms = 0;
        begin_many(f, 100, "8080/", UNIT_CHECK_HTTP, false);
        run_ms(f, 20000);
        wakes = world_wakes(f->world);
        f->n_started = 0;
        f->most_in_flight = 0;
        run_ms(f, 100000);
        assert_in_range(f->n_started, 950, 1010);
        assert_true(f->most_in_flight < 20);
        assert_in_range(world_wakes(f->world) - wakes, 0, 100 * 5);
}

static void a_host_probes_at_most_100_times_a_second_and_stretches_all_intervals(void **state) {
        Fixture *f = *state;
        _cleanup_text_ Text t = {};

        begin_many(f, 1400, "8080/", UNIT_CHECK_HTTP, true);
        run_ms(f, 60000);
        checks_append_problem(f->checks, &t);
        assert_string_equal(t.chars, "health checks run every 14s instead of 10s: 1400 checks");
        f->n_started = 0;
        run_ms(f, 140000);
        assert_in_range(f->n_started, 13000, 14100); /* 10 times each */
        assert_true(f->most_in_flight <= CHECKS_IN_FLIGHT);
}

static void units_that_start_together_are_probed_within_the_limits(void **state) {
        Fixture *f = *state;

        f->outcome.takes_ms = 50;
        begin_many(f, 500, "8080/", UNIT_CHECK_HTTP, false);
        run_ms(f, 1000);
        assert_in_range(f->n_started, 90, 160);
        run_ms(f, 6000);
        assert_true(f->n_passed >= 500);
        assert_true(f->most_in_flight <= CHECKS_IN_FLIGHT);
}

static void hanging_probes_do_not_exceed_the_limits_of_a_host(void **state) {
        Fixture *f = *state;
        _cleanup_text_ Text t = {};

        f->outcome.takes_ms = 60000;
        begin_many(f, 40, "/bin/hang", UNIT_CHECK_EXEC, true);
        run_ms(f, 120000);
        assert_int_equal(f->most_in_flight, CHECKS_EXEC);
        assert_in_range(f->n_failed, 120 / 2 * CHECKS_EXEC - 30, 120 / 2 * CHECKS_EXEC);
        checks_append_problem(f->checks, &t);
        assert_non_null(strstr(t.chars, "s instead of 10s: 40 checks"));

        f->most_in_flight = 0;
        begin_many(f, 500, "8080/", UNIT_CHECK_HTTP, false); /* 40 of these replace the former ones */
        run_ms(f, 60000);
        assert_int_equal(f->most_in_flight, CHECKS_IN_FLIGHT);
}

static void each_waiting_check_is_probed_in_its_turn(void **state) {
        Fixture *f = *state;

        f->outcome.takes_ms = 2000;
        begin_many(f, 40, "/bin/slow", UNIT_CHECK_EXEC, true);
        run_ms(f, 40 / CHECKS_EXEC * 2200 + 10000);
        f->n_passed = 0;
        run_ms(f, 40 / CHECKS_EXEC * 2200);
        assert_in_range(f->n_passed, 36, 48);
}

static void probes_after_a_stall_of_the_daemon_are_late(void **state) {
        Fixture *f = *state;

        begin_many(f, 10, "8080/", UNIT_CHECK_HTTP, true);
        run_ms(f, 20000);
        assert_int_equal(f->n_late, 0);
        world_loop_pause(f->loop, 15000);
        run_ms(f, 15200);
        assert_in_range(f->n_late, 5, 10);
        f->n_late = 0;
        run_ms(f, 60000);
        assert_int_equal(f->n_late, 0);
}

static void a_stopped_unit_is_not_probed_and_another_process_is_at_once(void **state) {
        Fixture *f = *state;
        HealthPolicy policy = {};

        begin(f, "web.service", "8080/", UNIT_CHECK_HTTP, true);
        run_ms(f, 15000);
        f->n_started = 0;
        assert_int_equal(health_policy_add(&policy, UNIT_CHECK_TCP, "8080"), 0);
        assert_int_equal(checks_run(f->checks, "web.service", &policy, "", "a", "one", true),
                         0); /* no change */
        run_ms(f, 50);
        assert_int_equal(f->n_started, 0);
        assert_int_equal(checks_run(f->checks, "web.service", &policy, "", "b", "one", false), 0);
        run_ms(f, 200);
        assert_int_equal(f->n_started, 1);
        f->outcome.takes_ms = 1000;
        assert_int_equal(checks_run(f->checks, "web.service", &policy, "", "c", "one", false), 0);
        run_ms(f, 200);
        assert_int_equal(f->n_started, 2);
        checks_stop(f->checks, "web.service"); /* a probe is under way */
        assert_int_equal(checks_counts(f->checks)->n_in_flight, 0);
        run_ms(f, 60000);
        assert_int_equal(f->n_started, 2);
        assert_int_equal(checks_counts(f->checks)->n_checks, 0);
        health_policy_done(&policy);
}

static void a_result_may_stop_the_checks_of_its_unit(void **state) {
        Fixture *f = *state;

        f->stops = true;
        begin_many(f, 20, "8080/", UNIT_CHECK_HTTP, false);
        run_ms(f, 60000);
        assert_int_equal(f->n_started, 20);
        assert_int_equal(checks_counts(f->checks)->n_checks, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define ROW(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                ROW(a_check_is_probed_each_second_until_it_passes_and_then_each_interval),
                ROW(the_interval_is_from_the_end_to_the_next_start),
                ROW(a_probe_ends_at_its_timeout),
                ROW(checks_of_many_units_have_different_phases_and_common_wake_ups),
                ROW(a_host_probes_at_most_100_times_a_second_and_stretches_all_intervals),
                ROW(units_that_start_together_are_probed_within_the_limits),
                ROW(hanging_probes_do_not_exceed_the_limits_of_a_host),
                ROW(each_waiting_check_is_probed_in_its_turn),
                ROW(probes_after_a_stall_of_the_daemon_are_late),
                ROW(a_stopped_unit_is_not_probed_and_another_process_is_at_once),
                ROW(a_result_may_stop_the_checks_of_its_unit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
