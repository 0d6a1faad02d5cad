/* directory: problems of unit directories that need a decision of an administrator, and these decisions.
 * The daemon reports {"problems":[{"confirmed","kind","machineID","name","reason"}]}. */
#include "client/core/files.h"
#include "client/core/machines.h"
#include "client/core/state_text.h"

#define NOT_LOADED "not-loaded" /* of no problem of the daemon: add_state() */

enum {
        NAMES_MAX = 100,      /* in one request */
        RESULT_NAMES_MAX = 8, /* units of which the result has the names */
};

/* The problems that a verb resolves: of one kind, and of the given machine and units. */
typedef struct Question {
        const char *kind, *machine; /* 'machine': an ID; NULL: any */
        const char *done;           /* what the resolution does, for people */
        char **names;
        size_t n_names;
} Question;

static bool question_matches(const Question *q, const JsonValue *problem) {
        const char *kind = member_text(problem, "kind");

        if ((!streq(kind, q->kind) && !(streq(q->kind, "taken") && streq(kind, "unowned"))) ||
            (q->machine && !streq(member_text(problem, "machineID"), q->machine)))
                return false;
        for (size_t i = 0; i < q->n_names; i++)
                if (streq(member_text(problem, "name"), q->names[i]))
                        return true;
        return q->n_names == 0;
}

/* Return whether the problem awaits the decision. One that has it remains until its machine acts on it. */
static bool question_is_open(const Question *q, const JsonValue *problem) {
        return question_matches(q, problem) && !member_bool(problem, "confirmed");
}

/* Send the next names of the machine, beginning with item *at, and append them to 'names'. */
static int post_names(Client *c, const Question *q, const JsonValue *items, size_t *at, size_t *ret_n,
                      Text *names, Error *err) {
        _cleanup_text_ Text body = {};
        size_t n = 0;

        json_open(&body, NULL, '{');
        json_add_string(&body, "kind", q->kind);
        json_add_string(&body, "machineID", q->machine);
        json_open(&body, "names", '[');
        for (; *at < json_value_count(items) && n < NAMES_MAX; (*at)++) {
                const JsonValue *p = json_value_item(items, *at);

                if (!question_is_open(q, p))
                        continue;
                json_add_item(&body, member_text(p, "name"));
                text_printable(names, "%s%s", names->size > 0 ? ", " : "", member_text(p, "name"));
                n++;
        }
        json_close(&body, ']');
        json_close(&body, '}');
        *ret_n = n;
        return n > 0 ? client_request(c, "POST", "/fleet/v1/directory", &body, NULL, err) : body.error;
}

/* Choose the machine without --machine: the only one with such a problem that is open. *ret stays if there is
 * none. */
static int choose_machine(const Question *q, const JsonValue *items, const Listing *machines,
                          const char **ret, Error *err) {
        const char *found = NULL;

        JSON_EACH(p, items) {
                const char *id = member_text(p, "machineID");

                if (!question_is_open(q, p) || (found && streq(found, id)))
                        continue;
                if (found) {
                        _cleanup_text_ Text a = {}, b = {};

                        append_machine_name(&a, machines, found);
                        append_machine_name(&b, machines, id);
                        return error_set(err, -EINVAL, "%s and %s have such a problem: choose by --machine=",
                                         a.chars ?: found, b.chars ?: id);
                }
                found = id;
        }
        *ret = found;
        return 0;
}

/* The next step for each kind of problem. */
static const struct {
        const char *kind, *next;
} legend[] = {
        { "refused", "correct or rename the file on its machine; it is read again when it is saved" },
        { "taken", "to replace the unit by the file: fleetctl directory take-over UNIT" },
        { "held", "to remove the units: fleetctl directory confirm [UNIT...]" },
        { "reverted", "correct the file, or to try it again: fleetctl directory retry UNIT" },
        { "paused", "correct the file, or try the same text again: fleetctl rollout resume UNIT" },
        { "warning", "correct the file; the unit has its text" },
        { "unowned", "the unit stays if the file is removed; to let the directory own it: fleetctl directory "
                     "take-over UNIT" },
        { NOT_LOADED, "correct the file; fleetctl why UNIT has the reason, fleetctl journal UNIT the line" },
};

/* Return an error about the named unit: with its problem of another kind, if it has one. */
static int fail_name(const Question *q, const char *name, const JsonValue *items, Error *err) {
        Suggestion suggestion = { .typed = name };

        JSON_EACH(p, items) {
                const char *kind = member_text(p, "kind");

                if (!streq(member_text(p, "name"), name) || streq(kind, q->kind) ||
                    (q->machine && !streq(member_text(p, "machineID"), q->machine)))
                        continue;
                for (size_t k = 0; k < ELEMENTS(legend); k++)
                        if (streq(legend[k].kind, kind))
                                return error_set(err, -ENOENT, "%s: its problem is %s, not %s; %s", name,
                                                 kind, q->kind, legend[k].next);
        }
        for (size_t i = 0; i < json_value_count(items) && client_is_interactive(); i++)
                suggest_consider_unit(&suggestion, member_text(json_value_item(items, i), "name"));
        return error_set(err, -ENOENT,
                         "%s: no unit directory has such a problem%s%s%s (fleetctl directory lists all)",
                         name, suggestion.nearest ? "; did you mean " : "", suggestion.nearest ?: "",
                         suggestion.nearest ? "?" : "");
}

/* Return an error if one of the named units has no such problem. 'machine': where it has to be without a
 * chosen one; NULL: anywhere. */
static int check_names(const Question *q, const char *machine, const JsonValue *items, Error *err) {
        for (size_t i = 0; i < q->n_names; i++) {
                Question one = *q;
                bool any = false;

                one.names = &q->names[i];
                one.n_names = 1;
                one.machine = q->machine ?: machine;
                JSON_EACH(item, items)
                        any = any || question_matches(&one, item);
                if (!any)
                        return fail_name(q, q->names[i], items, err);
        }
        return 0;
}

/* Print the units with the result. */
static void directory_print_result(size_t n, const Text *names, const char *result) {
        if (n > RESULT_NAMES_MAX)
                printf("%zu units: %s\n", n, result);
        else
                printf("%s: %s\n", names->chars ?: "", result);
}

/* Print that nothing was sent: the units have the decision already, or there are none. */
static int print_nothing(const Question *q, const JsonValue *items) {
        _cleanup_text_ Text names = {};
        size_t n = 0;

        JSON_EACH(p, items) {
                if (!question_matches(q, p))
                        continue;
                text_printable(&names, "%s%s", n++ > 0 ? ", " : "", member_text(p, "name"));
        }
        if (n > 0)
                directory_print_result(n, &names, "confirmed already; the machine acts next");
        else
                printf("No unit is %s: nothing was %s\n", q->kind,
                       streq(q->kind, "held") ? "removed" : "changed");
        return names.error;
}

/* Return an exit status. */
static int resolve(Client *c, Question *q, const JsonValue *items, const Listing *machines, Error *err) {
        const ApiMachine *found = NULL;
        _cleanup_text_ Text names = {};
        const char *given = NULL; /* with --machine */
        size_t n, n_sent = 0, at = 0;
        int r;

        if (c->options.machine) {
                r = client_find_host(machines, c->options.machine, &found, err);
                if (r < 0)
                        return client_fail_machine(r, err);
                q->machine = given = found->id;
        }
        TRY(choose_machine(q, items, machines, &q->machine, err));
        TRY(check_names(q, given, items, err));

        while (q->machine && at < json_value_count(items)) {
                TRY(post_names(c, q, items, &at, &n, &names, err));
                n_sent += n;
        }
        q->machine = q->machine ?: given;
        if (n_sent == 0)
                return print_nothing(q, items);
        directory_print_result(n_sent, &names, q->done);
        return names.error;
}

static bool items_have_name(const JsonValue *items, const char *name) {
        JSON_EACH(item, items)
                if (streq(member_text(item, "name"), name))
                        return true;
        return false;
}

static void add_problem(Table *table, const Listing *machines, const char *name, const char *machine_id,
                        const char *kind, const char *problem) {
        _cleanup_text_ Text machine = {};

        append_machine_name(&machine, machines, machine_id);
        table_cell(table, "%s", name);
        table_add(table, &machine);
        table_cell(table, "%s", kind);
        table_add_text(table, problem);
}

/* The units of directories that systemd cannot load. */
typedef struct Unloaded {
        Listing states, units;
        bool any;
} Unloaded;

static void unloaded_done(Unloaded *u) {
        listing_done(&u->states);
        listing_done(&u->units);
}
#define _cleanup_unloaded_ _cleanup_(unloaded_done)

static int unloaded_read(Client *c, Unloaded *u, Error *err) {
        int r = client_states(c, NULL, &u->states, err);

        for (size_t i = 0; r >= 0 && i < u->states.n; i++)
                u->any |= u->states.states[i].name && state_cannot_load(u->states.states[i].load);
        return r >= 0 && u->any ? client_units(c, &u->units, err) : r;
}

/* Return the machine of the file of the unit; NULL: systemd has loaded the unit, or it has no file. */
static const char *unloaded_owner(const Unloaded *u, const ApiState *s) {
        const ApiUnit *unit = s->name && state_cannot_load(s->load) ? listing_unit(&u->units, s->name) : NULL;

        return unit && unit->owner && *unit->owner ? unit->owner : NULL;
}

/* Return the state of a unit that has the text of its file, which systemd cannot load; or NULL. */
static const ApiState *unloaded_find(const Unloaded *u, const JsonValue *problem) {
        if (!text_has_word("paused warning", member_text(problem, "kind")))
                return NULL;
        for (size_t i = 0; i < u->states.n; i++) {
                const ApiState *s = &u->states.states[i];
                const char *owner = unloaded_owner(u, s);

                if (owner && streq(owner, member_text(problem, "machineID")) &&
                    streq(s->name, member_text(problem, "name")))
                        return s;
        }
        return NULL;
}

/* Add a unit that systemd cannot load. 'other': its other problem, or "". */
static void directory_add_state(Table *table, const Listing *machines, const ApiState *s, const char *owner,
                                const char *other) {
        const char *reason = s->reason ?: "";
        size_t size = strlen(reason);
        _cleanup_text_ Text t = {};

        text_append(&t, "systemd cannot load it on ");
        append_machine_name(&t, machines, s->machine_id ?: "");
        if (*other && size > 0 && reason[size - 1] == '.')
                size--;
        text_printf(&t, " (%s)%s%.*s%s%s", s->load, *reason ? ": " : "", (int) size, reason,
                    *other ? "; also: " : "", other);
        table->error = table->error ?: t.error;
        add_problem(table, machines, s->name, owner, NOT_LOADED, t.chars ?: "");
}

/* Add all problems, and append their kinds to 'kinds'. */
static void add_problems(Table *table, const JsonValue *items, const Listing *machines, const Unloaded *u,
                         Text *kinds) {
        JSON_EACH(p, items) {
                const char *kind = member_text(p, "kind"), *id = member_text(p, "machineID");
                const ApiState *s = unloaded_find(u, p);

                text_printf(kinds, " %s", s ? NOT_LOADED : kind);
                if (s)
                        directory_add_state(table, machines, s, id, member_text(p, "reason"));
                else
                        add_problem(table, machines, member_text(p, "name"), id, kind,
                                    member_bool(p, "confirmed") ? "confirmed; its machine acts on it next" :
                                                                  member_text(p, "reason"));
        }
        for (size_t i = 0; i < u->states.n; i++) {
                const ApiState *s = &u->states.states[i];
                const char *owner = unloaded_owner(u, s);

                if (!owner || items_have_name(items, s->name))
                        continue;
                text_append(kinds, " " NOT_LOADED);
                directory_add_state(table, machines, s, owner, "");
        }
}

/* Print the problems, and on a terminal the next step for each kind of them. */
static int directory_print_problems(Client *c, const JsonValue *items, const Listing *machines, Error *err) {
        _cleanup_table_ Table table = table_begin("UNIT,MACHINE,KIND,PROBLEM");
        _cleanup_unloaded_ Unloaded unloaded = {};
        _cleanup_text_ Text kinds = {};
        int r = TRY(unloaded_read(c, &unloaded, err));

        add_problems(&table, items, machines, &unloaded, &kinds);
        table.error = table.error ?: kinds.error;
        if (kinds.size == 0 && table.error >= 0 && client_is_interactive())
                client_note("no problems in unit directories");
        r = table_print(&table, true);
        for (size_t i = 0; r >= 0 && i < ELEMENTS(legend) && client_is_interactive(); i++)
                if (text_has_word(kinds.chars ?: "", legend[i].kind))
                        client_note("%s: %s", legend[i].kind, legend[i].next);
        return r;
}

static int directory_run(Client *c, char **args, size_t n, Error *err) {
        static const struct {
                const char *verb, *kind, *done;
        } resolutions[] = { { "confirm", "held", "confirmed; the removal follows" },
                            { "take-over", "taken", "taken over: the directory owns it" },
                            { "retry", "reverted", "confirmed; the directory submits it again next" } };
        _cleanup_reply_ Reply reply = {};
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_listing_ Listing machines = {};
        _cleanup_names_ Names names = {};
        const JsonValue *items;
        Question q = {};
        int r;

        if (n > 0 && files_names(args + 1, n - 1, &names) < 0)
                return -ENOMEM;
        for (size_t i = 0; n > 0 && i < ELEMENTS(resolutions); i++)
                if (streq(args[0], resolutions[i].verb))
                        q = (Question) { .kind = resolutions[i].kind,
                                         .done = resolutions[i].done,
                                         .names = names.items,
                                         .n_names = names.n };
        if (n > 0 && !q.kind)
                return client_fail_verb("directory", args[0],
                                        "directory [confirm [UNIT...] | take-over UNIT... | retry UNIT...]");
        if (q.kind && !streq(q.kind, "held") && n == 1) {
                client_note("directory %s: expected the names of units", args[0]);
                return EXIT_USAGE;
        }
        TRY(client_request(c, "GET", "/fleet/v1/directory", NULL, &reply, err));
        if (!q.kind && client_prints_json(c))
                return output_line(reply.body.chars);
        TRY(json_value_parse(reply.body.chars, reply.body.size, &root, err));
        TRY(client_all_machines(c, &machines, err));
        items = json_value_member(root, "problems");
        r = q.kind ? resolve(c, &q, items, &machines, err) :
                     directory_print_problems(c, items, &machines, err);
        return r < 0 ? client_fail_after(r, err, "fleetctl: ") : r;
}

VERB(directory, "directory", "remote json", "[confirm [UNIT...] | take-over UNIT... | retry UNIT...]",
     "Show and resolve problems of unit directories",
     "Without arguments: rejected files, conflicting names, units whose files have disappeared, and\n"
     "files that systemd cannot load.\n"
     "confirm removes held units, whose files have disappeared: the named units, or all of a host.\n"
     "take-over replaces a unit of the cluster by the file of a host with the same name.\n"
     "retry submits the text of a file again that failed and was reverted.\n\n"
     "fleetctl directory take-over web.service --machine=beta\n",
     directory_run);
