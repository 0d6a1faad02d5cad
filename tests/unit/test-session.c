/* One session over a stream that the test plays: what it says and how it ends where a write fails, the other
 * side stalls or lies, and memory is short. */

#include "tests/lib/test.h"
#include "peers/session.h"
#include "tests/lib/alloc.h"
#include "tests/lib/manual_loop.h"

enum { LARGE = 5000 }; /* bytes; larger than a frame on the stack */

typedef struct Bench {
        Stream stream;
        ManualLoop loop;
        PeerSession *session;
        PeerHandshake self, other;
        SessionContext context;
        size_t queued, n_written; /* bytes */
        int write_error;
        bool paused, closed, finished, freed;
        unsigned n_handshakes, n_ends, n_frames, cut_at;
        uint64_t work; /* bytes, of each frame */
        int error;
        char reason[128];
} Bench;

static int bench_write(Stream *s, const void *bytes, size_t size, Shared *shared) {
        Bench *b = container_of(s, Bench, stream);

        if (b->write_error < 0)
                return b->write_error;
        b->n_written += size;
        return 0;
}

static void bench_pause(Stream *s, bool paused) {
        container_of(s, Bench, stream)->paused = paused;
}

static void bench_close(Stream *s) {
        container_of(s, Bench, stream)->closed = true;
}

static void bench_finish(Stream *s) {
        container_of(s, Bench, stream)->finished = true;
}

static size_t bench_queued(const Stream *s) {
        return container_of(s, const Bench, stream)->queued;
}

static const StreamOps stream_ops = {
        .write = bench_write,
        .pause = bench_pause,
        .close = bench_close,
        .finish = bench_finish,
        .queued = bench_queued,
};

static void on_handshake(void *userdata, PeerSession *s) {
        ((Bench *) userdata)->n_handshakes++;
}

static void on_end(void *userdata, PeerSession *s, int error, const char *reason) {
        Bench *b = userdata;

        b->n_ends++;
        b->error = error;
        snprintf(b->reason, sizeof(b->reason), "%s", reason);
}

static void on_free(void *userdata, PeerSession *s) {
        ((Bench *) userdata)->freed = true;
}

static void on_other(void *userdata, PeerSession *s) {}

static void on_frame(void *userdata, PeerSession *s, const Frame *frame) {
        Bench *b = userdata;

        loop_count(&b->loop.base, 0, b->work);
        if (++b->n_frames == b->cut_at)
                session_cut(s, -EKEYREVOKED, "its rights ended");
}

static const SessionEvents events = {
        .on_handshake = on_handshake,
        .on_frame = on_frame,
        .on_pong = on_other,
        .on_end = on_end,
        .on_free = on_free,
};

enum { TYPE_REQUEST = 10, TYPE_ANSWER, TYPE_OF_REPLICAS, TYPE_UNKNOWN };

static const PeerFrameRule types[PEER_FRAME_TYPES] = {
        [TYPE_REQUEST] = { PEER_REQUEST },
        [TYPE_ANSWER] = { PEER_ANSWER },
        [TYPE_OF_REPLICAS] = { PEER_ANSWER | PEER_FROM_REPLICAS },
};

static PeerHandshake handshake_of(char digit, uint64_t nonce) {
        PeerHandshake handshake = { .cluster_id = 0xc1, .lineage = 0x11, .start_number = 1, .nonce = nonce };

        memset(handshake.machine_id, digit, 32);
        memset(handshake.boot_id, '1', 32);
        snprintf(handshake.address, sizeof(handshake.address), "127.0.0.1:1");
        snprintf(handshake.name, sizeof(handshake.name), "%c", digit);
        return handshake;
}

static int begin(Bench *b, bool dialed) {
        *b = (Bench) { .stream = { .ops = &stream_ops, .peer_address = "127.0.0.1:1" },
                       .write_error = b->write_error };
        manual_loop_init(&b->loop, 1);
        b->self = handshake_of('a', 1);
        b->other = handshake_of('b', 2);
        b->context = (SessionContext) {
                .loop = &b->loop.base, .self = &b->self, .types = types, .events = &events, .userdata = b
        };
        return session_new(&b->session, &b->context, &b->stream, dialed, false);
}

static void say(Bench *b, PeerFrame type, const void *payload, size_t size) {
        _cleanup_free_ uint8_t *bytes = malloc(FRAME_HEADER_SIZE + size);

        frame_header(bytes, type, size);
        memcpy(bytes + FRAME_HEADER_SIZE, payload, size);
        b->stream.events->on_read(b->session, bytes, FRAME_HEADER_SIZE + size);
}

static void receive_handshake(Bench *b, const PeerHandshake *handshake) {
        _cleanup_writer_ Writer w = {};

        handshake_write(&w, handshake);
        say(b, PEER_HANDSHAKE, w.bytes, w.size);
}

static void begin_open(Bench *b) {
        assert_int_equal(begin(b, true), 0);
        receive_handshake(b, &b->other);
        assert_int_equal(b->n_handshakes, 1);
        session_open(b->session);
        assert_int_equal(b->session->state, SESSION_OPEN);
        assert_false(timer_armed(&b->session->timer) || b->paused);
}

static void done(Bench *b) {
        if (b->session->state != SESSION_ENDED)
                session_cut(b->session, 0, "the test is over");
        assert_true(b->closed || b->finished);
        assert_int_equal(b->n_ends, 1);
        assert_false(b->freed);
        b->stream.events->on_close(b->session, 0, NULL);
        assert_true(b->freed);
        loop_done(&b->loop.base);
}

static void fire(Timer *timer) {
        assert_true(timer_armed(timer));
        timer_stop(timer);
        timer->fire(timer->userdata);
}

static void assert_ended(const Bench *b, int error, const char *reason) {
        assert_int_equal(b->session->state, SESSION_ENDED);
        assert_int_equal(b->error, error);
        assert_string_equal(b->reason, reason);
}

/* -- */

static void a_session_does_not_begin_if_its_handshake_cannot_be_sent(void **state) {
        static const struct {
                int write_error, error;
        } cases[] = { { -EPIPE, -ENOTCONN }, { -ENOMEM, -ENOMEM } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                Bench b = { .write_error = cases[i].write_error };

                assert_int_equal(begin(&b, true), cases[i].error);
                assert_null(b.session);
                assert_null(b.stream.events);
                assert_true(b.closed);
                assert_int_equal(b.n_ends, 0);
                loop_done(&b.loop.base);
        }
}

static void without_memory_a_session_does_not_begin_and_its_stream_is_closed(void **state) {
        unsigned failures = 0;

        for (bool failed = true; failed; failures++) {
                Bench b = {};
                int r;

                alloc_fail_at(failures + 1);
                r = begin(&b, true);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                assert_int_equal(r, failed ? -ENOMEM : 0);
                assert_int_equal(b.closed, failed);
                if (failed)
                        loop_done(&b.loop.base);
                else
                        done(&b);
        }
        assert_true(failures > 2); /* the session, its timer, its handshake */
}

static void a_session_that_cannot_answer_a_handshake_ends(void **state) {
        _cleanup_(done) Bench b = {};

        assert_int_equal(begin(&b, false), 0);
        receive_handshake(&b, &b.other);
        b.write_error = -ENOMEM;
        session_open(b.session);
        assert_ended(&b, -ENOMEM, "Failed to send the handshake");
}

static void a_full_queue_is_kept_while_it_makes_progress(void **state) {
        _cleanup_(done) Bench b = {};

        begin_open(&b);
        b.session->written = 2 * PEER_QUEUE_MAX;
        b.stream.held = b.queued = PEER_QUEUE_MAX;
        assert_int_equal(peer_reply(b.session, PEER_PING, NULL, 0), -ENOBUFS);
        b.queued -= 1;
        fire(&b.session->stall); /* more than half is still queued */
        assert_true(timer_armed(&b.session->stall));
        b.queued -= 1;
        b.stream.held = PEER_QUEUE_MAX / 2;
        b.session->waiting_size = 0;
        fire(&b.session->stall);
        assert_false(timer_armed(&b.session->stall));
        assert_int_equal(b.session->state, SESSION_OPEN);

        b.stream.held = PEER_QUEUE_MAX;
        assert_int_equal(peer_reply(b.session, PEER_PING, "x", 1), -ENOBUFS);
        fire(&b.session->stall);
        assert_ended(&b, -ETIMEDOUT, "send queue full for 5 s without progress");
}

static void an_open_session_keeps_its_identity(void **state) {
        for (unsigned i = 0; i < 4; i++) {
                _cleanup_(done) Bench b = {};
                PeerHandshake again;

                begin_open(&b);
                again = b.other;
                again.raft_id = 7;
                if (i == 1)
                        again.machine_id[31] = 'c';
                else if (i == 2)
                        again.boot_id[31] = '2';
                else if (i == 3)
                        again.nonce++;
                receive_handshake(&b, &again);
                assert_int_equal(b.n_handshakes, i == 0 ? 2 : 1);
                if (i == 0)
                        assert_int_equal(peer_handshake(b.session)->raft_id, 7);
                else
                        assert_ended(&b, -EBADMSG, "invalid handshake: identity changed on an open session");
        }
}

static void an_invalid_rejection_ends_the_session(void **state) {
        _cleanup_(done) Bench b = {};

        assert_int_equal(begin(&b, true), 0);
        say(&b, PEER_REJECTED, "", 0);
        assert_ended(&b, -EBADMSG, "invalid rejection from peer");
}

static void a_failed_send_is_an_error_or_ends_the_session(void **state) {
        static char large[LARGE];
        _cleanup_(done) Bench b = {};

        begin_open(&b);
        b.write_error = -EPIPE;
        assert_int_equal(peer_reply(b.session, PEER_PING, NULL, 0), -ENOTCONN);
        b.write_error = 0;
        for (unsigned waits = 0; waits < 2; waits++) { /* for its frame; in its queue */
                b.queued = waits ? PEER_QUEUE_MAX : 0;
                alloc_fail_at(1);
                assert_int_equal(peer_reply(b.session, TYPE_REQUEST, large, sizeof(large)), -ENOMEM);
                alloc_fail_at(0);
        }
        assert_int_equal(peer_queued(b.session), 0);
        assert_int_equal(peer_reply(b.session, TYPE_REQUEST, large, sizeof(large)), 0);
        assert_in_range(peer_queued(b.session), sizeof(large) + FRAME_HEADER_SIZE, sizeof(large) + 64);
        b.queued = 0;
        b.write_error = -ENOMEM;
        assert_int_equal(peer_reply(b.session, PEER_PING, NULL, 0), -ENOMEM);
        assert_int_equal(b.session->state, SESSION_OPEN);
        b.stream.events->on_drain(b.session);
        assert_ended(&b, -ENOMEM, "out of memory for waiting frames");
}

static void without_memory_for_part_of_a_frame_the_session_ends(void **state) {
        uint8_t head[FRAME_HEADER_SIZE];
        _cleanup_(done) Bench b = {};

        begin_open(&b);
        frame_header(head, PEER_PING, 8);
        alloc_fail_at(1);
        b.stream.events->on_read(b.session, head, sizeof(head));
        alloc_fail_at(0);
        assert_ended(&b, -ENOMEM, "out of memory for a frame from peer");
}

static void the_last_frame_has_limited_time_to_be_sent(void **state) {
        Bench b = {};

        begin_open(&b);
        session_bye(b.session, "stop");
        assert_true(b.finished && !b.closed);
        assert_ended(&b, 0, "closed by this host");
        fire(&b.session->timer);
        assert_true(b.closed);
        done(&b);

        begin_open(&b);
        b.write_error = -EPIPE; /* the last frame cannot be sent */
        session_bye(b.session, "stop");
        assert_true(b.closed && !b.finished);
        done(&b);
        b.write_error = 0;
}

static void a_handshake_may_arrive_byte_by_byte(void **state) {
        _cleanup_writer_ Writer w = {};
        uint8_t head[FRAME_HEADER_SIZE];
        _cleanup_(done) Bench b = {};

        assert_int_equal(begin(&b, false), 0);
        assert_string_equal(b.session->address, "127.0.0.1:1");
        handshake_write(&w, &b.other);
        frame_header(head, PEER_HANDSHAKE, w.size);
        for (size_t i = 0; i < sizeof(head); i++)
                b.stream.events->on_read(b.session, head + i, 1);
        for (size_t i = 0; i < w.size; i++)
                b.stream.events->on_read(b.session, w.bytes + i, 1);
        assert_int_equal(b.n_handshakes, 1);
        assert_string_equal(peer_handshake(b.session)->machine_id, b.other.machine_id);
}

static void waiting_frames_are_sent_when_the_stream_drains(void **state) {
        _cleanup_(done) Bench b = {};
        size_t before;

        begin_open(&b);
        before = b.n_written;
        assert_int_equal(peer_reply(b.session, PEER_PING, NULL, 0), 0);
        assert_int_equal(b.n_written - before, FRAME_HEADER_SIZE);
        b.queued = PEER_QUEUE_MAX;
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(peer_reply(b.session, TYPE_REQUEST, "abc", 3), 0);
        assert_int_equal(b.n_written - before, FRAME_HEADER_SIZE);
        b.queued = 0;
        b.stream.events->on_drain(b.session);
        assert_int_equal(b.n_written - before, FRAME_HEADER_SIZE + 3 * (FRAME_HEADER_SIZE + 3));
        assert_int_equal(peer_queued(b.session), 0);
}

/* A frame without payload has 5 bytes on the wire and far more in memory: the limit is one of memory. */
static void small_frames_count_with_their_memory(void **state) {
        enum { LEFT = 1024 * 1024, RECORD = 40 /* bytes: links, type, size, and the allocation itself */ };
        unsigned n = 0;
        _cleanup_(done) Bench b = {};

        begin_open(&b);
        b.queued = b.stream.held = PEER_QUEUE_MAX - LEFT;
        while (peer_reply(b.session, TYPE_REQUEST, "x", n % 2) == 0)
                n++;
        assert_in_range(n, LEFT / 100, LEFT / RECORD);
        assert_int_equal(peer_reply(b.session, TYPE_REQUEST, "", 0), -ENOBUFS);
        assert_in_range(peer_queued(b.session), PEER_QUEUE_MAX - 100, PEER_QUEUE_MAX);
        b.queued = b.stream.held = 0;
        b.stream.events->on_drain(b.session);
        assert_int_equal(peer_queued(b.session), 0);
}

/* -- A turn of the loop -- */

static void next_turn(Bench *b) {
        (void) turns_end_work(&b->loop.base.turns);
        (void) loop_run_due(&b->loop.base, 100);
}

/* One read: 'n' frames of 'size' bytes of one type, and 'rest' bytes of another frame. */
static void receive(Bench *b, PeerFrame type, size_t n, size_t size, size_t rest) {
        size_t each = FRAME_HEADER_SIZE + size;
        _cleanup_free_ uint8_t *bytes = calloc(n + 1, each);

        for (size_t i = 0; i <= n; i++)
                frame_header(bytes + i * each, type, size);
        b->stream.events->on_read(b->session, bytes, n * each + rest);
}

static void a_session_has_a_share_of_each_turn(void **state) {
        enum { KIB = 1024, N = 200 };
        static const struct {
                PeerFrame type;
                bool is_replica;
                size_t n, size, rest;
                uint64_t work;
                unsigned each; /* frames that a turn processes */
        } cases[] = {
                { TYPE_ANSWER, false, N, 0, 0, 0, SESSION_TURN_FRAMES },
                { TYPE_ANSWER, false, N, 40, 0, 0, SESSION_TURN_FRAMES },
                { TYPE_ANSWER, false, N, 40, 44, 0, SESSION_TURN_FRAMES }, /* the last one is cut */
                { TYPE_ANSWER, true, N, 40, 0, 0, SESSION_TURN_FRAMES },
                { TYPE_ANSWER, false, N, 0, 0, 300 * KIB, 4 },
                { TYPE_ANSWER, false, 9, 600 * KIB, 0, 0, 2 },
                { TYPE_ANSWER, false, 3, 5 * KIB * KIB, 0, 0, 1 },
                { TYPE_OF_REPLICAS, false, N, 40, 0, 0, SESSION_TURN_FRAMES },
                { TYPE_OF_REPLICAS, true, N, 40, 44, 300 * KIB, N },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                unsigned due = 0;
                _cleanup_(done) Bench b = {};

                begin_open(&b);
                b.session->is_replica = cases[i].is_replica;
                b.work = cases[i].work;
                (void) turns_end_work(&b.loop.base.turns);
                receive(&b, cases[i].type, cases[i].n, cases[i].size, cases[i].rest);
                for (;;) {
                        due = MIN(due + cases[i].each, (unsigned) cases[i].n);
                        assert_int_equal(b.n_frames, due);
                        assert_int_equal(b.paused, due < cases[i].n);
                        (void) loop_run_due(&b.loop.base, 100); /* of the same turn */
                        assert_int_equal(b.n_frames, due);
                        if (due == cases[i].n)
                                break;
                        next_turn(&b);
                }
                if (cases[i].rest > 0) /* its last byte */
                        b.stream.events->on_read(b.session, "",
                                                 FRAME_HEADER_SIZE + cases[i].size - cases[i].rest);
                next_turn(&b);
                assert_int_equal(b.n_frames, cases[i].n + (cases[i].rest > 0));
                assert_int_equal(b.session->n_bytes, 0);
        }
}

static void frames_of_the_session_and_unknown_ones_have_the_same_share(void **state) {
        static const PeerFrame used[] = { PEER_PING, PEER_PONG, TYPE_UNKNOWN, 255 };

        for (size_t i = 0; i < ELEMENTS(used); i++) {
                _cleanup_(done) Bench b = {};

                begin_open(&b);
                (void) turns_end_work(&b.loop.base.turns);
                receive(&b, used[i], SESSION_TURN_FRAMES, 0, 0);
                assert_false(b.paused);
                receive(&b, TYPE_ANSWER, 1, 0, 0);
                assert_true(b.paused);
                assert_int_equal(b.n_frames, 0);
                next_turn(&b);
                assert_int_equal(b.n_frames, 1);
        }
}

/* In the turn in which it ends, or while its frames wait for the next one. */
static void a_session_whose_rights_end_processes_no_further_frame(void **state) {
        static const unsigned ends[] = { 3, 2 * SESSION_TURN_FRAMES };

        for (size_t i = 0; i < ELEMENTS(ends); i++) {
                unsigned at = ends[i];
                _cleanup_(done) Bench b = {};

                begin_open(&b);
                (void) turns_end_work(&b.loop.base.turns);
                if (at < SESSION_TURN_FRAMES)
                        b.cut_at = at;
                receive(&b, TYPE_ANSWER, 3 * SESSION_TURN_FRAMES, 0, 0);
                if (at > SESSION_TURN_FRAMES) {
                        next_turn(&b);
                        assert_int_equal(b.n_frames, at);
                        session_cut(b.session, -EKEYREVOKED, "its rights ended");
                }
                next_turn(&b);
                assert_int_equal(b.n_frames, at);
                assert_ended(&b, -EKEYREVOKED, "its rights ended");
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_session_does_not_begin_if_its_handshake_cannot_be_sent),
                cmocka_unit_test(without_memory_a_session_does_not_begin_and_its_stream_is_closed),
                cmocka_unit_test(a_session_that_cannot_answer_a_handshake_ends),
                cmocka_unit_test(a_full_queue_is_kept_while_it_makes_progress),
                cmocka_unit_test(small_frames_count_with_their_memory),
                cmocka_unit_test(an_open_session_keeps_its_identity),
                cmocka_unit_test(an_invalid_rejection_ends_the_session),
                cmocka_unit_test(a_failed_send_is_an_error_or_ends_the_session),
                cmocka_unit_test(without_memory_for_part_of_a_frame_the_session_ends),
                cmocka_unit_test(the_last_frame_has_limited_time_to_be_sent),
                cmocka_unit_test(a_handshake_may_arrive_byte_by_byte),
                cmocka_unit_test(waiting_frames_are_sent_when_the_stream_drains),
                cmocka_unit_test(a_session_has_a_share_of_each_turn),
                cmocka_unit_test(frames_of_the_session_and_unknown_ones_have_the_same_share),
                cmocka_unit_test(a_session_whose_rights_end_processes_no_further_frame),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
