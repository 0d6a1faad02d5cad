/* A loop with a constant clock, whose work runs when the test requests it. */
#pragma once

#include "io/loop.h"

typedef struct ManualLoop {
        Loop base;
        Work *queued[8];
        size_t n;
} ManualLoop;

void manual_loop_init(ManualLoop *loop, uint64_t seed); /* loop_done() of its base ends it */
bool manual_loop_work(ManualLoop *loop); /* the first in the queue, with its 'done'; false: there is none */
