#include "fleetd/directory/directory.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/directory/problems.h"
#include "fleetd/directory/scan.h"
#include "fleetd/directory/seen_files.h"
#include "io/loop_uv.h"

enum {
        QUIET_MS = 150, /* from the last event to the scan, so that a series of changes is one scan */
        BUSY_MS = 1000, /* a directory that changes continuously is scanned after so long */
        RETRY_MS = 1000,
        PERIOD_MS = 30000,
        ABSENT_MS = 2000,   /* between scans of a directory that is absent, or cannot be watched */
        ERRORS_MAX = 16,    /* .error files that are written or removed in one turn */
        WRITING_MS = 10000, /* after which a file is read that a program holds open and no longer writes */
        BATCH_MAX = 64,     /* unit changes in one transaction ... */
        BATCH_SIZE_MAX = 96 * 1024, /* ... and bytes */
        CHANGE_OVERHEAD = 512,      /* bytes of a change in a transaction, in addition to the text */
        RECORD_MAX = 4 * 1024 * 1024,
        DIRECTORY_PATH_SIZE = 512,
        EVENTS_SIZE = 16 * 1024,  /* of inotify, read at a time */
        DIRECTORY_LISTED_MAX = 4, /* names that a listing returns */
};

/* A file between the first write to it and its closing. */
typedef struct Writing {
        Named file;
        uint64_t until_ms;
} Writing;

struct Directory {
        Loop *loop; /* borrowed, as the next */
        Registry *registry;
        RegistryObserver observer;
        const char *path, *machine_id; /* borrowed */

        int inotify_fd;
        Guest *guest;
        int watch;      /* inotify's number of the directory; -1: absent, or not watched */
        int last_watch; /* the highest number that inotify assigned */
        Named *writing; /* Writing, by name */

        DirectoryScan scan;
        int scan_fd;                          /* of the scan in progress, or -1 */
        Deferred step;                        /* its next step */
        uint64_t scan_due_ms, compare_due_ms; /* UINT64_MAX: not requested */
        Timer timer;                          /* the earlier of both */
        uint64_t busy_ms;                     /* since when events postpone the scan; 0: they do not */
        unsigned level;                       /* of the cluster, at the last scan */
        DirectoryFolder folder;               /* the result of the last scan */
        uint64_t folder_device, folder_inode;
        bool known;           /* 'folder' is valid */
        bool overflow_logged; /* too many files */
        bool failure_logged;  /* the last transaction was rejected, or could not be sent */

        Named *record; /* SeenFile, by name */
        int record_fd;
        uint64_t device, inode; /* of the directory that the record is about */

        struct { /* the transaction in progress */
                char name[UNIT_NAME_MAX + 1];
                DirectoryTaskKind kind;
        } sent[BATCH_MAX];
        size_t n_sent;
        bool sending;
};

/* -- The record -- */

static bool directory_owns(const Directory *d, const char *unit) {
        const ClusterUnit *u = cluster_unit(registry_cluster(d->registry), unit);

        return u && u->unit->owner && streq(u->unit->owner, d->machine_id);
}

/* A removal that is not complete, or held, remains in the record, so that it is repeated after a failure. */
static bool record_keeps(const Directory *d, const char *name) {
        const ClusterUnit *u = cluster_any_unit(registry_cluster(d->registry), name);

        /* The owner of an unreadable unit is unknown. */
        return (u && cluster_unit_has_unreadable(u, LAYOUT_UNIT)) || directory_owns(d, name);
}

static void record_write(Directory *d, const struct stat *st, const DirectoryView *view) {
        bool changed = !view->same;
        Named *entry, *next;
        _cleanup_text_ Text t = {};
        int r;

        for (entry = d->record; entry; entry = entry->hh.next)
                ((SeenFile *) entry)->there = false;
        for (size_t i = 0; i < view->n_files; i++)
                changed |= seen_files_add(&d->record, view->files[i].name);
        HASH_ITER(hh, d->record, entry, next) {
                const SeenFile *seen = (const SeenFile *) entry;

                if (seen->there || !view->complete || (view->same && record_keeps(d, entry->name)))
                        continue;
                named_remove(&d->record, entry->name);
                changed = true;
        }
        if (!changed)
                return;

        d->device = st->st_dev;
        d->inode = st->st_ino;
        seen_files_write(&t, d->device, d->inode, d->record);
        r = t.error ?: write_file_at(d->record_fd, "directory", t.chars, t.size, 0600);
        if (r < 0)
                log_warning(((LogFields) { .error = r }), "Failed to write the record of %s: %s", d->path,
                            strerror(-r));
}

/* -- Files that are being written -- */

/* Without memory, an incomplete file is read; an error in it remains until the file is closed. */
static void writing_begin(Directory *d, const char *name) {
        Writing *w = HASH_COUNT(d->writing) < DIRECTORY_FILES_MAX ?
                             named_get(&d->writing, name, sizeof(Writing)) :
                             named_find(d->writing, name);

        if (w)
                w->until_ms = loop_now_ms(d->loop) + WRITING_MS;
}

static void directory_arm(Directory *d) {
        uint64_t now_ms = loop_now_ms(d->loop), due_ms = MIN(d->scan_due_ms, d->compare_due_ms);

        if (due_ms < UINT64_MAX)
                (void) timer_start(&d->timer, d->loop, due_ms > now_ms ? due_ms - now_ms : 0);
}

/* Compare the result of the last scan with the cluster. */
static void directory_compare_later(Directory *d, uint64_t delay_ms) {
        d->compare_due_ms = MIN(d->compare_due_ms, loop_now_ms(d->loop) + delay_ms);
        directory_arm(d);
}

/* Scan, then compare. */
static void directory_scan_later(Directory *d, uint64_t delay_ms) {
        d->scan_due_ms = MIN(d->scan_due_ms, loop_now_ms(d->loop) + delay_ms);
        directory_arm(d);
}

static bool directory_is_unfinished(void *userdata, const char *name) {
        Directory *d = userdata;
        const Writing *w = named_find(d->writing, name);

        if (!w)
                return false;
        if (w->until_ms > loop_now_ms(d->loop)) {
                directory_scan_later(d, w->until_ms - loop_now_ms(d->loop));
                return true;
        }
        named_remove(&d->writing, name);
        return false;
}

/* -- Submitting -- */

static void directory_failed(Directory *d, const char *why) {
        if (!d->failure_logged)
                log_warning(NO_FIELDS, "Failed to submit the units of %s: %s; trying again", d->path, why);
        d->failure_logged = true;
        directory_compare_later(d, RETRY_MS);
}

static void directory_on_sent(void *userdata, KvStatus status, const char *message, uint64_t index) {
        static const char *const results[_DIRECTORY_TASK_MAX] = {
                [DIRECTORY_SUBMIT] = "is new",
                [DIRECTORY_UPDATE] = "has changed",
                [DIRECTORY_REMOVE] = "is gone; removed its unit",
                [DIRECTORY_ADOPT] = "is the unit of an owner that is gone; adopted the unit",
                [DIRECTORY_TAKE_OVER] = "owns the unit now, as confirmed",
        };
        Directory *d = userdata;

        d->sending = false;
        for (size_t i = 0; i < d->n_sent; i++)
                if (status == KV_OK)
                        log_notice(((LogFields) { .unit = d->sent[i].name, .index = index }), "%s/%s %s",
                                   d->path, d->sent[i].name, results[d->sent[i].kind]);
                else
                        log_debug(((LogFields) { .unit = d->sent[i].name }),
                                  "Failed to submit %s/%s: %s; trying again", d->path, d->sent[i].name,
                                  message);
        if (status != KV_OK && status != KV_COMPARE_FAILED && status != KV_EXISTS) {
                directory_failed(d, message);
                return;
        }
        d->failure_logged = false;
        directory_compare_later(d, status == KV_OK ? 0 : RETRY_MS);
}

/* A file states that its unit is to run, unless it has TargetState=; so does a template with Replicas=. */
static TargetState directory_target(const DirectoryTask *task) {
        if (!task->unit || (unit_name_is_template(task->name) && task->unit->placement.replicas < 0))
                return TARGET_INACTIVE;
        return task->unit->placement.target != TARGET_INACTIVE ? task->unit->placement.target :
                                                                 TARGET_LAUNCHED;
}

/* Return as many changes as fit into one transaction, with JSON's escapes; the rest follows. */
static size_t directory_changes(Directory *d, const DirectoryDiff *diff,
                                UnitChange changes[static BATCH_MAX]) {
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
                        .has_target = task->kind == DIRECTORY_SUBMIT || task->retargets,
                        .target = directory_target(task),
                        .user = HISTORY_DIRECTORY,
                };
                snprintf(d->sent[n].name, sizeof(d->sent[n].name), "%s", task->name);
                d->sent[n].kind = task->kind;
        }
        d->n_sent = n;
        return n;
}

/* Write the changes of units and of problem keys in one transaction. 0: it was sent, or is tried again later;
 * or -ENOMEM. */
static int directory_send(Directory *d, const DirectoryView *view, const DirectoryDiff *diff) {
        _cleanup_free_ UnitChange *changes = NEW0(UnitChange, BATCH_MAX);
        _cleanup_free_ DirectoryProblems *problems = NULL;
        size_t n;
        int r;

        if (!changes)
                return -ENOMEM;
        TRY(directory_problems_new(registry_cluster(d->registry), view, diff, &problems));
        n = directory_changes(d, diff, changes);
        if (n == 0 && problems->n == 0)
                return 0;
        r = registry_change_directory(d->registry, changes, n, problems->changes, problems->n,
                                      directory_on_sent, d);
        d->sending = r >= 0;
        if (r < 0)
                directory_failed(d, r == -EBUSY ? "too many revisions are stored (KeepRevisions=)" :
                                                  strerror(-r));
        return 0;
}

/* Return whether all .error files are up to date. */
static bool directory_write_errors(Directory *d, int dir_fd, const DirectoryView *view) {
        const Cluster *c = registry_cluster(d->registry);
        size_t written = 0;

        for (size_t i = 0; i < view->n_files && written < ERRORS_MAX; i++) {
                DirectoryFile *f = &view->files[i];
                const ClusterUnit *u = f->error ? cluster_unit(c, f->name) : NULL;
                const ClusterProblem *known = f->error ? cluster_problem(c, d->machine_id, f->name) : NULL;
                bool published = known && same_string(known->problem.text, f->error);

                written += directory_folder_write_error(dir_fd, d->path, f, u ? u->index : 0, published);
        }
        while (d->folder.errors.n > 0 && view->complete && written < ERRORS_MAX) {
                _cleanup_free_ char *name = d->folder.errors.items[--d->folder.errors.n];
                if (!named_find(d->record, name) || directory_file_find(view->files, view->n_files, name))
                        continue;
                directory_folder_remove_error(dir_fd, name);
                written++;
        }
        return written < ERRORS_MAX;
}

/* Watch the drop-in directories that the last step of the scan found. An event of one requests a scan, so
 * that their numbers need not be kept. A directory that was not watched before may have changed already, and
 * requests a scan, too. */
static void directory_watch_drop_ins(Directory *d, const DirectoryFolder *folder, size_t first) {
        for (size_t i = first; d->guest && i < folder->n_drop_ins && i < d->scan.at_drop_in; i++) {
                char path[DIRECTORY_PATH_SIZE + sizeof(folder->drop_ins->name)];
                int watch;

                snprintf(path, sizeof(path), "%s/%s", d->path, folder->drop_ins[i].name);
                watch = inotify_add_watch(d->inotify_fd, path,
                                          IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
                                                  IN_ONLYDIR);
                if (watch > d->last_watch) {
                        d->last_watch = watch;
                        directory_scan_later(d, QUIET_MS);
                }
        }
}

/* Return whether a file returned after the scan: its unit is not removed. */
static bool directory_is_outdated(int dir_fd, const DirectoryDiff *diff) {
        struct stat st;

        for (size_t i = 0; i < diff->n && i < BATCH_MAX; i++)
                if (diff->tasks[i].kind == DIRECTORY_REMOVE &&
                    (fstatat(dir_fd, diff->tasks[i].name, &st, AT_SYMLINK_NOFOLLOW) >= 0 || errno != ENOENT))
                        return true;
        return false;
}

/* Compare the files with the cluster, and submit the differences. 0, -ENOMEM, or -ESTALE: another directory
 * is at the path, or the directory has changed since the scan. */
static int directory_compare(Directory *d, int dir_fd) {
        _cleanup_(directory_diff_done) DirectoryDiff diff = {};
        DirectoryView view;
        struct stat st;

        if (fstat(dir_fd, &st) < 0)
                return -errno;
        if (st.st_dev != d->folder_device || st.st_ino != d->folder_inode)
                return -ESTALE;

        /* The absence of a file from another directory, mounted or moved here, means nothing. */
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
        TRY(directory_diff(registry_cluster(d->registry), &view, &diff));
        if (directory_is_outdated(dir_fd, &diff))
                return -ESTALE;
        if (!directory_write_errors(d, dir_fd, &view))
                directory_compare_later(d, 0);
        record_write(d, &st, &view);
        return directory_send(d, &view, &diff);
}

/* Watch the directory that is at the path now: after a mount or a rename, it is another one. */
static void directory_watch(Directory *d) {
        const uint32_t mask = IN_CLOSE_WRITE | IN_MODIFY | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
                              IN_CREATE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
        int watch = d->guest ? inotify_add_watch(d->inotify_fd, d->path, mask) : -1;

        if (watch != d->watch) {
                if (d->watch >= 0)
                        (void) inotify_rm_watch(d->inotify_fd, d->watch);
                named_clear(&d->writing);
        }
        d->watch = watch;
        d->last_watch = MAX(d->last_watch, watch);
}

/* -- Scanning and comparing -- */

static uint64_t directory_period_ms(const Directory *d) {
        return d->watch >= 0 ? PERIOD_MS : ABSENT_MS;
}

static void directory_scan_end(Directory *d) {
        deferred_cancel(&d->step);
        directory_scan_done(&d->scan);
        if (d->scan_fd >= 0)
                close(d->scan_fd);
        d->scan_fd = -1;
}

static void directory_scan_start(Directory *d) {
        KvState state;
        int r;

        kv_state(registry_store(d->registry), &state);
        if (state.level != d->level)
                directory_folder_touch(&d->folder, NULL); /* other options are accepted */
        d->level = state.level;
        d->busy_ms = 0;
        d->scan_due_ms = UINT64_MAX;
        directory_watch(d); /* before the scan, so that no change is missed */
        d->scan_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        d->scan = (DirectoryScan) { .path = d->path,
                                    .machine_id = d->machine_id,
                                    .level = d->level,
                                    .is_unfinished = directory_is_unfinished,
                                    .userdata = d };
        r = d->scan_fd < 0 ? -errno : directory_scan_begin(&d->scan, d->scan_fd);
        if (r >= 0) {
                loop_defer(d->loop, &d->step);
                return;
        }
        directory_scan_end(d);
        d->known = false;
        directory_scan_later(d, r == -ENOMEM ? RETRY_MS : directory_period_ms(d));
}

static void directory_on_step(void *userdata) {
        Directory *d = userdata;
        size_t first = d->scan.at_drop_in;
        struct stat st;
        int r;

        r = directory_scan_step(&d->scan, &d->folder, loop_wall_ms(d->loop));
        loop_count(d->loop, d->scan.work, 0);
        directory_watch_drop_ins(d, r == 0 ? &d->folder : &d->scan.found, first);
        if (r > 0) {
                loop_defer(d->loop, &d->step);
                return;
        }
        if (r == 0 && fstat(d->scan_fd, &st) < 0)
                r = -errno;
        if (r == 0) {
                d->known = true;
                d->folder_device = st.st_dev;
                d->folder_inode = st.st_ino;
                if (!d->folder.complete && !d->overflow_logged)
                        log_warning(NO_FIELDS,
                                    "%s contains more than %d unit files; the others are ignored, and no "
                                    "missing file counts as removed",
                                    d->path, DIRECTORY_FILES_MAX);
                d->overflow_logged = !d->folder.complete;
                directory_compare_later(d, 0);
        }
        directory_scan_end(d);
        directory_scan_later(d, r == -ENOMEM ? RETRY_MS : directory_period_ms(d));
}

static void directory_open_and_compare(Directory *d) {
        _cleanup_close_ int dir_fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = dir_fd < 0 ? -ESTALE : directory_compare(d, dir_fd);

        d->known = r != -ESTALE;
        if (r == -ENOMEM)
                directory_compare_later(d, RETRY_MS);
        else if (r < 0)
                directory_scan_later(d, QUIET_MS);
}

static void directory_on_timer(void *userdata) {
        Directory *d = userdata;
        uint64_t now_ms = loop_now_ms(d->loop);

        /* After a crash, the tree may be older than what this host has seen: in it, texts are refused that
         * are in order, and requests of users are not there yet. */
        if (d->sending || !registry_ready(d->registry) || !kv_can_serve(registry_store(d->registry))) {
                (void) timer_start(&d->timer, d->loop, RETRY_MS);
                return;
        }
        if (d->scan_fd >= 0)
                return; /* the end of the scan compares */
        if (!d->known || now_ms >= d->scan_due_ms) {
                d->compare_due_ms = UINT64_MAX;
                directory_scan_start(d);
                return;
        }
        if (now_ms >= d->compare_due_ms) {
                d->compare_due_ms = UINT64_MAX;
                directory_open_and_compare(d);
        }
        directory_arm(d);
}

/* -- Events of inotify -- */

static int directory_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        Directory *d = lib;

        *fd = d->inotify_fd;
        *events = POLLIN;
        *timeout_ms = UINT64_MAX;
        return 0;
}

/* Read the file again with the next scan, even if its stamp is unchanged. NULL: all files. */
static void directory_touch(Directory *d, const char *name) {
        directory_folder_touch(&d->folder, name);
        directory_folder_touch(&d->scan.found, name);
}

/* Return whether the event is of a file that fleetd itself writes: it requests no scan. */
static bool directory_on_event(Directory *d, const struct inotify_event *e) {
        if (e->mask & IN_Q_OVERFLOW) {
                named_clear(&d->writing);
                directory_touch(d, NULL);
        }
        if (e->wd != d->watch && e->wd >= 0) /* of a drop-in directory */
                return false;
        if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF))
                d->watch = -1;
        if (e->len == 0)
                return false;

        directory_touch(d, e->name);
        if ((e->mask & IN_MODIFY) && directory_folder_name_is_unit(e->name))
                writing_begin(d, e->name);
        else if (e->mask & (IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM))
                named_remove(&d->writing, e->name);
        return e->name[0] == '.' || ends_with(e->name, ".error");
}

static int directory_work(void *lib) {
        char buffer[EVENTS_SIZE] __attribute__((aligned(__alignof__(struct inotify_event))));
        Directory *d = lib;
        ssize_t n = read(d->inotify_fd, buffer, sizeof(buffer));
        uint64_t now_ms = loop_now_ms(d->loop);
        bool own = true;

        if (n <= 0)
                return n < 0 && errno != EAGAIN && errno != EINTR ? -errno : 0;
        for (char *p = buffer; p < buffer + n;
             p += sizeof(struct inotify_event) + ((struct inotify_event *) p)->len)
                own = directory_on_event(d, (const struct inotify_event *) p) && own;
        if (own)
                return 1;
        /* Postpone the scan until the directory has not changed for QUIET_MS, for BUSY_MS at most. */
        if (d->busy_ms == 0)
                d->busy_ms = now_ms;
        if (now_ms - d->busy_ms < BUSY_MS)
                d->scan_due_ms = now_ms + QUIET_MS;
        directory_arm(d);
        return 1;
}

static void directory_broken(void *lib, int error) {
        Directory *d = lib;

        log_error(((LogFields) { .error = error }), "Failed to watch %s: %s; scanning it every %d s", d->path,
                  strerror(-error), ABSENT_MS / 1000);
        d->guest = guest_close(d->guest);
        d->watch = -1;
}

static const GuestOps directory_guest = {
        .name = "inotify", .wants = directory_wants, .work = directory_work, .broken = directory_broken
};

/* -- Changes of the registry -- */

static void directory_on_change(void *userdata, const RegistryChange *change) {
        Directory *d = userdata;
        bool concerned = change->kind == CHANGED_ALL || change->kind == CHANGED_PRESENCE;

        if (change->kind == CHANGED_PROBLEM)
                concerned = streq(change->machine, d->machine_id);
        else if (change->kind == CHANGED_UNIT || change->kind == CHANGED_ROLLOUT)
                concerned = named_find(d->record, change->unit) ||
                            directory_folder_find(&d->folder, change->unit) ||
                            cluster_problem(registry_cluster(d->registry), d->machine_id, change->unit) ||
                            directory_owns(d, change->unit);
        if (concerned)
                directory_compare_later(d, QUIET_MS);
}

/* -- Lifetime -- */

static int directory_open(Directory *d, const ComponentHost *host, Error *err) {
        _cleanup_free_ char *records = NULL;

        TRY(settings_agent_path(host->settings, &records));
        d->record_fd = open_dir(records, 0700);
        if (d->record_fd < 0)
                return error_set(err, d->record_fd, "Failed to open %s: %s", records,
                                 strerror(-d->record_fd));
        if (host->io.unwatched)
                return timer_start(&d->timer, d->loop, 0);
        d->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (d->inotify_fd < 0)
                return error_set(err, -errno,
                                 "Failed to watch %s: %s; check the sysctl fs.inotify.max_user_instances",
                                 d->path, strerror(errno));
        TRY(guest_open(&d->guest, loop_uv(d->loop), &directory_guest, d));
        return timer_start(&d->timer, d->loop, 0);
}

int directory_new(Directory **ret, const ComponentHost *host, Error *err) {
        _cleanup_free_ char *text = NULL;
        Directory *d = NEW0(Directory, 1);
        size_t size;
        int r;

        if (!d)
                return -ENOMEM;
        *d = (Directory) {
                .loop = host->io.loop,
                .registry = host->registry,
                .path = host->settings->unit_directory,
                .machine_id = host->settings->machine_id,
                .record_fd = -1,
                .inotify_fd = -1,
                .watch = -1,
                .timer = TIMER(directory_on_timer, d),
                .step = DEFERRED(directory_on_step, d),
                .scan_fd = -1,
                .compare_due_ms = UINT64_MAX,
                .observer = { .on_change = directory_on_change, .userdata = d },
        };
        registry_observe(d->registry, &d->observer);

        r = directory_open(d, host, err);
        if (r < 0) {
                directory_free(d);
                return r;
        }
        if (read_file_at(d->record_fd, "directory", RECORD_MAX, &text, &size) >= 0 &&
            seen_files_read(text, size, &d->device, &d->inode, &d->record) < 0)
                log_warning(
                        NO_FIELDS,
                        "Failed to read the record of %s; files that were removed meanwhile remove no unit",
                        d->path);
        *ret = d;
        return 0;
}

int directory_list_units(const Directory *d, Text *names) {
        DIR *dir = d ? opendir(d->path) : NULL;
        const struct dirent *e;
        int n = 0, r;

        if (!dir)
                return !d || errno == ENOENT ? 0 : -errno;
        for (errno = 0; (e = readdir(dir)) && n <= DIRECTORY_FILES_MAX; errno = 0)
                if (directory_folder_name_is_unit(e->d_name) && n++ < DIRECTORY_LISTED_MAX)
                        text_printf(names, "%s%s", n > 1 ? ", " : "", e->d_name);
        r = e ? 0 : -errno;
        closedir(dir);
        return r < 0 ? r : n;
}

void *directory_free(void *directory) {
        Directory *d = directory;

        if (!d)
                return NULL;

        registry_unobserve(d->registry, &d->observer);
        timer_stop(&d->timer);
        directory_scan_end(d);
        directory_folder_done(&d->folder);
        if (d->guest)
                guest_close(d->guest);
        if (d->inotify_fd >= 0)
                close(d->inotify_fd);
        if (d->record_fd >= 0)
                close(d->record_fd);
        named_clear(&d->record);
        named_clear(&d->writing);
        registry_cancel(d->registry, d);
        free(d);
        return NULL;
}
