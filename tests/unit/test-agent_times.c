/* Times of the agent: publication of states, repetition of steps, and calls, with a systemd in virtual time.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"

#define ONE "[Service]\nExecStart=/bin/one\n"
#define TWO "[Service]\nExecStart=/bin/two\n"

/* -- Transitions -- */

static bool runs_with_another_text(Fixture *room, const char *unit, const char *hash) {
        const UnitState *s = state_of(room, unit);

        assert_non_null(s);
        assert_string_equal(s->active, "active"); /* nothing else is published in between */
        return !streq(s->hash, hash);
}

/* Waiting for the host in real time requires that all operations of the world are under way. */
static void a_transition_is_published_when_it_lasts_and_its_result_at_once(void **state) {
        Fixture *room = *state;
        char hash[41];

        bent.start = start_in_vain;
        bent.stop = stop_in_vain;
        vain = (Vain) { .unit = "web.service", .held = true };
        order(room, "web.service");
        until_calls(room, 1, 1000); /* it is inactive for some ten ms, and its start has no reply */
        run_ms(room, 200);
        host_pause(room->host, 50);
        assert_null(state_of(room, "web.service"));
        run_ms(room, 200);
        HOST_UNTIL(room->host, says(room, "web.service", "inactive"));
        settle(room);

        /* It runs: that is published at once, although another state was published just now. */
        assert_int_equal(real_ops->start(room->bus, "web.service", vain.done, vain.userdata), 0);
        run_ms(room, 100);
        HOST_UNTIL(room->host, says(room, "web.service", "active"));
        settle(room);

        /* It gets another text: between stop and start it is inactive for less than 300 ms. */
        snprintf(hash, sizeof(hash), "%s", state_of(room, "web.service")->hash);
        vain.unit = NULL;
        order_to(room, "web.service", TWO, ASSIGNMENT_RUN);
        UNTIL(room, runs_with_another_text(room, "web.service", hash));
        settle(room);

        /* It is assigned to stop, and takes long: that is published when it lasts, although another state was
         * published just now. */
        vain = (Vain) { .unit = "web.service", .held = true };
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        until_calls(room, 1, 1000);
        pretence = (Pretence) { .unit = "web.service", .active = "deactivating" };
        sim_systemd_change(room->systemd, "web.service");
        run_ms(room, 400);
        HOST_UNTIL(room->host, says(room, "web.service", "deactivating"));
        pretence.active = NULL;
        assert_int_equal(real_ops->stop(room->bus, "web.service", vain.done, vain.userdata), 0);
        vain.unit = NULL;
        UNTIL(room, is_gone(room, "web.service"));
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

static bool is_passing(Fixture *room) {
        return streq(state_of(room, "web.service")->sub, "passing");
}

static void a_transition_is_published_when_it_lasts_for_300_ms(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service");
        for (n_passing = 0; n_passing < ELEMENTS(passing); n_passing++) {
                run_ms(room, 1500); /* since the last publication of the unit */
                settle(room);
                for (unsigned once = 0; once < 2;
                     once++) { /* a transition of a second ago no longer counts */
                        pretence = (Pretence) { .unit = "web.service", .change = once ? NULL : on_its_way };
                        sim_systemd_change(room->systemd, "web.service");
                        run_ms(room, once ? 1050 : 200);
                        settle(room);
                        assert_false(is_passing(room));
                }
                pretence.change = on_its_way;
                sim_systemd_change(room->systemd, "web.service");
                run_ms(room, 280);
                host_pause(room->host, 20);
                assert_false(is_passing(room));
                run_ms(room, 60);
                HOST_UNTIL(room->host, is_passing(room));

                pretence = (Pretence) {};
                sim_systemd_change(room->systemd, "web.service");
                UNTIL(room, !is_passing(room));
        }
}

/* Each time the transition lasts 100 ms. */
static void a_unit_that_restarts_again_and_again_is_published_as_in_transition(void **state) {
        Fixture *room = *state;
        uint64_t began_ms, next_ms;

        run_unit(room, "web.service");
        run_ms(room, 1500);
        settle(room);
        n_passing = 1;
        pretence.unit = "web.service";
        began_ms = next_ms = world_now_ms(room->world);
        for (unsigned n = 0; !is_passing(room); n++) {
                pretence.change = n % 2 ? NULL : on_its_way;
                sim_systemd_change(room->systemd, "web.service");
                for (next_ms += n % 2 ? 50 : 100; world_now_ms(room->world) < next_ms;)
                        fixture_turn(room, began_ms + 3000);
        }
        pretence = (Pretence) {};
}

/* -- The cluster, its leader and its lineage -- */

static void nothing_is_published_before_this_host_has_caught_up(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service");
        close_agent(room);
        pretence = (Pretence) { .unit = "web.service", .active = "failed" };
        leader.hold = true;
        open_agent(room);
        UNTIL(room, leader.held);
        run_ms(room, 2000);
        settle(room);
        assert_true(says(room, "web.service", "active"));
        leader.held->done(leader.held->userdata, KV_OK);
        leader = (Leader) {};
        UNTIL(room, says(room, "web.service", "failed"));
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
        reports.early |= !says(running, "web.service", "reloading");
        reports.done = done;
        reports.userdata = userdata;
        return reports.error < 0 || reports.held ? reports.error : __real_registry_report(r, done, userdata);
}

static void on_key_written(void *userdata, const KvResult *result) {
        host_on_done(userdata, result->status, "", result->index);
}

/* As fleetd --recover leaves it: the cluster waits until its hosts have published their units. */
static void write_adopting(Fixture *room, KvOp op) {
        KvCommand cmd = { .op = op,
                          .key = kv_string("/_fleet/cluster/adopting"),
                          .value = kv_string(op == KV_SET ? "1" : ""),
                          .internal = true };
        uint64_t number;

        assert_int_equal(host_wait(room->host,
                                   kv_propose(room->host->store, &cmd, on_key_written, room->host, &number)),
                         KV_OK);
}

static bool is_reported(Fixture *room) {
        const Cluster *c = registry_cluster(room->host->registry);

        return cluster_machine(c, room->host->id)->reported == c->lineage;
}

static void complete_publication_is_reported_to_a_cluster_that_waits_for_it(void **state) {
        Fixture *room = *state;
        uint64_t answered_ms;
        unsigned n;

        run_unit(room, "web.service");
        close_agent(room);
        write_adopting(room, KV_SET);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        pretence = (Pretence) { .unit = "web.service", .active = "reloading" };
        memset(&reports, 0, sizeof(reports));
        reports.error = -ENOMEM;
        open_agent(room);
        UNTIL(room, reports.n > 0);
        settle(room);
        run_ms(room, 2000);
        n = reports.n;
        assert_in_range(reports.at_ms[n - 1] - reports.at_ms[n - 2], 500, 550);
        reports.error = 0;
        reports.held = true;
        run_ms(room, 2000);
        agent_state_changed(room->agent);
        run_ms(room, 1000);
        assert_int_equal(reports.n, ++n); /* one at a time */
        answered_ms = world_now_ms(room->world);
        reports.held = false;
        reports.done(reports.userdata, KV_UNKNOWN, "", 0);
        run_ms(room, 1200);
        assert_int_equal(reports.n, ++n);
        assert_in_range(reports.at_ms[n - 1] - answered_ms, 1000, 1050);
        UNTIL(room, is_reported(room));
        settle(room);
        run_ms(room, 2000);
        assert_int_equal(reports.n, n); /* and once */
        assert_false(reports.early);
        assert_int_equal(n_stops, 0);
        assert_true(has_order(room, "web.service"));

        count_messages("has a new lineage");
        write_adopting(room, KV_DELETE);
        pretence = (Pretence) {};
        UNTIL(room, !has_order(room, "web.service"));
        assert_int_equal(n_stops, 1);
        assert_int_equal(n_said, 0); /* it is the same one */
        count_messages(NULL);
}

/* A unit that changes all the time is read ten times a second: in between its state is unknown. */
static void while_a_unit_is_still_to_be_read_nothing_is_reported(void **state) {
        Fixture *room = *state;
        unsigned n_before;
        uint64_t listings;

        run_unit(room, "web.service");
        close_agent(room);
        write_adopting(room, KV_SET);
        memset(&reports, 0, sizeof(reports));
        reports.error = -ENOMEM;
        open_agent(room);
        UNTIL(room, reports.n > 0);
        settle(room);
        for (unsigned i = 0; i < 20; i++)
                events.on_job_removed(events.userdata, "web.service", "done");
        run_ms(room, 20);
        listings = agent_counts(room->agent)->listings;
        n_before = reports.n;
        for (unsigned i = 0; i < 100; i++) {
                events.on_job_removed(events.userdata, "web.service", "done");
                run_ms(room, 5);
        }
        assert_in_range(reports.n - n_before, 0, agent_counts(room->agent)->listings - listings + 1);
        reports.error = 0;
        UNTIL(room, is_reported(room));
}

static void an_assignment_for_another_host_causes_no_pass(void **state) {
        AssignmentChange change = { .machine = "cccccccccccccccccccccccccccccccc",
                                    .kind = ASSIGNMENT_RUN,
                                    .unit = "web.service",
                                    .reason = "a test says so" };
        Fixture *room = *state;
        Host *h = room->host;
        uint64_t passes;
        KvState store;

        host_unit(h, "web.service", ONE, TARGET_LAUNCHED);
        settle(room);
        change.unit_index = cluster_unit(registry_cluster(h->registry), "web.service")->index;
        kv_state(h->store, &store);
        passes = agent_counts(room->agent)->passes;
        assert_int_equal(host_wait(h, registry_assign(h->registry, store.term, &change, 1, host_on_done, h)),
                         KV_OK);
        settle(room);
        assert_int_equal(agent_counts(room->agent)->passes, passes);
}

static void assignments_count_as_soon_as_the_registry_has_reached_the_index_of_the_records(void **state) {
        const Registry *registry = ((Fixture *) *state)->host->registry;
        Fixture *room = *state;
        uint64_t reached_ms;
        char name[32];

        run_unit(room, "web.service");
        close_agent(room);
        assert_true(registry_cluster(registry)->index < 90);
        change_record(room, "\"floor\":", "99");
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        open_agent(room);
        run_ms(room, 2000);
        settle(room);
        run_ms(room, 2000);
        assert_int_equal(n_stops, 0);
        for (unsigned i = 0; registry_cluster(registry)->index < 99; i++) {
                snprintf(name, sizeof(name), "x%u.service", i);
                host_unit(room->host, name, ONE, TARGET_INACTIVE);
        }
        reached_ms = world_now_ms(room->world);
        UNTIL(room, n_stops == 1);
        assert_in_range(world_now_ms(room->world) - reached_ms, 0, 3200); /* before the next resync */
        UNTIL(room, !has_order(room, "web.service"));
}

/* A recovered cluster: its assignments count once this host has published its units for a while, without
 * interruption. */
static void a_new_lineage_is_recorded_when_units_were_published_for_half_a_minute(void **state) {
        static const char former[] = "\"lineage\":\"00000000000000ab\"";
        Fixture *room = *state;
        uint64_t began_ms;

        run_unit(room, "web.service");
        close_agent(room);
        change_record(room, "\"lineage\":\"", "00000000000000ab");
        change_record(room, "\"floor\":", "99"); /* of the former lineage */
        count_messages("touching none, for 30 s");
        open_agent(room);
        UNTIL(room, n_said == 1);
        run_ms(room, 10000);
        leader.gone = true;
        agent_state_changed(room->agent);
        run_ms(room, 60000);
        assert_true(records_say(room, former));

        leader.gone = false;
        agent_state_changed(room->agent);
        UNTIL(room, n_said == 2);
        count_messages(NULL);
        began_ms = world_now_ms(room->world);
        run_ms(room, 29900);
        assert_true(records_say(room, former));
        UNTIL(room, !records_say(room, former));
        assert_in_range(world_now_ms(room->world) - began_ms, 30000, 30100);
        assert_int_equal(n_stops, 0);
        host_order(room->host, "web.service", ASSIGNMENT_STOP);
        UNTIL(room, !has_order(room, "web.service"));
}

static void the_lineage_of_the_cluster_is_recorded_before_any_unit_is(void **state) {
        UNTIL((Fixture *) *state, records_say(*state, "\"lineage\":\"") &&
                                          !records_say(*state, "\"lineage\":\"0000000000000000\""));
}

/* The unit was assigned to this host in its last boot; it has no assignment now. */
static void record_of_last_boot(Fixture *room) {
        _cleanup_free_ char *path = scratch_path(room->host->agent_path, "assignment");

        scratch_write(path, "{\"units\":[{\"index\":1,\"name\":\"web.service\",\"order\":\"run\","
                            "\"startedBoot\":\"b0000000000000000000000000000000\","
                            "\"text\":\"[Service]\\nExecStart=/bin/one\\n\",\"unit\":1}]}");
}

static void the_last_assignments_are_not_started_after_contact_with_the_cluster(void **state) {
        Fixture *room = *state;

        close_agent(room);
        record_of_last_boot(room);
        open_agent(room);
        run_ms(room, 1000);
        settle(room);
        leader.gone = true; /* before the wait ends */
        agent_state_changed(room->agent);
        run_ms(room, 120000);
        assert_int_equal(n_starts, 0);
}

/* The cluster replies before systemd. */
static void the_last_assignments_are_not_started_when_the_contact_with_the_cluster_is_late(void **state) {
        Fixture *room = *state;

        close_agent(room);
        record_of_last_boot(room);
        leader.gone = true;
        sim_systemd_drop_bus(room->systemd, 80000);
        open_agent(room);
        run_ms(room, 70000);
        leader.gone = false;
        agent_state_changed(room->agent);
        run_ms(room, 10);
        settle(room);
        run_ms(room, 20000);
        settle(room);
        run_ms(room, 20000);
        assert_int_equal(n_starts, 0);
}

static void an_unknown_unit_that_is_assigned_to_stop_is_reported_and_dropped(void **state) {
        StateChange ghost = { .unit = "ghost.service" };
        Fixture *room = *state;
        uint64_t planned;

        close_agent(room);
        assert_int_equal(unit_state_init(&ghost.state, "loaded", "active", "running", NULL, 1, false), 0);
        assert_int_equal(host_wait(room->host, registry_publish(room->host->registry, &ghost, 1, host_on_done,
                                                                room->host)),
                         KV_OK);
        unit_state_done(&ghost.state);
        bent.stop = stop_in_vain;
        bent.unlink = unlink_in_vain;
        vain.unit = "web.service";
        order_to(room, "web.service", ONE, ASSIGNMENT_STOP);
        open_agent(room);
        UNTIL(room, is_gone(room, "web.service") && is_gone(room, "ghost.service"));
        assert_int_equal(vain.n, 0);
        settle(room);
        run_ms(room, 2000);
        planned = agent_counts(room->agent)->planned;
        agent_state_changed(room->agent);
        run_ms(room, 50);
        assert_int_equal(agent_counts(room->agent)->planned, planned);
}

static void of_the_host(SystemdUnit *seen) {
        seen->owner = SYSTEMD_CONFLICTING;
        snprintf(seen->active, sizeof(seen->active), "active");
}

static void a_conflicting_unit_is_logged_once_and_causes_no_further_work(void **state) {
        Fixture *room = *state;
        uint64_t planned;

        pretence = (Pretence) { .unit = "ssh.service", .change = of_the_host };
        count_messages("Refusing to run ssh.service");
        order(room, "ssh.service");
        UNTIL(room,
              state_of(room, "ssh.service") && streq(state_of(room, "ssh.service")->load, STATE_FOREIGN));
        settle(room);
        sim_systemd_change(room->systemd, "ssh.service");
        run_ms(room, 1000);
        assert_int_equal(n_said, 1);
        count_messages(NULL);
        planned = agent_counts(room->agent)->planned;
        agent_state_changed(room->agent);
        run_ms(room, 50);
        assert_int_equal(agent_counts(room->agent)->planned, planned);
}

/* The sanitizers find leaks. */
static void an_agent_that_is_freed_at_any_moment_gets_no_callback(void **state) {
        Fixture *room = *state;
        uint64_t listings;

        run_unit(room, "web.service");
        agent_state_changed(room->agent); /* a pass is due */
        close_agent(room);
        run_ms(room, 50);
        assert_int_equal(leader.cancelled, 0);

        leader.hold = true; /* it catches up */
        open_agent(room);
        UNTIL(room, leader.held);
        close_agent(room);
        assert_int_equal(leader.cancelled, 1);
        assert_null(leader.held);
        leader = (Leader) {};

        open_agent(room); /* it reads units */
        settle(room);
        listings = agent_counts(room->agent)->listings;
        sim_systemd_change(room->systemd, "web.service");
        while (agent_counts(room->agent)->listings == listings)
                run_ms(room, 1);
        close_agent(room);
        run_ms(room, 50);

        change_record(room, "\"lineage\":\"", "00000000000000ab"); /* it adopts */
        count_messages("touching none, for 30 s");
        open_agent(room);
        UNTIL(room, n_said == 1);
        count_messages(NULL);
        close_agent(room);
        run_ms(room, 60000);

        write_adopting(room, KV_SET); /* it reports */
        memset(&reports, 0, sizeof(reports));
        reports.held = true;
        pretence = (Pretence) { .unit = "web.service", .active = "reloading" };
        open_agent(room);
        UNTIL(room, reports.n == 1);
        close_agent(room);
        settle(room);
        run_ms(room, 20000);
        assert_int_equal(reports.n, 1);
}

/* -- Reads and writes under way -- */

static const char *sub;

static void with_sub(SystemdUnit *seen) {
        snprintf(seen->sub, sizeof(seen->sub), "%s", sub);
}

static void change_sub(Fixture *room, const char *to) {
        sub = to;
        pretence = (Pretence) { .unit = "web.service", .change = with_sub };
        sim_systemd_change(room->systemd, "web.service");
}

static bool sub_is(Fixture *room, const char *expected) {
        return streq(state_of(room, "web.service")->sub, expected);
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
        Fixture *room = *state;

        run_unit(room, "web.service");
        run_unit(room, "other.service");
        bent.list = list_held;
        for (unsigned waits = 0; waits < 2; waits++) {
                memset(&listing, 0, sizeof(listing));
                run_ms(room, 1100);
                settle(room);
                change_sub(room, waits ? "first, again" : "first");
                UNTIL(room, sub_is(room, sub)); /* the next one may be published after a second */
                change_sub(room, "second");
                run_ms(room, 200);
                listing.hold = true;
                sub = "third";
                sim_systemd_change(room->systemd, waits ? "other.service" : "web.service");
                run_ms(room, 10);
                if (waits)
                        events.on_job_removed(events.userdata, "web.service", "failed");
                run_ms(room, 2000);
                settle(room);
                assert_true(sub_is(room, waits ? "first, again" : "first"));
                assert_int_equal(listing.n, 1); /* one at a time */
                listing.hold = false;
                assert_int_equal(list_pretended(room->bus, &name, 1, false, listing.done, listing.userdata),
                                 0);
                UNTIL(room, sub_is(room, "third"));
        }
}

static void unchanged_records_are_not_written_by_the_agent(void **state) {
        Fixture *room = *state;
        _cleanup_free_ char *path = scratch_path(room->host->agent_path, "assignment");

        run_unit(room, "web.service");
        while (world_loop_is_working(room->loop))
                run_ms(room, 1);
        assert_int_equal(unlink(path), 0);
        change_sub(room, "other");
        UNTIL(room, sub_is(room, "other"));
        run_ms(room, 2000);
        settle(room);
        assert_int_equal(access(path, F_OK), -1);
}

/* The unit that it is bound to ended again. */
static void a_unit_that_has_to_wait_again_after_the_write_of_its_record_is_not_started(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service");
        bent.start = start_in_vain;
        vain.unit = "web.service";
        pretence = (Pretence) { .unit = "web.service", .active = "inactive", .end = SYSTEMD_END_STOPPED_FOR };
        world_loop_set_work_ms(room->loop, WRITE_MS, WRITE_MS);
        sim_systemd_change(room->systemd, "web.service");
        run_ms(room, WRITE_MS + 500); /* the stop was written, and after it the start */
        pretence.held = true;
        sim_systemd_change(room->systemd, "web.service");
        run_ms(room, WRITE_MS);
        assert_int_equal(vain.n, 0);
        pretence.held = false; /* no unit was affected: it is started soon */
        until_calls(room, 1, 5 * WRITE_MS);
}

/* By hand, at the last moment: the unit is being read, or may not be read yet because it changes all the
 * time. */
static void a_unit_that_began_during_the_write_of_its_record_is_not_started_again(void **state) {
        static const char *const names[] = { "calm.service", "busy.service" };
        Fixture *room = *state;

        bent.start = start_in_vain;
        for (unsigned busy = 0; busy < 2; busy++) {
                vain = (Vain) { .unit = names[busy] };
                pretence = (Pretence) { .unit = names[busy] };
                settle(room);
                while (world_loop_is_working(room->loop))
                        run_ms(room, 1);
                world_loop_set_work_ms(room->loop, WRITE_MS, WRITE_MS);
                order(room, names[busy]);
                while (!world_loop_is_working(room->loop))
                        run_ms(room, 1);
                run_ms(room, busy ? WRITE_MS - 1000 : WRITE_MS - 1);
                for (unsigned i = 0; i < (busy ? 999 : 1); i++) {
                        if (!busy || i >= 970)
                                pretence.active = "active";
                        sim_systemd_change(room->systemd, names[busy]);
                        run_ms(room, 1);
                }
                run_ms(room, 500);
                assert_int_equal(vain.n, 0);
                UNTIL(room, says(room, names[busy], "active") && is_recorded(room, names[busy]));
                assert_int_equal(vain.n, 0);
                world_loop_set_work_ms(room->loop, 0, 2);
        }
}

static void a_start_waits_for_systemd_when_its_record_is_on_disk(void **state) {
        Fixture *room = *state;

        order_slowly(room, "slow.service");
        count_messages("Failed to start slow.service");
        sim_systemd_drop_bus(room->systemd, 2 * WRITE_MS);
        UNTIL(room, says(room, "slow.service", "active"));
        assert_int_equal(n_said, 0);
        count_messages(NULL);
        assert_int_equal(n_slow, 1);
        assert_int_equal(n_unrecorded, 0);
}

static void a_record_whose_folder_is_removed_while_it_is_written_is_written_again_at_once(void **state) {
        Fixture *room = *state;
        uint64_t removed_ms;

        order_slowly(room, "slow.service");
        assert_int_equal(remove_tree_at(AT_FDCWD, room->host->agent_path), 0);
        agent_state_changed(room->agent);
        removed_ms = world_now_ms(room->world);
        UNTIL(room, says(room, "slow.service", "active"));
        assert_in_range(world_now_ms(room->world) - removed_ms, WRITE_MS,
                        2 * WRITE_MS + START_MS); /* before the next resync */
        assert_int_equal(n_unrecorded, 0);
}

/* No other step is due. */
static void a_removed_folder_of_records_is_made_again_by_the_next_pass(void **state) {
        Fixture *room = *state;

        run_unit(room, "web.service");
        while (world_loop_is_working(room->loop))
                run_ms(room, 1);
        assert_int_equal(remove_tree_at(AT_FDCWD, room->host->agent_path), 0);
        agent_state_changed(room->agent);
        run_ms(room, 50);
        assert_true(is_recorded(room, "web.service"));
}

int main(int argc, char *argv[]) {
        const struct CMUnitTest tests[] = {
                in_a_faulty_fixture(a_transition_is_published_when_it_lasts_and_its_result_at_once),
                in_a_faulty_fixture(a_transition_is_published_when_it_lasts_for_300_ms),
                in_a_faulty_fixture(a_unit_that_restarts_again_and_again_is_published_as_in_transition),
                in_a_faulty_fixture(nothing_is_published_before_this_host_has_caught_up),
                in_a_faulty_fixture(complete_publication_is_reported_to_a_cluster_that_waits_for_it),
                in_a_faulty_fixture(while_a_unit_is_still_to_be_read_nothing_is_reported),
                in_a_faulty_fixture(an_assignment_for_another_host_causes_no_pass),
                in_a_faulty_fixture(
                        assignments_count_as_soon_as_the_registry_has_reached_the_index_of_the_records),
                in_a_faulty_fixture(a_new_lineage_is_recorded_when_units_were_published_for_half_a_minute),
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
