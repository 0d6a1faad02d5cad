/* events: rows of the history, the past ones from the tree of a daemon, and with --follow those that it adds.
 */
#include "client/verbs/events.h"

#include <time.h>

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/core/patterns.h"
#include "client/core/times.h"
#include "client/core/unit.h"

enum {
        EVENTS_PAUSE_MS = 1000, /* between two attempts to reconnect */
        HTTP_CONFLICT = 409,
};

typedef struct Events {
        Client *client;
        Names names;                 /* units and patterns; none: all units */
        uint64_t since_ms, until_ms; /* wall clock; 0: not given */
        uint64_t last;               /* number of past events; 0: all */
        Listing machines;
        Names unknown;     /* IDs that are not among the machines */
        Pairs removed;     /* names of removed machines, by ID, from the rows of their removal */
        bool removed_read; /* all such rows were read */
        EventRow *rows;    /* of the past, until all are there */
        size_t n_rows, rows_capacity;
        EventColumns columns;
        bool caught_up, json;
        bool none;          /* no past event matches */
        uint64_t oldest_ms; /* the first event of the history; 0: there is none */
        uint64_t index;     /* of the last event received */
        int status;
} Events;

static void events_done(Events *e) {
        for (size_t i = 0; i < e->n_rows; i++)
                event_row_done(&e->rows[i]);
        free(e->rows);
        names_done(&e->names);
        names_done(&e->unknown);
        pairs_done(&e->removed);
        listing_done(&e->machines);
}

/* -- Removed machines -- */

/* Keep the name of a machine, if 'row' is that of its removal. */
static int add_removed(Pairs *removed, const JsonValue *row) {
        if (!streq(member_text(row, "kind"), "removed") || !*member_text(row, "reason"))
                return 0;
        return pairs_set(removed, member_text(row, "machine"), member_text(row, "reason"));
}

/* Append the name of a removed machine. Another machine may have had it, or have it by now. */
static void append_removed(Text *t, const Listing *machines, const Pairs *removed, const char *id) {
        const char *name = pairs_get(removed, id) ?: "";
        bool ambiguous = false;

        for (size_t i = 0; i < machines->n; i++)
                ambiguous |= same_string(machines->machines[i].hostname, name);
        for (size_t i = 0; i < removed->n; i++)
                ambiguous |= streq(removed->items[i].value, name) && !streq(removed->items[i].key, id);
        text_append(t, name);
        if (ambiguous)
                text_printf(t, " (%.8s)", id);
}

/* -- Rows -- */

static int on_removed(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;

        TRY(json_value_parse(line, size, &root, NULL));
        return add_removed(&((Events *) userdata)->removed, root);
}

/* Return the name of a machine that is removed, or NULL. The selected rows may lack that of its removal: then
 * all are read, once. */
static const char *removed_name(Events *all, const char *id) {
        Error err = {};

        if (!*id || listing_machine(&all->machines, id))
                return NULL;
        if (!pairs_get(&all->removed, id) && !all->removed_read) {
                all->removed_read = true;
                (void) connection_follow(all->client->connection, "GET", "/fleet/v1/history?follow=false",
                                         on_removed, all, NULL, &err);
        }
        return pairs_get(&all->removed, id);
}

/* Append the name of a machine; "" stays empty. Machines that joined meanwhile are read once. */
static void append_machine(Events *all, const char *id, Text *t) {
        _cleanup_text_ Text name = {};

        if (*id && !listing_machine(&all->machines, id) && !names_have(&all->unknown, id)) {
                client_load_machine(all->client, &all->machines, id, true);
                if (!listing_machine(&all->machines, id))
                        (void) names_add(&all->unknown, id, strlen(id));
        }
        if (removed_name(all, id))
                append_removed(&name, &all->machines, &all->removed, id);
        else if (*id)
                append_machine_name(&name, &all->machines, id);
        text_append_printable(t, name.chars ?: "");
        t->error = MIN(t->error, name.error);
}

static bool is_selected(Events *all, const EventRow *row) {
        const Options *o = &all->client->options;
        const char *machine = o->machine;

        if ((o->problems || o->changes) && !(o->problems && row->bad) && !(o->changes && row->requested))
                return false;
        return !machine || machine_has_name(&all->machines, row->machine, machine) ||
               same_string(removed_name(all, row->machine), machine);
}

static int print_row(Events *all, const EventRow *row, bool followed) {
        _cleanup_text_ Text machine = {};

        if (all->json)
                return output_line(row->line) < 0 ? -EPIPE : followed ? output_flush() : 0;
        append_machine(all, row->machine, &machine);
        TRY(machine.error);
        if (event_columns_fit(&all->columns, row, machine.chars ?: "") < 0)
                return -ENOMEM;
        return event_row_print(&all->columns, row, machine.chars ?: "", followed);
}

/* Print that older events are not kept, and where they are. */
static void note_begin(const Events *all, uint64_t oldest_ms) {
        const char *since = all->client->options.since, *quote = since && strchr(since, ' ') ? "'" : "";
        _cleanup_text_ Text begin = {};

        if (all->since_ms == 0 || oldest_ms <= all->since_ms)
                return;
        append_clock(&begin, oldest_ms, 0, true);
        client_note("no events before %s: the history begins there; the journals of the "
                    "hosts may have more: fleetctl log --since=%s%s%s",
                    begin.chars ?: "", quote, since, quote);
}

/* Print the past: the last rows, by their last occurrence. -ECANCELED ends the stream without --follow. */
static int catch_up(Events *all, uint64_t oldest_ms) {
        size_t first = all->last > 0 && all->n_rows > all->last ? all->n_rows - all->last : 0;
        _cleanup_text_ Text machine = {};
        int r = 0;

        all->caught_up = true;
        all->none = all->n_rows == 0;
        all->oldest_ms = oldest_ms;
        note_begin(all, oldest_ms);
        if (all->none && all->client->options.follow && !all->json)
                client_note("no such event so far");
        for (size_t i = first; i < all->n_rows && r >= 0 && !all->json; i++) {
                text_clear(&machine);
                append_machine(all, all->rows[i].machine, &machine);
                r = machine.error;
                if (r == 0)
                        r = event_columns_fit(&all->columns, &all->rows[i], machine.chars ?: "");
        }
        for (size_t i = first; i < all->n_rows && r >= 0; i++)
                r = print_row(all, &all->rows[i], false);
        for (size_t i = 0; i < all->n_rows; i++)
                event_row_done(&all->rows[i]);
        all->n_rows = 0;
        if (r >= 0 && fflush(stdout) == EOF)
                r = -errno;
        return r < 0 || all->client->options.follow ? r : -ECANCELED;
}

static int events_add_row(Events *all, EventRow *row) {
        TRY(GROW(all->rows, all->rows_capacity, all->n_rows + 1));
        all->rows[all->n_rows++] = TAKE_STRUCT(*row);
        return 0;
}

static int events_on_line(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_(event_row_done) EventRow row = {};
        Events *all = userdata;

        TRY(json_value_parse(line, size, &root, NULL));
        all->index = MAX(all->index, member_number(root, "index"));
        if (!*member_text(root, "kind")) /* the end of the past; later ones are keep-alives */
                return all->caught_up ? 0 : catch_up(all, member_number(root, "oldest"));
        TRY(event_row_read(root, line, size, &row));
        TRY(add_removed(&all->removed, root));
        if (!is_selected(all, &row))
                return 0;
        return all->caught_up ? print_row(all, &row, true) : events_add_row(all, &row);
}

/* -- The stream -- */

static void append_path(const Events *all, Text *t) {
        const Options *o = &all->client->options;

        text_append(t, "/fleet/v1/history?");
        if (all->index > 0)
                text_printf(t, "after=%llu&", (unsigned long long) all->index);
        if (all->since_ms > 0 && !all->caught_up)
                text_printf(t, "since=%llu&", (unsigned long long) all->since_ms);
        if (all->until_ms > 0)
                text_printf(t, "until=%llu&", (unsigned long long) all->until_ms);
        /* With these filters, which are applied here, the last rows are not those of the answer. */
        if (all->last > 0 && !o->machine && !o->problems && !o->changes && !all->caught_up)
                text_printf(t, "last=%llu&", (unsigned long long) all->last);
        for (size_t i = 0; i < all->names.n; i++) {
                text_append(t, "unit=");
                append_escaped(t, all->names.items[i], false);
                text_append(t, "&");
        }
        text_append(t, o->follow ? "follow=true" : "follow=false");
}

/* Print why there is no stream. */
static void fail_stream(Events *all, int r, const Reply *reply, const Error *err) {
        all->status = EXIT_FAILED;
        if (r == -EREMOTEIO && reply->status == HTTP_CONFLICT)
                client_note("the history begins at feature level 4: when all hosts run this version, "
                            "fleetctl cluster level 4");
        else if (r == 0)
                client_note("fleetd ended the stream");
        else if (!output_has_failed())
                (void) client_fail(r, err);
}

/* Read the stream. Return 0 if the connection was lost and can be repeated; else the exit status is in 'all'.
 */
static int follow_once(Events *all) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};
        Error err = {};
        int r;

        append_path(all, &path);
        r = connection_follow(all->client->connection, "GET", client_path(&path), events_on_line, all, &reply,
                              &err);
        if (r == -ECANCELED)
                return 1;
        if (all->caught_up && (r == 0 || r == -ENOENT || connection_is_lost(r)))
                return 0;
        fail_stream(all, r, &reply, &err);
        return 1;
}

static void events_follow(Events *all) {
        bool noted = false;

        while (follow_once(all) == 0) {
                if (!noted)
                        client_note("connection to fleetd lost; reconnecting");
                noted = true;
                (void) usleep(EVENTS_PAUSE_MS * 1000);
        }
}

/* -- Recent changes in presence, and the moves that followed -- */

enum { RECENT_MAX = 3 };

typedef struct Recent {
        const Listing *machines;
        uint64_t now_ms;
        Pairs removed;   /* names of removed machines, by ID */
        Pairs leaves;    /* machines that are leaving, by ID */
        Pairs presences; /* the last one of each machine, by ID: a row of the same has another reason */
        Names lines;
        char *name;     /* of the machine of the last line, if it is down */
        size_t n_moved; /* units that have moved from it since then */
} Recent;

static void recent_done(Recent *recent) {
        names_done(&recent->lines);
        pairs_done(&recent->removed);
        pairs_done(&recent->leaves);
        pairs_done(&recent->presences);
        free(recent->name);
}

/* Complete the last line. */
static int recent_add_moves(Recent *recent) {
        _cleanup_text_ Text t = {};
        char **line;

        if (recent->n_moved == 0)
                return 0;
        line = &recent->lines.items[recent->lines.n - 1];
        text_printf(&t, "%s; %zu unit%s moved", *line, recent->n_moved, plural(recent->n_moved));
        TRY(t.error);
        free(*line);
        *line = text_take(&t, NULL);
        recent->n_moved = 0;
        return 0;
}

/* Return whether a unit has moved away from the machine, which is down. */
static bool is_move_from(const Verdict *v, const char *name) {
        size_t size;
        const char *from = verdict_argument(v, 0, &size);

        return (v->code == VERDICT_LEAVES_LOST || v->code == VERDICT_LEAVES_LEFT) && strlen(name) == size &&
               strncmp(from, name, size) == 0;
}

/* Return the presence of the machine that a row is about; "" for other rows. */
static const char *row_presence(const JsonValue *row, const Verdict *v) {
        return !streq(member_text(row, "kind"), "presence") ? "" :
               v->code == VERDICT_LOST_UNREPORTED           ? "lost" :
                                                              verdict_name(v);
}

/* Append the presence of the row's machine, or how it ended as a machine of the cluster. */
static void recent_append_change(Recent *recent, const JsonValue *row, const Verdict *v, Text *t) {
        const char *kind = member_text(row, "kind"), *id = member_text(row, "machine");

        text_append(t, row_presence(row, v));
        if (streq(kind, "leave"))
                t->error = pairs_set(&recent->leaves, id,
                                     v->code == VERDICT_LEAVE_BEGUN ? "left the cluster" : "");
        else if (streq(kind, "removed")) {
                const char *left = pairs_get(&recent->leaves, id);

                text_append(t, left && *left ? left : "was removed");
        }
}

/* The cluster was recovered or restored. */
static int recent_add_adoption(Recent *recent, const JsonValue *row, const Verdict *v) {
        _cleanup_text_ Text t = {};
        int r;

        r = recent_add_moves(recent);
        if (r < 0 || (v->code != VERDICT_RECOVERED && v->code != VERDICT_RESTORED))
                return r;
        append_clock(&t, member_number(row, "last"), recent->now_ms, true);
        text_printf(&t, " the cluster was %s", verdict_name(v));
        free(recent->name);
        recent->name = NULL;
        return t.error < 0 ? t.error : names_add(&recent->lines, t.chars, t.size);
}

static int recent_add(Recent *recent, const JsonValue *row) {
        _cleanup_text_ Text t = {}, machine = {}, presence = {};
        const char *id = member_text(row, "machine"), *before;
        bool shut_down, down;
        Verdict verdict;

        row_verdict(row, &verdict);
        if (streq(member_text(row, "kind"), "adoption"))
                return recent_add_adoption(recent, row, &verdict);
        recent->n_moved += recent->name && is_move_from(&verdict, recent->name);
        recent_append_change(recent, row, &verdict, &presence);
        if (presence.size == 0)
                return presence.error;
        before = pairs_get(&recent->presences, id);
        if (before && streq(before, presence.chars))
                return 0;
        TRY(pairs_set(&recent->presences, id, presence.chars));
        TRY(recent_add_moves(recent));
        if (pairs_get(&recent->removed, id) && !listing_machine(recent->machines, id))
                append_removed(&machine, recent->machines, &recent->removed, id);
        else
                append_machine_name(&machine, recent->machines, id);
        append_clock(&t, member_number(row, "last"), recent->now_ms, true);
        text_printable(&t, " %s", machine.chars ?: "");
        shut_down = verdict.code == VERDICT_LEFT;
        down = shut_down || streq(presence.chars, "lost");
        if (shut_down)
                text_append(&t, " was shut down");
        else if (streq(member_text(row, "kind"), "removed"))
                text_printf(&t, " %s", presence.chars);
        else if (verdict.code == VERDICT_LOST_UNREPORTED) /* nothing has happened to it now */
                text_append(&t, " has not reported since the cluster was recovered or restored");
        else
                text_printf(&t, " is %s", presence.chars);
        if (machine.error < 0 || t.error < 0)
                return MIN(machine.error, t.error);
        free(recent->name);
        recent->name = down ? text_take(&machine, NULL) : NULL;
        return names_add(&recent->lines, t.chars, t.size);
}

int events_append_recent(JsonValue *const *rows, size_t n, const Listing *machines, Text *ret) {
        Recent recent = { .machines = machines, .now_ms = clock_real_ms() };
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++)
                r = add_removed(&recent.removed, rows[i]);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = recent_add(&recent, rows[i]);
        if (r >= 0)
                r = recent_add_moves(&recent);
        for (size_t i = recent.lines.n > RECENT_MAX ? recent.lines.n - RECENT_MAX : 0; i < recent.lines.n;
             i++)
                text_printf(ret, "%s%s", ret->size > 0 ? "    " : "", recent.lines.items[i]);
        recent_done(&recent);
        return r < 0 ? r : ret->error;
}

static int on_any_line(void *userdata, const char *line, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        bool *any = userdata;
        int r = json_value_parse(line, size, &root, NULL);

        *any = *any || (r >= 0 && *member_text(root, "kind"));
        return MIN(r, 0);
}

/* Return whether the cluster has the unit, or events of it; or a negative errno. */
static int events_know_unit(Client *c, const char *name, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_text_ Text path = {};
        bool any = false;
        int r;

        TRY_DONE(client_unit(c, name, &unit, err));
        r = connection_follow(c->connection, "GET",
                              client_path_of(&path, "/fleet/v1/history?last=1&unit=", name, "&follow=false"),
                              on_any_line, &any, NULL, err);
        return r == -ENOMEM ? r : any || r < 0; /* without a history, it may have existed */
}

void events_note_fields(char **args, size_t n) {
        /* Of fleetd's messages (fleetd/service.c); the first ones have a short form, and stand for it. */
        static const char fields[] = "UNIT MACHINE INDEX TERM FLEET_PRINCIPAL ERRNO MESSAGE_ID PRIORITY",
                          others[] = "FLEET_UNIT FLEET_MACHINE FLEET_INDEX FLEET_TERM MESSAGE "
                                     "SYSLOG_IDENTIFIER";

        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = strndup(args[i], strcspn(args[i], "="));

                if (name && *name != '_' && !text_has_word(fields, name) && !text_has_word(others, name))
                        client_note(
                                "fleetd writes no field %s; its fields: %s, and those of the journal (_PID)",
                                name, fields);
        }
}

/* Print that no entry matches these filters. */
static void note_no_match(const Client *c, char **args, size_t n, bool partly) {
        const Options *o = &c->options;
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < n; i++)
                text_printf(&t, " %s", args[i]);
        if (o->priority)
                text_printf(&t, " --priority=%s", o->priority);
        if (o->grep)
                text_printf(&t, " --grep=%s", o->grep);
        client_note("no entry%s%s matches%s", partly ? " of the other machines" : "",
                    o->since || o->until ? " in the time asked" : "", t.chars ?: "");
        events_note_fields(args, n);
}

int events_explain_matches(Client *c, const Listing *machines, char **args, size_t n, bool partly,
                           Error *err) {
        int status = EXIT_DONE;

        for (size_t i = 0; i < n; i++) {
                const char *value = strchr(args[i], '=') + 1;
                _cleanup_free_ char *unit = NULL;
                const ApiMachine *machine;

                if (starts_with(args[i], "UNIT=")) {
                        int r;

                        unit = unit_name_from_argument(value);
                        r = TRY(unit ? events_know_unit(c, unit, err) : -ENOMEM);
                        if (r > 0)
                                continue;
                        status = client_note_absent(c, unit);
                } else if (starts_with(args[i], "MACHINE=") &&
                           listing_find_machine(machines, value, &machine) == 0) {
                        client_note_machine(machines, 0, "MACHINE=", value);
                        status = EXIT_ABSENT;
                }
        }
        if (status == EXIT_DONE)
                note_no_match(c, args, n, partly);
        return status;
}

/* A name without a type was completed: a machine may be meant. */
static void note_machine_of_name(const Events *all, const char *unit) {
        static const char type[] = ".service";
        size_t size = strlen(unit), end = sizeof(type) - 1;
        _cleanup_free_ char *name = size > end && streq(unit + size - end, type) ? strndup(unit, size - end) :
                                                                                   NULL;

        for (size_t i = 0; name && i < all->machines.n + all->machines.n_removed; i++)
                if (same_string(all->machines.machines[i].hostname, name)) {
                        client_note("%s is a machine: fleetctl events --machine=%s", name, name);
                        return;
                }
}

/* Print which of the arguments nothing knows, or that no event matches. */
static int explain_none(Events *all, Error *err) {
        const char *machine = all->client->options.machine;
        bool known = !machine;

        for (size_t i = 0; i < all->names.n; i++) {
                const char *name = all->names.items[i];
                int r = TRY(strpbrk(name, "*?[") ? 1 : events_know_unit(all->client, name, err));

                if (r > 0)
                        continue;
                client_note_absent(all->client, name);
                note_machine_of_name(all, name);
                all->status = EXIT_ABSENT;
        }
        for (size_t i = 0; i < all->machines.n + all->machines.n_removed && !known; i++)
                known = machine_has_name(&all->machines, all->machines.machines[i].id, machine);
        if (!known) {
                client_note_machine(&all->machines, 0, "--machine=", machine);
                all->status = EXIT_ABSENT;
        }
        if (all->status == EXIT_DONE && !all->json)
                client_note("no such event%s%s",
                            all->client->options.since || all->client->options.until ? " in the time asked" :
                                                                                       "",
                            all->oldest_ms > 0 ? "" : ": the history is empty");
        return EXIT_DONE;
}

static int events_run(Client *c, char **args, size_t n, Error *err) {
        const Options *o = &c->options;
        _cleanup_(events_done)
                Events all = { .client = c, .json = streq(o->output, "json"), .index = o->after_index };

        all.last = o->last;
        if (o->last == 0 && o->follow && !o->since && o->after_index == 0)
                all.last = FOLLOW_LINES;
        all.columns.now_ms = clock_real_ms();
        if (times_of_range(&c->options, &all.since_ms, &all.until_ms) != EXIT_DONE)
                return EXIT_USAGE;
        if (patterns_read(args, n, &all.names) < 0)
                return -ENOMEM;
        TRY(client_all_machines(c, &all.machines, err));
        events_follow(&all);
        if (all.none && all.status == EXIT_DONE)
                TRY(explain_none(&all, err));
        return all.status;
}

VERB(events, "events", "json", "[UNIT...]", "Show the decisions of the cluster and their results",
     "The history of the cluster: assignments with their reasons, states of units, presence of machines,\n"
     "and changes by users, of all units or of the named ones. With --follow also new events.\n\n"
     "fleetctl events --since=yesterday 'web@*'\n"
     "fleetctl events --follow --since=-10min web@1.service\n",
     events_run);
