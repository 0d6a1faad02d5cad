/* A loop whose clock stands still, and whose work runs when the test says so. */
#pragma once

#include "io/loop.h"

typedef struct ManualLoop {
        Loop base;
        Work *queued[8];
        size_t n;
} ManualLoop;

void manual_loop_init(ManualLoop *loop, uint64_t seed); /* loop_done() of its base ends it */
bool manual_loop_work(ManualLoop *loop); /* the first in the queue, with its 'done'; false: there is none */
