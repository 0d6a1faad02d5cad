/* kv export and kv import: all below a key, as one JSON object of paths and values, or as a folder of files. A path is relative to
 * the key; an empty directory is there as a path that ends in a slash (JSON), or as an empty folder. Times to live and hidden keys
 * are left out. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "client/client.h"
#include "client/kv.h"

enum { FILE_MAX = 1024 * 1024, CODE_EXISTS = 105, CODE_NOT_FILE = 102 };

/* -- Export -- */

static const char *name_of(const char *key) {
        const char *slash = strrchr(key, '/');

        return slash ? slash + 1 : key;
}

static void write_json(Text *t, const JsonValue *dir, size_t base, unsigned level) {
        const JsonValue *nodes = json_value_member(dir, "nodes");

        for (size_t i = 0; i < json_value_count(nodes) && level < KV_LEVELS_MAX; i++) {
                const JsonValue *child = json_value_item(nodes, i);
                const char *key = kv_text_of(child, "key"), *value = kv_text_of(child, "value");
                bool empty = kv_is_dir(child) && json_value_count(json_value_member(child, "nodes")) == 0;

                if (kv_is_dir(child) && !empty) {
                        write_json(t, child, base, level + 1);
                        continue;
                }
                text_append(t, t->size > 1 ? ",\n  \"" : "\n  \"");
                text_append_json(t, key + base, strlen(key + base));
                text_append(t, empty ? "/\": \"" : "\": \"");
                text_append_json(t, value, strlen(value));
                text_append_char(t, '"');
        }
}

static int write_files(const JsonValue *dir, int dir_fd, unsigned level, Error *err) {
        const JsonValue *nodes = json_value_member(dir, "nodes");

        for (size_t i = 0; i < json_value_count(nodes); i++) {
                const JsonValue *child = json_value_item(nodes, i);
                const char *key = kv_text_of(child, "key"), *name = name_of(key), *value = kv_text_of(child, "value");
                int r = 0;

                if (level >= KV_LEVELS_MAX)
                        return error_set(err, -ELOOP, "%s: deeper than %d levels", key, KV_LEVELS_MAX);
                if (kv_is_dir(child)) {
                        _cleanup_close_ int fd = -1;

                        if (mkdirat(dir_fd, name, 0777) < 0 && errno != EEXIST)
                                return error_set(err, -errno, "cannot make a folder for %s: %s", key, strerror(errno));
                        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                        r = fd < 0 ? error_set(err, -errno, "cannot make a folder for %s: %s", key, strerror(errno)) : write_files(child, fd, level + 1, err);
                } else {
                        r = write_file_at(dir_fd, name, value, strlen(value), 0644);
                        if (r < 0)
                                r = error_set(err, r, "cannot write a file for %s: %s", key, strerror(-r));
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

int kv_export(Client *c, char **args, size_t n) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text path = {}, t = {};
        const JsonValue *node = NULL;
        const char *key;
        _cleanup_close_ int fd = -1;
        uint64_t code = 0;
        Error err = {};
        int r;

        if (n > 2)
                return kv_usage("kv export takes a key and a folder at most");
        kv_append_key(&path, n > 0 ? args[0] : "/");
        text_append(&path, c->options.quorum ? "?recursive=true&sorted=true&quorum=true" : "?recursive=true&sorted=true");
        r = kv_ask(c, "GET", &path, NULL, &root, &node, NULL, &code, &err);
        if (r < 0) {
                client_fail(r, &err, "Error:  ");
                return r == -EREMOTEIO ? EXIT_KV : EXIT_FAILED;
        }
        if (!kv_is_dir(node)) {
                fprintf(stderr, "%s: is no directory; fleetctl kv get %s\n", args[0], args[0]);
                return EXIT_FAILED;
        }
        key = kv_text_of(node, "key");
        if (n < 2) {
                text_append_char(&t, '{');
                write_json(&t, node, strlen(key) + 1, 0);
                text_append(&t, t.size > 1 ? "\n}" : "}");
                if (t.error < 0)
                        return client_fail(t.error, NULL, "%s", "");
                puts(t.chars);
                return EXIT_DONE;
        }
        fd = open_dir(args[1], 0777);
        r = fd < 0 ? error_set(&err, fd, "cannot make %s: %s", args[1], strerror(-fd)) : write_files(node, fd, 0, &err);
        return r < 0 ? client_fail(r, &err, "%s", "") : EXIT_DONE;
}

/* -- Import -- */

typedef struct Importing {
        Client *client;
        const char *base;
        size_t n;
        Error err;
} Importing;

/* 'value' NULL: a directory. */
static int put(Importing *im, const char *path, const char *value) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text key = {}, target = {}, form = {};
        const JsonValue *node;
        uint64_t code = 0;
        size_t base = strlen(im->base);
        int r;

        text_append(&key, im->base);
        if (base == 0 || im->base[base - 1] != '/')
                text_append_char(&key, '/');
        text_append(&key, path);
        while (key.size > 1 && key.chars[key.size - 1] == '/')
                key.chars[--key.size] = 0;
        if (key.error < 0)
                return key.error;
        kv_append_key(&target, key.chars);
        if (value)
                kv_add_field(&form, "value", value);
        else {
                kv_add_field(&form, "dir", "true");
                kv_add_field(&form, "prevExist", "false");
        }
        r = kv_ask(im->client, "PUT", &target, &form, &root, &node, NULL, &code, &im->err);
        if (r == -EREMOTEIO && !value && code == CODE_EXISTS)
                return 0;
        im->n += r == 0;
        return r < 0 ? error_prefix(&im->err, r, "%s", key.chars) : 0;
}

static int put_member(void *userdata, const char *name, const JsonValue *v) {
        Importing *im = userdata;
        const char *value = json_value_string(v);
        bool dir = ends_with(name, "/");

        if (!value)
                return error_set(&im->err, -EINVAL, "%s: expected a string; kv export shows the form", name);
        if (dir && *value)
                return error_set(&im->err, -EINVAL, "%s: a directory has no value", name);
        return put(im, name, dir ? NULL : value);
}

static int import_json(Importing *im, const char *text, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        int r;

        r = json_value_parse(text, size, &root, &im->err);
        if (r < 0)
                return r;
        if (json_value_type(root) != JSON_VALUE_OBJECT)
                return error_set(&im->err, -EINVAL, "expected one object of paths and values; kv export shows the form");
        return json_value_each(root, put_member, im);
}

static int no_dots(const struct dirent *d) {
        return !streq(d->d_name, ".") && !streq(d->d_name, "..");
}

static int import_folder(Importing *im, int dir_fd, const char *path, unsigned level);

static int import_entry(Importing *im, int dir_fd, const char *path, const char *name, unsigned level) {
        _cleanup_text_ Text child = {};
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *value = NULL;
        struct stat st;
        size_t size;
        int r;

        text_printf(&child, "%s%s%s", path, *path ? "/" : "", name);
        if (child.error < 0)
                return child.error;
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
                fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                return fd < 0 ? error_set(&im->err, -errno, "cannot read %s: %s", child.chars, strerror(errno)) : import_folder(im, fd, child.chars, level + 1);
        }
        r = read_file_at(dir_fd, name, FILE_MAX, &value, &size);
        if (r < 0)
                return error_set(&im->err, r, "cannot read %s: %s", child.chars, r == -ELOOP ? "it is a link" : strerror(-r));
        if (memchr(value, 0, size))
                return error_set(&im->err, -EINVAL, "cannot take %s: there is a NUL byte in it", child.chars);
        return put(im, child.chars, value);
}

static int import_folder(Importing *im, int dir_fd, const char *path, unsigned level) {
        struct dirent **names;
        int n, r = 0;

        if (level >= KV_LEVELS_MAX)
                return error_set(&im->err, -ELOOP, "%s: deeper than %d levels", path, KV_LEVELS_MAX);
        n = scandirat(dir_fd, ".", &names, no_dots, alphasort);
        if (n < 0)
                return error_set(&im->err, -errno, "cannot list %s: %s", path, strerror(errno));
        if (n == 0 && *path)
                r = put(im, path, NULL);
        for (int i = 0; i < n; i++) {
                if (r == 0)
                        r = import_entry(im, dir_fd, path, names[i]->d_name, level);
                free(names[i]);
        }
        free(names);
        return r;
}

static int import_stdin(Importing *im) {
        _cleanup_text_ Text t = {};
        char bytes[4096];
        size_t n;

        while ((n = fread(bytes, 1, sizeof(bytes), stdin)) > 0 && t.size <= JSON_SIZE_MAX)
                text_append_bytes(&t, bytes, n);
        if (ferror(stdin) || t.error < 0)
                return t.error < 0 ? t.error : -EIO;
        return import_json(im, t.chars ? t.chars : "", t.size);
}

int kv_import(Client *c, char **args, size_t n) {
        Importing im = { .client = c };
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (n < 1 || n > 2)
                return kv_usage("kv import takes a key, and a file or folder; without one it reads JSON from stdin");
        im.base = args[0];
        if (n == 1)
                r = import_stdin(&im);
        else if ((fd = open(args[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0)
                r = import_folder(&im, fd, "", 0);
        else if ((r = read_file_at(AT_FDCWD, args[1], JSON_SIZE_MAX, &text, &size)) < 0)
                r = error_set(&im.err, r, "cannot read %s: %s", args[1], strerror(-r));
        else
                r = import_json(&im, text, size);
        if (r < 0) {
                if (im.n > 0)
                        fprintf(stderr, "fleetctl: %zu keys were set before this:\n", im.n);
                client_fail(r, &im.err, "Error:  ");
                return r == -EREMOTEIO ? EXIT_KV : EXIT_FAILED;
        }
        return EXIT_DONE;
}
