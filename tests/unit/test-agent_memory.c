/* Each allocation of the agent fails in turn: what it was for is done soon after. The time is virtual. */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/facts.h"
#include "fleetd/agent/records.h"
#include "fleetd/agent/publish.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/alloc.h"
#include "tests/lib/scratch.h"
#include "tests/lib/size.h"

enum {
        STEP_MS = 20,
        SOON_MS = 2500, /* the next resync is later */
};

/* The store, which replies in real time, has memory. */
#define UNTIL_SHORT(fixture, expression)                                                       \
        do {                                                                                   \
                (fixture)->host->deadline_ms = 0;                                              \
                while (!(expression)) {                                                        \
                        alloc_pause(false);                                                    \
                        world_run((fixture)->world, world_now_ms((fixture)->world) + STEP_MS); \
                        alloc_pause(true);                                                     \
                        host_turn((fixture)->host);                                            \
                }                                                                              \
        } while (false)

static int fixture_setup(void **state) {
        int r = faulty_fixture_setup(state);
        Fixture *fixture = *state;

        log_set_max_priority(LOG_EMERG);
        world_set_short(fixture->world, alloc_fails);
        run_unit(fixture, "calm.service");
        fixture->n_others = 1;
        return r;
}

static int fixture_teardown(void **state) {
        Fixture *fixture = *state;

        alloc_fail_at(0);
        alloc_pause(false);
        world_set_short(fixture->world, NULL);
        log_set_max_priority(LOG_INFO);
        return faulty_fixture_teardown(state);
}

static void an_assignment_is_executed_soon_after_memory_was_short(void **state) {
        Fixture *fixture = *state;
        bool failed = true;
        unsigned n_late = 0;

        host_unit(fixture->host, "short.service", "[Service]\nExecStart=/bin/one\n", TARGET_LAUNCHED);
        log_set_max_priority(LOG_ERR);
        count_messages("Failed to save the assignments");
        for (unsigned n = 1; failed; n++) {
                failed = false;
                for (unsigned stop = 0; stop < 2; stop++) {
                        unsigned unrecorded = n_unrecorded, unsaved = n_logged;
                        uint64_t ordered_ms;

                        host_pause(fixture->host, 5);
                        await_round(fixture);
                        host_order(fixture->host, "short.service", stop ? ASSIGNMENT_STOP : ASSIGNMENT_RUN);
                        ordered_ms = world_now_ms(fixture->world);
                        alloc_fail_at(n);
                        alloc_pause(true);
                        if (stop)
                                UNTIL_SHORT(fixture, is_gone(fixture, "short.service"));
                        else
                                UNTIL_SHORT(fixture, is_published(fixture, "short.service", "active"));
                        failed |= alloc_has_failed();
                        alloc_fail_at(0);
                        alloc_pause(false);
                        n_late += world_now_ms(fixture->world) - ordered_ms > SOON_MS + (stop ? START_MS : 0);
                        if (n_unrecorded > unrecorded && n_logged == unsaved)
                                fail_msg("allocation %u: it was started without a note, and nothing said so",
                                         n);
                }
        }
        assert_int_equal(n_late, 0);
        count_messages(NULL);
}

static void an_assignment_that_cannot_be_recorded_is_logged(void **state) {
        Fixture *fixture = *state;
        bool failed = true;

        log_set_max_priority(LOG_WARNING);
        count_messages("Failed to adopt calm.service: Cannot allocate memory");
        for (unsigned n = 1; failed && n_logged == 0; n++) {
                uint64_t ordered_ms = world_now_ms(fixture->world);

                host_order(fixture->host, "calm.service", ASSIGNMENT_RUN);
                alloc_fail_at(n);
                alloc_pause(true);
                UNTIL_SHORT(fixture, world_now_ms(fixture->world) >= ordered_ms + 200);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                alloc_pause(false);
        }
        assert_int_equal(n_logged, 1);
        count_messages(NULL);
}

static unsigned nth; /* allocation that fails when an assignment arrives; 0: none */

static void on_order(void *userdata, const RegistryChange *change) {
        if (change->kind != CHANGED_ASSIGNMENT || change->removed || nth == 0)
                return;
        alloc_fail_at(nth);
        nth = 0;
}

static void an_assignment_without_memory_for_its_unit_is_executed_soon(void **state) {
        RegistryObserver listener = { .on_change = on_order };
        Fixture *fixture = *state;

        for (unsigned n = 1; n <= 3; n++) { /* the unit; the table, which has none yet, in two parts */
                uint64_t ordered_ms;

                close_agent(fixture);
                open_agent(fixture);
                run_pending(fixture);
                run_ms(fixture, 1000);
                host_unit(fixture->host, "short.service", "[Service]\nExecStart=/bin/one\n", TARGET_LAUNCHED);
                registry_observe(fixture->host->registry, &listener); /* in front of the agent's */
                nth = n;
                ordered_ms = world_now_ms(fixture->world);
                host_order(fixture->host, "short.service", ASSIGNMENT_RUN);
                assert_true(alloc_has_failed());
                alloc_fail_at(0);
                UNTIL(fixture, is_published(fixture, "short.service", "active"));
                assert_in_range(world_now_ms(fixture->world) - ordered_ms, 0, SOON_MS);
                registry_unobserve(fixture->host->registry, &listener);
                host_order(fixture->host, "short.service", ASSIGNMENT_STOP);
                UNTIL(fixture, is_gone(fixture, "short.service"));
        }
}

/* Neither an assignment nor a record names it. */
static void a_unit_that_is_known_by_its_file_alone_is_published_soon_after_memory_was_short(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/one\n";
        Fixture *fixture = *state;
        bool failed = true;

        for (unsigned n = 1; failed; n++) {
                uint64_t began_ms;

                close_agent(fixture);
                assert_int_equal(real_ops->write_file(fixture->bus, "stray.service", text, strlen(text)), 0);
                open_agent(fixture);
                run_pending(fixture);
                began_ms = world_now_ms(fixture->world);
                alloc_fail_at(n);
                alloc_pause(true);
                UNTIL_SHORT(fixture, state_of(fixture, "stray.service"));
                failed = alloc_has_failed();
                alloc_fail_at(0);
                alloc_pause(false);
                assert_in_range(world_now_ms(fixture->world) - began_ms, 0, SOON_MS);
                assert_int_equal(real_ops->remove_file(fixture->bus, "stray.service"), 0);
                sim_systemd_change(fixture->systemd, "stray.service");
                UNTIL(fixture, is_gone(fixture, "stray.service"));
        }
}

/* A new agent has all that it needs. */
static int begin(void *userdata) {
        Fixture *fixture = userdata;
        static ComponentHost host;
        Agent *agent = NULL;
        Error err = {};
        int r;

        host = fixture->components;
        host.io.prober = NULL;
        r = agent_new(&agent, &host, &err);
        alloc_pause(true);
        if (r == 0) {
                assert_non_null(agent);
                run_ms(fixture, 1000);
        }
        agent_free(agent);
        run_ms(fixture, 1000);
        alloc_pause(false);
        return r;
}

static int begin_publisher(void *userdata) {
        Fixture *fixture = userdata;
        Publisher *publisher = NULL;
        int r;

        r = publisher_new(&publisher, world_loop(fixture->loop), fixture->host->registry, NULL, NULL);
        if (r == 0)
                assert_non_null(publisher);
        publisher_free(publisher);
        return r;
}

static void an_agent_that_cannot_begin_returns_an_error(void **state) {
        Fixture *fixture = *state;

        close_agent(fixture);
        world_set_short(fixture->world, NULL);
        (void) alloc_fail_each("an agent begins", begin, fixture, 1);
        (void) alloc_fail_each("a publisher begins", begin_publisher, fixture, 1);
        open_agent(fixture);
}

/* -- Records -- */

static char *sub, *bad; /* folder of the records; "SUB/assignment.bad" */

static int records(void *userdata) {
        AssignmentRecords n;
        int r;

        r = records_open(&n, sub, NULL);
        r = r ?: records_put(&n, userdata, ASSIGNMENT_RUN, 1, 2, NULL);
        if (r == 0)
                assert_non_null(records_get(&n, "a.service"));
        n.dirty = true;
        r = r ?: records_save(&n);
        if (r == 0)
                assert_false(n.dirty);
        records_close(&n);

        alloc_pause(true);
        assert_int_equal(records_open(&n, sub, NULL), 0);
        if (r == 0)
                assert_non_null(records_get(&n, "a.service"));
        records_close(&n);
        assert_int_equal(access(bad, F_OK), -1); /* no corrupt file was found */
        alloc_pause(false);
        return r;
}

enum { LARGE_NOTES = 10, LARGE_SIZE = 120 * 1000 };

static Unit *large[LARGE_NOTES];

static unsigned count_records(void) {
        unsigned count;
        AssignmentRecords n;

        assert_int_equal(records_open(&n, sub, NULL), 0);
        count = HASH_COUNT(n.table);
        records_close(&n);
        return count;
}

/* Large texts have files of their own: afterwards either all or none of them are there. */
static int save_large_records(void *userdata) {
        AssignmentRecords n;
        int r;

        alloc_pause(true);
        assert_int_equal(remove_tree_at(AT_FDCWD, sub), 0);
        assert_int_equal(records_open(&n, sub, NULL), 0);
        for (unsigned i = 0; i < LARGE_NOTES; i++)
                assert_int_equal(records_put(&n, large[i], ASSIGNMENT_RUN, 1, 2, NULL), 0);
        alloc_pause(false);
        r = records_save(&n);
        alloc_pause(true);
        records_close(&n);
        assert_int_equal(count_records(), r == 0 ? LARGE_NOTES : 0);
        assert_int_equal(access(bad, F_OK), -1);
        alloc_pause(false);
        return r;
}

static int open_large_records(void *userdata) {
        AssignmentRecords n;
        int r;

        r = records_open(&n, sub, NULL);
        records_close(&n);
        alloc_pause(true);
        assert_int_equal(count_records(), LARGE_NOTES);
        assert_int_equal(access(bad, F_OK), -1);
        alloc_pause(false);
        return r;
}

static void records_are_saved_completely_or_an_error_is_returned(void **state) {
        _cleanup_free_ char *text = malloc(LARGE_SIZE + 1), *scratch = scratch_new();
        Unit *small = NULL;

        sub = scratch_path(scratch, "notes");
        bad = scratch_path(sub, "assignment.bad");
        assert_int_equal(unit_read("a.service", "[Service]\nExecStart=/bin/x\n", 27, &small, NULL), 0);
        for (unsigned i = 0; i < LARGE_NOTES; i++) {
                char name[32];
                int at;

                snprintf(name, sizeof(name), "u%u.service", i);
                at = snprintf(text, LARGE_SIZE, "[Service]\nExecStart=/bin/%u\n", i);
                for (; at < LARGE_SIZE - 1; at++)
                        text[at] = at % 64 == 0 ? '\n' : '#';
                text[LARGE_SIZE - 1] = '\n';
                assert_int_equal(unit_read(name, text, LARGE_SIZE, &large[i], NULL), 0);
        }
        log_set_max_priority(LOG_EMERG);
        (void) alloc_fail_each("notes", records, small, 1);
        (void) alloc_fail_each("notes with large texts are saved", save_large_records, NULL,
                               test_size(9, 1, 1));
        (void) alloc_fail_each("notes with large texts are opened", open_large_records, NULL, 25);
        log_set_max_priority(LOG_INFO);
        for (unsigned i = 0; i < LARGE_NOTES; i++)
                unit_free(large[i]);
        unit_free(small);
        free(sub);
        free(bad);
        scratch_free(TAKE_PTR(scratch));
}

static int begin_facts(void *userdata) {
        const Machine machine = { .name = (char *) "alpha",
                                  .address = (char *) "10.0.0.1",
                                  .version = (char *) "0" };
        Fixture *fixture = userdata;
        Facts *facts = NULL;
        int r;

        r = facts_new(&facts, world_loop(fixture->loop), fixture->host->registry, &machine);
        if (r == 0)
                assert_non_null(facts);
        r = r ?: facts_set(facts, &machine);
        assert_int_equal(r, alloc_has_failed() ? -ENOMEM : 0);
        facts_free(facts);
        return r;
}

static void facts_that_cannot_be_copied_return_an_error(void **state) {
        assert_in_range(alloc_fail_each("facts", begin_facts, *state, 1), 4, 100);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(an_assignment_is_executed_soon_after_memory_was_short,
                                                fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(an_assignment_that_cannot_be_recorded_is_logged,
                                                fixture_setup, fixture_teardown),
                in_a_faulty_fixture(an_assignment_without_memory_for_its_unit_is_executed_soon),
                cmocka_unit_test_setup_teardown(
                        a_unit_that_is_known_by_its_file_alone_is_published_soon_after_memory_was_short,
                        fixture_setup, fixture_teardown),
                cmocka_unit_test_setup_teardown(an_agent_that_cannot_begin_returns_an_error, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test_setup_teardown(facts_that_cannot_be_copied_return_an_error, fixture_setup,
                                                fixture_teardown),
                cmocka_unit_test(records_are_saved_completely_or_an_error_is_returned),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
