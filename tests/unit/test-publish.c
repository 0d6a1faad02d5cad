/* Publication of a host's states, and its rate limits. */

#include "tests/lib/test.h"
#include "fleetd/agent/publish.h"
#include "tests/lib/host.h"
#include "tests/lib/side_by_side.h"

typedef struct Fixture {
        Host *host;
        Publisher *publisher;
        unsigned idle;
} Fixture;

/* The last delay of the publisher's timer. */
static const void *timed;
static uint64_t delayed_ms;

int __real_timer_start_by(Timer *timer, Loop *loop, uint64_t due_ms, uint64_t slack_ms);
int __wrap_timer_start_by(Timer *timer, Loop *loop, uint64_t due_ms, uint64_t slack_ms);

int __wrap_timer_start_by(Timer *timer, Loop *loop, uint64_t due_ms, uint64_t slack_ms) {
        if (timer->userdata == timed)
                delayed_ms = due_ms - loop_now_ms(loop);
        return __real_timer_start_by(timer, loop, due_ms, slack_ms);
}

static void on_idle(void *userdata) {
        ((Fixture *) userdata)->idle++;
}

static int fixture_setup(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);

        fixture->host = host_new(false);
        assert_int_equal(publisher_new(&fixture->publisher, fixture->host->loop, fixture->host->registry,
                                       on_idle, fixture),
                         0);
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        publisher_free(fixture->publisher);
        host_free(fixture->host);
        free(fixture);
        return 0;
}

static void publish(Fixture *fixture, const char *unit, const char *sub) {
        StateChange change = {};

        snprintf(change.unit, sizeof(change.unit), "%s", unit);
        assert_int_equal(unit_state_init(&change.state, "loaded", "active", sub, NULL, 1, false), 0);
        assert_int_equal(publisher_send(fixture->publisher, &change, 1), 0);
        unit_state_done(&change.state);
}

static bool has(Fixture *fixture, const char *unit, const char *sub) {
        const ClusterState *s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                              unit);

        return s && streq(s->state.sub, sub);
}

/* One of several publications is fast even on a slow machine. */
static void a_success_causes_no_pause(void **state) {
        Fixture *fixture = *state;
        bool quick = false;

        for (unsigned i = 0; !quick && i < 8; i++) {
                uint64_t begun_ms = loop_now_ms(fixture->host->loop);
                char unit[32];

                snprintf(unit, sizeof(unit), "u%u.service", i);
                publish(fixture, unit, "running");
                HOST_UNTIL(fixture->host, publisher_ready(fixture->publisher));
                quick = loop_now_ms(fixture->host->loop) - begun_ms < 900;
        }
        assert_true(quick);
}

static void a_state_is_sent_at_once_and_the_callback_comes_when_the_next_one_may_be(void **state) {
        Fixture *fixture = *state;

        assert_true(publisher_ready(fixture->publisher));
        publish(fixture, "web.service", "running");
        assert_false(publisher_ready(fixture->publisher));
        HOST_UNTIL(fixture->host, has(fixture, "web.service", "running"));
        HOST_UNTIL(fixture->host, publisher_ready(fixture->publisher));
        publish(fixture, "other.service", "running");
        HOST_UNTIL(fixture->host, has(fixture, "other.service", "running"));
        assert_false(publisher_ready(fixture->publisher)); /* two in a row, and no more */
        fixture->idle = 0;
        HOST_UNTIL(fixture->host, fixture->idle > 0);
        assert_true(publisher_ready(fixture->publisher));
}

/* Another change may be offered in the gap: then no other callback would end it. */
static void a_rejected_offer_is_followed_by_a_callback_when_it_is_possible(void **state) {
        Fixture *fixture = *state;

        publish(fixture, "web.service", "running");
        HOST_UNTIL(fixture->host,
                   has(fixture, "web.service", "running") && publisher_ready(fixture->publisher));
        publish(fixture, "other.service", "running");
        HOST_UNTIL(fixture->host, has(fixture, "other.service", "running"));
        fixture->idle = 0;
        publisher_wake_at(fixture->publisher, loop_now_ms(fixture->host->loop));
        HOST_UNTIL(fixture->host, fixture->idle > 0);
        assert_false(publisher_ready(fixture->publisher));
        fixture->idle = 0;
        HOST_UNTIL(fixture->host, fixture->idle > 0);
        assert_true(publisher_ready(fixture->publisher));
}

static void at_most_five_transactions_are_sent_in_a_second(void **state) {
        Fixture *fixture = *state;
        uint64_t begun_ms = loop_now_ms(fixture->host->loop);
        char unit[32];

        for (unsigned i = 0; i < 6; i++) {
                snprintf(unit, sizeof(unit), "u%u.service", i);
                HOST_UNTIL(fixture->host, publisher_ready(fixture->publisher));
                publish(fixture, unit, "running");
        }
        assert_true(loop_now_ms(fixture->host->loop) - begun_ms >= 1000);
        HOST_UNTIL(fixture->host, has(fixture, "u5.service", "running"));
}

static void a_flapping_unit_is_published_once_a_second_and_delays_no_other_unit(void **state) {
        Fixture *fixture = *state;
        uint64_t begun_ms = loop_now_ms(fixture->host->loop), last_ms = 0;
        unsigned sent = 0;
        char sub[32];

        while (loop_now_ms(fixture->host->loop) - begun_ms < 2500) {
                HOST_UNTIL(fixture->host, publisher_ready(fixture->publisher));
                if (!publisher_allows(fixture->publisher, "flaps.service")) {
                        assert_true(publisher_allows(fixture->publisher, "calm.service"));
                        fixture->idle = 0;
                        HOST_UNTIL(fixture->host, fixture->idle > 0);
                        continue;
                }
                assert_true(sent == 0 || loop_now_ms(fixture->host->loop) - last_ms >= 1000);
                last_ms = loop_now_ms(fixture->host->loop);
                snprintf(sub, sizeof(sub), "s%u", sent++);
                publish(fixture, "flaps.service", sub);
        }
        assert_in_range(sent, 2, 3); /* the first at once */
        assert_true(publisher_allows(fixture->publisher, "calm.service"));
}

static void the_effect_of_an_assignment_is_published_at_once(void **state) {
        Fixture *fixture = *state;

        publish(fixture, "web.service", "running");
        assert_false(publisher_allows(fixture->publisher, "web.service"));
        HOST_UNTIL(fixture->host, publisher_ready(fixture->publisher));
        publish(fixture, "web.service", "failed");
        HOST_UNTIL(fixture->host, has(fixture, "web.service", "failed"));
        assert_false(publisher_ready(fixture->publisher));
        publisher_expedite(fixture->publisher, "web.service");
        assert_true(publisher_ready(fixture->publisher));
        assert_true(publisher_allows(fixture->publisher, "web.service"));
        publisher_expedite(fixture->publisher, "other.service"); /* it was never published */
}

static void without_a_quorum_publication_is_retried(void **state) {
        Fixture *fixture = NEW0(Fixture, 1);
        uint64_t begun_ms;

        fixture->host = host_new(true);
        assert_int_equal(publisher_new(&fixture->publisher, fixture->host->loop, fixture->host->registry,
                                       on_idle, fixture),
                         0);
        begun_ms = loop_now_ms(fixture->host->loop);
        publish(fixture, "web.service", "running");
        timed = fixture;
        HOST_UNTIL(fixture->host, fixture->idle > 0);
        timed = NULL;
        assert_int_equal(delayed_ms, 1000);
        assert_true(loop_now_ms(fixture->host->loop) - begun_ms >= 1000); /* after a pause */
        assert_int_equal(registry_counts(fixture->host->registry)->failed, 1);
        assert_true(publisher_ready(fixture->publisher));
        *state = fixture;
        (void) fixture_teardown(state);
}

static void a_publisher_that_is_freed_during_a_transaction_gets_no_callback(void **state) {
        Fixture *fixture = *state;
        unsigned idle;

        publish(fixture, "web.service", "running");
        fixture->publisher = publisher_free(fixture->publisher);
        idle = fixture->idle;
        HOST_UNTIL(fixture->host, has(fixture, "web.service", "running"));
        assert_int_equal(fixture->idle, idle);
}

/* -- A leader that rejects one endpoint -- */

enum { ENDPOINTS = 6, BAD = 3, LAST_MS = 6500 };

static struct {
        bool active, on_way;
        unsigned n, rejected;
        RegistryDone done;
        void *userdata;
        KvStatus status;
        unsigned n_endpoints; /* of the batch */
        bool states[ENDPOINTS], registered[ENDPOINTS];
} leader;

int __real_registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done,
                            void *userdata);
int __wrap_registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done,
                            void *userdata);
uint64_t __real_registry_endpoint_wait_ms(const Registry *r);
uint64_t __wrap_registry_endpoint_wait_ms(const Registry *r);

uint64_t __wrap_registry_endpoint_wait_ms(const Registry *r) {
        return leader.active ? 0 : __real_registry_endpoint_wait_ms(r);
}

int __wrap_registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done,
                            void *userdata) {
        if (!leader.active)
                return __real_registry_publish(r, changes, n, done, userdata);
        leader.done = done;
        leader.userdata = userdata;
        leader.n_endpoints = 0;
        leader.status = KV_OK;
        for (size_t i = 0; i < n; i++)
                if (changes[i].endpoint_write == ENDPOINT_SET) {
                        leader.n_endpoints++;
                        if (atoi(changes[i].unit) == BAD)
                                leader.status = KV_FORBIDDEN;
                }
        for (size_t i = 0; i < n && leader.status == KV_OK; i++) {
                leader.states[atoi(changes[i].unit)] = true;
                leader.registered[atoi(changes[i].unit)] |= changes[i].endpoint_write == ENDPOINT_SET;
        }
        leader.n++;
        leader.rejected += leader.status != KV_OK;
        return 0;
}

/* Offer what the leader does not have, as the agent does. */
static void offer(Fixture *f) {
        static StateChange changes[ENDPOINTS];
        size_t n = 0;

        for (unsigned i = 0; i < ENDPOINTS && publisher_ready(f->publisher); i++) {
                StateChange *s = &changes[n];

                *s = (StateChange) {};
                snprintf(s->unit, sizeof(s->unit), "%u.service", i);
                if (!leader.registered[i] && publisher_takes_endpoint(f->publisher, s->unit))
                        s->endpoint_write = ENDPOINT_SET;
                n += (!leader.states[i] || s->endpoint_write == ENDPOINT_SET) &&
                     publisher_allows(f->publisher, s->unit);
        }
        if (n == 0)
                return;
        assert_int_equal(publisher_send(f->publisher, changes, n), 0);
        leader.done(leader.userdata, leader.status, "no", 0);
}

/* Its states do not wait, nor do the endpoints of other units, and it is offered less and less often. */
static void a_rejected_endpoint_delays_no_other(void **state) {
        Fixture *f = *state;
        uint64_t begun_ms = loop_now_ms(f->host->loop), now_ms = begun_ms, states_ms = 0, all_ms = 0;

        memset(&leader, 0, sizeof(leader));
        leader.active = true;
        while (now_ms - begun_ms < LAST_MS) {
                unsigned n_states = 0, n_registered = 0;

                offer(f);
                for (unsigned i = 0; i < ENDPOINTS; i++) {
                        n_states += leader.states[i];
                        n_registered += leader.registered[i];
                }
                if (n_states == ENDPOINTS && states_ms == 0)
                        states_ms = now_ms - begun_ms;
                if (n_registered == ENDPOINTS - 1 && all_ms == 0)
                        all_ms = now_ms - begun_ms;
                f->idle = 0;
                HOST_UNTIL(f->host, f->idle > 0);
                now_ms = loop_now_ms(f->host->loop);
        }
        leader.active = false;
        assert_in_range(states_ms, 0, 900);
        assert_in_range(all_ms, 1, 2000 + (ENDPOINTS + 2) * 250 + 1000);
        assert_in_range(leader.rejected, 2, 3);
        assert_false(leader.registered[BAD]);
}

int main(int argc, char *argv[]) {
#define in_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_fixture(a_success_causes_no_pause),
                in_fixture(a_state_is_sent_at_once_and_the_callback_comes_when_the_next_one_may_be),
                in_fixture(a_rejected_offer_is_followed_by_a_callback_when_it_is_possible),
                in_fixture(at_most_five_transactions_are_sent_in_a_second),
                in_fixture(a_flapping_unit_is_published_once_a_second_and_delays_no_other_unit),
                in_fixture(the_effect_of_an_assignment_is_published_at_once),
                cmocka_unit_test(without_a_quorum_publication_is_retried),
                in_fixture(a_rejected_endpoint_delays_no_other),
                in_fixture(a_publisher_that_is_freed_during_a_transaction_gets_no_callback),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
