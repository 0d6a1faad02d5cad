/* What a simulation of whole daemons begins with: one world and one cluster at a time, and waits in virtual
 * time (until.h). */
#pragma once

#include "tests/sim/until.h"
#include "tests/sim/worlds.h"

static inline void run_ms(uint64_t ms) {
        world_run(world, world_now_ms(world) + ms);
}
