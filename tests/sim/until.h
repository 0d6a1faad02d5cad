/* Wait in virtual time, at most PATIENCE_MS in steps of STEP_MS, both of the program, as 'world' and
 * run_ms(). */
#pragma once

#include "tests/sim/world.h"

#define UNTIL(name, expression) WORLD_UNTIL(world, PATIENCE_MS, name, expression, run_ms(STEP_MS))
