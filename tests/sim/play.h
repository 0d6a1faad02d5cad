/* What a simulation of whole daemons begins with: one world and one cluster at a time, and waits in virtual
 * time of at most PATIENCE_MS in steps of STEP_MS, both of the program. */
#pragma once

#include "tests/sim/cluster.h"

static World *world;
static SimCluster *cluster;

#define UNTIL(name, expression)                                                                   \
        do {                                                                                      \
                uint64_t until_ms_ = world_now_ms(world) + PATIENCE_MS;                           \
                while (!(expression)) {                                                           \
                        if (world_now_ms(world) > until_ms_)                                      \
                                world_failed(world, name, "not within %d s", PATIENCE_MS / 1000); \
                        run_ms(STEP_MS);                                                          \
                }                                                                                 \
        } while (false)

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
