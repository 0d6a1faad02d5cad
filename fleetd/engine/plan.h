/* What should change in the cluster: pure. A picture in, orders out, each with its reason. Planning twice gives nothing the
 * second time; a full pass equals the incremental one. */
#pragma once

#include "fleetd/registry/registry.h"

typedef struct EnginePlan {
        OrderChange *changes;
        size_t n, capacity;
        bool more;         /* full: there is more to plan once this is written */
        uint64_t again_ms; /* cluster ms from now after which time alone changes the plan (brake, rest); UINT64_MAX: never */
} EnginePlan;

enum { ENGINE_PLAN_MAX = 10000 }; /* changes; a unit more or less */

void engine_plan_done(EnginePlan *plan);

/* What a change may concern: calls 'add' with the name of each unit that a plan has to look at again, until it returns a
 * negative errno; 'add' with NULL means all of them. Names may come twice. */
int engine_concerned(const Cluster *cluster, const RegistryChange *change, int (*add)(void *userdata, const char *unit), void *userdata);

/* 'units': names to look at (NULL: all); units that follow others are always looked at, and those of hosts whose turn it is
 * to be replaced. 'brake_ms': for how long nothing moves when many hosts vanish together (rule 20). */
int engine_plan(const Cluster *cluster, const char *const *units, size_t n_units, uint64_t brake_ms, EnginePlan *ret);
