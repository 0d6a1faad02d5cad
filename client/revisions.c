/* history, revert: the revisions of a unit, and the return to one of them. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "client/files.h"

static void revisions_path(Text *path, const char *name, const char *number) {
        text_append(path, "/fleet/v1/revisions/");
        append_escaped(path, name, false);
        if (number)
                text_append(path, "?rev=");
        if (number)
                append_escaped(path, number, false);
}

/* Return 1, or 0 if the unit or the revision does not exist, with the daemon's message in 'err'. */
static int revisions_request(Client *c, const char *name, const char *number, Reply *ret, Error *err) {
        _cleanup_text_ Text path = {};
        int r;

        revisions_path(&path, name, number);
        r = connection_request(c->connection, "GET", client_path(&path), NULL, NULL, ret, err);
        if (r < 0)
                return r;
        r = reply_check(ret, err);
        return ret->status == 404 ? 0 : r < 0 ? r : 1;
}

int client_revision(Client *c, const char *name, const char *number, ApiUnit *ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = revisions_request(c, name, number, &reply, err);
        if (r <= 0)
                return r;
        r = api_unit_read_answer(reply.body.chars, reply.body.size, ret, err);
        return r < 0 ? error_prefix(err, r, "fleetd's answer about %s", name) : 1;
}

/* -- history -- */

static void append_when(Text *t, uint64_t ms) {
        time_t s = (time_t) (ms / 1000);
        char when[32] = "-";
        struct tm tm;

        if (ms > 0 && localtime_r(&s, &tm))
                (void) strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
        text_append(t, when);
}

static int print_revision(Table *table, const JsonValue *revision) {
        _cleanup_text_ Text number = {}, hash = {}, when = {};

        text_printf(&number, "%" PRIu64 "%s", member_number(revision, "number"),
                    member_bool(revision, "wanted") ? " *" : "");
        text_printf(&hash, "%.7s", member_text(revision, "hash"));
        append_when(&when, member_number(revision, "since"));
        if (number.error < 0 || hash.error < 0 || when.error < 0)
                return -ENOMEM;

        const char *by = member_text(revision, "by");
        const char *cells[] = { number.chars, hash.chars, when.chars, *by ? by : "-",
                                member_text(revision, "how") };

        return table_add_row(table, cells);
}

static int print_revisions(const Client *c, const Reply *reply, Error *err) {
        _cleanup_table_ Table *table = table_new("REV,HASH,WHEN,BY,HOW");
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *all;
        size_t n;
        int r;

        if (!table)
                return -ENOMEM;
        if (streq(c->options.output, "json")) {
                (void) output_line(reply->body.chars);
                return EXIT_DONE;
        }
        r = json_value_parse(reply->body.chars, reply->body.size, &root, err);
        if (r < 0)
                return error_prefix(err, r, "fleetd's answer");
        all = json_value_member(root, "revisions");
        n = json_value_count(all);
        if (c->options.lines != LINES_ALL)
                n = MIN(n, (size_t) c->options.lines);
        for (size_t i = 0; i < n; i++) {
                r = print_revision(table, json_value_item(all, i));
                if (r < 0)
                        return r;
        }
        return table_print(table, true);
}

int verb_history(Client *c, char **args, size_t n, Error *err) {
        _cleanup_free_ char *name = NULL;
        _cleanup_reply_ Reply reply = {};
        int r;

        if (n != 1)
                return client_usage("history: expected one unit");
        name = unit_name_from_argument(args[0]);
        r = name ? revisions_request(c, name, NULL, &reply, err) : -ENOMEM;
        if (r < 0)
                return r;
        if (r == 0) {
                client_note_absent(c, name);
                return EXIT_ABSENT;
        }
        return print_revisions(c, &reply, err);
}

/* -- revert -- */

/* Return the number of the newest revision other than the wanted one, in *ret; "" if there is none. Directly
 * after a revert, the next step is not clear: -EINVAL. */
static int revert_choose(Client *c, const char *name, Text *ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        const JsonValue *all;
        uint64_t wanted = 0, newest = 0;
        bool reverted = false;
        int r;

        r = revisions_request(c, name, NULL, &reply, err);
        if (r <= 0)
                return r;
        r = json_value_parse(reply.body.chars, reply.body.size, &root, err);
        if (r < 0)
                return error_prefix(err, r, "fleetd's answer");
        all = json_value_member(root, "revisions");
        for (size_t i = 0; i < json_value_count(all); i++) {
                const JsonValue *x = json_value_item(all, i);
                uint64_t number = member_number(x, "number");

                if (member_bool(x, "wanted")) {
                        wanted = number;
                        reverted = streq(member_text(x, "how"), "reverted");
                } else if (newest == 0)
                        newest = number;
        }
        if (newest == 0)
                return error_set(err, -EINVAL, "%s has no other revision than %" PRIu64, name, wanted);
        if (reverted)
                return error_set(err, -EINVAL,
                                 "%s was reverted to %" PRIu64 "; name the revision: fleetctl revert %s %" PRIu64,
                                 name, wanted, name, newest);
        text_printf(ret, "%" PRIu64, newest);
        return ret->error < 0 ? ret->error : 1;
}

int verb_revert(Client *c, char **args, size_t n, Error *err) {
        _cleanup_api_unit_ ApiUnit now = API_UNIT_EMPTY, former = API_UNIT_EMPTY;
        _cleanup_free_ char *name = NULL;
        _cleanup_text_ Text number = {}, text = {};
        ApiUnit change;
        int r;

        if (n < 1 || n > 2)
                return client_usage("revert: expected a unit, and the number of a revision");
        name = unit_name_from_argument(args[0]);
        r = name ? client_unit(c, name, &now, err) : -ENOMEM;
        if (r < 0)
                return r;
        if (r == 0) {
                client_note_absent(c, name);
                return EXIT_ABSENT;
        }
        if (n == 2)
                text_append(&number, args[1]);
        r = n == 2 ? 1 : revert_choose(c, name, &number, err);
        if (r > 0)
                r = number.error < 0 ? number.error : client_revision(c, name, number.chars, &former, err);
        if (r <= 0) {
                (void) client_fail(r, err);
                return r == 0 ? EXIT_ABSENT : EXIT_FAILED;
        }
        if (same_string(former.hash, now.hash)) {
                client_note("%s has revision %s already", name, number.chars);
                return EXIT_DONE;
        }
        append_unit_text(&text, &former);
        change = client_change_of(name);
        change.text = text.chars ?: "";
        change.desired_state = change.expected_state = now.desired_state;
        change.expected_hash = now.hash;
        r = text.error < 0 ? text.error : client_change(c, &change, 1, err);
        if (r < 0)
                return client_fail_after(r, err, "Failed to revert unit %s: ", name);
        printf("Unit %s reverted to revision %s\n", name, number.chars);
        return EXIT_DONE;
}
