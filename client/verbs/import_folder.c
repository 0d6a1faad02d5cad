/* import of a folder that export has written (client/verbs/export.c). All is read and compared first, so that
 * an error or a name that exists with another content changes nothing. Then keys, metadata and units are
 * written, in this order: units may need the others when they start. An import that was interrupted is
 * repeated: what exists counts as imported. */
#include <dirent.h>
#include <fcntl.h>

#include "base/file.h"
#include "client/verbs/export.h"
#include "client/verbs/import.h"
#include "client/verbs/snapshot.h"
#include "units/machine.h"

enum {
        UNITS_MAX = 100000,
        KEYS_NAMED_MAX = 10, /* keys with another value that are printed */
};

typedef struct Folder {
        Client *client;
        const char *path; /* borrowed */
        int fd;
        FILE *keys;
        ImportUnits units;
        JsonValue *targets;
        SnapshotNodes existing;                       /* keys of the cluster */
        const char *machine;                          /* whose metadata is read; borrowed */
        size_t n_new, n_existing, n_differing, n_set; /* keys */
        size_t n_new_dirs;
} Folder;

static void folder_done(Folder *f) {
        closep(&f->fd);
        if (f->keys)
                (void) fclose(f->keys);
        import_units_done(&f->units);
        json_value_free(f->targets);
        snapshot_nodes_done(&f->existing);
}

/* -- Reading -- */

static int read_object(const Folder *f, const char *name, JsonValue **ret, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_file_at(f->fd, name, JSON_SIZE_MAX, &text, &size);
        if (r < 0)
                return error_set(err, r, "Failed to read %s/%s: %s", f->path, name,
                                 r == -ELOOP ? "symbolic links are not followed" : strerror(-r));
        TRY_PREFIX(json_value_parse_large(text, size, &root, err), err, "%s/%s", f->path, name);
        if (json_value_type(root) != JSON_VALUE_OBJECT)
                return error_set(err, -EBADMSG, "%s/%s: expected an object", f->path, name);
        *ret = TAKE_PTR(root);
        return 0;
}

static int read_description(const Folder *f, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        uint64_t format;

        if (faccessat(f->fd, "export.json", F_OK, 0) < 0 && errno == ENOENT)
                return error_set(err, -ENOENT, "%s has no export.json: it is no export; see fleetctl export",
                                 f->path);
        TRY(read_object(f, "export.json", &root, err));
        format = member_number(root, "format");
        if (format == 0)
                return error_set(err, -EBADMSG, "%s/export.json has no format: it is no export", f->path);
        return format > EXPORT_FORMAT ?
                       error_set(err, -ENOTSUP,
                                 "%s was written by a newer fleetctl (format %llu); upgrade this one",
                                 f->path, (unsigned long long) format) :
                       0;
}

static int folder_read_unit(Folder *f, int units_fd, const char *name, Error *err) {
        const char *word = json_value_string(json_value_member(f->targets, name));
        TargetState target = word ? target_state_from_string(word) : TARGET_INACTIVE;
        char *text = NULL;
        size_t size;
        int r;

        if (target < 0)
                return error_set(err, -EBADMSG,
                                 "%s/targets.json: %s: '%.32s': expected inactive, loaded or launched",
                                 f->path, name, word);
        r = read_file_at(units_fd, name, UNIT_SIZE_MAX, &text, &size);
        if (r < 0)
                return error_set(err, r, "Failed to read %s/units/%s: %s", f->path, name,
                                 r == -ELOOP ? "symbolic links are not followed" : strerror(-r));
        if (memchr(text, 0, size)) {
                free(text);
                return error_set(err, -EBADMSG, "%s/units/%s contains a NUL byte", f->path, name);
        }
        return import_add(&f->units, name, text, target, err);
}

/* A unit without its file is an error: an incomplete copy must not pass for the cluster. */
static int check_target(void *userdata, const char *name, const JsonValue *v) {
        const Folder *f = userdata;
        _cleanup_free_ char *path = NULL;

        if (strchr(name, '/') || asprintf(&path, "units/%s", name) < 0)
                return -EINVAL;
        return faccessat(f->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? -ENOENT : 0;
}

static int read_units(Folder *f, Error *err) {
        _cleanup_close_ int fd = openat(f->fd, "units", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        char **names = NULL;
        size_t n = 0;
        int r;

        if (fd < 0)
                return error_set(err, -errno, "Failed to open %s/units: %s", f->path, strerror(errno));
        TRY(read_object(f, "targets.json", &f->targets, err));
        if (json_value_each(f->targets, check_target, f) < 0)
                return error_set(err, -ENOENT, "%s/targets.json names a unit without a file in %s/units",
                                 f->path, f->path);
        r = list_folder_at(fd, ".", NULL, UNITS_MAX, &names, &n);
        if (r < 0)
                return error_set(err, r, "Failed to list %s/units: %s", f->path,
                                 r == -E2BIG ? "more than 100000 files" : strerror(-r));
        for (size_t i = 0; i < n && r >= 0; i++)
                r = folder_read_unit(f, fd, names[i], err);
        strings_free(names, n);
        return r;
}

static int add_metadata(void *userdata, const char *name, const JsonValue *v) {
        Folder *f = userdata;
        const char *value = json_value_string(v);

        return value ? import_add_metadata(&f->units, f->machine, name, value) : -EBADMSG;
}

static int folder_add_machine(void *userdata, const char *name, const JsonValue *v) {
        Folder *f = userdata;

        f->machine = name;
        return json_value_type(v) == JSON_VALUE_OBJECT && machine_id_is_valid(name) ?
                       json_value_each(v, add_metadata, f) :
                       -EBADMSG;
}

static int folder_read_metadata(Folder *f, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        int r;

        TRY(read_object(f, "metadata.json", &root, err));
        r = json_value_each(root, folder_add_machine, f);
        return r == -EBADMSG ?
                       error_set(err, r, "%s/metadata.json: expected {\"MACHINE ID\":{\"KEY\":\"VALUE\"}}",
                                 f->path) :
                       r;
}

/* -- Keys -- */

static const SnapshotNode *existing_key(const Folder *f, const KvListed *node) {
        _cleanup_text_ Text key = {};

        text_append_char(&key, '/');
        text_append_bytes(&key, node->key, node->key_size);
        return key.error < 0 ? NULL : snapshot_find(&f->existing, key.chars, key.size);
}

static bool key_differs(const SnapshotNode *there, const KvListed *node) {
        return there->dir != node->dir || there->value_size != node->value_size ||
               memcmp(there->value, node->value, node->value_size) != 0;
}

static int compare_key(void *userdata, const KvListed *node, Error *err) {
        Folder *f = userdata;
        const SnapshotNode *there = existing_key(f, node);

        if (!there && node->dir)
                f->n_new_dirs++;
        else if (!there)
                f->n_new++;
        else if (!key_differs(there, node))
                f->n_existing++;
        else if (++f->n_differing <= KEYS_NAMED_MAX && !f->client->options.replace)
                client_note("/%.*s: exists with another value", (int) node->key_size, node->key);
        return 0;
}

static int set_key(void *userdata, const KvListed *node, Error *err) {
        Folder *f = userdata;
        const SnapshotNode *there = existing_key(f, node);
        _cleanup_kv_request_ KvRequest request = {};

        if (there && !key_differs(there, node))
                return 0;
        TRY_PREFIX(kv_put(f->client, "", node, there != NULL, &request, err), err, "/%.*s",
                   (int) node->key_size, node->key);
        f->n_set += !node->dir;
        return 0;
}

static int each_key(Folder *f, int (*each)(void *userdata, const KvListed *node, Error *err), Error *err) {
        rewind(f->keys);
        TRY_PREFIX(kv_import_lines(f->keys, each, f, err), err, "%s/keys.json", f->path);
        return 0;
}

static int compare_keys(Folder *f, Error *err) {
        int fd;

        fd = openat(f->fd, "keys.json", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return error_set(err, -errno, "Failed to open %s/keys.json: %s", f->path, strerror(errno));
        f->keys = fdopen(fd, "r");
        if (!f->keys) {
                close(fd);
                return -ENOMEM;
        }
        TRY(snapshot_read_keys(f->client, &f->existing, err));
        return each_key(f, compare_key, err);
}

/* -- The verb -- */

static int folder_read_all(Folder *f, Error *err) {
        f->fd = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (f->fd < 0)
                return error_set(err, -errno, "Failed to open %s: %s", f->path, strerror(errno));
        TRY(read_description(f, err));
        TRY(read_units(f, err));
        TRY(folder_read_metadata(f, err));
        TRY(import_compare(f->client, &f->units, f->client->options.replace, err));
        return compare_keys(f, err);
}

static void print_json(const Folder *f) {
        _cleanup_text_ Text t = {};

        json_open(&t, NULL, '{');
        json_open(&t, "keys", '{');
        json_add_u64(&t, "differing", f->n_differing);
        json_add_u64(&t, "existing", f->n_existing);
        json_add_u64(&t, "new", f->n_new);
        json_close(&t, '}');
        json_add_u64(&t, "metadata", f->units.n_metadata_new);
        json_open(&t, "units", '[');
        for (size_t i = 0; i < f->units.n; i++) {
                const ImportUnit *u = &f->units.items[i];

                json_open(&t, NULL, '{');
                json_add_string(&t, "action", import_action_name(u));
                json_add_string(&t, "desiredState", target_state_to_string(u->target));
                json_add_string(&t, "name", u->name);
                json_close(&t, '}');
        }
        json_close(&t, ']');
        json_close(&t, '}');
        (void) output_built(&t);
}

/* Print what differs and how to continue. Return false: nothing may be written. */
static bool folder_may_be_imported(const Folder *f) {
        const size_t *n = f->units.counts;

        if (n[IMPORT_REJECTED] > 0) {
                client_note("rejected: %zu unit%s; correct them in %s/units; nothing was changed",
                            n[IMPORT_REJECTED], plural(n[IMPORT_REJECTED]), f->path);
                return false;
        }
        if (f->client->options.replace || n[IMPORT_DIFFERS] + f->n_differing == 0)
                return true;
        client_note("%zu unit%s and %zu key%s with another content: --replace replaces them; nothing was "
                    "changed",
                    n[IMPORT_DIFFERS], plural(n[IMPORT_DIFFERS]), f->n_differing, plural(f->n_differing));
        return false;
}

static int folder_send(Folder *f, Error *err) {
        int r;

        r = each_key(f, set_key, err);
        if (r < 0) {
                client_note("set before this error: %zu key%s; repeat the import to complete it", f->n_set,
                            plural(f->n_set));
                return r;
        }
        TRY_PREFIX(import_send(f->client, &f->units, err), err,
                   "some units were not imported; repeat the import");
        return 0;
}

int import_folder(Client *c, const char *dir, Error *err) {
        _cleanup_(folder_done) Folder f = { .client = c, .path = dir, .fd = -1 };
        bool json = streq(c->options.output, "json");
        const size_t *n = f.units.counts;
        size_t n_units, n_keys;
        int r;

        r = folder_read_all(&f, err);
        if (r < 0)
                return import_fail_unchanged(r, err);
        if (json)
                print_json(&f);
        else {
                r = import_print(&f.units);
                if (r < 0)
                        return import_fail_unchanged(r, err);
        }
        if (!folder_may_be_imported(&f))
                return EXIT_FAILED;
        n_units = n[IMPORT_CREATE] + n[IMPORT_REPLACE];
        n_keys = f.n_new + f.n_differing;
        if (n_units + n_keys + f.n_new_dirs + f.units.n_metadata_new == 0) {
                client_note("nothing to import");
                return EXIT_DONE;
        }
        if (!client_confirm(c, "Import?", "%zu unit%s, %zu metadata of machines and %zu key%s are imported.",
                            n_units, plural(n_units), f.units.n_metadata_new, n_keys, plural(n_keys)))
                return EXIT_FAILED;
        TRY(folder_send(&f, err));
        if (!json)
                printf("Imported %zu unit%s, %zu metadata of machines and %zu key%s\n", n_units,
                       plural(n_units), f.units.n_metadata_new, n_keys, plural(n_keys));
        return EXIT_DONE;
}
