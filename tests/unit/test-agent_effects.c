/* A new text of a unit that runs: installed, applied by systemd, reloaded or restarted, with a systemd in
 * virtual time. */

#include "tests/lib/test.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "tests/lib/side_by_side.h"

#define RELOADS(n) "[Service]\nExecStart=/bin/one\nExecReload=/bin/true\n[X-Fleet]\nReloadTrigger=" n "\n"

#define CHECKED(path) \
        "[Service]\nExecStart=/bin/one\n[X-Fleet]\nHealthHttp=8080/" path "\nHealthIntervalSec=2s\n"

enum { TEXT_SIZE = 512 };

static unsigned n_reloads;
static uint64_t reload_ms;

/* Which paths are probed. */
static struct { char targets[4096], user[64]; } probes;
static const ProberOps *probe_ops;

static void *probe_recorded(Prober *p, const ProbeRequest *request, ProbeDone *done, void *userdata) {
        size_t n = strlen(probes.targets);

        snprintf(probes.targets + n, sizeof(probes.targets) - n, "%s ", request->check->target);
        snprintf(probes.user, sizeof(probes.user), "%s", request->user);
        return probe_ops->start(p, request, done, userdata);
}

static void probe_cancelled(Prober *p, void *handle) {
        probe_ops->cancel(p, handle);
}

static const ProberOps recorded = { probe_recorded, probe_cancelled };

static int reload_counted(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_reloads++;
        reload_ms = world_now_ms(running->world);
        return real_ops->reload_unit(s, name, done, userdata);
}

static int reload_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_reloads++;
        return take_in_vain(done, userdata);
}

static int effects_setup(void **state) {
        int r = faulty_fixture_setup(state);
        Fixture *fixture = *state;

        leader.level = KV_LEVEL_UPDATES;
        bent.reload_unit = reload_counted;
        n_reloads = 0;
        probes.targets[0] = 0;
        probe_ops = sim_prober(fixture->prober)->ops;
        sim_prober(fixture->prober)->ops = &recorded;
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

static void run_long(Fixture *fixture, unsigned s) {
        for (unsigned i = 0; i < s; i++) {
                run_ms(fixture, 1000);
                run_pending(fixture);
        }
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

static void hang_in_reload(Fixture *fixture) {
        run_text(fixture, RELOADS("1"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        bent.reload_unit = reload_in_vain;
        vain = (Vain) { .unit = "web.service", .held = true };
        assign_to(fixture, "web.service", RELOADS("2"), ASSIGNMENT_RUN);
        UNTIL(fixture, n_reloads == 1);
}

static void a_unit_whose_reload_hangs_is_stopped_by_its_assignment(void **state) {
        Fixture *fixture = *state;

        hang_in_reload(fixture);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, is_gone(fixture, "web.service"));
        assert_int_equal(n_stops, 1);
        vain.done(vain.userdata, -EIO, "its reload has failed"); /* the stop cancels its job */
        run_long(fixture, 3);
        assert_true(is_gone(fixture, "web.service"));
}

static void a_unit_whose_reload_hangs_is_replaced_by_its_fix(void **state) {
        static const char fix[] = "[Service]\nExecStart=/bin/two\n";
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(fix);

        hang_in_reload(fixture);
        assign_to(fixture, "web.service", fix, ASSIGNMENT_RUN);
        UNTIL(fixture, n_stops == 1 && n_starts == 2);
        vain.done(vain.userdata, -EIO, "its reload has failed");
        UNTIL(fixture, has_hash(fixture, unit) && state_of(fixture, "web.service")->available);
        assert_int_equal(n_stops, 1);
        assert_int_equal(n_starts, 2);
}

static void a_revert_during_a_reload_reloads_again(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(RELOADS("1"));

        hang_in_reload(fixture);
        assign_to(fixture, "web.service", RELOADS("1"), ASSIGNMENT_RUN);
        run_long(fixture, 2);
        bent.reload_unit = reload_counted;
        vain.done(vain.userdata, 0, ""); /* the reload with text 2 has succeeded */
        UNTIL(fixture, has_hash(fixture, unit) && n_reloads == 2);
        run_long(fixture, 30);
        assert_int_equal(n_reloads, 2);
        assert_true(state_of(fixture, "web.service")->available);
}

static void a_revert_after_a_crash_during_a_reload_reloads_again(void **state) {
        Fixture *fixture = *state;

        hang_in_reload(fixture);
        bent.reload_unit = reload_counted;
        close_agent(fixture);
        assign_to(fixture, "web.service", RELOADS("1"), ASSIGNMENT_RUN);
        open_agent(fixture);
        UNTIL(fixture, n_reloads == 2);
        run_long(fixture, 20);
        assert_int_equal(n_reloads, 2);
        assert_true(state_of(fixture, "web.service")->available);
}

static void an_edited_check_is_probed(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(CHECKED("other"));

        run_text(fixture, CHECKED("ready"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        assign_to(fixture, "web.service", CHECKED("other"), ASSIGNMENT_RUN);
        UNTIL(fixture, has_hash(fixture, unit) && records_contain(fixture, "other"));
        run_pending(fixture);
        probes.targets[0] = 0;
        run_long(fixture, 30);
        assert_null(strstr(probes.targets, "ready"));
}

static void a_command_has_the_user_of_its_instance(void **state) {
        static const char checked[] = "[X-Fleet]\nHealthExec=/bin/check %i\n";
        static const struct {
                const char *name, *user, *expected;
        } rows[] = {
                { "web@blue.service", "User=app-%i", "app-blue" },
                { "a.service", "User=daemon", "daemon" },
                { "b@c.service", "User=%p", "b" },
                { "dynamic.service", "User=%n\nDynamicUser=yes", "65534" },
                { "root.service", "", "" },
        };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char text[TEXT_SIZE];

                snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/one\n%s\n%s", rows[i].user, checked);
                probes.targets[0] = 0;
                assign_to(fixture, rows[i].name, text, ASSIGNMENT_RUN);
                UNTIL(fixture, probes.targets[0]);
                assert_string_equal(probes.user, rows[i].expected);
                host_order(fixture->host, rows[i].name, ASSIGNMENT_STOP);
                UNTIL(fixture, is_gone(fixture, rows[i].name));
        }
}

static void an_added_check_is_probed(void **state) {
        Fixture *fixture = *state;

        run_text(fixture, CHECKED("ready"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        assign_to(fixture, "web.service", CHECKED("ready") "HealthHttp=8080/second\n", ASSIGNMENT_RUN);
        run_long(fixture, 5);
        probes.targets[0] = 0;
        run_long(fixture, 20);
        assert_non_null(strstr(probes.targets, "second"));
        assert_true(state_of(fixture, "web.service")->available);
}

static void a_reloaded_unit_is_watched_again(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(RELOADS("2"));

        run_text(fixture, RELOADS("1"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        run_pending(fixture);
        assign_to(fixture, "web.service", RELOADS("2"), ASSIGNMENT_RUN);
        UNTIL(fixture, n_reloads == 1);
        for (unsigned i = 0; !(has_hash(fixture, unit) && state_of(fixture, "web.service")->available); i++) {
                assert_true(i < 1000);
                assert_false(state_of(fixture, "web.service")->lapsed); /* a rollout would have failed */
                run_ms(fixture, 100);
                run_pending(fixture);
        }
        assert_true(world_now_ms(fixture->world) - reload_ms >= UPDATE_WATCH_MS);
}

static void a_first_check_has_to_pass_before_the_text_counts_as_available(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(CHECKED("ready"));
        unsigned n = 0;

        run_text(fixture, "[Service]\nExecStart=/bin/one\n");
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        run_long(fixture, 3);
        fixture->probed.passed = false;
        assign_to(fixture, "web.service", CHECKED("ready"), ASSIGNMENT_RUN);
        for (unsigned i = 0; i < 50; i++) {
                run_ms(fixture, 100);
                run_pending(fixture);
                n += has_hash(fixture, unit) && state_of(fixture, "web.service")->available;
        }
        assert_int_equal(n, 0);
}

static int daemon_reload_fails(Systemd *s, SystemdDone done, void *userdata) {
        return -EIO;
}

static void a_text_that_systemd_has_not_read_is_not_available(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of("[Service]\nExecStart=/bin/one\nMemoryMax=2G\n");
        bool available = false;

        run_text(fixture, "[Service]\nExecStart=/bin/one\nMemoryMax=1G\n");
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        bent.reload = daemon_reload_fails;
        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/one\nMemoryMax=2G\n", ASSIGNMENT_RUN);
        for (unsigned i = 0; i < 20; i++) {
                run_long(fixture, 1);
                available |= has_hash(fixture, unit) && state_of(fixture, "web.service")->available;
        }
        assert_false(records_contain(fixture, "MemoryMax=2G"));
        assert_false(available);
}

static void a_failed_unit_with_an_edit_of_x_fleet_is_still_failing(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of("[Service]\nExecStart=/bin/one\n[X-Fleet]\nMaxUnavailable=2\n");

        run_text(fixture, "[Service]\nExecStart=/bin/one\n");
        run_long(fixture, 3);
        sim_systemd_end(fixture->systemd, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
        run_long(fixture, 3);
        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/one\n[X-Fleet]\nMaxUnavailable=2\n",
                  ASSIGNMENT_RUN);
        UNTIL(fixture, has_hash(fixture, unit));
        run_long(fixture, 20);
        assert_int_equal(state_of(fixture, "web.service")->health, UNIT_HEALTH_FAILING);
}

static char former[INVOCATION_ID_SIZE]; /* the invocation of the process that failed */

static void awaits_its_start(SystemdUnit *seen) {
        seen->job = true;
        memcpy(seen->invocation_id, former, sizeof(former));
}

/* systemd answers a start before its job runs: the unit has the state of its former process until then. */
static void a_correction_has_not_failed_before_its_start_has_run(void **state) {
        static const char *const correction = "[Service]\nExecStart=/bin/two\n";
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(correction);

        run_text(fixture, "[Service]\nExecStart=/bin/one\n");
        memcpy(former, state_of(fixture, "web.service")->invocation, sizeof(former));
        sim_systemd_end(fixture->systemd, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
        pretence = (Pretence) { .unit = "web.service", .active = "failed", .change = awaits_its_start };
        assign_to(fixture, "web.service", correction, ASSIGNMENT_RUN);
        UNTIL(fixture, has_hash(fixture, unit));
        for (unsigned i = 0; i < 50; i++) {
                run_ms(fixture, 100);
                run_pending(fixture);
                assert_int_not_equal(state_of(fixture, "web.service")->health, UNIT_HEALTH_FAILING);
        }
        pretence = (Pretence) {};
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, state_of(fixture, "web.service")->health == UNIT_HEALTH_PASSING);
}

static void an_unmet_condition_is_no_failure(void **state) {
        Fixture *fixture = *state;

        run_text(fixture, "[Service]\nExecStart=/bin/one\n");
        pretence = (Pretence) { .unit = "web.service", .active = "inactive", .end = SYSTEMD_END_SKIPPED };
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, streq(state_of(fixture, "web.service")->job, "condition"));
        run_long(fixture, 3);
        assert_int_not_equal(state_of(fixture, "web.service")->health, UNIT_HEALTH_FAILING);
}

static void of_host(SystemdUnit *seen) {
        seen->owner = SYSTEMD_CONFLICTING;
        snprintf(seen->fragment, sizeof(seen->fragment), "/etc/systemd/system/web.service");
}

static void a_unit_whose_name_the_host_has_taken_is_not_restarted(void **state) {
        Fixture *fixture = *state;
        unsigned stops;

        run_text(fixture, CHECKED("ready") "HealthAction=restart\n");
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        run_long(fixture, 3);
        pretence = (Pretence) { .unit = "web.service", .change = of_host };
        sim_systemd_change(fixture->systemd, "web.service");
        run_long(fixture, 3);
        stops = n_stops;
        fixture->probed.passed = false;
        run_long(fixture, 20);
        assert_int_equal(n_stops, stops);
}

#define ONCE "[Service]\nExecStart=/bin/one\n[X-Fleet]\nSingleton=yes\n"

static void a_singleton_keeps_its_lease_while_its_next_text_is_not_known(void **state) {
        Fixture *fixture = *state;

        host_raise(fixture->host, KV_LEVEL_UPDATES);
        assign_to(fixture, "one.service", ONCE, ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "one.service", "active"));
        run_long(fixture, 3);
        host_order_text(fixture->host, "one.service", ASSIGNMENT_RUN, 7,
                        "0123456789012345678901234567890123456789");
        run_long(fixture, 30);
        assert_int_equal(n_stops, 0);
}

static void a_singleton_keeps_its_lease_while_its_edit_is_not_assigned(void **state) {
        Fixture *fixture = *state;

        leader.level = 0;
        assign_to(fixture, "one.service", ONCE, ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "one.service", "active"));
        run_long(fixture, 3);
        host_unit(fixture->host, "one.service", ONCE "Conflicts=x*\n", TARGET_LAUNCHED);
        run_long(fixture, 30);
        assert_int_equal(n_stops, 0);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                in_effects(only_an_effect_of_restart_stops_the_process),
                in_effects(a_reload_trigger_reloads_the_process_and_keeps_it),
                in_effects(a_reload_that_fails_is_reported_and_tried_again),
                in_effects(a_reload_that_a_crash_interrupts_is_made_by_the_next_daemon),
                in_effects(a_unit_whose_reload_hangs_is_stopped_by_its_assignment),
                in_effects(a_unit_whose_reload_hangs_is_replaced_by_its_fix),
                in_effects(a_revert_during_a_reload_reloads_again),
                in_effects(a_revert_after_a_crash_during_a_reload_reloads_again),
                in_effects(an_edited_check_is_probed),
                in_effects(an_added_check_is_probed),
                in_effects(a_command_has_the_user_of_its_instance),
                in_effects(a_reloaded_unit_is_watched_again),
                in_effects(a_first_check_has_to_pass_before_the_text_counts_as_available),
                in_effects(a_text_that_systemd_has_not_read_is_not_available),
                in_effects(a_failed_unit_with_an_edit_of_x_fleet_is_still_failing),
                in_effects(a_correction_has_not_failed_before_its_start_has_run),
                in_effects(an_unmet_condition_is_no_failure),
                in_effects(a_unit_whose_name_the_host_has_taken_is_not_restarted),
                in_effects(a_singleton_keeps_its_lease_while_its_next_text_is_not_known),
                in_effects(a_singleton_keeps_its_lease_while_its_edit_is_not_assigned),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
