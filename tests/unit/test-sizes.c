/* Sizes and requests of units, and capacities of machines, in the choice of a machine. */
#include "base/clock.h"
#include "fleetd/scheduler/scheduler.h"
#include "fleetd/scheduler/scores.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/test.h"

enum { MACHINES = 6, UNITS = 24, CASES = 300 };

static const char *const names[] = { "A", "B", "C", "D", "E", "F" };

static ClusterMachine *machine(const ClusterView *p, const char *name) {
        char id[MACHINE_ID_SIZE];

        return cluster_machine(&p->cluster, cluster_view_id(id, name));
}

/* 'capacity': the JSON of its value; "": absent. 'metadata': further members, with a comma before them. */
static void add_machine_with(ClusterView *p, const char *name, const char *capacity, const char *metadata) {
        char id[MACHINE_ID_SIZE], key[128], value[256];

        cluster_view_presence(p, name, PRESENCE_UP);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", cluster_view_id(id, name));
        snprintf(value, sizeof(value), "{\"name\":\"%s\"%s%s%s}", name, *capacity ? ",\"capacity\":" : "",
                 capacity, metadata);
        cluster_view_put(p, key, value);
}

static void add_machine(ClusterView *p, const char *name, const char *capacity) {
        add_machine_with(p, name, capacity, "");
}

static void restrict_machine(ClusterView *p, const char *name) {
        char id[MACHINE_ID_SIZE], key[128];

        snprintf(key, sizeof(key), "/_fleet/cluster/host/%s", cluster_view_id(id, name));
        cluster_view_put(
                p, key,
                "{\"joined\":1,\"pins\":[\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
                "abcdef\"],\"restricted\":true}");
}

static void place(ClusterView *p, const char *name, const char *options, const char *on) {
        cluster_view_unit(p, name, options, TARGET_LAUNCHED);
        cluster_view_assign(p, on, name, ASSIGNMENT_RUN);
}

static const char *refusal(const ClusterView *p, const char *name, const char *on, bool staying) {
        static Error err;
        SchedulerView *view;

        err = (Error) {};
        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        (void) scheduler_fits(view, cluster_unit(&p->cluster, name), machine(p, on), staying, &err);
        scheduler_view_free(view);
        return err.message;
}

static const char *pick(const ClusterView *p, const char *name, Error *err) {
        const ClusterMachine *m = NULL;
        SchedulerView *view;
        int r;

        *err = (Error) {};
        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        r = scheduler_pick(view, cluster_unit(&p->cluster, name), &m, err);
        scheduler_view_free(view);
        return r == 0 ? cluster_machine_name(m) : "";
}

static void only_a_request_waits_for_room_and_its_refusal_has_the_figures(void **state) {
        static const struct {
                const char *options, *refusal;
        } rows[] = {
                { "MemoryRequest=4G",
                  "memory: requests 4.0G, 2.5G of 15.5G is free (2 units request 13.0G)" },
                { "MemoryRequest=2560M", "" },
                { "CPURequest=200%", "cpu: requests 200%, 180% of 780% is free (2 units request 600%)" },
                { "CPURequest=180%", "" },
                { "[Service]\nMemoryMax=100G", "" },
                { "MemoryRequest=0\n[Service]\nMemoryMax=100G", "" },
        };
        _cleanup_cluster_view_ ClusterView p = {};

        add_machine(&p, "A", "{\"cpu\":780,\"memory\":15872}");
        place(&p, "a.service", "MemoryRequest=12G", "A");
        place(&p, "b.service", "MemoryRequest=1G\nCPURequest=600%", "A");
        place(&p, "c.service", "[Service]\nMemoryMax=9G", "A");
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                cluster_view_unit(&p, "new.service", rows[i].options, TARGET_LAUNCHED);
                assert_string_equal(refusal(&p, "new.service", "A", false), rows[i].refusal);
                assert_string_equal(refusal(&p, "new.service", "A", true), "");
        }
        cluster_view_unit(&p, "new.service", "MemoryRequest=4G", TARGET_LAUNCHED);
        /* What runs is adopted, and a growing text stops nothing. */
        cluster_view_unit(&p, "b.service", "MemoryRequest=40G", TARGET_LAUNCHED);
        assert_string_equal(refusal(&p, "b.service", "A", true), "");

        p.cluster.level = KV_LEVEL_SCHEDULING - 1;
        assert_string_equal(refusal(&p, "new.service", "A", false), "");
}

/* By an earlier plan, or by a decision of this one. */
static void a_unit_that_is_being_stopped_holds_its_room_until_it_is_gone(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        const ClusterUnit *a, *new;
        const ClusterMachine *m;
        SchedulerView *view;

        add_machine(&p, "A", "{\"cpu\":400,\"memory\":1024}");
        place(&p, "a.service", "MemoryRequest=1000M", "A");
        cluster_view_unit(&p, "new.service", "MemoryRequest=100M", TARGET_LAUNCHED);
        a = cluster_unit(&p.cluster, "a.service");
        new = cluster_unit(&p.cluster, "new.service");
        m = machine(&p, "A");

        assert_int_equal(scheduler_view_new(&p.cluster, 0, &view), 0);
        assert_int_equal(scheduler_view_decide(view, m, a, false), 0);
        assert_false(scheduler_fits(view, new, m, false, NULL));
        assert_int_equal(scheduler_view_remove(view, m, a), 0);
        assert_true(scheduler_fits(view, new, m, false, NULL));
        scheduler_view_free(view);

        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_STOP);
        assert_string_equal(refusal(&p, "new.service", "A", false),
                            "memory: requests 100M, 24M of 1.0G is free (1 unit requests 1000M)");
        assert_string_equal(refusal(&p, "a.service", "A", false), ""); /* its own room is its own */
        cluster_view_execute(&p);
        assert_string_equal(refusal(&p, "new.service", "A", false), "");
}

static void an_unknown_capacity_refuses_nothing(void **state) {
        static const char *const values[] = { "",
                                              "0",
                                              "{\"cpu\":0,\"memory\":15360}",
                                              "{\"cpu\":-1,\"memory\":9}",
                                              "[]",
                                              "\"x\"",
                                              "null",
                                              "{}",
                                              "{\"cpu\":400}",
                                              "{\"memory\":15360}",
                                              "{\"cpu\":\"400\",\"memory\":\"9\"}",
                                              "{\"cpu\":1.5,\"memory\":1e30}" };

        for (size_t i = 0; i < ELEMENTS(values); i++) {
                _cleanup_cluster_view_ ClusterView p = {};
                Error why;

                add_machine(&p, "A", values[i]);
                add_machine(&p, "B", "{\"cpu\":400,\"memory\":1024}");
                place(&p, "b.service", "", "B");
                place(&p, "a1.service", "", "A");
                place(&p, "a2.service", "", "A");
                cluster_view_unit(&p, "big.service", "MemoryRequest=1T", TARGET_LAUNCHED);
                assert_string_equal(refusal(&p, "big.service", "A", false), "");
                cluster_view_unit(&p, "new.service", "", TARGET_LAUNCHED);
                assert_string_equal(pick(&p, "new.service", &why), "B"); /* neither empty nor full */
                assert_string_equal(why.message, "B had the fewest units (1) of 2 machines that qualify");

                /* Only while it qualifies. */
                add_machine(&p, "C", "{\"cpu\":400,\"memory\":8192}");
                place(&p, "c1.service", "", "C");
                place(&p, "c2.service", "", "C");
                cluster_view_unit(&p, "large.service", "[Service]\nMemoryMax=512M", TARGET_LAUNCHED);
                assert_string_equal(pick(&p, "large.service", &why), "B");
                cluster_view_presence(&p, "A", PRESENCE_LOST);
                assert_string_equal(pick(&p, "large.service", &why), "C");
        }
}

static void the_largest_values_overflow_nothing(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error why;

        add_machine(&p, "A", "{\"cpu\":9223372036854775807,\"memory\":9223372036854775807}");
        add_machine(&p, "B", "{\"cpu\":1,\"memory\":1}");
        for (size_t i = 0; i < 300; i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%zu.service", i);
                place(&p, name, "MemoryRequest=16T\nCPURequest=100000%", "A");
                place(&p, name, "MemoryRequest=16T\nCPURequest=100000%", "B");
        }
        cluster_view_unit(&p, "new.service", "MemoryRequest=16T", TARGET_LAUNCHED);
        assert_string_equal(
                refusal(&p, "new.service", "A", false),
                "memory: requests 16384.0G, 0M of 4194303.9G is free (300 units request 4915200.0G)");
        cluster_view_unit(&p, "new.service", "[Service]\nMemoryMax=1T", TARGET_LAUNCHED);
        assert_string_equal(pick(&p, "new.service", &why), "A");
}

/* Each choice, and its reason, is that of a machine which is not restricted and has the median. */
static void a_restricted_host_counts_as_at_most_the_median(void **state) {
        static const struct {
                const char *capacity, *counts;
        } rows[] = {
                { "", "{\"cpu\":200,\"memory\":2048}" },
                { "0", "{\"cpu\":200,\"memory\":2048}" },
                { "{\"cpu\":0,\"memory\":0}", "{\"cpu\":200,\"memory\":2048}" },
                { "{\"cpu\":100,\"memory\":0}", "{\"cpu\":200,\"memory\":2048}" },
                { "{\"cpu\":-100,\"memory\":-512}", "{\"cpu\":200,\"memory\":2048}" },
                { "{\"cpu\":1000000000,\"memory\":1000000000}", "{\"cpu\":200,\"memory\":2048}" },
                { "{\"cpu\":100,\"memory\":1000000000}", "{\"cpu\":100,\"memory\":2048}" },
                { "{\"cpu\":1000000000,\"memory\":512}", "{\"cpu\":200,\"memory\":512}" },
                { "{\"cpu\":100,\"memory\":512}", "{\"cpu\":100,\"memory\":512}" },
        };
        static const char *const units[] = { "", "[Service]\nMemoryMax=700M", "[Service]\nCPUQuota=90%",
                                             "MemoryRequest=1500M", "CPURequest=150%" };

        for (size_t i = 0; i < ELEMENTS(rows) * ELEMENTS(units) * 2; i++) {
                const char *options = units[i % ELEMENTS(units)];
                const char *found[2];
                Error why[2];

                for (size_t k = 0; k < 2; k++) {
                        _cleanup_cluster_view_ ClusterView p = {};
                        size_t row = i / ELEMENTS(units) / 2;

                        add_machine(&p, "A", "{\"cpu\":100,\"memory\":1024}");
                        add_machine(&p, "B", "{\"cpu\":200,\"memory\":4096}");
                        add_machine(&p, "C", "{\"cpu\":800,\"memory\":2048}");
                        add_machine(&p, "D", k == 0 ? rows[row].capacity : rows[row].counts);
                        if (k == 0)
                                restrict_machine(&p, "D");
                        if (i / ELEMENTS(units) % 2)
                                for (size_t u = 0; u < 3; u++)
                                        place(&p,
                                              (const char *const[]) { "a.service", "b.service",
                                                                      "c.service" }[u],
                                              "[Service]\nMemoryMax=900M\nCPUQuota=60%", names[u]);
                        cluster_view_unit(&p, "new.service", options, TARGET_LAUNCHED);
                        found[k] = strdup(pick(&p, "new.service", &why[k]));
                }
                assert_string_equal(found[0], found[1]);
                assert_string_equal(why[0].message, why[1].message);
                free((char *) found[0]);
                free((char *) found[1]);
        }
}

static void restricted_hosts_alone_have_no_known_capacity(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error why;

        add_machine(&p, "A", "{\"cpu\":400,\"memory\":1024}");
        add_machine(&p, "B", "{\"cpu\":400,\"memory\":8192}");
        restrict_machine(&p, "A");
        restrict_machine(&p, "B");
        place(&p, "b.service", "", "B");
        cluster_view_unit(&p, "new.service", "MemoryRequest=4G", TARGET_LAUNCHED);
        assert_string_equal(pick(&p, "new.service", &why), "A");
        assert_string_equal(why.message, "A had the fewest units (0) of 2 machines that qualify");
}

static void no_machine_gets_more_instances_than_allowed(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};

        add_machine(&p, "A", "");
        add_machine(&p, "B", "");
        place(&p, "web@1.service", "MaxPerMachine=2", "A");
        place(&p, "web@2.service", "MaxPerMachine=2", "A");
        place(&p, "web@3.service", "MaxPerMachine=2", "B");
        place(&p, "webb@4.service", "", "B");
        cluster_view_unit(&p, "web@5.service", "MaxPerMachine=2", TARGET_LAUNCHED);
        assert_string_equal(refusal(&p, "web@5.service", "A", false),
                            "MaxPerMachine=2: web@2.service is there");
        assert_string_equal(refusal(&p, "web@5.service", "B", false), "");
        cluster_view_assign(&p, "A", "web@2.service", ASSIGNMENT_STOP);
        assert_string_equal(refusal(&p, "web@5.service", "A", false),
                            "MaxPerMachine=2: web@2.service is there");
        cluster_view_unit(&p, "web@1.service", "MaxPerMachine=1", TARGET_LAUNCHED);
        assert_string_equal(refusal(&p, "web@1.service", "A", true), "");
        p.cluster.level = KV_LEVEL_SCHEDULING - 1;
        assert_string_equal(refusal(&p, "web@5.service", "A", false), "");
}

/* With Replicas= by machine; an instance counts once, where it came last, and not where it is being stopped.
 */
static void instances_are_spread_by_machine_and_by_metadata(void **state) {
        static const struct {
                const char *options, *picked, *reason;
        } rows[] = {
                { "", "A", "units (2)" }, /* the least full */
                { "Replicas=9", "C", "of its instances (0)" },
                { "Spread=machine", "C", "of its instances (0)" },
                { "Spread=zone", "D", "of its instances in zone (zone=z: 1)" },
                { "Spread=zone machine", "D", "of its instances in zone (zone=z: 1)" },
                { "Spread=rack", "B", "of its instances in rack (no rack: 1)" },
                { "Spread=none zone", "D", "of its instances in zone (zone=z: 1)" },
                { "Replicas=9\nSpread=zone", "D", "of its instances in zone (zone=z: 1)" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p = {};
                char expected[128];
                Error why;

                add_machine_with(&p, "A", "", ",\"metadata\":{\"zone\":\"y\",\"rack\":\"r\"}");
                add_machine_with(&p, "B", "", ",\"metadata\":{\"zone\":\"y\"}");
                add_machine_with(&p, "C", "", ",\"metadata\":{\"zone\":\"y\",\"rack\":\"r\"}");
                add_machine_with(&p, "D", "", ",\"metadata\":{\"zone\":\"z\",\"rack\":\"r\"}");
                place(&p, "w@1.service", "", "A");
                place(&p, "w@2.service", "", "B");
                place(&p, "w@3.service", "", "D");
                place(&p, "w@4.service", "", "C");
                cluster_view_assign(&p, "A", "w@4.service", ASSIGNMENT_RUN); /* it moves */
                cluster_view_unit(&p, "w@5.service", "", TARGET_LAUNCHED);
                cluster_view_assign(&p, "C", "w@5.service", ASSIGNMENT_STOP);
                place(&p, "w@x.socket", "", "C");
                place(&p, "wide@1.service", "", "C");
                place(&p, "b1.service", "", "B");
                place(&p, "d1.service", "", "D");
                place(&p, "d2.service", "", "D");
                cluster_view_unit(&p, "w@6.service", rows[i].options, TARGET_LAUNCHED);
                assert_string_equal(pick(&p, "w@6.service", &why), rows[i].picked);
                snprintf(expected, sizeof(expected), "%s had the fewest %s of 4 machines that qualify",
                         rows[i].picked, rows[i].reason);
                assert_string_equal(why.message, expected);
                p.cluster.level = KV_LEVEL_SCHEDULING - 1;
                assert_string_equal(pick(&p, "w@6.service", &why), rows[0].picked);
        }
}

/* The row of a unit follows the decisions of the pass, and other metadata. */
static void a_row_of_spread_counts_the_instances_in_each_domain(void **state) {
        static const Pairs none = {};
        _cleanup_cluster_view_ ClusterView p = {};
        const ClusterUnit *unit, *other;
        SchedulerView *view;

        add_machine_with(&p, "A", "", ",\"metadata\":{\"zone\":\"y\"}");
        add_machine_with(&p, "B", "", ",\"metadata\":{\"zone\":\"y\"}");
        place(&p, "w@1.service", "Spread=zone machine", "A");
        cluster_view_unit(&p, "w@2.service", "Spread=zone machine", TARGET_LAUNCHED);
        unit = cluster_unit(&p.cluster, "w@1.service");
        other = cluster_unit(&p.cluster, "w@2.service");
        assert_int_equal(scheduler_view_new(&p.cluster, 0, &view), 0);
        assert_int_equal(scheduler_view_spread(view, unit, machine(&p, "A")), 0); /* without itself */
        assert_int_equal(scheduler_view_decide(view, machine(&p, "B"), other, true), 0);
        assert_int_equal(scheduler_spread_part(scheduler_view_spread(view, unit, machine(&p, "A")), 0), 2);
        assert_int_equal(scheduler_spread_part(scheduler_view_spread(view, unit, machine(&p, "A")), 1), 0);
        assert_int_equal(scheduler_spread_part(scheduler_view_spread(view, unit, machine(&p, "B")), 1), 2);
        assert_int_equal(scheduler_view_least_spread(view, unit),
                         scheduler_view_spread(view, unit, machine(&p, "A")));
        scheduler_view_set_metadata(view, machine(&p, "A"), &none);
        assert_int_equal(scheduler_spread_part(scheduler_view_spread(view, unit, machine(&p, "A")), 0), 1);
        assert_int_equal(scheduler_view_decide(view, machine(&p, "B"), other, false), 0);
        assert_int_equal(scheduler_view_spread(view, unit, machine(&p, "B")), 0);
        scheduler_view_free(view);
}

/* A cluster with a host of a former version: the fewest units decide, also if files, hosts and keys say
 * otherwise. */
static void below_the_feature_level_nothing_of_it_has_an_effect(void **state) {
        static const struct {
                const char *options;
                const char *on; /* at the level; "": nowhere */
        } rows[] = {
                { "", "C" },
                { "[Service]\nMemoryMax=800M", "C" },
                { "MemoryRequest=100M", "C" },
                { "MemoryRequest=100G", "" },
                { "CPURequest=1000%", "" },
                { "MaxPerMachine=2", "B" },
                { "Spread=machine", "B" },
                { "Sticky=yes", "B" },
                { "[Service]\nStateDirectory=db", "B" },
                { "Sticky=yes\nMaxPerMachine=1\nMemoryRequest=100G", "" },
        };

        for (size_t i = 0; i < 2 * ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p = { .cluster.level = KV_LEVEL_SCHEDULING - i % 2 };
                char id[MACHINE_ID_SIZE], data[128];
                Error why;

                add_machine(&p, "A", "{\"cpu\":400,\"memory\":1024}");
                add_machine(&p, "B", "{\"cpu\":400,\"memory\":1024}");
                add_machine(&p, "C", "{\"cpu\":400,\"memory\":8192}");
                snprintf(data, sizeof(data), "{\"machine\":\"%s\",\"since\":1}", cluster_view_id(id, "B"));
                cluster_view_put(&p, "/_fleet/cluster/settings", "{\"sticky\":true}");
                cluster_view_put(&p, "/_fleet/data/web@9.service", data);
                place(&p, "large.service", "MemoryRequest=960M", "A");
                place(&p, "b1.service", "", "B");
                place(&p, "b2.service", "", "B");
                place(&p, "web@1.service", "", "C");
                place(&p, "web@2.service", "", "C");
                place(&p, "c.service", "", "C");
                cluster_view_unit(&p, "web@9.service", rows[i / 2].options, TARGET_LAUNCHED);
                assert_string_equal(pick(&p, "web@9.service", &why), i % 2 ? "A" : rows[i / 2].on);
                if (i % 2)
                        assert_string_equal(why.message,
                                            "A had the fewest units (1) of 3 machines that qualify");
        }
}

static void the_reason_has_the_fullness_after_placement(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error why;

        add_machine(&p, "A", "{\"cpu\":400,\"memory\":1024}");
        add_machine(&p, "B", "{\"cpu\":400,\"memory\":8192}");
        add_machine(&p, "C", "{\"cpu\":400,\"memory\":2048}");
        place(&p, "b.service", "", "B");
        cluster_view_unit(&p, "new.service", "[Service]\nMemoryMax=512M\nCPUQuota=20%", TARGET_LAUNCHED);
        assert_string_equal(pick(&p, "new.service", &why), "B");
        assert_string_equal(why.message,
                            "B is the least full (7 % after placement; memory 7 %, cpu 7 %) of 3 "
                            "machines that qualify");
}

/* -- Against a plain search -- */

enum { KEYS = 3, ROWS = 7 }; /* replaced, three keys, fullness, units; without a row: the ID */

static const char *const key_names[KEYS] = { "machine", "zone", "rack" };

typedef struct Model {
        Resources capacity[MACHINES];
        int domain[MACHINES][KEYS]; /* -1: it has no such key */
        Resources size[UNITS];
        uint32_t request_mib[UNITS];
        int set[UNITS]; /* template; -1: no instance */
        int keys[UNITS][KEYS];
        size_t n_keys[UNITS];
        int on[UNITS];    /* -1: nowhere */
        int older[UNITS]; /* another machine that has it, from before */
        bool replaces[UNITS];
        size_t n_machines;
} Model;

static bool model_has(const Model *m, size_t unit, size_t at) {
        return m->on[unit] == (int) at || m->older[unit] == (int) at;
}

static size_t model_units(const Model *m, size_t at) {
        size_t n = 0;

        for (size_t u = 0; u < UNITS; u++)
                n += model_has(m, u, at);
        return n;
}

static uint64_t model_fullness(const Model *m, size_t at, Resources more) {
        uint64_t memory = more.memory_mib, cpu = more.cpu_percent;

        for (size_t u = 0; u < UNITS; u++)
                if (model_has(m, u, at)) {
                        memory += m->size[u].memory_mib;
                        cpu += m->size[u].cpu_percent;
                }
        return MAX(memory * FULLNESS_ONE / m->capacity[at].memory_mib,
                   cpu * FULLNESS_ONE / m->capacity[at].cpu_percent);
}

static bool model_fits(const Model *m, size_t at, size_t unit) {
        uint64_t requested = m->request_mib[unit];

        if (model_has(m, unit, at))
                return false;
        for (size_t u = 0; u < UNITS; u++)
                requested += model_has(m, u, at) ? m->request_mib[u] : 0;
        return m->request_mib[unit] == 0 || m->capacity[at].memory_mib == 0 ||
               requested <= m->capacity[at].memory_mib;
}

/* Its other instances in the domain of the machine, each once. */
static size_t model_siblings(const Model *m, size_t at, size_t unit, int key) {
        size_t n = 0;

        for (size_t u = 0; u < UNITS; u++)
                n += u != unit && m->on[u] >= 0 && m->set[u] == m->set[unit] &&
                     m->domain[m->on[u]][key] == m->domain[at][key];
        return n;
}

static void model_rows(const Model *m, size_t at, size_t unit, bool full, uint64_t ret[ROWS]) {
        memset(ret, 0, ROWS * sizeof(*ret));
        for (size_t u = 0; u < UNITS; u++)
                ret[0] |= model_has(m, u, at) && m->replaces[u];
        for (size_t k = 0; k < m->n_keys[unit]; k++)
                ret[1 + k] = 2 * model_siblings(m, at, unit, m->keys[unit][k]) +
                             (m->domain[at][m->keys[unit][k]] < 0);
        ret[1 + KEYS] = full ? model_fullness(m, at, m->size[unit]) : 0;
        ret[2 + KEYS] = model_units(m, at);
        ret[3 + KEYS] = at;
}

/* Return the machine with the lowest rows, or -1; *ret_second is the next one, or -1. */
static int model_pick(const Model *m, size_t unit, size_t *ret_qualified, int *ret_second, bool *ret_full) {
        uint64_t rows[MACHINES][ROWS];
        int best[2] = { -1, -1 };
        bool full = true;

        *ret_qualified = 0;
        for (size_t i = 0; i < m->n_machines; i++)
                if (model_fits(m, i, unit)) {
                        full = full && m->capacity[i].memory_mib > 0;
                        ++*ret_qualified;
                }
        for (size_t i = 0; i < m->n_machines; i++) {
                if (!model_fits(m, i, unit))
                        continue;
                model_rows(m, i, unit, full, rows[i]);
                for (size_t rank = 0; rank < 2; rank++) {
                        size_t row = 0;

                        while (best[rank] >= 0 && row < ROWS && rows[i][row] == rows[best[rank]][row])
                                row++;
                        if (best[rank] >= 0 && rows[i][row] > rows[best[rank]][row])
                                continue;
                        if (rank == 0)
                                best[1] = best[0];
                        best[rank] = (int) i;
                        break;
                }
        }
        *ret_second = best[1];
        *ret_full = full;
        return best[0];
}

static bool is_default(Resources size) {
        return size.memory_mib == resources_default.memory_mib &&
               size.cpu_percent == resources_default.cpu_percent;
}

/* Return whether the unit and each one on the machine have the default size. */
static bool model_is_plain(const Model *m, size_t unit, size_t at) {
        Resources sum = {}, size = resources_default;
        size_t n = model_units(m, at);

        for (size_t u = 0; u < UNITS; u++)
                if (model_has(m, u, at)) {
                        sum.memory_mib += m->size[u].memory_mib;
                        sum.cpu_percent += m->size[u].cpu_percent;
                }
        return is_default(m->size[unit]) && sum.memory_mib == n * size.memory_mib &&
               sum.cpu_percent == n * size.cpu_percent;
}

/* Return what the reason of the choice states: the row in which the second machine is worse. Without sizes
 * and with equal machines, the units are the reason. */
static const char *model_reason(const Model *m, size_t unit, size_t best, size_t second, bool full) {
        static char text[128];
        uint64_t a[ROWS], b[ROWS];
        size_t row = 0;

        model_rows(m, best, unit, full, a);
        model_rows(m, second, unit, full, b);
        while (row < ROWS && a[row] == b[row])
                row++;
        if (row == 0 || row > 1 + KEYS ||
            (row == 1 + KEYS && model_is_plain(m, unit, best) && model_is_plain(m, unit, second) &&
             memcmp(&m->capacity[best], &m->capacity[second], sizeof(m->capacity[0])) == 0))
                snprintf(text, sizeof(text), " had the fewest units (%zu) of ", model_units(m, best));
        else if (row == 1 + KEYS)
                snprintf(text, sizeof(text), " is the least full (");
        else {
                size_t n = model_siblings(m, best, unit, m->keys[unit][row - 1]);
                const char *key = key_names[m->keys[unit][row - 1]];
                int domain = m->domain[best][m->keys[unit][row - 1]];

                if (streq(key, "machine"))
                        snprintf(text, sizeof(text), " had the fewest of its instances (%zu) of ", n);
                else if (domain < 0)
                        snprintf(text, sizeof(text),
                                 " had the fewest of its instances in %s (no %s: %zu) of ", key, key, n);
                else
                        snprintf(text, sizeof(text),
                                 " had the fewest of its instances in %s (%s=%d: %zu) of ", key, key, domain,
                                 n);
        }
        return text;
}

/* 'plain': machines are equal, and no unit has a size, a request or instances. */
static void model_make(Model *m, Random *random, bool plain) {
        uint32_t memory = 1024u << random_below(random, 5);

        *m = (Model) { .n_machines = 1 + random_below(random, MACHINES) };
        for (size_t i = 0; i < m->n_machines; i++) {
                for (size_t k = 0; k < KEYS; k++)
                        m->domain[i][k] = k == 0 ? (int) i : (int) random_below(random, 4) - 1;
                if (plain)
                        m->capacity[i] = (Resources) { memory, 400 };
                else if (random_below(random, 12) > 0)
                        m->capacity[i] = (Resources) { 1024u + 512u * (uint32_t) random_below(random, 16),
                                                       100u * (uint32_t) (1 + random_below(random, 8)) };
        }
        for (size_t u = 0; u < UNITS; u++) {
                m->size[u] = resources_default;
                m->set[u] = m->on[u] = m->older[u] = -1;
                if (plain)
                        continue;
                m->replaces[u] = random_below(random, 10) == 0;
                if (!m->replaces[u] && random_below(random, 3) > 0) {
                        size_t first = random_below(random, KEYS);

                        m->set[u] = (int) random_below(random, 2);
                        m->n_keys[u] = random_below(random, KEYS + 1);
                        for (size_t k = 0; k < m->n_keys[u]; k++)
                                m->keys[u][k] = (int) ((first + k) % KEYS);
                }
                if (random_below(random, 2) == 0) {
                        m->size[u].memory_mib = 16u + (uint32_t) random_below(random, 900);
                        m->size[u].cpu_percent = 1u + (uint32_t) random_below(random, 90);
                        if (random_below(random, 2) == 0)
                                m->request_mib[u] = m->size[u].memory_mib;
                }
                if (m->set[u] >= 0 && random_below(random, 8) == 0)
                        m->older[u] = (int) random_below(random, m->n_machines);
        }
        for (size_t u = 0; u < UNITS; u += 2) { /* written before the pass */
                m->on[u] = (int) random_below(random, m->n_machines + 1) - 1;
                if (m->on[u] < 0 || m->on[u] == m->older[u])
                        m->older[u] = -1;
        }
        for (size_t u = 1; u < UNITS; u += 2)
                m->older[u] = -1;
}

static const char *model_name(const Model *m, size_t u) {
        static char name[32];

        snprintf(name, sizeof(name),
                 m->replaces[u] ? "u%zu.service" :
                 m->set[u] < 0  ? "new%zu.service" :
                 m->set[u] == 0 ? "new-a@%zu.service" :
                                  "new-b@%zu.service",
                 u);
        return name;
}

/* 'reversed': the keys in another order. */
static void model_write(const Model *m, ClusterView *p, bool plain, bool reversed) {
        for (size_t n = 0; n < m->n_machines; n++) {
                size_t i = reversed ? m->n_machines - 1 - n : n;
                char capacity[64] = "", metadata[64] = "", *end = metadata;

                if (m->capacity[i].memory_mib > 0)
                        snprintf(capacity, sizeof(capacity), "{\"cpu\":%u,\"memory\":%u}",
                                 m->capacity[i].cpu_percent, m->capacity[i].memory_mib);
                for (size_t k = 1; k < KEYS; k++)
                        if (m->domain[i][k] >= 0)
                                end += sprintf(end, "%s\"%s\":\"%d\"",
                                               end == metadata ? ",\"metadata\":{" : ",", key_names[k],
                                               m->domain[i][k]);
                if (end > metadata)
                        sprintf(end, "}");
                add_machine_with(p, names[i], capacity, metadata);
        }
        for (size_t n = 0; n < UNITS; n++) {
                size_t u = reversed ? UNITS - 1 - n : n;
                _cleanup_text_ Text options = {};

                if (m->replaces[u])
                        text_append(&options, "Replaces=new*\n");
                for (size_t k = 0; k < m->n_keys[u]; k++)
                        text_printf(&options, "%s%s%s", k == 0 ? "Spread=" : " ", key_names[m->keys[u][k]],
                                    k + 1 == m->n_keys[u] ? "\n" : "");
                if (m->request_mib[u] > 0)
                        text_printf(&options, "MemoryRequest=%uM\n", m->request_mib[u]);
                if (!plain)
                        text_printf(&options, "[Service]\nMemoryMax=%uM\nCPUQuota=%u%%",
                                    m->size[u].memory_mib, m->size[u].cpu_percent);
                cluster_view_unit(p, model_name(m, u), text_chars(&options), TARGET_LAUNCHED);
                if (m->older[u] >= 0)
                        cluster_view_assign(p, names[m->older[u]], model_name(m, u), ASSIGNMENT_RUN);
                if (m->on[u] >= 0)
                        cluster_view_assign(p, names[m->on[u]], model_name(m, u), ASSIGNMENT_RUN);
        }
}

static void each_choice_is_that_of_a_plain_search(bool plain, uint64_t seed) {
        size_t cases = getenv("CHECK_ALL") ? 10000 : CASES;
        Random random;

        random_seed(&random, seed);
        for (size_t c = 0; c < cases; c++) {
                _cleanup_cluster_view_ ClusterView p = {};
                bool reversed = random_below(&random, 2) == 0;
                bool decided[UNITS] = {}, full;
                SchedulerView *view;
                Model m;

                model_make(&m, &random, plain);
                model_write(&m, &p, plain, reversed);
                assert_int_equal(scheduler_view_new(&p.cluster, 0, &view), 0);
                for (size_t step = 0; step < 2 * UNITS; step++) {
                        size_t u = random_below(&random, UNITS), qualified;
                        const ClusterUnit *unit = cluster_unit(&p.cluster, model_name(&m, u));
                        bool states = random_below(&random, 2) == 0 || plain;
                        const ClusterMachine *found = NULL;
                        char expected[128];
                        Error why = {};
                        int best, second;

                        if (m.on[u] >= 0 &&
                            (decided[u] || m.older[u] >= 0 || m.set[u] < 0 || random_below(&random, 3) > 0)) {
                                /* It leaves one of its machines. */
                                int *left = m.older[u] < 0 || random_below(&random, 2) ? &m.on[u] :
                                                                                         &m.older[u];

                                assert_int_equal(scheduler_view_remove(view, machine(&p, names[*left]), unit),
                                                 0);
                                *left = -1;
                                if (m.on[u] < 0) {
                                        m.on[u] = m.older[u];
                                        m.older[u] = -1;
                                }
                                continue;
                        }
                        if (m.replaces[u])
                                continue; /* the oracle knows only units that are replaced */
                        best = model_pick(&m, u, &qualified, &second, &full);
                        assert_int_equal(scheduler_pick(view, unit, &found, states ? &why : NULL),
                                         best < 0 ? -ENOENT : 0);
                        if (best < 0)
                                continue;
                        assert_string_equal(cluster_machine_name(found), names[best]);
                        snprintf(expected, sizeof(expected),
                                 qualified == 1 ?
                                         "%s was the only machine that qualified" :
                                         "%s had the fewest units (%zu) of %zu machines that qualify",
                                 names[best], model_units(&m, (size_t) best), qualified);
                        if (plain)
                                assert_string_equal(why.message, expected);
                        else if (states && qualified > 1)
                                assert_non_null(strstr(why.message, model_reason(&m, u, (size_t) best,
                                                                                 (size_t) second, full)));
                        assert_int_equal(scheduler_view_decide(view, found, unit, true), 0);
                        m.older[u] = m.on[u]; /* it moves, and starts first */
                        m.on[u] = best;
                        decided[u] = true;
                }
                scheduler_view_free(view);
        }
}

static void without_sizes_each_choice_and_reason_is_that_of_the_fewest_units(void **state) {
        each_choice_is_that_of_a_plain_search(true, 5);
}

static void with_sizes_each_choice_is_that_of_a_plain_search(void **state) {
        each_choice_is_that_of_a_plain_search(false, 7);
}

/* -- Sums -- */

static void the_sums_of_a_machine_are_those_of_its_assignments(void **state) {
        static const char *const options[] = { "", "MemoryRequest=100M", "CPURequest=30%\nMemoryRequest=1G",
                                               "[Service]\nMemoryMax=700M" };
        _cleanup_cluster_view_ ClusterView p = {};
        Random random;

        random_seed(&random, 9);
        add_machine(&p, "A", "");
        add_machine(&p, "B", "");
        for (size_t i = 0; i < 4000; i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", (unsigned) random_below(&random, 8));
                switch (random_below(&random, 5)) {
                case 0:
                        cluster_view_unit(&p, name, options[random_below(&random, ELEMENTS(options))],
                                          TARGET_LAUNCHED);
                        break;
                case 1:
                        cluster_view_destroy(&p, name);
                        break;
                default:
                        cluster_view_assign(&p, names[random_below(&random, 2)], name,
                                            random_below(&random, 2) ? ASSIGNMENT_RUN : ASSIGNMENT_STOP);
                }
                for (size_t k = 0; k < 2; k++) {
                        Sums requested = {}, sized = {};

                        for (const ClusterAssignment *a = machine(&p, names[k])->assignments; a;
                             a = a->hh.next) {
                                const Unit *u = a->of->unit;

                                sums_replace(&requested, &(Resources) {},
                                             u ? u->placement.request : (Resources) {});
                                if (cluster_assignment_is_active(a))
                                        sums_replace(&sized, &(Resources) {},
                                                     u ? u->placement.size : resources_default);
                        }
                        assert_memory_equal(&requested, &machine(&p, names[k])->requested, sizeof(requested));
                        assert_memory_equal(&sized, &machine(&p, names[k])->sized, sizeof(sized));
                        assert_int_equal(sized.n, machine(&p, names[k])->load);
                }
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(only_a_request_waits_for_room_and_its_refusal_has_the_figures),
                cmocka_unit_test(a_unit_that_is_being_stopped_holds_its_room_until_it_is_gone),
                cmocka_unit_test(an_unknown_capacity_refuses_nothing),
                cmocka_unit_test(the_largest_values_overflow_nothing),
                cmocka_unit_test(a_restricted_host_counts_as_at_most_the_median),
                cmocka_unit_test(restricted_hosts_alone_have_no_known_capacity),
                cmocka_unit_test(no_machine_gets_more_instances_than_allowed),
                cmocka_unit_test(instances_are_spread_by_machine_and_by_metadata),
                cmocka_unit_test(a_row_of_spread_counts_the_instances_in_each_domain),
                cmocka_unit_test(below_the_feature_level_nothing_of_it_has_an_effect),
                cmocka_unit_test(the_reason_has_the_fullness_after_placement),
                cmocka_unit_test(without_sizes_each_choice_and_reason_is_that_of_the_fewest_units),
                cmocka_unit_test(with_sizes_each_choice_is_that_of_a_plain_search),
                cmocka_unit_test(the_sums_of_a_machine_are_those_of_its_assignments),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
