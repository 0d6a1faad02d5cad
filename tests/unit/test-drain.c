#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/registry/shutdown.h"
#include "tests/lib/drains.h"
#include "tests/lib/size.h"

/* -- The state -- */

static void each_state_of_a_drain_has_its_next_one(void **state) {
        static const struct {
                const char *mode, *more;
                Presence presence;
                const char *unit; /* options of a unit that runs there; NULL: there is none */
                enum { RUNS, FINISHED, FOREIGN } unit_is;
                MaintenanceMode next;
                const char *reason;
        } rows[] = {
                { "cordoned", "", PRESENCE_UP, NULL, RUNS, MAINTENANCE_CORDONED, NULL },
                { "cordoned", "", PRESENCE_LOST, NULL, RUNS, MAINTENANCE_CORDONED, NULL },
                { "draining", "", PRESENCE_UP, "", RUNS, MAINTENANCE_DRAINING, NULL },
                { "draining", "", PRESENCE_UP, "Move=no", RUNS, MAINTENANCE_DRAINING, NULL },
                { "draining", "", PRESENCE_UP, "Move=no", FOREIGN, MAINTENANCE_DRAINED,
                  "drained: no unit is left to move" },
                { "draining", "", PRESENCE_UP, "Global=yes", RUNS, MAINTENANCE_DRAINED,
                  "drained: no unit is left to move" },
                { "draining", "", PRESENCE_UP, "", FINISHED, MAINTENANCE_DRAINED,
                  "drained: no unit is left to move" },
                { "draining", "", PRESENCE_UP, NULL, RUNS, MAINTENANCE_DRAINED,
                  "drained: no unit is left to move" },
                { "draining", "\"deadline\":999999,", PRESENCE_UP, NULL, RUNS, MAINTENANCE_DRAINED,
                  "drained: its deadline has passed" },
                { "draining", "\"deadline\":999999,", PRESENCE_UP, "", RUNS, MAINTENANCE_DRAINING, NULL },
                { "draining", "", PRESENCE_AWAY, NULL, RUNS, MAINTENANCE_DRAINING, NULL },
                { "draining", "", PRESENCE_LOST, "", RUNS, MAINTENANCE_CORDONED,
                  "cordoned: it was lost while it was drained" },
                { "draining", "", PRESENCE_LEFT, "", RUNS, MAINTENANCE_CORDONED,
                  "cordoned: it was shut down during the drain, which has ended" },
                { "draining", "\"deadline\":1300000,\"force\":true,\"why\":\"disk\",", PRESENCE_LOST, "",
                  RUNS, MAINTENANCE_CORDONED, "cordoned: it was lost while it was drained" },
                { "draining", "\"deadline\":1300000,\"force\":true,\"why\":\"disk\",", PRESENCE_LEFT, "",
                  RUNS, MAINTENANCE_CORDONED,
                  "cordoned: it was shut down during the drain, which has ended" },
                { "draining", "\"for\":\"leave\",", PRESENCE_UP, NULL, RUNS, MAINTENANCE_DRAINING, NULL },
                { "draining", "\"for\":\"leave\",", PRESENCE_LOST, NULL, RUNS, MAINTENANCE_DRAINING, NULL },
                { "drained", "", PRESENCE_UP, NULL, RUNS, MAINTENANCE_DRAINED, NULL },
                { "drained", "", PRESENCE_LOST, NULL, RUNS, MAINTENANCE_DRAINED, NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;
                DrainStep step;

                two_machines(&p);
                if (rows[i].unit) {
                        cluster_view_unit(&p, "a.service", rows[i].unit, TARGET_LAUNCHED);
                        run_on(&p, "A", "a.service");
                }
                if (rows[i].unit_is == FINISHED)
                        cluster_view_done(&p, "A", "a.service");
                if (rows[i].unit_is == FOREIGN)
                        cluster_view_conflicting(&p, "A", "a.service");
                if (rows[i].presence != PRESENCE_UP)
                        cluster_view_presence(&p, "A", rows[i].presence);
                maintain(&p, "A", rows[i].mode, rows[i].more);
                step = step_of(&p, "A");
                assert_int_equal(step.next.mode, rows[i].next);
                if (step.next.mode == MAINTENANCE_CORDONED) {
                        assert_int_equal(step.next.deadline_ms, 0);
                        assert_false(step.next.force);
                        assert_string_equal(step.next.why, strstr(rows[i].more, "why") ? "disk" : "");
                }
                assert_true(same_string(step.reason, rows[i].reason));
        }
}

static void a_drained_host_stays_drained(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        maintain(&p, "A", "drained", "");
        cluster_view_presence(&p, "A", PRESENCE_LEFT);
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        cluster_view_presence(&p, "A", PRESENCE_UP);
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        plans(&p, "run a.service B; run b.service B");
}

/* -- A host that shuts down -- */

#define SHUTDOWN "\"for\":\"shutdown\","

static void all_units_leave_a_host_that_shuts_down_at_once(void **state) {
        _cleanup_free_ char *plan = NULL;
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        put_units(&p, "A", "a", 40);
        cluster_view_unit(&p, "stays.service", "Move=no\nReplaceAfterSec=0", TARGET_LAUNCHED);
        run_on(&p, "A", "stays.service");
        cluster_view_unit(&p, "global.service", "Global=yes", TARGET_LAUNCHED);
        run_on(&p, "A", "global.service");
        run_on(&p, "B", "global.service");
        maintain(&p, "A", "draining", SHUTDOWN);
        plan = cluster_view_plan(&p, true);
        assert_int_equal(count_of(plan, "run "), 40);
        assert_int_equal(count_of(plan, "stays"), 0);
        assert_int_equal(count_of(plan, "stop "), 0);
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
}

static void a_has_the_disk(ClusterView *p) {
        *p = (ClusterView) { .cluster.now_ms = 1000000 };
        cluster_view_machine(p, "A", "disk=ssd", PRESENCE_UP);
        cluster_view_machine(p, "B", "", PRESENCE_UP);
}

static void a_host_that_shuts_down_waits_for_units_that_can_move(void **state) {
        static const struct {
                const char *mode, *options;
                Presence presence; /* of A */
                bool other;        /* B is free */
                MaintenanceMode next;
                const char *reason;
        } rows[] = {
                { "draining", "", PRESENCE_UP, true, MAINTENANCE_DRAINING, NULL },
                { "draining", "Move=no", PRESENCE_UP, true, MAINTENANCE_DRAINED,
                  "drained: no other machine can run the units that are left" },
                { "draining", "", PRESENCE_UP, false, MAINTENANCE_DRAINED,
                  "drained: no other machine can run the units that are left" },
                { "draining", "MachineMetadata=disk=ssd", PRESENCE_UP, true, MAINTENANCE_DRAINED,
                  "drained: no other machine can run the units that are left" },
                { "draining", NULL, PRESENCE_UP, true, MAINTENANCE_DRAINED,
                  "drained: no unit is left to move" },
                { "draining", "Global=yes", PRESENCE_UP, true, MAINTENANCE_DRAINED,
                  "drained: no unit is left to move" },
                { "draining", "", PRESENCE_LEFT, true, MAINTENANCE_DRAINING, NULL },
                { "drained", "", PRESENCE_UP, true, MAINTENANCE_DRAINED, NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                DrainStep step;
                _cleanup_cluster_view_ ClusterView p;

                a_has_the_disk(&p);
                if (rows[i].options) {
                        cluster_view_unit(&p, "a.service", rows[i].options, TARGET_LAUNCHED);
                        run_on(&p, "A", "a.service");
                }
                if (!rows[i].other)
                        maintain(&p, "B", "cordoned", "");
                if (rows[i].presence != PRESENCE_UP)
                        cluster_view_presence(&p, "A", rows[i].presence);
                maintain(&p, "A", rows[i].mode, SHUTDOWN);
                step = step_of(&p, "A");
                assert_int_equal(step.next.mode, rows[i].next);
                assert_true(same_string(step.reason, rows[i].reason));
        }
}

/* Its assignment is about to be ended. */
static void a_host_that_shuts_down_waits_for_a_unit_that_was_destroyed(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        maintain(&p, "A", "draining", SHUTDOWN);
        cluster_view_destroy(&p, "a.service");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
        plans(&p, "stop a.service A");
        has_ended(&p, "A", "a.service");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
}

static void the_record_of_an_operator_continues_when_the_host_is_down(void **state) {
        static const struct {
                const char *before, *mode;
                MaintenanceMode next;
        } rows[] = { { "cordoned", "draining", MAINTENANCE_CORDONED },
                     { "cordoned", "drained", MAINTENANCE_CORDONED },
                     { "draining", "draining", MAINTENANCE_CORDONED },
                     { "drained", "draining", MAINTENANCE_DRAINED } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                DrainStep step;
                _cleanup_cluster_view_ ClusterView p;
                char more[128];

                snprintf(more, sizeof(more), "\"before\":\"%s\",\"deadline\":1300000,\"force\":true,%s",
                         rows[i].before, SHUTDOWN);
                two_machines(&p);
                maintain(&p, "A", rows[i].mode, more);
                cluster_view_presence(&p, "A", PRESENCE_LEFT);
                step = step_of(&p, "A");
                assert_int_equal(step.next.mode, rows[i].next);
                assert_string_equal(step.next.purpose, "");
                assert_string_equal(step.next.before, "");
                assert_int_equal(step.next.force, !streq(rows[i].before, "draining"));
                assert_non_null(step.reason);
        }
}

/* Its record ends as drained: a unit that nothing else can run remains until systemd stops it. */
static void a_unit_without_another_machine_stays_until_the_host_is_down(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        a_has_the_disk(&p);
        cluster_view_unit(&p, "a.service", "MachineMetadata=disk=ssd", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "MachineOf=a.service", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "A", "b.service");
        maintain(&p, "A", "drained", SHUTDOWN);
        plans(&p, "");
}

static void the_record_of_an_operator_continues_after_a_shutdown(void **state) {
        const MaintenanceRecord cordon = { .by = "ann", .mode = MAINTENANCE_CORDONED, .why = "disk" },
                                drain = { .mode = MAINTENANCE_DRAINING, .deadline_ms = 5, .force = true },
                                leave = { .mode = MAINTENANCE_DRAINING, .purpose = CLUSTER_FOR_LEAVE };
        MaintenanceRecord next, back, forged;

        assert_true(shutdown_begin(NULL, &next));
        assert_string_equal(next.purpose, "shutdown");
        assert_int_equal(next.mode, MAINTENANCE_DRAINING);
        assert_true(shutdown_allows(NULL, &next));
        assert_false(shutdown_begin(&next, &back));
        assert_int_equal(shutdown_end(&next, &back), 0);
        assert_true(shutdown_allows(&next, NULL));
        assert_false(shutdown_allows(&next, &cordon));

        assert_true(shutdown_begin(&cordon, &next));
        assert_string_equal(next.before, "cordoned");
        assert_string_equal(next.why, "disk");
        assert_true(shutdown_allows(&cordon, &next));
        forged = next;
        memset(forged.before, 0, sizeof(forged.before));
        assert_false(shutdown_allows(&cordon, &forged));
        assert_false(shutdown_allows(&cordon, NULL));
        assert_false(shutdown_allows(&next, NULL));
        assert_int_equal(shutdown_end(&next, &back), 1);
        assert_memory_equal(&back, &cordon, sizeof(back));
        assert_true(shutdown_allows(&next, &back));

        assert_true(shutdown_begin(&drain, &next));
        next.mode = MAINTENANCE_DRAINED;
        assert_int_equal(shutdown_end(&next, &back), 1);
        assert_memory_equal(&back, &drain, sizeof(back));
        snprintf(next.before, sizeof(next.before), "evacuated");
        assert_int_equal(shutdown_end(&next, &back), 1);
        assert_int_equal(back.mode, MAINTENANCE_CORDONED);

        assert_false(shutdown_begin(&leave, &next));
        assert_int_equal(shutdown_end(&leave, &next), -ENOENT);
        assert_int_equal(shutdown_end(NULL, &next), -ENOENT);
        assert_false(shutdown_allows(NULL, NULL));
}

/* -- Limits -- */

static void eight_units_of_a_machine_start_elsewhere_at_a_time(void **state) {
        static const size_t expected[] = { 8, 8, 8, 6, 0 };
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        put_units(&p, "A", "a", 30);
        maintain(&p, "A", "draining", "");
        for (size_t i = 0; i < ELEMENTS(expected); i++) {
                _cleanup_free_ char *runs = cluster_view_plan(&p, true), *again = NULL, *stops = NULL;

                assert_int_equal(count_of(runs, "run "), expected[i]);
                assert_int_equal(count_of(runs, "stop "), 0);
                again = cluster_view_plan(&p, true); /* none is up yet */
                assert_string_equal(again, "");
                assert_int_equal(step_of(&p, "A").n_left, 30 - i * 8 < 30 ? 30 - i * 8 : i > 0 ? 0 : 30);
                for (const ClusterUnit *u = p.cluster.units; u; u = u->hh.next) {
                        char id[MACHINE_ID_SIZE];

                        if (cluster_assignment(&p.cluster, cluster_view_id(id, "B"), u->name))
                                cluster_view_state(&p, "B", u->name, "active");
                }
                /* What has stopped makes place for the next ones in the next round. */
                stops = cluster_view_plan(&p, false);
                assert_int_equal(count_of(stops, "stop "), expected[i]);
                for (const ClusterUnit *u = p.cluster.units, *next; u; u = next) {
                        char id[MACHINE_ID_SIZE], name[UNIT_NAME_MAX + 1];
                        bool there = cluster_assignment(&p.cluster, cluster_view_id(id, "B"), u->name);

                        next = u->hh.next;
                        snprintf(name, sizeof(name), "%s", u->name);
                        if (!there || !cluster_assignment(&p.cluster, cluster_view_id(id, "A"), name))
                                continue;
                        has_ended(&p, "A", name);
                }
        }
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
}

static void thirty_two_units_of_the_cluster_start_at_a_time(void **state) {
        _cleanup_free_ char *plan = NULL;
        _cleanup_cluster_view_ ClusterView p;

        six_machines(&p);
        for (char c = 'A'; c <= 'E'; c++) {
                put_units(&p, (char[]) { c, 0 }, (char[]) { (char) (c - 'A' + 'a'), 0 }, 10);
                maintain(&p, (char[]) { c, 0 }, "draining", "");
        }
        plan = cluster_view_plan(&p, true);
        assert_int_equal(count_of(plan, "run "), 32);
        assert_int_equal(count_of(plan, " F"), 32);
        plans(&p, "");
}

static void a_lost_machine_is_replaced_at_once_during_a_drain(void **state) {
        _cleanup_free_ char *plan = NULL, *lost = NULL;
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        put_units(&p, "A", "a", 20);
        put_units(&p, "B", "b", 20);
        maintain(&p, "A", "draining", "");
        plan = cluster_view_plan(&p, true);
        assert_int_equal(count_of(plan, "run "), 8);
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        p.cluster.now_ms += 60000;
        lost = cluster_view_plan(&p, true);
        assert_true(count_of(lost, "run b") == 20);
}

/* -- A unit that fails on its new machine -- */

static void a_unit_that_fails_on_its_new_machine_stays_and_tries_another_later(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        maintain(&p, "A", "draining", "");
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "failed");
        plans(&p, "run a.service A; stop a.service B"); /* in place: the next attempt is recorded */
        cluster_view_execute(&p);
        plans(&p, "");
        p.cluster.now_ms += DRAIN_RETRY_MS - 1;
        plans(&p, "");
        p.cluster.now_ms += 1;
        plans(&p, "run a.service C");
        cluster_view_state(&p, "C", "a.service", "failed");
        plans(&p, "run a.service A; stop a.service C");
        cluster_view_execute(&p);
        p.cluster.now_ms += 2 * DRAIN_RETRY_MS - 1;
        plans(&p, "");
        p.cluster.now_ms += 1;
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
}

/* A move fails also if the unit neither runs nor fails on its new machine. */
static void a_unit_that_does_not_start_on_its_new_machine_stays(void **state) {
        static const struct {
                const char *state;
                uint64_t after_ms; /* 0: it goes on there */
        } rows[] = {
                { "{\"active\":\"activating\",\"load\":\"loaded\",\"sub\":\"auto-restart\"}", 1 },
                { "{\"active\":\"activating\",\"load\":\"loaded\",\"sub\":\"auto-restart-queued\"}", 1 },
                { "{\"active\":\"inactive\",\"job\":\"condition\",\"load\":\"loaded\",\"sub\":\"dead\"}", 1 },
                { "{\"active\":\"inactive\",\"load\":\"loaded\",\"sub\":\"dead\"}", DRAIN_START_MS },
                { "{\"active\":\"inactive\",\"load\":\"not-found\",\"sub\":\"dead\"}", DRAIN_START_MS },
                { "{\"active\":\"activating\",\"load\":\"loaded\",\"sub\":\"start\"}", 0 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
                run_on(&p, "A", "a.service");
                maintain(&p, "A", "draining", "");
                plans(&p, "run a.service B");
                cluster_view_put(&p, layout_key(key, LAYOUT_STATE, "a.service", cluster_view_id(id, "B")),
                                 rows[i].state);
                if (rows[i].after_ms != 1) {
                        p.cluster.now_ms += DRAIN_START_MS - 1;
                        plans(&p, "");
                        p.cluster.now_ms++;
                }
                plans(&p, rows[i].after_ms > 0 ? "run a.service A; stop a.service B" : "");
                if (rows[i].after_ms > 0) {
                        cluster_view_execute(&p);
                        plans(&p, "");
                        p.cluster.now_ms += DRAIN_RETRY_MS;
                        plans(&p, "run a.service B");
                }
        }
}

/* -- The deadline -- */

static void units_that_are_left_stop_at_the_deadline(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED); /* in motion */
        run_on(&p, "A", "a.service");
        cluster_view_unit(&p, "g.service", "Global=yes", TARGET_LAUNCHED);
        run_on(&p, "A", "g.service");
        run_on(&p, "B", "g.service");
        cluster_view_unit(&p, "m.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        run_on(&p, "A", "m.service");
        cluster_view_unit(&p, "n.service", "Move=no", TARGET_LAUNCHED);
        run_on(&p, "A", "n.service");
        cluster_view_unit(&p, "s.service", "Singleton=yes\nMachineOf=m.service", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "s.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "s.service", "active");
        maintain(&p, "A", "draining", "\"deadline\":1005000,");
        plans(&p, "run a.service B; stop s.service A"); /* Singleton= is new: it gets a guard */
        cluster_view_execute(&p);
        cluster_view_state(&p, "B", "a.service", "activating");
        plans(&p, "");
        p.cluster.now_ms = 1004999;
        plans(&p, "");
        p.cluster.now_ms = 1005000;
        plans(&p, "stop a.service A; stop m.service A; load n.service A");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
        cluster_view_execute(&p);
        plans(&p, "");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        maintain(&p, "A", "drained", "\"deadline\":1005000,");
        plans(&p, "");
        maintain(&p, "A", NULL, "");
        plans(&p, "run m.service A; run n.service A; run s.service A");
}

/* -- Move= -- */

static void move_no_stays_until_it_is_forced(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "n.service", "Move=no", TARGET_LAUNCHED);
        run_on(&p, "A", "n.service");
        maintain(&p, "A", "draining", "");
        plans(&p, "");
        assert_int_equal(step_of(&p, "A").n_left, 1);
        maintain(&p, "A", "draining", "\"force\":true,");
        plans(&p, "stop n.service A");
        has_ended(&p, "A", "n.service");
        plans(&p, "run n.service B");
}

static void move_stop_first_stops_before_it_starts(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "Move=stop-first", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_unit(&p, "b.service", "Move=stop-first\nMachineID=aaaaaaaa", TARGET_LAUNCHED);
        run_on(&p, "A", "b.service");
        maintain(&p, "A", "draining", "");
        plans(&p, "stop a.service A"); /* nothing else fits the other: it stays */
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "run a.service B");
}

/* Units that follow another one are protected as others are, also when that one has moved. */
static void units_that_follow_one_that_moved_stay_or_move_as_others(void **state) {
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };

        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_unit(&p, "j.service", "MachineOf=a.service\n[Service]\nType=oneshot", TARGET_LAUNCHED);
        run_on(&p, "A", "j.service");
        cluster_view_state(&p, "A", "j.service", "activating");
        cluster_view_unit(&p, "m.service", "MachineOf=a.service\nMove=no", TARGET_LAUNCHED);
        run_on(&p, "A", "m.service");
        cluster_view_unit(&p, "s.service", "MachineOf=a.service\nMove=stop-first", TARGET_LAUNCHED);
        run_on(&p, "A", "s.service");
        cluster_view_unit(&p, "z.service", "MachineOf=a.service\nMachineMetadata=zone=a", TARGET_LAUNCHED);
        run_on(&p, "A", "z.service");
        maintain(&p, "A", "draining", "");
        plans(&p, "run a.service B; stop s.service A");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
        has_ended(&p, "A", "a.service");
        plans(&p, "");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
        cluster_view_done(&p, "A", "j.service");
        maintain(&p, "A", "draining", "\"force\":true,");
        plans(&p, "run j.service B; stop m.service A");
        maintain(&p, "A", "draining", "\"deadline\":1000000,");
        plans(&p, "stop j.service A; stop z.service A");
}

static void a_job_that_has_not_ended_may_end(void **state) {
        char id[MACHINE_ID_SIZE];
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "j.service", "[Service]\nType=oneshot", TARGET_LAUNCHED);
        run_on(&p, "A", "j.service");
        cluster_view_state(&p, "A", "j.service", "activating");
        maintain(&p, "A", "draining", "");
        plans(&p, "");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
        cluster_view_done(&p, "A", "j.service");
        plans(&p, "run j.service B");
        assert_true(cluster_assignment_on(cluster_machine(&p.cluster, cluster_view_id(id, "B")), "j.service")
                            ->finished);
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
}

/* -- Units that run there without an assignment: after a restore -- */

static void running_units_of_a_machine_in_maintenance_are_adopted(void **state) {
        static const struct {
                const char *mode, *first, *second;
        } rows[] = {
                { "cordoned",
                  "run a.service A; run g.service A; run g.service B; run n.service A; run s.service A", "" },
                { "draining",
                  "run a.service A; run g.service A; run g.service B; run n.service A; run s.service A",
                  "run a.service B; stop s.service A" },
                { "drained",
                  "run a.service A; run g.service A; run g.service B; run n.service A; run s.service A",
                  "run a.service B; stop s.service A" },
        };
        static const char *const units[][2] = { { "a.service", "" },
                                                { "g.service", "Global=yes" },
                                                { "n.service", "Move=no" },
                                                { "s.service", "Singleton=yes" } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                for (size_t k = 0; k < ELEMENTS(units); k++) {
                        cluster_view_unit(&p, units[k][0], units[k][1], TARGET_LAUNCHED);
                        cluster_view_state(&p, "A", units[k][0], "active");
                }
                maintain(&p, "A", rows[i].mode, "");
                plans(&p, rows[i].first);
                plans(&p, rows[i].second);
        }
}

/* It has an assignment to another machine, which has not started it yet. */
static void a_unit_that_runs_is_not_stopped_for_one_that_does_not(void **state) {
        static const struct {
                const char *mode, *options, *first, *second;
        } rows[] = {
                { "cordoned", "", "run a.service A", "stop a.service B" },
                { "draining", "Move=no", "run a.service A", "stop a.service B" },
                { "draining", "", "", "" },
                { "drained", "", "", "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_unit(&p, "a.service", rows[i].options, TARGET_LAUNCHED);
                cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_RUN);
                cluster_view_state(&p, "A", "a.service", "active");
                maintain(&p, "A", rows[i].mode, "");
                plans(&p, rows[i].first);
                plans(&p, rows[i].second);
                if (!rows[i].first[0]) {
                        cluster_view_state(&p, "B", "a.service", "active");
                        plans(&p, "stop a.service A");
                }
        }
}

/* -- The end of a drain by an operator -- */

static void uncordon_finishes_moves_that_run_and_cancels_others(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        put_units(&p, "A", "a", 2);
        maintain(&p, "A", "draining", "");
        plans(&p, "run a00.service B; run a01.service B");
        cluster_view_state(&p, "B", "a00.service", "active");
        cluster_view_state(&p, "B", "a01.service", "activating");
        maintain(&p, "A", NULL, "");
        plans(&p, "stop a00.service A; stop a01.service B");
        cluster_view_execute(&p);
        plans(&p, "");
}

/* -- Several machines -- */

static void two_drains_finish(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        put_units(&p, "A", "a", 12);
        put_units(&p, "B", "b", 12);
        maintain(&p, "A", "draining", "");
        maintain(&p, "B", "draining", "");
        for (size_t i = 0; i < 10; i++) {
                _cleanup_free_ char *plan = cluster_view_plan(&p, true);

                assert_null(strstr(plan, "run a00.service B"));
                cluster_view_execute(&p);
        }
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        assert_int_equal(step_of(&p, "B").next.mode, MAINTENANCE_DRAINED);
}

static void nothing_moves_while_machines_were_lost_together(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        six_machines(&p);
        put_units(&p, "A", "a", 2);
        for (char c = 'D'; c <= 'F'; c++)
                cluster_view_presence(&p, (char[]) { c, 0 }, PRESENCE_LOST);
        maintain(&p, "A", "draining", "");
        plans(&p, "");
        p.cluster.now_ms += 120000;
        plans(&p, "run a00.service B; run a01.service C");
}

/* -- Any cluster -- */

enum { VIEWS_QUICK = 250, VIEWS = 1000, VIEWS_ALL = 10000, UNITS = 12, MACHINES = 4, ROUNDS = 60 };

static void make_view(ClusterView *p, Random *random) {
        static const char *const options[] = { "",
                                               "",
                                               "",
                                               "Move=no",
                                               "Move=stop-first",
                                               "Conflicts=u*",
                                               "MachineMetadata=zone=a",
                                               "MachineID=aaaaaaaa",
                                               "MachineOf=u00.service",
                                               "Global=yes" };

        *p = (ClusterView) { .cluster.now_ms = 1000000 };
        for (unsigned i = 0; i < MACHINES; i++)
                cluster_view_machine(p, (char[]) { (char) ('A' + i), 0 },
                                     random_below(random, 2) ? "zone=a" : "", PRESENCE_UP);
        for (unsigned i = 0; i < UNITS; i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%02u.service", i);
                cluster_view_unit(p, name, options[random_below(random, ELEMENTS(options))], TARGET_LAUNCHED);
        }
}

/* Plan and execute until nothing changes. Return false if that does not happen. 'runs': units that run, and
 * continue to. */
static bool run_plans(ClusterView *p, bool check, const bool runs[static UNITS]) {
        for (size_t i = 0; i < ROUNDS; i++) {
                _cleanup_free_ char *plan = cluster_view_plan(p, true);

                if (!*plan)
                        return true;
                cluster_view_execute(p);
                for (unsigned k = 0; check && k < UNITS; k++) {
                        const ClusterUnit *u;
                        char name[32];
                        size_t n = 0;

                        snprintf(name, sizeof(name), "u%02u.service", k);
                        u = cluster_unit(&p->cluster, name);
                        for (const ClusterState *s = LIST_FIRST(&u->states); s; s = LIST_NEXT(s, of_unit))
                                n += streq(s->state.active, "active");
                        if (runs[k] && n == 0)
                                fail_msg("%s runs nowhere after: %s", name, plan);
                }
        }
        return false;
}

static void each_drain_ends_or_each_unit_that_is_left_has_a_reason(void **state) {
        static const bool none[UNITS] = {};

        const uint64_t n = test_size(VIEWS_QUICK, VIEWS, VIEWS_ALL);

        for (uint64_t seed = 1; seed <= n; seed++) {
                Random random;
                bool runs[UNITS] = {};
                SchedulerView *view;
                _cleanup_cluster_view_ ClusterView p;

                random_seed(&random, seed);
                make_view(&p, &random);
                if (!run_plans(&p, false, none))
                        fail_msg("seed %llu does not end", (unsigned long long) seed);
                for (unsigned k = 0; k < UNITS; k++) {
                        const ClusterUnit *u;
                        char name[32];

                        snprintf(name, sizeof(name), "u%02u.service", k);
                        u = cluster_unit(&p.cluster, name);
                        /* One in conflict may stop, and stop-first does. */
                        runs[k] = LIST_FIRST(&u->states) && u->unit->placement.move != PLACEMENT_STOP_FIRST &&
                                  u->unit->placement.conflicts.n == 0;
                }
                maintain(&p, "A", "draining", "");
                if (random_below(&random, 2))
                        maintain(&p, "B", "draining", "");
                if (!run_plans(&p, true, runs))
                        fail_msg("seed %llu: the drain does not end", (unsigned long long) seed);
                assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
                for (const char *name = "A"; name; name = streq(name, "A") ? "B" : NULL) {
                        char id[MACHINE_ID_SIZE];
                        const ClusterMachine *m = cluster_machine(&p.cluster, cluster_view_id(id, name)), *to;

                        if (!m->maintenance)
                                continue;
                        if (step_of(&p, name).next.mode == MAINTENANCE_DRAINED)
                                continue;
                        for (const ClusterAssignment *a = m->assignments; a; a = a->hh.next)
                                if (drain_awaits(a) && !scheduler_drain_spares(a->of, m, p.cluster.now_ms) &&
                                    scheduler_pick(view, a->of, &to, NULL) >= 0)
                                        fail_msg("seed %llu: %s is left on %s without a reason",
                                                 (unsigned long long) seed, a->unit, name);
                }
                scheduler_view_free(view);
        }
}

/* -- Units that stay: Move=no -- */

enum { SEQUENCES = 1000, SEQUENCES_ALL = 10000, STEPS = 10, STAYING = 6 };

/* What moves a unit is written down here as it happens, and not derived from the keys. */
typedef struct Stay {
        ClusterView p;
        Random random;
        uint64_t seed;
        const char *now;            /* the last event */
        uint64_t lost_ms[MACHINES]; /* since when it is lost without an announcement; 0: it is not */
        bool down[MACHINES], removed[MACHINES];
        unsigned allowed[STAYING]; /* machines that the unit may be assigned to */
        bool loose[STAYING], requested[STAYING];
} Stay;

static const char *const stay_options[STAYING] = {
        "Move=no",
        "Move=no\nReplaceAfterSec=1min",
        "Move=no\nReplaceAfterSec=never",
        "Move=no\nSingleton=yes",
        "Move=no\nMachineOf=s0.service",
        "Move=no\nConflicts=u*",
};
static const uint64_t stay_replace_ms[STAYING] = { 0, 60000, REPLACE_NEVER, 0, 0, 0 };

static const char *letter(unsigned m) {
        static const char *const names[MACHINES] = { "A", "B", "C", "D" };

        return names[m];
}

static ClusterMachine *stay_machine(Stay *s, unsigned m) {
        char id[MACHINE_ID_SIZE];

        return cluster_machine(&s->p.cluster, cluster_view_id(id, letter(m)));
}

static const char *stay_unit(unsigned i) {
        static char name[32];

        snprintf(name, sizeof(name), "s%u.service", i);
        return name;
}

static unsigned stay_assigned(Stay *s, unsigned i) {
        unsigned mask = 0;

        for (unsigned m = 0; m < MACHINES; m++) {
                const ClusterMachine *machine = stay_machine(s, m);
                const ClusterAssignment *a = machine ? cluster_assignment_on(machine, stay_unit(i)) : NULL;

                mask |= a && cluster_assignment_is_active(a) ? 1u << m : 0;
        }
        return mask;
}

/* The four events. A unit follows another one that stays (MachineOf=) to wherever that is. */
static bool stay_may_move(Stay *s, unsigned i, unsigned to) {
        bool event = s->loose[i] || s->requested[i] || (i == 4 && stay_assigned(s, 0) & 1u << to);

        for (unsigned m = 0; m < MACHINES; m++) {
                const ClusterMachine *machine = stay_machine(s, m);
                const MaintenanceRecord *r = machine ? machine->maintenance : NULL;

                if (s->allowed[i] & 1u << m)
                        event |= s->removed[m] || (r && r->force) ||
                                 (s->lost_ms[m] > 0 && stay_replace_ms[i] != REPLACE_NEVER &&
                                  s->p.cluster.now_ms >= s->lost_ms[m] + stay_replace_ms[i]);
        }
        return event;
}

static void stay_check(Stay *s, const char *plan) {
        for (unsigned i = 0; i < STAYING; i++)
                for (unsigned m = 0; m < MACHINES; m++) {
                        if (!(stay_assigned(s, i) & ~s->allowed[i] & 1u << m))
                                continue;
                        if (!stay_may_move(s, i, m))
                                fail_msg("seed %llu: after \"%s\", %s moves to %s: %s",
                                         (unsigned long long) s->seed, s->now, stay_unit(i), letter(m), plan);
                        s->allowed[i] |= 1u << m;
                }
}

/* Write the steps of the drains. */
static void stay_step(Stay *s) {
        for (unsigned m = 0; m < MACHINES; m++) {
                _cleanup_text_ Text t = {};
                char key[LAYOUT_KEY_MAX];
                DrainStep step;

                if (!stay_machine(s, m) || !stay_machine(s, m)->maintenance)
                        continue;
                step = step_of(&s->p, letter(m));
                if (!step.reason)
                        continue;
                stored_maintenance_write(&t, &step.next);
                cluster_view_put(&s->p, layout_key(key, LAYOUT_MAINTENANCE, NULL, stay_machine(s, m)->id),
                                 t.chars);
        }
}

/* Plan and execute until nothing changes. A unit that stays runs then if its machine takes units. */
static void stay_rest(Stay *s, const char *event) {
        bool rests = false;

        s->now = event;
        for (unsigned round = 0; round < ROUNDS && !rests; round++) {
                _cleanup_free_ char *plan = cluster_view_plan(&s->p, true);

                stay_check(s, plan);
                rests = !*plan;
                cluster_view_execute(&s->p);
                stay_step(s);
        }
        if (!rests)
                fail_msg("seed %llu: the plans after \"%s\" do not end", (unsigned long long) s->seed, event);
        for (unsigned i = 0; i < STAYING; i++) {
                const ClusterUnit *u = cluster_unit(&s->p.cluster, stay_unit(i));
                unsigned on = stay_assigned(s, i);

                if (!on && i != 4 && !stay_may_move(s, i, 0))
                        fail_msg("seed %llu: after \"%s\", %s has no machine", (unsigned long long) s->seed,
                                 event, u->name);
                s->loose[i] = !on;
                s->allowed[i] = on ?: s->allowed[i];
                s->requested[i] = u->move;
                for (unsigned m = 0; m < MACHINES && i < 4; m++)
                        if (on == 1u << m && !s->down[m] && !s->removed[m] &&
                            !stay_machine(s, m)->maintenance &&
                            cluster_assignment_on(stay_machine(s, m), u->name)->kind != ASSIGNMENT_RUN)
                                fail_msg("seed %llu: after \"%s\", %s does not run on %s",
                                         (unsigned long long) s->seed, event, u->name, letter(m));
        }
}

static void stay_goes_down(Stay *s, unsigned m, Presence presence) {
        cluster_view_presence(&s->p, letter(m), presence);
        s->down[m] = true;
}

static void stay_drain(Stay *s, unsigned m, const char *more, const char *event) {
        maintain(&s->p, letter(m), "draining", more);
        stay_rest(s, event);
}

/* The deadline of a drain for 'purpose' passes. */
static void stay_deadline(Stay *s, unsigned m, const char *purpose, const char *event) {
        char more[64];

        snprintf(more, sizeof(more), "%s\"deadline\":%llu,", purpose,
                 (unsigned long long) s->p.cluster.now_ms + 5000);
        stay_drain(s, m, more, event);
        s->p.cluster.now_ms += 5000;
        stay_rest(s, event);
}

/* A planned reboot, from which the host returns at once, or later. */
static void stay_reboot(Stay *s, unsigned m) {
        char key[LAYOUT_KEY_MAX];

        stay_deadline(s, m, "\"for\":\"reboot\",", "deadline of a reboot");
        if (stay_machine(s, m)->maintenance->mode != MAINTENANCE_DRAINED) /* the brake is on */
                return;
        cluster_view_put(&s->p, layout_key(key, LAYOUT_REBOOT, NULL, stay_machine(s, m)->id),
                         "{\"kind\":\"reboot\",\"state\":\"rebooting\"}");
        stay_rest(s, "reboot");
        stay_goes_down(s, m, random_below(&s->random, 2) ? PRESENCE_LEFT : PRESENCE_LOST);
        stay_rest(s, "down for a reboot");
}

static void stay_remove(Stay *s, unsigned m) {
        static const LayoutKind kinds[] = { LAYOUT_MAINTENANCE, LAYOUT_REBOOT, LAYOUT_FACTS,
                                            LAYOUT_PRESENCE };
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];

        for (size_t i = 0; i < ELEMENTS(kinds); i++)
                cluster_view_remove(&s->p, layout_key(key, kinds[i], NULL, cluster_view_id(id, letter(m))));
        s->removed[m] = true;
        stay_rest(s, "remove");
}

static void stay_return(Stay *s, unsigned m) {
        const ClusterMachine *machine;
        char key[LAYOUT_KEY_MAX];

        cluster_view_machine(&s->p, letter(m), "", PRESENCE_UP);
        machine = stay_machine(s, m);
        s->down[m] = s->removed[m] = false;
        s->lost_ms[m] = 0;
        if (machine->reboot) {
                cluster_view_put(&s->p, layout_key(key, LAYOUT_REBOOT, NULL, machine->id),
                                 "{\"kind\":\"reboot\",\"state\":\"back\"}");
                stay_rest(s, "back after a reboot");
                cluster_view_remove(&s->p, layout_key(key, LAYOUT_REBOOT, NULL, machine->id));
        }
        if (machine->maintenance && machine->maintenance->purpose[0])
                maintain(&s->p, letter(m), NULL, "");
        stay_rest(s, "return");
}

static void stay_move(Stay *s, unsigned m) {
        unsigned i = random_below(&s->random, STAYING);
        char key[LAYOUT_KEY_MAX], value[128];

        if (i == 4 || (stay_assigned(s, i) & 1u << m))
                return;
        snprintf(value, sizeof(value), "{\"by\":\"ann\",\"since\":1,\"to\":\"%s\"}", stay_machine(s, m)->id);
        cluster_view_put(&s->p, layout_key(key, LAYOUT_MOVE, stay_unit(i), NULL), value);
        s->requested[i] = true;
        stay_rest(s, "move --force");
}

static void stay_event(Stay *s) {
        unsigned m = random_below(&s->random, MACHINES), event = random_below(&s->random, 12);

        s->p.cluster.now_ms += random_below(&s->random, 50000);
        if (s->down[m] && event < 6) {
                if (event < 5 || s->removed[m])
                        stay_return(s, m);
                else
                        stay_remove(s, m);
                return;
        }
        if (s->down[m]) /* time passes */
                stay_rest(s, "time");
        else if (event == 0)
                stay_drain(s, m, "", "drain");
        else if (event == 1)
                stay_drain(s, m, "\"force\":true,", "drain --force");
        else if (event == 2)
                stay_deadline(s, m, "", "deadline");
        else if (event == 3) {
                maintain(&s->p, letter(m), "cordoned", "");
                stay_rest(s, "cordon");
        } else if (event == 4 || event == 5) {
                maintain(&s->p, letter(m), NULL, "");
                stay_rest(s, "uncordon");
        } else if (event == 6)
                stay_reboot(s, m);
        else if (event == 7) { /* its fleetd is stopped for too long */
                s->p.announced = true;
                cluster_view_presence(&s->p, letter(m), PRESENCE_AWAY);
                s->p.announced = false;
                stay_rest(s, "stop of fleetd");
                stay_goes_down(s, m, PRESENCE_LOST);
                stay_rest(s, "lost after a stop of fleetd");
        } else if (event == 8) {
                stay_goes_down(s, m, PRESENCE_LOST);
                s->lost_ms[m] = s->p.cluster.now_ms;
                stay_rest(s, "power cut");
        } else if (event == 9)
                stay_move(s, m);
        else {
                bool cordoned = stay_machine(s, m)->maintenance;

                stay_drain(s, m, cordoned ? SHUTDOWN "\"before\":\"cordoned\"," : SHUTDOWN, "shutdown");
                stay_goes_down(s, m, event == 10 ? PRESENCE_LEFT : PRESENCE_LOST);
                stay_rest(s, "down");
        }
}

static void a_unit_that_stays_moves_by_four_events_only(void **state) {
        const uint64_t n = getenv("CHECK_ALL") ? SEQUENCES_ALL : SEQUENCES;

        for (uint64_t seed = 1; seed <= n; seed++) {
                Stay s = { .p.cluster.now_ms = 1000000, .seed = seed };

                random_seed(&s.random, seed);
                for (unsigned m = 0; m < MACHINES; m++)
                        cluster_view_machine(&s.p, letter(m), "", PRESENCE_UP);
                for (unsigned i = 0; i < STAYING; i++) {
                        cluster_view_unit(&s.p, stay_unit(i), stay_options[i], TARGET_LAUNCHED);
                        s.loose[i] = true;
                }
                cluster_view_unit(&s.p, "u0.service", "", TARGET_LAUNCHED);
                cluster_view_unit(&s.p, "u1.service", "Move=stop-first", TARGET_LAUNCHED);
                stay_rest(&s, "start");
                for (unsigned i = 0; i < STEPS; i++)
                        stay_event(&s);
                cluster_view_free(&s.p);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_state_of_a_drain_has_its_next_one),
                cmocka_unit_test(a_drained_host_stays_drained),
                cmocka_unit_test(a_host_that_shuts_down_waits_for_a_unit_that_was_destroyed),
                cmocka_unit_test(the_record_of_an_operator_continues_when_the_host_is_down),
                cmocka_unit_test(all_units_leave_a_host_that_shuts_down_at_once),
                cmocka_unit_test(a_host_that_shuts_down_waits_for_units_that_can_move),
                cmocka_unit_test(a_unit_without_another_machine_stays_until_the_host_is_down),
                cmocka_unit_test(the_record_of_an_operator_continues_after_a_shutdown),
                cmocka_unit_test(eight_units_of_a_machine_start_elsewhere_at_a_time),
                cmocka_unit_test(thirty_two_units_of_the_cluster_start_at_a_time),
                cmocka_unit_test(a_lost_machine_is_replaced_at_once_during_a_drain),
                cmocka_unit_test(a_unit_that_fails_on_its_new_machine_stays_and_tries_another_later),
                cmocka_unit_test(a_unit_that_does_not_start_on_its_new_machine_stays),
                cmocka_unit_test(units_that_are_left_stop_at_the_deadline),
                cmocka_unit_test(move_no_stays_until_it_is_forced),
                cmocka_unit_test(move_stop_first_stops_before_it_starts),
                cmocka_unit_test(units_that_follow_one_that_moved_stay_or_move_as_others),
                cmocka_unit_test(a_job_that_has_not_ended_may_end),
                cmocka_unit_test(running_units_of_a_machine_in_maintenance_are_adopted),
                cmocka_unit_test(a_unit_that_runs_is_not_stopped_for_one_that_does_not),
                cmocka_unit_test(uncordon_finishes_moves_that_run_and_cancels_others),
                cmocka_unit_test(two_drains_finish),
                cmocka_unit_test(nothing_moves_while_machines_were_lost_together),
                cmocka_unit_test(each_drain_ends_or_each_unit_that_is_left_has_a_reason),
                cmocka_unit_test(a_unit_that_stays_moves_by_four_events_only),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
