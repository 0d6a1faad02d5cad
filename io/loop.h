/* The loop: timers, deferred calls, work off the loop. One thread, one loop.
 *
 * Loop is an interface with two backends: libuv (io/loop_uv.h) and the simulator's virtual time (tests/sim/).
 * Timers and deferred calls are plain structs embedded in their owners and kept by this file in a heap and a
 * list; a backend only tells the time, wakes at the earliest deadline, and runs work. So nothing here closes
 * asynchronously: timer_stop() and deferred_cancel() are immediate, and the owner may be freed right after.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "io/turn.h"

typedef struct Loop Loop;

/* Monotonic ms; within one callback it may stand still (the backend's cached time). Never 0. */
uint64_t loop_now_ms(const Loop *loop);
/* Wall clock ms since 1970. For display, and for the first cluster time; nothing decides by it. */
uint64_t loop_wall_ms(const Loop *loop);
/* The loop's generator: seeded by the system, or by the simulation. */
Random *loop_random(Loop *loop);

/* Names a callback in the figures of a turn; use these to initialize timers and deferred calls. */
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
        uint64_t serial; /* equal due times fire in the order of starting */
        size_t slot;     /* position in the heap + 1; 0: not armed */
} Timer;

/* (Re)arms 'timer' in 'delay_ms' from now. 0 or -ENOMEM. */
int timer_start(Timer *timer, Loop *loop, uint64_t delay_ms);
void timer_stop(Timer *timer); /* harmless when not armed, or never started */
static inline bool timer_armed(const Timer *timer) {
        return timer->slot > 0;
}

/* Calls 'run' once, soon, from the loop and never from inside loop_defer(). Deferring twice is one call. */
typedef struct Deferred {
        void (*run)(void *userdata);
        void *userdata;
        const char *name; /* static; NULL: none */
        Loop *loop;       /* set while queued */
        uint64_t serial;
        struct Deferred *next, *prev;
} Deferred;

void loop_defer(Loop *loop, Deferred *deferred);
void deferred_cancel(Deferred *deferred);

enum {
        WORK_NICE_ANSWER =
                5, /* of answers that may take a second: a quarter of a core where the loop wants all of it */
        WORK_NICE_PATIENT = 10, /* of work that no request needs: a tenth */
};

/* Long work: 'work' runs off the loop (a thread; in the simulator: later, at once) and touches nothing that
 * the loop knows but its own 'userdata'; then 'done' runs on the loop, exactly once. There is no cancelling:
 * the owner waits for 'done' (it counts what is in flight), or makes 'userdata' outlive itself. */
typedef struct Work {
        void (*work)(void *userdata);
        void (*done)(void *userdata);
        void *userdata;
        const char *name; /* of 'done', static; NULL: none */
        int nice; /* added to the loop's nice value: WORK_NICE_*, or 0 for short work that a request needs */
        void *backend; /* the backend's */
} Work;

int loop_work(Loop *loop, Work *work); /* 0 or -ENOMEM */

/* Counts work of the present turn that grows with the input: nodes visited, bytes moved. */
void loop_count(Loop *loop, uint64_t nodes, uint64_t bytes);
enum { LOOP_FREED_MAX = 1024 * 1024 };

/* Counts memory that was given back in small pieces. After LOOP_FREED_MAX of it 'on_freed' is deferred: see
 * fleetd/trim.h. */
void loop_freed(Loop *loop, size_t bytes);
const Turns *loop_turns(const Loop *loop);
/* Whether the work of the present turn is below TURN_WORK_MAX. All that clients ask for shares it; what can
 * wait is left to the next turn where it is false. Who waits does one piece in each turn, whatever others did
 * in it. */
bool loop_has_room(const Loop *loop);

/* -- For backends -- */

typedef struct LoopOps {
        uint64_t (*now_ms)(const Loop *loop);
        uint64_t (*wall_ms)(const Loop *loop);
        void (*wake_at)(Loop *loop, uint64_t due_ms); /* the earliest deadline changed; UINT64_MAX: none */
        int (*work)(Loop *loop, Work *work);
        void (*ran)(Loop *loop,
                    const char *name); /* a callback of this turn is over; NULL: nobody measures */
} LoopOps;

struct Loop {
        const LoopOps *ops;
        Random random;
        Timer **heap;
        size_t n_heap, heap_capacity;
        uint64_t serial;
        Deferred *first, *last;
        uint64_t armed_ms;  /* what wake_at() was told last */
        uint64_t grain_ms;  /* 1 where now_ms() hides a fraction, so that no timer fires early; 0 in virtual
                               time */
        bool running;       /* in loop_run_due(): wake_at() is told once, at its end */
        size_t freed;       /* bytes, by loop_freed() */
        Deferred *on_freed; /* borrowed; NULL: none */
        Turns turns;
};

/* Reports that a callback is over, to the backend that measures turns. */
static inline void loop_ran(Loop *loop, const char *name) {
        if (loop->ops->ran)
                loop->ops->ran(loop, name);
}

void loop_init(Loop *loop, const LoopOps *ops, uint64_t seed);
void loop_done(Loop *loop); /* asserts that nothing is armed or queued any more */

/* Runs what is due now: deferred calls first, then timers, then deferred calls they made, at most 'budget' in
 * all. Whoever defers or arms itself again while it runs has its turn in the next call, so nobody starves the
 * others. Returns true if there is more to do at once. Called by the backend on each wake. */
bool loop_run_due(Loop *loop, unsigned budget);
bool loop_run_due_at(Loop *loop, uint64_t now_ms, unsigned budget); /* the timers that were due by 'now_ms' */
uint64_t loop_next_due_ms(const Loop *loop); /* now when something is deferred; UINT64_MAX when idle */
