/* Time and randomness. Only this module reads them; other code receives them as arguments. */
#pragma once

#include "base/memory.h"

/* CLOCK_MONOTONIC and CLOCK_REALTIME in ms, for the real loop and the client only. Components use their Loop.
 */
uint64_t clock_monotonic_ms(void);
uint64_t clock_real_ms(void);
/* CLOCK_BOOTTIME in ms, which also runs while the host is suspended, for the real loop and the guard. */
uint64_t clock_boot_ms(void);

/* A seeded generator (xoshiro256**, Blackman and Vigna). Not for secrets. */
typedef struct Random {
        uint64_t s[4];
} Random;

void random_seed(Random *r, uint64_t seed);
uint64_t random_u64(Random *r);
uint64_t random_below(Random *r, uint64_t n); /* 0 .. n-1; n > 0 */
int random_seed_from_system(Random *r);       /* getrandom(2); 0 or a negative errno */
