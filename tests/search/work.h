/* Work of a program's own code, counted and not timed, so that it is the same on every machine. The linker
 * replaces the calls that are counted (WORK_WRAP in tests/search/local.mk).
 *
 * The unit is the time in which a byte is moved: COST_ENTRY_MAX of kvstore/command/cost.h are COST_ENTRY_MS.
 * The prices of calls were found with tests/bench/cost. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
        WORK_CALL = 256,        /* of LMDB */
        WORK_FRAME = 32,        /* a frame between hosts that is dispatched */
        WORK_EVENT = 32,        /* an event of a window that is looked at */
        WORK_COPY = 128,        /* an event that is copied */
        WORK_CANDIDATE = 300,   /* a machine that the planner considers for a unit */
        WORK_CHILD = 64 * 1024, /* the start of a child, and its end: what the loop does for it */
};

extern uint64_t work_done;        /* since the program has set it to 0 */
extern bool (*work_counts)(void); /* now; set by the program */

void work_count(uint64_t n);
