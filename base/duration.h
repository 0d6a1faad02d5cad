/* Counts of durations, in buckets that double from 0.5 ms to 4 s: for metrics. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { DURATION_BUCKETS = 14 };

typedef struct DurationCounts {
        uint64_t buckets[DURATION_BUCKETS + 1]; /* up to duration_bounds_ns[i]; the last one: longer */
        uint64_t sum_ns;
} DurationCounts;

extern const uint64_t duration_bounds_ns[DURATION_BUCKETS];

void duration_count(DurationCounts *counts, uint64_t ns);
