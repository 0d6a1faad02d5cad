/* Experiments of a review. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "fleetd/agent/health.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "units/singleton.h"

#define RELOADS(n) "[Service]\nExecStart=/bin/one\nExecReload=/bin/true\n[X-Fleet]\nReloadTrigger=" n "\n"

static unsigned n_reloads;
static uint64_t reload_ms;

static int reload_counted(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_reloads++;
        reload_ms = world_now_ms(running->world);
        return real_ops->reload_unit(s, name, done, userdata);
}

static int reload_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_reloads++;
        return take_in_vain(done, userdata);
}

/* Which paths are probed. */
static struct { char targets[4096]; } probes;
static const ProberOps *probe_ops;

static void *probe_recorded(Prober *p, const ProbeRequest *request, ProbeDone *done, void *userdata) {
        size_t n = strlen(probes.targets);
        if (n < 4000)
                snprintf(probes.targets + n, sizeof(probes.targets) - n, "%s ", request->check->target ?: "tcp");
        return probe_ops->start(p, request, done, userdata);
}
static void probe_cancelled(Prober *p, void *handle) { probe_ops->cancel(p, handle); }
static const ProberOps recorded = { probe_recorded, probe_cancelled };

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

static Unit *unit_of(const char *text) {
        Unit *unit = NULL;
        assert_int_equal(unit_parse("web.service", text, strlen(text), &unit, NULL), 0);
        return unit;
}
static bool has_hash(Fixture *fixture, const Unit *unit) {
        const UnitState *s = state_of(fixture, "web.service");
        return s && same_string(s->hash, unit->hash);
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
static void show(Fixture *fixture, const char *what) {
        const UnitState *s = state_of(fixture, "web.service");
        printf("    %s: active=%s health=%s available=%d why=%s reason=%s hash=%.7s starts=%u stops=%u reloads=%u\n", what, s ? s->active : "-",
               s ? unit_health_to_string(s->health) : "-", s ? s->available : 0, s && s->why ? s->why : "", s && s->reason ? s->reason : "",
               s && s->hash ? s->hash : "", n_starts, n_stops, n_reloads);
}

#define CHECKED(p) "[Service]\nExecStart=/bin/one\n[X-Fleet]\nHealthHttp=8080/" p "\nHealthIntervalSec=2s\n"

/* 1 */
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
        show(fixture, "edited");
        printf("    probed: %s\n", probes.targets);
        assert_null(strstr(probes.targets, "ready"));
}
static void an_added_check_is_probed(void **state) {
        Fixture *fixture = *state;

        run_text(fixture, CHECKED("ready"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        assign_to(fixture, "web.service", CHECKED("ready") "HealthHttp=8080/second\n", ASSIGNMENT_RUN);
        run_long(fixture, 5);
        probes.targets[0] = 0;
        run_long(fixture, 60);
        show(fixture, "added");
        printf("    probed: %.100s\n", probes.targets);
        assert_non_null(strstr(probes.targets, "second"));
        assert_true(state_of(fixture, "web.service")->available);
}
/* 2 */
static void a_reloaded_unit_is_watched_again(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(RELOADS("2"));

        run_text(fixture, RELOADS("1"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        run_pending(fixture);
        assign_to(fixture, "web.service", RELOADS("2"), ASSIGNMENT_RUN);
        UNTIL(fixture, n_reloads == 1);
        UNTIL(fixture, has_hash(fixture, unit) && state_of(fixture, "web.service")->available);
        printf("    available %llu ms after the reload began\n", (unsigned long long) (world_now_ms(fixture->world) - reload_ms));
        assert_true(world_now_ms(fixture->world) - reload_ms >= UPDATE_WATCH_MS);
}
/* 3 */
static void a_first_check_has_to_pass_before_the_text_counts_as_available(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(CHECKED("ready"));
        unsigned n = 0;

        run_text(fixture, "[Service]\nExecStart=/bin/one\n");
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        run_long(fixture, 3);
        fixture->probed.passed = false;
        assign_to(fixture, "web.service", CHECKED("ready"), ASSIGNMENT_RUN);
        for (unsigned i = 0; i < 8000; i++) {
                fixture_turn(fixture, UINT64_MAX);
                n += has_hash(fixture, unit) && state_of(fixture, "web.service")->available;
        }
        show(fixture, "first check, which fails");
        printf("    published as available with the new text for %u ms\n", n);
        assert_int_equal(n, 0);
}
/* 4 */
static void a_failed_unit_gets_a_live_fix(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of("[Service]\nExecStart=/bin/one\nMemoryMax=2G\n");

        run_text(fixture, "[Service]\nExecStart=/bin/one\nMemoryMax=1G\n");
        run_long(fixture, 3);
        sim_systemd_end(fixture->systemd, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
        run_long(fixture, 3);
        show(fixture, "failed");
        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/one\nMemoryMax=2G\n", ASSIGNMENT_RUN);
        UNTIL(fixture, has_hash(fixture, unit));
        run_long(fixture, 60);
        show(fixture, "a minute after the live edit");
        assert_int_equal(n_starts, 2);
}
static void a_failed_unit_with_an_edit_of_x_fleet_is_still_failing(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of("[Service]\nExecStart=/bin/one\n[X-Fleet]\nMaxUnavailable=2\n");

        run_text(fixture, "[Service]\nExecStart=/bin/one\n");
        run_long(fixture, 3);
        sim_systemd_end(fixture->systemd, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
        run_long(fixture, 3);
        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/one\n[X-Fleet]\nMaxUnavailable=2\n", ASSIGNMENT_RUN);
        UNTIL(fixture, has_hash(fixture, unit));
        run_long(fixture, 60);
        show(fixture, "a minute after the edit of X-Fleet");
        assert_int_equal(state_of(fixture, "web.service")->health, UNIT_HEALTH_FAILING);
}
/* 5 */
static void an_unmet_condition_is_no_failure(void **state) {
        Fixture *fixture = *state;

        run_text(fixture, "[Service]\nExecStart=/bin/one\n");
        pretence = (Pretence) { .unit = "web.service", .active = "inactive", .end = SYSTEMD_END_SKIPPED };
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, streq(state_of(fixture, "web.service")->job, "condition"));
        run_long(fixture, 3);
        show(fixture, "condition");
        assert_int_not_equal(state_of(fixture, "web.service")->health, UNIT_HEALTH_FAILING);
}
/* 6 */
static void of_host(SystemdUnit *seen) { seen->owner = SYSTEMD_CONFLICTING; snprintf(seen->fragment, sizeof(seen->fragment), "/etc/systemd/system/web.service"); }
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
        run_long(fixture, 60);
        show(fixture, "taken over, failing");
        assert_int_equal(n_stops, stops);
}
/* 7 */
static void a_unit_whose_reload_hangs_is_stopped_by_its_assignment(void **state) {
        Fixture *fixture = *state;

        run_text(fixture, RELOADS("1"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        bent.reload_unit = reload_in_vain;
        vain = (Vain) { .unit = "web.service", .held = true };
        assign_to(fixture, "web.service", RELOADS("2"), ASSIGNMENT_RUN);
        UNTIL(fixture, n_reloads == 1);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        run_long(fixture, 300);
        show(fixture, "300 s after the stop");
        assert_true(is_gone(fixture, "web.service"));
}
/* 8 */
#define ONCE "[Service]\nExecStart=/bin/one\n[X-Fleet]\nSingleton=yes\n"
static void a_singleton_keeps_its_lease_while_its_next_text_is_not_known(void **state) {
        Fixture *fixture = *state;

        host_raise(fixture->host, KV_LEVEL_UPDATES);
        assign_to(fixture, "one.service", ONCE, ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "one.service", "active"));
        run_long(fixture, 3);
        host_order_text(fixture->host, "one.service", ASSIGNMENT_RUN, 7, "0123456789012345678901234567890123456789");
        run_long(fixture, 150);
        printf("    starts=%u stops=%u runs=%d\n", n_starts, n_stops, sim_systemd_runs(fixture->systemd, "one.service"));
        assert_int_equal(n_stops, 0);
}
static void a_singleton_keeps_its_lease_while_its_edit_is_not_assigned(void **state) {
        Fixture *fixture = *state;

        leader.level = 0;
        assign_to(fixture, "one.service", ONCE, ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "one.service", "active"));
        run_long(fixture, 3);
        host_unit(fixture->host, "one.service", ONCE "Conflicts=x*\n", TARGET_LAUNCHED);
        run_long(fixture, 150);
        printf("    starts=%u stops=%u runs=%d\n", n_starts, n_stops, sim_systemd_runs(fixture->systemd, "one.service"));
        assert_int_equal(n_stops, 0);
}
/* 9 */
static void instances_that_are_loaded_only_suspend_no_restart(void **state) {
        Fixture *fixture = *state;
        unsigned before;

        assign_to(fixture, "web@1.service", CHECKED("ready") "HealthAction=restart\n", ASSIGNMENT_RUN);
        assign_to(fixture, "web@2.service", CHECKED("ready") "HealthAction=restart\n", ASSIGNMENT_LOAD);
        assign_to(fixture, "web@3.service", CHECKED("ready") "HealthAction=restart\n", ASSIGNMENT_LOAD);
        UNTIL(fixture, is_published(fixture, "web@1.service", "active") && state_of(fixture, "web@1.service")->available);
        run_long(fixture, 3);
        before = n_starts;
        fixture->probed.passed = false;
        run_long(fixture, 60);
        printf("    why: %s\n", state_of(fixture, "web@1.service")->why ?: "");
        assert_true(n_starts > before);
}
/* 10: a revert to the recorded text during a reload */
static void a_revert_during_a_reload_reloads_again(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of(RELOADS("1"));

        run_text(fixture, RELOADS("1"));
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        bent.reload_unit = reload_in_vain;
        vain = (Vain) { .unit = "web.service", .held = true };
        assign_to(fixture, "web.service", RELOADS("2"), ASSIGNMENT_RUN);
        UNTIL(fixture, n_reloads == 1);
        assign_to(fixture, "web.service", RELOADS("1"), ASSIGNMENT_RUN);
        run_long(fixture, 2);
        bent.reload_unit = reload_counted;
        vain.done(vain.userdata, 0, ""); /* the reload with text 2 has succeeded */
        UNTIL(fixture, has_hash(fixture, unit));
        run_long(fixture, 30);
        show(fixture, "reverted during the reload");
        assert_int_equal(n_reloads, 2);
}

/* 11 */
static int daemon_reload_fails(Systemd *s, SystemdDone done, void *userdata) { return -EIO; }
static void a_text_that_systemd_has_not_read_is_not_available(void **state) {
        Fixture *fixture = *state;
        _cleanup_unit_ Unit *unit = unit_of("[Service]\nExecStart=/bin/one\nMemoryMax=2G\n");
        bool available = false;

        run_text(fixture, "[Service]\nExecStart=/bin/one\nMemoryMax=1G\n");
        UNTIL(fixture, state_of(fixture, "web.service")->available);
        bent.reload = daemon_reload_fails;
        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/one\nMemoryMax=2G\n", ASSIGNMENT_RUN);
        for (unsigned i = 0; i < 40; i++) {
                run_long(fixture, 1);
                available |= has_hash(fixture, unit) && state_of(fixture, "web.service")->available;
        }
        show(fixture, "daemon-reload fails");
        assert_false(records_contain(fixture, "MemoryMax=2G"));
        assert_false(available);
}
/* 12 */
static void a_stored_unit_of_the_former_version_can_be_read(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/one\n[X-Fleet]\nReplaceAfterSec=9999d\n";
        Unit *unit = NULL;
        Error err = {};
        int r = unit_read("web.service", text, strlen(text), &unit, &err);

        printf("    %d %s\n", r, err.message);
        unit_free(unit);
        assert_int_equal(r, 0);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                in_effects(an_edited_check_is_probed),
                in_effects(an_added_check_is_probed),
                in_effects(a_reloaded_unit_is_watched_again),
                in_effects(a_first_check_has_to_pass_before_the_text_counts_as_available),
                in_effects(a_failed_unit_gets_a_live_fix),
                in_effects(a_failed_unit_with_an_edit_of_x_fleet_is_still_failing),
                in_effects(an_unmet_condition_is_no_failure),
                in_effects(a_unit_whose_name_the_host_has_taken_is_not_restarted),
                in_effects(a_unit_whose_reload_hangs_is_stopped_by_its_assignment),
                in_effects(a_singleton_keeps_its_lease_while_its_next_text_is_not_known),
                in_effects(a_singleton_keeps_its_lease_while_its_edit_is_not_assigned),
                in_effects(instances_that_are_loaded_only_suspend_no_restart),
                in_effects(a_revert_during_a_reload_reloads_again),
                in_effects(a_text_that_systemd_has_not_read_is_not_available),
                cmocka_unit_test(a_stored_unit_of_the_former_version_can_be_read),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
