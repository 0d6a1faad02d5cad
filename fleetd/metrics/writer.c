#include "fleetd/metrics/writer.h"

#include <strings.h>

/* -- Selection of the form -- */

enum { QUALITY_MAX = 1000 };

/* One media range of an Accept field. */
typedef struct MediaRange {
        const char *type; /* "text/plain", without parameters */
        size_t type_size;
        bool has_version, version_is_1;
        unsigned quality; /* thousandths; 0: not acceptable, or invalid */
} MediaRange;

static bool accept_is(const char *s, size_t size, const char *word) {
        return size == strlen(word) && strncasecmp(s, word, size) == 0;
}

/* Remove spaces and tabs at both ends. */
static void accept_trim(const char **s, size_t *size) {
        while (*size > 0 && (**s == ' ' || **s == '\t')) {
                (*s)++;
                (*size)--;
        }
        while (*size > 0 && ((*s)[*size - 1] == ' ' || (*s)[*size - 1] == '\t'))
                (*size)--;
}

/* Return the weight in thousandths (RFC 9110, 12.4.2): "1", "0.5", "1.000"; 0 if it is invalid. */
static unsigned accept_quality(const char *s, size_t size) {
        unsigned quality, scale = QUALITY_MAX / 10;

        if (size < 1 || size > 5 || (s[0] != '0' && s[0] != '1') || (size > 1 && s[1] != '.'))
                return 0;
        quality = s[0] == '1' ? QUALITY_MAX : 0;
        for (size_t i = 2; i < size; i++, scale /= 10) {
                if (s[i] < '0' || s[i] > '9')
                        return 0;
                quality += (unsigned) (s[i] - '0') * scale;
        }
        return quality <= QUALITY_MAX ? quality : 0;
}

/* Read "name=value". Unknown parameters have no effect. */
static void accept_parameter(MediaRange *range, const char *s, size_t size) {
        const char *equals = memchr(s, '=', size), *value = equals ? equals + 1 : s + size;
        size_t name_size = equals ? (size_t) (equals - s) : size, value_size = (size_t) (s + size - value);

        accept_trim(&s, &name_size);
        accept_trim(&value, &value_size);
        if (value_size >= 2 && value[0] == '"' && value[value_size - 1] == '"') {
                value++;
                value_size -= 2;
        }
        if (accept_is(s, name_size, "q"))
                range->quality = accept_quality(value, value_size);
        else if (accept_is(s, name_size, "version")) {
                range->has_version = true;
                range->version_is_1 = accept_is(value, value_size, "1.0.0");
        }
}

/* Read a media range of 'size' bytes. */
static MediaRange accept_range(const char *s, size_t size) {
        MediaRange range = { .quality = QUALITY_MAX };
        bool first = true;

        for (const char *end = s + size; s <= end;) {
                const char *semicolon = memchr(s, ';', (size_t) (end - s)), *next = semicolon ?: end;

                if (first) {
                        range.type = s;
                        range.type_size = (size_t) (next - s);
                        accept_trim(&range.type, &range.type_size);
                } else
                        accept_parameter(&range, s, (size_t) (next - s));
                first = false;
                s = next + 1;
        }
        return range;
}

MetricsForm metrics_form_accepted(const char *accept) {
        unsigned open = 0, text = 0;

        for (const char *s = accept; s;) {
                size_t size = strcspn(s, ",");
                MediaRange range = accept_range(s, size);

                if (accept_is(range.type, range.type_size, "application/openmetrics-text")) {
                        if (range.version_is_1 || !range.has_version)
                                open = MAX(open, range.quality);
                } else if (accept_is(range.type, range.type_size, "text/plain"))
                        text = MAX(text, range.quality);
                s = s[size] == ',' ? s + size + 1 : NULL;
        }
        return open > 0 && open >= text ? METRICS_OPENMETRICS : METRICS_TEXT;
}

const char *metrics_content_type(MetricsForm form) {
        static const char *const types[_METRICS_FORM_MAX] = {
                [METRICS_TEXT] = "text/plain; version=0.0.4; charset=utf-8",
                [METRICS_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
        };

        return types[form];
}

/* -- Families and samples -- */

/* The name of a family in OpenMetrics is that of its samples without this suffix. */
static const char *const suffixes[_METRIC_TYPE_MAX] = {
        [METRIC_COUNTER] = "_total", [METRIC_INFO] = "_info"
};

static const char *const type_names[_METRICS_FORM_MAX][_METRIC_TYPE_MAX] = {
        [METRICS_TEXT] = { "gauge", "counter", "histogram", "gauge" },
        [METRICS_OPENMETRICS] = { "gauge", "counter", "histogram", "info" },
};

/* "# HELP NAME TEXT\n" */
static void metrics_describe(MetricsWriter *w, const char *what, const char *value) {
        const MetricFamily *f = w->family;
        const char *suffix = w->form == METRICS_OPENMETRICS ? suffixes[f->type] : NULL;

        text_append_bytes(w->text, "# ", 2);
        text_append(w->text, what);
        text_append_char(w->text, ' ');
        text_append_bytes(w->text, f->name, strlen(f->name) - (suffix ? strlen(suffix) : 0));
        text_append_char(w->text, ' ');
        text_append(w->text, value);
        text_append_char(w->text, '\n');
}

void metrics_begin_family(MetricsWriter *w, const MetricFamily *family) {
        w->family = family;
        metrics_describe(w, "HELP", family->help);
        metrics_describe(w, "TYPE", type_names[w->form][family->type]);
        if (w->form == METRICS_OPENMETRICS && family->unit)
                metrics_describe(w, "UNIT", family->unit);
}

/* Both forms escape the same characters in the values of labels. */
static void metrics_append_value(Text *t, const char *value) {
        for (size_t plain; *value; value += plain + 1) {
                plain = strcspn(value, "\\\"\n");
                text_append_bytes(t, value, plain);
                if (value[plain] == 0)
                        return;
                text_append_char(t, '\\');
                text_append_char(t, value[plain] == '\n' ? 'n' : value[plain]);
        }
}

/* Append the name of a sample and its labels, and the space before its value. */
static void metrics_append_name(MetricsWriter *w, const char *const values[METRIC_LABELS_MAX]) {
        const MetricFamily *f = w->family;
        bool open = false;

        text_append(w->text, f->name);
        for (size_t i = 0; i < METRIC_LABELS_MAX; i++) {
                if (!f->labels[i])
                        continue;
                text_append_char(w->text, open ? ',' : '{');
                text_append(w->text, f->labels[i]);
                text_append_bytes(w->text, "=\"", 2);
                metrics_append_value(w->text, values[i]);
                text_append_char(w->text, '"');
                open = true;
        }
        if (open)
                text_append_char(w->text, '}');
        text_append_char(w->text, ' ');
}

void metrics_add(MetricsWriter *w, uint64_t value, const char *first, const char *second) {
        metrics_append_name(w, (const char *const[]) { first, second });
        text_append_u64(w->text, value);
        text_append_char(w->text, '\n');
}

static void metrics_append_ns(Text *t, uint64_t ns) {
        text_append_u64(t, ns / NS_PER_S);
        text_printf(t, ".%06u\n", (unsigned) (ns % NS_PER_S / 1000));
}

void metrics_add_ns(MetricsWriter *w, uint64_t ns, const char *first, const char *second) {
        metrics_append_name(w, (const char *const[]) { first, second });
        metrics_append_ns(w->text, ns);
}

/* OpenMetrics requires the bound 1 to be written as 1.0. */
static void metrics_append_bound(MetricsWriter *w, uint64_t ns) {
        bool whole = ns % NS_PER_S == 0;

        text_printf(w->text, "%g%s", (double) ns / NS_PER_S,
                    whole && w->form == METRICS_OPENMETRICS ? ".0" : "");
}

/* Each bucket includes those before it. */
void metrics_add_histogram(MetricsWriter *w, const MetricHistogram *h) {
        const char *name = w->family->name;
        uint64_t n = 0;

        for (size_t i = 0; i <= h->n_bounds; i++) {
                n += h->buckets[i];
                text_printf(w->text, "%s_bucket{le=\"", name);
                if (i < h->n_bounds)
                        metrics_append_bound(w, h->bounds_ns[i]);
                else
                        text_append(w->text, "+Inf");
                text_printf(w->text, "\"} %llu\n", (unsigned long long) n);
        }
        text_printf(w->text, "%s_sum ", name);
        metrics_append_ns(w->text, h->sum_ns);
        text_printf(w->text, "%s_count %llu\n", name, (unsigned long long) n);
}

void metrics_end(MetricsWriter *w) {
        if (w->form == METRICS_OPENMETRICS)
                text_append(w->text, "# EOF\n");
}
