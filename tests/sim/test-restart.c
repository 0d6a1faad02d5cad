/* Requests to start a unit, against what else happens to it: it is stopped by hand, its daemon crashes, lags
 * or loses systemd, its text changes. Whole daemons. Each request starts the unit, and without one it stays
 * stopped.
 *
 *      test-restart [--seed N] [--runs N] [--trace]
 */

#include "tests/sim/play.h"

enum {
        PATIENCE_MS = 60000,
        STEP_MS = 5,
        ROUNDS = 40,
        TROUBLE_MS = 300,
        PAUSE_MS = 3000,
        EXECUTED_MS = 4000, /* until the daemon has executed the last request: longer than each pause */
        STAYS_MS = 5000,
};

static const char unit_name[] = "a.service";

/* One run. */
static SimMachine *host; /* of the unit */
static unsigned n_restarts, n_by_hand, n_texts;

static Registry *registry(void) {
        UNTIL("there-is-a-leader", cluster_leader(cluster));
        return daemon_host(cluster_leader(cluster)->daemon)->registry;
}

static const ClusterUnit *wanted(void) {
        return cluster_unit(registry_cluster(registry()), unit_name);
}

static void on_submitted(void *userdata, KvStatus status, const char *message, uint64_t index) {}

static void submit_text(void) {
        UnitChange change = { .name = unit_name };
        _cleanup_text_ Text text = {};
        Unit *unit = NULL;

        text_printf(&text, "[Service]\nExecStart=/bin/sleep %u\n[X-Fleet]\nMachineID=%s\nUpdateWatchSec=1s\n",
                    ++n_texts, host->machine_id);
        if (unit_parse(unit_name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (registry_change_units(registry(), &change, 1, on_submitted, NULL) < 0)
                abort();
        UNTIL("a-text-is-submitted", wanted() && wanted()->unit && streq(wanted()->unit->hash, unit->hash));
        unit_free(unit);
}

static void set_target(TargetState target) {
        UnitChange change = { .name = unit_name, .has_target = true, .target = target };

        if (registry_change_units(registry(), &change, 1, on_submitted, NULL) < 0)
                abort();
        UNTIL("a-target-is-set", wanted()->target == target);
}

static bool runs(void) {
        return sim_systemd_runs(host->systemd, unit_name);
}

static bool is_published_as_active(void) {
        const ClusterState *s = cluster_state(registry_cluster(registry()), host->machine_id, unit_name);

        return s && s->state.active && !streq(s->state.active, "inactive") &&
               !streq(s->state.active, "failed");
}

/* What happens to the daemon of the host. */
static void trouble(void) {
        switch (world_draw(world, 6)) {
        case 0:
                machine_crash_daemon(host);
                run_ms(world_draw(world, TROUBLE_MS));
                machine_start_daemon(host);
                break;
        case 1:
                world_loop_pause(host->loop, world_draw(world, PAUSE_MS));
                break;
        case 2:
                sim_systemd_drop_bus(host->systemd, world_draw(world, 3 * TROUBLE_MS));
                break;
        case 3:
                sim_systemd_change(host->systemd, unit_name);
                break;
        default:
                break;
        }
}

static void stop_by_hand(void) {
        n_by_hand += runs();
        sim_systemd_stop(host->systemd, unit_name);
}

static void pause_a_little(void) {
        if (world_chance(world, 60))
                run_ms(world_draw(world, world_chance(world, 50) ? 20 : TROUBLE_MS));
}

/* As fleetctl restart does, or stop and start. */
static void restart(void) {
        TargetState between = world_chance(world, 70) ? TARGET_LOADED : TARGET_INACTIVE;

        set_target(between);
        pause_a_little();
        if (world_chance(world, 20))
                stop_by_hand();
        if (world_chance(world, 70))
                UNTIL("it-stops", !is_published_as_active());
        if (world_chance(world, 30))
                trouble();
        pause_a_little();
        set_target(TARGET_LAUNCHED);
        n_restarts++;
}

/* Until its daemon has done what is due, or would do what is not. */
static void check_that_it_stays_stopped(void) {
        uint64_t end_ms = world_now_ms(world) + STAYS_MS;

        for (; world_now_ms(world) < end_ms; run_ms(STEP_MS))
                if (runs())
                        world_failed(world, "what-was-stopped-by-hand-stays-stopped",
                                     "it was started again on %s", host->name);
}

static void play_round(void) {
        bool executed = world_chance(world, 50);

        UNTIL("a-unit-that-is-to-run-runs", runs());
        run_ms(executed ? EXECUTED_MS : world_draw(world, 200));
        if (world_chance(world, 70)) {
                stop_by_hand();
                if (executed && world_chance(world, 70)) {
                        trouble();
                        check_that_it_stays_stopped();
                }
                pause_a_little();
        } else if (world_chance(world, 30)) {
                submit_text();
                UNTIL("a-text-is-applied",
                      runs() && streq(sim_systemd_hash(host->systemd, unit_name), wanted()->unit->hash));
        }
        trouble();
        restart();
        if (world_chance(world, 30))
                trouble();
}

static bool is_formed(void) {
        SimMachine *leader = cluster_leader(cluster);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;
        unsigned up = 0;

        for (const ClusterMachine *m = view ? view->machines : NULL; m; m = m->hh.next)
                up += m->presence == PRESENCE_UP;
        return up == cluster->n;
}

static void play(void) {
        cluster = cluster_new(world, 3);
        for (unsigned i = 0; i < cluster->n; i++) {
                world_at(world, i * 100, NULL, machine_begin, &cluster->machines[i]);
                machine_suspect(&cluster->machines[i], world_now_ms(world), UINT64_MAX);
        }
        UNTIL("a-cluster-forms", is_formed());
        run_ms(2000);
        for (unsigned i = 0; i < cluster->n; i++)
                if (&cluster->machines[i] != cluster_leader(cluster))
                        host = &cluster->machines[i];
        submit_text();
        set_target(TARGET_LAUNCHED);
        for (unsigned i = 0; i < ROUNDS; i++)
                play_round();
        UNTIL("a-unit-that-is-to-run-runs", runs());
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { play };
        unsigned long long runs = worlds_run("tests/sim/test-restart", (Seeds) { .seed = 1, .runs = 4 },
                                             trace_message, scenarios, ELEMENTS(scenarios), argc, argv);

        if (runs == 0)
                return 2;
        printf("%llu runs: %u restarts, %u stops by hand: each request started the unit\n", runs, n_restarts,
               n_by_hand);
        return n_restarts > 0 && n_by_hand > 0 ? 0 : 1;
}
