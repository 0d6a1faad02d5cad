/* What a simulation of whole daemons begins with: one world and one cluster at a time, and waits in virtual
 * time (until.h). */
#pragma once

#include "tests/sim/cluster.h"
#include "tests/sim/until.h"

static World *world;
static SimCluster *cluster;

static inline void run_ms(uint64_t ms) {
        world_run(world, world_now_ms(world) + ms);
}

static inline void trace_message(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (world)
                world_trace(world, "log", "%s", message);
}

static inline KvState store_state(const SimMachine *m) {
        KvState state = {};

        if (machine_serves(m))
                kv_state(daemon_store(m->daemon), &state);
        return state;
}
