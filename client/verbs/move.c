/* move: one unit on another machine. The daemons take all steps by themselves; this command begins the move,
 * and reports. */

#include "client/verbs/moving.h"

#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/verbs/events.h"

void moving_done(Moving *m) {
        free(m->name);
        text_done(&m->path);
        text_done(&m->id);
        text_done(&m->from);
        json_value_free(m->state);
}

static bool moving_is(const Moving *m, const char *state) {
        return streq(member_text(m->state, "state"), state);
}

/* -- The end -- */

/* Keep the newest row about a move. */
static int on_row(void *userdata, const char *line, size_t size) {
        JsonValue *root = NULL, **last = userdata;

        if (json_value_parse(line, size, &root, NULL) < 0)
                return 0;
        if (streq(member_text(root, "kind"), "move")) {
                json_value_free(*last);
                *last = root;
        } else
                json_value_free(root);
        return 0;
}

/* Read how the move has ended without success; NULL: it succeeded, or the history does not have it. */
static int moving_read_end(Moving *m, JsonValue **ret, Error *err) {
        Verdict result;
        _cleanup_text_ Text path = {};
        int r;

        r = connection_follow(
                m->client->connection, "GET",
                client_path_of(&path, "/fleet/v1/history?last=50&unit=", m->name, "&follow=false"), on_row,
                ret, NULL, err);
        if (r == -ENOMEM)
                return r;
        /* The request, or its success. An answer that was cut may end with an older row. */
        row_verdict(*ret, &result);
        if (r < 0 || (result.code != VERDICT_MOVE_FAILED && result.code != VERDICT_MOVE_LOST &&
                      result.code != VERDICT_MOVE_ENDED)) {
                json_value_free(*ret);
                *ret = NULL;
        }
        return 0;
}

/* A unit that was not available may have left its former machine before it failed on the other one. */
static int moving_fail(const Moving *m, const JsonValue *row, bool is_there) {
        const char *why = member_text(row, "reason");
        _cleanup_text_ Text journal = {};
        Verdict result;

        row_verdict(row, &result);
        if (result.code == VERDICT_MOVE_FAILED) {
                text_printf(&journal, "; fleetctl journal %s --machine=", m->name);
                append_machine_name(&journal, m->machines, m->id.chars ?: "");
        }
        progress_break(m->operation->progress);
        if (!*why)
                client_note("the move of %s has ended: fleetctl events %s", m->name, m->name);
        else if (is_there)
                client_note("%s; the unit is on %s now: fleetctl why %s%s", why,
                            member_text(m->state, "machine"), m->name, journal.chars ?: "");
        else
                client_note("%s%s", why, journal.chars ?: "");
        return EXIT_FAILED;
}

/* Return whether the request has ended a move to another machine: the unit was on its own already. */
static bool moving_ended_other(const Moving *m, const JsonValue *row) {
        Verdict result;

        row_verdict(row, &result);
        return result.code == VERDICT_MOVE_ENDED && !streq(member_text(row, "machine"), m->id.chars ?: "");
}

/* 'stayed': the unit is where it was before. */
static int moving_end(Moving *m, bool stayed, Error *err) {
        bool is_there = !stayed && streq(member_text(m->state, "id"), m->id.chars ?: "");
        _cleanup_json_ JsonValue *row = NULL;
        _cleanup_text_ Text time = {};
        int r = TRY(moving_read_end(m, &row, err));

        if (!is_there || (row && !moving_ended_other(m, row)))
                return moving_fail(m, row, is_there);
        operation_append_elapsed(m->operation, &time);
        r = time.error < 0 ? time.error :
                             operation_show(m->operation, m->name, PROGRESS_DONE,
                                            member_text(m->state, "machine"), "available", time.chars);
        operation_draw(m->operation);
        return r < 0 ? r : EXIT_DONE;
}

/* -- The wait -- */

int moving_look(void *userdata, Error *err) {
        Moving *m = userdata;
        const char *place, *reason;
        int r = client_refresh_json(m->client, client_path(&m->path), &m->state, err);

        if (client_is_final(m->client, r))
                return r;
        if (r < 0)
                return -ENODATA;
        if (r == 0) {
                client_note("%s was destroyed; its move has ended", m->name);
                return EXIT_FAILED;
        }
        if (moving_is(m, "none"))
                return moving_end(m, false, err);
        if (!streq(member_text(m->state, "id"), m->id.chars ?: "")) {
                client_note("%s moves to %s now, by another request", m->name,
                            member_text(m->state, "machine"));
                return EXIT_FAILED;
        }
        place = member_text(m->state, "machine");
        reason = member_text(m->state, "reason");
        if (moving_is(m, "moving"))
                r = operation_show(m->operation, m->name, PROGRESS_UNDERWAY, place,
                                   *reason ? "active" : "starting", reason);
        else if (moving_is(m, "stopping"))
                r = operation_show(m->operation, m->name, PROGRESS_UNDERWAY, place, "stopping first", "");
        else if (moving_is(m, "waiting"))
                r = operation_show(m->operation, m->name, PROGRESS_UNDERWAY, place, "waiting", reason);
        else if (moving_is(m, "queued"))
                r = operation_show(m->operation, m->name, PROGRESS_IDLE, place, "queued", "");
        else
                return error_set(err, -EBADMSG, "fleetd's answer about the move of %s has an unknown state",
                                 m->name);
        operation_draw(m->operation);
        return r < 0 ? r : -EAGAIN;
}

static void moving_left(void *userdata, OperationEnd end) {
        const Moving *m = userdata;

        client_note("%sthe move of %s to %s continues: fleetctl why %s shows it%s%s%s%s%s",
                    operation_end(end), m->name, member_text(m->state, "machine"), m->name,
                    m->from.size > 0 ? ", fleetctl move " : "", m->from.size > 0 ? m->name : "",
                    m->from.size > 0 ? " " : "", m->from.size > 0 ? m->from.chars : "",
                    m->from.size > 0 ? " ends it" : "");
}

static void moving_lost(void *userdata, const char *why) {
        const Moving *m = userdata;

        client_note("no state from fleetd; the move continues (on another host: fleetctl why %s): %s",
                    m->name, why);
}

static const OperationType moving_type = { moving_look, moving_left, moving_lost, .silent_ms = 60000 };

/* -- The request -- */

int moving_init(Moving *m, char *unit) {
        m->name = unit_name_from_argument(unit);
        if (!m->name)
                return -ENOMEM;
        return client_path_of(&m->path, "/fleet/v1/units/", m->name, "/move") ? 0 : -ENOMEM;
}

int moving_request(Moving *m, const char *from, const char *to, Error *err) {
        _cleanup_text_ Text body = {};

        json_open(&body, NULL, '{');
        json_add_bool(&body, "force", m->client->options.force);
        json_add_string(&body, "from", from);
        json_add_string(&body, "machine", to);
        json_close(&body, '}');
        return client_request(m->client, "PUT", client_path(&m->path), &body, NULL, err);
}

/* Print that the unit is on the machine already. */
static int moving_stays(const Moving *m) {
        _cleanup_text_ Text t = {};

        text_printable(&t, "%s is on %s", m->name, member_text(m->state, "machine"));
        return client_prints_json(m->client) ? EXIT_DONE : output_built(&t);
}

/* Print that the data of a unit does not move with it. */
static int moving_print_data(const Moving *m) {
        const char *machine = member_text(m->state, "dataMachine");
        _cleanup_text_ Text t = {};

        if (!*machine || !m->client->options.force || client_prints_json(m->client))
                return 0;
        text_printable(&t, "Its data stays on %s (%s), and is not copied", machine,
                       member_text(m->state, "data"));
        return output_built(&t);
}

/* Print which units leave the machine after this one: the command does not wait for them. */
static int moving_print_followers(const Moving *m) {
        const JsonValue *followers = json_value_member(m->state, "followers");
        size_t n = json_value_count(followers);
        _cleanup_text_ Text t = {};

        if (n == 0 || client_prints_json(m->client))
                return 0;
        text_append(&t,
                    n == 1 ? "This unit follows it (MachineOf=): " : "These units follow it (MachineOf=): ");
        for (size_t i = 0; i < n; i++) {
                text_printable(&t, "%s%s", i > 0 ? ", " : "",
                               json_value_string(json_value_item(followers, i)) ?: "");
        }
        return output_built(&t);
}

/* Begin the move, and wait for its end. */
static int moving_run(Moving *m, const ApiMachine *to, Error *err) {
        bool no_block = m->client->options.no_block;
        _cleanup_free_ char *before = strdup(member_text(m->state, "id"));

        if (!before)
                return -ENOMEM;
        if (to && moving_is(m, "none") && streq(member_text(m->state, "id"), to->id))
                return moving_stays(m);
        TRY_VERB(moving_request(m, NULL, to ? to->id : NULL, err), err, "Failed to move %s: ", m->name);
        TRY(client_refresh_json(m->client, client_path(&m->path), &m->state, err));
        text_append(&m->id, to ? to->id : member_text(m->state, "id"));
        text_append(&m->from, member_text(m->state, "from"));
        TRY(MIN(m->id.error, m->from.error));
        if (!to && moving_is(m, "none") && streq(m->id.chars ?: "", before))
                return moving_end(m, true, err); /* it has ended already */
        TRY(moving_print_data(m));
        TRY(moving_print_followers(m));
        if (no_block && !client_prints_json(m->client))
                return operation_show(m->operation, m->name, PROGRESS_UNDERWAY,
                                      member_text(m->state, "machine"), "requested", "");
        if (no_block)
                return EXIT_DONE;
        return operation_wait(m->operation, &moving_type, m, err);
}

static int move_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(operation_done) Operation operation = operation_begin(c);
        _cleanup_listing_ Listing machines = {};
        _cleanup_(moving_done) Moving m = { .client = c, .operation = &operation, .machines = &machines };
        const ApiMachine *to = NULL;
        int r;

        if (n == 0 || n > 2)
                return client_usage("move: expected one unit, and at most one machine by its name or ID");
        TRY(moving_init(&m, args[0]));
        TRY_PREFIX(client_all_machines(c, &machines, err), err, "Failed to read the machines");
        r = TRY(client_refresh_json(c, client_path(&m.path), &m.state, err));
        if (r == 0) {
                client_note_absent(c, m.name);
                if (n > 1 && client_find_host(&machines, args[0], &to, NULL) >= 0 &&
                    same_string(to->hostname, args[0]))
                        client_note("%s is a machine: fleetctl move UNIT %s", args[0], args[0]);
                return EXIT_ABSENT;
        }
        r = n > 1 ? client_find_host(&machines, args[1], &to, err) : 0;
        if (r < 0)
                return client_fail_machine(r, err);
        r = moving_run(&m, to, err);
        return r == EXIT_DONE && client_prints_json(c) ? client_print_answer(c, client_path(&m.path), err) :
                                                         r;
}

VERB(move, "move", "no-block json", "UNIT [HOST]", "Move a unit to another machine",
     "To the named machine, or to the best other one that qualifies. The unit is available there before\n"
     "it stops; with Move=stop-first or Singleton=yes it stops first. If it fails there, it stays.\n"
     "The move continues without this command. The unit may move again later: it is not pinned.\n"
     "Exit status 0: available there, 1: rejected or failed, 4: no such unit or machine, 5: it\n"
     "continues.\n\n"
     "fleetctl move web@1.service gamma\n",
     move_run);
