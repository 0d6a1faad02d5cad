/* The cells of list-machines, list-units and list-unit-files, and the choice of columns. */
#include "client/verbs/list_columns.h"

#include "client/core/machines.h"
#include "client/core/notes.h"
#include "client/core/times.h"

int columns_choose(const Column *all, const char *fields, Choice *ret) {
        _cleanup_text_ Text valid = {};

        *ret = (Choice) { .fields = fields };
        if (!*fields) {
                fputs("Must define output format\n", stderr);
                return -EINVAL;
        }
        for (;; fields++) {
                size_t size = strcspn(fields, ",");
                const Column *column = all;

                while (column->name &&
                       (strlen(column->name) != size || memcmp(column->name, fields, size) != 0))
                        column++;
                if (!column->name || ret->n == COLUMNS_MAX) {
                        fprintf(stderr, "Invalid key in output format: \"%.*s\"\n", (int) size, fields);
                        for (column = all; column->name; column++)
                                text_printf(&valid, "%s%s", valid.size > 0 ? "," : "", column->name);
                        client_note("--fields= knows %s", valid.chars ?: "");
                        return -EINVAL;
                }
                if (streq(column->name, "tmachine"))
                        fputs("WARNING: The \"tmachine\" field is deprecated. Use \"target\" instead\n",
                              stderr);
                ret->columns[ret->n++] = column;

                fields += size;
                if (!*fields)
                        return 0;
        }
}

void columns_add_row(Table *table, const Choice *choice, const Row *row) {
        for (size_t i = 0; i < choice->n; i++) {
                const Column *column = choice->columns[i];
                _cleanup_text_ Text t = {};

                column->append(row, (const char *) row->item + column->offset, &t);
                table_add(table, &t);
        }
}

void append_string(const Row *row, const void *field, Text *t) {
        text_append(t, field_text(field));
}

/* Without a leader, no host detects which others are up. */
static void append_presence(const Row *row, const void *field, Text *t) {
        const char *word = row->stale ? "?" : presence_word(field_text(field));

        text_append(t, row->terminal ? word : field_text(field));
}

static void append_number(const Row *row, const void *field, Text *t) {
        text_append_u64(t, *(const uint64_t *) field);
}

/* What is requested of a capacity, which is followed by that in an item. */
static void append_room(const uint64_t *field, bool memory, Text *t) {
        if (field[0] == 0)
                return;
        resources_append(t, field[1], memory);
        text_append_char(t, '/');
        resources_append(t, field[0], memory);
}

static void append_memory(const Row *row, const void *field, Text *t) {
        append_room(field, true, t);
}

static void append_cpu(const Row *row, const void *field, Text *t) {
        append_room(field, false, t);
}

static void append_date(const Row *row, const void *field, Text *t) {
        char date[32];

        text_append(t, times_date(*(const uint64_t *) field, date));
}

static void append_place(const Row *row, const void *field, Text *t) {
        static const Listing none = {};
        const char *id = field_text(field);
        const ApiMachine *m = listing_machine(row->machines, id);
        bool gone = m && !machine_is_there(m);

        if (!*id)
                return;
        if (row->terminal && !row->full)
                append_machine_name(t, row->machines, id);
        else /* as in fleet, a machine that is gone has no address */
                append_machine_legend(t, gone ? &none : row->machines, id, row->full);
}

static void append_hostname(const Row *row, const void *field, Text *t) {
        const ApiMachine *m = listing_machine(row->machines, field_text(field));

        text_append(t, m && m->hostname ? m->hostname : "");
}

static void append_hash(const Row *row, const void *field, Text *t) {
        text_printf(t, "%.*s", row->full ? UNIT_HASH_SIZE - 1 : UNIT_HASH_SHORT, field_text(field));
}

static void machine_id(const Row *row, const void *item, Text *t) {
        const ApiMachine *m = item;

        if (row->terminal && !row->full && m->hostname && *m->hostname)
                append_machine_name(t, row->machines, m->id);
        else
                text_printf(t, row->full ? "%s" : "%.8s...", m->id);
}

static void machine_restriction(const Row *row, const void *item, Text *t) {
        const ApiMachine *m = item;

        text_append(t, client_restriction(m->restricted, m->write));
}

/* A restricted host holds no replica, and so has no other role. */
static void machine_role(const Row *row, const void *item, Text *t) {
        const ApiMachine *m = item;

        text_append(t, m->role && *m->role ? m->role : m->restricted ? "restricted" : "");
}

static void append_pairs(const Row *row, const void *field, Text *t) {
        const Pairs *pairs = field;

        for (size_t i = 0; i < pairs->n; i++)
                text_printf(t, "%s%s=%s", i > 0 ? "," : "", pairs->items[i].key, pairs->items[i].value);
}

static void unit_hash(const Row *row, const void *item, Text *t) {
        char calculated[UNIT_HASH_SIZE];
        const char *hash = calculated;
        const ApiUnit *u = item;
        int r;

        if ((u->hash && *u->hash) || !u->file) {
                append_hash(row, &u->hash, t);
                return;
        }
        r = unit_file_hash(u->file, calculated);
        if (r >= 0)
                append_hash(row, &hash, t);
        else if (r == -ENOMEM)
                t->error = r;
}

static void append_target_state(const Row *row, const void *field, Text *t) {
        text_append(t, target_state_to_string(*(const TargetState *) field) ?: "");
}

static void unit_current(const Row *row, const void *item, Text *t) {
        const ApiUnit *u = item;

        if (!u->global)
                append_target_state(row, &u->current_state, t);
}

static void unit_target(const Row *row, const void *item, Text *t) {
        const ApiUnit *u = item;

        if (u->global)
                text_append(t, "global");
        else
                append_place(row, &u->machine_id, t);
}

static void append_bool(const Row *row, const void *field, Text *t) {
        text_append(t, *(const bool *) field ? "true" : "false");
}

/* Without a known health, the cell is "-". */
static void state_available(const Row *row, const void *item, Text *t) {
        const ApiState *s = item;

        if (s->health && !streq(s->health, "unknown"))
                append_bool(row, &s->available, t);
}

static void unit_problem(const Row *row, const void *item, Text *t) {
        const ApiUnit *u = item;

        for (size_t i = 0; u->name && i < json_value_count(row->problems); i++) {
                const JsonValue *p = json_value_item(row->problems, i);

                if (!streq(member_text(p, "name"), u->name))
                        continue;
                text_append(t, t->size > 0 ? "; " : "");
                append_machine_name(t, row->machines, member_text(p, "machineID"));
                text_printf(t, ": %s", member_text(p, "reason"));
        }
}

static void unit_desc(const Row *row, const void *item, Text *t) {
        const ApiUnit *u = item;

        for (size_t i = 0; u->file && i < u->file->n_options; i++) {
                const UnitOption *o = &u->file->options[i];

                if (streq(o->section, "Unit") && streq(o->name, "Description")) {
                        text_append(t, o->value);
                        return;
                }
        }
}

#define MACHINE(member) offsetof(ApiMachine, member)
#define STATE(member)   offsetof(ApiState, member)
#define UNIT(member)    offsetof(ApiUnit, member)

/* fleetctl(1) documents the same names. */
const Column machine_columns[] = {
        { "machine", machine_id },
        { "ip", append_string, MACHINE(primary_ip) },
        { "metadata", append_pairs, MACHINE(metadata) },
        { "certificate", append_date, MACHINE(certificate_ms) },
        { "cpu", append_cpu, MACHINE(cpu_percent) },
        { "hostname", append_string, MACHINE(hostname) },
        { "idle-session", append_place, MACHINE(idle_session) },
        { "kind", append_string, MACHINE(kind) },
        { "maintenance", append_string, MACHINE(maintenance) },
        { "memory", append_memory, MACHINE(memory_mib) },
        { "presence", append_presence, MACHINE(presence) },
        { "problem", append_string, MACHINE(problem) },
        { "reboot", append_string, MACHINE(reboot) },
        { "restricted", machine_restriction },
        { "role", machine_role },
        { "session", append_place, MACHINE(session) },
        { "units", append_number, MACHINE(n_units) },
        { "version", append_string, MACHINE(version) },
        {},
};
const Column state_columns[] = {
        { "unit", append_string, STATE(name) },
        { "machine", append_place, STATE(machine_id) },
        { "load", append_string, STATE(load) },
        { "active", append_string, STATE(active) },
        { "sub", append_string, STATE(sub) },
        { "hash", append_hash, STATE(hash) },
        { "health", append_string, STATE(health) },
        { "available", state_available },
        { "why", append_string, STATE(why) },
        { "hostname", append_hostname, STATE(machine_id) },
        {},
};
const Column unit_columns[] = {
        { "unit", append_string, UNIT(name) },
        { "hash", unit_hash },
        { "dstate", append_target_state, UNIT(desired_state) },
        { "state", unit_current },
        { "target", unit_target },
        { "tmachine", unit_target },
        { "global", append_bool, UNIT(global) },
        { "desc", unit_desc },
        { "reason", append_string, UNIT(reason) },
        { "owner", append_place, UNIT(owner) },
        { "problem", unit_problem },
        {},
};
