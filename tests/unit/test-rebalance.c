/* Moves that balance a cluster: which units are candidates, what a move has to improve, and the properties of
 * all plans. A failure prints the seed of its cluster:
 *
 *      test-rebalance [SEED]
 */
#include "tests/lib/test.h"

#include "base/clock.h"
#include "base/parse.h"
#include "fleetd/features/rebalance/rebalance.h"
#include "tests/lib/cluster_view.h"

enum { MACHINES_MAX = 8, UNITS_MAX = 40, CLUSTERS = 300, CLUSTERS_ALL = 10000, MOVES = REBALANCE_MOVES_MAX };

static const char *const hosts[MACHINES_MAX] = { "A", "B", "C", "D", "E", "F", "A1", "B1" };

static uint64_t only_seed, seed;

static void begin(ClusterView *p) {
        *p = (ClusterView) { .cluster.now_ms = 1000000, .cluster.level = KV_LEVEL_SCHEDULING };
}

/* 'memory' in MiB, 0: its capacity is unknown. 'zone' may be "". */
static void add_host(ClusterView *p, const char *name, unsigned memory, const char *zone) {
        char id[MACHINE_ID_SIZE], key[128], value[256];

        cluster_view_presence(p, name, PRESENCE_UP);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", cluster_view_id(id, name));
        snprintf(value, sizeof(value),
                 "{\"capacity\":{\"cpu\":800,\"memory\":%u},\"metadata\":{%s%s%s},\"name\":\"%s\"}", memory,
                 *zone ? "\"zone\":\"" : "", zone, *zone ? "\"" : "", name);
        cluster_view_put(p, key, value);
}

/* A unit that is available there. */
static void add(ClusterView *p, const char *name, const char *options, const char *host) {
        cluster_view_unit(p, name, options, TARGET_LAUNCHED);
        cluster_view_assign(p, host, name, ASSIGNMENT_RUN);
        cluster_view_state(p, host, name, "active");
}

typedef struct Plan {
        RebalanceMove moves[MOVES + 1]; /* the last step has none */
        size_t n, work;
} Plan;

/* 'pattern' NULL: all units. 'again': the view is renewed before each step, as after a change. Return 0 or
 * the error. */
static int plan(const ClusterView *p, const char *pattern, size_t max, bool again, Plan *ret) {
        _cleanup_names_ Names patterns = {};
        SchedulerView *view = NULL;
        Rebalance *r = NULL;
        Error err = {};
        int more = 1;

        ret->n = ret->work = 0;
        if (pattern)
                assert_int_equal(names_add(&patterns, pattern, strlen(pattern)), 0);
        assert_int_equal(rebalance_new(&patterns, max, &r), 0);
        for (unsigned steps = 0; more > 0; steps++) {
                if (!view || again || more == 2) {
                        ret->work += view ? scheduler_view_work(view) : 0;
                        view = scheduler_view_free(view);
                        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
                        assert_int_equal(rebalance_renew(r, view), 0);
                }
                more = rebalance_step(r, &ret->moves[ret->n], &err);
                ret->n += ret->moves[ret->n].unit != NULL;
                assert_true(steps < 1000000);
        }
        rebalance_free(r);
        scheduler_view_free(view);
        return more;
}

/* The plan as "a.service A B: REASON; ...". */
static void plans(const ClusterView *p, const char *pattern, const char *expected) {
        _cleanup_text_ Text t = {};
        Plan got;

        assert_int_equal(plan(p, pattern, MOVES, false, &got), 0);
        for (size_t i = 0; i < got.n; i++) {
                text_printf(&t, "%s%s %s %s: ", i > 0 ? "; " : "", got.moves[i].unit->name,
                            cluster_machine_name(got.moves[i].from), cluster_machine_name(got.moves[i].to));
                verdict_append(&t, &got.moves[i].reason);
        }
        assert_string_equal(t.chars ?: "", expected);
}

/* -- Cases -- */

static void the_fullest_machine_gives_to_the_emptiest_one(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p);
        add_host(&p, "A", 10240, "");
        add_host(&p, "B", 10240, "");
        add(&p, "a.service", "[Service]\nMemoryMax=3G", "A");
        add(&p, "b.service", "[Service]\nMemoryMax=2G", "A");
        add(&p, "c.service", "[Service]\nMemoryMax=1G", "A");
        plans(&p, NULL,
              "c.service A B: A is 60 % full, B 10 % after it; b.service A B: A is 50 % full, B 30 % after "
              "it");
        plans(&p, "b.*", "b.service A B: A is 60 % full, B 20 % after it");
}

static void a_small_difference_is_worth_no_move(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p);
        add_host(&p, "A", 10240, "");
        add_host(&p, "B", 10240, "");
        add(&p, "a.service", "[Service]\nMemoryMax=3G", "A");
        add(&p, "b.service", "[Service]\nMemoryMax=1G", "A");
        add(&p, "c.service", "[Service]\nMemoryMax=2201M", "B");
        plans(&p, NULL, "");
}

static void units_count_where_sizes_do_not_differ(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        char name[32];

        begin(&p);
        add_host(&p, "A", 1024000, "");
        add_host(&p, "B", 1024000, "");
        for (unsigned i = 0; i < 3; i++) {
                snprintf(name, sizeof(name), "u%u.service", i);
                add(&p, name, "[Service]\nCPUWeight=10", "A");
                if (i < 2)
                        plans(&p, NULL, "");
        }
        plans(&p, NULL, "u0.service A B: A has 3 units, B none");
}

static void siblings_are_spread_before_sizes_count(void **state) {
        static const struct {
                const char *options, *expected;
        } rows[] = {
                { "Replicas=4", "w@1.service A C: A has 3 of its instances, C none" },
                { "Spread=machine", "w@1.service A C: A has 3 of its instances, C none" },
                { "Spread=zone", "w@1.service A C: zone=a has 4 of its instances, zone=b none; "
                                 "w@2.service A C: zone=a has 3 of its instances, zone=b 1" },
                { "Spread=rack", "" }, /* all are in one domain */
                { "Spread=rack machine", "w@1.service A C: A has 3 of its instances, C none" },
                { "MaxPerMachine=2", "w@1.service A B: MaxPerMachine=2: w@3.service is there" },
                { "", "" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                begin(&p);
                add_host(&p, "A", 1024000, "a");
                add_host(&p, "B", 1024000, "a");
                add_host(&p, "C", 1024000, "b");
                add(&p, "big.service", "Move=no\n[Service]\nMemoryMax=50G", "C");
                cluster_view_unit(&p, "w@.service", rows[i].options, TARGET_INACTIVE);
                for (char name[] = "w@1.service"; name[2] < '5'; name[2]++)
                        add(&p, name, rows[i].options, name[2] < '4' ? "A" : "B");
                plans(&p, NULL, rows[i].expected);
        }
}

/* Neither empty nor full. */
static void an_unknown_capacity_draws_no_unit(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p);
        add_host(&p, "A", 1024, "");
        add_host(&p, "B", 0, "");
        for (char name[] = "a.service"; name[0] < 'g'; name[0]++)
                add(&p, name, "[Service]\nMemoryMax=100M", "A");
        plans(&p, NULL, "");
}

static void only_a_unit_that_may_and_can_move_is_a_candidate(void **state) {
        static const struct {
                const char *options, *active;
                bool moves, moves_named;
        } rows[] = {
                { "[Service]\nMemoryMax=1G", "active", true, true },
                { "Move=stop-first\n[Service]\nMemoryMax=1G", "active", false, true },
                { "Singleton=yes\n[Service]\nMemoryMax=1G", "active", false, true },
                { "Move=no\n[Service]\nMemoryMax=1G", "active" },
                { "Sticky=yes\n[Service]\nMemoryMax=1G", "active" },
                { "Global=yes\n[Service]\nMemoryMax=1G", "active" },
                { "MachineID=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n[Service]\nMemoryMax=1G", "active" },
                { "MachineOf=b.service\n[Service]\nMemoryMax=1G", "active" },
                { "[Service]\nType=oneshot\nRemainAfterExit=yes\nMemoryMax=1G", "active" },
                { "[Service]\nMemoryMax=1G", "failed" },
                { "[Service]\nMemoryMax=1G", "activating" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                static const char move[] = "a.service A B: A is 30 % full, B 10 % after it";
                _cleanup_cluster_view_ ClusterView p;

                begin(&p);
                add_host(&p, "A", 10240, "");
                add_host(&p, "B", 10240, "");
                add(&p, "b.service", "Move=no\n[Service]\nMemoryMax=2G", "A");
                add(&p, "a.service", rows[i].options, "A");
                if (streq(rows[i].active, "activating"))
                        cluster_view_active(&p, "A", "a.service", "starting");
                else
                        cluster_view_state(&p, "A", "a.service", rows[i].active);
                plans(&p, NULL, rows[i].moves ? move : "");
                plans(&p, "a.service", rows[i].moves_named ? move : "");
        }
}

static void a_unit_that_others_follow_stays(void **state) {
        static const char *const followers[][2] = { { "f.service", "MachineOf=a.service" },
                                                    { "a.timer", "" } };

        for (size_t i = 0; i < ELEMENTS(followers); i++) {
                _cleanup_cluster_view_ ClusterView p;

                begin(&p);
                add_host(&p, "A", 10240, "");
                add_host(&p, "B", 10240, "");
                add(&p, "b.service", "Move=no\n[Service]\nMemoryMax=2G", "A");
                add(&p, "a.service", "[Service]\nMemoryMax=1G", "A");
                plans(&p, NULL, "a.service A B: A is 30 % full, B 10 % after it");
                add(&p, followers[i][0], followers[i][1], "A");
                plans(&p, NULL, "");
        }
}

static void no_move_uses_room_that_another_one_frees(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p);
        add_host(&p, "A", 10240, "");
        add_host(&p, "B", 10240, "");
        add_host(&p, "C", 40960, "");
        add(&p, "a.service", "MemoryRequest=6G", "A");
        add(&p, "b.service", "MemoryRequest=5G", "B");
        add(&p, "d.service", "MemoryRequest=5G", "B");
        add(&p, "c.service", "Move=no\n[Service]\nMemoryMax=34G", "C");
        /* One of B would fit on A if a.service had left it. */
        plans(&p, "[bd].service", "");
        /* Nor do they exchange machines on which they exclude each other. */
        add(&p, "n.service", "Conflicts=m.service\n[Service]\nMemoryMax=3G", "A");
        add(&p, "m.service", "[Service]\nMemoryMax=1G", "C");
        plans(&p, "[an].service", "");
        plans(&p, "m.service", "");
}

static void an_unknown_name_is_an_error_and_a_known_one_without_a_move_is_none(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        Plan got;

        begin(&p);
        add_host(&p, "A", 10240, "");
        add(&p, "a.service", "", "A");
        assert_int_equal(plan(&p, "b*.service", MOVES, false, &got), -ENOENT);
        assert_int_equal(plan(&p, "a.service", MOVES, false, &got), 0);
        assert_int_equal(got.n, 0);
}

static void nothing_is_planned_while_units_leave_machines(void **state) {
        static const struct {
                const char *mode, *purpose, *why;
        } rows[] = {
                { "cordoned", "", NULL },
                { "drained", "", NULL },
                { "draining", "", "A is being drained: repeat the command when that has ended" },
                { "draining", "leave", "A is being drained: repeat the command when that has ended" },
        };
        _cleanup_cluster_view_ ClusterView p;
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], value[256];

        begin(&p);
        add_host(&p, "A", 1024, "");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Error err = {};

                snprintf(value, sizeof(value), "{\"mode\":\"%s\",\"purpose\":\"%s\"}", rows[i].mode,
                         rows[i].purpose);
                cluster_view_put(&p, layout_key(key, LAYOUT_MAINTENANCE, NULL, cluster_view_id(id, "A")),
                                 value);
                assert_int_equal(rebalance_is_refused(&p.cluster, false, &err), rows[i].why != NULL);
                if (rows[i].why)
                        assert_string_equal(err.message, rows[i].why);
        }
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        assert_false(rebalance_is_refused(&p.cluster, false, &(Error) {}));
        assert_true(rebalance_is_refused(&p.cluster, true, &(Error) {}));
        p.cluster.adopting = true;
        assert_true(rebalance_is_refused(&p.cluster, false, &(Error) {}));
}

/* -- The properties of all plans -- */

static const char *any(Random *random, const char *const *texts, size_t n) {
        return texts[random_below(random, n)];
}
#define ANY(random, texts) any(random, texts, ELEMENTS(texts))

/* *ret_alone: no rule depends on where other units are. */
static void any_cluster(ClusterView *p, Random *random, bool *ret_alone) {
        static const char *const zones[] = { "a", "b", "c", "" };
        static const char *const rules[] = { "MemoryRequest=300M", "Conflicts=w@*", "MemoryRequest=1G",
                                             "Conflicts=u1*.service" };
        static const char *const free_rules[] = {
                "", "", "Move=no", "Sticky=yes", "MachineMetadata=zone=a", "Move=stop-first",
        };
        static const char *const sets[] = { "Spread=machine", "Spread=zone machine", "",
                                            "MaxPerMachine=1\nSpread=machine",
                                            "MaxPerMachine=2\nSpread=zone machine" };
        static const char *const sizes[] = { "", "", "MemoryMax=100M", "MemoryMax=700M", "CPUQuota=200%" };
        size_t n_hosts = 2 + random_below(random, MACHINES_MAX - 1), n = random_below(random, UNITS_MAX);
        const char *set;

        begin(p);
        *ret_alone = random_below(random, 2) == 0;
        set = sets[random_below(random, *ret_alone ? 3 : ELEMENTS(sets))];
        cluster_view_unit(p, "w@.service", set, TARGET_INACTIVE);
        for (size_t i = 0; i < n_hosts; i++)
                add_host(p, hosts[i], random_below(random, 8) == 0 ? 0 : 1024 << random_below(random, 4),
                         ANY(random, zones));
        for (size_t i = 0; i < n; i++) {
                bool ruled = !*ret_alone && random_below(random, 2) == 0;
                const char *stem = random_below(random, 2) == 0 ? "u" : "w@";
                /* Often on the first ones. */
                const char *host = hosts[random_below(random, 1 + random_below(random, n_hosts))];
                char name[32], options[128];

                snprintf(name, sizeof(name), "%s%zu.service", stem, i);
                snprintf(options, sizeof(options), "%s\n[Service]\n%s",
                         *name == 'w' && !ruled ? set :
                         ruled                  ? ANY(random, rules) :
                                                  ANY(random, free_rules),
                         ANY(random, sizes));
                add(p, name, options, host);
        }
}

enum { FIGURES_MAX = 1 + 2 + MACHINES_MAX };

static int compare_down(const void *a, const void *b) {
        const uint64_t *x = a, *y = b;

        return *x < *y ? 1 : -(*x > *y);
}

static bool is_in(const ClusterMachine *m, const char *key, const ClusterMachine *of) {
        const char *a = pairs_get(&m->metadata, key), *b = pairs_get(&of->metadata, key);

        return streq(key, "machine") ? m == of : a && b ? streq(a, b) : a == b;
}

static uint64_t count_siblings(const SchedulerView *view, const char *key, const ClusterMachine *of) {
        uint64_t n = 0;

        for (const ClusterUnit *u = scheduler_view_cluster(view)->units; u; u = u->hh.next)
                for (size_t i = 0; u->name[0] == 'w' && i < scheduler_view_n_machines(view); i++) {
                        const ClusterMachine *m = scheduler_view_by_name(view, i);

                        n += is_in(m, key, of) && scheduler_view_has(view, m, u->name);
                }
        return n;
}

/* The measure of rebalance.h, of a set w@: instances above MaxPerMachine=; squares by each of its keys; then
 * the fullness. */
static void measure(const SchedulerView *view, uint64_t ret[static FIGURES_MAX]) {
        const Placement *p = &cluster_unit(scheduler_view_cluster(view), "w@.service")->unit->placement;
        size_t n = scheduler_view_n_machines(view);

        memset(ret, 0, FIGURES_MAX * sizeof(*ret));
        for (size_t i = 0; i < n; i++) {
                const ClusterMachine *m = scheduler_view_by_name(view, i);
                uint64_t here = count_siblings(view, "machine", m);

                ret[0] += p->max_per_machine > 0 ? here - MIN(here, p->max_per_machine) : 0;
                for (size_t k = 0; k < p->spread.n;
                     k++) /* the square of a domain, in parts of its machines */
                        ret[1 + k] += here * count_siblings(view, p->spread.items[k], m);
                ret[3 + i] = scheduler_view_fullness(view, m, (Resources) {});
        }
        qsort(ret + 3, n, sizeof(*ret), compare_down);
}

static bool is_lower(const uint64_t *a, const uint64_t *b) {
        for (size_t i = 0; i < FIGURES_MAX; i++)
                if (a[i] != b[i])
                        return a[i] < b[i];
        return false;
}

static void check_measure(const ClusterView *p, const Plan *made) {
        uint64_t before[FIGURES_MAX], after[FIGURES_MAX];
        SchedulerView *view;

        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        measure(view, before);
        for (size_t i = 0; i < made->n; i++) {
                const RebalanceMove *m = &made->moves[i];

                assert_int_equal(scheduler_view_decide(view, m->to, m->unit, true), 0);
                assert_int_equal(scheduler_view_remove(view, m->from, m->unit), 0);
                measure(view, after);
                if (!is_lower(after, before))
                        fail_msg("seed %llu: move %zu of %s lowers nothing", (unsigned long long) seed, i,
                                 m->unit->name);
                memcpy(before, after, sizeof(before));
        }
        scheduler_view_free(view);
}

/* Begin the moves in any order; some have ended before the next one begins, others have not. */
static void check_permutation(const ClusterView *p, const Plan *made, Random *random) {
        size_t order[MOVES];
        SchedulerView *view;
        Error why = {};

        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        for (size_t i = 0; i < made->n; i++) {
                size_t k = random_below(random, i + 1);

                order[i] = order[k];
                order[k] = i;
        }
        for (size_t i = 0; i < made->n; i++) {
                const RebalanceMove *m = &made->moves[order[i]];

                if (!scheduler_fits(view, m->unit, m->to, false, &why))
                        fail_msg("seed %llu: %s does not fit on %s: %s", (unsigned long long) seed,
                                 m->unit->name, cluster_machine_name(m->to), why.message);
                assert_int_equal(scheduler_view_decide(view, m->to, m->unit, true), 0);
                if (random_below(random, 2) == 0)
                        assert_int_equal(scheduler_view_remove(view, m->from, m->unit), 0);
        }
        scheduler_view_free(view);
}

static void execute(ClusterView *p, const Plan *made) {
        for (size_t i = 0; i < made->n; i++) {
                const RebalanceMove *m = &made->moves[i];
                char name[UNIT_NAME_MAX + 1], key[LAYOUT_KEY_MAX];

                snprintf(name, sizeof(name), "%s", m->unit->name);
                cluster_view_state(p, cluster_machine_name(m->from), name, NULL);
                cluster_view_remove(p, layout_key(key, LAYOUT_ASSIGNMENT, name, m->from->id));
                cluster_view_assign(p, cluster_machine_name(m->to), name, ASSIGNMENT_RUN);
                cluster_view_state(p, cluster_machine_name(m->to), name, "active");
        }
}

static void check_same(const Plan *a, const Plan *b, size_t n) {
        if (b->n != n)
                fail_msg("seed %llu: %zu and %zu moves", (unsigned long long) seed, b->n, n);
        for (size_t i = 0; i < n; i++)
                if (a->moves[i].unit != b->moves[i].unit || a->moves[i].to != b->moves[i].to)
                        fail_msg("seed %llu: move %zu differs", (unsigned long long) seed, i);
}

static size_t n_again; /* clusters with a second plan, without rules about others */

static size_t check_cluster(void) {
        _cleanup_cluster_view_ ClusterView p;
        Plan made, other;
        size_t first = 0;
        bool alone;
        Random random;

        random_seed(&random, seed);
        any_cluster(&p, &random, &alone);
        for (unsigned rounds = 0;; rounds++) {
                assert_int_equal(plan(&p, NULL, MOVES, false, &made), 0);
                first = first ?: made.n;
                if (made.n == 0)
                        break;
                /* Room that was freed permits more moves. Without rules about others there is none, but for
                 * two moves of which each gains only after the other one. */
                if (rounds > 10)
                        fail_msg("seed %llu: %zu moves follow", (unsigned long long) seed, made.n);
                n_again += rounds > 0 && alone;
                if (seed % 8 == 0) { /* a change of nothing changes nothing */
                        assert_int_equal(plan(&p, NULL, MOVES, true, &other), 0);
                        check_same(&made, &other, made.n);
                }
                assert_int_equal(plan(&p, NULL, 1, false, &other), 0);
                assert_int_equal(other.n, 1);
                check_measure(&p, &made);
                for (unsigned i = 0; i < 3; i++)
                        check_permutation(&p, &made, &random);
                execute(&p, &made);
        }
        return first;
}

static void each_part_of_a_plan_is_admissible_and_each_move_lowers_the_measure(void **state) {
        const char *all = getenv("CHECK_ALL");
        uint64_t n = all && *all ? CLUSTERS_ALL : CLUSTERS;
        size_t moves = 0;

        for (seed = only_seed ?: 1; seed <= (only_seed ?: n); seed++)
                moves += check_cluster();
        if (!only_seed)
                assert_true(moves > n);
        if (n_again > n / 500)
                fail_msg("%zu second plans", n_again);
}

/* The instances of a set are on a tenth of the hosts. */
static void a_large_cluster_gets_the_moves_that_are_found_in_the_work_of_a_plan(void **state) {
        static const struct {
                unsigned hosts, units, least, most;
        } rows[] = { { 50, 2000, MOVES, MOVES }, { 200, 4000, 2, MOVES - 1 } };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;
                char name[32], host[16];
                Plan got;

                begin(&p);
                cluster_view_unit(&p, "w@.service", "Spread=machine", TARGET_INACTIVE);
                for (unsigned k = 0; k < rows[i].hosts; k++) {
                        snprintf(host, sizeof(host), "A%u", k);
                        add_host(&p, host, 65536, "");
                }
                for (unsigned k = 0; k < rows[i].units; k++) {
                        snprintf(name, sizeof(name), "w@%u.service", k);
                        snprintf(host, sizeof(host), "A%u", k % (rows[i].hosts / 10));
                        add(&p, name, "Spread=machine", host);
                }
                assert_int_equal(plan(&p, NULL, MOVES, false, &got), 0);
                assert_in_range(got.n, rows[i].least, rows[i].most);
                assert_in_range(got.work, 1, REBALANCE_WORK_MAX * 3 / 2);
        }
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_fullest_machine_gives_to_the_emptiest_one),
                cmocka_unit_test(a_small_difference_is_worth_no_move),
                cmocka_unit_test(units_count_where_sizes_do_not_differ),
                cmocka_unit_test(siblings_are_spread_before_sizes_count),
                cmocka_unit_test(an_unknown_capacity_draws_no_unit),
                cmocka_unit_test(only_a_unit_that_may_and_can_move_is_a_candidate),
                cmocka_unit_test(a_unit_that_others_follow_stays),
                cmocka_unit_test(no_move_uses_room_that_another_one_frees),
                cmocka_unit_test(an_unknown_name_is_an_error_and_a_known_one_without_a_move_is_none),
                cmocka_unit_test(nothing_is_planned_while_units_leave_machines),
                cmocka_unit_test(a_large_cluster_gets_the_moves_that_are_found_in_the_work_of_a_plan),
                cmocka_unit_test(each_part_of_a_plan_is_admissible_and_each_move_lowers_the_measure),
        };

        if (argc > 1)
                (void) parse_u64(argv[1], &only_seed);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
