/* The libuv backend of the loop.
 *
 * Due callbacks run in a check watcher, after the poll of the descriptors. A timer runs only if it was due
 * before that poll: a daemon that was stopped or busy then receives pending input before it acts on a
 * time-out. The cost is one empty poll for each timer.
 *
 * Guests run in a prepare watcher, before each sleep; then the one libuv timer is set for the earliest
 * deadline. Work that a callback of this turn queued for a guest (a bus call from a timer) is therefore done
 * before the loop sleeps. */
#include "io/loop_uv.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <uv.h>

#include "base/log.h"

enum {
        RUN_BUDGET = 1024, /* callbacks per turn; then the descriptors are polled */
        GUEST_ROUNDS = 64, /* calls of work() of one guest per turn */
        LOOP_HANDLES = 4,  /* of libuv: the loop's own */

        /* Busy-polling. */
        SPIN_WORK_NS = 250 * 1000,
        SPIN_INPUT_NS = 100 * 1000,
        SPIN_LATE_NS = 100 *
                       1000, /* a longer sched_yield() means that other threads need the core: pause ... */
        SPIN_PAUSE_MIN_NS =
                1000 * 1000, /* ... for twice the time on each repetition; short yields reduce it again */
        SPIN_PAUSE_MAX_NS = 128 * 1000 * 1000,
        SPIN_SCORE_MAX = 32,
        SPIN_SCORE_MIN = 8,  /* short waits that enable busy-polling */
        SPIN_SCORE_LOST = 8, /* subtracted for each long wait */
};

typedef struct Signal Signal;

/* The recent waiting times for one kind of event. */
typedef struct Waiting {
        uint64_t since_ns; /* 0: not waiting */
        unsigned score;    /* incremented by short waits, decremented by long ones */
} Waiting;

struct UvLoop {
        Loop base;
        uv_loop_t uv;
        uv_prepare_t prepare;
        uv_check_t check;
        uv_timer_t timer;
        uv_idle_t idle;     /* active: do not sleep */
        uint64_t polled_ms; /* time of the last poll */
        bool may_spin;      /* a second core can run what the loop waits for */
        unsigned n_working;
        int n_ending;                          /* loop_uv_expect_end() */
        Waiting work, input;                   /* for work off the loop; for any wake-up */
        uint64_t spin_again_ns, spin_pause_ns; /* the end of the pause, and its length */
        uint64_t began_ns,
                marked_ns; /* the current turn, and the end of its last callback; 0: it has not begun */
        uint64_t cpu_ns;   /* of this thread at the end of the last turn; 0: there was none */
        LIST_HEAD(, Guest) guests;
        SLIST_HEAD(, Signal) signals;
        char buffer[LOOP_UV_BUFFER_SIZE];
};

struct Guest {
        UvLoop *loop;
        const GuestOps *ops;
        void *lib;
        uv_poll_t *poll; /* allocated: it outlives the guest until it is closed */
        int fd;          /* of 'poll' */
        int polled;      /* UV_* events of 'poll' */
        int error;       /* broken */
        bool closed;
        Deferred later; /* calls 'broken', or frees */
        LIST_ENTRY(Guest) guests;
};

struct Signal {
        uv_signal_t uv;
        void (*on_signal)(void *userdata, int signal_number);
        void *userdata;
        SLIST_ENTRY(Signal) signals;
};

/* -- Guests -- */

static void guest_free_poll(uv_handle_t *handle) {
        free(handle);
}

static void guest_drop_poll(Guest *guest) {
        if (guest->poll)
                uv_close((uv_handle_t *) guest->poll, guest_free_poll);
        guest->poll = NULL;
        guest->fd = -1;
        guest->polled = 0;
}

static void guest_on_broken(void *userdata) {
        Guest *guest = userdata;

        guest->ops->broken(guest->lib, guest->error);
}

static void guest_break(Guest *guest, int error) {
        guest_drop_poll(guest);
        guest->error = error;
        guest->later.run = guest_on_broken;
        loop_defer(&guest->loop->base, &guest->later);
}

/* Waking the loop is enough: the prepare watcher runs the guest before the next sleep. */
static void guest_on_event(uv_poll_t *poll, int status, int events) {
        Guest *guest = poll->data;

        if (status < 0)
                guest->polled = 0; /* libuv has stopped it */
}

static int guest_watch(Guest *guest, int fd, short wanted) {
        int events = 0;

        if (wanted & POLLIN)
                events |= UV_READABLE;
        if (wanted & POLLOUT)
                events |= UV_WRITABLE;
        if (wanted & POLLPRI)
                events |= UV_PRIORITIZED;

        if (guest->fd != fd)
                guest_drop_poll(guest);
        if (fd < 0)
                return 0;
        if (!guest->poll) {
                _cleanup_free_ uv_poll_t *poll = NEW0(uv_poll_t, 1);

                if (!poll)
                        return -ENOMEM;
                TRY(uv_poll_init(&guest->loop->uv, poll, fd));
                guest->poll = TAKE_PTR(poll);
                guest->poll->data = guest;
                guest->fd = fd;
        }
        if (guest->polled == events)
                return 0;
        TRY(events == 0 ? uv_poll_stop(guest->poll) : uv_poll_start(guest->poll, events, guest_on_event));

        guest->polled = events;
        return 0;
}

static int guest_prepare_sleep(Guest *guest, uint64_t *ret_timeout_ms) {
        short events = 0;
        int fd = -1, r;

        r = guest->ops->wants(guest->lib, &fd, &events, ret_timeout_ms);
        return r < 0 ? r : guest_watch(guest, fd, events);
}

/* Run the guest until it is idle, and watch what it waits for. Return the time until its next run in ms. */
static uint64_t guest_turn(Guest *guest) {
        uint64_t timeout_ms = UINT64_MAX;
        int r = 1;

        for (int round = 0; r > 0 && round < GUEST_ROUNDS; round++) {
                r = guest->ops->work(guest->lib);
                if (guest->closed)
                        return UINT64_MAX;
        }
        if (r > 0)
                return 0; /* not idle yet: let the others run first */
        if (r == 0)
                r = guest_prepare_sleep(guest, &timeout_ms);
        if (r < 0) {
                guest_break(guest, r);
                return UINT64_MAX;
        }
        return timeout_ms;
}

int guest_open(Guest **ret, UvLoop *loop, const GuestOps *ops, void *lib) {
        Guest *guest = NEW0(Guest, 1);

        if (!guest)
                return -ENOMEM;

        *guest = (Guest) { .loop = loop, .ops = ops, .lib = lib, .fd = -1 };
        guest->later.userdata = guest;
        LIST_INSERT_HEAD(&loop->guests, guest, guests);
        *ret = guest;
        return 0;
}

static void guest_free(void *userdata) {
        Guest *guest = userdata;

        LIST_REMOVE(guest, guests);
        free(guest);
}

Guest *guest_close(Guest *guest) {
        if (!guest)
                return NULL;

        guest_drop_poll(guest);
        guest->closed = true; /* its work() may be running: unlinked and freed later */
        deferred_cancel(&guest->later);
        guest->later.run = guest_free;
        loop_defer(&guest->loop->base, &guest->later);
        return NULL;
}

/* -- Busy-polling --
 *
 * Sleeping and waking up takes about 10 us, on a virtual machine 50 us. A write of the log on a fast disk
 * takes up to 90 us, and a client that sends its next request at once takes less. So the loop polls
 * repeatedly, and yields between, before it sleeps. It does so only if recent waits were short, and if no
 * other thread needs the core: then sched_yield() would return late. */

static void waiting_begin(Waiting *w, uint64_t now_ns) {
        if (w->since_ns == 0)
                w->since_ns = now_ns;
}

/* The event arrived: score the wait. */
static void waiting_end(Waiting *w, uint64_t limit_ns) {
        if (w->since_ns == 0)
                return;
        if (uv_hrtime() - w->since_ns <= limit_ns)
                w->score = MIN(w->score + 1, (unsigned) SPIN_SCORE_MAX);
        else
                w->score -= MIN(w->score, (unsigned) SPIN_SCORE_LOST);
        w->since_ns = 0;
}

static void input_end(UvLoop *loop) {
        Loop *base = &loop->base;

        if (base->has_periodic_input && base->n_inputs == 0) {
                loop->input.score -= MIN(loop->input.score, 1u);
                loop->input.since_ns = 0;
        }
        waiting_end(&loop->input, SPIN_INPUT_NS);
        base->has_periodic_input = false;
        base->n_inputs = 0;
}

/* Return the end of busy-polling for this kind of event; 0: sleep. */
static uint64_t waiting_until(const Waiting *w, uint64_t limit_ns) {
        return w->since_ns > 0 && w->score >= SPIN_SCORE_MIN ? w->since_ns + limit_ns : 0;
}

/* Call before each sleep, if nothing is due. Return whether it took any time. */
static bool spin(UvLoop *loop) {
        struct pollfd poll_fd = { .fd = uv_backend_fd(&loop->uv), .events = POLLIN };
        uint64_t now_ns, until_ns;

        if (!loop->may_spin)
                return false;
        now_ns = uv_hrtime();
        waiting_begin(&loop->input, now_ns);
        if (loop->n_working > 0)
                waiting_begin(&loop->work, now_ns);
        if (now_ns < loop->spin_again_ns)
                return false;
        until_ns = MAX(waiting_until(&loop->input, SPIN_INPUT_NS), waiting_until(&loop->work, SPIN_WORK_NS));
        while (now_ns < until_ns && poll(&poll_fd, 1, 0) == 0) {
                uint64_t before_ns = now_ns;

                (void) sched_yield();
                now_ns = uv_hrtime();
                if (now_ns - before_ns > SPIN_LATE_NS) {
                        loop->spin_pause_ns = MIN(MAX(2 * loop->spin_pause_ns, (uint64_t) SPIN_PAUSE_MIN_NS),
                                                  (uint64_t) SPIN_PAUSE_MAX_NS);
                        loop->spin_again_ns = now_ns + loop->spin_pause_ns;
                        return true;
                }
                loop->spin_pause_ns -= loop->spin_pause_ns / 32;
        }
        return until_ns > 0;
}

/* -- Turns --
 *
 * Wall time is read at the end of each callback (about 25 ns, without a system call), CPU time once per turn.
 * Sleeping costs no CPU time, so the CPU time of a turn is that of the thread since the end of the previous
 * turn. */

static uint64_t thread_cpu_ns(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void loop_uv_enter(UvLoop *loop) {
        if (loop->marked_ns == 0)
                loop->began_ns = loop->marked_ns = uv_hrtime();
}

void loop_uv_leave(UvLoop *loop, const char *name) {
        uint64_t now_ns = uv_hrtime();

        if (loop->marked_ns == 0) /* outside of a turn, for example when the loop is freed */
                return;
        turns_ran(&loop->base.turns, name, now_ns - loop->marked_ns);
        loop->marked_ns = now_ns;
}

static void uv_backend_ran(Loop *base, const char *name) {
        loop_uv_leave(container_of(base, UvLoop, base), name);
}

/* Wall time is read first, which needs no system call: CPU time does not exceed it. */
static bool uv_backend_is_late(const Loop *base) {
        const UvLoop *loop = container_of((Loop *) base, UvLoop, base);
        const uint64_t most_ns = (uint64_t) TURN_TIME_MS * 1000 * 1000;

        return loop->marked_ns > 0 && uv_hrtime() - loop->began_ns >= most_ns &&
               thread_cpu_ns() - loop->cpu_ns >= most_ns;
}

static void turn_end(UvLoop *loop, uint64_t now_ms) {
        uint64_t cpu_ns = thread_cpu_ns();
        uint64_t took_ns = loop->cpu_ns > 0 ? cpu_ns - loop->cpu_ns : 0; /* unknown for the first turn */
        TurnReport report;

        if (turns_end(&loop->base.turns, took_ns, loop->marked_ns - loop->began_ns, now_ms, &report))
                log_warning(NO_FIELDS,
                            "turn of the event loop took %" PRIu64 " ms of CPU time (%" PRIu64
                            " ms of wall time): longest callback %s, %" PRIu64 " ms; work %" PRIu64
                            " nodes, %" PRIu64 " bytes; turns over %d ms since the last message: %" PRIu64,
                            report.cpu_ms, report.wall_ms, report.longest ?: "none", report.longest_ms,
                            report.work.nodes, report.work.bytes, TURN_BUDGET_MS, report.n_over);
        loop->cpu_ns = cpu_ns;
        loop->marked_ns = 0;
}

/* Timer and idle watcher only wake the loop; on_check() runs what is due. */
static void on_timer(uv_timer_t *timer) {}

static void on_idle(uv_idle_t *idle) {}

static void on_check(uv_check_t *check) {
        UvLoop *loop = check->data;

        loop_uv_enter(loop);
        input_end(loop);
        (void) loop_run_due_at(&loop->base, loop->polled_ms, RUN_BUDGET);
}

static void on_prepare(uv_prepare_t *prepare) {
        UvLoop *loop = prepare->data;
        uint64_t guests_ms = UINT64_MAX, due_ms, now_ms;
        Guest *guest;

        loop_uv_enter(loop);
        LIST_FOREACH(guest, &loop->guests, guests)
                if (!guest->closed && guest->error == 0) {
                        uint64_t timeout_ms = guest_turn(guest);

                        guests_ms = MIN(guests_ms, timeout_ms);
                        loop_uv_leave(loop, guest->ops->name ?: "guest");
                }

        loop->polled_ms = now_ms = loop_now_ms(&loop->base);
        due_ms = loop_next_due_ms(&loop->base);
        if (guests_ms <
            UINT64_MAX - now_ms - 1) /* one ms more, against repeated wake-ups in the last millisecond */
                due_ms = MIN(due_ms, guests_ms > 0 ? now_ms + guests_ms + 1 : now_ms);

        if (due_ms <= now_ms)
                uv_idle_start(&loop->idle, on_idle);
        else
                uv_idle_stop(&loop->idle);
        if (due_ms == UINT64_MAX)
                uv_timer_stop(&loop->timer);
        else if (due_ms > now_ms)
                uv_timer_start(&loop->timer, on_timer, due_ms - now_ms, 0);
        turn_end(loop, now_ms);
        if (due_ms > now_ms && spin(loop))
                loop->cpu_ns = thread_cpu_ns();
}

/* -- Backend -- */

/* Read the clock on each call (about 30 ns): relative to libuv's cached time, a timer that is started late in
 * a long turn would fire early. */
static uint64_t uv_backend_now_ms(const Loop *base) {
        UvLoop *loop = container_of((Loop *) base, UvLoop, base);

        uv_update_time(&loop->uv);
        return uv_now(&loop->uv) + 1; /* never 0 */
}

static uint64_t uv_backend_boot_ms(const Loop *base) {
        return clock_boot_ms();
}

static uint64_t uv_backend_wall_ms(const Loop *base) {
        return clock_real_ms();
}

/* on_prepare() reads the earliest deadline before each sleep. */
static void uv_backend_wake_at(Loop *base, uint64_t due_ms) {}

typedef struct UvWork {
        uv_work_t req;
        Work *work;
} UvWork;

/* Runs in a separate thread, because the nice value cannot be lowered again. Threads that it starts inherit
 * it. */
static void work_run_nice(void *userdata) {
        Work *work = userdata;

        /* Relative: the daemon itself may have a nice value. The kernel limits the sum to 19. */
        (void) setpriority(PRIO_PROCESS, gettid(), getpriority(PRIO_PROCESS, gettid()) + work->nice);
        work->work(work->userdata);
}

static void work_run(uv_work_t *req) {
        Work *work = container_of(req, UvWork, req)->work;
        uv_thread_t thread;

        if (work->nice > 0 && uv_thread_create(&thread, work_run_nice, work) == 0)
                uv_thread_join(&thread);
        else
                work->work(work->userdata);
}

static void work_done(uv_work_t *req, int status) {
        UvWork *w = container_of(req, UvWork, req);
        UvLoop *loop = container_of(req->loop, UvLoop, uv);
        Work *work = w->work;
        const char *name = work->name ?: "work"; /* done() may free 'work' */

        if (work->nice == 0)
                waiting_end(&loop->work, SPIN_WORK_NS);
        loop->n_working -= work->nice == 0;
        free(w);
        loop_uv_enter(loop);
        work->done(work->userdata);
        loop_uv_leave(loop, name);
}

static int uv_backend_work(Loop *base, Work *work) {
        UvLoop *loop = container_of(base, UvLoop, base);
        _cleanup_free_ UvWork *w = NEW0(UvWork, 1);

        if (!w)
                return -ENOMEM;
        w->work = work;
        TRY(uv_queue_work(&loop->uv, &w->req, work_run, work_done));
        (void) TAKE_PTR(w);
        loop->n_working += work->nice == 0;
        return 0;
}

static const LoopOps uv_backend = {
        .now_ms = uv_backend_now_ms,
        .wall_ms = uv_backend_wall_ms,
        .clock_ns = uv_hrtime,
        .boot_ms = uv_backend_boot_ms,
        .wake_at = uv_backend_wake_at,
        .work = uv_backend_work,
        .is_late = uv_backend_is_late,
        .ran = uv_backend_ran,
};

/* -- Signals -- */

static void on_signal(uv_signal_t *uv, int signal_number) {
        Signal *s = container_of(uv, Signal, uv);
        UvLoop *loop = container_of(uv->loop, UvLoop, uv);

        loop_uv_enter(loop);
        s->on_signal(s->userdata, signal_number);
        loop_uv_leave(loop, "signal");
}

int loop_uv_on_signal(UvLoop *loop, int signal_number, void (*callback)(void *userdata, int signal_number),
                      void *userdata) {
        _cleanup_free_ Signal *s = NEW0(Signal, 1);
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Signal) { .on_signal = callback, .userdata = userdata };
        TRY(uv_signal_init(&loop->uv, &s->uv));
        SLIST_INSERT_HEAD(&loop->signals, s, signals); /* owned by the loop from here on */
        r = uv_signal_start(&s->uv, on_signal, signal_number);
        (void) TAKE_PTR(s);
        return r;
}

/* -- Lifetime -- */

int loop_uv_new(UvLoop **ret) {
        _cleanup_free_ UvLoop *loop = NEW0(UvLoop, 1);

        if (!loop)
                return -ENOMEM;

        loop_init(&loop->base, &uv_backend, 0);
        loop->base.grain_ms = 1;
        TRY(random_seed_from_system(&loop->base.random));
        TRY(uv_loop_init(&loop->uv));

        loop->may_spin = uv_available_parallelism() > 1;
        uv_prepare_init(&loop->uv, &loop->prepare);
        uv_check_init(&loop->uv, &loop->check);
        uv_timer_init(&loop->uv, &loop->timer);
        uv_idle_init(&loop->uv, &loop->idle);
        loop->prepare.data = loop->check.data = loop;
        uv_check_start(&loop->check, on_check);
        uv_prepare_start(&loop->prepare, on_prepare);

        /* A client that disconnects must not end the daemon. */
        signal(SIGPIPE, SIG_IGN);
        /* If the parent process ignored SIGCHLD, the exit status of a child would be lost. */
        signal(SIGCHLD, SIG_DFL);
        *ret = TAKE_PTR(loop);
        return 0;
}

static void signal_free(uv_handle_t *handle) {
        free(container_of((uv_signal_t *) handle, Signal, uv));
}

void loop_uv_expect_end(UvLoop *loop, int n) {
        loop->n_ending += n;
}

static void count_open(uv_handle_t *handle, void *userdata) {
        *(int *) userdata += !uv_is_closing(handle);
}

/* The owners of streams, listeners, guests and children must have closed them: the loop cannot free them. */
UvLoop *loop_uv_free(UvLoop *loop) {
        int n_open = -LOOP_HANDLES, r;

        if (!loop)
                return NULL;

        while (!SLIST_EMPTY(&loop->signals)) {
                Signal *s = SLIST_FIRST(&loop->signals);

                SLIST_REMOVE_HEAD(&loop->signals, signals);
                uv_close((uv_handle_t *) &s->uv, signal_free);
        }
        uv_walk(&loop->uv, count_open, &n_open);
        assert(n_open == loop->n_ending);

        /* Wait for handles that close and for work in flight; both may defer calls. */
        uv_unref((uv_handle_t *) &loop->prepare);
        uv_unref((uv_handle_t *) &loop->check);
        uv_unref((uv_handle_t *) &loop->timer);
        uv_unref((uv_handle_t *) &loop->idle);
        while (uv_loop_alive(&loop->uv) || loop_has_deferred(&loop->base))
                if (uv_run(&loop->uv, UV_RUN_ONCE) == 0 && loop_has_deferred(&loop->base))
                        (void) loop_run_due(&loop->base, RUN_BUDGET);
        assert(LIST_EMPTY(&loop->guests));

        uv_close((uv_handle_t *) &loop->prepare, NULL);
        uv_close((uv_handle_t *) &loop->check, NULL);
        uv_close((uv_handle_t *) &loop->timer, NULL);
        uv_close((uv_handle_t *) &loop->idle, NULL);
        (void) uv_run(&loop->uv, UV_RUN_DEFAULT);
        r = uv_loop_close(&loop->uv);
        assert(r == 0);
        loop_done(&loop->base);
        free(loop);
        return NULL;
}

Loop *loop_uv_base(UvLoop *loop) {
        return &loop->base;
}

UvLoop *loop_uv(Loop *base) {
        assert(base->ops == &uv_backend);
        return container_of(base, UvLoop, base);
}

int loop_uv_run(UvLoop *loop) {
        loop->cpu_ns = loop->marked_ns = 0; /* earlier work does not belong to a turn */
        return uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_uv_stop(UvLoop *loop) {
        uv_stop(&loop->uv);
}

uv_loop_t *loop_uv_handle(UvLoop *loop) {
        return &loop->uv;
}

void *loop_uv_buffer(UvLoop *loop) {
        return loop->buffer;
}
