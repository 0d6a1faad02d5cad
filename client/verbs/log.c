/* log: the journals of fleetd of all machines, merged by time.
 *
 * Each machine sends its entries in order. The earliest of the first ones is printed when all machines have
 * sent one; until then no more is read from the others, so that memory does not depend on the size of the
 * journals. With --follow, an entry waits WINDOW_MS for earlier ones of other machines. */
#include "base/clock.h"
#include "client/core/listing.h"
#include "client/core/machines.h"
#include "client/core/times.h"
#include "client/verbs/events.h"
#include "client/verbs/log_source.h"
#include "client/verbs/unit_status.h"
#include "units/journal_filter.h"

enum {
        LOG_TURN_MS = 100,
        WINDOW_MS = 500,
        LOG_SILENCE_MS = 1000,  /* until it is printed which machine has not answered: on a terminal, */
        SILENCE_PIPE_MS = 5000, /* and elsewhere */
        GIVE_UP_MS = 30000,     /* then the entries of the others are printed without it */
        HELD_MAX = 256 * 1024,  /* bytes of entries of one machine */
};

static void log_done(Log *l) {
        for (size_t i = 0; i < l->n_sources; i++) {
                LogSource *s = &l->sources[i];

                while (!TAILQ_EMPTY(&s->entries))
                        log_entry_free(&s->entries, TAILQ_FIRST(&s->entries));
                machine_stream_done(&s->in);
        }
        while (!TAILQ_EMPTY(&l->last))
                log_entry_free(&l->last, TAILQ_FIRST(&l->last));
        free(l->sources);
        text_done(&l->filters);
        listing_done(&l->machines);
}

/* -- Printing -- */

/* As in journalctl: errors are red, warnings yellow, notices bold, and debug messages grey. */
static const char *priority_colour(unsigned priority) {
        static const char *const colours[] = {
                "\033[1;31m", "\033[1;31m", "\033[1;31m", "\033[1;31m",
                "\033[1;33m", "\033[1m",    "",           "\033[90m",
        };

        return output_has_colours() && priority < ELEMENTS(colours) ? colours[priority] : "";
}

static int log_entry_print(Log *l, const LogEntry *e) {
        const char *colour = priority_colour(e->priority);
        _cleanup_text_ Text t = {};
        char date[32];
        size_t before;

        l->n_printed++;
        if (l->output != LOG_SHORT) {
                (void) output_line(e->text);
                return 0;
        }
        if (isatty(STDOUT_FILENO)) /* the time alone for entries of today */
                append_clock(&t, e->at_us / 1000, clock_real_ms(), true);
        else
                text_append(&t, times_date(e->at_us / 1000, date));
        text_append(&t, " ");
        before = t.size;
        log_append_name(&t, e->source);
        text_printf(&t, "%*s  %s", MAX(l->name_width - (int) (t.size - before), 0), "", colour);
        text_append_printable(&t, e->text);
        text_append(&t, *colour ? COLOUR_OFF : "");
        if (t.error >= 0 && output_control(t.chars) >= 0)
                putchar('\n');
        return t.error;
}

/* Print the first entry of a machine, or, with a limit of lines, keep it until later ones exceed the limit.
 */
static int source_print_first(LogSource *s) {
        LogEntry *e = TAILQ_FIRST(&s->entries);
        Log *l = s->log;
        int r;

        s->held -= e->size;
        s->n_entries--;
        if (l->client->options.follow || l->lines == LINES_ALL) {
                r = log_entry_print(l, e);
                log_entry_free(&s->entries, e);
                return r;
        }
        TAILQ_REMOVE(&s->entries, e, all);
        TAILQ_INSERT_TAIL(&l->last, e, all);
        if (++l->n_last > l->lines) {
                log_entry_free(&l->last, TAILQ_FIRST(&l->last));
                l->n_last--;
        }
        return 0;
}

/* -- Merging -- */

/* Return the machine with the earliest first entry; NULL: there is none. */
static LogSource *log_earliest(const Log *l) {
        LogSource *best = NULL;

        for (size_t i = 0; i < l->n_sources; i++) {
                LogSource *s = &l->sources[i];
                const LogEntry *e = TAILQ_FIRST(&s->entries);

                if (e && (!best || e->at_us < TAILQ_FIRST(&best->entries)->at_us))
                        best = s;
        }
        return best;
}

/* Print which machine the others wait for, and in the end go on without it. */
static void source_note_silence(LogSource *s, uint64_t silent_ms) {
        _cleanup_text_ Text name = {};

        if (silent_ms >= GIVE_UP_MS) {
                machine_stream_done(&s->in);
                log_source_note(s, "no answer for 30 s", false);
                return;
        }
        if (s->awaited || silent_ms < (isatty(STDERR_FILENO) ? LOG_SILENCE_MS : SILENCE_PIPE_MS))
                return;
        s->awaited = true;
        (void) output_flush();
        log_append_name(&name, s);
        client_note("waiting for the log of %s", name.chars ?: "");
}

/* Read until each machine has sent an entry, or its last one. */
static int log_fill(Log *l) {
        uint64_t begin_ms = clock_monotonic_ms();

        for (;;) {
                LogSource *waiting = NULL;

                for (size_t i = 0; i < l->n_sources; i++) {
                        LogSource *s = &l->sources[i];

                        if (s->in.stream && TAILQ_EMPTY(&s->entries))
                                TRY(log_source_read(s, 0));
                        if (s->in.stream && TAILQ_EMPTY(&s->entries))
                                waiting = s;
                }
                if (!waiting)
                        return 0;
                TRY(log_source_read(waiting, LOG_TURN_MS));
                if (waiting->in.stream && TAILQ_EMPTY(&waiting->entries))
                        source_note_silence(waiting, clock_monotonic_ms() - begin_ms);
        }
}

static int log_merge(Log *l) {
        LogSource *s;
        int r;

        do {
                r = log_fill(l);
                s = log_earliest(l);
                if (r >= 0 && s)
                        r = source_print_first(s);
        } while (r >= 0 && s && !output_has_failed());
        for (LogEntry *e; r >= 0 && (e = TAILQ_FIRST(&l->last)); log_entry_free(&l->last, e))
                r = log_entry_print(l, e);
        return r;
}

/* Return whether all machines have sent an entry: then no earlier one is expected. */
static bool log_is_full(const Log *l) {
        for (size_t i = 0; i < l->n_sources; i++)
                if (l->sources[i].in.stream && TAILQ_EMPTY(&l->sources[i].entries))
                        return false;
        return true;
}

/* All machines send past entries at once: of all of them, print the last ones only. */
static void log_begin(Log *l) {
        size_t n = 0;

        for (size_t i = 0; i < l->n_sources; i++) {
                const LogEntry *e;

                TAILQ_FOREACH(e, &l->sources[i].entries, all)
                        n++;
        }
        for (; l->lines != LINES_ALL && n > l->lines; n--)
                log_source_drop_first(log_earliest(l));
        l->begun = true;
}

static int log_print_due(Log *l) {
        uint64_t now_ms = clock_monotonic_ms();
        LogSource *s;
        int r = 0;

        while (r >= 0 && (s = log_earliest(l)) && !output_has_failed()) {
                if (now_ms - TAILQ_FIRST(&s->entries)->arrived_ms < WINDOW_MS &&
                    !(l->begun && log_is_full(l)))
                        break;
                if (!l->begun)
                        log_begin(l);
                else
                        r = source_print_first(s);
        }
        (void) output_flush();
        return r;
}

/* Read from all machines that have room; without any output, wait for TURN_MS. Return the number of machines
 * that are open or will be. */
static int log_turn(Log *l, Error *err) {
        LogSource *last = NULL;
        bool any = false;
        int n = 0, r;

        for (size_t i = 0; i < l->n_sources; i++) {
                LogSource *s = &l->sources[i];

                if (s->in.retry_ms > 0 && clock_monotonic_ms() >= s->in.retry_ms)
                        r = TRY(log_source_open(s, err));
                if (s->in.stream && s->held < HELD_MAX) {
                        r = TRY(log_source_read(s, 0));
                        any = any || r > 0;
                        last = s->in.stream ? s : last;
                }
                n += s->in.stream || s->in.retry_ms > 0;
        }
        if (!any && last)
                r = log_source_read(last, LOG_TURN_MS);
        else
                r = any || n == 0 ? 0 : usleep(LOG_TURN_MS * 1000);
        return r == -ENOMEM ? r : n;
}

static int log_follow(Log *l, Error *err) {
        int n, r;

        do {
                n = log_turn(l, err);
                r = n > 0 ? log_print_due(l) : n;
        } while (n > 0 && r >= 0 && !output_has_failed());
        if (!l->begun)
                log_begin(l);
        for (LogSource *s; r >= 0 && (s = log_earliest(l)) && !output_has_failed();)
                r = source_print_first(s);
        return r;
}

/* -- The request -- */

static int usage_of(const char *option, const char *value, const char *message) {
        client_note("%s%s: %s", option, value, message);
        return EXIT_USAGE;
}

/* Append a match. UNIT, MACHINE, INDEX and TERM are short for the fields of fleetd. */
static int append_match(Text *t, const Listing *machines, const char *match) {
        static const char *const own[] = { "UNIT", "MACHINE", "INDEX", "TERM" };
        const char *value = strchr(match, '=') + 1;
        size_t size = (size_t) (value - match) - 1;
        _cleanup_free_ char *unit = NULL;
        const ApiMachine *machine;

        text_append(t, t->size > 0 ? "\n" : "");
        for (size_t i = 0; i < ELEMENTS(own); i++)
                if (strlen(own[i]) == size && memcmp(own[i], match, size) == 0)
                        text_append(t, "FLEET_");
        text_append_bytes(t, match, size + 1);
        if (starts_with(match, "UNIT=")) {
                unit = unit_name_from_argument(value);
                if (!unit)
                        return -ENOMEM;
                value = unit;
        } else if (starts_with(match, "MACHINE=") && listing_find_machine(machines, value, &machine) == 1)
                value = machine->id;
        text_append(t, value);
        return t->error;
}

/* Check all that was given, before anything is sent. */
static int log_check(Log *l, char **args, size_t n, uint64_t *ret_until_ms) {
        static const char *const outputs[] = {
                [LOG_SHORT] = "short", [LOG_JSON] = "json", [LOG_CAT] = "cat"
        };
        const Options *o = &l->client->options;
        Error err = {};

        while (l->output < _LOG_OUTPUT_MAX && !streq(outputs[l->output], o->journal_output))
                l->output++;
        if (l->output == _LOG_OUTPUT_MAX)
                return usage_of("--output=", o->journal_output, "expected short, json or cat");
        if (o->priority && journal_priority_check(o->priority, &err) < 0)
                return usage_of("--priority=", o->priority, err.message);
        if (o->grep && journal_grep_check(o->grep, &err) < 0)
                return usage_of("--grep=", o->grep, err.message);
        for (size_t i = 0; i < n; i++)
                if (journal_match_check(args[i], &err) < 0)
                        return usage_of("", args[i], err.message);
                else if (strchr(args[i], '=')[1] == 0)
                        return usage_of("", args[i], "the field has no value; for example UNIT=web.service");
        if (times_of_range(o, &l->since_ms, ret_until_ms) != EXIT_DONE)
                return EXIT_USAGE;
        l->lines = o->lines;
        if (l->lines != LINES_ALL && l->lines > LINES_MAX)
                return client_usage("--lines: at most 100000; without --lines, all entries are printed");
        if (l->lines == LINES_ALL && o->follow && !o->since)
                l->lines = FOLLOW_LINES;
        /* With --since, some journalctl print the first lines; with --grep, the newest line first. */
        l->sends_lines = l->lines == 0 || (l->lines != LINES_ALL && !o->since && (!o->grep || o->follow));
        if (l->lines == 0 && o->follow) { /* new entries only */
                l->begun = true;
                l->since_ms = 0;
        }
        return EXIT_DONE;
}

static int log_set_filters(Log *l, char **args, size_t n, uint64_t until_ms) {
        const Options *o = &l->client->options;
        _cleanup_text_ Text matches = {};

        for (size_t i = 0; i < n; i++)
                TRY(append_match(&matches, &l->machines, args[i]));
        if (o->follow)
                text_append(&l->filters, "&follow=true");
        if (until_ms > 0)
                text_printf(&l->filters, "&until=@%llu.%03llu", (unsigned long long) until_ms / 1000,
                            (unsigned long long) until_ms % 1000);
        unit_status_add(&l->filters, "priority", o->priority);
        unit_status_add(&l->filters, "grep", o->grep);
        unit_status_add(&l->filters, "matches", matches.chars);
        unit_status_add(&l->filters, "fields", l->output == LOG_JSON ? NULL : "MESSAGE,PRIORITY");
        return l->filters.error;
}

static int log_add_source(void *userdata, const ApiMachine *machine) {
        _cleanup_text_ Text name = {};
        Log *l = userdata;
        LogSource *s = &l->sources[l->n_sources];

        for (size_t i = 0; i < l->n_sources; i++)
                if (l->sources[i].in.machine == machine)
                        return 0;
        *s = (LogSource) { .log = l, .in = { .client = l->client, .machine = machine } };
        TAILQ_INIT(&s->entries);
        l->n_sources++;
        log_append_name(&name, s);
        l->name_width = MAX(l->name_width, (int) name.size);
        return name.error;
}

/* Return whether a machine has sent all that it has. */
static bool log_has_answer(const Log *l) {
        for (size_t i = 0; i < l->n_sources; i++)
                if (l->sources[i].in.status >= 0 && !l->sources[i].noted)
                        return true;
        return false;
}

static int log_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(log_done) Log l = { .client = c };
        uint64_t until_ms = 0;
        int r;

        TAILQ_INIT(&l.last);
        TRY_DONE(log_check(&l, args, n, &until_ms));
        TRY(client_all_machines(c, &l.machines, err));
        l.sources = NEW0(LogSource, l.machines.n + 1);
        if (!l.sources)
                return -ENOMEM;
        TRY_DONE(machine_stream_select(c, &l.machines, log_add_source, &l));
        r = log_set_filters(&l, args, n, until_ms);
        for (size_t i = 0; i < l.n_sources && r >= 0; i++)
                r = log_source_open(&l.sources[i], err);
        if (c->options.follow) /* the wait has no end */
                events_note_fields(args, n);
        if (r >= 0)
                r = c->options.follow ? log_follow(&l, err) : log_merge(&l);
        if (r < 0)
                return r;
        if (l.n_printed > 0 || (l.failed && !log_has_answer(&l)))
                return l.failed ? EXIT_FAILED : EXIT_DONE;
        r = events_explain_matches(c, &l.machines, args, n, l.failed, err);
        return r >= 0 && l.failed ? EXIT_FAILED : r;
}

VERB(log, "log", "", "[FIELD=VALUE...]", "Print the journals of fleetd of all machines, merged by time",
     "Fields select entries, as in journalctl. UNIT=, MACHINE=, INDEX= and TERM= are fields of fleetd.\n"
     "Exit status 1 if a machine did not answer. Machines that have been gone for an hour are not asked.\n\n"
     "fleetctl log --since=yesterday -p warning\n"
     "fleetctl log -f UNIT=web@1.service\n",
     log_run);
