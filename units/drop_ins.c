#include "units/drop_ins.h"

#include "units/unit_file.h"

static void drop_ins_add_folder(DropIns *d, const char *prefix, const char *rest, bool of_instance) {
        if (d->error == 0)
                d->error = GROW(d->folders, d->capacity, d->n + 1);
        if (d->error < 0)
                return;
        d->folders[d->n] = (DropInFolder) { .of_instance = of_instance };
        snprintf(d->folders[d->n++].name, sizeof(d->folders->name), "%s%s.d", prefix, rest);
}

/* Shorten "a-b-c" to "a-b-", and that to "a-"; a prefix that begins with its only dash has no shorter one.
 * Two dashes at the end are one step. Return false if there is no shorter prefix. */
static bool drop_ins_shorten(char *prefix) {
        size_t n = strlen(prefix);

        n -= n > 0 && prefix[n - 1] == '-';
        while (n > 0 && prefix[n - 1] != '-')
                n--;
        prefix[n] = 0;
        return n > 1;
}

/* Add a folder with 'rest' for each shorter prefix, and one with 'second' (may be NULL). */
static void drop_ins_add_prefixes(DropIns *d, const char *prefix, const char *rest, const char *second,
                                  bool of_instance) {
        char chopped[UNIT_NAME_MAX + 1];

        snprintf(chopped, sizeof(chopped), "%s", prefix);
        while (drop_ins_shorten(chopped)) {
                drop_ins_add_folder(d, chopped, rest, of_instance);
                if (second)
                        drop_ins_add_folder(d, chopped, second, of_instance);
        }
}

/* "web@1.service" has web@1.service.d, then the folders of its template, and once more those of the prefixes,
 * for an instance. */
int drop_ins_init(DropIns *d, const char *name) {
        _cleanup_free_ char *prefix = unit_name_prefix(name), *template = unit_name_template(name);
        const char *type = unit_name_type(name), *dot = *type ? type - 1 : type;
        bool instance = unit_name_is_instance(name);

        *d = (DropIns) {};
        if (!prefix || !template)
                return -ENOMEM;
        drop_ins_add_folder(d, name, "", instance);
        if (instance)
                drop_ins_add_folder(d, template, "", false);
        drop_ins_add_prefixes(d, prefix, dot, NULL, false);
        if (instance)
                drop_ins_add_prefixes(d, prefix, strchr(name, '@'), strchr(template, '@'), true);
        if (*type)
                drop_ins_add_folder(d, type, "", false);
        return d->error;
}

void drop_ins_done(DropIns *d) {
        for (size_t i = 0; i < d->n; i++)
                if (!d->folders[i].lent)
                        folder_files_free(d->folders[i].files, d->folders[i].n);
        free(d->folders);
        free(d->by_name);
        *d = (DropIns) {};
}

static int drop_ins_compare_folders(const void *a, const void *b) {
        const DropInFolder *const *x = a, *const *y = b;

        return strcmp((*x)->name, (*y)->name);
}

int drop_ins_sort(DropIns *d) {
        d->by_name = NEW0(const DropInFolder *, d->n + 1);
        if (!d->by_name)
                return -ENOMEM;
        for (size_t i = 0; i < d->n; i++)
                d->by_name[i] = &d->folders[i];
        qsort(d->by_name, d->n, sizeof(*d->by_name), drop_ins_compare_folders);
        return 0;
}

const DropInFolder *drop_ins_find(DropIns *d, const char *path) {
        const char *slash = memchr(path, '/', strnlen(path, sizeof(d->folders->name)));
        size_t from = 0, to = slash ? d->n : 0;

        while (from < to) {
                size_t at = from + (to - from) / 2, n = (size_t) (slash - path);
                const DropInFolder *f = d->by_name[at];
                int order = strncmp(path, f->name, n);

                d->compared++;
                if (order == 0 && !f->name[n])
                        return f;
                if (order > 0)
                        from = at + 1;
                else
                        to = at;
        }
        return NULL;
}

bool drop_ins_folder_check(const char *folder) {
        char unit[UNIT_NAME_MAX + 3];
        size_t n = strlen(folder);

        if (n < 3 || n > UNIT_NAME_MAX || !ends_with(folder, ".d") || *folder == '.')
                return false;
        snprintf(unit, sizeof(unit), "%s%.*s", memchr(folder, '.', n - 2) ? "" : "x.", (int) n - 2, folder);
        return unit_name_check(unit, NULL) == 0;
}

/* Reject an option before the first section: it would extend the last section of the file before. */
static int drop_ins_check_start(const char *text, Error *err) {
        unsigned line = 1;

        for (const char *end; *text; text = *end ? end + 1 : end, line++) {
                size_t blanks = strspn(text, " \t\r");

                end = text + strcspn(text, "\n");
                if (text + blanks == end || text[blanks] == '#' || text[blanks] == ';')
                        continue;
                return text[blanks] == '[' ? 0 :
                                             error_set(err, -EBADMSG,
                                                       "line %u: an option before the first [section]", line);
        }
        return 0;
}

static int drop_ins_parse(const FolderFile *f, UnitFile *ret, Error *err) {
        if (f->error == -ELOOP)
                return error_set(
                        err, f->error,
                        "a symbolic link; only plain files are read, and an empty one takes a drop-in away");
        if (f->error < 0)
                return error_set(err, f->error, "%s",
                                 f->error == -EINVAL ? "not a plain file" : strerror(-f->error));
        TRY(unit_file_parse(f->text, f->size, UNIT_FILE_LITERAL, ret, err));
        return drop_ins_check_start(f->text, err);
}

static int drop_ins_append_file(const char *folder, const FolderFile *f, Text *t, Error *err) {
        _cleanup_unit_file_ UnitFile file = {};
        int r;

        r = drop_ins_parse(f, &file, err);
        if (r < 0)
                return error_prefix(err, r, "%s/%s", folder, f->name);

        /* The empty line ends a value that the file before continues. */
        if (file.n_options > 0)
                text_printf(t, "\n\n# %s/%s\n%s", folder, f->name, f->text);
        return t->error;
}

int drop_ins_append(const DropIns *d, Text *t, Error *err) {
        _cleanup_free_ size_t *at = NEW0(size_t, d->n + 1);

        if (!at)
                return -ENOMEM;
        for (;;) {
                const char *first = NULL;
                size_t from = 0;

                for (size_t i = 0; i < d->n; i++)
                        if (at[i] < d->folders[i].n &&
                            (!first || strcmp(d->folders[i].files[at[i]].name, first) < 0)) {
                                first = d->folders[i].files[at[i]].name;
                                from = i;
                        }
                if (!first)
                        return 0;
                TRY(drop_ins_append_file(d->folders[from].name, &d->folders[from].files[at[from]], t, err));
                for (size_t i = 0; i < d->n; i++)
                        at[i] += at[i] < d->folders[i].n && streq(d->folders[i].files[at[i]].name, first);
        }
}
