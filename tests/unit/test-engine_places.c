#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/sizes.h"
#include "fleetd/engine/explain.h"
#include "fleetd/scheduler/scheduler.h"
#include "tests/lib/drains.h"
#include "tests/lib/words_of.h"
#include "units/api_json.h"

/* -- The contents of an assignment -- */

/* Return the only change of the plan, after it is applied. */
static AssignmentChange planned(ClusterView *p) {
        const EnginePlanLimits limits = { .names_texts = !p->below_updates };
        EnginePlan plan = {};
        AssignmentChange c;

        assert_int_equal(engine_plan(&p->cluster, NULL, 0, 30000, &limits, &plan), 0);
        assert_int_equal(plan.n, 1);
        c = plan.changes[0];
        cluster_view_apply(p, &plan);
        engine_plan_done(&plan);
        return c;
}

/* A change in place keeps the age, and does not depend on the presence. */
static void an_assignment_has_its_age_and_the_index_of_the_presence(void **state) {
        uint64_t presence;
        AssignmentChange c;
        char id[MACHINE_ID_SIZE];
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        p.below_updates = true;
        presence = cluster_machine(&p.cluster, cluster_view_id(id, "A"))->presence_index;
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        c = planned(&p);
        assert_int_equal(c.since_ms, 1000000);
        assert_int_equal(c.presence_index, presence);

        p.cluster.now_ms += 1000;
        cluster_view_text(&p, "a.service", "", "/bin/false");
        c = planned(&p);
        assert_int_equal(c.since_ms, 1000000);
        assert_int_equal(c.presence_index, 0);

        p.cluster.now_ms += 1000;
        cluster_view_target(&p, "a.service", TARGET_INACTIVE);
        c = planned(&p);
        assert_int_equal(c.since_ms, 1002000);
        assert_int_equal(c.presence_index, 0);

        p.cluster.now_ms += 1000;
        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        c = planned(&p);
        assert_int_equal(c.since_ms, 1003000);
        assert_int_equal(c.presence_index, presence);
}

/* fleetctl restart: the agent may see only the second change, and tells by the age that a start is due. The
 * machine is the same, and so is the reason for it. */
static void a_loaded_assignment_that_is_to_run_again_has_a_new_age(void **state) {
        static const char chosen[] = "A had the fewest units (0) of 2 machines that qualify";
        AssignmentChange c;
        ClusterView p;

        for (unsigned below = 0; below < 2; below++) {
                two_machines(&p);
                p.below_updates = below;
                cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
                c = planned(&p);
                assert_int_equal(c.noted, VERDICT_NONE);
                cluster_view_state(&p, "A", "a.service", "inactive");
                p.cluster.now_ms += 1000;
                cluster_view_target(&p, "a.service", TARGET_LOADED);
                c = planned(&p);
                assert_int_equal(c.since_ms, 1000000);
                assert_string_equal(words_of(&c.why), chosen);
                assert_int_not_equal(c.noted, VERDICT_NONE);
                p.cluster.now_ms += 1000;
                cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
                c = planned(&p);
                assert_int_equal(c.kind, ASSIGNMENT_RUN);
                assert_int_equal(c.since_ms, 1002000);
                assert_string_equal(words_of(&c.why), chosen);
                assert_int_not_equal(c.noted, VERDICT_NONE);
                cluster_view_free(&p);
        }
}

static void an_assignment_has_a_reason(void **state) {
        AssignmentChange c;
        ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_presence(&p, "A", PRESENCE_LEFT);
        c = planned(&p);
        assert_string_equal(words_of(&c.why), "A was shut down; B was the only machine that qualified");
        cluster_view_presence(&p, "A", PRESENCE_UP);
        c = planned(&p);
        assert_string_equal(words_of(&c.why), "it runs on A now");
        cluster_view_free(&p);

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        c = planned(&p);
        assert_string_equal(words_of(&c.why), "A is lost; B was the only machine that qualified");
        cluster_view_presence(&p, "A", PRESENCE_UP);
        c = planned(&p);
        assert_string_equal(words_of(&c.why), "A is back");
        cluster_view_free(&p);

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_unit(&p, "a.service", "MachineMetadata=rack=2\n", TARGET_LAUNCHED);
        cluster_view_roll(&p, "a.service");
        cluster_view_machine(&p, "B", "rack=2", PRESENCE_UP);
        c = planned(&p);
        assert_string_equal(words_of(&c.why), "A no longer qualifies; B was the only machine that qualified");
        cluster_view_free(&p);
}

/* The reason of a.service has this kind (NULL: none), and begins so. */
static void explains(const ClusterView *p, const char *kind, const char *begin) {
        SchedulerView *view;
        const char *found;
        Error why;

        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        found = engine_explain_unit(view, cluster_unit(&p->cluster, "a.service"), 30000, 0, &why);
        if (!starts_with(why.message, begin))
                fail_msg("\"%s\" does not begin with \"%s\"", why.message, begin);
        assert_string_equal(found ?: "", kind ?: "");
        scheduler_view_free(view);
}

static void an_assignment_is_judged_as_in_plans(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        for (char c = 'C'; c <= 'F'; c++)
                cluster_view_machine(&p, (char[]) { c, 0 }, "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        explains(&p, NULL, "because");
        cluster_view_presence(&p, "A", PRESENCE_AWAY);
        explains(&p, NULL, "because");
        cluster_view_presence(&p, "A", PRESENCE_LEFT);
        explains(&p, API_REASON_WAITING, "waiting: A was shut down; moving to B");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        explains(&p, API_REASON_WAITING, "waiting: A is lost; moving to B");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        explains(&p, API_REASON_HELD, "held back until ");
        cluster_view_done(&p, "A", "a.service");
        explains(&p, API_REASON_FINISHED, "finished on A: it ended successfully, and is not run again");

        cluster_view_presence(&p, "A", PRESENCE_UP);
        cluster_view_state(&p, "A", "a.service", "active");
        cluster_view_text(&p, "a.service", "MachineMetadata=zone=a", "/bin/true");
        cluster_view_roll(&p, "a.service");
        explains(&p, API_REASON_WAITING,
                 "waiting: A no longer qualifies (MachineMetadata=zone=a, and it has no zone); no other ");
}

static void a_unit_that_is_not_started_for_want_of_its_inputs_has_their_problem(void **state) {
        static const char waits[] = "{\"active\":\"inactive\",\"load\":\"not-found\",\"sub\":\"dead\"}",
                          failed[] = "{\"active\":\"inactive\",\"code\":\"secret-unsealed\",\"load\":"
                                     "\"not-found\",\"reason\":\"cannot seal pw\",\"sub\":\"dead\"}";
        char inputs[LAYOUT_KEY_MAX], published[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];
        _cleanup_cluster_view_ ClusterView p;

        layout_key(inputs, LAYOUT_INPUTS, "a.service", NULL);
        layout_key(published, LAYOUT_STATE, "a.service", cluster_view_id(id, "A"));
        two_machines(&p);
        cluster_view_unit(&p, "a.service", "Secret=pw\n", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_put(&p, inputs, "{\"number\":1}");
        explains(&p, NULL, "because");
        cluster_view_put(&p, inputs, "{\"verdict\":{\"args\":[\"pw\"],\"code\":\"awaits-secret\"}}");
        explains(&p, API_REASON_INPUTS, "waiting for secret pw: not set");
        cluster_view_put(&p, published, waits);
        explains(&p, API_REASON_INPUTS, "waiting for secret pw: not set");
        cluster_view_put(&p, published, failed); /* which has a reason of its own */
        explains(&p, NULL, "because");
        cluster_view_state(&p, "A", "a.service", "active");
        explains(&p, NULL, "because");
        cluster_view_done(&p, "A", "a.service");
        explains(&p, API_REASON_FINISHED, "finished on A");
        cluster_view_put(&p, published, waits);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_LOAD);
        explains(&p, NULL, "because");
}

/* -- Several assignments at once -- */

static void of_two_assignments_the_newer_one_ends_unless_its_unit_runs(void **state) {
        ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "B", "a.service");
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "run a.service A");
        cluster_view_state(&p, "A", "a.service", "activating");
        cluster_view_presence(&p, "B", PRESENCE_UP);
        plans(&p, "stop a.service A");
        cluster_view_free(&p);

        /* The newer assignment has an older key. */
        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
        cluster_view_presence(&p, "A", PRESENCE_UP);
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "run a.service A");
        cluster_view_presence(&p, "B", PRESENCE_UP);
        plans(&p, "stop a.service B");
        cluster_view_free(&p);

        /* Of the same time: the one with the newer key. */
        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_RUN);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        plans(&p, "stop a.service A");
        cluster_view_free(&p);
}

static void all_former_assignments_end_when_the_newest_runs(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        for (char c = 'C'; c <= 'F'; c++)
                cluster_view_machine(&p, (char[]) { c, 0 }, "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run a.service B");
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "run a.service C");
        cluster_view_state(&p, "C", "a.service", "active");
        plans(&p, "stop a.service A; stop a.service B");
}

/* One plan considers eight. */
static void of_ten_assignments_one_remains(void **state) {
        static const char *const machines[] = { "A", "B", "C", "D", "E", "F", "A1", "B1", "C1", "D1" };
        const ClusterUnit *u;
        unsigned n = 0;
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };

        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        for (size_t i = 0; i < ELEMENTS(machines); i++) {
                cluster_view_machine(&p, machines[i], "", PRESENCE_UP);
                cluster_view_assign(&p, machines[i], "a.service", ASSIGNMENT_RUN);
        }
        for (unsigned i = 0; i < 3; i++) {
                _cleanup_(engine_plan_done) EnginePlan plan = {};

                assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
                if (i == 0)
                        assert_int_equal(plan.n, 7);
                cluster_view_apply(&p, &plan);
        }
        u = cluster_unit(&p.cluster, "a.service");
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                n += o->kind == ASSIGNMENT_RUN;
        assert_int_equal(n, 1);
}

/* A unit for A only, with an assignment there that is newer than one and older than the other on machines
 * that reject it. */
static void held_on_a(ClusterView *p, bool on_b, bool on_c) {
        two_machines(p);
        cluster_view_machine(p, "C", "", PRESENCE_UP);
        cluster_view_unit(p, "a.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        if (on_b)
                cluster_view_assign(p, "B", "a.service", ASSIGNMENT_RUN);
        p->cluster.now_ms += 1000;
        cluster_view_assign(p, "A", "a.service", ASSIGNMENT_RUN);
        p->cluster.now_ms += 1000;
        if (on_c)
                cluster_view_assign(p, "C", "a.service", ASSIGNMENT_RUN);
}

static void a_held_unit_keeps_its_assignment_and_one_other_until_it_is_known_to_run(void **state) {
        ClusterView p;

        held_on_a(&p, false, false);
        cluster_view_presence(&p, "A", PRESENCE_AWAY);
        plans(&p, "");
        cluster_view_target(&p, "a.service", TARGET_LOADED);
        plans(&p, "load a.service A");
        cluster_view_free(&p);

        held_on_a(&p, false, true);
        cluster_view_presence(&p, "A", PRESENCE_AWAY);
        plans(&p, "");
        cluster_view_state(&p, "A", "a.service", "active");
        plans(&p, "stop a.service C");
        cluster_view_free(&p);

        held_on_a(&p, false, true);
        cluster_view_done(&p, "A", "a.service");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "stop a.service C");
        cluster_view_free(&p);

        held_on_a(&p, true, true);
        cluster_view_presence(&p, "A", PRESENCE_AWAY);
        plans(&p, "stop a.service B");
        plans(&p, "");
        cluster_view_free(&p);
}

/* Of two in conflict, the one with the newer text would yield. */
static void an_assignment_on_an_away_or_unreadable_machine_is_not_judged(void **state) {
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
                cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
                run_on(&p, "A", "b.service");
                p.cluster.now_ms += 1000;
                run_on(&p, "A", "a.service");
                cluster_view_text(&p, "b.service", "Conflicts=a.service", "/bin/true");
                cluster_view_roll(&p, "b.service");
                if (i == 0)
                        cluster_view_presence(&p, "A", PRESENCE_AWAY);
                else
                        cluster_view_unreadable(&p, LAYOUT_METADATA, "zone", "A");
                plans(&p, "");
        }
}

static void a_move_continues_while_the_former_host_is_away(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "MachineMetadata=zone=a", TARGET_LAUNCHED);
        plans(&p, "run a.service A");
        cluster_view_execute(&p);
        p.cluster.now_ms += 1000;
        cluster_view_machine(&p, "B", "zone=a", PRESENCE_UP);
        cluster_view_machine(&p, "A", "zone=b", PRESENCE_UP);
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "activating");
        cluster_view_presence(&p, "A", PRESENCE_AWAY);
        plans(&p, "");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
}

/* -- Units that are replaced, and units that count as up -- */

static void a_unit_that_does_not_move_is_not_replaced(void **state) {
        for (unsigned stays = 0; stays < 2; stays++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_unit(&p, "a.service", stays ? "Move=no" : "", TARGET_LAUNCHED);
                cluster_view_unit(&p, "k.service", "Replaces=a.service", TARGET_LAUNCHED);
                run_on(&p, "A", "a.service");
                run_on(&p, "A", "k.service");
                plans(&p, stays ? "" : "run a.service B");
        }
}

static void a_unit_that_would_be_replaced_everywhere_stays_where_it_is(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "k1.service", "Replaces=a.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "k2.service", "Replaces=a.service", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "A", "k1.service");
        run_on(&p, "B", "k2.service");
        plans(&p, "");
        cluster_view_target(&p, "a.service", TARGET_LOADED);
        plans(&p, "load a.service A");
        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        plans(&p, "run a.service A");
        plans(&p, "");

        /* From a machine that rejects it, it moves there, too. */
        cluster_view_text(&p, "a.service", "MachineMetadata=zone=b", "/bin/false");
        cluster_view_roll(&p, "a.service");
        cluster_view_machine(&p, "B", "zone=b", PRESENCE_UP);
        plans(&p, "run a.service B");
}

static void a_replacing_unit_is_placed_before_the_one_that_it_replaces(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "k.service", "Replaces=a.service", TARGET_LAUNCHED);
        plans(&p, "run a.service B; run k.service A");
}

static void a_global_unit_that_finishes_gets_its_next_revision_on_all_machines(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        p.below_updates = true;
        cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
        plans(&p, "run g.service A; run g.service B");
        cluster_view_execute(&p);
        cluster_view_text(&p, "g.service", "Global=true", "/bin/false");
        plans(&p, "run g.service A");
        cluster_view_done(&p, "A", "g.service");
        plans(&p, "run g.service B");
}

static void a_loaded_unit_has_moved_when_systemd_has_loaded_it(void **state) {
        AssignmentChange c;
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LOADED);
        plans(&p, "load a.service A");
        cluster_view_execute(&p);
        p.cluster.now_ms += 1000;
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "load a.service B");
        cluster_view_put(&p, "/_fleet/state/a.service/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                         "{\"load\":\"not-found\",\"active\":\"inactive\"}");
        plans(&p, "");
        cluster_view_state(&p, "B", "a.service", "inactive");
        c = planned(&p);
        assert_int_equal(c.kind, ASSIGNMENT_STOP);
        assert_string_equal(words_of(&c.why), "it is on B now"); /* it is not to run there */
}

/* Both texts, and both assignments, have one index and one time. */
static void of_two_units_of_one_plan_the_one_with_the_greater_name_yields(void **state) {
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        plans(&p, "run a.service A; run b.service A");
        cluster_view_execute(&p);
        cluster_view_text(&p, "b.service", "Conflicts=a.service", "/bin/true");
        cluster_view_roll(&p, "b.service");
        cluster_unit(&p.cluster, "a.service")->index = cluster_unit(&p.cluster, "b.service")->index;
        plans(&p, "stop b.service A");
}

#define IN    "waiting: A is lost, and another machine takes over in "
#define NEVER "waiting: A is lost, and no other machine takes over (ReplaceAfterSec=never)"
#define STOPPED                                                                                           \
        "waiting: A was shut down, and no other machine takes over (Move=no); to move it: fleetctl move " \
        "a.service --force"

/* The time counts from the loss. An orderly shutdown is no loss, and its machine keeps a unit with Move=no. A
 * removed machine keeps none. */
static void a_unit_waits_for_its_machine_as_long_as_it_says(void **state) {
        static const struct {
                const char *options;
                Presence presence;
                uint64_t after_ms;
                const char *plan;
                const char *reason;
                uint64_t again_ms;
        } rows[] = {
                { "", PRESENCE_LOST, 0, "run a.service B", "waiting: A is lost; moving to B", UINT64_MAX },
                { "ReplaceAfterSec=0", PRESENCE_LOST, 0, "run a.service B", "waiting: A is lost; moving to B",
                  UINT64_MAX },
                { "ReplaceAfterSec=1min", PRESENCE_LOST, 1000, "", IN "59 s (ReplaceAfterSec=)", 59000 },
                { "ReplaceAfterSec=1min", PRESENCE_LOST, 59999, "", IN "1 s (ReplaceAfterSec=)", 1 },
                { "ReplaceAfterSec=1min", PRESENCE_LOST, 60000, "run a.service B",
                  "waiting: A is lost; moving to B", UINT64_MAX },
                { "ReplaceAfterSec=never", PRESENCE_LOST, 1000000000, "", NEVER, UINT64_MAX },
                { "ReplaceAfterSec=never", PRESENCE_LEFT, 0, "run a.service B",
                  "waiting: A was shut down; moving to B", UINT64_MAX },
                { "Move=no", PRESENCE_LOST, 0, "run a.service B", "waiting: A is lost; moving to B",
                  UINT64_MAX },
                { "Move=no\nReplaceAfterSec=0", PRESENCE_LEFT, 1000000000, "", STOPPED, UINT64_MAX },
                { "Move=no\nSingleton=yes", PRESENCE_LEFT, 1000000000, "", STOPPED, UINT64_MAX },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(engine_plan_done) EnginePlan plan = {};
                char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE];
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_unit(&p, "a.service", rows[i].options, TARGET_LAUNCHED);
                plans(&p, "run a.service A");
                cluster_view_execute(&p);
                cluster_view_presence(&p, "A", rows[i].presence);
                p.cluster.now_ms += rows[i].after_ms;
                explains(&p, API_REASON_WAITING, rows[i].reason);
                assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
                assert_int_equal(plan.again_ms, rows[i].again_ms);
                plans(&p, rows[i].plan);
                cluster_view_presence(&p, "A", PRESENCE_UP);
                plans(&p, *rows[i].plan ? "stop a.service B" : "");
                has_ended(&p, "B", "a.service");

                cluster_view_presence(&p, "A", rows[i].presence);
                cluster_view_remove(&p, layout_key(key, LAYOUT_PRESENCE, NULL, cluster_view_id(id, "A")));
                cluster_view_remove(&p, layout_key(key, LAYOUT_FACTS, NULL, id));
                assert_true(cluster_machine_is_removed(cluster_machine(&p.cluster, id)));
                plans(&p, strstr(rows[i].options, "Singleton") ? "stop a.service A" : "run a.service B");
        }
}

/* A has lost its machine, which returns. */
static void replaced(ClusterView *p, const char *options) {
        two_machines(p);
        cluster_view_unit(p, "a.service", options, TARGET_LAUNCHED);
        run_on(p, "A", "a.service");
        p->cluster.now_ms += 1000;
        cluster_view_presence(p, "A", PRESENCE_LOST);
        plans(p, "run a.service B");
        plans(p, ""); /* it may run on A until it runs here */
        cluster_view_state(p, "B", "a.service", "active");
        plans(p, "stop a.service A");
        plans(p, "");
        p->cluster.now_ms += 60000;
        cluster_view_presence(p, "A", PRESENCE_UP);
        plans(p, ""); /* its state may be old */
}

static void an_instance_that_ran_all_the_time_displaces_its_replacement_on_request(void **state) {
        static const struct {
                const char *options;
                bool runs;
                const char *plan;
        } rows[] = {
                { "OnReconnect=keep-old", true, "run a.service A; stop a.service B" },
                { "OnReconnect=keep-old", false, "" },
                { "OnReconnect=keep-new", true, "" },
                { "", true, "" },
        };
        ClusterView p;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                replaced(&p, rows[i].options);
                cluster_view_execute(&p);
                if (!rows[i].runs)
                        cluster_view_state(&p, "A", "a.service", "failed");
                plans(&p, rows[i].plan);
                cluster_view_execute(&p);
                plans(&p, "");
                cluster_view_free(&p);
        }
}

static void an_instance_that_does_not_fit_or_has_another_text_displaces_none(void **state) {
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];
        ClusterView p;

        replaced(&p, "OnReconnect=keep-old"); /* edited meanwhile */
        cluster_view_text(&p, "a.service", "OnReconnect=keep-old", "/bin/other");
        cluster_view_roll(&p, "a.service");
        cluster_view_state(&p, "B", "a.service", "active");
        cluster_view_execute(&p);
        plans(&p, "stop a.service A");
        cluster_view_execute(&p);
        plans(&p, "");
        cluster_view_free(&p);

        replaced(&p, "OnReconnect=keep-old"); /* cordoned meanwhile */
        cluster_view_put(&p, layout_key(key, LAYOUT_MAINTENANCE, NULL, cluster_view_id(id, "A")),
                         "{\"mode\":\"draining\",\"since\":1}");
        cluster_view_execute(&p);
        plans(&p, "stop a.service A");
        cluster_view_free(&p);
}

static void an_instance_that_fails_its_checks_displaces_none(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        replaced(&p, "OnReconnect=keep-old");
        cluster_view_active(&p, "A", "a.service", "failing");
        plans(&p, "stop a.service A");
        cluster_view_execute(&p);
        plans(&p, "");
}

/* The unit has run on A all the time; then B took over, and then C. */
static void of_several_machines_that_return_the_first_one_keeps_the_unit(void **state) {
        for (unsigned b_first = 0; b_first < 2; b_first++) {
                _cleanup_cluster_view_ ClusterView p;

                replaced(&p, "OnReconnect=keep-old");
                cluster_view_presence(&p, "A", PRESENCE_LOST);
                cluster_view_machine(&p, "C", "", PRESENCE_UP);
                cluster_view_presence(&p, "B", PRESENCE_LOST);
                p.cluster.now_ms += 600000;
                plans(&p, "run a.service C");
                cluster_view_state(&p, "C", "a.service", "active");
                plans(&p, "stop a.service B");
                cluster_view_presence(&p, b_first ? "B" : "A", PRESENCE_UP);
                cluster_view_execute(&p);
                plans(&p,
                      b_first ? "run a.service B; stop a.service C" : "run a.service A; stop a.service C");
                cluster_view_execute(&p);
                p.cluster.now_ms += 600000;
                cluster_view_presence(&p, b_first ? "A" : "B", PRESENCE_UP);
                cluster_view_execute(&p);
                plans(&p, b_first ? "run a.service A; stop a.service B" : "stop a.service B");
                cluster_view_execute(&p);
                plans(&p, "");
        }
}

/* No stop depends on what is not wanted any more. */
static void an_instance_of_a_unit_that_is_not_wanted_stops_on_its_lost_machine(void **state) {
        ClusterView p;

        replaced(&p, "OnReconnect=keep-old");
        cluster_view_target(&p, "a.service", TARGET_INACTIVE);
        plans(&p, "stop a.service A"); /* before all else */
        plans(&p, "stop a.service B");
        cluster_view_execute(&p);
        plans(&p, "");
        cluster_view_free(&p);

        replaced(&p, "OnReconnect=keep-old");
        cluster_view_destroy(&p, "a.service");
        plans(&p, "stop a.service A");
        plans(&p, "stop a.service B");
        cluster_view_free(&p);

        replaced(&p, "OnReconnect=keep-old");
        cluster_view_text(&p, "a.service", "", "/bin/true");
        plans(&p, "stop a.service A");
        cluster_view_free(&p);

        replaced(&p, "OnReconnect=keep-old"); /* its replacement is lost, too */
        cluster_view_execute(&p);
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "run a.service A; stop a.service B");
        cluster_view_free(&p);
}

static void a_unit_without_a_replacement_does_not_hold_the_release_of_other_machines(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        six_machines(&p);
        for (char c = 'A'; c <= 'C'; c++) {
                char unit[] = { c, '.', 's', 'e', 'r', 'v', 'i', 'c', 'e', 0 };

                cluster_view_unit(&p, unit, c == 'A' ? "ReplaceAfterSec=never" : "", TARGET_LAUNCHED);
                run_on(&p, (char[]) { c, 0 }, unit);
                cluster_view_presence(&p, (char[]) { c, 0 }, PRESENCE_LOST);
        }
        plans(&p, "");
        p.cluster.now_ms += 31000;
        plans(&p, "run B.service D");
}

#define RESTARTS "Secret=pw\nOnChange=restart"

static void put_content(ClusterView *p, const char *unit, unsigned number) {
        char key[LAYOUT_KEY_MAX], value[32];

        snprintf(value, sizeof(value), "{\"number\":%u}", number);
        cluster_view_put(p, layout_key(key, LAYOUT_INPUTS, unit, NULL), value);
}

/* a.service runs there with this content. It waits for the decision if it is to stop unless it runs. */
static void put_running(ClusterView *p, const char *machine, unsigned content) {
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE], value[256];
        const ClusterAssignment *a = cluster_assignment(&p->cluster, cluster_view_id(id, machine),
                                                        "a.service");

        snprintf(value, sizeof(value),
                 "{\"active\":\"active\",\"available\":true,\"hash\":\"%s\",\"health\":\"passing\","
                 "\"inputs\":%u,"
                 "\"kept\":%llu,\"load\":\"loaded\",\"sub\":\"running\"}",
                 cluster_unit(&p->cluster, "a.service")->unit->hash, content,
                 a && a->unless_running ? (unsigned long long) a->index : 0);
        cluster_view_put(p, layout_key(key, LAYOUT_STATE, "a.service", id), value);
}

static uint64_t content_on(ClusterView *p, const char *machine) {
        char id[MACHINE_ID_SIZE];

        return cluster_assignment(&p->cluster, cluster_view_id(id, machine), "a.service")->inputs;
}

/* An assignment that starts the unit has the present number. One that is rewritten keeps its number: it would
 * restart a process outside of a step. */
static void an_assignment_has_the_content_of_its_unit(void **state) {
        static const char *const options[] = { RESTARTS, "ConfigKeys=/a", "Global=yes\n" RESTARTS };

        for (size_t i = 0; i < ELEMENTS(options); i++) {
                bool global = i == 2;
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                if (global)
                        cluster_view_presence(&p, "B", PRESENCE_LEFT);
                cluster_view_unit(&p, "a.service", options[i], TARGET_LAUNCHED);
                put_content(&p, "a.service", 3);
                plans(&p, "run a.service A");
                assert_int_equal(content_on(&p, "A"), 3);
                cluster_view_execute(&p);
                put_content(&p, "a.service", 5);
                plans(&p, "");
                cluster_view_target(&p, "a.service", TARGET_LOADED);
                plans(&p, "load a.service A");
                assert_int_equal(content_on(&p, "A"), 3);
                cluster_view_state(&p, "A", "a.service", "inactive");
                cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
                plans(&p, "run a.service A");
                assert_int_equal(content_on(&p, "A"), 5);
                cluster_view_execute(&p);
                put_content(&p, "a.service", 6);
                if (global) {
                        cluster_view_presence(&p, "B", PRESENCE_UP);
                        plans(&p, "run a.service B");
                } else {
                        cluster_view_presence(&p, "A", PRESENCE_LOST);
                        plans(&p, "run a.service B");
                        cluster_view_state(&p, "B", "a.service", "active");
                        plans(&p, "stop a.service A");
                }
                assert_int_equal(content_on(&p, "A"), 5);
                assert_int_equal(content_on(&p, "B"), 6);
        }
}

/* Without an assignment, as after a restore: only a step of a rollout gives it another content. */
static void a_unit_that_runs_is_adopted_with_its_content(void **state) {
        static const struct {
                unsigned content, runs_with, expected;
        } rows[] = { { 5, 3, 3 }, { 5, 7, 5 }, { 0, 3, 0 } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_unit(&p, "a.service", RESTARTS, TARGET_LAUNCHED);
                if (rows[i].content > 0)
                        put_content(&p, "a.service", rows[i].content);
                put_running(&p, "B", rows[i].runs_with);
                plans(&p, "run a.service B");
                assert_int_equal(content_on(&p, "B"), rows[i].expected);
                plans(&p, "");
        }
}

/* Its replacement on B has a newer content. */
static void an_instance_with_a_former_content_displaces_none(void **state) {
        for (unsigned has = 0; has < 2; has++) {
                _cleanup_cluster_view_ ClusterView p;

                replaced(&p, RESTARTS "\nOnReconnect=keep-old");
                put_content(&p, "a.service", 2);
                cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_RUN);
                put_running(&p, "B", 2);
                put_running(&p, "A", 1 + has);
                plans(&p, has ? "run a.service A; stop a.service B" : "stop a.service A");
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(an_assignment_has_its_age_and_the_index_of_the_presence),
                cmocka_unit_test(a_loaded_assignment_that_is_to_run_again_has_a_new_age),
                cmocka_unit_test(an_assignment_has_a_reason),
                cmocka_unit_test(an_assignment_is_judged_as_in_plans),
                cmocka_unit_test(a_unit_that_is_not_started_for_want_of_its_inputs_has_their_problem),
                cmocka_unit_test(of_two_assignments_the_newer_one_ends_unless_its_unit_runs),
                cmocka_unit_test(all_former_assignments_end_when_the_newest_runs),
                cmocka_unit_test(of_ten_assignments_one_remains),
                cmocka_unit_test(a_held_unit_keeps_its_assignment_and_one_other_until_it_is_known_to_run),
                cmocka_unit_test(an_assignment_on_an_away_or_unreadable_machine_is_not_judged),
                cmocka_unit_test(a_move_continues_while_the_former_host_is_away),
                cmocka_unit_test(a_unit_that_does_not_move_is_not_replaced),
                cmocka_unit_test(a_unit_that_would_be_replaced_everywhere_stays_where_it_is),
                cmocka_unit_test(a_replacing_unit_is_placed_before_the_one_that_it_replaces),
                cmocka_unit_test(a_global_unit_that_finishes_gets_its_next_revision_on_all_machines),
                cmocka_unit_test(a_loaded_unit_has_moved_when_systemd_has_loaded_it),
                cmocka_unit_test(of_two_units_of_one_plan_the_one_with_the_greater_name_yields),
                cmocka_unit_test(a_unit_waits_for_its_machine_as_long_as_it_says),
                cmocka_unit_test(an_instance_that_ran_all_the_time_displaces_its_replacement_on_request),
                cmocka_unit_test(an_instance_that_does_not_fit_or_has_another_text_displaces_none),
                cmocka_unit_test(an_instance_that_fails_its_checks_displaces_none),
                cmocka_unit_test(of_several_machines_that_return_the_first_one_keeps_the_unit),
                cmocka_unit_test(an_instance_of_a_unit_that_is_not_wanted_stops_on_its_lost_machine),
                cmocka_unit_test(an_assignment_has_the_content_of_its_unit),
                cmocka_unit_test(a_unit_that_runs_is_adopted_with_its_content),
                cmocka_unit_test(an_instance_with_a_former_content_displaces_none),
                cmocka_unit_test(a_unit_without_a_replacement_does_not_hold_the_release_of_other_machines),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
