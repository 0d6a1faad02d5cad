#include "fleetd/systemd/drop_in.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "units/unit.h"

static bool drop_in_wants_singleton(const Unit *text) {
        return text->placement.singleton;
}

/* A socket listens by itself. Nothing but containers has an environment beside services. */
static bool drop_in_wants_ports(const Unit *text) {
        const ServicePolicy *service = &text->placement.service;
        const char *type = unit_name_type(text->name);
        bool environment = streq(type, "service") || streq(type, "container");

        for (size_t i = 0; i < service->n_ports; i++)
                if (environment || service->ports[i].container > 0)
                        return true;
        return false;
}

static bool drop_in_wants_inputs(const Unit *text) {
        return input_policy_is_set(&text->placement.inputs);
}

static const struct {
        const char *file;
        bool (*wants)(const Unit *text);
} drop_ins[] = {
        [DROP_IN_SINGLETON] = { "fleet-singleton.conf", drop_in_wants_singleton },
        [DROP_IN_PORTS] = { "fleet-ports.conf", drop_in_wants_ports },
        [DROP_IN_INPUTS] = { "fleet-inputs.conf", drop_in_wants_inputs },
};
static_assert(ELEMENTS(drop_ins) == _DROP_IN_MAX, "each feature has a row");

unsigned drop_in_wanted(const Unit *text) {
        unsigned wanted = 0;

        for (DropIn f = 0; f < _DROP_IN_MAX; f++)
                wanted |= (unsigned) drop_ins[f].wants(text) << f;
        return wanted;
}

void drop_in_append_word(Text *t, const char *word) {
        static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_=:.,/@+-";
        bool quoted = !*word || word[strspn(word, plain)];

        if (quoted)
                text_append_char(t, '"');
        for (const char *p = word; *p; p++)
                if ((unsigned char) *p < ' ' || *p == 0x7f) {
                        text_printf(t, "\\x%02x", (unsigned) *p);
                } else {
                        if (strchr("\"\\%", *p))
                                text_append_char(t, *p == '%' ? '%' : '\\');
                        text_append_char(t, *p);
                }
        if (quoted)
                text_append_char(t, '"');
}

int drop_in_path(const char *link, DropIn feature, char ret[static DROP_IN_PATH_SIZE]) {
        int n = snprintf(ret, DROP_IN_PATH_SIZE, "%s.d/%s", link, drop_ins[feature].file);

        return n < DROP_IN_PATH_SIZE ? 0 : -ENAMETOOLONG;
}

int drop_in_put(const char *link, DropIn feature, const char *sections) {
        const char *file = drop_ins[feature].file;
        _cleanup_close_ int fd = -EBADF;
        char path[DROP_IN_PATH_SIZE];
        int r;

        TRY(drop_in_path(link, feature, path));
        r = !sections && unlink(path) < 0 ? -errno : 1;
        *strrchr(path, '/') = 0;
        if (!sections) {
                if (r > 0)
                        (void) rmdir(path); /* unless the administrator of the host has files there */
                return r == -ENOENT || r == -ENOTDIR ? 0 : r;
        }
        fd = TRY(open_dir(path, 0755));
        if (file_holds_at(fd, file, sections, strlen(sections)))
                return 0;
        r = write_file_at(fd, file, sections, strlen(sections), 0644);
        return r < 0 ? r : 1;
}

int drop_in_get(const char *link, DropIn feature, char **ret) {
        char path[DROP_IN_PATH_SIZE];

        TRY(drop_in_path(link, feature, path));
        return read_file_at(AT_FDCWD, path, DROP_IN_SIZE_MAX, ret, NULL);
}

void drop_in_keep(const char *link, unsigned wanted) {
        for (DropIn f = 0; f < _DROP_IN_MAX; f++)
                if (!(wanted & 1U << f))
                        (void) drop_in_put(link, f, NULL);
}

bool drop_in_has(const char *link, unsigned wanted) {
        char path[DROP_IN_PATH_SIZE];

        for (DropIn f = 0; f < _DROP_IN_MAX; f++)
                if (wanted & 1U << f && (drop_in_path(link, f, path) < 0 || access(path, F_OK) < 0))
                        return false;
        return true;
}
