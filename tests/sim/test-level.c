/* Three hosts of an older program, upgraded one by one: the feature level stays until the last one is, and
 * is raised, one level at a time, when all have supported the next one for the required time, also after
 * crashes; no host stops. Hosts publish their capacity from its level on, and an idle cluster writes nothing
 * for it. A cluster of a new program begins at the newest level. (An older program that meets
 * it: tests/sim/stores.c.)
 *
 *      test-level [--seed N] [--runs N] [--trace]
 */

#include "base/log.h"
#include "tests/sim/cluster.h"
#include "tests/sim/seeds.h"

enum { PATIENCE_MS = 60000, WAIT_MS = 30000, QUIET_MS = 10000 };

static World *tracing;
static bool refused; /* an old program, as its journal says */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (tracing)
                world_trace(tracing, "log", "%s", message);
        refused |= strstr(message, "feature level") && strstr(message, "upgrade this host");
}

#define UNTIL(c, name, expression)                             \
        WORLD_UNTIL((c)->world, PATIENCE_MS, name, expression, \
                    world_run((c)->world, world_now_ms((c)->world) + 50))

static unsigned members_at(SimCluster *c, unsigned level) {
        unsigned n = 0;

        for (unsigned i = 0; i < c->n; i++) {
                KvState state = machine_state(&c->machines[i]);

                n += state.ready && state.n_voters == 3 && state.level == level;
        }
        return n;
}

static int on_row(void *userdata, const KvHistoryRow *row) {
        *(bool *) userdata = true;
        return 0;
}

static bool has_history(const SimMachine *m) {
        bool has = false;

        return m->daemon && !m->dying && daemon_host(m->daemon)->store &&
               kv_local_history(daemon_host(m->daemon)->store, 0, false, on_row, &has) == 0 && has;
}

/* The hosts whose capacity the cluster knows, as host 'm' sees it. */
static unsigned n_sized(const SimMachine *m) {
        Registry *r = m->daemon && !m->dying ? daemon_host(m->daemon)->registry : NULL;
        unsigned n = 0;

        for (const ClusterMachine *x = r && registry_ready(r) ? registry_cluster(r)->machines : NULL; x;
             x = x->hh.next)
                n += x->facts && resources_are_set(x->facts->capacity);
        return n;
}

static void check_level(SimCluster *c, unsigned level) {
        for (unsigned i = 0; i < c->n; i++)
                if (level < KV_LEVEL_SCHEDULING && n_sized(&c->machines[i]) > 0)
                        world_failed(c->world, "capacities-begin-with-their-level",
                                     "%s knows one at level %u", c->machines[i].name, level);
        for (unsigned i = 0; i < c->n; i++)
                if (level < KV_LEVEL_HISTORY && has_history(&c->machines[i]))
                        world_failed(c->world, "the-history-begins-with-its-level", "%s at level %u",
                                     c->machines[i].name, level);
        for (unsigned i = 0; i < c->n; i++)
                if (machine_state(&c->machines[i]).level > level)
                        world_failed(c->world, "a-level-waits-for-all", "%s is at %u", c->machines[i].name,
                                     machine_state(&c->machines[i]).level);
}

static void restart(SimCluster *c, SimMachine *m, unsigned level_max) {
        machine_stop_daemon(m);
        UNTIL(c, "a-daemon-stops", !m->loop);
        m->level_max = level_max;
}

/* Capacities are published once: a cluster in which nothing changes writes no entry. */
static void check_idle(SimCluster *c) {
        uint64_t before;

        UNTIL(c, "capacities-are-published", n_sized(&c->machines[0]) == c->n);
        world_run(c->world, world_now_ms(c->world) + QUIET_MS);
        before = machine_state(&c->machines[0]).raft_index;
        world_run(c->world, world_now_ms(c->world) + QUIET_MS);
        if (machine_state(&c->machines[0]).raft_index != before)
                world_failed(c->world, "idle-is-idle", "%llu entries in %d s of nothing",
                             (unsigned long long) (machine_state(&c->machines[0]).raft_index - before),
                             QUIET_MS / 1000);
}

static World *world_begin(uint64_t seed, bool trace, SimCluster **ret) {
        World *w = world_new(seed, trace);

        tracing = w;
        refused = false;
        world_set_replay(w, "tests/sim/test-level");
        *ret = cluster_new(w, 3);
        (*ret)->level_wait_ms = WAIT_MS;
        for (unsigned i = 0; i < 3; i++)
                (*ret)->machines[i].physical = (Resources) { 16384, 400 };
        return w;
}

static void world_end(World *w, SimCluster *c) {
        check_hashes(c);
        cluster_free(c);
        tracing = NULL;
        world_free(w);
}

/* Kill the daemon of the leader, or of another host; it starts again after two seconds. */
static void crash(SimCluster *c, bool of_leader) {
        SimMachine *m = c->machines;

        while (m < c->machines + c->n - 1 && (machine_state(m).role == KV_ROLE_LEADER) != of_leader)
                m++;
        world_trace(c->world, m->name, "is killed");
        machine_suspect(m, world_now_ms(c->world), world_now_ms(c->world) + PATIENCE_MS);
        machine_crash_daemon(m);
        world_run(c->world, world_now_ms(c->world) + 2000);
        machine_start_daemon(m);
}

/* Upgrade all but the last to 'level' at once: the level stays until the last one is upgraded, and a day has
 * passed. Hosts crash during this time, and when the level is raised. */
static void upgrade(SimCluster *c, SimMachine *last, unsigned from, unsigned level) {
        World *w = c->world;
        bool crashed = false;
        uint64_t since_ms;

        for (unsigned i = 0; i < c->n; i++)
                if (&c->machines[i] != last) {
                        restart(c, &c->machines[i], level);
                        machine_start_daemon(&c->machines[i]);
                        UNTIL(c, "a-host-comes-back", members_at(c, from) == 3);
                }
        world_run(w, world_now_ms(w) + 2 * WAIT_MS);
        check_level(c, from);

        restart(c, last, level);
        machine_start_daemon(last);
        since_ms = world_now_ms(w);
        while (world_now_ms(w) < since_ms + WAIT_MS - 1000) {
                world_run(w, world_now_ms(w) + 200);
                check_level(c, from);
                if (!crashed && world_now_ms(w) > since_ms + WAIT_MS / 2) {
                        crash(c, level % 2 == 0);
                        crashed = true;
                }
        }
        UNTIL(c, "a-level-that-all-support-is-raised", members_at(c, level) > 0);
        crash(c, level % 2 != 0);
        UNTIL(c, "a-level-that-all-support-is-raised", members_at(c, level) == 3);
}

/* A cluster that an older version founded goes from level to level. */
static void run_once(uint64_t seed, bool trace) {
        SimCluster *c;
        World *w = world_begin(seed, trace, &c);
        SimMachine *last = &c->machines[world_draw(w, 3)];

        for (unsigned i = 0; i < c->n; i++) {
                c->machines[i].level_max = KV_LEVEL_FIRST;
                world_at(w, i * 100, NULL, machine_begin, &c->machines[i]);
        }
        UNTIL(c, "a-cluster-forms", members_at(c, KV_LEVEL_FIRST) == 3);
        world_run(w, world_now_ms(w) + 2 * WAIT_MS);
        check_level(c, KV_LEVEL_FIRST);
        for (unsigned level = KV_LEVEL_FIRST + 1; level <= KV_LEVEL_MAX; level++)
                upgrade(c, last, level - 1, level);
        check_idle(c);
        if (refused)
                world_failed(w, "no-host-stops-for-a-level-that-all-support", "one did");
        world_end(w, c);
}

/* A cluster that this version founds begins at its level without a wait. */
static void found_once(uint64_t seed, bool trace) {
        SimCluster *c;
        World *w = world_begin(seed, trace, &c);
        uint64_t began_ms = world_now_ms(w);

        for (unsigned i = 0; i < c->n; i++)
                world_at(w, i * 100, NULL, machine_begin, &c->machines[i]);
        UNTIL(c, "a-cluster-forms", members_at(c, KV_LEVEL_MAX) == 3);
        if (world_now_ms(w) >= began_ms + WAIT_MS)
                world_failed(w, "a-new-cluster-begins-at-the-newest-level", "it took %llu ms",
                             (unsigned long long) (world_now_ms(w) - began_ms));
        check_idle(c);
        if (refused)
                world_failed(w, "no-host-stops-for-a-level-that-all-support", "one did");
        world_end(w, c);
}

int main(int argc, char *argv[]) {
        Seeds o = { .seed = 1, .runs = 5 };

        if (!seeds_parse(&o, argc, argv))
                return 2;
        log_set_sink(on_log, NULL);
        log_set_max_priority(o.trace ? LOG_DEBUG : LOG_INFO);

        for (uint64_t i = 0; i < o.runs; i++) {
                run_once(o.seed + i, o.trace);
                found_once(o.seed + i, o.trace);
        }
        printf("%llu times the level waited for all, and was raised\n", (unsigned long long) o.runs);
        return 0;
}
