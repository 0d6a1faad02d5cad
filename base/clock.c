#include "base/clock.h"

#include <sys/random.h>
#include <time.h>

static uint64_t clock_ms(clockid_t id) {
        struct timespec ts;

        clock_gettime(id, &ts);
        return (uint64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

uint64_t clock_monotonic_ms(void) {
        return clock_ms(CLOCK_MONOTONIC);
}

uint64_t clock_real_ms(void) {
        return clock_ms(CLOCK_REALTIME);
}

uint64_t clock_boot_ms(void) {
        return clock_ms(CLOCK_BOOTTIME);
}

/* Fill the state by splitmix64, which distributes a small seed over all bits. */
void random_seed(Random *r, uint64_t seed) {
        for (int i = 0; i < 4; i++) {
                uint64_t z = seed += 0x9e3779b97f4a7c15;

                z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
                z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
                r->s[i] = z ^ (z >> 31);
        }
}

static uint64_t rotate(uint64_t x, int k) {
        return (x << k) | (x >> (64 - k));
}

uint64_t random_u64(Random *r) {
        uint64_t *s = r->s, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;

        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = rotate(s[3], 45);
        return result;
}

uint64_t random_below(Random *r, uint64_t n) {
        return (uint64_t) (((unsigned __int128) random_u64(r) * n) >> 64);
}

int random_seed_from_system(Random *r) {
        uint64_t seed;

        if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
                return -errno;
        random_seed(r, seed);
        return 0;
}
