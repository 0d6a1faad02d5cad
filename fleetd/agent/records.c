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

AssignmentRecord *records_get(const AssignmentRecords *records, const char *name) {
        AssignmentRecord *record;

        HASH_FIND_STR(records->table, name, record);
        return record;
}

int records_put(AssignmentRecords *records, const Unit *unit, AssignmentKind kind, uint64_t unit_index,
                uint64_t index, AssignmentRecord **ret) {
        _cleanup_unit_ Unit *copy = NULL;
        AssignmentRecord *record = records_get(records, unit->name);
        int r;

        r = unit_read(unit->name, unit->text, unit->text_size, &copy, NULL);
        if (r < 0)
                return r;

        if (!record) {
                record = NEW0(AssignmentRecord, 1);
                if (!record)
                        return -ENOMEM;
                snprintf(record->name, sizeof(record->name), "%s", unit->name);
                HASH_ADD_STR(records->table, name, record);
                if (!TABLE_ADDED(record)) {
                        free(record);
                        return -ENOMEM;
                }
        }
        record->text_stored = record->text_stored && unit_equal(record->unit, copy);
        records->dirty_texts |= !record->text_stored;
        unit_free(record->unit);
        record->unit = TAKE_PTR(copy);
        record->kind = kind;
        record->unit_index = unit_index;
        record->index = index;
        record->stopping = false;
        records->acted_index = MAX(records->acted_index, index);
        records->dirty = true;
        if (ret)
                *ret = record;
        return 0;
}

void records_remove(AssignmentRecords *records, const char *name) {
        AssignmentRecord *record = records_get(records, name);

        if (!record)
                return;
        records->dirty_texts |= record->text_stored;
        HASH_DEL(records->table, record);
        unit_free(record->unit);
        free(record);
        records->dirty = true;
}

void records_set_era(AssignmentRecords *records, const char *boot, const char *era) {
        bool passed = streq(records->boot, boot) && records->era[0] && era[0] && !streq(records->era, era);

        if (!era[0] || (streq(records->boot, boot) && streq(records->era, era)))
                return;
        for (AssignmentRecord *record = passed ? records->table : NULL; record; record = record->hh.next) {
                record->started_boot[0] = record->owned_boot[0] = 0;
                record->starting = record->stopped = record->stopped_for = record->finishing = false;
        }
        snprintf(records->boot, sizeof(records->boot), "%s", boot);
        snprintf(records->era, sizeof(records->era), "%s", era);
        records->dirty = true;
}

static int records_by_name(const AssignmentRecord *a, const AssignmentRecord *b) {
        return strcmp(a->name, b->name);
}

static bool records_fit_inline(const AssignmentRecords *records) {
        size_t size = 0;

        for (const AssignmentRecord *record = records->table; record; record = record->hh.next)
                size += record->unit->text_size;
        return size <= RECORDS_INLINE_MAX;
}

/* -- Writing: a copy, so that a worker may write it -- */

typedef struct RecordText {
        char hash[UNIT_HASH_SIZE];
        char *text; /* owned; NULL: already on disk */
        size_t size;
} RecordText;

struct RecordsWrite {
        pthread_mutex_t lock; /* held during the write */
        bool written;
        int dir_fd;
        unsigned n_reopened;
        bool inline_texts, remove_unused;
        Text content;
        RecordText *texts;        /* in files of their own, by hash; none if all texts are in 'content' */
        size_t n_texts, n_stored; /* the first n_stored are on disk */
        int error;
};

RecordsWrite *records_write_free(RecordsWrite *w) {
        if (!w)
                return NULL;
        for (size_t i = 0; i < w->n_texts; i++)
                free(w->texts[i].text);
        free(w->texts);
        text_done(&w->content);
        if (w->dir_fd >= 0)
                close(w->dir_fd);
        (void) pthread_mutex_destroy(&w->lock);
        free(w);
        return NULL;
}
DEFINE_CLEANUP(RecordsWrite *, records_write_free)

/* Flags of an entry, in the order in which they are written; the first one precedes other members. */
static const struct {
        const char *name;
        size_t offset;
} record_flags[] = {
        { "done", offsetof(AssignmentRecord, done) },
        { "ran", offsetof(AssignmentRecord, ran) },
        { "replacing", offsetof(AssignmentRecord, replacing) },
        { "starting", offsetof(AssignmentRecord, starting) },
        { "stopped", offsetof(AssignmentRecord, stopped) },
        { "stoppedFor", offsetof(AssignmentRecord, stopped_for) },
        { "stopping", offsetof(AssignmentRecord, stopping) },
};

static bool *records_flag(const AssignmentRecord *record, size_t i) {
        return (bool *) ((char *) record + record_flags[i].offset);
}

static int records_encode(AssignmentRecords *records, bool inline_texts, Text *t) {
        char lineage[LINEAGE_DIGITS + 1];

        HASH_SRT(hh, records->table, records_by_name);
        json_open(t, NULL, '{');
        json_add_string(t, "boot", records->boot);
        json_add_string(t, "era", records->era);
        json_add_u64(t, "floor", records->acted_index);
        snprintf(lineage, sizeof(lineage), "%016llx", (unsigned long long) records->lineage);
        json_add_string(t, "lineage", lineage);
        json_open(t, "units", '[');
        for (AssignmentRecord *record = records->table; record; record = record->hh.next) {
                json_open(t, NULL, '{');
                json_add_string(t, "before", record->before);
                json_add_bool(t, record_flags[0].name, *records_flag(record, 0));
                if (!inline_texts)
                        json_add_string(t, "hash", record->unit->hash);
                json_add_u64(t, "index", record->index);
                json_add_string(t, "invocation", record->invocation);
                json_add_string(t, "job", record->job);
                json_add_string(t, "name", record->name);
                json_add_string(t, "order", assignment_kind_to_string(record->kind));
                json_add_string(t, "ownedBoot", record->owned_boot);
                json_add_string(t, "startedBoot", record->started_boot);
                for (size_t i = 1; i < ELEMENTS(record_flags); i++)
                        json_add_bool(t, record_flags[i].name, *records_flag(record, i));
                if (inline_texts)
                        json_add_string_always(t, "text", record->unit->text);
                json_add_u64(t, "unit", record->unit_index);
                json_close(t, '}');
        }
        json_close(t, ']');
        json_close(t, '}');
        text_append_char(t, '\n');
        if (t->error < 0)
                return t->error;
        return t->size > RECORDS_SIZE_MAX ? -EFBIG : 0;
}

static int records_by_hash(const void *a, const void *b) {
        return strcmp(((const RecordText *) a)->hash, ((const RecordText *) b)->hash);
}

static const RecordText *records_find_text(const RecordText *texts, size_t n_texts, const char *hash) {
        RecordText wanted;

        snprintf(wanted.hash, sizeof(wanted.hash), "%s", hash);
        return n_texts > 0 ? bsearch(&wanted, texts, n_texts, sizeof(*texts), records_by_hash) : NULL;
}

static int records_copy_texts(const AssignmentRecords *records, RecordsWrite *w) {
        w->texts = NEW0(RecordText, HASH_COUNT(records->table) + 1);
        if (!w->texts)
                return -ENOMEM;
        for (const AssignmentRecord *record = records->table; record; record = record->hh.next) {
                RecordText *text = &w->texts[w->n_texts++];

                snprintf(text->hash, sizeof(text->hash), "%s", record->unit->hash);
                if (record->text_stored)
                        continue;
                text->size = record->unit->text_size;
                text->text = malloc(text->size + 1);
                if (!text->text)
                        return -ENOMEM;
                memcpy(text->text, record->unit->text, text->size);
        }
        qsort(w->texts, w->n_texts, sizeof(*w->texts), records_by_hash);
        return 0;
}

int records_check_dir(AssignmentRecords *records) {
        int r;

        r = reopen_dir(records->path, 0700, &records->dir_fd);
        if (r <= 0)
                return r;
        log_warning(NO_FIELDS, "folder %s was removed or replaced; writing all assignment records again",
                    records->path);
        records->n_reopened++;
        records->dirty = records->dirty_texts = true;
        for (AssignmentRecord *record = records->table; record; record = record->hh.next)
                record->text_stored = false;
        return 0;
}

int records_write_new(AssignmentRecords *records, RecordsWrite **ret) {
        _cleanup_(records_write_freep) RecordsWrite *w = NULL;
        int r;

        if (!records->dirty)
                return 0;
        r = records_check_dir(records);
        if (r < 0)
                return r;
        w = NEW0(RecordsWrite, 1);
        if (!w)
                return -ENOMEM;
        (void) pthread_mutex_init(&w->lock, NULL); /* cannot fail without attributes */
        w->inline_texts = records_fit_inline(records);
        w->n_reopened = records->n_reopened;
        w->dir_fd = fcntl(records->dir_fd, F_DUPFD_CLOEXEC, 0);
        if (w->dir_fd < 0)
                return -errno;
        r = records_encode(records, w->inline_texts, &w->content);
        if (r < 0)
                return r;
        r = w->inline_texts ? 0 : records_copy_texts(records, w);
        if (r < 0)
                return r;
        w->remove_unused = records->dirty_texts;
        records->dirty = records->dirty_texts = false;
        *ret = TAKE_PTR(w);
        return 1;
}

/* Write texts before the file that refers to them. */
static int records_write_texts(RecordsWrite *w) {
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

/* Ignore errors: unused texts only use space. */
static void records_remove_unused_texts(const RecordsWrite *w) {
        int fd = openat(w->dir_fd, TEXTS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);

        if (!dir) {
                if (fd >= 0)
                        close(fd);
                return;
        }
        for (const struct dirent *e; (e = readdir(dir));)
                if (!streq(e->d_name, ".") && !streq(e->d_name, "..") &&
                    !records_find_text(w->texts, w->n_texts, e->d_name))
                        (void) unlinkat(dirfd(dir), e->d_name, 0);
        closedir(dir);
}

static int records_write_changes(RecordsWrite *w) {
        int r;

        r = w->inline_texts ? 0 : records_write_texts(w);
        if (r < 0)
                return r;
        r = write_file_at(w->dir_fd, "assignment", w->content.chars, w->content.size, 0600);
        if (r < 0)
                return r;
        if (w->remove_unused)
                records_remove_unused_texts(w);
        return 0;
}

void records_write_run(RecordsWrite *w) {
        (void) pthread_mutex_lock(&w->lock);
        if (!w->written)
                w->error = records_write_changes(w);
        w->written = true;
        (void) pthread_mutex_unlock(&w->lock);
}

int records_write_end(AssignmentRecords *records, const RecordsWrite *w) {
        int r = w->error;

        (void) records_check_dir(records);
        if (w->n_reopened != records->n_reopened)
                return -ESTALE;
        for (AssignmentRecord *record = records->table; record; record = record->hh.next)
                if (!w->inline_texts && !record->text_stored)
                        record->text_stored = records_find_text(w->texts, w->n_stored, record->unit->hash);
                else if (w->inline_texts && r == 0)
                        record->text_stored = false;
        if (r < 0) {
                records->dirty = true;
                records->dirty_texts |= w->remove_unused;
        }
        return r;
}

int records_save(AssignmentRecords *records) {
        _cleanup_(records_write_freep) RecordsWrite *w = NULL;
        int r = records_write_new(records, &w);

        if (r <= 0)
                return r;
        records_write_run(w);
        return records_write_end(records, w);
}

/* Read a text that is in a file of its own. */
static int records_read_text(const AssignmentRecords *records, const char *hash, char **ret, Error *err) {
        char path[sizeof(TEXTS) + UNIT_HASH_SIZE];
        int r;

        if (parse_hex_id(hash, UNIT_HASH_SIZE - 1) < 0)
                return error_set(err, -EBADMSG, "'%.50s' is not a hash", hash);
        snprintf(path, sizeof(path), TEXTS "/%s", hash);
        r = read_file_at(records->dir_fd, path, UNIT_SIZE_MAX, ret, NULL);
        return r < 0 ? error_set(err, r == -ENOMEM ? r : -EBADMSG, "Failed to read its text %s: %s", path,
                                 strerror(-r)) :
                       0;
}

/* Copy an ID that is absent or complete. */
static bool records_set_id(char ret[static BOOT_ID_SIZE], const char *id) {
        static_assert(BOOT_ID_SIZE == INVOCATION_ID_SIZE, "both are 128 bits in hex");

        if (id && strlen(id) != BOOT_ID_SIZE - 1)
                return false;
        snprintf(ret, BOOT_ID_SIZE, "%s", id ?: "");
        return true;
}

static int records_read_one(AssignmentRecords *records, const JsonValue *v, Error *err) {
        const char *name = NULL, *order = NULL, *text = NULL, *started_boot = NULL, *owned_boot = NULL,
                   *before = NULL, *invocation = NULL, *hash = NULL, *job = NULL;
        AssignmentRecord read = {}, *record;
        const struct {
                const char *member;
                const char **value;
        } strings[] = {
                { "name", &name },
                { "order", &order },
                { "text", &text },
                { "hash", &hash },
                { "startedBoot", &started_boot },
                { "ownedBoot", &owned_boot },
                { "before", &before },
                { "invocation", &invocation },
                { "job", &job },
        };
        _cleanup_free_ char *stored = NULL;
        _cleanup_unit_ Unit *unit = NULL;
        int r;

        for (size_t i = 0; i < ELEMENTS(strings); i++) {
                r = json_read_string(v, strings[i].member, strings[i].value, err);
                if (r < 0)
                        return r;
        }
        r = json_read_u64(v, "unit", &read.unit_index, err);
        if (r < 0)
                return r;
        r = json_read_u64(v, "index", &read.index, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTS(record_flags); i++) {
                r = json_read_bool(v, record_flags[i].name, records_flag(&read, i), err);
                if (r < 0)
                        return r;
        }
        r = !text && hash ? records_read_text(records, hash, &stored, err) : 0;
        if (r < 0)
                return r;
        text = text ?: stored;

        read.kind = order ? assignment_kind_from_string(order) : _ASSIGNMENT_INVALID;
        if (!name || !text || (read.kind != ASSIGNMENT_RUN && read.kind != ASSIGNMENT_LOAD) ||
            !records_set_id(read.started_boot, started_boot) ||
            !records_set_id(read.owned_boot, owned_boot) || !records_set_id(read.before, before) ||
            !records_set_id(read.invocation, invocation))
                return error_set(err, -EBADMSG, "expected name, order and text");
        snprintf(read.job, sizeof(read.job), "%s", job ?: "");
        r = unit_read(name, text, strlen(text), &unit, err);
        if (r < 0)
                return error_prefix(err, r, "%s", name);
        r = records_put(records, unit, read.kind, read.unit_index, read.index, &record);
        if (r < 0)
                return r;

        memcpy(read.name, record->name, sizeof(read.name));
        read.unit = record->unit;
        read.text_stored = stored != NULL;
        read.hh = record->hh;
        *record = read;
        return 0;
}

static int records_read_lineage(AssignmentRecords *records, const JsonValue *root, Error *err) {
        const char *lineage = NULL;
        int r = json_read_string(root, "lineage", &lineage, err);

        if (r < 0 || !lineage)
                return r;
        if (parse_hex_id(lineage, LINEAGE_DIGITS) < 0)
                return error_set(err, -EBADMSG, "lineage: expected %d hex digits, not '%s'", LINEAGE_DIGITS,
                                 lineage);
        records->lineage = strtoull(lineage, NULL, 16);
        return 0;
}

static int records_read_era(AssignmentRecords *records, const JsonValue *root, Error *err) {
        const char *boot = NULL, *era = NULL;
        int r;

        r = json_read_string(root, "boot", &boot, err);
        r = r ?: json_read_string(root, "era", &era, err);
        if (r < 0)
                return r;
        snprintf(records->boot, sizeof(records->boot), "%s", boot ?: "");
        snprintf(records->era, sizeof(records->era), "%s", era ?: "");
        return 0;
}

/* Read one entry. A corrupt entry, or one of a newer version, affects no other entry. */
static int records_read_entry(AssignmentRecords *records, const JsonValue *v, bool *left_out, Error *err) {
        const char *name = NULL;
        Error why = {};
        int r;

        r = records_read_one(records, v, &why);
        if (r == 0)
                return 0;
        if (r == -ENOMEM)
                return error_set(err, r, "%s", error_text(&why, r));
        if (json_read_string(v, "name", &name, NULL) < 0 || !name)
                name = "a unit";
        log_warning(((LogFields) { .unit = name, .error = r }),
                    "Failed to read the assignment record of %.255s: %s; dropping it, and keeping the file "
                    "as assignment.bad",
                    name, error_text(&why, r));
        *left_out = true;
        return 0;
}

/* Keep the file under a second name: the next save replaces the first. */
static int records_keep_copy(AssignmentRecords *records, Error *err) {
        if (unlinkat(records->dir_fd, "assignment.bad", 0) < 0 && errno != ENOENT)
                return error_set(err, -errno, "%s", strerror(errno));
        if (linkat(records->dir_fd, "assignment", records->dir_fd, "assignment.bad", 0) < 0)
                return error_set(err, -errno, "%s", strerror(errno));
        return 0;
}

static int records_parse(AssignmentRecords *records, const char *text, size_t size, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *units;
        bool left_out = false;
        int r;

        r = json_value_parse(text, size, &root, err);
        if (r < 0)
                return r;
        r = records_read_lineage(records, root, err);
        if (r < 0)
                return r;
        r = records_read_era(records, root, err);
        if (r < 0)
                return r;
        r = json_read_u64(root, "floor", &records->acted_index, err);
        if (r < 0)
                return r;
        units = json_value_member(root, "units");
        for (size_t i = 0; i < json_value_count(units); i++) {
                r = records_read_entry(records, json_value_item(units, i), &left_out, err);
                if (r < 0)
                        return r;
        }
        return left_out ? records_keep_copy(records, err) : 0;
}

static int records_read(AssignmentRecords *records, Error *err) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_file_at(records->dir_fd, "assignment", RECORDS_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return error_set(err, r, "%s", strerror(-r));
        r = records_parse(records, text, size, err);
        records->dirty = false;
        records->dirty_texts = true;
        return r;
}

static void records_clear(AssignmentRecords *records) {
        while (records->table)
                records_remove(records, records->table->name);
        records->lineage = records->acted_index = 0;
}

int records_open(AssignmentRecords *records, const char *dir, Error *err) {
        Error why = {};
        int r;

        *records = (AssignmentRecords) { .dir_fd = open_dir(dir, 0700) };
        if (records->dir_fd < 0)
                return error_set(err, records->dir_fd, "Failed to open %s: %s", dir,
                                 strerror(-records->dir_fd));

        records->path = strdup(dir);
        r = records->path ? records_read(records, &why) : -ENOMEM;
        if (r == -ENOMEM) { /* the file is intact: a later start reads it; an incomplete table must not
                               replace it */
                records_clear(records);
                records->dirty = records->dirty_texts = false;
                return error_set(err, r, "Failed to read %s/assignment: %s", dir, error_text(&why, r));
        }
        if (r < 0) {
                log_warning(((LogFields) { .error = r }),
                            "Failed to read the assignment records in %s/assignment: %s; keeping the file as "
                            "assignment.bad, and adopting what runs",
                            dir, error_text(&why, r));
                records_clear(records);
                records->dirty = false;
                if (renameat(records->dir_fd, "assignment", records->dir_fd, "assignment.bad") < 0 &&
                    errno != ENOENT)
                        return error_set(err, -errno, "Failed to rename %s/assignment: %s", dir,
                                         strerror(errno));
        }
        return 0;
}

void records_close(AssignmentRecords *records) {
        records_clear(records);
        if (records->dir_fd >= 0)
                close(records->dir_fd);
        records->dir_fd = -1;
        records->path = (free(records->path), NULL);
}
