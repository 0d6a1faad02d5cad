/* kv export and kv import: all keys below a key as one JSON object of paths and values, or as a folder of
 * files. Paths are relative to the key. An empty directory is a path that ends with a slash (JSON), or an
 * empty folder. Expiry times and hidden keys are not exported.
 *
 * Bytes that are no text: a value is {"value64": BASE64}; a path is "base64:" and base64 with the URL
 * alphabet, which has no slash. So is a path that begins with "base64:". */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/base64.h"
#include "base/file.h"
#include "client/verbs/kv.h"

enum { CODE_EXISTS = 105, JSON_PART = 256 * 1024 };

/* -- Export -- */

static const char encoded_path[] = "base64:";

typedef struct Exporting {
        const char *base; /* "" is the root */
        size_t base_size;
        Text json;
        int json_fd; /* receives 'json' in parts; -1: it stays in memory */
        bool all;    /* also hidden keys */
        size_t n;    /* of paths in the JSON */
        int dir_fd;  /* -1: as JSON */
        char *empty; /* path of a directory without a key below so far */
        size_t empty_size;
        bool any, is_file;
        Error err;
} Exporting;

static bool path_is_below(const char *path, size_t size, const char *dir, size_t dir_size) {
        return size > dir_size && path[dir_size] == '/' && memcmp(path, dir, dir_size) == 0;
}

static void write_json(Exporting *ex, const char *path, size_t size, const KvListed *file) {
        bool plain = text_is_plain(path, size) &&
                     (size < strlen(encoded_path) || memcmp(path, encoded_path, strlen(encoded_path)) != 0);
        Text *t = &ex->json;

        text_append(t, ex->n++ > 0 ? ",\n  \"" : "\n  \"");
        if (plain)
                text_append_json(t, path, size);
        else {
                text_append(t, encoded_path);
                text_append_base64(t, path, size, true);
        }
        text_append(t, file ? "\": " : "/\": ");
        if (!file || text_is_plain(file->value, file->value_size)) {
                text_append_char(t, '"');
                if (file)
                        text_append_json(t, file->value, file->value_size);
                text_append_char(t, '"');
        } else {
                text_append(t, "{\"value64\": \"");
                text_append_base64(t, file->value, file->value_size, false);
                text_append(t, "\"}");
        }
}

/* Write a file, or with 'file' NULL a folder, and the folders of its path. */
static int kv_write_file(Exporting *ex, const char *path, size_t size, const KvListed *file) {
        _cleanup_close_ int fd = fcntl(ex->dir_fd, F_DUPFD_CLOEXEC, 3);
        _cleanup_free_ char *copy = strndup(path, size);
        char *name = copy, *slash;
        int r;

        if (fd < 0 || !copy)
                return fd < 0 ? -errno : -ENOMEM;
        if (memchr(path, 0, size))
                return error_set(&ex->err, -EINVAL,
                                 "key %s contains a NUL, which a file name cannot: export it as JSON", copy);
        while ((slash = strchr(name, '/')) || !file) {
                int inner = -1;

                if (slash)
                        *slash = 0;
                if (mkdirat(fd, name, 0777) == 0 || errno == EEXIST) {
                        if (!slash)
                                return 0;
                        inner = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                }
                if (inner < 0)
                        return error_set(&ex->err, -errno, "Failed to create a folder for %.*s: %s",
                                         (int) size, path, strerror(errno));
                close(fd);
                fd = inner;
                name = slash + 1;
        }
        r = write_file_at(fd, name, file->value, file->value_size, 0644);
        return r < 0 ? error_set(&ex->err, r, "Failed to write a file for %.*s: %s", (int) size, path,
                                 strerror(-r)) :
                       0;
}

static int flush_json(Exporting *ex) {
        int r = ex->json.error ?: write_all(ex->json_fd, ex->json.chars, ex->json.size);

        text_clear(&ex->json);
        return r;
}

static int write_one(Exporting *ex, const char *path, size_t size, const KvListed *file) {
        if (ex->dir_fd >= 0)
                return kv_write_file(ex, path, size, file);
        write_json(ex, path, size, file);
        return ex->json_fd >= 0 && ex->json.size >= JSON_PART ? flush_json(ex) : ex->json.error;
}

static int flush_empty(Exporting *ex) {
        _cleanup_free_ char *path = TAKE_PTR(ex->empty);

        return path ? write_one(ex, path, ex->empty_size, NULL) : 0;
}

/* Return whether all parts of a path are names of files: "" and "." are not, and ".." leaves the folder. */
static bool has_names(const char *path, size_t size) {
        for (const char *p = path, *end = path + size, *slash;; p = slash + 1) {
                slash = memchr(p, '/', end - p) ?: end;
                if (slash == p || (p[0] == '.' && (slash - p == 1 || (slash - p == 2 && p[1] == '.'))))
                        return false;
                if (slash == end)
                        return true;
        }
}

/* Export one key. Parents come first: a directory is empty if the next key is not below it. */
static int export_node(void *userdata, const KvListed *node) {
        Exporting *ex = userdata;
        const char *path = node->key + ex->base_size + 1;
        size_t size;
        int r;

        ex->any = true;
        if (node->key_size == MAX(ex->base_size, (size_t) 1) &&
            memcmp(node->key, ex->base_size > 0 ? ex->base : "/", node->key_size) == 0) {
                ex->is_file = !node->dir;
                return 0;
        }
        if (!path_is_below(node->key, node->key_size, ex->base, ex->base_size) ||
            !has_names(path, node->key_size - ex->base_size - 1))
                return error_set(&ex->err, -EBADMSG, "fleetd's answer: %.*s is no key below %s",
                                 (int) MIN(node->key_size, (size_t) 200), node->key,
                                 ex->base_size > 0 ? ex->base : "/");
        size = node->key_size - ex->base_size - 1;
        if (!ex->all && kv_is_hidden(node, ex->base_size))
                return 0;
        if (ex->empty && path_is_below(path, size, ex->empty, ex->empty_size))
                free(TAKE_PTR(ex->empty));
        r = flush_empty(ex);
        if (r < 0 || !node->dir)
                return r < 0 ? r : write_one(ex, path, size, node);
        ex->empty = malloc(size);
        if (!ex->empty)
                return -ENOMEM;
        memcpy(ex->empty, path, size);
        ex->empty_size = size;
        return 0;
}

static int export_all(Client *c, const char *key, Exporting *ex) {
        TRY(kv_pages(c, key, "limit=1000", export_node, ex, &ex->err));
        TRY(flush_empty(ex));
        if (ex->dir_fd < 0)
                text_append(&ex->json, ex->n > 0 ? "\n}" : "}");
        return ex->json.error;
}

int kv_export_nodes(int (*next)(void *userdata, KvListed *ret), void *userdata, int fd, Error *err) {
        Exporting ex = { .base = "", .dir_fd = -1, .json_fd = fd, .all = true };
        KvListed node = {};
        int r;

        text_append_char(&ex.json, '{');
        while ((r = next(userdata, &node)) > 0) {
                r = export_node(&ex, &node);
                if (r < 0)
                        break;
        }
        if (r == 0)
                r = flush_empty(&ex);
        if (r == 0) {
                text_append(&ex.json, ex.n > 0 ? "\n}\n" : "}\n");
                r = flush_json(&ex);
        }
        text_done(&ex.json);
        free(ex.empty);
        return r < 0 && ex.err.code == r ? error_set(err, r, "%s", ex.err.message) : r;
}

static int kv_export(Client *c, char **args, size_t n, Error *err) {
        const char *key = n > 0 ? args[0] : "/";
        Exporting ex = { .dir_fd = -1, .json_fd = -1 };
        _cleanup_text_ Text base = {};
        bool missing;
        int r = 0;

        if (n > 2)
                return client_usage("kv export: expected at most a key and a folder");
        kv_append_clean(&base, key, false);
        ex.base = base.chars ?: "";
        ex.base_size = base.size;
        ex.any = base.size == 0;
        if (n == 2) {
                ex.dir_fd = open_dir(args[1], 0777);
                if (ex.dir_fd < 0)
                        r = error_set(&ex.err, ex.dir_fd, "Failed to create %s: %s", args[1],
                                      strerror(-ex.dir_fd));
        } else
                text_append_char(&ex.json, '{');
        r = r ?: base.error ?: export_all(c, key, &ex);
        missing = r == 0 && !ex.any;
        if (missing)
                r = error_set(&ex.err, -EREMOTEIO, "100: Key not found (%s)", ex.base);
        if (r < 0)
                client_fail_after(r, &ex.err, "Error:  ");
        else if (ex.is_file)
                fprintf(stderr, "%s: is not a directory; fleetctl kv get %s\n", key, key);
        else if (n < 2)
                (void) output_line(ex.json.chars);
        if (ex.dir_fd >= 0)
                close(ex.dir_fd);
        text_done(&ex.json);
        free(ex.empty);
        if (missing)
                return EXIT_KV;
        return r < 0 || ex.is_file ? EXIT_FAILED : EXIT_DONE;
}

/* -- Import -- */

typedef struct Importing {
        Client *client;
        const char *base;
        size_t n;
        bool check;    /* check the members, and set nothing */
        bool rejected; /* the last key, by the store */
        Error err;
} Importing;

int kv_put(Client *c, const char *base, const KvListed *node, bool replace, KvRequest *request, Error *err) {
        request->method = "PUT";
        text_append(&request->path, "/v2/keys");
        kv_append_clean(&request->path, base, true);
        text_append_char(&request->path, '/');
        append_escaped_bytes(&request->path, node->key, node->key_size, true);
        if (node->dir)
                kv_add_field(&request->form, "dir", "true");
        else
                kv_add_bytes(&request->form, "value", node->value, node->value_size);
        if (!replace)
                kv_add_field(&request->form, "prevExist", "false");
        kv_add_field(&request->form, "noValueOnSuccess", "true");
        return kv_send(c, request, err);
}

/* Set a key, or create a directory unless it exists. */
static int import_key(Importing *im, const KvListed *node) {
        _cleanup_kv_request_ KvRequest request = {};
        int r = kv_put(im->client, im->base, node, !node->dir, &request, &im->err);

        im->rejected = request.rejected;
        if (r == -EREMOTEIO && node->dir && request.code == CODE_EXISTS)
                return 0;
        im->n += r == 0;
        return r < 0 ? error_prefix(&im->err, r, "%s/%.*s", im->base, (int) node->key_size, node->key) : 0;
}

/* Read a member of the JSON: a path relative to 'base', and its value. */
static int member_read(const char *name, const JsonValue *v, const char *base, KvListed *ret, Error *err) {
        const char *text = json_value_string(v);
        size_t path_size = strlen(name);
        bool encoded = starts_with(name, encoded_path);
        int r;

        ret->dir = ends_with(name, "/");
        if (!text && json_value_type(v) != JSON_VALUE_OBJECT)
                return error_set(err, -EINVAL, "%s: expected a string; kv export shows the form", name);
        if (text) {
                ret->value = strdup(text);
                ret->value_size = strlen(text);
                if (!ret->value)
                        return -ENOMEM;
        } else {
                r = json_read_bytes(v, "value", &ret->value, &ret->value_size, err);
                if (r <= 0)
                        return r < 0 ? error_prefix(err, r, "%s", name) :
                                       error_set(err, -EINVAL,
                                                 "%s: expected a string or {\"value64\": BASE64}", name);
        }
        if (ret->dir && ret->value_size > 0)
                return error_set(err, -EINVAL, "%s: a directory has no value", name);
        path_size -= ret->dir;
        if (encoded && base64_decode(name + strlen(encoded_path), path_size - strlen(encoded_path), &ret->key,
                                     &ret->key_size) < 0)
                return error_set(err, -EINVAL, "%s: expected base64 after \"base64:\"", name);
        if (!encoded) {
                ret->key = strndup(name, path_size);
                ret->key_size = path_size;
        }
        if (!ret->key)
                return -ENOMEM;
        if (!has_names(ret->key, ret->key_size))
                return error_set(
                        err, -EINVAL,
                        "%s: expected a path relative to %s: no slash first, and no part that is empty, "
                        "\".\" or \"..\"",
                        name, base);
        return 0;
}

static int put_member(void *userdata, const char *name, const JsonValue *v) {
        Importing *im = userdata;
        _cleanup_kv_listed_ KvListed node = {};
        int r;

        r = member_read(name, v, im->base, &node, &im->err);
        return r < 0 || im->check ? r : import_key(im, &node);
}

/* -- A file of all keys -- */

typedef struct ImportLine {
        int (*each)(void *userdata, const KvListed *node, Error *err);
        void *userdata;
        Error *err;
} ImportLine;

static int line_member(void *userdata, const char *name, const JsonValue *v) {
        ImportLine *line = userdata;
        _cleanup_kv_listed_ KvListed node = {};

        TRY(member_read(name, v, "/", &node, line->err));
        return line->each(line->userdata, &node, line->err);
}

/* Read one line: a member, and the comma after it. */
static int line_read(ImportLine *line, const char *text, size_t size) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_text_ Text object = {};

        if (size > 0 && text[size - 1] == ',')
                size--;
        text_append_char(&object, '{');
        text_append_bytes(&object, text, size);
        text_append_char(&object, '}');
        TRY(object.error);
        TRY(json_value_parse_large(object.chars, object.size, &root, line->err));
        return json_value_each(root, line_member, line);
}

int kv_import_lines(FILE *file, int (*each)(void *userdata, const KvListed *node, Error *err), void *userdata,
                    Error *err) {
        ImportLine line = { .each = each, .userdata = userdata, .err = err };
        _cleanup_free_ char *text = NULL;
        size_t capacity = 0, number = 0;
        bool ended = false;
        ssize_t n;

        while ((n = getline(&text, &capacity, file)) > 0) {
                size_t size = (size_t) n - (text[n - 1] == '\n');
                int r = 0;

                number++;
                if (ended)
                        return error_set(err, -EBADMSG, "line %zu: text after the end of the object", number);
                ended = size > 0 &&
                        ((size == 1 && text[0] == '}') || (size == 2 && memcmp(text, "{}", 2) == 0));
                if (memchr(text, 0, size))
                        r = error_set(err, -EBADMSG, "a NUL byte is not valid in JSON");
                else if (!ended && !(number == 1 && size == 1 && text[0] == '{'))
                        r = number == 1 ? error_set(err, -EBADMSG,
                                                    "expected { alone, and one key on each line after it") :
                                          line_read(&line, text, size);
                if (r < 0)
                        return error_prefix(err, r, "line %zu", number);
        }
        if (ferror(file))
                return error_set(err, -EIO, "Failed to read the file: %s", strerror(errno));
        return ended ? 0 :
                       error_set(err, -EBADMSG, "the file is cut: it does not end with }; use another copy");
}

/* 'file' NULL: stdin. */
static int import_json(Importing *im, const char *file) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = file ? read_file_at(AT_FDCWD, file, JSON_SIZE_MAX, &text, &size) :
                   kv_read_stdin(JSON_SIZE_MAX, &text, &size);
        if (r < 0)
                return error_set(&im->err, r, "Failed to read %s: %s", file ?: "stdin", strerror(-r));
        r = json_value_parse_large(text, size, &root, &im->err);
        if (r >= 0 && json_value_type(root) != JSON_VALUE_OBJECT)
                r = error_set(&im->err, -EINVAL,
                              "expected one object of paths and values; kv export shows the form");
        if (r >= 0) {
                im->check = true;
                r = json_value_each(root, put_member, im);
                im->check = false;
        }
        if (r < 0)
                return error_prefix(&im->err, r, "%s", file ?: "stdin");
        return json_value_each(root, put_member, im);
}

static int no_dots(const struct dirent *d) {
        return !streq(d->d_name, ".") && !streq(d->d_name, "..");
}

static int kv_import_folder(Importing *im, int dir_fd, const char *path, unsigned level);

static int import_entry(Importing *im, int dir_fd, const char *path, const char *name, unsigned level) {
        _cleanup_text_ Text child = {};
        _cleanup_close_ int fd = -1;
        _cleanup_free_ char *value = NULL;
        struct stat st;
        size_t size;
        int r;

        text_printf(&child, "%s%s%s", path, *path ? "/" : "", name);
        TRY(child.error);
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode)) {
                fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                return fd < 0 ? error_set(&im->err, -errno, "Failed to read %s: %s", child.chars,
                                          strerror(errno)) :
                                kv_import_folder(im, fd, child.chars, level + 1);
        }
        r = read_file_at(dir_fd, name, KV_VALUE_READ_MAX, &value, &size);
        if (r < 0)
                return error_set(&im->err, r, "Failed to read %s: %s", child.chars,
                                 r == -ELOOP ? "symbolic links are not followed" : strerror(-r));
        return import_key(
                im, &(KvListed) {
                            .key = child.chars, .key_size = child.size, .value = value, .value_size = size });
}

static int kv_import_folder(Importing *im, int dir_fd, const char *path, unsigned level) {
        struct dirent **names;
        int n, r = 0;

        if (level >= KV_LEVELS_MAX)
                return error_set(&im->err, -ELOOP, "%s: more than %d levels of folders", path, KV_LEVELS_MAX);
        n = scandirat(dir_fd, ".", &names, no_dots, alphasort);
        if (n < 0)
                return error_set(&im->err, -errno, "Failed to list %s: %s", path, strerror(errno));
        if (n == 0 && *path)
                r = import_key(im,
                               &(KvListed) { .key = (char *) path, .key_size = strlen(path), .dir = true });
        for (int i = 0; i < n; i++) {
                r = r < 0 ? r : import_entry(im, dir_fd, path, names[i]->d_name, level);
                free(names[i]);
        }
        free(names);
        return r;
}

static int kv_import(Client *c, char **args, size_t n, Error *err) {
        Importing im = { .client = c };
        _cleanup_close_ int fd = -1;
        int r;

        if (n < 1 || n > 2)
                return client_usage("kv import: expected a key, and a file or folder; without one, JSON is "
                                    "read from stdin");
        im.base = args[0];
        if (n == 2)
                fd = open(args[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        r = fd >= 0 ? kv_import_folder(&im, fd, "", 0) : import_json(&im, n == 2 ? args[1] : NULL);
        if (r < 0) {
                if (im.n > 0)
                        client_note("set before this error: %zu key%s", im.n, plural(im.n));
                client_fail_after(r, &im.err, "Error:  ");
                return im.rejected ? EXIT_KV : EXIT_FAILED;
        }
        return EXIT_DONE;
}

VERB(kv_export, "export", "kv json", "[KEY [DIR]]",
     "Print all keys below a key as JSON, or write them to files", NULL, kv_export);

VERB(kv_import, "import", "kv", "KEY [FILE|DIR]", "Set keys from JSON, or from files", NULL, kv_import);
