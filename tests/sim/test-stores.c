/* Five stores in virtual time, below the daemon: the door, proposals, the replica, checkpoints and transfers on simulated
 * disks, links and clocks, under crashes, power cuts, partitions, stalls and changes of membership.
 *
 *   tests/sim/test-stores [--seed N] [--runs N] [--seconds N] [--bug NAME] [--trace] [--twice]
 *
 * Checked: who is told "written" reads it at once, there; a linearizable read shows all that was acknowledged before it began;
 * equal applied index, equal tree; nothing refused for reasons of its own; after healing everybody writes, follows, and has
 * caught up. Writers are clients with one write under way: after an unknown outcome each goes on with a new key. */
#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/log.h"
#include "kvstore/kvstore.h"
#include "tests/lib/scratch.h"
#include "tests/sim/disk.h"
#include "tests/sim/net.h"
#include "tests/sim/world.h"

enum { HOSTS = 5, WRITERS = 6, HASHES = 65536, HEAL_MS = 30000, BEHIND_MAX = 200, ANSWER_MAX_MS = 9000 };

typedef struct Stores Stores;

typedef struct Host {
        Stores *all;
        char name[16], address[32], door[64], machine_id[33], boot_id[33];
        char *folder, *tree;
        SimHost *card;
        Disk *disk;
        WorldLoop *loop; /* NULL: no daemon */
        Peers *peers;
        KvStore *store;
        uint64_t raft_id; /* given at joining; 0: not yet */
        unsigned boots;
        bool power, dying, wanted;
} Host;

/* One client: its key is /w/NUMBER/EPOCH, its value a number that grows. */
typedef struct Client {
        uint64_t epoch, tried, acknowledged; /* 'acknowledged' of this epoch */
        Host *asked;                         /* NULL: nothing is under way */
        uint64_t n_ok, n_unknown, n_refused;
} Client;

typedef struct Write {
        Stores *all;
        Host *host;
        unsigned client;
        uint64_t epoch, number, begun_ms;
        struct Write *next;
} Write;

typedef struct Read {
        Stores *all;
        Host *host;
        KvSync sync;
        uint64_t epoch[WRITERS], floor[WRITERS], begun_ms;
        struct Read *next;
} Read;

struct Stores {
        World *world;
        SimNet *net;
        const char *bug;
        Host hosts[HOSTS];
        Client clients[WRITERS];
        Write *writes;
        Read *reads;
        uint64_t hashes[HASHES]; /* of the tree at an applied index */
        uint64_t last_raft_id;
        unsigned disk_ms;
        bool quiet;
        uint64_t n_reads, n_transfers;
};

/* A crash takes along a write that is in flight, and what belongs to it: by design nobody frees that. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
        return "detect_leaks=0";
}

static Stores *running; /* for the log's sink, which has no other way */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *sentence) {
        if (!running)
                return;
        world_trace(running->world, "log", "%s", sentence);
        if (starts_with(sentence, "sending the tree"))
                running->n_transfers++;
}

/* -- Hosts -- */

static bool is_up(const Host *h) {
        return h->store && !h->dying;
}

static void on_failed(void *userdata, int error, const char *reason) {
        Host *h = userdata;

        world_failed(h->all->world, "a-replica-lives", "%s: %s", h->name, reason);
}

static void open_peers(Host *h) {
        PeersOptions options = { .self = { .nonce = random_u64(loop_random(world_loop(h->loop))) | 1 } };
        PeerAddress known[HOSTS] = {};
        size_t n = 0;

        memcpy(options.self.machine_id, h->machine_id, sizeof(h->machine_id));
        memcpy(options.self.boot_id, h->boot_id, sizeof(h->boot_id));
        memcpy(options.self.address, h->door, sizeof(h->door));
        if (peers_new(&h->peers, world_loop(h->loop), sim_host_network(h->card, h->loop), &options) < 0 ||
            peers_listen(h->peers, h->door, NULL) < 0)
                abort();
        for (unsigned i = 0; i < HOSTS; i++)
                if (&h->all->hosts[i] != h)
                        memcpy(known[n++].address, h->all->hosts[i].door, sizeof(h->door));
        if (peers_set_known(h->peers, known, n) < 0)
                abort();
}

static void start(Host *h) {
        Stores *all = h->all;
        KvOptions options = {
                .tree_path = h->tree,
                .log_disk = h->disk,
                .join = h != &all->hosts[0],
                .bug = all->bug,
                .checkpoint_entries = 100 + (unsigned) world_draw(all->world, 400),
                .checkpoint_kept = 1 + (unsigned) world_draw(all->world, 1500),
                .log_file_size = 64 * 1024,
                .quota = 16 * 1024 * 1024,
                .events = { .on_failed = on_failed, .userdata = h },
        };
        Error err = {};

        h->wanted = h->loop || !h->power;
        if (h->wanted)
                return;

        world_trace(all->world, h->name, "starts");
        sim_disk_tear(h->disk, false);
        h->loop = world_loop_new(all->world, h->name);
        world_loop_set_work_ms(h->loop, 0, all->disk_ms);
        open_peers(h);
        options.peers = h->peers;
        memcpy(options.machine_id, h->machine_id, sizeof(h->machine_id));
        memcpy(options.boot_id, h->boot_id, sizeof(h->boot_id));
        memcpy(options.address, h->door, sizeof(h->door));
        if (kv_open(&h->store, world_loop(h->loop), &options, &err) < 0)
                world_failed(all->world, "a-store-opens", "%s: %s", h->name, error_text(&err, 0));
}

static void on_bury(void *userdata) {
        Host *h = userdata;

        if (h->peers || h->store) {
                world_at(h->all->world, 5, NULL, on_bury, h);
                return;
        }
        sim_host_reset(h->card, true);
        h->loop = world_loop_free(h->loop);
        h->dying = false;
        if (h->wanted)
                start(h);
}

static void on_peers_closed(void *userdata) {
        Host *h = userdata;

        h->peers = NULL;
}

static void on_store_closed(void *userdata) {
        Host *h = userdata;

        h->store = NULL;
        peers_close(h->peers, "stop", on_peers_closed, h);
}

/* Nobody is answered any more: what was under way is unknown to its client. */
static void forget(Host *h) {
        for (Write **at = &h->all->writes; *at;) {
                Write *w = *at;

                if (w->host != h) {
                        at = &w->next;
                        continue;
                }
                *at = w->next;
                h->all->clients[w->client].asked = NULL;
                h->all->clients[w->client].epoch++;
                h->all->clients[w->client].acknowledged = 0;
                free(w);
        }
        for (Read **at = &h->all->reads; *at;) {
                Read *r = *at;

                if (r->host != h) {
                        at = &r->next;
                        continue;
                }
                *at = r->next;
                free(r);
        }
}

static void die(Host *h, bool tear) {
        h->dying = true;
        if (tear)
                sim_disk_tear(h->disk, true);
        world_loop_drop_work(h->loop, tear);
        h->store = kv_crash(h->store);
        forget(h);
        peers_close(h->peers, "", on_peers_closed, h);
        world_at(h->all->world, 0, NULL, on_bury, h);
}

static void crash(Host *h) {
        if (!is_up(h))
                return;
        world_trace(h->all->world, h->name, "crashes");
        die(h, false);
        h->wanted = true;
}

static void stop(Host *h) {
        if (!is_up(h))
                return;
        world_trace(h->all->world, h->name, "stops");
        h->dying = true;
        kv_close(h->store, on_store_closed, h);
        world_at(h->all->world, 0, NULL, on_bury, h);
        h->wanted = true;
}

static void power_cut(Host *h) {
        if (!h->power || h->dying)
                return;
        world_trace(h->all->world, h->name, "power cut");
        h->power = h->wanted = false;
        sim_host_power(h->card, false);
        if (h->store)
                die(h, true);
}

static void power_on(Host *h) {
        if (h->power)
                return;
        world_trace(h->all->world, h->name, "power on");
        h->power = true;
        h->boots++;
        snprintf(h->boot_id, sizeof(h->boot_id), "%032x", h->boots);
        sim_host_power(h->card, true);
        start(h);
}

static Host *leader_of(Stores *all) {
        for (unsigned i = 0; i < HOSTS; i++) {
                KvState state;

                if (!is_up(&all->hosts[i]))
                        continue;
                kv_state(all->hosts[i].store, &state);
                if (state.role == KV_ROLE_LEADER && state.ready)
                        return &all->hosts[i];
        }
        return NULL;
}

/* -- Clients -- */

static uint64_t number_at(Stores *all, Host *h, unsigned client, uint64_t epoch) {
        char key[64], text[32];
        uint64_t number = 0;
        TreeTxn *txn;
        KvNode node;

        snprintf(key, sizeof(key), "/w/%u/%" PRIu64, client, epoch);
        if (kv_read(h->store, &txn) < 0)
                world_failed(all->world, "a-tree-can-be-read", "%s", h->name);
        if (tree_get(txn, kv_string(key), &node) >= 0) {
                snprintf(text, sizeof(text), "%.*s", (int) MIN(node.value.size, (size_t) 20), (const char *) node.value.data);
                number = strtoull(text, NULL, 10);
        }
        tree_abort(txn);
        return number;
}

/* A stall of ours may come on top of what the door promises. */
static void check_answer_time(Stores *all, const Host *h, uint64_t begun_ms) {
        uint64_t took_ms = world_now_ms(all->world) - begun_ms;

        if (took_ms > ANSWER_MAX_MS)
                world_failed(all->world, "answers-come", "%s: after %" PRIu64 " ms", h->name, took_ms);
}

static void on_written(void *userdata, const KvResult *result) {
        Write *w = userdata, **at = &w->all->writes;
        Client *c = &w->all->clients[w->client];

        while (*at != w)
                at = &(*at)->next;
        *at = w->next;
        c->asked = NULL;
        check_answer_time(w->all, w->host, w->begun_ms);

        switch (result->status) {
        case KV_OK:
                c->n_ok++;
                c->acknowledged = w->number;
                if (number_at(w->all, w->host, w->client, w->epoch) != w->number)
                        world_failed(w->all->world, "own-writes-are-read", "%s: client %u", w->host->name, w->client);
                break;
        case KV_UNKNOWN:
                c->n_unknown++;
                c->epoch++;
                c->acknowledged = 0;
                break;
        case KV_NO_LEADER:
        case KV_BUSY:
                c->n_refused++;
                break;
        default:
                world_failed(w->all->world, "nothing-else-is-refused", "%s: %s", w->host->name, kv_status_name(result->status));
        }
        free(w);
}

static void write_some(Stores *all, unsigned client, Host *h) {
        Client *c = &all->clients[client];
        char key[64], value[2000];
        Write *w;

        if (c->asked || !is_up(h))
                return;
        w = NEW0(Write, 1);
        if (!w)
                abort();
        *w = (Write) { .all = all, .host = h, .client = client, .epoch = c->epoch, .number = ++c->tried,
                       .begun_ms = world_now_ms(all->world), .next = all->writes };
        all->writes = w;
        c->asked = h;
        snprintf(key, sizeof(key), "/w/%u/%" PRIu64, client, c->epoch);
        snprintf(value, sizeof(value), "%-*" PRIu64, world_chance(all->world, 25) ? 1800 : 10, w->number);
        if (kv_propose(h->store, &(KvCommand) { .op = KV_SET, .key = kv_string(key), .value = kv_string(value) }, on_written, w, NULL) < 0)
                abort();
}

static void on_read(void *userdata, KvStatus status) {
        Read *r = userdata, **at = &r->all->reads;

        while (*at != r)
                at = &(*at)->next;
        *at = r->next;
        check_answer_time(r->all, r->host, r->begun_ms);

        for (unsigned i = 0; status == KV_OK && i < WRITERS; i++) {
                uint64_t number = r->floor[i] ? number_at(r->all, r->host, i, r->epoch[i]) : 0;

                if (number < r->floor[i])
                        world_failed(r->all->world, "reads-are-linearizable", "%s: client %u: read %" PRIu64 ", acknowledged %" PRIu64,
                                     r->host->name, i, number, r->floor[i]);
        }
        r->all->n_reads += status == KV_OK;
        free(r);
}

static void read_some(Stores *all, Host *h) {
        Read *r;

        if (!is_up(h))
                return;
        r = NEW0(Read, 1);
        if (!r)
                abort();
        *r = (Read) { .all = all, .host = h, .sync = { .done = on_read, .userdata = r }, .begun_ms = world_now_ms(all->world),
                      .next = all->reads };
        for (unsigned i = 0; i < WRITERS; i++) {
                r->floor[i] = all->clients[i].acknowledged;
                r->epoch[i] = all->clients[i].epoch;
        }
        all->reads = r;
        kv_sync(h->store, &r->sync);
}

static void check_hash(Stores *all, Host *h) {
        uint64_t hash, applied;

        if (!is_up(h))
                return;
        if (kv_hash(h->store, &hash, &applied) < 0)
                world_failed(all->world, "a-tree-can-be-read", "%s", h->name);
        if (applied >= HASHES)
                return;
        if (all->hashes[applied] != 0 && all->hashes[applied] != hash)
                world_failed(all->world, "replicas-are-equal", "%s at entry %" PRIu64, h->name, applied);
        all->hashes[applied] = hash;
}

/* -- Who belongs: three voters, now and then others; what fleetd/membership does in earnest -- */

static void let_in(Stores *all, Host *leader, const KvState *state) {
        for (unsigned i = 1; i < HOSTS; i++) {
                Host *h = &all->hosts[i];
                KvState mine;
                Error err = {};
                bool member = false;

                if (!is_up(h))
                        continue;
                kv_state(h->store, &mine);
                if (mine.cluster_id == 0) {
                        if (h->raft_id == 0)
                                h->raft_id = ++all->last_raft_id;
                        if (kv_joined(h->store, state->cluster_id, state->lineage, h->raft_id, &err) < 0)
                                world_failed(all->world, "a-host-joins", "%s: %s", h->name, error_text(&err, 0));
                        continue;
                }
                for (size_t k = 0; k < state->n_members; k++)
                        member |= state->members[k].raft_id == h->raft_id;
                if (!member)
                        (void) kv_member_add(leader->store, h->raft_id, h->door); /* again until it is one */
        }
}

static void change_members(Stores *all) {
        Host *leader = leader_of(all);
        KvState state;
        bool more;

        if (!leader)
                return;
        kv_state(leader->store, &state);
        let_in(all, leader, &state);

        more = state.n_voters < 3 || (!all->quiet && state.n_voters == 3 && world_chance(all->world, 1));
        for (size_t k = 0; k < state.n_members; k++) {
                const KvMember *m = &state.members[k];

                if (more && m->seat == KV_SEAT_STANDBY && world_chance(all->world, 50))
                        (void) kv_member_promote(leader->store, m->raft_id);
                else if (state.n_voters > 3 && m->seat == KV_SEAT_VOTER && m->raft_id != state.raft_id && world_chance(all->world, 5))
                        (void) kv_member_demote(leader->store, m->raft_id);
        }
}

/* -- Faults -- */

static void cut(Stores *all, Host *a, Host *b, bool is_cut) {
        if (a != b)
                sim_net_cut(all->net, a->card, b->card, is_cut);
}

static void heal_links(Stores *all) {
        for (unsigned i = 0; i < HOSTS; i++)
                for (unsigned k = 0; k < i; k++)
                        cut(all, &all->hosts[i], &all->hosts[k], false);
}

static void make_fault(Stores *all) {
        Host *h = &all->hosts[world_draw(all->world, HOSTS)];
        Host *leader = leader_of(all);

        switch (world_draw(all->world, 10)) {
        case 0:
                crash(h);
                break;
        case 1:
                power_cut(h);
                break;
        case 2:
        case 3:
                power_on(h);
                break;
        case 4:
                stop(h);
                break;
        case 5:
                cut(all, h, &all->hosts[world_draw(all->world, HOSTS)], true);
                break;
        case 6:
                heal_links(all);
                break;
        case 7:
                if (h->loop)
                        world_loop_pause(h->loop, world_draw(all->world, 3000));
                break;
        case 8:
                for (unsigned i = 0; i < HOSTS; i++)
                        cut(all, h, &all->hosts[i], true);
                break;
        default:
                if (leader)
                        (void) kv_transfer(leader->store, 0);
        }
}

static void on_turn(void *userdata) {
        Stores *all = userdata;

        world_at(all->world, world_draw(all->world, 12), NULL, on_turn, all);
        for (unsigned i = 0; i < WRITERS; i++)
                if (world_chance(all->world, all->quiet ? 20 : 60))
                        write_some(all, i, &all->hosts[world_draw(all->world, HOSTS)]);
        if (world_chance(all->world, 10))
                read_some(all, &all->hosts[world_draw(all->world, HOSTS)]);
        if (world_chance(all->world, 5))
                check_hash(all, &all->hosts[world_draw(all->world, HOSTS)]);
        if (world_chance(all->world, 10))
                change_members(all);
        if (!all->quiet && world_chance(all->world, 1))
                make_fault(all);
}

/* -- Runs -- */

static void heal_and_check(Stores *all) {
        uint64_t before[WRITERS];
        KvState leads, state;
        Host *leader;

        world_trace(all->world, "world", "all heals");
        all->quiet = true;
        heal_links(all);
        for (unsigned i = 0; i < HOSTS; i++) {
                power_on(&all->hosts[i]);
                start(&all->hosts[i]);
        }
        world_run(all->world, world_now_ms(all->world) + HEAL_MS / 2);
        for (unsigned i = 0; i < WRITERS; i++)
                before[i] = all->clients[i].n_ok;
        world_run(all->world, world_now_ms(all->world) + HEAL_MS / 2);

        for (unsigned i = 0; i < WRITERS; i++)
                if (all->clients[i].n_ok == before[i])
                        world_failed(all->world, "everybody-writes-again", "client %u", i);
        leader = leader_of(all);
        if (!leader)
                world_failed(all->world, "there-is-a-leader", "none");
        kv_state(leader->store, &leads);
        for (unsigned i = 0; i < HOSTS; i++) {
                kv_state(all->hosts[i].store, &state);
                if (!state.ready)
                        world_failed(all->world, "everybody-follows", "%s: %s", all->hosts[i].name, state.problem);
                if (state.raft_index + BEHIND_MAX < leads.raft_index)
                        world_failed(all->world, "everybody-catches-up", "%s: entry %" PRIu64 " of %" PRIu64, all->hosts[i].name,
                                     state.raft_index, leads.raft_index);
                check_hash(all, &all->hosts[i]);
        }
}

static void make_hosts(Stores *all) {
        for (unsigned i = 0; i < HOSTS; i++) {
                Host *h = &all->hosts[i];

                *h = (Host) { .all = all, .power = true, .folder = scratch_new(), .disk = sim_disk_new(all->world) };
                snprintf(h->name, sizeof(h->name), "h%u", i + 1);
                snprintf(h->address, sizeof(h->address), "10.0.0.%u", i + 1);
                snprintf(h->door, sizeof(h->door), "10.0.0.%u:2380", i + 1);
                snprintf(h->machine_id, sizeof(h->machine_id), "%032x", i + 1);
                snprintf(h->boot_id, sizeof(h->boot_id), "%032x", 0);
                h->tree = scratch_path(h->folder, "tree");
                h->card = sim_host_new(all->net, h->address);
        }
        all->hosts[0].raft_id = all->last_raft_id = 1;
        for (unsigned i = 0; i < HOSTS; i++)
                start(&all->hosts[i]);
}

static void end_hosts(Stores *all) {
        for (unsigned i = 0; i < HOSTS; i++) {
                Host *h = &all->hosts[i];

                while (h->loop) {
                        h->wanted = h->power = false;
                        if (is_up(h))
                                die(h, false);
                        world_run(all->world, world_now_ms(all->world) + 100);
                }
                sim_disk_free(h->disk);
                free(h->tree);
                scratch_free(h->folder);
        }
}

typedef struct Options {
        uint64_t seed, runs, seconds;
        const char *bug;
        bool trace, twice;
} Options;

static uint64_t run_once(uint64_t seed, const Options *o, uint64_t sums[4]) {
        Stores *all = NEW0(Stores, 1);
        char replay[128];
        uint64_t hash;

        if (!all)
                abort();
        all->world = world_new(seed, o->trace);
        all->bug = o->bug;
        snprintf(replay, sizeof(replay), "tests/sim/test-stores --seconds %" PRIu64 "%s%s", o->seconds, o->bug ? " --bug " : "", o->bug ?: "");
        world_set_replay(all->world, replay);
        all->net = sim_net_new(all->world, 0, 1 + world_draw(all->world, 5));
        all->disk_ms = 1 + (unsigned) world_draw(all->world, 20);
        running = all;
        make_hosts(all);
        on_turn(all);
        world_run(all->world, world_now_ms(all->world) + o->seconds * 1000);
        heal_and_check(all);

        for (unsigned i = 0; i < WRITERS; i++) {
                sums[0] += all->clients[i].n_ok;
                sums[1] += all->clients[i].n_unknown;
        }
        sums[2] += all->n_reads;
        sums[3] += all->n_transfers;
        all->quiet = true;
        end_hosts(all);
        hash = world_hash(all->world);
        running = NULL;
        sim_net_free(all->net);
        world_free(all->world);
        free(all);
        return hash;
}

int main(int argc, char *argv[]) {
        static const struct option table[] = {
                { "seed", required_argument, NULL, 's' },    { "runs", required_argument, NULL, 'r' }, { "trace", no_argument, NULL, 't' },
                { "seconds", required_argument, NULL, 'S' }, { "bug", required_argument, NULL, 'b' },  { "twice", no_argument, NULL, '2' }, {},
        };
        Options o = { .seed = 1, .runs = 4, .seconds = 30 };
        uint64_t sums[4] = {};
        int c;

        while ((c = getopt_long(argc, argv, "", table, NULL)) >= 0)
                switch (c) {
                case 's':
                        o.seed = strtoull(optarg, NULL, 10);
                        o.runs = 1;
                        break;
                case 'r':
                        o.runs = strtoull(optarg, NULL, 10);
                        break;
                case 't':
                        o.trace = true;
                        break;
                case 'S':
                        o.seconds = strtoull(optarg, NULL, 10);
                        break;
                case 'b':
                        o.bug = optarg;
                        break;
                case '2':
                        o.twice = true;
                        break;
                default:
                        return 2;
                }
        setvbuf(stdout, NULL, _IOLBF, 0);
        log_set_sink(on_log, NULL);
        log_set_max_priority(LOG_DEBUG);

        for (uint64_t i = 0; i < o.runs; i++) {
                uint64_t hash = run_once(o.seed + i, &o, sums);

                if (o.twice && run_once(o.seed + i, &o, sums) != hash) {
                        printf("FAILED one-seed-is-one-run seed=%" PRIu64 "\n", o.seed + i);
                        return 1;
                }
        }
        printf("%" PRIu64 " runs of %" PRIu64 " s and healing passed; %" PRIu64 " writes acknowledged, %" PRIu64 " unknown, %" PRIu64
               " reads, %" PRIu64 " transfers\n", o.runs, o.seconds, sums[0], sums[1], sums[2], sums[3]);
        return 0;
}
