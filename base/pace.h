/* A rate with a burst. Pure: time is an argument. */
#pragma once

#include "base/memory.h"

/* The units that were taken, in thousandths, less those given back until 'updated_ms'. Zero: none. */
typedef struct Pace {
        uint64_t updated_ms, thousandths;
} Pace;

/* Give back what was taken before, 'per_second'. Return the ms until one more fits into 'burst'; 0: now. */
static inline uint64_t pace_wait_ms(Pace *pace, uint64_t per_second, uint64_t burst, uint64_t now_ms) {
        uint64_t passed_ms = now_ms > pace->updated_ms ? now_ms - pace->updated_ms : 0, over;

        passed_ms = MIN(passed_ms, pace->thousandths / per_second + 1);
        pace->thousandths -= MIN(pace->thousandths, passed_ms * per_second);
        pace->updated_ms = now_ms;
        if (pace->thousandths + 1000 <= burst * 1000)
                return 0;
        over = pace->thousandths + 1000 - burst * 1000;
        return (over + per_second - 1) / per_second;
}

/* Take n, also above the burst; after pace_wait_ms() of the same time. */
static inline void pace_take(Pace *pace, uint64_t n) {
        pace->thousandths += n * 1000;
}

/* Take one if it fits. */
static inline bool pace_try(Pace *pace, uint64_t per_second, uint64_t burst, uint64_t now_ms) {
        if (pace_wait_ms(pace, per_second, burst, now_ms) > 0)
                return false;
        pace_take(pace, 1);
        return true;
}
