/* The cost of the turns of an event loop.
 *
 * A turn is everything that runs between two polls. Its time is the CPU time of the loop's thread, so that a
 * busy host does not count; wall time is kept beside it. Its work is counted in units that are equal on every
 * machine: nodes visited and bytes moved.
 *
 * Pure: the backend of the loop reads the clocks and reports pieces and ends of turns. A simulated loop
 * reports work only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
        TURN_BUDGET_MS = 20,           /* CPU time; longer turns are logged ... */
        TURN_LOG_PAUSE_MS = 60 * 1000, /* ... at most once in this time */
        TURN_BUCKETS = 11,
        TURN_WORK_MAX =
                4 * 1024 *
                1024, /* a turn with so much work begins no further requests; in bytes, some milliseconds */
        TURN_NODE = 256, /* bytes that could be moved in the time of a visit to a node */
};

typedef struct TurnWork {
        uint64_t nodes, bytes;
} TurnWork;

typedef struct Turns {
        /* The turn under way: its work, and the callback that took the longest (wall time). */
        TurnWork now;
        const char *longest;
        uint64_t longest_ns;
        /* Since the start. */
        uint64_t n, cpu_ns, wall_ns;
        uint64_t buckets[TURN_BUCKETS +
                         1]; /* turns by CPU time, up to turn_bucket_ns[i]; the last one: longer */
        uint64_t cpu_max_ns, wall_max_ns; /* of different turns, possibly */
        TurnWork total, most;             /* 'most' of different turns, possibly */
        uint64_t n_over, logged_ms; /* longer than TURN_BUDGET_MS, since the last report; loop time of that
                                       report, 0: none */
} Turns;

/* A turn that is to be logged. */
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

/* A callback of this turn is over and took 'ns'; 'name' is static. */
void turns_ran(Turns *t, const char *name, uint64_t ns);
/* The turn is over. True: *ret is to be logged. */
bool turns_end(Turns *t, uint64_t cpu_ns, uint64_t wall_ns, uint64_t now_ms, TurnReport *ret);
/* The same for a loop without clocks; returns the work of the turn. */
TurnWork turns_end_work(Turns *t);
