#include "tests/lib/manual_loop.h"

static uint64_t manual_time_ms(const Loop *loop) {
        return container_of(loop, const ManualLoop, base)->now_ms;
}

static void manual_wake_at(Loop *loop, uint64_t due_ms) {}

static int manual_queue(Loop *base, Work *work) {
        ManualLoop *loop = container_of(base, ManualLoop, base);

        assert(loop->n < ELEMENTS(loop->queued));
        loop->queued[loop->n++] = work;
        return 0;
}

static const LoopOps manual_ops = {
        .now_ms = manual_time_ms, .wall_ms = manual_time_ms, .wake_at = manual_wake_at, .work = manual_queue
};

void manual_loop_init(ManualLoop *loop, uint64_t seed) {
        *loop = (ManualLoop) { .now_ms = 1000 };
        loop_init(&loop->base, &manual_ops, seed);
}

bool manual_loop_work(ManualLoop *loop) {
        Work *work;

        if (loop->n == 0)
                return false;
        work = loop->queued[0];
        memmove(loop->queued, loop->queued + 1, --loop->n * sizeof(loop->queued[0]));
        work->work(work->userdata);
        work->done(work->userdata);
        return true;
}
