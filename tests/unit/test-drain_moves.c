/* Units between their machines during drains: limits, targets that fail or go away, two drains at once. */
#include "tests/lib/test.h"
#include "base/clock.h"
#include "tests/lib/drains.h"
#include "tests/lib/size.h"
#include "tests/lib/words_of.h"

/* Launch 'n' units on machine A; the other machines are cordoned until all run. */
static void launch_on_a(ClusterView *p, const char *others, const char *prefix, const char *options, int n) {
        char name[32];

        for (const char *c = others; *c; c++)
                maintain(p, (char[]) { *c, 0 }, "cordoned", "");
        for (int i = 0; i < n; i++) {
                snprintf(name, sizeof(name), "%s%02d.service", prefix, i);
                cluster_view_unit(p, name, options, TARGET_LAUNCHED);
        }
        free(cluster_view_plan(p, true));
        cluster_view_execute(p);
        for (const char *c = others; *c; c++)
                maintain(p, (char[]) { *c, 0 }, NULL, "");
}

static const ClusterAssignment *assignment_on(ClusterView *p, const char *machine, const char *unit) {
        char id[MACHINE_ID_SIZE];

        return cluster_assignment(&p->cluster, cluster_view_id(id, machine), unit);
}

/* Execute the stops of a machine only. */
static void execute_stops(ClusterView *p, const char *machine) {
        char id[MACHINE_ID_SIZE];
        const ClusterMachine *m = cluster_machine(&p->cluster, cluster_view_id(id, machine));

        for (const ClusterAssignment *a = m->assignments, *next; a; a = next) {
                next = a->hh.next;
                if (a->kind == ASSIGNMENT_STOP)
                        has_ended(p, machine, a->unit);
        }
}

static void assert_counts(ClusterView *p, size_t runs, size_t stops) {
        _cleanup_free_ char *plan = cluster_view_plan(p, true);

        if (count_of(plan, "run ") != runs || count_of(plan, "stop ") != stops)
                fail_msg("expected %zu runs and %zu stops: %s", runs, stops, plan);
}

static void publish(ClusterView *p, const char *machine, const char *prefix, int first, int end,
                    const char *active) {
        for (int i = first; i < end; i++) {
                char name[32];

                snprintf(name, sizeof(name), "%s%02d.service", prefix, i);
                cluster_view_state(p, machine, name, active);
        }
}

/* -- The old instance serves until the new one does -- */

/* A drains; its unit has started on B. */
static void moving_to_b(ClusterView *p, bool below_updates, const char *purpose) {
        two_machines(p);
        p->below_updates = below_updates;
        cluster_view_unit(p, "a.service", "", TARGET_LAUNCHED);
        run_on(p, "A", "a.service");
        p->cluster.now_ms += 1000;
        maintain(p, "A", "draining", purpose);
        plans(p, "run a.service B");
}

static void the_old_instance_stops_when_the_new_one_is_available(void **state) {
        static const struct {
                bool below_updates;
                const char *purpose, *health, *plan;
        } rows[] = {
                { false, "", "starting", "" },
                { false, "", "passing", "" },
                { false, "\"for\":\"reboot\",", "passing", "" },
                { false, "\"for\":\"leave\",", "passing", "" },
                { false, "\"for\":\"shutdown\",", "starting", "" },
                { false, "\"for\":\"shutdown\",", "passing", "stop a.service A" },
                { true, "", "passing", "stop a.service A" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                moving_to_b(&p, rows[i].below_updates, rows[i].purpose);
                cluster_view_active(&p, "B", "a.service", rows[i].health);
                plans(&p, rows[i].plan);
                cluster_view_state(&p, "B", "a.service", "active");
                plans(&p, *rows[i].plan ? "" : "stop a.service A");
        }
}

/* Both machines drain, and no other one qualifies: one instance is enough. */
static void a_unit_that_arrived_on_a_machine_that_drains_leaves_the_former_one(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        moving_to_b(&p, false, "");
        cluster_view_active(&p, "B", "a.service", "passing");
        maintain(&p, "B", "draining", "");
        plans(&p, "");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
        has_ended(&p, "A", "a.service");
        plans(&p, "");
        cluster_view_machine(&p, "C", "", PRESENCE_UP);
        plans(&p, "run a.service C");
}

static void an_old_instance_that_does_not_run_is_not_waited_for(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        moving_to_b(&p, false, "");
        cluster_view_state(&p, "A", "a.service", "failed");
        cluster_view_active(&p, "B", "a.service", "passing");
        plans(&p, "stop a.service A");
}

static void a_new_instance_that_fails_its_checks_ends_and_the_old_one_stays(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        moving_to_b(&p, false, "");
        cluster_view_active(&p, "B", "a.service", "starting");
        plans(&p, "");
        cluster_view_active(&p, "B", "a.service", "failing");
        plans(&p, "run a.service A; stop a.service B");
        assert_int_equal(assignment_on(&p, "A", "a.service")->move_failures, 1);
}

/* It never becomes available, and never fails. The time does not begin before that of the leader. */
static void a_new_instance_that_is_not_available_in_time_ends_and_the_old_one_stays(void **state) {
        EnginePlanLimits limits = cluster_view_limits;
        EnginePlan plan = {};
        _cleanup_cluster_view_ ClusterView p;

        moving_to_b(&p, false, "");
        for (unsigned i = 0; i < 59; i++) {
                p.cluster.now_ms += 10000;
                cluster_view_active(&p, "B", "a.service", i % 2 ? "passing" : "starting");
                plans(&p, "");
        }
        p.cluster.now_ms += 10000;
        limits.leads_ms = p.cluster.now_ms - 1000;
        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &limits, &plan), 0);
        assert_int_equal(plan.n, 0);
        assert_int_equal(plan.again_ms, 599000);
        engine_plan_done(&plan);
        plans(&p, "run a.service A; stop a.service B");
        assert_int_equal(assignment_on(&p, "A", "a.service")->move_failures, 1);
        assert_non_null(strstr(words_of(&assignment_on(&p, "B", "a.service")->why),
                               "it was not available there within UpdateDeadlineSec=, and it stays on A"));
}

/* Of a drain that is cancelled, moves end whose new instance is available; the other ones are cancelled. */
static void a_cancelled_drain_ends_moves_to_available_instances_only(void **state) {
        for (unsigned available = 0; available < 2; available++) {
                _cleanup_cluster_view_ ClusterView p;

                moving_to_b(&p, false, "");
                cluster_view_active(&p, "B", "a.service", "passing");
                if (available)
                        cluster_view_state(&p, "B", "a.service", "active");
                maintain(&p, "A", NULL, "");
                plans(&p, available ? "stop a.service A" : "stop a.service B");
        }
}

/* The daemon of A is away for a moment during the move, and the drain is cancelled: the unit serves there
 * until B is known to do so. What A has published may be of before, so that B does not end for it, either. */
static void a_daemon_that_was_away_does_not_end_a_cancelled_move_early(void **state) {
        static const struct {
                Presence presence;
                const char *first, *health, *plan;
        } rows[] = {
                { PRESENCE_AWAY, "", NULL, "stop a.service A" },
                { PRESENCE_AWAY, "", "failing", "stop a.service B" },
                { PRESENCE_LOST, "stop a.service A", NULL, NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                moving_to_b(&p, false, "");
                p.cluster.now_ms += 1000;
                cluster_view_presence(&p, "A", rows[i].presence);
                cluster_view_active(&p, "B", "a.service", "passing");
                p.cluster.now_ms += 1000;
                cluster_view_presence(&p, "A", PRESENCE_UP);
                plans(&p, "");
                maintain(&p, "A", NULL, "");
                plans(&p, rows[i].first);
                if (rows[i].plan) {
                        if (rows[i].health)
                                cluster_view_active(&p, "B", "a.service", rows[i].health);
                        else
                                cluster_view_state(&p, "B", "a.service", "active");
                        plans(&p, rows[i].plan);
                }
        }
}

static void an_instance_whose_machine_is_away_does_not_serve(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        moving_to_b(&p, false, "");
        cluster_view_state(&p, "B", "a.service", "active");
        cluster_view_presence(&p, "B", PRESENCE_AWAY);
        plans(&p, "");
        p.cluster.now_ms += DRAIN_AWAY_MS;
        plans(&p, "run a.service A; stop a.service B");
}

/* Others start meanwhile: a drain takes the time of the starts, and once that of UpdateWatchSec=. */
static void a_unit_that_is_not_available_yet_is_not_starting_any_more(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        put_units(&p, "A", "a", 20);
        maintain(&p, "A", "draining", "");
        for (int i = 0; i < 20; i += 8) {
                assert_counts(&p, MIN(20 - i, 8), 0);
                for (int k = i; k < MIN(i + 8, 20); k++) {
                        char name[32];

                        snprintf(name, sizeof(name), "a%02d.service", k);
                        cluster_view_active(&p, "B", name, "passing");
                }
        }
        assert_counts(&p, 0, 0);
        publish(&p, "B", "a", 0, 20, "active");
        assert_counts(&p, 0, 20);
}

/* -- Limits -- */

/* A unit that stops first counts from its stop until it runs elsewhere. */
static void units_that_stop_first_count_until_they_run_elsewhere(void **state) {
        static const char *const options[] = { "Move=stop-first", "Singleton=yes" };

        for (size_t i = 0; i < ELEMENTS(options); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                launch_on_a(&p, "B", "s", options[i], 20);
                maintain(&p, "A", "draining", "");
                assert_counts(&p, 0, 8);
                execute_stops(&p, "A");
                assert_counts(&p, 8, 0);
                assert_counts(&p, 0, 0);
                publish(&p, "B", "s", 0, 8, "activating");
                assert_counts(&p, 0, 0);
                publish(&p, "B", "s", 0, 3, "active");
                assert_counts(&p, 0, 3);
                publish(&p, "B", "s", 3, 5, "failed"); /* they do not start any more */
                assert_counts(&p, 0, 2);
                p.cluster.now_ms += DRAIN_START_MS;   /* nor do those that have not begun in time */
                assert_counts(&p, i == 0 ? 0 : 5, 3); /* the leases of stopped singletons have ended */
        }
}

/* Units that have no machine for a moment are planned after others. */
static void a_unit_without_a_machine_counts_before_its_plan(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        launch_on_a(&p, "B", "z", "Move=stop-first", 8);
        maintain(&p, "A", "draining", "");
        assert_counts(&p, 0, 8);
        put_units(&p, "A", "a", 4);
        execute_stops(&p, "A");
        assert_counts(&p, 8, 0);
        publish(&p, "B", "z", 0, 8, "active");
        assert_counts(&p, 4, 0);
}

/* A unit that fits on no machine does not keep others from their moves. */
static void a_unit_that_fits_nowhere_does_not_count(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        for (int i = 0; i < 8; i++) {
                char name[32];

                snprintf(name, sizeof(name), "z%02d.service", i);
                cluster_view_unit(&p, name, "Move=stop-first\nMachineMetadata=a=b", TARGET_LAUNCHED);
        }
        put_units(&p, "A", "a", 4);
        maintain(&p, "A", "draining", "");
        assert_counts(&p, 4, 0);
}

static int add_name(void *userdata, const char *unit) {
        return named_get(userdata, unit ?: "*", sizeof(Named)) ? 0 : -ENOMEM;
}

/* The state of a unit that moves has changed: return whether the next plan considers 'unit'. */
static bool change_affects(ClusterView *p, const char *changed, const char *unit) {
        EngineMarks marks = {};
        Named *units = NULL;
        bool found;

        engine_marks_add(&marks, &p->cluster, &(RegistryChange) { .kind = CHANGED_STATE, .unit = changed });
        assert_int_equal(engine_marks_expand(&marks, &p->cluster, add_name, &units), 0);
        found = named_find(units, unit);
        named_clear(&units);
        return found;
}

/* The next units move at once, also while those before them are not available yet. */
static void a_start_elsewhere_makes_place_for_the_next_units(void **state) {
        static const char *const options[] = { "Move=stop-first", "" };

        for (size_t i = 0; i < ELEMENTS(options); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                launch_on_a(&p, "B", "s", options[i], 9);
                assert_false(change_affects(&p, "s00.service", "s08.service"));
                maintain(&p, "A", "draining", "");
                assert_counts(&p, *options[i] ? 0 : 8, *options[i] ? 8 : 0);
                if (*options[i]) {
                        execute_stops(&p, "A");
                        assert_counts(&p, 8, 0);
                }
                cluster_view_active(&p, "B", "s00.service", "passing");
                assert_true(change_affects(&p, "s00.service", "s08.service"));
                assert_counts(&p, *options[i] ? 0 : 1, *options[i] ? 1 : 0);
        }
}

/* -- Machines to which a unit moves -- */

static void a_lost_target_is_replaced_within_the_limits(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        launch_on_a(&p, "BC", "a", "", 20);
        maintain(&p, "C", "cordoned", "");
        maintain(&p, "A", "draining", "");
        assert_counts(&p, 8, 0);
        maintain(&p, "C", NULL, "");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        assert_counts(&p, 8, 0); /* the same units, on the other machine */
        publish(&p, "C", "a", 0, 8, "activating");
        assert_counts(&p, 0, 0);
}

/* A position on a lost machine does not change how the unit leaves another one. */
static void a_lost_machine_does_not_change_how_a_unit_leaves_a_drained_one(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, "a.service", "Move=stop-first", TARGET_LAUNCHED);
        cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_RUN);
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        run_on(&p, "A", "a.service");
        maintain(&p, "A", "draining", "");
        plans(&p, "stop a.service A; stop a.service B");
        has_ended(&p, "A", "a.service");
        plans(&p, "run a.service C");
}

static void a_target_that_is_away_is_a_failed_move(void **state) {
        static const struct {
                const char *more;
                bool returns;
                const char *plan; /* 30 s after it went away */
        } rows[] = {
                { "", false, "run a.service A; stop a.service B" },
                { "", true, "" },
                { "\"deadline\":1015000,", false, "stop a.service A" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                three_machines(&p);
                cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
                run_on(&p, "A", "a.service");
                maintain(&p, "A", "draining", rows[i].more);
                plans(&p, "run a.service B");
                cluster_view_presence(&p, "B", PRESENCE_AWAY);
                p.cluster.now_ms += 14000;
                plans(&p, "");
                if (rows[i].returns)
                        cluster_view_presence(&p, "B", PRESENCE_UP);
                p.cluster.now_ms += DRAIN_RETRY_MS - 14000;
                plans(&p, rows[i].plan);
                if (!rows[i].returns && !rows[i].more[0]) {
                        assert_non_null(
                                strstr(words_of(&assignment_on(&p, "A", "a.service")->why), "B failed"));
                        assert_non_null(
                                strstr(words_of(&assignment_on(&p, "B", "a.service")->why), "it stays on A"));
                        plans(&p, "");
                        p.cluster.now_ms += DRAIN_RETRY_MS;
                        plans(&p, "run a.service C");
                }
        }
}

/* -- Two drains -- */

static void a_failed_move_waits_as_long_with_two_drains(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        maintain(&p, "A", "draining", "");
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "activating");
        maintain(&p, "B", "draining", "");
        plans(&p, "run a.service C");
        cluster_view_state(&p, "C", "a.service", "failed");
        plans(&p, "run a.service A; stop a.service B; stop a.service C");
        cluster_view_execute(&p);
        for (int i = 0; i < 2; i++) {
                p.cluster.now_ms += DRAIN_RETRY_MS / 2;
                plans(&p, i == 0 ? "" : "run a.service C");
        }
}

static void a_unit_that_fails_on_a_machine_that_is_drained_too_goes_back(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        maintain(&p, "A", "draining", "");
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "failed");
        maintain(&p, "B", "draining", "");
        plans(&p, "run a.service A; stop a.service B");
        assert_non_null(
                strstr(words_of(&assignment_on(&p, "B", "a.service")->why), "it failed there, and it stays"));
        cluster_view_execute(&p);
        p.cluster.now_ms += DRAIN_RETRY_MS - 1;
        plans(&p, "");
        p.cluster.now_ms++;
        plans(&p, "run a.service C");
}

/* -- Texts -- */

static void a_failed_move_keeps_the_text_that_runs(void **state) {
        for (unsigned below = 0; below < 2; below++) {
                char hash[UNIT_HASH_SIZE];
                uint64_t index;
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                p.below_updates = below;
                cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
                run_on(&p, "A", "a.service");
                index = assignment_on(&p, "A", "a.service")->unit_index;
                memcpy(hash, assignment_on(&p, "A", "a.service")->hash, sizeof(hash));
                maintain(&p, "A", "draining", "");
                plans(&p, "run a.service B");
                cluster_view_text(&p, "a.service", "", "/bin/broken");
                cluster_view_state(&p, "B", "a.service", "failed");
                plans(&p, "run a.service A; stop a.service B");
                assert_int_equal(assignment_on(&p, "A", "a.service")->unit_index, index);
                assert_string_equal(assignment_on(&p, "A", "a.service")->hash, hash);
                cluster_view_execute(&p);
                plans(&p, "");
                maintain(&p, "A", NULL, "");
                plans(&p, below ? "run a.service A" : "");
                assert_int_equal(assignment_on(&p, "A", "a.service")->unit_index > index, below);
        }
}

/* -- The deadline -- */

static void the_deadline_waits_for_the_brake(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        six_machines(&p);
        cluster_view_unit(&p, "m.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        run_on(&p, "A", "m.service");
        cluster_view_unit(&p, "n.service", "Move=no", TARGET_LAUNCHED);
        run_on(&p, "A", "n.service");
        launch_on_a(&p, "BCDEF", "s", "Singleton=yes", 1);
        maintain(&p, "A", "draining", "\"deadline\":1005000,");
        for (char c = 'D'; c <= 'F'; c++)
                cluster_view_presence(&p, (char[]) { c, 0 }, PRESENCE_LOST);
        p.cluster.now_ms = 1005000;
        plans(&p, "");
        p.cluster.now_ms = 1029999;
        plans(&p, "");
        p.cluster.now_ms = 1030000;
        plans(&p, "stop m.service A; load n.service A; stop s00.service A");
}

/* -- Keys of a later version -- */

static void a_maintenance_key_that_cannot_be_read_cordons(void **state) {
        char id[MACHINE_ID_SIZE];
        const ClusterMachine *m;
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_unreadable(&p, LAYOUT_MAINTENANCE, NULL, "A");
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        plans(&p, "run b.service B");
        m = cluster_machine(&p.cluster, cluster_view_id(id, "A"));
        assert_int_equal(m->maintenance->mode, MAINTENANCE_CORDONED);
        assert_string_equal(m->maintenance->why, CLUSTER_UNREADABLE);
        assert_null(step_of(&p, "A").reason);
        maintain(&p, "A", "draining", "");
        plans(&p, "run a.service B");
        cluster_view_unreadable(&p, LAYOUT_MAINTENANCE, NULL, "A");
        plans(&p, "stop a.service B");
        maintain(&p, "A", NULL, "");
        assert_null(m->maintenance);
        assert_true(LIST_EMPTY(&m->unreadable));
}

/* The reason of the move names it. */
static void an_unknown_word_of_move_counts_as_start_first(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_put(&p, "/_fleet/unit/a.service",
                         "{\"text\":\"[Service]\\nExecStart=/bin/true\\n[X-Fleet]\\nMove=twice\\n\"}");
        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        maintain(&p, "A", "draining", "");
        plans(&p, "run a.service B");
        assert_non_null(strstr(words_of(&assignment_on(&p, "B", "a.service")->why),
                               "its Move= is of a later version of fleetd: taken as start-first"));
}

/* -- Any cluster -- */

enum { VIEWS_QUICK = 60, VIEWS = 200, VIEWS_ALL = 5000, UNITS = 60, MACHINES = 5, ROUNDS = 40 };

typedef struct Journey {
        const char *from; /* the drained machine that the unit leaves; NULL: it does not leave one, or runs
                             elsewhere, or has failed there */
} Journey;

static void unit_name(char ret[static 32], unsigned i) {
        snprintf(ret, 32, "u%02u.service", i);
}

static void make_units(ClusterView *p, Random *random) {
        static const char *const options[] = { "", "", "Move=stop-first", "Move=stop-first",
                                               "Singleton=yes" };

        *p = (ClusterView) { .cluster.now_ms = 1000000 };
        for (unsigned i = 0; i < MACHINES; i++)
                cluster_view_machine(p, (char[]) { (char) ('A' + i), 0 }, "", PRESENCE_UP);
        for (unsigned i = 0; i < UNITS; i++) {
                char name[32];

                unit_name(name, i);
                cluster_view_unit(p, name, options[random_below(random, ELEMENTS(options))], TARGET_LAUNCHED);
        }
        for (char c = 'C'; c < 'A' + MACHINES; c++)
                maintain(p, (char[]) { c, 0 }, "cordoned", "");
        free(cluster_view_plan(p, true));
        cluster_view_execute(p);
        for (char c = 'C'; c < 'A' + MACHINES; c++)
                maintain(p, (char[]) { c, 0 }, NULL, "");
}

static bool runs_on(ClusterView *p, const char *machine, const char *unit) {
        char id[MACHINE_ID_SIZE];
        const ClusterState *s = cluster_state(&p->cluster, cluster_view_id(id, machine), unit);

        return s && streq(s->state.active, "active");
}

/* Some agents act: units end, begin to start, run or fail. */
static void act(ClusterView *p, Random *random, const char *machine, const char *unit) {
        const ClusterAssignment *a = assignment_on(p, machine, unit);

        if (!a || random_below(random, 2))
                return;
        if (a->kind == ASSIGNMENT_STOP)
                has_ended(p, machine, unit);
        else if (!runs_on(p, machine, unit))
                cluster_view_state(p, machine, unit,
                                   random_below(random, 20) == 0 ? "failed" :
                                   random_below(random, 3) == 0  ? "activating" :
                                                                   "active");
}

/* Bring the journeys up to date with the assignments and states, and check the limits. */
static void check_journeys(ClusterView *p, Journey journeys[static UNITS], uint64_t seed, const char *plan) {
        size_t n[2] = {};

        for (unsigned i = 0; i < UNITS; i++) {
                bool elsewhere = false, up = false, failed = false;
                char name[32];

                unit_name(name, i);
                for (char c = 'A'; c < 'A' + MACHINES; c++) {
                        const char machine[] = { c, 0 };
                        const ClusterAssignment *a = assignment_on(p, machine, name);
                        char id[MACHINE_ID_SIZE];
                        const ClusterState *s = cluster_state(&p->cluster, cluster_view_id(id, machine),
                                                              name);

                        if (c <= 'B' && a && a->kind == ASSIGNMENT_STOP && !journeys[i].from)
                                journeys[i].from = c == 'A' ? "A" : "B";
                        if (c > 'B' && a && a->kind == ASSIGNMENT_RUN) {
                                elsewhere = true;
                                failed = s && streq(s->state.active, "failed");
                        }
                        up |= runs_on(p, machine, name) && (c > 'B' || (a && a->kind == ASSIGNMENT_RUN));
                        if (c > 'B' && runs_on(p, machine, name))
                                failed = true; /* it has arrived */
                }
                if (elsewhere && !journeys[i].from)
                        journeys[i].from = runs_on(p, "A", name) ? "A" : runs_on(p, "B", name) ? "B" : NULL;
                if (failed)
                        journeys[i].from = NULL;
                else if (!elsewhere && (runs_on(p, "A", name) || runs_on(p, "B", name)) && up)
                        journeys[i].from = NULL;
                if (journeys[i].from)
                        n[journeys[i].from[0] - 'A']++;
                if (!up && cluster_unit(&p->cluster, name)->unit->placement.move != PLACEMENT_STOP_FIRST &&
                    !cluster_unit(&p->cluster, name)->unit->placement.singleton && !failed)
                        fail_msg("seed %llu: %s runs nowhere after: %s", (unsigned long long) seed, name,
                                 plan);
        }
        if (n[0] > DRAIN_MACHINE_MAX || n[1] > DRAIN_MACHINE_MAX || n[0] + n[1] > DRAIN_CLUSTER_MAX)
                fail_msg("seed %llu: %zu and %zu units start elsewhere after: %s", (unsigned long long) seed,
                         n[0], n[1], plan);
}

static void no_drain_exceeds_its_limits(void **state) {
        const uint64_t n = test_size(VIEWS_QUICK, VIEWS, VIEWS_ALL);

        for (uint64_t seed = 1; seed <= n; seed++) {
                Journey journeys[UNITS] = {};
                Random random;
                _cleanup_cluster_view_ ClusterView p;

                random_seed(&random, seed);
                make_units(&p, &random);
                maintain(&p, "A", "draining", "");
                if (random_below(&random, 2))
                        maintain(&p, "B", "draining", "");
                for (unsigned round = 0; round < ROUNDS; round++) {
                        _cleanup_free_ char *plan = cluster_view_plan(&p, true);

                        check_journeys(&p, journeys, seed, plan);
                        for (unsigned i = 0; i < UNITS; i++) {
                                char name[32];

                                unit_name(name, i);
                                for (char c = 'A'; c < 'A' + MACHINES; c++)
                                        act(&p, &random, (char[]) { c, 0 }, name);
                        }
                        p.cluster.now_ms += random_below(&random, 2000);
                }
        }
}

/* It starts on B, which is drained, too, and then on C, which goes away: it runs on A. */
static void a_unit_continues_where_it_runs_while_its_newest_machine_is_away(void **state) {
        for (unsigned active = 0; active < 2; active++) {
                _cleanup_cluster_view_ ClusterView p;

                three_machines(&p);
                cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
                run_on(&p, "A", "a.service");
                maintain(&p, "A", "draining", "");
                plans(&p, "run a.service B");
                if (active) /* and not available yet */
                        cluster_view_active(&p, "B", "a.service", "passing");
                else
                        cluster_view_state(&p, "B", "a.service", "activating");
                p.cluster.now_ms += 1000;
                maintain(&p, "B", "draining", "");
                plans(&p, "run a.service C");
                cluster_view_presence(&p, "C", PRESENCE_AWAY);
                plans(&p, "stop a.service B");
                cluster_view_presence(&p, "C", PRESENCE_UP);
                cluster_view_state(&p, "C", "a.service", "active");
                plans(&p, "stop a.service A");
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_old_instance_stops_when_the_new_one_is_available),
                cmocka_unit_test(a_unit_that_arrived_on_a_machine_that_drains_leaves_the_former_one),
                cmocka_unit_test(an_old_instance_that_does_not_run_is_not_waited_for),
                cmocka_unit_test(a_new_instance_that_fails_its_checks_ends_and_the_old_one_stays),
                cmocka_unit_test(a_new_instance_that_is_not_available_in_time_ends_and_the_old_one_stays),
                cmocka_unit_test(a_cancelled_drain_ends_moves_to_available_instances_only),
                cmocka_unit_test(a_daemon_that_was_away_does_not_end_a_cancelled_move_early),
                cmocka_unit_test(an_instance_whose_machine_is_away_does_not_serve),
                cmocka_unit_test(a_unit_that_is_not_available_yet_is_not_starting_any_more),
                cmocka_unit_test(units_that_stop_first_count_until_they_run_elsewhere),
                cmocka_unit_test(a_unit_without_a_machine_counts_before_its_plan),
                cmocka_unit_test(a_unit_that_fits_nowhere_does_not_count),
                cmocka_unit_test(a_start_elsewhere_makes_place_for_the_next_units),
                cmocka_unit_test(a_lost_target_is_replaced_within_the_limits),
                cmocka_unit_test(a_lost_machine_does_not_change_how_a_unit_leaves_a_drained_one),
                cmocka_unit_test(a_target_that_is_away_is_a_failed_move),
                cmocka_unit_test(a_failed_move_waits_as_long_with_two_drains),
                cmocka_unit_test(a_unit_that_fails_on_a_machine_that_is_drained_too_goes_back),
                cmocka_unit_test(a_failed_move_keeps_the_text_that_runs),
                cmocka_unit_test(the_deadline_waits_for_the_brake),
                cmocka_unit_test(a_maintenance_key_that_cannot_be_read_cordons),
                cmocka_unit_test(an_unknown_word_of_move_counts_as_start_first),
                cmocka_unit_test(no_drain_exceeds_its_limits),
                cmocka_unit_test(a_unit_continues_where_it_runs_while_its_newest_machine_is_away),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
