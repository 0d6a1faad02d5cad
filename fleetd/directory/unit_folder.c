#include "fleetd/directory/unit_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/log.h"
#include "units/drop_ins.h"

void unit_folder_done(UnitFolder *folder) {
        for (size_t i = 0; i < folder->n; i++) {
                unit_free(folder->files[i].unit);
                free(folder->files[i].error);
        }
        for (size_t i = 0; i < folder->n_drop_ins; i++)
                folder_files_free(folder->drop_ins[i].files, folder->drop_ins[i].n);
        free(folder->drop_ins);
        free(folder->files);
        *folder = (UnitFolder) {};
}

bool unit_folder_name_is_unit(const char *name) {
        size_t n = strlen(name);

        return n > 0 && name[0] != '.' && name[0] != '#' && name[n - 1] != '~' && unit_name_check(name, NULL) == 0;
}

static int folder_by_name(const void *a, const void *b) {
        return strcmp(((const DropInFolder *) a)->name, ((const DropInFolder *) b)->name);
}

/* Of the folders that concern the unit, those that are there. */
static int drop_ins_find(const UnitFolder *folder, const char *name, Text *t, Error *err) {
        _cleanup_drop_ins_ DropIns d = {};
        int r = drop_ins_init(&d, name);

        for (size_t i = 0; r == 0 && i < d.n; i++) {
                const DropInFolder *there = folder->n_drop_ins == 0 ? NULL : bsearch(&d.folders[i], folder->drop_ins, folder->n_drop_ins,
                                                                                     sizeof(*folder->drop_ins), folder_by_name);

                if (!there)
                        continue;
                if (there->error < 0)
                        return error_set(err, there->error, "%s: %s", there->name, there->error == -E2BIG ? "too many drop-ins" : strerror(-there->error));
                d.folders[i] = *there;
                d.folders[i].lent = true;
        }
        return r < 0 ? r : drop_ins_append(&d, t, err);
}

/* Each once, however many units it concerns. */
static void drop_ins_read(int dir_fd, UnitFolder *folder) {
        if (folder->n_drop_ins > 0)
                qsort(folder->drop_ins, folder->n_drop_ins, sizeof(*folder->drop_ins), folder_by_name);
        for (size_t i = 0; i < folder->n_drop_ins; i++) {
                DropInFolder *f = &folder->drop_ins[i];
                int r = read_folder_at(dir_fd, f->name, DROP_IN_SUFFIX, DROP_INS_MAX, UNIT_SIZE_MAX, &f->files, &f->n);

                f->error = r == -ENOENT || r == -ENOTDIR ? 0 : r;
        }
}

/* 0: its unit or its error is there; or -ENOMEM, which says nothing of the file. */
static int file_read(int dir_fd, const UnitFolder *folder, const char *folder_path, const char *machine_id, DirectoryFile *f) {
        _cleanup_free_ char *text = NULL, *path = NULL;
        _cleanup_text_ Text whole = {};
        const char *reason = NULL;
        Error err = {};
        size_t size;
        int r;

        r = read_file_at(dir_fd, f->name, UNIT_SIZE_MAX, &text, &size);
        if (r == -EFBIG)
                r = error_set(&err, r, "larger than %d KiB", UNIT_SIZE_MAX / 1024);
        else if (r < 0)
                r = error_set(&err, r, "%s", r == -ELOOP ? "a symbolic link; only plain files are read" : r == -EINVAL ? "not a plain file" : strerror(-r));
        else if (unit_name_is_refused(f->name, &reason))
                r = error_set(&err, -EPERM, "%s", reason);
        else {
                text_append_bytes(&whole, text, size);
                r = whole.error ?: drop_ins_find(folder, f->name, &whole, &err);
        }
        if (r == 0)
                r = unit_parse(f->name, whole.chars ?: "", whole.size, &f->unit, &err);
        if (r == 0 && asprintf(&path, "%s/%s", folder_path, f->name) < 0) {
                path = NULL;
                r = -ENOMEM;
        }
        r = r ?: unit_set_owner(f->unit, machine_id, path);
        if (r == 0)
                return 0;
        f->unit = unit_free(f->unit);
        f->kind = PROBLEM_REFUSED;
        if (r != -ENOMEM && asprintf(&f->error, "%s: %s", f->name, error_text(&err, r)) < 0) {
                f->error = NULL;
                r = -ENOMEM;
        }
        return r == -ENOMEM ? r : 0;
}

static int by_name(const void *a, const void *b) {
        return strcmp(((const DirectoryFile *) a)->name, ((const DirectoryFile *) b)->name);
}

/* The names alone; false in 'complete' when there are too many. */
static int names_read(DIR *dir, UnitFolder *ret) {
        size_t capacity = 0, drop_ins_capacity = 0;
        struct dirent *e;

        ret->complete = true;
        while (errno = 0, e = readdir(dir)) {
                if (drop_ins_folder_check(e->d_name) && ret->n_drop_ins < UNIT_FOLDER_MAX) {
                        if (GROW(ret->drop_ins, drop_ins_capacity, ret->n_drop_ins + 1) < 0)
                                return -ENOMEM;
                        ret->drop_ins[ret->n_drop_ins] = (DropInFolder) {};
                        snprintf(ret->drop_ins[ret->n_drop_ins++].name, sizeof(ret->drop_ins->name), "%s", e->d_name);
                }
                if (!unit_folder_name_is_unit(e->d_name))
                        continue;
                if (ret->n >= UNIT_FOLDER_MAX) {
                        ret->complete = false;
                        return 0;
                }
                if (GROW(ret->files, capacity, ret->n + 1) < 0)
                        return -ENOMEM;
                ret->files[ret->n] = (DirectoryFile) {};
                snprintf(ret->files[ret->n++].name, sizeof(ret->files->name), "%s", e->d_name);
        }
        return -errno;
}

int unit_folder_read(int dir_fd, const char *path, const char *machine_id, bool (*is_unfinished)(void *userdata, const char *name), void *userdata,
                UnitFolder *ret) {
        int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
        DIR *dir = copy < 0 ? NULL : fdopendir(copy);
        _cleanup_unit_folder_ UnitFolder folder = {};

        if (!dir) {
                r = -errno;
                if (copy >= 0)
                        close(copy);
                return r;
        }
        r = names_read(dir, &folder);
        closedir(dir);
        if (r < 0)
                return r;

        drop_ins_read(dir_fd, &folder);
        if (folder.n > 0)
                qsort(folder.files, folder.n, sizeof(*folder.files), by_name);
        for (size_t i = 0; i < folder.n; i++) {
                folder.files[i].unfinished = is_unfinished(userdata, folder.files[i].name);
                r = folder.files[i].unfinished ? 0 : file_read(dir_fd, &folder, path, machine_id, &folder.files[i]);
                if (r < 0)
                        return r;
        }
        *ret = folder;
        folder = (UnitFolder) {};
        return 0;
}

static void error_name(const char *name, char ret[static 264]) {
        snprintf(ret, 264, "%s.error", name);
}

void unit_folder_write_error(int dir_fd, const char *path, const DirectoryFile *f, uint64_t index) {
        _cleanup_text_ Text t = {};
        char name[264];
        int r;

        error_name(f->name, name);
        if (!f->error) {
                if (!f->unfinished && unlinkat(dir_fd, name, 0) == 0)
                        log_info(((LogFields) { .unit = f->name }), "%s/%s is in order again", path, f->name);
                return;
        }

        text_printf(&t, "%s\n", f->error);
        if (index > 0)
                text_printf(&t, "The cluster still has the version of index %llu.\n", (unsigned long long) index);
        if (t.error < 0 || file_holds_at(dir_fd, name, t.chars, t.size))
                return;
        log_warning(((LogFields) { .unit = f->name }), "%s/%s is refused: %s", path, f->name, f->error);
        r = write_file_at(dir_fd, name, t.chars, t.size, 0644);
        if (r < 0)
                log_warning(((LogFields) { .error = r }), "cannot write %s/%s: %s", path, name, strerror(-r));
}

void unit_folder_remove_error(int dir_fd, const char *name) {
        char error[264];

        error_name(name, error);
        (void) unlinkat(dir_fd, error, 0);
}
