/* directory: what the unit directories of hosts cannot do by themselves, and the answers to it. */
#include <errno.h>
#include <stdio.h>

#include "client/client.h"
#include "client/directory.h"
#include "client/files.h"
#include "client/output.h"
#include "client/verbs.h"
#include "units/name.h"

enum { NAMES_MAX = 100 }; /* in one request */

int client_problems(Client *c, JsonValue **ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = connection_request(c->connection, "GET", "/fleet/v1/directory", NULL, NULL, &reply, err);
        if (r >= 0)
                r = reply_check(&reply, err);
        return r < 0 ? r : json_value_parse(reply.body.chars, reply.body.size, ret, err);
}

const char *problem_member(const JsonValue *problem, const char *member) {
        return json_value_string(json_value_member(problem, member)) ?: "";
}

/* What a verb is about: the problems of one kind, and of the hosts and units that were named. */
typedef struct Question {
        const char *kind, *machine; /* 'machine': the whole id; NULL: any */
        char **names;
        size_t n_names;
} Question;

static bool is_asked(const Question *q, const JsonValue *problem) {
        if (!streq(problem_member(problem, "kind"), q->kind) ||
            (q->machine && !streq(problem_member(problem, "machineID"), q->machine)))
                return false;
        for (size_t i = 0; i < q->n_names; i++)
                if (streq(problem_member(problem, "name"), q->names[i]))
                        return true;
        return q->n_names == 0;
}

static int post_names(Client *c, const Question *q, const JsonValue *items, size_t *at, const char *machine,
                      size_t *ret_n, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        size_t n = 0;
        int r;

        json_open(&body, NULL, '{');
        json_add_string(&body, "kind", q->kind);
        json_add_string(&body, "machineID", machine);
        json_open(&body, "names", '[');
        for (; *at < json_value_count(items) && n < NAMES_MAX; (*at)++) {
                const JsonValue *p = json_value_item(items, *at);

                if (!is_asked(q, p) || !streq(problem_member(p, "machineID"), machine))
                        continue;
                json_add_item(&body, problem_member(p, "name"));
                n++;
        }
        json_close(&body, ']');
        json_close(&body, '}');
        *ret_n = n;
        if (body.error < 0 || n == 0)
                return body.error;
        r = connection_request(c->connection, "POST", "/fleet/v1/directory", "application/json", body.chars,
                               &reply, err);
        return r < 0 ? r : reply_check(&reply, err);
}

/* Of one host, whose units these are; who names units may leave it out where one host alone asks about them.
 */
static int choose_machine(const Question *q, const JsonValue *items, const Listing *machines,
                          const char **ret, Error *err) {
        const char *found = NULL;

        for (size_t i = 0; i < json_value_count(items); i++) {
                const JsonValue *p = json_value_item(items, i);
                const char *id = problem_member(p, "machineID");

                if (!is_asked(q, p) || (found && streq(found, id)))
                        continue;
                if (found) {
                        _cleanup_text_ Text a = {}, b = {};

                        append_machine_name(&a, machines, found);
                        append_machine_name(&b, machines, id);
                        return error_set(err, -EINVAL,
                                         "%s and %s ask: say which by --machine=", a.chars ?: found,
                                         b.chars ?: id);
                }
                found = id;
        }
        *ret = found;
        return 0;
}

static int find_machine(const Listing *machines, const char *wanted, const char **ret, Error *err) {
        const char *found = NULL;

        for (size_t i = 0; i < machines->n; i++) {
                const ApiMachine *m = &machines->machines[i];

                if (m->hostname && streq(m->hostname, wanted)) {
                        *ret = m->id;
                        return 0;
                }
                if (!starts_with(m->id, wanted))
                        continue;
                if (found)
                        return error_set(err, -EINVAL, "several machines begin with %s", wanted);
                found = m->id;
        }
        *ret = found;
        return found ? 0 : error_set(err, -EINVAL, "no machine %s is there", wanted);
}

static int answer(Client *c, Question *q, const JsonValue *items, const Listing *machines, Error *err) {
        const char *machine = NULL;
        size_t n = 0, sent = 0, at = 0;
        int r = 0;

        if (c->options.machine)
                r = find_machine(machines, c->options.machine, &q->machine, err);
        if (r >= 0)
                r = choose_machine(q, items, machines, &machine, err);
        if (r < 0)
                return r;

        for (size_t i = 0; i < q->n_names; i++) {
                const Question one = {
                        .kind = q->kind, .machine = machine, .names = &q->names[i], .n_names = 1
                };
                bool asked = false;

                for (size_t k = 0; machine && k < json_value_count(items); k++)
                        asked |= is_asked(&one, json_value_item(items, k));
                if (!asked)
                        return error_set(
                                err, -ENOENT,
                                "no directory has a question about %s (fleetctl directory lists them)",
                                q->names[i]);
        }
        while (machine && at < json_value_count(items) && r >= 0) {
                r = post_names(c, q, items, &at, machine, &n, err);
                sent += n;
        }
        if (r >= 0)
                printf("%zu unit%s: %s\n", sent, sent == 1 ? "" : "s",
                       streq(q->kind, "held") ? "removed, as the files are gone" :
                                                "taken over by the directory");
        return r;
}

static int print_problems(const JsonValue *items, const Listing *machines) {
        static const char *const headers[] = { "UNIT", "MACHINE", "KIND", "PROBLEM" };
        _cleanup_table_ Table *table = table_new(headers, ELEMENTS(headers));
        int r = table ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < json_value_count(items); i++) {
                const JsonValue *p = json_value_item(items, i);
                _cleanup_text_ Text machine = {};
                const char *cells[ELEMENTS(headers)];

                append_machine_name(&machine, machines, problem_member(p, "machineID"));
                if (machine.error < 0)
                        return machine.error;
                cells[0] = problem_member(p, "name");
                cells[1] = machine.chars;
                cells[2] = problem_member(p, "kind");
                cells[3] = problem_member(p, "reason");
                for (size_t k = 0; r >= 0 && k < ELEMENTS(cells); k++)
                        r = table_add(table, cells[k]);
        }
        if (r >= 0 && json_value_count(items) == 0 && client_talks_to_people())
                fputs("fleetctl: no unit directory asks anything\n", stderr);
        return r < 0 ? r : table_print(table, true);
}

int verb_directory(Client *c, char **args, size_t n) {
        static const struct {
                const char *verb, *kind;
        } answers[] = { { "confirm", "held" }, { "take-over", "taken" } };
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_listing_ Listing machines = {};
        _cleanup_names_ Names names = {};
        const JsonValue *items;
        Question q = {};
        Error err = {};
        int r;

        if (n > 0 && files_names(args + 1, n - 1, &names) < 0)
                return client_fail(-ENOMEM, NULL, "%s", "");
        for (size_t i = 0; n > 0 && i < ELEMENTS(answers); i++)
                if (streq(args[0], answers[i].verb))
                        q = (Question) { .kind = answers[i].kind, .names = names.items, .n_names = names.n };
        if ((n > 0 && !q.kind) || (q.kind && streq(q.kind, "taken") && n == 1)) {
                fputs("fleetctl: directory [confirm [UNIT...] | take-over UNIT...]\n", stderr);
                return EXIT_USAGE;
        }
        r = client_problems(c, &root, &err);
        if (r >= 0)
                r = client_machines(c, &machines, &err);
        if (r < 0)
                return client_fail(r, &err, "%s", "");
        items = json_value_member(root, "problems");
        if (q.kind)
                r = answer(c, &q, items, &machines, &err);
        else if (streq(c->options.output, "json")) {
                _cleanup_reply_ Reply reply = {};

                r = connection_request(c->connection, "GET", "/fleet/v1/directory", NULL, NULL, &reply, &err);
                if (r >= 0)
                        (void) output_line(reply.body.chars);
        } else
                r = print_problems(items, &machines);
        return r < 0 ? client_fail(r, &err, "fleetctl: ") : EXIT_DONE;
}
