/* Calls at both ends, as tables: in each state, what each event does, which frames leave, and the state that
 * follows. */

#include "tests/lib/test.h"
#include "base/text.h"
#include "peers/call.h"
#include "tests/lib/alloc.h"
#include "tests/lib/manual_loop.h"

enum {
        CHUNK = PEER_FORWARD_CHUNK,
        HEAD = PEER_FORWARD_HEAD,
        CANCEL = PEER_FORWARD_CANCEL,
        CREDIT = PEER_FORWARD_CREDIT
};

/* -- Sessions: the first two are open -- */

typedef struct Bench {
        ManualLoop loop;
        Calls calls;
        Text said; /* what was sent, and the events */
        PeerHandler handlers[PEER_FRAME_TYPES];
        PeersObserver *observer;
        bool ended[3], full;
} Bench;

static Bench bench;
static int sessions[3];

static PeerSession *session(uint64_t number) {
        return (PeerSession *) &sessions[number];
}

void __wrap_peers_register(Peers *peers, const PeerFrameType *types, size_t n, void *userdata);
void __wrap_peers_register(Peers *peers, const PeerFrameType *types, size_t n, void *userdata) {
        for (size_t i = 0; i < n; i++)
                bench.handlers[types[i].type] = types[i].handler;
}

void __wrap_peers_unregister(Peers *peers, const PeerFrameType *types, size_t n);
void __wrap_peers_unregister(Peers *peers, const PeerFrameType *types, size_t n) {
        for (size_t i = 0; i < n; i++)
                bench.handlers[types[i].type] = NULL;
}

void __wrap_peers_observe(Peers *peers, PeersObserver *observer);
void __wrap_peers_observe(Peers *peers, PeersObserver *observer) {
        bench.observer = observer;
}

void __wrap_peers_unobserve(PeersObserver *observer);
void __wrap_peers_unobserve(PeersObserver *observer) {
        bench.observer = NULL;
}

uint64_t __wrap_peer_number(const PeerSession *s);
uint64_t __wrap_peer_number(const PeerSession *s) {
        return (uint64_t) ((const int *) s - sessions);
}

PeerSession *__wrap_peers_session(Peers *peers, uint64_t number);
PeerSession *__wrap_peers_session(Peers *peers, uint64_t number) {
        return bench.ended[number] ? NULL : session(number);
}

int __wrap_peer_reply(PeerSession *s, PeerFrame type, const void *payload, size_t size);
int __wrap_peer_reply(PeerSession *s, PeerFrame type, const void *payload, size_t size) {
        Reader in = reader_over(payload, size);

        if (bench.full)
                return -ENOBUFS;
        text_printf(&bench.said, "%u>%u:%u", (unsigned) __wrap_peer_number(s), type, read_u32(&in));
        if (in.left > 0)
                text_printf(&bench.said, "=%u", (unsigned) read_u64(&in));
        text_append(&bench.said, " ");
        return 0;
}

static void end_session(uint64_t number) {
        bench.ended[number] = true;
        bench.observer->on_end(bench.observer->userdata, session(number));
        assert_int_equal(bench.said.size, 0); /* the events are deferred */
}

static void receive(uint64_t from, PeerFrame type, size_t before, uint32_t number, uint64_t value,
                    size_t size) {
        _cleanup_writer_ Writer w = {};

        for (size_t i = 0; i < before; i++)
                write_u8(&w, 1);
        write_u32(&w, number);
        if (size > 4)
                write_le(&w, value, MIN(size - 4, sizeof(value)));
        for (size_t i = 12; i < size; i++)
                write_u8(&w, 0);
        bench.handlers[type](&bench.calls, session(from), type, w.bytes, before + size);
}

/* -- The host that asks -- */

static void on_chunk(Call *call, const void *payload, size_t size) {
        text_printf(&bench.said, "chunk%zu ", size);
}

static void on_head(Call *call, const void *payload, size_t size) {
        text_append(&bench.said, "head ");
        call_end(call);
}

static void on_lost(Call *call) {
        text_append(&bench.said, call->session == 0 ? "lost " : "lost, but sent ");
}

static void on_due(Call *call) {
        text_append(&bench.said, "due ");
}

static void on_credit(Served *s) {
        text_printf(&bench.said, "credit%u ", (unsigned) s->credit);
}

static void on_gone(Served *s) {
        text_append(&bench.said, "gone ");
        served_remove(s);
}

static const CallType type = { .number_size = sizeof(uint32_t),
                               .cancel = CANCEL,
                               .credit = CREDIT,
                               .answers = { { CHUNK, 0, on_chunk }, { HEAD, 1, on_head } },
                               .on_lost = on_lost,
                               .on_due = on_due,
                               .on_credit = on_credit,
                               .on_gone = on_gone };

static int setup(void **state) {
        bench = (Bench) {};
        manual_loop_init(&bench.loop, 1);
        calls_open(&bench.calls, &bench.loop.base, (Peers *) &bench, &type);
        return 0;
}

static int teardown(void **state) {
        calls_close(&bench.calls);
        assert_null(bench.observer);
        for (size_t i = 0; i < PEER_FRAME_TYPES; i++)
                assert_null(bench.handlers[i]);
        text_done(&bench.said);
        loop_done(&bench.loop.base);
        return 0;
}

static void run(void) {
        while (loop_run_due(&bench.loop.base, 100))
                ;
}

static int ask(Call *call, uint64_t to) {
        _cleanup_writer_ Writer w = {};

        write_u32(&w, (uint32_t) call_number(call));
        return call_send(call, session(to), PEER_FORWARD, &w);
}

typedef enum State { NEW, SENT, ENDED, LOST, _STATE_MAX } State;

typedef enum Event {
        ANSWER,
        LAST_ANSWER,
        OTHER_NUMBER,
        OTHER_SESSION,
        CUT_ANSWER,
        SESSION_ENDS,
        TIME_PASSES,
        TAKEN_A_BIT,
        TAKEN_HALF,
        CREDIT_AS_GIVEN,
        CANCELLED,
        SENT_AGAIN,
        _EVENT_MAX
} Event;

static void happen(Call *call, Event event) {
        switch (event) {
        case ANSWER:
                receive(1, CHUNK, 0, 1, 7, 6);
                break;
        case LAST_ANSWER:
                receive(1, HEAD, 1, 1, 0, 4);
                break;
        case OTHER_NUMBER:
                receive(1, CHUNK, 0, 2, 0, 4);
                break;
        case OTHER_SESSION:
                receive(2, CHUNK, 0, 1, 0, 4);
                break;
        case CUT_ANSWER:
                receive(1, HEAD, 1, 1, 0, 3);
                break;
        case SESSION_ENDS:
                end_session(1);
                break;
        case TIME_PASSES:
                bench.loop.now_ms += 100;
                break;
        case TAKEN_A_BIT:
                assert_int_equal(call_grant(call, 499), 0);
                break;
        case TAKEN_HALF:
                assert_int_equal(call_grant(call, 500), 0);
                break;
        case CREDIT_AS_GIVEN:
                assert_int_equal(call_credit(call, 4000), 0);
                break;
        case CANCELLED:
                call_cancel(call);
                break;
        case SENT_AGAIN:
                call_end(call);
                assert_int_equal(ask(call, 2), 0);
                break;
        case _EVENT_MAX:
                break;
        }
        run();
}

static void a_call_does_in_each_state_what_the_table_says(void **state) {
        /* The window is 1000 bytes, the time 100 ms. 52 cancels, 53 gives credit. */
        static const struct {
                const char *does;
                bool under_way; /* afterwards */
        } table[_STATE_MAX][_EVENT_MAX] = {
                [NEW] = { [TIME_PASSES] = { "due " }, [SENT_AGAIN] = { "2>48:1 2>53:1=1000 ", true } },
                [SENT] = { [ANSWER] = { "chunk6 ", true },
                           [LAST_ANSWER] = { "head " },
                           [OTHER_NUMBER] = { "", true },
                           [OTHER_SESSION] = { "", true },
                           [CUT_ANSWER] = { "", true },
                           [SESSION_ENDS] = { "lost " },
                           [TIME_PASSES] = { "due ", true },
                           [TAKEN_A_BIT] = { "", true },
                           [TAKEN_HALF] = { "1>53:1=1500 ", true },
                           [CREDIT_AS_GIVEN] = { "1>53:1=4000 ", true },
                           [CANCELLED] = { "1>52:1 " },
                           [SENT_AGAIN] = { "2>48:2 2>53:2=1000 ", true } },
                [ENDED] = { [SENT_AGAIN] = { "2>48:2 2>53:2=1000 ", true } },
                [LOST] = { [SENT_AGAIN] = { "2>48:2 2>53:2=1000 ", true } },
        };

        for (State s = 0; s < _STATE_MAX; s++)
                for (Event e = 0; e < _EVENT_MAX; e++) {
                        Call call;

                        (void) teardown(state);
                        (void) setup(state);
                        call_init(&call, &bench.calls, 1000);
                        if (s != NEW)
                                assert_int_equal(ask(&call, 1), 0);
                        assert_int_equal(call_wait(&call, 100), 0);
                        if (s == ENDED)
                                call_end(&call);
                        if (s == LOST)
                                happen(&call, (text_clear(&bench.said), SESSION_ENDS));
                        text_clear(&bench.said);
                        happen(&call, e);
                        if (!streq(bench.said.chars ?: "", table[s][e].does ?: "") ||
                            (call.session > 0) != table[s][e].under_way)
                                fail_msg("state %d, event %d: '%s', session %llu", (int) s, (int) e,
                                         bench.said.chars, (unsigned long long) call.session);
                        call_end(&call);
                }
}

static void a_call_that_cannot_be_sent_is_not_under_way(void **state) {
        Call call;

        call_init(&call, &bench.calls, 1000);
        assert_int_equal(call_wait(&call, 100), 0);
        bench.full = true;
        assert_int_equal(ask(&call, 1), -ENOBUFS);
        assert_int_equal(call_send(&call, NULL, PEER_FORWARD, &(Writer) {}), -ENOTCONN);
        assert_int_equal(call_send(&call, session(1), PEER_FORWARD, &(Writer) { .error = -ENOMEM }), -ENOMEM);
        assert_int_equal(call.session, 0);
        happen(&call, TIME_PASSES); /* it still has its time */
        assert_string_equal(bench.said.chars, "due ");
}

/* Numbers of four bytes begin again. */
static void a_number_fits_into_its_field(void **state) {
        Call call;

        call_init(&call, &bench.calls, 0);
        bench.calls.numbers = UINT32_MAX;
        (void) call_number(&call);
        assert_int_equal(call_number(&call), 1);
}

/* -- The host that is asked -- */

static void requests_are_found_by_session_and_number(void **state) {
        Served a, b, c;

        assert_null(served_of(&bench.calls, session(1)));
        assert_int_equal(served_add(&a, &bench.calls, session(1), 7), 0);
        assert_int_equal(served_add(&b, &bench.calls, session(1), 8), 0);
        assert_int_equal(served_add(&c, &bench.calls, session(2), 7), 0);
        assert_int_equal(served_of(&bench.calls, session(1))->n, 2);
        assert_ptr_equal(served_find(&bench.calls, session(2), 7), &c);
        assert_null(served_find(&bench.calls, session(2), 8));

        receive(1, CREDIT, 0, 8, 50, 12);
        receive(1, CREDIT, 0, 8, 40, 12); /* it does not fall */
        receive(1, CREDIT, 0, 9, 90, 12);
        receive(1, CREDIT, 0, 8, 90, 11);
        receive(1, CREDIT, 0, 8, 90, 12 + 1);
        receive(1, CANCEL, 0, 7, 0, 4 + 1);
        assert_string_equal(bench.said.chars, "credit50 credit50 ");
        receive(1, CANCEL, 0, 7, 0, 4);
        receive(1, CANCEL, 0, 7, 0, 4);
        assert_string_equal(bench.said.chars, "credit50 credit50 gone ");
        assert_ptr_equal(TAILQ_FIRST(&bench.calls.served), &b);

        text_clear(&bench.said);
        end_session(1);
        run();
        assert_string_equal(bench.said.chars, "gone ");
        assert_null(served_session(&b));
        assert_int_equal(served_send(&b, CHUNK, &(Writer) {}), -ENOTCONN);
        served_remove(&b); /* once more */
        assert_ptr_equal(served_session(&c), session(2));
        served_remove(&c);
}

static void nothing_is_added_without_memory(void **state) {
        Served s;

        alloc_fail_at(1);
        assert_int_equal(served_add(&s, &bench.calls, session(1), 7), -ENOMEM);
        alloc_fail_at(0);
        assert_null(served_of(&bench.calls, session(1)));
}

int main(void) {
        const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                TEST(a_call_does_in_each_state_what_the_table_says),
                TEST(a_call_that_cannot_be_sent_is_not_under_way),
                TEST(a_number_fits_into_its_field),
                TEST(requests_are_found_by_session_and_number),
                TEST(nothing_is_added_without_memory),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
