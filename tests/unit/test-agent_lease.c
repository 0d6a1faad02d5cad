/* The lease of singletons (fleetd/agent/lease.c), with a systemd in virtual time. */

#include "tests/lib/test.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "units/singleton.h"

#define ONCE "[Service]\nExecStart=/bin/one\n[X-Fleet]\nSingleton=yes\n"

/* What the guard of the unit was told last. */
static struct {
        uint64_t until_ms, token;
        unsigned n;
        int error;
} guard;

static int guard_recorded(Systemd *s, const char *name, uint64_t until_ms, uint64_t token) {
        assert_string_equal(name, "one.service");
        if (guard.error < 0)
                return guard.error;
        guard.until_ms = until_ms;
        guard.token = token ?: guard.token;
        guard.n++;
        return real_ops->guard(s, name, until_ms, token);
}

static int setup(void **state) {
        int r = faulty_fixture_setup(state);

        bent.guard = guard_recorded;
        memset(&guard, 0, sizeof(guard));
        return r;
}

static int teardown(void **state) {
        leader.hold = false;
        return faulty_fixture_teardown(state);
}

static uint64_t boot_ms(const Fixture *fixture) {
        return loop_boot_ms(world_loop(fixture->loop));
}

/* Answer the request that is held. */
static void answer(Fixture *fixture, KvStatus status) {
        KvSync *sync = leader.held;

        leader.held = NULL;
        sync->done(sync->userdata, status);
        run_pending(fixture);
}

static bool runs(const Fixture *fixture) {
        return sim_systemd_runs(fixture->systemd, "one.service");
}

/* Pass virtual time, in which the store replies. */
static void pass_ms(Fixture *fixture, uint64_t ms) {
        for (unsigned i = 0; i < 10; i++) {
                run_ms(fixture, ms / 10);
                run_pending(fixture);
        }
}

static void run_singleton(Fixture *fixture) {
        assign_to(fixture, "one.service", ONCE, ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "one.service", "active"));
        run_pending(fixture);
}

/* Hold the next request: *ret is a time before which it did not begin. */
static void hold_request(Fixture *fixture, uint64_t *ret) {
        leader.hold = true;
        *ret = boot_ms(fixture);
        UNTIL(fixture, leader.held);
}

static void a_singleton_starts_with_a_lease_only(void **state) {
        Fixture *fixture = *state;

        leader.hold = true;
        assign_to(fixture, "one.service", ONCE, ASSIGNMENT_RUN);
        UNTIL(fixture, leader.held);
        pass_ms(fixture, 300);
        assert_false(runs(fixture));
        assert_int_equal(guard.n, 0);

        answer(fixture, KV_NO_LEADER);
        UNTIL(fixture, leader.held); /* it is requested again */
        assert_false(runs(fixture));
        answer(fixture, KV_OK);
        UNTIL(fixture, runs(fixture));
        assert_in_range(guard.until_ms, boot_ms(fixture), boot_ms(fixture) + SINGLETON_LEASE_MS);
}

static void an_ordinary_unit_needs_no_lease(void **state) {
        Fixture *fixture = *state;

        leader.hold = true;
        run_unit(fixture, "web.service");
        assert_null(leader.held);
        assert_int_equal(guard.n, 0);
}

static void the_token_is_the_index_of_the_assignment(void **state) {
        Fixture *fixture = *state;

        run_singleton(fixture);
        assert_int_equal(guard.token, cluster_assignment(registry_cluster(fixture->host->registry),
                                                         fixture->host->id, "one.service")
                                              ->index);
}

/* The daemon, and its host, may stand still between the answer and the moment when it is read. */
static void a_lease_begins_at_its_request(void **state) {
        Fixture *fixture = *state;
        uint64_t requested_ms, begun_ms;

        run_singleton(fixture);
        hold_request(fixture, &requested_ms);
        begun_ms = boot_ms(fixture);
        world_loop_suspend(fixture->loop, 5000);
        run_ms(fixture, 5000);
        answer(fixture, KV_OK);
        assert_in_range(guard.until_ms, requested_ms + SINGLETON_LEASE_MS, begun_ms + SINGLETON_LEASE_MS);
}

static void an_answer_after_the_lease_starts_nothing(void **state) {
        Fixture *fixture = *state;
        uint64_t requested_ms;

        run_singleton(fixture);
        hold_request(fixture, &requested_ms);
        world_loop_suspend(fixture->loop, SINGLETON_LEASE_MS);
        run_ms(fixture, SINGLETON_LEASE_MS + SINGLETON_WATCHDOG_MS + SINGLETON_STOP_MS);
        assert_false(runs(fixture));
        answer(fixture, KV_OK);
        pass_ms(fixture, 1000);
        assert_false(runs(fixture));
}

static void a_unit_that_lost_its_lease_runs_again_with_the_next_one(void **state) {
        Fixture *fixture = *state;
        uint64_t requested_ms;

        run_singleton(fixture);
        hold_request(fixture, &requested_ms);
        run_ms(fixture, SINGLETON_LEASE_MS + SINGLETON_WATCHDOG_MS + SINGLETON_STOP_MS);
        assert_false(runs(fixture));
        leader.hold = false;
        answer(fixture, KV_OK);
        UNTIL(fixture, runs(fixture));
}

static void a_stop_withdraws_the_lease(void **state) {
        Fixture *fixture = *state;
        unsigned n;

        run_singleton(fixture);
        host_order(fixture->host, "one.service", ASSIGNMENT_STOP);
        UNTIL(fixture, is_gone(fixture, "one.service"));
        assert_false(runs(fixture));
        assert_int_equal(guard.until_ms, 0);

        n = guard.n;
        leader.hold = true;
        pass_ms(fixture, SINGLETON_LEASE_MS);
        assert_int_equal(guard.n, n);
        assert_null(leader.held); /* no unit needs it */
}

static void a_guard_without_its_file_starts_nothing(void **state) {
        Fixture *fixture = *state;

        guard.error = -ENOSPC;
        count_messages("Failed to start one.service");
        assign_to(fixture, "one.service", ONCE, ASSIGNMENT_RUN);
        UNTIL(fixture, n_logged > 0);
        count_messages(NULL);
        assert_false(runs(fixture));
        guard.error = 0;
        UNTIL(fixture, runs(fixture));
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_singleton_starts_with_a_lease_only),
                TEST(an_ordinary_unit_needs_no_lease),
                TEST(the_token_is_the_index_of_the_assignment),
                TEST(a_lease_begins_at_its_request),
                TEST(an_answer_after_the_lease_starts_nothing),
                TEST(a_unit_that_lost_its_lease_runs_again_with_the_next_one),
                TEST(a_stop_withdraws_the_lease),
                TEST(a_guard_without_its_file_starts_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
