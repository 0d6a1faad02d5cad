/* The cost of the agent's work, in units read and planned, and a slow disk, with a systemd in virtual time.
 */
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"
#include "tests/lib/words_of.h"

enum {
        OTHERS = 60,    /* units without changes */
        SECONDS = 9,    /* less than the agent's resync period */
        READS_MAX = 10, /* of one unit in a second */
        BURST = 8,      /* reads in a row */
        PASS_MS = 5,    /* a reply and the pass after it */
};

static int fixture_setup(void **state) {
        Fixture *fixture = fixture_new();
        char name[32];

        fixture->n_others = OTHERS;
        assign(fixture, "chatty.service");
        UNTIL(fixture, is_published(fixture, "chatty.service", "active"));
        for (unsigned i = 0; i < OTHERS; i++) {
                snprintf(name, sizeof(name), "other-%02u.service", i);
                assign(fixture, name);
        }
        for (unsigned i = 0; i < OTHERS; i++) {
                snprintf(name, sizeof(name), "other-%02u.service", i);
                UNTIL(fixture, is_published(fixture, name, "active"));
        }
        host_pause(fixture->host, 50);
        await_round(fixture); /* and the rest of the start */
        *state = fixture;
        return 0;
}

static int fixture_teardown(void **state) {
        fixture_free(*state);
        return 0;
}

static void a_unit_that_waits_for_another_one_is_refreshed_once_a_second(void **state) {
        Fixture *fixture = *state;
        uint64_t refreshed;

        sim_systemd_hold(fixture->systemd);
        world_run(fixture->world, world_now_ms(fixture->world) + 2500);
        refreshed = agent_counts(fixture->agent)->refreshed;
        world_run(fixture->world, world_now_ms(fixture->world) + 5000);
        assert_in_range(agent_counts(fixture->agent)->refreshed - refreshed, 4 * (OTHERS + 1),
                        6 * (OTHERS + 1));
}

/* Two changes each millisecond. */
static void chat(Fixture *fixture, uint64_t ms) {
        for (uint64_t i = 0; i < ms; i++) {
                sim_systemd_change(fixture->systemd, "chatty.service");
                sim_systemd_change(fixture->systemd, "chatty.service");
                world_run(fixture->world, world_now_ms(fixture->world) + 1);
        }
}

static void a_unit_that_changes_all_the_time_is_read_ten_times_a_second_and_planned_alone(void **state) {
        Fixture *fixture = *state;
        AgentCounts before = *agent_counts(fixture->agent);
        const AgentCounts *now = agent_counts(fixture->agent);

        chat(fixture, SECONDS * 1000);
        assert_int_equal(now->listings - before.listings, SECONDS * READS_MAX + BURST);
        assert_int_equal(now->refreshed - before.refreshed, now->listings - before.listings);
        assert_in_range(now->passes - before.passes, 1, 4 * (SECONDS * READS_MAX + BURST));
        assert_in_range(now->planned - before.planned, 1, 4 * (SECONDS * READS_MAX + BURST));
}

static void the_first_change_is_read_at_once_and_the_last_change_is_not_lost(void **state) {
        Fixture *fixture = *state;
        uint64_t listings = agent_counts(fixture->agent)->listings, ended_ms;

        chat(fixture, PASS_MS);
        assert_true(agent_counts(fixture->agent)->listings > listings);
        chat(fixture, 3000);
        sim_systemd_end(fixture->systemd, "chatty.service");
        ended_ms = world_now_ms(fixture->world);
        UNTIL(fixture, is_published(fixture, "chatty.service", "failed"));
        assert_in_range(world_now_ms(fixture->world) - ended_ms, 0, 1500); /* states go out once a second */
}

static void an_assignment_to_stop_a_unit_that_changes_all_the_time_is_executed(void **state) {
        Fixture *fixture = *state;

        host_order(fixture->host, "chatty.service", ASSIGNMENT_STOP);
        for (unsigned ms = 0; sim_systemd_runs(fixture->systemd, "chatty.service"); ms++) {
                assert_true(ms < 6000); /* the simulated systemd may take three seconds */
                chat(fixture, 1);
        }
}

static void a_change_of_an_assignment_is_planned_for_its_unit_alone(void **state) {
        Fixture *fixture = *state;
        uint64_t planned = agent_counts(fixture->agent)->planned;

        host_order(fixture->host, "chatty.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !cluster_assignment(registry_cluster(fixture->host->registry), fixture->host->id,
                                           "chatty.service"));
        assert_in_range(agent_counts(fixture->agent)->planned - planned, 1, OTHERS / 2);
}

/* -- A slow disk -- */

static void a_unit_is_started_when_its_record_is_on_disk_and_delays_no_other_unit(void **state) {
        Fixture *fixture = *state;
        uint64_t listings;

        assign_slowly(fixture, "slow.service");
        assert_false(is_recorded(fixture, "slow.service"));
        listings = agent_counts(fixture->agent)->listings;
        chat(fixture, WRITE_MS / 4);
        assert_true(agent_counts(fixture->agent)->listings > listings);
        assign(fixture, "later.service"); /* for the next write: the present one has begun */
        chat(fixture, WRITE_MS / 8);
        assert_false(sim_systemd_runs(fixture->systemd, "slow.service"));

        UNTIL(fixture, is_published(fixture, "slow.service", "active") &&
                               is_published(fixture, "later.service", "active"));
        assert_int_equal(n_unrecorded, 0);
}

static void a_unit_is_stopped_when_its_record_on_disk_is_no_longer_to_run(void **state) {
        Fixture *fixture = *state;

        world_loop_set_work_ms(fixture->loop, WRITE_MS, WRITE_MS);
        host_order(fixture->host, "chatty.service", ASSIGNMENT_STOP);
        UNTIL(fixture, world_loop_is_working(fixture->loop));
        run_ms(fixture, WRITE_MS / 2);
        assert_true(is_recorded(fixture, "chatty.service") &&
                    sim_systemd_runs(fixture->systemd, "chatty.service"));
        UNTIL(fixture, !sim_systemd_runs(fixture->systemd, "chatty.service"));
        assert_false(is_recorded(fixture, "chatty.service"));
}

/* It runs elsewhere by then. */
static void a_unit_that_is_assigned_to_stop_during_the_write_of_its_record_is_not_started(void **state) {
        Fixture *fixture = *state;

        assign_slowly(fixture, "slow.service");
        host_order(fixture->host, "slow.service", ASSIGNMENT_STOP);
        UNTIL(fixture, !cluster_assignment(registry_cluster(fixture->host->registry), fixture->host->id,
                                           "slow.service"));
        assert_int_equal(n_slow, 0);
        assert_false(is_recorded(fixture, "slow.service"));

        /* It is started once it is assigned to run again. */
        host_order(fixture->host, "slow.service", ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "slow.service", "active"));
        assert_int_equal(n_slow, 1);
        assert_int_equal(n_unrecorded, 0);
}

static bool going_down;

static bool is_going_down(Systemd *s) {
        return going_down;
}

static void a_unit_is_not_started_while_systemd_is_stopping_although_its_record_was_written(void **state) {
        Fixture *fixture = *state;
        SystemdOps ops = *fixture->bus->ops;

        real_ops = fixture->bus->ops;
        ops.is_stopping = is_going_down;
        fixture->bus->ops = &ops;
        assign_slowly(fixture, "slow.service");
        going_down = true;
        UNTIL(fixture, is_recorded(fixture, "slow.service"));
        run_ms(fixture, START_MS + WRITE_MS);
        assert_int_equal(n_slow, 0);
        going_down = false;
        UNTIL(fixture, is_published(fixture, "slow.service", "active"));
        assert_int_equal(n_slow, 1);
        fixture->bus->ops = real_ops;
}

/* Without the cluster, only the record distinguishes the next start from a first one. */
static void a_replacement_stays_recorded_when_its_start_is_no_longer_due(void **state) {
        static const char replacing[] = "\"replacing\":true";
        Fixture *fixture = *state;
        SystemdOps ops = *fixture->bus->ops;

        real_ops = fixture->bus->ops;
        ops.is_stopping = is_going_down;
        fixture->bus->ops = &ops;
        run_unit(fixture, "slow.service");
        world_loop_set_work_ms(fixture->loop, WRITE_MS, WRITE_MS);
        assign_to(fixture, "slow.service", "[Service]\nExecStart=/bin/two\n", ASSIGNMENT_RUN);
        UNTIL(fixture, !sim_systemd_runs(fixture->systemd, "slow.service"));
        UNTIL(fixture, world_loop_is_working(fixture->loop));
        run_ms(fixture, WRITE_MS / 2);
        going_down = true;
        run_ms(fixture, START_MS + 3 * WRITE_MS);
        assert_int_equal(n_slow, 1);
        assert_true(records_contain(fixture, replacing));
        going_down = false;
        UNTIL(fixture,
              sim_systemd_runs(fixture->systemd, "slow.service") && !records_contain(fixture, replacing));
        assert_int_equal(n_slow, 2);
        fixture->bus->ops = real_ops;
}

static void a_failed_write_is_repeated_later_and_assignments_are_executed_meanwhile(void **state) {
        static const char *const names[] = { "early.service", "late.service" };
        Fixture *fixture = *state;
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment");

        count_messages("Failed to save the assignments");
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(unlink(path), 0);
                assert_int_equal(mkdir(path, 0700), 0); /* no file replaces a folder */
                assign(fixture, names[i]);
                UNTIL(fixture, is_published(fixture, names[i], "active"));
                assert_int_equal(n_unrecorded, i + 1);
                assert_int_equal(n_logged, i + 1); /* however often the write is repeated */
                assert_int_equal(rmdir(path), 0);
                for (unsigned s = 0; !is_recorded(fixture, names[i]); s++) {
                        assert_true(s < 12); /* by the resync */
                        run_ms(fixture, 1000);
                }
        }
        count_messages(NULL);
}

static int no_work(Loop *loop, Work *work) {
        return -ENOMEM;
}

static void without_a_worker_records_are_written_at_once_and_failures_are_logged(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment");
        Loop *loop = world_loop(fixture->loop);
        const LoopOps *before = loop->ops;
        LoopOps ops = *before;

        ops.work = no_work;
        loop->ops = &ops;
        assign(fixture, "early.service");
        UNTIL(fixture, is_published(fixture, "early.service", "active"));
        assert_true(is_recorded(fixture, "early.service"));
        assert_int_equal(n_unrecorded, 0);

        count_messages("Failed to save the assignments");
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkdir(path, 0700), 0);
        assign(fixture, "late.service");
        UNTIL(fixture, is_published(fixture, "late.service", "active"));
        assert_int_equal(n_logged, 1);
        assert_int_equal(n_unrecorded, 1);
        assert_int_equal(rmdir(path), 0);
        UNTIL(fixture, is_recorded(fixture, "late.service"));
        count_messages(NULL);
        loop->ops = before;
}

static bool is_told_done(Fixture *fixture) {
        return state_of(fixture, "chatty.service")->done;
}

static void a_completion_is_published_when_it_is_on_disk(void **state) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        Fixture *fixture = *state;
        SystemdOps ops = *fixture->bus->ops;
        uint64_t written_ms;

        path = scratch_path(fixture->host->agent_path, "assignment");
        real_ops = fixture->bus->ops;
        ops.list = list_pretended;
        pretence = (Pretence) { .unit = "chatty.service", .active = "inactive", .end = SYSTEMD_END_ITSELF };
        fixture->bus->ops = &ops;
        world_loop_set_work_ms(fixture->loop, WRITE_MS, WRITE_MS);
        chat(fixture, WRITE_MS / 2);
        host_pause(fixture->host, 50);
        chat(fixture, WRITE_MS / 8);
        assert_true(world_loop_is_working(fixture->loop) && !is_told_done(fixture));
        UNTIL(fixture, !world_loop_is_working(fixture->loop));
        written_ms = world_now_ms(fixture->world);
        UNTIL(fixture, is_told_done(fixture));
        assert_in_range(world_now_ms(fixture->world) - written_ms, 0, 1000); /* before the next resync */
        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL), 0);
        assert_non_null(strstr(text, "\"done\":true"));
        fixture->bus->ops = real_ops;
}

static void a_daemon_that_stops_during_a_write_leaves_all_records(void **state) {
        Fixture *fixture = *state;

        assign_slowly(fixture, "first.service");
        assign(fixture, "second.service");
        UNTIL(fixture, cluster_assignment(registry_cluster(fixture->host->registry), fixture->host->id,
                                          "second.service"));
        run_ms(fixture, WRITE_MS / 4);
        fixture->agent = agent_free(fixture->agent);
        assert_true(is_recorded(fixture, "first.service") && is_recorded(fixture, "second.service"));
        run_ms(fixture, START_MS + 2 * WRITE_MS);
        assert_false(sim_systemd_runs(fixture->systemd, "first.service") ||
                     sim_systemd_runs(fixture->systemd, "second.service"));
        assert_true(is_recorded(fixture, "first.service") &&
                    is_recorded(fixture, "second.service")); /* even when that write has ended */
}

static void a_daemon_that_dies_during_a_write_has_started_no_unit(void **state) {
        Fixture *fixture = *state;

        assign_slowly(fixture, "first.service");
        world_loop_drop_work(fixture->loop, false);
        fixture->agent = agent_crash(fixture->agent);
        run_ms(fixture, START_MS);
        assert_false(is_recorded(fixture, "first.service") ||
                     sim_systemd_runs(fixture->systemd, "first.service"));
}

/* -- Repetition -- */

/* It was stopped because of another unit; each start may affect others. */
static void a_start_without_effect_is_repeated_with_growing_delays(void **state) {
        static const uint64_t gaps_s[] = { 30, 60, 120, 240, 480, 600, 600 };
        Fixture *fixture = *state;
        SystemdOps ops = *fixture->bus->ops;
        uint64_t changed_ms;
        unsigned n = 0;

        real_ops = fixture->bus->ops;
        ops.list = list_pretended;
        ops.start = start_in_vain;
        fixture->bus->ops = &ops;
        memset(&vain, 0, sizeof(vain));
        vain.unit = pretence.unit = "chatty.service";
        pretence.end = SYSTEMD_END_STOPPED_FOR;
        pretence.held = false;
        for (unsigned again = 0; again < 2; again++) {
                pretence.active = "inactive";
                changed_ms = world_now_ms(fixture->world);
                sim_systemd_change(fixture->systemd, "chatty.service");
                until_calls(fixture, ++n, 2000);
                assert_in_range(vain.at_ms[n - 1] - changed_ms, 1000, 1200); /* not in the first second */
                for (unsigned i = 0; i < (again ? 1 : ELEMENTS(gaps_s)); i++) {
                        until_calls(fixture, ++n, (gaps_s[i] + 2) * 1000);
                        assert_in_range(vain.at_ms[n - 1] - vain.at_ms[n - 2], gaps_s[i] * 1000,
                                        gaps_s[i] * 1000 + 100);
                }
                if (again)
                        break;
                pretence.active = NULL; /* it runs: then the delays start over */
                sim_systemd_change(fixture->systemd, "chatty.service");
                run_ms(fixture, 200);
        }

        /* So they do with a new assignment. */
        host_unit(fixture->host, "chatty.service", "[Service]\nExecStart=/bin/two\n", TARGET_LAUNCHED);
        host_order(fixture->host, "chatty.service", ASSIGNMENT_RUN);
        until_calls(fixture, ++n, 5000);
        until_calls(fixture, ++n, 32000);
        assert_in_range(vain.at_ms[n - 1] - vain.at_ms[n - 2], 30000, 30100);
        run_ms(fixture, 50);
        host_order(fixture->host, "chatty.service", ASSIGNMENT_RUN); /* the same text */
        until_calls(fixture, ++n, 2000);
        until_calls(fixture, ++n, 32000);
        assert_in_range(vain.at_ms[n - 1] - vain.at_ms[n - 2], 30000, 30100);
        pretence.active = NULL;
        run_ms(fixture, 50);
        fixture->bus->ops = real_ops;
}

static void a_failing_step_is_repeated_with_growing_delays_and_logged_once(void **state) {
        static const uint64_t gaps_ms[] = { 500, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000 };
        Fixture *fixture = *state;
        SystemdOps ops = *fixture->bus->ops;

        real_ops = fixture->bus->ops;
        ops.start = start_in_vain;
        fixture->bus->ops = &ops;
        memset(&vain, 0, sizeof(vain));
        vain.unit = "refused.service";
        vain.error = -ENOSPC;
        count_messages("Failed to start refused.service: ");
        assign(fixture, "refused.service");
        until_calls(fixture, 1 + ELEMENTS(gaps_ms), 200000);
        for (unsigned i = 0; i < ELEMENTS(gaps_ms); i++)
                assert_in_range(vain.at_ms[i + 1] - vain.at_ms[i], gaps_ms[i], gaps_ms[i] + 100);
        assert_int_equal(n_logged, 1);

        /* Success ends the failures: the next one is logged again, and is repeated as soon as the first one
         * was. */
        vain.unit = NULL;
        for (uint64_t end_ms = world_now_ms(fixture->world) + 62000;
             !sim_systemd_runs(fixture->systemd, "refused.service"); run_ms(fixture, 10))
                assert_true(world_now_ms(fixture->world) < end_ms);
        UNTIL(fixture, is_published(fixture, "refused.service", "active"));
        run_pending(fixture);
        memset(&vain, 0, sizeof(vain));
        vain.unit = "refused.service";
        vain.error = -ENOSPC;
        count_messages("Failed to write the file of refused.service: ");
        ops.write_file = write_in_vain;
        assert_int_equal(real_ops->remove_file(fixture->bus, "refused.service"), 0);
        sim_systemd_change(fixture->systemd, "refused.service");
        until_calls(fixture, 4, 10000);
        for (unsigned i = 0; i < 3; i++)
                assert_in_range(vain.at_ms[i + 1] - vain.at_ms[i], gaps_ms[i], gaps_ms[i] + 100);
        assert_int_equal(n_logged, 1);
        count_messages(NULL);
        fixture->bus->ops = real_ops;
}

static void a_change_costs_one_listing_and_one_plan_and_then_nothing(void **state) {
        Fixture *fixture = *state;
        const AgentCounts *now = agent_counts(fixture->agent);
        AgentCounts before;

        run_pending(fixture);
        await_round(fixture);
        run_ms(fixture, 1500);
        before = *now;
        sim_systemd_change(fixture->systemd, "other-01.service");
        run_ms(fixture, 100);
        assert_int_equal(now->listings - before.listings, 1);
        assert_int_equal(now->refreshed - before.refreshed, 1);
        assert_int_equal(now->planned - before.planned, 1);
        assert_int_equal(now->passes - before.passes, 2); /* one for the listing, one for its result */
        run_pending(fixture);
        run_ms(fixture, 2000);
        assert_int_equal(now->passes - before.passes, 2);

        /* A published unit causes no further work either. */
        sim_systemd_end(fixture->systemd, "other-02.service");
        UNTIL(fixture, is_published(fixture, "other-02.service", "failed"));
        run_pending(fixture);
        run_ms(fixture, 100);
        before = *now;
        run_ms(fixture, 2000);
        assert_int_equal(now->passes, before.passes);

        /* A unit of which nothing is left is dropped. */
        host_order(fixture->host, "chatty.service", ASSIGNMENT_STOP);
        UNTIL(fixture, is_gone(fixture, "chatty.service"));
        run_pending(fixture);
        await_round(fixture);
        run_ms(fixture, 1500);
        before = *now;
        sim_systemd_change(fixture->systemd, "other-01.service");
        run_ms(fixture, 100);
        assert_int_equal(now->planned - before.planned, 1);
}

/* The cluster was recovered long ago, according to its registry. */
static void in_a_new_lineage_no_assignment_is_executed_for_half_a_minute(void **state) {
        Fixture *fixture = *state;
        uint64_t began_ms;

        close_agent(fixture);
        change_record(fixture, "\"lineage\":\"", "00000000000000ab");
        host_order(fixture->host, "chatty.service", ASSIGNMENT_STOP);
        open_agent(fixture);
        began_ms = world_now_ms(fixture->world);
        run_ms(fixture, 50);
        assert_true(agent_counts(fixture->agent)->listings > 0); /* it begins at once */
        run_pending(fixture);
        run_ms(fixture, 28000);
        run_pending(fixture);
        assert_true(sim_systemd_runs(fixture->systemd, "chatty.service"));
        UNTIL(fixture, !sim_systemd_runs(fixture->systemd, "chatty.service"));
        assert_in_range(world_now_ms(fixture->world) - began_ms, 30000, 55000);
}

/* -- More units than one call contains -- */

enum { MANY = 501, CHUNK = 100, CALL_MAX = 500 };

/* Assign many units. The virtual time of the agent stands still until all are in the registry. */
static void assign_many(Fixture *fixture, AssignmentKind kind) {
        const Cluster *c = registry_cluster(fixture->host->registry);
        AssignmentChange *changes = NEW0(AssignmentChange, CHUNK);
        KvState store;

        assert_non_null(changes);
        kv_state(fixture->host->store, &store);
        for (unsigned i = 0; i < MANY; i += CHUNK) {
                unsigned n = MIN((unsigned) CHUNK, (unsigned) MANY - i);

                for (unsigned k = 0; k < n; k++) {
                        const ClusterAssignment *there;

                        changes[k] = (AssignmentChange) { .kind = kind, .why = SAID("a test says so") };
                        memcpy(changes[k].machine, fixture->host->id, sizeof(changes[k].machine));
                        snprintf(changes[k].unit, sizeof(changes[k].unit), "many-%03u.service", i + k);
                        there = cluster_assignment(c, fixture->host->id, changes[k].unit);
                        changes[k].expected_index = there ? there->index : 0;
                        changes[k].unit_index = cluster_unit(c, changes[k].unit)->index;
                }
                assert_int_equal(
                        host_wait(fixture->host, registry_assign(fixture->host->registry, store.term, changes,
                                                                 n, NULL, host_on_done, fixture->host)),
                        KV_OK);
        }
        free(changes);
}

static size_t most_linked, most_unlinked;

static int link_counted(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        most_linked = MAX(most_linked, n);
        return real_ops->link(s, names, n, done, userdata);
}

static int unlink_counted(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        most_unlinked = MAX(most_unlinked, n);
        return real_ops->unlink(s, names, n, done, userdata);
}

static void one_call_has_five_hundred_units_at_most(void **state) {
        Fixture *fixture = *state;
        SystemdOps ops = *fixture->bus->ops;
        const ClusterMachine *self = cluster_machine(registry_cluster(fixture->host->registry),
                                                     fixture->host->id);

        ops.link = link_counted;
        ops.unlink = unlink_counted;
        fixture->bus->ops = &ops;
        most_linked = most_unlinked = 0;
        for (unsigned i = 0; i < MANY; i++) {
                char name[32];

                snprintf(name, sizeof(name), "many-%03u.service", i);
                host_unit(fixture->host, name, "[Service]\nExecStart=/bin/one\n", TARGET_LOADED);
        }
        assign_many(fixture, ASSIGNMENT_LOAD);
        UNTIL(fixture, HASH_COUNT(self->states) == 1 + OTHERS + MANY);
        assert_int_equal(most_linked, CALL_MAX);
        run_pending(fixture);
        assign_many(fixture, ASSIGNMENT_STOP);
        UNTIL(fixture, HASH_COUNT(self->assignments) == 1 + OTHERS);
        assert_int_equal(most_unlinked, CALL_MAX);
        fixture->bus->ops = real_ops;
}

int main(int argc, char *argv[]) {
#define in_fixture(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                in_fixture(a_unit_that_changes_all_the_time_is_read_ten_times_a_second_and_planned_alone),
                in_fixture(a_unit_that_waits_for_another_one_is_refreshed_once_a_second),
                in_fixture(the_first_change_is_read_at_once_and_the_last_change_is_not_lost),
                in_fixture(an_assignment_to_stop_a_unit_that_changes_all_the_time_is_executed),
                in_fixture(a_change_of_an_assignment_is_planned_for_its_unit_alone),
                in_fixture(a_unit_is_started_when_its_record_is_on_disk_and_delays_no_other_unit),
                in_fixture(a_unit_is_stopped_when_its_record_on_disk_is_no_longer_to_run),
                in_fixture(a_unit_that_is_assigned_to_stop_during_the_write_of_its_record_is_not_started),
                in_fixture(a_unit_is_not_started_while_systemd_is_stopping_although_its_record_was_written),
                in_fixture(a_replacement_stays_recorded_when_its_start_is_no_longer_due),
                in_fixture(a_failed_write_is_repeated_later_and_assignments_are_executed_meanwhile),
                in_fixture(without_a_worker_records_are_written_at_once_and_failures_are_logged),
                in_fixture(a_completion_is_published_when_it_is_on_disk),
                in_fixture(a_daemon_that_stops_during_a_write_leaves_all_records),
                in_fixture(a_daemon_that_dies_during_a_write_has_started_no_unit),
                in_fixture(a_start_without_effect_is_repeated_with_growing_delays),
                in_fixture(a_failing_step_is_repeated_with_growing_delays_and_logged_once),
                in_fixture(a_change_costs_one_listing_and_one_plan_and_then_nothing),
                in_fixture(in_a_new_lineage_no_assignment_is_executed_for_half_a_minute),
                in_fixture(one_call_has_five_hundred_units_at_most),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
