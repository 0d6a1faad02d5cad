#include "units/drop_ins.h"

#include <errno.h>
#include <stdio.h>

#include "units/unit_file.h"

static int add_folder(DropIns *d, const char *prefix, const char *rest, bool of_instance) {
        if (GROW(d->folders, d->capacity, d->n + 1) < 0)
                return -ENOMEM;
        d->folders[d->n] = (DropInFolder) { .of_instance = of_instance };
        snprintf(d->folders[d->n++].name, sizeof(d->folders->name), "%s%s.d", prefix, rest);
        return 0;
}

/* "a-b-" of "a-b-c", "a-" of that; what begins with its only dash has none. Two dashes at the end count as
 * one step. False: no more. */
static bool chop_prefix(char *prefix) {
        size_t n = strlen(prefix);

        n -= n > 0 && prefix[n - 1] == '-';
        while (n > 0 && prefix[n - 1] != '-')
                n--;
        prefix[n] = 0;
        return n > 1;
}

/* What is before the prefix, with each of 'rests' (one or two) behind. */
static int add_prefixes(DropIns *d, const char *prefix, const char *rest, const char *second,
                        bool of_instance) {
        _cleanup_free_ char *chopped = strdup(prefix);
        int r = chopped ? 0 : -ENOMEM;

        while (r == 0 && chop_prefix(chopped)) {
                r = add_folder(d, chopped, rest, of_instance);
                if (r == 0 && second)
                        r = add_folder(d, chopped, second, of_instance);
        }
        return r;
}

/* "web@1.service" has web@1.service.d, and what its template has; then the prefixes once more, as those of an
 * instance. */
int drop_ins_init(DropIns *d, const char *name) {
        _cleanup_free_ char *prefix = unit_name_prefix(name), *template = unit_name_template(name);
        const char *type = unit_name_type(name), *dot = *type ? type - 1 : type;
        bool instance = unit_name_is_instance(name);
        int r = prefix && template ? 0 : -ENOMEM;

        *d = (DropIns) {};
        if (r == 0)
                r = add_folder(d, name, "", instance);
        if (r == 0 && instance)
                r = add_folder(d, template, "", false);
        if (r == 0)
                r = add_prefixes(d, prefix, dot, NULL, false);
        if (r == 0 && instance)
                r = add_prefixes(d, prefix, strchr(name, '@'), strchr(template, '@'), true);
        return r == 0 && *type ? add_folder(d, type, "", false) : r;
}

void drop_ins_done(DropIns *d) {
        for (size_t i = 0; i < d->n; i++)
                if (!d->folders[i].lent)
                        folder_files_free(d->folders[i].files, d->folders[i].n);
        free(d->folders);
        *d = (DropIns) {};
}

bool drop_ins_folder_check(const char *folder) {
        char unit[UNIT_NAME_MAX + 3];
        size_t n = strlen(folder);

        if (n < 3 || n > UNIT_NAME_MAX || !ends_with(folder, ".d") || *folder == '.')
                return false;
        snprintf(unit, sizeof(unit), "%s%.*s", memchr(folder, '.', n - 2) ? "" : "x.", (int) n - 2, folder);
        return unit_name_check(unit, NULL) == 0;
}

/* What stands before the first section would be part of the last one of the file before. */
static int check_start(const char *text, Error *err) {
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

static int append(const char *folder, const FolderFile *f, Text *t, Error *err) {
        _cleanup_unit_file_ UnitFile file = {};
        int r = f->error;

        if (r == -ELOOP)
                r = error_set(
                        err, r,
                        "a symbolic link; only plain files are read, and an empty one takes a drop-in away");
        else if (r < 0)
                r = error_set(err, r, "%s", r == -EINVAL ? "not a plain file" : strerror(-r));
        else
                r = unit_file_parse(f->text, f->size, UNIT_FILE_LITERAL, &file, err);
        if (r >= 0)
                r = check_start(f->text, err);
        if (r < 0)
                return error_prefix(err, r, "%s/%s", folder, f->name);

        /* An empty line: what the file before continues ends there. */
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
                int r;

                for (size_t i = 0; i < d->n; i++)
                        if (at[i] < d->folders[i].n &&
                            (!first || strcmp(d->folders[i].files[at[i]].name, first) < 0)) {
                                first = d->folders[i].files[at[i]].name;
                                from = i;
                        }
                if (!first)
                        return 0;
                r = append(d->folders[from].name, &d->folders[from].files[at[from]], t, err);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < d->n; i++)
                        at[i] += at[i] < d->folders[i].n && streq(d->folders[i].files[at[i]].name, first);
        }
}
