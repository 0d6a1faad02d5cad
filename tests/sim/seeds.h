/* The options of simulations that run over some seeds and have no others. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Seeds {
        uint64_t seed, runs;
        bool trace;
} Seeds;

/* [--seed N] [--runs N] [--trace] over what stands in 's'; lines are written whole from then on.
 * False: one is unknown. */
bool seeds_parse(Seeds *s, int argc, char *argv[]);
