#include "fleetd/directory/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/sizes.h"
#include "base/log.h"
#include "fleetd/directory/seen_files.h"
#include "fleetd/directory/scan.h"
#include "io/loop_uv.h"
#include "units/name.h"

enum {
        SETTLE_MS = 150,
        BUSY_MS = 1000, /* a folder that is never quiet is looked at after so long */
        RETRY_MS = 1000,
        PERIOD_MS = 30000,
        ABSENT_MS = 2000,    /* between looks at a folder that cannot be watched, or is not there */
        ERRORS_MAX = 16,     /* files beside refused ones that are written or removed in one turn */
        WRITING_MS = 10000,  /* a file that somebody holds open and writes no more is read after so long */
        BATCH_MAX = 64,      /* changes in one transaction ... */
        PROBLEMS_MAX = 1000, /* that the cluster is told of */
        BATCH_SIZE_MAX = 96 * 1024, /* ... and bytes */
        CHANGE_OVERHEAD = 512,      /* of a change in a transaction, besides the text */
        RECORD_MAX = 4 * 1024 * 1024,
        EVENTS_SIZE = 16 * 1024, /* of inotify, read at a time */
};

/* A file between the first write to it and its closing. */
typedef struct Writing {
        char name[UNIT_NAME_MAX + 1];
        uint64_t until_ms;
        UT_hash_handle hh;
} Writing;

struct Directory {
        Loop *loop; /* borrowed, as the next */
        Registry *registry;
        char path[512], machine_id[MACHINE_ID_SIZE];
        int record_fd, inotify_fd;
        Guest *guest;
        int watch;      /* inotify's number of the folder, or -1: it was not there, or cannot be watched */
        int last_watch; /* the highest number that inotify gave */
        Writing *writing;
        DirectoryFolder folder; /* as the last scan found it */
        bool known;             /* it did */
        uint64_t folder_device, folder_inode;
        DirectoryScan scan;
        int scan_fd;                          /* of the scan under way, or -1 */
        Deferred step;                        /* its next step */
        uint64_t scan_due_ms, compare_due_ms; /* UINT64_MAX: not asked for */
        Timer settle;                         /* the earlier of both */
        uint64_t busy_ms;                     /* since when events keep it from running out; 0: they do not */
        RegistryListener listener;
        SeenFile *record;
        uint64_t device, inode; /* of the folder that the record is about */
        bool crowded;           /* it was said that there are too many files */
        DirectoryCounts counts;
        bool sending; /* a transaction is under way, about these: */
        struct {
                char name[UNIT_NAME_MAX + 1];
                DirectoryTaskKind kind;
        } sent[BATCH_MAX];
        size_t n_sent;
};

/* -- The record -- */

static void record_read(Directory *d) {
        _cleanup_free_ char *text = NULL;
        size_t size;

        if (read_file_at(d->record_fd, "directory", RECORD_MAX, &text, &size) >= 0 &&
            seen_files_read(text, size, &d->device, &d->inode, &d->record) < 0)
                log_warning(NO_FIELDS,
                            "the record of %s cannot be read; files removed meanwhile remove no unit",
                            d->path);
}

/* Removals that are still to be made (or held) stay on the record, so that one that failed is tried again. */
static bool record_keeps(const Directory *d, const SeenFile *seen) {
        const ClusterUnit *u = cluster_any_unit(registry_cluster(d->registry), seen->name);

        if (u && cluster_unit_lacks(u, LAYOUT_UNIT)) /* its owner is not known */
                return true;
        return u && u->unit && u->unit->owner && streq(u->unit->owner, d->machine_id);
}

static void record_write(Directory *d, const struct stat *st, const DirectoryView *view) {
        bool changed = !view->same;
        SeenFile *seen, *next;
        _cleanup_text_ Text t = {};
        int r;

        for (seen = d->record; seen; seen = seen->hh.next)
                seen->there = false;
        for (size_t i = 0; i < view->n_files; i++)
                changed |= seen_files_add(&d->record, view->files[i].name);
        HASH_ITER(hh, d->record, seen, next) {
                if (seen->there || !view->complete || (view->same && record_keeps(d, seen)))
                        continue;
                HASH_DEL(d->record, seen);
                free(seen);
                changed = true;
        }
        if (!changed)
                return;

        d->device = st->st_dev;
        d->inode = st->st_ino;
        seen_files_write(&t, d->device, d->inode, d->record);
        r = t.error ?: write_file_at(d->record_fd, "directory", t.chars, t.size, 0600);
        if (r < 0)
                log_warning(((LogFields) { .error = r }), "cannot keep the record of %s: %s", d->path,
                            strerror(-r));
}

/* -- Files that somebody writes -- */

static void writing_end(Directory *d, const char *name) {
        Writing *w;

        HASH_FIND_STR(d->writing, name, w);
        if (!w)
                return;
        HASH_DEL(d->writing, w);
        free(w);
}

static void writing_clear(Directory *d) {
        while (d->writing)
                writing_end(d, d->writing->name);
}

/* Without memory for it the file is read as it is: what it then says wrong, it says until it is closed. */
static void writing_begin(Directory *d, const char *name) {
        Writing *w;

        HASH_FIND_STR(d->writing, name, w);
        if (!w && HASH_COUNT(d->writing) < DIRECTORY_FILES_MAX && (w = NEW0(Writing, 1))) {
                snprintf(w->name, sizeof(w->name), "%s", name);
                HASH_ADD_STR(d->writing, name, w);
                if (!TABLE_ADDED(w)) {
                        free(w);
                        return;
                }
        }
        if (w)
                w->until_ms = loop_now_ms(d->loop) + WRITING_MS;
}

static void directory_arm(Directory *d) {
        uint64_t now_ms = loop_now_ms(d->loop), due_ms = MIN(d->scan_due_ms, d->compare_due_ms);

        if (due_ms < UINT64_MAX)
                (void) timer_start(&d->settle, d->loop, due_ms > now_ms ? due_ms - now_ms : 0);
}

/* Compare the folder as it was found with the cluster. */
static void directory_later(Directory *d, uint64_t delay_ms) {
        d->compare_due_ms = MIN(d->compare_due_ms, loop_now_ms(d->loop) + delay_ms);
        directory_arm(d);
}

/* And read it before. */
static void directory_scan_later(Directory *d, uint64_t delay_ms) {
        d->scan_due_ms = MIN(d->scan_due_ms, loop_now_ms(d->loop) + delay_ms);
        directory_arm(d);
}

static bool is_unfinished(void *userdata, const char *name) {
        Directory *d = userdata;
        Writing *w;

        HASH_FIND_STR(d->writing, name, w);
        if (!w)
                return false;
        if (w->until_ms > loop_now_ms(d->loop)) {
                directory_scan_later(d, w->until_ms - loop_now_ms(d->loop));
                return true;
        }
        writing_end(d, name);
        return false;
}

/* -- Submitting -- */

static void directory_on_done(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        static const char *const words[_DIRECTORY_TASK_MAX] = {
                [DIRECTORY_SUBMIT] = "is new",
                [DIRECTORY_UPDATE] = "has changed",
                [DIRECTORY_REMOVE] = "is gone: its unit is removed",
                [DIRECTORY_ADOPT] =
                        "is the unit that the cluster has, whose owner is gone: it is this folder's now",
                [DIRECTORY_TAKE_OVER] =
                        "takes the place of the unit that the cluster has: it is this folder's now",
        };
        Directory *d = userdata;

        d->sending = false;
        for (size_t i = 0; i < d->n_sent; i++)
                if (status == KV_OK)
                        log_notice(((LogFields) { .unit = d->sent[i].name, .index = index }), "%s/%s %s",
                                   d->path, d->sent[i].name, words[d->sent[i].kind]);
                else
                        log_debug(((LogFields) { .unit = d->sent[i].name }),
                                  "%s/%s: not yet in the cluster: %s", d->path, d->sent[i].name, sentence);
        if (status != KV_OK && status != KV_COMPARE_FAILED && status != KV_EXISTS)
                log_warning(NO_FIELDS, "%s: %s; trying again", d->path, sentence);
        directory_later(d, status == KV_OK ? 0 : RETRY_MS);
}

/* As many tasks as fit into one transaction, escapes of JSON included; the rest follows. */
static size_t changes_of(Directory *d, const DirectoryDiff *diff, UnitChange changes[static BATCH_MAX]) {
        size_t n = 0, size = 0;

        for (; n < diff->n && n < BATCH_MAX; n++) {
                const DirectoryTask *task = &diff->tasks[n];

                size += CHANGE_OVERHEAD + (task->unit ? task->unit->text_size : 0);
                if (n > 0 && size > BATCH_SIZE_MAX)
                        break;
                changes[n] = (UnitChange) {
                        .unit = task->unit,
                        .name = task->name,
                        .expected_index = task->expected_index,
                        .only_if_absent = task->kind == DIRECTORY_SUBMIT,
                        .remove = task->kind == DIRECTORY_REMOVE,
                        .has_target = task->kind == DIRECTORY_SUBMIT,
                        .target = unit_name_is_template(task->name) ? TARGET_INACTIVE : TARGET_LAUNCHED,
                };
                snprintf(d->sent[n].name, sizeof(d->sent[n].name), "%s", task->name);
                d->sent[n].kind = task->kind;
        }
        d->n_sent = n;
        return n;
}

/* What the cluster is told, and has to forget, of what this folder cannot do by itself. */
typedef struct Telling {
        ProblemChange changes[BATCH_MAX];
        Problem problems[BATCH_MAX];
        char *texts[BATCH_MAX]; /* owned */
        size_t n, n_wanted;
} Telling;

static void telling_free(Telling *t) {
        for (size_t i = 0; t && i < t->n; i++)
                free(t->texts[i]);
        free(t);
}
DEFINE_CLEANUP(Telling *, telling_free)

/* 'text' is taken. What people have said to it holds while it is about the same. */
static void tell(Directory *d, Telling *t, const char *name, ProblemKind kind, uint64_t unit_index,
                 char *text) {
        const ClusterProblem *known = cluster_problem(registry_cluster(d->registry), d->machine_id, name);
        _cleanup_free_ char *owned = text;

        if (!text || ++t->n_wanted > PROBLEMS_MAX || t->n == BATCH_MAX)
                return;
        if (known && known->problem.kind == kind && known->problem.unit_index == unit_index &&
            known->problem.text && streq(known->problem.text, text))
                return;
        if (!known && kind == PROBLEM_HELD) /* the others are said beside their files */
                log_warning(((LogFields) { .unit = name }), "%s", text);
        t->texts[t->n] = TAKE_PTR(owned);
        t->problems[t->n] = (Problem) { .kind = kind, .text = text, .unit_index = unit_index };
        t->changes[t->n] = (ProblemChange) { .machine = d->machine_id,
                                             .name = name,
                                             .problem = &t->problems[t->n] };
        t->n++;
}

static int held_by_name(const void *name, const void *held) {
        return strcmp(name, ((const DirectoryHeld *) held)->unit->name);
}

static bool is_held(const DirectoryDiff *diff, const char *name) {
        return diff->n_held > 0 && bsearch(name, diff->held, diff->n_held, sizeof(*diff->held), held_by_name);
}

static void tell_all(Directory *d, const DirectoryView *view, const DirectoryDiff *diff, Telling *t) {
        const Cluster *c = registry_cluster(d->registry);
        const ClusterMachine *self = cluster_machine(c, d->machine_id);

        for (size_t i = 0; i < view->n_files; i++) {
                const DirectoryFile *f = &view->files[i];
                const ClusterUnit *u = f->error ? cluster_unit(c, f->name) : NULL;

                if (f->error)
                        tell(d, t, f->name, f->kind, u ? u->index : 0, strdup(f->error));
        }
        for (size_t i = 0; i < diff->n_held; i++) {
                const DirectoryHeld *held = &diff->held[i];
                char *text;

                if (asprintf(&text,
                             "%s: its file is gone from %s, %s; the unit is kept. Put the file back, or: "
                             "fleetctl directory confirm %s --machine=%s",
                             held->unit->name, d->path,
                             held->seen ? "at once with many others" :
                                          "which is another folder than the one it was seen in",
                             held->unit->name, cluster_name_of(c, d->machine_id)) < 0)
                        text = NULL;
                tell(d, t, held->unit->name, PROBLEM_HELD, held->unit->index, text);
        }
        for (const ClusterProblem *p = self ? self->problems : NULL; p && t->n < BATCH_MAX; p = p->hh.next) {
                const DirectoryFile *f = directory_file(view, p->unit);

                if ((f && (f->error || f->unfinished)) || is_held(diff, p->unit) || !view->complete)
                        continue;
                t->changes[t->n++] = (ProblemChange) { .machine = d->machine_id,
                                                       .name = p->unit,
                                                       .expected_index = p->index };
        }
}

/* 0, or -ENOMEM: nothing was sent. */
static int directory_send(Directory *d, const DirectoryView *view, const DirectoryDiff *diff) {
        _cleanup_free_ UnitChange *changes = NEW0(UnitChange, BATCH_MAX);
        _cleanup_(telling_freep) Telling *telling = NEW0(Telling, 1);
        size_t n;
        int r;

        if (!changes || !telling)
                return -ENOMEM;
        tell_all(d, view, diff, telling);
        n = changes_of(d, diff, changes);
        if (n == 0 && telling->n == 0)
                return 0;
        r = registry_change_directory(d->registry, changes, n, telling->changes, telling->n,
                                      directory_on_done, d);
        if (r < 0)
                directory_later(d, RETRY_MS);
        else
                d->sending = true;
        return 0;
}

/* Returns whether all was written. */
static bool errors_write(Directory *d, int dir_fd, const DirectoryView *view) {
        const Cluster *c = registry_cluster(d->registry);
        size_t written = 0;

        for (size_t i = 0; i < view->n_files && written < ERRORS_MAX; i++) {
                DirectoryFile *f = &view->files[i];
                const ClusterUnit *u = f->error ? cluster_unit(c, f->name) : NULL;
                const ClusterProblem *known = f->error ? cluster_problem(c, d->machine_id, f->name) : NULL;
                bool told = known && known->problem.text && streq(known->problem.text, f->error);

                written += directory_folder_write_error(dir_fd, d->path, f, u ? u->index : 0, told);
        }
        while (d->folder.errors.n > 0 && view->complete && written < ERRORS_MAX) {
                _cleanup_free_ char *name = d->folder.errors.items[--d->folder.errors.n];
                SeenFile *seen;

                HASH_FIND_STR(d->record, name, seen);
                if (!seen || directory_file(view, name))
                        continue;
                directory_folder_remove_error(dir_fd, name);
                written++;
        }
        return written < ERRORS_MAX;
}

/* Their numbers are not kept: what is told of them, wakes. One that was not watched before is looked at once
 * more. */
static void watch_drop_ins(Directory *d, const DirectoryFolder *folder, size_t first) {
        for (size_t i = first; d->guest && i < folder->n_drop_ins && i < d->scan.at_drop_in; i++) {
                _cleanup_free_ char *path = NULL;
                int watch;

                if (asprintf(&path, "%s/%s", d->path, folder->drop_ins[i].name) < 0) {
                        path = NULL;
                        return;
                }
                watch = inotify_add_watch(d->inotify_fd, path,
                                          IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
                                                  IN_ONLYDIR);
                if (watch > d->last_watch) {
                        d->last_watch = watch;
                        directory_scan_later(d, SETTLE_MS);
                }
        }
}

/* The folder may have changed since it was scanned: a file that came back meanwhile removes nothing. */
static bool is_outdated(int dir_fd, const DirectoryDiff *diff) {
        struct stat st;

        for (size_t i = 0; i < diff->n && i < BATCH_MAX; i++)
                if (diff->tasks[i].kind == DIRECTORY_REMOVE &&
                    (fstatat(dir_fd, diff->tasks[i].name, &st, AT_SYMLINK_NOFOLLOW) >= 0 || errno != ENOENT))
                        return true;
        return false;
}

/* 0 or a negative errno: -ENOMEM is soon over; -ESTALE: the folder is another one, or has changed. */
static int directory_compare(Directory *d, int dir_fd) {
        DirectoryDiff diff = {};
        DirectoryView view;
        struct stat st;
        int r;

        if (fstat(dir_fd, &st) < 0)
                return -errno;
        if (st.st_dev != d->folder_device || st.st_ino != d->folder_inode)
                return -ESTALE;

        /* Another folder is mounted or moved there: its emptiness says nothing about the files of the one
         * before. */
        view = (DirectoryView) {
                .machine_id = d->machine_id,
                .path = d->path,
                .files = d->folder.files,
                .n_files = d->folder.n,
                .record = d->record,
                .complete = d->folder.complete,
                .same = d->device == st.st_dev && d->inode == st.st_ino,
        };
        loop_count(d->loop, d->folder.n, 0);
        r = directory_diff(registry_cluster(d->registry), &view, &diff);
        if (r == 0 && is_outdated(dir_fd, &diff))
                r = -ESTALE;
        if (r == 0) {
                if (!errors_write(d, dir_fd, &view))
                        directory_later(d, 0);
                record_write(d, &st, &view);
                r = directory_send(d, &view, &diff);
        }
        directory_diff_done(&diff);
        return r;
}

/* The folder at that path now: after a mount over it, or a rename, it is another than the one that was
 * watched. */
static void directory_watch(Directory *d) {
        const uint32_t mask = IN_CLOSE_WRITE | IN_MODIFY | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
                              IN_CREATE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
        int watch = d->guest ? inotify_add_watch(d->inotify_fd, d->path, mask) : -1;

        if (watch != d->watch) {
                if (d->watch >= 0)
                        (void) inotify_rm_watch(d->inotify_fd, d->watch);
                writing_clear(d);
        }
        d->watch = watch;
        d->last_watch = MAX(d->last_watch, watch);
}

/* -- Scanning, and comparing -- */

static uint64_t period_ms(const Directory *d) {
        return d->watch >= 0 ? PERIOD_MS : ABSENT_MS;
}

static void scan_end(Directory *d) {
        deferred_cancel(&d->step);
        directory_scan_done(&d->scan);
        if (d->scan_fd >= 0)
                close(d->scan_fd);
        d->scan_fd = -1;
}

static void scan_begin(Directory *d) {
        int r;

        d->busy_ms = 0;
        d->scan_due_ms = UINT64_MAX;
        directory_watch(d); /* before looking: what comes later is told */
        d->scan_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        d->scan = (DirectoryScan) {
                .path = d->path, .machine_id = d->machine_id, .is_unfinished = is_unfinished, .userdata = d
        };
        r = d->scan_fd < 0 ? -errno : directory_scan_begin(&d->scan, d->scan_fd);
        if (r >= 0) {
                loop_defer(d->loop, &d->step);
                return;
        }
        scan_end(d);
        d->known = false;
        directory_scan_later(d, r == -ENOMEM ? RETRY_MS : period_ms(d));
}

static void directory_on_step(void *userdata) {
        Directory *d = userdata;
        size_t first = d->scan.at_drop_in;
        struct stat st;
        int r;

        r = directory_scan_step(&d->scan, &d->folder, loop_wall_ms(d->loop));
        loop_count(d->loop, d->scan.work, 0);
        watch_drop_ins(d, r == 0 ? &d->folder : &d->scan.found, first);
        if (r > 0) {
                loop_defer(d->loop, &d->step);
                return;
        }
        d->counts.scans++;
        d->counts.read += d->scan.n_read;
        if (r == 0 && fstat(d->scan_fd, &st) < 0)
                r = -errno;
        if (r == 0) {
                d->known = true;
                d->folder_device = st.st_dev;
                d->folder_inode = st.st_ino;
                if (!d->folder.complete && !d->crowded)
                        log_warning(NO_FIELDS,
                                    "%s holds more than %d unit files: the others are left out, and none "
                                    "that is gone is taken for removed",
                                    d->path, DIRECTORY_FILES_MAX);
                d->crowded = !d->folder.complete;
                directory_later(d, 0);
        }
        scan_end(d);
        directory_scan_later(d, r == -ENOMEM ? RETRY_MS : period_ms(d));
}

static void compare(Directory *d) {
        _cleanup_close_ int dir_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = dir_fd < 0 ? -ESTALE : directory_compare(d, dir_fd);

        d->known = r != -ESTALE;
        if (r == -ENOMEM)
                directory_later(d, RETRY_MS);
        else if (r < 0)
                directory_scan_later(d, SETTLE_MS);
}

static void directory_on_settled(void *userdata) {
        Directory *d = userdata;
        uint64_t now_ms = loop_now_ms(d->loop);

        if (d->sending || !registry_ready(d->registry)) {
                (void) timer_start(&d->settle, d->loop, RETRY_MS);
                return;
        }
        if (d->scan_fd >= 0)
                return; /* it compares when it is through */
        if (!d->known || now_ms >= d->scan_due_ms) {
                d->compare_due_ms = UINT64_MAX;
                scan_begin(d);
                return;
        }
        if (now_ms >= d->compare_due_ms) {
                d->compare_due_ms = UINT64_MAX;
                compare(d);
        }
        directory_arm(d);
}

/* -- Events: they only mark -- */

static int directory_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        Directory *d = lib;

        *fd = d->inotify_fd;
        *events = POLLIN;
        *timeout_ms = UINT64_MAX;
        return 0;
}

/* The folder has to be quiet for a moment; but one in which something is always written is looked at all the
 * same. */
static void directory_settle(Directory *d) {
        uint64_t now_ms = loop_now_ms(d->loop);

        if (d->busy_ms == 0)
                d->busy_ms = now_ms;
        if (now_ms - d->busy_ms < BUSY_MS)
                d->scan_due_ms = now_ms + SETTLE_MS;
        directory_arm(d);
}

/* What was read of it may be old, whatever its stamp says; of all files: NULL. */
static void directory_touch(Directory *d, const char *name) {
        directory_folder_touch(&d->folder, name);
        directory_folder_touch(&d->scan.found, name);
}

static int directory_work(void *lib) {
        char buffer[EVENTS_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));
        Directory *d = lib;
        ssize_t n = read(d->inotify_fd, buffer, sizeof(buffer));
        bool ours = true;

        if (n <= 0)
                return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
        for (char *p = buffer; p < buffer + n;
             p += sizeof(struct inotify_event) + ((struct inotify_event *) p)->len) {
                const struct inotify_event *e = (const struct inotify_event *) p;

                if (e->mask & IN_Q_OVERFLOW) {
                        writing_clear(d);
                        directory_touch(d, NULL);
                }
                if (e->wd != d->watch && e->wd >= 0) { /* of drop-ins */
                        ours = false;
                        continue;
                }
                if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF))
                        d->watch = -1;
                if (e->len > 0)
                        directory_touch(d, e->name);
                if (e->len > 0 && (e->mask & IN_MODIFY) && directory_folder_name_is_unit(e->name))
                        writing_begin(d, e->name);
                else if (e->len > 0 && (e->mask & (IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM)))
                        writing_end(d, e->name);
                if (e->len == 0 || !(e->name[0] == '.' || ends_with(e->name, ".error")))
                        ours = false;
        }
        if (!ours) /* what we write ourselves is no event */
                directory_settle(d);
        return 1;
}

static void directory_broken(void *lib, int error) {
        Directory *d = lib;

        log_error(((LogFields) { .error = error }), "%s cannot be watched (%s); it is looked at every %d s",
                  d->path, strerror(-error), ABSENT_MS / 1000);
        d->guest = guest_close(d->guest);
        d->watch = -1;
}

static const GuestOps directory_guest = {
        .name = "inotify", .wants = directory_wants, .work = directory_work, .broken = directory_broken
};

/* Units of other folders, and of people, are not this one's business. */
static bool concerns(const Directory *d, const char *unit) {
        const Cluster *c = registry_cluster(d->registry);
        const ClusterUnit *u = cluster_unit(c, unit);
        SeenFile *seen;

        HASH_FIND_STR(d->record, unit, seen);
        return seen || directory_folder_find(&d->folder, unit) || cluster_problem(c, d->machine_id, unit) ||
               (u && u->unit->owner && streq(u->unit->owner, d->machine_id));
}

static void directory_on_change(void *userdata, const RegistryChange *change) {
        Directory *d = userdata;

        bool ours = change->kind == CHANGED_PROBLEM ?
                            streq(change->machine, d->machine_id) :
                            change->kind == CHANGED_UNIT && concerns(d, change->unit);

        if (change->kind == CHANGED_ALL || change->kind == CHANGED_PRESENCE || ours)
                directory_later(d, SETTLE_MS);
}

int directory_new(Directory **ret, Loop *loop, Registry *registry, const DirectoryOptions *options,
                  Error *err) {
        Directory *d = NEW0(Directory, 1);
        int r = 0;

        if (!d)
                return -ENOMEM;
        *d = (Directory) {
                .loop = loop,
                .registry = registry,
                .inotify_fd = -1,
                .watch = -1,
                .settle = TIMER(directory_on_settled, d),
                .step = DEFERRED(directory_on_step, d),
                .scan_fd = -1,
                .compare_due_ms = UINT64_MAX,
                .listener = { .on_change = directory_on_change, .userdata = d },
        };
        snprintf(d->path, sizeof(d->path), "%s", options->path);
        snprintf(d->machine_id, sizeof(d->machine_id), "%s", options->machine_id);
        registry_listen(registry, &d->listener);

        d->record_fd = open_dir(options->record_dir, 0700);
        if (d->record_fd < 0)
                r = error_set(err, d->record_fd, "cannot open %s: %s", options->record_dir,
                              strerror(-d->record_fd));
        if (r == 0) {
                d->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
                if (d->inotify_fd < 0)
                        r = error_set(err, -errno, "cannot watch %s: %s (fs.inotify.max_user_instances?)",
                                      d->path, strerror(errno));
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

DirectoryCounts directory_counts(const Directory *d) {
        return d->counts;
}

Directory *directory_free(Directory *d) {
        if (!d)
                return NULL;

        registry_unlisten(d->registry, &d->listener);
        timer_stop(&d->settle);
        scan_end(d);
        directory_folder_done(&d->folder);
        d->guest = d->guest ? guest_close(d->guest) : NULL;
        if (d->inotify_fd >= 0)
                close(d->inotify_fd);
        if (d->record_fd >= 0)
                close(d->record_fd);
        seen_files_clear(&d->record);
        writing_clear(d);
        registry_forget(d->registry, d);
        free(d);
        return NULL;
}
