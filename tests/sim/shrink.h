/* Reduce a failing run: repeat it with less, each time in its own process, as long as the same check fails.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Verdict {
        char checker[64]; /* the name of the check that failed, "crash", or "": all held */
        uint64_t at_s;    /* of the run, rounded up */
} Verdict;

/* Return the result of 'run', which ends with world_failed() if a check fails. */
Verdict shrink_try(void (*run)(void *userdata), void *userdata);
bool shrink_same(const Verdict *a, const Verdict *b);
