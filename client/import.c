/* import: moves the units of a fleet out of its etcd, as fleet 0.9 to 1.0 laid them out (prefix
 * /_coreos.com/fleet):
 *
 *   job/NAME/object         {"Name":"NAME","UnitHash":[20 numbers]}
 *   job/NAME/target-state   inactive, loaded or launched; none: inactive
 *   unit/HEX                {"Raw":"the unit's text"}, shared by all units of that hash
 *   machines/ID/metadata/K  what people gave a machine; empty: they took it away
 *
 * All else has a time to live, and is the old cluster's own. Nothing is written there. First all of it is
 * read and checked, then it is shown, and then done. A unit that this cluster rejects is listed with the
 * reason and left out. */
#include <errno.h>
#include <stdio.h>

#include "client/client.h"
#include "client/output.h"
#include "units/machine.h"
#include "units/name.h"

typedef struct Imported {
        char *name, *text; /* owned */
        TargetState target;
        char *rejected;     /* owned; why this cluster does not take the unit, NULL: it does */
        const char *action; /* of a table's: "import", or why not; borrowed */
} Imported;

typedef struct Fleet {
        Connection *etcd;
        JsonValue *jobs, *contents, *machines; /* owned; NULL: the directory is not there */
        Imported *units;
        size_t n, capacity;
        Text patch; /* metadata, as PATCH takes it */
        size_t n_metadata;
} Fleet;

static void fleet_done(Fleet *f) {
        for (size_t i = 0; i < f->n; i++) {
                free(f->units[i].name);
                free(f->units[i].text);
                free(f->units[i].rejected);
        }
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
        if (path.error < 0)
                return path.error;
        r = connection_request(f->etcd, "GET", path.chars, NULL, NULL, &reply, err);
        if (r < 0)
                return error_prefix(err, r, "etcd");
        if (reply.status == 404)
                return 0;
        if (reply.status != 200)
                return error_set(err, -EREMOTEIO, "etcd answers %ld to %s: is its v2 API on (--enable-v2)?",
                                 reply.status, path.chars);
        r = json_value_parse(reply.body.chars, reply.body.size, ret, err);
        return r < 0 ? error_prefix(err, r, "etcd's answer to %s", path.chars) : 0;
}

static const JsonValue *nodes_of(const JsonValue *node) {
        return json_value_member(node, "nodes");
}

static const char *text_of(const JsonValue *v, const char *member) {
        return json_value_string(json_value_member(v, member)) ?: "";
}

static const char *last_part(const char *key) {
        const char *slash = strrchr(key, '/');

        return slash ? slash + 1 : key;
}

/* The child of that name, or NULL. */
static const JsonValue *child(const JsonValue *node, const char *name) {
        const JsonValue *nodes = nodes_of(node);

        for (size_t i = 0; i < json_value_count(nodes); i++)
                if (streq(last_part(text_of(json_value_item(nodes, i), "key")), name))
                        return json_value_item(nodes, i);
        return NULL;
}

/* "UnitHash":[28,111,...] as 40 hex digits. */
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

/* The text of that hash, and whether it is what it says. The caller frees. */
static int read_contents(const Fleet *f, const char *hash, char **ret, Error *err) {
        const JsonValue *node = child(json_value_member(f->contents, "node"), hash);
        _cleanup_json_ JsonValue *value = NULL;
        _cleanup_unit_file_ UnitFile file = {};
        char found[UNIT_HASH_SIZE];
        const char *raw;
        int r;

        if (!node)
                return error_set(err, -ENOENT, "its contents (hash %.7s) are not in etcd", hash);
        r = json_value_parse(text_of(node, "value"), strlen(text_of(node, "value")), &value, err);
        if (r < 0)
                return error_prefix(err, r, "contents of hash %.7s", hash);
        raw = text_of(value, "Raw");
        r = unit_file_parse(raw, strlen(raw), UNIT_FILE_LITERAL, &file, err);
        if (r >= 0)
                r = unit_file_hash(&file, found);
        if (r < 0)
                return r;
        if (!streq(found, hash))
                return error_set(err, -EBADMSG, "its contents have the hash %.7s, and should have %.7s",
                                 found, hash);
        *ret = strdup(raw);
        return *ret ? 0 : -ENOMEM;
}

static int read_job(Fleet *f, const JsonValue *job, Error *err) {
        const JsonValue *object = child(job, "object"), *target = child(job, "target-state");
        const char *name = last_part(text_of(job, "key"));
        _cleanup_warnings_ Warnings faults = {}, warnings = {};
        _cleanup_json_ JsonValue *value = NULL;
        _cleanup_free_ char *text = NULL, *copy = NULL, *rejected = NULL;
        TargetState state = TARGET_INACTIVE;
        char hash[UNIT_HASH_SIZE];
        int r;

        if (!object)
                return 0; /* what is left of a unit that was destroyed */
        r = json_value_parse(text_of(object, "value"), strlen(text_of(object, "value")), &value, err);
        if (r >= 0 && read_hash(value, hash) < 0)
                r = error_set(err, -EBADMSG, "its object has no UnitHash of 20 bytes");
        if (r >= 0)
                r = read_contents(f, hash, &text, err);
        if (r >= 0 && target) {
                state = target_state_from_string(text_of(target, "value"));
                if (state < 0)
                        r = error_set(err, -EBADMSG,
                                      "target state '%.32s' is none of inactive, loaded, launched",
                                      text_of(target, "value"));
        }
        if (r >= 0)
                r = unit_verify(name, text, strlen(text), &faults, &warnings);
        if (r < 0)
                return error_prefix(err, r, "%s", name);

        copy = strdup(name);
        if (faults.n > 0 && asprintf(&rejected, "rejected: %s", faults.items[0].message) < 0)
                return -ENOMEM;
        if (!copy || GROW(f->units, f->capacity, f->n + 1) < 0)
                return -ENOMEM;
        f->units[f->n++] = (Imported) { .name = TAKE_PTR(copy),
                                        .text = TAKE_PTR(text),
                                        .target = state,
                                        .rejected = TAKE_PTR(rejected) };
        return 0;
}

static void read_metadata(Fleet *f) {
        const JsonValue *machines = nodes_of(json_value_member(f->machines, "node"));

        for (size_t i = 0; i < json_value_count(machines); i++) {
                const JsonValue *machine = json_value_item(machines, i),
                                *keys = nodes_of(child(machine, "metadata"));
                const char *id = last_part(text_of(machine, "key"));

                for (size_t k = 0; k < json_value_count(keys) && machine_id_is_valid(id); k++) {
                        const JsonValue *key = json_value_item(keys, k);
                        const char *name = last_part(text_of(key, "key")), *value = text_of(key, "value");
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

/* Everything, or nothing: a registry that is half readable is looked at by a person first. */
static int fleet_read(Client *c, Fleet *f, Error *err) {
        const JsonValue *jobs;
        int r;

        r = connection_new(&(ConnectionSettings) { .endpoint = c->options.etcd,
                                                   .read_ms = c->options.request_timeout_ms ?: 10000,
                                                   .write_ms = 10000,
                                                   .ca_file = "",
                                                   .cert_file = "",
                                                   .key_file = "",
                                                   .debug = c->options.debug },
                           &f->etcd, err);
        if (r >= 0)
                r = read_directory(c, f, "job", &f->jobs, err);
        if (r >= 0)
                r = read_directory(c, f, "unit", &f->contents, err);
        if (r >= 0)
                r = read_directory(c, f, "machines", &f->machines, err);
        if (r < 0)
                return r;
        if (!f->jobs)
                return error_set(
                        err, -ENOENT,
                        "there is no fleet in this etcd: no job/ below the prefix; see --etcd-key-prefix");

        jobs = nodes_of(json_value_member(f->jobs, "node"));
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

/* -- What is there already stays -- */

static int compare(Client *c, Fleet *f, size_t *ret_new, Error *err) {
        _cleanup_listing_ Listing there = {};
        int r;

        r = client_units(c, &there, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < f->n; i++) {
                Imported *u = &f->units[i];
                _cleanup_unit_ Unit *unit = NULL;

                if (u->rejected) {
                        u->action = u->rejected;
                        continue;
                }
                r = unit_read(u->name, u->text, strlen(u->text), &unit, err);
                if (r < 0)
                        return r;
                u->action = "import";
                for (size_t k = 0; k < there.n; k++)
                        if (there.units[k].name && streq(there.units[k].name, u->name))
                                u->action = there.units[k].hash && streq(there.units[k].hash, unit->hash) ?
                                                    "there already" :
                                                    "there already, and different";
                *ret_new += streq(u->action, "import");
        }
        return 0;
}

static int show(const Fleet *f) {
        static const char *const headers[] = { "UNIT", "DSTATE", "ACTION" };
        _cleanup_table_ Table *t = table_new(headers, ELEMENTS(headers));
        int r = t ? 0 : -ENOMEM;

        for (size_t i = 0; i < f->n && r >= 0; i++) {
                const char *cells[] = { f->units[i].name, target_state_to_string(f->units[i].target),
                                        f->units[i].action };

                for (size_t k = 0; k < ELEMENTS(cells) && r >= 0; k++)
                        r = table_add(t, cells[k]);
        }
        return r < 0 ? r : table_print(t, true);
}

static bool is_meant(const Client *c, size_t n, size_t n_metadata) {
        if (c->options.yes)
                return true;
        if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
                fprintf(stderr,
                        "fleetctl: nothing was changed; with --yes %zu units and %zu metadata of machines "
                        "are imported\n",
                        n, n_metadata);
                return false;
        }
        fprintf(stderr,
                "Import %zu units and %zu metadata of machines? Stop the old fleet first: what runs there, "
                "runs on. [y/N] ",
                n, n_metadata);
        if (client_says_yes())
                return true;
        fputs("fleetctl: nothing was changed\n", stderr);
        return false;
}

static int carry_out(Client *c, const Fleet *f, size_t n_new, Error *err) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, f->n + 1);
        _cleanup_reply_ Reply reply = {};
        size_t n = 0;
        int r = units ? 0 : -ENOMEM;

        if (r >= 0 && f->n_metadata > 0) {
                r = connection_request(c->connection, "PATCH", "/fleet/v1/machines", "application/json",
                                       f->patch.chars, &reply, err);
                if (r >= 0)
                        r = reply_check(&reply, err);
        }
        for (size_t i = 0; i < f->n && r >= 0; i++) {
                if (!streq(f->units[i].action, "import"))
                        continue;
                units[n] = API_UNIT_EMPTY;
                units[n].name = f->units[i].name;
                units[n].text = f->units[i].text;
                units[n].desired_state = f->units[i].target;
                units[n++].keep = true;
        }
        if (r >= 0)
                r = client_change(c, units, n, err);
        if (r >= 0)
                printf("Imported %zu units and %zu metadata of machines\n", n_new, f->n_metadata);
        return r;
}

int verb_import(Client *c, char **args, size_t n) {
        _cleanup_(fleet_done) Fleet f = {};
        size_t n_new = 0;
        Error err = {};
        int r;

        if (!c->options.etcd || n > 0) {
                fputs("fleetctl: say from where: fleetctl import --etcd=http://HOST:2379\n", stderr);
                return EXIT_USAGE;
        }
        r = fleet_read(c, &f, &err);
        if (r >= 0)
                r = compare(c, &f, &n_new, &err);
        if (r >= 0)
                r = show(&f);
        if (r < 0) {
                fprintf(stderr, "fleetctl: %s\nfleetctl: nothing was changed\n", error_text(&err, r));
                return EXIT_FAILED;
        }
        if (n_new == 0 && f.n_metadata == 0) {
                fputs("fleetctl: there is nothing to import\n", stderr);
                return EXIT_DONE;
        }
        if (!is_meant(c, n_new, f.n_metadata))
                return EXIT_FAILED;
        r = carry_out(c, &f, n_new, &err);
        return r < 0 ? client_fail(r, &err, "%s", "") : EXIT_DONE;
}
