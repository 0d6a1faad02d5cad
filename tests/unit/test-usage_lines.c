/* The lines of "fleetd --usage", of trees of files as the kernel has them. */
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "fleetd/features/usage/usage.h"
#include "tests/lib/scratch.h"
#include "units/json.h"

/* Write a file and the folders above it. */
static void put(const char *root, const char *name, const char *text) {
        _cleanup_free_ char *path = scratch_path(root, name);

        for (char *p = strchr(path + strlen(root) + 1, '/'); p; p = strchr(p + 1, '/')) {
                *p = 0;
                (void) mkdir(path, 0700);
                *p = '/';
        }
        scratch_write(path, text);
}

/* Return the line of the trees below 'root'; the disk is not played. */
static JsonValue *line_of(const char *root) {
        _cleanup_free_ char *units = scratch_path(root, "units"), *cgroups = scratch_path(root, "cgroup"),
                            *proc = scratch_path(root, "proc");
        _cleanup_text_ Text t = {};
        JsonValue *line;

        assert_int_equal(usage_append(&t,
                                      &(UsageRoots) { .units = units,
                                                      .cgroups = cgroups,
                                                      .proc = proc,
                                                      .disk = "/no/such/folder" },
                                      7),
                         0);
        assert_ptr_equal(strchr(t.chars, '\n'), t.chars + t.size - 1); /* one line */
        assert_int_equal(json_object_parse(t.chars, t.size, &line, NULL), 0);
        return line;
}

/* Assert a figure at a path of members; UINT64_MAX: absent. */
static void assert_figure(const JsonValue *v, const char *path, uint64_t expected) {
        _cleanup_free_ char *copy = strdup(path);
        uint64_t value = UINT64_MAX;

        for (char *rest = copy, *name; (name = strsep(&rest, "."));)
                v = json_value_member(v, name);
        if (v)
                assert_int_equal(json_value_u64(v, &value), 0);
        if (value != expected)
                fail_msg("%s is %llu", path, (unsigned long long) value);
}

static const JsonValue *unit_of(const JsonValue *line, const char *name) {
        JSON_EACH(unit, json_value_member(line, "units"))
                if (streq(json_value_string(json_value_member(unit, "name")), name))
                        return unit;
        return NULL;
}

static void figures_are_those_of_the_kernels_files(void **state) {
        char *root = scratch_new();
        _cleanup_json_ JsonValue *line = NULL;
        const JsonValue *host, *web;

        put(root, "units/web@2.container", "");
        put(root, "units/down.service", "");
        put(root, "units/not a unit", "");
        put(root, "cgroup/system.slice/web@2.service/cpu.stat", "usage_usec 512\nuser_usec 1\n");
        put(root, "cgroup/system.slice/web@2.service/memory.current", "46242202\n");
        put(root, "cgroup/system.slice/web@2.service/pids.current", "0\n");
        put(root, "cgroup/system.slice/web@2.service/io.stat",
            "8:0 rbytes=10 wbytes=1 rios=1 wios=1 dbytes=0 dios=0\n"
            "8:1 rbytes=5 wbytes=2 rios=1 wios=1 dbytes=0 dios=0\n");
        put(root, "cgroup/system.slice/web@2.service/cpu.pressure",
            "some avg10=0.00 avg60=0.00 avg300=0.00 total=77\n"
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n");
        put(root, "proc/stat", "cpu  10 20 30 400 50 1 2 3 4 5\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 7\n");
        put(root, "proc/meminfo", "MemTotal:        8000 kB\nMemFree: 1 kB\nMemAvailable:    3000 kB\n");
        put(root, "proc/pressure/io", "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n");

        line = line_of(root);
        assert_figure(line, "at", 7);
        assert_int_equal(json_value_count(json_value_member(line, "units")), 2);
        web = unit_of(line, "web@2.container");
        assert_figure(web, "cpu", 512);
        assert_figure(web, "memory", 46242202);
        assert_figure(web, "tasks", 0);
        assert_figure(web, "read", 15);
        assert_figure(web, "written", 3);
        assert_figure(web, "pressure.cpu", 77);
        assert_figure(web, "pressure.io", UINT64_MAX);
        assert_figure(unit_of(line, "down.service"), "cpu", UINT64_MAX);
        host = json_value_member(line, "host");
        assert_figure(host, "busy", 66 * (1000000 / (uint64_t) sysconf(_SC_CLK_TCK)));
        assert_figure(host, "idle", 450 * (1000000 / (uint64_t) sysconf(_SC_CLK_TCK)));
        assert_figure(host, "memory", 8000 * 1024);
        assert_figure(host, "available", 3000 * 1024);
        assert_figure(host, "pressure.io", 9);
        assert_figure(host, "disk.size", UINT64_MAX);
        scratch_free(root);
}

static void what_is_missing_or_no_number_is_left_out(void **state) {
        char *root = scratch_new();
        _cleanup_json_ JsonValue *line = NULL, *bare = line_of(root);
        const JsonValue *a;

        assert_int_equal(json_value_count(json_value_member(bare, "units")), 0);
        assert_figure(bare, "host.busy", UINT64_MAX);
        assert_figure(bare, "host.memory", UINT64_MAX);

        put(root, "units/a.service", "");
        put(root, "cgroup/a.slice/a.service/cpu.stat", "usage_usec -5\n");
        put(root, "cgroup/a.slice/a.service/memory.current", "18446744073709551615\n");
        put(root, "cgroup/a.slice/a.service/pids.current", "max\n");
        put(root, "cgroup/a.slice/a.service/io.stat", "");
        put(root, "proc/stat", "cpu  1 2 x\n");
        put(root, "proc/meminfo", "");
        line = line_of(root);
        a = unit_of(line, "a.service");
        assert_figure(a, "cpu", UINT64_MAX);
        assert_figure(a, "memory", UINT64_MAX);
        assert_figure(a, "tasks", UINT64_MAX);
        assert_figure(a, "read", UINT64_MAX);
        assert_figure(line, "host.busy", UINT64_MAX);
        scratch_free(root);
}

static void beside_the_former_hierarchy_the_cgroups_of_processes_count(void **state) {
        char *root = scratch_new();
        _cleanup_json_ JsonValue *line = NULL;

        put(root, "units/a.service", "");
        put(root, "cgroup/memory/system.slice/a.service/memory.usage_in_bytes", "5\n");
        put(root, "cgroup/unified/system.slice/a.service/cpu.stat", "usage_usec 5\n");
        line = line_of(root);
        assert_figure(unit_of(line, "a.service"), "cpu", 5);
        assert_figure(unit_of(line, "a.service"), "memory", UINT64_MAX);
        scratch_free(root);
}

static void an_interval_is_of_a_second_to_an_hour(void **state) {
        static const char *const wrong[] = { "",      "999ms", "1ms", "2h",
                                             "61min", "x",     "-1s", "18446744073709551615" };
        static const struct {
                const char *text;
                uint64_t ms;
        } right[] = { { "1", 1000 }, { "1s", 1000 }, { "2500ms", 2500 }, { "1h", 3600000 } };
        uint64_t ms = 5;

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                Error err = {};

                assert_int_equal(usage_interval_parse(wrong[i], &ms, &err), -EINVAL);
                assert_string_equal(err.message, "interval: expected 1s to 1h");
        }
        for (size_t i = 0; i < ELEMENTS(right); i++) {
                assert_int_equal(usage_interval_parse(right[i].text, &ms, NULL), 0);
                assert_int_equal(ms, right[i].ms);
        }
}

static void a_long_round_doubles_the_interval(void **state) {
        assert_int_equal(usage_interval_next(2000, 200000000), 2000);
        assert_int_equal(usage_interval_next(2000, 200000001), 4000);
        assert_int_equal(usage_interval_next(3600000, UINT64_MAX), 3600000);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(figures_are_those_of_the_kernels_files),
                cmocka_unit_test(what_is_missing_or_no_number_is_left_out),
                cmocka_unit_test(beside_the_former_hierarchy_the_cgroups_of_processes_count),
                cmocka_unit_test(an_interval_is_of_a_second_to_an_hour),
                cmocka_unit_test(a_long_round_doubles_the_interval),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
