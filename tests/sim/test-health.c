/* Health checks during faults: units that are good, bad, slow or flapping, on hosts whose daemons stall,
 * crash and lose power, and cannot run any check for a time. A unit becomes available only after it ran for
 * the watch time in one invocation without a failed probe; nothing of that restarts a good unit (check_stop()
 * in tests/sim/invariants.c); after the faults, each unit has the health that its checks deserve.
 *
 *      test-health [--seed N] [--runs N] [--trace]
 */

#include "tests/sim/worlds.h"
#include "tests/sim/until.h"

enum {
        HOSTS = 3,
        UNITS = 5,     /* of each host; the first one is always good, and has HealthAction=restart */
        UNCHECKED = 4, /* that has no check: it is healthy while it runs */
        PORT = 9000,
        WATCH_MS = 3000,
        STEP_MS = 20,
        FAULTS = 40,
        PATIENCE_MS = 120000,
};

typedef enum Mode {
        MODE_GOOD,
        MODE_BAD,
        MODE_SLOW,     /* fails at its timeout */
        MODE_FLAPPING, /* every second probe fails, at random */
        _MODE_MAX,
} Mode;

/* What a unit deserves. */
typedef struct Truth {
        char name[32];
        Mode mode;
        uint64_t invocation; /* 0: none ran yet */
        uint64_t started_ms; /* of that, at the earliest */
        uint64_t since_ms;   /* of its start, or of its last failed probe */
        uint64_t best_ms;    /* the longest time without either */
        bool available;      /* as last published */
} Truth;

static Truth truths[HOSTS][UNITS];
static uint64_t blind_ms[HOSTS]; /* until then, the host can run no check */
static unsigned n_available, n_failing, n_blind, n_probes[_MODE_MAX];

static SimProbe on_probe(SimMachine *m, const ProbeRequest *request) {
        Truth *t = &truths[m->index][request->check->port - PORT];
        SimProbe probe = { .passed = t->mode == MODE_GOOD || t->mode == MODE_SLOW,
                           .takes_ms = t->mode == MODE_SLOW ? 60000 : world_draw(world, 900),
                           .why = "HTTP 503" };

        if (world_now_ms(world) < blind_ms[m->index]) {
                n_blind++;
                return (SimProbe) { .unknown = true, .why = "no room" };
        }
        if (t->mode == MODE_FLAPPING)
                probe.passed = world_chance(world, 50);
        if (!probe.passed || t->mode == MODE_SLOW)
                t->since_ms = world_now_ms(world);
        n_probes[t->mode]++;
        return probe;
}

/* Return the state that the host has published in its own view, or NULL. */
static const UnitState *state_of(const SimMachine *m, const char *unit) {
        const ClusterState *s = m->daemon && !m->dying ?
                                        cluster_state(registry_cluster(daemon_host(m->daemon)->registry),
                                                      m->machine_id, unit) :
                                        NULL;

        return s ? &s->state : NULL;
}

static void look(SimMachine *m, Truth *t) {
        uint64_t invocation = sim_systemd_runs(m->systemd, t->name) ?
                                      sim_systemd_invocation(m->systemd, t->name) :
                                      0,
                 now_ms = world_now_ms(world);
        const UnitState *s = state_of(m, t->name);
        char id[INVOCATION_ID_SIZE];

        if (invocation > 0 && invocation != t->invocation) {
                t->invocation = invocation;
                t->since_ms = t->started_ms = now_ms - STEP_MS;
        }
        if (invocation > 0)
                t->best_ms = MAX(t->best_ms, now_ms - MIN(now_ms, t->since_ms));
        if (!s)
                return;
        if (s->available && !t->available && t->best_ms < WATCH_MS)
                world_failed(world, "available-is-uninterrupted", "%s on %s: %llu ms", t->name, m->name,
                             (unsigned long long) t->best_ms);
        /* The state may be of a process that has ended, which this host has not noticed yet. */
        snprintf(id, sizeof(id), "%032llx", (unsigned long long) invocation);
        if (s->available && streq(s->invocation, id) && now_ms < t->started_ms + WATCH_MS)
                world_failed(world, "another-process-is-not-available-yet", "%s on %s: %llu ms", t->name,
                             m->name, (unsigned long long) (now_ms - t->started_ms));
        if (s->available && s->health != UNIT_HEALTH_PASSING)
                world_failed(world, "available-is-healthy", "%s on %s", t->name, m->name);
        n_available += s->available && !t->available;
        n_failing += s->health == UNIT_HEALTH_FAILING;
        t->available = s->available;
}

static void run_ms(uint64_t ms) {
        for (uint64_t end_ms = world_now_ms(world) + ms; world_now_ms(world) < end_ms;) {
                world_run(world, world_now_ms(world) + STEP_MS);
                for (unsigned h = 0; h < HOSTS; h++)
                        for (unsigned u = 0; u < UNITS; u++)
                                look(&cluster->machines[h], &truths[h][u]);
        }
}

static bool all_are(UnitHealth health, unsigned from) {
        for (unsigned h = 0; h < HOSTS; h++)
                for (unsigned u = from; u < (health == UNIT_HEALTH_FAILING ? UNCHECKED : UNITS); u++) {
                        const UnitState *s = state_of(&cluster->machines[h], truths[h][u].name);

                        if (!s || s->health != health || s->available != (health == UNIT_HEALTH_PASSING))
                                return false;
                }
        return true;
}

static bool is_formed(void) {
        SimMachine *leader = cluster_leader(cluster);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;
        unsigned up = 0;

        for (unsigned i = 0; view && i < HOSTS; i++) {
                const ClusterMachine *seen = cluster_machine(view, cluster->machines[i].machine_id);

                up += cluster->machines[i].daemon && seen && seen->presence == PRESENCE_UP;
        }
        return up == HOSTS;
}

static void on_start(void *userdata) {
        SimMachine *m = userdata;

        if (m->power && m->dying) /* the crash is not complete */
                world_at(world, STEP_MS, NULL, on_start, m);
        else if (m->power && !m->daemon)
                machine_start_daemon(m);
}

static void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index) {}

static bool submit(unsigned h, unsigned u) {
        Truth *t = &truths[h][u];
        UnitChange change = { .name = t->name, .has_target = true, .target = TARGET_LAUNCHED };
        SimMachine *leader = cluster_leader(cluster);
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {};

        text_printf(&text,
                    "[Service]\nExecStart=/bin/sleep "
                    "1000\n[X-Fleet]\nMachineMetadata=host=%s\nUpdateWatchSec=%ds\n%s",
                    cluster->machines[h].name, WATCH_MS / 1000, u == 0 ? "HealthAction=restart\n" : "");
        if (u != UNCHECKED)
                text_printf(&text, "HealthHttp=%u/\nHealthIntervalSec=1s\nHealthTimeoutSec=1s\n", PORT + u);
        if (unit_parse(t->name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        return leader &&
               registry_change_units(daemon_host(leader->daemon)->registry, &change, 1, on_asked, NULL) == 0;
}

static void set_modes(Mode mode) {
        for (unsigned h = 0; h < HOSTS; h++)
                for (unsigned u = 1; u < UNITS; u++)
                        truths[h][u].mode = mode;
}

static void fault(void) {
        SimMachine *m = &cluster->machines[world_draw(world, HOSTS)];
        Truth *t = &truths[m->index][1 + world_draw(world, UNITS - 1)];
        uint64_t for_ms = 100 + world_draw(world, world_chance(world, 70) ? 2500 : 12000);

        switch (world_draw(world, 8)) {
        case 7:
                blind_ms[m->index] = world_now_ms(world) + 4 * for_ms;
                break;
        case 6:
                sim_systemd_restart(m->systemd, t->name);
                break;
        case 0:
        case 1:
                if (m->daemon)
                        world_loop_pause(m->loop, for_ms);
                break;
        case 2:
                if (m->daemon && !m->dying)
                        machine_crash_daemon(m);
                world_at(world, world_draw(world, 2000), NULL, on_start, m);
                break;
        default:
                t->mode = (Mode) world_draw(world, _MODE_MAX);
        }
}

static void play(void) {
        cluster = cluster_new(world, HOSTS);
        cluster->probe = on_probe;
        memset(truths, 0, sizeof(truths));
        memset(blind_ms, 0, sizeof(blind_ms));
        for (unsigned h = 0; h < HOSTS; h++) {
                world_at(world, h == 0 ? 0 : 3000 + h * 100, NULL, on_start, &cluster->machines[h]);
                for (unsigned u = 0; u < UNITS; u++)
                        snprintf(truths[h][u].name, sizeof(truths[h][u].name), "u%u-%u.service", h, u);
        }
        UNTIL("a-cluster-forms", is_formed());
        for (unsigned h = 0; h < HOSTS; h++)
                for (unsigned u = 0; u < UNITS; u++)
                        UNTIL("units-are-submitted", submit(h, u));
        UNTIL("all-are-available", all_are(UNIT_HEALTH_PASSING, 0));
        for (unsigned i = 0; i < FAULTS; i++) {
                fault();
                run_ms(world_draw(world, 4000));
        }
        for (unsigned h = 0; h < HOSTS; h++)
                if (cluster->machines[h].loop)
                        world_loop_pause(cluster->machines[h].loop, 0);
        UNTIL("all-hosts-are-up-again", is_formed());
        set_modes(MODE_GOOD);
        UNTIL("all-are-available-again", all_are(UNIT_HEALTH_PASSING, 0));
        set_modes(world_chance(world, 50) ? MODE_BAD : MODE_SLOW);
        UNTIL("all-are-failing", all_are(UNIT_HEALTH_FAILING, 1));
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { play };
        unsigned long long runs = worlds_run("tests/sim/test-health", (Seeds) { .seed = 1, .runs = 10 },
                                             trace_message, scenarios, ELEMENTS(scenarios), argc, argv);

        if (runs == 0)
                return 2;
        printf("%llu runs of health: %u times available; probes: %u good, %u bad, %u slow, %u flapping, %u "
               "not "
               "run\n",
               runs, n_available, n_probes[MODE_GOOD], n_probes[MODE_BAD], n_probes[MODE_SLOW],
               n_probes[MODE_FLAPPING], n_blind);
        return n_failing == 0 || n_probes[MODE_FLAPPING] == 0 || n_blind == 0;
}
