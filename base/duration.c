#include "base/duration.h"

#define HALF_MS_NS 500000ull

#define BOUND(n)   [n] = HALF_MS_NS << (n)

const uint64_t duration_bounds_ns[DURATION_BUCKETS] = {
        BOUND(0), BOUND(1), BOUND(2), BOUND(3),  BOUND(4),  BOUND(5),  BOUND(6),
        BOUND(7), BOUND(8), BOUND(9), BOUND(10), BOUND(11), BOUND(12), BOUND(13),
};

void duration_count(DurationCounts *counts, uint64_t ns) {
        size_t bucket = 0;

        while (bucket < DURATION_BUCKETS && ns > duration_bounds_ns[bucket])
                bucket++;
        counts->buckets[bucket]++;
        counts->sum_ns += ns;
}
