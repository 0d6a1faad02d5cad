/* Replacement of a unit's text while other programs start the unit, in virtual time. */

#include "tests/lib/test.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/scratch.h"

#define ONE "[Service]\nExecStart=/bin/one\n"
#define TWO "[Service]\nExecStart=/bin/two\n"

static void ignore(void *userdata, int error, const char *message) {}

/* As its socket starts it. */
static void start_by_others(Fixture *fixture) {
        assert_int_equal(real_ops->start(fixture->bus, "web.service", ignore, NULL), 0);
}

static bool is_stale;

static void stale(SystemdUnit *seen) {
        seen->need_reload = is_stale;
}

static SystemdDone reload_done;
static void *reload_userdata;

static int reload_held(Systemd *s, SystemdDone done, void *userdata) {
        reload_done = done;
        reload_userdata = userdata;
        return 0;
}

static struct {
        bool armed; /* for the next listing */
        SystemdListed done;
        void *userdata;
        SystemdUnit units[4];
        size_t n;
} held;

static void on_held(void *userdata, int error, const SystemdUnit *units, size_t n) {
        assert_int_equal(error, 0);
        assert_true(n <= ELEMENTS(held.units));
        memcpy(held.units, units, n * sizeof(*units));
        held.n = n;
}

static int list_held(Systemd *s, const char *const *names, size_t n, bool all, SystemdListed done,
                     void *userdata) {
        if (!held.armed)
                return list_pretended(s, names, n, all, done, userdata);
        held.armed = false;
        held.done = done;
        held.userdata = userdata;
        return real_ops->list(s, names, n, all, on_held, NULL);
}

static void a_listing_that_began_before_the_reload_does_not_say_that_no_former_text_was_started(
        void **state) {
        Fixture *fixture = *state;

        memset(&held, 0, sizeof(held));
        run_unit(fixture, "web.service");
        bent.list = list_held;
        bent.reload = reload_held;
        reload_done = NULL;
        is_stale = true;
        pretence = (Pretence) { .unit = "web.service", .change = stale };
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_RUN);
        UNTIL(fixture, reload_done);
        run_ms(fixture, 500);
        held.armed = true;
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, held.n > 0);
        start_by_others(fixture);
        run_ms(fixture, 50);
        assert_int_equal(n_starts, 2);
        is_stale = false;
        reload_done(reload_userdata, 0, "");
        run_ms(fixture, 50);
        held.done(held.userdata, 0, held.units, held.n);
        UNTIL(fixture, n_starts == 3);
        assert_int_equal(n_stops, 2);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        run_ms(fixture, 3000);
        assert_int_equal(n_stops, 2);
}

static const char *hash_of(Fixture *fixture, const char *name) {
        return cluster_unit(registry_cluster(fixture->host->registry), name)->unit->hash;
}

static bool runs_text(Fixture *fixture, const char *hash) {
        const UnitState *s = state_of(fixture, "web.service");

        return s && s->hash && streq(s->hash, hash) && streq(s->active, "active");
}

/* The text that is assigned is not the wanted one: this host reads it from the tree, as after a move or a
 * boot during a rollout. */
static void the_text_that_an_assignment_names_runs_though_another_one_is_wanted(void **state) {
        Fixture *fixture = *state;
        char one[UNIT_HASH_SIZE], two[UNIT_HASH_SIZE];

        host_raise(fixture->host, KV_LEVEL_UPDATES);
        host_unit(fixture->host, "web.service", ONE, TARGET_LAUNCHED);
        snprintf(one, sizeof(one), "%s", hash_of(fixture, "web.service"));
        host_unit(fixture->host, "web.service", TWO, TARGET_LAUNCHED);
        snprintf(two, sizeof(two), "%s", hash_of(fixture, "web.service"));

        host_order_text(fixture->host, "web.service", ASSIGNMENT_RUN, 1, one);
        UNTIL(fixture, runs_text(fixture, one));
        assert_int_equal(n_starts, 1);
        host_order_text(fixture->host, "web.service", ASSIGNMENT_RUN, 2, two);
        UNTIL(fixture, runs_text(fixture, two));
        host_order_text(fixture->host, "web.service", ASSIGNMENT_RUN, 1, one);
        UNTIL(fixture, runs_text(fixture, one));
        assert_int_equal(n_starts, 3);

        /* A text that the tree does not have changes nothing. */
        host_order_text(fixture->host, "web.service", ASSIGNMENT_RUN, 7,
                        "0123456789012345678901234567890123456789");
        run_ms(fixture, 5000);
        assert_true(runs_text(fixture, one));
        assert_int_equal(n_starts, 3);
        assert_int_equal(n_stops, 2);
}

#define DROP_IN "\n\n# web@1.service.d/own.conf\n[Service]\nEnvironment=A=1\n"

static bool instance_runs(Fixture *fixture, const char *hash) {
        const UnitState *s = state_of(fixture, "web@1.service");

        return s && s->hash && streq(s->hash, hash) && streq(s->active, "active");
}

/* The tree has the former text of the template only: the drop-ins are in the key of the instance. */
static void a_former_text_of_the_template_runs_with_the_drop_ins_of_the_instance(void **state) {
        Fixture *fixture = *state;
        char one[UNIT_HASH_SIZE], two[UNIT_HASH_SIZE];

        host_raise(fixture->host, KV_LEVEL_UPDATES);
        host_unit(fixture->host, "web@.service", ONE, TARGET_INACTIVE);
        host_unit(fixture->host, "web@1.service", ONE DROP_IN, TARGET_LAUNCHED);
        snprintf(one, sizeof(one), "%s", hash_of(fixture, "web@1.service"));
        host_unit(fixture->host, "web@.service", TWO, TARGET_INACTIVE);
        host_unit(fixture->host, "web@1.service", TWO DROP_IN, TARGET_LAUNCHED);
        snprintf(two, sizeof(two), "%s", hash_of(fixture, "web@1.service"));
        assert_string_not_equal(one, two);

        host_order_text(fixture->host, "web@1.service", ASSIGNMENT_RUN, 1, one);
        UNTIL(fixture, instance_runs(fixture, one));
        host_order_text(fixture->host, "web@1.service", ASSIGNMENT_RUN, 2, two);
        UNTIL(fixture, instance_runs(fixture, two));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                in_a_faulty_fixture(
                        a_listing_that_began_before_the_reload_does_not_say_that_no_former_text_was_started),
                in_a_faulty_fixture(the_text_that_an_assignment_names_runs_though_another_one_is_wanted),
                in_a_faulty_fixture(a_former_text_of_the_template_runs_with_the_drop_ins_of_the_instance),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
