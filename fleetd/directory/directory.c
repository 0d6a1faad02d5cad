#include "fleetd/directory/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/directory/diff.h"
#include "io/loop_uv.h"
#include "units/json.h"
#include "units/name.h"

enum {
        SETTLE_MS = 150,
        BUSY_MS = 1000,               /* a folder that is never quiet is looked at after so long */
        RETRY_MS = 1000,
        PERIOD_MS = 30000,
        ABSENT_MS = 2000,             /* between looks at a folder that cannot be watched, or is not there */
        FILES_MAX = 10000,
        BATCH_MAX = 64,               /* changes in one transaction ... */
        BATCH_SIZE_MAX = 96 * 1024,   /* ... and bytes */
        CHANGE_OVERHEAD = 512,        /* of a change in a transaction, besides the text */
        RECORD_MAX = 4 * 1024 * 1024,
        EVENTS_SIZE = 16 * 1024,      /* of inotify, read at a time */
};

struct Directory {
        Loop *loop;         /* borrowed, as the next */
        Registry *registry;
        char path[512], machine_id[33];
        int record_fd, inotify_fd;
        Guest *guest;
        bool watched;       /* the folder was there, and inotify tells of it */
        Timer settle;       /* runs out: look */
        uint64_t busy_ms;   /* since when events keep it from running out; 0: they do not */
        RegistryListener listener;
        DirectoryRecord *record;
        uint64_t device, inode; /* of the folder that the record is about */
        size_t n_held;
        bool writing;
};

/* -- The record: {"device","inode","names":[]} -- */

static void record_clear(Directory *d) {
        DirectoryRecord *r, *next;

        HASH_ITER(hh, d->record, r, next) {
                HASH_DEL(d->record, r);
                free(r);
        }
}

/* True if it is new. */
static bool record_add(Directory *d, const char *name) {
        DirectoryRecord *r;

        HASH_FIND_STR(d->record, name, r);
        if (r || !(r = NEW0(DirectoryRecord, 1)))
                return false;
        snprintf(r->name, sizeof(r->name), "%s", name);
        HASH_ADD_STR(d->record, name, r);
        if (TABLE_ADDED(r))
                return true;
        free(r);
        return false;
}

static void record_read(Directory *d) {
        _cleanup_json_ JsonValue *root = NULL;
        _cleanup_free_ char *text = NULL;
        const JsonValue *names;
        size_t size;

        if (read_file_at(d->record_fd, "directory", RECORD_MAX, &text, &size) < 0)
                return;
        if (json_value_parse(text, size, &root, NULL) < 0 || json_read_u64(root, "device", &d->device, NULL) < 0
            || json_read_u64(root, "inode", &d->inode, NULL) < 0) {
                log_warning(NO_FIELDS, "the record of %s cannot be read; files removed meanwhile remove no unit", d->path);
                d->device = d->inode = 0;
                return;
        }
        names = json_value_member(root, "names");
        for (size_t i = 0; i < json_value_count(names); i++) {
                const char *name = json_value_string(json_value_item(names, i));

                if (name && unit_name_check(name, NULL) == 0)
                        (void) record_add(d, name);
        }
}

/* Removals that are still to be made (or held) stay on the record, so that one that failed is tried again. */
static bool record_keeps(const Directory *d, const DirectoryRecord *seen) {
        const ClusterUnit *u = cluster_unit(registry_cluster(d->registry), seen->name);

        return u && u->unit && u->unit->owner && streq(u->unit->owner, d->machine_id);
}

static void record_write(Directory *d, const struct stat *st, const DirectoryFile *files, size_t n) {
        bool moved = d->device != st->st_dev || d->inode != st->st_ino, changed = moved;
        DirectoryRecord *seen, *next;
        _cleanup_text_ Text t = {};
        int r;

        HASH_ITER(hh, d->record, seen, next) {
                bool there = false;

                for (size_t i = 0; i < n && !there; i++)
                        there = streq(files[i].name, seen->name);
                if (there || (!moved && record_keeps(d, seen)))
                        continue;
                HASH_DEL(d->record, seen);
                free(seen);
                changed = true;
        }
        for (size_t i = 0; i < n; i++)
                changed |= record_add(d, files[i].name);
        if (!changed)
                return;

        d->device = st->st_dev;
        d->inode = st->st_ino;
        json_open(&t, NULL, '{');
        json_add_u64(&t, "device", d->device);
        json_add_u64(&t, "inode", d->inode);
        json_open(&t, "names", '[');
        for (seen = d->record; seen; seen = seen->hh.next)
                json_add_item(&t, seen->name);
        json_close(&t, ']');
        json_close(&t, '}');
        r = t.error ?: write_file_at(d->record_fd, "directory", t.chars, t.size, 0600);
        if (r < 0)
                log_warning(((LogFields) { .error = r }), "cannot keep the record of %s: %s", d->path, strerror(-r));
}

/* -- Reading the folder -- */

static void files_free(DirectoryFile *files, size_t n) {
        for (size_t i = 0; i < n; i++) {
                unit_free(files[i].unit);
                free(files[i].error);
        }
        free(files);
}

/* Editors' and our own files are nobody's units; neither is what has no unit's name. */
static bool is_candidate(const char *name) {
        size_t n = strlen(name);

        return name[0] != '.' && name[0] != '#' && name[n - 1] != '~' && unit_name_check(name, NULL) == 0;
}

static void file_read(Directory *d, int dir_fd, DirectoryFile *f) {
        _cleanup_free_ char *text = NULL, *path = NULL;
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
        else
                r = unit_parse(f->name, text, size, &f->unit, &err);
        if (r == 0 && asprintf(&path, "%s/%s", d->path, f->name) > 0)
                r = unit_set_owner(f->unit, d->machine_id, path);
        if (r < 0) {
                f->unit = unit_free(f->unit);
                if (asprintf(&f->error, "%s: %s", f->name, error_text(&err, r)) < 0)
                        f->error = NULL;
        }
}

static int by_name(const void *a, const void *b) {
        return strcmp(((const DirectoryFile *) a)->name, ((const DirectoryFile *) b)->name);
}

static int directory_read(Directory *d, int dir_fd, DirectoryFile **ret, size_t *ret_n) {
        DirectoryFile *files = NULL;
        size_t n = 0, capacity = 0;
        struct dirent *e;
        DIR *dir;
        int copy, r = 0;

        copy = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        dir = copy < 0 ? NULL : fdopendir(copy);
        if (!dir) {
                r = -errno;
                if (copy >= 0)
                        close(copy);
                return r;
        }
        while (r == 0 && (errno = 0, e = readdir(dir))) {
                if (!is_candidate(e->d_name) || n >= FILES_MAX)
                        continue;
                r = GROW(files, capacity, n + 1);
                if (r < 0)
                        break;
                files[n] = (DirectoryFile) {};
                snprintf(files[n].name, sizeof(files[n].name), "%s", e->d_name);
                n++;
        }
        if (r == 0 && errno != 0)
                r = -errno;
        closedir(dir);
        if (r < 0) {
                files_free(files, n);
                return r;
        }
        if (n > 0)
                qsort(files, n, sizeof(*files), by_name);
        for (size_t i = 0; i < n; i++)
                file_read(d, dir_fd, &files[i]);
        *ret = files;
        *ret_n = n;
        return 0;
}

/* -- What people see: NAME.error beside the file, and the journal -- */

static void error_write(Directory *d, int dir_fd, const DirectoryFile *f) {
        const ClusterUnit *u = cluster_unit(registry_cluster(d->registry), f->name);
        _cleanup_text_ Text t = {};
        char name[264];
        int r;

        snprintf(name, sizeof(name), "%s.error", f->name);
        if (!f->error) {
                if (unlinkat(dir_fd, name, 0) == 0)
                        log_info(((LogFields) { .unit = f->name }), "%s/%s is in order again", d->path, f->name);
                return;
        }

        text_printf(&t, "%s\n", f->error);
        if (u)
                text_printf(&t, "The cluster still has the version of index %llu.\n", (unsigned long long) u->index);
        if (t.error < 0 || file_holds_at(dir_fd, name, t.chars, t.size))
                return;
        log_warning(((LogFields) { .unit = f->name }), "%s/%s is refused: %s", d->path, f->name, f->error);
        r = write_file_at(dir_fd, name, t.chars, t.size, 0644);
        if (r < 0)
                log_warning(((LogFields) { .error = r }), "cannot write %s/%s: %s", d->path, name, strerror(-r));
}

static void errors_sweep(int dir_fd, const DirectoryRecord *record, const DirectoryFile *files, size_t n) {
        for (const DirectoryRecord *seen = record; seen; seen = seen->hh.next) {
                char name[264];
                bool there = false;

                for (size_t i = 0; i < n && !there; i++)
                        there = streq(files[i].name, seen->name);
                snprintf(name, sizeof(name), "%s.error", seen->name);
                if (!there)
                        (void) unlinkat(dir_fd, name, 0);
        }
}

/* -- Submitting -- */

static void directory_later(Directory *d, uint64_t delay_ms) {
        uint64_t due_ms = loop_now_ms(d->loop) + delay_ms;

        if (!timer_armed(&d->settle) || d->settle.due_ms > due_ms)
                (void) timer_start(&d->settle, d->loop, delay_ms);
}

static void directory_on_done(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        Directory *d = userdata;

        d->writing = false;
        if (status != KV_OK && status != KV_COMPARE_FAILED && status != KV_EXISTS)
                log_warning(NO_FIELDS, "%s: %s; trying again", d->path, sentence);
        directory_later(d, status == KV_OK ? 0 : RETRY_MS);
}

static void directory_submit(Directory *d, const DirectoryDiff *diff) {
        static const char *const words[] = { [DIRECTORY_SUBMIT] = "new", [DIRECTORY_UPDATE] = "changed", [DIRECTORY_REMOVE] = "removed" };
        size_t n = 0, size = 0;
        _cleanup_free_ UnitChange *changes = NEW0(UnitChange, BATCH_MAX);
        int r;

        if (!changes)
                return;

        /* As many as fit into one transaction, escapes of JSON included; the rest follows. */
        while (n < diff->n && n < BATCH_MAX) {
                size += CHANGE_OVERHEAD + (diff->tasks[n].unit ? diff->tasks[n].unit->text_size : 0);
                if (n > 0 && size > BATCH_SIZE_MAX)
                        break;
                n++;
        }
        for (size_t i = 0; i < n; i++) {
                const DirectoryTask *task = &diff->tasks[i];

                changes[i] = (UnitChange) {
                        .unit = task->unit,
                        .name = task->name,
                        .expected_index = task->expected_index,
                        .only_if_absent = task->kind == DIRECTORY_SUBMIT,
                        .remove = task->kind == DIRECTORY_REMOVE,
                        .has_target = task->kind == DIRECTORY_SUBMIT,
                        .target = unit_name_is_template(task->name) ? TARGET_INACTIVE : TARGET_LAUNCHED,
                };
                log_notice(((LogFields) { .unit = task->name }), "%s/%s is %s", d->path, task->name, words[task->kind]);
        }
        r = registry_change_units(d->registry, changes, n, directory_on_done, d);
        if (r < 0)
                directory_later(d, RETRY_MS);
        else
                d->writing = true;
}

static void directory_look(Directory *d, int dir_fd) {
        DirectoryFile *files = NULL;
        DirectoryDiff diff = {};
        struct stat st;
        size_t n = 0;
        bool same;

        if (fstat(dir_fd, &st) < 0 || directory_read(d, dir_fd, &files, &n) < 0)
                return;

        /* Another folder is mounted or moved there: its emptiness says nothing about the files of the one before. */
        same = d->device == st.st_dev && d->inode == st.st_ino;
        if (directory_diff(registry_cluster(d->registry), d->machine_id, files, n, d->record, same, &diff) == 0) {
                for (size_t i = 0; i < n; i++)
                        error_write(d, dir_fd, &files[i]);
                errors_sweep(dir_fd, d->record, files, n);
                if (diff.n_held != d->n_held && diff.n_held > 0)
                        log_warning(NO_FIELDS, "%zu files vanished from %s at once: their units are kept; put the files back, or fleetctl destroy the units on this host",
                                    diff.n_held, d->path);
                d->n_held = diff.n_held;

                record_write(d, &st, files, n);
                if (diff.n > 0)
                        directory_submit(d, &diff);
        }
        directory_diff_done(&diff);
        files_free(files, n);
}

static void directory_on_settled(void *userdata) {
        Directory *d = userdata;
        _cleanup_close_ int dir_fd = -1;

        d->busy_ms = 0;
        if (d->writing || !registry_ready(d->registry)) {
                directory_later(d, RETRY_MS);
                return;
        }
        dir_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0) {
                d->watched = false;
                directory_later(d, ABSENT_MS);
                return;
        }
        if (!d->watched)
                d->watched = inotify_add_watch(d->inotify_fd, d->path, IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_CREATE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) >= 0;
        directory_look(d, dir_fd);
        directory_later(d, d->watched ? PERIOD_MS : ABSENT_MS);
}

/* -- Events: they only mark -- */

static int directory_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        Directory *d = lib;

        *fd = d->inotify_fd;
        *events = POLLIN;
        *timeout_ms = UINT64_MAX;
        return 0;
}

/* The folder has to be quiet for a moment; but one in which something is always written is looked at all the same. */
static void directory_settle(Directory *d) {
        uint64_t now_ms = loop_now_ms(d->loop);

        if (d->busy_ms == 0)
                d->busy_ms = now_ms;
        if (now_ms - d->busy_ms < BUSY_MS)
                (void) timer_start(&d->settle, d->loop, SETTLE_MS);
}

static int directory_work(void *lib) {
        char buffer[EVENTS_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));
        Directory *d = lib;
        ssize_t n = read(d->inotify_fd, buffer, sizeof(buffer));
        bool ours = true;

        if (n <= 0)
                return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
        for (char *p = buffer; p < buffer + n; p += sizeof(struct inotify_event) + ((struct inotify_event *) p)->len) {
                const struct inotify_event *e = (const struct inotify_event *) p;

                if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF))
                        d->watched = false;
                if (e->len == 0 || !(e->name[0] == '.' || ends_with(e->name, ".error")))
                        ours = false;
        }
        if (!ours) /* what we write ourselves is no event */
                directory_settle(d);
        return 1;
}

static void directory_broken(void *lib, int error) {
        Directory *d = lib;

        log_error(((LogFields) { .error = error }), "%s cannot be watched (%s); it is looked at every %d s", d->path, strerror(-error), ABSENT_MS / 1000);
        d->guest = guest_close(d->guest);
        d->watched = false;
}

static const GuestOps directory_guest = { .wants = directory_wants, .work = directory_work, .broken = directory_broken };

static void directory_on_change(void *userdata, const RegistryChange *change) {
        Directory *d = userdata;

        if (change->kind == CHANGED_ALL || change->kind == CHANGED_UNIT)
                directory_later(d, SETTLE_MS);
}

int directory_new(Directory **ret, Loop *loop, Registry *registry, const DirectoryOptions *options, Error *err) {
        Directory *d = NEW0(Directory, 1);
        int r = 0;

        if (!d)
                return -ENOMEM;
        *d = (Directory) {
                .loop = loop, .registry = registry, .inotify_fd = -1,
                .settle = { .fire = directory_on_settled, .userdata = d },
                .listener = { .on_change = directory_on_change, .userdata = d },
        };
        snprintf(d->path, sizeof(d->path), "%s", options->path);
        snprintf(d->machine_id, sizeof(d->machine_id), "%s", options->machine_id);
        registry_listen(registry, &d->listener);

        d->record_fd = open_dir(options->record_dir, 0700);
        if (d->record_fd < 0)
                r = error_set(err, d->record_fd, "cannot open %s: %s", options->record_dir, strerror(-d->record_fd));
        if (r == 0) {
                d->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
                if (d->inotify_fd < 0)
                        r = error_set(err, -errno, "cannot watch %s: %s (fs.inotify.max_user_instances?)", d->path, strerror(errno));
        }
        if (r == 0)
                r = guest_open(&d->guest, loop_uv(loop), &directory_guest, d);
        if (r == 0)
                r = timer_start(&d->settle, loop, 0);
        if (r < 0) {
                directory_free(d);
                return r;
        }
        record_read(d);
        *ret = d;
        return 0;
}

Directory *directory_free(Directory *d) {
        if (!d)
                return NULL;

        registry_unlisten(d->registry, &d->listener);
        timer_stop(&d->settle);
        d->guest = d->guest ? guest_close(d->guest) : NULL;
        if (d->inotify_fd >= 0)
                close(d->inotify_fd);
        if (d->record_fd >= 0)
                close(d->record_fd);
        record_clear(d);
        registry_forget(d->registry, d);
        free(d);
        return NULL;
}
