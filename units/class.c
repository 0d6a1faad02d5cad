#include "units/class.h"

#include <strings.h>

#include "base/parse.h"
#include "units/quadlet.h"

const UnitClassRules unit_classes[_CLASS_MAX] = {
        [CLASS_ENDING] = { .finishes = true },
        [CLASS_LASTING] = {},
        [CLASS_TRIGGER] = { .triggers = true },
        [CLASS_MOUNT] = {},
        [CLASS_TARGET] = {},
};

/* The classes_of_types with a class of their own; all others are services. */
static const struct {
        const char *type;
        UnitClass class;
        const char *section, *option; /* of the unit that it triggers; NULL: none names it */
        const char *to;               /* its type, if it has the name of the trigger */
} classes_of_types[] = {
        { "timer", CLASS_TRIGGER, "Timer", "Unit", "service" },
        { "path", CLASS_TRIGGER, "Path", "Unit", "service" },
        { "socket", CLASS_TRIGGER, "Socket", "Service", "service" },
        { "automount", CLASS_TRIGGER, NULL, NULL, "mount" },
        { "mount", CLASS_MOUNT, NULL, NULL, NULL },
        { "swap", CLASS_MOUNT, NULL, NULL, NULL },
        { "target", CLASS_TARGET, NULL, NULL, NULL },
        /* podman's generator writes RemainAfterExit=yes for these. */
        { "volume", CLASS_LASTING, NULL, NULL, NULL },
        { "network", CLASS_LASTING, NULL, NULL, NULL },
        { "image", CLASS_LASTING, NULL, NULL, NULL },
        { "build", CLASS_LASTING, NULL, NULL, NULL },
};

static bool class_is_set(const UnitFile *file, const char *section, const char *option) {
        const char *value = unit_file_get(file, section, option);
        bool set;

        return value && parse_bool(value, &set) >= 0 && set;
}

UnitClass unit_class(const char *name, const UnitFile *file) {
        const char *restart = unit_file_get(file, "Service", "Restart");

        for (size_t i = 0; i < ELEMENTS(classes_of_types); i++)
                if (streq(unit_name_type(name), classes_of_types[i].type))
                        return classes_of_types[i].class;
        if (restart && (streq(restart, "always") || streq(restart, "on-success")) &&
            !unit_file_get(file, "Service", "RestartPreventExitStatus"))
                return CLASS_LASTING;
        return class_is_set(file, "Service", "RemainAfterExit") ? CLASS_LASTING : CLASS_ENDING;
}

bool unit_class_has_processes(const char *name, const char *section) {
        static const char *const sections[] = { "Service", "Socket", "Mount", "Swap" };

        if (!IS_AMONG(section, sections))
                return false;
        return !name || strcasecmp(unit_name_type(name), section) == 0 ||
               (quadlet_is(name) && streq(section, sections[0]));
}

bool unit_class_has_container(const char *name, const char *section) {
        return (streq(section, "Container") || streq(section, "Pod")) &&
               (!name || strcasecmp(unit_name_type(name), section) == 0);
}

int unit_class_triggered(const char *name, const UnitFile *file, char ret[static UNIT_NAME_MAX + 1]) {
        const char *type = unit_name_type(name), *named;
        _cleanup_free_ char *expanded = NULL;
        size_t i = 0;

        ret[0] = 0;
        while (i < ELEMENTS(classes_of_types) && !streq(type, classes_of_types[i].type))
                i++;
        if (i == ELEMENTS(classes_of_types) || !unit_classes[classes_of_types[i].class].triggers ||
            class_is_set(file, "Socket", "Accept"))
                return 0;
        named = classes_of_types[i].option ?
                        unit_file_get(file, classes_of_types[i].section, classes_of_types[i].option) :
                        NULL;
        if (!named || !*named) {
                snprintf(ret, UNIT_NAME_MAX + 1, "%.*s.%s", (int) (type - name - 1), name,
                         classes_of_types[i].to);
                return 0;
        }
        expanded = unit_name_expand(name, named);
        if (!expanded)
                return -ENOMEM;
        snprintf(ret, UNIT_NAME_MAX + 1, "%s", expanded);
        return 0;
}

/* Replace the end 'from' of a name by 'to'. False: it has another end, an instance, or the name is too long.
 */
static bool class_rename(const char *name, const char *from, const char *to,
                         char ret[static UNIT_NAME_MAX + 1]) {
        size_t n = strlen(name), n_from = strlen(from);

        if (n <= n_from || !streq(name + n - n_from, from) || memchr(name, '@', n - n_from) ||
            n - n_from + strlen(to) > UNIT_NAME_MAX)
                return false;
        snprintf(ret, UNIT_NAME_MAX + 1, "%.*s%s", (int) (n - n_from), name, to);
        return true;
}

bool unit_class_accepts(const char *name, const UnitFile *file, char ret[static UNIT_NAME_MAX + 1]) {
        return class_rename(name, ".socket", "@.service", ret) &&
               (!file || class_is_set(file, "Socket", "Accept"));
}

bool unit_class_accepting(const char *template, char ret[static UNIT_NAME_MAX + 1]) {
        return class_rename(template, "@.service", ".socket", ret);
}
