#include "units/inputs.h"

#include "units/effect.h"

void input_policy_done(InputPolicy *policy) {
        names_done(&policy->secrets);
        names_done(&policy->credentials);
        names_done(&policy->environment);
        names_done(&policy->files);
        names_done(&policy->directories);
        names_done(&policy->shared);
        *policy = (InputPolicy) {};
}

bool input_policy_is_set(const InputPolicy *policy) {
        return policy->secrets.n + policy->environment.n + policy->files.n > 0;
}

const char *input_path(const char *item, bool *ret_optional) {
        *ret_optional = *item == '-';
        return item + *ret_optional;
}

const char *input_policy_path(const InputPolicy *p, size_t i) {
        size_t n = p->environment.n;
        bool optional;

        if (i >= n + p->files.n)
                return NULL;
        return input_path(i < n ? p->environment.items[i] : p->files.items[i - n], &optional);
}

const char *input_policy_protected(const InputPolicy *p, size_t i) {
        size_t n = p->environment.n + p->files.n;

        if (i < n)
                return input_policy_path(p, i);
        return i - n < p->shared.n ? p->shared.items[i - n] : NULL;
}

bool secret_name_is_valid(const char *name) {
        size_t size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

        return size > 0 && size <= SECRET_NAME_MAX && name[size] == 0 && !strchr("._-", *name);
}

/* Add two values of equal place. 0 or -ENOMEM. */
static int input_add(Names *names, const char *name, size_t size, Names *others, const char *other) {
        TRY(names_add(names, name, size));
        if (names_add(others, other, strlen(other)) < 0) {
                names_cut(names, names->n - 1);
                return -ENOMEM;
        }
        return 0;
}

int input_policy_add_secret(InputPolicy *p, const char *value, Error *err) {
        size_t size = strcspn(value, ":");
        _cleanup_free_ char *name = strndup(value, size);
        const char *credential = value[size] ? value + size + 1 : name;

        if (!name)
                return -ENOMEM;
        if (!secret_name_is_valid(name) || !secret_name_is_valid(credential))
                return error_set(err, -EINVAL,
                                 "expected NAME or NAME:CREDENTIAL, each of letters, digits, '.', '_', '-', "
                                 "at most %d",
                                 SECRET_NAME_MAX);
        if (names_have(&p->credentials, credential))
                return error_set(err, -EINVAL, "two secrets are credential %s; use Secret=NAME:CREDENTIAL",
                                 credential);
        if (p->secrets.n >= INPUT_SECRETS_MAX)
                return error_set(err, -EINVAL, "a unit has at most %d secrets", INPUT_SECRETS_MAX);
        return input_add(&p->secrets, name, size, &p->credentials, credential);
}

/* A path of users' keys: absolute, without empty, "." and ".." components. */
static int input_check_path(const char *path, size_t size, const Names *paths, size_t max, Error *err) {
        size_t depth = 0;

        if (size < 2 || size > INPUT_PATH_MAX || *path != '/' || path[size - 1] == '/')
                return error_set(err, -EINVAL,
                                 "expected a path of keys such as /config/shop, at most %d bytes",
                                 INPUT_PATH_MAX);
        for (const char *p = path; p < path + size; p += 1 + strcspn(p + 1, "/:")) {
                size_t n = strcspn(p + 1, "/:");

                if (n == 0 || (p[1] == '.' && (n == 1 || (n == 2 && p[2] == '.'))))
                        return error_set(err, -EINVAL, "the path has an empty component, \".\" or \"..\"");
                depth += p[0] == '/';
        }
        if (strncmp(path, "/_fleet", 7) == 0 && (size == 7 || path[7] == '/'))
                return error_set(err, -EINVAL, "keys below /_fleet are fleet's own");
        if (depth > INPUT_DEPTH_MAX)
                return error_set(err, -EINVAL, "a path has at most %d components", INPUT_DEPTH_MAX);
        if (paths->n >= max)
                return error_set(err, -EINVAL, "a unit has at most %zu such paths", max);
        return 0;
}

int input_policy_add_environment(InputPolicy *p, const char *value, Error *err) {
        bool optional;
        const char *path = input_path(value, &optional);

        TRY(input_check_path(path, strlen(path), &p->environment, INPUT_PATHS_MAX, err));
        return names_add(&p->environment, value, strlen(value));
}

int input_policy_add_files(InputPolicy *p, const char *value, Error *err) {
        bool optional;
        const char *path = input_path(value, &optional);
        size_t size = strcspn(path, ":");
        const char *directory = path[size] ? path + size + 1 : "";

        TRY(input_check_path(path, size, &p->files, INPUT_PATHS_MAX, err));
        if ((path[size] && !*directory) || strchr(directory, '/') || streq(directory, ".") ||
            streq(directory, "..") || strlen(directory) > INPUT_FILE_NAME_MAX)
                return error_set(err, -EINVAL, "expected PATH:DIRECTORY, of which DIRECTORY is one name");
        return input_add(&p->files, value, (size_t) (path - value) + size, &p->directories, directory);
}

/* The same names are expanded as in the instances: %p is equal for all of them. */
int input_policy_add_shared(InputPolicy *p, const char *template, const char *value, bool is_files,
                            Error *err) {
        _cleanup_free_ char *part = NULL, *shared = NULL;
        bool optional;
        const char *path = input_path(value, &optional);
        size_t size = strcspn(path, is_files ? ":" : ""), n = 0;

        while (n < size && (path[n] != '%' || !path[n + 1] || !strchr("nNi", path[n + 1])))
                n++;
        while (n > 0 && n < size && path[n] != '/')
                n--;
        if (n == 0)
                return error_set(err, -EINVAL,
                                 "a path begins with a component that all instances of %s share", template);
        part = strndup(path, n);
        shared = part ? unit_name_expand(template, part) : NULL;
        if (!shared)
                return -ENOMEM;
        if (names_have(&p->shared, shared))
                return 0;
        TRY(input_check_path(shared, strlen(shared), &p->shared, 2 * INPUT_PATHS_MAX, err));
        return names_add(&p->shared, shared, strlen(shared));
}

int input_policy_check(const InputPolicy *policy, const UnitFile *file, Error *err) {
        unsigned line = 0;

        if (policy->on_change != ON_CHANGE_RELOAD || effect_can_reload(file))
                return 0;
        for (size_t i = 0; i < file->n_options; i++)
                if (unit_file_section_is_ours(file->options[i].section) &&
                    streq(file->options[i].name, "OnChange"))
                        line = file->options[i].line;
        return error_set(err, -EINVAL,
                         "line %u: OnChange=reload requires ExecReload= or Type=notify-reload in [Service]",
                         line);
}
