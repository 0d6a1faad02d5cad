/* One world and one cluster at a time: the main() of simulations that run over some seeds. */
#pragma once

#include "base/log.h"
#include "tests/sim/cluster.h"
#include "tests/sim/seeds.h"

static World *world;
static SimCluster *cluster;

typedef void WorldsLog(void *userdata, int priority, const LogFields *fields, const char *message);

static inline void trace_message(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (world)
                world_trace(world, "log", "%s", message);
}

/* Run each scenario in a world of its own, for each seed: [--seed N] [--runs N] [--trace]. The scenario makes
 * the cluster. Return the number of seeds; 0: an option is unknown. */
static inline unsigned long long worlds_run(const char *program, Seeds o, WorldsLog *on_log,
                                            void (*const scenarios[])(void), size_t n, int argc,
                                            char *argv[]) {
        if (!seeds_parse(&o, argc, argv))
                return 0;
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace ? LOG_DEBUG : LOG_INFO);
        for (uint64_t i = 0; i < n * o.runs; i++) {
                World *w = world_new(o.seed + i / n, o.trace);

                world_set_replay(w, program);
                world = w;
                scenarios[i % n]();
                world = NULL;
                if (cluster)
                        cluster = cluster_free(cluster);
                world_free(w);
        }
        return o.runs;
}
