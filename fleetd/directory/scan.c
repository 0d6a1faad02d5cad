#include "fleetd/directory/scan.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/log.h"
#include "fleetd/registry/newer_options.h"

enum {
        STEP_WORK = 1000, /* of one step: each name and each stamp counts one */
        READ_WORK = 20,   /* of reading a file; and one for each KiB */
        /* A file that changed so recently may change again without another stamp: clocks of file systems are
           coarse. */
        RECENT_MS = 2000,
        ERROR_NAME_SIZE = UNIT_NAME_MAX + sizeof(".error"),
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

/* Return whether this is a temporary file of an editor or of fleetd. */
static bool scan_is_temporary(const char *name) {
        size_t n = strlen(name);

        return n == 0 || name[0] == '.' || name[0] == '#' || name[n - 1] == '~';
}

bool directory_folder_name_is_unit(const char *name) {
        return !scan_is_temporary(name) && unit_name_check(name, NULL) == 0;
}

/* Return whether the name can be printed, in a message and in a key. */
static bool scan_is_printable(const char *name, size_t size) {
        for (size_t i = 0; i < size; i++)
                if ((unsigned char) name[i] < ' ' || name[i] == 0x7f)
                        return false;
        return text_is_plain(name, size);
}

bool directory_folder_name_is_misspelt(const char *name) {
        size_t n = strlen(name);

        return !scan_is_temporary(name) && n <= UNIT_NAME_MAX && scan_is_printable(name, n) &&
               unit_name_check(name, NULL) < 0 && (unit_name_has_type(name) || unit_name_meant_type(name));
}

static int scan_compare_drop_ins(const void *a, const void *b) {
        return strcmp(((const DropInFolder *) a)->name, ((const DropInFolder *) b)->name);
}

/* Set *ret to the scanned drop-ins of the unit, lent by 'folder'. 0 or -ENOMEM. */
static int scan_drop_ins(const DirectoryFolder *folder, const char *name, DropIns *ret) {
        int r;

        r = drop_ins_init(ret, name);
        for (size_t i = 0; r >= 0 && folder->drop_ins && i < ret->n; i++) {
                const DropInFolder *f = bsearch(&ret->folders[i], folder->drop_ins, folder->n_drop_ins,
                                                sizeof(*folder->drop_ins), scan_compare_drop_ins);

                if (!f)
                        continue;
                ret->folders[i] = *f;
                ret->folders[i].lent = true;
        }
        return r;
}

/* Append the drop-ins of the unit. */
static int scan_append_drop_ins(const DirectoryFolder *folder, const char *name, Text *t, Error *err) {
        _cleanup_drop_ins_ DropIns d = {};

        if (folder->drop_ins_truncated)
                return error_set(err, -E2BIG, "the directory has more than %d folders of drop-ins",
                                 DIRECTORY_FILES_MAX);
        TRY(scan_drop_ins(folder, name, &d));
        for (size_t i = 0; i < d.n; i++)
                if (d.folders[i].error < 0)
                        return error_set(err, d.folders[i].error, "%s: %s", d.folders[i].name,
                                         d.folders[i].error == -E2BIG ? "too many drop-ins" :
                                                                        strerror(-d.folders[i].error));
        return drop_ins_append(&d, t, err);
}

static uint64_t scan_sum(uint64_t seed, const void *bytes, size_t size) {
        return XXH3_64bits_withSeed(bytes, size, seed);
}

/* Read one folder of drop-ins, for all units. A link whose target has vanished is an error, and no folder
 * that was removed. Return the work. */
static size_t scan_read_drop_ins(int dir_fd, DropInFolder *f) {
        int r = read_folder_at(dir_fd, f->name, DROP_IN_SUFFIX, DROP_INS_MAX, UNIT_SIZE_MAX, &f->files,
                               &f->n);
        size_t work = READ_WORK;
        struct stat st;

        if (r == -ENOTDIR || (r == -ENOENT && fstatat(dir_fd, f->name, &st, AT_SYMLINK_NOFOLLOW) < 0))
                r = 0;
        f->error = r;
        for (size_t i = 0; i < f->n; i++)
                work += READ_WORK + f->files[i].size / 1024;
        return work;
}

/* Compute the sum of the drop-ins of the unit; 0 if it has none. 0 or -ENOMEM. */
static int scan_sum_drop_ins(const DirectoryFolder *folder, const char *name, uint64_t *ret) {
        _cleanup_drop_ins_ DropIns d = {};
        uint64_t sum = 0;

        *ret = 0;
        if (folder->n_drop_ins == 0)
                return 0;
        TRY(scan_drop_ins(folder, name, &d));
        for (size_t i = 0; i < d.n; i++) {
                const DropInFolder *f = &d.folders[i];

                if (!f->lent)
                        continue;
                sum = scan_sum(sum + 1, f->name, strlen(f->name)) + (uint64_t) -f->error;
                for (size_t k = 0; k < f->n; k++) {
                        sum = scan_sum(sum, f->files[k].name, strlen(f->files[k].name) + 1);
                        sum = scan_sum(sum, f->files[k].text ?: "", f->files[k].size) +
                              (uint64_t) -f->files[k].error;
                }
        }
        *ret = sum;
        return 0;
}

/* Set *ret to "NAME: MESSAGE". 0 or -ENOMEM. */
static int scan_describe(const DirectoryFile *f, int error, const Error *err, char **ret) {
        if (asprintf(ret, "%s: %s", f->name, error_text(err, error)) < 0) {
                *ret = NULL;
                return -ENOMEM;
        }
        return 0;
}

static const char *scan_read_error(int error) {
        switch (error) {
        case -ELOOP:
                return "a symbolic link; only plain files are read";
        case -EINVAL:
                return "not a plain file";
        default:
                return strerror(-error);
        }
}

/* Parse the file with its drop-ins as a unit that the machine owns; a fault does not prevent that. */
static int scan_parse_file(const DirectoryScan *scan, DirectoryFile *f, Error *err) {
        _cleanup_free_ char *text = NULL, *path = NULL;
        _cleanup_text_ Text whole = {};
        const char *reason = NULL;
        size_t size, steps = 0;
        Error name_err = {};
        int r;

        r = unit_name_check(f->name, &name_err);
        if (r < 0)
                return error_set(err, r, "not a unit name: %s", error_text(&name_err, r));
        r = read_file_at(scan->dir_fd, f->name, UNIT_SIZE_MAX, &text, &size);
        if (r == -EFBIG)
                return error_set(err, r, "larger than %d KiB", UNIT_SIZE_MAX / 1024);
        if (r < 0)
                return error_set(err, r, "%s", scan_read_error(r));
        if (unit_name_is_refused(f->name, &reason))
                return error_set(err, -EPERM, "%s", reason);

        text_append_bytes(&whole, text, size);
        if (whole.error < 0)
                return whole.error;
        TRY(scan_append_drop_ins(&scan->found, f->name, &whole, err));
        TRY(unit_read(f->name, whole.chars ?: "", whole.size, &f->unit, err));
        r = unit_check(f->unit, &steps, err);
        if (r < 0 && r != -ENOMEM)
                r = scan_describe(f, r, err, &f->fault);
        if (r >= 0)
                r = cluster_check_options(f->unit, scan->level, err);
        if (r < 0)
                return r;
        if (asprintf(&path, "%s/%s", scan->path, f->name) < 0) {
                path = NULL;
                return -ENOMEM;
        }
        return unit_set_owner(f->unit, scan->machine_id, path);
}

/* Set the file's unit or its error. 0, or -ENOMEM: nothing is known about the file. */
static int scan_read_file(const DirectoryScan *scan, DirectoryFile *f) {
        Error err = {};
        int r;

        r = scan_parse_file(scan, f, &err);
        if (r >= 0)
                return 0;
        f->unit = unit_free(f->unit);
        f->kind = PROBLEM_REFUSED;
        return r == -ENOMEM ? r : scan_describe(f, r, &err, &f->error);
}

DirectoryFile *directory_folder_find(const DirectoryFolder *folder, const char *name) {
        return directory_file_find(folder->files, folder->n, name);
}

void directory_folder_touch(DirectoryFolder *folder, const char *name) {
        DirectoryFile *f = name ? directory_folder_find(folder, name) : NULL;

        if (f)
                f->reread = true;
        for (size_t i = 0; !name && i < folder->n; i++)
                folder->files[i].reread = true;
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

static int scan_add_drop_in(DirectoryFolder *folder, const char *name) {
        if (folder->n_drop_ins == DIRECTORY_FILES_MAX) {
                folder->drop_ins_truncated = true;
                return 0;
        }
        TRY(GROW(folder->drop_ins, folder->drop_ins_capacity, folder->n_drop_ins + 1));
        folder->drop_ins[folder->n_drop_ins] = (DropInFolder) {};
        snprintf(folder->drop_ins[folder->n_drop_ins++].name, sizeof(folder->drop_ins->name), "%s", name);
        return 0;
}

/* Return whether this is a plain file with a misspelt name. */
static bool scan_is_misspelt_file(const DirectoryScan *scan, const char *name) {
        struct stat st;

        return directory_folder_name_is_misspelt(name) &&
               fstatat(scan->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

/* Add a name of the directory: of a unit, or meant as one, of drop-ins, or of an .error file. Ignore all
 * others, and units above the limit: folders of drop-ins may follow them. */
static int scan_add_name(DirectoryScan *scan, const char *name) {
        static const char suffix[] = ".error";
        size_t size = strlen(name);

        TRY(drop_ins_folder_check(name) ? scan_add_drop_in(&scan->found, name) : 0);
        if (ends_with(name, suffix) && scan->found.errors.n < 2 * DIRECTORY_FILES_MAX)
                TRY(names_add(&scan->found.errors, name, size - strlen(suffix)));
        if (!directory_folder_name_is_unit(name) && !scan_is_misspelt_file(scan, name))
                return 0;
        scan->found.complete = scan->names.n < DIRECTORY_FILES_MAX;
        return scan->found.complete ? names_add(&scan->names, name, size) : 0;
}

/* Create the sorted list of files when all names are read. */
static int scan_make_files(DirectoryScan *scan) {
        DirectoryFolder *found = &scan->found;
        DirectoryFile *f;

        closedir(scan->dir);
        scan->dir = NULL;
        if (found->n_drop_ins > 0)
                qsort(found->drop_ins, found->n_drop_ins, sizeof(*found->drop_ins), scan_compare_drop_ins);
        if (scan->names.n > 0)
                qsort(scan->names.items, scan->names.n, sizeof(*scan->names.items), text_compare);
        found->files = NEW0(DirectoryFile, scan->names.n + 1);
        if (!found->files)
                return -ENOMEM;
        for (size_t i = 0; i < scan->names.n;
             i++) /* the directory changes while it is read, and may list a name twice */
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

static int scan_step_names(DirectoryScan *scan) {
        struct dirent *e;

        for (size_t n = 0; n < STEP_WORK; n++) {
                errno = 0;
                e = readdir(scan->dir);
                if (!e)
                        return errno ? -errno : scan_make_files(scan);
                TRY(scan_add_name(scan, e->d_name));
        }
        return 0;
}

/* After the clock was set back, a stamp in the future is recent, too. */
static bool scan_is_recent(const FileStamp *stamp, uint64_t now_ms) {
        return (uint64_t) MAX(stamp->modified_ns, stamp->changed_ns) / 1000000 + RECENT_MS >= now_ms;
}

static int scan_step_file(DirectoryScan *scan, const DirectoryFolder *before, uint64_t now_ms) {
        DirectoryFile *f = &scan->found.files[scan->at_file++];
        const DirectoryFile *was = directory_folder_find(before, f->name);

        scan->work++;
        f->error_sum = was ? was->error_sum : 0;
        f->unfinished = scan->is_unfinished(scan->userdata, f->name);
        if (f->unfinished)
                return 0;
        TRY(scan_sum_drop_ins(&scan->found, f->name, &f->drop_ins_sum));
        if (file_stamp_at(scan->dir_fd, f->name, &f->stamp) >= 0) {
                f->reread = f->reread || scan_is_recent(&f->stamp, now_ms);
                if (was && !was->reread && !was->unfinished && was->drop_ins_sum == f->drop_ins_sum &&
                    memcmp(&was->stamp, &f->stamp, sizeof(f->stamp)) == 0) {
                        f->previous = was - before->files + 1;
                        return 0;
                }
        } else
                f->reread = true;
        scan->work += READ_WORK + f->stamp.size / 1024;
        scan->n_read++;
        return scan_read_file(scan, f);
}

/* Take what was not read from the previous scan. */
static void scan_finish(DirectoryScan *scan, DirectoryFolder *folder) {
        for (size_t i = 0; i < scan->found.n; i++) {
                DirectoryFile *f = &scan->found.files[i],
                              *was = f->previous > 0 ? &folder->files[f->previous - 1] : NULL;

                f->previous = 0;
                if (!was)
                        continue;
                f->unit = TAKE_PTR(was->unit);
                f->fault = TAKE_PTR(was->fault);
                f->error = TAKE_PTR(was->error);
                f->kind = was->kind;
                f->reread = f->reread || was->reread;
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
                r = scan_step_names(scan);
                return r < 0 ? r : 1;
        }
        while (scan->at_drop_in < scan->found.n_drop_ins) {
                scan->work += scan_read_drop_ins(scan->dir_fd, &scan->found.drop_ins[scan->at_drop_in++]);
                if (scan->work >= STEP_WORK)
                        return 1;
        }
        while (scan->at_file < scan->found.n) {
                TRY(scan_step_file(scan, folder, now_ms));
                if (scan->work >= STEP_WORK)
                        return 1;
        }
        scan_finish(scan, folder);
        return 0;
}

/* -- NAME.error -- */

static void error_file_name(const char *name, char ret[static ERROR_NAME_SIZE]) {
        snprintf(ret, ERROR_NAME_SIZE, "%s.error", name);
}

static bool error_file_remove(int dir_fd, const char *path, const char *error_name, DirectoryFile *f) {
        if (f->unfinished || !f->has_error)
                return false;
        if (unlinkat(dir_fd, error_name, 0) == 0)
                log_info(((LogFields) { .unit = f->name }), "%s/%s is in order again", path, f->name);
        f->has_error = false;
        f->error_sum = 0;
        return true;
}

/* Return whether the cluster has the text of the file. */
static bool error_is_in_force(const DirectoryFile *f) {
        return f->kind == PROBLEM_WARNED || f->kind == PROBLEM_PAUSED;
}

/* Append the path of the file, the kind of its problem if the cluster does not have its text, and the error.
 */
static void error_append_message(Text *t, const char *path, const DirectoryFile *f) {
        text_printf(t, "%s/%s", path, f->name);
        if (!error_is_in_force(f))
                text_printf(t, " is %s", problem_kind_to_string(f->kind));
        text_printf(t, ": %s", f->error);
}

/* Append what an operator does with a rejected file. */
static void error_append_step(Text *t, const char *path, const char *name) {
        const char *type = unit_name_meant_type(name);

        if (unit_name_check(name, NULL) == 0)
                text_printf(t, "Correct %s/%s; it is read again when it is saved.\n", path, name);
        else if (type)
                text_printf(t, "Rename %s/%s, for example to %.*s%s.\n", path, name,
                            (int) (unit_name_type(name) - name), name, type);
        else
                text_printf(t, "Rename %s/%s.\n", path, name);
}

bool directory_folder_write_error(int dir_fd, const char *path, DirectoryFile *f, uint64_t index,
                                  bool published) {
        _cleanup_text_ Text t = {}, message = {};
        char name[ERROR_NAME_SIZE];
        uint64_t sum;
        int r;

        error_file_name(f->name, name);
        if (!f->error || f->kind == PROBLEM_UNOWNED) /* nothing is to be corrected */
                return error_file_remove(dir_fd, path, name, f);
        text_printf(&t, "%s\n", f->error);
        if (f->kind == PROBLEM_REFUSED)
                error_append_step(&t, path, f->name);
        if (index > 0 && !error_is_in_force(f) && f->kind != PROBLEM_TAKEN) /* else it is of another file */
                text_printf(&t, "The cluster still has the previous text: fleetctl cat %s\n", f->name);
        error_append_message(&message, path, f);
        if (t.error < 0 || message.error < 0)
                return false;
        sum = MAX(scan_sum(0, t.chars, t.size), 1u);
        if (strlen(name) > NAME_MAX) {
                if (!published && f->error_sum != sum)
                        log_warning(((LogFields) { .unit = f->name }),
                                    "%s (its name is too long for a file NAME.error; fleetctl directory "
                                    "shows it)",
                                    message.chars);
                f->error_sum = sum;
                return false;
        }
        if (f->has_error && f->error_sum == sum)
                return false;
        if (!file_holds_at(dir_fd, name, t.chars, t.size)) {
                log_warning(((LogFields) { .unit = f->name }), "%s", message.chars);
                r = write_file_at(dir_fd, name, t.chars, t.size, 0644);
                if (r < 0) {
                        log_warning(((LogFields) { .error = r }), "Failed to write %s/%s: %s", path, name,
                                    strerror(-r));
                        return true;
                }
        }
        f->has_error = true;
        f->error_sum = sum;
        return true;
}

void directory_folder_remove_error(int dir_fd, const char *name) {
        char error_name[ERROR_NAME_SIZE];

        error_file_name(name, error_name);
        (void) unlinkat(dir_fd, error_name, 0);
}
