#include "units/data.h"

#include "base/parse.h"
#include "units/class.h"
#include "units/lists.h"
#include "units/quadlet.h"

/* One source of an option. */
typedef struct DataSource {
        const UnitOption *option;
        const char *before; /* of the source in its quotation, after the option's name */
        const char *text;   /* not terminated */
        size_t size;
        bool is_path; /* of the host; otherwise it is data */
} DataSource;

typedef int (*DataFound)(const DataSource *source, void *userdata);

/* StateDirectory=DIRECTORY[:LINK] ..., BindPaths=[-]PATH[:PATH[:OPTIONS]] ... */
static int data_of_directories(const UnitOption *o, DataFound found, void *userdata) {
        bool is_path = streq(o->name, "BindPaths");
        _cleanup_names_ Names words = {};
        int r = names_split(o->value, &words);

        if (r < 0)
                return r == -ENOMEM ? r : 0; /* systemd ignores the line */
        for (size_t i = 0; i < words.n && r >= 0; i++) {
                const char *text = words.items[i] + (is_path && words.items[i][0] == '-');
                DataSource s = { o, "", text, strcspn(text, ":"), is_path };

                r = s.size > 0 ? found(&s, userdata) : 0;
        }
        return r;
}

/* Volume=[SOURCE:]PATH[:OPTIONS]; without a source, the volume has no name. */
static int data_of_volume(const UnitOption *o, DataFound found, void *userdata) {
        const char *path = strchr(o->value, ':'), *options = path ? strchr(path + 1, ':') : NULL;
        DataSource s = { o, "", o->value, path ? (size_t) (path - o->value) : 0, false };

        if (s.size == 0)
                return 0;
        /* Some specifiers of systemd are directories. */
        s.is_path = memchr(s.text, '/', s.size) || *s.text == '.' ||
                    (*s.text == '%' && strchr("CDdEhLSTtVY", s.text[1]));
        for (const char *p = options; s.is_path && p; p = strchr(p + 1, ','))
                if (strcspn(p + 1, ",") == 2 && starts_with(p + 1, "ro"))
                        return 0;
        return found(&s, userdata);
}

/* Mount=type=volume,source=SOURCE,... or type=bind; src= is the same, and options have any order. */
static int data_of_mount(const UnitOption *o, DataFound found, void *userdata) {
        static const char *const read_only[] = { "ro", "readonly", "ro=true", "readonly=true" };
        DataSource s = { .option = o };
        bool volume = false, writes = true;
        char item[32];

        for (const char *p = o->value, *next = p; next; p = next + 1) {
                size_t n = strcspn(p, ",");

                next = p[n] ? p + n : NULL;
                snprintf(item, sizeof(item), "%.*s", (int) n, p);
                volume = volume || streq(item, "type=volume");
                s.is_path = s.is_path || streq(item, "type=bind");
                writes = writes && !IS_AMONG(item, read_only);
                if (starts_with(item, "source=") || starts_with(item, "src=")) {
                        s.text = strchr(p, '=') + 1;
                        s.size = n - (size_t) (s.text - p);
                        s.before = starts_with(item, "src=") ? "type=volume,src=" : "type=volume,source=";
                }
        }
        if (s.size == 0 || (s.is_path ? !writes : !volume || memchr(s.text, '/', s.size)))
                return 0;
        return found(&s, userdata);
}

/* One option per line. The first data in this order count. */
static const struct {
        const char *option;
        bool in_container; /* in [Container] or [Pod] */
        int (*find)(const UnitOption *o, DataFound found, void *userdata);
} data_options[] = {
        { "StateDirectory", false, data_of_directories },
        { "Volume", true, data_of_volume },
        { "Mount", true, data_of_mount },
        { "BindPaths", false, data_of_directories },
};

static bool data_is_option(const char *name, const UnitOption *o, size_t row) {
        return streq(o->name, data_options[row].option) &&
               (data_options[row].in_container ? unit_class_has_container(name, o->section) :
                                                 unit_class_has_processes(name, o->section));
}

/* Call 'found' for each source; an empty value forgets those before it. Return 0 or a negative result. */
static int data_each(const char *name, const UnitFile *file, DataFound found, void *userdata) {
        for (size_t row = 0; row < ELEMENTS(data_options); row++) {
                size_t first = 0;

                for (size_t i = 0; i < file->n_options; i++)
                        if (!*file->options[i].value && data_is_option(name, &file->options[i], row))
                                first = i + 1;
                for (size_t i = first; i < file->n_options; i++)
                        if (data_is_option(name, &file->options[i], row))
                                TRY(data_options[row].find(&file->options[i], found, userdata));
        }
        return 0;
}

typedef struct DataTexts {
        char **data, **host_path;
} DataTexts;

static int data_keep_first(const DataSource *s, void *userdata) {
        const DataTexts *texts = userdata;
        char **ret = s->is_path ? texts->host_path : texts->data, text[DATA_TEXT_MAX + 1];

        if (*ret)
                return 0;
        if (s->is_path)
                text_format(text, sizeof(text), "%.*s", (int) s->size, s->text);
        else
                text_format(text, sizeof(text), "%s=%s%.*s", s->option->name, s->before, (int) s->size,
                            s->text);
        return copy_string(text, ret);
}

/* Return whether a .volume file is on the disk of its machine. */
static bool data_is_local(const UnitFile *file) {
        const char *type = unit_file_get(file, "Volume", "Type"),
                   *driver = unit_file_get(file, "Volume", "Driver");

        return (!driver || !*driver || streq(driver, "local")) &&
               !(type && text_has_word("nfs nfs4 cifs smb3 ceph glusterfs 9p tmpfs", type));
}

int data_find(const char *name, const UnitFile *file, char **ret_data, char **ret_host_path) {
        _cleanup_free_ char *data = NULL, *host_path = NULL;
        DataTexts texts = { &data, &host_path };

        TRY(data_each(name, file, data_keep_first, &texts));
        if (!data && name && streq(unit_name_type(name), "volume") && data_is_local(file))
                TRY(copy_string("[Volume]", &data));
        *ret_data = TAKE_PTR(data);
        *ret_host_path = TAKE_PTR(host_path);
        return 0;
}

static int data_warn(const DataSource *s, void *userdata) {
        bool is_volume = s->size > strlen(".volume") &&
                         starts_with(s->text + s->size - strlen(".volume"), ".volume");
        char message[2 * DATA_TEXT_MAX + 128];

        for (size_t i = 0; i + 1 < s->size; i++)
                if (s->text[i] == '%' && strchr("inNI", s->text[i + 1]))
                        return 0;
        if (s->is_path || warnings_are_full(userdata, s->option->line))
                return 0;
        snprintf(message, sizeof(message), "%s=%s%.*s: replicas on one machine share it%s%.*s%s",
                 s->option->name, s->before, (int) MIN(s->size, (size_t) DATA_TEXT_MAX), s->text,
                 is_volume ? "" : "; write ", is_volume ? 0 : (int) MIN(s->size, (size_t) DATA_TEXT_MAX),
                 s->text, is_volume ? "" : "-%i");
        return warnings_add(userdata, s->option->line, message);
}

int data_warn_shared(const char *name, const UnitFile *file, Warnings *ret) {
        return data_each(name, file, data_warn, ret);
}
