/* list-machines, list-units, list-unit-files: a table of columns each, by name. */
#include <errno.h>
#include <stdio.h>

#include "base/parse.h"
#include "client/client.h"
#include "client/directory.h"
#include "client/output.h"
#include "client/patterns.h"
#include "client/verbs.h"
#include "units/hash.h"
#include "units/name.h"

/* What a column is made from; of the three items one is there. */
typedef struct Row {
        const Listing *machines;
        const ApiMachine *machine;
        const ApiState *state;
        const ApiUnit *unit;
        const JsonValue *problems; /* of unit directories; NULL: not asked for */
        bool full;                 /* --full */
        bool people;               /* a terminal: names instead of ids */
} Row;

typedef struct Column {
        const char *name;
        void (*append)(const Row *row, Text *t); /* nothing appended is shown as "-" */
} Column;

static void append_place(const Row *row, const char *id, Text *t) {
        if (!id || !*id)
                return;
        if (row->people && !row->full)
                append_machine_name(t, row->machines, id);
        else
                append_legend(t, row->machines, id, row->full);
}

static void append_any(const char *s, Text *t) {
        if (s)
                text_append(t, s);
}

static void append_hash(const Row *row, const char *hash, Text *t) {
        if (hash)
                text_printf(t, "%.*s", row->full ? UNIT_HASH_SIZE - 1 : UNIT_HASH_SHORT, hash);
}

static void machine_id(const Row *row, Text *t) {
        const ApiMachine *m = row->machine;

        if (row->people && !row->full && m->hostname && *m->hostname)
                text_append(t, m->hostname);
        else
                text_printf(t, row->full ? "%s" : "%.8s...", m->id);
}
static void machine_ip(const Row *row, Text *t) {
        append_any(row->machine->primary_ip, t);
}
static void machine_metadata(const Row *row, Text *t) {
        const Pairs *pairs = &row->machine->metadata;

        for (size_t i = 0; i < pairs->n; i++)
                text_printf(t, "%s%s=%s", i > 0 ? "," : "", pairs->items[i].key, pairs->items[i].value);
}
static void machine_name(const Row *row, Text *t) {
        append_any(row->machine->hostname, t);
}
static void machine_presence(const Row *row, Text *t) {
        append_any(row->machine->presence, t);
}
static void machine_problem(const Row *row, Text *t) {
        append_any(row->machine->problem, t);
}
static void machine_role(const Row *row, Text *t) {
        append_any(row->machine->role, t);
}
static void machine_units(const Row *row, Text *t) {
        text_printf(t, "%llu", (unsigned long long) row->machine->n_units);
}
static void machine_version(const Row *row, Text *t) {
        append_any(row->machine->version, t);
}

static void state_unit(const Row *row, Text *t) {
        append_any(row->state->name, t);
}
static void state_machine(const Row *row, Text *t) {
        append_place(row, row->state->machine_id, t);
}
static void state_load(const Row *row, Text *t) {
        append_any(row->state->load, t);
}
static void state_active(const Row *row, Text *t) {
        append_any(row->state->active, t);
}
static void state_sub(const Row *row, Text *t) {
        append_any(row->state->sub, t);
}
static void state_hash(const Row *row, Text *t) {
        append_hash(row, row->state->hash, t);
}

static void unit_name(const Row *row, Text *t) {
        append_any(row->unit->name, t);
}
static void unit_hash(const Row *row, Text *t) {
        char hash[UNIT_HASH_SIZE];
        int r;

        if ((row->unit->hash && *row->unit->hash) || !row->unit->file) {
                append_hash(row, row->unit->hash, t);
                return;
        }
        r = unit_file_hash(row->unit->file, hash);
        if (r >= 0)
                append_hash(row, hash, t);
        else if (r == -ENOMEM)
                t->error = r;
}
static void unit_desired(const Row *row, Text *t) {
        append_any(target_state_to_string(row->unit->desired_state), t);
}
static void unit_current(const Row *row, Text *t) {
        if (!row->unit->global)
                append_any(target_state_to_string(row->unit->current_state), t);
}
static void unit_target(const Row *row, Text *t) {
        if (row->unit->global)
                text_append(t, "global");
        else
                append_place(row, row->unit->machine_id, t);
}
static void unit_global(const Row *row, Text *t) {
        text_append(t, row->unit->global ? "true" : "false");
}
static void unit_reason(const Row *row, Text *t) {
        append_any(row->unit->reason, t);
}
static void unit_owner(const Row *row, Text *t) {
        append_place(row, row->unit->owner, t);
}
static void unit_problem(const Row *row, Text *t) {
        for (size_t i = 0; row->unit->name && i < json_value_count(row->problems); i++) {
                const JsonValue *p = json_value_item(row->problems, i);

                if (!streq(problem_member(p, "name"), row->unit->name))
                        continue;
                text_append(t, t->size > 0 ? "; " : "");
                append_machine_name(t, row->machines, problem_member(p, "machineID"));
                text_printf(t, ": %s", problem_member(p, "reason"));
        }
}
static void unit_desc(const Row *row, Text *t) {
        for (size_t i = 0; row->unit->file && i < row->unit->file->n_options; i++) {
                const UnitOption *o = &row->unit->file->options[i];

                if (streq(o->section, "Unit") && streq(o->name, "Description")) {
                        text_append(t, o->value);
                        return;
                }
        }
}

/* Lines here are columns; fleetctl(1) documents the same names. */
static const Column machine_columns[] = {
        { "machine", machine_id },        { "ip", machine_ip },
        { "metadata", machine_metadata }, { "hostname", machine_name },
        { "presence", machine_presence }, { "problem", machine_problem },
        { "role", machine_role },         { "units", machine_units },
        { "version", machine_version },   {},
};
static const Column state_columns[] = {
        { "unit", state_unit },
        { "machine", state_machine },
        { "load", state_load },
        { "active", state_active },
        { "sub", state_sub },
        { "hash", state_hash },
        {},
};
static const Column unit_columns[] = {
        { "unit", unit_name },     { "hash", unit_hash },       { "dstate", unit_desired },
        { "state", unit_current }, { "target", unit_target },   { "tmachine", unit_target },
        { "global", unit_global }, { "desc", unit_desc },       { "reason", unit_reason },
        { "owner", unit_owner },   { "problem", unit_problem }, {},
};

enum { COLUMNS_MAX = 64 };

typedef struct Choice {
        const Column *columns[COLUMNS_MAX];
        char headers[COLUMNS_MAX][16];
        size_t n;
} Choice;

/* Which columns, from --fields or the defaults; an error is said in fleet's words. */
static int choose(const Client *c, const Column *all, const char *in_pipe, const char *on_terminal,
                  Choice *ret) {
        const char *fields = c->options.fields    ? c->options.fields :
                             stdout_is_terminal() ? on_terminal :
                                                    in_pipe;

        if (!*fields) {
                fputs("Must define output format\n", stderr);
                return -EINVAL;
        }
        for (;;) {
                size_t size = strcspn(fields, ",");
                const Column *column = all;

                while (column->name &&
                       (strlen(column->name) != size || memcmp(column->name, fields, size) != 0))
                        column++;
                if (!column->name || ret->n == COLUMNS_MAX) {
                        fprintf(stderr, "Invalid key in output format: \"%.*s\"\n", (int) size, fields);
                        return -EINVAL;
                }
                if (streq(column->name, "tmachine"))
                        fputs("WARNING: The \"tmachine\" field is deprecated. Use \"target\" instead\n",
                              stderr);
                for (size_t i = 0; i <= size && i < sizeof(ret->headers[0]); i++)
                        ret->headers[ret->n][i] = column->name[i] >= 'a' && column->name[i] <= 'z' ?
                                                          column->name[i] - 32 :
                                                          column->name[i];
                ret->columns[ret->n++] = column;

                fields += size;
                if (!*fields)
                        return 0;
                fields++;
        }
}

static Table *choice_table(const Choice *choice) {
        const char *headers[COLUMNS_MAX];

        for (size_t i = 0; i < choice->n; i++)
                headers[i] = choice->headers[i];
        return table_new(headers, choice->n);
}

static int add_row(Table *table, const Choice *choice, const Row *row) {
        for (size_t i = 0; i < choice->n; i++) {
                _cleanup_text_ Text t = {};
                int r;

                choice->columns[i]->append(row, &t);
                if (t.error < 0)
                        return t.error;
                r = table_add(table, t.size > 0 ? t.chars : "-");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int print_json(Text *t) {
        if (t->error < 0)
                return client_fail(t->error, NULL, "%s", "");
        (void) output_line(t->chars);
        return EXIT_DONE;
}

static int finish(const Client *c, const Table *table, int r) {
        if (r >= 0)
                r = table_print(table, !c->options.no_legend);
        return r < 0 ? client_fail(r, NULL, "%s", "") : EXIT_DONE;
}

static bool wants_json(const Client *c) {
        return streq(c->options.output, "json");
}

/* -- What is left of a list: names and patterns, --state, --machine -- */

typedef struct Wanted {
        Names names;         /* as units are called; patterns as they are */
        const char *state;   /* NULL: any */
        const char *machine; /* NULL: any */
        const Listing *machines;
} Wanted;

static int wanted_read(Client *c, char **args, size_t n, const Listing *machines, Wanted *ret) {
        int r = 0;

        *ret = (Wanted) { .state = c->options.state, .machine = c->options.machine, .machines = machines };
        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_free_ char *name = is_pattern(args[i]) ? strdup(args[i]) :
                                                                  unit_name_from_argument(args[i]);

                r = name ? names_add(&ret->names, name, strlen(name)) : -ENOMEM;
        }
        return r;
}

/* fleet passed over whatever stood behind its lists: a name that no unit has is no filter. */
static bool has_name(const Wanted *w, const char *unit) {
        for (size_t i = 0; i < w->names.n; i++)
                if (streq(w->names.items[i], unit) ||
                    (is_pattern(w->names.items[i]) && glob_match(w->names.items[i], unit)))
                        return true;
        return false;
}

static bool on_machine(const Wanted *w, const char *id) {
        const ApiMachine *m = listing_machine(w->machines, id);

        return !w->machine || (id && *id && starts_with(id, w->machine)) ||
               (m && m->hostname && streq(m->hostname, w->machine));
}

static bool is_state(const Wanted *w, const char *word) {
        return !w->state || (word && streq(word, w->state));
}

/* -- The lists -- */

typedef struct List {
        const Column *columns;
        const char *in_pipe, *on_terminal,
                *on_narrow; /* the last: where the terminal has no room for the one before */
        int (*read)(Client *c, Listing *ret, Error *err);
        void (*write)(Text *t, const Listing *l);
        void (*row)(Row *row, const Listing *l, size_t i);
        const char *empty;                                  /* what people are told of a list without rows */
        const char *(*unit)(const Row *row);                /* NULL: rows are no units */
        bool (*fits)(const Wanted *wanted, const Row *row); /* --state and --machine */
} List;

static int read_states(Client *c, Listing *ret, Error *err) {
        return client_states(c, NULL, ret, err);
}

static void write_machines(Text *t, const Listing *l) {
        api_machines_page_write(t, l->machines, l->n, NULL);
}
static void write_states(Text *t, const Listing *l) {
        api_states_page_write(t, l->states, l->n, NULL);
}
static void write_units(Text *t, const Listing *l) {
        api_units_page_write(t, l->units, l->n, NULL);
}

static void machine_row(Row *row, const Listing *l, size_t i) {
        row->machine = &l->machines[i];
}
static void state_row(Row *row, const Listing *l, size_t i) {
        row->state = &l->states[i];
}
static void unit_row(Row *row, const Listing *l, size_t i) {
        row->unit = &l->units[i];
}

static const char *state_of_unit(const Row *row) {
        return row->state->name;
}
static const char *file_of_unit(const Row *row) {
        return row->unit->name;
}

static bool state_fits(const Wanted *w, const Row *row) {
        return on_machine(w, row->state->machine_id) &&
               (is_state(w, row->state->active) || is_state(w, row->state->sub) ||
                is_state(w, row->state->load));
}

static bool unit_fits(const Wanted *w, const Row *row) {
        return on_machine(w, row->unit->machine_id) &&
               (is_state(w, target_state_to_string(row->unit->desired_state)) ||
                is_state(w, target_state_to_string(row->unit->current_state)));
}

/* Leaves out what is not wanted, in place. */
static void filter(Listing *l, const List *list, const Wanted *w) {
        size_t size = list->row == unit_row ? sizeof(ApiUnit) : sizeof(ApiState), kept = 0;
        char *items = list->row == unit_row ? (char *) l->units : (char *) l->states;
        bool by_name = false;

        if (!list->unit)
                return;
        for (size_t i = 0; i < l->n && !by_name; i++) {
                Row row = {};

                list->row(&row, l, i);
                by_name = list->unit(&row) && has_name(w, list->unit(&row));
        }
        for (size_t i = 0; i < w->names.n && !by_name; i++)
                by_name = is_pattern(w->names.items[i]);
        for (size_t i = 0; i < l->n; i++) {
                Row row = {};

                list->row(&row, l, i);
                if (!list->fits(w, &row) || (by_name && !(list->unit(&row) && has_name(w, list->unit(&row)))))
                        continue;
                memmove(items + kept * size, items + i * size, size);
                kept++;
        }
        l->n = kept;
}

/* What directories could not do is said of files that are no units, too; a daemon that knows nothing of it
 * has nothing to say. */
static int read_problems(Client *c, const List *list, JsonValue **ret, Error *err) {
        int r = list->row == unit_row ? client_problems(c, ret, err) : 0;

        return r == -EREMOTEIO ? 0 : r;
}

static int print_problems(const JsonValue *problems, const Listing *machines) {
        for (size_t i = 0; i < json_value_count(problems); i++) {
                const JsonValue *p = json_value_item(problems, i);
                _cleanup_text_ Text machine = {};

                append_machine_name(&machine, machines, problem_member(p, "machineID"));
                if (machine.error < 0)
                        return machine.error;
                client_note("%s: %s", machine.chars ?: "", problem_member(p, "reason"));
        }
        return 0;
}

static int fill(Client *c, const List *list, const Choice *choice, const Listing *items,
                const Listing *machines, const JsonValue *problems, Table **ret) {
        _cleanup_table_ Table *table = choice_table(choice);
        int r = table ? 0 : -ENOMEM;

        for (size_t i = 0; i < items->n && r >= 0; i++) {
                Row row = { .machines = list->unit ? machines : items,
                            .problems = problems,
                            .full = c->options.full,
                            .people = stdout_is_terminal() };

                list->row(&row, items, i);
                r = add_row(table, choice, &row);
        }
        if (r < 0)
                return r;
        table_free(*ret);
        *ret = TAKE_PTR(table);
        return 0;
}

static int print_list(Client *c, const List *list, char **args, size_t n) {
        _cleanup_listing_ Listing items = {}, machines = {};
        _cleanup_json_ JsonValue *directories = NULL;
        _cleanup_table_ Table *table = NULL;
        Choice choice = {};
        Wanted wanted = {};
        bool any = false;
        Error err = {};
        int r;

        if (choose(c, list->columns, list->in_pipe, list->on_terminal, &choice) < 0)
                return EXIT_FAILED;
        r = list->read(c, &items, &err);
        if (r >= 0 && list->unit)
                r = client_machines(c, &machines, &err);
        if (r >= 0 && !wants_json(c))
                r = read_problems(c, list, &directories, &err);
        if (r == -EREMOTEIO && !list->unit) {
                fprintf(stderr, "Error retrieving list of active machines from fleet API (%s)\n",
                        error_text(&err, r));
                return EXIT_FAILED;
        }
        if (r < 0)
                return client_fail(
                        r, &err, list->unit ? "Error retrieving list of units from repository: " : "%s", "");
        any = items.n > 0;
        r = wanted_read(c, args, n, &machines, &wanted);
        if (r >= 0)
                filter(&items, list, &wanted);
        names_done(&wanted.names);
        if (r >= 0 && wants_json(c)) {
                _cleanup_text_ Text t = {};

                list->write(&t, &items);
                return print_json(&t);
        }

        if (r >= 0)
                r = fill(c, list, &choice, &items, &machines, json_value_member(directories, "problems"),
                         &table);
        if (r >= 0 && !c->options.fields && table_is_too_wide(table)) {
                choice = (Choice) {};
                r = choose(c, list->columns, list->in_pipe, list->on_narrow, &choice);
                if (r >= 0)
                        r = fill(c, list, &choice, &items, &machines,
                                 json_value_member(directories, "problems"), &table);
        }
        r = finish(c, table, r);
        if (r == EXIT_DONE && items.n == 0 && client_talks_to_people())
                fprintf(stderr, "fleetctl: %s\n",
                        any ? "nothing of what there is was asked for" : list->empty);
        if (print_problems(json_value_member(directories, "problems"), &machines) < 0)
                return client_fail(-ENOMEM, NULL, "%s", "");
        for (size_t i = 0; !list->unit && i < items.n; i++)
                if (items.machines[i].problem && *items.machines[i].problem)
                        client_note("%s: %s", items.machines[i].hostname ?: items.machines[i].id,
                                    items.machines[i].problem);
        return r;
}

int verb_list_machines(Client *c, char **args, size_t n) {
        return print_list(c,
                          &(List) { .columns = machine_columns,
                                    .in_pipe = "machine,ip,metadata",
                                    .on_terminal = "machine,ip,metadata,units,role",
                                    .on_narrow = "machine,ip,units,role",
                                    .empty = "no machine is up",
                                    .read = client_machines,
                                    .write = write_machines,
                                    .row = machine_row },
                          args, n);
}

int verb_list_units(Client *c, char **args, size_t n) {
        return print_list(c,
                          &(List) { .columns = state_columns,
                                    .in_pipe = "unit,machine,active,sub",
                                    .on_terminal = "unit,machine,active,sub",
                                    .on_narrow = "unit,machine,sub",
                                    .empty = "no unit is on a machine (fleetctl start FILE)",
                                    .read = read_states,
                                    .write = write_states,
                                    .row = state_row,
                                    .unit = state_of_unit,
                                    .fits = state_fits },
                          args, n);
}

int verb_list_unit_files(Client *c, char **args, size_t n) {
        return print_list(c,
                          &(List) { .columns = unit_columns,
                                    .in_pipe = "unit,hash,dstate,state,target",
                                    .on_terminal = "unit,hash,dstate,state,target",
                                    .on_narrow = "unit,state,target",
                                    .empty = "the cluster has no units (fleetctl start FILE)",
                                    .read = client_units,
                                    .write = write_units,
                                    .row = unit_row,
                                    .unit = file_of_unit,
                                    .fits = unit_fits },
                          args, n);
}
