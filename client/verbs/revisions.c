/* history, revert: the revisions of a unit, and the return to one of them. */
#include "client/verbs/revisions.h"

#include <time.h>

#include "client/core/files.h"
#include "client/core/notes.h"
#include "client/core/progress.h"
#include "client/core/times.h"
#include "client/core/unit.h"
#include "client/core/wait.h"
#include "client/verbs/rollout.h"
#include "client/verbs/submit.h"

/* Return 1, or 0 if the unit or the revision does not exist. */
static int revisions_request(Client *c, const char *name, const char *number, Reply *ret, Error *err) {
        _cleanup_text_ Text path = {};

        (void) client_path_of(&path, "/fleet/v1/revisions/", name, number ? "?rev=" : "");
        if (number)
                append_escaped(&path, number, false);
        return client_find(c, "GET", client_path(&path), ret, err);
}

/* Print that the unit, or its revision, does not exist. */
static int revision_is_absent(Client *c, const char *name, const char *number) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;

        if (!number || client_unit(c, name, &unit, &(Error) {}) <= 0)
                return client_note_absent(c, name);
        client_note("%s has no revision %s; fleetctl history %s lists them", name, number, name);
        return EXIT_ABSENT;
}

int client_revision(Client *c, const char *name, const char *number, ApiUnit *ret) {
        _cleanup_reply_ Reply reply = {};
        Error err = {};
        int r;

        if (number && revision_parse_number(number) == 0) {
                client_note("%s: expected the number of a revision; fleetctl history %s lists them", number,
                            name);
                return EXIT_USAGE;
        }
        r = number ? revisions_request(c, name, number, &reply, &err) : client_unit(c, name, ret, &err);
        if (r > 0 && number)
                r = api_unit_read_answer(reply.body.chars, reply.body.size, ret, &err) ?: 1;
        if (r == 0)
                return revision_is_absent(c, name, number);
        return r < 0 ? client_fail(r, &err) : EXIT_DONE;
}

/* -- history -- */

/* 'completed': the number of the last one that all instances had. */
static void print_revision(Table *table, const JsonValue *revision, uint64_t completed) {
        const uint64_t number = member_number(revision, "number"),
                       since_ms = member_number(revision, "since");
        char date[32];

        table_cell(table, "%" PRIu64 "%s%s", number, member_bool(revision, "wanted") ? " *" : "",
                   number == completed ? " +" : "");
        table_cell(table, "%.7s", member_text(revision, "hash"));
        table_cell(table, "%s", since_ms > 0 ? times_date(since_ms, date) : "");
        table_cell(table, "%s", member_text(revision, "by"));
        table_cell(table, "%s", member_text(revision, "how"));
        table_cell(table, "%s", member_text(revision, "outcome"));
}

static int print_revisions(Client *c, const Reply *reply, Error *err) {
        _cleanup_table_ Table table = table_begin("REV,HASH,WHEN,BY,HOW,OUTCOME");
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *all;
        size_t n;
        int r;

        r = client_take_answer(c, reply, &root, err);
        if (r < 0 || !root)
                return r;
        all = json_value_member(root, "revisions");
        n = json_value_count(all);
        if (c->options.lines != LINES_ALL)
                n = MIN(n, (size_t) c->options.lines);
        for (size_t i = 0; i < n; i++)
                print_revision(&table, json_value_item(all, i), member_number(root, "completed"));
        table_fit(&table, "HASH,BY,HOW");
        return table_print(&table, true);
}

static int history_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_free_ char *name = NULL;
        _cleanup_reply_ Reply reply = {};
        int r;

        if (n != 1)
                return client_usage("history: expected one unit");
        name = unit_name_from_argument(args[0]);
        r = TRY(name ? revisions_request(c, name, NULL, &reply, err) : -ENOMEM);
        if (r == 0)
                return client_note_absent(c, name);
        return print_revisions(c, &reply, err);
}

/* -- revert -- */

static void append_clock_time(Text *t, uint64_t ms) {
        time_t s = (time_t) (ms / 1000);
        char when[32] = "";
        struct tm tm;

        if (ms > 0 && localtime_r(&s, &tm) && strftime(when, sizeof(when), " at %H:%M", &tm) > 0)
                text_append(t, when);
}

/* Return the number of the newest revision with this outcome ("": of an unknown one) that is neither 'a' nor
 * 'b'; 0: there is none. */
static uint64_t revisions_newest(const JsonValue *all, const char *outcome, uint64_t a, uint64_t b) {
        JSON_EACH(x, all) {
                uint64_t number = member_number(x, "number");

                if (number != a && number != b && streq(member_text(x, "outcome"), outcome))
                        return number;
        }
        return 0;
}

/* Return the number of the newest revision other than 'a' and 'b' that all instances have had; otherwise, of
 * the newest one of which nothing bad is known; 0: there is none. */
static uint64_t revisions_newest_good(const JsonValue *all, uint64_t a, uint64_t b) {
        uint64_t completed = revisions_newest(all, "completed", a, b);

        return completed > 0 ? completed : revisions_newest(all, "", a, b);
}

static const JsonValue *revisions_wanted_of(const JsonValue *all) {
        JSON_EACH(item, all)
                if (member_bool(item, "wanted"))
                        return item;
        return NULL;
}

/* Write the number of the revision to which the unit returns. Directly after a revert to a text of which
 * nothing bad is known, that may be the one that was left: the number is required. */
static int revert_choose(const char *name, const JsonValue *root, Text *ret, Error *err) {
        const JsonValue *all = json_value_member(root, "revisions"), *x = revisions_wanted_of(all);
        uint64_t wanted = member_number(x, "number"), left = member_number(root, "previous"), chosen;
        const char *outcome = member_text(x, "outcome");
        _cleanup_text_ Text when = {};

        if (json_value_count(all) < 2)
                return error_set(err, -EINVAL,
                                 "%s has no revision other than %" PRIu64 ": fleetctl history %s", name,
                                 wanted, name);
        append_clock_time(&when, member_number(x, "since"));
        if (streq(member_text(x, "how"), "reverted") && (!*outcome || streq(outcome, "completed")))
                return error_set(err, -EINVAL,
                                 "%s was reverted from %" PRIu64 " to %" PRIu64
                                 "%s; name the revision: fleetctl revert %s %" PRIu64,
                                 name, left, wanted, when.chars ?: "", name,
                                 revisions_newest_good(all, wanted, left) ?: left);
        chosen = member_number(root, "completed");
        if (chosen == 0 || chosen == wanted)
                chosen = revisions_newest_good(all, wanted, wanted);
        if (chosen == 0) /* all others have failed */
                chosen = member_number(json_value_item(all, json_value_item(all, 0) == x ? 1 : 0), "number");
        text_printf(ret, "%" PRIu64, chosen);
        return ret->error;
}

/* Where the daemons roll texts out, wait until all instances of the set have the text. That of an instance
 * with drop-ins of its own has another hash. */
static int revert_roll(Client *c, const char *name, const char *hash, Error *err) {
        _cleanup_rollout_goals_ RolloutGoals goals = {};

        TRY(rollout_goals_add(&goals, name, unit_name_is_instance(name) ? NULL : hash));
        return rollout_wait(c, &goals, err);
}

/* Return whether an instance with this text follows its template. 1, 0 or a negative errno. */
static int revert_follows(const ApiUnit *instance, const ApiUnit *template, Error *err) {
        _cleanup_unit_ Unit *a = NULL, *b = NULL;
        _cleanup_text_ Text one = {}, other = {};
        size_t own;

        append_unit_text(&one, instance);
        append_unit_text(&other, template);
        TRY(MIN(one.error, other.error));
        TRY(unit_read(instance->name, one.chars ?: "", one.size, &a, err));
        TRY(unit_read(template->name, other.chars ?: "", other.size, &b, err));
        return unit_has_text_of(a, b, &own);
}

/* An instance that is reverted alone has a text of its own from then on, unless it is that of the template.
 */
static int revert_note_template(Client *c, const char *name, const ApiUnit *former, Error *err) {
        _cleanup_free_ char *template = unit_name_is_instance(name) ? unit_name_template(name) : NULL;
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        int r = template ? client_unit(c, template, &unit, err) : 0;
        int follows = TRY(r > 0 ? revert_follows(former, &unit, err) : 0);

        if (r > 0 && !follows)
                client_note("%s does not follow %s from then on; to return all instances: fleetctl revert %s",
                            name, template, template);
        return r;
}

static int revert_to(Client *c, const char *name, const ApiUnit *now, const char *number) {
        _cleanup_api_unit_ ApiUnit former = API_UNIT_EMPTY;
        _cleanup_names_ Names paths = {};
        _cleanup_text_ Text text = {};
        ApiUnit change = client_change_of(name);
        uint64_t failed_ms = 0;
        Error err = {};
        bool waits;
        int r;

        TRY_DONE(client_revision(c, name, number, &former));
        if (same_string(former.hash, now->hash)) {
                client_note("%s has revision %s already; others: fleetctl history %s", name, number, name);
                return EXIT_DONE;
        }
        r = revert_note_template(c, name, &former, &err);
        if (r < 0)
                return client_fail(r, &err);
        if (!client_confirm(c, "Revert?", "%s returns to revision %s, as an update of its text.", name,
                            number))
                return EXIT_FAILED;
        waits = now->desired_state == TARGET_LAUNCHED && !c->options.no_block;
        r = waits ? wait_read_run(c, name, &(bool) { false }, &failed_ms, &err) : 0;
        if (r < 0)
                return client_fail_after(r, &err, "Failed to revert unit %s: ", name);
        append_unit_text(&text, &former);
        change.text = text.chars ?: "";
        change.desired_state = change.expected_state = now->desired_state;
        change.expected_hash = now->hash;
        r = text.error < 0 ? text.error : submit_add_paths(c, &paths, name, change.text, now);
        r = TRY_VERB(r < 0 ? r : client_change(c, &change, 1, &err), &err,
                     "Failed to revert unit %s: ", name);
        printf("Unit %s reverted to revision %s\n", name, number);
        submit_note_keys(c, &paths, 0);
        (void) fflush(stdout);
        if (!c->options.no_block && (waits || unit_name_is_template(name))) {
                r = rollout_is_supported(c, &err);
                if (r != 0)
                        return r < 0 ? client_fail(r, &err) : revert_roll(c, name, former.hash, &err);
        }
        return waits ? wait_for_text(c, name, former.hash, failed_ms, "former", &err) : EXIT_DONE;
}

static int revert_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_api_unit_ ApiUnit now = API_UNIT_EMPTY;
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        _cleanup_free_ char *name = NULL;
        _cleanup_text_ Text number = {};
        int r;

        if (n < 1 || n > 2)
                return client_usage("revert: expected a unit, and if wanted the number of a revision "
                                    "(fleetctl history UNIT)");
        name = unit_name_from_argument(args[0]);
        r = TRY(name ? client_unit(c, name, &now, err) : -ENOMEM);
        if (r == 0)
                return client_note_absent(c, name);
        if (n == 2)
                return revert_to(c, name, &now, args[1]);

        if (TRY(revisions_request(c, name, NULL, &reply, err)) == 0)
                return EXIT_ABSENT;
        TRY_PREFIX(json_value_parse(reply.body.chars, reply.body.size, &root, err), err, "fleetd's answer");
        TRY(revert_choose(name, root, &number, err));
        return revert_to(c, name, &now, number.chars);
}

VERB(history, "history", "json", "UNIT", "List the stored revisions of a unit",
     "Each text of a unit is a revision. Newest first; * is the wanted one, + the last one that all\n"
     "instances had after a rollout. KeepRevisions= of the unit is their number (default 10).\n"
     "Exit status 4 if the unit does not exist.\n\n"
     "fleetctl revert web.service 3\n",
     history_run);

VERB(revert, "revert", "yes no-block attempts report", "UNIT [REV]", "Return to a former revision of a unit",
     "Without REV: the last one that all instances had after a rollout, or the newest other one.\n"
     "Directly after a revert, REV is required. The text takes effect as a new one does, and revert\n"
     "returns when that has ended.\n"
     "Asks for confirmation. Exit status 1: it does not start, 4: no such unit or revision.\n",
     revert_run);
