/* The cost of the turns of an event loop.
 *
 * A turn is all that runs between two polls. Its time is the CPU time of the loop's thread, which other load
 * on the host does not affect; wall time is measured in addition. Its work has units that are equal on each
 * machine: nodes visited and bytes moved.
 *
 * Pure: the backend of the loop reads the clocks, and reports callbacks and ends of turns. A simulated loop
 * reports work only. */
#pragma once

#include "base/memory.h"

enum {
        TURN_BUDGET_MS = 20,           /* CPU time; longer turns are logged ... */
        TURN_LOG_PAUSE_MS = 60 * 1000, /* ... at most once in this time */
        /* A turn with more CPU time, or with more work in bytes, begins no further requests. */
        TURN_TIME_MS = 10,
        TURN_WORK_MAX = 4 * 1024 * 1024,
        TURN_BUCKETS = 11,
        TURN_NODE = 256, /* bytes that can be moved in the time of a visit to a node */
};

typedef struct TurnWork {
        uint64_t nodes, bytes;
} TurnWork;

typedef struct Turns {
        /* The current turn: its work, and its longest callback (wall time). */
        TurnWork now;
        const char *longest;
        uint64_t longest_ns;
        /* Since the start: */
        uint64_t n, cpu_ns;
        uint64_t buckets[TURN_BUCKETS +
                         1]; /* turns by CPU time, up to turn_bucket_ns[i]; the last one: longer */
        uint64_t cpu_max_ns, wall_max_ns; /* may be of different turns */
        TurnWork total, most;             /* 'most': may be of different turns */
        uint64_t n_over;                  /* turns above TURN_BUDGET_MS since the last report */
        uint64_t logged_ms;               /* loop time of that report, 0: none */
} Turns;

/* A turn to log. */
typedef struct TurnReport {
        uint64_t cpu_ms, wall_ms, longest_ms;
        const char *longest; /* "file.c:function", static */
        TurnWork work;
        uint64_t n_over; /* turns over the budget since the last report, this one included */
} TurnReport;

static inline uint64_t turn_work_bytes(const TurnWork *work) {
        return work->bytes + work->nodes * TURN_NODE;
}

extern const uint64_t turn_bucket_ns[TURN_BUCKETS];

/* Record a callback of the current turn that took 'ns'; 'name' is static. */
void turns_ran(Turns *t, const char *name, uint64_t ns);
/* End the turn. Return true if the caller should log *ret. */
bool turns_end(Turns *t, uint64_t cpu_ns, uint64_t wall_ns, uint64_t now_ms, TurnReport *ret);
/* The same for a loop without clocks. Return the work of the turn. */
TurnWork turns_end_work(Turns *t);
