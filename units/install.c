#include "units/install.h"

#include <errno.h>

#include "base/memory.h"
#include "units/name.h"

static const char separators[] = " \t\r\n\\"; /* a value keeps the backslash and the end of a line that continues */

static int each_of_value(const char *unit, const UnitOption *option, int (*each)(void *userdata, const UnitOption *option, const char *name),
                         void *userdata) {
        const char *p = option->value + strspn(option->value, separators);

        while (*p) {
                size_t n = strcspn(p, separators);
                _cleanup_free_ char *word = strndup(p, n), *name = word ? unit_name_expand(unit, word) : NULL;
                int r;

                if (!name)
                        return -ENOMEM;
                r = each(userdata, option, name);
                if (r != 0)
                        return r;
                p += n;
                p += strspn(p, separators);
        }
        return 0;
}

int install_each_name(const char *unit, const UnitFile *file,
                      int (*each)(void *userdata, const UnitOption *option, const char *name), void *userdata) {
        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];
                int r;

                if (!streq(o->section, "Install") || (!streq(o->name, "Alias") && !streq(o->name, "Also")))
                        continue;
                r = each_of_value(unit, o, each, userdata);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int check_name(void *userdata, const UnitOption *option, const char *name) {
        const char *reason;

        if (!unit_name_is_refused(name, &reason))
                return 0;
        return error_set(userdata, -EINVAL, "line %u: %s=%s is refused: %s", option->line, option->name, name, reason);
}

int install_check(const char *unit, const UnitFile *file, Error *err) {
        return install_each_name(unit, file, check_name, err);
}
