#include "tests/sim/cluster_faults.h"

enum { DAY_MS = 86400000, HOUR_MS = 3600000, RACK_MAX = 4, MOVING_MS = 60000 };

static const char *const fault_names[] = {
        [FAULT_CRASH] = "crash",
        [FAULT_STOP] = "stop",
        [FAULT_POWER] = "power cut",
        [FAULT_CUT] = "cut",
        [FAULT_ISOLATE] = "isolate",
        [FAULT_PAUSE] = "pause",
        [FAULT_SLOW_DISK] = "slow disk",
        [FAULT_BUS] = "bus dropped",
        [FAULT_CLOCK] = "clock set",
        [FAULT_CRASH_ALL] = "all crash",
        [FAULT_POWER_ALL] = "all lose power",
        [FAULT_BOND] = "what units are bound to stops",
        [FAULT_RESCUE_TARGET] = "rescue.target",
        [FAULT_RACK] = "power cut of a rack",
        [FAULT_VOTERS] = "voters set",
        [FAULT_LEAVE] = "leave",
        [FAULT_ROTATE] = "rotation",
};
static const char *const change_names[] = {
        [CHANGE_JOIN] = "join beside faults",
        [CHANGE_JOIN_BY_TOKEN] = "join by token",
        [CHANGE_MOVE] = "move between replicas",
        [CHANGE_ATTACHED] = "replica becomes attached host",
        [CHANGE_REPLICA] = "attached host becomes replica",
        [CHANGE_ROTATED] = "rotation ended",
        [CHANGE_COMPARED] = "slice compared at the index of the tree",
};

/* Of the last three kinds, those that took effect. */
static uint64_t totals[_FAULT_MAX], changes[_CHANGE_MAX];

static void on_start_daemon(void *userdata) {
        SimMachine *m = userdata;

        if (!m->has_left)
                machine_start_daemon(m);
}

static void on_release(void *userdata) {
        SimMachine *m = userdata;

        if (m->systemd)
                sim_systemd_release(m->systemd);
}

static void on_power_on(void *userdata) {
        SimMachine *m = userdata;

        if (!m->has_left)
                machine_power_on(m);
}

/* -- Links -- */

typedef struct Heal {
        Faults *faults;
        SimMachine *a, *b; /* 'b' NULL: all of a's links */
} Heal;

static void cut(SimCluster *c, SimMachine *a, SimMachine *b, bool is_cut) {
        for (unsigned i = 0; i < c->n; i++)
                if (&c->machines[i] != a && (!b || &c->machines[i] == b))
                        sim_net_cut(c->net, a->host, c->machines[i].host, is_cut);
}

static void on_heal(void *userdata) {
        Heal *h = userdata;

        cut(h->faults->cluster, h->a, h->b, false);
        h->faults->n_cuts--;
        world_trace(h->faults->cluster->world, h->a->name, "link heals");
        free(h);
}

static void on_fast_disk(void *userdata) {
        SimMachine *m = userdata;

        if (m->loop)
                world_loop_set_work_ms(m->loop, 0, 2);
}

/* Allow that others declare the host lost, during the fault and until all have noticed its end. */
static void trouble(SimMachine *m, uint64_t for_ms) {
        uint64_t now_ms = world_now_ms(m->cluster->world);

        if (for_ms >= 1500)
                machine_suspect(m, now_ms, now_ms + for_ms + 20000);
}

static void fault_cuts(Faults *f, SimMachine *m, SimMachine *other, uint64_t for_ms) {
        SimCluster *c = f->cluster;
        uint64_t now_ms = world_now_ms(c->world);
        Heal *h = NEW0(Heal, 1);

        *h = (Heal) { .faults = f, .a = m, .b = other };
        cut(c, m, other, true);
        trouble(m, for_ms);
        if (other)
                trouble(other, for_ms);
        f->cuts_until_ms = MAX(f->cuts_until_ms, now_ms + for_ms);
        /* The first cut that heals restores links that another one cut: the leader may be separated from a
         * host that had no fault. With one voter, it is the majority alone. */
        for (unsigned i = 0; (f->n_cuts > 0 || f->moves_replicas) && i < c->n; i++)
                trouble(&c->machines[i], f->cuts_until_ms - now_ms);
        f->n_cuts++;
        world_at_own(c->world, for_ms, NULL, on_heal, h);
}

/* -- Which hosts hold a replica -- */

static void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index) {
        SimCluster *c = userdata;

        if (status != KV_OK)
                world_trace(c->world, "world", "rejected: %s", message);
}

static void on_voters(void *userdata, KvStatus status, const char *message, uint64_t index) {
        on_asked(userdata, status, message, index);
        totals[FAULT_VOTERS] += status == KV_OK;
}

bool faults_set_voters(SimCluster *c, unsigned voters) {
        const ClusterSettings settings = { .voters = voters };
        SimMachine *leader = cluster_leader(c);

        return leader && registry_set_settings(daemon_host(leader->daemon)->registry, &settings, "root",
                                               c->quiet ? on_asked : on_voters, c) >= 0;
}

/* Its units move away, then it has a cluster of its own. */
static void fault_leave(SimCluster *c, SimMachine *m) {
        MaintenanceRecord leave = { .purpose = CLUSTER_FOR_LEAVE, .mode = MAINTENANCE_DRAINING };
        SimMachine *leader = cluster_leader(c);
        Registry *r = leader ? daemon_host(leader->daemon)->registry : NULL;
        const ClusterMachine *known = r ? cluster_machine(registry_cluster(r), m->machine_id) : NULL;
        KvState state;

        for (unsigned i = 0; i < c->n; i++)
                if (c->machines[i].leaves)
                        return;
        if (!known || !machine_is_attached(m))
                return;
        kv_state(daemon_host(leader->daemon)->store, &state);
        leave.since_ms = world_now_ms(c->world);
        if (registry_maintain(r, 0, known, &leave, NULL, on_asked, c) < 0)
                return;
        m->leaves = true;
        m->left_cluster = state.cluster_id;
        machine_suspect(m, world_now_ms(c->world), UINT64_MAX);
}

/* Both are refused while one is under way. */
static void fault_rotate(SimCluster *c) {
        SimMachine *leader = cluster_leader(c);
        bool rekey = world_chance(c->world, 50);
        Authority *authority;
        Error err = {};
        int r;

        if (!leader || !leader->by_token)
                return;
        authority = daemon_host(leader->daemon)->authority;
        r = rekey ? authority_rekey(authority, "root", on_asked, c, &err) :
                    authority_rotate(authority, false, "root", on_asked, c, &err);
        c->rotates |= r >= 0;
        totals[FAULT_ROTATE] += r >= 0;
        world_trace(c->world, leader->name, "%s: %s", rekey ? "rekey" : "rotate",
                    r < 0 ? err.message : "begun");
}

void faults_check_left(SimCluster *c) {
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                KvState state;

                if (!m->leaves || m->has_left || !machine_serves(m))
                        continue;
                kv_state(daemon_host(m->daemon)->store, &state);
                if (state.cluster_id == 0 || state.cluster_id == m->left_cluster)
                        continue;
                world_trace(c->world, m->name, "has left the cluster");
                m->has_left = true;
                totals[FAULT_LEAVE]++;
                machine_stop_daemon(m);
        }
}

void faults_count(Change change, uint64_t n) {
        changes[change] += n;
}

/* Compare with the state at the last call, unless the daemon has started since. */
void faults_watch_changes(SimCluster *c) {
        for (unsigned i = 0; i < c->n; i++) {
                SimMachine *m = &c->machines[i];
                bool attached = machine_is_attached(m);
                const SimMachine *replica = attached ? cluster_replica_of(m) : NULL;

                if (!machine_serves(m) || m->leaves)
                        continue;
                if (m->watched_boots == m->boots) {
                        changes[CHANGE_ATTACHED] += attached && !m->was_attached;
                        changes[CHANGE_REPLICA] += !attached && m->was_attached;
                        changes[CHANGE_MOVE] += replica && m->replica_used && replica != m->replica_used;
                }
                if (m->watched_boots != m->boots || replica || !attached)
                        m->replica_used = replica;
                m->was_attached = attached;
                m->watched_boots = m->boots;
        }
}

/* -- All of them -- */

static void fault_happens(Faults *f, Fault kind, SimMachine *m);

static void fault_of_several(Faults *f, Fault kind, unsigned first, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                fault_happens(f, kind, &f->cluster->machines[(first + i) % f->cluster->n]);
}

static void fault_happens(Faults *f, Fault kind, SimMachine *m) {
        SimCluster *c = f->cluster;
        World *w = c->world;
        uint64_t for_ms = world_chance(w, 50) ? 100 + world_draw(w, 2000) : 1000 + world_draw(w, 15000);

        totals[kind] += kind < FAULT_VOTERS;
        machine_absent(m, for_ms);
        world_trace(w, m->name, "fault: %s for %llu ms", fault_names[kind], (unsigned long long) for_ms);
        /* The kernel of a host without a session to any replica counts as silent: its replicas may end, too.
         */
        if (c->may_attach &&
            (kind == FAULT_CRASH || kind == FAULT_STOP || kind == FAULT_RESCUE_TARGET || kind == FAULT_PAUSE))
                trouble(m, for_ms);
        switch (kind) {
        case FAULT_CRASH:
                machine_crash_daemon(m);
                world_at(w, for_ms, NULL, on_start_daemon, m);
                break;
        case FAULT_STOP:
                machine_stop_daemon(m);
                world_at(w, for_ms, NULL, on_start_daemon, m);
                break;
        case FAULT_POWER:
                machine_suspect(m, world_now_ms(w), world_now_ms(w) + for_ms + 20000);
                machine_power_cut(m);
                world_at(w, for_ms, NULL, on_power_on, m);
                break;
        case FAULT_CUT:
                fault_cuts(f, m, &c->machines[world_draw(w, c->n)], for_ms);
                break;
        case FAULT_ISOLATE:
                fault_cuts(f, m, NULL, for_ms);
                break;
        case FAULT_PAUSE:
                if (m->loop)
                        world_loop_pause(m->loop, for_ms);
                break;
        case FAULT_SLOW_DISK:
                if (m->loop)
                        world_loop_set_work_ms(m->loop, 10, 300);
                world_at(w, for_ms, NULL, on_fast_disk, m);
                break;
        case FAULT_BUS:
                sim_systemd_drop_bus(m->systemd, for_ms);
                break;
        case FAULT_BOND:
                sim_systemd_hold(m->systemd);
                machine_ended_units(m);
                world_at(w, for_ms, NULL, on_release, m);
                break;
        case FAULT_RESCUE_TARGET:
                machine_stop_daemon(m);
                sim_systemd_isolate(m->systemd);
                machine_ended_units(m);
                world_at(w, for_ms, NULL, on_start_daemon, m);
                break;
        case FAULT_CLOCK: /* forward or back, by a day, an hour or a second */
                if (m->loop) {
                        static const int64_t jumps[] = { DAY_MS, HOUR_MS, 1000 };

                        world_loop_set_wall_offset(m->loop, (world_chance(w, 50) ? 1 : -1) *
                                                                    jumps[world_draw(w, ELEMENTS(jumps))]);
                }
                break;
        case FAULT_CRASH_ALL:
                fault_of_several(f, FAULT_CRASH, 0, c->n);
                break;
        case FAULT_POWER_ALL:
                fault_of_several(f, FAULT_POWER, 0, c->n);
                break;
        case FAULT_RACK:
                fault_of_several(f, FAULT_POWER, m->index, 2 + (unsigned) world_draw(w, RACK_MAX - 1));
                break;
        case FAULT_VOTERS:
                f->moves_replicas |= faults_set_voters(c, world_chance(w, 50) ? 1 : 3);
                break;
        case FAULT_LEAVE:
                fault_leave(c, m);
                break;
        case FAULT_ROTATE:
                fault_rotate(c);
                break;
        default:
                break;
        }
}

static void on_fault(void *userdata) {
        Faults *f = userdata;
        SimCluster *c = f->cluster;
        Fault kind = world_draw(c->world, c->may_attach ? _FAULT_MAX : FAULT_VOTERS);

        if (c->quiet)
                return;
        world_at(c->world, 200 + world_draw(c->world, f->every_ms), NULL, on_fault, f);
        if (f->on[kind])
                fault_happens(f, kind, &c->machines[world_draw(c->world, c->n)]);
}

void faults_begin(Faults *f, SimCluster *c, uint64_t after_ms) {
        for (unsigned i = 0; i < _FAULT_MAX; i++)
                f->on[i] = world_chance(c->world, i >= FAULT_CRASH_ALL && i < FAULT_VOTERS ? 30 : 60);
        f->on[FAULT_ROTATE] |= c->machines[0].by_token; /* in few worlds it can happen */
        world_at(c->world, after_ms, NULL, on_fault, f);
}

void faults_heal(Faults *f) {
        SimCluster *c = f->cluster;

        for (unsigned i = 0; i < c->n; i++) {
                cut(c, &c->machines[i], NULL, false);
                on_power_on(&c->machines[i]);
                on_start_daemon(&c->machines[i]);
        }
}

void faults_print(void) {
        for (unsigned i = 0; i < _FAULT_MAX; i++)
                printf(" happened %s: %llu\n", fault_names[i], (unsigned long long) totals[i]);
        for (unsigned i = 0; i < _CHANGE_MAX; i++)
                printf(" happened %s: %llu\n", change_names[i], (unsigned long long) changes[i]);
}
