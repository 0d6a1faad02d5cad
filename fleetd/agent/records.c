#include "fleetd/agent/records.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "fleetd/registry/cluster.h"
#include "units/json_record.h"

#define TEXTS "texts"

AssignmentRecord *records_get(const AssignmentRecords *records, const char *name) {
        AssignmentRecord *record;

        HASH_FIND_STR(records->table, name, record);
        return record;
}

/* -- Ports of units -- */

uint16_t record_ports_number(const RecordPorts *ports, const ServicePort *port) {
        for (size_t i = 0; port->number == 0 && i < ports->n; i++)
                if (streq(ports->items[i].name, port->name))
                        return ports->items[i].number;
        return (uint16_t) port->number;
}

void record_ports_add(RecordPorts *ports, const char *name, uint16_t number) {
        struct RecordPort *port = &ports->items[ports->n++];

        snprintf(port->name, sizeof(port->name), "%s", name);
        port->number = number;
}

bool record_ports_have(const RecordPorts *ports, const ServicePolicy *service, uint16_t number,
                       PortProtocol protocol) {
        for (size_t i = 0; i < service->n_ports; i++)
                if (record_ports_number(ports, &service->ports[i]) == number &&
                    service->ports[i].protocol == protocol)
                        return true;
        return false;
}

static uint32_t held_port(uint16_t number, PortProtocol protocol) {
        return (uint32_t) number * _PORT_PROTOCOL_MAX + protocol;
}

/* Return the place of the first row of a port, or where it would be. */
static size_t records_held_place(const AssignmentRecords *records, uint32_t port) {
        size_t low = 0, high = records->n_held;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (records->held[middle].port < port)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

const HeldPort *records_holders(const AssignmentRecords *records, uint16_t number, PortProtocol protocol,
                                size_t *ret_n) {
        uint32_t port = held_port(number, protocol);
        size_t first = records_held_place(records, port);

        *ret_n = records_held_place(records, port + 1) - first;
        return *ret_n > 0 ? &records->held[first] : NULL;
}

/* Remove the rows of a record, or add them: there is room. */
static void records_hold(AssignmentRecords *records, const AssignmentRecord *record, bool holds) {
        const ServicePolicy *service = record->unit ? &record->unit->placement.service : NULL;

        for (size_t i = 0; service && i < service->n_ports; i++) {
                const ServicePort *port = &service->ports[i];
                uint16_t number = record_ports_number(&record->ports, port);
                HeldPort row = { held_port(number, port->protocol), port->number == 0, record };
                size_t at = records_held_place(records, row.port);
                HeldPort *held = records->held + at;

                if (number == 0)
                        continue;
                if (holds) {
                        memmove(held + 1, held, (records->n_held++ - at) * sizeof(row));
                        *held = row;
                        continue;
                }
                for (; held->record != record; held++)
                        at++;
                memmove(held, held + 1, (--records->n_held - at) * sizeof(row));
        }
}

int records_set_ports(AssignmentRecords *records, AssignmentRecord *record, const RecordPorts *ports) {
        if (memcmp(&record->ports, ports, sizeof(*ports)) == 0)
                return 0;
        TRY(GROW(records->held, records->held_capacity, records->n_held + PORTS_MAX));
        records_hold(records, record, false);
        record->ports = *ports;
        records_hold(records, record, true);
        records->dirty = true;
        return 0;
}

/* -- The table -- */

/* Return AssignmentRecord.checked for another text: of the commands that it has, too. */
static uint64_t records_checked(const AssignmentRecord *record, const Unit *text) {
        const HealthPolicy *to = &text->placement.health,
                           *from = record->unit ? &record->unit->placement.health : NULL;
        uint64_t checked = 0;

        for (size_t i = 0; i < to->n_checks; i++)
                for (size_t k = 0; from && k < from->n_checks; k++)
                        if (to->checks[i].kind == UNIT_CHECK_EXEC &&
                            from->checks[k].kind == UNIT_CHECK_EXEC && record->checked & UINT64_C(1) << k &&
                            streq(to->checks[i].target, from->checks[k].target))
                                checked |= UINT64_C(1) << i;
        return checked;
}

int records_put(AssignmentRecords *records, const Unit *unit, AssignmentKind kind, uint64_t unit_index,
                uint64_t index, AssignmentRecord **ret) {
        _cleanup_unit_ Unit *copy = NULL;
        AssignmentRecord *record = records_get(records, unit->name);

        TRY(unit_read(unit->name, unit->text, unit->text_size, &copy, NULL));
        TRY(GROW(records->held, records->held_capacity, records->n_held + PORTS_MAX));

        if (!record) {
                record = NEW0(AssignmentRecord, 1);
                if (!record)
                        return -ENOMEM;
                snprintf(record->name, sizeof(record->name), "%s", unit->name);
                HASH_ADD_STR(records->table, name, record);
                if (!TABLE_ADDED_OR_FREED(record))
                        return -ENOMEM;
        }
        record->text_stored = record->text_stored && unit_equal(record->unit, copy);
        records->dirty_texts |= !record->text_stored;
        record->checked = records_checked(record, copy);
        records_hold(records, record, false);
        unit_free(record->unit);
        record->unit = TAKE_PTR(copy);
        records_hold(records, record, true);
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
        records_hold(records, record, false);
        unit_free(record->unit);
        free(record->template);
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

int records_take(AssignmentRecords *records, const char *machine_id, Error *err) {
        if (records->table && records->machine[0] && !streq(records->machine, machine_id))
                return error_set(
                        err, -EPERM,
                        "%s has the units of machine %.8s, and this host is %.8s (a copied disk, or a "
                        "changed machine ID?). Restore /etc/machine-id; or, if that machine is gone or "
                        "runs elsewhere: move %s away, and start fleetd",
                        records->path, records->machine, machine_id, records->path);
        if (streq(records->machine, machine_id))
                return 0;
        snprintf(records->machine, sizeof(records->machine), "%s", machine_id);
        records->dirty = true;
        return 0;
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

/* -- Ports: {"http":20017} -- */

static void record_ports_write(Text *t, const char *name, const void *field) {
        const RecordPorts *ports = field;

        if (ports->n == 0)
                return;
        json_open(t, name, '{');
        for (size_t i = 0; i < ports->n; i++)
                json_add_u64(t, ports->items[i].name, ports->items[i].number);
        json_close(t, '}');
}

static int record_ports_read_one(void *userdata, const char *name, const JsonValue *v) {
        RecordPorts *ports = userdata;
        uint64_t number;

        if (ports->n == PORTS_MAX || !service_label_is_valid(name, PORT_NAME_MAX) ||
            json_value_u64(v, &number) < 0 || number < PORT_DYNAMIC_MIN || number > UINT16_MAX)
                return -EBADMSG;
        record_ports_add(ports, name, (uint16_t) number);
        return 0;
}

static int record_ports_read(const JsonValue *member, void *field, Error *err) {
        return json_value_each(member, record_ports_read_one, field) < 0 ?
                       error_set(err, -EBADMSG, "ports: expected numbers by name") :
                       0;
}

/* An entry of the file. */
typedef struct RecordEntry {
        AssignmentRecord record;
        const char *hash; /* names the file of the text; NULL: the entry contains the text */
} RecordEntry;

static_assert(ASSIGNMENT_LOAD < ASSIGNMENT_STOP && ASSIGNMENT_RUN < ASSIGNMENT_STOP, "records load or run");
static const JsonWords record_kinds = { assignment_kind_names, ASSIGNMENT_STOP, -EBADMSG };

#define FIELD(member)       offsetof(RecordEntry, record.member)
#define FIELD_CHARS(member) FIELD(member), .size = sizeof(((RecordEntry *) 0)->record.member)

/* The order of the members of an entry is part of the format; text and unit follow. */
static const JsonField record_fields[] = {
        { "before", JSON_FIELD_CHARS, FIELD_CHARS(before) },
        { "checked", JSON_FIELD_U64, FIELD(checked) },
        { "done", JSON_FIELD_BOOL, FIELD(done) },
        { "hash", JSON_FIELD_TEXT, offsetof(RecordEntry, hash) },
        { "index", JSON_FIELD_U64, FIELD(index) },
        { "inputs", JSON_FIELD_U64, FIELD(inputs) },
        { "invocation", JSON_FIELD_CHARS, FIELD_CHARS(invocation) },
        { "job", JSON_FIELD_CHARS_CUT, FIELD_CHARS(job) },
        { "name", JSON_FIELD_CHARS, FIELD_CHARS(name), .required = true },
        { "order", JSON_FIELD_WORD, FIELD(kind), .required = true, .words = &record_kinds },
        { "ownedBoot", JSON_FIELD_CHARS, FIELD_CHARS(owned_boot) },
        { "ports", JSON_FIELD_OTHER, FIELD(ports), .write = record_ports_write, .read = record_ports_read },
        { "startedBoot", JSON_FIELD_CHARS, FIELD_CHARS(started_boot) },
        { "ran", JSON_FIELD_BOOL, FIELD(ran) },
        { "reloading", JSON_FIELD_BOOL, FIELD(reloading) },
        { "replacing", JSON_FIELD_BOOL, FIELD(replacing) },
        { "since", JSON_FIELD_U64, FIELD(since_ms) },
        { "starting", JSON_FIELD_BOOL, FIELD(starting) },
        { "stopped", JSON_FIELD_BOOL, FIELD(stopped) },
        { "stoppedFor", JSON_FIELD_BOOL, FIELD(stopped_for) },
        { "stopping", JSON_FIELD_BOOL, FIELD(stopping) },
        { "template", JSON_FIELD_TEXT, FIELD(template) },
};

/* The members of the file before lineage and units. */
static const JsonField records_fields[] = {
        { "boot", JSON_FIELD_CHARS_CUT, offsetof(AssignmentRecords, boot), .size = BOOT_ID_SIZE },
        { "era", JSON_FIELD_CHARS_CUT, offsetof(AssignmentRecords, era), .size = RECORD_ERA_SIZE },
        { "floor", JSON_FIELD_U64, offsetof(AssignmentRecords, acted_index) },
        { "machine", JSON_FIELD_CHARS_CUT, offsetof(AssignmentRecords, machine), .size = MACHINE_ID_SIZE },
};

static int records_encode(AssignmentRecords *records, bool inline_texts, Text *t) {
        char lineage[LINEAGE_DIGITS + 1];

        HASH_SRT(hh, records->table, records_by_name);
        json_open(t, NULL, '{');
        json_write_fields(t, JSON_FIELDS(records_fields), records);
        hex64_print(records->lineage, lineage);
        json_add_string(t, "lineage", lineage);
        json_open(t, "units", '[');
        for (const AssignmentRecord *record = records->table; record; record = record->hh.next) {
                RecordEntry entry = { *record, inline_texts ? NULL : record->unit->hash };

                json_open(t, NULL, '{');
                json_write_fields(t, JSON_FIELDS(record_fields), &entry);
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

/* Of two texts, or of a hash and a text: all begin with the hash. */
static int records_by_hash(const void *a, const void *b) {
        return strcmp(a, b);
}

static const RecordText *records_find_text(const RecordText *texts, size_t n_texts, const char *hash) {
        return n_texts > 0 ? bsearch(hash, texts, n_texts, sizeof(*texts), records_by_hash) : NULL;
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

        if (!records->dirty)
                return 0;
        TRY(records_check_dir(records));
        w = NEW0(RecordsWrite, 1);
        if (!w)
                return -ENOMEM;
        (void) pthread_mutex_init(&w->lock, NULL); /* cannot fail without attributes */
        w->inline_texts = records_fit_inline(records);
        w->n_reopened = records->n_reopened;
        w->dir_fd = fcntl(records->dir_fd, F_DUPFD_CLOEXEC, 0);
        if (w->dir_fd < 0)
                return -errno;
        TRY(records_encode(records, w->inline_texts, &w->content));
        TRY(w->inline_texts ? 0 : records_copy_texts(records, w));
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

                TRY(text->text && !again ? write_file_at(fd, text->hash, text->text, text->size, 0600) : 0);
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
        TRY(w->inline_texts ? 0 : records_write_texts(w));
        TRY(write_file_at(w->dir_fd, "assignment", w->content.chars, w->content.size, 0600));
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

static int records_read_one(AssignmentRecords *records, const JsonValue *v, Error *err) {
        RecordEntry entry = {};
        AssignmentRecord *read = &entry.record, *record;
        const char *const ids[] = { read->started_boot, read->owned_boot, read->before, read->invocation };
        _cleanup_free_ char *stored = NULL;
        _cleanup_unit_ Unit *unit = NULL;
        const char *text = NULL;
        int r;

        TRY(json_read_fields(v, JSON_FIELDS(record_fields), &entry, err));
        TRY(json_read_string(v, "text", &text, err));
        TRY(json_read_u64(v, "unit", &read->unit_index, err));
        for (size_t i = 0; i < ELEMENTS(ids); i++)
                if (ids[i][0] && strlen(ids[i]) != BOOT_ID_SIZE - 1)
                        return error_set(err, -EBADMSG, "'%s' is not an ID of %d digits", ids[i],
                                         BOOT_ID_SIZE - 1);
        if (!text && !entry.hash)
                return error_set(err, -EBADMSG, "text: missing");
        TRY(text ? 0 : records_read_text(records, entry.hash, &stored, err));
        text = text ?: stored;
        r = unit_read(read->name, text, strlen(text), &unit, err);
        if (r < 0)
                return error_prefix(err, r, "%s", read->name);
        TRY(records_put(records, unit, read->kind, read->unit_index, read->index, &record));

        if (read->template && !(read->template = strdup(read->template)))
                return -ENOMEM;
        free(record->template);
        read->unit = record->unit;
        read->text_stored = stored != NULL;
        read->hh = record->hh;
        records_hold(records, record, false);
        *record = *read;
        records_hold(records, record, true);
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
        if ((unlinkat(records->dir_fd, "assignment.bad", 0) < 0 && errno != ENOENT) ||
            linkat(records->dir_fd, "assignment", records->dir_fd, "assignment.bad", 0) < 0)
                return error_set(err, -errno, "%s", strerror(errno));
        return 0;
}

static int records_parse(AssignmentRecords *records, const char *text, size_t size, Error *err) {
        _cleanup_json_ JsonValue *root = NULL;
        const JsonValue *units;
        bool left_out = false;

        TRY(json_value_parse(text, size, &root, err));
        TRY(records_read_lineage(records, root, err));
        TRY(json_read_fields(root, JSON_FIELDS(records_fields), records, err));
        units = json_value_member(root, "units");
        for (size_t i = 0; i < json_value_count(units); i++)
                TRY(records_read_entry(records, json_value_item(units, i), &left_out, err));
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
        records->held = (free(records->held), NULL);
        records->held_capacity = 0;
}
