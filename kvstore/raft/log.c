/* The log on the loop: term and vote, and a queue of operations. While a write is in flight, the files belong
 * to the writer (log_files.c), and the loop keeps its own first and last index. */
#include "kvstore/raft/log.h"

#include "kvstore/raft/log_files.h"

#include "base/fault_point.h"

enum { META_SIZE = 128, META_VERSION = 1, FILE_SIZE_DEFAULT = 4 * 1024 * 1024, FILE_SIZE_MIN = 4096 };

static const char meta_magic[8] = "FLEETMET";
static const char *const meta_names[] = { "meta.a", "meta.b" };

typedef enum OpKind { OP_APPEND, OP_RESET, OP_CUT } OpKind;

typedef struct Op {
        OpKind kind;
        uint64_t index, generation; /* index: of entries[0]; of reset and cut */
        RaftEntry *entries;         /* one allocation with their data; owned */
        size_t n;
        bool truncates;
} Op;

typedef struct OpQueue {
        Op *items;
        size_t n, capacity;
} OpQueue;

struct RaftLog {
        Disk *disk; /* borrowed */
        Loop *loop;
        RaftLogEvents events;
        void *userdata;

        RaftLogMeta meta;
        uint64_t meta_sequence;
        DiskFile *meta_files[2];

        RaftEntries loaded;
        char torn[RAFT_LOG_TORN_SIZE];

        uint64_t first, last; /* after all queued operations */
        OpQueue queue;
        int error;

        Work work;
        bool working;
        uint64_t working_since_ms;
        OpQueue job;        /* of the writer, while it works */
        RaftLogFiles files; /* of the writer, while it works */
        int job_error;
        uint64_t job_ns;       /* how long it worked */
        DurationCounts writes; /* of the jobs that ended */

        Work making; /* the file after the last one, beside the writer */
        bool is_making, has_made;
        uint64_t made_after; /* number of the last file at that time: there is one attempt */
        int made_error;

        bool closing;
        void (*closed)(void *userdata);
        void *closed_userdata;
};

/* -- Term and vote -- */

static void meta_encode(Writer *w, const RaftLogMeta *meta, uint64_t sequence) {
        Writer body = {};

        write_u32(&body, META_VERSION);
        write_u32(&body, 0);
        write_u64(&body, sequence);
        write_u64(&body, meta->cluster);
        write_u64(&body, meta->id);
        write_raw(&body, meta->machine, sizeof(meta->machine));
        write_u64(&body, meta->start_number);
        write_u64(&body, meta->term);
        write_u64(&body, meta->vote);
        write_raw(&body, meta->hardware, sizeof(meta->hardware));
        while (body.error == 0 && body.size < META_SIZE - 12)
                write_u8(&body, 0);

        write_raw(w, meta_magic, sizeof(meta_magic));
        write_u32(w, crc32c(0, body.bytes, body.size));
        write_raw(w, body.bytes, body.size);
        if (body.error < 0)
                w->error = body.error;
        writer_done(&body);
}

static int meta_decode(const uint8_t *bytes, RaftLogMeta *ret, uint64_t *ret_sequence) {
        Reader r = reader_over(bytes, META_SIZE);
        RaftLogMeta meta = {};
        const void *machine, *hardware;

        if (memcmp(read_raw(&r, sizeof(meta_magic)), meta_magic, sizeof(meta_magic)) != 0 ||
            read_u32(&r) != crc32c(0, bytes + 12, META_SIZE - 12) || read_u32(&r) != META_VERSION)
                return -EBADMSG;

        (void) read_u32(&r);
        *ret_sequence = read_u64(&r);
        meta.cluster = read_u64(&r);
        meta.id = read_u64(&r);
        machine = read_raw(&r, sizeof(meta.machine));
        memcpy(meta.machine, machine, sizeof(meta.machine));
        meta.start_number = read_u64(&r);
        meta.term = read_u64(&r);
        meta.vote = read_u64(&r);
        hardware = read_raw(&r, sizeof(meta.hardware));
        memcpy(meta.hardware, hardware, sizeof(meta.hardware));
        *ret = meta;
        return 0;
}

/* Read one meta file. -ENOENT: it does not exist, or was never written; -EUCLEAN. */
static int meta_read(Disk *disk, const char *name, RaftLogMeta *ret, uint64_t *ret_sequence, Error *err) {
        static const uint8_t zeroes[META_SIZE];
        uint8_t bytes[META_SIZE];
        DiskFile *file;
        int r;

        r = disk->ops->open(disk, name, false, 0, &file);
        if (r < 0)
                return r == -ENOENT ? r : error_set(err, r, "Failed to open %s: %s", name, strerror(-r));

        r = disk->ops->read(file, bytes, sizeof(bytes), 0);
        disk->ops->close(file);
        if (r == -ENODATA || (r == 0 && memcmp(bytes, zeroes, sizeof(bytes)) == 0))
                return -ENOENT;
        if (r < 0)
                return error_set(err, r, "Failed to read %s: %s", name, strerror(-r));

        /* One write within one sector: a crash does not tear it. */
        r = meta_decode(bytes, ret, ret_sequence);
        return r < 0 ? error_set(err, -EUCLEAN, "%s is corrupt at offset 0", name) : 0;
}

/* Read the newer meta file. -ENOENT: there is no log. */
static int meta_load(Disk *disk, RaftLogMeta *ret, uint64_t *ret_sequence, Error *err) {
        RaftLogMeta meta;
        uint64_t sequence = 0;
        bool found = false;
        int r;

        for (size_t i = 0; i < ELEMENTS(meta_names); i++) {
                r = meta_read(disk, meta_names[i], &meta, &sequence, err);
                if (r == -ENOENT)
                        continue;
                if (r < 0)
                        return r;
                if (!found || sequence > *ret_sequence) {
                        *ret = meta;
                        *ret_sequence = sequence;
                }
                found = true;
        }
        return found ? 0 : -ENOENT;
}

static int meta_write(RaftLog *log, const RaftLogMeta *meta) {
        _cleanup_writer_ Writer w = {};
        DiskFile *file = log->meta_files[(log->meta_sequence + 1) % 2];

        meta_encode(&w, meta, log->meta_sequence + 1);
        if (w.error < 0)
                return w.error;

        assert(w.size == META_SIZE);
        fault_point("meta-before-write");
        TRY(log->disk->ops->write(file, w.bytes, w.size, 0));
        fault_point("meta-written");

        log->meta_sequence++;
        log->meta = *meta;
        return 0;
}

/* -- Creation -- */

static uint64_t file_size_of(const RaftLogOptions *options) {
        uint64_t size = options && options->file_size > 0 ? options->file_size : FILE_SIZE_DEFAULT;

        return MAX(size, FILE_SIZE_MIN);
}

static int create_files(Disk *disk, const RaftLogMeta *meta, uint64_t first_index, const RaftEntry *entries,
                        size_t n, const RaftLogOptions *options) {
        RaftLogFiles files = { .disk = disk, .file_size = file_size_of(options), .write = 1 };
        _cleanup_writer_ Writer w = {};
        DiskFile *file;
        int r;

        r = raft_log_files_remove_all(&files); /* of an attempt that a crash ended */
        if (r == 0 && n == 0 && first_index > 1)
                r = raft_log_files_reset(&files, first_index - 1);
        for (size_t i = 0; i < n && r == 0; i++)
                r = raft_log_files_entry(&files, first_index + i, &entries[i]);
        if (r == 0)
                r = raft_log_files_flush(&files);
        raft_log_files_done(&files);
        if (r < 0)
                return r;

        meta_encode(&w, meta, 1);
        if (w.error < 0)
                return w.error;
        fault_point("first-meta-before-make");
        TRY(disk->ops->open(disk, meta_names[1], true, META_SIZE, &file));
        fault_point("first-meta-made");
        r = disk->ops->write(file, w.bytes, w.size, 0);
        fault_point("first-meta-written");
        disk->ops->close(file);
        return r;
}

int raft_log_create(Disk *disk, const RaftLogMeta *meta, uint64_t first_index, const RaftEntry *entries,
                    size_t n, const RaftLogOptions *options, Error *err) {
        RaftLogMeta old;
        uint64_t sequence;
        int r;

        r = meta_load(disk, &old, &sequence, err);
        if (r == 0)
                return error_set(err, -EEXIST, "there is a log already");
        if (r != -ENOENT)
                return r;

        r = create_files(disk, meta, first_index, entries, n, options);
        return r < 0 ? error_set(err, r, "Failed to create the log: %s", strerror(-r)) : 0;
}

/* -- Opening and closing -- */

static void queue_done(OpQueue *q) {
        for (size_t i = 0; i < q->n; i++)
                free(q->items[i].entries);
        free(q->items);
        *q = (OpQueue) {};
}

static void log_free(RaftLog *log) {
        void (*closed)(void *userdata) = log->closed;
        void *userdata = log->closed_userdata;

        for (size_t i = 0; i < ELEMENTS(log->meta_files); i++)
                if (log->meta_files[i])
                        log->disk->ops->close(log->meta_files[i]);
        raft_log_files_done(&log->files);
        raft_entries_reset(&log->loaded, 1);
        queue_done(&log->queue);
        queue_done(&log->job);
        free(log);
        if (closed)
                closed(userdata);
}

/* Free a closed log when no work of it is in flight any more. */
static void log_end(RaftLog *log) {
        if (log->closing && !log->working && !log->is_making)
                log_free(log);
}

static int open_meta(RaftLog *log, Error *err) {
        RaftLogMeta meta;
        int r;

        r = meta_load(log->disk, &log->meta, &log->meta_sequence, err);
        if (r == -ENOENT)
                return error_set(err, r, "there is no log");
        for (size_t i = 0; i < ELEMENTS(meta_names) && r == 0; i++) {
                r = log->disk->ops->open(log->disk, meta_names[i], true, META_SIZE, &log->meta_files[i]);
                if (r < 0)
                        (void) error_set(err, r, "Failed to open %s: %s", meta_names[i], strerror(-r));
        }
        if (r < 0)
                return r;

        meta = log->meta;
        meta.start_number++;
        fault_point("start-number-before-write");
        r = meta_write(log, &meta);
        fault_point("start-number-written");
        return r < 0 ? error_set(err, r, "Failed to write %s: %s", meta_names[(log->meta_sequence + 1) % 2],
                                 strerror(-r)) :
                       0;
}

int raft_log_open(Disk *disk, Loop *loop, const RaftLogOptions *options, const RaftLogEvents *events,
                  void *userdata, RaftLog **ret, Error *err) {
        RaftLog *log = NEW0(RaftLog, 1);
        int r;

        if (!log)
                return -ENOMEM;

        log->disk = disk;
        log->loop = loop;
        log->events = *events;
        log->userdata = userdata;
        log->files = (RaftLogFiles) { .disk = disk,
                                      .file_size = file_size_of(options),
                                      .cancelled = options->cancelled };

        r = open_meta(log, err);
        if (r == 0)
                r = raft_log_files_load(&log->files, options->applied, options->loaded_bytes, &log->loaded,
                                        &log->first, log->torn, err);
        if (r < 0) {
                log_free(log);
                return r;
        }

        log->last = raft_entries_last(&log->loaded);
        *ret = log;
        return 0;
}

RaftLog *raft_log_close(RaftLog *log, void (*closed)(void *userdata), void *userdata) {
        if (!log)
                return NULL;

        log->closing = true;
        log->closed = closed;
        log->closed_userdata = userdata;
        log_end(log);
        return NULL;
}

RaftLog *raft_log_crash(RaftLog *log) {
        if (log) {
                log->closed = NULL;
                log_free(log);
        }
        return NULL;
}

const RaftLogMeta *raft_log_meta(const RaftLog *log) {
        return &log->meta;
}

bool raft_log_torn(const RaftLog *log, const char **ret_where) {
        *ret_where = log->torn;
        return log->torn[0] != '\0';
}

int raft_log_take_entries(RaftLog *log, RaftEntry **ret, size_t *ret_n, uint64_t *ret_first) {
        *ret = log->loaded.items;
        *ret_n = log->loaded.n;
        *ret_first = log->loaded.first;
        blocks_done(&log->loaded.data);
        log->loaded = (RaftEntries) { .first = log->loaded.first };
        return 0;
}

const RaftEntry *raft_log_entries(const RaftLog *log, size_t *ret_n, uint64_t *ret_first) {
        *ret_n = log->loaded.n;
        *ret_first = log->loaded.first;
        return log->loaded.items;
}

RaftEntry *raft_log_entries_free(RaftEntry *entries, size_t n) {
        for (size_t i = 0; i < n; i++)
                blocks_free((void *) entries[i].data);
        free(entries);
        return NULL;
}

static int log_write_meta(RaftLog *log, const RaftLogMeta *meta) {
        if (log->error == 0)
                log->error = meta_write(log, meta);
        return log->error;
}

int raft_log_write_hardware(RaftLog *log, const uint8_t hardware[RAFT_LOG_MACHINE_SIZE]) {
        RaftLogMeta meta = log->meta;

        memcpy(meta.hardware, hardware, sizeof(meta.hardware));
        return log_write_meta(log, &meta);
}

int raft_log_write_meta(RaftLog *log, uint64_t term, uint64_t vote) {
        RaftLogMeta meta = log->meta;

        meta.term = term;
        meta.vote = vote;
        return log_write_meta(log, &meta);
}

const DurationCounts *raft_log_writes(const RaftLog *log) {
        return &log->writes;
}

/* -- The writer, off the loop -- */

static int write_append(RaftLogFiles *files, const Op *op) {
        int r = 0;

        if (op->truncates)
                r = raft_log_files_truncate(files, op->index);
        for (size_t i = 0; i < op->n && r == 0; i++)
                r = raft_log_files_entry(files, op->index + i, &op->entries[i]);
        return r;
}

static void work_job(void *userdata) {
        RaftLog *log = userdata;
        uint64_t began_ns = loop_clock_ns(log->loop);
        int r = 0;

        for (size_t i = 0; i < log->job.n && r == 0; i++) {
                const Op *op = &log->job.items[i];

                switch (op->kind) {
                case OP_APPEND:
                        r = write_append(&log->files, op);
                        break;
                case OP_RESET:
                        r = raft_log_files_reset(&log->files, op->index);
                        break;
                case OP_CUT:
                        r = raft_log_files_cut(&log->files, op->index);
                        break;
                }
        }
        if (r == 0)
                r = raft_log_files_flush(&log->files);
        log->job_error = r;
        log->job_ns = loop_clock_ns(log->loop) - began_ns;
}

/* -- The queue -- */

static void start_job(RaftLog *log);

/* Report the finished job. The owner may close the log inside the call; 'working' therefore stays set until
 * the end. */
static void report_job(RaftLog *log, const OpQueue *job) {
        const Op *appended = NULL;
        char message[128];
        bool cut = false;

        for (size_t i = 0; i < job->n; i++) {
                if (job->items[i].kind == OP_APPEND)
                        appended = &job->items[i];
                cut |= job->items[i].kind == OP_CUT;
        }

        if (log->job_error < 0) {
                log->error = log->job_error;
                snprintf(message, sizeof(message), "Failed to write the log: %s", strerror(-log->error));
                log->events.failed(log->userdata, log->error, message);
                return;
        }
        if (cut && raft_log_files_first(&log->files) > log->first)
                log->first = MIN(raft_log_files_first(&log->files), log->last + 1);
        if (appended)
                log->events.appended(log->userdata, appended->generation, appended->index + appended->n - 1);
}

static void work_making(void *userdata) {
        RaftLog *log = userdata;

        log->made_error = raft_log_files_make_spare(log->disk, log->files.file_size);
}

static void on_made(void *userdata) {
        RaftLog *log = userdata;

        log->is_making = false;
        /* After a failure, the writer creates the next file itself, and reports the error. */
        log->has_made = log->made_error == 0;
        log_end(log);
}

/* There is one at a time: none is created while one is ready, and the writer takes none during the creation.
 */
static void make_next_file(RaftLog *log) {
        uint64_t last = raft_log_files_wants_spare(&log->files);

        if (last == 0 || last == log->made_after || log->is_making || log->has_made)
                return;
        log->made_after = last;
        log->making = WORK(work_making, on_made, log);
        log->making.nice = WORK_NICE_PATIENT;
        log->is_making = loop_work(log->loop, &log->making) >= 0;
}

static void on_job_done(void *userdata) {
        RaftLog *log = userdata;
        OpQueue job = log->job;

        log->job = (OpQueue) {};
        log->working_since_ms = 0;
        duration_count(&log->writes, log->job_ns);
        if (!log->closing)
                report_job(log, &job);
        queue_done(&job);

        log->working = false;
        if (log->closing)
                log_end(log);
        else if (log->error == 0) {
                make_next_file(log);
                if (log->queue.n > 0)
                        start_job(log);
        }
}

static void start_job(RaftLog *log) {
        int r;

        log->job = log->queue;
        log->queue = (OpQueue) {};
        log->files.has_spare |= log->has_made;
        log->has_made = false;
        log->work = WORK(work_job, on_job_done, log);
        log->working = true;
        log->working_since_ms = loop_now_ms(log->loop);
        r = loop_work(log->loop, &log->work);
        if (r < 0) {
                log->working = false;
                log->error = r;
                queue_done(&log->job);
        }
}

/* Take op.entries, also on failure. */
static int queue_op(RaftLog *log, Op op) {
        int r = log->error;

        if (r == 0)
                r = GROW(log->queue.items, log->queue.capacity, log->queue.n + 1);
        if (r < 0) {
                free(op.entries);
                return r;
        }

        log->queue.items[log->queue.n++] = op;
        if (!log->working)
                start_job(log);
        return log->error;
}

/* Copy entries and their data into one allocation. */
static RaftEntry *copy_entries(const RaftEntry *entries, size_t n) {
        size_t size = n * sizeof(*entries);
        RaftEntry *copy;
        uint8_t *data;

        for (size_t i = 0; i < n; i++)
                size += entries[i].size;
        copy = malloc(size);
        if (!copy)
                return NULL;

        data = (uint8_t *) (copy + n);
        for (size_t i = 0; i < n; i++) {
                copy[i] = entries[i];
                copy[i].data = data;
                if (entries[i].size > 0)
                        memcpy(data, entries[i].data, entries[i].size);
                data += entries[i].size;
        }
        return copy;
}

int raft_log_append(RaftLog *log, uint64_t generation, uint64_t first_index, const RaftEntry *entries,
                    size_t n) {
        Op op = { .kind = OP_APPEND,
                  .index = first_index,
                  .generation = generation,
                  .n = n,
                  .truncates = first_index <= log->last };

        assert(n > 0 && first_index > 0 && first_index <= log->last + 1);

        op.entries = copy_entries(entries, n);
        if (!op.entries)
                return -ENOMEM;

        TRY(queue_op(log, op));

        log->first = MIN(log->first, first_index);
        log->last = first_index + n - 1;
        return 0;
}

int raft_log_reset(RaftLog *log, uint64_t index) {
        TRY(queue_op(log, (Op) { .kind = OP_RESET, .index = index }));

        log->first = index + 1;
        log->last = index;
        return 0;
}

int raft_log_cut(RaftLog *log, uint64_t index) {
        return queue_op(log, (Op) { .kind = OP_CUT, .index = index });
}

uint64_t raft_log_first_index(const RaftLog *log) {
        return log->first;
}

uint64_t raft_log_last_index(const RaftLog *log) {
        return log->last;
}

uint64_t raft_log_oldest_write_ms(const RaftLog *log) {
        return log->working_since_ms;
}
