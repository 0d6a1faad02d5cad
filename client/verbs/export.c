/* export: write the units, target states, metadata of machines and keys of the cluster to a folder, all at
 * one index.
 *
 *   export.json     {"cluster","format":1,"index","time"}: what it is, and that it is complete
 *   units/NAME      the text of each unit as submitted
 *   targets.json    {"NAME":"launched"}
 *   metadata.json   {"MACHINE ID":{"KEY":"VALUE"}}, as set by users; an empty value hides that of the machine
 *   keys.json       the keys of users, in the format of kv export
 *
 * The folder is written beside its final name, synced, and renamed: it is complete, or absent. Nodes with a
 * time to live are left out: as a copy, the announcement of a service or a lock would never end. */
#include "client/verbs/export.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "base/file.h"
#include "client/verbs/snapshot.h"
#include "client/core/temporary.h"
#include "units/machine.h"

typedef struct Exporter {
        Snapshot snapshot;
        char *path;      /* final name */
        char *temporary; /* beside it; "" once it is renamed */
        int fd;          /* of 'temporary' */
        size_t n_units, n_metadata, n_keys, n_expiring;
        /* While the keys are written: */
        const SnapshotNode *next, *omitted; /* 'omitted': a directory with a time to live */
} Exporter;

static void exporter_done(Exporter *x) {
        if (x->temporary && x->temporary[0])
                (void) remove_tree_at(AT_FDCWD, x->temporary);
        temporary_forget(x->temporary);
        closep(&x->fd);
        free(x->temporary);
        free(x->path);
        snapshot_done(&x->snapshot);
}

/* -- The folder -- */

/* Check that the final name is new or an empty folder, and create the folder beside it. */
static int exporter_open(Exporter *x, const char *dir, Error *err) {
        _cleanup_free_ char *real = realpath(dir, NULL), *copy = strdup(dir);
        char **names = NULL;
        size_t n = 0;
        int r;

        if (!copy)
                return -ENOMEM;
        if (!real && errno != ENOENT)
                return error_set(err, -errno, "Failed to write %s: %s", dir, strerror(errno));
        for (size_t size = strlen(copy); size > 1 && copy[size - 1] == '/'; size--)
                copy[size - 1] = 0;
        r = real ? list_folder_at(AT_FDCWD, real, NULL, 1, &names, &n) : 0;
        strings_free(names, n);
        if (r == -E2BIG || (r == 0 && n > 0))
                return error_set(err, -EEXIST, "%s is not empty: an export needs a new or an empty folder",
                                 dir);
        if (r < 0)
                return error_set(err, r, "Failed to write %s: %s", dir, strerror(-r));
        x->path = real ? TAKE_PTR(real) : TAKE_PTR(copy);
        if (asprintf(&x->temporary, "%s.new-XXXXXX", x->path) < 0) {
                x->temporary = NULL;
                return -ENOMEM;
        }
        if (!mkdtemp(x->temporary)) {
                r = error_set(err, -errno, "Failed to create a folder beside %s: %s", dir, strerror(errno));
                x->temporary[0] = 0;
                return r;
        }
        temporary_add(x->temporary);
        x->fd = open(x->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (x->fd < 0 || mkdirat(x->fd, "units", 0700) < 0)
                return error_set(err, -errno, "Failed to create %s: %s", x->temporary, strerror(errno));
        return 0;
}

static int create_file(const Exporter *x, const char *name, int *ret_fd, Error *err) {
        *ret_fd = openat(x->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        return *ret_fd < 0 ?
                       error_set(err, -errno, "Failed to create %s/%s: %s", x->path, name, strerror(errno)) :
                       0;
}

static int export_write_file(const Exporter *x, const char *name, const void *bytes, size_t size,
                             Error *err) {
        _cleanup_close_ int fd = -1;
        int r;

        TRY(create_file(x, name, &fd, err));
        r = write_all(fd, bytes, size);
        return r < 0 ? error_set(err, r, "Failed to write %s/%s: %s", x->path, name, strerror(-r)) : 0;
}

static int write_text(const Exporter *x, const char *name, const Text *t, Error *err) {
        return t->error < 0 ? t->error : export_write_file(x, name, t->chars, t->size, err);
}

/* Sync all files, and rename the folder. */
static int exporter_commit(Exporter *x, Error *err) {
        if (syncfs(x->fd) < 0)
                return error_set(err, -errno, "Failed to sync %s: %s", x->path, strerror(errno));
        if (rename(x->temporary, x->path) < 0)
                return error_set(err, -errno, "Failed to rename %s to %s: %s", x->temporary, x->path,
                                 strerror(errno));
        temporary_forget(x->temporary);
        x->temporary[0] = 0;
        return syncfs(x->fd) < 0 ? error_set(err, -errno, "Failed to sync %s: %s", x->path, strerror(errno)) :
                                   0;
}

/* -- Contents -- */

static const char unit_prefix[] = "/_fleet/unit/", target_prefix[] = "/_fleet/target/",
                  machine_prefix[] = "/_fleet/machine/", metadata_part[] = "/metadata/";

static const char *target_of(const Exporter *x, const char *name) {
        _cleanup_text_ Text key = {};
        const SnapshotNode *n;

        text_printf(&key, "%s%s", target_prefix, name);
        n = key.error < 0 ? NULL : snapshot_find(&x->snapshot.fleet, key.chars, key.size);
        return n ? n->value : "inactive";
}

static int write_unit(Exporter *x, const SnapshotNode *node, Text *targets, Error *err) {
        const char *name = node->key + strlen(unit_prefix);
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_free_ char *path = NULL;

        if (strlen(node->key) != node->key_size || unit_name_check(name, NULL) < 0)
                return error_set(err, -EBADMSG, "fleetd's answer: %.200s is no unit", node->key);
        TRY_PREFIX(stored_unit_read(name, node->value, node->value_size, &unit, err), err, "%s", name);
        if (asprintf(&path, "units/%s", name) < 0)
                return -ENOMEM;
        TRY(export_write_file(x, path, unit->text, unit->text_size, err));
        text_append(targets, x->n_units++ > 0 ? ",\n  \"" : "\n  \"");
        text_append_json(targets, name, strlen(name));
        text_append(targets, "\": \"");
        text_append_json(targets, target_of(x, name), strlen(target_of(x, name)));
        text_append_char(targets, '"');
        return targets->error;
}

/* Append "ID": {"KEY": "VALUE"}; 'machine' is that of the previous pair. */
static void export_append_metadata(Exporter *x, const SnapshotNode *node,
                                   char machine[static MACHINE_ID_SIZE], Text *t) {
        const char *id = node->key + strlen(machine_prefix), *name = id + MACHINE_ID_SIZE - 1;
        bool same;

        if (node->key_size < strlen(machine_prefix) + MACHINE_ID_SIZE || !starts_with(name, metadata_part))
                return;
        name += strlen(metadata_part);
        same = memcmp(machine, id, MACHINE_ID_SIZE - 1) == 0;
        if (!same) {
                memcpy(machine, id, MACHINE_ID_SIZE - 1);
                text_append(t, x->n_metadata > 0 ? "\n  },\n  \"" : "\n  \"");
                text_append_json(t, machine, strlen(machine));
                text_append(t, "\": {");
        }
        text_append(t, same ? ",\n    \"" : "\n    \"");
        text_append_json(t, name, strlen(name));
        text_append(t, "\": \"");
        text_append_json(t, node->value, node->value_size);
        text_append_char(t, '"');
        x->n_metadata++;
}

static int export_write_units(Exporter *x, Error *err) {
        _cleanup_text_ Text targets = {}, metadata = {};
        char machine[MACHINE_ID_SIZE] = "";

        text_append_char(&targets, '{');
        text_append_char(&metadata, '{');
        for (const SnapshotNode *n = x->snapshot.fleet.table; n; n = n->hh.next) {
                if (n->dir)
                        continue;
                if (starts_with(n->key, machine_prefix))
                        export_append_metadata(x, n, machine, &metadata);
                if (!starts_with(n->key, unit_prefix))
                        continue;
                TRY(write_unit(x, n, &targets, err));
        }
        text_append(&targets, x->n_units > 0 ? "\n}\n" : "}\n");
        text_append(&metadata, x->n_metadata > 0 ? "\n  }\n}\n" : "}\n");
        TRY(write_text(x, "targets.json", &targets, err));
        return write_text(x, "metadata.json", &metadata, err);
}

/* Return whether the node, or the directory that holds it, has a time to live. */
static bool node_is_omitted(Exporter *x, const SnapshotNode *n) {
        const SnapshotNode *above = x->omitted;

        if (n->expires && n->dir)
                x->omitted = n;
        return n->expires || (above && n->key_size > above->key_size && n->key[above->key_size] == '/' &&
                              memcmp(n->key, above->key, above->key_size) == 0);
}

static int next_key(void *userdata, KvListed *ret) {
        Exporter *x = userdata;
        const SnapshotNode *n = x->next;

        for (; n && node_is_omitted(x, n); n = n->hh.next)
                x->n_expiring += !n->dir;
        if (!n)
                return 0;
        x->next = n->hh.next;
        x->n_keys += !n->dir;
        *ret = (KvListed) { .key = (char *) n->key,
                            .key_size = n->key_size,
                            .value = n->value,
                            .value_size = n->value_size,
                            .dir = n->dir };
        return 1;
}

static int write_keys(Exporter *x, Error *err) {
        _cleanup_close_ int fd = -1;
        int r;

        TRY(create_file(x, "keys.json", &fd, err));
        x->next = x->snapshot.keys.table;
        *err = (Error) {};
        r = kv_export_nodes(next_key, x, fd, err);
        if (r < 0 && !err->message[0])
                return error_set(err, r, "Failed to write %s/keys.json: %s", x->path, strerror(-r));
        return r;
}

static int write_description(const Exporter *x, Error *err) {
        _cleanup_text_ Text t = {};
        time_t now = time(NULL);
        char when[32] = "";
        struct tm tm;

        if (gmtime_r(&now, &tm))
                (void) strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
        json_open(&t, NULL, '{');
        json_add_string(&t, "cluster", x->snapshot.cluster_id);
        json_add_u64(&t, "format", EXPORT_FORMAT);
        json_add_u64(&t, "index", x->snapshot.index);
        json_add_string(&t, "time", when);
        json_close(&t, '}');
        text_append_char(&t, '\n');
        return write_text(x, "export.json", &t, err);
}

static int exporter_run(Client *c, Exporter *x, const char *dir, Error *err) {
        TRY(exporter_open(x, dir, err));
        TRY(snapshot_read(c, &x->snapshot, err));
        TRY(export_write_units(x, err));
        TRY(write_keys(x, err));
        TRY(write_description(x, err));
        return exporter_commit(x, err);
}

static void export_print_result(const Client *c, const Exporter *x) {
        _cleanup_text_ Text t = {};

        if (streq(c->options.output, "json")) {
                json_open(&t, NULL, '{');
                json_add_string(&t, "cluster", x->snapshot.cluster_id);
                json_add_string(&t, "directory", x->path);
                json_add_u64(&t, "expiring", x->n_expiring);
                json_add_u64(&t, "index", x->snapshot.index);
                json_add_u64(&t, "keys", x->n_keys);
                json_add_u64(&t, "metadata", x->n_metadata);
                json_add_u64(&t, "units", x->n_units);
                json_close(&t, '}');
                (void) output_built(&t);
                return;
        }
        printf("Exported %zu unit%s, %zu metadata of machines and %zu key%s at index %llu\n", x->n_units,
               plural(x->n_units), x->n_metadata, x->n_keys, plural(x->n_keys),
               (unsigned long long) x->snapshot.index);
        if (x->n_expiring > 0)
                client_note("left out, because of a time to live: %zu key%s", x->n_expiring,
                            plural(x->n_expiring));
}

static int export_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_(exporter_done) Exporter x = { .fd = -1 };

        if (n != 1)
                return client_usage("export: expected a folder, which is new or empty");
        TRY(exporter_run(c, &x, args[0], err));
        export_print_result(c, &x);
        return EXIT_DONE;
}

VERB(export, "export", "json", "DIR", "Write units, target states, metadata and keys to a folder",
     "All at one index, as text files: units/NAME, targets.json, metadata.json, keys.json. The folder is\n"
     "new or empty. Keys with a time to live are left out, and all that import cannot restore: assignments,\n"
     "the history, identities.\n\n"
     "fleetctl export /root/cluster\n",
     export_run);
