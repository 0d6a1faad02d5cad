/* Faults of stores. Each kind is a line in the table of names and a case of make_fault(). A fault that lasts
 * ends by its own timer, or when the simulation heals all. */

#include "base/memory.h"
#include "tests/sim/data_dir_faults.h"
#include "tests/sim/stores.h"
#include "tests/lib/store_inside.h"

enum { ROLES_STABLE_MS = 2000 };

static const char *const names[_FAULT_MAX] = {
        [FAULT_CRASH] = "crash",
        [FAULT_POWER] = "power-cut-and-torn-write",
        [FAULT_POWER_OF_ALL] = "power-cut-of-all",
        [FAULT_STOP] = "restart",
        [FAULT_UPGRADE] = "upgrade-one-by-one",
        [FAULT_LONG_ABSENCE] = "long-absence",
        [FAULT_CUT] = "link-cut",
        [FAULT_ISOLATE] = "isolated",
        [FAULT_ONE_WAY] = "one-way-cut",
        [FAULT_BRIDGE] = "bridge",
        [FAULT_SPLIT] = "split",
        [FAULT_RING] = "ring",
        [FAULT_DELAY] = "delay",
        [FAULT_SLOW_LINK] = "slow-links-and-full-queues",
        [FAULT_SLOW_DISK] = "slow-disk",
        [FAULT_HUNG_DISK] = "hung-disk",
        [FAULT_DISK_FULL] = "disk-full",
        [FAULT_DISK_ERROR] = "disk-error",
        [FAULT_SYNC_ERROR] = "sync-error",
        [FAULT_TREE_FULL] = "tree-full",
        [FAULT_TREE_ERROR] = "tree-error",
        [FAULT_READ_ERROR] = "read-error",
        [FAULT_ROT] = "bit-rot",
        [FAULT_SWAPPED_SECTORS] = "swapped-sectors",
        [FAULT_LOST_SECTOR] = "lost-sector",
        [FAULT_PAUSE] = "pause",
        [FAULT_LONG_PAUSE] = "long-pause-then-all-at-once",
        [FAULT_CLOCK_JUMP] = "clock-jump",
        [FAULT_CLOCK_DRIFT] = "clock-drift",
        [FAULT_HAND_OVER] = "hand-over",
        [FAULT_MEMBERS] = "voters-come-and-go",
        [FAULT_LEADER_CRASH] = "leader-crash",
        [FAULT_LOST_PAGES] = "lost-unsynced-pages",
        [FAULT_ADD] = "member-added",
        [FAULT_PROMOTE] = "member-promoted",
        [FAULT_DEMOTE] = "member-demoted",
        [FAULT_REMOVE] = "member-removed-and-wiped",
        [FAULT_REPLACE] = "lost-voter-replaced",
        [FAULT_TRANSFER] = "far-behind-and-sent-the-tree",
        [FAULT_RETURN] = "failed-and-came-back",
        [FAULT_DIFFERS] = "tree-that-differs",
        [FAULT_OLD_PROGRAM] = "old-program-stopped-and-upgraded",
        [FAULT_GIVEN_UP] = "damaged-and-let-in-under-another-id",
        [FAULT_CHECKPOINT_ROT] = "corrupt-checkpoint",
        [FAULT_TREE_ROT] = "corrupt-tree",
        [FAULT_CHECKPOINT_REFUSED] = "corrupt-checkpoint-sent-and-refused",
        [FAULT_ROT_FOUND] = "corrupt-tree-found",
        [FAULT_ROT_SHOWN] = "corrupt-tree-served",
};

const char *fault_name(FaultKind kind) {
        return names[kind];
}

FaultKind fault_named(const char *name) {
        FaultKind kind = 0;

        while (kind < _FAULT_MAX && !streq(names[kind], name))
                kind++;
        return kind;
}

/* Allow late answers: they wait until the host has caught up. */
static void takes_long(Stores *all, uint64_t for_ms) {
        all->slow_until_ms = MAX(all->slow_until_ms, world_now_ms(all->world) + for_ms + 40000);
}

/* -- Links -- */

static void cut(Host *a, Host *b) {
        if (a != b)
                sim_net_cut(a->all->net, a->card, b->card, true);
}

static void heal_links(void *userdata) {
        Stores *all = userdata;

        if (all->ending)
                return;
        for (unsigned i = 0; i < all->n; i++)
                for (unsigned k = 0; k < i; k++)
                        sim_net_cut(all->net, all->hosts[i].card, all->hosts[k].card, false);
}

static void heal_delay(void *userdata) {
        Stores *all = userdata;

        if (all->ending)
                return;
        sim_net_set_delay(all->net, 0, all->net_ms);
        sim_net_set_rate(all->net, 0);
}

static bool is_cut(const Stores *all, FaultKind kind, const Host *h, unsigned left, unsigned i, unsigned k) {
        switch (kind) {
        case FAULT_ISOLATE:
                return i == h->number || k == h->number;
        case FAULT_SPLIT:
                return i < left && k >= left;
        case FAULT_RING: /* only neighbours are connected */
                return k != i + 1 && !(i == 0 && k == all->n - 1);
        default: /* only 'h' is connected to both sides */
                return i != h->number && k != h->number && (i < left) != (k < left);
        }
}

static bool cut_some(Stores *all, FaultKind kind, Host *h) {
        unsigned left = 1 + (unsigned) world_draw(all->world, all->n - 1);
        bool r = false;

        for (unsigned i = 0; i < all->n; i++)
                for (unsigned k = i + 1; k < all->n; k++)
                        if (is_cut(all, kind, h, left, i, k)) {
                                cut(&all->hosts[i], &all->hosts[k]);
                                r = true;
                        }
        return r;
}

/* -- Disks -- */

static void heal_disk(void *userdata) {
        Host *h = userdata;

        if (h->all->ending)
                return;
        memory_disk_set_error(h->disk, 0, false);
        folder_fault(h->tree, 0);
        h->disk->read_fail = 0;
        h->disk_breaks = false;
        if (h->loop)
                world_loop_set_work_ms(h->loop, 0, h->all->disk_ms);
}

static bool break_disk(Stores *all, FaultKind kind, Host *h, uint64_t for_ms) {
        if (!store_is_up(h))
                return false;
        switch (kind) {
        case FAULT_SLOW_DISK:
                world_loop_set_work_ms(h->loop, 1, 100 + (unsigned) world_draw(all->world, 900));
                break;
        case FAULT_HUNG_DISK:
                h->disk_bad = true;
                takes_long(all, for_ms);
                world_loop_set_work_ms(h->loop, 1000, 30000);
                break;
        case FAULT_READ_ERROR: /* takes effect at the next start */
                h->disk_breaks = true;
                h->disk->read_fail = -EIO;
                (void) store_crash(h);
                break;
        default:
                h->disk_breaks = h->disk_bad =
                        true; /* until it has recovered: a later failure may be a consequence */
                if (kind == FAULT_TREE_FULL || kind == FAULT_TREE_ERROR)
                        folder_fault(h->tree, kind == FAULT_TREE_FULL ? -ENOSPC : -EIO);
                else
                        memory_disk_set_error(h->disk, kind == FAULT_DISK_FULL ? -ENOSPC : -EIO,
                                              kind == FAULT_SYNC_ERROR);
        }
        world_at(all->world, for_ms, NULL, heal_disk, h);
        return true;
}

/* A host may lose durable data only while a majority of the voters has all of its own: one member at a time,
 * and the next one when all are complete again. */
bool stores_may_lose(Stores *all, const Host *h) {
        Host *leader = stores_leader(all);
        size_t n_good = 0;
        KvState state;

        stores_observe_roles(all); /* a change may have begun */
        if (!leader || all->lost_voter != 0 || !store_is_up(h) || h->raft_id == 0 || h->leaving ||
            world_now_ms(all->world) < all->roles_since_ms + ROLES_STABLE_MS)
                return false;
        kv_state(leader->store, &state);
        for (size_t i = 0; i < state.n_members; i++)
                if (state.members[i].role == KV_MEMBER_VOTER && state.members[i].raft_id != h->raft_id)
                        for (unsigned k = 0; k < all->n; k++)
                                n_good += all->hosts[k].raft_id == state.members[i].raft_id &&
                                          !all->hosts[k].wipe;
        return n_good >= 2 && n_good + 1 >= state.n_voters;
}

static bool damage_log(Stores *all, FaultKind kind, Host *h) {
        static const MemoryDiskDamage damages[] = {
                [FAULT_ROT - FAULT_ROT] = MEMORY_DISK_FLIP_BIT,
                [FAULT_SWAPPED_SECTORS - FAULT_ROT] = MEMORY_DISK_SWAP_SECTORS,
                [FAULT_LOST_SECTOR - FAULT_ROT] = MEMORY_DISK_LOSE_SECTOR,
        };

        if (!stores_may_lose(all, h) || !store_crash(h))
                return false;
        if (memory_disk_damage(h->disk, damages[kind - FAULT_ROT]) < 0)
                return false;
        world_trace(all->world, h->name, "its log is damaged: %s", names[kind]);
        h->damaged = true;
        all->lost_voter = h->raft_id;
        return true;
}

/* It takes effect when the checkpoint is read: at a start after a crash, for a rebuild, for a lagging
 * follower. */
static bool rot_checkpoint(Stores *all, Host *h, uint64_t for_ms) {
        if (!store_rot_checkpoint(h))
                return false;
        switch (world_draw(all->world, 4)) {
        case 0:
                return store_crash(h);
        case 1:
                return store_power_cut(h, for_ms);
        case 2:
                return break_disk(all, FAULT_TREE_ERROR, h, for_ms);
        default:
                return true;
        }
}

/* -- Clocks and processes -- */

static bool pause_host(Stores *all, Host *h, uint64_t for_ms) {
        if (!h->loop)
                return false;
        world_loop_pause(h->loop, for_ms);
        h->paused_ms = world_now_ms(all->world) + for_ms;
        return true;
}

/* Wall clocks are correct until one of them has started cluster time. */
static bool disturb_clock(Stores *all, FaultKind kind, Host *h) {
        Host *leader = stores_leader(all);

        if (!h->loop || !leader || kv_index(leader->store) == 0)
                return false;
        if (kind == FAULT_CLOCK_JUMP) {
                h->wall_offset_ms = (int64_t) world_draw(all->world, 7200000) - 3600000;
                world_loop_set_wall_offset(h->loop, h->wall_offset_ms);
        } else {
                h->drift_ppm = (int) world_draw(all->world, 20001) - 10000;
                world_loop_set_drift(h->loop, h->drift_ppm);
        }
        return true;
}

static void on_upgrade(void *userdata) {
        Stores *all = userdata;

        if (all->ending || all->upgrading >= all->n)
                return;
        store_stop(&all->hosts[all->upgrading++]);
        world_at(all->world, 3000, NULL, on_upgrade, all);
}

static bool power_cut_of_all(Stores *all) {
        bool r = false;

        for (unsigned i = 0; i < all->n; i++)
                r |= store_power_cut(&all->hosts[i], 100 + world_draw(all->world, 2000));
        return r;
}

/* -- All of them -- */

/* Disturb links until heal_links() or heal_delay(). */
static bool disturb_links(Stores *all, FaultKind kind, Host *h, uint64_t for_ms) {
        Host *leader = stores_leader(all), *other = stores_any(all);

        switch (kind) {
        case FAULT_CUT:
        case FAULT_ONE_WAY:
                if (other == h)
                        return false;
                if (kind == FAULT_CUT)
                        cut(h, other);
                else
                        sim_net_cut_one_way(all->net, h->card, other->card, true);
                break;
        case FAULT_DELAY:
                sim_net_set_delay(all->net, 0, 20 + world_draw(all->world, 200));
                world_at(all->world, for_ms, NULL, heal_delay, all);
                return true;
        case FAULT_SLOW_LINK:
                sim_net_set_rate(all->net, 2 + world_draw(all->world, 200));
                takes_long(all, for_ms);
                world_at(all->world, for_ms, NULL, heal_delay, all);
                return true;
        default:
                if (all->n < 2 || !cut_some(all, kind, leader && world_chance(all->world, 50) ? leader : h))
                        return false;
        }
        world_at(all->world, for_ms, NULL, heal_links, all);
        return true;
}

static bool make_fault(Stores *all, FaultKind kind, Host *h) {
        uint64_t for_ms = all->calm ? 500 + world_draw(all->world, 90000) :
                                      200 + world_draw(all->world, 4000);
        Host *leader = stores_leader(all);

        switch (kind) {
        case FAULT_CRASH:
                return store_crash(h);
        case FAULT_LEADER_CRASH:
                return leader && store_crash(leader);
        case FAULT_POWER:
                return store_power_cut(h, for_ms);
        case FAULT_LONG_ABSENCE:
                return store_power_cut(h, 5000 + 2 * for_ms);
        case FAULT_POWER_OF_ALL:
                return power_cut_of_all(all);
        case FAULT_STOP:
                if (!store_is_up(h))
                        return false;
                store_stop(h);
                return true;
        case FAULT_UPGRADE:
                if (all->upgrading < all->n)
                        return false;
                all->upgrading = 0;
                on_upgrade(all);
                return true;
        case FAULT_CUT:
        case FAULT_ONE_WAY:
        case FAULT_ISOLATE:
        case FAULT_BRIDGE:
        case FAULT_SPLIT:
        case FAULT_RING:
        case FAULT_DELAY:
        case FAULT_SLOW_LINK:
                return disturb_links(all, kind, h, for_ms);
        case FAULT_SLOW_DISK:
        case FAULT_HUNG_DISK:
        case FAULT_DISK_FULL:
        case FAULT_DISK_ERROR:
        case FAULT_SYNC_ERROR:
        case FAULT_TREE_FULL:
        case FAULT_TREE_ERROR:
        case FAULT_READ_ERROR:
                return break_disk(all, kind, h, for_ms);
        case FAULT_ROT:
        case FAULT_SWAPPED_SECTORS:
        case FAULT_LOST_SECTOR:
                return damage_log(all, kind, h);
        case FAULT_PAUSE:
                return pause_host(all, h, 10 + for_ms / 2);
        case FAULT_LONG_PAUSE:
                return all->calm && pause_host(all, h, 10000 + world_draw(all->world, 50000));
        case FAULT_CLOCK_JUMP:
        case FAULT_CLOCK_DRIFT:
                return disturb_clock(all, kind, h);
        case FAULT_CHECKPOINT_ROT:
                return rot_checkpoint(all, leader && world_chance(all->world, 40) ? leader : h, for_ms);
        case FAULT_TREE_ROT:
                return store_rot_tree(leader && world_chance(all->world, 40) ? leader : h);
        case FAULT_HAND_OVER:
                return leader && store_transfer(leader->store, 0) >= 0;
        default:
                return all->has[FAULT_MEMBERS];
        }
}

/* The number of faults does not depend on the number of kinds: some bugs need one kind often. */
void stores_faults_turn(Stores *all) {
        FaultKind kind, some[_FAULT_DRAWN];
        size_t n = 0;
        bool made;
        Host *h;

        if (world_draw(all->world, all->calm ? 30 * 10000 / 200 : 10000) >= all->per_10000)
                return;
        for (kind = 0; kind < _FAULT_DRAWN; kind++)
                if (all->has[kind])
                        some[n++] = kind;
        if (n == 0)
                return;
        kind = some[world_draw(all->world, n)];
        h = stores_any(all);
        made = make_fault(all, kind, h);
        if (made)
                world_trace(all->world, h->name, "fault: %s", names[kind]);
        all->counts[kind] += made;
}

void stores_faults_end(Stores *all) {
        heal_links(all);
        heal_delay(all);
        all->upgrading = all->n;
        for (unsigned i = 0; i < all->n; i++) {
                Host *h = &all->hosts[i];

                heal_disk(h);
                if (h->loop)
                        world_loop_pause(h->loop, 0);
                h->paused_ms = MIN(h->paused_ms, world_now_ms(all->world));
        }
}
