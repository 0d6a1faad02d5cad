/* The loop: its order (pure, over a clock of the test's own), and libuv's half on real time, descriptors,
 * processes. */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/lib/test.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/child_uv.h"
#include "io/loop_uv.h"

/* -- A loop in virtual time -- */

typedef struct TestLoop {
        Loop base;
        uint64_t now_ms, woken_at_ms;
        unsigned wakes;
        char transcript[256];
} TestLoop;

static uint64_t test_now_ms(const Loop *loop) {
        return container_of((Loop *) loop, TestLoop, base)->now_ms;
}

static void test_wake_at(Loop *loop, uint64_t due_ms) {
        TestLoop *t = container_of(loop, TestLoop, base);

        t->woken_at_ms = due_ms;
        t->wakes++;
}

static const LoopOps test_ops = { .now_ms = test_now_ms, .wall_ms = test_now_ms, .wake_at = test_wake_at };

typedef struct AssignmentRecord {
        TestLoop *t;
        char name;
        Timer timer;
        Deferred deferred;
        int again; /* what it does when it runs: rearm or defer itself so often */
} AssignmentRecord;

static void note_fire(void *userdata) {
        AssignmentRecord *n = userdata;
        size_t used = strlen(n->t->transcript);

        n->t->transcript[used] = n->name;
        if (n->again-- > 0)
                assert_int_equal(timer_start(&n->timer, &n->t->base, 0), 0);
}

static void note_run(void *userdata) {
        AssignmentRecord *n = userdata;
        size_t used = strlen(n->t->transcript);

        n->t->transcript[used] = n->name;
        if (n->again-- > 0)
                loop_defer(&n->t->base, &n->deferred);
}

static void note_init(AssignmentRecord *n, TestLoop *t, char name) {
        *n = (AssignmentRecord) { .t = t, .name = name };
        n->timer = (Timer) { .fire = note_fire, .userdata = n };
        n->deferred = (Deferred) { .run = note_run, .userdata = n };
}

static int with_test_loop(void **state) {
        TestLoop *t = NEW0(TestLoop, 1);

        loop_init(&t->base, &test_ops, 1);
        t->now_ms = 1000;
        *state = t;
        return 0;
}

static int without_test_loop(void **state) {
        TestLoop *t = *state;

        loop_done(&t->base);
        free(t);
        return 0;
}

static void timers_fire_by_due_time_and_equal_ones_in_the_order_of_starting(void **state) {
        TestLoop *t = *state;
        AssignmentRecord a, b, c, d;

        note_init(&a, t, 'a');
        note_init(&b, t, 'b');
        note_init(&c, t, 'c');
        note_init(&d, t, 'd');
        timer_start(&a.timer, &t->base, 30);
        timer_start(&b.timer, &t->base, 10);
        timer_start(&c.timer, &t->base, 30);
        timer_start(&d.timer, &t->base, 20);
        assert_int_equal(t->woken_at_ms, 1010);

        t->now_ms = 1009;
        assert_false(loop_run_due(&t->base, 100));
        assert_string_equal(t->transcript, "");
        t->now_ms = 1030;
        assert_false(loop_run_due(&t->base, 100));
        assert_string_equal(t->transcript, "bdac");
        assert_int_equal(t->woken_at_ms, UINT64_MAX);
}

static void a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once_at_its_new_time(void **state) {
        TestLoop *t = *state;
        AssignmentRecord a, b;

        note_init(&a, t, 'a');
        note_init(&b, t, 'b');
        timer_start(&a.timer, &t->base, 10);
        timer_start(&b.timer, &t->base, 20);
        timer_stop(&a.timer);
        timer_stop(&a.timer);
        assert_false(timer_armed(&a.timer));
        assert_int_equal(t->woken_at_ms, 1020);

        timer_start(&b.timer, &t->base, 50);
        t->now_ms = 1049;
        loop_run_due(&t->base, 100);
        assert_string_equal(t->transcript, "");
        t->now_ms = 1050;
        loop_run_due(&t->base, 100);
        loop_run_due(&t->base, 100);
        assert_string_equal(t->transcript, "b");
}

static void the_earliest_of_several_times_counts_and_a_past_time_means_now(void **state) {
        static const struct {
                uint64_t due_ms, woken_at_ms;
        } rows[] = { { 1900, 1900 }, { 1901, 1900 }, { 1899, 1899 },
                     { 1001, 1001 }, { 1000, 1000 }, { 999, 1000 } };
        TestLoop *t = *state;
        AssignmentRecord a;

        note_init(&a, t, 'a');
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                assert_int_equal(timer_start_by(&a.timer, &t->base, rows[i].due_ms, 0), 0);
                assert_int_equal(t->woken_at_ms, rows[i].woken_at_ms);
        }
        timer_stop(&a.timer);
        /* With slack: the time at which the timer wakes the loop counts. */
        assert_int_equal(timer_start_by(&a.timer, &t->base, 1900, 50), 0);
        assert_int_equal(t->woken_at_ms, 1950);
        assert_int_equal(timer_start_by(&a.timer, &t->base, 1901, 50), 0);
        assert_int_equal(t->woken_at_ms, 1950);
        assert_int_equal(timer_start_by(&a.timer, &t->base, 1920, 0), 0);
        assert_int_equal(t->woken_at_ms, 1920);
        t->now_ms = 1920;
        loop_run_due(&t->base, 100);
        assert_string_equal(t->transcript, "a");
}

static void a_timer_moves_to_another_loop_and_a_delay_without_end_is_one(void **state) {
        static const struct {
                uint64_t grain_ms, delay_ms, due_ms;
        } rows[] = {
                { 0, 0, 1000 },
                { 0, 5, 1005 },
                { 1, 0, 1000 },
                { 1, 5, 1006 },
                { 0, UINT64_MAX, UINT64_MAX },
                { 1, UINT64_MAX, UINT64_MAX },
                { 1, UINT64_MAX - 1, UINT64_MAX },
                { 0, UINT64_MAX - 1000, UINT64_MAX },
                { 0, UINT64_MAX - 1001, UINT64_MAX - 1 },
        };
        TestLoop *t = *state, other = { .now_ms = 5000 };
        AssignmentRecord a;

        note_init(&a, t, 'a');
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                t->base.grain_ms = rows[i].grain_ms;
                assert_int_equal(timer_start(&a.timer, &t->base, rows[i].delay_ms), 0);
                assert_true(a.timer.due_ms == rows[i].due_ms);
        }
        loop_init(&other.base, &test_ops, 1);
        assert_int_equal(timer_start(&a.timer, &other.base, 10), 0);
        assert_int_equal(t->base.n_heap, 0);
        assert_int_equal(loop_next_due_ms(&other.base), 5010);
        assert_int_equal(loop_next_due_ms(&t->base), UINT64_MAX);
        timer_stop(&a.timer);
        loop_done(&other.base);
}

static void a_turn_has_a_budget_of_work_and_nodes_count_as_bytes(void **state) {
        TestLoop *t = *state;

        loop_count(&t->base, 3, 5);
        loop_count(&t->base, 1, 2);
        assert_int_equal(loop_turns(&t->base)->now.nodes, 4);
        assert_int_equal(loop_turns(&t->base)->now.bytes, 7);
        t->base.turns.now = (TurnWork) { 1, TURN_WORK_MAX - TURN_NODE - 1 };
        assert_true(loop_has_budget(&t->base));
        loop_count(&t->base, 0, 1);
        assert_false(loop_has_budget(&t->base));
}

static void many_timers_fire_in_order_after_random_starts_and_stops(void **state) {
        enum { N = 500 };
        TestLoop *t = *state;
        AssignmentRecord *notes = NEW0(AssignmentRecord, N);
        uint64_t last = 0;

        for (int i = 0; i < N; i++) {
                note_init(&notes[i], t, 'x');
                notes[i].timer.fire = note_fire;
        }
        for (int i = 0; i < 5000; i++) {
                AssignmentRecord *n = &notes[random_below(loop_random(&t->base), N)];

                if (random_below(loop_random(&t->base), 3) == 0)
                        timer_stop(&n->timer);
                else
                        timer_start(&n->timer, &t->base, random_below(loop_random(&t->base), 1000));
        }
        assert_true(t->base.n_heap > 0);
        while (t->base.n_heap > 0) {
                uint64_t due = loop_next_due_ms(&t->base);

                assert_true(due >= last);
                last = due;
                timer_stop(t->base.heap[0]);
        }
        free(notes);
}

/* The loop is woken at the end of the slack, and at no other time of a timer that has some. */
static void a_timer_with_slack_fires_with_others_and_alone_at_its_end(void **state) {
        TestLoop *t = *state;
        AssignmentRecord periodic, other;

        note_init(&periodic, t, 'p');
        note_init(&other, t, 'o');
        timer_start_with_slack(&periodic.timer, &t->base, 10, 20);
        assert_int_equal(t->woken_at_ms, 1030);
        t->now_ms = 1009;
        loop_run_due(&t->base, 100);
        assert_string_equal(t->transcript, "");
        timer_start(&other.timer, &t->base, 1);
        t->now_ms = 1010;
        assert_false(loop_run_due(&t->base, 100));
        assert_string_equal(t->transcript, "po");
        assert_int_equal(t->woken_at_ms, UINT64_MAX);

        timer_start_with_slack(&periodic.timer, &t->base, 10, 20);
        t->now_ms = 1040;
        assert_false(loop_run_due(&t->base, 100));
        assert_string_equal(t->transcript, "pop");

        /* Started again, it has the new time; stopped, none. */
        timer_start_with_slack(&periodic.timer, &t->base, 10, 20);
        timer_start_with_slack(&periodic.timer, &t->base, 100, 20);
        timer_start_with_slack(&other.timer, &t->base, 10, 20);
        timer_stop(&other.timer);
        t->now_ms = 1139;
        loop_run_due(&t->base, 100);
        timer_start(&periodic.timer, &t->base, 2);
        t->now_ms = 1140;
        loop_run_due(&t->base, 100);
        assert_string_equal(t->transcript, "pop");
        t->now_ms = 1141;
        loop_run_due(&t->base, 100);
        assert_string_equal(t->transcript, "popp");
}

static uint64_t thread_ns(void) {
        struct timespec t;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static uint64_t cost_of_turns_ns(TestLoop *t, unsigned turns) {
        uint64_t begun_ns = thread_ns();

        for (unsigned i = 0; i < turns; i++)
                (void) loop_run_due(&t->base, 100);
        return thread_ns() - begun_ns;
}

static void the_cost_of_a_turn_does_not_grow_with_timers_that_have_slack(void **state) {
        enum { TIMERS = 10000, TURNS = 2000 };
        TestLoop *t = *state;
        AssignmentRecord *notes = NEW0(AssignmentRecord, TIMERS);
        uint64_t alone_ns, beside_ns;

        assert_non_null(notes);
        alone_ns = cost_of_turns_ns(t, TURNS);
        for (size_t i = 0; i < TIMERS; i++) {
                note_init(&notes[i], t, 'n');
                assert_int_equal(timer_start_with_slack(&notes[i].timer, &t->base, 10, 20), 0);
        }
        beside_ns = cost_of_turns_ns(t, TURNS);
        for (size_t i = 0; i < TIMERS; i++)
                timer_stop(&notes[i].timer);
        free(notes);
        /* A visit of each is more than a thousand times as much. */
        assert_true(beside_ns < 50 * alone_ns + 1000000);
}

/* In any order of starting, and also if some are started again or stopped. */
static void timers_with_slack_fire_once_their_delay_has_passed(void **state) {
        enum { TIMERS = 200 };
        TestLoop *t = *state;
        AssignmentRecord notes[TIMERS];
        uint64_t early_ms[TIMERS] = {};
        Random random;

        random_seed(&random, 1);
        for (size_t i = 0; i < TIMERS; i++)
                note_init(&notes[i], t, 'n');
        for (unsigned step = 0; step < 5000; step++) {
                size_t i = random_below(&random, TIMERS);

                if (random_below(&random, 4) == 0) {
                        timer_stop(&notes[i].timer);
                        early_ms[i] = 0;
                } else {
                        uint64_t delay_ms = random_below(&random, 100);

                        assert_int_equal(timer_start_with_slack(&notes[i].timer, &t->base, delay_ms,
                                                                random_below(&random, 1000)),
                                         0);
                        early_ms[i] = t->now_ms + delay_ms;
                }
                if (random_below(&random, 10) > 0)
                        continue;
                t->now_ms += random_below(&random, 50);
                assert_false(loop_run_due(&t->base, TIMERS));
                memset(t->transcript, 0, sizeof(t->transcript));
                for (size_t k = 0; k < TIMERS; k++) {
                        assert_int_equal(timer_armed(&notes[k].timer), early_ms[k] > t->now_ms);
                        if (early_ms[k] <= t->now_ms)
                                early_ms[k] = 0;
                }
        }
        for (size_t i = 0; i < TIMERS; i++)
                timer_stop(&notes[i].timer);
}

static void deferred_calls_run_once_before_timers_and_what_timers_defer_after_them(void **state) {
        TestLoop *t = *state;
        AssignmentRecord a, b, gone;

        note_init(&a, t, 'a');
        note_init(&b, t, 'b');
        note_init(&gone, t, 'g');
        timer_start(&b.timer, &t->base, 0);
        loop_defer(&t->base, &a.deferred);
        loop_defer(&t->base, &gone.deferred);
        loop_defer(&t->base, &a.deferred);
        deferred_cancel(&gone.deferred);
        deferred_cancel(&gone.deferred);
        assert_int_equal(t->woken_at_ms, 1000);
        assert_false(loop_run_due(&t->base, 100));
        assert_string_equal(t->transcript, "ab");
}

static void a_call_that_defers_itself_does_not_starve_timers(void **state) {
        TestLoop *t = *state;
        AssignmentRecord greedy, timer;

        note_init(&greedy, t, 'g');
        note_init(&timer, t, 't');
        greedy.again = 1000;
        loop_defer(&t->base, &greedy.deferred);
        timer_start(&timer.timer, &t->base, 5);
        t->now_ms += 5;
        assert_true(loop_run_due(&t->base, 100));
        assert_non_null(strchr(t->transcript, 't'));
        deferred_cancel(&greedy.deferred);
}

static void the_budget_limits_a_turn_and_more_due_work_is_reported(void **state) {
        TestLoop *t = *state;
        AssignmentRecord notes[4];

        for (int i = 0; i < 4; i++) {
                note_init(&notes[i], t, 'a' + i);
                loop_defer(&t->base, &notes[i].deferred);
        }
        assert_true(loop_run_due(&t->base, 3));
        assert_string_equal(t->transcript, "abc");
        assert_false(loop_run_due(&t->base, 3));
        assert_string_equal(t->transcript, "abcd");
}

/* -- The real loop -- */

static int with_uv_loop(void **state) {
        return loop_uv_new((UvLoop **) state);
}

static int without_uv_loop(void **state) {
        *state = loop_uv_free(*state);
        return 0;
}

static void stop_loop(void *userdata) {
        loop_uv_stop(userdata);
}

typedef struct Punctual {
        UvLoop *loop;
        Timer timer;
        struct timespec started;
        int fired;
        uint64_t delay_ms;
} Punctual;

static uint64_t elapsed_us(const struct timespec *since) {
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t) (now.tv_sec - since->tv_sec) * 1000000 + now.tv_nsec / 1000 - since->tv_nsec / 1000;
}

static void punctual_fire(void *userdata) {
        Punctual *p = userdata;

        if (p->fired++ > 0)
                assert_true(elapsed_us(&p->started) >= p->delay_ms * 1000);
        if (p->fired == 20) {
                loop_uv_stop(p->loop);
                return;
        }
        /* Work that takes a while must not make the next timer early. */
        clock_gettime(CLOCK_MONOTONIC, &p->started);
        while (elapsed_us(&p->started) < 2300)
                ;
        clock_gettime(CLOCK_MONOTONIC, &p->started);
        p->delay_ms = p->fired % 5 + 1;
        timer_start(&p->timer, loop_uv_base(p->loop), p->delay_ms);
}

static void a_real_timer_is_never_early(void **state) {
        Punctual p = { .loop = *state, .timer = { .fire = punctual_fire, .userdata = &p } };

        timer_start(&p.timer, loop_uv_base(p.loop), 1);
        loop_uv_run(p.loop);
        assert_int_equal(p.fired, 20);
}

/* -- Guests -- */

typedef struct TestGuest {
        UvLoop *loop;
        Guest *guest;
        int fd, error_after;
        unsigned works, wants, deadline_ms, broken, read;
        bool periodic;
        struct timespec opened;
} TestGuest;

static int guest_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        TestGuest *g = lib;

        g->wants++;
        *fd = g->fd;
        *events = POLLIN;
        if (g->deadline_ms > 0) {
                uint64_t us = elapsed_us(&g->opened);

                *timeout_ms = us >= g->deadline_ms * 1000 ? 0 : (g->deadline_ms * 1000 - us + 999) / 1000;
        }
        return 0;
}

static int guest_work(void *lib) {
        TestGuest *g = lib;
        char c;

        g->works++;
        if (g->deadline_ms > 0 && elapsed_us(&g->opened) >= g->deadline_ms * 1000) {
                g->deadline_ms = 0;
                loop_uv_stop(g->loop);
                return 0;
        }
        if (g->fd >= 0 && recv(g->fd, &c, 1, MSG_DONTWAIT) == 1) {
                g->read++;
                if (c == 'x')
                        return -ECONNRESET;
                if (c == 'q')
                        loop_uv_stop(g->loop);
                return 1;
        }
        return 0;
}

static void guest_broken(void *lib, int error) {
        TestGuest *g = lib;

        assert_int_equal(error, -ECONNRESET);
        g->broken++;
        g->guest = guest_close(g->guest);
        loop_uv_stop(g->loop);
}

static const GuestOps guest_ops = { .wants = guest_wants, .work = guest_work, .broken = guest_broken };

static void send_q(void *userdata) {
        assert_int_equal(send(*(int *) userdata, "aaq", 3, 0), 3);
}

static void a_guest_runs_when_its_descriptor_is_ready_and_the_loop_sleeps_otherwise(void **state) {
        TestGuest g = { .loop = *state };
        int fds[2];
        Timer later = { .fire = send_q, .userdata = &fds[1] };

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        g.fd = fds[0];
        assert_int_equal(guest_open(&g.guest, g.loop, &guest_ops, &g), 0);
        timer_start(&later, loop_uv_base(g.loop), 30);
        loop_uv_run(g.loop);
        assert_int_equal(g.read, 3);
        assert_in_range(g.wants, 1, 10);
        g.guest = guest_close(g.guest);
        close(fds[0]);
        close(fds[1]);
}

static void a_guest_runs_at_its_deadline_without_busy_polling_before_it(void **state) {
        TestGuest g = { .loop = *state, .fd = -1, .deadline_ms = 25 };

        clock_gettime(CLOCK_MONOTONIC, &g.opened);
        assert_int_equal(guest_open(&g.guest, g.loop, &guest_ops, &g), 0);
        loop_uv_run(g.loop);
        assert_true(elapsed_us(&g.opened) >= 25000);
        assert_in_range(g.works, 2, 6);
        g.guest = guest_close(g.guest);
}

static void a_broken_guest_is_reported_once_and_can_be_closed_in_the_callback(void **state) {
        TestGuest g = { .loop = *state };
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        g.fd = fds[0];
        assert_int_equal(guest_open(&g.guest, g.loop, &guest_ops, &g), 0);
        assert_int_equal(send(fds[1], "x", 1, 0), 1);
        loop_uv_run(g.loop);
        assert_int_equal(g.broken, 1);
        assert_null(g.guest);
        close(fds[0]);
        close(fds[1]);
}

/* -- Waiting awake -- */

enum { ECHOES = 500, STILL_TIMES = 20, STILL_MS = 20, AWAKE_MAX_US = 5000 };

static void *echo(void *userdata) {
        int fd = *(int *) userdata;
        char c;

        for (int i = 0; i < ECHOES; i++)
                assert_true(recv(fd, &c, 1, 0) == 1 && send(fd, &c, 1, 0) == 1);
        return NULL;
}

static int echo_wants(void *lib, int *fd, short *events, uint64_t *timeout_ms) {
        *fd = ((TestGuest *) lib)->fd;
        *events = POLLIN;
        return 0;
}

/* Asks again as soon as it was answered, and then no more. */
static int echo_work(void *lib) {
        TestGuest *g = lib;
        char c;

        if (recv(g->fd, &c, 1, MSG_DONTWAIT) != 1)
                return 0;
        if (g->periodic)
                loop_periodic_input(loop_uv_base(g->loop));
        if (++g->read == ECHOES)
                loop_uv_stop(g->loop);
        else
                assert_int_equal(send(g->fd, &c, 1, 0), 1);
        return 1;
}

static const GuestOps echo_ops = { .wants = echo_wants, .work = echo_work, .broken = guest_broken };

static unsigned n_yields;

/* Replaces that of libc: a loop that busy-polls calls it. */
int sched_yield(void) {
        n_yields++;
        return (int) syscall(SYS_sched_yield);
}

/* Return the other end. */
static int run_echoes(TestGuest *g) {
        pthread_t thread;
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        assert_int_equal(pthread_create(&thread, NULL, echo, &fds[1]), 0);
        g->fd = fds[0];
        assert_int_equal(guest_open(&g->guest, g->loop, &echo_ops, g), 0);
        assert_int_equal(send(fds[0], "a", 1, 0), 1);
        loop_uv_run(g->loop);
        assert_int_equal(g->read, ECHOES);
        assert_int_equal(pthread_join(thread, NULL), 0);
        return fds[1];
}

/* Where others want the cores it never waits awake, and this proves nothing. */
static void the_loop_busy_polls_after_quick_answers_and_then_sleeps(void **state) {
        TestGuest g = { .loop = *state };
        Timer later = { .fire = stop_loop, .userdata = *state };
        struct timespec before, after;
        uint64_t awake_us;
        int other;

        other = run_echoes(&g);
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
        for (int i = 0; i < STILL_TIMES; i++) {
                timer_start(&later, loop_uv_base(g.loop), STILL_MS);
                loop_uv_run(g.loop);
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
        awake_us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
        assert_in_range(awake_us, 0, AWAKE_MAX_US);
        g.guest = guest_close(g.guest);
        close(g.fd);
        close(other);
}

static void the_loop_sleeps_between_inputs_that_arrive_at_their_own_time(void **state) {
        TestGuest g = { .loop = *state, .periodic = true };

        int other;

        n_yields = 0;
        other = run_echoes(&g);
        assert_int_equal(n_yields, 0);
        g.guest = guest_close(g.guest);
        close(g.fd);
        close(other);
}

/* -- Turns -- */

static const uint64_t MS = 1000 * 1000;

static void freed_memory_is_reported_once_per_mebibyte(void **state) {
        TestLoop *t = *state;
        AssignmentRecord a;

        loop_freed(&t->base, LOOP_FREED_MAX); /* without a receiver */
        note_init(&a, t, 'a');
        t->base.on_freed = &a.deferred;
        loop_freed(&t->base, LOOP_FREED_MAX - 1);
        (void) loop_run_due(&t->base, 10);
        assert_string_equal(t->transcript, "");
        loop_freed(&t->base, 1);
        loop_freed(&t->base, LOOP_FREED_MAX - 1);
        (void) loop_run_due(&t->base, 10);
        assert_string_equal(t->transcript, "a");
}

static void turns_are_counted_by_their_cpu_time_and_the_longest_is_kept(void **state) {
        Turns t = {};
        TurnReport report;
        uint64_t n = 0;

        assert_false(turns_end(&t, 30 * 1000, 90 * MS, 1000, &report));
        assert_false(turns_end(&t, 20 * MS, 21 * MS, 1000, &report));
        assert_int_equal(t.n, 2);
        assert_int_equal(t.cpu_ns, 20 * MS + 30 * 1000);
        assert_int_equal(t.cpu_max_ns, 20 * MS);
        assert_int_equal(t.wall_max_ns, 90 * MS);
        assert_int_equal(t.buckets[0], 1);
        for (size_t i = 0; i < ELEMENTS(t.buckets); i++) {
                n += t.buckets[i];
                assert_true(i == TURN_BUCKETS || n == 1 + (turn_bucket_ns[i] >= 20 * MS));
        }
        assert_int_equal(n, 2);
}

static void a_long_turn_is_reported_with_its_longest_callback_and_its_work(void **state) {
        Turns t = {};
        TurnReport report;

        turns_ran(&t, "short", 2 * MS);
        turns_ran(&t, "long", 17 * MS);
        turns_ran(&t, "middle", 3 * MS);
        t.now = (TurnWork) { 4000, 70000 };
        assert_true(turns_end(&t, 21 * MS, 25 * MS, 1000, &report));
        assert_string_equal(report.longest, "long");
        assert_int_equal(report.longest_ms, 17);
        assert_int_equal(report.cpu_ms, 21);
        assert_int_equal(report.wall_ms, 25);
        assert_int_equal(report.work.nodes, 4000);
        assert_int_equal(report.work.bytes, 70000);
        assert_int_equal(report.n_over, 1);

        /* Nothing of it remains in the next one. */
        assert_true(turns_end(&t, 22 * MS, 22 * MS, 1000 + TURN_LOG_PAUSE_MS, &report));
        assert_null(report.longest);
        assert_int_equal(report.work.nodes, 0);
        assert_int_equal(t.most.nodes, 4000);
        assert_int_equal(t.total.bytes, 70000);
}

static void long_turns_are_reported_once_a_minute_and_the_report_counts_the_others(void **state) {
        Turns t = {};
        TurnReport report;
        uint64_t reports = 0;

        for (uint64_t now_ms = 1000; now_ms < 1000 + 2 * TURN_LOG_PAUSE_MS; now_ms += 1000)
                reports += turns_end(&t, 50 * MS, 50 * MS, now_ms, &report);
        assert_int_equal(reports, 2);
        assert_int_equal(report.n_over, TURN_LOG_PAUSE_MS / 1000);
}

static void burn(void *userdata) {
        struct timespec begun, now;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begun);
        do
                clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        while ((uint64_t) (now.tv_sec - begun.tv_sec) * 1000 * MS + now.tv_nsec - begun.tv_nsec < 40 * MS);
}

static void doze(void *userdata) {
        nanosleep(&(struct timespec) { .tv_nsec = 60 * MS }, NULL);
}

static void a_turn_that_waits_costs_wall_time_and_one_that_computes_costs_cpu_time(void **state) {
        Loop *loop = loop_uv_base(*state);
        Timer waits = TIMER(doze, NULL), computes = TIMER(burn, NULL),
              stop = { .fire = stop_loop, .userdata = *state };
        const Turns *turns = loop_turns(loop);

        timer_start(&waits, loop, 1);
        timer_start(&stop, loop, 80);
        loop_uv_run(*state);
        assert_true(turns->wall_max_ns >= 60 * MS);
        assert_true(turns->cpu_max_ns < 40 * MS);
        assert_true(turns->n > 0);

        timer_start(&computes, loop, 1);
        timer_start(&stop, loop, 80);
        loop_uv_run(*state);
        assert_true(turns->cpu_max_ns >= 40 * MS);
        assert_true(turns->logged_ms > 0);
}

static void raise_nothing(void *userdata) {}

static void the_callback_that_took_the_longest_names_the_turn(void **state) {
        Loop *loop = loop_uv_base(*state);
        Deferred waits = DEFERRED(doze, NULL), nothing = DEFERRED(raise_nothing, NULL),
                 stop = DEFERRED(stop_loop, *state);

        loop_defer(loop, &nothing);
        loop_defer(loop, &waits);
        loop_defer(loop, &stop); /* the same turn runs all three, and the loop stops before it is over */
        loop_uv_run(*state);
        assert_string_equal(loop_turns(loop)->longest, "test-loop.c:doze");
}

static void dozes_and_stops(void *userdata) {
        doze(NULL);
        loop_uv_stop(userdata);
}

static void dozes_at_a_signal(void *userdata, int signal_number) {
        dozes_and_stops(userdata);
}

static void kill_with_usr2(void *userdata) {
        raise(SIGUSR2);
}

static void no_work(void *userdata) {}

/* Each of them is the only one of its turn that takes time. */
static void work_and_signals_have_names_in_the_figures_of_a_turn(void **state) {
        static const char *const names[] = { "own name", NULL };
        Loop *loop = loop_uv_base(*state);
        Timer timer = { .fire = kill_with_usr2 };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                Work work = {
                        .work = no_work, .done = dozes_and_stops, .userdata = *state, .name = names[i]
                };

                assert_int_equal(loop_work(loop, &work), 0);
                loop_uv_run(*state);
                assert_string_equal(loop_turns(loop)->longest, names[i] ?: "work");
        }
        assert_int_equal(loop_uv_on_signal(*state, SIGUSR2, dozes_at_a_signal, *state), 0);
        timer_start(&timer, loop, 1);
        loop_uv_run(*state);
        assert_string_equal(loop_turns(loop)->longest, "signal");
        assert_int_equal(loop_uv_on_signal(*state, SIGKILL, dozes_at_a_signal, *state), -EINVAL);
}

/* -- Work, signals, children -- */

typedef struct TestWork {
        UvLoop *loop;
        Work work;
        pthread_t self, worker;
        int done, nice;
} TestWork;

static void test_work(void *userdata) {
        TestWork *w = userdata;

        w->worker = pthread_self();
        w->nice = getpriority(PRIO_PROCESS, gettid());
}

static void test_work_done(void *userdata) {
        TestWork *w = userdata;

        w->done++;
        assert_true(pthread_equal(w->self, pthread_self()));
        loop_uv_stop(w->loop);
}

static void work_runs_on_another_thread_and_done_on_the_loop(void **state) {
        TestWork w = { .loop = *state, .self = pthread_self() };

        w.work = (Work) { .work = test_work, .done = test_work_done, .userdata = &w };
        assert_int_equal(loop_work(loop_uv_base(w.loop), &w.work), 0);
        loop_uv_run(w.loop);
        assert_int_equal(w.done, 1);
        assert_false(pthread_equal(w.worker, w.self));
}

static void only_nice_work_has_a_lower_priority(void **state) {
        int before = getpriority(PRIO_PROCESS, gettid());

        for (int round = 0; round < 20; round++) {
                TestWork w = { .loop = *state, .self = pthread_self() };

                w.work = (Work) {
                        .work = test_work, .done = test_work_done, .userdata = &w, .nice = round % 3 * 5
                };
                assert_int_equal(loop_work(loop_uv_base(w.loop), &w.work), 0);
                loop_uv_run(w.loop);
                assert_int_equal(w.done, 1);
                assert_int_equal(w.nice, MIN(before + w.work.nice, 19));
        }
        assert_int_equal(getpriority(PRIO_PROCESS, gettid()), before);
}

static void on_test_signal(void *userdata, int signal_number) {
        assert_int_equal(signal_number, SIGUSR1);
        loop_uv_stop(userdata);
}

static void raise_usr1(void *userdata) {
        raise(SIGUSR1);
}

static void a_signal_reaches_the_loop(void **state) {
        Timer timer = { .fire = raise_usr1 };

        assert_int_equal(loop_uv_on_signal(*state, SIGUSR1, on_test_signal, *state), 0);
        timer_start(&timer, loop_uv_base(*state), 1);
        loop_uv_run(*state);
}

typedef struct TestChild {
        UvLoop *loop;
        Child *child;
        Text output;
        size_t largest; /* piece */
        unsigned in_turn, most_in_turn;
        Deferred next_turn;
        int status, exits;
} TestChild;

static void child_output(void *userdata, const void *bytes, size_t size) {
        text_append_bytes(&((TestChild *) userdata)->output, bytes, size);
}

static void child_next_turn(void *userdata) {
        ((TestChild *) userdata)->in_turn = 0;
}

static void child_output_is_counted(void *userdata, const void *bytes, size_t size) {
        TestChild *c = userdata;

        c->largest = MAX(c->largest, size);
        c->in_turn++;
        c->most_in_turn = MAX(c->most_in_turn, c->in_turn);
        loop_defer(loop_uv_base(c->loop), &c->next_turn);
        text_append_bytes(&c->output, bytes, size);
}

static void child_exit(void *userdata, int status) {
        TestChild *c = userdata;

        c->exits++;
        c->status = status;
        loop_uv_stop(c->loop);
}

static const ChildEvents child_events = { .on_output = child_output, .on_exit = child_exit };

static void all_output_of_a_child_precedes_its_status(void **state) {
        static const char *const argv[] = { "sh", "-c",
                                            "cat; echo out; echo err >&2; echo ${NOTIFY_SOCKET-none}; exit 3",
                                            NULL };
        TestChild c = { .loop = *state };

        setenv("NOTIFY_SOCKET", "/run/secret", 1);
        assert_int_equal(child_spawn(&c.child, loop_uv_base(c.loop), argv, &(ChildOptions) {}, &child_events,
                                     &c, NULL),
                         0);
        loop_uv_run(c.loop);
        assert_int_equal(c.exits, 1);
        assert_int_equal(c.status, 3);
        assert_string_equal(c.output.chars, "out\nerr\nnone\n");
        text_done(&c.output);
}

static void set_own_oom_score(const char *score) {
        int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, score, strlen(score)), strlen(score));
        close(fd);
}

static void a_child_does_not_inherit_the_oom_protection_of_the_daemon(void **state) {
        static const char *const argv[] = { "cat", "/proc/self/oom_score_adj", NULL };
        TestChild c = { .loop = *state };

        set_own_oom_score("7"); /* below zero only root may go */
        assert_int_equal(child_spawn(&c.child, loop_uv_base(c.loop), argv, &(ChildOptions) {}, &child_events,
                                     &c, NULL),
                         0);
        loop_uv_run(c.loop);
        set_own_oom_score("0");
        assert_string_equal(c.output.chars, "0\n");
        text_done(&c.output);
}

static void a_missing_program_is_the_end_of_its_child(void **state) {
        static const char *const argv[] = { "/nonexistent/program", NULL };
        TestChild c = { .loop = *state };

        assert_null(child_kill(c.child));
        assert_int_equal(child_spawn(&c.child, loop_uv_base(c.loop), argv, &(ChildOptions) {}, &child_events,
                                     &c, NULL),
                         0);
        loop_uv_run(c.loop);
        assert_int_equal(c.exits, 1);
        assert_int_equal(c.status, -ENOENT);
}

static void a_killed_child_is_reaped_without_further_events(void **state) {
        static const char *const argv[] = { "sh", "-c", "echo output; exec sleep 1000", NULL };
        TestChild c = { .loop = *state };
        Timer stop = { .fire = stop_loop, .userdata = c.loop };

        assert_int_equal(child_spawn(&c.child, loop_uv_base(c.loop), argv, &(ChildOptions) {}, &child_events,
                                     &c, NULL),
                         0);
        c.child = child_kill(c.child);
        timer_start(&stop, loop_uv_base(c.loop), 1);
        loop_uv_run(c.loop);
        assert_int_equal(c.exits, 0);
        text_done(&c.output);
}

/* A daemon of its own process, which starts a child and is gone without a word. */
_Noreturn static void start_child_and_die(int report_fd) {
        static const char *const argv[] = { "sh", "-c", "echo $$; exec sleep 1000", NULL };
        TestChild c = {};

        if (loop_uv_new(&c.loop) < 0 || child_spawn(&c.child, loop_uv_base(c.loop), argv, &(ChildOptions) {},
                                                    &child_events, &c, NULL) < 0)
                _exit(1);
        while (!c.output.chars) { /* its process id */
                Timer stop = { .fire = stop_loop, .userdata = c.loop };

                timer_start(&stop, loop_uv_base(c.loop), 1);
                loop_uv_run(c.loop);
        }
        _exit(write(report_fd, c.output.chars, c.output.size) < 0);
}

static void a_child_dies_with_the_daemon_however_that_ends(void **state) {
        int fds[2], status, pid_fd;
        char text[32] = "";
        pid_t daemon;

        assert_int_equal(pipe(fds), 0);
        daemon = fork();
        if (daemon == 0)
                start_child_and_die(fds[1]);
        close(fds[1]);
        assert_true(read(fds[0], text, sizeof(text) - 1) > 0);
        close(fds[0]);
        pid_fd = pidfd_open(atoi(text), 0); /* fails when it is gone already */
        assert_int_equal(waitpid(daemon, &status, 0), daemon);
        assert_int_equal(status, 0);
        if (pid_fd >= 0) {
                assert_int_equal(poll(&(struct pollfd) { .fd = pid_fd, .events = POLLIN }, 1, 10000), 1);
                close(pid_fd);
        }
}

static void a_paused_child_is_not_read_until_it_is_resumed(void **state) {
        static const char *const argv[] = { "sh", "-c",
                                            "i=0; while [ $i -lt 3000 ]; do echo "
                                            "0123456789012345678901234567890123456789; i=$((i+1)); done",
                                            NULL };
        TestChild c = { .loop = *state };
        Timer stop = { .fire = stop_loop, .userdata = c.loop };

        assert_int_equal(child_spawn(&c.child, loop_uv_base(c.loop), argv, &(ChildOptions) {}, &child_events,
                                     &c, NULL),
                         0);
        child_pause(c.child, true);
        timer_start(&stop, loop_uv_base(c.loop), 20);
        loop_uv_run(c.loop);
        assert_int_equal(c.output.size, 0);
        assert_int_equal(c.exits, 0);
        child_pause(c.child, false);
        loop_uv_run(c.loop);
        assert_int_equal(c.exits, 1);
        assert_int_equal(c.output.size, 3000 * 41);
        text_done(&c.output);
}

static void a_child_with_much_output_does_not_starve_others(void **state) {
        enum { SIZE = 4 * 1024 * 1024, PIECE_MAX = 32 * 1024 };
        static const ChildEvents counted = { .on_output = child_output_is_counted, .on_exit = child_exit };
        static const char *const argv[] = { "head", "-c", "4194304", "/dev/zero", NULL };
        TestChild c = { .loop = *state };

        c.next_turn = (Deferred) { .run = child_next_turn, .userdata = &c };
        assert_int_equal(
                child_spawn(&c.child, loop_uv_base(c.loop), argv, &(ChildOptions) {}, &counted, &c, NULL), 0);
        loop_uv_run(c.loop);
        assert_int_equal(c.exits, 1);
        assert_int_equal(c.output.size, SIZE);
        assert_in_range(c.largest, 1, PIECE_MAX);
        assert_in_range(c.most_in_turn, 1, 2); /* the end of the child is an event of its own */
        deferred_cancel(&c.next_turn);
        text_done(&c.output);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
#define PURE(f) cmocka_unit_test_setup_teardown(f, with_test_loop, without_test_loop)
#define REAL(f) cmocka_unit_test_setup_teardown(f, with_uv_loop, without_uv_loop)
                PURE(timers_fire_by_due_time_and_equal_ones_in_the_order_of_starting),
                PURE(a_stopped_timer_does_not_fire_and_a_restarted_one_fires_once_at_its_new_time),
                PURE(the_earliest_of_several_times_counts_and_a_past_time_means_now),
                PURE(a_timer_moves_to_another_loop_and_a_delay_without_end_is_one),
                PURE(a_turn_has_a_budget_of_work_and_nodes_count_as_bytes),
                PURE(many_timers_fire_in_order_after_random_starts_and_stops),
                PURE(a_timer_with_slack_fires_with_others_and_alone_at_its_end),
                PURE(the_cost_of_a_turn_does_not_grow_with_timers_that_have_slack),
                PURE(timers_with_slack_fire_once_their_delay_has_passed),
                PURE(deferred_calls_run_once_before_timers_and_what_timers_defer_after_them),
                PURE(a_call_that_defers_itself_does_not_starve_timers),
                PURE(the_budget_limits_a_turn_and_more_due_work_is_reported),
                REAL(a_real_timer_is_never_early),
                REAL(a_guest_runs_when_its_descriptor_is_ready_and_the_loop_sleeps_otherwise),
                REAL(a_guest_runs_at_its_deadline_without_busy_polling_before_it),
                REAL(a_broken_guest_is_reported_once_and_can_be_closed_in_the_callback),
                REAL(the_loop_busy_polls_after_quick_answers_and_then_sleeps),
                REAL(the_loop_sleeps_between_inputs_that_arrive_at_their_own_time),
                PURE(freed_memory_is_reported_once_per_mebibyte),
                cmocka_unit_test(turns_are_counted_by_their_cpu_time_and_the_longest_is_kept),
                cmocka_unit_test(a_long_turn_is_reported_with_its_longest_callback_and_its_work),
                cmocka_unit_test(long_turns_are_reported_once_a_minute_and_the_report_counts_the_others),
                REAL(a_turn_that_waits_costs_wall_time_and_one_that_computes_costs_cpu_time),
                REAL(the_callback_that_took_the_longest_names_the_turn),
                REAL(work_and_signals_have_names_in_the_figures_of_a_turn),
                REAL(work_runs_on_another_thread_and_done_on_the_loop),
                REAL(only_nice_work_has_a_lower_priority),
                REAL(a_signal_reaches_the_loop),
                REAL(all_output_of_a_child_precedes_its_status),
                REAL(a_child_does_not_inherit_the_oom_protection_of_the_daemon),
                REAL(a_missing_program_is_the_end_of_its_child),
                REAL(a_killed_child_is_reaped_without_further_events),
                REAL(a_paused_child_is_not_read_until_it_is_resumed),
                REAL(a_child_with_much_output_does_not_starve_others),
                cmocka_unit_test(a_child_dies_with_the_daemon_however_that_ends),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
