#include "units/install.h"

#include "units/name.h"

static const char separators[] =
        " \t\r\n\\"; /* values keep the backslash and newline of continuation lines */

typedef struct Installed {
        const char *unit;
        int (*each)(void *userdata, const UnitOption *option, const char *name);
        void *userdata;
        size_t n; /* names so far */
} Installed;

static int install_each_of_value(Installed *i, const UnitOption *option) {
        const char *p = option->value + strspn(option->value, separators);

        while (*p) {
                size_t n = strcspn(p, separators);
                _cleanup_free_ char *word = NULL, *name = NULL;
                int r;

                if (++i->n > INSTALL_NAMES_MAX)
                        return -E2BIG;
                word = strndup(p, n);
                if (!word)
                        return -ENOMEM;
                name = n > UNIT_NAME_MAX ? TAKE_PTR(word) : unit_name_expand(i->unit, word);
                if (!name)
                        return -ENOMEM;
                r = i->each(i->userdata, option, name);
                if (r != 0)
                        return r;
                p += n;
                p += strspn(p, separators);
        }
        return 0;
}

/* *ret_line is the line of the last option. */
static int install_each_of_file(Installed *installed, const UnitFile *file, unsigned *ret_line) {
        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];
                int r;

                if (!streq(o->section, "Install") || (!streq(o->name, "Alias") && !streq(o->name, "Also")))
                        continue;
                *ret_line = o->line;
                r = install_each_of_value(installed, o);
                if (r != 0)
                        return r;
        }
        return 0;
}

int install_each_name(const char *unit, const UnitFile *file,
                      int (*each)(void *userdata, const UnitOption *option, const char *name),
                      void *userdata) {
        Installed installed = { .unit = unit, .each = each, .userdata = userdata };
        unsigned line;

        return install_each_of_file(&installed, file, &line);
}

static int install_check_name(void *userdata, const UnitOption *option, const char *name) {
        const char *reason;

        if (strlen(name) > UNIT_NAME_MAX)
                return error_set(userdata, -EINVAL,
                                 "line %u: %s=%.64s... is refused: longer than the name of a unit",
                                 option->line, option->name, name);
        if (!unit_name_is_refused(name, &reason))
                return 0;
        return error_set(userdata, -EINVAL, "line %u: %s=%s is refused: %s", option->line, option->name, name,
                         reason);
}

int install_check(const char *unit, const UnitFile *file, Error *err) {
        Installed installed = { .unit = unit, .each = install_check_name, .userdata = err };
        unsigned line = 0;
        int r = install_each_of_file(&installed, file, &line);

        return r == -E2BIG ? error_set(err, -EINVAL,
                                       "line %u: [Install] has more than %d names in Alias= and Also=", line,
                                       INSTALL_NAMES_MAX) :
                             r;
}
