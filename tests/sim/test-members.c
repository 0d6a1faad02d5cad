/* Changes of the voters, as the leader makes them by itself and by the settings of the cluster, under load
 * and with the leader killed at each step. Whole daemons. Each acknowledged write exists on all hosts at the
 * end, and a majority of the voters can be reached at each step.
 *
 *      test-members [--seed N] [--runs N] [--trace]
 */

#include "fleetd/sessions/voters.h"
#include "tests/sim/load.h"
#include "tests/sim/worlds.h"

enum {
        PATIENCE_MS = 60000,
        STEP_MS = 20,
        SILENT_MS = 10 * 60000, /* of a voter that is replaced */
        LED_MS = 5 * 60000,     /* of the leader that replaces it */
        WRITE_MS = 250,
        BRAKE_MS = 10000, /* of the hosts of cluster.c */
};

static uint64_t former; /* the cluster that hosts leave; 0: all hosts are in one */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        if (!world)
                return;
        world_trace(world, "log", "%s", message);
        check_message(cluster, fields, message);
}

/* -- The cluster -- */

static bool is_in_cluster(const SimMachine *m) {
        return former == 0 || machine_state(m).cluster_id == former;
}

static SimMachine *leader(void) {
        SimMachine *found = NULL;
        uint64_t term = 0;

        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];
                uint64_t leads = machine_serves(m) ? kv_leads(daemon_host(m->daemon)->store) : 0;

                if (leads > term && is_in_cluster(m)) {
                        found = m;
                        term = leads;
                }
        }
        return found;
}

static KvMember member_of(uint64_t raft_id) {
        KvState state = leader() ? machine_state(leader()) : (KvState) {};

        for (size_t i = 0; i < state.n_members; i++)
                if (state.members[i].raft_id == raft_id)
                        return state.members[i];
        return (KvMember) {};
}

static const ClusterMachine *seen(const SimMachine *m) {
        return leader() ? cluster_machine(registry_cluster(daemon_host(leader()->daemon)->registry),
                                          m->machine_id) :
                          NULL;
}

static bool has_voters(size_t n) {
        KvState state = leader() ? machine_state(leader()) : (KvState) {};

        return state.n_voters == n && state.n_voters_reachable == n &&
               state.n_members == MIN(voters_hosts_max((unsigned) n), (size_t) cluster->n);
}

/* A majority of the voters can be reached from the leader, whenever there is one that has led for a second.
 */
static void check_majority(void) {
        static const SimMachine *last;
        static uint64_t since_ms;
        KvState state;

        if (leader() != last) {
                last = leader();
                since_ms = world_now_ms(world);
        }
        state = last ? machine_state(last) : (KvState) {};
        if (last && world_now_ms(world) > since_ms + 5000 && state.n_voters_reachable * 2 <= state.n_voters &&
            state.role == KV_ROLE_LEADER)
                world_failed(world, "a-majority-is-reachable", "%zu of %zu voters", state.n_voters_reachable,
                             state.n_voters);
}

static void run_ms(uint64_t ms) {
        for (uint64_t end_ms = world_now_ms(world) + ms; world_now_ms(world) < end_ms;) {
                world_run(world, MIN(world_now_ms(world) + STEP_MS, end_ms));
                check_majority();
        }
}

#define UNTIL_WITHIN(ms, name, expression) WORLD_UNTIL(world, ms, name, expression, run_ms(STEP_MS))
#define UNTIL(name, expression)            UNTIL_WITHIN(PATIENCE_MS, name, expression)

static void form(unsigned hosts, size_t voters) {
        cluster = cluster_new(world, hosts);
        for (unsigned i = 0; i < hosts; i++)
                world_at(world, i * 100, NULL, machine_begin, &cluster->machines[i]);
        UNTIL("a-cluster-forms", has_voters(voters));
        run_ms(2000);
        load_start(cluster, WRITE_MS, is_in_cluster);
}

static void isolate(SimMachine *m, bool is_cut) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (&cluster->machines[i] != m)
                        sim_net_cut(cluster->net, m->host, cluster->machines[i].host, is_cut);
}

static SimMachine *other_than(const SimMachine *than, bool voter) {
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];

                if (m != than && (member_of(machine_state(m).raft_id).role == KV_MEMBER_VOTER) == voter)
                        return m;
        }
        world_failed(world, "there-is-such-a-host", "no other %s", voter ? "voter" : "standby");
}

/* Find the newest row about a leader. */
static int find_leader_row(void *userdata, const KvHistoryRow *row) {
        HistoryEvent event;

        if (history_decode(row->body, &event) < 0 || event.kind != HISTORY_LEADER)
                return 1;
        snprintf(userdata, MACHINE_ID_SIZE, "%s", event.machine);
        return 0;
}

static bool leader_is_in_history(void) {
        char id[MACHINE_ID_SIZE] = "";

        return leader() &&
               kv_local_history(daemon_host(leader()->daemon)->store, 0, true, find_leader_row, id) == 0 &&
               streq(id, leader()->machine_id);
}

/* Kill the daemon of the leader; it starts again after two seconds, and may lead again. */
static void kill_leader(void) {
        SimMachine *m = leader();
        uint64_t term = machine_state(m).term;

        machine_suspect(m, world_now_ms(world), world_now_ms(world) + PATIENCE_MS);
        machine_crash_daemon(m);
        world_at(world, 2000, NULL, machine_begin, m);
        UNTIL("there-is-another-leader", leader() && machine_state(leader()).term > term);
        UNTIL("the-leader-is-in-the-history", leader_is_in_history());
}

static bool all_agree(void) {
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];

                if (!machine_serves(m) || machine_state(m).index != machine_state(leader()).index ||
                    !load_is_on(m))
                        return false;
        }
        return true;
}

static void check_end(void) {
        run_ms(5000);
        load_stop();
        run_ms(5000);
        load_check();
        UNTIL("each-host-has-each-acknowledged-write", leader() && all_agree());
        check_hashes(cluster);
}

/* -- Replacement -- */

typedef enum Step {
        STEP_NONE,
        STEP_SILENT,   /* before anything is changed */
        STEP_PROMOTED, /* four vote */
        STEP_RETIRED,  /* its key is deleted */
        STEP_REMOVED,
        _STEP_MAX,
} Step;

static bool is_at(Step step, const SimMachine *dead, uint64_t raft_id) {
        KvState state = leader() ? machine_state(leader()) : (KvState) {};

        switch (step) {
        case STEP_PROMOTED:
                return state.n_voters == 4;
        case STEP_RETIRED:
                return seen(dead) && seen(dead)->member.raft_id == 0;
        case STEP_REMOVED:
                return state.n_voters == 3 && member_of(raft_id).raft_id == 0;
        default:
                return true;
        }
}

/* A voter is cut off for ever. The leader is killed as soon as a step is visible. Then the link heals, and
 * the host becomes a standby under another Raft ID. Its daemon is the same one, or was restarted meanwhile.
 */
static void replace_voter_each_step(void) {
        for (Step killed = STEP_NONE; killed < _STEP_MAX; killed++) {
                SimMachine *dead;
                uint64_t raft_id;

                form(4, 3);
                dead = other_than(leader(), true);
                raft_id = machine_state(dead).raft_id;
                machine_suspect(dead, world_now_ms(world), world_now_ms(world) + 2 * (uint64_t) SILENT_MS);
                isolate(dead, true);
                run_ms(SILENT_MS - 5000);
                if (machine_state(leader()).n_voters != 3)
                        world_failed(world, "a-voter-is-replaced-after-ten-minutes", "%zu voters",
                                     machine_state(leader()).n_voters);
                if (killed == STEP_SILENT)
                        kill_leader();
                for (Step step = STEP_PROMOTED; step < _STEP_MAX; step++) {
                        UNTIL_WITHIN(LED_MS + PATIENCE_MS, "a-silent-voter-is-replaced",
                                     is_at(step, dead, raft_id));
                        if (killed == step && leader())
                                kill_leader();
                }
                UNTIL("three-vote", leader() && machine_state(leader()).n_voters_reachable == 3);

                if (world_draw(world, 2) == 0) {
                        machine_crash_daemon(dead);
                        run_ms(1000);
                        machine_start_daemon(dead);
                        run_ms(1000);
                }
                isolate(dead, false);
                UNTIL("the-replaced-host-returns",
                      has_voters(3) && member_of(machine_state(dead).raft_id).raft_id);
                if (machine_state(dead).raft_id == raft_id)
                        world_failed(world, "it-returns-under-another-id", "member %llu",
                                     (unsigned long long) raft_id);
                check_end();
                cluster = cluster_free(cluster);
        }
}

/* Without a host that can take its place, a dead voter stays. */
static void a_voter_without_a_replacement_stays(void) {
        SimMachine *dead;
        uint64_t raft_id;

        form(3, 3);
        dead = other_than(leader(), true);
        raft_id = machine_state(dead).raft_id;
        machine_suspect(dead, world_now_ms(world), world_now_ms(world) + 2 * (uint64_t) SILENT_MS);
        isolate(dead, true);
        run_ms(SILENT_MS + LED_MS);
        isolate(dead, false);
        UNTIL("three-vote", has_voters(3));
        if (machine_state(dead).raft_id != raft_id)
                world_failed(world, "it-stays-a-member", "member %llu",
                             (unsigned long long) machine_state(dead).raft_id);
        check_end();
        cluster = cluster_free(cluster);
}

/* -- The number of voters -- */

static void on_settings(void *userdata, KvStatus status, const char *message, uint64_t index) {}

static void set_voters(unsigned voters) {
        ClusterSettings settings = { .voters = voters };

        UNTIL("there-is-a-leader", leader());
        if (registry_set_settings(daemon_host(leader()->daemon)->registry, &settings, "root", on_settings,
                                  NULL) < 0)
                abort();
}

static size_t n_voters(void) {
        return leader() ? machine_state(leader()).n_voters : 0;
}

/* Change the number. The leader is killed once at each number on the way, mostly before the change is
 * committed. */
static void change_voters(unsigned to, bool kills) {
        bool killed[CLUSTER_HOSTS_MAX + 1] = {};
        size_t before = n_voters();

        set_voters(to);
        while (!has_voters(to)) {
                UNTIL_WITHIN(LED_MS + 2 * PATIENCE_MS, "the-number-of-voters-changes",
                             leader() && (n_voters() != before || has_voters(to)));
                before = n_voters();
                if (kills && before > 1 && !killed[before]) {
                        killed[before] = true;
                        kill_leader();
                }
                UNTIL("there-is-a-leader", leader());
                before = n_voters();
        }
        run_ms(3000);
        if (!has_voters(to))
                world_failed(world, "the-number-of-voters-stays", "%zu of %u", n_voters(), to);
}

static int count_role(void *userdata, const KvHistoryRow *row) {
        HistoryEvent event;

        if (history_decode(row->body, &event) == 0 && event.kind == HISTORY_ROLE &&
            starts_with(event.reason, "voter (before: standby), replica "))
                *(unsigned *) userdata += row->count;
        return 1;
}

/* Return whether the history has this number of promotions. */
static bool has_promotions(unsigned n) {
        unsigned found = 0;

        return leader() &&
               kv_local_history(daemon_host(leader()->daemon)->store, 0, false, count_role, &found) == 0 &&
               found == n;
}

static void grow_1_3_5_shrink(void) {
        for (unsigned kills = 0; kills < 2; kills++) {
                form(5, 3);
                change_voters(5, kills);
                if (!kills) /* a new leader has not seen the roles before */
                        UNTIL("promotions-are-in-the-history", has_promotions(4));
                change_voters(3, kills);
                change_voters(1, kills);
                change_voters(5, kills);
                change_voters(1, kills);
                set_voters(0);
                UNTIL_WITHIN(LED_MS + PATIENCE_MS, "three-vote", has_voters(3));
                check_end();
                cluster = cluster_free(cluster);
        }
}

/* -- Removal -- */

static void on_removed(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status != KV_OK)
                world_failed(world, "a-machine-is-removed", "%s", message);
}

static bool is_lost(const SimMachine *m) {
        return seen(m) && seen(m)->presence == PRESENCE_LOST;
}

static bool has_members(size_t n, size_t voters) {
        KvState state = leader() ? machine_state(leader()) : (KvState) {};

        return state.n_members == n && state.n_voters == voters && state.n_voters_reachable == voters;
}

typedef struct RoleEnd {
        const SimMachine *machine;
        unsigned n; /* its rows */
} RoleEnd;

static int count_role_end(void *userdata, const KvHistoryRow *row) {
        RoleEnd *end = userdata;
        HistoryEvent event;

        if (history_decode(row->body, &event) == 0 && event.kind == HISTORY_ROLE &&
            starts_with(event.reason, "no member (before: ") &&
            streq(event.machine, end->machine->machine_id))
                end->n += row->count;
        return 1;
}

/* Return whether the history says that the machine is no member any more. */
static bool has_role_end(const SimMachine *m) {
        RoleEnd end = { .machine = m };

        return leader() &&
               kv_local_history(daemon_host(leader()->daemon)->store, 0, false, count_role_end, &end) == 0 &&
               end.n > 0;
}

static void remove_host(SimMachine *m) {
        machine_power_cut(m);
        UNTIL("a-host-without-power-is-lost", is_lost(m));
        if (registry_remove_machine(daemon_host(leader()->daemon)->registry, seen(m), "root", NULL,
                                    on_removed, NULL) < 0)
                abort();
        UNTIL("two-hosts-are-a-voter-and-a-standby", has_members(2, 1));
        UNTIL("the-history-names-the-machine-of-the-removed-voter", has_role_end(m));
        if (!seen(m) || !seen(m)->removed || !streq(seen(m)->removed->by, "root") ||
            !streq(seen(m)->removed->how, "lost"))
                world_failed(world, "a-removed-host-has-a-tombstone", "%s", m->name);
}

/* Of three voters, one is removed. It returns, and its tombstone ends. Removed again, it is forgotten after
 * 30 days; and when it returns after that, it joins again. */
static void a_removed_voter_returns_or_is_forgotten(void) {
        SimMachine *m;

        form(3, 3);
        m = other_than(leader(), true);
        remove_host(m);
        machine_power_on(m);
        UNTIL("the-removed-host-returns", has_voters(3));
        if (seen(m)->removed)
                world_failed(world, "the-tombstone-of-a-host-that-is-up-ends", "%s", m->name);

        remove_host(m);
        for (unsigned i = 0; i < cluster->n; i++)
                if (cluster->machines[i].loop)
                        world_loop_set_wall_offset(cluster->machines[i].loop,
                                                   (int64_t) TOMBSTONE_MS - 3600000);
        run_ms(10000);
        if (!seen(m) || !seen(m)->removed)
                world_failed(world, "a-tombstone-lasts-30-days", "%s", m->name);
        for (unsigned i = 0; i < cluster->n; i++)
                if (cluster->machines[i].loop)
                        world_loop_set_wall_offset(cluster->machines[i].loop, (int64_t) TOMBSTONE_MS);
        UNTIL("a-removed-host-is-forgotten", leader() && !seen(m));
        machine_power_on(m);
        UNTIL("a-forgotten-host-joins-again", has_voters(3));
        check_end();
        cluster = cluster_free(cluster);
}

typedef enum RemoveStep {
        REMOVE_ASKED,
        REMOVE_TOMBSTONE,
        REMOVE_CONFIGURATION, /* its replica is gone */
        _REMOVE_STEP_MAX,
} RemoveStep;

static bool remove_is_at(RemoveStep step, const SimMachine *m, uint64_t raft_id) {
        switch (step) {
        case REMOVE_TOMBSTONE:
                return seen(m) && seen(m)->removed;
        case REMOVE_CONFIGURATION:
                return leader() && member_of(raft_id).raft_id == 0;
        default:
                return true;
        }
}

static void on_asked(void *userdata, KvStatus status, const char *message, uint64_t index) {}

/* The leader is killed at each step of the removal of a lost host. The administrator repeats the command if
 * it had no effect; all else follows from the tombstone. */
static void remove_crash_each_step(void) {
        for (RemoveStep killed = REMOVE_ASKED; killed < _REMOVE_STEP_MAX; killed++) {
                uint64_t raft_id;
                SimMachine *m;

                form(4, 3);
                m = other_than(leader(), true);
                raft_id = machine_state(m).raft_id;
                machine_power_cut(m);
                UNTIL("a-host-without-power-is-lost", is_lost(m));
                for (RemoveStep step = REMOVE_ASKED; step < _REMOVE_STEP_MAX; step++) {
                        if (step == REMOVE_ASKED &&
                            registry_remove_machine(daemon_host(leader()->daemon)->registry, seen(m), "root",
                                                    NULL, on_asked, NULL) < 0)
                                abort();
                        if (killed == REMOVE_ASKED && step == REMOVE_TOMBSTONE) {
                                run_ms(1000);
                                UNTIL("the-leader-knows-the-host", seen(m));
                                if (!seen(m)->removed &&
                                    registry_remove_machine(daemon_host(leader()->daemon)->registry, seen(m),
                                                            "root", NULL, on_removed, NULL) < 0)
                                        abort();
                        }
                        UNTIL("a-lost-host-is-removed", remove_is_at(step, m, raft_id));
                        if (killed == step)
                                kill_leader();
                }
                UNTIL("the-others-vote", has_members(3, 3));
                if (!seen(m) || !seen(m)->removed || !streq(seen(m)->removed->by, "root"))
                        world_failed(world, "a-removed-host-has-a-tombstone", "%s", m->name);
                load_stop();
                cluster = cluster_free(cluster);
        }
}

/* -- Addresses -- */

static void move_to_port(SimMachine *m, unsigned port) {
        free(m->settings.listen_peer);
        if (asprintf(&m->settings.listen_peer, "%s:%u", m->address, port) < 0)
                abort();
}

static bool is_recorded(const SimMachine *m) {
        return seen(m) && streq(seen(m)->member.peer, m->settings.listen_peer);
}

static bool all_are_recorded(void) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (!is_recorded(&cluster->machines[i]))
                        return false;
        return true;
}

static void a_voter_continues_at_another_address(void) {
        SimMachine *m;
        uint64_t raft_id;

        form(3, 3);
        m = other_than(leader(), true);
        if (world_draw(world, 2) == 0)
                m = leader();
        raft_id = machine_state(m).raft_id;
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + PATIENCE_MS);
        machine_stop_daemon(m);
        move_to_port(m, 2390);
        run_ms(3000);
        machine_start_daemon(m);
        UNTIL("its-address-is-recorded", is_recorded(m) && has_voters(3));
        if (machine_state(m).raft_id != raft_id)
                world_failed(world, "it-stays-a-member", "member %llu",
                             (unsigned long long) machine_state(m).raft_id);
        check_end();
        cluster = cluster_free(cluster);
}

/* Each one starts with its own address and a Join= of the others. */
static void renumber_all(void) {
        form(3, 3);
        for (unsigned i = 0; i < cluster->n; i++) {
                machine_suspect(&cluster->machines[i], world_now_ms(world),
                                world_now_ms(world) + PATIENCE_MS);
                machine_stop_daemon(&cluster->machines[i]);
                move_to_port(&cluster->machines[i], 2390);
        }
        run_ms(3000);
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];

                names_done(&m->settings.join);
                m->settings.join = (Names) {};
                for (unsigned k = 0; k < cluster->n; k++)
                        if (k != i && names_add(&m->settings.join, cluster->machines[k].settings.listen_peer,
                                                strlen(cluster->machines[k].settings.listen_peer)) < 0)
                                abort();
                machine_start_daemon(m);
        }
        UNTIL("all-addresses-are-recorded", all_are_recorded() && has_voters(3));
        check_end();
        cluster = cluster_free(cluster);
}

/* -- Leaving -- */

enum { UNITS = 4 };

static void on_submitted(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status != KV_OK)
                world_failed(world, "a-unit-is-submitted", "%s", message);
}

static const char *unit_name(unsigned i) {
        static char name[32];

        snprintf(name, sizeof(name), "u%u.service", i);
        return name;
}

static bool all_run(void) {
        for (unsigned i = 0; i < UNITS; i++) {
                unsigned k = 0;

                while (k < cluster->n && !sim_systemd_runs(cluster->machines[k].systemd, unit_name(i)))
                        k++;
                if (k == cluster->n)
                        return false;
        }
        return true;
}

static void start_units(void) {
        static const char text[] = "[Service]\nExecStart=/bin/sleep 100\n";

        for (unsigned i = 0; i < UNITS; i++) {
                UnitChange change = { .name = unit_name(i), .has_target = true, .target = TARGET_LAUNCHED };
                Unit *unit = NULL;

                if (unit_parse(change.name, text, sizeof(text) - 1, &unit, NULL) < 0)
                        abort();
                change.unit = unit;
                if (registry_change_units(daemon_host(leader()->daemon)->registry, &change, 1, on_submitted,
                                          NULL) < 0)
                        abort();
                unit_free(unit);
        }
        UNTIL("all-units-run", all_run());
}

/* As the API of the host does. */
static void begin_leave(SimMachine *m) {
        MaintenanceRecord leave = { .purpose = CLUSTER_FOR_LEAVE,
                                    .mode = MAINTENANCE_DRAINING,
                                    .since_ms = world_now_ms(world) };
        Registry *r = daemon_host(m->daemon)->registry;

        former = machine_state(m).cluster_id;
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + 2 * (uint64_t) PATIENCE_MS);
        if (registry_maintain(r, 0, cluster_machine(registry_cluster(r), m->machine_id), &leave, NULL,
                              on_submitted, NULL) < 0)
                abort();
}

static bool without_a_gap(const char *name) {
        if (!all_run())
                world_failed(world, "a-unit-runs-elsewhere-before-it-stops", "until %s", name);
        return true;
}

/* Until the expression holds, each unit runs somewhere. Two starts in a row may be refused: the next attempts
 * to move a unit are 30 s and 60 s later. */
#define UNTIL_WITHOUT_A_GAP(name, expression) \
        UNTIL_WITHIN(2 * PATIENCE_MS, name, without_a_gap(name) && (expression))

static int on_node(void *userdata, const KvNode *node) {
        return 0;
}

static bool has_own_cluster(const SimMachine *m) {
        KvState state = machine_state(m);

        return state.cluster_id != 0 && state.cluster_id != former && state.role == KV_ROLE_LEADER &&
               state.ready &&
               kv_local_get(daemon_host(m->daemon)->store, kv_string("/load/0"), on_node, NULL) == -ENOENT;
}

/* The remaining members have each acknowledged write. */
static bool members_agree(void) {
        for (unsigned i = 0; i < cluster->n; i++) {
                const SimMachine *m = &cluster->machines[i];

                if (is_in_cluster(m) &&
                    (machine_state(m).index != machine_state(leader()).index || !load_is_on(m)))
                        return false;
        }
        return true;
}

static void check_left(SimMachine *const *left, size_t n_left) {
        for (size_t i = 0; i < n_left; i++) {
                UNTIL_WITHOUT_A_GAP("a-host-that-has-left-is-a-cluster-of-its-own", has_own_cluster(left[i]));
                for (unsigned k = 0; k < UNITS; k++)
                        if (sim_systemd_runs(left[i]->systemd, unit_name(k)))
                                world_failed(world, "no-unit-is-left-on-it", "%s", unit_name(k));
        }
        UNTIL_WITHOUT_A_GAP("the-others-vote", has_members(3, 3));
        run_ms(3000);
        load_stop();
        run_ms(3000);
        UNTIL("each-member-has-each-acknowledged-write", leader() && members_agree());
        former = 0;
}

typedef enum LeaveStep {
        LEAVE_BEGUN,
        LEAVE_DRAINED,
        LEAVE_WITHOUT_VOTE,
        LEAVE_ENDED, /* its tombstone is there */
        _LEAVE_STEP_MAX,
} LeaveStep;

static bool leave_is_at(LeaveStep step, const SimMachine *m, uint64_t raft_id) {
        const ClusterMachine *now = seen(m);

        if (!now || cluster_machine_has_left(now) || step == LEAVE_ENDED)
                return now && cluster_machine_has_left(now);
        if (step == LEAVE_BEGUN)
                return cluster_machine_is_leaving(now);
        return step == LEAVE_DRAINED ? cluster_machine_is_drained(now) :
                                       member_of(raft_id).role != KV_MEMBER_VOTER;
}

/* A voter leaves a cluster of four; it leads, or not. At one step, the leader or the host itself is killed,
 * and starts again after two seconds. */
static void leave_once(LeaveStep killed, bool kills_leader, bool leads) {
        SimMachine *m;
        uint64_t raft_id;

        form(4, 3);
        start_units();
        m = leads ? leader() : other_than(leader(), true);
        raft_id = machine_state(m).raft_id;
        begin_leave(m);
        for (LeaveStep step = LEAVE_BEGUN; step < _LEAVE_STEP_MAX; step++) {
                UNTIL_WITHOUT_A_GAP("a-host-leaves", leader() && leave_is_at(step, m, raft_id));
                if (killed != step)
                        continue;
                if (kills_leader) {
                        kill_leader();
                        continue;
                }
                machine_crash_daemon(m);
                world_at(world, 2000, NULL, machine_begin, m);
        }
        check_left(&m, 1);
        cluster = cluster_free(cluster);
}

static void leave_crash_each_step(void) {
        leave_once(_LEAVE_STEP_MAX, false, true);
        for (LeaveStep step = LEAVE_BEGUN; step < _LEAVE_STEP_MAX; step++) {
                leave_once(step, true, false);
                leave_once(step, false, world_draw(world, 2) == 0);
        }
}

static const char owned_unit[] = "own.service";

static bool has_owned_unit(void) {
        return leader() &&
               cluster_unit(registry_cluster(daemon_host(leader()->daemon)->registry), owned_unit);
}

/* The unit directory repeats what was rejected. */
static void on_owned(void *userdata, KvStatus status, const char *message, uint64_t index) {}

/* As the unit directory of the host does with a new file. */
static void submit_owned_unit(SimMachine *m) {
        static const char text[] = "[Service]\nExecStart=/bin/sleep 100\n";
        UnitChange change = { .name = owned_unit,
                              .only_if_absent = true,
                              .has_target = true,
                              .target = TARGET_LAUNCHED,
                              .user = HISTORY_DIRECTORY };
        Unit *unit = NULL;

        if (unit_parse(owned_unit, text, sizeof(text) - 1, &unit, NULL) < 0 ||
            unit_set_owner(unit, m->machine_id, "/etc/fleet/units") < 0)
                abort();
        change.unit = unit;
        if (registry_change_directory(daemon_host(m->daemon)->registry, &change, 1, NULL, 0, on_owned, NULL) <
            0)
                abort();
        unit_free(unit);
}

/* A file appears in the unit directory of a host that leaves, after the check of the request. If its unit is
 * submitted first, the host stays. Else the unit is not submitted: the host starts it as its own cluster. */
static void a_unit_file_during_a_leave(void) {
        for (unsigned i = 0; i < 6; i++) {
                bool submits_first = i % 2 == 0;
                SimMachine *m;

                form(4, 3);
                start_units();
                m = other_than(leader(), true);
                if (submits_first)
                        submit_owned_unit(m);
                begin_leave(m);
                if (!submits_first)
                        submit_owned_unit(m);
                UNTIL("it-leaves", leader() && seen(m) && cluster_machine_is_leaving(seen(m)));
                if (i / 2 == 1)
                        kill_leader();
                if (i / 2 == 2) {
                        run_ms((unsigned) world_draw(world, 1000));
                        machine_crash_daemon(m);
                        world_at(world, 2000, NULL, machine_begin, m);
                }
                UNTIL_WITHOUT_A_GAP("the-leave-ends-or-is-cancelled",
                                    leader() && seen(m) &&
                                            (cluster_machine_has_left(seen(m)) ||
                                             (has_owned_unit() && !cluster_machine_is_leaving(seen(m)))));
                if (cluster_machine_has_left(seen(m)) == has_owned_unit())
                        world_failed(world, "no-host-with-a-unit-of-its-directory-leaves", "%s", m->name);
                load_stop();
                run_ms(3000); /* each host that stopped starts again */
                former = 0;
                cluster = cluster_free(cluster);
        }
}

static void two_join_and_two_leave_at_once(void) {
        SimMachine *left[2];

        cluster = cluster_new(world, 5);
        for (unsigned i = 0; i < 3; i++)
                world_at(world, i * 100, NULL, machine_begin, &cluster->machines[i]);
        UNTIL("a-cluster-forms", has_members(3, 3));
        run_ms(2000);
        load_start(cluster, WRITE_MS, is_in_cluster);
        start_units();
        left[0] = leader();
        left[1] = other_than(leader(), true);
        for (unsigned i = 3; i < 5; i++)
                machine_start_daemon(&cluster->machines[i]);
        begin_leave(left[0]);
        begin_leave(left[1]);
        check_left(left, 2);
        cluster = cluster_free(cluster);
}

/* Two of five hosts lose power while a third one leaves: it stays until the brake is over. */
static void a_leave_waits_for_the_brake(void) {
        SimMachine *m, *lost[2] = {};
        unsigned n = 0;

        form(5, 3);
        start_units();
        m = other_than(leader(), true);
        for (unsigned i = 0; i < cluster->n && n < 2; i++)
                if (&cluster->machines[i] != m && &cluster->machines[i] != leader())
                        lost[n++] = &cluster->machines[i];
        for (unsigned i = 0; i < n; i++)
                machine_power_cut(lost[i]);
        UNTIL("two-hosts-are-lost", is_lost(lost[0]) && is_lost(lost[1]));
        begin_leave(m);
        run_ms(BRAKE_MS / 2);
        if (!seen(m) || cluster_machine_has_left(seen(m)) || cluster_machine_is_drained(seen(m)))
                world_failed(world, "nothing-moves-during-the-brake", "%s", m->name);
        for (unsigned i = 0; i < n; i++)
                machine_power_on(lost[i]);
        UNTIL_WITHIN(2 * PATIENCE_MS, "it-leaves-afterwards", seen(m) && cluster_machine_has_left(seen(m)));
        load_stop();
        former = 0;
        cluster = cluster_free(cluster);
}

static void (*const scenarios[])(void) = {
        leave_crash_each_step,
        a_unit_file_during_a_leave,
        two_join_and_two_leave_at_once,
        a_leave_waits_for_the_brake,
        remove_crash_each_step,
        grow_1_3_5_shrink,
        a_removed_voter_returns_or_is_forgotten,
        a_voter_continues_at_another_address,
        renumber_all,
        replace_voter_each_step,
        a_voter_without_a_replacement_stays,
};

int main(int argc, char *argv[]) {
        unsigned long long runs = worlds_run("tests/sim/test-members", (Seeds) { .seed = 1, .runs = 1 },
                                             on_log, scenarios, ELEMENTS(scenarios), argc, argv);

        if (runs == 0)
                return 2;
        printf("%llu times %zu scenarios: voters are replaced, and no acknowledged write is lost\n", runs,
               ELEMENTS(scenarios));
        return 0;
}
