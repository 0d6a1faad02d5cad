/* journal: the logs of units from all machines, merged by time.
 *
 * The journal of one unit on one machine is printed as it arrives. Several journals are requested in a format
 * with a time (short-unix, or json), and their lines are sorted. Other formats have no time: they are printed
 * unit by unit, machine by machine. */
#include <time.h>

#include "base/parse.h"
#include "client/core/files.h"
#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/core/state_text.h"
#include "client/core/times.h"
#include "client/core/unit.h"
#include "client/verbs/unit_status.h"

enum {
        TURN_MS = 100,
        LINES_HELD_MAX = 1000000,
        SAID_MAX = 4096, /* bytes */
};

typedef enum Format { FORMAT_SHORT, FORMAT_UNIX, FORMAT_JSON, FORMAT_OTHER } Format;

/* A line, with the continuation lines of its message, which begin with spaces. */
typedef struct Entry {
        uint64_t at_us;
        size_t source, number; /* entries of the same time stay in order of arrival */
        char *text;            /* owned, terminated, with its newline */
} Entry;

typedef struct Source {
        struct Merge *merge;
        const ApiMachine *machine; /* borrowed */
        const char *unit;          /* the same */
        Stream *stream;
        Text partial; /* the beginning of a line */
        Text said;    /* lines before the first entry: messages of journalctl or of fleetd */
        bool begun;   /* an entry has arrived */
        int status;   /* -1: the answer has not ended */
} Source;

typedef struct Merge {
        Client *client;
        Format format;
        Source *sources;
        size_t n_sources;
        Entry *entries;
        size_t n, capacity, number;
        bool any;    /* some entry was printed */
        bool failed; /* some journal was not read to its end */
} Merge;

static Format format_of(const char *output) {
        static const char *const names[] = {
                [FORMAT_SHORT] = "short", [FORMAT_UNIX] = "short-unix", [FORMAT_JSON] = "json"
        };

        int format = parse_name(output, names, ELEMENTS(names));

        return format < 0 ? FORMAT_OTHER : (Format) format;
}

/* Return the time of "1700000000.123456 host ..." or "__REALTIME_TIMESTAMP":"1700000000123456" in us; 0:
 * none. */
static uint64_t time_of(Format format, const char *line) {
        static const char member[] = "\"__REALTIME_TIMESTAMP\":\"";
        size_t n = 0, seconds = 0; /* digits before the fraction */
        uint64_t us = 0;
        char digits[32];

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
                else
                        seconds = n;
        digits[n] = 0;
        if (format != FORMAT_JSON && (n != seconds + 6 || *line != ' '))
                return 0; /* a message that begins with a number */
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

static int source_add(void *userdata, const char *line, size_t size) {
        Source *s = userdata;

        s->begun = s->begun || time_of(s->merge->format, line) > 0;
        if (s->begun)
                return entry_add(s->merge, s - s->merge->sources, line, size);
        text_append_bytes(&s->said, line,
                          MIN(size, (size_t) SAID_MAX - MIN(s->said.size, (size_t) SAID_MAX)));
        return s->said.error;
}

static int on_answer(void *userdata, const char *json, size_t size) {
        Source *s = userdata;

        return unit_status_lines(json, size, &s->partial, &s->status, source_add, s);
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
                text_done(&m->sources[i].said);
        }
        free(m->entries);
        free(m->sources);
}

/* What to read: these units, on these machines. */
typedef struct Journals {
        const Names *units;
        const ApiMachine *machines; /* borrowed */
        size_t n_machines;
        uint64_t lines_asked, lines; /* of each machine, and to print */
        char since[24], until[24];   /* "@SECONDS": the time zone is that of this host; "": no limit */
} Journals;

static int journals_limit(const Client *c, Journals *j) {
        uint64_t since_ms, until_ms;

        if (times_of_range(&c->options, &since_ms, &until_ms) != EXIT_DONE)
                return EXIT_USAGE;
        if (c->options.since)
                snprintf(j->since, sizeof(j->since), "@%llu", (unsigned long long) since_ms / 1000);
        if (c->options.until)
                snprintf(j->until, sizeof(j->until), "@%llu", (unsigned long long) until_ms / 1000);
        return EXIT_DONE;
}

/* Set the numbers of lines. With --since, some versions of journalctl print the first lines: then all are
 * asked for, and the last ones are cut here. Return whether that is necessary. */
static bool journals_count(const Options *o, Format format, Journals *j) {
        bool given = o->lines != LINES_ALL, cut = o->since && given && !o->follow && format != FORMAT_OTHER;

        j->lines = o->lines;
        if (!given && !o->since)
                j->lines = LINES_DEFAULT;
        j->lines_asked = cut || j->lines == LINES_ALL ? LINES_MAX : j->lines;
        return cut;
}

static void journal_path(Client *c, const Journals *j, const char *name, const char *machine,
                         const char *output, Text *t) {
        unit_status_path(t, "journal", name, machine);
        text_printf(t, "&lines=%llu&follow=%s", (unsigned long long) j->lines_asked,
                    c->options.follow ? "true" : "false");
        unit_status_add(t, "output", output);
        unit_status_add(t, "since", j->since);
        unit_status_add(t, "until", j->until);
}

static int merge_open(Client *c, Merge *m, const Journals *j, const char *name, Error *err) {
        for (size_t i = 0; i < j->n_machines; i++) {
                const ApiMachine *machine = &j->machines[i];
                _cleanup_text_ Text path = {};
                Source *s = &m->sources[m->n_sources++];

                *s = (Source) { .merge = m, .status = -1, .machine = machine, .unit = name };
                journal_path(c, j, name, machine->id,
                             m->format == FORMAT_SHORT ? "short-unix" : c->options.journal_output, &path);
                TRY(stream_new(c->connection, "GET", client_path(&path), on_answer, s, &s->stream, err));
        }
        return 0;
}

/* Report that a machine does not answer. */
static void source_note(const Source *s, const char *reason) {
        const char *name = s->machine->hostname ?: s->machine->id;
        _cleanup_text_ Text absence = {};

        if (append_absence(&absence, s->merge->client, s->machine))
                client_note("%s%s: the journal is on that host (journalctl -u %s)", name, absence.chars ?: "",
                            s->unit);
        else
                client_note("Failed to read the journal of %s: %s", name, reason);
}

/* The answer has ended, with -ENODATA, or failed. What a journal says before its first entry is the reason,
 * if the command has failed, and is printed otherwise. */
static int source_end(Merge *m, size_t i, int r, const Error *lost) {
        Source *s = &m->sources[i];
        const char *reason = NULL;

        s->stream = stream_free(s->stream);
        if (r == -ENODATA && s->status == 0)
                return s->said.size > 0 ? entry_add(m, i, s->said.chars, s->said.size) : 0;
        if (r != -ENODATA)
                reason = error_text(lost, r);
        else if (s->status < 0)
                reason = "connection lost before the end";
        else if (s->status == UNIT_STATUS_LIMIT)
                reason = UNIT_STATUS_LIMIT_TEXT;
        else if (s->said.size > 0) {
                s->said.chars[strcspn(s->said.chars, "\n")] = 0;
                reason = s->said.chars;
        }
        if (!reason)
                return 0;
        entries_print(m, UINT64_MAX);
        m->failed = true;
        source_note(s, reason);
        return 0;
}

/* Read the available lines of each source; without any, wait for TURN_MS. Print an error for a machine that
 * fails, and skip it. Return the number of open journals, or an error. */
static int merge_turn(Merge *m, Error *err) {
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
                TRY(source_end(m, i, r, &lost));
        }
        return (int) n_open;
}

/* Read the open journals to their ends; with --follow print their lines. */
static int merge_read(const Client *c, Merge *m, uint64_t lines, Error *err) {
        int r = 0;

        while (!output_has_failed() && (r = merge_turn(m, err)) > 0)
                if (c->options.follow && m->any)
                        entries_print(m, UINT64_MAX);
                else if (c->options.follow && m->n > 0) {
                        /* All machines send past entries at once: sort them together once. */
                        r = merge_turn(m, err);
                        entries_print(m, lines);
                }
        return r;
}

/* Without --follow, the units are read one after the other: a host serves a limited number of journals. */
static int journals_merge(Client *c, const Journals *j, Format format, bool *ret_any, Error *err) {
        _cleanup_(merge_done) Merge m = { .client = c, .format = format };
        int r = 0;

        m.sources = NEW0(Source, j->units->n * j->n_machines + 1);
        if (!m.sources)
                return -ENOMEM;
        for (size_t i = 0; i < j->units->n; i++) {
                r = merge_open(c, &m, j, j->units->items[i], err);
                if (r >= 0 && !c->options.follow)
                        r = merge_read(c, &m, j->lines, err);
                if (r < 0)
                        return r;
        }
        if (c->options.follow)
                r = merge_read(c, &m, j->lines, err);
        if (r < 0)
                return r;
        entries_print(&m, c->options.follow ? UINT64_MAX : j->lines);
        *ret_any = m.any || m.failed;
        return m.failed ? EXIT_FAILED : EXIT_DONE;
}

/* Print the journals one after the other, each as it arrives. */
static int journals_print(Client *c, const Journals *j, bool *ret_any, Error *err) {
        int status = EXIT_DONE;

        for (size_t i = 0; i < j->units->n * j->n_machines && status == EXIT_DONE; i++) {
                const char *name = j->units->items[i / j->n_machines];
                _cleanup_text_ Text path = {};

                journal_path(c, j, name, j->machines[i % j->n_machines].id, c->options.journal_output, &path);
                status = unit_status_print(c, "GET", &path, name, ret_any, err);
        }
        return status;
}

static bool journal_unit_waits(const ApiUnit *unit) {
        return !unit->global && unit->desired_state > TARGET_INACTIVE &&
               unit->current_state <= TARGET_INACTIVE && !(unit->machine_id && *unit->machine_id) &&
               !unit_has_finished(unit);
}

/* Report a unit that waits for a machine, before entries of its past. */
static void journal_note_waiting(const Client *c, const char *name, const ApiUnit *unit) {
        const char *reason = unit->reason ?: "";

        if (!client_note_template(c, name) && journal_unit_waits(unit))
                client_note("%s waits for a machine%s%s; entries, if there are any, are of earlier runs "
                            "(fleetctl why %s)",
                            name, *reason ? ": " : "", reason, name);
}

/* Append the next step for a unit that was not started: the reason is no entry of its journal. */
static void append_refusal(Client *c, const char *name, Text *t) {
        _cleanup_listing_ Listing states = {};
        Error err = {};

        if (client_states(c, name, &states, &err) < 0)
                return;
        for (size_t i = 0; i < states.n; i++) {
                const ApiState *s = &states.states[i];

                if ((s->job || state_is_unprovided(s)) && state_kind(s) == STATE_TROUBLE) {
                        text_printf(t, "; %s: fleetctl why %s",
                                    s->job ? "systemd did not start it" : "it is not started", name);
                        return;
                }
        }
}

/* The machines on which a unit was, by the history. */
typedef struct Past {
        Names machines;
        uint64_t submitted_ms; /* the first time; UINT64_MAX: the history does not have it */
        uint64_t begin_ms;     /* of the first row of a unit that exists */
        int error;
} Past;

static int past_on_row(void *userdata, const JsonValue *row) {
        const char *machine = member_text(row, "machine"), *kind = member_text(row, "kind");
        uint64_t first_ms = member_number(row, "first");
        Past *past = userdata;

        if (streq(kind, "submitted"))
                past->submitted_ms = MIN(past->submitted_ms, first_ms);
        else if (text_has_word("assigned destroyed state stop waiting", kind))
                past->begin_ms = MIN(past->begin_ms, first_ms);
        if (past->error == 0 && *machine && text_has_word("assigned state stop waiting", kind) &&
            !names_have(&past->machines, machine))
                past->error = names_add(&past->machines, machine, strlen(machine));
        return past->error;
}

/* Read the machines on which the units were. *ret_all: the history does not begin with the first submission
 * of each unit, so that other machines may have entries, too. */
static int past_read(Client *c, const Names *units, Names *ret, bool *ret_all) {
        *ret_all = false;
        for (size_t i = 0; i < units->n; i++) {
                Past past = { .machines = *ret, .submitted_ms = UINT64_MAX, .begin_ms = UINT64_MAX };

                client_history(c, units->items[i], past_on_row, &past);
                *ret = past.machines;
                TRY(past.error);
                *ret_all |= past.submitted_ms == UINT64_MAX || past.submitted_ms > past.begin_ms;
        }
        return 0;
}

/* Append whether the unit was on machines that the cluster no longer has. */
static int append_removed_machines(Client *c, const Names *unit, const Listing *machines, Text *t) {
        _cleanup_names_ Names past = {};
        size_t n = 0;
        bool all;

        TRY(past_read(c, unit, &past, &all));
        for (size_t i = 0; i < past.n; i++) {
                const ApiMachine *m = listing_machine(machines, past.items[i]);

                n += !m || same_string(m->presence, "removed");
        }
        if (n > 0)
                text_printf(t, "; it was on %zu machine%s that %s removed: fleetctl events %s", n, plural(n),
                            n == 1 ? "was" : "were", unit->items[0]);
        return 0;
}

/* Report that no entry was found: one unit that is not on a machine, with the text of fleet. */
static int journals_report_none(Client *c, const Journals *j, const Listing *machines, const ApiUnit *last) {
        const char *name = j->units->items[0];
        _cleanup_text_ Text t = {};

        if (j->units->n == 1 && !c->options.machine && !last->global &&
            last->current_state <= TARGET_INACTIVE) {
                fprintf(stderr, "Unit %s does not appear to be running.\n", name);
                if (last->desired_state == TARGET_INACTIVE)
                        client_note("%s has no journal entry on any machine, and its target state is "
                                    "inactive: to start it, fleetctl start %s",
                                    name, name);
                else if (!journal_unit_waits(last)) /* that was printed before */
                        client_note("%s%s%s (fleetctl why %s)", name,
                                    last->reason && *last->reason ? ": " : " is on no machine",
                                    last->reason ?: "", name);
                return EXIT_FAILED;
        }
        if (j->units->n == 1)
                text_append(&t, name);
        else
                text_printf(&t, "%zu units", j->units->n);
        text_printf(&t, ": no journal entries%s on ",
                    c->options.since || c->options.until ? " of this time" : "");
        for (size_t i = 0; i < j->n_machines; i++)
                text_printf(&t, "%s%s", i > 0 ? ", " : "", j->machines[i].hostname ?: j->machines[i].id);
        if (j->n_machines == 0)
                text_append(&t, "any machine");
        if (j->units->n == 1)
                append_refusal(c, name, &t);
        if (j->units->n == 1 && !c->options.machine)
                t.error = t.error ?: append_removed_machines(c, j->units, machines, &t);
        TRY(t.error);
        client_note("%s", t.chars);
        return EXIT_DONE;
}

/* Keep the machines that can be asked, in order. */
static int keep_reachable(Listing *machines) {
        size_t n = 0;

        for (size_t i = 0; i < machines->n; i++) {
                ApiMachine m = machines->machines[i];

                if (!machine_is_there(&m))
                        continue;
                machines->machines[i] = machines->machines[n];
                machines->machines[n++] = m;
        }
        machines->n_removed += machines->n - n;
        machines->n = n;
        return listing_sort(machines);
}

/* Print the names of machines that cannot be asked and may have entries. 'global': a unit is on all. */
static int journal_note_missing(Client *c, const Listing *machines, const Names *units, bool global) {
        _cleanup_names_ Names past = {};
        _cleanup_text_ Text gone = {};
        bool read = global, all = global;

        for (size_t i = 0; i < machines->n; i++) {
                const ApiMachine *m = &machines->machines[i];
                int r = 0;

                if (machine_is_there(m) || machine_is_replaced(m))
                        continue;
                if (!read)
                        r = past_read(c, units, &past, &all);
                if (r < 0)
                        return r;
                read = true;
                if (all || names_have(&past, m->id))
                        text_printf(&gone, "%s%s", gone.size > 0 ? ", " : "", m->hostname ?: m->id);
        }
        if (gone.size > 0)
                client_note("no journal of %s: lost or shut down; it is on that host", gone.chars);
        return gone.error;
}

static int journal_on_row(void *userdata, const JsonValue *row) {
        *(bool *) userdata |= *member_text(row, "machine") != 0;
        return 0;
}

/* Return whether a unit that does not exist was on a machine, and print that it is destroyed. */
static bool journal_was_on_machine(Client *c, const char *name) {
        bool was = false;

        client_history(c, name, journal_on_row, &was);
        if (was)
                client_note("%s does not exist any more; its journal is on the hosts on which it ran", name);
        return was;
}

static int journal_run(Client *c, char **args, size_t n, Error *err) {
        Format format = format_of(c->options.journal_output);
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing machines = {};
        _cleanup_free_ char *machine = NULL;
        _cleanup_names_ Names names = {};
        Journals j = { .units = &names };
        ApiMachine one;
        bool any = false, global = false, cut;
        int r;

        if (n == 0) {
                fputs("One unit file must be provided.\n", stderr);
                client_note("journal: name a unit (fleetctl list-units)");
                return EXIT_FAILED;
        }
        r = TRY_DONE(journals_limit(c, &j));
        if (files_names(args, n, &names) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                api_unit_done(&unit);
                unit = API_UNIT_EMPTY;
                r = TRY_VERB(client_unit(c, names.items[i], &unit, err), err,
                             "Error retrieving unit %s: ", names.items[i]);
                if (r == 0 && client_note_absent_running(c, names.items[i]))
                        return EXIT_FAILED;
                if (r == 0 && !journal_was_on_machine(c, names.items[i])) {
                        client_note_absent(c, names.items[i]);
                        return EXIT_FAILED;
                }
                global |= unit.global;
                unit.global |= r == 0; /* it may have been on any machine */
                journal_note_waiting(c, names.items[i], &unit);
        }
        r = unit_status_machine(c, &machine, err);
        if (r == EXIT_DONE && !machine) {
                TRY_VERB(client_all_machines(c, &machines, err), err,
                         "Error retrieving list of active machines from fleet API: ");
                r = TRY(journal_note_missing(c, &machines, &names, global));
                if (keep_reachable(&machines) < 0)
                        return -ENOMEM;
        }
        if (r != EXIT_DONE)
                return r;
        one = (ApiMachine) { .id = machine, .hostname = c->options.machine };
        j.machines = machine ? &one : machines.machines;
        j.n_machines = machine ? 1 : machines.n;

        cut = journals_count(&c->options, format, &j);
        if (format == FORMAT_OTHER || (j.n_machines * n == 1 && !cut))
                r = journals_print(c, &j, &any, err);
        else
                r = journals_merge(c, &j, format, &any, err);
        return r != EXIT_DONE || any || output_has_failed() ? r :
                                                              journals_report_none(c, &j, &machines, &unit);
}

VERB(journal, "journal", "remote patterns-all", "UNIT [UNIT...]",
     "Print the journal of units in the cluster to stdout",
     "From all machines on which they ran. Formats short, short-unix and json are sorted by time, others\n"
     "are printed unit by unit, machine by machine.\n\n"
     "Read the last 10 lines, and follow:\n"
     "fleetctl journal -f foo.service\n",
     journal_run);
