/* The health that the agent publishes, with a systemd in virtual time. */

#include "tests/lib/test.h"
#include "fleetd/features/health/health.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "tests/lib/side_by_side.h"

enum { LEVEL_BEFORE = KV_LEVEL_UPDATES - 1 };

static int updates_setup(void **state) {
        int r = faulty_fixture_setup(state);

        leader.level = KV_LEVEL_UPDATES;
        return r;
}

static int former_setup(void **state) {
        int r = faulty_fixture_setup(state);

        leader.level = LEVEL_BEFORE;
        return r;
}

#define at_level_updates(f) cmocka_unit_test_setup_teardown(f, updates_setup, faulty_fixture_teardown)

static uint64_t index_of(Fixture *fixture, const char *unit) {
        return cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, unit)->index;
}

static bool is_available(Fixture *fixture, const char *unit) {
        const UnitState *s = state_of(fixture, unit);

        return s && s->available;
}

static bool has_health(Fixture *fixture, const char *unit, UnitHealth health) {
        const UnitState *s = state_of(fixture, unit);

        return s && s->health == health;
}

/* UNTIL() passes milliseconds one by one, and the watch time has ten thousand. */
static void await_available(Fixture *fixture, const char *unit) {
        for (unsigned i = 0; i < 60 && !is_available(fixture, unit); i++) {
                run_ms(fixture, 500);
                run_pending(fixture);
        }
        assert_true(is_available(fixture, unit));
}

static void run_available(Fixture *fixture, const char *unit) {
        run_unit(fixture, unit);
        await_available(fixture, unit);
        run_pending(fixture);
}

static void a_unit_is_published_as_available_after_the_watch_time_and_then_nothing_is(void **state) {
        Fixture *fixture = *state;
        uint64_t index;

        run_unit(fixture, "web.service");
        assert_true(has_health(fixture, "web.service", UNIT_HEALTH_PASSING));
        assert_false(is_available(fixture, "web.service"));
        run_ms(fixture, UPDATE_WATCH_MS - 2000);
        run_pending(fixture);
        assert_false(is_available(fixture, "web.service"));
        run_ms(fixture, 2300);
        HOST_UNTIL(fixture->host, is_available(fixture, "web.service"));
        run_pending(fixture);

        index = index_of(fixture, "web.service");
        for (unsigned i = 0; i < 10; i++) {
                run_ms(fixture, 6000);
                run_pending(fixture);
        }
        assert_int_equal(index_of(fixture, "web.service"), index);
        assert_true(has_health(fixture, "web.service", UNIT_HEALTH_PASSING));
}

/* Write the published state again, as it was before or after the end of the watch time. */
static void put_available(Fixture *fixture, const char *unit, bool available) {
        StateChange change = { .state = *state_of(fixture, unit) }; /* it borrows all */

        snprintf(change.unit, sizeof(change.unit), "%s", unit);
        change.state.available = available;
        assert_int_equal(host_wait(fixture->host, registry_publish(fixture->host->registry, &change, 1,
                                                                   host_on_done, fixture->host)),
                         KV_OK);
}

/* At first, the view of the new daemon is older than what the former one has published. */
static void availability_survives_a_restart_of_the_daemon_and_needs_no_write(void **state) {
        Fixture *fixture = *state;
        uint64_t index;

        run_available(fixture, "web.service");
        close_agent(fixture);
        put_available(fixture, "web.service", false);
        leader.hold = true;
        open_agent(fixture);
        UNTIL(fixture, leader.held);
        run_ms(fixture, 1000);
        put_available(fixture, "web.service", true);
        index = index_of(fixture, "web.service");
        leader.hold = false;
        leader.held->done(leader.held->userdata, KV_OK);
        for (unsigned i = 0; i < 3; i++) {
                run_ms(fixture, 6000);
                run_pending(fixture);
                assert_true(is_available(fixture, "web.service"));
        }
        assert_int_equal(index_of(fixture, "web.service"), index);
}

static void a_unit_with_another_text_is_available_after_the_watch_time(void **state) {
        Fixture *fixture = *state;
        char hash[UNIT_HASH_SIZE];

        run_available(fixture, "web.service");
        snprintf(hash, sizeof(hash), "%s", state_of(fixture, "web.service")->hash);
        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/two\n", ASSIGNMENT_RUN);
        UNTIL(fixture, !streq(state_of(fixture, "web.service")->hash, hash));
        assert_false(is_available(fixture, "web.service"));
        run_ms(fixture, UPDATE_WATCH_MS - 1000);
        run_pending(fixture);
        assert_false(is_available(fixture, "web.service"));
        await_available(fixture, "web.service");
}

static void restarting(SystemdUnit *seen) {
        seen->n_restarts = 3;
}

static void a_unit_that_systemd_restarts_again_and_again_is_failing(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        pretence = (Pretence) { .unit = "web.service", .change = restarting };
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_FAILING));
        assert_string_equal(state_of(fixture, "web.service")->active, "active");
        assert_string_equal(state_of(fixture, "web.service")->why,
                            "systemd restarted it 3 times before it was available");
        assert_false(is_available(fixture, "web.service"));
        await_available(fixture, "web.service");
        assert_true(has_health(fixture, "web.service", UNIT_HEALTH_PASSING));
        assert_null(state_of(fixture, "web.service")->why);
}

static void a_unit_that_failed_or_that_systemd_refused_is_failing(void **state) {
        Fixture *fixture = *state;

        run_available(fixture, "web.service");
        pretence = (Pretence) { .unit = "web.service", .active = "failed" };
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_FAILING));
        assert_false(is_available(fixture, "web.service"));

        bent.start = start_in_vain;
        vain = (Vain) { .unit = "other.service", .error = -EINVAL, .message = "Transaction is destructive." };
        assign(fixture, "other.service");
        UNTIL(fixture, has_health(fixture, "other.service", UNIT_HEALTH_FAILING));
        assert_string_equal(state_of(fixture, "other.service")->job, STATE_JOB_REFUSED);

        vain = (Vain) { .unit = "third.service", .error = -ENOSPC, .message = "no room" }; /* on the host */
        assign(fixture, "third.service");
        UNTIL(fixture, is_published(fixture, "third.service", "inactive"));
        UNTIL(fixture, state_of(fixture, "third.service")->reason);
        assert_string_equal(state_of(fixture, "third.service")->reason, "no room");
        assert_string_equal(state_of(fixture, "third.service")->job, "");
        assert_true(has_health(fixture, "third.service", UNIT_HEALTH_NONE));
        bent.start = real_ops->start;
        UNTIL(fixture, has_health(fixture, "third.service", UNIT_HEALTH_PASSING));
}

/* systemd answers a start when it has queued the job. Until it runs that, the unit has failed as before. */
static struct {
        char invocation[sizeof((SystemdUnit) {}.invocation_id)];
        bool queued;
} former;

static int start_queued(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        former.queued = true;
        return real_ops->start(s, name, done, userdata);
}

static void former_run(SystemdUnit *seen) {
        if (!former.invocation[0])
                snprintf(former.invocation, sizeof(former.invocation), "%s", seen->invocation_id);
        snprintf(seen->invocation_id, sizeof(seen->invocation_id), "%s", former.invocation);
        seen->job = former.queued;
}

static void a_failure_before_a_queued_start_is_none_of_the_next_text(void **state) {
        Fixture *fixture = *state;
        char hash[UNIT_HASH_SIZE];

        memset(&former, 0, sizeof(former));
        run_available(fixture, "web.service");
        snprintf(hash, sizeof(hash), "%s", state_of(fixture, "web.service")->hash);
        pretence = (Pretence) { .unit = "web.service", .active = "failed", .change = former_run };
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_FAILING));

        bent.start = start_queued;
        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/two\n", ASSIGNMENT_RUN);
        UNTIL(fixture, former.queued);
        UNTIL(fixture, !streq(state_of(fixture, "web.service")->hash, hash));
        for (unsigned i = 0; i < 10; i++) {
                assert_false(has_health(fixture, "web.service", UNIT_HEALTH_FAILING));
                run_ms(fixture, 100);
                run_pending(fixture);
        }
        pretence = (Pretence) {};
        sim_systemd_change(fixture->systemd, "web.service");
        await_available(fixture, "web.service");
}

static void health_is_measured_without_a_quorum_and_published_later(void **state) {
        Fixture *fixture = *state;
        uint64_t now_ms;

        run_unit(fixture, "web.service");
        leader.gone = true;
        agent_state_changed(fixture->agent);
        run_ms(fixture, 3 * UPDATE_WATCH_MS);
        run_pending(fixture);
        assert_false(is_available(fixture, "web.service"));
        leader.gone = false;
        agent_state_changed(fixture->agent);
        now_ms = world_now_ms(fixture->world);
        await_available(fixture, "web.service");
        assert_true(world_now_ms(fixture->world) - now_ms < UPDATE_WATCH_MS / 2); /* measured meanwhile */
}

#define CHECKED   "[Service]\nExecStart=/bin/one\n[X-Fleet]\nHealthHttp=8080/ready\n"
#define RESTARTED CHECKED "HealthAction=restart\n"

static void a_unit_is_healthy_when_its_check_passes_and_passing_checks_write_nothing(void **state) {
        Fixture *fixture = *state;
        uint64_t index;

        fixture->probed = (SimProbe) { .why = "HTTP 503 from 127.0.0.1:8080/ready", .takes_ms = 5 };
        assign_to(fixture, "web.service", CHECKED "HealthStartSec=60\n", ASSIGNMENT_RUN);
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_STARTING));
        run_ms(fixture, 20000);
        run_pending(fixture);
        assert_true(has_health(fixture, "web.service", UNIT_HEALTH_STARTING));
        fixture->probed.passed = true;
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_PASSING));
        assert_false(is_available(fixture, "web.service"));
        await_available(fixture, "web.service");
        run_pending(fixture);

        index = index_of(fixture, "web.service");
        fixture->n_probes = 0;
        for (unsigned i = 0; i < 10; i++) {
                run_ms(fixture, 10000);
                run_pending(fixture);
        }
        assert_in_range(fixture->n_probes, 9, 11);
        assert_int_equal(index_of(fixture, "web.service"), index);

        fixture->probed.passed = false;
        run_ms(fixture, 20000);
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_FAILING));
        assert_string_equal(state_of(fixture, "web.service")->why,
                            "HTTP 503 from 127.0.0.1:8080/ready, 3 times");
        assert_false(is_available(fixture, "web.service"));
        assert_int_equal(n_stops, 0); /* no action by default */
}

/* The result of its first check is due, and until then it is not available: that is no failure. */
static void a_unit_that_gets_its_first_check_has_not_failed(void **state) {
        Fixture *fixture = *state;
        char hash[UNIT_HASH_SIZE];

        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN);
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_PASSING));
        await_available(fixture, "web.service");
        snprintf(hash, sizeof(hash), "%s", state_of(fixture, "web.service")->hash);
        fixture->probed = (SimProbe) { .passed = true, .takes_ms = 5 };
        assign_to(fixture, "web.service", CHECKED, ASSIGNMENT_RUN);
        for (unsigned i = 0; i < 100; i++) {
                run_ms(fixture, 100);
                run_pending(fixture);
                assert_false(state_of(fixture, "web.service")->lapsed);
                assert_false(has_health(fixture, "web.service", UNIT_HEALTH_FAILING));
        }
        assert_string_not_equal(state_of(fixture, "web.service")->hash, hash);
        await_available(fixture, "web.service");
        assert_int_equal(n_stops, 0);
}

static void the_checks_of_a_unit_that_does_not_run_are_not_probed(void **state) {
        Fixture *fixture = *state;

        assign_to(fixture, "web.service", CHECKED, ASSIGNMENT_LOAD);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        run_ms(fixture, 5000);
        assert_int_equal(fixture->n_probes, 0);
        assign_to(fixture, "web.service", CHECKED, ASSIGNMENT_RUN);
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_PASSING));
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, is_gone(fixture, "web.service"));
        fixture->n_probes = 0;
        run_ms(fixture, 60000);
        assert_int_equal(fixture->n_probes, 0);
}

static void checks_of_a_new_daemon_keep_the_published_health(void **state) {
        Fixture *fixture = *state;
        uint64_t index;

        assign_to(fixture, "web.service", CHECKED, ASSIGNMENT_RUN);
        await_available(fixture, "web.service");
        run_pending(fixture);
        index = index_of(fixture, "web.service");
        close_agent(fixture);
        fixture->probed.passed = false;
        open_agent(fixture);
        fixture->n_probes = 0;
        while (fixture->n_probes < 2)
                run_ms(fixture, 100);
        run_pending(fixture);
        assert_int_equal(index_of(fixture, "web.service"), index);
        assert_true(is_available(fixture, "web.service"));
        fixture->probed.passed = true;
        run_ms(fixture, 60000);
        run_pending(fixture);
        assert_int_equal(index_of(fixture, "web.service"), index);
}

static void a_failing_unit_is_restarted_by_its_action_also_without_a_quorum(void **state) {
        Fixture *fixture = *state;
        unsigned before;

        assign_to(fixture, "web.service", RESTARTED, ASSIGNMENT_RUN);
        await_available(fixture, "web.service");
        run_pending(fixture);
        leader.gone = true;
        agent_state_changed(fixture->agent);
        before = n_starts;
        fixture->probed.passed = false;
        run_ms(fixture, 35000); /* three failures */
        run_pending(fixture);
        assert_int_equal(n_starts - before, 1);
        run_ms(fixture, 20000); /* the next one 30 s after it */
        assert_int_equal(n_starts - before, 1);
        run_ms(fixture, 20000);
        assert_int_equal(n_starts - before, 2);
        run_ms(fixture, 30000); /* then after 60 s */
        assert_int_equal(n_starts - before, 2);
        fixture->probed.passed = true;
        leader.gone = false;
        agent_state_changed(fixture->agent);
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_PASSING));
        assert_true(n_starts - before <= 3);
}

#define BY_COMMAND(command) \
        "[Service]\nExecStart=/bin/one\n[X-Fleet]\nHealthAction=restart\nHealthExec=" command "\n"

static bool is_unchecked(Fixture *fixture, const char *why) {
        const UnitState *s = state_of(fixture, "web.service");

        return s && s->unchecked && s->why && streq(s->why, why);
}

/* The host cannot run it: as long as that lasts, the unit stays what it was. */
static void a_check_that_cannot_run_restarts_nothing_and_is_a_problem_of_the_host(void **state) {
        Fixture *fixture = *state;
        unsigned before;

        assign_to(fixture, "web.service", BY_COMMAND("/bin/check a"), ASSIGNMENT_RUN);
        await_available(fixture, "web.service");
        before = n_starts;
        fixture->probed = (SimProbe) { .unknown = true, .why = "no room" };
        run_ms(fixture, 600000);
        run_pending(fixture);
        assert_true(is_unchecked(fixture, "a check cannot run there: no room"));
        assert_string_equal(fixture->checks,
                            "health checks of 1 unit cannot run, such as of web.service: no room");
        assert_true(is_available(fixture, "web.service"));
        assert_int_equal(n_starts, before);
        fixture->probed = (SimProbe) { .passed = true };
        UNTIL(fixture, !state_of(fixture, "web.service")->unchecked && !fixture->checks[0]);
        assert_null(state_of(fixture, "web.service")->why);

        fixture->probed = (SimProbe) { .not_executed = true, .why = "no program" };
        run_ms(fixture, 60000);
        run_pending(fixture);
        assert_true(is_unchecked(fixture, "a check cannot run there: no program"));
        close_agent(fixture);
        open_agent(fixture);
        sim_systemd_restart(fixture->systemd, "web.service"); /* nothing but the record shows that it ran */
        UNTIL(fixture, has_health(fixture, "web.service", UNIT_HEALTH_STARTING));
        run_ms(fixture, 600000);
        run_pending(fixture);
        assert_true(is_unchecked(fixture, "a check cannot run there: no program"));
        assert_true(has_health(fixture, "web.service", UNIT_HEALTH_STARTING));
        before = n_starts;

        assign_to(fixture, "web.service", BY_COMMAND("/bin/check a") "UpdateWatchSec=20\n", ASSIGNMENT_RUN);
        run_ms(fixture, 600000);
        run_pending(fixture);
        assert_true(is_unchecked(fixture, "a check cannot run there: no program"));
        assert_int_equal(n_starts, before);
        assign_to(fixture, "web.service", BY_COMMAND("/bin/check b"),
                  ASSIGNMENT_RUN); /* a fault of the text */
        run_ms(fixture, 60000);
        run_pending(fixture);
        assert_false(state_of(fixture, "web.service")->unchecked);
        assert_true(has_health(fixture, "web.service", UNIT_HEALTH_FAILING));
        assert_int_equal(n_starts, before); /* a start provides no program */
}

/* The other instances are on this host, too: the count is that of the cluster view. */
static void no_unit_is_restarted_while_most_of_its_set_is_unhealthy(void **state) {
        Fixture *fixture = *state;
        unsigned before;

        assign_to(fixture, "web@1.service", RESTARTED, ASSIGNMENT_RUN);
        assign_to(fixture, "web@2.service", RESTARTED, ASSIGNMENT_RUN);
        assign_to(fixture, "web@3.service", RESTARTED, ASSIGNMENT_RUN);
        UNTIL(fixture, is_available(fixture, "web@1.service") && is_available(fixture, "web@2.service") &&
                               is_available(fixture, "web@3.service"));
        before = n_starts;
        fixture->probed.passed = false; /* of all three */
        for (unsigned i = 0; i < 120; i++) {
                run_ms(fixture, i < 60 ? 500 : 3000);
                run_pending(fixture);
        }
        assert_in_range(n_starts - before, 0, 1); /* the first one, before the others were failing */
        assert_non_null(strstr(state_of(fixture, "web@1.service")->why,
                               "; not restarted while more than half of its instances are unhealthy"));
        fixture->probed.passed = true;
        UNTIL(fixture, has_health(fixture, "web@1.service", UNIT_HEALTH_PASSING));
        assert_null(state_of(fixture, "web@1.service")->why);
}

static void instances_that_are_loaded_only_suspend_no_restart(void **state) {
        Fixture *fixture = *state;
        unsigned before;

        assign_to(fixture, "web@1.service", RESTARTED, ASSIGNMENT_RUN);
        assign_to(fixture, "web@2.service", RESTARTED, ASSIGNMENT_LOAD);
        assign_to(fixture, "web@3.service", RESTARTED, ASSIGNMENT_LOAD);
        UNTIL(fixture, is_published(fixture, "web@1.service", "active") &&
                               is_published(fixture, "web@2.service", "inactive") &&
                               is_published(fixture, "web@3.service", "inactive"));
        await_available(fixture, "web@1.service");
        before = n_starts;
        fixture->probed.passed = false;
        run_ms(fixture, 35000); /* three failures */
        run_pending(fixture);
        assert_int_equal(n_starts - before, 1);
}

/* The probes that were due meanwhile begin late: that they fail says nothing about the units. */
static void a_stalled_agent_restarts_nothing(void **state) {
        enum { UNITS = 5, STALL_MS = 20000 };
        Fixture *fixture = *state;
        uint64_t indices[UNITS];
        unsigned starts;
        char unit[32];

        for (unsigned i = 0; i < UNITS; i++) {
                snprintf(unit, sizeof(unit), "web%u.service", i);
                assign_to(fixture, unit, RESTARTED "HealthFailures=1\n", ASSIGNMENT_RUN);
                UNTIL(fixture, is_published(fixture, unit, "active"));
        }
        for (unsigned i = 0; i < UNITS; i++) {
                snprintf(unit, sizeof(unit), "web%u.service", i);
                await_available(fixture, unit);
                indices[i] = index_of(fixture, unit);
        }
        starts = n_starts;
        fixture->n_probes = 0;
        fixture->probed.passed = false;
        world_loop_pause(fixture->loop, STALL_MS);
        run_ms(fixture, STALL_MS + 20);
        assert_int_equal(fixture->n_probes, UNITS);
        fixture->probed.passed = true;
        run_ms(fixture, 30000);
        run_pending(fixture);
        assert_int_equal(n_starts, starts);
        assert_int_equal(n_stops, 0);
        for (unsigned i = 0; i < UNITS; i++) {
                snprintf(unit, sizeof(unit), "web%u.service", i);
                assert_int_equal(index_of(fixture, unit), indices[i]);
        }

        fixture->probed.passed = false; /* on time */
        run_ms(fixture, 15000);
        assert_true(n_starts > starts);
}

static void on_written(void *userdata, const KvResult *result) {
        host_on_done(userdata, result->status, "", result->index);
}

/* Another machine is up, has the unit assigned, and publishes this health. */
static void publish_elsewhere(Fixture *fixture, const char *unit, const char *health) {
        static const char other[] = "0000000000000000000000000000000b";
        Host *host = fixture->host;
        _cleanup_text_ Text key = {}, value = {};
        char id[MACHINE_ID_SIZE];
        KvCommand cmd = { .op = KV_SET, .internal = true };
        uint64_t number;

        memcpy(id, host->id, sizeof(id));
        memcpy(host->id, other, sizeof(other));
        host_machine(host);
        host_order(host, unit, ASSIGNMENT_RUN);
        memcpy(host->id, id, sizeof(id));
        text_printf(&key, "/_fleet/state/%s/%s", unit, other);
        text_printf(&value,
                    "{\"active\":\"active\",\"health\":\"%s\",\"load\":\"loaded\",\"sub\":\"running\"}",
                    health);
        cmd.key = kv_string(key.chars);
        cmd.value = kv_string(value.chars);
        assert_int_equal(host_wait(host, kv_propose(host->store, &cmd, on_written, host, &number)), KV_OK);
}

static void a_global_unit_is_a_set_with_its_other_machines(void **state) {
        Fixture *fixture = *state;
        unsigned before;

        assign_to(fixture, "web.service", RESTARTED "Global=yes\n", ASSIGNMENT_RUN);
        await_available(fixture, "web.service");
        publish_elsewhere(fixture, "web.service", "failing");
        before = n_starts;
        fixture->probed.passed = false;
        run_ms(fixture, 35000); /* three failures */
        run_pending(fixture);
        assert_int_equal(n_starts, before);
        publish_elsewhere(fixture, "web.service", "passing");
        UNTIL(fixture, n_starts > before);
}

static bool why_contains(Fixture *fixture, const char *unit, const char *part) {
        const UnitState *s = state_of(fixture, unit);

        return s && s->why && strstr(s->why, part);
}

static unsigned n_asked_after(Fixture *fixture, uint64_t ms) {
        unsigned before = fixture->n_asked;

        for (; ms > 0; ms -= 1000) {
                run_ms(fixture, 1000);
                run_pending(fixture);
        }
        return fixture->n_asked - before;
}

/* It has no states of other machines, which may be overloaded, too: a replica counts them. */
static void an_attached_host_restarts_an_instance_of_a_set_when_a_replica_has_counted_it(void **state) {
        static const char unanswered[] =
                "; not restarted: no replica answers this attached host with the health of the set";
        static const char *const sets[][2] = { { "web@1.service", RESTARTED },
                                               { "global.service", RESTARTED "Global=yes\n" } };
        Fixture *fixture = *state;
        unsigned before;

        leader.attached = true;
        for (size_t i = 0; i < ELEMENTS(sets); i++) {
                const char *name = sets[i][0];

                fixture->probed.passed = true;
                assign_to(fixture, name, sets[i][1], ASSIGNMENT_RUN);
                UNTIL(fixture, is_available(fixture, name));
                run_pending(fixture);
                before = n_starts;
                fixture->probed.passed = false;
                (void) n_asked_after(fixture, 60000);
                assert_in_range(fixture->n_asked, 2, 12);
                assert_true(why_contains(fixture, name, unanswered));
                assert_int_equal(n_starts - before, 0);

                /* With this one, three of four; then two of four. */
                agent_take_set(fixture->agent, name, &(SetHealth) { .n = 3, .n_unhealthy = 2 });
                assert_int_equal(n_asked_after(fixture, 25000), 0);
                assert_true(why_contains(fixture, name,
                                         "; not restarted while more than half of its instances are "
                                         "unhealthy"));
                assert_int_equal(n_starts - before, 0);
                assert_in_range(n_asked_after(fixture, 10000), 1, 2);
                agent_take_set(fixture->agent, name, &(SetHealth) { .n = 3, .n_unhealthy = 1 });
                (void) n_asked_after(fixture, 3000);
                assert_int_equal(n_starts - before, 1);
                host_order(fixture->host, name, ASSIGNMENT_STOP);
                UNTIL(fixture, is_gone(fixture, name));
                fixture->n_asked = 0;
        }
}

static void an_attached_host_restarts_a_unit_that_is_a_set_of_its_own(void **state) {
        Fixture *fixture = *state;
        unsigned before;

        leader.attached = true;
        assign_to(fixture, "one.service", RESTARTED, ASSIGNMENT_RUN);
        UNTIL(fixture, is_available(fixture, "one.service"));
        before = n_starts;
        fixture->probed.passed = false;
        assert_int_equal(n_asked_after(fixture, 40000), 0);
        assert_true(n_starts > before);
}

static void checks_above_the_limits_of_a_host_are_reported_once_a_minute(void **state) {
        Fixture *fixture = *state;
        char unit[32];

        fixture->probed.takes_ms = 2000;
        for (unsigned i = 0; i < 40; i++) {
                snprintf(unit, sizeof(unit), "web@%u.service", i);
                assign_to(fixture, unit,
                          "[Service]\nExecStart=/bin/one\n[X-Fleet]\nHealthExec=/bin/slow\nHealthIntervalSec="
                          "5s\n",
                          ASSIGNMENT_RUN);
        }
        while (!fixture->checks[0]) {
                run_ms(fixture, 1000);
                run_pending(fixture);
        }
        assert_non_null(strstr(fixture->checks, "s instead of 5s: 40 checks"));
        run_ms(fixture, 300000);
        assert_in_range(fixture->n_reports, 3, 6);
        fixture->probed.takes_ms = 10;
        run_ms(fixture, 120000);
        assert_string_equal(fixture->checks, "");
}

static void below_its_feature_level_no_health_is_published(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        run_ms(fixture, 2 * UPDATE_WATCH_MS);
        run_pending(fixture);
        assert_true(has_health(fixture, "web.service", UNIT_HEALTH_NONE));
        assert_false(is_available(fixture, "web.service"));
        leader.level = KV_LEVEL_UPDATES;
        await_available(fixture, "web.service");
        assert_true(has_health(fixture, "web.service", UNIT_HEALTH_PASSING));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                at_level_updates(a_unit_is_published_as_available_after_the_watch_time_and_then_nothing_is),
                at_level_updates(availability_survives_a_restart_of_the_daemon_and_needs_no_write),
                at_level_updates(a_unit_with_another_text_is_available_after_the_watch_time),
                at_level_updates(a_unit_that_systemd_restarts_again_and_again_is_failing),
                at_level_updates(a_unit_that_failed_or_that_systemd_refused_is_failing),
                at_level_updates(a_failure_before_a_queued_start_is_none_of_the_next_text),
                at_level_updates(health_is_measured_without_a_quorum_and_published_later),
                at_level_updates(a_unit_is_healthy_when_its_check_passes_and_passing_checks_write_nothing),
                at_level_updates(a_unit_that_gets_its_first_check_has_not_failed),
                at_level_updates(the_checks_of_a_unit_that_does_not_run_are_not_probed),
                at_level_updates(checks_of_a_new_daemon_keep_the_published_health),
                at_level_updates(a_failing_unit_is_restarted_by_its_action_also_without_a_quorum),
                at_level_updates(a_check_that_cannot_run_restarts_nothing_and_is_a_problem_of_the_host),
                at_level_updates(no_unit_is_restarted_while_most_of_its_set_is_unhealthy),
                at_level_updates(instances_that_are_loaded_only_suspend_no_restart),
                at_level_updates(a_stalled_agent_restarts_nothing),
                at_level_updates(a_global_unit_is_a_set_with_its_other_machines),
                at_level_updates(
                        an_attached_host_restarts_an_instance_of_a_set_when_a_replica_has_counted_it),
                at_level_updates(an_attached_host_restarts_a_unit_that_is_a_set_of_its_own),
                at_level_updates(checks_above_the_limits_of_a_host_are_reported_once_a_minute),
                cmocka_unit_test_setup_teardown(below_its_feature_level_no_health_is_published, former_setup,
                                                faulty_fixture_teardown),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
