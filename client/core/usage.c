#include "client/core/usage.h"

enum { USAGE_LINE_MAX = 512 * 1024 };

/* Where the figures are in a line. */
static const struct {
        const char *group, *name;
} usage_members[_USAGE_FIGURE_MAX] = {
        [USAGE_CPU_US] = { NULL, "cpu" },
        [USAGE_MEMORY] = { NULL, "memory" },
        [USAGE_TASKS] = { NULL, "tasks" },
        [USAGE_READ] = { NULL, "read" },
        [USAGE_WRITTEN] = { NULL, "written" },
        [USAGE_STALLED_US] = { "pressure", "cpu" },
        [USAGE_STALLED_MEMORY_US] = { "pressure", "memory" },
        [USAGE_STALLED_IO_US] = { "pressure", "io" },
        [USAGE_BUSY_US] = { NULL, "busy" },
        [USAGE_IDLE_US] = { NULL, "idle" },
        [USAGE_AVAILABLE] = { NULL, "available" },
        [USAGE_DISK_SIZE] = { "disk", "size" },
        [USAGE_DISK_FREE] = { "disk", "free" },
};

/* -- Lines -- */

static void usage_read(UsageFigures *ret, const JsonValue *object) {
        for (size_t i = 0; i < _USAGE_FIGURE_MAX; i++) {
                const char *group = usage_members[i].group;
                const JsonValue *in = group ? json_value_member(object, group) : object;
                UsageFigure *f = &ret->figures[i];

                f->known = json_value_u64(json_value_member(in, usage_members[i].name), &f->value) >= 0;
        }
}

static int usage_compare(const void *a, const void *b) {
        return strcmp(((const UsageFigures *) a)->name, ((const UsageFigures *) b)->name);
}

int usage_parse(const char *line, size_t size, UsageSample **ret) {
        _cleanup_usage_ UsageSample *s = NEW0(UsageSample, 1);
        _cleanup_json_ JsonValue *root = NULL; /* much larger than the figures */
        const JsonValue *units;

        if (!s)
                return -ENOMEM;
        TRY(size > USAGE_LINE_MAX ? -EFBIG : 0);
        TRY(json_object_parse(line, size, &root, NULL));
        TRY(json_value_u64(json_value_member(root, "at"), &s->at_us));
        usage_read(&s->host, json_value_member(root, "host"));
        units = json_value_member(root, "units");
        s->units = NEW0(UsageFigures, json_value_count(units) + 1);
        if (!s->units)
                return -ENOMEM;
        JSON_EACH(item, units) {
                const char *name = json_value_string(json_value_member(item, "name"));

                if (!name)
                        return -EBADMSG;
                s->units[s->n_units].name = strdup(name);
                if (!s->units[s->n_units].name)
                        return -ENOMEM;
                usage_read(&s->units[s->n_units++], item);
        }
        qsort(s->units, s->n_units, sizeof(*s->units), usage_compare);
        *ret = TAKE_PTR(s);
        return 0;
}

UsageSample *usage_free(UsageSample *s) {
        if (s) {
                for (size_t i = 0; i < s->n_units; i++)
                        free(s->units[i].name);
                free(s->units);
                free(s);
        }
        return NULL;
}

void usage_append_json(Text *t, const UsageFigures *figures) {
        const char *group = NULL;

        for (size_t i = 0; i < _USAGE_FIGURE_MAX; i++) {
                if (!figures->figures[i].known)
                        continue;
                if (group && (!usage_members[i].group || !streq(group, usage_members[i].group))) {
                        json_close(t, '}');
                        group = NULL;
                }
                if (!group && usage_members[i].group) {
                        group = usage_members[i].group;
                        json_open(t, group, '{');
                }
                json_begin(t, usage_members[i].name);
                text_append_u64(t, figures->figures[i].value);
        }
        if (group)
                json_close(t, '}');
}

/* -- Cells -- */

/* Return 'n' times 'factor' over 'span', at most UINT64_MAX. */
static uint64_t usage_ratio(uint64_t n, uint64_t factor, uint64_t span) {
        if (n <= UINT64_MAX / factor)
                return n * factor / span;
        return n / span <= UINT64_MAX / factor ? n / span * factor : UINT64_MAX;
}

/* Add to a cell how much a counter has grown; former NULL: unknown. The cell of several counters is known if
 * all of them are. */
static void usage_add_growth(UsageCell *cell, const UsageFigures *former, const UsageFigures *now,
                             UsageFigureKind kind) {
        const UsageFigure *a = former ? &former->figures[kind] : NULL, *b = &now->figures[kind];

        if (!b->known)
                cell->known = USAGE_ABSENT;
        else if (!a || !a->known || a->value > b->value)
                cell->known = MIN(cell->known, USAGE_PENDING);
        else if (cell->known == USAGE_KNOWN)
                cell->value += b->value - a->value;
}

static UsageCell usage_rate(const UsageFigures *former, const UsageFigures *now, UsageFigureKind kind,
                            uint64_t factor, uint64_t span_us) {
        UsageCell cell = { .known = USAGE_KNOWN };

        usage_add_growth(&cell, former, now, kind);
        if (cell.known == USAGE_KNOWN)
                cell.value = usage_ratio(cell.value, factor, span_us);
        return cell;
}

static UsageCell usage_level(const UsageFigure *f) {
        return (UsageCell) { .known = f->known ? USAGE_KNOWN : USAGE_ABSENT, .value = f->value };
}

/* What is in use of 'total', by what is not. */
static UsageCell usage_part(const UsageFigure *total, const UsageFigure *rest) {
        if (!total->known || !rest->known || rest->value > total->value)
                return (UsageCell) {};
        return (UsageCell) { .known = USAGE_KNOWN,
                             .value = total->value - rest->value,
                             .total = total->value };
}

/* All processors of the host. */
static UsageCell usage_of_processors(const UsageFigures *former, const UsageFigures *now) {
        UsageCell busy = { .known = USAGE_KNOWN }, all = busy;

        usage_add_growth(&busy, former, now, USAGE_BUSY_US);
        all = busy;
        usage_add_growth(&all, former, now, USAGE_IDLE_US);
        if (all.known == USAGE_KNOWN && all.value == 0)
                all.known = USAGE_PENDING;
        busy.value = all.known == USAGE_KNOWN ? usage_ratio(busy.value, 1000, all.value) : 0;
        return (UsageCell) { .known = all.known, .value = busy.value, .total = 1000 };
}

static UsageCell usage_pressure(const UsageFigures *former, const UsageFigures *now, uint64_t span_us) {
        static const char *const resources[] = { "cpu", "memory", "io" };
        UsageCell most = {};

        for (size_t i = 0; i < ELEMENTS(resources); i++) {
                UsageCell c = usage_rate(former, now, USAGE_STALLED_US + i, 1000, span_us);

                if (c.known < most.known || (c.known == most.known && c.value <= most.value && i > 0))
                        continue;
                most = c;
                most.resource = resources[i];
        }
        return most;
}

void usage_row(const UsageSample *former, const UsageSample *now, const UsageFigures *unit, UsageRow *ret) {
        const UsageFigures *f = unit ?: &now->host, *before = NULL;
        UsageCell *cells = ret->cells;
        uint64_t span_us = 1;

        if (former && former->at_us < now->at_us) {
                span_us = now->at_us - former->at_us;
                before = unit ? bsearch(unit, former->units, former->n_units, sizeof(*unit), usage_compare) :
                                &former->host;
        }
        *ret = (UsageRow) {};
        cells[USAGE_COLUMN_CPU] = unit ? usage_rate(before, f, USAGE_CPU_US, 1000, span_us) :
                                         usage_of_processors(before, f);
        cells[USAGE_COLUMN_MEMORY] = unit ? usage_level(&f->figures[USAGE_MEMORY]) :
                                            usage_part(&f->figures[USAGE_MEMORY],
                                                       &f->figures[USAGE_AVAILABLE]);
        cells[USAGE_COLUMN_IO] = usage_rate(before, f, USAGE_READ, 1, 1);
        usage_add_growth(&cells[USAGE_COLUMN_IO], before, f, USAGE_WRITTEN);
        cells[USAGE_COLUMN_IO].value = usage_ratio(cells[USAGE_COLUMN_IO].value, 1000000, span_us);
        cells[USAGE_COLUMN_TASKS] = usage_level(&f->figures[USAGE_TASKS]);
        cells[USAGE_COLUMN_PRESSURE] = usage_pressure(before, f, span_us);
        cells[USAGE_COLUMN_DISK] = usage_part(&f->figures[USAGE_DISK_SIZE], &f->figures[USAGE_DISK_FREE]);
}

int usage_share(const UsageCell *cell) {
        if (cell->known != USAGE_KNOWN || cell->total == 0)
                return -1;
        return (int) MIN(usage_ratio(cell->value, 1000, cell->total), (uint64_t) 1000);
}

/* As systemctl prints sizes: in units of 1024 bytes, with one decimal. */
static void usage_append_bytes(Text *t, uint64_t n) {
        static const char units[] = "KMGTPE";
        uint64_t tenths = usage_ratio(n, 10, 1024);
        const char *unit = units;

        if (n < 1024) {
                text_printf(t, "%llu B", (unsigned long long) n);
                return;
        }
        for (; tenths >= 10240 && unit[1]; unit++)
                tenths /= 1024;
        text_printf(t, "%llu.%llu %c", (unsigned long long) tenths / 10, (unsigned long long) tenths % 10,
                    *unit);
}

void usage_append_cell(Text *t, const UsageRow *row, UsageColumn column) {
        const UsageCell *c = &row->cells[column];
        unsigned long long value = c->value;

        if (c->known == USAGE_ABSENT)
                text_append(t, "–");
        if (c->known != USAGE_KNOWN)
                return;
        switch (column) {
        case USAGE_COLUMN_CPU:
                text_printf(t, "%llu.%llu %%", value / 10, value % 10);
                return;
        case USAGE_COLUMN_PRESSURE:
                text_printf(t, "%s %llu %%", c->resource, value / 10);
                return;
        case USAGE_COLUMN_TASKS:
                text_append_u64(t, value);
                return;
        case USAGE_COLUMN_DISK:
                usage_append_bytes(t, c->total - c->value);
                return;
        default:
                usage_append_bytes(t, value);
        }
}
