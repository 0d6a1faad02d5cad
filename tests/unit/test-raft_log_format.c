/* The bytes of the log's files, as log_files.h says them: other versions read
 * and write them. */

#include "tests/lib/test.h"
#include "kvstore/raft/log.h"
#include "kvstore/raft/log_files.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/memory_disk.h"

typedef struct Bench {
        ManualLoop loop;
        MemoryDisk memory;
        Disk *disk;
        RaftLog *log;
} Bench;

static const RaftLogMeta meta = {
        .cluster = 0x1122334455667788, .id = 5, .machine = "machine-of-test", .term = 1
};
static const RaftLogOptions small = { .file_size = 4096 };

static void on_appended(void *userdata, uint64_t generation, uint64_t last_index) {}

static void on_failed(void *userdata, int error, const char *message) {
        fail_msg("%s", message);
}

static const RaftLogEvents events = { .appended = on_appended, .failed = on_failed };

static void turn_all(Bench *b) {
        while (manual_loop_work(&b->loop))
                ;
}

static int open_log(Bench *b, Error *err) {
        return raft_log_open(b->disk, &b->loop.base, &small, &events, b, &b->log, err);
}

static void close_log(Bench *b) {
        b->log = raft_log_close(b->log, NULL, NULL);
        turn_all(b);
}

static void create_and_open(Bench *b) {
        Error err = {};

        *b = (Bench) {};
        manual_loop_init(&b->loop, 1);
        memory_disk_init(&b->memory, 1);
        b->disk = &b->memory.base;
        assert_int_equal(raft_log_create(b->disk, &meta, 1, NULL, 0, &small, &err), 0);
        assert_int_equal(open_log(b, &err), 0);
}

static void bench_done(Bench *b) {
        close_log(b);
        memory_disk_done(&b->memory);
        loop_done(&b->loop.base);
}

/* An entry of 37 bytes, durable. */
static void append(Bench *b, uint64_t index) {
        static const char data[37];
        RaftEntry entry = {
                .term = 1, .type = RAFT_ENTRY_COMMAND, .data = (void *) data, .size = sizeof(data)
        };

        assert_int_equal(raft_log_append(b->log, index, index, &entry, 1), 0);
        turn_all(b);
}

/* Completes a record with its sum. */
static void seal_record(uint8_t *record, size_t size, uint64_t number) {
        uint8_t seed[8];
        uint32_t crc;

        for (unsigned i = 0; i < 8; i++)
                seed[i] = (uint8_t) (number >> 8 * i);
        crc = crc32c(crc32c(0, seed, sizeof(seed)), record + 4, size - 4);

        for (unsigned i = 0; i < 4; i++)
                record[i] = (uint8_t) (crc >> 8 * i);
}

static uint64_t file_number = 1; /* of the file that records are for */

static void expect_record(Writer *w, uint8_t type, uint8_t flags, uint32_t write, uint64_t index,
                          uint64_t term, const void *data, size_t size) {
        static const uint8_t zeroes[8];
        size_t at = w->size;

        write_u32(w, 0);
        write_u32(w, (uint32_t) size);
        write_u64(w, index);
        write_u64(w, term);
        write_u8(w, type);
        write_u8(w, flags);
        write_u16(w, 0);
        write_u32(w, write);
        write_raw(w, data, size);
        write_raw(w, zeroes, (8 - size % 8) % 8);
        assert_int_equal(w->error, 0);
        seal_record(w->bytes + at, w->size - at, file_number);
}

static void the_files_are_laid_out_as_other_versions_know_them(void **state) {
        static const RaftEntryType types[] = { RAFT_ENTRY_COMMAND, RAFT_ENTRY_BARRIER, RAFT_ENTRY_CHANGE };
        _cleanup_writer_ Writer w = {};
        RaftEntry entries[3];
        uint8_t *bytes, head[16] = { 1 }; /* the file's number, and 8 bytes of zeroes */
        size_t size;
        _cleanup_(bench_done) Bench b;

        create_and_open(&b);
        for (size_t i = 0; i < 3; i++)
                entries[i] =
                        (RaftEntry) { .term = 7, .type = types[i], .data = "hello", .size = i == 1 ? 0 : 5 };
        assert_int_equal(raft_log_append(b.log, 1, 1, entries, 3), 0);
        turn_all(&b);
        entries[0].term = 8;
        assert_int_equal(raft_log_append(b.log, 2, 3, entries, 1), 0);
        turn_all(&b);
        assert_int_equal(raft_log_reset(b.log, 9), 0);
        turn_all(&b);

        write_raw(&w, "FLEETLOG", 8);
        write_u32(&w, 1);
        write_u32(&w, crc32c(0, head, sizeof(head)));
        write_raw(&w, head, sizeof(head));
        expect_record(&w, 1, 0, 1, 1, 7, "hello", 5);
        expect_record(&w, 2, 0, 1, 2, 7, NULL, 0);
        expect_record(&w, 3, 1, 1, 3, 7, "hello", 5);
        expect_record(&w, 4, 0, 2, 3, 0, NULL, 0);
        expect_record(&w, 1, 1, 2, 3, 8, "hello", 5);
        expect_record(&w, 5, 1, 3, 9, 0, NULL, 0);
        bytes = memory_disk_file(&b.memory, "log.00000001", &size);
        assert_true(size >= w.size);
        assert_memory_equal(bytes, w.bytes, w.size);
}

/* Term and vote, and whose log it is; 'number': of the write. */
static void assert_meta(Bench *b, const char *name, uint64_t number, uint64_t starts, uint64_t term,
                        uint64_t vote, const char *hardware) {
        _cleanup_writer_ Writer w = {};
        uint8_t *bytes;
        uint32_t crc;
        size_t size;

        write_raw(&w, "FLEETMET", 8);
        write_u32(&w, 0);
        write_u32(&w, 1);
        write_u32(&w, 0);
        write_u64(&w, number);
        write_u64(&w, meta.cluster);
        write_u64(&w, 5);
        write_raw(&w, "machine-of-test", 16);
        write_u64(&w, starts);
        write_u64(&w, term);
        write_u64(&w, vote);
        write_raw(&w, hardware, 16);
        while (w.size < 128)
                write_u8(&w, 0);
        assert_int_equal(w.error, 0);
        crc = crc32c(0, w.bytes + 12, 116);
        for (unsigned i = 0; i < 4; i++)
                w.bytes[8 + i] = (uint8_t) (crc >> 8 * i);
        bytes = memory_disk_file(&b->memory, name, &size);
        assert_non_null(bytes);
        assert_int_equal(size, 128);
        assert_memory_equal(bytes, w.bytes, 128);
}

static const char no_hardware[16];

static void term_and_vote_are_written_to_two_files_in_turn(void **state) {
        static const uint8_t hardware[16] = "hardware-of-test";
        uint8_t *other;
        Error err = {};
        size_t size;
        _cleanup_(bench_done) Bench b = {};

        manual_loop_init(&b.loop, 1);
        memory_disk_init(&b.memory, 1);
        b.disk = &b.memory.base;
        assert_int_equal(raft_log_create(b.disk, &meta, 1, NULL, 0, &small, &err), 0);
        assert_null(memory_disk_file(&b.memory, "meta.a", &size));
        assert_meta(&b, "meta.b", 1, 0, 1, 0, no_hardware);
        assert_int_equal(open_log(&b, &err), 0);
        assert_string_equal(err.message, "");
        assert_meta(&b, "meta.b", 1, 0, 1, 0, no_hardware);
        assert_meta(&b, "meta.a", 2, 1, 1, 0, no_hardware);
        assert_int_equal(raft_log_write_meta(b.log, 7, 3), 0);
        assert_meta(&b, "meta.b", 3, 1, 7, 3, no_hardware);
        assert_int_equal(raft_log_write_hardware(b.log, hardware), 0);
        assert_meta(&b, "meta.a", 4, 1, 7, 3, (const char *) hardware);
        assert_meta(&b, "meta.b", 3, 1, 7, 3, no_hardware);
        close_log(&b);
        assert_int_equal(open_log(&b, &err), 0);
        assert_meta(&b, "meta.b", 5, 2, 7, 3, (const char *) hardware);
        assert_memory_equal(raft_log_meta(b.log)->hardware, hardware, 16);
        assert_int_equal(raft_log_meta(b.log)->start_number, 2);
        close_log(&b);

        /* One of them is damaged, whichever: what it said is not known. */
        for (unsigned i = 0; i < 2; i++) {
                other = memory_disk_file(&b.memory, i ? "meta.a" : "meta.b", &size);
                other[40] ^= 1;
                err = (Error) {};
                assert_int_equal(open_log(&b, &err), -EUCLEAN);
                assert_string_equal(err.message,
                                    i ? "meta.a is corrupt at offset 0" : "meta.b is corrupt at offset 0");
                err = (Error) {};
                assert_int_equal(raft_log_create(b.disk, &meta, 1, NULL, 0, &small, &err), -EUCLEAN);
                other[40] ^= 1;
        }
        assert_int_equal(open_log(&b, &err), 0);
}

/* As a crash leaves it between making and writing. */
static void a_file_for_term_and_vote_that_was_never_written_is_none(void **state) {
        static const uint8_t zeroes[128];

        for (size_t size = 0; size <= 128; size += 64) {
                Error err = {};
                _cleanup_(bench_done) Bench b = {};

                manual_loop_init(&b.loop, 1);
                memory_disk_init(&b.memory, 1);
                b.disk = &b.memory.base;
                assert_int_equal(memory_disk_put(&b.memory, "meta.b", zeroes, size), 0);
                assert_int_equal(open_log(&b, &err), -ENOENT);
                assert_string_equal(err.message, "there is no log");
                assert_int_equal(raft_log_create(b.disk, &meta, 1, NULL, 0, &small, &err), 0);
                assert_meta(&b, "meta.b", 1, 0, 1, 0, no_hardware);

                b.memory.fail = -EIO;
                assert_int_equal(open_log(&b, &err), -EIO);
                assert_string_equal(err.message, "Failed to open meta.a: Input/output error");
                b.memory.fail = 0;
                assert_int_equal(memory_disk_put(&b.memory, "meta.a", zeroes, size), 0);
                b.memory.fail = -EIO;
                assert_int_equal(open_log(&b, &err), -EIO);
                assert_string_equal(err.message, "Failed to write meta.a: Input/output error");
                b.memory.fail = 0;
                assert_int_equal(open_log(&b, &err), 0);
        }
}

static void a_file_of_the_log_has_4_mib_and_4_kib_at_least(void **state) {
        static const struct {
                uint64_t wanted, size;
                size_t entry;
        } cases[] = { { 0, 4 * 1024 * 1024 },
                      { 1, 4096 },
                      { 4095, 4096 },
                      { 4096, 4096 },
                      { 8192, 8192 },
                      /* An entry that fits, to the byte; larger ones, which get a file of whole blocks. */
                      { 5000, 5000, 5000 - 64 },
                      { 5000, 8192, 5008 - 64 },
                      { 4096, 8192, 6200 - 64 },
                      { 4096, 8192, 8192 - 64 },
                      { 4096, 12288, 8200 - 64 } };
        static char data[9000];

        for (size_t i = 0; i <= ELEMENTS(cases); i++) {
                RaftEntry entry = { .term = 1,
                                    .type = RAFT_ENTRY_COMMAND,
                                    .data = data,
                                    .size = i < ELEMENTS(cases) ? cases[i].entry : 0 };
                RaftLogOptions options = { .file_size = i < ELEMENTS(cases) ? cases[i].wanted : 0 };
                Error err = {};
                size_t size;
                _cleanup_(bench_done) Bench b = {};

                manual_loop_init(&b.loop, 1);
                memory_disk_init(&b.memory, 1);
                b.disk = &b.memory.base;
                assert_int_equal(raft_log_create(b.disk, &meta, 1, &entry, 1,
                                                 i < ELEMENTS(cases) ? &options : NULL, &err),
                                 0);
                assert_non_null(memory_disk_file(&b.memory, "log.00000001", &size));
                assert_int_equal(size, cases[i % ELEMENTS(cases)].size);
                assert_int_equal(raft_log_open(b.disk, &b.loop.base, &options, &events, &b, &b.log, &err), 0);
        }
}

enum { COMMAND = 1, TRUNCATE = 4, RESET = 5 }; /* types of records */

typedef struct Made {
        uint8_t type;
        uint64_t index;
        unsigned size;
        uint32_t write; /* 0: as many as records before, and one */
} Made;

/* A file that has these records (type 0 ends them), each of its own write, behind 'gap' other bytes. 'write':
 * records before. */
static void make_log_file(Bench *b, uint64_t number, const Made *records, uint32_t write, size_t gap,
                          size_t more) {
        static uint8_t zeroes[300 * 1024];
        _cleanup_writer_ Writer w = {};
        uint8_t head[16] = {};
        char name[32];

        file_number = number;
        for (unsigned i = 0; i < 8; i++)
                head[i] = (uint8_t) (number >> 8 * i);
        write_raw(&w, "FLEETLOG", 8);
        write_u32(&w, 1);
        write_u32(&w, crc32c(0, head, sizeof(head)));
        write_raw(&w, head, sizeof(head));
        for (; gap > 0; gap--)
                write_u8(&w, 1);
        for (; records->type != 0; records++)
                expect_record(&w, records->type, 1, records->write ?: ++write, records->index,
                              records->type <= 3 ? 1 : 0, zeroes, records->size);
        write_raw(&w, zeroes, more);
        assert_int_equal(w.error, 0);
        snprintf(name, sizeof(name), "log.%08u", (unsigned) number);
        assert_int_equal(memory_disk_put(&b->memory, name, w.bytes, w.size), 0);
        file_number = 1;
}

static void begin_without_files(Bench *b) {
        Error err = {};

        *b = (Bench) {};
        manual_loop_init(&b->loop, 1);
        memory_disk_init(&b->memory, 1);
        b->disk = &b->memory.base;
        assert_int_equal(raft_log_create(b->disk, &meta, 1, NULL, 0, &small, &err), 0);
}

static void what_records_may_follow_each_other(void **state) {
        enum { MAX = RAFT_ENTRY_SIZE_MAX };
        static const struct {
                Made records[4];
                uint64_t number; /* of the file */
                size_t gap;
                bool corrupt, torn;
                uint64_t first, last;
        } cases[] = {
                { .records = { { 0 } }, .first = 1, .last = 0 },
                { .records = { { COMMAND, 0, 5 } }, .corrupt = true },
                { .records = { { TRUNCATE, 0 } }, .corrupt = true },
                { .records = { { RESET, 0 }, { COMMAND, 1, 5 } }, .first = 1, .last = 1 },
                { .records = { { RESET, 9 }, { COMMAND, 10, 5 } }, .first = 10, .last = 10 },
                { .records = { { RESET, 9 }, { COMMAND, 12, 5 } }, .corrupt = true },
                { .records = { { COMMAND, 1, 5 }, { TRUNCATE, 2 } }, .first = 1, .last = 1 },
                { .records = { { COMMAND, 1, 5 }, { TRUNCATE, 3 } }, .corrupt = true },
                { .records = { { COMMAND, 1, 5 }, { COMMAND, 2, 5 } }, .first = 1, .last = 2 },
                { .records = { { COMMAND, 1, 5 }, { COMMAND, 3, 5 } }, .corrupt = true },
                { .records = { { COMMAND, 1, 5 }, { COMMAND, 1, 5 } }, .corrupt = true },
                { .records = { { COMMAND, 1, 5 }, { COMMAND, 2, 5, 3 } }, .corrupt = true },
                { .records = { { COMMAND, 1, 5, 2 } }, .corrupt = true },
                { .records = { { COMMAND, 1, MAX } }, .first = 1, .last = 1 },
                { .records = { { COMMAND, 1, MAX + 1 } }, .first = 1, .last = 0, .torn = true },
                { .records = { { COMMAND, 7, 5, 9 } }, .number = 65537, .first = 7, .last = 7 },
                { .records = { { 0 } }, .number = 5, .gap = 64, .first = 1, .last = 0, .torn = true },
                { .records = { { COMMAND, 7, 5, 9 } }, .number = 5, .gap = 64, .corrupt = true },
                { .records = { { COMMAND, 7, 5, 0x80000001 } }, .number = 5, .gap = 64, .corrupt = true },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                for (unsigned more = 0; more < 2; more++) {
                        Error err = {};
                        const char *where;
                        _cleanup_(bench_done) Bench b;
                        int r;

                        begin_without_files(&b);
                        make_log_file(&b, cases[i].number ?: 1, cases[i].records, 0, cases[i].gap,
                                      more * 512);
                        r = open_log(&b, &err);
                        if (r != (cases[i].corrupt ? -EUCLEAN : 0))
                                fail_msg("case %zu: %d %s", i, r, err.message);
                        if (r == 0) {
                                assert_int_equal(raft_log_first_index(b.log), cases[i].first);
                                assert_int_equal(raft_log_last_index(b.log), cases[i].last);
                                assert_int_equal(raft_log_torn(b.log, &where), cases[i].torn);
                        }
                }
}

/* As a full disk or a crash leaves it: made, and nothing in it; or hardly anything. */
static void a_file_that_was_only_made_is_empty(void **state) {
        static const uint8_t zeroes[4096], one[4096] = { 1 };

        for (unsigned i = 0; i < 5; i++) {
                Error err = {};
                const char *where;
                _cleanup_(bench_done) Bench b;

                begin_without_files(&b);
                assert_int_equal(memory_disk_put(&b.memory, "log.00000001", i < 3 ? zeroes : one,
                                                 i == 0 ? 0 :
                                                 i % 2  ? 1 :
                                                          4096),
                                 0);
                assert_int_equal(open_log(&b, &err), 0);
                assert_int_equal(raft_log_last_index(b.log), 0);
                assert_int_equal(raft_log_torn(b.log, &where), i >= 3);
                assert_string_equal(where, i >= 3 ? "log.00000001 at offset 0" : "");
        }
}

static void the_next_file_is_made_with_half_of_the_last_one(void **state) {
        static const char data[2048];

        for (size_t size = 1984 - 8; size <= 1984; size += 8) {
                RaftEntry entry = {
                        .term = 1, .type = RAFT_ENTRY_COMMAND, .data = (void *) data, .size = size
                };
                size_t n;
                _cleanup_(bench_done) Bench b;

                create_and_open(&b);
                assert_int_equal(raft_log_append(b.log, 1, 1, &entry, 1), 0);
                turn_all(&b);
                if (size < 1984)
                        assert_null(memory_disk_file(&b.memory, "log.next", &n));
                else
                        assert_non_null(memory_disk_file(&b.memory, "log.next", &n));
        }
}

static void files_of_other_names_are_none_of_the_log(void **state) {
        static const char *const names[] = { "abc.00000001", "log.x0000001", "log.0000/002",
                                             "log.0000:002", "log.0000001",  "log.0000000x",
                                             "log.",         "log.00000000", "log-00000002" };
        Error err = {};
        size_t size;
        _cleanup_(bench_done) Bench b;

        begin_without_files(&b);
        make_log_file(&b, 1, (Made[]) { { COMMAND, 1, 5 }, { 0 } }, 0, 0, 0);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                assert_int_equal(memory_disk_put(&b.memory, names[i], "nonsense", 8), 0);
        assert_int_equal(open_log(&b, &err), 0);
        assert_int_equal(raft_log_last_index(b.log), 1);
        for (size_t i = 0; i < ELEMENTS(names); i++)
                assert_non_null(memory_disk_file(&b.memory, names[i], &size));
}

/* The second file is of one record; the first of three entries, which go. */
static void a_file_says_where_the_log_begins_once_those_before_are_gone(void **state) {
        static const struct {
                Made record;
                uint64_t first, last, first_then;
        } cases[] = {
                { { COMMAND, 4, 5 }, 1, 4, 4 },
                { { TRUNCATE, 3 }, 1, 2, 3 },
                { { RESET, 9 }, 10, 9, 10 },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                for (unsigned applied = 0; applied < 2; applied++) {
                        RaftLogOptions options = { .file_size = 4096, .applied = applied ? 100 : 0 };
                        Error err = {};
                        size_t size;
                        _cleanup_(bench_done) Bench b;

                        begin_without_files(&b);
                        make_log_file(
                                &b, 1,
                                (Made[]) { { COMMAND, 1, 5 }, { COMMAND, 2, 5 }, { COMMAND, 3, 5 }, { 0 } },
                                0, 0, 0);
                        make_log_file(&b, 2, (Made[]) { cases[i].record, { 0 } }, 3, 0, 512);
                        assert_int_equal(
                                raft_log_open(b.disk, &b.loop.base, &options, &events, &b, &b.log, &err), 0);
                        assert_int_equal(raft_log_first_index(b.log), cases[i].first);
                        assert_int_equal(raft_log_last_index(b.log), cases[i].last);
                        assert_int_equal(raft_log_cut(b.log, 2), 0);
                        turn_all(&b);
                        assert_non_null(memory_disk_file(&b.memory, "log.00000001", &size));
                        assert_int_equal(raft_log_first_index(b.log), cases[i].first);
                        assert_int_equal(raft_log_cut(b.log, 3), 0);
                        turn_all(&b);
                        assert_null(memory_disk_file(&b.memory, "log.00000001", &size));
                        assert_int_equal(raft_log_first_index(b.log), cases[i].first_then);
                        assert_non_null(memory_disk_file(&b.memory, "log.00000002", &size));
                        assert_int_equal(size, 32 + 32 + (cases[i].record.size + 7) / 8 * 8 + 512);
                        assert_null(memory_disk_file(&b.memory, "log.00000003", &size));
                }
}

/* Whole by its sum: what another version may have written. */
static void a_record_that_cannot_be_is_not_taken(void **state) {
        static const struct {
                size_t at;
                uint32_t value; /* of a byte; of four where the number of the write is */
        } cases[] = { { 24, 0 }, { 24, 6 }, { 25, 2 }, { 26, 1 }, { 28, 0 } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const char *where;
                uint8_t *record;
                Error err = {};
                size_t size;
                _cleanup_(bench_done) Bench b;

                create_and_open(&b);
                append(&b, 1);
                record = memory_disk_file(&b.memory, "log.00000001", &size) + 32;
                record[cases[i].at] = (uint8_t) cases[i].value;
                seal_record(record, 32 + 40, 1);
                close_log(&b);
                assert_int_equal(open_log(&b, &err), 0);
                assert_int_equal(raft_log_last_index(b.log), 0);
                assert_true(raft_log_torn(b.log, &where));
        }
}

static void a_file_with_another_head_is_refused(void **state) {
        static const struct {
                size_t at;
                uint8_t value;
        } cases[] = { { 0, 'f' }, { 8, 2 }, { 12, 0 }, { 16, 2 } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                Error err = {};
                uint8_t *bytes;
                uint32_t crc;
                size_t size;
                _cleanup_(bench_done) Bench b;

                create_and_open(&b);
                append(&b, 1);
                append(&b, 2);
                close_log(&b);
                bytes = memory_disk_file(&b.memory, "log.00000001", &size);
                assert_int_not_equal(bytes[cases[i].at], cases[i].value);
                bytes[cases[i].at] = cases[i].value;
                crc = crc32c(0, bytes + 16, 16);
                for (unsigned k = 0; k < 4 && cases[i].at >= 16; k++)
                        bytes[12 + k] = (uint8_t) (crc >> 8 * k);
                assert_int_equal(open_log(&b, &err), -EUCLEAN);
                assert_non_null(strstr(err.message, "log.00000001 is corrupt at offset 0"));
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_files_are_laid_out_as_other_versions_know_them),
                cmocka_unit_test(term_and_vote_are_written_to_two_files_in_turn),
                cmocka_unit_test(a_file_for_term_and_vote_that_was_never_written_is_none),
                cmocka_unit_test(a_file_of_the_log_has_4_mib_and_4_kib_at_least),
                cmocka_unit_test(what_records_may_follow_each_other),
                cmocka_unit_test(a_file_that_was_only_made_is_empty),
                cmocka_unit_test(the_next_file_is_made_with_half_of_the_last_one),
                cmocka_unit_test(files_of_other_names_are_none_of_the_log),
                cmocka_unit_test(a_file_says_where_the_log_begins_once_those_before_are_gone),
                cmocka_unit_test(a_record_that_cannot_be_is_not_taken),
                cmocka_unit_test(a_file_with_another_head_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
