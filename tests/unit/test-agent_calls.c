/* Calls to systemd that fail, take long or have no effect, and the observed states, in virtual time. */
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "fleetd/metrics_units.h"
#include "fleetd/host/settings.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"

#define ONE   "[Service]\nExecStart=/bin/one\n"
#define TWO   "[Service]\nExecStart=/bin/two\n"
#define TUNED ONE "[X-Fleet]\nConflicts=x*\n"

static void change(Fixture *fixture, const char *active, SystemdEnd end) {
        pretence.unit = "web.service";
        pretence.active = active;
        pretence.end = end;
        sim_systemd_change(fixture->systemd, "web.service");
}

static bool is_done(Fixture *fixture) {
        return state_of(fixture, "web.service")->done;
}

static bool is_told_as(Fixture *fixture, const char *load, const char *active) {
        const UnitState *s = state_of(fixture, "web.service");

        return s && streq(s->load, load) && streq(s->active, active);
}

static bool job_is(Fixture *fixture, const char *job) {
        const UnitState *s = state_of(fixture, "web.service");

        return s && streq(s->job, job);
}

/* -- Files -- */

static void with_error(SystemdUnit *seen) {
        snprintf(seen->load, sizeof(seen->load), "error");
}

static void a_file_that_systemd_does_not_load_is_delayed_after_three_writes(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        count_messages("Failed to put in force web.service");
        for (unsigned i = 0; i < 3; i++) { /* each of these is loaded */
                assert_int_equal(real_ops->remove_file(fixture->bus, "web.service"), 0);
                sim_systemd_change(fixture->systemd, "web.service");
                run_ms(fixture, 1000);
        }
        assert_int_equal(n_logged, 0);
        bent.write_file = write_in_vain;
        vain.unit = pretence.unit = "web.service";
        pretence.change = with_error;
        sim_systemd_change(fixture->systemd, "web.service");
        until_calls(fixture, 3, 3000);
        assert_int_equal(n_logged, 0);
        until_calls(fixture, 4, 3000);
        assert_int_equal(n_logged, 1);
        assert_in_range(vain.at_ms[3] - vain.at_ms[2], 600, 1000); /* a reload, and then half a second */
        assert_int_equal(n_starts, 1);
        assert_int_equal(n_stops, 0);
        count_messages(NULL);
}

static void a_long_call_delays_no_other_unit(void **state) {
        const char *a = "a.service";
        Fixture *fixture = *state;

        run_unit(fixture, "b.service");
        run_unit(fixture, "c.service");
        bent.link = link_in_vain;
        bent.unlink = unlink_in_vain;
        vain = (Vain) { .unit = a, .held = true };
        assign(fixture, a);
        until_calls(fixture, 1, 1000);
        host_order(fixture->host, "b.service", ASSIGNMENT_STOP);
        UNTIL(fixture, is_gone(fixture, "b.service"));
        assign(fixture, "d.service");
        run_ms(fixture, 2000);
        assert_int_equal(n_starts, 2); /* one batch at a time */
        vain.unit = NULL;
        assert_int_equal(real_ops->link(fixture->bus, &a, 1, vain.done, vain.userdata), 0);
        UNTIL(fixture, is_published(fixture, a, "active") && is_published(fixture, "d.service", "active"));

        vain = (Vain) { .unit = a, .held = true };
        host_order(fixture->host, a, ASSIGNMENT_STOP);
        until_calls(fixture, 1, 5000);
        run_unit(fixture, "e.service");
        host_order(fixture->host, "c.service", ASSIGNMENT_STOP);
        run_ms(fixture, 5000);
        run_pending(fixture);
        assert_int_equal(n_stops, 3);
        assert_true(has_assignment(fixture, "c.service"));
        vain.unit = NULL;
        assert_int_equal(real_ops->unlink(fixture->bus, &a, 1, vain.done, vain.userdata), 0);
        UNTIL(fixture, is_gone(fixture, a) && is_gone(fixture, "c.service"));
}

static void no_file_is_written_while_systemd_does_not_reply(void **state) {
        Fixture *fixture = *state;

        assign_to(fixture, "web.service", ONE, ASSIGNMENT_LOAD);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        run_pending(fixture);
        bent.write_file = write_in_vain;
        vain.unit = "web.service";
        sim_systemd_drop_bus(fixture->systemd, 3000);
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_LOAD);
        run_ms(fixture, 2900);
        assert_int_equal(vain.n, 0);
        run_ms(fixture, 200);
        assert_true(vain.n > 0);
}

/* Each of these alone causes a reload. */
static size_t n_reason;
static bool is_linked;
static unsigned n_reloads;

static void not_in_force(SystemdUnit *seen) {
        if (!is_linked || n_reason == 0)
                return;
        if (n_reason == 1)
                seen->need_reload = true;
        else if (n_reason == 2)
                seen->owner = SYSTEMD_ABSENT;
        else
                snprintf(seen->load, sizeof(seen->load), "error");
}

static int link_recorded(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        is_linked = true;
        return real_ops->link(s, names, n, done, userdata);
}

static int reload_recorded(Systemd *s, SystemdDone done, void *userdata) {
        is_linked = false;
        n_reloads++;
        return real_ops->reload(s, done, userdata);
}

static void systemd_is_reloaded_when_a_linked_file_is_not_in_force(void **state) {
        Fixture *fixture = *state;

        bent.link = link_recorded;
        bent.reload = reload_recorded;
        n_reloads = 0;
        for (n_reason = 0; n_reason < 4; n_reason++) {
                char name[32];

                snprintf(name, sizeof(name), "web%zu.service", n_reason);
                pretence = (Pretence) { .unit = name, .change = not_in_force };
                is_linked = false;
                run_unit(fixture, name);
                assert_int_equal(n_reloads, n_reason);
                pretence = (Pretence) {};
        }
}

static void a_unit_that_is_not_loaded_after_its_link_is_linked_again(void **state) {
        const char *name = "web.service";
        Fixture *fixture = *state;

        bent.link = link_in_vain;
        vain = (Vain) { .unit = name, .held = true };
        assign(fixture, name);
        until_calls(fixture, 1, 1000);
        count_messages("Failed to write web.service");
        pretence.error = -EIO;
        vain.held = false;
        vain.done(vain.userdata, 0, "");
        run_ms(fixture, 100);
        assert_int_equal(n_logged, 1);
        count_messages(NULL);
        pretence.error = 0;
        vain.unit = NULL;
        UNTIL(fixture, is_published(fixture, name, "active"));
        assert_int_equal(n_starts, 1);
}

static char last_written[64];

static int write_recorded(Systemd *s, const char *name, const char *text, size_t size) {
        snprintf(last_written, sizeof(last_written), "%.*s", (int) size, text);
        return real_ops->write_file(s, name, text, size);
}

/* The present assignments of the cluster are unknown. */
static void without_the_cluster_a_missing_file_is_restored_from_its_record(void **state) {
        Fixture *fixture = *state;

        bent.write_file = write_recorded;
        run_unit(fixture, "web.service");
        leader.gone = true;
        agent_state_changed(fixture->agent);
        run_ms(fixture, 50);
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_RUN);
        last_written[0] = 0;
        assert_int_equal(real_ops->remove_file(fixture->bus, "web.service"), 0);
        sim_systemd_change(fixture->systemd, "web.service");
        run_ms(fixture, 1000);
        assert_string_equal(last_written, ONE);
        leader.gone = false;
        agent_state_changed(fixture->agent);
        UNTIL(fixture, n_starts == 2);
        assert_string_equal(last_written, TWO);
}

#define SOCKET "[Socket]\nListenStream=7\nAccept=yes\n"

/* Its file is in force before the socket starts, follows the cluster, and goes with the socket. */
static char template[64];
static int template_error;
static unsigned template_first; /* calls before a start */

static int put_recorded(Systemd *s, const char *name, const char *text, size_t size) {
        assert_string_equal(name, "echo@.service");
        if (template_error < 0 && text)
                return template_error;
        snprintf(template, sizeof(template), "%.*s", (int) size, text ?: "");
        template_first += n_starts == 0;
        return 0;
}

static void a_socket_that_accepts_has_its_template_beside_it(void **state) {
        Fixture *fixture = *state;

        bent.put_template = put_recorded;
        template[0] = template_first = 0;
        template_error = -ENOSPC;
        host_unit(fixture->host, "echo@.service", ONE, TARGET_INACTIVE);
        assign_to(fixture, "echo.socket", SOCKET, ASSIGNMENT_RUN);
        run_ms(fixture, START_MS);
        assert_int_equal(n_starts, 0);
        template_error = 0;
        UNTIL(fixture, is_published(fixture, "echo.socket", "active"));
        assert_string_equal(template, ONE);
        assert_true(template_first > 0);
        assert_null(state_of(fixture, "echo@.service"));
        host_unit(fixture->host, "echo@.service", TWO, TARGET_INACTIVE);
        UNTIL(fixture, streq(template, TWO));
        assert_int_equal(n_starts, 1);
        UNTIL(fixture, records_contain(fixture, "/bin/two"));

        /* Without the cluster, the recorded text counts. */
        close_agent(fixture);
        template[0] = 0;
        leader.gone = true;
        open_agent(fixture);
        UNTIL(fixture, streq(template, TWO));
        leader.gone = false;
        agent_state_changed(fixture->agent);
        host_order(fixture->host, "echo.socket", ASSIGNMENT_STOP);
        UNTIL(fixture, is_gone(fixture, "echo.socket"));
        assert_string_equal(template, "");
}

static void a_template_of_the_host_is_a_conflict_of_the_socket(void **state) {
        Fixture *fixture = *state;

        bent.put_template = put_recorded;
        template_error = -EEXIST;
        host_unit(fixture->host, "echo@.service", ONE, TARGET_INACTIVE);
        assign_to(fixture, "echo.socket", SOCKET, ASSIGNMENT_RUN);
        UNTIL(fixture, state_of(fixture, "echo.socket") &&
                               streq(state_of(fixture, "echo.socket")->load, STATE_FOREIGN));
        assert_int_equal(n_starts, 0);
        template_error = 0;
        UNTIL(fixture, is_published(fixture, "echo.socket", "active"));
}

static void units_that_could_not_be_read_are_read_again_after_half_a_second(void **state) {
        Fixture *fixture = *state;
        uint64_t began_ms;

        close_agent(fixture);
        assert_int_equal(real_ops->write_file(fixture->bus, "stray.service", ONE, strlen(ONE)), 0);
        pretence.error = -EIO;
        open_agent(fixture);
        run_ms(fixture, 10);
        run_pending(fixture);
        run_ms(fixture, 3500);
        assert_in_range(agent_counts(fixture->agent)->listings, 6, 9);
        pretence.error = 0;
        began_ms = world_now_ms(fixture->world);
        UNTIL(fixture, state_of(fixture, "stray.service")); /* only its file is known */
        assert_in_range(world_now_ms(fixture->world) - began_ms, 0, 1000);
}

static void all_units_are_read_when_any_may_have_changed(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        pretence = (Pretence) { .unit = "web.service", .active = "failed" };
        events.on_changed(events.userdata, NULL);
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
}

/* -- Starts and stops -- */

static void with_former_invocation(SystemdUnit *seen) {
        snprintf(seen->invocation_id, sizeof(seen->invocation_id), "%s", "0123456789abcdef0123456789abcdef");
}

static void a_rejected_start_is_not_recorded_as_made(void **state) {
        Fixture *fixture = *state;

        for (unsigned gone = 0; gone < 2; gone++) {
                bent.start = start_in_vain;
                vain = (Vain) { .unit = gone ? "lone.service" : "web.service", .error = -EPERM };
                pretence = (Pretence) { .unit = vain.unit, .change = with_former_invocation };
                assign(fixture, vain.unit);
                until_calls(fixture, 1, 1000);
                run_ms(fixture, 50);
                assert_false(is_recorded(fixture, vain.unit));
                if (!gone)
                        assert_false(records_contain(fixture, "\"startedBoot\"") ||
                                     records_contain(fixture, "\"before\""));
                pretence = (Pretence) {};
                if (gone) { /* the start is repeated without the cluster, too */
                        leader.gone = true;
                        agent_state_changed(fixture->agent);
                }
                vain.unit = NULL;
                run_ms(fixture, 1000);
                assert_int_equal(n_starts, 1 + gone);
        }
}

static bool reason_is(Fixture *fixture, const char *reason) {
        const UnitState *s = state_of(fixture, "web.service");

        return s && streq(s->reason ?: "", reason);
}

static uint64_t index_of_state(Fixture *fixture) {
        return cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, "web.service")
                ->index;
}

static void a_start_that_systemd_refuses_is_published_with_its_message_and_repeated(void **state) {
        Fixture *fixture = *state;
        uint64_t index;
        unsigned n;

        bent.start = start_in_vain;
        vain = (Vain) { .unit = "web.service", .error = -ENOENT, .message = "Unit ghost.service not found." };
        assign(fixture, "web.service");
        UNTIL(fixture, job_is(fixture, "refused"));
        assert_true(reason_is(fixture, "Unit ghost.service not found."));
        assert_true(is_published(fixture, "web.service", "inactive"));
        run_pending(fixture);
        index = index_of_state(fixture);
        n = vain.n;
        until_calls(fixture, n + 2, 20000); /* a repetition changes nothing */
        run_ms(fixture, 400);
        run_pending(fixture);
        assert_int_equal(index_of_state(fixture), index);

        vain.error = -ETIMEDOUT; /* no answer is no refusal */
        until_calls(fixture, n + 3, 20000);
        UNTIL(fixture, job_is(fixture, ""));
        vain.unit = NULL;
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_true(job_is(fixture, "") && reason_is(fixture, ""));
}

static void a_refused_start_is_forgotten_when_the_unit_is_started_otherwise(void **state) {
        Fixture *fixture = *state;

        bent.start = start_in_vain;
        vain = (Vain) { .unit = "web.service", .error = -ENOENT, .message = "Unit ghost.service not found." };
        assign(fixture, "web.service");
        UNTIL(fixture, job_is(fixture, "refused"));
        run_pending(fixture);
        change(fixture, "active", SYSTEMD_END_UNKNOWN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        run_pending(fixture);
        change(fixture, "failed", SYSTEMD_END_UNKNOWN);
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
        assert_true(job_is(fixture, ""));
        assert_false(reason_is(fixture, "Unit ghost.service not found."));
}

static void a_unit_that_does_not_run_is_published_with_the_reason(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        assert_true(reason_is(fixture, ""));
        sim_systemd_end(fixture->systemd, "web.service");
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
        assert_true(reason_is(fixture, "exit status 1"));
        run_pending(fixture);
        change(fixture, "active", SYSTEMD_END_UNKNOWN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        assert_true(reason_is(fixture, ""));
        run_pending(fixture);
        change(fixture, "inactive", SYSTEMD_END_STOPPED);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        assert_true(reason_is(fixture, "stopped by hand"));
        run_pending(fixture);
        change(fixture, "inactive", SYSTEMD_END_SKIPPED);
        UNTIL(fixture, job_is(fixture, "condition"));
        assert_non_null(strstr(state_of(fixture, "web.service")->reason, "condition of the unit"));
}

static void job_removed(const char *result) {
        events.on_job_removed(events.userdata, "web.service", result);
}

/* Until then it may still be reported as failed. */
static void an_ended_unit_has_completed_when_the_job_of_its_last_start_has_ended(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        change(fixture, "inactive", SYSTEMD_END_ITSELF);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture));
        bent.start = start_in_vain;
        vain.unit = "web.service";
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        until_calls(fixture, 1, 2000);
        run_ms(fixture, 50);
        change(fixture, "active", SYSTEMD_END_UNKNOWN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        change(fixture, "inactive", SYSTEMD_END_ITSELF);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        run_pending(fixture);
        run_ms(fixture, 1500);
        run_pending(fixture);
        assert_false(is_done(fixture));
        job_removed("failed");
        run_ms(fixture, 1500);
        run_pending(fixture);
        assert_false(is_done(fixture));
        job_removed("done");
        UNTIL(fixture, is_done(fixture));
}

static void the_result_of_a_job_is_published_until_the_next_one_or_until_the_unit_runs(void **state) {
        Fixture *fixture = *state;
        uint64_t ended_ms;

        bent.start = start_in_vain;
        vain.unit = "web.service";
        assign(fixture, "web.service");
        until_calls(fixture, 1, 1000);
        run_ms(fixture, 1000);
        run_pending(fixture);
        ended_ms = world_now_ms(fixture->world);
        job_removed("dependency");
        UNTIL(fixture, job_is(fixture, "dependency"));
        assert_in_range(world_now_ms(fixture->world) - ended_ms, 0, 1500); /* before the next resync */
        assert_true(records_contain(fixture, "\"job\":\"dependency\""));
        run_ms(fixture, 3000);
        assert_int_equal(vain.n, 1); /* no other unit has stopped it, so it is not started again */

        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        until_calls(fixture, 2, 2000);
        UNTIL(fixture, job_is(fixture, "")); /* the result of the start under way is unknown */
        job_removed("timeout");
        UNTIL(fixture, job_is(fixture, "timeout"));
        job_removed("done");
        UNTIL(fixture, job_is(fixture, ""));

        job_removed("timeout");
        UNTIL(fixture, job_is(fixture, "timeout"));
        change(fixture, "active", SYSTEMD_END_UNKNOWN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        change(fixture, "inactive", SYSTEMD_END_STOPPED);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        assert_true(job_is(fixture, ""));
}

static bool stopping;

static bool is_stopping(Systemd *s) {
        return stopping;
}

/* A reboot that was cancelled. */
static void a_start_delayed_by_a_shutdown_is_made_when_the_shutdown_is_cancelled(void **state) {
        Fixture *fixture = *state;

        bent.is_stopping = is_stopping;
        stopping = true;
        assign(fixture, "web.service");
        run_ms(fixture, 1000);
        assert_int_equal(n_starts, 0);
        stopping = false;
        events.on_job_removed(events.userdata, "shutdown.target",
                              "canceled"); /* of a unit that is not ours */
        events.on_changed(events.userdata, NULL);
        run_ms(fixture, 1000);
        assert_int_equal(n_starts, 1);
}

/* What ends because its host shuts down has not failed. */
static void the_end_of_a_unit_by_a_shutdown_is_not_published(void **state) {
        Fixture *fixture = *state;

        bent.is_stopping = is_stopping;
        run_unit(fixture, "web.service");
        stopping = true;
        sim_systemd_end(fixture->systemd, "web.service");
        run_ms(fixture, 3000);
        run_pending(fixture);
        assert_true(is_published(fixture, "web.service", "active"));
        stopping = false; /* it was cancelled */
        events.on_changed(events.userdata, NULL);
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
}

static bool is_stale;

static void stale(SystemdUnit *seen) {
        seen->need_reload = is_stale;
}

static int reload_stale(Systemd *s, SystemdDone done, void *userdata) {
        is_stale = false;
        return real_ops->reload(s, done, userdata);
}

static void a_running_unit_is_not_outdated_when_its_assignment_is_reverted(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.stop = stop_in_vain;
        bent.reload = reload_stale;
        vain = (Vain) { .unit = "web.service", .error = -EIO };
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_RUN);
        until_calls(fixture, 1, 1000);
        run_ms(fixture, 50);
        is_stale = true;
        pretence = (Pretence) { .unit = "web.service", .change = stale };
        sim_systemd_change(fixture->systemd, "web.service");
        run_ms(fixture, 50);
        vain.n = 0;
        assign(fixture, "web.service");
        run_ms(fixture, 3000);
        run_pending(fixture);
        run_ms(fixture, 3000);
        assert_false(is_stale);
        assert_int_equal(vain.n, 0);
        assert_int_equal(n_starts, 1);
}

/* -- Records -- */

static void without_a_file(SystemdUnit *seen) {
        snprintf(seen->load, sizeof(seen->load), "error");
        seen->owner = SYSTEMD_ABSENT;
}

static void a_completed_unit_stays_completed_when_the_x_fleet_section_is_edited(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        change(fixture, "inactive", SYSTEMD_END_ITSELF);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture));
        close_agent(fixture); /* the next daemon has only the records */
        open_agent(fixture);
        run_pending(fixture);
        assign_to(fixture, "web.service", TUNED, ASSIGNMENT_RUN);
        run_ms(fixture, 2000);
        run_pending(fixture);
        run_ms(fixture, 2000);
        assert_true(is_done(fixture));
        assert_int_equal(n_starts, 1);
}

static void a_unit_that_ended_before_this_boot_is_not_recorded_as_owned_in_it(void **state) {
        static const char earlier[] = "b0000000000000000000000000000000";
        Fixture *fixture = *state;
        char recorded[32];

        run_unit(fixture, "web.service");
        change(fixture, "inactive", SYSTEMD_END_ITSELF);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture));
        close_agent(fixture);
        change_record(fixture, "\"startedBoot\":\"", earlier);
        change_record(fixture, "\"ownedBoot\":\"", earlier);
        open_agent(fixture);
        run_pending(fixture);
        assign_to(fixture, "web.service", TUNED, ASSIGNMENT_RUN);
        snprintf(recorded, sizeof(recorded), "\"unit\":%llu}",
                 (unsigned long long) cluster_unit(registry_cluster(fixture->host->registry), "web.service")
                         ->index);
        UNTIL(fixture, records_contain(fixture, recorded));
        assert_false(records_contain(fixture, "Boot\":\"b0000000000000000000000000000001\""));
        assert_int_equal(n_starts, 1);
}

/* The write of the record would cause a plan, too, but takes long. */
static void a_missing_file_is_restored_at_once_when_a_start_is_adopted(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        change_record(fixture, "\"ran\":", "true,\"starting\":true");
        assert_int_equal(real_ops->remove_file(fixture->bus, "web.service"), 0);
        leader.gone = true;
        bent.write_file = write_recorded;
        last_written[0] = 0;
        world_loop_set_work_ms(fixture->loop, WRITE_MS, WRITE_MS);
        open_agent(fixture);
        run_ms(fixture, WRITE_MS / 2);
        assert_true(world_loop_is_working(fixture->loop));
        assert_string_equal(last_written, ONE);
        assert_int_equal(n_starts, 1);
        world_loop_set_work_ms(fixture->loop, 0, 2);
}

/* No daemon observes the second stop. */
static void a_unit_that_was_started_after_a_stop_by_hand_is_started_again_after_a_conflict(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.start = start_in_vain;
        vain.unit = "web.service";
        change(fixture, "inactive", SYSTEMD_END_STOPPED);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive"));
        change(fixture, "active", SYSTEMD_END_UNKNOWN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        close_agent(fixture);
        pretence = (Pretence) { .unit = "web.service", .active = "inactive", .held = true };
        open_agent(fixture);
        run_pending(fixture);
        run_ms(fixture, 1500);
        assert_int_equal(vain.n, 0);
        pretence.held = false;
        until_calls(fixture, 1, 3000);
}

static void an_assignment_to_load_ends_a_replacement(void **state) {
        static const char replacing[] = "\"replacing\":true";
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.write_file = write_in_vain;
        vain = (Vain) { .unit = "web.service", .error = -EIO };
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_RUN);
        UNTIL(fixture, vain.n > 0 && records_contain(fixture, replacing));
        vain.unit = NULL;
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_LOAD);
        UNTIL(fixture, records_contain(fixture, "\"order\":\"load\""));
        assert_false(records_contain(fixture, replacing));
}

static void without_an_invocation(SystemdUnit *seen) {
        seen->invocation_id[0] = 0;
}

static void a_unit_stopped_because_of_another_one_still_waits_when_its_start_was_lost(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        change_record(fixture, "\"ran\":", "true,\"starting\":true,\"stoppedFor\":true");
        bent.start = start_in_vain;
        vain.unit = "web.service";
        pretence = (Pretence) {
                .unit = "web.service", .active = "inactive", .held = true, .change = without_an_invocation
        };
        open_agent(fixture);
        run_pending(fixture);
        run_ms(fixture, 3000);
        assert_int_equal(vain.n, 0);
        pretence.held = false;
        until_calls(fixture, 1, 3000);
}

/* Its records do not have the owner of the file yet. */
static void a_unit_recorded_by_an_earlier_version_is_ours_while_its_text_is_replaced(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        change_record(fixture, "\"ownedBoot\":\"", "b0000000000000000000000000000000");
        assert_int_equal(real_ops->remove_file(fixture->bus, "web.service"), 0);
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_RUN);
        pretence = (Pretence) { .unit = "web.service", .change = without_a_file };
        bent.stop = stop_in_vain;
        vain = (Vain) { .unit = "web.service", .error = -ETIMEDOUT };
        open_agent(fixture);
        run_pending(fixture);
        until_calls(fixture, 2, 3000);
        vain.unit = NULL;
        UNTIL(fixture, n_stops == 1);
        pretence = (Pretence) {};
        UNTIL(fixture, n_starts == 2);
}

static int stage_without_space(Systemd *s, const char *name, const char *text, size_t size) {
        return -ENOSPC;
}

static void a_unit_without_its_file_is_stopped_although_the_disk_is_full(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.stage_file = stage_without_space;
        assert_int_equal(real_ops->remove_file(fixture->bus, "web.service"), 0);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, is_gone(fixture, "web.service"));
}

static void a_unit_is_not_stopped_when_the_disk_is_full_for_its_next_text(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.stage_file = stage_without_space;
        count_messages("Failed to write the file of web.service");
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_RUN);
        UNTIL(fixture, n_logged == 1);
        run_ms(fixture, 2000);
        assert_int_equal(n_stops, 0);
        count_messages(NULL);
        bent.stage_file = real_ops->stage_file;
        UNTIL(fixture, n_starts == 2);
        assert_int_equal(n_stops, 1);
}

static void the_index_of_a_stop_assignment_is_recorded(void **state) {
        Fixture *fixture = *state;
        char acted_index[64];

        run_unit(fixture, "web.service");
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        snprintf(acted_index, sizeof(acted_index), "\"floor\":%llu,",
                 (unsigned long long) cluster_assignment(registry_cluster(fixture->host->registry),
                                                         fixture->host->id, "web.service")
                         ->index);
        UNTIL(fixture, is_gone(fixture, "web.service"));
        close_agent(fixture);
        assert_true(records_contain(fixture, acted_index));
}

static void an_adopted_unit_has_completed_when_it_ends(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment");

        run_unit(fixture, "web.service");
        close_agent(fixture);
        scratch_write(path, "rubbish");
        open_agent(fixture);
        UNTIL(fixture, is_recorded(fixture, "web.service"));
        change(fixture, "inactive", SYSTEMD_END_ITSELF);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture));
        assert_int_equal(n_starts, 1);
}

static void a_unit_started_by_an_earlier_daemon_has_completed_when_it_ends(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        open_agent(fixture);
        run_pending(fixture);
        change(fixture, "inactive", SYSTEMD_END_ITSELF);
        UNTIL(fixture, is_published(fixture, "web.service", "inactive") && is_done(fixture));
        assert_int_equal(n_starts, 1);
}

static void of_the_host(SystemdUnit *seen) {
        seen->owner = SYSTEMD_CONFLICTING;
        seen->invocation_id[0] ^= n_reason; /* 1: that of another unit */
}

/* The end of a unit whose name the host has taken is ours only if the invocation is the one started here. */
static void the_end_of_a_conflicting_unit_is_not_the_end_of_ours(void **state) {
        Fixture *fixture = *state;
        uint64_t began_ms;

        assert_false(agent_has_conflict(fixture->agent, "web.service"));
        run_unit(fixture, "web.service");
        assert_false(agent_has_conflict(fixture->agent, "web.service"));
        pretence.change = of_the_host;
        n_reason = 1;
        change(fixture, "inactive", SYSTEMD_END_ITSELF);
        UNTIL(fixture, is_told_as(fixture, STATE_FOREIGN, "inactive"));
        assert_true(agent_has_conflict(fixture->agent, "web.service"));
        for (began_ms = world_now_ms(fixture->world); world_now_ms(fixture->world) < began_ms + 1000;)
                fixture_turn(fixture, began_ms + 1000);
        assert_false(records_contain(fixture, "\"done\":true"));
        n_reason = 0;
        change(fixture, "inactive", SYSTEMD_END_ITSELF);
        UNTIL(fixture, records_contain(fixture, "\"done\":true"));
        assert_int_equal(n_starts, 1);
}

static void with_our_file(SystemdUnit *seen) {
        snprintf(seen->load, sizeof(seen->load), "loaded");
        seen->owner = SYSTEMD_OURS;
}

static void a_unit_that_was_started_by_hand_is_not_conflicting_when_it_stops(void **state) {
        Fixture *fixture = *state;

        bent.link = link_in_vain;
        vain = (Vain) { .unit = "web.service", .error = -EEXIST };
        assign(fixture, "web.service");
        UNTIL(fixture, is_told_as(fixture, STATE_FOREIGN, "inactive"));
        pretence.change = with_our_file;
        change(fixture, "active", SYSTEMD_END_UNKNOWN);
        UNTIL(fixture, is_told_as(fixture, "loaded", "active"));
        run_pending(fixture);
        change(fixture, "inactive", SYSTEMD_END_STOPPED);
        UNTIL(fixture, !is_published(fixture, "web.service", "active"));
        assert_true(is_told_as(fixture, "loaded", "inactive"));
        assert_int_equal(n_starts, 0);
}

static const char *invocation;
static const char *sub;

static void with_another_invocation(SystemdUnit *seen) {
        snprintf(seen->invocation_id, sizeof(seen->invocation_id), "%s", invocation);
        snprintf(seen->sub, sizeof(seen->sub), "%s", sub);
}

static void the_last_invocation_is_recorded_when_the_daemon_stops(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        invocation = "0123456789abcdef0123456789abcdef"; /* Restart= */
        sub = "restarted";
        pretence = (Pretence) { .unit = "web.service", .change = with_another_invocation };
        sim_systemd_change(fixture->systemd, "web.service");
        UNTIL(fixture, streq(state_of(fixture, "web.service")->sub, sub));
        close_agent(fixture);
        assert_true(records_contain(fixture, invocation));
}

static SystemdUnit observed;

static void with_states(SystemdUnit *seen) {
        memcpy(seen->load, observed.load, sizeof(seen->load));
        memcpy(seen->active, observed.active, sizeof(seen->active));
        memcpy(seen->sub, observed.sub, sizeof(seen->sub));
}

static void a_state_is_published_with_the_time_of_its_last_change(void **state) {
        Fixture *fixture = *state;
        uint64_t began_ms, since_ms;
        char hash[41];

        run_unit(fixture, "web.service");
        observed = (SystemdUnit) { .load = "loaded", .active = "active", .sub = "running" };
        pretence = (Pretence) { .unit = "web.service", .change = with_states };
        for (unsigned i = 0; i < 3; i++) { /* each of the three counts */
                run_ms(fixture, 2000);
                run_pending(fixture);
                snprintf(i == 0 ? observed.sub :
                         i == 1 ? observed.load :
                                  observed.active,
                         sizeof(observed.sub), "%s", i == 2 ? "reloading" : "other");
                began_ms = loop_wall_ms(world_loop(fixture->loop));
                sim_systemd_change(fixture->systemd, "web.service");
                UNTIL(fixture, streq(state_of(fixture, "web.service")->sub, observed.sub) &&
                                       streq(state_of(fixture, "web.service")->load, observed.load) &&
                                       streq(state_of(fixture, "web.service")->active, observed.active));
                since_ms = state_of(fixture, "web.service")->since_ms;
                assert_in_range(since_ms, began_ms, began_ms + 50);
        }
        snprintf(hash, sizeof(hash), "%s", state_of(fixture, "web.service")->hash);
        assign_to(fixture, "web.service", TUNED, ASSIGNMENT_RUN); /* and no other change does */
        UNTIL(fixture, !streq(state_of(fixture, "web.service")->hash, hash));
        assert_int_equal(state_of(fixture, "web.service")->since_ms, since_ms);
}

static char start_id[INVOCATION_ID_SIZE];

static void with_invocation(SystemdUnit *seen) {
        memcpy(seen->invocation_id, start_id, sizeof(start_id));
}

static uint64_t index_of(Fixture *fixture) {
        return cluster_state(registry_cluster(fixture->host->registry), fixture->host->id, "web.service")
                ->index;
}

/* Return the time at which another start was published. */
static uint64_t start_again(Fixture *fixture, char digit) {
        memset(start_id, digit, sizeof(start_id) - 1);
        pretence = (Pretence) { .unit = "web.service", .change = with_invocation };
        if (fixture->agent)
                sim_systemd_change(fixture->systemd, "web.service");
        else
                open_agent(fixture);
        UNTIL(fixture, streq(state_of(fixture, "web.service")->invocation, start_id));
        return state_of(fixture, "web.service")->since_ms;
}

/* The unit is active before and after it. */
static void each_start_is_published_with_its_time(void **state) {
        Fixture *fixture = *state;
        uint64_t began_ms, since_ms, index;
        StateChange old = { .unit = "web.service" };
        char hash[41];

        run_unit(fixture, "web.service");
        run_ms(fixture, 2000);
        run_pending(fixture);
        began_ms = loop_wall_ms(world_loop(fixture->loop));
        since_ms = start_again(fixture, 'a');
        assert_in_range(since_ms, began_ms, began_ms + 50);

        /* A start of the daemon is none of the unit. */
        index = index_of(fixture);
        close_agent(fixture);
        run_ms(fixture, 5000);
        open_agent(fixture);
        run_ms(fixture, 3000);
        run_pending(fixture);
        assert_int_equal(index_of(fixture), index);
        snprintf(hash, sizeof(hash), "%s", state_of(fixture, "web.service")->hash);
        assign_to(fixture, "web.service", TUNED, ASSIGNMENT_RUN);
        UNTIL(fixture, !streq(state_of(fixture, "web.service")->hash, hash));
        assert_int_equal(state_of(fixture, "web.service")->since_ms, since_ms);

        /* Nor is that of a daemon which knows more than the previous one. */
        close_agent(fixture);
        assert_int_equal(unit_state_init(&old.state, "loaded", "active", "running",
                                         state_of(fixture, "web.service")->hash, since_ms, false),
                         0);
        assert_int_equal(host_wait(fixture->host, registry_publish(fixture->host->registry, &old, 1,
                                                                   host_on_done, fixture->host)),
                         KV_OK);
        unit_state_done(&old.state);
        assert_int_equal(start_again(fixture, 'a'), since_ms);

        /* The unit was started while no daemon ran. */
        close_agent(fixture);
        run_ms(fixture, 2000);
        began_ms = loop_wall_ms(world_loop(fixture->loop));
        assert_true(start_again(fixture, 'b') >= began_ms);
}

/* -- Removal -- */

static unsigned n_resets, n_removed;

static void with_conflict(SystemdUnit *seen) {
        seen->owner = SYSTEMD_CONFLICTING;
}

static void ignore(void *userdata, int error, const char *message) {}

static int remove_recorded(Systemd *s, const char *name) {
        n_removed++;
        return real_ops->remove_file(s, name);
}

static int removal; /* the result of the next one */

static int remove_once(Systemd *s, const char *name) {
        int r = removal;

        removal = 0;
        return r < 0 ? r : real_ops->remove_file(s, name);
}

static bool resets_fail;
static unsigned n_before; /* resets before the last start */

static int reset_counted(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_resets++;
        return resets_fail ? -ENOTCONN : real_ops->reset_failed(s, name, done, userdata);
}

static void a_failed_state_is_reset_with_the_removal_unless_the_unit_conflicts(void **state) {
        static const struct {
                const char *active;
                bool conflicting, fails;
                unsigned n;
        } rows[] = { { "failed", false, false, 1 },
                     { "inactive", false, false, 0 },
                     { "failed", true, false, 0 },
                     { "failed", false, true, 1 } };
        Fixture *fixture = *state;

        bent.reset_failed = reset_counted;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                n_resets = 0;
                resets_fail = rows[i].fails;
                run_unit(fixture, "web.service");
                pretence.change = rows[i].conflicting ? with_conflict : NULL;
                change(fixture, rows[i].active, SYSTEMD_END_UNKNOWN);
                run_ms(fixture, 1500);
                run_pending(fixture);
                host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
                UNTIL(fixture, is_gone(fixture, "web.service"));
                assert_int_equal(n_resets, rows[i].n);
                pretence = (Pretence) {};
                assert_int_equal(real_ops->stop(fixture->bus, "web.service", ignore, NULL), 0);
                run_ms(fixture, 4000);
        }
}

static int start_after_resets(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_before = n_resets;
        return real_ops->start(s, name, done, userdata);
}

/* systemd would refuse it after its start limit. */
static void a_failed_state_is_reset_before_an_assigned_start(void **state) {
        Fixture *fixture = *state;

        bent.reset_failed = reset_counted;
        bent.start = start_after_resets;
        n_resets = resets_fail = 0;
        run_unit(fixture, "web.service");
        assert_int_equal(n_before, 0);
        change(fixture, "failed", SYSTEMD_END_UNKNOWN);
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
        assert_int_equal(real_ops->stop(fixture->bus, "web.service", ignore, NULL), 0);
        run_ms(fixture, 4000);
        assign_to(fixture, "web.service", "[Service]\nExecStart=/bin/two\n", ASSIGNMENT_RUN);
        UNTIL(fixture, n_before == 1);
}

static void a_unit_whose_link_cannot_be_removed_keeps_its_file_and_assignment(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.unlink = unlink_in_vain;
        bent.remove_file = remove_recorded;
        n_removed = 0;
        vain = (Vain) { .unit = "web.service", .error = -EPERM };
        count_messages("Failed to remove web.service");
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        until_calls(fixture, 2, 6000);
        run_pending(fixture);
        assert_int_equal(n_logged, 1);
        assert_int_equal(n_removed, 0);
        assert_true(has_assignment(fixture, "web.service"));
        count_messages("Failed to remove");
        vain.unit = NULL;
        UNTIL(fixture, is_gone(fixture, "web.service"));
        assert_int_equal(n_removed, 1);
        assert_int_equal(n_stops, 1);
        assert_int_equal(n_logged, 0);
        count_messages(NULL);
}

static void a_file_that_cannot_be_removed_is_logged_unless_it_is_gone(void **state) {
        Fixture *fixture = *state;

        bent.remove_file = remove_once;
        for (unsigned gone = 0; gone < 2; gone++) {
                run_unit(fixture, "web.service");
                removal = gone ? -ENOENT : -EIO;
                count_messages("Failed to remove the file of web.service");
                host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
                UNTIL(fixture, is_gone(fixture, "web.service"));
                assert_int_equal(removal, 0);
                assert_int_equal(n_logged, !gone);
        }
        count_messages(NULL);
}

static int start_counted(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        vain.n++;
        return real_ops->start(s, name, done, userdata);
}

/* ResetFailedUnit ends before the removal. */
static void a_failed_unit_gets_no_step_until_its_removal_has_ended(void **state) {
        const char *name = "web.service";
        Fixture *fixture = *state;

        run_unit(fixture, name);
        sim_systemd_end(fixture->systemd, name);
        UNTIL(fixture, is_published(fixture, name, "failed"));
        run_pending(fixture);
        await_round(fixture);
        bent.unlink = unlink_in_vain;
        vain = (Vain) { .unit = name, .held = true };
        host_order(fixture->host, name, ASSIGNMENT_STOP);
        UNTIL(fixture, vain.n == 1);
        vain.n = 0;
        bent.start = start_counted;
        host_order(fixture->host, name, ASSIGNMENT_RUN);
        run_pending(fixture);
        run_ms(fixture, 3000);
        assert_int_equal(vain.n, 0);
        vain.unit = NULL;
        assert_int_equal(real_ops->unlink(fixture->bus, &name, 1, vain.done, vain.userdata), 0);
        UNTIL(fixture, is_published(fixture, name, "active"));
        assert_int_equal(vain.n, 1);
        assert_int_equal(n_unrecorded, 0);
}

static void changes_during_a_save_are_saved_even_while_systemd_does_not_reply(void **state) {
        Fixture *fixture = *state;

        bent.start = start_in_vain;
        vain = (Vain) { .unit = "web.service", .held = true };
        assign(fixture, "web.service");
        until_calls(fixture, 1, 1000);
        run_ms(fixture, 200);
        world_loop_set_work_ms(fixture->loop, WRITE_MS, WRITE_MS);
        assign_to(fixture, "other.service", ONE, ASSIGNMENT_LOAD);
        UNTIL(fixture, world_loop_is_working(fixture->loop));
        vain.done(vain.userdata, 0, "");
        assert_true(records_contain(fixture, "\"starting\":true"));
        sim_systemd_drop_bus(fixture->systemd, 20000);
        run_ms(fixture, 3 * WRITE_MS);
        assert_false(records_contain(fixture, "\"starting\":true"));
}

static struct {
        bool armed; /* for the listing after a link */
        SystemdListed done;
        void *userdata;
        unsigned n_stops;
} socket_start;

static void start_by_socket(void *userdata, int error, const SystemdUnit *units, size_t n) {
        socket_start.done(socket_start.userdata, error, units, n);
        pretence = (Pretence) { .unit = "web.service", .active = "active", .change = with_former_invocation };
}

static int list_before_socket(Systemd *s, const char *const *names, size_t n, bool all, SystemdListed done,
                              void *userdata) {
        if (!socket_start.armed || !is_linked)
                return list_pretended(s, names, n, all, done, userdata);
        socket_start.armed = false;
        socket_start.done = done;
        socket_start.userdata = userdata;
        return list_pretended(s, names, n, all, start_by_socket, NULL);
}

static int stop_counted(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        socket_start.n_stops++;
        return real_ops->stop(s, name, done, userdata);
}

static void an_invocation_after_systemd_read_the_new_text_is_not_outdated(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.link = link_recorded;
        bent.list = list_before_socket;
        bent.stop = stop_counted;
        is_linked = false;
        socket_start.armed = true;
        socket_start.n_stops = 0;
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_RUN);
        UNTIL(fixture, !socket_start.armed && pretence.unit);
        run_ms(fixture, 3000);
        run_pending(fixture);
        assert_int_equal(socket_start.n_stops, 1); /* of the former one */
}

static void a_unit_stopped_again_because_of_another_one_waits_a_second_again(void **state) {
        Fixture *fixture = *state;
        uint64_t changed_ms;

        run_unit(fixture, "web.service");
        bent.start = start_in_vain;
        vain.unit = "web.service";
        change(fixture, "inactive", SYSTEMD_END_STOPPED_FOR);
        run_ms(fixture, 500);
        change(fixture, "active", SYSTEMD_END_UNKNOWN);
        run_ms(fixture, 3000);
        assert_int_equal(vain.n, 0);
        changed_ms = world_now_ms(fixture->world);
        change(fixture, "inactive", SYSTEMD_END_STOPPED_FOR);
        until_calls(fixture, 1, 2000);
        assert_in_range(vain.at_ms[0] - changed_ms, 1000, 1200);
}

/* A start without a reply causes no pass. */
static void an_assignment_that_comes_during_a_failing_write_is_executed(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment");

        bent.start = start_in_vain;
        vain = (Vain) { .unit = "slow.service", .held = true };
        await_round(fixture);
        (void) unlink(path);
        assert_int_equal(mkdir(path, 0700), 0); /* no file replaces a folder */
        assign_slowly(fixture, "slow.service");
        assign(fixture, "late.service");
        until_calls(fixture, 1, 2 * WRITE_MS);
        run_ms(fixture, WRITE_MS + 100);
        assert_int_equal(n_starts, 1);
        assert_int_equal(rmdir(path), 0);
}

/* It changes too often to be read each time. */
static void a_unit_whose_last_change_is_not_read_yet_is_read_before_its_next_step(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.stop = stop_in_vain;
        vain = (Vain) { .unit = "web.service" };
        count_messages("web.service: stop");
        for (unsigned i = 0; i < 20; i++) {
                sim_systemd_change(fixture->systemd, "web.service");
                run_ms(fixture, 5);
        }
        pretence = (Pretence) { .unit = "web.service", .active = "inactive", .end = SYSTEMD_END_STOPPED };
        sim_systemd_change(fixture->systemd, "web.service");
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        run_ms(fixture, 1000);
        run_pending(fixture);
        assert_int_equal(n_logged, 0);
        assert_int_equal(vain.n, 0);
        count_messages(NULL);
}

static void metrics_of_a_unit_end_with_its_file(void **state) {
        Fixture *fixture = *state;
        Settings settings = { .metrics_units = 10 };
        const ComponentHost host = { .settings = &settings,
                                     .agent = fixture->agent,
                                     .registry = fixture->host->registry };
        MetricsScrape *scrape = NEW0(MetricsScrape, 1);

        assert_non_null(scrape);
        assert_int_equal(metrics_units_collect(&host, scrape), 0);
        assert_int_equal(scrape->n_units + scrape->n_omitted, 0);

        run_unit(fixture, "web.service");
        run_unit(fixture, "db.service");
        assert_int_equal(metrics_units_collect(&host, scrape), 0);
        assert_int_equal(scrape->n_units, 2);
        assert_int_equal(scrape->n_omitted, 0);
        for (size_t i = 0; i < 2; i++) {
                const MetricsUnit *u = &scrape->units[i];

                assert_true(streq(u->name, "web.service") || streq(u->name, "db.service"));
                assert_true(u->active && !u->failed && !u->inactive);
                assert_int_equal(u->since_ms, state_of(fixture, u->name)->since_ms);
        }
        scrape = metrics_scrape_free(scrape);

        settings.metrics_units = 1;
        scrape = NEW0(MetricsScrape, 1);
        assert_non_null(scrape);
        assert_int_equal(metrics_units_collect(&host, scrape), 0);
        assert_int_equal(scrape->n_units, 1);
        assert_int_equal(scrape->n_omitted, 1);
        scrape = metrics_scrape_free(scrape);

        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, is_gone(fixture, "web.service"));
        scrape = NEW0(MetricsScrape, 1);
        assert_non_null(scrape);
        assert_int_equal(metrics_units_collect(&host, scrape), 0);
        assert_int_equal(scrape->n_units, 1);
        assert_int_equal(scrape->n_omitted, 0);
        assert_string_equal(scrape->units[0].name, "db.service");
        metrics_scrape_free(scrape);
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                in_a_faulty_fixture(a_file_that_systemd_does_not_load_is_delayed_after_three_writes),
                in_a_faulty_fixture(a_long_call_delays_no_other_unit),
                in_a_faulty_fixture(no_file_is_written_while_systemd_does_not_reply),
                in_a_faulty_fixture(systemd_is_reloaded_when_a_linked_file_is_not_in_force),
                in_a_faulty_fixture(a_unit_that_is_not_loaded_after_its_link_is_linked_again),
                in_a_faulty_fixture(without_the_cluster_a_missing_file_is_restored_from_its_record),
                in_a_faulty_fixture(a_socket_that_accepts_has_its_template_beside_it),
                in_a_faulty_fixture(a_template_of_the_host_is_a_conflict_of_the_socket),
                in_a_faulty_fixture(units_that_could_not_be_read_are_read_again_after_half_a_second),
                in_a_faulty_fixture(all_units_are_read_when_any_may_have_changed),
                in_a_faulty_fixture(a_rejected_start_is_not_recorded_as_made),
                in_a_faulty_fixture(a_start_that_systemd_refuses_is_published_with_its_message_and_repeated),
                in_a_faulty_fixture(a_refused_start_is_forgotten_when_the_unit_is_started_otherwise),
                in_a_faulty_fixture(a_unit_that_does_not_run_is_published_with_the_reason),
                in_a_faulty_fixture(an_ended_unit_has_completed_when_the_job_of_its_last_start_has_ended),
                in_a_faulty_fixture(
                        the_result_of_a_job_is_published_until_the_next_one_or_until_the_unit_runs),
                in_a_faulty_fixture(a_start_delayed_by_a_shutdown_is_made_when_the_shutdown_is_cancelled),
                in_a_faulty_fixture(the_end_of_a_unit_by_a_shutdown_is_not_published),
                in_a_faulty_fixture(a_running_unit_is_not_outdated_when_its_assignment_is_reverted),
                in_a_faulty_fixture(a_completed_unit_stays_completed_when_the_x_fleet_section_is_edited),
                in_a_faulty_fixture(a_unit_that_ended_before_this_boot_is_not_recorded_as_owned_in_it),
                in_a_faulty_fixture(a_missing_file_is_restored_at_once_when_a_start_is_adopted),
                in_a_faulty_fixture(
                        a_unit_that_was_started_after_a_stop_by_hand_is_started_again_after_a_conflict),
                in_a_faulty_fixture(an_assignment_to_load_ends_a_replacement),
                in_a_faulty_fixture(
                        a_unit_stopped_because_of_another_one_still_waits_when_its_start_was_lost),
                in_a_faulty_fixture(a_unit_recorded_by_an_earlier_version_is_ours_while_its_text_is_replaced),
                in_a_faulty_fixture(a_unit_without_its_file_is_stopped_although_the_disk_is_full),
                in_a_faulty_fixture(metrics_of_a_unit_end_with_its_file),
                in_a_faulty_fixture(a_unit_is_not_stopped_when_the_disk_is_full_for_its_next_text),
                in_a_faulty_fixture(the_index_of_a_stop_assignment_is_recorded),
                in_a_faulty_fixture(an_adopted_unit_has_completed_when_it_ends),
                in_a_faulty_fixture(a_unit_started_by_an_earlier_daemon_has_completed_when_it_ends),
                in_a_faulty_fixture(the_end_of_a_conflicting_unit_is_not_the_end_of_ours),
                in_a_faulty_fixture(a_unit_that_was_started_by_hand_is_not_conflicting_when_it_stops),
                in_a_faulty_fixture(the_last_invocation_is_recorded_when_the_daemon_stops),
                in_a_faulty_fixture(a_state_is_published_with_the_time_of_its_last_change),
                in_a_faulty_fixture(each_start_is_published_with_its_time),
                in_a_faulty_fixture(a_failed_state_is_reset_with_the_removal_unless_the_unit_conflicts),
                in_a_faulty_fixture(a_failed_state_is_reset_before_an_assigned_start),
                in_a_faulty_fixture(a_unit_whose_link_cannot_be_removed_keeps_its_file_and_assignment),
                in_a_faulty_fixture(a_failed_unit_gets_no_step_until_its_removal_has_ended),
                in_a_faulty_fixture(changes_during_a_save_are_saved_even_while_systemd_does_not_reply),
                in_a_faulty_fixture(an_invocation_after_systemd_read_the_new_text_is_not_outdated),
                in_a_faulty_fixture(a_unit_stopped_again_because_of_another_one_waits_a_second_again),
                in_a_faulty_fixture(an_assignment_that_comes_during_a_failing_write_is_executed),
                in_a_faulty_fixture(a_unit_whose_last_change_is_not_read_yet_is_read_before_its_next_step),
                in_a_faulty_fixture(a_file_that_cannot_be_removed_is_logged_unless_it_is_gone),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
