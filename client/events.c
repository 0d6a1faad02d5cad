/* events: what was decided and what came of it, out of the window of changes that every daemon keeps, and on
 * from there. */
#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/parse.h"
#include "client/events.h"
#include "client/output.h"
#include "client/patterns.h"
#include "client/verbs.h"
#include "units/name.h"

enum {
        FOLLOW_LINES = 10, /* of the past, before what follows; as journalctl's */
        PAUSE_MS = 1000,   /* until a daemon that went is asked again */
};

typedef struct Events {
        Client *client;
        Names names; /* units and patterns that are wanted; none: all */
        const char
                *machine;  /* the only one that is wanted: its name, or the beginning of its id; NULL: all */
        uint64_t since_ms; /* wall clock; 0: whatever there is */
        uint64_t last;     /* of the past only so many; 0: all */
        Listing machines;
        Names past; /* lines that wait until it is known which are the last */
        bool caught_up, json, begun;
        uint64_t index; /* all up to here was told */
        size_t n_told;
        int status;
} Events;

static void events_done(Events *e) {
        names_done(&e->names);
        names_done(&e->past);
        listing_done(&e->machines);
}

/* One line of the stream. Strings borrow from it, and are "" where it says nothing. */
typedef struct Event {
        const char *kind, *name, *machine, *order, *reason, *active, *sub, *load, *presence, *problem, *value,
                *hash, *owner, *version;
        const JsonValue *was;
        bool removed, finished;
        uint64_t time_ms;
} Event;

static const char *word_of(const JsonValue *object, const char *member) {
        return json_value_string(json_value_member(object, member)) ?: "";
}

static Event event_of(const JsonValue *line) {
        Event e = { .kind = word_of(line, "kind"),
                    .name = word_of(line, "name"),
                    .machine = word_of(line, "machine"),
                    .order = word_of(line, "order"),
                    .reason = word_of(line, "reason"),
                    .active = word_of(line, "active"),
                    .sub = word_of(line, "sub"),
                    .load = word_of(line, "load"),
                    .presence = word_of(line, "presence"),
                    .problem = word_of(line, "problem"),
                    .value = word_of(line, "value"),
                    .hash = word_of(line, "hash"),
                    .owner = word_of(line, "owner"),
                    .version = word_of(line, "version"),
                    .was = json_value_member(line, "was") };

        (void) json_read_bool(line, "removed", &e.removed, NULL);
        (void) json_read_bool(line, "finished", &e.finished, NULL);
        (void) json_read_u64(line, "time", &e.time_ms, NULL);
        return e;
}

/* -- Sentences. Nothing is said of what only programs care for. -- */

static void append_reason(Text *t, const char *reason) {
        if (*reason)
                text_printf(t, ": %s", reason);
}

static void say_unit(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                text_printf(t, "%s is destroyed", e->name);
        else if (!e->was)
                text_printf(t, "%s is new%s", e->name, *e->owner ? ", from a unit directory" : "");
        else if (!streq(word_of(e->was, "hash"), e->hash))
                text_printf(t, "%s has another text", e->name);
}

static void say_target(Text *t, const Event *e, const char *machine) {
        const char *before = e->was ? word_of(e->was, "value") : "inactive";

        if (!e->removed && !streq(before, e->value))
                text_printf(t, "%s is to be %s (was %s)", e->name, e->value, before);
}

static void say_order(Text *t, const Event *e, const char *machine) {
        if (e->removed) {
                text_printf(t, "%s %s %s", e->name,
                            streq(word_of(e->was, "order"), "stop") ? "has left" : "is no longer meant for",
                            machine);
                return;
        }
        text_printf(t, "%s is to %s on %s", e->name, streq(e->order, "load") ? "be loaded" : e->order,
                    machine);
        append_reason(t, e->reason);
}

static void say_state(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                return;
        if (e->finished)
                text_printf(t, "%s has ended well on %s", e->name, machine);
        else if (streq(e->active, "failed"))
                text_printf(t, "%s has failed on %s%s%s", e->name, machine,
                            stdout_is_terminal() ? "    fleetctl journal " : "",
                            stdout_is_terminal() ? e->name : "");
        else if (!streq(e->load, "loaded"))
                text_printf(t, "%s cannot be loaded on %s (%s)", e->name, machine, e->load);
        else
                text_printf(t, "%s is %s (%s) on %s", e->name, e->active, e->sub, machine);
}

static void say_presence(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                text_printf(t, "%s is forgotten", machine);
        else if (!streq(word_of(e->was, "presence"), e->presence)) {
                text_printf(t, "%s is %s", machine,
                            streq(e->presence, "left") ? "gone, as it has said" : e->presence);
                append_reason(t, e->reason);
        }
}

static void say_facts(Text *t, const Event *e, const char *machine) {
        if (!e->removed && !streq(word_of(e->was, "version"), e->version))
                text_printf(t, "%s runs fleetd %s", machine, e->version);
}

static void say_member(Text *t, const Event *e, const char *machine) {
        text_printf(t,
                    e->removed ? "%s has no replica any more" :
                    e->was     ? "%s: fleetd has started" :
                                 "%s gets a replica",
                    machine);
}

static void say_metadata(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                text_printf(t, "%s: metadata %s is the host's own again", machine, e->name);
        else
                text_printf(t, "%s: somebody has given it metadata %s=%s", machine, e->name, e->value);
}

static void say_problem(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                text_printf(t, "%s in the unit directory of %s is in order again", e->name, machine);
        else {
                text_printf(t, "%s is %s in the unit directory of %s", e->name, e->problem, machine);
                append_reason(t, e->reason);
        }
}

/* A line here is a kind of event that people are told; fleet-api(7) has all. */
static const struct {
        const char *kind;
        void (*say)(Text *t, const Event *e, const char *machine);
} sentences[] = {
        { "unit", say_unit },     { "target", say_target },     { "order", say_order },
        { "state", say_state },   { "presence", say_presence }, { "machine", say_facts },
        { "member", say_member }, { "metadata", say_metadata }, { "problem", say_problem },
};

static bool is_bad(const Event *e) {
        return !e->removed && (streq(e->active, "failed") || streq(e->presence, "lost") ||
                               (*e->load && !streq(e->load, "loaded")) || *e->problem);
}

static void append_time(Text *t, uint64_t ms) {
        time_t seconds = (time_t) (ms / 1000);
        struct tm when = {};
        char text[32];

        (void) localtime_r(&seconds, &when);
        if (strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &when) > 0)
                text_append(t, text);
}

/* "" where there is nothing to say. */
static void append_sentence(Events *all, const Event *e, Text *t) {
        _cleanup_text_ Text sentence = {}, machine = {};
        const char *colour = output_has_colours() && is_bad(e) ? output_state_colour("failed") : "";

        if (*e->machine && !listing_machine(&all->machines, e->machine)) {
                Listing machines = {};

                if (client_all_machines(all->client, &machines, NULL) >= 0) {
                        listing_done(&all->machines);
                        all->machines = machines;
                }
        }
        if (*e->machine)
                append_machine_name(&machine, &all->machines, e->machine);
        for (size_t i = 0; i < ELEMENTS(sentences); i++)
                if (streq(sentences[i].kind, e->kind))
                        sentences[i].say(&sentence, e, machine.chars ?: "");
        if (sentence.size == 0)
                return;
        append_time(t, e->time_ms);
        text_printf(t, "  %s", colour);
        text_append_printable(t, sentence.chars);
        text_append(t, *colour ? COLOUR_OFF : "");
}

/* -- Which -- */

static bool is_wanted(const Events *all, const Event *e) {
        const ApiMachine *m = listing_machine(&all->machines, e->machine);
        bool of_unit = !streq(e->kind, "metadata") && !streq(e->kind, "cluster"), named = all->names.n == 0;

        for (size_t i = 0; i < all->names.n && of_unit && *e->name; i++)
                named = named || streq(all->names.items[i], e->name) ||
                        (is_pattern(all->names.items[i]) && glob_match(all->names.items[i], e->name));
        return named && e->time_ms >= all->since_ms &&
               (!all->machine || (*e->machine && (starts_with(e->machine, all->machine) ||
                                                  (m && m->hostname && streq(m->hostname, all->machine)))));
}

static int print_line(Events *all, const char *line) {
        all->n_told++;
        if (all->json)
                (void) output_line(line);
        else if (output_control(line) >= 0) /* append_sentence() */
                putchar('\n');
        return fflush(stdout) == EOF ? -errno : 0;
}

/* The past is over: its last lines, if not all were wanted. */
static int catch_up(Events *all) {
        size_t first = all->past.n > all->last ? all->past.n - all->last : 0;
        int r = 0;

        all->caught_up = true;
        for (size_t i = first; i < all->past.n && r >= 0; i++)
                r = print_line(all, all->past.items[i]);
        names_done(&all->past);
        all->past = (Names) {};
        return r < 0 || all->client->options.follow ? r : -ECANCELED;
}

static int fail_stream(Events *all, const JsonValue *error) {
        _cleanup_text_ Text t = {};

        text_append_printable(&t, word_of(error, "message"));
        fprintf(stderr, "fleetctl: %s\n", t.chars ?: "");
        all->status = EXIT_ABSENT;
        return -ECANCELED;
}

static int on_line(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text t = {};
        Events *all = userdata;
        Event e;
        int r;

        r = json_value_parse(line, size, &root, NULL);
        if (r < 0)
                return r;
        if (json_value_member(root, "error"))
                return fail_stream(all, json_value_member(root, "error"));
        (void) json_read_u64(root, "index", &all->index, NULL);
        if (!json_value_member(root, "kind")) {
                /* The first line says where it begins, the second that the past is told; later ones that
                 * somebody is there. */
                if (!all->begun)
                        all->begun = true;
                else if (!all->caught_up)
                        return catch_up(all);
                return 0;
        }
        e = event_of(root);
        if (!is_wanted(all, &e))
                return 0;
        if (all->json)
                text_append_bytes(&t, line, size);
        else
                append_sentence(all, &e, &t);
        if (t.error < 0 || t.size == 0)
                return t.error;
        if (all->last > 0 && !all->caught_up)
                return names_add(&all->past, t.chars, t.size);
        return print_line(all, t.chars);
}

/* -- The stream -- */

/* 0 when the daemon went and may come again, else the end: the exit status stands in 'all'. */
static int follow_once(Events *all) {
        _cleanup_stream_ Stream *stream = NULL;
        _cleanup_text_ Text path = {};
        Error err = {};
        int r;

        all->begun = false;
        text_printf(&path, "/fleet/v1/events?details=true&after=%llu", (unsigned long long) all->index);
        r = path.error < 0 ? path.error :
                             stream_new(all->client->connection, path.chars, on_line, all, &stream, &err);
        while (r >= 0)
                r = stream_wait(stream, 60000, &err);
        if (r == -ECANCELED)
                return 1;
        if (all->caught_up &&
            (r == -ENODATA || r == -ECONNRESET || r == -ECONNREFUSED || r == -ENOENT || r == -ETIMEDOUT))
                return 0;
        all->status = EXIT_FAILED;
        if (r == -EREMOTEIO && stream_reply(stream)->status == 410) {
                fprintf(stderr,
                        "fleetctl: what came after index %llu is forgotten in part; without --after-index it "
                        "begins with what is left\n",
                        (unsigned long long) all->index);
                all->status = EXIT_ABSENT;
        } else if (r == -ENODATA)
                fputs("fleetctl: fleetd ended the stream\n", stderr);
        else if (!output_has_failed())
                (void) client_fail(r, &err, "%s", "");
        return 1;
}

static void follow(Events *all) {
        bool said = false;

        while (follow_once(all) == 0) {
                if (!said)
                        fputs("fleetctl: fleetd is gone; waiting until it is back\n", stderr);
                said = true;
                (void) usleep(PAUSE_MS * 1000);
        }
}

/* -- The last comings and goings -- */

enum { RECENT_MS = 3600000, RECENT_MAX = 3 };

typedef struct Recent {
        const Listing *machines;
        uint64_t since_ms;
        unsigned n_marks; /* lines with the index alone: the second says that the past is told */
        Names lines;
} Recent;

static int on_recent(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text t = {}, machine = {};
        Recent *recent = userdata;
        struct tm when = {};
        char at[16] = "";
        time_t seconds;
        Event e;

        if (json_value_parse(line, size, &root, NULL) < 0)
                return -EBADMSG;
        if (!json_value_member(root, "kind"))
                return ++recent->n_marks > 1 ? -ECANCELED : 0;
        e = event_of(root);
        if (!streq(e.kind, "presence") || !e.was || e.removed || e.time_ms < recent->since_ms ||
            streq(word_of(e.was, "presence"), e.presence))
                return 0;
        seconds = (time_t) (e.time_ms / 1000);
        (void) localtime_r(&seconds, &when);
        (void) strftime(at, sizeof(at), "%H:%M:%S", &when);
        append_machine_name(&machine, recent->machines, e.machine);
        text_printf(&t, "%s ", at);
        text_append_printable(&t, machine.chars ?: "");
        text_printf(&t, " is %s", streq(e.presence, "left") ? "gone" : e.presence);
        return t.error < 0 ? t.error : names_add(&recent->lines, t.chars, t.size);
}

void events_recent(Client *c, const Listing *machines, Text *ret) {
        Recent recent = { .machines = machines, .since_ms = clock_real_ms() - RECENT_MS };
        _cleanup_stream_ Stream *stream = NULL;
        int r;

        r = stream_new(c->connection, "/fleet/v1/events?details=true&after=0", on_recent, &recent, &stream,
                       NULL);
        while (r >= 0)
                r = stream_wait(stream, PAUSE_MS, NULL) ?: -ETIMEDOUT;
        for (size_t i = recent.lines.n > RECENT_MAX ? recent.lines.n - RECENT_MAX : 0; i < recent.lines.n;
             i++)
                text_printf(ret, "%s%s", ret->size > 0 ? "    " : "", recent.lines.items[i]);
        names_done(&recent.lines);
}

/* -- Times -- */

/* "1h30min" in ms. */
static int parse_span(const char *s, uint64_t *ret_ms) {
        static const struct {
                const char *name;
                uint64_t ms;
        } units[] = { { "s", 1000 },    { "sec", 1000 },   { "m", 60000 },    { "min", 60000 },
                      { "h", 3600000 }, { "d", 86400000 }, { "w", 604800000 } };
        uint64_t sum = 0;

        if (!*s)
                return -EINVAL;
        while (*s) {
                size_t n = strspn(s, "0123456789"), size = strcspn(s + n, "0123456789 ");
                char digits[16] = {};
                uint64_t number = 0, ms = 0;

                if (n == 0 || n >= sizeof(digits))
                        return -EINVAL;
                memcpy(digits, s, n);
                for (size_t i = 0; i < ELEMENTS(units); i++)
                        if (strlen(units[i].name) == size && memcmp(units[i].name, s + n, size) == 0)
                                ms = units[i].ms;
                if (ms == 0 || parse_u64(digits, &number) < 0 || number > 1000000)
                        return -EINVAL;
                sum += number * ms;
                s += n + size;
                s += strspn(s, " ");
        }
        *ret_ms = sum;
        return 0;
}

/* What people say of a time, as journalctl takes the most of it. */
static int parse_since(const char *s, uint64_t now_ms, uint64_t *ret_ms) {
        static const char *const formats[] = { "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S",
                                               "%Y-%m-%d",          "%H:%M:%S",       "%H:%M" };
        time_t now = (time_t) (now_ms / 1000);
        struct tm today = {}, when;
        uint64_t span;

        if (parse_span(*s == '-' ? s + 1 : s, &span) >= 0) {
                *ret_ms = now_ms > span ? now_ms - span : 1;
                return 0;
        }
        (void) localtime_r(&now, &today);
        today.tm_isdst = -1;
        if (streq(s, "now")) {
                *ret_ms = now_ms;
                return 0;
        }
        today.tm_hour = today.tm_min = today.tm_sec = 0;
        if (streq(s, "today") || streq(s, "yesterday")) {
                today.tm_mday -= streq(s, "yesterday");
                *ret_ms = (uint64_t) mktime(&today) * 1000;
                return 0;
        }
        for (size_t i = 0; i < ELEMENTS(formats); i++) {
                const char *end;
                time_t t;

                when = today;
                end = strptime(s, formats[i], &when);
                if (!end || *end)
                        continue;
                when.tm_isdst = -1;
                t = mktime(&when);
                if (t < 0)
                        continue;
                *ret_ms = (uint64_t) t * 1000;
                return 0;
        }
        return -EINVAL;
}

int verb_events(Client *c, char **args, size_t n) {
        const Options *o = &c->options;
        _cleanup_(events_done) Events all = {
                .client = c, .machine = o->machine, .json = streq(o->output, "json"), .index = o->after_index
        };
        Error err = {};
        int r = 0;

        all.last = o->last > 0 ? o->last : o->follow && !o->since && o->after_index == 0 ? FOLLOW_LINES : 0;
        if (o->since && parse_since(o->since, clock_real_ms(), &all.since_ms) < 0) {
                fprintf(stderr,
                        "fleetctl: --since=%s: expected a time, for example -1h, 12:00, yesterday or "
                        "2026-01-31 12:00\n",
                        o->since);
                return EXIT_USAGE;
        }
        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *name = is_pattern(args[i]) ? strdup(args[i]) :
                                                                  unit_name_from_argument(args[i]);

                r = name ? names_add(&all.names, name, strlen(name)) : -ENOMEM;
        }
        if (r >= 0)
                r = client_all_machines(c, &all.machines, &err);
        if (r < 0)
                return client_fail(r, &err, "%s", "");
        follow(&all);
        if (all.status == EXIT_DONE && all.n_told == 0 && !all.json)
                fputs("fleetctl: nothing of it is remembered; the last 1000 changes of the cluster are\n",
                      stderr);
        return all.status;
}
