/* Hosts change between voter, standby and attached host, while clients on all of them write, read and watch.
 *
 *      test-kinds [--seed N] [--runs N] [--trace]
 */

#include "fleetd/api/forward.h"
#include "fleetd/sessions/voters.h"
#include "tests/sim/tokens.h"

enum {
        HOSTS = 8,
        WRITES_MAX = 4096, /* of one client */
        EVENTS_MAX = HOSTS * WRITES_MAX,
        STEP_MS = 20,
        PAUSE_MS = 5000, /* of a replica */
};

/* -- Clients: one on each host -- */

typedef struct Client {
        SimMachine *machine;
        KvWatch *watch;
        uint64_t seen[EVENTS_MAX]; /* indexes of the events, in order */
        size_t n_seen;
        unsigned n_writes;
        bool acknowledged[WRITES_MAX];
        bool writing, reading;
        uint64_t write_ms; /* the next write */
        KvGet get;
        uint64_t index; /* highest index that this host has shown */
        uint64_t begun; /* the same when the read began: a write that ends meanwhile is concurrent */
} Client;

static Client clients[HOSTS];
static uint64_t pause_ms; /* between two writes of a client; 0: no client works */

static void client_saw(Client *c, uint64_t index) {
        c->index = MAX(c->index, index);
}

static void on_written(void *userdata, const KvResult *result) {
        Client *c = userdata;

        c->writing = false;
        if (result->status != KV_OK)
                return;
        c->acknowledged[c->n_writes - 1] = true;
        client_saw(c, result->index);
}

static void client_write(Client *c) {
        char value[32];
        uint64_t number;

        if (c->writing || c->n_writes == WRITES_MAX || world_now_ms(world) < c->write_ms)
                return;
        c->write_ms = world_now_ms(world) + pause_ms;
        snprintf(value, sizeof(value), "%u %u", c->machine->index, c->n_writes);
        c->writing = kv_propose(daemon_host(c->machine->daemon)->store,
                                &(KvCommand) {
                                        .op = KV_POST, .key = kv_string("/log"), .value = kv_string(value) },
                                on_written, c, &number) == 0;
        c->n_writes += c->writing;
}

static void on_read(void *userdata, int result, const KvFound *found) {
        Client *c = userdata;

        c->reading = false;
        if (result < 0)
                return;
        if (found->index < c->begun)
                world_failed(world, "no-read-goes-back", "%s: index %llu after %llu", c->machine->name,
                             (unsigned long long) found->index, (unsigned long long) c->begun);
        client_saw(c, found->index);
}

static void client_read(Client *c) {
        if (c->reading || !kv_can_serve(daemon_host(c->machine->daemon)->store))
                return;
        c->reading = true;
        c->begun = c->index;
        c->get = (KvGet) { .key = kv_string("/log"), .done = on_read, .userdata = c };
        kv_get(daemon_host(c->machine->daemon)->store, &c->get);
}

static void on_event(void *userdata, KvWatchEvent *event) {
        Client *c = userdata;

        if (c->n_seen > 0 && event->event.index <= c->seen[c->n_seen - 1])
                world_failed(world, "a-watch-repeats-nothing", "%s: index %llu", c->machine->name,
                             (unsigned long long) event->event.index);
        if (c->n_seen == EVENTS_MAX)
                abort();
        c->seen[c->n_seen++] = event->event.index;
}

static void on_cleared(void *userdata, uint64_t oldest, uint64_t current) {
        Client *c = userdata;

        world_failed(world, "a-watch-keeps-its-position", "%s: oldest %llu, current %llu", c->machine->name,
                     (unsigned long long) oldest, (unsigned long long) current);
}

static void client_watch(Client *c) {
        static const KvWatchOps ops = { .on_event = on_event, .on_cleared = on_cleared };
        const KvWatchOptions options = { .key = kv_string("/log"),
                                         .recursive = true,
                                         .since = c->n_seen > 0 ? c->seen[c->n_seen - 1] + 1 : 1 };
        uint64_t oldest = 0;

        if (c->watch || !kv_can_serve(daemon_host(c->machine->daemon)->store))
                return;
        if (kv_watch(daemon_host(c->machine->daemon)->store, &options, &ops, c, &c->watch, &oldest) < 0)
                world_failed(world, "a-watch-opens", "%s: since %llu, oldest %llu", c->machine->name,
                             (unsigned long long) options.since, (unsigned long long) oldest);
}

static void clients_step(void) {
        for (unsigned i = 0; i < cluster->n && pause_ms > 0; i++) {
                Client *c = &clients[i];

                c->machine = machine(i);
                if (!serves(c->machine))
                        continue;
                client_watch(c);
                client_write(c);
                client_read(c);
        }
}

/* The daemon of the host is about to end: what its client waits for has no answer. */
static void client_leave(SimMachine *m) {
        Client *c = &clients[m->index];

        if (c->reading)
                kv_get_cancel(&c->get);
        kv_watch_close(c->watch);
        c->watch = NULL;
        c->writing = c->reading = false;
}

#define WORKING_UNTIL(ms, name, expression)      \
        WORLD_UNTIL(world, ms, name, expression, \
                    (clients_step(), world_run(world, world_now_ms(world) + STEP_MS)))

/* -- The end: what the tree has -- */

typedef struct Log {
        unsigned n[HOSTS][WRITES_MAX]; /* nodes of each write */
        uint64_t created[EVENTS_MAX];
        size_t n_created;
} Log;

static int on_node(void *userdata, const KvNode *node) {
        unsigned host, write;
        char value[32];
        Log *log = userdata;

        snprintf(value, sizeof(value), "%.*s", (int) node->value.size, (const char *) node->value.data);
        if (sscanf(value, "%u %u", &host, &write) != 2 || host >= HOSTS || write >= WRITES_MAX)
                abort();
        log->n[host][write]++;
        log->created[log->n_created++] = node->created;
        return 1;
}

static int compare(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return (x > y) - (x < y);
}

static bool clients_rest(void) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (clients[i].writing || clients[i].reading)
                        return false;
        return true;
}

static void check_client(const Client *c, const Log *log) {
        for (unsigned k = 0; k < c->n_writes; k++)
                if (log->n[c->machine->index][k] > 1 ||
                    (c->acknowledged[k] && log->n[c->machine->index][k] == 0))
                        world_failed(world, "each-acknowledged-write-exists-once", "%s: write %u, %u times",
                                     c->machine->name, k, log->n[c->machine->index][k]);
        UNTIL("a-watch-sees-all", !c->watch || c->n_seen == log->n_created);
        if (c->watch && memcmp(c->seen, log->created, c->n_seen * sizeof(*c->seen)) != 0)
                world_failed(world, "a-watch-sees-what-the-tree-has", "%s", c->machine->name);
}

static void clients_end(void) {
        const KvRange range = { .key = kv_string("/log"), .recursive = true, .without_key = true };
        static Log log;
        unsigned n = 0;

        pause_ms = 0;
        UNTIL("each-client-is-answered", clients_rest());
        UNTIL("there-is-a-leader", leader_with(machine(0)));
        log = (Log) {};
        if (kv_local_walk(daemon_host(leader_with(machine(0))->daemon)->store, &range, on_node, &log) < 0)
                abort();
        qsort(log.created, log.n_created, sizeof(*log.created), compare);
        for (unsigned i = 0; i < cluster->n; i++) {
                if (clients[i].machine)
                        check_client(&clients[i], &log);
                n += clients[i].n_writes;
                client_leave(machine(i));
        }
        world_trace(world, "clients", "%u writes, %zu events on each host", n, log.n_created);
        memset(clients, 0, sizeof(clients));
        cluster = cluster_free(cluster);
}

/* -- Kinds -- */

static bool is_attached(const SimMachine *m) {
        KvState state = state_of(m);

        return state.attached && state.raft_id == 0 && is_ready(m);
}

/* Whether exactly the hosts with a replica have the cluster key. */
static bool members_have_the_key(void) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (exists(machine(i), "secrets/key.1") != (state_of(machine(i)).raft_id != 0))
                        return false;
        return true;
}

static bool has_members(size_t voters, size_t n) {
        const SimMachine *leader = leader_with(machine(0));
        KvState state = leader ? state_of(leader) : (KvState) {};

        return state.n_voters == voters && state.n_voters_reachable == voters && state.n_members == n;
}

/* Found a cluster of three voters and two standbys; the other hosts are attached. */
static void found_with_attached(unsigned hosts) {
        found(hosts, 5);
        for (unsigned i = 5; i < hosts; i++) {
                MadeToken token = make_token(machine(0), NULL);

                join_with(machine(i), &token);
                UNTIL("a-host-is-attached", is_attached(machine(i)));
        }
        for (unsigned i = 0; i < hosts; i++)
                UNTIL("a-host-is-up",
                      seen(machine(0), machine(i)) && seen(machine(0), machine(i))->presence == PRESENCE_UP);
}

static void on_settings(void *userdata, KvStatus status, const char *message, uint64_t index) {}

static void set_voters(unsigned voters) {
        ClusterSettings settings = { .voters = voters };

        WORKING_UNTIL(TOKENS_PATIENCE_MS, "there-is-a-leader", leader_with(machine(0)));
        if (registry_set_settings(daemon_host(leader_with(machine(0))->daemon)->registry, &settings, "root",
                                  on_settings, NULL) < 0)
                abort();
}

static unsigned n_attached(void) {
        unsigned n = 0;

        for (unsigned i = 0; i < cluster->n; i++)
                n += serves(machine(i)) && is_attached(machine(i));
        return n;
}

/* Whether each host can forward a request, those that were attached before they were members among them. */
static bool all_can_forward(void) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (!forward_has_replica(daemon_host(machine(i)->daemon)->api))
                        return false;
        return true;
}

static void five_vote_and_three_again(void) {
        found_with_attached(8);
        pause_ms = 3000;
        set_voters(5);
        WORKING_UNTIL(voters_spans.up_ms + TOKENS_PATIENCE_MS, "five-vote", has_members(5, 7));
        WORKING_UNTIL(TOKENS_PATIENCE_MS, "one-host-is-attached", n_attached() == 1);
        WORKING_UNTIL(TOKENS_PATIENCE_MS, "all-can-forward", all_can_forward());
        set_voters(3);
        WORKING_UNTIL(TOKENS_PATIENCE_MS, "three-vote", has_members(3, 5));
        WORKING_UNTIL(TOKENS_PATIENCE_MS, "three-hosts-are-attached", n_attached() == 3);
        WORKING_UNTIL(TOKENS_PATIENCE_MS, "members-have-the-key", members_have_the_key());
        clients_end();
}

/* A voter that is lost for ever is replaced by a standby, the standby by an attached host. When it returns,
 * it is attached. */
static void a_lost_voter_is_replaced(void) {
        SimMachine *lost;
        uint64_t begin_ms;

        found_with_attached(8);
        lost = machine(leader_with(machine(0)) == machine(0) ? 1 : 0);
        for (unsigned i = 0; i < 5; i++)
                for (size_t k = 0; k < state_of(machine(0)).n_members; k++)
                        if (state_of(machine(0)).members[k].raft_id == state_of(machine(i)).raft_id &&
                            state_of(machine(0)).members[k].role == KV_MEMBER_VOTER &&
                            machine(i) != leader_with(machine(0)))
                                lost = machine(i);
        pause_ms = 10000;
        WORKING_UNTIL(TOKENS_PATIENCE_MS, "clients-work", clients[lost->index].n_seen > 0);
        client_leave(lost);
        machine_power_cut(lost);
        begin_ms = world_now_ms(world);
        WORKING_UNTIL(voters_spans.silent_ms + voters_spans.led_ms + TOKENS_PATIENCE_MS,
                      "a-standby-votes-and-an-attached-host-is-a-standby",
                      has_members(3, 5) && n_attached() == 2 &&
                              !seen(leader_with(machine(0)), lost)->member.raft_id);
        world_trace(world, "replaced", "after %llu s",
                    (unsigned long long) (world_now_ms(world) - begin_ms) / 1000);
        machine_power_on(lost);
        WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-replaced-voter-is-attached", is_attached(lost));
        clients_end();
}

/* -- A replica that fails -- */

/* Return a member that does not lead. */
static SimMachine *follower(void) {
        return machine(leader_with(machine(0)) == machine(0) ? 1 : 0);
}

/* The disk of a voter or a standby is full: the host continues with the replica of another one, and with its
 * own again when the disk has room. */
static void a_replica_without_a_disk_is_away_for_a_while(void) {
        found_with_attached(6);
        pause_ms = 500;
        for (unsigned k = 0; k < 3; k++) {
                SimMachine *m = k == 0 ? follower() : machine(k == 1 ? 4 : leader_with(machine(0))->index);
                uint64_t raft_id = state_of(m).raft_id;
                size_t seen_before;

                memory_disk_set_error(m->disk, -ENOSPC, false);
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-host-uses-another-replica",
                              state_of(m).attached && is_ready(m));
                if (state_of(m).raft_id != raft_id)
                        world_failed(world, "a-host-keeps-its-raft-id", "%s", m->name);
                seen_before = clients[m->index].n_seen;
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-client-of-it-works",
                              clients[m->index].n_seen > seen_before + 20);
                memory_disk_set_error(m->disk, 0, false);
                WORKING_UNTIL(2 * TOKENS_PATIENCE_MS, "a-host-uses-its-own-replica",
                              !state_of(m).attached && is_ready(m) && state_of(m).raft_id == raft_id);
        }
        clients_end();
}

/* -- Hosts with an older program -- */

static void on_raised(void *userdata, const KvResult *result) {}

/* A cluster whose level is too low rejects a sixth host; above it, the host is attached. */
static void an_older_level_has_no_attached_hosts(void) {
        SimMachine *m;
        MadeToken token;
        uint64_t number;

        program_level = KV_LEVEL_ATTACHED - 1;
        found(6, 5);
        program_level = 0;
        m = machine(5);
        token = make_token(machine(0), NULL);
        UNTIL("a-host-is-ready", is_ready(m));
        (void) command(m, false, token.text);
        expect_failure(m, "the cluster has 5 hosts, and with 3 voters and 2 standbys, there are at most 5");
        for (unsigned i = 0; i < 6; i++) {
                stop_host(machine(i));
                machine(i)->level_max = 0;
                machine_start_daemon(machine(i));
                UNTIL("a-host-returns", is_ready(machine(i)));
        }
        (void) command(m, false, token.text);
        expect_failure(m, "the cluster has 5 hosts, and with 3 voters and 2 standbys, there are at most 5");

        UNTIL("there-is-a-leader", leader_with(machine(0)));
        if (kv_propose(daemon_host(leader_with(machine(0))->daemon)->store,
                       &(KvCommand) { .op = KV_RAISE, .internal = true, .limit = KV_LEVEL_ATTACHED },
                       on_raised, NULL, &number) < 0)
                abort();
        UNTIL("the-level-is-raised", state_of(machine(0)).level == KV_LEVEL_ATTACHED);
        UNTIL("a-host-is-ready", is_ready(m));
        join_with(m, &token);
        UNTIL("a-host-is-attached", is_attached(m));
        clients_end();
}

/* -- Leaving -- */

static void on_leaving(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status != KV_OK)
                world_failed(world, "a-host-may-leave", "%s", message);
}

static void an_attached_host_leaves(void) {
        MaintenanceRecord leave = { .purpose = CLUSTER_FOR_LEAVE, .mode = MAINTENANCE_DRAINING };
        uint64_t former;
        SimMachine *m;
        Registry *r;

        found_with_attached(6);
        m = machine(5);
        r = daemon_host(m->daemon)->registry;
        former = state_of(m).cluster_id;
        leave.since_ms = world_now_ms(world);
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        if (registry_maintain(r, 0, cluster_machine(registry_cluster(r), m->machine_id), &leave, NULL,
                              on_leaving, NULL) < 0)
                abort();
        UNTIL("a-host-has-a-cluster-of-its-own",
              state_of(m).role == KV_ROLE_LEADER && is_ready(m) && state_of(m).cluster_id != former);
        if (!seen(machine(0), m)->removed || !has_members(3, 5))
                world_failed(world, "a-host-that-left-has-a-tombstone", "%s", m->name);
        clients_end();
}

/* -- Moves between replicas -- */

static void working_for(uint64_t ms) {
        uint64_t end_ms = world_now_ms(world) + ms;

        WORKING_UNTIL(ms + STEP_MS, "time-advances", world_now_ms(world) >= end_ms);
}

/* Writes and watches of an attached host while the replica that it uses crashes, is cut off or stalls. */
static void proposals_and_watches_across_moves(void) {
        SimMachine *m, *former;
        unsigned n;

        found_with_attached(6);
        m = machine(5);
        pause_ms = 40;
        for (unsigned i = 0; i < 6; i++) {
                Client *c = &clients[m->index];

                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-host-uses-a-replica",
                              is_attached(m) && cluster_replica_of(m));
                former = cluster_replica_of(m);
                n = c->n_writes + 1 + (unsigned) world_draw(world, 20);
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-client-of-it-works", c->n_writes > n);
                if (i % 3 == 0) {
                        machine_suspect(former, world_now_ms(world),
                                        world_now_ms(world) + TOKENS_PATIENCE_MS);
                        client_leave(former);
                        machine_crash_daemon(former);
                } else if (i % 3 == 1)
                        sim_net_cut(cluster->net, m->host, former->host, true);
                else
                        world_loop_pause(former->loop, PAUSE_MS);
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-host-moves-over",
                              is_attached(m) && cluster_replica_of(m) && cluster_replica_of(m) != former);
                n = c->n_writes + 20;
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-client-of-it-works", c->n_writes > n);
                sim_net_cut(cluster->net, m->host, former->host, false);
                machine_start_daemon(former);
                /* While one replica stands still, the host may return to another one that begins again. */
                working_for(i % 3 == 2 ? PAUSE_MS : 0);
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-replica-returns", is_ready(former));
        }
        clients_end();
}

/* The daemon of an attached host ends, and finds only a replica that lacks what the host has read: it answers
 * no read from it, until it has caught up. */
static void reads_across_restarts(void) {
        SimMachine *m, *former = NULL, *older = NULL;
        unsigned n;

        found_with_attached(6);
        m = machine(5);
        pause_ms = 100;
        for (unsigned k = 0; k < 3; k++) {
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-host-uses-a-replica",
                              is_attached(m) && (former = cluster_replica_of(m)) && leader_with(machine(0)));
                for (unsigned i = 0; i < 5; i++)
                        if (machine(i) != former && machine(i) != leader_with(machine(0)))
                                older = machine(i);
                machine_suspect(older, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
                for (unsigned i = 0; i < 5; i++)
                        if (machine(i) != older)
                                sim_net_cut(cluster->net, machine(i)->host, older->host, true);
                n = clients[m->index].n_writes + 20;
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-client-of-it-works", clients[m->index].n_writes > n);
                client_leave(m);
                machine_crash_daemon(m);
                for (unsigned i = 0; i < 5; i++)
                        sim_net_cut(cluster->net, m->host, machine(i)->host, machine(i) != older);
                machine_start_daemon(m);
                working_for(8000);
                for (unsigned i = 0; i < 5; i++) {
                        sim_net_cut(cluster->net, m->host, machine(i)->host, false);
                        if (machine(i) != older)
                                sim_net_cut(cluster->net, machine(i)->host, older->host, false);
                }
                n = clients[m->index].n_writes + 20;
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-client-of-it-works", clients[m->index].n_writes > n);
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-replica-returns", is_ready(older));
        }
        clients_end();
}

/* -- Crashes -- */

typedef enum Step {
        STEP_ASSIGNED, /* the member key has a Raft ID */
        STEP_JOINED,   /* the host has stored it */
        STEP_ADDED,    /* it is in the configuration */
        STEP_SERVES,   /* its own tree serves */
        _STEP_MAX,
} Step;

static bool has_member(const SimMachine *m) {
        const SimMachine *leader = leader_with(machine(0));
        KvState state = leader ? state_of(leader) : (KvState) {};
        const ClusterMachine *known = leader ? seen(leader, m) : NULL;

        for (size_t i = 0; known && i < state.n_members; i++)
                if (state.members[i].raft_id == known->member.raft_id)
                        return true;
        return false;
}

static bool is_at(Step step, const SimMachine *m) {
        const SimMachine *leader = leader_with(machine(0));

        switch (step) {
        case STEP_ASSIGNED:
                return leader && seen(leader, m)->member.raft_id != 0;
        case STEP_JOINED:
                return state_of(m).raft_id != 0;
        case STEP_ADDED:
                return has_member(m);
        default:
                return has_member(m) && !state_of(m).attached && is_ready(m);
        }
}

static void crash(SimMachine *m) {
        machine_suspect(m, world_now_ms(world), world_now_ms(world) + TOKENS_PATIENCE_MS);
        client_leave(m);
        machine_crash_daemon(m);
        world_run(world, world_now_ms(world) + 100);
        machine_start_daemon(m);
}

/* The attached host that has reached the step, of those in 'before'. */
static SimMachine *host_at(Step step, const bool before[static HOSTS]) {
        for (unsigned i = 0; i < cluster->n; i++)
                if (before[i] && is_at(step, machine(i)))
                        return machine(i);
        return NULL;
}

/* Hosts become standbys, and are attached again; one of them, or the leader, crashes at each step. */
static void crash_each_step(void) {
        bool before[HOSTS];
        SimMachine *m;

        found_with_attached(6);
        pause_ms = 3000;
        for (unsigned k = 0; k < 2 * _STEP_MAX; k++) {
                set_voters(1);
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "three-hosts-hold-a-replica", has_members(1, 3));
                if (k % 2 == 0) /* on its way */
                        for (unsigned i = 0; i < cluster->n; i++)
                                if (state_of(machine(i)).lost)
                                        crash(machine(i));
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "three-hosts-are-attached", n_attached() == 3);
                for (unsigned i = 0; i < cluster->n; i++)
                        before[i] = is_attached(machine(i));
                set_voters(3);
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "a-step-is-reached", (m = host_at(k / 2, before)));
                WORKING_UNTIL(TOKENS_PATIENCE_MS, "there-is-a-leader", leader_with(machine(0)));
                crash(k % 2 ? leader_with(machine(0)) : m);
                WORKING_UNTIL(2 * TOKENS_PATIENCE_MS, "five-hosts-hold-a-replica",
                              has_members(3, 5) && n_attached() == 1);
        }
        clients_end();
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { five_vote_and_three_again,
                                                   a_lost_voter_is_replaced,
                                                   a_replica_without_a_disk_is_away_for_a_while,
                                                   an_older_level_has_no_attached_hosts,
                                                   an_attached_host_leaves,
                                                   proposals_and_watches_across_moves,
                                                   reads_across_restarts,
                                                   crash_each_step };

        return tokens_main(argc, argv, "tests/sim/test-kinds", scenarios, ELEMENTS(scenarios), NULL,
                           "hosts change their kind, and clients notice nothing");
}
