#include "units/quadlet.h"

#include <errno.h>
#include <stdio.h>

/* A line here is a type. podman-systemd.unit(5) has the sections and what each must say. */
static const struct {
        const char *type, *section;
        const char *suffix;      /* of the service's name */
        const char *needs, *or_; /* an option of the section, or another in its place; NULL: none */
} types[] = {
        { "container", "Container", "", "Image", "Rootfs" }, { "kube", "Kube", "", "Yaml", NULL },
        { "volume", "Volume", "-volume", NULL, NULL },       { "network", "Network", "-network", NULL, NULL },
        { "image", "Image", "-image", "Image", NULL },       { "pod", "Pod", "-pod", NULL, NULL },
        { "build", "Build", "-build", "ImageTag", NULL },
};

static int type_of(const char *name) {
        const char *type = unit_name_type(name);

        for (size_t i = 0; i < ELEMENTS(types); i++)
                if (streq(types[i].type, type))
                        return i;
        return -1;
}

bool quadlet_is(const char *name) {
        return type_of(name) >= 0;
}

void quadlet_service(const char *name, char ret[static UNIT_NAME_MAX + 32]) {
        int t = type_of(name);

        if (t < 0)
                snprintf(ret, UNIT_NAME_MAX + 32, "%s", name);
        else
                snprintf(ret, UNIT_NAME_MAX + 32, "%.*s%s.service",
                         (int) (strlen(name) - strlen(types[t].type) - 1), name, types[t].suffix);
}

void quadlet_each_source(const char *service, void (*each)(void *userdata, const char *name),
                         void *userdata) {
        size_t n = strlen(service);
        char name[UNIT_NAME_MAX + 32];

        if (n > UNIT_NAME_MAX || !ends_with(service, ".service"))
                return;
        n -= strlen(".service");
        for (size_t i = 0; i < ELEMENTS(types); i++) {
                size_t suffix = strlen(types[i].suffix);

                if (n <= suffix || memcmp(service + n - suffix, types[i].suffix, suffix) != 0)
                        continue;
                snprintf(name, sizeof(name), "%.*s.%s", (int) (n - suffix), service, types[i].type);
                each(userdata, name);
        }
}

/* An empty section is one, too: "[Volume]" alone makes a volume, and options know nothing of it. */
static bool has_header(const char *text, const char *section) {
        size_t n = strlen(section);

        for (const char *line = text; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL) {
                const char *s = line + strspn(line, " \t");

                if (*s == '[' && strncmp(s + 1, section, n) == 0 && s[1 + n] == ']')
                        return true;
        }
        return false;
}

int quadlet_check(const char *name, const char *text, const UnitFile *file, Error *err) {
        char service[UNIT_NAME_MAX + 32];
        int t = type_of(name);

        if (t < 0)
                return 0;
        quadlet_service(name, service);
        if (strlen(service) > UNIT_NAME_MAX)
                return error_set(err, -EINVAL, "its service's name would be longer than %d bytes",
                                 UNIT_NAME_MAX);
        if (!has_header(text, types[t].section))
                return error_set(err, -EBADMSG, "a .%s file has a section [%s]; here is none", types[t].type,
                                 types[t].section);
        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                for (size_t k = 0; k < ELEMENTS(types); k++)
                        if ((int) k != t && streq(o->section, types[k].section))
                                return error_set(err, -EBADMSG, "line %u: [%s] belongs into a .%s file",
                                                 o->line, o->section, types[k].type);
                if (streq(o->section, types[t].section) && streq(o->name, "ServiceName"))
                        return error_set(err, -EBADMSG,
                                         "line %u: ServiceName= is not taken: its service is %s", o->line,
                                         service);
        }
        if (types[t].needs && !unit_file_get(file, types[t].section, types[t].needs) &&
            !(types[t].or_ && unit_file_get(file, types[t].section, types[t].or_)))
                return error_set(err, -EBADMSG, "[%s] needs %s=%s%s%s", types[t].section, types[t].needs,
                                 types[t].or_ ? " or " : "", types[t].or_ ?: "", types[t].or_ ? "=" : "");
        return 0;
}
