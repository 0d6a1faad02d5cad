#include "units/drop_ins.h"

#include <errno.h>
#include <stdio.h>

#include "units/unit_file.h"

void drop_ins_init(DropIns *d, const char *name) {
        const char *at = strchr(name, '@');

        *d = (DropIns) {};
        if (unit_name_is_instance(name))
                snprintf(d->folders[d->n++].name, sizeof(d->folders->name), "%.*s@.%s.d", (int) (at - name), name, unit_name_type(name));
        snprintf(d->folders[d->n++].name, sizeof(d->folders->name), "%s.d", name);
}

void drop_ins_done(DropIns *d) {
        for (size_t i = 0; i < d->n; i++)
                folder_files_free(d->folders[i].files, d->folders[i].n);
        *d = (DropIns) {};
}

/* What stands before the first section would be part of the last one of the file before. */
static int check_start(const char *text, Error *err) {
        unsigned line = 1;

        for (const char *end; *text; text = *end ? end + 1 : end, line++) {
                size_t blanks = strspn(text, " \t\r");

                end = text + strcspn(text, "\n");
                if (text + blanks == end || text[blanks] == '#' || text[blanks] == ';')
                        continue;
                return text[blanks] == '[' ? 0 : error_set(err, -EBADMSG, "line %u: an option before the first [section]", line);
        }
        return 0;
}

static int append(const char *folder, const FolderFile *f, Text *t, Error *err) {
        _cleanup_unit_file_ UnitFile file = {};
        int r = f->error;

        if (r == -ELOOP)
                r = error_set(err, r, "a symbolic link; only plain files are read, and an empty one takes a drop-in away");
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
        size_t at[DROP_IN_FOLDERS] = {};

        for (;;) {
                const char *first = NULL;
                size_t from = 0;
                int r;

                for (size_t i = 0; i < d->n; i++)
                        if (at[i] < d->folders[i].n && (!first || strcmp(d->folders[i].files[at[i]].name, first) <= 0)) {
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
