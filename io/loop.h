/* The event loop: timers, deferred calls, work off the loop. One thread, one loop.
 *
 * Loop is an interface with two backends: libuv (io/loop_uv.h) and the simulator's virtual time (tests/sim/).
 * Timers and deferred calls are plain structs embedded in their owners; this module keeps them in a heap and
 * a list. A backend provides the time, wakes at the earliest deadline, and runs work. Therefore timer_stop()
 * and deferred_cancel() are immediate, and the owner may be freed right after. */
#pragma once

#include <sys/queue.h>

#include "base/clock.h"
#include "io/turn.h"

typedef struct Loop Loop;

/* Return the monotonic time in ms; it may be constant within one callback. Never 0. */
uint64_t loop_now_ms(const Loop *loop);
/* Return a monotonic time in ns, for durations that are measured; any thread may call it. A loop in virtual
 * time counts in ms. */
uint64_t loop_clock_ns(const Loop *loop);
/* Return the wall clock in ms since 1970, for display and for the first cluster time. No decision depends on
 * it. */
uint64_t loop_wall_ms(const Loop *loop);
/* Return the time since the boot of the host in ms, suspensions included, read now: for leases, which end
 * also while this process or its host stands still. */
uint64_t loop_boot_ms(const Loop *loop);
/* Return the loop's generator, which the system or the simulation seeds. */
Random *loop_random(Loop *loop);

/* Initialize timers and deferred calls with these macros; they name the callback in the figures of a turn. */
#define LOOP_NAME(function) __FILE_NAME__ ":" #function
#define TIMER(function, data) \
        ((Timer) { .fire = (function), .userdata = (data), .name = LOOP_NAME(function) })
#define DEFERRED(function, data) \
        ((Deferred) { .run = (function), .userdata = (data), .name = LOOP_NAME(function) })

typedef struct Timer {
        void (*fire)(void *userdata); /* set before timer_start(); called from the loop, once per start */
        void *userdata;
        const char *name; /* static; NULL: none */
        Loop *loop;       /* borrowed; set by timer_start() */
        uint64_t due_ms;
        uint64_t early_ms; /* from then on it fires with other events; 0: not before 'due_ms' */
        uint64_t serial;   /* equal due times fire in the order of starting */
        size_t slot;       /* position in the heap + 1; 0: not armed */
        TAILQ_ENTRY(Timer) early;
} Timer;

/* Arm 'timer', or arm it again, for 'delay_ms' from now. 0 or -ENOMEM. */
int timer_start(Timer *timer, Loop *loop, uint64_t delay_ms);
/* As timer_start(), for periodic work of an idle daemon: the timer wakes the loop after 'delay_ms' +
 * 'slack_ms', but fires already when the loop runs for another reason after 'delay_ms'. Equal delays cost
 * nothing; other ones a step for each such timer that may fire later. */
int timer_start_with_slack(Timer *timer, Loop *loop, uint64_t delay_ms, uint64_t slack_ms);
/* Let 'timer' fire at 'due_ms' of loop_now_ms(), or at once if that has passed, with a slack as above. A
 * timer that fires earlier stays as it is. 0 or -ENOMEM. */
int timer_start_by(Timer *timer, Loop *loop, uint64_t due_ms, uint64_t slack_ms);
void timer_stop(Timer *timer); /* no effect if it is not armed */
static inline bool timer_armed(const Timer *timer) {
        return timer->slot > 0;
}

/* A call of 'run', once and soon, from the loop, never from inside loop_defer(). Deferring again before the
 * call has no effect. */
typedef struct Deferred {
        void (*run)(void *userdata);
        void *userdata;
        const char *name; /* static; NULL: none */
        Loop *loop;       /* set while queued */
        uint64_t serial;
        TAILQ_ENTRY(Deferred) deferred;
} Deferred;

void loop_defer(Loop *loop, Deferred *deferred);
void deferred_cancel(Deferred *deferred);

enum {
        WORK_NICE_ANSWER =
                5, /* of answers that may take a second: a quarter of a core that the loop competes for */
        WORK_NICE_PATIENT = 10, /* of work that no request waits for: a tenth */
};

/* Long work: 'work' runs off the loop (in a thread; in the simulator later, in one step) and touches only its
 * own 'userdata'. Then 'done' runs on the loop, exactly once. Work cannot be cancelled: the owner waits for
 * 'done' (it counts its work in flight), or lets 'userdata' outlive itself. */
typedef struct Work {
        void (*work)(void *userdata);
        void (*done)(void *userdata);
        void *userdata;
        const char *name; /* of 'done', static; NULL: none */
        int nice; /* added to the loop's nice value: WORK_NICE_*, or 0 for short work that a request needs */
} Work;

#define WORK(run, end, data) \
        ((Work) { .work = (run), .done = (end), .userdata = (data), .name = LOOP_NAME(end) })

int loop_work(Loop *loop, Work *work); /* 0 or -ENOMEM */

/* Count work of the current turn that grows with the input: nodes visited, bytes moved. */
void loop_count(Loop *loop, uint64_t nodes, uint64_t bytes);
enum { LOOP_FREED_MAX = 1024 * 1024 };

/* Count memory that was freed in small pieces. Each LOOP_FREED_MAX bytes defer 'on_freed' (fleetd/trim.h). */
void loop_freed(Loop *loop, size_t bytes);
const Turns *loop_turns(const Loop *loop);
/* Return whether the current turn is below TURN_WORK_MAX and, if measured, TURN_TIME_MS. All requests of
 * clients share this budget; without budget, work that can wait is left to the next turn. Work that waited
 * does at least one piece in each turn. */
bool loop_has_budget(const Loop *loop);

/* -- For backends -- */

typedef struct LoopOps {
        uint64_t (*now_ms)(const Loop *loop);
        uint64_t (*wall_ms)(const Loop *loop);
        uint64_t (*clock_ns)(void);                   /* NULL: now_ms() */
        uint64_t (*boot_ms)(const Loop *loop);        /* NULL: now_ms() */
        void (*wake_at)(Loop *loop, uint64_t due_ms); /* the earliest deadline changed; UINT64_MAX: none */
        int (*work)(Loop *loop, Work *work);
        bool (*is_late)(const Loop *loop); /* the turn is above TURN_TIME_MS; NULL: it is not measured */
        void (*ran)(Loop *loop,
                    const char *name); /* a callback of this turn ended; NULL: turns are not measured */
} LoopOps;

struct Loop {
        const LoopOps *ops;
        Random random;
        Timer **heap;
        size_t n_heap, heap_capacity;
        uint64_t serial;
        TAILQ_HEAD(, Deferred) deferred;
        TAILQ_HEAD(TimerList, Timer) early; /* armed, with an 'early_ms', in its order */
        uint64_t armed_ms;                  /* last argument of wake_at() */
        uint64_t grain_ms;  /* 1 if now_ms() truncates a fraction, so that no timer fires early; 0 in virtual
                               time */
        bool running;       /* in loop_run_due(), which calls wake_at() once, at its end */
        size_t freed;       /* bytes, by loop_freed() */
        Deferred *on_freed; /* borrowed; NULL: none */
        Turns turns;
        unsigned n_inputs; /* reads of streams in this turn, without those of loop_periodic_input() */
        bool has_periodic_input;
};

/* Report the end of a callback to a backend that measures turns. */
static inline void loop_ran(Loop *loop, const char *name) {
        if (loop->ops->ran)
                loop->ops->ran(loop, name);
}

/* What was just read arrives at its own time, as a heartbeat. The backend does not busy-poll for the next
 * one: with thousands of sessions it would do so all the time. */
static inline void loop_periodic_input(Loop *loop) {
        loop->has_periodic_input = true;
        if (loop->n_inputs > 0)
                loop->n_inputs--;
}

bool loop_has_deferred(const Loop *loop);
void loop_init(Loop *loop, const LoopOps *ops, uint64_t seed);
void loop_done(Loop *loop); /* asserts that no timer is armed and no call is deferred */

/* Run all that is due: deferred calls, then timers, then the calls that these deferred, at most 'budget' in
 * total. A callback that defers or arms itself again runs in the next call, so that it cannot starve the
 * others. Return true if more is due already. The backend calls this on each wake-up. */
bool loop_run_due(Loop *loop, unsigned budget);
bool loop_run_due_at(Loop *loop, uint64_t now_ms,
                     unsigned budget);       /* with the timers that are due by 'now_ms' */
uint64_t loop_next_due_ms(const Loop *loop); /* now if a call is deferred; UINT64_MAX if idle */
