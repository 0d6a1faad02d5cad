#include "kvstore/raft/log_files.h"

#include "base/fault_point.h"
#include "base/parse.h"

enum {
        FILE_HEAD_SIZE = 32,
        FILE_VERSION = 1,
        RECORD_HEAD_SIZE = 32,
        RECORD_TRUNCATE = 4,
        RECORD_RESET = 5,
        RECORD_LAST = 1, /* flag */
        WRITE_OFFSET = 28,
        FLAGS_OFFSET = 25,
        NAME_SIZE = 32,
};

static const char magic[8] = "FLEETLOG";
static const char spare_name[] = "log.next";

typedef struct Record {
        uint64_t index, term;
        uint8_t type, flags;
        uint32_t write;
        const uint8_t *data; /* borrowed */
        uint32_t size;
} Record;

static void file_name(char *name, uint64_t number) {
        snprintf(name, NAME_SIZE, "log.%08" PRIu64, number);
}

/* Return the number in the name of a file; 0: it has none. */
static uint64_t file_number(const char *name) {
        char same[NAME_SIZE];
        uint64_t number;

        if (!starts_with(name, "log.") || parse_u64(name + 4, &number) < 0)
                return 0;
        file_name(same, number);
        return streq(name, same) ? number : 0;
}

static size_t padded(size_t size) {
        return (size + 7) & ~(size_t) 7;
}

static void put_u32(uint8_t *at, uint32_t v) {
        for (unsigned i = 0; i < 4; i++)
                at[i] = (uint8_t) (v >> (8 * i));
}

static uint32_t record_crc(uint64_t number, const uint8_t *record, size_t size) {
        uint8_t seed[8];

        put_u32(seed, (uint32_t) number);
        put_u32(seed + 4, (uint32_t) (number >> 32));
        return crc32c(crc32c(0, seed, sizeof(seed)), record + 4, size - 4);
}

/* Numbers of writes wrap around: at 4000 writes a second, after 12 days. No write has number 0. */
static uint32_t next_write(uint32_t write) {
        return write + 1 > 0 ? write + 1 : 1;
}

static bool is_later(uint32_t write, uint32_t than) {
        return than == 0 || (int32_t) (write - than) > 0;
}

/* Read the record at the beginning of 'bytes'. Return false if it is not complete and valid. */
static bool read_record(uint64_t number, const uint8_t *bytes, size_t size, Record *ret) {
        Reader r = reader_over(bytes, size);
        uint32_t crc = read_u32(&r), zero;

        *ret = (Record) {}; /* set one by one: initializers have no order */
        ret->size = read_u32(&r);
        ret->index = read_u64(&r);
        ret->term = read_u64(&r);
        ret->type = read_u8(&r);
        ret->flags = read_u8(&r);
        zero = read_u16(&r);
        ret->write = read_u32(&r);
        if (r.failed || zero != 0 || ret->type < RAFT_ENTRY_COMMAND || ret->type > RECORD_RESET ||
            ret->flags > RECORD_LAST || ret->write == 0 || ret->size > RAFT_ENTRY_SIZE_MAX ||
            padded(ret->size) > r.left)
                return false;

        ret->data = r.bytes;
        return crc == record_crc(number, bytes, RECORD_HEAD_SIZE + padded(ret->size));
}

/* -- Loading -- */

typedef struct Loading {
        RaftLogFiles *files;
        RaftEntries *entries;
        bool known;     /* the beginning of the log is known */
        uint64_t first; /* the first index on disk if its entry is not kept; 0: it is */
        uint64_t applied, bytes;
        uint32_t
                write; /* required number of the next record's write; 0: unknown, earlier files are removed */
        char *torn;
} Loading;

static int loading_corrupt(Error *err, uint64_t number, size_t offset, const char *why) {
        char name[NAME_SIZE];

        file_name(name, number);
        return error_set(err, -EUCLEAN, "%s is corrupt at offset %zu%s", name, offset, why);
}

static bool file_head_valid(const uint8_t *bytes, size_t size, uint64_t number) {
        Reader r = reader_over(bytes, size);
        const void *m = read_raw(&r, sizeof(magic));
        uint32_t version = read_u32(&r), crc = read_u32(&r);
        uint64_t n = read_u64(&r);

        return size >= FILE_HEAD_SIZE && memcmp(m, magic, sizeof(magic)) == 0 && version == FILE_VERSION &&
               n == number && crc == crc32c(0, bytes + 16, FILE_HEAD_SIZE - 16);
}

static void note_index(RaftLogFile *file, uint64_t index) {
        if (file->low == 0 || index < file->low)
                file->low = index;
}

/* Replay one record. -EBADMSG: it does not follow the records before. */
static int replay(Loading *l, RaftLogFile *file, const Record *r) {
        RaftEntries *e = l->entries;
        RaftEntry entry = {
                .term = r->term, .type = (RaftEntryType) r->type, .data = r->data, .size = r->size
        };

        if (r->index == 0 && r->type != RECORD_RESET)
                return -EBADMSG;
        if (!l->known && r->type != RECORD_RESET) {
                raft_entries_reset(e, r->index);
                l->known = true;
        }

        switch (r->type) {
        case RECORD_RESET:
                raft_entries_reset(e, r->index + 1);
                l->known = true;
                l->first = 0;
                file->low = r->index + 1;
                return 0;
        case RECORD_TRUNCATE:
                if (r->index > raft_entries_last(e) + 1)
                        return -EBADMSG;
                /* Before the first entry: the entries that it truncated were in a file that was removed
                 * later, or were not kept. */
                if (r->index < e->first)
                        raft_entries_reset(e, r->index);
                l->first = MIN(l->first, r->index);
                raft_entries_truncate(e, r->index);
                note_index(file, r->index);
                return 0;
        default:
                if (r->index != raft_entries_last(e) + 1)
                        return -EBADMSG;
                note_index(file, r->index);
                file->high = MAX(file->high, r->index);
                return raft_entries_append(e, &entry);
        }
}

/* Most of a new file is zeroes. */
static size_t end_of_content(const uint8_t *bytes, size_t size) {
        enum { BLOCK = 4096 };

        /* All bytes are equal to their next ones, the last of which is zero. */
        while (size >= BLOCK && bytes[size - 1] == 0 &&
               memcmp(bytes + size - BLOCK, bytes + size - BLOCK + 1, BLOCK - 1) == 0)
                size -= BLOCK;
        while (size > 0 && bytes[size - 1] == 0)
                size--;
        return size;
}

/* Return whether a record of a later write than 'write' follows: then the record at 'offset' was complete
 * once. */
static bool later_write_follows(const RaftLogFile *file, const uint8_t *bytes, size_t offset, size_t end,
                                uint32_t write) {
        Record r;

        for (size_t o = padded(offset + 1); o < end; o += 8) /* a record may end with zeroes */
                if (read_record(file->number, bytes + o, file->size - o, &r) && is_later(r.write, write))
                        return true;
        return false;
}

/* End the file at 'offset'. Zeroes must follow, or, in the last file, the rest of a torn write. That is
 * erased, so that it cannot be read as a record later. */
static int end_file(Loading *l, RaftLogFile *file, uint8_t *bytes, size_t offset, bool last, Error *err) {
        size_t end = end_of_content(bytes, file->size);
        char name[NAME_SIZE];

        file->used = offset;
        if (end <= offset)
                return 0;

        if (!last || later_write_follows(file, bytes, offset, end, l->write))
                return loading_corrupt(err, file->number, offset, "");

        file_name(name, file->number);
        snprintf(l->torn, RAFT_LOG_TORN_SIZE, "%s at offset %zu", name, offset);
        memset(bytes + offset, 0, end - offset);
        return file->file->ops->write(file->file, bytes + offset, end - offset, offset);
}

static int load_records(Loading *l, RaftLogFile *file, uint8_t *bytes, bool last, Error *err) {
        size_t offset = FILE_HEAD_SIZE;
        Record r;
        int error;

        if (!file_head_valid(bytes, file->size, file->number))
                return end_file(l, file, bytes, 0, last, err);

        while (read_record(file->number, bytes + offset, file->size - offset, &r)) {
                error = l->write != 0 && r.write != l->write ? -EBADMSG : replay(l, file, &r);
                if (error == -EBADMSG)
                        return loading_corrupt(err, file->number, offset,
                                               ": the record does not follow the previous one");
                if (error < 0)
                        return error;

                l->write = r.flags & RECORD_LAST ? next_write(r.write) : r.write;
                offset += RECORD_HEAD_SIZE + padded(r.size);
        }
        return end_file(l, file, bytes, offset, last, err);
}

/* After each file, so that memory never holds much more of the log than what is kept. */
static void drop_needless(Loading *l) {
        size_t n = raft_entries_needless(l->entries, l->applied, l->bytes);

        if (n == 0)
                return;
        if (l->first == 0)
                l->first = l->entries->first;
        raft_entries_cut(l->entries, l->entries->first + n - 1);
}

static int load_file(Loading *l, RaftLogFile *file, bool last, Error *err) {
        _cleanup_free_ uint8_t *bytes = NULL;
        char name[NAME_SIZE];
        int r;

        file_name(name, file->number);
        r = l->files->disk->ops->open(l->files->disk, name, false, 0, &file->file);
        if (r == 0)
                r = file->file->ops->size(file->file, &file->size);
        if (r < 0)
                return error_set(err, r, "Failed to open %s: %s", name, strerror(-r));
        if (file->size > SIZE_MAX / 2)
                return loading_corrupt(err, file->number, 0, ": it is too large");

        bytes = malloc(file->size + 1);
        if (!bytes)
                return -ENOMEM;
        r = file->size > 0 ? file->file->ops->read(file->file, bytes, file->size, 0) : 0;
        if (r < 0)
                return error_set(err, r, "Failed to read %s: %s", name, strerror(-r));

        r = load_records(l, file, bytes, last, err);
        return r < 0 && r != -EUCLEAN ? error_prefix(err, r, "cannot load %s", name) : r;
}

static int compare_files(const void *a, const void *b) {
        const RaftLogFile *x = a, *y = b;

        return x->number < y->number ? -1 : x->number > y->number;
}

static int list_files(RaftLogFiles *f) {
        char **names;
        size_t n;
        int r;

        r = TRY(f->disk->ops->list(f->disk, &names, &n));

        for (size_t i = 0; i < n; i++) {
                uint64_t number = file_number(names[i]);

                if (r == 0 && number > 0)
                        r = GROW(f->items, f->capacity, f->n + 1);
                if (r == 0 && number > 0)
                        f->items[f->n++] = (RaftLogFile) { .number = number };
                free(names[i]);
        }
        free(names);
        if (f->n > 0)
                qsort(f->items, f->n, sizeof(*f->items), compare_files);
        return r;
}

int raft_log_files_load(RaftLogFiles *f, uint64_t applied, uint64_t bytes, RaftEntries *ret,
                        uint64_t *ret_first, char torn[static RAFT_LOG_TORN_SIZE], Error *err) {
        Loading l = { .files = f, .entries = ret, .applied = applied, .bytes = bytes, .torn = torn };
        int r;

        torn[0] = '\0';
        raft_entries_reset(ret, 1);
        (void) f->disk->ops->remove(f->disk, spare_name); /* free its space */
        r = list_files(f);
        if (r < 0)
                return error_set(err, r, "Failed to list the log's files: %s", strerror(-r));

        l.write = f->n > 0 && f->items[0].number == 1 ? 1 : 0;
        for (size_t i = 0; i < f->n; i++) {
                if (f->cancelled && *f->cancelled)
                        return -ECANCELED;
                if (i > 0 && f->items[i].number != f->items[i - 1].number + 1)
                        return loading_corrupt(err, f->items[i - 1].number + 1, 0, ": the file is missing");
                TRY(load_file(&l, &f->items[i], i + 1 == f->n, err));
                drop_needless(&l);
        }

        *ret_first = l.first > 0 ? l.first : ret->first;
        f->write = MAX(l.write, 1);
        return 0;
}

/* -- Writing -- */

static RaftLogFile *current(const RaftLogFiles *f) {
        return f->n > 0 ? &f->items[f->n - 1] : NULL;
}

static void put_file_head(RaftLogFiles *f, uint64_t number) {
        size_t at = f->buffer.size;

        write_raw(&f->buffer, magic, sizeof(magic));
        write_u32(&f->buffer, FILE_VERSION);
        write_u32(&f->buffer, 0);
        write_u64(&f->buffer, number);
        write_u64(&f->buffer, 0);
        if (f->buffer.error == 0)
                put_u32(f->buffer.bytes + at + 12, crc32c(0, f->buffer.bytes + at + 16, FILE_HEAD_SIZE - 16));
}

/* Add a file that has room for a record of 'size' bytes. */
static int add_file(RaftLogFiles *f, size_t size) {
        RaftLogFile file = { .number = f->n > 0 ? current(f)->number + 1 : 1, .size = f->file_size };
        char name[NAME_SIZE];
        int r;

        if (file.size < FILE_HEAD_SIZE + size)
                file.size = (FILE_HEAD_SIZE + size + 4095) & ~(uint64_t) 4095;

        r = TRY(GROW(f->items, f->capacity, f->n + 1));

        file_name(name, file.number);
        if (f->has_spare && file.size == f->file_size) {
                f->has_spare = false;
                r = f->disk->ops->rename(f->disk, spare_name, name);
                fault_point("log-file-renamed");
                if (r >= 0)
                        r = f->disk->ops->open(f->disk, name, false, 0, &file.file);
        } else {
                fault_point("log-file-before-make");
                r = f->disk->ops->open(f->disk, name, true, file.size, &file.file);
                fault_point("log-file-made");
        }
        if (r < 0)
                return r;

        f->items[f->n++] = file;
        return 0;
}

uint64_t raft_log_files_wants_spare(const RaftLogFiles *f) {
        const RaftLogFile *last = current(f);

        return last && !f->has_spare && last->used >= last->size / 2 ? last->number : 0;
}

int raft_log_files_make_spare(Disk *disk, uint64_t file_size) {
        DiskFile *file;
        int r;

        r = disk->ops->remove(disk, spare_name); /* a partial one that was left */
        if (r == 0 || r == -ENOENT)
                r = disk->ops->open(disk, spare_name, true, file_size, &file);
        if (r < 0) {
                (void) disk->ops->remove(disk, spare_name); /* the writer may need its space */
                return r;
        }
        file->ops->close(file);
        fault_point("log-spare-made");
        return 0;
}

/* Complete the buffered records with their write's number and checksums. */
static void seal(RaftLogFiles *f) {
        const RaftLogFile *file = current(f);
        size_t offset = file->used == 0 ? FILE_HEAD_SIZE : 0;

        f->buffer.bytes[f->last_record + FLAGS_OFFSET] |= RECORD_LAST;
        while (offset < f->buffer.size) {
                uint8_t *record = f->buffer.bytes + offset;
                Reader size = reader_over(record + 4, 4);
                size_t whole = RECORD_HEAD_SIZE + padded(read_u32(&size));

                put_u32(record + WRITE_OFFSET, f->write);
                put_u32(record, record_crc(file->number, record, whole));
                offset += whole;
        }
}

int raft_log_files_flush(RaftLogFiles *f) {
        RaftLogFile *file = current(f);

        /* After a failed append the job ends, and the log accepts no further operation. */
        assert(f->buffer.error == 0);
        if (f->buffer.size == 0)
                return 0;

        seal(f);
        fault_point("log-before-write");
        TRY(file->file->ops->write(file->file, f->buffer.bytes, f->buffer.size, file->used));
        fault_point("log-written");

        file->used += f->buffer.size;
        f->write = next_write(f->write);
        f->buffer.size = 0;
        return 0;
}

static int put_record(RaftLogFiles *f, uint8_t type, uint64_t index, uint64_t term, const void *data,
                      size_t size) {
        static const uint8_t zeroes[8];
        size_t whole = RECORD_HEAD_SIZE + padded(size);
        RaftLogFile *file = current(f);
        uint64_t behind = file ? file->used + f->buffer.size : 0;
        int r;

        if (!file || behind + whole + (behind == 0 ? FILE_HEAD_SIZE : 0) > file->size) {
                r = raft_log_files_flush(f);
                if (r == 0)
                        r = add_file(f, whole);
                if (r < 0)
                        return r;
                file = current(f);
        }
        if (file->used == 0 && f->buffer.size == 0)
                put_file_head(f, file->number);

        f->last_record = f->buffer.size;
        write_u32(&f->buffer, 0);
        write_u32(&f->buffer, (uint32_t) size);
        write_u64(&f->buffer, index);
        write_u64(&f->buffer, term);
        write_u8(&f->buffer, type);
        write_u8(&f->buffer, 0);
        write_u16(&f->buffer, 0);
        write_u32(&f->buffer, 0);
        write_raw(&f->buffer, data, size);
        write_raw(&f->buffer, zeroes, padded(size) - size);
        return f->buffer.error;
}

int raft_log_files_entry(RaftLogFiles *f, uint64_t index, const RaftEntry *e) {
        if (e->size > RAFT_ENTRY_SIZE_MAX)
                return -EFBIG;

        TRY(put_record(f, (uint8_t) e->type, index, e->term, e->data, e->size));

        note_index(current(f), index);
        current(f)->high = MAX(current(f)->high, index);
        return 0;
}

int raft_log_files_truncate(RaftLogFiles *f, uint64_t index) {
        TRY(put_record(f, RECORD_TRUNCATE, index, 0, NULL, 0));
        fault_point("log-before-truncate");

        note_index(current(f), index);
        return 0;
}

/* Close the oldest file, then remove it, so that no handle is left if removing fails. */
static int remove_oldest(RaftLogFiles *f) {
        char name[NAME_SIZE];
        int r;

        file_name(name, f->items[0].number);
        if (f->items[0].file)
                f->items[0].file->ops->close(f->items[0].file);
        f->n--;
        memmove(f->items, f->items + 1, f->n * sizeof(*f->items));
        fault_point("log-file-before-remove");
        r = f->disk->ops->remove(f->disk, name);
        fault_point("log-file-removed");
        return r;
}

int raft_log_files_reset(RaftLogFiles *f, uint64_t index) {
        int r;

        r = put_record(f, RECORD_RESET, index, 0, NULL, 0);
        if (r == 0)
                r = raft_log_files_flush(f);
        if (r < 0)
                return r;

        current(f)->low = index + 1;
        fault_point("log-reset-written");
        while (r == 0 && f->n > 1)
                r = remove_oldest(f);
        return r;
}

/* Return whether a file after the oldest one names the beginning of the log. A file that is torn before its
 * first record, or that stayed empty because the disk was full, does not. */
static bool begins_after_oldest(const RaftLogFiles *f) {
        for (size_t i = 1; i < f->n; i++)
                if (f->items[i].low > 0)
                        return true;
        return false;
}

int raft_log_files_cut(RaftLogFiles *f, uint64_t index) {
        int r;

        r = raft_log_files_flush(f);
        fault_point("log-before-cut");
        while (r == 0 && f->n > 1 && f->items[0].high <= index && begins_after_oldest(f))
                r = remove_oldest(f);
        return r;
}

uint64_t raft_log_files_first(const RaftLogFiles *f) {
        for (size_t i = 0; i < f->n; i++)
                if (f->items[i].low > 0)
                        return f->items[i].low;
        return 0;
}

int raft_log_files_remove_all(RaftLogFiles *f) {
        int r = f->n == 0 ? list_files(f) : 0;

        while (r == 0 && f->n > 0)
                r = remove_oldest(f);
        return r;
}

void raft_log_files_done(RaftLogFiles *f) {
        for (size_t i = 0; i < f->n; i++)
                if (f->items[i].file)
                        f->items[i].file->ops->close(f->items[i].file);
        free(f->items);
        writer_done(&f->buffer);
        *f = (RaftLogFiles) {};
}
