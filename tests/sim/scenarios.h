/* Named scenarios of stores, each over some seeds: the main() of their programs. */
#pragma once

#include "tests/sim/stores.h"

enum { PATIENCE_MS = 60000, LOOK_MS = 10 };

typedef struct Scenario {
        const char *name;
        void (*run)(Stores *all);
        unsigned hosts;
} Scenario;

/* Run all scenarios: [--seed N] [--runs N] [--trace]. Print "ok NAME in N seeds" for each; return the exit
 * status. 'program' is its name in tests/sim, for the line that replays a failure. */
int scenarios_main(const char *program, const Scenario *scenarios, size_t n, int argc, char *argv[]);

void run_ms(Stores *all, uint64_t ms);
