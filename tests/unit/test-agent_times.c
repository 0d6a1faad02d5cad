/* Times of the agent: publication of states, repetition of steps, and calls, with a systemd in virtual time.
 */
#include <fcntl.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"
#include "tests/lib/words_of.h"

#define ONE "[Service]\nExecStart=/bin/one\n"
#define TWO "[Service]\nExecStart=/bin/two\n"

/* -- Transitions -- */

static bool runs_with_another_text(Fixture *fixture, const char *unit, const char *hash) {
        const UnitState *s = state_of(fixture, unit);

        assert_non_null(s);
        assert_string_equal(s->active, "active"); /* nothing else is published in between */
        return !streq(s->hash, hash);
}

/* Waiting for the host in real time requires that all operations of the world are under way. */
static void a_transition_is_published_when_it_lasts_and_its_result_at_once(void **state) {
        Fixture *fixture = *state;
        char hash[41];

        bent.start = start_in_vain;
        bent.stop = stop_in_vain;
        vain = (Vain) { .unit = "web.service", .held = true };
        assign(fixture, "web.service");
        until_calls(fixture, 1, 1000); /* it is inactive for some ten ms, and its start has no reply */
        run_ms(fixture, 200);
        host_pause(fixture->host, 50);
        assert_null(state_of(fixture, "web.service"));
        run_ms(fixture, 200);
        HOST_UNTIL(fixture->host, is_published(fixture, "web.service", "inactive"));
        run_pending(fixture);

        /* It runs: that is published at once, although another state was published just now. */
        assert_int_equal(real_ops->start(fixture->bus, "web.service", vain.done, vain.userdata), 0);
        run_ms(fixture, 100);
        HOST_UNTIL(fixture->host, is_published(fixture, "web.service", "active"));
        run_pending(fixture);

        /* It gets another text: between stop and start it is inactive for less than 300 ms. */
        snprintf(hash, sizeof(hash), "%s", state_of(fixture, "web.service")->hash);
        vain.unit = NULL;
        assign_to(fixture, "web.service", TWO, ASSIGNMENT_RUN);
        UNTIL(fixture, runs_with_another_text(fixture, "web.service", hash));
        run_pending(fixture);

        /* It is assigned to stop, and takes long: that is published when it lasts, although another state was
         * published just now. */
        vain = (Vain) { .unit = "web.service", .held = true };
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        until_calls(fixture, 1, 1000);
        pretence = (Pretence) { .unit = "web.service", .active = "deactivating" };
        sim_systemd_change(fixture->systemd, "web.service");
        run_ms(fixture, 400);
        HOST_UNTIL(fixture->host, is_published(fixture, "web.service", "deactivating"));
        pretence.active = NULL;
        assert_int_equal(real_ops->stop(fixture->bus, "web.service", vain.done, vain.userdata), 0);
        vain.unit = NULL;
        UNTIL(fixture, is_gone(fixture, "web.service"));
}

static const struct {
        const char *active;
        bool job;
} passing[] = { { "active", true }, { "activating" }, { "deactivating" }, { "reloading" } };

static size_t n_passing; /* the row in effect */

static void on_its_way(SystemdUnit *seen) {
        snprintf(seen->active, sizeof(seen->active), "%s", passing[n_passing].active);
        snprintf(seen->sub, sizeof(seen->sub), "passing");
        seen->job = passing[n_passing].job;
}

static bool is_passing(Fixture *fixture) {
        return streq(state_of(fixture, "web.service")->sub, "passing");
}

static void a_transition_is_published_when_it_lasts_for_300_ms(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        for (n_passing = 0; n_passing < ELEMENTS(passing); n_passing++) {
                run_ms(fixture, 1500); /* since the last publication of the unit */
                run_pending(fixture);
                for (unsigned once = 0; once < 2;
                     once++) { /* a transition of a second ago no longer counts */
                        pretence = (Pretence) { .unit = "web.service", .change = once ? NULL : on_its_way };
                        sim_systemd_change(fixture->systemd, "web.service");
                        run_ms(fixture, once ? 1050 : 200);
                        run_pending(fixture);
                        assert_false(is_passing(fixture));
                }
                pretence.change = on_its_way;
                sim_systemd_change(fixture->systemd, "web.service");
                run_ms(fixture, 280);
                host_pause(fixture->host, 20);
                assert_false(is_passing(fixture));
                run_ms(fixture, 60);
                HOST_UNTIL(fixture->host, is_passing(fixture));

                pretence = (Pretence) {};
                sim_systemd_change(fixture->systemd, "web.service");
                UNTIL(fixture, !is_passing(fixture));
        }
}

/* Each time the transition lasts 100 ms. */
static void a_unit_that_restarts_again_and_again_is_published_as_in_transition(void **state) {
        Fixture *fixture = *state;
        uint64_t began_ms, next_ms;

        run_unit(fixture, "web.service");
        run_ms(fixture, 1500);
        run_pending(fixture);
        n_passing = 1;
        pretence.unit = "web.service";
        began_ms = next_ms = world_now_ms(fixture->world);
        for (unsigned n = 0; !is_passing(fixture); n++) {
                pretence.change = n % 2 ? NULL : on_its_way;
                sim_systemd_change(fixture->systemd, "web.service");
                for (next_ms += n % 2 ? 50 : 100; world_now_ms(fixture->world) < next_ms;)
                        fixture_turn(fixture, began_ms + 3000);
        }
        pretence = (Pretence) {};
}

static void on_restart(SystemdUnit *seen) {
        snprintf(seen->active, sizeof(seen->active), "activating");
        snprintf(seen->sub, sizeof(seen->sub), "auto-restart");
        snprintf(seen->result, sizeof(seen->result), "watchdog");
}

static void on_failure(SystemdUnit *seen) {
        snprintf(seen->active, sizeof(seen->active), "failed");
        snprintf(seen->sub, sizeof(seen->sub), "failed");
        snprintf(seen->result, sizeof(seen->result), "watchdog");
        seen->n_restarts = 5;
}

/* Change the unit, and wait for 100 ms. */
static void change_for_now(Fixture *fixture, void (*change)(SystemdUnit *seen)) {
        pretence = (Pretence) { .unit = "web.service", .change = change };
        sim_systemd_change(fixture->systemd, "web.service");
        run_ms(fixture, 100);
}

static void on_stop(SystemdUnit *seen) {
        snprintf(seen->active, sizeof(seen->active), "inactive");
        snprintf(seen->sub, sizeof(seen->sub), "dead");
        seen->end = SYSTEMD_END_STOPPED;
}

/* The user of "start" waits for it: other states of a unit are published at most once a second. */
static void the_first_failure_after_a_start_is_published_at_once(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        change_for_now(fixture, on_restart);
        HOST_UNTIL(fixture->host, is_published(fixture, "web.service", "activating"));
        assert_string_equal(state_of(fixture, "web.service")->reason, "watchdog");
        run_pending(fixture);
        change_for_now(fixture, on_failure); /* the last one of a loop is another kind */
        HOST_UNTIL(fixture->host, is_published(fixture, "web.service", "failed"));
        assert_string_equal(state_of(fixture, "web.service")->reason, "watchdog, after 5 restarts");
        run_pending(fixture);

        /* A user starts it: that makes the next failure the first one. */
        pretence = (Pretence) {};
        sim_systemd_end(fixture->systemd, "web.service");
        run_pending(fixture);
        host_order(fixture->host, "web.service", ASSIGNMENT_RUN);
        UNTIL(fixture, is_published(fixture, "web.service", "active"));
        change_for_now(fixture, on_failure);
        HOST_UNTIL(fixture->host, is_published(fixture, "web.service", "failed"));
        pretence = (Pretence) {};
}

static void a_unit_that_is_stopped_by_hand_after_its_start_is_published_at_once(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        change_for_now(fixture, on_stop);
        HOST_UNTIL(fixture->host, is_published(fixture, "web.service", "inactive"));
        assert_string_equal(state_of(fixture, "web.service")->reason, "stopped by hand");
        pretence = (Pretence) {};
}

static void a_repeated_failure_is_published_after_a_second(void **state) {
        static void (*const changes[])(SystemdUnit * seen) = { on_failure, on_restart, on_stop };
        static const char *const actives[] = { "failed", "activating", "inactive" };
        Fixture *fixture = *state;

        for (size_t i = 0; i < ELEMENTS(changes); i++) {
                const char *active = actives[i];
                uint64_t published_ms;

                run_ms(fixture, 1500);
                run_unit(fixture, "web.service");
                change_for_now(fixture, changes[i]);
                HOST_UNTIL(fixture->host, is_published(fixture, "web.service", active));
                run_pending(fixture);
                pretence = (Pretence) {};
                sim_systemd_change(fixture->systemd, "web.service");
                UNTIL(fixture, is_published(fixture, "web.service", "active"));
                run_pending(fixture);
                published_ms = world_now_ms(fixture->world);
                change_for_now(fixture, changes[i]);
                host_pause(fixture->host, 50);
                assert_true(is_published(fixture, "web.service", "active"));
                UNTIL(fixture, is_published(fixture, "web.service", active));
                assert_in_range(world_now_ms(fixture->world) - published_ms, 500, 1500);
                run_pending(fixture);
                pretence = (Pretence) {};
                sim_systemd_change(fixture->systemd, "web.service");
                UNTIL(fixture, is_published(fixture, "web.service", "active"));
        }
}

/* -- The cluster, its leader and its lineage -- */

static void nothing_is_published_before_this_host_has_caught_up(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        pretence = (Pretence) { .unit = "web.service", .active = "failed" };
        leader.hold = true;
        open_agent(fixture);
        UNTIL(fixture, leader.held);
        run_ms(fixture, 2000);
        run_pending(fixture);
        assert_true(is_published(fixture, "web.service", "active"));
        leader.held->done(leader.held->userdata, KV_OK);
        leader = (Leader) {};
        UNTIL(fixture, is_published(fixture, "web.service", "failed"));
}

static struct {
        int error; /* of each one */
        bool held; /* without a reply */
        unsigned n;
        uint64_t at_ms[20];
        bool early; /* a report was made before all was published */
        RegistryDone done;
        void *userdata;
} reports;

int __real_registry_report(Registry *r, RegistryDone done, void *userdata);
int __wrap_registry_report(Registry *r, RegistryDone done, void *userdata);

int __wrap_registry_report(Registry *r, RegistryDone done, void *userdata) {
        assert_true(reports.n < ELEMENTS(reports.at_ms));
        reports.at_ms[reports.n++] = world_now_ms(running->world);
        reports.early |= !is_published(running, "web.service", "reloading");
        reports.done = done;
        reports.userdata = userdata;
        return reports.error < 0 || reports.held ? reports.error : __real_registry_report(r, done, userdata);
}

static bool is_reported(Fixture *fixture) {
        const Cluster *c = registry_cluster(fixture->host->registry);

        return cluster_machine(c, fixture->host->id)->reported == c->lineage;
}

static void complete_publication_is_reported_to_a_cluster_that_waits_for_it(void **state) {
        Fixture *fixture = *state;
        uint64_t answered_ms;
        unsigned n;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        write_adopting(fixture, KV_SET);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        pretence = (Pretence) { .unit = "web.service", .active = "reloading" };
        memset(&reports, 0, sizeof(reports));
        reports.error = -ENOMEM;
        open_agent(fixture);
        UNTIL(fixture, reports.n > 0);
        run_pending(fixture);
        run_ms(fixture, 2000);
        n = reports.n;
        assert_in_range(reports.at_ms[n - 1] - reports.at_ms[n - 2], 500, 550);
        reports.error = 0;
        reports.held = true;
        run_ms(fixture, 2000);
        agent_state_changed(fixture->agent);
        run_ms(fixture, 1000);
        assert_int_equal(reports.n, ++n); /* one at a time */
        answered_ms = world_now_ms(fixture->world);
        reports.held = false;
        reports.done(reports.userdata, KV_UNKNOWN, "", 0);
        run_ms(fixture, 1200);
        assert_int_equal(reports.n, ++n);
        assert_in_range(reports.at_ms[n - 1] - answered_ms, 1000, 1050);
        UNTIL(fixture, is_reported(fixture));
        run_pending(fixture);
        run_ms(fixture, 2000);
        assert_int_equal(reports.n, n); /* and once */
        assert_false(reports.early);
        assert_int_equal(n_stops, 0);
        assert_true(has_assignment(fixture, "web.service"));

        count_messages("has a new lineage");
        write_adopting(fixture, KV_DELETE);
        pretence = (Pretence) {};
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(n_stops, 1);
        assert_int_equal(n_logged, 0); /* it is the same one */
        count_messages(NULL);
}

/* An attached host may follow the recovered cluster before it has noticed that it had no replica. */
static void a_host_that_has_followed_a_leader_all_the_time_reports_too(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        memset(&reports, 0, sizeof(reports));
        write_adopting(fixture, KV_SET);
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(fixture, is_reported(fixture));
        run_ms(fixture, 2000);
        assert_int_equal(reports.n, 1);
        assert_int_equal(n_stops, 0);
        write_adopting(fixture, KV_DELETE);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
        assert_int_equal(n_stops, 1);
}

static bool unexpected_is_rejected; /* other.service, as one unit too many that is not assigned */
static unsigned n_rejected;

int __real_registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done,
                            void *userdata);
int __wrap_registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done,
                            void *userdata);

int __wrap_registry_publish(Registry *r, const StateChange *changes, size_t n, RegistryDone done,
                            void *userdata) {
        for (size_t i = 0; unexpected_is_rejected && i < n; i++)
                if (streq(changes[i].unit, "other.service")) {
                        n_rejected++;
                        return -EDQUOT;
                }
        return __real_registry_publish(r, changes, n, done, userdata);
}

/* As after a restore of a tree in which the unit is not assigned to the host. */
static void a_report_that_the_cluster_rejects_holds_back_no_state_of_an_assigned_unit(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        run_unit(fixture, "other.service");
        close_agent(fixture);
        delete_key(fixture, LAYOUT_ASSIGNMENT, "other.service");
        delete_key(fixture, LAYOUT_STATE, "other.service");
        unexpected_is_rejected = true;
        n_rejected = 0;
        write_adopting(fixture, KV_SET);
        open_agent(fixture);
        UNTIL(fixture, n_rejected > 0);
        for (unsigned i = 0; i < 3; i++) {
                pretence = (Pretence) { .unit = "web.service", .active = i % 2 ? "active" : "failed" };
                sim_systemd_change(fixture->systemd, "web.service");
                run_ms(fixture, 1500);
                UNTIL(fixture, is_published(fixture, "web.service", pretence.active));
        }
        assert_null(state_of(fixture, "other.service"));
        unexpected_is_rejected = false;
        UNTIL(fixture, state_of(fixture, "other.service"));
}

/* The records of a host that boots meanwhile are not started: its units may run elsewhere. */
static void a_cluster_that_waits_for_reports_has_answered(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        write_adopting(fixture, KV_SET);
        count_messages("no contact with the cluster since boot");
        open_agent(fixture);
        UNTIL(fixture, is_reported(fixture));
        run_ms(fixture, 2 * FIXTURE_BOOT_WAIT_MS);
        assert_int_equal(n_logged, 0);
        count_messages(NULL);
}

/* A unit that changes all the time is read ten times a second: in between its state is unknown. */
static void while_a_unit_is_still_to_be_read_nothing_is_reported(void **state) {
        Fixture *fixture = *state;
        unsigned n_before;
        uint64_t listings;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        write_adopting(fixture, KV_SET);
        memset(&reports, 0, sizeof(reports));
        reports.error = -ENOMEM;
        open_agent(fixture);
        UNTIL(fixture, reports.n > 0);
        run_pending(fixture);
        for (unsigned i = 0; i < 20; i++)
                events.on_job_removed(events.userdata, "web.service", "done");
        run_ms(fixture, 20);
        listings = agent_counts(fixture->agent)->listings;
        n_before = reports.n;
        for (unsigned i = 0; i < 100; i++) {
                events.on_job_removed(events.userdata, "web.service", "done");
                run_ms(fixture, 5);
        }
        assert_in_range(reports.n - n_before, 0, agent_counts(fixture->agent)->listings - listings + 1);
        reports.error = 0;
        UNTIL(fixture, is_reported(fixture));
}

static void an_assignment_for_another_host_causes_no_pass(void **state) {
        AssignmentChange change = { .machine = "cccccccccccccccccccccccccccccccc",
                                    .kind = ASSIGNMENT_RUN,
                                    .unit = "web.service",
                                    .why = SAID("a test says so") };
        Fixture *fixture = *state;
        Host *h = fixture->host;
        uint64_t passes;
        KvState store;

        host_unit(h, "web.service", ONE, TARGET_LAUNCHED);
        run_pending(fixture);
        change.unit_index = cluster_unit(registry_cluster(h->registry), "web.service")->index;
        kv_state(h->store, &store);
        passes = agent_counts(fixture->agent)->passes;
        assert_int_equal(
                host_wait(h, registry_assign(h->registry, store.term, &change, 1, NULL, host_on_done, h)),
                KV_OK);
        run_pending(fixture);
        assert_int_equal(agent_counts(fixture->agent)->passes, passes);
}

static void assignments_count_as_soon_as_the_registry_has_reached_the_index_of_the_records(void **state) {
        const Registry *registry = ((Fixture *) *state)->host->registry;
        Fixture *fixture = *state;
        uint64_t reached_ms;
        char name[32];

        run_unit(fixture, "web.service");
        close_agent(fixture);
        assert_true(registry_cluster(registry)->index < 90);
        change_record(fixture, "\"floor\":", "99");
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        open_agent(fixture);
        run_ms(fixture, 2000);
        run_pending(fixture);
        run_ms(fixture, 2000);
        assert_int_equal(n_stops, 0);
        for (unsigned i = 0; registry_cluster(registry)->index < 99; i++) {
                snprintf(name, sizeof(name), "x%u.service", i);
                host_unit(fixture->host, name, ONE, TARGET_INACTIVE);
        }
        reached_ms = world_now_ms(fixture->world);
        UNTIL(fixture, n_stops == 1);
        assert_in_range(world_now_ms(fixture->world) - reached_ms, 0, 3200); /* before the next resync */
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
}

/* A recovered cluster: its assignments count once this host has published its units for a while, without
 * interruption. */
static void a_new_lineage_is_recorded_when_units_were_published_for_half_a_minute(void **state) {
        static const char former[] = "\"lineage\":\"00000000000000ab\"";
        Fixture *fixture = *state;
        uint64_t began_ms;

        run_unit(fixture, "web.service");
        close_agent(fixture);
        change_record(fixture, "\"lineage\":\"", "00000000000000ab");
        change_record(fixture, "\"floor\":", "99"); /* of the former lineage */
        host_order(fixture->host, "web.service", ASSIGNMENT_STOP);
        count_messages("touching none, for 30 s at most");
        open_agent(fixture);
        UNTIL(fixture, n_logged == 1);
        run_ms(fixture, 10000);
        leader.gone = true;
        agent_state_changed(fixture->agent);
        run_ms(fixture, 60000);
        assert_true(records_contain(fixture, former));

        leader.gone = false;
        agent_state_changed(fixture->agent);
        UNTIL(fixture, n_logged == 2);
        count_messages(NULL);
        began_ms = world_now_ms(fixture->world);
        run_ms(fixture, 29900);
        assert_true(records_contain(fixture, former));
        assert_int_equal(n_stops, 0);
        UNTIL(fixture, !records_contain(fixture, former));
        assert_in_range(world_now_ms(fixture->world) - began_ms, 30000, 30100);
        UNTIL(fixture, !has_assignment(fixture, "web.service"));
}

/* The engine has seen the state of each unit that runs here: there is nothing to wait for. */
static void a_new_lineage_is_recorded_when_each_running_unit_has_an_assignment(void **state) {
        static const char former[] = "\"lineage\":\"00000000000000ab\"";
        Fixture *fixture = *state;
        uint64_t began_ms;

        run_unit(fixture, "web.service");
        run_unit(fixture, "other.service");
        close_agent(fixture);
        change_record(fixture, "\"lineage\":\"", "00000000000000ab");
        host_order(fixture->host, "other.service",
                   ASSIGNMENT_STOP); /* older than the state: it may be wrong */
        pretence = (Pretence) { .unit = "other.service", .active = "reloading" };
        open_agent(fixture);
        UNTIL(fixture, is_published(fixture, "other.service", "reloading"));
        run_ms(fixture, 5000);
        assert_true(records_contain(fixture, former));
        assert_int_equal(n_stops, 0);

        began_ms = world_now_ms(fixture->world);
        host_order(fixture->host, "other.service", ASSIGNMENT_RUN);
        UNTIL(fixture, !records_contain(fixture, former));
        assert_in_range(world_now_ms(fixture->world) - began_ms, 0, 1000);
        assert_int_equal(n_stops, 0);
}

static void the_lineage_of_the_cluster_is_recorded_before_any_unit_is(void **state) {
        UNTIL((Fixture *) *state, records_contain(*state, "\"lineage\":\"") &&
                                          !records_contain(*state, "\"lineage\":\"0000000000000000\""));
}

/* The unit was assigned to this host in its last boot; it has no assignment now. */
static void record_of_last_boot(Fixture *fixture) {
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment");

        scratch_write(path, "{\"units\":[{\"index\":1,\"name\":\"web.service\",\"order\":\"run\","
                            "\"startedBoot\":\"b0000000000000000000000000000000\","
                            "\"text\":\"[Service]\\nExecStart=/bin/one\\n\",\"unit\":1}]}");
}

static void the_last_assignments_are_not_started_after_contact_with_the_cluster(void **state) {
        Fixture *fixture = *state;

        close_agent(fixture);
        record_of_last_boot(fixture);
        open_agent(fixture);
        run_ms(fixture, 1000);
        run_pending(fixture);
        leader.gone = true; /* before the wait ends */
        agent_state_changed(fixture->agent);
        run_ms(fixture, 120000);
        assert_int_equal(n_starts, 0);
}

/* The cluster replies before systemd. */
static void the_last_assignments_are_not_started_when_the_contact_with_the_cluster_is_late(void **state) {
        Fixture *fixture = *state;

        close_agent(fixture);
        record_of_last_boot(fixture);
        leader.gone = true;
        sim_systemd_drop_bus(fixture->systemd, 80000);
        open_agent(fixture);
        run_ms(fixture, 70000);
        leader.gone = false;
        agent_state_changed(fixture->agent);
        run_ms(fixture, 10);
        run_pending(fixture);
        run_ms(fixture, 20000);
        run_pending(fixture);
        run_ms(fixture, 20000);
        assert_int_equal(n_starts, 0);
}

static void an_unknown_unit_that_is_assigned_to_stop_is_reported_and_dropped(void **state) {
        StateChange ghost = { .unit = "ghost.service" };
        Fixture *fixture = *state;
        uint64_t planned;

        close_agent(fixture);
        assert_int_equal(unit_state_init(&ghost.state, "loaded", "active", "running", NULL, 1, false), 0);
        assert_int_equal(host_wait(fixture->host, registry_publish(fixture->host->registry, &ghost, 1,
                                                                   host_on_done, fixture->host)),
                         KV_OK);
        unit_state_done(&ghost.state);
        bent.stop = stop_in_vain;
        bent.unlink = unlink_in_vain;
        vain.unit = "web.service";
        assign_to(fixture, "web.service", ONE, ASSIGNMENT_STOP);
        open_agent(fixture);
        UNTIL(fixture, is_gone(fixture, "web.service") && is_gone(fixture, "ghost.service"));
        assert_int_equal(vain.n, 0);
        run_pending(fixture);
        run_ms(fixture, 2000);
        planned = agent_counts(fixture->agent)->planned;
        agent_state_changed(fixture->agent);
        run_ms(fixture, 50);
        assert_int_equal(agent_counts(fixture->agent)->planned, planned);
}

static void of_the_host(SystemdUnit *seen) {
        seen->owner = SYSTEMD_CONFLICTING;
        snprintf(seen->active, sizeof(seen->active), "active");
}

static void a_conflicting_unit_is_logged_once_and_causes_no_further_work(void **state) {
        Fixture *fixture = *state;
        uint64_t planned;

        pretence = (Pretence) { .unit = "ssh.service", .change = of_the_host };
        count_messages("Refusing to run ssh.service");
        assign(fixture, "ssh.service");
        UNTIL(fixture, state_of(fixture, "ssh.service") &&
                               streq(state_of(fixture, "ssh.service")->load, STATE_FOREIGN));
        run_pending(fixture);
        sim_systemd_change(fixture->systemd, "ssh.service");
        run_ms(fixture, 1000);
        assert_int_equal(n_logged, 1);
        count_messages(NULL);
        planned = agent_counts(fixture->agent)->planned;
        agent_state_changed(fixture->agent);
        run_ms(fixture, 50);
        assert_int_equal(agent_counts(fixture->agent)->planned, planned);
}

/* The sanitizers find leaks. */
static void an_agent_that_is_freed_at_any_moment_gets_no_callback(void **state) {
        Fixture *fixture = *state;
        uint64_t listings;

        run_unit(fixture, "web.service");
        agent_state_changed(fixture->agent); /* a pass is due */
        close_agent(fixture);
        run_ms(fixture, 50);
        assert_int_equal(leader.cancelled, 0);

        leader.hold = true; /* it catches up */
        open_agent(fixture);
        UNTIL(fixture, leader.held);
        close_agent(fixture);
        assert_int_equal(leader.cancelled, 1);
        assert_null(leader.held);
        leader = (Leader) {};

        open_agent(fixture); /* it reads units */
        run_pending(fixture);
        listings = agent_counts(fixture->agent)->listings;
        sim_systemd_change(fixture->systemd, "web.service");
        while (agent_counts(fixture->agent)->listings == listings)
                run_ms(fixture, 1);
        close_agent(fixture);
        run_ms(fixture, 50);

        change_record(fixture, "\"lineage\":\"", "00000000000000ab"); /* it adopts */
        count_messages("touching none, for 30 s at most");
        open_agent(fixture);
        UNTIL(fixture, n_logged == 1);
        count_messages(NULL);
        close_agent(fixture);
        run_ms(fixture, 60000);

        write_adopting(fixture, KV_SET); /* it reports */
        memset(&reports, 0, sizeof(reports));
        reports.held = true;
        pretence = (Pretence) { .unit = "web.service", .active = "reloading" };
        open_agent(fixture);
        UNTIL(fixture, reports.n == 1);
        close_agent(fixture);
        run_pending(fixture);
        run_ms(fixture, 20000);
        assert_int_equal(reports.n, 1);
}

/* -- Reads and writes under way -- */

static const char *sub;

static void with_sub(SystemdUnit *seen) {
        snprintf(seen->sub, sizeof(seen->sub), "%s", sub);
}

static void change_sub(Fixture *fixture, const char *to) {
        sub = to;
        pretence = (Pretence) { .unit = "web.service", .change = with_sub };
        sim_systemd_change(fixture->systemd, "web.service");
}

static bool sub_is(Fixture *fixture, const char *expected) {
        return streq(state_of(fixture, "web.service")->sub, expected);
}

static struct {
        bool hold;
        unsigned n;
        char name[64];
        SystemdListed done;
        void *userdata;
} listing;

static int list_held(Systemd *s, const char *const *names, size_t n, bool all, SystemdListed done,
                     void *userdata) {
        if (!listing.hold)
                return list_pretended(s, names, n, all, done, userdata);
        listing.n++;
        snprintf(listing.name, sizeof(listing.name), "%s", names[0]);
        listing.done = done;
        listing.userdata = userdata;
        return 0;
}

/* The last state is older than the one that is being read, or is to be read after another listing. */
static void a_state_is_not_published_while_its_unit_is_to_be_read_again(void **state) {
        const char *name = listing.name;
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        run_unit(fixture, "other.service");
        bent.list = list_held;
        for (unsigned waits = 0; waits < 2; waits++) {
                memset(&listing, 0, sizeof(listing));
                run_ms(fixture, 1100);
                run_pending(fixture);
                change_sub(fixture, waits ? "first, again" : "first");
                UNTIL(fixture, sub_is(fixture, sub)); /* the next one may be published after a second */
                change_sub(fixture, "second");
                run_ms(fixture, 200);
                listing.hold = true;
                sub = "third";
                sim_systemd_change(fixture->systemd, waits ? "other.service" : "web.service");
                run_ms(fixture, 10);
                if (waits)
                        events.on_job_removed(events.userdata, "web.service", "failed");
                run_ms(fixture, 2000);
                run_pending(fixture);
                assert_true(sub_is(fixture, waits ? "first, again" : "first"));
                assert_int_equal(listing.n, 1); /* one at a time */
                listing.hold = false;
                assert_int_equal(
                        list_pretended(fixture->bus, &name, 1, false, listing.done, listing.userdata), 0);
                UNTIL(fixture, sub_is(fixture, "third"));
        }
}

static void unchanged_records_are_not_written_by_the_agent(void **state) {
        Fixture *fixture = *state;
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment");

        run_unit(fixture, "web.service");
        while (world_loop_is_working(fixture->loop))
                run_ms(fixture, 1);
        assert_int_equal(unlink(path), 0);
        change_sub(fixture, "other");
        UNTIL(fixture, sub_is(fixture, "other"));
        run_ms(fixture, 2000);
        run_pending(fixture);
        assert_int_equal(access(path, F_OK), -1);
}

/* The unit that it is bound to ended again. */
static void a_unit_that_has_to_wait_again_after_the_write_of_its_record_is_not_started(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        bent.start = start_in_vain;
        vain.unit = "web.service";
        pretence = (Pretence) { .unit = "web.service", .active = "inactive", .end = SYSTEMD_END_STOPPED_FOR };
        world_loop_set_work_ms(fixture->loop, WRITE_MS, WRITE_MS);
        sim_systemd_change(fixture->systemd, "web.service");
        run_ms(fixture, WRITE_MS + 500); /* the stop was written, and after it the start */
        pretence.held = true;
        sim_systemd_change(fixture->systemd, "web.service");
        run_ms(fixture, WRITE_MS);
        assert_int_equal(vain.n, 0);
        pretence.held = false; /* no unit was affected: it is started soon */
        until_calls(fixture, 1, 5 * WRITE_MS);
}

/* By hand, at the last moment: the unit is being read, or may not be read yet because it changes all the
 * time. */
static void a_unit_that_began_during_the_write_of_its_record_is_not_started_again(void **state) {
        static const char *const names[] = { "calm.service", "busy.service" };
        Fixture *fixture = *state;

        bent.start = start_in_vain;
        for (unsigned busy = 0; busy < 2; busy++) {
                vain = (Vain) { .unit = names[busy] };
                pretence = (Pretence) { .unit = names[busy] };
                run_pending(fixture);
                while (world_loop_is_working(fixture->loop))
                        run_ms(fixture, 1);
                world_loop_set_work_ms(fixture->loop, WRITE_MS, WRITE_MS);
                assign(fixture, names[busy]);
                while (!world_loop_is_working(fixture->loop))
                        run_ms(fixture, 1);
                run_ms(fixture, busy ? WRITE_MS - 1000 : WRITE_MS - 1);
                for (unsigned i = 0; i < (busy ? 999 : 1); i++) {
                        if (!busy || i >= 970)
                                pretence.active = "active";
                        sim_systemd_change(fixture->systemd, names[busy]);
                        run_ms(fixture, 1);
                }
                run_ms(fixture, 500);
                assert_int_equal(vain.n, 0);
                UNTIL(fixture,
                      is_published(fixture, names[busy], "active") && is_recorded(fixture, names[busy]));
                assert_int_equal(vain.n, 0);
                world_loop_set_work_ms(fixture->loop, 0, 2);
        }
}

static void a_start_waits_for_systemd_when_its_record_is_on_disk(void **state) {
        Fixture *fixture = *state;

        assign_slowly(fixture, "slow.service");
        count_messages("Failed to start slow.service");
        sim_systemd_drop_bus(fixture->systemd, 2 * WRITE_MS);
        UNTIL(fixture, is_published(fixture, "slow.service", "active"));
        assert_int_equal(n_logged, 0);
        count_messages(NULL);
        assert_int_equal(n_slow, 1);
        assert_int_equal(n_unrecorded, 0);
}

static void a_record_whose_folder_is_removed_while_it_is_written_is_written_again_at_once(void **state) {
        Fixture *fixture = *state;
        uint64_t removed_ms;

        assign_slowly(fixture, "slow.service");
        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->host->agent_path), 0);
        agent_state_changed(fixture->agent);
        removed_ms = world_now_ms(fixture->world);
        UNTIL(fixture, is_published(fixture, "slow.service", "active"));
        assert_in_range(world_now_ms(fixture->world) - removed_ms, WRITE_MS,
                        2 * WRITE_MS + START_MS); /* before the next resync */
        assert_int_equal(n_unrecorded, 0);
}

/* No other step is due. */
static void a_removed_folder_of_records_is_made_again_by_the_next_pass(void **state) {
        Fixture *fixture = *state;

        run_unit(fixture, "web.service");
        while (world_loop_is_working(fixture->loop))
                run_ms(fixture, 1);
        assert_int_equal(remove_tree_at(AT_FDCWD, fixture->host->agent_path), 0);
        agent_state_changed(fixture->agent);
        run_ms(fixture, 50);
        assert_true(is_recorded(fixture, "web.service"));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                in_a_faulty_fixture(a_transition_is_published_when_it_lasts_and_its_result_at_once),
                in_a_faulty_fixture(a_transition_is_published_when_it_lasts_for_300_ms),
                in_a_faulty_fixture(a_unit_that_restarts_again_and_again_is_published_as_in_transition),
                in_a_faulty_fixture(the_first_failure_after_a_start_is_published_at_once),
                in_a_faulty_fixture(a_unit_that_is_stopped_by_hand_after_its_start_is_published_at_once),
                in_a_faulty_fixture(a_repeated_failure_is_published_after_a_second),
                in_a_faulty_fixture(nothing_is_published_before_this_host_has_caught_up),
                in_a_faulty_fixture(complete_publication_is_reported_to_a_cluster_that_waits_for_it),
                in_a_faulty_fixture(a_host_that_has_followed_a_leader_all_the_time_reports_too),
                in_a_faulty_fixture(
                        a_report_that_the_cluster_rejects_holds_back_no_state_of_an_assigned_unit),
                in_a_faulty_fixture(a_cluster_that_waits_for_reports_has_answered),
                in_a_faulty_fixture(while_a_unit_is_still_to_be_read_nothing_is_reported),
                in_a_faulty_fixture(an_assignment_for_another_host_causes_no_pass),
                in_a_faulty_fixture(
                        assignments_count_as_soon_as_the_registry_has_reached_the_index_of_the_records),
                in_a_faulty_fixture(a_new_lineage_is_recorded_when_units_were_published_for_half_a_minute),
                in_a_faulty_fixture(a_new_lineage_is_recorded_when_each_running_unit_has_an_assignment),
                in_a_faulty_fixture(the_lineage_of_the_cluster_is_recorded_before_any_unit_is),
                in_a_faulty_fixture(the_last_assignments_are_not_started_after_contact_with_the_cluster),
                in_a_faulty_fixture(
                        the_last_assignments_are_not_started_when_the_contact_with_the_cluster_is_late),
                in_a_faulty_fixture(an_unknown_unit_that_is_assigned_to_stop_is_reported_and_dropped),
                in_a_faulty_fixture(a_conflicting_unit_is_logged_once_and_causes_no_further_work),
                in_a_faulty_fixture(an_agent_that_is_freed_at_any_moment_gets_no_callback),
                in_a_faulty_fixture(a_state_is_not_published_while_its_unit_is_to_be_read_again),
                in_a_faulty_fixture(unchanged_records_are_not_written_by_the_agent),
                in_a_faulty_fixture(
                        a_unit_that_has_to_wait_again_after_the_write_of_its_record_is_not_started),
                in_a_faulty_fixture(a_unit_that_began_during_the_write_of_its_record_is_not_started_again),
                in_a_faulty_fixture(a_start_waits_for_systemd_when_its_record_is_on_disk),
                in_a_faulty_fixture(
                        a_record_whose_folder_is_removed_while_it_is_written_is_written_again_at_once),
                in_a_faulty_fixture(a_removed_folder_of_records_is_made_again_by_the_next_pass),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
