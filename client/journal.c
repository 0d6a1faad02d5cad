/* journal: the log of a unit from all machines, merged by time.
 *
 * The journal of one machine is printed as it arrives. Several journals are requested in a format with a time
 * (short-unix, or json), and their lines are sorted. Other formats have no time: they are printed machine by
 * machine. */
#include <time.h>

#include "base/parse.h"
#include "client/unit_status.h"

enum { TURN_MS = 100, LINES_HELD_MAX = 1000000 };

typedef enum Format { FORMAT_SHORT, FORMAT_UNIX, FORMAT_JSON, FORMAT_OTHER } Format;

/* A line, with the continuation lines of its message, which begin with spaces. */
typedef struct Entry {
        uint64_t at_us;
        size_t source, number; /* entries of the same time stay in order of arrival */
        char *text;            /* owned, terminated, with its newline */
} Entry;

typedef struct Source {
        struct Merge *merge;
        Stream *stream;
        Text partial; /* the beginning of a line */
        int status;   /* -1: the answer has not ended */
} Source;

typedef struct Merge {
        Format format;
        Source *sources;
        size_t n_sources;
        Entry *entries;
        size_t n, capacity, number;
        bool any; /* some entry was printed */
} Merge;

static Format format_of(const char *output) {
        static const char *const names[] = {
                [FORMAT_SHORT] = "short", [FORMAT_UNIX] = "short-unix", [FORMAT_JSON] = "json"
        };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (streq(output, names[i]))
                        return (Format) i;
        return FORMAT_OTHER;
}

/* Return the time of "1700000000.123456 host ..." or "__REALTIME_TIMESTAMP":"1700000000123456" in us; 0:
 * none. */
static uint64_t time_of(Format format, const char *line) {
        static const char member[] = "\"__REALTIME_TIMESTAMP\":\"";
        uint64_t us = 0;
        char digits[32];
        size_t n = 0;

        if (format == FORMAT_JSON) {
                line = strstr(line, member);
                if (!line)
                        return 0;
                line += sizeof(member) - 1;
        }
        for (; n < sizeof(digits) - 1 &&
               ((*line >= '0' && *line <= '9') || (*line == '.' && format != FORMAT_JSON));
             line++)
                if (*line != '.')
                        digits[n++] = *line;
        digits[n] = 0;
        return parse_u64(digits, &us) < 0 ? 0 : us;
}

static int entry_add(Merge *m, size_t source, const char *line, size_t size) {
        uint64_t at_us = time_of(m->format, line);
        Entry *last = NULL;
        char *text;

        /* A line without a time continues the entry before. */
        for (size_t i = m->n; i > 0 && at_us == 0 && !last; i--)
                last = m->entries[i - 1].source == source ? &m->entries[i - 1] : NULL;
        if (last) {
                size_t before = strlen(last->text);

                text = realloc(last->text, before + size + 1);
                if (!text)
                        return -ENOMEM;
                memcpy(text + before, line, size);
                text[before + size] = 0;
                last->text = text;
                return 0;
        }
        if (m->n >= LINES_HELD_MAX)
                return -E2BIG;
        text = strndup(line, size);
        if (!text || GROW(m->entries, m->capacity, m->n + 1) < 0) {
                free(text);
                return -ENOMEM;
        }
        m->entries[m->n++] =
                (Entry) { .at_us = at_us, .source = source, .number = m->number++, .text = text };
        return 0;
}

/* Split the output into lines: pieces of an answer end anywhere. */
static int on_answer(void *userdata, const char *json, size_t json_size) {
        Source *s = userdata;
        _cleanup_json_ JsonValue *source = NULL;
        const char *data = "";
        int r;

        r = unit_status_line_read(json, json_size, &source, &data, &s->status);
        for (const char *at = data, *end; r >= 0 && *at; at = end) {
                end = at + strcspn(at, "\n");
                end += *end == '\n';
                text_append_bytes(&s->partial, at, (size_t) (end - at));
                r = s->partial.error;
                if (r >= 0 && end[-1] == '\n') {
                        r = entry_add(s->merge, s - s->merge->sources, s->partial.chars, s->partial.size);
                        text_clear(&s->partial);
                }
        }
        return r;
}

static int by_time(const void *a, const void *b) {
        const Entry *x = a, *y = b;

        if (x->at_us != y->at_us)
                return x->at_us < y->at_us ? -1 : 1;
        return x->number < y->number ? -1 : x->number > y->number;
}

/* Print short-unix as the short format of journalctl: the local date replaces the seconds. */
static void entry_print(const Merge *m, const Entry *e) {
        time_t seconds = e->at_us / 1000000;
        const char *rest = strchr(e->text, ' ');
        char date[32];
        struct tm tm;

        if (m->format != FORMAT_SHORT || e->at_us == 0 || !rest || !localtime_r(&seconds, &tm) ||
            strftime(date, sizeof(date), "%b %d %H:%M:%S", &tm) == 0)
                (void) output_text(e->text, strlen(e->text));
        else {
                fputs(date, stdout);
                (void) output_text(rest, strlen(rest));
        }
}

/* Print the last 'lines' entries, sorted by time, and free all. */
static void entries_print(Merge *m, uint64_t lines) {
        if (m->n > 0)
                qsort(m->entries, m->n, sizeof(*m->entries), by_time);
        for (size_t i = 0; i < m->n; i++) {
                if (m->n - i <= lines) {
                        entry_print(m, &m->entries[i]);
                        m->any = true;
                }
                free(m->entries[i].text);
        }
        m->n = 0;
        (void) output_flush();
}

static void merge_done(Merge *m) {
        for (size_t i = 0; i < m->n; i++)
                free(m->entries[i].text);
        for (size_t i = 0; i < m->n_sources; i++) {
                stream_free(m->sources[i].stream);
                text_done(&m->sources[i].partial);
        }
        free(m->entries);
        free(m->sources);
}

static void journal_path(Client *c, const char *name, const char *machine, const char *output, Text *t) {
        unit_status_path(t, "journal", name, machine);
        text_printf(t, "&lines=%llu&follow=%s", (unsigned long long) c->options.lines,
                    c->options.follow ? "true" : "false");
        unit_status_add(t, "output", output);
        unit_status_add(t, "since", c->options.since);
        unit_status_add(t, "until", c->options.until);
}

static int merge_open(Client *c, Merge *m, const char *name, const Listing *machines, Error *err) {
        m->sources = NEW0(Source, machines->n + 1);
        if (!m->sources)
                return -ENOMEM;
        for (size_t i = 0; i < machines->n; i++) {
                _cleanup_text_ Text path = {};
                Source *s = &m->sources[m->n_sources++];
                int r;

                *s = (Source) { .merge = m, .status = -1 };
                journal_path(c, name, machines->machines[i].id,
                             m->format == FORMAT_SHORT ? "short-unix" : c->options.journal_output, &path);
                r = stream_new(c->connection, "GET", client_path(&path), on_answer, s, &s->stream, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Read the available lines of each machine; without any, wait for TURN_MS. Print an error for a machine that
 * fails, and skip it. Return the number of open journals, or an error. */
static int merge_turn(Merge *m, const Listing *machines, Error *err) {
        size_t n_open = 0;
        bool any = false;

        for (size_t i = 0; i < m->n_sources; i++) {
                Source *s = &m->sources[i];
                Error lost = {};
                int r;

                if (!s->stream)
                        continue;
                r = stream_wait(s->stream, any || n_open > 0 ? 0 : TURN_MS, &lost);
                any = any || r > 0;
                if (r == -ENOMEM)
                        return r;
                if (r == -E2BIG)
                        return error_set(err, r, "more than %d lines: limit them by --lines or --since",
                                         LINES_HELD_MAX);
                if (r >= 0) {
                        n_open++;
                        continue;
                }
                if (r != -ENODATA || s->status < 0) {
                        entries_print(m, UINT64_MAX);
                        client_note("Failed to read the journal of %s: %s",
                                    machines->machines[i].hostname ?: machines->machines[i].id,
                                    r == -ENODATA ? "connection lost before the end" : error_text(&lost, r));
                }
                s->stream = stream_free(s->stream);
        }
        return (int) n_open;
}

static int journal_merged(Client *c, const char *name, const Listing *machines, Format format, bool *ret_any,
                          Error *err) {
        _cleanup_(merge_done) Merge m = { .format = format };
        int r;

        r = merge_open(c, &m, name, machines, err);
        while (r >= 0 && !output_has_failed() && (r = merge_turn(&m, machines, err)) > 0)
                if (c->options.follow && m.any)
                        entries_print(&m, UINT64_MAX);
                else if (c->options.follow && m.n > 0) {
                        /* All machines send past entries at once: sort them together once. */
                        r = merge_turn(&m, machines, err);
                        entries_print(&m, c->options.lines);
                }
        if (r < 0)
                return r;
        entries_print(&m, c->options.follow ? UINT64_MAX : c->options.lines);
        *ret_any = m.any;
        return EXIT_DONE;
}

static int journal_of(Client *c, const char *name, const char *machine, Error *err) {
        _cleanup_text_ Text path = {};

        journal_path(c, name, machine, c->options.journal_output, &path);
        return unit_status_print(c, "GET", &path, name, err);
}

/* Print the journals of all machines: the unit may have run on any of them. */
static int journal_everywhere(Client *c, const char *name, const ApiUnit *unit, Error *err) {
        _cleanup_listing_ Listing machines = {};
        Format format = format_of(c->options.journal_output);
        int r, status = EXIT_DONE;
        bool any = false;

        r = client_machines(c, &machines, err);
        if (r < 0)
                return client_fail_after(r, err, "Error retrieving list of active machines from fleet API: ");
        if (format != FORMAT_OTHER && machines.n > 1) {
                status = journal_merged(c, name, &machines, format, &any, err);
                if (status == EXIT_DONE && !any && !unit->global && unit->current_state <= TARGET_INACTIVE) {
                        fprintf(stderr, "Unit %s does not appear to be running.\n", name);
                        return EXIT_FAILED;
                }
                return status;
        }
        for (size_t i = 0; i < machines.n && status == EXIT_DONE; i++)
                status = journal_of(c, name, machines.machines[i].id, err);
        return status;
}

int verb_journal(Client *c, char **args, size_t n, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_free_ char *name = NULL, *machine = NULL;
        int r;

        if (n != 1) {
                fputs("One unit file must be provided.\n", stderr);
                return EXIT_FAILED;
        }
        name = unit_name_from_argument(args[0]);
        r = name ? client_unit(c, name, &unit, err) : -ENOMEM;
        if (r < 0)
                return client_fail_after(r, err, "Error retrieving unit %s: ", name);
        if (r == 0) {
                client_note_absent(c, name);
                return EXIT_FAILED;
        }
        r = unit_status_machine(c, &machine, err);
        if (r != EXIT_DONE)
                return r;
        return machine ? journal_of(c, name, machine, err) : journal_everywhere(c, name, &unit, err);
}
