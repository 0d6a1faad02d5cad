/* Named scenarios of stores, each over some seeds: the main of their programs. */
#pragma once

#include "tests/sim/stores.h"

typedef struct Scenario {
        const char *name;
        void (*run)(Stores *all);
        unsigned hosts;
} Scenario;

/* [--seed N] [--runs N] [--trace]; 'program' is its name in tests/sim, for the line that replays
 * a failure. Says "ok NAME in N seeds" for each. The exit status. */
int scenarios_main(const char *program, const Scenario *scenarios, size_t n, int argc, char *argv[]);
