#include "tests/lib/test.h"
#include "kvstore/raft/entries.h"
#include "kvstore/raft/log.h"
#include "kvstore/raft/log_files.h"
#include "tests/lib/alloc.h"
#include "tests/lib/manual_loop.h"
#include "tests/lib/memory_disk.h"
#include "tests/lib/scratch.h"

/* -- A log on some disk -- */

typedef struct Bench {
        ManualLoop loop;
        MemoryDisk memory;
        Disk *disk;
        RaftLog *log;
        uint64_t appended_generation, appended_index;
        unsigned n_appended, n_failed, n_closed;
        int error;
        RaftEntries expected;           /* what was acknowledged */
        uint64_t applied, loaded_bytes; /* of the next opening */
} Bench;

static const RaftLogMeta meta = {
        .cluster = 0x1122334455667788, .id = 5, .machine = "machine-of-test", .term = 1
};
static const RaftLogOptions small = { .file_size = 4096 };

static void on_appended(void *userdata, uint64_t generation, uint64_t last_index) {
        Bench *b = userdata;

        b->appended_generation = generation;
        b->appended_index = last_index;
        b->n_appended++;
}

static void on_failed(void *userdata, int error, const char *message) {
        Bench *b = userdata;

        b->error = error;
        b->n_failed++;
        assert_non_null(strstr(message, "Failed to write the log"));
}

/* Return the bytes of all files of the log. */
static uint64_t log_size(Bench *b) {
        uint64_t sum = 0;
        size_t size;
        char name[32];

        for (unsigned number = 1; number < 1000; number++) {
                snprintf(name, sizeof(name), "log.%08u", number);
                sum += memory_disk_file(&b->memory, name, &size) ? size : 0;
        }
        return sum;
}

static void on_closed(void *userdata) {
        ((Bench *) userdata)->n_closed++;
}

static const RaftLogEvents events = { .appended = on_appended, .failed = on_failed };

static void bench_init(Bench *b, uint64_t seed) {
        *b = (Bench) { .expected.first = 1 };
        manual_loop_init(&b->loop, seed);
        memory_disk_init(&b->memory, seed);
        b->disk = &b->memory.base;
}

static void bench_done(Bench *b) {
        b->log = raft_log_close(b->log, NULL, NULL);
        while (manual_loop_work(&b->loop))
                ;
        raft_entries_reset(&b->expected, 1);
        memory_disk_done(&b->memory);
        loop_done(&b->loop.base);
}

static int open_log(Bench *b, Error *err) {
        RaftLogOptions options = { .file_size = small.file_size,
                                   .applied = b->applied,
                                   .loaded_bytes = b->loaded_bytes };

        return raft_log_open(b->disk, &b->loop.base, &options, &events, b, &b->log, err);
}

static void create_and_open(Bench *b) {
        Error err = {};

        assert_int_equal(raft_log_create(b->disk, &meta, 1, NULL, 0, &small, &err), 0);
        assert_int_equal(open_log(b, &err), 0);
}

static void reopen(Bench *b) {
        Error err = {};

        b->log = raft_log_close(b->log, NULL, NULL);
        while (manual_loop_work(&b->loop))
                ;
        if (open_log(b, &err) < 0)
                fail_msg("%s", err.message);
}

/* One entry whose data follows from its index and term. */
static RaftEntry entry_of(uint64_t index, uint64_t term, char *data, size_t size) {
        memset(data, (int) ('a' + (index * 7 + term) % 26), size);
        return (RaftEntry) { .term = term, .type = RAFT_ENTRY_COMMAND, .data = data, .size = size };
}

static int append(Bench *b, uint64_t generation, uint64_t first, size_t n, uint64_t term) {
        char data[16][300];
        RaftEntry entries[16];

        assert_true(n <= ELEMENTS(entries));
        for (size_t i = 0; i < n; i++)
                entries[i] = entry_of(first + i, term, data[i], (first + i) * 37 % 300);
        return raft_log_append(b->log, generation, first, entries, n);
}

static void turn_all(Bench *b) {
        while (manual_loop_work(&b->loop))
                ;
}

static void assert_holds(Bench *b, uint64_t first, uint64_t last, const uint64_t *terms) {
        RaftEntry *entries;
        uint64_t begin;
        char data[300];
        size_t n;

        assert_int_equal(raft_log_take_entries(b->log, &entries, &n, &begin), 0);
        assert_int_equal(begin, first);
        assert_int_equal(begin + n - 1, last);
        for (size_t i = 0; i < n; i++) {
                RaftEntry e = entry_of(first + i, terms ? terms[i] : 1, data, (first + i) * 37 % 300);

                assert_int_equal(entries[i].term, e.term);
                assert_int_equal(entries[i].type, e.type);
                assert_int_equal(entries[i].size, e.size);
                if (e.size > 0)
                        assert_memory_equal(entries[i].data, e.data, e.size);
        }
        raft_log_entries_free(entries, n);
}

/* -- Tests -- */

static void a_folder_without_a_log_says_so_and_a_second_log_is_refused(void **state) {
        Error err = {};
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        assert_int_equal(open_log(&b, &err), -ENOENT);
        create_and_open(&b);
        assert_int_equal(raft_log_create(b.disk, &meta, 1, NULL, 0, &small, &err), -EEXIST);
}

static void whose_log_it_is_and_term_and_vote_survive(void **state) {
        const char *where;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(raft_log_meta(b.log)->start_number, 1);
        for (uint64_t term = 2; term < 7; term++) {
                assert_int_equal(raft_log_write_meta(b.log, term, term + 100), 0);
                reopen(&b);
                assert_int_equal(raft_log_meta(b.log)->term, term);
                assert_int_equal(raft_log_meta(b.log)->vote, term + 100);
        }
        assert_int_equal(raft_log_meta(b.log)->cluster, meta.cluster);
        assert_int_equal(raft_log_meta(b.log)->id, meta.id);
        assert_memory_equal(raft_log_meta(b.log)->machine, meta.machine, sizeof(meta.machine));
        assert_int_equal(raft_log_meta(b.log)->start_number, 6);
        assert_false(raft_log_torn(b.log, &where));
}

static void an_opening_that_is_cancelled_ends_and_loses_nothing(void **state) {
        _Atomic bool cancelled = true;
        RaftLogOptions options = { .file_size = small.file_size, .cancelled = &cancelled };
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 16, 1), 0);
        turn_all(&b);
        b.log = raft_log_close(b.log, NULL, NULL);
        assert_int_equal(raft_log_open(b.disk, &b.loop.base, &options, &events, &b, &b.log, NULL),
                         -ECANCELED);
        assert_null(b.log);
        cancelled = false;
        assert_int_equal(raft_log_open(b.disk, &b.loop.base, &options, &events, &b, &b.log, NULL), 0);
        assert_holds(&b, 1, 16, NULL);
}

static void entries_are_read_back_over_several_files(void **state) {
        uint64_t bytes;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 1; i <= 160; i += 8) {
                assert_int_equal(append(&b, i, i, 8, 1), 0);
                turn_all(&b);
                assert_int_equal(b.appended_generation, i);
                assert_int_equal(b.appended_index, i + 7);
        }
        bytes = log_size(&b);
        assert_true(bytes > 4 * 4096);
        reopen(&b);
        assert_int_equal(log_size(&b), bytes);
        assert_int_equal(raft_log_last_index(b.log), 160);
        assert_holds(&b, 1, 160, NULL);
}

static void what_is_queued_during_a_write_goes_with_the_next_and_the_last_is_reported(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 1; i <= 5; i++)
                assert_int_equal(append(&b, i, i, 1, 1), 0);
        assert_int_equal(b.loop.n, 1);
        assert_int_equal(raft_log_oldest_write_ms(b.log), 1000);
        assert_true(manual_loop_work(&b.loop));
        assert_int_equal(b.appended_generation, 1);
        assert_int_equal(b.loop.n, 1);
        assert_true(manual_loop_work(&b.loop));
        assert_int_equal(b.appended_generation, 5);
        assert_int_equal(b.appended_index, 5);
        assert_int_equal(b.n_appended, 2);
        assert_int_equal(raft_log_oldest_write_ms(b.log), 0);
}

static bool is_on_disk(Bench *b, const char *name) {
        DiskFile *file;

        if (b->disk->ops->open(b->disk, name, false, 0, &file) < 0)
                return false;
        file->ops->close(file);
        return true;
}

static uint64_t append_until_half_full(Bench *b, uint64_t next) {
        while (b->loop.n == 0) {
                assert_int_equal(append(b, next, next, 1, 1), 0);
                next++;
                assert_true(manual_loop_work(&b->loop));
        }
        return next;
}

static void a_new_log_begins_at_the_given_index(void **state) {
        static const uint64_t firsts[] = { 1, 2, 500 };

        for (size_t i = 0; i < ELEMENTS(firsts); i++) {
                Error err = {};
                _cleanup_(bench_done) Bench b;

                bench_init(&b, 1);
                assert_int_equal(raft_log_create(b.disk, &meta, firsts[i], NULL, 0, &small, &err), 0);
                assert_int_equal(is_on_disk(&b, "log.00000001"),
                                 firsts[i] > 1); /* an empty log that begins with 1 has none */
                assert_int_equal(open_log(&b, &err), 0);
                assert_int_equal(raft_log_first_index(b.log), firsts[i]);
                assert_int_equal(raft_log_last_index(b.log), firsts[i] - 1);
        }
}

static void the_next_file_is_made_beside_the_writes(void **state) {
        uint64_t next;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        next = append_until_half_full(&b, 1); /* it is being made */
        assert_int_equal(b.loop.n, 1);
        assert_int_equal(append(&b, next, next, 1, 1), 0);
        assert_int_equal(b.loop.n, 2);
        assert_true(manual_loop_work(&b.loop));
        assert_true(is_on_disk(&b, "log.next"));
        assert_true(manual_loop_work(&b.loop));
        assert_int_equal(b.appended_index, next++);

        while (!is_on_disk(&b, "log.00000002")) {
                b.memory.calls = 0;
                assert_int_equal(append(&b, next, next, 1, 1), 0);
                assert_true(manual_loop_work(&b.loop));
                assert_int_equal(b.appended_index, next++);
        }
        assert_int_equal(b.memory.calls, 2); /* its new name, and the write */
        assert_false(is_on_disk(&b, "log.next"));

        next = append_until_half_full(&b, next);
        turn_all(&b);
        assert_true(is_on_disk(&b, "log.next"));
        reopen(&b);
        assert_false(is_on_disk(&b, "log.next")); /* what was left is not trusted */
        assert_holds(&b, 1, next - 1, NULL);
}

/* In any order of the two works: a file that is ready is taken before the next one is made. */
static void one_next_file_is_made_at_a_time(void **state) {
        for (uint64_t seed = 1; seed <= 200; seed++) {
                uint64_t next = 1;
                Random random;
                _cleanup_(bench_done) Bench b;

                random_seed(&random, seed);
                bench_init(&b, seed);
                create_and_open(&b);
                for (unsigned i = 0; i < 200; i++) {
                        uint64_t n = 1 + random_below(&random, 16);

                        if (random_below(&random, 3) > 0) {
                                assert_int_equal(append(&b, next, next, n, 1), 0);
                                next += n;
                        }
                        if (b.loop.n > 1 && random_below(&random, 2)) { /* two threads */
                                Work *first = b.loop.queued[0];

                                b.loop.queued[0] = b.loop.queued[1];
                                b.loop.queued[1] = first;
                        }
                        if (random_below(&random, 3) > 0)
                                (void) manual_loop_work(&b.loop);
                }
                turn_all(&b);
                assert_int_equal(b.n_failed, 0);
                reopen(&b);
                assert_holds(&b, 1, next - 1, NULL);
        }
}

static void a_next_file_that_cannot_be_made_ahead_stops_nothing(void **state) {
        uint64_t next;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        next = append_until_half_full(&b, 1);
        b.memory.fail = -ENOSPC;
        assert_true(manual_loop_work(&b.loop));
        b.memory.fail = 0;
        assert_false(is_on_disk(&b, "log.next"));
        assert_int_equal(append(&b, next, next, 1, 1), 0);
        assert_true(manual_loop_work(&b.loop));
        next++;
        assert_int_equal(b.loop.n, 0);                    /* no second attempt for this file */
        for (; !is_on_disk(&b, "log.00000003"); next++) { /* there is one attempt for each file */
                assert_int_equal(append(&b, next, next, 1, 1), 0);
                turn_all(&b);
        }
        assert_int_equal(b.n_failed, 0);
        reopen(&b);
        assert_holds(&b, 1, next - 1, NULL);
}

static void closing_while_the_next_file_is_made_waits_for_it(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        (void) append_until_half_full(&b, 1);
        b.log = raft_log_close(b.log, on_closed, &b);
        assert_int_equal(b.n_closed, 0);
        turn_all(&b);
        assert_int_equal(b.n_closed, 1);
}

static void a_conflicting_tail_is_replaced(void **state) {
        const uint64_t terms[] = { 1, 1, 1, 2, 2, 3 };
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 10, 1), 0);
        assert_int_equal(append(&b, 2, 4, 3, 2), 0);
        assert_int_equal(append(&b, 3, 6, 1, 3), 0);
        turn_all(&b);
        reopen(&b);
        assert_holds(&b, 1, 6, terms);
}

static void a_reset_log_begins_behind_the_state_and_drops_its_files(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 1; i <= 160; i += 8)
                assert_int_equal(append(&b, i, i, 8, 1), 0);
        turn_all(&b);
        assert_int_equal(raft_log_reset(b.log, 500), 0);
        turn_all(&b);
        assert_int_equal(raft_log_first_index(b.log), 501);
        assert_int_equal(raft_log_last_index(b.log), 500);
        assert_true(log_size(&b) <= 2 * 4096);
        reopen(&b);
        assert_holds(&b, 501, 500, NULL);
        assert_int_equal(append(&b, 1, 501, 3, 1), 0);
        turn_all(&b);
        reopen(&b);
        assert_holds(&b, 501, 503, NULL);
}

static void a_log_that_cannot_be_reset_has_failed(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 8, 1), 0);
        turn_all(&b);
        b.memory.fail = -ENOSPC;
        b.memory.fails_once = true;
        assert_int_equal(raft_log_reset(b.log, 500), 0);
        turn_all(&b);
        assert_int_equal(b.n_failed, 1);
        assert_int_equal(b.error, -ENOSPC);
        assert_int_equal(append(&b, 2, 501, 1, 1), -ENOSPC);
}

/* The record of it is on the disk before the first file goes: it has happened, or not begun. */
static void a_reset_that_a_crash_ends_has_happened_or_not_begun(void **state) {
        unsigned outcomes[2] = {};

        for (unsigned i_run = 0; i_run < 200; i_run++) {
                uint64_t first;
                Error err = {};
                _cleanup_(bench_done) Bench b;

                bench_init(&b, i_run);
                create_and_open(&b);
                for (uint64_t i = 1; i <= 160; i += 8)
                        assert_int_equal(append(&b, 1, i, 8, 1), 0);
                turn_all(&b);
                b.memory.calls = 0;
                b.memory.die_at = 1 + i_run % 20;
                assert_int_equal(raft_log_reset(b.log, 500), 0);
                turn_all(&b);
                b.log = raft_log_close(b.log, NULL, NULL);
                memory_disk_start_again(&b.memory);
                if (open_log(&b, &err) < 0)
                        fail_msg("%s", err.message);
                first = raft_log_first_index(b.log);
                if (first != 1 && first != 501)
                        fail_msg("%u: begins at %u, ends at %u", i_run, (unsigned) first,
                                 (unsigned) raft_log_last_index(b.log));
                assert_holds(&b, first, first == 1 ? 160 : 500, NULL);
                outcomes[first == 501]++;
        }
        assert_true(outcomes[0] > 0 && outcomes[1] > 0);
}

static void cutting_removes_only_files_that_are_wholly_behind(void **state) {
        uint64_t before, first;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 1; i <= 160; i += 8)
                assert_int_equal(append(&b, i, i, 8, 1), 0);
        turn_all(&b);
        before = log_size(&b);
        assert_int_equal(raft_log_cut(b.log, 100), 0);
        turn_all(&b);
        first = raft_log_first_index(b.log);
        assert_true(first > 1 && first <= 101);
        assert_true(log_size(&b) < before);
        reopen(&b);
        assert_int_equal(raft_log_first_index(b.log), first);
        assert_holds(&b, first, 160, NULL);
}

static void what_is_applied_is_checked_at_opening_and_not_kept_in_memory(void **state) {
        RaftEntry *entries;
        uint64_t first, bytes = 0;
        size_t n;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 1; i <= 160; i += 8)
                assert_int_equal(append(&b, i, i, 8, 1), 0);
        turn_all(&b);

        b.applied = 150;
        reopen(&b);
        assert_int_equal(raft_log_first_index(b.log), 1); /* of what is on disk */
        assert_int_equal(raft_log_last_index(b.log), 160);
        assert_holds(&b, 150, 160, NULL);

        b.loaded_bytes = 2000;
        reopen(&b);
        assert_int_equal(raft_log_take_entries(b.log, &entries, &n, &first), 0);
        assert_int_equal(first + n - 1, 160);
        for (size_t i = 1; i < n; i++)
                bytes += raft_entry_bytes(&entries[i]);
        assert_true(bytes <= 2000 + 11 * 400 && bytes + raft_entry_bytes(&entries[0]) > 2000);
        raft_log_entries_free(entries, n);

        b.applied = 200; /* the tree is ahead: the end stays */
        reopen(&b);
        assert_int_equal(raft_log_take_entries(b.log, &entries, &n, &first), 0);
        assert_int_equal(first + n - 1, 160);
        assert_true(n > 1 && n < 40);
        raft_log_entries_free(entries, n);
        assert_int_equal(append(&b, 1000, 161, 8, 1), 0);
        turn_all(&b);
        b.applied = 0;
        reopen(&b);
        assert_holds(&b, 1, 168, NULL);
}

/* The cut is by what lies on disk. */
static void a_truncation_before_what_was_kept_at_opening_still_loads(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 1; i <= 64; i += 8)
                assert_int_equal(append(&b, i, i, 8, 1), 0);
        assert_int_equal(append(&b, 100, 40, 8, 1), 0);
        turn_all(&b);
        b.applied = 60;
        reopen(&b);
        assert_int_equal(raft_log_first_index(b.log), 1);
        assert_int_equal(raft_log_last_index(b.log), 47);
        b.applied = 44;
        reopen(&b);
        assert_holds(&b, 44, 47, NULL); /* of the first ones, none were left when the truncation came */
}

static void a_truncation_whose_entries_were_cut_away_still_loads(void **state) {
        RaftEntry *entries;
        uint64_t first;
        size_t n;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 1; i <= 64; i += 8)
                assert_int_equal(append(&b, i, i, 8, 1), 0);
        assert_int_equal(append(&b, 100, 40, 8, 2), 0);
        for (uint64_t i = 48; i < 160; i += 8)
                assert_int_equal(append(&b, 100 + i, i, 8, 2), 0);
        assert_int_equal(raft_log_cut(b.log, 100), 0);
        turn_all(&b);
        reopen(&b);
        assert_int_equal(raft_log_take_entries(b.log, &entries, &n, &first), 0);
        assert_true(first >= 40 && first <= 101);
        assert_int_equal(first + n - 1, 159);
        raft_log_entries_free(entries, n);
}

static void entries_that_replace_those_before_the_beginning_begin_the_log(void **state) {
        const uint64_t terms[] = { 2, 2, 2 };
        uint64_t first;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 1; i <= 160; i += 8)
                assert_int_equal(append(&b, i, i, 8, 1), 0);
        assert_int_equal(raft_log_cut(b.log, 100), 0);
        turn_all(&b);
        first = raft_log_first_index(b.log) - 3;
        assert_true(first > 1);
        assert_int_equal(append(&b, 1000, first, 3, 2), 0);
        assert_int_equal(raft_log_first_index(b.log), first);
        assert_int_equal(raft_log_last_index(b.log), first + 2);
        turn_all(&b);
        b.applied = 150; /* of what is not kept in memory, too */
        reopen(&b);
        assert_int_equal(raft_log_first_index(b.log), first);
        assert_int_equal(raft_log_last_index(b.log), first + 2);
        b.applied = 0;
        reopen(&b);
        assert_int_equal(raft_log_first_index(b.log), first);
        assert_holds(&b, first, first + 2, terms);
}

static void an_entry_of_any_size_up_to_the_limit_is_kept(void **state) {
        _cleanup_free_ char *data = malloc(RAFT_ENTRY_SIZE_MAX);
        RaftEntry entry = { .term = 1,
                            .type = RAFT_ENTRY_COMMAND,
                            .data = data,
                            .size = RAFT_ENTRY_SIZE_MAX },
                  *entries;
        uint64_t first;
        size_t n, size;
        _cleanup_(bench_done) Bench b;

        memset(data, 'x', RAFT_ENTRY_SIZE_MAX);
        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(raft_log_append(b.log, 1, 1, &entry, 1), 0);
        turn_all(&b);
        assert_non_null(memory_disk_file(&b.memory, "log.00000001",
                                         &size)); /* in pages, and no larger than it has to be */
        assert_true(size % 4096 == 0 && size >= 64 + RAFT_ENTRY_SIZE_MAX &&
                    size < 64 + RAFT_ENTRY_SIZE_MAX + 4096);
        reopen(&b);
        assert_int_equal(raft_log_take_entries(b.log, &entries, &n, &first), 0);
        assert_int_equal(n, 1);
        assert_int_equal(entries[0].size, RAFT_ENTRY_SIZE_MAX);
        assert_memory_equal(entries[0].data, data, RAFT_ENTRY_SIZE_MAX);
        raft_log_entries_free(entries, n);
}

static void a_torn_last_write_is_dropped_and_reported(void **state) {
        const char *where;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 3, 1), 0);
        turn_all(&b);
        assert_int_equal(append(&b, 2, 4, 10, 1), 0);
        turn_all(&b);

        /* As if the first sector of the second write had not reached the disk. */
        {
                size_t size;
                uint8_t *bytes = memory_disk_file(&b.memory, "log.00000001", &size);
                size_t at = 32 + 32 + 40 + 32 + 80 + 32 + 112; /* behind entry 3 */

                memset(bytes + at, 0, 100);
        }
        reopen(&b);
        assert_true(raft_log_torn(b.log, &where));
        assert_string_equal(where, "log.00000001 at offset 360");
        assert_holds(&b, 1, 3, NULL);

        /* What was left of it is gone for good. */
        assert_int_equal(append(&b, 3, 4, 1, 1), 0);
        turn_all(&b);
        reopen(&b);
        assert_false(raft_log_torn(b.log, &where));
        assert_holds(&b, 1, 4, NULL);
}

static void fill(Bench *b) {
        bench_init(b, 1);
        create_and_open(b);
        for (uint64_t i = 1; i <= 48; i += 4) {
                assert_int_equal(append(b, i, i, 4, 1), 0);
                turn_all(b);
        }
        b->log = raft_log_close(b->log, NULL, NULL);
}

/* Each byte of each file, flipped: refused with the file's name and an offset, or harmless, or of the last
 * write. */
static void a_flipped_byte_is_never_a_shorter_log_in_silence(void **state) {
        const char *const names[] = { "log.00000001", "log.00000002", "log.00000003", "meta.a", "meta.b" };
        unsigned refused = 0, torn = 0, whole = 0;
        const char *where;
        Error err;
        _cleanup_(bench_done) Bench b;

        fill(&b);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                size_t size;
                uint8_t *bytes = memory_disk_file(&b.memory, names[i], &size);

                assert_non_null(bytes);
                for (size_t at = 0; at < size; at += 3) {
                        _cleanup_free_ uint8_t *copy = malloc(size);
                        int r;

                        memcpy(copy, bytes, size);
                        bytes[at] ^= 0x20;
                        err = (Error) {};
                        r = open_log(&b, &err);
                        if (r < 0) {
                                assert_int_equal(r, -EUCLEAN);
                                assert_non_null(strstr(err.message, names[i]));
                                assert_non_null(strstr(err.message, "offset"));
                                refused++;
                        } else {
                                uint64_t last = raft_log_last_index(b.log);

                                if (raft_log_torn(b.log, &where)) {
                                        assert_true(last >= 44 && starts_with(where, names[i]));
                                        torn++;
                                } else {
                                        assert_int_equal(last, 48);
                                        whole++;
                                }
                                b.log = raft_log_close(b.log, NULL, NULL);
                        }
                        bytes = memory_disk_file(&b.memory, names[i], &size);
                        memcpy(bytes, copy, size);
                }
        }
        assert_true(refused > 1000);
        assert_true(torn > 10);
}

static void a_missing_file_is_refused(void **state) {
        Error err = {};
        _cleanup_(bench_done) Bench b;

        fill(&b);
        assert_int_equal(b.disk->ops->remove(b.disk, "log.00000002"), 0);
        assert_int_equal(open_log(&b, &err), -EUCLEAN);
        assert_non_null(strstr(err.message, "log.00000002"));
}

static uint32_t u32_at(const uint8_t *bytes, size_t at) {
        return (uint32_t) bytes[at] | (uint32_t) bytes[at + 1] << 8 | (uint32_t) bytes[at + 2] << 16 |
               (uint32_t) bytes[at + 3] << 24;
}

/* Where the last write to a file begins: records carry its number at 28, their size at 4. */
static size_t last_write_of(const uint8_t *bytes, size_t size, size_t *ret_end) {
        size_t at = 32, begin = 32;
        uint32_t write = 0;

        while (at + 32 <= size && u32_at(bytes, at + 28) > 0) {
                if (u32_at(bytes, at + 28) != write)
                        begin = at;
                write = u32_at(bytes, at + 28);
                at += 32 + (u32_at(bytes, at + 4) + 7) / 8 * 8;
        }
        *ret_end = at;
        return begin;
}

/* A whole write that is gone, where the indexes alone would not tell: the next file begins with a truncation.
 */
static void a_lost_write_is_refused_even_if_the_indexes_fit(void **state) {
        unsigned tried = 0;

        for (uint64_t seed = 1; seed < 300; seed++) {
                uint64_t next = 1 + seed;
                uint8_t *bytes, *second;
                size_t size, begin, end;
                Error err = {};
                _cleanup_(bench_done) Bench b;

                bench_init(&b, seed);
                assert_int_equal(raft_log_create(b.disk, &meta, next, NULL, 0, &small, &err), 0);
                assert_int_equal(open_log(&b, &err), 0);
                while (log_size(&b) <= 4096) {
                        assert_int_equal(append(&b, next, next, 2, 1), 0);
                        turn_all(&b);
                        next++; /* the second is cut off again */
                }
                b.log = raft_log_close(b.log, NULL, NULL);
                bytes = memory_disk_file(&b.memory, "log.00000001", &size);
                second = memory_disk_file(&b.memory, "log.00000002", &size);
                if (second[32 + 24] == 4) {
                        begin = last_write_of(bytes, size, &end);
                        memset(bytes + begin, 0, end - begin);
                        assert_int_equal(open_log(&b, &err), -EUCLEAN);
                        assert_non_null(strstr(err.message, "log.00000002 is corrupt at offset 32"));
                        tried++;
                }
        }
        assert_true(tried > 3);
}

static void the_next_file_is_begun_when_half_of_the_last_one_is_used(void **state) {
        size_t size, begin, end;
        uint8_t *bytes;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        (void) append_until_half_full(&b, 1);
        bytes = memory_disk_file(&b.memory, "log.00000001", &size);
        begin = last_write_of(bytes, size, &end);
        assert_true(begin < 2048 && end >= 2048);
}

/* -- Numbers of writes that go round -- */

enum { BEFORE_ROUND = 4, N_ROUND = 8, ROUND_SIZE = 32 + 8 }; /* of a record */

static void write_entry(RaftLogFiles *f, uint64_t index, size_t size) {
        static char data[4000];

        assert_int_equal(
                raft_log_files_entry(
                        f, index,
                        &(RaftEntry) { .term = 1, .type = RAFT_ENTRY_COMMAND, .data = data, .size = size }),
                0);
        assert_int_equal(raft_log_files_flush(f), 0);
}

/* A log of entries 2 to N_ROUND + 1, each a write of its own; the first is BEFORE_ROUND before 2^32. */
static void write_round(MemoryDisk *memory) {
        RaftLogFiles f = { .disk = &memory->base, .file_size = 4096, .write = 1 };

        write_entry(&f, 1, 4000);
        f.write = (uint32_t) 0 - BEFORE_ROUND;
        for (unsigned i = 0; i < N_ROUND; i++)
                write_entry(&f, 2 + i, 8);
        assert_int_equal(raft_log_files_cut(&f, 1), 0);
        assert_int_equal(f.n, 1);
        raft_log_files_done(&f);
}

static int load_round(MemoryDisk *memory, uint64_t *ret_last, uint32_t *ret_write,
                      char torn[RAFT_LOG_TORN_SIZE], Error *err) {
        RaftLogFiles f = { .disk = &memory->base, .file_size = 4096 };
        RaftEntries entries = {};
        uint64_t first;
        int r = raft_log_files_load(&f, 0, 0, &entries, &first, torn, err);

        *ret_last = raft_entries_last(&entries);
        *ret_write = f.write;
        raft_log_files_done(&f);
        raft_entries_reset(&entries, 1);
        return r;
}

static void after_2_to_32_writes_the_log_continues_and_loads(void **state) {
        MemoryDisk memory;
        uint64_t last;
        uint32_t write;
        char torn[RAFT_LOG_TORN_SIZE];

        memory_disk_init(&memory, 1);
        write_round(&memory);
        assert_int_equal(load_round(&memory, &last, &write, torn, NULL), 0);
        assert_int_equal(last, N_ROUND + 1);
        assert_string_equal(torn, "");
        assert_int_equal(write, N_ROUND - BEFORE_ROUND + 1); /* 0 was left out */
        memory_disk_done(&memory);
}

/* The last record may be torn; one before it was whole once, also where the next number is the smaller one.
 */
static void a_bad_record_before_the_numbers_go_round_is_no_torn_one(void **state) {
        for (unsigned i = 0; i < N_ROUND; i++) {
                size_t size, at = 32 + i * ROUND_SIZE + ROUND_SIZE - 1;
                MemoryDisk memory;
                Error err = {};
                uint64_t last;
                uint32_t write;
                char torn[RAFT_LOG_TORN_SIZE];
                int r;

                memory_disk_init(&memory, 1);
                write_round(&memory);
                memory_disk_file(&memory, "log.00000002", &size)[at] ^= 1;
                r = load_round(&memory, &last, &write, torn, &err);
                if (i < N_ROUND - 1) {
                        assert_int_equal(r, -EUCLEAN);
                        assert_non_null(strstr(err.message, "log.00000002 is corrupt at offset"));
                } else {
                        assert_int_equal(r, 0);
                        assert_int_equal(last, N_ROUND);
                        assert_string_not_equal(torn, "");
                }
                memory_disk_done(&memory);
        }
}

/* Names have eight digits, and more where a number does not fit; by name those come before the others. */
static void files_beyond_eight_digits_are_found_and_in_the_order_of_their_numbers(void **state) {
        static const char *const others[] = { "log.000000001", "log.1", "log.18446744073709551617",
                                              "log.100000001x", "log." };
        static const struct {
                uint64_t before;
                const char *first, *last;
        } cases[] = { { 99999997, "log.99999998", "log.100000002" },
                      { UINT64_C(9999999999999999997), "log.9999999999999999998",
                        "log.10000000000000000002" } };
        enum { N = 5 };

        for (size_t c = 0; c < ELEMENTS(cases); c++) {
                RaftLogFile *before = NEW0(RaftLogFile, 1);
                RaftLogFiles f = { .file_size = 4096, .write = 1, .items = before, .n = 1, .capacity = 1 };
                MemoryDisk memory;
                char torn[RAFT_LOG_TORN_SIZE];
                uint64_t last;
                uint32_t write;
                size_t size;

                memory_disk_init(&memory, 1);
                f.disk = &memory.base;
                before->number = cases[c].before;
                for (unsigned i = 1; i <= N; i++)
                        write_entry(&f, i, 4000); /* a file each */
                assert_true(f.items[N].number == cases[c].before + N);
                raft_log_files_done(&f);
                assert_non_null(memory_disk_file(&memory, cases[c].first, &size));
                assert_non_null(memory_disk_file(&memory, cases[c].last, &size));
                for (size_t i = 0; i < ELEMENTS(others); i++)
                        assert_int_equal(memory_disk_put(&memory, others[i], "other", 5), 0);

                assert_int_equal(load_round(&memory, &last, &write, torn, NULL), 0);
                assert_int_equal(last, N);
                assert_int_equal(write, N + 1);

                f = (RaftLogFiles) { .disk = &memory.base };
                assert_int_equal(raft_log_files_remove_all(&f), 0);
                assert_int_equal(memory.n, ELEMENTS(others));
                raft_log_files_done(&f);
                memory_disk_done(&memory);
        }
}

/* A crash leaves an empty file at the end; cutting all that is before it would lose where the log is. */
static void cutting_before_an_empty_file_keeps_where_the_log_ends(void **state) {
        for (unsigned i_run = 0; i_run < 400; i_run++) {
                Error err = {};
                uint64_t last;
                _cleanup_(bench_done) Bench b;

                bench_init(&b, i_run);
                create_and_open(&b);
                b.memory.calls = 0;
                b.memory.die_at = 1 + i_run % 40;
                for (uint64_t i = 1; i < 100 && b.n_failed == 0; i++) {
                        assert_int_equal(append(&b, i, i, 1, 1), 0);
                        turn_all(&b);
                }
                b.log = raft_log_close(b.log, NULL, NULL);
                memory_disk_start_again(&b.memory);
                if (open_log(&b, &err) < 0)
                        fail_msg("%s", err.message);
                last = raft_log_last_index(b.log);
                assert_int_equal(raft_log_cut(b.log, last), 0);
                turn_all(&b);
                reopen(&b);
                assert_int_equal(raft_log_last_index(b.log), last);
        }
}

static void term_and_vote_are_written_beside_those_before(void **state) {
        uint8_t before[128], *a, *b_file;
        size_t size;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t term = 2; term < 6; term++) {
                a = memory_disk_file(&b.memory, "meta.a", &size);
                b_file = memory_disk_file(&b.memory, "meta.b", &size);
                memcpy(before, term % 2 ? b_file : a, sizeof(before));
                assert_int_equal(raft_log_write_meta(b.log, term, 1), 0);
                assert_memory_equal(term % 2 ? b_file : a, before, sizeof(before));
        }
}

static void term_and_hardware_that_cannot_be_written_end_the_log(void **state) {
        for (int hardware = 0; hardware < 2; hardware++) {
                _cleanup_(bench_done) Bench b;

                bench_init(&b, 1);
                create_and_open(&b);
                b.memory.fail = -EIO;
                assert_int_equal(hardware ? raft_log_write_hardware(b.log, meta.machine) :
                                            raft_log_write_meta(b.log, 2, 1),
                                 -EIO);
                b.memory.fail = 0;
                assert_int_equal(raft_log_meta(b.log)->term, 1);
                assert_int_equal(append(&b, 1, 1, 1, 1), -EIO);
                assert_int_equal(raft_log_write_meta(b.log, 2, 1), -EIO);
                assert_int_equal(raft_log_write_hardware(b.log, meta.machine), -EIO);
        }
}

/* The disk in memory needs some itself, which does not fail. */
static const DiskOps *spared;

static int spared_open(Disk *disk, const char *name, bool create, uint64_t size, DiskFile **ret) {
        int r;

        alloc_pause(true);
        r = spared->open(disk, name, create, size, ret);
        alloc_pause(false);
        return r;
}

static int spared_list(Disk *disk, char ***ret, size_t *ret_n) {
        int r;

        alloc_pause(true);
        r = spared->list(disk, ret, ret_n);
        alloc_pause(false);
        return r;
}

static int spared_rename(Disk *disk, const char *from, const char *to) {
        int r;

        alloc_pause(true);
        r = spared->rename(disk, from, to);
        alloc_pause(false);
        return r;
}

/* A call of the disk that fails: the n-th of its kind. */
static struct {
        unsigned opens, sizes, reads, lists;
        uint64_t size; /* instead of an error */
} fault;

static int faulty_open(Disk *disk, const char *name, bool create, uint64_t size, DiskFile **ret) {
        return fault.opens > 0 && --fault.opens == 0 ? -EIO : spared->open(disk, name, create, size, ret);
}

static int faulty_size(DiskFile *file, uint64_t *ret) {
        if (fault.sizes == 0 || --fault.sizes > 0)
                return spared->size(file, ret);
        *ret = fault.size;
        alloc_fail_at(1); /* there is never so much */
        return fault.size > 0 ? 0 : -EIO;
}

static int faulty_read(DiskFile *file, void *bytes, size_t size, uint64_t offset) {
        return fault.reads > 0 && --fault.reads == 0 ? -EIO : spared->read(file, bytes, size, offset);
}

static int faulty_list(Disk *disk, char ***ret, size_t *ret_n) {
        return fault.lists > 0 && --fault.lists == 0 ? -EIO : spared->list(disk, ret, ret_n);
}

static void a_log_that_cannot_be_read_says_which_file(void **state) {
        static const struct {
                unsigned opens, sizes, reads, lists;
                uint64_t size;
                int error;
                const char *text;
        } cases[] = {
                { .opens = 1, .error = -EIO, .text = "Failed to open meta.a: Input/output error" },
                { .opens = 2, .error = -EIO, .text = "Failed to open meta.b: Input/output error" },
                { .opens = 3, .error = -EIO, .text = "Failed to open meta.a: Input/output error" },
                { .opens = 4, .error = -EIO, .text = "Failed to open meta.b: Input/output error" },
                { .opens = 5, .error = -EIO, .text = "Failed to open log.00000001: Input/output error" },
                { .reads = 1, .error = -EIO, .text = "Failed to read meta.a: Input/output error" },
                { .reads = 2, .error = -EIO, .text = "Failed to read meta.b: Input/output error" },
                { .reads = 3, .error = -EIO, .text = "Failed to read log.00000001: Input/output error" },
                { .lists = 1, .error = -EIO, .text = "Failed to list the log's files: Input/output error" },
                { .sizes = 1, .error = -EIO, .text = "Failed to open log.00000001: Input/output error" },
                { .sizes = 1,
                  .size = SIZE_MAX / 2 + 1,
                  .error = -EUCLEAN,
                  .text = "log.00000001 is corrupt at offset 0: it is too large" },
                { .sizes = 1, .size = SIZE_MAX / 2, .error = -ENOMEM, .text = "" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                Error err = {};
                DiskOps ops;
                _cleanup_(bench_done) Bench b;

                bench_init(&b, 1);
                create_and_open(&b);
                assert_int_equal(append(&b, 1, 1, 1, 1), 0);
                turn_all(&b);
                b.log = raft_log_close(b.log, NULL, NULL);
                spared = b.disk->ops;
                ops = *spared;
                ops.open = faulty_open;
                ops.size = faulty_size;
                ops.read = faulty_read;
                ops.list = faulty_list;
                b.disk->ops = &ops;
                fault.opens = cases[i].opens;
                fault.sizes = cases[i].sizes;
                fault.reads = cases[i].reads;
                fault.lists = cases[i].lists;
                fault.size = cases[i].size;
                assert_int_equal(open_log(&b, &err), cases[i].error);
                alloc_fail_at(0);
                assert_string_equal(err.message, cases[i].text);
                b.disk->ops = spared;
                assert_int_equal(open_log(&b, &err), 0);
        }
}

static int reversed_list(Disk *disk, char ***ret, size_t *ret_n) {
        int r = spared_list(disk, ret, ret_n);

        for (size_t i = 0; i < *ret_n / 2; i++) {
                char *name = (*ret)[i];

                (*ret)[i] = (*ret)[*ret_n - 1 - i];
                (*ret)[*ret_n - 1 - i] = name;
        }
        return r;
}

/* In any order of the directory listing; each allocation fails once. */
static void all_files_are_loaded_or_none(void **state) {
        bool failed = true;
        DiskOps ops;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 0; i < 20; i++)
                assert_int_equal(append(&b, 1 + i, 1 + 8 * i, 8, 1), 0);
        turn_all(&b);
        b.log = raft_log_close(b.log, NULL, NULL);
        turn_all(&b);
        spared = b.disk->ops;
        ops = *spared;
        ops.open = spared_open;
        ops.list = reversed_list;
        ops.rename = spared_rename;
        b.disk->ops = &ops;
        for (unsigned n = 1; failed; n++) {
                Error err = {};
                int r;

                assert_true(n < 500);
                alloc_fail_at(n);
                r = open_log(&b, &err);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                assert_int_equal(r, failed ? -ENOMEM : 0);
                if (r < 0)
                        continue;
                assert_int_equal(raft_log_first_index(b.log), 1);
                assert_int_equal(raft_log_last_index(b.log), 160);
                assert_holds(&b, 1, 160, NULL);
                b.log = raft_log_close(b.log, NULL, NULL);
        }
        b.disk->ops = spared;
}

static void one_entry_that_is_not_needed_is_not_kept(void **state) {
        uint64_t first;
        size_t n;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 3, 1), 0);
        turn_all(&b);
        b.applied = 2;
        reopen(&b);
        (void) raft_log_entries(b.log, &n, &first);
        assert_int_equal(first, 2);
        assert_int_equal(n, 2);
        assert_int_equal(raft_log_first_index(b.log), 1);
}

/* Each allocation fails once: of making it, of opening it, of writing term and vote and entries. */
static void a_log_without_memory_says_so_and_can_be_opened_again(void **state) {
        char data[300];
        RaftEntry entry = entry_of(1, 1, data, 37);
        bool failed = true;
        DiskOps ops;

        for (unsigned n = 1; failed; n++) {
                Error err = {};
                int r = 0;
                _cleanup_(bench_done) Bench b;

                assert_true(n < 500);
                bench_init(&b, 1);
                spared = b.disk->ops;
                ops = *spared;
                ops.open = spared_open;
                ops.list = spared_list;
                ops.rename = spared_rename;
                b.disk->ops = &ops;
                alloc_fail_at(n);
                r = raft_log_create(b.disk, &meta, 1, &entry, 1, &small, &err);
                if (r == 0)
                        r = open_log(&b, &err);
                if (r == 0)
                        r = raft_log_write_meta(b.log, 2, 1);
                if (r == 0)
                        r = raft_log_write_hardware(b.log, meta.machine);
                if (r == 0)
                        r = append(&b, 1, 2, 1, 2);
                if (r == 0)
                        r = append(&b, 2, 2, 1, 3); /* instead of that one */
                if (r == 0)
                        r = raft_log_reset(b.log, 7);
                while (manual_loop_work(&b.loop))
                        if (r == 0 && b.n_failed > 0)
                                r = b.error;
                failed = alloc_has_failed();
                alloc_fail_at(0);
                if (r == 0) {
                        assert_int_equal(b.n_appended, 2);
                        assert_int_equal(raft_log_last_index(b.log), 7);
                } else
                        assert_int_equal(r, -ENOMEM);
                if (!failed)
                        assert_int_equal(r, 0);
        }
}

static void an_entry_that_could_not_be_read_again_is_not_written(void **state) {
        _cleanup_free_ char *large = calloc(1, RAFT_ENTRY_SIZE_MAX + 1);
        RaftEntry entry = {
                .term = 1, .type = RAFT_ENTRY_COMMAND, .data = large, .size = RAFT_ENTRY_SIZE_MAX + 1
        };
        _cleanup_(bench_done) Bench b;

        assert_non_null(large);
        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(raft_log_append(b.log, 1, 1, &entry, 1), 0);
        turn_all(&b);
        assert_int_equal(b.n_failed, 1);
        assert_int_equal(b.error, -EFBIG);
}

static void a_log_that_crashes_gives_all_back_and_says_nothing(void **state) {
        RaftLog *log;
        _cleanup_(bench_done) Bench b;

        assert_null(raft_log_crash(NULL));
        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 3, 1), 0);
        turn_all(&b);
        assert_int_equal(append(&b, 2, 4, 3, 1), 0);
        assert_int_equal(append(&b, 3, 7, 3, 1), 0);
        log = b.log;
        b.log = raft_log_close(b.log, on_closed, &b);
        b.loop.n = 0; /* nothing of it goes on */
        assert_null(raft_log_crash(log));
        assert_int_equal(b.n_closed, 0);
}

static void loaded_entries_can_be_read_and_taken(void **state) {
        const RaftEntry *items;
        RaftEntry *taken;
        uint64_t first;
        size_t n;
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 3, 1), 0);
        turn_all(&b);
        reopen(&b);
        items = raft_log_entries(b.log, &n, &first);
        assert_non_null(items);
        assert_int_equal(n, 3);
        assert_int_equal(first, 1);
        assert_int_equal(raft_log_take_entries(b.log, &taken, &n, &first), 0);
        assert_ptr_equal(taken, items);
        assert_int_equal(n, 3);
        assert_null(raft_log_entries_free(taken, n));
        assert_null(raft_log_entries(b.log, &n, &first));
        assert_int_equal(n, 0);
        assert_int_equal(first, 1);
}

/* While the cut is under way, what is behind it is replaced. */
static void a_log_begins_at_most_behind_its_end(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        for (uint64_t i = 0; i < 8; i++)
                assert_int_equal(append(&b, 1 + i, 1 + 8 * i, 8, 1), 0);
        turn_all(&b);
        assert_int_equal(raft_log_cut(b.log, 40), 0);
        assert_int_equal(append(&b, 9, 2, 1, 2), 0);
        assert_int_equal(raft_log_first_index(b.log), 1);
        assert_int_equal(raft_log_last_index(b.log), 2);
        assert_true(manual_loop_work(&b.loop));
        assert_int_equal(raft_log_first_index(b.log), 3);
}

static void after_a_failed_write_nothing_is_accepted_any_more(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        b.memory.fail = -ENOSPC;
        assert_int_equal(append(&b, 1, 1, 1, 1), 0);
        turn_all(&b);
        assert_int_equal(b.n_failed, 1);
        assert_int_equal(b.error, -ENOSPC);
        assert_int_equal(b.n_appended, 0);
        b.memory.fail = 0;
        assert_int_equal(append(&b, 2, 2, 1, 1), -ENOSPC);
        assert_int_equal(raft_log_write_meta(b.log, 9, 9), -ENOSPC);
        assert_int_equal(raft_log_cut(b.log, 1), -ENOSPC);
        assert_int_equal(raft_log_write_hardware(b.log, meta.machine), -ENOSPC);
}

static void closing_during_a_write_lets_it_end_without_an_event(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 1, 1), 0);
        b.log = raft_log_close(b.log, on_closed, &b);
        assert_int_equal(b.n_closed, 0);
        turn_all(&b);
        assert_int_equal(b.n_closed, 1);
        assert_int_equal(b.n_appended, 0);

        Error err = {};
        assert_int_equal(open_log(&b, &err), 0);
        b.log = raft_log_close(b.log, on_closed, &b);
        assert_int_equal(b.n_closed, 2);
}

static void no_write_is_in_flight_when_all_is_durable(void **state) {
        _cleanup_(bench_done) Bench b;

        bench_init(&b, 1);
        create_and_open(&b);
        assert_int_equal(append(&b, 1, 1, 1, 1), 0);
        assert_int_equal(append(&b, 2, 2, 1, 1), 0);
        assert_true(manual_loop_work(&b.loop));
        assert_int_equal(b.appended_index, 1);
        assert_true(raft_log_oldest_write_ms(b.log) > 0);
        assert_true(manual_loop_work(&b.loop));
        assert_int_equal(raft_log_oldest_write_ms(b.log), 0);
        assert_int_equal(b.appended_index, 2);
        assert_int_equal(b.error, 0);
}

static void the_founders_first_entry_is_there_before_the_log_counts(void **state) {
        char data[300];
        RaftEntry entry = entry_of(1, 1, data, 37);
        Error err = {};

        for (unsigned die_at = 1; die_at < 20; die_at++) {
                _cleanup_(bench_done) Bench b;
                int r;

                bench_init(&b, die_at);
                b.memory.die_at = die_at;
                r = raft_log_create(b.disk, &meta, 1, &entry, 1, &small, &err);
                memory_disk_start_again(&b.memory);
                if (r < 0 && open_log(&b, &err) == -ENOENT)
                        assert_int_equal(raft_log_create(b.disk, &meta, 1, &entry, 1, &small, &err), 0);
                if (!b.log && open_log(&b, &err) < 0)
                        fail_msg("%s", err.message);
                assert_holds(&b, 1, 1, NULL);
        }
}

/* The machine dies at each changing call in turn: what was reported is there afterwards, and what is there
 * was written. */
static void after_a_crash_at_any_write_all_that_was_acknowledged_is_there(void **state) {
        for (uint64_t seed = 1; seed <= 40; seed++) {
                uint64_t acked = 0, term = 1, floor = 0, next = 1;
                Random random;
                _cleanup_(bench_done) Bench b;

                random_seed(&random, seed);
                bench_init(&b, seed);
                create_and_open(&b);
                for (unsigned round = 0; round < 12; round++) {
                        uint64_t terms_last = 0;
                        RaftEntry *entries;
                        uint64_t first;
                        Error err = {};
                        size_t n;

                        b.memory.calls = 0;
                        b.memory.die_at = 1 + (unsigned) random_below(&random, 25);
                        for (unsigned i = 0; i < 60 && b.n_failed == 0; i++) {
                                uint64_t n_entries = 1 + random_below(&random, 12),
                                         back = random_below(&random, 5), before = b.n_appended;
                                int r;

                                if (random_below(&random, 6) == 0)
                                        next = MAX(floor + 1, next - MIN(next - 1, back));
                                if (random_below(&random, 10) == 0 && next > floor + 30) {
                                        floor = next - 20;
                                        if (raft_log_cut(b.log, floor) < 0)
                                                break;
                                }
                                term++;
                                if (next <= acked)
                                        acked = next - 1; /* given up by truncation, whether or not it gets
                                                             through */
                                r = append(&b, term, next, n_entries, term);
                                if (r < 0)
                                        break;
                                next += n_entries;
                                turn_all(&b);
                                if (b.n_appended > before)
                                        acked = next - 1;
                        }
                        b.log = raft_log_close(b.log, NULL, NULL);
                        turn_all(&b);
                        memory_disk_start_again(&b.memory);
                        b.n_failed = 0;
                        if (open_log(&b, &err) < 0)
                                fail_msg("seed %u: %s", (unsigned) seed, err.message);

                        assert_int_equal(raft_log_take_entries(b.log, &entries, &n, &first), 0);
                        assert_true(first <= floor + 1);
                        assert_true(first + n - 1 >= acked);
                        for (size_t i = 0; i < n; i++) {
                                char data[300];
                                RaftEntry e = entry_of(first + i, entries[i].term, data,
                                                       (first + i) * 37 % 300);

                                assert_true(entries[i].term >= terms_last);
                                terms_last = entries[i].term;
                                assert_int_equal(entries[i].size, e.size);
                                if (e.size > 0)
                                        assert_memory_equal(entries[i].data, e.data, e.size);
                        }
                        next = first + n;
                        raft_log_entries_free(entries, n);
                }
        }
}

static void on_a_real_disk_it_is_the_same(void **state) {
        char *scratch = scratch_new();
        RaftEntry *entries;
        uint64_t first;
        Disk *disk;
        size_t n;
        Bench b;

        bench_init(&b, 1);
        assert_int_equal(disk_real_open(scratch, &disk), 0);
        b.disk = disk;
        create_and_open(&b);
        for (uint64_t i = 1; i <= 160; i += 8)
                assert_int_equal(append(&b, i, i, 8, 1), 0);
        turn_all(&b);
        assert_int_equal(append(&b, 200, 150, 3, 4), 0);
        assert_int_equal(raft_log_cut(b.log, 60), 0);
        assert_int_equal(raft_log_write_meta(b.log, 4, 5), 0);
        turn_all(&b);
        assert_int_equal(b.n_failed, 0);
        reopen(&b);
        assert_int_equal(raft_log_meta(b.log)->term, 4);
        assert_int_equal(raft_log_take_entries(b.log, &entries, &n, &first), 0);
        assert_true(first > 1 && first <= 61);
        assert_int_equal(first + n - 1, 152);
        assert_int_equal(entries[n - 1].term, 4);
        raft_log_entries_free(entries, n);
        b.log = raft_log_close(b.log, NULL, NULL);
        disk_real_close(disk);
        b.disk = &b.memory.base;
        bench_done(&b);
        scratch_free(scratch);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_folder_without_a_log_says_so_and_a_second_log_is_refused),
                cmocka_unit_test(whose_log_it_is_and_term_and_vote_survive),
                cmocka_unit_test(an_opening_that_is_cancelled_ends_and_loses_nothing),
                cmocka_unit_test(entries_are_read_back_over_several_files),
                cmocka_unit_test(what_is_queued_during_a_write_goes_with_the_next_and_the_last_is_reported),
                cmocka_unit_test(a_new_log_begins_at_the_given_index),
                cmocka_unit_test(the_next_file_is_made_beside_the_writes),
                cmocka_unit_test(one_next_file_is_made_at_a_time),
                cmocka_unit_test(a_next_file_that_cannot_be_made_ahead_stops_nothing),
                cmocka_unit_test(closing_while_the_next_file_is_made_waits_for_it),
                cmocka_unit_test(a_conflicting_tail_is_replaced),
                cmocka_unit_test(a_reset_log_begins_behind_the_state_and_drops_its_files),
                cmocka_unit_test(a_log_that_cannot_be_reset_has_failed),
                cmocka_unit_test(a_reset_that_a_crash_ends_has_happened_or_not_begun),
                cmocka_unit_test(cutting_removes_only_files_that_are_wholly_behind),
                cmocka_unit_test(what_is_applied_is_checked_at_opening_and_not_kept_in_memory),
                cmocka_unit_test(a_truncation_before_what_was_kept_at_opening_still_loads),
                cmocka_unit_test(a_truncation_whose_entries_were_cut_away_still_loads),
                cmocka_unit_test(entries_that_replace_those_before_the_beginning_begin_the_log),
                cmocka_unit_test(an_entry_of_any_size_up_to_the_limit_is_kept),
                cmocka_unit_test(a_torn_last_write_is_dropped_and_reported),
                cmocka_unit_test(after_2_to_32_writes_the_log_continues_and_loads),
                cmocka_unit_test(a_bad_record_before_the_numbers_go_round_is_no_torn_one),
                cmocka_unit_test(a_flipped_byte_is_never_a_shorter_log_in_silence),
                cmocka_unit_test(a_missing_file_is_refused),
                cmocka_unit_test(a_lost_write_is_refused_even_if_the_indexes_fit),
                cmocka_unit_test(the_next_file_is_begun_when_half_of_the_last_one_is_used),
                cmocka_unit_test(files_beyond_eight_digits_are_found_and_in_the_order_of_their_numbers),
                cmocka_unit_test(cutting_before_an_empty_file_keeps_where_the_log_ends),
                cmocka_unit_test(term_and_vote_are_written_beside_those_before),
                cmocka_unit_test(term_and_hardware_that_cannot_be_written_end_the_log),
                cmocka_unit_test(a_log_without_memory_says_so_and_can_be_opened_again),
                cmocka_unit_test(an_entry_that_could_not_be_read_again_is_not_written),
                cmocka_unit_test(a_log_that_cannot_be_read_says_which_file),
                cmocka_unit_test(all_files_are_loaded_or_none),
                cmocka_unit_test(one_entry_that_is_not_needed_is_not_kept),
                cmocka_unit_test(a_log_that_crashes_gives_all_back_and_says_nothing),
                cmocka_unit_test(loaded_entries_can_be_read_and_taken),
                cmocka_unit_test(a_log_begins_at_most_behind_its_end),
                cmocka_unit_test(after_a_failed_write_nothing_is_accepted_any_more),
                cmocka_unit_test(closing_during_a_write_lets_it_end_without_an_event),
                cmocka_unit_test(no_write_is_in_flight_when_all_is_durable),
                cmocka_unit_test(the_founders_first_entry_is_there_before_the_log_counts),
                cmocka_unit_test(after_a_crash_at_any_write_all_that_was_acknowledged_is_there),
                cmocka_unit_test(on_a_real_disk_it_is_the_same),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
