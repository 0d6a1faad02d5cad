#include "client/core/files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "units/drop_ins.h"

int files_names(char **args, size_t n, Names *ret) {
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *name = unit_name_from_argument(args[i]);

                TRY(name ? names_add(ret, name, strlen(name)) : -ENOMEM);
        }
        return 0;
}

int files_read_drop_ins(const char *path, const char *name, bool own, Text *t, Error *err) {
        const char *slash = strrchr(path, '/');
        _cleanup_drop_ins_ DropIns d = {};
        int r;

        r = TRY(drop_ins_init(&d, name));
        for (size_t i = 0; i < d.n; i++) {
                _cleanup_free_ char *folder = NULL;

                if (own && !d.folders[i].of_instance)
                        continue;
                if (asprintf(&folder, "%.*s%s", slash ? (int) (slash + 1 - path) : 0, path,
                             d.folders[i].name) < 0) {
                        folder = NULL;
                        return -ENOMEM;
                }
                r = read_folder_at(AT_FDCWD, folder, DROP_IN_SUFFIX, DROP_INS_MAX, UNIT_SIZE_MAX,
                                   &d.folders[i].files, &d.folders[i].n);
                if (r < 0 && r != -ENOENT && r != -ENOTDIR && r != -ENAMETOOLONG)
                        return error_set(err, r, "%s: %s", folder,
                                         r == -E2BIG ? "too many drop-ins" : strerror(-r));
        }
        return drop_ins_append(&d, t, err);
}

void files_explain(const char *argument, bool missing, Text *t) {
        const char *slash = strrchr(argument, '/'), *base = slash ? slash + 1 : argument;
        size_t size = strlen(argument);
        struct stat st;

        while (size > 1 && argument[size - 1] == '/')
                size--;
        if (stat(argument, &st) < 0)
                return;
        if (S_ISDIR(st.st_mode))
                text_printf(t, "%s is a folder; name its files: %.*s/*.service", argument, (int) size,
                            argument);
        else if (missing)
                text_printf(t, "%s is not a unit name: it has no unit type (for example %.*s.service)",
                            argument, (int) (strcspn(base, ".") + (size_t) (base - argument)), argument);
}

static int fail_read(const char *path, int r, Error *err) {
        _cleanup_text_ Text reason = {};
        struct stat st = {};

        files_explain(path, false, &reason);
        if (reason.size > 0)
                return error_set(err, r, "%s", reason.chars);
        if (r == -EFBIG && stat(path, &st) >= 0)
                return error_set(err, r, "%s has %llu KiB; a unit has at most %d KiB", path,
                                 ((unsigned long long) st.st_size + 1023) / 1024, UNIT_SIZE_MAX / 1024);
        return error_set(err, r, "%s: %s", path, r == -EINVAL ? "not a regular file" : strerror(-r));
}

int files_read(const char *path, const char *name, Text *t, Error *err) {
        _cleanup_free_ char *real = realpath(path, NULL), *text = NULL; /* follow links */
        size_t size;
        int r = real ? read_file_at(AT_FDCWD, real, UNIT_SIZE_MAX, &text, &size) : -errno;

        if (r < 0)
                return fail_read(path, r, err);
        text_append_bytes(t, text, size);
        return t->error ?: files_read_drop_ins(path, name, false, t, err);
}

static bool is_missing(const Text *path) {
        return path->error == 0 && access(path->chars, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR);
}

int files_find_path(const char *path, const char *name, Text *ret, bool *ret_from_template) {
        const char *slash = strrchr(path, '/');
        _cleanup_free_ char *template = NULL;

        *ret_from_template = false;
        text_append(ret, path);
        if (is_missing(ret)) {
                if (!unit_name_is_instance(name))
                        return 0;
                template = unit_name_template(name);
                if (!template)
                        return -ENOMEM;
                *ret_from_template = true;
                text_clear(ret);
                text_append_bytes(ret, path, slash ? (size_t) (slash - path) + 1 : 0);
                text_append(ret, template);
                if (is_missing(ret))
                        return 0;
        }
        return ret->error < 0 ? ret->error : 1;
}

int files_parse_argument(const char *argument, char **ret_path, char **ret_name, Error *err) {
        const char *slash = strrchr(argument, '/');
        _cleanup_free_ char *name = unit_name_from_argument(argument);
        _cleanup_text_ Text t = {};

        text_append_bytes(&t, argument, slash ? (size_t) (slash - argument) + 1 : 0);
        text_append(&t, name ? name : "");
        *ret_path = text_take(&t, NULL);
        if (!name || !*ret_path)
                return -ENOMEM;
        TRY(unit_name_check(name, err));
        *ret_name = TAKE_PTR(name);
        return 0;
}

int files_find(const char *argument, char **ret_path, char **ret_name, Text *t, Error *err) {
        _cleanup_text_ Text path = {}, reason = {};
        bool from_template;
        int r;

        TRY_PREFIX(files_parse_argument(argument, ret_path, ret_name, err), err, "%s", argument);
        r = TRY(files_find_path(*ret_path, *ret_name, &path, &from_template));
        if (r > 0) {
                free(*ret_path);
                *ret_path = text_take(&path, NULL);
        } else {
                files_explain(argument, true, &reason);
                if (reason.size > 0)
                        return error_set(err, -ENOENT, "%s", reason.chars);
        }
        return *ret_path ? files_read(*ret_path, *ret_name, t, err) : -ENOMEM;
}

void files_print_warnings(const char *name, const Warnings *warnings, const char *kind) {
        for (size_t i = 0; i < warnings->n; i++) {
                fprintf(stderr, "fleetctl: %s: ", name);
                if (warnings->items[i].line > 0)
                        fprintf(stderr, "line %u: ", warnings->items[i].line);
                fprintf(stderr, "%s%s\n", kind, warnings->items[i].message);
        }
}
