#include "fleetd/directory/scan.h"

#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "units/drop_ins.h"

enum {
        STEP_WORK = 1000, /* of one step: names and stamps count one, ... */
        READ_WORK = 20,   /* ... and a file that is read so much, and one more for each KiB */
        LATELY_MS = 2000, /* a file changed within that may change again without another stamp: clocks of file
                             systems are coarse */
};

void directory_folder_done(DirectoryFolder *folder) {
        for (size_t i = 0; i < folder->n; i++) {
                unit_free(folder->files[i].unit);
                free(folder->files[i].fault);
                free(folder->files[i].error);
        }
        for (size_t i = 0; i < folder->n_drop_ins; i++)
                folder_files_free(folder->drop_ins[i].files, folder->drop_ins[i].n);
        free(folder->drop_ins);
        free(folder->files);
        names_done(&folder->errors);
        *folder = (DirectoryFolder) {};
}

bool directory_folder_name_is_unit(const char *name) {
        size_t n = strlen(name);

        return n > 0 && name[0] != '.' && name[0] != '#' && name[n - 1] != '~' &&
               unit_name_check(name, NULL) == 0;
}

static int folder_by_name(const void *a, const void *b) {
        return strcmp(((const DropInFolder *) a)->name, ((const DropInFolder *) b)->name);
}

/* Of the folders that concern the unit, those that are there. */
static int drop_ins_find(const DirectoryFolder *folder, const char *name, Text *t, Error *err) {
        _cleanup_drop_ins_ DropIns d = {};
        int r = drop_ins_init(&d, name);

        for (size_t i = 0; r == 0 && i < d.n; i++) {
                const DropInFolder *there = folder->n_drop_ins == 0 ?
                                                    NULL :
                                                    bsearch(&d.folders[i], folder->drop_ins,
                                                            folder->n_drop_ins, sizeof(*folder->drop_ins),
                                                            folder_by_name);

                if (!there)
                        continue;
                if (there->error < 0)
                        return error_set(err, there->error, "%s: %s", there->name,
                                         there->error == -E2BIG ? "too many drop-ins" :
                                                                  strerror(-there->error));
                d.folders[i] = *there;
                d.folders[i].lent = true;
        }
        return r < 0 ? r : drop_ins_append(&d, t, err);
}

static uint64_t sum_of(uint64_t seed, const void *bytes, size_t size) {
        return XXH3_64bits_withSeed(bytes, size, seed);
}

/* Each once, however many units it concerns. Returns how much work it was. */
static size_t drop_in_read(int dir_fd, DropInFolder *f) {
        int r = read_folder_at(dir_fd, f->name, DROP_IN_SUFFIX, DROP_INS_MAX, UNIT_SIZE_MAX, &f->files,
                               &f->n);
        size_t work = READ_WORK;

        f->error = r == -ENOENT || r == -ENOTDIR ? 0 : r;
        for (size_t i = 0; i < f->n; i++)
                work += READ_WORK + f->files[i].size / 1024;
        return work;
}

/* Of all drop-ins that concern the unit. 0: there are none; or -ENOMEM. */
static int drop_ins_sum(const DirectoryFolder *folder, const char *name, uint64_t *ret) {
        _cleanup_drop_ins_ DropIns d = {};
        uint64_t sum = 0;
        int r;

        *ret = 0;
        if (folder->n_drop_ins == 0)
                return 0;
        r = drop_ins_init(&d, name);
        if (r < 0)
                return r;
        for (size_t i = 0; i < d.n; i++) {
                const DropInFolder *f = bsearch(&d.folders[i], folder->drop_ins, folder->n_drop_ins,
                                                sizeof(*folder->drop_ins), folder_by_name);

                if (!f)
                        continue;
                sum = sum_of(sum + 1, f->name, strlen(f->name)) + (uint64_t) -f->error;
                for (size_t k = 0; k < f->n; k++) {
                        sum = sum_of(sum, f->files[k].name, strlen(f->files[k].name) + 1);
                        sum = sum_of(sum, f->files[k].text ?: "", f->files[k].size) +
                              (uint64_t) -f->files[k].error;
                }
        }
        *ret = sum;
        return 0;
}

/* "NAME: " and why the file is refused. 0 or -ENOMEM. */
static int file_say(const DirectoryFile *f, int r, const Error *err, char **ret) {
        if (asprintf(ret, "%s: %s", f->name, error_text(err, r)) < 0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

/* 0: its unit or its error is there; or -ENOMEM, which says nothing of the file. */
static int file_read(int dir_fd, const DirectoryFolder *folder, const char *folder_path,
                     const char *machine_id, DirectoryFile *f) {
        _cleanup_free_ char *text = NULL, *path = NULL;
        _cleanup_text_ Text whole = {};
        const char *reason = NULL;
        size_t size, steps = 0;
        Error err = {};
        int r;

        r = read_file_at(dir_fd, f->name, UNIT_SIZE_MAX, &text, &size);
        if (r == -EFBIG)
                r = error_set(&err, r, "larger than %d KiB", UNIT_SIZE_MAX / 1024);
        else if (r < 0)
                r = error_set(&err, r, "%s",
                              r == -ELOOP  ? "a symbolic link; only plain files are read" :
                              r == -EINVAL ? "not a plain file" :
                                             strerror(-r));
        else if (unit_name_is_refused(f->name, &reason))
                r = error_set(&err, -EPERM, "%s", reason);
        else {
                text_append_bytes(&whole, text, size);
                r = whole.error ?: drop_ins_find(folder, f->name, &whole, &err);
        }
        if (r == 0)
                r = unit_read(f->name, whole.chars ?: "", whole.size, &f->unit, &err);
        if (r == 0) {
                r = unit_check(f->unit, &steps, &err);
                r = r < 0 && r != -ENOMEM ? file_say(f, r, &err, &f->fault) : r;
        }
        if (r == 0 && asprintf(&path, "%s/%s", folder_path, f->name) < 0) {
                path = NULL;
                r = -ENOMEM;
        }
        r = r ?: unit_set_owner(f->unit, machine_id, path);
        if (r == 0)
                return 0;
        f->unit = unit_free(f->unit);
        f->kind = PROBLEM_REFUSED;
        return r == -ENOMEM ? r : file_say(f, r, &err, &f->error);
}

static int by_name(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static int file_by_name(const void *name, const void *file) {
        return strcmp(name, ((const DirectoryFile *) file)->name);
}

DirectoryFile *directory_folder_find(const DirectoryFolder *folder, const char *name) {
        return folder->n == 0 ? NULL :
                                bsearch(name, folder->files, folder->n, sizeof(*folder->files), file_by_name);
}

void directory_folder_touch(DirectoryFolder *folder, const char *name) {
        DirectoryFile *f = name ? directory_folder_find(folder, name) : NULL;

        if (f)
                f->again = true;
        for (size_t i = 0; !name && i < folder->n; i++)
                folder->files[i].again = true;
}

/* -- Scanning -- */

int directory_scan_begin(DirectoryScan *scan, int dir_fd) {
        int copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

        scan->dir_fd = dir_fd;
        scan->dir = copy < 0 ? NULL : fdopendir(copy);
        if (!scan->dir) {
                r = -errno;
                if (copy >= 0)
                        close(copy);
        }
        scan->found.complete = true;
        return r;
}

void directory_scan_done(DirectoryScan *scan) {
        if (scan->dir)
                closedir(scan->dir);
        names_done(&scan->names);
        directory_folder_done(&scan->found);
        *scan = (DirectoryScan) {};
}

static int add_drop_in(DirectoryFolder *folder, const char *name) {
        if (folder->n_drop_ins == DIRECTORY_FILES_MAX)
                return 0;
        if (GROW(folder->drop_ins, folder->drop_ins_capacity, folder->n_drop_ins + 1) < 0)
                return -ENOMEM;
        folder->drop_ins[folder->n_drop_ins] = (DropInFolder) {};
        snprintf(folder->drop_ins[folder->n_drop_ins++].name, sizeof(folder->drop_ins->name), "%s", name);
        return 0;
}

/* A name of the folder: of a unit, of drop-ins, of what we have written beside a unit, or of nobody's. */
static int add_name(DirectoryScan *scan, const char *name) {
        static const char suffix[] = ".error";
        size_t size = strlen(name);
        int r = drop_ins_folder_check(name) ? add_drop_in(&scan->found, name) : 0;

        if (r < 0)
                return r;
        if (ends_with(name, suffix) && scan->found.errors.n < 2 * DIRECTORY_FILES_MAX) {
                r = names_add(&scan->found.errors, name, size - strlen(suffix));
                if (r < 0)
                        return r;
        }
        if (!directory_folder_name_is_unit(name))
                return 0;
        scan->found.complete = scan->names.n < DIRECTORY_FILES_MAX;
        return scan->found.complete ? names_add(&scan->names, name, size) : 0;
}

/* All names are known: their files, in order. */
static int make_files(DirectoryScan *scan) {
        DirectoryFolder *found = &scan->found;
        DirectoryFile *f;

        closedir(scan->dir);
        scan->dir = NULL;
        if (found->n_drop_ins > 0)
                qsort(found->drop_ins, found->n_drop_ins, sizeof(*found->drop_ins), folder_by_name);
        if (scan->names.n > 0)
                qsort(scan->names.items, scan->names.n, sizeof(*scan->names.items), by_name);
        found->files = NEW0(DirectoryFile, scan->names.n + 1);
        if (!found->files)
                return -ENOMEM;
        for (size_t i = 0; i < scan->names.n; i++) /* two of one name: the folder changes while it is read */
                if (i == 0 || !streq(scan->names.items[i], scan->names.items[i - 1]))
                        snprintf(found->files[found->n++].name, sizeof(f->name), "%s", scan->names.items[i]);
        names_done(&scan->names);
        for (size_t i = 0; i < found->errors.n; i++) {
                f = directory_folder_find(found, found->errors.items[i]);
                if (f)
                        f->has_error = true;
        }
        return 0;
}

static int step_names(DirectoryScan *scan) {
        struct dirent *e;
        int r;

        for (size_t n = 0; n < STEP_WORK; n++) {
                errno = 0;
                e = readdir(scan->dir);
                if (!e)
                        return errno ? -errno : make_files(scan);
                r = add_name(scan, e->d_name);
                if (r < 0)
                        return r;
                if (!scan->found.complete)
                        return make_files(scan);
        }
        return 0;
}

static FileStamp stamp_of(const struct stat *st) {
        return (FileStamp) {
                .device = st->st_dev,
                .inode = st->st_ino,
                .size = (uint64_t) st->st_size,
                .modified_ns = st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
                .changed_ns = st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec,
        };
}

static bool stamp_equal(const FileStamp *a, const FileStamp *b) {
        return a->device == b->device && a->inode == b->inode && a->size == b->size &&
               a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

/* A clock that was set back: what is of the future was changed lately, too. */
static bool is_late(const FileStamp *stamp, uint64_t now_ms) {
        return (uint64_t) MAX(stamp->modified_ns, stamp->changed_ns) / 1000000 + LATELY_MS >= now_ms;
}

static int step_file(DirectoryScan *scan, const DirectoryFolder *before, uint64_t now_ms) {
        DirectoryFile *f = &scan->found.files[scan->at_file++];
        const DirectoryFile *was = directory_folder_find(before, f->name);
        struct stat st;
        int r;

        scan->work++;
        f->told = was ? was->told : 0;
        f->unfinished = scan->is_unfinished(scan->userdata, f->name);
        if (f->unfinished)
                return 0;
        r = drop_ins_sum(&scan->found, f->name, &f->drop_ins);
        if (r < 0)
                return r;
        if (fstatat(scan->dir_fd, f->name, &st, AT_SYMLINK_NOFOLLOW) >= 0) {
                f->stamp = stamp_of(&st);
                f->again = f->again || is_late(&f->stamp, now_ms);
                if (was && !was->again && !was->unfinished && was->drop_ins == f->drop_ins &&
                    stamp_equal(&was->stamp, &f->stamp)) {
                        f->same = was - before->files + 1;
                        return 0;
                }
        } else
                f->again = true;
        scan->work += READ_WORK + f->stamp.size / 1024;
        scan->n_read++;
        return file_read(scan->dir_fd, &scan->found, scan->path, scan->machine_id, f);
}

/* What was not read is as it was before. */
static void finish(DirectoryScan *scan, DirectoryFolder *folder) {
        for (size_t i = 0; i < scan->found.n; i++) {
                DirectoryFile *f = &scan->found.files[i],
                              *was = f->same > 0 ? &folder->files[f->same - 1] : NULL;

                f->same = 0;
                if (!was)
                        continue;
                f->unit = TAKE_PTR(was->unit);
                f->fault = TAKE_PTR(was->fault);
                f->error = TAKE_PTR(was->error);
                f->kind = was->kind;
                f->again = f->again || was->again;
        }
        directory_folder_done(folder);
        *folder = scan->found;
        scan->found = (DirectoryFolder) {};
}

int directory_scan_step(DirectoryScan *scan, DirectoryFolder *folder, uint64_t now_ms) {
        int r;

        scan->work = 0;
        if (scan->dir) {
                scan->work = STEP_WORK;
                r = step_names(scan);
                return r < 0 ? r : 1;
        }
        while (scan->at_drop_in < scan->found.n_drop_ins) {
                scan->work += drop_in_read(scan->dir_fd, &scan->found.drop_ins[scan->at_drop_in++]);
                if (scan->work >= STEP_WORK)
                        return 1;
        }
        while (scan->at_file < scan->found.n) {
                r = step_file(scan, folder, now_ms);
                if (r < 0)
                        return r;
                if (scan->work >= STEP_WORK)
                        return 1;
        }
        finish(scan, folder);
        return 0;
}

int directory_folder_read(int dir_fd, const char *path, const char *machine_id,
                          bool (*is_unfinished)(void *userdata, const char *name), void *userdata,
                          DirectoryFolder *ret) {
        _cleanup_(directory_scan_done) DirectoryScan scan = {
                .path = path, .machine_id = machine_id, .is_unfinished = is_unfinished, .userdata = userdata
        };
        _cleanup_directory_folder_ DirectoryFolder folder = {};
        int r;

        r = directory_scan_begin(&scan, dir_fd);
        if (r < 0)
                return r;
        do {
                r = directory_scan_step(&scan, &folder, 0);
        } while (r > 0);
        if (r < 0)
                return r;
        *ret = folder;
        folder = (DirectoryFolder) {};
        return 0;
}

static void error_name(const char *name, char ret[static 264]) {
        snprintf(ret, 264, "%s.error", name);
}

bool directory_folder_write_error(int dir_fd, const char *path, DirectoryFile *f, uint64_t index, bool told) {
        _cleanup_text_ Text t = {};
        char name[264];
        uint64_t sum;
        int r;

        error_name(f->name, name);
        if (!f->error) {
                if (f->unfinished || !f->has_error)
                        return false;
                if (unlinkat(dir_fd, name, 0) == 0)
                        log_info(((LogFields) { .unit = f->name }), "%s/%s is in order again", path, f->name);
                f->has_error = false;
                f->told = 0;
                return true;
        }
        text_printf(&t, "%s\n", f->error);
        if (index > 0)
                text_printf(&t, "The cluster still has the version of index %llu.\n",
                            (unsigned long long) index);
        if (t.error < 0)
                return false;
        sum = MAX(sum_of(0, t.chars, t.size), 1u);
        if (strlen(name) > NAME_MAX) {
                if (!told && f->told != sum)
                        log_warning(((LogFields) { .unit = f->name }),
                                    "%s/%s is refused: %s (its name is too long for a file NAME.error; "
                                    "fleetctl directory shows it)",
                                    path, f->name, f->error);
                f->told = sum;
                return false;
        }
        if (f->has_error && f->told == sum)
                return false;
        if (!file_holds_at(dir_fd, name, t.chars, t.size)) {
                log_warning(((LogFields) { .unit = f->name }), "%s/%s is refused: %s", path, f->name,
                            f->error);
                r = write_file_at(dir_fd, name, t.chars, t.size, 0644);
                if (r < 0) {
                        log_warning(((LogFields) { .error = r }), "cannot write %s/%s: %s", path, name,
                                    strerror(-r));
                        return true;
                }
        }
        f->has_error = true;
        f->told = sum;
        return true;
}

void directory_folder_remove_error(int dir_fd, const char *name) {
        char error[264];

        error_name(name, error);
        (void) unlinkat(dir_fd, error, 0);
}
