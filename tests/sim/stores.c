#include "tests/sim/stores.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/scratch.h"
#include "tests/sim/folder_faults.h"

bool store_is_up(const Host *h) {
        return h->store && !h->dying;
}

Host *stores_any(Stores *all) {
        return &all->hosts[world_draw(all->world, STORES)];
}

Host *stores_leader(Stores *all) {
        for (unsigned i = 0; i < STORES; i++) {
                KvState state;

                if (!store_is_up(&all->hosts[i]))
                        continue;
                kv_state(all->hosts[i].store, &state);
                if (state.role == KV_ROLE_LEADER && state.ready)
                        return &all->hosts[i];
        }
        return NULL;
}

/* -- A daemon's life -- */

/* Only a disk that refuses may end a replica. */
static void on_failed(void *userdata, int error, const char *reason) {
        Host *h = userdata;

        if (!h->disk_bad)
                world_failed(h->all->world, "a-replica-lives", "%s: %s", h->name, reason);
        world_trace(h->all->world, h->name, "fails: %s", reason);
        h->stopped = true;
}

static void on_state(void *userdata) {
        Host *h = userdata;
        KvState state;

        kv_state(h->store, &state);
        if (!h->stopped || state.stopped)
                return;
        world_trace(h->all->world, h->name, "has come back");
        h->stopped = false;
        h->disk_bad = h->disk_breaks;
        h->all->counts[FAULT_RETURN]++;
}

static void open_peers(Host *h) {
        PeersOptions options = { .self = { .nonce = random_u64(loop_random(world_loop(h->loop))) | 1 } };
        PeerAddress known[STORES] = {};
        size_t n = 0;

        memcpy(options.self.machine_id, h->machine_id, sizeof(h->machine_id));
        memcpy(options.self.boot_id, h->boot_id, sizeof(h->boot_id));
        memcpy(options.self.address, h->door, sizeof(h->door));
        if (peers_new(&h->peers, world_loop(h->loop), sim_host_network(h->card, h->loop), &options) < 0 ||
            peers_listen(h->peers, h->door, NULL) < 0)
                abort();
        for (unsigned i = 0; i < STORES; i++)
                if (&h->all->hosts[i] != h)
                        memcpy(known[n++].address, h->all->hosts[i].door, sizeof(h->door));
        if (peers_set_known(h->peers, known, n) < 0)
                abort();
}

static void begin_tree(Host *h) {
        char name[32];

        if (h->tree)
                folder_fault(h->tree, 0);
        free(h->tree);
        snprintf(name, sizeof(name), "tree-%u", ++h->trees);
        h->tree = scratch_path(h->folder, name);
        if (h->disk)
                sim_disk_free(h->disk);
        h->disk = sim_disk_new(h->all->world);
}

static void start(Host *h) {
        Stores *all = h->all;
        KvOptions options = {
                .bug = all->bug,
                .checkpoint_entries = 100 + (unsigned) world_draw(all->world, 400),
                .checkpoint_kept = 1 + (unsigned) world_draw(all->world, 1500),
                .log_file_size = 64 * 1024,
                .quota = 64 * 1024 * 1024,
                .events = { .on_state = on_state, .on_failed = on_failed, .userdata = h },
        };
        Error err = {};

        h->wanted = h->loop || !h->power;
        if (h->wanted)
                return;
        if (h->wipe) {
                begin_tree(h);
                h->raft_id = 0;
                h->wipe = h->disk_bad = false;
        }

        world_trace(all->world, h->name, "starts");
        h->lives = ++all->lives;
        h->lost_ms = h->paused_ms = 0;
        sim_disk_tear(h->disk, false);
        sim_disk_set_error(h->disk, 0, false);
        folder_fault(h->tree, 0);
        h->disk_bad = h->disk_breaks = h->stopped = false;
        h->loop = world_loop_new(all->world, h->name);
        world_loop_set_work_ms(h->loop, 0, all->disk_ms);
        open_peers(h);
        options.join = h != &all->hosts[0] || h->trees > 1;
        options.tree_path = h->tree;
        options.floor_path = h->floor;
        options.log_disk = h->disk;
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

static void die(Host *h, bool tear) {
        h->dying = true;
        if (tear)
                sim_disk_tear(h->disk, true);
        world_loop_drop_work(h->loop, tear);
        sim_host_dropped(h->card);
        watchers_leave(h->all->watchers, h->number);
        h->store = kv_crash(h->store);
        h->all->gone(h->all->userdata, h);
        peers_close(h->peers, "", on_peers_closed, h);
        world_at(h->all->world, 0, NULL, on_bury, h);
}

static bool crash(Host *h) {
        if (!h->store || h->dying)
                return false;
        world_trace(h->all->world, h->name, "crashes");
        die(h, false);
        h->wanted = true;
        return true;
}

static void stop(Host *h) {
        if (!h->store || h->dying)
                return;
        world_trace(h->all->world, h->name, "stops");
        h->dying = true;
        watchers_leave(h->all->watchers, h->number);
        kv_close(h->store, on_store_closed, h);
        world_at(h->all->world, 0, NULL, on_bury, h);
        h->wanted = true;
}

static void power_on(void *userdata) {
        Host *h = userdata;

        if (h->power || h->all->ending)
                return;
        world_trace(h->all->world, h->name, "power on");
        h->power = true;
        h->boots++;
        snprintf(h->boot_id, sizeof(h->boot_id), "%032x", h->boots);
        sim_host_power(h->card, true);
        start(h);
}

static bool power_cut(Host *h, uint64_t for_ms) {
        if (!h->power || h->dying)
                return false;
        world_trace(h->all->world, h->name, "power cut");
        h->power = h->wanted = false;
        sim_host_power(h->card, false);
        if (h->store)
                die(h, true);
        world_at(h->all->world, for_ms, NULL, power_on, h);
        return true;
}

/* -- Replicas are equal -- */

void stores_check_hash(Stores *all, Host *h) {
        uint64_t hash, applied;

        if (!store_is_up(h))
                return;
        if (kv_hash(h->store, &hash, &applied) < 0)
                world_failed(all->world, "a-tree-can-be-read", "%s", h->name);
        while (all->n_hashes <= applied) {
                if (GROW(all->hashes, all->hashes_capacity, all->n_hashes + 1) < 0)
                        abort();
                all->hashes[all->n_hashes++] = 0;
        }
        if (all->hashes[applied] != 0 && all->hashes[applied] != hash)
                world_failed(all->world, "replicas-are-equal", "%s at entry %" PRIu64, h->name, applied);
        all->n_compared += all->hashes[applied] != 0;
        all->hashes[applied] = hash;
}

/* -- Who belongs: three voters, now and then others; what fleetd/membership does in earnest -- */

static Host *host_of(Stores *all, uint64_t raft_id) {
        for (unsigned i = 0; i < STORES; i++)
                if (all->hosts[i].raft_id == raft_id && !all->hosts[i].wipe)
                        return &all->hosts[i];
        return NULL;
}

static void let_in(Stores *all, Host *leader, const KvState *state) {
        for (unsigned i = 0; i < STORES; i++) {
                Host *h = &all->hosts[i];
                KvState mine;
                Error err = {};
                bool member = false;

                if (!store_is_up(h) || h->wipe || h->leaving || h->disk_breaks)
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
                        all->counts[FAULT_ADD] += kv_member_add(leader->store, h->raft_id, h->door) == 0; /* again until it is one */
        }
}

typedef struct Removal {
        Host *host;
        uint64_t by;
} Removal;

/* What was written after the removal, in its term, is committed; so is the removal. */
static void on_removed(void *userdata, const KvResult *result) {
        Removal *removal = userdata;
        Host *h = removal->host;
        Stores *all = h->all;

        watchers_said(all->watchers, result);
        if (h->leaving == removal->by && result->status == KV_OK) {
                world_trace(all->world, h->name, "is removed, and comes back with nothing");
                all->counts[FAULT_REMOVE]++;
                h->wipe = true;
                if (!crash(h))
                        h->wanted = true;
        }
        if (h->leaving == removal->by)
                h->leaving = 0;
        free(removal);
}

static void remove_member(Stores *all, Host *leader, const KvState *state, Host *h) {
        Removal *removal;

        if (kv_member_remove(leader->store, h->raft_id) != 0)
                return;
        removal = NEW0(Removal, 1);
        if (!removal)
                abort();
        *removal = (Removal) { .host = h, .by = leader->lives };
        h->leaving = leader->lives;
        if (kv_propose(leader->store, &(KvCommand) { .op = KV_SET, .key = kv_string("/removed"), .value = kv_string(h->name), .term = state->term },
                       on_removed, removal, NULL) < 0)
                abort();
}

static void change_members(Stores *all) {
        bool restless = !all->quiet && all->has[FAULT_MEMBERS];
        Host *leader = stores_leader(all);
        unsigned few = 3;
        KvState state;

        if (!leader)
                return;
        kv_state(leader->store, &state);
        for (unsigned i = 0; i < STORES; i++)
                if (all->hosts[i].leaving != leader->lives)
                        all->hosts[i].leaving = 0; /* who asked leads no more: it is as it was */
        let_in(all, leader, &state);
        if (restless && world_chance(all->world, 2))
                few = 5;
        for (size_t k = 0; k < state.n_members; k++) {
                const KvMember *m = &state.members[k];
                Host *h = host_of(all, m->raft_id);

                if (!h) /* who was wiped comes back as another one */
                        (void) (m->seat == KV_SEAT_VOTER ? kv_member_demote(leader->store, m->raft_id) : kv_member_remove(leader->store, m->raft_id));
                else if (state.n_voters < few && m->seat == KV_SEAT_STANDBY && world_chance(all->world, 50))
                        all->counts[FAULT_PROMOTE] += kv_member_promote(leader->store, m->raft_id) == 0;
                else if (state.n_voters > 3 && m->seat == KV_SEAT_VOTER && m->raft_id != state.raft_id && world_chance(all->world, 5))
                        all->counts[FAULT_DEMOTE] += kv_member_demote(leader->store, m->raft_id) == 0;
                else if (restless && m->seat == KV_SEAT_STANDBY && state.n_members == STORES && world_chance(all->world, 1))
                        remove_member(all, leader, &state, h);
        }
}

/* -- Faults -- */

const char *fault_name(FaultKind kind) {
        static const char *const names[] = {
                [FAULT_CRASH] = "crash", [FAULT_POWER] = "power-cut-and-torn-write", [FAULT_POWER_OF_ALL] = "power-cut-of-all", [FAULT_STOP] = "restart",
                [FAULT_LONG_ABSENCE] = "long-absence", [FAULT_CUT] = "link-cut", [FAULT_ISOLATE] = "isolated", [FAULT_ONE_WAY] = "one-way-cut",
                [FAULT_BRIDGE] = "bridge", [FAULT_SPLIT] = "split", [FAULT_DELAY] = "delay", [FAULT_SLOW_DISK] = "slow-disk",
                [FAULT_DISK_FULL] = "disk-full", [FAULT_DISK_ERROR] = "disk-error",
                [FAULT_SYNC_ERROR] = "sync-error", [FAULT_TREE_FULL] = "tree-full", [FAULT_TREE_ERROR] = "tree-error", [FAULT_PAUSE] = "pause", [FAULT_HAND_OVER] = "hand-over",
                [FAULT_MEMBERS] = "voters-come-and-go", [FAULT_LEADER_CRASH] = "leader-crash", [FAULT_ADD] = "member-added",
                [FAULT_PROMOTE] = "member-promoted", [FAULT_DEMOTE] = "member-demoted", [FAULT_REMOVE] = "member-removed-and-wiped",
                [FAULT_TRANSFER] = "far-behind-and-sent-the-tree", [FAULT_RETURN] = "failed-and-came-back",
        };

        return names[kind];
}

static void cut(Host *a, Host *b) {
        if (a != b)
                sim_net_cut(a->all->net, a->card, b->card, true);
}

static void heal_links(void *userdata) {
        Stores *all = userdata;

        if (all->ending)
                return;
        for (unsigned i = 0; i < STORES; i++)
                for (unsigned k = 0; k < i; k++)
                        sim_net_cut(all->net, all->hosts[i].card, all->hosts[k].card, false);
}

static void heal_delay(void *userdata) {
        Stores *all = userdata;

        sim_net_set_delay(all->net, 0, all->net_ms);
}

static void heal_disk(void *userdata) {
        Host *h = userdata;

        if (h->all->ending)
                return;
        sim_disk_set_error(h->disk, 0, false);
        folder_fault(h->tree, 0);
        h->disk_breaks = false;
        if (h->loop)
                world_loop_set_work_ms(h->loop, 0, h->all->disk_ms);
}

static bool cut_some(Stores *all, FaultKind kind, Host *h) {
        unsigned left = 1 + (unsigned) world_draw(all->world, STORES - 2);

        for (unsigned i = 0; i < STORES; i++)
                for (unsigned k = i + 1; k < STORES; k++)
                        if (kind == FAULT_ISOLATE ? i == h->number || k == h->number
                            : kind == FAULT_SPLIT ? i < left && k >= left
                                                  : i != h->number && k != h->number && (i < left) != (k < left))
                                cut(&all->hosts[i], &all->hosts[k]);
        return true;
}

static bool break_disk(Stores *all, FaultKind kind, Host *h, uint64_t for_ms) {
        if (!store_is_up(h))
                return false;
        if (kind == FAULT_SLOW_DISK) {
                world_loop_set_work_ms(h->loop, 50, 100 + (unsigned) world_draw(all->world, 900));
        } else {
                h->disk_breaks = h->disk_bad = true; /* until it has come back: who failed late did so because of it */
                if (kind == FAULT_TREE_FULL || kind == FAULT_TREE_ERROR)
                        folder_fault(h->tree, kind == FAULT_TREE_FULL ? -ENOSPC : -EIO);
                else
                        sim_disk_set_error(h->disk, kind == FAULT_DISK_FULL ? -ENOSPC : -EIO, kind == FAULT_SYNC_ERROR);
        }
        world_at(all->world, for_ms, NULL, heal_disk, h);
        return true;
}

static bool make_fault(Stores *all, FaultKind kind, Host *h) {
        uint64_t for_ms = 200 + world_draw(all->world, 4000);
        Host *leader = stores_leader(all), *other = stores_any(all);
        bool r = false;

        switch (kind) {
        case FAULT_CRASH:
                return crash(h);
        case FAULT_LEADER_CRASH:
                return leader && crash(leader);
        case FAULT_POWER:
                return power_cut(h, for_ms);
        case FAULT_LONG_ABSENCE:
                return power_cut(h, 5000 + 2 * for_ms);
        case FAULT_POWER_OF_ALL:
                for (unsigned i = 0; i < STORES; i++)
                        r |= power_cut(&all->hosts[i], 100 + world_draw(all->world, 2000));
                return r;
        case FAULT_STOP:
                if (!store_is_up(h))
                        return false;
                stop(h);
                return true;
        case FAULT_CUT:
        case FAULT_ONE_WAY:
                if (other == h)
                        return false;
                if (kind == FAULT_CUT)
                        cut(h, other);
                else
                        sim_net_cut_one_way(all->net, h->card, other->card, true);
                break;
        case FAULT_ISOLATE:
        case FAULT_BRIDGE:
        case FAULT_SPLIT:
                r = cut_some(all, kind, leader && world_chance(all->world, 50) ? leader : h);
                break;
        case FAULT_DELAY:
                sim_net_set_delay(all->net, 0, 20 + world_draw(all->world, 200));
                world_at(all->world, for_ms, NULL, heal_delay, all);
                return true;
        case FAULT_SLOW_DISK:
        case FAULT_DISK_FULL:
        case FAULT_DISK_ERROR:
        case FAULT_SYNC_ERROR:
        case FAULT_TREE_FULL:
        case FAULT_TREE_ERROR:
                return break_disk(all, kind, h, for_ms);
        case FAULT_PAUSE:
                if (!h->loop)
                        return false;
                world_loop_pause(h->loop, for_ms / 2);
                h->paused_ms = world_now_ms(all->world) + for_ms / 2;
                return true;
        case FAULT_HAND_OVER:
                return leader && kv_transfer(leader->store, 0) >= 0;
        default:
                return all->has[FAULT_MEMBERS];
        }
        world_at(all->world, for_ms, NULL, heal_links, all);
        return true;
}

void stores_log(Stores *all, const char *sentence) {
        world_trace(all->world, "log", "%s", sentence);
        all->counts[FAULT_TRANSFER] += starts_with(sentence, "sending the tree");
}

void stores_turn(Stores *all) {
        for (unsigned i = 0; i < STORES; i++) {
                Host *h = &all->hosts[i];
                KvState state;

                if (!store_is_up(h))
                        continue;
                kv_state(h->store, &state);
                h->lost_ms = state.leader_id != 0 ? 0 : h->lost_ms ?: world_now_ms(all->world);
        }
        if (world_chance(all->world, 5))
                stores_check_hash(all, stores_any(all));
        if (world_chance(all->world, 10))
                change_members(all);
        if (!all->quiet && world_draw(all->world, 10000) < all->per_10000) {
                FaultKind kind = (FaultKind) world_draw(all->world, _FAULT_DRAWN);

                if (all->has[kind])
                        all->counts[kind] += make_fault(all, kind, stores_any(all));
        }
}

/* -- All of it -- */

void stores_begin(Stores *all) {
        all->net_ms = 1 + (unsigned) world_draw(all->world, 5);
        all->net = sim_net_new(all->world, 0, all->net_ms);
        all->disk_ms = 1 + (unsigned) world_draw(all->world, 20);
        all->per_10000 = 50 + (unsigned) world_draw(all->world, 300);
        for (unsigned i = 0; i < _FAULT_DRAWN; i++)
                all->has[i] = world_chance(all->world, 60);

        for (unsigned i = 0; i < STORES; i++) {
                Host *h = &all->hosts[i];

                *h = (Host) { .all = all, .number = i, .power = true, .folder = scratch_new() };
                snprintf(h->name, sizeof(h->name), "h%u", i + 1);
                snprintf(h->address, sizeof(h->address), "10.0.0.%u", i + 1);
                snprintf(h->door, sizeof(h->door), "10.0.0.%u:2380", i + 1);
                snprintf(h->machine_id, sizeof(h->machine_id), "%032x", i + 1);
                snprintf(h->boot_id, sizeof(h->boot_id), "%032x", 0);
                h->floor = scratch_path(h->folder, "agent");
                begin_tree(h);
                h->card = sim_host_new(all->net, h->address);
        }
        all->hosts[0].raft_id = all->last_raft_id = 1;
        for (unsigned i = 0; i < STORES; i++)
                start(&all->hosts[i]);
}

void stores_heal(Stores *all) {
        world_trace(all->world, "world", "all heals");
        all->quiet = true;
        heal_links(all);
        heal_delay(all);
        for (unsigned i = 0; i < STORES; i++) {
                Host *h = &all->hosts[i];

                heal_disk(h);
                power_on(h);
                start(h);
        }
}

void stores_end(Stores *all) {
        all->quiet = all->ending = true;
        for (unsigned i = 0; i < STORES; i++) {
                Host *h = &all->hosts[i];

                while (h->loop) {
                        h->wanted = h->power = false;
                        if (h->store && !h->dying)
                                die(h, false);
                        world_run(all->world, world_now_ms(all->world) + 100);
                }
                sim_disk_free(h->disk);
                folder_fault(h->tree, 0);
                free(h->tree);
                free(h->floor);
                scratch_free(h->folder);
        }
        sim_net_free(all->net);
        free(all->hashes);
}
