/* A failing run made smaller: tried with less, in a process of its own each time, as long as the same check
 * fails. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Verdict {
        char checker[64]; /* the name of the check that failed, "crash", or "": all held */
        uint64_t at_s;    /* of the run, rounded up */
} Verdict;

/* What 'run' comes to; it says itself what failed, as world_failed() does. */
Verdict shrink_try(void (*run)(void *userdata), void *userdata);
bool shrink_same(const Verdict *a, const Verdict *b);
