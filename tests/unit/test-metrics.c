/* The metrics: both forms, the selection of a form, and the table of families, which the manual has, too. */
#include <ctype.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "fleetd/metrics_table.h"
#include "tests/lib/scratch.h"

static void write_families(MetricsForm form, Text *t) {
        static const MetricFamily
                info = { "fleet_build_info", METRIC_INFO, NULL, { "version" }, "Version." },
                counter = { "fleet_moves_total", METRIC_COUNTER, NULL, { "a", "b" }, "Moves." },
                gauge = { "fleet_size_bytes", METRIC_GAUGE, "bytes", {}, "Size." },
                histogram = { "fleet_write_seconds", METRIC_HISTOGRAM, "seconds", {}, "Writes." };
        static const uint64_t bounds[] = { 500 * 1000, 1000 * 1000 * 1000ull, 4000 * 1000 * 1000ull },
                              buckets[] = { 1, 2, 3, 4 };
        MetricsWriter w = { .form = form, .text = t };

        metrics_begin_family(&w, &info);
        metrics_add(&w, 1, "0.1", NULL);
        metrics_begin_family(&w, &counter);
        metrics_add(&w, UINT64_MAX, "a\\b\"c\nd", "");
        metrics_begin_family(&w, &gauge);
        metrics_add(&w, 0, NULL, NULL);
        metrics_add_ns(&w, 1000 * 1000 * 1000ull * 12 + 34567, NULL, NULL);
        metrics_begin_family(&w, &histogram);
        metrics_add_histogram(&w, &(MetricHistogram) { .bounds_ns = bounds,
                                                       .n_bounds = ELEMENTS(bounds),
                                                       .buckets = buckets,
                                                       .sum_ns = 2500 * 1000 * 1000ull });
        metrics_end(&w);
        assert_int_equal(t->error, 0);
}

static void the_text_format_has_types_and_samples(void **state) {
        _cleanup_text_ Text t = {};

        write_families(METRICS_TEXT, &t);
        assert_string_equal(t.chars, "# HELP fleet_build_info Version.\n"
                                     "# TYPE fleet_build_info gauge\n"
                                     "fleet_build_info{version=\"0.1\"} 1\n"
                                     "# HELP fleet_moves_total Moves.\n"
                                     "# TYPE fleet_moves_total counter\n"
                                     "fleet_moves_total{a=\"a\\\\b\\\"c\\nd\",b=\"\"} 18446744073709551615\n"
                                     "# HELP fleet_size_bytes Size.\n"
                                     "# TYPE fleet_size_bytes gauge\n"
                                     "fleet_size_bytes 0\n"
                                     "fleet_size_bytes 12.000034\n"
                                     "# HELP fleet_write_seconds Writes.\n"
                                     "# TYPE fleet_write_seconds histogram\n"
                                     "fleet_write_seconds_bucket{le=\"0.0005\"} 1\n"
                                     "fleet_write_seconds_bucket{le=\"1\"} 3\n"
                                     "fleet_write_seconds_bucket{le=\"4\"} 6\n"
                                     "fleet_write_seconds_bucket{le=\"+Inf\"} 10\n"
                                     "fleet_write_seconds_sum 2.500000\n"
                                     "fleet_write_seconds_count 10\n");
}

static void openmetrics_has_other_names_units_bounds_and_an_end(void **state) {
        _cleanup_text_ Text t = {};

        write_families(METRICS_OPENMETRICS, &t);
        assert_string_equal(t.chars, "# HELP fleet_build Version.\n"
                                     "# TYPE fleet_build info\n"
                                     "fleet_build_info{version=\"0.1\"} 1\n"
                                     "# HELP fleet_moves Moves.\n"
                                     "# TYPE fleet_moves counter\n"
                                     "fleet_moves_total{a=\"a\\\\b\\\"c\\nd\",b=\"\"} 18446744073709551615\n"
                                     "# HELP fleet_size_bytes Size.\n"
                                     "# TYPE fleet_size_bytes gauge\n"
                                     "# UNIT fleet_size_bytes bytes\n"
                                     "fleet_size_bytes 0\n"
                                     "fleet_size_bytes 12.000034\n"
                                     "# HELP fleet_write_seconds Writes.\n"
                                     "# TYPE fleet_write_seconds histogram\n"
                                     "# UNIT fleet_write_seconds seconds\n"
                                     "fleet_write_seconds_bucket{le=\"0.0005\"} 1\n"
                                     "fleet_write_seconds_bucket{le=\"1.0\"} 3\n"
                                     "fleet_write_seconds_bucket{le=\"4.0\"} 6\n"
                                     "fleet_write_seconds_bucket{le=\"+Inf\"} 10\n"
                                     "fleet_write_seconds_sum 2.500000\n"
                                     "fleet_write_seconds_count 10\n"
                                     "# EOF\n");
}

static void the_accept_field_selects_the_form(void **state) {
        static const struct {
                const char *accept;
                MetricsForm form;
        } rows[] = {
                /* Prometheus 2.42, and 3. */
                { "application/openmetrics-text;version=1.0.0,application/"
                  "openmetrics-text;version=0.0.1;q=0.75,"
                  "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                  METRICS_OPENMETRICS },
                { "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
                  "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,*/*;q=0.1",
                  METRICS_OPENMETRICS },
                { "application/openmetrics-text", METRICS_OPENMETRICS },
                { " Application/OpenMetrics-Text ; Version = \"1.0.0\" ; Q = 0.001 ", METRICS_OPENMETRICS },
                { "text/plain;q=0.5, application/openmetrics-text;q=0.5", METRICS_OPENMETRICS },
                { "text/plain, application/openmetrics-text;q=0.999", METRICS_TEXT },
                { "application/openmetrics-text;version=0.0.1", METRICS_TEXT },
                { "application/openmetrics-text;version=2.0.0", METRICS_TEXT },
                { "application/openmetrics-text;version=1.0.0;q=0", METRICS_TEXT },
                { "application/openmetrics-text;q=0.0", METRICS_TEXT },
                { "application/openmetrics-text;q=1.001", METRICS_TEXT },
                { "application/openmetrics-text;q=2", METRICS_TEXT },
                { "application/openmetrics-text;q=-1", METRICS_TEXT },
                { "application/openmetrics-text;q=0.5000", METRICS_TEXT },
                { "application/openmetrics-text;q=0,5", METRICS_TEXT },
                { "application/openmetrics-text;q=", METRICS_TEXT },
                { "application/openmetrics-text;q", METRICS_TEXT },
                { "application/openmetrics-text;version=", METRICS_TEXT },
                { "application/openmetrics-texts", METRICS_TEXT },
                { "application/openmetrics", METRICS_TEXT },
                { ",;,=;;q=1,,", METRICS_TEXT },
                { "\"", METRICS_TEXT },
                { "*/*", METRICS_TEXT },
                { "text/plain", METRICS_TEXT },
                { "", METRICS_TEXT },
                { NULL, METRICS_TEXT },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++)
                if (metrics_form_accepted(rows[i].accept) != rows[i].form)
                        fail_msg("%s", rows[i].accept);
}

/* -- The table -- */

/* OpenMetrics: the name without the suffix of its type ends in the unit. */
static bool name_has_unit(const MetricFamily *f) {
        char name[128];

        snprintf(name, sizeof(name), "%s", f->name);
        if (f->type == METRIC_COUNTER)
                name[strlen(name) - strlen("_total")] = 0;
        return ends_with(name, "_seconds") ? f->unit && streq(f->unit, "seconds") :
               ends_with(name, "_bytes")   ? f->unit && streq(f->unit, "bytes") :
                                             !f->unit;
}

static void each_family_follows_the_rules_of_its_type(void **state) {
        for (size_t i = 0; metrics_family(i); i++) {
                const MetricFamily *f = metrics_family(i);

                if (!starts_with(f->name, "fleet_") && !starts_with(f->name, "process_"))
                        fail_msg("%s", f->name);
                for (const char *p = f->name; *p; p++)
                        assert_true(islower(*p) || *p == '_');
                assert_true(ends_with(f->name, "_total") == (f->type == METRIC_COUNTER));
                assert_true(ends_with(f->name, "_info") == (f->type == METRIC_INFO));
                if (!name_has_unit(f))
                        fail_msg("%s: its unit", f->name);
                assert_true(f->labels[0] || !f->labels[1]);
                assert_null(strpbrk(f->help, "\"\\\n_*"));
                assert_true(ends_with(f->help, "."));
                for (size_t k = 0; k < i; k++)
                        if (streq(metrics_family(k)->name, f->name))
                                fail_msg("%s is there twice", f->name);
        }
}

/* A dashboard of fleet reads these. */
static void the_names_of_fleet_remain(void **state) {
        static const char *const names[] = {
                "fleet_engine_leader_start_time",
                "fleet_engine_task_count_total",
                "fleet_engine_task_failure_count_total",
                "fleet_engine_reconcile_count_total",
                "fleet_engine_reconcile_failure_count_total",
                "fleet_registry_operation_count_total",
                "fleet_registry_operation_failed_count_total",
        };
        size_t n = 0;

        for (size_t i = 0; metrics_family(i); i++)
                for (size_t k = 0; k < ELEMENTS(names); k++)
                        n += streq(metrics_family(i)->name, names[k]);
        assert_int_equal(n, ELEMENTS(names));
}

/* The entry of a family in the manual. */
static void append_entry(Text *t, const MetricFamily *f) {
        static const char *const types[] = { "gauge", "counter", "histogram", "info" };

        text_printf(t, "*%s*, %s", f->name, types[f->type]);
        for (size_t i = 0; i < METRIC_LABELS_MAX && f->labels[i]; i++)
                text_printf(t, "%s _%s_", i == 0 ? " by" : " and", f->labels[i]);
        text_printf(t, "\n\t%s\n", f->help);
}

/* The entries follow each other without others in between. With METRICS_WRITE, print them. */
static void the_manual_has_the_same_table(void **state) {
        const char *top = getenv("srcdir") ?: ".", *at;
        _cleanup_free_ char *manual = NULL, *path = NULL;
        size_t size, n = 0;

        assert_true(asprintf(&path, "%s/man/fleetd.8.scd", top) > 0);
        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 20, &manual, &size), 0);
        at = strstr(manual, "\n# METRICS\n");
        assert_non_null(at);
        for (size_t i = 0; metrics_family(i); i++) {
                _cleanup_text_ Text t = {};
                const char *entry;

                append_entry(&t, metrics_family(i));
                if (getenv("METRICS_WRITE")) {
                        printf("%s\n", t.chars);
                        continue;
                }
                entry = strstr(at, t.chars);
                if (!entry)
                        fail_msg("man/fleetd.8.scd lacks, at this place of METRICS:\n%s", t.chars);
                at = entry + t.size;
                n++;
        }
        for (const char *p = strstr(manual, "\n# METRICS\n"); p && p < strstr(manual, "\n# HTTP API\n");
             p = strchr(p + 1, '\n'))
                n -= starts_with(p, "\n*fleet_") || starts_with(p, "\n*process_");
        if (!getenv("METRICS_WRITE") && n != 0)
                fail_msg("METRICS of man/fleetd.8.scd has a family that does not exist");
}

static void durations_are_counted_in_buckets_that_double(void **state) {
        DurationCounts counts = {};

        assert_int_equal(duration_bounds_ns[0], 500 * 1000);
        for (size_t i = 0; i < DURATION_BUCKETS; i++) {
                assert_true(i == 0 || duration_bounds_ns[i] == 2 * duration_bounds_ns[i - 1]);
                duration_count(&counts, duration_bounds_ns[i]);
                duration_count(&counts, duration_bounds_ns[i] + 1);
        }
        assert_int_equal(duration_bounds_ns[DURATION_BUCKETS - 1], 4096 * 1000 * 1000ull);
        assert_int_equal(counts.buckets[0], 1);
        for (size_t i = 1; i < DURATION_BUCKETS; i++)
                assert_int_equal(counts.buckets[i], 2);
        assert_int_equal(counts.buckets[DURATION_BUCKETS], 1);
        assert_int_equal(counts.sum_ns, 2 * (8192 * 1000 * 1000ull - 500 * 1000) + DURATION_BUCKETS);
}

static void the_figures_of_this_process_are_read(void **state) {
        _cleanup_close_ int fd = -1;
        MetricsProcess before = {}, after = {};

        metrics_process_read(&before);
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        metrics_process_read(&after);
        assert_true(before.resident_bytes > 1024 * 1024);
        assert_true(after.cpu_ns >= before.cpu_ns && before.cpu_ns > 0);
        assert_int_equal(after.open_fds, before.open_fds + 1);
}

/* -- Units -- */

/* A cgroup below 'root', made with its slices; "": no such file. */
static void cgroup_make(const char *root, const char *path, const char *cpu, const char *memory,
                        const char *io, const char *pressure) {
        const char *const files[][2] = { { "cpu.stat", cpu },
                                         { "memory.current", memory },
                                         { "pids.current", "3\n" },
                                         { "io.stat", io },
                                         { "cpu.pressure", pressure } };
        char name[512];

        for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
                snprintf(name, sizeof(name), "%s/%.*s", root, (int) (slash - path), path);
                (void) mkdir(name, 0755);
        }
        snprintf(name, sizeof(name), "%s/%s", root, path);
        assert_int_equal(mkdir(name, 0755), 0);
        for (size_t i = 0; i < ELEMENTS(files); i++) {
                snprintf(name, sizeof(name), "%s/%s/%s", root, path, files[i][0]);
                if (files[i][1][0])
                        scratch_write(name, files[i][1]);
        }
}

static MetricsUnit *unit_named(MetricsUnit *units, size_t n, const char *name) {
        for (size_t i = 0; i < n; i++)
                if (streq(units[i].name, name))
                        return &units[i];
        fail_msg("%s", name);
        return NULL;
}

static void figures_of_units_are_read_from_their_cgroups_in_all_slices(void **state) {
        static const char *const names[] = { "web.service",  "memory.service", "db.container",
                                             "none.service", "bad.service",    "a-b.slice" };
        MetricsUnit units[ELEMENTS(names)] = {}, *u;
        char *root = scratch_new();

        cgroup_make(root, "system.slice/web.service", "usage_usec 1500000\nuser_usec 1\nsystem_usec 2\n",
                    "4096\n",
                    "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"
                    "8:16 rbytes=1 wbytes=2 rios=1 wios=2 dbytes=0 dios=0\n8:32 rbytes=100",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 total=9\n");
        cgroup_make(root, "a.slice/a-b.slice/_memory.service", "usage_usec 7\n", "", "", "");
        cgroup_make(root, "system.slice/db.service", "", "18446744073709551615\n", "", "");
        cgroup_make(root, "system.slice/bad.service", "usage_usec x\n", "-1\n", "garbage\n", "some total\n");
        cgroup_make(root, "init.scope/none.service", "usage_usec 1\n", "1\n", "", "");
        for (size_t i = 0; i < ELEMENTS(names); i++)
                metrics_unit_init(&units[i], names[i]);
        metrics_units_read(root, units, ELEMENTS(units));

        u = unit_named(units, ELEMENTS(units), "web.service");
        assert_true(u->cpu_us.known && u->cpu_us.value == 1500000);
        assert_true(u->memory_bytes.known && u->memory_bytes.value == 4096);
        assert_true(u->tasks.known && u->tasks.value == 3);
        assert_true(u->read_bytes.known && u->read_bytes.value == 11);
        assert_true(u->written_bytes.known && u->written_bytes.value == 22);
        assert_true(u->stalled_us[METRICS_CPU].known && u->stalled_us[METRICS_CPU].value == 2500000);
        assert_false(u->stalled_us[METRICS_MEMORY].known || u->stalled_us[METRICS_IO].known);
        u = unit_named(units, ELEMENTS(units), "memory.service");
        assert_true(u->cpu_us.known && u->cpu_us.value == 7);
        assert_false(u->memory_bytes.known || u->read_bytes.known);
        u = unit_named(units, ELEMENTS(units), "db.container");
        assert_true(u->memory_bytes.known && u->memory_bytes.value == UINT64_MAX);
        u = unit_named(units, ELEMENTS(units), "bad.service");
        assert_false(u->cpu_us.known || u->memory_bytes.known || u->stalled_us[METRICS_CPU].known);
        assert_true(u->read_bytes.known && u->read_bytes.value == 0);
        u = unit_named(units, ELEMENTS(units), "none.service"); /* not in a slice */
        assert_false(u->cpu_us.known || u->tasks.known);
        assert_false(unit_named(units, ELEMENTS(units), "a-b.slice")->tasks.known);

        /* No cgroup v2. */
        metrics_unit_init(&units[0], "web.service");
        units[0].tasks.known = false;
        metrics_units_read("/nonexistent", units, 1);
        assert_false(units[0].tasks.known);
        scratch_free(root);
}

static void a_sample_of_a_unit_is_absent_where_its_figure_is_unknown(void **state) {
        static const struct {
                const char *name;
                MetricsUnitWrite write;
                const char *known;
        } rows[] = {
                { "active", metrics_write_active, "f{unit=\"a\"} 1\n" },
                { "failed", metrics_write_failed, "f{unit=\"a\"} 0\n" },
                { "start", metrics_write_start, "f{unit=\"a\"} 1.500000\n" },
                { "restarts", metrics_write_restarts, "f{unit=\"a\"} 4\n" },
                { "cpu", metrics_write_cpu, "f{unit=\"a\"} 2.000001\n" },
                { "memory", metrics_write_memory, "f{unit=\"a\"} 5\n" },
                { "tasks", metrics_write_tasks, "f{unit=\"a\"} 6\n" },
                { "read", metrics_write_read, "f{unit=\"a\"} 7\n" },
                { "written", metrics_write_written, "f{unit=\"a\"} 8\n" },
        };
        static const MetricFamily family = { "f", METRIC_GAUGE, NULL, { "unit" }, "" },
                                  pressure = { "f", METRIC_GAUGE, NULL, { "unit", "resource" }, "" };
        const MetricsUnit known = { .name = "a",
                                    .active = true,
                                    .since_ms = 1500,
                                    .restarts = 4,
                                    .cpu_us = { 2000001, true },
                                    .memory_bytes = { 5, true },
                                    .tasks = { 6, true },
                                    .read_bytes = { 7, true },
                                    .written_bytes = { 8, true },
                                    .stalled_us = { [METRICS_IO] = { 9, true } } },
                          unknown = { .name = "a", .inactive = true };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_text_ Text t = {}, none = {};
                MetricsWriter w = { .family = &family, .text = &t }, n = { .family = &family, .text = &none };

                rows[i].write(&w, &known);
                assert_string_equal(t.chars, rows[i].known);
                rows[i].write(&n, &unknown);
                assert_int_equal(none.size > 0, i < 2);
        }
        {
                _cleanup_text_ Text t = {};
                MetricsWriter w = { .family = &pressure, .text = &t };

                metrics_write_pressure(&w, &known);
                assert_string_equal(t.chars, "f{unit=\"a\",resource=\"io\"} 0.000009\n");
        }
}

enum { MANY = 1000 };

/* A scrape of 'n' units, "many-0.service" and so on. */
static MetricsScrape *scrape_of_units(size_t n) {
        MetricsScrape *scrape = NEW0(MetricsScrape, 1);
        char name[64];

        assert_non_null(scrape);
        scrape->units = NEW0(MetricsUnit, n);
        assert_non_null(scrape->units);
        for (; scrape->n_units < n; scrape->n_units++) {
                snprintf(name, sizeof(name), "many-%zu.service", scrape->n_units);
                metrics_unit_init(&scrape->units[scrape->n_units], name);
                scrape->units[scrape->n_units].active = true;
        }
        return scrape;
}

static MetricsUnit *scrape_unit(MetricsScrape *scrape, const char *name) {
        return unit_named(scrape->units, scrape->n_units, name);
}

/* Read the units again after 'former', which it takes over. */
static MetricsScrape *scrape_again(MetricsScrape *scrape, MetricsScrape *former, const char *root) {
        metrics_scrape_resume(scrape, former);
        metrics_scrape_read_units(scrape, root);
        scrape = metrics_scrape_keep(scrape);
        assert_non_null(scrape);
        return scrape;
}

static void of_many_units_some_are_read_in_turn_and_all_have_figures(void **state) {
        enum { N = 3 * METRICS_READ_MAX, ROUNDS = 3 };
        MetricsScrape *scrape = scrape_of_units(N), *next;
        char *root = scratch_new(), path[512], gone[512];
        size_t n_read;

        for (size_t i = 0; i < N; i++)
                cgroup_make(root, scrape->units[i].cgroup, "usage_usec 0\n", "8\n", "", "some total=9\n");
        scrape = scrape_again(scrape, NULL, root); /* the first one reads all */
        for (size_t i = 0; i < N; i++)
                assert_true(scrape->units[i].cpu_us.known && !scrape->units[i].resumed);

        for (size_t round = 1; round <= ROUNDS; round++) {
                for (size_t i = 0; i < N; i++) {
                        snprintf(path, sizeof(path), "%s/many-%zu.service/cpu.stat", root, i);
                        scratch_write(path, "usage_usec 1\n");
                }
                scrape = scrape_again(scrape_of_units(N), scrape, root);
                n_read = 0;
                for (size_t i = 0; i < N; i++) {
                        assert_true(scrape->units[i].cpu_us.known && scrape->units[i].memory_bytes.known);
                        n_read += scrape->units[i].cpu_us.value;
                }
                assert_int_equal(n_read, round * METRICS_READ_MAX);
        }

        /* A unit whose state has changed is read at once; one without a cgroup has no figures. */
        for (size_t i = 0; i < N; i++) {
                snprintf(path, sizeof(path), "%s/many-%zu.service/cpu.stat", root, i);
                scratch_write(path, "usage_usec 2\n");
        }
        next = scrape_of_units(N);
        for (size_t i = 0; i < N; i++)
                scrape_unit(next, scrape->units[i].name)->since_ms = i % 2 == 0;
        snprintf(path, sizeof(path), "%s/many-7.service", root);
        snprintf(gone, sizeof(gone), "%s/gone", root);
        assert_int_equal(rename(path, gone), 0);
        scrape = scrape_again(next, scrape, root);
        n_read = 0;
        for (size_t i = 0; i < N; i++)
                n_read += scrape->units[i].cpu_us.value == 2;
        assert_in_range(n_read, N / 2 + METRICS_READ_MAX / 2 - 1, N / 2 + METRICS_READ_MAX / 2);
        assert_false(scrape_unit(scrape, "many-7.service")->cpu_us.known);
        assert_false(scrape_unit(scrape, "many-7.service")->stalled_us[METRICS_CPU].known);

        /* Of few units, all are read each time: no scrape is kept. */
        assert_null(metrics_scrape_keep(scrape_of_units(METRICS_READ_MAX)));
        metrics_scrape_free(scrape);
        scratch_free(root);
}

/* A new folder in the kernel's cgroup v2, if this process may make one. False: 'ret' is 'scratch'. */
static bool cgroups_begin(const char *scratch, char ret[static 256]) {
        static const char *const mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
        char procs[256];

        for (size_t i = 0; i < ELEMENTS(mounts); i++) {
                snprintf(procs, sizeof(procs), "%s/cgroup.procs", mounts[i]);
                snprintf(ret, 256, "%s/fleetd-test-%d", mounts[i], (int) getpid());
                if (access(procs, W_OK) == 0 && mkdir(ret, 0755) == 0)
                        return true;
        }
        snprintf(ret, 256, "%s", scratch);
        return false;
}

/* Write the families of units; return the CPU time in ms. */
static double scrape_write(MetricsScrape *scrape) {
        static const MetricsUnitWrite writes[] = { metrics_write_active, metrics_write_failed,
                                                   metrics_write_start,  metrics_write_restarts,
                                                   metrics_write_cpu,    metrics_write_memory,
                                                   metrics_write_tasks,  metrics_write_read,
                                                   metrics_write_written };
        static const MetricFamily of_unit = { "fleet_unit_cpu_seconds_total", .labels = { "unit" } };
        static const MetricFamily pressure = { "fleet_unit_pressure_seconds_total",
                                               .labels = { "unit", "resource" } };
        MetricsWriter w = { .text = &scrape->text, .family = &of_unit };
        MetricsProcess before, after;

        metrics_process_read(&before);
        for (size_t i = 0; i < ELEMENTS(writes); i++)
                for (size_t k = 0; k < scrape->n_units; k++)
                        writes[i](&w, &scrape->units[k]);
        w.family = &pressure;
        for (size_t k = 0; k < scrape->n_units; k++)
                metrics_write_pressure(&w, &scrape->units[k]);
        metrics_process_read(&after);
        assert_int_equal(scrape->text.error, 0);
        return (double) (after.cpu_ns - before.cpu_ns) / 1e6;
}

/* Of the kernel's cgroups if possible: the time is that of its files. */
static void a_thousand_units_cost_little_time(void **state) {
        char *scratch = scratch_new(), root[256], path[512];
        MetricsScrape *scrape = scrape_of_units(MANY);
        double read[2], written;
        MetricsProcess before, after;
        bool real;

        real = cgroups_begin(scratch, root);
        for (size_t i = 0; i < MANY; i++) {
                snprintf(path, sizeof(path), "%s/%s", root, scrape->units[i].cgroup);
                if (real)
                        (void) mkdir(path, 0755);
                else
                        cgroup_make(root, scrape->units[i].cgroup, "usage_usec 7\n", "8\n", "",
                                    "some total=9\n");
        }
        for (size_t i = 0; i < ELEMENTS(read); i++) {
                metrics_process_read(&before);
                scrape = scrape_again(i == 0 ? scrape : scrape_of_units(MANY), i == 0 ? NULL : scrape, root);
                metrics_process_read(&after);
                read[i] = (double) (after.cpu_ns - before.cpu_ns) / 1e6;
        }
        written = scrape_write(scrape);
        for (size_t i = 0; i < MANY; i++) {
                assert_true(scrape->units[i].cpu_us.known);
                snprintf(path, sizeof(path), "%s/%s", root, scrape->units[i].cgroup);
                (void) rmdir(path);
        }
        (void) rmdir(root);
        metrics_scrape_free(scrape);
        scratch_free(scratch);
        print_message(
                "%s cgroups of 1,000 units: %.1f ms of CPU time in the first scrape, %.1f ms in the next "
                "one, and %.1f ms for the text\n",
                real ? "the kernel's" : "made-up", read[0], read[1], written);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_text_format_has_types_and_samples),
                cmocka_unit_test(openmetrics_has_other_names_units_bounds_and_an_end),
                cmocka_unit_test(the_accept_field_selects_the_form),
                cmocka_unit_test(each_family_follows_the_rules_of_its_type),
                cmocka_unit_test(the_names_of_fleet_remain),
                cmocka_unit_test(the_manual_has_the_same_table),
                cmocka_unit_test(durations_are_counted_in_buckets_that_double),
                cmocka_unit_test(the_figures_of_this_process_are_read),
                cmocka_unit_test(figures_of_units_are_read_from_their_cgroups_in_all_slices),
                cmocka_unit_test(a_sample_of_a_unit_is_absent_where_its_figure_is_unknown),
                cmocka_unit_test(of_many_units_some_are_read_in_turn_and_all_have_figures),
                cmocka_unit_test(a_thousand_units_cost_little_time),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
