/* top: what the units of all machines use.
 *
 * Each machine sends lines of usage as long as it is asked, each by its own clock. What is per second comes
 * from the last two lines of a machine. One that does not answer is one line, and the others go on. */
#include <poll.h>
#include <signal.h>
#include <termios.h>

#include "base/clock.h"
#include "base/parse.h"
#include "client/core/machines.h"
#include "client/core/patterns.h"
#include "client/core/progress.h"
#include "client/core/usage.h"
#include "client/verbs/machine_stream.h"
#include "client/verbs/unit_status.h"

enum {
        TOP_TURN_MS = 100,
        TOP_DRAW_MS = 1000,    /* of the screen */
        TOP_SILENCE_MS = 2000, /* after the time of the next line */
        TOP_NARROW = 64,       /* columns of a terminal */
        TOP_INTERVAL_MS = 2000,
        TOP_ONCE_MS = 1000,
        TOP_INTERVAL_MIN_MS = 1000,
        TOP_INTERVAL_MAX_MS = 3600000,
        TOP_BY_NAME = USAGE_COLUMN_TASKS + 1, /* a sort; the others are columns */
};

static const char *const top_sorts[] = { "cpu", "memory", "io", "tasks", "name" };
static const char top_keys[] = "cmitn"; /* one for each of them */

typedef struct TopSource {
        struct Top *top;
        MachineStream in;
        UsageSample *former, *now; /* owned; NULL: not received yet */
        uint64_t heard_ms;         /* when the last line was received, or the first one was requested */
        Text reason;               /* why none is received; "": they are, or are late */
        bool fresh;                /* 'now' was not printed */
} TopSource;

typedef struct TopRow {
        const TopSource *source;  /* borrowed, as the next */
        const UsageFigures *unit; /* NULL: the machine */
        UsageRow row;
} TopRow;

typedef struct Top {
        Client *client;
        Listing machines;
        TopSource *sources;
        size_t n_sources;
        Names patterns;
        uint64_t interval_ms;
        int sort;
        TopRow *rows; /* of the present drawing */
        size_t n_rows, capacity;
        bool screen; /* the whole terminal is drawn, and keys are read */
        bool keys;   /* standard input is a terminal; 'terminal' is as it was */
        struct termios terminal;
        sigset_t signals; /* as they were blocked */
} Top;

/* -- Machines -- */

static int top_on_line(void *userdata, const char *line, size_t size) {
        UsageSample *sample = NULL;
        TopSource *s = userdata;
        int r;

        r = usage_parse(line, size, &sample);
        if (r < 0)
                return r == -ENOMEM ? r : 1;
        usage_free(s->former);
        s->former = s->now;
        s->now = sample;
        s->heard_ms = clock_monotonic_ms();
        s->fresh = true;
        text_clear(&s->reason);
        return 0;
}

static int top_open(TopSource *s, Error *err) {
        _cleanup_text_ Text path = {};

        text_append(&path, "/fleet/v1/usage?");
        unit_status_add(&path, "machine", s->in.machine->id);
        text_printf(&path, "&interval=%llums", (unsigned long long) s->top->interval_ms);
        s->heard_ms = clock_monotonic_ms();
        return machine_stream_open(&s->in, &path, err);
}

static int top_add_source(void *userdata, const ApiMachine *machine) {
        Top *t = userdata;
        TopSource *s = &t->sources[t->n_sources];

        for (size_t i = 0; i < t->n_sources; i++)
                if (t->sources[i].in.machine == machine)
                        return 0;
        *s = (TopSource) {
                .top = t,
                .in = { .client = t->client, .machine = machine, .line = top_on_line, .userdata = s }
        };
        t->n_sources++;
        return 0;
}

static int top_read(TopSource *s, uint64_t ms) {
        const char *reason;
        int r;

        r = TRY(machine_stream_read(&s->in, ms, !s->top->client->options.once, &reason));
        if (s->in.stream)
                return r;
        text_clear(&s->reason);
        text_append(&s->reason, reason ?: "its answer has ended");
        return s->reason.error ?: 1;
}

/* Read from all machines; without any line, wait for a moment. Return the number of machines that are open or
 * will be. */
static int top_turn(Top *t, Error *err) {
        TopSource *last = NULL;
        bool any = false;
        int n = 0;

        for (size_t i = 0; i < t->n_sources; i++) {
                TopSource *s = &t->sources[i];

                if (s->in.retry_ms > 0 && clock_monotonic_ms() >= s->in.retry_ms)
                        TRY(top_open(s, err));
                if (s->in.stream)
                        any = TRY(top_read(s, 0)) > 0 || any;
                last = s->in.stream ? s : last;
                n += s->in.stream || s->in.retry_ms > 0;
        }
        if (!any && last)
                TRY(top_read(last, TOP_TURN_MS));
        else if (!any)
                (void) usleep(TOP_TURN_MS * 1000);
        return n;
}

/* Append why the machine has no figures now. Return false if it has, or is about to. */
static bool top_append_silence(Text *t, const TopSource *s) {
        uint64_t silent_ms = clock_monotonic_ms() - s->heard_ms, allowed_ms = TOP_SILENCE_MS;

        if (s->reason.size > 0) {
                text_append(t, s->reason.chars);
                return true;
        }
        if (s->now) /* a machine doubles its interval when a line takes long */
                allowed_ms += MAX(s->top->interval_ms,
                                  s->former ? (s->now->at_us - s->former->at_us) / 1000 : 0);
        if (silent_ms <= allowed_ms)
                return false;
        text_printf(t, "no answer for %llu s", (unsigned long long) silent_ms / 1000);
        return true;
}

static bool top_is_silent(const TopSource *s) {
        _cleanup_text_ Text t = {};

        return top_append_silence(&t, s);
}

/* Return whether each machine has sent what a drawing without gaps needs, or will not. */
static bool top_is_ready(const Top *t) {
        for (size_t i = 0; i < t->n_sources; i++) {
                const TopSource *s = &t->sources[i];

                if (!(client_prints_json(t->client) ? s->now : s->former) && !top_is_silent(s))
                        return false;
        }
        return true;
}

/* -- Rows -- */

static bool top_matches(const Top *t, const char *name) {
        return t->patterns.n == 0 || patterns_match(&t->patterns, name);
}

static int top_add_row(Top *t, const TopSource *s, const UsageFigures *unit) {
        TopRow *row;

        TRY(GROW(t->rows, t->capacity, t->n_rows + 1));
        row = &t->rows[t->n_rows++];
        *row = (TopRow) { .source = s, .unit = unit };
        usage_row(s->former, s->now, unit, &row->row);
        return 0;
}

static const char *top_row_name(const TopRow *row) {
        return row->unit ? row->unit->name : row->source->in.machine->hostname ?: "";
}

/* What is not known comes last; equals are sorted by name. */
static int top_compare(const void *first, const void *second) {
        const TopRow *a = first, *b = second;
        int sort = a->source->top->sort, r;

        if (sort != TOP_BY_NAME) {
                const UsageCell *ca = &a->row.cells[sort], *cb = &b->row.cells[sort];

                if (ca->known != cb->known)
                        return ca->known > cb->known ? -1 : 1;
                if (ca->value != cb->value)
                        return ca->value > cb->value ? -1 : 1;
        }
        r = strcmp(top_row_name(a), top_row_name(b));
        return r != 0 ? r : strcmp(a->source->in.machine->id, b->source->in.machine->id);
}

static int top_collect(Top *t) {
        t->n_rows = 0;
        for (size_t i = 0; i < t->n_sources; i++) {
                const TopSource *s = &t->sources[i];

                if (!s->now || top_is_silent(s))
                        continue;
                if (t->client->options.machines)
                        TRY(top_add_row(t, s, NULL));
                for (size_t k = 0; k < s->now->n_units && !t->client->options.machines; k++)
                        if (top_matches(t, s->now->units[k].name))
                                TRY(top_add_row(t, s, &s->now->units[k]));
        }
        if (t->n_rows > 0)
                qsort(t->rows, t->n_rows, sizeof(*t->rows), top_compare);
        return 0;
}

/* Make the table of the first rows, at most 'max'. */
static Table top_table(const Top *t, size_t max) {
        static const UsageColumn of_units[] = { USAGE_COLUMN_CPU, USAGE_COLUMN_MEMORY, USAGE_COLUMN_IO,
                                                USAGE_COLUMN_TASKS, USAGE_COLUMN_PRESSURE },
                                 of_machines[] = { USAGE_COLUMN_CPU, USAGE_COLUMN_MEMORY, USAGE_COLUMN_DISK,
                                                   USAGE_COLUMN_PRESSURE };
        bool machines = t->client->options.machines;
        const UsageColumn *columns = machines ? of_machines : of_units;
        Table table = table_begin(machines ? "machine,>cpu,>mem,>disk free,pressure" :
                                             "unit,machine,>cpu,>mem,>io/s,>tasks,pressure");

        for (size_t i = 0; i < t->n_rows && i < max; i++) {
                const TopRow *row = &t->rows[i];
                _cleanup_text_ Text name = {};

                append_machine_name(&name, &t->machines, row->source->in.machine->id);
                if (!machines)
                        table_add_text(&table, row->unit->name);
                table_add(&table, &name);
                for (size_t k = 0; k < (machines ? ELEMENTS(of_machines) : ELEMENTS(of_units)); k++) {
                        _cleanup_text_ Text cell = {};

                        usage_append_cell(&cell, &row->row, columns[k]);
                        table.error = table.error ?: cell.error;
                        table_add_text(&table, text_chars(&cell));
                }
        }
        if (output_columns() < TOP_NARROW) /* otherwise there is space for all columns, and names are cut */
                table_fit(&table, "PRESSURE,TASKS,IO/s,DISK FREE,MACHINE,MEM");
        return table;
}

/* -- Output -- */

/* Write a line of JSON for each machine that has sent one since the last drawing, or does not answer. */
static int top_print_json(Top *t) {
        for (size_t i = 0; i < t->n_sources; i++) {
                TopSource *s = &t->sources[i];
                _cleanup_text_ Text line = {}, name = {}, silence = {};
                bool silent = top_append_silence(&silence, s);

                if (!silent && !s->fresh)
                        continue;
                append_machine_name(&name, &t->machines, s->in.machine->id);
                json_open(&line, NULL, '{');
                json_add_string(&line, "machine", s->in.machine->id);
                json_add_string(&line, "hostname", text_chars(&name));
                if (silent)
                        json_add_string(&line, "error", text_chars(&silence));
                else {
                        json_begin(&line, "at");
                        text_append_u64(&line, s->now->at_us);
                        json_open(&line, "host", '{');
                        usage_append_json(&line, &s->now->host);
                        json_close(&line, '}');
                        json_open(&line, "units", '[');
                        for (size_t k = 0; k < s->now->n_units; k++) {
                                if (!top_matches(t, s->now->units[k].name) || t->client->options.machines)
                                        continue;
                                json_open(&line, NULL, '{');
                                json_add_string(&line, "name", s->now->units[k].name);
                                usage_append_json(&line, &s->now->units[k]);
                                json_close(&line, '}');
                        }
                        json_close(&line, ']');
                }
                json_close(&line, '}');
                s->fresh = false;
                TRY(output_built(&line));
        }
        return output_flush();
}

/* Append a line for each machine that does not answer. Return their number. */
static size_t top_append_silences(const Top *t, Text *ret) {
        size_t n = 0;

        for (size_t i = 0; i < t->n_sources; i++) {
                _cleanup_text_ Text reason = {}, name = {};

                if (!top_append_silence(&reason, &t->sources[i]))
                        continue;
                append_machine_name(&name, &t->machines, t->sources[i].in.machine->id);
                text_printable(ret, "– %s: %s", text_chars(&name), text_chars(&reason));
                text_append(ret, "\n");
                n++;
        }
        return n;
}

/* Draw the whole terminal by one write: no line is missing in between, and none of before stays. */
static int top_draw(const Top *t) {
        _cleanup_text_ Text notes = {}, body = {}, all = {};
        size_t n_notes = top_append_silences(t, &notes), rows = output_rows(), columns = output_columns(),
               n = 0;
        _cleanup_table_ Table table = top_table(t, rows > n_notes + 1 ? rows - n_notes - 1 : 0);

        TRY(table_append(&table, true, &body));
        text_append(&body, "\n");
        text_append(&body, text_chars(&notes));
        text_append(&all, "\033[H");
        for (const char *line = text_chars(&body), *end; *line && n < rows; line = end + 1, n++) {
                _cleanup_text_ Text whole = {};

                end = strchrnul(line, '\n');
                text_append_bytes(&whole, line, (size_t) (end - line));
                text_append(&all, n > 0 ? "\n" : "");
                output_cut(&all, text_chars(&whole), columns, false);
                text_append(&all, "\033[K");
                if (!*end)
                        break;
        }
        text_append(&all, "\033[J");
        return all.error ?: output_control(all.chars);
}

static int top_print(Top *t) {
        _cleanup_table_ Table table = {};
        _cleanup_text_ Text notes = {};

        if (client_prints_json(t->client))
                return top_print_json(t);
        TRY(top_collect(t));
        if (t->screen)
                return top_draw(t);
        table = top_table(t, SIZE_MAX);
        TRY(table_print(&table, true));
        TRY(output_flush());
        (void) top_append_silences(t, &notes);
        fputs(text_chars(&notes), stderr);
        return notes.error;
}

/* -- The terminal -- */

static void top_screen_begin(Top *t) {
        sigset_t ours;

        sigemptyset(&ours);
        sigaddset(&ours, SIGINT);
        sigaddset(&ours, SIGTERM);
        sigaddset(&ours, SIGHUP);
        (void) sigprocmask(SIG_BLOCK, &ours, &t->signals); /* the terminal is restored first */
        t->keys = tcgetattr(STDIN_FILENO, &t->terminal) >= 0;
        if (t->keys) {
                struct termios raw = t->terminal;

                raw.c_lflag &= ~(tcflag_t) (ICANON | ECHO);
                raw.c_cc[VSUSP] = _POSIX_VDISABLE;
                (void) tcsetattr(STDIN_FILENO, TCSANOW, &raw);
        }
        (void) output_control("\033[?1049h\033[?25l");
}

static void top_screen_end(Top *t) {
        if (!t->screen)
                return;
        (void) output_control("\033[?25h\033[?1049l");
        if (t->keys)
                (void) tcsetattr(STDIN_FILENO, TCSANOW, &t->terminal);
        (void) sigprocmask(SIG_SETMASK, &t->signals, NULL);
}

/* Take a key that was pressed. Return true if the user ends the program. */
static bool top_take_key(Top *t, bool *ret_draw) {
        struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
        sigset_t pending;
        char key;

        if (sigpending(&pending) >= 0 &&
            (sigismember(&pending, SIGINT) > 0 || sigismember(&pending, SIGTERM) > 0 ||
             sigismember(&pending, SIGHUP) > 0))
                return true;
        if (t->keys && poll(&input, 1, 0) > 0 && read(STDIN_FILENO, &key, 1) == 1) {
                const char *at = strchr(top_keys, key);

                if (key == 'q')
                        return true;
                if (key != 0 && at) {
                        t->sort = (int) (at - top_keys);
                        *ret_draw = true;
                }
        }
        return false;
}

/* -- The verb -- */

static int top_loop(Top *t, Error *err) {
        uint64_t period_ms = t->screen ? TOP_DRAW_MS : t->interval_ms, drawn_ms = 0;
        size_t rows = 0, columns = 0;
        bool once = t->client->options.once;

        for (;;) {
                bool ended = TRY(top_turn(t, err)) == 0 && !t->screen,
                     draw = t->screen && (output_rows() != rows || output_columns() != columns),
                     due = drawn_ms == 0 || clock_monotonic_ms() - drawn_ms >= period_ms;

                if (t->screen && top_take_key(t, &draw))
                        return EXIT_DONE;
                if (!draw && !ended && !(due && (t->screen || drawn_ms > 0 || top_is_ready(t))))
                        continue;
                if (drawn_ms > 0 && !t->screen && !client_prints_json(t->client))
                        putchar('\n');
                rows = output_rows();
                columns = output_columns();
                drawn_ms = clock_monotonic_ms();
                TRY(top_print(t));
                if (once || ended || output_has_failed())
                        break;
        }
        for (size_t i = 0; i < t->n_sources; i++)
                if (top_is_silent(&t->sources[i]))
                        return EXIT_FAILED;
        return EXIT_DONE;
}

static int top_check(Top *t, size_t n_patterns) {
        const Options *o = &t->client->options;

        t->interval_ms = o->once ? TOP_ONCE_MS : TOP_INTERVAL_MS;
        if (o->interval && (parse_span_ms(o->interval, &t->interval_ms) < 0 ||
                            t->interval_ms < TOP_INTERVAL_MIN_MS || t->interval_ms > TOP_INTERVAL_MAX_MS)) {
                client_note("--interval=%s: expected 1s to 1h", o->interval);
                return EXIT_USAGE;
        }
        if (o->sort) {
                t->sort = parse_name(o->sort, top_sorts, ELEMENTS(top_sorts));
                if (t->sort < 0) {
                        client_note("--sort=%s: expected cpu, memory, io, tasks or name", o->sort);
                        return EXIT_USAGE;
                }
        }
        if (o->machines && n_patterns > 0)
                return client_usage("--machines prints machines: no PATTERN selects among them (--machine=)");
        t->screen = !o->once && !client_prints_json(t->client) && progress_is_possible();
        return EXIT_DONE;
}

static void top_done(Top *t) {
        for (size_t i = 0; i < t->n_sources; i++) {
                machine_stream_done(&t->sources[i].in);
                usage_free(t->sources[i].former);
                usage_free(t->sources[i].now);
                text_done(&t->sources[i].reason);
        }
        free(t->sources);
        free(t->rows);
        names_done(&t->patterns);
        listing_done(&t->machines);
}

static int top_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(top_done) Top t = { .client = c };
        int r;

        TRY_DONE(top_check(&t, n));
        TRY(patterns_read(args, n, &t.patterns));
        TRY(client_all_machines(c, &t.machines, err));
        t.sources = NEW0(TopSource, t.machines.n + 1);
        if (!t.sources)
                return -ENOMEM;
        TRY_DONE(machine_stream_select(c, &t.machines, top_add_source, &t));
        for (size_t i = 0; i < t.n_sources; i++)
                TRY(top_open(&t.sources[i], err));
        if (t.screen)
                top_screen_begin(&t);
        r = top_loop(&t, err);
        top_screen_end(&t);
        if (r == EXIT_DONE && c->options.once && n > 0 && t.n_rows == 0 && !client_prints_json(c)) {
                client_note("%s: no unit of this name is on these machines; fleetctl list-units",
                            n == 1 ? args[0] : "none of the names");
                return EXIT_ABSENT;
        }
        return r;
}

VERB(top, "top", "json", "[PATTERN...]", "Show what units and machines use",
     "CPU is in percent of one processor, of a machine in percent of all. MEM is what the kernel counts for "
     "the\n"
     "unit, IO/s what it reads and writes, and PRESSURE the largest share of the time in which it waited "
     "for\n"
     "cpu, memory or io. – is not provided by the machine. Keys: c m i t n sort, q ends.\n\n"
     "fleetctl top --once 'web@*'\n"
     "fleetctl top --machines\n",
     top_run);
