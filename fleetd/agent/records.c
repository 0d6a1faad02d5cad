#include "fleetd/agent/records.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/text.h"
#include "fleetd/registry/cluster.h"
#include "units/json.h"

#define TEXTS "texts"

AssignmentRecord *records_get(const AssignmentRecords *n, const char *name) {
        AssignmentRecord *note;

        HASH_FIND_STR(n->table, name, note);
        return note;
}

int records_put(AssignmentRecords *n, const Unit *unit, AssignmentKind kind, uint64_t unit_index,
                uint64_t index, AssignmentRecord **ret) {
        _cleanup_unit_ Unit *copy = NULL;
        AssignmentRecord *note = records_get(n, unit->name);
        int r;

        r = unit_read(unit->name, unit->text, unit->text_size, &copy, NULL);
        if (r < 0)
                return r;

        if (!note) {
                note = NEW0(AssignmentRecord, 1);
                if (!note)
                        return -ENOMEM;
                snprintf(note->name, sizeof(note->name), "%s", unit->name);
                HASH_ADD_STR(n->table, name, note);
                if (!TABLE_ADDED(note)) {
                        free(note);
                        return -ENOMEM;
                }
        }
        note->stored = note->stored && unit_equal(note->unit, copy);
        n->dirty_texts |= !note->stored;
        unit_free(note->unit);
        note->unit = TAKE_PTR(copy);
        note->kind = kind;
        note->unit_index = unit_index;
        note->index = index;
        note->stopping = false;
        n->floor = MAX(n->floor, index);
        n->dirty = true;
        if (ret)
                *ret = note;
        return 0;
}

void records_remove(AssignmentRecords *n, const char *name) {
        AssignmentRecord *note = records_get(n, name);

        if (!note)
                return;
        n->dirty_texts |= note->stored;
        HASH_DEL(n->table, note);
        unit_free(note->unit);
        free(note);
        n->dirty = true;
}

void records_enter(AssignmentRecords *n, const char *boot, const char *era) {
        bool passed = streq(n->boot, boot) && n->era[0] && era[0] && !streq(n->era, era);

        if (!era[0] || (streq(n->boot, boot) && streq(n->era, era)))
                return;
        for (AssignmentRecord *note = passed ? n->table : NULL; note; note = note->hh.next) {
                note->started_boot[0] = note->owned_boot[0] = 0;
                note->starting = note->stopped = note->stopped_for = note->finishing = false;
        }
        snprintf(n->boot, sizeof(n->boot), "%s", boot);
        snprintf(n->era, sizeof(n->era), "%s", era);
        n->dirty = true;
}

static int by_name(const AssignmentRecord *a, const AssignmentRecord *b) {
        return strcmp(a->name, b->name);
}

static bool records_fit_inline(const AssignmentRecords *n) {
        size_t size = 0;

        for (const AssignmentRecord *note = n->table; note; note = note->hh.next)
                size += note->unit->text_size;
        return size <= RECORDS_INLINE_MAX;
}

/* -- Writing: what is written is copied first, so that a worker may do it -- */

typedef struct RecordText {
        char hash[UNIT_HASH_SIZE];
        char *text; /* owned; NULL: it is there already */
        size_t size;
} RecordText;

struct RecordsWrite {
        pthread_mutex_t lock; /* held while it is run */
        bool over;
        int dir_fd;
        unsigned folders;
        bool fit, sweep;
        Text record;
        RecordText *texts;        /* in files of their own, by hash; none where all fit into the record */
        size_t n_texts, n_stored; /* the first of them are on disk */
        int error;
};

RecordsWrite *records_write_free(RecordsWrite *w) {
        if (!w)
                return NULL;
        for (size_t i = 0; i < w->n_texts; i++)
                free(w->texts[i].text);
        free(w->texts);
        text_done(&w->record);
        if (w->dir_fd >= 0)
                close(w->dir_fd);
        (void) pthread_mutex_destroy(&w->lock);
        free(w);
        return NULL;
}
DEFINE_CLEANUP(RecordsWrite *, records_write_free)

static int records_encode(AssignmentRecords *n, bool fit, Text *t) {
        char lineage[LINEAGE_DIGITS + 1];

        HASH_SRT(hh, n->table, by_name);
        json_open(t, NULL, '{');
        json_add_string(t, "boot", n->boot);
        json_add_string(t, "era", n->era);
        json_add_u64(t, "floor", n->floor);
        snprintf(lineage, sizeof(lineage), "%016llx", (unsigned long long) n->lineage);
        json_add_string(t, "lineage", lineage);
        json_open(t, "units", '[');
        for (AssignmentRecord *note = n->table; note; note = note->hh.next) {
                json_open(t, NULL, '{');
                json_add_string(t, "before", note->before);
                json_add_bool(t, "done", note->done);
                if (!fit)
                        json_add_string(t, "hash", note->unit->hash);
                json_add_u64(t, "index", note->index);
                json_add_string(t, "invocation", note->invocation);
                json_add_string(t, "job", note->job);
                json_add_string(t, "name", note->name);
                json_add_string(t, "order", assignment_kind_to_string(note->kind));
                json_add_string(t, "ownedBoot", note->owned_boot);
                json_add_string(t, "startedBoot", note->started_boot);
                json_add_bool(t, "ran", note->ran);
                json_add_bool(t, "replacing", note->replacing);
                json_add_bool(t, "starting", note->starting);
                json_add_bool(t, "stopped", note->stopped);
                json_add_bool(t, "stoppedFor", note->stopped_for);
                json_add_bool(t, "stopping", note->stopping);
                if (fit)
                        json_add_string_always(t, "text", note->unit->text);
                json_add_u64(t, "unit", note->unit_index);
                json_close(t, '}');
        }
        json_close(t, ']');
        json_close(t, '}');
        text_append_char(t, '\n');
        if (t->error < 0)
                return t->error;
        return t->size > RECORDS_SIZE_MAX ? -EFBIG : 0;
}

static int by_hash(const void *a, const void *b) {
        return strcmp(((const RecordText *) a)->hash, ((const RecordText *) b)->hash);
}

static const RecordText *find_text(const RecordText *texts, size_t n, const char *hash) {
        RecordText wanted;

        snprintf(wanted.hash, sizeof(wanted.hash), "%s", hash);
        return n > 0 ? bsearch(&wanted, texts, n, sizeof(*texts), by_hash) : NULL;
}

static int records_copy_texts(const AssignmentRecords *n, RecordsWrite *w) {
        w->texts = NEW0(RecordText, HASH_COUNT(n->table) + 1);
        if (!w->texts)
                return -ENOMEM;
        for (const AssignmentRecord *note = n->table; note; note = note->hh.next) {
                RecordText *text = &w->texts[w->n_texts++];

                snprintf(text->hash, sizeof(text->hash), "%s", note->unit->hash);
                if (note->stored)
                        continue;
                text->size = note->unit->text_size;
                text->text = malloc(text->size + 1);
                if (!text->text)
                        return -ENOMEM;
                memcpy(text->text, note->unit->text, text->size);
        }
        qsort(w->texts, w->n_texts, sizeof(*w->texts), by_hash);
        return 0;
}

int records_check(AssignmentRecords *n) {
        int r;

        r = reopen_dir(n->path, 0700, &n->dir_fd);
        if (r <= 0)
                return r;
        log_warning(NO_FIELDS,
                    "%s was removed, or exchanged: it is made again, with all that is assigned to this host",
                    n->path);
        n->folders++;
        n->dirty = n->dirty_texts = true;
        for (AssignmentRecord *note = n->table; note; note = note->hh.next)
                note->stored = false;
        return 0;
}

int records_write_new(AssignmentRecords *n, RecordsWrite **ret) {
        _cleanup_(records_write_freep) RecordsWrite *w = NULL;
        int r;

        if (!n->dirty)
                return 0;
        r = records_check(n);
        if (r < 0)
                return r;
        w = NEW0(RecordsWrite, 1);
        if (!w)
                return -ENOMEM;
        (void) pthread_mutex_init(&w->lock, NULL); /* a plain one cannot fail */
        w->fit = records_fit_inline(n);
        w->folders = n->folders;
        w->dir_fd = fcntl(n->dir_fd, F_DUPFD_CLOEXEC, 0);
        r = w->dir_fd < 0 ? -errno : records_encode(n, w->fit, &w->record);
        if (r >= 0 && !w->fit)
                r = records_copy_texts(n, w);
        if (r < 0)
                return r;
        w->sweep = n->dirty_texts;
        n->dirty = n->dirty_texts = false;
        *ret = TAKE_PTR(w);
        return 1;
}

/* Texts come before what names them. */
static int write_texts(RecordsWrite *w) {
        _cleanup_close_ int fd = -1;

        if (mkdirat(w->dir_fd, TEXTS, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(w->dir_fd, TEXTS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        for (; w->n_stored < w->n_texts; w->n_stored++) {
                const RecordText *text = &w->texts[w->n_stored];
                bool again = w->n_stored > 0 && streq(text->hash, text[-1].hash);
                int r = text->text && !again ? write_file_at(fd, text->hash, text->text, text->size, 0600) :
                                               0;

                if (r < 0)
                        return r;
        }
        return fsync_dir(w->dir_fd);
}

/* What is left over costs room alone, so that nothing comes of an error. */
static void sweep_texts(const RecordsWrite *w) {
        int fd = openat(w->dir_fd, TEXTS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);

        if (!dir) {
                if (fd >= 0)
                        close(fd);
                return;
        }
        for (const struct dirent *e; (e = readdir(dir));)
                if (!streq(e->d_name, ".") && !streq(e->d_name, "..") &&
                    !find_text(w->texts, w->n_texts, e->d_name))
                        (void) unlinkat(dirfd(dir), e->d_name, 0);
        closedir(dir);
}

static int write_changes(RecordsWrite *w) {
        int r = w->fit ? 0 : write_texts(w);

        if (r >= 0)
                r = write_file_at(w->dir_fd, "assignment", w->record.chars, w->record.size, 0600);
        if (r >= 0 && w->sweep)
                sweep_texts(w);
        return r;
}

void records_write_run(RecordsWrite *w) {
        (void) pthread_mutex_lock(&w->lock);
        if (!w->over)
                w->error = write_changes(w);
        w->over = true;
        (void) pthread_mutex_unlock(&w->lock);
}

int records_write_end(AssignmentRecords *n, const RecordsWrite *w) {
        int r = w->error;

        (void) records_check(n);
        if (w->folders != n->folders)
                return -ESTALE;
        for (AssignmentRecord *note = n->table; note; note = note->hh.next)
                if (!w->fit && !note->stored)
                        note->stored = find_text(w->texts, w->n_stored, note->unit->hash);
                else if (w->fit && r == 0)
                        note->stored = false;
        if (r < 0) {
                n->dirty = true;
                n->dirty_texts |= w->sweep;
        }
        return r;
}

int records_save(AssignmentRecords *n) {
        _cleanup_(records_write_freep) RecordsWrite *w = NULL;
        int r = records_write_new(n, &w);

        if (r <= 0)
                return r;
        records_write_run(w);
        return records_write_end(n, w);
}

/* The text that is in a file of its own. */
static int records_read_text(const AssignmentRecords *n, const char *hash, char **ret, Error *err) {
        char path[sizeof(TEXTS) + UNIT_HASH_SIZE];
        int r;

        if (parse_hex_id(hash, UNIT_HASH_SIZE - 1) < 0)
                return error_set(err, -EBADMSG, "'%.50s' is no hash", hash);
        snprintf(path, sizeof(path), TEXTS "/%s", hash);
        r = read_file_at(n->dir_fd, path, UNIT_SIZE_MAX, ret, NULL);
        return r < 0 ? error_set(err, r == -ENOMEM ? r : -EBADMSG, "its text %s: %s", path, strerror(-r)) : 0;
}

static int records_read_one(AssignmentRecords *n, const JsonValue *v, Error *err) {
        const char *name = NULL, *order = NULL, *text = NULL, *boot = NULL, *before = NULL, *hash = NULL,
                   *job = NULL, *invocation = NULL, *owned = NULL;
        _cleanup_free_ char *stored = NULL;
        uint64_t unit_index = 0, index = 0;
        _cleanup_unit_ Unit *unit = NULL;
        bool starting = false, ran = false, done = false, stopped = false, stopped_for = false,
             stopping = false, replacing = false;
        AssignmentKind kind;
        AssignmentRecord *note;
        int r;

        r = json_read_string(v, "name", &name, err);
        r = r ?: json_read_string(v, "order", &order, err);
        r = r ?: json_read_string(v, "text", &text, err);
        r = r ?: json_read_string(v, "hash", &hash, err);
        r = r ?: json_read_string(v, "startedBoot", &boot, err);
        r = r ?: json_read_string(v, "ownedBoot", &owned, err);
        r = r ?: json_read_string(v, "before", &before, err);
        r = r ?: json_read_string(v, "invocation", &invocation, err);
        r = r ?: json_read_string(v, "job", &job, err);
        r = r ?: json_read_u64(v, "unit", &unit_index, err);
        r = r ?: json_read_u64(v, "index", &index, err);
        r = r ?: json_read_bool(v, "starting", &starting, err);
        r = r ?: json_read_bool(v, "ran", &ran, err);
        r = r ?: json_read_bool(v, "done", &done, err);
        r = r ?: json_read_bool(v, "stopped", &stopped, err);
        r = r ?: json_read_bool(v, "stoppedFor", &stopped_for, err);
        r = r ?: json_read_bool(v, "stopping", &stopping, err);
        r = r ?: json_read_bool(v, "replacing", &replacing, err);
        if (r == 0 && !text && hash)
                r = records_read_text(n, hash, &stored, err);
        if (r < 0)
                return r;
        text = text ?: stored;

        kind = order ? assignment_kind_from_string(order) : _ASSIGNMENT_INVALID;
        if (!name || !text || (kind != ASSIGNMENT_RUN && kind != ASSIGNMENT_LOAD) ||
            (boot && strlen(boot) != sizeof(note->started_boot) - 1) ||
            (owned && strlen(owned) != sizeof(note->owned_boot) - 1) ||
            (before && strlen(before) != sizeof(note->before) - 1) ||
            (invocation && strlen(invocation) != sizeof(note->invocation) - 1))
                return error_set(err, -EBADMSG, "a unit without name, order or text");
        r = unit_read(name, text, strlen(text), &unit, err);
        if (r < 0)
                return error_prefix(err, r, "%s", name);
        r = records_put(n, unit, kind, unit_index, index, &note);
        if (r < 0)
                return r;

        note->starting = starting;
        note->ran = ran;
        note->done = done;
        note->stored = stored != NULL;
        note->replacing = replacing;
        note->stopped = stopped;
        note->stopped_for = stopped_for;
        note->stopping = stopping;
        snprintf(note->job, sizeof(note->job), "%s", job ?: "");
        if (boot)
                memcpy(note->started_boot, boot, sizeof(note->started_boot));
        if (owned)
                memcpy(note->owned_boot, owned, sizeof(note->owned_boot));
        if (before)
                memcpy(note->before, before, sizeof(note->before));
        if (invocation)
                memcpy(note->invocation, invocation, sizeof(note->invocation));
        return 0;
}

static int records_read_lineage(AssignmentRecords *n, const JsonValue *root, Error *err) {
        const char *lineage = NULL;
        int r = json_read_string(root, "lineage", &lineage, err);

        if (r < 0 || !lineage)
                return r;
        if (parse_hex_id(lineage, LINEAGE_DIGITS) < 0)
                return error_set(err, -EBADMSG, "lineage: expected %d hex digits, not '%s'", LINEAGE_DIGITS,
                                 lineage);
        n->lineage = strtoull(lineage, NULL, 16);
        return 0;
}

static int records_read_era(AssignmentRecords *n, const JsonValue *root, Error *err) {
        const char *boot = NULL, *era = NULL;
        int r;

        r = json_read_string(root, "boot", &boot, err);
        r = r ?: json_read_string(root, "era", &era, err);
        if (r < 0)
                return r;
        snprintf(n->boot, sizeof(n->boot), "%s", boot ?: "");
        snprintf(n->era, sizeof(n->era), "%s", era ?: "");
        return 0;
}

/* One entry that is damaged, or of a newer version, costs itself alone. */
static int records_read_entry(AssignmentRecords *n, const JsonValue *v, bool *left_out, Error *err) {
        const char *name = NULL;
        Error why = {};
        int r;

        r = records_read_one(n, v, &why);
        if (r == 0)
                return 0;
        if (r == -ENOMEM)
                return error_set(err, r, "%s", error_text(&why, r));
        if (json_read_string(v, "name", &name, NULL) < 0 || !name)
                name = "a unit";
        log_warning(((LogFields) { .unit = name, .error = r }),
                    "what was assigned to this host about %.255s cannot be read (%s); it is left out, and "
                    "kept in assignment.bad",
                    name, error_text(&why, r));
        *left_out = true;
        return 0;
}

/* The next save replaces the file; this name of it stays. */
static int records_keep_copy(AssignmentRecords *n, Error *err) {
        if (unlinkat(n->dir_fd, "assignment.bad", 0) < 0 && errno != ENOENT)
                return error_set(err, -errno, "%s", strerror(errno));
        if (linkat(n->dir_fd, "assignment", n->dir_fd, "assignment.bad", 0) < 0)
                return error_set(err, -errno, "%s", strerror(errno));
        return 0;
}

static int records_read(AssignmentRecords *n, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        bool left_out = false;
        _cleanup_free_ char *text = NULL;
        const JsonValue *units;
        size_t size;
        int r;

        r = read_file_at(n->dir_fd, "assignment", RECORDS_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(err, r, "%s", strerror(-r));

        r = json_value_parse(text, size, &root, err);
        r = r ?: records_read_lineage(n, root, err);
        r = r ?: records_read_era(n, root, err);
        r = r ?: json_read_u64(root, "floor", &n->floor, err);
        units = json_value_member(root, "units");
        for (size_t i = 0; r == 0 && i < json_value_count(units); i++)
                r = records_read_entry(n, json_value_item(units, i), &left_out, err);
        if (r == 0 && left_out)
                r = records_keep_copy(n, err);
        n->dirty = false;
        n->dirty_texts = true;
        return r;
}

static void records_clear(AssignmentRecords *n) {
        while (n->table)
                records_remove(n, n->table->name);
        n->lineage = n->floor = 0;
}

int records_open(AssignmentRecords *n, const char *dir, Error *err) {
        Error why = {};
        int r;

        *n = (AssignmentRecords) { .dir_fd = open_dir(dir, 0700) };
        if (n->dir_fd < 0)
                return error_set(err, n->dir_fd, "cannot open %s: %s", dir, strerror(-n->dir_fd));

        n->path = strdup(dir);
        r = n->path ? records_read(n, &why) : -ENOMEM;
        if (r == -ENOMEM) { /* nothing is wrong with them: who starts later reads them, and some of them are
                               not written over all */
                records_clear(n);
                n->dirty = n->dirty_texts = false;
                return error_set(err, r, "cannot read %s/assignment: %s", dir, error_text(&why, r));
        }
        if (r < 0) {
                log_warning(((LogFields) { .error = r }),
                            "the last assignment in %s/assignment cannot be read (%s); it is kept as "
                            "assignment.bad, and what runs is adopted",
                            dir, error_text(&why, r));
                records_clear(n);
                n->dirty = false;
                if (renameat(n->dir_fd, "assignment", n->dir_fd, "assignment.bad") < 0 && errno != ENOENT)
                        return error_set(err, -errno, "cannot move %s/assignment aside: %s", dir,
                                         strerror(errno));
        }
        return 0;
}

void records_close(AssignmentRecords *n) {
        records_clear(n);
        if (n->dir_fd >= 0)
                close(n->dir_fd);
        n->dir_fd = -1;
        n->path = (free(n->path), NULL);
}
