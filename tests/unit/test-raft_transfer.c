/* Trees that are sent in chunks, and received: which chunk is sent when, what each answer leads to, and where
 * the limits lie, to the millisecond and to the byte. The replica is played; tests/sim/test-transfer.c has
 * the real ones. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "kvstore/raft/consistency_check.h"
#include "kvstore/raft/transfer.h"
#include "tests/lib/alloc.h"
#include "tests/lib/fake_replica.h"

enum {
        STEP_MS = 200,
        MESSAGE_MS = 1000,
        MESSAGE_MAX_MS = 30000,
        NO_ROOM_MS = 10000,
        REFUSED_MS = 1000
}; /* transfer.c's */
enum { SO_FAR, WHOLE, REFUSED, CORRUPT, NO_ROOM };
enum { LAST = 1000, SIZE = 6 * TRANSFER_CHUNK + LAST };

static Transfers *t;
static struct {
        bool may_not_send, differs;
        uint64_t match;
        int match_error;
        unsigned n_sends; /* that succeed; those behind fail. 0: all succeed */
        uint64_t numbers[20];
        size_t n_numbers; /* of transfers that were begun */

        uint64_t room, total;
        int room_error, open_error, finish_error, work_error;
        const char *finish_text;
        bool read_only; /* what is received cannot be written */
        int fd;         /* of what was received last */
        Work *work;
        unsigned n_descriptors;
} world;

static void say(const char *format, ...) _printf_(1, 2);
static void say(const char *format, ...) {
        char text[400];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        text_printf(&fake.said, "%s\n", text);
}

/* -- What it asks of others -- */

void __wrap_replica_checkpoint(Replica *p);
void __wrap_replica_checkpoint(Replica *p) {
        say("checkpoint");
}

void __wrap_replica_replace_tree(Replica *p);
void __wrap_replica_replace_tree(Replica *p) {
        say("exchange");
}

void __wrap_replica_work_ended(Replica *p);
void __wrap_replica_work_ended(Replica *p) {
        say("work ended");
}

void __wrap_replica_send_message(Replica *p, uint64_t to, const RaftMessage *m);
void __wrap_replica_send_message(Replica *p, uint64_t to, const RaftMessage *m) {
        assert_int_equal(m->type, RAFT_MESSAGE_SNAPSHOT);
        say("closing %" PRIu64 " term %" PRIu64 ": %" PRIu64 " of %" PRIu64 ", configuration %" PRIu64
            " %.*s",
            to, m->term, m->snapshot.index, m->snapshot.index_term, m->snapshot.configuration_index,
            (int) m->snapshot.configuration_size, (const char *) m->snapshot.configuration);
}

int __wrap_raft_core_match_index(const RaftCore *core, uint64_t id, uint64_t *ret);
int __wrap_raft_core_match_index(const RaftCore *core, uint64_t id, uint64_t *ret) {
        *ret = world.match;
        return world.match_error;
}

bool __wrap_consistency_may_send(const ConsistencyCheck *c);
bool __wrap_consistency_may_send(const ConsistencyCheck *c) {
        return !world.may_not_send;
}

bool __wrap_consistency_differs(const ConsistencyCheck *c);
bool __wrap_consistency_differs(const ConsistencyCheck *c) {
        return world.differs;
}

int __wrap_loop_work(Loop *loop, Work *work);
int __wrap_loop_work(Loop *loop, Work *work) {
        if (world.work_error < 0)
                return world.work_error;
        assert_null(world.work);
        world.work = work;
        return 0;
}

int __wrap_data_dir_space(const DataDir *folder, uint64_t *ret_free, uint64_t *ret_total);
int __wrap_data_dir_space(const DataDir *folder, uint64_t *ret_free, uint64_t *ret_total) {
        *ret_free = world.room;
        *ret_total = world.total;
        return world.room_error;
}

int __wrap_data_dir_incoming_open(const DataDir *folder);
int __wrap_data_dir_incoming_open(const DataDir *folder) {
        char path[64];
        int fd;

        if (world.open_error < 0)
                return world.open_error;
        fd = memfd_create("incoming", MFD_CLOEXEC);
        assert_true(fd >= 0);
        if (world.read_only) {
                int writable = fd;

                snprintf(path, sizeof(path), "/proc/self/fd/%d", writable);
                fd = open(path, O_RDONLY | O_CLOEXEC);
                close(writable);
        }
        world.fd = fd;
        return fd;
}

int __wrap_data_dir_incoming_finish(const DataDir *folder, Checkpoint *ret, Error *err);
int __wrap_data_dir_incoming_finish(const DataDir *folder, Checkpoint *ret, Error *err) {
        if (world.finish_error < 0 && world.finish_text && !world.finish_text[0])
                return world.finish_error;
        if (world.finish_error < 0)
                return error_set(err, world.finish_error, "%s", world.finish_text ?: "it is so");
        *ret = (Checkpoint) { .fd = dup(world.fd),
                              .meta = { .applied = 70, .applied_term = 4 },
                              .configuration = strdup("c"),
                              .configuration_size = 1 };
        assert_true(ret->fd >= 0);
        return 0;
}

void __wrap_data_dir_incoming_discard(const DataDir *folder);
void __wrap_data_dir_incoming_discard(const DataDir *folder) {
        say("discard");
}

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (fields->error != 0)
                say("log %d (%d): %s", priority, fields->error, message);
        else
                say("log %d: %s", priority, message);
}

/* Transfers are written down as #1, #2, ... */
static size_t number_of(uint64_t number) {
        assert_int_equal(number & 1, 1); /* never 0 */
        for (size_t i = 0; i < world.n_numbers; i++)
                if (world.numbers[i] == number)
                        return i + 1;
        assert_true(world.n_numbers < ELEMENTS(world.numbers));
        world.numbers[world.n_numbers++] = number;
        return world.n_numbers;
}

static uint8_t byte_at(uint64_t offset) {
        return (uint8_t) (offset % 251 + 1);
}

static int on_frame(PeerFrame type, bool answer, uint64_t to, const Writer *w) {
        Reader r = reader_over(w->bytes, w->size);
        uint64_t term, number, size, offset;
        const uint8_t *bytes;
        uint32_t crc;

        if (answer) {
                assert_int_equal(type, PEER_SNAPSHOT_ACK);
                number = read_u64(&r);
                offset = read_u64(&r);
                say("session %" PRIu64 ": ack %" PRIu64 " %" PRIu64 " %u", to, number, offset, read_u8(&r));
                assert_int_equal(reader_end(&r), 0);
                return 0;
        }
        assert_int_equal(type, PEER_SNAPSHOT);
        assert_int_equal(read_u64(&r), to);
        term = read_u64(&r);
        number = read_u64(&r);
        size = read_u64(&r);
        offset = read_u64(&r);
        crc = read_u32(&r);
        bytes = read_raw(&r, 0);
        assert_false(r.failed);
        bytes = r.bytes;
        assert_int_equal(crc32c(0, bytes, r.left), crc);
        for (size_t i = 0; i < r.left; i++)
                if (bytes[i] != byte_at(offset + i))
                        fail_msg("another byte at %" PRIu64, offset + i);
        if (world.n_sends > 0 && --world.n_sends == 0) {
                world.n_sends = 1;
                say("no chunk to %" PRIu64 " at %" PRIu64, to, offset);
                return -ENOBUFS;
        }
        if (offset % TRANSFER_CHUNK == 0 && term == 5 && size == SIZE &&
            r.left == (offset == SIZE - LAST ? LAST : TRANSFER_CHUNK))
                say("chunk %" PRIu64 " #%zu %" PRIu64, to, number_of(number), offset / TRANSFER_CHUNK);
        else
                say("chunk %" PRIu64 " #%zu term %" PRIu64 " %zu bytes at %" PRIu64 " of %" PRIu64, to,
                    number_of(number), term, r.left, offset, size);
        return 0;
}

/* -- Helpers -- */

static unsigned n_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static void begin(void) {
        memset(&world, 0, sizeof(world));
        fake_begin("VVVVVV");
        fake.on_frame = on_frame;
        fake.replica.data_dir = (DataDir) { .fd = -1, .path = (char *) "/tree", .checkpoint = { .fd = -1 } };
        world.n_descriptors = n_descriptors();
        world.room = world.total = UINT64_MAX;
        log_set_sink(on_log, NULL);
        log_set_max_priority(LOG_INFO);
        assert_int_equal(transfers_new(&t, &fake.replica), 0);
        fake.replica.transfers = t;
}

/* The checkpoint of entry 50; its file lacks 'lacks' bytes. */
static void make_checkpoint(size_t lacks) {
        Checkpoint *c = &fake.replica.data_dir.checkpoint;
        _cleanup_free_ uint8_t *bytes = malloc(SIZE);

        assert_non_null(bytes);
        for (size_t i = 0; i < SIZE; i++)
                bytes[i] = byte_at(i);
        checkpoint_done(c);
        *c = (Checkpoint) { .fd = memfd_create("checkpoint", MFD_CLOEXEC),
                            .size = SIZE,
                            .meta = { .applied = 50, .applied_term = 4, .configuration_index = 30 },
                            .configuration = strdup("conf"),
                            .configuration_size = 4 };
        assert_int_equal(pwrite_all(c->fd, bytes, SIZE - lacks, 0), 0);
}

#define BEGINS(to) "log 6: sending the tree of entry 50 (1573864 bytes) to replica " to "\n"
#define FOUR(to, n) \
        "chunk " to " #" n " 0\nchunk " to " #" n " 1\nchunk " to " #" n " 2\nchunk " to " #" n " 3\n"
_Static_assert(SIZE == 1573864, "the text above has it");

static void end(void) {
        assert_null(transfers_free(t));
        checkpoint_done(&fake.replica.data_dir.checkpoint);
        assert_int_equal(n_descriptors(), world.n_descriptors);
        assert_int_equal(loop_next_due_ms(&fake.loop), UINT64_MAX);
        log_set_sink(NULL, NULL);
        fake_end();
}

static void begin_sending(void) {
        begin();
        make_checkpoint(0);
        transfers_send(t, 2, 50, false);
        fake_assert_said(BEGINS("2") FOUR("2", "1"));
}

static void hear_ack_of(uint64_t number, uint64_t offset, uint8_t what, size_t more) {
        _cleanup_writer_ Writer w = {};

        write_u64(&w, number);
        write_u64(&w, offset);
        write_u8(&w, what);
        for (; more > 0; more--)
                write_u8(&w, 0);
        transfers_on_ack(&fake.replica, NULL, PEER_SNAPSHOT_ACK, w.bytes, w.size);
}

/* Of the newest transfer. */
static void receive_ack(uint64_t offset, uint8_t what) {
        hear_ack_of(world.numbers[world.n_numbers - 1], offset, what, 0);
}

static void receive_begin(uint64_t number);
static void receive_all(uint64_t number, uint64_t size);

static void assert_idle(void) {
        fake_assert_said("");
        assert_int_equal(loop_next_due_ms(&fake.loop), UINT64_MAX);
}

/* -- Sending -- */

static void a_tree_is_sent_in_a_window_of_chunks_from_the_loop(void **state) {
        begin();
        make_checkpoint(0);
        transfers_send(t, 2, 50, false);
        transfers_send(t, 2, 50, false);
        assert_null(fake.said.chars);
        fake_assert_said(BEGINS("2") FOUR("2", "1"));
        assert_int_equal(loop_next_due_ms(&fake.loop), fake.now_ms + STEP_MS);
        fake_pass(5 * STEP_MS);
        fake_assert_said("");

        receive_ack(TRANSFER_CHUNK, SO_FAR);
        fake_assert_said("chunk 2 #1 4\n");
        receive_ack(3 * TRANSFER_CHUNK - 1, SO_FAR);
        fake_assert_said("chunk 2 #1 5\nchunk 2 #1 6\n");
        receive_ack(SIZE, SO_FAR);
        fake_assert_said("");
        receive_ack(SIZE, WHOLE);
        fake_assert_said("closing 2 term 5: 50 of 4, configuration 30 conf\n");
        end();
}

static void a_silent_follower_is_sent_all_again_after_10_s(void **state) {
        begin_sending();
        fake_pass(TRANSFER_SILENCE_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said(BEGINS("2") FOUR("2", "2"));

        /* Each answer to this transfer counts as a sign of life, and none of another one, or that cannot be.
         */
        receive_ack(TRANSFER_CHUNK, SO_FAR);
        fake_assert_said("chunk 2 #2 4\n");
        fake_pass(5000);
        receive_ack(0, SO_FAR);
        fake_pass(2000);
        receive_ack(SIZE + 1, SO_FAR);
        hear_ack_of(world.numbers[0], 0, REFUSED, 0);
        hear_ack_of(world.numbers[1], 0, REFUSED, 1);
        hear_ack_of(world.numbers[1], SIZE + 1, REFUSED, 0);
        transfers_on_ack(&fake.replica, NULL, PEER_SNAPSHOT_ACK, "1234567", 7);
        fake_pass(TRANSFER_SILENCE_MS - 2001);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said(BEGINS("2") FOUR("2", "3"));
        end();
}

static void one_that_may_not_be_begun_again_waits_with_each_step(void **state) {
        begin_sending();
        world.may_not_send = true;
        fake_pass(TRANSFER_SILENCE_MS);
        receive_ack(0, SO_FAR);
        fake_assert_said("");
        world.may_not_send = false;
        fake_pass(STEP_MS);
        fake_assert_said(BEGINS("2") FOUR("2", "2"));
        end();
}

static void each_descriptor_will_do(void **state) {
        int saved = dup(0);

        for (unsigned i = 0; i < 2; i++) {
                begin();
                if (i == 0)
                        close(0);
                make_checkpoint(0);
                assert_true(i > 0 || fake.replica.data_dir.checkpoint.fd == 0);
                if (i == 1)
                        close(0);
                transfers_send(t, 2, 50, false);
                fake_assert_said(BEGINS("2") FOUR("2", "1"));
                if (i == 0) {
                        receive_ack(0, CORRUPT);
                        assert_true(fake.replica.data_dir.corrupt);
                        assert_int_equal(fcntl(0, F_GETFD), -1);
                }
                assert_null(transfers_free(t));
                checkpoint_done(&fake.replica.data_dir.checkpoint);
                assert_int_equal(transfers_new(&t, &fake.replica), 0);
                fake.replica.transfers = t;

                receive_begin(4);
                assert_int_equal(world.fd, 0);
                transfers_drop(t);
                assert_int_equal(fcntl(0, F_GETFD), -1);
                receive_all(5, 1000);
                assert_int_equal(fcntl(0, F_GETFD), -1);
                assert_int_equal(dup2(transfers_whole(t)->fd, 0), 0);
                close(transfers_whole(t)->fd);
                transfers_whole(t)->fd = 0;
                assert_non_null(transfers_whole(t));
                transfers_drop(t);
                assert_int_equal(fcntl(0, F_GETFD), -1);
                assert_int_equal(dup2(saved, 0), 0);
                end();
        }
        close(saved);
}

static void a_chunk_that_was_missed_is_sent_again_at_most_each_step(void **state) {
        begin_sending();
        fake_pass(50);
        receive_ack(0, SO_FAR);
        fake_assert_said(FOUR("2", "1"));
        fake_pass(STEP_MS - 1);
        receive_ack(0, SO_FAR);
        fake_assert_said("");
        fake_pass(1);
        receive_ack(0, SO_FAR);
        fake_assert_said(FOUR("2", "1"));

        fake_pass(STEP_MS);
        receive_ack(2 * TRANSFER_CHUNK, SO_FAR);
        fake_assert_said("chunk 2 #1 4\nchunk 2 #1 5\n");
        receive_ack(TRANSFER_CHUNK, SO_FAR); /* comes late */
        fake_assert_said("");
        receive_ack(2 * TRANSFER_CHUNK, SO_FAR);
        fake_assert_said("chunk 2 #1 2\nchunk 2 #1 3\nchunk 2 #1 4\nchunk 2 #1 5\n");
        end();
}

static void a_chunk_that_cannot_be_sent_is_tried_with_the_next_step(void **state) {
        begin();
        make_checkpoint(0);
        world.n_sends = 3;
        transfers_send(t, 2, 50, false);
        fake_assert_said(BEGINS("2") "chunk 2 #1 0\nchunk 2 #1 1\nno chunk to 2 at 524288\n");
        fake_pass(STEP_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("no chunk to 2 at 524288\n");
        world.n_sends = 0;
        fake_pass(STEP_MS);
        fake_assert_said("chunk 2 #1 2\nchunk 2 #1 3\n");
        end();
}

static void a_chunk_that_cannot_be_read_is_not_sent(void **state) {
        begin();
        make_checkpoint(SIZE - 2 * TRANSFER_CHUNK + 1);
        transfers_send(t, 2, 50, false);
        fake_assert_said(BEGINS("2") "chunk 2 #1 0\n");
        end();
}

static void a_transfer_without_memory_is_tried_with_the_next_step(void **state) {
        begin();
        make_checkpoint(0);
        transfers_send(t, 2, 50, false);
        alloc_fail_at(1);
        fake_run();
        alloc_fail_at(0);
        fake_assert_said("");
        fake_pass(STEP_MS);
        fake_assert_said(BEGINS("2") FOUR("2", "1"));
        end();
}

static void a_tree_that_has_come_is_confirmed_each_second_and_sent_again_after_30(void **state) {
        begin_sending();
        receive_ack(SIZE, WHOLE);
        fake_assert_said("closing 2 term 5: 50 of 4, configuration 30 conf\n");
        for (unsigned i = 1; i < MESSAGE_MAX_MS / MESSAGE_MS; i++) {
                fake_pass(MESSAGE_MS - 1);
                receive_ack(SIZE, WHOLE);
                receive_ack(0, SO_FAR);
                fake_assert_said("");
                fake_pass(1);
                fake_assert_said("closing 2 term 5: 50 of 4, configuration 30 conf\n");
        }
        fake_pass(MESSAGE_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said(BEGINS("2") FOUR("2", "2"));
        fake_pass(TRANSFER_SILENCE_MS - 1);
        fake_assert_said("");
        end();
}

static void a_transfer_ends_once_the_log_has_passed_it(void **state) {
        begin_sending();
        world.match = 49;
        transfers_step(t);
        assert_int_not_equal(loop_next_due_ms(&fake.loop), UINT64_MAX);
        world.match = 50;
        transfers_step(t);
        assert_idle();
        assert_int_equal(n_descriptors(), world.n_descriptors + 1);
        end();
}

/* A higher index is asked for than the checkpoint has. */
static void a_checkpoint_is_made_where_there_is_none_that_is_new_enough(void **state) {
        begin();
        transfers_send(t, 2, 50, false);
        fake_assert_said("checkpoint\n");
        make_checkpoint(0);
        fake_pass(STEP_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said(BEGINS("2") FOUR("2", "1"));
        transfers_drop(t);
        fake_assert_said("discard\n");

        transfers_send(t, 2, 51, false);
        fake_assert_said("checkpoint\n");
        hear_ack_of(0, 0, REFUSED, 0);
        hear_ack_of(0, 0, WHOLE, 0);
        fake_pass(STEP_MS);
        fake_assert_said("checkpoint\n");
        world.match = 50; /* of a transfer that has not begun, the index that was asked for counts */
        fake_pass(STEP_MS);
        fake_assert_said("checkpoint\n");
        fake.replica.data_dir.checkpoint.meta.applied = 51;
        transfers_step(t);
        fake_assert_said("log 6: sending the tree of entry 51 (1573864 bytes) to replica 2\n" FOUR("2", "2"));
        transfers_drop(t);
        fake_assert_said("discard\n");

        transfers_send(t, 2, 52, false);
        fake_assert_said("checkpoint\n");
        world.match = 52;
        fake_pass(STEP_MS);
        assert_idle();
        end();
}

static void nothing_is_sent_while_the_tree_may_be_another_one(void **state) {
        begin();
        make_checkpoint(0);
        world.may_not_send = true;
        transfers_send(t, 2, 50, false);
        fake_pass(10 * STEP_MS - 1);
        fake_assert_said("");
        world.may_not_send = false;
        fake_pass(1);
        fake_assert_said(BEGINS("2") FOUR("2", "1"));
        world.differs = true;
        fake_pass(STEP_MS);
        assert_idle();
        end();
}

static void a_transfer_ends_with_the_leadership_and_the_membership(void **state) {
        for (unsigned i = 0; i < 3; i++) {
                begin_sending();
                if (i == 0)
                        fake.leads = false;
                else if (i == 1)
                        fake.term++;
                else
                        world.match_error = -ENOENT;
                fake_pass(STEP_MS);
                assert_idle();
                assert_int_equal(n_descriptors(), world.n_descriptors + 1);
                end();
        }
}

static void one_of_a_later_term_replaces_that_of_an_earlier_one(void **state) {
        begin_sending();
        fake.term = 6;
        transfers_send(t, 2, 50, false);
        fake_assert_said(BEGINS("2") "chunk 2 #2 term 6 262144 bytes at 0 of 1573864\nchunk 2 #2 term 6 "
                                     "262144 bytes at 262144 of 1573864\n"
                                     "chunk 2 #2 term 6 262144 bytes at 524288 of 1573864\nchunk 2 #2 term 6 "
                                     "262144 bytes at 786432 of 1573864\n");
        assert_int_equal(n_descriptors(), world.n_descriptors + 2);
        end();
}

static void four_followers_are_sent_trees_at_a_time(void **state) {
        char problem[200] = "none";

        begin();
        make_checkpoint(0);
        for (uint64_t to = 2; to <= 6; to++)
                transfers_send(t, to, 50, false);
        /* The last one that is free comes first. */
        fake_assert_said(BEGINS("5") FOUR("5", "1") BEGINS("4") FOUR("4", "2") BEGINS("3") FOUR("3", "3")
                                 BEGINS("2") FOUR("2", "4"));
        hear_ack_of(world.numbers[0], 0, NO_ROOM, 0);
        transfers_problem(t, problem, sizeof(problem));
        assert_string_equal(problem,
                            "replica 5 has no disk space for the tree, and cannot follow without it");
        assert_int_equal(n_descriptors(), world.n_descriptors + 5);
        transfers_drop(t);
        assert_int_equal(n_descriptors(), world.n_descriptors + 1);
        assert_int_equal(loop_next_due_ms(&fake.loop), UINT64_MAX);
        text_clear(&fake.said);

        world.n_numbers = 0;
        for (uint64_t to = 2; to <= 6; to++)
                transfers_send(t, to, 50, false);
        fake_run();
        text_clear(&fake.said);
        hear_ack_of(world.numbers[0], SIZE, WHOLE, 0);
        hear_ack_of(world.numbers[3], SIZE, WHOLE, 0);
        fake_assert_said("closing 5 term 5: 50 of 4, configuration 30 conf\nclosing 2 term 5: 50 of 4, "
                         "configuration 30 conf\n");
        world.match = 50;
        fake_pass(STEP_MS);
        assert_idle();
        assert_int_equal(n_descriptors(), world.n_descriptors + 1);
        world.match = 0;
        for (uint64_t to = 2; to <= 5; to++)
                transfers_send(t, to, 50, false);
        fake_run();
        assert_int_equal(n_descriptors(), world.n_descriptors + 5);
        end();
}

static void one_whose_tree_differs_gets_no_message_of_the_log(void **state) {
        begin();
        make_checkpoint(0);
        world.match = 60;
        transfers_send(t, 2, 50, true);
        fake_assert_said(BEGINS("2") FOUR("2", "1"));
        fake_pass(STEP_MS);
        assert_int_not_equal(loop_next_due_ms(&fake.loop), UINT64_MAX);
        receive_ack(SIZE, WHOLE);
        fake_assert_said("");
        fake_pass(STEP_MS);
        assert_idle();
        end();
}

static void a_refused_tree_is_sent_again_after_a_second(void **state) {
        begin_sending();
        receive_ack(0, REFUSED);
        fake_pass(REFUSED_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said(BEGINS("2") FOUR("2", "2"));
        assert_false(fake.replica.data_dir.corrupt);
        end();
}

/* Also where some of its chunks are still to be sent, or all of it was whole for long. */
static void nothing_of_a_refused_tree_is_sent_before(void **state) {
        begin();
        make_checkpoint(0);
        world.n_sends = 1;
        transfers_send(t, 2, 50, false);
        fake_assert_said(BEGINS("2") "no chunk to 2 at 0\n");
        world.n_sends = 2;
        fake_pass(STEP_MS);
        fake_assert_said("chunk 2 #1 0\nno chunk to 2 at 262144\n");
        receive_ack(0, REFUSED);
        world.n_sends = 0;
        fake_pass(REFUSED_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said(BEGINS("2") FOUR("2", "2"));
        receive_ack(SIZE, WHOLE);
        fake_pass(MESSAGE_MAX_MS - STEP_MS);
        text_clear(&fake.said);
        receive_ack(0, REFUSED);
        fake_pass(REFUSED_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said(BEGINS("2") FOUR("2", "3"));
        end();
}

static void a_tree_without_space_is_sent_again_after_10_s_and_logged_once(void **state) {
        char problem[200] = "none";

        begin_sending();
        transfers_problem(t, problem, sizeof(problem));
        assert_string_equal(problem, "none");
        for (unsigned i = 0; i < 2; i++) {
                receive_ack(0, NO_ROOM);
                fake_assert_said(i == 0 ? "log 4: replica 2 has no disk space for the tree (1573864 "
                                          "bytes); sending it again every 10 s\n" :
                                          "");
                transfers_problem(t, problem, sizeof(problem));
                assert_string_equal(problem,
                                    "replica 2 has no disk space for the tree, and cannot follow without it");
                fake_pass(NO_ROOM_MS - 1);
                fake_assert_said("");
                fake_pass(1);
                fake_assert_said(i == 0 ? FOUR("2", "2") : FOUR("2", "3")); /* begins in silence */
        }
        receive_ack(SIZE, WHOLE);
        fake_assert_said("closing 2 term 5: 50 of 4, configuration 30 conf\n");
        snprintf(problem, sizeof(problem), "none");
        transfers_problem(t, problem, sizeof(problem));
        assert_string_equal(problem, "none");
        end();
}

static void a_damaged_checkpoint_is_given_up_unless_there_is_another_one(void **state) {
        begin_sending();
        receive_ack(0, CORRUPT);
        fake_assert_said("log 3: checkpoint of entry 50 is corrupt, reported by replica 2; writing a new "
                         "checkpoint\n");
        assert_true(fake.replica.data_dir.corrupt);
        assert_int_equal(fake.replica.data_dir.checkpoint.fd, -1);
        fake_pass(REFUSED_MS - 1);
        fake_assert_said("");
        fake_pass(1);
        fake_assert_said("checkpoint\n");
        end();

        begin_sending();
        fake.replica.data_dir.checkpoint.meta.applied = 51;
        receive_ack(0, CORRUPT);
        fake_assert_said("");
        assert_false(fake.replica.data_dir.corrupt);
        end();

        begin_sending();
        close(fake.replica.data_dir.checkpoint.fd);
        fake.replica.data_dir.checkpoint.fd = -1;
        receive_ack(0, CORRUPT);
        fake_assert_said("");
        assert_false(fake.replica.data_dir.corrupt);
        end();
}

/* -- Receiving -- */

typedef struct Chunk {
        uint64_t term, number, total, offset;
        size_t size;
        bool damaged;
} Chunk;

static bool receive(uint64_t session, Chunk c) {
        _cleanup_writer_ Writer w = {};
        _cleanup_free_ uint8_t *bytes = calloc(1, c.size + 1);

        for (size_t i = 0; i < c.size; i++)
                bytes[i] = byte_at(c.offset + i);
        write_u64(&w, 3);
        write_u64(&w, c.term);
        write_u64(&w, c.number);
        write_u64(&w, c.total);
        write_u64(&w, c.offset);
        write_u32(&w, crc32c(0, bytes, c.size) ^ c.damaged);
        write_raw(&w, bytes, c.size);
        return transfers_on_snapshot(t, (PeerSession *) (uintptr_t) session, w.bytes, w.size);
}

static void run_work(void) {
        Work *work = world.work;

        assert_non_null(work);
        world.work = NULL;
        work->work(work->userdata);
        work->done(work->userdata);
}

static void receive_begin(uint64_t number) {
        assert_true(receive(9, (Chunk) { 5, number, 1000, 0, 500 }));
}

/* All of a tree of 'size' bytes in one chunk, and it is stored. */
static void receive_all(uint64_t number, uint64_t size) {
        assert_true(receive(9, (Chunk) { 5, number, size, 0, size }));
        if (world.work)
                run_work();
}

static void chunks_come_in_their_order_and_are_acknowledged(void **state) {
        uint8_t bytes[3000], wanted[3000];
        Checkpoint *c;
        RaftMessage m = { .type = RAFT_MESSAGE_SNAPSHOT };

        for (size_t i = 0; i < sizeof(wanted); i++)
                wanted[i] = byte_at(i);
        begin();
        assert_true(receive(9, (Chunk) { 5, 4, 3000, 0, 1000 }));
        fake_assert_said("session 9: ack 4 1000 0\n");
        assert_int_equal(n_descriptors(), world.n_descriptors + 1);
        for (unsigned i = 0; i < 6; i++) { /* none of these is taken */
                static const Chunk others[] = {
                        { 5, 4, 3000, 999, 1000 },  { 5, 4, 3000, 1001, 1000 },
                        { 5, 4, 3001, 1000, 1000 }, { 5, 4, 2999, 1000, 1000 },
                        { 5, 4, 3000, 1000, 2001 }, { 5, 4, 3000, 1000, 1000, true },
                };

                assert_true(receive(8, others[i]));
                fake_assert_said("session 8: ack 4 1000 0\n");
        }
        assert_true(receive(7, (Chunk) { 6, 4, 3000, 1000, 1000 }));
        fake_assert_said("session 7: ack 4 2000 0\n");
        assert_false(transfers_busy(t));
        assert_null(world.work);
        assert_true(receive(7, (Chunk) { 5, 4, 3000, 2000, 1000 }));
        fake_assert_said("session 7: ack 4 3000 0\n");
        assert_true(transfers_busy(t));
        assert_int_equal(pread(world.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
        assert_memory_equal(bytes, wanted, sizeof(bytes));

        /* While it is stored, nothing else is taken. */
        assert_true(receive(6, (Chunk) { 5, 4, 3000, 2000, 1000 }));
        assert_true(receive(5, (Chunk) { 5, 5, 3000, 0, 1000 }));
        fake_assert_said("");
        assert_null(transfers_whole(t));
        m.snapshot.index = 70;
        m.snapshot.index_term = 4;
        assert_null(transfers_received(t, &m));
        run_work();
        fake_assert_said("session 6: ack 4 3000 1\n");
        assert_false(transfers_busy(t));
        assert_int_equal(n_descriptors(), world.n_descriptors + 1);
        assert_true(receive(5, (Chunk) { 5, 4, 3000, 0, 1000 }));
        fake_assert_said("session 5: ack 4 3000 1\n");

        c = transfers_whole(t);
        assert_non_null(c);
        assert_int_equal(c->meta.applied, 70);
        assert_ptr_equal(transfers_received(t, &m), c);
        m.snapshot.index = 71;
        assert_null(transfers_received(t, &m));
        m.snapshot.index = 70;
        m.snapshot.index_term = 5;
        assert_null(transfers_received(t, &m));

        /* The next one takes its place. */
        assert_true(receive(9, (Chunk) { 5, 6, 2000, 0, 1000 }));
        fake_assert_said("session 9: ack 6 1000 0\n");
        assert_null(transfers_whole(t));
        assert_int_equal(n_descriptors(), world.n_descriptors + 1);
        transfers_drop(t);
        fake_assert_said("discard\n");
        assert_int_equal(n_descriptors(), world.n_descriptors);
        end();
}

static void a_tree_that_was_taken_by_the_log_is_not_whole_any_more(void **state) {
        begin();
        receive_all(4, 1000);
        checkpoint_done(transfers_whole(t));
        assert_null(transfers_whole(t));
        end();
}

static void frames_that_cannot_be_are_no_sign_of_a_leader(void **state) {
        static const struct {
                Chunk chunk;
                bool counts;
        } cases[] = {
                { { 4, 4, 10, 0, 5 }, false },
                { { 5, 0, 10, 0, 5 }, false },
                { { 5, 4, 10, 0, 0 }, false },
                { { 5, 4, 1 << 20, 0, TRANSFER_CHUNK + 1 }, false },
                { { 5, 4, 1 << 20, 0, TRANSFER_CHUNK }, true },
                { { 5, 4, 2, 0, 1 }, true },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                begin();
                assert_int_equal(receive(9, cases[i].chunk), cases[i].counts);
                if (!cases[i].counts)
                        fake_assert_said("");
                assert_int_equal(n_descriptors(), world.n_descriptors + cases[i].counts);
                end();
        }

        begin();
        assert_false(transfers_on_snapshot(t, NULL, "1234567", 7)); /* no sender */
        assert_false(transfers_on_snapshot(t, NULL,
                                           "\1\0\0\0\0\0\0\0"
                                           "\x10\0\0\0\0\0\0\0"
                                           "\x10",
                                           17));
        fake_assert_said("");

        assert_true(receive(9, (Chunk) { 5, 4, 0, 0, 5 })); /* an empty tree */
        fake_assert_said("");
        assert_true(receive(9, (Chunk) { 5, 4, 10, 5, 5 })); /* its beginning is forgotten */
        fake_assert_said("session 9: ack 4 0 2\n");
        assert_int_equal(n_descriptors(), world.n_descriptors);
        end();
}

static void a_tree_that_cannot_be_stored_is_rejected_and_the_reason_logged_once(void **state) {
        char problem[300] = "none";

        begin();
        transfers_problem(t, problem, sizeof(problem));
        assert_string_equal(problem, "none");
        assert_false(transfers_refuses(t));

        world.open_error = -EIO;
        receive_all(4, 1000);
        fake_assert_said("log 4 (-5): cannot use the tree that replica 3 sent: cannot store it: "
                         "Input/output error\nsession 9: ack 4 0 2\n");
        assert_true(transfers_refuses(t));
        transfers_problem(t, problem, sizeof(problem));
        assert_string_equal(problem,
                            "cannot use the tree that the leader sends: cannot store it: Input/output error");
        world.open_error = 0;
        world.room_error = -EIO;
        receive_all(5, 1000);
        fake_assert_said("session 9: ack 5 0 2\n");
        assert_int_equal(n_descriptors(), world.n_descriptors);
        world.room_error = -EACCES;
        receive_all(6, 1000);
        fake_assert_said("log 4 (-13): cannot use the tree that replica 3 sent: cannot store it: "
                         "Permission denied\nsession 9: ack 6 0 2\n");
        world.room_error = 0;

        world.read_only = true;
        receive_all(7, 1000);
        fake_assert_said("log 4 (-9): cannot use the tree that replica 3 sent: cannot store it: Bad file "
                         "descriptor\nsession 9: ack 7 0 2\n");
        assert_int_equal(n_descriptors(), world.n_descriptors);
        world.read_only = false;

        world.work_error = -ENOMEM;
        assert_true(receive(9, (Chunk) { 5, 8, 1000, 0, 1000 }));
        fake_assert_said("session 9: ack 8 1000 0\nsession 9: ack 8 0 2\n");
        assert_false(transfers_busy(t));
        assert_int_equal(n_descriptors(), world.n_descriptors);
        world.work_error = 0;

        assert_true(transfers_refuses(t));
        receive_all(9, 1000);
        fake_assert_said("session 9: ack 9 1000 0\nsession 9: ack 9 1000 1\n");
        assert_false(transfers_refuses(t));
        end();
}

static void what_became_of_storing_a_tree_is_answered(void **state) {
        static const struct {
                int error;
                const char *text, *said;
        } cases[] = {
                { -EUCLEAN, "it is torn",
                  "log 4 (-117): cannot use the tree that replica 3 sent: it is torn\nsession 9: ack 4 0 "
                  "3\n" },
                { -ENOSPC, "no space",
                  "log 4 (-28): cannot use the tree that replica 3 sent: no space\nsession 9: ack 4 0 "
                  "4\n" },
                { -EDQUOT, "no quota",
                  "log 4 (-122): cannot use the tree that replica 3 sent: no quota\nsession 9: ack 4 0 "
                  "4\n" },
                { -EIO, "no luck",
                  "log 4 (-5): cannot use the tree that replica 3 sent: no luck\nsession 9: ack 4 0 2\n" },
                { -EIO, "x",
                  "log 4 (-5): cannot use the tree that replica 3 sent: x\nsession 9: ack 4 0 2\n" },
        };
        char problem[300] = "";

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                begin();
                world.finish_error = cases[i].error;
                world.finish_text = cases[i].text;
                assert_true(receive(9, (Chunk) { 5, 4, 1000, 0, 1000 }));
                fake_assert_said("session 9: ack 4 1000 0\n");
                run_work();
                fake_assert_said(cases[i].said);
                assert_int_equal(n_descriptors(), world.n_descriptors);
                assert_true(transfers_refuses(t));
                transfers_problem(t, problem, sizeof(problem));
                assert_non_null(strstr(problem, cases[i].text));
                world.finish_text = "another text";
                assert_true(receive(9, (Chunk) { 5, 4, 1000, 0, 1000 }));
                run_work();
                assert_null(strstr(fake.said.chars, "log"));
                text_clear(&fake.said);
                transfers_problem(t, problem, sizeof(problem));
                assert_string_equal(problem, "cannot use the tree that the leader sends: another text");
                world.finish_text = ""; /* nothing but the error */
                world.finish_error = -EACCES;
                receive_all(5, 1000);
                transfers_problem(t, problem, sizeof(problem));
                assert_string_equal(problem, "cannot use the tree that the leader sends: Permission denied");
                end();
        }
}

static void a_whole_tree_is_exchanged_where_ours_differs(void **state) {
        begin();
        world.differs = true;
        receive_all(4, 1000);
        fake_assert_said("session 9: ack 4 1000 0\nsession 9: ack 4 1000 1\nexchange\n");
        end();
}

static void a_replica_that_closes_takes_no_tree(void **state) {
        begin();
        assert_true(receive(9, (Chunk) { 5, 4, 1000, 0, 1000 }));
        fake.replica.state = REPLICA_CLOSING;
        text_clear(&fake.said);
        run_work();
        fake_assert_said("work ended\n");
        assert_false(transfers_busy(t));
        assert_null(transfers_whole(t));
        assert_int_equal(n_descriptors(), world.n_descriptors + 1);
        end();
}

static void a_tree_needs_space_for_its_size_and_twice_as_much_after_it_did_not_fit(void **state) {
        enum { MANY = 16 * 1024, ROOM = 25 * 1024 };
        static const struct {
                uint64_t size, room;
                bool fits;
        } cases[] = {
                { MANY, ROOM, false },     { MANY, ROOM + 1, true }, /* more than before */
                { MANY - 1, ROOM, true },                            /* smaller than before */
                { MANY + 1, ROOM, false }, { MANY, MANY - 1, false },
        };

        begin();
        world.total = 1024 * 1024;
        world.room = 999;
        receive_all(4, 1000);
        fake_assert_said("log 4 (-28): cannot use the tree that replica 3 sent: it has 0 KiB, and 0 of "
                         "1024 KiB are free on the disk of /tree\n"
                         "session 9: ack 4 0 4\n");
        world.room = 1000;
        receive_all(5, 1000);
        fake_assert_said("session 9: ack 5 1000 0\nsession 9: ack 5 1000 1\n");
        end();

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                begin();
                world.total = 1024 * 1024;
                world.room = ROOM;
                world.finish_error = -ENOSPC;
                receive_all(4, MANY);
                world.finish_error = 0;
                text_clear(&fake.said);
                world.room = cases[i].room;
                receive_all(5, cases[i].size);
                if (cases[i].fits)
                        assert_false(transfers_refuses(t));
                else
                        fake_assert_said("session 9: ack 5 0 4\n");
                if (i == 0) {
                        char problem[300];

                        transfers_problem(t, problem, sizeof(problem));
                        assert_string_equal(problem, "cannot use the tree that the leader sends: it has "
                                                     "16 KiB, and 25 of 1024 KiB are free on the disk of "
                                                     "/tree, too few for the second copy of it");
                }
                end();
        }

        /* One that was stored ends it. */
        begin();
        world.total = 1024 * 1024;
        world.room = ROOM;
        world.finish_error = -ENOSPC;
        receive_all(4, MANY);
        world.finish_error = 0;
        receive_all(5, MANY - 1);
        receive_all(6, MANY);
        assert_false(transfers_refuses(t));
        end();

        /* Also a tree of one byte. */
        begin();
        world.total = 1024 * 1024;
        world.room = 1;
        world.finish_error = -ENOSPC;
        receive_all(4, 1);
        world.finish_error = 0;
        receive_all(5, 1);
        assert_true(transfers_refuses(t));
        end();

        /* With space for two and a sixteenth it is tried after every failure; also after a failure for
         * another reason. */
        for (unsigned i = 0; i < 4; i++) {
                begin();
                world.total = 1024 * 1024;
                world.room = i < 2 ? 2 * (MANY + MANY / 16) - (i == 0 ? 0 : 2) : ROOM;
                world.finish_error = i < 2 ? -ENOSPC : i == 2 ? -EIO : -EDQUOT;
                receive_all(4, MANY);
                world.finish_error = 0;
                receive_all(5, MANY);
                assert_int_equal(transfers_refuses(t), i == 1);
                end();
        }
}

static void without_memory_there_is_none(void **state) {
        begin();
        assert_null(transfers_free(t));
        assert_null(transfers_free(NULL));
        t = NULL;
        alloc_fail_at(1);
        assert_int_equal(transfers_new(&t, &fake.replica), -ENOMEM);
        alloc_fail_at(0);
        assert_null(t);
        end();
}

int main(void) {
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_tree_is_sent_in_a_window_of_chunks_from_the_loop),
                cmocka_unit_test(a_silent_follower_is_sent_all_again_after_10_s),
                cmocka_unit_test(one_that_may_not_be_begun_again_waits_with_each_step),
                cmocka_unit_test(each_descriptor_will_do),
                cmocka_unit_test(a_chunk_that_was_missed_is_sent_again_at_most_each_step),
                cmocka_unit_test(a_chunk_that_cannot_be_sent_is_tried_with_the_next_step),
                cmocka_unit_test(a_chunk_that_cannot_be_read_is_not_sent),
                cmocka_unit_test(a_transfer_without_memory_is_tried_with_the_next_step),
                cmocka_unit_test(a_tree_that_has_come_is_confirmed_each_second_and_sent_again_after_30),
                cmocka_unit_test(a_transfer_ends_once_the_log_has_passed_it),
                cmocka_unit_test(a_checkpoint_is_made_where_there_is_none_that_is_new_enough),
                cmocka_unit_test(nothing_is_sent_while_the_tree_may_be_another_one),
                cmocka_unit_test(a_transfer_ends_with_the_leadership_and_the_membership),
                cmocka_unit_test(one_of_a_later_term_replaces_that_of_an_earlier_one),
                cmocka_unit_test(four_followers_are_sent_trees_at_a_time),
                cmocka_unit_test(one_whose_tree_differs_gets_no_message_of_the_log),
                cmocka_unit_test(a_refused_tree_is_sent_again_after_a_second),
                cmocka_unit_test(nothing_of_a_refused_tree_is_sent_before),
                cmocka_unit_test(a_tree_without_space_is_sent_again_after_10_s_and_logged_once),
                cmocka_unit_test(a_damaged_checkpoint_is_given_up_unless_there_is_another_one),
                cmocka_unit_test(chunks_come_in_their_order_and_are_acknowledged),
                cmocka_unit_test(a_tree_that_was_taken_by_the_log_is_not_whole_any_more),
                cmocka_unit_test(frames_that_cannot_be_are_no_sign_of_a_leader),
                cmocka_unit_test(a_tree_that_cannot_be_stored_is_rejected_and_the_reason_logged_once),
                cmocka_unit_test(what_became_of_storing_a_tree_is_answered),
                cmocka_unit_test(a_whole_tree_is_exchanged_where_ours_differs),
                cmocka_unit_test(a_replica_that_closes_takes_no_tree),
                cmocka_unit_test(a_tree_needs_space_for_its_size_and_twice_as_much_after_it_did_not_fit),
                cmocka_unit_test(without_memory_there_is_none),
        };

        return cmocka_run_group_tests_name("raft_transfer", tests, NULL, NULL);
}
