#include "tests/sim/scenarios.h"

#include "base/log.h"
#include "tests/lib/size.h"
#include "tests/sim/seeds.h"

static Stores *running; /* for the log's sink, which has no other way */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (running)
                stores_log(running, message);
}

void run_ms(Stores *all, uint64_t ms) {
        world_run(all->world, world_now_ms(all->world) + ms);
}

static void on_gone(void *userdata, Host *h) {}

static void run_scenario(const char *program, const Scenario *scenario, uint64_t seed, bool trace) {
        Stores all = {
                .world = world_new(seed, trace), .n = scenario->hosts, .quiet = true, .gone = on_gone
        };
        char replay[128];

        snprintf(replay, sizeof(replay), "tests/sim/%s", program);
        world_set_replay(all.world, replay);
        all.watchers = watchers_new(all.world, 1);
        running = &all;
        stores_begin(&all);
        scenario->run(&all);
        stores_end(&all);
        running = NULL;
        watchers_free(all.watchers);
        world_free(all.world);
}

int scenarios_main(const char *program, const Scenario *scenarios, size_t n, int argc, char *argv[]) {
        Seeds o = { .seed = 1, .runs = test_size(1, 3, 3) };

        if (!seeds_parse(&o, argc, argv))
                return 2;
        log_set_sink(on_log, NULL);
        log_set_max_priority(LOG_DEBUG);
        for (size_t i = 0; i < n; i++) {
                for (uint64_t k = 0; k < o.runs; k++)
                        run_scenario(program, &scenarios[i], o.seed + k, o.trace);
                printf("ok %s in %" PRIu64 " seeds\n", scenarios[i].name, o.runs);
        }
        return 0;
}
