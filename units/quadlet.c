#include "units/quadlet.h"

/* One type per line. Sections and required options: podman-systemd.unit(5). */
static const struct {
        const char *type, *section;
        const char *suffix; /* of the service's name */
        const char *needs,
                *instead; /* a required option of the section, or another one instead; NULL: none */
} quadlet_types[] = {
        { "container", "Container", "", "Image", "Rootfs" }, { "kube", "Kube", "", "Yaml", NULL },
        { "volume", "Volume", "-volume", NULL, NULL },       { "network", "Network", "-network", NULL, NULL },
        { "image", "Image", "-image", "Image", NULL },       { "pod", "Pod", "-pod", NULL, NULL },
        { "build", "Build", "-build", "ImageTag", NULL },
};

static int quadlet_type(const char *name) {
        const char *dot = strrchr(name, '.');

        for (size_t i = 0; dot && i < ELEMENTS(quadlet_types); i++)
                if (quadlet_types[i].type[0] == dot[1] && streq(quadlet_types[i].type, dot + 1))
                        return i;
        return -1;
}

bool quadlet_is(const char *name) {
        return quadlet_type(name) >= 0;
}

void quadlet_service(const char *name, char ret[static UNIT_NAME_MAX + 32]) {
        int t = quadlet_type(name);

        if (t < 0)
                snprintf(ret, UNIT_NAME_MAX + 32, "%s", name);
        else
                snprintf(ret, UNIT_NAME_MAX + 32, "%.*s%s.service",
                         (int) (strlen(name) - strlen(quadlet_types[t].type) - 1), name,
                         quadlet_types[t].suffix);
}

void quadlet_each_source(const char *service, void (*each)(void *userdata, const char *name),
                         void *userdata) {
        size_t n = strlen(service);
        char name[UNIT_NAME_MAX + 32];

        if (n > UNIT_NAME_MAX || !ends_with(service, ".service"))
                return;
        n -= strlen(".service");
        for (size_t i = 0; i < ELEMENTS(quadlet_types); i++) {
                size_t suffix = strlen(quadlet_types[i].suffix);

                if (n <= suffix || memcmp(service + n - suffix, quadlet_types[i].suffix, suffix) != 0)
                        continue;
                snprintf(name, sizeof(name), "%.*s.%s", (int) (n - suffix), service, quadlet_types[i].type);
                each(userdata, name);
        }
}

/* Also an empty section, which has no options: "[Volume]" alone creates a volume. */
static bool quadlet_has_section(const char *text, const char *section) {
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
        int t = quadlet_type(name);

        if (t < 0)
                return 0;
        quadlet_service(name, service);
        if (strlen(service) > UNIT_NAME_MAX)
                return error_set(err, -EINVAL, "its service's name would be longer than %d bytes",
                                 UNIT_NAME_MAX);
        if (!quadlet_has_section(text, quadlet_types[t].section))
                return error_set(err, -EBADMSG, "a .%s file has a section [%s]; here is none",
                                 quadlet_types[t].type, quadlet_types[t].section);
        for (size_t i = 0; i < file->n_options; i++) {
                const UnitOption *o = &file->options[i];

                for (size_t k = 0; k < ELEMENTS(quadlet_types); k++)
                        if ((int) k != t && streq(o->section, quadlet_types[k].section))
                                return error_set(err, -EBADMSG, "line %u: [%s] belongs into a .%s file",
                                                 o->line, o->section, quadlet_types[k].type);
                if (streq(o->section, quadlet_types[t].section) && streq(o->name, "ServiceName"))
                        return error_set(err, -EBADMSG,
                                         "line %u: ServiceName= is not taken: its service is %s", o->line,
                                         service);
        }
        if (quadlet_types[t].needs &&
            !unit_file_get(file, quadlet_types[t].section, quadlet_types[t].needs) &&
            !(quadlet_types[t].instead &&
              unit_file_get(file, quadlet_types[t].section, quadlet_types[t].instead)))
                return error_set(err, -EBADMSG, "[%s] needs %s=%s%s%s", quadlet_types[t].section,
                                 quadlet_types[t].needs, quadlet_types[t].instead ? " or " : "",
                                 quadlet_types[t].instead ?: "", quadlet_types[t].instead ? "=" : "");
        return 0;
}
