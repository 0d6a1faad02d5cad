/* Wait in virtual time, at most PATIENCE_MS in steps of STEP_MS, both of the program, as 'world' and
 * run_ms(). */
#pragma once

#include "tests/sim/world.h"

#define UNTIL(name, expression)                                                                   \
        do {                                                                                      \
                uint64_t until_ms_ = world_now_ms(world) + PATIENCE_MS;                           \
                while (!(expression)) {                                                           \
                        if (world_now_ms(world) > until_ms_)                                      \
                                world_failed(world, name, "not within %d s", PATIENCE_MS / 1000); \
                        run_ms(STEP_MS);                                                          \
                }                                                                                 \
        } while (false)
