/* Singleton=yes: at most one process in the cluster during faults of hosts, links, clocks and daemons, and
 * one again after them (check_start() in tests/sim/invariants.c). Five hosts with a replica, and one without.
 *
 *      test-singleton [--seed N] [--runs N] [--trace]
 */

#include "tests/lib/size.h"
#include "tests/sim/play.h"
#include "units/singleton.h"

enum {
        HOSTS = 6,
        STEP_MS = 20,
        PATIENCE_MS = 900000, /* longer than a machine that was lost six times in short order is held off */
        FAULTS = 25,
        DRIFT_PPM = 9000, /* of each clock: the clocks of two hosts differ by less than 2 percent */
        STOP_S = 4,
        ISOLATED_MS = 120000, /* longer than a loss, a lease and an election take */
};

static const char name[] = "single.service";

static unsigned n_starts, n_moves; /* of the unit, and how many of them on another host than before */
static unsigned n_attached;        /* and on a host without a replica */
static char place[64];             /* lines of [X-Fleet]: where it may run */
static const SimMachine *last;

static SimMachine *any(void) {
        return &cluster->machines[world_draw(world, cluster->n)];
}

static SimMachine *running(void) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (sim_systemd_runs(cluster->machines[i].systemd, name))
                        return &cluster->machines[i];
        return NULL;
}

static bool is_attached(const SimMachine *m) {
        KvState state = machine_state(m);

        return state.attached && state.raft_id == 0;
}

static const SimMachine *attached_host(void) {
        for (unsigned i = 0; i < HOSTS; i++)
                if (is_attached(&cluster->machines[i]))
                        return &cluster->machines[i];
        return NULL;
}

static void count(void) {
        const SimMachine *m = running();

        if (!m || m == last)
                return;
        n_starts++;
        n_moves += last != NULL;
        n_attached += is_attached(m);
        last = m;
}

static bool is_up(const SimMachine *m, const Cluster *view) {
        const ClusterMachine *seen = cluster_machine(view, m->machine_id);

        return m->daemon && seen && seen->presence == PRESENCE_UP;
}

/* All hosts are up in the view of the leader, and some hold no replica. */
static bool is_formed(void) {
        SimMachine *leader = cluster_leader(cluster);
        const Cluster *view = leader ? registry_cluster(daemon_host(leader->daemon)->registry) : NULL;
        unsigned up = 0;

        for (unsigned i = 0; view && i < cluster->n; i++)
                up += is_up(&cluster->machines[i], view);
        return up == cluster->n;
}

static uint64_t lease_of_cluster(void) {
        SimMachine *leader = cluster_leader(cluster);

        return leader ? cluster_settings(registry_cluster(daemon_host(leader->daemon)->registry))
                                ->singleton_lease_ms :
                        UINT64_MAX;
}

static void on_start(void *userdata) {
        SimMachine *m = userdata;

        if (m->power && !m->daemon)
                machine_start_daemon(m);
}

static void on_power(void *userdata) {
        SimMachine *m = userdata;

        if (!m->power)
                machine_power_on(m);
}

static void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index) {}

/* Request a change of the unit from the leader, if there is one. 'where': NULL, or lines of [X-Fleet]. */
static void request(const char *service, const char *where) {
        UnitChange change = { .name = name, .has_target = true, .target = TARGET_LAUNCHED };
        SimMachine *leader = cluster_leader(cluster);
        _cleanup_unit_ Unit *unit = NULL;
        _cleanup_text_ Text text = {};

        text_printf(&text,
                    "[Service]\nExecStart=/bin/sleep 1000\nTimeoutStopSec=%d\n%s[X-Fleet]\nSingleton=yes\n"
                    "%s",
                    STOP_S, service, where ?: place);
        if (unit_parse(name, text.chars, text.size, &unit, NULL) < 0)
                abort();
        change.unit = unit;
        if (leader)
                (void) registry_change_units(daemon_host(leader->daemon)->registry, &change, 1, on_asked,
                                             NULL);
}

/* -- Faults -- */

typedef struct Cut {
        SimHost *from, *to;
} Cut;

static void on_joined(void *userdata) {
        Cut *cut = userdata;

        sim_net_cut_one_way(cluster->net, cut->from, cut->to, false);
        free(cut);
}

static void cut(SimMachine *from, SimMachine *to, uint64_t for_ms) {
        Cut *c = calloc(1, sizeof(*c));

        if (!c)
                abort();
        *c = (Cut) { from->host, to->host };
        sim_net_cut_one_way(cluster->net, from->host, to->host, true);
        world_at_own(world, for_ms, NULL, on_joined, c);
}

static void isolate(SimMachine *m, uint64_t for_ms, bool in, bool out) {
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *other = &cluster->machines[i];

                if (other != m && out)
                        cut(m, other, for_ms);
                if (other != m && in)
                        cut(other, m, for_ms);
        }
}

static void on_fast(void *userdata) {
        sim_net_set_delay(cluster->net, 1, 3);
}

static void on_isolated(void *userdata) {
        SimMachine *m = userdata;
        char where[64];

        isolate(m, 60000, true, true);
        snprintf(where, sizeof(where), "MachineMetadata=host=%s\n",
                 cluster->machines[(m->index + 1) % cluster->n].name);
        request("", where);
}

/* The answer to a request for the lease arrives while the unit's host is suspended, and nothing after it. The
 * daemon reads the answer when the lease of that request has nearly ended. Meanwhile the unit has to move. */
static void late_answer(SimMachine *m) {
        if (!m->daemon)
                return;
        sim_net_set_delay(cluster->net, 600, 700);
        world_at(world, 10000, NULL, on_fast, NULL);
        run_ms(3000 + world_draw(world, 2000));
        if (m->daemon)
                world_loop_suspend(m->loop, 8500 + world_draw(world, 1000));
        world_at(world, 1450, NULL, on_isolated, m);
}

/* Faults meet the host of the unit, the leader, or any host. */
static SimMachine *victim(void) {
        SimMachine *m = world_chance(world, 50) ? running() : NULL;

        if (!m && world_chance(world, 50))
                m = cluster_leader(cluster);
        return m ?: any();
}

static void fault(void) {
        uint64_t for_ms = 100 + world_draw(world, world_chance(world, 50) ? 4000 : 40000);
        SimMachine *m = victim();

        switch (world_draw(world, 10)) {
        case 0:
                isolate(m, for_ms, true, true);
                break;
        case 1:
                isolate(m, for_ms, world_chance(world, 50), true);
                break;
        case 2:
                cut(m, any(), for_ms);
                break;
        case 3:
        case 4:
                if (m->daemon)
                        world_loop_pause(m->loop, for_ms);
                break;
        case 5:
                if (m->daemon && !m->dying)
                        machine_crash_daemon(m);
                world_at(world, for_ms, NULL, on_start, m);
                break;
        case 6:
                machine_power_cut(m);
                world_at(world, for_ms, NULL, on_power, m);
                break;
        case 7:
                sim_net_set_delay(cluster->net, 1, 1 + world_draw(world, 1500));
                world_at(world, for_ms, NULL, on_fast, NULL);
                break;
        case 8:
                late_answer(running() ?: m);
                break;
        default:
                request(world_chance(world, 50) ? "Nice=1\n" : "Nice=2\n", NULL);
        }
        if (m->loop)
                world_loop_set_drift(m->loop, (int) world_draw(world, 2 * DRIFT_PPM + 1) - DRIFT_PPM);
}

static void heal(void) {
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];

                if (m->loop)
                        world_loop_pause(m->loop, 0);
                if (!m->power)
                        machine_power_on(m);
                else if (!m->daemon)
                        machine_start_daemon(m);
        }
}

static void form(uint64_t lease_ms) {
        cluster = cluster_new(world, HOSTS);
        last = NULL;
        cluster->machines[0].settings.singleton_lease_ms = lease_ms; /* of the founder */
        for (unsigned i = 0; i < HOSTS; i++)
                world_at(world, i == 0 ? 0 : 3000 + i * 100, NULL, on_start, &cluster->machines[i]);
        UNTIL("a-cluster-forms", is_formed());
        UNTIL("a-host-is-attached", attached_host());
        UNTIL("the-founder-sets-the-lease", lease_of_cluster() == lease_ms);
        place[0] = 0;
}

static void singleton_lease(void) {
        form(world_chance(world, 50) ? 0 : 4000); /* the default is 10 s */
        if (world_chance(world, 50))
                snprintf(place, sizeof(place), "MachineMetadata=host=%s\nMachineMetadata=host=%s\n",
                         attached_host()->name, any()->name);
        while (!running()) {
                request("", NULL);
                UNTIL("a-singleton-starts", running());
        }
        for (unsigned i = 0; i < FAULTS; i++) {
                uint64_t until_ms = world_now_ms(world) + world_draw(world, 15000);

                fault();
                while (world_now_ms(world) < until_ms) {
                        count();
                        run_ms(STEP_MS);
                }
        }
        run_ms(45000); /* the end of all faults */
        heal();
        UNTIL("all-hosts-are-up-again", is_formed());
        request("", NULL); /* the last one may name a host that is held off, because it was lost repeatedly */
        UNTIL("a-singleton-runs-again", running());
}

static unsigned n_voters(void) {
        SimMachine *leader = cluster_leader(cluster);
        KvState state = leader ? machine_state(leader) : (KvState) {};
        unsigned n = 0;

        for (size_t i = 0; i < state.n_members; i++)
                n += state.members[i].role == KV_MEMBER_VOTER;
        return n;
}

/* Writes go on, one in 'every_ms': the view of a replica that does not write them is too old for a lease. If
 * its disk hangs, this begins when the leader has sent as much as it may without an acknowledgement. */
static void keep_running(const SimMachine *m, const char *what, uint64_t for_ms, uint64_t every_ms) {
        for (uint64_t ms = 0; ms < for_ms; ms += STEP_MS) {
                if (ms % every_ms == 0)
                        request("", NULL);
                run_ms(STEP_MS);
                if (!sim_systemd_runs(m->systemd, name))
                        world_failed(world, "a-failed-replica-stops-no-singleton", "after %s", what);
        }
}

/* Another replica is used before a lease ends: if a write to the disk hangs, after a failure in operation,
 * and from the begin of each process that cannot use its own one. */
static void singleton_of_a_failed_replica(void) {
        enum { HANGS_MS = 20000, LEASES_MS = 30000, RESTARTS = 3 };
        char path[256];
        SimMachine *m;
        FILE *f;

        form(0);
        UNTIL("a-majority-is-left", n_voters() == 3);
        do
                m = any();
        while (is_attached(m) || m == cluster_leader(cluster));
        snprintf(place, sizeof(place), "MachineMetadata=host=%s\n", m->name);
        request("", NULL);
        UNTIL("a-singleton-starts", sim_systemd_runs(m->systemd, name));
        run_ms(world_draw(world, 2000)); /* of the time since the last renewal */
        world_loop_set_work_ms(m->loop, HANGS_MS, HANGS_MS);
        keep_running(m, "the begin of a write that hangs", HANGS_MS - 5000, STEP_MS);
        if (!machine_state(m).attached)
                world_failed(world, "a-host-leaves-a-replica-that-hangs", "%s", m->name);
        world_loop_set_work_ms(m->loop, 0, 2);
        UNTIL("a-replica-works-again", !machine_state(m).attached);
        memory_disk_set_error(m->disk, -EIO, true);
        keep_running(m, "a failure", LEASES_MS, 1000);
        if (!machine_state(m).attached)
                world_failed(world, "a-host-leaves-a-failed-replica", "%s", m->name);
        snprintf(path, sizeof(path), "%s/tree/lost", m->folder); /* as after data_dir_quarantine() */
        if (!(f = fopen(path, "w")) || fclose(f) < 0)
                abort();
        for (unsigned i = 0; i < RESTARTS; i++) {
                machine_crash_daemon(m);
                keep_running(m, "the end of its daemon", world_draw(world, 2000), 1000);
                machine_start_daemon(m);
                if (!machine_state(m).lost)
                        world_failed(world, "a-replica-is-quarantined", "%s", m->name);
                keep_running(m, "a restart of its daemon", LEASES_MS, 1000);
        }
}

/* No message reaches a host or leaves it: its guard ends the unit before that starts elsewhere. */
static void singleton_of_an_isolated_host(void) {
        SimMachine *m;

        form(0);
        UNTIL("a-majority-is-left", n_voters() == 3);
        request("", NULL);
        UNTIL("a-singleton-starts", running());
        m = running();
        isolate(m, ISOLATED_MS, true, true);
        UNTIL("a-singleton-moves", running() && running() != m);
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { singleton_of_a_failed_replica,
                                                   singleton_of_an_isolated_host, singleton_lease };
        unsigned long long runs = worlds_run("tests/sim/test-singleton",
                                             (Seeds) { .seed = 1, .runs = test_size(5, 10, 10) },
                                             trace_message, scenarios, ELEMENTS(scenarios), argc, argv);

        if (runs == 0)
                return 2;
        printf("%llu runs of singleton_lease: %u starts, %u on another host, %u on one without a replica, "
               "never two\n",
               runs, n_starts, n_moves, n_attached);
        return n_moves == 0 || n_attached == 0;
}
