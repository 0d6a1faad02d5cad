/* list-members and machine: the members of the cluster, and the metadata of a machine. */

#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/listing.h"
#include "client/core/machines.h"
#include "client/core/notes.h"
#include "units/machine.h"

/* -- list-members -- */

static const char *members_role(const JsonValue *member, const JsonValue *leader) {
        return leader && *member_text(member, "id") &&
                               streq(member_text(leader, "id"), member_text(member, "id")) ?
                       "leader" :
                       member_role(member);
}

static int members_print_json(const JsonValue *members, const JsonValue *leader) {
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_open(&t, "members", '[');
        JSON_EACH(m, members) {
                json_open(&t, NULL, '{');
                json_add_string(&t, "address", json_value_string(json_value_member(m, "address")));
                json_add_string(&t, "id", json_value_string(json_value_member(m, "id")));
                json_add_string(&t, "name", json_value_string(json_value_member(m, "name")));
                json_add_bool(&t, "reachable", member_bool(m, "reachable"));
                json_add_string(&t, "role", members_role(m, leader));
                json_close(&t, '}');
        }
        json_close(&t, ']');
        json_close(&t, '}');
        text_append(&t, "\n");
        return t.error < 0 ? t.error : output_text(t.chars, t.size);
}

static int list_members_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_table_ Table table = table_begin("MACHINE,ID,ADDRESS,ROLE,REACHABLE");
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *members, *leader;

        TRY_VERB(client_get_json(c, "/fleet/v1/cluster", &root, err), err, "Failed to read the members: ");
        members = json_value_member(root, "voters");
        leader = json_value_member(root, "leader");
        if (streq(c->options.output, "json"))
                return members_print_json(members, leader);
        JSON_EACH(m, members)
                table_row(&table, member_label(m), member_text(m, "id"), member_text(m, "address"),
                          members_role(m, leader), member_bool(m, "reachable") ? "yes" : "no");
        table_fit(&table, "ID,ADDRESS");
        return table_print(&table, true);
}

/* -- machine show, machine set -- */

static int machine_find(Client *c, const char *name, Listing *machines, const ApiMachine **ret, Error *err) {
        int r;

        TRY_VERB(client_all_machines(c, machines, err), err, "Failed to read the machines: ");
        r = client_find_host(machines, name, ret, err);
        return r < 0 ? client_fail_machine(r, err) : 0;
}

static void machine_append(Text *t, const char *label, const char *value) {
        if (!value || !*value)
                return;
        text_printable(t, "%-12s%s", label, value);
        text_append_char(t, '\n');
}

/* Append that the machine is cordoned or drained, for what, and the reason. Only the answer about its
 * maintenance has the latter two: without it, the mode remains. */
static void machine_append_maintenance(Client *c, Text *t, const ApiMachine *m) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, value = {};

        if (!m->maintenance || !*m->maintenance)
                return;
        if (client_get_json(c, client_path_of(&path, "/fleet/v1/machines/", m->id, "/maintenance"), &root,
                            NULL) == -ENOMEM)
                value.error = -ENOMEM;
        text_append(&value, m->maintenance);
        if (*member_text(root, "for"))
                text_printf(&value, " for %s", member_text(root, "for"));
        if (*member_text(root, "reason"))
                text_printf(&value, ": %s", member_text(root, "reason"));
        t->error = t->error ?: path.error ?: value.error;
        machine_append(t, "maintenance", value.chars);
}

/* Append the units that stay on the machine with their data, or wait for it. */
static void machine_append_data(Client *c, Text *t, const ApiMachine *m) {
        _cleanup_json_ JsonValue *data = NULL;
        _cleanup_text_ Text names = {};

        DATA_EACH(unit, c, "?machine=", m->id, &data)
                if (member_bool(unit, "sticky"))
                        text_printf(&names, "%s%s", names.size > 0 ? " " : "", member_text(unit, "name"));
        t->error = t->error ?: names.error;
        machine_append(t, "data of", names.chars);
}

static void machine_append_size(Text *t, const char *label, uint64_t capacity, uint64_t requested,
                                uint64_t load) {
        bool memory = streq(label, "memory");

        if (capacity == 0)
                return;
        text_printf(t, "%-12s", label);
        resources_append(t, capacity, memory);
        text_append(t, ", requested ");
        resources_append(t, requested, memory);
        text_append(t, ", load ");
        resources_append(t, load, memory);
        text_append_char(t, '\n');
}

static void machine_append_all(Client *c, Text *t, const ApiMachine *m) {
        machine_append(t, "name", m->hostname);
        machine_append(t, "id", m->id);
        machine_append(t, "address", m->primary_ip);
        machine_append(t, "presence", isatty(STDOUT_FILENO) ? presence_word(m->presence ?: "") : m->presence);
        machine_append_maintenance(c, t, m);
        machine_append(t, "problem", m->problem);
        machine_append(t, "role", m->role);
        machine_append(t, "restricted", client_restriction(m->restricted, m->write));
        machine_append(t, "version", m->version);
        text_printf(t, "%-12s%llu\n", "units", (unsigned long long) m->n_units);
        machine_append_size(t, "memory", m->memory_mib, m->memory_requested_mib, m->memory_load_mib);
        machine_append_size(t, "cpu", m->cpu_percent, m->cpu_requested_percent, m->cpu_load_percent);
        machine_append_data(c, t, m);
        for (size_t i = 0; i < m->metadata.n; i++) {
                text_printable(t, "%-12s%s=%s", i == 0 ? "metadata" : "", m->metadata.items[i].key,
                               m->metadata.items[i].value);
                text_append_char(t, '\n');
        }
}

static int machine_show(Client *c, char **args, size_t n, Error *err) {
        _cleanup_listing_ Listing machines = {};
        _cleanup_text_ Text t = {};
        const ApiMachine *m = NULL;

        if (n != 1)
                return client_usage("machine show: expected one machine, by its name or ID");
        TRY_DONE(machine_find(c, args[0], &machines, &m, err));
        if (streq(c->options.output, "json")) {
                api_page_write(&t, &api_machines_page, m, 1, NULL);
                text_append_char(&t, '\n');
        } else
                machine_append_all(c, &t, m);
        return t.error < 0 ? t.error : output_text(t.chars, t.size);
}

/* Append one operation of the patch. "KEY=" removes what was set. */
static int machine_append_pair(Text *body, const char *id, const char *pair) {
        const char *equals = strchr(pair, '=');
        _cleanup_text_ Text key = {};
        Error err = {};
        int r;

        if (!equals) {
                client_note("machine set: %s: expected KEY=VALUE, or KEY= to remove the value", pair);
                return EXIT_USAGE;
        }
        text_printf(&key, "%.*s", (int) (equals - pair), pair);
        TRY(key.error);
        r = machine_metadata_check(key.chars ?: "", equals + 1, &err);
        if (r < 0) {
                client_note("machine set: %s", error_text(&err, r));
                return EXIT_USAGE;
        }
        append_metadata_change(body, id, key.chars ?: "", equals + 1);
        return 0;
}

enum { SHOWN_MAX = 20 };

/* Append what happens to a unit, on a line of its own. */
static void machine_set_append(Text *t, const JsonValue *entry) {
        bool stops = streq(member_text(entry, "action"), "stop");

        text_append(t, "\n  ");
        text_printable(t, "%s%s%s: %s", member_text(entry, "name"), stops ? " stops on " : " moves to ",
                       member_name(entry, "hostname"), member_text(entry, "reason"));
}

/* Ask before a change after which units move or stop. Nothing is asked if the daemon, of an older version,
 * plans no metadata. The result is that of a verb. */
static int machine_set_confirm(Client *c, const char *name, const Text *body, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text effect = {};
        const JsonValue *entries;
        size_t n;
        int r;

        if (c->options.yes)
                return EXIT_DONE;
        r = connection_request(c->connection, "POST", "/fleet/v1/plan/machines", CONTENT_JSON, body, &reply,
                               err);
        if (r >= 0 && (reply.status == 404 || reply.status == 405))
                return EXIT_DONE;
        if (r >= 0)
                r = reply_check(&reply, err);
        if (r >= 0)
                r = json_value_parse(reply.body.chars, reply.body.size, &root, err);
        if (r < 0)
                return client_fail_after(r, err, "Failed to plan the units: ");
        entries = json_value_member(root, "units");
        n = json_value_count(entries);
        if (n == 0)
                return EXIT_DONE;
        text_printable(&effect, "With this metadata of %s:", name);
        for (size_t i = 0; i < n && i < SHOWN_MAX; i++)
                machine_set_append(&effect, json_value_item(entries, i));
        if (n > SHOWN_MAX)
                text_printf(&effect, "\n  and %zu more units", n - SHOWN_MAX);
        TRY(effect.error);
        return client_confirm(c, "Change it?", "%s", effect.chars) ? EXIT_DONE : EXIT_FAILED;
}

/* Print what was set. 0 or -ENOMEM. */
static int machine_set_print(const ApiMachine *m, char **pairs, size_t n) {
        _cleanup_text_ Text t = {};

        text_printable(&t, "Machine %s:", m->hostname && *m->hostname ? m->hostname : m->id);
        for (size_t i = 0; i < n; i++) {
                size_t size = strlen(pairs[i]);

                text_append(&t, i > 0 ? ", " : " ");
                text_append_printable_bytes(&t, pairs[i], size - ends_with(pairs[i], "="), false);
                text_append(&t, ends_with(pairs[i], "=") ? " removed" : "");
        }
        return output_built(&t);
}

static int machine_set(Client *c, char **args, size_t n, Error *err) {
        _cleanup_listing_ Listing machines = {};
        _cleanup_text_ Text body = {};
        const ApiMachine *m = NULL;

        if (n < 2)
                return client_usage("machine set: expected a machine and KEY=VALUE...");
        TRY_DONE(machine_find(c, args[0], &machines, &m, err));
        json_open(&body, NULL, '[');
        for (size_t i = 1; i < n; i++) {
                TRY_DONE(machine_append_pair(&body, m->id, args[i]));
        }
        json_close(&body, ']');
        TRY(body.error);
        TRY_DONE(machine_set_confirm(c, args[0], &body, err));
        TRY_VERB(client_request(c, "PATCH", "/fleet/v1/machines", &body, NULL, err), err,
                 "Failed to set the metadata: ");
        TRY(machine_set_print(m, args + 1, n - 1));
        return EXIT_DONE;
}

static int machine_rekey(Client *c, size_t n, Error *err) {
        if (n > 0)
                return client_usage("machine rekey: expected no arguments: it is for this host");
        return client_order(
                c, "POST", "/fleet/v1/cluster/host/rekey", NULL, "Failed to change the key of this host: ",
                "This host has made another key; the former one ends when the new one was used\n");
}

static int machine_run(Client *c, char **args, size_t n, Error *err) {
        if (n > 0 && streq(args[0], "show"))
                return machine_show(c, args + 1, n - 1, err);
        if (n > 0 && streq(args[0], "set"))
                return machine_set(c, args + 1, n - 1, err);
        if (n > 0 && streq(args[0], "rekey"))
                return machine_rekey(c, n - 1, err);
        return client_usage("machine: expected show HOST, set HOST KEY=VALUE..., or rekey");
}

VERB(list_members, "list-members", "json", "", "List the hosts with a replica and their roles",
     "Columns: machine, ID, address of the peer listener, role (leader, voter, standby), and whether\n"
     "this host reaches it.\n",
     list_members_run);

VERB(machine, "machine", "yes json", "show MACHINE | set MACHINE KEY=VALUE... | rekey",
     "Show a machine, or set its metadata",
     "Machines are named by hostname or ID. KEY= removes the value that was set. set lists the units\n"
     "that move or stop after the change, and asks.\n"
     "Exit status 4 if there is no such machine.\n\n"
     "fleetctl machine set alpha zone=a\n",
     machine_run);
