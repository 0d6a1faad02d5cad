/* list-machines, list-units, list-unit-files: tables of named columns. */
#include "base/clock.h"
#include "client/core/listing.h"
#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/core/patterns.h"
#include "client/core/unit.h"
#include "client/verbs/found.h"
#include "client/verbs/list_columns.h"

enum {
        FACTS_MS = 3000, /* until the first list of a new host has its machine */
        FACTS_POLL_MS = 100,
};

/* Reject what --local cannot have: other machines, and columns that only the cluster knows. */
static int check_local(const Client *c, const Choice *choice) {
        static const char known[] = "unit machine load active sub hash";

        if (!c->options.local)
                return EXIT_DONE;
        if (c->options.machine)
                return client_usage("--machine cannot be combined with --local, which lists this host only");
        for (size_t i = 0; i < choice->n; i++)
                if (!text_has_word(known, choice->columns[i]->name)) {
                        client_note("--fields=%s: --local has unit, machine, load, active, sub and hash only",
                                    choice->columns[i]->name);
                        return EXIT_USAGE;
                }
        return EXIT_DONE;
}

/* -- The lists -- */

typedef struct List {
        const char *verb;
        const Column *columns; /* the first of units is the name */
        const char *in_pipe, *on_terminal,
                *on_narrow;                     /* default columns; the last if the terminal is too narrow */
        const char *on_doubt, *on_doubt_narrow; /* instead of these if a machine is not up; NULL: the same */
        const char *empty;                      /* message on a terminal if there are no rows */
        int (*read)(Client *c, Listing *ret, Error *err);
        bool (*in_state)(const void *item, const char *state); /* --state; NULL: items are no units */
        size_t machine_offset;                                 /* ID of the machine of an item */
        const char *states;                                    /* words of --state, */
        const char *states_text;                               /* and for messages */
} List;

/* The words of systemd 252 to 258. */
static const char unit_states[] =
        "active activating deactivating failed inactive maintenance refreshing reloading "
        "bad-setting error loaded masked merged not-found stub " STATE_FOREIGN
        " activating-done auto-restart auto-restart-queued cleaning condition dead "
        "dead-before-auto-restart dead-resources-pinned deactivating-sigkill deactivating-sigterm "
        "deferred elapsed exited failed-before-auto-restart final-sigkill final-sigterm "
        "final-watchdog listening mounted mounting mounting-done reload reload-notify reload-post "
        "reload-signal remounting remounting-sigkill remounting-sigterm running start start-chown "
        "start-open start-post start-pre stop stop-post stop-pre stop-pre-sigkill "
        "stop-pre-sigterm stop-sigkill stop-sigterm stop-watchdog unmounting unmounting-sigkill "
        "unmounting-sigterm waiting";

/* Everything that a list is printed from. */
typedef struct ListData {
        Listing items, machines;
        JsonValue *directories; /* answer about unit directories; NULL: not read */
        bool any;               /* there are items, which the arguments may exclude */
        bool unknown_machine;   /* --machine names no machine */
} ListData;

static void list_data_done(ListData *d) {
        listing_done(&d->items);
        listing_done(&d->machines);
        json_value_free(d->directories);
}

static void *list_item(const Listing *l, size_t i) {
        return l->items + i * l->kind->size;
}

static int read_states(Client *c, Listing *ret, Error *err) {
        return client_states(c, NULL, ret, err);
}

static bool state_is_in(const void *item, const char *state) {
        const ApiState *s = item;

        return same_string(s->active, state) || same_string(s->sub, state) || same_string(s->load, state);
}

static bool unit_is_in(const void *item, const char *state) {
        const ApiUnit *u = item;

        return same_string(target_state_to_string(u->desired_state), state) ||
               same_string(target_state_to_string(u->current_state), state);
}

static bool has_name(const List *list, const void *item, const Names *names) {
        const char *name = field_text((const char *) item + list->columns->offset);

        return *name && patterns_match(names, name);
}

static const char *item_machine(const List *list, const void *item) {
        return field_text((const char *) item + list->machine_offset);
}

/* Remove the items that names, patterns, --state and --machine exclude: none is found by its name then. */
static void list_filter(const Client *c, const List *list, const Names *names, const Listing *machines,
                        Listing *l) {
        const char *state = c->options.state, *machine = c->options.machine;
        size_t kept = 0;

        for (size_t i = 0; i < l->n; i++) {
                const void *item = list_item(l, i);

                if ((state && !list->in_state(item, state)) ||
                    (machine && !machine_has_name(machines, item_machine(list, item), machine)) ||
                    (names->n > 0 && !has_name(list, item, names)))
                        continue;
                memmove(list_item(l, kept++), item, l->kind->size);
        }
        l->n = kept;
}

/* -- Arguments that name nothing -- */

/* Return whether --state has a word of systemd, or one that a unit of the list has. */
static bool state_exists(const List *list, const char *state, const Listing *l) {
        if (text_has_word(list->states, state))
                return true;
        for (size_t i = 0; i < l->n; i++)
                if (*state && list->in_state(list_item(l, i), state))
                        return true;
        return false;
}

/* Return whether --machine names a machine, or one that only an item has. */
static bool machine_exists(const Client *c, const List *list, const ListData *d) {
        const char *name = c->options.machine;
        const ApiMachine *found;

        if (!*name)
                return false;
        if (listing_find_machine(&d->machines, name, &found) > 0)
                return true;
        for (size_t i = 0; i < d->items.n; i++)
                if (machine_has_name(&d->machines, item_machine(list, list_item(&d->items, i)), name))
                        return true;
        return false;
}

/* Set 'ret' to the names that no item has. */
static int list_missing(const List *list, const Names *names, const Listing *l, Names *ret) {
        for (size_t i = 0; i < names->n; i++) {
                const Names one = { .items = &names->items[i], .n = 1 };
                bool found = strpbrk(names->items[i], "*?[");

                for (size_t k = 0; k < l->n && !found; k++)
                        found = has_name(list, list_item(l, k), &one);
                if (!found && names_add(ret, one.items[0], strlen(one.items[0])) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Print a line for each of these names: a unit without a state may exist. Return an exit status. */
static int list_note_missing(Client *c, const List *list, const Names *missing, Error *err) {
        int status = EXIT_DONE;

        for (size_t i = 0; i < missing->n; i++) {
                _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
                const char *name = missing->items[i];
                int r = 0;

                if (c->options.local) { /* the cluster may not answer */
                        client_note("%s: this host has no such unit", name);
                        status = EXIT_ABSENT;
                        continue;
                }
                if (list->columns == state_columns)
                        r = client_unit(c, name, &unit, err);
                if (r < 0)
                        return client_fail_after(r, err, "Error retrieving unit: ");
                if (r > 0 && unit_name_is_template(name)) {
                        _cleanup_json_ JsonValue *set = NULL;
                        _cleanup_text_ Text t = {};

                        if (TRY(found_read_set(c, name, &set, err)) > 0)
                                append_replicas(&t, name, set);
                        else
                                append_template(&t, name);
                        client_note("%s", t.error < 0 ? strerror(-t.error) : t.chars);
                        continue;
                }
                if (r > 0) {
                        client_note("%s is on no machine (fleetctl why %s)", name, name);
                        continue;
                }
                status = client_note_absent(c, name);
        }
        return status;
}

/* Return whether the facts of a machine are about to be published: its fleetd has just started. */
static bool list_expects_facts(Client *c) {
        _cleanup_listing_ Listing all = {};

        if (client_all_machines(c, &all, NULL) < 0)
                return false;
        for (size_t i = 0; i < all.n; i++) {
                const ApiMachine *m = &all.machines[i];

                if (!m->agentless && (machine_is_there(m) || m->since_ms == 0))
                        return true;
        }
        return all.n == 0;
}

/* Read the machines again while there are none: a cluster has one at least, unless no host has an agent. */
static int list_wait_machines(Client *c, Listing *ret, Error *err) {
        uint64_t end_ms = clock_monotonic_ms() + FACTS_MS;
        int r = 0;

        while (r >= 0 && ret->n == 0 && clock_monotonic_ms() < end_ms && list_expects_facts(c)) {
                (void) usleep(FACTS_POLL_MS * 1000);
                listing_done(ret);
                r = client_machines(c, ret, err);
        }
        return r;
}

static int list_read(Client *c, const List *list, ListData *d, Error *err) {
        int r;

        if (c->options.local)
                return client_local(c, &d->items, &d->machines, err);
        r = (c->options.all ? client_all_machines : list->read)(c, &d->items, err);
        if (r >= 0 && !list->in_state)
                return list_wait_machines(c, &d->items, err);
        if (r < 0)
                return r;
        r = client_all_machines(c, &d->machines, err);
        if (r < 0 || list->columns != unit_columns || streq(c->options.output, "json"))
                return r;
        /* Older daemons answer 404. */
        r = client_get_json(c, "/fleet/v1/directory", &d->directories, err);
        return r == -EREMOTEIO ? 0 : r;
}

/* Print the problems of unit directories: a rejected file is in no row. */
static int print_problems(const JsonValue *problems, const Listing *machines) {
        JSON_EACH(p, problems) {
                const char *name = member_text(p, "name"), *reason = member_text(p, "reason");
                _cleanup_text_ Text machine = {};

                append_machine_name(&machine, machines, member_text(p, "machineID"));
                TRY(machine.error);
                if (starts_with(reason, name))
                        client_note("%s: %s", machine.chars ?: "", reason);
                else
                        client_note("%s: %s: %s", machine.chars ?: "", name, reason);
        }
        return 0;
}

static Table list_fill(const Client *c, const List *list, const Choice *choice, const ListData *d) {
        Table table = table_begin(choice->fields);

        for (size_t i = 0; i < d->items.n; i++) {
                const Row row = { .item = list_item(&d->items, i),
                                  .machines = list->in_state ? &d->machines : &d->items,
                                  .problems = json_value_member(d->directories, "problems"),
                                  .full = c->options.full,
                                  .terminal = isatty(STDOUT_FILENO),
                                  .stale = connection_stale_s(c->connection) > 0 };

                columns_add_row(&table, choice, &row);
        }
        return table;
}

/* Return whether the default columns on a terminal do not suffice: a machine is not up, or may not be. */
static bool list_is_in_doubt(const Client *c, const List *list, const ListData *d) {
        if (!list->on_doubt || c->options.fields || !isatty(STDOUT_FILENO))
                return false;
        for (size_t i = 0; i < d->items.n; i++) {
                const char *presence = d->items.machines[i].presence; /* NULL: a daemon of fleet */

                if (presence && (connection_stale_s(c->connection) > 0 || !streq(presence, "up")))
                        return true;
        }
        return false;
}

static int list_print_table(const Client *c, const List *list, const Choice *choice, const ListData *d) {
        bool doubt = list_is_in_doubt(c, list, d);
        _cleanup_table_ Table table = {};
        Choice other = *choice;

        TRY(doubt ? columns_choose(list->columns, list->on_doubt, &other) : 0);
        table = list_fill(c, list, &other, d);
        if (!c->options.fields && table_is_too_wide(&table)) {
                TRY(columns_choose(list->columns, doubt ? list->on_doubt_narrow : list->on_narrow, &other));
                table_done(&table);
                table = list_fill(c, list, &other, d);
        }
        return table_print(&table, !c->options.no_legend);
}

static const List lists[] = {
        { .verb = "list-machines",
          .columns = machine_columns,
          .in_pipe = "machine,ip,metadata",
          .on_terminal = "machine,ip,metadata,units,role",
          .on_narrow = "machine,ip,units,role",
          .on_doubt = "machine,ip,metadata,presence,units,role",
          .on_doubt_narrow = "machine,presence,units,role",
          .empty = "no machine is up",
          .read = client_machines },
        { .verb = "list-unit-files",
          .columns = unit_columns,
          .in_pipe = "unit,hash,dstate,state,target",
          .on_terminal = "unit,hash,dstate,state,target",
          .on_narrow = "unit,state,target",
          .empty = "the cluster has no units (fleetctl start FILE)",
          .read = client_unit_files,
          .in_state = unit_is_in,
          .machine_offset = offsetof(ApiUnit, machine_id),
          .states = "inactive loaded launched",
          .states_text = "inactive, loaded, launched" },
        { .verb = "list-units",
          .columns = state_columns,
          .in_pipe = "unit,machine,active,sub",
          .on_terminal = "unit,machine,active,sub",
          .on_narrow = "unit,machine,sub",
          .empty = "no unit is on a machine (fleetctl start FILE)",
          .read = read_states,
          .in_state = state_is_in,
          .machine_offset = offsetof(ApiState, machine_id),
          .states = unit_states,
          .states_text = "active, inactive, failed, activating, deactivating, reloading; loaded, not-found, "
                         "bad-setting, error, masked, foreign; running, exited, dead, auto-restart and other "
                         "sub states of systemd" },
};

/* On a terminal, print which hosts a restored or recovered cluster waits for. It begins with one member. */
static void list_note_unreported(Client *c, const Listing *machines) {
        size_t n_members = 0;

        for (size_t i = 0; i < machines->n; i++)
                n_members += machines->machines[i].role && *machines->machines[i].role;
        if (n_members <= 1 && client_is_interactive())
                client_note_awaited(c, "their presence is not known yet");
}

/* Print the table, and messages about the items and the arguments. 'missing': names without an item. */
static int list_print(Client *c, const List *list, const Choice *choice, const ListData *d,
                      const Names *missing, Error *err) {
        int r = list_print_table(c, list, choice, d), status;

        if (r < 0)
                return r;
        if (print_problems(json_value_member(d->directories, "problems"), &d->machines) < 0)
                return -ENOMEM;
        for (size_t i = 0; !list->in_state && i < d->items.n; i++) {
                const ApiMachine *m = &d->items.machines[i];

                if (m->problem && *m->problem)
                        client_note("%s: %s", m->hostname ?: m->id, m->problem);
        }
        if (!list->in_state)
                list_note_unreported(c, &d->items);
        status = list_note_missing(c, list, missing, err);
        if (status == EXIT_DONE && d->items.n == 0 && missing->n == 0 && !d->unknown_machine &&
            client_is_interactive() &&
            !(list->columns == state_columns && client_note_unknown_states(c, &d->machines)))
                client_note("%s", d->any ? "no unit matches" : list->empty);
        return status;
}

static int list_run(Client *c, char **args, size_t n, Error *err) {
        const List *list = lists;
        const char *fields = c->options.fields;
        _cleanup_(list_data_done) ListData d = {};
        _cleanup_names_ Names names = {}, missing = {};
        Choice choice;
        int r;

        while (!streq(list->verb, c->verb->name))
                list++;
        if (!fields)
                fields = isatty(STDOUT_FILENO) ? list->on_terminal : list->in_pipe;
        if (columns_choose(list->columns, fields, &choice) < 0)
                return EXIT_FAILED;
        TRY_DONE(check_local(c, &choice));
        if (c->options.failed && c->options.state)
                return client_usage("--failed cannot be combined with --state");
        if (c->options.failed)
                c->options.state = "failed";
        c->sessions = list->columns == machine_columns &&
                      (streq(c->options.output, "json") || strstr(fields, "session"));
        r = list_read(c, list, &d, err);
        if (r == -EREMOTEIO && !list->in_state && !client_is_about_daemon(r, err)) {
                fprintf(stderr, "Error retrieving list of active machines from fleet API (%s)\n",
                        error_text(err, r));
                return EXIT_FAILED;
        }
        if (r < 0)
                return !list->in_state ?
                               r :
                               client_fail_after(r, err, "Error retrieving list of units from repository: ");
        if (c->options.state && !state_exists(list, c->options.state, &d.items)) {
                client_note("--state=%s: no such state; there are %s", c->options.state, list->states_text);
                return EXIT_USAGE;
        }
        d.unknown_machine = c->options.machine && !machine_exists(c, list, &d);
        if ((list->in_state && patterns_read(args, n, &names) < 0) ||
            list_missing(list, &names, &d.items, &missing) < 0)
                return -ENOMEM;
        d.any = d.items.n > 0;
        if (list->in_state)
                list_filter(c, list, &names, &d.machines, &d.items);
        if (d.unknown_machine)
                d.items.n = 0;
        client_note_stale(c);
        if (streq(c->options.output, "json")) {
                _cleanup_text_ Text t = {};

                api_page_write(&t, d.items.kind, d.items.items, d.items.n, NULL);
                TRY(output_built(&t));
                r = list_note_missing(c, list, &missing, err);
        } else
                r = list_print(c, list, &choice, &d, &missing, err);
        if (r >= 0 && d.unknown_machine) {
                client_note_machine(&d.machines, 0, "--machine=", c->options.machine);
                return EXIT_ABSENT;
        }
        return r;
}

VERB(list_machines, "list-machines", "list json", "", "Enumerate the current hosts in the cluster",
     "In a pipe, a machine is its ID.\n"
     "Fields: machine, ip, metadata, certificate, cpu, hostname, idle-session, kind, maintenance,\n"
     "memory, presence, problem, reboot, restricted, role, session, units, version.\n\n"
     "For easily parsable output, you can remove the column headers:\n"
     "fleetctl list-machines --no-legend\n",
     list_run);

VERB(list_unit_files, "list-unit-files", "list json", "[UNIT...]",
     "List the units that exist in the cluster.",
     "Also units without a machine.\n"
     "Fields: unit, hash, dstate, state, target, global, desc, reason, owner, problem.\n",
     list_run);

VERB(list_units, "list-units", "list json", "[UNIT...]", "List the current state of units in the cluster",
     "Only units with a machine. In a pipe, a machine is ID/IP, as in fleet.\n"
     "Fields: unit, machine, load, active, sub, hash, health, available, why, hostname.\n\n"
     "The host of a unit, for a script:\n"
     "fleetctl list-units --no-legend --fields=hostname web@1.service\n",
     list_run);
