/* Metrics as text: the text format of Prometheus (0.0.4), and OpenMetrics 1.0. Pure.
 *
 * A family is a row of a table (fleetd/metrics_table.c). Its reader adds samples; the writer adds what
 * precedes and names them in each form. The forms differ in the names of counters and infos, in units, in
 * numbers of buckets and in the end. */
#pragma once

#include "base/text.h"

typedef enum MetricsForm {
        METRICS_TEXT,        /* text/plain; version=0.0.4 */
        METRICS_OPENMETRICS, /* application/openmetrics-text; version=1.0.0 */
        _METRICS_FORM_MAX,
} MetricsForm;

/* Return the form for the value of an Accept field (RFC 9110, 12.5.1); NULL: absent. OpenMetrics if version
 * 1.0.0 of it is accepted at least as much as text/plain; text for everything else, also for an invalid
 * value. */
MetricsForm metrics_form_accepted(const char *accept);
const char *metrics_content_type(MetricsForm form);

typedef enum MetricType {
        METRIC_GAUGE,
        METRIC_COUNTER,   /* its name ends in "_total" */
        METRIC_HISTOGRAM, /* of seconds */
        METRIC_INFO,      /* its name ends in "_info", its value is 1; a gauge in the text format */
        _METRIC_TYPE_MAX,
} MetricType;

enum { METRIC_LABELS_MAX = 2, NS_PER_US = 1000, NS_PER_MS = 1000 * NS_PER_US, NS_PER_S = 1000 * NS_PER_MS };

typedef struct MetricFamily {
        const char *name; /* of the samples, in the text format: "fleet_engine_moves_total" */
        MetricType type;
        const char *unit;                      /* "seconds", "bytes"; NULL: none */
        const char *labels[METRIC_LABELS_MAX]; /* in the order of the values; NULL: none */
        const char *help;                      /* one line without quotes and backslashes */
} MetricFamily;

typedef struct MetricsWriter {
        MetricsForm form;
        Text *text; /* keeps the first failure */
        const MetricFamily *family;
} MetricsWriter;

/* Begin a family: its help, type and unit. The samples that follow are of this family. */
void metrics_begin_family(MetricsWriter *w, const MetricFamily *family);
/* Add a sample of the current family. Each family always has its labels: NULL only where it has none. */
void metrics_add(MetricsWriter *w, uint64_t value, const char *first, const char *second);
void metrics_add_ns(MetricsWriter *w, uint64_t ns, const char *first, const char *second); /* in seconds */

enum { METRIC_BUCKETS_MAX = 16 };

/* A distribution of durations. 'buckets' has n_bounds + 1 counts; the last one counts longer ones. */
typedef struct MetricHistogram {
        const uint64_t *bounds_ns;
        size_t n_bounds;
        const uint64_t *buckets;
        uint64_t sum_ns;
} MetricHistogram;

void metrics_add_histogram(MetricsWriter *w, const MetricHistogram *h);
void metrics_end(MetricsWriter *w); /* after the last family */
