/* What `why` names so that a unit fits: each way, taken alone, makes the unit fit. */
#include "tests/lib/test.h"
#include "base/clock.h"
#include "fleetd/api/ways.h"
#include "fleetd/scheduler/scheduler.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/drains.h"

enum { MACHINES = 4, UNITS = 10, CASES = 300 }; /* unplaced units */

static const char *const names[MACHINES] = { "A", "B", "C", "D" };

/* Write the options of a unit, each with some probability. */
static void any_options(Random *random, const char *name, Text *ret) {
        static const char *const own[] = {
                "MachineMetadata=zone=y", "Conflicts=a*", "Conflicts=w@*", "MachineOf=b1.service",
                "MachineOf=a0.service",   "Port=x:80",    "Global=yes",
        };

        for (size_t i = 0; i < ELEMENTS(own); i++)
                if (random_below(random, 9) == 0) {
                        text_printf(ret, "%s\n", own[i]);
                        break;
                }
        if (!strstr(ret->chars ?: "", "Global") && !strstr(ret->chars ?: "", "MachineOf") &&
            random_below(random, 6) == 0)
                text_append(ret, "Sticky=yes\n");
        if (strchr(name, '@') && !strstr(ret->chars ?: "", "Global") && random_below(random, 2) == 0)
                text_printf(ret, "MaxPerMachine=%u\n", 1 + (unsigned) random_below(random, 3));
        if (random_below(random, 2) == 0)
                text_printf(ret, "MemoryRequest=%uM\n", 1 + (unsigned) random_below(random, 1500));
        if (random_below(random, 3) == 0)
                text_printf(ret, "CPURequest=%u%%\n", 1 + (unsigned) random_below(random, 300));
}

/* Make a cluster; the same one for each seed. 'ret_name' is the unit to be placed, 'options' are its own. */
static void make(ClusterView *p, uint64_t seed, char *ret_name, size_t size, Text *options) {
        Random random;

        random_seed(&random, seed);
        for (size_t i = 0; i < MACHINES; i++) {
                char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], value[160];

                layout_key(key, LAYOUT_FACTS, NULL, cluster_view_id(id, names[i]));
                snprintf(value, sizeof(value),
                         "{\"capacity\":{\"cpu\":%u,\"memory\":%u},\"metadata\":{\"zone\":\"%s\"},\"name\":"
                         "\"%s\"}",
                         100 + 100 * (unsigned) random_below(&random, 4),
                         512 + (unsigned) random_below(&random, 2048), random_below(&random, 2) ? "y" : "z",
                         names[i]);
                cluster_view_presence(p, names[i], PRESENCE_UP);
                cluster_view_put(p, key, value);
                if (random_below(&random, 4) == 0)
                        cluster_view_presence(p, names[i],
                                              random_below(&random, 2) ? PRESENCE_LOST : PRESENCE_LEFT);
                if (random_below(&random, 4) == 0)
                        maintain(p, names[i], "cordoned", "");
        }
        for (size_t i = 0; i <= UNITS; i++) {
                _cleanup_text_ Text t = {};
                char name[32], value[96], id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];

                snprintf(name, sizeof(name), "%c%s%zu.service", "abw"[i % 3], i % 3 == 2 ? "@" : "", i / 3);
                if (i == UNITS)
                        snprintf(name, sizeof(name), random_below(&random, 2) ? "x.service" : "w@x.service");
                any_options(&random, name, &t);
                cluster_view_unit(p, name, text_chars(&t),
                                  i < UNITS && random_below(&random, 5) == 0 ? TARGET_INACTIVE :
                                                                               TARGET_LAUNCHED);
                if (random_below(&random, 3) == 0) {
                        layout_key(key, LAYOUT_DATA, name, NULL);
                        snprintf(value, sizeof(value), "{\"machine\":\"%s\",\"since\":1}",
                                 cluster_view_id(id, names[random_below(&random, MACHINES)]));
                        cluster_view_put(p, key, value);
                }
                if (i == UNITS) {
                        snprintf(ret_name, size, "%s", name);
                        text_append(options, text_chars(&t));
                } else if (random_below(&random, 4) > 0)
                        cluster_view_assign(p, names[random_below(&random, MACHINES)], name,
                                            random_below(&random, 6) ? ASSIGNMENT_RUN : ASSIGNMENT_STOP);
        }
}

static bool fits_on(const ClusterView *p, const char *name, const ClusterUnit *instead,
                    const ClusterMachine **ret) {
        SchedulerView *view;
        int r;

        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        r = scheduler_pick(view, instead ?: cluster_unit(&p->cluster, name), ret, NULL);
        scheduler_view_free(view);
        return r == 0;
}

static bool fits(const ClusterView *p, const char *name, const ClusterUnit *instead) {
        const ClusterMachine *m;

        return fits_on(p, name, instead, &m);
}

/* Write the ways as `why` does. */
static void write_ways(ClusterView *p, const char *name, Text *t) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        const ClusterUnit *u = cluster_unit(&p->cluster, name);
        SchedulerView *view;
        size_t n;

        machines = cluster_machines_sorted(&p->cluster, &n);
        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        json_open(t, NULL, '{');
        ways_write_down(t, view, u, machines, n);
        ways_write_options(t, view, u, machines, n);
        ways_write_steps(t, &p->cluster, view, u, machines, n);
        json_close(t, '}');
        scheduler_view_free(view);
}

static void unload(ClusterView *p, const char *name) {
        const ClusterUnit *u = cluster_unit(&p->cluster, name);
        char key[LAYOUT_KEY_MAX];

        assert_non_null(u);
        cluster_view_target(p, name, TARGET_INACTIVE);
        while (LIST_FIRST(&u->assignments))
                cluster_view_remove(p, layout_key(key, LAYOUT_ASSIGNMENT, name,
                                                  LIST_FIRST(&u->assignments)->machine->id));
}

/* Take the way, and return whether the unit fits. */
static bool take(ClusterView *p, const char *unit, const char *options, const char *way) {
        char words[8][64];
        int n = sscanf(way, "%63s %63s %63s %63s %63s %63s %63s %63s", words[0], words[1], words[2], words[3],
                       words[4], words[5], words[6], words[7]);
        const ClusterMachine *m;
        ClusterUnit any;

        if (streq(words[0], "unload"))
                for (int i = 1; i < n; i++)
                        unload(p, words[i]);
        else if (streq(words[0], "uncordon"))
                maintain(p, words[1], NULL, "");
        else if (streq(words[0], "up")) {
                cluster_view_presence(p, words[1], PRESENCE_UP);
                if (n > 2)
                        maintain(p, words[1], NULL, "");
        } else if (streq(words[0], "start")) {
                for (int i = 1; i < n; i++) {
                        cluster_view_target(p, words[i], TARGET_LAUNCHED);
                        if (!fits_on(p, words[i], NULL, &m))
                                return false;
                        cluster_view_assign(p, cluster_machine_name(m), words[i], ASSIGNMENT_RUN);
                }
        } else if (streq(words[0], "move")) {
                any = *cluster_unit(&p->cluster, words[1]);
                any.sticky = false;
                assert_string_equal(words[3], "--force");
                return fits(p, unit, &any);
        } else {
                char text[512];
                char *end;

                snprintf(text, sizeof(text), "%s\n%s", options, way);
                end = strstr(text, " or less");
                if (end)
                        *end = 0;
                end = strstr(text, " and ");
                if (end)
                        memcpy(end, "\n    ", 5);
                cluster_view_unit(p, unit, text, TARGET_LAUNCHED);
        }
        return fits(p, unit, NULL);
}

static void each_way_makes_the_unit_fit(void **state) {
        size_t cases = getenv("CHECK_ALL") ? 10000 : CASES, n_kinds[6] = {};
        static const char *const kinds[] = { "unload", "uncordon", "up", "start", "move", "" };

        for (uint64_t seed = 1, c = 0; c < cases; seed++) {
                _cleanup_cluster_view_ ClusterView p = {};
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_text_ Text options = {}, answer = {};
                char unit[32];

                make(&p, seed, unit, sizeof(unit), &options);
                if (cluster_unit(&p.cluster, unit)->unit->placement.global || fits(&p, unit, NULL))
                        continue;
                c++;
                write_ways(&p, unit, &answer);
                assert_int_equal(json_value_parse(answer.chars, answer.size, &root, NULL), 0);
                for (size_t i = 0; i < json_value_count(json_value_member(root, "steps")) +
                                               json_value_count(json_value_member(root, "options")) +
                                               json_value_count(json_value_member(root, "down"));
                     i++) {
                        const JsonValue *steps = json_value_member(root, "steps"),
                                        *changes = json_value_member(root, "options"),
                                        *down = json_value_member(root, "down");
                        size_t k = i, kind = 0;
                        _cleanup_cluster_view_ ClusterView again = {};
                        _cleanup_text_ Text same = {};
                        char way[256];
                        bool yes = false;

                        if (k < json_value_count(steps))
                                snprintf(way, sizeof(way), "%s",
                                         json_value_string(json_value_item(steps, k)));
                        else if ((k -= json_value_count(steps)) < json_value_count(changes))
                                snprintf(way, sizeof(way), "%s",
                                         json_value_string(json_value_item(changes, k)));
                        else {
                                const JsonValue *host = json_value_item(down, k - json_value_count(changes));
                                const char *name;

                                assert_int_equal(json_read_string(host, "name", &name, NULL), 0);
                                assert_int_equal(json_read_bool(host, "cordoned", &yes, NULL), 0);
                                snprintf(way, sizeof(way), "up %s%s", name, yes ? " uncordoned" : "");
                        }
                        make(&again, seed, unit, sizeof(unit), &same);
                        if (!take(&again, unit, text_chars(&options), way))
                                fail_msg("seed %llu: %s with [%s] does not fit after: %s",
                                         (unsigned long long) seed, unit, text_chars(&options), way);
                        while (strncmp(way, kinds[kind], strlen(kinds[kind])) != 0)
                                kind++;
                        n_kinds[kind]++;
                }
        }
        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                if (getenv("VERBOSE"))
                        print_message("%s: %zu\n", kinds[i], n_kinds[i]);
                assert_true(n_kinds[i] > cases / 100);
        }
}

/* Of the machine with the smallest lack, the smallest unit that is enough, and the room that is left. */
static void the_least_change_is_named(void **state) {
        static const struct {
                const char *unit, *options, *ways;
        } rows[] = {
                { "x.service", "MemoryRequest=600M",
                  "{\"options\":[\"MemoryRequest=248M or less\"],\"steps\":[\"unload a.service\"]}" },
                { "x.service", "MemoryRequest=750M",
                  "{\"options\":[\"MemoryRequest=248M or less\"],\"steps\":[\"unload c.service\"]}" },
                { "x.service", "MemoryRequest=4G", "{\"options\":[\"MemoryRequest=248M or less\"]}" },
                { "x.service", "MemoryRequest=600M\nMachineOf=a.service",
                  "{\"options\":[\"MemoryRequest=248M or less\"],\"steps\":[\"unload c.service\"]}" },
                { "x.service", "CPURequest=390%",
                  "{\"options\":[\"CPURequest=370% or less\"],\"steps\":[\"unload b.service\"]}" },
                { "x.service", "CPURequest=390%\nMemoryRequest=300M",
                  "{\"options\":[\"MemoryRequest=248M and CPURequest=370% or less\"],\"steps\":[\"unload "
                  "b.service\"]}" },
                { "w@4.service", "MaxPerMachine=1", "{\"options\":[\"MaxPerMachine=2\"]}" },
                { "w@4.service", "MaxPerMachine=1\nMemoryRequest=200M",
                  "{\"options\":[\"MaxPerMachine=2\"]}" },
                { "w@4.service", "MaxPerMachine=1\nMemoryRequest=2G", "{}" },
        };
        static const struct {
                const char *name, *options, *on;
        } units[] = {
                { "a.service", "MemoryRequest=500M", "A" },
                { "b.service", "MemoryRequest=700M\nCPURequest=30%", "A" },
                { "c.service", "MemoryRequest=600M", "A" },
                { "d.service", "MemoryRequest=900M\nCPURequest=300%", "B" },
                { "g.service", "Global=yes\nMemoryRequest=370M", "A" },
                { "s.service", "MemoryRequest=380M", "A" }, /* it is being stopped */
                { "w@1.service", "", "B" },
                { "w@2.service", "", "B" },
                { "w@3.service", "", "A" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p = {};
                _cleanup_text_ Text t = {};

                for (size_t k = 0; k < 2; k++) {
                        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], value[160];

                        layout_key(key, LAYOUT_FACTS, NULL, cluster_view_id(id, names[k]));
                        snprintf(value, sizeof(value),
                                 "{\"capacity\":{\"cpu\":400,\"memory\":%d},\"name\":\"%s\"}",
                                 k == 0 ? 2798 : 1024, names[k]);
                        cluster_view_presence(&p, names[k], PRESENCE_UP);
                        cluster_view_put(&p, key, value);
                }
                for (size_t k = 0; k < ELEMENTS(units); k++) {
                        bool stops = streq(units[k].name, "s.service");

                        cluster_view_unit(&p, units[k].name, units[k].options,
                                          stops ? TARGET_INACTIVE : TARGET_LAUNCHED);
                        cluster_view_assign(&p, units[k].on, units[k].name,
                                            stops ? ASSIGNMENT_STOP : ASSIGNMENT_RUN);
                }
                cluster_view_unit(&p, rows[i].unit, rows[i].options, TARGET_LAUNCHED);
                assert_false(fits(&p, rows[i].unit, NULL));
                write_ways(&p, rows[i].unit, &t);
                assert_string_equal(t.chars, rows[i].ways);
        }
}

/* All siblings of a machine are counted once, and no number is tried. */
static void the_next_number_takes_one_pass_over_the_siblings(void **state) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        _cleanup_cluster_view_ ClusterView p = {};
        _cleanup_text_ Text t = {};
        size_t n, n_siblings = 0;
        SchedulerView *view;

        for (size_t i = 0; i < MACHINES; i++) {
                cluster_view_presence(&p, names[i], PRESENCE_UP);
                cluster_view_facts(&p, names[i], "");
                for (size_t k = 0; k < 150 - 10 * i; k++) {
                        char name[32];

                        snprintf(name, sizeof(name), "w@%zu.service", n_siblings++);
                        cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
                        cluster_view_assign(&p, names[i], name, ASSIGNMENT_RUN);
                }
        }
        cluster_view_unit(&p, "w@x.service", "MaxPerMachine=1", TARGET_LAUNCHED);
        machines = cluster_machines_sorted(&p.cluster, &n);
        assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
        ways_write_options(&t, view, cluster_unit(&p.cluster, "w@x.service"), machines, n);
        assert_string_equal(t.chars, "\"options\":[\"MaxPerMachine=121\"]");
        assert_in_range(scheduler_view_work(view), n_siblings, 8 * n_siblings);
        scheduler_view_free(view);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_least_change_is_named),
                cmocka_unit_test(the_next_number_takes_one_pass_over_the_siblings),
                cmocka_unit_test(each_way_makes_the_unit_fit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
