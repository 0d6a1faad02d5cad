/* Rollouts of sets, and requested moves of units. */
#include "fleetd/registry/kinds.h"

KIND(rollout, "rollout/%u", "rollout", CHANGED_ROLLOUT, OF_UNIT, KV_LEVEL_UPDATES, SLICE_UNIT,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_stays, .record = &rollout_record);

KIND(move, "move/%u", "move", CHANGED_MOVE, OF_UNIT, KV_LEVEL_UPDATES, SLICE_NONE,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_ends, .record = &move_record);
