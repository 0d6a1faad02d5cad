/* A host without the record that a unit has completed: the state that it published decides. */

#include "tests/lib/test.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"

static const char job[] = "job.service";

static bool is_done(Fixture *fixture) {
        const UnitState *s = state_of(fixture, job);

        return s && s->done;
}

static void end_unit(Fixture *fixture, const char *active) {
        pretence = (Pretence) { .unit = job,
                                .active = active,
                                .end = streq(active, "failed") ? SYSTEMD_END_UNKNOWN : SYSTEMD_END_ITSELF };
        sim_systemd_change(fixture->systemd, job);
        UNTIL(fixture, is_published(fixture, job, active));
        run_pending(fixture);
}

/* The host loses /var/lib/fleet, and /run/fleet with a boot. */
static void lose_records(Fixture *fixture, bool boots) {
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment");

        close_agent(fixture);
        scratch_write(path, "rubbish");
        if (!boots)
                return;
        pretence = (Pretence) {};
        sim_systemd_power_cut(fixture->systemd);
        n_starts = 0;
}

static void run_job(Fixture *fixture) {
        UNTIL(fixture, is_published(fixture, job, "active"));
        run_pending(fixture);
        end_unit(fixture, "inactive");
        assert_true(is_done(fixture));
        assert_int_equal(n_starts, 1);
}

static void a_completed_unit_is_not_started_by_a_host_that_lost_its_record(void **state) {
        Fixture *fixture = *state;

        assign(fixture, job);
        run_job(fixture);
        for (unsigned boots = 0; boots < 3; boots++) {
                lose_records(fixture, boots > 0);
                n_starts = 0;
                count_messages("completed before, by the state in the cluster");
                open_agent(fixture);
                UNTIL(fixture, n_logged == 1);
                run_pending(fixture);
                run_ms(fixture, 5000);
                run_pending(fixture);
                count_messages(NULL);
                assert_int_equal(n_starts, 0);
                assert_true(is_done(fixture));
                assert_true(records_contain(fixture, "\"done\":true"));
                assert_non_null(state_of(fixture, job)->hash); /* its file is there in each boot */
        }
        host_order(fixture->host, job, ASSIGNMENT_RUN); /* as a restart makes it */
        UNTIL(fixture, n_starts == 1 && is_published(fixture, job, "active"));
}

/* The report of this host to a new lineage must not have the unit as one that never ran. */
static void report(Fixture *fixture, const char *text) {
        assign_to(fixture, job, text, ASSIGNMENT_RUN);
        run_job(fixture);
        lose_records(fixture, true);
        write_adopting(fixture, KV_SET);
        open_agent(fixture);
        UNTIL(fixture, is_published(fixture, job, "inactive") &&
                               (strstr(text, "Global=") || !state_of(fixture, job)->hash));
        assert_true(is_done(fixture));
        run_pending(fixture);
        write_adopting(fixture, KV_DELETE);
        run_pending(fixture);
        run_ms(fixture, 12000);
        run_pending(fixture);
        assert_int_equal(n_starts, 0);
        assert_true(is_done(fixture));
}

static void a_completed_unit_is_reported_as_completed_to_a_restored_cluster(void **state) {
        report(*state, "[Service]\nExecStart=/bin/one\n");
}

/* It runs in each boot, and this may be the same one. */
static void a_completed_global_unit_is_not_started_by_a_restored_cluster(void **state) {
        report(*state, "[Service]\nExecStart=/bin/one\n[X-Fleet]\nGlobal=yes\n");
}

static void a_unit_that_was_assigned_again_is_started_by_a_host_that_lost_its_record(void **state) {
        Fixture *fixture = *state;

        assign(fixture, job);
        run_job(fixture);
        lose_records(fixture, true);
        host_order(fixture->host, job, ASSIGNMENT_RUN);
        open_agent(fixture);
        UNTIL(fixture, n_starts == 1 && is_published(fixture, job, "active"));
        assert_false(is_done(fixture));
}

static void a_unit_whose_text_changed_is_started_by_a_host_that_lost_its_record(void **state) {
        Fixture *fixture = *state;

        assign(fixture, job);
        run_job(fixture);
        lose_records(fixture, true);
        assign_to(fixture, job, "[Service]\nExecStart=/bin/two\n", ASSIGNMENT_RUN);
        open_agent(fixture);
        UNTIL(fixture, n_starts == 1 && is_published(fixture, job, "active"));
        assert_false(is_done(fixture));
}

static void a_failed_unit_is_started_by_a_host_that_lost_its_record(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, job);
        end_unit(fixture, "failed");
        lose_records(fixture, true);
        open_agent(fixture);
        UNTIL(fixture, n_starts == 1 && is_published(fixture, job, "active"));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                in_a_faulty_fixture(a_completed_unit_is_not_started_by_a_host_that_lost_its_record),
                in_a_faulty_fixture(a_completed_unit_is_reported_as_completed_to_a_restored_cluster),
                in_a_faulty_fixture(a_completed_global_unit_is_not_started_by_a_restored_cluster),
                in_a_faulty_fixture(a_unit_that_was_assigned_again_is_started_by_a_host_that_lost_its_record),
                in_a_faulty_fixture(a_unit_whose_text_changed_is_started_by_a_host_that_lost_its_record),
                in_a_faulty_fixture(a_failed_unit_is_started_by_a_host_that_lost_its_record),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
