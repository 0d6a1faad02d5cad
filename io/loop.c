/* The pure part of the loop: a binary heap of timers, a list of deferred calls, and their order. */
#include "io/loop.h"

enum { HEAP_RESERVE = 16 }; /* timers that can be armed while no memory is available */

uint64_t loop_now_ms(const Loop *loop) {
        return loop->ops->now_ms(loop);
}

uint64_t loop_clock_ns(const Loop *loop) {
        return loop->ops->clock_ns ? loop->ops->clock_ns() : loop->ops->now_ms(loop) * 1000 * 1000;
}

uint64_t loop_boot_ms(const Loop *loop) {
        return loop->ops->boot_ms ? loop->ops->boot_ms(loop) : loop->ops->now_ms(loop);
}

uint64_t loop_wall_ms(const Loop *loop) {
        return loop->ops->wall_ms(loop);
}

Random *loop_random(Loop *loop) {
        return &loop->random;
}

int loop_work(Loop *loop, Work *work) {
        return loop->ops->work(loop, work);
}

void loop_count(Loop *loop, uint64_t nodes, uint64_t bytes) {
        loop->turns.now.nodes += nodes;
        loop->turns.now.bytes += bytes;
}

void loop_freed(Loop *loop, size_t bytes) {
        loop->freed += bytes;
        if (loop->freed < LOOP_FREED_MAX)
                return;
        loop->freed = 0;
        if (loop->on_freed)
                loop_defer(loop, loop->on_freed);
}

const Turns *loop_turns(const Loop *loop) {
        return &loop->turns;
}

bool loop_has_budget(const Loop *loop) {
        return turn_work_bytes(&loop->turns.now) < TURN_WORK_MAX &&
               !(loop->ops->is_late && loop->ops->is_late(loop));
}

void loop_init(Loop *loop, const LoopOps *ops, uint64_t seed) {
        *loop = (Loop) { .ops = ops, .armed_ms = UINT64_MAX };
        TAILQ_INIT(&loop->deferred);
        TAILQ_INIT(&loop->early);
        random_seed(&loop->random, seed);
}

void loop_done(Loop *loop) {
        assert(loop->n_heap == 0);
        assert(!loop_has_deferred(loop));

        free(loop->heap);
        loop->heap = NULL;
        loop->heap_capacity = 0;
}

bool loop_has_deferred(const Loop *loop) {
        return !TAILQ_EMPTY(&loop->deferred);
}

uint64_t loop_next_due_ms(const Loop *loop) {
        if (loop_has_deferred(loop))
                return loop_now_ms(loop);
        return loop->n_heap > 0 ? loop->heap[0]->due_ms : UINT64_MAX;
}

/* Notify the backend of a new earliest deadline; loop_run_due() does so once, at its end. */
static void loop_rearm(Loop *loop) {
        uint64_t due_ms;

        if (loop->running)
                return;
        due_ms = loop_next_due_ms(loop);
        if (due_ms == loop->armed_ms)
                return;
        loop->armed_ms = due_ms;
        loop->ops->wake_at(loop, due_ms);
}

/* -- Timers -- */

static bool timer_before(const Timer *a, const Timer *b) {
        return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->serial < b->serial;
}

static void heap_put(Loop *loop, size_t slot, Timer *timer) {
        loop->heap[slot - 1] = timer;
        timer->slot = slot;
}

static void heap_sift(Loop *loop, Timer *timer) {
        size_t slot = timer->slot;

        while (slot > 1 && timer_before(timer, loop->heap[slot / 2 - 1])) {
                heap_put(loop, slot, loop->heap[slot / 2 - 1]);
                slot /= 2;
        }
        for (;;) {
                size_t child = slot * 2;

                if (child > loop->n_heap)
                        break;
                if (child < loop->n_heap && timer_before(loop->heap[child], loop->heap[child - 1]))
                        child++;
                if (!timer_before(loop->heap[child - 1], timer))
                        break;
                heap_put(loop, slot, loop->heap[child - 1]);
                slot = child;
        }
        heap_put(loop, slot, timer);
}

static void timer_end_slack(Timer *timer) {
        if (timer->early_ms > 0)
                TAILQ_REMOVE(&timer->loop->early, timer, early);
        timer->early_ms = 0;
}

/* Keep the order of 'early_ms': from the end, because timers with equal delays are started in this order. */
static void timer_begin_slack(Timer *timer, uint64_t early_ms) {
        Loop *loop = timer->loop;
        Timer *before = TAILQ_LAST(&loop->early, TimerList);

        while (before && before->early_ms > early_ms)
                before = TAILQ_PREV(before, TimerList, early);
        timer->early_ms = early_ms;
        if (before)
                TAILQ_INSERT_AFTER(&loop->early, before, timer, early);
        else
                TAILQ_INSERT_HEAD(&loop->early, timer, early);
}

static void heap_remove(Timer *timer) {
        Loop *loop = timer->loop;
        Timer *last = loop->heap[--loop->n_heap];

        if (last != timer) {
                last->slot = timer->slot;
                heap_sift(loop, last);
        }
        timer->slot = 0;
        timer_end_slack(timer);
}

int timer_start(Timer *timer, Loop *loop, uint64_t delay_ms) {
        return timer_start_with_slack(timer, loop, delay_ms, 0);
}

int timer_start_with_slack(Timer *timer, Loop *loop, uint64_t delay_ms, uint64_t slack_ms) {
        uint64_t early_ms, due_ms;
        int r;

        assert(timer->fire);

        if (timer_armed(timer) && timer->loop != loop)
                timer_stop(timer);
        if (!timer_armed(timer)) {
                /* Grow before the heap is full: callers that arm a timer again often cannot report a failure.
                 */
                r = GROW(loop->heap, loop->heap_capacity, loop->n_heap + HEAP_RESERVE);
                if (r < 0 && loop->n_heap == loop->heap_capacity)
                        return r;
                loop->n_heap++;
                timer->slot = loop->n_heap;
                timer->loop = loop;
        }

        if (delay_ms > 0)
                delay_ms = delay_ms > UINT64_MAX - loop->grain_ms ? UINT64_MAX : delay_ms + loop->grain_ms;
        if (__builtin_add_overflow(loop_now_ms(loop), delay_ms, &early_ms))
                early_ms = UINT64_MAX;
        if (__builtin_add_overflow(early_ms, slack_ms, &due_ms))
                due_ms = UINT64_MAX;
        timer_end_slack(timer);
        timer->due_ms = due_ms;
        if (early_ms < due_ms)
                timer_begin_slack(timer, early_ms);
        timer->serial = loop->serial++;
        heap_sift(loop, timer);
        loop_rearm(loop);
        return 0;
}

int timer_start_by(Timer *timer, Loop *loop, uint64_t due_ms, uint64_t slack_ms) {
        uint64_t now_ms = loop_now_ms(loop);

        if (timer_armed(timer) && timer->due_ms <= due_ms + slack_ms)
                return 0;
        return timer_start_with_slack(timer, loop, due_ms > now_ms ? due_ms - now_ms : 0, slack_ms);
}

void timer_stop(Timer *timer) {
        if (!timer_armed(timer))
                return;

        heap_remove(timer);
        loop_rearm(timer->loop);
}

/* -- Deferred calls -- */

void loop_defer(Loop *loop, Deferred *deferred) {
        if (deferred->loop)
                return;

        deferred->loop = loop;
        deferred->serial = loop->serial++;
        TAILQ_INSERT_TAIL(&loop->deferred, deferred, deferred);
        loop_rearm(loop);
}

static void deferred_unlink(Deferred *deferred) {
        TAILQ_REMOVE(&deferred->loop->deferred, deferred, deferred);
        deferred->loop = NULL;
}

void deferred_cancel(Deferred *deferred) {
        Loop *loop = deferred->loop;

        if (!loop)
                return;
        deferred_unlink(deferred);
        loop_rearm(loop);
}

/* -- Running -- */

/* Run the deferred calls with a serial below 'before'. Calls that are deferred meanwhile run in the next
 * pass: a callback that defers itself repeatedly must not delay the others. */
static void loop_run_deferred(Loop *loop, uint64_t before, unsigned *budget) {
        Deferred *deferred;

        while (*budget > 0 && (deferred = TAILQ_FIRST(&loop->deferred)) && deferred->serial < before) {
                const char *name = deferred->name ?: "deferred call"; /* the call may free 'deferred' */

                deferred_unlink(deferred);
                (*budget)--;
                deferred->run(deferred->userdata);
                loop_ran(loop, name);
        }
}

/* The loop runs: timers within their slack are due. */
static void loop_end_slack(Loop *loop, uint64_t now_ms) {
        Timer *timer;

        while ((timer = TAILQ_FIRST(&loop->early)) && timer->early_ms <= now_ms) {
                timer->due_ms = MIN(timer->due_ms, now_ms);
                timer_end_slack(timer);
                heap_sift(loop, timer);
        }
}

static void loop_run_timers(Loop *loop, uint64_t now_ms, uint64_t before, unsigned *budget) {
        while (*budget > 0 && loop->n_heap > 0) {
                Timer *timer = loop->heap[0];
                const char *name = timer->name ?: "timer"; /* the call may free 'timer' */

                if (timer->due_ms > now_ms || timer->serial >= before)
                        return;
                heap_remove(timer);
                (*budget)--;
                timer->fire(timer->userdata);
                loop_ran(loop, name);
        }
}

bool loop_run_due(Loop *loop, unsigned budget) {
        return loop_run_due_at(loop, loop_now_ms(loop), budget);
}

bool loop_run_due_at(Loop *loop, uint64_t now_ms, unsigned budget) {
        bool more;

        assert(!loop->running);

        loop->running = true;
        loop_end_slack(loop, now_ms);
        loop_run_deferred(loop, loop->serial, &budget);
        loop_run_timers(loop, now_ms, loop->serial, &budget);
        loop_run_deferred(loop, loop->serial, &budget);
        loop->running = false;

        more = loop_has_deferred(loop) || (loop->n_heap > 0 && loop->heap[0]->due_ms <= now_ms);
        loop->armed_ms = loop_next_due_ms(loop);
        loop->ops->wake_at(loop, loop->armed_ms);
        return more;
}
