/* A new text of a unit that runs: installed, applied by systemd, reloaded or restarted, with a systemd in
 * virtual time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "tests/lib/side_by_side.h"

#define RELOADS(n) "[Service]\nExecStart=/bin/one\nExecReload=/bin/true\n[X-Fleet]\nReloadTrigger=" n "\n"

static unsigned n_reloads;

static int reload_counted(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_reloads++;
        return real_ops->reload_unit(s, name, done, userdata);
}

static int reload_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_reloads++;
        return take_in_vain(done, userdata);
}

static int effects_setup(void **state) {
        int r = faulty_fixture_setup(state);

        leader.level = KV_LEVEL_UPDATES;
        bent.reload_unit = reload_counted;
        n_reloads = 0;
        return r;
}

#define in_effects(f) cmocka_unit_test_setup_teardown(f, effects_setup, faulty_fixture_teardown)

static bool has_hash(Fixture *fixture, const Unit *unit) {
        const UnitState *s = state_of(fixture, "web.service");

        return s && same_string(s->hash, unit->hash);
}

static Unit *unit_of(const char *text) {
        Unit *unit = NULL;

        assert_int_equal(unit_parse("web.service", text, strlen(text), &unit, NULL), 0);
        return unit;
}

static void run_text(Fixture *fixture, const char *text) {
        assign_to(fixture, "web.service", text, ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
}

static void only_an_effect_of_restart_stops_the_process(void **state) {
        static const struct {
                const char *text;
                bool restarts;
        } rows[] = {
                { "[Service]\nExecStart=/bin/one\n[X-Fleet]\nCanary=1\n", false },
                { "[Unit]\nDescription=x\n[Service]\nExecStart=/bin/one\n[X-Fleet]\nCanary=1\n", false },
                { "[Service]\nExecStart=/bin/one\nMemoryMax=1G\nRestart=always\n", false },
                { "[Service]\nExecStart=/bin/one\nMemoryMax=1G\nRestart=no\n", false },
                { "[Service]\nExecStart=/bin/two\nMemoryMax=1G\nRestart=no\n", true },
                { "[Service]\nExecStart=/bin/two\n[X-Fleet]\nRestartTrigger=1\n", true },
                { "[Service]\nExecStart=/bin/two\n[X-Fleet]\nRestartTrigger=2\n", true },
        };
        Fixture *fixture = *state;

        run_text(fixture, "[Service]\nExecStart=/bin/one\n");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_unit_ Unit *unit = unit_of(rows[i].text);
                unsigned starts = n_starts, stops = n_stops;

                assign_to(fixture, "web.service", rows[i].text, ASSIGNMENT_RUN);
                UNTIL(fixture, has_hash(fixture, unit) && is_published(fixture, "web.service", "active"));
                run_ms(fixture, 2000);
                run_pending(fixture);
                assert_int_equal(n_starts, starts + rows[i].restarts);
                assert_int_equal(n_stops, stops + rows[i].restarts);
        }
        assert_int_equal(n_reloads, 0);
}

static void a_reload_trigger_reloads_the_process_and_keeps_it(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(RELOADS("2"));
        char invocation[INVOCATION_ID_SIZE];
        unsigned starts, stops;

        run_text(fixture, RELOADS("1"));
        snprintf(invocation, sizeof(invocation), "%s", state_of(fixture, "web.service")->invocation);
        starts = n_starts;
        stops = n_stops;
        assign_to(fixture, "web.service", RELOADS("2"), ASSIGNMENT_RUN);
        UNTIL(fixture, has_hash(fixture, unit) && n_reloads == 1);
        UNTIL(fixture, records_contain(fixture, "ReloadTrigger=2"));
        run_ms(fixture, 30000);
        run_pending(fixture);
        assert_int_equal(n_reloads, 1);
        assert_int_equal(n_starts, starts);
        assert_int_equal(n_stops, stops);
        assert_string_equal(state_of(fixture, "web.service")->invocation, invocation);
        assert_true(state_of(fixture, "web.service")->available);

        close_agent(fixture); /* another daemon finds nothing left to do */
        open_agent(fixture);
        run_ms(fixture, 15000);
        run_pending(fixture);
        assert_int_equal(n_reloads, 1);
}

static void a_reload_that_fails_is_reported_and_tried_again(void **state) {
        Fixture *fixture = *state;
        unsigned starts, stops;

        run_text(fixture, RELOADS("1"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        starts = n_starts;
        stops = n_stops;
        bent.reload_unit = reload_in_vain;
        vain = (Vain) { .unit = "web.service", .error = -EIO, .message = "its reload has failed" };
        assign_to(fixture, "web.service", RELOADS("2"), ASSIGNMENT_RUN);
        UNTIL(fixture, n_reloads == 3);
        UNTIL(fixture, state_of(fixture, "web.service")->health == UNIT_HEALTH_FAILING);
        assert_string_equal(state_of(fixture, "web.service")->why, "its reload has failed");
        assert_false(state_of(fixture, "web.service")->available);

        bent.reload_unit = reload_counted;
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        assert_int_equal(state_of(fixture, "web.service")->health, UNIT_HEALTH_PASSING);
        assert_int_equal(n_starts, starts);
        assert_int_equal(n_stops, stops);
}

static void a_reload_that_a_crash_interrupts_is_made_by_the_next_daemon(void **state) {
        Fixture *fixture = *state;

        run_text(fixture, RELOADS("1"));
        bent.reload_unit = reload_in_vain;
        vain = (Vain) { .unit = "web.service", .held = true };
        assign_to(fixture, "web.service", RELOADS("2"), ASSIGNMENT_RUN);
        UNTIL(fixture, n_reloads == 1);
        bent.reload_unit = reload_counted;
        close_agent(fixture);
        open_agent(fixture);
        UNTIL(fixture, n_reloads == 2);
        UNTIL(fixture, records_contain(fixture, "ReloadTrigger=2"));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                in_effects(only_an_effect_of_restart_stops_the_process),
                in_effects(a_reload_trigger_reloads_the_process_and_keeps_it),
                in_effects(a_reload_that_fails_is_reported_and_tried_again),
                in_effects(a_reload_that_a_crash_interrupts_is_made_by_the_next_daemon),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
