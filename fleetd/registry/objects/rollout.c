/* Rollouts of sets, requested moves of units, and the numbers of instances. */
#include "fleetd/registry/kinds.h"

KIND(rollout, "rollout/%u", "rollout", CHANGED_ROLLOUT, OF_UNIT, KV_LEVEL_UPDATES, SLICE_UNIT,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_stays, .record = &rollout_record);

KIND(move, "move/%u", "move", CHANGED_MOVE, OF_UNIT, KV_LEVEL_UPDATES, SLICE_NONE,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_ends, .record = &move_record);

KIND(replicas, "replicas/%u", "replicas", CHANGED_REPLICAS, OF_UNIT, KV_LEVEL_SCHEDULING, SLICE_NONE,
     { .set = RIGHT_UNITS_CHANGE }, REMOVAL_KEEPS, kind_stays, .record = &replicas_record);
