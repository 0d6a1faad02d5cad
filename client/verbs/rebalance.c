/* rebalance: prints the moves that would balance the cluster, and requests exactly these. */

#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/core/patterns.h"
#include "client/verbs/moving.h"

enum { LOOKS_MAX = 32 }; /* moves at a time, as the engine makes */

typedef struct Rebalancing {
        Client *client;
        Operation operation;
        Listing machines;
        JsonValue *plan; /* owned */
        Moving *moves;   /* owned; those that were requested */
        size_t n, n_open, at;
        int result;
} Rebalancing;

static void rebalancing_done(Rebalancing *r) {
        for (size_t i = 0; i < r->n; i++)
                moving_done(&r->moves[i]);
        free(r->moves);
        operation_done(&r->operation);
        listing_done(&r->machines);
        json_value_free(r->plan);
}

/* -- The wait -- */

/* Look at some of the moves, by turns. */
static int rebalancing_look(void *userdata, Error *err) {
        Rebalancing *b = userdata;

        for (size_t i = 0, looks = 0; i < b->n && looks < LOOKS_MAX; i++, b->at = (b->at + 1) % b->n) {
                Moving *m = &b->moves[b->at];
                int r = m->ended ? -EAGAIN : moving_look(m, err);

                looks += !m->ended;
                if (r < 0 && r != -EAGAIN)
                        return r;
                m->ended |= r >= 0;
                b->n_open -= r >= 0;
                b->result = MAX(b->result, r);
        }
        return b->n_open > 0 ? -EAGAIN : b->result;
}

static void rebalancing_left(void *userdata, OperationEnd end) {
        const Rebalancing *b = userdata;
        const Moving *m = b->moves; /* the first one that continues */

        while (m->ended)
                m++;
        client_note("%s%zu move%s: fleetctl why %s shows it, fleetctl move %s %s ends it%s",
                    operation_end(end), b->n_open, b->n_open == 1 ? " continues" : "s continue", m->name,
                    m->name, m->from.chars, b->n_open == 1 ? "" : "; likewise the others");
}

static void rebalancing_lost(void *userdata, const char *why) {
        client_note("no state from fleetd; the moves continue: %s", why);
}

static const OperationType rebalancing_type = { rebalancing_look, rebalancing_left, rebalancing_lost,
                                                .silent_ms = 60000 };

/* -- The request -- */

static int rebalancing_print(const Rebalancing *b, size_t n) {
        _cleanup_table_ Table table = table_begin("unit,from,to,reason");

        JSON_EACH(m, json_value_member(b->plan, "moves"))
                table_row(&table, member_text(m, "unit"), member_text(m, "from"), member_text(m, "to"),
                          member_text(m, "reason"));
        TRY(n > 0 ? table_print(&table, !b->client->options.no_legend) : 0);
        if (n == 0)
                return output_line("balanced: no move would improve it");
        return b->client->options.plan || b->client->options.yes ? printf("%zu move%s\n", n, plural(n)) : 0;
}

/* Request one move. A unit that is not where it was is skipped. */
static int rebalancing_request(Rebalancing *b, const JsonValue *move, Error *err) {
        const char *to = member_text(move, "toID");
        Moving *m = &b->moves[b->n];
        int r;

        *m = (Moving) { .client = b->client, .operation = &b->operation, .machines = &b->machines };
        b->n++;
        TRY(moving_init(m, (char *) member_text(move, "unit")));
        r = moving_request(m, member_text(move, "fromID"), to, err);
        if (r == -EREMOTEIO && !client_is_about_daemon(r, err)) {
                bool left = client_refresh_json(b->client, client_path(&m->path), &m->state, NULL) == 0 ||
                            !streq(member_text(m->state, "id"), member_text(move, "fromID"));

                client_note("%s %s: %s", m->name, left ? "is skipped" : "is not moved",
                            client_answer_text(err));
                b->result = MAX(b->result, left ? EXIT_DONE : EXIT_FAILED);
                m->ended = true;
                return 0;
        }
        TRY(r);
        b->n_open++;
        text_append(&m->id, to);
        text_append(&m->from, member_text(move, "from"));
        if (b->client->options.no_block)
                TRY(operation_show(&b->operation, m->name, PROGRESS_UNDERWAY, member_text(move, "to"),
                                   "requested", ""));
        return MIN(m->id.error, m->from.error);
}

static int rebalancing_run(Rebalancing *b, size_t n, Error *err) {
        b->moves = NEW0(Moving, n);
        if (!b->moves)
                return -ENOMEM;
        TRY_PREFIX(client_all_machines(b->client, &b->machines, err), err, "Failed to read the machines");
        JSON_EACH(move, json_value_member(b->plan, "moves"))
                TRY_VERB(rebalancing_request(b, move, err), err,
                         "Failed to move %s: ", member_text(move, "unit"));
        if (b->n_open == 0 || b->client->options.no_block)
                return b->result;
        return operation_wait(&b->operation, &rebalancing_type, b, err);
}

static int rebalance_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(rebalancing_done) Rebalancing b = { .client = c, .operation = operation_begin(c) };
        _cleanup_names_ Names patterns = {};
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};
        int r;

        if (c->options.moves < 1 || c->options.moves > 100)
                return client_usage("rebalance: --moves: expected a number from 1 to 100");
        TRY(patterns_read(args, n, &patterns));
        text_printf(&path, "/fleet/v1/rebalance?moves=%llu", (unsigned long long) c->options.moves);
        for (size_t i = 0; i < patterns.n; i++)
                (void) client_path_of(&path, "&unit=", patterns.items[i], "");
        r = TRY_VERB(client_find(c, "GET", client_path(&path), &reply, err), err, "Failed to plan moves: ");
        if (r == 0 && patterns.n > 0)
                return client_note_absent(c, patterns.items[0]);
        if (r == 0)
                return error_set(err, -EOPNOTSUPP, "this fleetd is of a former version: upgrade its host");
        TRY(json_value_parse(reply.body.chars, reply.body.size, &b.plan, err));
        n = json_value_count(json_value_member(b.plan, "moves"));
        reply.body.chars[strcspn(reply.body.chars, "\n")] = 0;
        TRY(client_prints_json(c) ? output_line(reply.body.chars) : rebalancing_print(&b, n));
        if (n == 0 || c->options.plan)
                return EXIT_DONE;
        if (!client_confirm(c, "Move?", "%zu unit%s move%s.", n, plural(n), n == 1 ? "s" : ""))
                return EXIT_FAILED;
        return rebalancing_run(&b, n, err);
}

VERB(rebalance, "rebalance", "no-block json yes", "[UNIT...]",
     "Move units so that machines are filled evenly",
     "Units leave machines with more instances of their template, or that are fuller by a tenth, for "
     "others.\n"
     "No move relies on another one. Asks for confirmation, requests exactly the printed moves, and waits "
     "as\n"
     "move does; without this command they continue. A unit that is not there any more is skipped. Units "
     "that\n"
     "stop before they start elsewhere move only if they are named. Nothing moves by itself.\n"
     "Exit status 0: done, or balanced, 1: rejected, or a move failed, 4: no such unit, 5: the moves\n"
     "continue.\n\n"
     "fleetctl rebalance --plan\n",
     rebalance_run);
