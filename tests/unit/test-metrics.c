/* The metrics: both forms, the selection of a form, and the table of families, which the manual has, too. */
#include <ctype.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/file.h"
#include "fleetd/metrics_table.h"

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
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
