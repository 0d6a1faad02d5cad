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
#include "client/verbs/import.h"

enum { ETCD_MS = 10000 };

typedef struct Fleet {
        Connection *etcd;
        JsonValue *jobs, *contents, *machines; /* owned; NULL: the directory does not exist */
        ImportUnits units;
} Fleet;

static void fleet_done(Fleet *f) {
        import_units_done(&f->units);
        json_value_free(f->jobs);
        json_value_free(f->contents);
        json_value_free(f->machines);
        connection_free(f->etcd);
}

/* -- Reading -- */

static int read_directory(Client *c, Fleet *f, const char *name, JsonValue **ret, Error *err) {
        const char *prefix = *c->options.etcd_prefix ? c->options.etcd_prefix : "/_coreos.com/fleet/";
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};

        text_append(&path, "/v2/keys/");
        append_escaped(&path, prefix + (*prefix == '/'), true);
        text_printf(&path, "%s%s?recursive=true&quorum=true", ends_with(prefix, "/") ? "" : "/", name);
        TRY_PREFIX(connection_request(f->etcd, "GET", client_path(&path), NULL, NULL, &reply, err), err,
                   "etcd");
        if (reply.status == 404)
                return 0;
        if (reply.status != 200)
                return error_set(err, -EREMOTEIO,
                                 "etcd answers %ld to %s; check that its v2 API is enabled (--enable-v2)",
                                 reply.status, path.chars);
        TRY_PREFIX(json_value_parse(reply.body.chars, reply.body.size, ret, err), err, "etcd's answer to %s",
                   path.chars);
        return 0;
}

static const char *last_part(const char *key) {
        const char *slash = strrchr(key, '/');

        return slash ? slash + 1 : key;
}

/* Return the child of that name, or NULL. */
static const JsonValue *child(const JsonValue *node, const char *name) {
        JSON_EACH(item, json_value_member(node, "nodes"))
                if (streq(last_part(member_text(item, "key")), name))
                        return item;
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

        if (!node)
                return error_set(err, -ENOENT, "etcd has no text with hash %.7s", hash);
        TRY_PREFIX(
                json_value_parse(member_text(node, "value"), strlen(member_text(node, "value")), &value, err),
                err, "contents of hash %.7s", hash);
        raw = member_text(value, "Raw");
        TRY(unit_file_parse(raw, strlen(raw), UNIT_FILE_LITERAL, &file, err));
        TRY(unit_file_hash(&file, found));
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

static int fleet_read_unit(Fleet *f, const char *name, const JsonValue *job, Error *err) {
        const char *object = member_text(child(job, "object"), "value");
        _cleanup_json_ JsonValue *value = NULL;
        _cleanup_free_ char *text = NULL;
        TargetState target = TARGET_INACTIVE;
        char hash[UNIT_HASH_SIZE];

        TRY(json_value_parse(object, strlen(object), &value, err));
        if (read_hash(value, hash) < 0)
                return error_set(err, -EBADMSG, "object without a UnitHash of 20 bytes");
        TRY(read_contents(f, hash, &text, err));
        TRY(read_target(job, &target, err));
        return import_add(&f->units, name, TAKE_PTR(text), target, err);
}

static int read_job(Fleet *f, const JsonValue *job, Error *err) {
        const char *name = last_part(member_text(job, "key"));

        if (!child(job, "object"))
                return 0; /* a destroyed unit */
        TRY_PREFIX(fleet_read_unit(f, name, job, err), err, "%s", name);
        return 0;
}

static int fleet_read_metadata(Fleet *f) {
        const JsonValue *machines = json_value_member(json_value_member(f->machines, "node"), "nodes");

        JSON_EACH(machine, machines) {
                const char *id = last_part(member_text(machine, "key"));

                JSON_EACH(key, json_value_member(child(machine, "metadata"), "nodes"))
                        TRY(import_add_metadata(&f->units, id, last_part(member_text(key, "key")),
                                                member_text(key, "value")));
        }
        return 0;
}

/* Read all units and metadata. One corrupt unit is an error: an administrator has to decide about such a
 * registry. */
static int fleet_read(Client *c, Fleet *f, Error *err) {
        const JsonValue *jobs;

        TRY(connection_new(&(ConnectionSettings) { .endpoint = c->options.etcd,
                                                   .read_ms = c->options.request_timeout_ms ?: ETCD_MS,
                                                   .write_ms = ETCD_MS,
                                                   .debug = c->options.debug },
                           &f->etcd, err));
        TRY(read_directory(c, f, "job", &f->jobs, err));
        TRY(read_directory(c, f, "unit", &f->contents, err));
        TRY(read_directory(c, f, "machines", &f->machines, err));
        if (!f->jobs)
                return error_set(err, -ENOENT,
                                 "no registry of fleet in this etcd: no job/ below the prefix; see "
                                 "--etcd-key-prefix");

        jobs = json_value_member(json_value_member(f->jobs, "node"), "nodes");
        JSON_EACH(item, jobs)
                TRY(read_job(f, item, err));
        return fleet_read_metadata(f);
}

/* -- The verb -- */

static int import_etcd(Client *c, Error *err) {
        _cleanup_(fleet_done) Fleet f = {};
        size_t n_new;
        int r;

        r = fleet_read(c, &f, err);
        if (r < 0)
                return import_fail_unchanged(r, err);
        r = import_compare(c, &f.units, false, err);
        if (r < 0)
                return import_fail_unchanged(r, err);
        r = import_print(&f.units);
        if (r < 0)
                return import_fail_unchanged(r, err);
        n_new = f.units.counts[IMPORT_CREATE];
        if (n_new == 0 && f.units.n_metadata_new == 0) {
                client_note("nothing to import");
                return EXIT_DONE;
        }
        if (!client_confirm(
                    c, "Import?",
                    "%zu unit%s and %zu metadata of machines are imported. Stop the old fleet first: its "
                    "units continue to run.",
                    n_new, plural(n_new), f.units.n_metadata_new))
                return EXIT_FAILED;
        TRY(import_send(c, &f.units, err));
        printf("Imported %zu unit%s and %zu metadata of machines\n", n_new, plural(n_new),
               f.units.n_metadata_new);
        return EXIT_DONE;
}

static int import_run(Client *c, char **args, size_t n, Error *err) {
        if (n == (c->options.etcd ? 1 : 0) || n > 1)
                return client_usage("import: expected the folder of an export, or --etcd=http://HOST:2379");
        return c->options.etcd ? import_etcd(c, err) : import_folder(c, args[0], err);
}

VERB(import, "import", "yes json", "DIR|--etcd=URL",
     "Import the folder of an export, or the units of a fleet cluster",
     "Reads and checks all, shows the changes, and asks for confirmation. Units and keys that exist with\n"
     "another content are refused without --replace. Then nothing is changed.\n"
     "--etcd reads the units of a fleet cluster from its etcd. Existing units stay unchanged, and so does\n"
     "the etcd; units of the fleet cluster continue to run.\n\n"
     "fleetctl import /root/cluster\n"
     "fleetctl import --etcd=http://10.0.0.1:2379\n",
     import_run);
