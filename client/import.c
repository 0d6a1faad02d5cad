/* import: copy the units of a fleet cluster from its etcd, in the layout of fleet 0.9 to 1.0 (prefix
 * /_coreos.com/fleet):
 *
 *   job/NAME/object         {"Name":"NAME","UnitHash":[20 numbers]}
 *   job/NAME/target-state   inactive, loaded or launched; absent: inactive
 *   unit/HEX                {"Raw":"the unit's text"}, shared by all units of that hash
 *   machines/ID/metadata/K  metadata set by users; empty: removed by users
 *
 * All other keys expire and concern the old cluster only. import does not write to this etcd. It reads and
 * checks all units, prints them, and copies them after a confirmation. A unit that this cluster rejects is
 * listed with the reason and skipped. */
#include "client/client.h"
#include "units/machine.h"

enum { ETCD_MS = 10000 };

static const char action_import[] = "import";

typedef struct Imported {
        char *name, *text; /* owned */
        TargetState target;
        char *rejected;     /* reason why this cluster rejects the unit, owned; NULL: it does not */
        const char *action; /* action_import, or the reason to skip the unit; borrowed */
} Imported;

typedef struct Fleet {
        Connection *etcd;
        JsonValue *jobs, *contents, *machines; /* owned; NULL: the directory does not exist */
        Imported *units;
        size_t n, capacity;
        Text patch; /* metadata, as a body of PATCH */
        size_t n_metadata;
} Fleet;

static void imported_done(Imported *unit) {
        free(unit->name);
        free(unit->text);
        free(unit->rejected);
}

static void fleet_done(Fleet *f) {
        for (size_t i = 0; i < f->n; i++)
                imported_done(&f->units[i]);
        free(f->units);
        json_value_free(f->jobs);
        json_value_free(f->contents);
        json_value_free(f->machines);
        text_done(&f->patch);
        connection_free(f->etcd);
}

/* -- Reading -- */

static int read_directory(Client *c, Fleet *f, const char *name, JsonValue **ret, Error *err) {
        const char *prefix = *c->options.etcd_prefix ? c->options.etcd_prefix : "/_coreos.com/fleet/";
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};
        int r;

        text_append(&path, "/v2/keys/");
        append_escaped(&path, prefix + (*prefix == '/'), true);
        text_printf(&path, "%s%s?recursive=true&quorum=true", ends_with(prefix, "/") ? "" : "/", name);
        r = connection_request(f->etcd, "GET", client_path(&path), NULL, NULL, &reply, err);
        if (r < 0)
                return error_prefix(err, r, "etcd");
        if (reply.status == 404)
                return 0;
        if (reply.status != 200)
                return error_set(err, -EREMOTEIO,
                                 "etcd answers %ld to %s; check that its v2 API is enabled (--enable-v2)",
                                 reply.status, path.chars);
        r = json_value_parse(reply.body.chars, reply.body.size, ret, err);
        return r < 0 ? error_prefix(err, r, "etcd's answer to %s", path.chars) : 0;
}

static const char *last_part(const char *key) {
        const char *slash = strrchr(key, '/');

        return slash ? slash + 1 : key;
}

/* Return the child of that name, or NULL. */
static const JsonValue *child(const JsonValue *node, const char *name) {
        const JsonValue *nodes = json_value_member(node, "nodes");

        for (size_t i = 0; i < json_value_count(nodes); i++)
                if (streq(last_part(member_text(json_value_item(nodes, i), "key")), name))
                        return json_value_item(nodes, i);
        return NULL;
}

/* Read "UnitHash":[28,111,...] as 40 hex digits. */
static int read_hash(const JsonValue *object, char ret[UNIT_HASH_SIZE]) {
        const JsonValue *numbers = json_value_member(object, "UnitHash");

        if (json_value_count(numbers) != 20)
                return -EBADMSG;
        for (size_t i = 0; i < 20; i++) {
                uint64_t byte;

                if (json_value_u64(json_value_item(numbers, i), &byte) < 0 || byte > 255)
                        return -EBADMSG;
                snprintf(ret + 2 * i, 3, "%02x", (unsigned) byte);
        }
        return 0;
}

/* Read the text with that hash and verify the hash. The caller frees *ret. */
static int read_contents(const Fleet *f, const char *hash, char **ret, Error *err) {
        const JsonValue *node = child(json_value_member(f->contents, "node"), hash);
        _cleanup_json_ JsonValue *value = NULL;
        _cleanup_unit_file_ UnitFile file = {};
        char found[UNIT_HASH_SIZE];
        const char *raw;
        int r;

        if (!node)
                return error_set(err, -ENOENT, "etcd has no text with hash %.7s", hash);
        r = json_value_parse(member_text(node, "value"), strlen(member_text(node, "value")), &value, err);
        if (r < 0)
                return error_prefix(err, r, "contents of hash %.7s", hash);
        raw = member_text(value, "Raw");
        r = unit_file_parse(raw, strlen(raw), UNIT_FILE_LITERAL, &file, err);
        if (r < 0)
                return r;
        r = unit_file_hash(&file, found);
        if (r < 0)
                return r;
        if (!streq(found, hash))
                return error_set(err, -EBADMSG, "the text has hash %.7s, expected %.7s", found, hash);
        *ret = strdup(raw);
        return *ret ? 0 : -ENOMEM;
}

static int read_target(const JsonValue *job, TargetState *ret, Error *err) {
        const JsonValue *target = child(job, "target-state");
        TargetState state;

        if (!target)
                return 0;
        state = target_state_from_string(member_text(target, "value"));
        if (state < 0)
                return error_set(err, -EBADMSG, "target state '%.32s': expected inactive, loaded or launched",
                                 member_text(target, "value"));
        *ret = state;
        return 0;
}

/* Read the text and the target state of a unit, and whether this cluster rejects it. */
static int read_unit(const Fleet *f, const char *name, const JsonValue *job, Imported *unit, Error *err) {
        const char *object = member_text(child(job, "object"), "value");
        _cleanup_warnings_ Warnings faults = {}, warnings = {};
        _cleanup_json_ JsonValue *value = NULL;
        char hash[UNIT_HASH_SIZE];
        int r;

        r = json_value_parse(object, strlen(object), &value, err);
        if (r < 0)
                return r;
        if (read_hash(value, hash) < 0)
                return error_set(err, -EBADMSG, "object without a UnitHash of 20 bytes");
        r = read_contents(f, hash, &unit->text, err);
        if (r < 0)
                return r;
        r = read_target(job, &unit->target, err);
        if (r < 0)
                return r;
        r = unit_verify(name, unit->text, strlen(unit->text), &faults, &warnings);
        if (r < 0)
                return r;
        if (faults.n > 0 && asprintf(&unit->rejected, "rejected: %s", faults.items[0].message) < 0) {
                unit->rejected = NULL;
                return -ENOMEM;
        }
        return 0;
}

static int read_job(Fleet *f, const JsonValue *job, Error *err) {
        const char *name = last_part(member_text(job, "key"));
        _cleanup_(imported_done) Imported unit = { .target = TARGET_INACTIVE };
        int r;

        if (!child(job, "object"))
                return 0; /* a destroyed unit */
        r = read_unit(f, name, job, &unit, err);
        if (r < 0)
                return error_prefix(err, r, "%s", name);

        unit.name = strdup(name);
        if (!unit.name || GROW(f->units, f->capacity, f->n + 1) < 0)
                return -ENOMEM;
        f->units[f->n++] = unit;
        unit = (Imported) {};
        return 0;
}

static void read_metadata(Fleet *f) {
        const JsonValue *machines = json_value_member(json_value_member(f->machines, "node"), "nodes");

        for (size_t i = 0; i < json_value_count(machines); i++) {
                const JsonValue *machine = json_value_item(machines, i),
                                *keys = json_value_member(child(machine, "metadata"), "nodes");
                const char *id = last_part(member_text(machine, "key"));

                for (size_t k = 0; k < json_value_count(keys) && machine_id_is_valid(id); k++) {
                        const JsonValue *key = json_value_item(keys, k);
                        const char *name = last_part(member_text(key, "key")),
                                   *value = member_text(key, "value");
                        _cleanup_text_ Text path = {};

                        if (machine_metadata_check(name, value, NULL) < 0)
                                continue;
                        text_printf(&path, "/%s/metadata/%s", id, name);
                        json_open(&f->patch, NULL, '{');
                        json_add_string(&f->patch, "op", *value ? "add" : "remove");
                        json_add_string(&f->patch, "path", path.chars);
                        json_add_string(&f->patch, "value", value);
                        json_close(&f->patch, '}');
                        f->n_metadata++;
                }
        }
}

static int by_name(const void *a, const void *b) {
        return strcmp(((const Imported *) a)->name, ((const Imported *) b)->name);
}

/* Read all units and metadata. One corrupt unit is an error: an administrator has to decide about such a
 * registry. */
static int fleet_read(Client *c, Fleet *f, Error *err) {
        const JsonValue *jobs;
        int r;

        r = connection_new(&(ConnectionSettings) { .endpoint = c->options.etcd,
                                                   .read_ms = c->options.request_timeout_ms ?: ETCD_MS,
                                                   .write_ms = ETCD_MS,
                                                   .debug = c->options.debug },
                           &f->etcd, err);
        if (r < 0)
                return r;
        r = read_directory(c, f, "job", &f->jobs, err);
        if (r < 0)
                return r;
        r = read_directory(c, f, "unit", &f->contents, err);
        if (r < 0)
                return r;
        r = read_directory(c, f, "machines", &f->machines, err);
        if (r < 0)
                return r;
        if (!f->jobs)
                return error_set(err, -ENOENT,
                                 "no registry of fleet in this etcd: no job/ below the prefix; see "
                                 "--etcd-key-prefix");

        jobs = json_value_member(json_value_member(f->jobs, "node"), "nodes");
        json_open(&f->patch, NULL, '[');
        for (size_t i = 0; i < json_value_count(jobs); i++) {
                r = read_job(f, json_value_item(jobs, i), err);
                if (r < 0)
                        return r;
        }
        read_metadata(f);
        json_close(&f->patch, ']');
        if (f->n > 0)
                qsort(f->units, f->n, sizeof(*f->units), by_name);
        return f->patch.error;
}

/* -- Comparison with this cluster -- */

static int compare(Client *c, Fleet *f, size_t *ret_new, Error *err) {
        _cleanup_listing_ Listing existing = {};
        int r;

        r = client_units(c, &existing, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < f->n; i++) {
                Imported *u = &f->units[i];
                _cleanup_unit_ Unit *unit = NULL;
                const ApiUnit *other;

                if (u->rejected) {
                        u->action = u->rejected;
                        continue;
                }
                r = unit_read(u->name, u->text, strlen(u->text), &unit, err);
                if (r < 0)
                        return r;
                other = listing_unit(&existing, u->name);
                u->action = action_import;
                if (other)
                        u->action = other->hash && streq(other->hash, unit->hash) ?
                                            "exists" :
                                            "exists with another text";
                *ret_new += u->action == action_import;
        }
        return 0;
}

static int print_units(const Fleet *f) {
        _cleanup_table_ Table *t = table_new("UNIT,DSTATE,ACTION");

        for (size_t i = 0; t && i < f->n; i++) {
                const char *cells[] = { f->units[i].name, target_state_to_string(f->units[i].target),
                                        f->units[i].action };

                if (table_add_row(t, cells) < 0)
                        return -ENOMEM;
        }
        return t ? table_print(t, true) : -ENOMEM;
}

static int import_units(Client *c, const Fleet *f, Error *err) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, f->n + 1);
        size_t n = 0;
        int r;

        if (!units)
                return -ENOMEM;
        if (f->n_metadata > 0) {
                r = client_request(c, "PATCH", "/fleet/v1/machines", &f->patch, NULL, err);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < f->n; i++) {
                if (f->units[i].action != action_import)
                        continue;
                units[n] = client_change_of(f->units[i].name);
                units[n].text = f->units[i].text;
                units[n].desired_state = f->units[i].target;
                units[n++].keep = true;
        }
        return client_change(c, units, n, err);
}

/* Print the error of a step that changes nothing. */
static int fail_unchanged(int r, const Error *err) {
        fprintf(stderr, "fleetctl: %s\nfleetctl: nothing was changed\n", error_text(err, r));
        return EXIT_FAILED;
}

int verb_import(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(fleet_done) Fleet f = {};
        size_t n_new = 0;
        int r;

        if (!c->options.etcd || n > 0)
                return client_usage("import: expected --etcd=http://HOST:2379");
        r = fleet_read(c, &f, err);
        if (r < 0)
                return fail_unchanged(r, err);
        r = compare(c, &f, &n_new, err);
        if (r < 0)
                return fail_unchanged(r, err);
        r = print_units(&f);
        if (r < 0)
                return fail_unchanged(r, err);
        if (n_new == 0 && f.n_metadata == 0) {
                client_note("nothing to import");
                return EXIT_DONE;
        }
        if (!client_confirm(
                    c, "Import?",
                    "%zu units and %zu metadata of machines are imported. Stop the old fleet first: its "
                    "units continue to run.",
                    n_new, f.n_metadata))
                return EXIT_FAILED;
        r = import_units(c, &f, err);
        if (r < 0)
                return r;
        printf("Imported %zu units and %zu metadata of machines\n", n_new, f.n_metadata);
        return EXIT_DONE;
}
