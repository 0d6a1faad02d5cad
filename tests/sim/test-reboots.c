/* Planned reboots of all hosts, with whole daemons and a simulated logind: hosts that do not return,
 * rejections, shutdowns that do not wait for the inhibitor, reboots by hand beside the queue, requests to
 * cancel, and losses of the leader and of the quorum in each state. The queue takes down no host while
 * another is down, nor one with units; it boots each host once, and stops at one that is not back.
 *
 *      test-reboots [--seed N] [--runs N] [--trace]
 *
 * With 24 runs or more, each state has to lose its leader and its quorum at least once.
 */

#include "fleetd/engine/drain.h"
#include "tests/lib/words_of.h"
#include "tests/sim/reached.h"
#include "tests/sim/worlds.h"

enum {
        PATIENCE_MS = 400000,
        STEP_MS = 5,
        ROUNDS = 3,
        UNITS = 6,
        RETURN_MS = 60000, /* of a request: the host has to be back */
        DOWN_MS = 8000,
        OFF_MS = 10,
        SOFT_MS = 500,
        QUIET_MS = 10000, /* in which a queue that has stopped touches no host */
        STAYS_DOWN_PERCENT = 10,
        REJECTS_PERCENT = 15,
        CANCELS_PERCENT = 15,
        SOFT_PERCENT = 25,
        EARLY_PERCENT = 10,
        BY_HAND_PERCENT = 40, /* of the rounds: "systemctl reboot" on one host */
        BY_HAND_MS = 40000,   /* from the request of the queue, at most */
        DISTURBED_MS = 60000, /* after that host is back */
        KNOWN_MS = 6000,      /* in which the leader learns that a host is down, if it did not say so */
        RUNS_ENOUGH = 24,
};

static const char global_name[] = "each.service";

/* One run. */
static struct {
        SimMachine *machine;
        bool down, stays_down;
        bool by_hand;     /* it goes, or went down by hand: until it is up again */
        uint64_t down_ms; /* when it went down last */
        unsigned boots;   /* in this round, by the queue */
        unsigned state;   /* that was seen last */
} hosts[CLUSTER_HOSTS_MAX];
static bool stops_first[UNITS];
static bool calm; /* no more faults of logind and firmware */
static uint64_t
        disturbed_ms; /* until then, units may be on their way because of a host that broke the order */
static unsigned n_boots, n_by_hand, n_early, n_stopped, n_cancelled;

enum { STATE_NONE = _REBOOT_STATE_MAX };

static Reached reached = {
        .table = "reboots",
        .states = { [REBOOT_QUEUED] = { "queued", 5, 5 },
                    [REBOOT_DRAINING] = { "draining", 15, 15 },
                    [REBOOT_REBOOTING] = { "rebooting", 15, 15 },
                    [REBOOT_REJECTED] = { "rejected", 50, 50 },
                    [REBOOT_DOWN] = { "down", 15, 15 },
                    [REBOOT_BACK] = { "back", 15, 15 },
                    [REBOOT_FAILED] = { "failed", 25, 25 },
                    [STATE_NONE] = { "none", 10, 10 } },
};

/* The leader's view; NULL: none leads. */
static Registry *registry(void) {
        SimMachine *leader = cluster_leader(cluster);

        return leader ? daemon_host(leader->daemon)->registry : NULL;
}

/* -- The hosts -- */

static void is_up_again(size_t i) {
        if (hosts[i].by_hand)
                disturbed_ms = world_now_ms(world) + DISTURBED_MS;
        hosts[i].down = hosts[i].by_hand = false;
}

static void on_power_on(void *userdata) {
        size_t i = ((SimMachine *) userdata)->index;

        if (!world) /* the run ends, here and below */
                return;
        is_up_again(i);
        hosts[i].stays_down = false;
        machine_power_on(userdata);
}

/* A soft reboot: the boot ID stays. */
static void on_soft(void *userdata) {
        SimMachine *m = userdata;

        if (!world)
                return;
        if (m->loop) { /* it ends, or was started again meanwhile */
                machine_crash_daemon(m);
                m->start_wanted = false;
                world_at(world, OFF_MS, NULL, on_soft, m);
                return;
        }
        sim_systemd_soft_reboot(m->systemd);
        machine_ended_units(m);
        is_up_again(m->index);
        machine_start_daemon(m);
}

/* The processes have ended in order; the power follows. */
static void on_power_off(void *userdata) {
        SimMachine *m = userdata;

        if (!world)
                return;
        machine_power_cut(m);
        hosts[m->index].stays_down = !calm && !hosts[m->index].by_hand &&
                                     world_chance(world, STAYS_DOWN_PERCENT);
        if (!hosts[m->index].stays_down)
                world_at(world, 1000 + world_draw(world, DOWN_MS), NULL, on_power_on, m);
}

/* A host that is rebooted by hand may go down at any time, also a moment before that of the queue. */
static void check_no_other_is_down(const SimMachine *m) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (i != m->index && hosts[i].down &&
                    (!hosts[i].by_hand || world_now_ms(world) > hosts[i].down_ms + KNOWN_MS))
                        world_failed(world, "never-two-hosts-down", "%s goes down, and %s is", m->name,
                                     hosts[i].machine->name);
}

/* Return whether a unit that runs nowhere has failed, because systemd refuses some starts, or is on its way:
 * it stops first. */
static bool may_run_nowhere(unsigned i, const char *name) {
        Registry *r = registry();
        const ClusterUnit *u = r ? cluster_unit(registry_cluster(r), name) : NULL;

        return stops_first[i] || !u || u->n_failed > 0;
}

static void check_units_have_left(const SimMachine *m) {
        char name[UNIT_NAME_MAX + 1];

        for (unsigned i = 0; i < UNITS; i++) {
                unsigned n = 0;

                snprintf(name, sizeof(name), "u%u.service", i);
                if (sim_systemd_runs(m->systemd, name))
                        world_failed(world, "no-unit-is-left-on-a-host-that-reboots", "%s runs on %s", name,
                                     m->name);
                for (unsigned k = 0; k < cluster->n; k++)
                        n += sim_systemd_runs(cluster->machines[k].systemd, name);
                if (n == 0 && world_now_ms(world) > disturbed_ms && !may_run_nowhere(i, name))
                        world_failed(world, "each-unit-runs-elsewhere", "%s runs nowhere when %s goes down",
                                     name, m->name);
        }
}

static void on_down(void *userdata, RebootKind kind) {
        SimMachine *m = userdata;
        bool by_hand = hosts[m->index].by_hand;

        if (!world)
                return;
        world_trace(world, m->name, "goes down%s", by_hand ? " by hand" : "");
        if (by_hand) {
                disturbed_ms = UINT64_MAX;
                n_by_hand++;
        } else {
                check_no_other_is_down(m);
                check_units_have_left(m);
                if (hosts[m->index].boots++ > 0)
                        world_failed(world, "a-host-reboots-once", "%s goes down again", m->name);
                n_boots++;
        }
        hosts[m->index].down = true;
        hosts[m->index].down_ms = world_now_ms(world);
        machine_stop_daemon(m);
        if (kind == REBOOT_SOFT)
                world_at(world, SOFT_MS, NULL, on_soft, m);
        else
                world_at(world, OFF_MS, NULL, on_power_off, m); /* before systemd could start it again */
}

static bool rejects(void *userdata) {
        return !calm && world_chance(world, REJECTS_PERCENT);
}

static bool is_early(void *userdata) {
        bool early = !calm && world_chance(world, EARLY_PERCENT);

        n_early += early;
        return early;
}

/* "systemctl reboot" on one host, beside the queue. */
static void on_reboot_by_hand(void *userdata) {
        SimMachine *m = world ? &cluster->machines[world_draw(world, cluster->n)] : NULL;

        if (m && m->loop && !hosts[m->index].down && sim_logind_shut_down(m->logind, REBOOT_FULL))
                hosts[m->index].by_hand = true;
}

/* -- The cluster -- */

static const ClusterMachine *known(Registry *r, unsigned i) {
        return cluster_machine(registry_cluster(r), cluster->machines[i].machine_id);
}

static void run_ms(uint64_t ms) {
        world_run(world, world_now_ms(world) + ms);
}

/* Note the states, which may end daemons, and with them the leader's view. */
static void watch(void) {
        for (unsigned i = 0; i < cluster->n; i++) {
                Registry *r = registry();
                const ClusterMachine *m = r ? known(r, i) : NULL;
                unsigned state;

                if (!m)
                        continue;
                state = m->reboot ? (unsigned) m->reboot->state : STATE_NONE;
                if (state == hosts[i].state)
                        continue;
                hosts[i].state = state;
                reached_enter(&reached, cluster, state);
        }
}

#define UNTIL(name, expression) WORLD_UNTIL(world, PATIENCE_MS, name, expression, (run_ms(STEP_MS), watch()))

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status != KV_OK)
                world_trace(world, "people", "request rejected: %s", message);
}

static bool submit(const char *name, const char *options) {
        UnitChange change = { .name = name, .has_target = true, .target = TARGET_LAUNCHED };
        _cleanup_text_ Text text = {};
        _cleanup_unit_ Unit *unit = NULL;
        Registry *r = registry();

        text_printf(&text, "[Service]\nExecStart=/bin/good 1\n[X-Fleet]\nUpdateWatchSec=1s\n%s", options);
        if (unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        return r && registry_change_units(r, &change, 1, on_done, NULL) >= 0;
}

static bool all_run(void) {
        char name[UNIT_NAME_MAX + 1];

        for (unsigned i = 0; i < cluster->n; i++)
                if (!sim_systemd_runs(cluster->machines[i].systemd, global_name))
                        return false;
        for (unsigned i = 0; i < UNITS; i++) {
                unsigned n = 0;

                snprintf(name, sizeof(name), "u%u.service", i);
                for (unsigned k = 0; k < cluster->n; k++)
                        n += sim_systemd_runs(cluster->machines[k].systemd, name);
                if (n != 1)
                        return false;
        }
        return true;
}

static bool all_are_up(void) {
        Registry *r = registry();
        unsigned n = 0;

        for (unsigned i = 0; r && i < cluster->n; i++) {
                const ClusterMachine *m = known(r, i);

                n += m && m->presence == PRESENCE_UP && m->facts && machine_serves(&cluster->machines[i]);
        }
        return n == cluster->n;
}

static unsigned count_reboots(bool failed_only) {
        Registry *r = registry();
        unsigned n = 0;

        for (unsigned i = 0; r && i < cluster->n; i++) {
                const ClusterMachine *m = known(r, i);

                n += m && m->reboot && (!failed_only || m->reboot->state == REBOOT_FAILED);
        }
        return r ? n : UINT32_MAX;
}

/* -- Requests -- */

static bool request_reboots(RebootKind kind) {
        RebootRecord records[REACHED_MAX];
        RebootChange changes[REACHED_MAX];
        Registry *r = registry();
        KvState state;

        if (!r || !registry_ready(r))
                return false;
        kv_state(registry_store(r), &state);
        for (unsigned i = 0; i < cluster->n; i++) {
                const ClusterMachine *m = known(r, i);

                if (!m)
                        return false;
                records[i] = (RebootRecord) { .kind = kind,
                                              .state = REBOOT_QUEUED,
                                              .return_ms = RETURN_MS,
                                              .seq = registry_cluster(r)->index * 1000 + i,
                                              .since_ms = registry_cluster(r)->now_ms,
                                              .slots = 1 };
                hex64_print(state.lineage, records[i].lineage);
                changes[i] = (RebootChange) { .machine = m, .record = &records[i], .reason = "queued" };
        }
        world_trace(world, "people", "reboot --all");
        return registry_reboot(r, 0, changes, cluster->n, "root@sim", on_done, NULL) >= 0;
}

/* As "reboot --resume" and "--cancel": end the records of these states. */
static void end_reboots(bool cancel) {
        Registry *r = registry();
        RebootChange changes[REACHED_MAX];
        size_t n = 0;

        for (unsigned i = 0; r && i < cluster->n; i++) {
                const ClusterMachine *m = known(r, i);
                RebootState state = m && m->reboot ? m->reboot->state : REBOOT_BACK;

                if (state == REBOOT_FAILED ||
                    (cancel && (state == REBOOT_QUEUED || state == REBOOT_DRAINING)))
                        changes[n++] = (RebootChange) { .machine = m,
                                                        .maintenance = REBOOT_RELEASES,
                                                        .reason = cancel ? "cancelled" : "resumed" };
        }
        world_trace(world, "people", "reboot %s, of %zu hosts", cancel ? "--cancel" : "--resume", n);
        if (n > 0)
                (void) registry_reboot(r, 0, changes, n, "root@sim", on_done, NULL);
}

/* A host that has rebooted, by another boot or a soft reboot, is back. */
static void check_why_it_failed(void) {
        Registry *r = registry();

        for (unsigned i = 0; r && i < cluster->n; i++) {
                const ClusterMachine *m = known(r, i);

                if (m && m->reboot && m->reboot->state == REBOOT_FAILED && hosts[i].boots > 0 &&
                    !hosts[i].stays_down && streq(words_of(&m->reboot->why), "it is not back in time"))
                        world_failed(world, "a-host-that-is-back-is-recognised",
                                     "%s has rebooted, and counts as away", hosts[i].machine->name);
        }
}

/* A queue that has stopped touches no host, until it is resumed. */
static void check_that_it_stays_stopped(void) {
        unsigned before = n_boots;

        for (uint64_t end_ms = world_now_ms(world) + QUIET_MS; world_now_ms(world) < end_ms; run_ms(STEP_MS))
                if (n_boots != before)
                        world_failed(world, "the-queue-stops-at-a-host-that-fails", "another one goes down");
        n_stopped++;
}

static void power_all_on(void) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (hosts[i].stays_down)
                        on_power_on(&cluster->machines[i]);
}

static void play_round(void) {
        bool cancels = world_chance(world, CANCELS_PERCENT), requested;
        RebootKind kind = world_chance(world, SOFT_PERCENT) ? REBOOT_SOFT : REBOOT_FULL;
        uint64_t cancel_ms = world_now_ms(world) + 1000 + world_draw(world, 60000);

        for (unsigned i = 0; i < cluster->n; i++)
                hosts[i].boots = 0;
        if (world_chance(world, BY_HAND_PERCENT))
                world_at(world, world_draw(world, BY_HAND_MS), NULL, on_reboot_by_hand, NULL);
        UNTIL("a-queue-is-requested", count_reboots(false) == cluster->n || (request_reboots(kind) && false));
        for (requested = true; requested;) {
                UNTIL("a-queue-ends-or-stops", count_reboots(false) == 0 || count_reboots(true) == 1 ||
                                                       (cancels && world_now_ms(world) >= cancel_ms));
                if (cancels && world_now_ms(world) >= cancel_ms) {
                        n_cancelled++;
                        cancels = false;
                        end_reboots(true);
                } else if (count_reboots(true) == 1) {
                        check_why_it_failed();
                        check_that_it_stays_stopped();
                        power_all_on();
                        UNTIL("all-hosts-are-up", all_are_up());
                        end_reboots(false);
                } else if (count_reboots(false) == 0)
                        requested = false;
                run_ms(1000);
        }
        power_all_on();
        UNTIL("all-hosts-are-up", all_are_up());
        UNTIL("all-units-run-again", all_run());
}

static void play(void) {
        const SimLogindHooks hooks = { .on_down = on_down, .rejects = rejects, .is_early = is_early };
        char name[UNIT_NAME_MAX + 1];

        memset(hosts, 0, sizeof(hosts));
        calm = false;
        disturbed_ms = 0;
        cluster = cluster_new(world, world_chance(world, 60) ? 3 : 5);
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];
                SimLogindHooks own = hooks;

                own.userdata = m;
                m->logind = sim_logind_new(world, &own);
                hosts[i].machine = m;
                hosts[i].state = STATE_NONE;
                world_at(world, i * 100, NULL, machine_begin, m);
                machine_suspect(m, world_now_ms(world), UINT64_MAX);
        }
        UNTIL("a-cluster-forms", all_are_up());
        run_ms(2000);
        UNTIL("a-unit-is-submitted", submit(global_name, "Global=yes\n"));
        for (unsigned i = 0; i < UNITS; i++) {
                snprintf(name, sizeof(name), "u%u.service", i);
                stops_first[i] = world_chance(world, 30);
                UNTIL("a-unit-is-submitted", submit(name, stops_first[i] ? "Move=stop-first\n" : ""));
                run_ms(500);
        }
        UNTIL("all-units-run", all_run());
        for (unsigned i = 0; i < ROUNDS; i++)
                play_round();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { play };
        unsigned long long runs = worlds_run("tests/sim/test-reboots", (Seeds) { .seed = 1, .runs = 3 },
                                             trace_message, scenarios, ELEMENTS(scenarios), argc, argv);

        if (runs == 0)
                return 2;
        printf("%llu runs: %u reboots, %u by hand, %u shutdowns without a delay, %u queues that stopped, %u "
               "cancelled\n",
               runs, n_boots, n_by_hand, n_early, n_stopped, n_cancelled);
        reached_print(&reached);
        return n_boots > 0 && (runs < RUNS_ENOUGH || reached_all(&reached)) ? 0 : 1;
}
