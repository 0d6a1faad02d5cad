#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/sizes.h"
#include "fleetd/features/rollout/rollout.h"
#include "fleetd/registry/layout.h"
#include "fleetd/registry/presence.h"
#include "fleetd/scheduler/scheduler.h"
#include "tests/lib/plans.h"
#include "tests/lib/placement_model.h"
#include "tests/lib/words_of.h"

static void assert_plan(ClusterView *p, const char *expected) {
        _cleanup_free_ char *plan = cluster_view_plan(p, true);

        assert_string_equal(plan, expected);
}

/* The machine is lost, and returns; each takes a second. */
static void flap(ClusterView *p, const char *machine) {
        p->cluster.now_ms += 1000;
        cluster_view_presence(p, machine, PRESENCE_LOST);
        p->cluster.now_ms += 1000;
        cluster_view_presence(p, machine, PRESENCE_UP);
}

/* -- The decisions of fleet -- */

static void a_launched_unit_gets_the_smallest_of_the_least_loaded(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        plans(&p, "run a.service A");
        plans(&p, "");
}

static void three_units_spread_over_two_machines(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        plans(&p, "run a.service A; run b.service B; run c.service A");
}

static void an_inactive_unit_is_stopped_where_it_is(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_target(&p, "a.service", TARGET_INACTIVE);
        plans(&p, "stop a.service A");
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "");
}

static void a_placed_unit_stays_even_if_another_machine_is_empty(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        for (char c = 'a'; c <= 'e'; c++) {
                const char name[] = { c, '.', 's', 'e', 'r', 'v', 'i', 'c', 'e', 0 };

                cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
                run_on(&p, "A", name);
        }
        plans(&p, "");
}

/* The one whose new text excludes the other, also if it was there first. */
static void of_two_that_conflict_exactly_one_moves(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "A", "b.service");
        cluster_view_text(&p, "a.service", "Conflicts=b.service", "/bin/true");
        plans(&p, ""); /* it has its former text there */
        cluster_view_roll(&p, "a.service");
        plans(&p, "stop a.service A; run a.service B");
        cluster_view_execute(&p);
        plans(&p, "");
}

/* A new text of an ordinary unit stops no global unit, and a new text of a global unit no ordinary one. */
static void a_conflict_with_a_global_unit_affects_the_unit_with_the_new_text(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "g.service");
        run_on(&p, "B", "g.service");
        run_on(&p, "A", "a.service");

        cluster_view_text(&p, "g.service", "Global=true\nConflicts=a.service", "/bin/true");
        cluster_view_roll(&p, "g.service");
        plans(&p, "stop g.service A");
        cluster_view_execute(&p);
        plans(&p, "");
        cluster_view_text(&p, "g.service", "Global=true", "/bin/true");
        cluster_view_roll(&p, "g.service");
        plans(&p, "run g.service A");
        cluster_view_execute(&p);
        run_on(&p, "A", "g.service");

        cluster_view_text(&p, "a.service", "Conflicts=g.service", "/bin/true");
        cluster_view_roll(&p, "a.service");
        plans(&p, "stop a.service A");
        cluster_view_execute(&p);
        plans(&p, "");
}

static void three_that_exclude_each_other_fill_two_machines(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a@1.service", "Conflicts=a@*.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "a@2.service", "Conflicts=a@*.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "a@3.service", "Conflicts=a@*.service", TARGET_LAUNCHED);
        plans(&p, "run a@1.service A; run a@2.service B");
        plans(&p, "");

        /* The third gets the machine of one that stops, after the stop. */
        cluster_view_execute(&p);
        cluster_view_target(&p, "a@1.service", TARGET_INACTIVE);
        plans(&p, "stop a@1.service A");
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "run a@3.service A");
}

static void a_follower_runs_where_its_peer_runs(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "b.service", "MachineOf=z.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "z.service", "", TARGET_INACTIVE);
        plans(&p, "");
        cluster_view_target(&p, "z.service", TARGET_LAUNCHED);
        plans(&p, "run b.service A; run z.service A");
        cluster_view_execute(&p);
        plans(&p, "");

        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run b.service B; run z.service B");
        cluster_view_execute(&p);
        plans(&p, "stop b.service A; stop z.service A");
        plans(&p, "");
}

static void a_follower_runs_where_a_global_peer_runs(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_machine(&p, "B", "disk=ssd", PRESENCE_UP);
        cluster_view_unit(&p, "g.service", "Global=true\nMachineMetadata=disk=ssd", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "MachineOf=g.service", TARGET_LAUNCHED);
        plans(&p, "run b.service B; run g.service B");
}

static void a_follower_stops_with_its_peer(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "MachineOf=a.service", TARGET_LAUNCHED);
        plans(&p, "run a.service A; run b.service A");
        cluster_view_execute(&p);
        cluster_view_target(&p, "a.service", TARGET_INACTIVE);
        plans(&p, "stop a.service A; stop b.service A");
}

static void units_that_follow_each_other_wait_forever(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "MachineOf=b.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "MachineOf=a.service", TARGET_LAUNCHED);
        plans(&p, "");
}

static void an_inactive_global_unit_is_neither_load_nor_conflict(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "g.service", "Global=true\nConflicts=a.service", TARGET_INACTIVE);
        plans(&p, "run a.service A");
}

static void a_short_machine_id_is_sufficient(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "MachineID=bbbbbbbb", TARGET_LAUNCHED);
        plans(&p, "run a.service B");
}

static void the_replaced_unit_moves_if_it_can(void **state) {
        ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "k.service", "Replaces=a.service", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "A", "k.service");
        plans(&p, "run a.service B");
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "stop a.service A");
        plans(&p, "");
        cluster_view_free(&p);

        /* Without another machine, both remain, and no plan changes that. */
        p = (ClusterView) {};
        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "k.service", "Replaces=a.service", TARGET_LAUNCHED);
        run_on(&p, "A", "k.service");
        plans(&p, "run a.service A");
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "");
        cluster_view_free(&p);
}

/* -- Target states and revisions -- */

static void a_loaded_unit_is_not_started(void **state) {
        char id[MACHINE_ID_SIZE];
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LOADED);
        plans(&p, "load a.service A");
        cluster_view_execute(&p);
        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        plans(&p, "run a.service A");
        cluster_view_execute(&p);
        plans(&p, "");
        cluster_view_target(&p, "a.service", TARGET_LOADED);
        plans(&p, "load a.service A");
        for (unsigned i = 0; i < 2; i++) { /* a timer may have started it: each request stops what runs */
                const ClusterAssignment *o = cluster_assignment(&p.cluster, cluster_view_id(id, "A"),
                                                                "a.service");
                uint64_t since_ms = o->since_ms;

                cluster_view_execute(&p);
                plans(&p, "");
                p.cluster.now_ms += 1000;
                cluster_view_target(&p, "a.service", TARGET_LOADED);
                plans(&p, "load a.service A");
                o = cluster_assignment(&p.cluster, id, "a.service");
                assert_int_not_equal(o->since_ms, since_ms);
        }
        /* A request that an older version ignored stops nothing after the upgrade of the machine. */
        cluster_view_execute(&p);
        cluster_machine(&p.cluster, cluster_view_id(id, "A"))->facts->takes_finished = false;
        cluster_view_target(&p, "a.service", TARGET_LOADED);
        plans(&p, "");
        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        plans(&p, "");
        cluster_view_target(&p, "a.service", TARGET_LOADED);
        plans(&p, "load a.service A");
        /* Other facts that the scheduler reads: the request is still executed. */
        cluster_view_execute(&p);
        cluster_view_target(&p, "a.service", TARGET_LOADED);
        p.capacity = (Resources) { 1024, 100 };
        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
        plans(&p, "load a.service A");
}

static void a_destroyed_unit_is_stopped_everywhere(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
        plans(&p, "run a.service A; run g.service A; run g.service B");
        cluster_view_execute(&p);
        cluster_view_destroy(&p, "a.service");
        cluster_view_destroy(&p, "g.service");
        plans(&p, "stop a.service A; stop g.service A; stop g.service B");
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "");
}

static void an_edited_unit_gets_a_new_assignment_in_place(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        p.below_updates = true;
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_text(&p, "a.service", "", "/bin/false");
        plans(&p, "run a.service A");
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "");

        /* The same text, written again: only the assignment changes, so that it names the current revision.
         */
        cluster_view_text(&p, "a.service", "", "/bin/false");
        plans(&p, "run a.service A");
        plans(&p, "");
}

static void an_edited_global_unit_changes_on_one_machine_at_a_time(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        p.below_updates = true;
        cluster_view_machine(&p, "C", "", PRESENCE_UP);
        cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
        plans(&p, "run g.service A; run g.service B; run g.service C");
        cluster_view_execute(&p);
        plans(&p, "");

        cluster_view_text(&p, "g.service", "Global=true", "/bin/false");
        plans(&p, "run g.service A");
        plans(&p, "");
        cluster_view_state(&p, "A", "g.service", "failed");
        plans(&p, "");
        cluster_view_state(&p, "A", "g.service", "active");
        plans(&p, "run g.service B");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "run g.service C");
        cluster_view_execute(&p);
        plans(&p, "");
        cluster_view_presence(&p, "B", PRESENCE_UP);
        cluster_view_execute(&p);
        plans(&p, "");
}

static void a_global_unit_that_is_corrected_after_a_bad_edit_continues_its_update(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        p.below_updates = true;
        cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
        plans(&p, "run g.service A; run g.service B");
        cluster_view_execute(&p);
        cluster_view_text(&p, "g.service", "Global=true", "/bin/false");
        plans(&p, "run g.service A");
        cluster_view_state(&p, "A", "g.service", "failed");
        cluster_view_text(&p, "g.service", "Global=true", "/bin/cat");
        plans(&p, "run g.service A");
        cluster_view_execute(&p);
        cluster_view_state(&p, "A", "g.service", "active");
        plans(&p, "run g.service B");
}

static void a_global_unit_starts_on_a_new_machine_and_stops_when_the_metadata_change(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "g.service", "Global=true\nMachineMetadata=zone=a", TARGET_LAUNCHED);
        plans(&p, "");
        cluster_view_machine(&p, "B", "zone=a", PRESENCE_UP);
        plans(&p, "run g.service B");
        cluster_view_execute(&p);
        cluster_view_machine(&p, "B", "zone=b", PRESENCE_UP);
        plans(&p, "stop g.service B");
        cluster_view_execute(&p);
        plans(&p, "");
}

static void changed_metadata_move_a_unit_which_runs_until_the_new_one_does(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "MachineMetadata=zone=a", TARGET_LAUNCHED);
        plans(&p, "run a.service A");
        cluster_view_execute(&p);
        cluster_view_machine(&p, "B", "zone=a", PRESENCE_UP);
        cluster_view_machine(&p, "A", "zone=b", PRESENCE_UP);
        plans(&p, "run a.service B");
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "stop a.service A");
        cluster_view_execute(&p);

        /* Without a machine that fits, the unit stops. */
        cluster_view_machine(&p, "B", "zone=c", PRESENCE_UP);
        plans(&p, "stop a.service B");
        plans(&p, "");
}

static void a_unit_that_is_launched_again_before_it_has_stopped_stays_there(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "B", "a.service");
        cluster_view_target(&p, "a.service", TARGET_INACTIVE);
        plans(&p, "stop a.service B");
        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        plans(&p, "run a.service B");

        /* It may still run on a machine that is away: it is not started on another one. */
        cluster_view_target(&p, "a.service", TARGET_INACTIVE);
        plans(&p, "stop a.service B");
        cluster_view_presence(&p, "B", PRESENCE_AWAY);
        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        plans(&p, "");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "run a.service A");
}

/* -- Flap damping -- */

static void a_machine_that_was_lost_twice_keeps_its_units_and_gets_no_new_ones_for_a_while(void **state) {
        EnginePlan plan = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
        run_on(&p, "A", "g.service");
        run_on(&p, "B", "g.service");
        flap(&p, "A");
        cluster_view_unit(&p, "b.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        plans(&p, "run b.service A"); /* not after one loss */

        flap(&p, "A");
        cluster_view_unit(&p, "c.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        cluster_view_unit(&p, "d.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "h.service", "Global=true", TARGET_LAUNCHED);
        plans(&p, "run d.service B; run h.service B");
        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.again_ms, 30000);
        engine_plan_done(&plan);

        p.cluster.now_ms += 29999;
        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.again_ms, 1);
        engine_plan_done(&plan);
        p.cluster.now_ms++;
        plans(&p, "run c.service A; run h.service A");
}

static void a_unit_without_an_assignment_may_stay_on_a_machine_that_gets_no_new_ones(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        flap(&p, "A");
        flap(&p, "A");
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_state(&p, "A", "a.service", "active");
        plans(&p, "run a.service A");
        cluster_view_target(&p, "a.service", TARGET_INACTIVE);
        plans(&p, "stop a.service A");
        cluster_view_target(&p, "a.service", TARGET_LAUNCHED);
        plans(&p, "run a.service A");
}

static void a_unit_that_no_longer_qualifies_runs_until_another_machine_may_get_it(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        flap(&p, "B");
        flap(&p, "B");
        cluster_view_machine(&p, "B", "ssd=true", PRESENCE_UP);
        cluster_view_machine(&p, "A", "ssd=true", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "MachineMetadata=ssd=true", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_machine(&p, "A", "ssd=false", PRESENCE_UP);
        plans(&p, "");
        p.cluster.now_ms += 30000;
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
}

static void a_unit_that_reloads_or_refreshes_on_its_new_machine_runs_there(void **state) {
        static const char *const actives[] = { "active", "reloading", "refreshing" };
        ClusterView p;

        for (size_t i = 0; i < ELEMENTS(actives); i++) {
                two_machines(&p);
                cluster_view_machine(&p, "A", "ssd=true", PRESENCE_UP);
                cluster_view_machine(&p, "B", "ssd=true", PRESENCE_UP);
                cluster_view_unit(&p, "a.service", "MachineMetadata=ssd=true", TARGET_LAUNCHED);
                run_on(&p, "A", "a.service");
                cluster_view_machine(&p, "A", "ssd=false", PRESENCE_UP);
                plans(&p, "run a.service B");
                cluster_view_state(&p, "B", "a.service", "activating");
                plans(&p, "");
                cluster_view_state(&p, "B", "a.service", actives[i]);
                plans(&p, "stop a.service A");
                cluster_view_free(&p);
        }
}

/* -- Maintenance -- */

static void maintain(ClusterView *p, const char *machine, const char *mode, const char *purpose) {
        char id[MACHINE_ID_SIZE], key[128], value[128];

        snprintf(key, sizeof(key), "/_fleet/machine/%s/maintenance", cluster_view_id(id, machine));
        snprintf(value, sizeof(value), "{\"for\":\"%s\",\"mode\":\"%s\",\"since\":1}", purpose, mode);
        cluster_view_put(p, key, value);
}

static void units_of_a_leaving_machine_run_elsewhere_before_they_stop(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
        run_on(&p, "A", "g.service");
        run_on(&p, "B", "g.service");
        cluster_view_unit(&p, "l.service", "", TARGET_LOADED);
        cluster_view_assign(&p, "A", "l.service", ASSIGNMENT_LOAD);
        cluster_view_state(&p, "A", "l.service", "inactive");
        maintain(&p, "A", "draining", "leave");
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "h.service", "Global=true", TARGET_LAUNCHED);
        plans(&p, "run a.service B; run b.service B; run h.service B; load l.service B");
        cluster_view_state(&p, "B", "a.service", "activating");
        plans(&p, "");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
        cluster_view_state(&p, "B", "l.service", "inactive");
        plans(&p, "stop l.service A");
        cluster_view_execute(&p);
        plans(&p, "");
        maintain(&p, "A", "drained", "leave"); /* nothing else is left: global units end */
        plans(&p, "stop g.service A");
}

static void a_unit_without_another_machine_stays_on_a_leaving_one(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        maintain(&p, "A", "draining", "leave");
        plans(&p, "");
        /* A unit that did not run there need not run elsewhere first. */
        cluster_view_unit(&p, "f.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "f.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "f.service", "failed");
        plans(&p, "run f.service B");
        cluster_view_state(&p, "B", "f.service", "activating");
        plans(&p, "");
        cluster_view_state(&p, "B", "f.service", "failed");
        plans(&p, "stop f.service A");
}

static void a_unit_that_may_run_on_a_leaving_machine_is_not_stopped_for_one_that_failed(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "a.service", "activating");
        cluster_view_unit(&p, "n.service", "", TARGET_LAUNCHED); /* has no state */
        cluster_view_assign(&p, "A", "n.service", ASSIGNMENT_RUN);
        maintain(&p, "A", "draining", "leave");
        plans(&p, "run a.service B; run n.service B");
        cluster_view_state(&p, "B", "a.service", "failed");
        cluster_view_state(&p, "B", "n.service", "failed");
        plans(&p, "run a.service A; stop a.service B; run n.service A; stop n.service B"); /* in place */
        cluster_view_state(&p, "A", "a.service", "deactivating");
        plans(&p, "");
        cluster_view_state(&p, "A", "a.service", "inactive");
        p.cluster.now_ms += 30000;
        plans(&p, "run a.service B; run n.service B");
        cluster_view_state(&p, "B", "a.service", "failed");
        plans(&p, "stop a.service A; run n.service A; stop n.service B");
}

static void two_leaving_machines_exchange_no_units(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_machine(&p, "C", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        run_on(&p, "B", "b.service");
        maintain(&p, "A", "draining", "leave");
        maintain(&p, "B", "draining", "leave");
        plans(&p, "run a.service C; run b.service C");
}

static void a_cordoned_machine_keeps_its_units_and_gets_no_others(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        maintain(&p, "A", "cordoned", "");
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        plans(&p, "run b.service B; run c.service B");
        maintain(&p, "A", "draining", "");
        plans(&p, "run a.service B");
}

static void a_planned_loss_does_not_count(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        p.cluster.adopting = true;
        flap(&p, "A");
        flap(&p, "A");
        p.cluster.adopting = false;
        flap(&p, "A");
        cluster_view_unit(&p, "a.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        plans(&p, "run a.service A");
}

/* -- Moves -- */

static void a_lost_machines_units_move_and_the_old_assignments_end_when_the_new_ones_run(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "B", "b.service");
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "A", PRESENCE_AWAY);
        plans(&p, "");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run a.service B");
        plans(&p, "");
        cluster_view_state(&p, "B", "a.service", "activating");
        plans(&p, "");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
        plans(&p, "");

        /* The machine returns, and executes the stop. */
        cluster_view_presence(&p, "A", PRESENCE_UP);
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "");
}

static void a_machine_that_returns_first_keeps_its_units(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "activating");
        cluster_view_presence(&p, "A", PRESENCE_UP);
        plans(&p, "stop a.service B");
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "");
}

static void a_withdrawn_replacement_that_has_not_stopped_counts_as_running(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run a.service B");
        cluster_view_state(&p, "B", "a.service", "activating");
        cluster_view_presence(&p, "A", PRESENCE_UP);
        plans(&p, "stop a.service B");
        cluster_view_state(&p, "B", "a.service", "active");
        p.cluster.now_ms += 5000;
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run a.service B");
        plans(&p, "stop a.service A");
        plans(&p, "");
}

static void a_replacement_that_is_lost_too_is_replaced(void **state) {
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
        plans(&p, "");

        /* The second machine returns, and nothing runs: the last assignment is withdrawn, the first machine
         * is still lost. */
        cluster_view_presence(&p, "B", PRESENCE_UP);
        plans(&p, "stop a.service C");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
        plans(&p, "");
}

static void a_machine_that_has_left_is_replaced_at_once(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_presence(&p, "A", PRESENCE_LEFT);
        plans(&p, "run a.service B");
}

/* The count of the engine, fleet_engine_moves_total. */
static void a_move_has_a_reason_and_a_first_place_has_none(void **state) {
        static const struct {
                Presence presence;
                const char *metadata, *options, *other;
                MoveReason move;
        } rows[] = {
                { PRESENCE_LOST, "zone=a", "MachineMetadata=zone=a", "", MOVE_LOST },
                { PRESENCE_LEFT, "zone=a", "MachineMetadata=zone=a", "", MOVE_DRAINED },
                { PRESENCE_UP, "zone=b", "MachineMetadata=zone=a", "", MOVE_EDITED },
                { PRESENCE_UP, "zone=a", "MachineMetadata=zone=a", "Conflicts=a.service", MOVE_CONFLICT },
                { PRESENCE_UP, "zone=a", "MachineMetadata=zone=a", "Replaces=a.service", MOVE_CONFLICT },
                { PRESENCE_UP, "zone=a", "MachineMetadata=zone=a\nPort=a:80", "Port=a:80", MOVE_CONFLICT },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                EnginePlan plan = {};
                _cleanup_cluster_view_ ClusterView p;
                size_t n = 0;

                two_machines(&p);
                cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
                cluster_view_machine(&p, "B", "zone=a", PRESENCE_UP);
                cluster_view_unit(&p, "a.service", rows[i].options, TARGET_LAUNCHED);
                assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
                assert_int_equal(plan.n, 1);
                assert_int_equal(plan.changes[0].move, MOVE_NONE);
                engine_plan_done(&plan);
                plan = (EnginePlan) {};

                run_on(&p, "A", "a.service");
                if (rows[i].other[0]) {
                        cluster_view_unit(&p, "k.service", rows[i].other, TARGET_LAUNCHED);
                        run_on(&p, "A", "k.service");
                }
                cluster_view_machine(&p, "A", rows[i].metadata, rows[i].presence);
                cluster_view_presence(&p, "A", rows[i].presence);
                assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
                for (size_t k = 0; k < plan.n; k++)
                        if (plan.changes[k].move != MOVE_NONE) {
                                assert_int_equal(plan.changes[k].move, rows[i].move);
                                assert_int_equal(plan.changes[k].kind, ASSIGNMENT_RUN);
                                n++;
                        }
                if (n != 1)
                        fail_msg("row %zu: %zu moves", i, n);
                engine_plan_done(&plan);
        }
}

static void without_another_machine_the_assignment_remains(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "");
}

static const ClusterAssignment *assignment_on(const ClusterView *p, const char *machine, const char *unit) {
        char id[MACHINE_ID_SIZE];

        return cluster_assignment(&p->cluster, cluster_view_id(id, machine), unit);
}

static void takes_finished(ClusterView *p, const char *machine, bool takes) {
        char id[MACHINE_ID_SIZE];

        cluster_machine(&p->cluster, cluster_view_id(id, machine))->facts->takes_finished = takes;
}

static void a_finished_unit_moves_and_is_not_run(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "job.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "job.service", ASSIGNMENT_RUN);
        cluster_view_done(&p, "A", "job.service");
        plans(&p, "");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        takes_finished(&p, "B", false);
        plans(&p, ""); /* an older fleetd would run it again */
        takes_finished(&p, "B", true);
        plans(&p, "run job.service B");
        assert_true(assignment_on(&p, "B", "job.service")->finished);
        plans(&p, "");
        cluster_view_done(&p, "B", "job.service");
        plans(&p, "stop job.service A");
        cluster_view_assign(&p, "A", "job.service", ASSIGNMENT_STOP);
        cluster_view_presence(&p, "A", PRESENCE_UP);
        cluster_view_state(&p, "B", "job.service", "activating"); /* its timer has started it */
        cluster_view_presence(&p, "B", PRESENCE_LEFT);
        plans(&p, "run job.service A");
        assert_false(assignment_on(&p, "A", "job.service")->finished); /* its run was cut off */
}

static void a_failed_unit_is_not_moved(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "a.service", "failed");
        plans(&p, "");
}

static void a_unit_that_runs_without_an_assignment_gets_one_to_run_or_to_stop(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_state(&p, "B", "a.service", "reloading");
        plans(&p, "run a.service B");
        cluster_view_execute(&p);
        cluster_view_state(&p, "A", "a.service", "active");
        plans(&p, "stop a.service A");
        cluster_view_execute(&p);

        cluster_view_unit(&p, "b.service", "", TARGET_INACTIVE);
        cluster_view_state(&p, "A", "b.service", "active");
        cluster_view_state(&p, "B", "b.service", "active");
        plans(&p, "stop b.service A; stop b.service B");

        /* A unit that the cluster does not contain is unknown, not removed. */
        cluster_view_state(&p, "A", "unknown.service", "active");
        plans(&p, "");

        /* A failed unit does not select its machine. */
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        cluster_view_state(&p, "B", "c.service", "failed");
        plans(&p, "run c.service A");
}

static void a_unit_that_runs_on_another_machine_than_assigned_stays_there(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "a.service", "inactive");
        cluster_view_state(&p, "B", "a.service", "reloading");
        plans(&p, "run a.service B");
        plans(&p, "stop a.service A");
        plans(&p, "");
        cluster_view_unit(&p, "d.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "d.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "d.service", "inactive");
        cluster_view_state(&p, "B", "d.service", "failed");
        plans(&p, "");
        cluster_view_destroy(&p, "d.service");
        plans(&p, "stop d.service A");

        /* The unit that runs as assigned remains; the other one stops. */
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "b.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "b.service", "active");
        cluster_view_state(&p, "B", "b.service", "active");
        plans(&p, "stop b.service B");

        /* The states of a lost host are outdated. */
        cluster_view_execute(&p);
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "c.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "c.service", "active");
        cluster_view_state(&p, "B", "c.service", "active");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run b.service B; run c.service B");
}

static void after_a_restore_the_engine_waits_for_all_reports_or_five_minutes_or_an_operator(void **state) {
        const ClusterMachine *missing;
        char key[128], id[MACHINE_ID_SIZE];
        uint64_t again_ms;
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        p.cluster.lineage = 0xab;
        p.cluster.now_ms = 1000;
        assert_false(engine_awaits_reports(&p.cluster, &missing, &again_ms));

        cluster_view_put(&p, "/_fleet/cluster/adopting", "0");
        assert_false(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        cluster_view_put(&p, "/_fleet/cluster/adopting", "1000");
        assert_true(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        assert_string_equal(missing->id, cluster_view_id(id, "A"));
        assert_int_equal(again_ms, ADOPTION_MS);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", id);
        cluster_view_put(&p, key, "00000000000000aa"); /* of an earlier lineage */
        assert_string_equal((engine_awaits_reports(&p.cluster, &missing, &again_ms), missing->id), id);
        cluster_view_put(&p, key, "00000000000000ab");
        assert_true(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        assert_string_equal(missing->id, cluster_view_id(id, "B"));

        p.cluster.now_ms += ADOPTION_MS - 1;
        assert_true(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        assert_int_equal(again_ms, 1);
        p.cluster.now_ms++;
        assert_false(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        cluster_view_put(&p, "/_fleet/cluster/adopting", "rubbish");
        assert_true(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        cluster_view_put(&p, "/_fleet/cluster/adopting", "0");
        assert_false(engine_awaits_reports(&p.cluster, &missing, &again_ms));

        cluster_view_put(&p, "/_fleet/cluster/adopting", "999999999");
        snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(id, "B"));
        cluster_view_put(&p, key, "00000000000000ab");
        assert_false(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        cluster_view_remove(&p, key);
        assert_true(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        cluster_view_remove(&p, "/_fleet/cluster/adopting");
        assert_false(engine_awaits_reports(&p.cluster, &missing, &again_ms));
}

/* Its presence is written after its report: until then, it counts as lost, and its units would move. */
static void after_a_restore_a_lost_host_that_reports_is_awaited_until_it_is_up(void **state) {
        static const Presence down[] = { PRESENCE_LOST, PRESENCE_LEFT };
        char key[128], a[MACHINE_ID_SIZE], b[MACHINE_ID_SIZE];
        const ClusterMachine *missing;
        uint64_t again_ms;

        for (size_t i = 0; i < ELEMENTS(down); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                p.cluster.lineage = 0xab;
                p.cluster.now_ms = 1000;
                cluster_view_put(&p, "/_fleet/cluster/adopting", "1000");
                snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(a, "A"));
                cluster_view_put(&p, key, "00000000000000ab");
                cluster_view_presence(&p, "B", down[i]);
                snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(b, "B"));
                cluster_view_put(&p, key, "00000000000000ab");
                assert_true(engine_awaits_reports(&p.cluster, &missing, &again_ms));
                assert_string_equal(missing->id, b);
                cluster_view_presence(&p, "B", PRESENCE_UP);
                assert_false(engine_awaits_reports(&p.cluster, &missing, &again_ms));
                /* Lost again, its units move. */
                cluster_view_presence(&p, "B", down[i]);
                assert_false(engine_awaits_reports(&p.cluster, &missing, &again_ms));
        }
}

/* Rollouts replace them. A text that the cluster does not have can start on no other machine. */
static void after_a_restore_assignments_get_the_texts_that_run(void **state) {
        static const struct {
                const char *unit, *options, *machine;
                bool assigned, is_kept;
        } rows[] = {
                { "a.service", "", "A", true, true },
                { "b.service", "", "B", false, true }, /* it was moved after the backup */
                { "g.service", "Global=yes\n", "A", true, true },
                { "s.service", "Singleton=yes\n", "A", true, false },
        };
        static const char later[] = "0123456789012345678901234567890123456789";
        char key[LAYOUT_KEY_MAX], id[MACHINE_ID_SIZE], text[192];
        _cleanup_rollout_step_ RolloutStep step = {};
        const ClusterAssignment *a;
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                cluster_view_unit(&p, rows[i].unit, rows[i].options, TARGET_LAUNCHED);
                if (rows[i].assigned)
                        cluster_view_assign(&p, rows[i].machine, rows[i].unit, ASSIGNMENT_RUN);
        }
        p.cluster.lineage = 0xab;
        snprintf(
                text, sizeof(text),
                "{\"ancestor\":\"00000000000000aa\",\"index\":%llu,\"kind\":\"restored\",\"machine\":\"%s\"}",
                (unsigned long long) p.index, cluster_view_id(id, "A"));
        cluster_view_put(&p, "/_fleet/cluster/lineage/00000000000000ab", text);
        snprintf(
                text, sizeof(text),
                "{\"active\":\"active\",\"hash\":\"%s\",\"load\":\"loaded\",\"since\":1,\"sub\":\"running\"}",
                later);
        for (size_t i = 0; i < ELEMENTS(rows); i++)
                cluster_view_put(
                        &p, layout_key(key, LAYOUT_STATE, rows[i].unit, cluster_view_id(id, rows[i].machine)),
                        text);
        plans(&p, "run a.service A; run b.service B; run g.service A; run g.service B; stop s.service A");
        plans(&p, "");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                a = cluster_assignment(&p.cluster, cluster_view_id(id, rows[i].machine), rows[i].unit);
                assert_int_equal(streq(a->hash, later), rows[i].is_kept);
                assert_int_equal(a->revision, rows[i].is_kept ? 0 : 1);
        }

        /* Also of a set whose last rollout has ended: that begins again, so that it stops at a failure. */
        a = cluster_assignment(&p.cluster, cluster_view_id(id, "A"), "g.service");
        snprintf(text, sizeof(text),
                 "{\"completed\":1,\"completedHash\":\"%s\",\"state\":\"done\",\"to\":1,\"toHash\":\"%s\"}",
                 a->of->unit->hash, a->of->unit->hash);
        cluster_view_put(&p, layout_key(key, LAYOUT_ROLLOUT, "g.service", NULL), text);
        assert_int_equal(rollout_step(&p.cluster, a->of, &(RolloutConditions) {}, &step), 0);
        assert_true(step.has_record);
        assert_int_equal(step.next.state, ROLLOUT_ROLLING);

        cluster_view_presence(&p, "A", PRESENCE_LEFT);
        free(cluster_view_plan(&p, true));
        a = cluster_assignment(&p.cluster, cluster_view_id(id, "B"), "a.service");
        assert_string_equal(a->hash, a->of->unit->hash);
        assert_int_equal(a->revision, 1);
}

static void a_unit_in_conflict_on_one_machine_runs_on_another(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        plans(&p, "run a.service A");
        cluster_view_conflicting(&p, "A", "a.service");
        plans(&p, "run a.service B");
        plans(&p, "");
        cluster_view_state(&p, "B", "a.service", "active");
        plans(&p, "stop a.service A");
        cluster_view_execute(&p);
        plans(&p, "");

        /* With a conflicting unit on each machine, it waits, without moves, until one of them is free. */
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        plans(&p, "run b.service A");
        cluster_view_conflicting(&p, "A", "b.service");
        plans(&p, "run b.service B");
        cluster_view_conflicting(&p, "B", "b.service");
        plans(&p, "");
        cluster_view_state(&p, "A", "b.service", "active");
        plans(&p, "stop b.service B");
        cluster_view_execute(&p);

        cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
        plans(&p, "run g.service A; run g.service B");
        cluster_view_conflicting(&p, "A", "g.service");
        cluster_view_state(&p, "B", "g.service", "active");
        plans(&p, "");
}

/* -- Properties -- */

typedef struct Chance {
        Random random;
        bool sized; /* capacities, and options of sizes */
        const char **names;
        size_t n;
} Chance;

static const char *const all_units[] = { "a.service",   "b.service",   "c.service", "d@1.service",
                                         "d@2.service", "d@3.service", "e.service", "f.service",
                                         "g.service",   "h.service",   "k.service", "z.service" };
static const char *const all_options[] = { "",
                                           "",
                                           "",
                                           "Conflicts=d@*.service",
                                           "Conflicts=a.service",
                                           "MachineMetadata=zone=a",
                                           "MachineMetadata=zone=a\nMachineMetadata=zone=b",
                                           "MachineOf=a.service",
                                           "MachineOf=z.service",
                                           "Global=true",
                                           "Global=true\nMachineMetadata=zone=b",
                                           "Global=true\nConflicts=b.service",
                                           "Replaces=b.service",
                                           "Replaces=*.service",
                                           "ReplaceAfterSec=never",
                                           "OnReconnect=keep-old",
                                           "OnReconnect=keep-old\nConflicts=a.service",
                                           "Port=a:80",
                                           "Port=b:81\nPort=a:80",
                                           "Global=true\nPort=a:80",
                                           "MachineID=cccccccc" };
static const char *const all_machines[] = { "A", "B", "C", "D", "E", "F" };
static const char *const all_metadata[] = { "", "zone=a", "zone=b", "zone=a,disk=ssd" };

static const Resources all_capacities[] = { {}, { 400, 100 }, { 1024, 200 }, { 1024, 200 }, { 2048, 400 } };
static const char *const all_sizes[] = { "MemoryRequest=150M",
                                         "MemoryRequest=300M\nCPURequest=40%",
                                         "MemoryRequest=900M\nConflicts=a.service",
                                         "MemoryRequest=300M\nReplaces=b.service",
                                         "CPURequest=120%",
                                         "CPURequest=60%\nMachineOf=a.service",
                                         "MemoryRequest=1G\nMachineMetadata=zone=a",
                                         "Global=true\nMemoryRequest=300M",
                                         "MemoryRequest=400M\nReplaceAfterSec=never",
                                         "[Service]\nMemoryMax=700M",
                                         "[Service]\nCPUQuota=70%" };
static const char *const all_instances[] = { "MaxPerMachine=1", "MaxPerMachine=2",
                                             "MaxPerMachine=1\nMemoryRequest=300M",
                                             "MaxPerMachine=1\nReplaces=b.service" };

static const LayoutKey facts_key = { .kind = LAYOUT_FACTS };

#define ANY(c, array) ((array)[random_below(&(c)->random, ELEMENTS(array))])

static int add_name(void *userdata, const char *unit) {
        Chance *c = userdata;

        if (!unit) {
                c->n = SIZE_MAX;
                return 0;
        }
        if (c->n == SIZE_MAX)
                return 0;
        c->names = realloc(c->names, (c->n + 1) * sizeof(*c->names));
        c->names[c->n] = strdup(unit);
        c->n++;
        return 0;
}

static int concerned(const Cluster *cluster, const RegistryChange *change,
                     int (*add)(void *userdata, const char *unit), void *userdata) {
        EngineMarks marks = {};
        int r;

        engine_marks_add(&marks, cluster, change);
        if (!change->key) /* facts may have changed nothing that the scheduler reads */
                assert_int_equal(engine_marks_any(&marks),
                                 change->kind != CHANGED_PROBLEM && change->kind != CHANGED_CLUSTER);
        r = engine_marks_expand(&marks, cluster, add, userdata);
        assert_false(engine_marks_any(&marks));
        return r;
}

static void forget_names(Chance *c) {
        for (size_t i = 0; c->n != SIZE_MAX && i < c->n; i++)
                free((char *) c->names[i]);
        free(c->names);
        c->names = NULL;
        c->n = 0;
}

static void a_unit_in_conflict_is_planned_when_a_machine_joins(void **state) {
        Chance c = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "MachineMetadata=zone=a", TARGET_LAUNCHED);
        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
        plans(&p, "run a.service A");
        cluster_view_conflicting(&p, "A", "a.service");
        plans(&p, "");

        cluster_view_machine(&p, "B", "zone=a", PRESENCE_UP);
        assert_int_equal(concerned(&p.cluster,
                                   &(RegistryChange) { .kind = CHANGED_MACHINE,
                                                       .machine = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" },
                                   add_name, &c),
                         0);
        assert_int_equal(c.n, 1);
        assert_string_equal(c.names[0], "a.service");
        forget_names(&c);
        plans(&p, "run a.service B");
}

/* Each event that makes room alone brings the unit that waits into the next plan. */
static void a_unit_that_waits_for_room_is_planned_when_there_is_some(void **state) {
        static const struct {
                const char *options; /* of w@2.service; of w@1.service, which is on A */
                const char *former, *shrunk;
                enum { ROOM_GONE, ROOM_SHRUNK, ROOM_LARGER } event;
        } rows[] = {
                { "MemoryRequest=800M", "MemoryRequest=800M", "", ROOM_GONE },
                { "MemoryRequest=800M", "MemoryRequest=800M", "MemoryRequest=200M", ROOM_SHRUNK },
                { "MemoryRequest=800M", "MemoryRequest=800M", "", ROOM_LARGER },
                { "CPURequest=80%", "CPURequest=80%", "", ROOM_GONE },
                { "CPURequest=80%", "CPURequest=80%", "CPURequest=20%", ROOM_SHRUNK },
                { "CPURequest=80%", "CPURequest=80%", "", ROOM_LARGER },
                { "MaxPerMachine=1", "", "", ROOM_GONE },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000,
                                                         .capacity = { 1024, 100 } };
                char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];
                RegistryChange change = { .kind = CHANGED_ASSIGNMENT, .unit = "w@1.service", .machine = id };
                Chance c = {};

                cluster_view_machine(&p, "A", "", PRESENCE_UP);
                cluster_view_unit(&p, "w@1.service", rows[i].former, TARGET_LAUNCHED);
                plans(&p, "run w@1.service A");
                cluster_view_execute(&p);
                cluster_view_unit(&p, "w@2.service", rows[i].options, TARGET_LAUNCHED);
                plans(&p, "");
                cluster_view_id(id, "A");
                if (rows[i].event == ROOM_GONE) {
                        cluster_view_target(&p, "w@1.service", TARGET_INACTIVE);
                        plans(&p, "stop w@1.service A");
                        cluster_view_state(&p, "A", "w@1.service", NULL);
                        cluster_view_remove(&p, layout_key(key, LAYOUT_ASSIGNMENT, "w@1.service", id));
                        change.removed = true;
                } else if (rows[i].event == ROOM_SHRUNK) {
                        cluster_view_text(&p, "w@1.service", rows[i].shrunk, "/bin/true");
                        change = (RegistryChange) { .kind = CHANGED_UNIT, .unit = "w@1.service" };
                } else {
                        p.capacity = (Resources) { 2048, 200 };
                        cluster_view_facts(&p, "A", "");
                        change = (RegistryChange) {
                                .kind = CHANGED_MACHINE, .machine = id, .key = &facts_key, .index = p.index
                        };
                }
                assert_int_equal(concerned(&p.cluster, &change, add_name, &c), 0);
                assert_int_not_equal(c.n, 0);
                assert_true(c.n == SIZE_MAX || streq(c.names[0], "w@2.service") ||
                            (c.n > 1 && streq(c.names[1], "w@2.service")));
                forget_names(&c);
                plans(&p, "run w@2.service A");
        }
}

/* The largest part of the median machine first, of memory or CPU, in any order of names; then units without a
 * request. */
static void a_plan_places_the_largest_requests_first(void **state) {
        static const struct {
                const char *a, *b, *c, *plan;
        } rows[] = {
                { "MemoryRequest=300M", "MemoryRequest=900M", "", "run b.service A; run c.service A" },
                { "MemoryRequest=900M", "MemoryRequest=300M", "", "run a.service A; run c.service A" },
                { "MemoryRequest=600M", "MemoryRequest=600M", "", "run a.service A; run c.service A" },
                { "MemoryRequest=300M\nCPURequest=20%", "CPURequest=90%", "",
                  "run b.service A; run c.service A" },
                { "MemoryRequest=800M\nCPURequest=20%", "CPURequest=85%\nMemoryRequest=300M", "",
                  "run b.service A; run c.service A" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p = { .capacity = { 1024, 100 } };

                cluster_view_machine(&p, "A", "", PRESENCE_UP);
                cluster_view_unit(&p, "a.service", rows[i].a, TARGET_LAUNCHED);
                cluster_view_unit(&p, "b.service", rows[i].b, TARGET_LAUNCHED);
                cluster_view_unit(&p, "c.service", rows[i].c, TARGET_LAUNCHED);
                plans(&p, rows[i].plan);
        }
}

/* A host of a later version writes one of the keys. The object of the key still exists; otherwise this would
 * be a removal. */
static bool make_unreadable(ClusterView *p, Chance *c, const char *unit, const char *machine,
                            RegistryChange *ret) {
        static const struct {
                LayoutKind key;
                int change;
        } kinds[] = {
                { LAYOUT_UNIT, CHANGED_UNIT },
                { LAYOUT_TARGET, CHANGED_TARGET },
                { LAYOUT_ASSIGNMENT, CHANGED_ASSIGNMENT },
                { LAYOUT_STATE, CHANGED_STATE },
                { LAYOUT_FACTS, CHANGED_MACHINE },
                { LAYOUT_PRESENCE, CHANGED_PRESENCE },
        };
        size_t kind = random_below(&c->random, ELEMENTS(kinds));
        bool of_machine = kinds[kind].key != LAYOUT_UNIT && kinds[kind].key != LAYOUT_TARGET;
        bool of_unit = kinds[kind].key != LAYOUT_FACTS && kinds[kind].key != LAYOUT_PRESENCE;
        char id[MACHINE_ID_SIZE];

        cluster_view_id(id, machine);
        if (of_machine && !cluster_machine(&p->cluster, id))
                return false;
        if (of_unit && of_machine && !cluster_assignment(&p->cluster, id, unit))
                return false;
        if (of_unit && !of_machine && !cluster_unit(&p->cluster, unit))
                return false;
        cluster_view_unreadable(p, kinds[kind].key, of_unit ? unit : NULL, of_machine ? machine : NULL);
        *ret = (RegistryChange) { .kind = kinds[kind].change,
                                  .unit = of_unit ? unit : NULL,
                                  .machine = of_machine ? machine : NULL };
        return true;
}

/* A rollout assigns the wanted text to all machines of a unit. */
static void roll_randomly(ClusterView *p, Chance *c, const char *unit) {
        const ClusterUnit *u = cluster_unit(&p->cluster, unit);

        if (!u || cluster_unit_is_unreadable(u))
                return;
        cluster_view_roll(p, unit);
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                assert_int_equal(concerned(&p->cluster,
                                           &(RegistryChange) { .kind = CHANGED_ASSIGNMENT,
                                                               .unit = unit,
                                                               .machine = o->machine->id },
                                           add_name, c),
                                 0);
}

static const char *any_options(Chance *c, const char *unit) {
        if (!c->sized || random_below(&c->random, 3) == 0)
                return ANY(c, all_options);
        return strchr(unit, '@') && random_below(&c->random, 2) ? ANY(c, all_instances) : ANY(c, all_sizes);
}

/* Apply one random change, and report it as the registry does. */
static void apply_random_change(ClusterView *p, Chance *c) {
        const char *unit = ANY(c, all_units), *machine = ANY(c, all_machines);
        char id[MACHINE_ID_SIZE];
        RegistryChange change = { .unit = unit };

        cluster_view_id(id, machine);
        switch (random_below(&c->random, 10)) {
        case 0:
        case 1: {
                bool is_new = !cluster_unit(&p->cluster, unit);

                cluster_view_text(p, unit, any_options(c, unit),
                                  random_below(&c->random, 2) ? "/bin/true" : "/bin/false");
                change.kind = CHANGED_UNIT;
                if (is_new) {
                        cluster_view_target(p, unit, TARGET_LAUNCHED);
                        assert_int_equal(concerned(&p->cluster, &change, add_name, c), 0);
                        change.kind = CHANGED_TARGET;
                }
                break;
        }
        case 2:
                if (!cluster_unit(&p->cluster, unit))
                        return;
                cluster_view_target(p, unit, random_below(&c->random, _TARGET_MAX));
                change.kind = CHANGED_TARGET;
                break;
        case 3:
                cluster_view_destroy(p, unit);
                change.kind = CHANGED_UNIT;
                break;
        case 4:
                if (c->sized)
                        p->capacity = ANY(c, all_capacities);
                if (c->sized && cluster_machine(&p->cluster, id)) {
                        cluster_view_facts(p, machine, "zone=a");
                        change = (RegistryChange) {
                                .kind = CHANGED_MACHINE, .machine = id, .key = &facts_key, .index = p->index
                        };
                        break;
                }
                cluster_view_machine(p, machine, ANY(c, all_metadata),
                                     cluster_machine(&p->cluster, id) ?
                                             cluster_machine(&p->cluster, id)->presence :
                                             PRESENCE_UP);
                change = (RegistryChange) { .kind = CHANGED_MACHINE, .machine = id };
                assert_int_equal(concerned(&p->cluster, &change, add_name, c), 0);
                change.kind = CHANGED_PRESENCE;
                break;
        case 5:
        case 6:
                if (!cluster_machine(&p->cluster, id))
                        return;
                cluster_view_presence(p, machine,
                                      random_below(&c->random, 2) ? PRESENCE_UP :
                                                                    random_below(&c->random, _PRESENCE_MAX));
                change = (RegistryChange) { .kind = CHANGED_PRESENCE, .machine = id };
                break;
        case 7:
                if (random_below(&c->random, 3) > 0) {
                        roll_randomly(p, c, unit);
                        return;
                }
                if (!make_unreadable(p, c, unit, machine, &change))
                        return;
                change.machine = change.machine ? id : NULL;
                break;
        default: {
                ClusterAssignment *o = cluster_assignment(&p->cluster, id, unit);
                char key[LAYOUT_KEY_MAX];

                if (!o || o->machine->presence != PRESENCE_UP)
                        return;
                change.machine = id;
                if (o->kind == ASSIGNMENT_STOP) {
                        if (cluster_state(&p->cluster, id, unit))
                                cluster_view_state(p, machine, unit, NULL);
                        cluster_view_remove(p, layout_key(key, LAYOUT_ASSIGNMENT, unit, id));
                        change.kind = CHANGED_ASSIGNMENT;
                        change.removed = true;
                        break;
                }
                static const char *const actives[] = { "active", "active", "active", "activating", "failed" };

                if (random_below(&c->random, 10) == 0)
                        cluster_view_conflicting(p, machine, unit);
                else
                        cluster_view_state(p, machine, unit, ANY(c, actives));
                change.kind = CHANGED_STATE;
                break;
        }
        }
        assert_int_equal(concerned(&p->cluster, &change, add_name, c), 0);
}

static int by_change(const void *a, const void *b) {
        const AssignmentChange *c = a, *d = b;
        int r = strcmp(c->unit, d->unit);

        return r != 0 ? r : strcmp(c->machine, d->machine);
}

static void assert_same(EnginePlan *a, EnginePlan *b, unsigned step) {
        if (a->n > 0)
                qsort(a->changes, a->n, sizeof(*a->changes), by_change);
        if (b->n > 0)
                qsort(b->changes, b->n, sizeof(*b->changes), by_change);
        for (size_t i = 0; i < a->n || i < b->n; i++) {
                const AssignmentChange *c = i < a->n ? &a->changes[i] : NULL,
                                       *d = i < b->n ? &b->changes[i] : NULL;

                if (!c || !d || by_change(c, d) != 0 || c->kind != d->kind ||
                    !verdict_equal(&c->why, &d->why))
                        fail_msg("step %u: full: %s %s %.2s (%s), incremental: %s %s %.2s (%s)", step,
                                 c ? assignment_kind_to_string(c->kind) : "-", c ? c->unit : "",
                                 c ? c->machine : "", words_of(c ? &c->why : NULL),
                                 d ? assignment_kind_to_string(d->kind) : "-", d ? d->unit : "",
                                 d ? d->machine : "", words_of(d ? &d->why : NULL));
        }
}

/* No plan places a unit where a rule rejects it, or an ordinary unit on a second machine without a reason. */
static void assert_rules_hold(const ClusterView *p, const EnginePlan *plan) {
        for (size_t i = 0; i < plan->n; i++) {
                const AssignmentChange *c = &plan->changes[i];
                const ClusterUnit *u = cluster_unit(&p->cluster, c->unit);
                const ClusterMachine *m = cluster_machine(&p->cluster, c->machine);
                const ClusterAssignment *was = cluster_assignment(&p->cluster, c->machine, c->unit);
                const Placement *wants;

                assert_non_null(m);
                assert_string_not_equal(words_of(&c->why), "");
                assert_false(cluster_unit_is_unreadable(cluster_any_unit(&p->cluster, c->unit)));
                for (size_t k = 0; k < i; k++)
                        assert_false(streq(plan->changes[k].unit, c->unit) &&
                                     streq(plan->changes[k].machine, c->machine));
                if (c->kind == ASSIGNMENT_STOP) {
                        /* A wanted unit that runs is stopped only if it runs elsewhere, or the machine
                         * rejects it. */
                        continue;
                }
                assert_non_null(u);
                assert_true(u->target != TARGET_INACTIVE);
                if (was && was->kind != ASSIGNMENT_STOP)
                        continue; /* in place */
                wants = &u->unit->placement;
                assert_int_equal(m->presence, PRESENCE_UP);
                assert_false(cluster_machine_is_unreadable(m));
                assert_true(placement_machine_id_fits(wants, m->id));
                assert_true(placement_metadata_fits(wants, &m->facts->metadata, NULL));
                for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next)
                        if (o->of != u && o->of->unit && !was) {
                                assert_null(
                                        placement_conflict(wants, u->name, &o->of->unit->placement, o->unit));
                                assert_false(placement_same_port(wants, &o->of->unit->placement, false));
                        }
                if (wants->global)
                        continue;
                for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                        if (o->kind != ASSIGNMENT_STOP && o->machine != m &&
                            o->machine->presence == PRESENCE_UP) {
                                SchedulerView *view;
                                bool stays;

                                /* A second machine only while the unit leaves the first for a reason. */
                                assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view),
                                                 0);
                                stays = scheduler_fits(view, u, o->machine, true, NULL) &&
                                        !scheduler_replaced_by(view, u, o->machine);
                                scheduler_view_free(view);
                                if (stays)
                                        for (size_t k = 0; k < plan->n;
                                             k++) /* or it follows a unit that this plan moves */
                                                stays = stays && wants->machine_of.n == 0 &&
                                                        wants->replaces.n == 0 && plan->n == 1;
                                assert_false(stays);
                        }
        }
}

/* The sums of each machine are those of its assignments, counted again. */
static void assert_sums_hold(const ClusterView *p) {
        for (const ClusterMachine *m = p->cluster.machines; m; m = m->hh.next) {
                Sums requested = {}, sized = {};

                for (const ClusterAssignment *o = m->assignments; o; o = o->hh.next) {
                        const Placement *of = o->of->unit ? &o->of->unit->placement : NULL;

                        sums_replace(&requested, &(Resources) {}, of ? of->request : (Resources) {});
                        if (cluster_assignment_is_active(o))
                                sums_replace(&sized, &(Resources) {}, of ? of->size : resources_default);
                }
                assert_memory_equal(&m->requested, &requested, sizeof(requested));
                assert_memory_equal(&m->sized, &sized, sizeof(sized));
        }
}

/* On the machine of an assignment that the plan has added: its unit and its siblings are within the largest
 * MaxPerMachine= of them, since the one that arrived last was; and the requests within the capacity. */
static unsigned assert_arrival_has_room(const ClusterView *p, const AssignmentChange *c) {
        const ClusterUnit *u = cluster_unit(&p->cluster, c->unit);
        const ClusterMachine *m = cluster_machine(&p->cluster, c->machine);
        const Placement *wants = &u->unit->placement;
        Resources capacity = m->facts ? m->facts->capacity : (Resources) {};
        unsigned n = 0, max = 0;

        for (const ClusterAssignment *o = m->assignments; o && wants->max_per_machine > 0; o = o->hh.next)
                if (o->of->unit && o->of->unit->placement.max_per_machine > 0) {
                        n++;
                        max = MAX(max, o->of->unit->placement.max_per_machine);
                }
        assert_true(n <= max);
        if (!resources_are_set(capacity))
                return max > 0;
        if (wants->request.memory_mib > 0)
                assert_true(m->requested.memory_mib <= capacity.memory_mib);
        if (wants->request.cpu_percent > 0)
                assert_true(m->requested.cpu_percent <= capacity.cpu_percent);
        return max > 0 || resources_are_set(wants->request);
}

static bool arrives(const ClusterView *p, const AssignmentChange *c) {
        const ClusterAssignment *was = cluster_assignment(&p->cluster, c->machine, c->unit);

        return c->kind != ASSIGNMENT_STOP && (!was || !cluster_assignment_is_active(was));
}

static void any_history_is_planned_alike_in_full_and_in_part(void **state) {
        unsigned planned = 0, steps = 0, arrivals = 0;

        for (unsigned seed = 1; seed <= (getenv("CHECK_ALL") ? 700 : 60); seed++) {
                _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };
                uint64_t due_ms = UINT64_MAX; /* when time alone may change the plan */
                Chance c = { .sized = seed % 2 == 0 };

                random_seed(&c.random, seed);
                for (unsigned i = 0; i < 4; i++)
                        cluster_view_machine(&p, all_machines[i], ANY(&c, all_metadata), PRESENCE_UP);
                for (unsigned i = 0; i < 300; i++) {
                        _cleanup_(engine_plan_done) EnginePlan full = {}, part = {};
                        bool arriving[ENGINE_PLAN_MAX] = {};

                        p.cluster.now_ms += random_below(&c.random, 20000);
                        for (uint64_t n = random_below(&c.random, 3); n > 0; n--)
                                apply_random_change(&p, &c);
                        if (p.cluster.now_ms >= due_ms) {
                                forget_names(&c);
                                c.n = SIZE_MAX;
                        }

                        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &full),
                                         0);
                        if (c.n == SIZE_MAX)
                                assert_int_equal(
                                        engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &part),
                                        0);
                        else
                                assert_int_equal(
                                        engine_plan(&p.cluster,
                                                    c.names ? c.names : (const char *const[]) { NULL }, c.n,
                                                    30000, &cluster_view_limits, &part),
                                        0);
                        assert_same(&full, &part, seed * 1000 + i);
                        assert_rules_hold(&p, &full);
                        forget_names(&c);

                        for (size_t k = 0; k < full.n; k++)
                                arriving[k] = arrives(&p, &full.changes[k]);
                        cluster_view_apply(&p, &full);
                        assert_sums_hold(&p);
                        for (size_t k = 0; k < full.n; k++)
                                arrivals += arriving[k] ? assert_arrival_has_room(&p, &full.changes[k]) : 0;
                        for (size_t k = 0; k < full.n; k++)
                                assert_int_equal(
                                        concerned(&p.cluster,
                                                  &(RegistryChange) { .kind = CHANGED_ASSIGNMENT,
                                                                      .unit = full.changes[k].unit,
                                                                      .machine = full.changes[k].machine },
                                                  add_name, &c),
                                        0);
                        due_ms = full.again_ms == UINT64_MAX ? UINT64_MAX : p.cluster.now_ms + full.again_ms;
                        planned += full.n;
                        steps++;
                        engine_plan_done(&part);
                }
                forget_names(&c);
        }
        assert_true(planned > steps / 4);   /* the change affected a unit */
        assert_true(arrivals > steps / 50); /* a rule of sizes applied */
}

/* Each key of a unit that this version cannot read: the unit remains unchanged, and the units after it are
 * planned. */
static void an_unreadable_unit_remains_unchanged_and_others_are_planned(void **state) {
        static const LayoutKind kinds[] = { LAYOUT_UNIT, LAYOUT_TARGET, LAYOUT_ASSIGNMENT, LAYOUT_STATE };

        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                bool of_machine = kinds[i] == LAYOUT_ASSIGNMENT || kinds[i] == LAYOUT_STATE;
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
                run_on(&p, "A", "a.service");
                cluster_view_unreadable(&p, kinds[i], "a.service", of_machine ? "A" : NULL);
                assert_plan(&p, "");

                cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
                assert_plan(&p, "run b.service B");

                /* It counts for the load, and excludes units that conflict with it. */
                cluster_view_unit(&p, "c.service", "Conflicts=a.service", TARGET_LAUNCHED);
                cluster_view_presence(&p, "B", PRESENCE_AWAY);
                assert_plan(&p, "");
                cluster_view_presence(&p, "B", PRESENCE_UP);
                assert_plan(&p, "run c.service B");

                /* It does not move when its machine is lost. */
                p.cluster.now_ms += 60000;
                cluster_view_presence(&p, "A", PRESENCE_LOST);
                assert_plan(&p, "");
        }
}

static void an_unreadable_assignment_is_not_written_a_second_time(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unreadable(&p, LAYOUT_ASSIGNMENT, "a.service", "A");
        assert_plan(&p, "");
        assert_int_equal(cluster_machine(&p.cluster, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")->load, 1);
        assert_null(cluster_assignment(&p.cluster, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a.service"));

        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_state(&p, "A", "a.service", "active");
        assert_plan(&p, "");
        cluster_view_target(&p, "a.service", TARGET_INACTIVE);
        assert_plan(&p, "stop a.service A");
}

static void an_unreadable_machine_keeps_its_units_and_gets_no_others(void **state) {
        static const struct {
                LayoutKind kind;
                const char *name;
        } keys[] = { { LAYOUT_PRESENCE, NULL }, { LAYOUT_FACTS, NULL }, { LAYOUT_METADATA, "zone" } };

        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
                cluster_view_unit(&p, "a.service", "MachineMetadata=zone=a", TARGET_LAUNCHED);
                cluster_view_unit(&p, "g.service", "Global=true", TARGET_LAUNCHED);
                run_on(&p, "A", "a.service");
                run_on(&p, "A", "g.service");
                run_on(&p, "B", "g.service");
                p.cluster.now_ms += 60000;
                cluster_view_unreadable(&p, keys[i].kind, keys[i].name, "A");
                assert_plan(&p, "");

                cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
                cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
                cluster_view_unit(&p, "h.service", "Global=true", TARGET_LAUNCHED);
                assert_plan(&p, "run b.service B; run c.service B; run h.service B");
        }
}

/* The event is about one unit; the change of that unit frees a machine for the other one. */
static void a_unit_that_a_change_frees_is_part_of_the_same_plan(void **state) {
        const char *named = "d.service";
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        p.below_updates = true;
        cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
        cluster_view_machine(&p, "B", "zone=b", PRESENCE_UP);
        cluster_view_unit(&p, "d.service", "MachineMetadata=zone=a", TARGET_LAUNCHED);
        run_on(&p, "B", "d.service");
        p.cluster.now_ms += 1000;
        cluster_view_assign(&p, "A", "d.service", ASSIGNMENT_RUN);
        cluster_view_unit(&p, "h.service", "Conflicts=d.service\nMachineMetadata=zone=b", TARGET_LAUNCHED);
        run_on(&p, "B", "h.service");
        cluster_view_text(&p, "h.service", "Conflicts=d.service\nMachineMetadata=zone=b", "/bin/false");
        cluster_view_state(&p, "A", "d.service", "active");

        assert_int_equal(engine_plan(&p.cluster, &named, 1, 30000, &(EnginePlanLimits) {}, &plan), 0);
        assert_int_equal(plan.n, 2);
        assert_string_equal(plan.changes[0].unit, "d.service");
        assert_int_equal(plan.changes[0].kind, ASSIGNMENT_STOP);
        assert_string_equal(plan.changes[1].unit, "h.service");
        assert_string_equal(words_of(&plan.changes[1].why), "its unit file has changed");
}

static void a_unit_that_is_started_during_its_stop_keeps_its_machine(void **state) {
        const char *named = "a.service";
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_STOP);
        cluster_view_state(&p, "B", "a.service", "deactivating");

        assert_int_equal(engine_plan(&p.cluster, &named, 1, 30000, &(EnginePlanLimits) {}, &plan), 0);
        assert_int_equal(plan.n, 1);
        assert_int_equal(plan.changes[0].machine[0], 'b');
        assert_int_equal(plan.changes[0].kind, ASSIGNMENT_RUN);
        assert_string_equal(words_of(&plan.changes[0].why), "start requested; keeps its machine");
}

/* Plan 'names' as the engine does: some at a time, apply each plan, and continue with the rest. Return the
 * largest work of one plan. */
static size_t plan_in_parts(ClusterView *p, const char *const *names, size_t n_names, size_t work_max,
                            unsigned *ret_plans) {
        enum { SLICE = 250 };
        _cleanup_names_ Names queue = {};
        size_t most = 0, first = 0;

        *ret_plans = 0;
        for (size_t i = 0; i < n_names; i++)
                assert_int_equal(names_add(&queue, names[i], strlen(names[i])), 0);
        while (first < queue.n) {
                size_t n = MIN(queue.n - first, (size_t) SLICE);
                _cleanup_(engine_plan_done) EnginePlan plan = {};

                assert_int_equal(
                        engine_plan(&p->cluster, (const char *const *) queue.items + first, n, 30000,
                                    &(EnginePlanLimits) { .names_texts = true, .work_max = work_max }, &plan),
                        0);
                assert_int_equal(plan.rest.n > 0, plan.more);
                first += n;
                for (size_t i = 0; i < plan.rest.n; i++)
                        assert_int_equal(names_add(&queue, plan.rest.items[i], strlen(plan.rest.items[i])),
                                         0);
                most = MAX(most, plan.work);
                assert_rules_hold(p, &plan);
                ++*ret_plans;
                cluster_view_apply(p, &plan);
        }
        return most;
}

/* Units whose options name it, and units that its options name, if their phase is not over. */
static void all_units_that_a_change_affects_are_part_of_the_same_plan(void **state) {
        static const struct {
                const char *own, *others;
        } rows[] = {
                { "MachineMetadata=zone=a", "Conflicts=d.service\nMachineMetadata=zone=b" },
                { "MachineMetadata=zone=a\nConflicts=h.service i.service", "MachineMetadata=zone=b" },
        };
        static const char *const others[] = { "b.service", "h.service", "i.service" };
        const char *named = "d.service";

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(engine_plan_done) EnginePlan plan = {};
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                p.below_updates = true;
                cluster_view_machine(&p, "A", "zone=a", PRESENCE_UP);
                cluster_view_machine(&p, "B", "zone=b", PRESENCE_UP);
                cluster_view_unit(&p, "d.service", rows[i].own, TARGET_LAUNCHED);
                run_on(&p, "B", "d.service");
                p.cluster.now_ms += 1000;
                cluster_view_assign(&p, "A", "d.service", ASSIGNMENT_RUN);
                for (size_t k = 0; k < ELEMENTS(others); k++) {
                        cluster_view_unit(&p, others[k], rows[i].others, TARGET_LAUNCHED);
                        run_on(&p, "B", others[k]);
                }
                for (size_t k = 0; k < ELEMENTS(others); k++)
                        cluster_view_text(&p, others[k], rows[i].others, "/bin/false");
                cluster_view_state(&p, "A", "d.service", "active");

                assert_int_equal(engine_plan(&p.cluster, &named, 1, 30000, &(EnginePlanLimits) {}, &plan), 0);
                assert_int_equal(plan.n, 3);
                assert_int_equal(plan.changes[0].kind, ASSIGNMENT_STOP);
                assert_string_equal(plan.changes[1].unit, "h.service");
                assert_string_equal(plan.changes[2].unit, "i.service");
        }
}

static void followers_are_part_of_the_plan_that_places_their_unit(void **state) {
        const char *named = "z.service";
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "b.service", "MachineOf=z.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "c.service", "MachineOf=z.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "z.service", "", TARGET_LAUNCHED);
        assert_int_equal(engine_plan(&p.cluster, &named, 1, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.n, 3);
        assert_string_equal(plan.changes[1].unit, "b.service");
        assert_string_equal(plan.changes[2].unit, "c.service");
}

/* A name, not a pattern: a star matches no other unit, and a backslash stands for itself. */
static void a_name_in_machine_of_is_not_a_pattern(void **state) {
        const char *named = "a\\x2db.service";
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "b.service", "MachineOf=a\\x2db.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "c.service", "MachineOf=*", TARGET_LAUNCHED);
        cluster_view_unit(&p, named, "", TARGET_LAUNCHED);
        assert_int_equal(engine_plan(&p.cluster, &named, 1, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.n, 2);
        assert_string_equal(plan.changes[1].unit, "b.service");
}

static void chain(ClusterView *p) {
        two_machines(p);
        cluster_view_unit(p, "a.service", "MachineOf=b.service", TARGET_LAUNCHED);
        cluster_view_unit(p, "b.service", "MachineOf=c.service", TARGET_LAUNCHED);
        cluster_view_unit(p, "c.service", "MachineOf=d.service", TARGET_LAUNCHED);
        cluster_view_unit(p, "d.service", "", TARGET_LAUNCHED);
}

static void a_chain_of_followers_is_placed_at_once_or_in_parts_wherever_one_ends(void **state) {
        static const char *const names[] = { "a.service", "b.service", "c.service", "d.service" };
        ClusterView p;

        chain(&p);
        plans(&p, "run a.service A; run b.service A; run c.service A; run d.service A");
        cluster_view_free(&p);
        for (size_t work_max = 1; work_max <= 40; work_max++) {
                unsigned n_plans;

                chain(&p);
                (void) plan_in_parts(&p, names, ELEMENTS(names), work_max, &n_plans);
                for (size_t i = 0; i < ELEMENTS(names); i++)
                        if (LIST_EMPTY(&cluster_unit(&p.cluster, names[i])->assignments))
                                fail_msg("with %zu steps in one plan %s was left out", work_max, names[i]);
                cluster_view_free(&p);
        }
}

/* One step for the unit, and one for each of two machines that may get it. An unreadable unit is not in the
 * rest. */
static void a_plan_ends_after_the_unit_that_reaches_the_work_limit(void **state) {
        static const struct { size_t work_max, n; } rows[] = { { 0, 2 }, { 1, 1 }, { 3, 1 }, { 4, 2 } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(engine_plan_done) EnginePlan plan = {};
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
                cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
                cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
                cluster_view_unreadable(&p, LAYOUT_TARGET, "c.service", NULL);
                assert_int_equal(
                        engine_plan(&p.cluster, NULL, 0, 30000,
                                    &(EnginePlanLimits) { .names_texts = true, .work_max = rows[i].work_max },
                                    &plan),
                        0);
                assert_int_equal(plan.n, rows[i].n);
                assert_int_equal(plan.work, 3 * rows[i].n);
                assert_int_equal(plan.rest.n, 2 - rows[i].n);
                if (plan.rest.n > 0)
                        assert_string_equal(plan.rest.items[0], "b.service");
        }
}

static void plans_converge(void **state) {
        for (unsigned seed = 1; seed <= 60; seed++) {
                _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };
                Chance c = {};

                random_seed(&c.random, seed);
                for (unsigned i = 0; i < 4; i++)
                        cluster_view_machine(&p, all_machines[i], ANY(&c, all_metadata), PRESENCE_UP);
                for (unsigned i = 0; i < 100; i++) {
                        unsigned plans;

                        apply_random_change(&p, &c);
                        if (seed % 2 == 0)
                                free(cluster_view_plan(&p, true));
                        else
                                (void) plan_in_parts(&p, all_units, ELEMENTS(all_units),
                                                     1 + random_below(&c.random, 20), &plans);
                }
                forget_names(&c);

                /* From here on, only assignments are executed, and no machine is damped. */
                p.cluster.now_ms += HOLD_OFF_MAX_MS;
                bool rests = false;

                for (unsigned i = 0; i < 200 && !rests; i++) {
                        uint64_t before = p.index;
                        _cleanup_free_ char *plan = cluster_view_plan(&p, true);

                        cluster_view_execute(&p);
                        p.cluster.now_ms += 31000;
                        rests = !*plan && p.index <= before + 1;
                }
                if (!rests)
                        fail_msg("seed %u does not come to rest: %s", seed, cluster_view_plan(&p, false));

                /* Each launched unit that fits has an assignment on a machine that is up, an ordinary one
                 * exactly one. */
                for (ClusterUnit *u = p.cluster.units; u; u = u->hh.next) {
                        const ClusterMachine *m;
                        SchedulerView *view;
                        unsigned n = 0, held = 0;

                        for (ClusterAssignment *o = LIST_FIRST(&u->assignments); o;
                             o = LIST_NEXT(o, of_unit)) {
                                bool is_held = o->machine->presence == PRESENCE_AWAY ||
                                               (o->machine->presence == PRESENCE_LOST && u->unit &&
                                                u->unit->placement.replace_after_ms > 0) ||
                                               cluster_machine_is_unreadable(o->machine);

                                n += o->kind != ASSIGNMENT_STOP && o->machine->presence == PRESENCE_UP &&
                                     !is_held;
                                held += is_held;
                        }
                        if (!u->unit || cluster_unit_is_unreadable(u) || u->target == TARGET_INACTIVE ||
                            u->unit->placement.global)
                                continue;
                        assert_true(n <= 1);
                        if (n == 1 || held > 0)
                                continue;
                        assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
                        assert_int_equal(scheduler_pick(view, u, &m, NULL), -ENOENT);
                        scheduler_view_free(view);
                }
        }
}

enum { CROWD = 2000, CROWD_NEW = 300, CROWD_MACHINES = 5, CROWD_WORK = 2000 };

/* The unit's number for the '#' of the option. */
static void number_option(char ret[static 128], const char *option, unsigned number) {
        const char *at = strchr(option, '#');

        if (at)
                snprintf(ret, 128, "%.*s%u%s", (int) (at - option), option, number, at + 1);
        else
                snprintf(ret, 128, "%s", option);
}

static void crowd(ClusterView *p, const char *option, const char *new_option, char (*names)[32],
                  const char **ret_new) {
        static const char *const machines[] = { "A", "B", "C", "D", "E" };

        *p = (ClusterView) { .cluster.now_ms = 1000000 };
        for (unsigned i = 0; i < CROWD_MACHINES; i++)
                cluster_view_machine(p, machines[i], "", PRESENCE_UP);
        for (unsigned i = 0; i < CROWD + CROWD_NEW; i++) {
                char options[128];

                snprintf(names[i], sizeof(*names), "u%05u.service", i);
                number_option(options, i < CROWD ? option : new_option, i);
                cluster_view_unit(p, names[i], options, TARGET_LAUNCHED);
                if (i < CROWD)
                        run_on(p, machines[i % CROWD_MACHINES], names[i]);
                else
                        ret_new[i - CROWD] = names[i];
        }
}

/* Neither patterns without a match nor patterns that all units share make a plan long. */
static void a_plan_of_thousands_of_units_with_rules_consists_of_short_parts(void **state) {
        static const struct {
                const char *option, *new_option;
                bool placed;
        } rows[] = {
                { "Conflicts=nothing.service", "Conflicts=nothing.service", true },
                { "Conflicts=nothing-#*.service", "Conflicts=none-#*.service", true },
                { "Conflicts=u9999?.service", "Conflicts=u09999.service", true },
                { "Replaces=nothing-#.service", "Replaces=nothing*", true },
                { "MachineOf=u00007.service", "MachineOf=u00002.service", true },
                { "Conflicts=*-#.service", "Conflicts=u0*.service", false },
                { "Port=a:1\nPort=b:2", "Port=a:#", true },
                { "Port=a:1", "Port=a:2\nPort=b:1", false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char(*names)[32] = calloc(CROWD + CROWD_NEW, sizeof(*names));
                const char *fresh[CROWD_NEW];
                unsigned plans = 0;
                size_t most;
                _cleanup_cluster_view_ ClusterView p;

                crowd(&p, rows[i].option, rows[i].new_option, names, fresh);
                most = plan_in_parts(&p, fresh, CROWD_NEW, CROWD_WORK, &plans);
                /* The last unit of a part may examine each machine and its units once more. */
                if (most > CROWD_WORK + 2 * CROWD + CROWD_MACHINES)
                        fail_msg("%s: %zu steps in one plan", rows[i].option, most);
                if (plans > CROWD_NEW)
                        fail_msg("%s: %u plans", rows[i].option, plans);
                for (unsigned k = 0; k < CROWD_NEW; k++)
                        assert_int_equal(!LIST_EMPTY(&cluster_unit(&p.cluster, fresh[k])->assignments),
                                         rows[i].placed);
                free(names);
        }
}

static bool has_name(const Chance *c, const char *name) {
        for (size_t i = 0; i < c->n; i++)
                if (streq(c->names[i], name))
                        return true;
        return false;
}

/* An assignment affects the units on its machine that have rules; all of them if its own unit has rules. */
static void an_assignment_affects_the_units_on_its_machine_that_have_rules(void **state) {
        RegistryChange change = { .kind = CHANGED_ASSIGNMENT,
                                  .unit = "a.service",
                                  .machine = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
        Chance c = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "Conflicts=x.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "d.service", "Replaces=y.service", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "A", "b.service");
        run_on(&p, "A", "c.service");
        run_on(&p, "B", "d.service");
        cluster_view_unit(&p, "e.service", "Port=e:80", TARGET_LAUNCHED);
        run_on(&p, "A", "e.service");
        assert_int_equal(concerned(&p.cluster, &change, add_name, &c), 0);
        assert_true(has_name(&c, "a.service") && has_name(&c, "b.service") && !has_name(&c, "c.service") &&
                    has_name(&c, "e.service"));
        assert_true(
                has_name(&c, "d.service")); /* a machine may have become free for the unit that it replaces */
        forget_names(&c);

        change.unit = "b.service";
        assert_int_equal(concerned(&p.cluster, &change, add_name, &c), 0);
        assert_true(has_name(&c, "c.service"));
        forget_names(&c);

        /* Of a machine that no longer exists. */
        change.machine = "ffffffffffffffffffffffffffffffff";
        assert_int_equal(concerned(&p.cluster, &change, add_name, &c), 0);
        assert_true(has_name(&c, "b.service") && !has_name(&c, "a.service"));
        forget_names(&c);
}

/* What runs there without an assignment, after a recovery for example, is adopted before its port counts. */
static void of_two_units_with_one_port_that_run_on_a_machine_the_newer_one_leaves(void **state) {
        static const char *const names[] = { "b.service" };

        for (unsigned only = 0; only < 2; only++) {
                _cleanup_(engine_plan_done) EnginePlan full = {}, part = {};
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                if (only)
                        cluster_view_presence(&p, "B", PRESENCE_AWAY);
                cluster_view_unit(&p, "b.service", "Port=a:80", TARGET_LAUNCHED);
                cluster_view_unit(&p, "z.service", "Port=z:80", TARGET_LAUNCHED);
                run_on(&p, "A", "z.service");
                cluster_view_state(&p, "A", "b.service", "active");
                assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &full), 0);
                assert_int_equal(engine_plan(&p.cluster, names, 1, 30000, &cluster_view_limits, &part), 0);
                assert_same(&full, &part, only);
                assert_plan(&p, "run b.service A");
                assert_plan(&p, only ? "stop z.service A" : "stop z.service A; run z.service B");
                cluster_view_execute(&p);
                assert_plan(&p, "");
        }
}

static int add_until(void *userdata, const char *unit) {
        unsigned *left = userdata;

        return (*left)-- > 0 ? 0 : -ENOMEM;
}

/* Without memory, the marks remain, and the caller gets the error. */
static void marks_that_could_not_be_expanded_remain(void **state) {
        EngineMarks marks = {};
        Chance c = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        engine_marks_add(&marks, &p.cluster,
                         &(RegistryChange) { .kind = CHANGED_TARGET, .unit = "a.service" });
        for (unsigned i = 0; i < 4;
             i++) { /* the unit, the waiting unit, and two units of its machine: by assignment and by state */
                unsigned left = i;

                assert_int_equal(engine_marks_expand(&marks, &p.cluster, add_until, &left), -ENOMEM);
                assert_true(engine_marks_any(&marks));
        }
        assert_int_equal(engine_marks_expand(&marks, &p.cluster, add_name, &c), 0);
        assert_false(engine_marks_any(&marks));
        assert_int_equal(c.n, 4);
        forget_names(&c);
}

/* The units that several changes affect, for one plan. */
static void concern(const ClusterView *p, const RegistryChange *changes, size_t n, Chance *c) {
        EngineMarks marks = {};

        forget_names(c);
        for (size_t i = 0; i < n; i++)
                engine_marks_add(&marks, &p->cluster, &changes[i]);
        assert_true(engine_marks_any(&marks));
        assert_int_equal(engine_marks_expand(&marks, &p->cluster, add_name, c), 0);
}

/* Facts that the scheduler does not read, and those that a restricted host states, affect no unit. */
static void facts_that_change_nothing_for_a_unit_plan_nothing(void **state) {
        static const struct {
                const char *facts;
                bool ordinary, restricted; /* whether the change affects waiting units */
        } rows[] = {
                { "{\"metadata\":{\"zone\":\"a\"},\"name\":\"A\"}", true, true }, /* the first ones */
                { "{\"address\":\"1.1.1.1\",\"metadata\":{\"zone\":\"a\"},\"name\":\"B\"}", false, false },
                { "{\"metadata\":{\"zone\":\"b\"},\"name\":\"B\"}", true, false },
                { "{\"metadata\":{\"zone\":\"b\"},\"name\":\"B\",\"quadlet\":true}", true, true },
                { "{\"metadata\":{\"zone\":\"c\"},\"name\":\"B\",\"quadlet\":true}", true, false },
        };
        static const char host[] = "/_fleet/cluster/host/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                          facts[] = "/_fleet/machine/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/facts";

        for (unsigned restricted = 0; restricted < 2; restricted++) {
                _cleanup_cluster_view_ ClusterView p = {};

                if (restricted)
                        cluster_view_put(
                                &p, host,
                                "{\"joined\":1,\"pins\":[\"0123456789abcdef0123456789abcdef0123456789"
                                "abcdef0123456789abcdef\"],\"restricted\":true}");
                for (size_t i = 0; i < ELEMENTS(rows); i++) {
                        EngineMarks marks = {};
                        LayoutKey key;

                        cluster_view_put(&p, facts, rows[i].facts);
                        assert_true(layout_parse(kv_string(facts), &key));
                        engine_marks_add(&marks, &p.cluster,
                                         &(RegistryChange) { .kind = CHANGED_MACHINE,
                                                             .machine = key.machine,
                                                             .index = p.index,
                                                             .key = &key });
                        if (marks.waiting != (restricted ? rows[i].restricted : rows[i].ordinary))
                                fail_msg("row %zu, restricted: %u", i, restricted);
                        engine_marks_done(&marks);
                }
        }
}

/* No unit waits for a machine: units that are not up are not wanted. */
static void several_changes_affect_the_sum_of_their_units(void **state) {
        static const RegistryChange everything = { .kind = CHANGED_ALL },
                                    order = { .kind = CHANGED_ASSIGNMENT,
                                              .unit = "a.service",
                                              .machine = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
                                    machine = { .kind = CHANGED_MACHINE,
                                                .machine = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
                                    presence = { .kind = CHANGED_PRESENCE,
                                                 .machine = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" };
        Chance c = {};
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_machine(&p, "C", "", PRESENCE_UP);
        cluster_view_machine(&p, "D", "", PRESENCE_LOST);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_INACTIVE);
        cluster_view_unit(&p, "c.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "d.service", "", TARGET_INACTIVE);
        run_on(&p, "A", "a.service");
        run_on(&p, "A", "b.service");
        run_on(&p, "C", "c.service");
        run_on(&p, "D", "d.service");

        concern(&p, &everything, 1, &c);
        assert_true(c.n == SIZE_MAX);
        concern(&p, &order, 1, &c);
        assert_true(has_name(&c, "a.service") && !has_name(&c, "b.service") && !has_name(&c, "d.service"));
        concern(&p, (RegistryChange[]) { order, machine }, 2, &c);
        assert_true(has_name(&c, "b.service"));
        concern(&p, (RegistryChange[]) { machine, order }, 2, &c);
        assert_true(has_name(&c, "b.service"));

        /* One lost host more or less may begin or end the brake for all lost hosts, and for no others. */
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        concern(&p, &order, 1, &c);
        assert_false(has_name(&c, "b.service"));
        concern(&p, (RegistryChange[]) { order, presence }, 2, &c);
        assert_true(has_name(&c, "b.service") && has_name(&c, "d.service") && !has_name(&c, "c.service"));
        forget_names(&c);
}

static void one_machine_lost_moves_only_its_own_units(void **state) {
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };
        _cleanup_(engine_plan_done) EnginePlan plan = {};
        char id[MACHINE_ID_SIZE], name[32];

        six_machines(&p);
        for (unsigned i = 0; i < 60; i++) {
                snprintf(name, sizeof(name), "u%02u.service", i);
                cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
        }
        free(cluster_view_plan(&p, true));
        cluster_view_execute(&p);
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        cluster_view_id(id, "C");
        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
        assert_int_equal(plan.n, 10);
        for (size_t i = 0; i < plan.n; i++) {
                assert_non_null(cluster_assignment(&p.cluster, id, plan.changes[i].unit));
                assert_string_not_equal(plan.changes[i].machine, id);
                assert_int_equal(plan.changes[i].kind, ASSIGNMENT_RUN);
        }
}

/* The rest consists of ordinary units, or of the last machine of a global unit. */
static void a_trigger_that_its_unit_follows_is_placed_first(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        char *plan;

        two_machines(&p);
        cluster_view_unit(&p, "t.service", "MachineOf=x.service", TARGET_LOADED);
        cluster_view_unit(&p, "x.service", "MachineOf=t.timer", TARGET_LAUNCHED);
        cluster_view_unit(&p, "t.timer", "", TARGET_LAUNCHED);
        plan = cluster_view_plan(&p, true);
        assert_string_equal(plan, "load t.service A; run t.timer A; run x.service A");
        free(plan);
}

static void a_large_plan_consists_of_parts(void **state) {
        for (unsigned with_global = 0; with_global < 2; with_global++) {
                unsigned n_units = with_global ? ENGINE_PLAN_MAX - 1 : ENGINE_PLAN_MAX + 200;
                size_t total = 0, n_plans = 0;
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                for (unsigned i = 0; i < n_units; i++) {
                        char name[32];

                        snprintf(name, sizeof(name), "u%05u.service", i);
                        cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
                }
                if (with_global)
                        cluster_view_unit(&p, "z.service", "Global=true", TARGET_LAUNCHED);
                for (bool more = true; more;) {
                        _cleanup_(engine_plan_done) EnginePlan plan = {};

                        assert_int_equal(engine_plan(&p.cluster, NULL, 0, 30000, &cluster_view_limits, &plan),
                                         0);
                        if (n_plans++ == 0) {
                                assert_int_equal(plan.n, ENGINE_PLAN_MAX);
                                assert_int_equal(plan.rest.n, with_global ? 1 : 200);
                                assert_string_equal(plan.rest.items[0],
                                                    with_global ? "z.service" : "u10000.service");
                        }
                        cluster_view_apply(&p, &plan);
                        total += plan.n;
                        more = plan.more;
                }
                assert_int_equal(total, with_global ? n_units + 2 : n_units);
                plans(&p, "");
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_launched_unit_gets_the_smallest_of_the_least_loaded),
                cmocka_unit_test(three_units_spread_over_two_machines),
                cmocka_unit_test(an_inactive_unit_is_stopped_where_it_is),
                cmocka_unit_test(a_placed_unit_stays_even_if_another_machine_is_empty),
                cmocka_unit_test(of_two_that_conflict_exactly_one_moves),
                cmocka_unit_test(a_conflict_with_a_global_unit_affects_the_unit_with_the_new_text),
                cmocka_unit_test(three_that_exclude_each_other_fill_two_machines),
                cmocka_unit_test(a_follower_runs_where_its_peer_runs),
                cmocka_unit_test(a_follower_runs_where_a_global_peer_runs),
                cmocka_unit_test(a_follower_stops_with_its_peer),
                cmocka_unit_test(units_that_follow_each_other_wait_forever),
                cmocka_unit_test(an_inactive_global_unit_is_neither_load_nor_conflict),
                cmocka_unit_test(a_short_machine_id_is_sufficient),
                cmocka_unit_test(the_replaced_unit_moves_if_it_can),
                cmocka_unit_test(a_loaded_unit_is_not_started),
                cmocka_unit_test(a_destroyed_unit_is_stopped_everywhere),
                cmocka_unit_test(an_edited_unit_gets_a_new_assignment_in_place),
                cmocka_unit_test(an_edited_global_unit_changes_on_one_machine_at_a_time),
                cmocka_unit_test(a_global_unit_that_is_corrected_after_a_bad_edit_continues_its_update),
                cmocka_unit_test(a_global_unit_starts_on_a_new_machine_and_stops_when_the_metadata_change),
                cmocka_unit_test(changed_metadata_move_a_unit_which_runs_until_the_new_one_does),
                cmocka_unit_test(a_unit_that_is_launched_again_before_it_has_stopped_stays_there),
                cmocka_unit_test(
                        a_machine_that_was_lost_twice_keeps_its_units_and_gets_no_new_ones_for_a_while),
                cmocka_unit_test(a_unit_without_an_assignment_may_stay_on_a_machine_that_gets_no_new_ones),
                cmocka_unit_test(a_unit_that_no_longer_qualifies_runs_until_another_machine_may_get_it),
                cmocka_unit_test(units_of_a_leaving_machine_run_elsewhere_before_they_stop),
                cmocka_unit_test(a_unit_that_reloads_or_refreshes_on_its_new_machine_runs_there),
                cmocka_unit_test(a_unit_without_another_machine_stays_on_a_leaving_one),
                cmocka_unit_test(a_unit_that_may_run_on_a_leaving_machine_is_not_stopped_for_one_that_failed),
                cmocka_unit_test(two_leaving_machines_exchange_no_units),
                cmocka_unit_test(a_cordoned_machine_keeps_its_units_and_gets_no_others),
                cmocka_unit_test(a_planned_loss_does_not_count),
                cmocka_unit_test(
                        a_lost_machines_units_move_and_the_old_assignments_end_when_the_new_ones_run),
                cmocka_unit_test(a_machine_that_returns_first_keeps_its_units),
                cmocka_unit_test(a_withdrawn_replacement_that_has_not_stopped_counts_as_running),
                cmocka_unit_test(a_replacement_that_is_lost_too_is_replaced),
                cmocka_unit_test(a_machine_that_has_left_is_replaced_at_once),
                cmocka_unit_test(a_move_has_a_reason_and_a_first_place_has_none),
                cmocka_unit_test(without_another_machine_the_assignment_remains),
                cmocka_unit_test(a_finished_unit_moves_and_is_not_run),
                cmocka_unit_test(a_failed_unit_is_not_moved),
                cmocka_unit_test(a_unit_that_runs_without_an_assignment_gets_one_to_run_or_to_stop),
                cmocka_unit_test(a_unit_that_runs_on_another_machine_than_assigned_stays_there),
                cmocka_unit_test(after_a_restore_a_lost_host_that_reports_is_awaited_until_it_is_up),
                cmocka_unit_test(after_a_restore_assignments_get_the_texts_that_run),
                cmocka_unit_test(a_unit_in_conflict_on_one_machine_runs_on_another),
                cmocka_unit_test(a_unit_in_conflict_is_planned_when_a_machine_joins),
                cmocka_unit_test(of_two_units_with_one_port_that_run_on_a_machine_the_newer_one_leaves),
                cmocka_unit_test(
                        after_a_restore_the_engine_waits_for_all_reports_or_five_minutes_or_an_operator),
                cmocka_unit_test(an_unreadable_unit_remains_unchanged_and_others_are_planned),
                cmocka_unit_test(an_unreadable_assignment_is_not_written_a_second_time),
                cmocka_unit_test(an_unreadable_machine_keeps_its_units_and_gets_no_others),
                cmocka_unit_test(a_plan_places_the_largest_requests_first),
                cmocka_unit_test(a_unit_that_waits_for_room_is_planned_when_there_is_some),
                cmocka_unit_test(any_history_is_planned_alike_in_full_and_in_part),
                cmocka_unit_test(a_unit_that_a_change_frees_is_part_of_the_same_plan),
                cmocka_unit_test(a_unit_that_is_started_during_its_stop_keeps_its_machine),
                cmocka_unit_test(plans_converge),
                cmocka_unit_test(a_plan_of_thousands_of_units_with_rules_consists_of_short_parts),
                cmocka_unit_test(an_assignment_affects_the_units_on_its_machine_that_have_rules),
                cmocka_unit_test(marks_that_could_not_be_expanded_remain),
                cmocka_unit_test(one_machine_lost_moves_only_its_own_units),
                cmocka_unit_test(a_trigger_that_its_unit_follows_is_placed_first),
                cmocka_unit_test(a_large_plan_consists_of_parts),
                cmocka_unit_test(all_units_that_a_change_affects_are_part_of_the_same_plan),
                cmocka_unit_test(followers_are_part_of_the_plan_that_places_their_unit),
                cmocka_unit_test(a_name_in_machine_of_is_not_a_pattern),
                cmocka_unit_test(a_chain_of_followers_is_placed_at_once_or_in_parts_wherever_one_ends),
                cmocka_unit_test(a_plan_ends_after_the_unit_that_reaches_the_work_limit),
                cmocka_unit_test(facts_that_change_nothing_for_a_unit_plan_nothing),
                cmocka_unit_test(several_changes_affect_the_sum_of_their_units),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
