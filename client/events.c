/* events: decisions of the engine and their results, from the event window of a daemon and then from its
 * stream. */
#include <time.h>

#include "base/clock.h"
#include "base/parse.h"
#include "client/client.h"

enum {
        FOLLOW_LINES = 10, /* past events before new ones, as in journalctl */
        PAUSE_MS = 1000,   /* between two attempts to reconnect */
};

typedef struct Events {
        Client *client;
        Names names;       /* units and patterns; none: all units */
        uint64_t since_ms; /* wall clock; 0: all events */
        uint64_t last;     /* number of past events; 0: all */
        Listing machines;
        Names past; /* lines that wait for the end of the past: only the last ones are printed */
        bool caught_up, json, begun;
        uint64_t index; /* of the last event received */
        size_t n_printed;
        int status;
} Events;

static void events_done(Events *e) {
        names_done(&e->names);
        names_done(&e->past);
        listing_done(&e->machines);
}

/* One line of the stream, and the members that most messages need. Strings borrow from 'line'. */
typedef struct Event {
        const JsonValue *line, *was; /* 'was': the object before the change; NULL: none */
        const char *kind, *name, *machine;
        bool removed;
        uint64_t time_ms;
} Event;

static Event event_of(const JsonValue *line) {
        return (Event) { .line = line,
                         .was = json_value_member(line, "was"),
                         .kind = member_text(line, "kind"),
                         .name = member_text(line, "name"),
                         .machine = member_text(line, "machine"),
                         .removed = member_bool(line, "removed"),
                         .time_ms = member_number(line, "time") };
}

/* Return a string of the event; "" if it is absent. */
static const char *event_text(const Event *e, const char *member) {
        return member_text(e->line, member);
}

/* Return whether a member has changed. */
static bool event_changes(const Event *e, const char *member) {
        return !streq(member_text(e->was, member), event_text(e, member));
}

/* -- Messages, for the kinds of events that concern users -- */

static void append_reason(Text *t, const Event *e) {
        if (*event_text(e, "reason"))
                text_printf(t, ": %s", event_text(e, "reason"));
}

static void append_unit(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                text_printf(t, "%s: destroyed", e->name);
        else if (!e->was)
                text_printf(t, "%s: submitted%s", e->name,
                            *event_text(e, "owner") ? " by a unit directory" : "");
        else if (event_changes(e, "hash"))
                text_printf(t, "%s: text changed", e->name);
}

static void append_target(Text *t, const Event *e, const char *machine) {
        const char *before = e->was ? member_text(e->was, "value") : "inactive";

        if (!e->removed && !streq(before, event_text(e, "value")))
                text_printf(t, "%s: target state %s (was %s)", e->name, event_text(e, "value"), before);
}

static void append_assignment(Text *t, const Event *e, const char *machine) {
        if (e->removed) {
                text_printf(t, "%s: %s %s", e->name,
                            streq(member_text(e->was, "order"), "stop") ? "stopped and removed from" :
                                                                          "no longer assigned to",
                            machine);
                return;
        }
        text_printf(t, "%s: assigned to %s (%s)", e->name, machine, event_text(e, "order"));
        append_reason(t, e);
}

static void append_state(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                return;
        if (member_bool(e->line, "finished"))
                text_printf(t, "%s: finished successfully on %s", e->name, machine);
        else if (streq(event_text(e, "active"), "failed"))
                text_printf(t, "%s: failed on %s%s%s", e->name, machine,
                            isatty(STDOUT_FILENO) ? "    fleetctl journal " : "",
                            isatty(STDOUT_FILENO) ? e->name : "");
        else if (!streq(event_text(e, "load"), "loaded"))
                text_printf(t, "%s: not loaded on %s (%s)", e->name, machine, event_text(e, "load"));
        else
                text_printf(t, "%s: %s (%s) on %s", e->name, event_text(e, "active"), event_text(e, "sub"),
                            machine);
}

static void append_presence(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                text_printf(t, "%s is removed", machine);
        else if (event_changes(e, "presence")) {
                if (streq(event_text(e, "presence"), "left"))
                        text_printf(t, "%s has left the cluster", machine);
                else
                        text_printf(t, "%s is %s", machine, event_text(e, "presence"));
                append_reason(t, e);
        }
}

static void append_facts(Text *t, const Event *e, const char *machine) {
        if (!e->removed && event_changes(e, "version"))
                text_printf(t, "%s runs fleetd %s", machine, event_text(e, "version"));
}

static void append_member(Text *t, const Event *e, const char *machine) {
        const char *what = e->was ? "fleetd has started" : "added as a member";

        text_printf(t, "%s: %s", machine, e->removed ? "removed from the members" : what);
}

static void append_metadata(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                text_printf(t, "%s: metadata %s reset to the setting of the host", machine, e->name);
        else
                text_printf(t, "%s: metadata set to %s=%s", machine, e->name, event_text(e, "value"));
}

static void append_problem(Text *t, const Event *e, const char *machine) {
        if (e->removed)
                text_printf(t, "%s: problem in the unit directory of %s resolved", e->name, machine);
        else {
                text_printf(t, "%s: %s in the unit directory of %s", e->name, event_text(e, "problem"),
                            machine);
                append_reason(t, e);
        }
}

/* fleet-api(7) documents all kinds. */
static const struct {
        const char *kind;
        void (*append)(Text *t, const Event *e, const char *machine);
} messages[] = {
        { "unit", append_unit },     { "target", append_target },     { "order", append_assignment },
        { "state", append_state },   { "presence", append_presence }, { "machine", append_facts },
        { "member", append_member }, { "metadata", append_metadata }, { "problem", append_problem },
};

static bool is_bad(const Event *e) {
        return !e->removed &&
               (streq(event_text(e, "active"), "failed") || streq(event_text(e, "presence"), "lost") ||
                (*event_text(e, "load") && !streq(event_text(e, "load"), "loaded")) ||
                *event_text(e, "problem"));
}

static void append_time(Text *t, bool date, uint64_t ms) {
        time_t seconds = (time_t) (ms / 1000);
        struct tm when = {};
        char text[32];

        (void) localtime_r(&seconds, &when);
        if (strftime(text, sizeof(text), date ? "%Y-%m-%d %H:%M:%S" : "%H:%M:%S", &when) > 0)
                text_append(t, text);
}

/* Append a line for the event, or nothing if it does not concern users. */
static void append_message(Events *all, const Event *e, Text *t) {
        _cleanup_text_ Text message = {}, machine = {};
        const char *colour = output_has_colours() && is_bad(e) ? output_state_colour("failed") : "";

        client_load_machine(all->client, &all->machines, e->machine, true);
        if (*e->machine)
                append_machine_name(&machine, &all->machines, e->machine);
        for (size_t i = 0; i < ELEMENTS(messages); i++)
                if (streq(messages[i].kind, e->kind))
                        messages[i].append(&message, e, machine.chars ?: "");
        if (message.size == 0)
                return;
        append_time(t, true, e->time_ms);
        text_printf(t, "  %s", colour);
        text_append_printable(t, message.chars);
        text_append(t, *colour ? COLOUR_OFF : "");
}

/* -- Selection -- */

static bool is_selected(const Events *all, const Event *e) {
        bool of_unit = *e->name && !streq(e->kind, "metadata") && !streq(e->kind, "cluster");

        return (all->names.n == 0 || (of_unit && patterns_match(&all->names, e->name))) &&
               e->time_ms >= all->since_ms &&
               (!all->client->options.machine ||
                machine_has_name(&all->machines, e->machine, all->client->options.machine));
}

static int print_line(Events *all, const char *line) {
        all->n_printed++;
        if (all->json)
                (void) output_line(line);
        else if (output_control(line) >= 0) /* append_message() has escaped it */
                putchar('\n');
        return output_flush();
}

/* Print the last past events. -ECANCELED ends the stream without --follow. */
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

        text_append_printable(&t, member_text(error, "message"));
        fprintf(stderr, "fleetctl: %s\n", t.chars ?: "");
        all->status = EXIT_ABSENT;
        return -ECANCELED;
}

static int events_on_line(void *userdata, const char *line, size_t size) {
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
                /* The first line without an event is the begin of the stream, the second is the end of the
                 * past; later ones are keep-alives. */
                if (!all->begun)
                        all->begun = true;
                else if (!all->caught_up)
                        return catch_up(all);
                return 0;
        }
        e = event_of(root);
        if (!is_selected(all, &e))
                return 0;
        if (all->json)
                text_append_bytes(&t, line, size);
        else
                append_message(all, &e, &t);
        if (t.error < 0 || t.size == 0)
                return t.error;
        if (all->last > 0 && !all->caught_up)
                return names_add(&all->past, t.chars, t.size);
        return print_line(all, t.chars);
}

/* -- The stream -- */

/* Read the stream. Return 0 if the connection was lost and can be repeated; else the exit status is in 'all'.
 */
static int follow_once(Events *all) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};
        Error err = {};
        int r;

        all->begun = false;
        text_printf(&path, "/fleet/v1/events?details=true&after=%llu", (unsigned long long) all->index);
        r = connection_follow(all->client->connection, "GET", client_path(&path), events_on_line, all, &reply,
                              &err);
        if (r == -ECANCELED)
                return 1;
        if (all->caught_up &&
            (r == 0 || r == -ECONNRESET || r == -ECONNREFUSED || r == -ENOENT || r == -ETIMEDOUT))
                return 0;
        all->status = EXIT_FAILED;
        if (r == -EREMOTEIO && reply.status == 410) {
                client_note("--after-index=%llu: some later events are no longer in the event window; omit "
                            "--after-index to print the rest",
                            (unsigned long long) all->index);
                all->status = EXIT_ABSENT;
        } else if (r == 0)
                client_note("fleetd ended the stream");
        else if (!output_has_failed())
                (void) client_fail(r, &err);
        return 1;
}

static void follow(Events *all) {
        bool noted = false;

        while (follow_once(all) == 0) {
                if (!noted)
                        client_note("connection to fleetd lost; reconnecting");
                noted = true;
                (void) usleep(PAUSE_MS * 1000);
        }
}

/* -- Recent changes in presence -- */

enum { RECENT_MS = 3600000, RECENT_MAX = 3 };

typedef struct Recent {
        const Listing *machines;
        uint64_t since_ms;
        unsigned n_marks; /* lines without an event: the second is the end of the past */
        Names lines;
} Recent;

static int on_recent(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text t = {}, machine = {};
        Recent *recent = userdata;
        const char *presence;
        Event e;

        if (json_value_parse(line, size, &root, NULL) < 0)
                return -EBADMSG;
        if (!json_value_member(root, "kind"))
                return ++recent->n_marks > 1 ? -ECANCELED : 0;
        e = event_of(root);
        if (!streq(e.kind, "presence") || !e.was || e.removed || e.time_ms < recent->since_ms ||
            !event_changes(&e, "presence"))
                return 0;
        append_machine_name(&machine, recent->machines, e.machine);
        append_time(&t, false, e.time_ms);
        text_append(&t, " ");
        text_append_printable(&t, machine.chars ?: "");
        presence = event_text(&e, "presence");
        text_printf(&t, streq(presence, "left") ? " has %s" : " is %s", presence);
        return t.error < 0 ? t.error : names_add(&recent->lines, t.chars, t.size);
}

void events_append_recent(Client *c, const Listing *machines, Text *ret) {
        Recent recent = { .machines = machines, .since_ms = clock_real_ms() - RECENT_MS };
        _cleanup_stream_ Stream *stream = NULL;
        int r;

        r = stream_new(c->connection, "GET", "/fleet/v1/events?details=true&after=0", on_recent, &recent,
                       &stream, NULL);
        while (r >= 0)
                r = stream_wait(stream, PAUSE_MS, NULL) ?: -ETIMEDOUT;
        for (size_t i = recent.lines.n > RECENT_MAX ? recent.lines.n - RECENT_MAX : 0; i < recent.lines.n;
             i++)
                text_printf(ret, "%s%s", ret->size > 0 ? "    " : "", recent.lines.items[i]);
        names_done(&recent.lines);
}

/* -- Times -- */

/* Parse "1h30min". */
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

int client_parse_time(const char *s, uint64_t now_ms, uint64_t *ret_ms) {
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

int verb_events(Client *c, char **args, size_t n, Error *err) {
        const Options *o = &c->options;
        _cleanup_(events_done)
                Events all = { .client = c, .json = streq(o->output, "json"), .index = o->after_index };
        int r;

        all.last = o->last;
        if (o->last == 0 && o->follow && !o->since && o->after_index == 0)
                all.last = FOLLOW_LINES;
        if (o->since && client_parse_time(o->since, clock_real_ms(), &all.since_ms) < 0) {
                fprintf(stderr,
                        "fleetctl: --since=%s: expected a time, for example -1h, 12:00, yesterday or "
                        "2026-01-31 12:00\n",
                        o->since);
                return EXIT_USAGE;
        }
        if (patterns_read(args, n, &all.names) < 0)
                return -ENOMEM;
        r = client_all_machines(c, &all.machines, err);
        if (r < 0)
                return r;
        follow(&all);
        if (all.status == EXIT_DONE && all.n_printed == 0 && !all.json)
                client_note("no such event among the last 1000 changes of the cluster");
        return all.status;
}
