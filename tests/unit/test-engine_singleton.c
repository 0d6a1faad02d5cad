/* Plans of singletons (fleetd/engine/singleton.c). */
#include "tests/lib/test.h"
#include "tests/lib/plans.h"
#include "tests/lib/words_of.h"
#include "units/singleton.h"

#define ONE "one.service"

/* Lease, watchdog and stop timeout, 2 percent, and 1 s. */
enum { HOLD_MS = 108100 };

/* Two machines; A runs the singleton. */
static void singleton_on_a(ClusterView *p) {
        two_machines(p);
        cluster_view_unit(p, ONE, "Singleton=yes\n", TARGET_LAUNCHED);
        plans(p, "run one.service A");
        cluster_view_execute(p);
        plans(p, "");
}

static EnginePlan plan_of(const ClusterView *p, uint64_t leads_ms) {
        EnginePlan plan = {};

        assert_int_equal(engine_plan(&p->cluster, NULL, 0, 30000,
                                     &(EnginePlanLimits) { .names_texts = true, .leads_ms = leads_ms },
                                     &plan),
                         0);
        return plan;
}

static void it_starts_elsewhere_when_its_lease_has_ended(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        EnginePlan plan;

        singleton_on_a(&p);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "stop one.service A");
        plan = plan_of(&p, 0);
        assert_int_equal(plan.n, 0);
        assert_int_equal(plan.again_ms, HOLD_MS);
        assert_non_null(strstr(words_of(plan.waits[0].why), "waits until its lease has ended"));
        engine_plan_done(&plan);
        p.cluster.now_ms += HOLD_MS - 1;
        plans(&p, "");
        p.cluster.now_ms++;
        plans(&p, "run one.service B");
}

/* The former leader may have confirmed a lease until this one was elected. */
static void each_leader_waits_from_its_begin(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        _cleanup_(engine_plan_done) EnginePlan plan;

        singleton_on_a(&p);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "stop one.service A");
        p.cluster.now_ms += HOLD_MS;
        plan = plan_of(&p, p.cluster.now_ms - 10);
        assert_int_equal(plan.n, 0);
        assert_int_equal(plan.again_ms, HOLD_MS - 10);
}

static void it_starts_elsewhere_when_its_end_was_reported(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, ONE, "Singleton=yes\n", TARGET_LAUNCHED);
        plans(&p, "run one.service A");
        cluster_view_execute(&p);
        cluster_view_machine(&p, "B", "zone=b", PRESENCE_UP);
        cluster_view_text(&p, ONE, "Singleton=yes\nMachineMetadata=zone=b\n", "/bin/true");
        cluster_view_roll(&p, ONE);
        plans(&p, "stop one.service A");
        plans(&p, ""); /* it is being stopped */
        cluster_view_execute(&p);
        plans(&p, "run one.service B");
}

static void a_machine_that_returns_keeps_it(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        singleton_on_a(&p);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "stop one.service A");
        p.cluster.now_ms += 1000;
        cluster_view_presence(&p, "A", PRESENCE_UP);
        plans(&p, "run one.service A");
}

/* An ordinary unit stays where it is. */
static void a_machine_that_is_away_renews_no_lease(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        singleton_on_a(&p);
        cluster_view_presence(&p, "A", PRESENCE_AWAY);
        plans(&p, "");
        p.cluster.now_ms += SINGLETON_LEASE_MS + SINGLETON_WATCHDOG_MS - 1;
        plans(&p, "");
        p.cluster.now_ms++;
        plans(&p, "stop one.service A");
        p.cluster.now_ms += HOLD_MS;
        plans(&p, "run one.service B");
}

static void without_another_machine_nothing_stops(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        singleton_on_a(&p);
        cluster_view_presence(&p, "B", PRESENCE_LEFT);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "");
}

/* Its process has no guard: only its machine can tell that it has ended. */
static void a_unit_that_becomes_a_singleton_is_stopped_first(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, ONE, "", TARGET_LAUNCHED);
        plans(&p, "run one.service A");
        cluster_view_execute(&p);
        cluster_view_text(&p, ONE, "Singleton=yes\n", "/bin/true");
        cluster_view_roll(&p, ONE);
        plans(&p, "stop one.service A");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        p.cluster.now_ms += 3600000;
        plans(&p, "");
        cluster_view_presence(&p, "A", PRESENCE_UP);
        plans(&p, "");
        cluster_view_execute(&p);
        plans(&p, "run one.service A");
}

/* -- Texts of assignments: a rollout alone changes them -- */

/* Plan, apply the plan, and return how many changes it has. */
static size_t named(ClusterView *p) {
        EnginePlan plan = {};
        size_t n;

        assert_int_equal(engine_plan(&p->cluster, NULL, 0, 30000, &cluster_view_limits, &plan), 0);
        cluster_view_apply(p, &plan);
        n = plan.n;
        engine_plan_done(&plan);
        return n;
}

/* A runs the unit with a former text, which has 'options'; the wanted one has 'wanted'. */
static void with_former_text(ClusterView *p, const char *options, const char *wanted) {
        two_machines(p);
        cluster_view_unit(p, ONE, options, TARGET_LAUNCHED);
        assert_int_equal(named(p), 1);
        cluster_view_execute(p);
        cluster_view_text(p, ONE, wanted, "/bin/true");
        assert_int_equal(named(p), 0);
}

static const ClusterAssignment *on(const ClusterView *p, const char *machine) {
        char id[MACHINE_ID_SIZE];

        return cluster_assignment(&p->cluster, cluster_view_id(id, machine), ONE);
}

/* No move changes a text: also the next machine runs the former one, with its guard. */
static void a_former_text_keeps_its_guard(void **state) {
        char former[UNIT_HASH_SIZE];
        _cleanup_cluster_view_ ClusterView p;

        with_former_text(&p, "Singleton=yes\n", "");
        memcpy(former, on(&p, "A")->hash, sizeof(former));
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        assert_int_equal(named(&p), 1);
        assert_int_equal(on(&p, "A")->kind, ASSIGNMENT_STOP);
        assert_int_equal(named(&p), 0);
        p.cluster.now_ms += HOLD_MS;
        assert_int_equal(named(&p), 1);
        assert_int_equal(on(&p, "B")->kind, ASSIGNMENT_RUN);
        assert_string_equal(on(&p, "B")->hash, former);
        assert_int_equal(on(&p, "B")->hold_ms, HOLD_MS);
        assert_int_equal(named(&p), 0);
}

/* It has no guard yet: it gets one with the text of the rollout. */
static void a_former_text_without_a_guard_moves_as_before(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        with_former_text(&p, "", "Singleton=yes\n");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        assert_int_equal(named(&p), 1);
        assert_int_equal(on(&p, "B")->kind, ASSIGNMENT_RUN);
        assert_int_equal(on(&p, "B")->hold_ms, 0);
}

/* The process may have the text from before. */
static void the_longest_stop_of_its_texts_counts(void **state) {
        static const char shorter[] =
                "{\"hash\":\"\",\"owner\":\"\",\"path\":\"\",\"text\":\"[Service]\\nExecStart=/bin/true\\n"
                "TimeoutStopSec=1\\n[X-Fleet]\\nSingleton=yes\\n\"}";
        _cleanup_cluster_view_ ClusterView p;

        singleton_on_a(&p);
        p.below_updates = true;
        cluster_view_put(&p, "/_fleet/unit/one.service", shorter);
        plans(&p, "run one.service A");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "stop one.service A");
        p.cluster.now_ms += HOLD_MS - 1;
        plans(&p, "");
        p.cluster.now_ms++;
        plans(&p, "run one.service B");
}

static void of_two_machines_one_keeps_it(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        singleton_on_a(&p);
        cluster_view_assign(&p, "B", ONE, ASSIGNMENT_RUN); /* as an older leader does */
        plans(&p, "stop one.service B");
}

static void a_machine_that_reports_it_keeps_it(void **state) {
        static const char *const states[] = { "active", "reloading", "refreshing" };
        ClusterView p;

        for (size_t i = 0; i < ELEMENTS(states); i++) {
                two_machines(&p);
                cluster_view_unit(&p, ONE, "Singleton=yes\n", TARGET_LAUNCHED);
                cluster_view_state(&p, "B", ONE, states[i]);
                plans(&p, "run one.service B");
                cluster_view_free(&p);
        }
}

static void a_lost_machine_that_reported_it_is_waited_for(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        _cleanup_(engine_plan_done) EnginePlan plan;

        two_machines(&p);
        cluster_view_unit(&p, ONE, "Singleton=yes\n", TARGET_LAUNCHED);
        cluster_view_state(&p, "B", ONE, "active");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plan = plan_of(&p, p.cluster.now_ms);
        assert_int_equal(plan.n, 0);
        assert_int_equal(plan.again_ms, HOLD_MS);
}

static uint64_t stop_ms(const char *service) {
        _cleanup_unit_file_ UnitFile file = {};
        char text[512];

        snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/true\n%s", service);
        assert_int_equal(unit_file_parse(text, strlen(text), UNIT_FILE_LITERAL, &file, NULL), 0);
        return singleton_stop_ms(&file, NULL);
}

static void a_stop_takes_its_timeout_for_each_command(void **state) {
        assert_int_equal(stop_ms(""), 90000);
        assert_int_equal(stop_ms("TimeoutStopSec=5\n"), 5000);
        assert_int_equal(stop_ms("TimeoutSec=2min\n"), 120000);
        assert_int_equal(
                stop_ms("TimeoutStopSec=5s\nExecStop=/bin/a\nExecStop=/bin/b\nExecStopPost=/bin/c\n"), 20000);
        assert_int_equal(stop_ms("TimeoutStopSec=infinity\n"), SINGLETON_STOP_MAX_MS);
        assert_int_equal(stop_ms("TimeoutStopSec=0\n"), SINGLETON_STOP_MAX_MS);
        assert_int_equal(stop_ms("TimeoutStopSec=18446744073709551\n"), SINGLETON_STOP_MAX_MS);
}

static void refuses(const char *name, const char *service, const char *why) {
        _cleanup_unit_file_ UnitFile file = {};
        char text[512];
        Error err = {};
        int r;

        snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/true\n%s", service);
        assert_int_equal(unit_file_parse(text, strlen(text), UNIT_FILE_LITERAL, &file, NULL), 0);
        r = singleton_check(name, &file, &err);
        assert_int_equal(r, why ? -EINVAL : 0);
        if (why)
                assert_non_null(strstr(err.message, why));
}

static void what_may_outlive_a_stop_is_rejected(void **state) {
        char long_name[256];

        memset(long_name, 'a', 220);
        snprintf(long_name + 220, sizeof(long_name) - 220, ".service");
        refuses(ONE, "TimeoutStopSec=600\nKillMode=mixed\n", "must end within 600 s");
        refuses(ONE, "TimeoutStopSec=599\nKillMode=mixed\nSendSIGKILL=yes\nTimeoutStopFailureMode=kill\n",
                NULL);
        refuses(ONE, "TimeoutStopSec=infinity\n",
                "line 3: TimeoutStopSec=infinity cannot be used with Singleton=yes");
        refuses(ONE, "TimeoutStopSec=601\n", "expected a number of seconds up to 600");
        refuses(ONE, "KillMode=process\n", "line 3: KillMode=process cannot be used");
        refuses(ONE, "KillMode=none\n", "remove the option");
        refuses(ONE, "SendSIGKILL=no\n", "SendSIGKILL=no");
        refuses(ONE, "FinalKillSignal=SIGTERM\n", "FinalKillSignal=SIGTERM");
        refuses(ONE, "TimeoutAbortSec=5\n", "TimeoutAbortSec=5");
        refuses(ONE, "TimeoutStopFailureMode=abort\n", "TimeoutStopFailureMode=abort");
        refuses(ONE, "TimeoutStopSec=300\nExecStop=/bin/a\n", "use fewer commands");
        refuses("one.socket", "", "in services only");
        refuses(long_name, "", "at most 200 bytes");
}

static void a_lease_has_bounds(void **state) {
        assert_int_equal(singleton_lease_ms(0), SINGLETON_LEASE_MS);
        assert_int_equal(singleton_lease_ms(1), SINGLETON_LEASE_MIN_MS);
        assert_int_equal(singleton_lease_ms(30000), 30000);
        assert_int_equal(singleton_lease_ms(UINT64_MAX), SINGLETON_LEASE_MAX_MS);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(it_starts_elsewhere_when_its_lease_has_ended),
                cmocka_unit_test(each_leader_waits_from_its_begin),
                cmocka_unit_test(it_starts_elsewhere_when_its_end_was_reported),
                cmocka_unit_test(a_machine_that_returns_keeps_it),
                cmocka_unit_test(a_machine_that_is_away_renews_no_lease),
                cmocka_unit_test(without_another_machine_nothing_stops),
                cmocka_unit_test(a_unit_that_becomes_a_singleton_is_stopped_first),
                cmocka_unit_test(a_former_text_keeps_its_guard),
                cmocka_unit_test(a_former_text_without_a_guard_moves_as_before),
                cmocka_unit_test(the_longest_stop_of_its_texts_counts),
                cmocka_unit_test(of_two_machines_one_keeps_it),
                cmocka_unit_test(a_machine_that_reports_it_keeps_it),
                cmocka_unit_test(a_lost_machine_that_reported_it_is_waited_for),
                cmocka_unit_test(a_stop_takes_its_timeout_for_each_command),
                cmocka_unit_test(what_may_outlive_a_stop_is_rejected),
                cmocka_unit_test(a_lease_has_bounds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
