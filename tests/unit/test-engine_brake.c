#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/sizes.h"
#include "fleetd/scheduler/scheduler.h"
#include "tests/lib/plans.h"

static void units_of_many_hosts_that_vanish_together_move_late_and_host_by_host(void **state) {
        const char *moved = "a.service";
        _cleanup_cluster_view_ ClusterView p;
        EnginePlan plan = {};

        six_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "B", "b.service");
        run_on(&p, "C", "c.service");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        p.cluster.now_ms += 100;
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        p.cluster.now_ms += 100;
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        plans(&p, "");
        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.again_ms, 30000);
        engine_plan_done(&plan);

        /* A request of an operator is still executed. */
        cluster_view_unit(&p, "new.service", "", TARGET_LAUNCHED);
        plans(&p, "run new.service D");
        cluster_view_execute(&p);

        p.cluster.now_ms += 29999;
        plans(&p, "");
        p.cluster.now_ms += 1;
        plans(&p, "run a.service E");
        plans(&p, "");
        cluster_view_state(&p, "E", "a.service", "active");
        /* The next host is released, though the event is about a unit of the first one. */
        assert_int_equal(engine_plan(&p.cluster, &moved, 1, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.n, 2);
        assert_string_equal(plan.changes[1].unit, "b.service");
        engine_plan_done(&plan);
        plans(&p, "stop a.service A; run b.service F");
        cluster_view_state(&p, "F", "b.service", "failed"); /* it does not delay the next host */
        plans(&p, "run c.service D");
}

static void two_of_six_hosts_do_not_start_the_brake(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        six_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "B", "b.service");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "run a.service C; run b.service D");
}

/* A third of all hosts starts the brake, not a number of hosts. */
static void a_rack_of_40_of_10000_hosts_moves_at_once(void **state) {
        enum { HOSTS = 10000, RACK = 40 };
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        char host[8], unit[32];

        for (unsigned i = 0; i < HOSTS; i++) {
                snprintf(host, sizeof(host), "A%04u", i);
                cluster_view_machine(&p, host, "", PRESENCE_UP);
                if (i >= RACK)
                        continue;
                snprintf(unit, sizeof(unit), "u%u.service", i);
                cluster_view_unit(&p, unit, "", TARGET_LAUNCHED);
                run_on(&p, host, unit);
        }
        for (unsigned i = 0; i < RACK; i++) {
                snprintf(host, sizeof(host), "A%04u", i);
                cluster_view_presence(&p, host, PRESENCE_LOST);
        }
        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.n, RACK);
        for (size_t i = 0; i < plan.n; i++) {
                const ClusterMachine *m = cluster_machine(&p.cluster, plan.changes[i].machine);

                assert_int_equal(plan.changes[i].kind, ASSIGNMENT_RUN);
                assert_int_equal(m->presence, PRESENCE_UP);
        }
}

static void many_hosts_that_vanish_one_after_the_other_do_not_start_the_brake(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        six_machines(&p);
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        run_on(&p, "C", "c.service");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        p.cluster.now_ms += 61000;
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        p.cluster.now_ms += 61000;
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        plans(&p, "run c.service D");
}

static void a_host_that_returns_ends_the_brake(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        six_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        plans(&p, "");
        cluster_view_presence(&p, "B", PRESENCE_UP);
        plans(&p, "run a.service B");
}

/* By the time of their loss, then by ID, not by the order of joining. */
static void hosts_that_vanish_together_are_released_in_the_order_of_their_loss(void **state) {
        const char *other = "a.service", *own = "b.service";
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };
        EnginePlan plan = {};
        uint64_t freed;
        char id[MACHINE_ID_SIZE];

        for (char c = 'F'; c >= 'A'; c--)
                cluster_view_machine(&p, (char[]) { c, 0 }, "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b2.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "B", "b.service");
        run_on(&p, "B", "b2.service");
        run_on(&p, "C", "c.service");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        p.cluster.now_ms += 100;
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "");

        /* Any plan considers the units of a released host, once. */
        p.cluster.now_ms += 30000;
        assert_int_equal(engine_plan(&p.cluster, &other, 1, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.n, 2);
        assert_string_equal(plan.changes[0].unit, "b.service");
        assert_string_equal(plan.changes[1].unit, "b2.service");
        freed = plan.freed;
        assert_int_equal(freed, cluster_machine(&p.cluster, cluster_view_id(id, "B"))->presence_index);
        engine_plan_done(&plan);
        assert_int_equal(engine_plan(&p.cluster, &other, 1, 30000,
                                     &(EnginePlanLimits) { .names_texts = true, .freed = freed }, &plan),
                         0);
        assert_int_equal(plan.n, 0);
        engine_plan_done(&plan);
        /* One unit at least, though the brake alone exceeds the limit of work. */
        assert_int_equal(engine_plan(&p.cluster, &own, 1, 30000,
                                     &(EnginePlanLimits) { .names_texts = true, .work_max = 1 }, &plan),
                         0);
        assert_int_equal(plan.n, 1);
        engine_plan_done(&plan);

        plans(&p, "run b.service D; run b2.service E");
        cluster_view_state(&p, "D", "b.service", "active");
        cluster_view_state(&p, "E", "b2.service", "active");
        plans(&p, "run a.service F; stop b.service B; stop b2.service B");
        cluster_view_state(&p, "F", "a.service", "active");
        plans(&p, "stop a.service A; run c.service D");
        cluster_view_state(&p, "D", "c.service", "active");
        plans(&p, "stop c.service C");
        plans(&p, "");
}

/* A machine that has left, or has no presence, does not count. */
static void two_of_five_hosts_within_a_minute_start_the_brake(void **state) {
        static const struct {
                uint64_t apart_ms;
                const char *plan;
        } rows[] = { { 60000, "" }, { 60001, "run b.service C" } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char key[128], id[MACHINE_ID_SIZE];
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                for (char c = 'C'; c <= 'E'; c++)
                        cluster_view_machine(&p, (char[]) { c, 0 }, "", PRESENCE_UP);
                cluster_view_machine(&p, "F", "", PRESENCE_LEFT);
                snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", cluster_view_id(id, "A1"));
                cluster_view_put(&p, key, "{\"name\":\"A1\"}");
                cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
                run_on(&p, "B", "b.service");
                cluster_view_presence(&p, "A", PRESENCE_LOST);
                p.cluster.now_ms += rows[i].apart_ms;
                cluster_view_presence(&p, "B", PRESENCE_LOST);
                plans(&p, rows[i].plan);
        }
}

/* Three losses within each minute: the hosts of the last minute are held, too. A single loss after that is
 * not. */
static void the_brake_holds_hosts_up_to_the_last_minute_with_too_many_losses(void **state) {
        ClusterView p;

        six_machines(&p);
        cluster_view_unit(&p, "d.service", "", TARGET_LAUNCHED);
        run_on(&p, "D", "d.service");
        for (char c = 'A'; c <= 'D'; c++) {
                p.cluster.now_ms += 30000;
                cluster_view_presence(&p, (char[]) { c, 0 }, PRESENCE_LOST);
        }
        plans(&p, "");
        cluster_view_free(&p);

        six_machines(&p);
        cluster_view_unit(&p, "d.service", "", TARGET_LAUNCHED);
        run_on(&p, "D", "d.service");
        for (char c = 'A'; c <= 'C'; c++) {
                p.cluster.now_ms += 100;
                cluster_view_presence(&p, (char[]) { c, 0 }, PRESENCE_LOST);
        }
        p.cluster.now_ms += 60100;
        cluster_view_presence(&p, "D", PRESENCE_LOST);
        plans(&p, "run d.service E");
        cluster_view_free(&p);
}

static void lay_nothing(ClusterView *p) {}

static void lay_wanted(ClusterView *p) {
        cluster_view_unit(p, "x.service", "", TARGET_LAUNCHED);
        run_on(p, "A", "x.service");
}

static void lay_unreadable(ClusterView *p) {
        lay_wanted(p);
        cluster_view_unreadable(p, LAYOUT_STATE, "x.service", "D");
}

static void lay_unwanted(ClusterView *p) {
        cluster_view_unit(p, "x.service", "", TARGET_INACTIVE);
        cluster_view_assign(p, "A", "x.service", ASSIGNMENT_RUN);
}

static void lay_global(ClusterView *p) {
        cluster_view_unit(p, "x.service", "Global=true", TARGET_LAUNCHED);
        run_on(p, "D", "x.service");
        run_on(p, "E", "x.service");
        p->cluster.now_ms += 1000;
        run_on(p, "A", "x.service");
}

static void lay_finished(ClusterView *p) {
        cluster_view_unit(p, "x.service", "", TARGET_LAUNCHED);
        cluster_view_assign(p, "A", "x.service", ASSIGNMENT_RUN);
        cluster_view_done(p, "A", "x.service");
}

static void lay_stopping(ClusterView *p) {
        cluster_view_unit(p, "x.service", "", TARGET_LAUNCHED);
        cluster_view_assign(p, "A", "x.service", ASSIGNMENT_STOP);
}

static void lay_for_a_alone(ClusterView *p) {
        cluster_view_unit(p, "x.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        run_on(p, "A", "x.service");
}

static void lay_also_on_one_that_is_away(ClusterView *p) {
        cluster_view_unit(p, "x.service", "", TARGET_LAUNCHED);
        cluster_view_assign(p, "D", "x.service", ASSIGNMENT_RUN);
        cluster_view_presence(p, "D", PRESENCE_AWAY);
        p->cluster.now_ms += 1000;
        run_on(p, "A", "x.service");
}

static void lay_also_finished_elsewhere(ClusterView *p) {
        cluster_view_unit(p, "x.service", "", TARGET_LAUNCHED);
        cluster_view_assign(p, "D", "x.service", ASSIGNMENT_RUN);
        cluster_view_done(p, "D", "x.service");
        p->cluster.now_ms += 1000;
        run_on(p, "A", "x.service");
}

static void lay_on_two(ClusterView *p) {
        lay_wanted(p);
        run_on(p, "B", "x.service");
}

static void lay_moved_in_the_same_moment(ClusterView *p) {
        lay_wanted(p);
        run_on(p, "D", "x.service");
}

/* It was moving from D, which rejects it, to A. */
static void lay_moving(ClusterView *p) {
        cluster_view_machine(p, "E", "zone=a", PRESENCE_UP);
        cluster_view_unit(p, "x.service", "MachineMetadata=zone=a", TARGET_LAUNCHED);
        run_on(p, "D", "x.service");
        p->cluster.now_ms += 1000;
        run_on(p, "A", "x.service");
}

/* x.service is on the host that is lost first, y.service on the second, which is released when the first is
 * through. */
static void a_host_is_through_when_all_moves_from_it_are_complete(void **state) {
        static const struct {
                void (*lay)(ClusterView *p);
                const char *lost;  /* the hosts are lost in this order, */
                uint64_t apart_ms; /* with this distance */
                const char *plan;
        } rows[] = {
                { lay_nothing, "ABC", 100, "run y.service D" },
                { lay_wanted, "ABC", 100, "run x.service D" },
                { lay_unreadable, "ABC", 100, "run y.service D" },
                { lay_unwanted, "ABC", 100, "stop x.service A; run y.service D" },
                { lay_global, "ABC", 100, "run x.service F; run y.service D" },
                { lay_finished, "ABC", 100, "run x.service D; run y.service E" },
                { lay_stopping, "ABC", 100, "run x.service D; run y.service E" },
                { lay_for_a_alone, "ABC", 100, "run y.service D" },
                { lay_also_on_one_that_is_away, "ABC", 100, "run y.service E" },
                { lay_also_finished_elsewhere, "ABC", 100, "stop x.service A; run y.service E" },
                { lay_on_two, "BAC", 100, "run x.service D; run y.service E" },
                { lay_on_two, "ABC", 0, "run x.service D; run y.service E" },
                { lay_moved_in_the_same_moment, "ABC", 100, "stop x.service A; run y.service E" },
                { lay_moving, "ABC", 100, "run x.service E" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                six_machines(&p);
                rows[i].lay(&p);
                cluster_view_unit(&p, "y.service", "", TARGET_LAUNCHED);
                run_on(&p, (char[]) { rows[i].lost[1], 0 }, "y.service");
                for (unsigned k = 0; k < 3; k++) {
                        p.cluster.now_ms += rows[i].apart_ms;
                        cluster_view_presence(&p, (char[]) { rows[i].lost[k], 0 }, PRESENCE_LOST);
                }
                if (rows[i].lay == lay_moving) /* up since a later time */
                        cluster_view_presence(&p, "D", PRESENCE_UP);
                p.cluster.now_ms += 30000;
                plans(&p, rows[i].plan);
        }
}

static void brake_is(const ClusterView *p, uint64_t until_ms, size_t n_lost, size_t n_total) {
        EngineBrake brake = { 7, 7, 7 };

        assert_int_equal(engine_brake_state(&p->cluster, 30000, &brake), 0);
        assert_int_equal(brake.until_ms, until_ms);
        assert_int_equal(brake.n_lost, n_lost);
        assert_int_equal(brake.n_total, n_total);
}

static void the_brake_reports_its_end_and_the_hosts_of_the_last_minute(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        uint64_t lost_ms;

        six_machines(&p);
        cluster_view_presence(&p, "A", PRESENCE_LEFT); /* it is no loss, and does not count */
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        brake_is(&p, 0, 0, 0);
        p.cluster.now_ms += 100;
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        lost_ms = p.cluster.now_ms;
        brake_is(&p, lost_ms + 30000, 2, 5);
        p.cluster.now_ms = lost_ms + 29999;
        brake_is(&p, lost_ms + 30000, 2, 5);
        p.cluster.now_ms++;
        brake_is(&p, 0, 0, 0); /* it releases host by host now */

        /* Hosts of an earlier minute are not among those of the last one. */
        p.cluster.now_ms += 3600000;
        cluster_view_presence(&p, "D", PRESENCE_LOST);
        brake_is(&p, 0, 0, 0);
        p.cluster.now_ms += 60000;
        cluster_view_presence(&p, "E", PRESENCE_LOST);
        brake_is(&p, p.cluster.now_ms + 30000, 2, 5);
        cluster_view_presence(&p, "E", PRESENCE_UP);
        brake_is(&p, 0, 0, 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(units_of_many_hosts_that_vanish_together_move_late_and_host_by_host),
                cmocka_unit_test(two_of_six_hosts_do_not_start_the_brake),
                cmocka_unit_test(a_rack_of_40_of_10000_hosts_moves_at_once),
                cmocka_unit_test(many_hosts_that_vanish_one_after_the_other_do_not_start_the_brake),
                cmocka_unit_test(a_host_that_returns_ends_the_brake),
                cmocka_unit_test(hosts_that_vanish_together_are_released_in_the_order_of_their_loss),
                cmocka_unit_test(two_of_five_hosts_within_a_minute_start_the_brake),
                cmocka_unit_test(the_brake_holds_hosts_up_to_the_last_minute_with_too_many_losses),
                cmocka_unit_test(the_brake_reports_its_end_and_the_hosts_of_the_last_minute),
                cmocka_unit_test(a_host_is_through_when_all_moves_from_it_are_complete),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
