/* One row of the history as text: what happened, aligned in columns. */
#include "client/verbs/events.h"

#include "client/core/times.h"
#include "units/verdict_former.h"

enum {
        WIDTH_DEFAULT = 80,
        EVENT_INDENT = 4,      /* of a text below the columns */
        TEXT_WIDTH_MIN = 24,   /* a narrower text is printed below the columns */
        INDEX_WIDTH_MIN = 100, /* a terminal from this width on has the index, too */
        NARROW_WIDTH = 60,     /* a narrower one has no columns: names are cut */
};

void event_row_done(EventRow *row) {
        free(row->unit);
        free(row->machine);
        free(row->text);
        free(row->line);
        *row = (EventRow) {};
}

/* -- What happened -- */

/* By the kind of the row; fleet-api(7) documents all kinds. A row of a kind that only its reason describes
 * has no text here. */
static const struct {
        const char *kind, *text;
        const char *separator; /* before the reason, if there is one; NULL: it is not printed */
        bool by_user;          /* the user follows */
} kinds[] = {
        { "submitted", "submitted", ", ", true },
        { "updated", "updated", ": ", true },
        { "destroyed", "destroyed", ": ", true },
        { "target", "target state", " ", true },
        { "assigned", "assigned", ": ", false },
        { "stop", "to be stopped", ": ", false },
        { "state", "", "", false },
        { "presence", "", "", false },
        { "joined", "joined as a member", ": ", false },
        { "started", "fleetd started", ": ", false },
        { "version", "runs fleetd", " ", false },
        { "problem", "unit directory", ": ", true },
        { "resolved", "unit directory: problem resolved", ": ", true },
        { "metadata", "metadata", " ", true },
        { "level", "feature level", " ", true },
        { "adoption", "the wait for reports", " ", true },
        { "removed", "removed", NULL, true }, /* its reason is the name */
        { "settings", "settings of the cluster", ": ", true },
        { "replaced", "replaced as a voter", ": ", false },
        { "certificate", "certificate", " ", false },
        { "token", "token", " ", true },
        { "ca", "", "", true },
        { "role", "", "", false },
        { "rejected", "rejected", ": ", false },
        { "leave", "leave", " ", true },
        { "user", "user", " ", true },
        { "denied", "denied", ": ", true },
        { "waiting", "waiting for a machine", ": ", false },
        { "leader", "is the leader", ": ", false },
        { "maintenance", "", "", true },
        { "rollout", "", "", true },
        { "move", "", "", true },
        { "secret", "secret", " ", true },
        { "content", "", "", false },
};

static void append_happening(Text *t, const char *kind, const char *machine, const char *reason,
                             const char *user, VerdictCode code) {
        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                const char *text = kinds[i].text, *separator = kinds[i].separator;

                if (!streq(kinds[i].kind, kind))
                        continue;
                if (code == VERDICT_LEFT) {
                        text_append(t, "was shut down"); /* a host that leaves has rows of that kind */
                        return;
                }
                if (streq(kind, "waiting") && *machine)
                        text = "waiting for another machine"; /* it runs on this one */
                else if (code == VERDICT_RECOVERED || code == VERDICT_RESTORED)
                        text = separator = "";
                text_append(t, text);
                if (*reason && separator)
                        text_printf(t, "%s%s", separator, reason);
                if (kinds[i].by_user && *user)
                        text_printf(t, " by %s", streq(user, "directory") ? "the unit directory" : user);
                return;
        }
        text_printf(t, "%s%s%s", kind, *reason ? ": " : "", reason); /* of a newer daemon */
}

void row_verdict(const JsonValue *row, Verdict *ret) {
        const char *reason = member_text(row, "reason");

        verdict_say(ret, VERDICT_SAID, reason);
        if (json_value_member(row, "code"))
                (void) verdict_read(row, ret, NULL);
        else
                verdict_read_former_row(member_text(row, "kind"), member_text(row, "name"), reason, ret);
}

/* Return whether the row is of something that failed, or that waits or was lost: a row of events --problems.
 */
static bool is_bad(const char *kind, const Verdict *v) {
        static const char *const kinds_bad[] = { "denied", "problem", "rejected", "waiting" };

        return verdict_rows[v->code].bad || (IS_AMONG(kind, kinds_bad) && v->code != VERDICT_CONFIRMED);
}

int event_row_read(const JsonValue *root, const char *line, size_t size, EventRow *ret) {
        const char *kind = member_text(root, "kind"), *reason = member_text(root, "reason");
        _cleanup_text_ Text text = {};
        Verdict verdict;

        row_verdict(root, &verdict);
        append_happening(&text, kind, member_text(root, "machine"), reason, member_text(root, "user"),
                         verdict.code);
        *ret = (EventRow) {
                .first_ms = member_number(root, "first"),
                .last_ms = member_number(root, "last"),
                .count = member_number(root, "count"),
                .index = member_number(root, "index"),
                .bad = is_bad(kind, &verdict),
                .requested = *member_text(root, "user") != 0,
                .unit = strdup(member_text(root, "name")),
                .machine = strdup(member_text(root, "machine")),
                .text = text_take(&text, NULL),
                .line = strndup(line, size),
        };
        if (ret->unit && ret->machine && ret->text && ret->line)
                return 0;
        event_row_done(ret);
        return -ENOMEM;
}

/* -- Times -- */

/* Append what happened, and how often. */
static void append_text(Text *t, const EventRow *row, uint64_t now_ms) {
        text_append_printable(t, row->text);
        if (row->count < 2)
                return;
        text_printf(t, "    %llu times since ", (unsigned long long) row->count);
        append_clock(t, row->first_ms, now_ms, true);
}

/* -- Columns -- */

static size_t terminal_width(void) {
        return output_columns() ?: (size_t) WIDTH_DEFAULT;
}

static const char *or_none(const char *s) {
        return *s ? s : "–";
}

/* Set the time and the unit of a row as they are printed. */
static void row_cells(const EventColumns *c, const EventRow *row, Text *ret_time, Text *ret_unit) {
        append_clock(ret_time, row->last_ms, c->now_ms, true);
        text_append_printable(ret_unit, or_none(row->unit));
}

/* A longer text than 'max' exceeds its column, and moves the others of its row. */
static void column_fit(size_t *width, const char *s, size_t max) {
        size_t n = output_width(s);

        if (n <= max)
                *width = MAX(*width, n);
}

int event_columns_fit(EventColumns *c, const EventRow *row, const char *machine) {
        _cleanup_text_ Text time = {}, unit = {}, text = {};

        row_cells(c, row, &time, &unit);
        append_text(&text, row, c->now_ms);
        if (time.error < 0 || unit.error < 0 || text.error < 0)
                return -ENOMEM;
        column_fit(&c->time, time.chars, SIZE_MAX);
        column_fit(&c->unit, unit.chars, terminal_width() / 3);
        column_fit(&c->machine, or_none(machine), terminal_width() / 3);
        column_fit(&c->text, text.chars, SIZE_MAX);
        return 0;
}

static void append_padded(Text *t, const char *s, size_t width) {
        text_printf(t, "%s%*s", s, (int) (width - MIN(width, output_width(s))), "");
}

static void append_indent(Text *t, size_t width) {
        while (t->size > 0 && t->chars[t->size - 1] == ' ')
                t->chars[--t->size] = 0;
        text_append_char(t, '\n');
        append_padded(t, "", width);
}

/* Append a text, wrapped to 'width' and indented; 'index' follows its first line. */
static void append_wrapped(Text *t, const char *s, size_t width, size_t indent, const char *colour,
                           const char *index) {
        for (bool first = true; *s || first; first = false) {
                size_t size = output_line_size(s, width);

                if (!first)
                        append_indent(t, indent);
                text_append(t, colour);
                text_append_bytes(t, s, size);
                text_append(t, *colour ? COLOUR_OFF : "");
                if (first && *index) {
                        for (size_t n = output_width(s) - output_width(s + size); n < width; n++)
                                text_append_char(t, ' ');
                        text_printf(t, "  %s", index);
                }
                s += size + strspn(s + size, " ");
        }
}

/* Append the first line of a row on a narrow terminal: a long unit leaves half of the space to the machine.
 */
static void append_names(Text *t, const char *time, const char *unit, const char *machine, size_t width) {
        size_t space = width - MIN(width, output_width(time) + 2 * strlen("  ")),
               rest = space - MIN(space, output_width(unit)),
               machine_width = MIN(output_width(machine), MAX(space / 2, rest));

        text_printf(t, "%s  ", time);
        output_cut(t, unit, space - machine_width, true);
        text_append(t, "  ");
        output_cut(t, machine, machine_width, true);
}

static void append_on_terminal(Text *t, const EventColumns *c, const EventRow *row, const char *machine) {
        const char *colour = row->bad && output_has_colours() ? output_state_colour("failed") : "";
        _cleanup_text_ Text time = {}, unit = {}, text = {};
        size_t width = terminal_width(), used, indent;
        char index[32] = "";

        row_cells(c, row, &time, &unit);
        append_text(&text, row, c->now_ms);
        t->error = MIN(MIN(time.error, unit.error), text.error);
        if (t->error < 0)
                return;
        if (width >= INDEX_WIDTH_MIN)
                snprintf(index, sizeof(index), "index %llu", (unsigned long long) row->index);
        if (width < NARROW_WIDTH)
                append_names(t, time.chars, unit.chars, or_none(machine), width);
        else {
                append_padded(t, "", c->time - MIN(output_width(time.chars), c->time));
                text_printf(t, "%s  ", time.chars);
                append_padded(t, unit.chars, c->unit);
                text_append(t, "  ");
                append_padded(t, or_none(machine), c->machine);
        }
        used = output_width(t->chars ?: "") + 2 + (*index ? 2 + strlen(index) : 0);
        if (width >= NARROW_WIDTH && used + TEXT_WIDTH_MIN <= width) {
                indent = output_width(t->chars ?: "") + 2;
                text_append(t, "  ");
        } else {
                indent = EVENT_INDENT;
                used = EVENT_INDENT;
                index[0] = 0;
                append_indent(t, indent);
        }
        append_wrapped(t, text.chars, MIN(MAX(width, used + 1) - used, MAX(c->text, 1u)), indent, colour,
                       index);
}

int event_row_print(const EventColumns *c, const EventRow *row, const char *machine, bool followed) {
        _cleanup_text_ Text t = {};
        EventColumns full = { .now_ms = 0 };

        if (isatty(STDOUT_FILENO))
                append_on_terminal(&t, c, row, machine);
        else {
                _cleanup_text_ Text unit = {};

                row_cells(&full, row, &t, &unit);
                text_printf(&t, "\t%s\t%s\t", *row->unit ? unit.chars ?: "" : "-", *machine ? machine : "-");
                append_text(&t, row, 0);
                t.error = MIN(t.error, unit.error);
        }
        TRY(t.error);
        if (output_control(t.chars) >= 0) /* texts of others are escaped */
                putchar('\n');
        return followed && fflush(stdout) == EOF ? -errno : 0;
}
