/* A loop whose clock the test sets, and whose work runs when the test requests it. */
#pragma once

#include "io/loop.h"

typedef struct ManualLoop {
        Loop base;
        uint64_t now_ms; /* 1000 */
        Work *queued[8];
        size_t n;
} ManualLoop;

void manual_loop_init(ManualLoop *loop, uint64_t seed); /* loop_done() of its base ends it */
bool manual_loop_work(ManualLoop *loop); /* the first in the queue, with its 'done'; false: there is none */
