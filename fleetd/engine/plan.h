/* What should change in the cluster: pure. A picture in, orders out, each with its reason. Planning twice gives nothing the
 * second time; a full pass equals the incremental one. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct EnginePlan {
        OrderChange *changes;
        size_t n, capacity;
        uint64_t again_ms; /* cluster ms from now after which time alone changes the plan (brake, backoff); UINT64_MAX: never */
} EnginePlan;

void engine_plan_done(EnginePlan *plan);

/* Names of units to look at (NULL: all). */
int engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms, EnginePlan *ret);
