/* Plans, reasons, marks and decisions with each allocation failing: -ENOMEM, or the whole result. Only
 * reasons of refusals may be missing. */

#include "tests/lib/test.h"
#include "base/log.h"
#include "fleetd/engine/engine.h"
#include "fleetd/engine/explain.h"
#include "fleetd/engine/plan.h"
#include "fleetd/scheduler/filters.h"
#include "fleetd/scheduler/scheduler.h"
#include "tests/lib/alloc.h"
#include "tests/lib/cluster_view.h"

static void survive(const char *name, int (*scenario)(void *userdata), void *userdata) {
        assert_true(alloc_fail_each(name, scenario, userdata, 1) > 0);
}

/* Cluster views in which no machine rejects a unit: the plan needs each allocation. */
static ClusterView calm, held, alone;

static void make_views_without_refusals(void) {
        calm = (ClusterView) { .cluster.now_ms = 1000000 };
        for (char c = 'A'; c <= 'C'; c++)
                cluster_view_machine(&calm, (char[]) { c, 0 }, "", PRESENCE_UP);
        cluster_view_unit(&calm, "all.service", "Global=true", TARGET_LAUNCHED);
        cluster_view_unit(&calm, "edited.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&calm, "A", "edited.service", ASSIGNMENT_RUN);
        cluster_view_text(&calm, "edited.service", "", "/bin/false");
        cluster_view_unit(&calm, "ended.service", "MachineID=aaaaaaaa", TARGET_LAUNCHED);
        cluster_view_assign(&calm, "A", "ended.service", ASSIGNMENT_RUN);
        cluster_view_done(&calm, "A", "ended.service");
        cluster_view_unit(&calm, "moved.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&calm, "A", "moved.service", ASSIGNMENT_RUN);
        calm.cluster.now_ms++;
        cluster_view_assign(&calm, "B", "ended.service", ASSIGNMENT_RUN);
        cluster_view_assign(&calm, "B", "moved.service", ASSIGNMENT_RUN);
        cluster_view_state(&calm, "B", "moved.service", "active");
        cluster_view_state(&calm, "C", "moved.service", "active");
        cluster_view_unit(&calm, "new-1.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&calm, "new-2.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&calm, "old.service", "", TARGET_INACTIVE);
        cluster_view_assign(&calm, "A", "old.service", ASSIGNMENT_RUN);
        cluster_view_assign(&calm, "B", "old.service", ASSIGNMENT_RUN);
        cluster_view_unit(&calm, "stray.service", "", TARGET_INACTIVE);
        cluster_view_state(&calm, "A", "stray.service", "active");
        cluster_view_state(&calm, "B", "stray.service", "active");

        /* Two hosts that the brake releases, and one that is away. */
        held = (ClusterView) { .cluster.now_ms = 1000000 };
        cluster_view_machine(&held, "A", "", PRESENCE_LOST);
        cluster_view_machine(&held, "B", "", PRESENCE_LOST);
        cluster_view_machine(&held, "C", "", PRESENCE_UP);
        cluster_view_machine(&held, "D", "", PRESENCE_UP);
        cluster_view_machine(&held, "F", "", PRESENCE_AWAY);
        cluster_view_unit(&held, "old-1.service", "", TARGET_INACTIVE);
        cluster_view_assign(&held, "A", "old-1.service", ASSIGNMENT_RUN);
        cluster_view_unit(&held, "old-2.service", "", TARGET_INACTIVE);
        cluster_view_assign(&held, "B", "old-2.service", ASSIGNMENT_RUN);
        cluster_view_unit(&held, "waits.service", "MachineID=ffffffff", TARGET_LAUNCHED);
        cluster_view_assign(&held, "C", "waits.service", ASSIGNMENT_RUN);
        held.cluster.now_ms++;
        cluster_view_assign(&held, "F", "waits.service", ASSIGNMENT_RUN);
        held.cluster.now_ms++;
        cluster_view_assign(&held, "D", "waits.service", ASSIGNMENT_RUN);
        held.cluster.now_ms += 30000;

        alone = (ClusterView) { .cluster.now_ms = 1000000 };
        cluster_view_machine(&alone, "A", "", PRESENCE_UP);
        cluster_view_unit(&alone, "follower.service", "MachineOf=new.service", TARGET_LAUNCHED);
        cluster_view_unit(&alone, "new.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&alone, "replacing.service", "Replaces=new.service", TARGET_LAUNCHED);
        cluster_view_assign(&alone, "A", "replacing.service", ASSIGNMENT_RUN);
}

typedef struct Strict {
        const char *name;
        ClusterView *view;
        const char *unit;   /* NULL: all */
        size_t work_max, n; /* changes; 0: unknown */
} Strict;

static int plan_strictly(void *userdata) {
        Strict *s = userdata;
        EnginePlan plan = {};
        int r = engine_plan(&s->view->cluster, s->unit ? &s->unit : NULL, s->unit ? 1 : 0, 30000,
                            &(EnginePlanLimits) { .names_texts = true, .work_max = s->work_max }, &plan);

        assert_int_equal(r, alloc_has_failed() ? -ENOMEM : 0);
        s->n = s->n ?: plan.n;
        if (r == 0)
                assert_int_equal(plan.n, s->n);
        engine_plan_done(&plan);
        return r;
}

static int explain(void *userdata) {
        const ClusterUnit *u = cluster_unit(&held.cluster, "old-1.service");
        SchedulerView *view = NULL;
        Error why = {};
        int r = scheduler_view_new(&held.cluster, held.cluster.now_ms, &view);

        if (r == 0)
                (void) engine_explain_unit(view, u, 30000, 0, &why);
        scheduler_view_free(view);
        assert_int_equal(why.message[0] != 0, !alloc_has_failed());
        return why.message[0] ? 0 : -ENOMEM;
}

/* It was on in this view, for a millisecond. */
static int ask_brake(void *userdata) {
        bool braked = engine_is_braked(&held.cluster, 1);

        assert_int_equal(braked, alloc_has_failed());
        return braked ? -ENOMEM : 0;
}

static int count_unit(void *userdata, const char *unit) {
        ++*(size_t *) userdata;
        return 0;
}

/* A change that could not be marked marks all units. */
static int mark_changes(void *userdata) {
        static const RegistryChange changes[] = {
                { .kind = CHANGED_TARGET, .unit = "edited.service" },
                { .kind = CHANGED_ASSIGNMENT,
                  .unit = "moved.service",
                  .machine = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" },
                { .kind = CHANGED_MACHINE, .machine = "cccccccccccccccccccccccccccccccc" },
                { .kind = CHANGED_STATE, .unit = "new-1.service" },
        };
        static size_t expected;
        EngineMarks marks = {};
        size_t n = 0;
        int r = 0;

        for (size_t i = 0; i < ELEMENTS(changes); i++)
                engine_marks_add(&marks, &calm.cluster, &changes[i]);
        if (marks.all) {
                engine_marks_done(&marks);
                return -ENOMEM;
        }
        r = engine_marks_expand(&marks, &calm.cluster, count_unit, &n);
        expected = expected ?: n;
        if (r == 0)
                assert_int_equal(n, expected);
        engine_marks_done(&marks);
        return r;
}

/* One of two in conflict moves, so that refusals are reported. */
static ClusterView crowded;

static void make_crowded_view(void) {
        char name[32];

        crowded = (ClusterView) { .cluster.now_ms = 100000 };
        cluster_view_machine(&crowded, "A", "a=b", PRESENCE_UP);
        cluster_view_machine(&crowded, "B", "a=c", PRESENCE_UP);
        cluster_view_machine(&crowded, "C", "", PRESENCE_LOST);
        for (unsigned i = 0; i < 4; i++) {
                snprintf(name, sizeof(name), "web@%u.service", i);
                cluster_view_unit(&crowded, name, i % 2 ? "Conflicts=db*" : "MachineMetadata=a=b",
                                  TARGET_LAUNCHED);
        }
        cluster_view_unit(&crowded, "db.service", "Replaces=web@3.service", TARGET_LAUNCHED);
        cluster_view_assign(&crowded, "C", "web@1.service", ASSIGNMENT_RUN);
        cluster_view_unit(&crowded, "x.service", "Conflicts=y.service", TARGET_LAUNCHED);
        cluster_view_unit(&crowded, "y.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&crowded, "A", "x.service", ASSIGNMENT_RUN);
        cluster_view_assign(&crowded, "A", "y.service", ASSIGNMENT_RUN);
}

static int plan_crowded(void *userdata) {
        size_t *n = userdata;
        EnginePlan plan = {};
        int r = engine_plan(&crowded.cluster, NULL, 0, 30000, &cluster_view_limits, &plan);

        *n = *n ?: plan.n; /* the first time, without failures */
        if (r == 0)
                assert_int_equal(plan.n, *n);
        engine_plan_done(&plan);
        return r;
}

static int decide(void *userdata) {
        const ClusterUnit *u = cluster_unit(&crowded.cluster, "web@0.service");
        const ClusterMachine *machine = NULL;
        SchedulerView *view = NULL;
        Error why = {};
        int r = scheduler_view_new(&crowded.cluster, crowded.cluster.now_ms, &view);

        r = r ?: scheduler_pick(view, u, &machine, &why);
        r = r ?: scheduler_view_decide(view, machine, u, true);
        if (r == 0)
                assert_true(scheduler_view_has(view, machine, u->name));
        r = r ?: scheduler_view_decide(view, machine, u, false);
        scheduler_view_free(view);
        return r;
}

static void plans_are_complete_or_fail_with_enomem(void **state) {
        static Strict plans[] = {
                { "a plan of all, where nothing is refused", &calm, NULL, 0, 0 },
                { "a plan that leaves a rest", &calm, NULL, 1, 0 },
                { "a plan of what the brake lets go", &held, "waits.service", 0, 0 },
                { "a plan and all units that it concerns", &alone, "new.service", 0, 0 },
        };
        size_t n = 0;

        make_views_without_refusals();
        make_crowded_view();
        for (size_t i = 0; i < ELEMENTS(plans); i++)
                survive(plans[i].name, plan_strictly, &plans[i]);
        survive("a plan with refusals", plan_crowded, &n);
        survive("an assignment is explained", explain, NULL);
        survive("the brake counts as on", ask_brake, NULL);
        survive("changes are marked", mark_changes, NULL);
        survive("a machine is picked", decide, NULL);
        cluster_view_free(&calm);
        cluster_view_free(&held);
        cluster_view_free(&alone);
        cluster_view_free(&crowded);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(plans_are_complete_or_fail_with_enomem),
        };

        log_set_max_priority(LOG_EMERG);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
